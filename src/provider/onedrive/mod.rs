//! OneDrive and Microsoft Graph: `createLink` for one item, in both generations of the API.
//!
//! What a request says is read in [`request`], addresses are made in [`url`], answers are read in [`answer`]; this
//! file only makes the calls, in the right order.

pub mod answer;
mod batcher;
mod members;
pub mod parts;
pub mod request;
pub mod url;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;

use self::batcher::Batcher;
use self::request::{Ask, Item};
use self::url::{Addresses, Place};
use super::account::{Account, Answer, Call};
use super::http::bad_response;
use crate::config;
use crate::model::{Asked, Audience, ErrorKind, Failure, Granted, History, LinkOutcome, Made, ShareRequest};
use crate::pipeline::ports::{BoxFuture, CallError, CallFailure, Provider, Share};

/// Pages of permissions that are looked through at most.
const MOST_PAGES: usize = 10;

/// An account at OneDrive or Microsoft Graph.
pub struct OneDrive(Arc<Inner>);

struct Inner {
    api: config::OneDriveApi,
    addresses: Addresses,
    account: Arc<Account>,
    /// Where links that wait travel together.
    batcher: Option<Arc<Batcher>>,
}

impl OneDrive {
    /// A provider that calls through this account.
    ///
    /// # Errors
    /// Where the settings make no addresses: a sentence that names the setting.
    pub fn new(settings: &config::OneDrive, account: Arc<Account>) -> Result<Self, String> {
        let addresses = Addresses::new(settings)?;
        let batcher = match settings.batch {
            true => Batcher::new(account.clone(), &settings.base_url).map(Arc::new),
            false => None,
        };
        Ok(Self(Arc::new(Inner { api: settings.api, addresses, account, batcher })))
    }
}

impl Provider for OneDrive {
    fn prepare(&self, request: &ShareRequest) -> Result<Box<dyn Share>, Failure> {
        let ask = Ask::read(self.0.api, &request.item, &request.link)?;
        let place = OnceLock::new();
        if let Some(known) = self.0.addresses.place(&ask.item) {
            let _ = place.set(known);
        }
        Ok(Box::new(Prepared { provider: self.0.clone(), ask, deadline: request.deadline, place }))
    }
}

/// A request that was read and found possible.
struct Prepared {
    provider: Arc<Inner>,
    ask: Ask,
    deadline: Option<Timestamp>,
    /// Where the item is; for a sharing URL only after it was resolved once.
    place: OnceLock<Place>,
}

impl Share for Prepared {
    fn asked(&self) -> &Asked {
        &self.ask.asked
    }

    fn ensure_link(&self, history: History) -> BoxFuture<'_, Result<LinkOutcome, CallError>> {
        Box::pin(async move {
            let place = self.place().await?;
            // A repeat returns the link that is there, but for named people it would also send the mail again.
            if history == History::MayHaveHappened
                && self.ask.asked.audience == Some(Audience::Users)
                && self.ask.sends_mail()
                && let Some(outcome) = self.look(place).await?
            {
                return Ok(outcome);
            }
            self.create(place).await
        })
    }

    fn repeat_after(&self) -> Duration {
        self.provider.account.repeat_after()
    }

    fn revoke<'a>(&'a self, link: &'a Granted) -> BoxFuture<'a, Result<(), CallError>> {
        Box::pin(async move {
            let place = self.place().await?;
            let url = address(self.provider.addresses.permission(place, &link.id))?;
            let answer = self.provider.call("revoke_link", Method::DELETE, url, None, true, None).await?;
            match answer.status {
                200..=299 | 404 | 410 => Ok(()),
                _ => Err(self.provider.account.refusal(&answer).into()),
            }
        })
    }
}

impl Prepared {
    async fn create(&self, place: &Place) -> Result<LinkOutcome, CallError> {
        let url = address(self.provider.addresses.create_link(place))?;
        let body = self.ask.body().map_err(|error| {
            let message = format!("the call could not be written: {error}");
            CallFailure::final_(Failure::new(ErrorKind::Internal, message))
        })?;
        let answer = match &self.provider.batcher {
            Some(batcher) => batcher.create_link(url, body.into(), self.deadline).await?,
            None => {
                let follows = matches!(self.ask.item, Item::Shared(_));
                let call =
                    self.provider.call("create_link", Method::POST, url, Some(body.into()), follows, self.deadline);
                call.await?
            }
        };
        if !answer.is_success() {
            return Err(self.provider.account.refusal(&answer).into());
        }
        let outcome = match answer::read_plain(answer.status, &answer.body, &self.ask.asked) {
            Some(outcome) => outcome,
            None => answer::read(answer.status, &json(&answer)?, &self.ask.asked),
        };
        outcome.map_err(|lack| unusable(&answer, lack).into())
    }

    async fn place(&self) -> Result<&Place, CallError> {
        if let Some(place) = self.place.get() {
            return Ok(place);
        }
        let Item::Shared(token) = &self.ask.item else { return Err(no_address().into()) };
        let url = address(self.provider.addresses.shared_item(token))?;
        let answer = self.provider.look("resolve_share", url, self.deadline).await?;
        let item = json(&answer).map_err(without_effect)?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let drive_id = text(item.pointer("/parentReference/driveId"));
        let place = drive_id.zip(text(item.get("id")));
        let place = place.and_then(|(drive_id, id)| self.provider.addresses.place_by_ids(&drive_id, &id));
        let lack = "`parentReference.driveId` or `id` is missing";
        let place = place.ok_or_else(|| without_effect(unusable(&answer, lack)))?;
        Ok(self.place.get_or_init(|| place))
    }

    /// Looks for the link that an earlier attempt may have made.
    async fn look(&self, place: &Place) -> Result<Option<LinkOutcome>, CallError> {
        let mut next = Some(address(self.provider.addresses.permissions(place))?);
        for _ in 0..MOST_PAGES {
            let Some(url) = next else { return Ok(None) };
            let answer = self.provider.look("list_links", url, self.deadline).await?;
            let page = json(&answer).map_err(without_effect)?;
            let permissions = page.get("value").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let asked = &self.ask.asked;
            let is_ours = |each: &&Value| answer::is_link_for(each, asked, &self.ask.options.recipients);
            let found =
                permissions.iter().find(is_ours).and_then(|each| answer::outcome(Made::Reused, each, asked).ok());
            if found.is_some() {
                return Ok(found);
            }
            next = page.get("@odata.nextLink").and_then(Value::as_str).and_then(|link| link.parse().ok());
        }
        Ok(None)
    }
}

impl Inner {
    async fn call(
        &self,
        operation: &'static str,
        method: Method,
        url: ::url::Url,
        body: Option<Bytes>,
        follows: bool,
        deadline: Option<Timestamp>,
    ) -> Result<Answer, CallError> {
        self.account.call(Call { operation, method, url, body, follows, deadline }).await
    }

    /// A call that changes nothing; its answer is a success.
    async fn look(
        &self,
        operation: &'static str,
        url: ::url::Url,
        deadline: Option<Timestamp>,
    ) -> Result<Answer, CallError> {
        let answer =
            self.call(operation, Method::GET, url, None, false, deadline).await.map_err(|error| match error {
                CallError::Failed(failure) => without_effect(failure).into(),
                held => held,
            })?;
        if answer.is_success() { Ok(answer) } else { Err(without_effect(self.account.refusal(&answer)).into()) }
    }
}

fn json(answer: &Answer) -> Result<Value, CallFailure> {
    answer.json().ok_or_else(|| {
        let kind = answer.content_type().map_or_else(|| "nothing".to_owned(), |kind| super::said::plain(&kind));
        unusable(answer, &format!("it is {kind} and not JSON"))
    })
}

fn unusable(answer: &Answer, lack: &str) -> CallFailure {
    bad_response(answer.status, format!("the provider's answer cannot be used: {lack}"))
}

/// The same failure of a call that cannot have made a link.
fn without_effect(failure: CallFailure) -> CallFailure {
    CallFailure { may_have_happened: false, ..failure }
}

fn address(url: Option<::url::Url>) -> Result<::url::Url, CallFailure> {
    url.ok_or_else(no_address)
}

fn no_address() -> CallFailure {
    CallFailure::final_(Failure::new(ErrorKind::Internal, "no address could be made for the item"))
}
