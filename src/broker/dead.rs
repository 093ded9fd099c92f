//! The dead-letter queue, looked at by a person: letters are taken one by one and each is given back, sent again as a
//! request, or removed.
//!
//! A letter is acknowledged only after the broker has confirmed its copy, or when it is to be removed. Everything else
//! is still the broker's: whatever happens to this process, it is back in the queue afterwards.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::time::{Instant, timeout};

use super::connection::{ConnectError, connect};
use super::copies::{numbered, redriven, renewed};
use super::headers::{BODY_BYTES, number, short};
use super::letter::{Letter, letter};
use super::topology;
use crate::config;

/// A letter that the broker has counted as returned so often is written anew instead of being returned once more, which
/// makes its count begin again. From RabbitMQ 4.0 on a quorum queue drops a message at the 21st return by default, a policy
/// may say less, and AMQP has no way to ask. A limit below this one is not survived.
const MOST_RETURNS: u64 = 3;

/// How often a connection that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a queue in which nothing is found is asked again before it counts as empty: what a process held that has just
/// been killed is back only when the broker has noticed.
const UNTIL_EMPTY: Duration = Duration::from_secs(1);

/// Why the dead-letter queue cannot be worked on. Nothing is lost by any of them.
#[derive(Debug, thiserror::Error)]
pub enum DeadError {
    /// No connection.
    #[error("the dead-letter queue cannot be reached: {0}")]
    Connect(#[from] ConnectError),
    /// There is no such queue.
    #[error("the broker has no queue {0:?} (broker.dead_letter_queue); a worker makes it when it starts")]
    Missing(String),
    /// A copy was not confirmed; its letter stays where it is.
    #[error("the broker does not take a message for {queue:?}: {why}; the letter stays in the dead-letter queue")]
    NotTaken {
        /// Where it was to go.
        queue: String,
        /// The broker's words.
        why: String,
    },
    /// The connection ended while a letter was taken.
    #[error(
        "the connection ended while letter {number} was taken; what was not finished is still in {queue:?}. Where it ends there \
         every time, that letter has a property that is no text (not UTF-8), which this program cannot read: take it off with \
         the broker's own tools (rabbitmqadmin get queue={queue} ackmode=ack_requeue_false count=1, or the management page)"
    )]
    Unreadable {
        /// Where the letter is.
        queue: String,
        /// Which one of this session, from 1.
        number: u32,
    },
    /// The broker refused something or went away.
    #[error("{what}: {why}; what was not finished is still in the dead-letter queue")]
    Broker {
        /// What was being done.
        what: &'static str,
        /// The broker's words.
        why: String,
    },
}

/// A letter taken from the queue. Dropped, it goes back when the session ends.
#[derive(Debug)]
#[must_use = "a letter that is not settled goes back to the queue"]
pub struct Held {
    /// What it says.
    pub letter: Letter,
    tag: u64,
    original: BasicProperties,
}

impl Held {
    /// How long the body was before it was cut to fit, in bytes; `None` where it is whole. A cut letter cannot be sent
    /// again.
    pub fn cut_from(&self) -> Option<u64> {
        number(self.original.headers().as_ref()?, BODY_BYTES)
    }
}

/// A session at the dead-letter queue.
pub struct DeadLetters {
    connection: Connection,
    channel: Channel,
    queue: String,
    request_queue: String,
    patience: Duration,
    ready: u32,
    /// The letter that was taken to count the others, until it is asked for.
    first: Option<Held>,
    taken: u32,
    renewed: u32,
    published: i64,
}

impl DeadLetters {
    /// Connects and counts the letters.
    ///
    /// # Errors
    /// See [`DeadError`].
    pub async fn open(settings: &config::Broker, name: &str) -> Result<Self, DeadError> {
        let connection = connect(settings, name).await?;
        let patience = settings.publish_timeout;
        let queue = settings.dead_letter_queue.clone();
        let look = async {
            let channel = connection.create_channel().await?;
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            channel.queue_declare(short(&queue), options, FieldTable::default()).await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        let channel = match timeout(patience, look).await {
            Ok(Err(error)) if topology::code(&error) == Some(404) => return Err(DeadError::Missing(queue)),
            answer => answered("the dead-letter queue cannot be looked at", patience, answer)?,
        };
        let mut session = Self {
            connection,
            channel,
            queue,
            request_queue: settings.request_queue.clone(),
            patience,
            ready: 0,
            first: None,
            taken: 0,
            renewed: 0,
            published: 0,
        };
        session.begin().await?;
        Ok(session)
    }

    /// Takes the first letter and then counts the others. The count of a quorum queue alone is what its leader has
    /// applied so far, which may leave out letters that an earlier session gave back in good order; taking one goes
    /// through the queue's log behind all of that, and a count that follows it is behind it as well.
    async fn begin(&mut self) -> Result<(), DeadError> {
        let began = Instant::now();
        loop {
            self.first = self.get(1).await?;
            if self.first.is_some() || began.elapsed() >= UNTIL_EMPTY {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if self.first.is_some() {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            let count = self.channel.queue_declare(short(&self.queue), options, FieldTable::default());
            let others = self.within("the letters cannot be counted", count).await?.message_count();
            self.ready = others.saturating_add(1);
        }
        Ok(())
    }

    /// Letters that were ready when the session began.
    pub fn ready(&self) -> u32 {
        self.ready
    }

    /// Letters written anew so far, because the broker had counted them as returned too often.
    pub fn renewed(&self) -> u32 {
        self.renewed
    }

    /// Takes the next letter; none when every letter that was ready at the start has been taken once.
    ///
    /// # Errors
    /// See [`DeadError`].
    pub async fn next(&mut self) -> Result<Option<Held>, DeadError> {
        if self.taken >= self.ready {
            return Ok(None);
        }
        let held = match self.first.take() {
            Some(first) => Some(first),
            None => self.get(self.taken + 1).await?,
        };
        self.taken += u32::from(held.is_some());
        Ok(held)
    }

    /// Takes a letter, if there is one; it is the one with this number.
    async fn get(&self, number: u32) -> Result<Option<Held>, DeadError> {
        let get = self.channel.basic_get(short(&self.queue), BasicGetOptions { no_ack: false });
        let got = tokio::select! {
            got = self.within("a letter cannot be taken from the dead-letter queue", get) => got?,
            // What the client library cannot read ends the connection, and is no answer to the question.
            () = self.ended() => {
                return Err(DeadError::Unreadable { queue: self.queue.clone(), number });
            }
        };
        Ok(got.map(|message| {
            let delivery = message.delivery;
            let letter = letter(&delivery.properties, Bytes::from(delivery.data));
            Held { letter, tag: delivery.delivery_tag, original: delivery.properties }
        }))
    }

    /// Leaves the letter in the queue. It is handed out to others again when the session ends.
    ///
    /// # Errors
    /// See [`DeadError`].
    pub async fn keep(&mut self, held: Held) -> Result<(), DeadError> {
        let returns = held.original.headers().as_ref().and_then(|headers| number(headers, "x-delivery-count"));
        if returns.unwrap_or(0) < MOST_RETURNS {
            return Ok(());
        }
        let (properties, headers) = renewed(&held.original);
        self.publish(&self.queue.clone(), properties.with_headers(headers), &held.letter.body).await?;
        self.renewed += 1;
        self.remove(held).await
    }

    /// Sends the letter to the request queue, as the request that it once was, and takes it off the dead-letter queue once
    /// the broker has confirmed that.
    ///
    /// # Errors
    /// See [`DeadError`]; the letter is then still in the dead-letter queue, and may be in the request queue too.
    pub async fn redrive(&mut self, held: Held) -> Result<(), DeadError> {
        let outgoing = redriven(&self.request_queue, &held.original, &held.letter.body);
        self.published += 1;
        let properties = outgoing.properties.with_headers(numbered(outgoing.headers, self.published));
        self.publish(&self.request_queue.clone(), properties, &outgoing.body).await?;
        self.remove(held).await
    }

    /// Takes the letter off the queue for good.
    ///
    /// # Errors
    /// See [`DeadError`].
    pub async fn remove(&mut self, held: Held) -> Result<(), DeadError> {
        let ack = self.channel.basic_ack(held.tag, BasicAckOptions { multiple: false });
        self.within("a letter cannot be taken off the dead-letter queue", ack).await
    }

    /// Gives back everything that was not settled, and makes sure that the broker has seen all of it.
    ///
    /// # Errors
    /// See [`DeadError`]. The broker then gives the letters back by itself, because the connection ends.
    pub async fn close(mut self) -> Result<(), DeadError> {
        if !self.connection.status().connected() {
            return Ok(());
        }
        // Never asked for, but returned like those that were.
        let kept = match self.first.take() {
            Some(first) => self.keep(first).await,
            None => Ok(()),
        };
        // A tag of 0 means all; from RabbitMQ 4.3 on a nack is not counted as a return, the end of a channel is.
        let nack = self.channel.basic_nack(0, BasicNackOptions { multiple: true, requeue: true });
        let end = async {
            nack.await?;
            // Answered only after everything before it was read.
            self.channel.close(200, short("OK")).await
        };
        let ended = self.within("the letters cannot be given back", end).await;
        // Nothing depends on it any more.
        let _ = timeout(self.patience, self.connection.close(200, short("OK"))).await;
        kept.and(ended)
    }

    /// Publishes through the default exchange and waits for the confirm. There is never another publish under way, so
    /// that a return can only be this message's.
    async fn publish(&self, queue: &str, properties: BasicProperties, body: &[u8]) -> Result<(), DeadError> {
        let refused = |why: String| Err(DeadError::NotTaken { queue: queue.to_owned(), why });
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let send = async {
            self.channel.basic_publish(ShortString::default(), short(queue), options, body, properties).await?.await
        };
        match self.within("a message cannot be published", send).await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(back)) => refused(format!("{} ({})", back.reply_text.as_str(), back.reply_code)),
            Confirmation::Nack(_) => refused("it refused the message; the queue may be full".to_owned()),
            Confirmation::NotRequested => refused("it does not confirm".to_owned()),
        }
    }

    /// Waits until the connection has ended.
    async fn ended(&self) {
        while self.connection.status().connected() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn within<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, DeadError> {
        answered(what, self.patience, timeout(self.patience, work).await)
    }
}

fn answered<T>(
    what: &'static str,
    patience: Duration,
    answer: Result<lapin::Result<T>, tokio::time::error::Elapsed>,
) -> Result<T, DeadError> {
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(DeadError::Broker { what, why: error.to_string() }),
        Err(_) => Err(DeadError::Broker {
            what,
            why: format!("no answer within {} ms (broker.publish_timeout)", patience.as_millis()),
        }),
    }
}
