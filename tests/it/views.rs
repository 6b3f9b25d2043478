//! What operators read: the view `notifications` through every step of a row's life, `explain_notification`, and the
//! smaller views.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::kernel::{self, APP, Outcome, Queue, in_secs};

/// Status and reason of a notification; it must be shown exactly once.
async fn shown(queue: &Queue, id: i64) -> (String, String) {
    let mut rows: Vec<(String, Option<String>)> =
        sqlx::query_as("select status, reason from notifications where id = $1")
            .bind(id)
            .fetch_all(queue.pool())
            .await
            .unwrap();
    assert_eq!(rows.len(), 1, "notification {id} is shown once: {rows:?}");
    let (status, reason) = rows.remove(0);
    let reason = reason.unwrap_or_default();
    assert!(!reason.is_empty(), "{status} has a reason");
    (status, reason)
}

async fn status(queue: &Queue, id: i64) -> String {
    shown(queue, id).await.0
}

/// The explanation of a notification; its status must be that of the view, and no sentence may be empty.
async fn explained(queue: &Queue, id: i64) -> Value {
    let story: Value = sqlx::query_scalar("select to_jsonb(e) from explain_notification($1) e")
        .bind(id)
        .fetch_one(queue.pool())
        .await
        .unwrap();
    for column in ["sentence", "sentence_zh", "what_next", "what_next_zh"] {
        let text = story[column].as_str().unwrap_or_default();
        assert!(text.len() > 10, "{column} of {story}");
        let chinese = text.chars().any(|c| ('\u{4e00}'..'\u{9fff}').contains(&c));
        assert_eq!(chinese, column.ends_with("_zh"), "{column}: {text}");
    }
    story
}

async fn strings(queue: &Queue, statement: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned()))
        .fetch_all(queue.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_row_is_scheduled_then_due_then_sending_then_retrying_then_in_doubt_then_sent() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"send_at": in_secs(3600)})).await;
    assert_eq!(status(&queue, id).await, "scheduled");
    queue.make_due(id).await;
    assert_eq!(status(&queue, id).await, "due");

    let lease = queue.lease("worker/1").await.unwrap();
    assert_eq!(
        status(&queue, id).await,
        "due",
        "reserved is not yet sending"
    );
    assert!(kernel::start(queue.pool(), &lease).await);
    assert_eq!(status(&queue, id).await, "sending");
    let worker = strings(
        &queue,
        &format!("select worker from notifications where id = {id}"),
    )
    .await;
    assert_eq!(worker, ["worker/1"]);

    let retry = Outcome {
        delay_secs: 60.0,
        ..Outcome::retry(id)
    };
    queue.settle(&lease, &[retry]).await;
    let (retrying, reason) = shown(&queue, id).await;
    assert_eq!(retrying, "retrying");
    assert!(reason.starts_with("-1 "), "the errcode in words: {reason}");

    queue.make_due(id).await;
    queue.lease_and_start("worker/1").await;
    queue.expire_leases().await;
    assert_eq!(queue.rescue().await, 1);
    assert_eq!(status(&queue, id).await, "in_doubt");

    // Sent again after the doubt: accepted, and possibly received twice.
    queue.make_due(id).await;
    let lease = queue.lease_and_start("worker/2").await;
    assert_eq!(
        status(&queue, id).await,
        "sending",
        "sending goes before in_doubt"
    );
    queue.settle(&lease, &[Outcome::sent(id)]).await;
    let (sent, reason) = shown(&queue, id).await;
    assert_eq!(sent, "sent");
    assert!(reason.contains("twice"), "{reason}");

    let story = explained(&queue, id).await;
    let events: Vec<&str> = story["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(events.first(), Some(&"created"));
    // Its send_at is still ahead: the test made it due early.
    assert_eq!(events[events.len() - 2..], ["ended", "scheduled"]);
    assert_eq!(
        events.iter().filter(|event| **event == "attempt").count(),
        2
    );
    assert!(events.contains(&"in doubt"), "{events:?}");
    assert!(story["sentence"].as_str().unwrap().contains("twice"));
}

#[tokio::test]
async fn a_row_that_its_open_lease_has_settled_is_not_sending_any_more() {
    let queue = Queue::new().await;
    let settled = queue.enqueue(json!({"openid": "one"})).await;
    let open = queue.enqueue(json!({"openid": "two"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    let retry = Outcome {
        delay_secs: 60.0,
        ..Outcome::retry(settled)
    };
    kernel::settle(queue.pool(), &lease, false, &[retry])
        .await
        .unwrap();

    assert_eq!(status(&queue, settled).await, "retrying");
    assert_eq!(status(&queue, open).await, "sending");
}

/// A row in doubt that was sent again and is in doubt for that too.
async fn twice_in_doubt(queue: &Queue, openid: &str) -> i64 {
    let id = queue.enqueue(json!({"openid": openid})).await;
    for _ in 0..2 {
        queue.make_due(id).await;
        let lease = queue.lease_and_start("worker/1").await;
        queue.settle(&lease, &[Outcome::doubt(id)]).await;
    }
    id
}

async fn may_be_doubled(queue: &Queue, id: i64) -> bool {
    let statement = "select may_be_doubled from notifications where id = $1";
    sqlx::query_scalar(statement)
        .bind(id)
        .fetch_one(queue.pool())
        .await
        .unwrap()
}

/// WeChat's word about a message to this user, as a callback would store it.
async fn hear_of_arrival(queue: &Queue, openid: &str, msgid: i64) {
    kernel::run(
        queue.pool(),
        &format!(
            "insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at)
             values ('{APP}', 'sent', '{openid}', 'template-1', {msgid}, clock_timestamp())"
        ),
    )
    .await;
    assert_eq!(queue.weigh().await, 1);
}

#[tokio::test]
async fn a_row_in_doubt_twice_may_be_doubled_although_an_event_ended_it() {
    let queue = Queue::new().await;
    let id = twice_in_doubt(&queue, "twice").await;
    hear_of_arrival(&queue, "twice", 1).await;
    let (status, reason) = shown(&queue, id).await;
    assert_eq!(status, "sent");
    assert!(reason.contains("twice"), "{reason}");
    assert!(may_be_doubled(&queue, id).await);
    let story = explained(&queue, id).await;
    assert!(story["sentence_zh"].as_str().unwrap().contains("两次"));

    let once = queue.enqueue(json!({"openid": "once"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::doubt(once)]).await;
    hear_of_arrival(&queue, "once", 2).await;
    assert!(!may_be_doubled(&queue, once).await);
    assert!(!shown(&queue, once).await.1.contains("twice"));
}

#[tokio::test]
async fn a_doubt_that_was_disproved_doubles_nothing() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"openid": "one"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::doubt(id)]).await;
    kernel::run(queue.pool(), &format!("select confirm_not_sent({id})")).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::doubt(id)]).await;
    hear_of_arrival(&queue, "one", 1).await;
    assert_eq!(status(&queue, id).await, "sent");
    assert!(!may_be_doubled(&queue, id).await);
}

#[tokio::test]
async fn a_presumed_send_is_doubled_only_when_several_were_in_doubt() {
    let queue = Queue::new().await;
    let once = queue.enqueue(json!({"openid": "once"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::doubt(once)]).await;
    let twice = twice_in_doubt(&queue, "twice").await;
    for id in [once, twice] {
        queue.make_due(id).await;
        let lease = queue.lease_and_start("worker/1").await;
        queue
            .settle(&lease, &[Outcome::dead(id, 43101, "gone")])
            .await;
        assert_eq!(status(&queue, id).await, "presumed_sent");
    }
    assert!(!may_be_doubled(&queue, once).await);
    assert!(may_be_doubled(&queue, twice).await);
    let story = explained(&queue, twice).await;
    assert!(story["sentence"].as_str().unwrap().contains("twice"));
}

#[tokio::test]
async fn an_event_dated_a_few_seconds_before_the_doubt_is_told() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::doubt(id)]).await;
    kernel::run(
        queue.pool(),
        &format!(
            "insert into wechat_events (appid, event, openid, template_id, msgid, occurred_at)
             select '{APP}', e, openid, template_id, 7, in_doubt_since - secs * interval '1 s'
             from pending_notifications, (values ('in time', 4), ('before', 6)) v (e, secs)"
        ),
    )
    .await;
    let story = explained(&queue, id).await;
    let told = |name: &str| {
        let timeline = story["timeline"].as_array().unwrap();
        timeline.iter().any(|event| event["event"] == name)
    };
    assert!(told("in time") && !told("before"), "{story}");
    let events: Vec<i64> = sqlx::query_scalar("select events_since from notification_doubts")
        .fetch_all(queue.pool())
        .await
        .unwrap();
    assert_eq!(events, [1]);
}

#[tokio::test]
async fn a_token_claim_that_lapsed_is_not_fetching() {
    let queue = Queue::new().await;
    kernel::run(
        queue.pool(),
        "insert into wechat_access_tokens (appid, claimed_by, claimed_until) values
            ('wx-lapsed', 'worker/1', now() - interval '1 s'), ('wx-fetching', 'worker/2', now() + interval '1 minute')",
    )
    .await;
    assert_eq!(
        strings(
            &queue,
            "select coalesce(fetching, 'nobody') from wechat_tokens order by appid"
        )
        .await,
        ["worker/2", "nobody"]
    );
}

#[tokio::test]
async fn every_final_status_says_how_it_came_to_it() {
    let queue = Queue::new().await;
    let insert = |name: &str, more: Value| {
        let mut row = json!({"openid": name, "template_id": format!("template-{name}")});
        row.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        row
    };
    let sent = queue
        .enqueue(insert("sent", json!({"dedup_key": "k"})))
        .await;
    let dead = queue.enqueue(insert("dead", json!({}))).await;
    let presumed = queue.enqueue(insert("presumed", json!({}))).await;
    let unresolved = queue.enqueue(insert("unresolved", json!({}))).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(
            &lease,
            &[
                Outcome::sent(sent),
                Outcome::dead(dead, 43101, "gone"),
                Outcome::doubt(presumed),
                Outcome::doubt(unresolved),
            ],
        )
        .await;
    let duplicate = queue
        .enqueue(insert("duplicate", json!({"dedup_key": "k"})))
        .await;
    assert!(queue.lease("worker/1").await.is_none());
    queue.make_due(presumed).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(&lease, &[Outcome::dead(presumed, 43101, "gone")])
        .await;
    queue
        .force(&format!("update pending_notifications set expire_at = now() - interval '1 s', due = now() - interval '1 s' where id = {unresolved}"))
        .await;
    let expired = queue
        .enqueue(insert("expired", json!({"expire_at": in_secs(-1)})))
        .await;
    queue.tidy(APP).await;
    let cancelled = queue.enqueue(insert("cancelled", json!({}))).await;
    kernel::run(
        queue.pool(),
        &format!("delete from pending_notifications where id = {cancelled}"),
    )
    .await;

    for (id, expected, word) in [
        (sent, "sent", "accepted"),
        (dead, "dead", "43101"),
        (presumed, "presumed_sent", "43101"),
        (unresolved, "unresolved", "may have arrived"),
        (duplicate, "duplicate", &sent.to_string()),
        (expired, "expired", "expire_at"),
        (cancelled, "cancelled", "producer"),
    ] {
        let (status, reason) = shown(&queue, id).await;
        assert_eq!(status, expected);
        assert!(reason.contains(word), "{status}: {reason}");
        let story = explained(&queue, id).await;
        assert_eq!(story["status"], expected);
        assert_eq!(story["next_at"], Value::Null, "{story}");
    }
    let story = explained(&queue, dead).await;
    assert!(
        story["what_next"]
            .as_str()
            .unwrap()
            .contains("collect a new one"),
        "{story}"
    );
}

#[tokio::test]
async fn rows_of_an_app_nobody_registered_are_paused_until_it_is_added() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({"appid": "wx-stranger"})).await;
    assert_eq!(
        shown(&queue, id).await,
        ("paused".into(), "unknown app".into())
    );
    let story = explained(&queue, id).await;
    assert!(
        story["what_next"]
            .as_str()
            .unwrap()
            .contains("wxnotify app add wx-stranger"),
        "{story}"
    );
    // Parked by tidy meanwhile: still the same, and due as soon as the app is known and resumed.
    queue.tidy("wx-stranger").await;
    assert_eq!(status(&queue, id).await, "paused");

    kernel::run(queue.pool(), "select add_app('wx-stranger')").await;
    kernel::run(queue.pool(), "select resume_app('wx-stranger')").await;
    assert_eq!(status(&queue, id).await, "due");
}

#[tokio::test]
async fn held_and_in_doubt_go_before_paused_and_paused_before_retrying_and_scheduled() {
    let queue = Queue::new().await;
    let held = queue.enqueue(json!({"held": true, "openid": "held"})).await;
    let doubtful = queue.enqueue(json!({"openid": "doubtful"})).await;
    let retrying = queue.enqueue(json!({"openid": "retrying"})).await;
    let scheduled = queue
        .enqueue(json!({"openid": "scheduled", "send_at": in_secs(600)}))
        .await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(
            &lease,
            &[Outcome::doubt(doubtful), Outcome::retry(retrying)],
        )
        .await;

    kernel::run(
        queue.pool(),
        &format!("select pause_app_by_operator('{APP}', null, 'month-end freeze')"),
    )
    .await;

    assert_eq!(status(&queue, held).await, "held");
    assert_eq!(status(&queue, doubtful).await, "in_doubt");
    for id in [retrying, scheduled] {
        let (status, reason) = shown(&queue, id).await;
        assert_eq!(status, "paused");
        assert_eq!(reason, "app paused: month-end freeze");
    }
    let story = explained(&queue, scheduled).await;
    assert!(
        story["what_next"]
            .as_str()
            .unwrap()
            .contains("wxnotify app resume"),
        "{story}"
    );
    for id in [held, doubtful] {
        explained(&queue, id).await;
    }
}

/// The breaker rests an app for seconds: what is scheduled for 2031 is not what it holds up.
#[tokio::test]
async fn a_pause_that_ends_before_a_rows_time_is_a_remark_and_a_longer_one_is_its_status() {
    let queue = Queue::new().await;
    let far = queue
        .enqueue(json!({"openid": "far", "send_at": "2031-01-01T00:00:00Z"}))
        .await;
    let soon = queue
        .enqueue(json!({"openid": "soon", "send_at": in_secs(20)}))
        .await;
    let retrying = queue.enqueue(json!({"openid": "retrying"})).await;
    let due = queue.enqueue(json!({"openid": "due"})).await;
    let stranger = queue
        .enqueue(json!({"appid": "wx-stranger", "send_at": "2031-01-01T00:00:00Z"}))
        .await;
    queue
        .force(&format!(
            "update pending_notifications set waiting_for = 'retry', attempts = 1, last_errcode = -1, due = now() + interval '1 hour' where id = {retrying}"
        ))
        .await;
    for (what, pause) in [
        (
            "app",
            format!("pause_app_by_operator('{APP}', $, 'the breaker rests')"),
        ),
        (
            "template",
            format!("pause_template_by_operator('{APP}', 'template-1', $, 'the breaker rests')"),
        ),
    ] {
        let pause_until = async |until: &str| {
            let pause = pause.replace('$', until);
            kernel::run(queue.pool(), &format!("select {pause}")).await;
        };
        let statuses = async || {
            let mut statuses = Vec::new();
            for id in [far, soon, retrying, due] {
                statuses.push(status(&queue, id).await);
                assert_eq!(
                    explained(&queue, id).await["status"],
                    statuses[statuses.len() - 1]
                );
            }
            statuses
        };
        pause_until("now() + interval '30 seconds'").await;
        assert_eq!(
            statuses().await,
            ["scheduled", "paused", "retrying", "paused"],
            "{what}"
        );
        for id in [far, retrying] {
            let (_, reason) = shown(&queue, id).await;
            let remark = format!(" its {what} is paused: the breaker rests");
            assert!(reason.contains(&remark), "{reason}");
            let story = explained(&queue, id).await;
            assert!(
                story["sentence"]
                    .as_str()
                    .unwrap()
                    .contains("before that: the breaker rests"),
                "{story}"
            );
        }
        pause_until("now() + interval '2 hours'").await;
        assert_eq!(
            statuses().await,
            ["scheduled", "paused", "paused", "paused"],
            "{what}"
        );
        pause_until("null").await;
        assert_eq!(
            statuses().await,
            ["paused", "paused", "paused", "paused"],
            "{what}"
        );
        let resume = match what {
            "app" => format!("select resume_app('{APP}')"),
            _ => format!("select resume_template('{APP}', 'template-1')"),
        };
        kernel::run(queue.pool(), &resume).await;
        assert_eq!(
            statuses().await,
            ["scheduled", "scheduled", "retrying", "due"],
            "{what}"
        );
        assert_eq!(shown(&queue, far).await.1, "not before send_at");
    }
    assert_eq!(
        status(&queue, stranger).await,
        "paused",
        "nobody knows when"
    );
}

#[tokio::test]
async fn a_template_pause_that_ends_by_itself_says_when() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let other = queue
        .enqueue(json!({"template_id": "template-2", "openid": "user-2"}))
        .await;
    kernel::run(
        queue.pool(),
        &format!("select pause_template_by_operator('{APP}', 'template-1', now() + interval '1 hour', 'appeal')"),
    )
    .await;

    assert_eq!(shown(&queue, id).await.1, "template paused: appeal");
    assert_eq!(status(&queue, other).await, "due");
    let story = explained(&queue, id).await;
    assert!(story["next_at"].is_string(), "{story}");
    assert!(
        story["what_next"].as_str().unwrap().contains("by itself"),
        "{story}"
    );
}

#[tokio::test]
async fn a_row_behind_another_names_what_it_waits_for() {
    let queue = Queue::new().await;
    let winner = queue
        .enqueue(json!({"dedup_key": "k", "openid": "one"}))
        .await;
    let loser = queue
        .enqueue(json!({"dedup_key": "k", "openid": "two"}))
        .await;
    let lease = queue.lease_and_start("worker/1").await;
    assert_eq!(lease.ids, [winner]);
    assert!(
        queue.lease("worker/2").await.is_none(),
        "the loser is parked"
    );

    let (status, reason) = shown(&queue, loser).await;
    assert_eq!(status, "due");
    assert!(reason.contains(&winner.to_string()), "{reason}");
    explained(&queue, loser).await;
}

#[tokio::test]
async fn an_unknown_id_is_explained_too() {
    let queue = Queue::new().await;
    let story = explained(&queue, 4_711).await;
    assert_eq!(story["status"], "not found");
    assert!(
        story["what_next"]
            .as_str()
            .unwrap()
            .contains("business_ref")
    );
    let nothing: Value = sqlx::query_scalar("select to_jsonb(e) from explain_notification(null) e")
        .fetch_one(queue.pool())
        .await
        .unwrap();
    assert_eq!(nothing["status"], "not found");
}

#[tokio::test]
async fn without_a_worker_the_explanation_of_a_due_row_says_so() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let story = explained(&queue, id).await;
    assert!(
        story["what_next"]
            .as_str()
            .unwrap()
            .contains("wxnotify run"),
        "{story}"
    );

    kernel::run(
        queue.pool(),
        &format!("insert into notification_workers (name, version, appids) values ('w', '1', array['{APP}'])"),
    )
    .await;
    let story = explained(&queue, id).await;
    assert!(
        !story["what_next"]
            .as_str()
            .unwrap()
            .contains("wxnotify run"),
        "{story}"
    );
}

/// Rows in every combination of the columns that decide a status, most of them never reached in practice.
async fn fill_with_every_combination(queue: &Queue) {
    kernel::run(
        queue.pool(),
        "insert into pending_notifications (appid, openid, template_id, data, business_ref, held)
         select a, 'user-' || n, t, '{\"thing1\": \"x\"}', 'order-' || n, false
         from unnest(array['wxapp-one', 'wx-paused', 'wx-stranger', 'wx-rests', 'wx-rests-long']) a,
              unnest(array['template-1', 'template-paused', 'template-rests']) t, generate_series(1, 144) n",
    )
    .await;
    kernel::run(queue.pool(), "select add_app('wx-paused')").await;
    kernel::run(queue.pool(), "select pause_app_by_operator('wx-paused')").await;
    kernel::run(
        queue.pool(),
        "select pause_template_by_operator('wxapp-one', 'template-paused')",
    )
    .await;
    // Pauses that end before and after the time of the rows that have one, in an hour.
    for rest in [
        "add_app('wx-rests')",
        "add_app('wx-rests-long')",
        "pause_app_by_operator('wx-rests', now() + interval '30 seconds')",
        "pause_app_by_operator('wx-rests-long', now() + interval '3 hours')",
        "pause_template_by_operator('wxapp-one', 'template-rests', now() + interval '30 seconds')",
    ] {
        kernel::run(queue.pool(), &format!("select {rest}")).await;
    }
    queue
        .force(
            "update pending_notifications p set
                waiting_for = (array[null, 'retry', 'user', 'pair', 'template', 'app', 'duplicate', 'refused'])[n % 8 + 1],
                due = now() + case when n / 8 % 2 = 0 then interval '1 hour' else interval '-1 hour' end,
                held = n / 16 % 3 = 1,
                attempts = 1,
                in_doubt_since = case when n / 16 % 3 = 2 then now() - interval '1 minute' end,
                expire_at = case when n / 48 % 3 = 1 then now() + interval '2 hours' end
             from (select id, row_number() over (partition by appid, template_id order by id)::int as n from pending_notifications) o
             where o.id = p.id",
        )
        .await;
    kernel::run(
        queue.pool(),
        "insert into notification_leases (appid, worker, ids, user_keys, started_at, expires_at)
         select appid, 'worker/1', array_agg(id), array_agg(hashtext(openid)), case when id % 2 = 0 then now() end, now() + interval '30 s'
         from pending_notifications where id % 7 = 0 group by appid, id % 2",
    )
    .await;
}

#[tokio::test]
async fn every_pending_row_has_one_status_and_the_backlog_counts_the_same() {
    let queue = Queue::new().await;
    fill_with_every_combination(&queue).await;

    let wrong = strings(
        &queue,
        "select p.id || ': ' || count(n.id) from pending_notifications p left join notifications n on n.id = p.id group by p.id having count(n.id) <> 1",
    )
    .await;
    assert!(
        wrong.is_empty(),
        "rows with none or two statuses: {wrong:?}"
    );
    let differences = strings(
        &queue,
        "(select appid || lane || status || count(*) from notifications group by appid, lane, status
          except select appid || lane || status || rows from notification_backlog)
         union all
         (select appid || lane || status || rows from notification_backlog
          except select appid || lane || status || count(*) from notifications group by appid, lane, status)",
    )
    .await;
    assert!(differences.is_empty(), "{differences:?}");
    let statuses = strings(
        &queue,
        "select distinct status from notifications order by 1",
    )
    .await;
    assert_eq!(
        statuses,
        [
            "due",
            "held",
            "in_doubt",
            "paused",
            "retrying",
            "scheduled",
            "sending"
        ]
    );
    let without_reason = strings(
        &queue,
        "select id::text from notifications where reason is null",
    )
    .await;
    assert!(without_reason.is_empty(), "{without_reason:?}");
}

#[tokio::test]
async fn the_explanation_of_every_pending_row_agrees_with_the_view() {
    let queue = Queue::new().await;
    fill_with_every_combination(&queue).await;
    let wrong = strings(
        &queue,
        "select n.id || ' ' || n.status from notifications n cross join lateral explain_notification(n.id) e
         where e.status <> n.status or e.sentence is null or e.sentence_zh is null or e.what_next is null or e.what_next_zh is null
            or e.timeline is null or jsonb_array_length(e.timeline) = 0",
    )
    .await;
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The plan of a query over the view, with statistics of a table of 20,000 scheduled rows and as many final ones.
async fn plan(condition: &str) -> String {
    let queue = Queue::new().await;
    queue.enqueue_many(APP, 20_000).await;
    queue
        .force("update pending_notifications set due = due + interval '1 day'")
        .await;
    kernel::run(
        queue.pool(),
        "insert into notification_history (id, appid, status, kind, openid, template_id, data, miniprogram_state, lang, held, lane, on_doubt,
            attempts_max, created_at, producer, attempts, settled_by, finished_at)
         select 1000000 + n, 'wxapp-one', case when n % 10 = 0 then 'dead' else 'sent' end, 'one_time', 'user-' || n, 'template-1', '{}', 'formal', 'zh_CN', false, 1,
            'retry', 8, now(), 'app', 1, 'reply', now() from generate_series(1, 20000) n",
    )
    .await;
    kernel::run(
        queue.pool(),
        "analyze pending_notifications, notification_history",
    )
    .await;
    strings(
        &queue,
        &format!("explain select * from notifications where {condition}"),
    )
    .await
    .join("\n")
}

/// The code and the words are the same reason: those who read one must not learn less than those who read the other.
#[tokio::test]
async fn every_reason_has_a_code_whose_words_in_both_languages_are_in_one_place() {
    let queue = Queue::new().await;
    fill_with_every_combination(&queue).await;
    let codes = strings(&queue, "select distinct reason_code from notifications").await;
    assert!(codes.len() > 10, "of many kinds: {codes:?}");
    let strange = strings(
        &queue,
        "select n.id || ' ' || n.reason_code || ': ' || coalesce(n.reason, 'null') from notifications n
         left join notification_reasons w on w.reason_code = n.reason_code
         where w.reason_code is null or n.reason is null
            or n.reason_code not in ('refused', 'failed', 'move_refused', 'waits_for_retry') and not starts_with(n.reason, split_part(w.words, '%s', 1))",
    )
    .await;
    assert_eq!(strange, [""; 0]);
    let doubled = strings(
        &queue,
        "select reason_code from notification_reasons group by reason_code having count(*) > 1
         union all select reason_code from notification_reasons where words_zh !~ '[一-龥]' or words ~ '[一-龥]'",
    )
    .await;
    assert_eq!(doubled, [""; 0]);
}

/// Words of a code that no arm says any more would mislead whoever lists them.
#[tokio::test]
async fn no_words_are_kept_for_a_code_that_the_view_never_says() {
    let queue = Queue::new().await;
    let text = include_str!("../../sql/schema/status/notifications.sql");
    let known = strings(&queue, "select reason_code from notification_reasons").await;
    let unsaid: Vec<_> = known
        .iter()
        .filter(|code| !text.contains(&format!("'{code}'")))
        .collect();
    assert!(unsaid.is_empty(), "words that nothing says: {unsaid:?}");
    let paused = "select distinct reason_code from notification_pauses";
    queue.enqueue(json!({"appid": "wxapp-nobody"})).await;
    assert_eq!(strings(&queue, paused).await, ["unknown_app"]);
}

#[tokio::test]
async fn a_filter_on_status_leaves_one_arm_of_the_view() {
    let due = plan("status = 'due'").await;
    assert!(!due.contains("notification_history"), "{due}");
    let dead = plan("status = 'dead'").await;
    assert!(!dead.contains("pending_notifications"), "{dead}");
}

#[tokio::test]
async fn a_status_that_few_rows_have_is_found_without_reading_the_table() {
    for status in ["held", "retrying", "due", "in_doubt"] {
        let plan = plan(&format!("status = '{status}'")).await;
        assert!(
            !plan.contains("Seq Scan on pending_notifications"),
            "{plan}"
        );
    }
}

#[tokio::test]
async fn a_filter_on_id_uses_an_index_in_every_arm() {
    // Empty partitions are read whole, rightly; the one with rows must not be.
    let this_month = chrono::Utc::now().format("notification_history_%Y_%m ");
    let tables = ["pending_notifications".to_owned(), this_month.to_string()];
    let by_id = plan("id = 17").await;
    for table in &tables {
        assert!(!by_id.contains(&format!("Seq Scan on {table}")), "{by_id}");
    }
    let by_ref = plan("business_ref = 'order-17'").await;
    for table in &tables {
        assert!(
            !by_ref.contains(&format!("Seq Scan on {table}")),
            "{by_ref}"
        );
    }
}

#[tokio::test]
async fn failures_name_the_errcode_its_meaning_and_what_to_do() {
    let queue = Queue::new().await;
    let refused = queue.enqueue(json!({"openid": "one"})).await;
    let lost = queue.enqueue(json!({"openid": "two"})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(
            &lease,
            &[Outcome::dead(refused, 43101, "gone"), Outcome::doubt(lost)],
        )
        .await;

    let failures: Vec<Value> = sqlx::query_scalar(
        "select to_jsonb(f) from notification_failures f order by errcode nulls last",
    )
    .fetch_all(queue.pool())
    .await
    .unwrap();
    assert_eq!(failures.len(), 2);
    assert_eq!(failures[0]["errcode"], 43101);
    assert_eq!(failures[0]["dead"], 1);
    assert_eq!(failures[1]["errcode"], Value::Null);
    assert_eq!(failures[1]["doubts"], 1);
    for failure in &failures {
        for column in ["meaning", "meaning_zh", "advice", "advice_zh"] {
            assert!(
                !failure[column].as_str().unwrap_or_default().is_empty(),
                "{column}: {failure}"
            );
        }
    }
}

#[tokio::test]
async fn credits_are_counted_per_user_and_template() {
    let queue = Queue::new().await;
    queue.enqueue(json!({"held": true})).await;
    let sent = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::sent(sent)]).await;
    let refused = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(&lease, &[Outcome::dead(refused, 43101, "gone")])
        .await;
    for credit in ["kept", "unknown"] {
        let refused = queue.enqueue(json!({})).await;
        let lease = queue.lease_and_start("worker/1").await;
        queue
            .settle(&lease, &[Outcome::dead(refused, 40003, credit)])
            .await;
    }
    queue.enqueue(json!({"send_at": in_secs(60)})).await;
    queue.enqueue(json!({"kind": "long_term"})).await;

    let credits: Value = sqlx::query_scalar(
        "select to_jsonb(c) from notification_credits c where appid = $1 and openid = 'user-1'",
    )
    .bind(APP)
    .fetch_one(queue.pool())
    .await
    .unwrap();
    for (column, expected) in [
        ("held", 1),
        ("pending", 1),
        ("sent", 1),
        ("dead_gone", 1),
        ("in_doubt", 0),
        ("dead_kept", 1),
        ("dead_unknown", 1),
    ] {
        assert_eq!(credits[column], expected, "{column}: {credits}");
    }
}

#[tokio::test]
async fn no_view_shows_a_token() {
    let queue = Queue::new().await;
    kernel::run(
        queue.pool(),
        &format!("insert into wechat_access_tokens (appid, access_token, expires_at) values ('{APP}', 'SECRET-TOKEN', now() + interval '1 hour')"),
    )
    .await;
    let views = strings(
        &queue,
        "select table_name::text from information_schema.views where table_schema = 'public'",
    )
    .await;
    assert!(views.len() > 10, "{views:?}");
    for view in views {
        let rows = strings(&queue, &format!("select v::text from {view} v")).await;
        assert!(!rows.concat().contains("SECRET-TOKEN"), "{view}");
    }
}

#[tokio::test]
async fn a_worker_that_fell_silent_or_stopped_is_not_alive() {
    let queue = Queue::new().await;
    kernel::run(
        queue.pool(),
        "insert into notification_workers (name, version, heartbeat_at, stopped_at) values
            ('alive', '1', now(), null), ('silent', '1', now() - interval '2 minutes', null), ('stopped', '1', now(), now())",
    )
    .await;
    assert_eq!(
        strings(&queue, "select name from notification_workers_live").await,
        ["alive"]
    );
}

#[tokio::test]
async fn every_table_view_column_and_function_has_a_comment() {
    let queue = Queue::new().await;
    let bare = strings(
        &queue,
        "select c.relname::text from pg_class c
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'S') and not c.relispartition
           and obj_description(c.oid, 'pg_class') is null
           and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i' and c.relkind = 'S')
         union all
         select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
           and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
         union all
         select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace = 'public'::regnamespace and obj_description(p.oid, 'pg_proc') is null
         order by 1",
    )
    .await;
    assert!(bare.is_empty(), "without a COMMENT: {bare:#?}");
}

#[tokio::test]
async fn no_function_may_be_called_by_everybody() {
    let queue = Queue::new().await;
    let open = strings(
        &queue,
        "select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace = 'public'::regnamespace and has_function_privilege('public', p.oid, 'execute') order by 1",
    )
    .await;
    assert!(open.is_empty(), "EXECUTE is granted to PUBLIC: {open:#?}");
}

#[tokio::test]
async fn a_sent_row_whose_answer_came_for_another_row_too_says_that_its_msgid_is_disputed() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue.settle(&lease, &[Outcome::sent(id)]).await;
    assert!(!explained(&queue, id).await.to_string().contains("disputed"));
    kernel::run(
        queue.pool(),
        &format!(
            "insert into notification_attempts (notification_id, appid, attempt, result, reason, finished_at)
             values ({id}, '{APP}', 1, 'sent', 'disputed: its answer (msgid 1) came for notification 2, too', now())"
        ),
    )
    .await;
    let story = explained(&queue, id).await.to_string();
    assert!(
        story.contains("the msgid is disputed") && story.contains("msgid 存疑"),
        "{story}"
    );
}
