//! An HTTP server that plays a script: the answers in order, one a request, each as well or as badly as it says.
//!
//! It is written on a bare socket, because the faults it plays are ones that no server library would commit.

#![allow(dead_code, reason = "each test that shares this file uses a part of it")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Play {
    /// Answers, with these headers beside `Content-Length`.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Answers so much later.
    Late(Duration, Box<Play>),
    /// Says nothing, and keeps the connection.
    Hang,
    /// Closes the connection without a word.
    Close,
    /// Sends the head and a part of the promised body, then breaks the connection with a reset.
    ResetInBody,
    /// Sends the head, then the body byte by byte, with so long between two.
    Drip(Duration),
    /// Sends so many blanks as the body without saying beforehand how many.
    Unannounced(usize),
    /// Answers properly, then closes the kept-alive connection.
    AnswerAndClose(u16, Vec<u8>),
}

/// An answer with a JSON body.
pub fn json(status: u16, body: Value) -> Play {
    Play::Answer(status, vec![("Content-Type", "application/json".to_owned())], body.to_string().into_bytes())
}

/// An answer with a JSON body and a `Retry-After`.
pub fn retry_after(status: u16, wait: &str) -> Play {
    Play::Answer(status, vec![("Retry-After", wait.to_owned())], b"{}".to_vec())
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `POST /v1.0/…`
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The running server; it ends with the test's runtime.
pub struct ScriptServer {
    /// `http://127.0.0.1:PORT`
    pub base: String,
    script: Arc<Mutex<VecDeque<Play>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl ScriptServer {
    /// Starts a server that plays this script. A request beyond its end is answered with 599.
    pub async fn start(script: impl IntoIterator<Item = Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            seen: Arc::default(),
        };
        let (script, seen) = (server.script.clone(), server.seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, script.clone(), seen.clone()));
            }
        });
        server
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    /// Adds to the script.
    pub fn then(&self, play: Play) {
        self.script.lock().unwrap().push_back(play);
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<VecDeque<Play>>>, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Some(request) = read(&mut stream).await {
        let play = {
            seen.lock().unwrap().push(request);
            script.lock().unwrap().pop_front()
        };
        let play = play.unwrap_or_else(|| Play::Answer(599, vec![], b"the script has ended".to_vec()));
        if !perform(&mut stream, play).await {
            return;
        }
    }
}

/// Plays one answer; whether the connection lives on.
async fn perform(stream: &mut TcpStream, play: Play) -> bool {
    match play {
        Play::Answer(status, headers, body) => {
            stream.write_all(&[head(status, &headers, body.len()), body].concat()).await.is_ok()
        }
        Play::Late(wait, play) => {
            tokio::time::sleep(wait).await;
            Box::pin(perform(stream, *play)).await
        }
        Play::Hang => {
            std::future::pending::<()>().await;
            false
        }
        Play::Close => false,
        Play::ResetInBody => {
            let _ = stream.write_all(&[head(201, &[], 1000), b"{\"id\":".to_vec()].concat()).await;
            let _ = stream.set_zero_linger();
            false
        }
        Play::Drip(pause) => {
            let _ = stream.write_all(&head(201, &[], 100_000)).await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(pause).await;
            }
            false
        }
        Play::Unannounced(length) => {
            let _ = stream.write_all(b"HTTP/1.1 201 Played\r\nConnection: close\r\n\r\n").await;
            let _ = stream.write_all(&vec![b' '; length]).await;
            false
        }
        Play::AnswerAndClose(status, body) => {
            let _ = stream.write_all(&[head(status, &[], body.len()), body].concat()).await;
            false
        }
    }
}

fn head(status: u16, headers: &[(&'static str, String)], length: usize) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} Played\r\nContent-Length: {length}\r\n{headers}\r\n").into_bytes()
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = text.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = bytes.split_off(end + 4);
    while body.len() < length.unwrap_or(0) {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { line, headers, body: String::from_utf8(body).ok()? })
}
