//! How long a worker may hold a request, against the broker's patience with it.

use std::time::Duration;

use crate::broker::findings::Finding;
use crate::config::Settings;
use crate::pipeline::CONFIRMED_WITHIN;

/// RabbitMQ's default `consumer_timeout`. What is held longer is taken back, and before 4.3 the worker's channel ends.
const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Calls that one attempt may need: looking, creating, looking again.
const CALLS: u32 = 3;
/// Taking back a link that is wider than asked.
const REVOKE: Duration = Duration::from_secs(120);
/// The longest that the settings let a worker hold a request without an answer, about.
pub fn longest(settings: &Settings) -> Duration {
    let retry = &settings.retry;
    let slowest = settings.providers.values().map(|provider| provider.timeout).max().unwrap_or_default();
    let attempt = slowest.saturating_mul(CALLS);
    // Each attempt waits for its turn and before the next one, both at most so long; longer waits leave the process.
    let by_attempts = attempt.saturating_add(retry.inline_limit.saturating_mul(2)).saturating_mul(retry.max_attempts);
    let by_time = retry.max_elapsed.saturating_add(attempt);
    // The last try begins within that time.
    let reply = settings.broker.publish_timeout.saturating_add(CONFIRMED_WITHIN);
    by_attempts.min(by_time).saturating_add(REVOKE).saturating_add(reply)
}

/// What that means for the broker, which does not tell its timeout over AMQP.
pub fn finding(settings: &Settings) -> Finding {
    let longest = longest(settings);
    let minutes = longest.as_secs().div_ceil(60);
    if longest < CONSUMER_TIMEOUT {
        return Finding::untold(format!(
            "consumer timeout: cannot be asked; a worker holds a request for at most about {minutes} min, and RabbitMQ's \
             default is 30 min"
        ));
    }
    Finding::remark(format!(
        "consumer timeout: a worker may hold a request for about {minutes} min, and RabbitMQ takes it back after 30 min by \
         default, which ends every request in hand. Lower retry.max_elapsed, retry.max_attempts or the providers' \
         timeout, or raise consumer_timeout at the broker"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::findings::Verdict;
    use crate::config::load_text;

    fn settings(retry: &str) -> Settings {
        let text = format!(
            "[broker]\nurl = \"amqp://h\"\n[retry]\n{retry}\n[providers.a]\nkind = \"onedrive\"\n\
             [providers.a.auth]\nmethod = \"bearer\"\ntoken = \"t\"\n"
        );
        load_text("a.toml", &text, std::iter::empty()).unwrap_or_else(|problems| panic!("{problems}")).settings
    }

    #[test]
    fn the_defaults_stay_below_the_brokers_default() {
        let settings = settings("");
        assert!(longest(&settings) < CONSUMER_TIMEOUT, "{:?}", longest(&settings));
        assert_eq!(finding(&settings).verdict, Verdict::Untold);
    }

    #[test]
    fn settings_that_hold_a_request_for_too_long_are_told() {
        let settings = settings("max_elapsed = \"3h\"\nmax_attempts = 50");
        let finding = finding(&settings);
        assert_eq!(finding.verdict, Verdict::Remark);
        assert!(finding.text.contains("166 min"), "{}", finding.text);
    }
}
