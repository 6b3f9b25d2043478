//! Who takes part: the two ceilings, wxnotify, and its peers at their best documented settings.
//!
//! A contender loads its rows through [`Contender::load`] in this process and drains them in a process of its own, so
//! that its CPU time and memory are its own. Those written in Rust are this very program, started with `contend`.

pub mod awa;
pub mod courier;
pub mod graphile;
mod http;
mod kernel;
pub mod pgmq;
pub mod river;

use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use tokio::process::{Child, Command};
use wxnotify::schema;

use crate::message;
use crate::stage::{Database, wxnotify_program};

/// One program that drains rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// Requests alone: no database.
    Http { concurrency: u32 },
    /// wxnotify's queue alone: lease, start, settle; no requests. `lease_rows` at a time.
    Kernel { lease_rows: u32 },
    /// The program itself.
    Wxnotify { concurrency: u32 },
    /// The crate graphile_worker.
    GraphileRust,
    /// The crate awa.
    Awa,
    /// The crate riverqueue.
    River,
    /// A bare read, send, delete loop over pgmq's SQL functions.
    Pgmq,
    /// The npm package graphile-worker.
    GraphileNode,
    /// The npm package pg-boss.
    PgBoss,
}

impl Contender {
    /// A short name for `--without` and messages.
    pub fn name(self) -> String {
        match self {
            Self::Http { concurrency } => format!("http-{concurrency}"),
            Self::Kernel { lease_rows } => format!("kernel-{lease_rows}"),
            Self::Wxnotify { concurrency } => format!("wxnotify-{concurrency}"),
            Self::GraphileRust => "graphile-rust".to_owned(),
            Self::Awa => "awa".to_owned(),
            Self::River => "river".to_owned(),
            Self::Pgmq => "pgmq".to_owned(),
            Self::GraphileNode => "graphile-node".to_owned(),
            Self::PgBoss => "pg-boss".to_owned(),
        }
    }

    /// What it is called in tables and plots.
    pub fn label(self) -> String {
        match self {
            Self::Http { concurrency } => format!("HTTP client alone, {concurrency} in flight"),
            Self::Kernel { lease_rows } => format!("database alone, leases of {lease_rows}"),
            Self::Wxnotify { concurrency } => format!("wxnotify, {concurrency} in flight"),
            Self::GraphileRust => "graphile_worker 0.14 (Rust)".to_owned(),
            Self::Awa => "awa 0.6 (Rust)".to_owned(),
            Self::River => "River 0.5 (Rust)".to_owned(),
            Self::Pgmq => "pgmq, bare read-send-delete".to_owned(),
            Self::GraphileNode => "graphile-worker 0.18 (Node)".to_owned(),
            Self::PgBoss => "pg-boss 12 (Node)".to_owned(),
        }
    }

    /// Whether it makes requests.
    pub fn sends(self) -> bool {
        !matches!(self, Self::Kernel { .. })
    }

    /// Makes its schema and `rows` rows.
    pub async fn load(self, database: &Database, rows: u64) -> anyhow::Result<()> {
        match self {
            Self::Http { .. } => return Ok(()),
            Self::Kernel { .. } | Self::Wxnotify { .. } => {
                load_wxnotify(&database.pool, 1, rows).await?;
            }
            Self::GraphileRust => graphile::load(database, rows).await?,
            Self::Awa => awa::load(&database.url, rows).await?,
            Self::River => river::load(database, rows).await?,
            Self::Pgmq => pgmq::load(&database.pool, rows).await?,
            Self::GraphileNode | Self::PgBoss => {
                let status = self.node(&database.url, "", "load", rows)?.status().await?;
                anyhow::ensure!(status.success(), "{} did not load: {status}", self.name());
            }
        }
        // What autovacuum would have done by the time such rows are due.
        sqlx::query("vacuum analyze")
            .execute(&database.pool)
            .await?;
        Ok(())
    }

    /// The process that drains.
    pub fn command(self, database_url: &str, base_url: &str, rows: u64) -> anyhow::Result<Command> {
        let role = match self {
            Self::Wxnotify { concurrency } => {
                return Ok(wxnotify(
                    database_url,
                    base_url,
                    concurrency,
                    &[message::APPID],
                )?);
            }
            Self::GraphileNode | Self::PgBoss => {
                return self.node(database_url, base_url, "work", rows);
            }
            Self::Http { concurrency } => ("http", concurrency),
            Self::Kernel { lease_rows } => ("kernel", lease_rows),
            Self::GraphileRust => ("graphile", 128),
            Self::Awa => ("awa", 256),
            Self::River => ("river", 256),
            Self::Pgmq => ("pgmq", 256),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["contend", role.0, "--rows", &rows.to_string()])
            .args(["--concurrency", &role.1.to_string()])
            .env("DATABASE_URL", database_url)
            .env("WECHAT_URL", base_url);
        Ok(command)
    }

    /// The process that serves what comes until it is ended, for the first `apps` mini-programs if it knows any. With a
    /// `rate` it makes no more than so many requests a second; wxnotify reads that from its table.
    pub fn command_for_ever(
        self,
        database_url: &str,
        base_url: &str,
        apps: u64,
        rate: Option<u32>,
    ) -> anyhow::Result<Command> {
        if let Self::Wxnotify { concurrency } = self {
            let appids: Vec<String> = (1..=apps).map(message::appid).collect();
            let appids: Vec<&str> = appids.iter().map(String::as_str).collect();
            return wxnotify_for_ever(database_url, base_url, concurrency, &appids);
        }
        let mut command = self.command(database_url, base_url, 0)?;
        if self == Self::Pgmq {
            command.arg("--for-ever");
        }
        if let Some(rate) = rate {
            anyhow::ensure!(self.keeps_rates(), "{} knows no rate", self.name());
            command.args(["--rate", &rate.to_string()]);
        }
        Ok(command)
    }

    /// Whether it can hold itself to a number of requests a second.
    pub fn keeps_rates(self) -> bool {
        matches!(self, Self::Wxnotify { .. } | Self::Pgmq | Self::Awa)
    }

    /// Whether it keeps what it has sent.
    pub fn keeps_history(self) -> bool {
        matches!(
            self,
            Self::Wxnotify { .. } | Self::Awa | Self::River | Self::PgBoss
        )
    }

    /// The receiver and the moment of record, in seconds since 1970, of each finished row; where they are kept.
    pub fn settled_sql(self) -> Option<&'static str> {
        match self {
            Self::Wxnotify { .. } => Some(
                "select openid, extract(epoch from finished_at)::float8 from notification_history",
            ),
            Self::River => Some(river::SETTLED_SQL),
            Self::Awa => Some(awa::SETTLED_SQL),
            _ => None,
        }
    }

    fn node(
        self,
        database_url: &str,
        base_url: &str,
        verb: &str,
        rows: u64,
    ) -> anyhow::Result<Command> {
        let script = match self {
            Self::PgBoss => "node/pg-boss.mjs",
            _ => "node/graphile-worker.mjs",
        };
        let mut command = Command::new("node");
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/").to_owned() + script)
            .args([verb, &rows.to_string()])
            .env("NODE_ENV", "production")
            .env("DATABASE_URL", database_url)
            .env("WECHAT_URL", base_url);
        Ok(command)
    }

    /// A query that is true once every row is recorded; asked only after the last request was answered.
    pub fn is_done_sql(self, rows: u64) -> Option<String> {
        Some(match self {
            Self::Http { .. } => return None,
            Self::Kernel { .. } | Self::Wxnotify { .. } => {
                "select not exists (select from pending_notifications)".to_owned()
            }
            Self::GraphileRust | Self::GraphileNode => {
                "select not exists (select from graphile_worker._private_jobs)".to_owned()
            }
            Self::Awa => awa::is_done_sql(rows),
            Self::River => river::is_done_sql(),
            Self::Pgmq => "select not exists (select from pgmq.q_send)".to_owned(),
            Self::PgBoss => {
                "select not exists (select from pgboss.job where name = 'send' and state < 'completed')"
                    .to_owned()
            }
        })
    }

    /// Waits until a contender that makes no requests has begun.
    pub async fn wait_for_first(self, pool: &PgPool, rows: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            let begun: bool = sqlx::query_scalar("select exists (select from notification_leases) or exists (select from notification_history)")
                .fetch_one(pool)
                .await?;
            if begun {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        anyhow::bail!("{} took none of {rows} rows", self.name())
    }

    /// Ends the process, which has nothing left to do.
    pub async fn end(self, child: &mut Child, pid: u32) -> anyhow::Result<()> {
        let wait = Duration::from_secs(10);
        if matches!(
            self,
            Self::Http { .. } | Self::Kernel { .. } | Self::Wxnotify { .. }
        ) {
            let status = tokio::time::timeout(wait, child.wait()).await??;
            anyhow::ensure!(status.success(), "{} ended with {status}", self.name());
            return Ok(());
        }
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
        child.wait().await?;
        Ok(())
    }
}

/// `wxnotify run --until-empty` for some mini-programs.
pub fn wxnotify(
    database_url: &str,
    base_url: &str,
    concurrency: u32,
    appids: &[&str],
) -> anyhow::Result<Command> {
    let mut command = wxnotify_for_ever(database_url, base_url, concurrency, appids)?;
    command.arg("--until-empty");
    Ok(command)
}

/// `wxnotify run` for some mini-programs.
pub fn wxnotify_for_ever(
    database_url: &str,
    base_url: &str,
    concurrency: u32,
    appids: &[&str],
) -> anyhow::Result<Command> {
    let mut command = Command::new(wxnotify_program()?);
    command
        .arg("run")
        .env("DATABASE_URL", database_url)
        .env("WXNOTIFY_API_BASE", base_url)
        .env("WXNOTIFY_CONCURRENCY", concurrency.to_string())
        .env("WXNOTIFY_LISTEN", "")
        .env("WXNOTIFY_LOG", "warn");
    for appid in appids {
        command.env(format!("WXNOTIFY_APPSECRET_{appid}"), "bench-secret");
    }
    Ok(command)
}

/// The schema.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await?.detach();
    schema::apply(&mut connection, &schema::OF_THIS_PROGRAM).await?;
    Ok(connection.close().await?)
}

/// The schema, `apps` mini-programs and `rows` due rows shared evenly among them.
pub async fn load_wxnotify(pool: &PgPool, apps: u64, rows: u64) -> anyhow::Result<()> {
    migrate(pool).await?;
    sqlx::query("insert into wechat_apps (appid) select unnest($1::text[])")
        .bind((1..=apps).map(message::appid).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    insert_rows(pool, apps, 1, rows).await
}

/// Rows `first` to `last`, due now, shared evenly among the first `apps` mini-programs; one transaction.
pub async fn insert_rows(pool: &PgPool, apps: u64, first: u64, last: u64) -> anyhow::Result<()> {
    let statement = format!(
        "insert into pending_notifications (appid, openid, template_id, page, data) \
         select {} from generate_series({first}, {last}) n",
        message::columns_in_sql(apps)
    );
    sqlx::query(AssertSqlSafe(statement)).execute(pool).await?;
    Ok(())
}

/// Arguments of `contend`.
#[derive(Debug, clap::Args)]
pub struct ContendArgs {
    role: Role,
    #[arg(long)]
    rows: u64,
    #[arg(long)]
    concurrency: u32,
    /// Go on when there are no rows
    #[arg(long)]
    for_ever: bool,
    /// Most requests a second
    #[arg(long)]
    rate: Option<u32>,
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    #[arg(long, env = "WECHAT_URL")]
    wechat_url: String,
}

/// The contenders that are this program.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    Http,
    Kernel,
    Graphile,
    Awa,
    River,
    Pgmq,
}

/// Drains; returns when done, or runs until it is ended.
pub async fn contend(args: &ContendArgs) -> anyhow::Result<()> {
    let concurrency = args.concurrency as usize;
    match args.role {
        Role::Kernel => kernel::drain(&args.database_url, args.concurrency).await,
        Role::Http => http::drain(courier(args).await?, args.rows, concurrency).await,
        Role::Graphile => {
            graphile::work(&args.database_url, courier(args).await?, concurrency).await
        }
        Role::Awa => {
            let courier = courier(args).await?;
            awa::work(&args.database_url, courier, args.concurrency, args.rate).await
        }
        Role::River => river::work(&args.database_url, courier(args).await?, concurrency).await,
        Role::Pgmq if args.for_ever => {
            pgmq::serve(&args.database_url, courier(args).await?, args.rate).await
        }
        Role::Pgmq => pgmq::work(&args.database_url, courier(args).await?, concurrency).await,
    }
    .with_context(|| format!("{:?}", args.role))
}

async fn courier(args: &ContendArgs) -> anyhow::Result<courier::Courier> {
    courier::Courier::new(&args.wechat_url, args.concurrency as usize).await
}
