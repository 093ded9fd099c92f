//! The four calls about an item's links: list, create, edit, revoke. Each one call of the account, read and classified.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;

use super::answer::{self, Link};
use super::classify::{self, Heard, Hint, Refused};
use super::request::{Ask, Item};
use super::turns::Turns;
use super::url;
use crate::config;
use crate::model::{ErrorKind, Failure, Object};
use crate::pipeline::ports::{CallError, CallFailure};
use crate::provider::account::{Account, Answer, Call};
use crate::provider::http::wall_clock;

/// What all requests of the account share.
pub(super) struct Site {
    pub(super) name: String,
    pub(super) settings: config::Oracle,
    account: Arc<Account>,
    /// One at a time for each item.
    pub(super) turns: Turns<Item>,
}

/// The links of an item, and the provider's time when it listed them.
pub(super) struct Listing {
    pub(super) links: Vec<Link>,
    pub(super) now: Timestamp,
}

/// Why a call brought nothing, with what it may mean.
pub(super) enum Trouble {
    Held(CallError),
    Refused(Box<Refused>),
}

impl Site {
    pub(super) fn new(name: String, settings: config::Oracle, account: Arc<Account>) -> Self {
        Self { name, settings, account, turns: Turns::default() }
    }

    /// The item's links.
    pub(super) async fn list(&self, item: &Item, deadline: Option<Timestamp>) -> Result<Listing, Trouble> {
        let url = url::links(&self.settings.base_url, item).ok_or_else(no_address)?;
        let (object, answer) = self.call("list_links", Method::GET, url, None, deadline).await?;
        // Measured by the provider's own clock where it tells it: it decides when a link ends.
        let date = answer.header("date").and_then(|date| httpdate::parse_http_date(date).ok());
        let now = date.and_then(|date| Timestamp::try_from(date).ok()).unwrap_or_else(wall_clock);
        let links = answer::links(object)
            .ok_or_else(|| unusable(&answer, "the provider's list of the item's links cannot be read"))?;
        Ok(Listing { links, now })
    }

    /// Makes a link of that name.
    pub(super) async fn create(&self, ask: &Ask, name: &str, deadline: Option<Timestamp>) -> Result<Link, Trouble> {
        let url = url::links(&self.settings.base_url, &ask.item).ok_or_else(no_address)?;
        let body = Some(ask.body(name).into());
        let (object, answer) = self.call("create_link", Method::POST, url, body, deadline).await?;
        Link::read(object)
            .ok_or_else(|| unusable(&answer, "the provider says that it made a link and does not say which"))
    }

    /// Makes a link what is asked for.
    pub(super) async fn edit(&self, ask: &Ask, link_id: &str, deadline: Option<Timestamp>) -> Result<Link, Trouble> {
        let url = url::link(&self.settings.base_url, link_id).ok_or_else(no_address)?;
        let body = Some(ask.edit_body().into());
        let (object, answer) = self.call("edit_link", Method::PUT, url, body, deadline).await?;
        Link::read(object)
            .ok_or_else(|| unusable(&answer, "the provider says that it changed a link and does not say which"))
    }

    /// Takes a link back; one that is gone already is no error.
    pub(super) async fn revoke(&self, link_id: &str) -> Result<(), Trouble> {
        let url = url::link(&self.settings.base_url, link_id).ok_or_else(no_address)?;
        match self.call("revoke_link", Method::DELETE, url, None, None).await {
            Err(Trouble::Refused(refused)) if refused.hint == Hint::Gone => Ok(()),
            answered => answered.map(|_| ()),
        }
    }

    /// See [`Share::repeat_after`](crate::pipeline::ports::Share::repeat_after).
    pub(super) fn repeat_after(&self) -> Duration {
        self.account.repeat_after()
    }

    async fn call(
        &self,
        operation: &'static str,
        method: Method,
        url: ::url::Url,
        body: Option<Bytes>,
        deadline: Option<Timestamp>,
    ) -> Result<(Object, Answer), Trouble> {
        // An attempt begins with a list; whatever else is called belongs to one that has begun.
        let follows = operation != "list_links";
        let answer = self.account.call(Call { operation, method, url, body, follows, deadline }).await?;
        match classify::read(heard(&answer, &answer.content_type())) {
            Ok(object) => Ok((object, answer)),
            Err(mut refused) => {
                refused.failure = self.account.tellable(refused.failure);
                Err(refused.into())
            }
        }
    }
}

impl Trouble {
    /// The error of a call that changes nothing, or whose repetition does no harm.
    pub(super) fn without_effect(self) -> CallError {
        match self {
            Self::Held(held) => held,
            Self::Refused(refused) => CallFailure { may_have_happened: false, ..refused.failure }.into(),
        }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Failed(failure) => failure.into(),
            held @ CallError::Held { .. } => Self::Held(held),
        }
    }
}

impl From<CallFailure> for Trouble {
    fn from(failure: CallFailure) -> Self {
        Refused { failure, hint: Hint::None }.into()
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

/// What an answer that is no success means.
pub(crate) fn refusal(answer: &Answer) -> CallFailure {
    let content_type = answer.content_type();
    match classify::read(heard(answer, &content_type)) {
        Err(refused) => refused.failure,
        Ok(_) => classify::bad(heard(answer, &content_type), "the provider's answer makes no sense").failure,
    }
}

fn heard<'a>(answer: &'a Answer, content_type: &'a Option<String>) -> Heard<'a> {
    Heard {
        status: answer.status,
        content_type: content_type.as_deref(),
        ecid: answer.header("x-oracle-dms-ecid"),
        retry_after: answer.retry_after(),
        body: &answer.body,
    }
}

/// A success whose object lacks what it was asked for.
fn unusable(answer: &Answer, message: &str) -> Trouble {
    classify::bad(heard(answer, &None), message).into()
}

/// Nothing can be called or handed out under such an id.
pub(super) fn no_address() -> CallFailure {
    CallFailure::final_(Failure::new(
        ErrorKind::BadResponse,
        "no address can be built for the link: its id, or `base_url`, does not fit into one",
    ))
}
