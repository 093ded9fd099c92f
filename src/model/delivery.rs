//! What came through a door: the body, the message's properties, and how far it has travelled already.

use bytes::Bytes;
use jiff::Timestamp;

/// The AMQP properties that mean something to a share request. Every one of them is optional: some tools send none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// `content_type`; only `application/cloudevents+json` changes anything.
    pub content_type: Option<String>,
    /// `message_id`.
    pub message_id: Option<String>,
    /// `correlation_id`, echoed byte for byte.
    pub correlation_id: Option<String>,
    /// `reply_to`: the queue that wants the reply.
    pub reply_to: Option<String>,
    /// `timestamp`: when the requester published it.
    pub timestamp: Option<Timestamp>,
    /// Trace context, handed on to the reply.
    pub trace: Trace,
}

/// W3C trace context as string headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`.
    pub parent: Option<String>,
    /// `tracestate`.
    pub state: Option<String>,
}

/// What is remembered of a request while it travels through delay queues and redeliveries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Travel {
    /// Attempts at the provider made before this delivery.
    pub attempts: u32,
    /// When the request was first seen; `None` on its first visit.
    pub first_seen: Option<Timestamp>,
    /// When the first attempt was made; `None` while none was.
    pub first_attempt: Option<Timestamp>,
    /// No call before this time.
    pub not_before: Option<Timestamp>,
    /// An earlier attempt may have made the link although no answer came.
    pub unsure: bool,
    /// How often the broker has handed it out before without an answer; 0 on a first delivery.
    pub deliveries: u32,
    /// An earlier delivery may already have reached the provider.
    pub redelivered: bool,
}

/// One delivery: what it says, without the right to settle it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The body, as it came.
    pub body: Bytes,
    /// The message's properties.
    pub properties: Properties,
    /// What is remembered of it.
    pub travel: Travel,
}
