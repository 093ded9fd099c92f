//! The metrics as a person reads them: what the status page and the demo's table show.

use std::collections::BTreeMap;

use super::durations::Durations;
use super::metrics::{Metrics, NO_PROVIDER, Reading};
use super::recent::{FailureNote, Pause};

/// One moment of the metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// By account name; requests that name no account stand under `none`.
    pub providers: BTreeMap<String, ProviderNumbers>,
    /// Messages ready by queue, as the broker said when last asked.
    pub queues: BTreeMap<String, u64>,
    /// Which of them holds the requests; empty where nobody said.
    pub request_queue: String,
    /// Which of them holds the dead letters; empty where nobody said.
    pub dead_letter_queue: String,
    /// Connections to the broker by role: usable or not.
    pub broker: BTreeMap<String, bool>,
    /// Times the connections were rebuilt.
    pub reconnects: u64,
    /// Settlements by `settlement / cause`, those that happened.
    pub settlements: BTreeMap<String, u64>,
    /// From a request's timestamp to its first delivery.
    pub queue_wait: Durations,
    /// When the oldest request that is held came, in seconds since 1970; `None` where none is held.
    pub oldest: Option<f64>,
    /// What is running.
    pub version: String,
    /// From which revision it was built.
    pub revision: String,
    /// When it started, in seconds since 1970; 0 where nobody said.
    pub started: f64,
    /// The last failures, newest first.
    pub failures: Vec<FailureNote>,
}

/// The numbers of one account.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProviderNumbers {
    /// Links made.
    pub created: u64,
    /// Links handed out again.
    pub reused: u64,
    /// Failures by kind, those that happened.
    pub failures: BTreeMap<String, u64>,
    /// Further attempts.
    pub retries: u64,
    /// HTTP calls.
    pub calls: u64,
    /// HTTP calls the provider refused with 429.
    pub refused: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// How many calls may be under way; `None` where nobody said.
    pub in_flight_limit: Option<u64>,
    /// Calls a second now allowed; `None` where no limit is known.
    pub limit: Option<f64>,
    /// No call is made now, because the provider asked for a pause.
    pub paused: bool,
    /// Pauses begun, whatever their cause.
    pub pauses: u64,
    /// The last pause; may lie in the past.
    pub pause: Option<Pause>,
    /// Requests from delivery to acknowledgement.
    pub durations: Durations,
}

impl ProviderNumbers {
    /// Requests answered.
    pub fn answered(&self) -> u64 {
        self.created + self.reused + self.failed()
    }

    /// Requests answered with a failure.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// What was counted since an earlier moment; the gauges as they are now.
    fn since(&self, earlier: &Self) -> Self {
        Self {
            created: self.created.saturating_sub(earlier.created),
            reused: self.reused.saturating_sub(earlier.reused),
            failures: counted_since(&self.failures, &earlier.failures),
            retries: self.retries.saturating_sub(earlier.retries),
            calls: self.calls.saturating_sub(earlier.calls),
            refused: self.refused.saturating_sub(earlier.refused),
            pauses: self.pauses.saturating_sub(earlier.pauses),
            durations: self.durations.since(&earlier.durations),
            ..self.clone()
        }
    }
}

/// What was counted under each name since an earlier moment, without what was not.
fn counted_since(now: &BTreeMap<String, u64>, earlier: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |(name, count): (&String, &u64)| {
        let more = count.saturating_sub(earlier.get(name).copied().unwrap_or_default());
        (more > 0).then(|| (name.clone(), more))
    };
    now.iter().filter_map(since).collect()
}

impl Snapshot {
    /// Reads the registry.
    pub fn of(metrics: &Metrics) -> Self {
        let queue = |role: usize| metrics.queues().get(role).cloned().unwrap_or_default();
        let mut snapshot = Self {
            failures: metrics.recent().failures(),
            request_queue: queue(0),
            dead_letter_queue: queue(2),
            ..Self::default()
        };
        metrics.each(|name, labels, reading| match reading {
            Reading::Number(value) => snapshot.number(name, labels, value),
            Reading::Durations(durations) => snapshot.durations(name, labels, durations),
        });
        if snapshot.providers.get(NO_PROVIDER).is_some_and(|none| none.answered() == 0) {
            snapshot.providers.remove(NO_PROVIDER);
        }
        for (name, numbers) in &mut snapshot.providers {
            numbers.pause = metrics.recent().pause(name);
        }
        snapshot
    }

    /// What was counted since an earlier moment; the gauges, the failures and the build as they are now.
    pub fn since(&self, earlier: &Self) -> Self {
        let none = ProviderNumbers::default();
        let provider = |(name, numbers): (&String, &ProviderNumbers)| {
            (name.clone(), numbers.since(earlier.providers.get(name).unwrap_or(&none)))
        };
        Self {
            providers: self.providers.iter().map(provider).collect(),
            reconnects: self.reconnects.saturating_sub(earlier.reconnects),
            settlements: counted_since(&self.settlements, &earlier.settlements),
            queue_wait: self.queue_wait.since(&earlier.queue_wait),
            ..self.clone()
        }
    }

    /// Messages ready in the request queue.
    pub fn in_requests(&self) -> u64 {
        self.queues.get(&self.request_queue).copied().unwrap_or_default()
    }

    /// Messages ready in the dead-letter queue.
    pub fn in_dead_letters(&self) -> u64 {
        self.queues.get(&self.dead_letter_queue).copied().unwrap_or_default()
    }

    /// Requests of all accounts, from delivery to acknowledgement.
    pub fn all_durations(&self) -> Durations {
        let mut all = Durations::default();
        self.providers.values().for_each(|numbers| all.add(&numbers.durations));
        all
    }

    fn provider(&mut self, labels: &BTreeMap<&str, &str>) -> Option<&mut ProviderNumbers> {
        let name = labels.get("provider")?;
        Some(self.providers.entry((*name).to_owned()).or_default())
    }

    fn durations(&mut self, name: &str, labels: &BTreeMap<&str, &str>, durations: Durations) {
        match name {
            "sharelink_queue_wait_seconds" => self.queue_wait = durations,
            "sharelink_request_duration_seconds" => {
                if let Some(numbers) = self.provider(labels) {
                    numbers.durations.add(&durations);
                }
            }
            _ => {}
        }
    }

    fn number(&mut self, name: &str, labels: &BTreeMap<&str, &str>, value: f64) {
        let label = |name: &str| labels.get(name).copied().unwrap_or_default();
        let count = as_count(value);
        match name {
            "sharelink_queue_messages_ready" => {
                self.queues.insert(label("queue").to_owned(), count);
            }
            "sharelink_broker_connected" => {
                self.broker.insert(label("role").to_owned(), count == 1);
            }
            "sharelink_broker_reconnects_total" => self.reconnects = count,
            "sharelink_oldest_request_timestamp_seconds" => self.oldest = Some(value).filter(|value| value.is_finite()),
            "sharelink_settlements_total" if count > 0 => {
                self.settlements.insert(format!("{} / {}", label("settlement"), label("cause")), count);
            }
            "sharelink_build_info" => {
                (self.version, self.revision) = (label("version").to_owned(), label("revision").to_owned());
            }
            "sharelink_start_time_seconds" => self.started = value,
            _ => {}
        }
        let Some(numbers) = self.provider(labels) else { return };
        match name {
            "sharelink_links_total" if label("outcome") == "created" => numbers.created = count,
            "sharelink_links_total" => numbers.reused = count,
            "sharelink_failures_total" if count > 0 => {
                numbers.failures.insert(label("kind").to_owned(), count);
            }
            "sharelink_retries_total" => numbers.retries += count,
            "sharelink_provider_calls_total" => {
                numbers.calls += count;
                if label("code") == "429" {
                    numbers.refused += count;
                }
            }
            "sharelink_in_flight" => numbers.in_flight = count,
            "sharelink_in_flight_limit" => numbers.in_flight_limit = (count > 0).then_some(count),
            "sharelink_provider_pauses_total" => numbers.pauses += count,
            "sharelink_throttle_limit" => numbers.limit = value.is_finite().then_some(value),
            "sharelink_provider_paused" => numbers.paused = count == 1,
            _ => {}
        }
    }
}

/// Counters and gauges here hold whole numbers; prometheus keeps them as floats.
fn as_count(value: f64) -> u64 {
    if value.is_finite() && value > 0.0 { value.round() as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ErrorKind, Status};

    #[test]
    fn a_snapshot_says_what_the_metrics_say() -> Result<(), prometheus::Error> {
        let metrics = Metrics::new(&["contoso"], &["requests"])?;
        metrics.replied("contoso", Status::Created, None);
        metrics.replied("contoso", Status::Reused, None);
        metrics.replied("contoso", Status::Failed, Some(ErrorKind::NotFound));
        metrics.provider("contoso").call("create_link", "429", 0.1);
        metrics.queue_ready("requests", 12);
        let snapshot = Snapshot::of(&metrics);
        let contoso = &snapshot.providers["contoso"];
        assert_eq!((contoso.created, contoso.reused, contoso.answered(), contoso.refused), (1, 1, 3, 1));
        assert_eq!(snapshot.queues["requests"], 12);
        assert!(!snapshot.providers.contains_key(NO_PROVIDER));
        assert_eq!(snapshot.version, env!("CARGO_PKG_VERSION"));
        Ok(())
    }

    #[test]
    fn what_came_since_is_counted_and_what_is_now_is_shown() -> Result<(), prometheus::Error> {
        let metrics = Metrics::new(&["contoso"], &["requests"])?;
        metrics.replied("contoso", Status::Failed, Some(ErrorKind::NotFound));
        metrics.finished("contoso", Status::Created, 0.2);
        metrics.queue_wait.observe(2.0);
        let earlier = Snapshot::of(&metrics);
        metrics.replied("contoso", Status::Failed, Some(ErrorKind::Locked));
        metrics.finished("contoso", Status::Failed, 0.4);
        metrics.provider("contoso").in_flight.set(3);
        metrics.provider("contoso").throttle_limit.set(12.5);
        let since = Snapshot::of(&metrics).since(&earlier);
        let contoso = &since.providers["contoso"];
        assert_eq!(contoso.failures, [("locked".to_owned(), 1)].into());
        assert_eq!((contoso.in_flight, contoso.limit), (3, Some(12.5)));
        assert_eq!((since.all_durations().count(), since.queue_wait.count()), (1, 0));
        Ok(())
    }
}
