//! A provider account set up against a scripted server.

#![allow(dead_code, reason = "each test that shares this file uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sharelink::config::{Auth, ClientAuth, Limits, OneDrive, OneDriveApi, Policy, Provider, ProviderKind};
use sharelink::model::{Secret, ShareRequest};
use sharelink::pipeline::ports::{CallError, CallFailure};
use sharelink::provider::account::{Account, Waiting};
use sharelink::provider::http;
use sharelink::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

/// Settings of an account that speaks Graph with a fixed token; change what the test is about.
pub fn settings(base: &str) -> (Provider, OneDrive) {
    let onedrive = OneDrive {
        api: OneDriveApi::Graph,
        base_url: format!("{base}/v1.0").parse().unwrap(),
        drive: "/me/drive".to_owned(),
        batch: false,
        action: "createLink".to_owned(),
    };
    let provider = Provider {
        name: "contoso".to_owned(),
        kind: ProviderKind::OneDrive(onedrive.clone()),
        timeout: Duration::from_secs(20),
        limits: Limits { max_in_flight: 64, requests_per_minute: 0, units_per_minute: 0 },
        auth: Auth::Bearer { token: Secret::new("fixed-token") },
        policy: Policy::default(),
    };
    (provider, onedrive)
}

/// Client credentials at this server's `/token`.
pub fn client_credentials(base: &str) -> Auth {
    Auth::ClientCredentials {
        token_url: format!("{base}/token").parse().unwrap(),
        client_id: "our-client".to_owned(),
        client_secret: Secret::new("our secret&="),
        scope: Some("https://graph.microsoft.com/.default".to_owned()),
        client_auth: ClientAuth::Body,
    }
}

pub fn account(provider: &Provider) -> (Arc<Account>, Metrics) {
    let metrics = Metrics::new(&["contoso"], &[]).unwrap();
    let patience = Duration::from_secs(1);
    let waiting = Waiting {
        patience,
        room: 1000,
        shared: false,
        gives_up_after: Duration::from_secs(900),
        stopping: CancellationToken::new(),
    };
    let account = Account::new(provider, http::client().unwrap(), metrics.provider("contoso"), waiting, None).unwrap();
    (Arc::new(account), metrics)
}

pub fn request(item: Value, link: Value) -> ShareRequest {
    let object = |value: Value| value.as_object().cloned().unwrap();
    ShareRequest { id: "r".to_owned(), provider: None, item: object(item), link: object(link), deadline: None }
}

pub fn failed<T: std::fmt::Debug>(result: Result<T, CallError>) -> CallFailure {
    match result {
        Err(CallError::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

/// Whether the metrics hold this line.
pub fn has_line(metrics: &Metrics, line: &str) -> bool {
    metrics.render().unwrap().lines().any(|each| each == line)
}
