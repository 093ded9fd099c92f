//! Typed reads: each key is declared once, by the call that reads it with its kind, default and allowed values.
//!
//! Invariant: a read never fails. It records its mistake and goes on, so that one run finds them all; a value that
//! stands in for a wrong one never leaves [`super::load`], because a recorded mistake refuses the whole configuration.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::parse;
use super::problems::{Place, Problem};
use super::tree::{Layers, Value, list_from_text, variable_name};

/// How secret files are read: the text, or what is wrong in words.
pub(super) type ReadFile<'f> = &'f dyn Fn(&Path) -> Result<String, String>;

/// The layers, and everything learned while reading them.
pub(super) struct Reader<'f> {
    pub(super) layers: Layers,
    pub(super) read_file: ReadFile<'f>,
    /// Every key that was asked for: the known keys.
    pub(super) asked: BTreeSet<Vec<String>>,
    /// Sections that exist even where no key in them was asked for.
    pub(super) sections: BTreeSet<Vec<String>>,
    /// Sections in which unknown keys cannot be told, because what decides on them is itself wrong or not needed.
    pub(super) unjudged: Vec<Vec<String>>,
    /// What decides which keys a section has, such as `method = "basic"`.
    pub(super) conditions: Vec<(Vec<String>, String)>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl<'f> Reader<'f> {
    /// A reader over layers that are complete.
    pub(super) fn new(layers: Layers, read_file: ReadFile<'f>) -> Self {
        Self {
            layers,
            read_file,
            asked: BTreeSet::new(),
            sections: BTreeSet::new(),
            unjudged: Vec::new(),
            conditions: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A section to read from.
    pub(super) fn section(&mut self, path: &[&str]) -> Section<'_, 'f> {
        let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
        self.sections.insert(path.clone());
        Section { reader: self, path }
    }
}

/// A value with its place, before it has a kind.
pub(super) struct Found {
    /// Where it was written.
    pub(super) place: Place,
    pub(super) given: Given,
}

/// What was written.
pub(super) enum Given {
    /// A variable's text, to be read as whatever kind is wanted.
    Raw(String),
    /// The file's value, whose kind must be the wanted one.
    Typed(Value),
}

/// One table of the configuration.
pub(super) struct Section<'r, 'f> {
    pub(super) reader: &'r mut Reader<'f>,
    pub(super) path: Vec<String>,
}

impl<'f> Section<'_, 'f> {
    /// A table inside this one.
    pub(super) fn inner(&mut self, name: &str) -> Section<'_, 'f> {
        let path = self.path_of(name);
        self.reader.sections.insert(path.clone());
        Section { reader: self.reader, path }
    }

    pub(super) fn path_of(&self, key: &str) -> Vec<String> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        path
    }

    /// Notes that the key is known, and looks in the environment, then in the file.
    pub(super) fn find(&mut self, key: &str) -> Option<Found> {
        let path = self.path_of(key);
        let layers = &self.reader.layers;
        let found = match layers.variable(&path) {
            Some(set) => Some(Found { place: Place::Variable(set.name.clone()), given: Given::Raw(set.text.clone()) }),
            None => layers
                .entry(&path)
                .map(|entry| Found { place: layers.line(Some(entry.line)), given: Given::Typed(entry.value.clone()) }),
        };
        self.reader.asked.insert(path);
        found
    }

    /// Where a key is given; where it should be, if it is not.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let path = self.path_of(key);
        let layers = &self.reader.layers;
        match (layers.variable(&path), layers.entry(&path)) {
            (Some(set), _) => Place::Variable(set.name.clone()),
            (None, entry) => layers.line(entry.or(layers.entry(&self.path)).map(|entry| entry.line)),
        }
    }

    /// Records a mistake.
    pub(super) fn wrong(&mut self, place: &Place, key: &str, text: impl Into<String>) {
        let problem = self.remark(place, key, text);
        self.reader.problems.push(problem);
    }

    /// Records something that is allowed and should be known.
    pub(super) fn warn(&mut self, place: &Place, key: &str, text: impl Into<String>) {
        let problem = self.remark(place, key, text);
        self.reader.warnings.push(problem);
    }

    fn remark(&self, place: &Place, key: &str, text: impl Into<String>) -> Problem {
        let path = if key.is_empty() { self.path.clone() } else { self.path_of(key) };
        Problem { place: place.clone(), key: dotted(&path), text: text.into() }
    }

    /// Records that a key is needed. The example is a line of TOML.
    pub(super) fn missing(&mut self, key: &str, example: &str) {
        let section = dotted(&self.path);
        let file = match &self.reader.layers.file {
            Some(name) => format!("in {}", name.escape_debug()),
            None => "of a file given with --config".to_owned(),
        };
        let place = self.place_of(key);
        let variable = variable_name(&self.path_of(key));
        self.wrong(&place, key, format!("missing; write {example} under [{section}] {file}, or set {variable}"));
    }

    fn wrong_kind(&mut self, found: &Found, key: &str, wanted: &str) {
        let given = match &found.given {
            Given::Raw(text) => format!("{text:?}"),
            Given::Typed(value) => value.kind().to_owned(),
        };
        self.wrong(&found.place, key, format!("{given} is not allowed; give {wanted}"));
    }

    /// A text; `None` where it is absent or wrong.
    pub(super) fn text(&mut self, key: &str) -> Option<(String, Place)> {
        let found = self.find(key)?;
        match found.given {
            Given::Raw(text) | Given::Typed(Value::Text(text)) => Some((text, found.place)),
            Given::Typed(_) => {
                self.wrong_kind(&found, key, "a string in quotes");
                None
            }
        }
    }

    /// A text that must be there and not empty.
    pub(super) fn required_text(&mut self, key: &str, example: &str) -> Option<String> {
        if self.find(key).is_none() {
            self.missing(key, example);
        }
        self.filled_text(key)
    }

    /// A text that is not empty, if it is there.
    pub(super) fn filled_text(&mut self, key: &str) -> Option<String> {
        let (text, place) = self.text(key)?;
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            self.wrong(&place, key, "it must not be empty or hold control characters");
        }
        Some(text)
    }

    /// A whole number.
    pub(super) fn integer<T>(&mut self, key: &str, default: T, allowed: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let Some(found) = self.find(key) else { return default };
        let wanted = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        let number = match &found.given {
            Given::Raw(text) => text.trim().parse().ok(),
            Given::Typed(Value::Integer(Some(number))) => Some(*number),
            Given::Typed(_) => None,
        };
        match (number, number.and_then(|number| T::try_from(number).ok()).filter(|number| allowed.contains(number))) {
            (_, Some(number)) => return number,
            (Some(number), None) => self.wrong(&found.place, key, format!("{number} is not allowed; give {wanted}")),
            (None, None) => self.wrong_kind(&found, key, &wanted),
        }
        default
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        let Some(found) = self.find(key) else { return default };
        match &found.given {
            Given::Typed(Value::Boolean(flag)) => return *flag,
            Given::Raw(text) if text.trim().eq_ignore_ascii_case("true") => return true,
            Given::Raw(text) if text.trim().eq_ignore_ascii_case("false") => return false,
            _ => self.wrong_kind(&found, key, "true or false"),
        }
        default
    }

    /// A time with its unit, if it is there and right.
    pub(super) fn duration(&mut self, key: &str, allowed: RangeInclusive<Duration>) -> Option<Duration> {
        let found = self.find(key)?;
        let (text, place) = match found.given {
            Given::Raw(text) | Given::Typed(Value::Text(text)) => (text, found.place),
            Given::Typed(Value::Integer(Some(number))) => (number.to_string(), found.place),
            Given::Typed(_) => {
                self.wrong_kind(&found, key, "a time in quotes with a unit (ms, s, m, h, d), such as \"30s\"");
                return None;
            }
        };
        match parse::duration(&text) {
            Ok(time) if allowed.contains(&time) => return Some(time),
            Ok(_) => {
                let range = [*allowed.start(), *allowed.end()].map(|end| humantime::format_duration(end).to_string());
                let [least, most] = range;
                self.wrong(&place, key, format!("{text:?} is not allowed; give a time from {least} to {most}"));
            }
            Err(reason) => self.wrong(&place, key, reason),
        }
        None
    }

    /// One of several words; `None` where it is absent or wrong.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let (text, place) = self.text(key)?;
        let meant = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if meant.is_none() {
            let known = parse::one_of(words.iter().map(|(word, _)| *word));
            self.wrong(&place, key, format!("{text:?} is not allowed; give {known}"));
        }
        meant
    }

    /// A list of texts; `None` where it is absent or wrong.
    pub(super) fn list(&mut self, key: &str) -> Option<(Vec<String>, Place)> {
        let found = self.find(key)?;
        let items = match &found.given {
            Given::Raw(text) => list_from_text(text),
            Given::Typed(Value::List(items)) => Some(items.clone()),
            Given::Typed(_) => None,
        };
        let texts: Option<Vec<String>> = items.and_then(|items| {
            items.into_iter().map(|item| if let Value::Text(text) = item { Some(text) } else { None }).collect()
        });
        if texts.is_none() {
            // The text of a list may hold broker URLs, so it is not shown.
            let text = "the value is not allowed; give a list of strings, such as [\"a\", \"b\"]";
            self.wrong(&found.place, key, text);
        }
        Some((texts?, found.place))
    }
}

/// A path as people write it; parts that are not plain are quoted.
pub(super) fn dotted<S: AsRef<str>>(path: &[S]) -> String {
    let plain =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    path.iter()
        .map(|part| if plain(part.as_ref()) { part.as_ref().to_owned() } else { format!("{:?}", part.as_ref()) })
        .collect::<Vec<_>>()
        .join(".")
}
