//! Stage 1, pure: from a delivery's bytes and properties to a share request, or to a refusal that names the member.

use jiff::Timestamp;
use serde_json::Value;

use super::strict_json::{self, quoted};
use crate::model::time::rfc3339;
use crate::model::{Envelope, Failure, Object, Properties, ShareRequest};

/// Content type of a structured CloudEvent.
pub const CLOUD_EVENT: &str = "application/cloudevents+json";

/// Longest `id`, in characters.
const MAX_ID_CHARS: usize = 200;

/// Longest AMQP short string, in bytes.
const MAX_SHORT_STRING: usize = 255;

/// The members of a request; any other is refused by name.
const MEMBERS: [&str; 7] = ["id", "provider", "item", "link", "deadline", "replyTo", "correlationId"];

/// A request that could be read.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    /// The request.
    pub request: ShareRequest,
    /// `replyTo` of the body; the AMQP property wins over it.
    pub reply_to: Option<String>,
    /// `correlationId` of the body; the AMQP property wins over it.
    pub correlation_id: Option<String>,
}

/// A request that could not be read, with whatever of it a reply can use.
#[derive(Debug, PartialEq)]
pub struct Undecodable {
    /// `invalidRequest`, naming the member.
    pub failure: Failure,
    /// The request's id, as far as it could be found.
    pub id: String,
    /// The provider it names.
    pub provider: Option<String>,
    /// The item it names.
    pub item: Option<Object>,
    /// Where the reply is wanted, if only the body says so.
    pub reply_to: Option<String>,
    /// What the reply is to be matched by, if only the body says so.
    pub correlation_id: Option<String>,
}

/// Whether a content type means a structured CloudEvent; parameters and case do not matter.
pub fn is_cloud_event(content_type: Option<&str>) -> bool {
    content_type
        .and_then(|full| full.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(CLOUD_EVENT))
}

/// Reads a request. `fresh_id` is only used where neither body nor properties have an id.
///
/// # Errors
/// [`Undecodable`] for anything but a JSON object of the contract's shape of at most `max_bytes` bytes.
pub fn decode(
    envelope: &Envelope,
    max_bytes: usize,
    fresh_id: impl FnOnce() -> String,
) -> Result<Decoded, Box<Undecodable>> {
    let properties = &envelope.properties;
    let mut object = match read_object(envelope, max_bytes) {
        Ok(object) => object,
        Err(failure) => return Err(Box::new(undecodable(failure, &Object::new(), properties, fresh_id))),
    };
    let (event_id, unwrapped) = unwrap_event(&mut object, properties);
    let fresh_id = move || event_id.unwrap_or_else(fresh_id);
    if let Err(failure) = unwrapped {
        // There is no request; of the event only what brings the reply to its asker.
        object.retain(|name, _| matches!(name.as_str(), "replyTo" | "correlationId"));
        return Err(Box::new(undecodable(failure, &object, properties, fresh_id)));
    }
    match read_members(&mut object) {
        Ok(members) => Ok(Decoded {
            request: ShareRequest {
                id: members.id.unwrap_or_else(|| fallback_id(properties, fresh_id)),
                provider: members.provider,
                item: members.item,
                link: members.link,
                deadline: members.deadline,
            },
            reply_to: members.reply_to,
            correlation_id: members.correlation_id,
        }),
        Err(failure) => Err(Box::new(undecodable(failure, &object, properties, fresh_id))),
    }
}

fn read_object(envelope: &Envelope, max_bytes: usize) -> Result<Object, Failure> {
    let body = &envelope.body;
    if body.len() > max_bytes {
        return Err(Failure::invalid(format!(
            "the message has {} bytes; at most {max_bytes} are taken (broker.max_request_bytes)",
            body.len()
        )));
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::invalid("the message is empty; send a JSON object with \"item\" and \"link\""));
    }
    // Some tools on Windows put it there; JSON readers may ignore it (RFC 8259, 8.1).
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    match strict_json::parse(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Failure::invalid(format!("the message is {}, not a JSON object", kind_of(&other)))),
        Err(error) => Err(Failure::invalid(format!("the message cannot be read as JSON: {error}"))),
    }
}

/// Puts the request of a structured CloudEvent in the event's place; tells the event's id, where it has a valid one,
/// whether that succeeded or not.
fn unwrap_event(object: &mut Object, properties: &Properties) -> (Option<String>, Result<(), Failure>) {
    if !is_cloud_event(properties.content_type.as_deref()) {
        return (None, Ok(()));
    }
    // It becomes the request's id, and so has its bounds.
    let event_id = match id(object) {
        Ok(event_id) => event_id,
        Err(failure) => return (None, Err(failure)),
    };
    let unwrapped = match object.remove("data") {
        Some(Value::Object(data)) => {
            *object = data;
            Ok(())
        }
        Some(other) => {
            Err(Failure::invalid(format!("data is {}; in a CloudEvent it must be the request object", kind_of(&other))))
        }
        None => Err(Failure::invalid("data is missing; in a CloudEvent it must be the request object")),
    };
    (event_id, unwrapped)
}

struct Members {
    id: Option<String>,
    provider: Option<String>,
    item: Object,
    link: Object,
    deadline: Option<Timestamp>,
    reply_to: Option<String>,
    correlation_id: Option<String>,
}

/// Takes the members out; where one of them is wrong, nothing is taken.
fn read_members(object: &mut Object) -> Result<Members, Failure> {
    if let Some(unknown) = object.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(Failure::invalid(format!(
            "{} is not a member of a request; its members are {}",
            quoted(unknown),
            MEMBERS.join(", ")
        )));
    }
    let id = id(object)?;
    let provider = text(object, "provider", MAX_SHORT_STRING)?;
    object_member(object, "item")?;
    object_member(object, "link")?;
    let deadline = deadline(object)?;
    let reply_to = text(object, "replyTo", MAX_SHORT_STRING)?;
    let correlation_id = text(object, "correlationId", MAX_SHORT_STRING)?;
    let mut take = |name: &str| match object.remove(name) {
        Some(Value::Object(member)) => member,
        _ => Object::new(),
    };
    Ok(Members { id, provider, item: take("item"), link: take("link"), deadline, reply_to, correlation_id })
}

fn id(object: &Object) -> Result<Option<String>, Failure> {
    match object.get("id") {
        None => Ok(None),
        Some(Value::String(id)) if !id.is_empty() && id.chars().count() <= MAX_ID_CHARS => Ok(Some(id.clone())),
        Some(Value::String(_)) => Err(Failure::invalid(format!("id must have 1 to {MAX_ID_CHARS} characters"))),
        Some(other) => Err(Failure::invalid(format!(
            "id is {}; it must be a string of 1 to {MAX_ID_CHARS} characters",
            kind_of(other)
        ))),
    }
}

fn text(object: &Object, name: &str, max_bytes: usize) -> Result<Option<String>, Failure> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= max_bytes => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err(Failure::invalid(format!("{name} must have 1 to {max_bytes} bytes"))),
        Some(other) => Err(Failure::invalid(format!("{name} is {}; it must be a string", kind_of(other)))),
    }
}

fn object_member<'a>(object: &'a Object, name: &str) -> Result<&'a Object, Failure> {
    match object.get(name) {
        Some(Value::Object(member)) => Ok(member),
        Some(other) => Err(Failure::invalid(format!("{name} is {}; it must be an object", kind_of(other)))),
        None => Err(Failure::invalid(format!("{name} is missing; it must be an object"))),
    }
}

fn deadline(object: &Object) -> Result<Option<Timestamp>, Failure> {
    let shape = "it must be an RFC 3339 time such as 2026-12-01T00:00:00Z";
    match object.get("deadline") {
        None => Ok(None),
        Some(Value::String(text)) => match rfc3339(text) {
            Some(time) => Ok(Some(time)),
            None => Err(Failure::invalid(format!("deadline cannot be read; {shape}"))),
        },
        Some(other) => Err(Failure::invalid(format!("deadline is {}; {shape}", kind_of(other)))),
    }
}

fn fallback_id(properties: &Properties, fresh_id: impl FnOnce() -> String) -> String {
    [&properties.message_id, &properties.correlation_id]
        .into_iter()
        .flatten()
        .find(|id| !id.is_empty())
        .cloned()
        .unwrap_or_else(fresh_id)
}

/// Saves of a malformed request whatever is well formed, so that its reply finds its way.
fn undecodable(
    failure: Failure,
    object: &Object,
    properties: &Properties,
    fresh_id: impl FnOnce() -> String,
) -> Undecodable {
    let own_id = id(object).ok().flatten();
    Undecodable {
        failure,
        id: own_id.unwrap_or_else(|| fallback_id(properties, fresh_id)),
        provider: text(object, "provider", MAX_SHORT_STRING).ok().flatten(),
        item: object_member(object, "item").ok().cloned(),
        reply_to: text(object, "replyTo", MAX_SHORT_STRING).ok().flatten(),
        correlation_id: text(object, "correlationId", MAX_SHORT_STRING).ok().flatten(),
    }
}

/// What a JSON value is, in words, without the value.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ErrorKind, Trace, Travel};
    use proptest::prelude::*;
    use serde_json::json;

    fn envelope(body: impl Into<Vec<u8>>, properties: Properties) -> Envelope {
        Envelope { body: body.into().into(), properties, travel: Travel::default() }
    }

    fn decode_json(body: Value) -> Result<Decoded, Box<Undecodable>> {
        decode(&envelope(body.to_string(), Properties::default()), 1 << 20, || "fresh".into())
    }

    fn refusal(body: Value) -> String {
        let refused = decode_json(body).unwrap_err();
        assert_eq!(refused.failure.kind, ErrorKind::InvalidRequest);
        refused.failure.message
    }

    #[test]
    fn the_contracts_example_is_read_member_by_member() {
        let decoded = decode_json(json!({
            "id": "order-42/contract.pdf", "provider": "contoso",
            "item": { "driveId": "b!abc", "itemId": "01ABCDEF" },
            "link": { "type": "view", "scope": "organization", "expirationDateTime": "2027-01-31T00:00:00Z" },
            "deadline": "2026-12-01T00:00:00Z", "replyTo": "mine", "correlationId": "c-1"
        }))
        .unwrap();
        assert_eq!(decoded.request.id, "order-42/contract.pdf");
        assert_eq!(decoded.request.provider.as_deref(), Some("contoso"));
        assert_eq!(decoded.request.item.get("driveId"), Some(&json!("b!abc")));
        assert_eq!(decoded.request.link.len(), 3);
        assert_eq!(decoded.request.deadline, Some("2026-12-01T00:00:00Z".parse().unwrap()));
        assert_eq!(decoded.reply_to.as_deref(), Some("mine"));
        assert_eq!(decoded.correlation_id.as_deref(), Some("c-1"));
    }

    #[test]
    fn an_id_is_taken_from_the_body_then_message_id_then_correlation_id_then_made_up() {
        let body = json!({ "item": {}, "link": {} });
        let with = |message_id: Option<&str>, correlation_id: Option<&str>, body: &Value| {
            let properties = Properties {
                message_id: message_id.map(Into::into),
                correlation_id: correlation_id.map(Into::into),
                ..Properties::default()
            };
            decode(&envelope(body.to_string(), properties), 1 << 20, || "fresh".into()).unwrap().request.id
        };
        assert_eq!(with(Some("m"), Some("c"), &json!({ "id": "own", "item": {}, "link": {} })), "own");
        assert_eq!(with(Some("m"), Some("c"), &body), "m");
        assert_eq!(with(None, Some("c"), &body), "c");
        assert_eq!(with(None, None, &body), "fresh");
    }

    #[test]
    fn every_mistake_is_refused_with_the_name_of_its_member() {
        let link = json!({ "type": "view" });
        for (body, named) in [
            (json!({ "item": {}, "link": link, "expirationDateTime": "x" }), "\"expirationDateTime\" is not a member"),
            (json!({ "link": link }), "item is missing"),
            (json!({ "item": {} }), "link is missing"),
            (json!({ "item": [], "link": link }), "item is a list"),
            (json!({ "item": {}, "link": "view" }), "link is a string"),
            (json!({ "id": "", "item": {}, "link": link }), "id must have 1 to 200 characters"),
            (json!({ "id": "x".repeat(201), "item": {}, "link": link }), "id must have 1 to 200 characters"),
            (json!({ "id": 7, "item": {}, "link": link }), "id is a number"),
            (json!({ "provider": null, "item": {}, "link": link }), "provider is null"),
            (json!({ "deadline": "tomorrow", "item": {}, "link": link }), "deadline cannot be read"),
            (json!({ "deadline": 5, "item": {}, "link": link }), "deadline is a number"),
            (json!({ "replyTo": "", "item": {}, "link": link }), "replyTo must have 1 to 255 bytes"),
            (json!({ "correlationId": "c".repeat(256), "item": {}, "link": link }), "correlationId must have"),
            (json!([1]), "the message is a list"),
        ] {
            let message = refusal(body.clone());
            assert!(message.contains(named), "{body}: {message}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_mistake() {
        let body = [b"\xef\xbb\xbf".as_slice(), br#"{"item":{},"link":{}}"#].concat();
        assert!(decode(&envelope(body, Properties::default()), 100, || "fresh".into()).is_ok());
    }

    #[test]
    fn an_id_is_counted_in_characters_not_bytes() {
        assert!(decode_json(json!({ "id": "é".repeat(200), "item": {}, "link": {} })).is_ok());
    }

    #[test]
    fn what_is_no_json_or_too_large_or_empty_is_refused_in_plain_words() {
        for (body, words) in [
            (b"{\"item\"".to_vec(), "cannot be read as JSON"),
            (b"\xff\xfe".to_vec(), "cannot be read as JSON"),
            (b" \n".to_vec(), "the message is empty"),
            (vec![b' '; 101], "at most 100"),
        ] {
            let refused = decode(&envelope(body, Properties::default()), 100, || "fresh".into()).unwrap_err();
            assert!(refused.failure.message.contains(words), "{}", refused.failure.message);
        }
    }

    #[test]
    fn a_malformed_request_keeps_what_its_reply_needs() {
        let refused = decode_json(json!({
            "id": "r1", "provider": "contoso", "item": { "itemId": "1" }, "link": 3, "replyTo": "mine", "correlationId": "c"
        }))
        .unwrap_err();
        assert_eq!(refused.id, "r1");
        assert_eq!(refused.provider.as_deref(), Some("contoso"));
        assert_eq!(refused.item.and_then(|item| item.get("itemId").cloned()), Some(json!("1")));
        assert_eq!(refused.reply_to.as_deref(), Some("mine"));
        assert_eq!(refused.correlation_id.as_deref(), Some("c"));
    }

    #[test]
    fn an_event_without_a_request_is_answered_under_its_id_where_it_asks_to_be() {
        let refused = |event: Value, message_id: Option<&str>| {
            let properties = Properties {
                content_type: Some(CLOUD_EVENT.into()),
                message_id: message_id.map(Into::into),
                ..Properties::default()
            };
            decode(&envelope(event.to_string(), properties), 1 << 20, || "fresh".into()).unwrap_err()
        };
        for data in [json!("text"), json!([{}]), json!(7), Value::Null] {
            let event = json!({"id": "e-1", "replyTo": "mine", "correlationId": "c-1", "provider": "p", "data": data});
            let told = refused(event.clone(), None);
            assert!(told.failure.message.starts_with("data is "), "{}", told.failure.message);
            assert_eq!(told.id, "e-1");
            assert_eq!((told.reply_to.as_deref(), told.correlation_id.as_deref()), (Some("mine"), Some("c-1")));
            assert_eq!((told.provider, told.item), (None, None));
            // As with a request: the event's id is the last resort.
            assert_eq!(refused(event, Some("m-1")).id, "m-1");
        }
        assert_eq!(refused(json!({"id": "e-1"}), None).id, "e-1");
        let told = refused(json!({"id": "", "replyTo": 7, "correlationId": "", "data": 1}), None);
        assert_eq!((told.id.as_str(), told.reply_to, told.correlation_id), ("fresh", None, None));
    }

    #[test]
    fn a_structured_cloud_event_carries_the_request_in_data() {
        let event_properties = || Properties {
            content_type: Some("Application/CloudEvents+JSON; charset=utf-8".into()),
            trace: Trace::default(),
            ..Properties::default()
        };
        let properties = event_properties();
        let event = json!({ "specversion": "1.0", "id": "e-1", "source": "/n8n", "type": "share", "data": { "item": {}, "link": {} } });
        let decoded = decode(&envelope(event.to_string(), properties.clone()), 1 << 20, || "fresh".into()).unwrap();
        assert_eq!(decoded.request.id, "e-1");
        let empty = json!({ "specversion": "1.0", "id": "e-1", "source": "/n8n", "type": "share" });
        let refused = decode(&envelope(empty.to_string(), properties), 1 << 20, || "fresh".into()).unwrap_err();
        assert!(refused.failure.message.contains("data is missing"));
        for id in [json!("e".repeat(201)), json!(""), json!(7)] {
            let event = json!({ "specversion": "1.0", "id": id, "data": { "item": {}, "link": {} } });
            let refused =
                decode(&envelope(event.to_string(), event_properties()), 1 << 20, || "fresh".into()).unwrap_err();
            assert!(refused.failure.message.contains("1 to 200 characters"), "{}", refused.failure.message);
            assert_eq!(refused.id, "fresh");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300), event in any::<bool>()) {
            let content_type = event.then(|| CLOUD_EVENT.to_owned());
            let _ = decode(&envelope(body, Properties { content_type, ..Properties::default() }), 200, || "fresh".into());
        }

        #[test]
        fn an_unknown_member_is_always_refused(name in "[a-zA-Z]{1,12}") {
            prop_assume!(!MEMBERS.contains(&name.as_str()));
            let refused = decode_json(json!({ "item": {}, "link": {}, name.clone(): 1 })).unwrap_err();
            prop_assert!(refused.failure.message.contains(&name));
        }
    }
}
