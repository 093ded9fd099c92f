//! Every name, label and value in a query exists in the registry, and everything in the registry is looked at somewhere.

use std::collections::{BTreeMap, BTreeSet};

use sharelink::model::ErrorKind;
use sharelink::telemetry::metrics::Metrics;

use crate::lint::{panels, queries, variable_query};
use crate::query::{Selector, dimension, family, parsed, selectors};
use crate::{committed, rules, sharelink as board};

/// Labels that Prometheus adds.
const TARGET: [&str; 2] = ["job", "instance"];

/// Metrics of this process that no panel shows, with the reason.
const NOT_SHOWN: [(&str, &str); 4] = [
    ("process_start_time_seconds", "sharelink_start_time_seconds says it on every platform"),
    ("process_threads", "says nothing that CPU and memory do not"),
    ("process_virtual_memory_bytes", "says nothing of what is used"),
    ("process_virtual_memory_max_bytes", "says nothing of what is used"),
];

/// The labels of each metric with the values that they can have.
type Families = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn families() -> Families {
    let metrics = Metrics::new(&["contoso", "content"], &["asks", "answers", "dead"]).unwrap();
    for (queue, role) in [("asks", "request"), ("answers", "reply"), ("dead", "dead_letter")] {
        metrics.queue_role(queue, role);
    }
    // Any status that a provider answers with.
    for code in 100..600 {
        metrics.provider("contoso").call("create_link", &code.to_string(), 0.1);
    }
    // And what stands in its place where the connection breaks.
    metrics.provider("contoso").call("create_link", "reset", 0.1);
    let text = metrics.render().unwrap();
    let mut families = Families::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        for selector in selectors(series) {
            let labels = families.entry(selector.metric.unwrap()).or_default();
            for (label, _, value) in selector.matchers {
                labels.entry(label).or_default().insert(value);
            }
        }
    }
    assert!(families.len() > 20, "{families:?}");
    families
}

/// Every expression of dashboards, variables, annotations and rules, with where it is.
fn everything() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for dashboard in committed() {
        all.extend(queries(&dashboard));
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if variable["type"] == "query" {
                let (_, argument) = variable_query(variable);
                let (metric, _) = argument.rsplit_once(", ").unwrap();
                all.push((format!("variable {}", variable["name"]), metric.to_owned()));
            }
        }
        for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
            all.push((format!("annotation {}", annotation["name"]), annotation["expr"].as_str().unwrap().to_owned()));
        }
    }
    all.extend(rules::expressions());
    all
}

fn ours(selector: &Selector) -> bool {
    let name = selector.name.as_deref().unwrap_or_default();
    name.starts_with("sharelink_") || name.starts_with("process_")
}

#[test]
fn no_query_names_a_metric_a_label_or_a_value_that_is_not_there() {
    let families = families();
    for (place, expr) in everything() {
        for selector in selectors(&expr).iter().filter(|selector| ours(selector)) {
            let name = selector.name.as_deref().unwrap();
            let labels = families.get(family(name)).unwrap_or_else(|| panic!("{place}: no metric {name} ({expr})"));
            for (label, operator, wanted) in &selector.matchers {
                if TARGET.contains(&label.as_str()) {
                    continue;
                }
                let known = labels.get(label).unwrap_or_else(|| panic!("{place}: {name} has no label {label}"));
                if wanted.starts_with('$') || label == "provider" || label == "queue" {
                    continue;
                }
                let words: Vec<&str> = if operator.ends_with('~') { wanted.split('|').collect() } else { vec![wanted] };
                for word in words {
                    let pattern = selectors(&format!("x{{y=~\"{}\"}}", word.replace('\\', "\\\\")));
                    let matched = known.iter().any(|value| value == word || matches(&pattern[0], value));
                    assert!(matched, "{place}: {label} of {name} is never {word}; it can be {known:?}");
                }
            }
        }
    }
}

/// Whether a value fits `x{y=~"…"}`, as Prometheus anchors it.
fn matches(pattern: &Selector, value: &str) -> bool {
    let (label, _, pattern) = &pattern.matchers[0];
    let id = promql_parser::parser::token::T_EQL_REGEX;
    let matcher = promql_parser::label::Matcher::new_matcher(id, label.clone(), pattern.clone()).unwrap();
    matcher.is_match(value)
}

#[test]
fn queries_group_by_labels_that_are_there() {
    let families = families();
    for (place, expr) in everything() {
        let all = selectors(&expr);
        let known: BTreeSet<&str> = all
            .iter()
            .filter_map(|selector| families.get(selector.metric.as_deref()?))
            .flat_map(|labels| labels.keys().map(String::as_str))
            .chain(TARGET)
            // RabbitMQ's own.
            .chain(["queue", "rabbitmq_node"])
            .collect();
        for selector in &all {
            for label in &selector.kept {
                assert!(known.contains(label.as_str()), "{place}: nothing has a label {label}: {expr}");
            }
        }
    }
}

#[test]
fn everything_that_is_measured_is_looked_at() {
    let looked: BTreeSet<String> =
        everything().iter().flat_map(|(_, expr)| selectors(expr)).filter_map(|selector| selector.metric).collect();
    for name in families().keys() {
        let excused = NOT_SHOWN.iter().any(|(not_shown, _)| not_shown == name);
        assert!(
            looked.contains(name) != excused,
            "{name}: no panel and no rule asks for it, or it stands in NOT_SHOWN"
        );
    }
}

#[test]
fn units_are_those_of_what_is_measured() {
    for dashboard in committed() {
        for panel in panels(&dashboard) {
            if panel["type"] == "heatmap" {
                continue; // Its colours are counts; the axis has the histogram's unit.
            }
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expr = target["expr"].as_str().unwrap();
                let of = dimension(&parsed(expr));
                assert!(of.units().contains(&unit), "{}: {unit} for {of:?}: {expr}", panel["title"]);
            }
        }
    }
}

#[test]
fn every_kind_of_failure_is_either_our_fault_or_the_requesters_everywhere_alike() {
    let mut ours: Vec<&str> = ErrorKind::ALL.iter().filter(|kind| kind.is_ours()).map(|kind| kind.as_str()).collect();
    ours.sort_unstable();
    assert_eq!(board::OUR_FAULT, ours.join("|"));
    let mut used = 0;
    for (place, expr) in everything() {
        for selector in selectors(&expr) {
            for (_, _, value) in selector.matchers.iter().filter(|(label, ..)| label == "kind") {
                assert_eq!(value, board::OUR_FAULT, "{place}");
                used += 1;
            }
        }
    }
    assert_eq!(used, 10, "two panels, an alert and a window of each recorded rule");
    assert!(crate::read("console/sharelink.html").contains(&format!("kind=~'{}'", board::OUR_FAULT)));
}

#[test]
fn the_console_page_and_the_list_of_queries_name_metrics_that_are_there() {
    let families = families();
    for document in ["console/sharelink.html", "README.md", "RUNBOOK.md"] {
        let text = crate::read(document);
        for word in text.split(|c: char| !(c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())) {
            let ours = word.starts_with("sharelink_") || word.starts_with("process_");
            assert!(!ours || families.contains_key(family(word)), "dashboards/{document} names {word}");
        }
    }
}
