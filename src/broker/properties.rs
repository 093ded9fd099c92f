//! From a delivery to an envelope: which AMQP properties mean something, and how each is read.
//!
//! Total: whatever others wrote, an envelope comes out; what cannot be read is absent.

use bytes::Bytes;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{FieldTable, ShortString};

use super::headers::{ATTEMPTS, FIRST_ATTEMPT, FIRST_SEEN, NOT_BEFORE, REASON, REDRIVEN, UNSURE, number, text};
use crate::model::{Envelope, Properties, Trace, Travel};

/// Reads a message. `redelivered` is the broker's flag.
pub fn envelope(body: Bytes, properties: &BasicProperties, redelivered: bool) -> Envelope {
    let none = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&none);
    // Quorum queues count from the first return on. On a first delivery the header can only be the publisher's own.
    let deliveries = if redelivered { small(number(headers, "x-delivery-count")) } else { 0 };
    // A dead letter that somebody moved back by hand begins anew.
    let none = FieldTable::default();
    let ours = if headers.inner().contains_key(REASON) { &none } else { headers };
    Envelope {
        body,
        properties: Properties {
            content_type: owned(properties.content_type()),
            message_id: owned(properties.message_id()),
            correlation_id: owned(properties.correlation_id()),
            reply_to: owned(properties.reply_to()),
            timestamp: properties.timestamp().and_then(timestamp),
            trace: Trace { parent: text(headers, "traceparent"), state: text(headers, "tracestate") },
        },
        travel: Travel {
            attempts: small(number(ours, ATTEMPTS)),
            first_seen: time(ours, FIRST_SEEN),
            first_attempt: time(ours, FIRST_ATTEMPT),
            not_before: time(ours, NOT_BEFORE),
            unsure: number(ours, UNSURE) == Some(1),
            deliveries,
            redelivered: redelivered || [REDRIVEN, REASON].iter().any(|name| headers.contains_key(name)),
        },
    }
}

/// An empty property says as little as an absent one: some tools send every property, empty.
fn owned(text: &Option<ShortString>) -> Option<String> {
    text.as_ref().map(|text| text.as_str().to_owned()).filter(|text| !text.is_empty())
}

fn small(number: Option<u64>) -> u32 {
    u32::try_from(number.unwrap_or(0)).unwrap_or(u32::MAX)
}

fn time(headers: &FieldTable, name: &str) -> Option<Timestamp> {
    text(headers, name)?.parse().ok()
}

/// AMQP timestamps are seconds since 1970; some publishers send milliseconds, which as seconds would lie after the
/// year 9999.
fn timestamp(number: u64) -> Option<Timestamp> {
    let number = i64::try_from(number).ok()?;
    Timestamp::from_second(number).or_else(|_| Timestamp::from_millisecond(number)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::AMQPValue;
    use proptest::prelude::*;

    fn read(properties: &BasicProperties, redelivered: bool) -> Envelope {
        envelope(Bytes::from_static(b"{}"), properties, redelivered)
    }

    #[test]
    fn a_message_without_any_property_is_read() {
        let envelope = read(&BasicProperties::default(), false);
        assert_eq!(envelope.properties, Properties::default());
        assert_eq!(envelope.travel, Travel::default());
    }

    #[test]
    fn what_a_delay_wrote_comes_back_as_it_was() {
        let mut headers = FieldTable::default();
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(3));
        headers.insert(FIRST_SEEN.into(), AMQPValue::LongString("2026-11-22T10:00:00.25Z".into()));
        headers.insert(NOT_BEFORE.into(), AMQPValue::LongString("2026-11-22T10:05:00Z".into()));
        let travel = read(&BasicProperties::default().with_headers(headers), false).travel;
        assert_eq!(travel.attempts, 3);
        assert_eq!(travel.first_seen, "2026-11-22T10:00:00.25Z".parse().ok());
        assert_eq!(travel.not_before, "2026-11-22T10:05:00Z".parse().ok());
        assert!(!travel.redelivered);
    }

    #[test]
    fn a_delivery_count_is_believed_only_where_the_broker_says_that_it_delivers_again() {
        let mut headers = FieldTable::default();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(2));
        let counted = BasicProperties::default().with_headers(headers);
        assert_eq!(read(&counted, true).travel.deliveries, 2);
        assert_eq!(read(&counted, false).travel, Travel::default());
        assert!(read(&BasicProperties::default(), true).travel.redelivered);
    }

    #[test]
    fn a_dead_letter_that_was_moved_back_begins_anew_but_may_have_reached_the_provider() {
        let anew = Travel { redelivered: true, ..Travel::default() };
        for (mark, value) in
            [(REASON, AMQPValue::LongString("malformed".into())), (REDRIVEN, AMQPValue::LongLongInt(1))]
        {
            let mut headers = FieldTable::default();
            if mark == REASON {
                headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(8));
                headers.insert(FIRST_SEEN.into(), AMQPValue::LongString("2026-11-22T10:00:00Z".into()));
            }
            headers.insert(mark.into(), value);
            assert_eq!(read(&BasicProperties::default().with_headers(headers), false).travel, anew, "{mark}");
        }
    }

    #[test]
    fn timestamps_are_read_in_seconds_and_in_milliseconds() {
        let expected = Timestamp::from_second(1_795_000_000).ok();
        for number in [1_795_000_000, 1_795_000_000_000] {
            assert_eq!(read(&BasicProperties::default().with_timestamp(number), false).properties.timestamp, expected);
        }
        assert_eq!(read(&BasicProperties::default().with_timestamp(u64::MAX), false).properties.timestamp, None);
    }

    proptest! {
        #[test]
        fn no_header_of_ours_can_be_written_so_that_reading_fails(written in ".{0,40}", number in any::<i64>()) {
            let mut headers = FieldTable::default();
            for name in [FIRST_SEEN, NOT_BEFORE, "traceparent"] {
                headers.insert(name.into(), AMQPValue::LongString(written.clone().into()));
            }
            headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(number));
            headers.insert("x-delivery-count".into(), AMQPValue::LongString(written.clone().into()));
            let envelope = read(&BasicProperties::default().with_headers(headers), false);
            prop_assert_eq!(envelope.properties.trace.parent, Some(written));
            prop_assert_eq!(envelope.travel.deliveries, 0);
        }
    }
}
