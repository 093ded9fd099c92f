//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::Exit;
use crate::{app, check, dead, demo, simulate, stack};

/// From a share request in a queue to a sharing link in a reply.
#[derive(Debug, Parser)]
#[command(name = "sharelink", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Consume share requests from RabbitMQ, create the links, publish the replies, until SIGTERM or Ctrl-C
    Worker {
        /// Configuration file; without it config/sharelink.toml where it exists, and SHARELINK__ variables
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Show all of it with nothing to install: simulated providers, a thousand mixed requests, a table at the end
    Demo(demo::DemoArgs),
    /// Look at the dead-letter queue, send its letters again, or remove them
    Dead(dead::DeadArgs),
    /// Say what is wrong: reads the configuration, reaches the broker, looks at its queues, signs in at every provider
    Check {
        /// Configuration file; without it config/sharelink.toml where it exists, and SHARELINK__ variables
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Play both providers' APIs on a local port, with faults on demand
    Simulate(simulate::SimulateArgs),
}

/// Runs the command line and returns the process's exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // Whoever reads messages reads headers; the simulator reads none.
    if !matches!(cli.command, Command::Simulate(_)) {
        stack::make_room();
    }
    let runtime = match &cli.command {
        // One thread does: the worker waits on sockets, and lapin has threads of its own.
        Command::Worker { .. } | Command::Dead(_) | Command::Check { .. } => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        }
        Command::Demo(_) | Command::Simulate(_) => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(problem) => {
            eprintln!("sharelink cannot start its runtime: {problem}");
            return Exit::Bug.into();
        }
    };
    let exit = runtime.block_on(async move {
        match cli.command {
            Command::Worker { config } => app::worker(config.as_deref()).await.into(),
            Command::Demo(args) => demo::run(args).await.into(),
            Command::Dead(args) => dead::run(args).await.into(),
            Command::Check { config } => check::run(config.as_deref()).await.into(),
            Command::Simulate(args) => simulate::run(args).await,
        }
    });
    // Whatever still sleeps somewhere must not hold the process.
    runtime.shutdown_background();
    exit
}
