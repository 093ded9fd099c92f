//! Reads `item` and `link` of a request into an [`Ask`], and writes the body of the create call.
//!
//! Whatever is not understood is refused by name: a member that was dropped could be the one that kept a link private.

use jiff::{Timestamp, Unit};
use serde_json::Value;

use super::users::AssignedUsers;
use crate::model::time::rfc3339;
use crate::model::{Asked, Failure, Object, Secret};
use crate::provider::address;

/// Members of `item`.
const ITEM_MEMBERS: [&str; 2] = ["folderId", "fileId"];
/// Members of `link`; also the body members that the create call documents.
const LINK_MEMBERS: [&str; 5] = ["assignedUsers", "role", "expirationTime", "password", "linkName"];
/// Documented length of a link's password, in characters.
const PASSWORD_LENGTH: std::ops::RangeInclusive<usize> = 8..=50;

/// What kind of thing an item is; it decides the endpoint and the form of the public address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// `folderId`
    Folder,
    /// `fileId`
    File,
}

impl ItemKind {
    /// The word in the API's paths.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::File => "file",
        }
    }
}

/// An item.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Item {
    /// Folder or file.
    pub kind: ItemKind,
    /// Checked, and encoded as one path segment.
    pub id: String,
}

/// What a link allows. The order is from narrow to wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `viewer`
    Viewer,
    /// `downloader`
    Downloader,
    /// `contributor`
    Contributor,
}

impl Role {
    const ALL: [Role; 3] = [Self::Viewer, Self::Downloader, Self::Contributor];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Downloader => "downloader",
            Self::Contributor => "contributor",
        }
    }

    /// The role of that word; the keywords are lower case.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// The neutral type that a policy knows.
    fn neutral(self) -> &'static str {
        match self {
            Self::Viewer | Self::Downloader => "view",
            Self::Contributor => "edit",
        }
    }
}

/// A request, read and found possible.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Which item.
    pub item: Item,
    /// `assignedUsers`
    pub users: AssignedUsers,
    /// `role`
    pub role: Role,
    /// `expirationTime`, in whole seconds.
    pub expires: Option<Timestamp>,
    /// `password`
    pub password: Option<Secret>,
    /// The name that the request gives the link; without one the link gets a name of ours.
    pub name: Option<String>,
}

impl Ask {
    /// Reads the two objects of a request.
    ///
    /// # Errors
    /// `invalidRequest`, naming the member and saying what is allowed.
    pub fn read(item: &Object, link: &Object) -> Result<Self, Failure> {
        only_known(item, "item", &ITEM_MEMBERS)?;
        only_known(link, "link", &LINK_MEMBERS)?;
        Ok(Self {
            item: read_item(item)?,
            users: match text(link, "link", "assignedUsers")? {
                Some(users) => AssignedUsers::ask(users).map_err(Failure::invalid)?,
                None => {
                    return Err(Failure::invalid(
                        "link.assignedUsers is missing: give @everybody, @serviceinstance, or a comma-separated list of \
                         user ids, login names or e-mail addresses",
                    ));
                }
            },
            role: match text(link, "link", "role")? {
                None => Role::Viewer,
                Some(word) => Role::from_word(word)
                    .ok_or_else(|| Failure::invalid("link.role must be viewer, downloader or contributor"))?,
            },
            expires: text(link, "link", "expirationTime")?
                .map(|time| {
                    read_time(time).ok_or_else(|| {
                        Failure::invalid(
                            "link.expirationTime must be an RFC 3339 time such as 2027-01-31T00:00:00Z; without a zone it is \
                             read as UTC",
                        )
                    })
                })
                .transpose()?,
            password: text(link, "link", "password")?.map(read_password).transpose()?,
            name: text(link, "link", "linkName")?.map(read_name).transpose()?,
        })
    }

    /// What is asked, for the policy.
    pub fn asked(&self) -> Asked {
        Asked {
            own_type: self.role.as_str().to_owned(),
            neutral_type: self.role.neutral(),
            audience: Some(self.users.audience()),
            expires: self.expires,
            has_password: self.password.is_some(),
        }
    }

    /// The body of the create call. The role is always sent: without it the account's own preference for public links
    /// would decide (Oracle's create page).
    pub fn body(&self, name: &str) -> Vec<u8> {
        let mut body = self.settings();
        body.insert("linkName".to_owned(), name.into());
        Value::Object(body).to_string().into_bytes()
    }

    /// The body of the edit call that makes a link what is asked for; its name cannot be edited.
    pub(super) fn edit_body(&self) -> Vec<u8> {
        Value::Object(self.settings()).to_string().into_bytes()
    }

    fn settings(&self) -> Object {
        let mut body = Object::new();
        body.insert("assignedUsers".to_owned(), self.users.to_string().into());
        body.insert("role".to_owned(), self.role.as_str().into());
        if let Some(expires) = self.expires {
            body.insert("expirationTime".to_owned(), write_time(expires).into());
        }
        if let Some(password) = &self.password {
            body.insert("password".to_owned(), password.reveal().into());
        }
        body
    }
}

/// Reads a time as the API writes it or as a request may give it: RFC 3339, or without a zone, which Oracle reads as
/// UTC (its edit example).
pub(super) fn read_instant(text: &str) -> Option<Timestamp> {
    rfc3339(text).or_else(|| rfc3339(&format!("{text}Z")))
}

/// The same, cut down to whole seconds, so that what is sent is never later than what was asked.
pub(super) fn read_time(text: &str) -> Option<Timestamp> {
    let time = read_instant(text)?;
    time.round(jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Floor)).ok()
}

/// Writes a time in whole seconds, UTC, with `Z`.
pub fn write_time(time: Timestamp) -> String {
    time.to_string()
}

fn read_item(item: &Object) -> Result<Item, Failure> {
    let (kind, member, id) = match (text(item, "item", "folderId")?, text(item, "item", "fileId")?) {
        (Some(id), None) => (ItemKind::Folder, "item.folderId", id),
        (None, Some(id)) => (ItemKind::File, "item.fileId", id),
        (None, None) => return Err(Failure::invalid("item must have folderId or fileId")),
        (Some(_), Some(_)) => return Err(Failure::invalid("item must have only one of folderId and fileId")),
    };
    Ok(Item { kind, id: address::id(member, id)? })
}

fn read_password(password: &str) -> Result<Secret, Failure> {
    if PASSWORD_LENGTH.contains(&password.chars().count()) {
        Ok(Secret::new(password))
    } else {
        Err(Failure::invalid("link.password must have 8 to 50 characters"))
    }
}

fn read_name(name: &str) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::invalid("link.linkName is empty: give a name, or leave the member out"));
    }
    // A name that came back changed could not be recognised, and the next delivery would make a second link.
    if name.trim() != name || name.chars().any(char::is_control) {
        return Err(Failure::invalid(
            "link.linkName must not begin or end with white space and must not hold control characters",
        ));
    }
    Ok(name.to_owned())
}

fn only_known(object: &Object, place: &str, known: &[&str]) -> Result<(), Failure> {
    match object.keys().find(|member| !known.contains(&member.as_str())) {
        None => Ok(()),
        Some(member) => {
            let member: String = member.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(Failure::invalid(format!(
                "{place}.{member} is not known to an Oracle account; {place} may have {}",
                known.join(", ")
            )))
        }
    }
}

/// A string member. `null` is refused like any other type: a template that failed to fill in a password must not make
/// a link without one.
fn text<'a>(object: &'a Object, place: &str, member: &str) -> Result<Option<&'a str>, Failure> {
    match object.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Failure::invalid(format!(
            "{place}.{member} must be a string, not {}; leave it out to ask for none",
            match other {
                Value::Null => "null",
                Value::Bool(_) => "a boolean",
                Value::Number(_) => "a number",
                Value::Array(_) => "a list",
                Value::Object(_) => "an object",
                Value::String(_) => "a string",
            }
        ))),
    }
}

/// An ask from two JSON texts, for the tests of this directory.
#[cfg(test)]
pub(super) fn ask(item: &str, link: &str) -> Result<Ask, Failure> {
    Ask::read(&serde_json::from_str(item).unwrap(), &serde_json::from_str(link).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Audience, ErrorKind};
    use proptest::prelude::*;

    const FOLDER: &str = r#"{"folderId":"FBE1117A270E747BB1D95024T0000000000100000001"}"#;

    #[test]
    fn the_documented_request_is_read_and_written_back_member_for_member() {
        let fixture = include_str!("../../../tests/fixtures/oracle/20-request-create-folder-link.json");
        let ask = ask(FOLDER, fixture).unwrap();
        assert_eq!(
            ask.asked(),
            Asked {
                own_type: "contributor".to_owned(),
                neutral_type: "edit",
                audience: Some(Audience::Organization),
                expires: Some("2016-01-01T00:00:01Z".parse().unwrap()),
                has_password: true,
            }
        );
        let body: Value = serde_json::from_slice(&ask.body(ask.name.as_deref().unwrap())).unwrap();
        assert_eq!(body, serde_json::from_str::<Value>(fixture).unwrap());
    }

    #[test]
    fn the_role_is_sent_even_where_none_was_asked() {
        let ask = ask(FOLDER, r#"{"assignedUsers":"@everybody"}"#).unwrap();
        let body: Value = serde_json::from_slice(&ask.body("n")).unwrap();
        assert_eq!(body, serde_json::json!({"assignedUsers": "@everybody", "role": "viewer", "linkName": "n"}));
        assert_eq!(ask.asked().neutral_type, "view");
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        let everybody = r#"{"assignedUsers":"@everybody"}"#;
        for (item, link, named) in [
            ("{}", everybody, "item must have folderId or fileId"),
            (r#"{"folderId":"F","fileId":"D"}"#, everybody, "only one of folderId and fileId"),
            (r#"{"folderId":7}"#, everybody, "item.folderId must be a string, not a number"),
            (r#"{"folderId":"a/b"}"#, everybody, "item.folderId"),
            (r#"{"folderId":""}"#, everybody, "item.folderId"),
            (r#"{"fileId":".."}"#, everybody, "item.fileId"),
            (r#"{"folderId":"F","driveId":"b"}"#, everybody, "item.driveId"),
            (FOLDER, "{}", "link.assignedUsers is missing"),
            (FOLDER, r#"{"assignedUsers":["a"]}"#, "link.assignedUsers must be a string, not a list"),
            (FOLDER, r#"{"assignedUsers":"@all"}"#, "link.assignedUsers"),
            (FOLDER, r#"{"assignedUsers":"a","role":"Viewer"}"#, "link.role"),
            (FOLDER, r#"{"assignedUsers":"a","role":"manager"}"#, "link.role"),
            (FOLDER, r#"{"assignedUsers":"a","roleName":"viewer"}"#, "link.roleName"),
            (FOLDER, r#"{"assignedUsers":"a","expirationDateTime":"2027-01-31T00:00:00Z"}"#, "link.expirationDateTime"),
            (FOLDER, r#"{"assignedUsers":"a","expirationTime":"2027-01-31"}"#, "link.expirationTime"),
            (FOLDER, r#"{"assignedUsers":"a","password":"seven77"}"#, "link.password must have 8 to 50"),
            (FOLDER, r#"{"assignedUsers":"a","password":null}"#, "link.password must be a string, not null"),
            (FOLDER, r#"{"assignedUsers":"a","linkName":""}"#, "link.linkName is empty"),
            (FOLDER, r#"{"assignedUsers":"a","linkName":"a "}"#, "link.linkName"),
        ] {
            let failure = ask(item, link).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::InvalidRequest);
            assert!(failure.message.contains(named), "{named:?} not in {:?}", failure.message);
        }
    }

    #[test]
    fn a_password_is_measured_in_characters_at_both_ends() {
        for (length, fits) in [(7, false), (8, true), (50, true), (51, false)] {
            let link = serde_json::json!({"assignedUsers": "a", "password": "ü".repeat(length)}).to_string();
            assert_eq!(ask(FOLDER, &link).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn times_are_read_with_or_without_a_zone_and_never_rounded_up() {
        for (text, read) in [
            ("2016-02-15T01:02:03", Some("2016-02-15T01:02:03Z")),
            ("2016-02-15T01:02:03Z", Some("2016-02-15T01:02:03Z")),
            ("2016-02-15t01:02:03.999z", Some("2016-02-15T01:02:03Z")),
            ("2016-02-15T01:02:03+02:00", Some("2016-02-14T23:02:03Z")),
            ("2016-02-15T01:02:03.5-00:30", Some("2016-02-15T01:32:03Z")),
            ("2016-02-15", None),
            ("2016-02-15T01:02", None),
            ("2016-02-30T01:02:03", None),
            ("2016-02-15T01:02:03[Europe/Berlin]", None),
            ("2016-02-15T01:02:03+99:99", None),
            ("15.02.2016 01:02:03", None),
            ("", None),
        ] {
            assert_eq!(read_time(text).map(write_time).as_deref(), read, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_in_any_member_is_survived(id in "\\PC{0,12}", users in "\\PC{0,12}", time in "[-0-9TZ:.+]{0,30}|\\PC*") {
            let link = serde_json::json!({"assignedUsers": users, "expirationTime": time, "linkName": users});
            let item = serde_json::json!({ "fileId": id });
            if let Ok(ask) = ask(&item.to_string(), &link.to_string()) {
                prop_assert!(ask.expires.is_some());
                prop_assert!(serde_json::from_slice::<Object>(&ask.body("n")).is_ok());
            }
        }

        #[test]
        fn a_time_that_is_written_reads_back_as_itself(seconds in -60_000_000_000_i64..250_000_000_000) {
            let time = Timestamp::from_second(seconds).unwrap();
            prop_assert_eq!(read_time(&write_time(time)), Some(time));
        }
    }
}
