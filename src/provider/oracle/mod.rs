//! Oracle Content Management: ensures a public link of a folder or file by looking before it creates.
//!
//! Creating is not idempotent here and there is no conditional create, so an attempt is: wait for the item's turn, list
//! the item's links, hand out the one with the right name, else create one. A create whose outcome is not known is
//! followed by one more look, and what then has the name is ours. Two workers that list before either has created would
//! make two links; they carry the same name (see `name`), so each looks once more after its create, both choose the
//! same one, and the other is taken back before anybody was told of it. Two are left only where one worker creates and
//! looks within the same second in which the other creates, and the ids happen to sort the younger first; they grant
//! the same, and every later attempt chooses the same one of them.

pub mod answer;
pub mod classify;
pub mod compare;
mod name;
pub mod request;
mod reuse;
mod site;
mod turns;
pub mod url;
pub mod users;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::OnceCell;
use tracing::warn;

use self::answer::Link;
use self::classify::Hint;
use self::compare::judge;
use self::name::Stem;
use self::request::{Ask, ItemKind};
use self::reuse::{Recognise, find, may_reuse};
pub(super) use self::site::refusal;
use self::site::{Listing, Site, Trouble, no_address};
use crate::config;
use crate::model::{Asked, ErrorKind, Failure, Granted, History, LinkOutcome, Made, ShareRequest};
use crate::pipeline::ports::{BoxFuture, CallError, CallFailure, Provider, Share};
use crate::provider::account::Account;

/// An Oracle Content Management account.
pub struct Oracle {
    site: Arc<Site>,
}

/// One request to the account.
struct OracleShare {
    site: Arc<Site>,
    ask: Arc<Ask>,
    asked: Asked,
    deadline: Option<Timestamp>,
    /// Worked out once: a password makes it slow.
    recognise: OnceCell<Recognise>,
    /// The ids that were listed before the first create whose outcome is not known: a link that turns up later and is
    /// none of them was made by this request.
    before_create: Mutex<Option<Vec<String>>>,
}

impl Oracle {
    /// The account `provider`, whose kind has the settings `oracle`; calls go through `account`.
    pub fn new(provider: &config::Provider, oracle: &config::Oracle, account: Arc<Account>) -> Self {
        Self { site: Arc::new(Site::new(provider.name.clone(), oracle.clone(), account)) }
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
            deadline: request.deadline,
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

    fn repeat_after(&self) -> Duration {
        self.site.repeat_after()
    }

    fn revoke<'a>(&'a self, link: &'a Granted) -> BoxFuture<'a, Result<(), CallError>> {
        Box::pin(async move { self.site.revoke(&link.id).await.map_err(Trouble::without_effect) })
    }
}

impl OracleShare {
    async fn ensure(&self, history: History) -> Result<LinkOutcome, CallError> {
        let how = self.recognise.get_or_try_init(|| self.recognise()).await?;
        let _turn = self.site.turns.take(self.ask.item.clone()).await;
        // A create of this very request whose outcome nobody knows outweighs what the caller remembers.
        let history = if self.before_create().is_some() { History::MayHaveHappened } else { history };
        let before = self.site.list(&self.ask.item, self.deadline).await.map_err(Trouble::without_effect)?;
        let name = how.name(&before.links, before.now);
        if let Some(outcome) = self.reuse(how, history, &name, &before).await? {
            return Ok(outcome);
        }
        // Noted before the call, which may be dropped half way; forgotten once it is known that nothing was made.
        let is_first = self.note_create(&before.links);
        let forget = || {
            if is_first {
                *self.before_create() = None
            }
        };
        let refused = match self.site.create(&self.ask, &name, self.deadline).await {
            Ok(link) => {
                // The API is not known to hand out a link that exists, nor to promise that it does not.
                if before.links.iter().any(|listed| listed.id == link.id) {
                    return Ok(self.outcome(&link, Made::Reused)?);
                }
                return Ok(self.only_one(how, &name, link).await?);
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
        let after = match self.site.list(&self.ask.item, self.deadline).await {
            Ok(after) => after,
            // The look may fail for the same reason as the call; then the call's own failure is the better answer.
            Err(_) if unknown => return Err(refused.failure.into()),
            // The refusal would be the last word, where perhaps another worker has just made the very link: the next
            // attempt looks again.
            Err(trouble) => return Err(trouble.without_effect()),
        };
        // The name was not there before a create that may have been done: what has it now is what was made.
        let history = if unknown { History::MayHaveHappened } else { history };
        self.reuse(how, history, &name, &after).await?.ok_or_else(|| refused.failure.into())
    }

    /// Another worker may have made the same link at the same moment: both look again, both choose the same one, and whose
    /// link is not chosen takes it back before anybody has seen it.
    async fn only_one(&self, how: &Recognise, name: &str, link: Link) -> Result<LinkOutcome, CallFailure> {
        // Without a list nobody can choose, and the link is good as it is.
        let chosen = match self.site.list(&self.ask.item, self.deadline).await {
            Ok(after) => find(&self.ask, name, &after.links, after.now),
            Err(_) => None,
        };
        match chosen {
            Some(chosen) if chosen.link.id != link.id && may_reuse(how, &chosen).is_ok() => {
                if self.site.revoke(&link.id).await.is_ok() {
                    return self.outcome(&chosen.link, Made::Reused);
                }
                warn!(
                    provider = self.site.name,
                    "an item has two links of one name; the younger could not be taken back"
                );
            }
            _ => {}
        }
        self.outcome(&link, Made::Created)
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

    /// The link of that name, where there is one and it may be handed out. Where it may be what an earlier attempt made a
    /// short while ago, and the provider does not tell whether its password and people are those asked for, it is made
    /// so first. An older one is somebody else's, and is neither handed out nor changed.
    async fn reuse(
        &self,
        how: &Recognise,
        history: History,
        name: &str,
        listing: &Listing,
    ) -> Result<Option<LinkOutcome>, CallError> {
        let Some(found) = find(&self.ask, name, &listing.links, listing.now) else { return Ok(None) };
        if found.of > 1 {
            warn!(provider = self.site.name, links = found.of, "an item has several links of one name; one is reused");
        }
        let made_by_us = self.before_create().as_ref().is_some_and(|before| !before.contains(&found.link.id));
        if made_by_us {
            return Ok(Some(self.outcome(&found.link, Made::Created)?));
        }
        let link = match (may_reuse(how, &found), history) {
            (Ok(()), _) => found.link,
            (Err(_), History::MayHaveHappened) if found.link.is_recent(listing.now) => {
                self.site.edit(&self.ask, &found.link.id, self.deadline).await.map_err(Trouble::without_effect)?
            }
            (Err(conflict), _) => return Err(CallFailure::final_(conflict).into()),
        };
        Ok(Some(self.outcome(&link, Made::Reused)?))
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
            comparison: judge(&self.ask, link).told(&self.ask, link),
        })
    }
}
