//! The demo's last words, pure: a table of what happened and where to look next.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::mix::{Expected, Planned};
use crate::model::{Reply, Status};
use crate::telemetry::snapshot::Snapshot;

/// What came back, counted as it comes.
#[derive(Debug, Default)]
pub struct Tally {
    answers: BTreeMap<String, u32>,
    /// By account: created, reused, failed.
    accounts: BTreeMap<String, [u64; 3]>,
    kinds: BTreeMap<&'static str, u64>,
    surprises: Vec<String>,
}

impl Tally {
    /// Counts one reply against what was expected of its request.
    pub fn count(
        &mut self,
        planned: Option<&Planned>,
        id: &str,
        provider: Option<&str>,
        status: Status,
        kind: Option<&str>,
    ) {
        *self.answers.entry(id.to_owned()).or_default() += 1;
        let column = match status {
            Status::Created => 0,
            Status::Reused => 1,
            Status::Failed => 2,
        };
        let account = self.accounts.entry(provider.unwrap_or("(unreadable)").to_owned()).or_default();
        if let Some(cell) = account.get_mut(column) {
            *cell += 1;
        }
        let kind =
            crate::model::ErrorKind::ALL.into_iter().map(|known| known.as_str()).find(|known| Some(*known) == kind);
        if let Some(kind) = kind {
            *self.kinds.entry(kind).or_default() += 1;
        }
        let as_expected = match planned.map(|planned| planned.expected) {
            Some(Expected::Link) => status != Status::Failed,
            Some(Expected::Failure(expected)) => kind == Some(expected.as_str()),
            None => false,
        };
        if !as_expected {
            self.surprises.push(format!("{id}: {} {}", status.as_str(), kind.unwrap_or_default()));
        }
    }

    /// Counts a reply that is at hand as a value.
    pub fn count_reply(&mut self, planned: Option<&Planned>, id: &str, reply: &Reply) {
        let kind = reply.result.as_ref().err().map(|failure| failure.kind.as_str());
        self.count(planned, id, reply.provider.as_deref(), reply.status(), kind);
    }

    /// Requests answered at least once.
    pub fn answered(&self) -> usize {
        self.answers.len()
    }

    /// Created, reused and failed so far.
    pub fn totals(&self) -> [u64; 3] {
        self.accounts.values().fold([0; 3], |[a, b, c], [x, y, z]| [a + x, b + y, c + z])
    }

    /// Requests that ended otherwise than expected.
    pub fn surprises(&self) -> &[String] {
        &self.surprises
    }

    /// The table.
    pub fn table(&self, sent: usize, took: Duration, snapshot: &Snapshot) -> String {
        let mut text = String::new();
        let mut put = |line: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
        };
        put(format_args!(""));
        put(format_args!(
            "{:<14} {:>9} {:>9} {:>9} {:>9} {:>14}",
            "account", "created", "reused", "failed", "retries", "refused (429)"
        ));
        for (name, [created, reused, failed]) in &self.accounts {
            let (retries, refused) =
                snapshot.providers.get(name).map_or((0, 0), |numbers| (numbers.retries, numbers.refused));
            put(format_args!("{name:<14} {created:>9} {reused:>9} {failed:>9} {retries:>9} {refused:>14}"));
        }
        let [created, reused, failed] = self.totals();
        let retries: u64 = snapshot.providers.values().map(|numbers| numbers.retries).sum();
        let refused: u64 = snapshot.providers.values().map(|numbers| numbers.refused).sum();
        put(format_args!("{:<14} {created:>9} {reused:>9} {failed:>9} {retries:>9} {refused:>14}", "all"));
        put(format_args!(""));
        put(format_args!("failed by kind"));
        for (kind, count) in &self.kinds {
            put(format_args!("  {kind:<18} {count:>6}"));
        }
        let seconds = took.as_secs_f64().max(0.001);
        put(format_args!(""));
        put(format_args!(
            "{} of {sent} requests answered in {seconds:.1} s: {:.0} requests a second",
            self.answered(),
            self.answered() as f64 / seconds
        ));
        let again = self.answers.values().filter(|count| **count > 1).count();
        if again > 0 {
            put(format_args!("{again} requests were answered more than once"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    fn planned(id: &str, expected: Expected) -> Planned {
        Planned { id: id.into(), body: String::new(), expected }
    }

    #[test]
    fn the_table_shows_what_was_counted_and_surprises_are_kept() {
        let mut tally = Tally::default();
        tally.count(Some(&planned("a", Expected::Link)), "a", Some("contoso"), Status::Created, None);
        tally.count(Some(&planned("b", Expected::Link)), "b", Some("contoso"), Status::Reused, None);
        let missing = planned("c", Expected::Failure(ErrorKind::NotFound));
        tally.count(Some(&missing), "c", Some("content"), Status::Failed, Some("notFound"));
        assert!(tally.surprises().is_empty());
        tally.count(Some(&planned("d", Expected::Link)), "d", Some("content"), Status::Failed, Some("forbidden"));
        assert_eq!(tally.surprises(), ["d: failed forbidden"]);
        let table = tally.table(4, Duration::from_secs(2), &Snapshot::default());
        assert!(table.contains("4 of 4 requests answered in 2.0 s: 2 requests a second"), "{table}");
        assert!(
            table.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == ["all", "1", "1", "2", "0", "0"]),
            "{table}"
        );
    }
}
