//! Secrets: given in place, or as `…_file`, the path of a file that holds them.
//!
//! Invariant: no message shows what a secret is; a message about a file shows its path only.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::model::Secret;

use super::problems::Place;
use super::reader::{Found, Given, Section};
use super::tree::Value;

/// Larger files hold no secret; the limit keeps a wrong path such as `/dev/zero` from filling the memory.
const LARGEST: u64 = 64 * 1024;

/// The end of a key whose value is the path of a file.
const FILE: &str = "_file";

impl Section<'_, '_> {
    /// A secret, from `key` or `key_file`; `None` where it is absent or wrong.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        let (name, found) = self.pick(&[key])?;
        let text = self.secret_text(&name, found)?;
        match plausible(&text.value) {
            Ok(()) => Some(Secret::new(text.value)),
            Err(reason) => {
                self.wrong(&text.place, &name, format!("{} {reason}", text.called));
                None
            }
        }
    }

    /// A secret that must be there.
    pub(super) fn required_secret(&mut self, key: &str) -> Option<Secret> {
        let file = format!("{key}{FILE}");
        if self.find(key).is_none() && self.find(&file).is_none() {
            self.missing(&file, &format!("{file} = \"/run/secrets/{key}\""));
        }
        self.secret(key)
    }

    /// The one of several secrets that is given, in place or as a file, under the name it is given by. What the
    /// environment gives hides what the file gives; two in the same layer are a mistake.
    pub(super) fn pick(&mut self, keys: &[&str]) -> Option<(String, Found)> {
        let mut given: Vec<(String, Found)> = Vec::new();
        for name in keys.iter().flat_map(|&key| [key.to_owned(), format!("{key}{FILE}")]) {
            if let Some(found) = self.find(&name) {
                given.push((name, found));
            }
        }
        let from_environment = |(_, found): &(String, Found)| matches!(found.given, Given::Raw(_));
        if given.iter().any(from_environment) {
            given.retain(from_environment);
        }
        given.sort_by(|(_, a), (_, b)| a.place.cmp(&b.place));
        let mut given = given.into_iter();
        let first = given.next()?;
        let mut alone = true;
        for (name, found) in given {
            self.wrong(
                &found.place,
                &name,
                format!("{} is given as well, at {}; keep one of them", first.0, first.1.place),
            );
            alone = false;
        }
        alone.then_some(first)
    }

    /// The text of what [`Section::pick`] found, from the file it names where it names one.
    pub(super) fn secret_text(&mut self, name: &str, found: Found) -> Option<SecretText> {
        let place = found.place;
        let text = match found.given {
            Given::Raw(text) | Given::Typed(Value::Text(text)) => text,
            Given::Typed(value) => {
                self.wrong(&place, name, format!("{} is not allowed; give a string in quotes", value.kind()));
                return None;
            }
        };
        if !name.ends_with(FILE) {
            return Some(SecretText { value: text, called: "the value".to_owned(), place });
        }
        if text.is_empty() {
            self.wrong(&place, name, "the path is empty; give the path of a file");
            return None;
        }
        // A broker's URL put where its file belongs has a password in it.
        if text.contains("://") {
            self.wrong(&place, name, "the value is an address and no path; give the path of the file that holds it");
            return None;
        }
        let called = format!("the content of {text:?}");
        match (self.reader.read_file)(Path::new(&text)) {
            Ok(content) => {
                let content = content.strip_suffix('\n').unwrap_or(&content);
                let value = content.strip_suffix('\r').unwrap_or(content).to_owned();
                Some(SecretText { value, called, place })
            }
            Err(reason) => {
                self.wrong(&place, name, format!("the file {text:?} {reason}"));
                None
            }
        }
    }
}

/// A secret that was found and not yet checked.
pub(super) struct SecretText {
    /// The secret itself: not for messages.
    pub(super) value: String,
    /// What a message calls it.
    pub(super) called: String,
    /// Where it, or the path of its file, was written.
    pub(super) place: Place,
}

/// Secrets travel in headers and forms; one that is empty or has control characters was cut or pasted wrongly.
fn plausible(text: &str) -> Result<(), &'static str> {
    if text.trim().is_empty() {
        return Err("is empty");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a line break or control character; give the secret alone, on one line");
    }
    Ok(())
}

/// Reads a file of configuration or of a secret whole, or says in words why not.
pub(super) fn read_small_file(path: &Path, largest: u64) -> Result<String, String> {
    let unreadable = |reason: std::io::Error| match reason.kind() {
        std::io::ErrorKind::NotFound => "does not exist; create it or correct the path".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user; correct its permissions".to_owned(),
        std::io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => format!("cannot be read: {reason}"),
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    let read = file.take(largest + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > largest {
        return Err(format!("is larger than {largest} bytes; name the right file"));
    }
    Ok(text)
}

/// [`read_small_file`] for a secret.
pub(super) fn read_secret_file(path: &Path) -> Result<String, String> {
    read_small_file(path, LARGEST)
}
