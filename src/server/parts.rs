//! The changing parts of the page, pure: each is the inside of one element, and the same text serves the page and its updates.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::chart;
use super::kinds::meaning;
use super::verdict::{Finding, Level, findings};
use super::view::View;
use super::words::{count, counted, duration, escaped, over, percent, quantile, rate, seconds, whole_seconds};
use crate::telemetry::durations::Quantile;
use crate::telemetry::history::Counts;
use crate::telemetry::metrics::NO_PROVIDER;
use crate::telemetry::snapshot::ProviderNumbers;

/// The ids of the elements, each with its inside.
pub type Parts = Vec<(&'static str, String)>;

/// So many failures are shown.
const SHOWN_FAILURES: usize = 10;

/// Renders all parts.
pub fn render(view: &View) -> Parts {
    let findings = findings(view);
    let paused = accounts(view).filter(|(_, numbers)| numbers.paused).map(|(name, _)| name.as_str()).collect();
    vec![
        ("title", title(&findings)),
        ("verdict", verdict(&findings)),
        ("said", findings.first().map(spoken).unwrap_or_default()),
        ("tiles", tiles(view, paused)),
        ("chart", chart::figure(view)),
        ("minutes", chart::rows(view)),
        ("span", over(&view.shown)),
        ("providers", providers(view)),
        ("kinds", kinds(view)),
        ("failures", failures(view)),
        ("broker", broker(view)),
        ("build", format!("sharelink {}, revision {}", escaped(&view.now.version), escaped(&view.now.revision))),
        ("uptime", duration(view.uptime())),
        ("clock", clock(view)),
    ]
}

fn title(findings: &[Finding]) -> String {
    let Some(first) = findings.first() else { return "sharelink".to_owned() };
    format!("{} {} · sharelink", first.level.sign(), escaped(&first.short))
}

/// For who listens: changes only when something begins or ends.
fn spoken(finding: &Finding) -> String {
    match finding.level {
        Level::Good => "Working.".to_owned(),
        level => format!("{}: {}.", level.word(), escaped(&finding.short)),
    }
}

fn verdict(findings: &[Finding]) -> String {
    let mut out = String::new();
    for (place, Finding { level, text, .. }) in findings.iter().enumerate() {
        let rank = if place == 0 { "first" } else { "next" };
        put(
            &mut out,
            format_args!(
                "<p class=\"{rank} {}\"><span class=\"sign\" aria-hidden=\"true\">{}</span> <b>{}.</b> {}</p>\n",
                level.class(),
                level.sign(),
                level.word(),
                escaped(text)
            ),
        );
    }
    out
}

fn tiles(view: &View, paused: Vec<&str>) -> String {
    let (now, shown) = (&view.now, Counts::of(&view.shown.numbers));
    let all = Counts::of(now);
    let links = shown.created + shown.reused;
    let durations = view.minute.numbers.all_durations();
    let half = quantile(durations.quantile(0.5));
    let since_start = |number| match view.shown.whole_life {
        true => over(&view.shown),
        false => format!("{}; {} since the start", over(&view.shown), count(number)),
    };
    let up = now.broker.values().filter(|connected| **connected).count();
    let (broker, broker_note) = match view.moment.ready {
        Ok(()) if up == 0 => ("none", "requests come from memory".to_owned()),
        _ if up == 0 => ("✕ away", counted(now.reconnects, "reconnect")),
        Ok(()) if up == now.broker.len() => ("✓ up", counted(now.reconnects, "reconnect")),
        _ => ("▲ not ready", counted(now.reconnects, "reconnect")),
    };
    let longest = now.providers.values().filter_map(|numbers| view.pause(numbers)).map(|(left, _)| left).max();
    let wait = view.shown.numbers.queue_wait.quantile(0.95);
    let in_flight: u64 = now.providers.values().map(|numbers| numbers.in_flight).sum();
    let tiles = [
        (
            "Answered",
            format!("{}<small>/s</small>", rate(view.rate)),
            format!("{} since the start", count(all.answered())),
        ),
        ("Created", count(shown.created), since_start(all.created)),
        ("Reused", count(shown.reused), format!("{} of the links", percent(shown.reused, links))),
        (
            "Failed",
            percent(shown.failed, shown.answered()),
            format!("{} of {}", count(shown.failed), counted(shown.answered(), "request")),
        ),
        (
            "Time, 95 %",
            quantile(durations.quantile(0.95)),
            match durations.mean() {
                Some(mean) => format!("half {half}, mean {}", seconds(mean)),
                None => "nothing in the last minute".to_owned(),
            },
        ),
        (
            "Waiting",
            count(now.in_requests()),
            match wait {
                // The timestamp of a request has whole seconds.
                Some(Quantile::About(..1.0)) => "in the queue; 95\u{a0}% waited under 1\u{a0}s".to_owned(),
                Some(_) => format!("in the queue; 95\u{a0}% waited {}", quantile(wait)),
                None => "in the queue".to_owned(),
            },
        ),
        (
            "Paused",
            if paused.is_empty() { "none".to_owned() } else { format!("▲ {}", paused.len()) },
            match longest {
                Some(left) => format!("{}; {} left", escaped(&paused.join(", ")), duration(whole_seconds(left))),
                None if paused.is_empty() => {
                    format!(
                        "{}, {} in flight",
                        counted(accounts(view).count() as u64, "account"),
                        counted(in_flight, "call")
                    )
                }
                None => escaped(&paused.join(", ")),
            },
        ),
        ("Broker", broker.to_owned(), broker_note),
    ];
    let mut out = String::new();
    for (name, value, note) in tiles {
        // The sign says it; the colour only repeats it.
        let class = match value.chars().next() {
            Some('✕') => " class=\"bad\"",
            Some('▲') => " class=\"attention\"",
            _ => "",
        };
        put(&mut out, format_args!("<div><dt>{name}</dt><dd><b{class}>{value}</b> <span>{note}</span></dd></div>\n"));
    }
    out
}

/// The configured accounts; requests that name none of them are not one.
fn accounts(view: &View) -> impl Iterator<Item = (&String, &ProviderNumbers)> {
    view.now.providers.iter().filter(|(name, _)| *name != NO_PROVIDER)
}

/// A row of a table that turns into a card where there is no room: each cell knows its column.
fn row(out: &mut String, head: &str, cells: &[(&str, String)]) {
    put(out, format_args!("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">{head}</th>"));
    for (column, value) in cells {
        put(out, format_args!("<td role=\"cell\" data-column=\"{column}\">{value}</td>"));
    }
    out.push_str("</tr>\n");
}

fn none(out: &mut String, columns: usize, words: &str) {
    put(
        out,
        format_args!("<tr role=\"row\"><td role=\"cell\" colspan=\"{columns}\" class=\"none\">{words}</td></tr>\n"),
    );
}

fn providers(view: &View) -> String {
    let mut out = String::new();
    let minute = view.minute.over.as_secs_f64().max(1.0);
    for (name, numbers) in accounts(view) {
        let shown = view.shown.numbers.providers.get(name).cloned().unwrap_or_default();
        let calls = view.minute.numbers.providers.get(name).map_or(0, |numbers| numbers.calls);
        let in_flight = match numbers.in_flight_limit {
            Some(limit) => format!("{} of {}", count(numbers.in_flight), count(limit)),
            None => count(numbers.in_flight),
        };
        let limit = numbers.limit.map_or_else(|| "none known".to_owned(), |limit| format!("{}/s", rate(limit)));
        let cells = [
            ("state", state(view, numbers)),
            ("limit", limit),
            ("calls", format!("{}/s", rate(calls as f64 / minute))),
            ("in flight", in_flight),
            ("created", count(shown.created)),
            ("reused", count(shown.reused)),
            ("failed", count(shown.failed())),
            ("refused (429)", count(shown.refused)),
            ("pauses", count(shown.pauses)),
        ];
        row(&mut out, &escaped(name), &cells);
    }
    if out.is_empty() {
        none(&mut out, 10, "No account is configured.");
    }
    out
}

fn state(view: &View, numbers: &ProviderNumbers) -> String {
    match view.pause(numbers) {
        Some((left, why)) => format!("▲ paused, {} left ({why})", duration(whole_seconds(left))),
        None if numbers.paused => "▲ paused".to_owned(),
        None => "✓ open".to_owned(),
    }
}

fn kinds(view: &View) -> String {
    let mut all: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
    for (name, numbers) in &view.shown.numbers.providers {
        for (kind, failed) in &numbers.failures {
            let (sum, accounts) = all.entry(kind).or_default();
            *sum += failed;
            accounts.push(format!("{} {}", escaped(name), count(*failed)));
        }
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, (failed, _))| std::cmp::Reverse(*failed));
    let mut out = String::new();
    let answered = Counts::of(&view.shown.numbers).answered();
    for (kind, (failed, accounts)) in &all {
        let cells = [
            ("requests", count(*failed)),
            ("share", percent(*failed, answered)),
            ("meaning", meaning(kind).to_owned()),
            ("accounts", accounts.join(", ")),
        ];
        row(&mut out, &escaped(kind), &cells);
    }
    if all.is_empty() {
        none(&mut out, 5, "✓ No request failed.");
    }
    out
}

fn failures(view: &View) -> String {
    let mut out = String::new();
    for note in view.now.failures.iter().take(SHOWN_FAILURES) {
        let time = note.at.strftime("%Y-%m-%dT%H:%M:%SZ");
        let words = note.at.strftime(if same_day(view, note.at) { "%H:%M:%S" } else { "%b %d, %H:%M:%S" });
        let cells = [
            ("account", escaped(&note.provider)),
            ("kind", note.kind.as_str().to_owned()),
            ("HTTP", note.http_status.map_or_else(|| "–".to_owned(), |status| status.to_string())),
            ("code", note.code.as_deref().map_or_else(|| "–".to_owned(), escaped)),
        ];
        row(&mut out, &format!("<time datetime=\"{time}\">{words}</time>"), &cells);
    }
    if view.now.failures.is_empty() {
        none(&mut out, 5, "✓ None since the start.");
    }
    out
}

fn same_day(view: &View, at: jiff::Timestamp) -> bool {
    at.as_second().div_euclid(86_400) == view.moment.wall.as_second().div_euclid(86_400)
}

fn broker(view: &View) -> String {
    let mut out = String::new();
    let mut line =
        |name: &str, value: String| put(&mut out, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
    for (role, connected) in &view.now.broker {
        let state = if *connected { "✓ connected" } else { "✕ not connected" };
        line(&format!("connection to {}", escaped(role)), state.to_owned());
    }
    for (queue, ready) in &view.now.queues {
        let sign = if *queue == view.now.dead_letter_queue && *ready > 0 { "▲ " } else { "" };
        line(&format!("in {}", escaped(queue)), format!("{sign}{}", counted(*ready, "message")));
    }
    line("reconnects", count(view.now.reconnects));
    for (settlement, number) in &view.now.settlements {
        line(&format!("settled: {}", escaped(settlement)), count(*number));
    }
    out
}

fn clock(view: &View) -> String {
    let wall = view.moment.wall;
    format!("<time datetime=\"{}\">{}</time>", wall.strftime("%Y-%m-%dT%H:%M:%SZ"), wall.strftime("%H:%M:%S"))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{ErrorKind, Failure};
    use crate::server::samples::{moment, view, worker};
    use crate::telemetry::recent::{FailureNote, Pause};

    fn part(parts: &Parts, id: &str) -> String {
        parts.iter().find(|(name, _)| *name == id).map(|(_, inside)| inside.clone()).unwrap()
    }

    #[test]
    fn every_part_says_what_the_metrics_say_and_foreign_names_are_escaped() {
        let (mut now, start) = (worker(41), moment().instant);
        let strange = ProviderNumbers {
            created: 41,
            reused: 7,
            paused: true,
            pause: Some(Pause { end: start + Duration::from_secs(30), why: "Retry-After" }),
            limit: Some(12.5),
            in_flight: 3,
            failures: [("notFound".to_owned(), 2)].into(),
            ..ProviderNumbers::default()
        };
        now.providers.insert("<b>".into(), strange);
        now.queues.insert("q.requests".to_owned(), 12);
        let mut failure = Failure::new(ErrorKind::NotFound, "https://example.com/secret-item does not exist");
        failure.provider.http_status = Some(404);
        failure.provider.code = Some("itemNotFound".to_owned());
        now.failures.push(FailureNote::of(moment().wall, "<b>", &failure));
        let parts = render(&view(now, |moment| moment.instant = start));

        let providers = part(&parts, "providers");
        assert!(providers.contains("&lt;b&gt;</th>"), "{providers}");
        assert!(providers.contains("data-column=\"state\">▲ paused, 30\u{a0}s left (Retry-After)</td>"), "{providers}");
        assert!(providers.contains("data-column=\"limit\">12/s<") || providers.contains("data-column=\"limit\">13/s<"));
        assert!(providers.contains("data-column=\"in flight\">3</td>"));
        assert!(
            part(&parts, "tiles")
                .contains("<dt>Created</dt><dd><b>82</b> <span>since the start, 2\u{a0}min ago</span>")
        );
        assert!(part(&parts, "tiles").contains("<dt>Waiting</dt><dd><b>12</b>"));
        assert!(part(&parts, "kinds").contains("the item is not there"));
        let failures = part(&parts, "failures");
        assert!(
            failures.contains("data-column=\"HTTP\">404</td><td role=\"cell\" data-column=\"code\">itemNotFound</td>")
        );
        assert!(part(&parts, "title").starts_with("▲ &lt;b&gt; is paused"));
        let all = parts.iter().map(|(_, inside)| inside.as_str()).collect::<String>();
        assert!(!all.contains("<b>&") && !all.contains("example.com") && !all.contains("secret-item"), "{all}");
    }

    #[test]
    fn what_is_read_aloud_does_not_change_while_a_pause_runs_down() {
        let (mut now, start) = (worker(0), moment().instant);
        let contoso = now.providers.get_mut("contoso").unwrap();
        contoso.paused = true;
        contoso.pause = Some(Pause { end: start + Duration::from_secs(30), why: "Retry-After" });
        let at = |seconds| render(&view(now.clone(), |moment| moment.instant = start + Duration::from_secs(seconds)));
        let (first, later) = (at(1), at(9));
        assert_ne!(part(&first, "verdict"), part(&later, "verdict"));
        assert_eq!(part(&first, "said"), part(&later, "said"));
        assert_eq!(part(&first, "said"), "Attention: contoso is paused.");
    }

    #[test]
    fn a_worker_without_a_broker_says_that_it_has_none() {
        let mut now = worker(3);
        now.broker.values_mut().for_each(|connected| *connected = false);
        assert!(part(&render(&view(now.clone(), |_| {})), "tiles").contains("<dt>Broker</dt><dd><b>none</b>"));
        let away =
            |moment: &mut crate::server::view::Moment| moment.ready = Err("not connected to the broker: x".into());
        assert!(part(&render(&view(now, away)), "tiles").contains("<b class=\"bad\">✕ away</b>"));
    }
}
