//! Reads `item` and `link` of a request for OneDrive or Microsoft Graph.
//!
//! Pure. A member that is not understood is refused by its name: a misspelt expiry must never make a link that lives
//! for ever. What the older API cannot do is told as `unsupported`, before any call.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;
use url::Url;

use super::members::{boolean, non_empty, refuse_unknown, string};
use crate::config::OneDriveApi;
use crate::model::time::rfc3339;
use crate::model::{Asked, Audience, Failure, Object, Secret};
use crate::provider::address;

/// The longest `shareUrl` that is accepted, in characters.
const LONGEST_URL: usize = 4096;

/// The members of `item` that say what, and those that say in which drive.
const ITEM: [&str; 3] = ["itemId", "itemPath", "shareUrl"];
const DRIVE: [&str; 4] = ["driveId", "userId", "groupId", "siteId"];
/// The members of `link` that both generations know, and those that only Graph knows.
const LINK: [&str; 2] = ["type", "scope"];
const GRAPH_LINK: [&str; 6] =
    ["password", "expirationDateTime", "recipients", "sendNotification", "message", "retainInheritedPermissions"];

/// The types of link. The second word is the widest that a link of this type can turn out to be, in neutral terms.
const TYPES: [(&str, &str); 3] = [("view", "view"), ("edit", "edit"), ("embed", "embed")];
const GRAPH_TYPES: [(&str, &str); 5] = [
    ("review", "edit"),
    ("blocksDownload", "view"),
    ("createOnly", "edit"),
    ("addressBar", "edit"),
    ("adminDefault", "edit"),
];

/// Which item. Ids and paths are already encoded for a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// By its id.
    Id(Drive, String),
    /// By its path from the drive's root; empty for the root.
    Path(Drive, String),
    /// By a sharing URL, as the token that the API takes in its place.
    Shared(String),
}

/// In which drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drive {
    /// The account's configured one.
    Configured,
    /// A drive by its id.
    Id(String),
    /// A user's default drive.
    User(String),
    /// A group's default drive.
    Group(String),
    /// A site's default drive.
    Site(String),
}

/// Which link, besides type and audience, which are in [`Asked`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// `password`
    pub password: Option<Secret>,
    /// `recipients`: e-mail addresses.
    pub recipients: Vec<String>,
    /// `sendNotification`
    pub send_notification: Option<bool>,
    /// `message`
    pub message: Option<String>,
    /// `retainInheritedPermissions`: false takes all other permissions away, so it is never sent unasked.
    pub retain_inherited: Option<bool>,
}

/// A request, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Which item.
    pub item: Item,
    /// What was asked, for the policy and for comparing. The expiry is in whole seconds.
    pub asked: Asked,
    /// The rest.
    pub options: Options,
}

impl Ask {
    /// Reads a request.
    ///
    /// # Errors
    /// `invalidRequest` or `unsupported`, naming the member and what is allowed.
    pub fn read(api: OneDriveApi, item: &Object, link: &Object) -> Result<Self, Failure> {
        let item = read_item(api, item)?;
        let (asked, options) = read_link(api, link)?;
        Ok(Self { item, asked, options })
    }

    /// The body of the call, as JSON. The one place where the password leaves the program.
    ///
    /// # Errors
    /// Where it cannot be written; its members are text and flags, so that is a bug.
    pub fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
        let Options { password, recipients, send_notification, message, retain_inherited } = &self.options;
        serde_json::to_vec(&Body {
            kind: &self.asked.own_type,
            scope: self.asked.audience.map(Audience::as_str),
            password: password.as_ref().map(Secret::reveal),
            expiration_date_time: self.asked.expires.map(whole_seconds),
            recipients: recipients.iter().map(|email| Recipient { email }).collect(),
            send_notification: *send_notification,
            message: message.as_deref(),
            retain_inherited_permissions: *retain_inherited,
        })
    }

    /// Whether the call would send mail, and so must not be made twice blindly.
    pub fn sends_mail(&self) -> bool {
        self.options.send_notification == Some(true)
    }
}

/// What is not asked for is not sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_date_time: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recipients: Vec<Recipient<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_notification: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_inherited_permissions: Option<bool>,
}

#[derive(Serialize)]
struct Recipient<'a> {
    email: &'a str,
}

/// A time the way the API wants it: UTC, whole seconds, never later than the time itself.
pub fn whole_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn read_item(api: OneDriveApi, item: &Object) -> Result<Item, Failure> {
    refuse_unknown("item", item, &[&ITEM, &DRIVE])?;
    let name = exactly_one(item)?;
    let drives: Vec<&str> = DRIVE.into_iter().filter(|name| item.contains_key(*name)).collect();
    let text = string("item", item, name)?.unwrap_or_default();
    if name == "shareUrl" {
        return match drives.first() {
            Some(drive) => Err(Failure::invalid(format!("`item.{drive}` cannot stand beside `shareUrl`"))),
            None => Ok(Item::Shared(share_token(text)?)),
        };
    }
    let drive = match drives.as_slice() {
        [] => Drive::Configured,
        [drive] => {
            if api == OneDriveApi::Legacy && *drive != "driveId" {
                return Err(Failure::unsupported(format!("`item.{drive}` is not known to the older OneDrive API")));
            }
            let id = address::id(&format!("item.{drive}"), string("item", item, drive)?.unwrap_or_default())?;
            match *drive {
                "driveId" => Drive::Id(id),
                "userId" => Drive::User(id),
                "groupId" => Drive::Group(id),
                _ => Drive::Site(id),
            }
        }
        [first, second, ..] => {
            return Err(Failure::invalid(format!("`item.{first}` and `item.{second}` cannot stand together")));
        }
    };
    match name {
        "itemId" => Ok(Item::Id(drive, address::id("item.itemId", text)?)),
        _ => Ok(Item::Path(drive, address::path("item.itemPath", text)?)),
    }
}

fn exactly_one(item: &Object) -> Result<&'static str, Failure> {
    let given: Vec<&'static str> = ITEM.into_iter().filter(|name| item.contains_key(*name)).collect();
    match given.as_slice() {
        [name] => Ok(name),
        [] => Err(Failure::invalid("`item` needs one of `itemId`, `itemPath` and `shareUrl`")),
        [first, second, ..] => {
            Err(Failure::invalid(format!("`item.{first}` and `item.{second}` cannot stand together")))
        }
    }
}

/// `u!` and the whole URL in base64url without padding (OneDrive API, "Access shared items").
fn share_token(text: &str) -> Result<String, Failure> {
    let refuse = || Failure::invalid("`item.shareUrl` must be the https address of something shared");
    if text.chars().count() > LONGEST_URL || text.contains(|each: char| each.is_control() || each.is_whitespace()) {
        return Err(refuse());
    }
    let url = Url::parse(text).map_err(|_| refuse())?;
    if url.scheme() != "https" || !url.has_host() {
        return Err(refuse());
    }
    Ok(format!("u!{}", URL_SAFE_NO_PAD.encode(text)))
}

fn read_link(api: OneDriveApi, link: &Object) -> Result<(Asked, Options), Failure> {
    refuse_unknown("link", link, &[&LINK, &GRAPH_LINK])?;
    if let (OneDriveApi::Legacy, Some(name)) = (api, GRAPH_LINK.iter().find(|name| link.contains_key(**name))) {
        return Err(Failure::unsupported(format!("`link.{name}` is not known to the older OneDrive API")));
    }
    let (own_type, neutral_type) = read_type(api, link)?;
    let asked = Asked {
        own_type: own_type.to_owned(),
        neutral_type,
        audience: read_scope(api, link)?,
        expires: read_expiry(link)?,
        has_password: link.contains_key("password"),
    };
    let options = Options {
        password: non_empty(link, "password")?.map(Secret::new),
        recipients: read_recipients(link)?,
        send_notification: boolean(link, "sendNotification")?,
        message: non_empty(link, "message")?.map(str::to_owned),
        retain_inherited: boolean(link, "retainInheritedPermissions")?,
    };
    check_together(&asked, &options)?;
    Ok((asked, options))
}

/// Refuses what the provider would ignore: nothing that was asked for is dropped silently.
fn check_together(asked: &Asked, options: &Options) -> Result<(), Failure> {
    let has_recipients = !options.recipients.is_empty();
    if has_recipients && asked.audience != Some(Audience::Users) {
        return Err(Failure::invalid("`link.recipients` needs `scope` to be `users`"));
    }
    if options.send_notification == Some(true) && !has_recipients {
        return Err(Failure::invalid("`link.sendNotification` needs `recipients`"));
    }
    if options.message.is_some() && options.send_notification != Some(true) {
        return Err(Failure::invalid("`link.message` needs `sendNotification` to be true"));
    }
    Ok(())
}

fn read_type(api: OneDriveApi, link: &Object) -> Result<(&'static str, &'static str), Failure> {
    let text = string("link", link, "type")?.ok_or_else(|| Failure::invalid("`link.type` is missing"))?;
    let find = |types: &[(&'static str, &'static str)]| types.iter().copied().find(|(own, _)| *own == text);
    let only_graph = find(&GRAPH_TYPES);
    match (find(&TYPES), api, only_graph) {
        (Some(known), _, _) | (None, OneDriveApi::Graph, Some(known)) => Ok(known),
        (None, OneDriveApi::Legacy, Some((own, _))) => {
            Err(Failure::unsupported(format!("`link.type` {own} is not known to the older OneDrive API")))
        }
        (None, OneDriveApi::Graph, None) => {
            let all: Vec<&str> = TYPES.iter().chain(&GRAPH_TYPES).map(|(own, _)| *own).collect();
            Err(Failure::invalid(format!("`link.type` must be one of {}", all.join(", "))))
        }
        (None, OneDriveApi::Legacy, None) => Err(Failure::invalid("`link.type` must be one of view, edit, embed")),
    }
}

fn read_scope(api: OneDriveApi, link: &Object) -> Result<Option<Audience>, Failure> {
    let Some(text) = string("link", link, "scope")? else { return Ok(None) };
    match (text, api) {
        ("anonymous", _) => Ok(Some(Audience::Anonymous)),
        ("organization", _) => Ok(Some(Audience::Organization)),
        ("users", OneDriveApi::Graph) => Ok(Some(Audience::Users)),
        ("users", OneDriveApi::Legacy) => {
            Err(Failure::unsupported("`link.scope` users is not known to the older OneDrive API"))
        }
        (_, OneDriveApi::Graph) => Err(Failure::invalid("`link.scope` must be one of anonymous, organization, users")),
        (_, OneDriveApi::Legacy) => Err(Failure::invalid("`link.scope` must be one of anonymous, organization")),
    }
}

fn read_expiry(link: &Object) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = string("link", link, "expirationDateTime")? else { return Ok(None) };
    let refuse =
        || Failure::invalid("`link.expirationDateTime` must be an RFC 3339 time to come, such as 2027-01-31T00:00:00Z");
    let time = rfc3339(text).ok_or_else(refuse)?;
    // The year 1 means "never" to the API: a time before computers must not slip through as that.
    if time <= Timestamp::UNIX_EPOCH {
        return Err(refuse());
    }
    Timestamp::from_second(time.as_second()).map(Some).map_err(|_| refuse())
}

fn read_recipients(link: &Object) -> Result<Vec<String>, Failure> {
    let refuse = || Failure::invalid("`link.recipients` must be a list of e-mail addresses, at least one");
    let Some(value) = link.get("recipients") else { return Ok(Vec::new()) };
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or_else(refuse)?;
    let is_address = |text: &&str| {
        matches!(text.split_once('@'), Some((user, host)) if !user.is_empty() && !host.is_empty())
            && !text.contains(|each: char| each.is_whitespace() || each.is_control())
    };
    list.iter().map(|each| each.as_str().filter(is_address).map(str::to_owned).ok_or_else(refuse)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind::{self, InvalidRequest, Unsupported};
    use OneDriveApi::{Graph, Legacy};
    use serde_json::{Value, json};

    fn object(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    fn read(api: OneDriveApi, item: Value, link: Value) -> Result<Ask, Failure> {
        Ask::read(api, &object(item), &object(link))
    }

    fn refusal(api: OneDriveApi, item: Value, link: Value) -> (ErrorKind, String) {
        let failure = read(api, item, link).unwrap_err();
        (failure.kind, failure.message)
    }

    fn sent(ask: &Ask) -> Value {
        serde_json::from_slice(&ask.body().unwrap()).unwrap()
    }

    #[test]
    fn a_full_graph_request_is_sent_on_member_by_member() {
        let link = json!({
            "type": "blocksDownload", "scope": "users", "password": "hunter22",
            "expirationDateTime": "2027-01-31T02:00:00.999+02:00", "recipients": ["ann@contoso.com"],
            "sendNotification": true, "message": "here", "retainInheritedPermissions": false
        });
        let ask = read(Graph, json!({"itemId": "1"}), link).unwrap();
        assert_eq!(
            sent(&ask),
            json!({
                "type": "blocksDownload", "scope": "users", "password": "hunter22",
                "expirationDateTime": "2027-01-31T00:00:00Z", "recipients": [{"email": "ann@contoso.com"}],
                "sendNotification": true, "message": "here", "retainInheritedPermissions": false
            })
        );
        assert_eq!((ask.asked.neutral_type, ask.asked.has_password), ("view", true));
        assert!(!format!("{ask:?}").contains("hunter22"));
    }

    #[test]
    fn nothing_is_sent_that_was_not_asked_for() {
        let ask = read(Legacy, json!({"itemId": "1"}), json!({"type": "view"})).unwrap();
        assert_eq!(sent(&ask), json!({"type": "view"}));
        assert_eq!(ask.asked.audience, None);
    }

    #[test]
    fn an_item_is_found_by_id_path_or_sharing_url() {
        let item = |value| read(Graph, value, json!({"type": "view"})).unwrap().item;
        assert_eq!(item(json!({"itemId": "a%21b"})), Item::Id(Drive::Configured, "a!b".to_owned()));
        let by_path = item(json!({"itemPath": "/a b", "userId": "ann@contoso.com"}));
        assert_eq!(by_path, Item::Path(Drive::User("ann@contoso.com".to_owned()), "a%20b".to_owned()));
        assert_eq!(
            item(json!({"itemId": "1", "groupId": "g"})),
            Item::Id(Drive::Group("g".to_owned()), "1".to_owned())
        );
        assert_eq!(
            item(json!({"itemId": "1", "siteId": "s,1,2"})),
            Item::Id(Drive::Site("s,1,2".to_owned()), "1".to_owned())
        );
        // The documentation's own example of the encoding.
        let shared =
            item(json!({"shareUrl": "https://onedrive.live.com/redir?resid=1231244193912!12&authKey=1201919!12921!1"}));
        let token = "u!aHR0cHM6Ly9vbmVkcml2ZS5saXZlLmNvbS9yZWRpcj9yZXNpZD0xMjMxMjQ0MTkzOTEyITEyJmF1dGhLZXk9MTIwMTkxOSExMjkyMSEx";
        assert_eq!(shared, Item::Shared(token.to_owned()));
    }

    #[test]
    fn what_is_wrong_with_an_item_is_told_by_its_member() {
        let table = [
            (json!({}), "itemId"),
            (json!({"itemId": "1", "itemPath": "/a"}), "itemPath"),
            (json!({"itemId": "1", "driveId": "a", "siteId": "b"}), "siteId"),
            (json!({"shareUrl": "https://1drv.ms/a", "driveId": "a"}), "driveId"),
            (json!({"itemID": "1"}), "itemID"),
            (json!({"itemId": 7}), "itemId"),
            (json!({"itemId": null}), "itemId"),
            (json!({"itemId": "../x"}), "itemId"),
            (json!({"itemId": "1", "userId": "a/b"}), "userId"),
            (json!({"itemPath": "/a/../b"}), "itemPath"),
            (json!({"shareUrl": "file:///etc/passwd"}), "shareUrl"),
            (json!({"shareUrl": "1drv.ms/a"}), "shareUrl"),
        ];
        for (item, member) in table {
            let (kind, message) = refusal(Graph, item.clone(), json!({"type": "view"}));
            assert_eq!(kind, InvalidRequest, "{item}");
            assert!(message.contains(member), "{item}: {message}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_link_is_told_by_its_member() {
        let table = [
            (json!({}), "type"),
            (json!({"type": "veiw"}), "blocksDownload"),
            (json!({"type": 1}), "type"),
            (json!({"type": "view", "expirationDatetime": "2027-01-31T00:00:00Z"}), "expirationDatetime"),
            (json!({"type": "view", "expirationDateTime": "next week"}), "RFC 3339"),
            (json!({"type": "view", "expirationDateTime": "2027-01-31"}), "RFC 3339"),
            (json!({"type": "view", "expirationDateTime": "0001-01-01T00:00:00Z"}), "expirationDateTime"),
            (json!({"type": "view", "expirationDateTime": null}), "expirationDateTime"),
            (json!({"type": "view", "scope": "everyone"}), "scope"),
            (json!({"type": "view", "password": ""}), "password"),
            (json!({"type": "view", "password": 1234}), "password"),
            (json!({"type": "view", "recipients": ["a@b"]}), "scope"),
            (json!({"type": "view", "scope": "users", "recipients": "a@b"}), "recipients"),
            (json!({"type": "view", "scope": "users", "recipients": []}), "recipients"),
            (json!({"type": "view", "scope": "users", "recipients": ["ann"]}), "recipients"),
            (json!({"type": "view", "scope": "users", "sendNotification": true}), "recipients"),
            (json!({"type": "view", "sendNotification": "yes"}), "sendNotification"),
            (json!({"type": "view", "message": "hi"}), "sendNotification"),
            (json!({"type": "view", "retainInheritedPermissions": 0}), "retainInheritedPermissions"),
        ];
        for (link, word) in table {
            let (kind, message) = refusal(Graph, json!({"itemId": "1"}), link.clone());
            assert_eq!(kind, InvalidRequest, "{link}");
            assert!(message.contains(word), "{link}: {message}");
        }
    }

    #[test]
    fn what_only_graph_can_do_is_unsupported_with_the_older_api() {
        let types = GRAPH_TYPES.iter().map(|(own, _)| json!({"type": own}));
        let members = [
            json!({"type": "view", "scope": "users"}),
            json!({"type": "view", "password": "x"}),
            json!({"type": "view", "expirationDateTime": "2027-01-31T00:00:00Z"}),
            json!({"type": "view", "recipients": ["a@b"]}),
            json!({"type": "view", "retainInheritedPermissions": true}),
        ];
        for link in types.chain(members) {
            assert_eq!(refusal(Legacy, json!({"itemId": "1"}), link.clone()).0, Unsupported, "{link}");
            // Graph knows every one of them; only combinations may be missing.
            let graph = read(Graph, json!({"itemId": "1"}), link.clone());
            assert!(graph.is_ok() || link.get("recipients").is_some(), "{link}: {graph:?}");
        }
        for drive in ["userId", "groupId", "siteId"] {
            let item = json!({"itemId": "1", drive: "x"});
            assert_eq!(refusal(Legacy, item, json!({"type": "view"})).0, Unsupported, "{drive}");
        }
    }

    #[test]
    fn a_password_is_never_repeated_in_a_refusal() {
        let (_, message) = refusal(Graph, json!({"itemId": "1"}), json!({"type": "view", "password": ["hunter22"]}));
        assert!(!message.contains("hunter22"), "{message}");
    }
}
