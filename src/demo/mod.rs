//! `sharelink demo`: the main job with nothing installed. Simulated providers, a mixed batch through the real pipeline,
//! a table at the end; in memory, or through RabbitMQ with `--broker`.

mod mix;
mod over_broker;
mod progress;
mod report;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Settings};
use crate::exit::Exit;
use crate::memory;
use crate::model::{Envelope, Properties, Travel};
use crate::pipeline::clock::system_clock;
use crate::simulate::{self, Simulator};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::snapshot::Snapshot;
use crate::{app, server, signals};
use mix::Planned;
use progress::Progress;
use report::Tally;

/// The configuration of the demo; the same file can be used with `sharelink worker` against `sharelink simulate`.
const CONFIGURATION: &str = include_str!("../../config/demo.toml");

/// The simulated providers answer after about this long.
const LATENCY: Duration = Duration::from_millis(15);

/// Options of `sharelink demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Send the requests through this RabbitMQ, worker and all (amqp://user:password@host:5672/%2f); its queues are
    /// made for the run and deleted after it
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// How many requests
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    requests: usize,
    /// Where the status page and the metrics are served while it runs
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,
}

/// Runs the demo.
pub async fn run(args: DemoArgs) -> Exit {
    let stopping = CancellationToken::new();
    signals::stop_on_signal(stopping.clone());
    match show(&args, stopping).await {
        Ok(()) => Exit::Well,
        Err(exit) => exit,
    }
}

async fn show(args: &DemoArgs, stopping: CancellationToken) -> Result<(), Exit> {
    let providers = simulated_providers().await?;
    let settings = settings(args, &providers)?;
    let batch = mix::plan(args.requests);
    println!(
        "sharelink demo: {} share requests to three simulated accounts ({})",
        batch.len(),
        mix::ACCOUNTS.join(", ")
    );
    let (tally, took, snapshot) = match &args.broker {
        None => in_memory(&settings, &batch, stopping).await?,
        Some(_) => over_broker::run(&settings, &batch, stopping).await?,
    };
    print!("{}", tally.table(batch.len(), took, &snapshot));
    next_steps(args);
    if tally.answered() != batch.len() {
        eprintln!("not every request was answered; that is a bug, please report it");
        return Err(Exit::Bug);
    }
    if !tally.surprises().is_empty() {
        eprintln!("{} requests ended otherwise than the demo expects:", tally.surprises().len());
        for surprise in tally.surprises().iter().take(10) {
            eprintln!("  {surprise}");
        }
        return Err(Exit::Bug);
    }
    Ok(())
}

async fn simulated_providers() -> Result<Simulator, Exit> {
    let listener = bind("127.0.0.1:0".parse().map_err(|_| Exit::Bug)?).await?;
    let options = simulate::Options { latency: LATENCY, ..simulate::Options::default() };
    Ok(simulate::serve(listener, options).await)
}

async fn bind(address: std::net::SocketAddr) -> Result<TcpListener, Exit> {
    TcpListener::bind(address).await.map_err(|problem| {
        eprintln!("cannot listen on {address}: {problem}");
        Exit::Unreachable
    })
}

/// The demo's configuration, with the addresses of this run over those of the file.
fn settings(args: &DemoArgs, providers: &Simulator) -> Result<Settings, Exit> {
    let at = providers.address;
    let run = uuid::Uuid::new_v4().simple().to_string();
    let mut over = vec![
        ("SHARELINK__SERVER__LISTEN".to_owned(), args.listen.to_string()),
        ("SHARELINK__PROVIDERS__CONTOSO__BASE_URL".to_owned(), format!("http://{at}/graph/v1.0")),
        ("SHARELINK__PROVIDERS__CONTOSO__AUTH__TOKEN_URL".to_owned(), format!("http://{at}/contoso/oauth2/v2.0/token")),
        ("SHARELINK__PROVIDERS__PERSONAL__BASE_URL".to_owned(), format!("http://{at}/onedrive/v1.0")),
        ("SHARELINK__PROVIDERS__CONTENT__BASE_URL".to_owned(), format!("http://{at}/documents/api/1.2")),
        ("SHARELINK__LOG__LEVEL".to_owned(), "warn".to_owned()),
    ];
    if let Some(url) = &args.broker {
        over.push(("SHARELINK__BROKER__URL".to_owned(), url.clone()));
        for (key, queue) in [
            ("EXCHANGE", "exchange"),
            ("REQUEST_QUEUE", "requests"),
            ("REPLY_QUEUE", "replies"),
            ("DEAD_LETTER_QUEUE", "dead"),
        ] {
            over.push((format!("SHARELINK__BROKER__{key}"), format!("sharelink.demo.{run}.{queue}")));
        }
    }
    let loaded = config::load_text("config/demo.toml", CONFIGURATION, over.into_iter()).map_err(|problems| {
        // The only variable that holds what somebody typed.
        eprintln!("{}", problems.to_string().replace("SHARELINK__BROKER__URL", "--broker"));
        Exit::Configuration
    })?;
    crate::telemetry::log::start(&loaded.settings.log).map_err(|problem| {
        eprintln!("{problem}");
        Exit::Configuration
    })?;
    Ok(loaded.settings)
}

async fn in_memory(
    settings: &Settings,
    batch: &[Planned],
    stopping: CancellationToken,
) -> Result<(Tally, Duration, Snapshot), Exit> {
    let clock = system_clock();
    let metrics = app::metrics(settings, &clock)?;
    let (pipeline, _) = app::pipeline(settings, clock, metrics.clone(), &stopping)?;
    let (door, mut ends) = memory::door();
    let server_stopping = CancellationToken::new();
    let page = status_page(settings, metrics.clone(), server::Probes::always(), server_stopping.clone()).await?;
    let prefetch = usize::from(settings.broker.prefetch);
    let replies = ends.take_replies();
    let running = tokio::spawn(memory::run(door.clone(), ends, pipeline, prefetch, metrics.clone(), stopping.clone()));

    let began = Instant::now();
    for planned in batch {
        let body = planned.body.clone().into();
        // The id travels as a property too, so that a request that is no JSON can be told from the others.
        let properties = Properties { message_id: Some(planned.id.clone()), ..Properties::default() };
        door.submit(Envelope { body, properties, travel: Travel::default() });
    }
    let mut tally = Tally::default();
    let mut progress = Progress::new(batch.len());
    let by_id: std::collections::HashMap<_, _> = batch.iter().map(|planned| (planned.id.as_str(), planned)).collect();
    let mut replies = replies.ok_or(Exit::Bug)?;
    while tally.answered() < batch.len() {
        tokio::select! {
            Some((envelope, reply)) = replies.recv() => {
                let id = envelope.properties.message_id.unwrap_or_default();
                tally.count_reply(by_id.get(id.as_str()).copied(), &id, &reply);
            }
            () = progress.due() => progress.show(&tally, began.elapsed()),
            () = stopping.cancelled() => return Err(Exit::SomeFailed),
        }
    }
    let took = began.elapsed();
    progress.end(&tally, took);
    stopping.cancel();
    drop(running.await);
    server_stopping.cancel();
    drop(page.await);
    Ok((tally, took, Snapshot::of(&metrics)))
}

async fn status_page(
    settings: &Settings,
    metrics: Arc<Metrics>,
    probes: server::Probes,
    stopping: CancellationToken,
) -> Result<tokio::task::JoinHandle<std::io::Result<()>>, Exit> {
    let listener = bind(settings.server.listen).await?;
    if let Ok(address) = listener.local_addr() {
        println!("status page while it runs: http://{address}/  metrics: http://{address}/metrics");
    }
    Ok(tokio::spawn(server::serve(listener, metrics, probes, system_clock(), stopping)))
}

fn next_steps(args: &DemoArgs) {
    println!();
    println!("Where to look next");
    if args.broker.is_none() {
        println!("  the same through RabbitMQ:      sharelink demo --broker amqp://guest:guest@127.0.0.1:5672/%2f");
    }
    println!(
        "  the simulated providers alone:  sharelink simulate   (then: sharelink worker --config config/demo.toml)"
    );
    println!("  a real account:                 config/onedrive.toml, config/oracle.toml, README.md");
}
