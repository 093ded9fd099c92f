//! Configuration as a person meets it: what is read, what wins over what, and what each mistake is answered with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use sharelink::config::{
    Auth, ClientAuth, Loaded, Needs, OneDriveApi, Place, ProviderKind, Settings, known_keys, load, load_for,
};
use sharelink::model::{Audience, Secret};
use tempfile::TempDir;

/// As little as a worker needs.
const LEAST: &str = r#"
[broker]
url = "amqp://h"
[providers.contoso]
kind = "onedrive"
[providers.contoso.auth]
method = "bearer"
token = "t"
"#;

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>().into_iter()
}

/// Loads a text as if it were a file called x.toml; errors have the directory's name taken off.
fn try_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, text).unwrap();
    let place = format!("{}/", dir.path().display());
    load(Some(&file), env(variables))
        .map_err(|problems| problems.to_string().replace(&place, "").lines().map(str::to_owned).collect())
}

fn settings(text: &str, variables: &[(&str, &str)]) -> Settings {
    try_text(text, variables).map_err(|lines| lines.join("\n")).unwrap_or_else(|lines| panic!("{lines}")).settings
}

fn mistakes(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    try_text(text, variables).err().unwrap_or_default()
}

/// The mistakes of [`LEAST`] with a line more in a section of its own.
fn mistakes_with(section: &str, line: &str) -> Vec<String> {
    mistakes(&LEAST.replace(&format!("[{section}]\n"), &format!("[{section}]\n{line}\n")), &[])
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// A shipped file with its secret files in a directory where they exist.
fn with_secrets(text: &str, dir: &TempDir) -> String {
    for (nth, part) in text.split("/run/secrets/").enumerate().skip(1) {
        let name = part.split('"').next().unwrap();
        let secret = if name.starts_with("broker") { "amqp://u:p@h/%2f".to_owned() } else { format!("secret{nth}") };
        std::fs::write(dir.path().join(name), format!("{secret}\n")).unwrap();
    }
    text.replace("/run/secrets/", &format!("{}/", dir.path().display()))
}

// ------------------------------------------------------------------------------------------ defaults and layers

#[test]
fn the_least_configuration_has_the_defaults_of_the_contract() {
    let read = settings(LEAST, &[]);
    let broker = &read.broker;
    assert_eq!(broker.urls, [Secret::new("amqp://h")]);
    assert_eq!(broker.request_queue, "sharelink.requests");
    assert_eq!(broker.reply_queue, "sharelink.replies");
    assert_eq!(broker.dead_letter_queue, "sharelink.dead");
    assert_eq!(broker.exchange, "sharelink");
    assert_eq!((broker.prefetch, broker.max_request_bytes, broker.max_deliveries), (256, 1_048_576, 16));
    assert_eq!(broker.reply_to_allow, ["*"]);
    assert_eq!(broker.queue_type.as_str(), "quorum");
    assert_eq!(broker.heartbeat, Duration::from_secs(15));
    assert_eq!(read.server.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(read.retry.max_attempts, 8);
    assert_eq!(read.retry.initial_interval, Duration::from_millis(500));
    assert_eq!(read.retry.max_interval, Duration::from_secs(30));
    assert_eq!(read.retry.max_elapsed, Duration::from_secs(900));
    assert_eq!(read.retry.inline_limit, Duration::from_secs(5));
    assert_eq!(read.shutdown.grace, Duration::from_secs(25));
    assert_eq!(read.log.level, "info");
    let contoso = &read.providers["contoso"];
    assert_eq!((contoso.name.as_str(), contoso.timeout), ("contoso", Duration::from_secs(60)));
    assert_eq!((contoso.limits.max_in_flight, contoso.limits.requests_per_minute), (64, 0));
    assert_eq!(contoso.policy, Default::default());
    let ProviderKind::OneDrive(onedrive) = &contoso.kind else { panic!("{contoso:?}") };
    assert_eq!(onedrive.api, OneDriveApi::Graph);
    assert_eq!(onedrive.base_url.as_str(), "https://graph.microsoft.com/v1.0");
    assert_eq!((onedrive.drive.as_str(), onedrive.action.as_str()), ("/me/drive", "createLink"));
}

#[test]
fn the_older_api_has_its_own_defaults() {
    let read = settings(&LEAST.replace("kind =", "api = \"onedrive\"\nkind ="), &[]);
    let ProviderKind::OneDrive(onedrive) = &read.providers["contoso"].kind else { panic!("{read:?}") };
    assert_eq!(onedrive.base_url.as_str(), "https://api.onedrive.com/v1.0");
    assert_eq!((onedrive.drive.as_str(), onedrive.action.as_str()), ("/drive", "action.createLink"));
}

#[test]
fn only_graph_takes_several_calls_in_one() {
    let batching = LEAST.replace("kind =", "batch = true\nkind =");
    let ProviderKind::OneDrive(onedrive) = &settings(&batching, &[]).providers["contoso"].kind else { panic!("Graph") };
    assert!(onedrive.batch);
    let found = mistakes(&batching.replace("batch =", "api = \"onedrive\"\nbatch ="), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("providers.contoso.batch: only Graph"), "{found:?}");
}

#[test]
fn an_oracle_account_builds_its_links_from_the_api_address_unless_told_otherwise() {
    let text = "[broker]\nurl = \"amqp://h\"\n[providers.content]\nkind = \"oracle\"\n\
                base_url = \"https://c.example.com/documents/api/1.2/\"\n[providers.content.auth]\nmethod = \"client_credentials\"\n\
                token_url = \"https://i.example.com/oauth2/v1/token\"\nclient_id = \"c\"\nclient_secret = \"s\"\n";
    let read = settings(text, &[]);
    let content = &read.providers["content"];
    let ProviderKind::Oracle(oracle) = &content.kind else { panic!("{content:?}") };
    assert_eq!(oracle.base_url.as_str(), "https://c.example.com/documents/api/1.2");
    assert_eq!(oracle.public_url.as_str(), "https://c.example.com/documents");
    assert_eq!(oracle.folder_link, "{publicUrl}/link/{linkID}/folder/{id}");
    assert_eq!(oracle.file_link, "{publicUrl}/link/{linkID}/fileview/{id}");
    assert_eq!(oracle.link_name_prefix, "sharelink");
    assert!(matches!(content.auth, Auth::ClientCredentials { client_auth: ClientAuth::Basic, scope: None, .. }));

    let elsewhere = text.replace("/documents/api/1.2/", "/api");
    assert_eq!(
        mistakes(&elsewhere, &[]),
        [
            "x.toml:3: providers.content.public_url: missing; write public_url = \"https://content.example.com/documents\" \
          under [providers.content] in x.toml, or set SHARELINK__PROVIDERS__CONTENT__PUBLIC_URL"
        ]
    );
    let read = settings(&elsewhere.replace("kind", "public_url = \"https://p.example.com/d/\"\nkind"), &[]);
    let ProviderKind::Oracle(oracle) = &read.providers["content"].kind else { panic!("{read:?}") };
    assert_eq!(oracle.public_url.as_str(), "https://p.example.com/d");
}

#[test]
fn a_variable_wins_over_the_file_and_is_read_as_the_kind_that_is_wanted() {
    let read = settings(
        LEAST,
        &[
            ("sharelink__broker__Prefetch", " 64 "),
            ("SHARELINK__BROKER__REPLY_TO_ALLOW", "a.*, b"),
            ("SHARELINK__BROKER__URL", "amqps://other"),
            ("SHARELINK__RETRY__MAX_INTERVAL", "1m"),
            ("SHARELINK__POLICY__REQUIRE_EXPIRY", "TRUE"),
            ("SHARELINK__POLICY__ALLOW_SCOPES", "[\"users\", \"organization\"]"),
            ("SHARELINK__PROVIDERS__CONTOSO__AUTH__TOKEN", "00123"),
            ("SHARELINK_REVISION", "not ours"),
            ("PREFETCH", "not ours"),
        ],
    );
    assert_eq!(read.broker.prefetch, 64);
    assert_eq!(read.broker.reply_to_allow, ["a.*", "b"]);
    assert_eq!(read.broker.urls, [Secret::new("amqps://other")]);
    assert_eq!(read.retry.max_interval, Duration::from_secs(60));
    let contoso = &read.providers["contoso"];
    assert!(contoso.policy.require_expiry);
    assert_eq!(contoso.policy.allow_scopes, Some(vec![Audience::Organization, Audience::Users]));
    assert!(matches!(&contoso.auth, Auth::Bearer { token } if token.reveal() == "00123"));
}

#[test]
fn a_provider_can_live_in_variables_alone_and_a_dash_in_a_name_is_an_underscore_there() {
    let variables = [
        ("SHARELINK__BROKER__URL", "amqp://h"),
        ("SHARELINK__PROVIDERS__Other__KIND", "onedrive"),
        ("SHARELINK__PROVIDERS__OTHER__AUTH__METHOD", "bearer"),
        ("SHARELINK__PROVIDERS__OTHER__AUTH__TOKEN", "t"),
        ("SHARELINK__PROVIDERS__MY_TENANT__TIMEOUT", "5s"),
    ];
    let text = LEAST.replace("contoso", "My-Tenant");
    let read = settings(&text, &variables);
    assert_eq!(read.providers.keys().collect::<Vec<_>>(), ["My-Tenant", "other"]);
    assert_eq!(read.providers["My-Tenant"].timeout, Duration::from_secs(5));
    let without_file = load(None, env(&variables[..4])).unwrap().settings;
    assert_eq!(without_file.providers.keys().collect::<Vec<_>>(), ["other"]);
}

#[test]
fn each_key_of_a_providers_policy_replaces_the_global_one_by_itself() {
    let text = format!(
        "{LEAST}[policy]\nallow_types = [\"view\", \"edit\"]\nmax_expiry = \"90d\"\nrequire_expiry = true\n\
         [providers.contoso.policy]\nallow_types = [\"view\"]\nrequire_expiry = false\n"
    );
    let policy = settings(&text, &[]).providers["contoso"].policy.clone();
    assert_eq!(policy.allow_types, Some(vec!["view".to_owned()]));
    assert_eq!(policy.max_expiry, Some(Duration::from_secs(90 * 86400)));
    assert_eq!((policy.allow_scopes, policy.require_expiry, policy.require_password), (None, false, false));
}

#[test]
fn what_a_command_does_not_need_is_not_looked_at() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("x.toml");
    std::fs::write(&file, LEAST.replace("token = ", "token_file = ").replace("url = ", "url_file = ")).unwrap();
    let alone = |broker, providers| load_for(Needs { broker, providers }, Some(&file), env(&[]));
    assert_eq!(alone(true, true).unwrap_err().len(), 2);
    let local = alone(false, true).unwrap_err();
    assert!(local.to_string().contains("token_file") && local.len() == 1, "{local}");
    let remote = alone(true, false).unwrap_err();
    assert!(remote.to_string().contains("url_file") && remote.len() == 1, "{remote}");
    let neither = alone(false, false).unwrap().settings;
    assert!(neither.broker.urls.is_empty() && neither.providers.is_empty());
}

// ------------------------------------------------------------------------------------------------------ mistakes

#[test]
fn every_mistake_is_reported_at_once_each_with_its_place_its_key_and_what_to_do() {
    let text = r#"
[broker]
url = "amqp://h:5672/"
prefetch = 0
prefecth = 1
topology = "create"
[server]
listen = "9464"
[retry]
initial_interval = 30
max_attempts = "8"
[metrics]
a = 1
[providers.contoso]
kind = "sharepoint"
whatever = 1
[providers.content]
kind = "oracle"
[providers.content.auth]
method = "basic"
token = "t"
"#;
    let found = mistakes(text, &[("SHARELINK__RETRY__MAX_INTERVALL", "1s"), ("SHARELINK__BROKER__HEARTBEAT", "x")]);
    let expected = [
        "x.toml:3: broker.url: the value ends in / and so names a virtual host without a name; write /%2f for the default one",
        "x.toml:4: broker.prefetch: 0 is not allowed; give a whole number from 1 to 2000",
        "x.toml:5: broker.prefecth: no such key; did you mean prefetch?",
        "x.toml:6: broker.topology: \"create\" is not allowed; give \"declare\" or \"verify\"",
        "x.toml:8: server.listen: \"9464\" is not allowed; give an IP address and a port, such as \"127.0.0.1:9464\" or, for every interface, \"0.0.0.0:9464\"",
        "x.toml:10: retry.initial_interval: 30 has no unit; write \"30s\" for seconds, or use ms, m, h or d",
        "x.toml:11: retry.max_attempts: a string is not allowed; give a whole number from 1 to 1000",
        "x.toml:12: metrics: no such section; take it out (known here: broker, log, policy, providers, retry, server, shutdown, state)",
        "x.toml:15: providers.contoso.kind: \"sharepoint\" is not allowed; give \"onedrive\" or \"oracle\"",
        "x.toml:17: providers.content.base_url: missing; write base_url = \"https://content.example.com/documents/api/1.2\" under [providers.content] in x.toml, or set SHARELINK__PROVIDERS__CONTENT__BASE_URL",
        "x.toml:19: providers.content.auth.password_file: missing; write password_file = \"/run/secrets/password\" under [providers.content.auth] in x.toml, or set SHARELINK__PROVIDERS__CONTENT__AUTH__PASSWORD_FILE",
        "x.toml:19: providers.content.auth.username: missing; write username = \"share.worker@example.com\" under [providers.content.auth] in x.toml, or set SHARELINK__PROVIDERS__CONTENT__AUTH__USERNAME",
        "x.toml:21: providers.content.auth.token: no such key with method = \"basic\"; take it out (known here: method, password, password_file, username)",
        "SHARELINK__BROKER__HEARTBEAT: \"x\" is not a time; write a number with a unit (ms, s, m, h, d), such as \"30s\" or \"10m\"",
        "SHARELINK__RETRY__MAX_INTERVALL: no such key; did you mean SHARELINK__RETRY__MAX_INTERVAL?",
    ];
    assert_eq!(found, expected);
}

#[test]
fn nothing_at_all_is_answered_with_the_two_things_that_are_needed() {
    let problems = load_for(Needs { broker: true, providers: true }, Some(Path::new("/nonexistent/x.toml")), env(&[]));
    let said = problems.unwrap_err().to_string();
    assert_eq!(said, "/nonexistent/x.toml: the configuration file does not exist; create it or correct the path");
    let found = mistakes("", &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("x.toml: broker.url: missing; write url = \"amqp://guest:guest@127.0.0.1:5672/%2f\""));
    assert!(found[0].ends_with("under [broker] in x.toml, or set SHARELINK__BROKER__URL"), "{found:?}");
    assert!(found[1].starts_with("x.toml: providers: missing; at least one"), "{found:?}");
}

#[test]
fn a_file_that_is_not_toml_is_told_by_line_and_its_values_are_not_shown() {
    let found = mistakes("[broker]\nurl = amqp://u:hunter2@h\n[retry\n", &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("x.toml:2: this is not TOML: "), "{found:?}");
    assert!(found[1].starts_with("x.toml:3: this is not TOML: "), "{found:?}");
    assert!(!found.join("\n").contains("hunter2"));
}

#[test]
fn a_setting_beyond_its_range_or_of_the_wrong_kind_is_refused() {
    let text = |text: &str| format!("\"{text}\"");
    for (section, key, value) in [
        ("broker", "prefetch", "2001".to_owned()),
        ("broker", "prefetch", "-1".to_owned()),
        ("broker", "prefetch", "1.5".to_owned()),
        ("broker", "prefetch", "99999999999999999999".to_owned()),
        ("broker", "request_queue", text("")),
        ("broker", "request_queue", text(&"q".repeat(256))),
        ("broker", "exchange", text("amq.topic")),
        ("broker", "reply_queue", text("sharelink.requests")),
        ("broker", "dead_letter_queue", text("sharelink.replies")),
        ("broker", "reply_to_allow", text("*")),
        ("broker", "reply_to_allow", "[1]".to_owned()),
        ("broker", "reply_to_allow", "[\"a[b\"]".to_owned()),
        ("broker", "queue_type", text("stream")),
        ("broker", "max_request_bytes", "1".to_owned()),
        ("broker", "max_deliveries", "0".to_owned()),
        ("broker", "connect_timeout", text("0s")),
        ("broker", "publish_timeout", "1979-05-27".to_owned()),
        ("broker", "heartbeat", text("1500ms")),
        ("providers.contoso", "drive", text("me/drive")),
        ("providers.contoso", "drive", text("/")),
        ("providers.contoso", "drive", text("/me/drive?x")),
        ("providers.contoso", "action", text("delete")),
        ("providers.contoso", "api", text("legacy")),
        ("providers.contoso", "timeout", text("11m")),
        ("providers.contoso", "base_url", text("http://graph.example.com/v1.0")),
        ("providers.contoso", "base_url", text("https://u:p@graph.example.com/v1.0")),
        ("providers.contoso", "allow_insecure", text("true")),
        ("providers.contoso", "limits", "{ max_in_flight = 0 }".to_owned()),
        ("providers.contoso", "limits", "{ units_per_minute = -1 }".to_owned()),
        ("providers.contoso", "batch", text("yes")),
        ("providers.contoso", "policy", "{ allow_types = [\"veiw\"] }".to_owned()),
        ("providers.contoso", "policy", "{ allow_scopes = [] }".to_owned()),
        ("providers.contoso", "policy", "{ max_expiry = 90 }".to_owned()),
        ("providers.contoso", "public_url", text("https://h/documents")),
        ("providers.contoso", "limits", "3".to_owned()),
    ] {
        let line = format!("{key} = {value}");
        let found = mistakes_with(section, &line);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].contains(&format!(": {section}.{key}")), "{line}: {found:?}");
    }
}

#[test]
fn retry_intervals_must_be_in_order_and_inside_the_brokers_patience() {
    for (lines, key) in [
        ("initial_interval = \"31s\"", "initial_interval"),
        ("max_interval = \"100ms\"", "max_interval"),
        ("inline_limit = \"11m\"", "inline_limit"),
        ("max_attempts = 0", "max_attempts"),
    ] {
        let found = mistakes(&format!("{LEAST}[retry]\n{lines}\n"), &[]);
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(found[0].starts_with(&format!("x.toml:10: retry.{key}: ")), "{lines}: {found:?}");
    }
}

#[test]
fn plain_http_needs_the_providers_leave_and_is_then_warned_of() {
    let open = LEAST.replace("kind", "allow_insecure = true\nbase_url = \"http://graph.example.com/v1.0\"\nkind");
    let loaded = try_text(&open, &[]).unwrap();
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("x.toml:6: providers.contoso.base_url: plain http"), "{:?}", loaded.warnings);
}

#[test]
fn basic_sign_in_at_oracle_is_a_warning_and_not_a_mistake() {
    let loaded = load(Some(&shipped("demo.toml")), env(&[])).unwrap();
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("providers.content.auth.method: Oracle documents tokens only"));
}

#[test]
fn a_method_of_the_contract_that_is_not_built_in_says_so_once() {
    for method in ["workload_identity", "managed_identity", "certificate"] {
        let found = mistakes(&LEAST.replace("\"bearer\"", &format!("\"{method}\"")), &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("x.toml:7: providers.contoso.auth.method: this method is not built into"),
            "{found:?}"
        );
    }
}

#[test]
fn names_of_providers_that_a_variable_cannot_tell_apart_or_spell_are_refused() {
    let second = LEAST.split_once("[providers").map(|(_, rest)| format!("[providers{rest}")).unwrap();
    for (name, says) in
        [("Contoso", "cannot tell this name from"), ("\"a b\"", "is not allowed as"), ("a__b", "is not allowed as")]
    {
        let found = mistakes(&format!("{LEAST}{}", second.replace("contoso", name)), &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(says), "{found:?}");
    }
}

#[test]
fn a_variable_for_a_misspelt_provider_is_taken_for_the_slip_that_it_is() {
    let found = mistakes(LEAST, &[("SHARELINK__PROVIDERS__CONTOSSO__AUTH__TOKEN", "hunter2")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("did you mean SHARELINK__PROVIDERS__CONTOSO__…?"), "{found:?}");
    assert!(!found[0].contains("hunter2"), "{found:?}");
}

#[test]
fn variables_that_set_nothing_are_mistakes() {
    for (name, says) in [
        ("SHARELINK__BROKER", "names a section"),
        ("SHARELINK__", "no such key"),
        ("SHARELINK__BROKER__", "no such key"),
        ("SHARELINK__BROKER__URL__HOST", "no such key"),
        ("SHARELINK__BROKER__EXCHANG", "did you mean SHARELINK__BROKER__EXCHANGE?"),
        ("SHARELINK__PROVIDERS__CONTOSO__AUTH__PASSWORD", "with method = \"bearer\""),
        ("SHARELINK__PROVIDERS__CONTOSO__PUBLIC_URL", "with kind = \"onedrive\""),
    ] {
        let found = mistakes(LEAST, &[(name, "hunter2")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("{name}: ")) && found[0].contains(says), "{found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

// ------------------------------------------------------------------------------------------------------- secrets

#[test]
fn a_secret_file_loses_its_last_line_end_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("token");
    let text = LEAST.replace("token = \"t\"", &format!("token_file = {:?}", path.display().to_string()));
    for (content, secret) in [("abc\n", "abc"), ("abc\r\n", "abc"), ("abc", "abc"), (" a b \n", " a b ")] {
        std::fs::write(&path, content).unwrap();
        let read = settings(&text, &[]);
        assert!(
            matches!(&read.providers["contoso"].auth, Auth::Bearer { token } if token.reveal() == secret),
            "{content:?}"
        );
    }
    for (content, says) in [
        (&b""[..], "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\n\n", "line break"),
        (b"hunter2\xff", "not UTF-8"),
        (&[b'x'; 70_000], "larger than 65536 bytes"),
    ] {
        std::fs::write(&path, content).unwrap();
        let found = mistakes(&text, &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("x.toml:8: providers.contoso.auth.token_file: "), "{found:?}");
        assert!(found[0].contains(says) && found[0].contains("token\"") && !found[0].contains("hunter2"), "{found:?}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(mistakes(&text, &[])[0].contains("does not exist"));
    std::fs::create_dir(&path).unwrap();
    assert!(mistakes(&text, &[])[0].contains("cannot be read"));
}

#[test]
fn a_secret_given_twice_is_a_mistake_unless_a_variable_stands_over_the_file() {
    let both = LEAST.replace("token =", "token_file = \"/nonexistent\"\ntoken =");
    let found = mistakes(&both, &[]);
    assert_eq!(
        found,
        ["x.toml:9: providers.contoso.auth.token: token_file is given as well, at x.toml:8; keep one of them"]
            .map(|line| line.to_owned())
    );
    let variable = "SHARELINK__PROVIDERS__CONTOSO__AUTH__TOKEN";
    let over = |text: &str| settings(text, &[(variable, "over")]).providers["contoso"].auth.clone();
    for text in [both.as_str(), &LEAST.replace("token = \"t\"", "token_file = \"/nonexistent\"")] {
        assert!(matches!(over(text), Auth::Bearer { token } if token.reveal() == "over"), "{text}");
    }
    let twice = mistakes(LEAST, &[(variable, "a"), (&format!("{variable}_FILE"), "/nonexistent")]);
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(twice[0].contains("keep one of them"), "{twice:?}");
}

#[test]
fn the_brokers_addresses_are_given_in_exactly_one_of_four_ways() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("urls");
    std::fs::write(&path, "amqp://a\n\n amqp://b \n").unwrap();
    let two = [Secret::new("amqp://a"), Secret::new("amqp://b")];
    let instead = |line: &str| LEAST.replace("url = \"amqp://h\"", line);
    assert_eq!(settings(&instead("urls = [\"amqp://a\", \"amqp://b\"]"), &[]).broker.urls, two);
    assert_eq!(settings(&instead(&format!("urls_file = {:?}", path.display().to_string())), &[]).broker.urls, two);
    assert_eq!(settings(LEAST, &[("SHARELINK__BROKER__URLS", "amqp://a,amqp://b")]).broker.urls, two);
    for (line, says) in [
        ("urls = []", "is empty"),
        ("urls = [\"amqp://a\", \"amqp://hunter2@[::1]\"]", "URL 2 of 2: an IPv6 address"),
        ("urls = \"amqp://hunter2@a\"", "a list of strings"),
        ("url = \"hunter2\"", "not a URL"),
        ("url = 5", "a string in quotes"),
        ("url_file = \"amqp://hunter2@a\"", "an address and no path"),
        ("url = \"amqp://a\"\nurls = [\"amqp://hunter2@b\"]", "keep one of them"),
    ] {
        let found = mistakes(&instead(line), &[]);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].contains(says) && !found[0].contains("hunter2"), "{line}: {found:?}");
    }
}

// ------------------------------------------------------------------------------------------------- shipped files

/// The reference with its settings uncommented, `(text, section, key)` of every alternative beside it.
fn reference() -> (Vec<String>, Vec<(usize, String)>) {
    let text = std::fs::read_to_string(shipped("sharelink.toml")).unwrap();
    let (mut lines, mut alternatives): (Vec<String>, Vec<(usize, String)>) = Default::default();
    for line in text.lines() {
        if let Some(alternative) = line.strip_prefix("#:") {
            alternatives.push((lines.len() - 1, alternative.to_owned()));
            continue;
        }
        match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
                lines.push(setting.to_owned())
            }
            _ => assert!(
                line.is_empty() || line == "#" || line.starts_with("# "),
                "neither a remark nor a setting: {line}"
            ),
        }
    }
    (lines, alternatives)
}

#[test]
fn the_reference_as_it_stands_changes_nothing() {
    let variables = [
        ("SHARELINK__BROKER__URL", "amqp://h"),
        ("SHARELINK__PROVIDERS__CONTOSO__KIND", "onedrive"),
        ("SHARELINK__PROVIDERS__CONTOSO__AUTH__METHOD", "bearer"),
        ("SHARELINK__PROVIDERS__CONTOSO__AUTH__TOKEN", "t"),
    ];
    let with = load(Some(&shipped("sharelink.toml")), env(&variables)).unwrap().settings;
    assert_eq!(format!("{with:?}"), format!("{:?}", settings(LEAST, &[])));
}

#[test]
fn the_reference_with_every_line_set_loads_and_its_values_are_the_defaults() {
    let dir = TempDir::new().unwrap();
    let (lines, alternatives) = reference();
    let read = settings(&with_secrets(&lines.join("\n"), &dir), &[]);
    let least = settings(LEAST, &[]);
    let process = |all: &Settings| format!("{:?}", (&all.server, &all.retry, &all.shutdown, &all.log));
    assert_eq!(process(&read), process(&least));
    let queues = |all: &Settings| format!("{:?}", sharelink::config::Broker { urls: vec![], ..all.broker.clone() });
    assert_eq!(queues(&read), queues(&least));
    let described = |all: &Settings| {
        let contoso = &all.providers["contoso"];
        format!("{:?}", (&contoso.kind, &contoso.timeout, &contoso.limits))
    };
    assert_eq!(described(&read), described(&least));
    assert_eq!(read.providers.keys().collect::<Vec<_>>(), ["content", "contoso", "fixed", "personal"]);

    assert!(alternatives.len() >= 8);
    for (at, alternative) in alternatives {
        let mut lines = lines.clone();
        lines[at] = alternative.clone();
        let found = mistakes(&with_secrets(&lines.join("\n"), &dir), &[]);
        assert!(found.is_empty(), "{alternative}: {found:?}");
    }
}

#[test]
fn the_reference_names_every_key_there_is_and_no_other() {
    let (mut lines, alternatives) = reference();
    for (at, alternative) in alternatives.into_iter().rev() {
        lines.insert(at + 1, alternative);
    }
    let mut section = String::new();
    let mut named = BTreeSet::new();
    for line in lines {
        if let Some(name) = line.strip_prefix('[') {
            let mut parts: Vec<&str> = name.trim_end_matches(']').split('.').collect();
            if parts[0] == "providers" {
                parts[1] = "NAME";
            }
            section = parts.join(".");
        } else {
            named.insert(format!("{section}.{}", line.split(' ').next().unwrap()));
        }
    }
    assert_eq!(named, known_keys().into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn the_files_that_are_ready_to_fill_in_load_once_their_secrets_are_there() {
    for (name, provider) in [("onedrive.toml", "contoso"), ("oracle.toml", "content")] {
        let dir = TempDir::new().unwrap();
        let text = std::fs::read_to_string(shipped(name)).unwrap();
        let loaded = try_text(&with_secrets(&text, &dir), &[]).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{name}");
        assert_eq!(loaded.settings.providers.keys().collect::<Vec<_>>(), [provider], "{name}");
        let found = mistakes(&text, &[]);
        assert!(found.len() == 2 && found.iter().all(|line| line.contains("does not exist")), "{name}: {found:?}");
    }
}

#[test]
fn the_demo_speaks_all_three_faces_on_this_machine_only() {
    let read = load(Some(&shipped("demo.toml")), env(&[])).unwrap().settings;
    let address = |name: &str| match &read.providers[name].kind {
        ProviderKind::OneDrive(onedrive) => (Some(onedrive.api), onedrive.base_url.to_string()),
        ProviderKind::Oracle(oracle) => (None, oracle.base_url.to_string()),
    };
    assert_eq!(address("contoso"), (Some(OneDriveApi::Graph), "http://127.0.0.1:9480/graph/v1.0".to_owned()));
    assert_eq!(address("personal"), (Some(OneDriveApi::Legacy), "http://127.0.0.1:9480/onedrive/v1.0".to_owned()));
    assert_eq!(address("content"), (None, "http://127.0.0.1:9480/documents/api/1.2".to_owned()));
    assert!(matches!(&read.providers["contoso"].auth, Auth::ClientCredentials { token_url, .. }
        if token_url.as_str() == "http://127.0.0.1:9480/contoso/oauth2/v2.0/token"));
}

// ------------------------------------------------------------------------------------------------------- anything

/// A word that must never be seen in a message when it was given as a secret.
const CANARY: &str = "cAnArY";

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<String>().prop_map(|text| format!("{text:?}")),
        "[a-z:/%@#?\\[\\]{}0-9. ]{0,20}".prop_map(|text| format!("'{text}'")),
        "[0-9]{1,3}(ms|s|m|h|d)".prop_map(|text| format!("'{text}'")),
        Just("['view', 1, []]".to_owned()),
        Just("{ a = { b = 1 } }".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        prop_oneof![
            "onedrive",
            "oracle",
            "graph",
            "bearer",
            "basic",
            "client_credentials",
            "refresh_token",
            "certificate"
        ]
        .prop_map(|word| format!("{word:?}")),
    ]
}

fn any_secret() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(CANARY.to_owned()),
        "(amqp|amqps|http|)(://|:)[a-z:@\\[\\]/%#? ]{0,8}".prop_map(|start| format!("{start}{CANARY}")),
        "[a-z\\n\\t@:/]{0,4}".prop_map(|end| format!("amqp://u:{CANARY}{end}")),
    ]
}

const SECRETS: [&str; 6] = ["token", "password", "client_secret", "refresh_token", "url", "urls"];

/// Some of the known keys, each with some value; secret ones with the canary in it.
fn any_settings() -> impl Strategy<Value = Vec<(String, String, String)>> {
    let keys: Vec<String> = known_keys().into_iter().filter(|key| !key.ends_with("_file")).collect();
    prop::collection::vec((prop::sample::select(keys), any_value(), any_secret()), 0..24)
}

fn is_secret(key: &str) -> bool {
    key.rsplit('.').next().is_some_and(|last| SECRETS.contains(&last))
}

/// What must hold of every answer.
fn judge(answer: Result<Loaded, sharelink::config::Problems>) -> Result<(), TestCaseError> {
    let said = match answer {
        Ok(loaded) => format!("{:?}{:?}", loaded.settings, loaded.warnings),
        Err(problems) => {
            prop_assert!(!problems.is_empty());
            prop_assert_eq!(problems.to_string().lines().count(), problems.len(), "{}", problems);
            prop_assert!(problems.iter().all(|problem| !problem.text.is_empty() && problem.place != Place::Nowhere));
            problems.to_string()
        }
    };
    prop_assert!(!said.contains(CANARY), "{}", said);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_values_in_a_file_give_settings_or_mistakes_and_never_a_panic_or_a_secret(
        given in any_settings(),
        kind in prop::sample::select(vec!["onedrive", "oracle"]),
        method in prop::sample::select(vec!["bearer", "basic", "client_credentials", "refresh_token"]),
    ) {
        // What decides on the other keys is mostly right, so that those are looked at.
        let mut seen = BTreeSet::from(["providers.NAME.kind".to_owned(), "providers.NAME.auth.method".to_owned()]);
        let lines: String = given.iter().filter(|(key, ..)| seen.insert(key.clone())).map(|(key, value, secret)| {
            let value = if is_secret(key) { toml_text(secret) } else { value.clone() };
            format!("{key} = {value}\n")
        }).collect();
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("x.toml");
        let deciding = format!("providers.NAME.kind = {kind:?}\nproviders.NAME.auth.method = {method:?}\n");
        std::fs::write(&file, deciding + &lines).unwrap();
        judge(load(Some(&file), env(&[])))?;
    }

    #[test]
    fn any_values_in_variables_give_settings_or_mistakes_and_never_a_panic_or_a_secret(given in any_settings()) {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, LEAST).unwrap();
        let variables = given.into_iter().map(|(key, value, secret)| {
            let name = format!("SHARELINK__{}", key.replace('.', "__").replace("NAME", "CONTOSO").to_uppercase());
            (name, if is_secret(&key) { secret } else { value.trim_matches(['\'', '"']).to_owned() })
        });
        judge(load(Some(&file), variables))?;
    }

    #[test]
    fn any_text_at_all_as_the_file_is_answered(text in any::<String>(), name in "(?s).{0,12}", value in any::<String>()) {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("x.toml");
        std::fs::write(&file, &text).unwrap();
        let variables = [(name.clone(), value.clone()), (format!("SHARELINK__{name}"), value)];
        judge(load(Some(&file), variables.into_iter()))?;
    }
}

/// A string of TOML that means this text.
fn toml_text(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| if c.is_control() || matches!(c, '"' | '\\') { format!("\\u{:04X}", c as u32) } else { c.to_string() })
        .collect();
    format!("\"{escaped}\"")
}

#[test]
fn a_file_nested_beyond_reason_is_refused_and_does_not_exhaust_the_stack() {
    for text in [format!("a = {}", "[".repeat(200_000)), format!("{} = 1", vec!["a"; 200_000].join("."))] {
        let found = mistakes(&text, &[]);
        assert!(found.iter().any(|line| line.starts_with("x.toml:1: this is not TOML: ")), "{}", found.len());
    }
    let deep = format!("[{}]", "[".repeat(100_000));
    assert_eq!(mistakes(LEAST, &[("SHARELINK__BROKER__REPLY_TO_ALLOW", &deep)]).len(), 1);
}
