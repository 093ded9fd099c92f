//! Providers: everything that speaks HTTP to the services where links are made.
//!
//! A provider is one module and one arm in [`build`]. What all have in common stands beside them: the account with
//! its turns and tokens, the one HTTP exchange, and the reading of ids and of `Retry-After`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::account::Waiting;
use crate::config::{Auth, ProviderKind, Settings};
use crate::pipeline::ports::Provider;
use crate::telemetry::metrics::Metrics;

pub mod account;
pub mod address;
pub mod classify;
mod gate;
pub mod http;
mod line;
pub mod onedrive;
pub mod oracle;
pub mod remembered;
pub mod retry_after;
pub mod said;
mod sign_in;
pub mod throttle;
mod token;
mod token_store;
pub mod veil;

/// Every account by its name.
pub type Accounts = BTreeMap<String, Arc<account::Account>>;

/// Learned rates in units a second, by the account's name.
pub type Rates = BTreeMap<String, f64>;

/// Sets up every configured account, by its name; no call is made.
///
/// # Errors
/// Where TLS or an account's credentials cannot be used: a sentence that names the setting.
pub fn accounts(
    settings: &Settings,
    metrics: &Metrics,
    remembered: &Rates,
    stopping: &CancellationToken,
) -> Result<Accounts, String> {
    let client = http::client()?;
    // Where several accounts share the prefetched requests, each leaves room for the others'.
    let sharing = match settings.providers.len() {
        0 | 1 => 1,
        several => several + 1,
    };
    let room = u32::from(settings.broker.prefetch) / u32::try_from(sharing).unwrap_or(u32::MAX);
    let account = |(name, provider): (&String, &crate::config::Provider)| {
        let metrics = metrics.provider(name);
        let waiting = Waiting {
            patience: settings.retry.inline_limit,
            room,
            shared: sharing > 1,
            gives_up_after: settings.retry.max_elapsed,
            stopping: stopping.clone(),
        };
        let remembered = remembered.get(name).copied();
        let account = account::Account::new(provider, client.clone(), metrics, waiting, remembered)?;
        Ok((name.clone(), Arc::new(account)))
    };
    settings.providers.iter().map(account).collect()
}

/// Sets up every configured provider, by its name; no call is made.
///
/// # Errors
/// Where TLS, an account's credentials or its addresses cannot be used: a sentence that names the setting.
pub fn build(
    settings: &Settings,
    metrics: &Metrics,
    accounts: &Accounts,
) -> Result<BTreeMap<String, Arc<dyn Provider>>, String> {
    let mut providers = BTreeMap::new();
    for (name, account) in accounts.clone() {
        let Some(configured) = settings.providers.get(&name) else { continue };
        metrics.provider(&name).expect(match &configured.kind {
            ProviderKind::OneDrive(_) => &["create_link", "resolve_share", "list_links", "revoke_link"],
            ProviderKind::Oracle(_) => &["list_links", "create_link", "edit_link", "revoke_link"],
        });
        if let ProviderKind::OneDrive(crate::config::OneDrive { batch: true, .. }) = configured.kind {
            metrics.provider(&name).expect(&["batch"]);
        }
        if let Auth::ClientCredentials { .. } | Auth::RefreshToken { .. } = configured.auth {
            metrics.provider(&name).expect(&["token"]);
        }
        let provider: Arc<dyn Provider> = match &configured.kind {
            ProviderKind::OneDrive(onedrive) => Arc::new(
                onedrive::OneDrive::new(onedrive, account).map_err(|problem| format!("providers.{name}: {problem}"))?,
            ),
            ProviderKind::Oracle(oracle) => Arc::new(oracle::Oracle::new(configured, oracle, account)),
        };
        providers.insert(name, provider);
    }
    Ok(providers)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::*;
    use crate::config::{
        Auth, Broker, Limits, Log, LogFormat, OneDrive, OneDriveApi, Policy, QueueType, Retry, Server, Shutdown, State,
        Topology,
    };
    use crate::model::Secret;

    fn provider(name: &str, base_url: &str, token: &str) -> crate::config::Provider {
        crate::config::Provider {
            name: name.to_owned(),
            kind: ProviderKind::OneDrive(OneDrive {
                api: OneDriveApi::Graph,
                base_url: base_url.parse().unwrap(),
                drive: "/me/drive".to_owned(),
                batch: false,
                action: "createLink".to_owned(),
            }),
            timeout: Duration::from_secs(60),
            limits: Limits { max_in_flight: 64, requests_per_minute: 0, units_per_minute: 0 },
            auth: Auth::Bearer { token: Secret::new(token) },
            policy: Policy::default(),
        }
    }

    fn settings(providers: impl IntoIterator<Item = crate::config::Provider>) -> Settings {
        let wait = Duration::from_secs(5);
        Settings {
            broker: Broker {
                urls: vec![],
                request_queue: String::new(),
                reply_queue: String::new(),
                dead_letter_queue: String::new(),
                exchange: String::new(),
                prefetch: 1,
                topology: Topology::Verify,
                queue_type: QueueType::Quorum,
                reply_to_allow: vec![],
                max_request_bytes: 1,
                max_deliveries: 1,
                connect_timeout: wait,
                publish_timeout: wait,
                heartbeat: wait,
            },
            server: Server { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) },
            retry: Retry {
                max_attempts: 1,
                initial_interval: wait,
                max_interval: wait,
                max_elapsed: wait,
                inline_limit: wait,
            },
            shutdown: Shutdown { grace: wait },
            state: State::default(),
            log: Log { level: String::new(), format: LogFormat::Text },
            providers: providers.into_iter().map(|provider| (provider.name.clone(), provider)).collect(),
        }
    }

    fn metrics() -> Metrics {
        Metrics::new(&["a", "b"], &[]).unwrap()
    }

    fn all(
        providers: impl IntoIterator<Item = crate::config::Provider>,
    ) -> Result<BTreeMap<String, Arc<dyn Provider>>, String> {
        let (settings, metrics) = (settings(providers), metrics());
        let accounts = accounts(&settings, &metrics, &Rates::new(), &CancellationToken::new())?;
        build(&settings, &metrics, &accounts)
    }

    #[test]
    fn every_configured_provider_is_built_under_its_name() {
        let good = "https://graph.microsoft.com/v1.0";
        let built = all([provider("a", good, "t"), provider("b", good, "t")]).unwrap();
        assert_eq!(built.keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_cannot_be_built_is_named_by_its_setting() {
        let problem = |provider| all([provider]).err().unwrap();
        assert!(problem(provider("a", "https://h/v1.0?x", "t")).starts_with("providers.a: `base_url`"));
        assert!(problem(provider("a", "https://h/v1.0", "a\nb")).starts_with("providers.a.auth: `token`"));
    }
}
