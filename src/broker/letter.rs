//! A dead letter as plain data: properties, headers and body, with nothing of the client library's in it.
//!
//! Total: whatever types a header has, it comes out as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::model::Object;

/// One message of the dead-letter queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// The AMQP properties that are set, by their AMQP names, without the headers.
    pub properties: Object,
    /// The headers.
    pub headers: Object,
    /// The body, as it was published.
    pub body: Bytes,
}

/// Reads a message.
pub(crate) fn letter(properties: &BasicProperties, body: Bytes) -> Letter {
    Letter {
        properties: named(properties),
        headers: properties.headers().as_ref().map(table).unwrap_or_default(),
        body,
    }
}

fn named(properties: &BasicProperties) -> Object {
    let texts = [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
    ];
    let mut named: Object = texts
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), Value::from(text.as_ref()?.as_str()))))
        .collect();
    let mut number = |name: &str, number: Option<u8>| {
        named.extend(number.map(|number| (name.to_owned(), Value::from(number))));
    };
    number("delivery_mode", *properties.delivery_mode());
    number("priority", *properties.priority());
    named.extend(properties.timestamp().map(|seconds| ("timestamp".to_owned(), time(seconds))));
    named
}

fn table(table: &FieldTable) -> Object {
    table.inner().iter().map(|(name, value)| (name.as_str().to_owned(), plain(value))).collect()
}

fn plain(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::DecimalValue(value) => {
            json!(f64::from(value.value) / 10_f64.powi(i32::from(value.scale)))
        }
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::LongString(text) => bytes(text.as_bytes()),
        AMQPValue::ByteArray(array) => bytes(array.as_slice()),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(plain).collect(),
        AMQPValue::FieldTable(values) => Value::Object(table(values)),
        AMQPValue::Timestamp(seconds) => time(*seconds),
        AMQPValue::Void => Value::Null,
    }
}

fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!(format!("base64:{}", STANDARD.encode(bytes))),
    }
}

/// As RFC 3339 where it is a time at all.
fn time(seconds: u64) -> Value {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| json!(seconds), |time| json!(time.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_header_comes_out_as_json() {
        let mut inner = FieldTable::default();
        inner.insert("reason".into(), AMQPValue::LongString("expired".into()));
        inner.insert("time".into(), AMQPValue::Timestamp(1_795_000_000));
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(inner)].into()));
        headers.insert("bytes".into(), AMQPValue::ByteArray(vec![0xff].into()));
        headers.insert("many".into(), AMQPValue::Timestamp(u64::MAX));
        headers.insert("none".into(), AMQPValue::Void);
        headers.insert("count".into(), AMQPValue::LongLongInt(-3));
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_message_id("m".into())
            .with_timestamp(1_795_000_000)
            .with_delivery_mode(2);
        let letter = letter(&properties, Bytes::from_static(b"body"));
        assert_eq!(
            Value::Object(letter.headers),
            json!({
                "x-death": [{"reason": "expired", "time": "2026-11-18T11:06:40Z"}],
                "bytes": "base64:/w==",
                "many": u64::MAX,
                "none": null,
                "count": -3,
            })
        );
        assert_eq!(
            Value::Object(letter.properties),
            json!({"message_id": "m", "timestamp": "2026-11-18T11:06:40Z", "delivery_mode": 2})
        );
    }
}
