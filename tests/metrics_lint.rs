//! What a busy worker's `/metrics` says passes Prometheus' own check, and stays small.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/process.rs"]
mod process;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/requester.rs"]
mod requester;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use process::Setup;
use rabbit::Rabbit;
use requester::Requester;
use serde_json::{Value, json};
use sharelink::simulate;
use tokio::net::TcpListener;

/// Items whose names make the simulated providers answer in many ways.
const WORDS: [&str; 10] =
    ["01A", "01A", "missing", "forbidden", "flaky", "gateway", "lost", "wider", "throttled", "garbage"];

fn request(provider: &str, word: &str) -> Value {
    let item = json!({ if provider == "content" { "fileId" } else { "itemId" }: word });
    let link = if provider == "content" {
        json!({ "assignedUsers": "@serviceinstance" })
    } else {
        json!({ "type": "view", "scope": "organization" })
    };
    json!({ "provider": provider, "item": item, "link": link })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_of_a_busy_worker_pass_prometheus_own_check_and_are_few() {
    let node = tokio::task::block_in_place(Rabbit::shared);
    let simulator =
        simulate::serve(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), Default::default()).await;
    let mut setup = Setup::new(&node.url(), simulator.address);
    setup.without("personal");
    setup.set("RETRY__INITIAL_INTERVAL", "10ms");
    setup.set("RETRY__MAX_INTERVAL", "100ms");
    let worker = setup.ready().await;
    let idle = worker.metrics().await.0;
    let requester = Requester::new(&node.url()).await;
    for provider in ["contoso", "content"] {
        for word in WORDS {
            requester.send(&setup.names.requests, &request(provider, word)).await;
        }
        requester.send(&setup.names.requests, &json!({ "provider": provider })).await;
    }
    requester.send(&setup.names.requests, &request("nobody", "01A")).await;
    // Another look while calls are under way.
    let busy = worker.metrics().await.0;
    let sent = 2 * (WORDS.len() + 1) + 1;
    requester::until("every answer", async || requester.replies.all().len() == sent).await;
    let done = worker.metrics().await.0;

    for (moment, text) in [("idle", &idle), ("busy", &busy), ("done", &done)] {
        let complaints = promtool(text);
        assert!(complaints.is_empty(), "{moment}: {complaints}");
    }
    // The format wants what Go's ParseFloat takes, which is what Rust's parse takes too.
    for line in done.lines().filter(|line| !line.starts_with('#')) {
        let value: Option<f64> = line.rsplit(' ').next().and_then(|value| value.parse().ok());
        assert!(value.is_some_and(|value| !value.is_nan()), "{line}");
    }
    // Nothing comes to what was there from the start but calls, by the rarer statuses that came.
    let (before, after) = (series(&idle), series(&done));
    assert!(before.is_subset(&after));
    for new in after.difference(&before) {
        assert!(new.starts_with("sharelink_provider_calls_total{"), "{new}");
    }
    println!("{} series for two accounts, {} at the start", after.len(), before.len());
    assert!(after.len() < 300, "{} series", after.len());
}

/// What `promtool check metrics` says to this text; nothing where it is content.
fn promtool(text: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs promtool (Debian and Ubuntu: the package prometheus); `make test` installs it");
    child.stdin.take().expect("a piped stdin").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    if output.status.success() || !said.is_empty() { said } else { output.status.to_string() }
}

/// Every series, each bucket of a histogram counted.
fn series(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    names.map(|(name, _)| name.to_owned()).collect()
}
