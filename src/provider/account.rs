//! A provider account: the only way to call a provider. Turn, authorization, one call, and its metrics.
//!
//! The account's credentials go to the account's own host and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::Instant;
use url::{Origin, Url};

pub use super::gate::Waiting;
use super::gate::{Gate, Place, Turn};
pub use super::http::Answer;
use super::http::{exchange, wall_clock};
pub use super::line::Standing;
use super::throttle::{Gauge, Limits, Outcome};
use super::token::{Authorization, Tokens};
use super::veil::Veil;
use crate::config::{Provider, ProviderKind};
use crate::model::{ErrorKind, Failure};
use crate::pipeline::clock::between;
use crate::pipeline::ports::{CallError, CallFailure, Retry};
use crate::telemetry::metrics::ProviderMetrics;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Resource units of a call that makes, lists, changes or takes back a link, where SharePoint's units are counted:
/// "any permission operation costs 5".
const LINK_UNITS: f64 = 5.0;
/// And of one that looks at an item.
const ITEM_UNITS: f64 = 1.0;

/// What an answer that is no success means, in the dialect of the account's provider.
pub type Judge = fn(&Answer) -> CallFailure;

/// One configured provider account. Share it behind an `Arc`: its limits and its token are one for all calls.
pub struct Account {
    client: reqwest::Client,
    timeout: Duration,
    origin: Origin,
    tokens: Arc<Tokens>,
    gate: Gate,
    judge: Judge,
    /// Calls are counted in resource units, not one by one.
    weighs: bool,
    /// What its `RateLimit` headers mean is documented.
    is_microsoft: bool,
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
    /// An earlier call of the same attempt was made: this one goes before those who wait for their first.
    pub follows: bool,
    /// The request's: past it the call is not made.
    pub deadline: Option<Timestamp>,
}

/// Several calls in one, put together when its turn has come.
pub struct Cargo {
    /// The one call.
    pub call: Call,
    /// Under which name its parts are counted.
    pub operation: &'static str,
    /// How many parts it has; one alone is the call itself.
    pub count: usize,
    /// Takes the parts' answers out of the one answer, in their order; `None` where it cannot be read.
    pub unpack: fn(&Answer, usize) -> Option<Vec<Option<Answer>>>,
}

/// What became of a call that carried several.
pub enum Carried {
    /// The parts' answers, in their order; `None` where nothing is known of one.
    Parts(Vec<Option<Answer>>),
    /// The provider does not take several as one; nothing was carried out.
    NotAsOne,
    /// It does not take just these; nothing was carried out.
    NotThese,
    /// Something came back that cannot be read; the parts may have been carried out.
    Unreadable,
}

impl Account {
    /// Sets an account up; no call is made. `remembered` is the rate, in units a second, that an earlier worker learned.
    ///
    /// # Errors
    /// Where the credentials cannot be used as they are: a sentence that names the setting.
    pub fn new(
        settings: &Provider,
        client: reqwest::Client,
        metrics: ProviderMetrics,
        waiting: Waiting,
        remembered: Option<f64>,
    ) -> Result<Self, String> {
        let (origin, judge): (Origin, Judge) = match &settings.kind {
            ProviderKind::OneDrive(onedrive) => (onedrive.base_url.origin(), super::classify::judge),
            ProviderKind::Oracle(oracle) => (oracle.base_url.origin(), super::oracle::refusal),
        };
        let veil = Arc::new(Veil::of(&settings.auth));
        let tokens = Tokens::new(&settings.auth, client.clone(), settings.timeout, metrics.clone(), veil.clone())
            .map_err(|problem| format!("providers.{}.auth: {problem}", settings.name))?;
        let limits = &settings.limits;
        // Whoever is told a number of calls counts calls; otherwise what SharePoint counts is as good as anything.
        let is_microsoft = matches!(settings.kind, ProviderKind::OneDrive(_));
        let weighs = limits.requests_per_minute == 0 && is_microsoft;
        let unit = if weighs { LINK_UNITS } else { 1.0 };
        let by_calls = (limits.requests_per_minute > 0).then(|| f64::from(limits.requests_per_minute) / 60.0);
        let by_units =
            (limits.units_per_minute > 0).then(|| f64::from(limits.units_per_minute) / 60.0 / LINK_UNITS * unit);
        let rate = by_calls.into_iter().chain(by_units).reduce(f64::min);
        let limits = Limits { max_in_flight: limits.max_in_flight, rate, unit };
        let gate = Gate::new(limits, remembered, waiting, metrics.clone());
        Ok(Self {
            client,
            timeout: settings.timeout,
            origin,
            tokens: Arc::new(tokens),
            gate,
            judge,
            weighs,
            is_microsoft,
            metrics,
            veil,
        })
    }

    /// Waits for its turn, then makes the call; after a 401 once more with a fresh token, where there can be one.
    /// Any HTTP status but a redirect is an answer.
    ///
    /// # Errors
    /// [`CallError::Held`] where no call was made because its turn comes too late. [`CallError::Failed`] where no
    /// usable answer came: no connection, no answer in time, a broken connection, an answer that is too large, a
    /// redirect; where no access token could be had; or where none was made because the last ones failed.
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

    /// What an answer that is no success means, as it may be told.
    pub fn refusal(&self, answer: &Answer) -> CallFailure {
        self.tellable((self.judge)(answer))
    }

    /// Takes a place in line for a call that travels with others.
    ///
    /// # Errors
    /// As [`Account::call`], where there is no room.
    pub fn stand(&self, deadline: Option<Timestamp>) -> Result<Standing, CallError> {
        self.gate.stand(from_now(deadline))
    }

    /// How long a request that was tried before has to wait, so that repeated calls stay few. Where that is nothing, the
    /// repetition is counted.
    pub fn repeat_after(&self) -> Duration {
        self.gate.repeat_after()
    }

    /// The learned rate in units a second, where there is one.
    pub fn learned(&self) -> Option<f64> {
        self.gate.learned()
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

    /// Waits for a turn, then loads and makes one call that carries several, each paid for and answered by itself. A part is
    /// `None` where nothing is known of it; there is none at all where there was nothing to carry.
    ///
    /// # Errors
    /// As [`Account::call`], for all parts alike.
    pub async fn carry(&self, load: impl FnOnce() -> Option<Cargo>) -> Result<Carried, CallError> {
        let (mut turn, mut authorization) = self.turn(self.units("create_link"), Place::Leads, None).await?;
        let Some(Cargo { call, operation, count, unpack }) = load() else { return Ok(Carried::Parts(Vec::new())) };
        let units = self.units(operation);
        let others = units * (count.saturating_sub(1)) as f64;
        turn.charge(others);
        // Slower than a single one: its slowest part holds up the whole answer.
        let timeout = if count > 1 { self.timeout * 2 } else { self.timeout };
        let mut answer = self.send(&call, &authorization, timeout).await;
        if answer.as_ref().is_ok_and(|answer| answer.status == 401) && self.tokens.refused(&authorization) {
            self.learn(turn, &answer);
            (turn, authorization) = self.turn(units, Place::Leads, None).await?;
            turn.charge(others);
            answer = self.send(&call, &authorization, timeout).await;
        }
        let whole = match answer {
            Ok(whole) if count > 1 && whole.is_success() => whole,
            one => {
                self.learn(turn, &one);
                return match one {
                    // What it has against the whole it need not have against each part; nothing was carried out.
                    Ok(answer) if count > 1 && matches!(answer.status, 404 | 405 | 501) => Ok(Carried::NotAsOne),
                    Ok(answer) if count > 1 && matches!(answer.status, 400 | 413) => Ok(Carried::NotThese),
                    // Too large, or a redirect: one part may be to blame for all.
                    Err(failure) if count > 1 && failure.failure.provider.http_status.is_some() => {
                        Ok(Carried::Unreadable)
                    }
                    // Any other refusal of the whole is one of each part.
                    Ok(answer) => Ok(Carried::Parts((0..count).map(|_| Some(answer.clone())).collect())),
                    Err(failure) => Err(failure.into()),
                };
            }
        };
        let Some(mut parts) = unpack(&whole, count) else {
            turn.ended(Outcome::Taken, None);
            return Ok(Carried::Unreadable);
        };
        // A part that the provider does not know us for is tried again with a fresh token, where there can be one.
        let unknown = |part: &Option<Answer>| part.as_ref().is_some_and(|part| part.status == 401);
        if parts.iter().any(unknown) && self.tokens.refused(&authorization) {
            parts.iter_mut().filter(|part| unknown(part)).for_each(|part| *part = None);
        }
        for part in parts.iter().flatten() {
            self.metrics.part(operation, part.status);
        }
        self.learn_parts(turn, units, &parts);
        Ok(Carried::Parts(parts))
    }

    async fn attempt(&self, call: &Call) -> Result<(Authorization, Answer), CallError> {
        let place = if call.follows { Place::Follows } else { Place::Line };
        let (turn, authorization) = self.turn(self.units(call.operation), place, from_now(call.deadline)).await?;
        let answer = self.send(call, &authorization, self.timeout).await;
        self.learn(turn, &answer);
        Ok((authorization, answer?))
    }

    /// A turn, and what to show for the call that may now be made.
    async fn turn(
        &self,
        units: f64,
        place: Place,
        deadline: Option<Instant>,
    ) -> Result<(Turn, Authorization), CallError> {
        let turn = self.gate.turn(units, place, deadline).await?;
        if let Some(ready) = self.tokens.ready() {
            return Ok((turn, ready));
        }
        // Fetching takes its time: the turn, which keeps others from waiting here too, is over by then, and a pause may
        // have begun.
        let fetched = self.tokens.authorization().await?;
        drop(turn);
        let place = if place == Place::Line { Place::Follows } else { place };
        let turn = self.gate.turn(units, place, deadline).await?;
        Ok((turn, self.tokens.ready().unwrap_or(fetched)))
    }

    /// Makes the call itself.
    async fn send(&self, call: &Call, shown: &Authorization, timeout: Duration) -> Result<Answer, CallFailure> {
        let mut request = self
            .client
            .request(call.method.clone(), call.url.clone())
            .header(ACCEPT, JSON)
            .header(AUTHORIZATION, shown.header());
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, JSON).body(body.clone());
        }
        let started = Instant::now();
        let (code, answer) = exchange(request, timeout).await;
        self.metrics.call(call.operation, &code, started.elapsed().as_secs_f64());
        answer
    }

    fn units(&self, operation: &str) -> f64 {
        match operation {
            _ if !self.weighs => 1.0,
            "resolve_share" => ITEM_UNITS,
            _ => LINK_UNITS,
        }
    }

    /// Tells the gate how the call ended.
    fn learn(&self, turn: Turn, answer: &Result<Answer, CallFailure>) {
        match answer {
            Ok(answer) => {
                if let (true, Some(gauge)) = (self.is_microsoft, gauge(answer)) {
                    self.gate.told(if self.weighs { gauge } else { gauge.in_calls(LINK_UNITS) });
                }
                if answer.is_success() {
                    return turn.ended(Outcome::Taken, None);
                }
                let failure = (self.judge)(answer);
                turn.ended(outcome(answer.status, &failure), Some(&failure.failure));
            }
            // No HTTP status: the call never became an answer. One that never left says nothing of the provider.
            Err(failure) if failure.retry == Retry::Never && failure.failure.provider.http_status.is_none() => {
                drop(turn)
            }
            Err(failure) if failure.retry == Retry::Never => turn.ended(Outcome::Taken, None),
            Err(failure) => turn.ended(Outcome::Failed(None), Some(&failure.failure)),
        }
    }
}

impl Account {
    /// Tells the gate how the parts of a call ended: what was taken counts, and one refusal is a refusal.
    fn learn_parts(&self, turn: Turn, units: f64, parts: &[Option<Answer>]) {
        let (mut taken, mut refused, mut failed) = (0.0, None, None);
        for part in parts.iter().flatten() {
            if part.is_success() {
                taken += units;
                continue;
            }
            let failure = (self.judge)(part);
            match outcome(part.status, &failure) {
                Outcome::Refused(wait) => refused = Some(refused.flatten().max(wait)),
                Outcome::Failed(wait) => {
                    let longest = failed.take().and_then(|(longest, _)| longest).max(wait);
                    failed = Some((longest, failure.failure));
                }
                Outcome::Taken | Outcome::Unknown => taken += units,
            }
        }
        match (refused, failed) {
            (Some(wait), failed) => {
                let wait = wait.max(failed.and_then(|(wait, _)| wait));
                turn.ended_in_parts(taken, Outcome::Refused(wait), None);
            }
            // One part of many says nothing of the provider, unless it names a wait.
            (None, Some((wait, failure))) if taken == 0.0 || wait.is_some() => {
                turn.ended_in_parts(taken, Outcome::Failed(wait), Some(&failure));
            }
            _ => turn.ended_in_parts(taken, Outcome::Taken, None),
        }
    }
}

/// A time of day on the clock of waits; now where it has passed.
fn from_now(deadline: Option<Timestamp>) -> Option<Instant> {
    deadline.map(|deadline| Instant::now() + between(wall_clock(), deadline))
}

/// What an answer that is no success means for the account's other calls.
fn outcome(status: u16, failure: &CallFailure) -> Outcome {
    match (failure.failure.kind, status) {
        (ErrorKind::RateLimited, _) => Outcome::Refused(failure.retry_after),
        // 501 and 507 are about this call or this drive; any other says that the provider is not well.
        (_, 408 | 500 | 502..=506 | 508..=599) => Outcome::Failed(failure.retry_after),
        _ => Outcome::Taken,
    }
}

/// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, where all three are there and numbers.
fn gauge(answer: &Answer) -> Option<Gauge> {
    let number = |name| answer.header(name)?.trim().parse::<u32>().ok();
    let limit = number("ratelimit-limit")?;
    let (remaining, reset) = (number("ratelimit-remaining")?, number("ratelimit-reset")?);
    Some(Gauge {
        limit: f64::from(limit),
        remaining: f64::from(remaining),
        reset: Duration::from_secs(u64::from(reset)),
    })
}
