//! What comes back, and where: the contract's sections 1 and 2 as another program sees them.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::requester::{Requester, asking, until};
use super::{Setup, World, request, shared_node, simulator};

/// Account, an item, and the same kind of item that is not there.
fn faces() -> [(&'static str, Value, Value); 7] {
    let share = |name: &str| json!({ "shareUrl": format!("https://contoso.sharepoint.com/sites/team/{name}") });
    [
        ("contoso", json!({ "itemPath": "/Reports/plan.docx" }), json!({ "itemPath": "/Reports/missing.docx" })),
        ("contoso", json!({ "itemId": "01ABCDEF" }), json!({ "itemId": "missing-1" })),
        ("contoso", share("budget.xlsx"), share("missing.xlsx")),
        ("personal", json!({ "itemId": "01ABCDEF" }), json!({ "itemId": "missing-1" })),
        ("personal", json!({ "itemPath": "/Pictures/sea #1.jpg" }), json!({ "itemPath": "/Pictures/missing.jpg" })),
        ("content", json!({ "folderId": "FBE1117A270E" }), json!({ "folderId": "missing-1" })),
        ("content", json!({ "fileId": "DBE1117A270E" }), json!({ "fileId": "missing-1" })),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_face_of_the_providers_creates_a_link_then_hands_it_out_again_then_says_what_is_missing() {
    let world = World::new().await;
    let links = |provider: &str, outcome: &str| {
        format!("sharelink_links_total{{outcome=\"{outcome}\",provider=\"{provider}\"}}")
    };
    let not_found = |provider: &str| format!("sharelink_failures_total{{kind=\"notFound\",provider=\"{provider}\"}}");
    let before = world.worker.metrics().await;
    let mut urls = Vec::new();
    for (provider, item, missing) in faces() {
        for series in [links(provider, "created"), links(provider, "reused"), not_found(provider)] {
            assert_eq!(before.value(&series), 0.0, "{series}");
        }
        let asked = request(provider, &item);
        let [created, reused] = [world.ask(&asked).await, world.ask(&asked).await];
        assert_eq!((created.outcome(), reused.outcome()), ("created".to_owned(), "reused".to_owned()), "{item}");
        assert_eq!(created.url(), reused.url(), "{item}");
        urls.push(created.url());

        let reply = created.json();
        assert_eq!((&reply["provider"], &reply["item"]), (&json!(provider), &item));
        assert_eq!((&reply["error"], &reply["attempts"], &reply["warnings"]), (&Value::Null, &json!(1), &json!([])));
        let (member, granted) = if provider == "content" { ("role", "downloader") } else { ("type", "") };
        let said = reply["link"]["granted"][member].as_str().unwrap_or_default();
        let granted = if granted.is_empty() { asked["link"]["type"].as_str().unwrap() } else { granted };
        assert_eq!(said, granted, "{reply}");

        let refused = world.ask(&request(provider, &missing)).await;
        assert_eq!(refused.outcome(), "failed/notFound", "{missing}");
        let error = &refused.json()["error"];
        assert_eq!((&error["retryable"], &error["httpStatus"]), (&json!(false), &json!(404)), "{error}");
        assert_eq!(refused.json()["link"], Value::Null);
    }
    let after = world.worker.metrics().await;
    for (provider, items) in [("contoso", 3.0), ("personal", 2.0), ("content", 2.0)] {
        for series in [links(provider, "created"), links(provider, "reused"), not_found(provider)] {
            assert_eq!(after.value(&series), items, "{series}");
        }
        let replies = format!("sharelink_replies_total{{provider=\"{provider}\",status=\"failed\"}}");
        assert_eq!(after.value(&replies), items);
        let finished =
            format!("sharelink_request_duration_seconds_count{{provider=\"{provider}\",status=\"created\"}}");
        assert_eq!(after.value(&finished), items);
    }
    let stats = world.simulator.state.stats();
    assert_eq!((stats.all.tally.created, stats.all.doubled), (7, 0));
    assert_eq!(urls.iter().collect::<std::collections::BTreeSet<_>>().len(), 7, "{urls:?}");

    // What the log says at info is free of data.
    let log = world.worker.log();
    let items = ["plan.docx", "01ABCDEF", "budget", "sea #1", "FBE1117A270E", "DBE1117A270E", "missing-1"];
    for data in items.into_iter().chain(urls.iter().map(String::as_str)) {
        assert!(!log.contains(data), "{data} in the log:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_carries_every_property_of_the_contract_and_a_repeated_answer_the_same_message_id() {
    let world = World::new().await;
    let correlation = " Ä=\"1\"/%2f\t→ ";
    let mut headers = FieldTable::default();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent".into(), AMQPValue::LongString(trace.into()));
    headers.insert("tracestate".into(), AMQPValue::LongString("vendor=1".into()));
    let properties = asking(&world.requester.queue, correlation)
        .with_message_id("m-1".into())
        .with_content_type("application/json".into())
        .with_headers(headers);
    let body = request("contoso", &json!({ "itemId": "01PROPERTIES" })).to_string();
    let mut message_ids = Vec::new();
    for (number, status) in ["created", "reused"].into_iter().enumerate() {
        world.requester.publish("", world.requests(), body.as_bytes(), properties.clone()).await;
        let replies = &world.requester.replies;
        until("a reply", async || replies.all().len() > number).await;
        let reply = replies.all().remove(number);
        assert_eq!(reply.outcome(), status);
        assert_eq!(reply.correlation_id().as_bytes(), correlation.as_bytes());
        let said = &reply.properties;
        assert_eq!(said.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(*said.delivery_mode(), Some(2));
        assert_eq!(said.kind().as_ref().unwrap().as_str(), "sharelink.reply.v1");
        assert_eq!(said.app_id().as_ref().unwrap().as_str(), "sharelink");
        let completed: jiff::Timestamp = reply.json()["completedAt"].as_str().unwrap().parse().unwrap();
        assert_eq!(said.timestamp().map(i64::try_from), Some(Ok(completed.as_second())));
        assert_eq!(reply.header("sharelink-status").as_deref(), Some(status));
        assert_eq!(reply.header("traceparent").as_deref(), Some(trace));
        assert_eq!(reply.header("tracestate").as_deref(), Some("vendor=1"));
        assert_eq!(reply.header("sharelink-reply-to"), None);
        // Neither the request's own id, nor its body's: the message's.
        assert_eq!(reply.json()["id"], "m-1");
        message_ids.push(reply.message_id());
    }
    assert_eq!(message_ids[0], message_ids[1]);

    let other = world.ask(&request("contoso", &json!({ "itemId": "01OTHER" }))).await;
    assert_ne!(other.message_id(), message_ids[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_nothing_but_a_body() {
    let world = World::new().await;
    let replies = world.requester.listen(&world.setup.names.replies).await;
    let body = request("personal", &json!({ "itemId": "01BARE" })).to_string();
    world.requester.publish("", world.requests(), body.as_bytes(), BasicProperties::default()).await;
    let reply = replies.first("a reply", |_| true).await;
    assert_eq!(reply.outcome(), "created");
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    assert_eq!(reply.correlation_id(), id);

    // The ids that there are, the best one first.
    let mut named: Value = serde_json::from_str(&body).unwrap();
    named["id"] = json!("order-42/contract.pdf");
    let named = named.to_string();
    world.requester.publish("", world.requests(), named.as_bytes(), BasicProperties::default()).await;
    assert_eq!(replies.answer("order-42/contract.pdf").await.outcome(), "reused");
    let properties = BasicProperties::default().with_message_id("m-7".into());
    world.requester.publish("", world.requests(), named.as_bytes(), properties).await;
    assert_eq!(replies.answer("m-7").await.json()["id"], "order-42/contract.pdf");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contracts_own_exchange_and_queues_are_there_and_lead_to_the_worker() {
    let node = shared_node();
    let simulator = simulator().await;
    let _worker = Setup::with_default_names(&node.url(), simulator.address).ready().await;
    let requester = Requester::new(&node.url()).await;
    let replies = requester.listen("sharelink.replies").await;
    let dead = requester.listen("sharelink.dead").await;

    let body = request("contoso", &json!({ "itemId": "01EXCHANGE" })).to_string();
    requester.publish("sharelink", "request", body.as_bytes(), asking(&requester.queue, "through-exchange")).await;
    assert_eq!(requester.replies.answer("through-exchange").await.outcome(), "created");
    requester.publish("", "sharelink.requests", body.as_bytes(), asking("", "direct")).await;
    assert_eq!(replies.answer("direct").await.outcome(), "reused");
    requester.publish("sharelink", "request", b"[1]", asking(&requester.queue, "wrong")).await;
    assert_eq!(requester.replies.answer("wrong").await.outcome(), "failed/invalidRequest");
    assert_eq!(dead.answer("wrong").await.body, b"[1]");
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_to_and_correlation_id_may_be_members_and_the_properties_win() {
    let world = World::new().await;
    let mut body = request("contoso", &json!({ "itemId": "01MEMBERS" }));
    body["replyTo"] = json!(world.requester.queue);
    body["correlationId"] = json!("from-the-body");
    let text = body.to_string();
    world.requester.publish("", world.requests(), text.as_bytes(), BasicProperties::default()).await;
    assert_eq!(world.requester.replies.answer("from-the-body").await.outcome(), "created");

    body["replyTo"] = json!("somewhere.else");
    let text = body.to_string();
    let properties = asking(&world.requester.queue, "from-the-properties");
    world.requester.publish("", world.requests(), text.as_bytes(), properties).await;
    assert_eq!(world.requester.replies.answer("from-the-properties").await.outcome(), "reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmqs_direct_reply_address_is_answered() {
    let world = World::new().await;
    let direct = world.requester.direct_replies().await;
    let body = request("contoso", &json!({ "itemId": "01DIRECT" })).to_string();
    world.requester.publish("", world.requests(), body.as_bytes(), asking("amq.rabbitmq.reply-to", "d-1")).await;
    assert_eq!(direct.answer("d-1").await.outcome(), "created");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_cannot_or_may_not_go_where_it_was_asked_for_goes_to_the_reply_queue_and_says_so() {
    let world = World::with(|setup| setup.set("BROKER__REPLY_TO_ALLOW", "*.gone,*requests*,*.dead")).await;
    let names = &world.setup.names;
    let replies = world.requester.listen(&names.replies).await;
    let own = [names.requests.clone(), names.dead.clone(), format!("{}.delay.1s", names.requests)];
    let asked = own.into_iter().chain(["a.queue.gone".to_owned(), world.requester.queue.clone()]);
    for (number, queue) in asked.enumerate() {
        let body = request("contoso", &json!({ "itemId": format!("01WAY{number}") })).to_string();
        let correlation = format!("way-{number}");
        world.requester.publish("", world.requests(), body.as_bytes(), asking(&queue, &correlation)).await;
        let reply = replies.answer(&correlation).await;
        assert_eq!(reply.outcome(), "created", "{queue}");
        assert_eq!(reply.header("sharelink-reply-to").as_deref(), Some(queue.as_str()));
    }
    // No reply was taken for a request, none lies where it must not, and none came twice.
    assert_eq!(world.simulator.state.stats().all.tally.calls, 5);
    for queue in [names.requests.as_str(), names.dead.as_str(), &format!("{}.delay.1s", names.requests)] {
        assert_eq!(world.requester.ready(queue).await, Some(0), "{queue}");
    }
    assert_eq!(replies.all().len(), 5);
    assert_eq!(world.requester.replies.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_read_is_answered_and_a_copy_kept_with_its_reason() {
    let world = World::new().await;
    let dead = world.requester.listen(&world.setup.names.dead).await;
    let mut misspelt = request("contoso", &json!({ "itemId": "01ABCDEF" }));
    misspelt["link"]["expires"] = json!("2027-01-31");
    let requests = [
        ("no-json", r#"{"id": "a", item: 1}"#.to_owned(), "JSON"),
        ("not-an-object", "[1, 2]".to_owned(), "object"),
        ("empty", String::new(), "empty"),
        ("misspelt", misspelt.to_string(), "expires"),
        ("twice", r#"{"provider": "contoso", "item": {}, "item": {}, "link": {}}"#.to_owned(), "item"),
        ("too-large", format!("{{\"id\": \"{}\"}}", "x".repeat(1024 * 1024)), "max_request_bytes"),
    ];
    for (correlation, body, named) in &requests {
        let mut headers = FieldTable::default();
        headers.insert("mine".into(), AMQPValue::LongString("kept".into()));
        let properties = asking(&world.requester.queue, correlation).with_headers(headers);
        world.requester.publish("", world.requests(), body.as_bytes(), properties).await;
        let reply = world.requester.replies.answer(correlation).await;
        assert_eq!(reply.outcome(), "failed/invalidRequest", "{correlation}");
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(named), "{correlation}: {message}");

        let copy = dead.answer(correlation).await;
        assert_eq!(copy.text(), *body, "{correlation}");
        assert_eq!(copy.header("sharelink-reason").as_deref(), Some("malformed"));
        assert_eq!(copy.header("sharelink-error"), Some(message));
        assert_eq!(copy.header("sharelink-attempts").as_deref(), Some("0"));
        let first_seen = copy.header("sharelink-first-seen").unwrap();
        assert!(first_seen.parse::<jiff::Timestamp>().is_ok(), "{first_seen}");
        assert!(copy.header("sharelink-worker").is_some_and(|worker| worker.contains(':')));
        assert_eq!(copy.header("mine").as_deref(), Some("kept"));
    }
    assert_eq!(world.simulator.state.stats().all.tally.calls, 0);
    let metrics = world.worker.metrics().await;
    assert_eq!(metrics.value("sharelink_settlements_total{cause=\"malformed\",settlement=\"ack\"}"), 6.0);
    assert_eq!(dead.all().len(), requests.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_in_gives_a_cloud_event_out() {
    let world = World::new().await;
    let event = json!({
        "specversion": "1.0", "id": "event-1", "source": "/shop", "type": "com.example.share",
        "data": request("content", &json!({ "fileId": "D1" })),
    });
    let properties =
        asking(&world.requester.queue, "event").with_content_type("application/cloudevents+json; charset=utf-8".into());
    world.requester.publish("", world.requests(), event.to_string().as_bytes(), properties).await;
    let reply = world.requester.replies.answer("event").await;
    assert_eq!(reply.properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
    let event = reply.json();
    for member in ["specversion", "id", "source", "type", "time", "data"] {
        assert!(!event[member].is_null(), "{member}: {event}");
    }
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!("sharelink.reply.v1")));
    assert_eq!((&event["data"]["status"], &event["data"]["id"]), (&json!("created"), &json!("event")));
    assert_eq!(event["id"].as_str(), Some(reply.message_id().as_str()));
}
