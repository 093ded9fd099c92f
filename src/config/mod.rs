//! Configuration: a TOML file, environment variables over it, secrets from files; every mistake reported at once.
//!
//! [`load`] is the way in; what comes out is complete, typed and checked. Each key is declared in one place, the call
//! that reads it; [`known_keys`] lists them all.

mod auth;
mod broker;
mod load;
mod parse;
mod policy;
mod problems;
mod process;
mod provider;
mod reader;
mod secrets;
mod settings;
mod suggest;
mod tree;
mod unknown;

pub use load::{Loaded, Needs, default_file, environment, known_keys, load, load_for, load_text, load_text_with};
pub use problems::{Place, Problem, Problems};
pub use settings::*;
