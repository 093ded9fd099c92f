//! The deployment files agree with the program: what they set loads, what they copy is there, what they start starts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use sharelink::cli::Cli;
use sharelink::config::{self, ProviderKind, Settings};
use sharelink::exit::Exit;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The Dockerfile's instructions, continued lines joined.
fn dockerfile() -> Vec<(String, String)> {
    let text = read("deploy/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let split = lines.filter_map(|line| line.split_once(' '));
    split.map(|(instruction, rest)| (instruction.to_owned(), rest.trim().to_owned())).collect()
}

fn instructions<'a>(all: &'a [(String, String)], wanted: &str) -> Vec<&'a str> {
    all.iter().filter(|(instruction, _)| instruction == wanted).map(|(_, rest)| rest.as_str()).collect()
}

/// What the image copies from the project.
fn copied() -> Vec<String> {
    let all = dockerfile();
    let copies = instructions(&all, "COPY").into_iter().filter(|rest| !rest.starts_with("--from"));
    copies
        .flat_map(|rest| {
            let words: Vec<&str> = rest.split_whitespace().collect();
            words[..words.len() - 1].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

/// A list in brackets, as Dockerfile and compose.yml write command lines.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A service of compose.yml: the lines below its name, without their indentation.
fn service(name: &str) -> Vec<String> {
    let text = read("deploy/compose.yml");
    let start = text.split_once(&format!("\n  {name}:\n")).unwrap_or_else(|| panic!("no service {name}")).1;
    let lines = start.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| line.trim_start_matches("    ").to_owned()).collect()
}

/// What stands behind a key of a service.
fn value(service: &[String], key: &str) -> String {
    let found = service.iter().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
    found.unwrap_or_else(|| panic!("no {key} in {service:?}")).to_owned()
}

fn environment(service: &[String]) -> BTreeMap<String, String> {
    let below = service.iter().skip_while(|line| line.trim() != "environment:").skip(1);
    let pairs = below.map_while(|line| line.trim().split_once(": "));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// The variables that the image sets.
fn image_environment() -> BTreeMap<String, String> {
    let all = dockerfile();
    let ours = instructions(&all, "ENV").into_iter().filter_map(|rest| rest.split_once('='));
    ours.filter(|(name, _)| name.starts_with("SHARELINK__"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The worker's settings as compose.yml makes them.
fn composed() -> Settings {
    let mut variables = image_environment();
    variables.extend(environment(&service("worker")));
    let text = read("config/demo.toml");
    let loaded = config::load_text("config/demo.toml", &text, variables.into_iter());
    loaded.unwrap_or_else(|problems| panic!("{problems}")).settings
}

fn parses(arguments: &[String]) {
    let line = ["sharelink".to_owned()].into_iter().chain(arguments.iter().cloned());
    Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
}

/// `sharelink` with the image's entry point taken off.
fn port(address: &str) -> u16 {
    address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {address}"))
}

#[test]
fn what_compose_sets_loads_together_with_the_demos_configuration() {
    let settings = composed();
    let simulator = list(&value(&service("simulator"), "command"));
    let listen: SocketAddr = simulator.last().unwrap().parse().unwrap();
    let bases: Vec<_> = settings
        .providers
        .values()
        .map(|provider| match &provider.kind {
            ProviderKind::OneDrive(onedrive) => onedrive.base_url.clone(),
            ProviderKind::Oracle(oracle) => oracle.base_url.clone(),
        })
        .collect();
    assert_eq!(bases.len(), 3);
    for base in bases {
        assert_eq!((base.host_str(), base.port()), (Some("simulator"), Some(listen.port())), "{base}");
    }
    let broker = settings.broker.urls[0].reveal().to_owned();
    assert!(broker.contains("@rabbitmq:"), "{broker}");
    for name in ["rabbitmq", "simulator", "worker", "prometheus", "grafana"] {
        service(name);
    }
}

#[test]
fn every_port_that_is_published_is_one_that_is_listened_on() {
    let settings = composed();
    assert!(settings.server.listen.ip().is_unspecified(), "inside a container only this can be published");
    let all = dockerfile();
    assert_eq!(instructions(&all, "EXPOSE"), [settings.server.listen.port().to_string()]);
    let published = |name: &str, wanted: u16| {
        let target = format!(":{wanted}\"");
        let lines = service(name);
        let line = lines.iter().find(|line| line.trim().starts_with("- \"127.0.0.1:") && line.ends_with(&target));
        assert!(line.is_some(), "{name} does not publish {wanted} to this machine alone: {lines:?}");
    };
    published("worker", settings.server.listen.port());
    published("simulator", port(list(&value(&service("simulator"), "command")).last().unwrap()));
    published("rabbitmq", 5672);
    published("prometheus", 9090);
    published("grafana", 3000);
}

/// What compose.yml puts into a container: path in the project, place in the container.
fn mounts(name: &str) -> Vec<(PathBuf, String)> {
    let lines = service(name);
    let ours = lines.iter().filter_map(|line| line.trim().strip_prefix("- .")?.strip_suffix(":ro"));
    ours.map(|mount| {
        let (from, to) = mount.split_once(':').unwrap();
        (root().join("deploy").join(format!(".{from}")), to.to_owned())
    })
    .collect()
}

/// The file of ours that a path in a container is.
fn mounted(name: &str, path: &str) -> PathBuf {
    let found = mounts(name).into_iter().find_map(|(from, to)| {
        let rest = path.strip_prefix(to.as_str())?;
        Some(if rest.is_empty() { from } else { from.join(rest.trim_start_matches('/')) })
    });
    let found = found.unwrap_or_else(|| panic!("{name} has no {path}"));
    assert!(found.exists(), "{} does not exist", found.display());
    found
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn prometheus_scrapes_the_worker_and_the_broker_and_finds_its_rules_and_its_page() {
    let configuration = yaml("deploy/prometheus.yml");
    let targets: BTreeSet<String> = configuration["scrape_configs"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|job| job["static_configs"][0]["targets"].as_array().unwrap())
        .map(|target| target.as_str().unwrap().to_owned())
        .collect();
    // 15692 is where RabbitMQ's image has rabbitmq_prometheus, which it enables by itself.
    let worker = format!("worker:{}", composed().server.listen.port());
    assert_eq!(targets, BTreeSet::from([worker, "rabbitmq:15692".to_owned()]));
    let lines = service("prometheus");
    let flag = |name: &str| {
        let found = lines.iter().find_map(|line| line.trim().strip_prefix(&format!("- --{name}=")));
        found.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    let file = flag("config.file");
    assert_eq!(mounted("prometheus", &file).canonicalize().unwrap(), root().join("deploy/prometheus.yml"));
    let beside = Path::new(&file).parent().unwrap();
    for rule in configuration["rule_files"].as_array().unwrap() {
        mounted("prometheus", &beside.join(rule.as_str().unwrap()).to_string_lossy());
    }
    mounted("prometheus", &format!("{}/sharelink.html", flag("web.console.templates")));
}

#[test]
fn promtool_finds_no_fault_with_what_prometheus_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    for name in ["recording.yml", "alerts.yml"] {
        std::fs::copy(root().join("dashboards").join(name), rules.join(name)).unwrap();
    }
    let file = folder.path().join("prometheus.yml");
    std::fs::copy(root().join("deploy/prometheus.yml"), &file).unwrap();
    let output = Command::new("promtool").args(["check", "config", "--lint=all", "--lint-fatal"]).arg(&file).output();
    let output = output.expect("this test needs promtool (Debian and Ubuntu: the package prometheus)");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("2 rule files found"), "{said}");
}

#[test]
fn grafana_finds_prometheus_and_both_dashboards_without_a_click() {
    let source = &yaml("dashboards/provisioning/datasources/prometheus.yml")["datasources"][0];
    assert_eq!((source["type"].as_str(), source["url"].as_str()), (Some("prometheus"), Some("http://prometheus:9090")));
    let interval = yaml("deploy/prometheus.yml")["global"]["scrape_interval"].clone();
    assert_eq!(source["jsonData"]["timeInterval"], interval);
    for part in ["datasources/prometheus.yml", "dashboards/sharelink.yml"] {
        mounted("grafana", &format!("/etc/grafana/provisioning/{part}"));
    }
    let provider = &yaml("dashboards/provisioning/dashboards/sharelink.yml")["providers"][0];
    let folder = provider["options"]["path"].as_str().unwrap();
    for name in ["sharelink.json", "sharelink-rabbitmq.json"] {
        mounted("grafana", &format!("{folder}/{name}"));
    }
    mounted("grafana", &environment(&service("grafana"))["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]);
}

#[test]
fn everything_that_is_mounted_is_there() {
    for name in ["prometheus", "grafana"] {
        assert!(!mounts(name).is_empty());
        for (from, _) in mounts(name) {
            assert!(from.exists(), "{} does not exist", from.display());
        }
    }
    // A volume that nobody declares is refused by compose.
    let compose = yaml("deploy/compose.yml");
    for (name, service) in compose["services"].as_object().unwrap() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(from.starts_with('.') || compose["volumes"].get(from).is_some(), "{name}: {from}");
        }
    }
}

#[test]
fn every_command_line_is_one_of_the_programs() {
    let all = dockerfile();
    assert_eq!(instructions(&all, "ENTRYPOINT"), [r#"["/sharelink"]"#]);
    parses(&list(instructions(&all, "CMD")[0]));
    for name in ["worker", "simulator"] {
        parses(&list(&value(&service(name), "command")));
    }
    let target = service("worker").iter().find_map(|line| line.trim().strip_prefix("target: ").map(str::to_owned));
    assert_eq!(list(&value(&service("worker"), "command")).last(), target.as_ref());
    let compose = read("deploy/compose.yml");
    let (_, file) = compose.split_once("\n    file: ").unwrap();
    assert!(root().join("deploy").join(file.lines().next().unwrap()).is_file());
}

#[test]
fn everything_that_the_image_copies_is_there_and_not_ignored_and_is_all_that_the_program_is_built_from() {
    let copied = copied();
    assert!(copied.len() >= 4, "{copied:?}");
    let ignore = read(".dockerignore");
    let let_through: BTreeSet<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignore.lines().any(|line| line == "*"));
    for source in &copied {
        assert!(root().join(source).exists(), "{source}");
        assert!(let_through.contains(source.as_str()), "{source} is ignored");
    }
    // What the source takes in at compile time.
    let mut files = vec![root().join("src")];
    let mut included = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (at, found) in text.match_indices("include_str!(\"").chain(text.match_indices("include_bytes!(\"")) {
            let name = text[at + found.len()..].split('"').next().unwrap();
            let target = path.parent().unwrap().join(name).canonicalize().unwrap();
            let inside = copied.iter().any(|source| target.starts_with(root().join(source).canonicalize().unwrap()));
            assert!(inside, "{} takes in {name}, which the image does not copy", path.display());
            included += 1;
        }
    }
    assert!(included > 0, "the demo's configuration is built in");
    assert!(!root().join("build.rs").exists(), "the image would have to copy it");
}

#[test]
fn the_image_is_small_and_its_process_nobody() {
    let all = dockerfile();
    assert_eq!(*instructions(&all, "FROM").last().unwrap(), "scratch");
    let user = instructions(&all, "USER")[0];
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
}

/// The unit's settings, in order.
fn unit() -> Vec<(String, String)> {
    let text = read("deploy/sharelink.service");
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn of_unit(key: &str) -> String {
    unit().into_iter().find(|(found, _)| found == key).unwrap_or_else(|| panic!("no {key}")).1
}

#[test]
fn the_service_starts_a_command_of_the_program_and_knows_its_exit_codes() {
    let line = of_unit("ExecStart");
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    assert!(words[0].ends_with("/sharelink"), "{line}");
    parses(&words[1..]);
    assert_eq!(of_unit("RestartPreventExitStatus"), Exit::Configuration.code().to_string());
    assert_eq!(of_unit("KillSignal"), "SIGTERM");
}

#[test]
fn whoever_stops_the_worker_waits_longer_than_its_drain() {
    let grace = composed().shutdown.grace;
    let unit = humantime::parse_duration(&of_unit("TimeoutStopSec")).unwrap();
    let compose = humantime::parse_duration(&value(&service("worker"), "stop_grace_period")).unwrap();
    for limit in [unit, compose] {
        assert!(limit >= grace + Duration::from_secs(5), "{limit:?} for a drain of {grace:?}");
    }
}

#[test]
fn systemd_finds_no_fault_with_the_service() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        println!("not checked: systemd-analyze is not installed on this machine");
        return;
    };
    assert!(version.status.success());
    // Where the binary is installed only on the machines that run it.
    let folder = tempfile::tempdir().unwrap();
    let unit: PathBuf = folder.path().join("sharelink.service");
    let text = read("deploy/sharelink.service");
    let here = text.replace("/usr/local/bin/sharelink", env!("CARGO_BIN_EXE_sharelink"));
    assert_ne!(text, here);
    std::fs::write(&unit, here).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It loads units of the machine as well, whose faults are not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("sharelink")).collect();
    assert_eq!(ours, Vec::<&str>::new());
    assert!(output.status.success() || !said.is_empty(), "{}", output.status);
}
