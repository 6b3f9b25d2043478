//! Requests take 50 ms and 256 are in flight, so 5,120 a second are possible: how close a worker keeps its slots busy.

use std::time::Duration;

use crate::RunArgs;
use crate::contender::Contender;
use crate::drain::{Drain, measure};
use crate::report::{self, Table, median, whole};
use crate::stage::Stage;

const LATENCY: Duration = Duration::from_millis(50);
const IN_FLIGHT: u32 = 256;

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let contenders = [
        Contender::Http {
            concurrency: IN_FLIGHT,
        },
        Contender::Wxnotify {
            concurrency: IN_FLIGHT,
        },
        Contender::Pgmq,
    ];
    let ideal = f64::from(IN_FLIGHT) / LATENCY.as_secs_f64();
    let rows = args.rows * 2;
    let mut drains: Vec<Vec<Drain>> = vec![Vec::new(); contenders.len()];
    for _ in 0..args.rounds.min(2) {
        for (contender, drains) in contenders.iter().zip(&mut drains) {
            drains.push(measure(stage, contender, rows, LATENCY).await?);
        }
    }
    let mut table = Table::new([
        "contender",
        "of the ideal",
        "rows/s",
        "database CPU, µs a row",
    ]);
    for (contender, drains) in contenders.iter().zip(&drains) {
        let rate = median(drains.iter().map(Drain::rate));
        table.row([
            contender.label(),
            format!("{:.3}", rate / ideal),
            whole(rate),
            format!("{:.0}", median(drains.iter().map(Drain::database_us))),
        ]);
    }
    let text = format!(
        "{}\n{} rows, {} rounds; the ideal is {} rows/s. {}",
        table.markdown(),
        whole(rows as f64),
        args.rounds.min(2),
        whole(ideal),
        super::disturbance(drains.iter().flatten())
    );
    report::write(&args.docs, "latency", &text)
}
