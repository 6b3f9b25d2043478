//! What the tests stand on: real Postgres, a database for each test.
//!
//! One throwaway cluster serves the whole test program, or the server that
//! `WXNOTIFY_TEST_DATABASE_URL` names (its user must be allowed to create databases). A template is
//! migrated once; each [`TestDatabase`] is a copy of it, gone when dropped.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use chrono::Utc;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgExecutor, PgPool};
use tokio::net::{TcpSocket, TcpStream};
use wxnotify::notification::{Kind, Notification, Openid};
use wxnotify::operate::OperateCommand;
use wxnotify::postgres::{Options, ThrowawayPostgres};
use wxnotify::schema;

/// The key of the lock under which test programs that share a server make the template.
const TEMPLATE_LOCK: i64 = 7_274_101;

/// Before Postgres 15 everybody may create in `public`; there the documentation asks for this.
pub const CLOSED_SCHEMA: &str = "revoke create on schema public from public";

/// The server of this test program, and the name of the migrated template in it.
struct Server {
    url: String,
    template: String,
    /// Held so that it lives as long as the program; it stops with the process.
    throwaway: Option<ThrowawayPostgres>,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    // A thread of its own, because the first test to come here is already inside a runtime.
    let server = thread::spawn(|| {
        let throwaway = match std::env::var("WXNOTIFY_TEST_DATABASE_URL") {
            Ok(url) => Err(url),
            Err(_) => Ok(ThrowawayPostgres::start_blocking(&Options {
                extra_settings: vec![
                    ("max_connections".into(), "500".into()),
                    ("max_prepared_transactions".into(), "50".into()),
                ],
                trust: true,
                ..Options::default()
            })
            .unwrap()),
        };
        let (url, throwaway) = match throwaway {
            Ok(postgres) => (postgres.url().to_owned(), Some(postgres)),
            Err(url) => (url, None),
        };
        let template = block_on(make_template(&url));
        Server {
            url,
            template,
            throwaway,
        }
    });
    server.join().unwrap()
});

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Migrates the template unless the server has one of this very schema, tables and code.
async fn make_template(url: &str) -> String {
    let fingerprint = schema::OF_THIS_PROGRAM.fingerprint();
    let template = format!("wxnotify_template_{}", &fingerprint[..16]);
    let unfinished = format!("{template}_unfinished");
    let mut server = PgConnection::connect(url).await.unwrap();
    sqlx::query("select pg_advisory_lock($1)")
        .bind(TEMPLATE_LOCK)
        .execute(&mut server)
        .await
        .unwrap();
    let exists: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&template)
            .fetch_one(&mut server)
            .await
            .unwrap();
    if !exists {
        run(
            &mut server,
            &format!("drop database if exists {unfinished}"),
        )
        .await;
        run(&mut server, &format!("create database {unfinished}")).await;
        let options = PgConnectOptions::from_str(url)
            .unwrap()
            .database(&unfinished);
        let mut connection = PgConnection::connect_with(&options).await.unwrap();
        run(&mut connection, CLOSED_SCHEMA).await;
        make_schema(&mut connection).await;
        connection.close().await.unwrap();
        run(
            &mut server,
            &format!("alter database {unfinished} rename to {template}"),
        )
        .await;
    }
    // Closing the connection gives the lock back.
    server.close().await.unwrap();
    template
}

/// Makes tables and code as `wxnotify migrate` does.
pub async fn make_schema(connection: &mut PgConnection) {
    schema::apply(connection, &schema::OF_THIS_PROGRAM)
        .await
        .unwrap();
}

/// Runs statements, of which each must succeed.
pub async fn run(executor: impl PgExecutor<'_>, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(executor)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{statements}"));
}

/// What an expression gives.
pub async fn value<T>(executor: impl PgExecutor<'_>, expression: &str) -> T
where
    T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    sqlx::query_scalar(AssertSqlSafe(format!("select {expression}")))
        .fetch_one(executor)
        .await
        .unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// Inserts a row of these columns alone, as a producer does.
pub async fn insert_row(executor: impl PgExecutor<'_>, row: &Value) -> sqlx::Result<i64> {
    let columns = row.as_object().unwrap();
    let names: Vec<&str> = columns.keys().map(String::as_str).collect();
    let names = names.join(", ");
    let statement = format!(
        "insert into pending_notifications ({names})
         select {names} from jsonb_populate_record(null::pending_notifications, $1) returning id"
    );
    sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(row)
        .fetch_one(executor)
        .await
}

/// A one-time message to a user of its own, as a worker has it in hand.
pub fn notification(id: i64) -> Notification {
    Notification {
        id,
        appid: "wx1111222233334444".into(),
        kind: Kind::OneTime,
        openid: Openid::new(format!("oUser{id:022}")),
        template_id: "T1".into(),
        page: None,
        data: r#"{"thing1": "杯"}"#.into(),
        extra: None,
        miniprogram_state: "formal".into(),
        lang: "zh_CN".into(),
        attempts: 0,
        attempts_max: 8,
        in_doubt: false,
        expire_at: None,
        waiting_since: Utc::now(),
        probe: false,
    }
}

/// A migrated database of the test's own; dropped with everything connected to it.
pub struct TestDatabase {
    name: String,
    url: String,
    pool: PgPool,
}

impl TestDatabase {
    /// A fresh copy of the template, with a pool of at most 20 connections made as they are needed.
    pub async fn new() -> Self {
        Self::create(true).await
    }

    /// A database without our schema.
    pub async fn empty() -> Self {
        Self::create(false).await
    }

    async fn create(migrated: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wxnotify_test_{}_{count}", std::process::id());
        let server = tokio::task::spawn_blocking(|| &*SERVER).await.unwrap();
        let template = if migrated {
            server.template.as_str()
        } else {
            "template1"
        };
        let mut connection = PgConnection::connect(&server.url).await.unwrap();
        run(
            &mut connection,
            &format!("create database {name} template {template}"),
        )
        .await;
        connection.close().await.unwrap();
        let mut url = url::Url::parse(&server.url).unwrap();
        url.set_path(&name);
        let url = url.to_string();
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect(&url)
            .await
            .unwrap();
        if !migrated {
            sqlx::query(CLOSED_SCHEMA).execute(&pool).await.unwrap();
        }
        Self { name, url, pool }
    }

    /// Connections to this database.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The URL of this database, as superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection beside the pool, for a transaction that a test holds open.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        // A thread of its own, because a runtime cannot wait inside another.
        let dropped = thread::spawn(move || {
            block_on(async {
                let mut connection = PgConnection::connect(&SERVER.url).await?;
                sqlx::query(AssertSqlSafe(statement))
                    .execute(&mut connection)
                    .await?;
                connection.close().await
            })
        });
        // The throwaway server takes its databases along; another one must be left as it was found.
        if SERVER.throwaway.is_none() {
            let _ = dropped.join();
        }
    }
}

/// The built `wxnotify` program, with none of this process's settings in its environment.
pub fn wxnotify() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wxnotify"));
    for (name, _) in std::env::vars() {
        if name.starts_with("WXNOTIFY_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    // What it says must not depend on who tests.
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command
}

/// The command line of an operators' command.
#[derive(Debug, clap::Parser)]
pub struct Line {
    #[command(subcommand)]
    pub command: OperateCommand,
}

/// A free port: bound and given up at once.
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// How long a test waits for something before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits `future`; fails the test after [`PATIENCE`].
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Asks again and again until `found` answers something; fails the test after [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    in_time(what, async {
        loop {
            pace.tick().await;
            if let Some(answer) = found().await {
                return answer;
            }
        }
    })
    .await
}

/// Asks for `/metrics` without end and reads nothing, until neither side can write any more.
pub async fn stalled_scraper(address: SocketAddr) -> TcpStream {
    // Long, so that the server has few of them in its buffer when it cannot write any more.
    let padding = "x".repeat(4000);
    let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx: {padding}\r\n\r\n");
    let requests = request.repeat(100);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(address).await.unwrap();
    loop {
        match stream.try_write(requests.as_bytes()) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let stalled = Duration::from_millis(300);
                if tokio::time::timeout(stalled, stream.writable())
                    .await
                    .is_err()
                {
                    return stream;
                }
            }
            // It was ended for another's sake.
            Err(_) => return stream,
        }
    }
}

/// Compares with a file of `tests/it/fixtures/`. With WXNOTIFY_RECORD=1 in the environment it writes the file instead: look at
/// the difference before committing it.
pub fn assert_recorded(name: &str, actual: &str) {
    let path = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/fixtures")
        .join(name);
    if std::env::var_os("WXNOTIFY_RECORD").is_some() {
        std::fs::write(&path, format!("{actual}\n")).unwrap();
        return;
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| -> std::collections::BTreeSet<String> {
        text.lines().map(str::to_owned).collect()
    };
    let (recorded, actual) = (lines(&recorded), lines(actual));
    let gone: Vec<_> = recorded.difference(&actual).collect();
    let new: Vec<_> = actual.difference(&recorded).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "{name} no longer tells the truth; if this is meant, record it anew with WXNOTIFY_RECORD=1 and look at the difference.\ngone: {gone:#?}\nnew: {new:#?}"
    );
}
