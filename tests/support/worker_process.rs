//! The worker as it is shipped: the real binary as a process of its own, which can be killed.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use sharelink::simulate::Addresses;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The configuration and the log of a worker through all its lives.
pub struct Home {
    folder: TempDir,
    pub request_queue: String,
    pub reply_queue: String,
    pub dead_letter_queue: String,
}

impl Home {
    /// A worker of the simulated providers, with queues of its own at these nodes.
    pub fn new(urls: &[String], providers: Addresses, prefetch: u16) -> Self {
        let prefix = uuid::Uuid::new_v4().simple().to_string();
        let [request_queue, reply_queue, dead_letter_queue] =
            ["requests", "replies", "dead"].map(|role| format!("{prefix}.{role}"));
        let text = format!(
            r#"[broker]
urls = {urls:?}
request_queue = "{request_queue}"
reply_queue = "{reply_queue}"
dead_letter_queue = "{dead_letter_queue}"
exchange = "{prefix}.sharelink"
prefetch = {prefetch}
max_deliveries = 100
heartbeat = "5s"
connect_timeout = "5s"

[server]
listen = "127.0.0.1:0"

[retry]
initial_interval = "50ms"
max_interval = "1s"
inline_limit = "300ms"

{providers}"#,
            providers = providers.config(),
        );
        let folder = tempfile::Builder::new().prefix("sharelink-worker-").tempdir().unwrap();
        std::fs::write(folder.path().join("sharelink.toml"), text).unwrap();
        Self { folder, request_queue, reply_queue, dead_letter_queue }
    }

    /// Starts a worker; `crash_at` is a crash point and how often it has to be reached.
    pub fn start(&self, crash_at: Option<&str>) -> Worker {
        let variables: Vec<_> = crash_at.map(|point| ("SHARELINK_CRASH_AT", point)).into_iter().collect();
        self.start_with(&variables)
    }

    /// Starts a worker with these environment variables.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Worker {
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sharelink"));
        command.arg("worker").arg("--config").arg(self.folder.path().join("sharelink.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.envs(variables.iter().copied());
        Worker { child: command.spawn().unwrap() }
    }

    /// Runs another command with the worker's configuration; returns its exit code, standard output and standard error.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sharelink"));
        command.args(arguments).arg("--config").arg(self.folder.path().join("sharelink.toml")).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the workers have said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The worker's own queues, but for the delay queues that these tests never reach.
    pub fn queues(&self) -> Vec<String> {
        let delays = ["1s", "2s", "5s", "10s"].map(|step| format!("{}.delay.{step}", self.request_queue));
        let own = [&self.request_queue, &self.reply_queue, &self.dead_letter_queue].map(Clone::clone);
        own.into_iter().chain(delays).collect()
    }

    /// What the latest worker answers at its own HTTP, or why it does not.
    pub async fn get(&self, path: &str) -> String {
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains("metrics, health and the status page"));
        let Some((_, address)) = line.and_then(|line| line.split_once("address=")) else {
            return format!("{path}: the worker has named no address\n");
        };
        let exchange = async {
            let mut stream = TcpStream::connect(address.trim()).await?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        match timeout(Duration::from_secs(10), exchange).await {
            Ok(Ok(answer)) => format!("{path}: {answer}\n"),
            Ok(Err(error)) => format!("{path}: {error}\n"),
            Err(_) => format!("{path}: no answer within 10 s\n"),
        }
    }

    /// Waits until some worker has said this so many times.
    pub async fn said(&self, words: &str, times: usize) {
        let deadline = Instant::now() + SOON;
        while self.log().matches(words).count() < times {
            assert!(Instant::now() < deadline, "{words:?} was not said {times} times:\n{}", self.log());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A worker process. It is killed when it is dropped.
pub struct Worker {
    child: Child,
}

impl Worker {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9), "the worker had ended before");
    }

    /// SIGTERM; waits for the end.
    pub async fn stop(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the worker still runs");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it takes now.
    pub fn footprint(&self) -> Footprint {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = std::fs::read_to_string(proc.join("status")).unwrap();
        let number = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(proc.join("fd")).unwrap().count() as u64;
        let threads = std::fs::read_dir(proc.join("task")).unwrap().filter_map(Result::ok);
        // A thread may have ended since it was listed.
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
        let threads = names.filter(|name| name.trim() != "tokio-rt-worker").count() as u64;
        Footprint { rss_kib: number("VmRSS:"), descriptors, threads }
    }
}

/// What a process takes of its machine.
#[derive(Debug, Clone, Copy)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Threads but for the runtime's pool, which comes and goes with the work: each connection has one.
    pub threads: u64,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
