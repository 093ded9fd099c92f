//! SIGTERM and Ctrl-C: the first one asks for an orderly stop, the second one ends the process at once.

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Exit code of a process that was told twice to stop: 128 + SIGINT, as shells have it.
const STOPPED_AT_ONCE: i32 = 130;

/// Cancels `stopping` on the first signal.
pub fn stop_on_signal(stopping: CancellationToken) {
    tokio::spawn(async move {
        if let Err(problem) = signal().await {
            error!(%problem, "signals cannot be received; stop the process by other means");
            return;
        }
        info!("stopping: no new requests; those in flight end first");
        stopping.cancel();
        if signal().await.is_ok() {
            warn!("stopping at once; the broker gives what was in flight to another worker");
            std::process::exit(STOPPED_AT_ONCE);
        }
    });
}

#[cfg(unix)]
async fn signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
