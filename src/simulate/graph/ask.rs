//! The body of a `createLink` call, checked as the API checks it. Pure.

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::super::answer::Refused;
use super::super::call::{Call, Mount};
use crate::model::Object;

/// The members that v1.0's metadata declares.
const GRAPH_MEMBERS: [&str; 8] = [
    "type",
    "scope",
    "password",
    "expirationDateTime",
    "recipients",
    "sendNotification",
    "message",
    "retainInheritedPermissions",
];
const GRAPH_TYPES: [&str; 8] =
    ["view", "edit", "embed", "review", "blocksDownload", "createOnly", "addressBar", "adminDefault"];
const OLDER_TYPES: [&str; 3] = ["view", "edit", "embed"];

/// A link that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// `type`, as asked.
    pub kind: String,
    /// `scope`; `None` for an embed link without one.
    pub scope: Option<String>,
    /// Whether there is a password.
    pub password: bool,
    /// `expirationDateTime`, cut to whole seconds as the service does it.
    pub expires: Option<Timestamp>,
    /// `recipients`
    pub recipients: Vec<Object>,
    /// `sendNotification`
    pub notify: bool,
}

/// Reads the body.
///
/// # Errors
/// 400 naming the member.
pub fn read(mount: Mount, call: &Call, wall: Timestamp) -> Result<Ask, Refused> {
    if !call.is_json {
        let message = "Write requests (excluding DELETE) must contain the Content-Type header declaration.";
        return Err(Refused::new(StatusCode::BAD_REQUEST, "BadRequest", message));
    }
    let body: Value = serde_json::from_slice(&call.body)
        .map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "BadRequest", "Unable to read JSON request payload."))?;
    let Value::Object(body) = body else { return Err(invalid("The request body must be a JSON object.")) };
    let older = mount == Mount::OneDrive;
    let (members, types): (&[&str], &[&str]) =
        if older { (&["type", "scope"], &OLDER_TYPES) } else { (&GRAPH_MEMBERS, &GRAPH_TYPES) };
    if let Some(unknown) = body.keys().find(|name| !members.contains(&name.as_str())) {
        return Err(invalid(format!("The parameter '{unknown}' is not declared by the action createLink.")));
    }
    let kind = match text(&body, "type")? {
        Some(kind) if types.contains(&kind) => kind,
        // Fixture 30's sentence.
        Some(_) => return Err(invalid("Link type must be either 'edit' or 'view'.")),
        None if older => return Err(invalid("The parameter 'type' is missing.")),
        None => "adminDefault",
    };
    let scope = match text(&body, "scope")? {
        Some(scope @ ("anonymous" | "organization")) => Some(scope),
        Some("users") if !older => Some("users"),
        Some(scope) => return Err(invalid(format!("The link scope '{scope}' is not supported."))),
        // The page's embed sample has no scope.
        None if kind == "embed" => None,
        // Without a scope the older API gives the most permissive link, Graph the organisation's default.
        None if older => Some("anonymous"),
        None => Some("organization"),
    };
    Ok(Ask {
        kind: kind.to_owned(),
        scope: scope.map(str::to_owned),
        password: text(&body, "password")?.is_some_and(|password| !password.is_empty()),
        expires: expires(&body, wall)?,
        recipients: recipients(&body)?,
        notify: {
            text(&body, "message")?;
            flag(&body, "retainInheritedPermissions")?;
            flag(&body, "sendNotification")?
        },
    })
}

fn expires(body: &Object, wall: Timestamp) -> Result<Option<Timestamp>, Refused> {
    let Some(written) = text(body, "expirationDateTime")? else { return Ok(None) };
    let time: Timestamp =
        written.parse().map_err(|_| invalid("The parameter 'expirationDateTime' is not a DateTimeOffset."))?;
    if time <= wall {
        return Err(invalid("The expiration date must be in the future."));
    }
    Ok(Some(Timestamp::from_second(time.as_second()).unwrap_or(time)))
}

fn recipients(body: &Object) -> Result<Vec<Object>, Refused> {
    let wrong = || invalid("The parameter 'recipients' must be a list of objects with email, alias or objectId.");
    match body.get("recipients") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|recipient| match recipient {
                Value::Object(members)
                    if ["email", "alias", "objectId"]
                        .iter()
                        .any(|name| members.get(*name).is_some_and(Value::is_string)) =>
                {
                    Ok(members.clone())
                }
                _ => Err(wrong()),
            })
            .collect(),
        Some(_) => Err(wrong()),
    }
}

fn text<'a>(body: &'a Object, name: &str) -> Result<Option<&'a str>, Refused> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(format!("The parameter '{name}' must be a string."))),
    }
}

fn flag(body: &Object, name: &str) -> Result<bool, Refused> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(invalid(format!("The parameter '{name}' must be true or false."))),
    }
}

fn invalid(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "invalidRequest", message)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, Method};
    use serde_json::json;

    use super::*;

    fn ask(mount: Mount, body: &Value) -> Result<Ask, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
        let call = Call::read(Method::POST, "/", &headers, body.to_string().into_bytes());
        read(mount, &call, "2026-11-22T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_missing_scope_is_most_permissive_in_the_older_api_and_the_organisations_default_in_graph() {
        assert_eq!(ask(Mount::OneDrive, &json!({"type": "view"})).unwrap().scope.as_deref(), Some("anonymous"));
        assert_eq!(ask(Mount::Graph, &json!({"type": "view"})).unwrap().scope.as_deref(), Some("organization"));
        assert_eq!(ask(Mount::Graph, &json!({"type": "embed"})).unwrap().scope, None);
    }

    #[test]
    fn an_expiry_is_cut_to_whole_seconds_in_utc() {
        let asked = ask(Mount::Graph, &json!({"type": "view", "expirationDateTime": "2027-01-31T01:00:00.987+01:00"}));
        assert_eq!(asked.unwrap().expires, Some("2027-01-31T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn what_the_api_does_not_know_is_400() {
        for (mount, body) in [
            (Mount::Graph, json!({"type": "own"})),
            (Mount::Graph, json!({"type": 1})),
            (Mount::Graph, json!([])),
            (Mount::Graph, json!({"type": "view", "scope": "everyone"})),
            (Mount::Graph, json!({"type": "view", "expiry": "2027-01-31T00:00:00Z"})),
            (Mount::Graph, json!({"type": "view", "expirationDateTime": "2027-01-31"})),
            (Mount::Graph, json!({"type": "view", "expirationDateTime": "2020-01-31T00:00:00Z"})),
            (Mount::Graph, json!({"type": "view", "recipients": [{}]})),
            (Mount::Graph, json!({"type": "view", "sendNotification": "yes"})),
            (Mount::OneDrive, json!({})),
            (Mount::OneDrive, json!({"type": "review"})),
            (Mount::OneDrive, json!({"type": "view", "scope": "users"})),
            (Mount::OneDrive, json!({"type": "view", "password": "p"})),
        ] {
            assert_eq!(ask(mount, &body).unwrap_err().status, StatusCode::BAD_REQUEST, "{mount:?} {body}");
        }
    }
}
