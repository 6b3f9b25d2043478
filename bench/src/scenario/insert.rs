//! What an INSERT costs a producer, and what of it the validation and the bell.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::RunArgs;
use crate::contender;
use crate::message;
use crate::report::{self, Table, median};
use crate::stage::Stage;

/// Rows of one multi-row INSERT.
const STATEMENT_ROWS: u64 = 500;

/// Which triggers are on, and whether a worker sleeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Variant {
    AsShipped,
    BellArmed,
    NoBell,
    NoValidation,
    Neither,
}

const VARIANTS: [(Variant, Fields, &str); 7] = [
    (Variant::AsShipped, message::data, "as shipped"),
    (
        Variant::BellArmed,
        message::data,
        "as shipped, a worker asleep",
    ),
    (Variant::NoBell, message::data, "without the bell"),
    (Variant::NoValidation, message::data, "without validation"),
    (Variant::Neither, message::data, "without either"),
    (
        Variant::AsShipped,
        message::data_of_three,
        "three fields, as shipped",
    ),
    (
        Variant::NoValidation,
        message::data_of_three,
        "three fields, without validation",
    ),
];

/// The fields of a row.
type Fields = fn(u64) -> serde_json::Value;

/// Cost of one row in microseconds: elapsed and database CPU.
struct Cost {
    elapsed: f64,
    cpu: f64,
}

pub async fn run(stage: &Stage, args: &RunArgs) -> anyhow::Result<()> {
    let mut costs: Vec<(Vec<Cost>, Vec<Cost>)> =
        VARIANTS.iter().map(|_| Default::default()).collect();
    for _ in 0..args.rounds {
        for ((variant, fields, _), (copies, inserts)) in VARIANTS.iter().zip(&mut costs) {
            copies.push(measure(stage, *variant, *fields, args.rows, copy).await?);
            inserts.push(measure(stage, *variant, *fields, args.rows, insert).await?);
        }
    }
    let mut table = Table::new([
        "triggers",
        "COPY, µs a row",
        "COPY, database CPU µs a row",
        "multi-row INSERT, µs a row",
        "multi-row INSERT, database CPU µs a row",
    ]);
    for ((_, _, label), (copies, inserts)) in VARIANTS.iter().zip(&costs) {
        let cell = |costs: &[Cost], value: fn(&Cost) -> f64| {
            format!("{:.1}", median(costs.iter().map(value)))
        };
        table.row([
            (*label).to_owned(),
            cell(copies, |cost| cost.elapsed),
            cell(copies, |cost| cost.cpu),
            cell(inserts, |cost| cost.elapsed),
            cell(inserts, |cost| cost.cpu),
        ]);
    }
    let text = format!(
        "{}\n{} rows, of five fields each unless said otherwise, {STATEMENT_ROWS} rows an INSERT, {} rounds, medians.",
        table.markdown(),
        report::whole(args.rows as f64),
        args.rounds
    );
    report::write(&args.docs, "insert", &text)
}

async fn measure(
    stage: &Stage,
    variant: Variant,
    fields: Fields,
    rows: u64,
    load: impl AsyncFn(&mut PgConnection, u64, Fields) -> anyhow::Result<()>,
) -> anyhow::Result<Cost> {
    let database = stage.database().await?;
    contender::migrate(&database.pool).await?;
    let mut connection = PgConnection::connect(&database.url).await?;
    let preparation = match variant {
        Variant::AsShipped => "",
        Variant::BellArmed => "select setval('notification_bell', 1)",
        Variant::NoBell => "alter table pending_notifications disable trigger bell",
        Variant::NoValidation => "alter table pending_notifications disable trigger arrive",
        Variant::Neither => {
            "alter table pending_notifications disable trigger bell, disable trigger arrive"
        }
    };
    sqlx::raw_sql(preparation).execute(&mut connection).await?;
    // The rows lie ready in the server, or in memory for COPY, so that making them is not measured.
    let ready = format!(
        "create unlogged table ready as select n, appid, openid, template_id, page, \
             (select jsonb_object_agg(key, value) from jsonb_each(data) where '{}'::jsonb ? key) as data \
         from generate_series(1, {rows}) n, lateral (select {}) v (appid, openid, template_id, page, data); \
         create index on ready (n); analyze ready",
        fields(0),
        message::columns_in_sql(1)
    );
    sqlx::raw_sql(AssertSqlSafe(ready))
        .execute(&mut connection)
        .await?;
    let (cpu, began) = (stage.cpu(), Instant::now());
    load(&mut connection, rows, fields).await?;
    let elapsed = began.elapsed();
    // A backend's time is seen once it sleeps.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let cpu = stage.cpu().saturating_sub(cpu);
    connection.close().await?;
    stage.drop_database(database).await?;
    let per_row = |time: Duration| time.as_secs_f64() * 1e6 / rows as f64;
    Ok(Cost {
        elapsed: per_row(elapsed),
        cpu: per_row(cpu),
    })
}

/// One COPY of all rows. `due` is given for the variants without the trigger that sets it.
async fn copy(connection: &mut PgConnection, rows: u64, fields: Fields) -> anyhow::Result<()> {
    let text: String = (1..=rows)
        .map(|number| {
            format!(
                "{}\t{}\t{}\t{}\t{}\tnow\n",
                message::APPID,
                message::openid(number),
                message::TEMPLATE_ID,
                message::page(number),
                fields(number)
            )
        })
        .collect();
    let mut copying = connection
        .copy_in_raw(
            "copy pending_notifications (appid, openid, template_id, page, data, due) from stdin",
        )
        .await?;
    copying.send(text.into_bytes()).await?;
    copying.finish().await?;
    Ok(())
}

/// INSERTs of some hundred rows, each a transaction.
async fn insert(connection: &mut PgConnection, rows: u64, _: Fields) -> anyhow::Result<()> {
    let mut first = 1;
    while first <= rows {
        sqlx::query(
            "insert into pending_notifications (appid, openid, template_id, page, data, due) \
             select appid, openid, template_id, page, data, now() from ready where n between $1 and $2",
        )
        .bind(i64::try_from(first)?)
        .bind(i64::try_from(first + STATEMENT_ROWS - 1)?)
        .execute(&mut *connection)
        .await?;
        first += STATEMENT_ROWS;
    }
    Ok(())
}
