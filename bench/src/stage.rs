//! Where everything is measured: a durable Postgres of our own, and the fake WeChat in a process of its own.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use wxnotify::postgres::{Options, ThrowawayPostgres};

use crate::machine;

/// Settings of a small production server. A checkpoint is made before every load, none comes during a measurement.
const SERVER_SETTINGS: [(&str, &str); 7] = [
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "30min"),
    ("max_connections", "300"),
    ("shared_preload_libraries", ""),
    ("synchronous_commit", "on"),
    ("autovacuum", "on"),
];

/// The programs of this build lie side by side.
pub fn wxnotify_program() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("wxnotify"))
}

/// The Postgres of a whole run.
pub struct Stage {
    postgres: ThrowawayPostgres,
    admin: PgPool,
    /// The server's first process, parent of all others.
    pub postmaster: u32,
    databases: AtomicU32,
    /// How long to go on waiting for a quiet machine, over the whole run.
    patience: Mutex<Duration>,
}

/// A database of one measurement; dropped by [`Stage::drop_database`].
pub struct Database {
    pub name: String,
    pub url: String,
    pub pool: PgPool,
}

impl Stage {
    /// Starts Postgres. Measurements wait for a quiet machine for `patience` in all.
    pub async fn start(patience: Duration) -> anyhow::Result<Self> {
        let postgres = ThrowawayPostgres::start(Options {
            // Peers build addresses of their own.
            trust: true,
            durable: true,
            extra_settings: SERVER_SETTINGS
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            data_dir: None,
            environment: Vec::new(),
        })
        .await?;
        let admin = PgPoolOptions::new()
            .max_connections(2)
            .connect(postgres.url())
            .await?;
        let backend: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&admin)
            .await?;
        let postmaster = machine::parent_of(u32::try_from(backend)?)
            .context("the server's processes are not visible in /proc")?;
        Ok(Self {
            postgres,
            admin,
            postmaster,
            databases: AtomicU32::new(0),
            patience: Mutex::new(patience),
        })
    }

    /// Waits for a quiet machine while there is patience left. Returns the share of it that others use.
    pub async fn wait_for_quiet(&self) -> f64 {
        let patience = *self
            .patience
            .lock()
            .expect("nothing panics while it is held");
        let began = Instant::now();
        let others = machine::wait_for_quiet(patience).await;
        let left = patience.saturating_sub(began.elapsed());
        if !machine::is_quiet(others) {
            *self
                .patience
                .lock()
                .expect("nothing panics while it is held") = left;
        }
        others
    }

    /// An empty database, right after a checkpoint, for a measurement on a machine as quiet as it gets.
    pub async fn database(&self) -> anyhow::Result<Database> {
        self.wait_for_quiet().await;
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench_{number}");
        let url = self.postgres.create_database(&name).await?;
        sqlx::query("checkpoint").execute(&self.admin).await?;
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect(&url)
            .await?;
        Ok(Database { name, url, pool })
    }

    pub async fn drop_database(&self, database: Database) -> anyhow::Result<()> {
        database.pool.close().await;
        let statement = format!("drop database {} with (force)", database.name);
        sqlx::query(AssertSqlSafe(statement))
            .execute(&self.admin)
            .await?;
        Ok(())
    }

    /// Bytes of write-ahead log written since the cluster was made.
    pub async fn wal_bytes(&self) -> anyhow::Result<u64> {
        let bytes: i64 = sqlx::query_scalar(
            "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint",
        )
        .fetch_one(&self.admin)
        .await?;
        Ok(u64::try_from(bytes)?)
    }

    /// CPU time of the whole server so far.
    pub fn cpu(&self) -> Duration {
        machine::cpu_of_family(self.postmaster)
    }
}

/// One send as the fake saw it.
pub struct Arrival {
    pub openid: String,
    pub template_id: String,
    /// Seconds since 1970, by the machine's clock.
    pub at: f64,
}

/// The fake WeChat. Dropping it ends its process.
pub struct FakeProcess {
    child: Child,
    pub base_url: String,
    client: reqwest::Client,
}

impl FakeProcess {
    /// One thread, counts only; every call takes `latency`.
    pub async fn start(latency: Duration) -> anyhow::Result<Self> {
        Self::start_with_ledger("counts", latency).await
    }

    /// The same with a ledger that keeps the moment of every arrival; requests take no time.
    pub async fn start_recording() -> anyhow::Result<Self> {
        Self::start_with_ledger("full", Duration::ZERO).await
    }

    async fn start_with_ledger(ledger: &str, latency: Duration) -> anyhow::Result<Self> {
        let mut child = Command::new(wxnotify_program()?)
            .args(["simulate", "--listen", "127.0.0.1:0", "--ledger", ledger])
            .args(["--threads", "1", "--latency-ms"])
            .arg(latency.as_millis().to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the fake WeChat did not start")?;
        let output = child.stdout.take().context("the fake has no output")?;
        let mut lines = BufReader::new(output).lines();
        let first = lines.next_line().await?.unwrap_or_default();
        let base_url = first
            .split_whitespace()
            .find(|word| word.starts_with("http://"))
            .with_context(|| format!("no address in the fake's first line: {first}"))?
            .to_owned();
        // It must always find somebody who reads its output.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            child,
            base_url,
            client: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Whether so many sends arrive, and are answered, within `limit`.
    pub async fn has_seen(
        &self,
        arrived: u64,
        answered: u64,
        limit: Duration,
    ) -> anyhow::Result<bool> {
        let url = format!(
            "{}/_control/wait?arrived={arrived}&answered={answered}&timeout_ms={}",
            self.base_url,
            limit.as_millis()
        );
        let reply = self.client.get(url).send().await?;
        Ok(reply.status().is_success())
    }

    /// Waits until so many sends have arrived; an error after `limit`.
    pub async fn wait_for(&self, arrived: u64, limit: Duration) -> anyhow::Result<()> {
        let seen = self.has_seen(arrived, 0, limit).await?;
        anyhow::ensure!(seen, "fewer than {arrived} sends arrived within {limit:?}");
        Ok(())
    }

    /// How many sends arrived, and how many were judged a success.
    pub async fn counts(&self) -> anyhow::Result<(u64, u64)> {
        let counts: wxnotify::simulate::Counts = self.read("counts").await?;
        Ok((counts.sends_arrived, counts.sends_accepted))
    }

    /// Every send of a fake that records, in order of arrival.
    pub async fn arrivals(&self) -> anyhow::Result<Vec<Arrival>> {
        let ledger: wxnotify::simulate::Ledger = self.read("ledger").await?;
        let arrivals = ledger.sends().map(|call| Arrival {
            openid: call.openid.clone(),
            template_id: call.template_id.clone(),
            at: call.arrived_at.timestamp_micros() as f64 / 1e6,
        });
        Ok(arrivals.collect())
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, what: &str) -> anyhow::Result<T> {
        let reply = self
            .client
            .get(format!("{}/_control/{what}", self.base_url))
            .send()
            .await?;
        Ok(reply.json().await?)
    }
}
