//! From a delivery's wire bytes to what is published for it: whatever others put into a message's properties, the reply
//! and the copies fit a frame, say what they must, and can be read again.
//!
//! Input: AMQP properties as on the wire, their length in four digits before them; the reply on lines `name: value`; the body.

use std::sync::LazyLock;

use bytes::Bytes;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::protocol::basic::{gen_properties, parse_properties};
use lapin::types::FieldTable;
use lapin::types::generation::gen_field_table;
use serde_json::{Value, json};
use sharelink::broker::copies::{dead_letter, delayed, numbered};
use sharelink::broker::headers::{Headers, MAX_HEADERS, text};
use sharelink::broker::properties::envelope;
use sharelink::broker::replies::{Routes, To, compose};
use sharelink::config::{Settings, load_text};
use sharelink::model::{Difference, Envelope, ErrorKind, Failure, Granted, Made, Object, ProviderSays, Reply, Travel};
use sharelink::pipeline::decode::is_cloud_event;
use sharelink::pipeline::ports::{DeathNote, DeathReason};

use super::input::{Parts, field};

/// The members of a reply, of the contract's section 2, sorted.
const MEMBERS: [&str; 10] =
    ["attempts", "completedAt", "elapsedMs", "error", "id", "item", "link", "provider", "status", "warnings"];

/// The smallest frame that a broker may ask for is 4096 bytes, RabbitMQ's is never below 8192.
const SMALLEST_FRAME: usize = 8192;

/// Checks one input.
pub fn check(data: &[u8]) {
    let (length, rest) = data.split_at_checked(4).unwrap_or((b"0000", data));
    let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let (wire, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
    let properties = parse_properties(wire).map(|(_, properties)| properties).unwrap_or_default();
    let mut parts = Parts::new(rest);
    let lines = parts.text();
    let body = Bytes::copy_from_slice(parts.rest());
    let envelope = envelope(body.clone(), &properties, lines.len() % 2 == 1);
    check_envelope(&envelope);
    let reply = reply(&lines);
    check_replies(&envelope, &reply);
    check_copies(&properties, &body, &reply);
}

fn check_envelope(envelope: &Envelope) {
    let properties = &envelope.properties;
    for text in [&properties.content_type, &properties.message_id, &properties.correlation_id, &properties.reply_to] {
        assert!(text.as_ref().is_none_or(|text| (1..=255).contains(&text.len())));
    }
    assert!(envelope.travel.redelivered || envelope.travel.deliveries == 0);
}

/// The routes of a worker with a few patterns.
static ROUTES: LazyLock<Routes> = LazyLock::new(|| Routes::new(&settings().broker));

fn settings() -> Settings {
    let text = "[broker]\nurl = \"amqp://h\"\nrequest_queue = \"requests\"\nreply_queue = \"replies\"\ndead_letter_queue = \"dead\"\n\
                reply_to_allow = [\"team.*\", \"amq.rabbitmq.reply-to.*\", \"requests*\", \"?\"]\n\
                [providers.a]\nkind = \"onedrive\"\nauth = { method = \"bearer\", token = \"t\" }\n";
    load_text("x", text, std::iter::empty()).expect("a configuration").settings
}

/// A reply, successful where it has a `url`.
fn reply(lines: &str) -> Reply {
    let text = |name: &str| field(lines, name).map(str::to_owned);
    let number = |name: &str| field(lines, name).and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
    let object = |name: &str| text(name).map(|value| Object::from_iter([("type".to_owned(), Value::from(value))]));
    let result = match text("url") {
        Some(url) => Ok((
            if number("attempts") % 2 == 0 { Made::Reused } else { Made::Created },
            Granted {
                id: text("link").unwrap_or_default(),
                url,
                html: text("html"),
                granted: object("granted").unwrap_or_default(),
            },
        )),
        None => Err(Failure::by_provider(
            ErrorKind::ALL[number("kind") as usize % ErrorKind::ALL.len()],
            text("message").unwrap_or_default(),
            ProviderSays { http_status: Some(404), code: text("code"), request_id: text("request") },
        )),
    };
    let second = field(lines, "completed").and_then(|text| text.parse().ok());
    Reply {
        id: text("id").unwrap_or_default(),
        provider: text("provider"),
        item: object("item"),
        result,
        warnings: text("warning")
            .map(|member| Difference { member, asked: Value::Null, granted: json!(1) })
            .into_iter()
            .collect(),
        attempts: number("attempts"),
        elapsed_ms: u64::from(number("elapsed")) << 20,
        completed_at: second
            .and_then(|second| Timestamp::from_nanosecond(second).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

fn check_replies(envelope: &Envelope, reply: &Reply) {
    let routes = &*ROUTES;
    let asked = routes.asked(envelope);
    if let Some(queue) = asked {
        assert_eq!(envelope.properties.reply_to.as_deref(), Some(queue));
        assert!(!matches!(queue, "requests" | "dead") && !queue.starts_with("requests.delay."), "{queue:?}");
        let allowed = queue.starts_with("team.")
            || queue.starts_with("amq.rabbitmq.reply-to.")
            || queue.starts_with("requests")
            || queue.chars().count() == 1;
        assert!(allowed, "{queue:?}");
    }
    for to in asked.map(To::Asked).into_iter().chain([To::Configured]) {
        let out = compose(routes, envelope, reply, to).expect("a reply can be written");
        let properties = &out.properties;
        let queue = if let To::Asked(queue) = to { queue } else { "replies" };
        assert_eq!(out.queue.as_str(), queue);
        assert_eq!(*properties.delivery_mode(), Some(2));
        let said = |text: &Option<lapin::types::ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
        assert_eq!(said(properties.kind()).as_deref(), Some("sharelink.reply.v1"));
        assert_eq!(said(properties.app_id()).as_deref(), Some("sharelink"));
        let id = said(properties.message_id()).expect("a message id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}");
        if let Some(correlation) =
            envelope.properties.correlation_id.as_ref().or(envelope.properties.message_id.as_ref())
        {
            assert_eq!(said(properties.correlation_id()).as_ref(), Some(correlation));
        }
        check_stable(routes, envelope, reply, to, &id);
        let content_type = said(properties.content_type()).expect("a content type");
        check_body(&out.body, &content_type, envelope, reply, &id);
        let headers = check_frame(out.headers, properties);
        assert_eq!(text(&headers, "sharelink-status").as_deref(), Some(reply.status().as_str()));
        let elsewhere = envelope.properties.reply_to.as_deref().filter(|queue| *queue != "replies");
        let told = if to == To::Configured { elsewhere } else { None };
        assert_eq!(text(&headers, "sharelink-reply-to").as_deref(), told);
    }
}

/// The id does not tell a link that was made from the same one found again.
fn check_stable(routes: &Routes, envelope: &Envelope, reply: &Reply, to: To<'_>, id: &str) {
    let mut again = reply.clone();
    again.attempts += 1;
    again.elapsed_ms = 0;
    again.completed_at = Timestamp::UNIX_EPOCH;
    if let Ok((made, _)) = &mut again.result {
        *made = Made::Reused;
    }
    let out = compose(routes, envelope, &again, to).expect("a reply can be written");
    assert_eq!(out.properties.message_id().as_ref().map(|id| id.as_str()), Some(id));
}

fn check_body(body: &[u8], content_type: &str, envelope: &Envelope, reply: &Reply, id: &str) {
    let whole: Value = serde_json::from_slice(body).expect("JSON");
    let event = is_cloud_event(envelope.properties.content_type.as_deref());
    let own = if event {
        assert_eq!(content_type, "application/cloudevents+json");
        assert_eq!(whole["specversion"], "1.0");
        assert_eq!(whole["id"], id);
        // Both tell the same time, in a form that common tools read.
        assert_eq!(whole["time"], whole["data"]["completedAt"]);
        &whole["data"]
    } else {
        assert_eq!(content_type, "application/json");
        &whole
    };
    let members: Vec<&String> = own.as_object().expect("an object").keys().collect();
    assert_eq!(members, MEMBERS);
    assert_eq!(own["id"], reply.id.as_str());
    assert_eq!(own["status"], reply.status().as_str());
    assert_eq!(own["link"].is_null(), reply.result.is_err());
    assert_eq!(own["error"].is_null(), reply.result.is_ok());
    let time = own["completedAt"].as_str().expect("a text");
    assert!(time.parse::<Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
    match &reply.result {
        Ok((_, link)) => assert_eq!(own["link"]["url"], link.url.as_str()),
        Err(failure) => assert_eq!(own["error"]["kind"], failure.kind.as_str()),
    }
}

/// Asserts that headers and properties fit, and gives the headers as they arrive.
fn check_frame(headers: Headers, properties: &BasicProperties) -> FieldTable {
    let table = numbered(headers, i64::MAX);
    let wire = gen_field_table(&table)(Vec::new().into()).expect("they can be written").write;
    assert!(wire.len() <= MAX_HEADERS + 4, "{} bytes of headers", wire.len());
    let properties = properties.clone().with_headers(table.clone());
    let wire = gen_properties(&properties)(Vec::new().into()).expect("they can be written").write;
    assert!(wire.len() + 22 <= SMALLEST_FRAME, "a content header of {} bytes", wire.len());
    let (left, read) = parse_properties(wire.as_slice()).expect("they can be read again");
    assert!(left.is_empty());
    assert_eq!(read.headers().as_ref(), Some(&table));
    table
}

fn check_copies(original: &BasicProperties, body: &Bytes, reply: &Reply) {
    let time = reply.completed_at;
    let travel = Travel {
        attempts: reply.attempts,
        first_seen: Some(time),
        first_attempt: reply.attempts.is_multiple_of(2).then_some(time),
        not_before: reply.attempts.is_multiple_of(3).then_some(time),
        unsure: reply.attempts.is_multiple_of(5),
        ..Travel::default()
    };
    let out = delayed("requests.delay.5m", original, body, travel);
    assert_eq!(&out.body, body);
    let before = envelope(body.clone(), original, false);
    let properties = out.properties.clone();
    let headers = check_frame(out.headers, &properties);
    check_left_out(&properties, &headers);
    // What comes back is the request with its new travel.
    let after = envelope(body.clone(), &properties.with_headers(headers), false);
    let redriven = original.headers().as_ref().is_some_and(|headers| headers.contains_key("sharelink-redriven"));
    assert_eq!(after.travel, Travel { redelivered: redriven, ..travel });
    let direct = before.properties.reply_to.as_deref() == Some("amq.rabbitmq.reply-to");
    assert_eq!(after.properties.reply_to, before.properties.reply_to.filter(|_| !direct));
    assert_eq!(after.properties.message_id, before.properties.message_id);
    assert_eq!(after.properties.correlation_id, before.properties.correlation_id);
    assert_eq!(after.properties.content_type, before.properties.content_type);
    assert_eq!(after.properties.timestamp, before.properties.timestamp);

    let error = reply.result.as_ref().err().map(|failure| failure.message.clone()).unwrap_or_default();
    let reason = DeathReason::ALL[reply.attempts as usize % DeathReason::ALL.len()];
    let note = DeathNote {
        reason,
        error: error.clone(),
        attempts: reply.attempts,
        first_seen: time,
        reply: Some(Box::new(reply.clone())),
    };
    let out = dead_letter("dead", original, body, &note, &reply.id);
    let headers = check_frame(out.headers, &out.properties);
    check_left_out(&out.properties, &headers);
    assert_eq!(text(&headers, "sharelink-reason").as_deref(), Some(reason.as_str()));
    let told = text(&headers, "sharelink-error").expect("an error");
    assert!(error.starts_with(&told) && told.len() + 4 > error.len().min(2048));
    if let Some(reply) = text(&headers, "sharelink-reply") {
        serde_json::from_str::<Object>(&reply).expect("a whole reply");
    }
}

/// What the broker would act on is not in a copy.
fn check_left_out(properties: &BasicProperties, headers: &FieldTable) {
    assert!(properties.expiration().is_none() && properties.user_id().is_none());
    for name in ["CC", "BCC", "x-delivery-count", "x-acquired-count"] {
        assert!(!headers.contains_key(name), "{name} in a copy");
    }
}
