//! The primary dies under load, the standby is promoted, and workers reconnect through the address they know.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{User, geteuid};
use rand::RngExt;
use wxnotify::postgres::{Options, ThrowawayPostgres};

use crate::checker::Kind;
use crate::proxy::Proxy;
use crate::run::{pass, plan, run, run_on};
use crate::stage::{Plan, Stage, until};

/// A copy of the stage's server that follows it.
struct Standby {
    server: ThrowawayPostgres,
    /// Its way to the primary.
    way: Proxy,
    _folder: tempfile::TempDir,
}

/// The user that owns the servers' files, when we are root.
pub fn server_user() -> Option<User> {
    geteuid()
        .is_root()
        .then(|| {
            ["postgres", "nobody"]
                .into_iter()
                .find_map(|name| User::from_name(name).ok()?)
        })
        .flatten()
}

impl Standby {
    async fn follow(stage: &Stage, synchronous: bool) -> Self {
        let primary = SocketAddr::from(([127, 0, 0, 1], stage.postgres.port()));
        let way = Proxy::start("127.0.0.1:0", primary).await;
        let folder = tempfile::Builder::new()
            .prefix("wxnotify-standby-")
            .tempdir()
            .unwrap();
        let user = server_user();
        if let Some(user) = &user {
            nix::unistd::chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let data = folder.path().join("data");
        let mut copy = Command::new(stage.postgres.binaries().join("pg_basebackup"));
        copy.arg("-D")
            .arg(&data)
            .args(["-X", "stream", "-R", "-c", "fast"]);
        copy.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &way.address().port().to_string(),
        ]);
        copy.current_dir("/").stdin(Stdio::null());
        if let Some(user) = &user {
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
        // Settings of the old primary came along.
        let own = data.join("postgresql.auto.conf");
        let settings = std::fs::read_to_string(&own).unwrap();
        let settings: Vec<&str> = settings
            .lines()
            .filter(|line| !line.starts_with("synchronous"))
            .collect();
        std::fs::write(&own, settings.join("\n") + "\n").unwrap();
        let server = ThrowawayPostgres::start(Options {
            data_dir: Some(data),
            extra_settings: vec![("max_connections".into(), "120".into())],
            trust: true,
            ..Options::default()
        });
        let server = server.await.unwrap();
        let names = if synchronous { "*" } else { "" };
        stage
            .sql(&format!(
                "alter system set synchronous_standby_names = '{names}'"
            ))
            .await;
        stage.sql("select pg_reload_conf()").await;
        let wanted = if synchronous { "sync" } else { "async" };
        until("the standby follows", async || {
            let query = format!(
                "select count(*) from pg_stat_replication where state = 'streaming' and sync_state = '{wanted}'"
            );
            (stage.count(&query).await == 1).then_some(())
        })
        .await;
        Self {
            server,
            way,
            _folder: folder,
        }
    }

    /// The primary dies and this one takes its place behind the workers' address.
    async fn take_over(self, stage: &mut Stage) -> tempfile::TempDir {
        stage.postgres.kill().await.unwrap();
        let old = std::mem::replace(&mut stage.postgres, self.server);
        drop(old);
        stage.sql("select pg_promote(true, 60)").await;
        let promoted = SocketAddr::from(([127, 0, 0, 1], stage.postgres.port()));
        stage.database.lead_to(promoted);
        self._folder
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_to_a_synchronous_standby() {
    let mut folders = Vec::new();
    let outcome = run(plan(), 1, async |stage: &mut Stage| {
        let standby = Standby::follow(stage, true).await;
        stage.until_sends(100).await;
        pass(stage.dice.random_range(0..500)).await;
        let died_at = Instant::now();
        folders.push(standby.take_over(stage).await);
        stage.until_sends_flow().await;
        died_at.elapsed()
    })
    .await;
    outcome.report("failover_to_a_synchronous_standby");
}

/// What promise 2 loses without a synchronous standby is counted here, and the worker must have said so at its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_to_an_asynchronous_standby() {
    let mut folders = Vec::new();
    let plan: Plan = plan();
    let outcome = run(plan, 1, async |stage: &mut Stage| {
        let standby = Standby::follow(stage, false).await;
        stage.kill(0).await;
        stage.spawn(0);
        stage.until_sends(100).await;
        // The standby falls behind, as it may.
        standby.way.freeze();
        pass(700).await;
        let died_at = Instant::now();
        folders.push(standby.take_over(stage).await);
        stage.until_sends_flow().await;
        died_at.elapsed()
    })
    .await;
    assert!(
        outcome
            .logs
            .contains("commits wait for none of the 1 standbys"),
        "no worker warned of the asynchronous standby"
    );
    let damage =
        outcome
            .verdict
            .count(&[Kind::Lost, Kind::SentTwiceUnrecorded, Kind::SentTwiceOnHold]);
    assert!(damage > 0, "a standby 700 ms behind lost nothing");
    outcome.write("failover_to_an_asynchronous_standby");
}

/// A program of the machine.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// HAProxy in front of both servers, as in production.
pub struct HaProxy {
    process: Child,
    port: u16,
    _configuration: tempfile::NamedTempFile,
}

impl HaProxy {
    /// In front of `servers`, lines of its own language with the way they are checked.
    pub fn start(program: &PathBuf, servers: &str) -> Self {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let configuration = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n  retries 0\n\
             listen postgres\n  bind 127.0.0.1:{port}\n  \
             default-server check inter 300ms fall 2 rise 1 on-marked-down shutdown-sessions\n{servers}"
        );
        std::fs::write(configuration.path(), text).unwrap();
        let process = Command::new(program)
            .arg("-db")
            .arg("-f")
            .arg(configuration.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            port,
            _configuration: configuration,
        }
    }

    /// The one address that everybody uses.
    pub fn url(&self) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Until the standby is promoted HAProxy leads workers to a server that only reads: they must bear that too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_behind_haproxy() {
    let Some(haproxy) = program("haproxy") else {
        println!("SKIPPED failover_behind_haproxy: no haproxy (Debian: apt-get install haproxy)");
        return;
    };
    let mut stage = Stage::new(plan().rows(900)).await;
    let standby = Standby::follow(&stage, true).await;
    let servers = format!(
        "  option tcp-check\n  server primary 127.0.0.1:{}\n  server standby 127.0.0.1:{} backup\n",
        stage.postgres.port(),
        standby.server.port()
    );
    let haproxy = HaProxy::start(&haproxy, &servers);
    stage.plan.settings.push(("DATABASE_URL", haproxy.url()));
    let mut standby = Some(standby);
    let mut folder = None;
    let outcome = run_on(stage, 1, async |stage: &mut Stage| {
        pass(stage.dice.random_range(0..500)).await;
        let died_at = Instant::now();
        if let Some(standby) = standby.take() {
            stage.postgres.kill().await.unwrap();
            // Long enough for HAProxy to notice, and to lead workers to the server that only reads.
            pass(1_500).await;
            stage.postgres = standby.server;
            stage.sql("select pg_promote(true, 60)").await;
            folder = Some(standby._folder);
        }
        stage.until_sends_flow().await;
        died_at.elapsed().max(Duration::ZERO)
    })
    .await;
    outcome.report("failover_behind_haproxy");
}
