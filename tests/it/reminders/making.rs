//! Each time of a schedule gets one fire, by whatever worker, or one row that says why not.

use serde_json::json;
use sqlx::Row;

use super::{Fire, Reminders, fan_out, fire, hold_open, insert_schedule};
use crate::kernel::mutants::Mutant;
use crate::kernel::run;

fn skipped(reason: &str, count: i32) -> (String, Option<String>, i32) {
    ("skipped".to_owned(), Some(reason.to_owned()), count)
}

fn done() -> (String, Option<String>, i32) {
    ("done".to_owned(), None, 1)
}

fn in_short(fires: &[Fire]) -> Vec<(String, Option<String>, i32)> {
    let short = |fire: &Fire| (fire.state.clone(), fire.reason.clone(), fire.count);
    fires.iter().map(short).collect()
}

#[tokio::test]
async fn a_fire_is_made_some_seconds_ahead_once_with_its_time_in_its_text() {
    let reminders = Reminders::new().await;
    let columns = json!({"data": {"thing1": "x", "time2": "{{fire:YYYY-MM-DD HH24:MI}}"}, "business_ref": "course-9"});
    let id = reminders.schedule(columns, &[10.0, 20.0]).await;
    reminders.fire().await;
    reminders.fire().await;
    let row = sqlx::query(
        "select send_at = date_trunc('second', send_at) and send_at > clock_timestamp() as on_the_dot, expire_at - send_at = interval '1 hour' as an_hour,
                data ->> 'time2' = to_char(local_at, 'YYYY-MM-DD HH24:MI') as told, producer = session_user as owned, business_ref, lane
         from pending_notifications where schedule_id = $1",
    );
    let rows = row
        .bind(id)
        .fetch_all(reminders.queue.pool())
        .await
        .unwrap();
    assert_eq!(rows.len(), 1, "the one within 15 s");
    for truth in ["on_the_dot", "an_hour", "told", "owned"] {
        assert!(rows[0].get::<bool, _>(truth), "{truth}");
    }
    assert_eq!(rows[0].get::<String, _>("business_ref"), "course-9");
    assert_eq!(rows[0].get::<i16, _>("lane"), 1);
    assert_eq!(in_short(&reminders.fires(id).await), [done()]);
}

/// A worker without schedules asks one cheap question a second and does nothing more.
#[tokio::test]
async fn where_nothing_is_planned_there_is_nothing_to_wait_for() {
    let reminders = Reminders::new().await;
    let wait = async || -> Option<f64> {
        sqlx::query_scalar("select wxnotify_reminders_wait(15)")
            .fetch_one(reminders.queue.pool())
            .await
            .unwrap()
    };
    assert_eq!(wait().await, None);
    reminders.schedule(json!({}), &[100.0]).await;
    assert!(wait().await.is_some());
}

#[tokio::test]
async fn of_two_makers_at_once_one_makes_the_fire() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0]).await;
    let mut one = hold_open(&reminders, "select wxnotify_fire_due(15, 10, '{}')").await;
    reminders.fire().await;
    run(&mut one, "commit").await;
    reminders.fire().await;
    assert_eq!(reminders.made(id).await.len(), 1);
    assert_eq!(in_short(&reminders.fires(id).await), [done()]);
}

/// A maker that had computed what is next before another made it.
#[tokio::test]
async fn a_stale_maker_makes_nothing() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0]).await;
    let stale = format!(
        "select wxnotify_fire_schedule({id}, '{}', clock_timestamp() + interval '15 s')",
        reminders
            .text("select next_fire_at from reminder_clock")
            .await
            .unwrap()
    );
    reminders.fire().await;
    reminders.run(&stale).await;
    assert_eq!(reminders.made(id).await.len(), 1);
}

#[tokio::test]
async fn of_times_that_passed_each_has_a_row_and_missed_says_which_are_made() {
    let reminders = Reminders::new().await;
    let times = [-9000.0, -120.0, -60.0, 5.0];
    for (missed, expected) in [
        (
            "skip",
            vec![
                skipped("missed", 1),
                skipped("missed", 1),
                skipped("missed", 1),
                done(),
            ],
        ),
        (
            "latest",
            vec![skipped("missed", 1), skipped("missed", 1), done(), done()],
        ),
        ("all", vec![skipped("missed", 1), done(), done(), done()]),
    ] {
        let columns =
            json!({"name": missed, "missed": missed, "cron": format!("{} 8 * * *", missed.len())});
        let id = reminders.schedule(columns, &times).await;
        reminders.go_back(id, 10_000).await;
        reminders.fire().await;
        assert_eq!(in_short(&reminders.fires(id).await), expected, "{missed}");
    }
}

#[tokio::test]
async fn what_is_too_late_to_arrive_is_not_made() {
    let reminders = Reminders::new().await;
    let columns = json!({"valid_for": "10 minutes", "spread": "1 minute"});
    let id = reminders.schedule(columns, &[-700.0]).await;
    reminders.go_back(id, 3600).await;
    reminders.fire().await;
    let fires = in_short(&reminders.fires(id).await);
    assert_eq!(fires, [skipped("too late", 1)]);
    assert_eq!(reminders.made(id).await, Vec::<i64>::new());
}

#[tokio::test]
async fn many_missed_times_are_one_row_that_counts_them() {
    let reminders = Reminders::new().await;
    let times: Vec<f64> = (0..300).map(|n| -18_000.0 + 60.0 * f64::from(n)).collect();
    let id = reminders.schedule(json!({}), &times).await;
    reminders.go_back(id, 20_000).await;
    reminders.fire().await;
    let fires = in_short(&reminders.fires(id).await);
    assert_eq!(fires, [skipped("missed", 299), done()]);
}

#[tokio::test]
async fn times_of_a_pause_say_that_it_was_paused() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[-60.0, -30.0]).await;
    reminders.go_back(id, 100).await;
    reminders.run(&format!("select pause_schedule({id})")).await;
    reminders.apply().await;
    reminders.fire().await;
    assert_eq!(reminders.fires(id).await, []);
    reminders
        .run(&format!("select resume_schedule({id})"))
        .await;
    reminders
        .run("update reminder_schedules set last_paused_at = clock_timestamp() - interval '90 s'")
        .await;
    reminders.apply().await;
    reminders.fire().await;
    let fires = in_short(&reminders.fires(id).await);
    assert_eq!(fires, [skipped("paused", 1), done()]);
}

#[tokio::test]
async fn a_schedule_ends_after_its_number_of_fires() {
    let reminders = Reminders::new().await;
    let columns = json!({"fires_max": 2, "missed": "all"});
    let id = reminders.schedule(columns, &[-3.0, -2.0, -1.0, 5.0]).await;
    reminders.go_back(id, 10).await;
    reminders.fire().await;
    reminders.fire().await;
    assert_eq!(in_short(&reminders.fires(id).await), [done(), done()]);
    let state = reminders.text("select state from reminders").await;
    assert_eq!(state.as_deref(), Some("over"));
}

#[tokio::test]
async fn workdays_go_by_the_listed_days_and_else_by_the_weekday() {
    let reminders = Reminders::new().await;
    // A Saturday that is worked, a Monday that is not.
    reminders
        .run("insert into reminder_days values ('CN', '2026-02-14', true), ('CN', '2026-02-16', false)")
        .await;
    for (day, fires) in [
        ("2026-02-13", true),
        ("2026-02-14", true),
        ("2026-02-15", false),
        ("2026-02-16", false),
        ("2026-02-17", true),
    ] {
        let on = |only_on: &str| format!("wxnotify_fires_on('{only_on}', 'CN', '{day}')::int");
        let found = (
            reminders.count(&on("workday")).await,
            reminders.count(&on("holiday")).await,
        );
        assert_eq!(found, (i64::from(fires), i64::from(!fires)), "{day}");
    }
}

#[tokio::test]
async fn a_list_is_made_in_chunks_each_receiver_once_though_a_worker_dies() {
    let reminders = Reminders::new().await;
    let columns = json!({"audience": "list", "data": {"thing1": "hello {{name}}"}});
    let id = reminders.schedule(columns, &[5.0]).await;
    reminders
        .run(&format!(
            "insert into reminder_audience select {id}, 'user-' || to_char(n, 'FM000'), jsonb_build_object('name', n), 'ref-' || n from generate_series(1, 25) n"
        ))
        .await;
    reminders.fire().await;
    assert_eq!(reminders.fan_out(10).await, Some(10));
    // One that dies in the middle of its chunk.
    let mut dying = reminders.queue.session().await;
    run(&mut dying, "begin").await;
    assert_eq!(fan_out(&mut dying, 10).await, Some(10));
    assert_eq!(reminders.fan_out(10).await, None, "it is being worked on");
    run(&mut dying, "rollback").await;
    assert_eq!(reminders.fan_out(10).await, Some(10));
    assert_eq!(reminders.fan_out(10).await, Some(5));
    assert_eq!(reminders.fan_out(10).await, None);
    let distinct = format!(
        "select count(distinct (openid, data, business_ref)) from pending_notifications where schedule_id = {id} and data ->> 'thing1' = 'hello ' || replace(business_ref, 'ref-', '')"
    );
    assert_eq!(reminders.count(&distinct).await, 25);
    assert_eq!(reminders.made(id).await.len(), 25);
    let fire = &reminders.fires(id).await[0];
    assert_eq!((fire.audience, fire.made, fire.open), (25, 25, 25));
}

/// Rows in one transaction and the cursor in another: whoever dies between them doubles a chunk.
const CURSOR_APART_FROM_ROWS: Mutant = Mutant {
    function: "wxnotify_fan_out",
    find: "else coalesce(v_chunk.last_openid, r.cursor) end, ",
    replace: "else r.cursor end, ",
};

#[tokio::test]
async fn the_cursor_moves_with_the_rows_it_stands_for() {
    for (is_mutant, expected) in [(false, 5), (true, 10)] {
        let reminders = Reminders::new().await;
        if is_mutant {
            CURSOR_APART_FROM_ROWS.apply(&reminders.queue).await;
        }
        let id = reminders
            .schedule(json!({"audience": "list"}), &[5.0])
            .await;
        reminders.listen_on(id, &["a", "b", "c", "d", "e"]).await;
        reminders.fire().await;
        reminders.fan_out(5).await;
        // Here the worker dies; another goes on.
        reminders.fan_out(6).await;
        assert_eq!(
            reminders.made(id).await.len(),
            expected,
            "mutant: {is_mutant}"
        );
    }
}

#[tokio::test]
async fn holders_are_told_once_each_and_their_credits_stay_theirs() {
    let reminders = Reminders::new().await;
    let columns = json!({"audience": "holders", "credit": "held"});
    let id = reminders.schedule(columns, &[5.0]).await;
    for openid in ["a", "a", "b", "c", "d"] {
        reminders.hold(openid).await;
    }
    reminders
        .run("insert into wechat_refusals (appid, openid, template_id, refused_at, said_by) values ('wxapp-one', 'c', 'template-1', now(), 'popup')")
        .await;
    reminders.fire().await;
    assert_eq!(reminders.fan_out(2).await, Some(2));
    assert_eq!(reminders.fan_out(2).await, Some(2));
    assert_eq!(reminders.fan_out(2).await, Some(0));
    let statuses = reminders.statuses(id).await;
    let openids: Vec<&str> = statuses.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(openids, ["a", "b", "d"]);
    let fire = &reminders.fires(id).await[0];
    assert_eq!((fire.audience, fire.made, fire.refused), (4, 3, 1));
    let held = "select count(*) from pending_notifications where held";
    assert_eq!(reminders.count(held).await, 5, "an offer holds no credit");
}

#[tokio::test]
async fn a_text_that_breaks_a_rule_costs_its_receiver_alone_and_is_not_quoted() {
    let reminders = Reminders::new().await;
    let columns = json!({"audience": "list", "data": {"thing1": "{{name}}"}});
    let id = reminders.schedule(columns, &[5.0]).await;
    reminders
        .run(&format!(
            "insert into reminder_audience (schedule_id, openid, data) values ({id}, 'a', '{{\"name\": \"x\"}}'), ({id}, 'b', '{{\"name\": \"much too long a secret for it\"}}'), ({id}, 'c', '{{\"name\": \"y\"}}'), ({id}, 'd', '{{}}')"
        ))
        .await;
    reminders.fire().await;
    reminders.fan_out_all().await;
    let fire = &reminders.fires(id).await[0];
    assert_eq!(
        (fire.state.as_str(), fire.made, fire.refused),
        ("done", 2, 2)
    );
    let reason = fire.reason.clone().unwrap();
    assert!(reason.contains("thing1"), "{reason}");
    assert!(!reason.contains("secret"), "{reason}");
}

#[tokio::test]
async fn an_open_transaction_on_one_schedule_delays_that_one_alone() {
    let reminders = Reminders::new().await;
    let held = reminders
        .schedule(json!({"name": "held", "cron": "1 8 * * *"}), &[5.0])
        .await;
    let other = reminders
        .schedule(json!({"name": "other", "cron": "2 8 * * *"}), &[5.0])
        .await;
    let lock = format!("select 1 from reminder_schedules where id = {held} for update");
    let mut editor = hold_open(&reminders, &lock).await;
    assert_eq!(reminders.fire().await, [held]);
    assert_eq!(reminders.made(held).await, Vec::<i64>::new());
    assert_eq!(reminders.made(other).await.len(), 1);
    run(&mut editor, "commit").await;
    assert_eq!(reminders.fire().await, Vec::<i64>::new());
    assert_eq!(reminders.made(held).await.len(), 1);
}

#[tokio::test]
async fn an_editor_under_repeatable_read_meets_no_conflict_with_a_maker() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0, 8.0]).await;
    let mut editor = reminders.queue.session().await;
    run(&mut editor, "begin isolation level repeatable read").await;
    run(&mut editor, "select * from reminder_schedules").await;
    reminders.fire().await;
    let edit = "update reminder_schedules set data = '{\"thing1\": \"y\"}'";
    run(&mut editor, edit).await;
    run(&mut editor, "commit").await;
    reminders.apply().await;
    assert_eq!(reminders.made(id).await.len(), 2);
    let new = "select count(*) from pending_notifications where data ->> 'thing1' = 'y'";
    assert_eq!(reminders.count(new).await, 2);
}

#[tokio::test]
async fn a_fire_that_cannot_be_made_is_put_off_and_the_others_go_on() {
    let reminders = Reminders::new().await;
    reminders
        .run("create function trip() returns trigger language plpgsql as $$ begin if new.openid = 'bad' then raise exception 'tripped'; end if; return new; end $$")
        .await;
    reminders
        .run("create trigger trip before insert on pending_notifications for each row execute function trip()")
        .await;
    let bad = reminders
        .schedule(
            json!({"name": "bad", "cron": "1 8 * * *", "openid": "bad"}),
            &[5.0],
        )
        .await;
    let good = reminders
        .schedule(json!({"name": "good", "cron": "2 8 * * *"}), &[5.0])
        .await;
    reminders.fire().await;
    assert_eq!(reminders.made(good).await.len(), 1);
    assert_eq!(reminders.fires(bad).await, []);
    let problem = format!("select problem from reminders where id = {bad}");
    assert_eq!(reminders.text(&problem).await.as_deref(), Some("tripped"));
    reminders
        .run("drop trigger trip on pending_notifications")
        .await;
    reminders
        .run("update reminder_clock set next_fire_at = clock_timestamp() where problem is not null")
        .await;
    reminders.fire().await;
    assert_eq!(reminders.made(bad).await.len(), 1);
}

#[tokio::test]
async fn what_was_skipped_by_hand_does_not_fire() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[20.0, 30.0]).await;
    assert!(
        reminders
            .text(&format!("skip_next({id}, 'the hall is closed')"))
            .await
            .is_some()
    );
    reminders.set_times(id, &[20.0, 30.0]).await;
    let sure = format!(
        "select count(*) from reminder_next({id}, 9) where skipped like 'skipped by %the hall is closed'"
    );
    assert_eq!(reminders.count(&sure).await, 1);
    sqlx::query("select wxnotify_fire_due(40, 10, '{}')")
        .execute(reminders.queue.pool())
        .await
        .unwrap();
    assert_eq!(reminders.made(id).await.len(), 1);
}

#[tokio::test]
async fn two_fires_of_many_workers_at_once_make_each_row_once() {
    let reminders = Reminders::new().await;
    for number in 0..40 {
        let columns = json!({"name": format!("n{number}"), "openid": format!("user-{number}")});
        insert_schedule(reminders.queue.pool(), columns)
            .await
            .unwrap();
    }
    reminders.apply().await;
    let any = reminders
        .count("select min(id) from reminder_schedules")
        .await;
    reminders.set_times(any, &[2.0, 4.0, 6.0]).await;
    let makers = (0..4).map(|_| async {
        for _ in 0..5 {
            fire(reminders.queue.pool()).await;
        }
    });
    futures::future::join_all(makers).await;
    reminders.fire().await;
    let rows = "select count(*) from pending_notifications";
    assert_eq!(reminders.count(rows).await, 120);
    let distinct = "select count(distinct (schedule_id, local_at)) from pending_notifications";
    assert_eq!(reminders.count(distinct).await, 120);
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_said_at_its_insert_by_column() {
    let reminders = Reminders::new().await;
    for (columns, said) in [
        (
            json!({"cron": "61 * * * *"}),
            "reminder_schedules.cron: minute: values are 0 to 59",
        ),
        (
            json!({"cron": "0 0 1--100000000 * *"}),
            "reminder_schedules.cron: day:",
        ),
        (
            json!({"cron": "0 8 * *"}),
            "reminder_schedules.cron: has 4 fields",
        ),
        (
            json!({"cron": "0 8,, * * *"}),
            "reminder_schedules.cron: hour: a comma",
        ),
        (
            json!({"cron": "0 8 * * * ".repeat(1000)}),
            "reminder_schedules.cron: at most 100 characters",
        ),
        (
            json!({"cron": null}),
            "reminder_schedules.cron: give either cron or every",
        ),
        (
            json!({"cron": null, "every": "5 minutes", "starts_at": "2026-01-01"}),
            "reminder_schedules.every: write whole days or weeks",
        ),
        (
            json!({"cron": null, "every": "3 days"}),
            "reminder_schedules.starts_at: every counts from it",
        ),
        (
            json!({"time_zone": "Asia/Nowhere"}),
            "reminder_schedules.time_zone: is no zone",
        ),
        (
            json!({"time_zone": "+08"}),
            "reminder_schedules.time_zone: must be an IANA name",
        ),
        (
            json!({"data": {"thing1": "{{fire:YYYY"}}),
            "reminder_schedules.data: a placeholder is not closed",
        ),
        (
            json!({"data": {"thing1": "{{name}}"}}),
            "reminder_schedules.data: {{name}} takes a text of reminder_audience",
        ),
        (
            json!({"data": {"thing1": "{{fire:Day Month YYYY}} is the day"}}),
            "reminder_schedules.data: thing1: at most 20 characters",
        ),
        (
            json!({"dedup_key": "always"}),
            "reminder_schedules.dedup_key: the same key at each fire",
        ),
        (
            json!({"audience": "list", "openid": "user-1"}),
            "reminder_schedules.openid: belongs to an audience of one",
        ),
        (
            json!({"audience": "list", "cron": "0 0 8 * * *"}),
            "reminder_schedules.cron: seconds are for an audience of one",
        ),
        (
            json!({"kind": "long_term", "credit": "held"}),
            "reminder_schedules.credit: a long_term message spends none",
        ),
        (
            json!({"spread": "2 days"}),
            "reminder_schedules.spread: must be 0 to 1 day",
        ),
        (
            json!({"valid_for": "-1 s"}),
            "reminder_schedules.valid_for:",
        ),
        (json!({"missed": "some"}), "reminder_schedules.missed:"),
        (
            json!({"starts_at": "2026-05-01", "ends_at": "2026-04-01"}),
            "reminder_schedules.ends_at: must be later",
        ),
        (json!({"only_on": "sunday"}), "reminder_schedules.only_on:"),
        (json!({"fires_max": 0}), "reminder_schedules.fires_max:"),
        (
            json!({"page": "/index"}),
            "reminder_schedules.page: must not begin with a slash",
        ),
        (json!({"name": ""}), "reminder_schedules.name:"),
        (json!({"appid": "bad appid"}), "reminder_schedules.appid:"),
    ] {
        let refused = insert_schedule(reminders.queue.pool(), columns.clone()).await;
        let error = refused.expect_err(&columns.to_string()).to_string();
        assert!(error.contains(said), "{columns}: {error}");
    }
    assert_eq!(
        reminders
            .count("select count(*) from reminder_schedules")
            .await,
        0
    );
}
