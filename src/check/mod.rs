//! `sharelink check`: what is wrong, before a worker finds out. A line on standard output for each thing looked at.
//!
//! Nothing is declared, consumed or shared; signing in is all that is done at a provider.

mod hold;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::app;
use crate::broker::findings::{Finding, Verdict};
use crate::broker::preflight::{self, Consuming};
use crate::config::{self, Auth, Needs, Provider, Settings};
use crate::exit::Exit;
use crate::model::ErrorKind;
use crate::pipeline::clock::system_clock;
use crate::provider;
use crate::provider::account::Account;
use crate::telemetry::health::Health;

/// A sign-in that has not ended by then has failed; it is made of one call, whose own time limit is usually shorter.
const SIGN_IN_WITHIN: Duration = Duration::from_secs(120);

/// Checks everything.
pub async fn run(file: Option<&Path>) -> Exit {
    match check(file).await {
        Ok(exit) | Err(exit) => exit,
    }
}

async fn check(file: Option<&Path>) -> Result<Exit, Exit> {
    let settings = app::load_for(Needs { broker: true, providers: true }, file)?;
    // Credentials that cannot be used at all are mistakes in the configuration, so they come before its verdict.
    let metrics = app::metrics(&settings, &system_clock())?;
    let accounts = provider::accounts(&settings, &metrics, &provider::Rates::new(), &CancellationToken::new())
        .map_err(|problem| {
            eprintln!("{problem}");
            Exit::Configuration
        })?;
    let from = file.map(Path::to_owned).or_else(config::default_file);
    let from = from.map_or_else(|| "the environment".to_owned(), |path| path.display().to_string());
    let mut worst = say(&Finding::good(format!("configuration: no mistake in {from}")));

    let broker = match preflight::look(&settings.broker, "sharelink check", Consuming::Untried).await {
        Ok(findings) => findings,
        Err(problem) => vec![Finding::bad(format!("broker: {problem}"))],
    };
    for finding in broker.iter().chain([&hold::finding(&settings)]) {
        worst = graver(worst, say(finding));
    }
    let signing_in = settings.providers.values().filter_map(|provider| {
        let account = accounts.get(&provider.name)?.clone();
        Some(sign_in(provider, account))
    });
    for finding in join_all(signing_in).await {
        worst = graver(worst, say(&finding));
    }
    Ok(if worst == Verdict::Bad { Exit::Unreachable } else { Exit::Well })
}

fn graver(one: Verdict, other: Verdict) -> Verdict {
    if one == Verdict::Bad { one } else { other }
}

/// Writes a line. A reader that closed its end has seen enough.
fn say(finding: &Finding) -> Verdict {
    let _ = writeln!(std::io::stdout(), "{} {}", finding.verdict.sign(), finding.text);
    finding.verdict
}

async fn sign_in(provider: &Provider, account: Arc<Account>) -> Finding {
    let name = &provider.name;
    let at = match &provider.auth {
        Auth::Bearer { .. } => {
            return Finding::untold(format!("provider {name}: shows its token; only a request can tell if it is good"));
        }
        Auth::Basic { .. } => {
            return Finding::untold(format!(
                "provider {name}: shows its password; only a request can tell if it is good"
            ));
        }
        Auth::RefreshToken { token_store: None, .. } => {
            return Finding::untold(format!(
                "provider {name}: not signed in, because that may use the refresh token up and there is no token_store to \
                 keep the next one in; set providers.{name}.auth.token_store"
            ));
        }
        Auth::ClientCredentials { token_url, .. } | Auth::RefreshToken { token_url, .. } => {
            token_url.host_str().unwrap_or_default().to_owned()
        }
    };
    match tokio::time::timeout(SIGN_IN_WITHIN, account.sign_in()).await {
        Ok(Ok(())) => Finding::good(format!("provider {name}: signed in at {at}")),
        Ok(Err(problem)) => {
            let failure = problem.failure;
            let advice = match failure.kind {
                ErrorKind::Unauthenticated | ErrorKind::Forbidden => {
                    format!("check client_id, the secret and scope under [providers.{name}.auth]")
                }
                ErrorKind::RateLimited => "try again later".to_owned(),
                _ => format!("check token_url under [providers.{name}.auth], and that this machine reaches {at}"),
            };
            Finding::bad(format!("provider {name}: cannot sign in at {at}: {}; {advice}", failure.message))
        }
        Err(_) => Finding::bad(format!("provider {name}: {at} did not answer within {} s", SIGN_IN_WITHIN.as_secs())),
    }
}

/// The worker's own look, once it works: what somebody should know is logged, and nothing else comes of it.
pub async fn at_start(settings: &Settings, health: &Health, stopping: CancellationToken) {
    let look = async {
        health.until_ready().await;
        preflight::look(&settings.broker, "sharelink preflight", Consuming::Proven).await
    };
    let found = tokio::select! {
        biased;
        () = stopping.cancelled() => return,
        found = look => found,
    };
    // Whoever keeps the worker's own connections tells that the broker is gone.
    for finding in found.unwrap_or_default().iter().chain([&hold::finding(settings)]) {
        match finding.verdict {
            Verdict::Good | Verdict::Untold => {}
            Verdict::Remark | Verdict::Bad => warn!("{}", finding.text),
        }
    }
}
