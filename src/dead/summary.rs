//! What a dead letter says of itself: whose it is, why it is dead, since when.
//!
//! Total: a letter that somebody else put there, or the broker, is read as far as it goes.

use jiff::Timestamp;
use serde_json::Value;

use crate::broker::letter::Letter;
use crate::model::Object;

/// The reason of a letter that names none.
const UNKNOWN: &str = "unknown";

/// A letter in short.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The request's id: its own, else the message's, else the correlation id; empty where it has none.
    pub id: String,
    /// Everything the letter may be called by: the three above, as far as they are there.
    pub names: Vec<String>,
    /// Why it is dead: the worker's word, else the broker's (`delivery_limit`, `rejected`, `expired`, `maxlen`).
    pub reason: String,
    /// The sentence for a person.
    pub error: String,
    /// When the request was first seen; for a letter of the broker's, when it became one.
    pub first_seen: Option<Timestamp>,
    /// The account the request names; `None` where it names none that can be read.
    pub provider: Option<String>,
    /// The kind of failure of the reply that could not be delivered, where there is one.
    pub kind: Option<String>,
    /// Attempts made at the provider.
    pub attempts: u64,
    /// Who buried it.
    pub worker: Option<String>,
}

impl Summary {
    /// Reads a letter.
    pub fn of(letter: &Letter) -> Self {
        let body: Value = serde_json::from_slice(&letter.body).unwrap_or_default();
        // A CloudEvent carries the request in `data`.
        let request = body.get("data").filter(|_| body.get("specversion").is_some()).unwrap_or(&body);
        let reply: Value = word(&letter.headers, "sharelink-reply")
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let own = |member: &str| request.get(member).and_then(Value::as_str);
        let names: Vec<String> =
            [own("id"), word(&letter.properties, "message_id"), word(&letter.properties, "correlation_id")]
                .into_iter()
                .flatten()
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect();
        let death = Death::of(&letter.headers);
        let reason = word(&letter.headers, "sharelink-reason").or(death.reason);
        let error = word(&letter.headers, "sharelink-error").map(str::to_owned);
        let time = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        Self {
            id: names.first().cloned().unwrap_or_default(),
            names,
            reason: reason.unwrap_or(UNKNOWN).to_owned(),
            error: error.unwrap_or_else(|| death.sentence()),
            first_seen: time(word(&letter.headers, "sharelink-first-seen"))
                .or_else(|| time(death.time))
                .or_else(|| time(word(&letter.properties, "timestamp"))),
            provider: own("provider").or_else(|| reply["provider"].as_str()).map(str::to_owned),
            kind: reply["error"]["kind"].as_str().map(str::to_owned),
            attempts: letter.headers.get("sharelink-attempts").and_then(Value::as_u64).unwrap_or(0),
            worker: word(&letter.headers, "sharelink-worker").map(str::to_owned),
        }
    }

    /// The order in which letters are shown: oldest first, those without a time last.
    pub fn rank(&self) -> (bool, Option<Timestamp>, &str) {
        (self.first_seen.is_none(), self.first_seen, &self.id)
    }
}

fn word<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

/// The newest entry of the broker's own history of dead lettering.
#[derive(Default)]
struct Death<'a> {
    reason: Option<&'a str>,
    queue: Option<&'a str>,
    time: Option<&'a str>,
}

impl<'a> Death<'a> {
    fn of(headers: &'a Object) -> Self {
        let newest = headers.get("x-death").and_then(|deaths| deaths.get(0)).and_then(Value::as_object);
        newest.map_or_else(Self::default, |newest| Self {
            reason: word(newest, "reason"),
            queue: word(newest, "queue"),
            time: word(newest, "time"),
        })
    }

    fn sentence(&self) -> String {
        let Some(reason) = self.reason else {
            return "nothing says why it is here; no sharelink worker put it there".to_owned();
        };
        let queue = self.queue.unwrap_or_default();
        match reason {
            "delivery_limit" => format!(
                "the broker took it out of {queue:?} because it was handed out too often without an answer; nobody was answered"
            ),
            "rejected" => format!("a consumer of {queue:?} rejected it"),
            "expired" => format!("its time in {queue:?} was over"),
            "maxlen" => format!("{queue:?} was full"),
            other => format!("the broker took it out of {queue:?}: {other}"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::dead) fn letter(properties: Value, headers: Value, body: &str) -> Letter {
        let object = |value: Value| value.as_object().cloned().unwrap();
        Letter { properties: object(properties), headers: object(headers), body: body.to_owned().into() }
    }

    #[test]
    fn a_letter_of_the_worker_says_what_its_headers_say() {
        let reply = json!({"provider": "contoso", "error": {"kind": "notFound"}}).to_string();
        let letter = letter(
            json!({"message_id": "m", "correlation_id": "c"}),
            json!({
                "sharelink-reason": "unroutable", "sharelink-error": "no queue", "sharelink-attempts": 3,
                "sharelink-first-seen": "2026-11-22T10:00:00Z", "sharelink-worker": "w:1", "sharelink-reply": reply,
                "x-death": [{"reason": "expired", "queue": "q.delay.1s"}],
            }),
            r#"{"id": "a"}"#,
        );
        let summary = Summary::of(&letter);
        assert_eq!(summary.id, "a");
        assert_eq!(summary.names, ["a", "m", "c"]);
        assert_eq!((summary.reason.as_str(), summary.error.as_str()), ("unroutable", "no queue"));
        assert_eq!(summary.first_seen, "2026-11-22T10:00:00Z".parse().ok());
        assert_eq!(summary.provider.as_deref(), Some("contoso"));
        assert_eq!(summary.kind.as_deref(), Some("notFound"));
        assert_eq!((summary.attempts, summary.worker.as_deref()), (3, Some("w:1")));
    }

    #[test]
    fn a_letter_of_the_broker_is_told_by_its_newest_death() {
        let letter = letter(
            json!({"message_id": "m"}),
            json!({"x-death": [
                {"reason": "delivery_limit", "queue": "requests", "time": "2026-11-22T10:00:00Z"},
                {"reason": "expired", "queue": "requests.delay.1s", "time": "2026-11-21T10:00:00Z"},
            ]}),
            r#"{"specversion": "1.0", "data": {"id": "b", "provider": "content"}}"#,
        );
        let summary = Summary::of(&letter);
        assert_eq!((summary.id.as_str(), summary.reason.as_str()), ("b", "delivery_limit"));
        assert!(summary.error.contains("\"requests\""), "{}", summary.error);
        assert_eq!(summary.first_seen, "2026-11-22T10:00:00Z".parse().ok());
        assert_eq!(summary.provider.as_deref(), Some("content"));
    }

    #[test]
    fn a_letter_that_says_nothing_is_read_too_and_comes_last() {
        let nothing = Summary::of(&letter(json!({}), json!({"x-death": "?", "sharelink-attempts": -1}), "\u{0}"));
        assert_eq!((nothing.id.as_str(), nothing.reason.as_str(), nothing.first_seen), ("", "unknown", None));
        let dated = Summary { first_seen: Some(Timestamp::MAX), ..nothing.clone() };
        assert!(dated.rank() < nothing.rank());
    }
}
