//! Reads single members of `item` and `link`, each refusal naming the member and what it must be.
//!
//! Pure. No value is repeated in a refusal: it may be a password.

use serde_json::Value;

use crate::model::{Failure, Object};
use crate::provider::said::plain;

/// Refuses the first member that is none of the known ones, by its name.
pub fn refuse_unknown(place: &str, object: &Object, known: &[&[&str]]) -> Result<(), Failure> {
    match object.keys().find(|name| !known.iter().any(|names| names.contains(&name.as_str()))) {
        Some(name) => {
            let name = plain(name);
            let all = known.concat().join(", ");
            Err(Failure::invalid(format!("`{place}.{name}` is not known; known are {all}")))
        }
        None => Ok(()),
    }
}

/// A member that must be a string where it is given.
pub fn string<'a>(place: &str, object: &'a Object, name: &str) -> Result<Option<&'a str>, Failure> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Failure::invalid(format!("`{place}.{name}` must be a string; leave it out to ask for nothing"))),
    }
}

/// A member of `link` that must be a string with something in it.
pub fn non_empty<'a>(link: &'a Object, name: &str) -> Result<Option<&'a str>, Failure> {
    match string("link", link, name)? {
        Some("") => Err(Failure::invalid(format!("`link.{name}` must not be empty"))),
        other => Ok(other),
    }
}

/// A member of `link` that must be true or false.
pub fn boolean(link: &Object, name: &str) -> Result<Option<bool>, Failure> {
    match link.get(name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Failure::invalid(format!("`link.{name}` must be true or false"))),
    }
}
