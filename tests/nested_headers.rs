//! A message whose headers are nested without end is one malformed request more, and does not end the worker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "support/client.rs"]
mod client;
#[path = "support/rabbit.rs"]
mod rabbit;
#[path = "support/worker_process.rs"]
mod worker_process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use client::Requester;
use rabbit::Rabbit;
use sharelink::simulate::{self, Options};
use tokio::net::TcpListener;
use worker_process::Home;

/// Some times of what ended a worker before it made room; the stack of a test build holds it too.
const LEVELS: usize = 4000;

/// A list in a list in a list, as a table on the wire.
fn nested(levels: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for _ in 0..levels {
        value = [&b"A"[..], &length(&value), &value].concat();
    }
    let entry = [&b"\x01h"[..], &value].concat();
    [&length(&entry)[..], &entry].concat()
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_be_bytes()
}

/// A short string.
fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// As much of an AMQP client as it takes to publish one message: a real one writes headers as recursively as it reads
/// them.
struct Wire(TcpStream);

impl Wire {
    fn open(port: u16) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut wire = Self(socket);
        wire.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
        wire.answer(10, 10);
        let login = b"\0guest\0guest";
        wire.method(0, 10, 11, &[&[0; 4][..], &short("PLAIN"), &length(login), login, &short("en_US")].concat());
        wire.answer(10, 30);
        wire.method(0, 10, 31, &[0, 7, 0, 2, 0, 0, 0, 0]);
        wire.method(0, 10, 40, &[short("/"), short(""), vec![0]].concat());
        wire.answer(10, 41);
        wire.method(1, 20, 10, &short(""));
        wire.answer(20, 11);
        wire
    }

    fn publish(&mut self, queue: &str, headers: &[u8], body: &[u8]) {
        self.method(1, 60, 40, &[vec![0, 0], short(""), short(queue), vec![0]].concat());
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        self.frame(2, 1, &[&[0, 60, 0, 0], &size[..], &[0x20, 0], headers].concat());
        self.frame(3, 1, body);
        // The broker answers the end of the channel when it has read what came before.
        self.method(1, 20, 40, &[&[0, 200][..], &short(""), &[0; 4]].concat());
        self.answer(20, 41);
    }

    fn method(&mut self, channel: u8, class: u8, method: u8, arguments: &[u8]) {
        self.frame(1, channel, &[&[0, class, 0, method], arguments].concat());
    }

    fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        self.0.write_all(&[&[kind, 0, channel], &length(payload)[..], payload, b"\xce"].concat()).unwrap();
    }

    /// Waits for a method.
    fn answer(&mut self, class: u8, method: u8) {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).unwrap();
        let mut rest = vec![0; u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize + 1];
        self.0.read_exact(&mut rest).unwrap();
        assert_eq!((head[0], rest[1], rest[3]), (1, class, method), "{}", rest.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_nested_thousands_deep_do_not_end_the_worker() {
    let node = tokio::task::block_in_place(Rabbit::shared);
    let simulator = simulate::serve(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), Options::default()).await;
    let urls = [node.url()];
    let home = Home::new(&urls, simulator.addresses(), 16);
    let mut worker = home.start(None);
    home.said("connected to the broker", 1).await;
    let requester = Requester::connect(&urls).await;

    let (port, queue) = (node.port(), home.request_queue.clone());
    tokio::task::block_in_place(|| Wire::open(port).publish(&queue, &nested(LEVELS), b"not a request"));

    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    // The copy comes first, then the reply.
    while requester.ready(&home.dead_letter_queue).await + requester.ready(&home.reply_queue).await < 2 {
        assert!(worker.runs(), "the worker ended:\n{}", home.log());
        assert!(
            tokio::time::Instant::now() < deadline,
            "no copy of the malformed request, or no reply:\n{}",
            home.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(requester.ready(&home.reply_queue).await, 1);
    assert_eq!(requester.ready(&home.dead_letter_queue).await, 1);
    assert_eq!(requester.ready(&home.request_queue).await, 0);
    assert_eq!(worker.stop().await.code(), Some(0));
}
