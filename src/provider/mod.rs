//! Providers: everything that speaks HTTP to the services where links are made.

pub mod account;
mod gate;
pub mod http;
pub mod retry_after;
pub mod said;
mod sign_in;
pub mod throttle;
mod token;
mod token_store;
