//! Events that reached another program: what SQL and the command take, what they refuse, how long they are kept.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use wxnotify::store::Store;
use wxnotify::wechat::callback::STORED_EVENTS;

use super::{MSGID, Scene, sent_event};
use crate::harness::wxnotify;
use crate::kernel::{self, APP, Queue};

#[tokio::test]
async fn what_the_receiver_keeps_the_database_keeps_too() {
    let scene = Scene::plain().await;
    for event in STORED_EVENTS {
        let payload =
            json!({"Event": event, "CreateTime": 1_760_000_000, "List": {"TemplateId": "T"}});
        assert_eq!(ingest(&scene, &payload).await, Ok(Some(1)), "{event}");
        assert_eq!(ingest(&scene, &payload).await, Ok(Some(0)), "{event}");
    }
    assert_eq!(
        ingest(&scene, &json!({"Event": "user_enter_tempsession"})).await,
        Ok(None)
    );
    assert_eq!(ingest(&scene, &json!({"MsgType": "text"})).await, Ok(None));
    // A punishment without a time is dated by us.
    assert_eq!(
        ingest(
            &scene,
            &json!({"Event": "wxa_punish_event", "punish_id": 5})
        )
        .await,
        Ok(Some(1))
    );
}

/// Ingests in SQL; an error is its message.
async fn ingest(scene: &Scene, payload: &Value) -> Result<Option<i32>, String> {
    sqlx::query_scalar("select wxnotify_ingest_event($1, $2)")
        .bind(APP)
        .bind(payload)
        .fetch_one(scene.queue.pool())
        .await
        .map_err(|error| error.as_database_error().unwrap().message().to_owned())
}

#[tokio::test]
async fn sql_refuses_what_is_no_event_and_says_why_without_its_text() {
    let scene = Scene::plain().await;
    let event = |list: Value| json!({"Event": "subscribe_msg_sent_event", "FromUserName": "oSecret", "CreateTime": 1_760_000_000, "List": list});
    for (payload, words) in [
        (json!([]), "JSON object"),
        (json!("x"), "JSON object"),
        (
            json!({"Event": "subscribe_msg_sent_event", "List": {"TemplateId": "T"}}),
            "CreateTime",
        ),
        (
            json!({"Event": "subscribe_msg_sent_event", "CreateTime": "soon", "List": {}}),
            "CreateTime",
        ),
        (
            json!({"Event": "subscribe_msg_sent_event", "CreateTime": -1, "List": {}}),
            "CreateTime",
        ),
        (event(Value::Null), "List"),
        (event(json!([])), "List"),
        (event(json!("x")), "List"),
        (event(json!([1])), "List"),
        (event(json!({"MsgID": "1"})), "List"),
        (event(json!({"TemplateId": ""})), "List"),
        (event(json!({"TemplateId": "x".repeat(129)})), "List"),
        (event(json!(vec![json!({"TemplateId": "T"}); 101])), "List"),
        (
            event(json!({"TemplateId": "T", "more": "x".repeat(200_000)})),
            "too large",
        ),
    ] {
        let refused = ingest(&scene, &payload).await;
        let message = match refused {
            Err(message) => message,
            // An empty list is no event, but nothing to complain of either.
            Ok(stored) => panic!("{payload} was taken: {stored:?}"),
        };
        assert!(message.contains(words), "{message}");
        assert!(!message.contains("oSecret"), "{message}");
    }
    // Odd ids of an otherwise sound event are kept, as no evidence.
    for odd in [
        json!("12x"),
        json!("99999999999999999999"),
        json!(1.5),
        json!(null),
        json!(-5),
    ] {
        assert_eq!(
            ingest(&scene, &event(json!({"TemplateId": "T", "MsgID": odd}))).await,
            Ok(Some(1))
        );
    }
    let with_id = scene
        .events()
        .await
        .iter()
        .filter(|event| !event["msgid"].is_null())
        .count();
    assert_eq!(with_id, 0);
}

/// A captured signature is enough for a plaintext event: one of the far future would outlast every later word of the user.
#[tokio::test]
async fn sql_takes_no_event_from_the_future() {
    let queue = Queue::new().await;
    let event = |secs: i64| {
        json!({"Event": "subscribe_msg_popup_event", "FromUserName": "oUser", "CreateTime": chrono::Utc::now().timestamp() + secs,
               "List": {"TemplateId": "T", "SubscribeStatusString": "reject"}})
    };
    let ingest = async |payload: Value| {
        sqlx::query_scalar::<_, Option<i32>>("select wxnotify_ingest_event('wx', $1)")
            .bind(payload)
            .fetch_one(queue.pool())
            .await
    };
    for secs in [700, 86_400, 5_000_000_000] {
        let error = ingest(event(secs)).await.unwrap_err().to_string();
        assert!(error.contains("CreateTime"), "{error}");
        assert!(!error.contains("oUser"), "{error}");
    }
    // Clocks differ.
    assert_eq!(ingest(event(500)).await.unwrap(), Some(1));
}

/// One event with a hundred entries is stored a hundred times.
#[tokio::test]
async fn what_stands_beside_the_entries_of_an_event_is_not_stored_with_each_of_them() {
    let queue = Queue::new().await;
    let entries: Vec<Value> = (0..100)
        .map(|n| json!({"TemplateId": format!("T{n}"), "SubscribeStatusString": "accept", "Note": "x".repeat(300)}))
        .collect();
    let event = json!({"Event": "subscribe_msg_popup_event", "FromUserName": "oUser", "CreateTime": 1_760_000_000, "ToUserName": "gh_1",
                       "List": entries, "Blob": "y".repeat(40_000), "Deep": {"a": {"b": ["z".repeat(20_000)]}}});
    let stored: Option<i32> = sqlx::query_scalar("select wxnotify_ingest_event('wx', $1)")
        .bind(event)
        .fetch_one(queue.pool())
        .await
        .unwrap();
    assert_eq!(stored, Some(100));
    let (most, cut, kept): (i32, i64, i64) = sqlx::query_as(
        "select max(octet_length(payload::text)), count(*) filter (where payload ? 'cut'),
                count(*) filter (where payload ->> 'FromUserName' = 'oUser' and payload -> 'List' ->> 'TemplateId' = template_id)
         from wechat_events",
    )
    .fetch_one(queue.pool())
    .await
    .unwrap();
    assert!(most <= 4096, "{most} bytes");
    assert_eq!((cut, kept), (100, 100));
}

#[tokio::test]
async fn who_hands_on_events_needs_to_be_allowed_that_alone() {
    let scene = Scene::plain().await;
    // Roles belong to the whole server: in a transaction they are gone again.
    let mut session = scene.queue.session().await;
    kernel::run(&mut session, "begin").await;
    kernel::run(&mut session, "create role hander_on").await;
    kernel::run(&mut session, "set local role hander_on").await;
    let call = "select wxnotify_ingest_event('wx', '{\"Event\": \"wxa_punish_event\"}')";
    let ingest = |statement: &'static str| sqlx::query_scalar::<_, i32>(statement);
    kernel::run(&mut session, "savepoint before").await;
    let error = ingest(call).fetch_one(&mut session).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "42501");
    kernel::run(&mut session, "rollback to savepoint before").await;
    kernel::run(&mut session, "reset role").await;
    let grant = "grant execute on function wxnotify_ingest_event to hander_on";
    kernel::run(&mut session, grant).await;
    kernel::run(&mut session, "set local role hander_on").await;
    assert_eq!(ingest(call).fetch_one(&mut session).await.unwrap(), 1);
    kernel::run(&mut session, "rollback").await;
}

#[tokio::test]
async fn the_command_line_ingests_either_format_and_settles_what_follows() {
    let scene = Scene::plain().await;
    let doubtful = scene.doubt("user-1").await;
    let sent = scene.send("user-2", 2).await;
    let lines = format!(
        "{}\n{}\n{{\"MsgType\":\"text\"}}\n",
        sent_event("user-1", MSGID),
        sent_event("user-2", 2)
    );
    let url = scene.queue.url().to_owned();
    let run = |input: String| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || {
            let mut child = wxnotify()
                .args(["event", "ingest", APP, "--json"])
                .env("DATABASE_URL", url)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(input.as_bytes())
                .unwrap();
            child.wait_with_output().unwrap()
        })
    };
    let output = run(lines.clone()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            &report["stored"],
            &report["known"],
            &report["ignored"],
            &report["doubts_settled"]
        ),
        (&json!(2), &json!(0), &json!(1), &json!(1)),
        "{report}"
    );
    assert_eq!(
        scene.fate(doubtful).await,
        format!("sent event {MSGID} 0 success")
    );
    assert_eq!(scene.fate(sent).await, "sent reply 2 0 success");
    let again: Value = serde_json::from_slice(&run(lines).await.unwrap().stdout).unwrap();
    assert_eq!((&again["stored"], &again["known"]), (&json!(0), &json!(2)));

    let xml = "<xml><Event>subscribe_msg_popup_event</Event><CreateTime>1760000000</CreateTime>
        <SubscribeMsgPopupEvent><List><TemplateId>T</TemplateId></List></SubscribeMsgPopupEvent></xml>";
    let output = run(xml.to_owned()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    for bad in ["", "success", "<xml>", "{\"Event\":"] {
        let output = run(bad.to_owned()).await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad}: {output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("next:"),
            "{output:?}"
        );
    }
}

#[tokio::test]
async fn old_events_are_forgotten_and_young_ones_are_not() {
    let scene = Scene::plain().await;
    for (event, openid) in [
        ("subscribe_msg_sent_event", "a"),
        ("subscribe_msg_popup_event", "b"),
    ] {
        for days in [10, 40, 500] {
            let payload = json!({"Event": event, "FromUserName": format!("{openid}{days}"), "CreateTime": 1_760_000_000,
                "List": {"TemplateId": "T", "MsgID": "7"}});
            let payload = if event.contains("popup") {
                let mut popup = payload;
                popup["List"] = json!({"TemplateId": "T", "SubscribeStatusString": "accept"});
                popup
            } else {
                payload
            };
            assert_eq!(ingest(&scene, &payload).await, Ok(Some(1)));
            let age = format!(
                "update wechat_events set received_at = now() - interval '{days} days' where openid = '{openid}{days}'"
            );
            scene.queue.force(&age).await;
        }
    }
    let store = Store::new(scene.queue.pool().clone());
    // Nobody's message of 40 days ago may yet explain a 43101.
    assert_eq!(store.drop_old_events(13).await.unwrap(), 2);
    scene
        .queue
        .force("update wechat_events set applied_at = received_at where msgid is not null")
        .await;
    assert_eq!(store.drop_old_events(13).await.unwrap(), 1);
    let left: Vec<String> = sqlx::query_scalar("select openid from wechat_events order by openid")
        .fetch_all(scene.queue.pool())
        .await
        .unwrap();
    assert_eq!(left, ["a10", "b10", "b40"]);
    assert_eq!(store.drop_old_events(13).await.unwrap(), 0);
}
