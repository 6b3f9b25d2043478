//! Rows of a scenario's own making, for when the mixed load does not bring what it is about. Nobody cancels them but the scenario.

use std::sync::atomic::{AtomicI32, Ordering};

use sqlx::PgConnection;

use crate::checker::Told;
use crate::stage::{ENDLESS, Stage, until};

/// What one statement inserts: a row for each of some users, who have all the credits they need.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    users: &'a str,
    count: i32,
    lane: i16,
    due_in_secs: f64,
    attempts_max: i16,
}

impl<'a> Rows<'a> {
    /// One row due now for each of the users `o<users>1`, `o<users>2` and so on, in the usual lane.
    pub fn of(users: &'a str, count: i32) -> Self {
        Self {
            users,
            count,
            lane: 1,
            due_in_secs: 0.0,
            attempts_max: 100,
        }
    }

    pub fn lane(mut self, lane: i16) -> Self {
        self.lane = lane;
        self
    }

    pub fn due_in_secs(mut self, secs: f64) -> Self {
        self.due_in_secs = secs;
        self
    }

    pub fn attempts_max(mut self, attempts_max: i16) -> Self {
        self.attempts_max = attempts_max;
        self
    }

    /// Inserts them and returns their nonces. The caller commits, and then [`tell`]s.
    pub async fn insert(self, connection: &mut PgConnection) -> Vec<String> {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        sqlx::query_scalar(
            "insert into pending_notifications (business_ref, data, appid, openid, template_id, lane, send_at, attempts_max)
             select nonce, jsonb_build_object('thing1', nonce), $1, 'o' || $2 || n, 't-one', $4, clock_timestamp() + make_interval(secs => $5), $6
             from generate_series(1, $3) n cross join lateral (select $2 || '-' || $7 + n) u (nonce)
             returning business_ref",
        )
        .bind(ENDLESS)
        .bind(self.users)
        .bind(self.count)
        .bind(self.lane)
        .bind(self.due_in_secs)
        .bind(self.attempts_max)
        .bind(NEXT.fetch_add(self.count, Ordering::Relaxed))
        .fetch_all(connection)
        .await
        .unwrap()
    }
}

/// Notes what was committed: that these rows are there, or that they were cancelled.
pub fn tell(stage: &Stage, nonces: impl IntoIterator<Item = String>, cancelled: bool) {
    let told = Told {
        cancelled: Some(cancelled),
    };
    let mut all = stage.load.told.lock().unwrap();
    all.extend(nonces.into_iter().map(|nonce| (nonce, told.clone())));
}

/// Waits until none of these rows is pending any more.
pub async fn until_ended(connection: &mut PgConnection, nonces: &[String]) {
    until("these rows have ended", async || {
        let left: bool = sqlx::query_scalar(
            "select exists (select from pending_notifications where business_ref = any ($1))",
        )
        .bind(nonces)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        (!left).then_some(())
    })
    .await;
}
