//! A requester's side of the broker: publishes requests, takes replies, cleans up. For commands that send a batch through
//! RabbitMQ; the worker does not use it.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer, PublisherConfirm};

use super::topology::delay_queues;
use crate::config;

/// A connection as a requester.
pub struct Requester {
    connection: Connection,
    channel: Channel,
    request_queue: String,
}

/// Replies of the configured reply queue.
pub struct Replies(Consumer);

/// A request that is on its way to the broker.
pub struct Sent(PublisherConfirm);

impl Requester {
    /// Connects to the configured broker.
    ///
    /// # Errors
    /// A sentence that says what failed.
    pub async fn connect(settings: &config::Broker, name: &str) -> Result<Self, String> {
        let connection = super::connect(settings, name).await.map_err(|error| error.to_string())?;
        let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| error.to_string())?;
        Ok(Self { connection, channel, request_queue: settings.request_queue.clone() })
    }

    /// Publishes a request, persistent and mandatory. Await what it returns to know that the broker has it.
    ///
    /// # Errors
    /// A sentence that says what failed.
    pub async fn send(&self, id: &str, body: &[u8]) -> Result<Sent, String> {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(short("application/json")?)
            .with_message_id(short(id)?)
            .with_correlation_id(short(id)?);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        self.channel
            .basic_publish(short("")?, short(&self.request_queue)?, options, body, properties)
            .await
            .map(Sent)
            .map_err(|error| error.to_string())
    }

    /// Takes replies from `queue`; each is acknowledged when it is handed out.
    ///
    /// # Errors
    /// A sentence that says what failed.
    pub async fn replies(&self, queue: &str) -> Result<Replies, String> {
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        self.channel
            .basic_consume(short(queue)?, short("")?, options, FieldTable::default())
            .await
            .map(Replies)
            .map_err(|error| error.to_string())
    }

    /// Deletes the configured queues, their delay queues and the exchange, with whatever is in them.
    ///
    /// # Errors
    /// A sentence that says what failed.
    pub async fn delete_all(&self, settings: &config::Broker) -> Result<(), String> {
        let queues = [&settings.request_queue, &settings.reply_queue, &settings.dead_letter_queue];
        for queue in queues.map(String::to_owned).into_iter().chain(delay_queues(&settings.request_queue)) {
            self.channel
                .queue_delete(short(&queue)?, QueueDeleteOptions::default())
                .await
                .map_err(|error| format!("{queue}: {error}"))?;
        }
        self.channel
            .exchange_delete(short(&settings.exchange)?, ExchangeDeleteOptions::default())
            .await
            .map_err(|error| format!("{}: {error}", settings.exchange))
    }

    /// Closes the connection.
    pub async fn close(self) {
        // Nothing depends on it any more, so a broker that does not answer is no reason to wait.
        let _ =
            tokio::time::timeout(Duration::from_secs(5), self.connection.close(200, short("done").unwrap_or_default()))
                .await;
    }
}

impl Sent {
    /// Waits for the broker's confirm.
    ///
    /// # Errors
    /// A sentence where the broker refused the request or has no queue for it.
    pub async fn confirmed(self) -> Result<(), String> {
        match self.0.await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => Err("the request queue is missing".to_owned()),
            Ok(other) => Err(format!("the broker did not take the request: {other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Replies {
    /// The next reply: its correlation id and its body. `None` where the broker is gone.
    pub async fn next(&mut self) -> Option<(String, Vec<u8>)> {
        let delivery = self.0.next().await?.ok()?;
        let id = delivery.properties.correlation_id().as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
        Some((id, delivery.data))
    }
}

fn short(text: &str) -> Result<ShortString, String> {
    ShortString::try_new(text.to_owned()).map_err(|_| format!("a name is longer than 255 bytes: {} bytes", text.len()))
}
