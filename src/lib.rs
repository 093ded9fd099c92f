//! sharelink: from a share request in a queue to a sharing link in a reply.
//!
//! The modules in the order of a message's trip; ARCHITECTURE.md tells it in full.
//!
//! - [`model`]: the nouns. A request, a link, a failure, a reply, a secret.
//! - [`pipeline`]: the trip. decode → check → attempt → answer → settle; knows ports, not clients.
//! - [`broker`]: the door to RabbitMQ, and [`memory`]: the door without a broker.
//! - [`provider`]: OneDrive / Microsoft Graph and Oracle Content Management behind one port.
//! - [`telemetry`]: metrics, health, log lines; [`server`] shows them over HTTP.
//! - [`config`]: a file, environment variables over it, every mistake at once.
//! - [`simulate`]: both providers on a local port; [`demo`] runs the main job against them.
//! - [`dead`]: a person at the dead-letter queue; [`check`]: what is wrong, before the worker starts.
//! - [`app`], [`cli`], [`exit`], [`signals`], [`stack`]: composition and the command line.

pub mod model;

pub mod pipeline;

pub mod broker;
pub mod memory;

pub mod provider;

pub mod telemetry;

pub mod server;

pub mod config;

pub mod simulate;

pub mod demo;

pub mod check;
pub mod dead;

pub mod app;
pub mod cli;
pub mod exit;
pub mod signals;
pub mod stack;
