//! Tokens: plain and stable, forced, stolen, expired.

use std::time::Duration;

use serde_json::json;
use wxnotify::simulate::{AppSpec, SEND_PATH, STABLE_TOKEN_PATH, TOKEN_PATH};

use super::{APP, SECRET, World, assert_refused, assert_sent, message, read, token_of};

#[tokio::test]
async fn a_token_request_that_lacks_something_says_what() {
    let world = World::strict().await;
    let plain = |query: &str| world.url(&format!("{TOKEN_PATH}?{query}"));
    let credentials = format!("appid={APP}&secret={SECRET}");
    let queries = [
        (
            format!("grant_type=client_credentials&{credentials}"),
            40002,
        ),
        (
            format!("grant_type=client_credential&secret={SECRET}"),
            41002,
        ),
        (format!("grant_type=client_credential&appid={APP}"), 41004),
        (
            format!("grant_type=client_credential&appid=wx9&secret={SECRET}"),
            40013,
        ),
        (
            format!("grant_type=client_credential&appid={APP}&secret=wrong"),
            40125,
        ),
    ];
    for (query, errcode) in queries {
        let answer = world.http.get(plain(&query)).send().await.unwrap();
        assert_refused(&read(answer).await, errcode);
    }
    let bodies = [
        (String::new(), 44002),
        ("{".to_owned(), 47001),
        (json!({"appid": APP, "secret": SECRET}).to_string(), 40002),
    ];
    for (body, errcode) in bodies {
        assert_refused(&world.post(STABLE_TOKEN_PATH, body).await, errcode);
    }
    assert_refused(&world.stable(APP, "wrong", false).await, 40125);
    assert_refused(&world.get(STABLE_TOKEN_PATH).await, 43002);
    assert_refused(&world.post(TOKEN_PATH, "").await, 43001);
    assert!(world.control.ledger().tokens.is_empty());
}

#[tokio::test]
async fn a_guarded_app_gets_no_token() {
    let world = World::strict().await;
    let elsewhere = Some(vec!["203.0.113.7".parse().unwrap()]);
    world.control.set_ip_whitelist(APP, elsewhere);
    let answer = world.stable(APP, SECRET, false).await;
    assert_refused(&answer, 40164);
    let errmsg = answer["errmsg"].as_str().unwrap();
    assert!(errmsg.contains("invalid ip 127.0.0.1"), "{errmsg}");
    let here = Some(vec!["127.0.0.1".parse().unwrap()]);
    world.control.set_ip_whitelist(APP, here);

    world.control.require_admin_confirmation(APP, true);
    assert_refused(&world.stable(APP, SECRET, false).await, 89503);
    world.control.require_admin_confirmation(APP, false);

    world.control.freeze_secret(APP, true);
    assert_refused(&world.plain().await, 40243);
    world.control.freeze_secret(APP, false);

    world.token().await;
}

#[tokio::test]
async fn a_send_tells_a_missing_a_garbled_a_foreign_and_an_expired_token_apart() {
    let world = World::open().await;
    let token = world.token().await;
    let without = world.post(SEND_PATH, message().to_string()).await;
    assert_refused(&without, 41001);
    assert_refused(&world.send_with(&token[..80], &message()).await, 40014);
    assert_refused(&world.send_with("no/such token", &message()).await, 40014);
    let foreign: String = token.chars().rev().collect();
    let foreign = format!("91_{}", &foreign[..foreign.len() - 3]);
    assert_refused(&world.send_with(&foreign, &message()).await, 40001);
    world.control.advance_clock(Duration::from_secs(7199));
    assert_sent(&world.send_with(&token, &message()).await);
    world.control.advance_clock(Duration::from_secs(1));
    assert_refused(&world.send_with(&token, &message()).await, 42001);
}

#[tokio::test]
async fn a_plain_token_call_kills_the_plain_token_before_after_five_minutes() {
    let world = World::open().await;
    let stable = world.token().await;
    let mine = token_of(&world.plain().await);
    let theirs = token_of(&world.plain().await);
    world.control.advance_clock(Duration::from_secs(299));
    assert_sent(&world.send_with(&mine, &message()).await);
    world.control.advance_clock(Duration::from_secs(2));
    assert_refused(&world.send_with(&mine, &message()).await, 40001);
    assert_sent(&world.send_with(&theirs, &message()).await);
    assert_sent(&world.send_with(&stable, &message()).await);
}

#[tokio::test]
async fn a_stable_token_counts_down_and_is_renewed_in_its_last_five_minutes() {
    let world = World::open().await;
    let first = world.stable(APP, SECRET, false).await;
    world.control.advance_clock(Duration::from_secs(6000));
    let later = world.stable(APP, SECRET, false).await;
    assert_eq!(later["access_token"], first["access_token"]);
    let left = later["expires_in"].as_i64().unwrap();
    assert!((1190..=1200).contains(&left), "{left}");
    world.control.advance_clock(Duration::from_secs(901));
    let fresh = world.stable(APP, SECRET, false).await;
    assert_ne!(fresh["access_token"], first["access_token"]);
    assert_sent(&world.send_with(&token_of(&first), &message()).await);
}

#[tokio::test]
async fn the_forced_refreshes_run_out_and_one_too_soon_changes_nothing() {
    let world = World::open().await;
    world.begin_the_day();
    let first = world.stable(APP, SECRET, true).await;
    let too_soon = world.stable(APP, SECRET, true).await;
    assert_eq!(too_soon["access_token"], first["access_token"]);
    for _ in 1..20 {
        world.control.advance_clock(Duration::from_secs(30));
        token_of(&world.stable(APP, SECRET, true).await);
    }
    world.control.advance_clock(Duration::from_secs(30));
    assert_refused(&world.stable(APP, SECRET, true).await, 45009);
    world.control.advance_clock(Duration::from_secs(86_400));
    token_of(&world.stable(APP, SECRET, true).await);
}

#[tokio::test]
async fn a_stolen_token_dies_at_once_and_an_expired_one_is_told_from_it() {
    let world = World::open().await;
    let stolen = world.token().await;
    world.control.steal_token(APP);
    assert_refused(&world.send_with(&stolen, &message()).await, 40001);
    let current = world.token().await;
    assert_sent(&world.send_with(&current, &message()).await);
    world.control.expire_token(APP);
    assert_refused(&world.send_with(&current, &message()).await, 42001);
    assert_refused(&world.send_with(&stolen, &message()).await, 40001);
    assert_sent(&world.send(&message()).await);
}

#[tokio::test]
async fn an_open_fake_checks_the_secret_of_an_added_app_only() {
    let world = World::open().await;
    token_of(&world.stable("wxAnybody", "anything", false).await);
    world.control.add_app(AppSpec::new(APP, SECRET));
    assert_refused(&world.stable(APP, "anything", false).await, 40125);
    token_of(&world.stable(APP, SECRET, false).await);
}

// Sends
