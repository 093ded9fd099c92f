//! The trip of a request: decode, check, attempt, answer, settle. It knows ports, not clients.

pub mod ports;
pub mod settle;
