//! The HTTP paths of the contract, over a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use std::time::Duration;

use base64::Engine;
use sharelink::model::{ErrorKind, Failure, Status};
use sharelink::pipeline::clock::system_clock;
use sharelink::server;
use sharelink::telemetry::metrics::Metrics;
use sharelink::telemetry::recent::FailureNote;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
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
    let task = tokio::spawn(server::serve(listener, metrics.clone(), probes, system_clock(), stopping.clone()));
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

    /// Opens the stream of updates.
    async fn events(&self) -> Events {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        Events { stream, seen: String::new() }
    }
}

/// Long enough for a busy machine; no test waits for it unless it fails.
const SOON: Duration = Duration::from_secs(60);

/// A stream of updates as it comes over the wire.
struct Events {
    stream: TcpStream,
    seen: String,
}

impl Events {
    /// Everything that came, as soon as it holds these words.
    async fn until(&mut self, words: &str) -> &str {
        let mut some = [0; 4096];
        while !self.seen.contains(words) {
            let read = timeout(SOON, self.stream.read(&mut some)).await;
            let read = read.unwrap_or_else(|_| panic!("{words:?} does not come:\n{}", self.seen)).unwrap();
            assert!(read > 0, "the stream ended before {words:?}:\n{}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&some[..read]));
        }
        &self.seen
    }

    /// Reads to the end of the answer.
    async fn end(mut self) -> String {
        let mut rest = Vec::new();
        timeout(SOON, self.stream.read_to_end(&mut rest)).await.expect("the stream ends").unwrap();
        self.seen + &String::from_utf8_lossy(&rest)
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
async fn the_status_page_shows_what_was_counted() {
    let served = served().await;
    served.metrics.replied("contoso", Status::Created, None);
    served.metrics.replied("contoso", Status::Failed, Some(ErrorKind::NotFound));
    let mut failure = Failure::new(ErrorKind::NotFound, "the item /secret/plan.docx does not exist");
    failure.provider.http_status = Some(404);
    failure.provider.code = Some("itemNotFound".to_owned());
    served.metrics.recent().failed(FailureNote::of(jiff::Timestamp::UNIX_EPOCH, "contoso", &failure));
    let (status, page) = served.get("/").await;
    assert_eq!(status, 200);
    assert!(page.contains("<dt>Created</dt><dd><b>1</b> <span>since the start"), "{page}");
    assert!(page.contains(r#"<time datetime="1970-01-01T00:00:00Z">Jan 01, 00:00:00</time>"#), "{page}");
    assert!(page.contains(r#"data-column="HTTP">404</td><td role="cell" data-column="code">itemNotFound</td>"#));
    assert!(!page.contains("plan.docx"));
    assert!(page.contains("<b>Not working.</b> Not connected to the broker."), "{page}");
    served.ready.store(true, Ordering::SeqCst);
    assert!(served.get("/").await.1.contains("<b>Working.</b>"));
    assert_eq!(served.get("/nowhere").await.0, 404);
}

#[tokio::test]
async fn the_policy_of_the_page_allows_its_own_style_and_script_and_nothing_else() {
    let (_, answer) = served().await.get("/").await;
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    let hash = |element: &str| {
        let inside =
            page.split_once(&format!("<{element}>")).unwrap().1.split_once(&format!("</{element}>")).unwrap().0;
        let digest = ring::digest::digest(&ring::digest::SHA256, inside.as_bytes());
        format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(digest))
    };
    let mut rules: Vec<&str> = policy.split("; ").collect();
    rules.sort_unstable();
    let (style, script) = (format!("style-src {}", hash("style")), format!("script-src {}", hash("script")));
    assert_eq!(
        rules,
        [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src data:",
            &script,
            &style,
        ]
    );
    for header in ["cache-control: no-store", "x-content-type-options: nosniff", "referrer-policy: no-referrer"] {
        assert!(head.lines().any(|line| line == header), "{header} in\n{head}");
    }
}

#[tokio::test]
async fn a_stream_begins_with_everything_and_goes_on_with_what_changes() {
    let served = served().await;
    let mut events = served.events().await;
    let first = events.until("\n\n\r\n").await;
    for words in
        ["200 OK", "content-type: text/event-stream", "cache-control: no-store", "event: page\n", "retry: 2000\n"]
    {
        assert!(first.contains(words), "{words} in\n{first}");
    }
    let numbers = |seen: &str| -> Vec<u64> {
        seen.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect()
    };
    let data = first.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let parts: serde_json::Value = serde_json::from_str(data).unwrap();
    for id in ["title", "verdict", "tiles", "chart", "providers", "kinds", "failures", "broker", "build", "uptime"] {
        assert!(parts[id].is_string(), "{id} in {parts}");
    }
    served.metrics.replied("contoso", Status::Created, None);
    let seen = events.until("<dt>Created</dt><dd><b>1</b>").await;
    let ids = numbers(seen);
    assert!(ids.len() >= 2 && ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    // The failures did not change, so they are told once.
    assert_eq!(seen.matches("\"failures\":").count(), 1, "{seen}");
}

#[tokio::test]
async fn there_are_seats_for_32_streams_and_the_next_is_told_so_until_one_leaves() {
    let served = served().await;
    let mut watching = Vec::new();
    for _ in 0..32 {
        let mut events = served.events().await;
        events.until("event: page").await;
        watching.push(events);
    }
    let (status, answer) = served.get("/events").await;
    assert_eq!(status, 503);
    assert!(answer.contains("32 browsers watch this page already"), "{answer}");
    assert_eq!(served.get("/").await.0, 200);
    watching.pop();
    let free = async {
        loop {
            let mut events = served.events().await;
            if events.until("HTTP/1.1 ").await.contains("200 OK") {
                break;
            }
        }
    };
    timeout(SOON, free).await.expect("the seat of who left is free");
}

#[tokio::test]
async fn an_open_stream_ends_with_the_server() {
    let served = served().await;
    let mut events = served.events().await;
    events.until("event: page").await;
    served.stopping.cancel();
    timeout(Duration::from_secs(2), served.task).await.expect("the server ends at once").unwrap().unwrap();
    // The end of a chunked answer: the browser knows that it is whole.
    assert!(events.end().await.ends_with("\r\n0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_never_reads_holds_up_neither_the_others_nor_the_end() {
    let served = served().await;
    // An account's name that makes one moment larger than all buffers between the two ends.
    served.metrics.replied(&"n".repeat(4 << 20), Status::Created, None);
    let mut stuck = Vec::new();
    for _ in 0..2 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(served.address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stream.readable().await.unwrap();
        stuck.push(stream);
    }
    assert_eq!(served.get("/livez").await.0, 200);
    served.stopping.cancel();
    timeout(Duration::from_secs(20), served.task).await.expect("the server ends").unwrap().unwrap();
}

#[tokio::test]
async fn the_server_ends_when_it_is_told_to() {
    let served = served().await;
    served.stopping.cancel();
    served.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}
