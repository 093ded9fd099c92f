//! `sharelink dead`: a person at the dead-letter queue. Results on standard output, everything else on standard error.
//!
//! No command loses a letter, however it ends; only `purge --yes` removes any.

mod filter;
mod list;
mod mask;
mod run;
mod show;
mod summary;
mod words;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::app;
use crate::config::{Needs, Settings};
use crate::exit::Exit;
use crate::signals;
use filter::Filter;
use run::Look;
use tokio_util::sync::CancellationToken;

/// Options of `sharelink dead`.
#[derive(Debug, Args)]
pub struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
}

#[derive(Debug, Subcommand)]
enum DeadCommand {
    /// What lies there, grouped by reason; every letter stays where it is
    List(ListArgs),
    /// One letter in full, its secrets masked
    Show(ShowArgs),
    /// Send letters to the request queue again; each is taken off the dead-letter queue once the broker has confirmed it
    Redrive(RedriveArgs),
    /// Remove letters for good
    Purge(PurgeArgs),
}

#[derive(Debug, Args)]
struct Common {
    /// Configuration file; only its [broker] section is used
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Which {
    /// Only letters with this reason: malformed, unroutable, crashing, or the broker's delivery_limit, rejected, …
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only letters whose request names this provider account
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only letters with a reply that failed in this way (notFound, conflict, …)
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

impl Which {
    fn filter(self, id: Option<String>) -> Filter {
        Filter { reason: self.reason, provider: self.provider, kind: self.kind, id }
    }
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    which: Which,
    /// Look at no more than so many letters
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// A line for each letter instead of one for each reason
    #[arg(long)]
    each: bool,
    /// A JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The request's id, its message id or its correlation id; the oldest letter where there are several
    #[arg(required_unless_present = "index")]
    id: Option<String>,
    /// The letter with this number in `sharelink dead list --each`
    #[arg(long, value_name = "N", conflicts_with = "id", value_parser = clap::value_parser!(u32).range(1..))]
    index: Option<u32>,
    #[command(flatten)]
    common: Common,
    /// Look at no more than so many letters
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RedriveArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    which: Which,
    /// Only letters with this request id, message id or correlation id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// At most so many letters a second
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Redrive no more than so many letters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Only say how many it would be
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct PurgeArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    which: Which,
    /// Only letters with this request id, message id or correlation id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only say how many it would be
    #[arg(long)]
    dry_run: bool,
    /// Yes, remove them
    #[arg(long)]
    yes: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "give a number of letters a second, such as 10 or 0.5".to_owned())?;
    if rate.is_finite() && rate >= 0.001 {
        Ok(rate)
    } else {
        Err("the rate has to be at least 0.001 letters a second; leave it out for no limit".to_owned())
    }
}

/// Runs one of the commands.
pub async fn run(args: DeadArgs) -> Exit {
    match command(args.command).await {
        Ok(exit) | Err(exit) => exit,
    }
}

async fn command(command: DeadCommand) -> Result<Exit, Exit> {
    let common = match &command {
        DeadCommand::List(args) => &args.common,
        DeadCommand::Show(args) => &args.common,
        DeadCommand::Redrive(args) => &args.common,
        DeadCommand::Purge(args) => &args.common,
    };
    let needs = Needs { broker: true, providers: false };
    let Settings { broker, .. } = app::load_for(needs, common.config.as_deref())?;
    let stopping = CancellationToken::new();
    signals::stop_on_signal(stopping.clone());
    let look = Look { broker, stopping };
    match command {
        DeadCommand::List(args) => run::list(&look, &args.which.filter(None), args.limit, args.each, args.json).await,
        DeadCommand::Show(args) => {
            let filter = Filter { id: args.id, ..Filter::default() };
            run::show(&look, &filter, args.index, args.limit, args.json).await
        }
        DeadCommand::Redrive(args) => {
            let filter = args.which.filter(args.id);
            run::redrive(&look, &filter, args.rate, args.limit, args.dry_run).await
        }
        DeadCommand::Purge(args) => {
            let filter = args.which.filter(args.id);
            run::purge(&look, &filter, args.yes && !args.dry_run, args.dry_run).await
        }
    }
}
