//! What the fake pushes, how often, and who may tell it to.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use wxnotify::simulate::{CallbackFormat, CallbackSpec, FakeWechat, SimulateOptions};

use super::{AESKEY, APPID, Scene, TOKEN, eventually};
use crate::harness::{PATIENCE, wxnotify};
use crate::kernel::APP;

#[tokio::test]
async fn the_fake_pushes_three_times_when_nobody_answers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let control = fake.control();
    control.set_callback(
        APPID,
        Some(CallbackSpec {
            answer_within_ms: 50,
            ..CallbackSpec::new(url, TOKEN)
        }),
    );
    control.push_popup(APPID, "user-1", &[("T1", "accept"), ("T2", "reject")]);
    let given_up = control.wait_until(|counts| counts.callbacks_given_up == 1);
    tokio::time::timeout(PATIENCE, given_up).await.unwrap();
    assert_eq!(control.counts().callback_tries, 3);
}

#[tokio::test]
async fn popups_and_changes_of_the_fake_are_stored_in_either_format() {
    let scene = Scene::safe().await;
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let control = fake.control();
    for format in [CallbackFormat::Json, CallbackFormat::Xml] {
        control.set_callback(
            APP,
            Some(CallbackSpec {
                format,
                ..CallbackSpec::new(scene.url(), TOKEN).with_aeskey(AESKEY)
            }),
        );
        let user = format!("{format:?}");
        control.push_popup(APP, &user, &[("T1", "accept"), ("T2", "reject")]);
        control.push_change(APP, &user, &[("T1", "reject")]);
    }
    let answered = control.wait_until(|counts| counts.callbacks_answered == 4);
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
    let stored: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', openid, event, template_id, payload #>> '{List,SubscribeStatusString}')
         from wechat_events order by 1",
    )
    .fetch_all(scene.queue.pool())
    .await
    .unwrap();
    let expected: Vec<String> = ["Json", "Xml"]
        .iter()
        .flat_map(|user| {
            [
                format!("{user} subscribe_msg_change_event T1 reject"),
                format!("{user} subscribe_msg_popup_event T1 accept"),
                format!("{user} subscribe_msg_popup_event T2 reject"),
            ]
        })
        .collect();
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn punishments_of_the_fake_show_in_the_view_in_either_format() {
    let scene = Scene::safe().await;
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let control = fake.control();
    for (format, event_type) in [(CallbackFormat::Json, 2), (CallbackFormat::Xml, 4)] {
        control.set_callback(
            APP,
            Some(CallbackSpec {
                format,
                ..CallbackSpec::new(scene.url(), TOKEN).with_aeskey(AESKEY)
            }),
        );
        control.push_punishment(APP, event_type, "诱导订阅", Some("订阅消息"));
    }
    let answered = control.wait_until(|counts| counts.callbacks_answered == 2);
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
    let shown: Vec<String> = sqlx::query_scalar(
        "select concat_ws(' ', appid, punishment, reason, banned_functions, banned_days) from wechat_punishments order by event_type",
    )
    .fetch_all(scene.queue.pool())
    .await
    .unwrap();
    let of = |punishment: &str| format!("{APP} {punishment} 诱导订阅 订阅消息 7");
    assert_eq!(shown, [of("functions banned"), of("account banned")]);
}

/// Any page that a developer looks at can make the browser POST to loopback.
#[tokio::test]
async fn the_fakes_control_obeys_no_page_and_posts_to_this_machine_alone() {
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let address = fake.base_url().replace("http://", "");
    let url = format!("{}/_control/ledger", fake.base_url());
    let http = reqwest::Client::new();
    let status = async |name: &str, value: &str| {
        let request = http.get(&url).header(name, value);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("x-none", "").await, 200);
    assert_eq!(status("host", "localhost:9").await, 200);
    assert_eq!(
        status("host", "wechat:8080").await,
        200,
        "a container's name"
    );
    assert_eq!(
        status(
            "host",
            &format!("{}.rebind.example", address.replace(':', "-"))
        )
        .await,
        403
    );
    assert_eq!(status("host", "evil.example").await, 403);
    assert_eq!(status("origin", "https://evil.example").await, 403);
    assert_eq!(status("origin", "null").await, 403);
    assert_eq!(status("origin", &fake.base_url()).await, 403);

    let set = async |callback_url: &str| {
        let body =
            json!({"appid": "a.evil.example/", "url": callback_url, "token": TOKEN}).to_string();
        let url = format!("{}/_control/callback", fake.base_url());
        http.post(url)
            .body(body)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    for elsewhere in [
        "http://169.254.169.254/latest",
        "http://internal.example/",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://{appid}:80/",
        "http://{appid}@localhost/",
        "http://0.0.0.0/",
        "http://[::ffff:10.0.0.1]/",
        "file:///etc/passwd",
    ] {
        assert_eq!(set(elsewhere).await, 400, "{elsewhere}");
    }
    for here in [
        "http://127.0.0.1:9/{appid}",
        "http://localhost:9/",
        "http://[::1]:9/",
    ] {
        assert_eq!(set(here).await, 200, "{here}");
    }
}

#[tokio::test]
async fn the_fake_is_told_of_callbacks_over_http_too() {
    let scene = Scene::plain().await;
    let fake = FakeWechat::start(SimulateOptions::default()).await.unwrap();
    let operate = async |operation: &str, body: Value| {
        let url = format!("{}/_control/{operation}", fake.base_url());
        let response = scene
            .http
            .post(url)
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    for bad in [
        json!({"appid": APP, "url": "nowhere", "token": TOKEN}),
        json!({"appid": APP, "url": scene.url(), "token": TOKEN, "mode": "safe"}),
        json!({"appid": APP, "url": scene.url(), "token": TOKEN, "aeskey": "short"}),
    ] {
        assert_eq!(operate("callback", bad).await.0, 400);
    }
    let spec = json!({"appid": APP, "url": scene.url(), "token": TOKEN, "format": "xml"});
    assert_eq!(operate("callback", spec).await.0, 200);
    let popup = json!({"appid": APP, "openid": "user-1", "entries": [{"template_id": "T1", "status": "accept"}]});
    assert_eq!(operate("popup", popup).await.0, 200);
    let answered = fake.control();
    let answered = answered.wait_until(|counts| counts.callbacks_answered == 1);
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(scene.events().await.len(), 1);

    let pair = json!({"appid": APP, "openid": "user-2", "template_id": "T1"});
    let accept = |always_keep: bool| {
        json!({"appid": APP, "openid": "user-2", "always_keep": always_keep,
            "answers": [{"template_id": "T1", "answer": "accept"}]})
    };
    assert_eq!(operate("tap", accept(true)).await.0, 200);
    let (status, sent) = operate("send_elsewhere", pair.clone()).await;
    assert!(status == 200 && !sent.contains("null"), "{sent}");
    let (_, refused) = operate("send_elsewhere", pair.clone()).await;
    assert!(refused.contains("null"), "the credit is spent: {refused}");
    assert_eq!(operate("tap", accept(false)).await.0, 200);
    assert_eq!(operate("reject_later", pair.clone()).await.0, 200);
    let (_, refused) = operate("send_elsewhere", pair).await;
    assert!(refused.contains("null"), "the user refuses: {refused}");
    eventually(
        "the events but that of the always-keep arrive",
        async || {
            let mut events: Vec<_> = scene.events().await[1..]
                .iter()
                .map(|event| event["event"].as_str().unwrap().to_owned())
                .collect();
            events.sort();
            events
                == [
                    "subscribe_msg_change_event",
                    "subscribe_msg_popup_event",
                    "subscribe_msg_sent_event",
                ]
        },
    )
    .await;
}

#[tokio::test]
async fn the_simulate_command_pushes_where_its_flags_say() {
    let scene = Scene::safe().await;
    let url = scene.url().replace(APP, "{appid}");
    let simulate = |aeskey: &str| {
        let mut command = wxnotify();
        command
            .args([
                "simulate",
                "--listen",
                "127.0.0.1:0",
                "--callback-token",
                TOKEN,
            ])
            .args([
                "--callback-url",
                &url,
                "--callback-aeskey",
                aeskey,
                "--callback-format",
                "xml",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let refused = simulate("too-short").output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && words.contains("43 letters and digits"),
        "{words}"
    );

    let mut program = simulate(AESKEY).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(program.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let base = line.trim().rsplit(' ').next().unwrap().to_owned();
    let popup = json!({"appid": APP, "openid": "user-1", "entries": [{"template_id": "T1", "status": "accept"}]});
    let request = scene.http.post(format!("{base}/_control/popup"));
    let answer = request.body(popup.to_string()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    eventually("the event arrives", async || {
        scene.events().await.len() == 1
    })
    .await;
    program.kill().unwrap();
    program.wait().unwrap();
}
