//! The RabbitMQ door of a worker in this process, with a handler that does what the test says.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sharelink::broker::{self, Moved, Publisher, Replied, StartError};
use sharelink::config::{self, QueueType, Topology};
use sharelink::model::{Envelope, Granted, Made, Object, Reply, Secret, Status};
use sharelink::pipeline::ports::{Handler, Outbox};
use sharelink::pipeline::settle::{Answered, RequeueCause, Settlement};
use sharelink::telemetry::health::Health;
use sharelink::telemetry::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; no test waits for it unless it fails.
pub const SOON: Duration = Duration::from_secs(60);

pub type Outcome = Settlement<Replied, Moved>;

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: not within {} s", SOON.as_secs()))
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Settings with queues of their own and short times.
pub fn settings(urls: &[String]) -> config::Broker {
    let prefix = uuid::Uuid::new_v4().simple().to_string();
    config::Broker {
        urls: urls.iter().map(Secret::new).collect(),
        request_queue: format!("{prefix}.requests"),
        reply_queue: format!("{prefix}.replies"),
        dead_letter_queue: format!("{prefix}.dead"),
        exchange: format!("{prefix}.sharelink"),
        prefetch: 64,
        topology: Topology::Declare,
        queue_type: QueueType::Quorum,
        reply_to_allow: vec!["*".to_owned()],
        max_request_bytes: 1024 * 1024,
        max_deliveries: 1000,
        connect_timeout: Duration::from_secs(2),
        publish_timeout: Duration::from_secs(2),
        heartbeat: Duration::from_secs(1),
    }
}

/// A running door.
pub struct Door {
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub stopping: CancellationToken,
    pub worker: JoinHandle<Result<(), StartError>>,
}

/// A handler that is a function.
struct Scripted<F>(F);

impl<F, T> Handler<Publisher> for Scripted<F>
where
    F: Fn(Envelope, Publisher) -> T + Send + Sync + 'static,
    T: Future<Output = Outcome> + Send,
{
    async fn handle(&self, envelope: &Envelope, outbox: &Publisher, _: &CancellationToken) -> Outcome {
        (self.0)(envelope.clone(), outbox.clone()).await
    }
}

impl Door {
    pub fn open<F, T>(settings: &config::Broker, script: F) -> Self
    where
        F: Fn(Envelope, Publisher) -> T + Send + Sync + 'static,
        T: Future<Output = Outcome> + Send + 'static,
    {
        let queues = [settings.request_queue.as_str(), &settings.reply_queue, &settings.dead_letter_queue];
        let metrics = Arc::new(Metrics::new(&["contoso"], &queues).unwrap());
        let health = Arc::new(Health::new(Instant::now()));
        let stopping = CancellationToken::new();
        let worker = tokio::spawn({
            let (metrics, health, stopping, settings) =
                (metrics.clone(), health.clone(), stopping.clone(), settings.clone());
            async move {
                let handler = Arc::new(Scripted(script));
                broker::run(&settings, "worker-1".to_owned(), handler, metrics, health, SOON, stopping).await
            }
        });
        Self { metrics, health, stopping, worker }
    }

    pub async fn ready(&self) {
        soon("the worker is ready", self.health.until_ready()).await;
    }

    pub async fn not_ready(&self) -> String {
        soon("the worker is not ready", self.health.until_not_ready()).await;
        self.health.ready().err().unwrap_or_default()
    }

    pub async fn stop(mut self) {
        self.stopping.cancel();
        soon("the worker stops", &mut self.worker).await.unwrap().unwrap();
    }

    pub fn count(&self, series: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no series {series}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64
    }

    pub fn reconnects(&self) -> u64 {
        self.count("sharelink_broker_reconnects_total")
    }

    pub fn settlements(&self, settlement: &str, cause: &str) -> u64 {
        self.count(&format!("sharelink_settlements_total{{cause=\"{cause}\",settlement=\"{settlement}\"}}"))
    }
}

/// The reply to a request whose body is its id.
pub fn reply(envelope: &Envelope) -> Reply {
    let link = Granted {
        id: "L1".to_owned(),
        url: "https://contoso.example/x".to_owned(),
        html: None,
        granted: Object::default(),
    };
    Reply {
        id: String::from_utf8_lossy(&envelope.body).into_owned(),
        provider: Some("contoso".to_owned()),
        item: None,
        result: Ok((Made::Created, link)),
        warnings: Vec::new(),
        attempts: 1,
        elapsed_ms: 5,
        completed_at: "2026-11-22T10:00:00Z".parse().unwrap(),
    }
}

pub fn ack(proof: Replied) -> Outcome {
    let answered = Answered { provider: Some("contoso".into()), status: Status::Created, malformed: false };
    Settlement::Ack { proof, answered }
}

/// Replies once and settles as the pipeline does.
pub async fn answer(envelope: Envelope, outbox: Publisher) -> Outcome {
    match outbox.reply(&envelope, &reply(&envelope)).await {
        Ok(proof) => ack(proof),
        Err(_) => Settlement::Requeue(RequeueCause::Unconfirmed),
    }
}
