//! Microsoft's bodies and headers, shaped like the recorded ones. Pure.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::super::answer::{Answer, Refused};
use super::super::call::Mount;
use super::Item;
use super::drives::Permission;

/// Graph's media type with its parameters, so that nobody compares it for equality.
pub const JSON: &str =
    "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";

/// An answer in JSON.
pub fn json(status: StatusCode, body: &Value) -> Answer {
    Answer::json(status, JSON, body).with("odata-version", "4.0")
}

/// A permission as `createLink` answers it.
pub fn permission(mount: Mount, permission: &Permission, plain: bool) -> Value {
    let personal = mount == Mount::OneDrive || permission.kind == "embed";
    let mut body = if personal { personal_permission(permission) } else { business_permission(permission) };
    if mount == Mount::Graph && !plain {
        body["@odata.context"] = json!("https://graph.microsoft.com/v1.0/$metadata#permission");
        body["@odata.type"] = json!("#microsoft.graph.permission");
    }
    body
}

/// A permission as reading it answers: the older API tells a share id, and the least of all times for no expiry.
pub fn stored(mount: Mount, stored: &Permission, plain: bool) -> Value {
    let mut body = permission(mount, stored, plain);
    if mount == Mount::OneDrive {
        body["shareId"] = json!(share_id(&stored.url));
        if stored.expires.is_none() {
            body["expirationDateTime"] = json!("0001-01-01T00:00:00Z");
        }
    }
    body
}

/// Fixtures 43 and 56, with the `shareId` that recordings of 2024 have.
fn business_permission(permission: &Permission) -> Value {
    let mut url = permission.url.clone();
    let mut body = json!({
        "id": permission.id,
        "roles": [permission.role()],
        "shareId": share_id(&permission.url),
        "hasPassword": permission.password,
    });
    if permission.scope.as_deref() == Some("users") {
        let identities: Vec<_> = permission.recipients.iter().map(|recipient| json!({ "user": recipient })).collect();
        body["grantedToIdentitiesV2"] = json!(identities);
        if let Some(email) = permission.recipients.iter().find_map(|recipient| recipient.get("email")?.as_str()) {
            url = format!("{url}?email={}", utf8_percent_encode(email, NON_ALPHANUMERIC));
        }
    }
    if let Some(expires) = permission.expires {
        body["expirationDateTime"] = json!(expires.to_string());
    }
    body["link"] = json!({
        "scope": permission.scope,
        "type": permission.kind,
        "webUrl": url,
        "preventsDownload": permission.prevents_download,
    });
    body
}

/// Fixtures 20 to 22: members that say nothing are left out.
fn personal_permission(permission: &Permission) -> Value {
    let mut link = json!({
        "type": permission.kind,
        "webUrl": permission.url,
        "application": { "id": permission.application, "displayName": "sharelink simulate" },
    });
    if let Some(scope) = &permission.scope {
        link["scope"] = json!(scope);
    }
    if permission.kind == "embed" {
        link["webHtml"] = json!(format!("<IFRAME src=\"{}\"></IFRAME>", permission.url));
    }
    let mut body = json!({ "id": permission.id, "roles": [permission.role()], "link": link });
    if let Some(expires) = permission.expires {
        body["expirationDateTime"] = json!(expires.to_string());
    }
    if permission.password {
        body["hasPassword"] = json!(true);
    }
    body
}

fn share_id(url: &str) -> String {
    format!("u!{}", URL_SAFE_NO_PAD.encode(url))
}

/// The permissions of an item. The first is the owner's and has no link.
pub fn permissions<'a>(mount: Mount, links: impl Iterator<Item = &'a Permission>, plain: bool) -> Value {
    let owner = json!({
        "id": "aTowIy5mfG1lbWJlcnNoaXB8c2ltdWxhdGVkQGNvbnRvc28uY29t",
        "roles": ["owner"],
        "grantedToV2": { "user": { "displayName": "Simulated Owner", "email": "simulated@contoso.com" } },
    });
    // Inside a list no entry has `@odata` members of its own.
    let value: Vec<_> = std::iter::once(owner).chain(links.map(|link| stored(mount, link, true))).collect();
    let mut body = json!({ "value": value });
    if mount == Mount::Graph && !plain {
        body["@odata.context"] = json!("https://graph.microsoft.com/v1.0/$metadata#permissions");
    }
    body
}

/// A drive item.
pub fn item(item: &Item, plain: bool) -> Value {
    let name = item.id.rsplit_once('!').map_or(item.id.as_str(), |(_, name)| name);
    let mut body = json!({
        "id": item.id,
        "name": name,
        "webUrl": format!("https://contoso-my.sharepoint.com/personal/simulated_contoso_com/Documents/{}",
            utf8_percent_encode(name, NON_ALPHANUMERIC)),
        "parentReference": { "driveId": item.drive, "driveType": "business", "id": "root", "path": "/drive/root:" },
    });
    body[if item.id == "root" { "folder" } else { "file" }] = json!({});
    if !plain {
        body["@odata.context"] = json!("https://graph.microsoft.com/v1.0/$metadata#driveItem");
    }
    body
}

/// `Location` of a new permission: an internal address that a client must not use.
pub fn location(item: &Item, permission: &Permission) -> String {
    let quote = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    format!(
        "https://contoso.sharepoint.com/_api/v2.0/drives('{}')/items('{}')/permissions('{}')",
        quote(&item.drive),
        quote(&item.id),
        permission.id
    )
}

/// An error: fixtures 30, 31, 35 and 42.
pub fn refuse(refused: &Refused, request_id: &str, client_request_id: &str, wall: Timestamp) -> Answer {
    let mut inner = json!({
        "date": wall.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        "request-id": request_id,
        "client-request-id": client_request_id,
    });
    if refused.status == StatusCode::TOO_MANY_REQUESTS {
        inner["code"] = json!("429");
        inner["status"] = json!("429");
        inner["message"] = json!("Please retry after");
    }
    let body = json!({ "error": { "code": refused.code, "message": refused.message, "innerError": inner } });
    let answer = Answer::json(refused.status, "application/json", &body);
    if refused.status == StatusCode::UNAUTHORIZED {
        // Fixture 42.
        let challenge = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", client_id=\"00000003-0000-0000-c000-000000000000\"";
        return answer.with("www-authenticate", challenge);
    }
    answer
}
