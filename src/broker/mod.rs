//! The RabbitMQ door: everything that speaks AMQP. Requests come in as deliveries, replies, delays and dead letters
//! go out confirmed, and nothing of lapin's leaves this module but a plain connection.
//!
//! In the order of a message's trip: [`supervisor`] keeps the connections, [`consumer`] hands deliveries to the
//! handler, [`publisher`] is the way out, `settler` tells the broker how each delivery ended.

pub mod client;
mod connection;
mod consumer;
mod copies;
pub mod dead;
mod depth;
pub mod findings;
mod generation;
mod headers;
mod ledger;
pub mod letter;
mod lifeline;
mod pace;
pub mod preflight;
mod properties;
pub mod publisher;
mod publishing;
mod replies;
mod settler;
mod socket;
pub mod supervisor;
pub mod topology;
mod watchdog;

pub use connection::{ConnectError, connect};
pub use publisher::{Moved, Publisher, Replied};
pub use supervisor::{StartError, run};
