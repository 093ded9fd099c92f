//! The metrics handles of one provider account, resolved once: what its gate, its calls and its sign-in count.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{Counter, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::recent::{Pause, Recent};

/// Codes of provider calls that are present from the start; any other HTTP status appears when it is first seen.
const CALL_CODES: [&str; 4] = ["200", "201", "timeout", "connect"];

/// The handles of one provider account, resolved once.
#[derive(Clone)]
pub struct ProviderMetrics {
    pub(super) name: String,
    pub(super) calls: IntCounterVec,
    pub(super) call_duration: HistogramVec,
    /// What nearly every call counts: a link was made, or was there.
    pub(super) links: LinkCalls,
    /// `sharelink_in_flight`
    pub in_flight: IntGauge,
    /// `sharelink_in_flight_limit`
    pub in_flight_limit: IntGauge,
    /// `sharelink_provider_paused`
    pub paused: IntGauge,
    /// `sharelink_provider_pauses_total{cause="retry_after"}`
    pub pauses_retry_after: IntCounter,
    /// `sharelink_provider_pauses_total{cause="breaker"}`
    pub pauses_breaker: IntCounter,
    /// `sharelink_throttle_wait_seconds_total`
    pub throttle_wait: Counter,
    /// `sharelink_throttle_limit`
    pub throttle_limit: Gauge,
    /// `sharelink_token_refreshes_total{result="ok"}`
    pub token_ok: IntCounter,
    /// `sharelink_token_refreshes_total{result="failed"}`
    pub token_failed: IntCounter,
    pub(super) recent: Arc<Recent>,
}

/// The operation that every provider has, and that nearly every call is.
const CREATE_LINK: &str = "create_link";

/// The handles of [`CREATE_LINK`].
#[derive(Clone)]
pub(super) struct LinkCalls {
    by_code: [(&'static str, IntCounter); 2],
    duration: Histogram,
}

impl LinkCalls {
    pub(super) fn new(calls: &IntCounterVec, call_duration: &HistogramVec, provider: &str) -> Self {
        let by_code = ["201", "200"].map(|code| (code, calls.with_label_values(&[provider, CREATE_LINK, code])));
        Self { by_code, duration: call_duration.with_label_values(&[provider, CREATE_LINK]) }
    }
}

impl ProviderMetrics {
    /// Makes the series of these operations present at zero.
    pub fn expect(&self, operations: &[&str]) {
        for operation in operations {
            for code in CALL_CODES.into_iter().filter(|code| *code != "201" || *operation == CREATE_LINK) {
                self.calls.with_label_values(&[self.name.as_str(), operation, code]);
            }
            self.call_duration.with_label_values(&[self.name.as_str(), operation]);
        }
    }

    /// Notes for the status page until when no call is made; `why` is a few words to stand behind "because of".
    pub fn paused_until(&self, end: Instant, why: &'static str) {
        self.recent.paused(&self.name, Pause { end, why });
    }

    /// Counts a part of a call that carried several, as the call that it would have been alone.
    pub fn part(&self, operation: &'static str, status: u16) {
        self.calls.with_label_values(&[self.name.as_str(), operation, &status.to_string()]).inc();
    }

    /// Counts one call: its operation, its HTTP status (or `timeout`, `connect`) and how long it took.
    pub fn call(&self, operation: &'static str, code: &str, seconds: f64) {
        if operation == CREATE_LINK {
            self.links.duration.observe(seconds);
        } else {
            self.call_duration.with_label_values(&[self.name.as_str(), operation]).observe(seconds);
        }
        match self.links.by_code.iter().find(|(known, _)| operation == CREATE_LINK && *known == code) {
            Some((_, counter)) => counter.inc(),
            None => self.calls.with_label_values(&[self.name.as_str(), operation, code]).inc(),
        }
    }
}
