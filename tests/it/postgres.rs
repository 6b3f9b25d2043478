//! The throwaway Postgres, and the harness that stands on it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use wxnotify::postgres::{self, Options, ThrowawayPostgres};

use crate::harness::{TestDatabase, wxnotify};

#[tokio::test]
async fn each_test_has_a_migrated_database_of_its_own() {
    let one = TestDatabase::new().await;
    let two = TestDatabase::new().await;
    sqlx::query("create table only_in_one ()")
        .execute(&mut one.connect().await)
        .await
        .unwrap();

    sqlx::query("select from pending_notifications")
        .execute(two.pool())
        .await
        .unwrap();
    let error = sqlx::query("select from only_in_one")
        .execute(two.pool())
        .await
        .unwrap_err();

    assert!(error.to_string().contains("only_in_one"), "{error}");
    assert_ne!(one.url(), two.url());
}

/// Waits until `done` answers true; fails the test after half a minute.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        let mut interval = tokio::time::interval(Duration::from_millis(10));
        while !done() {
            interval.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn is_listening(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn setting(connection: &mut PgConnection, name: &str) -> String {
    sqlx::query_scalar("select current_setting($1)")
        .bind(name)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// Other users of the machine can connect to loopback, too.
#[tokio::test]
async fn nobody_gets_in_without_the_password_and_each_cluster_has_its_own() {
    let postgres = ThrowawayPostgres::start(Options::default()).await.unwrap();
    let other = ThrowawayPostgres::start(Options::default()).await.unwrap();
    assert_eq!(postgres.password().len(), 32);
    assert_ne!(postgres.password(), other.password());
    let tcp = postgres
        .url()
        .replace(postgres.password(), other.password());
    let bare = postgres
        .url()
        .replace(&format!(":{}", postgres.password()), "");
    let socket = format!(
        "postgres:///postgres?host={}&port={}&user=postgres",
        postgres.socket_folder().display(),
        postgres.port()
    );
    for url in [tcp, bare, socket] {
        let error = PgConnection::connect(&url).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("28P01"), "{error}");
    }
}

#[tokio::test]
async fn the_server_is_reached_by_tcp_and_socket_and_is_not_durable_unless_asked() {
    let postgres = ThrowawayPostgres::start(Options::default()).await.unwrap();
    let socket = format!(
        "postgres:///postgres?host={}&port={}&user=postgres&password={}",
        postgres.socket_folder().display(),
        postgres.port(),
        postgres.password()
    );

    let mut connection = connect(&socket).await;
    assert_eq!(setting(&mut connection, "fsync").await, "off");
    assert_eq!(setting(&mut connection, "full_page_writes").await, "off");
    assert_eq!(setting(&mut connection, "synchronous_commit").await, "on");
    assert_eq!(setting(&mut connection, "server_encoding").await, "UTF8");
    assert_eq!(
        setting(&mut connection, "listen_addresses").await,
        "127.0.0.1"
    );
    connect(postgres.url()).await;

    let extra_settings = vec![("work_mem".to_owned(), "7MB".to_owned())];
    let durable = ThrowawayPostgres::start(Options {
        durable: true,
        extra_settings,
        ..Options::default()
    })
    .await
    .unwrap();
    let mut connection = connect(durable.url()).await;
    assert_eq!(setting(&mut connection, "fsync").await, "on");
    assert_eq!(setting(&mut connection, "full_page_writes").await, "on");
    assert_eq!(setting(&mut connection, "work_mem").await, "7MB");
}

#[tokio::test]
async fn a_stop_and_a_drop_leave_neither_server_nor_folder() {
    let stopped = ThrowawayPostgres::start(Options::default()).await.unwrap();
    let (port, folder) = (stopped.port(), stopped.folder().to_owned());
    // An open connection does not hold up the stop.
    let _open = connect(stopped.url()).await;
    stopped.stop().await.unwrap();
    assert!(!is_listening(port) && !folder.exists());

    let dropped = ThrowawayPostgres::start(Options::default()).await.unwrap();
    let (port, folder) = (dropped.port(), dropped.folder().to_owned());
    drop(dropped);
    assert!(!is_listening(port) && !folder.exists());
}

#[tokio::test]
async fn committed_rows_survive_a_crash_of_the_server_and_open_transactions_do_not() {
    let mut postgres = ThrowawayPostgres::start(Options::default()).await.unwrap();
    let url = postgres.create_database("queue \"of\" ours").await.unwrap();
    let mut connection = connect(&url).await;
    for statement in [
        "create table kept as select 1 as one",
        "begin",
        "insert into kept values (2)",
    ] {
        sqlx::raw_sql(statement)
            .execute(&mut connection)
            .await
            .unwrap();
    }

    postgres.kill().await.unwrap();
    assert!(!is_listening(postgres.port()));
    sqlx::query("select")
        .execute(&mut connection)
        .await
        .unwrap_err();
    postgres.restart().await.unwrap();

    let rows: Vec<i32> = sqlx::query_scalar("select one from kept")
        .fetch_all(&mut connect(&url).await)
        .await
        .unwrap();
    assert_eq!(rows, [1]);
    postgres.restart().await.unwrap();
    connect(&url).await;
}

#[tokio::test]
async fn a_data_folder_of_ones_own_outlives_the_server() {
    // Reachable by the unprivileged user, which a folder of root's would not be.
    let parent = ThrowawayPostgres::start(Options::default()).await.unwrap();
    let data_dir = Some(parent.folder().join("kept"));
    let options = Options {
        data_dir,
        ..Options::default()
    };
    let first = ThrowawayPostgres::start(options.clone()).await.unwrap();
    first.create_database("kept").await.unwrap();
    first.stop().await.unwrap();

    let second = ThrowawayPostgres::start(options).await.unwrap();
    connect(&second.url_for("kept")).await;
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_told_in_its_own_words() {
    let extra_settings = vec![("no_such_setting".to_owned(), "1".to_owned())];
    let error = ThrowawayPostgres::start(Options {
        extra_settings,
        ..Options::default()
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn the_server_ends_with_a_parent_that_is_killed() {
    let mut parent = wxnotify()
        .arg("postgres")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(parent.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    let mut connection = connect(url.trim()).await;
    let data: PathBuf = setting(&mut connection, "data_directory").await.into();
    let port: u16 = setting(&mut connection, "port").await.parse().unwrap();
    assert!(is_listening(port) && data.exists());

    parent.kill().unwrap(); // SIGKILL
    parent.wait().unwrap();

    until("the server ends", || !is_listening(port)).await;
    until("its folder goes", || !data.parent().unwrap().exists()).await;
}

#[tokio::test]
async fn an_interrupt_from_the_terminal_does_not_reach_the_server() {
    // The whole foreground group gets the signal; the command ignores it, so all must stay up for it.
    let script = "trap '' INT; kill -INT 0; psql -Atc 'select 42'";
    let output = wxnotify()
        .args(["postgres", "--", "sh", "-c", script])
        .process_group(0)
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "42",
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_command_finds_its_database_in_the_environment_and_its_exit_code_is_ours() {
    let run = |script: &str| {
        let output = wxnotify()
            .args(["postgres", "--", "sh", "-c", script])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    assert_eq!(
        run("psql -Atc 'select 1' && psql -Atc 'select 2' \"$DATABASE_URL\""),
        (Some(0), "1\n2\n".to_owned())
    );
    assert_eq!(run("exit 7").0, Some(7));
    assert_eq!(run("kill -TERM $$").0, Some(128 + 15));
    assert_eq!(run("kill -KILL $$").0, Some(128 + 9));
}

#[test]
fn the_server_never_runs_as_root() {
    let script =
        r#"ps -o user= -p "$(head -1 "$(psql -Atc 'show data_directory')/postmaster.pid")""#;
    let output = wxnotify()
        .args(["postgres", "--", "sh", "-c", script])
        .output()
        .unwrap();
    let user = String::from_utf8(output.stdout).unwrap();
    assert!(
        !user.trim().is_empty() && user.trim() != "root",
        "{user:?} {:?}",
        output.stderr
    );
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let output = wxnotify()
        .args(["postgres", "--", "no-such-command"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-command"));
}

#[test]
fn without_server_binaries_every_place_looked_at_is_named_with_the_command_to_install() {
    let output = wxnotify()
        .args(["postgres", "--", "true"])
        .env("PG_BIN", "/nowhere/bin")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{stderr}");
    assert!(
        stderr.contains("PG_BIN=/nowhere/bin: no initdb"),
        "{stderr}"
    );
    assert!(stderr.contains("install"), "{stderr}");
}

/// Makes programs that only print `version` below `root`.
fn fake_server(root: &Path, folder: &str, version: &str) -> PathBuf {
    let folder = root.join(folder);
    fs::create_dir_all(&folder).unwrap();
    for program in ["initdb", "postgres"] {
        let path = folder.join(program);
        fs::write(
            &path,
            format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

#[test]
fn the_newest_of_the_usual_folders_is_taken_and_old_ones_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let nowhere = std::ffi::OsStr::new("/nowhere");
    let find = || postgres::find_binaries(None, nowhere, root.path());

    let error = find().unwrap_err().to_string();
    for place in [
        "pg_config",
        "/nowhere",
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "homebrew",
    ] {
        assert!(error.contains(place), "{place} is not in: {error}");
    }
    fake_server(root.path(), "usr/lib/postgresql/13/bin", "13.9");
    assert!(
        find()
            .unwrap_err()
            .to_string()
            .contains("version 13 is too old")
    );
    fake_server(root.path(), "usr/lib/postgresql/9/bin", "9.6.24");
    let fifteen = fake_server(
        root.path(),
        "usr/lib/postgresql/15/bin",
        "15.8 (Debian 15.8-1)",
    );
    assert_eq!(find().unwrap(), fifteen);
    let newest = fake_server(root.path(), "usr/lib/postgresql/18/bin", "18beta1");
    assert_eq!(find().unwrap(), newest);
    let on_path = fake_server(root.path(), "opt/mine", "16.1");
    assert_eq!(
        postgres::find_binaries(None, on_path.as_os_str(), root.path()).unwrap(),
        on_path
    );
}

#[test]
fn the_servers_own_programs_are_on_the_commands_path() {
    let script = "command -v initdb && command -v psql";
    let output = wxnotify()
        .args(["postgres", "--", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
