//! Copies of a request for the dead-letter queue and the delay queues.
//!
//! A copy keeps the request's body, properties and headers, but for what would make the broker refuse it, route it
//! elsewhere, or count it as something that has already happened.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::headers::{
    ATTEMPTS, BODY_BYTES, ERROR, FIRST_ATTEMPT, FIRST_SEEN, Headers, NOT_BEFORE, PUBLISH_ID, REASON, REDRIVEN, REPLY,
    UNSURE, WORKER, cut, short, text,
};
use super::publishing::{MAX_BODY, Outgoing};
use super::replies::PERSISTENT;
use crate::model::Travel;
use crate::pipeline::ports::{DeathNote, DeathReason};

/// Longest error text and reply in a dead letter's headers, in bytes.
const MAX_NOTE: usize = 2048;

/// The reply queue name of direct reply-to before the broker fills it in. A message that still says so is refused with
/// a channel error, because the consumer it needs is not on our channel.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Which headers of the original a copy may keep.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Also the history of dead lettering, for whoever looks at it.
    History,
    /// Not that: a broker before 4.0 believes it, takes the way back out of a delay queue for a cycle, and drops the
    /// message. Nor what a dead letter says of itself: with that a request begins anew, each time it comes back.
    Request,
}

/// The copy for the dead-letter queue. A body that no broker would take is cut, which `sharelink-body-bytes` tells.
pub fn dead_letter(
    queue: &str,
    original: &BasicProperties,
    body: &Bytes,
    note: &DeathNote,
    worker_name: &str,
) -> Outgoing {
    let mut headers = Headers::new();
    headers.text(REASON, note.reason.as_str());
    headers.number(ATTEMPTS, note.attempts);
    headers.text(FIRST_SEEN, &note.first_seen.to_string());
    headers.text(WORKER, cut(worker_name, 255));
    headers.text(ERROR, cut(&note.error, MAX_NOTE));
    let reply = note.reply.as_ref().and_then(|reply| serde_json::to_string(reply).ok());
    headers.maybe(REPLY, reply.as_deref().filter(|reply| reply.len() <= MAX_NOTE));
    if body.len() > MAX_BODY {
        headers.number(BODY_BYTES, u32::try_from(body.len()).unwrap_or(u32::MAX));
    }
    keep(&mut headers, original.headers().as_ref(), Keep::History);
    let body = body.slice(..body.len().min(MAX_BODY));
    Outgoing { queue: queue_name(queue), properties: properties(original), headers, body }
}

/// The copy that begins the trip anew: a dead letter as the request that it once was.
pub(crate) fn redriven(queue: &str, letter: &BasicProperties, body: &Bytes) -> Outgoing {
    let mut headers = Headers::new();
    // A malformed request never got as far as the provider. Any other may have: it is to look before it makes a link.
    let reason = letter.headers().as_ref().and_then(|headers| text(headers, REASON));
    if reason.as_deref() != Some(DeathReason::Malformed.as_str()) {
        headers.number(REDRIVEN, 1);
    }
    keep(&mut headers, letter.headers().as_ref(), Keep::Request);
    Outgoing { queue: queue_name(queue), properties: properties(letter), headers, body: body.clone() }
}

/// The same letter once more, whole: every header but the broker's counts and what it would act on, whatever their size.
/// They came in one frame, so they go in one.
pub(crate) fn renewed(letter: &BasicProperties) -> (BasicProperties, FieldTable) {
    let mut headers = FieldTable::default();
    for (name, value) in letter.headers().iter().flatten() {
        // Ours stay as they are; `may_stay` is about writing them afresh.
        if may_stay(name.as_str(), Keep::History) || [ATTEMPTS, FIRST_SEEN].contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    (properties(letter), headers)
}

/// The copy for a delay queue, remembering `travel`.
pub fn delayed(queue: &str, original: &BasicProperties, body: &Bytes, travel: Travel) -> Outgoing {
    let mut headers = Headers::new();
    headers.number(ATTEMPTS, travel.attempts);
    headers.maybe(FIRST_SEEN, travel.first_seen.map(|time| time.to_string()).as_deref());
    headers.maybe(FIRST_ATTEMPT, travel.first_attempt.map(|time| time.to_string()).as_deref());
    if travel.unsure {
        headers.number(UNSURE, 1);
    }
    headers.maybe(NOT_BEFORE, travel.not_before.map(|time| time.to_string()).as_deref());
    keep(&mut headers, original.headers().as_ref(), Keep::Request);
    Outgoing { queue: queue_name(queue), properties: properties(original), headers, body: body.clone() }
}

fn queue_name(queue: &str) -> ShortString {
    ShortString::try_new(queue).unwrap_or_default()
}

/// The properties that can be sent again. Not `user_id`, which the broker compares with our own login, and not
/// `expiration`, which would cut the wait in a delay queue short and empty the dead-letter queue.
fn properties(original: &BasicProperties) -> BasicProperties {
    let mut copy = BasicProperties::default().with_delivery_mode(PERSISTENT);
    if let Some(value) = original.content_type() {
        copy = copy.with_content_type(value.clone());
    }
    if let Some(value) = original.content_encoding() {
        copy = copy.with_content_encoding(value.clone());
    }
    if let Some(value) = original.priority() {
        copy = copy.with_priority(*value);
    }
    if let Some(value) = original.correlation_id() {
        copy = copy.with_correlation_id(value.clone());
    }
    if let Some(value) = original.reply_to().as_ref().filter(|queue| queue.as_str() != DIRECT_REPLY_TO) {
        copy = copy.with_reply_to(value.clone());
    }
    if let Some(value) = original.message_id() {
        copy = copy.with_message_id(value.clone());
    }
    if let Some(value) = original.timestamp() {
        copy = copy.with_timestamp(*value);
    }
    if let Some(value) = original.kind() {
        copy = copy.with_type(value.clone());
    }
    if let Some(value) = original.app_id() {
        copy = copy.with_app_id(value.clone());
    }
    copy
}

fn keep(headers: &mut Headers, original: Option<&FieldTable>, which: Keep) {
    for (name, value) in original.into_iter().flatten() {
        if may_stay(name.as_str(), which) {
            headers.add(short(name.as_str()), value.clone());
        }
    }
}

fn may_stay(name: &str, which: Keep) -> bool {
    match name {
        // Sender-selected distribution: the broker would route the copy to these queues as well.
        "CC" | "BCC" => false,
        // The broker's counts of deliveries: a copy has not been delivered yet.
        "x-delivery-count" | "x-acquired-count" => false,
        PUBLISH_ID => false,
        // Ours are written afresh or belong to a trip that is over.
        ATTEMPTS | FIRST_SEEN | FIRST_ATTEMPT | NOT_BEFORE | UNSURE => false,
        _ if name.starts_with("x-death") || name.starts_with("x-first-death-") || name.starts_with("x-last-death-") => {
            which == Keep::History
        }
        REASON | ERROR | WORKER | REPLY | BODY_BYTES => which == Keep::History,
        _ => true,
    }
}

/// The headers as a table with the publish id in it.
pub fn numbered(headers: Headers, publish_id: i64) -> FieldTable {
    let mut table = headers.into_table();
    table.insert(short(PUBLISH_ID), AMQPValue::LongLongInt(publish_id));
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::headers::{MAX_HEADERS, number};
    use crate::model::{ErrorKind, Failure, Reply};

    fn original() -> BasicProperties {
        let mut headers = FieldTable::default();
        for name in ["CC", "BCC", "x-delivery-count", "x-death", "x-first-death-queue", "mine", "traceparent", REASON] {
            headers.insert(name.into(), AMQPValue::LongString("1".into()));
        }
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(99));
        BasicProperties::default()
            .with_headers(headers)
            .with_message_id("m".into())
            .with_correlation_id("c".into())
            .with_reply_to("answers".into())
            .with_user_id("somebody".into())
            .with_expiration("1000".into())
            .with_priority(4)
            .with_delivery_mode(1)
    }

    fn note(error: &str, reply: Option<Reply>) -> DeathNote {
        DeathNote {
            reason: DeathReason::Unroutable,
            error: error.to_owned(),
            attempts: 4,
            first_seen: "2026-11-22T10:00:00Z".parse().unwrap(),
            reply: reply.map(Box::new),
        }
    }

    fn reply(message: String) -> Reply {
        Reply {
            id: "a".to_owned(),
            provider: None,
            item: None,
            result: Err(Failure::new(ErrorKind::Internal, message)),
            warnings: Vec::new(),
            attempts: 1,
            elapsed_ms: 1,
            completed_at: "2026-11-22T10:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_delayed_request_keeps_its_own_properties_and_gets_the_new_travel() {
        let travel = Travel {
            attempts: 3,
            first_seen: "2026-11-22T10:00:00Z".parse().ok(),
            not_before: "2026-11-22T10:05:00Z".parse().ok(),
            ..Travel::default()
        };
        let out = delayed("q.delay.5m", &original(), &Bytes::from_static(b"body"), travel);
        assert_eq!(out.properties.message_id().as_ref().unwrap().as_str(), "m");
        assert_eq!(out.properties.correlation_id().as_ref().unwrap().as_str(), "c");
        assert_eq!(out.properties.reply_to().as_ref().unwrap().as_str(), "answers");
        assert_eq!(*out.properties.priority(), Some(4));
        assert_eq!(*out.properties.delivery_mode(), Some(2));
        assert_eq!(&out.body[..], b"body");
        let headers = out.headers.into_table();
        assert_eq!(number(&headers, ATTEMPTS), Some(3));
        assert_eq!(text(&headers, FIRST_SEEN).as_deref(), Some("2026-11-22T10:00:00Z"));
        assert_eq!(text(&headers, NOT_BEFORE).as_deref(), Some("2026-11-22T10:05:00Z"));
        assert_eq!(text(&headers, "mine").as_deref(), Some("1"));
    }

    #[test]
    fn a_copy_leaves_out_what_the_broker_would_act_on() {
        let out = delayed("q", &original(), &Bytes::new(), Travel::default());
        assert_eq!(*out.properties.user_id(), None);
        assert_eq!(*out.properties.expiration(), None);
        let headers = out.headers.into_table();
        for name in ["CC", "BCC", "x-delivery-count", "x-death", "x-first-death-queue", REASON] {
            assert!(!headers.contains_key(name), "{name}");
        }
        let direct = BasicProperties::default().with_reply_to(DIRECT_REPLY_TO.into());
        assert_eq!(*delayed("q", &direct, &Bytes::new(), Travel::default()).properties.reply_to(), None);
    }

    #[test]
    fn a_dead_letter_says_why_it_is_dead_and_keeps_the_original() {
        let out = dead_letter("dead", &original(), &Bytes::from_static(b"body"), &note("no queue", None), "worker-1");
        assert_eq!(out.queue.as_str(), "dead");
        assert_eq!(&out.body[..], b"body");
        let headers = out.headers.into_table();
        assert_eq!(text(&headers, "sharelink-reason").as_deref(), Some("unroutable"));
        assert_eq!(text(&headers, "sharelink-error").as_deref(), Some("no queue"));
        assert_eq!(number(&headers, ATTEMPTS), Some(4));
        assert_eq!(text(&headers, FIRST_SEEN).as_deref(), Some("2026-11-22T10:00:00Z"));
        assert_eq!(text(&headers, "sharelink-worker").as_deref(), Some("worker-1"));
        for name in ["mine", "traceparent", "x-death"] {
            assert!(headers.contains_key(name), "{name}");
        }
        assert!(!headers.contains_key("sharelink-reply"));
    }

    #[test]
    fn a_small_reply_travels_with_the_dead_letter_and_a_large_one_is_left_out() {
        let headers = |message: String| {
            let note = note("e", Some(reply(message)));
            dead_letter("dead", &original(), &Bytes::new(), &note, "w").headers.into_table()
        };
        assert!(text(&headers("short".to_owned()), "sharelink-reply").is_some_and(|reply| reply.contains("short")));
        assert!(!headers("x".repeat(MAX_NOTE)).contains_key("sharelink-reply"));
    }

    #[test]
    fn a_long_error_is_cut_and_the_headers_stay_within_a_frame() {
        let mut headers = FieldTable::default();
        for number in 0..100 {
            headers.insert(short(&format!("h{number}")), AMQPValue::LongString("x".repeat(100).into()));
        }
        let original = BasicProperties::default().with_headers(headers);
        let out = dead_letter("dead", &original, &Bytes::new(), &note(&"ß".repeat(4000), None), &"w".repeat(4000));
        let headers = out.headers.into_table();
        assert_eq!(text(&headers, "sharelink-error").map(|error| error.len()), Some(MAX_NOTE));
        assert_eq!(text(&headers, "sharelink-worker").map(|worker| worker.len()), Some(255));
        let bytes: usize = headers.into_iter().map(|(name, _)| name.as_str().len() + 100).sum();
        assert!(bytes <= MAX_HEADERS + 1024, "{bytes}");
        assert!(headers.contains_key("h0"));
    }

    #[test]
    fn a_redriven_letter_is_the_request_again_and_says_nothing_of_its_death() {
        let dead = dead_letter("dead", &original(), &Bytes::from_static(b"body"), &note("no queue", None), "w");
        let letter = dead.properties.with_headers(numbered(dead.headers, 7));
        let out = redriven("requests", &letter, &dead.body);
        assert_eq!(out.queue.as_str(), "requests");
        assert_eq!(&out.body[..], b"body");
        assert_eq!(out.properties.message_id().as_ref().unwrap().as_str(), "m");
        assert_eq!(out.properties.correlation_id().as_ref().unwrap().as_str(), "c");
        assert_eq!(out.properties.reply_to().as_ref().unwrap().as_str(), "answers");
        assert_eq!(*out.properties.delivery_mode(), Some(2));
        let headers = out.headers.into_table();
        let names: Vec<_> = headers.inner().keys().map(ShortString::as_str).collect();
        assert_eq!(names, ["mine", REDRIVEN, "traceparent"]);
    }

    #[test]
    fn a_redriven_letter_that_never_reached_a_provider_does_not_claim_that_it_did() {
        let note = DeathNote { reason: DeathReason::Malformed, ..note("wrong", None) };
        let dead = dead_letter("dead", &original(), &Bytes::new(), &note, "w");
        let letter = dead.properties.with_headers(numbered(dead.headers, 7));
        assert!(!redriven("requests", &letter, &dead.body).headers.into_table().contains_key(REDRIVEN));
    }

    #[test]
    fn a_renewed_letter_keeps_everything_but_the_counts_of_deliveries() {
        let dead = dead_letter("dead", &original(), &Bytes::new(), &note("no queue", None), "w");
        let mut headers = numbered(dead.headers, 7);
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(9));
        let (properties, renewed) = renewed(&dead.properties.with_headers(headers));
        assert_eq!(number(&renewed, ATTEMPTS), Some(4));
        assert_eq!(text(&renewed, FIRST_SEEN).as_deref(), Some("2026-11-22T10:00:00Z"));
        for name in [REASON, ERROR, WORKER, "mine", "x-death"] {
            assert!(renewed.contains_key(name), "{name}");
        }
        for name in ["x-delivery-count", PUBLISH_ID] {
            assert!(!renewed.contains_key(name), "{name}");
        }
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "m");
    }

    #[test]
    fn a_body_that_no_broker_would_take_is_cut_and_its_size_told() {
        let body = Bytes::from(vec![b'x'; MAX_BODY + 1]);
        let out = dead_letter("dead", &BasicProperties::default(), &body, &note("too large", None), "w");
        assert_eq!(out.body.len(), MAX_BODY);
        let size = u64::try_from(MAX_BODY + 1).unwrap();
        assert_eq!(number(&out.headers.into_table(), "sharelink-body-bytes"), Some(size));
    }
}
