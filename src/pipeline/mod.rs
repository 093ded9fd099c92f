//! The trip of a request, top to bottom: decode, check, attempt, answer, settle. It knows ports, not clients.
//!
//! The trip is total: whatever comes in, it ends in a [`Settlement`](settle::Settlement).

pub mod settle;

pub mod ports;

pub mod decode;
pub mod strict_json;

pub mod policy;

pub mod attempt;
mod delays;
pub mod retry;

mod confirm;

pub mod clock;

pub mod crash_point;

mod answer;
mod trip;

pub use confirm::CONFIRMED_WITHIN;
pub use trip::{Account, Limits, Pipeline};
