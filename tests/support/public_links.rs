//! A small server that keeps public links as Oracle Content Management does, with an answer spoilt where a test asks
//! for it. Plain TCP, so that a connection can be cut at any point.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};

/// The time on the server's clock.
pub const DATE: &str = "Sun, 22 Nov 2026 10:00:00 GMT";

/// What is done to one answer. `work` says whether the server does its work before.
#[derive(Clone)]
pub enum Fault {
    /// The connection ends without an answer.
    Cut { work: bool },
    /// Another answer.
    Answer { work: bool, status: u16, headers: &'static str, body: String },
    /// No answer before the notification that nobody sends; the first one tells that the work is done.
    Hang { reached: Arc<Notify> },
}

/// How a second link of one name is answered.
#[derive(Clone, Copy)]
pub enum Repeated {
    Allowed,
    Refused { status: u16, code: &'static str },
    Returned,
}

/// What the server holds.
pub struct World {
    /// Links by item path (`folder/F1`).
    pub links: BTreeMap<String, Vec<Map<String, Value>>>,
    /// Method and path of every call, in order.
    pub calls: Vec<(String, String)>,
    /// The last body that came.
    pub body: Value,
    /// The last `Authorization` header.
    pub authorization: String,
    /// Members that every new link gets, whatever was asked.
    pub imposed: Map<String, Value>,
    pub repeated: Repeated,
    /// Each of the next lists waits at one of these.
    pub meet: Vec<Arc<Barrier>>,
    faults: BTreeMap<&'static str, VecDeque<Fault>>,
    made: usize,
}

pub struct Server {
    pub address: SocketAddr,
    world: Arc<Mutex<World>>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World {
            links: BTreeMap::new(),
            calls: Vec::new(),
            body: Value::Null,
            authorization: String::new(),
            imposed: Map::new(),
            repeated: Repeated::Refused { status: 409, code: "-17" },
            meet: Vec::new(),
            faults: BTreeMap::new(),
            made: 0,
        }));
        let shared = Arc::clone(&world);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, world }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Spoils the next answer to a call of that method that has none to come yet.
    pub fn spoil(&self, method: &'static str, fault: Fault) {
        self.world().faults.entry(method).or_default().push_back(fault);
    }

    /// How many calls of that method came.
    pub fn count(&self, method: &str) -> usize {
        self.world().calls.iter().filter(|(called, _)| called == method).count()
    }

    /// The names of an item's links.
    pub fn names(&self, item: &str) -> Vec<String> {
        let world = self.world();
        let links = world.links.get(item).into_iter().flatten();
        links.filter_map(|link| Some(link.get("linkName")?.as_str()?.to_owned())).collect()
    }
}

async fn serve(mut stream: TcpStream, world: Arc<Mutex<World>>) -> Option<()> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(bytes.get(..head_end)?).into_owned();
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let body = serde_json::from_slice(bytes.get(head_end..)?).unwrap_or(Value::Null);

    let (fault, meet) = {
        let mut world = world.lock().unwrap();
        world.calls.push((method.clone(), path.clone()));
        world.authorization = header("authorization").unwrap_or_default();
        let fault = world.faults.get_mut(method.as_str()).and_then(VecDeque::pop_front);
        (fault, (method == "GET").then(|| world.meet.pop()).flatten())
    };
    let works = !matches!(fault, Some(Fault::Cut { work: false } | Fault::Answer { work: false, .. }));
    let (mut status, answer) =
        if works { world.lock().unwrap().answer(&method, &path, &body) } else { (200, Value::Null) };
    // After the list is taken: both callers see the item as it was.
    if let Some(meet) = meet {
        meet.wait().await;
    }
    let (mut headers, mut text) = ("Content-Type: application/json\r\n", answer.to_string());
    match fault {
        None => {}
        Some(Fault::Cut { .. }) => return None,
        Some(Fault::Hang { reached }) => {
            reached.notify_one();
            std::future::pending::<()>().await;
        }
        Some(Fault::Answer { status: other, headers: others, body, .. }) => {
            (status, headers, text) = (other, others, body);
        }
    }
    let head = format!(
        "HTTP/1.1 {status} X\r\nDate: {DATE}\r\nx-oracle-dms-ecid: ecid-7\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.shutdown().await.ok()
}

impl World {
    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let missing = json!({"errorCode": "-16", "errorMessage": "Security validation failed. 'X' does not exist."});
        let rest = ["/documents/api/1.1/publiclinks/", "/documents/api/1.2/publiclinks/"]
            .into_iter()
            .find_map(|base| path.strip_prefix(base));
        let Some(rest) = rest else { return (404, missing) };
        match method {
            "GET" => (200, self.list(rest)),
            "POST" => self.create(rest, body),
            "PUT" => {
                self.body = body.clone();
                let mut all = self.links.values_mut().flatten();
                match all.find(|link| link.get("linkID").and_then(Value::as_str) == Some(rest)) {
                    None => (404, missing),
                    Some(link) => {
                        link.extend(body.as_object().cloned().unwrap_or_default());
                        link.remove("password");
                        let mut answer = link.clone();
                        answer.insert("errorCode".to_owned(), "0".into());
                        (200, Value::Object(answer))
                    }
                }
            }
            "DELETE" => {
                let before: usize = self.links.values().map(Vec::len).sum();
                for links in self.links.values_mut() {
                    links.retain(|link| link.get("linkID").and_then(Value::as_str) != Some(rest));
                }
                if self.links.values().map(Vec::len).sum::<usize>() == before {
                    (404, missing)
                } else {
                    (200, json!({"errorCode": "0", "linkID": rest, "type": "publiclink"}))
                }
            }
            _ => (405, Value::Null),
        }
    }

    fn list(&self, item: &str) -> Value {
        let (kind, id) = item.split_once('/').unwrap_or_default();
        let links = self.links.get(item).map(Vec::as_slice).unwrap_or_default();
        // As the service does: a count in words, and no `items` where there are none.
        let mut list = json!({"count": links.len().to_string(), "id": id, "type": kind, "errorCode": "0"});
        if !links.is_empty() {
            list["items"] = links.iter().cloned().map(Value::Object).collect();
        }
        list
    }

    fn create(&mut self, item: &str, body: &Value) -> (u16, Value) {
        self.body = body.clone();
        let links = self.links.entry(item.to_owned()).or_default();
        let same = links.iter().find(|link| link.get("linkName") == body.get("linkName")).cloned();
        let mut link = match (self.repeated, same) {
            (Repeated::Refused { status, code }, Some(_)) => return (status, json!({ "errorCode": code })),
            (Repeated::Returned, Some(link)) => link,
            _ => {
                self.made += 1;
                let mut link = body.as_object().cloned().unwrap_or_default();
                link.remove("password");
                link.extend(self.imposed.clone());
                link.insert("linkID".to_owned(), format!("L{}", self.made).into());
                link.insert("type".to_owned(), "publiclink".into());
                link.insert("createdTime".to_owned(), "2026-11-22T10:00:00Z".into());
                links.push(link.clone());
                link
            }
        };
        link.insert("errorCode".to_owned(), "0".into());
        link.insert("id".to_owned(), item.split_once('/').unwrap_or_default().1.into());
        (200, Value::Object(link))
    }
}
