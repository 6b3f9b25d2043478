//! What WeChat refuses: each errcode's way through the worker.

use chrono::{DateTime, Days, TimeDelta, Utc};
use nix::sys::signal::Signal;
use serde_json::json;
use wxnotify::simulate::{Action, Rule, TemplateSpec};

use super::{APP, SECRET, Scene, TEMPLATE, environment};

const OTHER_APP: &str = "wx5555666677778888";
const OTHER_SECRET: &str = "WXNOTIFY_APPSECRET_wx5555666677778888";

/// What the attempts of a row were recorded as, in order.
async fn attempts(scene: &Scene, id: i64) -> Vec<(i16, String, Option<i64>)> {
    sqlx::query_as(
        "select attempt, result, errcode from notification_attempts where notification_id = $1
         order by finished_at",
    )
    .bind(id)
    .fetch_all(scene.pool())
    .await
    .unwrap()
}

async fn paused_until(scene: &Scene, query: &'static str) -> Option<String> {
    sqlx::query_scalar(query)
        .fetch_one(scene.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_busy_wechat_is_asked_again_until_it_accepts() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::send(Action::errcode(-1)).times(2));
    let id = scene.insert("oUser", json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "sent").await;
    assert_eq!((row.attempts, row.errcode), (3, Some(0)));
    assert_eq!(scene.sends(), 3);
    let retries = [
        (1, "retry".to_owned(), Some(-1)),
        (2, "retry".to_owned(), Some(-1)),
    ];
    assert_eq!(attempts(&scene, id).await, retries);
}

#[tokio::test]
async fn a_row_out_of_attempts_is_dead_with_the_last_errcode() {
    let scene = Scene::new().await;
    scene.wechat.script(Rule::send(Action::errcode(-1)));
    let id = scene.insert("oUser", json!({ "attempts_max": 2 })).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "dead").await;
    assert_eq!((row.attempts, row.errcode), (2, Some(-1)));
    assert_eq!(scene.sends(), 2);
}

#[tokio::test]
async fn a_user_without_a_credit_ends_dead_at_once_with_the_credit_gone() {
    let scene = Scene::without_credits().await;
    scene.wechat.grant(APP, "oGranted", TEMPLATE, 1);
    let refused = scene.insert("oRefused", json!({})).await;
    let granted = scene.insert("oGranted", json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(refused, "dead").await;
    assert_eq!((row.errcode, row.attempts), (Some(43101), 1));
    assert_eq!(row.credit.as_deref(), Some("gone"));
    scene.until(granted, "sent").await;
    assert_eq!(scene.sends(), 2);
}

#[tokio::test]
async fn a_bad_field_ends_dead_with_the_credit_kept_and_the_field_named() {
    let scene = Scene::without_credits().await;
    scene.wechat.grant(APP, "oUser", TEMPLATE, 1);
    let template = TemplateSpec::new(TEMPLATE, ["thing1", "thing9"]);
    scene.wechat.add_template(APP, template);
    let id = scene.insert("oUser", json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "dead").await;
    assert_eq!(row.errcode, Some(47003));
    assert_eq!(row.credit.as_deref(), Some("kept"));
    assert!(row.errmsg.as_deref().unwrap().contains("thing9"), "{row:?}");
    let pair = scene.ledger().pair(APP, "oUser", TEMPLATE).cloned();
    assert_eq!(pair.unwrap().remaining, Some(1));
}

#[tokio::test]
async fn an_errcode_nobody_knows_is_tried_three_times_more_and_then_dead() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::send(Action::errcode(77_777)).openid("oUnlucky"));
    let id = scene.insert("oUnlucky", json!({})).await;
    let other = scene.insert("oLucky", json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "dead").await;
    assert_eq!((row.errcode, row.attempts), (Some(77_777), 4));
    assert_eq!(row.credit.as_deref(), Some("unknown"));
    assert_eq!(scene.sends_to("oUnlucky"), 4);
    assert_eq!(scene.status(other).await, "sent");
}

/// The next midnight in China, UTC+8.
fn china_midnight(now: DateTime<Utc>) -> DateTime<Utc> {
    let day = (now + TimeDelta::hours(8)).date_naive() + Days::new(1);
    day.and_hms_opt(0, 0, 0).unwrap().and_utc() - TimeDelta::hours(8)
}

#[tokio::test]
async fn a_used_up_quota_pauses_the_mini_program_until_midnight_in_china() {
    let scene = Scene::new().await;
    scene.register(OTHER_APP).await;
    scene.wechat.set_quota(APP, Some(10), None);
    let before = china_midnight(Utc::now());
    let ids = scene.insert_many("oUser", 60, json!({})).await;
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "4"), (OTHER_SECRET, SECRET)]);
    let reason = scene.until_paused(APP).await;
    assert!(reason.contains("45009"), "{reason}");
    scene.until_no_lease().await;

    let until: DateTime<Utc> =
        sqlx::query_scalar("select paused_until from wechat_apps where appid = $1")
            .bind(APP)
            .fetch_one(scene.pool())
            .await
            .unwrap();
    let after = china_midnight(Utc::now());
    assert!(
        until >= before && until <= after + TimeDelta::seconds(61),
        "{until} for {before}"
    );
    assert_eq!(scene.count_with_status(&ids, "sent").await, 10);
    assert_eq!(scene.count_with_status(&ids, "paused").await, 50);
    assert!(scene.sends() <= 10 + 2 * 4, "{} sends", scene.sends());
    let counted = "select count(*) from pending_notifications where attempts > 0";
    assert_eq!(scene.count(counted).await, 0);
    // The others' business goes on.
    let other = json!({ "appid": OTHER_APP });
    let other = scene.insert("oOther", other).await;
    scene.until(other, "sent").await;
}

#[tokio::test]
async fn a_template_that_is_gone_pauses_its_rows_and_no_others() {
    let scene = Scene::new().await;
    let rule = Rule::send(Action::errcode(40037)).template_id("template-gone");
    scene.wechat.script(rule);
    let gone = json!({ "template_id": "template-gone" });
    let paused = scene.insert_many("oGone", 20, gone).await;
    let others = scene.insert_many("oOther", 20, json!({})).await;
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "2")]);
    scene.until_all(&others, "sent").await;
    scene.until_all(&paused, "paused").await;
    let row = scene.seen(paused[0]).await;
    assert!(row.reason.as_deref().unwrap().contains("40037"), "{row:?}");
    assert_eq!(row.attempts, 0);
    let until = "select paused_until::text from wechat_templates";
    assert_eq!(
        paused_until(&scene, until).await.as_deref(),
        Some("infinity")
    );
    assert!(scene.sends() <= 20 + 8, "{} sends", scene.sends());
}

/// They are leased ahead, and the database's pause stops later leases alone.
#[tokio::test]
async fn rows_that_were_leased_before_their_template_was_paused_are_not_sent_after_it() {
    let scene = Scene::new().await;
    scene.wechat.script(Rule::send(Action::errcode(40037)));
    let rows = scene.insert_many("oGone", 50, json!({})).await;
    let _worker = scene.start(&[("WXNOTIFY_CONCURRENCY", "1")]);
    scene.until_all(&rows, "paused").await;
    assert_eq!(scene.sends(), 1);
    let counted = "select count(*) from pending_notifications where attempts > 0";
    assert_eq!(scene.count(counted).await, 0);
}

#[tokio::test]
async fn after_a_pause_one_row_goes_first_and_the_others_follow_its_success() {
    let scene = Scene::new().await;
    scene.register(OTHER_APP).await;
    scene
        .as_worker("update wechat_apps set paused_until = clock_timestamp(), probing = true where appid like '%4444'")
        .await;
    let ids = scene.insert_many("oUser", 20, json!({})).await;
    scene.wechat.hold();
    let _worker = scene.start(&[(OTHER_SECRET, SECRET)]);
    scene.until_sends(1).await;
    // The worker has time and slots for others: it comes back to this mini-program between them.
    for number in 0..3 {
        let other = json!({ "appid": OTHER_APP });
        scene.insert(&format!("oOther{number}"), other).await;
        scene.until_sends(2 + number).await;
    }
    let calls = |scene: &Scene| scene.ledger().sends().filter(|c| c.appid == APP).count();
    assert_eq!(calls(&scene), 1);

    scene.wechat.release();
    scene.until_all(&ids, "sent").await;
    let ledger = scene.ledger();
    let mut sends = ledger.sends().filter(|call| call.appid == APP);
    let probe = sends.next().unwrap();
    assert!(sends.next().unwrap().arrived_at >= probe.answered_at.unwrap());
    let probing = "select count(*) from wechat_apps where probing";
    assert_eq!(scene.count(probing).await, 0);
}

#[tokio::test]
async fn a_probe_that_fails_keeps_the_mini_program_paused() {
    let scene = Scene::new().await;
    scene
        .as_worker("update wechat_apps set paused_until = clock_timestamp(), probing = true")
        .await;
    scene.wechat.set_quota(APP, Some(0), None);
    let ids = scene.insert_many("oUser", 20, json!({})).await;
    let _worker = scene.start(&[]);
    scene.until_paused(APP).await;
    scene.until_all(&ids, "paused").await;
    assert_eq!(scene.sends(), 1);
}

#[tokio::test]
async fn a_token_stolen_mid_way_is_replaced_once_and_every_row_is_sent_once() {
    let scene = Scene::new().await;
    scene
        .wechat
        .set_latency(std::time::Duration::from_millis(10));
    let ids = scene.insert_many("oUser", 100, json!({})).await;
    let _worker = scene.start(&[]);
    scene.until_sends(30).await;
    scene.wechat.steal_token(APP);
    scene.until_all(&ids, "sent").await;
    let counts = scene.wechat.counts();
    assert!(
        counts.errcodes[&40001] >= 1,
        "the theft was noticed: {counts:?}"
    );
    assert_eq!(counts.sends_accepted, 100);
    assert_eq!(counts.token_calls, 2);
    let counted = "select count(*) from notification_history where attempts <> 1";
    assert_eq!(scene.count(counted).await, 0);
}

#[tokio::test]
async fn a_wrong_secret_pauses_the_mini_program_and_loses_nothing() {
    let scene = Scene::new().await;
    scene
        .wechat
        .add_app(wxnotify::simulate::AppSpec::new(APP, SECRET));
    let ids = scene.insert_many("oUser", 30, json!({})).await;
    let wrong = [("WXNOTIFY_APPSECRET_wx1111222233334444", "mistyped")];
    let worker = scene.start(&wrong);
    let reason = scene.until_paused(APP).await;
    assert!(reason.contains("40125"), "{reason}");
    assert!(!reason.contains("mistyped"), "{reason}");
    scene.until_all(&ids, "paused").await;
    worker.stop().await;
    assert_eq!(scene.sends(), 0);
    assert!(scene.wechat.counts().token_calls <= 2);

    // The operator corrects the secret and resumes.
    let _worker = scene.start(&[]);
    sqlx::query("select resume_app($1, 1000, 'operator')")
        .bind(APP)
        .execute(scene.pool())
        .await
        .unwrap();
    scene.until_all(&ids, "sent").await;
    assert_eq!(scene.sends(), 30);
}

#[tokio::test]
async fn a_user_busy_elsewhere_waits_a_little_and_no_attempt_is_counted() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::send(Action::errcode(43108)).openid("oBusy").once());
    let busy = scene.insert("oBusy", json!({})).await;
    let free = scene.insert("oFree", json!({})).await;
    let _worker = scene.start(&[]);
    let row = scene.until(busy, "sent").await;
    assert_eq!(row.attempts, 1);
    let parks = [(0, "park".to_owned(), Some(43108))];
    assert_eq!(attempts(&scene, busy).await, parks);
    assert_eq!(scene.status(free).await, "sent");
    let ledger = scene.ledger();
    let sends: Vec<_> = ledger.sends_to("oBusy").collect();
    let waited = sends[1].arrived_at - sends[0].answered_at.unwrap();
    assert!(waited >= TimeDelta::milliseconds(1900), "{waited}");
}

#[tokio::test]
async fn a_long_term_message_without_subscription_waits_without_an_attempt_until_the_user_accepts()
{
    let scene = Scene::without_credits().await;
    scene
        .wechat
        .add_template(APP, TemplateSpec::new(TEMPLATE, ["thing1"]).long_term());
    let long_term = json!({"kind": "long_term", "attempts_max": 1});
    let id = scene.insert("oUser", long_term.clone()).await;
    let _worker = scene.start(&[]);
    let row = scene.until(id, "paused").await;
    assert_eq!((row.attempts, row.errcode), (0, Some(43101)));
    let next = scene.insert("oUser", long_term).await;
    scene.until(next, "paused").await;
    assert_eq!(scene.sends(), 1, "the second is not even tried");

    scene.wechat.grant(APP, "oUser", TEMPLATE, 1);
    let accept = json!({"Event": "subscribe_msg_popup_event", "FromUserName": "oUser", "CreateTime": Utc::now().timestamp() + 1,
        "List": {"TemplateId": TEMPLATE, "SubscribeStatusString": "accept"}});
    sqlx::query("select wxnotify_ingest_event($1, $2)")
        .bind(APP)
        .bind(accept)
        .execute(scene.pool())
        .await
        .unwrap();
    scene.until_all(&[id, next], "sent").await;
}

/// Whoever sees the refusals that follow a ban must find the ban, once and not every quarter of a minute.
#[tokio::test]
async fn a_punishment_is_told_once_by_one_of_the_workers() {
    let scene = Scene::new().await;
    let punish = async |punish_id: &str| {
        let event = json!({
            "Event": "wxa_punish_event", "event_type": 2, "punish_id": punish_id, "appid": APP, "punish_time": 1_760_000_000,
            "illegal_reason": "涉嫌诱导订阅", "illegal_content": "the text of a message",
            "banned_function_names": "订阅消息", "banned_days": 7,
        });
        sqlx::query_scalar::<_, i32>("select wxnotify_ingest_event($1, $2)")
            .bind(APP)
            .bind(event)
            .fetch_one(scene.pool())
            .await
            .unwrap()
    };
    assert_eq!(punish("first").await, 1);
    assert_eq!(punish("first").await, 0, "WeChat repeats its pushes");
    let environment = |name| {
        environment(
            scene.database.url(),
            &scene.fake.base_url(),
            &[("WXNOTIFY_WORKER", name)],
        )
    };
    let sentence = "WeChat punished";
    let mut one = super::Program::spawn(environment("one"));
    one.until_logged(sentence).await;
    let mut other = super::Program::spawn(environment("other"));
    // A worker's first round of maintenance is over when its heartbeat stands and a row was sent.
    let id = scene.insert("oUser", json!({})).await;
    scene.until(id, "sent").await;
    for worker in [&mut one, &mut other] {
        worker.signal(Signal::SIGTERM);
        worker.end().await;
    }
    let log = one.log() + &other.log();
    assert_eq!(log.matches(sentence).count(), 1, "{log}");
    let told = log.lines().find(|line| line.contains(sentence)).unwrap();
    for word in [
        APP,
        "functions banned (订阅消息) for 7 days",
        "涉嫌诱导订阅",
    ] {
        assert!(told.contains(word), "{told}");
    }
    assert!(!log.contains("the text of a message"), "{told}");
}
