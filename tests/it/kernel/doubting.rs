//! Sends whose result is unknown: how a doubt begins, what ends it, and as what.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{APP, Lease, Outcome, Queue, in_secs, run, settle};

/// A row whose worker vanished, in doubt and due again.
async fn doubtful(queue: &Queue, row: serde_json::Value) -> i64 {
    let id = queue.enqueue(row).await;
    queue.lease_and_start("vanished").await;
    queue.expire_leases().await;
    assert_eq!(queue.rescue().await, 1);
    id
}

async fn decide(queue: &Queue, id: i64, status: &str) -> bool {
    sqlx::query_scalar("select wxnotify_decide($1, $2, $3, 'operator')")
        .bind(APP)
        .bind(id)
        .bind(status)
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

async fn started_at(queue: &Queue, lease: &Lease) -> DateTime<Utc> {
    let statement = "select started_at from notification_leases where lease_id = $1";
    sqlx::query_scalar(statement)
        .bind(lease.lease_id)
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

/// Offers the reply of a lease that was taken over.
async fn late_reply(
    queue: &Queue,
    lease: &Lease,
    started_at: DateTime<Utc>,
    word: &str,
    msgid: Option<i64>,
) -> bool {
    let offered = sqlx::query_scalar(
        "select wxnotify_offer_late_reply($1, $2, $3, $4, $5, $6, $7, 0, 'late', null, $8)",
    )
    .bind(APP)
    .bind(lease.ids[0])
    .bind(lease.lease_id)
    .bind(started_at)
    .bind(&lease.worker)
    .bind(word == "sent")
    .bind(word == "dead")
    .bind(msgid)
    .fetch_one(queue.pool())
    .await
    .unwrap();
    // Null stands for "no row changed" just like false.
    Option::unwrap_or(offered, false)
}

#[tokio::test]
async fn a_rescue_dates_the_doubt_from_the_start_and_awaits_evidence() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("vanished").await;
    let started_at = started_at(&queue, &lease).await;
    queue.expire_leases().await;
    queue.rescue().await;

    let row = queue.pending(id).await;
    assert_eq!(
        (row.in_doubt_since, row.attempts, row.rescues),
        (Some(started_at), 1, 1)
    );
    let wait = (row.due.unwrap() - Utc::now()).num_seconds();
    assert!((119..=150).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_doubt_stays_through_later_attempts_and_keeps_its_beginning() {
    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({})).await;
    let since = queue.pending(id).await.in_doubt_since;
    for outcome in [
        Outcome::retry(id),
        Outcome::doubt(id),
        Outcome {
            waiting_for: Some("app"),
            ..Outcome::of(id, "park")
        },
        Outcome::of(id, "release"),
    ] {
        queue.make_due(id).await;
        let lease = queue.lease_and_start("next").await;
        queue.settle(&lease, &[outcome]).await;
        assert_eq!(queue.pending(id).await.in_doubt_since, since);
    }
}

/// The S5 case: a certain failure after a doubt clears nothing, and the late event still finds its row.
#[tokio::test]
async fn doubt_then_a_certain_failure_then_the_late_event_ends_as_sent_once() {
    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({})).await;
    queue.make_due(id).await;
    let lease = queue.lease_and_start("next").await;
    queue
        .settle(
            &lease,
            &[Outcome {
                delay_secs: 0.0,
                ..Outcome::retry(id)
            }],
        )
        .await;

    queue.event("user-1", 77, 0).await;
    queue.make_due(id).await;
    assert!(
        queue.lease("next").await.is_none(),
        "evidence that nobody owns keeps it from being sent"
    );
    assert_eq!(queue.weigh().await, 1);

    let row = queue.history(id).await;
    assert_eq!(
        (row.status.as_str(), row.settled_by.as_str(), row.msgid),
        ("sent", "event", Some(77))
    );
    assert!(row.in_doubt_since.is_some());
}

#[tokio::test]
async fn events_of_before_of_others_and_of_settled_rows_are_no_evidence() {
    let queue = Queue::new().await;
    let earlier = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("one").await;
    queue
        .settle(
            &lease,
            &[Outcome {
                msgid: Some(70),
                ..Outcome::sent(earlier)
            }],
        )
        .await;
    let id = doubtful(&queue, json!({})).await;
    queue.event("user-1", 71, -60).await;
    queue.event("user-2", 72, 1).await;
    queue.event("user-1", 70, 1).await;

    assert_eq!(queue.weigh().await, 0);
    assert_eq!(queue.state(id).await, "pending: doubt");
    queue.make_due(id).await;
    assert_eq!(queue.lease("next").await.unwrap().ids, [id]);
}

/// Stores an event about user-1 and template-1, dated so many milliseconds after a row's doubt began.
pub async fn event_of_the_doubt(queue: &Queue, id: i64, msgid: i64, millis: i64) {
    let stored = queue
        .force(&format!(
            "insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at)
             select appid, 'subscribe_msg_sent_event', 'user-1', 'template-1', {msgid}, in_doubt_since + {millis} * interval '1 ms'
             from pending_notifications where id = {id}"
        ))
        .await;
    assert_eq!(stored, 1);
}

/// An earlier row of a pair: in doubt, sent again, and ended by its second message, 71; and a later one, in doubt too. The earlier
/// ended so many seconds before the doubt of the later one began, a second after its own doubt had begun.
pub async fn two_doubts(queue: &Queue, earlier: serde_json::Value, ended_before_secs: i64) -> i64 {
    let first = doubtful(queue, earlier).await;
    queue.make_due(first).await;
    let resend = queue.lease_and_start("next").await;
    let second_message = Outcome {
        msgid: Some(71),
        ..Outcome::sent(first)
    };
    queue.settle(&resend, &[second_message]).await;
    let id = doubtful(queue, json!({})).await;
    let dated = queue
        .force(&format!(
            "update notification_history h
             set finished_at = p.in_doubt_since - {ended_before_secs} * interval '1 s',
                 in_doubt_since = p.in_doubt_since - {ended_before_secs} * interval '1 s' - interval '1 s'
             from pending_notifications p where h.id = {first} and p.id = {id}"
        ))
        .await;
    assert_eq!(dated, 1);
    id
}

/// WeChat's clock may be behind, so an event of shortly before a doubt may be its own; but here it tells of the earlier row's first
/// message. Taken for evidence, it would end a row as sent that may never have been.
#[tokio::test]
async fn an_event_that_may_tell_of_an_earlier_doubtful_row_is_no_evidence() {
    let queue = Queue::new().await;
    let id = two_doubts(&queue, json!({}), 1).await;
    event_of_the_doubt(&queue, id, 70, -1_500).await;
    assert_eq!(queue.weigh().await, 0);
    assert_eq!(queue.state(id).await, "pending: doubt");
    queue.make_due(id).await;
    assert_eq!(queue.lease("next").await.unwrap().ids, [id]);
}

/// The same when its event is dated after its end: WeChat's clock may be ahead as well.
#[tokio::test]
async fn an_event_dated_shortly_after_an_earlier_doubtful_row_ended_is_no_evidence() {
    let queue = Queue::new().await;
    let id = two_doubts(&queue, json!({}), 4).await;
    event_of_the_doubt(&queue, id, 70, -500).await;
    assert_eq!(queue.weigh().await, 0);
}

#[tokio::test]
async fn an_event_of_after_the_doubt_began_counts_whatever_an_earlier_row_went_through() {
    let queue = Queue::new().await;
    let id = two_doubts(&queue, json!({}), 1).await;
    event_of_the_doubt(&queue, id, 70, 0).await;
    assert_eq!(queue.weigh().await, 1);
    assert_eq!(queue.history(id).await.msgid, Some(70));
}

/// Events are dated in whole seconds: without the grace most would miss their own doubt.
#[tokio::test]
async fn an_event_within_the_grace_counts_if_an_earlier_doubtful_row_ended_long_before() {
    let queue = Queue::new().await;
    let id = two_doubts(&queue, json!({}), 60).await;
    event_of_the_doubt(&queue, id, 70, -700).await;
    assert_eq!(queue.weigh().await, 1);
    assert_eq!(queue.history(id).await.msgid, Some(70));
}

#[tokio::test]
async fn an_event_within_the_grace_counts_beside_doubtful_rows_of_other_pairs() {
    for other in [
        json!({"template_id": "template-2"}),
        json!({"openid": "user-2"}),
    ] {
        let queue = Queue::new().await;
        let id = two_doubts(&queue, other, 1).await;
        event_of_the_doubt(&queue, id, 70, -1_500).await;
        assert_eq!(queue.weigh().await, 1);
        assert_eq!(queue.history(id).await.msgid, Some(70));
    }
}

#[tokio::test]
async fn an_event_within_the_grace_counts_beside_a_row_that_was_never_in_doubt() {
    let queue = Queue::new().await;
    let id = two_doubts(&queue, json!({}), 1).await;
    queue
        .force("update notification_history set in_doubt_since = null")
        .await;
    event_of_the_doubt(&queue, id, 70, -1_500).await;
    assert_eq!(queue.weigh().await, 1);
    assert_eq!(queue.history(id).await.msgid, Some(70));
}

#[tokio::test]
async fn an_event_that_came_before_the_rescue_is_found_by_it() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    queue.lease_and_start("vanished").await;
    queue.event("user-1", 77, 0).await;
    assert_eq!(queue.weigh().await, 0, "the row is in flight");
    queue.expire_leases().await;
    queue.rescue().await;
    assert_eq!(queue.weigh().await, 1);
    assert_eq!(queue.history(id).await.msgid, Some(77));
}

#[tokio::test]
async fn evidence_waits_while_the_row_is_in_flight_again() {
    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({})).await;
    queue.make_due(id).await;
    let lease = queue.lease_and_start("next").await;
    queue.event("user-1", 77, 0).await;

    assert_eq!(queue.weigh().await, 0);
    assert!(!decide(&queue, id, "sent").await);
    queue
        .settle(
            &lease,
            &[Outcome {
                delay_secs: 60.0,
                ..Outcome::retry(id)
            }],
        )
        .await;
    assert_eq!(queue.weigh().await, 1);
}

#[tokio::test]
async fn while_a_row_is_in_doubt_nothing_else_goes_to_its_pair() {
    let queue = Queue::new().await;
    let doubt = doubtful(&queue, json!({})).await;
    let same_pair = queue.enqueue(json!({})).await;
    let other_template = queue.enqueue(json!({"template_id": "template-2"})).await;

    let lease = queue.lease_and_start("one").await;
    assert_eq!(lease.ids, [other_template]);
    queue.settle(&lease, &[Outcome::sent(other_template)]).await;
    queue.make_due(doubt).await;
    let lease = queue.lease_and_start("one").await;
    assert_eq!(lease.ids, [doubt], "the row in doubt goes first");
    queue.settle(&lease, &[Outcome::sent(doubt)]).await;
    assert_eq!(queue.lease("one").await.unwrap().ids, [same_pair]);
}

/// Ends a doubtful row's resend with an answer and returns how the row ended.
async fn resend_dies(queue: &Queue, id: i64, errcode: i64, credit: &'static str) -> String {
    queue.make_due(id).await;
    let lease = queue.lease_and_start("next").await;
    assert!(lease.ids.contains(&id));
    let outcomes = lease
        .ids
        .iter()
        .map(|id| Outcome::dead(*id, errcode, credit))
        .collect::<Vec<_>>();
    queue.settle(&lease, &outcomes).await;
    queue.state(id).await
}

#[tokio::test]
async fn no_credit_left_for_the_resend_presumes_that_the_first_send_took_it() {
    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({"dedup_key": "key"})).await;
    assert_eq!(
        resend_dies(&queue, id, 43101, "gone").await,
        "presumed_sent"
    );
    assert!(queue.history(id).await.in_doubt_since.is_some());
    // A presumed message keeps its key as a sent one does.
    let duplicate = queue
        .enqueue(json!({"dedup_key": "key", "openid": "user-2"}))
        .await;
    assert!(queue.lease("one").await.is_none());
    assert_eq!(queue.history(duplicate).await.duplicate_of, Some(id));
}

#[tokio::test]
async fn a_credit_that_another_row_may_have_taken_presumes_nothing() {
    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({})).await;
    queue.enqueue(json!({"held": true})).await;
    assert_eq!(
        resend_dies(&queue, id, 43101, "gone").await,
        "unresolved",
        "another row of the pair is pending"
    );

    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({})).await;
    queue
        .force(&format!(
            "insert into notification_history (id, appid, status, kind, openid, template_id, data, miniprogram_state, lang, held, lane, on_doubt,
                 attempts_max, created_at, producer, attempts, settled_by, finished_at)
             select 999, appid, 'sent', kind, openid, template_id, data, miniprogram_state, lang, held, lane, on_doubt,
                 attempts_max, created_at, producer, 1, 'reply', clock_timestamp() from pending_notifications where id = {id}"
        ))
        .await;
    assert_eq!(
        resend_dies(&queue, id, 43101, "gone").await,
        "unresolved",
        "another was sent since"
    );
}

#[tokio::test]
async fn presuming_needs_a_doubt_a_one_time_row_and_43101() {
    let queue = Queue::new().await;
    let certain = queue.enqueue(json!({})).await;
    assert_eq!(resend_dies(&queue, certain, 43101, "gone").await, "dead");
    let other_errcode = doubtful(&queue, json!({"openid": "user-2"})).await;
    assert_eq!(
        resend_dies(&queue, other_errcode, 43108, "gone").await,
        "unresolved"
    );
    let long_term = doubtful(&queue, json!({"openid": "user-3", "kind": "long_term"})).await;
    assert_eq!(
        resend_dies(&queue, long_term, 43101, "gone").await,
        "unresolved"
    );
}

#[tokio::test]
async fn a_held_doubt_is_never_sent_again_and_ends_unresolved_at_its_age() {
    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({"on_doubt": "hold"})).await;
    let wait = (queue.pending(id).await.due.unwrap() - Utc::now()).num_days();
    assert!((6..=7).contains(&wait), "{wait}");

    queue.make_due(id).await;
    assert!(queue.lease("one").await.is_none());
    assert_eq!(queue.tidy(APP).await, 1);
    assert_eq!(queue.history(id).await.status, "unresolved");
}

#[tokio::test]
async fn a_held_doubt_that_is_never_answered_frees_its_pair_at_its_end() {
    let queue = Queue::new().await;
    let held = doubtful(&queue, json!({"on_doubt": "hold"})).await;
    let next = queue.enqueue(json!({})).await;
    assert!(queue.lease("one").await.is_none());
    assert_eq!(queue.tidy(APP).await, 1);
    assert_eq!(queue.state(next).await, "pending: pair");
    queue.make_due(held).await;
    queue.tidy(APP).await;
    assert_eq!(queue.state(held).await, "unresolved");
    assert_eq!(queue.lease("one").await.unwrap().ids, [next]);
}

#[tokio::test]
async fn a_row_in_doubt_never_ends_as_if_nothing_had_been_sent() {
    let queue = Queue::new().await;
    let at_its_end = doubtful(&queue, json!({"expire_at": in_secs(3600)})).await;
    queue.force(&format!("update pending_notifications set expire_at = now() - interval '1 s', due = now() - interval '1 s' where id = {at_its_end}")).await;
    let exhausted = doubtful(&queue, json!({"openid": "user-2", "attempts_max": 1})).await;
    queue.make_due(exhausted).await;
    assert_eq!(queue.tidy(APP).await, 2);
    assert_eq!(queue.state(at_its_end).await, "unresolved");
    assert_eq!(queue.state(exhausted).await, "unresolved");

    let in_flight = doubtful(&queue, json!({"openid": "user-3"})).await;
    queue.make_due(in_flight).await;
    let lease = queue.lease_and_start("one").await;
    queue
        .settle(&lease, &[Outcome::of(in_flight, "expired")])
        .await;
    assert_eq!(queue.state(in_flight).await, "unresolved");
}

#[tokio::test]
async fn an_operator_ends_a_doubt_and_nothing_else() {
    let queue = Queue::new().await;
    let certain = queue
        .enqueue(json!({"openid": "user-9", "send_at": in_secs(600)}))
        .await;
    assert!(!decide(&queue, certain, "sent").await);
    for status in ["sent", "dead", "unresolved"] {
        let id = doubtful(&queue, json!({"openid": status})).await;
        assert!(decide(&queue, id, status).await);
        assert!(!decide(&queue, id, status).await);
        let row = queue.history(id).await;
        assert_eq!(
            (row.status.as_str(), row.settled_by.as_str()),
            (status, "operator")
        );
    }
    let id = doubtful(&queue, json!({})).await;
    assert!(decide(&queue, id, "not_sent").await);
    assert_eq!(queue.pending(id).await.in_doubt_since, None);
    assert_eq!(queue.lease("one").await.unwrap().ids, [id]);
}

#[tokio::test]
async fn deciding_does_not_wait_for_who_holds_the_row() {
    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({})).await;
    let mut holder = queue.session().await;
    run(&mut holder, "begin").await;
    run(&mut holder, "select from pending_notifications for update").await;
    assert!(!decide(&queue, id, "sent").await);
    run(&mut holder, "rollback").await;
    assert!(decide(&queue, id, "sent").await);
}

#[tokio::test]
async fn a_late_success_ends_the_doubt_it_caused() {
    for msgid in [Some(77), None] {
        let queue = Queue::new().await;
        let id = queue.enqueue(json!({})).await;
        let lease = queue.lease_and_start("slow").await;
        let started_at = started_at(&queue, &lease).await;
        queue.expire_leases().await;
        queue.rescue().await;
        assert_eq!(
            settle(queue.pool(), &lease, true, &[Outcome::sent(id)])
                .await
                .unwrap(),
            None
        );

        assert!(late_reply(&queue, &lease, started_at, "sent", msgid).await);
        let row = queue.history(id).await;
        assert_eq!(
            (row.status.as_str(), row.settled_by.as_str(), row.msgid),
            ("sent", "late_reply", msgid)
        );
        assert!(
            !late_reply(&queue, &lease, started_at, "sent", msgid).await,
            "once"
        );
    }
}

#[tokio::test]
async fn a_late_refusal_ends_its_own_doubt_and_no_older_one() {
    for (word, state) in [("dead", "dead"), ("retry", "pending")] {
        let queue = Queue::new().await;
        let id = queue.enqueue(json!({})).await;
        let lease = queue.lease_and_start("slow").await;
        let started_at = started_at(&queue, &lease).await;
        queue.expire_leases().await;
        queue.rescue().await;
        assert!(late_reply(&queue, &lease, started_at, word, None).await);
        assert_eq!(queue.state(id).await, state);
    }
    let queue = Queue::new().await;
    let id = doubtful(&queue, json!({})).await;
    queue.make_due(id).await;
    let second = queue.lease_and_start("slow").await;
    let second_started_at = started_at(&queue, &second).await;
    queue.expire_leases().await;
    queue.rescue().await;
    for word in ["dead", "retry"] {
        assert!(!late_reply(&queue, &second, second_started_at, word, None).await);
    }
    assert_eq!(
        queue.state(id).await,
        "pending: doubt",
        "the first send may have arrived"
    );
    assert!(queue.pending(id).await.in_doubt_since.unwrap() < second_started_at);
}

/// The refusal of one send must not clear the doubt of a later one, however close they are.
#[tokio::test]
async fn a_late_refusal_beside_a_new_doubt_clears_nothing() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("slow").await;
    let started_at = started_at(&queue, &lease).await;
    queue.expire_leases().await;
    queue.rescue().await;
    // The refusal has looked at the row and waits to be recorded; meanwhile the row is sent again, in doubt again.
    let mut gate = queue.session().await;
    run(&mut gate, "begin").await;
    run(&mut gate, "lock table notification_attempts in share mode").await;
    let mut slow = queue.session().await;
    let waiting = super::backend(&mut slow).await;
    let refusal = tokio::spawn(async move {
        let statement = "select wxnotify_offer_late_reply($1, $2, $3, $4, $5, false, false, -1, 'late', null, null)";
        let offered = sqlx::query_scalar(statement)
            .bind(APP)
            .bind(id)
            .bind(lease.lease_id)
            .bind(started_at);
        offered
            .bind(&lease.worker)
            .fetch_one(&mut slow)
            .await
            .unwrap()
    });
    queue.until_blocked(waiting).await;
    queue.force(&format!("update pending_notifications set last_lease = last_lease + 1, attempts = attempts + 1 where id = {id}")).await;
    run(&mut gate, "commit").await;

    assert!(!Option::unwrap_or(refusal.await.unwrap(), false));
    assert_eq!(queue.pending(id).await.in_doubt_since, Some(started_at));
}

/// The late success of a send whose row was sent again meanwhile belongs to no other row.
#[tokio::test]
async fn a_late_success_during_the_resend_is_weighed_once_the_resend_fails() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("slow").await;
    let first_started_at = started_at(&queue, &lease).await;
    queue.expire_leases().await;
    queue.rescue().await;
    queue.make_due(id).await;
    let resend = queue.lease_and_start("next").await;

    assert!(
        !late_reply(&queue, &lease, first_started_at, "sent", Some(77)).await,
        "in flight"
    );
    queue
        .settle(
            &resend,
            &[Outcome {
                delay_secs: 60.0,
                ..Outcome::retry(id)
            }],
        )
        .await;
    assert_eq!(queue.weigh().await, 1);
    assert_eq!(queue.history(id).await.msgid, Some(77));
}

/// A gateway that fails fast costs at most the probe a doubt once the app is paused.
#[tokio::test]
async fn a_fast_outage_puts_at_most_concurrency_and_one_lease_in_doubt() {
    const CONCURRENCY: usize = 8;
    let queue = Queue::new().await;
    queue.enqueue_many(APP, 200).await;
    let lease =
        |worker: &'static str| super::lease(queue.pool(), APP, 1, worker, CONCURRENCY as i32);
    let in_flight = lease("one").await.unwrap().unwrap();
    let ahead = lease("one").await.unwrap().unwrap();
    // The breaker trips while the first lease is in flight and the second was only reserved.
    run(
        queue.pool(),
        "update wechat_apps set paused_until = now() + interval '1 minute', probing = true",
    )
    .await;
    assert!(super::start(queue.pool(), &in_flight).await);
    let outcomes = in_flight
        .ids
        .iter()
        .map(|id| Outcome::doubt(*id))
        .collect::<Vec<_>>();
    queue.settle(&in_flight, &outcomes).await;
    assert!(super::start(queue.pool(), &ahead).await);
    let outcomes = ahead
        .ids
        .iter()
        .map(|id| Outcome::doubt(*id))
        .collect::<Vec<_>>();
    queue.settle(&ahead, &outcomes).await;
    assert!(lease("two").await.unwrap().is_none(), "paused");

    run(
        queue.pool(),
        "update wechat_apps set paused_until = now() - interval '1 s'",
    )
    .await;
    let mut probes = 0;
    for worker in ["one", "two", "three"] {
        probes += lease(worker)
            .await
            .unwrap()
            .map_or(0, |lease| lease.ids.len());
    }
    assert_eq!(probes, 1);
    let doubts: i64 = sqlx::query_scalar(
        "select count(*) from pending_notifications where in_doubt_since is not null",
    )
    .fetch_one(queue.pool())
    .await
    .unwrap();
    assert_eq!(doubts as usize, 2 * CONCURRENCY);
}
