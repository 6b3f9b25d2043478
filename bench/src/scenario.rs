//! The scenarios, each runnable alone.

mod ahead;
mod apps;
mod checkpointed;
mod drain;
mod front;
mod insert;
mod keys;
mod late;
mod latency;
mod live;
mod nine;
mod paced;
mod producers;
mod slow_commits;
mod snapshot;
mod wake;
mod workers;
mod year;

use std::time::Duration;

use crate::RunArgs;
use crate::drain::Drain;
use crate::machine;
use crate::report;
use crate::stage::Stage;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Every contender drains rows whose requests take no time
    Drain,
    /// The drain right after VACUUM ANALYZE and CHECKPOINT, 60,000 rows
    Checkpointed,
    /// Requests take 50 ms, 256 are in flight
    Latency,
    /// A single INSERT on an idle worker, and what idling costs
    Wake,
    /// A drain while a transaction holds a snapshot open
    Snapshot,
    /// What an INSERT costs, and what of it the triggers
    Insert,
    /// Sixteen producers insert one by one while a worker is busy
    Producers,
    /// A rate, a deep backlog and urgent rows; 1, 2 and 4 workers
    Paced,
    /// 100,000 rows due at one instant, among a million
    Nine,
    /// Single INSERTs at 20, 50, 200 and 1,000 a second; one mini-program and fifty
    Live,
    /// 1, 2, 4 and 8 workers on one database
    Workers,
    /// 1,000 mini-programs against one
    Apps,
    /// What a dedup key costs
    Keys,
    /// Each commit takes 5 ms more, 8 workers
    SlowCommits,
    /// A million due rows of a paused template, and a user with 100,000, before the others
    Front,
    /// A million rows that commit long after they were copied, beside live traffic
    Late,
    /// 10 million rows in the history: every view, every metric
    Year,
    /// 5 million rows scheduled ahead and 10 million in the history
    Ahead,
}

/// Runs the scenarios asked for, or all, on one Postgres.
pub async fn run(args: &RunArgs) -> anyhow::Result<()> {
    use clap::ValueEnum;
    let scenarios = if args.scenarios.is_empty() {
        Scenario::value_variants()
    } else {
        &args.scenarios
    };
    std::fs::create_dir_all(args.docs.join("performance"))?;
    let stage = Stage::start(Duration::from_secs(args.quiet_secs)).await?;
    for scenario in scenarios {
        let others = stage.wait_for_quiet().await;
        if !machine::is_quiet(others) {
            eprintln!(
                "{scenario:?}: the machine is not quiet ({:.0} % in use by others); measuring all the same",
                others * 100.0
            );
        }
        eprintln!("{scenario:?} …");
        match scenario {
            Scenario::Drain => drain::run(&stage, args).await,
            Scenario::Latency => latency::run(&stage, args).await,
            Scenario::Wake => wake::run(&stage, args).await,
            Scenario::Snapshot => snapshot::run(&stage, args).await,
            Scenario::Insert => insert::run(&stage, args).await,
            Scenario::Producers => producers::run(&stage, args).await,
            Scenario::Paced => paced::run(&stage, args).await,
            Scenario::Nine => nine::run(&stage, args).await,
            Scenario::Checkpointed => checkpointed::run(&stage, args).await,
            Scenario::Year => year::run(&stage, args).await,
            Scenario::Live => live::run(&stage, args).await,
            Scenario::Workers => workers::run(&stage, args).await,
            Scenario::Apps => apps::run(&stage, args).await,
            Scenario::Keys => keys::run(&stage, args).await,
            Scenario::SlowCommits => slow_commits::run(&stage, args).await,
            Scenario::Front => front::run(&stage, args).await,
            Scenario::Late => late::run(&stage, args).await,
            Scenario::Ahead => ahead::run(&stage, args).await,
        }?;
    }
    Ok(())
}

/// How disturbed some drains were, in words that go below their table.
fn disturbance<'a>(drains: impl IntoIterator<Item = &'a Drain>) -> String {
    disturbance_of(drains.into_iter().map(|drain| drain.others))
}

/// The same from shares of the machine.
fn disturbance_of(shares: impl IntoIterator<Item = f64>) -> String {
    let shares: Vec<f64> = shares.into_iter().collect();
    let middle = report::median(shares.iter().copied());
    let most = shares.iter().copied().fold(0.0, f64::max);
    let judgement = if machine::is_quiet(middle) {
        "The machine was quiet"
    } else {
        "**The machine was not quiet**"
    };
    format!(
        "{judgement}: other processes used {:.0} % of it in the median measurement, {:.0} % in the worst.",
        middle * 100.0,
        most * 100.0
    )
}
