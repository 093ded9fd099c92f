//! Configuration: a TOML file, environment variables over it, secrets from files; every mistake reported at once.

mod settings;

pub use settings::*;
