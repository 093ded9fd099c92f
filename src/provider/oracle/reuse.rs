//! Which of an item's links answers a request, if any does.
//!
//! A link is only ever recognised by its name. One of our own names vouches for everything, the password included; a
//! name that a request chose vouches for nothing that the list does not show.

use jiff::Timestamp;

use super::answer::{Expiry, Link};
use super::compare::{Judgement, judge};
use super::name::Stem;
use super::request::Ask;
use crate::model::{ErrorKind, Failure};

/// How a link of this request is recognised.
#[derive(Debug, Clone)]
pub(super) enum Recognise {
    /// By the name that the request gives.
    Given(String),
    /// By a name of ours.
    Own(Stem),
}

impl Recognise {
    /// The name that a link of this request has, or is to get, given the links that are there.
    pub(super) fn name(&self, links: &[Link], now: Timestamp) -> String {
        match self {
            Self::Given(name) => name.clone(),
            Self::Own(stem) => {
                let is_spent = |name: &str| links.iter().any(|link| link.is_over(now) && link.name() == Some(name));
                // Each spent name uses up a link of the list, so one of these is free.
                let mut generation = 0;
                let mut name = stem.name(generation);
                while generation < links.len() && is_spent(&name) {
                    generation += 1;
                    name = stem.name(generation);
                }
                name
            }
        }
    }

    fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }
}

/// The link to hand out, judged, and how many there were to choose from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) link: Link,
    pub(super) judgement: Judgement,
    pub(super) of: usize,
}

/// Finds the link of that name that is still in force. Of several the closest to the request is taken, then the one
/// with the latest end, then the oldest, then the smallest id: every worker takes the same.
pub(super) fn find(ask: &Ask, name: &str, links: &[Link], now: Timestamp) -> Option<Found> {
    let mut found: Vec<(Judgement, &Link)> = links
        .iter()
        .filter(|link| link.name() == Some(name) && !link.is_over(now))
        .map(|link| (judge(ask, link), link))
        .collect();
    let of = found.len();
    found.sort_by(|(judged, link), (other_judged, other)| rank(judged, link).cmp(&rank(other_judged, other)));
    let (judgement, link) = found.into_iter().next()?;
    Some(Found { link: link.clone(), judgement, of })
}

fn rank<'a>(judged: &Judgement, link: &'a Link) -> impl Ord + use<'a> {
    let end = match link.expires() {
        Expiry::Never => Timestamp::MAX,
        Expiry::At(end) => end,
        Expiry::Unreadable => Timestamp::MIN,
    };
    (
        judged.comparison.wider.len(),
        judged.unknown.len(),
        judged.comparison.narrower.len(),
        std::cmp::Reverse(end),
        link.created().unwrap_or(Timestamp::MAX),
        &link.id,
    )
}

/// Whether a link that was found may be handed out. A wider one may: the pipeline refuses it, with the differences.
///
/// # Errors
/// `conflict`, where the link's name was given by a request and the provider does not tell whether it is as asked.
pub(super) fn may_reuse(how: &Recognise, found: &Found) -> Result<(), Failure> {
    let unknown = &found.judgement.unknown;
    if how.is_own() || unknown.is_empty() || !found.judgement.comparison.wider.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorKind::Conflict,
        format!(
            "the item already has a link of the requested linkName, and the provider does not tell whether its {} is as \
             asked; choose another linkName, leave linkName out, or delete that link",
            unknown.join(" and its ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oracle::request::ask;
    use serde_json::{Value, json};

    const NOW: &str = "2026-11-22T10:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn link(id: &str, name: &str, more: Value) -> Link {
        let mut members =
            json!({"linkID": id, "linkName": name, "assignedUsers": "@serviceinstance", "role": "viewer"});
        for (member, value) in more.as_object().unwrap() {
            members[member] = value.clone();
        }
        Link::read(members.as_object().unwrap().clone()).unwrap()
    }

    fn asked(link: Value) -> Ask {
        ask(r#"{"folderId":"F"}"#, &link.to_string()).unwrap()
    }

    #[test]
    fn of_several_links_the_closest_then_longest_then_oldest_then_smallest_is_taken_in_any_order() {
        let ask = asked(json!({"assignedUsers": "@serviceinstance", "linkName": "n"}));
        let mut links = vec![
            link("L9", "n", json!({"createdTime": "2026-01-01T00:00:00Z"})),
            link("L8", "n", json!({"createdTime": "2026-01-01T00:00:00Z"})),
            link("L1", "n", json!({"createdTime": "2026-02-01T00:00:00Z"})),
            link("L0", "n", json!({"expirationTime": "2027-01-01T00:00:00Z", "createdTime": "2025-01-01T00:00:00Z"})),
            link("L2", "n", json!({"assignedUsers": "@everybody", "createdTime": "2020-01-01T00:00:00Z"})),
            link("L3", "other", json!({})),
            link("L4", "n", json!({"expirationTime": NOW})),
        ];
        let mut taken = Vec::new();
        while let Some(found) = find(&ask, "n", &links, now()) {
            taken.push(found.link.id.clone());
            assert_eq!(find(&ask, "n", &links.iter().rev().cloned().collect::<Vec<_>>(), now()), Some(found.clone()));
            links.retain(|link| link.id != found.link.id);
        }
        assert_eq!(taken, ["L8", "L9", "L1", "L0", "L2"]);
    }

    #[test]
    fn a_name_of_ours_that_an_expired_link_holds_gives_way_to_the_next() {
        let stem = Stem::new("s", &asked(json!({"assignedUsers": "@serviceinstance"})));
        let own = Recognise::Own(stem.clone());
        let spent = json!({"expirationTime": "2026-11-22T09:00:00Z"});
        assert_eq!(own.name(&[], now()), stem.name(0));
        assert_eq!(own.name(&[link("A", &stem.name(0), json!({}))], now()), stem.name(0));
        assert_eq!(own.name(&[link("A", &stem.name(0), spent.clone())], now()), stem.name(1));
        let both = [link("B", &stem.name(1), spent.clone()), link("A", &stem.name(0), spent)];
        assert_eq!(own.name(&both, now()), stem.name(2));
    }

    #[test]
    fn a_given_name_vouches_for_nothing_that_the_list_does_not_show() {
        let given = Recognise::Given("n".to_owned());
        let there = [link("L", "n", json!({}))];
        let reusable = |how: &Recognise, wish: Value, links: &[Link]| {
            let ask = asked(wish);
            may_reuse(how, &find(&ask, "n", links, now()).unwrap()).map_err(|failure| failure.kind)
        };
        let plain = json!({"assignedUsers": "@serviceinstance", "linkName": "n"});
        let locked = json!({"assignedUsers": "@serviceinstance", "linkName": "n", "password": "MyPassword"});
        let people = json!({"assignedUsers": "a,b", "linkName": "n"});
        let own = Recognise::Own(Stem::new("s", &asked(plain.clone())));
        assert_eq!(reusable(&given, plain, &there), Ok(()));
        assert_eq!(reusable(&given, locked.clone(), &there), Err(ErrorKind::Conflict));
        assert_eq!(reusable(&own, locked, &there), Ok(()));
        let others = [link("L", "n", json!({"assignedUsers": "U1,U2"}))];
        assert_eq!(reusable(&given, people, &others), Err(ErrorKind::Conflict));
    }
}
