//! `cargo bench --bench batch`: links that wait for their turn, one in a call and up to twenty in a call, against the simulated
//! Graph, with few calls at once as behind a proxy or a cautious setting.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a measuring program stops where it fails"
)]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sharelink::config::{
    Auth, Limits, OneDrive as Settings, OneDriveApi, Policy, Provider as Configured, ProviderKind,
};
use sharelink::model::{History, Secret, ShareRequest};
use sharelink::pipeline::ports::Provider;
use sharelink::provider::account::{Account, Waiting};
use sharelink::provider::{http, onedrive::OneDrive};
use sharelink::simulate::{self, Options};
use sharelink::telemetry::metrics::Metrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LINKS: usize = 1_000;

struct Measured {
    seconds: f64,
    calls: u64,
}

async fn measure(latency: Duration, max_in_flight: u32, batch: bool) -> Measured {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let simulator = simulate::serve(listener, Options { latency, ..Options::default() }).await;
    let onedrive = Settings {
        api: OneDriveApi::Graph,
        base_url: format!("http://{address}/graph/v1.0").parse().unwrap(),
        drive: "/me/drive".to_owned(),
        batch,
        action: "createLink".to_owned(),
    };
    let settings = Configured {
        name: "graph".to_owned(),
        kind: ProviderKind::OneDrive(onedrive.clone()),
        timeout: Duration::from_secs(60),
        limits: Limits { max_in_flight, requests_per_minute: 0, units_per_minute: 0 },
        auth: Auth::Bearer { token: Secret::new("t") },
        policy: Policy::default(),
    };
    let metrics = Metrics::new(&["graph"], &[]).unwrap();
    let waiting = Waiting {
        patience: Duration::from_secs(5),
        room: u32::MAX,
        shared: false,
        gives_up_after: Duration::from_secs(900),
        stopping: CancellationToken::new(),
    };
    let account = Account::new(&settings, http::client().unwrap(), metrics.provider("graph"), waiting, None).unwrap();
    let provider = Arc::new(OneDrive::new(&onedrive, Arc::new(account)).unwrap());
    let began = Instant::now();
    let links = (0..LINKS).map(|item| {
        let provider = provider.clone();
        async move {
            let object = |value: serde_json::Value| value.as_object().cloned().unwrap();
            let request = ShareRequest {
                id: item.to_string(),
                provider: None,
                item: object(serde_json::json!({"itemId": format!("item-{item}")})),
                link: object(serde_json::json!({"type": "view", "scope": "organization"})),
                deadline: None,
            };
            provider.prepare(&request).unwrap().ensure_link(History::Fresh).await.unwrap();
        }
    });
    join_all(links).await;
    let seconds = began.elapsed().as_secs_f64();
    simulator.stop().await;
    let text = metrics.render().unwrap();
    let lines = text.lines().filter(|line| line.starts_with("sharelink_provider_call_duration_seconds_count"));
    let calls = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
    Measured { seconds, calls }
}

#[tokio::main]
async fn main() {
    println!(
        "| calls at once, latency | one in a call: calls | links a second | up to 20 in a call: calls | links a second |"
    );
    println!("|---|--:|--:|--:|--:|");
    for (latency, at_once) in [(50, 4), (250, 4), (250, 64)] {
        let [off, on] = [
            measure(Duration::from_millis(latency), at_once, false).await,
            measure(Duration::from_millis(latency), at_once, true).await,
        ];
        println!(
            "| {at_once}, {latency} ms | {} | {:.0} | {} | {:.0} |",
            off.calls,
            LINKS as f64 / off.seconds,
            on.calls,
            LINKS as f64 / on.seconds
        );
    }
}
