//! Keys that nobody asked for: misspelt ones, and those that belong to another method or kind.
//!
//! Invariant: everything in the file and every variable of ours was either asked for, or is named in a problem, or
//! lies where a graver mistake hides what is allowed.

use std::collections::{BTreeMap, BTreeSet};

use super::problems::{Place, Problem};
use super::reader::{Reader, dotted};
use super::suggest::closest;
use super::tree::{Entry, Value, canonical, variable_name};

/// The mistakes, once every key has been asked for.
pub(super) fn problems(reader: &Reader<'_>) -> Vec<Problem> {
    let known = Known::of(reader);
    let mut problems = Vec::new();
    walk(reader, &known, &mut Vec::new(), &reader.layers.root, &mut problems);
    for variable in reader.layers.variables.values() {
        let wrong =
            |text: String| Problem { place: Place::Variable(variable.name.clone()), key: dotted(&variable.path), text };
        let path = canonical(&variable.path);
        if known.keys.contains_key(&path) || known.unjudged(&variable.path) {
            continue;
        }
        if known.sections.contains(&path) {
            problems.push(wrong(format!(
                "this names a section; a variable sets one key of it, such as {}__…",
                variable_name(&variable.path)
            )));
        } else {
            let (section, word) = split(&variable.path);
            let near = known.nearest(section, word).map(|path| variable_name(&path));
            problems.push(wrong(known.refusal("no such key", section, near.as_deref())));
        }
    }
    problems
}

fn walk(
    reader: &Reader<'_>,
    known: &Known,
    path: &mut Vec<String>,
    table: &BTreeMap<String, Entry>,
    problems: &mut Vec<Problem>,
) {
    for (name, entry) in table {
        path.push(name.clone());
        let wrong = |text: String| Problem { place: reader.layers.line(Some(entry.line)), key: dotted(path), text };
        match &entry.value {
            _ if known.asked.contains(path.as_slice()) => {}
            Value::Table(inner) if known.tables.contains(path.as_slice()) => walk(reader, known, path, inner, problems),
            value if known.is_section(path) && !matches!(value, Value::Table(_)) => {
                let section = dotted(path);
                problems.push(wrong(format!("{} is not allowed; this is a section: write [{section}]", value.kind())));
            }
            _ if known.unjudged(path) => {}
            value => {
                let what = if matches!(value, Value::Table(_)) { "no such section" } else { "no such key" };
                let (section, word) = split(path);
                let near = known.nearest(section, word).and_then(|path| path.last().map(|name| dotted(&[name])));
                problems.push(wrong(known.refusal(what, section, near.as_deref())));
            }
        }
        path.pop();
    }
}

fn split(path: &[String]) -> (&[String], &str) {
    path.split_last().map_or((&[], ""), |(last, section)| (section, last.as_str()))
}

/// What was asked for, in the two spellings it is looked up by.
struct Known<'r> {
    asked: &'r BTreeSet<Vec<String>>,
    tables: BTreeSet<Vec<String>>,
    keys: BTreeMap<String, &'r Vec<String>>,
    sections: BTreeSet<String>,
    hidden: Vec<String>,
    conditions: Vec<(String, &'r str)>,
}

impl<'r> Known<'r> {
    fn of(reader: &'r Reader<'_>) -> Self {
        let tables = reader.sections.clone();
        Self {
            asked: &reader.asked,
            keys: reader.asked.iter().map(|path| (canonical(path), path)).collect(),
            sections: tables.iter().map(|path| canonical(path)).collect(),
            tables,
            hidden: reader.unjudged.iter().map(|path| format!("{}__", canonical(path))).collect(),
            conditions: reader.conditions.iter().map(|(path, said)| (canonical(path), said.as_str())).collect(),
        }
    }

    /// Whether a path is a section or would be one, as whatever stands under `providers` is.
    fn is_section(&self, path: &[String]) -> bool {
        self.tables.contains(path) || matches!(path, [first, _] if first == "providers")
    }

    fn unjudged(&self, path: &[String]) -> bool {
        let path = canonical(path);
        self.hidden.iter().any(|section| path.starts_with(section))
    }

    /// The keys and sections directly in a section, in the spelling of the file.
    fn inside<'k>(&'k self, section: &[String]) -> impl Iterator<Item = &'k Vec<String>> {
        let section = canonical(section);
        self.asked
            .iter()
            .chain(&self.tables)
            .filter(move |path| path.split_last().is_some_and(|(_, parent)| canonical(parent) == section))
    }

    fn nearest(&self, section: &[String], word: &str) -> Option<Vec<String>> {
        let inside: Vec<&Vec<String>> = self.inside(section).collect();
        let near = closest(word, inside.iter().filter_map(|path| path.last().map(String::as_str)))?;
        inside.into_iter().find(|path| path.last().is_some_and(|last| last == near)).cloned()
    }

    /// The sentence: what it is, why it might have been right elsewhere, and what was meant or can be given.
    fn refusal(&self, what: &str, section: &[String], near: Option<&str>) -> String {
        let path = canonical(section);
        let condition = self.conditions.iter().find(|(at, _)| *at == path);
        let condition = condition.map(|(_, said)| format!(" with {said}")).unwrap_or_default();
        let mut names: Vec<String> = self.inside(section).filter_map(|path| Some(dotted(&[path.last()?]))).collect();
        names.sort_unstable();
        match near {
            Some(near) => format!("{what}{condition}; did you mean {near}?"),
            None if names.is_empty() => format!("{what}; take it out"),
            None => format!("{what}{condition}; take it out (known here: {})", names.join(", ")),
        }
    }
}
