//! A database that dies, hangs, refuses and forgets.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::RngExt;
use sqlx::Connection;

use crate::run::{pass, plan, run};
use crate::stage::Stage;

/// Kills the server: its main process alone, or all of it.
async fn kill_server(stage: &mut Stage) {
    if stage.dice.random_bool(0.5) {
        let file = stage.postgres.folder().join("data/postmaster.pid");
        let pid: i32 = std::fs::read_to_string(file)
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        pass(200).await;
    } else {
        stage.postgres.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_killed() {
    let outcome = run(plan(), 2, async |stage: &mut Stage| {
        pass(stage.dice.random_range(0..300)).await;
        kill_server(stage).await;
        pass(stage.dice.random_range(0..1000)).await;
        // The orphans of a killed server must go before another may start.
        while stage.postgres.restart().await.is_err() {
            pass(200).await;
        }
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("postgres_killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_to_the_database() {
    let plan = plan().set("WXNOTIFY_STATEMENT_TIMEOUT_SECS", "2");
    let outcome = run(plan, 2, async |stage: &mut Stage| {
        pass(stage.dice.random_range(0..300)).await;
        stage.database.freeze();
        pass(stage.dice.random_range(500..2500)).await;
        stage.database.thaw();
        stage.until_sends_flow().await
    })
    .await;
    assert!(
        outcome.recovery < Duration::from_secs(20),
        "{:?}",
        outcome.recovery
    );
    outcome.report("half_open_to_the_database");
}

const TERMINATE: &str = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'wxnotify%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_terminated() {
    let outcome = run(plan().without_doubts(), 2, async |stage: &mut Stage| {
        for _ in 0..4 {
            pass(stage.dice.random_range(0..200)).await;
            stage.sql(TERMINATE).await;
        }
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("backends_terminated");
}

/// Others take every connection the server has; the workers lose theirs and get no new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_exhausted() {
    let mut plan = plan();
    plan.server.push(("max_connections", "30"));
    let outcome = run(plan, 2, async |stage: &mut Stage| {
        let url = stage.url();
        let mut first = stage.connect().await;
        let mut greedy = Vec::new();
        let until =
            std::time::Instant::now() + Duration::from_millis(stage.dice.random_range(800..2_000));
        while std::time::Instant::now() < until || greedy.len() < 15 {
            if greedy.len() < 15 {
                sqlx::raw_sql(TERMINATE).execute(&mut first).await.unwrap();
            }
            match sqlx::PgConnection::connect(&url).await {
                Ok(connection) => greedy.push(connection),
                Err(_) => pass(5).await,
            }
        }
        drop(greedy);
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("connections_exhausted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolation_changed() {
    let outcome = run(plan().without_doubts(), 2, async |stage: &mut Stage| {
        let level = ["serializable", "repeatable read"][stage.dice.random_range(0..2)];
        stage
            .sql(&format!(
                "alter database postgres set default_transaction_isolation = '{level}'; {TERMINATE}"
            ))
            .await;
        let flowing = stage.until_sends_flow().await;
        pass(500).await;
        stage
            .sql(&format!(
                "set transaction_isolation = 'read committed'; alter database postgres reset default_transaction_isolation; {TERMINATE}"
            ))
            .await;
        flowing
    })
    .await;
    outcome.report("isolation_changed");
}

/// A failover that loses reservations nobody had flushed: their ids are given out again, to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_ids_go_back() {
    let outcome = run(plan(), 4, async |stage: &mut Stage| {
        pass(stage.dice.random_range(0..200)).await;
        stage
            .sql(&format!(
                "begin;
                 select pg_advisory_xact_lock(20786, hashtext(appid)) from wechat_apps order by appid;
                 delete from notification_leases where started_at is null;
                 select setval(pg_get_serial_sequence('notification_leases', 'lease_id'),
                     greatest(1, (select max(lease_id) from notification_leases), (select max(last_lease) from pending_notifications)));
                 {TERMINATE};
                 commit"
            ))
            .await;
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("lease_ids_go_back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_transaction() {
    let mut held = None;
    let outcome = run(plan().without_doubts(), 2, async |stage: &mut Stage| {
        if held.is_none() {
            let mut connection = stage.connect().await;
            sqlx::raw_sql(
                "begin isolation level repeatable read; select count(*) from pending_notifications",
            )
            .execute(&mut connection)
            .await
            .unwrap();
            held = Some(connection);
        }
        pass(1_000).await;
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("long_transaction");
}

/// A small file system of its own; gone when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`: this user may not mount one.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::Builder::new()
            .prefix("wxnotify-disk-")
            .tempdir()
            .ok()?;
        let mounted = std::process::Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={megabytes}m,mode=755"),
                "tmpfs",
            ])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), permissions).ok()?;
        mounted.ok()?.success().then_some(Self { folder })
    }

    fn filler(&self) -> std::path::PathBuf {
        self.folder.path().join("filler")
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        let block = vec![0_u8; 1 << 16];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_full() {
    let Some(disk) = SmallDisk::mount(400) else {
        println!("SKIPPED disk_full: mounting a small tmpfs takes root");
        return;
    };
    let mut plan = plan();
    plan.data_dir = Some(disk.folder.path().join("data"));
    plan.server.push(("max_wal_size", "80MB"));
    let outcome = run(plan, 2, async |stage: &mut Stage| {
        let mut connection = stage.connect().await;
        disk.fill();
        // The next WAL segment is needed now, and there is no room for it.
        for _ in 0..12 {
            let switched =
                sqlx::raw_sql("select pg_switch_wal(); create table filler (); drop table filler")
                    .execute(&mut connection)
                    .await;
            if switched.is_err() {
                break;
            }
        }
        pass(stage.dice.random_range(300..1_500)).await;
        disk.free();
        while stage.postgres.restart().await.is_err() {
            pass(200).await;
        }
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("disk_full");
}
