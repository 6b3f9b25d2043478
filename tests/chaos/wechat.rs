//! A WeChat that hangs, fails, forgets and changes its mind.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use rand::RngExt;
use wxnotify::simulate::{Action, CallbackSpec, Rule};

use crate::run::{pass, plan, run};
use crate::stage::{APPS, Stage, until};

const REPEATS: &str = "select count(*) from notification_attempts where reason like '%another request%' or reason like '%out of step%'";
const RESUME: &str = "select resume_app(appid) from wechat_apps";

/// Every way in which a reply is lost, some before the message was accepted, some after, some for longer than a lease.
fn lose_replies(stage: &Stage, share: f64) {
    let actions = [
        Action::hang_before_credit(),
        Action::hang_after_credit(),
        Action::reset_before_credit(),
        Action::reset_after_credit(),
        Action::CutBody { after_credit: true },
        Action::HalfJson { after_credit: true },
        Action::EmptyBody { after_credit: true },
        Action::delay(Duration::from_millis(1_500)),
        Action::delay(Duration::from_millis(8_000)),
    ];
    for action in actions {
        stage.wechat.script(Rule::send(action).probability(share));
    }
}

/// Plays rules for a while; then an operator resumes what they paused.
async fn for_a_while(stage: &mut Stage, millis: std::ops::Range<u64>) -> Duration {
    pass(stage.dice.random_range(millis)).await;
    stage.wechat.clear_scripts();
    stage.sql(RESUME).await;
    stage.until_sends_flow().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_lost() {
    let outcome = run(plan(), 2, async |stage: &mut Stage| {
        lose_replies(stage, 0.004);
        for_a_while(stage, 1_500..2_500).await
    })
    .await;
    assert!(outcome.verdict.doubts > 0, "no reply was lost");
    outcome.report("replies_lost");
}

/// With WeChat's sent events as evidence no doubt is sent again in vain. Every event comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_lost_and_events_doubled() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut plan = plan();
    for name in [
        "WXNOTIFY_CALLBACK_TOKEN_wx1111222233334444",
        "WXNOTIFY_CALLBACK_TOKEN_wx5555666677778888",
    ] {
        plan = plan.set(name, "callbacktoken");
    }
    let mut heard = false;
    let outcome = run(plan, 2, async |stage: &mut Stage| {
        if !heard {
            heard = true;
            stage.kill(0).await;
            stage.spawn_with(0, &[("WXNOTIFY_LISTEN", &address)]);
            until("the callback URL answers", async || {
                reqwest::get(format!("http://{address}/healthz")).await.ok()
            })
            .await;
            for appid in APPS {
                let url = format!("http://{address}/wechat/callback/{appid}");
                let spec = CallbackSpec {
                    times: 2,
                    ..CallbackSpec::new(url, "callbacktoken")
                };
                stage.wechat.set_callback(appid, Some(spec));
            }
        }
        lose_replies(stage, 0.004);
        for_a_while(stage, 1_500..2_500).await
    })
    .await;
    println!(
        "{} doubles in spite of events",
        outcome.verdict.twice_recorded
    );
    outcome.report("replies_lost_and_events_doubled");
}

/// A gateway that answers each request twice. The next request on the connection finds the second answer and takes it for its
/// own, unless it is known by its msgid or rid. Workers start anew each time: one that has found out reuses no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_doubled() {
    let mut repeats = 0;
    let outcome = run(plan(), 2, async |stage: &mut Stage| {
        for number in 0..stage.workers.len() {
            stage.kill(number).await;
            stage.spawn(number);
        }
        stage.until_sends(100).await;
        for way in &stage.ways {
            way.double_answers(true);
        }
        until("an answer is found to be another's", async || {
            (stage.count(REPEATS).await > repeats).then_some(())
        })
        .await;
        pass(stage.dice.random_range(500..1_000)).await;
        for way in &stage.ways {
            way.double_answers(false);
        }
        repeats = stage.count(REPEATS).await;
        stage.sql(RESUME).await;
        stage.until_sends_flow().await
    })
    .await;
    println!("{repeats} answers were another request's");
    outcome.report("answers_doubled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_502() {
    let mut most = 0;
    let outcome = run(plan(), 2, async |stage: &mut Stage| {
        const DOUBTS: &str = "select count(*) from notification_attempts where result = 'doubt'";
        let before = stage.count(DOUBTS).await;
        stage.wechat.script(Rule::send(Action::http_status(502)));
        pass(stage.dice.random_range(1_000..2_000)).await;
        most = most.max(stage.count(DOUBTS).await - before);
        for_a_while(stage, 0..1).await
    })
    .await;
    // Each worker: ten in a row of either mini-program open the circuit; what is in flight at the tenth still fails, and so
    // may as many again that leave before the pause is noted. The pause outlasts the outage.
    assert!(
        (1..=2 * (2 * 10 + 8 + 8)).contains(&most),
        "{most} doubts in one outage"
    );
    outcome.report("gateway_502");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_stolen() {
    let outcome = run(plan().without_doubts(), 3, async |stage: &mut Stage| {
        for appid in APPS {
            stage.wechat.steal_token(appid);
        }
        pass(stage.dice.random_range(0..300)).await;
        // What was under way with a stolen token may pause its mini-program for minutes, after a resume, too.
        let begun = stage
            .count("select coalesce(max(lease_id), 0) from notification_leases")
            .await;
        until("what the theft met is settled", async || {
            let left = stage
                .count("select coalesce(min(lease_id), 9000000000) from notification_leases")
                .await;
            (left > begun).then_some(())
        })
        .await;
        stage.sql(RESUME).await;
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("token_stolen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quota_and_rate_waves() {
    let outcome = run(plan().without_doubts(), 4, async |stage: &mut Stage| {
        let errcode = [45009, 45011][stage.dice.random_range(0..2)];
        let appid = APPS[stage.dice.random_range(0..2)];
        stage
            .wechat
            .script(Rule::send(Action::errcode(errcode)).appid(appid));
        for_a_while(stage, 200..1_200).await
    })
    .await;
    outcome.report("quota_and_rate_waves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_to_wechat() {
    let outcome = run(plan(), 2, async |stage: &mut Stage| {
        pass(stage.dice.random_range(0..300)).await;
        for way in &stage.ways {
            way.freeze();
        }
        pass(stage.dice.random_range(300..2000)).await;
        for way in &stage.ways {
            way.thaw();
        }
        stage.sql(RESUME).await;
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("half_open_to_wechat");
}
