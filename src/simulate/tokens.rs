//! The token endpoint: what it issues, and whether a token that comes back is good. Pure, the time is passed in.
//!
//! Answers have the shapes of Microsoft's token endpoint; Oracle's identity service is read by the same members.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded;

use super::answer::{Answer, Refused};
use super::call::{Call, Credential};
use super::options::Options;

/// What every issued access token begins with, so that an issued one that is gone is told from a foreign one.
const PREFIX: &str = "simulated-access-";
/// The application of tokens that were not issued here.
pub const FOREIGN: &str = "sharelink";

/// The tokens issued so far.
#[derive(Debug, Default)]
pub struct Tokens {
    access: HashMap<String, (String, Instant)>,
    used: HashSet<String>,
    issued: u64,
}

/// A request at the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    form: HashMap<String, String>,
    /// The client, from the body or the Basic header.
    pub client: String,
    secret: Option<String>,
}

impl TokenRequest {
    /// Reads the form and the Basic header.
    pub fn read(call: &Call) -> Self {
        let mut form: HashMap<String, String> = form_urlencoded::parse(&call.body).into_owned().collect();
        let (client, secret) = match &call.credential {
            // RFC 6749, 2.3.1: both are form-encoded before they are joined.
            Credential::Basic { name, password } => (form_decode(name), Some(form_decode(password))),
            _ => (form.remove("client_id").unwrap_or_default(), form.remove("client_secret")),
        };
        Self { form, client, secret }
    }

    fn member(&self, name: &str) -> &str {
        self.form.get(name).map_or("", String::as_str)
    }
}

fn form_decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

impl Tokens {
    /// The application that a bearer token belongs to; `None` where it is not good.
    pub fn application(&self, bearer: &str, options: &Options, now: Instant) -> Option<String> {
        if let Some((client, until)) = self.access.get(bearer) {
            return (now < *until).then(|| client.clone());
        }
        let accepted = match &options.token {
            Some(only) => only.reveal() == bearer,
            None => !bearer.starts_with(PREFIX),
        };
        accepted.then(|| FOREIGN.to_owned())
    }

    /// Makes every access token issued so far invalid.
    pub fn expire(&mut self) {
        self.access.clear();
    }

    /// Issues a token.
    ///
    /// # Errors
    /// `invalid_client`, `invalid_scope`, `invalid_grant`, `invalid_request` or `unsupported_grant_type`.
    pub fn issue(&mut self, request: &TokenRequest, options: &Options, now: Instant) -> Result<Value, Refused> {
        if request.client.is_empty() {
            return Err(bad(
                "invalid_request",
                "AADSTS900144: The request body must contain the following parameter: 'client_id'.",
            ));
        }
        let secret = request.secret.as_deref();
        let secret_is_right = match &options.client_secret {
            Some(only) => secret == Some(only.reveal()),
            None => secret.is_none_or(|secret| !secret.is_empty() && !secret.contains("wrong")),
        };
        let wrong_secret = || {
            let message = format!("AADSTS7000215: Invalid client secret provided for app '{}'.", request.client);
            Refused::new(StatusCode::UNAUTHORIZED, "invalid_client", message)
        };
        let mut body = match request.member("grant_type") {
            "client_credentials" if secret.is_none() || !secret_is_right => return Err(wrong_secret()),
            "client_credentials" => {
                if request.member("scope").split(' ').filter(|scope| !scope.is_empty()).count() > 1 {
                    let message = "AADSTS70011: The provided value for the input parameter 'scope' isn't valid.";
                    return Err(bad("invalid_scope", message));
                }
                json!({})
            }
            // A public client has no secret, a confidential one must have the right one.
            "refresh_token" if !secret_is_right => return Err(wrong_secret()),
            "refresh_token" => {
                let old = request.member("refresh_token");
                let spent = options.single_use_refresh_tokens && self.used.contains(old);
                if old.is_empty() || old.contains("expired") || spent {
                    let message = "AADSTS70008: The refresh token has expired, was used before, or is empty.";
                    return Err(bad("invalid_grant", message));
                }
                self.used.insert(old.to_owned());
                json!({ "refresh_token": format!("simulated-refresh-{}", self.issued) })
            }
            _ => {
                let message = "AADSTS70003: The app requested an unsupported grant type.";
                return Err(bad("unsupported_grant_type", message));
            }
        };
        let lifetime = options.token_lifetime;
        let token = format!("{PREFIX}{}", self.issued);
        self.issued += 1;
        self.access.retain(|_, (_, until)| now < *until);
        let until = now.checked_add(lifetime).unwrap_or(now + Duration::from_secs(86_400));
        self.access.insert(token.clone(), (request.client.clone(), until));
        body["token_type"] = json!("Bearer");
        body["expires_in"] = json!(lifetime.as_secs());
        body["access_token"] = json!(token);
        Ok(body)
    }
}

fn bad(code: &'static str, message: &str) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, code, message)
}

/// An error of the token endpoint. The number is the one that the message begins with.
pub fn refuse(refused: &Refused, trace: &str, wall: Timestamp) -> Answer {
    let number = refused
        .message
        .strip_prefix("AADSTS")
        .and_then(|rest| rest.split(':').next())
        .and_then(|digits| digits.parse::<u32>().ok());
    let time = wall.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let description =
        format!("{}\r\nTrace ID: {trace}\r\nCorrelation ID: {trace}\r\nTimestamp: {time}", refused.message);
    let body = json!({
        "error": refused.code,
        "error_description": description,
        "error_codes": number.into_iter().collect::<Vec<_>>(),
        "timestamp": time,
        "trace_id": trace,
        "correlation_id": trace,
        "error_uri": number.map(|number| format!("https://login.microsoftonline.com/error?code={number}")),
    });
    Answer::json(refused.status, "application/json; charset=utf-8", &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    fn request(members: &[(&str, &str)]) -> TokenRequest {
        let mut form: HashMap<_, _> =
            members.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let client = form.remove("client_id").unwrap_or_default();
        let secret = form.remove("client_secret");
        TokenRequest { form, client, secret }
    }

    const CLIENT: [(&str, &str); 3] =
        [("grant_type", "client_credentials"), ("client_id", "app"), ("client_secret", "s3cret")];

    #[tokio::test(start_paused = true)]
    async fn an_issued_token_is_good_until_its_lifetime_is_over() {
        let (mut tokens, options) = (Tokens::default(), Options::default());
        let issued = tokens.issue(&request(&CLIENT), &options, Instant::now()).unwrap();
        let token = issued["access_token"].as_str().unwrap();
        assert_eq!(tokens.application(token, &options, Instant::now()).as_deref(), Some("app"));
        tokio::time::advance(Duration::from_secs(3599)).await;
        assert_eq!(tokens.application(token, &options, Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_taken_back_is_no_longer_good_although_any_foreign_one_is() {
        let (mut tokens, options) = (Tokens::default(), Options::default());
        let issued = tokens.issue(&request(&CLIENT), &options, Instant::now()).unwrap();
        tokens.expire();
        assert_eq!(tokens.application(issued["access_token"].as_str().unwrap(), &options, Instant::now()), None);
        assert!(tokens.application("anything", &options, Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn with_a_fixed_token_no_other_foreign_one_is_good() {
        let options = Options { token: Some(Secret::new("only")), ..Options::default() };
        let tokens = Tokens::default();
        assert!(tokens.application("only", &options, Instant::now()).is_some());
        assert!(tokens.application("other", &options, Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_secret_is_invalid_client() {
        let mut wrong = CLIENT;
        wrong[2].1 = "wrong";
        let refused = Tokens::default().issue(&request(&wrong), &Options::default(), Instant::now()).unwrap_err();
        assert_eq!(refused.code, "invalid_client");
        let fixed = Options { client_secret: Some(Secret::new("other")), ..Options::default() };
        let refused = Tokens::default().issue(&request(&CLIENT), &fixed, Instant::now()).unwrap_err();
        assert_eq!(refused.code, "invalid_client");
    }

    #[tokio::test(start_paused = true)]
    async fn a_used_refresh_token_stays_good_unless_it_is_for_single_use() {
        let refresh =
            |token| request(&[("grant_type", "refresh_token"), ("client_id", "app"), ("refresh_token", token)]);
        let mut options = Options::default();
        let mut tokens = Tokens::default();
        let first = tokens.issue(&refresh("first"), &options, Instant::now()).unwrap();
        assert_ne!(first["refresh_token"], "first");
        assert!(tokens.issue(&refresh("first"), &options, Instant::now()).is_ok());
        options.single_use_refresh_tokens = true;
        assert_eq!(tokens.issue(&refresh("first"), &options, Instant::now()).unwrap_err().code, "invalid_grant");
        let next = first["refresh_token"].as_str().unwrap();
        assert!(tokens.issue(&refresh(next), &options, Instant::now()).is_ok());
    }

    #[test]
    fn the_secret_of_a_basic_header_is_form_decoded() {
        assert_eq!(form_decode("a%2Bb+c"), "a+b c");
    }
}
