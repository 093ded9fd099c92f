//! The way out: replies, dead letters and delays, each with a proof that it is safe with the broker.
//!
//! [`Replied`] and [`Moved`] are made here and nowhere else, and only after the publish channel has told that the
//! message was confirmed and not returned.

use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use super::publishing::{Job, MAX_BODY, Outgoing};
use super::replies::{Routes, To, compose};
use super::{copies, topology};
use crate::config;
use crate::model::{Envelope, Reply, Travel};
use crate::pipeline::ports::{DeathNote, Outbox, PublishFailure};

/// Jobs that wait for the publish channel. Further senders wait within their own time limit.
const WAITING_JOBS: usize = 512;

/// Proof that a reply is safe with the broker.
#[derive(Debug, PartialEq, Eq)]
pub struct Replied(());

/// Proof that a request is safe in another queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved(());

/// The outbox of one delivery. It knows the delivery's own properties and headers, so that a copy of the request can
/// keep those that an envelope has no place for.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    original: Arc<BasicProperties>,
}

#[derive(Debug)]
struct Shared {
    routes: Routes,
    request_queue: String,
    dead_letter_queue: String,
    worker_name: String,
    publish_timeout: Duration,
    jobs: mpsc::Sender<Job>,
}

impl Publisher {
    /// A publisher and the other end, from which the publish channel of each generation takes its jobs.
    pub(crate) fn new(settings: &config::Broker, worker_name: String) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, receiver) = mpsc::channel(WAITING_JOBS);
        let shared = Shared {
            routes: Routes::new(settings),
            request_queue: settings.request_queue.clone(),
            dead_letter_queue: settings.dead_letter_queue.clone(),
            worker_name,
            publish_timeout: settings.publish_timeout,
            jobs,
        };
        (Self { shared: Arc::new(shared), original: Arc::default() }, receiver)
    }

    /// The outbox of the delivery that came with these properties.
    pub(crate) fn of(&self, original: BasicProperties) -> Self {
        Self { shared: self.shared.clone(), original: Arc::new(original) }
    }

    /// Sends and waits for the verdict; while there is no connection it waits for one, all within the time limit.
    /// A message is half a kilobyte of properties: on the heap, or every future that waits for it is as much larger.
    async fn send(&self, outgoing: Box<Outgoing>) -> Result<(), PublishFailure> {
        if outgoing.body.len() > MAX_BODY {
            let size = outgoing.body.len();
            return Err(PublishFailure::Unroutable(format!("{size} bytes are more than the {MAX_BODY} that are sent")));
        }
        let (answer, told) = oneshot::channel();
        let unconfirmed = |why: String| Err(PublishFailure::Unconfirmed(why));
        let limit = self.shared.publish_timeout;
        let sending = async {
            if self.shared.jobs.send(Job { outgoing, answer }).await.is_err() {
                return unconfirmed("the worker has stopped publishing".to_owned());
            }
            told.await.unwrap_or_else(|_| unconfirmed("the connection ended before the confirm".to_owned()))
        };
        match timeout(limit, sending).await {
            Ok(verdict) => verdict,
            Err(_) => unconfirmed(format!("no confirm within {} ms (broker.publish_timeout)", limit.as_millis())),
        }
    }

    async fn send_reply(&self, envelope: &Envelope, reply: &Reply, to: To<'_>) -> Result<(), PublishFailure> {
        let outgoing = compose(&self.shared.routes, envelope, reply, to)
            .map(Box::new)
            .map_err(|error| PublishFailure::Unroutable(format!("the reply cannot be written: {error}")))?;
        self.send(outgoing).await
    }
}

impl Outbox for Publisher {
    type Replied = Replied;
    type Moved = Moved;

    async fn reply(&self, envelope: &Envelope, reply: &Reply) -> Result<Replied, PublishFailure> {
        if let Some(queue) = self.shared.routes.asked(envelope) {
            match self.send_reply(envelope, reply, To::Asked(queue)).await {
                Err(PublishFailure::Unroutable(why)) => {
                    warn!(
                        request = reply.id,
                        why, "no queue takes the reply where it was asked for; it goes to the configured reply queue"
                    );
                }
                settled => return settled.map(Replied),
            }
        }
        self.send_reply(envelope, reply, To::Configured).await.map(Replied)
    }

    async fn bury(&self, envelope: &Envelope, why: &DeathNote) -> Result<Moved, PublishFailure> {
        let Shared { dead_letter_queue, worker_name, .. } = &*self.shared;
        let copy = copies::dead_letter(dead_letter_queue, &self.original, &envelope.body, why, worker_name);
        self.send(Box::new(copy)).await.map(Moved)
    }

    async fn delay(&self, envelope: &Envelope, wait: Duration, travel: Travel) -> Result<Moved, PublishFailure> {
        let queue = topology::delay_queue(&self.shared.request_queue, wait);
        self.send(Box::new(copies::delayed(&queue, &self.original, &envelope.body, travel))).await.map(Moved)
    }
}
