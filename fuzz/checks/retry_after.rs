//! `Retry-After`: any header, at any time, gives a bounded wait that is never shorter than what was asked for.
//!
//! Input: the provider's time in seconds since 1970, then the header's bytes.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use sharelink::provider::http::Answer;
use sharelink::provider::retry_after::{LONGEST, SHORTEST, parse};

use super::input::Parts;

/// Checks one input.
pub fn check(data: &[u8]) {
    let mut parts = Parts::new(data);
    let now = parts.text().trim().parse().ok().and_then(|second| Timestamp::from_second(second).ok());
    let now = now.unwrap_or(Timestamp::UNIX_EPOCH);
    let header = parts.text();
    let wait = parse(&header, now);
    check_wait(&header, now, wait);
    // A moment later, by whatever part of a second, the wait is not longer, and as whole as before.
    if let Ok(later) = now.checked_add(jiff::SignedDuration::from_micros(1_234_567)) {
        let shorter = parse(&header, later);
        assert_eq!(shorter.is_some(), wait.is_some());
        assert!(shorter <= wait, "{header:?}: {wait:?}, later {shorter:?}");
        check_wait(&header, later, shorter);
    }
    check_in_an_answer(&header, now, wait);
}

fn check_wait(header: &str, now: Timestamp, wait: Option<Duration>) {
    let header = header.trim();
    if let Some(wait) = wait {
        assert!((SHORTEST..=LONGEST).contains(&wait), "{header:?}: {wait:?}");
        assert_eq!(wait.subsec_nanos() % 1_000_000, 0, "{header:?}: {wait:?} is not whole milliseconds");
    }
    if let Some(asked) = plain_number(header) {
        let wait = wait.unwrap_or_else(|| panic!("{header:?} is a number and was not read"));
        assert!(
            wait >= asked.min(LONGEST) && wait <= asked.max(SHORTEST) + Duration::from_millis(1),
            "{header:?}: {wait:?}"
        );
    }
    if let Ok(until) = httpdate::parse_http_date(header) {
        let wait = wait.unwrap_or_else(|| panic!("{header:?} is a date and was not read"));
        let asked = until.duration_since(SystemTime::from(now)).unwrap_or_default();
        assert!(wait >= asked.min(LONGEST), "{header:?} at {now}: {wait:?}");
    }
}

/// Seconds with at most three decimals, read without floating point.
fn plain_number(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() > 9 || part.len() > 3 {
        return None;
    }
    let millis: u64 = format!("{part:0<3}").parse().ok()?;
    Some(Duration::from_secs(whole.parse().ok()?) + Duration::from_millis(millis))
}

/// The same through the headers of an answer that tells its own time.
fn check_in_an_answer(header: &str, now: Timestamp, wait: Option<Duration>) {
    let year = now.strftime("%Y").to_string();
    // A header is read as text only where it is ASCII.
    let Some(value) = header.is_ascii().then(|| HeaderValue::from_str(header).ok()).flatten() else { return };
    // HTTP dates have years of four digits from 1970 on.
    if now.as_second() < 0 || year.len() != 4 {
        return;
    }
    let mut headers = HeaderMap::new();
    let date = httpdate::fmt_http_date(SystemTime::from(now));
    headers.insert(DATE, HeaderValue::from_str(&date).expect("a date is text"));
    headers.insert(RETRY_AFTER, value);
    let answer = Answer { status: 429, headers, body: Bytes::new() };
    assert_eq!(answer.retry_after(), wait, "{header:?} at {date}");
}
