//! Measures wxnotify against its ceilings and its peers, on this machine, now.
//!
//! Every contender drains the same rows from a durable throwaway Postgres, each row one HTTP request to the fake WeChat,
//! which runs in a process of its own on one thread. Contenders take turns in rounds, so that a machine that slows down
//! slows all of them; what is reported are medians, and ratios within one run.
//!
//! Start at `scenario/drain.rs`; a single measured drain is [`drain::measure`]. `machine.rs` reads the kernel's
//! accounts of processes, `stage.rs` sets up Postgres and the fake, `contender.rs` lists who takes part, `report.rs`
//! writes tables into `docs/performance.md`, `plot.rs` the figures beside it.

mod contender;
mod crew;
mod drain;
mod machine;
mod message;
mod plot;
mod producer;
mod report;
mod scenario;
mod stage;
mod traffic;
mod views;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::scenario::Scenario;

/// The program's own, so that no contender written in Rust has a slower one.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures wxnotify against its ceilings and its peers.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios and write their tables and plots
    Run(RunArgs),
    /// Be one contender, in a process of its own: what `run` starts
    #[command(hide = true)]
    Contend(contender::ContendArgs),
}

/// Sizes and scenarios.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Scenarios, separated by commas [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    pub scenarios: Vec<Scenario>,
    /// Interleaved rounds of each comparison
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Rows each contender drains
    #[arg(long, default_value_t = 20_000)]
    pub rows: u64,
    /// Rows sent while a snapshot is held open
    #[arg(long, default_value_t = 100_000)]
    pub snapshot_rows: u64,
    /// Single INSERTs on an idle worker
    #[arg(long, default_value_t = 200)]
    pub wakes: u32,
    /// Size of the deep tables of `ahead`, `front`, `late`, `nine` and `year`, where 1 is millions of rows, and how long `paced`
    /// and `live` go on
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Contenders of `drain` and `wake` to leave out, by name, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub without: Vec<String>,
    /// How long to wait for a quiet machine in all before measuring all the same, in seconds
    #[arg(long, default_value_t = 120)]
    pub quiet_secs: u64,
    /// The folder of `performance.md` and `performance/`
    #[arg(long, default_value = "../docs")]
    pub docs: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => scenario::run(&args).await,
        Command::Contend(args) => contender::contend(&args).await,
    }
}
