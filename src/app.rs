//! Composition: the only place that knows every part. Builds them from the settings, runs them, stops them in order.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::broker;
use crate::config::{self, Log, Needs, Settings};
use crate::exit::Exit;
use crate::pipeline::clock::{Clock, system_clock};
use crate::pipeline::ports::Provider;
use crate::pipeline::retry::RetryPolicy;
use crate::pipeline::{Account, Limits, Pipeline};
use crate::provider::{Accounts, remembered};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::{check, provider, server, signals};

/// Reads the configuration, or says every mistake on standard error.
///
/// # Errors
/// [`Exit::Configuration`], after saying why.
pub fn load(file: Option<&Path>) -> Result<Settings, Exit> {
    read(Needs { broker: true, providers: true }, file, |log| log)
}

/// What a command that a person runs logs unless the configuration says otherwise: warnings, but not those of parts whose
/// failures it tells itself. lapin calls every refused question an error.
const QUIET: &str = "warn,lapin=off,sharelink::provider=off";

/// [`load`] for a command that a person runs: only what it needs, with little in the log.
///
/// # Errors
/// [`Exit::Configuration`], after saying why.
pub fn load_for(needs: Needs, file: Option<&Path>) -> Result<Settings, Exit> {
    read(needs, file, |log| if log.level == "info" { Log { level: QUIET.to_owned(), ..log } } else { log })
}

fn read(needs: Needs, file: Option<&Path>, log: impl Fn(Log) -> Log) -> Result<Settings, Exit> {
    match config::load_for(needs, file, config::environment()) {
        Ok(loaded) => {
            start_logging(&log(loaded.settings.log.clone()))?;
            for warning in loaded.warnings {
                warn!("{warning}");
            }
            Ok(loaded.settings)
        }
        Err(problems) => {
            eprintln!("{problems}");
            Err(Exit::Configuration)
        }
    }
}

fn start_logging(log: &Log) -> Result<(), Exit> {
    crate::telemetry::log::start(log).map_err(|problem| {
        eprintln!("{problem}");
        Exit::Configuration
    })
}

/// All metrics of a worker with these settings, at zero.
///
/// # Errors
/// [`Exit::Bug`], after saying why.
pub fn metrics(settings: &Settings, clock: &Clock) -> Result<Arc<Metrics>, Exit> {
    let providers: Vec<&str> = settings.providers.keys().map(String::as_str).collect();
    let broker = &settings.broker;
    let queues = [broker.request_queue.as_str(), &broker.reply_queue, &broker.dead_letter_queue];
    let metrics = Metrics::new(&providers, &queues).map_err(|problem| {
        error!(%problem, "the metrics cannot be set up");
        Exit::Bug
    })?;
    for (queue, role) in queues.into_iter().zip(["request", "reply", "dead_letter"]) {
        metrics.queue_role(queue, role);
    }
    metrics.started_at(clock().as_duration().as_secs_f64());
    Ok(Arc::new(metrics))
}

/// The pipeline over the configured providers, and their accounts. Whoever waits in line at one stops when `stopping` is
/// cancelled.
///
/// # Errors
/// [`Exit::Configuration`], after saying which provider cannot be set up and why.
pub fn pipeline(
    settings: &Settings,
    clock: Clock,
    metrics: Arc<Metrics>,
    stopping: &CancellationToken,
) -> Result<(Arc<Pipeline>, Accounts), Exit> {
    let remembered = settings.state.file.as_ref().map(|file| remembered::read(file, clock())).unwrap_or_default();
    let built = provider::accounts(settings, &metrics, &remembered, stopping)
        .and_then(|accounts| Ok((provider::build(settings, &metrics, &accounts)?, accounts)));
    let (providers, calling) = built.map_err(|problem| {
        error!("{problem}");
        Exit::Configuration
    })?;
    let accounts = providers
        .into_iter()
        .filter_map(|(name, provider): (String, Arc<dyn Provider>)| {
            let policy = settings.providers.get(&name)?.policy.clone();
            Some(Account { name: name.into(), provider, policy })
        })
        .collect();
    let retry = &settings.retry;
    let limits = Limits {
        retry: RetryPolicy {
            max_attempts: retry.max_attempts,
            max_interval: retry.max_interval,
            max_elapsed: retry.max_elapsed,
            inline_limit: retry.inline_limit,
        },
        initial_interval: retry.initial_interval,
        max_request_bytes: settings.broker.max_request_bytes,
        max_deliveries: settings.broker.max_deliveries,
    };
    Ok((Arc::new(Pipeline::new(accounts, limits, clock, fastrand::f64, metrics)), calling))
}

/// `sharelink worker`: consume, create, reply, until SIGTERM or Ctrl-C.
pub async fn worker(file: Option<&Path>) -> Exit {
    match run_worker(file).await {
        Ok(()) => Exit::Well,
        Err(exit) => exit,
    }
}

async fn run_worker(file: Option<&Path>) -> Result<(), Exit> {
    let settings = load(file)?;
    let stopping = CancellationToken::new();
    signals::stop_on_signal(stopping.clone());
    serve(&settings, stopping).await
}

/// Runs a whole worker with these settings until `stopping` is cancelled.
///
/// # Errors
/// The exit code, after saying why.
pub async fn serve(settings: &Settings, stopping: CancellationToken) -> Result<(), Exit> {
    let clock = system_clock();
    let metrics = metrics(settings, &clock)?;
    let (pipeline, accounts) = pipeline(settings, clock.clone(), metrics.clone(), &stopping)?;
    let health = Arc::new(Health::new(tokio::time::Instant::now()));

    let listener = listen(settings).await?;
    let probes = probes(&health);
    // The server outlives the broker's drain: a worker that is stopping still says so.
    let server_stopping = CancellationToken::new();
    let server = tokio::spawn(server::serve(listener, metrics.clone(), probes, clock.clone(), server_stopping.clone()));

    let keeping =
        settings.state.file.clone().map(|file| tokio::spawn(remembered::keep(file, accounts, clock, stopping.clone())));
    let grace = settings.shutdown.grace;
    let working = broker::run(
        &settings.broker,
        worker_name(),
        pipeline,
        metrics.clone(),
        health.clone(),
        grace,
        stopping.clone(),
    );
    let looking = async {
        check::at_start(settings, &health, stopping).await;
        std::future::pending::<Infallible>().await
    };
    let ended = tokio::select! {
        biased;
        ended = working => ended,
        never = looking => match never {},
    };
    server_stopping.cancel();
    drop(server.await);
    if let (true, Some(keeping)) = (ended.is_ok(), keeping) {
        drop(keeping.await);
    }
    ended.map_err(|problem| {
        error!("{problem}");
        Exit::Unreachable
    })?;
    info!("stopped");
    Ok(())
}

/// What `/livez` and `/readyz` ask.
pub fn probes(health: &Arc<Health>) -> server::Probes {
    let (ready, live) = (health.clone(), health.clone());
    server::Probes {
        ready: Arc::new(move || ready.ready()),
        live: Arc::new(move || live.live(tokio::time::Instant::now())),
    }
}

async fn listen(settings: &Settings) -> Result<TcpListener, Exit> {
    let address = settings.server.listen;
    let listener = TcpListener::bind(address).await.map_err(|problem| {
        error!(%address, %problem, "server.listen: cannot listen there; name a free address, or port 0 for any");
        Exit::Configuration
    })?;
    if let Ok(address) = listener.local_addr() {
        info!(%address, "metrics, health and the status page");
    }
    Ok(listener)
}

/// Who this worker is, in dead letters and in the broker's list of connections.
pub fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}:{}", if host.is_empty() { "sharelink" } else { host }, std::process::id())
}
