//! Quotas as WeChat tells them, rates that follow, clearing by hand, and what WeChat saw of a failed call.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use wxnotify::operate::OperateError;
use wxnotify::operate::report::Style;
use wxnotify::simulate::{Action, QUOTA_GET_PATH, Rule, TemplateSpec};

use crate::harness::{eventually, run, value, wxnotify};
use crate::templates::{command, operate};
use crate::worker::{APP, SECRET, Scene, TEMPLATE, environment};

async fn rate(scene: &Scene) -> Option<f32> {
    value(scene.pool(), &format!("wxnotify_app_rate('{APP}')")).await
}

async fn until_quota_is_read(scene: &Scene) {
    eventually("the quota is read", async || {
        let read = "select count(*) from wechat_apps where quota_read_at is not null";
        (scene.count(read).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_takes_the_rate_and_the_budget_from_wechat() {
    let scene = Scene::new().await;
    scene.wechat.set_quota(APP, Some(5_000), Some(6_000));
    assert_eq!(rate(&scene).await, None);
    let running = scene.start(&[]);
    until_quota_is_read(&scene).await;
    running.stop().await;
    assert_eq!(rate(&scene).await, Some(95.0));
    let shown = command(&scene, &format!("quota {APP} --known")).await;
    let quota = &shown["quotas"][0];
    assert_eq!(quota["daily_limit"], 5_000);
    assert_eq!(quota["remaining"], 5_000);
    assert_eq!(quota["quota_rate_per_second"], 100.0);
    assert_eq!(quota["operator_rate_per_second"], Value::Null);
}

#[tokio::test]
async fn an_operator_s_rate_wins_over_wechat_s_and_is_kept() {
    let scene = Scene::new().await;
    scene.wechat.set_quota(APP, Some(5_000), Some(6_000));
    command(&scene, &format!("app rate {APP} 20")).await;
    command(&scene, "quota").await;
    assert_eq!(rate(&scene).await, Some(20.0));
    command(&scene, &format!("app rate {APP} none")).await;
    assert_eq!(rate(&scene).await, Some(95.0));
}

#[tokio::test]
async fn the_quota_is_shown_as_wechat_tells_it_now() {
    let scene = Scene::new().await;
    scene.wechat.set_quota(APP, Some(3), None);
    let id = scene.insert("o1", json!({})).await;
    let running = scene.start(&[]);
    scene.until(id, "sent").await;
    running.stop().await;
    let report = operate(&scene, &format!("quota {APP}")).await.unwrap();
    let quota = &report.document()["quotas"][0];
    assert_eq!(
        (&quota["used"], &quota["remaining"]),
        (&json!(1), &json!(2))
    );
    let text = report.to_text(Style::PLAIN);
    assert!(text.contains("not known"), "{text}");
    let token: String = value(scene.pool(), "access_token from wechat_access_tokens").await;
    for secret in [SECRET, token.as_str()] {
        assert!(
            !text.contains(secret) && !report.to_json().contains(secret),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_day_s_quota_that_is_used_up_pauses_until_calls_are_left_again() {
    let scene = Scene::new().await;
    scene.wechat.set_quota(APP, Some(1), None);
    let ids = [
        scene.insert("o1", json!({})).await,
        scene.insert("o2", json!({})).await,
    ];
    let running = scene.start(&[]);
    let reason = scene.until_paused(APP).await;
    assert!(reason.contains("45009"), "{reason}");
    let midnight = "(paused_until at time zone 'Asia/Shanghai')::time < '00:02' from wechat_apps";
    assert!(value::<bool>(scene.pool(), midnight).await);
    eventually("the question is due in an hour", async || {
        let due: bool = value(
            scene.pool(),
            "due_at between now() + interval '50 minutes' and now() + interval '67 minutes' from wechat_lookups where lookup = 'quota'",
        )
        .await;
        due.then_some(())
    })
    .await;

    // Still used up: the pause stays, and the next look is an hour away again.
    let ask = "update wechat_lookups set due_at = now() where lookup = 'quota'";
    run(scene.pool(), ask).await;
    eventually("the quota is read while nothing is left", async || {
        let read: Option<bool> = value(scene.pool(), "quota_remaining = 0 from wechat_apps").await;
        read.unwrap_or(false).then_some(())
    })
    .await;
    let paused = "paused_until > now() from wechat_apps";
    assert!(value::<bool>(scene.pool(), paused).await);

    scene.wechat.set_quota(APP, Some(100), None);
    run(scene.pool(), ask).await;
    for id in ids {
        scene.until(id, "sent").await;
    }
    assert!(
        !value::<Option<bool>>(scene.pool(), paused)
            .await
            .unwrap_or(false)
    );
    running.stop().await;
}

#[tokio::test]
async fn sending_too_fast_halves_the_rate_and_it_comes_back_by_the_minute() {
    let scene = Scene::new().await;
    command(&scene, &format!("app rate {APP} 100")).await;
    let too_fast =
        format!("select wxnotify_pause_app('{APP}', null, 'next_minute', 'errcode 45011', 45011)");
    run(scene.pool(), &too_fast).await;
    let wait: f64 = value(
        scene.pool(),
        "extract(epoch from paused_until - date_trunc('minute', now()))::float8 from wechat_apps",
    )
    .await;
    assert!((61.0..=130.0).contains(&wait), "{wait}");
    let near = async |wanted: f32| {
        let rate = rate(&scene).await.unwrap();
        assert!(
            (wanted - 1.0..=wanted + 1.0).contains(&rate),
            "{rate}, not {wanted}"
        );
    };
    near(50.0).await;
    // What else was in flight meets the same refusal: it is one.
    run(
        scene.pool(),
        &format!("update wechat_apps set paused_until = null; {too_fast}"),
    )
    .await;
    near(50.0).await;
    let pass = "update wechat_apps set paused_until = null, rate_cut_at = rate_cut_at - interval '60 seconds'";
    run(scene.pool(), pass).await;
    near(60.0).await;
    run(scene.pool(), &too_fast).await;
    near(30.0).await;
    run(
        scene.pool(),
        "update wechat_apps set rate_cut_at = rate_cut_at - interval '8 minutes'",
    )
    .await;
    near(100.0).await;
    let kept: f32 = value(scene.pool(), "rate_per_second from wechat_apps").await;
    assert_eq!(kept, 100.0);
}

#[tokio::test]
async fn a_minute_quota_that_is_used_up_halves_the_rate_of_a_running_worker() {
    let scene = Scene::new().await;
    scene
        .wechat
        .script(Rule::send(Action::errcode(45011)).once());
    run(
        scene.pool(),
        "update wechat_apps set rate_per_second = 1000",
    )
    .await;
    let id = scene.insert("o1", json!({})).await;
    let running = scene.start(&[]);
    let reason = scene.until_paused(APP).await;
    assert!(reason.contains("45011"), "{reason}");
    let shown = command(&scene, "quota --known").await;
    assert_eq!(shown["quotas"][0]["rate_is_cut"], true);
    scene.lapse_pauses().await;
    scene.until(id, "sent").await;
    running.stop().await;
}

/// A mini-program whose pause has lapsed and who is to be tried with one row.
async fn to_be_probed(scene: &Scene) -> i64 {
    run(
        scene.pool(),
        "update wechat_apps set paused_until = now(), probing = true",
    )
    .await;
    scene.insert("o1", json!({})).await
}

#[tokio::test]
async fn a_gateway_that_answers_nobody_is_found_out_without_a_message() {
    let scene = Scene::new().await;
    let silent = Rule::new(Action::http_status(502)).path(QUOTA_GET_PATH);
    scene.wechat.script(silent);
    let id = to_be_probed(&scene).await;
    let running = scene.start(&[]);
    let reason = scene.until_paused(APP).await;
    assert!(reason.contains("no readable answer"), "{reason}");
    assert_eq!(scene.sends(), 0);
    assert!(!scene.seen(id).await.doubted);
    scene.wechat.clear_scripts();
    scene.lapse_pauses().await;
    eventually("the row is sent", async || {
        scene.lapse_pauses().await;
        (scene.status(id).await == "sent").then_some(())
    })
    .await;
    assert!(!value::<bool>(scene.pool(), "probing from wechat_apps").await);
    running.stop().await;
}

#[tokio::test]
async fn a_dead_token_is_replaced_before_the_row_that_tries() {
    let scene = Scene::new().await;
    command(&scene, "quota").await;
    scene.wechat.steal_token(APP);
    let id = to_be_probed(&scene).await;
    let running = scene.start(&[]);
    scene.until(id, "sent").await;
    running.stop().await;
    let counts = scene.wechat.counts();
    assert_eq!(counts.sends_arrived, 1, "{counts:?}");
}

/// A failed call of a worker, with its rid.
async fn failed_call(scene: &Scene) -> String {
    let fields = ["thing1", "thing2"];
    scene
        .wechat
        .add_template(APP, TemplateSpec::new(TEMPLATE, fields));
    let row = json!({"data": {"thing1": "private-words-9731"}, "page": "pages/order?id=private-words-9731"});
    let id = scene.insert("oSecretReceiver", row).await;
    // The list of templates is not read: the row would be refused here, not by WeChat.
    let running = scene.start(&[]);
    scene.until(id, "dead").await;
    running.stop().await;
    value(
        scene.pool(),
        &format!("rid from notification_attempts where notification_id = {id} and rid is not null"),
    )
    .await
}

#[tokio::test]
async fn a_rid_leads_to_what_wechat_saw_without_its_secrets() {
    let scene = Scene::new().await;
    let rid = failed_call(&scene).await;
    let report = operate(&scene, &format!("rid {rid}")).await.unwrap();
    let document = report.document();
    assert_eq!(document["appid"], APP);
    assert_eq!(document["attempt"]["errcode"], 47003);
    assert_eq!(document["request"]["template_id"], TEMPLATE);
    assert_eq!(
        document["request"]["data"]["thing1"]["value"],
        "[18 characters]"
    );
    assert_eq!(document["response"]["errcode"], 47003);
    let token: String = value(scene.pool(), "access_token from wechat_access_tokens").await;
    let secrets = [
        token.as_str(),
        "oSecretReceiver",
        "private-words-9731",
        SECRET,
    ];
    let shown = format!("{}{}", report.to_json(), report.to_text(Style::PLAIN));
    for secret in secrets {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(
        scene.count("select count(*) from operator_actions").await,
        0
    );

    let revealed = operate(&scene, &format!("rid {rid} --reveal"))
        .await
        .unwrap();
    let shown = revealed.to_json();
    for secret in &secrets[..3] {
        assert!(shown.contains(secret), "{shown}");
    }
    let filter: Value = value(
        scene.pool(),
        "filter from operator_actions where action = 'reveal_rid'",
    )
    .await;
    assert_eq!(filter, json!({"appid": APP, "rid": rid}));
}

/// What a command that fails says.
async fn failure(scene: &Scene, words: &str) -> String {
    let error = operate(scene, words).await.unwrap_err();
    let error = error.downcast_ref::<OperateError>().unwrap();
    let next = error.next.as_deref().unwrap_or_default();
    format!("{}\nnext: {next}", error.message)
}

#[tokio::test]
async fn a_rid_that_leads_nowhere_says_why() {
    let scene = Scene::new().await;
    let told = failure(&scene, "rid nonsense").await;
    assert!(told.contains("that is no rid"), "{told}");
    let told = failure(&scene, "rid 68e0a1b2-1c2d3e4f-00112233").await;
    assert!(
        told.contains("WeChat knows no such rid (errcode 76001)"),
        "{told}"
    );
    assert!(told.contains("next: "), "{told}");
    for (errcode, words) in [
        (76002, "malformed"),
        (76003, "made by another mini-program"),
        (76004, "older than the 7 days"),
    ] {
        scene.wechat.clear_scripts();
        scene
            .wechat
            .script(Rule::new(Action::errcode(errcode)).path("/cgi-bin/openapi/rid/get"));
        let told = failure(&scene, "rid 68e0a1b2-1c2d3e4f-00112233").await;
        assert!(told.contains(words) && told.contains("next: "), "{told}");
    }
    let told = failure(&scene, "rid 68e0a1b2-1c2d3e4f-00112233 --appid wxOther").await;
    assert!(told.contains("WXNOTIFY_APPSECRET_wxOther"), "{told}");
}

#[tokio::test]
async fn quotas_are_cleared_only_with_the_appid_typed_twice() {
    let scene = Scene::new().await;
    scene.wechat.set_quota(APP, Some(1), None);
    let ids = [
        scene.insert("o1", json!({})).await,
        scene.insert("o2", json!({})).await,
    ];
    let running = scene.start(&[]);
    scene.until_paused(APP).await;
    let cleared = "/cgi-bin/clear_quota";
    let clearings = || {
        let ledger = scene.ledger();
        ledger
            .calls
            .iter()
            .filter(|call| call.path == cleared)
            .count()
    };

    // Nobody can be asked, as in a script.
    let output = tokio::task::spawn_blocking({
        let environment = environment(scene.database.url(), &scene.fake.base_url(), &[]);
        move || {
            wxnotify()
                .args(["quota", "clear", APP])
                .envs(environment)
                .stdin(Stdio::null())
                .output()
                .unwrap()
        }
    })
    .await
    .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains("10 clearings that WeChat allows a month"),
        "{told}"
    );
    assert!(
        told.contains(&format!("--yes-clear-quota-of {APP}")),
        "{told}"
    );
    let told = failure(
        &scene,
        &format!("quota clear {APP} --yes-clear-quota-of wxOther"),
    )
    .await;
    assert!(told.contains("not confirmed"), "{told}");
    assert_eq!(clearings(), 0);

    let words = format!("quota clear {APP} --yes-clear-quota-of {APP} --note launch");
    command(&scene, &words).await;
    assert_eq!(clearings(), 1);
    let (filter, note): (Value, String) =
        sqlx::query_as("select filter, note from operator_actions where action = 'clear_quota'")
            .fetch_one(scene.pool())
            .await
            .unwrap();
    assert_eq!(filter, json!({"appid": APP, "result": "cleared"}));
    assert_eq!(note, "launch");
    // One send was counted before, one fits after.
    for id in ids {
        scene.until(id, "sent").await;
    }
    running.stop().await;
}

#[tokio::test]
async fn the_eleventh_clearing_of_a_month_says_so() {
    let scene = Scene::new().await;
    let words = format!("quota clear {APP} --yes-clear-quota-of {APP}");
    for _ in 0..10 {
        command(&scene, &words).await;
    }
    let told = failure(&scene, &words).await;
    assert!(told.contains("48006"), "{told}");
    assert!(
        told.contains("the 10 clearings of this month are used up"),
        "{told}"
    );
    assert_eq!(
        scene
            .count("select count(*) from operator_actions where action = 'clear_quota'")
            .await,
        11
    );
}

#[tokio::test]
async fn a_clearing_whose_reply_was_lost_may_have_been_done() {
    let scene = Scene::new().await;
    scene.wechat.set_latency(Duration::ZERO);
    scene
        .wechat
        .script(Rule::new(Action::reset_after_credit()).path("/cgi-bin/clear_quota"));
    let told = failure(
        &scene,
        &format!("quota clear {APP} --yes-clear-quota-of {APP}"),
    )
    .await;
    assert!(told.contains("it may have been done"), "{told}");
    assert_eq!(
        scene.count("select count(*) from operator_actions").await,
        1
    );
}
