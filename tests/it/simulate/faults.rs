//! Faults on demand, before and after the credit, and callers who leave.

use std::time::Duration;

use serde_json::Value;
use wxnotify::simulate::{Action, Rule, SEND_PATH};

use super::{
    APP, OTHER_USER, PATIENCE, SECRET, TEMPLATE, USER, World, assert_refused, assert_sent, message,
    message_to, token_of,
};

/// A fake whose user has one credit, under one rule.
async fn scripted(action: Action) -> World {
    let world = World::strict().await;
    world.control.grant(APP, USER, TEMPLATE, 1);
    world.control.script(Rule::send(action).once());
    world
}

#[tokio::test]
async fn a_hang_before_the_credit_leaves_it_for_the_next_attempt() {
    let world = scripted(Action::hang_before_credit()).await;
    world
        .send_and_leave(|counts| counts.sends_answered == 1)
        .await;
    assert_eq!((world.accepted(), world.remaining()), (0, Some(1)));
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_hang_after_the_credit_took_it_though_nobody_was_told() {
    let world = scripted(Action::hang_after_credit()).await;
    world
        .send_and_leave(|counts| counts.sends_answered == 1)
        .await;
    assert_refused(&world.send(&message()).await, 43101);
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert!(call.accepted && call.credit_taken && !call.reply_delivered);
    assert!(call.msgid.is_some() && call.answered_at.is_none());
    assert_eq!(call.fault.as_deref(), Some("hang"));
    assert_eq!(ledger.counts.replies_lost, 1);
}

#[tokio::test]
async fn a_reset_is_no_time_out_and_no_answer_whether_or_not_the_credit_was_taken() {
    for (action, remaining) in [
        (Action::reset_before_credit(), Some(1)),
        (Action::reset_after_credit(), Some(0)),
    ] {
        let world = scripted(action).await;
        let error = world.raw_send().await.unwrap_err();
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
        assert_eq!(world.remaining(), remaining);
        let ledger = world.control.ledger();
        let call = ledger.sends().next().unwrap();
        assert!(!call.reply_delivered && call.answered_at.is_some());
        assert_eq!(call.errcode, remaining.filter(|left| *left == 0).map(|_| 0));
    }
}

#[tokio::test]
async fn an_errcode_on_demand_strikes_before_or_after_the_credit() {
    let world = scripted(Action::errcode(-1)).await;
    let answer = world.send(&message()).await;
    assert_refused(&answer, -1);
    assert!(
        answer["errmsg"]
            .as_str()
            .unwrap()
            .starts_with("system error rid:")
    );
    assert_eq!(world.remaining(), Some(1));

    let world = scripted(Action::errcode_after_credit(-1)).await;
    assert_refused(&world.send(&message()).await, -1);
    assert_eq!((world.accepted(), world.remaining()), (1, Some(0)));
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert_eq!(
        (call.errcode, call.accepted, call.reply_delivered),
        (Some(-1), true, false)
    );
}

#[tokio::test]
async fn a_slow_answer_keeps_the_user_busy() {
    let world = scripted(Action::delay(PATIENCE)).await;
    world.control.grant(APP, USER, TEMPLATE, 1);
    let slow = world.start_send(message()).await;
    world
        .control
        .wait_until(|counts| counts.sends_accepted == 1)
        .await;
    assert_refused(&world.send(&message()).await, 43108);
    slow.abort();
    world.control.wait_for_sends(2, PATIENCE).await.unwrap();
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_late_answer_is_the_true_one() {
    let world = scripted(Action::delay(Duration::from_millis(5))).await;
    assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert!(call.reply_delivered);
    assert!(call.answered_at.unwrap() - call.arrived_at >= chrono::TimeDelta::milliseconds(5));
}

/// What is no errcode answer, with the credit taken all the same.
#[tokio::test]
async fn a_reply_can_be_replaced_after_the_credit_was_taken() {
    let after_credit = true;
    let body = "busy".to_owned();
    let cases = [
        (
            Action::HttpStatus {
                status: 502,
                after_credit,
            },
            502,
            "<html>",
        ),
        (Action::EmptyBody { after_credit }, 200, ""),
        (Action::HalfJson { after_credit }, 200, r#"{"errcode":0"#),
        (
            Action::HugeErrcode { after_credit },
            200,
            r#"{"errcode":98765432109876543210987"#,
        ),
        (
            Action::Body {
                status: 200,
                body,
                after_credit,
            },
            200,
            "busy",
        ),
    ];
    for (action, status, beginning) in cases {
        let world = scripted(action.clone()).await;
        let (seen, text) = world.raw_send().await.unwrap();
        assert_eq!(seen, status, "{action:?}");
        assert!(text.starts_with(beginning), "{action:?} gave {text:?}");
        let answer = serde_json::from_str::<Value>(&text);
        assert!(answer.is_err() || answer.unwrap()["errcode"].as_i64().is_none());
        assert_eq!((world.accepted(), world.remaining()), (1, Some(0)));
        assert_eq!(world.control.counts().replies_lost, 1);
    }
}

#[tokio::test]
async fn a_gateway_page_before_the_credit_takes_nothing() {
    let world = scripted(Action::http_status(503)).await;
    let (status, _) = world.raw_send().await.unwrap();
    assert_eq!((status, world.remaining()), (503, Some(1)));
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn a_cut_body_ends_before_its_announced_length() {
    let world = scripted(Action::CutBody { after_credit: true }).await;
    let error = world.raw_send().await.unwrap_err();
    assert!(error.is_body() || error.is_decode(), "{error:?}");
    assert!(!error.is_timeout());
    assert_eq!(world.remaining(), Some(0));
}

#[tokio::test]
async fn a_huge_body_is_as_long_as_asked() {
    let bytes = 3_000_000;
    let world = scripted(Action::HugeBody {
        bytes,
        after_credit: false,
    })
    .await;
    let (status, text) = world.raw_send().await.unwrap();
    assert_eq!(status, 200);
    assert!(text.len() as u64 >= bytes);
    assert!(serde_json::from_str::<Value>(&text).is_ok());
}

#[tokio::test]
async fn a_rule_hits_only_the_calls_it_describes() {
    let world = World::open().await;
    let rule = Rule::send(Action::errcode(-1))
        .openid(USER)
        .after(1)
        .times(2);
    world.control.script(rule);
    let mut errcodes = Vec::new();
    for openid in [USER, OTHER_USER, USER, OTHER_USER, USER, USER] {
        let answer = world.send(&message_to(openid)).await;
        errcodes.push(answer["errcode"].as_i64().unwrap());
    }
    assert_eq!(errcodes, [0, 0, -1, 0, -1, 0]);
    world
        .control
        .script(Rule::send(Action::errcode(48001)).template_id(TEMPLATE));
    assert_refused(&world.send(&message()).await, 48001);
    world.control.clear_scripts();
    assert_sent(&world.send(&message()).await);
    world
        .control
        .script(Rule::token(Action::errcode(-1)).appid("wxAnother"));
    assert_refused(&world.stable("wxAnother", "x", false).await, -1);
    token_of(&world.stable(APP, SECRET, false).await);
}

#[tokio::test]
async fn a_caller_who_leaves_a_held_send_took_nothing_and_frees_the_user() {
    let world = World::open().await;
    world.control.hold();
    world
        .send_and_leave(|counts| counts.sends_arrived == 1)
        .await;
    world.control.wait_for_sends(1, PATIENCE).await.unwrap();
    world.control.release();
    assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert_eq!(
        (call.accepted, call.answered_at, call.reply_delivered),
        (false, None, false)
    );
    assert_eq!(call.fault.as_deref(), Some("caller_gone"));
}

/// The message was accepted before the wait began.
#[tokio::test]
async fn a_caller_who_leaves_late_leaves_a_sent_message_behind() {
    let world = World::open().await;
    world.control.script(Rule::send(Action::delay(PATIENCE)));
    world
        .send_and_leave(|counts| counts.sends_accepted == 1)
        .await;
    world.control.wait_for_sends(1, PATIENCE).await.unwrap();
    let ledger = world.control.ledger();
    let call = ledger.sends().next().unwrap();
    assert!(call.accepted && !call.reply_delivered && call.answered_at.is_none());
    assert_eq!(ledger.counts.replies_lost, 1);
}

/// Half of the latency passes before the call is judged.
#[tokio::test]
async fn a_caller_who_leaves_early_in_the_latency_was_never_judged() {
    let world = World::open().await;
    world.token().await;
    let path = format!("{SEND_PATH}?access_token={}", world.token().await);
    world.control.set_latency(10 * PATIENCE);
    let request = world
        .http
        .post(world.url(&path))
        .body(message().to_string());
    let sending = tokio::spawn(request.send());
    world.control.wait_for_calls(1).await;
    sending.abort();
    world.control.wait_for_sends(1, PATIENCE).await.unwrap();
    assert_eq!(
        (world.accepted(), world.control.counts().replies_lost),
        (0, 0)
    );
}

// Ledger, waiting, control
