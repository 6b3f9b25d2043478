//! Workers behind a pooler in transaction mode: no statement may count on the session of the one before.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::RngExt;

use crate::failover::{program, server_user};
use crate::run::{pass, plan, run_on};
use crate::stage::Stage;

/// Fewer server processes than workers have connections: they change with nearly every statement.
const SERVER_PROCESSES: usize = 5;

struct PgBouncer {
    program: PathBuf,
    configuration: tempfile::NamedTempFile,
    port: u16,
    process: Option<Child>,
}

impl PgBouncer {
    fn before(program: PathBuf, server_port: u16) -> Self {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut text = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {SERVER_PROCESSES}\n"
        );
        writeln!(
            text,
            "ignore_startup_parameters = extra_float_digits,options"
        )
        .unwrap();
        let configuration = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(configuration.path(), text).unwrap();
        // It does not run as root, and reads this as whom it runs.
        std::fs::set_permissions(configuration.path(), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        Self {
            program,
            configuration,
            port,
            process: None,
        }
    }

    fn start(&mut self) {
        let mut command = Command::new(&self.program);
        command
            .arg(self.configuration.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(user) = server_user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        self.process = Some(command.spawn().unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = i32::try_from(process.id()).unwrap();
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = process.wait();
        }
    }

    fn url(&self) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler() {
    let Some(program) = program("pgbouncer") else {
        println!("SKIPPED behind_a_pooler: no pgbouncer (Debian: apt-get install pgbouncer)");
        return;
    };
    let mut stage = Stage::new(plan()).await;
    let mut pooler = PgBouncer::before(program, stage.postgres.port());
    pooler.start();
    stage.plan.settings.extend([
        ("DATABASE_URL", pooler.url()),
        ("WXNOTIFY_POOLER", "true".to_owned()),
    ]);
    let outcome = run_on(stage, 2, async |stage: &mut Stage| {
        pass(stage.dice.random_range(100..600)).await;
        let broken_at = Instant::now();
        if stage.dice.random_bool(0.5) {
            pooler.kill();
            pass(300).await;
            pooler.start();
        } else {
            stage.kill(1).await;
            stage.revive();
        }
        stage.until_sends_flow().await;
        broken_at.elapsed().max(Duration::ZERO)
    })
    .await;
    outcome.report("behind_a_pooler");
}
