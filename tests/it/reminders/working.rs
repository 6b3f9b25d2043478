//! Workers that fire: on time, after an outage, and though they are killed at any step.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::insert_schedule;
use crate::harness::{PATIENCE, eventually};
use crate::worker::concurrency::gauge;
use crate::worker::{APP, Program, Scene, TEMPLATE};

async fn schedule(scene: &Scene, mut columns: serde_json::Value) -> i64 {
    columns["appid"] = json!(APP);
    columns["template_id"] = json!(TEMPLATE);
    insert_schedule(scene.pool(), columns).await.unwrap()
}

/// Lets the schedule have one time alone, `secs` from now; workers compute it anew only days later.
pub async fn set_time(scene: &Scene, id: i64, secs: f64) {
    sqlx::query("select wxnotify_apply_changes()")
        .execute(scene.pool())
        .await
        .unwrap();
    let store = "select wxnotify_store_calendar(s.spec, clock_timestamp() - interval '2 days', clock_timestamp() + interval '8 days',
            array[(t.at at time zone 'UTC')], array[0::smallint], array[t.at], null)
        from reminder_schedules s, lateral (select clock_timestamp() + $2 * interval '1 second' as at) t where s.id = $1";
    sqlx::query(store)
        .bind(id)
        .bind(secs)
        .execute(scene.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_worker_fires_every_second_each_time_once_and_on_time() {
    let scene = Scene::new().await;
    let _worker = scene.start(&[]);
    let columns = json!({"cron": "* * * * * *", "openid": "oUser", "data": {"time1": "{{fire:YYYY-MM-DD HH24:MI}}"}});
    schedule(&scene, columns).await;
    eventually("five fires were sent", async || {
        let sent =
            "select count(*) from notifications where schedule_id is not null and status = 'sent'";
        (scene.count(sent).await >= 5).then_some(())
    })
    .await;
    let doubled = "select count(*) from (select local_at from notifications where schedule_id is not null group by local_at having count(*) > 1) d";
    assert_eq!(scene.count(doubled).await, 0);
    let early =
        "select count(*) from notification_history where finished_at < local_at at time zone 'UTC'";
    assert_eq!(scene.count(early).await, 0);
}

#[tokio::test]
async fn what_the_calendar_cannot_read_is_invalid_in_words_and_others_go_on() {
    let scene = Scene::new().await;
    let _worker = scene.start(&[]);
    let never = schedule(&scene, json!({"name": "never", "cron": "0 0 30 2 *"})).await;
    schedule(&scene, json!({"name": "soon", "cron": "* * * * * *"})).await;
    let problem = eventually("it is invalid", async || {
        sqlx::query_scalar::<_, String>(
            "select problem from reminders where id = $1 and state = 'invalid'",
        )
        .bind(never)
        .fetch_optional(scene.pool())
        .await
        .unwrap()
    })
    .await;
    assert!(!problem.is_empty());
    eventually("the other one fires", async || {
        let sent =
            "select count(*) from notifications where schedule_id is not null and status = 'sent'";
        (scene.count(sent).await > 0).then_some(())
    })
    .await;
    assert_eq!(scene.count("select count(*) from reminder_fires f join reminder_schedules s on s.id = f.schedule_id where s.name = 'never'").await, 0);
}

/// Six hours without a worker: nothing is sent after its `expire_at`, nothing twice, and each time has its row.
#[tokio::test]
async fn after_an_outage_of_six_hours_each_time_is_accounted_for() {
    let scene = Scene::new().await;
    for (number, missed) in (0..30).map(|number| (number, ["skip", "latest", "all"][number % 3])) {
        let columns = json!({"name": format!("n{number}"), "cron": "*/10 * * * *", "missed": missed, "openid": format!("o{number}"), "valid_for": "20 minutes"});
        schedule(&scene, columns).await;
    }
    let back = "update reminder_clock set place = date_trunc('hour', clock_timestamp()) - interval '6 hours 1 second', next_fire_at = clock_timestamp()";
    sqlx::query("select wxnotify_apply_changes()")
        .execute(scene.pool())
        .await
        .unwrap();
    sqlx::query(back).execute(scene.pool()).await.unwrap();
    let _worker = scene.start(&[]);
    let covered =
        "select count(*) from reminder_clock where place > clock_timestamp() - interval '1 minute'";
    eventually("all times were seen to", async || {
        (scene.count(covered).await == 30).then_some(())
    })
    .await;
    let open = "select count(*) from pending_notifications where due < clock_timestamp()";
    eventually("what is due was sent", async || {
        (scene.count(open).await == 0).then_some(())
    })
    .await;
    scene.until_no_lease().await;
    let late = "select count(*) from notification_history where finished_at > expire_at and status = 'sent'";
    assert_eq!(scene.count(late).await, 0);
    let doubled = "select count(*) from (select schedule_id, local_at from notifications group by 1, 2 having count(*) > 1) d";
    assert_eq!(scene.count(doubled).await, 0);
    // 36 times in six hours, and those of this hour.
    let missing = "select count(*) from (select s.id, t.at from reminder_schedules s,
            generate_series(date_trunc('hour', clock_timestamp()) - interval '6 hours', (select min(place) from reminder_clock), interval '10 minutes') t (at)
            where not exists (select 1 from reminder_fires f where f.schedule_id = s.id and f.fire_at = t.at)) m";
    assert_eq!(scene.count(missing).await, 0);
    let made_by_skip =
        "select count(*) from reminder_fires f join reminder_schedules s on s.id = f.schedule_id
            where s.missed = 'skip' and f.state = 'done' and f.fire_at < f.made_at";
    assert_eq!(scene.count(made_by_skip).await, 0);
}

/// Killed at each step of a fire over a list: another worker goes on, each receiver gets it once.
#[tokio::test]
async fn a_worker_killed_at_any_step_of_a_fire_leaves_each_receiver_one_message() {
    const RECEIVERS: i64 = 2500;
    for point in [
        "before:apply_reminder_changes",
        "after:fire_reminders",
        "during:fire_reminders",
        "before:fan_out",
        "during:fan_out@2",
        "after:fan_out@2",
        "during:start_reminders@3",
    ] {
        let scene = Scene::new().await;
        let columns = json!({"audience": "list", "credit": "none"});
        let id = schedule(&scene, columns).await;
        sqlx::query("insert into reminder_audience (schedule_id, openid) select $1, 'o' || n from generate_series(1, $2) n")
            .bind(id)
            .bind(RECEIVERS)
            .execute(scene.pool())
            .await
            .unwrap();
        set_time(&scene, id, 1.0).await;
        if point.ends_with("changes") {
            sqlx::query("insert into reminder_changes (schedule_id) values ($1)")
                .bind(id)
                .execute(scene.pool())
                .await
                .unwrap();
        }
        let mut victim: Program =
            scene.spawn(&[("FAILPOINT", point), ("WXNOTIFY_WORKER", "victim")]);
        let ended = tokio::time::timeout(PATIENCE, victim.end()).await;
        assert!(ended.is_ok(), "{point} was not passed: {}", victim.log());
        scene.until_its_sessions_end().await;
        scene.lapse_leases().await;
        let _next = scene.start(&[
            ("WXNOTIFY_WORKER", "next"),
            ("WXNOTIFY_DOUBT_WINDOW_SECS", "0.3"),
        ]);
        eventually(point, async || {
            let sent = "select count(*) from notification_history where schedule_id is not null and status = 'sent'";
            (scene.count(sent).await == RECEIVERS).then_some(())
        })
        .await;
        let rows = "select count(*) from notifications where schedule_id is not null";
        assert_eq!(scene.count(rows).await, RECEIVERS, "{point}");
        // Only what a dead worker had begun may have gone out twice, and says so.
        let doubted = "select count(*) from notification_history where in_doubt_since is not null";
        let doubted = u64::try_from(scene.count(doubted).await).unwrap();
        assert!(
            scene.sends() <= RECEIVERS.unsigned_abs() + doubted,
            "{point}"
        );
        let outcome = "select made::bigint from reminder_outcomes where state = 'done' and audience = made and sent = made";
        assert_eq!(scene.count(outcome).await, RECEIVERS, "{point}");
    }
}

/// What became of reminders is seen from outside, with the time it was counted.
#[tokio::test]
async fn the_metrics_tell_what_was_skipped_what_lacked_a_credit_and_what_waits() {
    let scene = Scene::new().await;
    let id = schedule(&scene, json!({"cron": "0 0 1 1 *"})).await;
    let what_was = format!(
        "select wxnotify_apply_changes();
         insert into reminder_fires (schedule_id, local_at, fire_at, version, state, reason, count)
         values ({id}, now() at time zone 'UTC', now() - interval '5 minutes', 1, 'skipped', 'paused', 7);
         insert into reminder_results (schedule_id, local_at, fold, result, count, late) values ({id}, now(), 0, 'no_credit', 3, 0);
         select set_quiet_hours('{APP}', ((now() at time zone 'UTC') - interval '1 hour')::time, ((now() at time zone 'UTC') + interval '1 hour')::time, p_time_zone => 'UTC');
         insert into pending_notifications (appid, openid, template_id, data, waiting_for, due)
         values ('{APP}', 'o', '{TEMPLATE}', '{{\"thing1\": \"x\"}}', 'quiet', now() + interval '1 hour')"
    );
    sqlx::raw_sql(AssertSqlSafe(what_was))
        .execute(scene.pool())
        .await
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let _worker = scene.spawn(&[("WXNOTIFY_LISTEN", &address)]);
    for (name, value) in [
        ("wxnotify_reminder_times_skipped", 7.0),
        ("wxnotify_reminder_rows_ended{result=\"no_credit\"}", 3.0),
        ("wxnotify_reminder_rows_ended{result=\"sent\"}", 0.0),
        ("wxnotify_rows_waiting{for=\"quiet\"}", 1.0),
        ("wxnotify_rows_waiting{for=\"check\"}", 0.0),
        ("wxnotify_reminder_fires_open", 0.0),
        ("wxnotify_reminder_fire_lag_seconds", 0.0),
    ] {
        eventually(name, async || {
            (gauge(&address, name).await? == value).then_some(())
        })
        .await;
    }
    let counted_at = gauge(&address, "wxnotify_reminders_counted_at_seconds").await;
    assert!(counted_at.is_some_and(|at| at > 1.7e9), "{counted_at:?}");
}
