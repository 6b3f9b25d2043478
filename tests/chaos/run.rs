//! How every scenario goes: clean, then faults under load, then clean again, then the comparison.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::checker::{self, Kind, Verdict};
use crate::stage::{Mix, Plan, Stage};

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

pub fn plan() -> Plan {
    Plan::new(setting("WXNOTIFY_CHAOS_SEED", 7))
}

/// A scenario's figures.
pub struct Outcome {
    pub verdict: Verdict,
    pub faults: u32,
    pub recovery: Duration,
    pub kept: f64,
    pub logs: String,
}

/// Runs a scenario to its end. `fault` is played again and again, at least `rounds` times, while producers insert; it
/// returns how long recovery took.
pub async fn run(
    plan: Plan,
    rounds: u32,
    fault: impl AsyncFnMut(&mut Stage) -> Duration,
) -> Outcome {
    let stage = Stage::new(plan).await;
    run_on(stage, rounds, fault).await
}

pub async fn run_on(
    mut stage: Stage,
    rounds: u32,
    mut fault: impl AsyncFnMut(&mut Stage) -> Duration,
) -> Outcome {
    let rows = stage.plan.rows;
    let rows = rows.unwrap_or_else(|| setting("WXNOTIFY_CHAOS_SENDS", 600));
    let clean = Clean::of(rows);
    stage.spawn_all();
    // Whoever starts is slow at first.
    stage.insert(20, Mix::Plain).await;
    stage.drain(stage.plan.patience).await;
    let before = clean.measure(&mut stage).await;
    let address = Arc::new(Mutex::new(stage.url()));
    let producing = stage.produce(rows * 2 / 3, address.clone());
    let mut faults = 0;
    let mut recovery = Duration::ZERO;
    while faults < rounds || !producing.has_enough() {
        stage.until_sends(20).await;
        recovery = recovery.max(fault(&mut stage).await);
        *address.lock().unwrap() = stage.url();
        faults += 1;
        stage.revive();
    }
    producing.stop().await;
    let left = stage.drain(stage.plan.patience).await;
    let after = if left == 0 {
        clean.measure(&mut stage).await
    } else {
        0.0
    };
    let history = stage.history().await;
    let verdict = checker::compare(&history);
    let logs = stage.logs();
    if verdict.violations.is_empty() {
        stage.finish();
    }
    Outcome {
        verdict,
        faults,
        recovery,
        kept: after / before.max(0.001),
        logs,
    }
}

/// How the rate without faults is measured: the median of some stretches of so many rows.
struct Clean {
    stretches: usize,
    rows: u64,
}

impl Clean {
    /// A short run only shows that messages flow; one that makes figures has enough of them to tell a tenth from chance.
    fn of(sends: u64) -> Self {
        if sends < 2_000 {
            Self {
                stretches: 1,
                rows: sends / 6,
            }
        } else {
            Self {
                stretches: 5,
                rows: 800,
            }
        }
    }

    /// Messages per second.
    async fn measure(&self, stage: &mut Stage) -> f64 {
        let mut rates = Vec::with_capacity(self.stretches);
        for _ in 0..self.stretches {
            rates.push(stage.measure(self.rows).await);
        }
        rates.sort_by(f64::total_cmp);
        rates[self.stretches / 2]
    }
}

impl Outcome {
    /// Writes the scenario's line, then fails if anything is wrong.
    pub fn report(self, name: &str) {
        self.write(name);
        assert!(
            self.verdict.violations.is_empty(),
            "{name}: {}\n{}",
            self.verdict.summary(),
            self.first_violations()
        );
    }

    pub fn first_violations(&self) -> String {
        let mut seen = std::collections::HashMap::<Kind, u32>::new();
        let mut lines = Vec::new();
        for violation in &self.verdict.violations {
            let count = seen.entry(violation.kind).or_default();
            *count += 1;
            if *count <= 5 {
                lines.push(violation.to_string());
            }
        }
        lines.join("\n")
    }

    pub fn write(&self, name: &str) {
        let verdict = &self.verdict;
        let lost = verdict.count(&[Kind::Lost, Kind::NeverEnded]);
        let unrecorded = verdict.count(&[Kind::SentTwiceUnrecorded]);
        let on_hold = verdict.count(&[Kind::SentTwiceOnHold]);
        let line = format!(
            "| `{name}` | {} | {} | {} | {} | {lost} | {} | {unrecorded} | {on_hold} of {} | {:.1} s | {:.0} % | {} |",
            verdict.sends,
            verdict.accepted,
            self.faults,
            verdict.doubts,
            verdict.twice_recorded,
            verdict.doubts_on_hold,
            self.recovery.as_secs_f64(),
            self.kept * 100.0,
            if verdict.violations.is_empty() && verdict.late > 0 {
                format!("none; {} late, in doubt", verdict.late)
            } else if verdict.violations.is_empty() {
                "none".to_owned()
            } else {
                verdict.summary()
            }
        );
        println!("{line}");
        if let Ok(path) = std::env::var("WXNOTIFY_CHAOS_REPORT") {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path);
            writeln!(file.unwrap(), "{line}").unwrap();
        }
    }
}

/// Lets a while of load pass.
pub async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
