//! Fetches access tokens from a sign-in service (OAuth 2: client credentials and refresh token).
//!
//! The `oauth2` crate builds the requests and reads the answers; status, `Retry-After` and broken connections, which
//! it would lose, are taken out before it sees them. No secret is in any failure.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    BasicTokenResponse,
};
use oauth2::{
    AsyncHttpClient, AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    RefreshToken, RequestTokenError, Scope, StandardRevocableToken, TokenResponse, TokenUrl,
};
use tokio::time::Instant;

use super::http::{Answer, bad_response, exchange};
use super::said::plain;
use super::token_store::TokenStore;
use crate::config::{Auth, ClientAuth};
use crate::model::{ErrorKind, Failure, ProviderSays, Secret};
use crate::pipeline::ports::{BoxFuture, CallFailure, Retry};
use crate::telemetry::metrics::ProviderMetrics;

/// Lifetime of a token whose answer tells none.
const UNTOLD_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// No lifetime longer than this is believed.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Numbers in Microsoft's `AADSTS` messages that mean "try again": 50033, 90006, 90012, 90024, 90033, 90090, 70012.
const PASSING: [u32; 7] = [50033, 90006, 90012, 90024, 90033, 90090, 70012];
/// And those that mean "slow down": the tenant is throttled, or the client asks for tokens in a loop.
const SLOW_DOWN: [u32; 2] = [90055, 50196];

type Client = oauth2::Client<
    BasicErrorResponse,
    BasicTokenResponse,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// A token just issued.
pub struct Fresh {
    /// What goes into the `Authorization` header.
    pub access_token: Secret,
    /// How long it is good from now on.
    pub lifetime: Duration,
    /// The refresh token that replaces the one that was used, where there is one. Kept already.
    pub rotated: Option<Secret>,
}

/// One client at one sign-in service.
pub struct SignIn {
    oauth: Client,
    wire: Wire,
    scope: Option<Scope>,
    grant: Grant,
}

/// How its calls are made.
#[derive(Clone)]
struct Wire {
    http: reqwest::Client,
    timeout: Duration,
    metrics: ProviderMetrics,
}

enum Grant {
    ClientCredentials,
    RefreshToken { newest: Mutex<RefreshToken>, store: Option<TokenStore> },
}

impl SignIn {
    /// Prepares the client; a refresh token in the token store wins over the configured one.
    ///
    /// # Errors
    /// Where the method is not one of OAuth 2, or the token store cannot be read.
    pub fn new(
        auth: &Auth,
        http: reqwest::Client,
        timeout: Duration,
        metrics: ProviderMetrics,
    ) -> Result<Self, String> {
        let (url, id, secret, scope, client_auth, grant) = match auth {
            Auth::ClientCredentials { token_url, client_id, client_secret, scope, client_auth } => {
                (token_url, client_id, Some(client_secret), scope, client_auth, Grant::ClientCredentials)
            }
            Auth::RefreshToken {
                token_url,
                client_id,
                client_secret,
                refresh_token,
                scope,
                client_auth,
                token_store,
            } => {
                let store = token_store.clone().map(TokenStore::new);
                let stored = store.as_ref().map(TokenStore::read).transpose()?.flatten();
                let newest = stored.as_ref().unwrap_or(refresh_token).reveal().to_owned();
                let grant = Grant::RefreshToken { newest: Mutex::new(RefreshToken::new(newest)), store };
                (token_url, client_id, client_secret.as_ref(), scope, client_auth, grant)
            }
            Auth::Bearer { .. } | Auth::Basic { .. } => return Err("`method` needs no sign-in service".to_owned()),
        };
        let mut oauth = oauth2::basic::BasicClient::new(ClientId::new(id.clone()))
            .set_token_uri(TokenUrl::from_url(url.clone()))
            .set_auth_type(match client_auth {
                ClientAuth::Body => AuthType::RequestBody,
                ClientAuth::Basic => AuthType::BasicAuth,
            });
        if let Some(secret) = secret {
            oauth = oauth.set_client_secret(ClientSecret::new(secret.reveal().to_owned()));
        }
        Ok(Self { oauth, wire: Wire { http, timeout, metrics }, scope: scope.clone().map(Scope::new), grant })
    }

    /// Asks for a token. A rotated refresh token is kept, and written to the token store, before this returns.
    ///
    /// # Errors
    /// `unauthenticated` where the sign-in service refused for good, else what kept it from answering.
    pub async fn fetch(&self) -> Result<Fresh, CallFailure> {
        let wire = Watched { wire: self.wire.clone(), status: Arc::default() };
        let answer = match &self.grant {
            Grant::ClientCredentials => {
                let mut request = self.oauth.exchange_client_credentials();
                if let Some(scope) = &self.scope {
                    request = request.add_scope(scope.clone());
                }
                request.request_async(&wire).await
            }
            Grant::RefreshToken { newest, .. } => {
                let refresh_token = newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let mut request = self.oauth.exchange_refresh_token(&refresh_token);
                if let Some(scope) = &self.scope {
                    request = request.add_scope(scope.clone());
                }
                request.request_async(&wire).await
            }
        };
        let answer = answer.map_err(|error| self.refusal(error, wire.status.load(Ordering::Relaxed)))?;
        let rotated = answer.refresh_token().map(|rotated| Secret::new(rotated.secret().clone()));
        if let (Grant::RefreshToken { newest, store }, Some(rotated)) = (&self.grant, answer.refresh_token()) {
            *newest.lock().unwrap_or_else(PoisonError::into_inner) = rotated.clone();
            if let Some(store) = store {
                store.write(&Secret::new(rotated.secret().clone())).await;
            }
        }
        let lifetime = answer.expires_in().unwrap_or(UNTOLD_LIFETIME).min(LONGEST_LIFETIME);
        Ok(Fresh { access_token: Secret::new(answer.access_token().secret().clone()), lifetime, rotated })
    }

    fn refusal(&self, error: RequestTokenError<Stopped, BasicErrorResponse>, status: u16) -> CallFailure {
        let answer = match error {
            RequestTokenError::Request(Stopped(failure)) => return failure,
            RequestTokenError::ServerResponse(answer) => answer,
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) if status == 200 => {
                let message = "the sign-in service's answer is not a token; check `token_url`";
                let mut failure = bad_response(status, message);
                failure.may_have_happened = false;
                return failure;
            }
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                let provider = ProviderSays { http_status: Some(status), ..ProviderSays::default() };
                let message =
                    format!("the sign-in service refused with status {status} and no reason that can be read");
                return CallFailure::final_(Failure::by_provider(ErrorKind::Unauthenticated, message, provider));
            }
        };
        let code = answer.error().as_ref().to_owned();
        let description = plain(answer.error_description().map_or("", String::as_str));
        let number = aadsts(&description);
        let (kind, retry) = if is_any(number, &SLOW_DOWN) {
            (ErrorKind::RateLimited, Retry::Yes)
        } else if is_any(number, &PASSING) || code == "temporarily_unavailable" || code == "server_error" {
            (ErrorKind::Unavailable, Retry::Yes)
        } else {
            (ErrorKind::Unauthenticated, Retry::Never)
        };
        let hint = match (answer.error(), &self.grant) {
            (BasicErrorResponseType::InvalidGrant, Grant::RefreshToken { .. }) => {
                "; a person has to sign in again: set a new `refresh_token` and remove the file named by `token_store`"
            }
            _ => "",
        };
        let message = format!("the sign-in service refused ({code}){hint}: {description}");
        let code = number.map_or(code.clone(), |number| format!("{code} AADSTS{number}"));
        let provider = ProviderSays { http_status: Some(status), code: Some(code), request_id: None };
        let failure = Failure::by_provider(kind, message.trim_end_matches([':', ' ']), provider);
        CallFailure { failure, retry, retry_after: None, may_have_happened: false }
    }
}

/// The wire as the `oauth2` crate sees it; remembers the status, which the crate drops.
struct Watched {
    wire: Wire,
    status: Arc<AtomicU16>,
}

impl<'c> AsyncHttpClient<'c> for Watched {
    type Error = Stopped;
    type Future = BoxFuture<'static, Result<HttpResponse, Stopped>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        let (wire, status) = (self.wire.clone(), self.status.clone());
        Box::pin(async move { wire.send(request, &status).await })
    }
}

impl Wire {
    async fn send(&self, request: HttpRequest, status: &AtomicU16) -> Result<HttpResponse, Stopped> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string();
        let call = self.http.request(parts.method, url).headers(parts.headers).body(body);
        let started = Instant::now();
        let (code, answer) = exchange(call, self.timeout).await;
        self.metrics.call("token", &code, started.elapsed().as_secs_f64());
        let answer = answer.map_err(|mut failure| {
            failure.failure.message = format!("signing in: {}", failure.failure.message);
            // No link can have been made by it.
            failure.may_have_happened = false;
            Stopped(failure)
        })?;
        status.store(answer.status, Ordering::Relaxed);
        if let Some(failure) = passing(&answer) {
            return Err(Stopped(failure));
        }
        let mut response = HttpResponse::new(answer.body.to_vec());
        *response.headers_mut() = answer.headers;
        if let Ok(status) = oauth2::http::StatusCode::from_u16(answer.status) {
            *response.status_mut() = status;
        }
        Ok(response)
    }
}

/// A failure on its way through the `oauth2` crate.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.failure.message)]
struct Stopped(CallFailure);

/// The failure that an answer's status alone shows to be passing.
fn passing(answer: &Answer) -> Option<CallFailure> {
    let (kind, what) = match answer.status {
        429 => (ErrorKind::RateLimited, "asks for fewer calls"),
        408 | 504 => (ErrorKind::TimedOut, "did not answer in time"),
        500..=599 => (ErrorKind::Unavailable, "is not working"),
        _ => return None,
    };
    let provider = ProviderSays { http_status: Some(answer.status), ..ProviderSays::default() };
    let message = format!("the sign-in service {what} (status {})", answer.status);
    let failure = Failure::by_provider(kind, message, provider);
    Some(CallFailure { failure, retry: Retry::Yes, retry_after: answer.retry_after(), may_have_happened: false })
}

/// The number of a Microsoft message that begins with `AADSTS70011:`.
fn aadsts(description: &str) -> Option<u32> {
    let digits = description.strip_prefix("AADSTS")?;
    digits.split(|each: char| !each.is_ascii_digit()).next()?.parse().ok()
}

fn is_any(number: Option<u32>, numbers: &[u32]) -> bool {
    number.is_some_and(|number| numbers.contains(&number))
}
