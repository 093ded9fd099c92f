//! The worker's own HTTP: `/metrics`, `/livez`, `/readyz` and the status page at `/`.
//!
//! The listener and the stop signal are handed in; nothing in here can change what the worker does.

mod page;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::Metrics;
use crate::telemetry::snapshot::Snapshot;

/// Answers a probe: well, or why not, in plain words.
pub type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What `/livez` and `/readyz` ask.
#[derive(Clone)]
pub struct Probes {
    /// Whether the worker really consumes and can publish.
    pub ready: Probe,
    /// Whether the process runs its loop; a broker outage does not change it.
    pub live: Probe,
}

impl Probes {
    /// For a process that has no broker to wait for.
    pub fn always() -> Self {
        Self { ready: Arc::new(|| Ok(())), live: Arc::new(|| Ok(())) }
    }
}

/// Content type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page needs nothing but its own inline style, and nobody may frame it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// Serves until `stopping` is cancelled.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    probes: Probes,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(metrics, probes))
        .with_graceful_shutdown(async move { stopping.cancelled().await })
        .await
}

fn router(metrics: Arc<Metrics>, Probes { ready, live }: Probes) -> Router {
    let shown = metrics.clone();
    let page_ready = ready.clone();
    Router::new()
        .route("/metrics", get(async move || metrics_text(&metrics)))
        .route("/livez", get(async move || probe_json("live", live())))
        .route("/readyz", get(async move || probe_json("ready", ready())))
        .route("/", get(async move || status_page(&shown, &page_ready())))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "not found; there are /metrics, /livez, /readyz and the status page at /\n")
        })
}

fn metrics_text(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {error}\n")).into_response()
        }
    }
}

fn probe_json(what: &str, well: Result<(), String>) -> Response {
    match well {
        Ok(()) => json(StatusCode::OK, serde_json::json!({ what: true })),
        Err(why) => json(StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ what: false, "why": why })),
    }
}

fn json(status: StatusCode, body: serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn status_page(metrics: &Metrics, ready: &Result<(), String>) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, page::render(&Snapshot::of(metrics), ready)).into_response()
}
