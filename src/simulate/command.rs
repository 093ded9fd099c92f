//! The command line of `sharelink simulate`: options in, addresses and a configuration out, until told to stop.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;

use super::options::{Options, RetryAfter, parse_share};
use super::page::words;
use super::serve;
use crate::model::Secret;

/// The exit code for an address that cannot be listened on: the contract's "not reachable".
const NOT_REACHABLE: u8 = 69;

/// Both providers' APIs on a local port, with faults on demand.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = words())]
pub struct SimulateArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9480")]
    pub listen: SocketAddr,
    /// Every call waits this long before its work
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// A random wait up to this on top
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub jitter: Duration,
    /// Share of calls answered 503, from 0 to 1
    #[arg(long = "fault-503", value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub fault_503: f64,
    /// What a random 503 says in Retry-After; nothing where it is 0s
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub unavailable_for: Duration,
    /// Share of calls whose connection is cut before the work, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub reset: f64,
    /// Share of calls whose connection is cut after the work, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub lose_answers: f64,
    /// Resource units a minute for each account, 5 a link call; over it 429; 0 for no limit
    #[arg(long, value_name = "UNITS", default_value = "0")]
    pub units_per_minute: u32,
    /// After an overrun everything is refused for at least this long
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub closed_for: Duration,
    /// How Retry-After is written
    #[arg(long, value_enum, default_value = "seconds")]
    pub retry_after: RetryAfter,
    /// The only bearer token accepted besides the issued ones; any where absent
    #[arg(long, value_name = "TOKEN", value_parser = secret)]
    pub token: Option<Secret>,
    /// The only client secret accepted; any that does not contain "wrong" where absent
    #[arg(long, value_name = "SECRET", value_parser = secret)]
    pub client_secret: Option<Secret>,
    /// How long issued access tokens live
    #[arg(long, value_name = "DURATION", default_value = "3599s", value_parser = humantime::parse_duration)]
    pub token_lifetime: Duration,
    /// A refresh token is good for one use only
    #[arg(long)]
    pub single_use_refresh_tokens: bool,
    /// The seed of random faults
    #[arg(long, default_value = "0")]
    pub seed: u64,
}

#[allow(clippy::unnecessary_wraps, reason = "the signature that clap wants")]
fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

impl From<SimulateArgs> for Options {
    fn from(args: SimulateArgs) -> Self {
        Self {
            latency: args.latency,
            jitter: args.jitter,
            fault_503: args.fault_503,
            reset: args.reset,
            lose_answers: args.lose_answers,
            units_per_minute: args.units_per_minute,
            closed_for: args.closed_for,
            retry_after: args.retry_after,
            unavailable_for: args.unavailable_for,
            token: args.token,
            client_secret: args.client_secret,
            token_lifetime: args.token_lifetime,
            single_use_refresh_tokens: args.single_use_refresh_tokens,
            seed: args.seed,
        }
    }
}

/// Runs the simulator until Ctrl-C or SIGTERM.
///
/// The exit code is 0, or 69 where the address cannot be listened on.
pub async fn run(args: SimulateArgs) -> ExitCode {
    let listen = args.listen;
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "cannot listen on {listen}: {error}; choose another address with --listen, port 0 takes a free one"
            );
            return ExitCode::from(NOT_REACHABLE);
        }
    };
    let simulator = serve(listener, args.into()).await;
    // A reader that closed its end is no reason to stop serving.
    let _ = write!(io::stdout(), "{}", simulator.addresses().page()).and_then(|()| io::stdout().flush());
    told_to_stop().await;
    simulator.stop().await;
    ExitCode::SUCCESS
}

/// Waits for Ctrl-C or SIGTERM. A signal that cannot be listened for never comes.
async fn told_to_stop() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: SimulateArgs,
    }

    #[test]
    fn without_arguments_the_options_are_the_defaults() {
        let cli = Cli::try_parse_from(["simulate"]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Options::from(cli.args), Options::default());
    }

    #[test]
    fn arguments_become_options() {
        let line = ["simulate", "--fault-503", "0.1", "--latency", "20ms", "--retry-after", "fraction", "--token", "t"];
        let cli = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
        let wanted = Options {
            fault_503: 0.1,
            latency: Duration::from_millis(20),
            retry_after: RetryAfter::Fraction,
            token: Some(Secret::new("t")),
            ..Options::default()
        };
        assert_eq!(Options::from(cli.args), wanted);
    }

    #[test]
    fn a_share_out_of_range_is_refused() {
        assert!(Cli::try_parse_from(["simulate", "--reset", "2"]).is_err());
    }
}
