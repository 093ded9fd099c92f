//! OneDrive and Microsoft Graph against a real socket that plays recorded answers and every kind of trouble.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/account.rs"]
mod account;
#[path = "support/script_server.rs"]
mod script_server;

use std::time::Duration;

use account::{failed, has_line, request, settings};
use script_server::{Play, ScriptServer, json, retry_after};
use serde_json::{Value, json};
use sharelink::config::{Limits, OneDrive as Settings, OneDriveApi, Provider as ProviderSettings};
use sharelink::model::{ErrorKind, History, LinkOutcome, Made};
use sharelink::pipeline::ports::{CallError, Provider, Retry, Share};
use sharelink::provider::onedrive::OneDrive;
use sharelink::telemetry::metrics::Metrics;

struct Setup {
    server: ScriptServer,
    onedrive: OneDrive,
    metrics: Metrics,
}

async fn setup(script: impl IntoIterator<Item = Play>) -> Setup {
    setup_with(script, |_, _| {}).await
}

async fn setup_with(
    script: impl IntoIterator<Item = Play>,
    change: impl FnOnce(&mut ProviderSettings, &mut Settings),
) -> Setup {
    let server = ScriptServer::start(script).await;
    let (mut provider, mut settings) = settings(&server.base);
    change(&mut provider, &mut settings);
    let (account, metrics) = account::account(&provider);
    Setup { onedrive: OneDrive::new(&settings, account).unwrap(), server, metrics }
}

impl Setup {
    fn share(&self, item: Value, link: Value) -> Box<dyn Share> {
        self.onedrive.prepare(&request(item, link)).unwrap()
    }

    async fn view(&self) -> Result<LinkOutcome, CallError> {
        self.share(json!({"itemId": "I"}), json!({"type": "view"})).ensure_link(History::Fresh).await
    }
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/microsoft/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn link() -> Value {
    json!({"id": "P", "link": {"type": "view", "scope": "users", "webUrl": "https://contoso.sharepoint.com/:w:/g/x"}})
}

#[tokio::test]
async fn a_link_is_created_with_one_authorized_json_call() {
    let setup = setup([json(201, fixture("21-graph-created-anonymous-haspassword"))]).await;
    let ask = json!({"type": "view", "scope": "anonymous", "password": "ThisIsMyPrivatePassword"});
    let outcome = setup.share(json!({"itemId": "I"}), ask.clone()).ensure_link(History::Fresh).await.unwrap();
    assert_eq!(outcome.made, Made::Created);
    assert_eq!(outcome.link.url, "https://1drv.ms/A6913278E564460AA616C71B28AD6EB6");
    let seen = setup.server.seen().remove(0);
    assert_eq!(seen.line, "POST /v1.0/me/drive/items/I/createLink");
    assert_eq!(seen.json(), ask);
    assert_eq!(seen.header("authorization"), Some("Bearer fixed-token"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert!(seen.header("user-agent").is_some_and(|agent| agent.starts_with("NONISV|sharelink|sharelink/")));
    let counted = r#"sharelink_provider_calls_total{code="201",operation="create_link",provider="contoso"} 1"#;
    assert!(has_line(&setup.metrics, counted));
}

#[tokio::test]
async fn an_answer_of_200_is_a_link_that_was_there() {
    let setup = setup([json(200, fixture("24-personal-style-view-link"))]).await;
    assert_eq!(setup.view().await.unwrap().made, Made::Reused);
}

#[tokio::test]
async fn the_older_api_is_called_by_its_own_name() {
    let setup = setup_with([json(201, fixture("20-legacy-created-anonymous"))], |_, settings| {
        settings.api = OneDriveApi::Legacy;
        settings.drive = "/drive".to_owned();
        settings.action = "action.createLink".to_owned();
    })
    .await;
    let share = setup.share(json!({"itemPath": "/My files/a#1.txt"}), json!({"type": "view"}));
    share.ensure_link(History::Fresh).await.unwrap();
    assert_eq!(setup.server.lines(), ["POST /v1.0/drive/root:/My%20files/a%231.txt:/action.createLink"]);
    assert_eq!(setup.server.seen()[0].json(), json!({"type": "view"}));
}

#[tokio::test]
async fn a_sharing_url_is_resolved_once_and_then_called_by_its_ids() {
    let item = json!({"id": "I!1", "parentReference": {"driveId": "b!D"}});
    let setup = setup([json(200, item), json(503, json!({})), json(201, link()), json(204, json!({}))]).await;
    let share = setup.share(json!({"shareUrl": "https://1drv.ms/a"}), json!({"type": "view"}));
    assert_eq!(failed(share.ensure_link(History::Fresh).await).failure.kind, ErrorKind::Unavailable);
    let outcome = share.ensure_link(History::MayHaveHappened).await.unwrap();
    share.revoke(&outcome.link).await.unwrap();
    assert_eq!(
        setup.server.lines(),
        [
            "GET /v1.0/shares/u!aHR0cHM6Ly8xZHJ2Lm1zL2E/driveItem",
            "POST /v1.0/drives/b!D/items/I!1/createLink",
            "POST /v1.0/drives/b!D/items/I!1/createLink",
            "DELETE /v1.0/drives/b!D/items/I!1/permissions/P",
        ]
    );
}

#[tokio::test]
async fn trouble_while_resolving_cannot_have_made_a_link() {
    let plays = [json(502, json!({})), Play::Close, json(200, json!({"id": "I"})), json(404, json!({}))];
    let kinds = [ErrorKind::Unavailable, ErrorKind::Unavailable, ErrorKind::BadResponse, ErrorKind::NotFound];
    let setup = setup(plays).await;
    let share = setup.share(json!({"shareUrl": "https://1drv.ms/a"}), json!({"type": "view"}));
    for kind in kinds {
        let failure = failed(share.ensure_link(History::Fresh).await);
        assert_eq!((failure.failure.kind, failure.may_have_happened), (kind, false));
    }
}

#[tokio::test]
async fn taking_back_a_link_that_is_gone_is_no_error_but_a_refusal_is() {
    let setup = setup([json(201, link()), json(404, json!({})), json(403, json!({}))]).await;
    let share = setup.share(json!({"itemId": "I"}), json!({"type": "view"}));
    let outcome = share.ensure_link(History::Fresh).await.unwrap();
    share.revoke(&outcome.link).await.unwrap();
    assert_eq!(failed(share.revoke(&outcome.link).await).failure.kind, ErrorKind::Forbidden);
    assert_eq!(setup.server.lines()[1], "DELETE /v1.0/me/drive/items/I/permissions/P");
}

#[tokio::test]
async fn a_link_for_people_is_looked_for_before_its_mail_is_sent_again() {
    let people = json!([{"user": {"email": "ann@contoso.com"}}]);
    let mut theirs = link();
    theirs["grantedToIdentitiesV2"] = people;
    let pages = |server: &ScriptServer| {
        let next = format!("{}/v1.0/me/drive/items/I/permissions?$skiptoken=2", server.base);
        json(200, json!({"value": [link()], "@odata.nextLink": next}))
    };
    let setup = setup([]).await;
    let ask = json!({"type": "view", "scope": "users", "recipients": ["Ann@contoso.com"], "sendNotification": true});
    let share = setup.share(json!({"itemId": "I"}), ask);

    setup.server.then(pages(&setup.server));
    setup.server.then(json(200, json!({"value": [theirs]})));
    let outcome = share.ensure_link(History::MayHaveHappened).await.unwrap();
    assert_eq!((outcome.made, outcome.link.id.as_str()), (Made::Reused, "P"));
    let get = "GET /v1.0/me/drive/items/I/permissions";
    assert_eq!(setup.server.lines(), [get.to_owned(), format!("{get}?$skiptoken=2")]);

    // Nothing there: the first attempt did not come through.
    setup.server.then(json(200, json!({"value": []})));
    setup.server.then(json(201, link()));
    assert_eq!(share.ensure_link(History::MayHaveHappened).await.unwrap().made, Made::Created);
    assert_eq!(setup.server.lines()[3], "POST /v1.0/me/drive/items/I/createLink");

    // A first attempt does not look.
    setup.server.then(json(201, link()));
    share.ensure_link(History::Fresh).await.unwrap();
    assert_eq!(setup.server.lines().len(), 5);
}

#[tokio::test]
async fn a_list_that_points_to_another_host_is_not_followed_with_our_token() {
    let elsewhere = ScriptServer::start([json(200, json!({"value": []}))]).await;
    let next = format!("{}/v1.0/x", elsewhere.base);
    let setup = setup([json(200, json!({"value": [], "@odata.nextLink": next}))]).await;
    let ask = json!({"type": "view", "scope": "users", "recipients": ["a@b.c"], "sendNotification": true});
    let share = setup.share(json!({"itemId": "I"}), ask);
    assert_eq!(failed(share.ensure_link(History::MayHaveHappened).await).failure.kind, ErrorKind::Internal);
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn a_throttled_call_tells_its_wait_and_pauses_the_whole_account() {
    let throttled = Play::Answer(
        429,
        vec![("Retry-After", "2.128".to_owned())],
        fixture("35-error-429-decimal-retry-after").to_string().into_bytes(),
    );
    let setup = setup([throttled]).await;
    let failure = failed(setup.view().await);
    assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::RateLimited, Retry::Yes));
    assert_eq!(failure.retry_after, Some(Duration::from_millis(2128)));
    assert_eq!(failure.failure.provider.code.as_deref(), Some("TooManyRequests"));
    assert!(has_line(&setup.metrics, r#"sharelink_provider_paused{provider="contoso"} 1"#));
    let Err(CallError::Held { wait, .. }) = setup.view().await else { panic!("the account is paused") };
    assert!(wait > Duration::from_secs(2) && wait < Duration::from_millis(2400), "{wait:?}");
    assert_eq!(setup.server.lines().len(), 1);
}

#[tokio::test]
async fn a_wait_given_as_a_date_is_measured_by_the_providers_own_clock() {
    let headers = vec![
        ("Date", "Sun, 22 Nov 2020 10:00:00 GMT".to_owned()),
        ("Retry-After", "Sun, 22 Nov 2020 10:05:00 GMT".to_owned()),
    ];
    let setup = setup([Play::Answer(503, headers, vec![])]).await;
    let failure = failed(setup.view().await);
    assert_eq!(failure.retry_after, Some(Duration::from_secs(300)));
    assert!(failure.may_have_happened);
    assert!(matches!(setup.view().await, Err(CallError::Held { .. })));
}

#[tokio::test]
async fn a_throttled_call_without_a_wait_pauses_the_account_for_about_a_second() {
    let setup = setup([json(429, json!({})), json(201, link())]).await;
    assert_eq!(failed(setup.view().await).retry_after, None);
    let Err(CallError::Held { wait, .. }) = setup.view().await else { panic!("the account is paused") };
    assert!(wait > Duration::from_millis(900) && wait < Duration::from_millis(1101), "{wait:?}");
    assert_eq!(setup.server.lines().len(), 1);
}

#[tokio::test]
async fn a_wait_named_by_any_provider_that_is_not_well_pauses_the_whole_account() {
    for status in [408, 500, 502, 503, 504] {
        let setup = setup([retry_after(status, "60"), json(201, link())]).await;
        assert_eq!(failed(setup.view().await).retry_after, Some(Duration::from_secs(60)), "{status}");
        assert!(matches!(setup.view().await, Err(CallError::Held { .. })), "{status}");
    }
}

#[tokio::test]
async fn a_locked_item_holds_back_its_own_request_only() {
    let setup = setup([retry_after(423, "60"), json(201, link())]).await;
    let failure = failed(setup.view().await);
    assert_eq!((failure.failure.kind, failure.retry_after), (ErrorKind::Locked, Some(Duration::from_secs(60))));
    assert!(setup.view().await.is_ok());
}

#[tokio::test]
async fn recorded_refusals_keep_the_providers_words() {
    let setup = setup([
        json(404, fixture("31-error-404-itemnotfound")),
        json(403, fixture("33-error-403-account-upgrade-required")),
        json(401, fixture("42-error-401-token-expired")),
    ])
    .await;
    let failure = failed(setup.view().await);
    assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::NotFound, Retry::Never));
    assert_eq!(failure.failure.provider.request_id.as_deref(), Some("45aa31bb-7868-4ca3-85e0-04df2dd5ffc3"));
    let failure = failed(setup.view().await);
    assert!(failure.failure.message.ends_with("Account Upgrade is required for this operation."));
    // A fixed token cannot be renewed, so the refusal is the last word at once.
    assert_eq!(failed(setup.view().await).failure.kind, ErrorKind::Unauthenticated);
    assert_eq!(setup.server.lines().len(), 3);
}

#[tokio::test]
async fn silence_and_an_endless_trickle_end_with_the_call_timeout() {
    for play in [Play::Hang, Play::Drip(Duration::from_millis(5))] {
        let setup = setup_with([play], |provider, _| provider.timeout = Duration::from_millis(200)).await;
        let failure = failed(setup.view().await);
        assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::TimedOut, Retry::Yes));
        assert!(failure.may_have_happened);
        assert!(failure.failure.message.contains("200ms"), "{}", failure.failure.message);
        let counted = r#"sharelink_provider_calls_total{code="timeout",operation="create_link",provider="contoso"} 1"#;
        assert!(has_line(&setup.metrics, counted));
        assert!(has_line(&setup.metrics, r#"sharelink_in_flight{provider="contoso"} 0"#));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_and_may_have_made_a_link() {
    for play in [Play::Close, Play::ResetInBody] {
        let setup = setup([play]).await;
        let failure = failed(setup.view().await);
        assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::Unavailable, Retry::Yes));
        assert!(failure.may_have_happened);
        assert!(!failure.failure.message.contains("items"), "no ids: {}", failure.failure.message);
    }
}

#[tokio::test]
async fn a_kept_connection_that_dies_under_a_request_is_not_silently_used_twice() {
    let setup = setup([json(201, link()), Play::Close, json(201, link())]).await;
    setup.view().await.unwrap();
    let failure = failed(setup.view().await);
    assert!(failure.retry == Retry::Yes && failure.may_have_happened);
    assert_eq!(setup.server.lines().len(), 2);
    setup.view().await.unwrap();
}

#[tokio::test]
async fn a_connection_closed_after_its_answer_is_replaced() {
    let setup = setup([Play::AnswerAndClose(201, link().to_string().into_bytes()), json(201, link())]).await;
    setup.view().await.unwrap();
    // The close is seen with the next turn of the loop.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    match setup.view().await {
        Ok(outcome) => assert_eq!(outcome.made, Made::Created),
        Err(error) => assert!(failed::<()>(Err(error)).may_have_happened),
    }
}

#[tokio::test]
async fn nobody_listening_is_known_to_have_done_nothing() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (provider, settings) = settings(&format!("http://127.0.0.1:{port}"));
    let (account, metrics) = account::account(&provider);
    let onedrive = OneDrive::new(&settings, account).unwrap();
    let share = onedrive.prepare(&request(json!({"itemId": "I"}), json!({"type": "view"}))).unwrap();
    let failure = failed(share.ensure_link(History::Fresh).await);
    assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::Unavailable, Retry::Yes));
    assert!(!failure.may_have_happened);
    let counted = r#"sharelink_provider_calls_total{code="connect",operation="create_link",provider="contoso"} 1"#;
    assert!(has_line(&metrics, counted));
}

#[tokio::test]
async fn an_answer_that_is_no_answer_is_never_tried_again() {
    let html = |status| {
        Play::Answer(status, vec![("Content-Type", "text/html; charset=utf-8".to_owned())], b"<html>".to_vec())
    };
    let big = Play::Answer(201, vec![], vec![b' '; 2 * 1024 * 1024]);
    let table = [
        (html(200), "text/html"),
        (big, "larger than"),
        (Play::Unannounced(2 * 1024 * 1024), "larger than"),
        (json(201, json!({"id": "P", "link": {}})), "webUrl"),
        (
            Play::Answer(302, vec![("Location", "https://login.example.com/x?secret=1".to_owned())], vec![]),
            "login.example.com",
        ),
    ];
    for (play, word) in table {
        let setup = setup([play]).await;
        let failure = failed(setup.view().await);
        assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::BadResponse, Retry::Never), "{word}");
        assert!(failure.failure.message.contains(word), "{}", failure.failure.message);
        assert!(!failure.failure.message.contains("secret"));
        assert_eq!(setup.server.lines().len(), 1);
    }
    let setup = setup([html(503)]).await;
    assert_eq!(failed(setup.view().await).failure.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn no_more_calls_than_allowed_are_made_at_once() {
    let setup = setup_with([Play::Hang], |provider, _| {
        provider.limits = Limits { max_in_flight: 1, requests_per_minute: 0, units_per_minute: 0 };
        provider.timeout = Duration::from_secs(60);
    })
    .await;
    let share = setup.share(json!({"itemId": "I"}), json!({"type": "view"}));
    let mut first = share.ensure_link(History::Fresh);
    let second = setup.view();
    tokio::select! {
        biased;
        result = &mut first => panic!("{result:?}"),
        result = tokio::time::timeout(Duration::from_millis(300), second) => assert!(result.is_err(), "{result:?}"),
    }
    assert_eq!(setup.server.lines().len(), 1);
    // Giving up the first frees its place.
    drop(first);
    setup.server.then(json(201, link()));
    setup.view().await.unwrap();
}

#[tokio::test]
async fn a_request_whose_deadline_passes_while_it_stands_in_line_makes_no_call() {
    let setup = setup_with([json(201, link()), json(201, link())], |provider, _| {
        provider.limits = Limits { max_in_flight: 64, requests_per_minute: 60, units_per_minute: 0 };
    })
    .await;
    setup.view().await.unwrap();
    let mut request = request(json!({"itemId": "I"}), json!({"type": "view"}));
    request.deadline = Some(sharelink::provider::http::wall_clock().checked_add(Duration::from_millis(200)).unwrap());
    let share = setup.onedrive.prepare(&request).unwrap();
    let late = share.ensure_link(History::Fresh).await;
    assert!(matches!(late, Err(CallError::Held { wait: Duration::ZERO, .. })), "{late:?}");
    assert_eq!(setup.server.lines().len(), 1);
}
