//! The ledger: what really happened.

use std::time::Duration;

use wxnotify::simulate::{LedgerDetail, SEND_PATH, STABLE_TOKEN_PATH, SimulateOptions};

use super::{APP, TEMPLATE, USER, World, assert_refused, assert_sent, message};

#[tokio::test]
async fn a_held_send_has_arrived_but_is_not_judged() {
    let world = World::open().await;
    world.control.hold();
    let held = world.start_send(message()).await;
    world.control.wait_for_calls(1).await;
    assert_eq!(
        (world.accepted(), world.control.counts().sends_answered),
        (0, 0)
    );
    let too_soon = world
        .control
        .wait_for_sends(1, Duration::from_millis(10))
        .await;
    assert_eq!(too_soon.unwrap_err().seen, 0);
    // What changes while the send waits counts when it is judged.
    world.control.refuse(APP, USER, TEMPLATE, true);
    world.control.release();
    assert_refused(&held.await.unwrap(), 43101);
}

#[tokio::test]
async fn the_ledger_tells_each_call_in_order_of_arrival() {
    let world = World::open().await;
    let msgid = assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    let paths: Vec<&str> = ledger.calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths, [STABLE_TOKEN_PATH, SEND_PATH]);
    let call = &ledger.calls[1];
    assert_eq!((call.sequence, call.appid.as_str()), (2, APP));
    assert_eq!(
        (call.openid.as_str(), call.template_id.as_str()),
        (USER, TEMPLATE)
    );
    assert_eq!((call.errcode, call.msgid), (Some(0), Some(msgid)));
    assert!(call.answered_at.unwrap() >= call.arrived_at && call.reply_delivered);
    assert!(!call.credit_taken, "an unlimited pair has none to take");
    assert_eq!(call.value("thing1").as_deref(), Some("手冲咖啡两杯"));
    assert_eq!((ledger.counts.calls, ledger.counts.token_calls), (2, 1));
    assert_eq!(ledger.counts.errcodes[&0], 2);
}

#[tokio::test]
async fn a_ledger_of_counts_keeps_the_sums_and_no_calls() {
    let ledger = LedgerDetail::Counts;
    let world = World::with(SimulateOptions {
        ledger,
        ..SimulateOptions::default()
    })
    .await;
    world.control.grant(APP, USER, TEMPLATE, 1);
    assert_sent(&world.send(&message()).await);
    assert_refused(&world.send(&message()).await, 43101);
    let ledger = world.control.ledger();
    assert!(ledger.calls.is_empty());
    assert_eq!(
        (ledger.counts.sends_arrived, ledger.counts.sends_accepted),
        (2, 1)
    );
    assert_eq!(ledger.counts.errcodes[&43101], 1);
    assert_eq!(ledger.pair(APP, USER, TEMPLATE).unwrap().credits_taken, 1);
}

#[tokio::test]
async fn a_ledger_of_counts_forgets_whom_nothing_was_said_about() {
    let world = World::with(SimulateOptions {
        ledger: LedgerDetail::Counts,
        ..SimulateOptions::default()
    })
    .await;
    world.control.refuse(APP, "o-refuses", TEMPLATE, true);
    assert_sent(&world.send(&message()).await);
    assert_sent(&world.send(&message()).await);
    let ledger = world.control.ledger();
    assert_eq!(ledger.counts.sends_accepted, 2);
    let openids: Vec<_> = ledger.pairs.iter().map(|pair| &pair.openid).collect();
    assert_eq!(openids, ["o-refuses"]);
}

#[tokio::test]
async fn one_seed_gives_the_same_tokens_twice() {
    let seeded = |seed| SimulateOptions {
        seed: Some(seed),
        ..SimulateOptions::default()
    };
    let first = World::with(seeded(7)).await.token().await;
    assert_eq!(World::with(seeded(7)).await.token().await, first);
    assert_ne!(World::with(seeded(8)).await.token().await, first);
}
