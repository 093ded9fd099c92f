//! Reaching the broker: one named connection to the first node that answers, within a time limit for each.
//!
//! lapin's own recovery stays off (it gives up silently and can leave a consumer pending for ever); whoever connects
//! watches the connection and builds a new one.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ConnectionStatus, ErrorKind, Event};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;
use url::{Host, Url};

use super::lifeline::Lifeline;
use super::socket::{self, HangUp};
use crate::config;
use crate::model::Secret;

/// What the two connections are for, as the metrics and the broker's list of connections call it.
pub(crate) const ROLES: [&str; 2] = ["consume", "publish"];
/// How often the connections are looked at, besides listening for events.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest frame, in bytes, of a connection that takes no requests. Properties and headers of what we publish fit into
/// half of it ([`MAX_HEADERS`](super::headers::MAX_HEADERS)), and what is returned to us is no longer; bodies are cut into frames anyway.
pub(crate) const SMALL_FRAMES: u32 = 16 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be used; nothing was tried.
    #[error("broker.url: {0}")]
    Url(String),
    /// The broker knows us and does not want us: login, or virtual host. Another attempt will not help.
    #[error(
        "the broker at {node} refuses the connection: {why}; check the user, the password and the virtual host in broker.url"
    )]
    Refused {
        /// Host and port.
        node: String,
        /// The broker's words.
        why: String,
    },
    /// No node answered.
    #[error("{0}")]
    Unreachable(String),
}

/// Connects once, for a command that ends with its connection; `name` is shown in the broker's list of connections.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(settings: &config::Broker, name: &str) -> Result<Connection, ConnectError> {
    Dialer::new(settings)?.dial(name, None).await
}

/// A node: what to dial, and how it is called in messages (without the password).
#[derive(Clone)]
struct Node {
    uri: AMQPUri,
    label: String,
}

/// Dials the configured nodes in turn.
pub(crate) struct Dialer {
    nodes: Vec<Node>,
    /// The node that answered last, tried first.
    first: usize,
    limit: Duration,
}

impl Dialer {
    /// # Errors
    /// [`ConnectError::Url`]
    pub(crate) fn new(settings: &config::Broker) -> Result<Self, ConnectError> {
        let heartbeat = u16::try_from(settings.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
        let nodes = settings.urls.iter().map(|url| node(url, heartbeat)).collect::<Result<Vec<_>, _>>()?;
        if nodes.is_empty() {
            return Err(ConnectError::Url("no address is given".to_owned()));
        }
        Ok(Self { nodes, first: 0, limit: settings.connect_timeout })
    }

    /// Connects to the first node that answers. With `frame_max` no frame is longer than so many bytes, in either
    /// direction; the client library keeps 64 frames' worth of buffers (lapin 4.12.3, src/io_loop.rs).
    ///
    /// # Errors
    /// Where no node answered. Refused by one and not answered by the others is [`ConnectError::Refused`].
    pub(crate) async fn dial(&mut self, name: &str, frame_max: Option<u32>) -> Result<Connection, ConnectError> {
        let mut refused = None;
        let mut silent = Vec::new();
        for offset in 0..self.nodes.len() {
            let index = (self.first + offset) % self.nodes.len();
            let Some(mut node) = self.nodes.get(index).cloned() else { break };
            if let Some(most) = frame_max {
                let asked = node.uri.query.frame_max.filter(|asked| *asked > 0);
                node.uri.query.frame_max = Some(asked.map_or(most, |asked| asked.min(most)));
            }
            match self.dial_one(&node, name).await {
                Ok(connection) => {
                    self.first = index;
                    return Ok(connection);
                }
                Err(ConnectError::Refused { node, why }) => refused = Some(ConnectError::Refused { node, why }),
                Err(error) => silent.push(error.to_string()),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let why = silent.join("; ");
            ConnectError::Unreachable(format!("{why}; is the broker running there, and is broker.url right?"))
        }))
    }

    async fn dial_one(&self, node: &Node, name: &str) -> Result<Connection, ConnectError> {
        let unreachable = |why: String| ConnectError::Unreachable(format!("{}: {why}", node.label));
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let hang_up = HangUp::default();
        let mut attempt = tokio::spawn(handshake(node.uri.clone(), properties, self.limit, hang_up.clone()));
        match timeout(self.limit, &mut attempt).await {
            Ok(Ok(Ok(connection))) => {
                hang_up.let_go();
                Ok(connection)
            }
            Ok(Ok(Err(error))) => Err(match refusal(&error) {
                Some(why) => ConnectError::Refused { node: node.label.clone(), why },
                None => unreachable(error.to_string()),
            }),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => {
                // The attempt now fails by itself; dropped before that, it would wait for ever in its thread.
                hang_up.hang_up();
                Err(unreachable(format!("no answer within {} ms (broker.connect_timeout)", self.limit.as_millis())))
            }
        }
    }
}

async fn handshake(
    uri: AMQPUri,
    properties: ConnectionProperties,
    limit: Duration,
    hang_up: HangUp,
) -> lapin::Result<Connection> {
    let open = async move |uri: AMQPUri, _| socket::open(&uri, limit, &hang_up).await.map_err(lapin::Error::from);
    Connection::connector(uri, lapin::runtime::default_runtime()?, open, properties).await
}

/// 403 ACCESS_REFUSED is a wrong login, 530 NOT_ALLOWED a virtual host that is not there or not ours.
fn refusal(error: &lapin::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::ProtocolError(error) if matches!(error.get_id(), 403 | 530) => {
            Some(error.get_message().as_str().to_owned())
        }
        _ => None,
    }
}

fn node(url: &Secret, heartbeat: u16) -> Result<Node, ConnectError> {
    // The text of the address holds a password, so no message may quote it.
    let parsed = Url::parse(url.reveal()).map_err(|error| ConnectError::Url(error.to_string()))?;
    if let Some(Host::Ipv6(_)) = parsed.host() {
        // The client library would silently take localhost instead.
        return Err(ConnectError::Url("an IPv6 address cannot be used; give a host name for it".to_owned()));
    }
    let mut uri: AMQPUri = url.reveal().parse().map_err(|_| {
        ConnectError::Url("not an AMQP address; it should look like amqp://user:password@host:5672/%2f".to_owned())
    })?;
    if uri.vhost.is_empty() {
        // "amqp://host:5672/" names the virtual host "", which nobody has and everybody means as "/".
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat.get_or_insert(heartbeat);
    let label = format!("{}:{}", uri.authority.host, uri.authority.port);
    Ok(Node { uri, label })
}

/// Watches a connection until the generation is over: an error ends it, a blocked connection is told to `blocked`.
///
/// It is the only listener of its connection, because listeners compete for events (lapin 4.12.3, src/events.rs).
pub(crate) fn watch_events(
    connection: &Connection,
    role: &'static str,
    lifeline: Lifeline,
    blocked: Option<watch::Sender<Option<String>>>,
) {
    let mut events = Box::pin(connection.events_listener());
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = lifeline.ended() => return,
            };
            match (event, &blocked) {
                (Some(Event::ConnectionBlocked(why)), Some(blocked)) => {
                    warn!(role, why, "the broker has blocked the connection");
                    blocked.send_replace(Some(why));
                }
                (Some(Event::ConnectionUnblocked), Some(blocked)) => {
                    blocked.send_replace(None);
                }
                (Some(Event::Error(error)), _) => {
                    lifeline.end(format!("the {role} connection failed: {error}"));
                }
                (None, _) => lifeline.end(format!("the {role} connection ended")),
                (Some(_), _) => {}
            }
        }
    });
}

/// Looks at both connections and the consume channel until one of them is not usable any more, and says which. Events can
/// be missed between connecting and listening. The publish channel is looked at by whoever may replace it.
pub(crate) async fn look(connections: [&ConnectionStatus; 2], consume: &Channel) -> String {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (connection, role) in connections.into_iter().zip(ROLES) {
            if !connection.connected() {
                return format!("the {role} connection is not connected any more");
            }
        }
        if !consume.status().connected() {
            return "the consume channel is closed".to_owned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Node, ConnectError> {
        node(&Secret::new(url), 10)
    }

    #[test]
    fn an_address_without_a_virtual_host_means_the_default_one() {
        for url in ["amqp://h", "amqp://h/", "amqp://h/%2f"] {
            assert_eq!(read(url).unwrap().uri.vhost, "/", "{url}");
        }
        assert_eq!(read("amqp://h/team").unwrap().uri.vhost, "team");
    }

    #[test]
    fn the_heartbeat_of_the_address_wins_over_the_configured_one() {
        assert_eq!(read("amqp://h").unwrap().uri.query.heartbeat, Some(10));
        assert_eq!(read("amqp://h/%2f?heartbeat=30").unwrap().uri.query.heartbeat, Some(30));
    }

    #[test]
    fn an_ipv6_address_is_refused_instead_of_dialling_localhost() {
        assert!(matches!(read("amqp://[::1]:5672/%2f"), Err(ConnectError::Url(_))));
    }

    #[test]
    fn no_message_about_an_address_shows_its_password() {
        for url in ["http://u:hunter2@h/", "amqp://u:hunter2@h:port/", "amqp://u:hunter2@h/?heartbeat=x", "hunter2"] {
            let error = read(url).err().map(|error| error.to_string()).unwrap();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(read("amqp://u:hunter2@h:1/").unwrap().label, "h:1");
    }
}
