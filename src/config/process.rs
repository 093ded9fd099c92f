//! `[server]`, `[retry]`, `[shutdown]`, `[state]` and `[log]`: how the process itself behaves.
//!
//! Invariant: the time budgets nest; no wait inside the process comes near the broker's consumer timeout.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::reader::Reader;
use super::suggest::closest;
use super::{Log, LogFormat, Retry, Server, Shutdown, State};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// Reads `[server]`.
pub(super) fn server(reader: &mut Reader<'_>) -> Server {
    let mut section = reader.section(&["server"]);
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9464));
    let Some((text, place)) = section.text("listen") else { return Server { listen: default } };
    let listen = text.trim().parse().unwrap_or_else(|_| {
        let hint =
            "give an IP address and a port, such as \"127.0.0.1:9464\" or, for every interface, \"0.0.0.0:9464\"";
        section.wrong(&place, "listen", format!("{text:?} is not allowed; {hint}"));
        default
    });
    Server { listen }
}

/// Reads `[retry]`.
pub(super) fn retry(reader: &mut Reader<'_>) -> Retry {
    let mut section = reader.section(&["retry"]);
    let within = |most: u64| -> RangeInclusive<Duration> { Duration::from_millis(1)..=Duration::from_secs(most) };
    let retry = Retry {
        max_attempts: section.integer("max_attempts", 8, 1..=1000),
        initial_interval: section
            .duration("initial_interval", within(60 * MINUTE))
            .unwrap_or(Duration::from_millis(500)),
        max_interval: section.duration("max_interval", within(60 * MINUTE)).unwrap_or(Duration::from_secs(30)),
        max_elapsed: section.duration("max_elapsed", within(30 * DAY)).unwrap_or(Duration::from_secs(15 * MINUTE)),
        // RabbitMQ closes the channel on a delivery that stays unanswered for 30 minutes (consumer_timeout), so
        // longer waits must be spent in a delay queue.
        inline_limit: section
            .duration("inline_limit", Duration::ZERO..=Duration::from_secs(10 * MINUTE))
            .unwrap_or(Duration::from_secs(5)),
    };
    if retry.initial_interval > retry.max_interval {
        let key = if section.find("initial_interval").is_some() { "initial_interval" } else { "max_interval" };
        let place = section.place_of(key);
        let [initial, max] = [retry.initial_interval, retry.max_interval].map(humantime::format_duration);
        section.wrong(
            &place,
            key,
            format!("initial_interval ({initial}) is longer than max_interval ({max}); turn them round"),
        );
    }
    retry
}

/// Reads `[shutdown]`.
pub(super) fn shutdown(reader: &mut Reader<'_>) -> Shutdown {
    let grace = reader.section(&["shutdown"]).duration("grace", Duration::ZERO..=Duration::from_secs(60 * MINUTE));
    // Kubernetes kills after 30 s by default; five seconds remain for the connections to close.
    Shutdown { grace: grace.unwrap_or(Duration::from_secs(25)) }
}

/// Reads `[state]`.
pub(super) fn state(reader: &mut Reader<'_>) -> State {
    State { file: reader.section(&["state"]).filled_text("file").map(PathBuf::from) }
}

/// Reads `[log]`.
pub(super) fn log(reader: &mut Reader<'_>) -> Log {
    let mut section = reader.section(&["log"]);
    let level = match section.text("level") {
        Some((level, place)) => {
            if let Err(reason) = filter(&level) {
                section.wrong(&place, "level", reason);
            }
            level
        }
        None => "info".to_owned(),
    };
    let format = section.word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    Log { level, format: format.unwrap_or(LogFormat::Text) }
}

/// Checks a log filter. A bare word that is no level would be read as the name of a module and silence everything else.
fn filter(text: &str) -> Result<(), String> {
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    for word in text.split(',').map(str::trim) {
        let bare = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if bare && !levels.contains(&word.to_ascii_lowercase().as_str()) {
            let hint = closest(word, levels).map(|level| format!(" (did you mean {level:?}?)")).unwrap_or_default();
            let allowed = "give error, warn, info, debug, trace or off, or a filter such as \"info,sharelink=debug\"";
            return Err(format!("{word:?} is not a level{hint}; {allowed}"));
        }
    }
    EnvFilter::try_new(text).map(|_| ()).map_err(|_| {
        format!(
            "{text:?} is not a log filter; give a level, or a filter without spaces such as \"info,sharelink=debug\""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_filter_with_a_misspelt_level_is_refused_and_not_taken_for_a_module() {
        for text in ["info", "WARN", "info,sharelink=debug", "sharelink::broker=trace,off", "info,lapin=warn"] {
            assert_eq!(filter(text), Ok(()), "{text}");
        }
        assert!(filter("inof").is_err_and(|said| said.contains("did you mean \"info\"?")));
        for text in ["", "info,", "info,debgu", "sharelink=loud", "info, lapin=warn", "a[b=]c"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
