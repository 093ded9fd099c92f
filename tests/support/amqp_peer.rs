//! A scripted AMQP peer: a broker that does by itself what every broker does, and for the rest what the test says, so
//! that orders of frames can be had which a real broker seldom shows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::ShortString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What a connection does before it is open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Complete,
    /// Accepts the socket and never says anything.
    SilentFromTheStart,
    /// Says who it is, and then nothing.
    SilentAfterStart,
    /// Agrees to everything and never opens.
    SilentAfterTune,
    /// Closes instead of opening.
    Refuse(u16, &'static str),
    /// Something that is no frame.
    Garbage,
}

/// What the peer does by itself.
pub struct Rules {
    pub handshake: Handshake,
    /// Messages said to wait in any queue that is asked for.
    pub waiting: u32,
    /// Confirms every message at once.
    pub confirms: bool,
}

/// What came from the worker.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a handful of them live at a time")]
pub enum Seen {
    /// A socket was accepted.
    Accepted,
    /// It consumes.
    Consuming(Line),
    /// It published; `tag` as the confirm has to name it.
    Published(Line, Box<Message>),
    /// It settled a delivery.
    Acked { tag: u64, multiple: bool },
    /// It gave a delivery back.
    GivenBack { tag: u64 },
    /// Its socket ended.
    Ended,
}

/// A published message.
#[derive(Debug, Clone)]
pub struct Message {
    pub tag: u64,
    pub queue: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

impl Message {
    /// The `id` of a reply.
    pub fn id(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["id"].as_str().unwrap().to_owned()
    }
}

/// A connection as the test uses it.
#[derive(Debug, Clone)]
pub struct Line {
    out: mpsc::UnboundedSender<Vec<u8>>,
    /// The channel that consumes or publishes.
    channel: u16,
    consumer: ShortString,
}

impl Line {
    fn send(&self, frames: &[AMQPFrame]) {
        let bytes =
            frames.iter().fold(Vec::new(), |bytes, frame| gen_frame(frame)(bytes.into()).unwrap().into_inner().0);
        // A line that has ended takes nothing any more.
        let _ = self.out.send(bytes);
    }

    fn method(&self, method: basic::AMQPMethod) -> AMQPFrame {
        AMQPFrame::Method(self.channel, AMQPClass::Basic(method))
    }

    fn content(&self, properties: &BasicProperties, body: &[u8]) -> [AMQPFrame; 2] {
        let header = AMQPContentHeader { class_id: 60, body_size: body.len() as u64, properties: properties.clone() };
        [AMQPFrame::Header(self.channel, header), AMQPFrame::Body(self.channel, body.to_vec())]
    }

    /// The channel's number.
    pub fn number(&self) -> u16 {
        self.channel
    }

    /// Delivers requests with the tags 1, 2, 3 …; the body of each is its tag.
    pub fn deliver(&self, tags: std::ops::RangeInclusive<u64>) {
        for tag in tags {
            let deliver = self.method(basic::AMQPMethod::Deliver(basic::Deliver {
                consumer_tag: self.consumer.clone(),
                delivery_tag: tag,
                redelivered: false,
                exchange: "".into(),
                routing_key: "requests".into(),
            }));
            let [header, body] = self.content(&BasicProperties::default(), tag.to_string().as_bytes());
            self.send(&[deliver, header, body]);
        }
    }

    /// Several answers in one write, so that the worker finds them together.
    pub fn answers(&self, answers: &[Answer<'_>]) {
        let mut frames = Vec::new();
        for answer in answers {
            match *answer {
                Answer::Ack(delivery_tag) => {
                    frames.push(self.method(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple: false })));
                }
                Answer::AckUpTo(delivery_tag) => {
                    frames.push(self.method(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple: true })));
                }
                Answer::Nack(delivery_tag) => {
                    let nack = basic::Nack { delivery_tag, multiple: false, requeue: false };
                    frames.push(self.method(basic::AMQPMethod::Nack(nack)));
                }
                Answer::Return(message) => {
                    frames.push(self.method(basic::AMQPMethod::Return(basic::Return {
                        reply_code: 312,
                        reply_text: "NO_ROUTE".into(),
                        exchange: "".into(),
                        routing_key: message.queue.as_str().into(),
                    })));
                    frames.extend(self.content(&message.properties, &message.body));
                }
            }
        }
        self.send(&frames);
    }

    /// Ends the subscription.
    pub fn cancel(&self) {
        let cancel = basic::Cancel { consumer_tag: self.consumer.clone(), nowait: true };
        self.send(&[self.method(basic::AMQPMethod::Cancel(cancel))]);
    }

    /// Ends the channel.
    pub fn close_channel(&self, code: u16, text: &str) {
        let close = channel::Close { reply_code: code, reply_text: text.into(), class_id: 0, method_id: 0 };
        self.send(&[AMQPFrame::Method(self.channel, AMQPClass::Channel(channel::AMQPMethod::Close(close)))]);
    }

    fn connection(&self, method: connection::AMQPMethod) {
        self.send(&[AMQPFrame::Method(0, AMQPClass::Connection(method))]);
    }

    pub fn block(&self, reason: &str) {
        self.connection(connection::AMQPMethod::Blocked(connection::Blocked { reason: reason.into() }));
    }

    pub fn unblock(&self) {
        self.connection(connection::AMQPMethod::Unblocked(connection::Unblocked {}));
    }

    /// Sends bytes as they are.
    pub fn raw(&self, bytes: &[u8]) {
        let _ = self.out.send(bytes.to_vec());
    }
}

/// What a publisher is told.
pub enum Answer<'a> {
    Ack(u64),
    AckUpTo(u64),
    Nack(u64),
    Return(&'a Message),
}

/// A peer that listens.
pub struct Peer {
    address: SocketAddr,
    rules: Arc<Mutex<Rules>>,
    seen: mpsc::UnboundedReceiver<Seen>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let rules = Arc::new(Mutex::new(Rules { handshake: Handshake::Complete, waiting: 0, confirms: false }));
        let (sender, seen) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, rules.clone(), sender));
        Self { address, rules, seen, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("amqp://{}/%2f", self.address)
    }

    pub fn rules(&self) -> MutexGuard<'_, Rules> {
        locked(&self.rules)
    }

    /// The next thing that `pick` takes; what comes before it is passed over.
    pub async fn next<T>(&mut self, what: &str, pick: impl Fn(Seen) -> Option<T>) -> T {
        super::door::soon(what, async {
            loop {
                if let Some(found) = pick(self.seen.recv().await.expect("the peer listens")) {
                    return found;
                }
            }
        })
        .await
    }

    pub async fn consuming(&mut self) -> Line {
        self.next("a subscription", |seen| match seen {
            Seen::Consuming(line) => Some(line),
            _ => None,
        })
        .await
    }

    pub async fn published(&mut self) -> (Line, Message) {
        self.next("a message", |seen| match seen {
            Seen::Published(line, message) => Some((line, *message)),
            _ => None,
        })
        .await
    }

    /// Deliveries settled until `wanted` are: acknowledged ones by tag, and those given back.
    pub async fn settled(&mut self, wanted: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut acked, mut back) = (Vec::new(), Vec::<u64>::new());
        while ((acked.len() + back.len()) as u64) < wanted {
            match self.next("a settlement", Some).await {
                Seen::Acked { tag, multiple: false } => acked.push(tag),
                Seen::Acked { tag, multiple: true } => {
                    acked.extend(
                        (1..=tag).filter(|tag| !acked.contains(tag) && !back.contains(tag)).collect::<Vec<_>>(),
                    );
                }
                Seen::GivenBack { tag } => back.push(tag),
                _ => {}
            }
        }
        acked.sort_unstable();
        back.sort_unstable();
        (acked, back)
    }

    /// Whatever came and was not looked at.
    pub fn rest(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, rules: Arc<Mutex<Rules>>, seen: mpsc::UnboundedSender<Seen>) {
    let mut lines = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        // Each write is a packet of its own.
        socket.set_nodelay(true).unwrap();
        let _ = seen.send(Seen::Accepted);
        let (rules, seen) = (rules.clone(), seen.clone());
        lines.spawn(async move {
            let _ = serve(socket, &rules, &seen).await;
            let _ = seen.send(Seen::Ended);
        });
    }
}

/// The next frame.
async fn frame(socket: &mut OwnedReadHalf) -> std::io::Result<AMQPFrame> {
    let mut bytes = vec![0; 7];
    socket.read_exact(&mut bytes).await?;
    let size = u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]) as usize;
    bytes.resize(7 + size + 1, 0);
    socket.read_exact(&mut bytes[7..]).await?;
    Ok(parse_frame(bytes.as_slice()).expect("the worker sends whole frames").1)
}

async fn serve(
    socket: TcpStream,
    rules: &Arc<Mutex<Rules>>,
    seen: &mpsc::UnboundedSender<Seen>,
) -> std::io::Result<()> {
    let (mut input, mut output) = socket.into_split();
    let (out, mut lines) = mpsc::unbounded_channel::<Vec<u8>>();
    let writer = async move {
        let mut beat = tokio::time::interval(Duration::from_millis(300));
        let mut open = false;
        loop {
            tokio::select! {
                line = lines.recv() => {
                    let Some(line) = line else { return };
                    open = true;
                    if output.write_all(&line).await.is_err() {
                        return;
                    }
                }
                _ = beat.tick(), if open => {
                    let bytes = gen_frame(&AMQPFrame::Heartbeat)(Vec::new().into()).unwrap().into_inner().0;
                    if output.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let handshake = locked(rules).handshake;
    let line = Line { out, channel: 0, consumer: ShortString::default() };
    let reader = async move {
        let mut header = [0; 8];
        input.read_exact(&mut header).await?;
        match handshake {
            Handshake::SilentFromTheStart => {}
            Handshake::Garbage => line.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            _ => line.connection(connection::AMQPMethod::Start(connection::Start {
                version_major: 0,
                version_minor: 9,
                server_properties: Default::default(),
                mechanisms: "PLAIN".into(),
                locales: "en_US".into(),
            })),
        }
        let mut channels = Channels::default();
        loop {
            let (number, class) = match frame(&mut input).await? {
                AMQPFrame::Method(number, class) => (number, class),
                AMQPFrame::Header(number, header) => {
                    channels.header(number, header);
                    channels.complete(number, &line, rules, seen);
                    continue;
                }
                AMQPFrame::Body(number, bytes) => {
                    channels.body(number, &bytes);
                    channels.complete(number, &line, rules, seen);
                    continue;
                }
                _ => continue,
            };
            if let AMQPClass::Connection(method) = class {
                use connection::AMQPMethod as M;
                match (method, handshake) {
                    (M::StartOk(_), Handshake::SilentAfterStart) | (M::Open(_), Handshake::SilentAfterTune) => {}
                    (M::StartOk(_), _) => line.connection(M::Tune(connection::Tune {
                        channel_max: 64,
                        frame_max: 131_072,
                        heartbeat: 60,
                    })),
                    (M::Open(_), Handshake::Refuse(code, text)) => line.connection(M::Close(connection::Close {
                        reply_code: code,
                        reply_text: text.into(),
                        class_id: 0,
                        method_id: 0,
                    })),
                    (M::Open(_), _) => line.connection(M::OpenOk(connection::OpenOk {})),
                    (M::Close(_), _) => line.connection(M::CloseOk(connection::CloseOk {})),
                    _ => {}
                }
                continue;
            }
            let line = Line { channel: number, ..line.clone() };
            let reply = |class| line.send(&[AMQPFrame::Method(number, class)]);
            match class {
                AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
                    reply(AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
                }
                AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                    reply(AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
                }
                AMQPClass::Exchange(exchange::AMQPMethod::Declare(_)) => {
                    reply(AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {})));
                }
                AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) => {
                    let told = queue::DeclareOk {
                        queue: declare.queue,
                        message_count: locked(rules).waiting,
                        consumer_count: 0,
                    };
                    reply(AMQPClass::Queue(queue::AMQPMethod::DeclareOk(told)));
                }
                AMQPClass::Queue(queue::AMQPMethod::Bind(_)) => {
                    reply(AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {})));
                }
                AMQPClass::Confirm(confirm::AMQPMethod::Select(_)) => {
                    reply(AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})));
                }
                AMQPClass::Basic(basic::AMQPMethod::Qos(_)) => {
                    reply(AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {})));
                }
                AMQPClass::Basic(basic::AMQPMethod::Consume(consume)) => {
                    let consumer = consume.consumer_tag;
                    let told = basic::ConsumeOk { consumer_tag: consumer.clone() };
                    reply(AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(told)));
                    let _ = seen.send(Seen::Consuming(Line { consumer, ..line.clone() }));
                }
                AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                    let told = basic::CancelOk { consumer_tag: cancel.consumer_tag };
                    reply(AMQPClass::Basic(basic::AMQPMethod::CancelOk(told)));
                }
                AMQPClass::Basic(basic::AMQPMethod::Publish(publish)) => channels.publish(number, publish),
                AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                    let _ = seen.send(Seen::Acked { tag: ack.delivery_tag, multiple: ack.multiple });
                }
                AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                    let _ = seen.send(Seen::GivenBack { tag: nack.delivery_tag });
                }
                _ => {}
            }
        }
    };
    tokio::select! {
        () = writer => Ok(()),
        ended = reader => ended,
    }
}

/// Messages that are being received, and the confirm tags of each channel.
#[derive(Default)]
struct Channels(std::collections::HashMap<u16, Publishing>);

#[derive(Default)]
struct Publishing {
    tag: u64,
    queue: String,
    properties: BasicProperties,
    size: Option<u64>,
    body: Vec<u8>,
}

impl Channels {
    fn publish(&mut self, channel: u16, publish: basic::Publish) {
        let publishing = self.0.entry(channel).or_default();
        let tag = publishing.tag + 1;
        *publishing = Publishing { tag, queue: publish.routing_key.as_str().to_owned(), ..Publishing::default() };
    }

    fn header(&mut self, channel: u16, header: AMQPContentHeader) {
        let publishing = self.0.entry(channel).or_default();
        publishing.size = Some(header.body_size);
        publishing.properties = header.properties;
    }

    fn body(&mut self, channel: u16, bytes: &[u8]) {
        self.0.entry(channel).or_default().body.extend_from_slice(bytes);
    }

    fn complete(&mut self, channel: u16, line: &Line, rules: &Mutex<Rules>, seen: &mpsc::UnboundedSender<Seen>) {
        let Some(publishing) = self.0.get_mut(&channel) else { return };
        if publishing.size != Some(publishing.body.len() as u64) {
            return;
        }
        publishing.size = None;
        let message = Message {
            tag: publishing.tag,
            queue: publishing.queue.clone(),
            properties: publishing.properties.clone(),
            body: std::mem::take(&mut publishing.body),
        };
        let line = Line { channel, ..line.clone() };
        if locked(rules).confirms {
            line.answers(&[Answer::Ack(message.tag)]);
        }
        let _ = seen.send(Seen::Published(line, Box::new(message)));
    }
}
