//! Failover as it is run in production: Patroni over the machine's Postgres, etcd, and HAProxy in front, which asks Patroni
//! who leads. The primary's whole machine dies; Patroni promotes the synchronous standby when its leader key lapses.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown};
use rand::RngExt;
use sqlx::{Connection, PgConnection};

use crate::failover::{HaProxy, program, server_user};
use crate::run::{pass, plan, run_on};
use crate::stage::{Stage, until};

/// Two nodes and the etcd that they vote in.
struct Cluster {
    etcd: Child,
    nodes: Vec<Node>,
    _folder: tempfile::TempDir,
}

struct Node {
    patroni: Child,
    data: PathBuf,
    postgres: u16,
    /// Patroni's own port.
    rest: u16,
}

/// What is needed to start a node.
struct Recipe<'a> {
    patroni: &'a Path,
    binaries: &'a Path,
    folder: &'a Path,
    etcd: u16,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Node {
    fn start(recipe: &Recipe<'_>, name: &str) -> Self {
        let home = recipe.folder.join(name);
        std::fs::create_dir(&home).unwrap();
        let user = server_user();
        if let Some(user) = &user {
            chown(&home, Some(user.uid), Some(user.gid)).unwrap();
        }
        let (postgres, rest, data) = (free_port(), free_port(), home.join("data"));
        let configuration = recipe.folder.join(format!("{name}.yml"));
        // The spans are the shortest that Patroni takes.
        let text = format!(
            r#"
scope: wxnotify
name: {name}
restapi: {{listen: "127.0.0.1:{rest}", connect_address: "127.0.0.1:{rest}"}}
etcd3: {{host: "127.0.0.1:{etcd}"}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 5
    synchronous_mode: true
    postgresql: {{parameters: {{max_connections: 120}}}}
  initdb: [{{encoding: UTF8}}, {{auth: trust}}]
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 trust
    - host replication all 127.0.0.1/32 trust
postgresql:
  listen: "127.0.0.1:{postgres}"
  connect_address: "127.0.0.1:{postgres}"
  data_dir: {data}
  bin_dir: {binaries}
  pgpass: {home}/pgpass
  authentication: {{superuser: {{username: postgres}}, replication: {{username: postgres}}}}
  parameters: {{unix_socket_directories: {home}}}
"#,
            etcd = recipe.etcd,
            data = data.display(),
            binaries = recipe.binaries.display(),
            home = home.display(),
        );
        std::fs::write(&configuration, text).unwrap();
        let mut command = Command::new(recipe.patroni);
        command.arg(&configuration).current_dir("/");
        if let Some(user) = &user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        Self {
            patroni: silent(&mut command),
            data,
            postgres,
            rest,
        }
    }

    async fn leads(&self) -> Option<()> {
        let asked = reqwest::get(format!("http://127.0.0.1:{}/primary", self.rest)).await;
        asked.ok()?.status().is_success().then_some(())
    }

    /// Ends all of it at once, as when its machine loses power.
    fn die(&mut self) {
        let _ = self.patroni.kill();
        let _ = self.patroni.wait();
        let pid = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let Some(postmaster) = pid.lines().next().and_then(|pid| pid.parse().ok()) else {
            return;
        };
        for pid in children_of(postmaster).into_iter().chain([postmaster]) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.die();
    }
}

fn silent(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn children_of(parent: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        of.is_some_and(|of| of.trim() == parent.to_string())
    };
    numbers.filter(is_child).collect()
}

impl Cluster {
    async fn start(patroni: &Path, etcd: &Path, binaries: &Path) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("wxnotify-patroni-")
            .tempdir()
            .unwrap();
        if let Some(user) = server_user() {
            chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let (clients, peers) = (free_port(), free_port());
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let mut command = Command::new(etcd);
        command
            .arg("--data-dir")
            .arg(folder.path().join("etcd"))
            .args(["--listen-client-urls", &address(clients)])
            .args(["--advertise-client-urls", &address(clients)])
            .args(["--listen-peer-urls", &address(peers)])
            .args(["--initial-advertise-peer-urls", &address(peers)])
            .args(["--initial-cluster", &format!("default={}", address(peers))]);
        let mut cluster = Self {
            etcd: silent(&mut command),
            nodes: Vec::new(),
            _folder: folder,
        };
        until("etcd answers", async || {
            reqwest::get(format!("{}/health", address(clients)))
                .await
                .ok()
        })
        .await;
        let folder = cluster._folder.path().to_owned();
        let recipe = Recipe {
            patroni,
            binaries,
            folder: &folder,
            etcd: clients,
        };
        let first = Node::start(&recipe, "one");
        until("the first node leads", async || first.leads().await).await;
        let second = Node::start(&recipe, "two");
        let url = format!(
            "postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable",
            first.postgres
        );
        cluster.nodes = vec![first, second];
        let mut connection = PgConnection::connect(&url).await.unwrap();
        until("the second node is a synchronous standby", async || {
            let state: Option<String> =
                sqlx::query_scalar("select sync_state from pg_stat_replication")
                    .fetch_optional(&mut connection)
                    .await
                    .unwrap();
            (state.as_deref() == Some("sync")).then_some(())
        })
        .await;
        cluster
    }

    /// HAProxy's servers, for it to ask Patroni which of them leads.
    fn servers(&self) -> String {
        let server = |(number, node): (usize, &Node)| {
            format!(
                "  server node{number} 127.0.0.1:{} port {}\n",
                node.postgres, node.rest
            )
        };
        let servers: String = self.nodes.iter().enumerate().map(server).collect();
        format!("  option httpchk GET /primary\n  http-check expect status 200\n{servers}")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_under_patroni() {
    let (Some(patroni), Some(etcd), Some(haproxy)) =
        (program("patroni"), program("etcd"), program("haproxy"))
    else {
        println!(
            "SKIPPED failover_under_patroni: no patroni, etcd or haproxy (Debian: apt-get install patroni etcd-server haproxy)"
        );
        return;
    };
    let mut stage = Stage::new(plan()).await;
    let mut cluster = Cluster::start(&patroni, &etcd, stage.postgres.binaries()).await;
    let haproxy = HaProxy::start(&haproxy, &cluster.servers());
    stage.move_to(haproxy.url()).await;
    let mut died = false;
    let outcome = run_on(stage, 1, async |stage: &mut Stage| {
        pass(stage.dice.random_range(0..500)).await;
        let died_at = Instant::now();
        if !died {
            died = true;
            cluster.nodes[0].die();
            until("the standby leads", async || cluster.nodes[1].leads().await).await;
        }
        stage.until_sends_flow().await;
        died_at.elapsed()
    })
    .await;
    outcome.report("failover_under_patroni");
}
