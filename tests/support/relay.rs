//! A TCP relay that spoils what it carries, on order: cut, black hole, half-open, slow, late. What it does is decided by
//! the test alone.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// What happens to bytes, on every connection there is and will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// They arrive.
    Fair,
    /// They arrive so much later.
    Late(Duration),
    /// At most so many bytes a second arrive.
    Slow(usize),
    /// Connections are accepted and nothing arrives, either way.
    BlackHole,
    /// Nothing that the client sends arrives.
    DeafServer,
    /// Nothing that the server sends arrives.
    DeafClient,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl Weather {
    fn swallows(self, way: Way) -> bool {
        match self {
            Self::BlackHole => true,
            Self::DeafServer => way == Way::ToServer,
            Self::DeafClient => way == Way::ToClient,
            Self::Fair | Self::Late(_) | Self::Slow(_) => false,
        }
    }
}

/// A relay in front of a server.
pub struct Relay {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Counts the cuts; a connection ends when it changes.
    cuts: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub async fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let weather = watch::Sender::new(Weather::Fair);
        let cuts = watch::Sender::new(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, weather.subscribe(), cuts.subscribe()));
        Self { address, weather, cuts, _tasks: tasks }
    }

    /// The server's address, by way of the relay.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    pub fn weather(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Resets every connection there is. New ones are accepted.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections that are being carried.
    pub fn carried(&self) -> usize {
        // One receiver is the accepting task's.
        self.cuts.receiver_count().saturating_sub(1)
    }
}

async fn accept(listener: TcpListener, server: u16, weather: watch::Receiver<Weather>, cuts: watch::Receiver<u64>) {
    let mut carried = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while carried.try_join_next().is_some() {}
        carried.spawn(carry(client, server, weather.clone(), cuts.clone()));
    }
}

async fn carry(client: TcpStream, server: u16, weather: watch::Receiver<Weather>, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    for socket in [&client, &server] {
        socket.set_nodelay(true).unwrap();
        // Closing is then a reset, as when a machine or a firewall drops a connection.
        socket.set_zero_linger().unwrap();
    }
    let ((client_in, client_out), (server_in, server_out)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pump(client_in, server_out, Way::ToServer, weather.clone()) => {}
        () = pump(server_in, client_out, Way::ToClient, weather) => {}
        _ = cuts.changed() => {}
    }
}

/// Carries bytes one way until the source ends.
async fn pump(mut source: OwnedReadHalf, target: OwnedWriteHalf, way: Way, weather: watch::Receiver<Weather>) {
    let (sender, receiver) = mpsc::channel(64);
    let read = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            let weather = *weather.borrow();
            if weather.swallows(way) {
                continue;
            }
            let delay = match weather {
                Weather::Late(delay) => delay,
                _ => Duration::ZERO,
            };
            let chunk = (Instant::now() + delay, buffer.get(..count).unwrap_or_default().to_vec());
            if sender.send(chunk).await.is_err() {
                return;
            }
            if let Weather::Slow(bytes) = weather {
                sleep(Duration::from_secs_f64(count as f64 / bytes as f64)).await;
            }
        }
    };
    tokio::join!(read, write(target, receiver));
}

/// Writes each chunk when its time has come.
async fn write(mut target: OwnedWriteHalf, mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>) {
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        if target.write_all(&chunk).await.is_err() {
            return;
        }
    }
}
