//! The RabbitMQ door over a bad network: a relay between the worker and a real node cuts, swallows, delays and slows.
//! Whatever it does, every request is answered, readiness is honest, and the worker comes back by itself.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/door.rs"]
mod door;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/relay.rs"]
mod relay;

use std::collections::BTreeSet;
use std::time::Duration;

use client::{Replies, Requester};
use door::{Door, answer, settings, until};
use lapin::Consumer;
use rabbit::Rabbit;
use relay::{Relay, Weather};
use sharelink::config;
use tokio::time::Instant;

/// Within this the worker must notice that nothing arrives any more: twice the heartbeat of a second, its own rounds, and a
/// busy machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

/// A worker behind a relay, and a requester that reaches the node directly.
struct Setting {
    relay: Relay,
    door: Door,
    settings: config::Broker,
    requester: Requester,
    replies: Consumer,
    sent: usize,
    came: Replies,
}

impl Setting {
    async fn new() -> Self {
        let node = Rabbit::shared();
        let relay = Relay::before(node.port()).await;
        let settings = settings(&[relay.url()]);
        let door = Door::open(&settings, answer);
        door.ready().await;
        let requester = Requester::connect(&[node.url()]).await;
        let replies = requester.replies(&settings.reply_queue).await;
        Self { relay, door, settings, requester, replies, sent: 0, came: Replies::new() }
    }

    /// Publishes so many further requests; the body of each is its id.
    async fn ask(&mut self, count: usize) {
        let ids = (self.sent..self.sent + count).map(|number| (number.to_string(), number.to_string()));
        self.requester.publish(&self.settings.request_queue, ids).await;
        self.sent += count;
    }

    /// Waits until all requests are answered and off the queue, and says how many replies were repeats.
    async fn all_answered(&mut self) -> usize {
        while self.came.len() < self.sent {
            let reply = client::next(&mut self.replies, door::SOON).await;
            let (id, came) = reply.unwrap_or_else(|| panic!("{} of {} answered", self.came.len(), self.sent));
            self.came.entry(id).or_default().push(came);
        }
        door::soon("the last acknowledgement", async {
            loop {
                // A repeat may still be on its way, as long as a request is.
                while let Some((id, came)) = client::next(&mut self.replies, Duration::from_millis(300)).await {
                    self.came.entry(id).or_default().push(came);
                }
                if self.requester.ready(&self.settings.request_queue).await == 0 {
                    return;
                }
            }
        })
        .await;
        let asked: BTreeSet<String> = (0..self.sent).map(|number| number.to_string()).collect();
        assert_eq!(self.came.keys().cloned().collect::<BTreeSet<_>>(), asked);
        for came in self.came.values() {
            assert!(came.iter().all(|reply| reply == &came[0]), "repeats are the same message: {came:?}");
        }
        self.came.values().map(|came| came.len() - 1).sum()
    }

    async fn noticed(&self) -> String {
        let began = Instant::now();
        let why = self.door.not_ready().await;
        assert!(began.elapsed() < NOTICED_WITHIN, "noticed only after {:?}", began.elapsed());
        why
    }
}

#[tokio::test]
async fn connections_cut_again_and_again_cost_no_request() {
    const CUTS: usize = 4;
    let mut setting = Setting::new().await;
    for _ in 0..CUTS {
        setting.ask(30).await;
        setting.relay.cut();
        let began = Instant::now();
        setting.noticed().await;
        // Told before anything is cleared away, which may take its time.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        setting.door.ready().await;
    }
    let repeats = setting.all_answered().await;
    // At most what was in hand at each cut.
    assert!(repeats <= CUTS * usize::from(setting.settings.prefetch), "{repeats}");
    assert!(setting.door.reconnects() >= CUTS as u64);
    // Nothing of the generations before is left.
    until("two connections", || setting.relay.carried() == 2).await;
    setting.door.stop().await;
}

#[tokio::test]
async fn a_black_hole_is_noticed_told_and_left_behind() {
    let mut setting = Setting::new().await;
    setting.ask(20).await;
    setting.all_answered().await;
    setting.relay.weather(Weather::BlackHole);
    setting.ask(20).await;
    let why = setting.noticed().await;
    assert!(!why.is_empty());
    // New connections vanish in it as well, and the worker stays alive and not ready.
    until("an attempt in vain", || setting.door.health.ready().is_err_and(|why| why.contains("connect_timeout"))).await;
    assert_eq!(setting.door.health.live(Instant::now()), Ok(()));
    setting.relay.weather(Weather::Fair);
    setting.door.ready().await;
    setting.all_answered().await;
    setting.door.stop().await;
}

#[tokio::test]
async fn a_connection_dead_in_one_direction_is_noticed_in_both() {
    for weather in [Weather::DeafServer, Weather::DeafClient] {
        let mut setting = Setting::new().await;
        setting.ask(5).await;
        setting.all_answered().await;
        setting.relay.weather(weather);
        setting.ask(20).await;
        setting.noticed().await;
        setting.relay.weather(Weather::Fair);
        setting.door.ready().await;
        setting.all_answered().await;
        setting.door.stop().await;
    }
}

#[tokio::test]
async fn a_late_network_is_no_reason_to_reconnect() {
    let mut setting = Setting::new().await;
    setting.relay.weather(Weather::Late(Duration::from_millis(150)));
    setting.ask(100).await;
    assert_eq!(setting.all_answered().await, 0);
    assert_eq!(setting.door.reconnects(), 0);
    setting.door.stop().await;
}

#[tokio::test]
async fn a_slow_network_is_no_reason_to_reconnect() {
    let mut setting = Setting::new().await;
    // About 30 replies a second.
    setting.relay.weather(Weather::Slow(30_000));
    setting.ask(50).await;
    assert_eq!(setting.all_answered().await, 0);
    assert_eq!(setting.door.reconnects(), 0);
    setting.door.stop().await;
}

#[tokio::test]
async fn a_worker_that_starts_into_a_black_hole_comes_up_as_soon_as_it_ends() {
    let node = Rabbit::shared();
    let relay = Relay::before(node.port()).await;
    relay.weather(Weather::BlackHole);
    let mut settings = settings(&vec![relay.url(); 12]);
    settings.connect_timeout = Duration::from_millis(200);
    let door = Door::open(&settings, answer);
    until("a round in vain", || door.health.ready().is_err_and(|why| why.contains("connect_timeout"))).await;
    assert_eq!(door.health.live(Instant::now()), Ok(()));
    relay.weather(Weather::Fair);
    door.ready().await;
    // Of the attempts before, none hangs on.
    until("two connections", || relay.carried() == 2).await;
    door.stop().await;
}

#[tokio::test]
async fn a_worker_told_to_stop_in_a_black_hole_stops() {
    let mut setting = Setting::new().await;
    setting.ask(5).await;
    setting.all_answered().await;
    setting.relay.weather(Weather::BlackHole);
    setting.door.stopping.cancel();
    let began = Instant::now();
    setting.door.stop().await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}
