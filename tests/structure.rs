//! The layering rules and the file map of ARCHITECTURE.md, checked against the source.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `src`, as `src/...`, with its text.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("src"), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The text without comments and without its `#[cfg(test)]` module, which stands last in a file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn each_client_library_is_known_only_where_it_belongs() {
    let rules: &[(&str, &[&str])] = &[
        // The log filter only names a module of lapin's, to silence it.
        ("lapin::", &["src/broker/", "src/telemetry/log.rs"]),
        ("reqwest::", &["src/provider/"]),
        ("oauth2::", &["src/provider/"]),
        ("prometheus::", &["src/telemetry/"]),
        ("backoff::", &["src/pipeline/delays.rs", "src/broker/"]),
        ("axum::", &["src/server/", "src/simulate/"]),
        ("toml::", &["src/config/"]),
        ("clap::", &["src/cli.rs", "src/dead/mod.rs", "src/demo/mod.rs", "src/simulate/"]),
        ("tracing_subscriber::", &["src/telemetry/log.rs", "src/config/process.rs"]),
    ];
    for (name, text) in sources() {
        for (library, homes) in rules {
            assert!(
                !mentions(&code(&text), library) || homes.iter().any(|home| name.starts_with(home)),
                "{name} uses {library}, which belongs to {homes:?}"
            );
        }
    }
}

#[test]
fn dependencies_between_our_modules_point_one_way() {
    /// A folder, and the modules of ours that it may import besides itself.
    const RULES: &[(&str, &[&str])] = &[
        ("src/model/", &[]),
        ("src/config/", &["model"]),
        ("src/telemetry/", &["model", "config"]),
        ("src/pipeline/", &["model", "config", "telemetry"]),
        ("src/provider/", &["model", "config", "telemetry", "pipeline"]),
        ("src/broker/", &["model", "config", "telemetry", "pipeline"]),
        ("src/memory/", &["model", "telemetry", "pipeline"]),
        ("src/server/", &["model", "telemetry"]),
        ("src/simulate/", &["model"]),
        ("src/dead/", &["model", "config", "pipeline", "broker", "app", "exit", "signals"]),
        ("src/check/", &["model", "config", "telemetry", "pipeline", "provider", "broker", "app", "exit"]),
    ];
    for (name, text) in sources() {
        let Some((folder, allowed)) = RULES.iter().find(|(folder, _)| name.starts_with(folder)) else { continue };
        let own = folder.trim_start_matches("src/").trim_end_matches('/');
        for (at, _) in code(&text).match_indices("crate::") {
            let code = code(&text);
            let module: String =
                code[at + "crate::".len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(module == own || allowed.contains(&module.as_str()), "{name} imports crate::{module}");
        }
    }
}

#[test]
fn pure_files_know_no_clock_no_dice_and_do_not_wait() {
    let map = architecture();
    let pure: Vec<_> = map.iter().filter(|(_, purpose)| purpose.starts_with("pure:")).map(|(file, _)| file).collect();
    assert!(pure.len() >= 10, "ARCHITECTURE.md marks pure files with \"pure:\"; found {pure:?}");
    for (name, text) in sources() {
        if pure.contains(&&name) || name.starts_with("src/model/") {
            let code = code(&text);
            for word in ["async ", "::now()", "fastrand", "sleep(", "tokio::", "std::fs", "std::net"] {
                assert!(!code.contains(word), "{name} is marked pure and contains {word}");
            }
        }
    }
}

/// The file map of ARCHITECTURE.md: rows of the form "| `src/x.rs` | purpose |".
fn architecture() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("| `src/"))
        .filter_map(|row| row.split_once("` | "))
        .map(|(file, purpose)| (format!("src/{file}"), purpose.trim_end_matches(" |").to_owned()))
        .collect()
}

#[test]
fn the_file_map_names_every_file_and_no_other() {
    let mapped: BTreeSet<String> = architecture().into_iter().map(|(file, _)| file).collect();
    let there: BTreeSet<String> = sources().into_iter().map(|(file, _)| file).collect();
    assert_eq!(mapped.difference(&there).collect::<Vec<_>>(), Vec::<&String>::new(), "mapped, but not there");
    assert_eq!(there.difference(&mapped).collect::<Vec<_>>(), Vec::<&String>::new(), "there, but not mapped");
}

#[test]
fn every_file_says_in_its_first_line_what_it_owns() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "{name} has no header");
    }
}

#[test]
fn no_file_grows_beyond_reading() {
    for (name, text) in sources() {
        let lines = code(&text).lines().count();
        assert!(lines <= 450, "{name} has {lines} lines of code; split it by purpose");
    }
}

#[test]
fn every_metric_in_the_documents_exists() {
    let metrics = sharelink::telemetry::metrics::Metrics::new(&["p"], &["q"]).unwrap();
    metrics.queue_role("q", "request");
    let metrics = metrics.render().unwrap();
    for document in ["README.md", "ARCHITECTURE.md", "dashboards/README.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for word in text.split(|c: char| !(c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())) {
            let word = word.strip_suffix("_bucket").unwrap_or(word);
            if word.starts_with("sharelink_") && word.ends_with(|c: char| c.is_ascii_lowercase()) {
                assert!(metrics.contains(&format!("# TYPE {word} ")), "{document} names the metric {word}");
            }
        }
    }
}
