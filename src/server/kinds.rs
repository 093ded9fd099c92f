//! What each kind of failure means and whose business it is, pure: the words beside a kind on the page.

/// Who has to do something about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Business {
    /// Whoever sent the request.
    Requester,
    /// Whoever runs this worker, or its provider.
    Ours,
}

/// What a kind means, and whose business it is. A kind that is not known here is ours.
pub fn meaning(kind: &str) -> (&'static str, Business) {
    use Business::{Ours, Requester};
    match kind {
        "invalidRequest" => ("the request is malformed", Requester),
        "unknownProvider" => ("the request names an account that is not configured", Requester),
        "unsupported" => ("the provider cannot make such a link", Requester),
        "policyRefused" => ("the policy does not allow such a link", Requester),
        "unauthenticated" => ("the account’s credentials are wrong or expired", Ours),
        "forbidden" => ("the account may not share the item", Requester),
        "notFound" => ("the item is not there, or not visible to the account", Requester),
        "conflict" => ("the item’s state or another link stands in the way", Requester),
        "locked" => ("the item is locked", Requester),
        "rateLimited" => ("the provider asked for fewer calls until the attempts were used up", Ours),
        "unavailable" => ("the provider does not work, or cannot be reached", Ours),
        "timedOut" => ("the provider did not answer in time", Ours),
        "deadlineExceeded" => ("the request’s deadline passed before there was a link", Ours),
        "widerThanAsked" => ("the provider gave more than was asked for", Ours),
        "badResponse" => ("the provider’s answer makes no sense", Ours),
        "internal" => ("a fault of sharelink’s own", Ours),
        _ => ("", Ours),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    #[test]
    fn every_kind_has_its_words() {
        for kind in ErrorKind::ALL {
            assert!(!meaning(kind.as_str()).0.is_empty(), "{}", kind.as_str());
        }
    }
}
