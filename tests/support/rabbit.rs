//! A private RabbitMQ node for tests: free ports, an epmd of its own, throw-away data.
//!
//! Nothing is left behind: the node runs under a guard process that ends it, and removes its data, as soon as the
//! test process is gone, however that ended.

#![allow(dead_code, reason = "each test that shares this file uses a part of it")]

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

/// Names the server's own start script where it is not in one of [`PLACES`], or where another version is to be tested;
/// `rabbitmqctl` is beside it.
const SERVER_VARIABLE: &str = "SHARELINK_RABBITMQ_SERVER";

/// Where packages put the server's own script, as in `.ci/tools`; the wrapper in sbin changes the user.
const PLACES: [&str; 3] = [
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
];

/// How long a node may take to start on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(120);

/// Starts epmd and the node in one process group, waits until the test process or the node is gone, then ends the
/// group. `$1` the test process, `$2` the data, `$3` the server.
const GUARD: &str = r#"
epmd -port "$ERL_EPMD_PORT" >/dev/null 2>&1 &
"$3" >"$2/server.log" 2>&1 &
server=$!
while kill -0 "$1" 2>/dev/null && kill -0 "$server" 2>/dev/null; do sleep 0.2; done
kill -0 "$1" 2>/dev/null || rm -rf "$2"
kill -KILL 0
"#;

/// The server's start script.
///
/// # Panics
/// Where there is none.
fn server() -> PathBuf {
    if let Some(named) = std::env::var_os(SERVER_VARIABLE) {
        let named = PathBuf::from(named);
        assert!(named.exists(), "{SERVER_VARIABLE} names {}, which is not there", named.display());
        return named;
    }
    PLACES.map(PathBuf::from).into_iter().find(|place| place.exists()).unwrap_or_else(|| {
        panic!(
            "these tests need a RabbitMQ server (Debian and Ubuntu: the package rabbitmq-server) at one of {PLACES:?}; \
             install it, or name its start script with {SERVER_VARIABLE}, and run `make test` again"
        )
    })
}

/// A node. The data survives [`Rabbit::kill`] and [`Rabbit::start`].
pub struct Rabbit {
    data: TempDir,
    name: String,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    guard: Mutex<Option<Child>>,
}

impl Rabbit {
    /// The node that all tests of this process share.
    pub fn shared() -> &'static Rabbit {
        static NODE: OnceLock<Rabbit> = OnceLock::new();
        NODE.get_or_init(Rabbit::new)
    }

    /// A node of one's own, running.
    ///
    /// # Panics
    /// Where RabbitMQ is not installed or does not start: a test that needs it fails, it does not pass.
    pub fn new() -> Self {
        let [port, dist_port, epmd_port] = free_ports();
        let rabbit = Self::not_started(port, dist_port, epmd_port);
        rabbit.start();
        rabbit
    }

    fn not_started(port: u16, dist_port: u16, epmd_port: u16) -> Self {
        let data = tempfile::Builder::new().prefix("sharelink-rabbit-").tempdir().expect("a temporary directory");
        std::fs::write(data.path().join("plugins"), "[].").expect("the list of plugins can be written");
        let name = format!("t{port}@localhost");
        Self { data, name, port, dist_port, epmd_port, guard: Mutex::new(None) }
    }

    /// The address of the node.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The port of the node.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the node and waits until it answers.
    pub fn start(&self) {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &std::process::id().to_string()])
            .arg(self.data.path())
            .arg(server())
            .envs(self.environment())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        let deadline = Instant::now() + START_WITHIN;
        while let Err(error) = TcpStream::connect(("127.0.0.1", self.port)) {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            let ended = guard.try_wait().expect("the guard can be asked").is_some();
            assert!(!ended && Instant::now() < deadline, "RabbitMQ did not start:\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        *self.guard.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }

    /// Ends the node at once, as a crash would. What the broker has confirmed is there again after [`Rabbit::start`].
    pub fn kill(&self) {
        self.remember_queues();
        self.end();
    }

    /// Has the node write down now which queues it has, which takes a second on a busy machine; [`Rabbit::crash`] is at once.
    pub fn remember_queues(&self) {
        // RabbitMQ writes down within some seconds that a quorum queue exists; a crash before that loses the whole queue,
        // confirmed messages and all (seen with 3.10.8: the queue comes back empty and never gets a leader). Queues of
        // tests are younger than that, so the broker is told to write now.
        self.ctl(&["eval", "catch dets:sync(ra_directory_reverse)."]);
    }

    /// Ends the node at once where [`Rabbit::remember_queues`] has been called since the last queue was made.
    pub fn crash(&self) {
        self.end();
    }

    fn end(&self) {
        if let Some(mut guard) = self.guard.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", guard.id())]).status();
            let _ = guard.wait();
        }
    }

    /// Runs rabbitmqctl against the node; returns what it wrote.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.operator().ctl(arguments).unwrap_or_else(|error| panic!("rabbitmqctl {arguments:?}: {error}"))
    }

    /// Whoever can ask this node questions that AMQP has no words for.
    pub fn operator(&self) -> Operator {
        Operator { name: self.name.clone(), environment: self.environment() }
    }

    /// Has the node show its own metrics; returns the port.
    pub fn serve_metrics(&self) -> u16 {
        let [port, _, _] = free_ports();
        let listen = format!("[{{port, {port}}}, {{ip, \"127.0.0.1\"}}]");
        // Persistent: loading the plugin would otherwise set its own default.
        self.ctl(&[
            "eval",
            &format!("application:set_env(rabbitmq_prometheus, tcp_config, {listen}, [{{persistent, true}}])."),
        ]);
        let output = Command::new(server().with_file_name("rabbitmq-plugins"))
            .args(["-n", &self.name, "enable", "rabbitmq_prometheus"])
            .envs(self.environment())
            .output()
            .expect("rabbitmq-plugins can be started");
        assert!(output.status.success(), "rabbitmq-plugins: {}", String::from_utf8_lossy(&output.stderr));
        port
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| -> String { self.data.path().join(name).to_string_lossy().into_owned() };
        vec![
            ("HOME", path("")),
            ("ERL_EPMD_PORT", self.epmd_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", self.name.clone()),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODE_PORT", self.port.to_string()),
            ("RABBITMQ_DIST_PORT", self.dist_port.to_string()),
            ("RABBITMQ_MNESIA_BASE", path("mnesia")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("ERL_CRASH_DUMP", "/dev/null".to_owned()),
            ("RABBITMQ_CONF_ENV_FILE", path("none")),
            ("RABBITMQ_CONFIG_FILE", path("none")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
        ]
    }

    fn log(&self) -> String {
        let log: PathBuf = self.data.path().join("server.log");
        std::fs::read_to_string(log).unwrap_or_default()
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks a node by rabbitmqctl, with nothing of the node's own life in it.
#[derive(Debug, Clone)]
pub struct Operator {
    name: String,
    environment: Vec<(&'static str, String)>,
}

impl Operator {
    /// Runs rabbitmqctl; returns what it wrote, or its complaint.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(server().with_file_name("rabbitmqctl"));
        command.args(["-n", &self.name]).args(arguments).envs(self.environment.iter().cloned());
        let output = command.output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// What waits in each queue, what is out, who leads it, and how this node's member of it sees itself.
    pub fn queues(&self) -> String {
        let columns = "name messages_ready messages_unacknowledged consumers leader members online";
        let mut list = vec!["--quiet", "--timeout", "20", "list_queues"];
        list.extend(columns.split(' '));
        let members = ["--quiet", "--timeout", "20", "eval", "catch ets:tab2list(ra_state)."];
        let told = [&list[..], &members].map(|arguments| self.ctl(arguments).unwrap_or_else(|error| error));
        format!("{}\n{}\n{}\n", self.name, told[0], told[1])
    }
}

/// Keeps an epmd for a cluster until the test process is gone, so that no node's end takes it along. `$1` the test process.
const EPMD_GUARD: &str = r#"
epmd -port "$ERL_EPMD_PORT" >/dev/null 2>&1 &
while kill -0 "$1" 2>/dev/null; do sleep 0.2; done
kill -KILL 0
"#;

/// Three nodes that are one broker.
pub struct Cluster {
    pub nodes: Vec<Rabbit>,
    epmd: Child,
}

impl Cluster {
    /// A running cluster. Takes about 20 s.
    pub fn new() -> Self {
        let [epmd_port, _, _] = free_ports();
        let epmd = Command::new("sh")
            .args(["-c", EPMD_GUARD, "guard", &std::process::id().to_string()])
            .env("ERL_EPMD_PORT", epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        let nodes: Vec<Rabbit> = (0..3)
            .map(|_| {
                let [port, dist_port, _] = free_ports();
                let node = Rabbit::not_started(port, dist_port, epmd_port);
                let cookie = node.data.path().join(".erlang.cookie");
                std::fs::write(&cookie, format!("COOKIE{epmd_port}")).expect("the cookie can be written");
                std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400)).expect("it is ours");
                node
            })
            .collect();
        std::thread::scope(|scope| {
            for node in &nodes {
                scope.spawn(|| node.start());
            }
        });
        if let Some((first, others)) = nodes.split_first() {
            for node in others {
                node.ctl(&["await_startup"]);
                node.ctl(&["stop_app"]);
                node.ctl(&["join_cluster", &first.name]);
                node.ctl(&["start_app"]);
            }
        }
        Self { nodes, epmd }
    }

    /// The node on which the leader of a queue runs.
    pub fn leader(&self, queue: &str) -> Option<&Rabbit> {
        let asked = self.nodes.first()?;
        let list = asked.ctl(&["--quiet", "list_queues", "name", "leader"]);
        let row = list.lines().find(|row| row.split_whitespace().next() == Some(queue))?;
        self.nodes.iter().find(|node| row.split_whitespace().nth(1) == Some(node.name.as_str()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.end();
        }
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.epmd.id())]).status();
        let _ = self.epmd.wait();
    }
}

/// Ports nobody listens on, all held until all are known. None of those that systems give to outgoing connections, which
/// could take one before the node does, or while it is down.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| {
        let free = (0..1000).find_map(|_| TcpListener::bind(("127.0.0.1", fastrand::u16(10_000..30_000))).ok());
        free.expect("a free port")
    });
    listeners.map(|listener| listener.local_addr().expect("a bound port").port())
}
