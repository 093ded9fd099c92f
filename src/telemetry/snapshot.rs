//! The metrics as a person reads them: what the status page and the demo's table show.

use std::collections::BTreeMap;

use super::metrics::{Metrics, NO_PROVIDER};

/// One moment of the metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// By account name; requests that name no account stand under `none`.
    pub providers: BTreeMap<String, ProviderNumbers>,
    /// Messages ready by queue, as the broker said when last asked.
    pub queues: BTreeMap<String, u64>,
    /// Connections to the broker by role: usable or not.
    pub broker: BTreeMap<String, bool>,
    /// Times the connections were rebuilt.
    pub reconnects: u64,
    /// Settlements by `settlement / cause`, those that happened.
    pub settlements: BTreeMap<String, u64>,
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
    /// No call is made now, because the provider asked for a pause.
    pub paused: bool,
    /// Sum of all requests' seconds from delivery to acknowledgement.
    pub seconds: f64,
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
}

impl Snapshot {
    /// Reads the registry.
    pub fn of(metrics: &Metrics) -> Self {
        let mut snapshot = Self::default();
        metrics.each(|name, labels, value| snapshot.take(name, labels, value));
        if snapshot.providers.get(NO_PROVIDER).is_some_and(|none| none.answered() == 0) {
            snapshot.providers.remove(NO_PROVIDER);
        }
        snapshot
    }

    fn take(&mut self, name: &str, labels: &BTreeMap<&str, &str>, value: f64) {
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
            "sharelink_settlements_total" if count > 0 => {
                self.settlements.insert(format!("{} / {}", label("settlement"), label("cause")), count);
            }
            _ => {}
        }
        let Some(provider) = labels.get("provider") else { return };
        let numbers = self.providers.entry((*provider).to_owned()).or_default();
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
            "sharelink_provider_paused" => numbers.paused = count == 1,
            "sharelink_request_duration_seconds" => numbers.seconds += value,
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
        Ok(())
    }
}
