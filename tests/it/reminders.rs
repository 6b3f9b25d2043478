//! Reminders as rows: each time of a schedule is fired once or says why not, and what starts is what the schedule says now.

mod changing;
mod checking;
mod making;
mod quiet;
mod starting;
mod working;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};

use crate::kernel::{APP, Lease, Queue, lease, run};

/// A queue with schedules.
pub struct Reminders {
    queue: Queue,
}

/// What `reminder_outcomes` says of a time.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Fire {
    pub state: String,
    pub reason: Option<String>,
    pub count: i32,
    pub audience: i32,
    pub made: i32,
    pub open: i64,
    pub sent: i64,
    pub no_credit: i64,
    pub refused: i64,
    pub expired: i64,
    pub cancelled: i64,
}

/// Inserts a schedule; the receiver, template, text and times have defaults here.
pub async fn insert_schedule(
    executor: impl PgExecutor<'_>,
    mut columns: Value,
) -> sqlx::Result<i64> {
    let row = columns.as_object_mut().unwrap();
    let is_one = !row.contains_key("audience");
    for (column, value) in [
        ("appid", json!(APP)),
        ("name", json!("schedule")),
        ("cron", json!("0 8 * * *")),
        ("time_zone", json!("UTC")),
        ("template_id", json!("template-1")),
        ("data", json!({"thing1": "x"})),
        ("credit", json!("none")),
    ] {
        row.entry(column).or_insert(value);
    }
    if is_one {
        row.entry("openid").or_insert(json!("user-1"));
    }
    let names = row.keys().cloned().collect::<Vec<_>>().join(", ");
    let statement = format!(
        "insert into reminder_schedules ({names})
         select {names} from jsonb_populate_record(null::reminder_schedules, $1) returning id"
    );
    sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(columns)
        .fetch_one(executor)
        .await
}

/// Stores the times of a schedule's calendar, in seconds from now, as if it had been computed two days ago.
pub async fn set_times(executor: impl PgExecutor<'_>, id: i64, times: &[f64]) {
    sqlx::query(
        "select wxnotify_store_calendar(s.spec, clock_timestamp() - interval '2 days', clock_timestamp() + interval '8 days',
             array_agg(t.at at time zone 'UTC' order by t.at), array_agg(0::smallint), array_agg(t.at order by t.at), null)
         from reminder_schedules s,
              lateral (select date_trunc('second', clock_timestamp()) + u * interval '1 second' as at from unnest($2::float8[]) u) t
         where s.id = $1 group by s.spec",
    )
    .bind(id)
    .bind(times)
    .execute(executor)
    .await
    .unwrap();
}

impl Reminders {
    pub async fn new() -> Self {
        Self {
            queue: Queue::new().await,
        }
    }

    /// A schedule that workers have seen to, whose only times are these, in seconds from now.
    pub async fn schedule(&self, columns: Value, times: &[f64]) -> i64 {
        let id = insert_schedule(self.queue.pool(), columns).await.unwrap();
        self.apply().await;
        self.set_times(id, times).await;
        id
    }

    pub async fn set_times(&self, id: i64, times: &[f64]) {
        set_times(self.queue.pool(), id, times).await;
    }

    /// Makes as if nobody had seen to its times of the last `secs` seconds.
    pub async fn go_back(&self, id: i64, secs: i64) {
        self.run(&format!(
            "update reminder_clock set place = clock_timestamp() - interval '{secs} s', next_fire_at = clock_timestamp() where schedule_id = {id}"
        ))
        .await;
    }

    pub async fn run(&self, statement: &str) -> u64 {
        run(self.queue.pool(), statement).await
    }

    pub async fn count(&self, expression: &str) -> i64 {
        let statement = AssertSqlSafe(format!("select ({expression})::bigint"));
        sqlx::query_scalar(statement)
            .fetch_one(self.queue.pool())
            .await
            .unwrap()
    }

    pub async fn text(&self, expression: &str) -> Option<String> {
        let statement = AssertSqlSafe(format!("select ({expression})::text"));
        sqlx::query_scalar(statement)
            .fetch_one(self.queue.pool())
            .await
            .unwrap()
    }

    /// Sees to what was changed. Returns how many changes are left.
    pub async fn apply(&self) -> i64 {
        self.run("select wxnotify_apply_changes()").await;
        self.count("select count(*) from reminder_changes").await
    }

    /// Fires what is due; which schedules could not be had.
    pub async fn fire(&self) -> Vec<i64> {
        fire(self.queue.pool()).await
    }

    pub async fn fan_out(&self, rows: i32) -> Option<i32> {
        fan_out(self.queue.pool(), rows).await
    }

    pub async fn fan_out_all(&self) {
        while self.fan_out(1000).await.is_some_and(|seen| seen > 0) {}
    }

    pub async fn fires(&self, id: i64) -> Vec<Fire> {
        let statement = "select state, reason, count, audience, made, open, sent, no_credit, refused, expired, cancelled
                         from reminder_outcomes where schedule_id = $1 order by local_at, fold";
        sqlx::query_as(statement)
            .bind(id)
            .fetch_all(self.queue.pool())
            .await
            .unwrap()
    }

    /// The ids of rows not final that a schedule made.
    pub async fn made(&self, id: i64) -> Vec<i64> {
        let statement =
            "select id from pending_notifications where schedule_id = $1 order by openid";
        sqlx::query_scalar(statement)
            .bind(id)
            .fetch_all(self.queue.pool())
            .await
            .unwrap()
    }

    /// The statuses of all rows that a schedule made, by openid.
    pub async fn statuses(&self, id: i64) -> Vec<(String, String)> {
        let statement =
            "select openid, status from notifications where schedule_id = $1 order by openid, id";
        sqlx::query_as(statement)
            .bind(id)
            .fetch_all(self.queue.pool())
            .await
            .unwrap()
    }

    pub async fn listen_on(&self, id: i64, openids: &[&str]) {
        sqlx::query(
            "insert into reminder_audience (schedule_id, openid) select $1, unnest($2::text[])",
        )
        .bind(id)
        .bind(openids)
        .execute(self.queue.pool())
        .await
        .unwrap();
    }

    /// A held credit of the user.
    pub async fn hold(&self, openid: &str) -> i64 {
        let row = json!({"openid": openid, "held": true, "data": {}});
        self.queue.enqueue(row).await
    }

    /// Makes every row of a schedule due now.
    pub async fn make_due(&self, id: i64) {
        self.queue
            .force(&format!(
                "update pending_notifications set due = clock_timestamp() - interval '1 s' where schedule_id = {id}"
            ))
            .await;
    }

    /// Fires, makes the rows due and leases them.
    pub async fn lease(&self, id: i64) -> Lease {
        self.make_due(id).await;
        lease(self.queue.pool(), APP, self.lane(id).await, "one", 64)
            .await
            .unwrap()
            .expect("something to lease")
    }

    async fn lane(&self, id: i64) -> i16 {
        let lane = self
            .count(&format!(
                "select coalesce((select lane from reminder_schedules where id = {id}), 1)"
            ))
            .await;
        i16::try_from(lane).unwrap()
    }

    pub async fn start(&self, lease: &Lease) -> Option<Vec<i64>> {
        start_reminders(self.queue.pool(), lease).await
    }
}

pub async fn fire(executor: impl PgExecutor<'_>) -> Vec<i64> {
    sqlx::query_scalar("select kept_back from wxnotify_fire_due(15, 1000, '{}')")
        .fetch_one(executor)
        .await
        .unwrap()
}

pub async fn fan_out(executor: impl PgExecutor<'_>, rows: i32) -> Option<i32> {
    sqlx::query_scalar("select wxnotify_fan_out($1)")
        .bind(rows)
        .fetch_one(executor)
        .await
        .unwrap()
}

/// Which rows of the lease may go; `None`: it is gone.
pub async fn start_reminders(executor: impl PgExecutor<'_>, lease: &Lease) -> Option<Vec<i64>> {
    sqlx::query_scalar(
        "select s.ids from notification_leases l, wxnotify_start_reminders(l.appid, l.lease_id, l.worker, 30, l.leased_at) s
         where l.appid = $1 and l.lease_id = $2",
    )
    .bind(&lease.appid)
    .bind(lease.lease_id)
    .fetch_optional(executor)
    .await
    .unwrap()
}

/// A transaction that stays open, in which `statement` was run.
pub async fn hold_open(reminders: &Reminders, statement: &str) -> PgConnection {
    let mut session = reminders.queue.session().await;
    run(&mut session, "begin").await;
    run(&mut session, statement).await;
    session
}
