//! The start of what fires made: the last look, and the credit.

use serde_json::json;
use sqlx::Row;

use super::{Reminders, hold_open};
use crate::kernel::mutants::Mutant;
use crate::kernel::{APP, Lease, Outcome, run, settle, start};

/// A schedule that spends held credits, with one row leased.
async fn leased(reminders: &Reminders) -> (i64, Lease) {
    let id = reminders.schedule(json!({"credit": "held"}), &[5.0]).await;
    reminders.fire().await;
    let lease = reminders.lease(id).await;
    (id, lease)
}

#[tokio::test]
async fn a_lease_with_a_reminder_is_only_reserved_however_idle_the_worker() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0]).await;
    reminders.fire().await;
    reminders.queue.enqueue(json!({"openid": "user-2"})).await;
    reminders.make_due(id).await;
    let leased = sqlx::query(
        "select lease_id, started_at is null as reserved from wxnotify_lease($1, 1::smallint, 'one', '-infinity', 0, 0, 64, 30, true)",
    );
    let rows = leased
        .bind(APP)
        .fetch_all(reminders.queue.pool())
        .await
        .unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.get::<bool, _>("reserved")));
    let lease = Lease {
        appid: APP.to_owned(),
        worker: "one".to_owned(),
        lease_id: rows[0].get("lease_id"),
        low_lease_id: 0,
        ids: vec![],
    };
    assert!(
        !start(reminders.queue.pool(), &lease).await,
        "a program that knows no reminders sends nothing of it"
    );
    assert_eq!(reminders.start(&lease).await.map(|ids| ids.len()), Some(2));
    let again = reminders.start(&lease).await;
    assert_eq!(
        again.map(|ids| ids.len()),
        Some(2),
        "a repeat changes nothing"
    );
}

#[tokio::test]
async fn a_lease_without_reminders_is_started_at_once() {
    let reminders = Reminders::new().await;
    reminders.queue.enqueue(json!({})).await;
    let started = "select count(*) from wxnotify_lease('wxapp-one', 1::smallint, 'one', '-infinity', 0, 0, 64, 30, true) where started_at is not null";
    assert_eq!(reminders.count(started).await, 1);
}

#[tokio::test]
async fn a_row_takes_the_credit_that_expires_first_when_it_starts() {
    let reminders = Reminders::new().await;
    let later = reminders.hold("user-1").await;
    let sooner = reminders
        .queue
        .enqueue(json!({"held": true, "data": {}, "expire_at": crate::kernel::in_secs(9000)}))
        .await;
    let (id, lease) = leased(&reminders).await;
    assert_eq!(reminders.start(&lease).await, Some(lease.ids.clone()));
    let spent = reminders.queue.history(sooner).await;
    assert_eq!(spent.status, "cancelled");
    assert_eq!(
        spent.errmsg,
        Some(format!("spent by notification {}", lease.ids[0]))
    );
    assert_eq!(reminders.queue.state(later).await, "pending");
    let became = format!("select new_id from notification_redrives where redriven_id = {sooner}");
    assert_eq!(reminders.count(&became).await, lease.ids[0]);
    reminders
        .queue
        .settle(&lease, &[Outcome::sent(lease.ids[0])])
        .await;
    assert_eq!(reminders.fires(id).await[0].sent, 1);
}

#[tokio::test]
async fn without_a_credit_a_row_ends_uncalled_and_is_counted() {
    let reminders = Reminders::new().await;
    let (id, lease) = leased(&reminders).await;
    assert_eq!(reminders.start(&lease).await, Some(vec![]));
    let ended = reminders.queue.history(lease.ids[0]).await;
    assert_eq!(
        (ended.status.as_str(), ended.errmsg.as_deref()),
        ("cancelled", Some("no credit"))
    );
    let fire = &reminders.fires(id).await[0];
    assert_eq!((fire.no_credit, fire.open, fire.made), (1, 0, 1));
    assert_eq!(reminders.queue.leases().await, 0);
    assert_eq!(
        told(&reminders, lease.ids[0], "reason_code").await,
        "reminder_lacks_credit"
    );
    let sentence = told(&reminders, lease.ids[0], "sentence").await;
    assert!(
        sentence.contains("held no credit") && !sentence.contains("accept"),
        "{sentence}"
    );
    let sentence = told(&reminders, lease.ids[0], "sentence_zh").await;
    assert!(sentence.contains("没有预存的次数"), "{sentence}");
    let reminder = told(
        &reminders,
        lease.ids[0],
        "(timeline -> 0 ->> 'reminder') || (timeline -> 0 ->> 'made_for')",
    )
    .await;
    assert!(reminder.starts_with("schedule2"), "{reminder}");
}

/// What the view and `explain_notification` say of a row.
async fn told(reminders: &Reminders, id: i64, expression: &str) -> String {
    let expression = format!(
        "select {expression} from notifications v, explain_notification({id}) e where v.id = {id}"
    );
    reminders.text(&expression).await.unwrap()
}

#[tokio::test]
async fn a_credit_that_a_reminder_took_says_where_it_went() {
    let reminders = Reminders::new().await;
    let credit = reminders.hold("user-1").await;
    let (_, lease) = leased(&reminders).await;
    reminders.start(&lease).await;
    assert_eq!(
        told(&reminders, credit, "reason_code").await,
        "credit_spent"
    );
    let spent = format!("notification {}", lease.ids[0]);
    for column in ["sentence", "what_next"] {
        let words = told(&reminders, credit, column).await;
        assert!(words.contains(&spent), "{column}: {words}");
    }
    let words = told(&reminders, credit, "sentence_zh").await;
    assert!(words.contains(&format!("通知 {}", lease.ids[0])), "{words}");
}

#[tokio::test]
async fn a_credit_that_somebody_has_locked_is_asked_for_again() {
    let reminders = Reminders::new().await;
    let credit = reminders.hold("user-1").await;
    let (id, lease) = leased(&reminders).await;
    let lock = format!("select 1 from pending_notifications where id = {credit} for update");
    let mut other = hold_open(&reminders, &lock).await;
    assert_eq!(reminders.start(&lease).await, Some(vec![]));
    run(&mut other, "rollback").await;
    let lease = reminders.lease(id).await;
    assert_eq!(reminders.start(&lease).await, Some(lease.ids.clone()));
}

/// A credit taken when the row is made is locked away until it is sent.
const CREDIT_TAKEN_WHEN_MADE: Mutant = Mutant {
    function: "wxnotify_fire_schedule",
    find: "v_made := v_made + 1;",
    replace: "v_made := v_made + 1; delete from pending_notifications q where q.openid = s.openid and q.held;",
};

#[tokio::test]
async fn until_it_starts_the_credit_is_there_for_others() {
    for (is_mutant, expected) in [(false, true), (true, false)] {
        let reminders = Reminders::new().await;
        if is_mutant {
            CREDIT_TAKEN_WHEN_MADE.apply(&reminders.queue).await;
        }
        reminders.hold("user-1").await;
        reminders.schedule(json!({"credit": "held"}), &[5.0]).await;
        reminders.fire().await;
        let armed = reminders
            .text("arm('wxapp-one', 'user-1', 'template-1', '{\"thing1\": \"parcel\"}')")
            .await;
        assert_eq!(armed.is_some(), expected, "mutant: {is_mutant}");
    }
}

#[tokio::test]
async fn what_a_row_took_and_did_not_spend_comes_back() {
    for (outcome, ends) in [
        (Outcome::dead(0, 47003, "kept"), true),
        (Outcome::dead(0, 43101, "gone"), false),
        (Outcome::doubt(0), false),
        (Outcome::sent(0), false),
    ] {
        let reminders = Reminders::new().await;
        reminders
            .queue
            .enqueue(json!({"held": true, "data": {}, "created_at": "2026-01-02T03:04:05Z", "business_ref": "tap"}))
            .await;
        let (_, lease) = leased(&reminders).await;
        reminders.start(&lease).await;
        let outcome = Outcome {
            id: lease.ids[0],
            ..outcome
        };
        let verdict = (outcome.verdict, outcome.errcode);
        reminders.queue.settle(&lease, &[outcome]).await;
        let back = "select count(*) from pending_notifications where held and openid = 'user-1' and created_at = '2026-01-02T03:04:05Z' and business_ref = 'tap'";
        assert_eq!(reminders.count(back).await, i64::from(ends), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_credit_comes_back_from_a_retry_that_is_cancelled_or_expires() {
    for ending in ["cancel_notification", "delete", "expire"] {
        let reminders = Reminders::new().await;
        reminders.hold("user-1").await;
        let (id, lease) = leased(&reminders).await;
        reminders.start(&lease).await;
        let row = lease.ids[0];
        settle(reminders.queue.pool(), &lease, true, &[Outcome::retry(row)])
            .await
            .unwrap();
        let held = "select count(*) from pending_notifications where held";
        assert_eq!(reminders.count(held).await, 0);
        match ending {
            "cancel_notification" => {
                reminders
                    .run(&format!("select cancel_notification({row})"))
                    .await
            }
            "delete" => {
                reminders
                    .run(&format!(
                        "delete from pending_notifications where id = {row}"
                    ))
                    .await
            }
            _ => {
                reminders
                    .queue
                    .force(&format!("update pending_notifications set expire_at = clock_timestamp() - interval '1 s', due = clock_timestamp() - interval '2 s' where id = {row}"))
                    .await;
                reminders
                    .run("select wxnotify_tidy('wxapp-one', 1::smallint)")
                    .await
            }
        };
        assert_eq!(reminders.made(id).await, Vec::<i64>::new(), "{ending}");
        assert_eq!(reminders.count(held).await, 1, "{ending}");
        let credits = reminders.text("select accepted || ' ' || held || ' ' || outstanding from notification_credits where openid = 'user-1'").await;
        assert_eq!(credits.as_deref(), Some("1 1 1"), "{ending}");
    }
}

/// The second attempt of a row has its credit.
#[tokio::test]
async fn a_retry_takes_no_second_credit() {
    let reminders = Reminders::new().await;
    reminders.hold("user-1").await;
    reminders.hold("user-1").await;
    let (id, lease) = leased(&reminders).await;
    reminders.start(&lease).await;
    settle(
        reminders.queue.pool(),
        &lease,
        true,
        &[Outcome::retry(lease.ids[0])],
    )
    .await
    .unwrap();
    let lease = reminders.lease(id).await;
    assert_eq!(reminders.start(&lease).await, Some(lease.ids.clone()));
    let held = "select count(*) from pending_notifications where held";
    assert_eq!(reminders.count(held).await, 1);
}

#[tokio::test]
async fn rows_of_reminders_witness_no_tap_and_the_books_count_one_credit() {
    let reminders = Reminders::new().await;
    reminders.hold("user-1").await;
    let books = "select accepted || ' held ' || held || ' pending ' || pending || ' sent ' || sent from notification_credits where openid = 'user-1'";
    let id = reminders.schedule(json!({"credit": "held"}), &[5.0]).await;
    reminders.fire().await;
    assert_eq!(
        reminders.text(books).await.as_deref(),
        Some("1 held 1 pending 0 sent 0")
    );
    let witness = "wxnotify_row_of_tap('wxapp-one', 'user-2', 'template-1', clock_timestamp(), 60)";
    reminders
        .run("update pending_notifications set openid = 'user-2' where false")
        .await;
    assert_eq!(reminders.text(witness).await, None);
    let lease = reminders.lease(id).await;
    reminders.start(&lease).await;
    assert_eq!(
        reminders.text(books).await.as_deref(),
        Some("1 held 0 pending 1 sent 0")
    );
    reminders
        .queue
        .settle(&lease, &[Outcome::sent(lease.ids[0])])
        .await;
    assert_eq!(
        reminders.text(books).await.as_deref(),
        Some("1 held 0 pending 0 sent 1")
    );
    let faults = "select count(*) from notification_credit_faults";
    assert_eq!(reminders.count(faults).await, 0);
}

#[tokio::test]
async fn no_tap_is_paired_with_a_row_of_a_reminder() {
    let reminders = Reminders::new().await;
    reminders.schedule(json!({}), &[5.0]).await;
    reminders.fire().await;
    let witness = "wxnotify_row_of_tap('wxapp-one', 'user-1', 'template-1', clock_timestamp(), 60)";
    assert_eq!(reminders.text(witness).await, None);
    let accepted = "wxnotify_accepted_by_row('wxapp-one', 'user-1', 'template-1', clock_timestamp() - interval '1 hour')";
    assert_eq!(reminders.text(accepted).await.as_deref(), Some("false"));
}

#[tokio::test]
async fn who_was_taken_off_the_list_gets_nothing_more() {
    let reminders = Reminders::new().await;
    let id = reminders
        .schedule(json!({"audience": "list"}), &[5.0])
        .await;
    reminders.listen_on(id, &["a", "b"]).await;
    reminders.fire().await;
    reminders.fan_out_all().await;
    let lease = reminders.lease(id).await;
    reminders
        .run("delete from reminder_audience where openid = 'a'")
        .await;
    assert_eq!(reminders.start(&lease).await.map(|ids| ids.len()), Some(1));
    let statuses = reminders.statuses(id).await;
    assert_eq!(statuses[0], ("a".to_owned(), "cancelled".to_owned()));
    assert_eq!(statuses[1], ("b".to_owned(), "sending".to_owned()));
    let reason = "select reason_code from notifications where openid = 'a'";
    assert_eq!(
        reminders.text(reason).await.as_deref(),
        Some("taken_off_list")
    );
}

#[tokio::test]
async fn a_doubt_whose_schedule_was_changed_or_deleted_is_not_repeated() {
    for edit in [
        "update reminder_schedules set data = '{\"thing1\": \"new\"}'",
        "delete from reminder_schedules",
    ] {
        let reminders = Reminders::new().await;
        let id = reminders.schedule(json!({}), &[5.0]).await;
        reminders.fire().await;
        let lease = reminders.lease(id).await;
        reminders.start(&lease).await;
        let row = lease.ids[0];
        settle(reminders.queue.pool(), &lease, true, &[Outcome::doubt(row)])
            .await
            .unwrap();
        reminders.run(edit).await;
        reminders.apply().await;
        let lease = reminders.lease(id).await;
        assert_eq!(reminders.start(&lease).await, Some(vec![]), "{edit}");
        assert_eq!(
            reminders.queue.history(row).await.status,
            "unresolved",
            "{edit}"
        );
    }
}

#[tokio::test]
async fn rows_of_producers_beside_them_start_whatever_becomes_of_the_reminders() {
    let reminders = Reminders::new().await;
    let plain = reminders.queue.enqueue(json!({"openid": "user-2"})).await;
    let (_, lease) = leased(&reminders).await;
    assert_eq!(lease.ids.len(), 2);
    assert_eq!(reminders.start(&lease).await, Some(vec![plain]));
    reminders
        .queue
        .settle(
            &Lease {
                ids: vec![plain],
                ..lease
            },
            &[Outcome::sent(plain)],
        )
        .await;
    assert_eq!(reminders.queue.leases().await, 0);
}

/// The worker vanishes after the start: only what was to be sent is in doubt.
#[tokio::test]
async fn what_left_the_lease_is_never_in_doubt() {
    let reminders = Reminders::new().await;
    let id = reminders
        .schedule(json!({"credit": "held", "audience": "list"}), &[5.0])
        .await;
    reminders.listen_on(id, &["a", "b"]).await;
    reminders.hold("a").await;
    reminders.fire().await;
    reminders.fan_out_all().await;
    let lease = reminders.lease(id).await;
    assert_eq!(reminders.start(&lease).await.map(|ids| ids.len()), Some(1));
    reminders.queue.expire_leases().await;
    assert_eq!(reminders.queue.rescue().await, 1);
    let statuses = reminders.statuses(id).await;
    assert_eq!(statuses[0], ("a".to_owned(), "in_doubt".to_owned()));
    assert_eq!(statuses[1], ("b".to_owned(), "cancelled".to_owned()));
}
