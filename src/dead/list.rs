//! Letters side by side: grouped by reason, or one a line; for a person, or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::{Timestamp, Unit};
use serde_json::{Value, json};

use super::filter::Filter;
use super::summary::Summary;
use super::words::{head, line};

/// Longest id and error in a line for a person, in characters.
const LONGEST_ID: usize = 40;
const LONGEST_ERROR: usize = 120;

/// Letters that were looked at, oldest first. The number of a letter in `show --index` is its place here.
#[derive(Debug, Default)]
pub struct Listing(Vec<Summary>);

/// The letters of one reason.
struct Group<'a> {
    reason: &'a str,
    count: usize,
    /// The oldest one.
    example: &'a Summary,
}

impl Listing {
    /// Sorts them.
    pub fn new(mut letters: Vec<Summary>) -> Self {
        letters.sort_by(|a, b| a.rank().cmp(&b.rank()));
        Self(letters)
    }

    fn matching<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = (usize, &'a Summary)> {
        self.0
            .iter()
            .enumerate()
            .map(|(place, letter)| (place + 1, letter))
            .filter(|(_, letter)| filter.matches(letter))
    }

    /// How many letters match.
    pub fn count(&self, filter: &Filter) -> usize {
        self.matching(filter).count()
    }

    /// The largest first.
    fn groups<'a>(&'a self, filter: &'a Filter) -> Vec<Group<'a>> {
        let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
        for (_, letter) in self.matching(filter) {
            let new = Group { reason: &letter.reason, count: 0, example: letter };
            groups.entry(&letter.reason).or_insert(new).count += 1;
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }

    /// A table of reasons; empty where nothing matches.
    pub fn grouped(&self, filter: &Filter) -> String {
        let rows = self.groups(filter).into_iter().map(|group| {
            let Summary { id, error, first_seen, .. } = group.example;
            [
                line(group.reason),
                group.count.to_string(),
                time(*first_seen),
                short(id, LONGEST_ID),
                short(error, LONGEST_ERROR),
            ]
        });
        table(["REASON", "LETTERS", "OLDEST", "ITS ID", "ITS ERROR"], rows)
    }

    /// A table of letters; empty where nothing matches.
    pub fn each(&self, filter: &Filter) -> String {
        let rows = self.matching(filter).map(|(index, letter)| {
            let provider = letter.provider.as_deref().unwrap_or("-");
            [
                index.to_string(),
                time(letter.first_seen),
                line(&letter.reason),
                short(provider, LONGEST_ID),
                short(&letter.id, LONGEST_ID),
                short(&letter.error, LONGEST_ERROR),
            ]
        });
        table(["INDEX", "FIRST SEEN", "REASON", "PROVIDER", "ID", "ERROR"], rows)
    }

    /// An object a line for each reason.
    pub fn grouped_json(&self, filter: &Filter) -> String {
        let groups = self.groups(filter).into_iter().map(|group| {
            let example = group.example;
            json!({
                "reason": group.reason,
                "count": group.count,
                "oldest": example.first_seen.map(|time| time.to_string()),
                "example": {"id": example.id, "error": example.error},
            })
        });
        json_lines(groups)
    }

    /// An object a line for each letter.
    pub fn each_json(&self, filter: &Filter) -> String {
        json_lines(self.matching(filter).map(|(index, letter)| {
            let mut object = members(letter);
            if let Value::Object(members) = &mut object {
                members.insert("index".to_owned(), index.into());
            }
            object
        }))
    }
}

/// A summary as JSON.
pub fn members(letter: &Summary) -> Value {
    json!({
        "id": letter.id,
        "reason": letter.reason,
        "error": letter.error,
        "firstSeen": letter.first_seen.map(|time| time.to_string()),
        "provider": letter.provider,
        "kind": letter.kind,
        "attempts": letter.attempts,
        "worker": letter.worker,
    })
}

fn json_lines(objects: impl Iterator<Item = Value>) -> String {
    objects.fold(String::new(), |mut lines, object| {
        let _ = writeln!(lines, "{object}");
        lines
    })
}

/// Whole seconds: a person does not read nanoseconds.
pub fn time(time: Option<Timestamp>) -> String {
    let whole = |time: Timestamp| time.round(Unit::Second).unwrap_or(time).to_string();
    time.map_or_else(|| "-".to_owned(), whole)
}

fn short(text: &str, limit: usize) -> String {
    if text.is_empty() { "-".to_owned() } else { head(&line(text), limit) }
}

/// Columns as wide as they need to be; the last one ends where its text ends. Without rows nothing.
fn table<const N: usize>(names: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(names.map(str::to_owned)).chain(rows).collect();
    if rows.len() == 1 {
        return String::new();
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter().fold(String::new(), |mut out, row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: &str, reason: &str, first_seen: Option<&str>) -> Summary {
        Summary {
            id: id.to_owned(),
            names: vec![id.to_owned()],
            reason: reason.to_owned(),
            error: format!("error of {id}"),
            first_seen: first_seen.map(|time| time.parse().unwrap()),
            provider: Some("contoso".to_owned()),
            kind: None,
            attempts: 0,
            worker: None,
        }
    }

    fn listing() -> Listing {
        Listing::new(vec![
            letter("late", "malformed", Some("2026-11-22T12:00:00.25Z")),
            letter("undated", "unknown", None),
            letter("early", "malformed", Some("2026-11-22T10:00:00Z")),
            letter("other", "unroutable", Some("2026-11-22T11:00:00Z")),
        ])
    }

    #[test]
    fn letters_are_grouped_by_reason_with_the_oldest_as_the_example() {
        assert_eq!(
            listing().grouped(&Filter::default()),
            "REASON      LETTERS  OLDEST                ITS ID   ITS ERROR\n\
             malformed   2        2026-11-22T10:00:00Z  early    error of early\n\
             unknown     1        -                     undated  error of undated\n\
             unroutable  1        2026-11-22T11:00:00Z  other    error of other\n"
        );
    }

    #[test]
    fn a_letter_keeps_its_index_when_others_are_filtered_out() {
        let filter = Filter { reason: Some("unroutable".to_owned()), ..Filter::default() };
        assert_eq!(
            listing().each(&filter),
            "INDEX  FIRST SEEN            REASON      PROVIDER  ID     ERROR\n\
             2      2026-11-22T11:00:00Z  unroutable  contoso   other  error of other\n"
        );
        let object: Value = serde_json::from_str(&listing().each_json(&filter)).unwrap();
        assert_eq!((&object["index"], &object["id"]), (&json!(2), &json!("other")));
    }

    #[test]
    fn nothing_that_matches_is_nothing_that_is_written() {
        let filter = Filter { reason: Some("crashing".to_owned()), ..Filter::default() };
        let listing = listing();
        for text in [listing.grouped(&filter), listing.each(&filter), listing.grouped_json(&filter)] {
            assert_eq!(text, "");
        }
    }

    #[test]
    fn what_others_wrote_cannot_break_the_table() {
        let mut nasty = letter("a\nb\u{1b}[2J", "malformed", None);
        nasty.error = "x".repeat(1000);
        let text = Listing::new(vec![nasty]).each(&Filter::default());
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}') && text.chars().count() < 400, "{text}");
    }
}
