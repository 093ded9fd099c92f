//! The worker that somebody would write in Rust with lapin and reqwest: a task a delivery, on tokio's usual runtime.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Request {
    id: String,
    provider: String,
    item: Item,
    link: Link,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    drive_id: String,
    item_id: String,
}

#[derive(Deserialize, Serialize)]
struct Link {
    #[serde(rename = "type")]
    kind: String,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Permission {
    id: String,
    link: Granted,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Granted {
    #[serde(rename = "type")]
    kind: String,
    scope: Option<String>,
    web_url: String,
}

struct Means {
    client: reqwest::Client,
    base: String,
    publish: tokio::sync::Mutex<Channel>,
    replies: String,
}

async fn share(means: &Means, request: &Request) -> Value {
    let began = Instant::now();
    let Item { drive_id, item_id } = &request.item;
    let url = format!("{}/drives/{drive_id}/items/{item_id}/createLink", means.base);
    let body = serde_json::to_string(&request.link).expect("JSON");
    for attempts in 1.. {
        let call = means.client.post(&url).bearer_auth("bench").header("content-type", "application/json");
        let answer = call.body(body.clone()).send().await.expect("an answer");
        let status = answer.status().as_u16();
        if status == 429 {
            let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            tokio::time::sleep(Duration::from_secs_f64(header.unwrap_or(1.0))).await;
            continue;
        }
        let granted: Permission = serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("a permission");
        return json!({
            "id": request.id,
            "provider": request.provider,
            "status": if status == 201 { "created" } else { "reused" },
            "item": request.item,
            "link": { "id": granted.id, "url": granted.link.web_url, "html": null,
                      "granted": { "type": granted.link.kind, "scope": granted.link.scope } },
            "warnings": [],
            "error": null,
            "attempts": attempts,
            "elapsedMs": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "completedAt": jiff::Timestamp::now().to_string(),
        });
    }
    unreachable!("tried for ever")
}

async fn handle(means: &Means, delivery: Delivery) {
    let request: Request = serde_json::from_slice(&delivery.data).expect("a request");
    let body = serde_json::to_vec(&share(means, &request).await).expect("JSON");
    let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    let properties = match delivery.properties.correlation_id() {
        Some(id) => properties.with_correlation_id(id.clone()),
        None => properties,
    };
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let confirm = {
        let channel = means.publish.lock().await;
        channel.basic_publish("".into(), means.replies.as_str().into(), options, &body, properties).await
    };
    assert_eq!(confirm.expect("sent").await.expect("a confirm"), Confirmation::Ack(None));
    delivery.ack(BasicAckOptions::default()).await.expect("an acknowledgement");
}

/// The worker, until it is killed.
pub fn run() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let told = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is missing"));
        let connect = || async { Connection::connect(&told("AMQP_URL"), ConnectionProperties::default()).await };
        let (consuming, publishing) = (connect().await.expect("the broker"), connect().await.expect("the broker"));
        let publish = publishing.create_channel().await.expect("a channel");
        publish.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let consume = consuming.create_channel().await.expect("a channel");
        let prefetch = told("PREFETCH").parse().expect("a number");
        consume.basic_qos(prefetch, BasicQosOptions::default()).await.expect("a prefetch");
        let queue = told("REQUEST_QUEUE");
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = consume.basic_consume(queue.into(), "".into(), options, none).await.expect("a consumer");
        let means = Arc::new(Means {
            client: reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client"),
            base: told("BASE_URL"),
            publish: tokio::sync::Mutex::new(publish),
            replies: told("REPLY_QUEUE"),
        });
        while let Some(delivery) = consumer.next().await {
            let (means, delivery) = (means.clone(), delivery.expect("a delivery"));
            tokio::spawn(async move { handle(&means, delivery).await });
        }
    });
}
