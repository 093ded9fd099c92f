//! README.md is true: its script and its commands are run as they stand there, and what it shows is what comes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/process.rs"]
mod process;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/requester.rs"]
mod requester;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use process::{Worker, over_demo, run, sharelink};
use rabbit::Rabbit;
use requester::Requester;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md can be read")
}

/// The code block that begins with or after this text: its lines.
fn block_from(readme: &str, marker: &str) -> String {
    let at = readme.find(marker).unwrap_or_else(|| panic!("README.md has no {marker:?}"));
    let mut lines = readme[at..].lines().skip_while(|line| !line.starts_with("```")).skip(1);
    let block: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
    block.join("\n")
}

/// The block that follows the block in which this text stands.
fn output_of(readme: &str, command: &str) -> String {
    let at = readme.find(command).unwrap_or_else(|| panic!("README.md has no {command:?}"));
    let after = readme[at..].split_once("\n```\n").expect("the command's block ends").1;
    block_from(after, "```")
}

/// The arguments of the command that README writes as `target/release/sharelink …`.
fn arguments(readme: &str, command: &str) -> Vec<String> {
    let written = format!("target/release/sharelink {command}");
    let line = readme.lines().find(|line| line.starts_with(&written));
    let line = line.unwrap_or_else(|| panic!("README.md has no line {written:?}"));
    let words = line.split('#').next().unwrap_or_default().split_whitespace();
    words.skip(1).map(str::to_owned).collect()
}

/// A Python that can run the script. `.ci/tools` looks in the same places.
fn python() -> &'static str {
    let has_pika = |python: &&str| {
        let asked = Command::new(python).args(["-c", "import pika"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_pika);
    found.expect("this test needs a python3 with pika (Debian and Ubuntu: python3-pika); `make test` installs it")
}

/// `sharelink simulate` as README starts it, but on a free port.
async fn simulator(readme: &str) -> (Child, SocketAddr) {
    let mut command = sharelink();
    command.args(arguments(readme, "simulate")).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a piped stdout")).lines();
    while let Some(line) = lines.next_line().await.expect("the simulator speaks") {
        if let Some((_, rest)) = line.split_once("http://") {
            let address = rest.split('/').next().expect("an address").parse().expect("an address");
            return (child, address);
        }
    }
    panic!("the simulator ended without saying where it listens");
}

/// A reply as the script prints it: the words before the body, and the body.
fn printed(output: &str) -> (String, Value) {
    let (words, body) = output.split_once(" {").unwrap_or_else(|| panic!("no reply: {output:?}"));
    (words.to_owned(), serde_json::from_str(&format!("{{{body}")).expect("a JSON object"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_by_hand_do_what_the_readme_says_and_show_what_it_shows() {
    let readme = readme();
    let python = python();
    let node = tokio::task::block_in_place(Rabbit::shared);
    let (_simulator, simulator) = simulator(&readme).await;
    let mut command = sharelink();
    command.args(arguments(&readme, "worker --config config/demo.toml"));
    for (key, value) in over_demo(&node.url(), simulator) {
        command.env(format!("SHARELINK__{key}"), value);
    }
    let worker = Worker::start(&mut command).await;
    worker.until_ready().await;

    let folder = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(folder.path().join("ask.py"), block_from(&readme, "```python")).expect("the script can be written");
    let commands = block_from(&readme, "<!-- tests/readme.rs runs these commands -->");
    let mut replies = Vec::new();
    for line in commands.lines() {
        assert!(line.starts_with("python3 ask.py "), "{line}");
        let mut shell = tokio::process::Command::new("sh");
        shell.args(["-c", &line.replacen("python3", python, 1)]).current_dir(folder.path()).env("AMQP_URL", node.url());
        let ended = run(&mut shell).await;
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
        replies.push(printed(&ended.stdout));
    }

    let words: Vec<&str> = replies.iter().map(|(words, _)| words.as_str()).collect();
    assert_eq!(words, ["c-1 created", "c-1 created", "c-1 created", "c-1 reused", "c-1 failed", "c-1 failed"]);
    let bodies: Vec<&Value> = replies.iter().map(|(_, body)| body).collect();
    assert_eq!(bodies[0]["link"]["url"], bodies[3]["link"]["url"]);
    assert!(bodies[0]["link"]["url"].as_str().is_some_and(|url| url.starts_with("https://")));
    assert_eq!(bodies[4]["error"]["kind"], "notFound");
    assert_eq!(bodies[5]["error"]["kind"], "invalidRequest");
    assert!(bodies[5]["error"]["message"].as_str().is_some_and(|why| why.contains("expires")), "{}", bodies[5]);
    let requester = Requester::new(&node.url()).await;
    assert_eq!(requester.ready("sharelink.dead").await, Some(1));

    // The curl line, with the metrics put into its pipe.
    let curl = readme.lines().find(|line| line.starts_with("curl ")).expect("README.md has a curl command");
    let (_, filter) = curl.split_once(" | ").expect("the curl command has a filter");
    let shown = piped(filter, &worker.metrics().await.0);
    assert_eq!(shown.trim_end(), output_of(&readme, curl), "README.md shows other metrics than come");
}

/// What a shell command makes of a text.
fn piped(command: &str, text: &str) -> String {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh can be started");
    child.stdin.take().expect("a piped stdin").write_all(text.as_bytes()).expect("the command reads");
    String::from_utf8(child.wait_with_output().expect("the command ends").stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mistakes_that_the_readme_shows_are_told_so() {
    let readme = readme();
    let arguments = arguments(&readme, "worker --config tests/");
    let ended = run(sharelink().args(&arguments)).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let shown = output_of(&readme, &format!("target/release/sharelink {}", arguments.join(" ")));
    assert_eq!(ended.stderr.trim_end(), shown, "README.md shows other mistakes than are told");
    assert_eq!(shown.lines().count(), 4);
}
