//! The chart of the page as inline SVG, pure: requests a second over the last minutes, by how they ended.
//!
//! Told apart by place and pattern, not by colour alone. One unit of the drawing is one pixel high, and stretched to any
//! width, so that stripes stay stripes; the labels stand beside it as text.

use std::fmt::Write;

use super::view::View;
use super::words::{count, duration, rate};
use crate::telemetry::history::{BAR, Counts, REMEMBERED};

/// Height of the drawing.
const HEIGHT: f64 = 160.0;
/// Width of one bar and the gap beside it.
const STEP: usize = 10;
/// Width of a bar.
const WIDTH: usize = 9;
/// How many bars are one row of the table.
const A_MINUTE: usize = 12;

/// The whole figure but its caption.
pub fn figure(view: &View) -> String {
    let top = nice(view.bars.iter().map(a_second).fold(0.0, f64::max));
    let [created, reused, failed] = shapes(&view.bars, top);
    let width = view.bars.len() * STEP;
    let mut out = String::with_capacity(4_096);
    put(
        &mut out,
        format_args!(
            "<div class=\"scale\" aria-hidden=\"true\"><span>{}</span><span>{}</span><span>0</span></div>\n\
             <svg viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\n\
             <path class=\"grid\" d=\"M0 .5H{width}M0 {}H{width}\"/>\n\
             <path class=\"created\" d=\"{created}\"/>\n<path class=\"reused\" d=\"{reused}\"/>\n\
             <path class=\"failed\" d=\"{failed}\"/>\n<path class=\"base\" d=\"M0 {}H{width}\"/>\n</svg>\n",
            mark(top),
            mark(top / 2.0),
            in_words(view),
            HEIGHT / 2.0,
            HEIGHT - 0.5,
        ),
    );
    let minutes = REMEMBERED.as_secs() / 60;
    put(
        &mut out,
        format_args!(
            "<div class=\"times\" aria-hidden=\"true\"><span>{minutes}\u{a0}min ago</span><span>{}\u{a0}min ago</span><span>now</span></div>\n\
             <p class=\"peak\">{}</p>",
            minutes / 2,
            in_words(view)
        ),
    );
    out
}

/// The chart in one sentence.
fn in_words(view: &View) -> String {
    let highest = view.bars.iter().map(a_second).fold(0.0, f64::max);
    if highest == 0.0 {
        return format!("No request was answered in the last {}.", duration(REMEMBERED));
    }
    let place = view.bars.iter().rposition(|bar| a_second(bar) >= highest).unwrap_or_default();
    let ago = BAR * u32::try_from(view.bars.len() - 1 - place).unwrap_or_default();
    let when = if ago < BAR * 2 { "just now".to_owned() } else { format!("{} ago", duration(ago)) };
    format!("Highest {} a second, {when}; now {} a second.", rate(highest), rate(view.rate))
}

/// The same as rows of a table, a minute each, the latest first.
pub fn rows(view: &View) -> String {
    let mut out = String::new();
    for (ago, minute) in view.bars.rchunks(A_MINUTE).enumerate() {
        let sum = |number: fn(&Counts) -> u64| count(minute.iter().map(number).sum());
        let when = if ago == 0 { "this minute".to_owned() } else { format!("{ago} min ago") };
        put(
            &mut out,
            format_args!(
                "<tr><th scope=\"row\">{when}</th><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                sum(|bar| bar.created),
                sum(|bar| bar.reused),
                sum(|bar| bar.failed)
            ),
        );
    }
    out
}

/// One path for each ending, stacked: created, on it reused, on it failed.
fn shapes(bars: &[Counts], top: f64) -> [String; 3] {
    let mut paths = [String::new(), String::new(), String::new()];
    for (place, bar) in bars.iter().enumerate() {
        let mut foot = HEIGHT;
        for (path, number) in paths.iter_mut().zip([bar.created, bar.reused, bar.failed]) {
            if number > 0 {
                // What is there can be seen.
                let height = (per_second(number) / top * HEIGHT).max(1.0).min(foot);
                put(path, format_args!("M{} {:.1}h{WIDTH}v-{height:.1}h-{WIDTH}z", place * STEP, foot));
                foot -= height;
            }
        }
    }
    paths
}

fn a_second(bar: &Counts) -> f64 {
    per_second(bar.answered())
}

fn per_second(number: u64) -> f64 {
    number as f64 / BAR.as_secs_f64()
}

/// A number beside the scale.
fn mark(number: f64) -> String {
    if number.fract() == 0.0 { count(number as u64) } else { number.to_string() }
}

/// The next number of the form 1, 2 or 5 times a power of ten that is not smaller; 1 at least.
fn nice(highest: f64) -> f64 {
    let mut top = 1.0;
    for step in [2.0, 2.5, 2.0].into_iter().cycle().take(60) {
        if top >= highest {
            break;
        }
        top *= step;
    }
    top
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::server::samples::{view, worker};

    #[test]
    fn the_scale_ends_at_a_round_number() {
        let tops = [0.0, 0.3, 1.0, 1.1, 3.0, 7.0, 11.0, 42.0, 99.0, 300.0];
        assert_eq!(tops.map(nice), [1.0, 1.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0]);
    }

    #[test]
    fn the_chart_tells_its_highest_point_in_words() {
        let busy = figure(&view(worker(100), |_| {}));
        assert!(busy.contains("Highest 20 a second, just now; now 0.83 a second."), "{busy}");
        assert!(busy.contains("<path class=\"created\" d=\"M1190 160.0h9v-160.0h-9z\"/>"), "{busy}");
        assert!(figure(&view(worker(0), |_| {})).contains("No request was answered in the last 10\u{a0}min."));
        assert!(rows(&view(worker(100), |_| {})).starts_with("<tr><th scope=\"row\">this minute</th><td>100</td>"));
    }

    proptest! {
        #[test]
        fn no_bar_leaves_the_drawing(
            numbers in proptest::collection::vec((0_u64..10_000, 0_u64..10_000, 0_u64..10_000), 1..120),
        ) {
            let bars: Vec<Counts> =
                numbers.into_iter().map(|(created, reused, failed)| Counts { created, reused, failed }).collect();
            let top = nice(bars.iter().map(a_second).fold(0.0, f64::max));
            for path in shapes(&bars, top) {
                for shape in path.split('M').filter(|shape| !shape.is_empty()) {
                    let number = |text: &str| text.parse::<f64>().unwrap();
                    let foot = number(shape.split(['h', ' ']).nth(1).unwrap());
                    let height = number(shape.split("v-").nth(1).unwrap().split('h').next().unwrap());
                    // Rounded to a tenth, twice.
                    prop_assert!(foot <= HEIGHT && foot - height >= -0.11, "{}", shape);
                }
            }
        }
    }
}
