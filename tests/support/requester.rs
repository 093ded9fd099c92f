//! Another program that wants links: publishes requests and takes replies, written on the AMQP client alone, so that it
//! shares nothing with the worker but the broker.

#![allow(dead_code, reason = "each test that shares this file uses a part of it")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

/// Long enough for a busy machine; no test waits for it unless it fails.
pub const SOON: Duration = Duration::from_secs(90);

/// Waits until it holds, and fails with `what` where it does not.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {} s", SOON.as_secs()));
}

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub properties: BasicProperties,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// `status`, and behind a failure its kind: `created`, `failed/notFound`.
    pub fn outcome(&self) -> String {
        let json = self.json();
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let status = word(&json["status"]).unwrap_or_else(|| panic!("no status: {}", self.text()));
        word(&json["error"]["kind"]).map_or_else(|| status.clone(), |kind| format!("{status}/{kind}"))
    }

    /// The link's URL.
    pub fn url(&self) -> String {
        let json = self.json();
        json["link"]["url"].as_str().unwrap_or_else(|| panic!("no link: {}", self.text())).to_owned()
    }

    /// A header's text, or its number as text.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
            AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
            AMQPValue::LongLongInt(number) => Some(number.to_string()),
            AMQPValue::LongUInt(number) => Some(number.to_string()),
            AMQPValue::LongInt(number) => Some(number.to_string()),
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn correlation_id(&self) -> String {
        self.properties.correlation_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default()
    }

    pub fn message_id(&self) -> String {
        self.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default()
    }

    /// Everything that can be read in it, for whoever looks for something that must not be there.
    pub fn everything(&self) -> String {
        format!("{:?}\n{}", self.properties, self.text())
    }
}

/// What came from a queue so far, and still comes.
#[derive(Clone)]
pub struct Mailbox(Arc<Mutex<Vec<Message>>>);

impl Mailbox {
    pub fn all(&self) -> Vec<Message> {
        self.0.lock().unwrap().clone()
    }

    /// The first message that fits, as soon as it is there.
    pub async fn first(&self, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
        until(what, async || self.all().iter().any(&fits)).await;
        self.all().into_iter().find(fits).unwrap()
    }

    /// The answer to a request, as soon as it is there.
    pub async fn answer(&self, correlation: &str) -> Message {
        self.first(&format!("an answer to {correlation}"), |message| message.correlation_id() == correlation).await
    }

    /// How often each correlation id came.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for message in self.all() {
            *counts.entry(message.correlation_id()).or_default() += 1;
        }
        counts
    }
}

/// The other program.
pub struct Requester {
    connection: Connection,
    channel: Channel,
    /// A queue of its own.
    pub queue: String,
    /// What came there.
    pub replies: Mailbox,
}

impl Requester {
    /// A program with a new queue, which outlives it.
    pub async fn new(url: &str) -> Self {
        Self::with_queue(url, &format!("requester.{}", uuid::Uuid::new_v4().simple())).await
    }

    /// A program that takes its replies from that queue. A node that has just come back may still refuse for a while.
    pub async fn with_queue(url: &str, queue: &str) -> Self {
        let connecting = async {
            loop {
                match Self::connect(url, queue).await {
                    Ok(requester) => return requester,
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        };
        timeout(SOON, connecting).await.expect("the node takes a requester")
    }

    async fn connect(url: &str, queue: &str) -> lapin::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        declare(&channel, queue).await?;
        let replies = consume(&channel, queue).await?;
        Ok(Self { connection, channel, queue: queue.to_owned(), replies })
    }

    /// What comes to another queue, taken on a channel of its own.
    pub async fn listen(&self, queue: &str) -> Mailbox {
        consume(&self.connection.create_channel().await.unwrap(), queue).await.unwrap()
    }

    /// A further queue, which nobody listens to yet.
    pub async fn other_queue(&self) -> String {
        let queue = format!("requester.{}", uuid::Uuid::new_v4().simple());
        declare(&self.channel, &queue).await.unwrap();
        queue
    }

    /// RabbitMQ's reply address without a queue: what comes there, while this program lives.
    pub async fn direct_replies(&self) -> Mailbox {
        consume(&self.channel, "amq.rabbitmq.reply-to").await.unwrap()
    }

    /// Publishes and waits until the broker has it.
    pub async fn publish(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirm = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
        assert_eq!(confirm.unwrap().await.unwrap(), Confirmation::Ack(None), "{exchange:?} {key:?}");
    }

    /// Sends a request to that queue, answered to our own; returns its correlation id.
    pub async fn send(&self, requests: &str, body: &Value) -> String {
        let correlation = uuid::Uuid::new_v4().to_string();
        let properties = asking(&self.queue, &correlation);
        self.publish("", requests, body.to_string().as_bytes(), properties).await;
        correlation
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&self, requests: &str, body: &Value) -> Message {
        let correlation = self.send(requests, body).await;
        self.replies.answer(&correlation).await
    }

    /// How many messages are ready in a queue; `None` where there is no such queue.
    pub async fn ready(&self, queue: &str) -> Option<u32> {
        let channel = self.connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let asked = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        asked.ok().map(|queue| queue.message_count())
    }
}

/// The properties of a request that survives the broker.
pub fn asking(reply_to: &str, correlation: &str) -> BasicProperties {
    BasicProperties::default()
        .with_reply_to(reply_to.into())
        .with_correlation_id(correlation.into())
        .with_delivery_mode(2)
}

/// A queue that survives the broker.
async fn declare(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Result<Mailbox> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    let mailbox = Mailbox(Arc::default());
    let into = mailbox.clone();
    // The channel has to live as long as its consumer.
    let channel = channel.clone();
    tokio::spawn(async move {
        let _channel = channel;
        while let Some(Ok(delivery)) = consumer.next().await {
            let message = Message { properties: delivery.properties, body: delivery.data, at: Instant::now() };
            into.0.lock().unwrap().push(message);
        }
    });
    Ok(mailbox)
}
