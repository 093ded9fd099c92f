//! Providers: everything that speaks HTTP to the services where links are made.
//!
//! A provider is one module and one arm where they are built. What all have in common stands beside them: the account with
//! its turns and tokens, the one HTTP exchange, and the reading of ids and of `Retry-After`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Settings;
use crate::telemetry::metrics::Metrics;

pub mod account;
pub mod address;
pub mod classify;
mod gate;
pub mod http;
pub mod onedrive;
pub mod oracle;
pub mod retry_after;
pub mod said;
mod sign_in;
pub mod throttle;
mod token;
mod token_store;

/// Sets up every configured account, by its name; no call is made.
///
/// # Errors
/// Where TLS or an account's credentials cannot be used: a sentence that names the setting.
pub fn accounts(settings: &Settings, metrics: &Metrics) -> Result<BTreeMap<String, Arc<account::Account>>, String> {
    let client = http::client()?;
    let account = |(name, provider): (&String, &crate::config::Provider)| {
        let metrics = metrics.provider(name);
        let account = account::Account::new(provider, client.clone(), metrics, settings.retry.inline_limit)?;
        Ok((name.clone(), Arc::new(account)))
    };
    settings.providers.iter().map(account).collect()
}
