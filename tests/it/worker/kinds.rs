//! Device messages and service cards, from row to WeChat and back.

use serde_json::{Value, json};
use wxnotify::simulate::{
    Action, CardCodeSpec, CardStateSpec, CardTypeSpec, DEVICE_SEND_PATH, GET_CARD_PATH, Rule,
    SET_CARD_EXT_PATH, SET_CARD_PATH, TemplateSpec,
};

use super::{APP, HASTY, Scene, Seen};
use crate::harness::eventually;

const DEVICE_TEMPLATE: &str = "template-device";
const CODE: &str = "4200000000202611220000000001";

fn device(columns: Value) -> Value {
    let mut row = json!({
        "kind": "device", "template_id": DEVICE_TEMPLATE, "data": {"enum_string1": "客厅"},
        "extra": {"sn": "SN-0001_A", "modelId": "model-1"},
    });
    merge(&mut row, columns);
    row
}

/// A row that brings the card of [`CODE`] into a state.
fn card(status: i64, columns: Value) -> Value {
    let mut row = json!({
        "kind": "service_card", "template_id": "1003",
        "data": {"cur_status": status, "wxa_path_query": "pages/order?id=42"},
        "extra": {"notify_code": CODE},
    });
    merge(&mut row, columns);
    row
}

fn merge(row: &mut Value, columns: Value) {
    for (name, value) in columns.as_object().unwrap() {
        row[name] = value.clone();
    }
}

impl Scene {
    /// Nobody is subscribed to any device, and only one template is a device's.
    async fn with_a_device() -> Self {
        let scene = Self::without_credits().await;
        let template = TemplateSpec::new(DEVICE_TEMPLATE, ["enum_string1"]);
        let template = template
            .with_enum("enum_string1", ["客厅", "厨房"])
            .device();
        scene.wechat.add_template(APP, template);
        scene
    }

    fn calls_of(&self, path: &str) -> usize {
        let ledger = self.ledger();
        ledger.calls.iter().filter(|call| call.path == path).count()
    }

    fn card_status(&self) -> Option<i64> {
        self.wechat.card(APP, CODE)?.cur_status
    }

    /// Ends `dead` without a second call.
    async fn refused_device(&self, row: Value) -> Seen {
        let id = self.insert("oUser", row).await;
        let _worker = self.start(&[]);
        let seen = self.until(id, "dead").await;
        assert_eq!(self.calls_of(DEVICE_SEND_PATH), 1);
        seen
    }
}

#[tokio::test]
async fn device_messages_are_sent_again_and_again_without_a_credit() {
    let scene = Scene::with_a_device().await;
    scene
        .wechat
        .subscribe_device(APP, "oUser", DEVICE_TEMPLATE, "SN-0001_A", "model-1");
    let _worker = scene.start(&[]);
    for _ in 0..3 {
        let id = scene.insert("oUser", device(json!({}))).await;
        let row = scene.until(id, "sent").await;
        assert_eq!((row.msgid, row.attempts), (None, 1));
    }
    assert_eq!(scene.calls_of(DEVICE_SEND_PATH), 3);
    let credits = "select count(*) from notification_credits";
    assert_eq!(scene.count(credits).await, 0);
}

#[tokio::test]
async fn a_device_other_than_the_subscribed_one_is_refused() {
    let scene = Scene::with_a_device().await;
    scene
        .wechat
        .subscribe_device(APP, "oUser", DEVICE_TEMPLATE, "SN-0002", "model-1");
    let row = scene.refused_device(device(json!({}))).await;
    assert_eq!(
        (row.errcode, row.credit.as_deref()),
        (Some(9_800_006), Some("kept"))
    );
}

#[tokio::test]
async fn what_wechat_finds_wrong_with_a_device_dead_letters_the_row() {
    for errcode in [9_800_001, 9_800_002, 9_800_003, 40032] {
        let scene = Scene::with_a_device().await;
        scene
            .wechat
            .subscribe_device(APP, "oUser", DEVICE_TEMPLATE, "SN-0001_A", "model-1");
        scene
            .wechat
            .script(Rule::new(Action::errcode(errcode)).path(DEVICE_SEND_PATH));
        let row = scene.refused_device(device(json!({}))).await;
        assert_eq!(
            (row.errcode, row.credit.as_deref()),
            (Some(errcode), Some("kept"))
        );
    }
}

#[tokio::test]
async fn a_lost_reply_of_a_device_message_is_settled_by_policy() {
    let scene = Scene::with_a_device().await;
    scene
        .wechat
        .subscribe_device(APP, "oUser", DEVICE_TEMPLATE, "SN-0001_A", "model-1");
    scene.wechat.script(
        Rule::new(Action::hang_after_credit())
            .path(DEVICE_SEND_PATH)
            .once(),
    );
    let id = scene.insert("oUser", device(json!({}))).await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "sent").await;
    assert_eq!((row.may_be_doubled, row.attempts), (Some(true), 2));
}

#[tokio::test]
async fn a_card_is_activated_with_its_payment_and_then_updated() {
    let scene = Scene::new().await;
    let paid = CardCodeSpec {
        openid: "oUser".to_owned(),
        notify_type: 2001,
        notify_code: CODE.to_owned(),
        pay_amount: Some(3600),
        pay_time: Some(1_795_330_860),
    };
    scene.wechat.issue_card_code(APP, paid);
    let activation = card(
        1,
        json!({
            "template_id": "2001",
            "extra": {"notify_code": CODE, "check_json": {"pay_amount": 3600, "pay_time": 1_795_330_860}},
        }),
    );
    let id = scene.insert("oUser", activation).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "sent").await;
    assert_eq!((row.msgid, row.errcode), (None, Some(0)));
    let update = scene
        .insert("oUser", card(2, json!({ "template_id": "2001" })))
        .await;
    scene.until(update, "sent").await;
    let shown = scene.wechat.card(APP, CODE).unwrap();
    assert_eq!(shown.cur_status, Some(2));
    let content: Value = serde_json::from_str(&shown.content_json).unwrap();
    assert_eq!(
        content,
        json!({"cur_status": 2, "wxa_path_query": "pages/order?id=42"})
    );
    assert_eq!(
        (scene.calls_of(SET_CARD_PATH), scene.calls_of(GET_CARD_PATH)),
        (2, 0)
    );
}

#[tokio::test]
async fn figures_that_are_not_the_payments_are_refused() {
    let scene = Scene::new().await;
    let paid = CardCodeSpec {
        openid: "oUser".to_owned(),
        notify_type: 2001,
        notify_code: CODE.to_owned(),
        pay_amount: Some(3600),
        pay_time: Some(1_795_330_860),
    };
    scene.wechat.issue_card_code(APP, paid);
    let _worker = scene.start(&[]);
    for (extra, errcode) in [
        (json!({"notify_code": CODE}), 85433),
        (
            json!({"notify_code": CODE, "check_json": {"pay_amount": 1, "pay_time": 2}}),
            85438,
        ),
    ] {
        let row = card(1, json!({ "template_id": "2001", "extra": extra }));
        let id = scene.insert("oUser", row).await;
        assert_eq!(scene.until(id, "dead").await.errcode, Some(errcode));
    }
}

#[tokio::test]
async fn ext_fields_go_to_their_own_call() {
    let scene = Scene::new().await;
    let _worker = scene.start(&[]);
    let first = scene.insert("oUser", card(1, json!({}))).await;
    scene.until(first, "sent").await;
    let ext = json!({
        "data": {}, "extra": {"notify_code": CODE, "ext_json": {"store_info": {"name": "杯"}}},
    });
    let id = scene.insert("oUser", card(1, ext)).await;
    scene.until(id, "sent").await;
    let shown = scene.wechat.card(APP, CODE).unwrap();
    let sent: Value = serde_json::from_str(&shown.ext_json).unwrap();
    assert_eq!(sent, json!({"store_info": {"name": "杯"}}));
    assert_eq!(scene.calls_of(SET_CARD_EXT_PATH), 1);
}

#[tokio::test]
async fn a_state_that_was_pushed_before_counts_as_sent() {
    let scene = Scene::new().await;
    let _worker = scene.start(&[]);
    for _ in 0..2 {
        let id = scene.insert("oUser", card(1, json!({}))).await;
        scene.until(id, "sent").await;
    }
    assert_eq!(scene.calls_of(SET_CARD_PATH), 2);
}

#[tokio::test]
async fn an_illegal_state_is_sent_when_the_card_is_in_a_later_one() {
    let scene = Scene::new().await;
    let _worker = scene.start(&[]);
    let later = scene.insert("oUser", card(5, json!({}))).await;
    scene.until(later, "sent").await;
    let id = scene.insert("oUser", card(2, json!({}))).await;
    let row = scene.until(id, "sent").await;
    assert_eq!(row.settled_by.as_deref(), Some("read_back"));
    assert_eq!((row.errcode, row.attempts), (Some(85439), 1));
    assert_eq!(scene.card_status(), Some(5));
}

#[tokio::test]
async fn an_illegal_state_is_dead_when_the_card_is_in_an_earlier_one() {
    let scene = Scene::new().await;
    let state = |status, activates, after: &[i64]| CardStateSpec {
        status,
        activates,
        after: after.to_vec(),
        is_final: false,
    };
    scene.wechat.add_card_type(
        APP,
        CardTypeSpec {
            notify_type: 1003,
            states: vec![
                state(1, true, &[]),
                state(2, false, &[1]),
                state(3, false, &[2]),
            ],
        },
    );
    let _worker = scene.start(&[]);
    let first = scene.insert("oUser", card(1, json!({}))).await;
    scene.until(first, "sent").await;
    let id = scene.insert("oUser", card(3, json!({}))).await;
    let row = scene.until(id, "dead").await;
    assert_eq!((row.errcode, row.attempts), (Some(85439), 1));
    assert_eq!(scene.card_status(), Some(1));
}

#[tokio::test]
async fn an_illegal_state_whose_card_cannot_be_read_is_tried_again() {
    let scene = Scene::new().await;
    scene.wechat.script(
        Rule::new(Action::http_status(502))
            .path(GET_CARD_PATH)
            .once(),
    );
    let _worker = scene.start(&[]);
    let later = scene.insert("oUser", card(5, json!({}))).await;
    scene.until(later, "sent").await;
    let id = scene.insert("oUser", card(2, json!({}))).await;
    let row = scene.until(id, "sent").await;
    assert_eq!(
        (row.settled_by.as_deref(), row.attempts),
        (Some("read_back"), 2)
    );
}

#[tokio::test]
async fn a_lost_reply_of_a_card_is_settled_by_reading_its_state_back() {
    let scene = Scene::new().await;
    scene.wechat.script(
        Rule::new(Action::hang_after_credit())
            .path(SET_CARD_PATH)
            .once(),
    );
    let id = scene.insert("oUser", card(1, json!({}))).await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "sent").await;
    assert_eq!(row.settled_by.as_deref(), Some("read_back"));
    assert_eq!((row.attempts, row.may_be_doubled), (1, Some(false)));
    assert!(row.reason.unwrap().contains("WeChat shows the card"));
    assert_eq!(
        (scene.calls_of(SET_CARD_PATH), scene.calls_of(GET_CARD_PATH)),
        (1, 1)
    );
}

#[tokio::test]
async fn a_lost_request_of_a_card_is_sent_again_and_was_no_doubt() {
    let scene = Scene::new().await;
    scene.wechat.script(
        Rule::new(Action::reset_before_credit())
            .path(SET_CARD_PATH)
            .once(),
    );
    let id = scene.insert("oUser", card(1, json!({}))).await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "sent").await;
    assert_eq!(row.settled_by.as_deref(), Some("reply"));
    assert_eq!(
        (row.attempts, row.doubted, row.may_be_doubled),
        (2, false, Some(false))
    );
    assert_eq!(
        (scene.calls_of(SET_CARD_PATH), scene.calls_of(GET_CARD_PATH)),
        (2, 1)
    );
}

#[tokio::test]
async fn a_card_on_hold_is_settled_by_asking_too() {
    for (lost, calls) in [
        (Action::hang_after_credit(), 1),
        (Action::hang_before_credit(), 2),
    ] {
        let scene = Scene::new().await;
        scene
            .wechat
            .script(Rule::new(lost).path(SET_CARD_PATH).once());
        let id = scene
            .insert(
                "oUser",
                card(1, json!({ "on_doubt": "hold", "attempts_max": 2 })),
            )
            .await;
        let _worker = scene.start(&HASTY);
        let row = scene.until(id, "sent").await;
        assert_eq!(
            (scene.calls_of(SET_CARD_PATH), scene.card_status()),
            (calls, Some(1)),
            "{row:?}"
        );
    }
}

/// The last attempt's reply is lost: asking is no attempt.
#[tokio::test]
async fn a_card_without_attempts_left_is_still_asked_for() {
    let scene = Scene::new().await;
    scene.wechat.script(
        Rule::new(Action::hang_after_credit())
            .path(SET_CARD_PATH)
            .once(),
    );
    let id = scene
        .insert("oUser", card(1, json!({ "attempts_max": 1 })))
        .await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "sent").await;
    assert_eq!(row.settled_by.as_deref(), Some("read_back"));
}

#[tokio::test]
async fn a_card_that_did_not_arrive_on_its_last_attempt_is_dead_not_unresolved() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::new(Action::hang_before_credit()).path(SET_CARD_PATH));
    let id = scene
        .insert("oUser", card(1, json!({ "attempts_max": 1 })))
        .await;
    let _worker = scene.start(&HASTY);
    let row = scene.until(id, "dead").await;
    assert!(!row.doubted, "{row:?}");
    assert_eq!(scene.calls_of(SET_CARD_PATH), 1);
}

#[tokio::test]
async fn a_card_that_cannot_be_read_stays_in_doubt_and_is_not_sent_again() {
    let scene = Scene::new().await;
    scene.wechat.script(
        Rule::new(Action::hang_before_credit())
            .path(SET_CARD_PATH)
            .once(),
    );
    scene.wechat.script(
        Rule::new(Action::errcode(85431))
            .path(GET_CARD_PATH)
            .times(2),
    );
    let id = scene.insert("oUser", card(1, json!({}))).await;
    let _worker = scene.start(&HASTY);
    for asked in [1, 2] {
        eventually("WeChat was asked and did not say", async || {
            let asks = "select count(*) from notification_attempts where reason like '%could not be read back%'";
            (scene.count(asks).await == asked).then_some(())
        })
        .await;
        assert_eq!(scene.status(id).await, "in_doubt");
        assert_eq!(scene.calls_of(SET_CARD_PATH), 1);
        scene
            .as_worker(
                "update pending_notifications set due = clock_timestamp(); select wxnotify_ring()",
            )
            .await;
    }
    scene.until(id, "sent").await;
    assert_eq!(scene.calls_of(SET_CARD_PATH), 2);
}

#[tokio::test]
async fn what_a_killed_worker_sent_of_a_card_is_asked_for_after_the_rescue() {
    let scene = Scene::new().await;
    scene.wechat.script(
        Rule::new(Action::hang_after_credit())
            .path(SET_CARD_PATH)
            .once(),
    );
    let id = scene
        .insert("oUser", card(1, json!({ "on_doubt": "hold" })))
        .await;
    let mut killed = scene.spawn(&[]);
    scene.until_sends(1).await;
    eventually("the card has its state", async || scene.card_status()).await;
    killed.kill().await;
    scene.lapse_leases().await;
    let _worker = scene.start(&[("WXNOTIFY_DOUBT_WINDOW_SECS", "1")]);
    let row = scene.until(id, "sent").await;
    assert_eq!(row.settled_by.as_deref(), Some("read_back"));
    assert_eq!(scene.calls_of(SET_CARD_PATH), 1);
}

#[tokio::test]
async fn an_unknown_code_is_tried_again_and_then_dead() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::new(Action::errcode(85437)).path(SET_CARD_PATH));
    let id = scene
        .insert("oUser", card(1, json!({ "attempts_max": 20 })))
        .await;
    let _worker = scene.start(&[]);
    for attempt in 1..=5 {
        eventually("the attempt is recorded", async || {
            (scene.seen(id).await.attempts == attempt).then_some(())
        })
        .await;
        let wait =
            "select extract(epoch from due - last_attempt_at)::bigint from pending_notifications";
        let wait = scene.count(wait).await;
        assert!(wait >= 59, "it waits {wait} s");
        scene.hasten().await;
    }
    let row = scene.until(id, "dead").await;
    assert_eq!((row.errcode, row.attempts), (Some(85437), 6));
}

#[tokio::test]
async fn a_locked_code_waits_a_little_and_no_attempt_is_counted() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::new(Action::errcode(85449)).path(SET_CARD_PATH).once());
    let id = scene.insert("oUser", card(1, json!({}))).await;
    let _worker = scene.start(&[]);
    assert_eq!(scene.until(id, "sent").await.attempts, 1);
}

#[tokio::test]
async fn a_card_that_is_not_admitted_pauses_its_kind_alone() {
    for errcode in [85434, 85461, 85462] {
        let scene = Scene::new().await;
        scene.wechat.script(
            Rule::new(Action::errcode(errcode))
                .path(SET_CARD_PATH)
                .template_id("1003"),
        );
        let id = scene.insert("oUser", card(1, json!({}))).await;
        let _worker = scene.start(&[]);
        let row = scene.until(id, "paused").await;
        assert_eq!((row.errcode, row.attempts), (Some(errcode), 0));
        let elsewhere = json!({ "template_id": "1004", "extra": {"notify_code": "another"} });
        let elsewhere = scene.insert("oUser", card(1, elsewhere)).await;
        scene.until(elsewhere, "sent").await;
    }
}

#[tokio::test]
async fn a_failure_event_with_a_prefixed_code_is_the_receipt_of_its_state() {
    let scene = Scene::new().await;
    let worker = scene.start(&[]);
    let mut ids = Vec::new();
    for status in [1, 2] {
        let id = scene.insert("oUser", card(status, json!({}))).await;
        scene.until(id, "sent").await;
        ids.push(id);
    }
    let event = json!({
        "ToUserName": "gh_0123456789ab", "FromUserName": "oWeChat", "CreateTime": chrono::Utc::now().timestamp(),
        "MsgType": "event", "Event": "notify_service_msg_send_result", "openid": "oUser", "notify_code": format!("p1.{CODE}"),
        "notify_type": 1003, "card_status": 1, "fail_ret": -1004, "fail_msg": "user refused",
    });
    for expected in [1, 0] {
        let stored: Option<i32> = sqlx::query_scalar("select wxnotify_ingest_event($1, $2)")
            .bind(APP)
            .bind(&event)
            .fetch_one(scene.pool())
            .await
            .unwrap();
        assert_eq!(stored, Some(expected));
    }
    let (code, status): (Option<i64>, Option<String>) =
        eventually("the failure is recorded", async || {
            sqlx::query_as("select receipt_code, receipt_status from notifications where id = $1 and receipt_at is not null")
                .bind(ids[0])
                .fetch_optional(scene.pool())
                .await
                .unwrap()
        })
        .await;
    assert_eq!(
        (code, status.as_deref()),
        (Some(-1004), Some("user refused"))
    );
    let row = scene.seen(ids[0]).await;
    assert!(row.reason.unwrap().contains("push failed: user refused"));
    assert_eq!(
        scene
            .count("select count(*) from notification_history where receipt_at is not null")
            .await,
        1
    );
    // It says nothing about whether sent events reach us.
    assert_eq!(
        scene
            .count("select count(first_receipt_at) from wechat_apps")
            .await,
        0
    );
    worker.stop().await;
}
