//! Log lines: on standard error, as text or JSON. A line can be read alone; no secret, no item id and no link address
//! stands in one at `info` or above.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Everything lapin reports as an error we report ourselves, once and in words; `lapin=debug` in the level overrides it.
const QUIET: &str = "lapin=off";

/// lapin logs every returned message with its whole body, and a reply's body holds the link's address. Never shown.
const SILENCED: &str = "lapin::returned_messages=off";

/// Starts logging for the rest of the process; a second call changes nothing.
///
/// # Errors
/// A sentence about a filter that cannot be read.
pub fn start(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(format!("{QUIET},{},{SILENCED}", log.level))
        .map_err(|error| format!("log.level: \"{}\" is no log filter ({error}); write for instance info", log.level))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(colours()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // Someone else's logging is as good as ours.
    drop(started);
    Ok(())
}

fn colours() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
