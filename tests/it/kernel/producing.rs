//! What an INSERT may hold, and what an error says about the rest.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{Queue, in_secs, insert};

/// Stands in for what must not reach a database log; every refused value holds or is near it.
const SECRET_OPENID: &str = "oSecretReceiver";

/// Inserts a row that must be refused; returns the error's words, all of them.
async fn refusal(queue: &Queue, mut row: Value) -> String {
    row.as_object_mut()
        .unwrap()
        .entry("openid")
        .or_insert(json!(SECRET_OPENID));
    let shown = row.to_string();
    let Err(error) = insert(queue.pool(), row).await else {
        panic!("accepted: {shown}");
    };
    let error = error.into_database_error().unwrap();
    let error = error.downcast::<sqlx::postgres::PgDatabaseError>();
    assert_eq!(error.code(), "23514", "{}", error.message());
    [
        Some(error.message()),
        error.detail(),
        error.hint(),
        error.column(),
        error.table(),
        error.r#where(),
    ]
    .into_iter()
    .flatten()
    .collect::<Vec<_>>()
    .join("\n")
}

/// Sorted by type; every value is one that WeChat takes.
const FIELDS_WECHAT_TAKES: &[(&str, &str)] = &[
    ("amount1", "¥36.00"),
    ("amount1", "￥36"),
    ("amount1", "36元"),
    ("amount1", "₩36"),
    ("amount1", "$1234567890.50"),
    ("car_number1", "粤B12345"),
    ("car_number1", "粤BD12345"),
    ("car_number1", "粤B1234学"),
    ("character_string1", "SO-20260042"),
    ("character_string1", "12345678901234567890123456789012"),
    ("character_string1", "SO#42 → 3★"),
    ("const1", "审核通过"),
    ("const1", ""),
    ("date1", "2026年11月22日"),
    ("date1", "2026年11月"),
    ("date1", "11月22日"),
    ("date1", "2026-11-22"),
    ("date1", "2026/11/22"),
    ("date1", "2026.11.22"),
    ("date1", "2026-11"),
    ("date1", "11-22"),
    ("date1", "2026-11-22 15:01:30"),
    ("date1", "2026-11-22 08:00~12:00"),
    ("date1", "2026-11-22 08:00~2026-11-23 12:00"),
    ("date1", "2026年11月22日~2026年11月24日"),
    ("enum1", "待付款"),
    ("enum_string1", "离线"),
    (
        "enum_string1",
        "电量低于百分之二十，请在今天晚上十点之前充电",
    ),
    ("letter1", "ABC"),
    ("letter1", "abcdefghijklmnopqrstuvwxyzABCDEF"),
    ("name1", "王小明"),
    ("name1", "一二三四五六七八九十"),
    ("name1", "Maria da Silva-Souza"),
    ("number1", "12.50"),
    ("number1", "12345678901234567890123456789012"),
    ("number1", "1234567890123456789012345678901.2"),
    ("phone_number1", "+86-0755-12345678"),
    ("phone_number12", "13800138000"),
    ("phrase1", "待取餐"),
    ("phrase1", "一二三四五"),
    ("phrase1", "二〇二六"),
    ("short_thing1", "十个字以内"),
    ("site1", "深圳湾体育中心"),
    ("symbol1", "★★★★★"),
    ("thing1", "手冲咖啡两杯"),
    ("thing10", "一二三四五六七八九十一二三四五六七八九十"),
    ("thing1", "Ünïcode, 数字 42 & 🎉"),
    ("thing1", "无"),
    ("thing1", "-"),
    ("time1", "15:01"),
    ("time1", "15:01:59"),
    ("time1", "2026年11月22日 15:01"),
    ("time1", "2026-11-22 15:01:30"),
    ("time1", "08:00~12:00"),
    ("time1", "2026年11月22日15:01 ~ 16:00"),
    ("time1", "2024-02-29 15:01"),
];

/// The field, what WeChat answers 47003 to, and a part of the rule that the message must name.
const FIELDS_WECHAT_REFUSES: &[(&str, &str, &str)] = &[
    ("amount1", "¥36.00 once", "currency sign"),
    ("amount1", "12345678901", "10 digits"),
    ("amount1", "-36", "currency sign"),
    ("car_number1", "粤B123456学", "8 letters"),
    ("car_number1", "粤B1学345", "8 letters"),
    ("character_string1", "订单SO-2026", "no Chinese"),
    ("character_string1", "Bière-42", "no Chinese"),
    (
        "character_string1",
        "123456789012345678901234567890123",
        "32 characters",
    ),
    ("date1", "2026-11-22 08~12", "a date such as"),
    ("date1", "2026-13-01", "a date such as"),
    ("date1", "2026-11-22T15:01:30Z", "a date such as"),
    ("date1", "tomorrow night", "a date such as"),
    ("date1", "2026-11/22", "a date such as"),
    ("date1", "2026-04-31", "does not exist"),
    ("date1", "2月30日", "does not exist"),
    ("date1", "2100年2月29日", "does not exist"),
    ("date1", "２０２６-11-22", "a date such as"),
    ("letter1", "ABC1", "letters"),
    ("letter1", "abcdefghijklmnopqrstuvwxyzABCDEFG", "32 letters"),
    ("name1", "王小明2", "no digits"),
    ("name1", "王小明２", "no digits"),
    ("name1", "一二三四五六七八九十一", "10 characters"),
    ("name1", "Maximiliana Featherstone", "20 Latin"),
    ("number1", "12.50元", "digits"),
    ("number1", "1,000", "digits"),
    ("number1", "-1", "digits"),
    ("number1", "123456789012345678901234567890123", "32 digits"),
    ("phone_number1", "+86-0755-12345678-01", "17 digits"),
    ("phone_number1", "电话13800138000", "17 digits"),
    ("phrase1", "待取餐2", "Chinese characters"),
    ("phrase1", "一二三四五六", "5 Chinese"),
    ("short_thing1", "一二三四五六七八九十一", "10 characters"),
    ("symbol1", "★★★★★★", "5 symbols"),
    ("symbol1", "★a", "5 symbols"),
    (
        "thing1",
        "一二三四五六七八九十一二三四五六七八九十一",
        "20 characters",
    ),
    ("thing1", "two\nlines", "control characters"),
    ("thing1", "a tab\there", "control characters"),
    ("thing1", "a bell\u{7}", "control characters"),
    ("thing1", "a rubout\u{7f}", "control characters"),
    ("thing1", "a next line\u{85}", "control characters"),
    ("thing1", "a line\u{2028}separator", "control characters"),
    ("thing1", "", "is empty"),
    ("thing1", " \u{3000} ", "is empty"),
    ("thing1", "\u{a0}\u{2003}", "is empty"),
    ("time1", "24:00", "24-hour"),
    ("time1", "2026-11-2215:01", "24-hour"),
    ("time1", "2023.2.29 15:01", "does not exist"),
    ("time1", "3 pm sharp", "24-hour"),
    ("time1", "2026-11-22T15:01:30+08:00", "24-hour"),
];

#[tokio::test]
async fn fields_that_wechat_takes_are_stored_in_both_forms() {
    let queue = Queue::new().await;
    for (field, value) in FIELDS_WECHAT_TAKES {
        for data in [json!({*field: {"value": value}}), json!({*field: value})] {
            let stored = insert(queue.pool(), json!({"data": data})).await;
            assert!(stored.is_ok(), "{field} {value}: {}", stored.unwrap_err());
        }
    }
    queue
        .enqueue(json!({"data": {"number1": 12.5, "thing2": {"value": 3}}}))
        .await;
}

#[tokio::test]
async fn fields_that_wechat_refuses_are_refused_by_name_and_rule_without_their_value() {
    let queue = Queue::new().await;
    for (field, value, rule) in FIELDS_WECHAT_REFUSES {
        for data in [
            json!({*field: {"value": value}}),
            json!({"thing9": "fine", *field: value}),
        ] {
            let words = refusal(&queue, json!({"data": data, "dedup_key": "secret-key"})).await;
            assert!(words.contains("pending_notifications.data: "), "{words}");
            assert!(
                words.contains(field) && words.contains(rule),
                "{field} {value:?}: {words}"
            );
            for secret in [value.trim(), SECRET_OPENID, "secret-key", "fine"] {
                let kept = secret.chars().count() < 3 || !words.contains(secret);
                assert!(kept, "{secret:?} is in: {words}");
            }
        }
    }
}

/// Pieces of which values are made: what the rules of some type take or refuse, at their edges.
const PIECES: &[&str] = &[
    "0",
    "7",
    "12",
    "31",
    "99",
    "2026",
    "A",
    "z",
    "ß",
    "é",
    "王",
    "一",
    "鿿",
    "元",
    "年",
    "月",
    "日",
    "¥",
    "$",
    ".",
    "-",
    "/",
    ":",
    "~",
    "+",
    " ",
    "\u{3000}",
    "{",
    "}",
    "\"",
    "\\",
    "\", \"",
    "\"}, \"",
    "\": {\"value\": \"",
    "\": \"",
    "🎉",
    "\u{7f}",
    "\n",
    "、",
    "2026年11月22日",
    "2026-11-22",
    "15:01",
    "23:59",
    "24:00",
    "一二三四五",
    "abcdefghij",
    "1234567890",
];

/// The common row is accepted by a quick look that the others do not get: a field beside one with an escape in it.
#[tokio::test]
async fn a_field_is_judged_alike_whatever_its_form_and_its_neighbours() {
    let queue = Queue::new().await;
    let types = [
        "thing",
        "time",
        "date",
        "character_string",
        "phrase",
        "amount",
        "number",
        "name",
        "phone_number",
        "car_number",
        "letter",
        "symbol",
        "short_thing",
        "const",
        "enum_string",
        "Thing",
        "1",
        "",
    ];
    let mut dice = StdRng::seed_from_u64(5);
    let mut forms = Vec::new();
    let mut fields = Vec::new();
    for _ in 0..3000 {
        let number = ["1", "12", ""]
            .choose_weighted(&mut dice, |number| number.len() * 9 + 1)
            .unwrap();
        let key = format!("{}{number}", types.choose(&mut dice).unwrap());
        let pieces = dice.random_range(0..6);
        let mut value: String = (0..pieces)
            .map(|_| *PIECES.choose(&mut dice).unwrap())
            .collect();
        if dice.random_bool(0.5) {
            let known = FIELDS_WECHAT_TAKES
                .iter()
                .filter(|(field, _)| field.starts_with(key.trim_end_matches(char::is_numeric)));
            if let Some((_, known)) = known.collect::<Vec<_>>().choose(&mut dice) {
                value = (*known).to_owned();
            }
        }
        fields.push(format!("{key}: {value:?}"));
        forms.push(json!([
            {&key: {"value": value}},
            {&key: value},
            {&key: {"value": value}, "character_string99": {"value": "\\"}},
        ]));
    }
    let tried = "create function pg_temp.is_taken(p_data jsonb) returns boolean language plpgsql as $$ begin \
            insert into pending_notifications (appid, openid, template_id, data) values ('wxapp', 'o1', 't1', p_data); \
            return true; \
        exception when check_violation then return false; end $$";
    let mut session = queue.session().await;
    sqlx::raw_sql(tried).execute(&mut session).await.unwrap();
    let judged: Vec<(bool, bool, bool)> = sqlx::query_as(
        "select pg_temp.is_taken(f -> 0), pg_temp.is_taken(f -> 1), pg_temp.is_taken(f -> 2) \
         from unnest($1::jsonb[]) with ordinality u (f, n) order by n",
    )
    .bind(&forms)
    .fetch_all(&mut session)
    .await
    .unwrap();
    for (field, (nested, short, escaped)) in fields.iter().zip(&judged) {
        assert_eq!((nested, short), (escaped, escaped), "{field}");
    }
    let taken = judged.iter().filter(|(nested, _, _)| *nested).count();
    assert!(
        (600..2400).contains(&taken),
        "{taken} of {} were taken",
        judged.len()
    );
}

#[tokio::test]
async fn data_of_a_wrong_shape_is_refused() {
    let queue = Queue::new().await;
    let cases = [
        (json!([]), "JSON object"),
        (json!("{\"thing1\": \"x\"}"), "JSON object"),
        (json!(7), "JSON object"),
        (json!({}), "only a held row"),
        (json!({"thing": "x"}), "field name"),
        (json!({"thing1x": "x"}), "field name"),
        (json!({"": "x"}), "field name"),
        (json!({"thing1": null}), "needs text"),
        (json!({"thing1": true}), "needs text"),
        (json!({"thing1": {}}), "needs text"),
        (json!({"thing1": {"value": null}}), "needs text"),
        (json!({"thing1": {"value": ["x"]}}), "needs text"),
        (json!({"thing1": ["x"]}), "needs text"),
        (json!({"thing1": "x".repeat(5000)}), "4096"),
    ];
    for (data, rule) in cases {
        let words = refusal(&queue, json!({"data": data})).await;
        assert!(
            words.contains(rule) && words.contains("data"),
            "{data}: {words}"
        );
        assert!(!words.contains(SECRET_OPENID), "{words}");
    }
}

#[tokio::test]
async fn columns_outside_their_rules_are_refused_by_name_without_their_value() {
    let queue = Queue::new().await;
    let long = "secret".repeat(200);
    let cases = [
        ("appid", json!(null)),
        ("appid", json!("")),
        ("appid", json!("secret".repeat(11))),
        ("openid", json!(null)),
        ("openid", json!("")),
        ("openid", json!("secret".repeat(22))),
        ("template_id", json!(null)),
        ("template_id", json!("")),
        ("template_id", json!(long)),
        ("kind", json!("secret")),
        ("kind", json!("telegram")),
        ("login_code", json!("0aSecretCode")),
        ("lane", json!(-1)),
        ("lane", json!(3)),
        ("attempts_max", json!(0)),
        ("attempts_max", json!(101)),
        ("on_doubt", json!("secret")),
        ("miniprogram_state", json!("secret")),
        ("lang", json!("secret")),
        ("page", json!("/secret/leading/slash")),
        ("page", json!("")),
        ("page", json!(long)),
        ("send_at", json!("infinity")),
        ("send_at", json!("-infinity")),
        ("send_at", json!("2200-01-01T00:00:00Z")),
        ("send_at", json!("1999-12-31T23:59:59Z")),
        ("expire_at", json!("infinity")),
        ("expire_at", json!("-infinity")),
        ("expire_at", json!("294276-01-01T00:00:00Z")),
        ("expire_at", json!("0044-03-15T00:00:00Z BC")),
        ("created_at", json!("infinity")),
        ("dedup_key", json!("")),
        ("dedup_key", json!(long)),
        ("business_ref", json!("")),
        ("business_ref", json!(long)),
        ("extra", json!({"secret": "x".repeat(5000)})),
    ];
    for (column, value) in cases {
        let words = refusal(&queue, json!({column: value})).await;
        assert!(
            words.contains(&format!("pending_notifications.{column}: ")),
            "{column} {value}: {words}"
        );
        for secret in ["secret", SECRET_OPENID] {
            assert!(!words.contains(secret), "{column} {value}: {words}");
        }
    }
}

/// The trigger speaks first, so that no CHECK prints a row; the CHECKs stand behind it for everyone else.
#[tokio::test]
async fn every_check_refuses_what_it_is_named_after() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    let held = queue.enqueue(json!({"held": true})).await;
    let cases = [
        ("kind_is_known", id, "kind = 'telegram'"),
        ("receiver_or_login_code", id, "openid = null"),
        ("login_code_has_its_times", id, "login_at = now()"),
        (
            "miniprogram_state_is_known",
            id,
            "miniprogram_state = 'beta'",
        ),
        ("lang_is_known", id, "lang = 'fr_FR'"),
        ("lane_is_0_to_2", id, "lane = 3"),
        ("on_doubt_is_known", id, "on_doubt = 'wait'"),
        ("attempts_max_is_1_to_100", id, "attempts_max = 0"),
        ("attempts_are_counted", id, "attempts = -1"),
        ("attempts_are_counted", id, "rescues = -1"),
        ("waiting_for_is_known", id, "waiting_for = 'godot'"),
        (
            "only_held_and_receiverless_rows_wait_forever",
            id,
            "due = 'infinity'",
        ),
        (
            "due_is_not_past_expire_at",
            id,
            "expire_at = due - interval '1 s'",
        ),
        (
            "held_rows_are_not_in_doubt",
            held,
            "in_doubt_since = now(), attempts = 1",
        ),
        (
            "doubt_has_a_beginning",
            id,
            "waiting_for = 'doubt', attempts = 1",
        ),
        ("doubt_follows_an_attempt", id, "in_doubt_since = now()"),
        ("due_is_a_time", id, "due = '-infinity'"),
    ];
    let mut transaction = queue.pool().begin().await.unwrap();
    super::run(
        &mut *transaction,
        "alter table pending_notifications disable trigger user",
    )
    .await;
    for (constraint, id, change) in &cases {
        super::run(&mut *transaction, "savepoint before_it").await;
        let statement = format!("update pending_notifications set {change} where id = {id}");
        let error = sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut *transaction)
            .await
            .unwrap_err();
        let error = error.into_database_error().unwrap();
        assert_eq!(error.constraint(), Some(*constraint), "{change}: {error}");
        super::run(&mut *transaction, "rollback to before_it").await;
    }
    let unproved: Vec<String> = sqlx::query_scalar(
        "select conname::text from pg_constraint
         where conrelid = 'pending_notifications'::regclass and contype = 'c' and conname <> all ($1)",
    )
    .bind(cases.iter().map(|case| case.0).collect::<Vec<_>>())
    .fetch_all(&mut *transaction)
    .await
    .unwrap();
    assert_eq!(
        unproved,
        Vec::<String>::new(),
        "a CHECK without a case here"
    );
}

#[tokio::test]
async fn what_object_mappers_write_as_null_takes_its_default() {
    let queue = Queue::new().await;
    let id = queue
        .enqueue(json!({"kind": null, "miniprogram_state": null, "lang": null, "held": null, "lane": null, "send_at": null,
                        "on_doubt": null, "attempts_max": null, "created_at": null, "expire_at": null, "dedup_key": null}))
        .await;
    let lease = queue.lease("worker").await.unwrap();
    assert_eq!(lease.ids, [id]);
}

/// The owner may write all columns: a restore, a copy. A doubt that is forgotten on the way would be sent again.
#[tokio::test]
async fn what_a_restore_brings_along_is_kept() {
    let queue = Queue::new().await;
    // The leases came along: their numbers are given out.
    super::run(
        queue.pool(),
        "select setval('notification_leases_lease_id_seq', 20)",
    )
    .await;
    let doubt = json!({"waiting_for": "doubt", "due": in_secs(600), "attempts": 2, "rescues": 1, "last_lease": 9, "on_doubt": "hold",
                       "in_doubt_since": in_secs(-60), "last_errmsg": "old", "producer": "somebody", "openid": "one"});
    let doubtful = queue.enqueue(doubt).await;
    let waiting = queue
        .enqueue(
            json!({"waiting_for": "retry", "due": in_secs(600), "attempts": 7, "openid": "two"}),
        )
        .await;
    let row = queue.pending(doubtful).await;
    assert_eq!((row.attempts, row.rescues, row.last_lease), (2, 1, Some(9)));
    assert_eq!(row.waiting_for.as_deref(), Some("doubt"));
    assert!(row.in_doubt_since.is_some());
    assert_eq!(queue.pending(waiting).await.attempts, 7);
    assert!(queue.lease("worker").await.is_none());

    // Of a restore without leases the number is another database's, and will be given out to somebody.
    let row = json!({"last_lease": 500, "attempts": 1, "waiting_for": "retry", "due": in_secs(600), "openid": "four"});
    let alone = queue.enqueue(row).await;
    assert_eq!(queue.pending(alone).await.last_lease, None);

    // What waited for nothing but its time is computed anew.
    let stale = queue
        .enqueue(json!({"due": in_secs(600), "openid": "three"}))
        .await;
    assert_eq!(queue.lease("worker").await.unwrap().ids, [stale]);
}

#[tokio::test]
async fn null_in_our_columns_means_their_default() {
    let queue = Queue::new().await;
    let id = queue
        .enqueue(json!({"attempts": null, "rescues": null, "producer": null, "waiting_for": null, "in_doubt_since": null, "due": null}))
        .await;
    assert_eq!(queue.pending(id).await.attempts, 0);
    assert_eq!(queue.lease("worker").await.unwrap().ids, [id]);
}

#[tokio::test]
async fn null_in_appid_means_the_default_mini_program() {
    let queue = Queue::new().await;
    let words = refusal(&queue, json!({ "appid": null })).await;
    assert!(words.contains("pending_notifications.appid: "), "{words}");
    super::run(
        queue.pool(),
        &format!("select set_default_app('{}')", super::APP),
    )
    .await;
    let id = queue.enqueue(json!({ "appid": null })).await;
    assert_eq!(queue.lease("worker").await.unwrap().ids, [id]);
}

/// It says when the user tapped: of a time to come it would outlast every later reject of that user.
#[tokio::test]
async fn a_tap_of_the_future_is_refused() {
    let queue = Queue::new().await;
    for created_at in [in_secs(700), "2199-01-01T00:00:00Z".to_owned()] {
        let words = refusal(&queue, json!({ "created_at": created_at, "held": true })).await;
        assert!(
            words.contains("pending_notifications.created_at: "),
            "{words}"
        );
    }
    queue.enqueue(json!({ "created_at": in_secs(500) })).await;
}

/// A number of a few bytes may be a gigabyte as text.
#[tokio::test]
async fn numbers_beyond_measure_are_refused_in_extra_as_in_data() {
    let queue = Queue::new().await;
    let mut session = queue.session().await;
    let statement = "insert into pending_notifications (appid, openid, template_id, data, extra)
        select 'wx', 'o', 't', '{\"thing1\": \"x\"}', jsonb_agg('1e131000'::jsonb) from generate_series(1, 9000)";
    let error = sqlx::raw_sql(statement)
        .execute(&mut session)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("pending_notifications.extra: "),
        "{error}"
    );
}

/// A credit from before a rule must not keep the younger ones from being armed.
#[tokio::test]
async fn a_held_row_that_a_later_rule_refuses_is_passed_over_by_arm() {
    let queue = Queue::new().await;
    let old = queue.enqueue(json!({"held": true, "openid": "o"})).await;
    queue
        .force(&format!(
            "update pending_notifications set page = 'pages/a b' where id = {old}"
        ))
        .await;
    let young = queue.enqueue(json!({"held": true, "openid": "o"})).await;
    let arm = async |data: Value| {
        sqlx::query_scalar::<_, Option<i64>>("select arm($1, 'o', 'template-1', $2)")
            .bind(super::APP)
            .bind(data)
            .fetch_one(queue.pool())
            .await
    };
    let error = arm(json!({"thing1": "x".repeat(21)})).await.unwrap_err();
    assert!(error.to_string().contains("thing1"), "{error}");
    assert_eq!(arm(json!({"thing1": "x"})).await.unwrap(), Some(young));
}

/// WeChat would answer 41030 when it is too late.
#[tokio::test]
async fn a_page_that_wechat_refuses_is_refused_at_insert() {
    let queue = Queue::new().await;
    for page in [
        "/pages/a",
        "",
        "pages/a b",
        "pages/a\nb",
        " pages/a",
        "pages/a\t",
        "pages/a?name=张 三",
        "pages/a\u{3000}",
        "pages/a\u{200b}",
        "https://shop.example/a",
    ] {
        let words = refusal(&queue, json!({ "page": page })).await;
        assert!(
            words.contains("pending_notifications.page: "),
            "{page:?}: {words}"
        );
    }
    for page in [
        "pages/a",
        "pages/a?id=42&name=%20x",
        "pages/订单/a?id=张三",
        "pages/a#b",
    ] {
        queue.enqueue(json!({ "page": page })).await;
    }
}

/// What no honest value has, and a terminal or a log would obey.
#[tokio::test]
async fn control_characters_are_refused_in_what_people_are_shown() {
    let queue = Queue::new().await;
    for column in ["business_ref", "dedup_key"] {
        for sign in [
            "\u{1b}[31m",
            "\r",
            "\n",
            "\u{7f}",
            "\u{9b}",
            "\u{202e}",
            "\u{2066}",
            "\u{200f}",
            "\u{2028}",
        ] {
            let words = refusal(&queue, json!({ column: format!("a{sign}b") })).await;
            assert!(
                words.contains(&format!("pending_notifications.{column}: ")),
                "{column} {sign:?}: {words}"
            );
            assert!(!words.contains(&format!("a{sign}b")), "{words}");
        }
    }
    for appid in ["$(touch x)", "wx 1", "wx\u{1b}", "微信", ""] {
        let words = refusal(&queue, json!({ "appid": appid })).await;
        assert!(
            words.contains("pending_notifications.appid: "),
            "{appid:?}: {words}"
        );
    }
    queue
        .enqueue(json!({"business_ref": "订单 17 / ß, 👩‍👧", "dedup_key": "a b"}))
        .await;
}

/// A client that cannot show Chinese would get "character … has no equivalent" instead of the reason.
#[tokio::test]
async fn the_reason_reaches_a_client_of_any_encoding() {
    let queue = Queue::new().await;
    for encoding in ["LATIN1", "WIN1252", "SQL_ASCII", "GBK"] {
        let mut session = queue.session().await;
        for (column, value) in [
            ("data", r#"{"thing1": ""}"#),
            ("data", r#"{"time1": "gestern"}"#),
            ("data", r#"{"date1": "gestern"}"#),
            ("data", r#"{"amount1": "viel"}"#),
            ("data", r#"{"\u540d\u5b57": "x"}"#),
            ("data", r#"["x"]"#),
            ("data", r#"{"thing1": {}}"#),
            ("page", "/x"),
            ("kind", "sms"),
        ] {
            let statement = format!(
                "set client_encoding = '{encoding}';
                 insert into pending_notifications (appid, openid, template_id, {column}) values ('wx', 'o', 't', '{value}')"
            );
            let error = sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
                .execute(&mut session)
                .await
                .unwrap_err();
            let words = error.to_string();
            assert!(
                words.contains(&format!("pending_notifications.{column}: ")),
                "{encoding} {column} {value}: {words}"
            );
        }
    }
}

/// Old client libraries turn it off for themselves, and with it what a backslash means.
#[tokio::test]
async fn rules_hold_whatever_standard_conforming_strings_says() {
    let queue = Queue::new().await;
    let mut session = queue.session().await;
    super::run(&mut session, "set standard_conforming_strings = off").await;
    super::run(&mut session, "set escape_string_warning = off").await;
    for data in [
        json!({"thing1": "a\nb"}),
        json!({"thing1": "a\u{7f}"}),
        json!({"phrase1": "abc"}),
        json!({"car_number1": "!"}),
        json!({"character_string1": "中"}),
        json!({"symbol1": "a"}),
        json!({"name1": "张三1"}),
        json!({"time1": "25:00"}),
    ] {
        assert!(
            insert(&mut session, json!({ "data": data })).await.is_err(),
            "{data}"
        );
    }
    assert!(
        insert(&mut session, json!({ "page": "a\nb" }))
            .await
            .is_err()
    );
    assert!(
        insert(
            &mut session,
            json!({"kind": "device", "extra": {"sn": "a b", "modelId": "m"}})
        )
        .await
        .is_err()
    );
    for data in FIELDS_WECHAT_TAKES {
        let taken = insert(&mut session, json!({ "data": { data.0: data.1 } })).await;
        assert!(taken.is_ok(), "{data:?}: {taken:?}");
    }
}

#[tokio::test]
async fn a_row_is_due_at_its_time_and_not_past_its_end() {
    let queue = Queue::new().await;
    let later = queue.enqueue(json!({"send_at": in_secs(600)})).await;
    let held = queue.enqueue(json!({"held": true, "data": {}})).await;
    let held_till = queue
        .enqueue(json!({"held": true, "expire_at": in_secs(900)}))
        .await;
    let ends_first = queue
        .enqueue(json!({"send_at": in_secs(600), "expire_at": in_secs(300)}))
        .await;

    assert!(queue.lease("worker").await.is_none());
    let wait = async |id| {
        queue
            .pending(id)
            .await
            .due
            .map(|due| (due - chrono::Utc::now()).num_seconds())
    };
    assert!(matches!(wait(later).await, Some(590..=600)));
    assert_eq!(wait(held).await, None);
    assert!(matches!(wait(held_till).await, Some(890..=900)));
    assert!(matches!(wait(ends_first).await, Some(290..=300)));
}

#[tokio::test]
async fn a_reschedule_is_checked_like_an_insert() {
    let queue = Queue::new().await;
    let id = queue.enqueue(json!({})).await;
    for change in [
        "send_at = 'infinity'",
        "expire_at = '-infinity'",
        "data = '{\"phrase1\": \"secret\"}'",
        "page = '/secret'",
        "openid = null",
    ] {
        let statement = format!("update pending_notifications set {change} where id = {id}");
        let error = sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(queue.pool())
            .await
            .unwrap_err();
        let column = change.split(' ').next().unwrap();
        assert!(
            error
                .to_string()
                .contains(&format!("pending_notifications.{column}: ")),
            "{error}"
        );
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn truncate_is_refused() {
    let queue = Queue::new().await;
    queue.enqueue(json!({})).await;
    let error = sqlx::query("truncate pending_notifications")
        .execute(queue.pool())
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("TRUNCATE would lose notifications"),
        "{error}"
    );
}
