//! What a dedup key adds to a row's way through the queue: the same drain without requests, with and without keys.

use std::time::Duration;

use crate::RunArgs;
use crate::contender::Contender;
use crate::drain::{Drain, measure_loaded};
use crate::report::{self, Table, median, whole};
use crate::stage::Stage;

const CONTENDER: Contender = Contender::Kernel { lease_rows: 256 };

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let (mut plain, mut keyed) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        plain.push(measure(stage, args.rows, false).await?);
        keyed.push(measure(stage, args.rows, true).await?);
    }
    let mut table = Table::new([
        "rows",
        "rows/s",
        "database CPU, µs a row",
        "of a row without a key",
        "WAL, bytes a row",
    ]);
    for (label, drains) in [
        ("without a key", &plain),
        ("each with a dedup key of its own", &keyed),
    ] {
        let ratios = drains
            .iter()
            .zip(&plain)
            .map(|(drain, plain)| drain.database_us() / plain.database_us());
        table.row([
            label.to_owned(),
            whole(median(drains.iter().map(Drain::rate))),
            format!("{:.0}", median(drains.iter().map(Drain::database_us))),
            format!("{:.2}", median(ratios)),
            whole(median(drains.iter().map(Drain::wal_per_row))),
        ]);
    }
    let text = format!(
        "{}\n{} rows without requests, leases of 256, {} rounds, medians. {}",
        table.markdown(),
        whole(args.rows as f64),
        args.rounds,
        super::disturbance(plain.iter().chain(&keyed))
    );
    report::write(&args.docs, "keys", &text)
}

async fn measure(stage: &Stage, rows: u64, keyed: bool) -> anyhow::Result<Drain> {
    let database = stage.database().await?;
    CONTENDER.load(&database, rows).await?;
    if keyed {
        // By the table's owner and not by a producer: the triggers would take it for a reschedule.
        sqlx::raw_sql(
            "alter table pending_notifications disable trigger user; \
             update pending_notifications set dedup_key = 'order-' || id; \
             alter table pending_notifications enable trigger user",
        )
        .execute(&database.pool)
        .await?;
        sqlx::query("vacuum full pending_notifications")
            .execute(&database.pool)
            .await?;
        sqlx::query("vacuum analyze")
            .execute(&database.pool)
            .await?;
    }
    measure_loaded(stage, &CONTENDER, rows, Duration::ZERO, database).await
}
