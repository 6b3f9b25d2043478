//! Credits and refusals: what a send costs, and when it gets 43101.

use serde_json::json;
use wxnotify::simulate::TemplateSpec;

use super::{
    APP, OTHER_USER, TEMPLATE, USER, World, assert_refused, assert_sent, message, message_to,
};

#[tokio::test]
async fn a_user_without_a_credit_gets_43101() {
    let world = World::strict().await;
    assert_refused(&world.send(&message()).await, 43101);
    world.control.grant(APP, USER, TEMPLATE, 2);
    assert_sent(&world.send(&message()).await);
    assert_sent(&world.send(&message()).await);
    assert_refused(&world.send(&message()).await, 43101);
    let ledger = world.control.ledger();
    let pair = ledger.pair(APP, USER, TEMPLATE).unwrap();
    assert_eq!((pair.granted, pair.accepted, pair.credits_taken), (2, 2, 2));
    assert_eq!((pair.arrived, pair.remaining), (4, Some(0)));
}

#[tokio::test]
async fn a_user_who_refuses_gets_43101_and_keeps_the_credit() {
    let world = World::strict().await;
    world.control.grant(APP, USER, TEMPLATE, 1);
    world.control.refuse(APP, USER, TEMPLATE, true);
    assert_refused(&world.send(&message()).await, 43101);
    world.control.refuse(APP, USER, TEMPLATE, false);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn credits_belong_to_one_user_and_one_template() {
    let world = World::strict().await;
    world.control.add_user(APP, OTHER_USER);
    let other_template = TemplateSpec::new("TmplB", ["thing1"]);
    world.control.add_template(APP, other_template);
    world.control.grant(APP, USER, TEMPLATE, 1);
    let to_other_user = message_to(OTHER_USER);
    assert_refused(&world.send(&to_other_user).await, 43101);
    let mut of_other_template = message();
    of_other_template["template_id"] = json!("TmplB");
    assert_refused(&world.send(&of_other_template).await, 43101);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn an_open_fake_counts_a_pair_from_its_first_grant() {
    let world = World::open().await;
    assert_sent(&world.send(&message()).await);
    assert_sent(&world.send(&message()).await);
    world.control.grant(APP, USER, TEMPLATE, 1);
    assert_sent(&world.send(&message()).await);
    assert_refused(&world.send(&message()).await, 43101);
    assert_sent(&world.send(&message_to(OTHER_USER)).await);
}

#[tokio::test]
async fn one_credit_of_a_long_term_template_serves_any_number_of_messages() {
    let world = World::strict().await;
    let template = TemplateSpec::new(TEMPLATE, ["thing1"]).long_term();
    world.control.add_template(APP, template);
    assert_refused(&world.send(&message()).await, 43101);
    world.control.grant(APP, USER, TEMPLATE, 1);
    for _ in 0..3 {
        assert_sent(&world.send(&message()).await);
    }
    world.control.refuse(APP, USER, TEMPLATE, true);
    assert_refused(&world.send(&message()).await, 43101);
}
