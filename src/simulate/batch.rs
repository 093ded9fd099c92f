//! Graph's `$batch`: one call that carries up to twenty, each worked as if it had come alone. Pure.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::call::{Call, Credential};
use super::faults::Dice;
use super::world::{Outcome, Rules, World};

/// The most parts that Graph takes.
const MOST: usize = 20;

#[derive(Deserialize)]
struct Whole {
    requests: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    id: String,
    method: String,
    url: String,
    #[serde(default)]
    headers: Map<String, Value>,
    body: Option<Value>,
}

/// Works a batch below `/graph/{version}`. A part that is cut cuts the whole: its caller sees nothing of the others.
pub fn work(world: &mut World, version: &str, call: &Call, rules: Rules<'_>) -> Outcome {
    let parts = match read(&call.body) {
        Ok(parts) => parts,
        Err(message) => {
            let body = json!({"error": {"code": "BadRequest", "message": message}});
            return done(Answer::json(StatusCode::BAD_REQUEST, "application/json", &body), false, Duration::ZERO);
        }
    };
    let (mut responses, mut cut, mut delay) = (Vec::new(), false, Duration::ZERO);
    for part in parts {
        let headers = headers(&part.headers, &call.credential);
        let method = Method::from_bytes(part.method.as_bytes()).unwrap_or(Method::GET);
        let path = format!("/graph/{version}/{}", part.url.trim_start_matches('/'));
        let body = part.body.as_ref().map(Value::to_string).unwrap_or_default().into_bytes();
        let dice = Dice::roll(rules.options.seed, world.roll());
        let outcome = world.answer(&Call::read(method, &path, &headers, body), Rules { dice, ..rules });
        // The whole is refused where its caller is not known.
        if outcome.answer.status == StatusCode::UNAUTHORIZED && responses.is_empty() {
            return outcome;
        }
        cut |= outcome.cut;
        delay = delay.max(outcome.delay);
        let headers: Map<String, Value> =
            outcome.answer.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let body = serde_json::from_slice::<Value>(&outcome.answer.body).unwrap_or(Value::Null);
        responses
            .push(json!({"id": part.id, "status": outcome.answer.status.as_u16(), "headers": headers, "body": body}));
    }
    // Graph answers in any order.
    responses.reverse();
    done(Answer::json(StatusCode::OK, "application/json", &json!({"responses": responses})), cut, delay)
}

fn done(answer: Answer, cut: bool, delay: Duration) -> Outcome {
    Outcome { answer, cut, delay }
}

/// The parts, or what Graph has against them.
fn read(body: &[u8]) -> Result<Vec<Part>, String> {
    let whole: Whole =
        serde_json::from_slice(body).map_err(|error| format!("Invalid batch payload format: {error}"))?;
    if whole.requests.len() > MOST {
        return Err(format!("Number of batch request steps exceeds the maximum value of {MOST}"));
    }
    let mut ids: Vec<String> = whole.requests.iter().map(|part| part.id.to_lowercase()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() < whole.requests.len() {
        return Err("Every request should have a unique id".to_owned());
    }
    let untyped = |part: &&Part| {
        part.body.is_some() && !part.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"))
    };
    match whole.requests.iter().find(untyped) {
        Some(part) => Err(format!("Write request id : {} does not contain Content-Type header or body", part.id)),
        None => Ok(whole.requests),
    }
}

/// A part's own headers, and the credentials of the whole.
fn headers(own: &Map<String, Value>, credential: &Credential) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in own {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Some(Ok(value))) = (name, value.as_str().map(HeaderValue::from_str)) {
            headers.insert(name, value);
        }
    }
    if let Credential::Bearer(token) = credential
        && let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}"))
    {
        headers.insert(AUTHORIZATION, value);
    }
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_parts_ids_that_differ_in_case_only_and_bodies_without_a_type_are_refused() {
        let part = |id: &str| json!({"id": id, "method": "POST", "url": "/x", "headers": {"content-type": "application/json"}, "body": {}});
        let read_parts =
            |parts: Vec<Value>| read(json!({"requests": parts}).to_string().as_bytes()).map(|parts| parts.len());
        assert_eq!(read_parts((0..20).map(|id| part(&id.to_string())).collect()), Ok(20));
        assert!(read_parts((0..21).map(|id| part(&id.to_string())).collect()).unwrap_err().contains("maximum"));
        assert!(read_parts(vec![part("a"), part("A")]).unwrap_err().contains("unique"));
        let untyped = json!({"id": "7", "method": "POST", "url": "/x", "body": {}});
        assert!(read_parts(vec![untyped]).unwrap_err().contains('7'));
        assert!(read(b"[]").is_err());
    }
}
