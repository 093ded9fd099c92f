//! `[policy]` and `[providers.NAME.policy]`: what links may be asked for.
//!
//! Invariant: each key of a provider's policy replaces the global one by itself; what neither gives refuses nothing.

use std::time::Duration;

use crate::model::Audience;

use super::Policy;
use super::parse::one_of;
use super::reader::Section;
use super::suggest::closest;

/// The neutral words and every provider's own, as the contract's section 1 lists them.
const TYPES: [&str; 11] = [
    "view",
    "edit",
    "embed",
    "review",
    "blocksDownload",
    "createOnly",
    "addressBar",
    "adminDefault",
    "viewer",
    "downloader",
    "contributor",
];

/// Reads a policy over the one that holds where it says nothing.
pub(super) fn read(section: &mut Section<'_, '_>, base: &Policy) -> Policy {
    let scopes = [Audience::Anonymous, Audience::Organization, Audience::Users];
    let year = Duration::from_secs(365 * 24 * 3600);
    Policy {
        allow_types: words(section, "allow_types", &TYPES).or_else(|| base.allow_types.clone()),
        allow_scopes: words(section, "allow_scopes", &scopes.map(Audience::as_str))
            .map(|words| scopes.into_iter().filter(|scope| words.iter().any(|word| word == scope.as_str())).collect())
            .or_else(|| base.allow_scopes.clone()),
        max_expiry: section.duration("max_expiry", Duration::from_secs(1)..=year * 100).or(base.max_expiry),
        require_expiry: section.flag("require_expiry", base.require_expiry),
        require_password: section.flag("require_password", base.require_password),
    }
}

/// A list of known words, of at least one.
fn words(section: &mut Section<'_, '_>, key: &str, known: &[&'static str]) -> Option<Vec<String>> {
    let (words, place) = section.list(key)?;
    if words.is_empty() {
        section.wrong(&place, key, "an empty list would refuse every link; name at least one, or leave the key out");
    }
    for word in words.iter().filter(|word| !known.contains(&word.as_str())) {
        let hint =
            closest(word, known.iter().copied()).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        let known = one_of(known.iter().copied());
        section.wrong(&place, key, format!("{word:?} is not allowed{hint} (known: {known})"));
    }
    Some(words)
}
