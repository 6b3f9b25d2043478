//! The worker from end to end: rows in a real Postgres, sends to the fake WeChat, a file per subject.
//!
//! A [`Scene`] is a database with one registered mini-program and a fake WeChat. [`Scene::start`] runs the worker in this
//! process; [`Scene::spawn`] runs the built program, for what only a process can suffer. Tests wait on the fake's calls or
//! poll a row; what would take long is aged in the database.

pub mod concurrency;
mod connections;
mod crashing;
mod database;
mod doubt;
mod failover;
mod kinds;
mod logins;
mod obstacles;
mod odd_rows;
mod outages;
mod pooler;
mod proxy;
mod refusals;
mod secrets;
mod sending;
mod stopping;

use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, FromRow, PgPool};
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wxnotify::config::{Settings, Sources};
use wxnotify::simulate::{Control, FakeWechat, Ledger, SimulateOptions};
use wxnotify::worker::{self, RunEnd, RunError, RunOptions};

use crate::harness::{TestDatabase, eventually, in_time, insert_row, wxnotify};

/// The mini-program that every scene has.
pub const APP: &str = "wx1111222233334444";
/// The secret of every mini-program here.
pub const SECRET: &str = "appsecret-never-to-be-shown";
/// The template of rows that name none.
pub const TEMPLATE: &str = "template-one";

/// A queue and a WeChat.
pub struct Scene {
    pub database: TestDatabase,
    pub fake: FakeWechat,
    pub wechat: Control,
}

/// What operators see of one row.
#[derive(Debug, FromRow)]
pub struct Seen {
    pub status: String,
    pub reason: Option<String>,
    pub attempts: i16,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    pub msgid: Option<i64>,
    pub doubted: bool,
    pub may_be_doubled: Option<bool>,
    pub credit: Option<String>,
    pub settled_by: Option<String>,
    pub worker: Option<String>,
}

impl Scene {
    /// Everybody has endless credits.
    pub async fn new() -> Self {
        Self::with(SimulateOptions::default()).await
    }

    /// Nobody has a credit until one is granted.
    pub async fn without_credits() -> Self {
        Self::with(SimulateOptions {
            credits_default: Some(0),
            ..SimulateOptions::default()
        })
        .await
    }

    async fn with(options: SimulateOptions) -> Self {
        let fake = FakeWechat::start(options).await.unwrap();
        let scene = Self {
            database: TestDatabase::new().await,
            wechat: fake.control(),
            fake,
        };
        scene.register(APP).await;
        scene
    }

    pub fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    pub async fn register(&self, appid: &str) {
        let registration = sqlx::query("insert into wechat_apps (appid) values ($1)").bind(appid);
        registration.execute(self.pool()).await.unwrap();
    }

    /// Settings with short spans; `changed` wins over them.
    fn environment(&self, changed: &[(&str, &str)]) -> Vec<(String, String)> {
        environment(self.database.url(), &self.fake.base_url(), changed)
    }

    /// Runs the worker in this process.
    pub fn start(&self, changed: &[(&str, &str)]) -> Running {
        Running::start(self.environment(changed), RunOptions::default())
    }

    /// Runs the worker in this process until nothing is due.
    pub async fn run_until_empty(&self, changed: &[(&str, &str)]) -> RunEnd {
        let options = RunOptions {
            until_empty: true,
            ..RunOptions::default()
        };
        let mut running = Running::start(self.environment(changed), options);
        in_time("nothing is due any more", &mut running.ended)
            .await
            .unwrap()
            .unwrap()
    }

    /// Runs the built program.
    pub fn spawn(&self, changed: &[(&str, &str)]) -> Program {
        Program::spawn(self.environment(changed))
    }

    /// As [`Self::spawn`], by a shell whose script gets the program as `$0`.
    pub fn spawn_by_shell(&self, script: &str, changed: &[(&str, &str)]) -> Program {
        let program = wxnotify();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).arg(program.get_program());
        Program::spawn_as(command, self.environment(changed))
    }

    /// Inserts a row for `openid` as a producer does, with other columns as `columns` say.
    pub async fn insert(&self, openid: &str, columns: Value) -> i64 {
        insert(self.pool(), openid, columns).await
    }

    /// Inserts `count` rows, each for a user of its own: `prefix` and a number from 0.
    pub async fn insert_many(&self, prefix: &str, count: i32, columns: Value) -> Vec<i64> {
        let mut ids = Vec::new();
        let mut producer = self.pool().begin().await.unwrap();
        for number in 0..count {
            ids.push(
                insert(
                    &mut *producer,
                    &format!("{prefix}{number}"),
                    columns.clone(),
                )
                .await,
            );
        }
        producer.commit().await.unwrap();
        ids
    }

    /// What operators see of a row.
    pub async fn seen(&self, id: i64) -> Seen {
        seen(self.pool(), id).await
    }

    pub async fn status(&self, id: i64) -> String {
        self.seen(id).await.status
    }

    /// Waits until the row has this status.
    pub async fn until(&self, id: i64, status: &str) -> Seen {
        let mut last = None;
        let found = eventually_status(self.pool(), id, status, &mut last);
        let found = tokio::time::timeout(crate::harness::PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("row {id} is not {status} in time, but {last:?}"))
    }

    /// Waits until every one of these rows has this status.
    pub async fn until_all(&self, ids: &[i64], status: &str) {
        eventually(&format!("all rows are {status}"), async || {
            (self.count_with_status(ids, status).await == ids.len()).then_some(())
        })
        .await;
    }

    pub async fn count_with_status(&self, ids: &[i64], status: &str) -> usize {
        let count: i64 = sqlx::query_scalar(
            "select count(*) from notifications where id = any ($1) and status = $2",
        )
        .bind(ids)
        .bind(status)
        .fetch_one(self.pool())
        .await
        .unwrap();
        usize::try_from(count).unwrap()
    }

    /// Waits until `sends` sends have arrived at the fake.
    pub async fn until_sends(&self, sends: u64) {
        let what = format!("{sends} sends arrive");
        in_time(&what, self.wechat.wait_for_calls(sends)).await;
    }

    pub fn ledger(&self) -> Ledger {
        self.wechat.ledger()
    }

    pub fn sends(&self) -> u64 {
        self.wechat.counts().sends_arrived
    }

    pub fn sends_to(&self, openid: &str) -> usize {
        self.ledger().sends_to(openid).count()
    }

    /// How many messages to this user were accepted.
    pub fn accepted_for(&self, openid: &str) -> usize {
        let ledger = self.ledger();
        ledger.sends_to(openid).filter(|call| call.accepted).count()
    }

    /// Runs statements as the worker itself would, past the guard against producers.
    pub async fn as_worker(&self, statements: &str) {
        let mut transaction = self.pool().begin().await.unwrap();
        let statements = format!("set local gin_fuzzy_search_limit = 20784; {statements}");
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }

    /// Makes every row that waits for its time due now, as if the time had passed.
    pub async fn hasten(&self) {
        self.as_worker(
            "update pending_notifications set due = clock_timestamp()
             where due between clock_timestamp() and 'infinity' and not held and in_doubt_since is null;
             select wxnotify_ring()",
        )
        .await;
    }

    /// Makes pauses of mini-programs lapse now.
    pub async fn lapse_pauses(&self) {
        self.as_worker(
            "update wechat_apps set paused_until = clock_timestamp() where paused_until is not null",
        )
        .await;
        self.hasten().await;
    }

    /// Makes every lease lapse now.
    pub async fn lapse_leases(&self) {
        self.as_worker("update notification_leases set expires_at = clock_timestamp()")
            .await;
    }

    /// Waits for the last statements of a worker that was killed: they may still be under way when it is dead.
    pub async fn until_its_sessions_end(&self) {
        eventually("the dead worker's sessions have ended", async || {
            let sessions = "select count(*) from pg_stat_activity
                            where datname = current_database() and application_name like 'wxnotify%'";
            (self.count(sessions).await == 0).then_some(())
        })
        .await;
    }

    /// Rows of started leases that no settle has recorded.
    pub async fn rows_under_way(&self) -> Vec<i64> {
        sqlx::query_scalar("select id from notifications_in_flight")
            .fetch_all(self.pool())
            .await
            .unwrap()
    }

    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
            .fetch_one(self.pool())
            .await
            .unwrap()
    }

    /// Waits until no lease is left.
    pub async fn until_no_lease(&self) {
        eventually("no lease is left", async || {
            (self.count("select count(*) from notification_leases").await == 0).then_some(())
        })
        .await;
    }

    /// Waits until the mini-program is paused; the reason.
    pub async fn until_paused(&self, appid: &str) -> String {
        eventually("the mini-program is paused", async || {
            sqlx::query_scalar::<_, String>(
                "select pause_reason from wechat_apps where appid = $1 and paused_until > clock_timestamp()",
            )
            .bind(appid)
            .fetch_optional(self.pool())
            .await
            .unwrap()
        })
        .await
    }
}

/// A worker's settings for tests.
pub fn environment(
    database_url: &str,
    api_base: &str,
    changed: &[(&str, &str)],
) -> Vec<(String, String)> {
    let usual = [
        ("DATABASE_URL", database_url),
        ("WXNOTIFY_API_BASE", api_base),
        ("WXNOTIFY_APPSECRET_wx1111222233334444", SECRET),
        ("WXNOTIFY_WORKER", "tester"),
        ("WXNOTIFY_LISTEN", ""),
        ("WXNOTIFY_CONCURRENCY", "8"),
        ("WXNOTIFY_CONNECT_TIMEOUT_SECS", "2"),
        ("WXNOTIFY_REQUEST_TIMEOUT_SECS", "20"),
        ("WXNOTIFY_LEASE_SECS", "26"),
        ("WXNOTIFY_POLL_SECS", "0.2"),
        ("WXNOTIFY_BACKOFF_BASE_SECS", "0.05"),
        ("WXNOTIFY_BACKOFF_CAP_SECS", "0.2"),
        ("WXNOTIFY_DOUBT_WINDOW_SECS", "600"),
        ("WXNOTIFY_DRAIN_SECS", "20"),
    ];
    let kept = usual
        .iter()
        .filter(|(name, _)| changed.iter().all(|(other, _)| other != name));
    kept.chain(changed)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Settings under which a lost reply is noticed soon and its row sent again soon.
pub const HASTY: [(&str, &str); 3] = [
    ("WXNOTIFY_REQUEST_TIMEOUT_SECS", "1"),
    ("WXNOTIFY_CONNECT_TIMEOUT_SECS", "0.5"),
    ("WXNOTIFY_DOUBT_WINDOW_SECS", "0.3"),
];

/// Inserts a row as a producer does.
pub async fn insert(executor: impl sqlx::PgExecutor<'_>, openid: &str, columns: Value) -> i64 {
    let mut row = Map::new();
    row.insert("appid".into(), APP.into());
    row.insert("openid".into(), openid.into());
    row.insert("template_id".into(), TEMPLATE.into());
    row.insert("data".into(), json!({"thing1": "杯"}));
    row.extend(columns.as_object().unwrap().clone());
    insert_row(executor, &Value::Object(row)).await.unwrap()
}

pub async fn seen(pool: &PgPool, id: i64) -> Seen {
    sqlx::query_as(
        "select status, reason, attempts, errcode, errmsg, msgid, in_doubt_since is not null as doubted,
                may_be_doubled, credit, settled_by, worker
         from notifications where id = $1",
    )
    .bind(id)
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn eventually_status(pool: &PgPool, id: i64, status: &str, last: &mut Option<Seen>) -> Seen {
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(10));
    loop {
        pace.tick().await;
        let row = seen(pool, id).await;
        if row.status == status {
            return row;
        }
        *last = Some(row);
    }
}

/// A worker in this process; dropping it tells it to stop.
pub struct Running {
    stop: CancellationToken,
    ended: JoinHandle<Result<RunEnd, RunError>>,
}

impl Running {
    pub fn start(environment: Vec<(String, String)>, options: RunOptions) -> Self {
        let sources = environment
            .iter()
            .fold(Sources::default(), |sources, (name, value)| {
                sources.with(name, value)
            });
        let settings = Settings::load(&sources).unwrap();
        let stop = CancellationToken::new();
        let token = stop.clone();
        let ended = tokio::spawn(async move { worker::run(&settings, options, token).await });
        Self { stop, ended }
    }

    /// Waits for its end, without stopping it.
    pub async fn until_ended(mut self) -> Result<RunEnd, RunError> {
        (&mut self.ended).await.unwrap()
    }

    /// Stops it gracefully.
    pub async fn stop(mut self) -> RunEnd {
        self.stop.cancel();
        in_time("the worker stops", &mut self.ended)
            .await
            .unwrap()
            .unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The built program as a process of its own; dropping it kills it.
pub struct Program {
    process: tokio::process::Child,
    log: NamedTempFile,
}

impl Program {
    pub fn spawn(environment: Vec<(String, String)>) -> Self {
        let mut command = wxnotify();
        command.arg("run");
        Self::spawn_as(command, environment)
    }

    fn spawn_as(mut command: std::process::Command, environment: Vec<(String, String)>) -> Self {
        let log = NamedTempFile::new().unwrap();
        command
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(log.as_file().try_clone().unwrap())
            .stderr(log.as_file().try_clone().unwrap());
        let process = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process, log }
    }

    /// Whether a SIGTERM would be caught: before that it ends the process without a word.
    pub fn is_listening_to_signals(&self) -> bool {
        let pid = self.process.id().expect("it was not waited for yet");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & (1 << (Signal::SIGTERM as i32 - 1)) != 0)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.process.id().expect("it was not waited for yet");
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
    }

    pub async fn end(&mut self) -> ExitStatus {
        in_time("the program ends", self.process.wait())
            .await
            .unwrap()
    }

    /// Ends it without any warning.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.end().await;
    }

    /// Everything it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Waits until it has logged this.
    pub async fn until_logged(&self, text: &str) {
        eventually(&format!("it logs {text:?}"), async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("The program's last words:");
            for line in &lines[lines.len().saturating_sub(20)..] {
                eprintln!("{}", line.chars().take(400).collect::<String>());
            }
        }
    }
}
