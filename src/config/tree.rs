//! The two layers a setting can come from: a TOML file, as a tree that knows its lines, and the environment over it.
//!
//! Invariant: nothing is interpreted here. A value of the file keeps its TOML type, a variable keeps its raw text
//! (a password `00123` stays that), and every mistake of syntax is reported with its line.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::problems::{Place, Problem};

/// What every variable of ours begins with; `__` also stands between the parts of a key.
pub(super) const PREFIX: &str = "SHARELINK__";

/// A value as the file has it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A string.
    Text(String),
    /// A whole number, written in any base; `None` where it is beyond 64 bits.
    Integer(Option<i64>),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    List(Vec<Value>),
    /// A table, written in any of TOML's ways.
    Table(BTreeMap<String, Entry>),
    /// A kind that no setting has; with its article.
    Other(&'static str),
}

impl Value {
    /// The kind in words, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// A value and the line its key is on, counted from 1.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A variable as it was set.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    /// As spelt in the environment.
    pub(super) name: String,
    /// The parts of the key, in lower case.
    pub(super) path: Vec<String>,
    /// The raw text.
    pub(super) text: String,
}

/// The file, if there is one, and the environment.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// The file as it was named.
    pub(super) file: Option<String>,
    /// The top table of the file.
    pub(super) root: BTreeMap<String, Entry>,
    /// Our variables by [`canonical`] key.
    pub(super) variables: BTreeMap<String, Variable>,
}

/// The one spelling that a key and the variable for it share: lower case, `-` as `_`, parts joined by `__`.
pub(super) fn canonical<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(|part| part.as_ref().to_lowercase().replace('-', "_")).collect::<Vec<_>>().join("__")
}

/// The variable that sets a key, fit to be shown.
pub(super) fn variable_name<S: AsRef<str>>(path: &[S]) -> String {
    format!("{PREFIX}{}", canonical(path).to_uppercase().escape_debug())
}

impl Layers {
    /// Adds the file's text. Syntax mistakes are all reported; the tree is then not to be relied on.
    pub(super) fn read_file(&mut self, name: &str, text: &str) -> Vec<Problem> {
        self.file = Some(name.to_owned());
        let lines = Lines::of(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        let mut problems: Vec<Problem> = Vec::new();
        for error in errors {
            let line = error.span().map_or(1, |span| lines.at(span.start));
            let place = Place::File { name: name.to_owned(), line: Some(line) };
            // What follows on the same line is mostly a consequence.
            if problems.iter().all(|earlier| earlier.place != place) {
                let text = format!("this is not TOML: {}", error.message().escape_debug());
                problems.push(Problem { place, key: String::new(), text });
            }
        }
        if problems.is_empty() {
            self.root = table(document.get_ref(), &lines);
        }
        problems
    }

    /// Adds the variables that begin with `SHARELINK__`, in any case; others are not ours.
    pub(super) fn read_environment(&mut self, all: impl Iterator<Item = (String, String)>) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, text) in all {
            let Some((head, rest)) = name.split_at_checked(PREFIX.len()) else { continue };
            if !head.eq_ignore_ascii_case(PREFIX) {
                continue;
            }
            let path: Vec<String> = rest.to_lowercase().split("__").map(str::to_owned).collect();
            let wrong = |text: String| Problem { place: Place::Variable(name.clone()), key: path.join("."), text };
            if text.contains('\u{FFFD}') {
                problems.push(wrong("the value is not UTF-8; set it again".to_owned()));
            }
            if let Some(earlier) = self.variables.get(&canonical(&path)) {
                problems.push(wrong(format!("sets the same key as {}; keep one", earlier.name.escape_debug())));
            } else {
                self.variables.insert(canonical(&path), Variable { name, path, text });
            }
        }
        problems
    }

    /// The file's entry at a path.
    pub(super) fn entry<S: AsRef<str>>(&self, path: &[S]) -> Option<&Entry> {
        let (last, tables) = path.split_last()?;
        let mut here = &self.root;
        for part in tables {
            let Value::Table(inner) = &here.get(part.as_ref())?.value else { return None };
            here = inner;
        }
        here.get(last.as_ref())
    }

    /// The variable that sets a path.
    pub(super) fn variable<S: AsRef<str>>(&self, path: &[S]) -> Option<&Variable> {
        self.variables.get(&canonical(path))
    }

    /// A line of the file as a place.
    pub(super) fn line(&self, line: Option<usize>) -> Place {
        self.file.as_ref().map_or(Place::Nowhere, |name| Place::File { name: name.clone(), line })
    }
}

fn table(from: &DeTable<'_>, lines: &Lines) -> BTreeMap<String, Entry> {
    from.iter()
        .map(|(key, value)| {
            (
                key.get_ref().to_string(),
                Entry { line: lines.at(key.span().start), value: convert(value.get_ref(), lines) },
            )
        })
        .collect()
}

fn convert(value: &DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Array(items) => Value::List(items.iter().map(|item| convert(item.get_ref(), lines)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, lines)),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
    }
}

/// A list as a variable has it: a TOML array, or parts between commas with the spaces around them dropped.
pub(super) fn list_from_text(text: &str) -> Option<Vec<Value>> {
    if !text.trim_start().starts_with('[') {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        return Some(parts.map(|part| Value::Text(part.to_owned())).collect());
    }
    match convert(DeValue::parse(text.trim()).ok()?.get_ref(), &Lines::of(text)) {
        Value::List(items) => Some(items),
        _ => None,
    }
}

/// Where lines begin, in bytes.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line a byte is on, counted from 1.
    fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|&start| start <= byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Layers {
        let mut layers = Layers::default();
        assert_eq!(layers.read_file("a.toml", text), vec![]);
        layers
    }

    #[test]
    fn every_way_of_writing_a_table_leads_to_the_same_path_with_the_line_of_its_key() {
        let layers = file("# one\n[a]\nb.c = 1\n\n[d.e]\nf = { g = 2,\nh = 3 }\n");
        for (path, line) in [
            (vec!["a"], 2),
            (vec!["a", "b", "c"], 3),
            (vec!["d"], 5),
            (vec!["d", "e"], 5),
            (vec!["d", "e", "f", "g"], 6),
            (vec!["d", "e", "f", "h"], 7),
        ] {
            assert_eq!(layers.entry(&path).map(|entry| entry.line), Some(line), "{path:?}");
        }
        assert!(layers.entry(&["a", "b", "c", "d"]).is_none());
        assert!(layers.entry(&["x"]).is_none());
    }

    #[test]
    fn whole_numbers_are_read_in_every_base_and_with_sign() {
        let layers = file("a = 0x10\nb = -1_000\nc = +7\nd = 99999999999999999999");
        for (key, number) in [("a", Some(16)), ("b", Some(-1000)), ("c", Some(7)), ("d", None)] {
            let value = layers.entry(&[key]).map(|entry| entry.value.clone());
            assert!(matches!(value, Some(Value::Integer(read)) if read == number), "{key}: {value:?}");
        }
    }

    #[test]
    fn every_line_that_is_not_toml_is_reported_once() {
        let problems = Layers::default().read_file("a.toml", "[broker]\nurl = amqp://x\nprefetch = 1\n= 4 = 4\n");
        let mut lines: Vec<String> = problems.iter().map(|problem| problem.place.to_string()).collect();
        lines.sort();
        assert_eq!(lines, ["a.toml:2", "a.toml:4"], "{problems:?}");
    }

    #[test]
    fn variables_match_keys_without_regard_to_case_or_dash_and_two_for_one_key_are_a_mistake() {
        let mut layers = Layers::default();
        let set = |name: &str| (name.to_owned(), "1".to_owned());
        let problems = layers.read_environment(
            [
                set("sharelink__Broker__URL"),
                set("SHARELINK__BROKER__URL"),
                set("SHARELINK_REVISION"),
                set("é"),
                set("PATH"),
            ]
            .into_iter(),
        );
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(layers.variables.len(), 1);
        assert!(layers.variable(&["broker", "url"]).is_some());
        assert_eq!(variable_name(&["providers", "My-Tenant", "kind"]), "SHARELINK__PROVIDERS__MY_TENANT__KIND");
    }

    #[test]
    fn a_list_in_a_variable_is_commas_or_a_toml_array() {
        let texts = |text: &str| {
            list_from_text(text).map(|items| {
                items
                    .into_iter()
                    .map(|item| if let Value::Text(text) = item { text } else { item.kind().to_owned() })
                    .collect()
            })
        };
        assert_eq!(texts("a, b ,"), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(texts(r#" ["a,b", 1]"#), Some(vec!["a,b".to_owned(), "a whole number".to_owned()]));
        assert_eq!(texts(""), Some(vec![]));
        assert_eq!(texts("[a"), None::<Vec<String>>);
    }
}
