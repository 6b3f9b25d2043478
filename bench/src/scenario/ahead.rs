//! A year or two of use: 5 million rows scheduled ahead, 10 million in the history over 24 partitions. The rate must be that on
//! empty tables, and operators' views must answer while they wait.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::RunArgs;
use crate::contender::{insert_rows, load_wxnotify};
use crate::crew::{Crew, Stretch};
use crate::message;
use crate::report::{self, Table, median, whole};
use crate::stage::{Database, Stage};

/// A view takes at most this long, totals aside.
const VIEW_LIMIT: Duration = Duration::from_millis(100);

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let scheduled = (5e6 * args.scale) as u64;
    let history = (1e7 * args.scale) as u64;
    let (empty, deep) = (stage.database().await?, stage.database().await?);
    load_wxnotify(&empty.pool, 1, 0).await?;
    load_wxnotify(&deep.pool, 1, 0).await?;
    let began = Instant::now();
    fill(&deep, scheduled, history).await?;
    eprintln!("  filled within {:.0} s", began.elapsed().as_secs_f64());

    let (mut on_empty, mut on_deep) = (Vec::new(), Vec::new());
    for round in 0..u64::from(args.rounds) {
        on_empty.push(measure(stage, &empty, round, args.rows).await?);
        on_deep.push(measure(stage, &deep, round, args.rows).await?);
    }
    let mut table = Table::new([
        "tables",
        "rows/s",
        "of the rate on empty tables",
        "database CPU, µs a row",
    ]);
    for (label, runs) in [("empty", &on_empty), ("full", &on_deep)] {
        table.row([
            label.to_owned(),
            whole(median(runs.iter().map(|run| run.rate))),
            format!(
                "{:.2}",
                median(
                    runs.iter()
                        .zip(&on_empty)
                        .map(|(run, empty)| run.rate / empty.rate)
                )
            ),
            format!("{:.0}", median(runs.iter().map(|run| run.database_us))),
        ]);
    }
    let views = time_views(&deep).await?;
    let text = format!(
        "{}\n{} rows scheduled ahead, {} in the history over 24 months; {} rows drained a round, {} rounds, medians.\n\n{}",
        table.markdown(),
        whole(scheduled as f64),
        whole(history as f64),
        whole(args.rows as f64),
        args.rounds,
        views
    );
    stage.drop_database(empty).await?;
    stage.drop_database(deep).await?;
    report::write(&args.docs, "ahead", &text)
}

/// Rows written past the triggers, as if they had come and gone over two years.
async fn fill(database: &Database, scheduled: u64, history: u64) -> anyhow::Result<()> {
    let columns = message::columns_in_sql(1);
    let statement = format!(
        "do $$ declare v_month date; begin \
             for v_month in select generate_series(date_trunc('month', now() at time zone 'UTC') - interval '23 months', \
                                                   date_trunc('month', now() at time zone 'UTC') - interval '2 months', interval '1 month')::date loop \
                 execute format('create table notification_history_%s partition of notification_history for values from (%L) to (%L)', \
                     to_char(v_month, 'YYYY_MM'), v_month || ' 00:00:00+00', (v_month + interval '1 month')::date || ' 00:00:00+00'); \
             end loop; end $$; \
         alter table pending_notifications disable trigger user; \
         insert into pending_notifications (appid, openid, template_id, page, data, send_at, due) \
         select {columns}, t, t from generate_series(1, {scheduled}) n \
         cross join lateral (select now() + interval '1 day' + n * interval '100 ms' as t) v; \
         alter table pending_notifications enable trigger user; \
         insert into notification_history (id, appid, openid, template_id, page, data, status, kind, miniprogram_state, lang, send_at, held, lane, \
             on_doubt, attempts_max, created_at, producer, attempts, errcode, credit, msgid, settled_by, worker, last_attempt_at, finished_at) \
         select -n, {columns}, case when n % 100 = 0 then 'dead' else 'sent' end, 'one_time', 'formal', 'zh_CN', t, false, 1, 'retry', 8, t, 'bench', 1, \
             case when n % 100 = 0 then 40003 else 0 end, case when n % 100 = 0 then 'kept' end, 4000000000000000000 + n, 'reply', 'worker-1#1', t, t \
         from generate_series(1, {history}) n \
         cross join lateral (select date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' - interval '23 months' \
             + n * ((now() - date_trunc('month', now()) + interval '699 days') / {history}) as t) v"
    );
    // A session of its own, without a deadline; the history is made, not recovered.
    let mut session = PgConnection::connect(&database.url).await?;
    sqlx::raw_sql("set synchronous_commit = off")
        .execute(&mut session)
        .await?;
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut session)
        .await?;
    sqlx::raw_sql("vacuum analyze")
        .execute(&mut session)
        .await?;
    sqlx::raw_sql("checkpoint").execute(&mut session).await?;
    session.close().await?;
    Ok(())
}

async fn measure(
    stage: &Stage,
    database: &Database,
    round: u64,
    rows: u64,
) -> anyhow::Result<Stretch> {
    stage.wait_for_quiet().await;
    // Receivers of their own, so that no round finds its predecessors' rows.
    let first = 100_000_000 + round * rows;
    insert_rows(&database.pool, 1, first, first + rows - 1).await?;
    sqlx::query("checkpoint").execute(&database.pool).await?;
    let crew = Crew::start(database, 1, 64, 1).await?;
    let stretch = crew.stretch(stage, rows / 20, rows).await?;
    crew.end().await?;
    Ok(stretch)
}

/// Every view's first hundred rows, one row's story and the operators' queries, each the better of two times.
async fn time_views(database: &Database) -> anyhow::Result<String> {
    let mut queries: Vec<(String, String)> = sqlx::query_as::<_, (String,)>(
        "select viewname::text from pg_views where schemaname = current_schema() order by 1",
    )
    .fetch_all(&database.pool)
    .await?
    .into_iter()
    .map(|(view,)| {
        (
            format!("`{view}`, 100 rows"),
            format!("select * from {view} limit 100"),
        )
    })
    .collect();
    for status in [
        "held",
        "scheduled",
        "due",
        "sending",
        "retrying",
        "in_doubt",
        "paused",
        "sent",
        "dead",
        "expired",
        "unresolved",
    ] {
        queries.push((
            format!("`notifications`, 100 {status}"),
            format!("select * from notifications where status = '{status}' limit 100"),
        ));
    }
    let (id, openid): (i64, String) = sqlx::query_as(
        "select id, openid from notification_history order by id limit 1 offset 1000",
    )
    .fetch_one(&database.pool)
    .await?;
    queries.push((
        "`notifications` by id".to_owned(),
        format!("select * from notifications where id = {id}"),
    ));
    queries.push((
        "`notifications` of a user".to_owned(),
        format!(
            "select * from notifications where appid = '{}' and openid = '{openid}'",
            message::APPID
        ),
    ));
    queries.push((
        "`explain_notification`".to_owned(),
        format!("select * from explain_notification({id})"),
    ));
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/operator"));
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    for file in files {
        queries.push((
            format!("`sql/operator/{}`", file.file_name().to_string_lossy()),
            std::fs::read_to_string(file.path())?,
        ));
    }
    let mut session = PgConnection::connect(&database.url).await?;
    sqlx::raw_sql("set jit = off").execute(&mut session).await?;
    let mut table = Table::new(["query", "ms"]);
    let mut slow = Vec::new();
    let mut fast = 0;
    for (label, query) in queries {
        let mut best = Duration::MAX;
        for _ in 0..2 {
            let began = Instant::now();
            sqlx::raw_sql(AssertSqlSafe(query.clone()))
                .fetch_all(&mut session)
                .await?;
            best = best.min(began.elapsed());
        }
        if best > VIEW_LIMIT {
            slow.push((label, best));
        } else {
            fast += 1;
        }
    }
    for (label, took) in &slow {
        table.row([label.clone(), format!("{:.0}", took.as_secs_f64() * 1e3)]);
    }
    let said = format!(
        "{fast} of {} views and operators' queries answer within 100 ms, with `jit` off",
        fast + slow.len()
    );
    Ok(if slow.is_empty() {
        format!("{said}.")
    } else {
        format!("{said}; the others:\n\n{}", table.markdown())
    })
}
