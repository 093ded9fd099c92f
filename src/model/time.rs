//! Reading the times of messages: RFC 3339 and nothing else.

use jiff::Timestamp;

/// Reads an RFC 3339 time (`2027-01-31T00:00:00Z`, with a fraction or an offset where there is one). The library alone
/// would also take a time without seconds, or with the name of a zone in brackets.
pub fn rfc3339(text: &str) -> Option<Timestamp> {
    let (local, rest) = text.split_at_checked("2027-01-31T00:00:00".len())?;
    let shaped = local.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        10 => matches!(byte, b'T' | b't' | b' '),
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    });
    let zoned = rest.contains(['z', 'Z', '+', '-']);
    let plain = rest.bytes().all(|byte| byte.is_ascii_digit() || b".zZ+-:".contains(&byte));
    if shaped && zoned && plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rfc_3339_allows_is_read() {
        for text in ["2027-01-31T00:00:00Z", "2027-01-31t01:00:00.25+01:00", "2027-01-31 00:00:00z"] {
            assert!(rfc3339(text).is_some(), "{text}");
        }
    }

    #[test]
    fn what_it_does_not_allow_is_not() {
        for text in [
            "",
            "2027-01-31",
            "2027-01-31T00:00Z",
            "2027-01-31T00:00:00",
            "2027-01-31T00:00:00+01:00[Europe/Berlin]",
            "2027-02-30T00:00:00Z",
            "20270131T000000Z",
            "tomorrow",
            "2027-01-31T00:00:00é",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }
}
