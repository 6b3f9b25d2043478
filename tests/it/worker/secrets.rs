//! What must never be shown, looked for in everything the worker shows.

use std::net::{Ipv4Addr, TcpListener};

use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::AssertSqlSafe;
use wxnotify::simulate::{Action, AppSpec, Rule, TemplateSpec};

use super::{APP, SECRET, Scene, environment};
use crate::harness::eventually;

const PASSWORD: &str = "dbpassword-never-to-be-shown";
const TEXT: &str = "private-words-9731";
const CALLBACK_TOKEN: &str = "callbackTokenNeverShown";
const AESKEY: &str = "q1Os1ZMe0nG28KUEx9lg3HjK7V5QyXvi212fzsgDqg0";

/// Every text of the database that operators' views, tools and logs may repeat.
const TEXTS: &str = "
    select string_agg(t, E'\\n') from (
        select concat_ws(' ', errmsg, worker, settled_by) from notification_history
        union all select concat_ws(' ', last_errmsg) from pending_notifications
        union all select concat_ws(' ', errmsg, rid, reason, worker) from notification_attempts
        union all select concat_ws(' ', pause_reason) from wechat_apps
        union all select concat_ws(' ', pause_reason) from wechat_templates
        union all select concat_ws(' ', name, version) from notification_workers) texts (t)";

/// A load in which every kind of answer occurs, some of which repeat what they were asked.
async fn mixed_load(scene: &Scene) {
    let wechat = &scene.wechat;
    wechat.add_app(AppSpec::new(APP, SECRET));
    wechat.add_template(
        APP,
        TemplateSpec::new("template-strict", ["thing1", "thing2"]),
    );
    let telling = Action::Errcode {
        errcode: 40003,
        errmsg: Some(format!("invalid openid oTelltale of {APP} hint: [x]")),
        after_credit: false,
    };
    wechat.script(Rule::send(telling).openid("oTelltale"));
    wechat.script(Rule::send(Action::errcode(-1)).openid("oBusy").once());
    wechat.script(Rule::send(Action::errcode(43101)).openid("oRefuses"));
    wechat.script(
        Rule::send(Action::errcode(77_777))
            .openid("oUnlisted")
            .once(),
    );
    wechat.script(Rule::send(Action::hang_after_credit()).openid("oHangs"));
    wechat.script(Rule::send(Action::reset_before_credit()).openid("oReset"));
    wechat.script(Rule::send(Action::HalfJson { after_credit: true }).openid("oHalf"));
    let gone = Rule::send(Action::errcode(40037)).template_id("template-gone");
    wechat.script(gone);
    let data = json!({ "data": { "thing1": TEXT } });
    for openid in [
        "oTelltale",
        "oBusy",
        "oRefuses",
        "oUnlisted",
        "oHangs",
        "oReset",
        "oHalf",
    ] {
        scene.insert(openid, data.clone()).await;
    }
    for (openid, template) in [("oField", "template-strict"), ("oGone", "template-gone")] {
        let row = json!({ "data": { "thing1": TEXT }, "template_id": template });
        scene.insert(openid, row).await;
    }
    scene.insert_many("oMany", 20, data).await;
}

#[tokio::test]
async fn no_secret_token_openid_or_text_is_shown_at_trace_level() {
    let scene = Scene::new().await;
    mixed_load(&scene).await;
    let address = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let role = format!(
        "create role secretive{} login password '{PASSWORD}' in role wxnotify_worker",
        std::process::id()
    );
    sqlx::raw_sql(AssertSqlSafe(role))
        .execute(scene.pool())
        .await
        .unwrap();
    let mut url = url::Url::parse(scene.database.url()).unwrap();
    url.set_username(&format!("secretive{}", std::process::id()))
        .unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    let changed = [
        ("WXNOTIFY_LOG", "trace"),
        ("WXNOTIFY_LISTEN", address.as_str()),
        ("WXNOTIFY_CONNECT_TIMEOUT_SECS", "1"),
        ("WXNOTIFY_REQUEST_TIMEOUT_SECS", "2"),
        ("WXNOTIFY_DOUBT_WINDOW_SECS", "0.5"),
        ("WXNOTIFY_CALLBACK_TOKEN_wx1111222233334444", CALLBACK_TOKEN),
        ("WXNOTIFY_CALLBACK_AESKEY_wx1111222233334444", AESKEY),
    ];
    let mut worker =
        super::Program::spawn(environment(url.as_str(), &scene.fake.base_url(), &changed));
    scene.until_sends(15).await;
    scene.wechat.steal_token(APP);
    let late = scene
        .insert("oLate", json!({ "data": { "thing1": TEXT } }))
        .await;
    scene.until(late, "sent").await;
    eventually("every kind of answer was recorded", async || {
        let kinds = "select count(distinct notification_id) from notification_attempts";
        (scene.count(kinds).await >= 9).then_some(())
    })
    .await;
    // A database error is told, too.
    let terminate = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename like 'secretive%'";
    scene.count(terminate).await;
    let last = scene
        .insert("oLast", json!({ "data": { "thing1": TEXT } }))
        .await;
    scene.until(last, "sent").await;
    let metrics = reqwest::get(format!("http://{address}/metrics"))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    let ready = reqwest::get(format!("http://{address}/readyz"))
        .await
        .unwrap();
    let ready = ready.text().await.unwrap();
    // A push that is refused is told of, too.
    let push = format!(
        "http://{address}/wechat/callback/{APP}?signature=00&timestamp=1&nonce=n&openid=oMany1"
    );
    let refused = reqwest::Client::new().post(push).body("{}").send().await;
    assert_eq!(refused.unwrap().status(), 403);
    worker.signal(Signal::SIGTERM);
    worker.end().await;

    let log = worker.log();
    let texts: String = sqlx::query_scalar(TEXTS)
        .fetch_one(scene.pool())
        .await
        .unwrap();
    assert!(
        log.contains("DEBUG"),
        "the log shows more than a user asks for: {} bytes",
        log.len()
    );
    assert!(metrics.contains("wxnotify_"), "{metrics}");
    assert!(texts.contains("[openid]"), "the errmsg was kept: {texts}");
    assert!(
        !log.contains("permission denied"),
        "the role lacks a right: {log}"
    );
    let ledger = scene.ledger();
    let tokens = ledger.tokens.iter().map(|token| token.access_token.clone());
    let openids = ledger.pairs.iter().map(|pair| pair.openid.clone());
    let forbidden: Vec<String> = tokens
        .chain(openids)
        .chain([SECRET, PASSWORD, TEXT, CALLBACK_TOKEN, AESKEY].map(str::to_owned))
        .collect();
    assert!(ledger.tokens.len() >= 2 && forbidden.len() > 30);
    for secret in &forbidden {
        for (place, shown) in [
            ("the log", &log),
            ("/metrics", &metrics),
            ("/readyz", &ready),
            ("the database's texts", &texts),
        ] {
            let line = shown.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{secret} is shown in {place}");
        }
    }
    // Tokens have one table; secrets have none, whoever reads a backup.
    scene.as_worker("delete from wechat_access_tokens").await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')",
    )
    .fetch_all(scene.pool())
    .await
    .unwrap();
    let mut everything = String::new();
    for table in tables {
        let rows = format!("select coalesce(string_agg(t::text, ' '), '') from {table} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(rows))
            .fetch_one(scene.pool())
            .await
            .unwrap();
        everything.push_str(&rows);
    }
    assert!(everything.contains(TEXT), "it is a dump of all tables");
    let tokens = ledger
        .tokens
        .iter()
        .map(|token| token.access_token.as_str());
    for secret in tokens.chain([SECRET, PASSWORD, CALLBACK_TOKEN, AESKEY]) {
        assert!(!everything.contains(secret), "{secret} is stored");
    }
}

/// The errors of a worker that cannot start are read by many eyes.
#[tokio::test]
async fn a_worker_that_cannot_start_shows_no_secret_either() {
    let scene = Scene::new().await;
    let mut url = url::Url::parse(scene.database.url()).unwrap();
    url.set_username("nobody_of_that_name").unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    let changed = [("WXNOTIFY_LOG", "trace")];
    let mut worker =
        super::Program::spawn(environment(url.as_str(), &scene.fake.base_url(), &changed));
    assert!(!worker.end().await.success());
    let log = worker.log();
    assert!(log.contains("nobody_of_that_name"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
    assert!(!log.contains(SECRET), "{log}");
}
