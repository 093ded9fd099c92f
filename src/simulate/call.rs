//! A provider call as read from HTTP: which API, which path, who. Pure.

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

/// An API that the simulator plays, in the order of its mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mount {
    /// Microsoft Graph: `/graph/v1.0`
    Graph,
    /// The older OneDrive API: `/onedrive/v1.0`
    OneDrive,
    /// Oracle Content Management: `/documents/api/{1.1|1.2}`
    Oracle,
}

impl Mount {
    /// Every API.
    pub const ALL: [Mount; 3] = [Self::Graph, Self::OneDrive, Self::Oracle];

    /// The word in statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::OneDrive => "onedrive",
            Self::Oracle => "oracle",
        }
    }

    /// Finds the API by the first segments of a path; the rest is the path in it.
    pub fn find<'a, 'p>(segments: &'a [&'p str]) -> Option<(Self, &'a [&'p str])> {
        match segments {
            ["graph", "v1.0" | "beta", rest @ ..] => Some((Self::Graph, rest)),
            ["onedrive", "v1.0", rest @ ..] => Some((Self::OneDrive, rest)),
            ["documents", "api", "1.1" | "1.2", rest @ ..] => Some((Self::Oracle, rest)),
            _ => None,
        }
    }
}

/// Who says to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// No or an unreadable `Authorization`.
    None,
    /// A bearer token.
    Bearer(String),
    /// A name and a password.
    Basic {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path's segments, percent-decoded; `None` where they are not UTF-8.
    pub segments: Option<Vec<String>>,
    /// `Authorization`
    pub credential: Credential,
    /// Whether `Content-Type` is JSON.
    pub is_json: bool,
    /// Whether `Accept` asks for no `@odata` members.
    pub plain_json: bool,
    /// `client-request-id`, which Graph echoes.
    pub client_request_id: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Call {
    /// Reads a call.
    pub fn read(method: Method, path: &str, headers: &HeaderMap, body: Vec<u8>) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let content_type = text(CONTENT_TYPE.as_str()).unwrap_or_default().to_ascii_lowercase();
        let accept = text(ACCEPT.as_str()).unwrap_or_default().to_ascii_lowercase();
        Self {
            method,
            segments: segments(path),
            credential: credential(text(AUTHORIZATION.as_str()).as_deref()),
            is_json: content_type.split(';').next().is_some_and(|kind| kind.trim() == "application/json"),
            plain_json: accept.contains("odata.metadata=none"),
            client_request_id: text("client-request-id"),
            body,
        }
    }
}

fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').map(|segment| percent_decode_str(segment).decode_utf8().ok().map(Into::into)).collect()
}

fn credential(header: Option<&str>) -> Credential {
    let Some((scheme, rest)) = header.and_then(|header| header.split_once(' ')) else { return Credential::None };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
        return Credential::Bearer(rest.to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((name, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
            return Credential::Basic { name: name.to_owned(), password: password.to_owned() };
        }
    }
    Credential::None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_one_by_one_so_an_encoded_slash_stays_in_its_segment() {
        assert_eq!(segments("/a%2Fb/c%20d/%23"), Some(vec!["a/b".to_owned(), "c d".to_owned(), "#".to_owned()]));
        assert_eq!(segments("/a/%FF"), None);
    }

    #[test]
    fn credentials_are_read_whatever_the_case_of_the_scheme() {
        assert_eq!(credential(Some("bearer abc")), Credential::Bearer("abc".to_owned()));
        let basic = Credential::Basic { name: "ada".to_owned(), password: "a:b".to_owned() };
        assert_eq!(credential(Some("BASIC YWRhOmE6Yg==")), basic);
        for unreadable in [None, Some("Bearer"), Some("Bearer "), Some("Basic %%%"), Some("Digest x")] {
            assert_eq!(credential(unreadable), Credential::None, "{unreadable:?}");
        }
    }
}
