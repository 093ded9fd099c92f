//! The socket under a connection, with a handle that ends it from outside.
//!
//! The client library waits for the broker's side of the handshake without a limit, in a thread of its own, and dropping
//! the attempt ends neither (lapin 4.12.3, src/io_loop.rs, `start`). A socket that was hung up does: no attempt outlives
//! its time.

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_compat::Compat;
use lapin::AsyncTcpStream;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A second handle of a socket, for the time of the handshake.
#[derive(Debug, Clone, Default)]
pub(crate) struct HangUp(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
enum Line {
    /// No socket yet, or it is none of our business any more.
    #[default]
    Idle,
    Open(std::net::TcpStream),
    HungUp,
}

impl HangUp {
    /// Ends the socket, and any that is still to come.
    pub(crate) fn hang_up(&self) {
        if let Line::Open(socket) = std::mem::replace(&mut *self.line(), Line::HungUp) {
            // A socket that is closed already is what is wanted.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Leaves the socket to the connection.
    pub(crate) fn let_go(&self) {
        *self.line() = Line::Idle;
    }

    fn opened(&self, socket: std::net::TcpStream) -> io::Result<()> {
        let mut line = self.line();
        if matches!(*line, Line::HungUp) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        *line = Line::Open(socket);
        Ok(())
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the socket that a broker's address names, TLS included, within `limit`.
pub(crate) async fn open(
    uri: &AMQPUri,
    limit: Duration,
    hang_up: &HangUp,
) -> io::Result<AsyncTcpStream<Compat<TcpStream>>> {
    let opening = async {
        let host = uri.authority.host.as_str();
        let socket = TcpStream::connect((host, uri.authority.port)).await?.into_std()?;
        // Confirms, acknowledgements and replies are small; none of them is to wait for the one before it to arrive.
        socket.set_nodelay(true)?;
        hang_up.opened(socket.try_clone()?)?;
        let plain = AsyncTcpStream::Plain(Compat::new(TcpStream::from_std(socket)?));
        match uri.scheme {
            AMQPScheme::AMQP => Ok(plain),
            AMQPScheme::AMQPS => plain.into_tls(host, OwnedTLSConfig::default().as_ref()).await,
        }
    };
    timeout(limit, opening).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pair() -> (std::net::TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn a_socket_that_is_hung_up_ends_at_the_other_side_too() {
        let (near, mut far) = pair();
        let hang_up = HangUp::default();
        hang_up.opened(near.try_clone().unwrap()).unwrap();
        hang_up.hang_up();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        drop(near);
    }

    #[test]
    fn a_socket_that_opens_after_its_time_is_refused() {
        let hang_up = HangUp::default();
        hang_up.hang_up();
        assert!(hang_up.opened(pair().0).is_err());
    }
}
