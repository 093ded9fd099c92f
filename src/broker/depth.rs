//! How many messages wait in the worker's queues, asked of the broker.
//!
//! A question that fails or finds no answer ends its own channel and nothing else; the gauge keeps the last answer.

use std::convert::Infallible;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use super::headers::short;
use crate::config;
use crate::telemetry::metrics::Metrics;

/// How often at least.
const EVERY: Duration = Duration::from_secs(15);
/// How long the broker may take over one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often the broker is asked: as often as the connections are proven alive.
pub(crate) fn every(settings: &config::Broker) -> Duration {
    settings.heartbeat.min(EVERY)
}

/// Asks for ever; to be dropped with the connection. Every answer about the request queue goes to `requests`.
pub(crate) async fn watch(
    connection: &Connection,
    settings: &config::Broker,
    metrics: &Metrics,
    requests: watch::Sender<u32>,
) -> Infallible {
    let queues = [&settings.request_queue, &settings.reply_queue, &settings.dead_letter_queue];
    let mut tick = interval(every(settings));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut channel = None;
    loop {
        tick.tick().await;
        for queue in queues {
            match timeout(ANSWER_WITHIN, ask(connection, &mut channel, queue)).await {
                Ok(Ok(messages)) => {
                    metrics.queue_ready(queue, messages);
                    if queue == &settings.request_queue {
                        requests.send_replace(messages);
                    }
                }
                Ok(Err(error)) => debug!(queue, %error, "the number of waiting messages is not known"),
                Err(_) => debug!(queue, "the broker does not say how many messages wait"),
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
