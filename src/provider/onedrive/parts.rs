//! pure: Graph's `$batch`: several calls in one body, and their answers out of one body.
//!
//! Parts are matched by their ids, in whatever order they come back. A part without an answer has none: what became of
//! it is not known.

use bytes::Bytes;
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::provider::http::Answer;

/// The most parts that Graph takes in one call.
pub const MOST: usize = 20;

#[derive(Serialize)]
struct Sent<'a> {
    requests: Vec<Request<'a>>,
}

#[derive(Serialize)]
struct Request<'a> {
    id: String,
    method: &'static str,
    url: &'a str,
    headers: Headers,
    body: &'a RawValue,
}

/// Needed wherever there is a body.
#[derive(Serialize)]
struct Headers {
    #[serde(rename = "Content-Type")]
    content_type: &'static str,
}

/// The body that carries these POSTs: each a path below the API's root, and a JSON body. `None` where a body is no JSON.
pub fn body<'a>(posts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Option<Bytes> {
    let request = |(index, (url, body)): (usize, (&'a str, &'a [u8]))| {
        let body = serde_json::from_slice::<&RawValue>(body).ok()?;
        let headers = Headers { content_type: "application/json" };
        Some(Request { id: (index + 1).to_string(), method: "POST", url, headers, body })
    };
    let requests = posts.into_iter().enumerate().map(request).collect::<Option<Vec<_>>>()?;
    serde_json::to_vec(&Sent { requests }).ok().map(Bytes::from)
}

#[derive(Deserialize)]
struct Received {
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    id: Value,
    status: u16,
    #[serde(default)]
    headers: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
}

/// The answers of so many parts, in the order in which they were sent. `None` where the whole cannot be read.
pub fn answers(whole: &Answer, count: usize) -> Option<Vec<Option<Answer>>> {
    let received: Received = serde_json::from_slice(&whole.body).ok()?;
    let mut answers: Vec<Option<Answer>> = (0..count).map(|_| None).collect();
    for response in received.responses {
        let id = match &response.id {
            Value::String(id) => id.parse::<usize>().ok(),
            Value::Number(id) => id.as_u64().and_then(|id| usize::try_from(id).ok()),
            _ => None,
        };
        let place = id.and_then(|id| id.checked_sub(1)).and_then(|index| answers.get_mut(index));
        if let Some(place @ None) = place {
            *place = Some(answer(whole, response));
        }
    }
    Some(answers)
}

fn answer(whole: &Answer, part: Response) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in part.headers.unwrap_or_default() {
        let name = HeaderName::from_bytes(name.as_bytes());
        let text = value.as_str().map(str::to_owned).or_else(|| value.as_number().map(ToString::to_string));
        let value = text.and_then(|text| HeaderValue::from_str(&text).ok());
        if let (Ok(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    // Waits that are given as a time are measured by the provider's own clock.
    if let (false, Some(date)) = (headers.contains_key(DATE), whole.headers.get(DATE)) {
        headers.insert(DATE, date.clone());
    }
    let body = part.body.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body.get().as_bytes()));
    Answer { status: part.status, headers, body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(body: &str) -> Answer {
        Answer { status: 200, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn parts_travel_with_an_id_a_content_type_and_their_own_body() {
        let sent = body([("/me/drive/items/1/createLink", &br#"{"type":"view"}"#[..]), ("/x", b"{}")]).unwrap();
        let expected = serde_json::json!({"requests": [
            {"id": "1", "method": "POST", "url": "/me/drive/items/1/createLink", "headers": {"Content-Type": "application/json"}, "body": {"type": "view"}},
            {"id": "2", "method": "POST", "url": "/x", "headers": {"Content-Type": "application/json"}, "body": {}},
        ]});
        assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), expected);
        assert_eq!(body([("/x", &b"{"[..])]), None);
    }

    #[test]
    fn answers_are_matched_by_id_in_any_order_and_one_may_be_missing() {
        let whole = whole(
            r#"{"responses":[{"id":"3","status":429,"headers":{"Retry-After":"12"},"body":{"error":{}}},
                             {"id":1,"status":201,"body":{"id":"p"}},{"id":"9","status":201},{"id":"1","status":500}]}"#,
        );
        let answers = answers(&whole, 3).unwrap();
        let statuses: Vec<_> = answers.iter().map(|answer| answer.as_ref().map(|answer| answer.status)).collect();
        assert_eq!(statuses, [Some(201), None, Some(429)]);
        let throttled = answers[2].as_ref().unwrap();
        assert_eq!(throttled.retry_after(), Some(std::time::Duration::from_secs(12)));
        assert_eq!(answers[0].as_ref().unwrap().json(), Some(serde_json::json!({"id": "p"})));
    }

    #[test]
    fn the_documented_batch_is_read() {
        let folder = format!("{}/tests/fixtures/microsoft", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        let recorded =
            files.filter_map(|path| std::fs::read_to_string(path).ok()).filter(|text| text.contains("\"responses\""));
        let read = recorded.map(|text| answers(&whole(&text), MOST)).collect::<Vec<_>>();
        assert!(read.iter().all(Option::is_some));
        assert!(!read.is_empty());
    }

    proptest! {
        #[test]
        fn no_answer_is_a_panic(body in ".{0,200}", count in 0usize..25) {
            if let Some(answers) = answers(&whole(&body), count) {
                prop_assert_eq!(answers.len(), count);
            }
        }
    }
}
