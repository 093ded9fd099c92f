//! The status page as text, pure: a snapshot in, HTML out. It works without JavaScript and without any other server.

use std::fmt::Write;

use crate::telemetry::snapshot::{ProviderNumbers, Snapshot};

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="5">
<title>sharelink</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 25%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; padding: 0; margin: 0; list-style: none; }
.tiles li { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .9rem; min-width: 7rem; }
.tiles b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th:first-child, td:first-child, td.words { text-align: left; }
.state { font-weight: 600; }
footer { margin-top: 2rem; opacity: .8; }
</style>
</head>
<body>
"#;

/// Renders the page.
pub fn render(snapshot: &Snapshot, ready: &Result<(), String>) -> String {
    let mut page = String::with_capacity(8 * 1024);
    page.push_str(HEAD);
    page.push_str("<h1>sharelink</h1>\n");
    match ready {
        Ok(()) => page.push_str("<p class=\"state\" role=\"status\">&#10003; Ready: taking requests.</p>\n"),
        Err(why) => {
            put(&mut page, format_args!("<p class=\"state\" role=\"status\">&#9888; Not ready: {}</p>\n", escaped(why)))
        }
    }
    tiles(&mut page, snapshot);
    providers(&mut page, snapshot);
    failures(&mut page, snapshot);
    broker(&mut page, snapshot);
    put(
        &mut page,
        format_args!(
            "<footer>sharelink {} · counted since this worker started · <a href=\"/metrics\">metrics</a> · <a href=\"/readyz\">readiness</a></footer>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        ),
    );
    page
}

fn tiles(page: &mut String, snapshot: &Snapshot) {
    let sum = |number: fn(&ProviderNumbers) -> u64| snapshot.providers.values().map(number).sum::<u64>();
    page.push_str("<ul class=\"tiles\">\n");
    for (name, value) in [
        ("answered", sum(ProviderNumbers::answered)),
        ("links created", sum(|numbers| numbers.created)),
        ("links reused", sum(|numbers| numbers.reused)),
        ("failed", sum(ProviderNumbers::failed)),
        ("calls in flight", sum(|numbers| numbers.in_flight)),
        ("retries", sum(|numbers| numbers.retries)),
    ] {
        put(page, format_args!("<li><b>{value}</b>{name}</li>\n"));
    }
    page.push_str("</ul>\n");
}

fn providers(page: &mut String, snapshot: &Snapshot) {
    page.push_str(
        "<h2>Providers</h2>\n<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">account</th><th scope=\"col\">created</th><th scope=\"col\">reused</th><th scope=\"col\">failed</th><th scope=\"col\">calls</th><th scope=\"col\">refused (429)</th><th scope=\"col\">in flight</th><th scope=\"col\">mean time</th><th scope=\"col\">state</th></tr></thead>\n<tbody>\n",
    );
    for (name, numbers) in &snapshot.providers {
        let mean = match numbers.answered() {
            0 => "–".to_owned(),
            answered => format!("{:.0} ms", numbers.seconds * 1000.0 / answered as f64),
        };
        put(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{mean}</td><td class=\"words\">{}</td></tr>\n",
                escaped(name),
                numbers.created,
                numbers.reused,
                numbers.failed(),
                numbers.calls,
                numbers.refused,
                numbers.in_flight,
                if numbers.paused { "paused: the provider asked for it" } else { "open" },
            ),
        );
    }
    page.push_str("</tbody></table></div>\n");
}

fn failures(page: &mut String, snapshot: &Snapshot) {
    page.push_str("<h2>Failures by kind</h2>\n");
    if snapshot.providers.values().all(|numbers| numbers.failures.is_empty()) {
        page.push_str("<p>None.</p>\n");
        return;
    }
    page.push_str("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">account</th><th scope=\"col\">kind</th><th scope=\"col\">requests</th></tr></thead>\n<tbody>\n");
    for (name, numbers) in &snapshot.providers {
        for (kind, count) in &numbers.failures {
            put(
                page,
                format_args!(
                    "<tr><td>{}</td><td class=\"words\">{}</td><td>{count}</td></tr>\n",
                    escaped(name),
                    escaped(kind)
                ),
            );
        }
    }
    page.push_str("</tbody></table></div>\n");
}

fn broker(page: &mut String, snapshot: &Snapshot) {
    page.push_str("<h2>Broker</h2>\n<ul>\n");
    for (role, connected) in &snapshot.broker {
        let state = if *connected { "&#10003; connected" } else { "&#9888; not connected" };
        put(page, format_args!("<li>{} connection: {state}</li>\n", escaped(role)));
    }
    for (queue, ready) in &snapshot.queues {
        put(page, format_args!("<li>{ready} messages ready in {}</li>\n", escaped(queue)));
    }
    put(page, format_args!("<li>{} reconnects</li>\n", snapshot.reconnects));
    for (settlement, count) in &snapshot.settlements {
        put(page, format_args!("<li>{count} deliveries: {}</li>\n", escaped(settlement)));
    }
    page.push_str("</ul>\n");
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = page.write_fmt(text);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_snapshot_says_and_escapes_it() {
        let mut snapshot = Snapshot::default();
        let numbers = ProviderNumbers { created: 41, reused: 7, paused: true, ..ProviderNumbers::default() };
        snapshot.providers.insert("<b>".into(), numbers);
        snapshot.queues.insert("sharelink.requests".into(), 12);
        let page = render(&snapshot, &Err("the broker & its friends are away".into()));
        assert!(page.contains("<td>&lt;b&gt;</td><td>41</td><td>7</td>"));
        assert!(page.contains("paused: the provider asked for it"));
        assert!(page.contains("12 messages ready in sharelink.requests"));
        assert!(page.contains("Not ready: the broker &amp; its friends are away"));
    }

    #[test]
    fn the_page_asks_no_other_server_for_anything() {
        let page = render(&Snapshot::default(), &Ok(()));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    }
}
