//! The worker's own HTTP: `/metrics`, `/livez`, `/readyz`, the status page at `/` and its updates at `/events`.
//!
//! The listener and the stop signal are handed in; nothing in here can change what the worker does, and no client can
//! hold up its end.

mod chart;
mod kinds;
mod live;
mod page;
mod parts;
mod verdict;
mod view;
mod words;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::Metrics;
use live::{Live, SEATS};

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

/// Tells the time of day.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A stream on which nothing was sent for so long gets a comment, so that nobody in between takes it for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// So long a client may still read after the stop. One that does not read at all would keep the process for ever.
const LINGER: Duration = Duration::from_secs(2);

/// Serves until `stopping` is cancelled, and then until every client has its answer, but no longer than two seconds.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    probes: Probes,
    wall: WallClock,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let live = Arc::new(Live::new(metrics.clone(), probes.clone(), wall));
    let app = router(metrics, probes, live.clone(), stopping.clone());
    let told = stopping.clone();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async move { told.cancelled().await });
    let lingering = async {
        stopping.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = lingering => Ok(()),
        never = live.run() => match never {},
    }
}

fn router(
    metrics: Arc<Metrics>,
    Probes { ready, live }: Probes,
    page: Arc<Live>,
    stopping: CancellationToken,
) -> Router {
    let watched = page.clone();
    let policy = HeaderValue::try_from(page::policy()).ok();
    Router::new()
        .route("/metrics", get(async move || metrics_text(&metrics)))
        .route("/livez", get(async move || probe_json("live", live())))
        .route("/readyz", get(async move || probe_json("ready", ready())))
        .route("/", get(async move || status_page(&page, policy.clone())))
        .route("/events", get(async move || events(&watched, stopping)))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "not found; there are /metrics, /livez, /readyz and the status page at /\n")
        })
        .layer(map_response(as_declared))
}

/// No browser may take an answer for something else than it says it is.
async fn as_declared(mut response: Response) -> Response {
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
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

fn status_page(page: &Live, policy: Option<HeaderValue>) -> Response {
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let policy = policy.map(|policy| [(header::CONTENT_SECURITY_POLICY, policy)]);
    (headers, policy, page.page()).into_response()
}

fn events(page: &Live, stopping: CancellationToken) -> Response {
    match page.watch(stopping) {
        Some(stream) => {
            let alive = KeepAlive::new().interval(HEARTBEAT).text("still here");
            // Without the second header a proxy such as nginx would gather the events.
            let headers = [(header::CACHE_CONTROL, "no-store"), (HeaderName::from_static("x-accel-buffering"), "no")];
            (headers, Sse::new(stream).keep_alive(alive)).into_response()
        }
        None => {
            let words = format!("{SEATS} browsers watch this page already; close one, or reload / now and then\n");
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], words).into_response()
        }
    }
}

#[cfg(test)]
mod samples;
