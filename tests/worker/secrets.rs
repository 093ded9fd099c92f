//! What must never be seen: credentials and the passwords of links.

use serde_json::json;

use super::{World, request, shared_node};

const BROKER_PASSWORD: &str = "br0ker-Passw0rd";
const CLIENT_SECRET: &str = "cl1ent-Secret/=";
const BEARER: &str = "be4rer-Token";
const BASIC_PASSWORD: &str = "b4sic-Password";
const LINK_PASSWORD: &str = "l1nk-Passw0rd!";
/// How the simulator's access tokens begin.
const ACCESS_TOKEN: &str = "simulated-access-";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_shown_in_a_reply_a_log_line_a_metric_or_a_dead_letters_headers() {
    let node = shared_node();
    tokio::task::block_in_place(|| {
        node.ctl(&["add_user", "worker", BROKER_PASSWORD]);
        node.ctl(&["set_permissions", "-p", "/", "worker", ".*", ".*", ".*"]);
    });
    let world = World::with(|setup| {
        setup.set("BROKER__URL", &node.url().replace("guest:guest", &format!("worker:{BROKER_PASSWORD}")));
        setup.set("PROVIDERS__CONTOSO__AUTH__CLIENT_SECRET", CLIENT_SECRET);
        setup.set("PROVIDERS__PERSONAL__AUTH__TOKEN", BEARER);
        setup.set("PROVIDERS__CONTENT__AUTH__PASSWORD", BASIC_PASSWORD);
        setup.set("RETRY__INITIAL_INTERVAL", "10ms");
        setup.set("RETRY__MAX_INTERVAL", "50ms");
        setup.set("LOG__LEVEL", "debug");
    })
    .await;
    let dead = world.requester.listen(&world.setup.names.dead).await;

    let words = ["plain", "flaky", "lost", "gateway", "reset", "html", "garbage", "redirect", "expired", "forbidden"];
    let mut asked = Vec::new();
    for word in words.into_iter().chain(["wider", "nopassword", "throttled", "missing", "huge"]) {
        for (provider, member) in [("contoso", "itemId"), ("content", "folderId"), ("personal", "itemId")] {
            let mut body = request(provider, &json!({ member: format!("secret-{word}") }));
            body["link"]["password"] = json!(LINK_PASSWORD);
            asked.push(world.requester.send(world.requests(), &body).await);
        }
    }
    // Mistakes, of which a copy is kept: beside the password, at it, and in its place.
    let mut wrong = request("contoso", &json!({ "itemId": "a" }));
    wrong["link"]["password"] = json!(LINK_PASSWORD);
    wrong["link"]["passwort"] = json!(LINK_PASSWORD);
    asked.push(world.requester.send(world.requests(), &wrong).await);
    wrong["link"]["passwort"].take();
    wrong["link"]["password"] = json!([LINK_PASSWORD]);
    asked.push(world.requester.send(world.requests(), &wrong).await);
    wrong["link"] = json!(LINK_PASSWORD);
    asked.push(world.requester.send(world.requests(), &wrong).await);
    let mut short = request("content", &json!({ "folderId": "a" }));
    short["link"]["password"] = json!(LINK_PASSWORD.repeat(9));
    asked.push(world.requester.send(world.requests(), &short).await);
    for (number, body) in
        [format!("{{\"password\": {LINK_PASSWORD}"), format!("\"{LINK_PASSWORD}\"")].iter().enumerate()
    {
        let correlation = format!("broken-{number}");
        let properties = super::requester::asking(&world.requester.queue, &correlation);
        world.requester.publish("", world.requests(), body.as_bytes(), properties).await;
        asked.push(correlation);
    }

    let mut outcomes = std::collections::BTreeSet::new();
    let mut seen = String::new();
    for correlation in &asked {
        let reply = world.requester.replies.answer(correlation).await;
        outcomes.insert(reply.outcome());
        seen += &reply.everything();
    }
    // The test is about something: links with passwords were made, taken back, refused, and copies kept.
    for outcome in ["created", "failed/widerThanAsked", "failed/unsupported", "failed/invalidRequest"] {
        assert!(outcomes.contains(outcome), "{outcomes:?}");
    }
    assert!(dead.all().len() >= 5, "{}", dead.all().len());
    for copy in dead.all() {
        seen += &format!("{:?}", copy.properties);
    }
    for path in ["/metrics", "/", "/readyz"] {
        seen += &world.worker.get(path).await.1;
    }
    world.worker.terminate().await;
    let (_, log) = world.worker.ended().await;
    assert!(log.contains("DEBUG"), "{log}");
    assert!(world.simulator.state.stats().tokens.issued > 0);
    seen += &log;
    let encoded = ["ZGVtbzpiNHNpYy1QYXNzd29yZA==", "cl1ent-Secret%2F%3D"];
    let secrets = [BROKER_PASSWORD, CLIENT_SECRET, BEARER, BASIC_PASSWORD, LINK_PASSWORD, ACCESS_TOKEN];
    for secret in secrets.into_iter().chain(encoded) {
        if let Some(at) = seen.find(secret) {
            let around: String = seen[..at].chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
            panic!("{secret} is shown after: {around}");
        }
    }
}
