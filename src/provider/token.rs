//! What an account shows to prove who it is: a fixed header, or an access token that is fetched and renewed.
//!
//! One token is fetched at a time, ahead of the old one's end, and a refusal is remembered: a thousand waiting calls
//! make one call to the sign-in service, not a thousand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::http::secret_header;
use super::sign_in::{Fresh, SignIn};
use super::veil::Veil;
use crate::config::Auth;
use crate::model::{ErrorKind, Failure};
use crate::pipeline::ports::{CallFailure, Retry};
use crate::telemetry::metrics::ProviderMetrics;

/// A token is renewed so long before its end, or a tenth of its life, whichever is less.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// How long the sign-in service's final "no" is believed without asking again.
const REFUSAL_REMEMBERED: Duration = Duration::from_secs(30);
/// How long a passing failure is shared with everybody who waited for the same token.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(1);
/// A token that replaced a refused one, and is refused itself so soon after it was issued, is not replaced: a third
/// would be refused as well, and the sign-in service takes such a loop badly (AADSTS50196).
const FRESH: Duration = Duration::from_secs(30);

/// A value for the `Authorization` header, and which token it stems from.
#[derive(Clone)]
pub struct Authorization {
    header: Arc<HeaderValue>,
    /// Counts the tokens of this account.
    generation: u64,
}

impl Authorization {
    /// The header's value, marked as sensitive.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::clone(&self.header)
    }
}

/// The credentials of one account.
pub struct Tokens {
    kind: Kind,
}

enum Kind {
    Fixed(Authorization),
    Renewed(Arc<Renewed>),
}

struct Renewed {
    sign_in: SignIn,
    metrics: ProviderMetrics,
    /// Held while a token is fetched.
    fetching: tokio::sync::Mutex<()>,
    cache: Mutex<Cache>,
    veil: Arc<Veil>,
}

#[derive(Default)]
struct Cache {
    token: Option<Token>,
    generation: u64,
    /// The last token was taken out because the provider refused it.
    was_refused: bool,
    /// The last failure, and until when it stands for a new one.
    failure: Option<(CallFailure, Instant)>,
}

#[derive(Clone)]
struct Token {
    authorization: Authorization,
    issued: Instant,
    replaces_refused: bool,
    renew: Instant,
    ends: Instant,
}

impl Tokens {
    /// Reads the credentials; fetches nothing yet.
    ///
    /// # Errors
    /// Where a secret cannot stand in a header or the token store cannot be read.
    pub fn new(
        auth: &Auth,
        client: reqwest::Client,
        timeout: Duration,
        metrics: ProviderMetrics,
        veil: Arc<Veil>,
    ) -> Result<Self, String> {
        let fixed = |name: &str, text: String| {
            let header = secret_header(&text).map_err(|problem| format!("`{name}` {problem}"))?;
            Ok::<_, String>(Kind::Fixed(Authorization { header, generation: 0 }))
        };
        let kind = match auth {
            Auth::Bearer { token } => fixed("token", format!("Bearer {}", token.reveal()))?,
            Auth::Basic { username, password } => {
                let pair = STANDARD.encode(format!("{username}:{}", password.reveal()));
                fixed("password", format!("Basic {pair}"))?
            }
            Auth::ClientCredentials { .. } | Auth::RefreshToken { .. } => Kind::Renewed(Arc::new(Renewed {
                sign_in: SignIn::new(auth, client, timeout, metrics.clone())?,
                metrics,
                fetching: tokio::sync::Mutex::new(()),
                cache: Mutex::new(Cache::default()),
                veil,
            })),
        };
        Ok(Self { kind })
    }

    /// The header to send now, where there is one that is good.
    pub fn ready(&self) -> Option<Authorization> {
        let renewed = match &self.kind {
            Kind::Fixed(authorization) => return Some(authorization.clone()),
            Kind::Renewed(renewed) => renewed,
        };
        let now = Instant::now();
        let token = renewed.cache().token.clone().filter(|token| token.ends > now)?;
        if token.renew <= now {
            renewed.renew_in_background();
        }
        Some(token.authorization)
    }

    /// The header to send now, fetching a token where there is none that is good.
    ///
    /// # Errors
    /// Why none can be had. The failure may be that of another caller a moment ago.
    ///
    /// # Cancel safety
    /// May be dropped; the fetching goes on by itself, so that a rotated refresh token is not lost.
    pub async fn authorization(&self) -> Result<Authorization, CallFailure> {
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        let Kind::Renewed(renewed) = &self.kind else { return Err(broken_off()) };
        let fetch = tokio::spawn(renewed.clone().fetch(Need::Now));
        fetch.await.unwrap_or_else(|_| Err(broken_off()))
    }

    /// Notes that the provider answered 401 to this header. Whether another attempt has a better one.
    pub fn refused(&self, refused: &Authorization) -> bool {
        let Kind::Renewed(renewed) = &self.kind else { return false };
        let mut cache = renewed.cache();
        let Some(token) = &cache.token else { return true };
        if token.authorization.generation != refused.generation {
            return true;
        }
        if token.replaces_refused && token.issued.elapsed() < FRESH {
            return false;
        }
        cache.token = None;
        cache.was_refused = true;
        true
    }
}

fn broken_off() -> CallFailure {
    CallFailure::final_(Failure::new(ErrorKind::Internal, "fetching an access token was broken off"))
}

/// For when a token is fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// There is none to call with.
    Now,
    /// There is one that ends soon.
    Soon,
}

impl Renewed {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew_in_background(self: &Arc<Self>) {
        let is_fetching = self.fetching.try_lock().is_err();
        if !is_fetching {
            // The result stays in the cache. A failure is none: the old token is still good.
            drop(tokio::spawn(self.clone().fetch(Need::Soon)));
        }
    }

    async fn fetch(self: Arc<Self>, need: Need) -> Result<Authorization, CallFailure> {
        let _fetching = self.fetching.lock().await;
        if let Some(known) = self.known(need) {
            return known;
        }
        let fetched = self.sign_in.fetch().await.map_err(|failure| self.veil.over(failure));
        let now = Instant::now();
        match &fetched {
            Ok(fresh) => {
                self.veil.learn(fresh.access_token.clone());
                fresh.rotated.iter().for_each(|rotated| self.veil.learn(rotated.clone()));
                self.metrics.token_ok.inc();
            }
            Err(_) => self.metrics.token_failed.inc(),
        }
        let mut cache = self.cache();
        match fetched.and_then(|fresh| token(&fresh, cache.generation + 1, now)) {
            Ok(mut token) => {
                token.replaces_refused = cache.was_refused;
                let authorization = token.authorization.clone();
                let generation = authorization.generation;
                *cache = Cache { token: Some(token), generation, was_refused: false, failure: None };
                Ok(authorization)
            }
            Err(failure) => {
                tracing::warn!(error = %failure.failure.message, "no access token could be had");
                cache.failure = Some((failure.clone(), now + remembered(&failure)));
                Err(failure)
            }
        }
    }

    /// What somebody who held the lock before has found out.
    fn known(&self, need: Need) -> Option<Result<Authorization, CallFailure>> {
        let now = Instant::now();
        let cache = self.cache();
        let good_until = |token: &Token| if need == Need::Now { token.ends } else { token.renew };
        if let Some(token) = cache.token.as_ref().filter(|token| good_until(token) > now) {
            return Some(Ok(token.authorization.clone()));
        }
        cache.failure.as_ref().filter(|(_, until)| *until > now).map(|(failure, _)| Err(failure.clone()))
    }
}

fn token(fresh: &Fresh, generation: u64, now: Instant) -> Result<Token, CallFailure> {
    let header = secret_header(&format!("Bearer {}", fresh.access_token.reveal())).map_err(|problem| {
        let message = format!("the sign-in service gave an access token that {problem}");
        CallFailure::final_(Failure::new(ErrorKind::BadResponse, message))
    })?;
    let lead = AHEAD.min(fresh.lifetime / 10);
    let ends = now + fresh.lifetime;
    let authorization = Authorization { header, generation };
    Ok(Token { authorization, issued: now, replaces_refused: false, renew: ends - lead, ends })
}

/// How long a failure stands for the next one.
fn remembered(failure: &CallFailure) -> Duration {
    match failure.retry {
        Retry::Never => REFUSAL_REMEMBERED,
        Retry::Yes | Retry::Sparingly { .. } => failure.retry_after.unwrap_or(FAILURE_REMEMBERED),
    }
}
