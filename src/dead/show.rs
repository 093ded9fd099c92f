//! One letter in full, with its secrets masked; for a person, or as one JSON object.

use std::fmt::Write;

use serde_json::{Value, json};

use super::list::{members, time};
use super::mask;
use super::summary::Summary;
use super::words::{line, lines};
use crate::broker::letter::Letter;
use crate::pipeline::strict_json;

/// A letter with nothing secret in it.
pub struct Shown {
    summary: Summary,
    letter: Letter,
    body: Body,
}

/// A body as far as it can be read.
enum Body {
    Json(Value),
    /// Not JSON, or JSON in which a member stands twice: shown as it is.
    Text(String),
}

impl Shown {
    /// Masks a letter.
    pub fn new(mut letter: Letter) -> Self {
        let summary = Summary::of(&letter);
        mask::object(&mut letter.properties);
        if let Some(Value::String(reply)) = letter.headers.get_mut("sharelink-reply")
            && let Ok(read) = serde_json::from_str(reply)
        {
            letter.headers.insert("sharelink-reply".to_owned(), read);
        }
        mask::object(&mut letter.headers);
        let body = match strict_json::parse(&letter.body) {
            Ok(mut value) => {
                mask::value(&mut value);
                Body::Json(value)
            }
            Err(_) => Body::Text(mask::text(&String::from_utf8_lossy(&letter.body))),
        };
        Self { summary, letter, body }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Summary { id, reason, error, first_seen, provider, attempts, worker, .. } = &self.summary;
        let mut out = String::new();
        let mut row = |name: &str, text: &str| {
            if !text.is_empty() {
                let _ = writeln!(out, "{name:<11} {}", line(text));
            }
        };
        row("id", id);
        row("reason", reason);
        row("error", error);
        row("first seen", &time(*first_seen));
        row("provider", provider.as_deref().unwrap_or_default());
        row("attempts", &attempts.to_string());
        row("worker", worker.as_deref().unwrap_or_default());
        for (title, object) in [("properties", &self.letter.properties), ("headers", &self.letter.headers)] {
            let _ = writeln!(out, "\n{title}");
            for (name, value) in object {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let _ = writeln!(out, "  {}: {}", line(name), line(&text));
            }
        }
        let _ = writeln!(out, "\nbody, {} bytes", self.letter.body.len());
        let body = match &self.body {
            Body::Json(value) => format!("{value:#}"),
            Body::Text(text) => lines(text),
        };
        let _ = writeln!(out, "{}", lines(&body));
        out
    }

    /// As one JSON object on one line.
    pub fn json(&self) -> String {
        let mut object = members(&self.summary);
        if let Value::Object(members) = &mut object {
            members.insert("properties".to_owned(), Value::Object(self.letter.properties.clone()));
            members.insert("headers".to_owned(), Value::Object(self.letter.headers.clone()));
            members.insert("bodyBytes".to_owned(), self.letter.body.len().into());
            let body = match &self.body {
                Body::Json(value) => value.clone(),
                Body::Text(text) => json!(text),
            };
            members.insert("body".to_owned(), body);
        }
        format!("{object}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead::summary::tests::letter;

    fn shown(body: &str) -> Shown {
        let reply = json!({"link": {"granted": {"password": "hunter2"}}}).to_string();
        Shown::new(letter(
            json!({"correlation_id": "c"}),
            json!({"sharelink-reason": "malformed", "authorization": "hunter2", "sharelink-reply": reply}),
            body,
        ))
    }

    #[test]
    fn a_letter_is_shown_with_everything_in_it_but_its_secrets() {
        let text = shown(r#"{"id": "a", "link": {"password": "hunter2", "type": "view"}}"#).text();
        for part in ["id          a\n", "malformed", "correlation_id: c", "authorization: ***", "\"type\": \"view\""] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn as_json_it_is_one_object_on_one_line() {
        let text = shown(r#"{"id": "a", "link": {"password": "hunter2"}}"#).json();
        assert_eq!(text.lines().count(), 1);
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["body"], json!({"id": "a", "link": {"password": "***"}}));
        assert_eq!(object["headers"]["sharelink-reply"]["link"]["granted"]["password"], "***");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_member_that_stands_twice_is_seen_twice() {
        let text = shown(r#"{"id": "a", "id": "b", "password": "hunter2"}"#).text();
        assert!(text.contains(r#"{"id": "a", "id": "b", "password": "***"}"#), "{text}");
    }

    #[test]
    fn a_body_that_is_not_text_does_not_reach_the_terminal_as_it_is() {
        let text = shown("\u{1b}]0;x\u{7}").text();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }
}
