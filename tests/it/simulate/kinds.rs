//! The fake's login codes, device messages and service cards.

use std::time::Duration;

use serde_json::{Value, json};
use wxnotify::simulate::{
    AppSpec, CardCodeSpec, CardStateSpec, CardTypeSpec, DEVICE_SEND_PATH, GET_CARD_PATH,
    LOGIN_PATH, SET_CARD_EXT_PATH, SET_CARD_PATH, SimulateOptions, TemplateSpec,
};

use super::{APP, OTHER_USER, SECRET, TEMPLATE, USER, World, assert_refused, message};

const CODE: &str = "4200000000202611220000000001";

impl World {
    async fn exchange(&self, appid: &str, secret: &str, code: &str) -> Value {
        let query =
            format!("appid={appid}&secret={secret}&js_code={code}&grant_type=authorization_code");
        self.get(&format!("{LOGIN_PATH}?{query}")).await
    }

    async fn call(&self, path: &str, body: Value) -> Value {
        let path = format!("{path}?access_token={}", self.token().await);
        self.post(&path, body.to_string()).await
    }

    async fn set_card(&self, status: i64) -> Value {
        self.call(
            SET_CARD_PATH,
            card(json!({"cur_status": status, "wxa_path_query": "pages/o"})),
        )
        .await
    }

    /// A card 2001 of a payment: 1, then 2, and 3 is the end.
    async fn with_a_payment() -> Self {
        let world = World::with(SimulateOptions::strict([AppSpec::new(APP, SECRET)])).await;
        let state = |status, activates, after: &[i64], is_final| CardStateSpec {
            status,
            activates,
            after: after.to_vec(),
            is_final,
        };
        let states = vec![
            state(1, true, &[], false),
            state(2, false, &[1, 3], false),
            state(3, false, &[2], true),
        ];
        world.control.add_card_type(
            APP,
            CardTypeSpec {
                notify_type: 2001,
                states,
            },
        );
        let code = CardCodeSpec {
            openid: USER.to_owned(),
            notify_type: 2001,
            notify_code: CODE.to_owned(),
            pay_amount: Some(3600),
            pay_time: Some(1_795_330_860),
        };
        world.control.issue_card_code(APP, code);
        world
    }
}

fn card(content: Value) -> Value {
    json!({
        "openid": USER, "notify_type": 2001, "notify_code": CODE, "content_json": content.to_string(),
        "check_json": json!({"pay_amount": 3600, "pay_time": 1_795_330_860}).to_string(),
    })
}

fn device(sn: &str, model_id: &str) -> Value {
    json!({
        "to_openid_list": [USER], "template_id": "TmplDevice", "sn": sn, "modelId": model_id, "page": "pages/device",
        "lang": "zh_CN", "data": {"thing1": {"value": "客厅"}},
    })
}

#[tokio::test]
async fn a_code_is_exchanged_once_within_five_minutes() {
    let world = World::strict().await;
    let code = world.control.issue_login_code(APP, USER);
    let answer = world.exchange(APP, SECRET, &code).await;
    assert_eq!(answer["openid"], USER);
    assert!(
        answer["session_key"].is_string() && answer.get("errcode").is_none(),
        "{answer}"
    );
    assert_refused(&world.exchange(APP, SECRET, &code).await, 40163);

    let late = world.control.issue_login_code(APP, USER);
    world.control.advance_clock(Duration::from_secs(301));
    assert_refused(&world.exchange(APP, SECRET, &late).await, 40029);
    assert_refused(&world.exchange(APP, SECRET, "0aNobodys").await, 40029);
}

#[tokio::test]
async fn an_exchange_is_checked_before_its_code_is_used() {
    let world = World::strict().await;
    let code = world.control.issue_login_code(APP, USER);
    assert_refused(&world.exchange("", SECRET, &code).await, 41002);
    assert_refused(&world.exchange(APP, "", &code).await, 41004);
    assert_refused(&world.exchange(APP, SECRET, "").await, 41008);
    assert_refused(&world.exchange("wxother", SECRET, &code).await, 40013);
    assert_refused(&world.exchange(APP, "wrong", &code).await, 40125);
    assert_refused(&world.post(LOGIN_PATH, "{}").await, 43001);
    let wrong = format!(
        "{LOGIN_PATH}?appid={APP}&secret={SECRET}&js_code={code}&grant_type=client_credential"
    );
    assert_refused(&world.get(&wrong).await, 40002);
    world.control.block_login(APP, USER, true);
    assert_refused(&world.exchange(APP, SECRET, &code).await, 40226);
    world.control.block_login(APP, USER, false);
    assert_eq!(world.exchange(APP, SECRET, &code).await["openid"], USER);
}

#[tokio::test]
async fn the_101st_exchange_of_a_user_in_a_minute_is_refused() {
    let world = World::strict().await;
    // At the beginning of a minute.
    let into_the_minute = u64::try_from(chrono::Utc::now().timestamp().rem_euclid(60)).unwrap();
    world
        .control
        .advance_clock(Duration::from_secs(61 - into_the_minute));
    for _ in 0..100 {
        let code = world.control.issue_login_code(APP, USER);
        assert_eq!(world.exchange(APP, SECRET, &code).await["openid"], USER);
    }
    let code = world.control.issue_login_code(APP, USER);
    assert_refused(&world.exchange(APP, SECRET, &code).await, 45011);
    world.control.advance_clock(Duration::from_secs(60));
    assert_eq!(world.exchange(APP, SECRET, &code).await["openid"], USER);
}

#[tokio::test]
async fn a_device_message_needs_a_subscription_to_that_very_device() {
    let world = World::strict().await;
    let template = TemplateSpec::new("TmplDevice", ["thing1"]).device();
    world.control.add_template(APP, template);
    assert_refused(
        &world.call(DEVICE_SEND_PATH, device("SN-1", "m")).await,
        43101,
    );
    world
        .control
        .subscribe_device(APP, USER, "TmplDevice", "SN-1", "m");
    for _ in 0..2 {
        let answer = world.call(DEVICE_SEND_PATH, device("SN-1", "m")).await;
        assert_eq!(answer, json!({"errcode": 0, "errmsg": "ok"}));
    }
    for (sn, model_id, errcode) in [
        ("SN-2", "m", 9_800_006),
        ("SN-1", "n", 9_800_006),
        ("SN 1", "m", 9_800_002),
        ("", "m", 9_800_002),
        (&*"a".repeat(129), "m", 9_800_001),
        ("SN-1", "", 9_800_003),
    ] {
        assert_refused(
            &world.call(DEVICE_SEND_PATH, device(sn, model_id)).await,
            errcode,
        );
    }
    let mut nobody = device("SN-1", "m");
    nobody["to_openid_list"] = json!([]);
    assert_refused(&world.call(DEVICE_SEND_PATH, nobody).await, 40032);
    let mut stranger = device("SN-1", "m");
    stranger["to_openid_list"] = json!([USER, OTHER_USER]);
    assert_refused(&world.call(DEVICE_SEND_PATH, stranger).await, 40003);
    world.control.refuse(APP, USER, "TmplDevice", true);
    assert_refused(
        &world.call(DEVICE_SEND_PATH, device("SN-1", "m")).await,
        43101,
    );
    assert_eq!(world.accepted(), 2);
}

#[tokio::test]
async fn templates_of_devices_and_plain_ones_are_not_exchangeable() {
    let world = World::strict().await;
    world
        .control
        .add_template(APP, TemplateSpec::new("TmplDevice", ["thing1"]).device());
    world.control.grant(APP, USER, "TmplDevice", 1);
    let mut plain = message();
    plain["template_id"] = json!("TmplDevice");
    assert_refused(&world.send(&plain).await, 40037);
    let mut to_a_device = device("SN-1", "m");
    to_a_device["template_id"] = json!(TEMPLATE);
    assert_refused(&world.call(DEVICE_SEND_PATH, to_a_device).await, 40037);
}

#[tokio::test]
async fn a_card_goes_through_its_states_and_shows_the_present_one() {
    let world = World::with_a_payment().await;
    let ask = json!({"openid": USER, "notify_type": 2001, "notify_code": CODE});
    let unset = world.call(GET_CARD_PATH, ask.clone()).await;
    assert_eq!(unset["notify_info"]["content_json"], "");
    assert_refused(&world.set_card(2).await, 85439);
    assert_eq!(
        world.set_card(1).await,
        json!({"errcode": 0, "errmsg": "ok"})
    );
    assert_refused(&world.set_card(1).await, 85448);
    assert_refused(&world.set_card(3).await, 85439);
    assert_eq!(world.set_card(2).await["errcode"], 0);
    assert_eq!(world.set_card(3).await["errcode"], 0);
    // 2 may follow 3 by its own list, but 3 is the end.
    assert_refused(&world.set_card(2).await, 85439);
    assert_refused(&world.set_card(9).await, 85439);
    let shown = world.call(GET_CARD_PATH, ask).await;
    assert_eq!(shown["notify_info"]["notify_type"], 2001);
    assert_eq!(shown["notify_info"]["code_state"], 0);
    let content: Value =
        serde_json::from_str(shown["notify_info"]["content_json"].as_str().unwrap()).unwrap();
    assert_eq!(content["cur_status"], 3);
    assert_eq!(world.accepted(), 3);
}

#[tokio::test]
async fn an_activation_is_checked_against_the_payment_and_in_time() {
    let world = World::with_a_payment().await;
    let state = json!({"cur_status": 1, "wxa_path_query": "p"});
    for (check, errcode) in [
        (json!(""), 85433),
        (json!("{}"), 85433),
        (json!(r#"{"pay_amount":1,"pay_time":1795330860}"#), 85438),
    ] {
        let mut unpaid = card(state.clone());
        unpaid["check_json"] = check;
        assert_refused(&world.call(SET_CARD_PATH, unpaid).await, errcode);
    }
    world
        .control
        .advance_clock(Duration::from_secs(24 * 3600 + 1));
    assert_refused(&world.call(SET_CARD_PATH, card(state)).await, 85438);
}

#[tokio::test]
async fn a_card_is_updated_for_thirty_days() {
    let world = World::with_a_payment().await;
    assert_eq!(world.set_card(1).await["errcode"], 0);
    world
        .control
        .advance_clock(Duration::from_secs(29 * 86_400));
    assert_eq!(world.set_card(2).await["errcode"], 0);
    world.control.advance_clock(Duration::from_secs(2 * 86_400));
    assert_refused(&world.set_card(3).await, 85438);
}

#[tokio::test]
async fn what_is_wrong_with_a_card_has_an_errcode_of_its_own() {
    let world = World::with_a_payment().await;
    world.control.set_sensitive_words(["赌博"]);
    for (content, errcode) in [
        (json!("no object"), 85435),
        (json!({"wxa_path_query": "p"}), 85440),
        (json!({"cur_status": 1}), 85440),
        (json!({"cur_status": "1", "wxa_path_query": "p"}), 85441),
        (json!({"cur_status": 1, "wxa_path_query": 7}), 85441),
        (
            json!({"cur_status": 1, "wxa_path_query": "p", "name": "赌博"}),
            85442,
        ),
    ] {
        assert_refused(&world.call(SET_CARD_PATH, card(content)).await, errcode);
    }
    let state = json!({"cur_status": 1, "wxa_path_query": "p"});
    for (member, value, errcode) in [
        ("notify_type", json!(2002), 85434),
        ("notify_code", json!("another"), 85437),
        ("openid", json!("oNobody"), 40003),
    ] {
        let mut other = card(state.clone());
        other[member] = value;
        assert_refused(&world.call(SET_CARD_PATH, other).await, errcode);
    }
    let ext =
        json!({"openid": USER, "notify_type": 2001, "notify_code": CODE, "ext_json": "nothing"});
    assert_refused(&world.call(SET_CARD_EXT_PATH, ext).await, 85470);
    world.control.set_card_code_state(APP, CODE, 10);
    assert_refused(&world.call(SET_CARD_PATH, card(state)).await, 85436);
}

#[tokio::test]
async fn the_control_requests_do_the_same_over_http() {
    let world = World::open().await;
    let ok = |answer: Value| assert_eq!(answer["ok"], true, "{answer}");
    let pair = json!({"appid": APP, "openid": USER});
    let issued = world.post("/_control/login_code", pair.to_string()).await;
    let code = issued["code"].as_str().unwrap();
    assert_eq!(world.exchange(APP, SECRET, code).await["openid"], USER);
    ok(world.post("/_control/block_login", pair.to_string()).await);
    let code = world.control.issue_login_code(APP, USER);
    assert_refused(&world.exchange(APP, SECRET, &code).await, 40226);

    let subscription = json!({"appid": APP, "openid": USER, "template_id": "TmplDevice", "sn": "SN-2", "model_id": "m"});
    ok(world
        .post("/_control/subscribe_device", subscription.to_string())
        .await);
    assert_refused(
        &world.call(DEVICE_SEND_PATH, device("SN-1", "m")).await,
        9_800_006,
    );

    let states =
        json!({"appid": APP, "notify_type": 2001, "states": [{"status": 7, "activates": true}]});
    ok(world.post("/_control/card_type", states.to_string()).await);
    let code = json!({"appid": APP, "openid": USER, "notify_type": 2001, "notify_code": CODE});
    ok(world.post("/_control/card_code", code.to_string()).await);
    assert_refused(&world.set_card(1).await, 85439);
    assert_eq!(world.set_card(7).await["errcode"], 0);
    let failure = json!({"appid": APP, "notify_code": CODE, "fail_ret": -1004});
    ok(world
        .post("/_control/card_failure", failure.to_string())
        .await);
}
