//! One attempt from token to outcome, against the fake WeChat: what the row gets, and how often WeChat was asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Url;
use secrecy::SecretString;
use wxnotify::delivery::Deliverer;
use wxnotify::notification::{
    Conclusion, Credit, Effect, Notification, Outcome, PauseUntil, Verdict, WaitingFor,
};
use wxnotify::retry::RetryPolicy;
use wxnotify::simulate::{Action, AppSpec, FakeWechat, Rule, SimulateOptions};
use wxnotify::store::Store;
use wxnotify::token_keeper::{TokenKeeper, TokenKeeperOptions};
use wxnotify::wechat::errcode::ErrcodeTable;
use wxnotify::wechat::{Wechat, WechatOptions};

use crate::harness::{TestDatabase, notification};

const APPID: &str = "wx1111222233334444";

struct Bench {
    _database: TestDatabase,
    wechat: FakeWechat,
    deliverer: Deliverer,
}

impl Bench {
    async fn new() -> Self {
        Self::with_secret("secret").await
    }

    async fn with_secret(secret: &str) -> Self {
        let wechat = FakeWechat::start(SimulateOptions {
            apps: vec![AppSpec::new(APPID, "secret")],
            ..SimulateOptions::default()
        });
        let wechat = wechat.await.unwrap();
        let url = Url::parse(&wechat.base_url()).unwrap();
        let (database, deliverer) = deliverer(url, secret).await;
        Self {
            _database: database,
            wechat,
            deliverer,
        }
    }

    async fn deliver(&self, notification: &Notification) -> Conclusion {
        self.deliver_before(notification, Instant::now() + Duration::from_secs(60))
            .await
    }

    async fn deliver_before(
        &self,
        notification: &Notification,
        send_before: Instant,
    ) -> Conclusion {
        let conclusion = self.deliverer.deliver(notification, send_before).await;
        for token in self.wechat.control().ledger().tokens {
            let shown = format!("{conclusion:?}");
            assert!(!shown.contains(&token.access_token), "{shown}");
        }
        conclusion
    }

    fn sends(&self) -> u64 {
        self.wechat.control().counts().sends_arrived
    }
}

async fn deliverer(host: Url, secret: &str) -> (TestDatabase, Deliverer) {
    let database = TestDatabase::new().await;
    let store = Store::new(database.pool().clone());
    let wechat = Arc::new(
        Wechat::new(&WechatOptions {
            hosts: vec![host],
            connect_timeout: Duration::from_millis(500),
            request_timeout: Duration::from_secs(2),
            ..WechatOptions::default()
        })
        .unwrap(),
    );
    let tokens = TokenKeeper::with_options(
        store.clone(),
        Arc::clone(&wechat),
        HashMap::from([(APPID.to_owned(), SecretString::from(secret))]),
        "worker#1".to_owned(),
        TokenKeeperOptions {
            settle_wait: Duration::from_millis(10),
            poll: Duration::from_millis(10),
            ..TokenKeeperOptions::default()
        },
    );
    let rules = ErrcodeTable::new(store.errcode_rules().await.unwrap());
    let deliverer = Deliverer::new(wechat, tokens, rules, RetryPolicy::default());
    (database, deliverer)
}

fn paused_app(effects: &[Effect]) -> Option<(PauseUntil, Option<i64>)> {
    effects.iter().find_map(|effect| match effect {
        Effect::PauseApp { until, errcode, .. } => Some((*until, *errcode)),
        _ => None,
    })
}

fn is_parked_for_app(outcome: &Outcome) -> bool {
    matches!(
        outcome.verdict,
        Verdict::Park {
            waiting_for: WaitingFor::App,
            ..
        }
    )
}

#[tokio::test]
async fn an_accepted_message_is_sent_with_its_msgid_and_the_wanted_text() {
    let bench = Bench::new().await;
    let Conclusion { outcome, effects } = bench.deliver(&notification(1)).await;
    assert_eq!(outcome.verdict, Verdict::Sent);
    assert!(outcome.msgid.unwrap() > 1 << 53);
    assert_eq!((outcome.errcode, outcome.http_status), (Some(0), Some(200)));
    assert_eq!(effects, []);
    let ledger = bench.wechat.control().ledger();
    assert_eq!(
        ledger.sends().next().unwrap().value("thing1").as_deref(),
        Some("杯")
    );
}

#[tokio::test]
async fn a_displaced_token_is_replaced_and_the_message_sent_in_the_same_attempt() {
    let bench = Bench::new().await;
    bench.deliver(&notification(1)).await;
    bench.wechat.control().steal_token(APPID);
    let Conclusion { outcome, effects } = bench.deliver(&notification(2)).await;
    assert_eq!((outcome.verdict, effects), (Verdict::Sent, Vec::new()));
    assert_eq!(bench.sends(), 3);
}

#[tokio::test]
async fn many_sends_with_a_displaced_token_fetch_one_and_all_arrive() {
    let bench = Bench::new().await;
    bench.deliver(&notification(0)).await;
    bench.wechat.control().steal_token(APPID);
    let rows: Vec<Notification> = (1..=64).map(notification).collect();
    let delivered = futures::future::join_all(rows.iter().map(|row| bench.deliver(row))).await;
    assert!(
        delivered
            .iter()
            .all(|conclusion| conclusion.outcome.verdict == Verdict::Sent)
    );
    assert_eq!(bench.wechat.control().counts().token_calls, 2);
}

#[tokio::test]
async fn a_token_that_wechat_hands_out_and_refuses_ends_in_one_forced_refresh_and_a_pause() {
    let bench = Bench::new().await;
    bench
        .wechat
        .control()
        .script(Rule::send(Action::errcode(40001)));
    let mut verdicts = Vec::new();
    let mut pause = None;
    for id in 1..=6 {
        let Conclusion { outcome, effects } = bench.deliver(&notification(id)).await;
        verdicts.push(outcome.verdict);
        pause = paused_app(&effects);
        if pause.is_some() {
            assert!(is_parked_for_app(&outcome), "{outcome:?}");
            break;
        }
    }
    assert_eq!(
        pause.unwrap().0,
        PauseUntil::After(Duration::from_secs(300)),
        "{verdicts:?}"
    );
    assert!(bench.sends() <= 6, "{} sends", bench.sends());
    let forced = bench.wechat.control().ledger().tokens.len();
    assert_eq!(forced, 2, "the first token and one forced one");
}

#[tokio::test]
async fn two_different_tokens_that_are_refused_pause_the_mini_program() {
    let bench = Bench::new().await;
    bench.deliver(&notification(1)).await;
    bench.wechat.control().steal_token(APPID);
    bench
        .wechat
        .control()
        .script(Rule::send(Action::errcode(40001)));
    let Conclusion { outcome, effects } = bench.deliver(&notification(2)).await;
    assert!(is_parked_for_app(&outcome), "{outcome:?}");
    assert_eq!(
        paused_app(&effects),
        Some((PauseUntil::After(Duration::from_secs(300)), Some(40001)))
    );
}

#[tokio::test]
async fn a_wrong_secret_sends_nothing_and_pauses_until_an_operator_comes() {
    let bench = Bench::with_secret("wrong").await;
    let Conclusion { outcome, effects } = bench.deliver(&notification(1)).await;
    assert!(is_parked_for_app(&outcome), "{outcome:?}");
    assert_eq!(outcome.errcode, Some(40125));
    assert_eq!(
        paused_app(&effects),
        Some((PauseUntil::Operator, Some(40125)))
    );
    assert_eq!(bench.sends(), 0);
    assert!(!format!("{outcome:?} {effects:?}").contains("wrong"));
}

#[tokio::test]
async fn an_address_that_is_not_on_the_whitelist_is_probed_every_five_minutes() {
    let bench = Bench::new().await;
    bench
        .wechat
        .control()
        .set_ip_whitelist(APPID, Some(Vec::new()));
    let Conclusion { effects, .. } = bench.deliver(&notification(1)).await;
    assert_eq!(
        paused_app(&effects),
        Some((PauseUntil::After(Duration::from_secs(300)), Some(40164)))
    );
}

#[tokio::test]
async fn a_lost_answer_is_in_doubt_whether_or_not_the_message_went_out() {
    let bench = Bench::new().await;
    for (id, action) in [
        (1, Action::reset_before_credit()),
        (2, Action::reset_after_credit()),
        (3, Action::http_status(502)),
    ] {
        bench.wechat.control().script(Rule::send(action).once());
        let Conclusion { outcome, .. } = bench.deliver(&notification(id)).await;
        assert_eq!(outcome.verdict, Verdict::InDoubt, "{outcome:?}");
        assert_eq!(outcome.errcode, None);
        assert!(outcome.reason.is_some());
    }
    assert_eq!(bench.sends(), 3, "nothing was repeated");
}

#[tokio::test]
async fn a_gateway_that_fails_fast_trips_the_breaker_once() {
    let bench = Bench::new().await;
    bench
        .wechat
        .control()
        .script(Rule::send(Action::http_status(502)));
    let mut pauses = Vec::new();
    for id in 1..=20 {
        let Conclusion { outcome, effects } = bench.deliver(&notification(id)).await;
        assert_eq!(outcome.verdict, Verdict::InDoubt);
        pauses.extend(paused_app(&effects).map(|pause| (id, pause)));
    }
    assert_eq!(
        pauses,
        [(5, (PauseUntil::After(Duration::from_secs(30)), None))]
    );
}

#[tokio::test]
async fn an_outage_of_our_network_parks_rows_and_counts_no_attempt() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let (_database, deliverer) = deliverer(url, "secret").await;
    let mut pause = None;
    for id in 1..=3 {
        let mut row = notification(id);
        row.attempts = 7;
        let Conclusion { outcome, effects } = deliverer
            .deliver(&row, Instant::now() + Duration::from_secs(60))
            .await;
        assert!(is_parked_for_app(&outcome), "{outcome:?}");
        pause = pause.or(paused_app(&effects));
    }
    assert_eq!(
        pause,
        Some((PauseUntil::After(Duration::from_secs(2)), None))
    );
}

#[tokio::test]
async fn nothing_leaves_after_the_last_moment() {
    let bench = Bench::new().await;
    let Conclusion { outcome, .. } = bench.deliver_before(&notification(1), Instant::now()).await;
    assert_eq!(outcome.verdict, Verdict::Release);
    assert_eq!(bench.sends(), 0);
}

#[tokio::test]
async fn a_row_whose_data_is_no_message_is_dead_with_its_credit_kept() {
    let bench = Bench::new().await;
    let mut row = notification(1);
    row.data = r#"{"thing1": ["secret words"]}"#.into();
    let Conclusion { outcome, .. } = bench.deliver(&row).await;
    assert_eq!(
        outcome.verdict,
        Verdict::Dead {
            credit: Credit::Kept
        }
    );
    let reason = outcome.reason.unwrap();
    assert!(
        reason.contains("thing1") && !reason.contains("secret words"),
        "{reason}"
    );
    assert_eq!(bench.sends(), 0);
}

#[tokio::test]
async fn a_probe_that_is_answered_ends_the_pause() {
    let bench = Bench::new().await;
    let mut row = notification(1);
    row.probe = true;
    let Conclusion { effects, .. } = bench.deliver(&row).await;
    assert_eq!(
        effects,
        [Effect::ProbeOk {
            appid: APPID.into()
        }]
    );
}

#[tokio::test]
async fn the_same_pause_is_asked_for_once_by_all_in_flight() {
    let bench = Bench::new().await;
    bench.deliver(&notification(0)).await;
    bench
        .wechat
        .control()
        .script(Rule::send(Action::errcode(45009)));
    let rows: Vec<Notification> = (1..=32).map(notification).collect();
    let delivered = futures::future::join_all(rows.iter().map(|row| bench.deliver(row))).await;
    assert!(
        delivered
            .iter()
            .all(|conclusion| is_parked_for_app(&conclusion.outcome))
    );
    let pauses = delivered
        .iter()
        .filter_map(|conclusion| paused_app(&conclusion.effects))
        .count();
    assert_eq!(pauses, 1);
}

#[tokio::test]
async fn rules_that_an_operator_changed_hold_for_the_next_row() {
    let bench = Bench::new().await;
    bench
        .wechat
        .control()
        .script(Rule::send(Action::errcode(43101)));
    let before = bench.deliver(&notification(1)).await.outcome;
    assert_eq!(
        before.verdict,
        Verdict::Dead {
            credit: Credit::Gone
        }
    );
    bench.deliverer.replace_errcodes(ErrcodeTable::new([]));
    let after = bench.deliver(&notification(2)).await.outcome;
    assert!(matches!(after.verdict, Verdict::Retry { .. }), "{after:?}");
}
