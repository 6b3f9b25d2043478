//! Where faults are played: a Postgres and a fake WeChat of the scenario's own, workers as processes, producers, and the
//! way between them, which can be cut.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::Child;
use tokio::task::JoinHandle;
use wxnotify::postgres::{Options, ThrowawayPostgres};
use wxnotify::schema;
use wxnotify::simulate::{Control, FakeWechat, SimulateOptions};

use crate::checker::{self, History, JOURNAL, Rules, Told};
use crate::proxy::Proxy;

/// Users of this mini-program have endless credits, and several rows each.
pub const ENDLESS: &str = "wx1111222233334444";
/// Each user of this one has a single row and a single credit.
pub const METERED: &str = "wx5555666677778888";
pub const APPS: [&str; 2] = [ENDLESS, METERED];
const SECRET: &str = "appsecret-never-to-be-shown";

/// Short spans: a lease must outlast the request time-out by five seconds.
pub const LEASE: Duration = Duration::from_millis(6_200);
pub const DOUBT_WINDOW: Duration = Duration::from_millis(1_000);
const USUAL: [(&str, &str); 12] = [
    ("WXNOTIFY_LISTEN", ""),
    ("WXNOTIFY_CONCURRENCY", "8"),
    ("WXNOTIFY_CONNECT_TIMEOUT_SECS", "0.5"),
    ("WXNOTIFY_REQUEST_TIMEOUT_SECS", "1"),
    ("WXNOTIFY_LEASE_SECS", "6.2"),
    ("WXNOTIFY_POLL_SECS", "0.2"),
    ("WXNOTIFY_BACKOFF_BASE_SECS", "0.05"),
    ("WXNOTIFY_BACKOFF_CAP_SECS", "0.3"),
    ("WXNOTIFY_DOUBT_WINDOW_SECS", "1"),
    ("WXNOTIFY_STATEMENT_TIMEOUT_SECS", "4"),
    ("WXNOTIFY_LOG", "info,sqlx=error"),
    ("WXNOTIFY_LOG_FORMAT", "json"),
];
/// Each call to the fake takes so long: what is measured is then waiting, not the machine.
const LATENCY: Duration = Duration::from_millis(10);
/// Producers stay this far ahead of the workers.
const BACKLOG: i64 = 300;
/// Rows of one INSERT.
const BATCH: u64 = 25;

/// How a stage is set up.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub workers: usize,
    /// Settings of the workers beside the usual ones.
    pub settings: Vec<(&'static str, String)>,
    /// Settings of the server.
    pub server: Vec<(&'static str, &'static str)>,
    pub server_environment: Vec<(String, String)>,
    /// Where the server keeps its data, if not in a folder of its own.
    pub data_dir: Option<PathBuf>,
    pub rules: Rules,
    /// How many rows, if not as many as every scenario.
    pub rows: Option<u64>,
    /// How long the rest may take to end after the last fault.
    pub patience: Duration,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            workers: 2,
            settings: Vec::new(),
            server: Vec::new(),
            server_environment: Vec::new(),
            data_dir: None,
            rules: Rules {
                one_clock: true,
                doubts: true,
                doubt_window: DOUBT_WINDOW,
            },
            rows: None,
            patience: Duration::from_secs(90),
        }
    }

    pub fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    pub fn rows(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }

    /// A scenario that loses no reply, no worker and no database has no reason for a doubt.
    pub fn without_doubts(mut self) -> Self {
        self.rules.doubts = false;
        self
    }
}

/// A Postgres, a fake WeChat, and everything between.
pub struct Stage {
    pub plan: Plan,
    pub dice: StdRng,
    pub postgres: ThrowawayPostgres,
    /// The address of another server that is played on instead.
    elsewhere: Option<String>,
    _fake: FakeWechat,
    pub wechat: Control,
    /// The workers' way to the database.
    pub database: Proxy,
    /// The workers' ways to WeChat, one each.
    pub ways: Vec<Proxy>,
    pub workers: Vec<Option<Worker>>,
    pub load: Arc<Load>,
    logs: tempfile::TempDir,
    generation: u32,
    finished: bool,
}

/// A running `wxnotify run`.
pub struct Worker {
    process: Child,
}

impl Worker {
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.process.id() {
            let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id().expect("it is running")
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(Some(_)))
    }

    /// Waits until it is stopped by SIGSTOP.
    pub async fn until_stopped(&mut self) {
        let pid = self.pid();
        let state = until("the worker stops", async || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next());
            state.filter(|state| "TZ".contains(*state))
        })
        .await;
        assert_eq!(state, 'T', "it ended instead of stopping");
    }
}

/// What producers did, and what they were promised.
pub struct Load {
    pub told: Mutex<HashMap<String, Told>>,
    next: AtomicU64,
    running: AtomicBool,
    wechat: Control,
}

/// What kind of rows to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Every kind: shared users, lanes, expiry, holds, keys, single credits.
    Everything,
    /// One row a user, nothing special: to measure with.
    Plain,
}

/// One row to insert.
struct NewRow {
    nonce: String,
    appid: &'static str,
    openid: String,
    template: &'static str,
    lane: i16,
    on_doubt: &'static str,
    key: Option<String>,
    expires_in: Option<f64>,
}

impl Load {
    fn told(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.told.lock().unwrap()
    }

    fn make(&self, mix: Mix, dice: &mut StdRng) -> NewRow {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let nonce = format!("n{number}");
        let template = if dice.random_bool(0.5) {
            "t-one"
        } else {
            "t-two"
        };
        let plain = mix == Mix::Plain;
        let metered = dice.random_bool(0.4);
        let (appid, openid) = if metered {
            (METERED, format!("oSingle{number}"))
        } else if plain {
            (ENDLESS, format!("oPlain{number}"))
        } else {
            let user = number / 60 * 20 + dice.random_range(0..20);
            (ENDLESS, format!("oUser{user}"))
        };
        if metered {
            self.wechat.grant(appid, &openid, template, 1);
        }
        NewRow {
            nonce,
            appid,
            openid,
            template,
            lane: if plain { 1 } else { dice.random_range(0..3) },
            on_doubt: if !plain && dice.random_bool(0.2) {
                "hold"
            } else {
                "retry"
            },
            key: (!plain && dice.random_bool(0.03))
                .then(|| format!("key-{}", dice.random_range(0..number / 50 + 1))),
            expires_in: (!plain && dice.random_bool(0.08)).then(|| dice.random_range(0.3..20.0)),
        }
    }

    /// Inserts rows for certain: after an answer that was lost it learns whether they are there before it inserts them again.
    async fn insert(&self, session: &mut Session, rows: Vec<NewRow>) {
        let first = rows[0].nonce.clone();
        let mut is_open = false;
        loop {
            let found = if is_open {
                session.exists(&first).await
            } else {
                Ok(false)
            };
            is_open = true;
            let inserted = match found {
                Ok(false) => match session.connection().await {
                    Ok(connection) => insert(connection, &rows).await.is_ok(),
                    Err(_) => false,
                },
                Ok(true) => true,
                Err(_) => false,
            };
            if inserted {
                break;
            }
            session.broken();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut told = self.told();
        for row in rows {
            told.insert(
                row.nonce,
                Told {
                    cancelled: Some(false),
                },
            );
        }
    }
}

async fn insert(connection: &mut PgConnection, rows: &[NewRow]) -> sqlx::Result<()> {
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "insert into pending_notifications (business_ref, data, appid, openid, template_id, lane, on_doubt, dedup_key, expire_at, attempts_max)
         select nonce, jsonb_build_object('thing1', nonce), appid, openid, template_id, lane, on_doubt, dedup_key,
                now() + make_interval(secs => expires_in), 100
         from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::text[], $7::text[], $8::float8[])
              u (nonce, appid, openid, template_id, lane, on_doubt, dedup_key, expires_in)",
    )
    .bind(column!(row => row.nonce.clone()))
    .bind(column!(row => row.appid))
    .bind(column!(row => row.openid.clone()))
    .bind(column!(row => row.template))
    .bind(column!(row => row.lane))
    .bind(column!(row => row.on_doubt))
    .bind(column!(row => row.key.clone()))
    .bind(column!(row => row.expires_in))
    .execute(connection)
    .await?;
    Ok(())
}

/// A producer's connection, made again when it breaks. It goes to the server whatever happens to the workers' way.
struct Session {
    address: Arc<Mutex<String>>,
    connection: Option<PgConnection>,
}

impl Session {
    async fn connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        if self.connection.is_none() {
            let url = self.address.lock().unwrap().clone();
            self.connection = Some(PgConnection::connect(&url).await?);
        }
        Ok(self.connection.as_mut().unwrap())
    }

    fn broken(&mut self) {
        self.connection = None;
    }

    async fn exists(&mut self, nonce: &str) -> sqlx::Result<bool> {
        let connection = self.connection().await?;
        sqlx::query_scalar(
            "select exists (select from pending_notifications where business_ref = $1)
                 or exists (select from notification_history where business_ref = $1)",
        )
        .bind(nonce)
        .fetch_one(connection)
        .await
    }

    async fn backlog(&mut self) -> sqlx::Result<i64> {
        let connection = self.connection().await?;
        sqlx::query_scalar(
            "select count(*) from (select from pending_notifications where in_doubt_since is null limit 1000) p",
        )
        .fetch_one(connection)
        .await
    }

    /// Cancels a row that was inserted lately, slowly: what was committed, or that it is not known.
    async fn cancel(&mut self, nonce: &str) -> sqlx::Result<bool> {
        let connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        let deleted = sqlx::query("delete from pending_notifications where business_ref = $1")
            .bind(nonce)
            .execute(&mut *transaction)
            .await?;
        tokio::time::sleep(Duration::from_millis(30)).await;
        transaction.commit().await?;
        Ok(deleted.rows_affected() == 1)
    }
}

/// Asks again and again until `found` answers something; fails after two minutes.
pub async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(answer) = found().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes everything in an empty database that scenarios need.
async fn prepare(url: &str) {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect(url)
        .await
        .unwrap();
    let mut connection = pool.acquire().await.unwrap().detach();
    schema::apply(&mut connection, &schema::OF_THIS_PROGRAM)
        .await
        .unwrap();
    connection.close().await.unwrap();
    sqlx::raw_sql(JOURNAL).execute(&pool).await.unwrap();
    for appid in APPS {
        sqlx::query("insert into wechat_apps (appid) values ($1)")
            .bind(appid)
            .execute(&pool)
            .await
            .unwrap();
    }
    pool.close().await;
}

impl Stage {
    pub async fn new(plan: Plan) -> Self {
        let mut settings = vec![("max_connections".to_owned(), "120".to_owned())];
        settings.extend(
            plan.server
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let options = Options {
            extra_settings: settings,
            data_dir: plan.data_dir.clone(),
            environment: plan.server_environment.clone(),
            trust: true,
            ..Options::default()
        };
        let postgres = ThrowawayPostgres::start(options).await.unwrap();
        Self::on(plan, postgres).await
    }

    pub async fn on(plan: Plan, postgres: ThrowawayPostgres) -> Self {
        prepare(postgres.url()).await;
        let fake = FakeWechat::start(SimulateOptions {
            seed: Some(plan.seed),
            ..SimulateOptions::default()
        })
        .await
        .unwrap();
        let wechat = fake.control();
        wechat.set_latency(LATENCY);
        let server = SocketAddr::from(([127, 0, 0, 1], postgres.port()));
        let database = Proxy::start("127.0.0.1:0", server).await;
        let mut ways = Vec::new();
        for worker in 0..plan.workers.max(8) {
            ways.push(Proxy::start(&format!("127.0.1.{}:0", worker + 1), fake.address()).await);
        }
        let load = Arc::new(Load {
            told: Mutex::default(),
            next: AtomicU64::new(0),
            running: AtomicBool::new(false),
            wechat: wechat.clone(),
        });
        Self {
            dice: StdRng::seed_from_u64(plan.seed),
            workers: (0..plan.workers).map(|_| None).collect(),
            plan,
            postgres,
            elsewhere: None,
            _fake: fake,
            wechat,
            database,
            ways,
            load,
            logs: tempfile::tempdir().unwrap(),
            generation: 0,
            finished: false,
        }
    }

    /// Starts worker `number` with further settings; it replaces the one before.
    pub fn spawn_with(&mut self, number: usize, settings: &[(&str, &str)]) {
        self.generation += 1;
        let log = self
            .logs
            .path()
            .join(format!("w{}-{}.log", number + 1, self.generation));
        let log = std::fs::File::create(log).unwrap();
        let program = std::env::var_os("WXNOTIFY_CHAOS_PROGRAM");
        let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_wxnotify").into());
        let mut command = std::process::Command::new(program);
        for (name, _) in std::env::vars() {
            if name.starts_with("WXNOTIFY_") || name == "DATABASE_URL" {
                command.env_remove(name);
            }
        }
        let database = format!(
            "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
            self.database.address().port()
        );
        command
            .arg("run")
            .envs(USUAL)
            .env("DATABASE_URL", database)
            .env("WXNOTIFY_WORKER", format!("w{}", number + 1))
            .env(
                "WXNOTIFY_API_BASE",
                format!("http://{}", self.ways[number].address()),
            )
            .envs(APPS.map(|appid| (format!("WXNOTIFY_APPSECRET_{appid}"), SECRET)))
            .envs(
                self.plan
                    .settings
                    .iter()
                    .map(|(name, value)| (*name, value)),
            )
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let process = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.workers[number] = Some(Worker { process });
    }

    pub fn spawn(&mut self, number: usize) {
        self.spawn_with(number, &[]);
    }

    pub fn spawn_all(&mut self) {
        for number in 0..self.workers.len() {
            self.spawn(number);
        }
    }

    /// Ends a worker as `kill -9` does and reaps it.
    pub async fn kill(&mut self, number: usize) {
        if let Some(mut worker) = self.workers[number].take() {
            worker.signal(Signal::SIGKILL);
            let _ = worker.process.wait().await;
        }
    }

    /// Starts again whoever has ended, as a supervisor would.
    pub fn revive(&mut self) {
        for number in 0..self.workers.len() {
            if self.workers[number].as_mut().is_none_or(Worker::has_ended) {
                self.spawn(number);
            }
        }
    }

    pub fn worker(&mut self, number: usize) -> &mut Worker {
        self.workers[number].as_mut().expect("it is running")
    }

    pub fn one_of_the_workers(&mut self) -> usize {
        self.dice.random_range(0..self.workers.len())
    }

    /// Everything the workers said.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        let mut files: Vec<_> = std::fs::read_dir(self.logs.path())
            .unwrap()
            .flatten()
            .map(|file| file.path())
            .collect();
        files.sort();
        for file in files {
            logs.push_str(&std::fs::read_to_string(file).unwrap_or_default());
        }
        logs
    }

    /// A connection of the scenario's own.
    pub async fn connect(&self) -> PgConnection {
        until("the database answers", async || {
            PgConnection::connect(&self.url()).await.ok()
        })
        .await
    }

    /// The server's own address, past the workers' proxy.
    pub fn url(&self) -> String {
        let own = || self.postgres.url().to_owned();
        self.elsewhere.clone().unwrap_or_else(own)
    }

    /// From now on producers, workers and everybody else use the server at `url`, which is empty.
    pub async fn move_to(&mut self, url: String) {
        // A proxy that takes turns may not have found out yet which of its servers only reads.
        until("the other server takes writes", async || {
            for _ in 0..4 {
                let mut connection = PgConnection::connect(&url).await.ok()?;
                let only_reads = sqlx::query_scalar("select pg_is_in_recovery()");
                let only_reads: bool = only_reads.fetch_one(&mut connection).await.ok()?;
                if only_reads {
                    return None;
                }
            }
            Some(())
        })
        .await;
        prepare(&url).await;
        self.plan.settings.push(("DATABASE_URL", url.clone()));
        self.elsewhere = Some(url);
    }

    pub async fn sql(&self, statements: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
        let _ = connection.close().await;
    }

    pub async fn count(&self, query: &str) -> i64 {
        until("a count", async || {
            let mut connection = PgConnection::connect(&self.url()).await.ok()?;
            let count = sqlx::query_scalar(AssertSqlSafe(query.to_owned()))
                .fetch_one(&mut connection)
                .await
                .ok();
            let _ = connection.close().await;
            count
        })
        .await
    }

    /// Inserts `rows` rows now.
    pub async fn insert(&mut self, rows: u64, mix: Mix) {
        let mut session = self.session(self.url());
        let mut left = rows;
        while left > 0 {
            let count = left.min(BATCH * 10);
            let batch = (0..count)
                .map(|_| self.load.make(mix, &mut self.dice))
                .collect();
            self.load.insert(&mut session, batch).await;
            left -= count;
        }
    }

    fn session(&self, url: String) -> Session {
        Session {
            address: Arc::new(Mutex::new(url)),
            connection: None,
        }
    }

    /// Producers that insert, a bounded way ahead of the workers, until told to stop and `rows` are in; and one who
    /// cancels. `address` may change under them.
    pub fn produce(&mut self, rows: u64, address: Arc<Mutex<String>>) -> Producing {
        self.load.running.store(true, Ordering::SeqCst);
        let first = self.load.next.load(Ordering::SeqCst);
        let (load, mut dice) = (self.load.clone(), StdRng::seed_from_u64(self.dice.random()));
        let mut session = Session {
            address: address.clone(),
            connection: None,
        };
        let inserts = tokio::spawn(async move {
            let made = |load: &Load| load.next.load(Ordering::SeqCst) - first;
            while load.running.load(Ordering::SeqCst) || made(&load) < rows {
                let backlog = session.backlog().await;
                if backlog.is_err() {
                    session.broken();
                }
                if backlog.is_ok_and(|backlog| backlog < BACKLOG) {
                    let batch = (0..BATCH).map(|_| load.make(Mix::Everything, &mut dice));
                    let batch = batch.collect();
                    load.insert(&mut session, batch).await;
                } else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        let (load, mut dice) = (self.load.clone(), StdRng::seed_from_u64(self.dice.random()));
        let mut session = Session {
            address,
            connection: None,
        };
        let cancels = tokio::spawn(async move {
            while load.running.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(40)).await;
                let newest = load.next.load(Ordering::SeqCst);
                let nonce = format!("n{}", newest.saturating_sub(dice.random_range(1..200)));
                if load
                    .told()
                    .get(&nonce)
                    .is_none_or(|told| told.cancelled != Some(false))
                {
                    continue;
                }
                let cancelled =
                    tokio::time::timeout(Duration::from_secs(3), session.cancel(&nonce));
                let cancelled = cancelled.await.ok().and_then(Result::ok);
                if cancelled.is_none() {
                    session.broken();
                }
                if let Some(told) = load.told().get_mut(&nonce) {
                    told.cancelled = cancelled;
                }
            }
        });
        Producing {
            load: self.load.clone(),
            first,
            rows,
            tasks: vec![inserts, cancels],
        }
    }

    /// How long it takes from now until another message is accepted.
    pub async fn until_sends_flow(&self) -> Duration {
        let began = Instant::now();
        let accepted = self.wechat.counts().sends_accepted;
        self.until_attended("sends flow again", || {
            self.wechat.counts().sends_accepted > accepted
        })
        .await;
        began.elapsed()
    }

    pub async fn until_sends(&self, sends: u64) {
        let seen = self.wechat.counts().sends_arrived;
        self.until_attended("more sends arrive", || {
            self.wechat.counts().sends_arrived >= seen + sends
        })
        .await;
    }

    /// Waits until `reached`. An operator looks in each second: a worker may store a pause long after its cause has gone.
    async fn until_attended(&self, what: &str, reached: impl Fn() -> bool) {
        let mut attended = Instant::now();
        until(what, async || {
            if !reached() && attended.elapsed() > Duration::from_secs(1) {
                self.resolve().await;
                attended = Instant::now();
            }
            reached().then_some(())
        })
        .await;
    }

    /// Waits until nothing is pending and no lease is left. Meanwhile an operator resumes what is paused and ends doubts on hold
    /// by what the users' phones show. Returns what is left after `patience`.
    pub async fn drain(&mut self, patience: Duration) -> i64 {
        const LEFT: &str = "select (select count(*) from pending_notifications) + (select count(*) from notification_leases)";
        let deadline = Instant::now() + patience;
        loop {
            self.revive();
            let left = self.count(LEFT).await;
            if left == 0 || Instant::now() > deadline {
                return left;
            }
            self.resolve().await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }

    /// What an operator does now and then: resumes what is paused, and ends doubts on hold.
    pub async fn resolve(&self) {
        // The database may be away again: he comes back later.
        let _ = self.operate().await;
    }

    async fn operate(&self) -> sqlx::Result<()> {
        let mut connection = self.connect().await;
        sqlx::raw_sql(
            "select resume_app(appid) from wechat_apps where paused_until > clock_timestamp()",
        )
        .execute(&mut connection)
        .await?;
        // Not the newest: a request that was under way may still arrive.
        let doubts: Vec<(i64, String)> = sqlx::query_as(
            "select id, business_ref from pending_notifications
             where on_doubt = 'hold' and in_doubt_since is not null and last_attempt_at < clock_timestamp() - interval '2 seconds'",
        )
        .fetch_all(&mut connection)
        .await?;
        if !doubts.is_empty() {
            let calls = self.wechat.ledger().calls;
            let arrived: HashSet<String> = calls
                .iter()
                .filter(|call| call.accepted)
                .filter_map(|call| call.value("thing1"))
                .collect();
            for (id, nonce) in doubts {
                let verb = if arrived.contains(&nonce) {
                    "select confirm_sent($1)"
                } else {
                    "select confirm_not_sent($1)"
                };
                sqlx::query(verb).bind(id).execute(&mut connection).await?;
            }
        }
        connection.close().await
    }

    /// Sends `rows` plain rows with nothing in the way: messages per second.
    pub async fn measure(&mut self, rows: u64) -> f64 {
        if rows == 0 {
            return 0.0;
        }
        let before = self.wechat.counts().sends_accepted;
        self.insert(rows, Mix::Plain).await;
        let (tenth, nine_tenths) = (rows / 10, rows * 9 / 10);
        let reached = async |sends: u64| {
            self.until_attended("rows are sent", || {
                self.wechat.counts().sends_accepted >= before + sends
            })
            .await;
            Instant::now()
        };
        let begin = reached(tenth).await;
        let end = reached(nine_tenths).await;
        self.drain(Duration::from_secs(60)).await;
        let rows = u32::try_from(nine_tenths - tenth).unwrap_or(u32::MAX);
        f64::from(rows) / (end - begin).as_secs_f64().max(0.001)
    }

    /// Stops the workers and reads everything for the comparison.
    pub async fn history(&mut self) -> History {
        for number in 0..self.workers.len() {
            self.kill(number).await;
        }
        let mut connection = self.connect().await;
        let ledger = self.wechat.ledger();
        let told = self.load.told().clone();
        History {
            rules: self.plan.rules,
            told,
            rows: sqlx::query_as(checker::ROWS)
                .fetch_all(&mut connection)
                .await
                .unwrap(),
            attempts: sqlx::query_as(checker::ATTEMPTS)
                .fetch_all(&mut connection)
                .await
                .unwrap(),
            leases: sqlx::query_as(checker::LEASES)
                .fetch_all(&mut connection)
                .await
                .unwrap(),
            calls: ledger.calls,
            pairs: ledger.pairs,
        }
    }

    /// The logs are kept for whoever looks into a failure.
    pub fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.finished {
            let kept = std::env::temp_dir().join(format!(
                "wxnotify-chaos-{}-{}",
                std::process::id(),
                self.postgres.port()
            ));
            let _ = std::fs::create_dir_all(&kept);
            for file in std::fs::read_dir(self.logs.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                let _ = std::fs::copy(file.path(), kept.join(file.file_name()));
            }
            eprintln!("the workers' logs: {}", kept.display());
        }
    }
}

/// Producers at work.
pub struct Producing {
    load: Arc<Load>,
    first: u64,
    rows: u64,
    tasks: Vec<JoinHandle<()>>,
}

impl Producing {
    /// Whether all rows that were asked for are in.
    pub fn has_enough(&self) -> bool {
        self.load.next.load(Ordering::SeqCst) - self.first >= self.rows
    }

    pub async fn stop(self) {
        self.load.running.store(false, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}
