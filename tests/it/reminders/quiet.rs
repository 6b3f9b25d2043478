//! Quiet hours: what is due by wxnotify's own doing waits for their end, what a business asks for now does not.

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::Reminders;
use crate::kernel::mutants::Mutant;
use crate::kernel::{APP, Outcome};

/// Hours of UTC that it is in the middle of now.
const NOW: &str = "((clock_timestamp() at time zone 'UTC') - interval '1 hour')::time(0), ((clock_timestamp() at time zone 'UTC') + interval '1 hour')::time(0)";
/// Hours of UTC that come later today, or early tomorrow.
const LATER: &str = "((clock_timestamp() at time zone 'UTC') + interval '2 hours')::time(0), ((clock_timestamp() at time zone 'UTC') + interval '3 hours')::time(0)";

impl Reminders {
    async fn hush(&self, hours: &str) -> i64 {
        self.count(&format!(
            "select set_quiet_hours('{APP}', {hours}, p_time_zone => 'UTC')"
        ))
        .await
    }

    /// Status and reason of a notification, and whether something happens to it within the hour after the quiet hours' end.
    async fn told(&self, id: i64) -> String {
        let told = format!(
            "select status || ' ' || reason_code || case when next_at between clock_timestamp() + interval '59 minutes' and clock_timestamp() + interval '63 minutes'
                 then ' in an hour' else '' end from notifications where id = {id}"
        );
        self.text(&told).await.unwrap_or_default()
    }
}

#[tokio::test]
async fn when_quiet_hours_end_is_told_across_midnight_and_in_the_reminders_own_zone() {
    let reminders = Reminders::new().await;
    let set =
        "select set_quiet_hours('wxapp-one', '22:00', '08:00', p_time_zone => 'Asia/Shanghai'),
        set_quiet_hours('wxapp-one', '12:00', '14:00', 'lunch', 'Asia/Shanghai')";
    reminders.run(set).await;
    for (at, zone, template, end) in [
        (
            "2026-12-01 22:00+08",
            None,
            "t",
            Some("2026-12-02 08:00+08"),
        ),
        (
            "2026-12-02 07:59:59+08",
            None,
            "t",
            Some("2026-12-02 08:00+08"),
        ),
        ("2026-12-02 08:00+08", None, "t", None),
        ("2026-12-01 21:59:59+08", None, "t", None),
        (
            "2026-12-01 23:00+01",
            Some("Europe/Berlin"),
            "t",
            Some("2026-12-02 08:00+01"),
        ),
        ("2026-12-01 23:00+08", Some("Europe/Berlin"), "t", None),
        // A template's own hours stand in place of its mini-program's.
        (
            "2026-12-01 13:00+08",
            None,
            "lunch",
            Some("2026-12-01 14:00+08"),
        ),
        ("2026-12-01 23:00+08", None, "lunch", None),
        // The night of summer time has an hour less, and one more.
        (
            "2027-03-28 01:30+01",
            Some("Europe/Berlin"),
            "t",
            Some("2027-03-28 08:00+02"),
        ),
        (
            "2027-10-31 02:30+02",
            Some("Europe/Berlin"),
            "t",
            Some("2027-10-31 08:00+01"),
        ),
    ] {
        let zone = zone.map_or("null".to_owned(), |zone| format!("'{zone}'"));
        let end = end.map_or("null".to_owned(), |end| format!("'{end}'"));
        let is_so = format!(
            "select (wxnotify_quiet_end('wxapp-one', '{template}', 1::smallint, {zone}, '{at}') is not distinct from {end}::timestamptz)::int"
        );
        assert_eq!(reminders.count(&is_so).await, 1, "{at} {zone} {template}");
    }
    let urgent = "select (wxnotify_quiet_end('wxapp-one', 't', 0::smallint, null, '2026-12-01 23:00+08') is null)::int";
    assert_eq!(reminders.count(urgent).await, 1);
}

#[tokio::test]
async fn a_fire_in_quiet_hours_waits_for_their_end_and_is_valid_from_then() {
    let reminders = Reminders::new().await;
    reminders.hush(NOW).await;
    let id = reminders
        .schedule(json!({"valid_for": "10 minutes"}), &[5.0])
        .await;
    reminders.fire().await;
    let [row] = reminders.made(id).await[..] else {
        panic!("one row is made");
    };
    assert_eq!(
        reminders.told(row).await,
        "scheduled quiet_hours in an hour"
    );
    let valid = format!(
        "select extract(epoch from expire_at - due)::int between 480 and 600 from pending_notifications where id = {row}"
    );
    assert_eq!(reminders.text(&valid).await.as_deref(), Some("true"));
    let sentence =
        format!("select sentence || what_next || sentence_zh from explain_notification({row})");
    let sentence = reminders.text(&sentence).await.unwrap();
    assert!(
        sentence.contains("quiet hours") && sentence.contains("安静时段"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_list_waits_for_the_end_of_quiet_hours_too() {
    let reminders = Reminders::new().await;
    reminders.hush(NOW).await;
    let id = reminders
        .schedule(json!({"audience": "list"}), &[5.0])
        .await;
    reminders.listen_on(id, &["a", "b", "c"]).await;
    reminders.fire().await;
    reminders.fan_out_all().await;
    for row in reminders.made(id).await {
        assert_eq!(
            reminders.told(row).await,
            "scheduled quiet_hours in an hour"
        );
    }
}

#[tokio::test]
async fn what_is_urgent_and_what_ignores_quiet_hours_goes_and_what_drops_is_skipped() {
    let reminders = Reminders::new().await;
    reminders.hush(NOW).await;
    for columns in [
        json!({"name": "urgent", "lane": 0, "openid": "a"}),
        json!({"name": "ignores", "quiet": "ignore", "openid": "b"}),
    ] {
        let id = reminders.schedule(columns.clone(), &[5.0]).await;
        reminders.fire().await;
        let lease = reminders.lease(id).await;
        assert_eq!(
            reminders.start(&lease).await.map(|ids| ids.len()),
            Some(1),
            "{columns}"
        );
    }
    let drops = reminders
        .schedule(json!({"name": "drops", "quiet": "drop"}), &[5.0])
        .await;
    let next = format!("select skipped from reminder_next({drops}, 1)");
    assert_eq!(reminders.text(&next).await.as_deref(), Some("quiet hours"));
    reminders.fire().await;
    let fires = reminders.fires(drops).await;
    assert_eq!(
        (fires[0].state.as_str(), fires[0].reason.as_deref()),
        ("skipped", Some("quiet hours"))
    );
}

#[tokio::test]
async fn quiet_hours_that_were_set_after_a_row_was_made_hold_it_at_its_start() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({"name": "holds"}), &[5.0]).await;
    let drops = reminders
        .schedule(
            json!({"name": "drops", "quiet": "drop", "lane": 2, "openid": "b"}),
            &[5.0],
        )
        .await;
    reminders.fire().await;
    let lease = reminders.lease(id).await;
    let dropped = reminders.lease(drops).await;
    reminders.hush(NOW).await;
    assert_eq!(reminders.start(&lease).await, Some(vec![]));
    let told = reminders.told(lease.ids[0]).await;
    assert!(told.starts_with("scheduled quiet_hours"), "{told}");
    assert_eq!(reminders.start(&dropped).await, Some(vec![]));
    assert_eq!(
        reminders.told(dropped.ids[0]).await,
        "cancelled dropped_in_quiet_hours"
    );
    assert_eq!(reminders.fires(drops).await[0].cancelled, 1);
}

#[tokio::test]
async fn a_retry_waits_and_a_row_that_a_business_inserts_now_does_not() {
    let reminders = Reminders::new().await;
    reminders.hush(NOW).await;
    let id = reminders.queue.enqueue(json!({})).await;
    let lease = reminders.queue.lease("one").await.expect("it is due");
    reminders.queue.settle(&lease, &[Outcome::retry(id)]).await;
    assert_eq!(reminders.told(id).await, "scheduled quiet_hours in an hour");
    let urgent = reminders
        .queue
        .enqueue(json!({"lane": 0, "openid": "urgent"}))
        .await;
    let lease = crate::kernel::lease(reminders.queue.pool(), APP, 0, "one", 8)
        .await
        .unwrap()
        .unwrap();
    reminders
        .queue
        .settle(&lease, &[Outcome::retry(urgent)])
        .await;
    assert!(reminders.told(urgent).await.starts_with("retrying "));
}

#[tokio::test]
async fn a_redrive_waits_unless_the_operator_names_a_time() {
    let reminders = Reminders::new().await;
    let mut rows = Vec::new();
    for openid in ["a", "b"] {
        let id = reminders.queue.enqueue(json!({"openid": openid})).await;
        reminders
            .run(&format!("select cancel_notification({id})"))
            .await;
        rows.push(id);
    }
    reminders.hush(NOW).await;
    let waits = format!(
        "select new_id from redrive_notifications(array[{}])",
        rows[0]
    );
    let waits = reminders.count(&waits).await;
    assert_eq!(
        reminders.told(waits).await,
        "scheduled quiet_hours in an hour"
    );
    let goes = format!(
        "select new_id from redrive_notifications(array[{}], clock_timestamp())",
        rows[1]
    );
    let goes = reminders.count(&goes).await;
    assert_eq!(reminders.told(goes).await, "due waits_for_worker");
}

#[tokio::test]
async fn what_waited_for_a_pause_waits_for_the_end_of_quiet_hours_after_it() {
    let reminders = Reminders::new().await;
    let id = reminders.queue.enqueue(json!({})).await;
    let pause = format!("select pause_app_by_operator('{APP}', null, 'test')");
    reminders.run(&pause).await;
    reminders
        .run(&format!("select wxnotify_tidy('{APP}', 1::smallint)"))
        .await;
    reminders.hush(NOW).await;
    assert_eq!(
        reminders
            .count(&format!("select resume_app('{APP}')"))
            .await,
        1
    );
    assert_eq!(reminders.told(id).await, "scheduled quiet_hours in an hour");
}

#[tokio::test]
async fn what_need_not_wait_any_more_is_due_when_the_hours_change_or_end() {
    let reminders = Reminders::new().await;
    reminders.hush(NOW).await;
    for (change, openid) in [
        (
            format!("select set_quiet_hours('{APP}', {LATER}, p_time_zone => 'UTC')"),
            "a",
        ),
        (format!("select clear_quiet_hours('{APP}')"), "b"),
    ] {
        reminders.hush(NOW).await;
        let id = reminders.queue.enqueue(json!({"openid": openid})).await;
        let lease = reminders.queue.lease("one").await.expect("it is due");
        reminders.queue.settle(&lease, &[Outcome::retry(id)]).await;
        assert_eq!(reminders.count(&change).await, 1, "{change}");
        assert_eq!(reminders.told(id).await, "due waits_for_worker");
        reminders
            .run(&format!("select cancel_notification({id})"))
            .await;
    }
    let recorded = "select count(*) from operator_actions where action in ('set_quiet_hours', 'clear_quiet_hours')";
    assert_eq!(reminders.count(recorded).await, 5);
}

#[tokio::test]
async fn what_expires_in_quiet_hours_says_so() {
    let reminders = Reminders::new().await;
    let id = reminders
        .queue
        .enqueue(json!({"expire_at": crate::kernel::in_secs(600)}))
        .await;
    let lease = reminders.queue.lease("one").await.expect("it is due");
    reminders.hush(NOW).await;
    reminders.queue.settle(&lease, &[Outcome::retry(id)]).await;
    reminders
        .queue
        .force(&format!(
            "update pending_notifications set due = now() - interval '1 s', expire_at = now() - interval '1 s' where id = {id}"
        ))
        .await;
    reminders
        .run(&format!("select wxnotify_tidy('{APP}', 1::smallint)"))
        .await;
    assert_eq!(reminders.told(id).await, "expired expired_in_quiet_hours");
}

#[tokio::test]
async fn bad_quiet_hours_are_refused_with_the_rule() {
    let reminders = Reminders::new().await;
    for (arguments, rule) in [
        ("'wxapp-one', '22:00', '22:00'", "two different times"),
        ("'wxapp-one', null, '22:00'", "two different times"),
        ("'wxapp-one', '22:00', '24:00'", "two different times"),
        (
            "'wxapp-one', '22:00', '08:00', p_time_zone => 'Mars'",
            "IANA name",
        ),
        (
            "'wxapp-one', '22:00', '08:00', p_time_zone => 'Mars/Olympus'",
            "IANA name",
        ),
        ("'wxapp-one', '22:00', '08:00', ''", "template_id"),
        ("'nobody', '22:00', '08:00'", "not registered"),
    ] {
        let statement = AssertSqlSafe(format!("select set_quiet_hours({arguments})"));
        let refused = sqlx::query(statement).execute(reminders.queue.pool()).await;
        let words = refused.expect_err(arguments).to_string();
        assert!(words.contains(rule), "{words}");
    }
    let kept = "select count(*) from notification_quiet_hours";
    assert_eq!(reminders.count(kept).await, 0);
}

/// The hours not looked at when a row starts: what was made before they were set goes out in them.
const HOURS_NOT_LOOKED_AT: Mutant = Mutant {
    function: "wxnotify_judge_reminders",
    find: "when u.quiet is not null then 'quiet'",
    replace: "when false then 'quiet'",
};

#[tokio::test]
async fn nothing_starts_in_quiet_hours() {
    for (is_mutant, expected) in [(false, 0), (true, 1)] {
        let reminders = Reminders::new().await;
        if is_mutant {
            HOURS_NOT_LOOKED_AT.apply(&reminders.queue).await;
        }
        let id = reminders.schedule(json!({}), &[5.0]).await;
        reminders.fire().await;
        let lease = reminders.lease(id).await;
        reminders.hush(NOW).await;
        let started = reminders.start(&lease).await.unwrap();
        assert_eq!(started.len(), expected, "mutant: {is_mutant}");
    }
}
