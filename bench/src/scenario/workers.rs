//! Several workers on one database: no row twice, and what they cost each other.

use std::time::{Duration, Instant};

use crate::RunArgs;
use crate::contender::{load_wxnotify, wxnotify};
use crate::message;
use crate::report::{self, Table, median, whole};
use crate::stage::{FakeProcess, Stage};

const WORKERS: [u32; 4] = [1, 2, 4, 8];
/// Sends in flight of one worker, or of all together.
const CONCURRENCY: u32 = 64;

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let mut each: Vec<Vec<f64>> = vec![Vec::new(); WORKERS.len()];
    let mut shared = each.clone();
    for _ in 0..args.rounds {
        for (place, workers) in WORKERS.into_iter().enumerate() {
            each[place].push(measure(stage, workers, CONCURRENCY, args.rows * 4).await?);
            let rate = if workers == 1 {
                each[place][each[place].len() - 1]
            } else {
                measure(stage, workers, CONCURRENCY / workers, args.rows * 4).await?
            };
            shared[place].push(rate);
        }
    }
    let of_one = |rates: &[f64]| {
        let ratios = rates.iter().zip(&each[0]).map(|(rate, one)| rate / one);
        format!("{:.2}", median(ratios))
    };
    let mut table = Table::new([
        "workers",
        "rows/s, 64 in flight each",
        "of one worker's rate",
        "rows/s, 64 in flight in all",
        "of one worker's rate",
    ]);
    for (place, workers) in WORKERS.iter().enumerate() {
        table.row([
            workers.to_string(),
            whole(median(each[place].iter().copied())),
            of_one(&each[place]),
            whole(median(shared[place].iter().copied())),
            of_one(&shared[place]),
        ]);
    }
    let text = format!(
        "{}\n{} rows, of which the first quarter is not timed, {} rounds, medians. Every row was sent exactly once, by the receiving side's count.",
        table.markdown(),
        whole(args.rows as f64 * 4.0),
        args.rounds
    );
    report::write(&args.docs, "workers", &text)
}

async fn measure(stage: &Stage, workers: u32, concurrency: u32, rows: u64) -> anyhow::Result<f64> {
    let database = stage.database().await?;
    load_wxnotify(&database.pool, 1, rows).await?;
    sqlx::query("vacuum analyze")
        .execute(&database.pool)
        .await?;
    let fake = FakeProcess::start(Duration::ZERO).await?;
    let mut children = Vec::new();
    for number in 1..=workers {
        let mut command = wxnotify(
            &database.url,
            &fake.base_url,
            concurrency,
            &[message::APPID],
        )?;
        command.env("WXNOTIFY_WORKER", format!("worker-{number}"));
        children.push(command.kill_on_drop(true).spawn()?);
    }
    // Once all of them are at work: starting a worker is not what is measured.
    fake.wait_for(rows / 4, Duration::from_secs(60)).await?;
    let began = Instant::now();
    let before = fake.counts().await?.0;
    fake.wait_for(rows, Duration::from_secs(240)).await?;
    let rate = (rows - before) as f64 / began.elapsed().as_secs_f64();
    for child in &mut children {
        let status = child.wait().await?;
        anyhow::ensure!(status.success(), "a worker ended with {status}");
    }
    let (arrived, accepted) = fake.counts().await?;
    let (sent, receivers): (i64, i64) = sqlx::query_as(
        "select count(*), count(distinct openid) from notification_history where status = 'sent'",
    )
    .fetch_one(&database.pool)
    .await?;
    let expected = i64::try_from(rows)?;
    anyhow::ensure!(
        (arrived, accepted, sent, receivers) == (rows, rows, expected, expected),
        "{rows} rows with {workers} workers: {arrived} sends, {accepted} accepted, {sent} recorded, {receivers} receivers"
    );
    stage.drop_database(database).await?;
    Ok(rate)
}
