//! The nouns: what a request, a link, a failure and a reply are.
//!
//! Nothing in here does I/O, reads a clock or rolls dice, and nothing in here imports another module of this crate.

mod delivery;
mod failure;
mod link;
mod reply;
mod request;
mod secret;
pub mod time;

pub use delivery::{Envelope, Properties, Trace, Travel};
pub use failure::{ErrorKind, Failure, ProviderSays};
pub use link::{Asked, Audience, Comparison, Difference, Granted, History, LinkOutcome, Made};
pub use reply::{Reply, Status};
pub use request::ShareRequest;
pub use secret::Secret;

/// A JSON object as it came from, or goes to, a message or a provider.
pub type Object = serde_json::Map<String, serde_json::Value>;
