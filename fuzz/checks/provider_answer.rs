//! What a provider answers, read for both dialects: a link that is wider than asked is never called as asked, a refusal
//! is one bounded line, and whatever ids an answer has, the addresses made of them stay in place.
//!
//! Input: the asked `link` as JSON; the status on a line and headers on lines `name: value`; the body.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::Value;
use serde_json::value::RawValue;
use sharelink::config::{OneDrive, OneDriveApi};
use sharelink::model::{Asked, Audience, Comparison, ErrorKind, Granted, LinkOutcome, Made, Object, Reply};
use sharelink::pipeline::ports::{CallFailure, Retry};
use sharelink::provider::classify::classify;
use sharelink::provider::http::Answer;
use sharelink::provider::onedrive::request::{Ask, Drive, Item};
use sharelink::provider::onedrive::url::Addresses;
use sharelink::provider::retry_after::{LONGEST, SHORTEST};
use sharelink::provider::{onedrive, oracle};
use url::Url;

use super::input::Parts;
use super::{CANARY, assert_no_secret, assert_tellable};

/// Parts of a `$batch`.
const ASKED: usize = 3;

/// Audiences at Graph, smallest first.
const SCOPES: [&str; 4] = ["existingAccess", "users", "organization", "anonymous"];

/// Checks one input.
pub fn check(data: &[u8]) {
    if data.windows(CANARY.len()).any(|here| here == CANARY.as_bytes()) {
        return;
    }
    let mut parts = Parts::new(data);
    let link = serde_json::from_slice::<Object>(parts.bytes()).unwrap_or_default();
    let head = parts.text();
    let body = parts.rest();
    let answer = answer(&head, body);
    check_graph(&link, &answer);
    check_oracle(&link, &answer);
    check_batch(&link, &answer);
}

/// The answer as the whole of a `$batch`, each part read like an answer of its own; and as a part of one, unchanged.
fn check_batch(link: &Object, answer: &Answer) {
    let mut whole = answer.clone();
    whole.headers.insert(DATE, HeaderValue::from_static("Sun, 22 Nov 2026 10:00:00 GMT"));
    if let Some(parts) = onedrive::parts::answers(&whole, ASKED) {
        assert_eq!(parts.len(), ASKED);
        parts.iter().flatten().for_each(|part| check_graph(link, part));
    }
    let Ok(body) = serde_json::from_slice::<&RawValue>(&answer.body) else { return };
    // As text, or a number in it would be written another way.
    let part = format!(r#"{{"id":"2","status":{},"body":{}}}"#, answer.status, body.get());
    whole.body = format!(r#"{{"responses":[{part},{{"id":"3","status":204}}]}}"#).into();
    let parts = onedrive::parts::answers(&whole, ASKED).expect("a batch that can be read");
    let statuses: Vec<_> = parts.iter().map(|part| part.as_ref().map(|part| part.status)).collect();
    assert_eq!(statuses, [None, Some(answer.status), Some(204)]);
    assert_eq!(parts[1].as_ref().and_then(Answer::json), answer.json());
}

/// The answer, with a `Date` where a `Retry-After` would else be measured by the clock.
fn answer(head: &str, body: &[u8]) -> Answer {
    let mut lines = head.lines();
    let status = lines.next().and_then(|status| status.trim().parse().ok()).unwrap_or(200);
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")).take(20) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    let date = headers.get(DATE).and_then(|date| date.to_str().ok()).map(httpdate::parse_http_date);
    if headers.contains_key(RETRY_AFTER) && !matches!(date, Some(Ok(_))) {
        headers.insert(DATE, HeaderValue::from_static("Sun, 22 Nov 2026 10:00:00 GMT"));
    }
    Answer { status, headers, body: Bytes::copy_from_slice(body) }
}

fn check_graph(link: &Object, answer: &Answer) {
    let item: Object = serde_json::from_str(r#"{"itemId":"1"}"#).expect("an object");
    let with_password = hidden(link);
    let view: Object = serde_json::from_str(r#"{"type":"view"}"#).expect("an object");
    let ask = Ask::read(OneDriveApi::Graph, &item, &with_password)
        .or_else(|_| Ask::read(OneDriveApi::Graph, &item, &view))
        .expect("a view can be asked for");
    let wait = answer.retry_after();
    let failure = classify(answer.status, &answer.headers, &answer.body, wait);
    check_failure(&failure, answer, wait);
    assert_eq!(failure.may_have_happened, answer.status >= 500 || answer.status == 408);

    let Some(permission) = answer.json() else { return };
    if onedrive::answer::is_link_for(&permission, &ask.asked, &ask.options.recipients) {
        assert_eq!(permission["link"]["scope"], "users");
        assert!(!ask.options.recipients.is_empty(), "a link for nobody asked");
    }
    check_addresses(&permission);
    let Ok(outcome) = onedrive::answer::read(answer.status, &permission, &ask.asked) else { return };
    assert_eq!(outcome.made == Made::Reused, answer.status == 200);
    assert!(outcome.link.html.is_none() || ask.asked.own_type == "embed");
    check_outcome(&outcome);
    if outcome.comparison.wider.is_empty() {
        check_graph_is_not_wider(&ask.asked, &outcome.link.granted);
    }
}

/// The asked link with a recognisable password, where it has one.
fn hidden(link: &Object) -> Object {
    let mut link = link.clone();
    if let Some(Value::String(password)) = link.get_mut("password") {
        password.insert_str(0, CANARY);
    }
    link
}

/// Said again and in other words than the comparison itself: what an unchallenged link must not be.
fn check_graph_is_not_wider(asked: &Asked, granted: &Object) {
    let text = |name: &str| granted.get(name).and_then(Value::as_str);
    if let Some(asked) = asked.expires {
        check_ends(asked, text("expirationDateTime"));
    }
    if asked.has_password {
        assert_eq!(granted.get("hasPassword"), Some(&Value::Bool(true)), "the password is not said to be there");
    }
    if let (Some(audience), Some(scope)) = (asked.audience, text("scope")) {
        let rank = |word: &str| SCOPES.iter().position(|known| *known == word);
        let (asked, granted) = (rank(audience.as_str()), rank(scope));
        assert!(granted.is_some() && granted <= asked, "asked {audience:?}, granted {scope}");
    }
    match (asked.own_type.as_str(), text("type")) {
        ("view" | "embed", Some(kind)) => {
            assert!(matches!(kind, "view" | "embed" | "blocksDownload"), "asked a view, granted {kind}");
        }
        ("blocksDownload", Some(kind)) => {
            let blocks = granted.get("preventsDownload").is_some();
            assert!(kind == "blocksDownload" || kind == "view" && blocks, "asked blocksDownload, granted {granted:?}");
        }
        ("createOnly", Some(kind)) => assert_eq!(kind, "createOnly"),
        _ => {}
    }
}

/// The link ends, and not later than asked.
fn check_ends(asked: Timestamp, granted: Option<&str>) {
    let granted = granted.expect("a link that was to end has an end");
    let ends: Timestamp = granted.parse().or_else(|_| format!("{granted}Z").parse()).expect("an end that can be read");
    assert!(ends <= asked, "asked {asked}, granted {granted}");
}

/// Ids of the provider's own make addresses that stay in place, or none.
fn check_addresses(answer: &Value) {
    let addresses = Addresses::new(&OneDrive {
        api: OneDriveApi::Graph,
        base_url: "https://graph.example.com/v1.0".parse().expect("an address"),
        drive: "/me/drive".to_owned(),
        action: "createLink".to_owned(),
        batch: false,
    })
    .expect("the settings make addresses");
    let id = answer["id"].as_str().unwrap_or_default();
    let drive = answer.pointer("/parentReference/driveId").and_then(Value::as_str).unwrap_or(id);
    if let Some(place) = addresses.place_by_ids(drive, id) {
        check_place(&addresses.create_link(&place), 6);
    }
    let root = addresses.place(&Item::Path(Drive::Configured, String::new()));
    let url = addresses.permission(&root.expect("the root has a place"), id);
    assert_eq!(url.is_none(), matches!(id, "" | "." | ".."));
    if url.is_some() {
        check_place(&url, 6);
    }
}

fn check_place(url: &Option<Url>, segments: usize) {
    let url = url.as_ref().expect("an address");
    assert_eq!(url.origin().ascii_serialization(), "https://graph.example.com", "{url}");
    assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
    assert_eq!(url.path_segments().map(Iterator::count), Some(segments), "{url}");
}

/// A link that can be told of: its address is one, no member repeats the password, and the reply can be read.
fn check_outcome(outcome: &LinkOutcome) {
    let LinkOutcome { link, comparison: Comparison { narrower, wider }, .. } = outcome;
    assert!(!link.id.is_empty());
    let url = Url::parse(&link.url).expect("an address");
    assert!(matches!(url.scheme(), "https" | "http"), "{url}");
    for difference in narrower.iter().chain(wider) {
        assert_ne!(difference.asked, difference.granted, "{} does not differ", difference.member);
    }
    check_reply(link, outcome);
}

fn check_reply(link: &Granted, outcome: &LinkOutcome) {
    let reply = Reply {
        id: "a".to_owned(),
        provider: None,
        item: None,
        result: Ok((outcome.made, link.clone())),
        warnings: outcome.comparison.narrower.iter().chain(&outcome.comparison.wider).cloned().collect(),
        attempts: 1,
        elapsed_ms: 1,
        completed_at: Timestamp::UNIX_EPOCH,
    };
    let text = serde_json::to_string(&reply).expect("a reply can be written");
    // Readers of JSON refuse what is nested too deeply; serde_json at 128.
    let read: Value = serde_json::from_str(&text).expect("a reply can be read");
    assert_eq!(read["link"]["url"], link.url);
    for difference in &outcome.comparison.narrower {
        assert_no_secret(&format!("{difference:?}"));
    }
}

/// A refusal can be told, and asks for another attempt only where that makes sense.
fn check_failure(failure: &CallFailure, answer: &Answer, wait: Option<Duration>) {
    assert_tellable(&failure.failure);
    assert_eq!(failure.failure.provider.http_status, Some(answer.status));
    assert!(failure.retry_after.is_none() || failure.retry_after == wait);
    if let Some(wait) = failure.retry_after {
        assert!((SHORTEST..=LONGEST).contains(&wait));
        assert_ne!(failure.retry, Retry::Never, "a wait for nothing");
    }
    if matches!(answer.status, 401 | 404 | 410) {
        assert_eq!(failure.retry == Retry::Never, failure.failure.kind != ErrorKind::Unavailable);
    }
    if answer.status == 429 {
        assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::RateLimited, Retry::Yes));
        assert_eq!(failure.retry_after, wait);
    }
}

fn check_oracle(link: &Object, answer: &Answer) {
    let item: Object = serde_json::from_str(r#"{"folderId":"F"}"#).expect("an object");
    let everybody: Object = serde_json::from_str(r#"{"assignedUsers":"@everybody"}"#).expect("an object");
    let ask = oracle::request::Ask::read(&item, &hidden(link))
        .or_else(|_| oracle::request::Ask::read(&item, &everybody))
        .expect("a link for everybody can be asked for");
    let wait = answer.retry_after();
    let content_type = answer.content_type();
    let heard = oracle::classify::Heard {
        status: answer.status,
        content_type: content_type.as_deref(),
        ecid: answer.header("x-oracle-dms-ecid"),
        retry_after: wait,
        body: &answer.body,
    };
    match oracle::classify::read(heard) {
        Err(refused) => {
            check_failure(&refused.failure, answer, wait);
            let longest = refused.failure.failure.message.split(|each: char| !each.is_alphanumeric());
            let longest = longest.map(|word| word.chars().count()).max();
            assert!(longest <= Some(23), "an id in {}", refused.failure.failure.message);
        }
        Ok(object) => {
            assert!(answer.is_success());
            let links = oracle::answer::links(object.clone()).unwrap_or_default();
            for link in oracle::answer::Link::read(object).into_iter().chain(links) {
                check_oracle_link(&ask, link);
            }
        }
    }
}

fn check_oracle_link(ask: &oracle::request::Ask, link: oracle::answer::Link) {
    let base = "https://graph.example.com/v1.0".parse().expect("an address");
    let address = oracle::url::public("{publicUrl}/link/{linkID}/folder/{id}", &base, &link.id, &ask.item);
    let delete = oracle::url::link(&base, &link.id);
    assert_eq!(address.is_none(), matches!(link.id.as_str(), "." | ".."));
    assert_eq!(address.is_none(), delete.is_none());
    let Some(address) = address else { return };
    check_place(&delete, 3);
    check_place(&address.parse().ok(), 5);
    let judgement = oracle::compare::judge(ask, &link);
    let granted = Granted { id: link.id.clone(), url: address, html: None, granted: link.granted() };
    let outcome = LinkOutcome { link: granted, made: Made::Created, comparison: judgement.comparison };
    check_outcome(&outcome);
    assert_eq!(judgement.unknown.contains(&"password"), ask.password.is_some());
    if outcome.comparison.wider.is_empty() {
        check_oracle_is_not_wider(ask, &outcome.link.granted);
    }
}

fn check_oracle_is_not_wider(ask: &oracle::request::Ask, granted: &Object) {
    let text = |name: &str| granted.get(name).and_then(Value::as_str);
    let roles = ["viewer", "downloader", "contributor"];
    let rank = |word: &str| roles.iter().position(|known| *known == word).expect("a known role");
    assert!(rank(text("role").expect("a role")) <= rank(ask.role.as_str()), "{granted:?}");
    if let Some(asked) = ask.expires {
        check_ends(asked, text("expirationTime"));
    }
    let users = text("assignedUsers").expect("somebody is named").to_ascii_lowercase();
    let names: Vec<&str> = users.split(',').map(str::trim).collect();
    match ask.users.audience() {
        Audience::Anonymous => {}
        Audience::Organization => assert!(!names.contains(&"@everybody"), "{users}"),
        Audience::Users => {
            assert!(!names.contains(&"@everybody") && !names.contains(&"@serviceinstance"), "{users}");
        }
    }
}
