//! What happened lately and no metric can hold: the last failures, and when each pause ends. For the status page.
//!
//! Fixed memory, touched only when something goes wrong. A note holds closed words and numbers: no ids, no addresses, no sentences.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use crate::model::{ErrorKind, Failure, Reply};

/// So many failures are remembered.
pub const REMEMBERED: usize = 20;

/// A provider's code longer than this is no code. Bytes.
const LONGEST_CODE: usize = 40;

/// One request that ended in a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureNote {
    /// When it was answered.
    pub at: Timestamp,
    /// The account's name, or [`NO_PROVIDER`](super::metrics::NO_PROVIDER).
    pub provider: String,
    /// The kind.
    pub kind: ErrorKind,
    /// HTTP status of the provider's last answer, where there was one.
    pub http_status: Option<u16>,
    /// The provider's own code, where there is one that looks like a code.
    pub code: Option<String>,
}

impl FailureNote {
    /// What may be shown of a failure.
    pub fn of(at: Timestamp, provider: &str, failure: &Failure) -> Self {
        let code = failure.provider.code.as_deref().filter(|code| is_code(code)).map(ToOwned::to_owned);
        let http_status = failure.provider.http_status;
        Self { at, provider: provider.to_owned(), kind: failure.kind, http_status, code }
    }
}

/// A word such as `itemNotFound` or `-16`. A server in between may have written anything in its place.
fn is_code(code: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST_CODE).contains(&code.len()) && code.bytes().all(fits)
}

/// When the pause of an account ends, and why there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// No call before this.
    pub end: Instant,
    /// A few words, to stand behind "because of".
    pub why: &'static str,
}

/// The notes. Share it behind an `Arc`.
#[derive(Debug, Default)]
pub struct Recent {
    failures: Mutex<VecDeque<FailureNote>>,
    pauses: Mutex<BTreeMap<String, Pause>>,
}

impl Recent {
    /// Remembers a reply that is a failure.
    pub fn answered(&self, provider: &str, reply: &Reply) {
        if let Err(failure) = &reply.result {
            self.failed(FailureNote::of(reply.completed_at, provider, failure));
        }
    }

    /// Remembers a failure, and forgets the oldest where there are too many.
    pub fn failed(&self, note: FailureNote) {
        let mut failures = lock(&self.failures);
        if failures.len() >= REMEMBERED {
            failures.pop_front();
        }
        failures.push_back(note);
    }

    /// The failures, newest first.
    pub fn failures(&self) -> Vec<FailureNote> {
        lock(&self.failures).iter().rev().cloned().collect()
    }

    /// Remembers until when an account is paused; the last word counts.
    pub fn paused(&self, provider: &str, pause: Pause) {
        lock(&self.pauses).insert(provider.to_owned(), pause);
    }

    /// The last pause of an account; may lie in the past.
    pub fn pause(&self, provider: &str) -> Option<Pause> {
        lock(&self.pauses).get(provider).copied()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn note(second: i64) -> FailureNote {
        let failure = Failure::new(ErrorKind::NotFound, "the item /secret/plan.docx does not exist");
        FailureNote::of(Timestamp::from_second(second).unwrap(), "contoso", &failure)
    }

    #[test]
    fn the_last_failures_are_remembered_newest_first_and_no_more_than_fit() {
        let recent = Recent::default();
        for second in 0..100 {
            recent.failed(note(second));
        }
        let seconds: Vec<_> = recent.failures().iter().map(|note| note.at.as_second()).collect();
        assert_eq!(seconds, (80..100).rev().collect::<Vec<_>>());
    }

    #[test]
    fn only_what_looks_like_a_code_is_kept_of_what_a_provider_says() {
        let kept = |code: &str| {
            let mut failure = Failure::new(ErrorKind::Forbidden, "no");
            failure.provider.code = Some(code.to_owned());
            FailureNote::of(Timestamp::UNIX_EPOCH, "contoso", &failure).code
        };
        assert_eq!(kept("itemNotFound").as_deref(), Some("itemNotFound"));
        assert_eq!(kept("-16").as_deref(), Some("-16"));
        for not in ["", "see https://example.com/a", "<b>", "a b", &"a".repeat(41), "b!abc", "plan.docx?x=1"] {
            assert_eq!(kept(not), None, "{not}");
        }
    }

    #[test]
    fn the_last_word_about_a_pause_counts() {
        let (recent, now) = (Recent::default(), tokio::time::Instant::now().into_std());
        let pause = |seconds, why| Pause { end: now + Duration::from_secs(seconds), why };
        recent.paused("contoso", pause(60, "first"));
        recent.paused("contoso", pause(5, "second"));
        assert_eq!(recent.pause("contoso"), Some(pause(5, "second")));
        assert_eq!(recent.pause("content"), None);
    }
}
