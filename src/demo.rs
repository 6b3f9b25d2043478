//! `wxnotify demo`: the whole program on a bare machine, from nothing to a proof.
//!
//! A throwaway Postgres, a fake WeChat and a worker run in this process. A few hundred rows of every fate are inserted
//! through plain SQL; tokens are stolen, replies get lost, operators pause, cancel and decide. At the end stands what
//! wxnotify believes of every row beside WeChat's own ledger, compared row by row: any difference is listed and fails the command.
//!
//! Start at [`run`]; [`perform`] is the same without a screen or a Postgres of its own.

pub mod comparison;
pub mod incidents;
pub mod plan;
mod reminders;
pub mod screen;
mod stage;

use std::io::Write;
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use self::comparison::{Belief, Comparison, compare};
use self::plan::{Fate, Plan, ROWS_MIN, RefusedInsert};
use self::screen::Screen;
use self::stage::Stage;
use crate::exit::{Exit, Output};
use crate::postgres::{Options, ThrowawayPostgres};
use crate::signals::StopSignals;
use crate::simulate::Ledger;

/// The most rows: beyond it the demo takes longer than anybody watches.
const ROWS_MAX: i64 = 10_000;

/// `wxnotify demo`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stay up afterwards, to look around
    #[arg(long)]
    keep: bool,
    /// Instead: forty incidents in a throwaway database, to practise on; stays up
    #[arg(long, conflicts_with_all = ["keep", "rows", "seed"])]
    incidents: bool,
    /// How many rows
    #[arg(long, value_name = "N", default_value_t = 320, value_parser = clap::value_parser!(u32).range(ROWS_MIN as i64..=ROWS_MAX))]
    rows: u32,
    /// Decides the order of the rows
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What both sides said at the end.
#[derive(Debug, Clone)]
pub struct Performance {
    /// What was to happen.
    pub plan: Plan,
    /// INSERTs that had to be refused, with the answers.
    pub refused: Vec<RefusedInsert>,
    /// The view `notifications`.
    pub beliefs: Vec<Belief>,
    /// WeChat's side.
    pub ledger: Ledger,
}

impl Performance {
    /// Compares both sides row by row.
    #[must_use]
    pub fn compare(&self) -> Comparison {
        compare(&self.plan, &self.refused, &self.beliefs, &self.ledger)
    }
}

/// Plays the demo on an empty database, without a screen.
///
/// # Errors
///
/// The stage could not be set up, or the database failed. That both sides disagree is no error here.
pub async fn perform(rows: usize, seed: u64, database_url: &str) -> anyhow::Result<Performance> {
    let plan = Plan::new(rows, seed);
    let screen = Screen::silent();
    let stage = Stage::set_up(&plan, seed, database_url, &free_address()?, &screen).await?;
    let refused = stage.try_bad_inserts().await;
    let beliefs = stage.play().await?;
    let ledger = stage.read_ledger().await;
    stage.stop_worker().await?;
    Ok(Performance {
        plan,
        refused,
        beliefs,
        ledger,
    })
}

/// Plays the demo and shows it.
///
/// # Errors
///
/// As [`perform`], or there is no Postgres server on this machine.
pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    if args.incidents {
        return incidents::run(output).await;
    }
    let began = Instant::now();
    let screen = if output.json {
        Screen::silent()
    } else {
        Screen::of_process(output.color)
    };
    let plan = Plan::new(args.rows as usize, args.seed);
    screen.say(&format!(
        "{}: every fate of a notification, on this machine alone\n",
        screen.bold("wxnotify demo")
    ));
    let postgres = ThrowawayPostgres::start(Options::default()).await?;
    let database_url = postgres.create_database("wxnotify").await?;
    let listen = free_address()?;
    let stage = Stage::set_up(&plan, args.seed, &database_url, &listen, &screen).await?;
    screen.event("a throwaway Postgres has the schema, a worker runs");
    screen.event(&format!(
        "a fake WeChat listens on {}",
        stage.fake.base_url()
    ));
    show_statements(&plan, &screen);
    let refused = stage.try_bad_inserts().await;
    show_refusals(&refused, &screen);
    screen.heading("Now everything at once");
    let beliefs = stage.play().await?;
    let performance = Performance {
        refused,
        beliefs,
        ledger: stage.read_ledger().await,
        plan: plan.clone(),
    };
    let comparison = performance.compare();
    let took = began.elapsed();
    if output.json {
        let document = document(&comparison, &performance.ledger, took);
        writeln!(std::io::stdout(), "{document:#}")?;
    } else {
        screen.compare(&comparison, &performance.ledger);
        reminders::show(&stage, &screen).await?;
        show_what_next(
            &performance,
            args.keep.then_some((&*database_url, &stage, &*listen)),
            began.elapsed(),
            &screen,
        );
    }
    if args.keep {
        StopSignals::listen()
            .context("waiting for Ctrl-C")?
            .next()
            .await;
    }
    stage.stop_worker().await?;
    postgres.stop().await?;
    Ok(if comparison.disagreements.is_empty() {
        Exit::Done.into()
    } else {
        Exit::Failed.into()
    })
}

/// A free loopback address for the HTTP listener.
fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.to_string())
}

/// A few of the statements that are run.
fn show_statements(plan: &Plan, screen: &Screen) {
    screen.heading("A producer types plain SQL, which is the whole interface");
    for fate in [Fate::Normal, Fate::Scheduled, Fate::Armed] {
        if let Some(row) = plan.of(fate).next() {
            screen.statement(&row.insert_statement());
        }
    }
    if let Some(row) = plan.of(Fate::Armed).next() {
        screen.statement(&row.arm_statement());
    }
}

fn show_refusals(refused: &[RefusedInsert], screen: &Screen) {
    screen.heading("What WeChat would refuse does not get in");
    for message in refused
        .iter()
        .filter_map(|insert| insert.message.as_deref())
    {
        screen.error(message);
    }
}

/// The table as JSON.
fn document(comparison: &Comparison, ledger: &Ledger, took: Duration) -> serde_json::Value {
    json!({
        "agrees": comparison.disagreements.is_empty(),
        "seconds": (took.as_secs_f64() * 10.0).round() / 10.0,
        "fates": comparison.fates,
        "refused_inserts": comparison.refused_inserts,
        "ledger": ledger.counts,
        "disagreements": comparison.disagreements,
    })
}

/// What to try next; with what stays up, the commands to reach it.
fn show_what_next(
    performance: &Performance,
    kept: Option<(&str, &Stage<'_>, &str)>,
    took: Duration,
    screen: &Screen,
) {
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "wxnotify".to_owned());
    let faint = |text: &str| screen.faint(&format!("# {text}"));
    screen.heading("What to try next");
    let Some((database_url, stage, listen)) = kept else {
        let hints = [
            (
                format!("{program} demo --keep"),
                "stay up: psql, explain, metrics",
            ),
            (
                format!("{program} run --help"),
                "the worker, for your database and mini-program",
            ),
            ("ls sql/operator".to_owned(), "an operator's query book"),
        ];
        let width = hints
            .iter()
            .map(|(command, _)| command.len())
            .max()
            .unwrap_or(0);
        for (command, hint) in hints {
            screen.say(&format!("  {command:width$}  {}", faint(hint)));
        }
        let took = took.as_secs_f64();
        return screen
            .say(&screen.faint(&format!("\nAll of it took {took:.0} s and is gone again.")));
    };
    screen.say(&format!(
        "  export DATABASE_URL='{database_url}'\n  psql \"$DATABASE_URL\"\n  {program} status"
    ));
    for fate in [
        Fate::PresumedSent,
        Fate::Doubled,
        Fate::NoCredit,
        Fate::FieldRefused,
        Fate::Unresolved,
    ] {
        let ids = performance.plan.of(fate).filter_map(|row| {
            let belief = performance.beliefs.iter();
            belief
                .clone()
                .find(|belief| belief.business_ref == row.business_ref)
        });
        if let Some(belief) = ids.take(1).next() {
            screen.say(&format!(
                "  {program} explain {:<6} {}",
                belief.id,
                faint(fate.label())
            ));
        }
    }
    screen.say(&format!(
        "  curl -s {}/_control/ledger    {}\n  curl -s http://{listen}/metrics    {}\n\nCtrl-C ends it all.",
        stage.fake.base_url(),
        faint("WeChat's side"),
        faint("the worker's metrics"),
    ));
}
