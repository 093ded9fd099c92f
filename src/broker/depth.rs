//! How many messages wait in the worker's queues, asked of the broker.
//!
//! A question that fails ends its own channel and nothing else; the gauge keeps the last answer.

use std::convert::Infallible;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::headers::short;
use crate::config;
use crate::telemetry::metrics::Metrics;

const EVERY: Duration = Duration::from_secs(15);

/// Asks for ever; to be dropped with the connection.
pub(crate) async fn watch(connection: &Connection, settings: &config::Broker, metrics: &Metrics) -> Infallible {
    let queues = [&settings.request_queue, &settings.reply_queue, &settings.dead_letter_queue];
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut channel = None;
    loop {
        tick.tick().await;
        for queue in queues {
            match ask(connection, &mut channel, queue).await {
                Ok(messages) => metrics.queue_ready(queue, messages),
                Err(error) => debug!(queue, %error, "the number of waiting messages is not known"),
            }
        }
    }
}

async fn ask(connection: &Connection, channel: &mut Option<Channel>, queue: &str) -> lapin::Result<u32> {
    let asking = match channel.take().filter(|channel| channel.status().connected()) {
        Some(channel) => channel,
        None => connection.create_channel().await?,
    };
    let options =
        QueueDeclareOptions { passive: true, durable: true, exclusive: false, auto_delete: false, nowait: false };
    let answer = asking.queue_declare(short(queue), options, FieldTable::default()).await?;
    *channel = Some(asking);
    Ok(answer.message_count())
}
