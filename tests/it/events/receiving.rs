//! What reaches the callback URL: verified, stored once, or refused without a word too many.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wxnotify::http::callback::Callbacks;
use wxnotify::simulate::sealing::Seal;
use wxnotify::store::Store;
use wxnotify::telemetry;
use wxnotify::wechat::callback::cipher::AesKey;
use wxnotify::wechat::callback::{Receiver, sign};

use super::{AESKEY, APPID, MSGID, Scene, TOKEN, eventually, sent_event};
use crate::harness::{PATIENCE, free_address, wxnotify};
use crate::kernel::{self, APP, Queue};

#[tokio::test]
async fn the_url_is_verified_with_its_echo_and_nothing_else() {
    let scene = Scene::safe().await;
    let mut query = Scene::query();
    query.push(("echostr", "4375120948345356249<b>".to_owned()));
    let get = |query: Vec<(&'static str, String)>| scene.http.get(scene.url()).query(&query).send();
    let response = get(query.clone()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    assert_eq!(response.text().await.unwrap(), "4375120948345356249<b>");
    query[0].1 = "0".repeat(40);
    assert_eq!(get(query).await.unwrap().status(), 403);
    assert_eq!(get(vec![]).await.unwrap().status(), 403);
    let elsewhere = format!("http://{}/wechat/callback/wx-unknown", scene.address);
    assert_eq!(
        scene.http.get(elsewhere).send().await.unwrap().status(),
        403
    );
}

/// How often `/metrics` says that callbacks ended so.
fn counted(result: &str) -> u64 {
    let label = format!("wxnotify_callbacks_total{{appid=\"{APP}\",result=\"{result}\"}} ");
    let rendered = telemetry::record_metrics().render();
    let line = rendered.lines().find_map(|line| line.strip_prefix(&label));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn what_is_forged_replayed_broken_or_too_large_is_refused_and_counted() {
    let scene = Scene::plain().await;
    let event = sent_event("user-1", MSGID).to_string();
    let mut forged = Scene::query();
    forged[0].1 = sign("anotherToken", &forged[1].1, "nonce1", None);
    let old = (chrono::Utc::now().timestamp() - 3600).to_string();
    let replayed = vec![
        ("signature", sign(TOKEN, &old, "nonce1", None)),
        ("timestamp", old),
        ("nonce", "nonce1".to_owned()),
    ];
    let good = Scene::query();
    let spaces = " ".repeat(64 * 1024);
    let cases: Vec<(&Vec<_>, Vec<u8>, u16, &str)> = vec![
        (&forged, event.clone().into(), 403, "bad_signature"),
        (&replayed, event.clone().into(), 403, "stale"),
        (&good, event[..event.len() / 2].into(), 403, "malformed"),
        (
            &good,
            b"<xml><Event>\xff\xfe</Event></xml>".to_vec(),
            403,
            "not_utf8",
        ),
        (&good, (event.clone() + &spaces).into(), 403, "oversized"),
        (
            &good,
            b"<!DOCTYPE x [<!ENTITY a 'b'>]><xml><Event>&a;</Event></xml>".to_vec(),
            403,
            "malformed",
        ),
        (&good, b"".to_vec(), 403, "malformed"),
        (
            &good,
            event.replace("CreateTime", "CreatedTime").into(),
            400,
            "malformed",
        ),
        (
            &good,
            event.replace("TemplateId", "Template").into(),
            400,
            "malformed",
        ),
    ];
    for (query, body, status, result) in cases {
        let before = counted(result);
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let (answered, text) = scene.post(query, body).await;
        assert_eq!(answered, status, "{result}: {shown}");
        assert!(!text.contains("user-1") && !text.contains(TOKEN), "{text}");
        assert!(counted(result) > before, "{result} is counted");
    }
    assert!(scene.events().await.is_empty());
    let unsigned = scene.post(&[], event).await;
    assert_eq!(unsigned.0, 403);
}

/// Neither the status nor the text nor a header tells a stranger which mini-programs are served, nor in which mode.
#[tokio::test]
async fn a_stranger_cannot_tell_a_known_app_from_an_unknown_one() {
    for scene in [Scene::plain().await, Scene::safe().await] {
        let unknown = scene.url().replace(APP, "wx-unknown");
        let bodies: [Vec<u8>; 5] = [
            b"{}".to_vec(),
            b"<xml>".to_vec(),
            b"\xff".to_vec(),
            vec![b' '; 70_000],
            sent_event("user-1", MSGID).to_string().into(),
        ];
        for body in bodies {
            for query in [
                vec![("signature", "00")],
                vec![("encrypt_type", "aes")],
                vec![],
            ] {
                let ask = async |url: &str| {
                    let request = scene.http.post(url).query(&query).body(body.clone());
                    let response = request.send().await.unwrap();
                    let mut headers = response.headers().clone();
                    headers.remove("date");
                    (response.status(), headers, response.text().await.unwrap())
                };
                assert_eq!(ask(&scene.url()).await, ask(&unknown).await);
            }
        }
        let get = async |url: &str| {
            scene
                .http
                .get(url)
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
        };
        assert_eq!(get(&scene.url()).await, get(&unknown).await);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_stored() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let scene = Scene::plain().await;
    let query = reqwest::Url::parse_with_params(&scene.url(), Scene::query()).unwrap();
    let target = format!("{}?{}", query.path(), query.query().unwrap());
    let mut stream = tokio::net::TcpStream::connect(scene.address).await.unwrap();
    let event = sent_event("user-1", MSGID).to_string();
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        event.len() + 10
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(event.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn with_a_key_a_plain_event_is_refused_even_when_it_is_signed() {
    let scene = Scene::safe().await;
    let (status, text) = scene
        .post(&Scene::query(), sent_event("user-1", MSGID).to_string())
        .await;
    assert_eq!((status, text.as_str()), (403, "refused"));
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn a_database_that_hangs_or_is_away_gets_an_error_within_a_second() {
    let scene = Scene::plain().await;
    let mut holder = scene.queue.session().await;
    kernel::run(&mut holder, "begin").await;
    kernel::run(&mut holder, "lock table wechat_events").await;
    let event = sent_event("user-1", MSGID);
    // Every answer comes while the table is still locked. On a busy machine one may be late, through no fault of ours.
    let mut fastest = PATIENCE;
    for _ in 0..3 {
        let asked_at = Instant::now();
        let (status, _) = scene.post(&Scene::query(), event.to_string()).await;
        assert_eq!(status, 503, "so that WeChat pushes it again");
        fastest = fastest.min(asked_at.elapsed());
    }
    assert!(fastest < Duration::from_millis(1500), "{fastest:?}");
    kernel::run(&mut holder, "rollback").await;
    // Pushed again it is stored, once, whatever became of the statements that were given up.
    eventually("the database answers again", async || {
        scene.post(&Scene::query(), event.to_string()).await.0 == 200
    })
    .await;
    assert_eq!(scene.events().await.len(), 1);
}

#[tokio::test]
async fn chat_messages_and_unknown_events_get_success_and_are_forgotten() {
    let scene = Scene::plain().await;
    for event in [
        json!({"MsgType": "text", "FromUserName": "user-1", "Content": "secret words"}),
        json!({"MsgType": "event", "Event": "user_enter_tempsession", "CreateTime": 1_760_000_000}),
    ] {
        scene.push(&event).await;
    }
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn every_shape_of_an_event_is_stored_alike_and_once() {
    let scene = Scene::plain().await;
    let created = chrono::Utc::now().timestamp();
    let entry = json!({"TemplateId": "template-1", "MsgID": MSGID.to_string(), "ErrorCode": "0", "ErrorStatus": "success"});
    let numbers = json!({"TemplateId": "template-1", "MsgID": MSGID, "ErrorCode": 0, "ErrorStatus": "success"});
    let common = json!({"FromUserName": "user-1", "CreateTime": created, "MsgType": "event", "Event": "subscribe_msg_sent_event"});
    let with = |name: &str, value: Value| {
        let mut event = common.clone();
        event[name] = value;
        event
    };
    let mut texts = with("List", entry.clone());
    texts["CreateTime"] = json!(created.to_string());
    for event in [
        with("List", entry.clone()),
        with("List", json!([entry])),
        with("List", numbers.clone()),
        with("SubscribeMsgSentEvent", json!({"List": entry})),
        with("SubscribeMsgSentEvent", json!({"List": [numbers]})),
        texts,
    ] {
        scene.push(&event).await;
    }
    let xml = format!(
        "<xml><FromUserName><![CDATA[user-1]]></FromUserName><CreateTime>{created}</CreateTime><MsgType>event</MsgType>\
         <Event>subscribe_msg_sent_event</Event><SubscribeMsgSentEvent><List><TemplateId>template-1</TemplateId><MsgID>{MSGID}</MsgID>\
         <ErrorCode>0</ErrorCode><ErrorStatus><![CDATA[success]]></ErrorStatus></List></SubscribeMsgSentEvent></xml>"
    );
    assert_eq!(scene.post(&Scene::query(), xml).await.0, 200);
    let events = scene.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        events[0]["payload"]["List"]["MsgID"],
        json!(MSGID.to_string())
    );
    assert_eq!(events[0]["msgid"], json!(MSGID));
}

#[tokio::test]
async fn every_entry_of_a_list_is_a_row_of_its_own() {
    let scene = Scene::plain().await;
    let event = json!({
        "FromUserName": "user-1", "CreateTime": chrono::Utc::now().timestamp(), "MsgType": "event",
        "Event": "subscribe_msg_popup_event",
        "List": [{"TemplateId": "A", "SubscribeStatusString": "accept", "PopupScene": "0"},
                 {"TemplateId": "B", "SubscribeStatusString": "reject", "PopupScene": "0"}],
    });
    scene.push(&event).await;
    scene.push(&event).await;
    let events = scene.events().await;
    let templates: Vec<_> = events
        .iter()
        .map(|event| event["template_id"].as_str().unwrap())
        .collect();
    assert_eq!(templates, ["A", "B"]);
    assert_eq!(
        events[1]["payload"]["List"]["SubscribeStatusString"],
        "reject"
    );
    assert_eq!(events[1]["payload"]["FromUserName"], "user-1");
    assert_eq!(
        (&events[0]["answer"], &events[1]["answer"]),
        (&json!("accept"), &json!("reject"))
    );
}

/// Even at the finest level, with the database refusing what it is given.
#[tokio::test]
async fn the_log_shows_neither_openid_nor_token_nor_key() {
    let queue = Queue::new().await;
    let address = free_address();
    let mut program = wxnotify()
        .arg("run")
        .env("DATABASE_URL", queue.url())
        .env("WXNOTIFY_LISTEN", address.to_string())
        .env("WXNOTIFY_LOG", "trace")
        .env(format!("WXNOTIFY_CALLBACK_TOKEN_{APPID}"), TOKEN)
        .env(format!("WXNOTIFY_CALLBACK_AESKEY_{APPID}"), AESKEY)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = program.stderr.take().unwrap();
    let log = tokio::task::spawn_blocking(move || {
        let mut log = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut log).unwrap();
        log
    });
    let http = reqwest::Client::new();
    eventually("the program listens", async || {
        http.get(format!("http://{address}/healthz"))
            .send()
            .await
            .is_ok()
    })
    .await;
    let seal = Seal::of_key(AESKEY).unwrap();
    let timestamp = chrono::Utc::now().timestamp().to_string();
    let mut answers = Vec::new();
    let mut event = sent_event("oSecretOpenid", MSGID);
    for (list, appid) in [
        (json!({"TemplateId": "T", "MsgID": "1"}), APPID),
        (json!([]), APPID),
        (json!([]), "wxother"),
    ] {
        event["List"] = list;
        let encrypted = seal.seal([b'r'; 16], event.to_string().as_bytes(), appid);
        let query = [
            ("timestamp", timestamp.as_str()),
            ("nonce", "secretNonce"),
            ("openid", "oSecretOpenid"),
            ("encrypt_type", "aes"),
            (
                "msg_signature",
                &sign(TOKEN, &timestamp, "secretNonce", Some(&encrypted)),
            ),
        ];
        let body = json!({"Encrypt": encrypted}).to_string();
        let request = http.post(format!("http://{address}/wechat/callback/{APPID}"));
        let response = request.query(&query).body(body).send().await.unwrap();
        answers.push(response.status().as_u16());
    }
    program.kill().unwrap();
    program.wait().unwrap();
    let log = log.await.unwrap();
    assert_eq!(answers, [200, 400, 403]);
    assert!(log.contains("was not taken"), "{log}");
    for secret in ["oSecretOpenid", "secretNonce", TOKEN, AESKEY] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn the_receiver_shows_no_secret() {
    let pool = Queue::new().await;
    let store = Store::new(pool.pool().clone());
    let key = AesKey::from_encoding_aeskey(AESKEY).unwrap();
    let receiver = Receiver::new(APP.to_owned(), TOKEN.into(), Some(key));
    let shown = format!("{:?}", Callbacks::new([receiver], store).unwrap());
    assert!(!shown.contains(TOKEN) && !shown.contains(AESKEY), "{shown}");
    assert!(Callbacks::new([], Store::new(pool.pool().clone())).is_none());
}
