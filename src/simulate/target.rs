//! One operation of any API, as the common machinery sees it. Pure.

use axum::http::StatusCode;
use jiff::Timestamp;

use super::answer::{Answer, Refused};
use super::call::{Call, Mount};
use super::faults::{Alteration, Trouble};
use super::options::{Options, RetryAfter};
use super::work::Worked;
use super::{graph, oracle};

/// Every link of every API.
#[derive(Debug, Default)]
pub struct Ledgers {
    /// Microsoft Graph.
    pub graph: graph::Drives,
    /// The older OneDrive API.
    pub onedrive: graph::Drives,
    /// Oracle.
    pub oracle: oracle::Links,
}

/// An operation.
#[derive(Debug, Clone)]
pub enum Target {
    /// At Graph or the older API.
    Microsoft(graph::Operation),
    /// At Oracle.
    Oracle(oracle::Operation),
}

impl Target {
    /// Reads the path below an API's root.
    ///
    /// # Errors
    /// What the API says of a path that means nothing.
    pub fn read(mount: Mount, call: &Call, path: &[&str], ledgers: &Ledgers) -> Result<Self, Refused> {
        match mount {
            Mount::Graph => graph::read(mount, &call.method, path, &ledgers.graph).map(Self::Microsoft),
            Mount::OneDrive => graph::read(mount, &call.method, path, &ledgers.onedrive).map(Self::Microsoft),
            Mount::Oracle => oracle::read(&call.method, path, &ledgers.oracle).map(Self::Oracle),
        }
    }

    /// The item's name in statistics.
    pub fn label(&self) -> String {
        match self {
            Self::Microsoft(operation) => operation.item().label(),
            Self::Oracle(operation) => operation.resource().label(),
        }
    }

    /// The text in which fault words are looked for.
    pub fn name(&self) -> &str {
        match self {
            Self::Microsoft(operation) => &operation.item().id,
            Self::Oracle(operation) => &operation.resource().id,
        }
    }

    /// Whether it makes a link.
    pub fn creates(&self) -> bool {
        match self {
            Self::Microsoft(operation) => operation.creates(),
            Self::Oracle(operation) => operation.creates(),
        }
    }

    /// Resource units.
    pub fn cost(&self) -> u32 {
        match self {
            Self::Microsoft(operation) => operation.cost(),
            Self::Oracle(_) => 5,
        }
    }
}

/// What a call is worked with, besides its operation.
pub struct Circumstances<'a> {
    /// The API.
    pub mount: Mount,
    /// The call.
    pub call: &'a Call,
    /// The calling application.
    pub application: &'a str,
    /// What the item's words order.
    pub alteration: Alteration,
    /// Now.
    pub wall: Timestamp,
}

impl Ledgers {
    /// Does what was asked.
    ///
    /// # Errors
    /// What the API would refuse, in its words.
    pub fn work(
        &mut self,
        target: &Target,
        with: &Circumstances<'_>,
        rng: &mut fastrand::Rng,
    ) -> Result<Worked, Refused> {
        match target {
            Target::Microsoft(operation) => {
                let Circumstances { mount, call, application, alteration, wall } = *with;
                let drives = if mount == Mount::OneDrive { &mut self.onedrive } else { &mut self.graph };
                drives.work(operation, &graph::Task { mount, call, application, alteration, wall }, rng)
            }
            Target::Oracle(operation) => self.oracle.work(operation, with.call, with.alteration, with.wall, rng),
        }
    }
}

/// The ids under which a call can be asked about.
#[derive(Debug, Clone)]
pub struct Ids {
    /// `request-id`, or Oracle's `x-oracle-dms-ecid`.
    pub request: String,
    /// `client-request-id`: the caller's own, else the same.
    pub client: String,
}

impl Ids {
    /// Puts the ids into an answer's headers.
    pub fn sign(&self, mount: Mount, answer: Answer) -> Answer {
        if mount == Mount::Oracle {
            return answer.with("x-oracle-dms-ecid", &self.request);
        }
        answer
            .with("request-id", &self.request)
            .with("client-request-id", &self.client)
            .with("x-ms-ags-diagnostic", r#"{"ServerInfo":{"DataCenter":"Simulated","Slice":"E","Ring":"0"}}"#)
    }
}

/// A refusal in the API's envelope.
pub fn refuse(mount: Mount, refused: &Refused, target: Option<&Target>, ids: &Ids, wall: Timestamp) -> Answer {
    match (mount, target) {
        (Mount::Oracle, Some(Target::Oracle(operation))) => oracle::refuse(refused, Some(operation.resource())),
        (Mount::Oracle, _) => oracle::refuse(refused, None),
        _ => graph::refuse(refused, &ids.request, &ids.client, wall),
    }
}

/// The answer to a call in trouble; a cut connection's answer is never seen.
pub fn in_trouble(
    mount: Mount,
    trouble: Trouble,
    target: &Target,
    ids: &Ids,
    wall: Timestamp,
    options: &Options,
) -> Answer {
    let refused = match mount {
        Mount::Oracle => oracle::trouble(trouble, target.name()),
        _ => graph::trouble(trouble),
    };
    if let Some(refused) = refused {
        let answer = refuse(mount, &refused, Some(target), ids, wall);
        return retry_after(answer, trouble, options.retry_after);
    }
    let content_type = if mount == Mount::Oracle { oracle::JSON } else { graph::JSON };
    special(trouble, content_type)
}

/// The answers that are the same everywhere.
pub fn special(trouble: Trouble, content_type: &str) -> Answer {
    match trouble {
        Trouble::Html => Answer::html(StatusCode::OK, "Sign in to your account"),
        Trouble::Huge => Answer::huge(content_type),
        Trouble::Redirect => Answer::redirect(),
        Trouble::Garbage => Answer::garbage(content_type),
        Trouble::GatewayTimeout => Answer::html(StatusCode::GATEWAY_TIMEOUT, "504 Gateway Time-out"),
        _ => Answer::empty(StatusCode::OK),
    }
}

/// `Retry-After` where the trouble tells a wait.
pub fn retry_after(answer: Answer, trouble: Trouble, form: RetryAfter) -> Answer {
    let (Trouble::Throttled(wait) | Trouble::Unavailable(Some(wait))) = trouble else { return answer };
    match form.write(wait) {
        Some(written) => answer.with("retry-after", written),
        None => answer,
    }
}
