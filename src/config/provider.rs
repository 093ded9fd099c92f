//! `[providers.NAME]`: the accounts links are made with, of both kinds.
//!
//! Invariant: a provider's keys are those of its kind; nothing it sends can be read on the way unless it is told so.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::parse::{self, Transport};
use super::problems::{Place, Problem};
use super::reader::{Reader, Section, dotted};
use super::suggest::closest;
use super::tree::{PREFIX, Value, canonical};
use super::{Limits, OneDrive, OneDriveApi, Oracle, Policy, Provider, ProviderKind, auth, policy};

/// The words of `kind`.
pub(super) const KINDS: [(&str, Kind); 2] = [("onedrive", Kind::OneDrive), ("oracle", Kind::Oracle)];

/// The words of `api`.
pub(super) const APIS: [(&str, OneDriveApi); 2] = [("graph", OneDriveApi::Graph), ("onedrive", OneDriveApi::Legacy)];

/// What is written in `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// OneDrive, either generation.
    OneDrive,
    /// Oracle Content Management.
    Oracle,
}

/// Reads every provider.
pub(super) fn read_all(reader: &mut Reader<'_>, global: &Policy) -> BTreeMap<String, Provider> {
    let names = names(reader);
    if names.is_empty() {
        let place = reader.layers.line(None);
        let text = format!(
            "missing; at least one provider is needed: write a section such as [providers.contoso] with kind = \"onedrive\", \
             or set {PREFIX}PROVIDERS__CONTOSO__KIND; config/onedrive.toml and config/oracle.toml are ready to fill in"
        );
        reader.problems.push(Problem { place, key: "providers".to_owned(), text });
    }
    names.into_iter().filter_map(|name| read(reader, &name, global).map(|provider| (name, provider))).collect()
}

/// The names in the file, then those that only variables use, in lower case.
fn names(reader: &mut Reader<'_>) -> Vec<String> {
    reader.section(&["providers"]);
    let mut names: Vec<String> = Vec::new();
    if let Some(entry) = reader.layers.entry(&["providers"])
        && let Value::Table(table) = &entry.value
    {
        for (name, inner) in table.iter().filter(|(_, inner)| matches!(inner.value, Value::Table(_))) {
            let wrong = |text: String| Problem {
                place: reader.layers.line(Some(inner.line)),
                key: dotted(&["providers", name]),
                text,
            };
            if let Some(reason) = unfit(name) {
                reader.problems.push(wrong(reason));
            }
            if let Some(other) = names.iter().find(|other| canonical(&[other]) == canonical(&[name])) {
                reader.problems.push(wrong(format!(
                    "a variable cannot tell this name from {other:?} (case and - against _ do not count); rename one"
                )));
            }
            names.push(name.clone());
        }
    }
    for variable in reader.layers.variables.values() {
        if let [first, name, _, ..] = variable.path.as_slice()
            && first == "providers"
            && !name.is_empty()
            && !names.iter().any(|known| canonical(&[known]) == canonical(&[name]))
        {
            if let Some(text) = unfit(name) {
                let place = Place::Variable(variable.name.clone());
                reader.problems.push(Problem { place, key: dotted(&["providers", name]), text });
            }
            names.push(name.clone());
        }
    }
    names
}

/// What is wrong with a provider's name, if anything is.
fn unfit(name: &str) -> Option<String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let fits = plain && (1..=64).contains(&name.len()) && !canonical(&[name]).contains("__");
    let allowed = "1 to 64 letters, digits, - and _, no two of - and _ in a row";
    (!fits).then(|| format!("{name:?} is not allowed as a provider's name; give {allowed}"))
}

/// Reads one provider; `None` where something that decides on the rest is missing or wrong.
fn read(reader: &mut Reader<'_>, name: &str, global: &Policy) -> Option<Provider> {
    let hint = misspelt(reader, name);
    let mut section = reader.section(&["providers", name]);
    if section.find("kind").is_none() {
        section.missing("kind", &format!("kind = \"onedrive\" or kind = \"oracle\"{hint}"));
    }
    let kind = section.word("kind", &KINDS);
    let timeout = section.duration("timeout", Duration::from_millis(100)..=Duration::from_secs(600));
    let insecure = section.flag("allow_insecure", false);
    let mut limits = section.inner("limits");
    let limits = Limits {
        max_in_flight: limits.integer("max_in_flight", 64, 1..=10_000),
        requests_per_minute: limits.integer("requests_per_minute", 0, 0..=1_000_000),
        units_per_minute: limits.integer("units_per_minute", 0, 0..=5_000_000),
    };
    let policy = policy::read(&mut section.inner("policy"), global);
    let Some(kind) = kind else {
        let path = section.path.clone();
        section.reader.unjudged.push(path);
        return None;
    };
    let spoken = match kind {
        Kind::OneDrive => onedrive(&mut section, insecure).map(ProviderKind::OneDrive),
        Kind::Oracle => oracle(&mut section, insecure).map(ProviderKind::Oracle),
    };
    let word = KINDS.iter().find(|(_, meaning)| *meaning == kind).map_or("", |(word, _)| *word);
    let path = section.path.clone();
    section.reader.conditions.push((path, format!("kind = {word:?}")));
    let auth = auth::read(&mut section.inner("auth"), spoken.as_ref(), kind, insecure);
    Some(Provider {
        name: name.to_owned(),
        kind: spoken?,
        timeout: timeout.unwrap_or(Duration::from_secs(60)),
        limits,
        auth: auth?,
        policy,
    })
}

/// A provider that only variables name may be a slip in the name of one in the file.
fn misspelt(reader: &Reader<'_>, name: &str) -> String {
    let Some(Value::Table(table)) = reader.layers.entry(&["providers"]).map(|entry| &entry.value) else {
        return String::new();
    };
    if table.contains_key(name) {
        return String::new();
    }
    let names: Vec<String> = table.keys().map(|known| canonical(&[known])).collect();
    closest(name, names.iter().map(String::as_str))
        .map(|near| {
            format!(
                " (only variables name this provider; did you mean {PREFIX}PROVIDERS__{}__…?)",
                near.to_uppercase().escape_debug()
            )
        })
        .unwrap_or_default()
}

fn onedrive(section: &mut Section<'_, '_>, insecure: bool) -> Option<OneDrive> {
    let api = section.word("api", &APIS).unwrap_or(OneDriveApi::Graph);
    let (base_url, drive, action) = match api {
        OneDriveApi::Graph => ("https://graph.microsoft.com/v1.0", "/me/drive", "createLink"),
        OneDriveApi::Legacy => ("https://api.onedrive.com/v1.0", "/drive", "action.createLink"),
    };
    let base_url = match section.find("base_url") {
        Some(_) => address(section, "base_url", insecure),
        None => Url::parse(base_url).ok(),
    };
    let drive = match section.text("drive") {
        Some((given, place)) => {
            let trimmed = given.trim_end_matches('/');
            let odd = |c: char| c.is_control() || matches!(c, ' ' | '?' | '#' | '\\');
            if !trimmed.starts_with('/') || trimmed.contains(odd) {
                let example = "\"/me/drive\", \"/drives/b!abc\" or \"/users/ID/drive\"";
                section.wrong(
                    &place,
                    "drive",
                    format!("{given:?} is not allowed; give a path that begins with /, such as {example}"),
                );
            }
            trimmed.to_owned()
        }
        None => drive.to_owned(),
    };
    // Which name an address answers to is told apart in facts published by Microsoft: Graph takes the first, the older
    // API took the second, its present hosts take the third; generated clients spell the last.
    let actions = ["createLink", "action.createLink", "oneDrive.createLink", "microsoft.graph.createLink"];
    let action = section.word("action", &actions.map(|word| (word, word))).unwrap_or(action);
    let batch = section.flag("batch", false);
    if batch && api == OneDriveApi::Legacy {
        let place = section.place_of("batch");
        section.wrong(
            &place,
            "batch",
            "only Graph takes several calls in one; take it out, or set api = \"graph\"".to_owned(),
        );
    }
    Some(OneDrive { api, base_url: base_url?, drive, batch, action: action.to_owned() })
}

fn oracle(section: &mut Section<'_, '_>, insecure: bool) -> Option<Oracle> {
    let base_url = required_address(section, "base_url", "https://content.example.com/documents/api/1.2", insecure);
    let public_url = match (section.find("public_url"), &base_url) {
        (Some(_), _) => address(section, "public_url", insecure),
        (None, None) => None,
        (None, Some(base)) => {
            let derived = up_to_documents(base);
            if derived.is_none() {
                section.missing("public_url", "public_url = \"https://content.example.com/documents\"");
            }
            derived
        }
    };
    let mut template = |key: &str, default: &str| {
        let Some((text, place)) = section.text(key) else { return default.to_owned() };
        if let Err(reason) = parse::link_template(&text) {
            section.wrong(&place, key, reason);
        }
        text
    };
    let folder_link = template("folder_link", "{publicUrl}/link/{linkID}/folder/{id}");
    let file_link = template("file_link", "{publicUrl}/link/{linkID}/fileview/{id}");
    let link_name_prefix = match section.filled_text("link_name_prefix") {
        Some(prefix) if prefix.len() > 64 => {
            let place = section.place_of("link_name_prefix");
            section.wrong(&place, "link_name_prefix", format!("{} bytes are not allowed; give 1 to 64", prefix.len()));
            prefix
        }
        Some(prefix) => prefix,
        None => "sharelink".to_owned(),
    };
    Some(Oracle { base_url: base_url?, public_url: public_url?, folder_link, file_link, link_name_prefix })
}

/// `https://host/documents` of `https://host/documents/api/1.2`.
fn up_to_documents(base: &Url) -> Option<Url> {
    let (before, _) = base.path().split_once("/documents/")?;
    let mut url = base.clone();
    url.set_path(&format!("{before}/documents"));
    Some(url)
}

/// An address that must be there.
pub(super) fn required_address(section: &mut Section<'_, '_>, key: &str, example: &str, insecure: bool) -> Option<Url> {
    if section.find(key).is_none() {
        section.missing(key, &format!("{key} = \"{example}\""));
    }
    address(section, key, insecure)
}

/// An address, if it is there and right.
fn address(section: &mut Section<'_, '_>, key: &str, insecure: bool) -> Option<Url> {
    let (text, place): (String, Place) = section.text(key)?;
    match parse::web_url(&text) {
        Ok((url, Transport::Encrypted | Transport::Local)) => return Some(url),
        Ok((url, Transport::Exposed)) if insecure => {
            section.warn(&place, key, "plain http: whoever is on the way can read credentials and links");
            return Some(url);
        }
        Ok((_, Transport::Exposed)) => {
            let text = "plain http is allowed only for this machine (127.0.0.1, ::1, localhost); write https://, \
                        or set allow_insecure = true for this provider";
            section.wrong(&place, key, text);
        }
        Err(reason) => section.wrong(&place, key, reason),
    }
    None
}
