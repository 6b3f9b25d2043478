//! The drain of a database that runs all day: rows of 600 bytes right after VACUUM ANALYZE and CHECKPOINT, so that each page goes
//! to the log whole the first time it is touched. Beside it the same without the checkpoint, as `drain` has it; client, server,
//! table state and, for those written in Rust, the allocator are the same for all contenders.

use std::time::Duration;

use crate::RunArgs;
use crate::contender::Contender;
use crate::drain::{Drain, measure, measure_loaded};
use crate::report::{self, Table, median, whole};
use crate::stage::Stage;
use crate::traffic::{judged, judged_from_below};

const OURS: Contender = Contender::Wxnotify { concurrency: 64 };
const CONTENDERS: [Contender; 8] = [
    Contender::Http { concurrency: 64 },
    OURS,
    Contender::Pgmq,
    Contender::GraphileRust,
    Contender::River,
    Contender::Awa,
    Contender::GraphileNode,
    Contender::PgBoss,
];
/// 60,000 rows unless told otherwise.
const ROWS_FACTOR: u64 = 3;

/// The drains of one contender, one a round.
struct Rounds {
    contender: Contender,
    warm: Vec<Drain>,
    checkpointed: Vec<Drain>,
}

impl Rounds {
    fn rate(&self) -> f64 {
        median(self.checkpointed.iter().map(Drain::rate))
    }

    fn database_us(&self) -> f64 {
        median(self.checkpointed.iter().map(Drain::database_us))
    }
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let rows = args.rows * ROWS_FACTOR;
    let mut contenders: Vec<Rounds> = CONTENDERS
        .into_iter()
        .filter(|contender| !args.without.contains(&contender.name()))
        .map(|contender| Rounds {
            contender,
            warm: Vec::new(),
            checkpointed: Vec::new(),
        })
        .collect();
    for round in 1..=args.rounds {
        for rounds in &mut contenders {
            let contender = rounds.contender;
            let warm = measure(stage, &contender, rows, Duration::ZERO).await?;
            let checkpointed = measure_checkpointed(stage, contender, rows).await?;
            eprintln!(
                "  round {round}: {} {} rows/s, {} after a checkpoint",
                contender.name(),
                whole(warm.rate()),
                whole(checkpointed.rate())
            );
            rounds.warm.push(warm);
            rounds.checkpointed.push(checkpointed);
        }
    }
    report::write(&args.docs, "checkpointed", &text(&contenders, rows, args))
}

async fn measure_checkpointed(
    stage: &Stage,
    contender: Contender,
    rows: u64,
) -> anyhow::Result<Drain> {
    let database = stage.database().await?;
    contender.load(&database, rows).await?;
    sqlx::query("checkpoint").execute(&database.pool).await?;
    measure_loaded(stage, &contender, rows, Duration::ZERO, database).await
}

fn text(contenders: &[Rounds], rows: u64, args: &RunArgs) -> String {
    let mut table = Table::new([
        "contender",
        "rows/s",
        "of the HTTP client's",
        "database CPU, µs a row",
        "without the checkpoint",
        "WAL, bytes a row",
        "without the checkpoint",
        "worker CPU, µs a row",
    ]);
    let http = contenders
        .iter()
        .find(|rounds| matches!(rounds.contender, Contender::Http { .. }));
    let http = http.map_or(f64::NAN, Rounds::rate);
    for rounds in contenders {
        let of = |drains: &[Drain], value: fn(&Drain) -> f64| median(drains.iter().map(value));
        table.row([
            rounds.contender.label(),
            whole(rounds.rate()),
            format!("{:.2}", rounds.rate() / http),
            format!("{:.0}", rounds.database_us()),
            format!("{:.0}", of(&rounds.warm, Drain::database_us)),
            whole(of(&rounds.checkpointed, Drain::wal_per_row)),
            whole(of(&rounds.warm, Drain::wal_per_row)),
            format!("{:.0}", of(&rounds.checkpointed, Drain::worker_us)),
        ]);
    }
    format!(
        "{}\n{}\n\n{} rows, {} interleaved rounds, medians. {}",
        table.markdown(),
        bars(contenders),
        whole(rows as f64),
        args.rounds,
        super::disturbance(contenders.iter().flat_map(|rounds| &rounds.checkpointed))
    )
}

/// Our rate against the peers', our database's CPU against pgmq's.
fn bars(contenders: &[Rounds]) -> String {
    let of = |wanted: Contender| contenders.iter().find(|each| each.contender == wanted);
    let Some(ours) = of(OURS) else {
        return String::new();
    };
    let mut said = Vec::new();
    if let Some(pgmq) = of(Contender::Pgmq) {
        let (rate, cpu) = (
            ours.rate() / pgmq.rate(),
            ours.database_us() / pgmq.database_us(),
        );
        said.push(format!(
            "rate {} of pgmq's",
            judged_from_below(rate, 1.0, 2)
        ));
        said.push(format!("database CPU {} of pgmq's", judged(cpu, 1.3, 2)));
    }
    if let Some(graphile) = of(Contender::GraphileRust) {
        let ratio = ours.rate() / graphile.rate();
        let ratio = judged_from_below(ratio, 1.25, 2);
        said.push(format!("rate {ratio} of graphile_worker's"));
    }
    let keepers = contenders
        .iter()
        .filter(|each| each.contender != OURS && each.contender.keeps_history());
    if let Some(best) = keepers.max_by(|one, other| one.rate().total_cmp(&other.rate())) {
        said.push(format!(
            "rate {} of the best that keeps a history, {}",
            judged_from_below(ours.rate() / best.rate(), 2.5, 2),
            best.contender.label()
        ));
    }
    format!(
        "Against the peers, bars in parentheses: {}.",
        said.join("; ")
    )
}
