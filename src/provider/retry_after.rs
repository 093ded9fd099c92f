//! Reads a `Retry-After` header: whole seconds, fractions of them (Graph sends `2.128`), or an HTTP date.
//!
//! Pure. The result is between one second and a day, and never shorter than what the provider asked for within that.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The shortest wait: a provider that says "now" is not to be hammered.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The longest wait that is believed. Microsoft's documentation shows an hour; nothing longer was ever recorded.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait that the header asks for, rounded up to whole milliseconds; `None` for what is neither a number nor a
/// date. `now` is the provider's own time where its answer told it.
pub fn parse(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    let wait = seconds(header).or_else(|| until(header, now))?;
    Some(wait.clamp(SHORTEST, LONGEST))
}

fn seconds(text: &str) -> Option<Duration> {
    // Checked by hand: `f64` would also read `inf`, `NaN` and `1e9`, none of which is a Retry-After.
    if !text.starts_with(|first: char| first.is_ascii_digit())
        || !text.chars().all(|each| each.is_ascii_digit() || each == '.')
    {
        return None;
    }
    let millis = (text.parse::<f64>().ok()? * 1000.0).ceil();
    // The cast saturates, and the caller bounds it.
    Some(Duration::from_millis(millis as u64))
}

fn until(text: &str, now: Timestamp) -> Option<Duration> {
    let at = httpdate::parse_http_date(text).ok()?;
    let wait = at.duration_since(SystemTime::from(now)).unwrap_or(Duration::ZERO);
    let millis = wait.as_nanos().div_ceil(1_000_000);
    Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn each_form_gives_its_wait_and_nonsense_gives_none() {
        let table = [
            ("120", Some(120_000)),
            (" 5 ", Some(5_000)),
            ("2.128", Some(2_128)),
            ("2.1281", Some(2_129)),
            ("0.249", Some(1_000)),
            ("0", Some(1_000)),
            ("3600", Some(3_600_000)),
            ("86401", Some(86_400_000)),
            ("99999999999999999999999999", Some(86_400_000)),
            ("Sun, 22 Nov 2026 10:00:30 GMT", Some(30_000)),
            ("Sunday, 22-Nov-26 10:00:30 GMT", Some(30_000)),
            ("Sun Nov 22 10:00:30 2026", Some(30_000)),
            ("Sun, 22 Nov 2026 09:00:00 GMT", Some(1_000)),
            ("Mon, 22 Nov 2027 10:00:00 GMT", Some(86_400_000)),
            ("-5", None),
            ("NaN", None),
            ("inf", None),
            ("1e3", None),
            ("1.2.3", None),
            ("", None),
            (".5", None),
            ("soon", None),
            ("5 seconds", None),
        ];
        for (header, millis) in table {
            assert_eq!(parse(header, now()), millis.map(Duration::from_millis), "{header:?}");
        }
    }

    #[test]
    fn a_date_is_measured_from_any_part_of_a_second_in_whole_milliseconds() {
        let now = "2026-11-22T10:00:00.0005Z".parse().unwrap();
        assert_eq!(parse("Sun, 22 Nov 2026 10:00:30 GMT", now), Some(Duration::from_millis(30_000)));
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_any_wait_is_bounded(text in "\\PC*") {
            if let Some(wait) = parse(&text, now()) {
                prop_assert!((SHORTEST..=LONGEST).contains(&wait));
            }
        }

        #[test]
        fn a_wait_is_never_shorter_than_asked(seconds in 1_u32..86_400, thousandths in 0_u32..1_000) {
            let wait = parse(&format!("{seconds}.{thousandths:03}"), now());
            let asked = Duration::from_secs(seconds.into()) + Duration::from_millis(thousandths.into());
            prop_assert!(wait.is_some_and(|wait| wait >= asked.min(LONGEST) && wait <= asked + Duration::from_millis(1)));
        }
    }
}
