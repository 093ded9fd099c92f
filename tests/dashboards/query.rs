//! Expressions taken apart: which series they select, in which functions, and what their values are measured in.

use promql_parser::label::MatchOp;
use promql_parser::parser::{Expr, LabelModifier, VectorSelector, parse};

/// A selector with what stands around it.
#[derive(Debug, Clone)]
pub struct Selector {
    /// Without the suffix of a histogram's series.
    pub metric: Option<String>,
    /// The name as written.
    pub name: Option<String>,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
    /// The function directly around it.
    pub function: Option<String>,
    /// Whether a range is selected.
    pub range: bool,
    /// Labels of the aggregations around it that keep labels.
    pub kept: Vec<String>,
}

/// An expression with Grafana's variables replaced by something that can be read.
pub fn readable(expr: &str) -> String {
    expr.replace("$__rate_interval", "21s").replace("$__range", "5m").replace("$__interval", "5s")
}

pub fn parsed(expr: &str) -> Expr {
    parse(&readable(expr)).unwrap_or_else(|error| panic!("{error}: {expr}"))
}

pub fn selectors(expr: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    walk(&parsed(expr), None, &mut Vec::new(), &mut found);
    found
}

fn walk(expr: &Expr, function: Option<&str>, kept: &mut Vec<String>, found: &mut Vec<Selector>) {
    match expr {
        Expr::Aggregate(aggregate) => {
            let before = kept.len();
            if let Some(LabelModifier::Include(labels)) = &aggregate.modifier {
                kept.extend(labels.labels.iter().cloned());
            }
            walk(&aggregate.expr, None, kept, found);
            kept.truncate(before);
        }
        Expr::Unary(unary) => walk(&unary.expr, None, kept, found),
        Expr::Binary(binary) => {
            walk(&binary.lhs, None, kept, found);
            walk(&binary.rhs, None, kept, found);
        }
        Expr::Paren(paren) => walk(&paren.expr, function, kept, found),
        Expr::Subquery(subquery) => walk(&subquery.expr, None, kept, found),
        Expr::Call(call) => call.args.args.iter().for_each(|arg| walk(arg, Some(call.func.name), kept, found)),
        Expr::VectorSelector(selector) => found.push(Selector::of(selector, function, false, kept)),
        Expr::MatrixSelector(matrix) => found.push(Selector::of(&matrix.vs, function, true, kept)),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

impl Selector {
    fn of(selector: &VectorSelector, function: Option<&str>, range: bool, kept: &[String]) -> Self {
        let matchers = selector.matchers.matchers.iter().map(|matcher| {
            let operator = match matcher.op {
                MatchOp::Equal => "=",
                MatchOp::NotEqual => "!=",
                MatchOp::Re(_) => "=~",
                MatchOp::NotRe(_) => "!~",
            };
            (matcher.name.clone(), operator.to_owned(), matcher.value.clone())
        });
        Self {
            metric: selector.name.as_deref().map(family).map(str::to_owned),
            name: selector.name.clone(),
            matchers: matchers.collect(),
            function: function.map(str::to_owned),
            range,
            kept: kept.to_vec(),
        }
    }

    pub fn has(&self, label: &str, operator: &str, value: &str) -> bool {
        self.matchers.iter().any(|(l, o, v)| (l.as_str(), o.as_str(), v.as_str()) == (label, operator, value))
    }
}

/// A histogram's name from the name of one of its series.
pub fn family(name: &str) -> &str {
    ["_bucket", "_count", "_sum"].into_iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// What values are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    Count,
    Seconds,
    Bytes,
    /// A count by a time.
    Rate,
    /// One by another of the same kind.
    Ratio,
    /// A number that takes the dimension of what it meets.
    Number,
}

impl Dimension {
    /// The units of Grafana's that show it rightly.
    pub fn units(self) -> &'static [&'static str] {
        match self {
            Self::Count | Self::Number => &["short", "none"],
            Self::Seconds => &["s"],
            Self::Bytes => &["bytes"],
            Self::Rate => &["reqps", "ops"],
            // Seconds a second is also how many there are on average.
            Self::Ratio => &["percentunit", "short"],
        }
    }
}

pub fn dimension(expr: &Expr) -> Dimension {
    match expr {
        Expr::Aggregate(aggregate) if aggregate.op.to_string() == "count" => Dimension::Count,
        Expr::Aggregate(aggregate) => dimension(&aggregate.expr),
        Expr::Unary(unary) => dimension(&unary.expr),
        Expr::Paren(paren) => dimension(&paren.expr),
        Expr::Subquery(subquery) => dimension(&subquery.expr),
        Expr::Binary(binary) => {
            let (left, right) = (dimension(&binary.lhs), dimension(&binary.rhs));
            match (binary.op.to_string().as_str(), left, right) {
                ("/", Dimension::Count, Dimension::Rate) => Dimension::Seconds,
                ("/", one, other) => {
                    assert_eq!(one, other, "{expr}");
                    Dimension::Ratio
                }
                ("+" | "-", Dimension::Number, other) => other,
                // A product is only used to take labels from an info metric, a comparison to leave something out.
                (_, one, _) => one,
            }
        }
        Expr::Call(call) => {
            let of = call.args.args.first().map(|arg| dimension(arg));
            match (call.func.name, of) {
                ("time", _) => Dimension::Seconds,
                ("rate", Some(Dimension::Count)) => Dimension::Rate,
                ("rate", Some(Dimension::Seconds)) => Dimension::Ratio,
                ("histogram_quantile", _) => {
                    let observed = selectors(&call.args.args[1].to_string());
                    of_name(observed.first().and_then(|selector| selector.metric.as_deref()))
                }
                ("vector", _) => Dimension::Number,
                (_, Some(of)) => of,
                (name, None) => panic!("{name} in {expr}"),
            }
        }
        Expr::VectorSelector(selector) => of_name(selector.name.as_deref()),
        Expr::MatrixSelector(matrix) => of_name(matrix.vs.name.as_deref()),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Dimension::Number,
    }
}

fn of_name(name: Option<&str>) -> Dimension {
    let name = name.unwrap_or_default();
    match name {
        // Its help says so: calls a second.
        "sharelink_throttle_limit" => Dimension::Rate,
        _ if name.ends_with("_bytes") => Dimension::Bytes,
        _ if name.ends_with("_seconds") || name.ends_with("_seconds_total") => Dimension::Seconds,
        _ => Dimension::Count,
    }
}
