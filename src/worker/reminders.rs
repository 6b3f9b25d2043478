//! Firing reminders: any worker does, with no leader. Times are the database's; this task only asks often enough.
//!
//! A round begins with one cheap look. If something is to be done, schedules that changed are seen to, calendars computed,
//! due fires made some seconds ahead, and the receivers of open fires written in chunks. Whatever dies in between, the next
//! round of any worker goes on where this one was.
//!
//! Start at [`fire_until_stopped`].

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tracing::{debug, info, warn};

use super::Worker;
use crate::reminder::calendar::Calendar;
use crate::store::reminders::{CalendarTimes, StaleCalendar};
use crate::store::{Store, StoreError};
use crate::telemetry;

/// How far ahead of its time a fire is made, so that its rows are there when they are due.
const LEAD: Duration = Duration::from_secs(15);
/// How often to look; also when a schedule that could not be had is asked for again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Schedules of one statement, and receivers of one chunk.
const SCHEDULES_A_CALL: i32 = 200;
const ROWS_A_CHUNK: i32 = 1000;
/// Statements of one kind in a row, so that each has its turn.
const TURNS: usize = 20;
/// Calendars computed in a row.
const CALENDARS_A_CALL: i32 = 100;
/// Times of one calendar that lie ahead, and that have passed.
const TIMES_AHEAD_MAX: usize = 64;
const TIMES_PAST_MAX: usize = 5000;

/// Fires until told to stop.
pub(super) async fn fire_until_stopped(worker: Arc<Worker>) {
    let store = worker.store.giving_way();
    warn_of_differing_zones(&store).await;
    loop {
        let wait = match fire(&store).await {
            Ok(wait) => wait,
            Err(error) => {
                warn!("Reminders wait for the database: {error}");
                LOOK_EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = worker.stop.cancelled() => return,
        }
    }
}

/// Says at the start where the server's clocks change otherwise than this program's, by which reminders fire.
async fn warn_of_differing_zones(store: &Store) {
    // What cannot be asked now the doctor asks later.
    for differing in store.differing_zones().await.unwrap_or_default() {
        warn!(
            time_zone = differing.zone,
            since = differing.instant.map(|instant| instant.to_rfc3339()),
            "The server's zone data differ from this program's: run wxnotify doctor"
        );
    }
}

/// One round. Returns how long to wait for the next.
async fn fire(store: &Store) -> Result<Duration, StoreError> {
    let wait = store.reminders_wait(LEAD).await?.unwrap_or(LOOK_EVERY);
    if !wait.is_zero() {
        return Ok(wait.min(LOOK_EVERY));
    }
    store.apply_reminder_changes(ROWS_A_CHUNK).await?;
    compute_calendars(store).await?;
    let mut has_more = make_fires(store).await?;
    for _ in 0..TURNS {
        match store.fan_out(ROWS_A_CHUNK).await? {
            None => {
                return Ok(if has_more {
                    Duration::ZERO
                } else {
                    LOOK_EVERY / 4
                });
            }
            Some(seen) => has_more |= seen > 0,
        }
    }
    Ok(Duration::ZERO)
}

/// Makes what is due. True: there may be more.
async fn make_fires(store: &Store) -> Result<bool, StoreError> {
    // What somebody holds is asked for again in the next round.
    let mut kept_back = Vec::new();
    for _ in 0..TURNS {
        let fired = store
            .fire_reminders(LEAD, SCHEDULES_A_CALL, &kept_back)
            .await?;
        if fired.made > 0 {
            debug!(fires = fired.made, "Reminders fired");
            telemetry::record_fires(fired.made);
        }
        kept_back.extend(fired.kept_back);
        if fired.looked_at == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn compute_calendars(store: &Store) -> Result<(), StoreError> {
    for _ in 0..TURNS {
        let stale = store.stale_calendars(CALENDARS_A_CALL).await?;
        let count = stale.len();
        for calendar in stale {
            let (spec, from_at) = (calendar.spec.clone(), calendar.from_at);
            // Bounded, but not so short that others should wait for it.
            let times = tokio::task::spawn_blocking(move || compute(&calendar)).await;
            let Ok(times) = times else { continue };
            if let Some(problem) = &times.problem {
                info!("A reminder's calendar is invalid: {problem}");
            }
            store.store_calendar(&spec, from_at, &times).await?;
        }
        if count < CALENDARS_A_CALL as usize {
            break;
        }
    }
    Ok(())
}

/// The times of a calendar; what cannot be read, or never comes, is a problem in words.
fn compute(stale: &StaleCalendar) -> CalendarTimes {
    let problem = |problem: String| CalendarTimes {
        covers_until: stale.until_at,
        problem: Some(problem),
        ..CalendarTimes::default()
    };
    let zone = &stale.time_zone;
    let calendar = match (&stale.cron, stale.every_days, stale.anchor) {
        (Some(cron), ..) => Calendar::parse_cron(cron, zone),
        (None, Some(days), Some(anchor)) => Calendar::parse_every(days, anchor, zone),
        _ => return problem("has neither a cron text nor an interval".to_owned()),
    };
    let calendar = match calendar {
        Ok(calendar) => calendar,
        Err(error) => return problem(error.to_string()),
    };
    if calendar.find_fire(stale.from_at).is_none() {
        return problem("never comes: no day is like that".to_owned());
    }
    list_times(&calendar, stale.from_at, stale.until_at, stale.now_at)
}

/// All times up to `until_at`, or the first so many.
fn list_times(
    calendar: &Calendar,
    from_at: DateTime<Utc>,
    until_at: DateTime<Utc>,
    now_at: DateTime<Utc>,
) -> CalendarTimes {
    let mut times = CalendarTimes {
        covers_until: until_at,
        ..CalendarTimes::default()
    };
    let (mut past, mut ahead) = (0, 0);
    for fire in calendar.fires_after(from_at) {
        if fire.fire_at > until_at {
            break;
        }
        times.local_ats.push(fire.local_at);
        times.folds.push(fire.fold);
        times.fire_ats.push(fire.fire_at);
        *(if fire.fire_at > now_at {
            &mut ahead
        } else {
            &mut past
        }) += 1;
        if past == TIMES_PAST_MAX || ahead == TIMES_AHEAD_MAX {
            times.covers_until = fire.fire_at;
            break;
        }
    }
    times
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn stale(cron: &str) -> StaleCalendar {
        let now_at: DateTime<Utc> = "2026-12-01T00:00:00Z".parse().unwrap();
        StaleCalendar {
            spec: cron.to_owned(),
            cron: Some(cron.to_owned()),
            every_days: None,
            anchor: None,
            time_zone: "Asia/Shanghai".to_owned(),
            from_at: now_at - Duration::from_secs(3600),
            until_at: now_at + Duration::from_secs(8 * 86400),
            now_at,
        }
    }

    #[test]
    fn the_times_of_eight_days_are_listed_in_order() {
        let times = compute(&stale("40 7 * * *"));
        assert_eq!(times.problem, None);
        assert_eq!(times.fire_ats.len(), 9);
        assert_eq!(times.covers_until, stale("").until_at);
        assert!(times.fire_ats.is_sorted());
        assert_eq!(times.local_ats[0].to_string(), "2026-12-01 07:40:00");
    }

    #[test]
    fn of_a_dense_calendar_so_many_are_listed_and_no_more_is_claimed() {
        let times = compute(&stale("* * * * *"));
        assert_eq!(times.fire_ats.len(), 60 + TIMES_AHEAD_MAX);
        assert_eq!(Some(&times.covers_until), times.fire_ats.last());
    }

    #[test]
    fn what_never_comes_and_what_cannot_be_read_are_problems() {
        assert!(compute(&stale("0 0 30 2 *")).problem.is_some());
        assert!(compute(&stale("nonsense")).problem.is_some());
    }
}
