//! A provider account: the only way to call a provider. Turn, authorization, one call, and its metrics.
//!
//! The account's credentials go to the account's own host and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::Instant;
use url::{Origin, Url};

use super::gate::Gate;
pub use super::http::Answer;
use super::http::exchange;
use super::token::{Authorization, Tokens};
use super::veil::Veil;
use crate::config::{Provider, ProviderKind};
use crate::model::{ErrorKind, Failure};
use crate::pipeline::ports::{CallError, CallFailure};
use crate::telemetry::metrics::ProviderMetrics;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// One configured provider account. Share it behind an `Arc`: its limits and its token are one for all calls.
pub struct Account {
    client: reqwest::Client,
    timeout: Duration,
    origin: Origin,
    tokens: Arc<Tokens>,
    gate: Gate,
    metrics: ProviderMetrics,
    veil: Arc<Veil>,
}

/// One call to be made.
pub struct Call {
    /// Under which name it is counted; one of [`OPERATIONS`](crate::telemetry::metrics::OPERATIONS).
    pub operation: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Where to; at the account's own host.
    pub url: Url,
    /// JSON to send.
    pub body: Option<Bytes>,
}

impl Account {
    /// Sets an account up; no call is made. `patience` is the longest that a call waits for its turn.
    ///
    /// # Errors
    /// Where the credentials cannot be used as they are: a sentence that names the setting.
    pub fn new(
        settings: &Provider,
        client: reqwest::Client,
        metrics: ProviderMetrics,
        patience: Duration,
    ) -> Result<Self, String> {
        let origin = match &settings.kind {
            ProviderKind::OneDrive(onedrive) => onedrive.base_url.origin(),
            ProviderKind::Oracle(oracle) => oracle.base_url.origin(),
        };
        let veil = Arc::new(Veil::of(&settings.auth));
        let tokens = Tokens::new(&settings.auth, client.clone(), settings.timeout, metrics.clone(), veil.clone())
            .map_err(|problem| format!("providers.{}.auth: {problem}", settings.name))?;
        let gate = Gate::new(&settings.limits, patience, metrics.clone());
        Ok(Self { client, timeout: settings.timeout, origin, tokens: Arc::new(tokens), gate, metrics, veil })
    }

    /// Waits for its turn, then makes the call; after a 401 once more with a fresh token, where there can be one.
    /// Any HTTP status but a redirect is an answer.
    ///
    /// # Errors
    /// [`CallError::Held`] where no call was made because its turn comes too late. [`CallError::Failed`] where no
    /// usable answer came: no connection, no answer in time, a broken connection, an answer that is too large, a
    /// redirect; or where no access token could be had.
    ///
    /// # Cancel safety
    /// May be dropped at any await point; a call under way may then have reached the provider. A token that is
    /// being fetched is still fetched and kept.
    pub async fn call(&self, call: Call) -> Result<Answer, CallError> {
        if call.url.origin() != self.origin {
            let message = "a call to another host than the account's own was prevented";
            return Err(CallFailure::final_(Failure::new(ErrorKind::Internal, message)).into());
        }
        let (authorization, answer) = self.attempt(&call).await?;
        if answer.status != 401 || !self.tokens.refused(&authorization) {
            return Ok(answer);
        }
        self.attempt(&call).await.map(|(_, answer)| answer)
    }

    /// Every further call of this account waits at least this long. For a call that the provider answered with a
    /// `Retry-After`.
    pub fn pause(&self, wait: Duration) {
        self.gate.pause(wait);
    }

    /// A failure as it may be told: a provider that repeats the account's credentials in an error does so in vain.
    pub fn tellable(&self, failure: CallFailure) -> CallFailure {
        self.veil.over(failure)
    }

    /// Makes sure that the account can sign in, without calling the provider itself.
    ///
    /// # Errors
    /// Why no access token can be had.
    pub async fn sign_in(&self) -> Result<(), CallFailure> {
        self.tokens.authorization().await.map(|_| ())
    }

    async fn attempt(&self, call: &Call) -> Result<(Authorization, Answer), CallError> {
        let _turn = self.gate.turn().await?;
        let authorization = self.tokens.authorization().await?;
        let mut request = self
            .client
            .request(call.method.clone(), call.url.clone())
            .header(ACCEPT, JSON)
            .header(AUTHORIZATION, authorization.header());
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, JSON).body(body.clone());
        }
        let started = Instant::now();
        let (code, answer) = exchange(request, self.timeout).await;
        self.metrics.call(call.operation, &code, started.elapsed().as_secs_f64());
        Ok((authorization, answer?))
    }
}
