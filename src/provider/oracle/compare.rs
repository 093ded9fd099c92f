//! Asked against granted: which differences make a link narrower, which make it wider, and what cannot be judged.
//!
//! What cannot be read, or is missing where the API's examples always have it, counts as wider: nothing shows that it
//! is not.

use std::cmp::Ordering;

use serde_json::Value;

use super::answer::{Expiry, Link};
use super::request::{Ask, Role, write_time};
use super::users::AssignedUsers;
use crate::model::{Comparison, Difference};

/// The comparison, and the members of which only the provider knows whether they are as asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judgement {
    /// What is narrower and what is wider.
    pub comparison: Comparison,
    /// What nobody can tell.
    pub unknown: Vec<&'static str>,
}

impl Judgement {
    /// What is told of a link that goes out: the differences, and the people where nobody can say whether they are those
    /// asked for. Of a password nothing can be told.
    pub(super) fn told(self, ask: &Ask, link: &Link) -> Comparison {
        let mut comparison = self.comparison;
        if self.unknown.contains(&"assignedUsers") {
            comparison.narrower.push(Difference {
                member: "assignedUsers".to_owned(),
                asked: ask.users.to_string().into(),
                granted: link.member("assignedUsers"),
            });
        }
        comparison
    }
}

/// Compares a link with what was asked. The password takes part only as unknown: no answer shows whether a link has one.
pub fn judge(ask: &Ask, link: &Link) -> Judgement {
    let mut judgement = Judgement::default();
    let mut note = |member: &'static str, asked: Value, ordering: Option<Ordering>| {
        let difference =
            || Difference { member: member.to_owned(), asked: asked.clone(), granted: link.member(member) };
        match ordering {
            Some(Ordering::Equal) => {}
            Some(Ordering::Less) => judgement.comparison.narrower.push(difference()),
            Some(Ordering::Greater) => judgement.comparison.wider.push(difference()),
            None => judgement.unknown.push(member),
        }
    };
    note("assignedUsers", ask.users.to_string().into(), users(&ask.users, link.users().as_ref()));
    let role = link.role().and_then(Role::from_word);
    note("role", ask.role.as_str().into(), Some(role.map_or(Ordering::Greater, |role| role.cmp(&ask.role))));
    note("expirationTime", ask.expires.map(write_time).into(), Some(expiry(ask, link.expires())));
    if let Some(name) = &ask.name {
        // Another name opens nothing; the requester is told of it with the warnings.
        let same = link.name() == Some(name.as_str());
        note("linkName", name.as_str().into(), Some(if same { Ordering::Equal } else { Ordering::Less }));
    }
    if ask.password.is_some() {
        note("password", Value::Null, None);
    }
    judgement
}

/// The granted audience against the asked one; `None` where two lists differ and the provider may have written ids
/// for e-mail addresses.
fn users(asked: &AssignedUsers, granted: Option<&AssignedUsers>) -> Option<Ordering> {
    let Some(granted) = granted else { return Some(Ordering::Greater) };
    match (asked, granted) {
        (AssignedUsers::Named(asked), AssignedUsers::Named(granted)) => {
            let is_email = |user: &&String| user.contains('@');
            let is_asked = |user: &String| asked.iter().any(|other| other.eq_ignore_ascii_case(user));
            let has_stranger = granted.iter().filter(is_email).any(|user| !is_asked(user));
            match granted.len().cmp(&asked.len()) {
                Ordering::Greater => Some(Ordering::Greater),
                // An address that is none of those asked for is another person; an id may be anybody's.
                _ if has_stranger && asked.iter().all(|user| user.contains('@')) => Some(Ordering::Greater),
                Ordering::Less => Some(Ordering::Less),
                Ordering::Equal if granted.iter().all(is_asked) => Some(Ordering::Equal),
                Ordering::Equal => None,
            }
        }
        _ => Some(granted.audience().cmp(&asked.audience())),
    }
}

fn expiry(ask: &Ask, granted: Expiry) -> Ordering {
    match (ask.expires, granted) {
        (None, Expiry::Never) => Ordering::Equal,
        (None, Expiry::At(_) | Expiry::Unreadable) => Ordering::Less,
        (Some(asked), Expiry::At(granted)) => granted.cmp(&asked),
        (Some(_), Expiry::Never | Expiry::Unreadable) => Ordering::Greater,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::oracle::request::ask;
    use proptest::prelude::*;

    /// Which members come out narrower, wider and unknown.
    fn judged(asked: Value, granted: Value) -> (Vec<String>, Vec<String>, Vec<&'static str>) {
        let ask = ask(r#"{"folderId":"F"}"#, &asked.to_string()).unwrap();
        let mut granted = granted;
        granted["linkID"] = "L".into();
        let link = Link::read(granted.as_object().unwrap().clone()).unwrap();
        let judgement = judge(&ask, &link);
        let members = |all: &[Difference]| all.iter().map(|difference| difference.member.clone()).collect();
        (members(&judgement.comparison.narrower), members(&judgement.comparison.wider), judgement.unknown)
    }

    #[test]
    fn each_member_is_narrower_wider_equal_or_unknown_by_its_own_order() {
        let base = |member: &str, value: Value| {
            let mut object = serde_json::json!({"assignedUsers": "@serviceinstance", "role": "downloader"});
            object[member] = value;
            object
        };
        let (early, late) = ("2027-01-31T00:00:00Z", "2027-06-30T00:00:00Z");
        for (member, asked, granted, verdict) in [
            ("assignedUsers", "@serviceinstance", Value::from("@serviceinstance"), "equal"),
            ("assignedUsers", "@serviceinstance", "@everybody".into(), "wider"),
            ("assignedUsers", "@everybody", "@serviceinstance".into(), "narrower"),
            ("assignedUsers", "@serviceinstance", "a,b".into(), "narrower"),
            ("assignedUsers", "a,b", "b , a".into(), "equal"),
            ("assignedUsers", "a,b", "U1,U2".into(), "unknown"),
            ("assignedUsers", "A@x.org,b", "b,a@x.org".into(), "equal"),
            ("assignedUsers", "a@x.org", "U1".into(), "unknown"),
            ("assignedUsers", "U1", "a@x.org".into(), "unknown"),
            ("assignedUsers", "a@x.org", "evil@x.org".into(), "wider"),
            ("assignedUsers", "a@x.org,b@x.org", "evil@x.org".into(), "wider"),
            ("assignedUsers", "a,b", "a,b,c".into(), "wider"),
            ("assignedUsers", "a,b", "U1".into(), "narrower"),
            ("assignedUsers", "a,b", "a,@everybody".into(), "wider"),
            ("assignedUsers", "a", Value::Null, "wider"),
            ("role", "downloader", "downloader".into(), "equal"),
            ("role", "downloader", "viewer".into(), "narrower"),
            ("role", "downloader", "contributor".into(), "wider"),
            ("role", "downloader", "manager".into(), "wider"),
            ("role", "contributor", Value::Null, "wider"),
            ("expirationTime", early, early.into(), "equal"),
            ("expirationTime", early, "2027-01-31T00:00:00.000".into(), "equal"),
            ("expirationTime", early, "2027-01-31T00:00:00.9".into(), "wider"),
            ("expirationTime", early, "2027-01-30T23:59:59.9Z".into(), "narrower"),
            // Half a second is not sent, and so is not asked for.
            ("expirationTime", "2027-01-31T00:00:00.5Z", early.into(), "equal"),
            ("expirationTime", "2027-01-31T00:00:00.5Z", "2027-01-31T00:00:00.5Z".into(), "wider"),
            ("expirationTime", early, late.into(), "wider"),
            ("expirationTime", late, early.into(), "narrower"),
            ("expirationTime", early, Value::Null, "wider"),
            ("expirationTime", early, "soon".into(), "wider"),
            ("linkName", "mine", "mine".into(), "equal"),
            ("linkName", "mine", "mine (1)".into(), "narrower"),
            ("linkName", "mine", Value::Null, "narrower"),
        ] {
            let (narrower, wider, unknown) = judged(base(member, asked.into()), base(member, granted.clone()));
            let found = match (narrower.as_slice(), wider.as_slice(), unknown.as_slice()) {
                ([], [], []) => "equal",
                ([one], [], []) if one == member => "narrower",
                ([], [one], []) if one == member => "wider",
                ([], [], [one]) if *one == member => "unknown",
                _ => "something else",
            };
            assert_eq!(found, verdict, "{member}: {asked} against {granted}");
        }
    }

    #[test]
    fn an_expiry_that_nobody_asked_for_is_narrower_and_a_password_is_never_known() {
        let plain = serde_json::json!({"assignedUsers": "a", "role": "viewer"});
        let mut ends = plain.clone();
        ends["expirationTime"] = "2027-01-31T00:00:00Z".into();
        assert_eq!(judged(plain.clone(), ends), (vec!["expirationTime".to_owned()], vec![], vec![]));
        let mut locked = plain.clone();
        locked["password"] = "MyPassword".into();
        assert_eq!(judged(locked, plain), (vec![], vec![], vec!["password"]));
    }

    fn audience() -> impl Strategy<Value = String> {
        prop_oneof![Just("@everybody".to_owned()), Just("@serviceinstance".to_owned()), "[a-c](,[a-c]){0,2}"]
    }

    proptest! {
        #[test]
        fn what_is_granted_as_asked_never_differs(users in audience(), role in 0_usize..3, end in proptest::option::of(0_i64..4_000_000_000)) {
            let role = ["viewer", "downloader", "contributor"][role];
            let mut asked = serde_json::json!({"assignedUsers": users, "role": role});
            if let Some(end) = end {
                asked["expirationTime"] = write_time(jiff::Timestamp::from_second(end).unwrap()).into();
            }
            prop_assert_eq!(judged(asked.clone(), asked), (vec![], vec![], vec![]));
        }

        #[test]
        fn wider_one_way_is_narrower_the_other_way(one in audience(), other in audience(), roles in (0_usize..3, 0_usize..3)) {
            let link = |users: &str, role: usize| {
                let role = ["viewer", "downloader", "contributor"][role];
                serde_json::json!({"assignedUsers": users, "role": role})
            };
            let (one, other) = (link(&one, roles.0), link(&other, roles.1));
            let there = judged(one.clone(), other.clone());
            let back = judged(other, one);
            prop_assert_eq!((there.0, there.1, there.2), (back.1, back.0, back.2));
        }

        #[test]
        fn any_answer_is_survived(users in "\\PC*", role in "\\PC*", end in "\\PC*") {
            judged(
                serde_json::json!({"assignedUsers": "a", "expirationTime": "2027-01-31T00:00:00Z"}),
                serde_json::json!({"assignedUsers": users, "role": role, "expirationTime": end}),
            );
        }
    }
}
