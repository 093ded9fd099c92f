//! `[providers.NAME.auth]`: how a provider is told who is asking.
//!
//! Invariant: a section's keys are those of its method, so that a credential is never given and silently not used.

use std::path::PathBuf;

use super::provider::{Kind, required_address};
use super::reader::Section;
use super::{Auth, ClientAuth, OneDriveApi, ProviderKind};

/// The words of `method`.
pub(super) const METHODS: [(&str, Method); 7] = [
    ("client_credentials", Method::ClientCredentials),
    ("refresh_token", Method::RefreshToken),
    ("bearer", Method::Bearer),
    ("basic", Method::Basic),
    ("workload_identity", Method::NotBuiltIn),
    ("managed_identity", Method::NotBuiltIn),
    ("certificate", Method::NotBuiltIn),
];

/// What is written in `method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// OAuth 2.0 client credentials (RFC 6749, section 4.4).
    ClientCredentials,
    /// OAuth 2.0 refresh token (RFC 6749, section 6).
    RefreshToken,
    /// A token as it is (RFC 6750).
    Bearer,
    /// User name and password (RFC 7617).
    Basic,
    /// A word of the contract that this version cannot do.
    NotBuiltIn,
}

/// Reads the section; `None` where something needed is missing or wrong. `spoken` is the provider as far as it could
/// be read.
pub(super) fn read(
    section: &mut Section<'_, '_>,
    spoken: Option<&ProviderKind>,
    kind: Kind,
    insecure: bool,
) -> Option<Auth> {
    if section.find("method").is_none() {
        section.missing("method", "method = \"client_credentials\" (or refresh_token, bearer, basic)");
    }
    let method = section.word("method", &METHODS);
    let path = section.path.clone();
    let Some(method) = method.filter(|method| *method != Method::NotBuiltIn) else {
        section.reader.unjudged.push(path);
        if method == Some(Method::NotBuiltIn) {
            let place = section.place_of("method");
            let text =
                "this method is not built into this version; use client_credentials, refresh_token, bearer or basic";
            section.wrong(&place, "method", text);
        }
        return None;
    };
    let word = METHODS.iter().find(|(_, meaning)| *meaning == method).map_or("", |(word, _)| *word);
    section.reader.conditions.push((path, format!("method = {word:?}")));
    match method {
        Method::Bearer => Some(Auth::Bearer { token: section.required_secret("token")? }),
        Method::Basic => basic(section, kind),
        Method::ClientCredentials => client_credentials(section, spoken, kind, insecure),
        Method::RefreshToken => refresh_token(section, kind, insecure),
        Method::NotBuiltIn => None,
    }
}

fn basic(section: &mut Section<'_, '_>, kind: Kind) -> Option<Auth> {
    let place = section.place_of("method");
    let text = match kind {
        Kind::Oracle => {
            "Oracle documents tokens only and uses a user's password in development environments alone; \
             prefer method = \"client_credentials\""
        }
        Kind::OneDrive => "Microsoft takes no user name and password here; prefer method = \"client_credentials\"",
    };
    section.warn(&place, "method", text);
    let username = section.required_text("username", "username = \"share.worker@example.com\"");
    if let Some(name) = username.as_ref().filter(|name| name.contains(':')) {
        let place = section.place_of("username");
        section.wrong(&place, "username", format!("{name:?} is not allowed; HTTP Basic takes no colon in a user name"));
    }
    let password = section.required_secret("password");
    Some(Auth::Basic { username: username?, password: password? })
}

fn client_credentials(
    section: &mut Section<'_, '_>,
    spoken: Option<&ProviderKind>,
    kind: Kind,
    insecure: bool,
) -> Option<Auth> {
    let token_url = required_address(section, "token_url", token_url_example(kind), insecure);
    let client_id = section.required_text("client_id", "client_id = \"00000000-0000-0000-0000-000000000000\"");
    let client_secret = section.required_secret("client_secret");
    let scope = section.filled_text("scope").or_else(|| match spoken {
        // Microsoft's form for this grant is the resource's host with `/.default`; it takes no other.
        Some(ProviderKind::OneDrive(onedrive)) if onedrive.api == OneDriveApi::Graph => {
            Some(format!("{}/.default", onedrive.base_url.origin().ascii_serialization()))
        }
        _ => None,
    });
    let client_auth = client_auth(section, kind);
    Some(Auth::ClientCredentials {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope,
        client_auth,
    })
}

fn refresh_token(section: &mut Section<'_, '_>, kind: Kind, insecure: bool) -> Option<Auth> {
    let token_url = required_address(section, "token_url", token_url_example(kind), insecure);
    let client_id = section.required_text("client_id", "client_id = \"00000000-0000-0000-0000-000000000000\"");
    let client_secret = section.secret("client_secret");
    let refresh_token = section.required_secret("refresh_token");
    let scope = section.filled_text("scope");
    let client_auth = client_auth(section, kind);
    let token_store = section.filled_text("token_store").map(PathBuf::from);
    Some(Auth::RefreshToken {
        token_url: token_url?,
        client_id: client_id?,
        client_secret,
        refresh_token: refresh_token?,
        scope,
        client_auth,
        token_store,
    })
}

fn token_url_example(kind: Kind) -> &'static str {
    match kind {
        Kind::OneDrive => "https://login.microsoftonline.com/TENANT/oauth2/v2.0/token",
        Kind::Oracle => "https://idcs-EXAMPLE.identity.oraclecloud.com/oauth2/v1/token",
    }
}

/// Each provider's documented way is the default.
fn client_auth(section: &mut Section<'_, '_>, kind: Kind) -> ClientAuth {
    section.word("client_auth", &[("body", ClientAuth::Body), ("basic", ClientAuth::Basic)]).unwrap_or(match kind {
        Kind::OneDrive => ClientAuth::Body,
        Kind::Oracle => ClientAuth::Basic,
    })
}
