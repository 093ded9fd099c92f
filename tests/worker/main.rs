//! Whole trips with the real program: `sharelink worker` as a process, a real RabbitMQ node, both providers simulated,
//! and a requester that knows nothing of sharelink but its contract.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/rabbit.rs"]
mod rabbit;
#[path = "../support/requester.rs"]
mod requester;

mod answers;
mod interruptions;
mod secrets;
mod startup;
mod waits;

use process::{Setup, Worker};
use rabbit::Rabbit;
use requester::{Message, Requester};
use serde_json::{Value, json};
use sharelink::simulate::{self, Simulator};
use tokio::net::TcpListener;

/// A simulator in this process, so that a test can look at what it holds.
async fn simulator() -> Simulator {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    simulate::serve(listener, simulate::Options::default()).await
}

/// The shared node's address. Starting a node takes seconds, in which simulators have to go on answering.
fn shared_node() -> &'static Rabbit {
    tokio::task::block_in_place(Rabbit::shared)
}

/// Everything one test needs.
struct World {
    simulator: Simulator,
    setup: Setup,
    worker: Worker,
    requester: Requester,
}

impl World {
    /// A worker that consumes from queues of its own at the shared node.
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with some keys set otherwise.
    async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let node = shared_node();
        let simulator = simulator().await;
        let mut setup = Setup::new(&node.url(), simulator.address);
        change(&mut setup);
        let worker = setup.ready().await;
        let requester = Requester::new(&node.url()).await;
        Self { simulator, setup, worker, requester }
    }

    fn requests(&self) -> &str {
        &self.setup.names.requests
    }

    async fn ask(&self, body: &Value) -> Message {
        self.requester.ask(self.requests(), body).await
    }
}

/// A request for a link of the kind that every account can make.
fn request(provider: &str, item: &Value) -> Value {
    let link = match provider {
        "contoso" => json!({ "type": "view", "scope": "organization" }),
        "personal" => json!({ "type": "edit" }),
        _ => json!({ "assignedUsers": "@serviceinstance", "role": "downloader" }),
    };
    json!({ "provider": provider, "item": item, "link": link })
}

/// So many requests for different items of all accounts, each of which keeps the provider busy for a while. Every fourth
/// makes the provider send a mail.
fn slow_requests(count: usize) -> Vec<Value> {
    let mailed = |number: usize| {
        let mut body = request("contoso", &json!({ "itemId": format!("slow-200-item-{number}") }));
        let people = [format!("person-{number}@example.com")];
        body["link"] = json!({ "type": "view", "scope": "users", "recipients": people, "sendNotification": true });
        body
    };
    let sort = |number: usize| match number % 4 {
        0 => request("contoso", &json!({ "itemId": format!("slow-200-item-{number}") })),
        1 => request("personal", &json!({ "itemId": format!("slow-200-item-{number}") })),
        2 => request("content", &json!({ "folderId": format!("slow-100-item-{number}") })),
        _ => mailed(number),
    };
    (0..count).map(sort).collect()
}
