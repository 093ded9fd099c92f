//! What can be seen from outside: metrics, health, log lines.

pub mod health;
pub mod log;
pub mod metrics;
pub mod snapshot;
