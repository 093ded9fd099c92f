//! The RabbitMQ door: everything that speaks AMQP. Requests come in as deliveries, replies, delays and dead letters
//! go out confirmed, and nothing of lapin's leaves this module but a plain connection.
//!
//! The pure parts are public so that the tests and fuzz targets reach them.
//!
//! In the order of a message's trip: `supervisor` keeps the connections, `consumer` hands deliveries to the
//! handler, `publisher` is the way out, `settler` tells the broker how each delivery ended.

pub mod client;
mod connection;
mod consumer;
pub mod copies;
pub mod dead;
mod depth;
pub mod findings;
mod generation;
pub mod headers;
mod ledger;
pub mod letter;
mod lifeline;
mod pace;
pub mod preflight;
pub mod properties;
pub mod publisher;
mod publishing;
mod refusals;
pub mod replies;
mod settler;
mod socket;
pub mod supervisor;
pub mod topology;
mod watchdog;

pub use connection::{ConnectError, connect};
pub use publisher::{Moved, Publisher, Replied};
pub use supervisor::{StartError, run};
