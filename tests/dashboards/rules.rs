//! alerts.yml and recording.yml: mixtool's rules, the runbook, and what promtool says.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::query::parsed;
use crate::{folder, read};

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("dashboards/{name}: {error}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key} in {value}"))
}

fn groups() -> Vec<Value> {
    ["alerts.yml", "recording.yml"].iter().flat_map(|name| list(&yaml(name), "groups").to_vec()).collect()
}

fn rules(kind: &str) -> Vec<Value> {
    let all = groups().iter().flat_map(|group| list(group, "rules").to_vec()).collect::<Vec<_>>();
    all.into_iter().filter(|rule| rule.get(kind).is_some()).collect()
}

pub fn alerts() -> Vec<Value> {
    rules("alert")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The expressions of all rules, with their names.
pub fn expressions() -> Vec<(String, String)> {
    ["alert", "record"]
        .into_iter()
        .flat_map(|kind| {
            rules(kind).into_iter().map(move |rule| (text(&rule, kind).to_owned(), text(&rule, "expr").to_owned()))
        })
        // A recorded name is known by its rule, not by the registry.
        .collect()
}

#[test]
fn mixtool_alert_names_are_words_of_forty_letters_at_most_that_begin_alike() {
    assert!(alerts().len() >= 10);
    for alert in alerts() {
        let name = text(&alert, "alert");
        // ^([A-Z]+[a-z0-9]+)+$
        let begins = name.starts_with(|c: char| c.is_ascii_uppercase());
        let ends = name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        assert!(begins && ends && name.chars().all(|c| c.is_ascii_alphanumeric()) && name.len() <= 40, "{name}");
        assert!(name.starts_with("Sharelink"), "{name}");
    }
}

#[test]
fn mixtool_alert_severities_are_critical_warning_or_info() {
    for alert in alerts() {
        let severity = text(&alert["labels"], "severity");
        assert!(["critical", "warning", "info"].contains(&severity), "{severity}");
    }
}

#[test]
fn mixtool_alert_descriptions_tell_what_was_measured() {
    for alert in alerts() {
        let description = text(&alert["annotations"], "description");
        assert!(description.contains("{{") && description.contains("}}"), "{description}");
    }
}

#[test]
fn mixtool_alert_summaries_are_plain_sentences() {
    for alert in alerts() {
        let summary = text(&alert["annotations"], "summary");
        let sentence = summary.starts_with(|c: char| c.is_ascii_uppercase()) && summary.ends_with('.');
        assert!(sentence && summary.len() > 2 && !summary.contains("{{"), "{summary}");
    }
}

#[test]
fn mixtool_groups_are_small_and_shortly_named() {
    for group in groups() {
        assert!(list(&group, "rules").len() <= 20 && text(&group, "name").len() <= 40, "{}", group["name"]);
    }
}

#[test]
fn recorded_names_say_level_metric_and_operation() {
    let recorded = rules("record");
    assert!(recorded.len() >= 14);
    for rule in recorded {
        let name = text(&rule, "record");
        let parts: Vec<&str> = name.split(':').collect();
        assert!(
            matches!(parts[..], ["job", metric, operation] if metric.starts_with("sharelink_") && operation.starts_with("ratio_rate")),
            "{name}"
        );
        assert!(!text(&rule, "expr").contains(" by ("), "{name}: labels that others add have to stay");
        parsed(text(&rule, "expr"));
    }
}

#[test]
fn every_alert_asks_only_for_series_that_are_scraped_or_recorded() {
    let recorded: BTreeSet<String> = rules("record").iter().map(|rule| text(rule, "record").to_owned()).collect();
    let mut used = BTreeSet::new();
    for alert in alerts() {
        for selector in crate::query::selectors(text(&alert, "expr")) {
            let name = selector.name.unwrap();
            assert!(name.starts_with("sharelink_") || recorded.contains(&name), "{name}");
            used.insert(name);
        }
    }
    assert!(recorded.is_subset(&used), "recorded for nobody: {:?}", recorded.difference(&used));
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_the_runbook_no_other() {
    let runbook = read("RUNBOOK.md");
    let sections: Vec<(&str, &str)> =
        runbook.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    let titles: Vec<&str> = sections.iter().map(|(title, _)| *title).collect();
    assert_eq!(titles, alerts().iter().map(|alert| text(alert, "alert").to_owned()).collect::<Vec<_>>());
    for (title, body) in sections {
        for part in ["**Means.**", "**Look at.**", "**Do.**"] {
            assert!(body.contains(part), "{title} has no {part}");
        }
    }
    for alert in alerts() {
        let link = text(&alert["annotations"], "runbook_url");
        assert_eq!(link, format!("RUNBOOK.md#{}", text(&alert, "alert").to_lowercase()));
    }
    for (at, _) in runbook.match_indices("](#") {
        let anchor = runbook[at + 3..].split(')').next().unwrap();
        assert!(titles.iter().any(|title| title.to_lowercase() == anchor), "{anchor}");
    }
}

#[test]
fn the_runbook_names_panels_that_there_are() {
    let titles: BTreeSet<String> = crate::committed()
        .iter()
        .flat_map(crate::lint::panels)
        .map(|panel| panel["title"].as_str().unwrap().to_owned())
        .collect();
    let runbook = read("RUNBOOK.md");
    for named in [
        "Oldest request in hand",
        "Calls by HTTP status",
        "Limit and use",
        "Calls under way and their limit",
        "Paused accounts",
        "Latency of calls",
        "Failures by kind",
        "Pauses begun",
        "Parked",
        "Objectives, bad share",
        "Duration of requests",
        "Waiting for a turn",
        "Progress of a batch",
        "Workers listening",
        "Connections to the broker",
    ] {
        assert!(runbook.contains(named), "the runbook does not name {named} any more");
        assert!(titles.iter().any(|title| title.starts_with(named)), "no panel {named}");
    }
}

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder())
        .output()
        .expect("this test needs promtool (Debian and Ubuntu: the package prometheus); `make test` installs it");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

#[test]
fn promtool_finds_no_fault_with_the_rules() {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml", "recording.yml"]);
}

#[test]
fn every_alert_fires_when_it_should_and_is_silent_when_it_should() {
    promtool(&["test", "rules", "alerts_test.yml", "alerts_slow_test.yml"]);
    let tests: Vec<Value> = ["alerts_test.yml", "alerts_slow_test.yml"]
        .iter()
        .flat_map(|name| list(&yaml(name), "tests").to_vec())
        .flat_map(|test| list(&test, "alert_rule_test").to_vec())
        .collect();
    for alert in alerts() {
        let name = text(&alert, "alert");
        let of: Vec<&Value> = tests.iter().filter(|test| text(test, "alertname") == name).collect();
        assert!(of.iter().any(|test| !list(test, "exp_alerts").is_empty()), "{name} is never seen to fire");
        assert!(of.iter().any(|test| list(test, "exp_alerts").is_empty()), "{name} is never seen to be silent");
    }
}
