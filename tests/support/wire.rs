//! As much of an AMQP client as it takes to publish a message as no client library would: each of them writes only what it
//! can read itself.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The property flag of the headers.
pub const HEADERS: u16 = 1 << 13;
/// The property flag of the correlation id.
pub const CORRELATION_ID: u16 = 1 << 10;

/// A length before what it is the length of.
pub fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_be_bytes()
}

/// A short string, whatever is in it.
pub fn short(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A connection with one channel.
pub struct Wire(TcpStream);

impl Wire {
    pub fn open(port: u16) -> Self {
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

    /// Publishes one message with these properties, each flag's in the order of the flags, and waits until the broker has
    /// read it.
    pub fn publish(mut self, queue: &str, flags: u16, properties: &[u8], body: &[u8]) {
        self.method(1, 60, 40, &[vec![0, 0], short(""), short(queue), vec![0]].concat());
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        self.frame(2, 1, &[&[0, 60, 0, 0], &size[..], &flags.to_be_bytes(), properties].concat());
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
