//! The file in which learned rates outlive the process, so that a restarted worker does not learn them anew.
//!
//! What it holds is only ever a start: a rate that is wrong by now is corrected by the provider's answers. A file that
//! cannot be read is a warning, never the end of a worker.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Accounts, Rates};
use crate::pipeline::clock::{Clock, between};

/// How often the file is brought up to date.
const EVERY: Duration = Duration::from_secs(60);
/// An older rate says nothing any more.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    /// When it was written, RFC 3339.
    at: String,
    /// Units a second, by the account's name.
    #[serde(rename = "unitsPerSecond")]
    units_per_second: Rates,
}

/// Reads the rates of an earlier worker; none where there is no file, or nothing in it that can be used. Where it will
/// not be possible to write the file, that is said now and not when the first rate is learned.
pub fn read(file: &Path, now: Timestamp) -> Rates {
    if let Err(problem) = try_out(file) {
        warn!(file = %file.display(), %problem, "state.file: the learned rates cannot be kept; is its folder there and writable?");
    }
    match std::fs::read(file) {
        Ok(bytes) => match parse(&bytes, now) {
            Ok(rates) => {
                info!(file = %file.display(), accounts = rates.len(), "learned rates of an earlier worker are taken up");
                rates
            }
            Err(problem) => {
                warn!(file = %file.display(), %problem, "state.file: the learned rates cannot be used; they are learned anew");
                Rates::new()
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Rates::new(),
        Err(problem) => {
            warn!(file = %file.display(), %problem, "state.file: cannot be read; rates are learned anew");
            Rates::new()
        }
    }
}

/// The rates in the file's bytes that can be used at `now`.
fn parse(bytes: &[u8], now: Timestamp) -> Result<Rates, String> {
    let content: Content = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let at: Timestamp = content.at.parse().map_err(|error| format!("`at` is no RFC 3339 time: {error}"))?;
    if between(at, now) > LONGEST {
        return Ok(Rates::new());
    }
    Ok(content.units_per_second.into_iter().filter(|(_, rate)| rate.is_finite() && *rate > 0.0).collect())
}

/// Keeps the file up to date until `stopping` is cancelled, and once more then.
pub async fn keep(file: PathBuf, accounts: Accounts, clock: Clock, stopping: CancellationToken) {
    let mut written = Rates::new();
    loop {
        let stop = tokio::select! {
            () = tokio::time::sleep(EVERY) => false,
            () = stopping.cancelled() => true,
        };
        let learned = |(name, account): (&String, &std::sync::Arc<super::account::Account>)| {
            Some((name.clone(), account.learned()?))
        };
        let rates: BTreeMap<_, _> = accounts.iter().filter_map(learned).collect();
        if rates != written {
            let content = Content { at: clock().to_string(), units_per_second: rates.clone() };
            let path = file.clone();
            let result = tokio::task::spawn_blocking(move || write(&path, &content)).await;
            match result.map_err(io::Error::other).flatten() {
                Ok(()) => written = rates,
                Err(problem) => warn!(file = %file.display(), %problem, "state.file: the learned rates cannot be kept"),
            }
        }
        if stop {
            return;
        }
    }
}

/// Whether the file could be written; nothing is left of the trial.
fn try_out(file: &Path) -> io::Result<()> {
    if file.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let new = beside(file)?;
    std::fs::write(&new, b"")?;
    std::fs::remove_file(&new)
}

/// Where the new file is written before it takes the old one's place.
fn beside(file: &Path) -> io::Result<PathBuf> {
    let mut name = file.file_name().ok_or_else(|| io::Error::other("the path names no file"))?.to_owned();
    name.push(".new");
    Ok(file.with_file_name(name))
}

/// Replaces the file whole: a crash leaves the old one or the new one.
fn write(file: &Path, content: &Content) -> io::Result<()> {
    let new = beside(file)?;
    std::fs::write(&new, serde_json::to_vec_pretty(content)?)?;
    std::fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rates.json");
        let rates = Rates::from([("contoso".to_owned(), 19.5)]);
        assert_eq!(read(&file, now()), Rates::new());
        write(&file, &Content { at: now().to_string(), units_per_second: rates.clone() }).unwrap();
        assert_eq!(read(&file, now()), rates);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_and_a_file_that_is_a_folder_are_noticed_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        assert!(try_out(&folder.path().join("rates.json")).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = try_out(&folder.path().join("missing/rates.json")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(try_out(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn rates_that_are_old_or_impossible_are_not_taken_up_and_nonsense_is_no_panic() {
        let bytes = br#"{"at": "2026-11-22T09:00:00Z", "unitsPerSecond": {"a": 20, "b": 0, "c": -1}}"#;
        assert_eq!(parse(bytes, now()).unwrap(), Rates::from([("a".to_owned(), 20.0)]));
        assert_eq!(parse(bytes, "2026-12-22T10:00:00Z".parse().unwrap()).unwrap(), Rates::new());
        for nonsense in [&b""[..], b"{", b"[]", b"\xff", br#"{"at": "then", "unitsPerSecond": {}}"#] {
            assert!(parse(nonsense, now()).is_err(), "{nonsense:?}");
        }
    }
}
