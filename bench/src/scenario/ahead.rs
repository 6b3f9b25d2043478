//! A year or two of use: 5 million rows scheduled ahead, 10 million in the history over 24 partitions. The rate must be that on
//! empty tables, and operators' views must answer while they wait.

use std::time::Instant;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::RunArgs;
use crate::contender::{insert_rows, load_wxnotify};
use crate::crew::{Crew, Stretch};
use crate::message;
use crate::report::{self, Table, median, whole};
use crate::stage::{Database, Stage};
use crate::views;

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
    let views = views::slow_ones(&views::time(&deep).await?);
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
pub(super) async fn fill(database: &Database, scheduled: u64, history: u64) -> anyhow::Result<()> {
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
