//! `batch = true`: links that wait for their turn anyway travel together, each answered by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/account.rs"]
mod account;
#[path = "support/script_server.rs"]
mod script_server;

use std::sync::Arc;
use std::time::Duration;

use account::{failed, has_line};
use futures_util::future::join_all;
use script_server::{Play, ScriptServer, json};
use serde_json::json;
use sharelink::model::{ErrorKind, History, LinkOutcome, Made};
use sharelink::pipeline::ports::{CallError, Provider};
use sharelink::provider::onedrive::OneDrive;
use sharelink::simulate::{self, Options, Simulator};
use sharelink::telemetry::metrics::Metrics;

/// An account that batches and makes one call at a time, at this address.
fn provider(base: &str) -> (Arc<OneDrive>, Metrics) {
    let (mut settings, mut onedrive) = account::settings("http://127.0.0.1:1");
    onedrive.base_url = base.parse().unwrap();
    onedrive.batch = true;
    settings.kind = sharelink::config::ProviderKind::OneDrive(onedrive.clone());
    settings.limits.max_in_flight = 1;
    let (account, metrics) = account::account(&settings);
    (Arc::new(OneDrive::new(&onedrive, account).unwrap()), metrics)
}

async fn simulator(options: Options) -> (Simulator, Arc<OneDrive>, Metrics) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let simulator = simulate::serve(listener, options).await;
    let (provider, metrics) = provider(&format!("http://{address}/graph/v1.0"));
    (simulator, provider, metrics)
}

/// Asks for a link to this item once.
async fn ask(provider: Arc<OneDrive>, item: String) -> Result<LinkOutcome, CallError> {
    let request = account::request(json!({"itemId": item}), json!({"type": "view", "scope": "organization"}));
    let share = provider.prepare(&request).unwrap();
    share.ensure_link(History::Fresh).await
}

async fn ask_all(
    provider: &Arc<OneDrive>,
    items: impl IntoIterator<Item = String>,
) -> Vec<Result<LinkOutcome, CallError>> {
    join_all(items.into_iter().map(|item| ask(provider.clone(), item))).await
}

fn calls(metrics: &Metrics, operation: &str, code: &str) -> u64 {
    let start =
        format!(r#"sharelink_provider_calls_total{{code="{code}",operation="{operation}",provider="contoso"}} "#);
    let text = metrics.render().unwrap();
    text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn those_that_wait_travel_together_and_each_gets_its_own_link() {
    let options = Options { latency: Duration::from_millis(50), ..Options::default() };
    let (simulator, provider, metrics) = simulator(options).await;
    let outcomes = ask_all(&provider, (0..41).map(|item| format!("item-{item}"))).await;
    let mut ids: Vec<String> = outcomes.into_iter().map(|outcome| outcome.unwrap().link.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 41, "no two have the same link");
    assert_eq!(calls(&metrics, "create_link", "201"), 41);
    let together = calls(&metrics, "batch", "200");
    assert!((2..=4).contains(&together), "{together} calls carried 41");
    let again = ask_all(&provider, (0..41).map(|item| format!("item-{item}"))).await;
    assert!(again.iter().all(|outcome| outcome.as_ref().is_ok_and(|outcome| outcome.made == Made::Reused)));
    simulator.stop().await;
}

#[tokio::test]
async fn one_alone_goes_as_an_ordinary_call() {
    let (simulator, provider, metrics) = simulator(Options::default()).await;
    ask(provider, "alone".to_owned()).await.unwrap();
    assert_eq!((calls(&metrics, "create_link", "201"), calls(&metrics, "batch", "200")), (1, 0));
    simulator.stop().await;
}

#[tokio::test]
async fn a_part_that_is_refused_is_refused_alone() {
    let options = Options { latency: Duration::from_millis(50), ..Options::default() };
    let (simulator, provider, _) = simulator(options).await;
    let items = (0..20).map(|item| if item == 7 { "missing-7".to_owned() } else { format!("item-{item}") });
    let outcomes = ask_all(&provider, items).await;
    for (item, outcome) in outcomes.into_iter().enumerate() {
        match item {
            7 => assert_eq!(failed(outcome).failure.kind, ErrorKind::NotFound),
            _ => assert_eq!(outcome.unwrap().made, Made::Created),
        }
    }
    simulator.stop().await;
}

#[tokio::test]
async fn throttled_parts_wait_and_the_account_with_them_while_the_others_have_their_links() {
    // Twelve links a minute, and no more.
    let options = Options { latency: Duration::from_millis(50), units_per_minute: 60, ..Options::default() };
    let (simulator, provider, metrics) = simulator(options).await;
    let outcomes = ask_all(&provider, (0..20).map(|item| format!("item-{item}"))).await;
    let (links, rest): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(links.len(), 12);
    for refused in rest {
        let failure = failed(refused);
        assert_eq!(failure.failure.kind, ErrorKind::RateLimited);
        assert!(failure.retry_after.is_some_and(|wait| wait > Duration::from_secs(1)), "{failure:?}");
    }
    assert!(has_line(&metrics, r#"sharelink_provider_paused{provider="contoso"} 1"#));
    assert!(matches!(ask(provider, "late".to_owned()).await, Err(CallError::Held { .. })));
    simulator.stop().await;
}

/// Three links travel in one call, which is answered so.
async fn three(play: Play) -> Vec<Result<LinkOutcome, CallError>> {
    let server = ScriptServer::start([play]).await;
    let (provider, _) = provider(&format!("{}/v1.0", server.base));
    let outcomes = ask_all(&provider, (0..3).map(|item| format!("item-{item}"))).await;
    assert_eq!(server.lines().len(), 1);
    assert!(server.lines()[0].starts_with("POST /v1.0/$batch"), "{:?}", server.lines());
    outcomes
}

#[tokio::test]
async fn a_part_without_an_answer_may_have_been_done() {
    let link = json!({"id": "p", "link": {"type": "view", "scope": "organization", "webUrl": "https://h/a"}});
    let whole =
        json!({"responses": [{"id": "3", "status": 201, "body": link}, {"id": "1", "status": 201, "body": link}]});
    let [first, second, third] = <[_; 3]>::try_from(three(json(200, whole)).await).unwrap();
    assert!(first.is_ok() && third.is_ok());
    assert!(failed(second).may_have_happened);
}

#[tokio::test]
async fn an_answer_that_is_lost_or_cannot_be_read_leaves_every_part_in_doubt() {
    for play in [Play::Close, json(200, json!({"hello": "world"}))] {
        for outcome in three(play).await {
            assert!(failed(outcome).may_have_happened);
        }
    }
}

#[tokio::test]
async fn a_refusal_of_the_whole_is_one_of_each_part() {
    let play = Play::Answer(429, vec![("Retry-After", "30".to_owned())], b"{}".to_vec());
    for outcome in three(play).await {
        let failure = failed(outcome);
        assert_eq!((failure.failure.kind, failure.may_have_happened), (ErrorKind::RateLimited, false));
        assert_eq!(failure.retry_after, Some(Duration::from_secs(30)));
    }
}

#[tokio::test]
async fn a_provider_that_takes_no_several_calls_in_one_gets_each_by_itself() {
    let link = json!({"id": "p", "link": {"type": "view", "scope": "organization", "webUrl": "https://h/a"}});
    let plays = [json(404, json!({"error": {"code": "itemNotFound"}}))]
        .into_iter()
        .chain((0..6).map(|_| json(201, link.clone())));
    let server = ScriptServer::start(plays).await;
    let (provider, _) = provider(&format!("{}/v1.0", server.base));
    for _ in 0..2 {
        let outcomes = ask_all(&provider, (0..3).map(|item| format!("item-{item}"))).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
    let together = server.lines().iter().filter(|line| line.contains("$batch")).count();
    assert_eq!((together, server.lines().len()), (1, 7));
}

#[tokio::test]
async fn after_an_answer_that_cannot_be_read_the_next_attempts_are_made_one_by_one() {
    let link = json!({"id": "p", "link": {"type": "view", "scope": "organization", "webUrl": "https://h/a"}});
    let plays = [Play::Unannounced(2 * 1024 * 1024)].into_iter().chain((0..3).map(|_| json(201, link.clone())));
    let server = ScriptServer::start(plays).await;
    let (provider, _) = provider(&format!("{}/v1.0", server.base));
    for outcome in ask_all(&provider, (0..3).map(|item| format!("item-{item}"))).await {
        let failure = failed(outcome);
        assert!(failure.may_have_happened && failure.retry == sharelink::pipeline::ports::Retry::Yes, "{failure:?}");
    }
    let outcomes = ask_all(&provider, (0..3).map(|item| format!("item-{item}"))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(server.lines().iter().filter(|line| line.contains("$batch")).count(), 1);
}

#[tokio::test]
async fn a_wait_that_any_part_names_closes_the_account_and_the_longest_counts() {
    let link = json!({"id": "p", "link": {"type": "view", "scope": "organization", "webUrl": "https://h/a"}});
    let part = |id: &str, status: u16, wait: serde_json::Value| json!({"id": id, "status": status, "headers": {"Retry-After": wait}, "body": link});
    let good = json!({"id": "1", "status": 201, "body": link});
    for (second, third) in [
        (part("2", 503, json!("40")), json!({"id": "3", "status": 201, "body": link})),
        (part("2", 429, json!("1")), part("3", 503, json!("40"))),
        (part("2", 429, json!(40)), part("3", 429, json!("1"))),
    ] {
        let whole = json(200, json!({"responses": [good, second, third]}));
        let server = ScriptServer::start([whole]).await;
        let (provider, _) = provider(&format!("{}/v1.0", server.base));
        assert!(ask_all(&provider, (0..3).map(|item| format!("item-{item}"))).await[0].is_ok());
        let Err(CallError::Held { wait, .. }) = ask(provider, "item-4".to_owned()).await else {
            panic!("the account is paused")
        };
        assert!(wait > Duration::from_secs(38), "{wait:?} after {second} and {third}");
    }
}

#[tokio::test]
async fn a_whole_that_was_refused_for_its_parts_is_no_reason_to_send_none_together_until_it_keeps_being_refused() {
    let link = json!({"id": "p", "link": {"type": "view", "scope": "organization", "webUrl": "https://h/a"}});
    let refused = || [json(400, json!({}))].into_iter().chain((0..3).map(|_| json(201, link.clone())));
    let server = ScriptServer::start(refused().chain(refused()).chain(refused()).chain(refused().skip(1))).await;
    let (provider, _) = provider(&format!("{}/v1.0", server.base));
    for _ in 0..4 {
        let outcomes = ask_all(&provider, (0..3).map(|item| format!("item-{item}"))).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    }
    assert_eq!(server.lines().iter().filter(|line| line.contains("$batch")).count(), 3);
}

#[tokio::test]
async fn a_whole_that_is_sent_again_with_a_fresh_token_waits_for_its_turn_again() {
    let token = |name: &str| json(200, json!({"token_type": "Bearer", "expires_in": 3599, "access_token": name}));
    let link = json!({"id": "p", "link": {"type": "view", "scope": "organization", "webUrl": "https://h/a"}});
    let part = |id: u32| json!({"id": id.to_string(), "status": 201, "body": link});
    let whole = json(200, json!({"responses": [part(1), part(2), part(3)]}));
    let service = ScriptServer::start([token("a"), token("b")]).await;
    let server = ScriptServer::start([json(401, json!({})), whole]).await;
    let (mut settings, mut onedrive) = account::settings("http://127.0.0.1:1");
    onedrive.base_url = format!("{}/v1.0", server.base).parse().unwrap();
    onedrive.batch = true;
    settings.kind = sharelink::config::ProviderKind::OneDrive(onedrive.clone());
    settings.auth = account::client_credentials(&service.base);
    settings.limits.requests_per_minute = 600;
    let provider = Arc::new(OneDrive::new(&onedrive, account::account(&settings).0).unwrap());
    let began = tokio::time::Instant::now();
    let outcomes = ask_all(&provider, (0..3).map(|item| format!("item-{item}"))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(server.lines().iter().filter(|line| line.contains("$batch")).count(), 2);
    // Three links were paid for at ten a second before the three were sent again.
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}
