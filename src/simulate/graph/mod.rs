//! Microsoft's dialect: Graph and the older OneDrive API, over one kind of ledger.

mod address;
mod ask;
mod drives;
mod render;

use axum::http::StatusCode;
use jiff::Timestamp;

pub use address::{Item, Operation, read};
pub use drives::Drives;
pub use render::{JSON, refuse};

use super::answer::{Answer, Refused};
use super::call::{Call, Mount};
use super::faults::{Alteration, Trouble};
use super::work::{Effect, Worked};

/// What a call is worked with, besides its operation.
pub struct Task<'a> {
    /// Graph or the older API.
    pub mount: Mount,
    /// The call.
    pub call: &'a Call,
    /// The calling application; links are matched by it.
    pub application: &'a str,
    /// What the item's words order.
    pub alteration: Alteration,
    /// Now.
    pub wall: Timestamp,
}

impl Drives {
    /// Does what was asked.
    ///
    /// # Errors
    /// What the API would refuse, in its words.
    pub fn work(&mut self, operation: &Operation, task: &Task<'_>, rng: &mut fastrand::Rng) -> Result<Worked, Refused> {
        let item = operation.item();
        let plain = task.call.plain_json;
        match operation {
            Operation::Create(_) => {
                let ask = ask::read(task.mount, task.call, task.wall)?;
                let (permission, effect) = self.create(item, ask, task, rng);
                let body = render::permission(task.mount, &permission, plain);
                let status = if effect == Effect::Created { StatusCode::CREATED } else { StatusCode::OK };
                let mut answer = render::json(status, &body);
                if effect == Effect::Created {
                    answer = answer.with("location", render::location(item, &permission));
                }
                Ok(Worked { answer, effect })
            }
            Operation::Item(_) => Ok(Worked::looked(render::json(StatusCode::OK, &render::item(item, plain)))),
            Operation::List(_) => {
                let links = self.live(item, task.wall);
                Ok(Worked::looked(render::json(StatusCode::OK, &render::permissions(task.mount, links, plain))))
            }
            Operation::Permission(_, id) => {
                let found = self.live(item, task.wall).find(|permission| permission.id == *id);
                let body =
                    found.map(|found| render::stored(task.mount, found, plain)).ok_or_else(no_such_permission)?;
                Ok(Worked::looked(render::json(StatusCode::OK, &body)))
            }
            Operation::Delete(_, id) => {
                self.delete(item, id, task.wall).ok_or_else(no_such_permission)?;
                Ok(Worked { answer: Answer::empty(StatusCode::NO_CONTENT), effect: Effect::Revoked })
            }
        }
    }
}

fn no_such_permission() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "itemNotFound", "The permission was not found")
}

/// A fault in this dialect's words; `None` for the ones that are no JSON error.
pub fn trouble(trouble: Trouble) -> Option<Refused> {
    let (status, code, message) = match trouble {
        // Fixture 31.
        Trouble::NotFound => (StatusCode::NOT_FOUND, "itemNotFound", "Item not found"),
        Trouble::Forbidden => (StatusCode::FORBIDDEN, "accessDenied", "Access denied"),
        Trouble::Locked => {
            (StatusCode::LOCKED, "resourceLocked", "The resource you are attempting to access is locked")
        }
        // Fixture 35.
        Trouble::Throttled(_) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "Please retry again later."),
        Trouble::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "serviceNotAvailable", "The service is temporarily unavailable.")
        }
        // Graph's own 504 has this code and no message.
        Trouble::GatewayTimeout => (StatusCode::GATEWAY_TIMEOUT, "UnknownError", ""),
        // Fixture 42.
        Trouble::Expired => {
            (StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
        }
        Trouble::Cut | Trouble::Html | Trouble::Huge | Trouble::Redirect | Trouble::Garbage => return None,
    };
    Some(Refused::new(status, code, message))
}
