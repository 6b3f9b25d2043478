//! Edits, pauses and deletions: what was made follows the schedule, and no time is fired twice.

use serde_json::json;

use super::{Reminders, hold_open, start_reminders};
use crate::kernel::mutants::Mutant;
use crate::kernel::{Outcome, run, settle};

const NEW_TEXT: &str = "update reminder_schedules set data = '{\"thing1\": \"new\"}'";
const NEW_TEMPLATE: &str = "update reminder_schedules set template_id = 'template-2'";

#[tokio::test]
async fn an_edit_of_the_text_rewrites_what_was_made_in_place() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0]).await;
    reminders.fire().await;
    let before = reminders.made(id).await;
    reminders.run(NEW_TEXT).await;
    assert_eq!(reminders.apply().await, 0);
    reminders.fire().await;
    assert_eq!(reminders.made(id).await, before);
    let new = "select count(*) from pending_notifications where data ->> 'thing1' = 'new' and schedule_version = 2";
    assert_eq!(reminders.count(new).await, 1);
}

#[tokio::test]
async fn an_edit_that_changes_nothing_that_matters_is_no_change() {
    let reminders = Reminders::new().await;
    reminders.schedule(json!({}), &[5.0]).await;
    reminders
        .run("update reminder_schedules set missed = 'all', name = 'other', data = data")
        .await;
    let changes = "select count(*) from reminder_changes";
    assert_eq!(reminders.count(changes).await, 0);
}

#[tokio::test]
async fn an_edit_of_the_template_withdraws_what_was_made_and_fires_anew() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[8.0]).await;
    reminders.fire().await;
    reminders.run(NEW_TEMPLATE).await;
    reminders.apply().await;
    assert_eq!(reminders.fires(id).await, [], "its time is free again");
    reminders.fire().await;
    let made = "select count(*) from pending_notifications where template_id = 'template-2'";
    assert_eq!(reminders.count(made).await, 1);
    let cancelled = "select count(*) from notification_history where status = 'cancelled' and errmsg = 'the reminder was changed'";
    assert_eq!(reminders.count(cancelled).await, 1);
    assert_eq!(reminders.fires(id).await.len(), 1);
}

#[tokio::test]
async fn new_times_count_from_the_edit_on() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({"missed": "all"}), &[-20.0]).await;
    reminders.go_back(id, 100).await;
    reminders
        .run("update reminder_schedules set cron = '5 9 * * *'")
        .await;
    reminders.apply().await;
    reminders.set_times(id, &[-30.0, -10.0, 5.0]).await;
    reminders.fire().await;
    assert_eq!(
        reminders.made(id).await.len(),
        1,
        "nothing of before the edit"
    );
}

/// A fire some of whose rows were sent is made again after an edit: those users get it twice.
const FIRE_MADE_ANEW: Mutant = Mutant {
    function: "wxnotify_revise_fires",
    find: "v_undone = f.made and v_ended = f.made",
    replace: "true",
};

#[tokio::test]
async fn a_fire_of_which_something_was_sent_is_not_made_again() {
    for (is_mutant, expected) in [(false, 1), (true, 2)] {
        let reminders = Reminders::new().await;
        if is_mutant {
            FIRE_MADE_ANEW.apply(&reminders.queue).await;
        }
        let id = reminders
            .schedule(json!({"audience": "list", "lane": 1}), &[12.0])
            .await;
        reminders.listen_on(id, &["a", "b"]).await;
        reminders.fire().await;
        reminders.fan_out_all().await;
        reminders
            .queue
            .force("update pending_notifications set due = clock_timestamp() - interval '1 s' where openid = 'a'")
            .await;
        let lease = crate::kernel::lease(reminders.queue.pool(), crate::kernel::APP, 1, "one", 9)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(reminders.start(&lease).await, Some(lease.ids.clone()));
        reminders
            .queue
            .settle(&lease, &[Outcome::sent(lease.ids[0])])
            .await;

        reminders.run(NEW_TEMPLATE).await;
        reminders.apply().await;
        reminders.fire().await;
        reminders.fan_out_all().await;
        let of_a = "select count(*) from notifications where openid = 'a'";
        assert_eq!(reminders.count(of_a).await, expected, "mutant: {is_mutant}");
        if !is_mutant {
            let fire = &reminders.fires(id).await[0];
            assert_eq!(fire.state, "cancelled");
            assert_eq!(fire.reason.as_deref(), Some("edited while sending"));
            assert_eq!((fire.sent, fire.cancelled, fire.open), (1, 1, 0));
        }
    }
}

#[tokio::test]
async fn a_row_in_flight_is_left_alone_until_it_has_ended() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0]).await;
    reminders.fire().await;
    let lease = reminders.lease(id).await;
    assert_eq!(reminders.start(&lease).await, Some(lease.ids.clone()));
    reminders.run(NEW_TEXT).await;
    assert_eq!(reminders.apply().await, 1, "the change is kept");
    let old = "select count(*) from pending_notifications where schedule_version = 1";
    assert_eq!(reminders.count(old).await, 1);
    let outcome = Outcome::retry(lease.ids[0]);
    settle(reminders.queue.pool(), &lease, true, &[outcome])
        .await
        .unwrap();
    assert_eq!(reminders.apply().await, 0);
    assert_eq!(
        reminders.count(old).await,
        0,
        "its next attempt has the new text"
    );
}

#[tokio::test]
async fn a_list_edited_half_way_goes_on_with_the_new_text_and_nobody_twice() {
    let reminders = Reminders::new().await;
    let id = reminders
        .schedule(json!({"audience": "list"}), &[5.0])
        .await;
    reminders.listen_on(id, &["a", "b", "c", "d"]).await;
    reminders.fire().await;
    reminders.fan_out(2).await;
    reminders.run(NEW_TEXT).await;
    reminders.fan_out(10).await;
    reminders.apply().await;
    assert_eq!(reminders.made(id).await.len(), 4);
    let new = "select count(*) from pending_notifications where data ->> 'thing1' = 'new'";
    assert_eq!(reminders.count(new).await, 4);
}

#[tokio::test]
async fn a_list_retimed_half_way_is_withdrawn_and_its_fire_says_why() {
    let reminders = Reminders::new().await;
    let id = reminders
        .schedule(json!({"audience": "list", "missed": "all"}), &[-2.0])
        .await;
    reminders.listen_on(id, &["a", "b", "c", "d"]).await;
    reminders.go_back(id, 10).await;
    reminders.fire().await;
    reminders.fan_out(2).await;
    reminders
        .run("update reminder_schedules set cron = '5 9 * * *'")
        .await;
    assert_eq!(
        reminders.fan_out(10).await,
        Some(0),
        "nothing more of the old version"
    );
    reminders.apply().await;
    assert_eq!(reminders.made(id).await, Vec::<i64>::new());
    let fire = &reminders.fires(id).await[0];
    assert_eq!(
        (
            fire.state.as_str(),
            fire.reason.as_deref(),
            fire.made,
            fire.cancelled
        ),
        ("cancelled", Some("edited while sending"), 2, 2)
    );
}

#[tokio::test]
async fn a_pause_stops_what_was_made_and_a_resume_lets_it_go() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0]).await;
    reminders.fire().await;
    reminders
        .run(&format!(
            "select pause_schedule({id}, 'the hall is closed')"
        ))
        .await;
    reminders.apply().await;
    let lease = reminders.lease(id).await;
    assert_eq!(reminders.start(&lease).await, Some(vec![]));
    let row = reminders.made(id).await[0];
    let seen = format!("select status || ': ' || reason from notifications where id = {row}");
    assert_eq!(
        reminders.text(&seen).await.as_deref(),
        Some("paused: its reminder is paused")
    );
    reminders
        .run(&format!("select resume_schedule({id})"))
        .await;
    reminders.apply().await;
    let lease = reminders.lease(id).await;
    assert_eq!(reminders.start(&lease).await, Some(vec![row]));
}

#[tokio::test]
async fn a_paused_list_says_after_how_many_it_ended() {
    let reminders = Reminders::new().await;
    let columns = json!({"audience": "list", "valid_for": "1 minute", "missed": "all"});
    let id = reminders.schedule(columns, &[-20.0]).await;
    reminders.listen_on(id, &["a", "b", "c"]).await;
    reminders.go_back(id, 50).await;
    reminders.fire().await;
    reminders.fan_out(2).await;
    reminders.run(&format!("select pause_schedule({id})")).await;
    assert_eq!(reminders.fan_out(2).await, Some(0));
    reminders
        .run("update reminder_fires set chunk_at = clock_timestamp(), fire_at = fire_at - interval '2 minutes'")
        .await;
    assert_eq!(reminders.fan_out(2).await, Some(0));
    let fire = &reminders.fires(id).await[0];
    assert_eq!(
        (fire.state.as_str(), fire.reason.as_deref()),
        ("cancelled", Some("paused after 2"))
    );
}

#[tokio::test]
async fn a_deleted_schedule_sends_nothing_more_and_keeps_its_name() {
    let reminders = Reminders::new().await;
    let id = reminders
        .schedule(json!({"audience": "list", "name": "gone"}), &[5.0])
        .await;
    reminders.listen_on(id, &["a", "b", "c"]).await;
    reminders.fire().await;
    reminders.fan_out(2).await;
    reminders.run("delete from reminder_schedules").await;
    assert_eq!(reminders.apply().await, 0);
    assert_eq!(reminders.fan_out(2).await, None);
    assert_eq!(reminders.made(id).await, Vec::<i64>::new());
    let fire = &reminders.fires(id).await[0];
    assert_eq!(
        (fire.state.as_str(), fire.reason.as_deref(), fire.cancelled),
        ("cancelled", Some("deleted after 2"), 2)
    );
    let name = "select name from reminder_outcomes";
    assert_eq!(reminders.text(name).await.as_deref(), Some("gone"));
    let left = "(select count(*) from reminder_audience) + (select count(*) from reminder_clock)";
    assert_eq!(reminders.count(left).await, 0);
}

/// Many rows are withdrawn in chunks, never in the editor's transaction.
#[tokio::test]
async fn a_big_list_is_withdrawn_in_chunks() {
    let reminders = Reminders::new().await;
    let id = reminders
        .schedule(json!({"audience": "list"}), &[5.0])
        .await;
    reminders
        .run(&format!("insert into reminder_audience (schedule_id, openid) select {id}, 'user-' || n from generate_series(1, 50) n"))
        .await;
    reminders.fire().await;
    reminders.fan_out_all().await;
    reminders.run("delete from reminder_schedules").await;
    assert_eq!(reminders.made(id).await.len(), 50);
    for left in [30, 10, 0] {
        reminders.run("select wxnotify_apply_changes(20)").await;
        assert_eq!(reminders.made(id).await.len(), left);
    }
}

/// The version compared without the schedule's lock: an edit that commits a moment later does not stop the older row.
const VERSION_COMPARED_WITHOUT_LOCK: Mutant = Mutant {
    function: "wxnotify_judge_reminders",
    find: "where r.id = u.id limit 1 for share skip locked) l;",
    replace: "where r.id = u.id limit 1) l;",
};

#[tokio::test]
async fn after_an_edit_commits_no_older_row_starts() {
    for (is_mutant, expected) in [(false, 0), (true, 1)] {
        let reminders = Reminders::new().await;
        if is_mutant {
            VERSION_COMPARED_WITHOUT_LOCK.apply(&reminders.queue).await;
        }
        let id = reminders.schedule(json!({}), &[5.0]).await;
        reminders.fire().await;
        let lease = reminders.lease(id).await;
        let mut editor = hold_open(&reminders, NEW_TEXT).await;
        let mut worker = reminders.queue.session().await;
        run(&mut worker, "begin").await;
        let started = start_reminders(&mut worker, &lease).await.unwrap();
        run(&mut editor, "commit").await;
        // The edit is there, and the old row sets out.
        run(&mut worker, "commit").await;
        assert_eq!(started.len(), expected, "mutant: {is_mutant}");
    }
}

#[tokio::test]
async fn an_edit_waits_for_a_start_and_not_longer() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0]).await;
    reminders.fire().await;
    let lease = reminders.lease(id).await;
    let mut worker = reminders.queue.session().await;
    run(&mut worker, "begin").await;
    assert_eq!(
        start_reminders(&mut worker, &lease).await,
        Some(lease.ids.clone())
    );
    let mut editor = reminders.queue.session().await;
    let backend = crate::kernel::backend(&mut editor).await;
    let edit = tokio::spawn(async move { run(&mut editor, NEW_TEXT).await });
    reminders.queue.until_blocked(backend).await;
    run(&mut worker, "commit").await;
    assert_eq!(edit.await.unwrap(), 1);
}

#[tokio::test]
async fn a_row_found_stale_at_its_start_waits_for_its_rewriting() {
    let reminders = Reminders::new().await;
    let id = reminders.schedule(json!({}), &[5.0]).await;
    reminders.fire().await;
    let lease = reminders.lease(id).await;
    reminders.run(NEW_TEXT).await;
    // The note of the edit is lost, as after a restore of some tables.
    reminders.run("delete from reminder_changes").await;
    assert_eq!(reminders.start(&lease).await, Some(vec![]));
    assert_eq!(reminders.queue.leases().await, 0);
    assert_eq!(reminders.apply().await, 0);
    let new = "select count(*) from pending_notifications where data ->> 'thing1' = 'new'";
    assert_eq!(reminders.count(new).await, 1);
    let lease = reminders.lease(id).await;
    assert_eq!(reminders.start(&lease).await, Some(lease.ids.clone()));
}
