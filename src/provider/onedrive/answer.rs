//! Reads a `permission` that the API answered: the link in it, and how it differs from what was asked.
//!
//! Pure. Every member may be missing and unknown values are kept; what cannot be compared with the order of rights
//! counts as wider, because handing out too much cannot be taken back.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::whole_seconds;
use crate::model::{Asked, Audience, Comparison, Difference, Granted, LinkOutcome, Made, Object};

/// Link types by how much they allow, least first.
const TYPE_ORDER: [&str; 4] = ["blocksDownload", "view", "review", "edit"];
/// Audiences by size, smallest first. `existingAccess` gives nobody anything new.
const SCOPE_ORDER: [&str; 4] = ["existingAccess", "users", "organization", "anonymous"];
/// Types that leave the choice to the organisation's settings.
const LEFT_TO_THE_PROVIDER: [&str; 2] = ["addressBar", "adminDefault"];
/// The way the API writes "never".
const NEVER: &str = "0001-01-01";

/// The link of an answer with this status.
///
/// # Errors
/// What the answer lacks.
pub fn read(status: u16, permission: &Value, asked: &Asked) -> Result<LinkOutcome, &'static str> {
    // 201 is a new link and 200 one that was there; both are seen for new links, so this is only told, never used.
    let made = if status == 200 { Made::Reused } else { Made::Created };
    outcome(made, permission, asked)
}

/// The link of an answer's body, where it is shaped as the API documents it; `None` where only [`read`] can tell. That is
/// nearly every answer, and it is read without a tree of everything else that is in it.
pub fn read_plain(status: u16, body: &[u8], asked: &Asked) -> Option<Result<LinkOutcome, &'static str>> {
    let plain: Plain = serde_json::from_slice(body).ok()?;
    let made = if status == 200 { Made::Reused } else { Made::Created };
    Some(link(made, plain.id.as_deref().filter(|id| !id.is_empty()), &plain.found(), asked))
}

/// What is of interest in a permission of the documented shape.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plain {
    id: Option<String>,
    link: Option<PlainLink>,
    expiration_date_time: Option<String>,
    has_password: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlainLink {
    #[serde(rename = "type")]
    kind: Option<String>,
    scope: Option<String>,
    web_url: Option<String>,
    web_html: Option<String>,
    prevents_download: Option<bool>,
}

impl Plain {
    fn found(&self) -> Found<'_> {
        fn text(text: Option<&String>) -> Option<&str> {
            text.map(String::as_str).filter(|text| !text.is_empty())
        }
        let link = self.link.as_ref();
        Found {
            kind: text(link.and_then(|link| link.kind.as_ref())),
            scope: text(link.and_then(|link| link.scope.as_ref())),
            url: text(link.and_then(|link| link.web_url.as_ref())),
            html: text(link.and_then(|link| link.web_html.as_ref())),
            prevents_download: link.and_then(|link| link.prevents_download).unwrap_or(false),
            expires: text(self.expiration_date_time.as_ref()).filter(|time| !time.starts_with(NEVER)),
            has_password: self.has_password,
        }
    }
}

/// The link of a permission.
///
/// # Errors
/// What the permission lacks.
pub fn outcome(made: Made, permission: &Value, asked: &Asked) -> Result<LinkOutcome, &'static str> {
    link(made, text(permission, "id"), &Found::read(permission), asked)
}

fn link(made: Made, id: Option<&str>, found: &Found<'_>, asked: &Asked) -> Result<LinkOutcome, &'static str> {
    let id = id.ok_or("`id` is missing")?;
    let url = found.url.ok_or("`link.webUrl` is missing")?;
    let is_web = |url: &url::Url| matches!(url.scheme(), "https" | "http");
    if !url::Url::parse(url).is_ok_and(|url| is_web(&url)) {
        return Err("`link.webUrl` is not an address");
    }
    let link = Granted {
        id: id.to_owned(),
        url: url.to_owned(),
        html: found.html.filter(|_| asked.own_type == "embed").map(str::to_owned),
        granted: found.granted(),
    };
    Ok(LinkOutcome { link, made, comparison: compare(asked, found) })
}

/// Whether a permission is the link that a request for named people would make: its type, and just these people.
pub fn is_link_for(permission: &Value, asked: &Asked, recipients: &[String]) -> bool {
    let found = Found::read(permission);
    let has_type = match asked.own_type.as_str() {
        "blocksDownload" => found.is_blocked_view(),
        own_type => found.kind == Some(own_type) && !found.prevents_download,
    };
    let people = people(permission);
    let is_asked = |emails: &Vec<String>| emails.iter().any(|email| contains(recipients, email));
    let all: Vec<String> = people.concat();
    found.scope == Some("users")
        && has_type
        && !people.is_empty()
        && people.iter().all(is_asked)
        && recipients.iter().all(|recipient| contains(&all, recipient))
}

/// What is of interest in a permission.
struct Found<'a> {
    kind: Option<&'a str>,
    scope: Option<&'a str>,
    url: Option<&'a str>,
    html: Option<&'a str>,
    prevents_download: bool,
    expires: Option<&'a str>,
    has_password: Option<bool>,
}

impl<'a> Found<'a> {
    fn read(permission: &'a Value) -> Self {
        let link = permission.get("link").unwrap_or(&Value::Null);
        Self {
            kind: text(link, "type"),
            scope: text(link, "scope"),
            url: text(link, "webUrl"),
            html: text(link, "webHtml"),
            prevents_download: link.get("preventsDownload").and_then(Value::as_bool).unwrap_or(false),
            expires: text(permission, "expirationDateTime").filter(|time| !time.starts_with(NEVER)),
            has_password: permission.get("hasPassword").and_then(Value::as_bool),
        }
    }

    /// `blocksDownload` is answered as a view that prevents downloads.
    fn is_blocked_view(&self) -> bool {
        self.kind == Some("blocksDownload") || (self.kind == Some("view") && self.prevents_download)
    }

    fn granted(&self) -> Object {
        let mut granted = Object::new();
        let members = [
            ("type", self.kind.map(Value::from)),
            ("scope", self.scope.map(Value::from)),
            ("expirationDateTime", self.expires.map(Value::from)),
            ("hasPassword", self.has_password.map(Value::from)),
            ("preventsDownload", self.prevents_download.then_some(Value::Bool(true))),
        ];
        for (name, value) in members {
            granted.extend(value.map(|value| (name.to_owned(), value)));
        }
        granted
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn contains(emails: &[String], email: &str) -> bool {
    emails.iter().any(|each| each.eq_ignore_ascii_case(email))
}

/// The people of a permission, each with the e-mail addresses that are told of them.
fn people(permission: &Value) -> Vec<Vec<String>> {
    let list = |name: &str| permission.get(name).and_then(Value::as_array).filter(|list| !list.is_empty());
    let identities = list("grantedToIdentitiesV2").or_else(|| list("grantedToIdentities"));
    let emails = |identity: &Value| {
        let email = |kind: &str| identity.get(kind).and_then(|user| text(user, "email")).map(str::to_owned);
        let login = identity.get("siteUser").and_then(|user| text(user, "loginName"));
        let by_login = login.and_then(|login| login.rsplit('|').next()).map(str::to_owned);
        ["user", "siteUser"].into_iter().filter_map(email).chain(by_login).collect()
    };
    identities.map(|list| list.iter().map(emails).collect()).unwrap_or_default()
}

/// How a granted member compares with the asked one.
enum Verdict {
    Equal,
    Narrower,
    Wider,
}

fn compare(asked: &Asked, found: &Found) -> Comparison {
    let mut comparison = Comparison::default();
    let mut note = |verdict: Verdict, member: &str, values: &dyn Fn() -> (Value, Value)| {
        let list = match verdict {
            Verdict::Equal => return,
            Verdict::Narrower => &mut comparison.narrower,
            Verdict::Wider => &mut comparison.wider,
        };
        let (asked, granted) = values();
        list.push(Difference { member: member.to_owned(), asked, granted });
    };
    if !LEFT_TO_THE_PROVIDER.contains(&asked.own_type.as_str()) {
        note(compare_type(&asked.own_type, found), "type", &|| (json!(asked.own_type), json!(found.kind)));
        if found.prevents_download && asked.own_type != "blocksDownload" {
            note(Verdict::Narrower, "preventsDownload", &|| (Value::Null, json!(true)));
        }
    }
    if let Some(audience) = asked.audience {
        let verdict = match found.scope {
            Some(scope) => by_order(&SCOPE_ORDER, audience.as_str(), scope),
            // A personal account leaves it out of the only kind of link it has, which is for everybody.
            None if audience == Audience::Anonymous => Verdict::Equal,
            None => Verdict::Wider,
        };
        note(verdict, "scope", &|| (json!(audience.as_str()), json!(found.scope)));
    }
    let asked_expiry = || asked.expires.map_or(Value::Null, |time| json!(whole_seconds(time)));
    note(compare_expiry(asked.expires, found.expires), "expirationDateTime", &|| {
        (asked_expiry(), json!(found.expires))
    });
    let password = match (asked.has_password, found.has_password) {
        (true, Some(true)) | (false, Some(false) | None) => Verdict::Equal,
        (true, _) => Verdict::Wider,
        (false, Some(true)) => Verdict::Narrower,
    };
    // Only whether there is one: the password itself never leaves.
    note(password, "password", &|| (json!(asked.has_password), json!(found.has_password)));
    comparison
}

fn compare_type(asked: &str, found: &Found) -> Verdict {
    // An answer always has it; nothing shows that a link without one is no wider.
    let Some(granted) = found.kind else { return Verdict::Wider };
    match (asked, granted) {
        _ if asked == granted => Verdict::Equal,
        ("blocksDownload", "view") if found.prevents_download => Verdict::Equal,
        ("edit", "createOnly") => Verdict::Narrower,
        ("createOnly", _) => Verdict::Wider,
        // An embed link is a view that may be put into a page.
        ("embed", _) => match by_order(&TYPE_ORDER, "view", granted) {
            Verdict::Equal => Verdict::Narrower,
            verdict => verdict,
        },
        _ => by_order(&TYPE_ORDER, asked, granted),
    }
}

/// Where the granted word stands relative to the asked one; an unknown word may mean anything, and so is wider.
fn by_order(order: &[&str], asked: &str, granted: &str) -> Verdict {
    let rank = |word: &str| order.iter().position(|known| *known == word);
    match (rank(asked), rank(granted)) {
        _ if asked == granted => Verdict::Equal,
        (Some(asked), Some(granted)) if granted < asked => Verdict::Narrower,
        _ => Verdict::Wider,
    }
}

/// Any later instant is wider. An asked time is sent in whole seconds, so that an end within the fraction cut off from
/// it is as asked.
fn compare_expiry(asked: Option<Timestamp>, granted: Option<&str>) -> Verdict {
    let second = |time: Timestamp| time.as_nanosecond().div_euclid(1_000_000_000);
    let time = granted.and_then(|text| text.parse::<Timestamp>().ok());
    match (asked, granted, time) {
        (None, None, _) => Verdict::Equal,
        (None, Some(_), _) => Verdict::Narrower,
        (Some(asked), _, Some(granted)) if second(granted) < second(asked) => Verdict::Narrower,
        (Some(asked), _, Some(granted)) if granted <= asked => Verdict::Equal,
        // Later, missing, or not to be read as a time.
        (Some(_), _, _) => Verdict::Wider,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Audience;
    use proptest::prelude::*;

    fn asked(own_type: &str, audience: Option<Audience>) -> Asked {
        Asked { own_type: own_type.to_owned(), neutral_type: "view", audience, expires: None, has_password: false }
    }

    fn fixture(name: &str) -> Value {
        let path = format!("{}/tests/fixtures/microsoft/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn members(differences: &[Difference]) -> Vec<&str> {
        differences.iter().map(|difference| difference.member.as_str()).collect()
    }

    /// The members that are narrower and those that are wider, when `permission` is added to a usable answer.
    fn differences(asked: &Asked, link: Value, permission: Value) -> (Vec<String>, Vec<String>) {
        let mut answer = json!({"id": "1", "link": {"webUrl": "https://1drv.ms/a"}});
        answer["link"].as_object_mut().unwrap().extend(link.as_object().unwrap().clone());
        answer.as_object_mut().unwrap().extend(permission.as_object().unwrap().clone());
        let comparison = read(201, &answer, asked).unwrap().comparison;
        let owned = |list: &[Difference]| members(list).into_iter().map(str::to_owned).collect();
        (owned(&comparison.narrower), owned(&comparison.wider))
    }

    /// Whatever is read without a tree is read as with one.
    fn agree(body: &str, ask: &Asked) -> bool {
        match (read_plain(201, body.as_bytes(), ask), serde_json::from_str(body)) {
            (Some(plain), Ok(tree)) => {
                assert_eq!(plain, read(201, &tree, ask), "{body}");
                true
            }
            (Some(_), Err(error)) => panic!("{body} is not JSON: {error}"),
            (None, _) => false,
        }
    }

    #[test]
    fn recorded_answers_are_read_without_a_tree_and_mean_the_same() {
        let folder = format!("{}/tests/fixtures/microsoft", env!("CARGO_MANIFEST_DIR"));
        let bodies = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        let bodies = bodies.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let ask = asked("view", Some(Audience::Organization));
        let plain = bodies.filter(|path| agree(&std::fs::read_to_string(path).unwrap(), &ask)).count();
        assert!(plain > 10, "{plain}");
    }

    proptest! {
        #[test]
        fn an_answer_that_is_read_without_a_tree_means_the_same_as_with_one(
            members in proptest::collection::vec((0_usize..9, 0_usize..8), 0..12),
        ) {
            const NAMES: [&str; 9] =
                ["type", "scope", "webUrl", "webHtml", "preventsDownload", "id", "expirationDateTime", "hasPassword", "x"];
            const VALUES: [&str; 8] = [
                "null", "true", "\"\"", "\"view\"", "\"organization\"", "\"https://h/a\"", "\"2027-01-31T00:00:00Z\"", "{\"a\":1}",
            ];
            let written = |inside: bool| {
                let chosen = members.iter().filter(|(name, _)| (*name < 5) == inside);
                chosen.map(|(name, value)| format!("\"{}\":{}", NAMES[*name], VALUES[*value])).collect::<Vec<_>>().join(",")
            };
            let outside = written(false);
            let comma = if outside.is_empty() { "" } else { "," };
            agree(&format!("{{\"link\":{{{}}}{comma}{outside}}}", written(true)), &asked("view", None));
        }
    }

    #[test]
    fn the_older_apis_documented_answer_is_a_created_link() {
        let outcome = read(201, &fixture("20-legacy-created-anonymous"), &asked("view", None)).unwrap();
        assert_eq!((outcome.made, outcome.link.id.as_str()), (Made::Created, "123ABC"));
        assert_eq!(Value::Object(outcome.link.granted), json!({"type": "view", "scope": "anonymous"}));
        assert_eq!(outcome.comparison, Comparison::default());
    }

    #[test]
    fn a_password_that_was_applied_is_equal_and_one_that_was_not_is_wider() {
        let mut ask = asked("view", Some(Audience::Anonymous));
        ask.has_password = true;
        let outcome = read(201, &fixture("21-graph-created-anonymous-haspassword"), &ask).unwrap();
        assert_eq!(outcome.comparison, Comparison::default());
        assert_eq!(outcome.link.granted.get("hasPassword"), Some(&json!(true)));
        let outcome = read(201, &fixture("56-sharinglink-get-with-expiry"), &ask).unwrap();
        assert_eq!(members(&outcome.comparison.wider), ["password"]);
        // An answer that does not tell is no proof.
        assert_eq!(differences(&ask, json!({"type": "view", "scope": "anonymous"}), json!({})).1, ["password"]);
    }

    #[test]
    fn an_embed_link_brings_its_html() {
        let outcome = read(201, &fixture("22-graph-created-embed-webhtml"), &asked("embed", None)).unwrap();
        assert!(outcome.link.html.is_some_and(|html| html.starts_with("<IFRAME")));
    }

    #[test]
    fn the_first_day_of_the_calendar_means_no_expiry_and_200_means_reused() {
        let outcome = read(200, &fixture("24-personal-style-view-link"), &asked("view", None)).unwrap();
        assert_eq!(outcome.made, Made::Reused);
        assert_eq!(outcome.comparison, Comparison::default());
        assert!(!outcome.link.granted.contains_key("expirationDateTime"));
    }

    #[test]
    fn an_expiry_cut_short_by_the_organisation_is_told_with_both_times() {
        let mut ask = asked("view", Some(Audience::Anonymous));
        ask.expires = Some("2022-02-23T11:52:42Z".parse().unwrap());
        let outcome = read(201, &fixture("43-created-expiry-capped-by-policy"), &ask).unwrap();
        let told = Difference {
            member: "expirationDateTime".to_owned(),
            asked: json!("2022-02-23T11:52:42Z"),
            granted: json!("2022-01-14T10:52:42Z"),
        };
        assert_eq!(outcome.comparison, Comparison { narrower: vec![told], wider: vec![] });
    }

    #[test]
    fn an_expiry_that_is_later_by_any_part_of_a_second_is_wider() {
        let mut ask = asked("view", None);
        ask.expires = Some("2027-01-31T00:00:00Z".parse().unwrap());
        let table = [
            ("2027-01-31T00:00:00Z", (vec![], vec![])),
            ("2027-01-31T00:00:00.000Z", (vec![], vec![])),
            ("2027-01-31T00:00:00.9Z", (vec![], vec!["expirationDateTime"])),
            ("2027-01-31T00:00:00.0000001Z", (vec![], vec!["expirationDateTime"])),
            ("2027-01-30T23:59:59.9Z", (vec!["expirationDateTime"], vec![])),
            ("2027-01-31T01:00:00+01:00", (vec![], vec![])),
            ("2027-01-30T23:59:59Z", (vec!["expirationDateTime"], vec![])),
            ("2027-01-31T00:00:01Z", (vec![], vec!["expirationDateTime"])),
            ("0001-01-01T00:00:00Z", (vec![], vec!["expirationDateTime"])),
            ("some day", (vec![], vec!["expirationDateTime"])),
        ];
        for (granted, (narrower, wider)) in table {
            let found = differences(&ask, json!({"type": "view"}), json!({"expirationDateTime": granted}));
            assert_eq!(
                found,
                (narrower.iter().map(ToString::to_string).collect(), wider.iter().map(ToString::to_string).collect()),
                "{granted}"
            );
        }
        assert_eq!(differences(&ask, json!({"type": "view"}), json!({})).1, ["expirationDateTime"]);
        ask.expires = None;
        assert_eq!(
            differences(&ask, json!({"type": "view"}), json!({"expirationDateTime": "2027-01-01T00:00:00Z"})).0,
            ["expirationDateTime"]
        );
    }

    #[test]
    fn the_fraction_that_is_cut_off_from_an_asked_expiry_may_be_granted_and_no_more() {
        let mut ask = asked("view", None);
        for (asked, granted, narrower, wider) in [
            ("2027-01-31T00:00:00.5Z", "2027-01-31T00:00:00Z", 0, 0),
            ("2027-01-31T00:00:00.5Z", "2027-01-31T00:00:00.5Z", 0, 0),
            ("2027-01-31T00:00:00.5Z", "2027-01-31T00:00:00.6Z", 0, 1),
            ("2027-01-31T00:00:00.5Z", "2027-01-31T00:00:01Z", 0, 1),
            ("2027-01-31T00:00:00.5Z", "2027-01-30T23:59:59.9Z", 1, 0),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z", 0, 0),
        ] {
            ask.expires = Some(asked.parse().unwrap());
            let found = differences(&ask, json!({"type": "view"}), json!({"expirationDateTime": granted}));
            assert_eq!((found.0.len(), found.1.len()), (narrower, wider), "asked {asked}, granted {granted}");
        }
    }

    #[test]
    fn every_pair_of_types_has_its_verdict() {
        // Columns: blocksDownload (told as such), view, review, edit, embed, createOnly, something new.
        let granted = ["blocksDownload", "view", "review", "edit", "embed", "createOnly", "new"];
        let table = [
            ("blocksDownload", "=wwwwww"),
            ("view", "n=wwwww"),
            ("review", "nn=wwww"),
            ("edit", "nnn=wnw"),
            ("embed", "nnww=ww"),
            ("createOnly", "wwwww=w"),
            ("addressBar", "======="),
            ("adminDefault", "======="),
        ];
        for (own_type, verdicts) in table {
            for (granted, verdict) in granted.iter().zip(verdicts.chars()) {
                let (narrower, wider) = differences(&asked(own_type, None), json!({"type": granted}), json!({}));
                assert_eq!(
                    (narrower.len(), wider.len()),
                    ((verdict == 'n').into(), (verdict == 'w').into()),
                    "{own_type} {granted}"
                );
            }
        }
    }

    #[test]
    fn a_blocked_download_is_what_was_asked_or_a_warning() {
        let blocked = json!({"type": "view", "preventsDownload": true});
        assert_eq!(differences(&asked("blocksDownload", None), blocked.clone(), json!({})), (vec![], vec![]));
        assert_eq!(differences(&asked("view", None), blocked.clone(), json!({})).0, ["preventsDownload"]);
        assert_eq!(differences(&asked("edit", None), blocked, json!({})).0, ["type", "preventsDownload"]);
        let open = json!({"type": "view", "preventsDownload": false});
        assert_eq!(differences(&asked("blocksDownload", None), open, json!({})).1, ["type"]);
    }

    #[test]
    fn every_pair_of_audiences_has_its_verdict() {
        let table = [(Audience::Anonymous, "nnn=w"), (Audience::Organization, "nn=ww"), (Audience::Users, "n=www")];
        for (audience, verdicts) in table {
            for (granted, verdict) in SCOPE_ORDER.iter().chain(&["new"]).zip(verdicts.chars()) {
                let (narrower, wider) =
                    differences(&asked("view", Some(audience)), json!({"type": "view", "scope": granted}), json!({}));
                assert_eq!(
                    (narrower.len(), wider.len()),
                    ((verdict == 'n').into(), (verdict == 'w').into()),
                    "{audience:?} {granted}"
                );
            }
        }
        assert_eq!(
            differences(&asked("view", None), json!({"type": "view", "scope": "anonymous"}), json!({})),
            (vec![], vec![])
        );
        // What an answer leaves out shows nothing; only the widest audience cannot be exceeded.
        let silent = |audience| differences(&asked("view", Some(audience)), json!({"type": "view"}), json!({})).1;
        assert_eq!(silent(Audience::Anonymous), Vec::<String>::new());
        assert_eq!(silent(Audience::Organization), ["scope"]);
        assert_eq!(silent(Audience::Users), ["scope"]);
        assert_eq!(differences(&asked("view", None), json!({}), json!({})).1, ["type"]);
    }

    #[test]
    fn an_answer_without_a_usable_link_is_none() {
        let read = |answer: Value| read(200, &answer, &asked("view", None)).unwrap_err();
        assert!(read(json!({"id": "1"})).contains("webUrl"));
        assert!(read(json!({"id": "1", "link": {"webUrl": 7}})).contains("webUrl"));
        assert!(read(json!({"id": "1", "link": {"webUrl": "javascript:alert(1)"}})).contains("webUrl"));
        assert!(read(json!({"link": {"webUrl": "https://1drv.ms/a"}})).contains("id"));
        assert!(read(json!([])).contains("id"));
    }

    #[test]
    fn a_link_for_people_is_recognised_by_type_and_by_just_these_people() {
        let mut ask = asked("view", Some(Audience::Users));
        let permission = |kind: &str, people: Value| json!({"id": "1", "link": {"scope": "users", "type": kind}, "grantedToIdentitiesV2": people});
        let ann = json!({"user": {"email": "Ann@contoso.com"}, "siteUser": {"loginName": "i:0#.f|membership|ann@contoso.com"}});
        let bob = json!({"siteUser": {"loginName": "i:0#.f|membership|bob@contoso.com"}});
        let both = ["ann@contoso.com".to_owned(), "BOB@contoso.com".to_owned()];
        assert!(is_link_for(&permission("view", json!([ann, bob])), &ask, &both));
        assert!(!is_link_for(&permission("view", json!([ann])), &ask, &both));
        assert!(!is_link_for(&permission("view", json!([ann, bob])), &ask, &both[..1]));
        assert!(!is_link_for(&permission("edit", json!([ann, bob])), &ask, &both));
        assert!(!is_link_for(&permission("view", json!([])), &ask, &both));
        assert!(!is_link_for(&json!({"link": {"scope": "organization", "type": "view"}}), &ask, &both));
        ask.own_type = "blocksDownload".to_owned();
        assert!(!is_link_for(&permission("view", json!([ann, bob])), &ask, &both));
    }
}
