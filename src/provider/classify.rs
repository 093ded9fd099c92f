//! What a refusal of Microsoft Graph or the older OneDrive API means: the kind, whether to try again, and when.
//!
//! Pure. The status decides first and the code second, because codes keep neither one case nor one list; the message
//! is for people and decides nothing.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::http::Answer;
use super::said::sentence;
use crate::model::{ErrorKind, Failure, ProviderSays};
use crate::pipeline::ports::{CallFailure, Retry};

/// The direct OneDrive endpoint says in this header why links cannot be made.
const SHARING_ERROR: &str = "SharePoint-CreateSharingLink-Error";

/// Codes that mean "fewer calls", whatever the status.
const THROTTLED: [&str; 3] = ["throttledRequest", "activityLimitReached", "tooManyRequests"];
/// Codes that mean "somebody has it open".
const LOCKED: [&str; 4] = ["resourceLocked", "lockMismatch", "lockOwnerMismatch", "lockNotFoundOrAlreadyExpired"];

const LOCK_RETRY: Retry = Retry::Sparingly { at_most: 3, at_least: Duration::from_secs(10) };

/// The error body: `{"error": {"code", "message", "innerError": {…}}}`, or whatever came in its place.
#[derive(Default)]
struct Body {
    /// From the outside in; never empty strings.
    codes: Vec<String>,
    message: String,
    request_id: Option<String>,
}

impl Body {
    fn read(body: &[u8]) -> Self {
        let mut read = Self::default();
        let Ok(json) = serde_json::from_slice::<Value>(body) else { return read };
        let mut level = json.get("error");
        // Sign-in services write the code where others write the object.
        if let Some(code) = level.and_then(Value::as_str) {
            read.codes.push(code.to_owned());
        }
        while let Some(error) = level {
            let text = |name: &str| error.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            read.codes.extend(text("code").map(str::to_owned));
            if read.message.is_empty() {
                read.message = text("message").unwrap_or_default().to_owned();
            }
            read.request_id = text("request-id").map(str::to_owned).or(read.request_id);
            // Documentation and recordings differ in the spelling.
            level = error.get("innerError").or_else(|| error.get("innererror"));
        }
        read
    }

    fn says_any(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.iter().any(|known| code.eq_ignore_ascii_case(known)))
    }

    /// The innermost code that is more than a number.
    fn most_detailed(&self) -> Option<&String> {
        let is_word = |code: &&String| !code.chars().all(|each| each.is_ascii_digit());
        self.codes.iter().rev().find(is_word).or(self.codes.first())
    }
}

/// [`classify`] for a whole answer.
pub fn judge(answer: &Answer) -> CallFailure {
    classify(answer.status, &answer.headers, &answer.body, answer.retry_after())
}

/// What an answer that is no success means. `retry_after` is what its header asks for, already read and bounded.
pub fn classify(status: u16, headers: &HeaderMap, body: &[u8], retry_after: Option<Duration>) -> CallFailure {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let body = Body::read(body);
    let (kind, retry, ours) = verdict(status, &body);
    let mut message = sentence(ours, &body.message);
    if let (402 | 403, Some(reason)) = (status, header(SHARING_ERROR)) {
        message = sentence(&message, reason);
    }
    let request_id = header("request-id").or_else(|| header("x-ms-request-id")).map(str::to_owned);
    let provider = ProviderSays {
        http_status: Some(status),
        code: body.most_detailed().map(|code| super::said::plain(code)),
        request_id: request_id.or(body.request_id).map(|id| super::said::plain(&id)),
    };
    CallFailure {
        failure: Failure::by_provider(kind, message, provider),
        retry,
        retry_after: retry_after.filter(|_| retry != Retry::Never),
        may_have_happened: status >= 500 || status == 408,
    }
}

fn verdict(status: u16, body: &Body) -> (ErrorKind, Retry, &'static str) {
    use ErrorKind as Kind;
    const THROTTLE: &str = "the provider asks for fewer calls";
    const LOCK: &str = "the item is locked or checked out";
    if matches!(status, 400 | 402 | 403) && body.says_any(&THROTTLED) {
        return (Kind::RateLimited, Retry::Yes, THROTTLE);
    }
    if matches!(status, 400 | 403) && body.says_any(&["serviceNotAvailable"]) {
        return (Kind::Unavailable, Retry::Yes, "the provider is not available now");
    }
    if matches!(status, 400 | 403 | 404) && body.says_any(&["resourceBeingProvisioned"]) {
        let retry = Retry::Sparingly { at_most: 4, at_least: Duration::from_secs(60) };
        return (Kind::Unavailable, retry, "the drive is still being set up");
    }
    if matches!(status, 403 | 409) && body.says_any(&LOCKED) {
        return (Kind::Locked, LOCK_RETRY, LOCK);
    }
    match status {
        400 => (Kind::InvalidRequest, Retry::Never, "the provider calls the request malformed"),
        401 => (Kind::Unauthenticated, Retry::Never, "the provider does not accept the account's credentials"),
        402 => (Kind::Forbidden, Retry::Never, "the provider wants to be paid for this"),
        403 => (Kind::Forbidden, Retry::Never, "the account may not make this link"),
        404 | 410 => (Kind::NotFound, Retry::Never, "the item does not exist or is not visible to the account"),
        408 | 504 => (Kind::TimedOut, Retry::Yes, "the provider did not answer in time"),
        409 => {
            let retry = Retry::Sparingly { at_most: 2, at_least: Duration::from_secs(1) };
            (Kind::Conflict, retry, "the item's state stands in the way")
        }
        423 => (Kind::Locked, LOCK_RETRY, LOCK),
        424 => (Kind::Unavailable, Retry::Yes, "something that the call depends on failed at the provider"),
        425 | 429 => (Kind::RateLimited, Retry::Yes, THROTTLE),
        _ if (400..500).contains(&status) => {
            (Kind::InvalidRequest, Retry::Never, "the provider does not accept the request")
        }
        500 => {
            let retry = Retry::Sparingly { at_most: 4, at_least: Duration::ZERO };
            (Kind::Unavailable, retry, "the provider failed inside")
        }
        501 => (Kind::InvalidRequest, Retry::Never, "the provider cannot do this"),
        507 => (Kind::Unavailable, Retry::Never, "the storage at the provider is full"),
        509 => {
            let retry = Retry::Sparingly { at_most: 3, at_least: Duration::from_secs(60) };
            (Kind::RateLimited, retry, "the bandwidth at the provider is used up")
        }
        _ if (500..600).contains(&status) => (Kind::Unavailable, Retry::Yes, "the provider is not available now"),
        _ => (Kind::BadResponse, Retry::Never, "the provider's answer makes no sense"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bare(status: u16) -> CallFailure {
        classify(status, &HeaderMap::new(), b"", None)
    }

    fn with_code(status: u16, code: &str) -> CallFailure {
        let body = format!(r#"{{"error":{{"code":"x","innererror":{{"innerError":{{"code":"{code}"}}}}}}}}"#);
        classify(status, &HeaderMap::new(), body.as_bytes(), None)
    }

    #[test]
    fn every_status_has_its_kind_and_its_retry() {
        use ErrorKind::*;
        let sparingly = |at_most, seconds| Retry::Sparingly { at_most, at_least: Duration::from_secs(seconds) };
        for status in 100..=599 {
            let expected = match status {
                401 => (Unauthenticated, Retry::Never),
                402 | 403 => (Forbidden, Retry::Never),
                404 | 410 => (NotFound, Retry::Never),
                408 | 504 => (TimedOut, Retry::Yes),
                409 => (Conflict, sparingly(2, 1)),
                423 => (Locked, sparingly(3, 10)),
                424 => (Unavailable, Retry::Yes),
                425 | 429 => (RateLimited, Retry::Yes),
                _ if (400..500).contains(&status) => (InvalidRequest, Retry::Never),
                500 => (Unavailable, sparingly(4, 0)),
                501 => (InvalidRequest, Retry::Never),
                507 => (Unavailable, Retry::Never),
                509 => (RateLimited, sparingly(3, 60)),
                _ if (500..600).contains(&status) => (Unavailable, Retry::Yes),
                _ => (BadResponse, Retry::Never),
            };
            let failure = bare(status);
            assert_eq!((failure.failure.kind, failure.retry), expected, "{status}");
            assert_eq!(failure.may_have_happened, status >= 500 || status == 408, "{status}");
            assert_eq!(failure.failure.provider.http_status, Some(status));
        }
    }

    #[test]
    fn an_inner_code_at_any_depth_and_in_any_case_corrects_a_misleading_status() {
        let table = [
            (400, "throttledRequest", ErrorKind::RateLimited),
            (403, "ThrottledRequest", ErrorKind::RateLimited),
            (400, "ActivityLimitReached", ErrorKind::RateLimited),
            (400, "serviceNotAvailable", ErrorKind::Unavailable),
            (404, "resourceBeingProvisioned", ErrorKind::Unavailable),
            (403, "resourceLocked", ErrorKind::Locked),
            (409, "lockMismatch", ErrorKind::Locked),
            (404, "throttledRequest", ErrorKind::NotFound),
            (403, "accountUpgradeRequired", ErrorKind::Forbidden),
        ];
        for (status, code, kind) in table {
            let failure = with_code(status, code);
            assert_eq!(failure.failure.kind, kind, "{status} {code}");
            assert_eq!(failure.failure.provider.code.as_deref(), Some(code));
            assert!(failure.retry != Retry::Never || !kind.is_retryable());
        }
    }

    #[test]
    fn recorded_errors_are_read_with_code_message_and_request_id() {
        let read = |status, body: &str| classify(status, &HeaderMap::new(), body.as_bytes(), None).failure;
        let failure = read(400, include_str!("../../tests/fixtures/microsoft/30-error-400-embed-on-business.json"));
        assert!(failure.message.ends_with(": Link type must be either 'edit' or 'view'."), "{}", failure.message);
        assert_eq!(failure.provider.code.as_deref(), Some("invalidRequest"));
        assert_eq!(failure.provider.request_id.as_deref(), Some("99f6c0b2-dae0-4958-bfa6-51100f96ff16"));
        let failure = read(404, include_str!("../../tests/fixtures/microsoft/31-error-404-itemnotfound.json"));
        assert_eq!((failure.kind, failure.provider.code.as_deref()), (ErrorKind::NotFound, Some("itemNotFound")));
        let failure =
            read(403, include_str!("../../tests/fixtures/microsoft/33-error-403-account-upgrade-required.json"));
        assert_eq!(failure.provider.code.as_deref(), Some("accountUpgradeRequired"));
        // An inner code that is only the status again tells less than the outer one.
        let failure = read(429, include_str!("../../tests/fixtures/microsoft/35-error-429-decimal-retry-after.json"));
        assert_eq!(failure.provider.code.as_deref(), Some("TooManyRequests"));
        let failure = read(401, include_str!("../../tests/fixtures/microsoft/42-error-401-token-expired.json"));
        assert_eq!(failure.provider.code.as_deref(), Some("InvalidAuthenticationToken"));
        let batch: Value =
            serde_json::from_str(include_str!("../../tests/fixtures/microsoft/53-batch-200-documented-mix.json"))
                .unwrap();
        for part in batch["responses"].as_array().unwrap().iter().filter(|part| part["status"] != 200) {
            let status = part["status"].as_u64().unwrap() as u16;
            let failure = read(status, &part["body"].to_string());
            assert_eq!(failure.provider.code.is_none(), part["body"]["error"]["code"] == "", "an empty code is none");
            assert!(failure.provider.request_id.is_some());
        }
    }

    #[test]
    fn headers_win_over_the_body_for_the_request_id_and_explain_refused_sharing() {
        let mut headers = HeaderMap::new();
        headers.insert("request-id", "from-header".parse().unwrap());
        headers.insert(SHARING_ERROR, "Sharing by link is not enabled on the web, site, or tenant.".parse().unwrap());
        let failure = classify(403, &headers, br#"{"error":{"innerError":{"request-id":"inner"}}}"#, None).failure;
        assert_eq!(failure.provider.request_id.as_deref(), Some("from-header"));
        assert!(failure.message.ends_with("Sharing by link is not enabled on the web, site, or tenant."));
    }

    #[test]
    fn a_wait_is_kept_only_where_another_attempt_makes_sense() {
        let wait = Some(Duration::from_secs(7));
        let with_wait = |status| classify(status, &HeaderMap::new(), b"", wait).retry_after;
        assert_eq!(with_wait(429), wait);
        assert_eq!(with_wait(503), wait);
        assert_eq!(with_wait(423), wait);
        assert_eq!(with_wait(404), None);
    }

    proptest! {
        #[test]
        fn any_body_is_survived_and_no_message_is_endless(status in 100_u16..600, body in "\\PC{0,400}") {
            let html = classify(status, &HeaderMap::new(), body.as_bytes(), None);
            let json = serde_json::json!({"error": {"code": &body, "message": &body, "innerError": body}}).to_string();
            let json = classify(status, &HeaderMap::new(), json.as_bytes(), None);
            for failure in [html, json] {
                prop_assert!(failure.failure.message.chars().count() < 400);
                prop_assert!(!failure.failure.message.contains(char::is_control));
            }
        }
    }
}
