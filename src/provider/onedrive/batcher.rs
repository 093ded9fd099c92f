//! Calls that wait for their turn anyway travel together: whoever gets the turn takes along who waits.
//!
//! Each is answered by itself; one alone goes as an ordinary call. A caller that gives up before its call leaves is not
//! sent; one that gives up later is not missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;
use tokio::sync::oneshot;
use tracing::warn;
use url::Url;

use super::parts;
use crate::model::{ErrorKind, Failure};
use crate::pipeline::ports::{CallError, CallFailure, Retry};
use crate::provider::account::{Account, Answer, Call, Cargo, Carried};
use crate::provider::http::wall_clock;

/// A provider that refused the whole so often, and took none in between, is sent no several calls in one any more.
const REFUSED_FOR_GOOD: u32 = 3;

/// The calls of one account that wait. See the module.
pub(super) struct Batcher {
    account: Arc<Account>,
    /// The API's root, with its version.
    root: Url,
    /// Where several are sent.
    address: Url,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// A task is waiting at the gate for all of them.
    leading: bool,
    /// How many go alone, because an answer to several could not be read.
    alone: usize,
    /// How often in a row the provider refused the whole.
    refused: u32,
    /// The provider takes no several calls in one: none are sent any more.
    off: bool,
    next: u64,
}

struct Waiting {
    id: u64,
    deadline: Option<Timestamp>,
    url: Url,
    body: Bytes,
    answer: oneshot::Sender<Result<Answer, CallError>>,
}

impl Batcher {
    /// A batcher below the API's root; `None` where the root makes no address.
    pub(super) fn new(account: Arc<Account>, root: &Url) -> Option<Self> {
        let address = format!("{}/$batch", root.as_str().trim_end_matches('/')).parse().ok()?;
        Some(Self { account, root: root.clone(), address, state: Mutex::default() })
    }

    /// Makes a link, together with others that wait.
    pub(super) async fn create_link(
        self: &Arc<Self>,
        url: Url,
        body: Bytes,
        deadline: Option<Timestamp>,
    ) -> Result<Answer, CallError> {
        let standing = self.account.stand(deadline)?;
        let (answer, mut answered) = oneshot::channel();
        let id = {
            let mut state = self.state();
            state.next += 1;
            let id = state.next;
            state.waiting.push_back(Waiting { id, deadline, url, body, answer });
            if !state.leading {
                state.leading = true;
                tokio::spawn(self.clone().lead());
            }
            id
        };
        let held = tokio::select! {
            biased;
            answer = &mut answered => return answer.unwrap_or_else(|_| Err(unanswered().into())),
            held = standing.until_too_long() => held,
        };
        let was_waiting = {
            let mut state = self.state();
            let before = state.waiting.len();
            state.waiting.retain(|each| each.id != id);
            state.waiting.len() < before
        };
        if was_waiting {
            return Err(held);
        }
        // It is on its way, and may bring its link.
        answered.await.unwrap_or_else(|_| Err(unanswered().into()))
    }

    /// Waits for a turn, then sends whoever waits by then.
    async fn lead(self: Arc<Self>) {
        let mut taken = Vec::new();
        match self.account.carry(|| self.load(&mut taken)).await {
            Ok(Carried::Parts(answers)) => {
                if answers.len() > 1 {
                    self.state().refused = 0;
                }
                for (each, answer) in taken.into_iter().zip(answers) {
                    // A caller that has given up is no error.
                    let _ = each.answer.send(answer.ok_or_else(|| unanswered().into()));
                }
            }
            Ok(Carried::NotAsOne) => self.send_each_alone(taken, true),
            Ok(Carried::NotThese) => self.send_each_alone(taken, false),
            Ok(Carried::Unreadable) => {
                self.state().alone += taken.len();
                for each in taken {
                    let _ = each.answer.send(Err(unreadable().into()));
                }
            }
            // Nothing was taken along: it holds for everybody who waits.
            Err(error) if taken.is_empty() => {
                let waiting = {
                    let mut state = self.state();
                    state.leading = false;
                    std::mem::take(&mut state.waiting)
                };
                for each in waiting {
                    let _ = each.answer.send(Err(error.clone()));
                }
            }
            Err(error) => {
                for each in taken {
                    let _ = each.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Sends each by itself, and every later one too where the provider takes none together, or refused it again and again.
    fn send_each_alone(self: &Arc<Self>, taken: Vec<Waiting>, never: bool) {
        let mut state = self.state();
        state.refused += 1;
        if (never || state.refused >= REFUSED_FOR_GOOD) && !state.off {
            state.off = true;
            warn!("the provider does not take several calls in one; from now on each is made by itself");
        }
        drop(state);
        for each in taken {
            tokio::spawn(self.clone().send_alone(each));
        }
    }

    async fn send_alone(self: Arc<Self>, each: Waiting) {
        let call = Call { follows: true, ..alone(&each) };
        let _ = each.answer.send(self.account.call(call).await);
    }

    /// Takes along who waits; another task leads those that are left.
    fn load(self: &Arc<Self>, taken: &mut Vec<Waiting>) -> Option<Cargo> {
        let now = wall_clock();
        let mut state = self.state();
        state.waiting.retain(|each| !each.answer.is_closed());
        // Who is past its deadline is told so by its own wait.
        let late = |each: &Waiting| each.deadline.is_some_and(|deadline| deadline <= now);
        let most = if state.off || state.alone > 0 { 1 } else { parts::MOST };
        let mut left = VecDeque::new();
        while let Some(each) = state.waiting.pop_front() {
            if late(&each) || taken.len() >= most { left.push_back(each) } else { taken.push(each) }
        }
        state.waiting = left;
        state.alone = state.alone.saturating_sub(usize::from(taken.len() == 1));
        state.leading = state.waiting.iter().any(|each| !late(each));
        if state.leading {
            tokio::spawn(self.clone().lead());
        }
        drop(state);
        let count = taken.len();
        let call = match taken.as_slice() {
            [] => return None,
            [one] => alone(one),
            several => {
                let posts = several.iter().map(|each| (below(&self.root, &each.url), each.body.as_ref()));
                Call {
                    operation: "batch",
                    method: Method::POST,
                    url: self.address.clone(),
                    body: parts::body(posts),
                    follows: false,
                    deadline: None,
                }
            }
        };
        Some(Cargo { call, operation: "create_link", count, unpack: parts::answers })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The call as it is made by itself.
fn alone(each: &Waiting) -> Call {
    Call {
        operation: "create_link",
        method: Method::POST,
        url: each.url.clone(),
        body: Some(each.body.clone()),
        follows: false,
        deadline: each.deadline,
    }
}

/// The address as a part names it: below the API's root, with its leading slash.
fn below<'a>(root: &Url, url: &'a Url) -> &'a str {
    let full = &url[url::Position::BeforePath..];
    full.strip_prefix(root.path().trim_end_matches('/')).unwrap_or(full)
}

fn unanswered() -> CallFailure {
    in_doubt("the provider's answer to several calls holds none to this one")
}

fn unreadable() -> CallFailure {
    in_doubt("the provider's answer to several calls cannot be read; the next attempt is made by itself")
}

fn in_doubt(message: &str) -> CallFailure {
    let failure = Failure::new(ErrorKind::Unavailable, message);
    CallFailure { failure, retry: Retry::Yes, retry_after: None, may_have_happened: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_names_its_address_below_the_root_with_what_is_encoded_in_it() {
        let root: Url = "https://graph.microsoft.com/v1.0".parse().unwrap();
        let url: Url = "https://graph.microsoft.com/v1.0/me/drive/root:/a%20b.docx:/createLink?x=1".parse().unwrap();
        assert_eq!(below(&root, &url), "/me/drive/root:/a%20b.docx:/createLink?x=1");
    }
}
