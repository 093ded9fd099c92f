//! The demo through RabbitMQ: a whole worker in this process, and beside it a requester of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::mix::Planned;
use super::progress::Progress;
use super::report::Tally;
use crate::app;
use crate::broker;
use crate::broker::client::Requester;
use crate::config::Settings;
use crate::exit::Exit;
use crate::model::Status;
use crate::pipeline::clock::system_clock;
use crate::telemetry::health::Health;
use crate::telemetry::snapshot::Snapshot;

/// How long the worker may take until it consumes.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Sends the batch through the broker of `settings` and deletes its queues afterwards.
pub async fn run(
    settings: &Settings,
    batch: &[Planned],
    stopping: CancellationToken,
) -> Result<(Tally, Duration, Snapshot), Exit> {
    let clock = system_clock();
    let metrics = app::metrics(settings, &clock)?;
    let (pipeline, _) = app::pipeline(settings, clock, metrics.clone(), &stopping)?;
    let health = Arc::new(Health::new(Instant::now()));
    let server_stopping = CancellationToken::new();
    let page = super::status_page(settings, metrics.clone(), app::probes(&health), server_stopping.clone()).await?;

    let requester = Requester::connect(&settings.broker, "sharelink demo").await.map_err(unreachable)?;
    let worker = tokio::spawn({
        let (settings, metrics, health, stopping) =
            (settings.clone(), metrics.clone(), health.clone(), stopping.clone());
        async move {
            let grace = settings.shutdown.grace;
            broker::run(&settings.broker, app::worker_name(), pipeline, metrics, health, grace, stopping).await
        }
    });
    let ready = tokio::time::timeout(READY_WITHIN, health.until_ready()).await;
    let result = match ready {
        Ok(()) => exchange(&requester, settings, batch, &stopping).await,
        Err(_) => Err(unreachable(health.ready().err().unwrap_or_default())),
    };
    stopping.cancel();
    drop(worker.await);
    server_stopping.cancel();
    drop(page.await);
    if let Err(problem) = requester.delete_all(&settings.broker).await {
        eprintln!("the demo's queues could not be deleted: {problem}");
    }
    requester.close().await;
    let (tally, took) = result?;
    Ok((tally, took, Snapshot::of(&metrics)))
}

async fn exchange(
    requester: &Requester,
    settings: &Settings,
    batch: &[Planned],
    stopping: &CancellationToken,
) -> Result<(Tally, Duration), Exit> {
    let mut replies = requester.replies(&settings.broker.reply_queue).await.map_err(unreachable)?;
    let by_id: HashMap<_, _> = batch.iter().map(|planned| (planned.id.as_str(), planned)).collect();
    let mut tally = Tally::default();
    let mut progress = Progress::new(batch.len());
    let began = Instant::now();
    let mut sent = Vec::with_capacity(batch.len());
    for planned in batch {
        sent.push(requester.send(&planned.id, planned.body.as_bytes()).await.map_err(unreachable)?);
    }
    for sent in sent {
        sent.confirmed().await.map_err(unreachable)?;
    }
    while tally.answered() < batch.len() {
        tokio::select! {
            reply = replies.next() => {
                let (id, body) = reply.ok_or_else(|| unreachable("the broker closed the connection".to_owned()))?;
                count(&mut tally, by_id.get(id.as_str()).copied(), &id, &body);
            }
            () = progress.due() => progress.show(&tally, began.elapsed()),
            () = stopping.cancelled() => return Err(Exit::SomeFailed),
        }
    }
    let took = began.elapsed();
    progress.end(&tally, took);
    Ok((tally, took))
}

/// Reads a reply as any other program would: from its JSON alone.
fn count(tally: &mut Tally, planned: Option<&Planned>, id: &str, body: &[u8]) {
    let reply: Value = serde_json::from_slice(body).unwrap_or_default();
    let word = |member: &Value| member.as_str().map(ToOwned::to_owned);
    let status = word(&reply["status"]);
    let status =
        Status::ALL.into_iter().find(|known| Some(known.as_str()) == status.as_deref()).unwrap_or(Status::Failed);
    let (provider, kind) = (word(&reply["provider"]), word(&reply["error"]["kind"]));
    tally.count(planned, id, provider.as_deref(), status, kind.as_deref());
}

fn unreachable(problem: String) -> Exit {
    eprintln!("the broker: {problem}");
    Exit::Unreachable
}
