//! The publish channel: one task takes what is to be sent, sends it, and tells each sender what became of it.
//!
//! A message is told to be safe only after an acknowledgement, and only where it was not returned. A message whose
//! channel ends before that is not told anything: its sender finds the answer dropped and takes it for unconfirmed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, ConnectionStatus};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::copies::numbered;
use super::headers::{Headers, PUBLISH_ID, number};
use super::ledger::{Confirmed, Ledger, Returned};
use super::lifeline::Lifeline;
use crate::pipeline::crash_point::{Point, reached};
use crate::pipeline::ports::PublishFailure;

/// Largest body sent, in bytes: half of what RabbitMQ accepts from 4.0 on. A larger one is answered with the end of
/// the channel, and of every confirm that is still to come on it.
pub(crate) const MAX_BODY: usize = 8 * 1024 * 1024;

/// Messages sent and not yet confirmed; further ones wait in the queue of jobs.
const WINDOW: usize = 512;

/// A message to be sent through the default exchange.
#[derive(Debug)]
pub struct Outgoing {
    /// The queue.
    pub queue: ShortString,
    /// All properties but the headers.
    pub properties: BasicProperties,
    /// The headers.
    pub headers: Headers,
    /// The body, at most [`MAX_BODY`].
    pub body: Bytes,
}

/// What a sender is told.
pub(crate) type Answer = Result<(), PublishFailure>;

/// A message and whoever waits to hear of it.
#[derive(Debug)]
pub(crate) struct Job {
    /// The message.
    pub outgoing: Outgoing,
    /// Dropped where nothing can be told.
    pub answer: oneshot::Sender<Answer>,
}

/// Sends jobs until `closing`, or until the channel fails, which ends the generation.
///
/// `patience` is how long the broker may confirm nothing at all while messages wait for it.
pub(crate) async fn serve(
    channel: Channel,
    connection: ConnectionStatus,
    jobs: &mut mpsc::Receiver<Job>,
    lifeline: Lifeline,
    closing: CancellationToken,
    patience: Duration,
) {
    let mut sent = Sent::default();
    let mut ledger = Ledger::default();
    let mut waiting = Waiting::default();
    let mut next_id: u64 = 0;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut progress = Instant::now();
    loop {
        tokio::select! {
            biased;
            _ = lifeline.ended() => return,
            completed = sent.completed(), if !sent.is_empty() => {
                progress = Instant::now();
                reached(Point::Replied);
                match read(completed) {
                    Ok(batch) => {
                        for (id, verdict) in ledger.judge(batch, sent.len()) {
                            waiting.tell(id, verdict);
                        }
                    }
                    Err(why) => lifeline.end(format!("the publish channel failed: {why}")),
                }
            }
            job = jobs.recv(), if sent.len() < WINDOW => {
                let Some(job) = job else { return };
                if job.answer.is_closed() {
                    continue;
                }
                if sent.is_empty() {
                    progress = Instant::now();
                }
                next_id += 1;
                waiting.add(next_id, job.answer);
                sent.start(next_id, publish(channel.clone(), next_id, job.outgoing)).await;
            }
            () = closing.cancelled() => return,
            _ = tick.tick() => {
                if sent.is_empty() || connection.blocked() {
                    progress = Instant::now();
                } else if progress.elapsed() > patience {
                    lifeline.end(format!("the broker has confirmed nothing for {} s", patience.as_secs()));
                }
            }
        }
    }
}

/// Puts the message on the wire at the first poll, as a whole; then waits for the confirm.
async fn publish(channel: Channel, id: u64, outgoing: Outgoing) -> lapin::Result<Confirmation> {
    let Outgoing { queue, properties, headers, body } = outgoing;
    let properties = properties.with_headers(numbered(headers, i64::try_from(id).unwrap_or(i64::MAX)));
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(ShortString::default(), queue, options, &body, properties).await?.await
}

fn read(completed: Vec<(u64, lapin::Result<Confirmation>)>) -> Result<Vec<(u64, Confirmed)>, String> {
    completed
        .into_iter()
        .map(|(id, confirmation)| {
            let confirmed = match confirmation.map_err(|error| error.to_string())? {
                Confirmation::Ack(beside) => Confirmed::Ack(beside.map(returned).transpose()?),
                Confirmation::Nack(beside) => Confirmed::Nack(beside.map(returned).transpose()?),
                Confirmation::NotRequested => return Err("it does not confirm".to_owned()),
            };
            Ok((id, confirmed))
        })
        .collect()
}

fn returned(message: BasicReturnMessage) -> Result<Returned, String> {
    let none = FieldTable::default();
    let id = number(message.delivery.properties.headers().as_ref().unwrap_or(&none), PUBLISH_ID)
        .ok_or("the broker returned a message without our number in it")?;
    let why = format!("{} ({})", message.reply_text.as_str(), message.reply_code);
    Ok(Returned { id, why })
}

/// Who waits to hear of which message.
#[derive(Default)]
struct Waiting(std::collections::HashMap<u64, oneshot::Sender<Answer>>);

impl Waiting {
    fn add(&mut self, id: u64, answer: oneshot::Sender<Answer>) {
        self.0.insert(id, answer);
    }

    fn tell(&mut self, id: u64, verdict: Answer) {
        if let Some(answer) = self.0.remove(&id) {
            // Whoever waited too long has gone.
            let _ = answer.send(verdict);
        }
    }
}

type Confirming = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// Messages sent and not confirmed yet.
#[derive(Default)]
struct Sent(Vec<(u64, Confirming)>);

impl Sent {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts a publish and polls it once, so that messages go out in the order in which they were started.
    async fn start(&mut self, id: u64, publish: impl Future<Output = lapin::Result<Confirmation>> + Send + 'static) {
        let mut publish: Confirming = Box::pin(publish);
        let first = poll_fn(|context| Poll::Ready(publish.as_mut().poll(context))).await;
        match first {
            Poll::Ready(done) => self.0.push((id, Box::pin(std::future::ready(done)))),
            Poll::Pending => self.0.push((id, publish)),
        }
    }

    /// Waits until confirms complete and returns all of them.
    ///
    /// Goes round until a whole round finds nothing new, so that whatever completed before the last one found is found
    /// too: the ledger relies on it.
    ///
    /// # Cancel safety
    /// What completed is returned in the poll that found it, so nothing is lost.
    async fn completed(&mut self) -> Vec<(u64, lapin::Result<Confirmation>)> {
        poll_fn(|context| {
            let mut completed = Vec::new();
            loop {
                let before = completed.len();
                let mut pending = Vec::with_capacity(self.0.len());
                for (id, mut confirming) in self.0.drain(..) {
                    match confirming.as_mut().poll(context) {
                        Poll::Ready(confirmation) => completed.push((id, confirmation)),
                        Poll::Pending => pending.push((id, confirming)),
                    }
                }
                self.0 = pending;
                if completed.len() == before {
                    break;
                }
            }
            if completed.is_empty() { Poll::Pending } else { Poll::Ready(completed) }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_completes_together_is_found_together_and_the_rest_stays() {
        let (first, one) = oneshot::channel();
        let (second, two) = oneshot::channel();
        let (_third, three) = oneshot::channel::<lapin::Result<Confirmation>>();
        let mut sent = Sent::default();
        for (id, told) in [(1, one), (2, two), (3, three)] {
            sent.start(id, async move { told.await.unwrap_or(Ok(Confirmation::NotRequested)) }).await;
        }
        let _ = second.send(Ok(Confirmation::Ack(None)));
        let _ = first.send(Ok(Confirmation::Ack(None)));
        let mut found: Vec<u64> = sent.completed().await.into_iter().map(|(id, _)| id).collect();
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
        assert_eq!(sent.len(), 1);
    }

    #[test]
    fn a_channel_that_does_not_confirm_is_an_error_and_no_success() {
        assert!(read(vec![(1, Ok(Confirmation::NotRequested))]).is_err());
        assert_eq!(read(vec![(1, Ok(Confirmation::Ack(None)))]), Ok(vec![(1, Confirmed::Ack(None))]));
    }
}
