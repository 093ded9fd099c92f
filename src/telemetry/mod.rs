//! What can be seen from outside: metrics, health, log lines.

pub mod account;
pub mod durations;
pub mod health;
pub mod history;
pub mod log;
pub mod metrics;
mod oldest;
pub mod recent;
pub mod snapshot;
