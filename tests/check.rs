//! `sharelink check` against real brokers and sign-in services, good ones and wrong ones, and the same look by a worker.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/command.rs"]
mod command;
#[path = "support/rabbit.rs"]
mod rabbit;

use std::time::Duration;

use command::{Config, Ended};
use lapin::Connection;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use rabbit::Rabbit;
use sharelink::broker::{self, topology};
use sharelink::config;
use sharelink::model::Secret;
use sharelink::simulate::{self, Simulator};
use tokio::io::{AsyncBufReadExt, BufReader};

struct World {
    prefix: String,
    simulator: Simulator,
    settings: config::Broker,
    connection: Connection,
}

/// What a test changes in the configuration.
struct Change<'a> {
    url: String,
    broker: &'a str,
    secret: &'a str,
}

impl World {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options =
            simulate::Options { client_secret: Some(Secret::new("right-secret")), ..simulate::Options::default() };
        let simulator = simulate::serve(listener, options).await;
        let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
        let config = written(&prefix, &simulator, &Change::none());
        let loaded = config::load(Some(&config.path()), std::iter::empty());
        let settings = loaded.unwrap_or_else(|problems| panic!("{problems}")).settings.broker;
        let connection = broker::connect(&settings, "test").await.expect("the node answers");
        Self { prefix, simulator, settings, connection }
    }

    async fn check(&self, change: Change<'_>) -> Ended {
        written(&self.prefix, &self.simulator, &change).run(&["check"]).await
    }

    async fn is_there(&self, queue: &str) -> bool {
        let channel = self.connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions::default().passive();
        channel.queue_declare(queue.into(), options, FieldTable::default()).await.is_ok()
    }

    async fn declare(&self, queue: &str, kind: &str, limit: Option<i64>) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        if kind == "quorum" {
            // As the worker does, but for the limit.
            for (name, value) in [
                ("x-dead-letter-exchange", ""),
                ("x-dead-letter-routing-key", self.settings.dead_letter_queue.as_str()),
                ("x-dead-letter-strategy", "at-least-once"),
                ("x-overflow", "reject-publish"),
            ] {
                arguments.insert(name.into(), AMQPValue::LongString(value.into()));
            }
        }
        if let Some(limit) = limit {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(limit));
        }
        let channel = self.connection.create_channel().await.unwrap();
        channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    }
}

impl Change<'_> {
    fn none() -> Self {
        Self { url: Rabbit::shared().url(), broker: "", secret: "right-secret" }
    }
}

fn written(prefix: &str, simulator: &Simulator, change: &Change<'_>) -> Config {
    let at = simulator.address;
    let Change { url, broker, secret } = change;
    Config::new(&format!(
        "[broker]\nurl = \"{url}\"\nrequest_queue = \"{prefix}.requests\"\nreply_queue = \"{prefix}.replies\"\n\
         dead_letter_queue = \"{prefix}.dead\"\nexchange = \"{prefix}.sharelink\"\nconnect_timeout = \"30s\"\n{broker}\n\
         [server]\nlisten = \"127.0.0.1:0\"\n\
         [providers.contoso]\nkind = \"onedrive\"\nbase_url = \"http://{at}/graph/v1.0\"\n\
         [providers.contoso.auth]\nmethod = \"client_credentials\"\ntoken_url = \"http://{at}/contoso/oauth2/v2.0/token\"\n\
         client_id = \"c\"\nclient_secret = \"{secret}\"\nscope = \"https://graph.microsoft.com/.default\"\n\
         [providers.content]\nkind = \"oracle\"\nbase_url = \"http://{at}/documents/api/1.2\"\n\
         public_url = \"http://{at}/documents\"\n[providers.content.auth]\nmethod = \"basic\"\nusername = \"u\"\n\
         password = \"hunter2\"\n"
    ))
}

/// The lines that begin with this sign.
fn signed(ended: &Ended, sign: char) -> Vec<&str> {
    ended.out.lines().filter_map(|line| line.strip_prefix(sign)).collect()
}

#[track_caller]
fn has(lines: &[&str], parts: &[&str]) {
    assert!(lines.iter().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?} in {lines:#?}");
}

#[tokio::test]
async fn a_good_broker_is_found_good_before_and_after_a_worker_made_its_queues() {
    let world = World::new().await;
    let before = world.check(Change::none()).await.with(0);
    assert!(signed(&before, '✗').is_empty() && signed(&before, '!').is_empty(), "{}", before.out);
    let good = signed(&before, '✓');
    has(&good, &["configuration", "sharelink.toml"]);
    has(&good, &["connected as \"guest\" to \"/\""]);
    has(&good, &[&world.settings.request_queue, "not there yet"]);
    has(&good, &["11 of 11 delay queues", "not there yet"]);
    has(&good, &["permission to publish replies"]);
    has(&good, &["contoso", "signed in at 127.0.0.1"]);
    has(&signed(&before, '·'), &["content", "only a request can tell"]);
    has(&signed(&before, '·'), &["consumer timeout"]);
    for queue in [&world.settings.request_queue, &world.settings.reply_queue, &world.settings.dead_letter_queue] {
        assert!(!world.is_there(queue).await, "{queue} was made by looking");
    }

    topology::establish(&world.connection, &world.settings).await.unwrap();
    let channel = world.connection.create_channel().await.unwrap();
    let (queue, options) = (world.settings.request_queue.as_str(), BasicPublishOptions::default());
    channel.basic_publish("".into(), queue.into(), options, b"{}", BasicProperties::default()).await.unwrap();
    let after = world.check(Change::none()).await.with(0);
    assert!(signed(&after, '✗').is_empty() && signed(&after, '!').is_empty(), "{}", after.out);
    has(&signed(&after, '✓'), &[queue, "there, as configured"]);
    has(&signed(&after, '✓'), &["delay queues", "11 of 11"]);
    has(&signed(&after, '✓'), &["permission to consume"]);
    assert!(!format!("{before:?}{after:?}").contains("hunter2"));
    // What the configuration's own reader has to say, and nothing of the client library's.
    for line in before.err.lines().chain(after.err.lines()) {
        assert!(line.contains("providers.content.auth.method"), "{line}");
    }
    let waiting = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    assert!(!waiting.redelivered, "looking took a request");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_showing_it_and_the_providers_are_still_checked() {
    let world = World::new().await;
    let url = Rabbit::shared().url().replace("guest:guest", "guest:hunter2");
    let ended = world.check(Change { url, ..Change::none() }).await.with(69);
    has(&signed(&ended, '✗'), &["ACCESS_REFUSED", "password"]);
    has(&signed(&ended, '✓'), &["contoso", "signed in"]);
    assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
}

#[tokio::test]
async fn a_missing_virtual_host_is_told() {
    let world = World::new().await;
    let url = Rabbit::shared().url().replace("/%2f", "/nowhere");
    let ended = world.check(Change { url, ..Change::none() }).await.with(69);
    has(&signed(&ended, '✗'), &["nowhere", "virtual host"]);
}

#[tokio::test]
async fn a_queue_of_another_type_and_a_low_delivery_limit_are_remarks() {
    let world = World::new().await;
    world.declare(&world.settings.reply_queue, "classic", None).await;
    world.declare(&world.settings.request_queue, "quorum", Some(3)).await;
    world.declare(&world.settings.dead_letter_queue, "classic", None).await;
    let channel = world.connection.create_channel().await.unwrap();
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let exchange = world.settings.exchange.as_str();
    channel.exchange_declare(exchange.into(), ExchangeKind::Direct, options, FieldTable::default()).await.unwrap();
    let ended = world.check(Change::none()).await.with(0);
    let remarks = signed(&ended, '!');
    has(&remarks, &[&world.settings.reply_queue, "type classic", "\"quorum\""]);
    has(&remarks, &[&world.settings.request_queue, "delivery limit 3", "max_deliveries = 16"]);
    has(&remarks, &[exchange, "otherwise than configured", "direct"]);
}

#[tokio::test]
async fn a_dead_letter_queue_with_a_delivery_limit_is_a_remark() {
    let world = World::new().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let (queue, options) = (world.settings.dead_letter_queue.as_str(), QueueDeclareOptions::durable());
    let channel = world.connection.create_channel().await.unwrap();
    channel.queue_declare(queue.into(), options, arguments).await.unwrap();
    let ended = world.check(Change::none()).await.with(0);
    has(&signed(&ended, '!'), &[queue, "20 times", "sharelink dead"]);
}

#[tokio::test]
async fn what_is_missing_where_nothing_may_be_declared_is_an_error() {
    let world = World::new().await;
    let ended = world.check(Change { broker: "topology = \"verify\"", ..Change::none() }).await.with(69);
    let errors = signed(&ended, '✗');
    for name in [&world.settings.request_queue, &world.settings.dead_letter_queue, &world.settings.exchange] {
        has(&errors, &[name, "missing", "topology"]);
    }
}

#[tokio::test]
async fn missing_permissions_are_told_in_words() {
    let world = World::new().await;
    topology::establish(&world.connection, &world.settings).await.unwrap();
    let user = world.prefix.as_str();
    Rabbit::shared().ctl(&["add_user", user, "hunter2"]);
    // May look at its queues and do nothing else.
    Rabbit::shared().ctl(&["set_permissions", user, ".*", "^$", "^$"]);
    let url = Rabbit::shared().url().replace("guest:guest", &format!("{user}:hunter2"));
    let ended = world.check(Change { url, ..Change::none() }).await.with(69);
    let errors = signed(&ended, '✗');
    has(&errors, &["consume from queue", "permission to read", "set_permissions"]);
    has(&errors, &["publish replies", "permission to write"]);
}

#[tokio::test]
async fn a_wrong_client_secret_is_told_with_the_account_and_without_the_secret() {
    let world = World::new().await;
    let ended = world.check(Change { secret: "hunter3", ..Change::none() }).await.with(69);
    has(&signed(&ended, '✗'), &["provider contoso", "invalid_client", "[providers.contoso.auth]"]);
    has(&signed(&ended, '✓'), &["permission to publish replies"]);
    assert!(!format!("{ended:?}").contains("hunter3"), "{ended:?}");
}

#[tokio::test]
async fn every_mistake_in_the_configuration_comes_before_anything_is_reached() {
    let config = Config::new("[broker]\nurl = \"amqp://[::1]\"\nprefetch = 0\n");
    let ended = config.run(&["check"]).await.with(78);
    assert!(
        ended.err.contains("IPv6") && ended.err.contains("prefetch") && ended.err.contains("providers"),
        "{ended:?}"
    );
    assert_eq!(ended.out, "");
}

#[tokio::test]
async fn a_worker_logs_what_it_finds_at_its_start_and_works_all_the_same() {
    let world = World::new().await;
    world.declare(&world.settings.request_queue, "quorum", Some(3)).await;
    let config = written(&world.prefix, &world.simulator, &Change::none());
    let mut worker = config.start(&["worker"]);
    let mut lines = BufReader::new(worker.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        let mut wanted = vec!["connected to the broker and consuming", "below broker.max_deliveries = 16"];
        while let Some(line) = lines.next_line().await.unwrap() {
            wanted.retain(|words| !line.contains(words));
            seen.push(line);
            if wanted.is_empty() {
                return true;
            }
        }
        false
    });
    assert!(told.await.is_ok_and(|told| told), "{seen:#?}");
    assert!(worker.try_wait().unwrap().is_none(), "the worker ended");
    worker.kill().await.unwrap();
}
