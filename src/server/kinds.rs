//! What each kind of failure means, pure: the words beside a kind on the page.

use crate::model::ErrorKind;

/// What a kind means; nothing where it is not known here.
pub fn meaning(kind: &str) -> &'static str {
    named(kind).map_or("", |kind| match kind {
        ErrorKind::InvalidRequest => "the request is malformed",
        ErrorKind::UnknownProvider => "the request names an account that is not configured",
        ErrorKind::Unsupported => "the provider cannot make such a link",
        ErrorKind::PolicyRefused => "the policy does not allow such a link",
        ErrorKind::Unauthenticated => "the account’s credentials are wrong or expired",
        ErrorKind::Forbidden => "the account may not share the item",
        ErrorKind::NotFound => "the item is not there, or not visible to the account",
        ErrorKind::Conflict => "the item’s state or another link stands in the way",
        ErrorKind::Locked => "the item is locked",
        ErrorKind::RateLimited => "the provider asked for fewer calls until the attempts were used up",
        ErrorKind::Unavailable => "the provider does not work, or cannot be reached",
        ErrorKind::TimedOut => "the provider did not answer in time",
        ErrorKind::DeadlineExceeded => "the request’s deadline passed before there was a link",
        ErrorKind::WiderThanAsked => "the provider gave more than was asked for",
        ErrorKind::BadResponse => "the provider’s answer makes no sense",
        ErrorKind::Internal => "a fault of sharelink’s own",
    })
}

/// Whether a kind is for whoever runs the worker to mend. One that is not known here is.
pub fn is_ours(kind: &str) -> bool {
    named(kind).is_none_or(ErrorKind::is_ours)
}

fn named(kind: &str) -> Option<ErrorKind> {
    ErrorKind::ALL.into_iter().find(|known| known.as_str() == kind)
}
