//! The set check: what was asked against what was answered, as the broker's own Jepsen tests do it. Nothing lost, nothing
//! unexpected, no link made twice; repeats are allowed, counted, and have to be the same answer.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use lapin::Consumer;
use sharelink::simulate::Stats;
use tokio::time::Instant;

use super::client::{self, Came, Replies, Requester};
use super::rabbit::Operator;
use super::worker_process::Home;

/// What a request has to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Link,
    /// The reply `failed` with this kind, and a copy in the dead-letter queue.
    Refusal(&'static str),
}

/// A request.
pub struct Ask {
    pub id: String,
    pub body: String,
    pub wanted: Wanted,
}

/// The requests numbered so, over all three faces of the providers.
pub fn links(numbers: std::ops::Range<usize>) -> Vec<Ask> {
    numbers
        .map(|number| {
            let item = format!("it-{number}");
            let (provider, rest) = match number % 10 {
                0..5 => ("contoso", microsoft(&item, "organization")),
                5..7 => ("older", microsoft(&item, "anonymous")),
                _ => ("content", oracle(&item)),
            };
            ask(&format!("link-{number}"), provider, &rest)
        })
        .collect()
}

/// Requests that the provider asks to come again after a second, which is longer than these workers wait inside.
pub fn throttled(numbers: std::ops::Range<usize>) -> Vec<Ask> {
    numbers
        .map(|number| {
            let item = format!("it-{number}-throttled-1");
            ask(&format!("throttled-{number}"), "contoso", &microsoft(&item, "organization"))
        })
        .collect()
}

/// Requests with a misspelt member.
pub fn malformed(numbers: std::ops::Range<usize>) -> Vec<Ask> {
    numbers
        .map(|number| {
            let rest = r#""item": {"itemId": "it"}, "link": {"type": "view", "expires": "2027-01-31"}"#;
            let ask = ask(&format!("malformed-{number}"), "contoso", rest);
            Ask { wanted: Wanted::Refusal("invalidRequest"), ..ask }
        })
        .collect()
}

fn microsoft(item: &str, scope: &str) -> String {
    format!(r#""item": {{"itemId": "{item}"}}, "link": {{"type": "view", "scope": "{scope}"}}"#)
}

fn oracle(item: &str) -> String {
    format!(r#""item": {{"folderId": "F-{item}"}}, "link": {{"assignedUsers": "@serviceinstance", "role": "viewer"}}"#)
}

/// A request of a provider; `rest` is its `item` and `link`.
pub fn ask(id: &str, provider: &str, rest: &str) -> Ask {
    let body = format!(r#"{{"id": "{id}", "provider": "{provider}", {rest}}}"#);
    Ask { id: id.to_owned(), body, wanted: Wanted::Link }
}

/// What was asked and what came until now.
#[derive(Default)]
pub struct SetCheck {
    asked: BTreeMap<String, Wanted>,
    came: Replies,
    /// Asked about the queues where no more replies come.
    operators: Vec<Operator>,
}

impl SetCheck {
    /// A check that asks these nodes, those that live, before it gives up.
    pub fn watching(operators: impl IntoIterator<Item = Operator>) -> Self {
        Self { operators: operators.into_iter().collect(), ..Self::default() }
    }

    /// Publishes requests, confirmed.
    pub async fn ask(&mut self, requester: &Requester, home: &Home, asks: Vec<Ask>) {
        self.asked.extend(asks.iter().map(|ask| (ask.id.clone(), ask.wanted)));
        requester.publish(&home.request_queue, asks.into_iter().map(|ask| (ask.id, ask.body))).await;
    }

    /// Requests answered.
    pub fn answered(&self) -> usize {
        self.came.len()
    }

    /// Whether a request is answered.
    pub fn has(&self, id: &str) -> bool {
        self.came.contains_key(id)
    }

    /// Requests asked.
    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    pub fn note(&mut self, (id, came): (String, Came)) {
        self.came.entry(id).or_default().push(came);
    }

    /// Takes replies until so many requests are answered. The connection may end meanwhile: it is made again, and so it is
    /// once where nothing comes within `patience`, because it may be this one that hangs.
    pub async fn collect(&mut self, urls: &[String], home: &Home, wanted: usize, patience: Duration) {
        let mut tried = usize::MAX;
        while self.answered() < wanted {
            let (requester, mut replies) = Requester::taking(urls, &home.reply_queue).await;
            loop {
                let before = self.answered();
                if before >= wanted {
                    return;
                }
                match client::next(&mut replies, patience).await {
                    Some(reply) => self.note(reply),
                    None if requester.lives() && tried == before => {
                        let state = self.state(&requester, home).await;
                        panic!("nothing more comes: {}\n{state}", self.report(&Stats::default()))
                    }
                    None => {
                        if requester.lives() {
                            println!("nothing for {} s; the requester connects anew", patience.as_secs());
                            tried = before;
                        }
                        break;
                    }
                }
            }
        }
    }

    /// All that can be known of a worker and its queues from outside.
    async fn state(&self, requester: &Requester, home: &Home) -> String {
        let mut state = String::new();
        for queue in home.queues() {
            state += &format!("{queue}: {}\n", requester.asked_about(&queue).await);
        }
        for operator in &self.operators {
            state += &operator.queues();
        }
        for path in ["/readyz", "/metrics"] {
            state += &home.get(path).await;
        }
        state + &tail(&home.log(), 60)
    }

    /// Takes what comes until this time.
    pub async fn collect_until(&mut self, replies: &mut Consumer, end: Instant) {
        while Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            if let Some(reply) = client::next(replies, left).await {
                self.note(reply);
            }
        }
    }

    /// Takes what still comes until the request queue and the delay queues are empty, which ends every repeat.
    pub async fn settle(&mut self, urls: &[String], home: &Home) {
        let (requester, mut replies) = Requester::taking(urls, &home.reply_queue).await;
        let mut quiet = 0;
        while quiet < 2 {
            match client::next(&mut replies, Duration::from_millis(300)).await {
                Some(reply) => self.note(reply),
                None => {
                    let mut waiting = requester.ready(&home.request_queue).await;
                    for step in ["1s", "2s", "5s"] {
                        waiting += requester.ready(&format!("{}.delay.{step}", home.request_queue)).await;
                    }
                    // What the worker still holds, waiting for its turn, is in none of the queues' counts.
                    let metrics = home.get("/metrics").await;
                    let oldest =
                        metrics.lines().find(|line| line.starts_with("sharelink_oldest_request_timestamp_seconds "));
                    let holds = oldest.is_some_and(|line| !line.ends_with(" inf"));
                    quiet = if waiting == 0 && !holds { quiet + 1 } else { 0 };
                }
            }
        }
    }

    pub fn report(&self, stats: &Stats) -> Report {
        let ids = |map: &BTreeSet<&String>, other: &BTreeSet<&String>| -> Vec<String> {
            map.difference(other).map(|id| (*id).clone()).collect()
        };
        let (asked, came) = (self.asked.keys().collect(), self.came.keys().collect());
        let pick = |wrong: &dyn Fn(&str, &[Came]) -> bool| -> Vec<String> {
            self.came.iter().filter(|(id, came)| wrong(id, came)).map(|(id, _)| id.clone()).collect()
        };
        let right = |id: &str, came: &Came| match self.asked.get(id) {
            Some(Wanted::Link) => came.url.is_some() && matches!(came.status.as_str(), "created" | "reused"),
            Some(Wanted::Refusal(kind)) => came.status == "failed" && came.kind.as_deref() == Some(*kind),
            None => true,
        };
        Report {
            asked: self.asked.len(),
            answered: self.came.len(),
            lost: ids(&asked, &came),
            unexpected: ids(&came, &asked),
            failed: pick(&|id, came| came.iter().any(|came| !right(id, came))),
            repeated: self.came.values().filter(|came| came.len() > 1).count(),
            differing: pick(&|_, came| {
                came.iter().any(|one| {
                    came.first().is_some_and(|first| (&one.url, &one.message_id) != (&first.url, &first.message_id))
                })
            }),
            doubled: stats.all.doubled,
            links: stats.all.links,
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.iter().skip(all.len().saturating_sub(lines)).copied().collect::<Vec<_>>().join("\n")
}

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    pub asked: usize,
    pub answered: usize,
    /// Asked and never answered.
    pub lost: Vec<String>,
    /// Answered and never asked.
    pub unexpected: Vec<String>,
    /// Answered otherwise than it has to be.
    pub failed: Vec<String>,
    /// Answered more than once, which at-least-once allows.
    pub repeated: usize,
    /// Repeated with another address or another message id, which nothing allows.
    pub differing: Vec<String>,
    /// Links at the providers beyond the one that was asked for.
    pub doubled: u64,
    /// Links at the providers.
    pub links: u64,
}

impl Report {
    /// # Panics
    /// Where a promise is broken.
    pub fn must_hold(&self) {
        let nothing: Vec<String> = Vec::new();
        assert_eq!(self.lost, nothing, "lost\n{self}");
        assert_eq!(self.unexpected, nothing, "unexpected\n{self}");
        assert_eq!(self.failed, nothing, "failed\n{self}");
        assert_eq!(self.differing, nothing, "repeats that differ\n{self}");
        assert_eq!(self.doubled, 0, "links made twice\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "asked {}, answered {}, lost {}, unexpected {}, failed {}, repeated {}, repeats that differ {}, links {}, doubled {}",
            self.asked,
            self.answered,
            self.lost.len(),
            self.unexpected.len(),
            self.failed.len(),
            self.repeated,
            self.differing.len(),
            self.links,
            self.doubled
        )
    }
}
