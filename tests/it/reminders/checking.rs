//! Checks: the business is asked whether a reminder is still true, before it is sent.

use serde_json::json;
use sqlx::AssertSqlSafe;

use wxnotify::operate::doctor::DoctorArgs;
use wxnotify::operate::report::Style;
use wxnotify::operate::{OperateCommand, execute};
use wxnotify::store::Store;

use super::working::set_time;
use super::{Reminders, insert_schedule};
use crate::harness::{PATIENCE, eventually};
use crate::kernel::mutants::Mutant;
use crate::worker::{APP, Program, Scene, TEMPLATE};

/// A role and a schema of the business, and a check in it. The role is of this database alone, by its name.
async fn add_business(pool: &sqlx::PgPool, body: &str) {
    let statement = format!(
        "do $do$ begin execute format('create role %I', 'shop_' || current_database()); end $do$;
         create schema shop;
         create table shop.lessons (ref text primary key, is_on boolean not null);
         create function shop.still_on(p_refs text[]) returns text[] language plpgsql security definer set search_path = shop
             as $body$ begin {body} end $body$;
         do $do$ begin
             execute format('alter schema shop owner to %I', 'shop_' || current_database());
             execute format('alter table shop.lessons owner to %I', 'shop_' || current_database());
             execute format('alter function shop.still_on owner to %I', 'shop_' || current_database());
         end $do$;
         grant usage on schema shop to wxnotify_worker;
         grant execute on function shop.still_on to wxnotify_worker;"
    );
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(pool)
        .await
        .unwrap();
}

const ASKS_THE_TABLE: &str =
    "return array(select l.ref from lessons l where l.is_on and l.ref = any (p_refs));";

async fn add_check(pool: &sqlx::PgPool, name: &str, on_error: &str) {
    sqlx::query("select add_check($1, 'shop.still_on', $2)")
        .bind(name)
        .bind(on_error)
        .execute(pool)
        .await
        .unwrap();
}

/// A schedule that is due each second, and is asked about.
async fn every_second(scene: &Scene, name: &str, check: &str) -> i64 {
    let columns = json!({
        "appid": APP, "template_id": TEMPLATE, "name": name, "openid": name, "cron": "* * * * * *", "business_ref": name, "still_true": check,
        "fires_max": 3,
    });
    insert_schedule(scene.pool(), columns).await.unwrap()
}

async fn ended(scene: &Scene, id: i64, reason_code: &str) -> i64 {
    scene
        .count(&format!(
            "select count(*) from notifications where schedule_id = {id} and reason_code = '{reason_code}'"
        ))
        .await
}

#[tokio::test]
async fn what_still_holds_is_sent_and_what_does_not_is_cancelled_and_counted() {
    let scene = Scene::new().await;
    add_business(scene.pool(), ASKS_THE_TABLE).await;
    add_check(scene.pool(), "lessons", "hold").await;
    sqlx::raw_sql("insert into shop.lessons values ('on', true), ('off', false)")
        .execute(scene.pool())
        .await
        .unwrap();
    let on = every_second(&scene, "on", "lessons").await;
    let off = every_second(&scene, "off", "lessons").await;
    let _worker = scene.start(&[]);
    eventually("all were seen to", async || {
        let (sent, over) = (
            ended(&scene, on, "accepted").await,
            ended(&scene, off, "no_longer_true").await,
        );
        (sent == 3 && over == 3).then_some(())
    })
    .await;
    let not_true =
        format!("select sum(not_true)::bigint from reminder_outcomes where schedule_id = {off}");
    assert_eq!(scene.count(&not_true).await, 3);
    assert_eq!(scene.count("select errors from reminder_checks").await, 0);
    let sent = format!(
        "select count(*) from notification_history where schedule_id = {off} and attempts > 0"
    );
    assert_eq!(scene.count(&sent).await, 0);
}

#[tokio::test]
async fn a_check_that_fails_holds_its_own_rows_alone_and_they_go_when_it_is_mended() {
    for (body, problem) in [
        (
            "perform 1 / (p_refs[1] = 'x')::int; return p_refs;",
            "raised SQLSTATE 22012",
        ),
        ("return null;", "answered with null"),
        ("return array[null]::text[];", "answered with null"),
        (
            "insert into lessons values ('x', true); return p_refs;",
            "raised SQLSTATE 25006",
        ),
        (
            "loop begin perform pg_sleep(60); exception when query_canceled then null; end; end loop;",
            "no answer within 2 s",
        ),
    ] {
        let scene = Scene::new().await;
        add_business(scene.pool(), body).await;
        add_check(scene.pool(), "lessons", "hold").await;
        sqlx::raw_sql(
            "create function shop.always(p_refs text[]) returns text[] language sql security definer set search_path = shop as 'select p_refs';
             do $do$ begin execute format('alter function shop.always owner to %I', 'shop_' || current_database()); end $do$;
             grant execute on function shop.always to wxnotify_worker;
             select add_check('always', 'shop.always');
             insert into shop.lessons values ('held', true)",
        )
        .execute(scene.pool())
        .await
        .unwrap();
        let held = every_second(&scene, "held", "lessons").await;
        let goes = every_second(&scene, "goes", "always").await;
        let plain = scene.insert("plain", json!({})).await;
        let _worker = scene.start(&[]);
        let said = eventually("the failure is recorded and the others are sent", async || {
            let others = ended(&scene, goes, "accepted").await == 3
                && scene.count(&format!("select count(*) from notification_history where id = {plain} and status = 'sent'")).await == 1;
            let said: Option<String> = sqlx::query_scalar("select problem from reminder_checks where name = 'lessons'")
                .fetch_one(scene.pool())
                .await
                .unwrap();
            said.filter(|said| others && said.contains(problem))
        })
        .await;
        assert!(!said.contains("held"), "no word of the rows: {said}");
        assert_eq!(ended(&scene, held, "is_still_true").await, 3, "{body}");
        let doctor = OperateCommand::Doctor(DoctorArgs { online: false });
        let doctor = execute(doctor, &Store::new(scene.pool().clone())).await;
        let text = doctor.unwrap().to_text(Style::PLAIN);
        assert!(
            text.contains(problem) && text.contains("3 rows wait for it"),
            "{text}"
        );
        let mend = format!(
            "create or replace function shop.still_on(p_refs text[]) returns text[] language plpgsql security definer set search_path = shop as $body$ begin {ASKS_THE_TABLE} end $body$"
        );
        sqlx::raw_sql(AssertSqlSafe(mend))
            .execute(scene.pool())
            .await
            .unwrap();
        eventually("they are sent", async || {
            (ended(&scene, held, "accepted").await == 3).then_some(())
        })
        .await;
        let mended = "select count(*) from reminder_checks where name = 'lessons' and failing_since is null and errors > 0";
        assert_eq!(scene.count(mended).await, 1);
    }
}

#[tokio::test]
async fn a_check_that_was_added_to_drop_drops_when_it_fails() {
    let scene = Scene::new().await;
    add_business(scene.pool(), "raise exception 'of user o1'; return p_refs;").await;
    add_check(scene.pool(), "lessons", "drop").await;
    let id = every_second(&scene, "dropped", "lessons").await;
    let _worker = scene.start(&[]);
    eventually("all were dropped", async || {
        (ended(&scene, id, "check_failed").await == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_function_that_has_rights_of_ours_or_may_not_be_called_is_no_check() {
    let reminders = Reminders::new().await;
    let pool = reminders.queue.pool();
    add_business(pool, ASKS_THE_TABLE).await;
    for (spoil, words) in [
        (
            "alter function shop.still_on security invoker",
            "must be SECURITY DEFINER",
        ),
        (
            "alter function shop.still_on reset search_path",
            "search_path of its own",
        ),
        (
            "alter function shop.still_on owner to current_user",
            "its owner",
        ),
        (
            "do $do$ begin execute format('grant wxnotify_worker to %I', 'shop_' || current_database()); end $do$",
            "its owner has rights of wxnotify's",
        ),
        (
            "revoke execute on function shop.still_on from wxnotify_worker, public",
            "workers may not execute it",
        ),
        (
            "revoke usage on schema shop from wxnotify_worker, public",
            "workers may not execute it",
        ),
        ("drop function shop.still_on", "there is no such function"),
        (
            "drop function shop.still_on; create function shop.still_on(text[]) returns text language sql as 'select null'",
            "must return text[]",
        ),
    ] {
        let mut session = reminders.queue.session().await;
        let spoilt = format!("begin; {spoil}");
        sqlx::raw_sql(AssertSqlSafe(spoilt))
            .execute(&mut session)
            .await
            .unwrap();
        let fault: Option<String> =
            sqlx::query_scalar("select wxnotify_check_fault('shop.still_on')")
                .fetch_one(&mut session)
                .await
                .unwrap();
        assert!(
            fault.as_deref().is_some_and(|fault| fault.contains(words)),
            "{spoil}: {fault:?}"
        );
        let refused = sqlx::query("select add_check('lessons', 'shop.still_on')")
            .execute(&mut session)
            .await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("cannot be a check"),
            "{spoil}"
        );
    }
    for (arguments, words) in [
        ("'Lessons', 'shop.still_on'", "name"),
        ("'lessons', 'still_on'", "needs its schema"),
        ("'lessons', 'shop.still_on; drop table x'", "cannot be read"),
        ("'lessons', 'shop.still_on', 'shrug'", "hold"),
        ("'lessons', null", "cannot be a check"),
    ] {
        let statement = AssertSqlSafe(format!("select add_check({arguments})"));
        let refused = sqlx::query(statement).execute(pool).await;
        let said = refused.expect_err(arguments).to_string();
        assert!(said.contains(words), "{arguments}: {said}");
    }
}

#[tokio::test]
async fn a_schedule_names_a_check_that_is_there_and_says_what_to_ask_about() {
    let reminders = Reminders::new().await;
    let pool = reminders.queue.pool();
    add_business(pool, ASKS_THE_TABLE).await;
    let no_such =
        insert_schedule(pool, json!({"still_true": "lessons", "business_ref": "x"})).await;
    assert!(
        no_such
            .unwrap_err()
            .to_string()
            .contains("still_true: there is no such check")
    );
    add_check(pool, "lessons", "hold").await;
    let no_ref = insert_schedule(pool, json!({"still_true": "lessons"})).await;
    assert!(
        no_ref
            .unwrap_err()
            .to_string()
            .contains("business_ref: the check")
    );
    insert_schedule(pool, json!({"still_true": "lessons", "business_ref": "x"}))
        .await
        .unwrap();
    let removed = sqlx::query("select remove_check('lessons')")
        .execute(pool)
        .await;
    assert!(
        removed
            .unwrap_err()
            .to_string()
            .contains("is named by schedule")
    );
    reminders.run("delete from reminder_schedules").await;
    reminders.run("select remove_check('lessons')").await;
}

#[tokio::test]
async fn an_answer_is_good_for_some_seconds_and_a_retry_asks_again() {
    let reminders = Reminders::new().await;
    let pool = reminders.queue.pool();
    add_business(pool, ASKS_THE_TABLE).await;
    add_check(pool, "lessons", "hold").await;
    let id = reminders
        .schedule(
            json!({"still_true": "lessons", "business_ref": "x"}),
            &[5.0],
        )
        .await;
    reminders.fire().await;
    let [row] = reminders.made(id).await[..] else {
        panic!("one row is made")
    };
    let told = format!("select status || ' ' || reason_code from notifications where id = {row}");
    assert_eq!(
        reminders.text(&told).await.as_deref(),
        Some("scheduled is_still_true")
    );
    let soon = "select count(*) from wxnotify_claim_checks(10)";
    assert_eq!(
        reminders.count(soon).await,
        0,
        "not before two seconds ahead of its time"
    );
    let hour = format!(
        "update pending_notifications set check_at = clock_timestamp(), send_at = clock_timestamp() where id = {row}"
    );
    for claimed in [1, 0] {
        if claimed == 1 {
            reminders.queue.force(&hour).await;
        }
        assert_eq!(
            reminders.count(soon).await,
            claimed,
            "a claim is one worker's for some seconds"
        );
    }
    let answer = format!(
        "select wxnotify_settle_checks('lessons', 'wxapp-one', array[{row}], array['x'], array['x'])"
    );
    assert_eq!(reminders.count(&answer).await, 0);
    let lease = reminders.lease(id).await;
    let stale = format!(
        "update pending_notifications set checked_at = clock_timestamp() - interval '11 s' where id = {row}"
    );
    reminders.queue.force(&stale).await;
    assert_eq!(reminders.start(&lease).await, Some(vec![]));
    assert_eq!(
        reminders.text(&told).await.as_deref(),
        Some("scheduled is_still_true")
    );
    reminders.count(&answer).await;
    let lease = reminders.lease(id).await;
    assert_eq!(reminders.start(&lease).await, Some(vec![row]));
}

#[tokio::test]
async fn an_answer_about_a_ref_that_was_edited_meanwhile_does_not_count() {
    let reminders = Reminders::new().await;
    let pool = reminders.queue.pool();
    add_business(pool, ASKS_THE_TABLE).await;
    add_check(pool, "lessons", "hold").await;
    let id = reminders
        .schedule(
            json!({"still_true": "lessons", "business_ref": "x"}),
            &[5.0],
        )
        .await;
    reminders.fire().await;
    let [row] = reminders.made(id).await[..] else {
        panic!("one row is made")
    };
    let edit = format!("update pending_notifications set business_ref = 'y' where id = {row}");
    reminders.queue.force(&edit).await;
    let answer = format!(
        "select wxnotify_settle_checks('lessons', 'wxapp-one', array[{row}], array['x'], array[]::text[])"
    );
    assert_eq!(reminders.count(&answer).await, 0, "it is not ended");
    let waits = format!(
        "select count(*) from pending_notifications where id = {row} and waiting_for = 'check' and check_at <= clock_timestamp()"
    );
    assert_eq!(reminders.count(&waits).await, 1, "it is asked again");
}

#[tokio::test]
async fn a_template_may_name_the_check_of_its_reminders() {
    let reminders = Reminders::new().await;
    let pool = reminders.queue.pool();
    add_business(pool, ASKS_THE_TABLE).await;
    add_check(pool, "lessons", "hold").await;
    reminders
        .run("select set_template_still_true('wxapp-one', 'template-1', 'lessons')")
        .await;
    let id = reminders
        .schedule(json!({"business_ref": "x"}), &[5.0])
        .await;
    reminders.fire().await;
    let waits = format!(
        "select count(*) from pending_notifications where schedule_id = {id} and waiting_for = 'check'"
    );
    assert_eq!(reminders.count(&waits).await, 1);
    let removed = sqlx::query("select remove_check('lessons')")
        .execute(pool)
        .await;
    assert!(
        removed
            .unwrap_err()
            .to_string()
            .contains("named by a template")
    );
}

#[tokio::test]
async fn no_more_is_asked_than_the_rate_sends_before_the_answer_is_stale() {
    let reminders = Reminders::new().await;
    let pool = reminders.queue.pool();
    add_business(pool, ASKS_THE_TABLE).await;
    add_check(pool, "lessons", "hold").await;
    reminders.run("select set_app_rate('wxapp-one', 2)").await;
    let id = reminders
        .schedule(
            json!({"audience": "list", "still_true": "lessons", "business_ref": "x", "lane": 1}),
            &[5.0],
        )
        .await;
    let openids: Vec<String> = (0..30).map(|n| format!("o{n}")).collect();
    let openids: Vec<&str> = openids.iter().map(String::as_str).collect();
    reminders.listen_on(id, &openids).await;
    reminders.fire().await;
    reminders.fan_out_all().await;
    reminders.queue.force("update pending_notifications set check_at = clock_timestamp(), send_at = clock_timestamp()").await;
    let asked = "select sum(cardinality(ids)) from wxnotify_claim_checks(1000)";
    assert_eq!(reminders.count(asked).await, 10);
    let holds = "select wxnotify_settle_checks('lessons', 'wxapp-one', array_agg(id), array_agg('x'::text), array['x'])
        from (select id from pending_notifications where check_at > clock_timestamp() limit 10) p";
    reminders.count(holds).await;
    let more = "select count(*) from wxnotify_claim_checks(1000)";
    assert_eq!(
        reminders.count(more).await,
        0,
        "ten wait for their turn with an answer that is good"
    );
}

#[tokio::test]
async fn to_more_users_than_an_operator_allows_nothing_goes_before_an_approval() {
    let reminders = Reminders::new().await;
    reminders
        .run("select set_app_approval('wxapp-one', 2)")
        .await;
    let id = reminders
        .schedule(json!({"audience": "list"}), &[5.0])
        .await;
    reminders.listen_on(id, &["a", "b"]).await;
    reminders.fire().await;
    assert_eq!(
        reminders.fires(id).await[0].state,
        "open",
        "two are not more than two"
    );
    for (openid, approval, state, reason) in [
        ("c", None, "skipped", Some("not approved")),
        (
            "d",
            Some("select approve_schedule(id) from reminder_schedules"),
            "open",
            None,
        ),
        (
            "e",
            Some("update reminder_schedules set data = '{\"thing1\": \"y\"}'"),
            "skipped",
            Some("not approved"),
        ),
    ] {
        reminders.listen_on(id, &[openid]).await;
        if let Some(statement) = approval {
            reminders.run(statement).await;
        }
        reminders.run("update reminder_fires set local_at = local_at - interval '1 day', fire_at = fire_at - interval '1 day', state = 'done'").await;
        reminders.apply().await;
        reminders.set_times(id, &[5.0]).await;
        reminders.go_back(id, 1).await;
        reminders.fire().await;
        let fires = reminders.fires(id).await;
        let last = fires.last().unwrap();
        assert_eq!(
            (last.state.as_str(), last.reason.as_deref()),
            (state, reason),
            "{openid}"
        );
    }
}

/// The stamp not looked at: what was asked long ago, or never, goes out.
const ANSWER_NOT_LOOKED_AT: Mutant = Mutant {
    function: "wxnotify_judge_reminders",
    find: "when u.unasked then 'check'",
    replace: "when false then 'check'",
};

#[tokio::test]
async fn nothing_with_a_check_starts_without_an_answer() {
    for (is_mutant, expected) in [(false, 0), (true, 1)] {
        let reminders = Reminders::new().await;
        if is_mutant {
            ANSWER_NOT_LOOKED_AT.apply(&reminders.queue).await;
        }
        let pool = reminders.queue.pool();
        add_business(pool, ASKS_THE_TABLE).await;
        let id = reminders
            .schedule(json!({"business_ref": "x"}), &[5.0])
            .await;
        reminders.fire().await;
        let lease = reminders.lease(id).await;
        // The check is named while the row is leased.
        add_check(pool, "lessons", "hold").await;
        reminders
            .run("select set_template_still_true('wxapp-one', 'template-1', 'lessons')")
            .await;
        let started = reminders.start(&lease).await.unwrap();
        assert_eq!(started.len(), expected, "mutant: {is_mutant}");
    }
}

/// Killed at each step of asking: another worker asks again, and each receiver gets one message or none.
#[tokio::test]
async fn a_worker_killed_while_it_asks_leaves_each_receiver_one_answer() {
    const RECEIVERS: i64 = 200;
    for point in [
        "after:claim_checks",
        "before:settle_checks",
        "during:settle_checks",
        "after:settle_checks",
    ] {
        let scene = Scene::new().await;
        add_business(
            scene.pool(),
            "return array(select r from unnest(p_refs) r where r not like '%5');",
        )
        .await;
        add_check(scene.pool(), "lessons", "hold").await;
        let columns = json!({
            "appid": APP, "template_id": TEMPLATE, "audience": "list", "cron": "* * * * *", "business_ref": "all", "still_true": "lessons", "fires_max": 1,
        });
        let id = insert_schedule(scene.pool(), columns).await.unwrap();
        sqlx::query("insert into reminder_audience (schedule_id, openid, ref) select $1, 'o' || n, 'lesson-' || n from generate_series(1, $2) n")
            .bind(id)
            .bind(RECEIVERS)
            .execute(scene.pool())
            .await
            .unwrap();
        set_time(&scene, id, 1.0).await;
        let mut victim: Program =
            scene.spawn(&[("FAILPOINT", point), ("WXNOTIFY_WORKER", "victim")]);
        let ended = tokio::time::timeout(PATIENCE, victim.end()).await;
        assert!(ended.is_ok(), "{point} was not passed: {}", victim.log());
        scene.until_its_sessions_end().await;
        scene.lapse_leases().await;
        // Its claims lapse, too.
        sqlx::raw_sql("set gin_fuzzy_search_limit = 20784; update pending_notifications set check_at = clock_timestamp() where waiting_for = 'check'; reset gin_fuzzy_search_limit")
            .execute(scene.pool())
            .await
            .unwrap();
        let _next = scene.start(&[
            ("WXNOTIFY_WORKER", "next"),
            ("WXNOTIFY_DOUBT_WINDOW_SECS", "0.3"),
        ]);
        eventually(point, async || {
            let outcome = "select count(*) from reminder_outcomes where made = 200 and sent = 180 and not_true = 20";
            (scene.count(outcome).await == 1).then_some(())
        })
        .await;
        let ended = format!("select count(*) from notification_history where schedule_id = {id}");
        assert_eq!(scene.count(&ended).await, RECEIVERS, "{point}");
    }
}
