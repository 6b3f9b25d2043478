//! Statements on reminders: schedules that changed, calendars, fires, and the start of what fires made.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::statement::statement;
use super::{LeaseKey, Store, StoreError};
use crate::telemetry::ReminderCounts;

/// A calendar whose times are to be computed.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct StaleCalendar {
    /// Names it.
    pub spec: String,
    /// A cron text.
    pub cron: Option<String>,
    /// Or a number of days.
    pub every_days: Option<i32>,
    /// What the days are counted from.
    pub anchor: Option<NaiveDateTime>,
    /// IANA name of its zone.
    pub time_zone: String,
    /// Its times after this moment are wanted.
    pub from_at: DateTime<Utc>,
    /// Its times up to this moment are wanted.
    pub until_at: DateTime<Utc>,
    /// The database's clock.
    pub now_at: DateTime<Utc>,
}

/// The times of a calendar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CalendarTimes {
    /// All up to this moment are listed.
    pub covers_until: DateTime<Utc>,
    /// Wall times, in the order of `fire_ats`.
    pub local_ats: Vec<NaiveDateTime>,
    /// 1 for the second of two equal wall times.
    pub folds: Vec<i16>,
    /// The instants, ascending.
    pub fire_ats: Vec<DateTime<Utc>>,
    /// Why there are none, in words.
    pub problem: Option<String>,
}

/// What a look at the due schedules did.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Fired {
    /// Schedules that cannot be had now: ask for them again in a second.
    pub kept_back: Vec<i64>,
    /// Schedules looked at.
    pub looked_at: i32,
    /// Fires made.
    pub made: i32,
}

/// A lease with rows of reminders that was started.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StartedReminders {
    /// The durable record of the start.
    pub started_at: DateTime<Utc>,
    /// Which of its rows may be sent; the others have left the lease.
    pub ids: Vec<i64>,
}

impl Store {
    /// How long until there is something to do for reminders; `None`: nothing is planned.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn reminders_wait(&self, lead: Duration) -> Result<Option<Duration>, StoreError> {
        let statement = statement!("reminders/reminders_wait");
        let query = statement
            .query_scalar::<Option<f64>>()
            .bind(lead.as_secs_f64());
        let wait = self
            .run(statement.name, query.fetch_one(&self.pool))
            .await?;
        Ok(wait.map(|secs| Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX)))
    }

    /// Sees to schedules that were changed, `rows` rows of each at most. Returns how many schedules.
    ///
    /// # Errors
    ///
    /// Call it again.
    pub async fn apply_reminder_changes(&self, rows: i32) -> Result<i32, StoreError> {
        let statement = statement!("reminders/apply_reminder_changes");
        let query = statement.query_scalar().bind(rows);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Claims calendars whose times are to be computed.
    ///
    /// # Errors
    ///
    /// They may be claimed: others find them some seconds later.
    pub async fn stale_calendars(&self, rows: i32) -> Result<Vec<StaleCalendar>, StoreError> {
        let statement = statement!("reminders/stale_calendars");
        let query = statement.query_as().bind(rows);
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }

    /// Stores the times of a calendar after `from_at`.
    ///
    /// # Errors
    ///
    /// Compute and store it again.
    pub async fn store_calendar(
        &self,
        spec: &str,
        from_at: DateTime<Utc>,
        times: &CalendarTimes,
    ) -> Result<(), StoreError> {
        let statement = statement!("reminders/store_calendar");
        let query = statement
            .query()
            .bind(spec)
            .bind(from_at)
            .bind(times.covers_until)
            .bind(&times.local_ats)
            .bind(&times.folds)
            .bind(&times.fire_ats)
            .bind(&times.problem);
        self.run(statement.name, query.execute(&self.pool))
            .await
            .map(drop)
    }

    /// Makes the fires that are due within `lead`, of up to `rows` schedules, but for those of `kept_back`.
    ///
    /// # Errors
    ///
    /// Call it again: a fire is made once.
    pub async fn fire_reminders(
        &self,
        lead: Duration,
        rows: i32,
        kept_back: &[i64],
    ) -> Result<Fired, StoreError> {
        let statement = statement!("reminders/fire_reminders");
        let query = statement
            .query_as()
            .bind(lead.as_secs_f64())
            .bind(rows)
            .bind(kept_back);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Makes up to `rows` rows of an open fire. Returns the receivers seen to; `None`: no fire is open now.
    ///
    /// # Errors
    ///
    /// Call it again: a receiver is seen to once.
    pub async fn fan_out(&self, rows: i32) -> Result<Option<i32>, StoreError> {
        let statement = statement!("reminders/fan_out");
        let query = statement.query_scalar().bind(rows);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// What the gauges of reminders show.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn reminder_gauges(&self) -> Result<ReminderCounts, StoreError> {
        let statement = statement!("reminders/reminder_gauges");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Forgets fires of long ago, some thousands. Returns how many.
    ///
    /// # Errors
    ///
    /// Call it again later.
    pub async fn drop_old_fires(&self) -> Result<i32, StoreError> {
        let statement = statement!("reminders/drop_old_fires");
        let query = statement.query_scalar();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Starts a lease that [`Store::start`] did not start since it holds rows of reminders. `None`: the lease is gone.
    ///
    /// # Errors
    ///
    /// It may have been started all the same: ask again, the answer is the same.
    pub async fn start_reminders(
        &self,
        lease: &LeaseKey,
        length: Duration,
    ) -> Result<Option<StartedReminders>, StoreError> {
        let statement = statement!("reminders/start_reminders");
        let query = statement
            .query_as()
            .bind(&lease.appid)
            .bind(lease.lease_id)
            .bind(&lease.worker)
            .bind(length.as_secs_f64())
            .bind(lease.leased_at);
        self.run(statement.name, query.fetch_optional(&self.pool))
            .await
    }
}
