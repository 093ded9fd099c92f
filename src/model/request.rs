//! A share request as decoded: the envelope's members are checked, `item` and `link` are still the provider's business.

use jiff::Timestamp;

use super::Object;

/// A share request. `item` and `link` are kept in the provider's own terms; only the provider can read them.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareRequest {
    /// The request's id: its own, else the message's, else the correlation id, else a fresh UUID.
    pub id: String,
    /// The provider account asked for; `None` where the request leaves it to the only one there is.
    pub provider: Option<String>,
    /// Which item.
    pub item: Object,
    /// Which link.
    pub link: Object,
    /// Past it no call is made.
    pub deadline: Option<Timestamp>,
}
