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
mod site;
mod turns;
mod url;
mod users;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use tracing::warn;

use self::answer::Link;
use self::classify::Hint;
use self::compare::judge;
use self::name::Stem;
use self::request::{Ask, ItemKind};
use self::reuse::{Recognise, find, may_reuse};
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
        Box::pin(async move { self.site.revoke(&link.id).await.map_err(Trouble::without_effect) })
    }
}

impl OracleShare {
    async fn ensure(&self, history: History) -> Result<LinkOutcome, CallError> {
        let how = self.recognise.get_or_try_init(|| self.recognise()).await?;
        let _turn = self.site.turns.take(self.ask.item.clone()).await;
        // A create of this very request whose outcome nobody knows outweighs what the caller remembers.
        let history = if self.before_create().is_some() { History::MayHaveHappened } else { history };
        let before = self.site.list(&self.ask.item).await.map_err(Trouble::without_effect)?;
        let name = how.name(&before.links, before.now);
        if let Some(outcome) = self.reuse(how, history, &name, &before)? {
            return Ok(outcome);
        }
        // Noted before the call, which may be dropped half way; forgotten once it is known that nothing was made.
        let is_first = self.note_create(&before.links);
        let forget = || {
            if is_first {
                *self.before_create() = None
            }
        };
        let refused = match self.site.create(&self.ask, &name).await {
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
        let after = match self.site.list(&self.ask.item).await {
            Ok(after) => after,
            // The look may fail for the same reason as the call; then the call's own failure is the better answer.
            Err(_) if unknown => return Err(refused.failure.into()),
            // The refusal would be the last word, where perhaps another worker has just made the very link: the next
            // attempt looks again.
            Err(trouble) => return Err(trouble.without_effect()),
        };
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
