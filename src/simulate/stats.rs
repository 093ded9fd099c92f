//! What has happened, counted: calls, links and refusals by API and item.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::Answer;
use super::work::{Effect, Live};

/// What happened to the calls of an API or an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Calls, whatever became of them.
    pub calls: u64,
    /// Links made.
    pub created: u64,
    /// Links handed out again.
    pub reused: u64,
    /// Links taken back.
    pub revoked: u64,
    /// Answers with a status of 400 or more.
    pub refused: u64,
    /// Connections cut.
    pub cut: u64,
}

impl Tally {
    /// Counts what was worked, whether or not the answer tells.
    pub fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Looked => {}
            Effect::Created => self.created += 1,
            Effect::Reused => self.reused += 1,
            Effect::Revoked => self.revoked += 1,
        }
    }

    /// Counts how a call ended.
    pub fn ended(&mut self, answer: &Answer, cut: bool) {
        self.calls += 1;
        if cut {
            self.cut += 1;
        } else if answer.status.as_u16() >= 400 {
            self.refused += 1;
        }
    }
}

/// Numbers of an API or an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// What happened.
    #[serde(flatten)]
    pub tally: Tally,
    /// Live links now.
    pub links: u64,
    /// Live links beyond the first among those of an item that give the same: a client that repeats itself blindly.
    pub doubled: u64,
}

impl Numbers {
    /// Adds another API's numbers.
    pub fn include(&mut self, other: Self) {
        let Self { tally, links, doubled } = other;
        self.tally.calls += tally.calls;
        self.tally.created += tally.created;
        self.tally.reused += tally.reused;
        self.tally.revoked += tally.revoked;
        self.tally.refused += tally.refused;
        self.tally.cut += tally.cut;
        self.links += links;
        self.doubled += doubled;
    }

    /// Adds an item's live links.
    pub fn add(&mut self, live: Live) {
        self.links += live.links;
        self.doubled += live.doubled;
    }
}

/// Numbers of an API with its items.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProviderStats {
    /// All items together, and calls that named none.
    #[serde(flatten)]
    pub all: Numbers,
    /// By item: `drive/item` for Microsoft, `folder/id` and `file/id` for Oracle.
    pub items: BTreeMap<String, Numbers>,
}

/// The token endpoints' calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TokenStats {
    /// Tokens issued.
    pub issued: u64,
    /// Calls that got none.
    pub refused: u64,
}

/// Everything counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// All APIs together.
    #[serde(flatten)]
    pub all: Numbers,
    /// Mails sent to recipients.
    pub mails: u64,
    /// The token endpoints.
    pub tokens: TokenStats,
    /// By API: `graph`, `onedrive` and `oracle`.
    pub providers: BTreeMap<&'static str, ProviderStats>,
}

impl Stats {
    /// The numbers of one item; zero where nobody asked for it. `provider` is `graph`, `onedrive` or `oracle`.
    pub fn item(&self, provider: &str, item: &str) -> Numbers {
        self.providers.get(provider).and_then(|provider| provider.items.get(item)).copied().unwrap_or_default()
    }
}
