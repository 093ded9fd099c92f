//! Private servers that keep series: Prometheus, and VictoriaMetrics where it is installed. Free ports, throw-away data;
//! they end with the test.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::folder;
use crate::requester::until;

/// How long a query may take on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A server that answers PromQL.
pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port")
}

/// deploy/prometheus.yml with these targets, asked every second.
fn configuration(workers: &[SocketAddr], broker_metrics: u16, rules: bool) -> String {
    let path = folder().with_file_name("deploy/prometheus.yml");
    let mut text = std::fs::read_to_string(path).unwrap();
    let targets = workers.iter().map(|worker| format!("\"{worker}\"")).collect::<Vec<_>>().join(", ");
    let broker = format!("127.0.0.1:{broker_metrics}");
    for (from, to) in [
        ("\"worker:9464\"", targets.as_str()),
        ("rabbitmq:15692", &broker),
        ("_interval: 15s", "_interval: 1s"),
        ("rules/", &format!("{}/", folder().display())),
    ] {
        assert!(text.contains(from), "deploy/prometheus.yml has no {from}");
        text = text.replace(from, to);
    }
    if !rules {
        let (before, after) = text.split_once("rule_files:").unwrap();
        text = format!("{before}{}", &after[after.find("scrape_configs:").unwrap()..]);
    }
    text
}

impl Server {
    /// A Prometheus with our rules and our console page.
    pub async fn prometheus(workers: &[SocketAddr], broker_metrics: u16) -> Self {
        let (folder_, address) = (tempfile::tempdir().unwrap(), free_address());
        let file = folder_.path().join("prometheus.yml");
        std::fs::write(&file, configuration(workers, broker_metrics, true)).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder_.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--web.console.templates={}", folder().join("console").display()));
        let server = Self::start("Prometheus", command, folder_, address)
            .expect("this test needs Prometheus (Debian and Ubuntu: the package prometheus); `make test` installs it");
        server.until_well("/-/ready").await;
        server
    }

    /// A VictoriaMetrics that scrapes the same; nothing where it is not installed.
    pub async fn victoria(workers: &[SocketAddr], broker_metrics: u16) -> Option<Self> {
        let (folder_, address) = (tempfile::tempdir().unwrap(), free_address());
        let file = folder_.path().join("scrape.yml");
        std::fs::write(&file, configuration(workers, broker_metrics, false)).unwrap();
        let mut command = Command::new("victoria-metrics");
        command
            .arg(format!("-promscrape.config={}", file.display()))
            .arg("-promscrape.config.strictParse=false")
            .arg(format!("-storageDataPath={}", folder_.path().join("data").display()))
            .arg(format!("-httpListenAddr={address}"))
            .arg("-search.latencyOffset=1s");
        let server = Self::start("VictoriaMetrics", command, folder_, address)?;
        server.until_well("/health").await;
        Some(server)
    }

    fn start(name: &'static str, mut command: Command, folder: TempDir, address: SocketAddr) -> Option<Self> {
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn();
        process.ok().map(|process| Self { name, address, _process: process, _folder: folder })
    }

    async fn until_well(&self, path: &str) {
        until(self.name, async || matches!(fetch(self.address, path).await, Ok((200, _)))).await;
    }

    /// The answer of the HTTP API, or what is wrong with the question.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let (status, body) =
            fetch(self.address, &format!("{path}?{query}")).await.map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{status} {error}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(format!("{status} {body}")),
        }
    }
}

/// Status and body of a GET, in HTTP/1.0, in which nothing is chunked.
pub async fn fetch(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(ANSWER_WITHIN, exchange).await.map_err(std::io::Error::other)??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no whole answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}
