//! A transaction holds a snapshot open, so that VACUUM can remove nothing, while many rows are sent: does the rate hold.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use crate::RunArgs;
use crate::contender::Contender;
use crate::plot::{self, Line};
use crate::report::{self, Table, median, whole};
use crate::stage::{FakeProcess, Stage};

/// Points of the curve.
const PARTS: u64 = 20;

/// What was seen when a part of the rows was sent.
struct Point {
    sent: u64,
    /// Rows a second since the point before.
    rate: f64,
    pending_bytes: f64,
    lease_bytes: f64,
}

struct Curve {
    label: &'static str,
    points: Vec<Point>,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let rows = args.snapshot_rows;
    let worker = Contender::Wxnotify { concurrency: 64 };
    let kernel = Contender::Kernel { lease_rows: 64 };
    let curves = [
        Curve {
            label: "wxnotify",
            points: measure(stage, worker, rows, false).await?,
        },
        Curve {
            label: "wxnotify, snapshot held open",
            points: measure(stage, worker, rows, true).await?,
        },
        Curve {
            label: "graphile_worker (Rust), snapshot held open",
            points: measure(stage, Contender::GraphileRust, rows, true).await?,
        },
        Curve {
            label: "database alone, leases of 64, snapshot held open",
            points: measure(stage, kernel, rows, true).await?,
        },
    ];
    let mut table = Table::new([
        "",
        "first tenth, rows/s",
        "last tenth, rows/s",
        "last over first",
        "rows table at the end, MiB",
        "lease table at the end, MiB",
    ]);
    for curve in &curves {
        // The first part holds the start of the program, so the first tenth begins behind it.
        let first = median(curve.points[1..3].iter().map(|point| point.rate));
        let last = median(
            curve.points[curve.points.len() - 2..]
                .iter()
                .map(|point| point.rate),
        );
        let end = &curve.points[curve.points.len() - 1];
        let mebibytes = |bytes: f64| format!("{:.1}", bytes / 1024.0 / 1024.0);
        table.row([
            curve.label.to_owned(),
            whole(first),
            whole(last),
            format!("{:.2}", last / first),
            mebibytes(end.pending_bytes),
            mebibytes(end.lease_bytes),
        ]);
    }
    let lines: Vec<Line> = curves
        .iter()
        .map(|curve| Line {
            label: curve.label.to_owned(),
            points: curve
                .points
                .iter()
                .map(|point| (point.sent as f64, point.rate))
                .collect(),
        })
        .collect();
    plot::lines(
        &args.docs.join("performance/snapshot.svg"),
        "Rate while a snapshot is held open",
        "rows sent",
        "rows a second",
        &lines,
    )?;
    let text = format!(
        "{}\n{} rows, one run each.",
        table.markdown(),
        whole(rows as f64)
    );
    report::write(&args.docs, "snapshot", &text)
}

async fn measure(
    stage: &Stage,
    contender: Contender,
    rows: u64,
    pinned: bool,
) -> anyhow::Result<Vec<Point>> {
    let database = stage.database().await?;
    contender.load(&database, rows).await?;
    let mut pin = PgConnection::connect(&database.url).await?;
    if pinned {
        sqlx::raw_sql("begin isolation level repeatable read; select count(*) from pg_class")
            .execute(&mut pin)
            .await?;
    }
    let fake = FakeProcess::start(Duration::ZERO).await?;
    let mut child = contender
        .command(&database.url, &fake.base_url, rows)?
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().unwrap_or_default();
    if contender.sends() {
        fake.wait_for(1, Duration::from_secs(60)).await?;
    } else {
        contender.wait_for_first(&database.pool, rows).await?;
    }
    let mut points = Vec::new();
    let (mut since, mut seen) = (Instant::now(), 0);
    let sizes = match contender {
        Contender::GraphileRust => {
            "select pg_total_relation_size('graphile_worker._private_jobs')::float8, 0::float8"
        }
        _ => {
            "select pg_total_relation_size('pending_notifications')::float8, pg_total_relation_size('notification_leases')::float8"
        }
    };
    for part in 1..=PARTS {
        let mark = rows * part / PARTS;
        let sent = if contender.sends() {
            fake.wait_for(mark, Duration::from_secs(120)).await?;
            mark
        } else {
            settled(&database.pool, mark).await?
        };
        let elapsed = since.elapsed();
        since = Instant::now();
        let (pending_bytes, lease_bytes) = sqlx::query_as(sizes).fetch_one(&database.pool).await?;
        points.push(Point {
            sent,
            rate: (sent - seen) as f64 / elapsed.as_secs_f64(),
            pending_bytes,
            lease_bytes,
        });
        seen = sent;
    }
    contender.end(&mut child, pid).await?;
    pin.close().await?;
    stage.drop_database(database).await?;
    Ok(points)
}

/// Waits until so many rows are in the history, by the identity of the newest: kernel drains settle in order.
async fn settled(pool: &sqlx::PgPool, mark: u64) -> anyhow::Result<u64> {
    let began = Instant::now();
    loop {
        let newest: Option<i64> =
            sqlx::query_scalar("select id from notification_history order by id desc limit 1")
                .fetch_optional(pool)
                .await?;
        let newest = u64::try_from(newest.unwrap_or_default())?;
        if newest >= mark {
            return Ok(newest);
        }
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(120),
            "{newest} of {mark} rows"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
