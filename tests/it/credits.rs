//! The credit ledger: accepts and the rows that are the same tap, refusals that park and accepts that release, the books,
//! and which 43101 it was. The kernel's functions play the worker, so that events can come at any moment.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use wxnotify::store::{ClaimPolicy, Store};

use crate::kernel::{self, APP, Outcome, Queue};

/// A queue whose users answer pop-ups. Moments are seconds from the beginning of the test.
struct Books {
    queue: Queue,
    began: i64,
}

impl Books {
    async fn new() -> Self {
        Self {
            queue: Queue::new().await,
            began: chrono::Utc::now().timestamp(),
        }
    }

    fn event(&self, event: &str, openid: &str, answer: &str, at: i64) -> Value {
        json!({
            "ToUserName": "gh_0123456789ab", "FromUserName": openid, "CreateTime": self.began + at, "MsgType": "event",
            "Event": event, "List": {"TemplateId": "template-1", "SubscribeStatusString": answer, "PopupScene": "0"},
        })
    }

    /// Stores an answer in the pop-up; returns how many events were new.
    async fn popup(&self, openid: &str, answer: &str, at: i64) -> i32 {
        self.ingest(self.event("subscribe_msg_popup_event", openid, answer, at))
            .await
    }

    /// Stores an answer in the card's menu.
    async fn change(&self, openid: &str, answer: &str, at: i64) -> i32 {
        self.ingest(self.event("subscribe_msg_change_event", openid, answer, at))
            .await
    }

    async fn ingest(&self, event: Value) -> i32 {
        let store = Store::new(self.queue.pool().clone());
        store.ingest_event(APP, &event).await.unwrap().unwrap()
    }

    /// A sent event of a message to `user-1`.
    async fn sent_event(&self, msgid: i64, at: i64) {
        let mut event = self.event("subscribe_msg_sent_event", "user-1", "", at);
        event["List"] = json!({"TemplateId": "template-1", "MsgID": msgid.to_string(), "ErrorCode": "0", "ErrorStatus": "success"});
        assert_eq!(self.ingest(event).await, 1);
    }

    /// What maintenance does, with every event looked at anew.
    async fn apply(&self, holds_unclaimed: bool) {
        self.queue
            .force(
                "update wechat_events set apply_at = clock_timestamp() where apply_at is not null",
            )
            .await;
        let store = Store::new(self.queue.pool().clone());
        store.apply_events().await.unwrap();
        store.apply_answers(policy(holds_unclaimed)).await.unwrap();
    }

    /// Inserts a row whose tap was at this moment.
    async fn row(&self, at: i64, columns: Value) -> i64 {
        let mut row = json!({"created_at": self.moment(at)});
        row.as_object_mut()
            .unwrap()
            .extend(columns.as_object().unwrap().clone());
        self.queue.enqueue(row).await
    }

    fn moment(&self, at: i64) -> String {
        let moment = chrono::DateTime::from_timestamp(self.began + at, 0).unwrap();
        moment.to_rfc3339()
    }

    /// Sends a row, which ends so; its end is dated.
    async fn end(&self, outcome: Outcome, at: i64) {
        let id = outcome.id;
        let lease = self.queue.lease_and_start("worker/1").await;
        assert_eq!(lease.ids, [id]);
        self.queue.settle(&lease, &[outcome]).await;
        self.date(id, at).await;
    }

    async fn date(&self, id: i64, at: i64) {
        let statement = format!(
            "update notification_history set finished_at = '{}' where id = {id}",
            self.moment(at)
        );
        assert_eq!(self.queue.force(&statement).await, 1);
    }

    async fn sends(&self, at: i64, msgid: i64) -> i64 {
        let id = self.row(at, json!({})).await;
        let sent = Outcome {
            msgid: Some(msgid),
            ..Outcome::sent(id)
        };
        self.end(sent, at + 1).await;
        id
    }

    async fn dies(&self, at: i64) -> i64 {
        let id = self.row(at, json!({})).await;
        self.end(Outcome::dead(id, 43101, "gone"), at + 1).await;
        id
    }

    async fn json(&self, statement: &str) -> Value {
        sqlx::query_scalar(AssertSqlSafe(format!(
            "select coalesce(jsonb_agg(to_jsonb(x)), '[]') from ({statement}) x"
        )))
        .fetch_one(self.queue.pool())
        .await
        .unwrap()
    }

    /// One user's credits of the template, in the columns named.
    async fn credits(&self, openid: &str, columns: &str) -> Vec<i64> {
        let rows = self
            .json(&format!(
                "select * from notification_credits where appid = '{APP}' and openid = '{openid}'"
            ))
            .await;
        columns
            .split(' ')
            .map(|column| rows[0][column].as_i64().unwrap())
            .collect()
    }

    async fn faults(&self) -> Vec<String> {
        sqlx::query_scalar("select fault from notification_credit_faults order by 1")
            .fetch_all(self.queue.pool())
            .await
            .unwrap()
    }

    /// Which 43101 it was, and how certain that is.
    async fn which(&self, id: i64) -> String {
        let said = self
            .json(&format!("select * from notification_43101 where id = {id}"))
            .await;
        let word = |column: &str| said[0][column].as_str().unwrap().to_owned();
        for column in ["evidence", "evidence_zh"] {
            assert!(word(column).len() > 20, "{said}");
        }
        format!("{} {}", word("which"), word("certainty"))
    }

    async fn held_rows(&self) -> i64 {
        sqlx::query_scalar("select count(*) from pending_notifications where held")
            .fetch_one(self.queue.pool())
            .await
            .unwrap()
    }

    /// Status and reason as operators see them.
    async fn shown(&self, id: i64) -> (String, String) {
        sqlx::query_as("select status, reason from notifications where id = $1")
            .bind(id)
            .fetch_one(self.queue.pool())
            .await
            .unwrap()
    }
}

fn policy(holds_unclaimed: bool) -> ClaimPolicy {
    ClaimPolicy {
        window: std::time::Duration::from_secs(600),
        holds_unclaimed,
    }
}

const REFUSED: &str = "pending: refused";

#[tokio::test]
async fn an_accept_and_its_row_are_one_credit_whichever_comes_first() {
    let books = Books::new().await;
    books.popup("event-first", "accept", 0).await;
    books.apply(false).await;
    assert_eq!(
        books.credits("event-first", "accepted unclaimed").await,
        [1, 1]
    );
    books.row(2, json!({"openid": "event-first"})).await;
    books.row(2, json!({"openid": "row-first"})).await;
    books.apply(false).await;
    books.popup("row-first", "accept", 0).await;
    books.apply(false).await;
    for user in ["event-first", "row-first"] {
        let columns = "accepted unclaimed pending";
        assert_eq!(books.credits(user, columns).await, [1, 0, 1], "{user}");
        // Pushed again, it changes nothing.
        assert_eq!(books.popup(user, "accept", 0).await, 0);
        books.apply(true).await;
        assert_eq!(books.credits(user, columns).await, [1, 0, 1], "{user}");
    }
    assert_eq!(books.faults().await, [""; 0]);
}

#[tokio::test]
async fn a_row_that_was_sent_before_its_event_came_is_still_its_row() {
    let books = Books::new().await;
    books.sends(-30, 7).await;
    books.popup("user-1", "accept", -31).await;
    books.apply(true).await;
    let columns = "accepted sent unclaimed held";
    assert_eq!(books.credits("user-1", columns).await, [1, 1, 0, 0]);
}

#[tokio::test]
async fn several_accepts_in_a_row_find_a_row_each_in_any_order() {
    let books = Books::new().await;
    for at in [20, 0, 10] {
        books.popup("user-1", "accept", at).await;
        books.apply(false).await;
        books.row(at + 1, json!({})).await;
        books.row(at + 2, json!({"openid": "user-2"})).await;
    }
    books.apply(false).await;
    let columns = "accepted unclaimed pending";
    assert_eq!(books.credits("user-1", columns).await, [3, 0, 3]);
    // Of another user no event arrives: the rows stand for themselves.
    assert_eq!(books.credits("user-2", columns).await, [3, 0, 3]);
    assert_eq!(books.faults().await, [""; 0]);
}

#[tokio::test]
async fn a_row_inserted_outside_the_window_is_another_tap_unless_it_says_when_it_was() {
    let books = Books::new().await;
    books.popup("user-1", "accept", -3600).await;
    books.row(0, json!({})).await;
    books.row(-4000, json!({})).await;
    books.apply(false).await;
    let columns = "accepted unclaimed pending";
    assert_eq!(books.credits("user-1", columns).await, [3, 1, 2]);
    books.row(-3500, json!({})).await;
    books.apply(false).await;
    assert_eq!(books.credits("user-1", columns).await, [3, 0, 3]);
}

#[tokio::test]
async fn an_accept_that_nobody_claims_becomes_one_held_row_however_many_workers_look() {
    let books = Books::new().await;
    for user in 0..20 {
        books.popup(&format!("user-{user}"), "accept", -3600).await;
    }
    books.popup("young", "accept", 0).await;
    books.apply(false).await;
    assert_eq!(books.held_rows().await, 0, "ignored, unless told to hold");
    books
        .queue
        .force("update wechat_events set apply_at = clock_timestamp()")
        .await;
    let looks = (0..4).map(|_| {
        let store = Store::new(books.queue.pool().clone());
        tokio::spawn(async move {
            for _ in 0..5 {
                store.apply_answers(policy(true)).await.unwrap();
            }
        })
    });
    for look in looks.collect::<Vec<_>>() {
        look.await.unwrap();
    }
    books.popup("user-1", "accept", -3600).await;
    books.apply(true).await;
    assert_eq!(
        books.held_rows().await,
        20,
        "the young one may be claimed yet"
    );
    let columns = "accepted unclaimed held";
    assert_eq!(books.credits("user-1", columns).await, [1, 0, 1]);
    assert_eq!(books.credits("young", columns).await, [1, 1, 0]);

    let arm = "select arm($1, 'user-1', 'template-1', '{\"thing1\": \"x\"}')";
    let armed: Option<i64> = sqlx::query_scalar(arm)
        .bind(APP)
        .fetch_one(books.queue.pool())
        .await
        .unwrap();
    let lease = books.queue.lease_and_start("worker/1").await;
    assert_eq!(lease.ids, [armed.unwrap()]);
    assert_eq!(books.faults().await, [""; 0]);
}

#[tokio::test]
async fn a_row_that_comes_after_the_held_one_takes_its_place_unless_that_was_armed() {
    let books = Books::new().await;
    for user in ["user-1", "armed"] {
        books.popup(user, "accept", -3600).await;
    }
    books.apply(true).await;
    books
        .queue
        .force("update pending_notifications set held = false, data = '{\"thing1\": \"x\"}', due = now() + interval '1 h' where openid = 'armed'")
        .await;
    books.row(-3550, json!({})).await;
    books.row(-3550, json!({"openid": "armed"})).await;
    books.apply(true).await;
    let columns = "accepted held pending unused";
    assert_eq!(books.credits("user-1", columns).await, [1, 0, 1, 0]);
    // Both stand: an armed credit is a message on its way, and is not taken back.
    assert_eq!(books.credits("armed", columns).await, [2, 0, 2, 0]);
    let withdrawn = books
        .json("select n.status, n.reason, n.id, e.sentence, e.sentence_zh from notifications n, explain_notification(n.id) e where n.status = 'cancelled'")
        .await;
    assert_eq!(withdrawn[0]["status"], "cancelled", "{withdrawn}");
    assert!(
        withdrawn[0]["sentence"]
            .as_str()
            .unwrap()
            .contains("accept")
    );
    assert_eq!(books.faults().await, [""; 0]);
}

#[tokio::test]
async fn an_accept_of_a_long_term_template_is_no_credit() {
    let books = Books::new().await;
    books.row(-3500, json!({"kind": "long_term"})).await;
    books.popup("user-1", "accept", -3600).await;
    books.apply(true).await;
    assert_eq!(books.held_rows().await, 0);
}

#[tokio::test]
async fn a_reject_parks_what_waits_and_the_next_accept_releases_it() {
    for by_menu in [false, true] {
        let books = Books::new().await;
        let due = books.row(-60, json!({})).await;
        let scheduled = books
            .row(-60, json!({"send_at": kernel::in_secs(7200)}))
            .await;
        let long_term = books
            .row(-60, json!({"openid": "user-1", "kind": "long_term"}))
            .await;
        let other = books.row(-60, json!({"openid": "user-2"})).await;
        let held = books.row(-60, json!({"held": true})).await;
        if by_menu {
            books.change("user-1", "reject", -30).await;
        } else {
            books.popup("user-1", "reject", -30).await;
        }
        books.apply(false).await;
        for id in [due, scheduled, long_term] {
            assert_eq!(books.queue.state(id).await, REFUSED);
            let (status, reason) = books.shown(id).await;
            assert_eq!(status, "paused");
            assert!(reason.contains("refused"), "{reason}");
        }
        assert_eq!(books.shown(held).await.0, "held");
        let lease = books.queue.lease_and_start("worker/1").await;
        assert_eq!(lease.ids, [other], "only who did not refuse");
        books.queue.settle(&lease, &[Outcome::sent(other)]).await;
        let refused_at = books
            .json("select refused_at from notification_credits where openid = 'user-1'")
            .await;
        assert!(refused_at[0]["refused_at"].is_string());

        books.popup("user-1", "accept", -10).await;
        books.apply(false).await;
        assert_eq!(books.shown(scheduled).await.0, "scheduled");
        let lease = books.queue.lease_and_start("worker/1").await;
        assert_eq!(lease.ids.len(), 1, "one user, one row at a time");
        assert!([due, long_term].contains(&lease.ids[0]));
        assert_eq!(books.faults().await, [""; 0]);
    }
}

#[tokio::test]
async fn the_later_word_counts_in_whatever_order_the_words_arrive() {
    let books = Books::new().await;
    let id = books.row(-600, json!({})).await;
    books.popup("user-1", "accept", -10).await;
    books.apply(false).await;
    books.change("user-1", "reject", -20).await;
    books.apply(false).await;
    assert_eq!(books.queue.state(id).await, "pending", "an old reject");

    books.popup("user-1", "reject", -5).await;
    books.apply(false).await;
    books.popup("user-1", "accept", -15).await;
    books.apply(false).await;
    assert_eq!(books.queue.state(id).await, REFUSED, "an old accept");
    // Both of one second: the reject, so that order of arrival decides nothing.
    books.popup("user-1", "accept", -5).await;
    books.apply(false).await;
    assert_eq!(books.queue.state(id).await, REFUSED);
    // The menu can turn it on again, which is no credit.
    let before = books.credits("user-1", "accepted").await;
    books.change("user-1", "accept", -1).await;
    books.apply(false).await;
    assert_eq!(books.queue.state(id).await, "pending");
    assert_eq!(books.credits("user-1", "accepted").await, before);
}

#[tokio::test]
async fn a_row_inserted_after_the_reject_says_that_the_user_accepted_again() {
    let books = Books::new().await;
    let parked = books.row(-600, json!({})).await;
    books.popup("user-1", "reject", -300).await;
    books.apply(false).await;
    let same_second = books.row(-300, json!({})).await;
    let long_term = books.row(-200, json!({"kind": "long_term"})).await;
    assert!(books.queue.lease("worker/1").await.is_none());
    books.queue.tidy(APP).await;
    for id in [parked, same_second, long_term] {
        assert_eq!(books.queue.state(id).await, REFUSED);
    }
    // A redriven row is inserted by an operator, not by a tap.
    let dead = books.row(-600, json!({"openid": "user-2"})).await;
    books.end(Outcome::dead(dead, 43101, "gone"), -500).await;
    books.popup("user-2", "reject", -300).await;
    books.apply(false).await;
    let redrive = "select redrive_notification($1)";
    let redriven: i64 = sqlx::query_scalar(redrive)
        .bind(dead)
        .fetch_one(books.queue.pool())
        .await
        .unwrap();
    assert!(books.queue.lease("worker/1").await.is_none());
    books.queue.tidy(APP).await;
    assert_eq!(books.queue.state(redriven).await, REFUSED);

    let newer = books.row(-100, json!({})).await;
    assert!(books.queue.lease("worker/1").await.is_none());
    books.queue.tidy(APP).await;
    for id in [parked, same_second, long_term, newer] {
        assert_eq!(books.queue.state(id).await, "pending");
    }
    assert!(books.queue.lease("worker/1").await.is_some());
}

#[tokio::test]
async fn what_is_in_flight_or_in_doubt_is_left_alone_and_is_no_proof_that_it_arrived() {
    let books = Books::new().await;
    let in_flight = books.row(-60, json!({})).await;
    let lease = books.queue.lease_and_start("worker/1").await;
    let doubtful = books.row(-60, json!({"openid": "user-2"})).await;
    let other = books.queue.lease_and_start("worker/2").await;
    books
        .queue
        .settle(&other, &[Outcome::doubt(doubtful)])
        .await;
    let before = books.queue.pending(in_flight).await;
    for user in ["user-1", "user-2"] {
        books.popup(user, "reject", -30).await;
    }
    books.apply(false).await;
    let after = books.queue.pending(in_flight).await;
    assert_eq!((after.due, after.waiting_for), (before.due, None));
    assert_eq!(books.queue.state(doubtful).await, "pending: doubt");

    let retry = Outcome {
        delay_secs: 0.0,
        ..Outcome::retry(in_flight)
    };
    books.queue.settle(&lease, &[retry]).await;
    assert!(books.queue.lease("worker/1").await.is_none());
    books.queue.tidy(APP).await;
    assert_eq!(books.queue.state(in_flight).await, REFUSED);

    // The repeat of the doubt meets 43101, which the refusal explains: nothing is presumed.
    books.queue.make_due(doubtful).await;
    let lease = books.queue.lease_and_start("worker/2").await;
    let dead = Outcome::dead(doubtful, 43101, "gone");
    books.queue.settle(&lease, &[dead]).await;
    assert_eq!(books.queue.history(doubtful).await.status, "unresolved");
}

#[tokio::test]
async fn a_parked_row_still_expires_and_can_be_cancelled() {
    let books = Books::new().await;
    let expiring = books
        .row(-60, json!({"expire_at": kernel::in_secs(600)}))
        .await;
    let cancelled = books.row(-60, json!({})).await;
    books.change("user-1", "reject", -30).await;
    books.apply(false).await;
    let next_at = books
        .json(&format!(
            "select next_at = expire_at as ends from notifications where id = {expiring}"
        ))
        .await;
    assert_eq!(next_at[0]["ends"], true);
    assert!(
        books.queue.pending(expiring).await.due.unwrap()
            <= chrono::Utc::now() + chrono::TimeDelta::seconds(601)
    );
    books
        .queue
        .force(&format!("update pending_notifications set expire_at = now() - interval '1 s', due = now() - interval '1 s' where id = {expiring}"))
        .await;
    books.queue.tidy(APP).await;
    assert_eq!(books.queue.history(expiring).await.status, "expired");
    let delete = format!("delete from pending_notifications where id = {cancelled}");
    assert_eq!(kernel::run(books.queue.pool(), &delete).await, 1);
    assert_eq!(books.queue.history(cancelled).await.status, "cancelled");
}

#[tokio::test]
async fn a_parked_row_looks_again_by_itself_and_is_parked_again() {
    let books = Books::new().await;
    let id = books.row(-60, json!({})).await;
    books.change("user-1", "reject", -30).await;
    books.apply(false).await;
    books.queue.make_due(id).await;
    assert!(books.queue.lease("worker/1").await.is_none());
    assert_eq!(books.queue.tidy(APP).await, 1);
    let wait = books.queue.pending(id).await.due.unwrap() - chrono::Utc::now();
    assert!((40..=80).contains(&wait.num_minutes()), "{wait}");
    assert_eq!(books.queue.state(id).await, REFUSED);
}

#[tokio::test]
async fn while_answers_are_being_applied_a_refused_row_is_parked_for_seconds_only() {
    let books = Books::new().await;
    books.row(-60, json!({})).await;
    books.change("user-1", "reject", -30).await;
    books.apply(false).await;
    let newer = books.row(0, json!({})).await;
    let mut applying = books.queue.session().await;
    kernel::run(&mut applying, "begin").await;
    kernel::run(&mut applying, "select pg_advisory_xact_lock(20785, 0)").await;
    assert_eq!(books.queue.tidy(APP).await, 1);
    let wait = books.queue.pending(newer).await.due.unwrap() - chrono::Utc::now();
    assert!(wait.num_seconds() < 10, "{wait}");
    let store = Store::new(books.queue.pool().clone());
    assert_eq!(store.apply_answers(policy(false)).await.unwrap(), 0);
    kernel::run(&mut applying, "rollback").await;
    books.queue.make_due(newer).await;
    books.queue.tidy(APP).await;
    assert_eq!(books.queue.lease_and_start("worker/1").await.ids.len(), 1);
}

/// Somebody held the row while the accept was applied: it finds out by itself.
#[tokio::test]
async fn a_release_that_was_missed_is_made_good_when_the_row_looks_again() {
    let books = Books::new().await;
    let id = books.row(-60, json!({})).await;
    books.change("user-1", "reject", -30).await;
    books.apply(false).await;
    let mut holder = books.queue.session().await;
    kernel::run(&mut holder, "begin").await;
    let lock = format!("select 1 from pending_notifications where id = {id} for update");
    kernel::run(&mut holder, &lock).await;
    books.popup("user-1", "accept", -10).await;
    books.apply(false).await;
    assert_eq!(books.queue.state(id).await, REFUSED);
    kernel::run(&mut holder, "rollback").await;
    books.queue.make_due(id).await;
    let lease = books.queue.lease_and_start("worker/1").await;
    assert_eq!(lease.ids, [id]);
}

#[tokio::test]
async fn a_long_term_message_without_subscription_parks_the_pair_until_the_next_accept() {
    let books = Books::new().await;
    let long_term = json!({"kind": "long_term", "attempts_max": 1});
    let first = books.row(-60, long_term.clone()).await;
    let sibling = books.row(-60, long_term.clone()).await;
    let lease = books.queue.lease_and_start("worker/1").await;
    let park = Outcome {
        errcode: Some(43101),
        waiting_for: Some("refused"),
        delay_secs: 3600.0,
        ..Outcome::of(first, "park")
    };
    books.queue.settle(&lease, &[park]).await;
    assert_eq!(books.queue.pending(first).await.attempts, 0);
    let later = books.row(0, long_term).await;
    assert!(books.queue.lease("worker/1").await.is_none());
    books.queue.tidy(APP).await;
    for id in [first, sibling, later] {
        assert_eq!(books.queue.state(id).await, REFUSED, "{id}");
        assert!(books.shown(id).await.1.contains("43101"));
    }
    let which = books
        .json(&format!("select * from wxnotify_which_43101({first})"))
        .await;
    assert_eq!(which[0]["which"], "refused");

    books.popup("user-1", "accept", -600).await;
    books.apply(true).await;
    assert_eq!(books.queue.state(first).await, REFUSED, "an older accept");
    books.popup("user-1", "accept", 5).await;
    books.apply(true).await;
    assert!(books.queue.lease("worker/1").await.is_some());
    assert_eq!(books.held_rows().await, 0);
}

/// The accept was applied while the send that began before it was still under way.
#[tokio::test]
async fn a_late_43101_does_not_undo_an_accept_that_came_after_the_send_began() {
    let books = Books::new().await;
    let id = books.row(-60, json!({"kind": "long_term"})).await;
    let lease = books.queue.lease_and_start("worker/1").await;
    books.popup("user-1", "accept", 30).await;
    books.apply(false).await;
    let park = Outcome {
        errcode: Some(43101),
        waiting_for: Some("refused"),
        delay_secs: 3600.0,
        ..Outcome::of(id, "park")
    };
    books.queue.settle(&lease, &[park]).await;
    assert_eq!(books.queue.lease_and_start("worker/1").await.ids, [id]);
}

#[tokio::test]
async fn never_accepted_is_told_apart_the_better_the_more_events_arrive() {
    let books = Books::new().await;
    let id = books.dies(-60).await;
    assert_eq!(books.which(id).await, "never_accepted possible");
    books.popup("user-2", "accept", -100).await;
    assert_eq!(books.which(id).await, "never_accepted likely");
    let story = books
        .json(&format!("select * from explain_notification({id})"))
        .await;
    let words = story[0]["sentence"].as_str().unwrap();
    assert!(words.contains("never accepted, likely"), "{words}");
    let words = story[0]["sentence_zh"].as_str().unwrap();
    assert!(words.contains("从未授权（很可能）"), "{words}");
}

#[tokio::test]
async fn a_refusal_before_the_43101_explains_it_and_one_after_it_does_not() {
    let books = Books::new().await;
    books.popup("user-1", "accept", -100).await;
    let id = books.dies(-90).await;
    books.change("user-1", "reject", -80).await;
    assert_eq!(books.which(id).await, "spent_elsewhere likely");
    books.change("user-1", "reject", -95).await;
    assert_eq!(books.which(id).await, "refused likely");
    // Inserted before it and dead in the second of it.
    books.change("user-1", "reject", -89).await;
    assert_eq!(books.which(id).await, "refused certain");
    let later = books.dies(-70).await;
    assert_eq!(books.which(later).await, "refused likely");
}

#[tokio::test]
async fn more_rows_than_accepts_are_used_up() {
    let books = Books::new().await;
    books.popup("user-1", "accept", -100).await;
    books.sends(-98, 1).await;
    let id = books.dies(-60).await;
    assert_eq!(books.which(id).await, "used_up likely");
}

#[tokio::test]
async fn a_message_of_another_system_explains_one_43101_and_the_next_one_is_used_up() {
    let books = Books::new().await;
    books.popup("user-1", "accept", -100).await;
    books.sent_event(99, -80).await;
    let first = books.dies(-60).await;
    let second = books.dies(-40).await;
    assert_eq!(books.which(first).await, "spent_elsewhere certain");
    assert_eq!(books.which(second).await, "used_up possible");
    let columns = "sent_elsewhere sent dead_gone";
    assert_eq!(books.credits("user-1", columns).await, [1, 0, 2]);
}

#[tokio::test]
async fn a_credit_that_must_have_been_left_was_spent_elsewhere_though_nobody_said_so() {
    let books = Books::new().await;
    for at in [-200, -100] {
        books.popup("user-1", "accept", at).await;
    }
    books.sends(-190, 5).await;
    books.sent_event(5, -188).await;
    let id = books.dies(-60).await;
    assert_eq!(books.which(id).await, "spent_elsewhere likely");
    books.popup("user-1", "reject", -150).await;
    assert_eq!(books.which(id).await, "spent_elsewhere possible");
}

#[tokio::test]
async fn the_balance_begins_anew_after_a_43101_that_no_refusal_explains() {
    let books = Books::new().await;
    for at in [-300, -290, -280] {
        books.popup("user-1", "accept", at).await;
    }
    books.apply(false).await;
    assert_eq!(books.credits("user-1", "balance").await, [3]);
    books.sends(-270, 1).await;
    books.sent_event(99, -260).await;
    books.apply(false).await;
    assert_eq!(books.credits("user-1", "balance").await, [1]);
    books.dies(-200).await;
    assert_eq!(books.credits("user-1", "balance").await, [0]);
    books.popup("user-1", "accept", -100).await;
    books.apply(false).await;
    assert_eq!(books.credits("user-1", "balance accepted").await, [1, 4]);
    books.change("user-1", "reject", -90).await;
    let refused = books.row(-95, json!({})).await;
    books.end(Outcome::dead(refused, 43101, "gone"), -80).await;
    books.apply(false).await;
    // Whether the credit outlives the refusal WeChat does not say.
    assert_eq!(books.credits("user-1", "balance").await, [1]);
    assert_eq!(books.faults().await, [""; 0]);
}

/// A doubtful send of ours may have spent the credit: nobody else is blamed for it.
#[tokio::test]
async fn a_doubt_of_our_own_is_not_blamed_on_others() {
    let books = Books::new().await;
    books.popup("user-1", "accept", -100).await;
    let doubtful = books.row(-98, json!({"on_doubt": "hold"})).await;
    let lease = books.queue.lease_and_start("worker/1").await;
    books
        .queue
        .settle(&lease, &[Outcome::doubt(doubtful)])
        .await;
    let cancel = "select cancel_notification($1)";
    let ended: String = sqlx::query_scalar(cancel)
        .bind(doubtful)
        .fetch_one(books.queue.pool())
        .await
        .unwrap();
    assert_eq!(ended, "unresolved");
    books.date(doubtful, -90).await;
    let id = books.dies(-60).await;
    assert_eq!(books.which(id).await, "used_up likely");
}

#[tokio::test]
async fn books_that_are_broken_on_purpose_are_seen() {
    let books = Books::new().await;
    let lost = books
        .row(-50, json!({"send_at": kernel::in_secs(3600)}))
        .await;
    books.popup("user-1", "accept", -51).await;
    books.apply(false).await;
    let sent = books.sends(-40, 4).await;
    let dead = books.dies(-30).await;
    let redrive = "select redrive_notification($1)";
    let redriven: i64 = sqlx::query_scalar(redrive)
        .bind(dead)
        .fetch_one(books.queue.pool())
        .await
        .unwrap();
    assert_eq!(books.faults().await, [""; 0]);

    for (broken, mended, fault) in [
        (
            format!("create table kept as select * from pending_notifications where id = {lost}; alter table pending_notifications disable trigger user; delete from pending_notifications where id = {lost}; alter table pending_notifications enable trigger user"),
            "alter table pending_notifications disable trigger user; insert into pending_notifications overriding system value select * from kept; alter table pending_notifications enable trigger user; drop table kept".to_owned(),
            vec!["lost: the row that claims an accept exists nowhere"],
        ),
        (
            format!("create table kept as select * from pending_notifications where id = {redriven}; alter table pending_notifications disable trigger user; delete from pending_notifications where id = {redriven}; alter table pending_notifications enable trigger user"),
            "alter table pending_notifications disable trigger user; insert into pending_notifications overriding system value select * from kept; alter table pending_notifications enable trigger user; drop table kept".to_owned(),
            vec!["lost: the row it was redriven as exists nowhere", "unbalanced: 3 accepted, 2 accounted for"],
        ),
        (
            format!("insert into notification_history select * from notification_history where id = {sent}"),
            format!("delete from notification_history where id = {sent} and ctid = (select max(ctid) from notification_history where id = {sent})"),
            vec!["counted twice: it ended more than once"],
        ),
        (
            format!("update notification_history set msgid = 4 where id = {dead}"),
            format!("update notification_history set msgid = null where id = {dead}"),
            vec!["counted twice: two rows own the message with msgid 4"],
        ),
        (
            format!("update notification_history set id = {lost} where id = {sent}"),
            format!("update notification_history set id = {sent} where id = {lost}"),
            vec!["counted twice: it is pending and final"],
        ),
        (
            format!("update wechat_events set notification_id = {sent}; update notification_history set openid = 'x' where id = {sent}"),
            format!("update notification_history set openid = 'user-1' where id = {sent}; update wechat_events set notification_id = {lost}"),
            vec!["misclaimed: an accept is claimed by a row of another user or template"],
        ),
    ] {
        sqlx::raw_sql(AssertSqlSafe(broken.clone()))
            .execute(books.queue.pool())
            .await
            .unwrap();
        assert_eq!(books.faults().await, fault, "{broken}");
        sqlx::raw_sql(AssertSqlSafe(mended))
            .execute(books.queue.pool())
            .await
            .unwrap();
        assert_eq!(books.faults().await, [""; 0], "mended: {broken}");
    }
}

#[tokio::test]
async fn one_users_credits_are_found_by_indexes_alone() {
    let books = Books::new().await;
    books.queue.enqueue_many(APP, 20_000).await;
    books
        .queue
        .force(
            "with gone as (delete from pending_notifications where id % 4 > 0 returning *)
             insert into notification_history (id, appid, status, kind, openid, template_id, data, miniprogram_state, lang, held, lane, on_doubt,
                 attempts_max, created_at, producer, attempts, settled_by, finished_at)
             select id, appid, 'sent', kind, openid, template_id, data, miniprogram_state, lang, held, lane, on_doubt, attempts_max, created_at,
                 producer, 1, 'reply', clock_timestamp() from gone",
        )
        .await;
    kernel::run(
        books.queue.pool(),
        "insert into wechat_events (appid, event, openid, template_id, occurred_at, answer)
         select 'wxapp-one', 'subscribe_msg_popup_event', 'user-' || n, 'template-1', now(), 'accept' from generate_series(1, 20000) n",
    )
    .await;
    kernel::run(books.queue.pool(), "analyze").await;
    for view in ["notification_credits", "notification_credit_faults"] {
        let statement =
            format!("explain select * from {view} where appid = '{APP}' and openid = 'user-77'");
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_all(books.queue.pool())
            .await
            .unwrap();
        let scans = [
            "pending_notifications",
            "notification_history",
            "wechat_events",
        ];
        let seen: Vec<_> = plan
            .iter()
            .filter(|line| {
                scans
                    .iter()
                    .any(|table| line.contains(&format!("Seq Scan on {table}")))
            })
            // A partition without rows is read as a whole.
            .filter(|line| !line.contains("rows=1 "))
            .collect();
        assert!(seen.is_empty(), "{view}: {plan:#?}");
    }
}

/// The books of everybody, added up from all entries at once.
const COUNTED_AT_ONCE: &str = "
    select e.appid, e.openid, e.template_id, sum(e.accepts) as accepted,
           count(*) filter (where fate = 'unclaimed') as unclaimed, count(*) filter (where fate = 'held') as held,
           count(*) filter (where fate = 'pending') as pending, count(*) filter (where fate = 'in_doubt') as in_doubt,
           count(*) filter (where fate = 'sent') as sent, count(*) filter (where fate = 'unresolved') as unresolved,
           count(*) filter (where fate = 'dead_gone') as dead_gone, count(*) filter (where fate = 'dead_kept') as dead_kept,
           count(*) filter (where fate = 'dead_unknown') as dead_unknown, count(*) filter (where fate = 'unused') as unused,
           count(*) filter (where fate = 'elsewhere') as sent_elsewhere, max(e.finished_at) as last_finished_at
    from notification_credit_entries e group by 1, 2, 3";

const COLUMNS: &str = "appid, openid, template_id, accepted, unclaimed, held, pending, in_doubt, sent, unresolved, dead_gone, dead_kept, \
     dead_unknown, unused, sent_elsewhere, last_finished_at";

#[tokio::test]
async fn the_books_are_the_count_over_all_entries_after_any_series_of_steps() {
    for seed in 0..3 {
        let books = Books::new().await;
        let mut random = StdRng::seed_from_u64(seed);
        for step in 0..32 {
            take_a_step(&books, &mut random, i64::from(step)).await;
            if step % 8 == 7 {
                let view = format!("select {COLUMNS} from notification_credits order by openid");
                let count = format!("select {COLUMNS} from ({COUNTED_AT_ONCE}) c order by openid");
                let (view, count) = (books.json(&view).await, books.json(&count).await);
                assert_eq!(view, count, "seed {seed}, step {step}");
                assert_eq!(books.faults().await, [""; 0], "seed {seed}, step {step}");
            }
        }
    }
}

/// One thing that happens to a queue of five users.
async fn take_a_step(books: &Books, random: &mut StdRng, step: i64) {
    let queue = &books.queue;
    let openid = format!("user-{}", random.random_range(1..=5));
    let any_dead = "select h.id from notification_history h where h.status = 'dead'
        and not exists (select 1 from notification_redrives d where d.redriven_id = h.id) order by 1 limit 1";
    match random.random_range(0..10) {
        0..=2 => {
            let kind = ["one_time", "one_time", "long_term"][random.random_range(0..3)];
            let row = json!({"openid": openid, "kind": kind, "held": kind == "one_time" && random.random_bool(0.2)});
            books.row(step - 50, row).await;
        }
        3 => drop(books.popup(&openid, "accept", step - 50).await),
        4 => drop(books.popup(&openid, "reject", step - 50).await),
        5 => books.sent_event(7_000_000 + step, step - 50).await,
        6 => books.apply(random.random_bool(0.5)).await,
        7 => {
            let redrive = format!("select redrive_notification(id) from ({any_dead}) f");
            kernel::run(queue.pool(), &redrive).await;
        }
        8 => {
            let cancel = "select cancel_notification(id) from (select id from pending_notifications where in_doubt_since is null order by id limit 1) p";
            kernel::run(queue.pool(), cancel).await;
        }
        _ => {
            let Some(lease) = queue.lease("worker/1").await else {
                return;
            };
            kernel::start(queue.pool(), &lease).await;
            let outcomes: Vec<_> = lease
                .ids
                .iter()
                .map(|&id| match random.random_range(0..5) {
                    0 => Outcome::dead(id, 43101, "gone"),
                    1 => Outcome::dead(id, 40003, "kept"),
                    2 => Outcome::doubt(id),
                    _ => Outcome::sent(id),
                })
                .collect();
            queue.settle(&lease, &outcomes).await;
        }
    }
}

#[tokio::test]
async fn a_row_without_a_receiver_stands_in_a_line_of_its_template() {
    let books = Books::new().await;
    let id = books.row(-50, json!({})).await;
    kernel::run(
        books.queue.pool(),
        &format!("select cancel_notification({id})"),
    )
    .await;
    books
        .queue
        .force("update notification_history set openid = null")
        .await;
    let lines = books
        .json("select openid, accepted, unused from notification_credits")
        .await;
    assert_eq!(lines, json!([{"openid": null, "accepted": 1, "unused": 1}]));
}

#[tokio::test]
async fn the_first_hundred_books_are_read_without_the_rest_of_the_history() {
    let books = Books::new().await;
    books.queue.enqueue_many(APP, 1000).await;
    books
        .queue
        .force(
            "with gone as (delete from pending_notifications returning *)
             insert into notification_history (id, appid, status, kind, openid, template_id, data, miniprogram_state, lang, held, lane, on_doubt,
                 attempts_max, created_at, producer, attempts, settled_by, finished_at)
             select n * 1000000 + id, appid, 'sent', kind, openid || '-' || n, template_id, data, miniprogram_state, lang, held, lane, on_doubt,
                 attempts_max, created_at, producer, 1, 'reply', clock_timestamp() from gone cross join generate_series(1, 60) n",
        )
        .await;
    kernel::run(books.queue.pool(), "vacuum analyze notification_history").await;
    let statement = "explain (analyze, format json) select * from notification_credits limit 100";
    let plan: Value = sqlx::query_scalar(statement)
        .fetch_one(books.queue.pool())
        .await
        .unwrap();
    let read = rows_read(&plan[0]["Plan"]);
    assert!((100.0..2000.0).contains(&read), "{read} rows: {plan:#}");
}

/// How many rows of the history a plan has read.
fn rows_read(plan: &Value) -> f64 {
    let is_history = plan["Relation Name"]
        .as_str()
        .is_some_and(|name| name.starts_with("notification_history"));
    let number = |key: &str| plan[key].as_f64().unwrap_or(0.0);
    let own = (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops");
    let parts = plan["Plans"].as_array().into_iter().flatten();
    parts.map(rows_read).sum::<f64>() + if is_history { own } else { 0.0 }
}

#[tokio::test]
async fn an_answer_nobody_knows_is_kept_and_means_nothing() {
    let books = Books::new().await;
    let id = books.row(-60, json!({})).await;
    books.popup("user-1", "ban", -30).await;
    books.popup("user-1", "acceptWithAudio", -61).await;
    books.apply(false).await;
    assert_eq!(books.queue.state(id).await, "pending");
    let columns = "accepted unclaimed pending";
    assert_eq!(books.credits("user-1", columns).await, [1, 0, 1]);
}

#[tokio::test]
async fn the_command_line_shows_one_users_books() {
    let books = Books::new().await;
    books.row(-50, json!({"held": true})).await;
    books.popup("user-1", "accept", -51).await;
    books.popup("user-1", "accept", -20).await;
    books.apply(false).await;
    let url = books.queue.url().to_owned();
    let run = |openid: &'static str, flags: &'static [&'static str]| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            let mut command = crate::harness::wxnotify();
            command.args(["credits", APP, openid]).args(flags);
            command.env("DATABASE_URL", url).output().unwrap()
        })
    };
    let output = run("user-1", &["--json"]).await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let credits = &report["credits"][0];
    assert_eq!(
        [&credits["balance"], &credits["held"], &credits["unclaimed"]],
        [2, 1, 1],
        "{report}"
    );
    assert_eq!(report["faults"], json!([]));
    kernel::run(
        books.queue.pool(),
        "update wechat_events set notification_id = 999999 where notification_id is null",
    )
    .await;
    let text = run("user-1", &[]).await.unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("template-1") && text.contains("lost"),
        "{text}"
    );
    let nobody = run("nobody", &[]).await.unwrap();
    assert_eq!(nobody.status.code(), Some(3));
}
