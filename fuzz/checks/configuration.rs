//! A configuration from any text and any variables: every mistake is one line without a secret, and what is accepted
//! keeps the promises that the rest of the program relies on.
//!
//! Input: TOML before a secret; how the secret is written, a digit, and its key; TOML after it; variables, a line
//! `NAME=value` each.

use std::collections::BTreeSet;
use std::time::Duration;

use sharelink::config::{Auth, Oracle, ProviderKind, Settings, load_text_with};
use sharelink::provider::http::secret_header;
use sharelink::provider::onedrive::url::Addresses;
use sharelink::provider::oracle::request::{Item, ItemKind};
use sharelink::provider::oracle::url::public;
use url::{Host, Url};

use super::input::Parts;
use super::{CANARY, assert_no_secret};

/// Keys whose values are secrets, and slips in their names.
const KEYS: [&str; 8] =
    ["client_secret", "token", "password", "refresh_token", "url", "urls", "client-secret", "pasword"];

/// Checks one input.
pub fn check(data: &[u8]) {
    if data.windows(CANARY.len()).any(|here| here == CANARY.as_bytes()) {
        return;
    }
    let mut parts = Parts::new(data);
    let before = parts.text();
    let written = parts.text();
    let after = parts.text();
    let variables = String::from_utf8_lossy(parts.rest());
    let (secret, variable) = secret(&written);
    // The secret's line is one only behind a text that is whole.
    let text = match toml::de::DeTable::parse(&before) {
        Ok(_) => format!("{before}\n{secret}\n{after}"),
        Err(_) => before.into_owned(),
    };
    let env = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain(variable);
    let file = |path: &std::path::Path| match path.to_string_lossy().len() % 4 {
        0 => Err("does not exist".to_owned()),
        1 => Ok(format!("{CANARY}\n")),
        2 => Ok(format!("amqp://user:{CANARY}@host/%2f\n")),
        _ => Ok(format!("{CANARY}\n{CANARY}\u{7}")),
    };
    match load_text_with("f.toml", &text, env, &file) {
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems.iter() {
                check_line(&problem.to_string());
                assert!(!problem.text.trim().is_empty());
            }
            assert_eq!(problems.to_string().lines().count(), problems.len());
        }
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| check_line(warning));
            assert_no_secret(&format!("{loaded:?}"));
            let may_be_exposed = text.contains("insecure") || variables.to_lowercase().contains("insecure");
            check_settings(&loaded.settings, may_be_exposed);
        }
    }
}

fn check_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "a control character in {text:?}");
    assert_no_secret(text);
}

/// A line with the secret, or the variable that holds it.
fn secret(written: &str) -> (String, Option<(String, String)>) {
    let mut bytes = written.bytes();
    let how = bytes.next().unwrap_or_default();
    let key = KEYS[usize::from(bytes.next().unwrap_or_default()) % KEYS.len()];
    let line = match how {
        b'0' => format!("{key} = \"{CANARY}\""),
        b'1' => format!("{key} = \"{CANARY}"),
        b'2' => format!("{key} = {CANARY}"),
        b'3' => format!("{key} = [\"{CANARY}\", 1]"),
        b'4' => format!("{key} = {{ a = \"{CANARY}\" }}"),
        b'5' => format!("{key} = \"amqp://user:{CANARY}@host/%2f\""),
        b'6' => format!("{key} = '''{CANARY}\n'''"),
        b'7' => format!("{key} = \"{CANARY}\\q\""),
        b'8' => format!("{key} = [\"amqp://host\", \"http://user:{CANARY}@host\"]"),
        b'9' => format!("base_url = \"https://user:{CANARY}@host\""),
        b'a' => format!("token_url = \"https://host/?{CANARY}\""),
        b'b' => format!("{key} = \"amqp://user:1?{CANARY}@host/%2f\""),
        b'c' => format!("{key} {CANARY}"),
        b'd' => format!("{key} = 12{CANARY}"),
        _ => String::new(),
    };
    let name = match how {
        b'e' => "BROKER__URL",
        b'f' => "BROKER__URLS",
        b'g' => "PROVIDERS__CONTOSO__AUTH__CLIENT_SECRET",
        b'h' => "PROVIDERS__CONTOSO__AUTH__TOKEN",
        b'i' => "PROVIDERS__CONTENT__AUTH__PASSWORD",
        b'j' => "PROVIDERS__CONTOSO__AUTH__CLIENTSECRET",
        _ => return (line, None),
    };
    let rest = written.get(2..).unwrap_or_default();
    (line, Some((format!("SHARELINK__{name}"), format!("{CANARY}{rest}"))))
}

/// What the rest of the program relies on.
fn check_settings(settings: &Settings, may_be_exposed: bool) {
    let broker = &settings.broker;
    assert!(!broker.urls.is_empty());
    for url in &broker.urls {
        let read: lapin::uri::AMQPUri = url.reveal().parse().unwrap_or_else(|why| panic!("lapin refuses it: {why}"));
        let url = Url::parse(url.reveal()).expect("an address");
        assert_eq!(Some(read.authority.host.as_str()), url.host_str(), "lapin would go to another host");
    }
    let queues = [&broker.request_queue, &broker.reply_queue, &broker.dead_letter_queue];
    assert_eq!(queues.iter().collect::<BTreeSet<_>>().len(), 3, "two roles share a queue");
    for name in queues.into_iter().chain([&broker.exchange]) {
        assert!((1..=255).contains(&name.len()) && !name.starts_with("amq."), "{name:?}");
    }
    // The delay queues' names are the request queue's with a step.
    assert!(broker.request_queue.len() + ".delay.30m".len() <= 255, "a delay queue's name would be too long");
    assert!((1..=2000).contains(&broker.prefetch));
    assert!(broker.max_request_bytes >= 1024 && broker.max_deliveries >= 1);
    assert!(broker.heartbeat.subsec_nanos() == 0 && broker.heartbeat >= Duration::from_secs(1));
    let retry = &settings.retry;
    assert!(retry.max_attempts >= 1 && retry.initial_interval <= retry.max_interval);
    // RabbitMQ's consumer timeout is 30 minutes.
    assert!(retry.inline_limit <= Duration::from_secs(600));
    assert!(!settings.providers.is_empty());
    for (name, provider) in &settings.providers {
        assert_eq!(name, &provider.name);
        assert!((1..=64).contains(&name.len()), "{name:?}");
        assert!(provider.limits.max_in_flight >= 1);
        assert!(provider.timeout >= Duration::from_millis(100));
        match &provider.kind {
            ProviderKind::OneDrive(onedrive) => {
                check_base(&onedrive.base_url);
                Addresses::new(onedrive)
                    .unwrap_or_else(|why| panic!("an accepted {onedrive:?} makes no address: {why}"));
            }
            ProviderKind::Oracle(oracle) => check_oracle(oracle),
        }
        if !may_be_exposed {
            check_transport(&provider.kind, &provider.auth);
        }
        check_auth(&provider.auth);
    }
}

/// Plain http stays on this machine.
fn check_transport(kind: &ProviderKind, auth: &Auth) {
    let base = match kind {
        ProviderKind::OneDrive(onedrive) => &onedrive.base_url,
        ProviderKind::Oracle(oracle) => &oracle.base_url,
    };
    let token_url = match auth {
        Auth::ClientCredentials { token_url, .. } | Auth::RefreshToken { token_url, .. } => token_url,
        Auth::Bearer { .. } | Auth::Basic { .. } => base,
    };
    for url in [base, token_url] {
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        assert!(url.scheme() == "https" || local, "plain http to {url}");
    }
}

fn check_base(url: &Url) {
    assert!(matches!(url.scheme(), "https" | "http"), "{url}");
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
}

fn check_oracle(oracle: &Oracle) {
    check_base(&oracle.base_url);
    check_base(&oracle.public_url);
    for template in [&oracle.folder_link, &oracle.file_link] {
        let item = Item { kind: ItemKind::Folder, id: "F1".to_owned() };
        let link = public(template, &oracle.public_url, "L1", &item).expect("an id makes an address");
        let link = Url::parse(&link).unwrap_or_else(|why| panic!("{template:?} makes no address: {why}"));
        assert!(matches!(link.scheme(), "https" | "http"), "{link}");
        assert!(link.as_str().contains("L1") && link.as_str().contains("F1"), "{template:?} makes {link}");
    }
}

/// Credentials are there and fit where they are put.
fn check_auth(auth: &Auth) {
    match auth {
        Auth::Bearer { token } => {
            secret_header(token.reveal()).unwrap_or_else(|why| panic!("an accepted token {why}"));
        }
        Auth::Basic { username, password } => {
            assert!(!username.contains(':') && !username.is_empty() && !password.reveal().is_empty());
        }
        Auth::ClientCredentials { token_url, client_secret, .. } => {
            check_base(token_url);
            assert!(!client_secret.reveal().trim().is_empty());
        }
        Auth::RefreshToken { token_url, refresh_token, .. } => {
            check_base(token_url);
            assert!(!refresh_token.reveal().trim().is_empty());
        }
    }
}
