//! Oracle's dialect: public links of folders and files.

mod links;
mod render;

use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

pub use links::{Links, Resource};
pub use render::{JSON, refuse};

use super::answer::Refused;
use super::call::Call;
use super::faults::{Alteration, Trouble};
use super::work::{Effect, Worked};
use links::Ask;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Create a link.
    Create(Resource),
    /// List the links.
    List(Resource),
    /// Get one link.
    Get(Resource, String),
    /// Edit one link.
    Edit(Resource, String),
    /// Delete one link.
    Delete(Resource, String),
}

impl Operation {
    /// The folder or file it is about.
    pub fn resource(&self) -> &Resource {
        match self {
            Self::Create(resource)
            | Self::List(resource)
            | Self::Get(resource, _)
            | Self::Edit(resource, _)
            | Self::Delete(resource, _) => resource,
        }
    }

    /// Whether it makes a link.
    pub fn creates(&self) -> bool {
        matches!(self, Self::Create(_))
    }
}

/// Reads a path below the API's root.
///
/// # Errors
/// 404 for a link that does not exist or a path that means nothing, 405 for a wrong method.
pub fn read(method: &Method, path: &[&str], links: &Links) -> Result<Operation, Refused> {
    match path {
        ["publiclinks", kind @ ("folder" | "file"), id] if !id.is_empty() => {
            let resource = Resource { folder: *kind == "folder", id: (*id).to_owned() };
            match *method {
                Method::POST => Ok(Operation::Create(resource)),
                Method::GET => Ok(Operation::List(resource)),
                _ => Err(method_not_allowed()),
            }
        }
        ["publiclinks", id] => {
            let resource = links.resource_of(id).cloned().ok_or_else(|| not_found(id))?;
            let id = (*id).to_owned();
            match *method {
                Method::GET => Ok(Operation::Get(resource, id)),
                Method::PUT => Ok(Operation::Edit(resource, id)),
                Method::DELETE => Ok(Operation::Delete(resource, id)),
                _ => Err(method_not_allowed()),
            }
        }
        _ => Err(Refused::new(StatusCode::NOT_FOUND, "-1", "There is no such resource.")),
    }
}

impl Links {
    /// Does what was asked.
    ///
    /// # Errors
    /// What the API would refuse, in its words.
    pub fn work(
        &mut self,
        operation: &Operation,
        call: &Call,
        alteration: Alteration,
        wall: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Result<Worked, Refused> {
        let body = || {
            if !call.is_json {
                let message = "The media type of the request is not application/json.";
                return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "-1", message));
            }
            match serde_json::from_slice(&call.body) {
                Ok(Value::Object(body)) => Ok(body),
                _ => Err(bad("The request body is not a JSON object.")),
            }
        };
        let (body, effect) = match operation {
            Operation::Create(resource) => {
                let ask = Ask::read(&body()?, wall)?;
                let link = self.create(resource, ask, alteration, wall, rng)?;
                (render::created(&link, resource), Effect::Created)
            }
            Operation::List(resource) => (render::listing(resource, self.of(resource)), Effect::Looked),
            Operation::Get(_, id) => (render::single(self.get(id).ok_or_else(|| not_found(id))?), Effect::Looked),
            Operation::Edit(_, id) => {
                let link = self.edit(id, &body()?, wall)?.ok_or_else(|| not_found(id))?;
                (render::single(link), Effect::Looked)
            }
            Operation::Delete(_, id) => {
                self.delete(id).ok_or_else(|| not_found(id))?;
                (render::deleted(id), Effect::Revoked)
            }
        };
        Ok(Worked { answer: render::json(&body), effect })
    }
}

/// Fixture 08: the words speak of security, the code of a missing thing.
fn not_found(id: &str) -> Refused {
    let message = format!(
        "Security validation failed. '{id}' does not exist. The error was caused by an internally generated issue. \
         The error has been logged."
    );
    Refused::new(StatusCode::NOT_FOUND, "-16", message)
}

fn bad(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "-1", message)
}

fn method_not_allowed() -> Refused {
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "-1", "The method is not allowed for this resource.")
}

/// A fault in this dialect's words; `None` for the ones that are no JSON error.
pub fn trouble(trouble: Trouble, id: &str) -> Option<Refused> {
    let (status, code, message) = match trouble {
        Trouble::NotFound => return Some(not_found(id)),
        Trouble::Forbidden => {
            let message = format!(
                "Unable to create public link. User 'Simulated User' has insufficient privilege to access {id}."
            );
            return Some(Refused::new(StatusCode::FORBIDDEN, "-20", message));
        }
        Trouble::Locked => (StatusCode::LOCKED, "-1", "The item is locked."),
        Trouble::Throttled(_) => (StatusCode::TOO_MANY_REQUESTS, "-1", "Too many requests."),
        Trouble::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "-1", "The service is not available."),
        Trouble::Expired => (StatusCode::UNAUTHORIZED, "-1", "The token is not valid or has expired."),
        Trouble::GatewayTimeout
        | Trouble::Cut
        | Trouble::Html
        | Trouble::Huge
        | Trouble::Redirect
        | Trouble::Garbage => return None,
    };
    Some(Refused::new(status, code, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_by_kind_and_method() {
        let links = Links::default();
        let folder = Resource { folder: true, id: "F1".to_owned() };
        let path = ["publiclinks", "folder", "F1"];
        assert_eq!(read(&Method::POST, &path, &links), Ok(Operation::Create(folder.clone())));
        assert_eq!(read(&Method::GET, &path, &links), Ok(Operation::List(folder)));
        assert_eq!(read(&Method::PUT, &path, &links).unwrap_err().status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(read(&Method::GET, &["publiclinks", "album", "F1"], &links).unwrap_err().code, "-1");
        assert_eq!(read(&Method::DELETE, &["publiclinks", "LF1"], &links).unwrap_err().code, "-16");
    }
}
