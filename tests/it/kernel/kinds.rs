//! What an INSERT may hold for login codes, device messages and service cards.

use serde_json::{Value, json};
use wxnotify::notification::Kind;

use super::{Queue, insert, run};

/// Stands in for what must not reach a database log.
const SECRET: &str = "oSecretReceiver";

/// Inserts a row that must be refused; returns the error's words, all of them.
async fn refusal(queue: &Queue, mut row: Value) -> String {
    let columns = row.as_object_mut().unwrap();
    columns.entry("openid").or_insert(json!(SECRET));
    let shown = row.to_string();
    let Err(error) = insert(queue.pool(), row).await else {
        panic!("accepted: {shown}");
    };
    let error = error.into_database_error().unwrap();
    let error = error.downcast::<sqlx::postgres::PgDatabaseError>();
    assert_eq!(error.code(), "23514", "{}", error.message());
    let words = [
        Some(error.message()),
        error.detail(),
        error.hint(),
        error.column(),
        error.r#where(),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

async fn is_refused(queue: &Queue, row: Value, rule: &str) {
    let words = refusal(queue, row.clone()).await;
    assert!(words.contains(rule), "{row}: {words} does not say {rule:?}");
    assert!(!words.contains(SECRET), "{words}");
}

#[tokio::test]
async fn a_login_code_stands_in_for_the_openid_alone() {
    let queue = Queue::new().await;
    let id = insert(
        queue.pool(),
        json!({"openid": null, "login_code": "0a3AbcdefGHIJ"}),
    )
    .await
    .unwrap();
    let row = queue.pending(id).await;
    assert_eq!(row.waiting_for.as_deref(), Some("login"));
    assert!(row.due.is_none(), "it waits for its receiver: {row:?}");
    for (row, rule) in [
        (json!({"openid": null}), "openid: a receiver"),
        (
            json!({"openid": null, "login_code": ""}),
            "login_code: must be",
        ),
        (
            json!({"openid": null, "login_code": "two codes"}),
            "login_code: must be",
        ),
        (
            json!({"openid": null, "login_code": "a".repeat(257)}),
            "login_code: must be",
        ),
        (json!({"login_code": "0aCode"}), "not both"),
        (
            json!({"openid": "", "login_code": "0aCode"}),
            "openid: a receiver",
        ),
    ] {
        is_refused(&queue, row, rule).await;
    }
}

#[tokio::test]
async fn what_a_restore_brings_along_of_an_exchange_is_kept() {
    let queue = Queue::new().await;
    let theirs = json!({"login_at": "2030-01-01", "login_until": "2030-01-01", "login_claims": 3, "login_unclear": 3});
    let plain = insert(queue.pool(), theirs.clone()).await.unwrap();
    let mut with_code = theirs;
    with_code["openid"] = Value::Null;
    with_code["login_code"] = json!("0aCode");
    let with_code = insert(queue.pool(), with_code).await.unwrap();
    let left: Vec<(i64, bool, i16, i16)> = sqlx::query_as(
        "select id, coalesce(login_until > now() + interval '1 hour', login_at is not null, false), login_claims, login_unclear
         from pending_notifications order by id",
    )
    .fetch_all(queue.pool())
    .await
    .unwrap();
    // Its code may have been used.
    assert_eq!(left, [(plain, false, 0, 0), (with_code, true, 3, 3)]);
}

#[tokio::test]
async fn a_row_without_receiver_is_never_leased_and_stops_nobody() {
    let queue = Queue::new().await;
    let waiting = json!({"openid": null, "login_code": "0aCode", "send_at": super::in_secs(-60), "expire_at": super::in_secs(3600)});
    queue.enqueue(waiting).await;
    let other = queue.enqueue(json!({})).await;
    assert_eq!(queue.lease("worker/1").await.unwrap().ids, [other]);
    queue
        .force("update pending_notifications set due = now() where openid is null")
        .await;
    assert!(queue.lease("worker/1").await.is_none());
}

#[tokio::test]
async fn a_reschedule_keeps_a_row_without_receiver_waiting() {
    let queue = Queue::new().await;
    let id = queue
        .enqueue(json!({"openid": null, "login_code": "0aCode"}))
        .await;
    for change in [
        "send_at = now() - interval '1 hour'",
        "expire_at = now() + interval '1 hour'",
        "expire_at = null",
    ] {
        run(
            queue.pool(),
            &format!("update pending_notifications set {change} where id = {id}"),
        )
        .await;
        let row = queue.pending(id).await;
        assert_eq!(row.waiting_for.as_deref(), Some("login"), "{change}");
        let in_an_hour = change.ends_with("'1 hour'") && change.starts_with("expire_at");
        assert_eq!(row.due.is_some(), in_an_hour, "{change}: {row:?}");
    }
}

#[tokio::test]
async fn a_device_message_names_its_device() {
    let queue = Queue::new().await;
    let device =
        |extra: Value| json!({"kind": "device", "data": {"enum_string1": "客厅"}, "extra": extra});
    for extra in [
        json!({"sn": "SN-0001_A", "modelId": "m"}),
        json!({"sn": "a".repeat(128), "modelId": "模型".repeat(64)}),
    ] {
        insert(queue.pool(), device(extra)).await.unwrap();
    }
    for (extra, rule) in [
        (Value::Null, "needs {\"sn\""),
        (json!([]), "needs {\"sn\""),
        (json!({"modelId": "m"}), "sn: the device"),
        (json!({"sn": 12, "modelId": "m"}), "sn: the device"),
        (json!({"sn": "", "modelId": "m"}), "sn: the device"),
        (
            json!({"sn": "SN 1", "modelId": "m"}),
            "letters, digits, _ and -",
        ),
        (
            json!({"sn": "序列号", "modelId": "m"}),
            "letters, digits, _ and -",
        ),
        (
            json!({"sn": "a".repeat(129), "modelId": "m"}),
            "129 bytes, at most 128",
        ),
        (json!({"sn": "SN"}), "modelId"),
        (json!({"sn": "SN", "modelId": ""}), "modelId"),
        (json!({"sn": "SN", "model_id": "m"}), "modelId"),
    ] {
        is_refused(&queue, device(extra), rule).await;
    }
    let mut free_text = device(json!({"sn": "SN", "modelId": "m"}));
    free_text["data"] = json!({"time1": "later"});
    is_refused(&queue, free_text, "24-hour").await;
}

/// A service card's row.
fn card(template: &str, data: Value, extra: Value) -> Value {
    json!({"kind": "service_card", "template_id": template, "data": data, "extra": extra})
}

fn card_state() -> Value {
    json!({"cur_status": 1, "wxa_path_query": "pages/o", "product_list": {"info_list": [{"product_name": "a name of any length\nit likes"}]}})
}

fn card_code() -> Value {
    json!({"notify_code": "4200000000202611220000000001"})
}

/// The code of a card that is checked against a payment.
fn paid(check: Value) -> Value {
    json!({"notify_code": "42", "check_json": check})
}

#[tokio::test]
async fn a_service_card_has_a_state_and_a_code() {
    let queue = Queue::new().await;
    let payment = json!({"pay_amount": 0, "pay_time": 1_795_330_860, "pay_channel": 1001});
    let store = json!({"notify_code": "42", "ext_json": {"store_info": {}}});
    for row in [
        card("2001", card_state(), card_code()),
        card("1003", card_state(), paid(payment)),
        card("2001", json!({}), store),
    ] {
        insert(queue.pool(), row).await.unwrap();
    }
}

#[tokio::test]
async fn a_held_service_card_needs_its_state_when_it_is_armed() {
    let queue = Queue::new().await;
    let mut held = card("2001", json!({}), card_code());
    held["held"] = json!(true);
    let held = insert(queue.pool(), held).await.unwrap();
    let armed = format!("update pending_notifications set held = false where id = {held}");
    let armed = sqlx::raw_sql(sqlx::AssertSqlSafe(armed))
        .execute(queue.pool())
        .await;
    assert!(armed.unwrap_err().to_string().contains("cur_status"));
}

#[tokio::test]
async fn the_template_of_a_service_card_is_its_number() {
    let queue = Queue::new().await;
    for template in ["TmplA", "02001"] {
        let row = card(template, card_state(), card_code());
        is_refused(&queue, row, "template_id: of a service card").await;
    }
}

#[tokio::test]
async fn the_code_of_a_service_card_is_text_without_spaces() {
    let queue = Queue::new().await;
    for (extra, rule) in [
        (Value::Null, "notify_code"),
        (json!({}), "notify_code"),
        (json!({"notify_code": 42}), "as text"),
        (json!({"notify_code": "a b"}), "without spaces"),
    ] {
        is_refused(&queue, card("2001", card_state(), extra), rule).await;
    }
}

#[tokio::test]
async fn the_state_of_a_service_card_is_a_whole_number_with_a_page() {
    let queue = Queue::new().await;
    let wide = json!({"cur_status": 1, "wxa_path_query": "pages/o", "x": "y".repeat(4096)});
    for (data, rule) in [
        (json!({}), "cur_status"),
        (
            json!({"cur_status": "1", "wxa_path_query": "p"}),
            "whole number",
        ),
        (
            json!({"cur_status": 1.5, "wxa_path_query": "p"}),
            "whole number",
        ),
        (json!({"cur_status": 1}), "wxa_path_query"),
        (
            json!({"cur_status": 1, "wxa_path_query": ""}),
            "wxa_path_query",
        ),
        (json!({"cur_status": 1, "wxa_path_query": "/p"}), "slash"),
        (wide, "at most 4096"),
    ] {
        is_refused(&queue, card("2001", data, card_code()), rule).await;
    }
}

#[tokio::test]
async fn the_payment_of_a_service_card_has_an_amount_and_a_time() {
    let queue = Queue::new().await;
    let most = json!({"pay_amount": 4_294_967_296_u64, "pay_time": 1});
    for (check, rule) in [
        (json!("{}"), "not a string"),
        (json!({"pay_time": 1}), "pay_amount"),
        (json!({"pay_amount": 1}), "pay_time"),
        (json!({"pay_amount": "1", "pay_time": 1}), "pay_amount"),
        (most, "4294967295"),
    ] {
        is_refused(&queue, card("2001", card_state(), paid(check)), rule).await;
    }
}

#[tokio::test]
async fn a_state_and_what_stands_beside_it_are_two_service_cards() {
    let queue = Queue::new().await;
    let text = json!({"notify_code": "42", "ext_json": "{}"});
    is_refused(&queue, card("2001", json!({}), text), "not a string").await;
    let both = json!({"notify_code": "42", "ext_json": {}});
    is_refused(&queue, card("2001", card_state(), both), "two rows").await;
}

/// Its state is in doubt whatever on_doubt says, and asking for it is leased like a send.
#[tokio::test]
async fn a_doubtful_card_is_leased_to_be_asked_for_though_on_hold_and_out_of_attempts() {
    let queue = Queue::new().await;
    let row = |extra: Value, data: Value| json!({"kind": "service_card", "template_id": "2001", "data": data, "extra": extra, "on_doubt": "hold", "attempts_max": 1});
    let state = row(
        json!({"notify_code": "42"}),
        json!({"cur_status": 1, "wxa_path_query": "p"}),
    );
    let mut ext = row(json!({"notify_code": "43", "ext_json": {}}), json!({}));
    ext["openid"] = json!("user-2");
    let state = queue.enqueue(state).await;
    let ext = queue.enqueue(ext).await;
    let lease = queue.lease_and_start("worker/1").await;
    queue
        .settle(
            &lease,
            &[super::Outcome::doubt(state), super::Outcome::doubt(ext)],
        )
        .await;
    let soon =
        "select count(*)::int from pending_notifications where due < now() + interval '10 seconds'";
    let soon: i32 = sqlx::query_scalar(soon)
        .fetch_one(queue.pool())
        .await
        .unwrap();
    assert_eq!(soon, 1);
    queue.make_due(state).await;
    queue.make_due(ext).await;
    queue.tidy(super::APP).await;
    assert_eq!(queue.state(ext).await, "unresolved");
    let asked = queue.lease_and_start("worker/1").await;
    assert_eq!(asked.ids, [state]);

    queue
        .settle(&asked, &[super::Outcome::of(state, "not_found")])
        .await;
    let row = queue.pending(state).await;
    assert_eq!(
        (row.in_doubt_since, row.waiting_for, row.attempts),
        (None, None, 1)
    );
    assert_eq!(queue.leases().await, 0);
}

#[tokio::test]
async fn a_settle_of_what_was_found_is_idempotent_and_kept_back_while_the_row_is_held() {
    let queue = Queue::new().await;
    let id = queue
        .enqueue(
            json!({"kind": "service_card", "template_id": "2001", "extra": {"notify_code": "42"},
        "data": {"cur_status": 1, "wxa_path_query": "p"}}),
        )
        .await;
    let lease = queue.lease_and_start("worker/1").await;
    let mut holder = queue.session().await;
    run(&mut holder, "begin").await;
    run(
        &mut holder,
        &format!("select 1 from pending_notifications where id = {id} for update"),
    )
    .await;
    let found = [super::Outcome::of(id, "found")];
    let kept_back = super::settle(queue.pool(), &lease, true, &found)
        .await
        .unwrap();
    assert_eq!(kept_back, Some(vec![id]));
    run(&mut holder, "rollback").await;
    queue.settle(&lease, &found).await;
    let ended = queue.history(id).await;
    assert_eq!(
        (
            ended.status.as_str(),
            ended.settled_by.as_str(),
            ended.attempts
        ),
        ("sent", "read_back", 0)
    );
}

/// What a kind spends, heeds and can be asked about is said in SQL and in Rust.
#[tokio::test]
async fn the_database_and_the_program_say_the_same_of_every_kind() {
    let queue = Queue::new().await;
    for kind in Kind::ALL {
        let said: (bool, bool, bool) = sqlx::query_as(
            "select wxnotify_spends_credit($1), wxnotify_can_be_refused($1), wxnotify_reads_back($1, '{}')",
        )
        .bind(kind.as_str())
        .fetch_one(queue.pool())
        .await
        .unwrap();
        let ours = (
            kind.spends_credit(),
            kind.can_be_refused(),
            kind.reads_back(),
        );
        assert_eq!(said, ours, "{kind:?}");
        assert_eq!(Kind::from_column(kind.as_str()), Some(kind));
    }
    let known: String = sqlx::query_scalar(
        "select pg_get_constraintdef(c.oid) from pg_constraint c where c.conname = 'kind_is_known'
         and c.conrelid = 'pending_notifications'::regclass",
    )
    .fetch_one(queue.pool())
    .await
    .unwrap();
    let words = known.split('\'').skip(1).step_by(2);
    let words: Vec<&str> = words.collect();
    assert_eq!(words, Kind::ALL.map(Kind::as_str), "{known}");
}
