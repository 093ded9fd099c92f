//! `cargo bench`: what the pure parts of a trip cost, each alone. PERFORMANCE.md sets them beside the whole.

#![allow(missing_docs, clippy::unwrap_used, reason = "a measuring program stops where it fails")]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use sharelink::broker::replies::{Routes, To, compose};
use sharelink::config::{Broker, OneDriveApi, Policy, QueueType, Topology};
use sharelink::model::{Asked, Envelope, Failure, Granted, Made, Properties, Reply, Travel};
use sharelink::pipeline::decode::decode;
use sharelink::pipeline::policy;
use sharelink::pipeline::ports::{CallFailure, Retry};
use sharelink::pipeline::retry::{Attempts, RetryPolicy, Step};
use sharelink::provider::onedrive::answer;
use sharelink::provider::onedrive::request::Ask;

const BODY: &str = r#"{"id":"order-000042/contract.pdf","provider":"contoso","item":{"driveId":"b!abc","itemId":"01ABCDEF000042"},"link":{"type":"view","scope":"organization","expirationDateTime":"2027-01-31T00:00:00Z"}}"#;
const ANSWER: &str = include_str!("../tests/fixtures/microsoft/21-graph-created-anonymous-haspassword.json");

fn envelope(body: Vec<u8>) -> Envelope {
    let properties = Properties { correlation_id: Some("c-1".to_owned()), ..Properties::default() };
    Envelope { body: Bytes::from(body), properties, travel: Travel::default() }
}

fn now() -> jiff::Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn decoding(criterion: &mut Criterion) {
    let plain = envelope(BODY.as_bytes().to_vec());
    criterion.bench_function("decode/200 B", |bench| {
        bench.iter(|| decode(black_box(&plain), 1 << 20, String::new).unwrap());
    });
    let long = BODY.replacen('{', &format!("{{{}", " ".repeat(64 * 1024)), 1);
    let long = envelope(long.into_bytes());
    criterion.bench_function("decode/64 KiB", |bench| {
        bench.iter(|| decode(black_box(&long), 1 << 20, String::new).unwrap());
    });
}

fn checking(criterion: &mut Criterion) {
    let request = decode(&envelope(BODY.as_bytes().to_vec()), 1 << 20, String::new).unwrap().request;
    let rules = Policy {
        allow_types: Some(vec!["view".to_owned(), "edit".to_owned()]),
        max_expiry: Some(Duration::from_secs(90 * 24 * 3600)),
        ..Policy::default()
    };
    criterion.bench_function("check", |bench| {
        bench.iter(|| {
            let ask = Ask::read(OneDriveApi::Graph, black_box(&request.item), &request.link).unwrap();
            policy::allow(&rules, &ask.asked, now()).unwrap();
            ask
        });
    });
}

fn retrying(criterion: &mut Criterion) {
    let limits = RetryPolicy {
        max_attempts: 8,
        max_interval: Duration::from_secs(30),
        max_elapsed: Duration::from_secs(900),
        inline_limit: Duration::from_secs(5),
    };
    let refused = || CallFailure {
        failure: Failure::new(sharelink::model::ErrorKind::RateLimited, "later"),
        retry: Retry::Yes,
        retry_after: Some(Duration::from_secs(1)),
        may_have_happened: false,
    };
    criterion.bench_function("retry/a call, a refusal, a call", |bench| {
        bench.iter(|| {
            let mut attempts = Attempts::resume(limits, black_box(&Travel::default()), None, now());
            assert_eq!(attempts.next(now()), Step::Call);
            attempts.called(now());
            let step = attempts.failed(refused(), Duration::from_millis(500), 0.5, now());
            attempts.called(now());
            (step, attempts.made())
        });
    });
}

fn answering(criterion: &mut Criterion) {
    let asked =
        Asked { own_type: "view".to_owned(), neutral_type: "view", audience: None, expires: None, has_password: true };
    criterion.bench_function("answer/read and compare", |bench| {
        bench.iter(|| answer::read_plain(201, black_box(ANSWER.as_bytes()), &asked).unwrap().unwrap());
    });
    let settings = Broker {
        urls: Vec::new(),
        request_queue: "requests".to_owned(),
        reply_queue: "replies".to_owned(),
        dead_letter_queue: "dead".to_owned(),
        exchange: "sharelink".to_owned(),
        prefetch: 100,
        topology: Topology::Verify,
        queue_type: QueueType::Quorum,
        reply_to_allow: vec!["*".to_owned()],
        max_request_bytes: 1 << 20,
        max_deliveries: 10,
        connect_timeout: Duration::from_secs(1),
        publish_timeout: Duration::from_secs(1),
        heartbeat: Duration::from_secs(1),
    };
    let routes = Routes::new(&settings);
    let envelope = envelope(BODY.as_bytes().to_vec());
    let request = decode(&envelope, 1 << 20, String::new).unwrap().request;
    let link = Granted {
        id: "123ABC".to_owned(),
        url: "https://contoso-my.sharepoint.com/:w:/g/personal/A6913278E564460AA616C71B28AD6EB6".to_owned(),
        html: None,
        granted: request.link.clone(),
    };
    let reply = Reply {
        id: request.id,
        provider: Some("contoso".to_owned()),
        item: Some(request.item),
        result: Ok((Made::Created, link)),
        warnings: Vec::new(),
        attempts: 1,
        elapsed_ms: 51,
        completed_at: now(),
    };
    criterion.bench_function("reply/compose", |bench| {
        bench.iter(|| compose(&routes, black_box(&envelope), &reply, To::Configured).unwrap());
    });
}

criterion_group!(parts, decoding, checking, retrying, answering);
criterion_main!(parts);
