//! The metrics of the contract, in a registry of our own. A metric's help text stands beside its name; every series
//! that can exist is there from the start, at zero.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::account::LinkCalls;
pub use super::account::ProviderMetrics;
use super::durations::Durations;
use super::oldest::{Holding, Oldest};
use super::recent::Recent;
use crate::model::{ErrorKind, Status};

/// Label value for requests that name no configured provider.
pub const NO_PROVIDER: &str = "none";

/// Bucket limits in seconds for one stay of a request in the worker, waits in delay queues left out: a fast reuse to a call
/// that takes minutes. 15 s is the objective of dashboards/recording.yml.
const REQUEST_BUCKETS: [f64; 5] = [0.1, 0.5, 2.5, 15.0, 300.0];
/// Bucket limits in seconds for one provider call; Graph's createLink is known to take minutes at worst.
const CALL_BUCKETS: [f64; 6] = [0.1, 0.25, 0.5, 1.0, 5.0, 60.0];
/// Bucket limits in seconds for the wait in the request queue; the AMQP timestamp has whole seconds.
const WAIT_BUCKETS: [f64; 6] = [1.0, 5.0, 30.0, 300.0, 1800.0, 7200.0];

/// How a delivery was settled, with the causes each settlement can have.
const SETTLEMENTS: &[(&str, &[&str])] = &[
    ("ack", &["answered", "malformed"]),
    ("requeue", &["stopping", "unconfirmed", "dropped"]),
    ("delay", &["paused", "turn", "backoff"]),
    ("dead_letter", &["unroutable", "crashing"]),
    ("stale", &["connection_lost"]),
];

/// The operations a provider call can be.
pub const OPERATIONS: [&str; 7] =
    ["create_link", "list_links", "resolve_share", "revoke_link", "edit_link", "batch", "token"];

/// Reasons for another attempt.
const RETRY_REASONS: [ErrorKind; 5] =
    [ErrorKind::RateLimited, ErrorKind::Unavailable, ErrorKind::TimedOut, ErrorKind::Locked, ErrorKind::Conflict];

/// Why no call is made for a while: the provider asked for it, or we gave up calling it for now.
const PAUSE_CAUSES: [&str; 2] = ["retry_after", "breaker"];

/// All metrics. Cheap handles; share it behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    links: IntCounterVec,
    failures: IntCounterVec,
    replies: IntCounterVec,
    settlements: IntCounterVec,
    settled: Vec<(&'static str, &'static str, IntCounter)>,
    answers: Vec<Answers>,
    request_duration: HistogramVec,
    /// `sharelink_queue_wait_seconds`
    pub queue_wait: Histogram,
    provider_calls: IntCounterVec,
    call_duration: HistogramVec,
    retries: IntCounterVec,
    throttle_wait: CounterVec,
    throttle_limit: GaugeVec,
    in_flight: IntGaugeVec,
    in_flight_limit: IntGaugeVec,
    paused: IntGaugeVec,
    pauses: IntCounterVec,
    queue_ready: IntGaugeVec,
    queue_info: IntGaugeVec,
    oldest: Arc<Oldest>,
    revoked: IntCounterVec,
    broker_connected: IntGaugeVec,
    /// `sharelink_broker_reconnects_total`
    pub broker_reconnects: IntCounter,
    token_refreshes: IntCounterVec,
    started: Gauge,
    /// Names of the queues, in the order of their roles.
    queues: Vec<String>,
    recent: Arc<Recent>,
}

/// What a series says when it is read.
pub(super) enum Reading {
    /// A counter or a gauge.
    Number(f64),
    /// A histogram.
    Durations(Durations),
}

/// What is counted of every request of one account, resolved once.
struct Answers {
    provider: String,
    status: Status,
    replies: IntCounter,
    links: Option<IntCounter>,
    duration: Histogram,
}

impl Metrics {
    /// Builds every metric and touches every series: `providers` and `queues` are the configured ones; the queues in the
    /// order request, reply, dead letters.
    ///
    /// # Errors
    /// Only where two metrics have one name, which is a bug that the tests would show.
    pub fn new(providers: &[&str], queues: &[&str]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let histograms = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            register(&registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
        };
        let mut metrics = Self {
            links: counters(
                "sharelink_links_total",
                "Sharing links handed out: made by us, or there before and reused.",
                &["provider", "outcome"],
            )?,
            failures: counters(
                "sharelink_failures_total",
                "Requests answered with a failure, by kind.",
                &["provider", "kind"],
            )?,
            replies: counters("sharelink_replies_total", "Replies confirmed by the broker.", &["provider", "status"])?,
            settlements: counters(
                "sharelink_settlements_total",
                "Deliveries settled: how, and why.",
                &["settlement", "cause"],
            )?,
            settled: Vec::new(),
            answers: Vec::new(),
            request_duration: histograms(
                "sharelink_request_duration_seconds",
                "From delivery to acknowledgement.",
                &["provider", "status"],
                &REQUEST_BUCKETS,
            )?,
            queue_wait: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "sharelink_queue_wait_seconds",
                        "From the request's timestamp to its first delivery.",
                    )
                    .buckets(WAIT_BUCKETS.to_vec()),
                ),
            )?,
            provider_calls: counters(
                "sharelink_provider_calls_total",
                "HTTP calls to providers, by operation and HTTP status.",
                &["provider", "operation", "code"],
            )?,
            call_duration: histograms(
                "sharelink_provider_call_duration_seconds",
                "Duration of one HTTP call to a provider.",
                &["provider", "operation"],
                &CALL_BUCKETS,
            )?,
            retries: counters(
                "sharelink_retries_total",
                "Further attempts, by the kind of failure before them.",
                &["provider", "reason"],
            )?,
            throttle_wait: register(
                &registry,
                CounterVec::new(
                    Opts::new(
                        "sharelink_throttle_wait_seconds_total",
                        "Time that calls waited for their turn in the process.",
                    ),
                    &["provider"],
                ),
            )?,
            throttle_limit: register(
                &registry,
                GaugeVec::new(
                    Opts::new("sharelink_throttle_limit", "Calls a second now allowed; +Inf where no limit is known."),
                    &["provider"],
                ),
            )?,
            in_flight: gauges("sharelink_in_flight", "Calls to the provider now under way.", &["provider"])?,
            in_flight_limit: gauges(
                "sharelink_in_flight_limit",
                "Calls to the provider that may be under way at once.",
                &["provider"],
            )?,
            paused: gauges(
                "sharelink_provider_paused",
                "1 while no call is made because the provider asked for a pause, or because its breaker is open.",
                &["provider"],
            )?,
            pauses: counters(
                "sharelink_provider_pauses_total",
                "Pauses of an account begun, by cause.",
                &["provider", "cause"],
            )?,
            queue_ready: gauges(
                "sharelink_queue_messages_ready",
                "Messages ready in the queue, as the broker said when last asked.",
                &["queue"],
            )?,
            queue_info: gauges(
                "sharelink_queue_info",
                "Always 1; the labels say what a queue is for: request, reply or dead_letter.",
                &["queue", "role"],
            )?,
            oldest: Oldest::new(register(
                &registry,
                Gauge::with_opts(Opts::new(
                    "sharelink_oldest_request_timestamp_seconds",
                    "When the oldest request now held by the worker came, in seconds since 1970; +Inf without one.",
                )),
            )?),
            revoked: counters("sharelink_links_revoked_total", "Links taken back.", &["provider"])?,
            broker_connected: gauges(
                "sharelink_broker_connected",
                "1 while the connection to the broker is usable.",
                &["role"],
            )?,
            broker_reconnects: register(
                &registry,
                IntCounter::with_opts(Opts::new(
                    "sharelink_broker_reconnects_total",
                    "Times the connections to the broker were rebuilt.",
                )),
            )?,
            token_refreshes: counters(
                "sharelink_token_refreshes_total",
                "Access tokens asked for.",
                &["provider", "result"],
            )?,
            started: register(
                &registry,
                Gauge::with_opts(Opts::new(
                    "sharelink_start_time_seconds",
                    "When the worker started, in seconds since 1970.",
                )),
            )?,
            queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
            recent: Arc::default(),
            registry,
        };
        let build_info = register(
            &metrics.registry,
            IntGaugeVec::new(
                Opts::new("sharelink_build_info", "Always 1; the labels say what is running."),
                &["version", "revision"],
            ),
        )?;
        build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), option_env!("SHARELINK_REVISION").unwrap_or("unknown")])
            .set(1);
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        metrics.touch(providers, queues);
        Ok(metrics)
    }

    fn touch(&mut self, providers: &[&str], queues: &[&str]) {
        for kind in [ErrorKind::InvalidRequest, ErrorKind::UnknownProvider] {
            self.failures.with_label_values(&[NO_PROVIDER, kind.as_str()]);
        }
        for provider in providers.iter().copied().chain([NO_PROVIDER]) {
            self.replies.with_label_values(&[provider, Status::Failed.as_str()]);
            self.request_duration.with_label_values(&[provider, Status::Failed.as_str()]);
        }
        for provider in providers.iter().copied() {
            for kind in ErrorKind::ALL {
                self.failures.with_label_values(&[provider, kind.as_str()]);
            }
            for status in Status::ALL {
                let labels = [provider, status.as_str()];
                let answers = Answers {
                    provider: provider.to_owned(),
                    status,
                    replies: self.replies.with_label_values(&labels),
                    links: (status != Status::Failed).then(|| self.links.with_label_values(&labels)),
                    duration: self.request_duration.with_label_values(&labels),
                };
                self.answers.push(answers);
            }
            self.provider(provider).expect(&["create_link"]);
            for reason in RETRY_REASONS {
                self.retries.with_label_values(&[provider, reason.as_str()]);
            }
            for result in ["ok", "failed"] {
                self.token_refreshes.with_label_values(&[provider, result]);
            }
            self.throttle_wait.with_label_values(&[provider]);
            self.throttle_limit.with_label_values(&[provider]).set(f64::INFINITY);
            self.in_flight.with_label_values(&[provider]);
            self.in_flight_limit.with_label_values(&[provider]);
            self.paused.with_label_values(&[provider]);
            for cause in PAUSE_CAUSES {
                self.pauses.with_label_values(&[provider, cause]);
            }
            self.revoked.with_label_values(&[provider]);
        }
        for (settlement, causes) in SETTLEMENTS {
            for cause in *causes {
                let counter = self.settlements.with_label_values(&[*settlement, *cause]);
                self.settled.push((settlement, cause, counter));
            }
        }
        for role in ["consume", "publish"] {
            self.broker_connected.with_label_values(&[role]);
        }
        for queue in queues {
            self.queue_ready.with_label_values(&[*queue]);
        }
    }

    /// The handles of one provider account.
    pub fn provider(&self, name: &str) -> ProviderMetrics {
        ProviderMetrics {
            name: name.to_owned(),
            calls: self.provider_calls.clone(),
            call_duration: self.call_duration.clone(),
            links: LinkCalls::new(&self.provider_calls, &self.call_duration, name),
            in_flight: self.in_flight.with_label_values(&[name]),
            in_flight_limit: self.in_flight_limit.with_label_values(&[name]),
            paused: self.paused.with_label_values(&[name]),
            pauses_retry_after: self.pauses.with_label_values(&[name, "retry_after"]),
            pauses_breaker: self.pauses.with_label_values(&[name, "breaker"]),
            throttle_wait: self.throttle_wait.with_label_values(&[name]),
            throttle_limit: self.throttle_limit.with_label_values(&[name]),
            token_ok: self.token_refreshes.with_label_values(&[name, "ok"]),
            token_failed: self.token_refreshes.with_label_values(&[name, "failed"]),
            recent: self.recent.clone(),
        }
    }

    fn answers(&self, provider: &str, status: Status) -> Option<&Answers> {
        self.answers.iter().find(|answers| answers.status == status && answers.provider == provider)
    }

    /// Counts a confirmed reply, and the link or the failure that it carries.
    pub fn replied(&self, provider: &str, status: Status, failure: Option<ErrorKind>) {
        match self.answers(provider, status) {
            Some(answers) => answers.replies.inc(),
            None => self.replies.with_label_values(&[provider, status.as_str()]).inc(),
        }
        self.ended(provider, status, failure);
    }

    /// Counts the link or the failure of a request whose reply nobody takes.
    pub fn ended(&self, provider: &str, status: Status, failure: Option<ErrorKind>) {
        match failure {
            Some(kind) => self.failures.with_label_values(&[provider, kind.as_str()]).inc(),
            None => match self.answers(provider, status).and_then(|answers| answers.links.as_ref()) {
                Some(links) => links.inc(),
                None => self.links.with_label_values(&[provider, status.as_str()]).inc(),
            },
        }
    }

    /// Observes a request from delivery to acknowledgement.
    pub fn finished(&self, provider: &str, status: Status, seconds: f64) {
        match self.answers(provider, status) {
            Some(answers) => answers.duration.observe(seconds),
            None => self.request_duration.with_label_values(&[provider, status.as_str()]).observe(seconds),
        }
    }

    /// Counts a settlement.
    pub fn settled(&self, settlement: &'static str, cause: &'static str) {
        match self.settled.iter().find(|(how, why, _)| *how == settlement && *why == cause) {
            Some((_, _, counter)) => counter.inc(),
            None => self.settlements.with_label_values(&[settlement, cause]).inc(),
        }
    }

    /// Counts a further attempt.
    pub fn retried(&self, provider: &str, reason: ErrorKind) {
        self.retries.with_label_values(&[provider, reason.as_str()]).inc();
    }

    /// Counts a link taken back.
    pub fn revoked(&self, provider: &str) {
        self.revoked.with_label_values(&[provider]).inc();
    }

    /// Says whether a connection to the broker is usable; `role` is `consume` or `publish`.
    pub fn broker_connected(&self, role: &'static str, connected: bool) {
        self.broker_connected.with_label_values(&[role]).set(i64::from(connected));
    }

    /// Notes how many messages are ready in a queue.
    pub fn queue_ready(&self, queue: &str, messages: u32) {
        self.queue_ready.with_label_values(&[queue]).set(i64::from(messages));
    }

    /// Notes what a queue is for: `request`, `reply` or `dead_letter`.
    pub fn queue_role(&self, queue: &str, role: &'static str) {
        self.queue_info.with_label_values(&[queue, role]).set(1);
    }

    /// Notes a request that came at `now` and is held until the value is dropped.
    pub fn hold(&self, now: Timestamp) -> Holding {
        self.oldest.hold(now)
    }

    /// Notes when the worker started, in seconds since 1970.
    pub fn started_at(&self, seconds: f64) {
        self.started.set(seconds);
    }

    /// The names of the queues as they were given to [`Metrics::new`].
    pub(super) fn queues(&self) -> &[String] {
        &self.queues
    }

    /// What happened lately and no series holds.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Calls `see` with the name, labels and value of every series.
    pub(super) fn each(&self, mut see: impl FnMut(&str, &BTreeMap<&str, &str>, Reading)) {
        for family in self.registry.gather() {
            for metric in family.get_metric() {
                let labels = metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
                let value = match family.get_field_type() {
                    MetricType::COUNTER => Reading::Number(metric.get_counter().get_value()),
                    MetricType::GAUGE => Reading::Number(metric.get_gauge().get_value()),
                    MetricType::HISTOGRAM => {
                        let seen = metric.get_histogram();
                        let buckets =
                            seen.get_bucket().iter().map(|each| (each.upper_bound(), each.cumulative_count()));
                        Reading::Durations(Durations::new(buckets, seen.get_sample_count(), seen.get_sample_sum()))
                    }
                    MetricType::SUMMARY | MetricType::UNTYPED => continue,
                };
                see(family.name(), &labels, value);
            }
        }
    }

    /// The text format 0.0.4 of everything.
    ///
    /// # Errors
    /// Where a metric cannot be written; a bug.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::with_capacity(32 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: Result<C, prometheus::Error>,
) -> Result<C, prometheus::Error> {
    let collector = collector?;
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
