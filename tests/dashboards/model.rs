//! Dashboards as Rust values, written out in Grafana's classic model.
//!
//! In an expression `{S}` stands for the selector of `$job` and `$instance`, `{P}` for the same with `$provider`, both
//! with room for more labels (`{S,role="request"}`), and `[R]` for the range of a rate.

use serde_json::{Map, Value, json};

/// What can be put on a dashboard.
pub enum Item {
    /// A heading over everything up to the next one.
    Row(&'static str),
    /// A panel.
    Panel(Panel),
}

/// A panel of 24 columns' width at most; its place follows from the ones before it.
pub struct Panel {
    kind: &'static str,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    width: u64,
    height: u64,
    targets: Vec<Target>,
    defaults: Value,
    options: Value,
    transformations: Value,
}

struct Target {
    expr: String,
    legend: &'static str,
    instant: bool,
    format: &'static str,
}

/// A variable that lists the values of a label.
pub struct Variable {
    pub name: &'static str,
    pub label: &'static str,
    pub metric: &'static str,
}

/// What happened, as lines over all panels.
pub struct Annotation {
    pub name: &'static str,
    pub color: &'static str,
    pub expr: &'static str,
    pub title: &'static str,
    pub text: &'static str,
}

pub struct Dashboard {
    pub uid: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub variables: Vec<Variable>,
    pub annotations: Vec<Annotation>,
    pub items: Vec<Item>,
}

/// An expression with its abbreviations written out.
pub fn expanded(expr: &str) -> String {
    expr.replace("{S", "{job=~\"$job\",instance=~\"$instance\"")
        .replace("{P", "{job=~\"$job\",instance=~\"$instance\",provider=~\"$provider\"")
        .replace("[R]", "[$__rate_interval]")
}

fn panel(kind: &'static str, title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel {
        kind,
        title,
        description,
        unit,
        width: 8,
        height: 8,
        targets: Vec::new(),
        defaults: json!({}),
        options: json!({}),
        transformations: Value::Null,
    }
}

/// One big number, green unless a step says otherwise.
pub fn stat(title: &'static str, unit: &'static str, expr: &str, description: &'static str) -> Panel {
    let mut panel = panel("stat", title, unit, description).instant(expr, "__auto").size(3, 4);
    panel.options = json!({
        "colorMode": "background", "graphMode": "none", "justifyMode": "center", "orientation": "auto", "textMode": "auto",
        "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
    });
    panel.steps(&[])
}

/// Lines over time.
pub fn lines(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    let mut panel = panel("timeseries", title, unit, description);
    panel.defaults = json!({
        "min": 0,
        "color": { "mode": "palette-classic" },
        "custom": { "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false },
    });
    panel.options = json!({
        "legend": { "displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": ["lastNotNull", "max"] },
        "tooltip": { "mode": "multi", "sort": "desc" },
    });
    panel
}

/// Areas on top of each other over time.
pub fn stacked(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    let mut panel = lines(title, unit, description);
    panel.defaults["custom"]["stacking"] = json!({ "mode": "normal", "group": "A" });
    panel.defaults["custom"]["fillOpacity"] = json!(60);
    panel
}

/// How many observations fell into each bucket of a histogram, over time.
pub fn heatmap(title: &'static str, unit: &'static str, expr: &str, description: &'static str) -> Panel {
    let mut panel = panel("heatmap", title, unit, description).line(expr, "{{le}}");
    for target in &mut panel.targets {
        target.format = "heatmap";
    }
    panel.options = json!({
        "calculate": false,
        "cellGap": 1,
        "color": { "mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5, "fill": "blue", "reverse": false },
        "legend": { "show": true },
        "rowsFrame": { "layout": "auto" },
        "tooltip": { "mode": "single", "yHistogram": false, "showColorScale": true },
        "yAxis": { "axisPlacement": "left", "reverse": false, "unit": unit },
    });
    panel
}

/// A band for each series that changes its colour with the state.
pub fn states(title: &'static str, unit: &'static str, expr: &str, legend: &'static str, on: [&str; 2]) -> Panel {
    let mut panel = panel("state-timeline", title, unit, "").line(expr, legend);
    panel.defaults = json!({ "custom": { "fillOpacity": 70, "lineWidth": 0 } });
    panel.options = json!({
        "alignValue": "left", "mergeValues": true, "rowHeight": 0.9, "showValue": "auto",
        "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
        "tooltip": { "mode": "single" },
    });
    panel.means(&[("0", on[0], "green"), ("1", on[1], "red")])
}

/// The labels of series, a row for each.
pub fn table(title: &'static str, unit: &'static str, expr: &str, hidden: &[&str], description: &'static str) -> Panel {
    let mut panel = panel("table", title, unit, description).instant(expr, "");
    for target in &mut panel.targets {
        target.format = "table";
    }
    let hidden: Map<String, Value> = hidden.iter().map(|name| ((*name).to_owned(), json!(true))).collect();
    panel.transformations = json!([{ "id": "organize", "options": { "excludeByName": hidden } }]);
    panel.options = json!({ "cellHeight": "sm", "showHeader": true });
    panel
}

impl Panel {
    /// A further query, drawn over time.
    pub fn line(mut self, expr: &str, legend: &'static str) -> Self {
        self.targets.push(Target { expr: expanded(expr), legend, instant: false, format: "time_series" });
        self
    }

    /// A further query, asked for the end of the time shown only.
    pub fn instant(mut self, expr: &str, legend: &'static str) -> Self {
        self.targets.push(Target { expr: expanded(expr), legend, instant: true, format: "time_series" });
        self
    }

    pub fn size(mut self, width: u64, height: u64) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    pub fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Colours from these values on; green below.
    pub fn steps(mut self, steps: &[(f64, &str)]) -> Self {
        let above = steps.iter().map(|(from, color)| json!({ "color": color, "value": from }));
        let steps: Vec<Value> = [json!({ "color": "green", "value": null })].into_iter().chain(above).collect();
        self.defaults["thresholds"] = json!({ "mode": "absolute", "steps": steps });
        self.defaults["color"] = json!({ "mode": "thresholds" });
        self
    }

    /// No judgement in the colour: blue whatever the number.
    pub fn plain(mut self) -> Self {
        self.defaults["thresholds"] = json!({ "mode": "absolute", "steps": [{ "color": "blue", "value": null }] });
        self.options["colorMode"] = json!("value");
        self
    }

    /// Words and colours instead of values.
    pub fn means(mut self, values: &[(&str, &str, &str)]) -> Self {
        let options: Map<String, Value> = values
            .iter()
            .enumerate()
            .map(|(index, (value, text, color))| {
                ((*value).to_owned(), json!({ "index": index, "text": text, "color": color }))
            })
            .collect();
        self.defaults["mappings"] = json!([{ "type": "value", "options": options }]);
        self
    }

    /// What a tile says where the query has no answer.
    pub fn otherwise(mut self, text: &str) -> Self {
        self.defaults["noValue"] = json!(text);
        self
    }

    /// The axis ends here.
    pub fn most(mut self, value: f64) -> Self {
        self.defaults["max"] = json!(value);
        self
    }

    fn written(&self, id: usize, (x, y): (u64, u64)) -> Value {
        let targets: Vec<Value> = self.targets.iter().zip('A'..).map(|(target, name)| target.written(name)).collect();
        let mut defaults = self.defaults.clone();
        defaults["unit"] = json!(self.unit);
        let mut panel = json!({
            "id": id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": source(),
            "gridPos": { "x": x, "y": y, "w": self.width, "h": self.height },
            "fieldConfig": { "defaults": defaults, "overrides": [] },
            "options": self.options,
            "targets": targets,
        });
        if !self.transformations.is_null() {
            panel["transformations"] = self.transformations.clone();
        }
        panel
    }
}

impl Target {
    fn written(&self, name: char) -> Value {
        json!({
            "refId": name.to_string(),
            "datasource": source(),
            "editorMode": "code",
            "expr": self.expr,
            "format": self.format,
            "instant": self.instant,
            "range": !self.instant,
            "legendFormat": self.legend,
        })
    }
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

impl Variable {
    fn written(&self) -> Value {
        let query = format!("label_values({}, {})", self.metric, self.name);
        json!({
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": source(),
            "definition": query,
            "query": { "query": query, "refId": format!("{}-values", self.name) },
            "refresh": 2,
            "sort": 1,
            "multi": true,
            "includeAll": true,
            "allValue": ".+",
            "current": { "text": ["All"], "value": ["$__all"] },
            "hide": 0,
            "regex": "",
            "options": [],
        })
    }
}

impl Annotation {
    fn written(&self) -> Value {
        json!({
            "name": self.name,
            "datasource": source(),
            "enable": true,
            "hide": false,
            "iconColor": self.color,
            "expr": expanded(self.expr),
            "step": "60s",
            "titleFormat": self.title,
            "textFormat": self.text,
        })
    }
}

impl Dashboard {
    /// The file, ready to be imported or provisioned.
    pub fn json(&self) -> String {
        let chosen = json!({
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "current": {},
            "hide": 0,
            "includeAll": false,
            "multi": false,
            "refresh": 1,
            "regex": "",
            "options": [],
        });
        let variables: Vec<Value> = [chosen].into_iter().chain(self.variables.iter().map(Variable::written)).collect();
        let annotations: Vec<Value> = self.annotations.iter().map(Annotation::written).collect();
        let dashboard = json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "schemaVersion": 42,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "refresh": "15s",
            "time": { "from": "now-1h", "to": "now" },
            "timezone": "browser",
            "tags": ["sharelink"],
            "links": [{
                "type": "dashboards", "title": "sharelink", "tags": ["sharelink"], "asDropdown": false,
                "includeVars": false, "keepTime": true, "targetBlank": false, "icon": "external link", "tooltip": "", "url": "",
            }],
            "templating": { "list": variables },
            "annotations": { "list": annotations },
            "panels": self.panels(),
        });
        let mut text = serde_json::to_string_pretty(&dashboard).unwrap();
        text.push('\n');
        text
    }

    /// Panels from left to right, as many beside each other as fit.
    fn panels(&self) -> Vec<Value> {
        let (mut x, mut y, mut tallest) = (0, 0, 0);
        let mut written = Vec::new();
        for (item, id) in self.items.iter().zip(1..) {
            match item {
                Item::Row(title) => {
                    y += tallest;
                    written.push(json!({
                        "id": id, "type": "row", "title": title, "collapsed": false, "panels": [],
                        "gridPos": { "x": 0, "y": y, "w": 24, "h": 1 },
                    }));
                    (x, y, tallest) = (0, y + 1, 0);
                }
                Item::Panel(panel) => {
                    if x + panel.width > 24 {
                        (x, y, tallest) = (0, y + tallest, 0);
                    }
                    written.push(panel.written(id, (x, y)));
                    (x, tallest) = (x + panel.width, tallest.max(panel.height));
                }
            }
        }
        written
    }
}
