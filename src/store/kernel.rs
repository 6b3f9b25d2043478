//! The queue's own statements: fronts, lease, start, renew, settle, release, rescue, weigh, tidy, and what is offered late.
//!
//! A lease reserves rows, its start is the durable record before the first send, and a settle writes what became of them.
//! Each of the three has two statements, for one and for several in one commit; which is used follows from how many are
//! asked for. One waits for the mini-program's lock and is planned for one, several pass over whoever is busy.
//!
//! Start at [`Store::lease`], then [`Store::start`], [`Store::settle`] and [`Store::rescue`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::statement::{Statement, statement};
use super::{Connections, Store, StoreError};
use crate::notification::{Kind, Notification, Openid, Outcome, Verdict};
use crate::telemetry;
use crate::wechat::Dispute;

/// The first row of one lane.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Front {
    /// With `lane`, what names the lane.
    pub appid: String,
    /// 0, 1 or 2.
    pub lane: i16,
    /// Seconds until it is due: negative when overdue, `None` when it is never due by itself.
    pub due_in_secs: Option<f64>,
    /// The database's clock.
    pub at: DateTime<Utc>,
}

/// Where a pick starts: behind the last `(due, id)` that was seen.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Watermark {
    /// `None`: from the beginning.
    pub due: Option<DateTime<Utc>>,
    /// Tells rows of one `due` apart.
    pub id: i64,
}

impl Watermark {
    /// Before every row.
    pub const START: Self = Self { due: None, id: 0 };
}

/// What to lease, and from where.
#[derive(Debug, Clone)]
pub struct LeaseRequest<'a> {
    /// One, or several when many have rows.
    pub lanes: &'a [LaneRequest],
    /// Name and epoch of this worker: the fence.
    pub worker: &'a str,
    /// At most this many rows of each lane, 1 to 512.
    pub rows: usize,
    /// Of several lanes no more are looked at once so many rows are leased.
    pub total: usize,
    /// Until anyone may rescue it.
    pub lease: Duration,
    /// Whether its sends begin at once.
    pub start: bool,
}

/// One lane to lease from.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneRequest {
    /// The one whose rows are leased, under its lock.
    pub appid: String,
    /// 0, 1 or 2.
    pub lane: i16,
    /// Where to begin.
    pub after: Watermark,
    /// The smallest live lease of the mini-program seen before, 0 if unknown; keeps dead lease rows out of the way.
    pub low_lease_id: i64,
}

/// What one lane gave.
#[derive(Debug)]
pub struct LaneLeased {
    /// Whose lane it is.
    pub appid: String,
    /// 0, 1 or 2.
    pub lane: i16,
    /// A batch, or why there is none.
    pub leased: Leased,
}

/// Outcomes of one lease for [`Store::settle`].
#[derive(Debug)]
pub struct SettleRequest {
    /// The lease.
    pub lease: LeaseKey,
    /// What became of some of its rows.
    pub outcomes: Arc<Vec<Outcome>>,
    /// No more will come.
    pub close: bool,
}

/// One leased batch: rows of one mini-program and lane, one row per user.
#[derive(Debug)]
pub struct Lease {
    /// Whose rows they all are; its token sends them.
    pub appid: String,
    /// Unique within the mini-program.
    pub lease_id: i64,
    /// When it was leased, by the database's clock; tells it from another lease of a reissued id.
    pub leased_at: DateTime<Utc>,
    /// The same moment by this process's clock, taken before the request left: never later than the truth.
    pub asked_at: Instant,
    /// The durable start, when it was started at once.
    pub started_at: Option<DateTime<Utc>>,
    /// In pick order. A row that breaks an invariant is an error in its place: `(id, reason)`.
    pub rows: Vec<Result<Notification, CorruptRow>>,
}

/// A leased row this version cannot send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptRow {
    /// The row.
    pub id: i64,
    /// What is wrong with it, without its contents.
    pub reason: String,
}

/// The answer to a lease.
#[derive(Debug)]
pub enum Leased {
    /// Nothing to lease behind the watermark.
    Nothing,
    /// Nothing was leased, but rows were cleared out of the way: ask again.
    Cleared,
    /// A batch.
    Batch {
        /// The rows.
        lease: Lease,
        /// The last row's place.
        watermark: Watermark,
        /// The smallest live lease.
        low_lease_id: i64,
    },
}

impl Leased {
    /// The lease's id and when it was leased, if there is one.
    #[must_use]
    pub fn identity(&self) -> Option<(i64, DateTime<Utc>)> {
        match self {
            Self::Batch { lease, .. } => Some((lease.lease_id, lease.leased_at)),
            Self::Nothing | Self::Cleared => None,
        }
    }

    /// How many rows were leased.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Batch { lease, .. } => lease.rows.len(),
            Self::Nothing | Self::Cleared => 0,
        }
    }
}

/// What settle answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// All but these ids were recorded; somebody holds these rows: settle them again.
    KeptBack(Vec<i64>),
    /// The lease is gone: it was rescued, or this was the repeat of a settle that closed it.
    Fenced,
}

impl Watermark {
    /// As the database's functions take it.
    fn due_or_epoch(&self) -> DateTime<Utc> {
        self.due.unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
    }
}

impl LaneLeased {
    fn unless_nothing(appid: &str, lane: i16, leased: Leased) -> Vec<Self> {
        if matches!(leased, Leased::Nothing) {
            return Vec::new();
        }
        let appid = appid.to_owned();
        vec![Self {
            appid,
            lane,
            leased,
        }]
    }
}

impl Settled {
    fn of(kept_back: Option<Vec<i64>>) -> Self {
        kept_back.map_or(Self::Fenced, Self::KeptBack)
    }
}

/// Binds outcomes and the policy for doubts to settle's statements, whose last arguments are alike.
macro_rules! bind_outcomes {
    ($query:expr, $columns:expr, $doubt:expr) => {
        $query
            .bind($columns.sent_ids)
            .bind($columns.sent_msgids)
            .bind($columns.ids)
            .bind($columns.verdicts)
            .bind($columns.delays_secs)
            .bind($columns.waiting_for)
            .bind($columns.errcodes)
            .bind($columns.errmsgs)
            .bind($columns.rids)
            .bind($columns.http_statuses)
            .bind($columns.reasons)
            .bind($columns.response_ms)
            .bind($columns.credits)
            .bind($doubt.window.as_secs_f64())
            .bind($doubt.age.as_secs_f64())
    };
}

impl Store {
    /// Every lane and its front, for the leaser; one index probe a lane.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn fronts(&self) -> Result<Vec<Front>, StoreError> {
        self.fronts_over(&self.leasing).await
    }

    /// The same for upkeep: the leaser's connection is not to wait for it.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn fronts_for_upkeep(&self) -> Result<Vec<Front>, StoreError> {
        self.fronts_over(&self.pool).await
    }

    async fn fronts_over(&self, connections: &Connections) -> Result<Vec<Front>, StoreError> {
        let statement = statement!("kernel/fronts");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_all(connections)).await
    }

    /// Ends expired and exhausted rows at the front of a lane and parks what cannot be leased now. Returns how many.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn tidy(&self, appid: &str, lane: i16, rows: i32) -> Result<i32, StoreError> {
        let statement = statement!("kernel/tidy");
        let query = statement.query_scalar().bind(appid).bind(lane).bind(rows);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Leases due rows: of one lane, waiting for the mini-program's lock, or at most `rows` of each of several, one after the
    /// other until `total` are leased; then a mini-program that another worker is leasing from is passed over. The answer
    /// leaves out lanes that had nothing.
    ///
    /// # Errors
    ///
    /// After an error rows may have been leased without us knowing: call [`Store::drop_unknown`].
    pub async fn lease(&self, request: &LeaseRequest<'_>) -> Result<Vec<LaneLeased>, StoreError> {
        let asked_at = Instant::now();
        let rows_max = i32::try_from(request.rows).unwrap_or(i32::MAX);
        if let [lane] = request.lanes {
            let statement = statement!("kernel/lease");
            let query = statement
                .query()
                .bind(&lane.appid)
                .bind(lane.lane)
                .bind(request.worker)
                .bind(lane.after.due_or_epoch())
                .bind(lane.after.id)
                .bind(lane.low_lease_id)
                .bind(rows_max)
                .bind(request.lease.as_secs_f64())
                .bind(request.start);
            let rows = self
                .run(statement.name, query.fetch_all(&self.leasing))
                .await?;
            return self.read(statement.name, || {
                let leased = read_lease(&lane.appid, &rows, asked_at)?;
                Ok(LaneLeased::unless_nothing(&lane.appid, lane.lane, leased))
            });
        }
        let statement = statement!("kernel/lease_many");
        let lanes = || request.lanes.iter();
        let dues = lanes().map(|lane| lane.after.due_or_epoch());
        let query = statement
            .query()
            .bind(lanes().map(|lane| lane.appid.as_str()).collect::<Vec<_>>())
            .bind(lanes().map(|lane| lane.lane).collect::<Vec<_>>())
            .bind(dues.collect::<Vec<_>>())
            .bind(lanes().map(|lane| lane.after.id).collect::<Vec<_>>())
            .bind(lanes().map(|lane| lane.low_lease_id).collect::<Vec<_>>())
            .bind(request.worker)
            .bind(rows_max)
            .bind(i32::try_from(request.total).unwrap_or(i32::MAX))
            .bind(request.lease.as_secs_f64())
            .bind(request.start);
        let rows = self
            .run(statement.name, query.fetch_all(&self.leasing))
            .await?;
        self.read(statement.name, || read_lanes(&rows, asked_at))
    }

    /// Records durably that rows of these leases of one worker may be sent from now on, in one commit, or renews started
    /// ones. Returns ids and starts of those that are not gone.
    ///
    /// # Errors
    ///
    /// The start may or may not have been recorded: call it again, or send nothing and let the leases lapse.
    pub async fn start(
        &self,
        leases: &[LeaseKey],
        length: Duration,
    ) -> Result<Vec<(i64, DateTime<Utc>)>, StoreError> {
        let Some(first) = leases.first() else {
            return Ok(Vec::new());
        };
        if let [lease] = leases {
            let statement = statement!("kernel/start");
            let query = statement
                .query_scalar::<Option<DateTime<Utc>>>()
                .bind(&lease.appid)
                .bind(lease.lease_id)
                .bind(&lease.worker)
                .bind(length.as_secs_f64())
                .bind(lease.leased_at);
            let started_at = self
                .run(statement.name, query.fetch_one(&self.pool))
                .await?;
            let started = started_at.map(|started_at| (lease.lease_id, started_at));
            return Ok(started.into_iter().collect());
        }
        let statement = statement!("kernel/start_many");
        let appids = leases.iter().map(|lease| lease.appid.as_str());
        let lease_ids = leases.iter().map(|lease| lease.lease_id);
        let leased_at = leases.iter().map(|lease| lease.leased_at);
        let query = statement
            .query_as()
            .bind(appids.collect::<Vec<_>>())
            .bind(lease_ids.collect::<Vec<_>>())
            .bind(leased_at.collect::<Vec<_>>())
            .bind(&first.worker)
            .bind(length.as_secs_f64());
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }

    /// Lets started leases of one worker last for `length` from now; one whose row a settle of it holds at this moment is
    /// passed over. Returns the ids of those that last longer.
    ///
    /// # Errors
    ///
    /// They may or may not last longer: ask again.
    pub async fn renew(
        &self,
        leases: &[LeaseKey],
        length: Duration,
    ) -> Result<Vec<i64>, StoreError> {
        let Some(first) = leases.first() else {
            return Ok(Vec::new());
        };
        let statement = statement!("kernel/renew");
        let query = statement
            .query_scalar()
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.appid.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.lease_id)
                    .collect::<Vec<_>>(),
            )
            .bind(
                leases
                    .iter()
                    .map(|lease| lease.leased_at)
                    .collect::<Vec<_>>(),
            )
            .bind(&first.worker)
            .bind(length.as_secs_f64());
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }

    /// Gives back a lease that was never started. False: it is gone already.
    ///
    /// # Errors
    ///
    /// It then lapses by itself.
    pub async fn release(&self, lease: &LeaseKey) -> Result<bool, StoreError> {
        let statement = statement!("kernel/release");
        let query = statement
            .query_scalar()
            .bind(&lease.appid)
            .bind(lease.lease_id)
            .bind(&lease.worker);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Gives up every lease of this worker whose id is not in `known` and that was leased `age` ago or earlier.
    ///
    /// # Errors
    ///
    /// Those leases lapse by themselves.
    pub async fn drop_unknown(
        &self,
        worker: &str,
        known: &[i64],
        age: Duration,
    ) -> Result<i32, StoreError> {
        let statement = statement!("kernel/drop_unknown");
        let query = statement
            .query_scalar()
            .bind(worker)
            .bind(known)
            .bind(age.as_secs_f64());
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Records that the answer which decided a row came for another, too. False: the row is still on its way, repeat this then.
    ///
    /// # Errors
    ///
    /// Repeat it: it is recorded once.
    pub async fn record_dispute(
        &self,
        dispute: &Dispute,
        worker: &str,
    ) -> Result<bool, StoreError> {
        let reason = format!(
            "disputed: its answer ({}) came for notification {}, too, and is one of theirs at most",
            dispute.answer, dispute.other
        );
        let statement = statement!("kernel/record_dispute");
        let query = statement
            .query_scalar()
            .bind(dispute.notification_id)
            .bind(reason)
            .bind(worker);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Records outcomes of leases of one worker, in one commit. Answers in the order of `requests`.
    ///
    /// # Errors
    ///
    /// The outcomes may or may not have been recorded: settle again, it is idempotent. [`StoreError::is_refusal`]: settle
    /// them carefully. A data error may be another lease's: settle each by itself then.
    pub async fn settle(
        &self,
        requests: &[SettleRequest],
        doubt: DoubtPolicy,
    ) -> Result<Vec<Settled>, StoreError> {
        let Some(first) = requests.first() else {
            return Ok(Vec::new());
        };
        if let [one] = requests {
            let settled = self.settle_one(statement!("kernel/settle"), one, doubt);
            return Ok(vec![settled.await?]);
        }
        let statement = statement!("kernel/settle_many");
        let asked_at = Instant::now();
        let leases = || requests.iter().map(|request| &request.lease);
        let mut columns = SettleColumns::default();
        let (mut sent_counts, mut counts) = (Vec::new(), Vec::new());
        for request in requests {
            let before = (columns.sent_ids.len(), columns.ids.len());
            columns.extend(&request.outcomes);
            sent_counts.push(i32::try_from(columns.sent_ids.len() - before.0).unwrap_or(i32::MAX));
            counts.push(i32::try_from(columns.ids.len() - before.1).unwrap_or(i32::MAX));
        }
        let rows = columns.sent_ids.len() + columns.ids.len();
        let closes = requests.iter().map(|request| request.close);
        let query = statement
            .query_as::<(i64, Option<Vec<i64>>)>()
            .bind(&first.lease.worker)
            .bind(
                leases()
                    .map(|lease| lease.appid.as_str())
                    .collect::<Vec<_>>(),
            )
            .bind(leases().map(|lease| lease.lease_id).collect::<Vec<_>>())
            .bind(closes.collect::<Vec<_>>())
            .bind(sent_counts)
            .bind(counts);
        let query = bind_outcomes!(query, columns, doubt);
        let answers = self
            .run(statement.name, query.fetch_all(&self.pool))
            .await?;
        telemetry::record_settle(rows, asked_at.elapsed());
        let kept_back = answers.into_iter().map(|(_, kept_back)| kept_back);
        Ok(kept_back.map(Settled::of).collect())
    }

    /// As [`Store::settle`], for outcomes that were refused: a row that the database refuses to move to the history costs only
    /// itself. Dearer.
    ///
    /// # Errors
    ///
    /// As [`Store::settle`].
    pub async fn settle_carefully(
        &self,
        request: &SettleRequest,
        doubt: DoubtPolicy,
    ) -> Result<Settled, StoreError> {
        self.settle_one(statement!("kernel/settle_carefully"), request, doubt)
            .await
    }

    async fn settle_one(
        &self,
        statement: Statement,
        request: &SettleRequest,
        doubt: DoubtPolicy,
    ) -> Result<Settled, StoreError> {
        let asked_at = Instant::now();
        let query = statement
            .query_scalar::<Option<Vec<i64>>>()
            .bind(&request.lease.appid)
            .bind(request.lease.lease_id)
            .bind(&request.lease.worker)
            .bind(request.close);
        let mut columns = SettleColumns::default();
        columns.extend(&request.outcomes);
        let query = bind_outcomes!(query, columns, doubt);
        let kept_back = self
            .run(statement.name, query.fetch_one(&self.pool))
            .await?;
        telemetry::record_settle(request.outcomes.len(), asked_at.elapsed());
        Ok(Settled::of(kept_back))
    }

    /// Turns what dead workers left behind into due rows or doubts. Returns how many rows are in doubt now because of it.
    ///
    /// Leases of `worker` in `known` are left alone: it holds their outcomes and goes on settling them.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn rescue(
        &self,
        doubt: DoubtPolicy,
        worker: &str,
        known: &[i64],
    ) -> Result<i32, StoreError> {
        let statement = statement!("kernel/rescue");
        let query = statement
            .query_scalar()
            .bind(doubt.window.as_secs_f64())
            .bind(doubt.age.as_secs_f64())
            .bind(worker)
            .bind(known);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Ends doubts by stored events. Returns how many.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn weigh(&self) -> Result<i64, StoreError> {
        let statement = statement!("kernel/weigh");
        let query = statement.query_scalar();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Records a reply that came after its lease was taken over. True: it changed the row.
    ///
    /// # Errors
    ///
    /// Offer it again.
    pub async fn offer_late_reply(
        &self,
        lease: &LeaseKey,
        started_at: DateTime<Utc>,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        let statement = statement!("kernel/offer_late_reply");
        let query = statement
            .query_scalar::<Option<bool>>()
            .bind(&lease.appid)
            .bind(outcome.notification_id)
            .bind(lease.lease_id)
            .bind(started_at)
            .bind(&lease.worker)
            .bind(matches!(outcome.verdict, Verdict::Sent | Verdict::Found))
            .bind(matches!(outcome.verdict, Verdict::Dead { .. }))
            .bind(outcome.errcode)
            .bind(outcome.errmsg.as_deref().map(without_nul))
            .bind(outcome.rid.as_deref().map(without_nul))
            .bind(outcome.msgid);
        let changed = self
            .run(statement.name, query.fetch_one(&self.pool))
            .await?;
        Ok(changed.unwrap_or(false))
    }
}

/// What names a lease to the database.
#[derive(Debug, Clone)]
pub struct LeaseKey {
    /// Part of the name: lease numbers are counted per mini-program.
    pub appid: String,
    /// The lease.
    pub lease_id: i64,
    /// The worker that holds it, name and epoch.
    pub worker: String,
    /// When it was leased.
    pub leased_at: DateTime<Utc>,
}

/// How long doubts last.
#[derive(Debug, Clone, Copy)]
pub struct DoubtPolicy {
    /// How long evidence is awaited before a `retry` row is sent again.
    pub window: Duration,
    /// How long a `hold` row waits for evidence or an operator.
    pub age: Duration,
}

/// Reads what several lanes gave; the rows of one stand together.
fn read_lanes(rows: &[PgRow], asked_at: Instant) -> sqlx::Result<Vec<LaneLeased>> {
    let lane_of = |row: &PgRow| -> sqlx::Result<(String, i16)> {
        Ok((row.try_get("appid")?, row.try_get("lane")?))
    };
    let mut lanes: Vec<LaneLeased> = Vec::new();
    let mut rest = rows;
    while let Some(first) = rest.first() {
        let (appid, lane) = lane_of(first)?;
        let is_other = |row: &PgRow| -> sqlx::Result<bool> {
            let other: &str = row.try_get("appid")?;
            Ok(other != appid || row.try_get::<i16, _>("lane")? != lane)
        };
        let mut count = 1;
        while count < rest.len() && !is_other(&rest[count])? {
            count += 1;
        }
        let (own, others) = rest.split_at(count);
        let leased = read_lease(&appid, own, asked_at)?;
        lanes.extend(LaneLeased::unless_nothing(&appid, lane, leased));
        rest = others;
    }
    Ok(lanes)
}

/// Reads one lane's rows.
fn read_lease(appid: &str, rows: &[PgRow], asked_at: Instant) -> sqlx::Result<Leased> {
    let Some(row) = rows.last() else {
        return Ok(Leased::Nothing);
    };
    let Some(lease_id) = row.try_get("lease_id")? else {
        return Ok(Leased::Cleared);
    };
    Ok(Leased::Batch {
        watermark: Watermark {
            due: row.try_get("due")?,
            id: row.try_get("id")?,
        },
        low_lease_id: row.try_get("low_lease_id")?,
        lease: Lease {
            appid: appid.to_owned(),
            lease_id,
            leased_at: row.try_get("leased_at")?,
            asked_at,
            started_at: row.try_get("started_at")?,
            rows: rows
                .iter()
                .map(|row| read_notification(appid, row))
                .collect::<sqlx::Result<_>>()?,
        },
    })
}

/// Reads one leased row: a row this version cannot send is an error in its place and costs the batch nothing.
fn read_notification(appid: &str, row: &PgRow) -> sqlx::Result<Result<Notification, CorruptRow>> {
    let id = row.try_get("id")?;
    let kind: &str = row.try_get("kind")?;
    let Some(kind) = Kind::from_column(kind) else {
        let reason = format!("kind {kind} is not known to this version of wxnotify");
        return Ok(Err(CorruptRow { id, reason }));
    };
    Ok(Ok(Notification {
        id,
        appid: appid.to_owned(),
        kind,
        openid: Openid::new(row.try_get::<&str, _>("openid")?),
        template_id: row.try_get("template_id")?,
        page: row.try_get("page")?,
        data: row.try_get("data")?,
        extra: row.try_get("extra")?,
        miniprogram_state: row.try_get("miniprogram_state")?,
        lang: row.try_get("lang")?,
        attempts: row.try_get("attempts")?,
        attempts_max: row.try_get("attempts_max")?,
        in_doubt: row.try_get("in_doubt")?,
        expire_at: row.try_get("expire_at")?,
        waiting_since: row.try_get("waiting_since")?,
        probe: row.try_get("probe")?,
    }))
}

/// Postgres stores no NUL in text, and one bad errmsg must not poison a settle.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Outcomes as settle's arrays: what was plainly sent apart from the rest, since nearly all is.
#[derive(Default)]
struct SettleColumns {
    sent_ids: Vec<i64>,
    sent_msgids: Vec<Option<i64>>,
    ids: Vec<i64>,
    verdicts: Vec<&'static str>,
    delays_secs: Vec<Option<f64>>,
    waiting_for: Vec<Option<&'static str>>,
    errcodes: Vec<Option<i64>>,
    errmsgs: Vec<Option<String>>,
    rids: Vec<Option<String>>,
    http_statuses: Vec<Option<i16>>,
    reasons: Vec<Option<String>>,
    response_ms: Vec<Option<i32>>,
    credits: Vec<Option<&'static str>>,
}

impl SettleColumns {
    fn extend(&mut self, outcomes: &[Outcome]) {
        self.sent_ids.reserve(outcomes.len());
        self.sent_msgids.reserve(outcomes.len());
        for outcome in outcomes {
            self.push(outcome);
        }
    }

    fn push(&mut self, outcome: &Outcome) {
        let (verdict, after, waiting_for, credit) = match outcome.verdict {
            Verdict::Sent => {
                self.sent_ids.push(outcome.notification_id);
                self.sent_msgids.push(outcome.msgid);
                return;
            }
            Verdict::Dead { credit } => ("dead", None, None, Some(credit.as_str())),
            Verdict::Expired => ("expired", None, None, None),
            Verdict::Retry { after } => ("retry", Some(after), None, None),
            Verdict::Park { waiting_for, after } => {
                ("park", Some(after), Some(waiting_for.as_str()), None)
            }
            Verdict::InDoubt => ("doubt", None, None, None),
            Verdict::Release => ("release", None, None, None),
            Verdict::Found => ("found", None, None, None),
            Verdict::NotFound => ("not_found", None, None, None),
        };
        self.ids.push(outcome.notification_id);
        self.verdicts.push(verdict);
        self.delays_secs
            .push(after.map(|after| after.as_secs_f64()));
        self.waiting_for.push(waiting_for);
        self.errcodes.push(outcome.errcode);
        self.errmsgs
            .push(outcome.errmsg.as_deref().map(without_nul));
        self.rids.push(outcome.rid.as_deref().map(without_nul));
        self.http_statuses.push(outcome.http_status);
        self.reasons
            .push(outcome.reason.as_deref().map(without_nul));
        self.response_ms.push(outcome.response_ms);
        self.credits.push(credit);
    }
}
