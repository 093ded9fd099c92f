//! A sharing link: what was asked in neutral terms, what was granted, and how the two compare.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::Object;

/// Who a link is for, in terms that hold for every provider. The order is from narrow to wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Named people.
    Users,
    /// Everybody with an account in the organisation.
    Organization,
    /// Everybody who has the link.
    Anonymous,
}

impl Audience {
    /// The contract's word for it (`allow_scopes`).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Organization => "organization",
            Self::Anonymous => "anonymous",
        }
    }
}

/// What a request asks for, in neutral terms: all that a policy needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The provider's own word for the type or role (`view`, `downloader`).
    pub own_type: String,
    /// The neutral word, where it differs from the provider's own (`viewer` is a `view`).
    pub neutral_type: &'static str,
    /// Who the link is for; `None` where the request leaves it to the provider.
    pub audience: Option<Audience>,
    /// When the link is to end; `None` for never.
    pub expires: Option<Timestamp>,
    /// Whether a password was asked for.
    pub has_password: bool,
}

/// Whether the link was made by this call or was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Made {
    /// Made by this call.
    Created,
    /// There before; handed out again.
    Reused,
}

/// A link as the provider says it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// The provider's id of the link (permission id, linkID).
    pub id: String,
    /// The address to hand out.
    pub url: String,
    /// HTML to put into a page; embed links only.
    pub html: Option<String>,
    /// What the provider says it gave, in its own member names.
    pub granted: Object,
}

/// One member in which asked and granted differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The member's name in the provider's own terms.
    pub member: String,
    /// What the request asked for; `null` where it asked for nothing.
    pub asked: Value,
    /// What the provider gave; `null` where it gave nothing.
    pub granted: Value,
}

/// How a granted link differs from the asked one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Differences that make the link narrower: told as warnings.
    pub narrower: Vec<Difference>,
    /// Differences that make the link wider: it must not be handed out.
    pub wider: Vec<Difference>,
}

/// What a provider answers when it was asked to ensure a link.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkOutcome {
    /// The link.
    pub link: Granted,
    /// Created or reused.
    pub made: Made,
    /// Asked against granted.
    pub comparison: Comparison,
}

/// Whether an earlier attempt at the same request may already have made the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Nothing was tried before.
    Fresh,
    /// A delivery, or a call whose outcome is not known, came before: look before making another.
    MayHaveHappened,
}
