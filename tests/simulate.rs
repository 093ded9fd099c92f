//! The simulator over real HTTP: its answers have the shapes that were recorded, and its faults reach a client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sharelink::model::Secret;
use sharelink::simulate::{Options, RetryAfter, SimulateArgs, Simulator, serve};
use tokio::net::TcpListener;

/// A simulator and a client that follows no redirects.
struct Bench {
    simulator: Simulator,
    client: Client,
}

/// What a client sees of an answer.
struct Seen {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Seen {
    fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

async fn setup(options: Options) -> Bench {
    // A second test in this process finds one installed; that is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let simulator = serve(listener, options).await;
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    Bench { simulator, client }
}

impl Bench {
    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("http://{}{path}", self.simulator.address));
        match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Seen, reqwest::Error> {
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Seen { status, headers, text: answer.text().await? })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Seen, reqwest::Error> {
        self.send(self.request(method, path, body).bearer_auth("any")).await
    }

    async fn get(&self, path: &str) -> Seen {
        self.call(Method::GET, path, None).await.unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Seen {
        self.call(Method::POST, path, Some(body)).await.unwrap()
    }

    /// Posts an anonymous view link for an item of the own drive at Graph.
    async fn share(&self, item: &str) -> Result<Seen, reqwest::Error> {
        let body = json!({"type": "view", "scope": "anonymous"});
        self.call(Method::POST, &graph(item), Some(&body)).await
    }

    /// Posts a named viewer link for a file at Oracle.
    async fn publish(&self, file: &str) -> Result<Seen, reqwest::Error> {
        let body = json!({"assignedUsers": "@everybody", "role": "viewer", "linkName": "n"});
        self.call(Method::POST, &oracle(file), Some(&body)).await
    }

    async fn token(&self, path: &str, form: &str, basic: Option<(&str, &str)>) -> Seen {
        let request = self
            .request(Method::POST, path, None)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let request = match basic {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        };
        self.send(request).await.unwrap()
    }
}

fn graph(item: &str) -> String {
    format!("/graph/v1.0/me/drive/items/{item}/createLink")
}

fn oracle(file: &str) -> String {
    format!("/documents/api/1.2/publiclinks/file/{file}")
}

const MICROSOFT_TOKEN: &str = "/contoso/oauth2/v2.0/token";
const CLIENT_FORM: &str = "grant_type=client_credentials&client_id=app&client_secret=s3cret\
                           &scope=https%3A%2F%2Fgraph.microsoft.com%2F.default";

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

/// Whether `answer` has every member of `fixture` with the same JSON type, down to the leaves.
fn assert_shape(fixture: &Value, answer: &Value, at: &str) {
    match (fixture, answer) {
        (Value::Object(fixture), Value::Object(answer)) => {
            for (name, member) in fixture {
                let found = answer.get(name).unwrap_or_else(|| panic!("{at}.{name} is missing in {answer:?}"));
                assert_shape(member, found, &format!("{at}.{name}"));
            }
        }
        (Value::Array(fixture), Value::Array(answer)) => {
            let Some(member) = fixture.first() else { return };
            assert!(!answer.is_empty(), "{at} is empty");
            for found in answer {
                assert_shape(member, found, &format!("{at}[]"));
            }
        }
        _ => assert_eq!(std::mem::discriminant(fixture), std::mem::discriminant(answer), "{at}: {fixture} {answer}"),
    }
}

#[tokio::test]
async fn graph_answers_with_the_shapes_that_were_recorded() {
    let bench = setup(Options::default()).await;

    let capped = json!({"type": "view", "scope": "anonymous", "expirationDateTime": "2999-02-23T11:52:42Z"});
    let made = bench.post(&graph("narrower-1.docx"), &capped).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_shape(&fixture("microsoft/43-created-expiry-capped-by-policy"), &made.body(), "43");
    assert_ne!(made.body()["expirationDateTime"], capped["expirationDateTime"]);
    assert!(made.header("location").is_some_and(|location| location.contains("permissions('")));

    let request = bench.request(Method::POST, "/graph/v1.0/sites/s/drives/d/items/1.pdf/createLink", Some(&capped));
    let plain = bench.send(request.bearer_auth("any").header("accept", "application/json;odata.metadata=none")).await;
    let plain = plain.unwrap().body();
    assert_shape(&fixture("microsoft/56-sharinglink-get-with-expiry"), &plain, "56");
    assert!(plain.as_object().unwrap().keys().all(|name| !name.starts_with('@')), "{plain}");
    assert_eq!(plain["expirationDateTime"], capped["expirationDateTime"]);

    let embed = bench.post(&graph("2"), &json!({"type": "embed"})).await.body();
    assert_shape(&fixture("microsoft/22-graph-created-embed-webhtml"), &embed, "22");
    assert!(embed["link"].get("scope").is_none(), "{embed}");

    // The documented example is a Personal one; the recorded Business links have no application.
    let mut with_password = fixture("microsoft/21-graph-created-anonymous-haspassword");
    with_password["link"].as_object_mut().unwrap().remove("application");
    let asked = json!({"type": "view", "scope": "anonymous", "password": "p"});
    let protected = bench.post(&graph("3"), &asked).await.body();
    assert_shape(&with_password, &protected, "21");
    assert_eq!(protected["hasPassword"], true);

    let blocked = bench.post(&graph("4"), &json!({"type": "blocksDownload", "scope": "organization"})).await.body();
    assert_eq!((&blocked["link"]["type"], &blocked["link"]["preventsDownload"]), (&json!("view"), &json!(true)));
}

#[tokio::test]
async fn the_older_api_answers_with_the_shapes_that_were_recorded() {
    let bench = setup(Options::default()).await;
    let asked = json!({"type": "view"});
    let made = bench.post("/onedrive/v1.0/drive/items/1/action.createLink", &asked).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_shape(&fixture("microsoft/20-legacy-created-anonymous"), &made.body(), "20");
    let again = bench.post("/onedrive/v1.0/drive/items/1/oneDrive.createLink", &asked).await;
    assert_eq!((again.status, again.body()), (StatusCode::OK, made.body()));
    let id = made.body()["id"].as_str().unwrap().to_owned();
    let stored = bench.get(&format!("/onedrive/v1.0/drive/items/1/permissions/{id}")).await.body();
    assert_shape(&fixture("microsoft/24-personal-style-view-link"), &stored, "24");
    assert_eq!(stored["expirationDateTime"], "0001-01-01T00:00:00Z");
}

#[tokio::test]
async fn microsofts_errors_have_the_shapes_that_were_recorded() {
    let bench = setup(Options { retry_after: RetryAfter::Fraction, ..Options::default() }).await;

    let unknown_type = bench.post(&graph("1"), &json!({"type": "own"})).await;
    assert_eq!(unknown_type.status, StatusCode::BAD_REQUEST);
    assert_shape(&fixture("microsoft/30-error-400-embed-on-business"), &unknown_type.body(), "30");

    let missing = bench.share("missing-1").await.unwrap();
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_shape(&fixture("microsoft/31-error-404-itemnotfound"), &missing.body(), "31");
    assert_eq!(missing.body()["error"]["code"], "itemNotFound");
    assert_eq!(missing.header("request-id"), missing.body()["error"]["innerError"]["request-id"].as_str());

    let throttled = bench.share("throttled-2").await.unwrap();
    assert_eq!(throttled.status, StatusCode::TOO_MANY_REQUESTS);
    assert_shape(&fixture("microsoft/35-error-429-decimal-retry-after"), &throttled.body(), "35");
    assert_eq!(throttled.header("retry-after"), Some("2.000"));

    let expired = bench.share("expired-1").await.unwrap();
    assert_eq!(expired.status, StatusCode::UNAUTHORIZED);
    assert_shape(&fixture("microsoft/42-error-401-token-expired"), &expired.body(), "42");
    assert!(expired.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer ")));
}

#[tokio::test]
async fn a_callers_own_request_id_is_echoed() {
    let bench = setup(Options::default()).await;
    let request = bench.request(Method::POST, &graph("1"), Some(&json!({"type": "view"}))).bearer_auth("any");
    let seen = bench.send(request.header("client-request-id", "mine")).await.unwrap();
    assert_eq!(seen.header("client-request-id"), Some("mine"));
    assert!(seen.header("request-id").is_some_and(|id| id != "mine"));
}

#[tokio::test]
async fn a_link_is_created_once_and_then_found_by_id_by_path_and_by_sharing_url() {
    let bench = setup(Options::default()).await;
    let asked = json!({"type": "view", "scope": "organization"});
    let by_path = "/graph/v1.0/me/drive/root:/Sales/Q3%20report.docx:/createLink";
    let made = bench.post(by_path, &asked).await;
    assert_eq!(made.status, StatusCode::CREATED);

    let item = bench.get("/graph/v1.0/me/drive/root:/sales/q3%20report.docx").await.body();
    let (drive, id) = (item["parentReference"]["driveId"].as_str().unwrap(), item["id"].as_str().unwrap());
    let again = bench.post(&format!("/graph/v1.0/drives/{drive}/items/{id}/createLink"), &asked).await;
    assert_eq!((again.status, again.body()), (StatusCode::OK, made.body()));

    let token = made.body()["shareId"].as_str().unwrap().to_owned();
    assert_eq!(token, format!("u!{}", URL_SAFE_NO_PAD.encode(made.body()["link"]["webUrl"].as_str().unwrap())));
    let shared = bench.get(&format!("/graph/v1.0/shares/{token}/driveItem")).await.body();
    assert_eq!((&shared["id"], &shared["parentReference"]["driveId"]), (&item["id"], &json!(drive)));
}

#[tokio::test]
async fn a_fault_word_in_a_sharing_url_holds_for_the_item_behind_it() {
    let bench = setup(Options::default()).await;
    let token = format!("u!{}", URL_SAFE_NO_PAD.encode("https://contoso.sharepoint.com/docs/wider.docx"));
    let item = bench.get(&format!("/graph/v1.0/shares/{token}/root")).await.body();
    let (drive, id) = (item["parentReference"]["driveId"].as_str().unwrap(), item["id"].as_str().unwrap());
    let asked = json!({"type": "view", "scope": "organization"});
    let made = bench.post(&format!("/graph/v1.0/drives/{drive}/items/{id}/createLink"), &asked).await.body();
    assert_eq!(made["link"]["scope"], "anonymous");
}

#[tokio::test]
async fn a_link_for_named_people_names_them_and_a_repeat_mails_them_again() {
    let bench = setup(Options::default()).await;
    let asked = json!({"type": "view", "scope": "users", "recipients": [{"email": "ada@contoso.com"}], "sendNotification": true});
    let made = bench.post(&graph("1"), &asked).await.body();
    assert_eq!(made["grantedToIdentitiesV2"][0]["user"]["email"], "ada@contoso.com");
    assert!(made["link"]["webUrl"].as_str().unwrap().ends_with("?email=ada%40contoso%2Ecom"), "{made}");
    assert_eq!(bench.post(&graph("1"), &asked).await.status, StatusCode::OK);
    assert_eq!(bench.simulator.state.stats().mails, 2);
}

#[tokio::test]
async fn permissions_can_be_listed_and_a_link_taken_back() {
    let bench = setup(Options::default()).await;
    let made = bench.share("1").await.unwrap().body();
    let listed = bench.get("/graph/v1.0/me/drive/items/1/permissions").await.body();
    let links: Vec<_> =
        listed["value"].as_array().unwrap().iter().filter(|entry| entry.get("link").is_some()).collect();
    assert_eq!((links.len(), &links[0]["id"]), (1, &made["id"]));
    let one = format!("/graph/v1.0/me/drive/items/1/permissions/{}", made["id"].as_str().unwrap());
    let deleted = bench.call(Method::DELETE, &one, None).await.unwrap();
    assert_eq!((deleted.status, deleted.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(bench.call(Method::DELETE, &one, None).await.unwrap().status, StatusCode::NOT_FOUND);
    assert_eq!(bench.share("1").await.unwrap().status, StatusCode::CREATED);
}

#[tokio::test]
async fn oracle_answers_with_the_shapes_that_it_prints() {
    let bench = setup(Options::default()).await;
    for version in ["1.1", "1.2"] {
        let folder = format!("/documents/api/{version}/publiclinks/folder/F-{version}");
        let empty = bench.get(&folder).await.body();
        assert_eq!((&empty["count"], empty.get("items")), (&json!("0"), None));

        let mut asked = fixture("oracle/20-request-create-folder-link");
        asked["expirationTime"] = json!("2999-01-01T00:00:01Z");
        let made = bench.post(&folder, &asked).await;
        assert_eq!(made.status, StatusCode::OK);
        assert!(made.header("x-oracle-dms-ecid").is_some() && made.header("location").is_none());
        assert_shape(&fixture("oracle/01-create-folder-link-200"), &made.body(), "01");
        assert!(!made.text.contains("MyPassword") && !made.text.contains("http"), "{}", made.text);
        for member in ["assignedUsers", "role", "linkName", "expirationTime"] {
            assert_eq!(made.body()[member], asked[member]);
        }

        bench.post(&folder, &json!({"assignedUsers": "@everybody", "linkName": "second"})).await;
        let listed = bench.get(&folder).await.body();
        assert_shape(&fixture("oracle/03-list-folder-links-200-two"), &listed, "03");
        assert_eq!(listed["count"], "2");

        let taken = bench.post(&folder, &asked).await;
        assert_eq!((taken.status, &taken.body()["errorCode"]), (StatusCode::CONFLICT, &json!("-17")));

        let one = format!("/documents/api/{version}/publiclinks/{}", made.body()["linkID"].as_str().unwrap());
        assert_eq!(bench.get(&one).await.body()["role"], "contributor");
        let edited = bench.call(Method::PUT, &one, Some(&json!({"role": "viewer"}))).await.unwrap().body();
        assert_eq!((&edited["role"], &edited["assignedUsers"]), (&json!("viewer"), &asked["assignedUsers"]));
        let deleted = bench.call(Method::DELETE, &one, None).await.unwrap();
        assert_eq!((deleted.status, &deleted.body()["type"]), (StatusCode::OK, &json!("publiclink")));
        let gone = bench.get(&one).await;
        assert_eq!((gone.status, &gone.body()["errorCode"]), (StatusCode::NOT_FOUND, &json!("-16")));
        assert_shape(&fixture("oracle/08-error-not-found-404"), &gone.body(), "08");
    }
    let denied = bench.publish("forbidden").await.unwrap();
    assert_eq!((denied.status, &denied.body()["errorCode"]), (StatusCode::FORBIDDEN, &json!("-20")));
    assert_shape(&fixture("oracle/09-error-insufficient-privilege-403"), &denied.body(), "09");
}

#[tokio::test]
async fn the_same_words_mean_the_same_at_every_api() {
    let bench = setup(Options::default()).await;
    for (word, statuses) in [
        ("missing", [404, 404, 404]),
        ("forbidden", [403, 403, 403]),
        ("locked", [423, 423, 0]),
        ("throttled", [429, 0, 0]),
        ("flaky", [503, 503, 0]),
        ("down", [503, 503, 503]),
        ("gateway", [504, 1, 1]),
        ("redirect", [302, 302, 302]),
        ("expired", [401, 0, 1]),
    ] {
        // 0: the link is made, 1: the link was there.
        for status in statuses {
            let microsoft = match status {
                0 => 201,
                1 => 200,
                other => other,
            };
            assert_eq!(bench.share(word).await.unwrap().status, microsoft, "graph {word}");
            let oracle = match status {
                0 => 200,
                1 => 409,
                other => other,
            };
            assert_eq!(bench.publish(word).await.unwrap().status, oracle, "oracle {word}");
            if status == 0 {
                break;
            }
        }
    }
    assert_eq!(bench.share("throttled-30").await.unwrap().header("retry-after"), Some("30"));
}

#[tokio::test]
async fn answers_that_are_no_answers_do_nothing() {
    let bench = setup(Options::default()).await;
    for word in ["html", "huge", "redirect", "garbage"] {
        for seen in [bench.share(word).await.unwrap(), bench.publish(word).await.unwrap()] {
            match word {
                "html" => assert!(seen.status == 200 && seen.text.starts_with("<!DOCTYPE html>")),
                "huge" => assert_eq!((seen.status.as_u16(), seen.text.len()), (200, 2 * 1024 * 1024)),
                "redirect" => assert_eq!(seen.header("location"), Some("/_/sign-in")),
                _ => assert!(seen.status == 200 && serde_json::from_str::<Value>(&seen.text).is_err()),
            }
        }
    }
    assert_eq!(bench.simulator.state.stats().all.links, 0);
}

#[tokio::test]
async fn a_reset_surfaces_at_the_client_and_makes_no_link() {
    let bench = setup(Options::default()).await;
    let error = bench.share("reset").await.err().expect("the connection is cut");
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    let numbers = bench.simulator.state.stats().item("graph", "b!me/reset");
    assert_eq!((numbers.links, numbers.tally.cut), (0, 1));
    assert_eq!(bench.share("reset").await.unwrap().status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_link() {
    let bench = setup(Options::default()).await;
    assert!(bench.share("lost").await.is_err());
    assert_eq!(bench.share("lost").await.unwrap().status, StatusCode::OK);

    assert_eq!(bench.get(&oracle("lost")).await.body()["count"], "0", "looking uses up nothing");
    assert!(bench.publish("lost").await.is_err());
    assert_eq!(bench.get(&oracle("lost")).await.body()["count"], "1");
}

#[tokio::test]
async fn a_client_that_gives_up_on_a_slow_answer_leaves_the_link() {
    let bench = setup(Options::default()).await;
    let body = json!({"type": "view", "scope": "anonymous"});
    let request = bench.request(Method::POST, &graph("slow-600000"), Some(&body)).bearer_auth("any");
    let error = bench.send(request.timeout(Duration::from_millis(300))).await.err().expect("no answer in time");
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(bench.simulator.state.stats().item("graph", "b!me/slow-600000").links, 1);
}

#[tokio::test]
async fn a_call_without_or_with_a_wrong_token_is_401() {
    let bench = setup(Options { token: Some(Secret::new("only")), ..Options::default() }).await;
    let body = json!({"type": "view"});
    let request = || bench.request(Method::POST, &graph("1"), Some(&body));
    for request in [request(), request().bearer_auth("other"), request().basic_auth("u", Some("p"))] {
        assert_eq!(bench.send(request).await.unwrap().status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(bench.send(request().bearer_auth("only")).await.unwrap().status, StatusCode::CREATED);
    let listing = || bench.request(Method::GET, &oracle("1"), None);
    assert_eq!(bench.send(listing().basic_auth("u", Some("p"))).await.unwrap().status, StatusCode::OK);
    assert_eq!(bench.send(listing().basic_auth("u", Some("wrong"))).await.unwrap().status, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.send(listing()).await.unwrap().status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_issued_token_works_until_it_is_taken_back() {
    let bench = setup(Options { token: Some(Secret::new("only")), ..Options::default() }).await;
    let issued = bench.token(MICROSOFT_TOKEN, CLIENT_FORM, None).await;
    assert_shape(&fixture("microsoft/50-token-200-client-credentials"), &issued.body(), "50");
    assert!(issued.body().get("refresh_token").is_none());
    let token = issued.body()["access_token"].as_str().unwrap().to_owned();
    let request = || bench.request(Method::POST, &graph("1"), Some(&json!({"type": "view"}))).bearer_auth(&token);
    assert_eq!(bench.send(request()).await.unwrap().status, StatusCode::CREATED);
    bench.simulator.state.expire_tokens();
    assert_eq!(bench.send(request()).await.unwrap().status, StatusCode::UNAUTHORIZED);

    let oracle = bench.token("/oauth2/v1/token", "grant_type=client_credentials&scope=x", Some(("app", "s"))).await;
    assert_eq!((oracle.status, &oracle.body()["token_type"]), (StatusCode::OK, &json!("Bearer")));
}

#[tokio::test]
async fn the_token_endpoint_refuses_in_its_own_shape() {
    let bench = setup(Options::default()).await;
    let scopes = bench.token(MICROSOFT_TOKEN, &format!("{CLIENT_FORM}+second"), None).await;
    assert_eq!(scopes.status, StatusCode::BAD_REQUEST);
    assert_shape(&fixture("microsoft/51-token-400-invalid-scope"), &scopes.body(), "51");
    let secret = bench.token(MICROSOFT_TOKEN, &CLIENT_FORM.replace("s3cret", "wrong"), None).await;
    assert_eq!(secret.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        (&secret.body()["error"], &secret.body()["error_codes"]),
        (&json!("invalid_client"), &json!([7_000_215]))
    );
    let flaky = CLIENT_FORM.replace("=app", "=flaky-app");
    for status in [503, 503, 200] {
        assert_eq!(bench.token(MICROSOFT_TOKEN, &flaky, None).await.status, status);
    }
    let stats = bench.simulator.state.stats();
    assert_eq!((stats.tokens.issued, stats.tokens.refused), (1, 4));
}

#[tokio::test]
async fn a_refresh_token_rotates_and_a_spent_one_is_refused_where_it_is_for_single_use() {
    let bench = setup(Options { single_use_refresh_tokens: true, ..Options::default() }).await;
    let refresh = async |token: &str| {
        let form = format!("grant_type=refresh_token&client_id=app&refresh_token={token}");
        bench.token(MICROSOFT_TOKEN, &form, None).await
    };
    let first = refresh("first").await.body();
    let second = refresh(first["refresh_token"].as_str().unwrap()).await.body();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_ne!(first["access_token"], second["access_token"]);
    let spent = refresh("first").await;
    assert_eq!((spent.status, &spent.body()["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
}

#[tokio::test]
async fn over_the_limit_calls_are_refused_with_retry_after_and_the_gauge_is_told_before() {
    let bench = setup(Options { units_per_minute: 20, ..Options::default() }).await;
    for (item, told) in [("1", None), ("2", None), ("3", None), ("4", Some("20"))] {
        let seen = bench.share(item).await.unwrap();
        assert_eq!((seen.status, seen.header("ratelimit-limit")), (StatusCode::CREATED, told), "{item}");
    }
    let refused = bench.share("5").await.unwrap();
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((20..=30).contains(&wait), "{wait} seconds until 10 units of 20 a minute are back");
    assert_eq!(refused.header("ratelimit-reset"), refused.header("retry-after"));
    assert_eq!(refused.header("ratelimit-remaining"), Some("0"));
    assert_eq!(bench.publish("1").await.unwrap().status, StatusCode::OK, "the other account has its own units");

    bench.simulator.state.set_options(Options {
        units_per_minute: 4,
        closed_for: Duration::from_secs(300),
        retry_after: RetryAfter::Fraction,
        ..Options::default()
    });
    let closed = bench.share("6").await.unwrap();
    let wait: f64 = closed.header("retry-after").unwrap().parse().unwrap();
    assert!(closed.header("retry-after").unwrap().contains('.') && wait > 299.0, "{wait}");
}

#[tokio::test]
async fn random_faults_are_the_same_for_the_same_seed() {
    let options = |seed| Options { fault_503: 0.3, reset: 0.1, lose_answers: 0.1, seed, ..Options::default() };
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let bench = setup(options(seed)).await;
        let mut run = Vec::new();
        for call in 0..60 {
            run.push(bench.share(&call.to_string()).await.map_or(0, |seen| seen.status.as_u16()));
        }
        for status in [0, 201, 503] {
            assert!(run.contains(&status), "{status} in {run:?}");
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn what_happened_is_counted_by_api_and_item() {
    let bench = setup(Options::default()).await;
    for item in ["1", "1", "missing", "lost"] {
        let _ = bench.share(item).await;
    }
    for name in ["a", "b"] {
        bench.post(&oracle("D1"), &json!({"assignedUsers": "@everybody", "linkName": name})).await;
    }
    let stats = bench.get("/_/stats").await.body();
    let graph = &stats["providers"]["graph"];
    for (member, count) in
        [("calls", 4), ("created", 2), ("reused", 1), ("refused", 1), ("cut", 1), ("links", 2), ("doubled", 0)]
    {
        assert_eq!(graph[member], count, "{member} in {graph}");
    }
    assert_eq!(graph["items"]["b!me/1"]["reused"], 1);
    let doubled = &stats["providers"]["oracle"]["items"]["file/D1"];
    assert_eq!((&doubled["links"], &doubled["doubled"]), (&json!(2), &json!(1)));
    assert_eq!((&stats["calls"], &stats["doubled"]), (&json!(6), &json!(1)));
}

#[tokio::test]
async fn faults_can_be_changed_while_running() {
    let bench = setup(Options::default()).await;
    let changed = bench.post("/_/faults", &json!({"fault503": 1.0, "unavailableFor": "7s"})).await;
    assert_eq!((changed.status, &changed.body()["fault503"]), (StatusCode::OK, &json!(1.0)));
    let seen = bench.share("1").await.unwrap();
    assert_eq!((seen.status, seen.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("7")));
    let refused = bench.post("/_/faults", &json!({"fault504": 1.0, "reset": 1.0})).await;
    assert!(refused.status == 400 && refused.text.contains("fault504"), "{}", refused.text);
    bench.post("/_/faults", &json!({"fault503": 0.0, "expireTokens": true})).await;
    assert_eq!(bench.share("1").await.unwrap().status, StatusCode::CREATED, "nothing of the refused change was kept");
}

#[tokio::test]
async fn the_page_explains_every_word_and_its_configuration_is_toml() {
    let bench = setup(Options::default()).await;
    let page = bench.get("/").await.text;
    for word in ["missing", "throttled-30", "nopassword", "/_/stats", "/_/faults"] {
        assert!(page.contains(word), "{word}");
    }
    let config = bench.simulator.addresses().config();
    let table = toml::de::DeTable::parse(&config).unwrap();
    let providers = table.get_ref().get("providers").and_then(|providers| providers.get_ref().as_table()).unwrap();
    assert_eq!(providers.len(), 3);
    let nowhere = bench.get("/graph/v2.0/me").await;
    assert!(nowhere.status == 404 && nowhere.text.contains("GET /"), "{}", nowhere.text);
}

#[tokio::test]
async fn a_basic_header_is_read_as_the_standard_encodes_it() {
    let bench = setup(Options::default()).await;
    let header = format!("Basic {}", STANDARD.encode("ada:a:b"));
    let request = bench.request(Method::GET, &oracle("1"), None).header("authorization", header);
    assert_eq!(bench.send(request).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_stopped_simulator_answers_the_call_under_way_and_refuses_connections() {
    let Bench { simulator, client } = setup(Options::default()).await;
    let url = format!("http://{}{}", simulator.address, graph("slow-600000"));
    let request = client.post(&url).bearer_auth("any").header("content-type", "application/json").body("{}");
    let under_way = tokio::spawn(request.send());
    while simulator.state.stats().all.links == 0 {
        tokio::task::yield_now().await;
    }
    simulator.stop().await;
    assert_eq!(under_way.await.unwrap().unwrap().status(), StatusCode::CREATED);
    let error = client.get(&url).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn a_dropped_simulator_stops() {
    let Bench { simulator, client } = setup(Options::default()).await;
    let url = format!("http://{}/", simulator.address);
    client.get(&url).send().await.unwrap();
    drop(simulator);
    while client.get(&url).send().await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_address_that_is_taken_ends_the_command_with_69() {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: SimulateArgs,
    }
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let cli = <Cli as clap::Parser>::try_parse_from(["simulate", "--listen", &listen]).unwrap();
    let code = sharelink::simulate::run(cli.args).await;
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::from(69)));
}
