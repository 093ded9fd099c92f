//! What the simulator says of itself: the page at `/`, the help's fault words, and a configuration to paste.

use std::fmt::Write as _;
use std::net::SocketAddr;

use axum::http::StatusCode;

use super::answer::Answer;
use super::words::WORDS;

/// Where `redirect` leads: an HTML page with status 200, so that a client that follows is found out.
pub const SIGN_IN: &str = "/_/sign-in";

/// The addresses of a simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses(pub SocketAddr);

impl Addresses {
    /// `base_url` for `api = "graph"`.
    pub fn graph(self) -> String {
        format!("http://{}/graph/v1.0", self.0)
    }

    /// `base_url` for `api = "onedrive"`.
    pub fn onedrive(self) -> String {
        format!("http://{}/onedrive/v1.0", self.0)
    }

    /// `base_url` for `kind = "oracle"`.
    pub fn oracle(self) -> String {
        format!("http://{}/documents/api/1.2", self.0)
    }

    /// `public_url` for `kind = "oracle"`.
    pub fn oracle_public(self) -> String {
        format!("http://{}/documents", self.0)
    }

    /// `token_url` in Microsoft's form.
    pub fn microsoft_token(self) -> String {
        format!("http://{}/contoso/oauth2/v2.0/token", self.0)
    }

    /// `token_url` in Oracle's form.
    pub fn oracle_token(self) -> String {
        format!("http://{}/oauth2/v1/token", self.0)
    }

    /// A configuration of three accounts, to paste below `[broker]`.
    pub fn config(self) -> String {
        format!(
            r#"[providers.contoso]
kind = "onedrive"
api = "graph"
base_url = "{graph}"
[providers.contoso.auth]
method = "client_credentials"
token_url = "{microsoft_token}"
client_id = "sharelink"
client_secret = "simulated"
scope = "https://graph.microsoft.com/.default"

[providers.older]
kind = "onedrive"
api = "onedrive"
base_url = "{onedrive}"
[providers.older.auth]
method = "bearer"
token = "simulated"

[providers.content]
kind = "oracle"
base_url = "{oracle}"
public_url = "{public}"
[providers.content.auth]
method = "basic"
username = "simulated"
password = "simulated"
"#,
            graph = self.graph(),
            microsoft_token = self.microsoft_token(),
            onedrive = self.onedrive(),
            oracle = self.oracle(),
            public = self.oracle_public(),
        )
    }

    /// The page at `/`.
    pub fn page(self) -> String {
        format!(
            "sharelink simulate: sharing links of two providers, without the providers\n\n\
             Microsoft Graph        {graph}\n\
             older OneDrive API     {onedrive}\n\
             Oracle                 {oracle}   (1.1 too)\n\
             tokens, Microsoft      POST {microsoft_token}\n\
             tokens, Oracle         POST {oracle_token}\n\n\
             Links are kept: asking Graph twice for the same link answers 201, then 200 with the same link. Oracle\n\
             refuses a second unnamed link and a name that is taken (409, -17). Every item id and path exists.\n\
             Any bearer token is accepted, and at Oracle any user whose password does not contain \"wrong\".\n\n\
             {words}\n\
             GET  /_/stats          what has happened, as JSON, by API and item; \"doubled\" counts links made in vain\n\
             GET  /_/faults         the options in force\n\
             POST /_/faults         changes them: {{\"fault503\": 0.1, \"latency\": \"200ms\"}}\n\
             POST /_/faults         {{\"expireTokens\": true}} makes every issued access token invalid\n\n\
             A configuration to paste:\n\n{config}",
            graph = self.graph(),
            onedrive = self.onedrive(),
            oracle = self.oracle(),
            microsoft_token = self.microsoft_token(),
            oracle_token = self.oracle_token(),
            words = words(),
            config = self.config(),
        )
    }
}

/// The fault words, one a line.
pub fn words() -> String {
    let mut text = "Words in an item's id, or in the last segment of its path, order faults. A word counts where no\n\
                    letter touches it: report-down.pdf is down, download.pdf is not. In a client_id they work on tokens.\n\n"
        .to_owned();
    for (_, written, effect) in WORDS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {written:<11} {effect}");
    }
    text
}

/// The answer where nothing is mounted.
pub fn not_found() -> Answer {
    Answer {
        status: StatusCode::NOT_FOUND,
        headers: vec![("content-type", "text/plain; charset=utf-8".to_owned())],
        body: b"Nothing is simulated at this path; GET / lists what is.\n".to_vec(),
    }
}
