//! Reminder schedules as operators see them: what each is doing, its next and last times, pauses; and the zones in use.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection, FromRow};

use super::statement::statement;
use super::verbs::Audit;
use super::{Store, StoreError};
use crate::reminder::zone::{find_zone, sample_offsets};

/// How far ahead zone data are compared: a change of clocks is decided months before.
const DAYS_COMPARED: u16 = 400;

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct Schedule {
    /// Its id.
    pub id: i64,
    /// Who sends its messages.
    pub appid: String,
    /// Its name, unique for a producer and mini-program.
    pub name: String,
    /// `active`, `paused`, `invalid` or `over`.
    pub state: String,
    /// Why it does not fire.
    pub problem: Option<String>,
    /// The cron text, or the interval.
    pub calendar: String,
    /// The zone of its times.
    pub time_zone: String,
    /// `one`, `list` or `holders`.
    pub audience: String,
    /// WeChat's template.
    pub template_id: String,
    /// Its next time.
    pub next_at: Option<DateTime<Utc>>,
    /// The same in its zone.
    pub next_local_at: Option<NaiveDateTime>,
    /// Its last time, in its zone.
    pub last_local_at: Option<NaiveDateTime>,
    /// What became of that.
    pub last_state: Option<String>,
    /// Why.
    pub last_reason: Option<String>,
    /// Paused since.
    pub paused_at: Option<DateTime<Utc>>,
    /// Whose it is.
    pub producer: String,
    /// In quiet hours: `hold`, `drop` or `ignore`.
    pub quiet: String,
    /// The check that is asked before each send.
    pub still_true: Option<String>,
    /// An operator approved it as it is now.
    pub approved: bool,
}

/// A time to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct NextFire {
    /// The wall time in the schedule's zone.
    pub local_at: NaiveDateTime,
    /// 1 for the second of two equal wall times.
    pub fold: i16,
    /// The instant.
    pub fire_at: DateTime<Utc>,
    /// Why it will be skipped.
    pub skipped: Option<String>,
}

/// What became of a time: counts of users and rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
#[expect(
    missing_docs,
    reason = "the columns of reminder_outcomes, which describes them"
)]
pub struct FireOutcome {
    pub schedule_id: i64,
    pub local_at: NaiveDateTime,
    pub fold: i16,
    pub fire_at: DateTime<Utc>,
    pub state: String,
    pub reason: Option<String>,
    pub times: i64,
    pub audience: i64,
    pub open: i64,
    pub sent: i64,
    pub in_doubt: i64,
    pub no_credit: i64,
    pub refused: i64,
    pub not_true: i64,
    pub expired: i64,
    pub dead: i64,
    pub cancelled: i64,
}

/// An hour of the days to come, of one template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct ForecastHour {
    /// Who sends them.
    pub appid: String,
    /// Its beginning.
    pub hour: DateTime<Utc>,
    /// WeChat's template.
    pub template_id: String,
    /// Rows that are there and due in it.
    pub rows_due: i64,
    /// Times of reminders in it.
    pub fires: i64,
    /// Their users today.
    pub receivers: i64,
    /// How many of these will have no credit left.
    pub lacking: i64,
    /// Credits of the template that are held now.
    pub credits_held: i64,
}

/// A zone whose clocks the server has otherwise than the program.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DifferingZone {
    /// Its name.
    pub zone: String,
    /// Since when; `None`: the server does not know the zone.
    pub instant: Option<DateTime<Utc>>,
    /// The program's offset from UTC then.
    pub offset_secs: Option<i32>,
    /// The server's.
    pub server_secs: Option<i32>,
}

/// All functions fail with [`StoreError`]; a verb that the database refuses says why in its message and what to do in its hint.
impl Store {
    /// Schedules by mini-program, id and name, at most `rows_max`.
    pub async fn list_schedules(
        &self,
        appid: Option<&str>,
        id: Option<i64>,
        name: Option<&str>,
        rows_max: i64,
    ) -> Result<Vec<Schedule>, StoreError> {
        let statement = statement!("schedules/list_schedules");
        let query = statement
            .query_as()
            .bind(appid)
            .bind(id)
            .bind(name)
            .bind(rows_max);
        self.read_rows(statement.name, query).await
    }

    /// The next times of a schedule, as far as workers have computed them: 8 days, at most 64.
    pub async fn next_fires(&self, id: i64, count: i32) -> Result<Vec<NextFire>, StoreError> {
        let statement = statement!("schedules/next_fires");
        self.read_rows(statement.name, statement.query_as().bind(id).bind(count))
            .await
    }

    /// What became of the last times of each of these schedules, the last first, at most `each`.
    pub async fn fire_outcomes(
        &self,
        ids: &[i64],
        each: i64,
    ) -> Result<Vec<FireOutcome>, StoreError> {
        let statement = statement!("schedules/fire_outcomes");
        self.read_rows(statement.name, statement.query_as().bind(ids).bind(each))
            .await
    }

    /// Pauses a schedule. `false`: it was paused already.
    pub async fn pause_schedule(&self, id: i64, audit: &Audit) -> Result<bool, StoreError> {
        let statement = statement!("schedules/pause_schedule");
        let query = statement.query_as().bind(id).bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Ends a schedule's pause. `false`: it was not paused.
    pub async fn resume_schedule(&self, id: i64, audit: &Audit) -> Result<bool, StoreError> {
        let statement = statement!("schedules/resume_schedule");
        let query = statement.query_as().bind(id).bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Skips the next time of a schedule and returns it, in the schedule's zone. `None`: none is known.
    pub async fn skip_next(
        &self,
        id: i64,
        audit: &Audit,
    ) -> Result<Option<NaiveDateTime>, StoreError> {
        let statement = statement!("schedules/skip_next");
        let query = statement.query_as().bind(id).bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Inserts a schedule as its business would, and returns its id; `columns` by their names, what is left out has its default. With
    /// `dry_run` it is rolled back.
    pub async fn add_schedule(&self, columns: &Value, dry_run: bool) -> Result<i64, StoreError> {
        let statement = statement!("schedules/add_schedule");
        let query = statement.query_scalar().bind(columns);
        self.run(statement.name, async {
            let mut connection = self.pool.borrow().await?;
            let mut transaction = connection.begin().await?;
            let id = query.fetch_one(&mut *transaction).await?;
            if dry_run {
                transaction.rollback().await?;
            } else {
                transaction.commit().await?;
            }
            Ok(id)
        })
        .await
    }

    /// This login's schedules that `name`, a name or an id, means: id, mini-program, name and whose it is.
    pub async fn find_own_schedules(
        &self,
        appid: Option<&str>,
        name: &str,
    ) -> Result<Vec<(i64, String, String, String)>, StoreError> {
        let statement = statement!("schedules/find_own_schedules");
        self.read_rows(statement.name, statement.query_as().bind(name).bind(appid))
            .await
    }

    /// Deletes a schedule as its business would. `false`: it is another's.
    pub async fn remove_schedule(&self, id: i64) -> Result<bool, StoreError> {
        let statement = statement!("schedules/remove_schedule");
        let query = statement.query().bind(id);
        let gone = self.run(statement.name, query.fetch_optional(&self.pool));
        Ok(gone.await?.is_some())
    }

    /// Approves a schedule, as it is now, for many users. `false`: it was approved.
    pub async fn approve_schedule(&self, id: i64, audit: &Audit) -> Result<bool, StoreError> {
        let statement = statement!("schedules/approve_schedule");
        let query = statement.query_as().bind(id).bind(audit.note.as_deref());
        self.change_one(statement.name, audit, query).await
    }

    /// Sends a schedule's message to one user now and returns its id.
    pub async fn test_fire(&self, id: i64, openid: &str, audit: &Audit) -> Result<i64, StoreError> {
        let statement = statement!("schedules/test_fire");
        let query = statement.query_as().bind(id).bind(openid);
        self.change_one(statement.name, audit, query).await
    }

    /// What is planned for the next seven days, by mini-program, hour and template.
    pub async fn forecast(&self, appid: Option<&str>) -> Result<Vec<ForecastHour>, StoreError> {
        let statement = statement!("schedules/forecast");
        self.read_rows(statement.name, statement.query_as().bind(appid))
            .await
    }

    /// Calendars of workdays whose last day comes within 60 days, or has passed, with that day.
    pub async fn ending_days(&self) -> Result<Vec<(String, NaiveDate)>, StoreError> {
        let statement = statement!("schedules/ending_days");
        self.read_rows(statement.name, statement.query_as()).await
    }

    /// Of the zones that schedules use, those whose clocks the server has otherwise than the program within 400 days.
    pub async fn differing_zones(&self) -> Result<Vec<DifferingZone>, StoreError> {
        let statement = statement!("schedules/zones_in_use");
        let query = statement.query_scalar();
        let names: Vec<String> = self
            .run(statement.name, query.fetch_all(&self.pool))
            .await?;
        let (mut zones, mut instants, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let Ok(zone) = find_zone(&name) else { continue };
            for (instant, offset_secs) in sample_offsets(zone, Utc::now(), DAYS_COMPARED) {
                zones.push(name.clone());
                instants.push(instant);
                offsets.push(offset_secs);
            }
        }
        if zones.is_empty() {
            return Ok(Vec::new());
        }
        let statement = statement!("schedules/differing_zones");
        let query = statement
            .query_as()
            .bind(zones)
            .bind(instants)
            .bind(offsets);
        self.read_rows(statement.name, query).await
    }
}
