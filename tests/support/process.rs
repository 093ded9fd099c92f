//! The real program in a process of its own: configured as a person would, watched by its log and its HTTP.

#![allow(dead_code, reason = "each test that shares this file uses a part of it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Long enough for a busy machine; no test waits for it unless it fails.
const SOON: Duration = Duration::from_secs(90);

/// The program, with nothing of this process's environment that could configure it.
pub fn sharelink() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sharelink"));
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().to_ascii_uppercase().starts_with("SHARELINK__")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What a command that ends by itself did.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> Ended {
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = timeout(SOON, running).await.expect("the command ends").expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The names of a worker's queues and of its exchange.
#[derive(Debug, Clone)]
pub struct Names {
    pub requests: String,
    pub replies: String,
    pub dead: String,
    pub exchange: String,
}

/// A configuration: a copy of config/demo.toml with variables over it.
pub struct Setup {
    folder: TempDir,
    variables: BTreeMap<String, String>,
    pub names: Names,
}

impl Setup {
    /// A worker of the demo's three accounts at that broker and that simulator, with queues of its own.
    pub fn new(broker: &str, simulator: SocketAddr) -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        let names = Names {
            requests: format!("{run}.requests"),
            replies: format!("{run}.replies"),
            dead: format!("{run}.dead"),
            exchange: format!("{run}.exchange"),
        };
        let mut setup = Self::with_default_names(broker, simulator);
        setup.set("BROKER__REQUEST_QUEUE", &names.requests);
        setup.set("BROKER__REPLY_QUEUE", &names.replies);
        setup.set("BROKER__DEAD_LETTER_QUEUE", &names.dead);
        setup.set("BROKER__EXCHANGE", &names.exchange);
        setup.names = names;
        setup
    }

    /// The same with the queues of the contract. Only one worker of a node can be tested so.
    pub fn with_default_names(broker: &str, simulator: SocketAddr) -> Self {
        let folder = tempfile::Builder::new().prefix("sharelink-test-").tempdir().expect("a temporary directory");
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo.toml");
        std::fs::copy(demo, folder.path().join("worker.toml")).expect("config/demo.toml can be copied");
        let names = Names {
            requests: "sharelink.requests".to_owned(),
            replies: "sharelink.replies".to_owned(),
            dead: "sharelink.dead".to_owned(),
            exchange: "sharelink".to_owned(),
        };
        let mut setup = Self { folder, variables: BTreeMap::new(), names };
        for (key, value) in over_demo(broker, simulator) {
            setup.set(key, &value);
        }
        setup
    }

    /// Sets a key by its variable: `RETRY__MAX_ATTEMPTS`.
    pub fn set(&mut self, key: &str, value: &str) {
        self.variables.insert(format!("SHARELINK__{key}"), value.to_owned());
    }

    /// Takes an account out of the configuration, the demo's section and the variables over it.
    pub fn without(&mut self, account: &str) {
        let text = std::fs::read_to_string(self.config()).expect("the configuration can be read");
        let (before, rest) = text.split_once(&format!("[providers.{account}]")).expect("the account is there");
        let after = rest.split_inclusive("\n\n").skip_while(|part| !part.starts_with("# ")).collect::<String>();
        std::fs::write(self.config(), format!("{before}{after}")).expect("the configuration can be written");
        let variables = format!("SHARELINK__PROVIDERS__{}__", account.to_ascii_uppercase());
        self.variables.retain(|name, _| !name.starts_with(&variables));
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("worker.toml")
    }

    /// `sharelink worker` with this configuration.
    pub fn command(&self) -> Command {
        let mut command = sharelink();
        command.arg("worker").arg("--config").arg(self.config()).envs(&self.variables);
        command
    }

    /// A worker that serves HTTP, whatever its broker does.
    pub async fn start(&self) -> Worker {
        Worker::start(&mut self.command()).await
    }

    /// A worker that consumes.
    pub async fn ready(&self) -> Worker {
        let worker = self.start().await;
        worker.until_ready().await;
        worker
    }
}

/// What has to be set over config/demo.toml, which names fixed ports.
pub fn over_demo(broker: &str, simulator: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("BROKER__URL", broker.to_owned()),
        ("SERVER__LISTEN", "127.0.0.1:0".to_owned()),
        ("PROVIDERS__CONTOSO__BASE_URL", format!("http://{simulator}/graph/v1.0")),
        ("PROVIDERS__CONTOSO__AUTH__TOKEN_URL", format!("http://{simulator}/contoso/oauth2/v2.0/token")),
        ("PROVIDERS__PERSONAL__BASE_URL", format!("http://{simulator}/onedrive/v1.0")),
        ("PROVIDERS__CONTENT__BASE_URL", format!("http://{simulator}/documents/api/1.2")),
        ("PROVIDERS__CONTENT__PUBLIC_URL", format!("http://{simulator}/documents")),
    ]
}

/// A running worker. It is killed when it is dropped.
pub struct Worker {
    child: Child,
    log: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
    address: SocketAddr,
}

impl Worker {
    /// Starts it and waits until it says where its metrics are.
    pub async fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a piped stderr")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let into = log.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                into.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        let mut worker = Self { child, log, reading, address: ([127, 0, 0, 1], 0).into() };
        let address = async {
            loop {
                let log = worker.log();
                let line = log.lines().find(|line| line.contains("metrics, health and the status page"));
                let address = line.and_then(|line| line.split_once("address=")).map(|(_, address)| address.trim());
                if let Some(address) = address {
                    return address.parse().expect("an address");
                }
                let ended = worker.child.try_wait().expect("the process can be asked");
                assert!(ended.is_none(), "the worker ended, {ended:?}:\n{log}");
                sleep(Duration::from_millis(10)).await;
            }
        };
        let address = timeout(SOON, address).await;
        worker.address = address.unwrap_or_else(|_| panic!("the worker says no address:\n{}", worker.log()));
        worker
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything on standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path).await
    }

    pub async fn metrics(&self) -> Samples {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Samples(text)
    }

    pub async fn until_ready(&self) {
        let ready = async {
            while self.get("/readyz").await.0 != 200 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, ready).await.unwrap_or_else(|_| panic!("the worker does not get ready:\n{}", self.log()));
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("the process can be asked").is_none()
    }

    /// Sends SIGTERM.
    pub async fn terminate(&self) {
        let pid = self.child.id().expect("a running process").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill can be started");
        assert!(sent.success());
    }

    /// Waits for the end; returns it with the whole log.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(SOON, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("the worker does not end:\n{}", self.log())).expect("a status");
        self.reading.await.expect("the log can be read");
        let log = self.log.lock().unwrap().clone();
        (status, log)
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the process can be killed");
    }
}

/// Status and body of a GET, over plain TCP.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(SOON, exchange).await.expect("an answer in time").expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Metrics at one moment.
pub struct Samples(pub String);

impl Samples {
    /// The value of exactly this series, labels sorted by name; it has to be there.
    pub fn value(&self, series: &str) -> f64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{}", self.0)).parse().expect("a number")
    }
}
