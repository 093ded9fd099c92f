//! Reads an answer: the object of a success, or the failure with what is to be done about it.
//!
//! Statuses that speak of the way there (sign-in, pace, outage) decide alone, whatever the body says; of the others
//! the `errorCode` knows better. A success is a 2xx with a JSON object whose `errorCode` is zero or absent.

use std::time::Duration;

use serde_json::Value;

use crate::model::{ErrorKind, Failure, Object, ProviderSays};
use crate::pipeline::ports::{CallFailure, Retry};
use crate::provider::said;

/// An answer, as far as this file needs it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heard<'a> {
    /// HTTP status.
    pub status: u16,
    /// The media type.
    pub content_type: Option<&'a str>,
    /// `x-oracle-dms-ecid`: the id that Oracle's support asks for.
    pub ecid: Option<&'a str>,
    /// The wait of a Retry-After header, read and bounded.
    pub retry_after: Option<Duration>,
    /// The body as it came.
    pub body: &'a [u8],
}

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What is told, and whether to try again.
    pub failure: CallFailure,
    /// What it may mean beyond its kind.
    pub hint: Hint,
}

/// What a refusal may mean beyond its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Nothing more.
    None,
    /// Something of that name exists (409, `-17`; the code of a repeated `linkName` is not documented).
    Exists,
    /// Malformed, which may also be a repeated `linkName`.
    Malformed,
    /// The item or link is not there.
    Gone,
}

/// Reads an answer.
///
/// # Errors
/// The classified failure. `may_have_happened` is set for 5xx and for a 2xx that cannot be read.
pub fn read(heard: Heard<'_>) -> Result<Object, Refused> {
    let (object, markup) = match markup(&heard) {
        Some(markup) => (None, Some(markup)),
        None => (serde_json::from_slice::<Object>(heard.body).ok(), None),
    };
    let code = object.as_ref().and_then(error_code);
    if (200..300).contains(&heard.status) {
        return match (object, markup) {
            (Some(object), _) if code.is_none() => Ok(object),
            (Some(object), _) => Err(by_code(heard, &object, code)),
            (None, Some("HTML")) => Err(bad(
                heard,
                "the provider answered with an HTML page instead of JSON, as it does for sign-in: check base_url and the \
                 account's credentials",
            )),
            (None, Some(_)) => Err(bad(heard, "the provider answered with XML instead of JSON")),
            (None, None) => Err(bad(heard, "the provider's answer is not a JSON object")),
        };
    }
    match (heard.status, object) {
        (400 | 403 | 404 | 409 | 410, Some(object)) => Err(by_code(heard, &object, code)),
        (_, object) => Err(by_status(heard, object.as_ref(), code)),
    }
}

/// A failure whose code, where it is a known one, says more than the status.
fn by_code(heard: Heard<'_>, object: &Object, code: Option<String>) -> Refused {
    use ErrorKind::{Conflict, Forbidden, NotFound};
    let denied =
        object.get("errorKey").and_then(Value::as_str).is_some_and(|key| key.contains("InsufficientPrivilege"));
    let (kind, hint, message) = match code.as_deref() {
        Some("-16") => (NotFound, Hint::Gone, "the item does not exist or is not visible to the account"),
        Some("-17") => (Conflict, Hint::Exists, "the provider says that something of that name exists already"),
        Some("-18") => (Forbidden, Hint::None, "the provider asks for the access code of a protected link"),
        Some("-20") => (Forbidden, Hint::None, NO_PRIVILEGE),
        Some("-26") => (NotFound, Hint::Gone, "the link is invalid or has expired"),
        _ if denied => (Forbidden, Hint::None, NO_PRIVILEGE),
        _ => return by_status(heard, Some(object), code),
    };
    refused(heard, kind, Retry::Never, hint, message.to_owned(), code)
}

const NO_PRIVILEGE: &str =
    "the account may not make public links of this item: it must own the item or have the manager role on it";

fn by_status(heard: Heard<'_>, object: Option<&Object>, code: Option<String>) -> Refused {
    use ErrorKind as Kind;
    let locked = Retry::Sparingly { at_most: 3, at_least: Duration::from_secs(10) };
    let (kind, retry, hint, message) = match heard.status {
        200..300 => (Kind::BadResponse, Retry::Never, Hint::None, "the provider answered with an error in a success"),
        300..400 => (
            Kind::BadResponse,
            Retry::Never,
            Hint::None,
            "the provider redirected the call, as it does to its sign-in page: check base_url and the account's credentials",
        ),
        400 => (Kind::InvalidRequest, Retry::Never, Hint::Malformed, "the provider calls the request malformed"),
        401 => {
            (Kind::Unauthenticated, Retry::Never, Hint::None, "the provider does not accept the account's credentials")
        }
        402 | 403 => (Kind::Forbidden, Retry::Never, Hint::None, NO_PRIVILEGE),
        404 | 410 => {
            (Kind::NotFound, Retry::Never, Hint::Gone, "the item does not exist or is not visible to the account")
        }
        408 => (Kind::TimedOut, Retry::Yes, Hint::None, "the provider gave up waiting for the call"),
        409 => {
            (Kind::Conflict, Retry::Never, Hint::Exists, "the item's state, or a link of that name, stands in the way")
        }
        423 => (Kind::Locked, locked, Hint::None, "the item is locked"),
        425 | 429 => (Kind::RateLimited, Retry::Yes, Hint::None, "the provider asks for fewer calls"),
        501 => (Kind::InvalidRequest, Retry::Never, Hint::None, "the provider does not know this call: check base_url"),
        504 => (Kind::TimedOut, Retry::Yes, Hint::None, "the provider's gateway gave up waiting"),
        500..600 => (Kind::Unavailable, Retry::Yes, Hint::None, "the provider is not working or under maintenance"),
        _ => (Kind::InvalidRequest, Retry::Never, Hint::None, "the provider does not accept the call"),
    };
    let message = said::sentence(message, &object.and_then(told).unwrap_or_default());
    refused(heard, kind, retry, hint, message, code)
}

/// A 2xx without a usable body: whatever was asked for may have been done.
pub fn bad(heard: Heard<'_>, message: &str) -> Refused {
    refused(heard, ErrorKind::BadResponse, Retry::Never, Hint::None, message.to_owned(), None)
}

fn refused(
    heard: Heard<'_>,
    kind: ErrorKind,
    retry: Retry,
    hint: Hint,
    message: String,
    code: Option<String>,
) -> Refused {
    let unreadable = kind == ErrorKind::BadResponse && heard.status < 300;
    let failure = CallFailure {
        failure: Failure::by_provider(
            kind,
            message,
            ProviderSays { http_status: Some(heard.status), code, request_id: heard.ecid.map(said::plain) },
        ),
        retry,
        retry_after: if retry == Retry::Never { None } else { heard.retry_after },
        may_have_happened: unreadable || heard.status >= 500,
    };
    Refused { failure, hint }
}

/// `errorCode` where it is there and not zero. Every example has a string; one schema of Oracle's says number.
fn error_code(object: &Object) -> Option<String> {
    let code = match object.get("errorCode")? {
        Value::Null => return None,
        Value::String(text) => short(text),
        other => short(&other.to_string()),
    };
    (code != "0" && !code.is_empty()).then_some(code)
}

/// The provider's own words, without what they may give away: the titles name users and ids.
fn told(object: &Object) -> Option<String> {
    let text = ["title", "errorMessage"].into_iter().find_map(|name| object.get(name)?.as_str())?;
    // Scrubbed here, before it is cut to length: half an id would not be recognised as one.
    Some(scrub(text))
}

/// A code is a few characters long; whatever else stands in its place is cut.
fn short(text: &str) -> String {
    said::plain(text).chars().take(32).collect()
}

/// Replaces what stands in quotes and every long run of letters and digits (ids have 36 and 44 characters) by `…`.
fn scrub(text: &str) -> String {
    const LONGEST_WORD: usize = 23;
    let mut out = String::new();
    for (at, piece) in text.split('\'').enumerate() {
        // Odd pieces stand in quotes; one that is never closed is cut off too.
        if at % 2 == 1 {
            out.push_str("'…'");
            continue;
        }
        for run in piece.split_inclusive(|c: char| !c.is_alphanumeric()) {
            let word = run.trim_end_matches(|c: char| !c.is_alphanumeric());
            if word.chars().count() > LONGEST_WORD {
                out.push('…');
                out.push_str(run.get(word.len()..).unwrap_or_default());
            } else {
                out.push_str(run);
            }
        }
    }
    out.trim().to_owned()
}

/// Whether the body is markup: by its declared type, else, where none is declared, by its first character.
fn markup(heard: &Heard<'_>) -> Option<&'static str> {
    match heard.content_type.map(str::to_ascii_lowercase) {
        Some(kind) if kind.contains("html") => Some("HTML"),
        Some(kind) if kind.contains("xml") => Some("XML"),
        Some(kind) if kind.contains("json") => None,
        _ => {
            let start = heard.body.trim_ascii_start();
            let is_html = |word: &[u8]| start.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
            if is_html(b"<!doctype html") || is_html(b"<html") {
                Some("HTML")
            } else {
                start.starts_with(b"<").then_some("XML")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JSON: Option<&str> = Some("application/json");

    fn heard(status: u16, content_type: Option<&'static str>, body: &'static str) -> Heard<'static> {
        Heard { status, content_type, body: body.as_bytes(), ..Heard::default() }
    }

    #[test]
    fn the_documented_errors_are_told_apart_by_code_and_give_nothing_away() {
        let missing = heard(404, JSON, include_str!("../../../tests/fixtures/oracle/08-error-not-found-404.json"));
        let missing = read(Heard { ecid: Some("ecid-1"), ..missing }).unwrap_err();
        assert_eq!(missing.hint, Hint::Gone);
        assert_eq!(missing.failure.failure.kind, ErrorKind::NotFound);
        assert_eq!(
            missing.failure.failure.provider,
            ProviderSays {
                http_status: Some(404),
                code: Some("-16".to_owned()),
                request_id: Some("ecid-1".to_owned())
            }
        );
        let denied = include_str!("../../../tests/fixtures/oracle/09-error-insufficient-privilege-403.json");
        let denied = read(heard(403, JSON, denied)).unwrap_err();
        assert_eq!(denied.failure.failure.kind, ErrorKind::Forbidden);
        assert_eq!(denied.failure.failure.provider.code.as_deref(), Some("-20"));
        let shown = format!("{missing:?} {denied:?}");
        for secret in ["User BB", "D574378400573ED9D62B3195T0000000000100000001", "FABCDEF"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    #[test]
    fn each_status_and_code_has_its_kind() {
        use ErrorKind as K;
        let page = "<html><body>Maintenance</body></html>";
        for (status, content_type, body, kind, retries, may_have_happened) in [
            (200, JSON, r#"{"errorCode":"-16"}"#, K::NotFound, false, false),
            (200, JSON, r#"{"errorCode":-20}"#, K::Forbidden, false, false),
            (200, JSON, r#"{"errorCode":"-17"}"#, K::Conflict, false, false),
            (200, JSON, r#"{"errorCode":"-1"}"#, K::BadResponse, false, true),
            (200, JSON, r#"{"errorCode":"abc"}"#, K::BadResponse, false, true),
            (200, JSON, "[]", K::BadResponse, false, true),
            (200, JSON, "", K::BadResponse, false, true),
            (200, JSON, r#"{"linkID":"#, K::BadResponse, false, true),
            (200, Some("text/html; charset=utf-8"), page, K::BadResponse, false, true),
            (200, None, page, K::BadResponse, false, true),
            (200, Some("application/xml"), "<folder/>", K::BadResponse, false, true),
            (302, None, "", K::BadResponse, false, false),
            (400, JSON, r#"{"errorCode":"-1"}"#, K::InvalidRequest, false, false),
            (400, JSON, r#"{"errorCode":"-26"}"#, K::NotFound, false, false),
            (400, JSON, r#"{"errorCode":"-17"}"#, K::Conflict, false, false),
            (400, JSON, "not json", K::InvalidRequest, false, false),
            (401, JSON, r#"{"errorCode":"-16"}"#, K::Unauthenticated, false, false),
            (403, JSON, r#"{"errorCode":"-18"}"#, K::Forbidden, false, false),
            (
                400,
                JSON,
                r#"{"errorCode":"-1","errorKey":"!csX!csCloudItemInsufficientPrivileges,A"}"#,
                K::Forbidden,
                false,
                false,
            ),
            (403, None, page, K::Forbidden, false, false),
            (404, None, "", K::NotFound, false, false),
            (405, None, "", K::InvalidRequest, false, false),
            (408, None, "", K::TimedOut, true, false),
            (409, None, "", K::Conflict, false, false),
            (423, None, "", K::Locked, true, false),
            (429, None, "", K::RateLimited, true, false),
            (500, JSON, r#"{"errorCode":"-1"}"#, K::Unavailable, true, true),
            (500, JSON, r#"{"errorCode":"-16"}"#, K::Unavailable, true, true),
            (501, None, "", K::InvalidRequest, false, true),
            (502, Some("text/html"), page, K::Unavailable, true, true),
            (503, Some("text/html"), page, K::Unavailable, true, true),
            (504, None, "", K::TimedOut, true, true),
            (599, None, "", K::Unavailable, true, true),
        ] {
            let refused = read(heard(status, content_type, body)).unwrap_err();
            assert_eq!(refused.failure.failure.kind, kind, "{status} {body}");
            assert_eq!(refused.failure.retry != Retry::Never, retries, "{status} {body}");
            assert_eq!(refused.failure.may_have_happened, may_have_happened, "{status} {body}");
        }
    }

    #[test]
    fn a_success_has_a_zero_code_as_text_or_number_or_none_at_all() {
        for body in [r#"{"errorCode":"0"}"#, r#"{"errorCode":0}"#, r#"{"errorCode":null}"#, "{}"] {
            assert!(read(heard(200, JSON, body)).is_ok(), "{body}");
            assert!(read(heard(201, None, body)).is_ok(), "{body}");
        }
    }

    #[test]
    fn a_wait_is_kept_only_where_another_attempt_makes_sense() {
        let wait = Some(Duration::from_secs(7));
        for (status, kept) in [(429, wait), (503, wait), (403, None)] {
            let refused = read(Heard { retry_after: wait, ..heard(status, None, "") }).unwrap_err();
            assert_eq!(refused.failure.retry_after, kept, "{status}");
        }
    }

    #[test]
    fn the_providers_words_are_handed_on_without_names_and_ids() {
        let body = r#"{"errorCode":"-90","errorMessage":"Quota of 'User BB' for fFileGUID:D574378400573ED9D62B3195T0000000000100000001 is used up.\n"}"#;
        let refused = read(heard(400, JSON, body)).unwrap_err();
        assert_eq!(
            refused.failure.failure.message,
            "the provider calls the request malformed: Quota of '…' for fFileGUID:… is used up."
        );
    }

    proptest! {
        #[test]
        fn any_answer_is_survived_and_its_words_are_bounded(status in 0_u16..1000, body in "\\PC*", code in "\\PC*", text in "\\PC{0,500}") {
            for body in [body, serde_json::json!({"errorCode": code, "title": text}).to_string()] {
                if let Err(refused) = read(Heard { status, body: body.as_bytes(), ..Heard::default() }) {
                    prop_assert!(refused.failure.failure.message.chars().count() < 500);
                }
            }
        }

        #[test]
        fn no_id_is_left_in_the_providers_words(before in "[a-z ':,]{0,20}", id in "[A-Z0-9]{36,44}", after in "[ ,.:'\"!][a-z ]{0,20}") {
            let shown = scrub(&format!("{before}{id}{after}"));
            prop_assert!(!shown.contains(&id), "{}", shown);
        }
    }
}
