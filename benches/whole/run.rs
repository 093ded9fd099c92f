//! One measurement: queues filled beforehand, a fresh simulated provider, one worker, and what it used meanwhile.
//!
//! What is measured lies between the replies number a tenth and nineteen twentieths, so that neither a runtime's start
//! nor the last stragglers count. Afterwards every request must have exactly one reply.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::contender::{Contender, Told};
use crate::process::{Setup, sharelink};
use crate::rabbit::Rabbit;
use crate::usage;

/// No run takes longer; one that does has lost something.
const LONGEST: Duration = Duration::from_secs(900);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Latency of the provider, in ms.
    pub latency: u64,
    /// Requests that wait when the worker starts.
    pub requests: usize,
    pub prefetch: u16,
    /// Bytes that every request is longer than usual.
    pub body: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Requests a second.
    pub rate: f64,
    /// Processor time a request, in µs.
    pub cpu: f64,
    /// The most memory resident, in MiB.
    pub memory: f64,
}

impl Measured {
    pub fn median(list: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| {
            let mut values: Vec<f64> = list.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Self { rate: of(|one| one.rate), cpu: of(|one| one.cpu), memory: of(|one| one.memory) }
    }
}

pub async fn run(node: &Rabbit, series: Series, contender: Contender) -> Measured {
    let (simulator, address) = simulator(series.latency).await;
    let mut setup = Setup::new(&node.url(), address);
    setup.set("BROKER__PREFETCH", &series.prefetch.to_string());
    for provider in ["CONTOSO", "PERSONAL", "CONTENT"] {
        setup.set(&format!("PROVIDERS__{provider}__LIMITS__MAX_IN_FLIGHT"), "100");
    }
    // The queues are those of the worker, whoever is measured.
    let declaring = setup.ready().await;
    declaring.terminate().await;
    declaring.ended().await;

    let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await.expect("the broker");
    let channel = connection.create_channel().await.expect("a channel");
    fill(&channel, &setup.names.requests, series, contender == Contender::Celery).await;
    let base_url = format!("http://{address}/graph/v1.0");
    let told = Told {
        broker: &node.url(),
        base_url: &base_url,
        requests: &setup.names.requests,
        replies: &setup.names.replies,
        prefetch: series.prefetch,
    };
    let mut command = if contender == Contender::Sharelink {
        let mut command = setup.command();
        command.stderr(Stdio::null());
        command
    } else {
        contender.command(&told)
    };
    let mut worker = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", contender.name()));
    let measured = watch(&channel, &setup.names.replies, series.requests, &mut worker).await;
    worker.kill().await.expect("the worker can be ended");
    answered(&connection, &setup.names.replies, series.requests, contender).await;

    for queue in [&setup.names.requests, &setup.names.replies, &setup.names.dead] {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("the queue goes");
    }
    for step in ["1s", "2s", "5s", "10s", "30s", "1m", "2m", "5m", "10m", "30m", "1h"] {
        let queue = format!("{}.delay.{step}", setup.names.requests);
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("the queue goes");
    }
    let _ = connection.close(200, "done".into()).await;
    drop(simulator);
    measured
}

/// `sharelink simulate` in a process of its own, and where it listens.
async fn simulator(latency: u64) -> (Child, SocketAddr) {
    let mut command = sharelink();
    command.args(["simulate", "--listen", "127.0.0.1:0", "--latency", &format!("{latency}ms")]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the simulator starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
    let address = async {
        while let Ok(Some(line)) = lines.next_line().await {
            let after = line.split_once("http://127.0.0.1:").map(|(_, after)| after);
            let port = after.map(|after| after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
            if let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) {
                return SocketAddr::from(([127, 0, 0, 1], port));
            }
        }
        panic!("the simulator does not say where it listens");
    };
    let address = timeout(Duration::from_secs(30), address).await.expect("the simulator says where it listens");
    // Its further words are not read; there must be room for them.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

/// A request. With `body`, so many bytes of white space in it, which JSON allows.
fn request(number: usize, body: usize) -> String {
    let space = " ".repeat(body);
    format!(
        r#"{{"id":"order-{number:06}/contract.pdf","provider":"contoso","item":{{"driveId":"b!abc","itemId":"01ABCDEF{number:06}"}},"link":{{"type":"view","scope":"organization"}}{space}}}"#
    )
}

async fn fill(channel: &Channel, queue: &str, series: Series, for_celery: bool) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    let mut confirms = Vec::with_capacity(1000);
    for number in 0..series.requests {
        let id = format!("c-{number}");
        let mut body = request(number, series.body);
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_correlation_id(id.as_str().into());
        if for_celery {
            // Celery's own form of a task (its message protocol 2).
            body = format!("[[{body}],{{}},{{}}]");
            let mut headers = FieldTable::default();
            for (name, value) in [("lang", "py"), ("task", "share"), ("id", &id), ("root_id", &id)] {
                headers.insert(name.into(), AMQPValue::LongString(value.into()));
            }
            properties = properties.with_headers(headers).with_content_encoding("utf-8".into());
        }
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
        confirms.push(publish.await.expect("a request is sent"));
        if confirms.len() == 1000 || number + 1 == series.requests {
            for confirm in confirms.drain(..) {
                assert!(confirm.await.expect("a confirm").is_ack(), "the broker refused a request");
            }
        }
    }
}

async fn ready(channel: &Channel, queue: &str) -> usize {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await.expect("the reply queue");
    queue.message_count() as usize
}

async fn watch(channel: &Channel, replies: &str, requests: usize, worker: &mut Child) -> Measured {
    let pid = worker.id().expect("a running worker");
    let began = Instant::now();
    let mark = |count: usize| (count, Instant::now(), usage::cpu(pid));
    let (from, to) = ((requests / 10).max(1), requests - requests / 20);
    let (mut first, mut last) = (None, None);
    loop {
        let count = ready(channel, replies).await;
        if first.is_none() && count >= from {
            first = Some(mark(count));
        }
        if last.is_none() && count >= to {
            last = Some(mark(count));
        }
        if count >= requests {
            break;
        }
        let ended = worker.try_wait().expect("the worker can be asked");
        assert!(ended.is_none(), "the worker ended after {count} replies: {ended:?}");
        assert!(began.elapsed() < LONGEST, "{count} of {requests} replies after {} s", LONGEST.as_secs());
        sleep(Duration::from_millis(10)).await;
    }
    let memory = usage::memory(pid);
    let (Some((a, start, cpu_before)), Some((b, end, cpu_after))) = (first, last) else { unreachable!("both are set") };
    let count = (b.saturating_sub(a)).max(1) as f64;
    Measured {
        rate: count / (end - start).as_secs_f64(),
        cpu: (cpu_after.saturating_sub(cpu_before)).as_secs_f64() * 1e6 / count,
        memory,
    }
}

/// Every request has one reply, and it is a link.
async fn answered(connection: &Connection, replies: &str, requests: usize, contender: Contender) {
    let channel = connection.create_channel().await.expect("a channel");
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer =
        channel.basic_consume(replies.into(), "".into(), options, FieldTable::default()).await.expect("a consumer");
    let mut seen = std::collections::BTreeSet::new();
    let mut created = 0_usize;
    while seen.len() < requests {
        let next = timeout(Duration::from_secs(30), consumer.next()).await;
        let delivery = next.ok().flatten().expect("a reply").expect("a reply");
        let reply: serde_json::Value = serde_json::from_slice(&delivery.data).expect("a reply is JSON");
        created += usize::from(reply["status"] == "created" && reply["link"]["url"].is_string());
        seen.insert(reply["id"].as_str().expect("a reply has an id").to_owned());
    }
    assert_eq!(created, requests, "{}: not every reply is a link", contender.name());
    let _ = channel.close(200, "done".into()).await;
}
