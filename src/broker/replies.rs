//! From a reply to the message that carries it: where it goes, its properties and its body.
//!
//! Pure, and stable: the same reply to the same request has the same message id however often it is made, so that
//! whoever drops repeats by it (Camunda does) sees one.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::ShortString;
use ring::digest;
use serde::Serialize;

use super::headers::{Headers, cut, short};
use super::publishing::Outgoing;
use crate::config;
use crate::model::{Envelope, Reply};

/// `type` of every reply.
const TYPE: &str = "sharelink.reply.v1";
const APP_ID: &str = "sharelink";
const JSON: &str = "application/json";
const CLOUD_EVENT: &str = "application/cloudevents+json";
/// Bytes that a reply usually needs, so that its text is written in one piece.
const USUAL_REPLY: usize = 640;
/// Persistent, for the requester's queue as for ours.
pub const PERSISTENT: u8 = 2;

/// Which queues replies may go to.
#[derive(Debug, Clone)]
pub struct Routes {
    allow: Vec<String>,
    request_queue: String,
    dead_letter_queue: String,
    reply_queue: String,
    delay_prefix: String,
}

impl Routes {
    /// The routes of the configuration.
    pub fn new(settings: &config::Broker) -> Self {
        Self {
            allow: settings.reply_to_allow.clone(),
            request_queue: settings.request_queue.clone(),
            dead_letter_queue: settings.dead_letter_queue.clone(),
            reply_queue: settings.reply_queue.clone(),
            delay_prefix: super::topology::delay_prefix(&settings.request_queue),
        }
    }

    /// The queue that was asked for, where a reply may be sent to it.
    pub fn asked<'a>(&self, envelope: &'a Envelope) -> Option<&'a str> {
        envelope.properties.reply_to.as_deref().filter(|queue| self.allows(queue))
    }

    fn allows(&self, queue: &str) -> bool {
        // A reply in one of the worker's own queues would come back as a request.
        let own = queue == self.request_queue
            || queue == self.dead_letter_queue
            || queue.starts_with(self.delay_prefix.as_str());
        // No queue has an empty or a longer name.
        let possible = !queue.is_empty() && queue.len() <= 255;
        possible && !own && self.allow.iter().any(|pattern| matches(pattern, queue))
    }
}

/// Whether a glob pattern covers a whole text: `*` any run of characters, `?` any one character.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    // reached[i]: the first i characters of the pattern cover the text so far.
    let mut reached: Vec<bool> = pattern
        .iter()
        .scan(true, |still, glob| Some(std::mem::replace(still, *still && *glob == '*')))
        .chain([pattern.iter().all(|glob| *glob == '*')])
        .collect();
    for character in text.chars() {
        let mut next = vec![false];
        for (position, glob) in pattern.iter().enumerate() {
            let before = reached.get(position).copied().unwrap_or_default();
            let here = reached.get(position + 1).copied().unwrap_or_default();
            let skipped = next.get(position).copied().unwrap_or_default();
            next.push(match glob {
                '*' => before || here || skipped,
                '?' => before,
                literal => before && *literal == character,
            });
        }
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

/// Where a reply is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To<'a> {
    /// The queue that the request asked for.
    Asked(&'a str),
    /// The configured reply queue.
    Configured,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    datacontenttype: &'static str,
    subject: &'a str,
    data: &'a Reply,
}

/// The message of a reply.
///
/// # Errors
/// Where the reply cannot be written as JSON; its members are text and numbers, so that is a bug.
pub fn compose(routes: &Routes, envelope: &Envelope, reply: &Reply, to: To<'_>) -> Result<Outgoing, serde_json::Error> {
    let id = message_id(envelope, reply);
    let asked = &envelope.properties;
    let cloud_event = asked.content_type.as_deref().is_some_and(is_cloud_event);
    let body = if cloud_event {
        serde_json::to_vec(&CloudEvent {
            specversion: "1.0",
            id: &id,
            source: "/sharelink",
            kind: TYPE,
            time: reply.time_told().to_string(),
            datacontenttype: JSON,
            subject: &reply.id,
            data: reply,
        })?
    } else {
        let mut body = Vec::with_capacity(USUAL_REPLY);
        serde_json::to_writer(&mut body, reply)?;
        body
    };
    let correlation = asked.correlation_id.as_deref().or(asked.message_id.as_deref()).unwrap_or(&reply.id);
    let mut headers = Headers::new();
    headers.text("sharelink-status", reply.status().as_str());
    let queue = match to {
        To::Asked(queue) => queue,
        To::Configured => {
            let elsewhere = asked.reply_to.as_deref().filter(|queue| *queue != routes.reply_queue);
            headers.maybe("sharelink-reply-to", elsewhere.map(|queue| cut(queue, 255)));
            &routes.reply_queue
        }
    };
    headers.maybe("traceparent", asked.trace.parent.as_deref());
    headers.maybe("tracestate", asked.trace.state.as_deref());
    let properties = BasicProperties::default()
        .with_content_type(short(if cloud_event { CLOUD_EVENT } else { JSON }))
        .with_delivery_mode(PERSISTENT)
        .with_type(short(TYPE))
        .with_app_id(short(APP_ID))
        .with_message_id(short(&id))
        .with_correlation_id(short(correlation))
        .with_timestamp(u64::try_from(reply.completed_at.as_second()).unwrap_or(0));
    Ok(Outgoing { queue: queue_name(queue), properties, headers, body: Bytes::from(body) })
}

/// Queue names are checked on the way in; one that is too long after all is not cut into another queue's name.
fn queue_name(queue: &str) -> ShortString {
    ShortString::try_new(queue).unwrap_or_default()
}

fn is_cloud_event(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(CLOUD_EVENT))
}

/// 128 bits, in hexadecimal, over the request and what it came to. A link that was `created` and is `reused` when the
/// request comes again is the same answer.
fn message_id(envelope: &Envelope, reply: &Reply) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut part = |mark: u8, bytes: &[u8]| {
        hash.update(&[mark]);
        hash.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    let request = &envelope.properties;
    part(b'm', request.message_id.as_deref().unwrap_or_default().as_bytes());
    part(b'c', request.correlation_id.as_deref().unwrap_or_default().as_bytes());
    part(b'b', &envelope.body);
    // Made up where the request has none at all: two such requests of the same words are two.
    part(b'i', reply.id.as_bytes());
    match &reply.result {
        Ok((_, link)) => part(b'l', link.id.as_bytes()),
        Err(failure) => part(b'f', failure.kind.as_str().as_bytes()),
    }
    let digest = hash.finish();
    let (first, _) = digest.as_ref().split_at_checked(16).unwrap_or_default();
    first
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::headers::text;
    use crate::model::{ErrorKind, Failure, Granted, Made, Object, Properties, Trace, Travel};
    use proptest::prelude::*;

    fn routes(allow: &[&str]) -> Routes {
        Routes {
            allow: allow.iter().map(|pattern| (*pattern).to_owned()).collect(),
            request_queue: "requests".to_owned(),
            dead_letter_queue: "dead".to_owned(),
            reply_queue: "replies".to_owned(),
            delay_prefix: "requests.delay.".to_owned(),
        }
    }

    fn request(properties: Properties) -> Envelope {
        Envelope { body: Bytes::from_static(b"{\"id\":\"a\"}"), properties, travel: Travel::default() }
    }

    fn reply(result: Result<(Made, Granted), Failure>) -> Reply {
        Reply {
            id: "a".to_owned(),
            provider: Some("contoso".to_owned()),
            item: None,
            result,
            warnings: Vec::new(),
            attempts: 1,
            elapsed_ms: 12,
            completed_at: "2026-11-22T10:00:00Z".parse().unwrap(),
        }
    }

    fn linked(made: Made, id: &str) -> Reply {
        let link = Granted { id: id.to_owned(), url: "https://x/y".to_owned(), html: None, granted: Object::default() };
        reply(Ok((made, link)))
    }

    fn failed(kind: ErrorKind) -> Reply {
        reply(Err(Failure::new(kind, "no")))
    }

    fn asking(queue: &str) -> Envelope {
        request(Properties { reply_to: Some(queue.to_owned()), ..Properties::default() })
    }

    fn sent(envelope: &Envelope, reply: &Reply, to: To<'_>) -> Outgoing {
        compose(&routes(&["*"]), envelope, reply, to).unwrap()
    }

    #[test]
    fn the_workers_own_queues_are_never_answered_to() {
        for queue in ["requests", "dead", "requests.delay.30s", "requests.delay.anything", ""] {
            assert_eq!(routes(&["*"]).asked(&asking(queue)), None, "{queue}");
        }
        assert_eq!(routes(&["*"]).asked(&asking("requests.of.mine")), Some("requests.of.mine"));
    }

    #[test]
    fn only_queues_that_a_pattern_covers_are_answered_to() {
        let routes = routes(&["team-?.replies", "amq.rabbitmq.reply-to.*"]);
        for queue in ["team-a.replies", "amq.rabbitmq.reply-to.g1h2"] {
            assert_eq!(routes.asked(&asking(queue)), Some(queue));
        }
        for queue in ["team-ab.replies", "team-a.replies.x", "other"] {
            assert_eq!(routes.asked(&asking(queue)), None, "{queue}");
        }
    }

    #[test]
    fn a_glob_covers_the_whole_text_or_nothing() {
        for (pattern, text) in [("*", ""), ("**", "x"), ("a*c", "abbc"), ("a*b*c", "aXbbYc"), ("?", "ß"), ("", "")] {
            assert!(matches(pattern, text), "{pattern} should cover {text}");
        }
        for (pattern, text) in [("", "a"), ("?", ""), ("a*c", "acb"), ("a?c", "ac"), ("a", "ab"), ("*a", "ab")] {
            assert!(!matches(pattern, text), "{pattern} should not cover {text}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_wildcards_covers_only_itself(pattern in "[a-c.]{0,6}", text in "[a-c.]{0,6}") {
            prop_assert_eq!(matches(&pattern, &text), pattern == text);
        }

        #[test]
        fn stars_around_a_part_find_it_anywhere(before in ".{0,5}", part in "[a-z]{1,4}", after in ".{0,5}") {
            let text = format!("{before}{part}{after}");
            let pattern = format!("*{part}*");
            prop_assert!(matches(&pattern, &text));
        }
    }

    #[test]
    fn a_reply_carries_the_properties_of_the_contract() {
        let envelope = request(Properties {
            message_id: Some("m-1".to_owned()),
            correlation_id: Some("c-1".to_owned()),
            reply_to: Some("mine".to_owned()),
            trace: Trace { parent: Some("00-ab".to_owned()), state: Some("v=1".to_owned()) },
            ..Properties::default()
        });
        let out = sent(&envelope, &linked(Made::Created, "L"), To::Asked("mine"));
        let properties = &out.properties;
        assert_eq!(out.queue.as_str(), "mine");
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "sharelink.reply.v1");
        assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "sharelink");
        assert_eq!(properties.correlation_id().as_ref().unwrap().as_str(), "c-1");
        assert_eq!(*properties.timestamp(), Some(1_795_341_600));
        let headers = out.headers.into_table();
        assert_eq!(text(&headers, "sharelink-status").as_deref(), Some("created"));
        assert_eq!(text(&headers, "traceparent").as_deref(), Some("00-ab"));
        assert_eq!(text(&headers, "tracestate").as_deref(), Some("v=1"));
        assert_eq!(text(&headers, "sharelink-reply-to"), None);
        let body: serde_json::Value = serde_json::from_slice(&out.body).unwrap();
        assert_eq!(body["status"], "created");
    }

    #[test]
    fn the_correlation_is_the_requests_own_else_its_message_id_else_the_id() {
        let with = |correlation_id: Option<&str>, message_id: Option<&str>| {
            let envelope = request(Properties {
                correlation_id: correlation_id.map(str::to_owned),
                message_id: message_id.map(str::to_owned),
                ..Properties::default()
            });
            let out = sent(&envelope, &failed(ErrorKind::NotFound), To::Configured);
            out.properties.correlation_id().as_ref().unwrap().as_str().to_owned()
        };
        assert_eq!(with(Some("c"), Some("m")), "c");
        assert_eq!(with(None, Some("m")), "m");
        assert_eq!(with(None, None), "a");
        assert_eq!(with(Some(&"ß".repeat(200)), None), "ß".repeat(127));
    }

    #[test]
    fn a_link_that_is_reused_the_second_time_has_the_message_id_of_the_first() {
        let envelope = asking("mine");
        let id = |envelope: &Envelope, reply: &Reply| message_id(envelope, reply);
        let first = id(&envelope, &linked(Made::Created, "L"));
        assert_eq!(first.len(), 32);
        assert_eq!(first, id(&envelope, &linked(Made::Reused, "L")));
        assert_ne!(first, id(&envelope, &linked(Made::Created, "other")));
        assert_ne!(first, id(&envelope, &failed(ErrorKind::NotFound)));
        assert_ne!(id(&envelope, &failed(ErrorKind::Locked)), id(&envelope, &failed(ErrorKind::NotFound)));
        let another = request(Properties { message_id: Some("m".to_owned()), ..Properties::default() });
        assert_ne!(first, id(&another, &linked(Made::Created, "L")));
    }

    #[test]
    fn the_configured_queue_is_told_which_queue_was_asked_for() {
        let out = sent(&asking(&"q".repeat(300)), &failed(ErrorKind::NotFound), To::Configured);
        assert_eq!(out.queue.as_str(), "replies");
        assert_eq!(text(&out.headers.into_table(), "sharelink-reply-to"), Some("q".repeat(255)));
        let out = sent(&request(Properties::default()), &failed(ErrorKind::NotFound), To::Configured);
        assert_eq!(text(&out.headers.into_table(), "sharelink-reply-to"), None);
    }

    #[test]
    fn a_cloud_event_is_answered_with_a_cloud_event() {
        let envelope = request(Properties {
            content_type: Some("Application/CloudEvents+json; charset=utf-8".to_owned()),
            ..Properties::default()
        });
        let mut reply = linked(Made::Created, "L");
        reply.completed_at = "2026-11-22T10:00:00.123456789Z".parse().unwrap();
        let out = sent(&envelope, &reply, To::Configured);
        assert_eq!(out.properties.content_type().as_ref().unwrap().as_str(), CLOUD_EVENT);
        let event: serde_json::Value = serde_json::from_slice(&out.body).unwrap();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["id"], out.properties.message_id().as_ref().unwrap().as_str());
        assert_eq!(event["source"], "/sharelink");
        assert_eq!(event["type"], "sharelink.reply.v1");
        assert_eq!(event["time"], "2026-11-22T10:00:00.123Z");
        assert_eq!(event["datacontenttype"], "application/json");
        assert_eq!(event["subject"], "a");
        assert_eq!(event["data"], serde_json::to_value(&reply).unwrap());
    }
}
