//! A request from its bytes to the addresses it leads to: what is accepted stays in its place and loses nothing, what
//! is refused is refused in one line without the password.
//!
//! Input: properties, a line `name: value` each; then the body.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use sharelink::config::{OneDrive, OneDriveApi, Policy};
use sharelink::model::{Asked, Envelope, ErrorKind, Failure, Object, Properties, ShareRequest, Trace, Travel};
use sharelink::pipeline::decode::{decode, is_cloud_event};
use sharelink::pipeline::policy;
use sharelink::provider::onedrive::request::{Ask, Drive, Item};
use sharelink::provider::onedrive::url::{Addresses, Place};
use sharelink::provider::oracle;
use url::Url;

use super::input::{Parts, field};
use super::{CANARY, assert_no_secret, assert_tellable};

/// The largest body taken here, in bytes.
const MAX_BYTES: usize = 4096;

/// Checks one input.
pub fn check(data: &[u8]) {
    let mut parts = Parts::new(data);
    let lines = parts.text();
    let body = parts.rest();
    if body.windows(CANARY.len()).any(|here| here == CANARY.as_bytes()) {
        return;
    }
    let properties = properties(&lines);
    let event = is_cloud_event(properties.content_type.as_deref());
    let envelope = Envelope { body: Bytes::copy_from_slice(body), properties, travel: Travel::default() };
    match decode(&envelope, MAX_BYTES, || "fresh".to_owned()) {
        Err(refused) => {
            assert_eq!(refused.failure.kind, ErrorKind::InvalidRequest);
            assert_tellable(&refused.failure);
            check_id(&refused.id);
            for text in [refused.provider, refused.reply_to, refused.correlation_id].into_iter().flatten() {
                check_short(&text);
            }
        }
        Ok(decoded) => {
            assert!(body.len() <= MAX_BYTES);
            check_id(&decoded.request.id);
            for text in [&decoded.request.provider, &decoded.reply_to, &decoded.correlation_id].into_iter().flatten() {
                check_short(text);
            }
            check_members(body, event, &decoded.request);
            prepare(decoded.request);
        }
    }
}

fn properties(lines: &str) -> Properties {
    // The broker's short strings have at most 255 bytes.
    let text = |name: &str| field(lines, name).filter(|text| text.len() <= 255).map(str::to_owned);
    Properties {
        content_type: text("content_type"),
        message_id: text("message_id"),
        correlation_id: text("correlation_id"),
        reply_to: text("reply_to"),
        timestamp: None,
        trace: Trace { parent: text("traceparent"), state: text("tracestate") },
    }
}

fn check_id(id: &str) {
    // 200 characters of the body's own, or a short string of the broker's.
    assert!(!id.is_empty() && (id.chars().count() <= 200 || id.len() <= 255), "an id of {} bytes", id.len());
}

fn check_short(text: &str) {
    assert!(!text.is_empty() && text.len() <= 255, "{} bytes", text.len());
}

/// What was read is what was written.
fn check_members(body: &[u8], event: bool, request: &ShareRequest) {
    // A byte order mark before it is no mistake.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let whole: Value = serde_json::from_slice(body).expect("accepted, so it is JSON");
    let own = if event { &whole["data"] } else { &whole };
    assert_eq!(own["item"], Value::Object(request.item.clone()));
    assert_eq!(own["link"], Value::Object(request.link.clone()));
    assert_eq!(own.get("provider").and_then(Value::as_str), request.provider.as_deref());
    if let Some(id) = own.get("id") {
        assert_eq!(id.as_str(), Some(request.id.as_str()));
    }
    assert_eq!(own.get("deadline").is_some(), request.deadline.is_some());
}

fn prepare(mut request: ShareRequest) {
    // A password of any shape is made recognisable.
    if let Some(password) = request.link.get_mut("password") {
        *password = match password.take() {
            Value::String(text) => json!(format!("{CANARY}{text}")),
            other => json!({ CANARY: other }),
        };
    }
    for api in [OneDriveApi::Graph, OneDriveApi::Legacy] {
        match Ask::read(api, &request.item, &request.link) {
            Ok(ask) => check_onedrive(api, &request, &ask),
            Err(failure) => check_refusal(&failure),
        }
    }
    match oracle::request::Ask::read(&request.item, &request.link) {
        Ok(ask) => check_oracle(&request, &ask),
        Err(failure) => check_refusal(&failure),
    }
}

fn check_refusal(failure: &Failure) {
    assert!(matches!(failure.kind, ErrorKind::InvalidRequest | ErrorKind::Unsupported), "{:?}", failure.kind);
    assert!(failure.message.contains("item") || failure.message.contains("link"), "{}", failure.message);
    assert_tellable(failure);
}

fn check_onedrive(api: OneDriveApi, request: &ShareRequest, ask: &Ask) {
    assert_no_secret(&format!("{ask:?}"));
    check_asked(&ask.asked, &request.link, "expirationDateTime");
    let addresses = addresses(api);
    let text = |name: &str| request.item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match &ask.item {
        Item::Shared(token) => {
            let url = addresses.shared_item(token).expect("a token makes an address");
            check_place(&url, &["shares".to_owned(), token.clone(), "driveItem".to_owned()]);
            let decoded = token.strip_prefix("u!").map(|token| URL_SAFE_NO_PAD.decode(token));
            assert_eq!(decoded, Some(Ok(text("shareUrl").into_bytes())));
        }
        Item::Id(drive, _) => {
            let mut path = drive_path(drive, &request.item);
            path.extend(["items".to_owned(), spelt(&text("itemId"))]);
            check_calls(&addresses, &ask.item, path);
        }
        Item::Path(drive, _) => {
            let mut path = drive_path(drive, &request.item);
            let given = text("itemPath");
            if given == "/" {
                path.push("root".to_owned());
            } else {
                path.push("root:".to_owned());
                path.extend(given.strip_prefix('/').unwrap_or(&given).split('/').map(str::to_owned));
                let last = path.last_mut().expect("it has the root");
                last.push(':');
            }
            check_calls(&addresses, &ask.item, path);
        }
    }
    let body = ask.body().expect("it can be written");
    check_onedrive_body(api, request, &serde_json::from_slice(&body).expect("it is JSON"));
}

/// The addresses of all calls about an item.
fn check_calls(addresses: &Addresses, item: &Item, path: Vec<String>) {
    let place: Place = addresses.place(item).expect("an item that is not shared has a place");
    let with =
        |more: &[&str]| path.iter().cloned().chain(more.iter().map(|more| (*more).to_owned())).collect::<Vec<_>>();
    check_place(&addresses.create_link(&place).expect("an address"), &with(&["createLink"]));
    check_place(&addresses.permissions(&place).expect("an address"), &with(&["permissions"]));
    check_place(&addresses.permission(&place, "a/../b?").expect("an address"), &with(&["permissions", "a/../b?"]));
}

/// The address is the account's own, with just these segments behind `/v1.0`.
fn check_place(url: &Url, path: &[String]) {
    assert_eq!(url.origin().ascii_serialization(), "https://graph.example.com", "{url}");
    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
    assert!(url.as_str().is_ascii() && url.as_str().len() < 60_000, "an address of {} bytes", url.as_str().len());
    let segments: Vec<String> = url
        .path_segments()
        .expect("it has a path")
        .map(|segment| percent_decode_str(segment).decode_utf8().expect("UTF-8").into_owned())
        .collect();
    assert_eq!(segments[0], "v1.0", "{url}");
    assert_eq!(&segments[1..], path, "{url}");
}

fn drive_path(drive: &Drive, item: &Object) -> Vec<String> {
    let id = |name: &str| spelt(item.get(name).and_then(Value::as_str).expect("it named the drive"));
    match drive {
        Drive::Configured => vec!["me".into(), "drive".into()],
        Drive::Id(_) => vec!["drives".into(), id("driveId")],
        Drive::User(_) => vec!["users".into(), id("userId"), "drive".into()],
        Drive::Group(_) => vec!["groups".into(), id("groupId"), "drive".into()],
        Drive::Site(_) => vec!["sites".into(), id("siteId"), "drive".into()],
    }
}

/// An id as it is meant: in requests it may be percent-encoded.
fn spelt(id: &str) -> String {
    percent_decode_str(id).decode_utf8().expect("accepted, so it is UTF-8").into_owned()
}

fn addresses(api: OneDriveApi) -> Addresses {
    Addresses::new(&OneDrive {
        api,
        base_url: "https://graph.example.com/v1.0".parse().expect("an address"),
        drive: "/me/drive".to_owned(),
        action: "createLink".to_owned(),
        batch: false,
    })
    .expect("the settings make addresses")
}

/// Nothing that was asked for is dropped, nothing that was not is added.
fn check_onedrive_body(api: OneDriveApi, request: &ShareRequest, body: &Value) {
    let body = body.as_object().expect("an object");
    let link = &request.link;
    assert_eq!(body.keys().collect::<Vec<_>>(), link.keys().collect::<Vec<_>>());
    for (name, value) in body {
        let asked = &link[name];
        match name.as_str() {
            "expirationDateTime" => check_time(asked, value),
            "recipients" => {
                let emails = value.as_array().expect("a list").iter().map(|each| each["email"].clone());
                assert_eq!(&Value::Array(emails.collect()), asked);
            }
            _ => assert_eq!(value, asked, "{name}"),
        }
    }
    if api == OneDriveApi::Legacy {
        assert!(body.keys().all(|name| matches!(name.as_str(), "type" | "scope")), "{body:?}");
    }
}

/// What is sent is not later than what was asked, and less than a second earlier.
fn check_time(asked: &Value, sent: &Value) {
    let asked = asked.as_str().expect("a text");
    // Oracle reads a time without a zone as UTC.
    let asked: Timestamp = asked.parse().or_else(|_| format!("{asked}Z").parse()).expect("accepted, so it is a time");
    let sent: Timestamp = sent.as_str().expect("a text").parse().expect("a time");
    assert!(sent <= asked && asked.duration_since(sent) < SignedDuration::from_secs(1), "asked {asked}, sent {sent}");
    assert_eq!(sent.subsec_nanosecond(), 0);
}

fn check_oracle(request: &ShareRequest, ask: &oracle::request::Ask) {
    assert_no_secret(&format!("{ask:?}"));
    check_asked(&ask.asked(), &request.link, "expirationTime");
    let (member, word) = match ask.item.kind {
        oracle::request::ItemKind::Folder => ("folderId", "folder"),
        oracle::request::ItemKind::File => ("fileId", "file"),
    };
    let id = spelt(request.item[member].as_str().expect("it was accepted"));
    let base = "https://graph.example.com/v1.0".parse().expect("an address");
    let url = oracle::url::links(&base, &ask.item).expect("an address");
    check_place(&url, &["publiclinks".to_owned(), word.to_owned(), id.clone()]);
    let public = oracle::url::public("{publicUrl}/link/{linkID}/{id}", &base, "L/..?", &ask.item).expect("an address");
    check_place(&public.parse().expect("an address"), &["link".to_owned(), "L/..?".to_owned(), id]);

    let name = ask.name.as_deref().unwrap_or("ours");
    let body: Object = serde_json::from_slice(&ask.body(name)).expect("JSON");
    let link = &request.link;
    for (name, asked) in link {
        match name.as_str() {
            "expirationTime" => check_time(asked, &body[name]),
            "assignedUsers" => {
                let again = oracle::users::AssignedUsers::ask(body[name].as_str().expect("a text"));
                assert_eq!(again.as_ref(), Ok(&ask.users));
            }
            _ => assert_eq!(&body[name], asked, "{name}"),
        }
    }
    let added: Vec<_> = body.keys().filter(|name| !link.contains_key(*name)).collect();
    assert!(added.iter().all(|name| matches!(name.as_str(), "role" | "linkName")), "added {added:?}");
}

/// What the policy is told is what was asked.
fn check_asked(asked: &Asked, link: &Object, expiry: &str) {
    assert_eq!(asked.has_password, link.contains_key("password"));
    assert_eq!(asked.expires.is_some(), link.contains_key(expiry));
    let now: Timestamp = "2026-11-22T10:00:00Z".parse().expect("a time");
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    let strict = Policy { max_expiry: Some(day), require_expiry: true, require_password: true, ..Policy::default() };
    match policy::allow(&strict, asked, now) {
        Ok(()) => {
            let ends = asked.expires.expect("an expiry is required");
            assert!(ends.duration_since(now) <= SignedDuration::from_hours(24), "{ends}");
            assert!(asked.has_password && ends > now);
        }
        Err(failure) => {
            let past = asked.expires.is_some_and(|ends| ends <= now);
            let kind = if past { ErrorKind::InvalidRequest } else { ErrorKind::PolicyRefused };
            assert_eq!(failure.kind, kind);
            assert_tellable(&failure);
        }
    }
}
