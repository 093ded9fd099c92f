//! Numbers, times and foreign text in the words of the page, pure. Foreign text passes [`escaped`] before it stands in HTML.

use std::time::Duration;

use crate::telemetry::durations::Quantile;
use crate::telemetry::history::Change;

/// Text as it may stand in HTML, between tags or in a quoted attribute.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A count with thin spaces between its thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A count and its noun, which takes an s for all but one.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A rate: two digits that matter, no more.
pub fn rate(a_second: f64) -> String {
    if a_second >= 100.0 {
        count(a_second.round() as u64)
    } else if a_second >= 10.0 || a_second == 0.0 {
        format!("{a_second:.0}")
    } else if a_second >= 1.0 {
        format!("{a_second:.1}")
    } else {
        format!("{a_second:.2}")
    }
}

/// Between a number and its unit, so that no line ends there.
const NB: char = '\u{a0}';

/// A share in per cent; never 0 where there is one, never 100 where one is missing.
pub fn percent(part: u64, of: u64) -> String {
    match part as f64 * 100.0 / of.max(1) as f64 {
        _ if part == 0 => format!("0{NB}%"),
        _ if part >= of => format!("100{NB}%"),
        share if share < 1.0 => format!("<{NB}1{NB}%"),
        share if share > 99.0 => format!(">{NB}99{NB}%"),
        share => format!("{share:.0}{NB}%"),
    }
}

/// A short time: `62 ms`, `1.4 s`, `42 s`, `3 min`.
pub fn seconds(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds == 0.0 {
        format!("0{NB}s")
    } else if seconds < 0.9995 {
        format!("{:.0}{NB}ms", (seconds * 1000.0).max(1.0))
    } else if seconds < 9.95 {
        format!("{seconds:.1}{NB}s")
    } else {
        duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

/// A longer time, in its one or two largest units: `42 s`, `7 min`, `3 h 12 min`, `2 d 4 h`.
pub fn duration(time: Duration) -> String {
    let all = time.as_secs();
    let (minutes, hours, days) = (all / 60, all / 3_600, all / 86_400);
    let two = |first: String, second: u64, unit: &str| {
        if second == 0 { first } else { format!("{first} {second}{NB}{unit}") }
    };
    match all {
        0..60 => format!("{all}{NB}s"),
        60..600 => two(format!("{minutes}{NB}min"), all % 60, "s"),
        600..3_600 => format!("{minutes}{NB}min"),
        3_600..86_400 => two(format!("{hours}{NB}h"), minutes % 60, "min"),
        _ => two(format!("{days}{NB}d"), hours % 24, "h"),
    }
}

/// A time rounded up to whole seconds: what is told to be over then is over.
pub fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// A quantile, with a sign that it is an estimate.
pub fn quantile(quantile: Option<Quantile>) -> String {
    match quantile {
        None => "–".to_owned(),
        Some(Quantile::About(about)) => format!("≈{NB}{}", seconds(two_digits(about))),
        Some(Quantile::Over(limit)) => format!("over {}", seconds(limit)),
    }
}

/// Rounded to the two digits that an estimate is good for.
fn two_digits(number: f64) -> f64 {
    let unit = 10_f64.powf(number.max(1e-9).log10().floor() - 1.0);
    (number / unit).round() * unit
}

/// The time that a change covers: "in the last 10 min", "since the start, 40 s ago".
pub fn over(change: &Change) -> String {
    // Snapshots are ten seconds apart; the odd seconds would only make the page restless.
    match change.over.as_secs() {
        all if change.whole_life => format!("since the start, {} ago", duration(Duration::from_secs(all))),
        all => {
            format!("in the last {}", duration(Duration::from_secs((all + 5) / 60 * 60).max(Duration::from_secs(60))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With spaces that a line may end at, as they are easier to write.
    fn plain(text: String) -> String {
        text.replace(NB, " ")
    }

    #[test]
    fn numbers_are_short_and_say_what_they_mean() {
        assert_eq!([0, 7, 1_000, 1_234_567].map(count), ["0", "7", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
        assert_eq!([0.0, 0.021, 2.12, 21.2, 2_120.0].map(rate), ["0", "0.02", "2.1", "21", "2\u{202f}120"]);
        assert_eq!(
            [percent(0, 0), percent(1, 3), percent(1, 5_000), percent(4_999, 5_000), percent(3, 3)].map(plain),
            ["0 %", "33 %", "< 1 %", "> 99 %", "100 %"]
        );
        assert_eq!(
            [0.0, 0.000_1, 0.062, 0.999_9, 1.44, 42.2, 200.0].map(seconds).map(plain),
            ["0 s", "1 ms", "62 ms", "1.0 s", "1.4 s", "42 s", "3 min 20 s"]
        );
        let durations = [0, 59, 60, 61, 599, 3_599, 3_600, 11_520, 90_000, 172_800];
        assert_eq!(
            durations.map(|all| plain(duration(Duration::from_secs(all)))),
            ["0 s", "59 s", "1 min", "1 min 1 s", "9 min 59 s", "59 min", "1 h", "3 h 12 min", "1 d 1 h", "2 d"]
        );
        assert_eq!(plain(quantile(Some(Quantile::About(0.4741)))), "≈ 470 ms");
        assert_eq!(counted(1, "failure") + &counted(2, "failure"), "1 failure2 failures");
    }

    #[test]
    fn foreign_text_cannot_become_markup() {
        assert_eq!(escaped(r#"<a href="x">&"#), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
