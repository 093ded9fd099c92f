//! Why a request failed: the closed list of kinds, and what the requester is told beside it.

use serde::Serialize;

/// The kinds of failure of the contract. The wire word of each is its name in camel case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ErrorKind {
    /// The request is not JSON, has a wrong shape, or the provider calls it malformed.
    InvalidRequest,
    /// No provider of that name is configured.
    UnknownProvider,
    /// An option that this provider or API cannot do; found before any call.
    Unsupported,
    /// The configured policy does not allow such a link.
    PolicyRefused,
    /// The account's credentials are missing, wrong or expired.
    Unauthenticated,
    /// The account may not do this.
    Forbidden,
    /// The item does not exist or is not visible to the account.
    NotFound,
    /// The item's state, or a link that exists, stands in the way.
    Conflict,
    /// The item is locked or checked out.
    Locked,
    /// The provider asked for fewer calls.
    RateLimited,
    /// The provider could not be reached or is not working.
    Unavailable,
    /// The provider did not answer in time.
    TimedOut,
    /// The request's own deadline has passed.
    DeadlineExceeded,
    /// The provider gave more than was asked for.
    WiderThanAsked,
    /// The provider's answer makes no sense.
    BadResponse,
    /// A fault of sharelink's own.
    Internal,
}

impl ErrorKind {
    /// Every kind, in the contract's order.
    pub const ALL: [ErrorKind; 16] = [
        Self::InvalidRequest,
        Self::UnknownProvider,
        Self::Unsupported,
        Self::PolicyRefused,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Locked,
        Self::RateLimited,
        Self::Unavailable,
        Self::TimedOut,
        Self::DeadlineExceeded,
        Self::WiderThanAsked,
        Self::BadResponse,
        Self::Internal,
    ];

    /// The word on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalidRequest",
            Self::UnknownProvider => "unknownProvider",
            Self::Unsupported => "unsupported",
            Self::PolicyRefused => "policyRefused",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "notFound",
            Self::Conflict => "conflict",
            Self::Locked => "locked",
            Self::RateLimited => "rateLimited",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timedOut",
            Self::DeadlineExceeded => "deadlineExceeded",
            Self::WiderThanAsked => "widerThanAsked",
            Self::BadResponse => "badResponse",
            Self::Internal => "internal",
        }
    }

    /// Whether sending the same request again later can help.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Locked | Self::RateLimited | Self::Unavailable | Self::TimedOut)
    }

    /// Whether it is for whoever runs this worker, or its provider, to do something about it; else it is the requester's.
    pub fn is_ours(self) -> bool {
        match self {
            Self::Unauthenticated
            | Self::RateLimited
            | Self::Unavailable
            | Self::TimedOut
            | Self::DeadlineExceeded
            | Self::WiderThanAsked
            | Self::BadResponse
            | Self::Internal => true,
            Self::InvalidRequest
            | Self::UnknownProvider
            | Self::Unsupported
            | Self::PolicyRefused
            | Self::Forbidden
            | Self::NotFound
            | Self::Conflict
            | Self::Locked => false,
        }
    }
}

/// What the provider itself said about a failure; each member only where there was one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderSays {
    /// HTTP status of the answer.
    pub http_status: Option<u16>,
    /// The provider's own error code (`itemNotFound`, `-16`).
    pub code: Option<String>,
    /// The id under which the provider's support finds the call.
    pub request_id: Option<String>,
}

/// A shorter secret would tear holes into ordinary words. Bytes.
const SHORTEST_COVERED: usize = 4;

/// A failure as the requester is told: one kind, one sentence, and what the provider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: ErrorKind,
    /// One sentence for a person. Never holds a secret.
    pub message: String,
    /// What the provider said.
    pub provider: ProviderSays,
    /// Every attempt that was allowed has been made; another day may be luckier.
    pub exhausted: bool,
}

impl Failure {
    /// Whether sending the same request again later can help.
    pub fn is_retryable(&self) -> bool {
        self.exhausted || self.kind.is_retryable()
    }

    /// Covers a secret wherever somebody else's words repeat it.
    pub fn cover(&mut self, secret: &str) {
        if secret.len() < SHORTEST_COVERED {
            return;
        }
        let said = &mut self.provider;
        for text in [Some(&mut self.message), said.code.as_mut(), said.request_id.as_mut()].into_iter().flatten() {
            if text.contains(secret) {
                *text = text.replace(secret, "…");
            }
        }
    }

    /// A failure that no provider was asked about.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), provider: ProviderSays::default(), exhausted: false }
    }

    /// A failure with what the provider said of it.
    pub fn by_provider(kind: ErrorKind, message: impl Into<String>, provider: ProviderSays) -> Self {
        Self { provider, ..Self::new(kind, message) }
    }

    /// `invalidRequest`, with the sentence that names the member.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// `unsupported`, with the sentence that names the member.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_written_on_the_wire_as_its_own_word() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).ok(), Some(serde_json::Value::from(kind.as_str())));
        }
    }

    #[test]
    fn only_kinds_that_time_can_heal_are_retryable() {
        let retryable: Vec<_> =
            ErrorKind::ALL.into_iter().filter(|kind| kind.is_retryable()).map(ErrorKind::as_str).collect();
        assert_eq!(retryable, ["locked", "rateLimited", "unavailable", "timedOut"]);
    }
}
