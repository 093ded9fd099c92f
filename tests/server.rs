//! The HTTP paths of the contract, over a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sharelink::model::{ErrorKind, Status};
use sharelink::server;
use sharelink::telemetry::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

struct Served {
    address: std::net::SocketAddr,
    ready: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn served() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new(&["contoso", "content"], &["sharelink.requests"]).unwrap());
    let ready = Arc::new(AtomicBool::new(false));
    let asked = ready.clone();
    let ready_probe: server::Probe = Arc::new(move || {
        asked.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "not connected to the broker".to_owned())
    });
    let probes = server::Probes { ready: ready_probe, ..server::Probes::always() };
    let stopping = CancellationToken::new();
    let task = tokio::spawn(server::serve(listener, metrics.clone(), probes, stopping.clone()));
    Served { address, ready, metrics, stopping, task }
}

impl Served {
    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap();
        (status, answer)
    }
}

#[tokio::test]
async fn readiness_follows_the_broker_and_liveness_does_not() {
    let served = served().await;
    let (status, body) = served.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains(r#"{"ready":false,"why":"not connected to the broker"}"#), "{body}");
    assert_eq!(served.get("/livez").await.0, 200);
    served.ready.store(true, Ordering::SeqCst);
    assert_eq!(served.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn every_metric_of_the_contract_is_there_at_zero_before_anything_happened() {
    let served = served().await;
    let (status, text) = served.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
    for line in [
        r#"sharelink_links_total{outcome="created",provider="contoso"} 0"#,
        r#"sharelink_links_total{outcome="reused",provider="content"} 0"#,
        r#"sharelink_replies_total{provider="contoso",status="failed"} 0"#,
        r#"sharelink_settlements_total{cause="answered",settlement="ack"} 0"#,
        r#"sharelink_settlements_total{cause="connection_lost",settlement="stale"} 0"#,
        r#"sharelink_request_duration_seconds_count{provider="contoso",status="created"} 0"#,
        "sharelink_queue_wait_seconds_count 0",
        r#"sharelink_provider_calls_total{code="201",operation="create_link",provider="contoso"} 0"#,
        r#"sharelink_provider_call_duration_seconds_count{operation="create_link",provider="contoso"} 0"#,
        r#"sharelink_retries_total{provider="contoso",reason="rateLimited"} 0"#,
        r#"sharelink_throttle_wait_seconds_total{provider="contoso"} 0"#,
        r#"sharelink_in_flight{provider="contoso"} 0"#,
        r#"sharelink_provider_paused{provider="contoso"} 0"#,
        r#"sharelink_queue_messages_ready{queue="sharelink.requests"} 0"#,
        r#"sharelink_links_revoked_total{provider="contoso"} 0"#,
        r#"sharelink_broker_connected{role="consume"} 0"#,
        r#"sharelink_broker_connected{role="publish"} 0"#,
        "sharelink_broker_reconnects_total 0",
        r#"sharelink_token_refreshes_total{provider="contoso",result="failed"} 0"#,
    ] {
        assert!(text.lines().any(|shown| shown == line), "no line {line} in\n{text}");
    }
    for kind in ErrorKind::ALL {
        let line = format!(r#"sharelink_failures_total{{kind="{}",provider="contoso"}} 0"#, kind.as_str());
        assert!(text.contains(&line), "{line}");
    }
    assert!(text.contains("sharelink_build_info{revision="), "{text}");
    assert!(text.contains("sharelink_throttle_limit{provider=\"contoso\"}"), "{text}");
}

#[tokio::test]
async fn the_status_page_shows_links_created_and_reused() {
    let served = served().await;
    served.metrics.replied("contoso", Status::Created, None);
    let (status, page) = served.get("/").await;
    assert_eq!(status, 200);
    assert!(page.contains("<td>contoso</td><td>1</td><td>0</td>"), "{page}");
    assert_eq!(served.get("/nowhere").await.0, 404);
}

#[tokio::test]
async fn the_server_ends_when_it_is_told_to() {
    let served = served().await;
    served.stopping.cancel();
    served.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}
