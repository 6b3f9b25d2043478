//! What stands at the front of the queue and cannot be sent: a million due rows of a paused template, and one user with
//! 100,000 due rows of which one may go at a time. The others must not notice.

use sqlx::{AssertSqlSafe, PgPool};

use crate::RunArgs;
use crate::contender::load_wxnotify;
use crate::crew::Crew;
use crate::message;
use crate::report::{self, Table, median, whole};
use crate::stage::Stage;

/// What is in front of the others' rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Front {
    Nothing,
    PausedTemplate,
    OneUser,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let rows = args.rows * 5;
    let paused = (1e6 * args.scale) as u64;
    let of_user = (1e5 * args.scale) as u64;
    let fronts = [
        (Front::Nothing, 0, "nothing".to_owned()),
        (
            Front::PausedTemplate,
            paused,
            format!("{} rows of a paused template", whole(paused as f64)),
        ),
        (
            Front::OneUser,
            of_user,
            format!("{} rows of one user", whole(of_user as f64)),
        ),
    ];
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); fronts.len()];
    for _ in 0..args.rounds.min(2) {
        for ((front, count, _), rates) in fronts.iter().zip(&mut rates) {
            rates.push(measure(stage, *front, *count, rows).await?);
        }
    }
    let mut table = Table::new([
        "in front",
        "others' rows/s",
        "of the rate with nothing in front",
    ]);
    for ((_, _, label), of) in fronts.iter().zip(&rates) {
        let ratios = of.iter().zip(&rates[0]).map(|(rate, clean)| rate / clean);
        table.row([
            label.clone(),
            whole(median(of.iter().copied())),
            format!("{:.2}", median(ratios)),
        ]);
    }
    let text = format!(
        "{}\n{} rows of others behind it, {} rounds, medians. The worker meets it unprepared: clearing the front away is part of the time.",
        table.markdown(),
        whole(rows as f64),
        args.rounds.min(2)
    );
    report::write(&args.docs, "front", &text)
}

async fn measure(stage: &Stage, front: Front, count: u64, rows: u64) -> anyhow::Result<f64> {
    let database = stage.database().await?;
    load_wxnotify(&database.pool, 1, rows).await?;
    put_in_front(&database.pool, front, count).await?;
    sqlx::query("vacuum analyze")
        .execute(&database.pool)
        .await?;
    let crew = Crew::start(&database, 1, 64, 1).await?;
    // The user's own sends are among them, a few a second.
    let stretch = crew.stretch(stage, 1, rows).await?;
    crew.end().await?;
    stage.drop_database(database).await?;
    Ok(stretch.rate)
}

/// Due an hour before the others.
async fn put_in_front(pool: &PgPool, front: Front, count: u64) -> anyhow::Result<()> {
    let columns = match front {
        Front::Nothing => return Ok(()),
        Front::PausedTemplate => "'oPaused' || n, 'template-paused'",
        Front::OneUser => "'oTheOne', 'template-of-one'",
    };
    let statement = format!(
        "alter table pending_notifications disable trigger user; \
         insert into pending_notifications (appid, openid, template_id, data, send_at, due) \
         select '{}', {columns}, '{{\"thing1\": {{\"value\": \"x\"}}}}', t, t \
         from generate_series(1, {count}) n cross join lateral (select now() - interval '1 hour' + n * interval '1 ms' as t) v; \
         alter table pending_notifications enable trigger user; \
         insert into wechat_templates (appid, template_id, paused_until, pause_reason) \
         values ('{}', 'template-paused', now() + interval '1 day', 'bench')",
        message::APPID,
        message::APPID
    );
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(pool)
        .await?;
    Ok(())
}
