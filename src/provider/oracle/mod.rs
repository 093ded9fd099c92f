//! Oracle Content Management: ensures a public link of a folder or file by looking before it creates.
//!
//! Creating is not idempotent here and there is no conditional create, so an attempt is: wait for the item's turn, list
//! the item's links, hand out the one with the right name, else create one. A create whose outcome is not known is
//! followed by one more look, and what then has the name is ours. Two processes that list before either has created can
//! still make two links; they carry the same name (see `name`), grant the same, and every later attempt chooses the
//! same one of them, so no requester sees the difference. To look again after every create would cost a third call
//! each and could not undo it.

mod answer;
mod classify;
mod compare;
mod name;
mod request;
mod reuse;
mod turns;
mod url;
mod users;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use self::answer::Link;
use self::classify::{Heard, Hint, Refused};
use self::compare::judge;
use self::name::Stem;
use self::request::{Ask, Item, ItemKind};
use self::reuse::{Recognise, find, may_reuse};
use self::turns::Turns;
use crate::config;
use crate::model::{Asked, ErrorKind, Failure, Granted, History, LinkOutcome, Made, Object, ShareRequest};
use crate::pipeline::ports::{BoxFuture, CallError, CallFailure, Provider, Share};
use crate::provider::account::{Account, Answer, Call};
use crate::provider::http::wall_clock;

/// An Oracle Content Management account.
pub struct Oracle {
    site: Arc<Site>,
}

/// What all requests of the account share.
struct Site {
    name: String,
    settings: config::Oracle,
    account: Arc<Account>,
    turns: Turns<Item>,
}

/// One request to the account.
struct OracleShare {
    site: Arc<Site>,
    ask: Arc<Ask>,
    asked: Asked,
    /// Worked out once: a password makes it slow.
    recognise: OnceCell<Recognise>,
    /// The ids that were listed before the first create whose outcome is not known: a link that turns up later and is
    /// none of them was made by this request.
    before_create: Mutex<Option<Vec<String>>>,
}

/// The links of an item, and the provider's time when it listed them.
struct Listing {
    links: Vec<Link>,
    now: Timestamp,
}

/// Why a call brought nothing, with what it may mean.
enum Trouble {
    Held(CallError),
    Refused(Box<Refused>),
}

impl Oracle {
    /// The account `provider`, whose kind has the settings `oracle`; calls go through `account`.
    pub fn new(provider: &config::Provider, oracle: &config::Oracle, account: Arc<Account>) -> Self {
        let site = Site { name: provider.name.clone(), settings: oracle.clone(), account, turns: Turns::default() };
        Self { site: Arc::new(site) }
    }
}

impl Provider for Oracle {
    fn prepare(&self, request: &ShareRequest) -> Result<Box<dyn Share>, Failure> {
        let ask = Ask::read(&request.item, &request.link)?;
        let asked = ask.asked();
        let site = Arc::clone(&self.site);
        Ok(Box::new(OracleShare {
            site,
            ask: Arc::new(ask),
            asked,
            recognise: OnceCell::new(),
            before_create: Mutex::default(),
        }))
    }
}

impl Share for OracleShare {
    fn asked(&self) -> &Asked {
        &self.asked
    }

    fn ensure_link(&self, history: History) -> BoxFuture<'_, Result<LinkOutcome, CallError>> {
        Box::pin(self.ensure(history))
    }

    fn revoke<'a>(&'a self, link: &'a Granted) -> BoxFuture<'a, Result<(), CallError>> {
        Box::pin(async move {
            let url = url::link(&self.site.settings.base_url, &link.id).ok_or_else(no_address)?;
            match self.site.call("revoke_link", Method::DELETE, url, None).await {
                Ok(_) => Ok(()),
                Err(Trouble::Refused(refused)) if refused.hint == Hint::Gone => Ok(()),
                Err(trouble) => Err(trouble.without_effect()),
            }
        })
    }
}

impl OracleShare {
    async fn ensure(&self, history: History) -> Result<LinkOutcome, CallError> {
        let how = self.recognise.get_or_try_init(|| self.recognise()).await?;
        let _turn = self.site.turns.take(self.ask.item.clone()).await;
        let before = self.site.list(&self.ask.item).await.map_err(Trouble::without_effect)?;
        let name = how.name(&before.links, before.now);
        if let Some(outcome) = self.reuse(how, history, &name, &before)? {
            return Ok(outcome);
        }
        // Noted before the call, which may be dropped half way; forgotten once it is known that nothing was made.
        let is_first = self.note_create(&before.links);
        let forget = || if is_first { *self.before_create() = None };
        let refused = match self.create(&name).await {
            Ok(link) => {
                // The API is not known to hand out a link that exists, nor to promise that it does not.
                let known = before.links.iter().any(|listed| listed.id == link.id);
                return Ok(self.outcome(&link, if known { Made::Reused } else { Made::Created })?);
            }
            Err(Trouble::Held(held)) => {
                forget();
                return Err(held);
            }
            Err(Trouble::Refused(refused)) => refused,
        };
        let unknown = refused.failure.may_have_happened;
        if !unknown {
            forget();
            if !matches!(refused.hint, Hint::Exists | Hint::Malformed) {
                return Err(refused.failure.into());
            }
        }
        // The look may fail for the same reason as the call; then the call's own failure is the better answer.
        let Ok(after) = self.site.list(&self.ask.item).await else { return Err(refused.failure.into()) };
        // The name was not there before a create that may have been done: what has it now is what was made.
        let history = if unknown { History::MayHaveHappened } else { history };
        self.reuse(how, history, &name, &after)?.ok_or_else(|| refused.failure.into())
    }

    /// Remembers which links were there before the first create; whether this is the first.
    fn note_create(&self, links: &[Link]) -> bool {
        let mut noted = self.before_create();
        let is_first = noted.is_none();
        noted.get_or_insert_with(|| links.iter().map(|link| link.id.clone()).collect());
        is_first
    }

    fn before_create(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.before_create.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the link of this request is recognised; a name of ours may take some tens of milliseconds of computing.
    async fn recognise(&self) -> Result<Recognise, CallError> {
        if let Some(name) = &self.ask.name {
            return Ok(Recognise::Given(name.clone()));
        }
        let (ask, prefix) = (Arc::clone(&self.ask), self.site.settings.link_name_prefix.clone());
        match tokio::task::spawn_blocking(move || Stem::new(&prefix, &ask)).await {
            Ok(stem) => Ok(Recognise::Own(stem)),
            Err(_) => Err(CallFailure::final_(Failure::new(
                ErrorKind::Internal,
                "the link's name could not be worked out: the task was stopped",
            ))
            .into()),
        }
    }

    /// The link of that name, where there is one and it may be handed out.
    fn reuse(
        &self,
        how: &Recognise,
        history: History,
        name: &str,
        listing: &Listing,
    ) -> Result<Option<LinkOutcome>, CallFailure> {
        let Some(found) = find(&self.ask, name, &listing.links, listing.now) else { return Ok(None) };
        if found.of > 1 {
            warn!(provider = self.site.name, links = found.of, "an item has several links of one name; one is reused");
        }
        may_reuse(how, history, &found).map_err(CallFailure::final_)?;
        let made_by_us = self.before_create().as_ref().is_some_and(|before| !before.contains(&found.link.id));
        self.outcome(&found.link, if made_by_us { Made::Created } else { Made::Reused }).map(Some)
    }

    async fn create(&self, name: &str) -> Result<Link, Trouble> {
        let url = url::links(&self.site.settings.base_url, &self.ask.item).ok_or_else(no_address)?;
        let (object, answer) = self.site.call("create_link", Method::POST, url, Some(self.ask.body(name).into())).await?;
        Link::read(object).ok_or_else(|| unusable(&answer, "the provider says that it made a link and does not say which"))
    }

    fn outcome(&self, link: &Link, made: Made) -> Result<LinkOutcome, CallFailure> {
        let settings = &self.site.settings;
        let template = match self.ask.item.kind {
            ItemKind::Folder => &settings.folder_link,
            ItemKind::File => &settings.file_link,
        };
        let url = url::public(template, &settings.public_url, &link.id, &self.ask.item).ok_or_else(no_address)?;
        Ok(LinkOutcome {
            link: Granted { id: link.id.clone(), url, html: None, granted: link.granted() },
            made,
            comparison: judge(&self.ask, link).comparison,
        })
    }
}

impl Site {
    async fn list(&self, item: &Item) -> Result<Listing, Trouble> {
        let url = url::links(&self.settings.base_url, item).ok_or_else(no_address)?;
        let (object, answer) = self.call("list_links", Method::GET, url, None).await?;
        // Measured by the provider's own clock where it tells it: it decides when a link ends.
        let date = answer.header("date").and_then(|date| httpdate::parse_http_date(date).ok());
        let now = date.and_then(|date| Timestamp::try_from(date).ok()).unwrap_or_else(wall_clock);
        let links = answer::links(object)
            .ok_or_else(|| unusable(&answer, "the provider's list of the item's links cannot be read"))?;
        Ok(Listing { links, now })
    }

    async fn call(
        &self,
        operation: &'static str,
        method: Method,
        url: ::url::Url,
        body: Option<Bytes>,
    ) -> Result<(Object, Answer), Trouble> {
        let answer = self.account.call(Call { operation, method, url, body }).await?;
        match classify::read(heard(&answer, &answer.content_type())) {
            Ok(object) => Ok((object, answer)),
            Err(refused) => {
                if let (429 | 503, Some(wait)) = (answer.status, refused.failure.retry_after) {
                    self.account.pause(wait);
                }
                Err(refused.into())
            }
        }
    }
}

impl Trouble {
    /// The error of a call that changes nothing, or whose repetition does no harm.
    fn without_effect(self) -> CallError {
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

fn no_address() -> CallFailure {
    CallFailure::final_(Failure::new(
        ErrorKind::BadResponse,
        "no address can be built for the link: its id, or `base_url`, does not fit into one",
    ))
}
