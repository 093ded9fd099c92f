//! One generation: two connections and everything on them, built whole and given up whole.
//!
//! The first connection consumes and acknowledges, the second publishes, because the broker stops reading from a
//! connection that publishes while it is short of memory or disk, acknowledgements included. Whatever fails on
//! either ends the generation; nothing of it is repaired.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicQosOptions;
use lapin::{Channel, Connection, Consumer};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::connection::{ConnectError, Dialer, ROLES, SMALL_FRAMES, look, watch_events};
use super::consumer::{Intake, subscribe, unsubscribe};
use super::lifeline::Lifeline;
use super::pace::Manner;
use super::publishing::{self, Job};
use super::topology::{self, TopologyError};
use super::watchdog::{Look, Watchdog};
use super::{Publisher, depth, headers, settler};
use crate::config;
use crate::pipeline::ports::Handler;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Channels, topology, prefetch and subscription together, once connected.
const SET_UP_WITHIN: Duration = Duration::from_secs(60);
/// Each step of closing down in good order.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// Each step of closing what is left of a lost generation. What is not closed by then is dropped, which closes it too.
const CLEAR_WITHIN: Duration = Duration::from_secs(1);

/// What outlives a generation.
pub(crate) struct Context<H> {
    pub settings: config::Broker,
    pub worker_name: String,
    pub handler: Arc<H>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub grace: Duration,
    pub stopping: CancellationToken,
    pub publisher: Publisher,
    /// Locked by the generation that publishes.
    pub jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
}

impl<H> Context<H> {
    fn up(&self, up: bool) {
        if up {
            self.health.open();
        }
        for role in ROLES {
            self.metrics.broker_connected(role, up);
        }
    }
}

/// Why a generation could not be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error("the broker refused the worker's channels: {0}")]
    Channel(#[from] lapin::Error),
    #[error("the broker did not set up the worker's channels and queues within {} s", SET_UP_WITHIN.as_secs())]
    TooSlow,
}

/// How a generation ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The worker stops, and everything it held is settled.
    Stopped,
    /// Something failed.
    Lost(String),
    /// It was a careful one, and nothing failed.
    Calm,
}

/// Connections and channels, ready for work.
pub(crate) struct Generation {
    consuming: Connection,
    publishing: Arc<Connection>,
    consume: Channel,
    publish: Channel,
    consumer: Consumer,
    prefetch: u16,
    /// For how long it works, where that is limited.
    lasts: Option<Duration>,
}

impl Generation {
    /// Connects, declares, subscribes: all of it or nothing.
    pub(crate) async fn build<H>(
        dialer: &mut Dialer,
        context: &Context<H>,
        manner: Manner,
    ) -> Result<Self, BuildError> {
        let (prefetch, lasts) = manner.bounds(context.settings.prefetch);
        let name = |role: &str| format!("sharelink {} {role}", context.worker_name);
        // A request's headers come in one frame, as long as the broker lets its publishers make them.
        let consuming = dialer.dial(&name("consume"), None).await?;
        let dialled = dialer.dial(&name("publish"), Some(SMALL_FRAMES)).await?;
        let set_up = async {
            topology::establish(&consuming, &context.settings).await?;
            let publish = publishing::open(&dialled).await?;
            let consume = consuming.create_channel().await?;
            // For each consumer of the channel; `global` means something else and is denied from RabbitMQ 4.3 on.
            consume.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
            let consumer = subscribe(&consume, &context.settings.request_queue, &context.worker_name).await?;
            Ok::<_, BuildError>((publish, consume, consumer))
        };
        let (publish, consume, consumer) = timeout(SET_UP_WITHIN, set_up).await.map_err(|_| BuildError::TooSlow)??;
        let publishing = Arc::new(dialled);
        Ok(Self { consuming, publishing, consume, publish, consumer, prefetch, lasts })
    }

    /// Works until the worker stops or something fails.
    pub(crate) async fn serve<H: Handler<Publisher>>(self, context: &Context<H>, watchdog: &mut Watchdog) -> End {
        let Self { consuming, publishing, consume, publish, consumer, prefetch, lasts } = self;
        let lifeline = Lifeline::default();
        let (blocked_sender, blocked) = watch::channel(None);
        watch_events(&consuming, "consume", lifeline.clone(), None);
        watch_events(&publishing, "publish", lifeline.clone(), Some(blocked_sender));

        let closing = CancellationToken::new();
        let publish_task = tokio::spawn({
            let (jobs, lifeline, closing) = (context.jobs.clone(), lifeline.clone(), closing.clone());
            let connection = publishing.clone();
            let patience = context.settings.publish_timeout.saturating_mul(4);
            async move {
                let mut jobs = jobs.lock().await;
                publishing::serve(publish, connection, &mut jobs, lifeline, closing, patience).await;
            }
        });
        let (delivered_sender, delivered) = mpsc::unbounded_channel();
        let (settled_sender, settled) = mpsc::unbounded_channel();
        let settle_task = tokio::spawn(settler::settle(
            consume.clone(),
            delivered,
            settled,
            prefetch,
            context.metrics.clone(),
            lifeline.clone(),
        ));
        let mut intake = Intake::new(
            context.handler.clone(),
            context.publisher.clone(),
            delivered_sender,
            settled_sender,
            context.stopping.child_token(),
        );
        let mut subscription = Subscription { channel: consume.clone(), consumer: Some(consumer), blocked };
        let (ready_sender, ready) = watch::channel(0);
        watchdog.begin();

        context.up(true);
        let lost = tokio::select! {
            biased;
            why = lifeline.ended() => Some(Some(why)),
            () = context.stopping.cancelled() => None,
            () = after(lasts) => Some(None),
            why = work(context, &mut intake, &mut subscription, ready, watchdog, prefetch) => Some(Some(why)),
            why = look([consuming.status(), publishing.status()], &consume) => Some(Some(why)),
            never = depth::watch(&consuming, &context.settings, &context.metrics, ready_sender) => match never {},
        };
        let lost = match lost {
            Some(why) => {
                // Told before anything is cleared away, which may take its time.
                context.health.down(why.as_deref().unwrap_or("the connections are being replaced"));
                context.up(false);
                intake.leave();
                Some(why)
            }
            None => {
                context.health.stopping();
                info!(
                    grace_seconds = context.grace.as_secs(),
                    "stopping: what is in hand is finished, nothing new is taken"
                );
                tokio::select! {
                    biased;
                    why = lifeline.ended() => Some(Some(why)),
                    () = drain(context.grace, intake, subscription, settle_task) => None,
                }
            }
        };
        let within = if lost.is_some() { CLEAR_WITHIN } else { CLOSE_WITHIN };
        // Nothing waits for a confirm any more, or it cannot come.
        closing.cancel();
        let _ = timeout(within, publish_task).await;
        context.up(false);
        let end = match lost {
            Some(Some(why)) => End::Lost(why),
            Some(None) => End::Calm,
            None => End::Stopped,
        };
        // The broker hands out what was not settled as soon as the consuming connection is closed.
        let quiet = |what| async move { drop(timeout(within, what).await) };
        let closed = [&consuming, &*publishing].map(|connection| quiet(connection.close(200, headers::short("OK"))));
        futures_util::future::join_all(closed).await;
        lifeline.end("closed");
        end
    }
}

/// Waits for so long; for ever where nothing is said.
async fn after(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// The subscription of a generation, which pauses while the broker blocks publishing.
struct Subscription {
    channel: Channel,
    consumer: Option<Consumer>,
    blocked: watch::Receiver<Option<String>>,
}

/// The next delivery; none while paused.
async fn next(consumer: &mut Option<Consumer>) -> Option<lapin::Result<Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// Takes deliveries until something fails, and says what.
async fn work<H: Handler<Publisher>>(
    context: &Context<H>,
    intake: &mut Intake<H>,
    subscription: &mut Subscription,
    mut ready: watch::Receiver<u32>,
    watchdog: &mut Watchdog,
    prefetch: u16,
) -> String {
    let began = Instant::now();
    loop {
        tokio::select! {
            biased;
            Ok(()) = subscription.blocked.changed() => {
                let why = subscription.blocked.borrow_and_update().clone();
                if let Err(error) = pause_or_resume(context, intake, subscription, why.as_deref()).await {
                    return format!("consuming could not be resumed: {error}");
                }
            }
            Ok(()) = ready.changed() => {
                let look = Look {
                    at: began.elapsed(),
                    ready: *ready.borrow_and_update(),
                    taken: intake.taken(),
                    held: intake.held(),
                    prefetch,
                    paused: subscription.consumer.is_none(),
                };
                if let Some(why) = watchdog.look(look) {
                    return why;
                }
            }
            delivery = next(&mut subscription.consumer) => match delivery {
                Some(Ok(delivery)) => intake.start(delivery),
                Some(Err(error)) => return format!("the consumer failed: {error}"),
                None => return format!(
                    "the broker ended the subscription to {:?}; it does so when the queue is deleted or its node leaves",
                    context.settings.request_queue
                ),
            },
        }
    }
}

/// While the broker takes no messages, a request that is taken could only be given back again, and each time counts
/// towards its delivery limit. So none is taken.
async fn pause_or_resume<H: Handler<Publisher>>(
    context: &Context<H>,
    intake: &mut Intake<H>,
    subscription: &mut Subscription,
    blocked: Option<&str>,
) -> lapin::Result<()> {
    match (blocked, subscription.consumer.take()) {
        (Some(why), Some(consumer)) => {
            context.health.blocked(why);
            for delivery in unsubscribe(&subscription.channel, consumer).await {
                intake.start(delivery);
            }
        }
        (None, None) => {
            let Context { settings, worker_name, .. } = context;
            let consumer = subscribe(&subscription.channel, &settings.request_queue, worker_name).await?;
            subscription.consumer = Some(consumer);
            context.health.open();
            info!("the broker takes messages again; consuming is resumed");
        }
        (_, consumer) => subscription.consumer = consumer,
    }
    Ok(())
}

/// Takes nothing new, finishes what is in hand within `grace`, gives back the rest, and waits until the broker was
/// told of all of it.
async fn drain<H: Handler<Publisher>>(
    grace: Duration,
    intake: Intake<H>,
    subscription: Subscription,
    settle_task: JoinHandle<()>,
) {
    let Subscription { channel, consumer, .. } = subscription;
    if let Some(consumer) = consumer {
        for delivery in unsubscribe(&channel, consumer).await {
            intake.give_back(&delivery);
        }
    }
    intake.finish(grace).await;
    // With the intake the last receipt is gone, so the settler ends when it has settled everything.
    if timeout(CLOSE_WITHIN, settle_task).await.is_err() {
        warn!("the broker did not take every acknowledgement in time; it will hand those requests out again");
    }
    // The broker answers this only after it has read every acknowledgement before it.
    let _ = timeout(CLOSE_WITHIN, channel.close(200, headers::short("OK"))).await;
}
