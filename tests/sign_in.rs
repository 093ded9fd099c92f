//! Access tokens against a real socket: one at a time, ahead of time, and never in a loop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/account.rs"]
mod account;
#[path = "support/script_server.rs"]
mod script_server;

use std::sync::Arc;
use std::time::Duration;

use account::{client_credentials, failed, has_line};
use reqwest::Method;
use script_server::{Play, ScriptServer, Seen, json, retry_after};
use serde_json::{Value, json};
use sharelink::config::{Auth, ClientAuth};
use sharelink::model::{ErrorKind, Secret};
use sharelink::pipeline::ports::{CallError, Retry};
use sharelink::provider::account::{Account, Answer, Call, Waiting};
use sharelink::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

struct Setup {
    /// The sign-in service; the provider itself is another server.
    service: ScriptServer,
    provider: ScriptServer,
    account: Arc<Account>,
    metrics: Metrics,
}

async fn setup(service: impl IntoIterator<Item = Play>, provider: impl IntoIterator<Item = Play>) -> Setup {
    setup_with(service, provider, client_credentials).await
}

async fn setup_with(
    service: impl IntoIterator<Item = Play>,
    provider: impl IntoIterator<Item = Play>,
    auth: impl FnOnce(&str) -> Auth,
) -> Setup {
    let (service, provider) = (ScriptServer::start(service).await, ScriptServer::start(provider).await);
    let (mut settings, _) = account::settings(&provider.base);
    settings.auth = auth(&service.base);
    let (account, metrics) = account::account(&settings);
    Setup { service, provider, account, metrics }
}

impl Setup {
    async fn call(&self) -> Result<Answer, CallError> {
        let url = format!("{}/v1.0/x", self.provider.base).parse().unwrap();
        self.account
            .call(Call { operation: "get_link", method: Method::GET, url, body: None, follows: false, deadline: None })
            .await
    }

    /// The tokens that the provider was shown.
    fn shown(&self) -> Vec<String> {
        let token = |seen: Seen| seen.header("authorization").unwrap().trim_start_matches("Bearer ").to_owned();
        self.provider.seen().into_iter().map(token).collect()
    }
}

fn token(name: &str) -> Play {
    json(200, json!({"token_type": "Bearer", "expires_in": 3599, "access_token": name}))
}

fn rotated(access: &str, refresh: &str) -> Play {
    json(200, json!({"token_type": "Bearer", "expires_in": 60, "access_token": access, "refresh_token": refresh}))
}

fn ok() -> Play {
    json(200, json!({}))
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/microsoft/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn form(seen: &Seen) -> Vec<(String, String)> {
    url::form_urlencoded::parse(seen.body.as_bytes()).into_owned().collect()
}

/// Lets time jump without giving the sockets up.
async fn advance(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

async fn eventually(what: impl Fn() -> bool) {
    let watched = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), watched).await.expect("it never happened");
}

#[tokio::test]
async fn a_token_is_asked_for_the_documented_way_and_used_until_it_ends() {
    let setup = setup([json(200, fixture("50-token-200-client-credentials"))], [ok(), ok()]).await;
    setup.call().await.unwrap();
    setup.call().await.unwrap();
    let asked = setup.service.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].line, "POST /token");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut form = form(&asked[0]);
    form.sort();
    let expected = [
        pair("client_id", "our-client"),
        pair("client_secret", "our secret&="),
        pair("grant_type", "client_credentials"),
        pair("scope", "https://graph.microsoft.com/.default"),
    ];
    assert_eq!(form, expected);
    assert!(setup.shown().iter().all(|token| token.starts_with("eyJ0")));
    assert!(has_line(&setup.metrics, r#"sharelink_token_refreshes_total{provider="contoso",result="ok"} 1"#));
    let counted = r#"sharelink_provider_calls_total{code="200",operation="token",provider="contoso"} 1"#;
    assert!(has_line(&setup.metrics, counted));
}

#[tokio::test]
async fn client_id_and_secret_go_into_the_header_where_that_is_configured() {
    let basic = |base: &str| match client_credentials(base) {
        Auth::ClientCredentials { token_url, client_id, client_secret, scope, .. } => {
            Auth::ClientCredentials { token_url, client_id, client_secret, scope, client_auth: ClientAuth::Basic }
        }
        other => other,
    };
    let setup = setup_with([token("a")], [ok()], basic).await;
    setup.call().await.unwrap();
    let asked = setup.service.seen().remove(0);
    // RFC 6749 2.3.1: both are form-encoded before they are joined.
    assert_eq!(asked.header("authorization"), Some("Basic b3VyLWNsaWVudDpvdXIrc2VjcmV0JTI2JTNE"));
    assert!(!asked.body.contains("secret"));
}

#[tokio::test]
async fn a_hundred_calls_at_once_ask_for_one_token() {
    let setup = setup([token("a")], (0..100).map(|_| ok())).await;
    let calls = (0..100).map(|_| setup.call());
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(setup.service.seen().len(), 1);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_call_repeated() {
    let setup = setup([token("a"), token("b")], [ok(), json(401, json!({})), ok(), ok()]).await;
    setup.call().await.unwrap();
    assert_eq!(setup.call().await.unwrap().status, 200);
    setup.call().await.unwrap();
    assert_eq!(setup.shown(), ["a", "a", "b", "b"]);
    assert_eq!(setup.service.seen().len(), 2);
}

#[tokio::test]
async fn a_provider_that_refuses_every_token_does_not_start_a_loop() {
    let setup = setup([token("a"), token("b")], (0..12).map(|_| json(401, json!({})))).await;
    for _ in 0..10 {
        assert_eq!(setup.call().await.unwrap().status, 401);
    }
    assert_eq!(setup.service.seen().len(), 2);
    assert_eq!(setup.provider.seen().len(), 11);
}

#[tokio::test]
async fn calls_refused_together_share_one_new_token() {
    // As many as a fresh account lets through at once.
    let plays = [ok()].into_iter().chain((0..4).map(|_| json(401, json!({})))).chain((0..4).map(|_| ok()));
    let setup = setup([token("a"), token("b")], plays).await;
    setup.call().await.unwrap();
    let answers = futures_util::future::join_all((0..4).map(|_| setup.call())).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)), "{answers:?}");
    assert_eq!(setup.service.seen().len(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_while_the_old_one_is_used() {
    let setup = setup([token("a"), token("b")], [ok(), ok(), ok()]).await;
    setup.call().await.unwrap();
    // The last five minutes of an hour.
    advance(Duration::from_secs(55 * 60)).await;
    setup.call().await.unwrap();
    eventually(|| has_line(&setup.metrics, r#"sharelink_token_refreshes_total{provider="contoso",result="ok"} 2"#))
        .await;
    setup.call().await.unwrap();
    assert_eq!(setup.shown(), ["a", "a", "b"]);
}

#[tokio::test]
async fn a_failed_early_renewal_is_no_error_while_the_old_token_is_good() {
    let setup = setup([token("a"), json(400, fixture("51-token-400-invalid-scope"))], [ok(), ok(), ok()]).await;
    setup.call().await.unwrap();
    advance(Duration::from_secs(56 * 60)).await;
    setup.call().await.unwrap();
    eventually(|| has_line(&setup.metrics, r#"sharelink_token_refreshes_total{provider="contoso",result="failed"} 1"#))
        .await;
    setup.call().await.unwrap();
    assert_eq!(setup.shown(), ["a", "a", "a"]);
    assert_eq!(setup.service.seen().len(), 2, "the refusal is remembered");
}

#[tokio::test]
async fn a_final_refusal_names_the_reason_and_is_remembered_for_half_a_minute() {
    let setup = setup([json(400, fixture("51-token-400-invalid-scope"))], [ok()]).await;
    let answers = futures_util::future::join_all((0..50).map(|_| setup.call())).await;
    for answer in answers {
        let failure = failed(answer);
        assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::Unauthenticated, Retry::Never));
        assert_eq!(failure.failure.provider.code.as_deref(), Some("invalid_scope AADSTS70011"));
        assert_eq!(failure.failure.provider.http_status, Some(400));
        assert!(!failure.may_have_happened);
        assert!(!format!("{failure:?}").contains("our secret"));
    }
    assert_eq!(setup.service.seen().len(), 1);
    assert!(setup.provider.seen().is_empty());
    // After that it is asked again, and a repaired configuration works without a restart.
    advance(Duration::from_secs(31)).await;
    setup.service.then(token("a"));
    setup.call().await.unwrap();
}

#[tokio::test]
async fn a_sign_in_service_in_trouble_is_told_from_one_that_refuses() {
    let error = |error: &str, text: &str| json(400, json!({"error": error, "error_description": text}));
    let table = [
        (retry_after(429, "7"), ErrorKind::RateLimited, Some(7), Retry::Yes),
        (retry_after(503, "9"), ErrorKind::Unavailable, Some(9), Retry::Yes),
        (Play::Close, ErrorKind::Unavailable, None, Retry::Yes),
        (error("temporarily_unavailable", ""), ErrorKind::Unavailable, None, Retry::Yes),
        (error("invalid_grant", "AADSTS90055: slow down"), ErrorKind::RateLimited, None, Retry::Yes),
        (error("server_error", "AADSTS90033: later"), ErrorKind::Unavailable, None, Retry::Yes),
        (error("invalid_client", "AADSTS7000215: wrong"), ErrorKind::Unauthenticated, None, Retry::Never),
        (Play::Answer(403, vec![], b"<html>no</html>".to_vec()), ErrorKind::Unauthenticated, None, Retry::Never),
        (Play::Answer(200, vec![], b"<html>hi</html>".to_vec()), ErrorKind::BadResponse, None, Retry::Never),
        (Play::Answer(302, vec![], vec![]), ErrorKind::BadResponse, None, Retry::Never),
        (token("line\nbreak"), ErrorKind::BadResponse, None, Retry::Never),
    ];
    for (play, kind, wait, retry) in table {
        let setup = setup([play.clone()], [ok()]).await;
        let failure = failed(setup.call().await);
        assert_eq!((failure.failure.kind, failure.retry), (kind, retry), "{play:?}: {}", failure.failure.message);
        assert_eq!(failure.retry_after, wait.map(Duration::from_secs), "{play:?}");
        assert!(!failure.may_have_happened, "no link is made by signing in");
        assert!(setup.provider.seen().is_empty());
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_lose_the_token_being_fetched() {
    let setup = setup([token("a")], [ok()]).await;
    // Far enough for the fetching to have begun, not far enough for an answer.
    assert!(futures_util::FutureExt::now_or_never(setup.call()).is_none());
    eventually(|| has_line(&setup.metrics, r#"sharelink_token_refreshes_total{provider="contoso",result="ok"} 1"#))
        .await;
    setup.call().await.unwrap();
    assert_eq!(setup.service.seen().len(), 1);
}

#[tokio::test]
async fn a_rotated_refresh_token_replaces_the_old_one_and_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("refresh");
    let auth = |base: &str| Auth::RefreshToken {
        token_url: format!("{base}/token").parse().unwrap(),
        client_id: "our-client".to_owned(),
        client_secret: None,
        refresh_token: Secret::new("configured"),
        scope: None,
        client_auth: ClientAuth::Body,
        token_store: Some(store.clone()),
    };
    let first = setup_with([rotated("a", "second"), rotated("b", "third")], [ok(), ok()], auth).await;
    first.call().await.unwrap();
    assert_eq!(std::fs::read_to_string(&store).unwrap().trim(), "second");
    advance(Duration::from_secs(61)).await;
    first.call().await.unwrap();
    let sent = |setup: &Setup| -> Vec<String> {
        let value = |seen: &Seen| form(seen).into_iter().find(|(name, _)| name == "refresh_token").unwrap().1;
        setup.service.seen().iter().map(value).collect()
    };
    assert_eq!(sent(&first), ["configured", "second"]);

    let second = setup_with([rotated("c", "fourth")], [ok()], auth).await;
    second.call().await.unwrap();
    assert_eq!(sent(&second), ["third"], "what was kept wins over what is configured");
    assert_eq!(std::fs::read_to_string(&store).unwrap().trim(), "fourth");
}

#[tokio::test]
async fn a_dead_refresh_token_says_who_has_to_do_what() {
    let auth = |base: &str| Auth::RefreshToken {
        token_url: format!("{base}/token").parse().unwrap(),
        client_id: "our-client".to_owned(),
        client_secret: None,
        refresh_token: Secret::new("configured"),
        scope: None,
        client_auth: ClientAuth::Body,
        token_store: None,
    };
    let refusal = json!({"error": "invalid_grant", "error_description": "AADSTS70008: expired"});
    let setup = setup_with([json(400, refusal)], [], auth).await;
    let failure = failed(setup.call().await);
    assert_eq!(failure.failure.kind, ErrorKind::Unauthenticated);
    assert!(failure.failure.message.contains("sign in again"), "{}", failure.failure.message);
}

#[tokio::test]
async fn our_credentials_go_to_the_accounts_own_host_only() {
    let setup = setup([token("a")], []).await;
    let elsewhere = ScriptServer::start([ok()]).await;
    let url = format!("{}/v1.0/x", elsewhere.base).parse().unwrap();
    let call = Call { operation: "get_link", method: Method::GET, url, body: None, follows: false, deadline: None };
    assert_eq!(failed(setup.account.call(call).await).failure.kind, ErrorKind::Internal);
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_secret_that_cannot_be_sent_is_refused_at_the_start_without_showing_it() {
    let (mut settings, _) = account::settings("http://127.0.0.1:1");
    settings.auth = Auth::Bearer { token: Secret::new("hunter2\n") };
    let metrics = Metrics::new(&["contoso"], &[]).unwrap();
    let client = sharelink::provider::http::client().unwrap();
    let waiting = Waiting {
        patience: Duration::ZERO,
        room: 1,
        shared: false,
        gives_up_after: Duration::ZERO,
        stopping: CancellationToken::new(),
    };
    let problem = Account::new(&settings, client, metrics.provider("contoso"), waiting, None).err().unwrap();
    assert!(problem.starts_with("providers.contoso.auth: `token`"), "{problem}");
    assert!(!problem.contains("hunter2"));
}

#[tokio::test]
async fn calls_that_wait_for_a_token_take_their_turns_anew_one_after_the_other() {
    let service = ScriptServer::start([Play::Late(Duration::from_millis(600), Box::new(token("a")))]).await;
    let provider = ScriptServer::start((0..5).map(|_| ok())).await;
    let (mut settings, _) = account::settings(&provider.base);
    settings.auth = client_credentials(&service.base);
    settings.limits.requests_per_minute = 600;
    let (account, metrics) = account::account(&settings);
    let setup = Setup { service, provider, account, metrics };
    let began = tokio::time::Instant::now();
    let answers = futures_util::future::join_all((0..5).map(|_| setup.call())).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    // Four tenths of a second lie between five calls at ten a second, and none is made before there is a token.
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_call_that_waits_for_a_token_is_not_made_in_a_pause_that_begins_meanwhile() {
    let late = |wait, play| Play::Late(Duration::from_millis(wait), Box::new(play));
    let plays = [ok(), late(200, retry_after(429, "60")), json(401, json!({})), ok()];
    let setup = setup([token("a"), late(600, token("b"))], plays).await;
    setup.call().await.unwrap();
    let (one, other) = tokio::join!(setup.call(), setup.call());
    let held = [&one, &other].into_iter().filter(|result| matches!(result, Err(CallError::Held { .. }))).count();
    assert_eq!((held, setup.provider.seen().len()), (1, 3), "{one:?} {other:?}");
}
