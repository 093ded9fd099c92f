//! [`Pipeline::handle`]: one delivery's whole trip, and the rules of what is answered where.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::answer::Answer;
use super::attempt::{Ended, Means, attempt};
use super::clock::{Clock, Dice, between};
use super::confirm::{pause_before_requeue, until_confirmed};
use super::crash_point::{Point, reached};
use super::decode::{Decoded, Undecodable, decode};
use super::delays::Delays;
use super::policy;
use super::ports::{CallError, DeathNote, DeathReason, Handler, Outbox, Provider, PublishFailure, Retry, Share};
use super::retry::RetryPolicy;
use super::settle::{RequeueCause, Settlement};
use crate::config::Policy;
use crate::model::{
    Comparison, Difference, Envelope, ErrorKind, Failure, Granted, History, LinkOutcome, Made, ShareRequest, Travel,
};
use crate::telemetry::metrics::{Metrics, NO_PROVIDER};

/// How long a link that is wider than asked is tried to be taken back.
const REVOKE_WITHIN: Duration = Duration::from_secs(120);

/// What [`until_confirmed`] says of a copy for the dead-letter queue.
const COPY: &str = "a copy for the dead-letter queue";

/// One configured provider account, as the pipeline sees it.
pub struct Account {
    /// Its name in requests, replies and metrics.
    pub name: Arc<str>,
    /// The provider behind it.
    pub provider: Arc<dyn Provider>,
    /// What may be asked of it.
    pub policy: Policy,
}

/// The pipeline's limits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `[retry]`.
    pub retry: RetryPolicy,
    /// `retry.initial_interval`.
    pub initial_interval: Duration,
    /// `broker.max_request_bytes`.
    pub max_request_bytes: usize,
    /// `broker.max_deliveries`.
    pub max_deliveries: u32,
}

/// The pipeline: every account, the limits, a clock and dice.
pub struct Pipeline {
    accounts: BTreeMap<Arc<str>, Account>,
    limits: Limits,
    clock: Clock,
    dice: Dice,
    metrics: Arc<Metrics>,
}

impl Pipeline {
    /// Puts the pipeline together.
    pub fn new(accounts: Vec<Account>, limits: Limits, clock: Clock, dice: Dice, metrics: Arc<Metrics>) -> Self {
        let accounts = accounts.into_iter().map(|account| (account.name.clone(), account)).collect();
        Self { accounts, limits, clock, dice, metrics }
    }

    fn account(&self, asked: Option<&str>) -> Result<&Account, Failure> {
        let configured = || self.accounts.keys().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
        match asked {
            Some(name) => self.accounts.get(name).ok_or_else(|| {
                let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
                Failure::new(
                    ErrorKind::UnknownProvider,
                    format!("no provider \"{shown}\" is configured; there is {}", configured()),
                )
            }),
            None => {
                let mut all = self.accounts.values();
                match (all.next(), all.next()) {
                    (Some(only), None) => Ok(only),
                    _ => Err(Failure::invalid(format!(
                        "provider is missing; name one of those configured: {}",
                        configured()
                    ))),
                }
            }
        }
    }

    /// Stage 2: the provider's own reading of `item` and `link`, then the policy.
    fn check(&self, account: &Account, request: &ShareRequest, now: Timestamp) -> Result<Box<dyn Share>, Failure> {
        let share = account.provider.prepare(request)?;
        policy::allow(&account.policy, share.asked(), now)?;
        Ok(share)
    }

    /// Stage 3's last word: a link that is wider than asked is taken back and not handed out.
    async fn accept(
        &self,
        account: &Account,
        share: &dyn Share,
        history: History,
        outcome: LinkOutcome,
    ) -> Result<(Made, Granted, Vec<Difference>), Failure> {
        let LinkOutcome { link, made, comparison: Comparison { narrower, wider } } = outcome;
        if wider.is_empty() {
            return Ok((made, link, narrower));
        }
        let differences = wider
            .iter()
            .map(|difference| {
                let [asked, granted] = [&difference.asked, &difference.granted].map(shown);
                format!("{}: asked {asked}, granted {granted}", difference.member)
            })
            .collect::<Vec<_>>()
            .join("; ");
        let fate = match made {
            // Somebody else may rely on a link that was there before this request; ours is ours to take back. One that an
            // earlier attempt may have made counts as ours.
            Made::Reused if history == History::Fresh => "the link was there before this request and was left as it is",
            _ if self.take_back(account, share, &link).await => "the link was taken back",
            _ => "the link could not be taken back; remove it at the provider",
        };
        Err(Failure::new(
            ErrorKind::WiderThanAsked,
            format!("the provider gave more than was asked for ({differences}); {fate}"),
        ))
    }

    /// Takes a link back, patiently: a pause or a passing failure is no reason to leave it there. Says whether it is gone.
    async fn take_back(&self, account: &Account, share: &dyn Share, link: &Granted) -> bool {
        let began = tokio::time::Instant::now();
        let mut delays = Delays::resume(self.limits.initial_interval, self.limits.retry.max_interval, 0);
        loop {
            let error = match share.revoke(link).await {
                Ok(()) => {
                    self.metrics.revoked(&account.name);
                    return true;
                }
                Err(error) => error,
            };
            let wait = match &error {
                CallError::Held { wait, .. } => Some(*wait),
                CallError::Failed(failure) if failure.retry == Retry::Never => None,
                CallError::Failed(failure) => Some(failure.retry_after.unwrap_or_else(|| delays.next())),
            };
            match wait {
                Some(wait) if began.elapsed() + wait < REVOKE_WITHIN => tokio::time::sleep(wait).await,
                _ => {
                    warn!(provider = %account.name, ?error, "a link wider than asked could not be taken back");
                    return false;
                }
            }
        }
    }

    async fn trip<O: Outbox>(
        &self,
        envelope: &Envelope,
        outbox: &O,
        stopping: &CancellationToken,
    ) -> Settlement<O::Replied, O::Moved> {
        reached(Point::Received);
        let now = (self.clock)();
        let first_seen = envelope.travel.first_seen.unwrap_or(now);
        if envelope.travel.first_seen.is_none()
            && !envelope.travel.redelivered
            && let Some(published) = envelope.properties.timestamp
        {
            self.metrics.queue_wait.observe(between(published, now).as_secs_f64());
        }

        let decoded = decode(envelope, self.limits.max_request_bytes, || uuid::Uuid::new_v4().to_string());
        let Decoded { mut request, reply_to, correlation_id } = match decoded {
            Ok(decoded) => decoded,
            Err(undecodable) => return self.malformed(envelope, outbox, *undecodable, first_seen, stopping).await,
        };
        reached(Point::Decoded);
        let envelope = &*merged(envelope, reply_to, correlation_id);
        let account = self.account(request.provider.as_deref());
        let name = account.as_ref().ok().map(|account| account.name.clone());
        // One that is taken to stop workers is not even looked at.
        let crashing = envelope.travel.deliveries > self.limits.max_deliveries;
        let prepared =
            (!crashing).then(|| account.and_then(|account| Ok((account, self.check(account, &request, now)?))));
        let password = match request.link.remove("password") {
            Some(serde_json::Value::String(password)) => Some(password),
            _ => None,
        };
        let mut answer = Answer {
            id: request.id,
            provider: name,
            asked_provider: request.provider,
            item: Some(request.item),
            first_seen,
            attempts: envelope.travel.attempts,
            malformed: false,
        };
        let Some(prepared) = prepared else { return self.crashing(envelope, outbox, answer, stopping).await };
        let (account, share) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) if failure.kind == ErrorKind::InvalidRequest => {
                return self.bury_and_answer(envelope, outbox, answer, failure, stopping).await;
            }
            Err(failure) => return self.answer(envelope, outbox, answer, Err(failure), Vec::new(), stopping).await,
        };

        let means = Means {
            policy: self.limits.retry,
            initial_interval: self.limits.initial_interval,
            clock: &self.clock,
            dice: self.dice,
            metrics: &self.metrics,
            provider: &account.name,
            stopping,
        };
        let (ended, attempts) = attempt(share.as_ref(), &envelope.travel, request.deadline, means).await;
        answer.attempts = attempts.made();
        let told = |mut failure: Failure| {
            if let Some(password) = &password {
                failure.cover(password);
            }
            failure
        };
        match ended {
            Ended::Shared(outcome) => match self.accept(account, share.as_ref(), attempts.history(), outcome).await {
                Ok((made, link, warnings)) => {
                    self.answer(envelope, outbox, answer, Ok((made, link)), warnings, stopping).await
                }
                Err(failure) => self.answer(envelope, outbox, answer, Err(failure), Vec::new(), stopping).await,
            },
            Ended::Failed(failure) => {
                self.answer(envelope, outbox, answer, Err(told(*failure)), Vec::new(), stopping).await
            }
            Ended::Stopped => Settlement::Requeue(RequeueCause::Stopping),
            Ended::Leave(wait, cause) => {
                let travel = Travel {
                    attempts: attempts.made(),
                    first_seen: Some(first_seen),
                    first_attempt: attempts.first_attempt(),
                    not_before: attempts.not_before(),
                    unsure: attempts.history() == History::MayHaveHappened,
                    ..Travel::default()
                };
                debug!(provider = %account.name, ?wait, ?cause, "a request waits outside the process");
                match until_confirmed("a move to a delay queue", stopping, || outbox.delay(envelope, wait, travel))
                    .await
                {
                    Ok(proof) => {
                        reached(Point::Delayed);
                        Settlement::Delay { proof, cause }
                    }
                    Err(error) => {
                        warn!(%error, "a request could not be moved to a delay queue; it goes back to the request queue");
                        pause_before_requeue(stopping).await;
                        Settlement::Requeue(RequeueCause::Unconfirmed)
                    }
                }
            }
        }
    }

    async fn malformed<O: Outbox>(
        &self,
        envelope: &Envelope,
        outbox: &O,
        undecodable: Undecodable,
        first_seen: Timestamp,
        stopping: &CancellationToken,
    ) -> Settlement<O::Replied, O::Moved> {
        let envelope = &*merged(envelope, undecodable.reply_to, undecodable.correlation_id);
        let answer = Answer {
            id: undecodable.id,
            provider: self.account(undecodable.provider.as_deref()).map(|account| account.name.clone()).ok(),
            asked_provider: undecodable.provider,
            item: undecodable.item,
            first_seen,
            attempts: envelope.travel.attempts,
            malformed: true,
        };
        self.bury_and_answer(envelope, outbox, answer, undecodable.failure, stopping).await
    }

    /// A request that cannot be read: a copy for whoever looks into it, then the answer.
    async fn bury_and_answer<O: Outbox>(
        &self,
        envelope: &Envelope,
        outbox: &O,
        mut answer: Answer,
        failure: Failure,
        stopping: &CancellationToken,
    ) -> Settlement<O::Replied, O::Moved> {
        answer.malformed = true;
        let note = answer.note(DeathReason::Malformed, &failure);
        match until_confirmed(COPY, stopping, || outbox.bury(envelope, &note)).await {
            Ok(_) => reached(Point::Buried),
            Err(PublishFailure::Unroutable(error)) => {
                warn!(error, "the dead-letter queue is missing; the copy of a malformed request is lost");
            }
            Err(PublishFailure::Unconfirmed(error)) => {
                warn!(error, "the copy of a malformed request was not confirmed; the request goes back");
                return Settlement::Requeue(RequeueCause::Unconfirmed);
            }
        }
        self.answer(envelope, outbox, answer, Err(failure), Vec::new(), stopping).await
    }

    /// A request that was handed out again and again without an answer: it is taken for one that kills workers.
    async fn crashing<O: Outbox>(
        &self,
        envelope: &Envelope,
        outbox: &O,
        answer: Answer,
        stopping: &CancellationToken,
    ) -> Settlement<O::Replied, O::Moved> {
        let failure = Failure::new(
            ErrorKind::Internal,
            format!(
                "the request was handed out {} times without an answer and is taken for one that stops workers; it is in the dead-letter queue",
                envelope.travel.deliveries
            ),
        );
        let note = answer.note(DeathReason::Crashing, &failure);
        match until_confirmed(COPY, stopping, || outbox.bury(envelope, &note)).await {
            Ok(proof) => {
                reached(Point::Buried);
                // The copy is safe; the answer is best effort from here on.
                match self.answer::<O>(envelope, outbox, answer, Err(failure), Vec::new(), stopping).await {
                    Settlement::Requeue(_) => warn!("the reply of a request that stops workers was not confirmed"),
                    Settlement::Ack { .. } | Settlement::Delay { .. } | Settlement::DeadLetter { .. } => {}
                }
                Settlement::DeadLetter { proof, cause: DeathReason::Crashing }
            }
            Err(error) => {
                warn!(%error, "a request that stops workers could not be put into the dead-letter queue");
                pause_before_requeue(stopping).await;
                Settlement::Requeue(RequeueCause::Unconfirmed)
            }
        }
    }

    /// Stage 4: publish the reply until it is confirmed, then, and only then, acknowledge.
    async fn answer<O: Outbox>(
        &self,
        envelope: &Envelope,
        outbox: &O,
        mut answer: Answer,
        result: Result<(Made, Granted), Failure>,
        warnings: Vec<Difference>,
        stopping: &CancellationToken,
    ) -> Settlement<O::Replied, O::Moved> {
        let reply = answer.reply(result, warnings, (self.clock)());
        let label = answer.provider.as_deref().unwrap_or(NO_PROVIDER);
        let kind = reply.result.as_ref().err().map(|failure| failure.kind);
        match kind {
            Some(kind) => info!(provider = label, kind = kind.as_str(), attempts = reply.attempts, "no link"),
            None => debug!(provider = label, id = reply.id, status = reply.status().as_str(), "a link"),
        }
        let status = reply.status();
        match until_confirmed("a reply", stopping, || outbox.reply(envelope, &reply)).await {
            Ok(proof) => {
                reached(Point::Confirmed);
                self.metrics.replied(label, status, kind);
                self.metrics.recent().answered(label, &reply);
                Settlement::Ack { proof, answered: answer.answered(status) }
            }
            Err(PublishFailure::Unroutable(error)) => {
                self.metrics.recent().answered(label, &reply);
                let note = DeathNote {
                    reason: DeathReason::Unroutable,
                    error,
                    attempts: reply.attempts,
                    first_seen: answer.first_seen,
                    reply: Some(Box::new(reply)),
                };
                match until_confirmed(COPY, stopping, || outbox.bury(envelope, &note)).await {
                    Ok(proof) => {
                        reached(Point::Buried);
                        self.metrics.ended(label, status, kind);
                        Settlement::DeadLetter { proof, cause: DeathReason::Unroutable }
                    }
                    Err(error) => {
                        warn!(%error, "neither a reply queue nor the dead-letter queue takes a message");
                        pause_before_requeue(stopping).await;
                        Settlement::Requeue(RequeueCause::Unconfirmed)
                    }
                }
            }
            Err(PublishFailure::Unconfirmed(_)) => Settlement::Requeue(RequeueCause::Unconfirmed),
        }
    }
}

impl<O: Outbox> Handler<O> for Pipeline {
    async fn handle(
        &self,
        envelope: &Envelope,
        outbox: &O,
        stopping: &CancellationToken,
    ) -> Settlement<O::Replied, O::Moved> {
        let _held = self.metrics.hold((self.clock)());
        self.trip(envelope, outbox, stopping).await
    }
}

/// A value for a sentence: JSON, which has no control characters, cut where a provider sent a very long one.
fn shown(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The envelope with `replyTo` and `correlationId` of the body where the properties have none.
fn merged(envelope: &Envelope, reply_to: Option<String>, correlation_id: Option<String>) -> Cow<'_, Envelope> {
    if reply_to.is_none() && correlation_id.is_none() {
        return Cow::Borrowed(envelope);
    }
    let mut merged = envelope.clone();
    merged.properties.reply_to = merged.properties.reply_to.or(reply_to);
    merged.properties.correlation_id = merged.properties.correlation_id.or(correlation_id);
    Cow::Owned(merged)
}
