//! The picture of the documents: calls taken and limits over time, as SVG that follows the reader's light or dark.

use std::fmt::Write;
use std::time::Duration;

use super::scenes::{closing, joining, moving, ten_minutes, worker};
use super::world::{Report, Scene, play};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 26.0;
const GAP: f64 = 62.0;

/// Draws the scenes below each other.
pub fn draw() -> String {
    let panels: [(&str, Scene, f64); 3] = [
        (
            "One worker that learns: 20 calls a second allowed, closed for 2 s when overrun",
            ten_minutes(closing(), vec![worker(None)], 1),
            25.0,
        ),
        ("The limit falls to 10 and rises to 40", ten_minutes(moving(), vec![worker(None)], 1), 50.0),
        ("A second worker joins after five minutes", joining(1), 25.0),
    ];
    let height = TOP + panels.len() as f64 * (HEIGHT + GAP);
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" role=\"img\" aria-labelledby=\"title\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title id=\"title\">Calls a second over time, simulated: \
         the learned limit stays just below what the provider allows.</title>\n<style>\
         svg{{background:#fff;color:#1f2328}}.allowed{{stroke:#6e7781;stroke-dasharray:5 4}}.first{{stroke:#0969da}}\
         .second{{stroke:#bc4c00}}.refused{{fill:#cf222e}}.axis{{stroke:currentColor;stroke-opacity:.25}}\
         @media (prefers-color-scheme:dark){{svg{{background:#0d1117;color:#e6edf3}}.first{{stroke:#58a6ff}}\
         .second{{stroke:#f0883e}}.refused{{fill:#ff7b72}}}}</style>\n",
        LEFT + WIDTH + 20.0
    );
    for (index, (title, scene, most)) in panels.iter().enumerate() {
        let report = play(scene);
        let top = TOP + index as f64 * (HEIGHT + GAP);
        panel(&mut svg, title, scene, &report, *most, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, title: &str, scene: &Scene, report: &Report, most: f64, top: f64) {
    let lasts = scene.lasts.as_secs_f64();
    let x = |second: f64| LEFT + second / lasts * WIDTH;
    let y = |rate: f64| top + HEIGHT - rate.min(most) / most * HEIGHT;
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.0}\" fill=\"currentColor\" font-weight=\"600\">{title}: {:.1} % used, {:.2} % refused</text>",
        top - 9.0,
        report.used * 100.0,
        report.refused_share * 100.0
    );
    for step in 0..=5 {
        let rate = most * f64::from(step) / 5.0;
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {0:.1}H{1:.1}\"/><text x=\"{2:.0}\" y=\"{3:.1}\" text-anchor=\"end\" fill=\"currentColor\">{rate:.0}</text>",
            y(rate),
            LEFT + WIDTH,
            LEFT - 6.0,
            y(rate) + 4.0
        );
    }
    let minutes = (lasts / 60.0) as u32;
    for minute in (0..=minutes).step_by(usize::from(if minutes > 15 { 5_u8 } else { 1 })) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"currentColor\">{minute} min</text>",
            x(f64::from(minute) * 60.0),
            top + HEIGHT + 16.0
        );
    }
    let allowed: Vec<(f64, f64)> =
        (0..=lasts as u64).map(|at| (at as f64, scene.provider.rate(Duration::from_secs(at)))).collect();
    line(svg, "allowed", &allowed, &x, &y);
    for (index, limits) in report.limits.iter().enumerate() {
        let known: Vec<(f64, f64)> = limits
            .iter()
            .enumerate()
            .filter(|(_, limit)| limit.is_finite())
            .map(|(at, limit)| (at as f64, *limit))
            .collect();
        line(svg, if index == 0 { "first" } else { "second" }, &known, &x, &y);
    }
    for (second, (_, refused)) in report.by_second.iter().enumerate().filter(|(_, (_, refused))| *refused > 0) {
        let _ = writeln!(
            svg,
            "<circle class=\"refused\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"{:.1}\"/>",
            x(second as f64),
            top + HEIGHT,
            2.0 + f64::from(*refused).sqrt()
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"currentColor\">calls a second; dashed: allowed; line: a worker's limit; dots: calls refused</text>",
        LEFT + WIDTH,
        top + HEIGHT + 32.0
    );
}

fn line(svg: &mut String, class: &str, points: &[(f64, f64)], x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) {
    let mut path = String::new();
    for (index, (at, rate)) in points.iter().enumerate() {
        let _ = write!(path, "{}{:.1} {:.1}", if index == 0 { 'M' } else { 'L' }, x(*at), y(*rate));
    }
    let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\" fill=\"none\" stroke-width=\"1.6\"/>");
}
