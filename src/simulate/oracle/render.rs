//! Oracle's bodies, shaped like its printed examples. Pure.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::answer::{Answer, Refused};
use super::links::{PublicLink, Resource};

/// Oracle's media type.
pub const JSON: &str = "application/json";

/// A success: always 200, a new link too.
pub fn json(body: &Value) -> Answer {
    Answer::json(StatusCode::OK, JSON, body)
}

/// A link as an entry of a listing. No answer has the password, none has a URL.
fn link(link: &PublicLink) -> Value {
    let mut body = json!({
        "linkID": link.id,
        "assignedUsers": link.assigned_users,
        "role": link.role,
        "type": "publiclink",
        "createdTime": time(link.created),
        "lastModifiedTime": time(link.modified),
        "ownedBy": { "id": "U0EAA20910FAF3052ACB79E4T00000000001", "displayName": "Simulated User", "type": "user" },
    });
    if let Some(name) = &link.name {
        body["linkName"] = json!(name);
    }
    if let Some(expires) = link.expires {
        body["expirationTime"] = json!(time(expires));
    }
    body
}

fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Fixture 01: `id` is the folder's or file's.
pub fn created(made: &PublicLink, resource: &Resource) -> Value {
    let mut body = single(made);
    body["id"] = json!(resource.id);
    body
}

/// The answer to get and edit.
pub fn single(found: &PublicLink) -> Value {
    let mut body = link(found);
    body["errorCode"] = json!("0");
    body
}

/// Fixture 03: `count` is a string; `items` is absent where there are none.
pub fn listing(resource: &Resource, links: &[PublicLink]) -> Value {
    let mut body = json!({
        "count": links.len().to_string(),
        "id": resource.id,
        "type": resource.kind(),
        "errorCode": "0",
    });
    if !links.is_empty() {
        body["items"] = links.iter().map(link).collect();
    }
    body
}

/// The answer to delete.
pub fn deleted(id: &str) -> Value {
    json!({ "errorCode": "0", "linkID": id, "type": "publiclink" })
}

/// An error: the full envelope of fixture 09, except that a missing thing has the two members of fixture 08.
pub fn refuse(refused: &Refused, resource: Option<&Resource>) -> Answer {
    let mut body = json!({ "errorCode": refused.code, "errorMessage": refused.message });
    if refused.code != "-16" {
        body["title"] = json!(refused.message);
        body["type"] = json!("https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html");
        body["errorKey"] = json!(match refused.code {
            "-17" => "!csPublicLinkExists",
            "-20" => "!csFldUnableToCreateLink!csCloudItemInsufficientPrivileges,Simulated User,FLD_CREATE_LINK",
            _ => "!csGeneralFailure",
        });
        if let Some(resource) = resource {
            body["errorType"] = json!(resource.kind());
            body["id"] = json!(resource.id);
            body["name"] = json!(resource.id);
        }
    }
    let answer = Answer::json(refused.status, JSON, &body);
    if refused.status == StatusCode::UNAUTHORIZED {
        return answer.with("www-authenticate", "Bearer realm=\"simulated\"");
    }
    answer
}
