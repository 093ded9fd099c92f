//! The dashboards, alerts and recorded rules: generated, linted, checked against the metrics there are, and asked of a real
//! Prometheus that scrapes a busy worker.
//!
//! `make dashboards` writes the dashboards anew from `sharelink.rs` and `rabbitmq.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "../support/process.rs"]
mod process;
#[path = "../support/rabbit.rs"]
mod rabbit;
#[path = "../support/requester.rs"]
mod requester;

mod lint;
mod live;
mod model;
mod query;
mod rabbitmq;
mod registry;
mod rules;
mod scene;
mod servers;
mod sharelink;

use std::path::PathBuf;

use serde_json::Value;

/// Where the files are.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// The text of a file.
pub fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("dashboards/{name}: {error}"))
}

/// What the generator makes of each file.
fn generated() -> [(&'static str, String); 2] {
    [("sharelink.json", sharelink::dashboard().json()), ("sharelink-rabbitmq.json", rabbitmq::dashboard().json())]
}

/// The dashboards as they are in the project.
pub fn committed() -> Vec<Value> {
    generated().iter().map(|(name, _)| serde_json::from_str(&read(name)).unwrap()).collect()
}

#[test]
fn the_dashboards_are_what_the_generator_writes() {
    for (name, text) in generated() {
        if std::env::var_os("SHARELINK_WRITE_DASHBOARDS").is_some() {
            std::fs::write(folder().join(name), &text).unwrap();
        }
        assert!(read(name) == text, "dashboards/{name} is not what the generator writes; run make dashboards");
    }
}
