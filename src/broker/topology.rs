//! Exchange, queues and bindings: what the worker needs, and how it makes or finds it.
//!
//! Nothing that exists is ever changed or deleted. A queue that is there with other arguments is used as it is.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};
use tracing::warn;

use super::headers::short;
use crate::config::{self, QueueType, Topology};

/// Routing key with which requests reach the request queue through the exchange.
pub const ROUTING_KEY: &str = "request";

/// How many deliveries the broker allows beyond `broker.max_deliveries` before it takes a request away by itself.
const DELIVERIES_BEYOND_OURS: u32 = 4;

/// The dead-letter queue's delivery limit. From RabbitMQ 4.0 on a quorum queue that is declared without one drops a letter at
/// its 21st return. `-1` means "none" only from 4.0 on: 3.10 accepts it and drops every letter at its first return. A number
/// that nobody reaches means the same everywhere (each run on 3.10.8 and 4.0.5).
const LOOKS_AT_A_LETTER: i64 = 1_000_000_000;

/// The delay queues: a queue has one time to live, so that messages leave it in the order in which they came.
const LADDER: [(&str, u32); 11] = [
    ("1s", 1),
    ("2s", 2),
    ("5s", 5),
    ("10s", 10),
    ("30s", 30),
    ("1m", 60),
    ("2m", 120),
    ("5m", 300),
    ("10m", 600),
    ("30m", 1800),
    ("1h", 3600),
];

/// How the names of the delay queues of a request queue begin.
pub(crate) fn delay_prefix(request_queue: &str) -> String {
    format!("{request_queue}.delay.")
}

/// The names of all delay queues of a request queue.
pub(crate) fn delay_queues(request_queue: &str) -> impl Iterator<Item = String> {
    let prefix = delay_prefix(request_queue);
    LADDER.iter().map(move |(step, _)| format!("{prefix}{step}"))
}

/// The delay queue with the longest delay that is not longer than `wait`, else the shortest.
pub(crate) fn delay_queue(request_queue: &str, wait: Duration) -> String {
    let fits = |(_, seconds): &&(&str, u32)| Duration::from_secs(u64::from(*seconds)) <= wait;
    let step = LADDER.iter().rev().find(fits).map_or("1s", |(step, _)| *step);
    format!("{}{step}", delay_prefix(request_queue))
}

/// A queue and the arguments it is declared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Queue {
    pub name: String,
    pub arguments: FieldTable,
}

/// Every queue the worker needs.
pub(crate) fn queues(settings: &config::Broker) -> Vec<Queue> {
    let quorum = settings.queue_type == QueueType::Quorum;
    let typed = || {
        let mut arguments = FieldTable::default();
        arguments.insert(short("x-queue-type"), text(settings.queue_type.as_str()));
        arguments
    };
    // At-least-once dead lettering needs all of these; without `reject-publish` it silently becomes at-most-once.
    let dead_lettered_to = |target: &str| {
        let mut arguments = typed();
        arguments.insert(short("x-dead-letter-exchange"), text(""));
        arguments.insert(short("x-dead-letter-routing-key"), text(target));
        if quorum {
            arguments.insert(short("x-dead-letter-strategy"), text("at-least-once"));
            arguments.insert(short("x-overflow"), text("reject-publish"));
        }
        arguments
    };
    let mut letters = typed();
    if quorum {
        letters.insert(short("x-delivery-limit"), AMQPValue::LongLongInt(LOOKS_AT_A_LETTER));
    }
    let mut queues = vec![
        Queue { name: settings.dead_letter_queue.clone(), arguments: letters },
        Queue { name: settings.reply_queue.clone(), arguments: typed() },
        Queue { name: settings.request_queue.clone(), arguments: dead_lettered_to(&settings.dead_letter_queue) },
    ];
    if quorum && let Some(requests) = queues.last_mut() {
        // The broker's own limit is the last resort, for messages that kill the connection before anybody can read them;
        // RabbitMQ before 4.0 has none by default. The pipeline answers and buries earlier, at `max_deliveries`.
        let limit = i64::from(settings.max_deliveries.saturating_add(DELIVERIES_BEYOND_OURS));
        requests.arguments.insert(short("x-delivery-limit"), AMQPValue::LongLongInt(limit));
    }
    queues.extend(LADDER.iter().map(|(step, seconds)| {
        let mut arguments = dead_lettered_to(&settings.request_queue);
        arguments.insert(short("x-message-ttl"), AMQPValue::LongLongInt(i64::from(*seconds) * 1000));
        Queue { name: format!("{}{step}", delay_prefix(&settings.request_queue)), arguments }
    }));
    queues
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Why the topology does not stand.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Things that `topology = "verify"` looked for and did not find.
    #[error(
        "topology = \"verify\", and the broker does not have {}; create what is missing, or set broker.topology = \"declare\"",
        .0.join(", ")
    )]
    Missing(Vec<String>),
    /// A name that AMQP cannot carry.
    #[error("the name {0:?} is longer than the 255 bytes that AMQP allows; shorten the names under [broker]")]
    Name(String),
    /// The broker refused something, and using it as it is did not work either.
    #[error("{what}: {error}")]
    Broker {
        /// What was being done.
        what: String,
        /// The broker's words.
        error: lapin::Error,
    },
}

/// Declares or verifies everything, as the configuration says.
///
/// # Errors
/// See [`TopologyError`].
pub async fn establish(connection: &Connection, settings: &config::Broker) -> Result<(), TopologyError> {
    let mut desk = Desk::new(connection);
    match settings.topology {
        Topology::Declare => declare(&mut desk, settings).await,
        Topology::Verify => verify(&mut desk, settings).await,
    }
}

async fn declare(desk: &mut Desk<'_>, settings: &config::Broker) -> Result<(), TopologyError> {
    let exchange = name(&settings.exchange)?;
    let refused = desk.exchange(&exchange, false).await;
    if let Err(error) = refused {
        let what = format!("exchange {:?}", settings.exchange);
        settle_for(&what, error, desk.exchange(&exchange, true).await)?;
    }
    for queue in queues(settings) {
        let queue_name = name(&queue.name)?;
        if let Err(error) = desk.queue(&queue_name, false, queue.arguments).await {
            let what = format!("queue {:?}", queue.name);
            settle_for(&what, error, desk.queue(&queue_name, true, FieldTable::default()).await)?;
        }
    }
    let request_queue = name(&settings.request_queue)?;
    if let Err(error) = desk.bind(&request_queue, &exchange).await {
        let what = format!("binding of queue {:?} to exchange {:?}", settings.request_queue, settings.exchange);
        // Requests that are published straight to the queue still arrive.
        settle_for(&what, error, Ok(()))?;
    }
    Ok(())
}

/// Uses something that could not be declared as it is, where it is there: `there` is the answer of a passive declare.
fn settle_for(what: &str, error: lapin::Error, there: lapin::Result<()>) -> Result<(), TopologyError> {
    if !refused(&error) || there.is_err() {
        return Err(TopologyError::Broker { what: what.to_owned(), error });
    }
    warn!(
        what,
        broker = %error,
        "could not be declared as configured and is used as it is; to have it as configured, delete it while it is \
         empty or change [broker], or say topology = \"verify\" where others manage it"
    );
    Ok(())
}

/// 403 ACCESS_REFUSED, 405 RESOURCE_LOCKED, 406 PRECONDITION_FAILED: it may be there, only not ours to declare.
fn refused(error: &lapin::Error) -> bool {
    code(error).is_some_and(|code| matches!(code, 403 | 405 | 406))
}

pub(crate) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

async fn verify(desk: &mut Desk<'_>, settings: &config::Broker) -> Result<(), TopologyError> {
    let mut missing = Vec::new();
    let mut look = |what: String, found: lapin::Result<()>| match found {
        Ok(()) => Ok(()),
        Err(error) if code(&error) == Some(404) => {
            missing.push(what);
            Ok(())
        }
        Err(error) => Err(TopologyError::Broker { what, error }),
    };
    let exchange = name(&settings.exchange)?;
    look(format!("exchange {:?}", settings.exchange), desk.exchange(&exchange, true).await)?;
    for queue in queues(settings) {
        let found = desk.queue(&name(&queue.name)?, true, FieldTable::default()).await;
        look(format!("queue {:?}", queue.name), found)?;
    }
    if missing.is_empty() { Ok(()) } else { Err(TopologyError::Missing(missing)) }
}

fn name(name: &str) -> Result<ShortString, TopologyError> {
    ShortString::try_new(name).map_err(|_| TopologyError::Name(name.to_owned()))
}

/// Asks on a channel of its own, because a refused declaration ends the channel it was made on.
pub(crate) struct Desk<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
}

impl<'a> Desk<'a> {
    /// A desk at this connection; no channel is opened yet.
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection, channel: None }
    }

    /// The channel in use, or another one where that has ended.
    pub(crate) async fn channel(&mut self) -> lapin::Result<Channel> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let channel = self.connection.create_channel().await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Declares the exchange, or only asks whether it is there.
    pub(crate) async fn exchange(&mut self, name: &ShortString, passive: bool) -> lapin::Result<()> {
        let options =
            ExchangeDeclareOptions { passive, durable: true, auto_delete: false, internal: false, nowait: false };
        let channel = self.channel().await?;
        channel.exchange_declare(name.clone(), ExchangeKind::Topic, options, FieldTable::default()).await
    }

    /// Declares a queue, or only asks whether it is there.
    pub(crate) async fn queue(
        &mut self,
        name: &ShortString,
        passive: bool,
        arguments: FieldTable,
    ) -> lapin::Result<()> {
        let options =
            QueueDeclareOptions { passive, durable: true, exclusive: false, auto_delete: false, nowait: false };
        self.channel().await?.queue_declare(name.clone(), options, arguments).await.map(drop)
    }

    async fn bind(&mut self, queue: &ShortString, exchange: &ShortString) -> lapin::Result<()> {
        let options = QueueBindOptions { nowait: false };
        let channel = self.channel().await?;
        channel.queue_bind(queue.clone(), exchange.clone(), short(ROUTING_KEY), options, FieldTable::default()).await
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::Secret;

    pub(crate) fn settings(queue_type: QueueType) -> config::Broker {
        config::Broker {
            urls: vec![Secret::new("amqp://127.0.0.1:1/%2f")],
            request_queue: "requests".to_owned(),
            reply_queue: "replies".to_owned(),
            dead_letter_queue: "dead".to_owned(),
            exchange: "sharelink".to_owned(),
            prefetch: 10,
            topology: Topology::Declare,
            queue_type,
            reply_to_allow: vec!["*".to_owned()],
            max_request_bytes: 1024,
            max_deliveries: 5,
            connect_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
        }
    }

    fn find<'a>(queues: &'a [Queue], name: &str) -> &'a FieldTable {
        queues.iter().find(|queue| queue.name == name).map(|queue| &queue.arguments).unwrap()
    }

    #[test]
    fn a_wait_goes_to_the_longest_step_that_is_not_longer() {
        let step = |seconds| delay_queue("q", Duration::from_secs(seconds));
        assert_eq!(step(0), "q.delay.1s");
        assert_eq!(step(9), "q.delay.5s");
        assert_eq!(step(60), "q.delay.1m");
        assert_eq!(step(100_000), "q.delay.1h");
    }

    #[test]
    fn the_ladder_rises() {
        assert!(LADDER.windows(2).all(|pair| pair[0].1 < pair[1].1));
    }

    #[test]
    fn quorum_queues_dead_letter_at_least_once_and_say_what_that_needs() {
        let queues = queues(&settings(QueueType::Quorum));
        for (name, target) in [("requests", "dead"), ("requests.delay.30s", "requests")] {
            let arguments = find(&queues, name).inner();
            assert_eq!(arguments.get("x-queue-type"), Some(&text("quorum")));
            assert_eq!(arguments.get("x-dead-letter-exchange"), Some(&text("")));
            assert_eq!(arguments.get("x-dead-letter-routing-key"), Some(&text(target)));
            assert_eq!(arguments.get("x-dead-letter-strategy"), Some(&text("at-least-once")));
            assert_eq!(arguments.get("x-overflow"), Some(&text("reject-publish")));
        }
        assert_eq!(
            find(&queues, "requests.delay.30s").inner().get("x-message-ttl"),
            Some(&AMQPValue::LongLongInt(30_000))
        );
        assert_eq!(find(&queues, "replies").inner().len(), 1);
    }

    #[test]
    fn the_dead_letter_queue_never_drops_a_letter_for_being_looked_at() {
        let queues = queues(&settings(QueueType::Quorum));
        let limit = find(&queues, "dead").inner().get("x-delivery-limit").cloned();
        assert_eq!(limit, Some(AMQPValue::LongLongInt(LOOKS_AT_A_LETTER)));
    }

    #[test]
    fn classic_queues_have_no_argument_that_only_quorum_queues_know() {
        for queue in queues(&settings(QueueType::Classic)) {
            assert_eq!(queue.arguments.inner().get("x-queue-type"), Some(&text("classic")));
            for argument in ["x-dead-letter-strategy", "x-overflow", "x-delivery-limit"] {
                assert!(!queue.arguments.contains_key(argument), "{} {argument}", queue.name);
            }
        }
    }
}
