//! Every contender drains the same rows, requests take no time: what a queue costs beside the requests themselves.

use std::time::Duration;

use crate::RunArgs;
use crate::contender::Contender;
use crate::drain::{Drain, measure};
use crate::plot::{self, Bar, Side};
use crate::report::{self, Table, median, whole};
use crate::stage::Stage;

const CONTENDERS: [Contender; 11] = [
    Contender::Http { concurrency: 64 },
    Contender::Http { concurrency: 256 },
    Contender::Kernel { lease_rows: 64 },
    Contender::Kernel { lease_rows: 512 },
    Contender::Wxnotify { concurrency: 64 },
    Contender::Wxnotify { concurrency: 128 },
    Contender::Wxnotify { concurrency: 256 },
    Contender::Pgmq,
    Contender::GraphileRust,
    Contender::Awa,
    Contender::GraphileNode,
];

/// All drains of one contender, one a round.
struct Rounds {
    contender: Contender,
    drains: Vec<Drain>,
}

impl Rounds {
    fn median(&self, value: impl Fn(&Drain) -> f64) -> f64 {
        median(self.drains.iter().map(value))
    }
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let mut contenders: Vec<Rounds> = CONTENDERS
        .into_iter()
        .chain([Contender::PgBoss])
        .filter(|contender| !args.without.contains(&contender.name()))
        .map(|contender| Rounds {
            contender,
            drains: Vec::new(),
        })
        .collect();
    for round in 1..=args.rounds {
        for rounds in &mut contenders {
            let drain = measure(stage, &rounds.contender, args.rows, Duration::ZERO).await?;
            eprintln!(
                "  round {round}: {} {} rows/s",
                rounds.contender.name(),
                whole(drain.rate())
            );
            rounds.drains.push(drain);
        }
    }
    let ratios = ratios(&contenders, args.rounds as usize);
    write(args, &contenders, &ratios)
}

/// The rate of each contender over the better of the HTTP clients in the same round; the median round.
fn ratios(contenders: &[Rounds], rounds: usize) -> Vec<f64> {
    let ceiling = |round: usize| {
        contenders
            .iter()
            .filter(|rounds| matches!(rounds.contender, Contender::Http { .. }))
            .map(|rounds| rounds.drains[round].rate())
            .fold(f64::NAN, f64::max)
    };
    contenders
        .iter()
        .map(|contender| {
            median((0..rounds).map(|round| contender.drains[round].rate() / ceiling(round)))
        })
        .collect()
}

fn write(args: &RunArgs, contenders: &[Rounds], ratios: &[f64]) -> anyhow::Result<()> {
    let mut table = Table::new([
        "contender",
        "ratio",
        "rows/s",
        "database CPU, µs a row",
        "WAL, bytes a row",
        "worker CPU, µs a row",
        "worker memory, MiB",
    ]);
    let mut bars = Vec::new();
    for (rounds, ratio) in contenders.iter().zip(ratios) {
        let has_database = !matches!(rounds.contender, Contender::Http { .. });
        let of_database = |text: String| if has_database { text } else { "–".to_owned() };
        table.row([
            rounds.contender.label(),
            format!("{ratio:.2}"),
            whole(rounds.median(Drain::rate)),
            of_database(format!("{:.0}", rounds.median(Drain::database_us))),
            of_database(whole(rounds.median(Drain::wal_per_row))),
            format!("{:.0}", rounds.median(Drain::worker_us)),
            format!("{:.0}", rounds.median(Drain::memory_mib)),
        ]);
        bars.push(Bar {
            label: rounds.contender.label(),
            value: *ratio,
            text: format!("{ratio:.2}"),
            side: match rounds.contender {
                Contender::Http { .. } | Contender::Kernel { .. } => Side::Ceiling,
                Contender::Wxnotify { .. } => Side::Ours,
                _ => Side::Peer,
            },
        });
    }
    bars.sort_by(|a, b| b.value.total_cmp(&a.value));
    plot::bars(
        &args.docs.join("performance/drain.svg"),
        "Drain rate, relative to the HTTP client alone",
        &bars,
    )?;
    let text = format!(
        "{}\n{} rows, {} interleaved rounds, medians. {}",
        table.markdown(),
        whole(args.rows as f64),
        args.rounds,
        super::disturbance(contenders.iter().flat_map(|rounds| &rounds.drains))
    );
    report::write(&args.docs, "drain", &text)
}
