//! The Oracle provider against a server that really keeps links.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers end the test like the test itself")]

#[path = "support/public_links.rs"]
mod public_links;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sharelink::config;
use sharelink::model::{ErrorKind, History, LinkOutcome, Made, Secret, ShareRequest};
use sharelink::pipeline::ports::{CallError, CallFailure, Provider, Retry, Share};
use sharelink::provider::account::{Account, Waiting};
use sharelink::provider::http;
use sharelink::provider::oracle::Oracle;
use sharelink::telemetry::metrics::Metrics;
use tokio::sync::{Barrier, Notify};
use tokio_util::sync::CancellationToken;

use public_links::{Fault, Repeated, Server};

/// A worker's account at the server.
fn account(server: &Server, version: &str) -> Oracle {
    let at = format!("http://{}/documents", server.address);
    let oracle = config::Oracle {
        base_url: format!("{at}/api/{version}").parse().unwrap(),
        public_url: "https://content.example.com/documents".parse().unwrap(),
        folder_link: "{publicUrl}/link/{linkID}/folder/{id}".to_owned(),
        file_link: "{publicUrl}/link/{linkID}/fileview/{id}".to_owned(),
        link_name_prefix: "sharelink".to_owned(),
    };
    let provider = config::Provider {
        name: "content".to_owned(),
        kind: config::ProviderKind::Oracle(oracle.clone()),
        timeout: Duration::from_secs(20),
        limits: config::Limits { max_in_flight: 8, requests_per_minute: 0, units_per_minute: 0 },
        auth: config::Auth::Basic { username: "user".to_owned(), password: Secret::new("secret") },
        policy: config::Policy::default(),
    };
    let metrics = Metrics::new(&["content"], &[]).unwrap().provider("content");
    let waiting = Waiting {
        patience: Duration::from_secs(5),
        room: 1000,
        shared: false,
        gives_up_after: Duration::from_secs(900),
        stopping: CancellationToken::new(),
    };
    let account = Account::new(&provider, http::client().unwrap(), metrics, waiting, None).unwrap();
    Oracle::new(&provider, &oracle, Arc::new(account))
}

fn share(oracle: &Oracle, item: Value, link: Value) -> Box<dyn Share> {
    let object = |value: Value| value.as_object().unwrap().clone();
    let request =
        ShareRequest { id: "1".to_owned(), provider: None, item: object(item), link: object(link), deadline: None };
    oracle.prepare(&request).unwrap()
}

/// The folder `F1`, for everybody in the instance.
fn plain(oracle: &Oracle) -> Box<dyn Share> {
    share(oracle, json!({"folderId": "F1"}), json!({"assignedUsers": "@serviceinstance"}))
}

fn made(outcome: &Result<LinkOutcome, CallError>) -> (Made, &str) {
    let outcome = outcome.as_ref().unwrap();
    (outcome.made, &outcome.link.id)
}

/// The created one first: which of two that start together comes first is open.
fn in_order((one, other): &(Result<LinkOutcome, CallError>, Result<LinkOutcome, CallError>)) -> [(Made, &str); 2] {
    let mut both = [made(one), made(other)];
    both.sort_by_key(|(made, _)| *made == Made::Reused);
    both
}

fn failed(outcome: Result<LinkOutcome, CallError>) -> CallFailure {
    match outcome {
        Err(CallError::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

fn answer(status: u16, headers: &'static str, body: impl Into<String>) -> Fault {
    Fault::Answer { work: false, status, headers, body: body.into() }
}

#[tokio::test]
async fn a_link_is_created_then_found_again_at_both_versions_for_both_kinds() {
    for version in ["1.1", "1.2"] {
        for (member, kind, view) in [("folderId", "folder", "folder"), ("fileId", "file", "fileview")] {
            let server = Server::start().await;
            let oracle = account(&server, version);
            let link = json!({
                "assignedUsers": "@serviceinstance", "role": "downloader",
                "expirationTime": "2027-01-31T00:00:00", "password": "MyPassword"
            });
            let first = share(&oracle, json!({ member: "X1" }), link.clone()).ensure_link(History::Fresh).await;
            assert_eq!(made(&first), (Made::Created, "L1"));
            let first = first.unwrap();
            assert_eq!(first.link.url, format!("https://content.example.com/documents/link/L1/{view}/X1"));
            assert_eq!(first.comparison, Default::default());
            let name = server.names(&format!("{kind}/X1")).remove(0);
            assert_eq!(
                Value::Object(first.link.granted.clone()),
                json!({"assignedUsers": "@serviceinstance", "role": "downloader",
                       "expirationTime": "2027-01-31T00:00:00Z", "linkName": name})
            );
            {
                let world = server.world();
                assert_eq!(world.body["password"], "MyPassword");
                assert_eq!(world.authorization, "Basic dXNlcjpzZWNyZXQ=");
                let path = format!("/documents/api/{version}/publiclinks/{kind}/X1");
                // A look before, the create, and a look whether somebody else made one at the same moment.
                let calls = ["GET", "POST", "GET"].map(|method| (method.to_owned(), path.clone()));
                assert_eq!(world.calls, calls);
            }
            // Another worker, later: the name alone tells it.
            let second =
                share(&account(&server, version), json!({ member: "X1" }), link).ensure_link(History::Fresh).await;
            assert_eq!(made(&second), (Made::Reused, "L1"));
            assert_eq!(second.unwrap().link, first.link);
            assert_eq!(server.count("POST"), 1);
        }
    }
}

#[tokio::test]
async fn different_asks_of_one_item_get_a_link_each() {
    let server = Server::start().await;
    let oracle = account(&server, "1.2");
    for link in [
        json!({"assignedUsers": "@everybody"}),
        json!({"assignedUsers": "@everybody", "password": "MyPassword"}),
        json!({"assignedUsers": "@everybody", "password": "MyPassword2"}),
        json!({"assignedUsers": "@everybody", "role": "downloader"}),
    ] {
        let outcome = share(&oracle, json!({"folderId": "F1"}), link).ensure_link(History::Fresh).await;
        assert_eq!(made(&outcome).0, Made::Created);
    }
    assert_eq!(server.count("POST"), 4);
}

#[tokio::test]
async fn two_at_once_in_one_process_make_one_link() {
    let server = Server::start().await;
    let oracle = account(&server, "1.2");
    let (one, other) = (plain(&oracle), plain(&oracle));
    let both = tokio::join!(one.ensure_link(History::Fresh), other.ensure_link(History::Fresh));
    assert_eq!(in_order(&both), [(Made::Created, "L1"), (Made::Reused, "L1")]);
    assert_eq!(server.count("POST"), 1);
}

#[tokio::test]
async fn two_at_once_in_two_processes_hand_out_one_link_however_the_repeated_name_is_answered() {
    for repeated in [
        Repeated::Refused { status: 409, code: "-17" },
        Repeated::Refused { status: 409, code: "-1" },
        Repeated::Refused { status: 400, code: "-17" },
        Repeated::Refused { status: 400, code: "-1" },
        Repeated::Refused { status: 200, code: "-17" },
    ] {
        let server = Server::start().await;
        server.world().repeated = repeated;
        let meet = Arc::new(Barrier::new(2));
        server.world().meet = vec![Arc::clone(&meet), meet];
        let (one, other) = (plain(&account(&server, "1.2")), plain(&account(&server, "1.2")));
        let both = tokio::join!(one.ensure_link(History::Fresh), other.ensure_link(History::Fresh));
        assert_eq!(in_order(&both), [(Made::Created, "L1"), (Made::Reused, "L1")]);
        assert_eq!((server.count("POST"), server.names("folder/F1").len()), (2, 1));
    }
}

#[tokio::test]
async fn a_link_just_made_by_another_process_is_found_by_the_next_attempt_where_the_look_at_it_failed() {
    for repeated in [Repeated::Refused { status: 409, code: "-17" }, Repeated::Refused { status: 400, code: "-1" }] {
        let server = Server::start().await;
        server.world().repeated = repeated;
        assert_eq!(made(&plain(&account(&server, "1.2")).ensure_link(History::Fresh).await), (Made::Created, "L1"));
        // What the second one sees first is from before that.
        server.spoil("GET", answer(200, "Content-Type: application/json\r\n", r#"{"count":"0","errorCode":"0"}"#));
        server.spoil("GET", answer(503, "", ""));
        let second = plain(&account(&server, "1.2"));
        let failure = failed(second.ensure_link(History::Fresh).await);
        assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::Unavailable, Retry::Yes));
        assert_eq!(made(&second.ensure_link(History::Fresh).await), (Made::Reused, "L1"));
        assert_eq!((server.count("POST"), server.names("folder/F1").len()), (2, 1));
    }
}

#[tokio::test]
async fn where_names_may_repeat_two_workers_at_once_leave_one_link_and_hand_out_the_same() {
    let server = Server::start().await;
    server.world().repeated = Repeated::Allowed;
    let meet = Arc::new(Barrier::new(2));
    server.world().meet = vec![Arc::clone(&meet), meet];
    let (one, other) = (plain(&account(&server, "1.2")), plain(&account(&server, "1.2")));
    let both = tokio::join!(one.ensure_link(History::Fresh), other.ensure_link(History::Fresh));
    assert_eq!(in_order(&both), [(Made::Created, "L1"), (Made::Reused, "L1")]);
    assert_eq!((server.count("POST"), server.count("DELETE"), server.names("folder/F1").len()), (2, 1, 1));
}

#[tokio::test]
async fn a_create_that_answers_with_a_link_that_was_listed_is_a_reuse() {
    let server = Server::start().await;
    server.world().repeated = Repeated::Returned;
    let expired = json!({"linkID": "L9", "linkName": "n", "assignedUsers": "@serviceinstance", "role": "viewer",
        "type": "publiclink", "expirationTime": "2026-11-22T09:59:59Z"});
    server.world().links.insert("folder/F1".to_owned(), vec![expired.as_object().unwrap().clone()]);
    let link = json!({"assignedUsers": "@serviceinstance", "linkName": "n"});
    let outcome = share(&account(&server, "1.2"), json!({"folderId": "F1"}), link).ensure_link(History::Fresh).await;
    assert_eq!(made(&outcome), (Made::Reused, "L9"));
    assert_eq!(server.count("POST"), 1);
}

#[tokio::test]
async fn a_link_whose_answer_was_lost_or_spoilt_is_adopted_as_created_without_a_second_create() {
    let spoilt = |status, headers, body: String| Fault::Answer { work: true, status, headers, body };
    for fault in [
        Fault::Cut { work: true },
        spoilt(504, "Content-Type: text/html\r\n", "<html>Gateway Timeout</html>".to_owned()),
        spoilt(503, "", String::new()),
        spoilt(200, "Content-Type: application/json\r\n", "{\"linkID\":".to_owned()),
        spoilt(200, "Content-Type: application/json\r\n", "{\"errorCode\":\"0\"}".to_owned()),
        spoilt(200, "Content-Type: application/json\r\n", " ".repeat(2 * 1024 * 1024)),
    ] {
        let server = Server::start().await;
        server.spoil("POST", fault);
        let outcome = plain(&account(&server, "1.2")).ensure_link(History::Fresh).await;
        assert_eq!(made(&outcome), (Made::Created, "L1"));
        assert_eq!((server.count("POST"), server.count("GET")), (1, 2));
    }
}

#[tokio::test]
async fn a_create_that_was_cut_off_before_the_work_fails_and_the_next_attempt_creates() {
    let server = Server::start().await;
    server.spoil("POST", Fault::Cut { work: false });
    let share = plain(&account(&server, "1.2"));
    let failure = failed(share.ensure_link(History::Fresh).await);
    assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::Unavailable, Retry::Yes));
    assert!(failure.may_have_happened);
    assert_eq!(made(&share.ensure_link(History::MayHaveHappened).await), (Made::Created, "L1"));
    assert_eq!(server.count("POST"), 2);
}

#[tokio::test]
async fn a_link_that_turns_up_at_the_next_attempt_was_created_and_at_a_redelivery_is_reused() {
    for redelivered in [false, true] {
        let server = Server::start().await;
        server.spoil("GET", answer(200, "Content-Type: application/json\r\n", r#"{"count":"0","errorCode":"0"}"#));
        server.spoil("GET", Fault::Cut { work: true });
        server.spoil("POST", Fault::Cut { work: true });
        let oracle = account(&server, "1.2");
        let first = plain(&oracle);
        assert!(failed(first.ensure_link(History::Fresh).await).may_have_happened);
        let next = if redelivered { plain(&oracle) } else { first };
        let expected = if redelivered { Made::Reused } else { Made::Created };
        assert_eq!(made(&next.ensure_link(History::MayHaveHappened).await), (expected, "L1"));
        assert_eq!(server.count("POST"), 1);
    }
}

#[tokio::test]
async fn an_attempt_that_is_dropped_in_its_create_leaves_the_item_free_and_its_link_adoptable() {
    let server = Server::start().await;
    let reached = Arc::new(Notify::new());
    server.spoil("POST", Fault::Hang { reached: Arc::clone(&reached) });
    let share = plain(&account(&server, "1.2"));
    tokio::select! {
        outcome = share.ensure_link(History::Fresh) => panic!("{outcome:?}"),
        () = reached.notified() => {}
    }
    assert_eq!(made(&share.ensure_link(History::MayHaveHappened).await), (Made::Created, "L1"));
    assert_eq!(server.count("POST"), 1);
}

#[tokio::test]
async fn a_wider_echo_is_flagged_and_the_link_can_be_taken_back_twice() {
    let server = Server::start().await;
    server.world().imposed.insert("assignedUsers".to_owned(), "@everybody".into());
    let share = plain(&account(&server, "1.2"));
    let outcome = share.ensure_link(History::Fresh).await.unwrap();
    let [wider] = outcome.comparison.wider.as_slice() else { panic!("{:?}", outcome.comparison) };
    assert_eq!(wider.member, "assignedUsers");
    assert_eq!((&wider.asked, &wider.granted), (&json!("@serviceinstance"), &json!("@everybody")));
    // Found again, it is still wider.
    let again = share.ensure_link(History::Fresh).await.unwrap();
    assert_eq!(again.comparison, outcome.comparison);
    share.revoke(&outcome.link).await.unwrap();
    assert!(server.names("folder/F1").is_empty());
    share.revoke(&outcome.link).await.unwrap();
    assert_eq!(server.count("DELETE"), 2);
}

#[tokio::test]
async fn an_imposed_expiry_is_a_warning_and_its_expired_link_gives_way_to_a_new_one() {
    let server = Server::start().await;
    server.world().imposed.insert("expirationTime".to_owned(), "2027-02-20T10:00:00Z".into());
    let outcome = plain(&account(&server, "1.2")).ensure_link(History::Fresh).await.unwrap();
    assert_eq!(outcome.comparison.narrower.len(), 1);
    assert!(outcome.comparison.wider.is_empty());
    let over = Value::from("2026-11-22T10:00:00Z");
    server.world().links.get_mut("folder/F1").unwrap()[0].insert("expirationTime".to_owned(), over);
    let next = plain(&account(&server, "1.2")).ensure_link(History::Fresh).await;
    assert_eq!(made(&next), (Made::Created, "L2"));
    let again = plain(&account(&server, "1.2")).ensure_link(History::Fresh).await;
    assert_eq!(made(&again), (Made::Reused, "L2"));
}

#[tokio::test]
async fn a_given_name_is_reused_unless_a_password_that_nobody_can_check_is_asked_for() {
    let server = Server::start().await;
    let oracle = account(&server, "1.2");
    let named = |more: Value| {
        let mut link = json!({"assignedUsers": "@serviceinstance", "linkName": "partners"});
        link.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        share(&oracle, json!({"fileId": "D1"}), link)
    };
    assert_eq!(made(&named(json!({})).ensure_link(History::Fresh).await), (Made::Created, "L1"));
    assert_eq!(server.names("file/D1"), ["partners"]);
    assert_eq!(made(&named(json!({})).ensure_link(History::Fresh).await), (Made::Reused, "L1"));
    let locked = json!({"password": "MyPassword"});
    let failure = failed(named(locked.clone()).ensure_link(History::Fresh).await);
    assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::Conflict, Retry::Never));
    assert!(failure.failure.message.contains("password"), "{}", failure.failure.message);
    // After an attempt whose outcome nobody knows it may be the one that was made; it gets the asked password first.
    assert_eq!(made(&named(locked).ensure_link(History::MayHaveHappened).await), (Made::Reused, "L1"));
    assert_eq!(server.count("PUT"), 1);
    assert_eq!(server.world().body["password"], "MyPassword");
    assert_eq!(server.world().body.get("linkName"), None);
    // An older one was made by somebody else, and is not changed.
    server.world().links.get_mut("file/D1").unwrap()[0].insert("createdTime".to_owned(), "2026-11-22T08:59:59Z".into());
    let failure = failed(named(json!({"password": "MyPassword"})).ensure_link(History::MayHaveHappened).await);
    assert_eq!((failure.failure.kind, server.count("PUT")), (ErrorKind::Conflict, 1));
    // Of the same name and wider than asked: handed up with the difference, for the pipeline to refuse.
    server.world().links.get_mut("file/D1").unwrap()[0].insert("role".to_owned(), "contributor".into());
    let wider = named(json!({})).ensure_link(History::Fresh).await.unwrap();
    assert_eq!((wider.made, wider.comparison.wider.len()), (Made::Reused, 1));
    assert_eq!(server.count("POST"), 1);
}

#[tokio::test]
async fn a_given_name_with_a_password_is_taken_for_ours_after_a_create_whose_outcome_nobody_knows() {
    let server = Server::start().await;
    server.spoil("POST", Fault::Cut { work: true });
    server.spoil("GET", answer(200, "Content-Type: application/json\r\n", "{}"));
    server.spoil("GET", answer(503, "", ""));
    let link = json!({"assignedUsers": "@serviceinstance", "linkName": "partners", "password": "MyPassword"});
    let oracle = account(&server, "1.2");
    let ours = share(&oracle, json!({"folderId": "F1"}), link.clone());
    let at_once = share(&oracle, json!({"folderId": "F2"}), link.clone());
    assert!(failed(ours.ensure_link(History::Fresh).await).may_have_happened);
    assert_eq!(made(&ours.ensure_link(History::Fresh).await), (Made::Created, "L1"));
    server.spoil("POST", Fault::Cut { work: true });
    assert_eq!(made(&at_once.ensure_link(History::Fresh).await), (Made::Created, "L2"));
    let anothers = share(&oracle, json!({"folderId": "F1"}), link);
    assert_eq!(failed(anothers.ensure_link(History::Fresh).await).failure.kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn an_outage_in_html_pauses_the_account_for_as_long_as_it_says() {
    let server = Server::start().await;
    let headers = "Content-Type: text/html\r\nRetry-After: 120\r\n";
    server.spoil("GET", answer(503, headers, "<html>Scheduled maintenance</html>"));
    let oracle = account(&server, "1.2");
    let failure = failed(plain(&oracle).ensure_link(History::Fresh).await);
    assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::Unavailable, Retry::Yes));
    assert_eq!(failure.retry_after, Some(Duration::from_secs(120)));
    assert_eq!(failure.failure.provider.request_id.as_deref(), Some("ecid-7"));
    assert!(!failure.may_have_happened, "a list makes no link");
    match plain(&oracle).ensure_link(History::Fresh).await {
        Err(CallError::Held { wait, .. }) => assert!(wait > Duration::from_secs(100), "{wait:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.world().calls.len(), 1);
}

#[tokio::test]
async fn an_item_whose_list_cannot_be_had_gets_no_link() {
    for (fault, kind, word) in [
        (answer(302, "Location: https://login.example.com/\r\n", ""), ErrorKind::BadResponse, "redirect"),
        (answer(200, "Content-Type: text/html\r\n", "<html>Sign in</html>"), ErrorKind::BadResponse, "HTML"),
        (answer(200, "Content-Type: application/xml\r\n", "<links/>"), ErrorKind::BadResponse, "XML"),
        (
            answer(200, "Content-Type: application/json\r\n", "x".repeat(2 * 1024 * 1024)),
            ErrorKind::BadResponse,
            "larger",
        ),
        (answer(200, "Content-Type: application/json\r\n", r#"{"count":"2"}"#), ErrorKind::BadResponse, "list"),
        (answer(401, "", ""), ErrorKind::Unauthenticated, "credentials"),
        (
            answer(403, "", include_str!("fixtures/oracle/09-error-insufficient-privilege-403.json")),
            ErrorKind::Forbidden,
            "manager",
        ),
        (answer(404, "", include_str!("fixtures/oracle/08-error-not-found-404.json")), ErrorKind::NotFound, "exist"),
    ] {
        let server = Server::start().await;
        server.spoil("GET", fault);
        let failure = failed(plain(&account(&server, "1.2")).ensure_link(History::Fresh).await);
        assert_eq!((failure.failure.kind, failure.retry), (kind, Retry::Never), "{word}");
        assert!(failure.failure.message.contains(word), "{word:?} not in {:?}", failure.failure.message);
        assert!(!failure.may_have_happened);
        assert_eq!(server.count("POST"), 0);
    }
}

#[tokio::test]
async fn a_refused_create_is_final_and_is_not_looked_after() {
    let server = Server::start().await;
    server.spoil("POST", answer(403, "", include_str!("fixtures/oracle/09-error-insufficient-privilege-403.json")));
    let failure = failed(plain(&account(&server, "1.2")).ensure_link(History::Fresh).await);
    assert_eq!((failure.failure.kind, failure.retry), (ErrorKind::Forbidden, Retry::Never));
    assert_eq!(failure.failure.provider.code.as_deref(), Some("-20"));
    assert_eq!(server.world().calls.len(), 2);
}
