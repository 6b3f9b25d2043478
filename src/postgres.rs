//! A throwaway Postgres: a cluster of its own, gone with the process that started it.
//!
//! [`ThrowawayPostgres::start`] makes a cluster in a temporary folder with the server binaries found
//! on the machine and listens on a free loopback port and a Unix socket. The demo, the tests and
//! `wxnotify postgres -- CMD…` stand on it.
//!
//! The server is the child of a small shell, the *supervisor*, which holds the reading end of a pipe
//! from us. However our process ends, `kill -9` included, the pipe ends with it, and the supervisor
//! then stops the server and deletes the folder. It has a process group of its own, so the Ctrl-C
//! of a terminal reaches us and not the server.
//!
//! By default nothing is durable: a power cut may lose everything. [`Options::durable`] is for
//! measurements and crash tests. Anybody on the machine may connect as superuser through loopback, so
//! no real data belongs in here.
//!
//! Start at [`ThrowawayPostgres::start`].

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use rand::RngExt;
use rand::distr::Alphanumeric;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::signals::StopSignals;

/// The oldest major version of Postgres that the schema runs on.
const MAJOR_VERSION_MIN: u32 = 14;
/// How long a server may take until it accepts connections; recovery after a crash is part of it.
const START_WITHIN: Duration = Duration::from_secs(90);
/// Holds the password of a cluster beside its data.
const PASSWORD_FILE: &str = "wxnotify_password";
/// A Unix socket's path is at most 103 bytes on macOS, and ours ends in `/.s.PGSQL.12345`.
const FOLDER_PATH_BYTES_MAX: usize = 60;

/// Starts, stops and buries the server; `$1` is the folder to delete, the rest the server's command.
const SUPERVISOR: &str = r#"
folder=$1; shift
server=
halt() {
    [ -n "$server" ] || return 0
    kill -"$1" "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}
trap 'halt QUIT; rm -rf -- "$folder"' EXIT
trap 'exit 1' HUP INT TERM
while read -r command port; do
    case $command in
        start) "$@" -p "$port" </dev/null >>"$folder/log" 2>&1 & server=$!; echo "$server" ;;
        stop) halt INT; echo stopped ;;
        kill) halt QUIT; echo stopped ;;
    esac
done
"#;

/// Whether the server's log says that it will not come up. Clients that come too early are told "FATAL" as well.
fn has_given_up(log: &str) -> bool {
    log.lines().any(|line| {
        (line.contains("FATAL:") || line.contains("PANIC:"))
            && !line.contains("the database system is ")
    })
}

/// How a throwaway cluster is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Writes reach the disk before a commit returns (`fsync`, `full_page_writes`).
    pub durable: bool,
    /// Server settings, name and value; they win over ours.
    pub extra_settings: Vec<(String, String)>,
    /// Where the cluster lives. It is made if missing, used if it holds a cluster, and never deleted.
    /// `None`: a temporary folder, deleted at the end.
    pub data_dir: Option<PathBuf>,
    /// Environment variables of the server.
    pub environment: Vec<(String, String)>,
    /// Let everybody on this machine in without a password, as superuser: for tests of our own that make addresses themselves.
    pub trust: bool,
}

/// Why there is no throwaway Postgres.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// No server binaries. Install them, or say where they are.
    #[error(
        "no PostgreSQL server (initdb and postgres, version {MAJOR_VERSION_MIN} or newer) found; looked at:\n{}\n\
         Next: install it with\n    {install}\nor set PG_BIN to the folder that holds both programs",
        .looked.iter().map(|place| format!("    {place}")).collect::<Vec<_>>().join("\n")
    )]
    NotFound {
        /// Every place that was looked at, and what was wrong with it.
        looked: Vec<String>,
        /// The command that installs a server on this machine.
        install: &'static str,
    },

    /// Run by root, and the machine has neither the user `postgres` nor `nobody`.
    #[error(
        "Postgres refuses to run as root and there is neither a user `postgres` nor `nobody` to run it as; \
         next: run as an ordinary user, or create the user `postgres`"
    )]
    NoUnprivilegedUser,

    /// `initdb` failed; its own words follow.
    #[error("initdb could not make a cluster in {}: {output}", .folder.display())]
    Initdb {
        /// The data folder.
        folder: PathBuf,
        /// What `initdb` printed.
        output: String,
    },

    /// The server did not come up; the end of its log follows.
    #[error("the Postgres server did not start: {reason}; the end of its log:\n{log}")]
    NotStarted {
        /// What was waited for.
        reason: &'static str,
        /// The last lines of the server's log.
        log: String,
    },

    /// A database could not be made.
    #[error("database {name} was not created: {source}")]
    CreateDatabase {
        /// The database's name.
        name: String,
        /// The server's answer.
        source: sqlx::Error,
    },

    /// A folder could not be made, or a program not started.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> PostgresError {
    let what = what.into();
    move |source| PostgresError::Io { what, source }
}

/// A running throwaway cluster. Dropping it stops the server at once and deletes its folder.
#[derive(Debug)]
pub struct ThrowawayPostgres {
    supervisor: Supervisor,
    binaries: PathBuf,
    folder: PathBuf,
    data: PathBuf,
    port: u16,
    /// Empty where everybody is let in.
    password: String,
    url: String,
}

impl ThrowawayPostgres {
    /// Makes a cluster and waits until it accepts connections, a second or two.
    ///
    /// # Errors
    ///
    /// See [`PostgresError`]; nothing is left behind.
    pub async fn start(options: Options) -> Result<Self, PostgresError> {
        run_blocking(move || Self::start_blocking(&options)).await
    }

    /// [`ThrowawayPostgres::start`] for code outside an async runtime.
    ///
    /// # Errors
    ///
    /// See [`PostgresError`].
    pub fn start_blocking(options: &Options) -> Result<Self, PostgresError> {
        let binaries = find_binaries(
            env::var_os("PG_BIN").as_deref().map(Path::new),
            env::var_os("PATH").as_deref().unwrap_or_default(),
            Path::new("/"),
        )?;
        let user = unprivileged_user()?;
        let folder = make_folder(user.as_ref())?;
        let made = Self::start_in(&binaries, user.as_ref(), &folder, options);
        if made.is_err() {
            // The supervisor, if it got that far, deletes it too.
            let _ = fs::remove_dir_all(&folder);
        }
        made
    }

    fn start_in(
        binaries: &Path,
        user: Option<&User>,
        folder: &Path,
        options: &Options,
    ) -> Result<Self, PostgresError> {
        let data = match &options.data_dir {
            Some(data) => std::path::absolute(data).map_err(io_error("data folder"))?,
            None => folder.join("data"),
        };
        if !data.join("PG_VERSION").exists() {
            initialise(binaries, user, folder, &data, options.trust)?;
        }
        // A cluster that was kept has the password it was made with, or none.
        let password = fs::read_to_string(data.join(PASSWORD_FILE)).unwrap_or_default();
        let mut server = vec![binaries.join("postgres").into_os_string(), "-D".into()];
        server.push(data.clone().into_os_string());
        for (name, value) in server_settings(folder, options) {
            server.push("-c".into());
            server.push(format!("{name}={value}").into());
        }
        let mut postgres = Self {
            supervisor: Supervisor::spawn(user, folder, &server, &options.environment)?,
            binaries: binaries.to_owned(),
            folder: folder.to_owned(),
            data,
            port: 0,
            password,
            url: String::new(),
        };
        postgres.serve()?;
        Ok(postgres)
    }

    /// Starts the server on a free port; another program may take the port first, then on another.
    fn serve(&mut self) -> Result<(), PostgresError> {
        let mut tries_left = 5;
        loop {
            tries_left -= 1;
            let port = if self.port == 0 {
                free_port()?
            } else {
                self.port
            };
            match self.serve_on(port) {
                Err(PostgresError::NotStarted { log, .. })
                    if tries_left > 0
                        && self.port == 0
                        && log.contains("could not create any TCP/IP sockets") => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.port = port;
                    self.url = self.url_for("postgres");
                    return Ok(());
                }
            }
        }
    }

    fn serve_on(&mut self, port: u16) -> Result<(), PostgresError> {
        let log_path = self.folder.join("log");
        let log_start = fs::metadata(&log_path).map_or(0, |log| log.len());
        let pid = self.supervisor.order(&format!("start {port}"))?;
        let deadline = Instant::now() + START_WITHIN;
        loop {
            // The file's first line is the server's process, its eighth the server's state.
            let state = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
            let mut lines = state.lines();
            if lines.next() == Some(pid.as_str()) && lines.nth(6).map(str::trim) == Some("ready") {
                return Ok(());
            }
            let log = read_from(&log_path, log_start);
            let reason = if has_given_up(&log) {
                "it gave up"
            } else if Instant::now() > deadline {
                "it accepted no connection in time"
            } else {
                #[allow(
                    clippy::disallowed_methods,
                    reason = "a thread of its own asks, and no runtime may be there"
                )]
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            self.supervisor.order("kill")?;
            let log = last_lines(&log, 20);
            return Err(PostgresError::NotStarted { reason, log });
        }
    }

    /// `postgres://…` of the database `postgres`, over TCP on loopback, as superuser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL of the database `dbname`, which may or may not exist.
    #[must_use]
    pub fn url_for(&self, dbname: &str) -> String {
        let password = match self.password() {
            "" => String::new(),
            password => format!(":{password}"),
        };
        format!(
            "postgres://postgres{password}@127.0.0.1:{}/{dbname}?sslmode=disable",
            self.port
        )
    }

    /// The superuser's password, of letters and digits; empty where everybody is let in.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The loopback port. It stays the same over a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the server's programs, `psql` among them as a rule.
    #[must_use]
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// The folder of the Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// The folder of everything temporary: socket, log and, unless it has a place of its own, the data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates the database `name` and returns its URL.
    ///
    /// # Errors
    ///
    /// [`PostgresError::CreateDatabase`]: it exists, or the server is down.
    pub async fn create_database(&self, name: &str) -> Result<String, PostgresError> {
        // An identifier cannot be a parameter, so this statement is built here and has no file in `sql/`.
        let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
        let create = async {
            let mut connection = PgConnection::connect(self.url()).await?;
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut connection)
                .await?;
            connection.close().await
        };
        match create.await {
            Ok(()) => Ok(self.url_for(name)),
            Err(source) => Err(PostgresError::CreateDatabase {
                name: name.to_owned(),
                source,
            }),
        }
    }

    /// Stops the server in an orderly way (open transactions are rolled back) and deletes its folder.
    ///
    /// # Errors
    ///
    /// The supervisor is gone; then so is the server.
    pub async fn stop(mut self) -> Result<(), PostgresError> {
        run_blocking(move || self.supervisor.order("stop").map(drop)).await
    }

    /// Makes the server crash: every connection breaks, nothing is written out. The folder stays;
    /// [`ThrowawayPostgres::restart`] brings it back through recovery.
    ///
    /// # Errors
    ///
    /// The supervisor is gone.
    pub async fn kill(&mut self) -> Result<(), PostgresError> {
        in_place(|| self.supervisor.order("kill").map(drop))
    }

    /// Starts the server again on its port, stopping it first in an orderly way if it runs.
    ///
    /// # Errors
    ///
    /// See [`PostgresError`].
    pub async fn restart(&mut self) -> Result<(), PostgresError> {
        in_place(|| {
            self.supervisor.order("stop")?;
            self.serve()
        })
    }
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, PostgresError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PostgresError::Io {
            what: "starting or stopping Postgres".into(),
            source: error.into(),
        }),
    }
}

/// Blocks this thread, and lets the runtime's other threads take over its tasks if there are any.
fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The shell that owns the server; see [`SUPERVISOR`].
#[derive(Debug)]
struct Supervisor {
    child: Child,
    /// `None` once dropped: closing it is what ends the supervisor.
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Supervisor {
    fn spawn(
        user: Option<&User>,
        folder: &Path,
        server: &[OsString],
        environment: &[(String, String)],
    ) -> Result<Self, PostgresError> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SUPERVISOR, "wxnotify-postgres"])
            .arg(folder)
            .args(server);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child = prepare(&mut command, user)
            .envs(environment.iter().cloned())
            .spawn()
            .map_err(io_error("starting /bin/sh as the server's supervisor"))?;
        let orders = child.stdin.take();
        let replies = BufReader::new(child.stdout.take().expect("its standard output is piped"));
        Ok(Self {
            child,
            orders,
            replies,
        })
    }

    /// Sends one order and waits for the reply: the server's process id after `start`, else `stopped`.
    fn order(&mut self, order: &str) -> Result<String, PostgresError> {
        let mut reply = String::new();
        let mut exchange = || {
            let orders = self.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
            writeln!(orders, "{order}")?;
            match self.replies.read_line(&mut reply)? {
                0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                _ => Ok(()),
            }
        };
        exchange().map_err(io_error(format!("the server's supervisor did not {order}")))?;
        Ok(reply.trim().to_owned())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.orders.take();
        let _ = self.child.wait();
    }
}

/// Lowers a command's rights to `user` and keeps our environment's Postgres variables from it.
fn prepare<'a>(command: &'a mut Command, user: Option<&User>) -> &'a mut Command {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    if let Some(user) = user {
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .env("HOME", "/");
    }
    command.current_dir("/")
}

/// Whom the server runs as: nobody but ourselves, unless we are root, whom Postgres refuses.
fn unprivileged_user() -> Result<Option<User>, PostgresError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok(Some(user));
        }
    }
    Err(PostgresError::NoUnprivilegedUser)
}

/// Makes the temporary folder, owned by `user`, where a socket's path is short enough and `user` may go.
fn make_folder(user: Option<&User>) -> Result<PathBuf, PostgresError> {
    let reachable = |folder: &Path| {
        user.is_none()
            || folder
                .ancestors()
                .all(|folder| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0))
    };
    let parent = [env::temp_dir(), "/tmp".into(), "/var/tmp".into()]
        .into_iter()
        .find(|folder| {
            folder.as_os_str().len() <= FOLDER_PATH_BYTES_MAX
                && folder.is_dir()
                && reachable(folder)
        })
        .ok_or_else(|| {
            io_error("no temporary folder that the server may use; set TMPDIR to a short path")(
                io::ErrorKind::NotFound.into(),
            )
        })?;
    let folder = tempfile::Builder::new()
        .prefix("wxnotify-postgres-")
        .tempdir_in(&parent)
        .map_err(io_error(format!("a folder in {}", parent.display())))?
        .keep();
    let socket = folder.join("socket");
    fs::create_dir(&socket).map_err(io_error(format!("folder {}", socket.display())))?;
    give(&socket, user)?;
    give(&folder, user)?;
    // Who has the password may connect through loopback and through the socket.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))
        .and_then(|()| fs::set_permissions(&socket, fs::Permissions::from_mode(0o711)))
        .map_err(io_error(format!("permissions of {}", folder.display())))?;
    Ok(folder)
}

fn give(path: &Path, user: Option<&User>) -> Result<(), PostgresError> {
    match user {
        Some(user) => chown(path, Some(user.uid), Some(user.gid)).map_err(|errno| {
            io_error(format!("giving {} to {}", path.display(), user.name))(errno.into())
        }),
        None => Ok(()),
    }
}

/// Makes a cluster. Its superuser is let in by a password of chance, in clear: neither a socket nor loopback is overheard by
/// those it keeps out, and a derived one would cost each connection of a test milliseconds.
fn initialise(
    binaries: &Path,
    user: Option<&User>,
    folder: &Path,
    data: &Path,
    trust: bool,
) -> Result<(), PostgresError> {
    fs::create_dir_all(data).map_err(io_error(format!("folder {}", data.display())))?;
    give(data, user)?;
    let password = rand::rng()
        .sample_iter(Alphanumeric)
        .take(32)
        .map(char::from)
        .collect::<String>();
    let given = folder.join(PASSWORD_FILE);
    if !trust {
        write_secret(&given, &password, user)?;
    }
    let mut output = String::new();
    // C.UTF-8 orders by code point and knows upper case beyond ASCII; not every system has it.
    for locale in ["C.UTF-8", "C"] {
        let mut command = Command::new(binaries.join("initdb"));
        command.arg("-D").arg(data).args([
            "-U",
            "postgres",
            if trust {
                "--auth=trust"
            } else {
                "--auth=password"
            },
            "--encoding=UTF8",
            "--no-sync",
        ]);
        command.args([
            "--no-instructions",
            &format!("--locale={locale}"),
            "--lc-messages=C",
        ]);
        if !trust {
            command.arg("--pwfile").arg(&given);
        }
        command.stdin(Stdio::null()).process_group(0);
        let finished = prepare(&mut command, user)
            .output()
            .map_err(io_error("starting initdb"))?;
        if finished.status.success() {
            return if trust {
                Ok(())
            } else {
                write_secret(&data.join(PASSWORD_FILE), &password, user)
            };
        }
        output = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
    }
    Err(PostgresError::Initdb {
        folder: data.to_owned(),
        output,
    })
}

/// Writes a file that the server's user alone may read.
fn write_secret(path: &Path, secret: &str, user: Option<&User>) -> Result<(), PostgresError> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(secret.as_bytes()))
        .map_err(io_error(format!("file {}", path.display())))?;
    give(path, user)
}

fn server_settings(folder: &Path, options: &Options) -> Vec<(String, String)> {
    let durable = if options.durable { "on" } else { "off" };
    let ours = [
        ("listen_addresses", "127.0.0.1"),
        (
            "unix_socket_directories",
            &folder.join("socket").to_string_lossy(),
        ),
        ("fsync", durable),
        ("full_page_writes", durable),
        ("synchronous_commit", "on"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    ours.into_iter()
        .chain(options.extra_settings.iter().cloned())
        .collect()
}

/// A loopback port that was free a moment ago.
fn free_port() -> Result<u16, PostgresError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io_error("a free loopback port"))
}

fn read_from(path: &Path, start: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let start = usize::try_from(start)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    String::from_utf8_lossy(&bytes[start..]).into_owned()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Finds the folder of `initdb` and `postgres`: `pg_bin` (then nowhere else), what `pg_config` on `path`
/// says, the folders of `path`, then the usual places under `root`, the newest version first.
///
/// # Errors
///
/// [`PostgresError::NotFound`] names every place and what it lacks.
pub fn find_binaries(
    pg_bin: Option<&Path>,
    path: &OsStr,
    root: &Path,
) -> Result<PathBuf, PostgresError> {
    let mut looked = Vec::new();
    let mut places: Vec<(String, PathBuf)> = Vec::new();
    if let Some(folder) = pg_bin {
        places.push((format!("PG_BIN={}", folder.display()), folder.to_owned()));
    } else {
        match pg_config_bindir(path) {
            Some(folder) => {
                places.push((format!("pg_config --bindir: {}", folder.display()), folder))
            }
            None => looked.push("pg_config --bindir: no such program on PATH".to_owned()),
        }
        places.extend(
            env::split_paths(path).map(|folder| (format!("PATH: {}", folder.display()), folder)),
        );
        for pattern in USUAL_PLACES {
            let found = expand(root, pattern);
            if found.is_empty() {
                looked.push(format!("/{pattern}: no such folder"));
            }
            places.extend(
                found
                    .into_iter()
                    .map(|folder| (folder.display().to_string(), folder)),
            );
        }
    }
    for (place, folder) in places {
        match server_version(&folder) {
            Ok(version) if version >= MAJOR_VERSION_MIN => return Ok(folder),
            Ok(version) => looked.push(format!("{place}: version {version} is too old")),
            Err(lack) => looked.push(format!("{place}: {lack}")),
        }
    }
    Err(PostgresError::NotFound {
        looked,
        install: install_command(root),
    })
}

/// Where packages put the server; `*` stands for a version. Debian, RHEL, Homebrew, Postgres.app, Gentoo, Alpine, source.
const USUAL_PLACES: &[&str] = &[
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
    "usr/lib64/postgresql-*/bin",
    "usr/libexec/postgresql*",
    "usr/local/pgsql/bin",
];

fn pg_config_bindir(path: &OsStr) -> Option<PathBuf> {
    let program = env::split_paths(path)
        .map(|folder| folder.join("pg_config"))
        .find(|program| program.is_file())?;
    let output = Command::new(program)
        .arg("--bindir")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let bindir = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !bindir.trim().is_empty()).then(|| PathBuf::from(bindir.trim()))
}

/// The major version of the server in `folder`, or what is missing.
fn server_version(folder: &Path) -> Result<u32, String> {
    for program in ["initdb", "postgres"] {
        if !folder.join(program).is_file() {
            return Err(format!("no {program}"));
        }
    }
    let output = Command::new(folder.join("postgres"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("postgres --version: {error}"))?;
    // "postgres (PostgreSQL) 15.8 (Debian 15.8-1)", "postgres (PostgreSQL) 18beta1"
    let printed = String::from_utf8_lossy(&output.stdout);
    let version = printed.split_whitespace().nth(2).unwrap_or_default();
    let major: String = version.chars().take_while(char::is_ascii_digit).collect();
    major
        .parse()
        .map_err(|_| format!("postgres --version printed {:?}", printed.trim()))
}

/// The folders under `root` that match a pattern with at most one `*`, the highest number first.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return Some(root.join(pattern))
            .filter(|folder| folder.is_dir())
            .into_iter()
            .collect();
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(root.join(parent))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name
                .strip_prefix(prefix)?
                .split(|letter: char| !letter.is_ascii_digit());
            let version = version.filter_map(|number| number.parse().ok()).collect();
            let folder = entry.path().join(after.trim_start_matches('/'));
            folder.is_dir().then_some((version, folder))
        })
        .collect();
    found.sort_by(|left, right| right.cmp(left));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn install_command(root: &Path) -> &'static str {
    let has = |program: &str| root.join(program).exists();
    if has("usr/bin/apt-get") {
        "sudo apt-get update && sudo apt-get install -y postgresql"
    } else if has("usr/bin/dnf") {
        "sudo dnf install -y postgresql-server"
    } else if has("sbin/apk") {
        "sudo apk add postgresql"
    } else if has("usr/bin/pacman") {
        "sudo pacman -S postgresql"
    } else if has("usr/bin/zypper") {
        "sudo zypper install postgresql-server"
    } else if cfg!(target_os = "macos") {
        "brew install postgresql@17"
    } else {
        "your system's package manager (package postgresql or postgresql-server)"
    }
}

/// Arguments of `wxnotify postgres`.
#[derive(Debug, clap::Args)]
#[command(after_help = "The exit code is CMD's; 128 + n if signal n ended it.")]
pub struct Args {
    /// Write every commit to the disk before it returns (default: nothing survives a power cut)
    #[arg(long)]
    pub durable: bool,
    /// Keep the cluster in this folder instead of a temporary one that is deleted at the end
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// A server setting, for example `max_connections=500`; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_server_setting)]
    pub settings: Vec<(String, String)>,
    /// The command to run; without one the server stays up until Ctrl-C
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

fn parse_server_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("write it as NAME=VALUE, for example max_connections=500".to_owned()),
    }
}

/// Runs a command with `DATABASE_URL` (and `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`) set to a throwaway
/// cluster. The exit code is the command's; 128 + n if signal n ended it.
///
/// # Errors
///
/// The cluster did not start, or the command could not be started.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        durable: args.durable,
        extra_settings: args.settings,
        data_dir: args.data_dir,
        ..Options::default()
    };
    let mut signals = StopSignals::listen()?;
    let postgres = tokio::select! {
        started = ThrowawayPostgres::start(options) => started?,
        // The start goes on in the background, and what it started is dropped.
        signal = signals.next() => return Ok(ExitCode::from(exit_code_of_signal(signal as i32))),
    };
    let Some((program, arguments)) = args.command.split_first() else {
        let _ = writeln!(io::stderr(), "Postgres is up until Ctrl-C:");
        writeln!(io::stdout(), "{}", postgres.url())?;
        signals.next().await;
        postgres.stop().await?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .env("DATABASE_URL", postgres.url())
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", postgres.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGPASSWORD", postgres.password())
        .env("PGDATABASE", "postgres")
        .env("PGSSLMODE", "disable")
        .env("PATH", path_ending_in(postgres.binaries()))
        .env_remove("PGSERVICE")
        .env_remove("PGOPTIONS")
        .env_remove("PGHOSTADDR");
    let mut child = command
        .spawn()
        .map_err(|error| anyhow::anyhow!("could not start {}: {error}", program.display()))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            signal = signals.next() => match signal {
                // The terminal sent it to the command too; what it does then is its own affair.
                Signal::SIGINT => {}
                signal => forward(&child, signal),
            }
        }
    };
    postgres.stop().await?;
    Ok(ExitCode::from(exit_code_of(status)))
}

fn forward(child: &tokio::process::Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended meanwhile; then its status is on the way.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Our `PATH` with the server's programs behind it, so that `psql` is found even where packages hide it.
fn path_ending_in(folder: &Path) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([folder.to_owned()]);
    env::join_paths(folders).unwrap_or(path)
}

/// The exit code that tells of `status` as a shell would: 128 + n for signal n.
fn exit_code_of(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.or_else(|| status.signal().map(exit_code_of_signal))
        .unwrap_or(1)
}

fn exit_code_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
