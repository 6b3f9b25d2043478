//! The whole way: the fake pushes to a worker's own listener, and the rows show it.
//!
//! Start at [`Stage`].

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use wxnotify::config::{Settings, Sources};
use wxnotify::simulate::{
    Action, Answer, CallbackFormat, CallbackMode, CallbackSpec, CallbackTiming, Control,
    FakeWechat, ListShape, Rule, SimulateOptions, Tap, TapAnswer, Why43101,
};
use wxnotify::worker::{self, RunOptions};

use super::{AESKEY, APPID, TOKEN, eventually};
use crate::harness::free_address;
use crate::kernel::{self, Queue};

/// A worker against the fake, which pushes to the worker's own listener.
struct Stage {
    queue: Queue,
    fake: FakeWechat,
    url: String,
    working: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Stage {
    async fn new(aeskey: Option<&str>) -> Self {
        let queue = Queue::new().await;
        queue.register(APPID).await;
        let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
        let address = free_address();
        let mut sources = Sources::default()
            .with("DATABASE_URL", queue.url())
            .with("WXNOTIFY_API_BASE", &fake.base_url())
            .with("WXNOTIFY_LISTEN", &address.to_string())
            .with("WXNOTIFY_REQUEST_TIMEOUT_SECS", "2")
            .with("WXNOTIFY_CONNECT_TIMEOUT_SECS", "1")
            .with("WXNOTIFY_POLL_SECS", "0.1")
            .with(&format!("WXNOTIFY_APPSECRET_{APPID}"), "secret")
            .with(&format!("WXNOTIFY_CALLBACK_TOKEN_{APPID}"), TOKEN);
        if let Some(aeskey) = aeskey {
            sources = sources.with(&format!("WXNOTIFY_CALLBACK_AESKEY_{APPID}"), aeskey);
        }
        let settings = Settings::load(&sources).unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let working = tokio::spawn(async move {
            worker::run(&settings, RunOptions::default(), token)
                .await
                .unwrap();
        });
        let stage = Self {
            queue,
            fake,
            url: format!("http://{address}/wechat/callback/{{appid}}"),
            working,
            stop,
        };
        eventually("the listener answers", async || {
            reqwest::get(format!("http://{address}/healthz"))
                .await
                .is_ok()
        })
        .await;
        stage
    }

    fn control(&self) -> Control {
        self.fake.control()
    }

    async fn enqueue(&self, openid: &str) -> i64 {
        self.queue
            .enqueue(json!({"appid": APPID, "openid": openid}))
            .await
    }

    async fn row(&self, id: i64) -> Value {
        sqlx::query_scalar("select to_jsonb(n) from notifications n where id = $1")
            .bind(id)
            .fetch_one(self.queue.pool())
            .await
            .unwrap()
    }

    async fn until(&self, id: i64, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || holds(&self.row(id).await)).await;
        self.row(id).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.working.await.unwrap();
    }
}

fn has_receipt(row: &Value) -> bool {
    !row["receipt_at"].is_null()
}

/// Every mode and format from the fake to the view.
#[tokio::test]
async fn every_mode_and_format_confirms_what_was_sent() {
    for aeskey in [None, Some(AESKEY)] {
        let stage = Stage::new(aeskey).await;
        let modes: &[CallbackMode] = match aeskey {
            None => &[CallbackMode::Plaintext],
            Some(_) => &[CallbackMode::Safe, CallbackMode::Compatible],
        };
        let mut user = 0;
        for mode in modes {
            for (format, list, numbers) in [
                (CallbackFormat::Xml, ListShape::Usual, false),
                (CallbackFormat::Json, ListShape::Usual, false),
                (CallbackFormat::Json, ListShape::Array, true),
                (CallbackFormat::Json, ListShape::Wrapped, true),
            ] {
                for timing in [CallbackTiming::BeforeReply, CallbackTiming::AfterReply] {
                    user += 1;
                    stage.control().set_callback(
                        APPID,
                        Some(CallbackSpec {
                            aeskey: aeskey.map(str::to_owned),
                            mode: Some(*mode),
                            format,
                            list,
                            numbers,
                            timing,
                            ..CallbackSpec::new(&stage.url, TOKEN)
                        }),
                    );
                    let what = format!("{mode:?} {format:?} {list:?} {timing:?}");
                    let id = stage.enqueue(&format!("user-{user}")).await;
                    let row = stage.until(id, &what, has_receipt).await;
                    assert_eq!(
                        (
                            &row["status"],
                            &row["settled_by"],
                            &row["receipt_code"],
                            &row["receipt_status"]
                        ),
                        (
                            &json!("sent"),
                            &json!("reply"),
                            &json!(0),
                            &json!("success")
                        ),
                        "{what}"
                    );
                    let calls = stage.control().ledger().calls;
                    let msgid = calls.iter().filter_map(|call| call.msgid).next_back();
                    assert_eq!(row["msgid"].as_i64(), msgid, "{what}: to the last digit");
                }
            }
        }
        assert_eq!(stage.control().counts().callbacks_given_up, 0);
        stage.end().await;
    }
}

#[tokio::test]
async fn a_lost_reply_is_made_good_by_the_sent_event_and_sent_once() {
    let stage = Stage::new(Some(AESKEY)).await;
    for (user, timing, times) in [
        ("user-1", CallbackTiming::BeforeReply, 1),
        ("user-2", CallbackTiming::AfterReply, 1),
        ("user-3", CallbackTiming::AfterReply, 2),
    ] {
        stage.control().set_callback(
            APPID,
            Some(CallbackSpec {
                timing,
                times,
                ..CallbackSpec::new(&stage.url, TOKEN).with_aeskey(AESKEY)
            }),
        );
        let sends = stage.control().counts().sends_arrived;
        stage.control().script(Rule {
            openid: Some(user.to_owned()),
            count: Some(1),
            ..Rule::new(Action::Reset { after_credit: true })
        });
        let id = stage.enqueue(user).await;
        let row = stage.until(id, user, has_receipt).await;
        assert_eq!(
            (&row["status"], &row["settled_by"], &row["receipt_code"]),
            (&json!("sent"), &json!("event"), &json!(0)),
            "{row}"
        );
        assert_eq!(row["may_be_doubled"], json!(false));
        assert_eq!(
            stage.control().counts().sends_arrived,
            sends + 1,
            "{user}: sent once"
        );
    }
    stage.end().await;
}

#[tokio::test]
async fn what_users_tap_parks_and_releases_their_rows() {
    let stage = Stage::new(None).await;
    let control = stage.control();
    control.set_callback(APPID, Some(CallbackSpec::new(&stage.url, TOKEN)));
    let accept = |always_keep| Tap {
        appid: APPID.to_owned(),
        openid: "user-1".to_owned(),
        answers: vec![TapAnswer {
            template_id: "template-1".to_owned(),
            answer: Answer::Accept,
        }],
        always_keep,
    };
    control.tap(&accept(false));
    let first = stage.enqueue("user-1").await;
    stage
        .until(first, "sent", |row| row["status"] == "sent")
        .await;

    control.reject_later(APPID, "user-1", "template-1");
    eventually("the refusal is noted", async || {
        sqlx::query_scalar::<_, bool>("select exists (select from wechat_refusals)")
            .fetch_one(stage.queue.pool())
            .await
            .unwrap()
    })
    .await;
    let earlier = json!({"appid": APPID, "openid": "user-1", "created_at": kernel::in_secs(-60)});
    let second = stage.queue.enqueue(earlier).await;
    stage
        .until(second, "parked", |row| row["status"] == "paused")
        .await;
    assert_eq!(control.counts().sends_arrived, 1);

    // WeChat dates in whole seconds: the accept must be of a later one.
    control.advance_clock(Duration::from_secs(2));
    control.tap(&accept(false));
    stage
        .until(second, "sent", |row| row["status"] == "sent")
        .await;

    control.tap(&accept(true));
    assert!(
        control
            .send_elsewhere(APPID, "user-1", "template-1")
            .is_some()
    );
    let third = stage.enqueue("user-1").await;
    stage
        .until(third, "dead", |row| row["errcode"] == 43101)
        .await;
    let why = control.ledger().calls.last().unwrap().why_43101;
    assert_eq!(why, Some(Why43101::SpentElsewhere));
    eventually(
        "the other system's event tells which 43101 it was",
        async || {
            sqlx::query_scalar::<_, String>(
                "select which || ' ' || certainty from notification_43101 where id = $1",
            )
            .bind(third)
            .fetch_one(stage.queue.pool())
            .await
            .unwrap()
                == "spent_elsewhere certain"
        },
    )
    .await;
    stage.end().await;
}

#[tokio::test]
async fn without_callbacks_nothing_changes() {
    let stage = Stage::new(None).await;
    let sent = stage.enqueue("user-1").await;
    let row = stage
        .until(sent, "sent", |row| row["status"] == "sent")
        .await;
    assert!(!has_receipt(&row));
    stage.control().script(Rule {
        count: Some(1),
        ..Rule::new(Action::Reset { after_credit: true })
    });
    let lost = stage.enqueue("user-2").await;
    stage
        .until(lost, "in doubt", |row| row["status"] == "in_doubt")
        .await;
    let events: i64 = sqlx::query_scalar("select count(*) from wechat_events")
        .fetch_one(stage.queue.pool())
        .await
        .unwrap();
    assert_eq!((events, stage.control().counts().callback_tries), (0, 0));
    stage.end().await;
}
