//! Each commit takes 5 ms more, as with a slow disk or a standby that confirms: what that costs eight workers, which have
//! enough in flight to wait together.

use crate::RunArgs;
use crate::contender::load_wxnotify;
use crate::crew::Crew;
use crate::report::{self, Table, median, whole};
use crate::stage::Stage;
use sqlx::AssertSqlSafe;

const WORKERS: u32 = 8;

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let rows = args.rows * 4;
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        fast.push(measure(stage, rows, 0).await?);
        slow.push(measure(stage, rows, 5000).await?);
    }
    let mut table = Table::new(["commits", "rows/s", "of the rate without delay"]);
    for (label, rates) in [("as they are", &fast), ("5 ms more", &slow)] {
        table.row([
            label.to_owned(),
            whole(median(rates.iter().copied())),
            format!(
                "{:.2}",
                median(rates.iter().zip(&fast).map(|(rate, fast)| rate / fast))
            ),
        ]);
    }
    let text = format!(
        "{}\n{} rows, {WORKERS} workers with 64 in flight each, {} rounds, medians; the first fifth of the sends is not counted. \
         The delay is `commit_delay`, which Postgres makes before each flush of its log.",
        table.markdown(),
        whole(rows as f64),
        args.rounds
    );
    report::write(&args.docs, "slow-commits", &text)
}

async fn measure(stage: &Stage, rows: u64, delay_us: u32) -> anyhow::Result<f64> {
    let database = stage.database().await?;
    load_wxnotify(&database.pool, 1, rows).await?;
    sqlx::query("vacuum analyze")
        .execute(&database.pool)
        .await?;
    let settings = format!(
        "alter database {0} set commit_delay = {delay_us}; alter database {0} set commit_siblings = 0",
        database.name
    );
    sqlx::raw_sql(AssertSqlSafe(settings))
        .execute(&database.pool)
        .await?;
    let crew = Crew::start(&database, WORKERS, 64, 1).await?;
    let stretch = crew.stretch(stage, rows / 5, rows).await?;
    crew.end().await?;
    stage.drop_database(database).await?;
    Ok(stretch.rate)
}
