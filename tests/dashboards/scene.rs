//! A busy afternoon in a minute: two workers at a real RabbitMQ, simulated providers with every fault, and requests that end
//! in every way, for as long as it is looked at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::BasicProperties;
use serde_json::{Value, json};
use sharelink::simulate::{self, Options, Simulator};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::process::{Setup, Worker};
use crate::rabbit::Rabbit;
use crate::requester::{Requester, asking};

/// Between two rounds of requests.
const ROUND: Duration = Duration::from_millis(500);

/// Item names that order the providers' faults, once for each account in a round, in turn.
const WORDS: [&str; 14] = [
    "plain",
    "plain",
    "missing",
    "forbidden",
    "flaky",
    "gateway",
    "lost",
    "wider",
    "throttled-2",
    "garbage",
    "locked",
    "slow-1500",
    "expired",
    "down",
];

pub struct Scene {
    pub workers: [Worker; 2],
    pub broker_metrics: u16,
    _broker: Rabbit,
    _simulator: Simulator,
    requests: JoinHandle<()>,
}

impl Scene {
    pub async fn busy() -> Self {
        let (broker, broker_metrics) = tokio::task::block_in_place(|| {
            let broker = Rabbit::new();
            let port = broker.serve_metrics();
            (broker, port)
        });
        let options =
            Options { latency: Duration::from_millis(30), jitter: Duration::from_millis(60), ..Options::default() };
        let simulator = simulate::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), options).await;
        let mut setup = Setup::with_default_names(&broker.url(), simulator.address);
        for (key, value) in [
            ("RETRY__INITIAL_INTERVAL", "50ms"),
            ("RETRY__MAX_INTERVAL", "500ms"),
            ("RETRY__INLINE_LIMIT", "1s"),
            ("BROKER__HEARTBEAT", "2s"),
            ("BROKER__PREFETCH", "16"),
            ("PROVIDERS__CONTOSO__LIMITS__MAX_IN_FLIGHT", "8"),
            ("PROVIDERS__CONTENT__LIMITS__REQUESTS_PER_MINUTE", "600"),
        ] {
            setup.set(key, value);
        }
        let workers = [setup.ready().await, setup.ready().await];
        let requester = Requester::new(&broker.url()).await;
        let requests = tokio::spawn(keep_asking(requester, setup.names.requests.clone()));
        Self { workers, broker_metrics, _broker: broker, _simulator: simulator, requests }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.requests.abort();
    }
}

async fn keep_asking(requester: Requester, queue: String) {
    let mut tick = interval(ROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_usize.. {
        tick.tick().await;
        let word = WORDS[round % WORDS.len()];
        for provider in ["contoso", "personal", "content"] {
            // Some items are asked for again, so that links are reused.
            let name = format!("{word}-{}", number(round));
            send(&requester, &queue, &request(provider, &name)).await;
            send(&requester, &queue, &request(provider, &format!("again-{}", round % 5))).await;
        }
        match round % 8 {
            0 => send(&requester, &queue, &json!({ "provider": "contoso", "item": 7 })).await,
            1 => send(&requester, &queue, &request("nobody", "plain")).await,
            _ => {}
        }
    }
}

/// A number without a meaning for the fault words before it.
fn number(round: usize) -> String {
    format!("n{round}")
}

fn request(provider: &str, word: &str) -> Value {
    let item = json!({ if provider == "content" { "fileId" } else { "itemId" }: word });
    let link = match provider {
        "content" => json!({ "assignedUsers": "@serviceinstance" }),
        "personal" => json!({ "type": "view" }),
        _ => json!({ "type": "view", "scope": "organization" }),
    };
    json!({ "provider": provider, "item": item, "link": link })
}

async fn send(requester: &Requester, queue: &str, body: &Value) {
    static SENT: AtomicU64 = AtomicU64::new(0);
    let correlation = SENT.fetch_add(1, Ordering::Relaxed).to_string();
    // The requester's clock: whole seconds, as AMQP has them.
    #[allow(clippy::disallowed_methods, reason = "a program of somebody else's, with the real time")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let properties: BasicProperties = asking(&requester.queue, &correlation).with_timestamp(now);
    requester.publish("", queue, body.to_string().as_bytes(), properties).await;
}
