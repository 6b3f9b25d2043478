//! One access token per mini-program, shared by processes that know nothing of each other but the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use reqwest::Url;
use secrecy::SecretString;
use wxnotify::simulate::{Action, AppSpec, FakeWechat, Rule, SimulateOptions};
use wxnotify::store::{Store, TokenClaim, TokenStatus};
use wxnotify::token_keeper::{TokenError, TokenKeeper, TokenKeeperOptions};
use wxnotify::wechat::access_token::{AccessToken, FetchError, FetchedToken};
use wxnotify::wechat::{Wechat, WechatOptions};

use crate::harness::{self, TestDatabase, run};

const APPID: &str = "wx1111222233334444";
const WAIT: Duration = Duration::from_secs(20);

/// A database and a fake WeChat that any number of keepers share.
struct Bench {
    database: TestDatabase,
    wechat: FakeWechat,
}

impl Bench {
    async fn new() -> Self {
        let options = SimulateOptions {
            apps: vec![AppSpec::new(APPID, "secret")],
            ..SimulateOptions::default()
        };
        Self {
            database: TestDatabase::new().await,
            wechat: FakeWechat::start(options).await.unwrap(),
        }
    }

    fn store(&self) -> Store {
        Store::new(self.database.pool().clone())
    }

    fn keeper(&self, worker: &str) -> TokenKeeper {
        self.keeper_with(worker, "secret", TokenKeeperOptions::default())
    }

    fn keeper_with(&self, worker: &str, secret: &str, options: TokenKeeperOptions) -> TokenKeeper {
        let options = TokenKeeperOptions {
            poll: Duration::from_millis(10),
            settle_wait: Duration::from_millis(10),
            ..options
        };
        let wechat = Wechat::new(&WechatOptions {
            hosts: vec![Url::parse(&self.wechat.base_url()).unwrap()],
            ..WechatOptions::default()
        });
        let secrets = HashMap::from([(APPID.to_owned(), SecretString::from(secret))]);
        TokenKeeper::with_options(
            self.store(),
            Arc::new(wechat.unwrap()),
            secrets,
            worker.to_owned(),
            options,
        )
    }

    fn token_calls(&self) -> u64 {
        self.wechat.control().counts().token_calls
    }

    async fn status(&self) -> TokenStatus {
        self.store().token_status().await.unwrap().remove(0)
    }

    async fn run(&self, statement: &str) {
        run(self.database.pool(), statement).await;
    }
}

async fn claim(store: &Store, worker: &str) -> TokenClaim {
    let secs = Duration::from_secs;
    store
        .claim_token(APPID, worker, None, secs(2), secs(15))
        .await
        .unwrap()
}

fn fetched(token: &str) -> FetchedToken {
    FetchedToken {
        token: SecretString::from(token),
        expires_in: Duration::from_secs(7200),
    }
}

#[tokio::test]
async fn many_tasks_of_two_processes_fetch_one_token() {
    let bench = Bench::new().await;
    let (one, two) = (bench.keeper("one"), bench.keeper("two"));
    let asked = (0..100).map(|number| if number % 2 == 0 { &one } else { &two });
    let tokens = join_all(asked.map(|keeper| keeper.token(APPID, WAIT))).await;
    assert!(
        tokens
            .iter()
            .all(|token| token.as_ref().unwrap().generation() == 1)
    );
    assert_eq!(bench.token_calls(), 1);
    assert_eq!(bench.status().await.generation, 1);
}

#[tokio::test]
async fn a_token_with_life_costs_no_request_and_no_sql() {
    let bench = Bench::new().await;
    let keeper = bench.keeper("one");
    keeper.token(APPID, WAIT).await.unwrap();
    bench
        .run("alter table wechat_access_tokens rename to gone")
        .await;
    assert_eq!(keeper.token(APPID, WAIT).await.unwrap().generation(), 1);
    assert_eq!(bench.token_calls(), 1);
}

#[tokio::test]
async fn a_displaced_token_is_replaced_once_however_many_ask_and_counted_as_foreign() {
    let bench = Bench::new().await;
    let (one, two) = (bench.keeper("one"), bench.keeper("two"));
    let dead = one.token(APPID, WAIT).await.unwrap();
    two.token(APPID, WAIT).await.unwrap();
    bench.wechat.control().steal_token(APPID);
    let asked = (0..64).map(|number| if number % 2 == 0 { &one } else { &two });
    let tokens = join_all(asked.map(|keeper| keeper.replace(APPID, &dead, WAIT))).await;
    assert!(
        tokens
            .iter()
            .all(|token| token.as_ref().unwrap().generation() == 2)
    );
    assert_eq!(
        bench.token_calls(),
        2,
        "one first fetch and one replacement"
    );
    let status = bench.status().await;
    assert_eq!((status.foreign_refreshes, status.forced_today), (1, 0));
}

#[tokio::test]
async fn a_token_that_expired_in_time_is_no_foreign_refresh() {
    let bench = Bench::new().await;
    let keeper = bench.keeper("one");
    let dead = keeper.token(APPID, WAIT).await.unwrap();
    bench.wechat.control().expire_token(APPID);
    bench
        .run("update wechat_access_tokens set expires_at = now() + interval '60 seconds'")
        .await;
    assert_eq!(
        keeper
            .replace(APPID, &dead, WAIT)
            .await
            .unwrap()
            .generation(),
        2
    );
    assert_eq!(bench.status().await.foreign_refreshes, 0);
}

#[tokio::test]
async fn a_late_failure_of_an_old_generation_throws_nothing_away() {
    let bench = Bench::new().await;
    let keeper = bench.keeper("one");
    let old = keeper.token(APPID, WAIT).await.unwrap();
    bench.wechat.control().steal_token(APPID);
    keeper.replace(APPID, &old, WAIT).await.unwrap();
    for worker in ["one", "two"] {
        let again = bench
            .keeper(worker)
            .replace(APPID, &old, WAIT)
            .await
            .unwrap();
        assert_eq!(again.generation(), 2);
    }
    assert_eq!(bench.token_calls(), 2);
}

/// The fake still holds the token for good: only sends refuse it. So WeChat hands the same one back.
#[tokio::test]
async fn a_token_that_is_handed_back_is_tried_again_before_a_refresh_is_forced() {
    let bench = Bench::new().await;
    let keeper = bench.keeper("one");
    let first = keeper.token(APPID, WAIT).await.unwrap();
    let second = keeper.replace(APPID, &first, WAIT).await.unwrap();
    let status = bench.status().await;
    assert_eq!(
        (status.generation, status.unchanged, status.forced_today),
        (2, 1, 0)
    );
    let third = keeper.replace(APPID, &second, WAIT).await.unwrap();
    let status = bench.status().await;
    assert_eq!(
        (third.generation(), status.unchanged, status.forced_today),
        (3, 0, 1)
    );
    assert_eq!(status.foreign_refreshes, 0, "it died by our own hand");
}

#[tokio::test]
async fn forced_refreshes_are_thirty_seconds_apart() {
    let bench = Bench::new().await;
    let keeper = bench.keeper("one");
    let mut token = keeper.token(APPID, WAIT).await.unwrap();
    for _ in 0..3 {
        token = keeper.replace(APPID, &token, WAIT).await.unwrap();
    }
    let error = keeper.replace(APPID, &token, WAIT).await.unwrap_err();
    assert!(matches!(error, TokenError::Irreplaceable), "{error:?}");
    assert_eq!(bench.status().await.forced_today, 1);
}

#[tokio::test]
async fn forced_refreshes_end_after_twenty_a_day_in_china() {
    let bench = Bench::new().await;
    let keeper = bench.keeper("one");
    let mut token = keeper.token(APPID, WAIT).await.unwrap();
    token = keeper.replace(APPID, &token, WAIT).await.unwrap();
    let today = "(now() at time zone 'UTC' + interval '8 hours')::date";
    bench
        .run(&format!(
            "update wechat_access_tokens set forced_count = 20, forced_on = {today}"
        ))
        .await;
    let error = keeper.replace(APPID, &token, WAIT).await.unwrap_err();
    assert!(matches!(error, TokenError::Irreplaceable), "{error:?}");
    bench
        .run("update wechat_access_tokens set forced_on = forced_on - 1")
        .await;
    keeper.replace(APPID, &token, WAIT).await.unwrap();
    assert_eq!(bench.status().await.forced_today, 1);
}

#[tokio::test]
async fn the_claim_of_a_process_that_died_ends_by_itself() {
    let bench = Bench::new().await;
    assert!(matches!(
        claim(&bench.store(), "dead").await,
        TokenClaim::Claimed { .. }
    ));
    let keeper = bench.keeper("one");
    let waiting = keeper
        .token(APPID, Duration::from_millis(100))
        .await
        .unwrap_err();
    assert!(matches!(waiting, TokenError::Busy), "{waiting:?}");
    assert_eq!(bench.token_calls(), 0);
    bench
        .run("update wechat_access_tokens set claimed_until = now() - interval '1 second'")
        .await;
    keeper.token(APPID, WAIT).await.unwrap();
    assert_eq!(bench.token_calls(), 1);
}

#[tokio::test]
async fn a_caller_that_stops_waiting_does_not_stop_the_fetch() {
    let bench = Bench::new().await;
    let control = bench.wechat.control();
    control.script(Rule::token(Action::delay(Duration::from_millis(300))).once());
    let keeper = bench.keeper("one");
    let busy = keeper
        .token(APPID, Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(matches!(busy, TokenError::Busy), "{busy:?}");
    assert_eq!(keeper.token(APPID, WAIT).await.unwrap().generation(), 1);
    assert_eq!(bench.token_calls(), 1);
}

#[tokio::test]
async fn a_slow_reply_never_overwrites_a_newer_token() {
    let bench = Bench::new().await;
    let store = bench.store();
    let TokenClaim::Claimed { claim: slow, .. } = claim(&store, "slow").await else {
        panic!()
    };
    bench
        .run("update wechat_access_tokens set claimed_until = now()")
        .await;
    let TokenClaim::Claimed { claim: quick, .. } = claim(&store, "quick").await else {
        panic!()
    };
    let newer = store
        .store_token(APPID, "quick", quick, &fetched("91_new"), None)
        .await
        .unwrap();
    let older = store
        .store_token(APPID, "slow", slow, &fetched("91_old"), None)
        .await
        .unwrap();
    assert!(newer.stored && !older.stored);
    let TokenClaim::Have { token, .. } = claim(&store, "third").await else {
        panic!()
    };
    assert_eq!(token.generation(), 1);
    let kept: String = sqlx::query_scalar("select access_token from wechat_access_tokens")
        .fetch_one(bench.database.pool())
        .await
        .unwrap();
    assert_eq!(kept, "91_new");
}

#[tokio::test]
async fn a_reply_to_a_claim_that_was_taken_over_is_dropped_even_before_the_other_has_stored() {
    let bench = Bench::new().await;
    let store = bench.store();
    let TokenClaim::Claimed { claim: slow, .. } = claim(&store, "slow").await else {
        panic!()
    };
    bench
        .run("update wechat_access_tokens set claimed_until = now()")
        .await;
    assert!(matches!(
        claim(&store, "quick").await,
        TokenClaim::Claimed { .. }
    ));
    let older = store
        .store_token(APPID, "slow", slow, &fetched("91_old"), None)
        .await
        .unwrap();
    assert!(!older.stored);
    assert!(!store.take_forced_refresh(APPID, slow).await.unwrap());
}

#[tokio::test]
async fn a_refusal_is_told_to_all_who_wait_and_asked_once() {
    let bench = Bench::new().await;
    let keeper = bench.keeper_with("one", "wrong", TokenKeeperOptions::default());
    let answers = join_all((0..20).map(|_| keeper.token(APPID, WAIT))).await;
    for answer in answers {
        let error = answer.unwrap_err();
        let refused = matches!(
            error,
            TokenError::Fetch(FetchError::Refused { errcode: 40125, .. })
        );
        assert!(refused, "{error:?}");
    }
    assert_eq!(bench.token_calls(), 1);
}

#[tokio::test]
async fn a_failed_fetch_gives_its_claim_back() {
    let bench = Bench::new().await;
    bench
        .keeper_with("one", "wrong", TokenKeeperOptions::default())
        .token(APPID, WAIT)
        .await
        .unwrap_err();
    bench
        .keeper("two")
        .token(APPID, Duration::from_secs(3))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_mini_program_without_a_secret_names_the_setting_to_add() {
    let bench = Bench::new().await;
    let error = bench
        .keeper("one")
        .token("wxother", WAIT)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("WXNOTIFY_APPSECRET_wxother"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_is_refreshed_in_the_background_before_its_end() {
    let bench = Bench::new().await;
    let options = TokenKeeperOptions {
        refresh_spread: Duration::ZERO,
        refresh_gap: Duration::from_millis(20),
        // Longer than any token's life: every token is due for it at once.
        refresh_before: Duration::from_secs(7201),
        ..TokenKeeperOptions::default()
    };
    let keeper = bench.keeper_with("one", "secret", options);
    let first = keeper.token(APPID, WAIT).await.unwrap();
    let control = bench.wechat.control();
    control.advance_clock(Duration::from_secs(7000));
    let background = tokio::spawn({
        let keeper = keeper.clone();
        async move { keeper.keep_fresh().await }
    });
    harness::eventually("the refresh in the background", async || {
        let token = keeper.token(APPID, WAIT).await.unwrap();
        (token.generation() != first.generation()).then_some(())
    })
    .await;
    background.abort();
    assert_eq!(bench.status().await.foreign_refreshes, 0);
}

#[tokio::test]
async fn a_lost_row_does_not_bring_back_an_old_generation() {
    let bench = Bench::new().await;
    let keeper = bench.keeper("one");
    let mut token = keeper.token(APPID, WAIT).await.unwrap();
    for _ in 0..2 {
        bench.wechat.control().steal_token(APPID);
        token = keeper.replace(APPID, &token, WAIT).await.unwrap();
    }
    bench.run("delete from wechat_access_tokens").await;
    bench.wechat.control().steal_token(APPID);
    let after = keeper.replace(APPID, &token, WAIT).await.unwrap();
    assert!(
        after.generation() > token.generation(),
        "{after:?} {token:?}"
    );
}

#[tokio::test]
async fn what_operators_see_holds_no_token() {
    let bench = Bench::new().await;
    let token: AccessToken = bench.keeper("one").token(APPID, WAIT).await.unwrap();
    let status = bench.status().await;
    assert_eq!(status.refreshed_by.as_deref(), Some("one"));
    assert!(status.expires_in_secs.unwrap() > 7000.0);
    let shown = format!(
        "{status:?} {} {token:?}",
        serde_json::to_string(&status).unwrap()
    );
    let minted = &bench.wechat.control().ledger().tokens[0].access_token;
    assert!(!shown.contains(minted.as_str()), "{shown}");
}
