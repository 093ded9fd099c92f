//! What the demo asks for, pure: a mixed batch in which every ending occurs, with what is expected of each request.

use serde_json::{Value, json};

use crate::model::ErrorKind;

/// The demo's accounts: Graph, the older OneDrive API, Oracle.
pub const ACCOUNTS: [&str; 3] = ["contoso", "personal", "content"];

/// How a request is expected to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Created or reused.
    Link,
    /// Failed with this kind.
    Failure(ErrorKind),
}

/// One request of the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its id.
    pub id: String,
    /// The message's body; not always JSON.
    pub body: String,
    /// How it is to end.
    pub expected: Expected,
}

/// What a request is about: the words are item names that the simulator knows (`sharelink simulate --help`).
#[derive(Debug, Clone, Copy)]
enum Sort {
    New,
    Repeated,
    Item(&'static str, Expected),
    Unsupported,
    Malformed,
}

/// How many of a hundred requests are of which sort; the rest is new.
const SORTS: &[(u32, Sort)] = &[
    (27, Sort::Repeated),
    (3, Sort::Item("missing", Expected::Failure(ErrorKind::NotFound))),
    (3, Sort::Item("forbidden", Expected::Failure(ErrorKind::Forbidden))),
    (3, Sort::Item("flaky", Expected::Link)),
    (2, Sort::Item("slow-250", Expected::Link)),
    (1, Sort::Item("lost", Expected::Link)),
    (1, Sort::Item("wider", Expected::Failure(ErrorKind::WiderThanAsked))),
    (1, Sort::Unsupported),
    (2, Sort::Malformed),
];

/// One in so many requests meets a provider that asks for a pause; each such pause stops the whole account for a second.
const THROTTLED_EVERY: usize = 200;

/// Plans `count` requests, the same ones every time.
pub fn plan(count: usize) -> Vec<Planned> {
    let mut dice = fastrand::Rng::with_seed(20_261_122);
    let mut new: Vec<(usize, Value, Value)> = Vec::new();
    (0..count)
        .map(|number| {
            let id = format!("demo-{number:05}");
            let account = match dice.u32(0..10) {
                0..5 => 0,
                5..7 => 1,
                _ => 2,
            };
            let sort = if number % THROTTLED_EVERY == THROTTLED_EVERY / 2 {
                Sort::Item("throttled", Expected::Link)
            } else {
                sort(dice.u32(0..100))
            };
            match sort {
                Sort::New => {
                    let (item, link) = (item(account, &format!("report-{number:05}")), link(account));
                    new.push((account, item.clone(), link.clone()));
                    planned(id, account, &item, &link, Expected::Link)
                }
                Sort::Repeated => match dice.choice(&new) {
                    Some((account, item, link)) => planned(id, *account, item, link, Expected::Link),
                    None => planned(id, account, &item(account, "report-first"), &link(account), Expected::Link),
                },
                Sort::Item(word, expected) => {
                    // Only Graph and Oracle tell enough of a granted link to see that it is wider than asked.
                    let account = if word == "wider" { account & 2 } else { account };
                    planned(
                        id,
                        account,
                        &item(account, &format!("report-{number:05}-{word}")),
                        &link(account),
                        expected,
                    )
                }
                Sort::Unsupported => {
                    let link = json!({ "type": "view", "password": "demo-password" });
                    let item = item(1, &format!("report-{number:05}"));
                    planned(id, 1, &item, &link, Expected::Failure(ErrorKind::Unsupported))
                }
                Sort::Malformed => malformed(id, account, number),
            }
        })
        .collect()
}

fn sort(roll: u32) -> Sort {
    let mut upto = 0;
    for (share, sort) in SORTS {
        upto += share;
        if roll < upto {
            return *sort;
        }
    }
    Sort::New
}

fn item(account: usize, name: &str) -> Value {
    match account {
        0 if name.ends_with('7') => json!({ "itemPath": format!("/Reports 2026/{name}.pdf") }),
        2 => json!({ "folderId": format!("F{name}") }),
        _ => json!({ "itemId": name }),
    }
}

fn link(account: usize) -> Value {
    match account {
        0 => json!({ "type": "view", "scope": "organization" }),
        1 => json!({ "type": "view", "scope": "anonymous" }),
        _ => json!({ "assignedUsers": "@serviceinstance", "role": "viewer" }),
    }
}

fn planned(id: String, account: usize, item: &Value, link: &Value, expected: Expected) -> Planned {
    let provider = ACCOUNTS.get(account).copied().unwrap_or(ACCOUNTS[0]);
    let body = json!({ "id": id, "provider": provider, "item": item, "link": link }).to_string();
    Planned { id, body, expected }
}

/// Two sorts of mistakes: a misspelt member, and something that is no JSON at all.
fn malformed(id: String, account: usize, number: usize) -> Planned {
    let expected = Expected::Failure(ErrorKind::InvalidRequest);
    if number.is_multiple_of(2) {
        let link = json!({ "type": "view", "expirationDatetime": "2027-01-31T00:00:00Z" });
        planned(id, if account == 2 { 0 } else { account }, &item(0, "report"), &link, expected)
    } else {
        Planned { body: format!("{{\"id\": \"{id}\", item: report"), id, expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_thousand_requests_hold_every_ending_and_are_the_same_every_time() {
        let batch = plan(1_000);
        assert_eq!(batch, plan(1_000));
        let ids: BTreeSet<_> = batch.iter().map(|planned| &planned.id).collect();
        assert_eq!(ids.len(), 1_000);
        let links = batch.iter().filter(|planned| planned.expected == Expected::Link).count();
        assert!((800..960).contains(&links), "{links}");
        for kind in [
            ErrorKind::NotFound,
            ErrorKind::Forbidden,
            ErrorKind::WiderThanAsked,
            ErrorKind::Unsupported,
            ErrorKind::InvalidRequest,
        ] {
            assert!(batch.iter().any(|planned| planned.expected == Expected::Failure(kind)), "{kind:?}");
        }
        for account in ACCOUNTS {
            assert!(batch.iter().any(|planned| planned.body.contains(account)), "{account}");
        }
    }
}
