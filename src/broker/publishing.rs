//! The publish channel: one task takes what is to be sent, sends it, and tells each sender what became of it.
//!
//! A message is told to be safe only after an acknowledgement, and only where it was not returned. A message whose
//! channel ends before that is not told anything: its sender finds the answer dropped and takes it for unconfirmed.
//! A channel by which a queue keeps refusing what it is sent is replaced in between two messages, at nobody's cost.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::copies::numbered;
use super::headers::{Headers, PUBLISH_ID, number, short};
use super::ledger::{Confirmed, Ledger, Returned};
use super::lifeline::Lifeline;
use super::refusals::Refusals;
use crate::pipeline::crash_point::{Point, reached};
use crate::pipeline::ports::PublishFailure;

/// Largest body sent, in bytes: half of what RabbitMQ accepts from 4.0 on. A larger one is answered with the end of
/// the channel, and of every confirm that is still to come on it.
pub(crate) const MAX_BODY: usize = 8 * 1024 * 1024;

/// Messages sent and not yet confirmed; further ones wait in the queue of jobs.
const WINDOW: usize = 512;

/// Replacing the channel, and closing the old one.
const REPLACE_WITHIN: Duration = Duration::from_secs(10);

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
    pub outgoing: Box<Outgoing>,
    /// Dropped where nothing can be told.
    pub answer: oneshot::Sender<Answer>,
}

/// A channel that confirms.
///
/// # Errors
/// What the broker says where it refuses one.
pub(crate) async fn open(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
    Ok(channel)
}

/// Sends jobs until `closing`, or until the channel fails, which ends the generation.
///
/// `patience` is how long the broker may confirm nothing at all while messages wait for it.
pub(crate) async fn serve(
    channel: Channel,
    connection: Arc<Connection>,
    jobs: &mut mpsc::Receiver<Job>,
    lifeline: Lifeline,
    closing: CancellationToken,
    patience: Duration,
) {
    // A channel is a dozen handles; each message holds one of this.
    let mut channel = Arc::new(channel);
    let mut sent = Sent::default();
    let mut ledger = Ledger::default();
    let mut waiting = Waiting::default();
    let mut refusals = Refusals::default();
    let mut replace = false;
    let mut next_id: u64 = 0;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let began = Instant::now();
    let mut progress = began;
    loop {
        if replace && sent.is_empty() {
            replace = false;
            match renew(&connection, &mut channel, &lifeline).await {
                Ok(()) => ledger = Ledger::default(),
                Err(why) => lifeline.end(why),
            }
        }
        tokio::select! {
            biased;
            _ = lifeline.ended() => return,
            completed = sent.completed(), if !sent.is_empty() => {
                progress = Instant::now();
                reached(Point::Replied);
                match read(completed) {
                    Ok(batch) => {
                        for (id, verdict) in ledger.judge(batch, sent.len()) {
                            let Some(Sender { queue, answer }) = waiting.remove(&id) else { continue };
                            replace |= refusals.note(queue.as_str(), &verdict, began.elapsed());
                            // Whoever waited too long has gone.
                            let _ = answer.send(verdict);
                        }
                    }
                    Err(why) => lifeline.end(format!("the publish channel failed: {why}")),
                }
            }
            job = jobs.recv(), if sent.len() < WINDOW && !replace => {
                let Some(Job { outgoing, answer }) = job else { return };
                if answer.is_closed() {
                    continue;
                }
                if sent.is_empty() {
                    progress = Instant::now();
                }
                next_id += 1;
                waiting.insert(next_id, Sender { queue: outgoing.queue.clone(), answer });
                sent.start(next_id, publish(channel.clone(), next_id, outgoing));
            }
            () = closing.cancelled() => return,
            _ = tick.tick() => {
                if !channel.status().connected() {
                    lifeline.end("the publish channel is closed");
                }
                if sent.is_empty() || connection.status().blocked() {
                    progress = Instant::now();
                } else if progress.elapsed() > patience {
                    lifeline.end(format!("the broker has confirmed nothing for {} s", patience.as_secs()));
                }
            }
        }
    }
}

/// Puts a new channel in the place of `channel`, on which no confirm is to come any more.
async fn renew(connection: &Connection, channel: &mut Arc<Channel>, lifeline: &Lifeline) -> Result<(), String> {
    info!(
        "a queue refuses what it is sent; the publish channel is replaced, which may still know a leader that is gone"
    );
    let opened = tokio::select! {
        opened = timeout(REPLACE_WITHIN, open(connection)) => opened,
        _ = lifeline.ended() => return Ok(()),
    };
    let opened = opened.map_err(|_| format!("no new publish channel within {} s", REPLACE_WITHIN.as_secs()))?;
    let opened = opened.map_err(|error| format!("no new publish channel: {error}"))?;
    let old = std::mem::replace(channel, Arc::new(opened));
    tokio::spawn(async move { drop(timeout(REPLACE_WITHIN, old.close(200, short("OK"))).await) });
    Ok(())
}

/// Puts the message on the wire at the first poll, as a whole; then waits for the confirm.
async fn publish(channel: Arc<Channel>, id: u64, outgoing: Box<Outgoing>) -> lapin::Result<Confirmation> {
    let Outgoing { queue, properties, headers, body } = *outgoing;
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

/// Whoever waits to hear of a message, and the queue that it was sent to.
struct Sender {
    queue: ShortString,
    answer: oneshot::Sender<Answer>,
}

/// By publish id.
type Waiting = HashMap<u64, Sender>;

type Confirming = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// Messages sent and not confirmed yet. Only those that something happened to are looked at.
#[derive(Default)]
struct Sent {
    confirming: HashMap<u64, (Confirming, Waker)>,
    woken: Arc<Woken>,
}

/// Which messages something happened to since the last look, in the order in which it happened.
#[derive(Default)]
struct Woken(Mutex<WokenState>);

#[derive(Default)]
struct WokenState {
    ids: Vec<u64>,
    task: Option<Waker>,
}

impl Woken {
    fn state(&self) -> MutexGuard<'_, WokenState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of one message.
struct Bell {
    id: u64,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.woken.state();
        state.ids.push(self.id);
        let task = state.task.take();
        drop(state);
        // Once is enough: the task takes all of them.
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Sent {
    fn len(&self) -> usize {
        self.confirming.len()
    }

    fn is_empty(&self) -> bool {
        self.confirming.is_empty()
    }

    /// Starts a publish and polls it once, so that messages go out in the order in which they were started.
    fn start(&mut self, id: u64, publish: impl Future<Output = lapin::Result<Confirmation>> + Send + 'static) {
        let mut publish: Confirming = Box::pin(publish);
        let bell = Waker::from(Arc::new(Bell { id, woken: self.woken.clone() }));
        if let Poll::Ready(done) = publish.as_mut().poll(&mut Context::from_waker(&bell)) {
            publish = Box::pin(std::future::ready(done));
            bell.wake_by_ref();
        }
        self.confirming.insert(id, (publish, bell));
    }

    /// Waits until confirms complete and returns all of them.
    ///
    /// A confirm that completes rings before any later one completes, and goes round until nobody has rung any more: so
    /// whatever completed before the last one found is found too. The ledger relies on it.
    ///
    /// # Cancel safety
    /// What completed is returned in the poll that found it, so nothing is lost.
    async fn completed(&mut self) -> Vec<(u64, lapin::Result<Confirmation>)> {
        poll_fn(|context| {
            let mut completed = Vec::new();
            loop {
                let ids = {
                    let mut state = self.woken.state();
                    if state.ids.is_empty() {
                        state.task = Some(context.waker().clone());
                        break;
                    }
                    std::mem::take(&mut state.ids)
                };
                for id in ids {
                    let Some((confirming, bell)) = self.confirming.get_mut(&id) else { continue };
                    if let Poll::Ready(confirmation) = confirming.as_mut().poll(&mut Context::from_waker(bell)) {
                        self.confirming.remove(&id);
                        completed.push((id, confirmation));
                    }
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
            sent.start(id, async move { told.await.unwrap_or(Ok(Confirmation::NotRequested)) });
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
