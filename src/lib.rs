//! sharelink: from a share request in a queue to a sharing link in a reply.

pub mod model;

pub mod pipeline;

pub mod provider;

pub mod telemetry;

pub mod config;

pub mod broker;
