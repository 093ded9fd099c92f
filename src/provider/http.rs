//! One HTTP exchange: the client, how long it may take, how much of an answer is read, and what its trouble means.
//!
//! No redirect is followed, nothing is sent twice, no body or URL is logged. Any HTTP status but a redirect is an
//! answer; only what kept an answer from coming is a failure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};

use super::retry_after;
use crate::model::{ErrorKind, Failure, ProviderSays};
use crate::pipeline::ports::{CallFailure, Retry};

/// The most that is read of an answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Microsoft serves decorated traffic first: `NONISV|company|application/version`.
const USER_AGENT: &str = concat!("NONISV|sharelink|sharelink/", env!("CARGO_PKG_VERSION"));

/// The client that all accounts share.
///
/// # Errors
/// Where TLS cannot be set up, such as a machine without root certificates.
pub fn client() -> Result<reqwest::Client, String> {
    // Process-wide and once; that another part of the program was first is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(10))
        // Shorter than the idle limits of common front ends, or a connection that they have just closed is used.
        .pool_idle_timeout(Duration::from_secs(20))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .user_agent(USER_AGENT)
        .build()
        .map_err(|error| format!("the HTTP client cannot be set up: {}", chain(&error)))
}

/// The wall clock, for the few places that must compare with a time told by somebody else.
#[allow(clippy::disallowed_methods, reason = "the one place in the shell of the providers that reads the wall clock")]
pub fn wall_clock() -> Timestamp {
    Timestamp::now()
}

/// An answer, whatever its status.
#[derive(Clone)]
pub struct Answer {
    /// HTTP status; never 3xx.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`MAX_ANSWER_BYTES`] long.
    pub body: Bytes,
}

impl fmt::Debug for Answer {
    /// Bodies hold links and headers may hold secrets: only the status is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header as text; `None` where it is missing or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The media type without its parameters, in lower case.
    pub fn content_type(&self) -> Option<String> {
        let value = self.header(CONTENT_TYPE.as_str())?;
        Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
    }

    /// The body as JSON; `None` where it is none. The content type is not asked: providers get it wrong.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The wait that `Retry-After` asks for, measured by the answer's own `Date` where it has one.
    pub fn retry_after(&self) -> Option<Duration> {
        let header = self.header(RETRY_AFTER.as_str())?;
        let date = self.header(DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok());
        let now = date.and_then(|date| Timestamp::try_from(date).ok()).unwrap_or_else(wall_clock);
        retry_after::parse(header, now)
    }
}

/// What is counted of an exchange beside its duration: the HTTP status, or what stood in its place.
pub type Code = std::borrow::Cow<'static, str>;

/// Sends one request and reads its whole answer within `timeout`. The failure comes with the code it is counted under.
pub async fn exchange(request: reqwest::RequestBuilder, timeout: Duration) -> (Code, Result<Answer, CallFailure>) {
    let mut response = match request.timeout(timeout).send().await {
        Ok(response) => response,
        Err(error) => return transport(&error, timeout),
    };
    let status = response.status().as_u16();
    let code = counted(status);
    if (300..400).contains(&status) {
        return (code, Err(redirected(status, response.headers())));
    }
    let announced = response.content_length().unwrap_or(0);
    // Most answers come in one piece, which is taken as it is.
    let mut whole = Bytes::new();
    let mut pieces = BytesMut::new();
    loop {
        if announced > MAX_ANSWER_BYTES as u64 || whole.len().max(pieces.len()) > MAX_ANSWER_BYTES {
            return (code, Err(too_large(status)));
        }
        match response.chunk().await {
            Ok(Some(chunk)) if whole.is_empty() && pieces.is_empty() => whole = chunk,
            Ok(Some(chunk)) => {
                pieces.extend_from_slice(&std::mem::take(&mut whole));
                pieces.extend_from_slice(&chunk);
            }
            Ok(None) => break,
            Err(error) => return transport(&error, timeout),
        }
    }
    let body = if pieces.is_empty() { whole } else { pieces.freeze() };
    (code, Ok(Answer { status, headers: std::mem::take(response.headers_mut()), body }))
}

/// The status as text; the usual ones need no memory.
fn counted(status: u16) -> Code {
    match status {
        200 => "200".into(),
        201 => "201".into(),
        204 => "204".into(),
        429 => "429".into(),
        other => other.to_string().into(),
    }
}

fn transport(error: &reqwest::Error, timeout: Duration) -> (Code, Result<Answer, CallFailure>) {
    let (code, kind, message, may_have_happened) = if error.is_connect() {
        ("connect", ErrorKind::Unavailable, format!("the provider cannot be reached: {}", chain(error)), false)
    } else if error.is_timeout() {
        let message = format!("the provider did not answer within {}", humantime::format_duration(timeout));
        ("timeout", ErrorKind::TimedOut, message, true)
    } else if error.is_builder() {
        let message = format!("the call could not be put together: {}", chain(error));
        return ("connect".into(), Err(CallFailure::final_(Failure::new(ErrorKind::Internal, message))));
    } else {
        ("reset", ErrorKind::Unavailable, format!("the connection to the provider broke: {}", chain(error)), true)
    };
    let failure = Failure::new(kind, message);
    (code.into(), Err(CallFailure { failure, retry: Retry::Yes, retry_after: None, may_have_happened }))
}

/// The innermost cause of an error, without the URL, which holds item ids.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if cause.is::<reqwest::Error>() { "no cause is known".to_owned() } else { cause.to_string() }
}

fn redirected(status: u16, headers: &HeaderMap) -> CallFailure {
    let target = headers.get(LOCATION).and_then(|location| location.to_str().ok());
    let host = target.and_then(|target| url::Url::parse(target).ok()).and_then(|url| url.host_str().map(str::to_owned));
    let to = host.map(|host| format!(" to {host}")).unwrap_or_default();
    bad_response(status, format!("the provider answered with a redirect{to}, which is not followed; check `base_url`"))
}

fn too_large(status: u16) -> CallFailure {
    bad_response(status, format!("the provider's answer is larger than {MAX_ANSWER_BYTES} bytes"))
}

/// A `badResponse` that is never tried again; the provider may have done the work all the same.
pub fn bad_response(status: u16, message: impl Into<String>) -> CallFailure {
    let provider = ProviderSays { http_status: Some(status), ..ProviderSays::default() };
    CallFailure {
        failure: Failure::by_provider(ErrorKind::BadResponse, message, provider),
        retry: Retry::Never,
        retry_after: None,
        may_have_happened: true,
    }
}

/// A header value that does not show in debug output.
///
/// # Errors
/// Where the text cannot stand in a header. The text is not repeated: it is a secret.
pub fn secret_header(text: &str) -> Result<Arc<reqwest::header::HeaderValue>, String> {
    let mut value = reqwest::header::HeaderValue::from_str(text)
        .map_err(|_| "holds a character that cannot stand in an HTTP header, such as a line break".to_owned())?;
    value.set_sensitive(true);
    Ok(Arc::new(value))
}
