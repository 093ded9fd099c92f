//! What the provider says about links: one link of an answer, and the list of an item's links.
//!
//! Every member is optional in Oracle's schema, so reading never fails over a missing one; only what a link is for
//! (its id) has to be there.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::request::{read_instant, read_time};
use super::users::AssignedUsers;
use crate::model::Object;

/// An interrupted request comes back within minutes; a link that is older than this was made by somebody else.
const RECENT: SignedDuration = SignedDuration::from_hours(1);

/// A link as the provider describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// `linkID`. For `@everybody` links whoever knows it has access.
    pub id: String,
    /// The members as they came.
    members: Object,
}

/// When a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// None is told.
    Never,
    /// At this time.
    At(Timestamp),
    /// There is an expiry that cannot be read.
    Unreadable,
}

impl Link {
    /// The link that an object describes; `None` for an object without a `linkID` or of another type.
    pub fn read(members: Object) -> Option<Self> {
        let id = text(&members, "linkID")?.to_owned();
        let of_type = text(&members, "type").is_none_or(|kind| kind == "publiclink");
        (of_type && !id.is_empty()).then_some(Self { id, members })
    }

    /// `linkName`
    pub fn name(&self) -> Option<&str> {
        self.text("linkName")
    }

    /// `role`, as the word it came as.
    pub fn role(&self) -> Option<&str> {
        self.text("role")
    }

    /// `assignedUsers`; `None` where it names nobody.
    pub fn users(&self) -> Option<AssignedUsers> {
        self.text("assignedUsers").and_then(AssignedUsers::echo)
    }

    /// `createdTime`, where it can be read.
    pub fn created(&self) -> Option<Timestamp> {
        self.text("createdTime").and_then(read_time)
    }

    /// Whether the link was made within the last hour: by an attempt at this request, for all one can tell.
    pub(super) fn is_recent(&self, now: Timestamp) -> bool {
        self.created().is_some_and(|created| now.duration_since(created) <= RECENT)
    }

    /// `expirationTime`, to the fraction of a second: a link that ends later than asked by less than one is wider too.
    pub fn expires(&self) -> Expiry {
        match self.members.get("expirationTime") {
            None | Some(Value::Null) => Expiry::Never,
            Some(Value::String(text)) if text.is_empty() => Expiry::Never,
            Some(Value::String(text)) => read_instant(text).map_or(Expiry::Unreadable, Expiry::At),
            Some(_) => Expiry::Unreadable,
        }
    }

    /// Whether the link has ended at `now`.
    pub fn is_over(&self, now: Timestamp) -> bool {
        matches!(self.expires(), Expiry::At(end) if end <= now)
    }

    /// A member as it came; `null` where there is none, and where it is a list or an object: each member is documented
    /// as one value, and what is nested too deeply would make a reply that its reader refuses.
    pub fn member(&self, name: &str) -> Value {
        self.members.get(name).filter(|value| !value.is_array() && !value.is_object()).cloned().unwrap_or_default()
    }

    /// What the reply shows of it.
    pub fn granted(&self) -> Object {
        ["assignedUsers", "role", "expirationTime", "linkName"]
            .into_iter()
            .map(|name| (name.to_owned(), self.member(name)))
            .filter(|(_, value)| !value.is_null())
            .collect()
    }

    fn text(&self, name: &str) -> Option<&str> {
        text(&self.members, name)
    }
}

/// The links of a listing. `items` is absent when there are none, and `count` is a string (facts: clients test both).
///
/// `None` where the object is no listing: links are counted and not shown, or `items` is something else than a list.
pub fn links(mut listing: Object) -> Option<Vec<Link>> {
    match listing.remove("items") {
        Some(Value::Array(items)) => Some(
            items
                .into_iter()
                .filter_map(|item| match item {
                    Value::Object(members) => Link::read(members),
                    _ => None,
                })
                .collect(),
        ),
        None | Some(Value::Null) => {
            let none = match listing.get("count") {
                None | Some(Value::Null) => true,
                Some(Value::String(count)) => matches!(count.trim(), "0" | ""),
                Some(Value::Number(count)) => count.as_u64() == Some(0),
                Some(_) => false,
            };
            none.then(Vec::new)
        }
        Some(_) => None,
    }
}

fn text<'a>(members: &'a Object, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Vec<Link>> {
        links(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn the_documented_answer_and_listing_are_read() {
        let created = include_str!("../../../tests/fixtures/oracle/01-create-folder-link-200.json");
        let link = Link::read(serde_json::from_str(created).unwrap()).unwrap();
        assert_eq!(link.id, "LF906748A021ACD714CABC82T0000000000100000001");
        assert_eq!(
            Value::Object(link.granted()),
            serde_json::json!({
                "assignedUsers": "@serviceinstance", "role": "contributor",
                "expirationTime": "2016-01-01T00:00:01Z", "linkName": "MyLinkOne"
            })
        );
        let listed = read(include_str!("../../../tests/fixtures/oracle/03-list-folder-links-200-two.json")).unwrap();
        assert_eq!(listed.iter().map(Link::name).collect::<Vec<_>>(), [Some("hasSecondLink"), Some("hasFirstLink")]);
        assert!(listed.iter().all(|link| link.expires() == Expiry::Never));
    }

    #[test]
    fn a_member_that_is_nested_is_not_handed_on() {
        let link = r#"{"linkID":"L","role":[["viewer"]],"linkName":{"a":1},"assignedUsers":"a","expirationTime":[]}"#;
        let link = Link::read(serde_json::from_str(link).unwrap()).unwrap();
        assert_eq!(Value::Object(link.granted()), serde_json::json!({"assignedUsers": "a"}));
        assert_eq!((link.member("role"), link.expires()), (Value::Null, Expiry::Unreadable));
    }

    #[test]
    fn no_links_are_told_in_several_ways_and_hidden_links_in_none() {
        for (json, count) in [
            ("{}", Some(0)),
            (r#"{"count":"0"}"#, Some(0)),
            (r#"{"count":0,"items":null}"#, Some(0)),
            (r#"{"count":"0","items":[]}"#, Some(0)),
            (r#"{"count":"1","items":[{"linkID":"L"}]}"#, Some(1)),
            (r#"{"items":[{"linkID":"L"},{"linkID":""},{"linkID":7},{},3,{"linkID":"A","type":"applink"}]}"#, Some(1)),
            (r#"{"count":"2"}"#, None),
            (r#"{"count":2,"items":null}"#, None),
            (r#"{"count":"0","items":"none"}"#, None),
        ] {
            assert_eq!(read(json).map(|links| links.len()), count, "{json}");
        }
    }

    #[test]
    fn an_end_is_over_when_it_is_reached_and_one_that_cannot_be_read_is_not() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (end, over) in [
            (r#""2026-11-22T10:00:00Z""#, true),
            (r#""2026-11-22T09:00:00""#, true),
            (r#""2026-11-22T10:00:01Z""#, false),
            (r#""2026-11-22T10:00:00.5""#, false),
            (r#""soon""#, false),
            ("null", false),
            ("7", false),
        ] {
            let json = format!(r#"{{"linkID":"L","expirationTime":{end}}}"#);
            assert_eq!(Link::read(serde_json::from_str(&json).unwrap()).unwrap().is_over(now), over, "{end}");
        }
    }
}
