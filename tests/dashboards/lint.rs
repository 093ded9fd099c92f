//! The 17 rules of grafana/dashboard-linter (as of v0.2.0), without an exclusion, each as a test of both dashboards.
//!
//! Where the linter only warns, these fail, as with its `--strict`.

use serde_json::Value;

use crate::committed;
use crate::query::{Selector, parsed, selectors};

const SIX_TYPES: [&str; 6] = ["stat", "singlestat", "graph", "table", "timeseries", "gauge"];
const QUERIED_TYPES: [&str; 6] = ["singlestat", "gauge", "table", "stat", "state-timeline", "timeseries"];

/// Members of the linter's list of units that are used here or could be; a unit outside of it fails there too.
const UNITS: [&str; 24] = [
    "none",
    "string",
    "short",
    "percent",
    "percentunit",
    "bytes",
    "decbytes",
    "Bps",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "dtdurations",
    "dtdhms",
    "dateTimeAsIso",
    "dateTimeFromNow",
    "ops",
    "reqps",
    "rps",
    "cps",
    "opm",
    "bool",
    "bool_yes_no",
];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every panel of a dashboard, rows and what is inside of them too.
pub fn panels(dashboard: &Value) -> Vec<Value> {
    fn walk(list: &Value, found: &mut Vec<Value>) {
        for panel in list.as_array().into_iter().flatten() {
            found.push(panel.clone());
            walk(&panel["panels"], found);
        }
    }
    let mut found = Vec::new();
    walk(&dashboard["panels"], &mut found);
    assert!(found.len() > 10, "a dashboard without panels would meet every rule");
    found
}

/// The panels of these types.
fn of_types(dashboard: &Value, types: &[&str]) -> Vec<Value> {
    panels(dashboard).into_iter().filter(|panel| types.contains(&text(panel, "type"))).collect()
}

/// Where it is, for whoever reads a failure.
fn place(dashboard: &Value, panel: &Value) -> String {
    format!("{}: {}", text(dashboard, "title"), text(panel, "title"))
}

fn variables(dashboard: &Value) -> Vec<Value> {
    dashboard["templating"]["list"].as_array().cloned().unwrap_or_default()
}

fn variable(dashboard: &Value, name: &str) -> Value {
    let found = variables(dashboard).into_iter().find(|variable| text(variable, "name") == name);
    found.unwrap_or_else(|| panic!("{}: no variable {name}", text(dashboard, "title")))
}

/// The panels with queries, and each query's expression.
pub fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((place(dashboard, &panel), text(target, "expr").to_owned()));
        }
    }
    found
}

fn every_selector(check: impl Fn(&Selector) -> bool) {
    for dashboard in committed() {
        for (place, expr) in queries(&dashboard) {
            for selector in selectors(&expr) {
                assert!(check(&selector), "{place}: {:?} in {expr}", selector.name);
            }
        }
    }
}

#[test]
fn rule_01_template_datasource_one_variable_chooses_the_data_source() {
    for dashboard in committed() {
        let sources: Vec<Value> =
            variables(&dashboard).into_iter().filter(|variable| text(variable, "type") == "datasource").collect();
        assert_eq!(sources.len(), 1);
        assert_eq!((text(&sources[0], "name"), text(&sources[0], "label")), ("datasource", "Data source"));
        // What makes the rules for Prometheus apply at all.
        assert_eq!(text(&sources[0], "query"), "prometheus");
    }
}

fn template(name: &str, label: &str) {
    for dashboard in committed() {
        let variable = variable(&dashboard, name);
        assert_eq!(text(&variable, "type"), "query");
        assert!(["$datasource", "${datasource}"].contains(&text(&variable["datasource"], "uid")));
        assert_eq!(variable["multi"], true);
        assert_eq!(text(&variable, "allValue"), ".+");
        assert_eq!(text(&variable, "label"), label);
    }
}

#[test]
fn rule_02_template_job_there_is_a_variable_for_the_job() {
    template("job", "Job");
}

#[test]
fn rule_03_template_instance_there_is_a_variable_for_the_instance() {
    template("instance", "Instance");
}

/// Function and argument of a variable's query: `label_values(metric, label)`.
pub fn variable_query(variable: &Value) -> (String, String) {
    let query = variable["query"]["query"].as_str().unwrap_or_default();
    let (function, rest) = query.split_once('(').unwrap_or_else(|| panic!("{query:?}"));
    let argument = rest.strip_suffix(')').unwrap_or_else(|| panic!("{query:?}"));
    (function.to_owned(), argument.to_owned())
}

#[test]
fn rule_04_template_label_promql_variables_ask_in_promql() {
    for dashboard in committed() {
        for variable in variables(&dashboard).into_iter().filter(|variable| text(variable, "type") == "query") {
            let (function, argument) = variable_query(&variable);
            assert_eq!(function, "label_values");
            let (metric, label) = argument.rsplit_once(", ").unwrap();
            parsed(metric);
            assert_eq!(label, text(&variable, "name"));
        }
    }
}

#[test]
fn rule_05_template_on_time_change_reload_variables_follow_the_time_shown() {
    for dashboard in committed() {
        for variable in variables(&dashboard).into_iter().filter(|variable| text(variable, "type") == "query") {
            assert_eq!(variable["refresh"], 2, "{}", text(&variable, "name"));
        }
    }
}

#[test]
fn rule_06_panel_datasource_every_panel_uses_the_chosen_data_source() {
    for dashboard in committed() {
        for panel in panels(&dashboard).into_iter().filter(|panel| text(panel, "type") != "row") {
            assert_eq!(text(&panel["datasource"], "uid"), "${datasource}", "{}", place(&dashboard, &panel));
        }
    }
}

#[test]
fn rule_07_panel_title_description_every_panel_has_both() {
    for dashboard in committed() {
        for panel in panels(&dashboard).into_iter().filter(|panel| text(panel, "type") != "row") {
            assert!(!text(&panel, "title").is_empty(), "{panel}");
            assert!(text(&panel, "description").len() > 40, "{}", place(&dashboard, &panel));
        }
    }
}

#[test]
fn rule_08_panel_units_every_number_has_a_unit() {
    for dashboard in committed() {
        for panel in of_types(&dashboard, &SIX_TYPES) {
            let unit = text(&panel["fieldConfig"]["defaults"], "unit");
            assert!(UNITS.contains(&unit), "{}: {unit:?}", place(&dashboard, &panel));
            let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
            assert!(overrides.is_empty(), "an override could set another unit");
        }
    }
}

#[test]
fn rule_09_panel_no_targets_every_panel_has_queries() {
    for dashboard in committed() {
        for panel in panels(&dashboard).into_iter().filter(|panel| text(panel, "type") != "row") {
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{}", place(&dashboard, &panel));
        }
    }
}

#[test]
fn rules_10_and_11_target_logql_there_is_no_query_to_loki() {
    for dashboard in committed() {
        for panel in panels(&dashboard).into_iter().filter(|panel| text(panel, "type") != "row") {
            let sources = panel["targets"].as_array().into_iter().flatten().map(|target| &target["datasource"]);
            for source in sources.chain([&panel["datasource"]]) {
                assert_eq!(text(source, "type"), "prometheus", "{}", place(&dashboard, &panel));
            }
        }
    }
}

#[test]
fn rule_12_target_promql_every_expression_can_be_read() {
    for dashboard in committed() {
        assert!(of_types(&dashboard, &QUERIED_TYPES).len() > 10);
        for (place, expr) in queries(&dashboard) {
            assert!(!expr.is_empty(), "{place}");
            parsed(&expr);
        }
    }
}

#[test]
fn rule_13_target_rate_interval_rates_follow_the_scrape_interval() {
    every_selector(|selector| !selector.range || selector.function.is_some());
    for dashboard in committed() {
        for (place, expr) in queries(&dashboard) {
            // Ranges stand in the text as they were written; the parser sees only a replacement.
            for (at, _) in expr.match_indices("rate(") {
                let range =
                    expr[at..].split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(range, _)| range);
                assert_eq!(range, Some("$__rate_interval"), "{place}: {expr}");
            }
        }
    }
}

#[test]
fn rule_14_target_job_every_selector_is_bound_to_the_chosen_jobs() {
    every_selector(|selector| selector.has("job", "=~", "$job"));
}

#[test]
fn rule_15_target_instance_every_selector_is_bound_to_the_chosen_instances() {
    every_selector(|selector| selector.has("instance", "=~", "$instance"));
}

#[test]
fn rule_16_target_counter_agg_counters_are_only_looked_at_as_rates() {
    every_selector(|selector| {
        let counter = selector.name.as_deref().is_some_and(|name| name.ends_with("_total"));
        !counter
            || selector.function.as_deref().is_some_and(|function| ["rate", "irate", "increase"].contains(&function))
    });
}

#[test]
fn rule_17_uneditable_dashboard_the_file_is_the_only_place_to_change_it() {
    for dashboard in committed() {
        assert_eq!(dashboard["editable"], false);
    }
}

#[test]
fn mixtool_asks_for_a_title_and_a_uid() {
    for dashboard in committed() {
        assert!(!text(&dashboard, "title").is_empty() && !text(&dashboard, "uid").is_empty());
        assert_eq!(dashboard["schemaVersion"], 42);
        assert!(dashboard.get("id").is_none() && dashboard.get("__inputs").is_none(), "it could not be provisioned");
    }
}

#[test]
fn panels_lie_beside_each_other_and_never_on_each_other() {
    for dashboard in committed() {
        let all = panels(&dashboard);
        let place = |panel: &Value| ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        for (index, one) in all.iter().enumerate() {
            let [x, y, w, h] = place(one);
            assert!(x + w <= 24 && h > 0, "{}", text(one, "title"));
            for other in &all[index + 1..] {
                let [ox, oy, ow, oh] = place(other);
                let apart = x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y;
                assert!(apart, "{} and {}", text(one, "title"), text(other, "title"));
                assert_ne!(one["id"], other["id"]);
            }
        }
    }
}
