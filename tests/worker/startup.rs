//! How a worker begins: readiness, and what ends it at once.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::process::run;
use super::requester::{Requester, until};
use super::{Setup, World, request, shared_node, simulator};

/// A way to the broker that can be closed: what comes while it is closed is turned away, what was open is cut.
struct Gate {
    address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
}

impl Gate {
    async fn closed(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let open = Arc::new(watch::Sender::new(false));
        let asked = open.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut asked = asked.subscribe();
                tokio::spawn(async move {
                    if *asked.borrow()
                        && let Ok(mut to) = TcpStream::connect(target).await
                    {
                        tokio::select! {
                            _ = copy_bidirectional(&mut from, &mut to) => {}
                            _ = asked.wait_for(|open| !*open) => {}
                        }
                    }
                });
            }
        });
        Self { address, open }
    }

    fn open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_ready_only_while_it_consumes_and_live_all_the_time() {
    let node = shared_node();
    let broker: SocketAddr = node.url().split(['@', '/']).nth(3).unwrap().parse().unwrap();
    let gate = Gate::closed(broker).await;
    let url = node.url().replace(&broker.to_string(), &gate.address.to_string());
    let simulator = simulator().await;
    let mut setup = Setup::new(&url, simulator.address);
    setup.set("BROKER__CONNECT_TIMEOUT", "2s");
    let worker = setup.start().await;
    let connected = async |value: f64| {
        let metrics = worker.metrics().await;
        ["consume", "publish"]
            .iter()
            .all(|role| metrics.value(&format!("sharelink_broker_connected{{role=\"{role}\"}}")) == value)
    };

    let not_ready = async || {
        let (status, body) = worker.get("/readyz").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let why = body["why"].as_str().unwrap_or_default();
        status == 503 && body["ready"] == false && why.contains(&gate.address.to_string())
    };
    until("not ready, and why", not_ready).await;
    assert_eq!(worker.get("/livez").await.0, 200);
    assert!(connected(0.0).await);

    gate.open(true);
    worker.until_ready().await;
    assert_eq!(worker.get("/livez").await.0, 200);
    assert!(connected(1.0).await);
    let requester = Requester::new(&node.url()).await;
    let requests = &setup.names.requests;
    assert_eq!(requester.ask(requests, &request("contoso", &json!({"itemId": "01"}))).await.outcome(), "created");

    gate.open(false);
    until("not ready again", async || worker.get("/readyz").await.0 == 503).await;
    assert_eq!(worker.get("/livez").await.0, 200);
    until("not connected", async || connected(0.0).await).await;

    gate.open(true);
    worker.until_ready().await;
    assert_eq!(requester.ask(requests, &request("contoso", &json!({"itemId": "01"}))).await.outcome(), "reused");
    assert_eq!(worker.get("/livez").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_ends_the_worker_with_78_and_every_mistake_at_once() {
    let mut setup = Setup::new("amqp://guest:guest@127.0.0.1:1/%2f", ([127, 0, 0, 1], 1).into());
    let text = std::fs::read_to_string(setup.config()).unwrap();
    let text = text.replace("api = \"graph\"", "api = \"grpah\"").replace("client_id", "clientid");
    std::fs::write(setup.config(), text).unwrap();
    setup.set("BROKER__PREFETCH", "0");
    setup.set("RETRY__MAX_INTERVAL", "30");
    let ended = run(&mut setup.command()).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let file = setup.config().display().to_string();
    for part in
        ["grpah", "clientid", "client_id", "SHARELINK__BROKER__PREFETCH", "SHARELINK__RETRY__MAX_INTERVAL", &file]
    {
        assert!(ended.stderr.contains(part), "{part} in:\n{}", ended.stderr);
    }
    assert!(ended.stderr.lines().count() >= 4, "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_the_login_ends_the_worker_with_69_and_the_reason() {
    let node = shared_node();
    let url = node.url();
    for (wrong, named) in [
        (url.replace("guest:guest", "guest:wr0ng-pass"), "password"),
        (url.replace("%2f", "no-such-host"), "virtual host"),
    ] {
        let ended = run(&mut Setup::new(&wrong, ([127, 0, 0, 1], 1).into()).command()).await;
        assert_eq!(ended.code, Some(69), "{ended:?}");
        assert!(ended.stderr.contains("refuses the connection") && ended.stderr.contains(named), "{}", ended.stderr);
        assert!(!ended.stderr.contains("wr0ng-pass"), "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_are_missing_where_none_may_be_made_end_the_worker_with_69_and_their_names() {
    let node = shared_node();
    let mut setup = Setup::new(&node.url(), ([127, 0, 0, 1], 1).into());
    setup.set("BROKER__TOPOLOGY", "verify");
    let ended = run(&mut setup.command()).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
    assert!(ended.stderr.contains(&setup.names.requests), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_ends_the_worker_with_78_and_names_it() {
    let world = World::new().await;
    let mut setup = Setup::new(&shared_node().url(), world.simulator.address);
    setup.set("SERVER__LISTEN", &world.worker.address().to_string());
    let ended = run(&mut setup.command()).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains(&world.worker.address().to_string()), "{}", ended.stderr);
}
