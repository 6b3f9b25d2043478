//! Two servers in one `DATABASE_URL`, and servers that take no writes yet.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{User, geteuid};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use wxnotify::postgres::{Options, ThrowawayPostgres};
use wxnotify::simulate::{FakeWechat, SimulateOptions};
use wxnotify::worker::{RunError, RunOptions};

use super::{APP, Running, environment, insert};
use crate::harness::{eventually, free_address, in_time, make_schema, wxnotify};

/// A primary with our schema and a standby that follows it.
struct Pair {
    primary: ThrowawayPostgres,
    standby: ThrowawayPostgres,
    fake: FakeWechat,
    _folder: tempfile::TempDir,
}

impl Pair {
    async fn new() -> Self {
        // pg_basebackup logs in by itself.
        let primary = ThrowawayPostgres::start(Options {
            trust: true,
            ..Options::default()
        });
        let primary = primary.await.unwrap();
        let pool = PgPool::connect(primary.url()).await.unwrap();
        let mut connection = pool.acquire().await.unwrap().detach();
        make_schema(&mut connection).await;
        connection.close().await.unwrap();
        sqlx::query("insert into wechat_apps (appid) values ($1)")
            .bind(APP)
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        let folder = tempfile::tempdir().unwrap();
        let data = copy_of(&primary, folder.path()).await;
        let standby = ThrowawayPostgres::start(Options {
            data_dir: Some(data),
            trust: true,
            ..Options::default()
        });
        Self {
            standby: standby.await.unwrap(),
            primary,
            fake: FakeWechat::start(SimulateOptions::default()).await.unwrap(),
            _folder: folder,
        }
    }

    /// The standby first, so that order alone leads nowhere.
    fn url(&self) -> String {
        let (standby, primary) = (self.standby.port(), self.primary.port());
        format!(
            "postgres://postgres@127.0.0.1:{standby},127.0.0.1:{primary}/postgres?target_session_attrs=read-write"
        )
    }

    fn start(&self, database_url: &str, changed: &[(&str, &str)]) -> Running {
        let environment = environment(database_url, &self.fake.base_url(), changed);
        Running::start(environment, RunOptions::default())
    }

    async fn promote_the_standby(&self) {
        let mut standby = PgConnection::connect(self.standby.url()).await.unwrap();
        sqlx::query("select pg_promote()")
            .execute(&mut standby)
            .await
            .unwrap();
    }
}

/// A base backup that follows its origin, made as the server's user.
async fn copy_of(primary: &ThrowawayPostgres, folder: &std::path::Path) -> std::path::PathBuf {
    let data = folder.join("data");
    let mut copy = Command::new(primary.binaries().join("pg_basebackup"));
    copy.arg("-D")
        .arg(&data)
        .args(["-X", "stream", "-R", "-c", "fast", "--no-password"]);
    copy.args([
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-p",
        &primary.port().to_string(),
    ]);
    copy.current_dir("/");
    if geteuid().is_root() {
        let user = ["postgres", "nobody"].into_iter();
        let user = user
            .filter_map(|name| User::from_name(name).unwrap())
            .next()
            .unwrap();
        nix::unistd::chown(folder, Some(user.uid), Some(user.gid)).unwrap();
        copy.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let copied = tokio::task::spawn_blocking(move || copy.output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    data
}

async fn until_sent(url: &str, count: i64) {
    let pool = PgPool::connect(url).await.unwrap();
    eventually("the rows are sent", async || {
        let sent = "select count(*) from notification_history where status = 'sent'";
        let sent = sqlx::query_scalar::<_, i64>(sent).fetch_one(&pool);
        (sent.await.ok()? == count).then_some(())
    })
    .await;
    pool.close().await;
}

async fn insert_many(url: &str, prefix: &str, count: i32) {
    let pool = PgPool::connect(url).await.unwrap();
    for number in 0..count {
        insert(&pool, &format!("{prefix}{number}"), json!({})).await;
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hosts_the_one_that_can_be_written_to_is_found_again_after_a_failover() {
    let mut pair = Pair::new().await;
    let url = pair.url();
    let _worker = pair.start(&url, &[]);
    insert_many(pair.primary.url(), "oBefore", 10).await;
    until_sent(pair.primary.url(), 10).await;
    until_sent(pair.standby.url(), 10).await;

    pair.primary.kill().await.unwrap();
    pair.promote_the_standby().await;
    insert_many(pair.standby.url(), "oAfter", 10).await;
    until_sent(pair.standby.url(), 20).await;
    assert_eq!(pair.fake.control().counts().sends_accepted, 20);

    // Commands find it, too.
    let status = wxnotify()
        .args(["status", "--json"])
        .env("DATABASE_URL", &url)
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_a_standby_to_be_promoted_and_says_so() {
    let mut pair = Pair::new().await;
    insert_many(pair.primary.url(), "oUser", 3).await;
    eventually("the standby has the rows", async || {
        let mut standby = PgConnection::connect(pair.standby.url()).await.ok()?;
        let rows: i64 = sqlx::query_scalar("select count(*) from pending_notifications")
            .fetch_one(&mut standby)
            .await
            .ok()?;
        (rows == 3).then_some(())
    })
    .await;
    pair.primary.kill().await.unwrap();
    let address = free_address().to_string();
    let worker = pair.start(pair.standby.url(), &[("WXNOTIFY_LISTEN", &address)]);
    eventually("it says what it waits for", async || {
        let ready = reqwest::get(format!("http://{address}/readyz"))
            .await
            .ok()?;
        let (status, said) = (ready.status().as_u16(), ready.text().await.ok()?);
        (status == 503 && said.contains("the server is a standby")).then_some(())
    })
    .await;

    pair.promote_the_standby().await;
    until_sent(pair.standby.url(), 3).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_waiting_a_standby_and_an_absent_server_end_the_run_with_69() {
    let pair = Pair::new().await;
    let absent = free_address().to_string();
    for (url, said) in [
        (pair.standby.url().to_owned(), "the server is a standby"),
        (format!("postgres://u@{absent}/x"), "refused"),
    ] {
        let mut run = wxnotify();
        run.args(["run", "--no-wait"])
            .envs(environment(&url, &pair.fake.base_url(), &[]));
        let ended = tokio::task::spawn_blocking(move || run.output());
        let ended = in_time("it ends", ended).await.unwrap().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(69), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_set_to_read_only_is_waited_for_and_named() {
    let scene = super::Scene::new().await;
    let id = scene.insert("oUser", json!({})).await;
    // A session from before keeps its own default.
    let mut administrator = scene.database.connect().await;
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&mut administrator)
        .await
        .unwrap();
    let mut set = async |value: &str| {
        let set = format!("alter database {name} set default_transaction_read_only = {value}");
        let set = sqlx::raw_sql(AssertSqlSafe(set));
        set.execute(&mut administrator).await.unwrap();
    };
    set("on").await;
    let no_wait = RunOptions {
        no_wait: true,
        ..RunOptions::default()
    };
    let refused = Running::start(scene.environment(&[]), no_wait);
    let refused = in_time("it ends", refused.until_ended()).await;
    assert!(
        matches!(refused, Err(RunError::ReadOnly(reason)) if reason.contains("default_transaction_read_only"))
    );

    let mut worker = scene.spawn(&[]);
    worker
        .until_logged("default_transaction_read_only is on")
        .await;
    set("off").await;
    scene.until(id, "sent").await;
    worker.kill().await;
}
