//! Loading: the file, the environment over it, every section read, every mistake told at once.
//!
//! Invariant: settings come out only if there was no mistake at all. `toml` with its spans was chosen over `figment`
//! because figment stops at the first mistake and knows no lines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::auth::METHODS;
use super::problems::{Place, Problem, Problems};
use super::provider::{APIS, KINDS};
use super::reader::{ReadFile, Reader};
use super::secrets::{read_secret_file, read_small_file};
use super::tree::{Layers, PREFIX};
use super::{Policy, Settings, broker, policy, process, provider, unknown};

/// Where the configuration is looked for when no file is named.
const DEFAULT_FILE: &str = "config/sharelink.toml";

/// A configuration is some hundred lines; the limit keeps a wrong path from filling the memory. Bytes.
const LARGEST_FILE: u64 = 1024 * 1024;

/// A configuration without a mistake.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings, complete.
    pub settings: Settings,
    /// What is allowed and should be known, a line each, with its place; no secrets.
    pub warnings: Vec<String>,
}

/// What a command needs; what it does not need is not looked at and stays empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// `broker.url` and its alternatives. Not needed by a batch on this machine.
    pub broker: bool,
    /// `[providers]`, with their secret files. Not needed to submit requests or to look at dead letters.
    pub providers: bool,
}

/// [`load_for`] a worker, which needs everything.
///
/// # Errors
/// Every mistake, where there is any.
pub fn load(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, Problems> {
    load_for(Needs { broker: true, providers: true }, file, env)
}

/// Reads the file (the default one where none is named and it exists) and the variables over it, and secrets from the
/// files they name.
///
/// # Errors
/// Every mistake, where there is any: what cannot be read, is not TOML, is unknown, missing, or not allowed.
pub fn load_for(
    needs: Needs,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, Problems> {
    let mut layers = Layers::default();
    let mut problems = layers.read_environment(env);
    if let Some(path) = file.map(Path::to_owned).or_else(default_file) {
        let name = path.display().to_string();
        match read_small_file(&path, LARGEST_FILE) {
            Ok(text) => problems.extend(layers.read_file(&name, &text)),
            Err(reason) => problems.push(Problem {
                place: Place::File { name, line: None },
                key: String::new(),
                text: format!("the configuration file {reason}"),
            }),
        }
    }
    read_layers(needs, layers, problems, &read_secret_file)
}

/// [`load`] of a text that is at hand instead of a file; `name` stands for the file in messages.
///
/// # Errors
/// As for [`load_for`].
pub fn load_text(name: &str, text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, Problems> {
    load_text_with(name, text, env, &read_secret_file)
}

/// [`load_text`] without I/O: `read_file` gives the content of the files that secrets are in, or says in words why not.
///
/// # Errors
/// As for [`load_for`].
pub fn load_text_with(
    name: &str,
    text: &str,
    env: impl Iterator<Item = (String, String)>,
    read_file: &dyn Fn(&Path) -> Result<String, String>,
) -> Result<Loaded, Problems> {
    let mut layers = Layers::default();
    let mut problems = layers.read_environment(env);
    problems.extend(layers.read_file(name, text));
    read_layers(Needs { broker: true, providers: true }, layers, problems, read_file)
}

fn read_layers(
    needs: Needs,
    layers: Layers,
    mut problems: Vec<Problem>,
    read_file: ReadFile<'_>,
) -> Result<Loaded, Problems> {
    // With half a file, what is missing or unknown cannot be told.
    if problems.iter().any(|problem| matches!(problem.place, Place::File { .. })) {
        return Err(Problems::new(problems));
    }
    let mut reader = Reader::new(layers, read_file);
    let settings = read(&mut reader, needs);
    problems.append(&mut reader.problems);
    problems.extend(unknown::problems(&reader));
    if !problems.is_empty() {
        return Err(Problems::new(problems));
    }
    reader.warnings.sort();
    Ok(Loaded { settings, warnings: reader.warnings.iter().map(ToString::to_string).collect() })
}

/// The file that is read when none is named, where it exists.
pub fn default_file() -> Option<PathBuf> {
    Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists())
}

/// This process's variables of ours, for [`load`]. What is not UTF-8 arrives with U+FFFD and is refused there.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| name.get(..PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(PREFIX)))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
}

/// Every key there is, sorted, with `NAME` for a provider's name. It is found by asking, so that it cannot differ from
/// what is read.
pub fn known_keys() -> Vec<String> {
    let mut keys = BTreeSet::new();
    for (kind, _) in KINDS {
        for (api, _) in APIS {
            for (method, _) in METHODS {
                let api = if kind == "onedrive" { format!("api = {api:?}") } else { String::new() };
                let text =
                    format!("[providers.NAME]\nkind = {kind:?}\n{api}\n[providers.NAME.auth]\nmethod = {method:?}\n");
                let mut layers = Layers::default();
                layers.read_file("", &text);
                let mut reader = Reader::new(layers, &|_| Ok(String::new()));
                read(&mut reader, Needs { broker: true, providers: true });
                keys.extend(reader.asked.iter().map(|path| path.join(".")));
            }
        }
    }
    keys.into_iter().collect()
}

fn read(reader: &mut Reader<'_>, needs: Needs) -> Settings {
    let policy = policy::read(&mut reader.section(&["policy"]), &Policy::default());
    let settings = Settings {
        broker: broker::read(reader, needs.broker),
        server: process::server(reader),
        retry: process::retry(reader),
        shutdown: process::shutdown(reader),
        state: process::state(reader),
        log: process::log(reader),
        providers: if needs.providers { provider::read_all(reader, &policy) } else { Default::default() },
    };
    if !needs.providers {
        reader.sections.insert(vec!["providers".to_owned()]);
        reader.unjudged.push(vec!["providers".to_owned()]);
    }
    settings
}
