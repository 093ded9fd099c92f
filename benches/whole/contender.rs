//! The workers that are compared, and how each is built and started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::process::Command as Start;

/// A worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    Sharelink,
    Go,
    Rust,
    Node,
    AioPika,
    Celery,
}

/// What a contender is told, by environment.
pub struct Told<'a> {
    pub broker: &'a str,
    pub base_url: &'a str,
    pub requests: &'a str,
    pub replies: &'a str,
    pub prefetch: u16,
}

impl Contender {
    pub const ALL: [Contender; 6] = [Self::Sharelink, Self::Go, Self::Rust, Self::Node, Self::AioPika, Self::Celery];

    /// Its name in `BENCH_ONLY`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Sharelink => "sharelink",
            Self::Go => "go",
            Self::Rust => "rust",
            Self::Node => "node",
            Self::AioPika => "aio_pika",
            Self::Celery => "celery",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sharelink => "sharelink",
            Self::Go => "Go",
            Self::Rust => "lapin + reqwest",
            Self::Node => "Node",
            Self::AioPika => "aio-pika",
            Self::Celery => "Celery",
        }
    }

    /// What it is made of, for the table.
    pub fn made_of(self) -> &'static str {
        match self {
            Self::Sharelink => "this worker",
            Self::Go => "amqp091-go, net/http",
            Self::Rust => "a task a delivery, multi-thread runtime",
            Self::Node => "amqplib, undici",
            Self::AioPika => "aio-pika, aiohttp",
            Self::Celery => "gevent pool, requests",
        }
    }

    /// Whether a run takes seconds.
    pub fn is_quick(self) -> bool {
        matches!(self, Self::Sharelink | Self::Go | Self::Rust)
    }

    /// Builds or installs what it needs, below `target`.
    pub fn prepare(self) -> Result<(), String> {
        match self {
            Self::Sharelink | Self::Rust => Ok(()),
            Self::Go => go(),
            Self::Node => node(),
            Self::AioPika | Self::Celery => python(self.folder()),
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::AioPika => "aio_pika",
            other => other.key(),
        }
    }

    /// The process to start; not for [`Contender::Sharelink`], which is configured as a user would.
    pub fn command(self, told: &Told<'_>) -> Start {
        let mut command = match self {
            Self::Sharelink => Start::new(env!("CARGO_BIN_EXE_sharelink")),
            Self::Rust => {
                let mut command = Start::new(std::env::current_exe().expect("this program has a path"));
                command.arg("plain-worker");
                command
            }
            Self::Go => Start::new(tools("go").join("worker")),
            Self::Node => {
                let mut command = Start::new("node");
                command.arg(tools("node").join("worker.mjs"));
                command
            }
            Self::AioPika => {
                let mut command = Start::new(tools("aio_pika").join("bin/python"));
                command.arg(sources("aio_pika").join("worker.py"));
                command
            }
            Self::Celery => {
                let mut command = Start::new(tools("celery").join("bin/celery"));
                command.args([
                    "-A",
                    "worker",
                    "worker",
                    "--pool",
                    "gevent",
                    "--loglevel",
                    "error",
                    "-Q",
                    told.requests,
                ]);
                command.args(["--concurrency", &told.prefetch.to_string()]);
                command.args(["--without-gossip", "--without-mingle", "--without-heartbeat"]);
                command
                    .current_dir(sources("celery"))
                    .envs([("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONWARNINGS", "ignore")]);
                command
            }
        };
        command
            .env("AMQP_URL", told.broker)
            .env("BASE_URL", told.base_url)
            .env("REQUEST_QUEUE", told.requests)
            .env("REPLY_QUEUE", told.replies)
            .env("PREFETCH", told.prefetch.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

fn sources(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/alternatives").join(folder)
}

fn tools(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-alternatives").join(folder)
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok()
}

fn done(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed without a word").to_owned())
}

fn go() -> Result<(), String> {
    const PACKAGES: &str = "/usr/share/gocode";
    if Command::new("go").arg("version").output().is_err() {
        return Err("no `go`; Debian has golang and golang-github-rabbitmq-amqp091-go-dev".to_owned());
    }
    if !Path::new(PACKAGES).join("src/github.com/rabbitmq/amqp091-go").exists() {
        return Err("amqp091-go is missing; Debian has golang-github-rabbitmq-amqp091-go-dev".to_owned());
    }
    std::fs::create_dir_all(tools("go")).map_err(|error| error.to_string())?;
    done(
        Command::new("go")
            .args(["build", "-o"])
            .arg(tools("go").join("worker"))
            .arg(sources("go").join("main.go"))
            .envs([("GO111MODULE", "off"), ("GOPATH", PACKAGES), ("GOFLAGS", "")])
            .env("GOCACHE", tools("go-cache")),
    )
}

fn node() -> Result<(), String> {
    if !has("node") || !has("npm") {
        return Err("no `node` or no `npm`".to_owned());
    }
    let folder = tools("node");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    for file in ["package.json", "worker.mjs"] {
        std::fs::copy(sources("node").join(file), folder.join(file)).map_err(|error| error.to_string())?;
    }
    done(Command::new("npm").args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(folder))
}

fn python(folder: &str) -> Result<(), String> {
    if !has("python3") {
        return Err("no `python3`".to_owned());
    }
    let place = tools(folder);
    if !place.join("bin/pip").exists() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    }
    let wants = sources(folder).join("requirements.txt");
    done(Command::new(place.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(wants))
}
