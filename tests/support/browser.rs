//! A real Chromium, driven through the DevTools protocol over two pipes: no port, no driver program, nothing left behind.

#![allow(dead_code, reason = "each test that shares this file uses a part of it")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Long enough for a busy machine; no test waits for it unless it fails.
const SOON: Duration = Duration::from_secs(90);

/// Chromium reads commands from descriptor 3 and writes answers to descriptor 4; a shell puts our pipes there.
const PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>"$LOG""#;

/// Without a sandbox, because tests run as root in containers, and without anything that speaks to the outside.
const OPTIONS: [&str; 13] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
];

type Answers = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// A running browser with a profile of its own. It ends when it is dropped.
pub struct Browser {
    commands: tokio::sync::Mutex<ChildStdin>,
    answers: Answers,
    events: Arc<Mutex<Vec<Value>>>,
    next: AtomicU64,
    profile: TempDir,
    _child: Child,
}

/// Where the system has Chromium or Chrome.
fn program() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let found = |folder: PathBuf| names.iter().map(move |name| folder.join(name));
    // Some systems have a script of that name that only says how to install it.
    let runs = |path: &PathBuf| {
        let asked = std::process::Command::new(path).arg("--version").output();
        asked.is_ok_and(|output| output.status.success() && String::from_utf8_lossy(&output.stdout).contains("Chrom"))
    };
    std::env::split_paths(&paths).flat_map(found).find(|path| path.is_file() && runs(path))
}

impl Browser {
    /// Starts one. `None`, and a line that says so, where none is installed.
    pub async fn start() -> Option<Self> {
        let Some(program) = program() else {
            println!(
                "skipped: no Chromium on this machine (Debian: the package chromium); `make tools` tries to install it"
            );
            return None;
        };
        let profile = tempfile::Builder::new().prefix("sharelink-browser-").tempdir().expect("a temporary directory");
        let mut child = Command::new("sh")
            .args(["-c", PIPES])
            .arg(program)
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("LOG", profile.path().join("log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("sh can be started");
        let commands = tokio::sync::Mutex::new(child.stdin.take().expect("a piped stdin"));
        let said = child.stdout.take().expect("a piped stdout");
        let (answers, events) = (Answers::default(), Arc::default());
        tokio::spawn(listen(said, answers.clone(), Arc::clone(&events)));
        Some(Self { commands, answers, events, next: AtomicU64::new(1), profile, _child: child })
    }

    /// One command; its result.
    async fn command(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.answers.lock().unwrap().insert(id, sender);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let bytes = format!("{message}\0");
        self.commands.lock().await.write_all(bytes.as_bytes()).await.unwrap_or_else(|_| panic!("{}", self.log()));
        let answer =
            timeout(SOON, answer).await.unwrap_or_else(|_| panic!("{method} is not answered:\n{}", self.log()));
        let mut answer = answer.unwrap_or_else(|_| panic!("Chromium ended in {method}:\n{}", self.log()));
        if let Some(error) = answer.get("error") {
            let said = error["message"].as_str().unwrap_or_default();
            let reloads = said.contains("context was destroyed") || said.contains("target navigated");
            assert!(reloads, "{method}: {answer}");
            // The page is being loaded anew, so there is nothing.
            return Value::Null;
        }
        answer["result"].take()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.profile.path().join("log")).unwrap_or_default()
    }

    /// An empty window of this size, in CSS pixels.
    pub async fn window(&self, width: u32, height: u32) -> Window<'_> {
        let target = self.command(None, "Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.command(None, "Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let window = Window { browser: self, session };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
            window.command(domain, json!({})).await;
        }
        window.size(width, height).await;
        window
    }
}

/// Sorts what the browser says: answers to who waits, everything else to the events.
async fn listen(said: ChildStdout, answers: Answers, events: Arc<Mutex<Vec<Value>>>) {
    let mut said = BufReader::new(said);
    let mut message = Vec::new();
    while said.read_until(0, &mut message).await.is_ok_and(|read| read > 0) {
        if message.last() == Some(&0) {
            message.pop();
        }
        let value: Value = serde_json::from_slice(&message).expect("Chromium writes JSON");
        message.clear();
        match value["id"].as_u64().and_then(|id| answers.lock().unwrap().remove(&id)) {
            Some(waiting) => drop(waiting.send(value)),
            None => events.lock().unwrap().push(value),
        }
    }
    // Whoever still waits is told that nothing comes.
    answers.lock().unwrap().clear();
}

/// One window.
pub struct Window<'a> {
    browser: &'a Browser,
    session: String,
}

impl Window<'_> {
    async fn command(&self, method: &str, parameters: Value) -> Value {
        self.browser.command(Some(&self.session), method, parameters).await
    }

    pub async fn size(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.command("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Sets what the person prefers: `("prefers-color-scheme", "dark")`.
    pub async fn prefers(&self, feature: &str, value: &str) {
        self.command("Emulation.setEmulatedMedia", json!({ "features": [{ "name": feature, "value": value }] })).await;
    }

    /// From the next page on, no script of a page runs.
    pub async fn without_scripts(&self) {
        self.command("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    /// Opens a page and waits until it is there.
    pub async fn open(&self, url: &str) {
        self.command("Page.navigate", json!({ "url": url })).await;
        self.until(&format!("location.href === {} && document.readyState !== 'loading'", json!(url))).await;
    }

    /// What an expression comes to.
    pub async fn value(&self, expression: &str) -> Value {
        let ask = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.command("Runtime.evaluate", ask).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// The text of an element, as it is seen.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({}).innerText", json!(selector))).await;
        text.as_str().expect("a text").to_owned()
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        let waiting = async {
            while self.value(expression).await != Value::Bool(true) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(SOON, waiting).await.is_err() {
            panic!("{expression}: not within {} s in\n{}", SOON.as_secs(), self.text("body").await);
        }
    }

    /// Presses and releases a key: `Tab`, `Enter`.
    pub async fn press(&self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            _ => panic!("no code is known for {key}"),
        };
        let mut event = json!({ "type": "rawKeyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if key == "Enter" {
            event["type"] = json!("keyDown");
            event["text"] = json!("\r");
        }
        self.command("Input.dispatchKeyEvent", event.clone()).await;
        event["type"] = json!("keyUp");
        self.command("Input.dispatchKeyEvent", event).await;
    }

    /// What a screen reader is told: role and name of every node that is not hidden from it.
    pub async fn accessibility(&self) -> Vec<(String, String)> {
        let tree = self.command("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().expect("nodes").iter().filter(|node| node["ignored"] != true);
        let word = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        nodes.map(|node| (word(&node["role"]), word(&node["name"]))).collect()
    }

    fn events(&self, method: &str) -> Vec<Value> {
        let events = self.browser.events.lock().unwrap();
        let ours =
            events.iter().filter(|event| event["sessionId"] == self.session.as_str() && event["method"] == method);
        ours.map(|event| event["params"].clone()).collect()
    }

    /// Everything that the browser complained about: errors and warnings on the console, exceptions, refused content.
    pub fn complaints(&self) -> Vec<String> {
        let bad = |level: &Value| ["error", "warning"].iter().any(|word| level == word);
        let logged = self.events("Log.entryAdded").into_iter().filter(|event| bad(&event["entry"]["level"]));
        let called = self.events("Runtime.consoleAPICalled").into_iter().filter(|event| bad(&event["type"]));
        let thrown = self.events("Runtime.exceptionThrown");
        logged.chain(called).chain(thrown).map(|event| event.to_string()).collect()
    }

    /// Every address that was asked for.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events("Network.requestWillBeSent");
        sent.iter().map(|event| event["request"]["url"].as_str().expect("an address").to_owned()).collect()
    }

    /// How often a page was loaded into the window.
    pub fn loads(&self) -> usize {
        self.events("Page.frameNavigated").len()
    }

    /// A picture of the window, or of the whole page, as PNG.
    pub async fn picture(&self, whole: bool) -> Vec<u8> {
        let picture =
            self.command("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": whole })).await;
        let data = picture["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(data).expect("base64")
    }
}
