//! The queue kernel, through its SQL functions: a file per subject.
//!
//! [`Queue`] is a database of the test's own with one registered mini-program. Sessions that a test
//! opens give up a statement after twenty seconds, so a wait that should not be is an error.

mod deduplicating;
mod doubting;
mod guarding;
mod kinds;
mod leasing;
pub mod mutants;
mod obstacles;
mod planning;
mod producing;
mod settling;
mod tidying;
mod waking;

use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgExecutor, PgPool};

use crate::harness::{TestDatabase, insert_row};

/// The mini-program that every queue has.
pub const APP: &str = "wxapp-one";
/// How long evidence is awaited, and how long a held doubt lasts, in these tests.
const DOUBT_WINDOW_SECS: f64 = 120.0;
const DOUBT_AGE_SECS: f64 = 7.0 * 86_400.0;

/// A database whose queue is under test.
pub struct Queue {
    database: TestDatabase,
}

/// One lease, as its worker knows it.
#[derive(Debug, Clone)]
pub struct Lease {
    pub appid: String,
    pub worker: String,
    pub lease_id: i64,
    pub low_lease_id: i64,
    pub ids: Vec<i64>,
}

/// What became of one send, as a worker reports it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub id: i64,
    pub verdict: &'static str,
    pub delay_secs: f64,
    pub waiting_for: Option<&'static str>,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    pub credit: Option<&'static str>,
    pub msgid: Option<i64>,
}

impl Outcome {
    pub fn sent(id: i64) -> Self {
        Self::of(id, "sent")
    }

    pub fn retry(id: i64) -> Self {
        Self {
            errcode: Some(-1),
            errmsg: Some("system busy".into()),
            ..Self::of(id, "retry")
        }
    }

    pub fn doubt(id: i64) -> Self {
        Self::of(id, "doubt")
    }

    pub fn dead(id: i64, errcode: i64, credit: &'static str) -> Self {
        Self {
            errcode: Some(errcode),
            credit: Some(credit),
            ..Self::of(id, "dead")
        }
    }

    pub fn of(id: i64, verdict: &'static str) -> Self {
        Self {
            id,
            verdict,
            ..Self::default()
        }
    }
}

/// The columns of a pending row that are wxnotify's own.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Pending {
    pub due: Option<DateTime<Utc>>,
    pub waiting_for: Option<String>,
    pub attempts: i16,
    pub rescues: i16,
    pub in_doubt_since: Option<DateTime<Utc>>,
    pub last_lease: Option<i64>,
    pub last_errmsg: Option<String>,
}

/// A row of the history.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Final {
    pub status: String,
    pub settled_by: String,
    pub attempts: i16,
    pub in_doubt_since: Option<DateTime<Utc>>,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    pub msgid: Option<i64>,
    pub credit: Option<String>,
    pub duplicate_of: Option<i64>,
    pub data: Value,
    pub held: bool,
}

/// A moment `secs` from now, negative for the past, as Postgres reads it.
pub fn in_secs(secs: i64) -> String {
    (Utc::now() + TimeDelta::seconds(secs)).to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl Queue {
    pub async fn new() -> Self {
        let queue = Self {
            database: TestDatabase::new().await,
        };
        queue.register(APP).await;
        queue
    }

    pub fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    pub fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// The URL of the database, for the program itself.
    pub fn url(&self) -> &str {
        self.database.url()
    }

    pub async fn register(&self, appid: &str) {
        let statement = "insert into wechat_apps (appid) values ($1)";
        sqlx::query(statement)
            .bind(appid)
            .execute(self.pool())
            .await
            .unwrap();
    }

    /// A connection of its own, for a transaction that stays open.
    pub async fn session(&self) -> PgConnection {
        let options: PgConnectOptions = self.database.url().parse().unwrap();
        let options = options.options([("statement_timeout", "20s")]);
        PgConnection::connect_with(&options).await.unwrap()
    }

    /// Inserts one row for each object; what an object leaves out is filled in. Returns the ids.
    pub async fn enqueue_all(&self, rows: impl IntoIterator<Item = Value>) -> Vec<i64> {
        let mut ids = Vec::new();
        for row in rows {
            ids.push(insert(self.pool(), row).await.unwrap());
        }
        ids
    }

    pub async fn enqueue(&self, row: Value) -> i64 {
        insert(self.pool(), row).await.unwrap()
    }

    /// Inserts `count` plain rows, each for a user of its own, in one statement.
    pub async fn enqueue_many(&self, appid: &str, count: i32) {
        sqlx::query(
            "insert into pending_notifications (appid, openid, template_id, data)
             select $1, 'user-' || n, 'template-1', '{\"thing1\": \"x\"}' from generate_series(1, $2) n",
        )
        .bind(appid)
        .bind(count)
        .execute(self.pool())
        .await
        .unwrap();
    }

    /// Leases from the start of lane 1, at most 64 rows.
    pub async fn lease(&self, worker: &str) -> Option<Lease> {
        lease(self.pool(), APP, 1, worker, 64).await.unwrap()
    }

    /// Leases and starts; there must be something to lease.
    pub async fn lease_and_start(&self, worker: &str) -> Lease {
        let lease = self.lease(worker).await.expect("something to lease");
        assert!(start(self.pool(), &lease).await);
        lease
    }

    /// Settles and closes; nothing may be left over.
    pub async fn settle(&self, lease: &Lease, outcomes: &[Outcome]) {
        let rest = settle(self.pool(), lease, true, outcomes).await.unwrap();
        assert_eq!(rest, Some(vec![]), "every row settles");
    }

    pub async fn rescue(&self) -> i32 {
        sqlx::query_scalar("select wxnotify_rescue($1, $2)")
            .bind(DOUBT_WINDOW_SECS)
            .bind(DOUBT_AGE_SECS)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    pub async fn tidy(&self, appid: &str) -> i32 {
        self.number(&format!("wxnotify_tidy('{appid}', 1::smallint)"))
            .await
    }

    pub async fn weigh(&self) -> i32 {
        self.number(&format!("wxnotify_weigh('{APP}')")).await
    }

    async fn number(&self, expression: &str) -> i32 {
        let statement = AssertSqlSafe(format!("select ({expression})::int"));
        sqlx::query_scalar(statement)
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Runs a statement past every trigger, to bring rows into a state; returns the rows it changed.
    pub async fn force(&self, statement: &str) -> u64 {
        let mut transaction = self.pool().begin().await.unwrap();
        sqlx::query("set local session_replication_role = replica")
            .execute(&mut *transaction)
            .await
            .unwrap();
        let done = sqlx::query(AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        done.rows_affected()
    }

    /// Lets every wait of a row, or of its duplicates, be over.
    pub async fn make_due(&self, id: i64) {
        let changed = self
            .force(&format!(
                "update pending_notifications set due = clock_timestamp() - interval '5 s' where id = {id}"
            ))
            .await;
        assert_eq!(changed, 1);
    }

    /// Lets every lease expire.
    pub async fn expire_leases(&self) {
        self.force(
            "update notification_leases set expires_at = clock_timestamp() - interval '1 s'",
        )
        .await;
    }

    pub async fn pending(&self, id: i64) -> Pending {
        sqlx::query_as(
            "select nullif(due, 'infinity') as due, waiting_for, attempts, rescues, in_doubt_since, last_lease, last_errmsg
             from pending_notifications where id = $1",
        )
        .bind(id)
        .fetch_one(self.pool())
        .await
        .unwrap()
    }

    pub async fn history(&self, id: i64) -> Final {
        let mut found: Vec<Final> = sqlx::query_as(
            "select status, settled_by, attempts, in_doubt_since, errcode, errmsg, msgid, credit, duplicate_of, data, held
             from notification_history where id = $1",
        )
        .bind(id)
        .fetch_all(self.pool())
        .await
        .unwrap();
        assert_eq!(
            found.len(),
            1,
            "notification {id} is final exactly once: {found:?}"
        );
        found.remove(0)
    }

    /// The final status of a row, or `pending` with what it waits for.
    pub async fn state(&self, id: i64) -> String {
        let states: Vec<String> = sqlx::query_scalar(
            "select 'pending' || coalesce(': ' || waiting_for, '') from pending_notifications where id = $1
             union all select status from notification_history where id = $1",
        )
        .bind(id)
        .fetch_all(self.pool())
        .await
        .unwrap();
        states.join(" and ")
    }

    pub async fn leases(&self) -> i64 {
        sqlx::query_scalar("select count(*) from notification_leases")
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Stores an event of WeChat about a pair, `secs` from now.
    pub async fn event(&self, openid: &str, msgid: i64, secs: i64) {
        sqlx::query(
            "insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at)
             values ($1, 'subscribe_msg_sent_event', $2, 'template-1', $3, $4::timestamptz)",
        )
        .bind(APP)
        .bind(openid)
        .bind(msgid)
        .bind(in_secs(secs))
        .execute(self.pool())
        .await
        .unwrap();
    }

    /// Waits until the backend with this process id waits for a lock.
    pub async fn until_blocked(&self, backend: i32) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let statement = "select exists (select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock')";
        while !sqlx::query_scalar::<_, bool>(statement)
            .bind(backend)
            .fetch_one(self.pool())
            .await
            .unwrap()
        {
            assert!(
                Instant::now() < deadline,
                "backend {backend} never waited for a lock"
            );
            tokio::task::yield_now().await;
        }
    }
}

/// The process id of a session's backend.
pub async fn backend(session: &mut PgConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(session)
        .await
        .unwrap()
}

/// Runs a statement; returns the rows it changed.
pub async fn run(executor: impl PgExecutor<'_>, statement: &str) -> u64 {
    let statement = AssertSqlSafe(statement.to_owned());
    sqlx::query(statement)
        .execute(executor)
        .await
        .unwrap()
        .rows_affected()
}

/// Inserts one row of the given columns; the receiver, template and data have defaults here.
pub async fn insert(executor: impl PgExecutor<'_>, mut row: Value) -> sqlx::Result<i64> {
    let columns = row.as_object_mut().unwrap();
    for (column, value) in [
        ("appid", json!(APP)),
        ("openid", json!("user-1")),
        ("template_id", json!("template-1")),
        ("data", json!({"thing1": "x"})),
    ] {
        columns.entry(column).or_insert(value);
    }
    insert_row(executor, &row).await
}

/// Leases from the start of a lane.
pub async fn lease(
    executor: impl PgExecutor<'_>,
    appid: &str,
    lane: i16,
    worker: &str,
    rows: i32,
) -> sqlx::Result<Option<Lease>> {
    lease_after(
        executor,
        appid,
        lane,
        worker,
        rows,
        (DateTime::UNIX_EPOCH, 0),
        0,
    )
    .await
}

/// Leases after a watermark, knowing the smallest live lease.
pub async fn lease_after(
    executor: impl PgExecutor<'_>,
    appid: &str,
    lane: i16,
    worker: &str,
    rows: i32,
    watermark: (DateTime<Utc>, i64),
    low_lease_id: i64,
) -> sqlx::Result<Option<Lease>> {
    type Leased = (Option<i64>, Option<i64>, Option<i64>);
    let leased: Vec<Leased> = sqlx::query_as(
        "select lease_id, low_lease_id, id from wxnotify_lease($1, $2, $3, $4, $5, $6, $7, 30)",
    )
    .bind(appid)
    .bind(lane)
    .bind(worker)
    .bind(watermark.0)
    .bind(watermark.1)
    .bind(low_lease_id)
    .bind(rows)
    .fetch_all(executor)
    .await?;
    // A lone row without ids is a marker: only losers of dedup keys were met.
    let Some(&(Some(lease_id), low_lease_id, _)) = leased.first() else {
        return Ok(None);
    };
    let ids = leased.iter().map(|row| row.2.unwrap()).collect();
    Ok(Some(Lease {
        appid: appid.to_owned(),
        worker: worker.to_owned(),
        lease_id,
        low_lease_id: low_lease_id.unwrap(),
        ids,
    }))
}

/// Records that sending begins; false: the lease is gone.
pub async fn start(executor: impl PgExecutor<'_>, lease: &Lease) -> bool {
    let started: Option<DateTime<Utc>> =
        sqlx::query_scalar("select wxnotify_start($1, $2, $3, 30)")
            .bind(&lease.appid)
            .bind(lease.lease_id)
            .bind(&lease.worker)
            .fetch_one(executor)
            .await
            .unwrap();
    started.is_some()
}

/// Settles; returns the ids that somebody else holds, or `None` when fenced.
pub async fn settle(
    executor: impl PgExecutor<'_>,
    lease: &Lease,
    close: bool,
    outcomes: &[Outcome],
) -> sqlx::Result<Option<Vec<i64>>> {
    let (sent, unsent): (Vec<&Outcome>, Vec<&Outcome>) = outcomes
        .iter()
        .partition(|outcome| outcome.verdict == "sent");
    let each = |column: fn(&Outcome) -> Option<String>| {
        unsent.iter().map(|o| column(o)).collect::<Vec<_>>()
    };
    sqlx::query_scalar(
        "select wxnotify_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, array_fill(null::text, array[$16]),
             array_fill(null::smallint, array[$16]), array_fill(null::text, array[$16]), array_fill(null::int, array[$16]), $13, $14, $15)",
    )
    .bind(&lease.appid)
    .bind(lease.lease_id)
    .bind(&lease.worker)
    .bind(close)
    .bind(sent.iter().map(|o| o.id).collect::<Vec<_>>())
    .bind(sent.iter().map(|o| o.msgid).collect::<Vec<_>>())
    .bind(unsent.iter().map(|o| o.id).collect::<Vec<_>>())
    .bind(unsent.iter().map(|o| o.verdict).collect::<Vec<_>>())
    .bind(unsent.iter().map(|o| o.delay_secs).collect::<Vec<_>>())
    .bind(each(|o| o.waiting_for.map(str::to_owned)))
    .bind(unsent.iter().map(|o| o.errcode).collect::<Vec<_>>())
    .bind(each(|o| o.errmsg.clone()))
    .bind(each(|o| o.credit.map(str::to_owned)))
    .bind(DOUBT_WINDOW_SECS)
    .bind(DOUBT_AGE_SECS)
    .bind(i32::try_from(unsent.len()).unwrap())
    .fetch_one(executor)
    .await
}

/// Settles several leases of one worker in one call and closes them; answers as [`settle`] does, in their order.
pub async fn settle_together(
    executor: impl PgExecutor<'_>,
    settles: &[(Lease, Vec<Outcome>)],
) -> sqlx::Result<Vec<Option<Vec<i64>>>> {
    let of = |is_sent: bool| {
        settles.iter().flat_map(move |(_, outcomes)| {
            outcomes
                .iter()
                .filter(move |o| (o.verdict == "sent") == is_sent)
        })
    };
    let counts = |is_sent: bool| {
        let count = |outcomes: &[Outcome]| {
            outcomes
                .iter()
                .filter(|o| (o.verdict == "sent") == is_sent)
                .count()
        };
        let counts = settles
            .iter()
            .map(|(_, outcomes)| i32::try_from(count(outcomes)).unwrap());
        counts.collect::<Vec<_>>()
    };
    let unsent = || of(false);
    let answers: Vec<(i64, Option<Vec<i64>>)> = sqlx::query_as(
        "select settled_lease_id, kept_back from wxnotify_settle_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
             array_fill(null::text, array[$18]), array_fill(null::smallint, array[$18]), array_fill(null::text, array[$18]),
             array_fill(null::int, array[$18]), $15, $16, $17)",
    )
    .bind(&settles[0].0.worker)
    .bind(settles.iter().map(|(lease, _)| lease.appid.as_str()).collect::<Vec<_>>())
    .bind(settles.iter().map(|(lease, _)| lease.lease_id).collect::<Vec<_>>())
    .bind(vec![true; settles.len()])
    .bind(counts(true))
    .bind(counts(false))
    .bind(of(true).map(|o| o.id).collect::<Vec<_>>())
    .bind(of(true).map(|o| o.msgid).collect::<Vec<_>>())
    .bind(unsent().map(|o| o.id).collect::<Vec<_>>())
    .bind(unsent().map(|o| o.verdict).collect::<Vec<_>>())
    .bind(unsent().map(|o| o.delay_secs).collect::<Vec<_>>())
    .bind(unsent().map(|o| o.waiting_for).collect::<Vec<_>>())
    .bind(unsent().map(|o| o.errcode).collect::<Vec<_>>())
    .bind(unsent().map(|o| o.errmsg.clone()).collect::<Vec<_>>())
    .bind(unsent().map(|o| o.credit).collect::<Vec<_>>())
    .bind(DOUBT_WINDOW_SECS)
    .bind(DOUBT_AGE_SECS)
    .bind(i32::try_from(unsent().count()).unwrap())
    .fetch_all(executor)
    .await?;
    Ok(answers
        .into_iter()
        .map(|(_, kept_back)| kept_back)
        .collect())
}
