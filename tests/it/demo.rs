//! The demo proves what it claims, and its proof notices when either side is false.

use std::process::Output;

use serde_json::Value;
use tokio::sync::OnceCell;
use wxnotify::demo::comparison::Comparison;
use wxnotify::demo::plan::{Fate, Plan, ROWS_MIN};
use wxnotify::demo::{Performance, perform};
use wxnotify::simulate::Call;

use crate::harness::{TestDatabase, wxnotify};

/// One performance serves every test: each falsifies a copy.
async fn performance() -> Performance {
    static PERFORMANCE: OnceCell<Performance> = OnceCell::const_new();
    let performed = PERFORMANCE.get_or_init(|| async {
        let database = TestDatabase::new().await;
        perform(ROWS_MIN, 1, database.url()).await.unwrap()
    });
    performed.await.clone()
}

fn complaints(comparison: &Comparison) -> String {
    let lines = comparison.disagreements.iter().map(ToString::to_string);
    lines.collect::<Vec<_>>().join("\n")
}

/// The order number of the first row of a fate.
fn first(plan: &Plan, fate: Fate) -> String {
    plan.of(fate).next().unwrap().business_ref.clone()
}

/// The first accepted send of a row.
fn message_of<'a>(performance: &'a mut Performance, business_ref: &str) -> &'a mut Call {
    let mut calls = performance.ledger.calls.iter_mut();
    calls
        .find(|call| {
            call.accepted && call.value("character_string1").as_deref() == Some(business_ref)
        })
        .unwrap()
}

fn assert_complains(performance: &Performance, about: &str, of: &str) {
    let comparison = performance.compare();
    let found = comparison.disagreements.iter().any(|disagreement| {
        disagreement.business_ref.as_deref().unwrap_or("") == about
            && disagreement.what.contains(of)
    });
    assert!(
        found,
        "nothing about {about:?}: {of:?} in:\n{}",
        complaints(&comparison)
    );
}

#[tokio::test]
async fn wxnotify_and_wechat_agree_on_every_row() {
    let comparison = performance().await.compare();
    assert_eq!(complaints(&comparison), "");
    let rows: usize = comparison.fates.iter().map(|sum| sum.rows).sum();
    assert_eq!(rows, ROWS_MIN);
    assert_eq!(comparison.fates.len(), Fate::ALL.len());
}

#[tokio::test]
async fn a_message_to_a_user_whose_row_was_cancelled_is_found() {
    let mut performance = performance().await;
    let (sent, cancelled) = (
        first(&performance.plan, Fate::Normal),
        first(&performance.plan, Fate::Cancelled),
    );
    let mut call = message_of(&mut performance, &sent).clone();
    let text = call.data.unwrap().get().replace(&sent, &cancelled);
    call.data = Some(serde_json::value::RawValue::from_string(text).unwrap());
    performance.ledger.calls.push(call);
    assert_complains(
        &performance,
        &cancelled,
        "delivered 1 messages, it had to be 0",
    );
}

#[tokio::test]
async fn a_row_believed_sent_whose_message_wechat_never_accepted_is_found() {
    let mut performance = performance().await;
    let sent = first(&performance.plan, Fate::Urgent);
    message_of(&mut performance, &sent).accepted = false;
    assert_complains(&performance, &sent, "delivered 0 messages");
}

#[tokio::test]
async fn a_double_that_is_not_owned_up_to_is_found() {
    let mut performance = performance().await;
    let doubled = first(&performance.plan, Fate::Doubled);
    let mut beliefs = performance.beliefs.iter_mut();
    let belief = beliefs.find(|belief| belief.business_ref == doubled);
    belief.unwrap().may_be_doubled = false;
    assert_complains(&performance, &doubled, "may_be_doubled is false");
}

#[tokio::test]
async fn a_doubt_that_was_not_ended_by_its_event_is_found() {
    let mut performance = performance().await;
    let told = first(&performance.plan, Fate::EventCame);
    let mut beliefs = performance.beliefs.iter_mut();
    let belief = beliefs.find(|belief| belief.business_ref == told);
    belief.unwrap().settled_by = Some("policy".to_owned());
    assert_complains(&performance, &told, "had to be by event");
}

#[tokio::test]
async fn a_row_with_the_wrong_end_is_found() {
    let mut performance = performance().await;
    let presumed = first(&performance.plan, Fate::PresumedSent);
    let mut beliefs = performance.beliefs.iter_mut();
    let belief = beliefs.find(|belief| belief.business_ref == presumed);
    belief.unwrap().status = "dead".to_owned();
    assert_complains(&performance, &presumed, "is dead");
}

#[tokio::test]
async fn two_rows_that_swapped_their_msgids_are_found() {
    let mut performance = performance().await;
    let numbers: Vec<_> = performance.plan.of(Fate::Bulk).take(2).collect();
    let numbers: Vec<_> = numbers.iter().map(|row| row.business_ref.clone()).collect();
    let at = |number: &String| {
        let mut beliefs = performance.beliefs.iter();
        beliefs
            .position(|belief| belief.business_ref == *number)
            .unwrap()
    };
    let (one, other) = (at(&numbers[0]), at(&numbers[1]));
    let msgid = performance.beliefs[one].msgid;
    performance.beliefs[one].msgid = performance.beliefs[other].msgid;
    performance.beliefs[other].msgid = msgid;
    assert_complains(
        &performance,
        &numbers[0],
        "which WeChat never told of this row",
    );
    assert_complains(
        &performance,
        &numbers[1],
        "which WeChat never told of this row",
    );
}

#[tokio::test]
async fn a_lost_row_and_a_message_of_no_row_are_found() {
    let mut performance = performance().await;
    let lost = first(&performance.plan, Fate::Held);
    performance
        .beliefs
        .retain(|belief| belief.business_ref != lost);
    let sent = first(&performance.plan, Fate::Normal);
    let call = message_of(&mut performance, &sent);
    call.data = None;
    assert_complains(&performance, &lost, "the view does not have it");
    assert_complains(&performance, "", "belongs to no row");
}

#[tokio::test]
async fn an_early_send_and_an_uncounted_attempt_are_found() {
    let mut performance = performance().await;
    let (early, retried) = (
        first(&performance.plan, Fate::Scheduled),
        first(&performance.plan, Fate::Retried),
    );
    message_of(&mut performance, &early).arrived_at -= chrono::TimeDelta::seconds(60);
    let mut beliefs = performance.beliefs.iter_mut();
    let belief = beliefs.find(|belief| belief.business_ref == retried);
    belief.unwrap().attempts -= 1;
    assert_complains(&performance, &early, "before its send_at");
    assert_complains(&performance, &retried, "attempts, WeChat saw");
}

#[tokio::test]
async fn a_credit_that_nobody_accounts_for_is_found() {
    let mut performance = performance().await;
    let pair = performance.ledger.pairs.first_mut().unwrap();
    pair.credits_taken += 1;
    let openid = pair.openid.clone();
    assert_complains(&performance, "", &openid);
}

#[tokio::test]
async fn a_bad_insert_that_was_accepted_is_found() {
    let mut performance = performance().await;
    performance.refused[0].message = None;
    assert_complains(&performance, "", "accepted a bad row");
}

#[test]
fn the_command_answers_with_the_table_as_json_and_exit_code_0() {
    let Output {
        status,
        stdout,
        stderr,
    } = wxnotify()
        .args(["demo", "--json", "--rows", "160"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{stderr}");
    assert_eq!(stderr, "", "no log noise");
    let document: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(document["agrees"], true, "{document:#}");
    assert_eq!(document["disagreements"].as_array().unwrap().len(), 0);
    assert_eq!(document["fates"].as_array().unwrap().len(), Fate::ALL.len());
}

#[test]
fn the_command_shows_a_reminder_that_recurs_one_that_is_not_true_and_a_shortfall() {
    let output = wxnotify()
        .args(["demo", "--rows", "160", "--color", "never"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for words in [
        "habit fired 5 times, a second apart: 3 sent, 2 without a credit",
        "so 1 message was not sent",
        "the forecast: 2 of tomorrow's guests will lack a credit",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
