//! An HTTP answer as data, and the faults that both dialects answer alike. Pure.

use axum::http::StatusCode;
use serde_json::Value;

/// The size of the body of a `huge` answer in bytes.
pub const HUGE: usize = 2 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Names and values; a value that is no legal header value is not sent.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What is wrong with a call, in its dialect's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status.
    pub status: StatusCode,
    /// The dialect's error code.
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

impl Refused {
    /// A refusal.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A JSON answer.
    pub fn json(status: StatusCode, content_type: &str, body: &Value) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: body.to_string().into_bytes() }
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// An HTML page.
    pub fn html(status: StatusCode, title: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type", "text/html; charset=utf-8".to_owned())],
            body: format!(
                "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
            )
            .into_bytes(),
        }
    }

    /// Syntactically whole JSON that nobody should read to its end.
    pub fn huge(content_type: &str) -> Self {
        let mut body = br#"{"padding":""#.to_vec();
        body.resize(HUGE - 2, b'x');
        body.extend_from_slice(br#""}"#);
        Self { status: StatusCode::OK, headers: vec![("content-type", content_type.to_owned())], body }
    }

    /// JSON that breaks off.
    pub fn garbage(content_type: &str) -> Self {
        let body = br#"{"id": "123ABC", "link": {"type": "vi"#.to_vec();
        Self { status: StatusCode::OK, headers: vec![("content-type", content_type.to_owned())], body }
    }

    /// A redirect to the sign-in page.
    pub fn redirect() -> Self {
        Self::empty(StatusCode::FOUND).with("location", super::page::SIGN_IN)
    }
}
