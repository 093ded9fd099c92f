//! A requester straight at a node: publishes requests, confirmed, and collects replies by their correlation id.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use tokio::time::timeout;

/// A reply as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Came {
    pub message_id: String,
    pub status: String,
    pub url: Option<String>,
    /// The kind of a failure.
    pub kind: Option<String>,
}

pub struct Requester {
    connection: Connection,
    channel: Channel,
}

impl Requester {
    /// Connects to the first of `urls` that answers, as often as it takes.
    pub async fn connect(urls: &[String]) -> Self {
        for url in urls.iter().cycle().take(600) {
            let connect = Connection::connect(url, ConnectionProperties::default());
            if let Ok(Ok(connection)) = timeout(Duration::from_secs(10), connect).await
                && let Ok(channel) = connection.create_channel().await
                && channel.confirm_select(ConfirmSelectOptions::default()).await.is_ok()
            {
                return Self { connection, channel };
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no broker at {urls:?}");
    }

    /// Publishes requests, each with its id as correlation id, and waits until all of them are confirmed.
    pub async fn publish(&self, queue: &str, requests: impl IntoIterator<Item = (String, String)>) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut sent = Vec::new();
        for (id, body) in requests {
            let properties = BasicProperties::default().with_delivery_mode(2).with_correlation_id(id.as_str().into());
            let publish = self.channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
            sent.push(publish.await.unwrap());
        }
        for confirm in sent {
            assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
        }
    }

    /// Takes replies. Each is acknowledged when it was read, so that none is lost between the broker and here.
    pub async fn replies(&self, queue: &str) -> Consumer {
        self.subscribe(queue).await.unwrap()
    }

    async fn subscribe(&self, queue: &str) -> lapin::Result<Consumer> {
        self.channel.basic_qos(200, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
    }

    /// A requester that takes replies, as often as it takes: a queue whose leader is being chosen refuses (541 INTERNAL_ERROR).
    pub async fn taking(urls: &[String], queue: &str) -> (Self, Consumer) {
        for _ in 0..60 {
            let requester = Self::connect(urls).await;
            match timeout(Duration::from_secs(10), requester.subscribe(queue)).await {
                Ok(Ok(replies)) => return (requester, replies),
                refused => println!("no replies can be taken yet: {refused:?}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("no replies can be taken from {queue:?}");
    }

    /// Whether the connection stands.
    pub fn lives(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Messages ready and consumers of a queue in words, or why they cannot be told.
    pub async fn asked_about(&self, queue: &str) -> String {
        let ask = async {
            let channel = self.connection.create_channel().await?;
            let options = QueueDeclareOptions::default().passive();
            channel.queue_declare(queue.into(), options, FieldTable::default()).await
        };
        match timeout(Duration::from_secs(10), ask).await {
            Ok(Ok(queue)) => format!("{} ready, {} consumers", queue.message_count(), queue.consumer_count()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 10 s".to_owned(),
        }
    }

    /// Messages ready in a queue.
    pub async fn ready(&self, queue: &str) -> u32 {
        let channel = self.connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions::default().passive();
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap().message_count()
    }
}

/// The next reply with its correlation id; `None` where the connection is gone or nothing comes within `patience`.
pub async fn next(replies: &mut Consumer, patience: Duration) -> Option<(String, Came)> {
    let delivery = timeout(patience, replies.next()).await.ok()??.ok()?;
    let body: serde_json::Value = serde_json::from_slice(&delivery.data).expect("a reply is JSON");
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let short = |property: &Option<lapin::types::ShortString>| {
        property.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default()
    };
    let came = Came {
        message_id: short(delivery.properties.message_id()),
        status: text(&body["status"]).unwrap_or_default(),
        url: text(&body["link"]["url"]),
        kind: text(&body["error"]["kind"]),
    };
    let id = short(delivery.properties.correlation_id());
    // Where the connection ends first the reply comes again, and counts as repeated.
    let _ = delivery.ack(BasicAckOptions::default()).await;
    Some((id, came))
}

/// Replies by correlation id.
pub type Replies = BTreeMap<String, Vec<Came>>;
