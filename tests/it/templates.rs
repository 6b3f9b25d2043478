//! What WeChat lists, mirrored: rows are checked against it, what is gone from it waits.

use clap::Parser;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgDatabaseError;
use wxnotify::config::{Settings, Sources};
use wxnotify::operate::report::{Report, Style};
use wxnotify::operate::{Operator, execute_as};
use wxnotify::simulate::{Action, GET_TEMPLATE_PATH, Rule, TemplateSpec};
use wxnotify::store::Store;

use crate::harness::{Line, eventually, insert_row, run, value};
use crate::worker::{APP, SECRET, Scene, TEMPLATE, environment};

/// Runs an operators' command that knows the mini-program's secret.
pub async fn operate(scene: &Scene, words: &str) -> anyhow::Result<Report> {
    operate_with(scene, words, &[]).await
}

async fn operate_with(
    scene: &Scene,
    words: &str,
    changed: &[(&str, &str)],
) -> anyhow::Result<Report> {
    let sources = environment(scene.database.url(), &scene.fake.base_url(), changed)
        .iter()
        .fold(Sources::default(), |sources, (name, value)| {
            sources.with(name, value)
        });
    let settings = Settings::load(&sources).unwrap();
    let line = Line::try_parse_from(std::iter::once("wxnotify").chain(words.split_whitespace()))?;
    let store = Store::new(scene.pool().clone());
    let operator = Operator {
        store: &store,
        settings: Some(&settings),
    };
    execute_as(line.command, &operator).await
}

/// The document of a command that must succeed.
pub async fn command(scene: &Scene, words: &str) -> Value {
    let report = operate(scene, words).await;
    let report = report.unwrap_or_else(|error| panic!("wxnotify {words}: {error:#}"));
    report.document().clone()
}

/// The template of most tests here.
fn pickup() -> TemplateSpec {
    TemplateSpec::new(TEMPLATE, ["character_string1", "thing2", "time3"]).titled("取餐提醒")
}

fn pickup_data() -> Value {
    json!({"character_string1": "SO-1", "thing2": {"value": "手冲咖啡"}, "time3": "15:01"})
}

/// A mini-program whose one template is mirrored.
async fn mirrored() -> Scene {
    mirrored_with(pickup()).await
}

async fn mirrored_with(spec: TemplateSpec) -> Scene {
    let scene = Scene::new().await;
    scene.wechat.add_template(APP, spec);
    command(&scene, &format!("template sync {APP}")).await;
    scene
}

async fn try_insert(scene: &Scene, columns: Value) -> Result<i64, sqlx::Error> {
    let mut row = json!({"appid": APP, "openid": "oSecretReceiver", "template_id": TEMPLATE});
    row.as_object_mut()
        .unwrap()
        .extend(columns.as_object().unwrap().clone());
    insert_row(scene.pool(), &row).await
}

/// What a refusal says: its column, and all its words.
fn words_of(error: sqlx::Error) -> (String, String) {
    let error = error.into_database_error().unwrap();
    let error = error.downcast::<PgDatabaseError>();
    assert_eq!(error.code(), "23514", "{}", error.message());
    let column = error.column().unwrap_or_default().to_owned();
    let words = [Some(error.message()), error.detail(), error.hint()];
    (
        column,
        words.into_iter().flatten().collect::<Vec<_>>().join("\n"),
    )
}

async fn refusal(scene: &Scene, columns: Value) -> (String, String) {
    let shown = columns.to_string();
    match try_insert(scene, columns).await {
        Ok(_) => panic!("accepted: {shown}"),
        Err(error) => words_of(error),
    }
}

fn lists_read(scene: &Scene) -> usize {
    let ledger = scene.ledger();
    let read = |call: &&wxnotify::simulate::Call| call.path == GET_TEMPLATE_PATH;
    ledger.calls.iter().filter(read).count()
}

async fn until_mirrored(scene: &Scene) {
    eventually("the list of templates is read", async || {
        let done = "select done_at is not null from wechat_lookups where lookup = 'templates'";
        let done: Option<bool> = sqlx::query_scalar(done)
            .fetch_optional(scene.pool())
            .await
            .unwrap();
        done.filter(|done| *done)
    })
    .await;
}

#[tokio::test]
async fn of_two_workers_that_start_together_one_reads_the_list() {
    let scene = Scene::new().await;
    scene.wechat.add_template(APP, pickup());
    scene
        .wechat
        .set_latency(std::time::Duration::from_millis(50));
    let (one, other) = (
        scene.start(&[("WXNOTIFY_WORKER", "one")]),
        scene.start(&[("WXNOTIFY_WORKER", "other")]),
    );
    until_mirrored(&scene).await;
    eventually("both have started", async || {
        (scene
            .count("select count(*) from notification_workers")
            .await
            == 2)
            .then_some(())
    })
    .await;
    one.stop().await;
    other.stop().await;
    assert_eq!(lists_read(&scene), 1);
    let fields: Vec<String> = value(scene.pool(), "fields from wechat_templates").await;
    assert_eq!(fields, ["character_string1", "thing2", "time3"]);
}

#[tokio::test]
async fn a_list_read_minutes_ago_is_not_read_again_at_the_next_start() {
    let scene = mirrored().await;
    let running = scene.start(&[]);
    eventually("the worker has asked for the quota", async || {
        let asked =
            "select count(*) from wechat_lookups where lookup = 'quota' and done_at is not null";
        (scene.count(asked).await == 1).then_some(())
    })
    .await;
    running.stop().await;
    assert_eq!(lists_read(&scene), 1);
}

#[tokio::test]
async fn the_list_shows_titles_kinds_fields_and_enumerations() {
    let scene = mirrored().await;
    let device = TemplateSpec::new("template-device", ["enum_string2"])
        .with_enum("enum_string2", ["客厅", "厨房"])
        .titled("设备故障提醒")
        .long_term();
    scene.wechat.add_template(APP, device);
    let synced = command(&scene, "template sync").await;
    assert_eq!(synced["apps"][0]["listed"], 2);
    assert_eq!(
        synced["apps"][0]["changes"],
        json!({"template-device": "added"})
    );

    let listed = command(&scene, "template list").await;
    let listed = listed["templates"].as_array().unwrap();
    let pick = |id: &str| listed.iter().find(|t| t["template_id"] == id).unwrap();
    assert_eq!(pick(TEMPLATE)["title"], "取餐提醒");
    assert_eq!(pick(TEMPLATE)["kind"], "one_time");
    assert_eq!(pick(TEMPLATE)["data_check"], "reject");
    assert_eq!(pick("template-device")["kind"], "long_term");
    assert_eq!(
        pick("template-device")["enums"],
        json!({"enum_string2": ["客厅", "厨房"]})
    );
    let text = operate(&scene, "template list").await.unwrap();
    let text = text.to_text(Style::PLAIN);
    assert!(text.contains("character_string1 thing2 time3"), "{text}");
}

#[tokio::test]
async fn a_row_that_does_not_fit_its_template_is_refused_with_the_key_and_the_rule() {
    let scene = mirrored().await;
    let private = "private-words-9731";
    for (columns, column, rule) in [
        (
            json!({"data": {"character_string1": private, "time3": "15:01"}}),
            "data",
            "pending_notifications.data: thing2: missing; its fields are character_string1, thing2, time3",
        ),
        (
            json!({"data": {"thing2": private}}),
            "data",
            "character_string1, time3: missing",
        ),
        (
            json!({"data": {"character_string1": private, "thing2": private, "time3": "15:01", "thing9": private}}),
            "data",
            "thing9: the template has no such field",
        ),
        (
            json!({"data": pickup_data(), "kind": "long_term"}),
            "kind",
            "pending_notifications.kind: must be one_time: WeChat lists this template as one-time",
        ),
        (
            json!({"data": {"character_string1": private, "thing2": "一二三四五六七八九十一二三四五六七八九十一", "time3": "15:01"}}),
            "data",
            "thing2: at most 20 characters",
        ),
    ] {
        let (at, words) = refusal(&scene, columns).await;
        assert_eq!(at, column, "{words}");
        assert!(words.contains(rule), "{words}");
        assert!(words.contains("Nothing was stored"), "{words}");
        for secret in [private, "oSecretReceiver", "一二三"] {
            assert!(!words.contains(secret), "{words}");
        }
    }
    let (_, words) = refusal(&scene, json!({"data": {"thing2": "杯"}})).await;
    assert!(
        words.contains(&format!("`wxnotify template sync {APP}`")),
        "{words}"
    );
    assert!(words.contains("as WeChat listed it at 20"), "{words}");
    try_insert(&scene, json!({"data": pickup_data()}))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_enumeration_takes_the_values_that_wechat_lists() {
    let spec = TemplateSpec::new(TEMPLATE, ["enum_string2", "thing1"])
        .with_enum("enum_string2", ["客厅", "厨房"])
        .long_term();
    let scene = mirrored_with(spec).await;
    let row =
        |room: Value| json!({"kind": "long_term", "data": {"enum_string2": room, "thing1": "灯"}});
    for room in [
        json!("卧室"),
        json!({"value": "卧室"}),
        json!({"text": "客厅"}),
    ] {
        let (column, words) = refusal(&scene, row(room)).await;
        assert_eq!(column, "data");
        assert!(
            words.contains("enum_string2: must be one of 客厅, 厨房"),
            "{words}"
        );
        assert!(!words.contains("卧室"), "{words}");
    }
    for room in [json!("客厅"), json!({"value": "厨房"})] {
        try_insert(&scene, row(room)).await.unwrap();
    }
    let one_time = json!({"data": {"enum_string2": "客厅", "thing1": "灯"}});
    let (column, words) = refusal(&scene, one_time).await;
    assert_eq!(column, "kind");
    assert!(words.contains("must be long_term"), "{words}");
}

#[tokio::test]
async fn truncate_cuts_free_text_and_nothing_that_would_be_a_lie() {
    let scene = mirrored().await;
    command(&scene, &format!("template check {APP} {TEMPLATE} truncate")).await;
    let long = "一二三四五六七八九十一二三四五六七八九十一二";
    for thing in [json!(long), json!({"value": long})] {
        let mut data = pickup_data();
        data["thing2"] = thing;
        let id = try_insert(&scene, json!({"data": data})).await.unwrap();
        let expression = format!(
            "coalesce(data -> 'thing2' ->> 'value', data ->> 'thing2') from pending_notifications where id = {id}"
        );
        let stored: String = value(scene.pool(), &expression).await;
        assert_eq!(stored, "一二三四五六七八九十一二三四五六七八九…");
    }
    let mut data = pickup_data();
    data["thing2"] = json!("一二三四五六七八九十一二三四五六七八九十");
    let id = try_insert(&scene, json!({"data": data})).await.unwrap();
    let kept: String = value(
        scene.pool(),
        &format!("data ->> 'thing2' from pending_notifications where id = {id}"),
    )
    .await;
    assert_eq!(kept.chars().count(), 20);

    let mut data = pickup_data();
    data["character_string1"] = json!("123456789012345678901234567890123");
    let (_, words) = refusal(&scene, json!({"data": data})).await;
    assert!(
        words.contains("character_string1: at most 32 characters"),
        "{words}"
    );
    let (_, words) = refusal(&scene, json!({"data": {"thing2": long}})).await;
    assert!(words.contains("missing"), "{words}");
}

#[tokio::test]
async fn with_the_check_off_a_row_is_stored_as_it_is() {
    let scene = mirrored().await;
    run(
        scene.pool(),
        &format!("select set_template_check('{APP}', '{TEMPLATE}', 'off')"),
    )
    .await;
    try_insert(
        &scene,
        json!({"data": {"thing9": "杯"}, "kind": "long_term"}),
    )
    .await
    .unwrap();
    // WeChat's rules for types hold all the same.
    refusal(&scene, json!({"data": {"phrase9": "not Chinese"}})).await;
    let action: String = value(
        scene.pool(),
        "action from operator_actions order by id desc limit 1",
    )
    .await;
    assert_eq!(action, "set_template_check");
    let error = operate(
        &scene,
        &format!("template check {APP} template-unknown off"),
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("is not known"), "{error}");
}

#[tokio::test]
async fn a_held_row_is_checked_when_it_gets_its_data() {
    let scene = mirrored().await;
    let id = try_insert(&scene, json!({"held": true})).await.unwrap();
    let arm = |data: &str| format!("arm('{APP}', 'oSecretReceiver', '{TEMPLATE}', '{data}')");
    let bad: Result<Option<i64>, _> = sqlx::query_scalar(AssertSqlSafe(format!(
        "select {}",
        arm(r#"{"thing2": "private-words"}"#)
    )))
    .fetch_one(scene.pool())
    .await;
    let (column, words) = words_of(bad.unwrap_err());
    assert_eq!(column, "data");
    assert!(
        words.contains("character_string1, time3: missing"),
        "{words}"
    );
    assert!(!words.contains("private-words"), "{words}");
    assert_eq!(scene.status(id).await, "held");
    let armed: Option<i64> = value(scene.pool(), &arm(&pickup_data().to_string())).await;
    assert_eq!(armed, Some(id));

    let updated = try_insert(&scene, json!({"data": pickup_data()}))
        .await
        .unwrap();
    let update = format!(
        r#"update pending_notifications set data = '{{"thing2": "杯"}}' where id = {updated}"#
    );
    let error = sqlx::raw_sql(AssertSqlSafe(update))
        .execute(scene.pool())
        .await
        .unwrap_err();
    assert!(words_of(error).1.contains("missing"));
}

#[tokio::test]
async fn a_producer_who_may_only_insert_is_checked_too() {
    let scene = mirrored().await;
    let role = format!("producer_{}", std::process::id());
    run(
        scene.pool(),
        &format!("create role {role}; grant insert on pending_notifications to {role}"),
    )
    .await;
    let mut producer = scene.database.connect().await;
    let lure = format!(
        "create schema lure authorization {role}; grant usage on schema lure to {role}; set role {role};
         create function lure.always(jsonb, text[]) returns boolean language sql as 'select true';
         create operator lure.?& (leftarg = jsonb, rightarg = text[], function = lure.always);
         set search_path = lure, pg_catalog"
    );
    sqlx::raw_sql(AssertSqlSafe(lure))
        .execute(&mut producer)
        .await
        .unwrap();
    let insert = |data: Value| {
        format!(
            "insert into public.pending_notifications (appid, openid, template_id, data) values ('{APP}', 'o1', '{TEMPLATE}', '{data}')"
        )
    };
    let bad = insert(json!({"thing2": "杯"}));
    let error = sqlx::raw_sql(AssertSqlSafe(bad))
        .execute(&mut producer)
        .await
        .unwrap_err();
    assert!(words_of(error).1.contains("missing"));
    let good = insert(pickup_data());
    sqlx::raw_sql(AssertSqlSafe(good))
        .execute(&mut producer)
        .await
        .unwrap();
    run(
        scene.pool(),
        &format!("drop schema lure cascade; drop owned by {role}; drop role {role}"),
    )
    .await;
}

#[tokio::test]
async fn a_template_that_is_gone_pauses_its_rows_and_goes_on_when_it_is_back() {
    let scene = mirrored().await;
    let id = try_insert(&scene, json!({"data": pickup_data(), "openid": "o1"}))
        .await
        .unwrap();
    scene.wechat.remove_template(APP, TEMPLATE);
    scene
        .wechat
        .add_template(APP, TemplateSpec::new("template-other", ["thing1"]));
    let synced = command(&scene, "template sync").await;
    assert_eq!(synced["apps"][0]["changes"][TEMPLATE], "removed");

    let seen = scene.seen(id).await;
    assert_eq!(seen.status, "paused");
    let reason = seen.reason.unwrap();
    assert!(
        reason.contains("WeChat does not list this template any more"),
        "{reason}"
    );
    let explained = command(&scene, &format!("explain {id}")).await.to_string();
    assert!(
        explained.contains("It goes on by itself if WeChat lists the template again"),
        "{explained}"
    );
    assert!(
        explained.contains("微信的模板列表中已没有该模板"),
        "{explained}"
    );

    // A row that waits for a template that is gone is not refused.
    try_insert(&scene, json!({"data": {"thing9": "杯"}, "openid": "o2"}))
        .await
        .unwrap();
    run(
        scene.pool(),
        &format!("select wxnotify_tidy('{APP}', 1::smallint, 100)"),
    )
    .await;

    scene.wechat.add_template(APP, pickup());
    let synced = command(&scene, "template sync").await;
    assert_eq!(synced["apps"][0]["changes"][TEMPLATE], "back");
    assert_eq!(scene.status(id).await, "due");
}

#[tokio::test]
async fn a_template_that_is_back_stays_paused_if_another_reason_paused_it() {
    let scene = mirrored().await;
    let id = try_insert(&scene, json!({"data": pickup_data()}))
        .await
        .unwrap();
    scene
        .wechat
        .add_template(APP, TemplateSpec::new("template-other", ["thing1"]));
    run(scene.pool(), &format!("select pause_template_by_operator('{APP}', '{TEMPLATE}', p_reason => 'campaign is over')")).await;
    scene.wechat.remove_template(APP, TEMPLATE);
    command(&scene, "template sync").await;
    scene.wechat.add_template(APP, pickup());
    command(&scene, "template sync").await;
    let seen = scene.seen(id).await;
    assert_eq!(seen.status, "paused");
    assert!(seen.reason.unwrap().contains("campaign is over"));
}

#[tokio::test]
async fn a_template_that_wechat_refused_and_does_not_list_goes_on_when_it_does() {
    let scene = mirrored().await;
    let row = json!({"template_id": "template-late", "data": {"thing1": "杯"}});
    let id = try_insert(&scene, row).await.unwrap();
    run(scene.pool(), &format!("select wxnotify_pause_template('{APP}', 'template-late', null, 'operator', 'errcode 40037', 40037)")).await;
    command(&scene, "template sync").await;
    let reason = scene.seen(id).await.reason.unwrap();
    assert!(reason.contains("does not list this template"), "{reason}");
    scene
        .wechat
        .add_template(APP, TemplateSpec::new("template-late", ["thing1"]));
    command(&scene, "template sync").await;
    assert_eq!(scene.status(id).await, "due");
}

#[tokio::test]
async fn an_empty_list_is_believed_when_an_operator_asks_and_not_before() {
    let scene = mirrored().await;
    scene.wechat.remove_template(APP, TEMPLATE);
    run(scene.pool(), "update wechat_lookups set done_at = done_at - interval '1 day', due_at = now() where lookup = 'templates'").await;
    let running = scene.start(&[]);
    eventually("the list is read again", async || {
        (lists_read(&scene) == 2).then_some(())
    })
    .await;
    eventually("its answer is stored", async || {
        let stored =
            "select count(*) from wechat_lookups where lookup = 'templates' and due_at > now()";
        (scene.count(stored).await == 1).then_some(())
    })
    .await;
    running.stop().await;
    let gone = "select count(*) from wechat_templates where removed_at is not null";
    assert_eq!(scene.count(gone).await, 0);
    command(&scene, "template sync").await;
    assert_eq!(scene.count(gone).await, 1);
}

#[tokio::test]
async fn credits_on_a_template_that_was_added_anew_are_reported_and_not_moved() {
    let scene = mirrored().await;
    for columns in [
        json!({"held": true}),
        json!({"held": true, "openid": "o2"}),
        json!({"data": pickup_data(), "openid": "o3"}),
    ] {
        try_insert(&scene, columns).await.unwrap();
    }
    scene.wechat.remove_template(APP, TEMPLATE);
    let anew = TemplateSpec {
        template_id: "template-anew".to_owned(),
        ..pickup()
    };
    scene.wechat.add_template(APP, anew);
    let synced = command(&scene, "template sync").await;
    let stranded = &synced["stranded"][0];
    assert_eq!(stranded["template_id"], TEMPLATE);
    assert_eq!(stranded["successor_id"], "template-anew");
    assert_eq!(
        (&stranded["held"], &stranded["waiting"]),
        (&json!(2), &json!(1))
    );
    for words in ["template list", "status"] {
        let report = operate(&scene, words).await.unwrap();
        assert_eq!(report.document()["stranded"][0]["held"], 2);
        let text = report.to_text(Style::PLAIN);
        assert!(text.contains("2 held credits and 1 waiting rows"), "{text}");
        assert!(
            text.contains("template-anew has the same title and fields"),
            "{text}"
        );
    }
    let moved: i64 = value(
        scene.pool(),
        "count(*) from pending_notifications where template_id = 'template-anew'",
    )
    .await;
    assert_eq!(moved, 0);
}

#[tokio::test]
async fn a_list_that_was_not_read_for_a_week_refuses_nothing() {
    let scene = mirrored().await;
    run(
        scene.pool(),
        "update wechat_templates set synced_at = now() - interval '8 days'",
    )
    .await;
    try_insert(&scene, json!({"data": {"thing9": "杯"}}))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_wechat_changed_is_checked_after_the_next_sync() {
    let scene = mirrored().await;
    scene.wechat.add_template(
        APP,
        TemplateSpec::new(TEMPLATE, ["thing2"]).titled("取餐提醒"),
    );
    refusal(&scene, json!({"data": {"thing2": "杯"}})).await;
    let synced = command(&scene, "template sync").await;
    assert_eq!(synced["apps"][0]["changes"], json!({TEMPLATE: "changed"}));
    try_insert(&scene, json!({"data": {"thing2": "杯"}}))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_template_that_wechat_refuses_brings_the_next_look_at_the_list_forward() {
    let scene = mirrored().await;
    let due_soon = "extract(epoch from due_at - clock_timestamp()) < 601 from wechat_lookups where lookup = 'templates'";
    for errcode in [40037, 47003] {
        run(
            scene.pool(),
            "update wechat_lookups set due_at = now() + interval '1 day'",
        )
        .await;
        assert!(!value::<bool>(scene.pool(), due_soon).await);
        let pause = format!(
            "select wxnotify_pause_template('{APP}', 'template-{errcode}', 1800, null, 'errcode {errcode}', {errcode})"
        );
        run(scene.pool(), &pause).await;
        assert!(value::<bool>(scene.pool(), due_soon).await, "{errcode}");
    }
}

#[tokio::test]
async fn a_list_whose_own_quota_is_used_up_is_left_until_midnight_in_china() {
    let scene = Scene::new().await;
    scene
        .wechat
        .set_quota_of(APP, GET_TEMPLATE_PATH, Some(0), None);
    let report = operate(&scene, &format!("template sync {APP}"))
        .await
        .unwrap();
    let text = report.to_text(Style::PLAIN);
    assert!(
        text.contains("this call's own daily quota is used up"),
        "{text}"
    );
    let at_midnight = "(due_at at time zone 'Asia/Shanghai')::time < '00:02' and errcode = 45009 from wechat_lookups where lookup = 'templates'";
    assert!(value::<bool>(scene.pool(), at_midnight).await);
    // Nothing brings it forward.
    run(
        scene.pool(),
        &format!("select wxnotify_want_lookup('{APP}', 'templates', 0)"),
    )
    .await;
    assert!(value::<bool>(scene.pool(), at_midnight).await);
}

#[tokio::test]
async fn a_worker_that_cannot_read_the_list_waits_longer_each_time_and_sends_all_the_same() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::new(Action::http_status(502)).path(GET_TEMPLATE_PATH));
    let id = scene.insert("o1", json!({})).await;
    let running = scene.start(&[]);
    scene.until(id, "sent").await;
    for failures in 1..=2 {
        eventually("asking has failed", async || {
            let failed = format!("select count(*) from wechat_lookups where lookup = 'templates' and failures = {failures}");
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(failed)).fetch_one(scene.pool()).await.unwrap();
            (count == 1).then_some(())
        })
        .await;
        let wait: f64 = value(scene.pool(), "extract(epoch from due_at - failed_at)::float8 from wechat_lookups where lookup = 'templates'").await;
        let expected = 60.0 * 2_f64.powi(failures - 1);
        assert!((expected * 0.7..expected * 1.3).contains(&wait), "{wait}");
        run(scene.pool(), "update wechat_lookups set due_at = now()").await;
    }
    running.stop().await;
}

#[tokio::test]
async fn an_answer_under_an_older_claim_changes_nothing() {
    let scene = mirrored().await;
    let claim = format!("wxnotify_claim_lookup('{APP}', 'templates', 'someone', 60)");
    let old: i64 = value(scene.pool(), &claim).await;
    let new: i64 = value(scene.pool(), &claim).await;
    assert!(new > old);
    let store = |claim: i64| format!("wxnotify_store_templates('{APP}', {claim}, '[]', true)");
    let changes: Option<Value> = value(scene.pool(), &store(old)).await;
    assert_eq!(changes, None);
    let changes: Option<Value> = value(scene.pool(), &store(new)).await;
    assert_eq!(changes, Some(json!({TEMPLATE: "removed"})));
}

#[tokio::test]
async fn without_the_secret_a_sync_is_left_to_a_worker() {
    let scene = mirrored().await;
    let without = [("WXNOTIFY_APPSECRET_wx1111222233334444", "")];
    let changed: Vec<_> = without.to_vec();
    let sources = environment(scene.database.url(), &scene.fake.base_url(), &changed);
    let sources = sources
        .iter()
        .filter(|(name, _)| !name.starts_with("WXNOTIFY_APPSECRET"))
        .fold(Sources::default(), |sources, (name, value)| {
            sources.with(name, value)
        });
    let settings = Settings::load(&sources).unwrap();
    let line = Line::try_parse_from(["wxnotify", "template", "sync"]).unwrap();
    let store = Store::new(scene.pool().clone());
    let operator = Operator {
        store: &store,
        settings: Some(&settings),
    };
    let report = execute_as(line.command, &operator).await.unwrap();
    assert_eq!(report.document()["apps"][0]["asked"], "a worker");
    assert_eq!(lists_read(&scene), 1);
    let running = scene.start(&[]);
    eventually("the worker reads the list", async || {
        (lists_read(&scene) == 2).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn no_secret_or_token_is_shown_by_a_sync_that_fails() {
    let scene = mirrored().await;
    let telling = Action::Errcode {
        errcode: 48001,
        errmsg: Some(format!("api unauthorized for {SECRET}x")),
        after_credit: false,
    };
    scene
        .wechat
        .script(Rule::new(telling).path(GET_TEMPLATE_PATH));
    let report = operate(&scene, "template sync").await.unwrap();
    let shown = format!("{}{}", report.document(), report.to_text(Style::PLAIN));
    let token: String = value(scene.pool(), "access_token from wechat_access_tokens").await;
    assert!(shown.contains("48001"), "{shown}");
    assert!(!shown.contains(&token), "{shown}");
}
