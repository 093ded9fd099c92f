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

/// Says whether the worker is ready, else why not, in plain words.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

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
    readiness: Readiness,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(metrics, readiness))
        .with_graceful_shutdown(async move { stopping.cancelled().await })
        .await
}

fn router(metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    let shown = metrics.clone();
    let ready = readiness.clone();
    Router::new()
        .route("/metrics", get(async move || metrics_text(&metrics)))
        .route("/livez", get(async || json(StatusCode::OK, serde_json::json!({ "live": true }))))
        .route("/readyz", get(async move || ready_json(ready())))
        .route("/", get(async move || status_page(&shown, &readiness())))
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

fn ready_json(ready: Result<(), String>) -> Response {
    match ready {
        Ok(()) => json(StatusCode::OK, serde_json::json!({ "ready": true })),
        Err(why) => json(StatusCode::SERVICE_UNAVAILABLE, serde_json::json!({ "ready": false, "why": why })),
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
