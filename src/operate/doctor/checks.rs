//! From what was found to a verdict: pure, one function a subject.
//!
//! Start at [`Verdict`] and [`Finding`]; each function then stands for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::AppSecrets;
use crate::legible::{command, few, legible};
use crate::operate::commands::looks::resume_command;
use crate::reminder::zone::ZONE_DATA;
use crate::schema::Standing;
use crate::store::checks::Check;
use crate::store::doctor::{
    AppCare, Backends, BrokenObject, ForeignEvents, ForeignObject, Holder, LapsedLeases,
    LogSettings, MissingTraces, MonthPartition, Rights, Server, StaleSequence, TableCare,
    UnidentifiedTable,
};
use crate::store::schedules::DifferingZone;
use crate::store::status::{Backlog, Blocker, LiveWorker, Pause};
use crate::store::{Address, Durability, StoreError};

/// How many connections a worker takes unless told otherwise, and at least.
const CONNECTIONS_USUAL: u32 = 6;
const CONNECTIONS_LEAST: u32 = 3;

/// How many pauses get a finding each: a producer can have any number of templates refused.
const PAUSES_MAX: usize = 20;

/// How bad it is; in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// This user, or this call, cannot look.
    NotVisible,
    /// It will hurt, or hurts a little.
    Warning,
    /// Notifications are not sent, are sent twice or may be lost.
    Failure,
}

/// One answer of the doctor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// What to do; `None` while it is well.
    pub next: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>, why: &str) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            why: why.to_owned(),
            next: None,
        }
    }

    fn warning(
        check: &'static str,
        found: impl Into<String>,
        why: &str,
        next: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warning,
            next: Some(next.into()),
            ..Self::ok(check, found, why)
        }
    }

    pub(super) fn failure(
        check: &'static str,
        found: impl Into<String>,
        why: &str,
        next: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Failure,
            next: Some(next.into()),
            ..Self::ok(check, found, why)
        }
    }

    pub(super) fn not_looked_at(check: &'static str, reason: &str) -> Self {
        Self {
            verdict: Verdict::NotVisible,
            ..Self::ok(check, format!("not looked at: {reason}"), "")
        }
    }

    /// What the database said instead of an answer.
    pub(super) fn of_error(check: &'static str, error: &StoreError) -> Self {
        match error.sqlstate().as_deref() {
            Some("42501") => Self {
                verdict: Verdict::NotVisible,
                ..Self::ok(check, "not visible to this role", "")
            },
            Some("42P01" | "42883" | "42703") => Self::failure(
                check,
                "the schema lacks what is looked at",
                "the schema is older than this program, or not on the search_path",
                "run `wxnotify migrate` as the owner of the tables",
            ),
            _ => Self::failure(
                check,
                error.to_string(),
                "the database did not answer a question that takes no time",
                "run `wxnotify doctor` again; if it repeats, look at the server's log and load",
            ),
        }
    }
}

/// Version, role in replication, settings that a crash or an error would teach.
#[must_use]
pub fn server(server: &Server) -> Vec<Finding> {
    let mut findings = vec![database(server), crash_safety(server), isolation(server)];
    if server.read_only && !server.is_standby {
        findings.push(Finding::failure(
            "writes",
            "default_transaction_read_only is on",
            "workers can neither lease nor settle, and producers cannot insert",
            "reset it where it is set: ALTER SYSTEM, ALTER DATABASE … or ALTER ROLE … RESET default_transaction_read_only",
        ));
    }
    findings.extend([
        encoding(server),
        connections(server),
        transaction_ids(server),
    ]);
    if !server.autovacuum {
        findings.push(Finding::failure(
            "autovacuum of the server",
            "autovacuum or track_counts is off",
            "a queue's tables grow without end and every statement grows slower",
            "set autovacuum = on and track_counts = on, and reload",
        ));
    }
    findings
}

fn crash_safety(server: &Server) -> Finding {
    if !server.fsync {
        Finding::failure(
            "crash safety",
            "fsync is off",
            "a crash of the machine destroys the database, and with it what was sent",
            "set fsync = on and reload",
        )
    } else if !server.full_page_writes {
        Finding::warning(
            "crash safety",
            "full_page_writes is off",
            "a crash of the machine may leave half-written pages, unless the file system rules them out",
            "set full_page_writes = on and reload",
        )
    } else {
        Finding::ok("crash safety", "fsync and full_page_writes are on", "")
    }
}

fn isolation(server: &Server) -> Finding {
    if server.isolation == "read committed" {
        return Finding::ok("isolation level", "read committed", "");
    }
    Finding::warning(
        "isolation level",
        format!("default_transaction_isolation is {}", server.isolation),
        "workers set their own; a producer's statement may fail with 40001 beside them, and an operator's verb is refused",
        "reset it: ALTER DATABASE … or ALTER ROLE … RESET default_transaction_isolation",
    )
}

fn connections(server: &Server) -> Finding {
    let found = format!("{} of {} taken", server.connections, server.connections_max);
    if server.connections * 100 / server.connections_max.max(1) < 90 {
        return Finding::ok("connections", found, "");
    }
    Finding::warning(
        "connections",
        found,
        "when they run out, workers and producers are refused",
        "raise max_connections, or look in pg_stat_activity for programs that keep many",
    )
}

fn transaction_ids(server: &Server) -> Finding {
    let used = server.transaction_ids_used;
    let found = format!("{} million of 2000 used", used / 1_000_000);
    let why = "Postgres refuses every write before they run out";
    let next = "find what keeps VACUUM from freezing (below), then VACUUM FREEZE the oldest tables";
    match used {
        0..1_000_000_000 => Finding::ok("transaction ids", found, ""),
        1_000_000_000..1_600_000_000 => Finding::warning("transaction ids", found, why, next),
        _ => Finding::failure("transaction ids", found, why, next),
    }
}

fn encoding(server: &Server) -> Finding {
    let found = format!("text is stored as {}", server.encoding);
    let why = "messages hold 年, 元 and whatever users are called";
    if server.encoding == "UTF8" {
        return Finding::ok("encoding", found, why);
    }
    Finding::failure(
        "encoding",
        found,
        why,
        "create another database with ENCODING 'UTF8' TEMPLATE template0 and move there: an encoding cannot be changed",
    )
}

/// Whether the role and the database may have as many connections as a worker takes, `wanted` by the settings at hand.
#[must_use]
pub fn connection_limits(server: &Server, wanted: Option<u32>) -> Vec<Finding> {
    let wanted = i64::from(wanted.unwrap_or(CONNECTIONS_USUAL));
    let limits = [
        (
            "connections of the role",
            server.role_connections_max,
            server.role_connections,
            "ALTER ROLE … CONNECTION LIMIT",
        ),
        (
            "connections of the database",
            server.database_connections_max,
            server.database_connections,
            "ALTER DATABASE … CONNECTION LIMIT",
        ),
    ];
    let judge = |(check, most, taken, how): (_, Option<i64>, i64, &str)| {
        let most = most?;
        let found = format!("{taken} of {most} taken; a worker takes {wanted}");
        let why = "a worker that gets fewer is slow, with fewer than 3 it stands still, and operators are refused";
        let next =
            format!("raise the limit with {how}, for each worker {wanted} and some for operators");
        Some(if most < i64::from(CONNECTIONS_LEAST) {
            Finding::failure(check, found, why, next)
        } else if most <= wanted || taken * 100 >= most * 90 {
            Finding::warning(check, found, why, next)
        } else {
            Finding::ok(check, found, why)
        })
    };
    limits.into_iter().filter_map(judge).collect()
}

/// Whether this user may open as many files as a worker with the settings at hand needs: `(now, at most)` of `wanted`.
#[must_use]
pub fn descriptors(limits: Option<(u64, u64)>, wanted: u64) -> Finding {
    let check = "file descriptors";
    let Some((_, most)) = limits else {
        return Finding::not_looked_at(check, "the system does not tell");
    };
    let found = format!("{most} here; a worker needs {wanted}");
    let why =
        "each send, connection and request needs one; without it WeChat seems to be out of reach";
    if most >= wanted {
        return Finding::ok(check, found, why);
    }
    let next = "raise it: LimitNOFILE= for systemd, ulimits for containers, ulimit -n for a shell; the worker's own is in /proc/PID/limits";
    Finding::failure(check, found, why, next)
}

/// Whether no id can be given twice.
#[must_use]
pub fn sequences(stale: &[StaleSequence]) -> Finding {
    let why = "a new row would get the id of an old one: explain and the history would mix them up";
    if stale.is_empty() {
        return Finding::ok("ids", "every sequence is ahead of its table", why);
    }
    let list = |words: &dyn Fn(&StaleSequence) -> String, between: &str| {
        stale.iter().map(words).collect::<Vec<_>>().join(between)
    };
    let found = list(
        &|stale| {
            format!(
                "the sequence of {}.{} is behind {}",
                stale.table_name, stale.column_name, stale.highest
            )
        },
        ", ",
    );
    let next = list(
        &|stale| {
            let StaleSequence {
                table_name,
                column_name,
                highest,
            } = stale;
            format!(
                "select setval(pg_get_serial_sequence('{table_name}', '{column_name}'), {highest})"
            )
        },
        "; ",
    );
    Finding::failure(
        "ids",
        found,
        why,
        format!("stop workers and producers, then {next}"),
    )
}

fn database(server: &Server) -> Finding {
    let found = format!("PostgreSQL {}", server.version);
    if server.is_standby {
        return Finding::failure(
            "database",
            format!("{found}, a standby"),
            "a standby cannot be written: workers can neither lease nor settle",
            "let DATABASE_URL lead to the primary, for instance through its virtual address",
        );
    }
    if server.version_number < 140_000 {
        return Finding::failure(
            "database",
            found,
            "wxnotify needs PostgreSQL 14 or newer",
            "upgrade the server",
        );
    }
    Finding::ok("database", found, "")
}

/// How far this machine's clock is from the database's, which must have read its own between asking and answering.
#[must_use]
pub fn clock(
    database: DateTime<Utc>,
    asked_at: DateTime<Utc>,
    answered_at: DateTime<Utc>,
) -> Finding {
    let off = if database < asked_at {
        asked_at - database
    } else if database > answered_at {
        database - answered_at
    } else {
        TimeDelta::zero()
    };
    let side = if database < asked_at {
        "ahead of"
    } else {
        "behind"
    };
    if off < TimeDelta::milliseconds(1000) {
        return Finding::ok("clock", "agrees with the database's", "");
    }
    let found = format!(
        "this machine is {:.1} s {side} the database",
        off.num_milliseconds() as f64 / 1000.0
    );
    let why = "leases go by the database's clock, but times in logs, in TLS and of WeChat's events are compared with this one's";
    let next = "let both machines keep their time by NTP";
    if off >= TimeDelta::seconds(30) {
        Finding::failure("clock", found, why, next)
    } else {
        Finding::warning("clock", found, why, next)
    }
}

/// Whether others on the way can read or alter what is stored.
#[must_use]
pub fn encryption(address: &Address, encrypted: bool) -> Finding {
    let is_local = |options: &PgConnectOptions| {
        let host = options.get_host();
        options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    };
    // All hosts have one mode, but for sockets, which need none.
    let distant = address.hosts().find(|options| !is_local(options));
    let why = "messages, openids and access tokens pass this connection";
    let next = "add sslmode=verify-full and sslrootcert=… to DATABASE_URL";
    let Some(distant) = distant else {
        return Finding::ok("encryption", "the database is on this machine", why);
    };
    match distant.get_ssl_mode() {
        _ if !encrypted => {
            Finding::warning("encryption", "the connection is not encrypted", why, next)
        }
        PgSslMode::VerifyFull => Finding::ok(
            "encryption",
            "encrypted, certificate and name verified",
            why,
        ),
        PgSslMode::VerifyCa => Finding::warning(
            "encryption",
            "encrypted; the certificate is verified, the server's name is not",
            "whoever has any certificate of that authority can stand in for the database",
            next,
        ),
        _ => Finding::warning(
            "encryption",
            "encrypted, but nobody verifies whom it speaks with",
            "whoever stands in between can read everything all the same",
            next,
        ),
    }
}

/// Whether what was recorded stays recorded.
#[must_use]
pub fn commits(durability: &Durability) -> Finding {
    let why = "the record that a message may have been sent must outlive a crash and a failover";
    match durability.weakness() {
        None => Finding::ok(
            "commits",
            "wait for the disk, and for a standby where there is one",
            why,
        ),
        Some(weakness) => {
            // The same sentence tells the log of a worker.
            let (found, next) = weakness
                .rsplit_once("; ")
                .unwrap_or((&weakness, "set synchronous_standby_names"));
            Finding::warning("commits", found, why, next)
        }
    }
}

/// Whether schema and program fit.
#[must_use]
pub fn schema(standing: &Standing) -> Finding {
    let why =
        "the program calls functions of its own release, or of a newer one that still serves it";
    let ours = env!("CARGO_PKG_VERSION");
    match standing {
        Standing::Behind { found } if found == "none" => Finding::failure(
            "schema",
            "there is none that this program knows, or this user may not see it",
            why,
            "run `wxnotify migrate`; if it was run, check the search_path and the user of DATABASE_URL",
        ),
        Standing::Behind { found } => Finding::failure(
            "schema",
            format!("{found}, older than this program's, wxnotify {ours}"),
            why,
            "run `wxnotify migrate`",
        ),
        Standing::OtherText => Finding::failure(
            "schema",
            format!(
                "its functions are not those of this build of wxnotify {ours}, or a migration was interrupted"
            ),
            why,
            "run `wxnotify migrate`",
        ),
        Standing::TooOld(books) => Finding::failure(
            "schema",
            format!(
                "wxnotify {}'s (level {}), which does not serve wxnotify {ours} any more",
                books.release, books.level
            ),
            why,
            format!("install wxnotify {} or newer", books.release),
        ),
        Standing::Served { release, level } => Finding::ok(
            "schema",
            format!(
                "wxnotify {release}'s (level {level}), newer than this program, which it still serves"
            ),
            why,
        ),
        Standing::Current => {
            Finding::ok("schema", format!("of this program, wxnotify {ours}"), why)
        }
    }
}

/// Whether the user may do what it is for, and no more than it should.
#[must_use]
pub fn rights(rights: &Rights) -> Finding {
    let may = if rights.is_superuser {
        "a superuser"
    } else if rights.owns {
        "the owner"
    } else if rights.may_work {
        "a worker"
    } else if rights.may_operate {
        "an operator"
    } else if rights.may_insert {
        "a producer"
    } else if rights.may_look {
        "a viewer"
    } else {
        return Finding::failure(
            "rights",
            format!("{} may do nothing here", rights.name),
            "no command of wxnotify works as this user",
            format!(
                "GRANT wxnotify_worker (or wxnotify_operator) TO {}",
                rights.name
            ),
        );
    };
    let found = format!("{} is {may}", rights.name);
    if let Some(statements) = &rights.closing_statements {
        return Finding::warning(
            "rights",
            format!("{found}; every user may create objects in the schema"),
            "functions could be slipped under wxnotify's own; before Postgres 15 that is so in `public` from the start",
            statements,
        );
    }
    if let [first, ..] = &rights.wide_writers[..] {
        return Finding::warning(
            "rights",
            format!(
                "{found}; the whole of pending_notifications may be written by {}",
                few(&rights.wide_writers)
            ),
            "INSERT and UPDATE are safe on the contract's columns alone: others hold ids, attempts and doubts",
            format!(
                "REVOKE INSERT, UPDATE ON pending_notifications FROM {}; GRANT wxnotify_producer to it instead",
                legible(first)
            ),
        );
    }
    if !rights.missing_roles.is_empty() {
        return Finding::warning(
            "rights",
            format!(
                "{found}; the server lacks the roles {}",
                rights.missing_roles.join(", ")
            ),
            "without them every user of wxnotify needs the owner's rights",
            "have an administrator run deploy/roles.sql, then run `wxnotify migrate` again",
        );
    }
    if rights.is_superuser {
        return Finding::warning(
            "rights",
            found,
            "wxnotify needs no superuser, and whoever takes over a worker would have the whole server",
            "run workers as a login with wxnotify_worker, people as one with wxnotify_operator",
        );
    }
    Finding::ok("rights", found, "")
}

/// What keeps dead rows alive.
#[must_use]
pub fn holders(holders: &[Holder]) -> Finding {
    let check = "holding back VACUUM";
    let why =
        "dead rows cannot be removed meanwhile: the queue's tables grow with every message sent";
    let hidden: i64 = holders
        .iter()
        .filter(|holder| holder.kind == "hidden")
        .map(|holder| holder.amount)
        .sum();
    let age = |holder: &Holder| holder.held_secs.unwrap_or(0.0);
    let slow = holders
        .iter()
        .filter(|holder| matches!(holder.kind.as_str(), "transaction" | "prepared"));
    if let Some(oldest) = slow.max_by(|one, other| age(one).total_cmp(&age(other))) {
        let hours = age(oldest) / 3600.0;
        let open = format!("open for {:.0} min", age(oldest) / 60.0);
        let (found, next) = if oldest.kind == "prepared" {
            (
                format!("prepared transaction {}, {open}", oldest.name),
                "COMMIT PREPARED or ROLLBACK PREPARED it: nothing else ever ends it",
            )
        } else {
            (
                format!("transaction of {}, {open}", oldest.name),
                "let its program commit, or end it with pg_terminate_backend",
            )
        };
        return if hours >= 6.0 || (oldest.kind == "prepared" && hours >= 1.0) {
            Finding::failure(check, found, why, next)
        } else {
            Finding::warning(check, found, why, next)
        };
    }
    let slots = holders.iter().filter(|holder| holder.kind == "slot");
    if let Some(slot) = slots.max_by_key(|holder| holder.amount) {
        return Finding::warning(
            check,
            format!(
                "replication slot {}, {} MiB of log kept for it",
                slot.name,
                slot.amount >> 20
            ),
            "dead rows and log are kept for a standby that does not take them, until the disk is full",
            "bring the standby back, or pg_drop_replication_slot if it is gone for good",
        );
    }
    if hidden > 0 {
        return Finding {
            verdict: Verdict::NotVisible,
            ..Finding::ok(
                check,
                format!(
                    "{hidden} sessions of other users are not visible to this role (pg_read_all_stats is)"
                ),
                why,
            )
        };
    }
    Finding::ok(
        check,
        "no old transaction, prepared transaction or idle slot",
        why,
    )
}

/// Dead rows that are more than the table should ever carry.
fn is_bloated(table: &TableCare) -> bool {
    table.dead > 200_000 && table.dead > 4 * table.live.max(1)
}

/// Whether the tables are vacuumed.
#[must_use]
pub fn tables(tables: &[TableCare]) -> Finding {
    let why = "rows are inserted and deleted all the time; without vacuuming, every lease walks over the dead ones";
    let off: Vec<&str> = tables
        .iter()
        .filter(|table| table.autovacuum_is_off)
        .map(|table| table.name.as_str())
        .collect();
    if !off.is_empty() {
        let alter: Vec<String> = off
            .iter()
            .map(|table| format!("ALTER TABLE {table} RESET (autovacuum_enabled)"))
            .collect();
        return Finding::failure(
            "autovacuum",
            format!("turned off for {}", off.join(", ")),
            why,
            alter.join("; "),
        );
    }
    if let Some(table) = tables
        .iter()
        .filter(|table| is_bloated(table))
        .max_by_key(|table| table.dead)
    {
        return Finding::warning(
            "autovacuum",
            format!(
                "{} has {} dead rows beside {} live ones",
                table.name, table.dead, table.live
            ),
            why,
            "see what holds back VACUUM; if nothing does, raise autovacuum_vacuum_cost_limit",
        );
    }
    Finding::ok(
        "autovacuum",
        format!("on for all {} tables", tables.len()),
        why,
    )
}

/// Triggers and indexes the queue relies on.
#[must_use]
pub fn broken_objects(broken: &[BrokenObject]) -> Finding {
    let check = "triggers and indexes";
    let triggers: Vec<&str> = broken
        .iter()
        .filter(|object| object.kind == "trigger")
        .map(|object| object.name.as_str())
        .collect();
    if !triggers.is_empty() {
        return Finding::failure(
            check,
            format!(
                "disabled triggers of pending_notifications: {}",
                triggers.join(", ")
            ),
            "rows are not checked, get no due time or can be changed while they are being sent",
            "ALTER TABLE pending_notifications ENABLE TRIGGER …",
        );
    }
    let indexes: Vec<&str> = broken.iter().map(|object| object.name.as_str()).collect();
    if !indexes.is_empty() {
        return Finding::warning(
            check,
            format!("indexes that are not valid: {}", indexes.join(", ")),
            "they cost every INSERT and serve no query",
            "REINDEX INDEX CONCURRENTLY each, or drop what a failed one left behind",
        );
    }
    Finding::ok(check, "all are enabled and valid", "")
}

/// Whether the server's log may show messages, openids and tokens.
#[must_use]
pub fn server_log(settings: &LogSettings) -> Finding {
    let check = "server log";
    let why = "statements and their parameters hold messages, openids and access tokens, and logs are read and kept by others";
    let is_on = |duration: &str| duration != "-1";
    let mut loud = Vec::new();
    if matches!(settings.log_statement.as_str(), "mod" | "all") {
        loud.push(format!("log_statement = {}", settings.log_statement));
    }
    for (name, duration) in [
        (
            "log_min_duration_statement",
            &settings.log_min_duration_statement,
        ),
        ("log_min_duration_sample", &settings.log_min_duration_sample),
        ("auto_explain.log_min_duration", &settings.auto_explain),
    ] {
        if is_on(duration) {
            loud.push(format!("{name} = {duration}"));
        }
    }
    if settings.log_transaction_sample_rate > 0.0 {
        loud.push("log_transaction_sample_rate > 0".to_owned());
    }
    if !loud.is_empty() && settings.log_parameter_max_length != "0" {
        loud.push(format!(
            "log_parameter_max_length = {}",
            settings.log_parameter_max_length
        ));
        return Finding::warning(
            check,
            format!(
                "statements are logged with their parameters ({})",
                loud.join(", ")
            ),
            why,
            "set log_parameter_max_length = 0 and let producers bind parameters, or turn these settings off for their roles",
        );
    }
    if settings.log_parameter_max_length_on_error != "0" {
        return Finding::warning(
            check,
            format!(
                "a refused statement is logged with its parameters (log_parameter_max_length_on_error = {})",
                settings.log_parameter_max_length_on_error
            ),
            why,
            "set log_parameter_max_length_on_error = 0",
        );
    }
    let found = if loud.is_empty() {
        String::new()
    } else {
        format!(
            "statements are logged without parameters; {}; ",
            loud.join(", ")
        )
    };
    let refused = match (
        settings.log_min_error_statement.as_str(),
        settings.log_error_verbosity.as_str(),
    ) {
        ("fatal" | "panic", "terse") => "no text of a refused statement is logged",
        ("fatal" | "panic", _) => "of a refused statement only JSON that cannot be read is logged",
        (_, "terse") => "a refused statement is logged as written: what is bound is not",
        _ => {
            "a refused statement is logged as written: what is bound is not, but JSON that cannot be read"
        }
    };
    Finding::ok(check, format!("{found}{refused}"), why)
}

/// Whether a logical copy of our tables can be kept without refusing our own changes.
#[must_use]
pub fn publications(tables: &[UnidentifiedTable]) -> Finding {
    let check = "publications";
    let why = "Postgres refuses every UPDATE and DELETE of a published table that has no replica identity";
    if tables.is_empty() {
        return Finding::ok(check, "every published table has a replica identity", why);
    }
    let named: Vec<String> = tables
        .iter()
        .map(|table| format!("{} of {}", table.name, table.publication))
        .collect();
    let alter: Vec<String> = tables
        .iter()
        .map(|table| format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.name))
        .collect();
    Finding::failure(
        check,
        format!("without replica identity: {}", named.join(", ")),
        why,
        alter.join("; "),
    )
}

/// Whether somebody holds what workers need.
#[must_use]
pub fn held_locks(blockers: &[Blocker], now: DateTime<Utc>) -> Finding {
    let check = "held locks";
    let why = "workers wait for it: what it covers is neither sent nor settled meanwhile";
    let Some(first) = blockers
        .iter()
        .min_by_key(|blocker| blocker.since.unwrap_or(now))
    else {
        return Finding::ok(check, "nobody holds what workers need", why);
    };
    let since = first.since.map_or_else(
        || "since when is not visible to this role".to_owned(),
        |since| {
            format!(
                "since {} ({} s)",
                since.format("%Y-%m-%d %H:%M:%SZ"),
                (now - since).num_seconds()
            )
        },
    );
    let others = match blockers.len() {
        1 => String::new(),
        many => format!("; and {} more (notification_blockers)", many - 1),
    };
    let found = format!("{}, {since}{others}", first.sentence());
    let next = format!("let it commit or roll back, or end it: {}", first.end_with);
    let is_long = first
        .since
        .is_some_and(|since| now - since > TimeDelta::seconds(10));
    if is_long {
        Finding::failure(check, found, why, next)
    } else {
        Finding::warning(check, found, why, next)
    }
}

/// Whether rows came here without what belongs to them.
#[must_use]
pub fn missing_traces(traces: &MissingTraces) -> Finding {
    let check = "restored rows";
    let why =
        "whether a message was sent before is known by its attempts and by the lease it was in";
    let next = "restore notification_attempts and notification_leases with pending_notifications, all of one moment (docs/operations.md), or look through those rows before a worker starts";
    let mut found = Vec::new();
    if traces.without_attempts > 0 {
        found.push(format!(
            "{} rows with attempts or in doubt, of which no attempt is on record",
            traces.without_attempts
        ));
    }
    if traces.of_unknown_leases > 0 {
        found.push(format!(
            "{} rows of leases whose numbers are still to be given out",
            traces.of_unknown_leases
        ));
    }
    if found.is_empty() {
        return Finding::ok(check, "none without its attempts and leases", why);
    }
    Finding::failure(check, found.join("; "), why, next)
}

/// What others hung on our tables: it may refuse rows their way into the history.
#[must_use]
pub fn foreign_objects(objects: &[ForeignObject]) -> Finding {
    let check = "objects of others";
    let named = |kind: &str| -> Vec<String> {
        objects
            .iter()
            .filter(|object| object.kind == kind)
            .map(|object| match object.on_table == object.about {
                true => format!("{} {} on {}", object.kind, object.name, object.about),
                false => format!(
                    "{} {} of {} to {}",
                    object.kind, object.name, object.on_table, object.about
                ),
            })
            .collect()
    };
    let keys = named("foreign key");
    if !keys.is_empty() {
        return Finding::failure(
            check,
            keys.join(", "),
            "a notification that ends moves to notification_history, which such a key refuses: it waits, and is not sent again, until the key is gone",
            "ALTER TABLE … DROP CONSTRAINT …; keep the id in a plain column without a key, or let the notification name your row in business_ref",
        );
    }
    let others = [named("trigger"), named("rule")].concat();
    if !others.is_empty() {
        return Finding::warning(
            check,
            others.join(", "),
            "each runs whenever a row comes, changes or ends: what it refuses waits, and is not sent again, until it no longer does; it costs every statement",
            "drop it if nothing needs it; to learn what became of rows, read the view notifications instead",
        );
    }
    Finding::ok(check, "nobody hung anything on the tables", "")
}

/// Whether settling has where to write.
#[must_use]
pub fn partitions(partitions: &[MonthPartition]) -> Finding {
    let why = "nothing can be settled in a month that has no partition";
    let next = "start a worker, or call wxnotify_make_partitions() as the owner";
    let missing: Vec<&MonthPartition> = partitions
        .iter()
        .filter(|partition| !partition.there)
        .collect();
    let Some(first) = missing
        .iter()
        .min_by(|one, other| one.starts_in_secs.total_cmp(&other.starts_in_secs))
    else {
        return Finding::ok("partitions", "this month's and the next's are there", why);
    };
    let found = format!("{} has none for {}", first.parent, first.month);
    if first.starts_in_secs < 7.0 * 86_400.0 {
        Finding::failure("partitions", found, why, next)
    } else {
        Finding::warning("partitions", found, why, next)
    }
}

/// Whether somebody cleans up after workers that died.
#[must_use]
pub fn lapsed_leases(leases: &LapsedLeases) -> Finding {
    let why = "their users wait: rows of a lease can neither be sent nor put in doubt before it is taken over";
    if leases.leases == 0 {
        return Finding::ok("lapsed leases", "none", why);
    }
    Finding::failure(
        "lapsed leases",
        format!(
            "{} with {} rows, the oldest lapsed {:.0} min ago",
            leases.leases,
            leases.rows,
            leases.oldest_secs / 60.0
        ),
        why,
        "start a worker: any worker takes them over within a second. If some are alive, read their logs for what fails",
    )
}

/// Whether somebody works, and all with one program.
#[must_use]
pub fn workers(workers: &[LiveWorker], backlog: &[Backlog]) -> Finding {
    let why = "only a worker sends";
    if workers.is_empty() {
        let waiting: i64 = backlog
            .iter()
            .filter(|row| {
                matches!(
                    row.status.as_str(),
                    "due" | "retrying" | "scheduled" | "sending"
                )
            })
            .map(|row| row.rows)
            .sum();
        let next = "start one with `wxnotify run`";
        return if waiting > 0 {
            Finding::failure(
                "workers",
                format!("none alive in the last minute, and {waiting} rows wait"),
                why,
                next,
            )
        } else {
            Finding::warning(
                "workers",
                "none alive in the last minute; nothing waits",
                why,
                next,
            )
        };
    }
    let versions: BTreeSet<&str> = workers
        .iter()
        .map(|worker| worker.version.as_str())
        .collect();
    if versions.len() > 1 {
        let versions: Vec<&str> = versions.into_iter().collect();
        return Finding::warning(
            "workers",
            format!(
                "{} alive, of versions {}",
                workers.len(),
                versions.join(" and ")
            ),
            "an older one may not know what a newer schema or another worker relies on",
            "finish the upgrade: restart the older ones",
        );
    }
    Finding::ok("workers", format!("{} alive", workers.len()), why)
}

/// Whether each registered mini-program can send and be heard.
#[must_use]
pub fn apps(apps: &[AppCare], now: DateTime<Utc>) -> Vec<Finding> {
    if apps.is_empty() {
        return vec![Finding::warning(
            "apps",
            "none is registered",
            "rows of unknown mini-programs are accepted and wait",
            "register yours: `wxnotify app add APPID`",
        )];
    }
    let mut findings: Vec<Finding> = apps.iter().filter_map(|app| ailment(app, now)).collect();
    if findings.is_empty() {
        findings.push(Finding::ok(
            "apps",
            format!("{} registered, served and with a valid token", apps.len()),
            "",
        ));
    }
    findings
}

/// The worst thing about a mini-program.
fn ailment(app: &AppCare, now: DateTime<Utc>) -> Option<Finding> {
    let appid = &app.appid;
    if !app.is_served {
        return Some(Finding::warning(
            "apps",
            format!("{appid}: no live worker has its secret"),
            "its rows wait",
            format!(
                "set WXNOTIFY_APPSECRET_{appid} or WXNOTIFY_APPSECRET_FILE_{appid} for the workers"
            ),
        ));
    }
    if !app.token_is_valid {
        return Some(Finding::failure(
            "apps",
            format!("{appid}: there is no valid access token, though a worker has its secret"),
            "nothing of it can be sent",
            format!(
                "look in the workers' log for \"no access token\": no connection, an answer that is none, or a refusal (40013: the appid, \
                 40125: the secret, 40164: this address is not in the IP whitelist at mp.weixin.qq.com), and at \
                 `wxnotify token status`; appid {appid}"
            ),
        ));
    }
    if app
        .foreign_refresh_at
        .is_some_and(|at| now - at < TimeDelta::days(1))
    {
        return Some(Finding::warning(
            "apps",
            format!("{appid}: another program replaced its access token within a day"),
            "each replacement ends the token in use, and the sends under way fail with 40001",
            "let it use getStableAccessToken in normal mode, which hands every caller the same token",
        ));
    }
    let is_old = app
        .token_fetched_at
        .is_some_and(|at| now - at < TimeDelta::days(1));
    if !app.events_arrive && is_old {
        return Some(Finding::warning(
            "apps",
            format!("{appid}: no event of WeChat has ever confirmed a message"),
            "without sent events a lost reply stays in doubt until it is sent again, perhaps twice",
            "set up message push (docs/callbacks.md), or hand events over with `wxnotify event ingest`",
        ));
    }
    None
}

/// Rows that nobody will send.
#[must_use]
pub fn unregistered(appids: &[String]) -> Finding {
    let why = "their rows are accepted and wait for ever";
    match appids.first() {
        None => Finding::ok("unregistered apps", "no row waits for one", why),
        Some(first) => Finding::failure(
            "unregistered apps",
            format!("rows wait for {}", few(appids)),
            why,
            format!(
                "register it with {}, or correct what inserts such an appid",
                command("wxnotify app add {}", &[first])
            ),
        ),
    }
}

/// Pauses, above all those that nothing but an operator ends.
#[must_use]
pub fn pauses(pauses: &[Pause]) -> Vec<Finding> {
    // Those of unknown apps have a check of their own.
    let pauses: Vec<&Pause> = pauses
        .iter()
        .filter(|pause| !pause.is_of_unknown_app())
        .collect();
    if pauses.is_empty() {
        return vec![Finding::ok("pauses", "none", "")];
    }
    let why = "its rows wait, and those with an expire_at may end unsent";
    let finding = |pause: &Pause| {
        let what = pause.template_id.as_deref().map_or_else(
            || format!("app {}", pause.appid),
            |template| format!("template {template} of app {}", pause.appid),
        );
        let reason = pause
            .meaning
            .as_deref()
            .or(pause.reason.as_deref())
            .unwrap_or("no reason given");
        let found = format!("{what} is paused: {reason}");
        if pause.needs_operator {
            Finding::failure(
                "pauses",
                found,
                why,
                format!("mend the cause, then {}", resume_command(pause)),
            )
        } else {
            Finding::warning(
                "pauses",
                found,
                why,
                format!(
                    "it ends by itself; to end it now: {}",
                    resume_command(pause)
                ),
            )
        }
    };
    let mut findings: Vec<Finding> = pauses
        .iter()
        .take(PAUSES_MAX)
        .map(|pause| finding(pause))
        .collect();
    if let Some(more) = pauses.len().checked_sub(PAUSES_MAX + 1) {
        findings.push(Finding::warning(
            "pauses",
            format!("{} more, which are not shown", more + 1),
            why,
            "look at them in the view notification_pauses",
        ));
    }
    findings
}

/// Credits that others spend.
#[must_use]
pub fn foreign_events(events: &[ForeignEvents]) -> Finding {
    let why = "another program spends credits of the same users: messages of ours then meet 43101, and doubts are harder to settle";
    if events.is_empty() {
        return Finding::ok("foreign messages", "none in the last day", why);
    }
    let counts: Vec<String> = events
        .iter()
        .map(|of| format!("{} of {}", of.events, of.appid))
        .collect();
    Finding::warning(
        "foreign messages",
        format!(
            "WeChat names messages nobody here sent: {}",
            counts.join(", ")
        ),
        why,
        "find what else sends for this mini-program, and let it insert into pending_notifications",
    )
}

/// Whether the callbacks can be received, by the settings given here.
#[must_use]
pub fn callbacks(apps: &BTreeMap<String, AppSecrets>, listen: Option<SocketAddr>) -> Vec<Finding> {
    let check = "callback settings";
    let why = "WeChat's events settle doubts and tell what users accept and refuse";
    if apps.is_empty() {
        return vec![Finding::not_looked_at(
            check,
            "no secret of a mini-program is set here; run it where a worker runs",
        )];
    }
    let mut findings = Vec::new();
    for (appid, app) in apps {
        if app.callback_token.is_none() {
            findings.push(Finding::warning(
                check,
                format!("{appid} has no callback token"),
                why,
                format!("set WXNOTIFY_CALLBACK_TOKEN_{appid} and message push at mp.weixin.qq.com (docs/callbacks.md)"),
            ));
        } else if app.callback_aeskey.is_none() {
            findings.push(Finding::warning(
                check,
                format!("{appid} takes callbacks in plaintext"),
                "openids pass every proxy on the way in the clear",
                format!("choose the encrypted mode at mp.weixin.qq.com and set WXNOTIFY_CALLBACK_AESKEY_{appid}"),
            ));
        }
    }
    let has_token = apps.values().any(|app| app.callback_token.is_some());
    if has_token && listen.is_none() {
        findings.push(Finding::failure(
            check,
            "the HTTP listener is off (WXNOTIFY_LISTEN is empty)",
            "no callback can be received",
            "set WXNOTIFY_LISTEN, and let your proxy pass /wechat/callback/ to it",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            check,
            format!("{} apps, encrypted", apps.len()),
            why,
        ));
    }
    findings
}

/// Whether two connections shared a server process, or one had two.
fn is_pooled(backends: Backends) -> bool {
    backends.second == backends.first || backends.first_again != backends.first
}

/// A pooler, by how server processes answer.
#[must_use]
pub fn pooler(backends: Backends) -> Finding {
    let why = "LISTEN does not work through a pooler in transaction mode: workers then find new rows by polling, up to WXNOTIFY_POLL_SECS late";
    if is_pooled(backends) {
        Finding::warning(
            "pooler",
            "a pooler in transaction mode is in between",
            why,
            "lead the workers' DATABASE_URL to the server itself or to a pool in session mode; a worker takes WXNOTIFY_POOL_CONNECTIONS (6)",
        )
    } else {
        Finding::ok("pooler", "none in transaction mode", why)
    }
}

/// As [`pooler`], beside what the settings say of it. `None`: two connections could not be had.
#[must_use]
pub fn declared_pooler(declared: bool, backends: Option<Backends>) -> Finding {
    match backends {
        None => Finding::not_looked_at("pooler", "no two connections could be had at once"),
        Some(backends) if is_pooled(backends) && !declared => Finding::failure(
            "pooler",
            "a pooler in transaction mode is in between, and WXNOTIFY_POOLER is not set",
            "prepared statements of one connection meet those of another: statements fail now and then",
            "set WXNOTIFY_POOLER=true, or lead DATABASE_URL to the server itself",
        ),
        Some(backends) if !is_pooled(backends) && declared => Finding::warning(
            "pooler",
            "WXNOTIFY_POOLER is set, yet no pooler in transaction mode is in between",
            "every statement is parsed anew, for nothing",
            "remove WXNOTIFY_POOLER",
        ),
        Some(backends) => pooler(backends),
    }
}

/// Whether a host of WeChat can be reached: any HTTP status will do.
#[must_use]
pub fn wechat_host(host: &str, answer: Result<u16, &str>) -> Finding {
    let why = "what cannot be reached cannot be sent to";
    match answer {
        Ok(status) => Finding::ok("WeChat", format!("{host} answers (HTTP {status})"), why),
        Err(error) => Finding::failure(
            "WeChat",
            format!("{host}: {error}"),
            why,
            "check DNS, the firewall's way out to port 443, and this machine's root certificates",
        ),
    }
}

/// Calendars of workdays that end soon.
#[must_use]
pub fn workdays(ending: &[(String, NaiveDate)]) -> Finding {
    const CHECK: &str = "workdays of reminders";
    const WHY: &str = "a day that reminder_days does not list goes by its weekday, so holidays and days made up for are missed";
    if ending.is_empty() {
        return Finding::ok(
            CHECK,
            "no calendar of reminder_days ends within 60 days",
            WHY,
        );
    }
    let calendars: Vec<_> = ending
        .iter()
        .map(|(calendar, last_day)| format!("{calendar} ends with {last_day}"))
        .collect();
    Finding::warning(
        CHECK,
        few(&calendars),
        WHY,
        "INSERT the next year's days into reminder_days, or DELETE a calendar that nobody uses",
    )
}

/// Zones of reminders whose clocks the server has otherwise than this program.
#[must_use]
pub fn zones(differing: &[DifferingZone]) -> Finding {
    const CHECK: &str = "zones of reminders";
    const WHY: &str =
        "reminders fire by this program's zone data; texts and quiet hours go by the server's";
    if differing.is_empty() {
        let found = format!(
            "the clocks of all zones in use change alike here ({ZONE_DATA}) and on the server"
        );
        return Finding::ok(CHECK, found, WHY);
    }
    let described = differing.iter().map(|differing| {
        match (
            differing.instant,
            differing.offset_secs,
            differing.server_secs,
        ) {
            (Some(instant), Some(here), Some(there)) => format!(
                "{} from {}: UTC{} here, UTC{} there",
                differing.zone,
                instant.format("%Y-%m-%d %H:%MZ"),
                offset(here),
                offset(there)
            ),
            _ => format!("{}, which the server does not know", differing.zone),
        }
    });
    Finding::warning(
        CHECK,
        format!(
            "the server's clocks differ from this program's ({ZONE_DATA}): {}",
            few(&described.collect::<Vec<_>>())
        ),
        WHY,
        "update the older: tzdata on the database's server, or wxnotify",
    )
}

/// The business's functions that say whether a reminder is still true.
#[must_use]
pub fn still_true(checks: &[Check]) -> Finding {
    const CHECK: &str = "checks of reminders";
    const WHY: &str =
        "while a check cannot be asked, its reminders wait and may expire, or are dropped";
    let failing: Vec<String> = checks
        .iter()
        .filter_map(|check| {
            let problem = check.problem.as_ref()?;
            let since = check.failing_since.map_or(String::new(), |since| {
                format!(" since {}", since.format("%Y-%m-%d %H:%MZ"))
            });
            let waiting = check.waiting;
            Some(format!(
                "{}{since}: {problem}; {waiting} rows wait for it",
                check.name
            ))
        })
        .take(3)
        .collect();
    if failing.is_empty() {
        let found = format!("{} checks, none of them fails", checks.len());
        return Finding::ok(CHECK, found, WHY);
    }
    Finding::warning(
        CHECK,
        failing.join("; "),
        WHY,
        "mend the function; what it may not be, and how it failed last, is in `wxnotify check list`",
    )
}

/// An offset from UTC as people write it, such as `+05:45`.
fn offset(secs: i32) -> String {
    let sign = if secs < 0 { '-' } else { '+' };
    let minutes = secs.abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound_server() -> Server {
        Server {
            version: "15.4".to_owned(),
            version_number: 150_004,
            is_standby: false,
            fsync: true,
            full_page_writes: true,
            isolation: "read committed".to_owned(),
            autovacuum: true,
            encrypted: true,
            transaction_ids_used: 5_000_000,
            connections: 10,
            connections_max: 97,
            read_only: false,
            role_connections_max: None,
            role_connections: 3,
            database_connections_max: None,
            database_connections: 3,
            encoding: "UTF8".to_owned(),
            clock: DateTime::UNIX_EPOCH,
        }
    }

    fn worst(findings: &[Finding]) -> Verdict {
        findings
            .iter()
            .map(|finding| finding.verdict)
            .max()
            .unwrap()
    }

    #[test]
    fn each_bad_setting_of_the_server_is_found() {
        assert_eq!(worst(&server(&sound_server())), Verdict::Ok);
        /// What is changed, and what that is.
        type Spoilt = (fn(&mut Server), Verdict);
        let spoilt: [Spoilt; 9] = [
            (|server| server.is_standby = true, Verdict::Failure),
            (|server| server.version_number = 130_012, Verdict::Failure),
            (|server| server.fsync = false, Verdict::Failure),
            (|server| server.full_page_writes = false, Verdict::Warning),
            (
                |server| server.isolation = "repeatable read".to_owned(),
                Verdict::Warning,
            ),
            (|server| server.autovacuum = false, Verdict::Failure),
            (|server| server.connections = 95, Verdict::Warning),
            (
                |server| server.transaction_ids_used = 1_200_000_000,
                Verdict::Warning,
            ),
            (
                |server| server.transaction_ids_used = 1_900_000_000,
                Verdict::Failure,
            ),
        ];
        for (spoil, verdict) in spoilt {
            let mut changed = sound_server();
            spoil(&mut changed);
            assert_eq!(worst(&server(&changed)), verdict, "{changed:?}");
        }
    }

    #[test]
    fn a_clock_is_judged_by_what_the_round_trip_cannot_explain() {
        let at = |ms: i64| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
        assert_eq!(clock(at(4_000), at(0), at(8_000)).verdict, Verdict::Ok);
        assert_eq!(clock(at(-900), at(0), at(10)).verdict, Verdict::Ok);
        let ahead = clock(at(-5_000), at(0), at(10));
        assert_eq!(ahead.verdict, Verdict::Warning);
        assert!(ahead.found.contains("5.0 s ahead of"), "{}", ahead.found);
        let behind = clock(at(60_010), at(0), at(10));
        assert_eq!(behind.verdict, Verdict::Failure);
        assert!(behind.found.contains("60.0 s behind"), "{}", behind.found);
    }

    #[test]
    fn only_a_verified_connection_over_a_network_is_well() {
        let options = |mode| {
            let options = PgConnectOptions::new_without_pgpass();
            Address::from(options.host("db.example").ssl_mode(mode))
        };
        assert_eq!(
            encryption(&options(PgSslMode::VerifyFull), true).verdict,
            Verdict::Ok
        );
        for mode in [PgSslMode::Prefer, PgSslMode::Require, PgSslMode::VerifyCa] {
            assert_eq!(encryption(&options(mode), true).verdict, Verdict::Warning);
        }
        assert_eq!(
            encryption(&options(PgSslMode::Prefer), false).verdict,
            Verdict::Warning
        );
        let local = Address::from(PgConnectOptions::new_without_pgpass().host("127.0.0.1"));
        assert_eq!(encryption(&local, false).verdict, Verdict::Ok);
    }

    #[test]
    fn commits_that_wait_for_nothing_are_worse_than_those_that_wait_for_no_standby() {
        let durability = |standbys, names: &str, commit: &str| Durability {
            standbys,
            synchronous_standby_names: names.to_owned(),
            synchronous_commit: commit.to_owned(),
        };
        assert_eq!(commits(&durability(0, "", "on")).verdict, Verdict::Ok);
        assert_eq!(
            commits(&durability(1, "any 1 (*)", "on")).verdict,
            Verdict::Ok
        );
        let asynchronous = commits(&durability(2, "", "on"));
        assert_eq!(asynchronous.verdict, Verdict::Warning);
        assert!(
            asynchronous
                .next
                .unwrap()
                .contains("synchronous_standby_names")
        );
        assert_eq!(commits(&durability(0, "", "local")).verdict, Verdict::Ok);
    }

    #[test]
    fn a_limit_of_connections_is_judged_by_what_a_worker_takes() {
        let limited = |most| Server {
            role_connections_max: Some(most),
            ..sound_server()
        };
        assert!(connection_limits(&sound_server(), Some(6)).is_empty());
        for (most, verdict) in [
            (100, Verdict::Ok),
            (6, Verdict::Warning),
            (4, Verdict::Warning),
            (2, Verdict::Failure),
            (0, Verdict::Failure),
        ] {
            let findings = connection_limits(&limited(most), Some(6));
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].verdict, verdict, "{most}: {findings:?}");
        }
    }

    #[test]
    fn too_few_file_descriptors_are_a_failure_before_they_look_like_an_outage() {
        assert_eq!(descriptors(Some((40, 1024)), 400).verdict, Verdict::Ok);
        let few = descriptors(Some((40, 40)), 400);
        assert_eq!(few.verdict, Verdict::Failure);
        assert!(few.next.unwrap().contains("LimitNOFILE"));
        assert_eq!(descriptors(None, 400).verdict, Verdict::NotVisible);
    }

    #[test]
    fn a_database_that_takes_no_writes_or_no_chinese_is_a_failure() {
        let read_only = Server {
            read_only: true,
            ..sound_server()
        };
        assert_eq!(worst(&server(&read_only)), Verdict::Failure);
        let latin = Server {
            encoding: "LATIN1".to_owned(),
            ..sound_server()
        };
        assert_eq!(worst(&server(&latin)), Verdict::Failure);
    }

    #[test]
    fn a_user_is_named_by_the_most_it_may_do_and_warned_of_too_much() {
        let nobody = Rights {
            name: "someone".to_owned(),
            is_superuser: false,
            owns: false,
            may_work: false,
            may_operate: false,
            may_insert: false,
            may_look: false,
            closing_statements: None,
            missing_roles: vec![],
            wide_writers: vec![],
        };
        assert_eq!(rights(&nobody).verdict, Verdict::Failure);
        let worker = Rights {
            may_work: true,
            may_operate: true,
            ..nobody.clone()
        };
        assert_eq!(rights(&worker).verdict, Verdict::Ok);
        assert!(rights(&worker).found.contains("a worker"));
        let superuser = Rights {
            is_superuser: true,
            ..nobody
        };
        assert_eq!(rights(&superuser).verdict, Verdict::Warning);
        let loose = Rights {
            closing_statements: Some("REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned()),
            ..worker.clone()
        };
        assert!(rights(&loose).next.unwrap().contains("REVOKE CREATE"));
        let lacking = Rights {
            missing_roles: vec!["wxnotify_viewer".to_owned()],
            wide_writers: vec![],
            ..worker
        };
        assert!(rights(&lacking).found.contains("wxnotify_viewer"));
    }

    fn holder(kind: &str, held_secs: Option<f64>, amount: i64) -> Holder {
        Holder {
            kind: kind.to_owned(),
            name: "x".to_owned(),
            held_secs,
            amount,
        }
    }

    #[test]
    fn the_longest_holder_counts_and_a_prepared_transaction_sooner() {
        assert_eq!(holders(&[]).verdict, Verdict::Ok);
        assert_eq!(
            holders(&[holder("hidden", None, 3)]).verdict,
            Verdict::NotVisible
        );
        assert_eq!(
            holders(&[holder("transaction", Some(900.0), 0)]).verdict,
            Verdict::Warning
        );
        assert_eq!(
            holders(&[holder("transaction", Some(30_000.0), 0)]).verdict,
            Verdict::Failure
        );
        let both = [
            holder("transaction", Some(900.0), 0),
            holder("prepared", Some(7_200.0), 0),
            holder("hidden", None, 3),
        ];
        assert_eq!(holders(&both).verdict, Verdict::Failure);
        assert!(holders(&both).next.unwrap().contains("ROLLBACK PREPARED"));
        assert_eq!(
            holders(&[holder("slot", None, 5 << 20)]).verdict,
            Verdict::Warning
        );
    }

    #[test]
    fn bloat_is_told_from_the_dead_rows_of_a_busy_table() {
        let table = |live, dead| TableCare {
            name: "pending_notifications".to_owned(),
            autovacuum_is_off: false,
            live,
            dead,
        };
        assert_eq!(tables(&[table(10, 5_000)]).verdict, Verdict::Ok);
        assert_eq!(tables(&[table(1_000_000, 900_000)]).verdict, Verdict::Ok);
        assert_eq!(tables(&[table(10, 900_000)]).verdict, Verdict::Warning);
    }

    #[test]
    fn a_partition_missing_next_week_is_worse_than_one_missing_next_month() {
        let month = |starts_in_secs, there| MonthPartition {
            parent: "notification_history".to_owned(),
            month: "2026-12".to_owned(),
            starts_in_secs,
            there,
        };
        assert_eq!(
            partitions(&[month(-1.0, true), month(2e6, true)]).verdict,
            Verdict::Ok
        );
        assert_eq!(
            partitions(&[month(-1.0, true), month(2e6, false)]).verdict,
            Verdict::Warning
        );
        assert_eq!(
            partitions(&[month(-1.0, true), month(4e5, false)]).verdict,
            Verdict::Failure
        );
        assert_eq!(
            partitions(&[month(-1.0, false), month(2e6, false)]).verdict,
            Verdict::Failure
        );
    }

    #[test]
    fn a_pooler_is_told_by_shared_or_changing_server_processes() {
        let seen = |first, second, first_again| Backends {
            first,
            second,
            first_again,
        };
        assert_eq!(pooler(seen(7, 8, 7)).verdict, Verdict::Ok);
        // One server process served both connections.
        assert_eq!(pooler(seen(7, 7, 8)).verdict, Verdict::Warning);
        // The first connection moved on to another.
        assert_eq!(pooler(seen(7, 8, 9)).verdict, Verdict::Warning);
        assert_eq!(
            declared_pooler(false, Some(seen(7, 7, 8))).verdict,
            Verdict::Failure
        );
        assert_eq!(
            declared_pooler(true, Some(seen(7, 7, 8))).verdict,
            Verdict::Warning
        );
        assert_eq!(
            declared_pooler(true, Some(seen(7, 8, 7))).verdict,
            Verdict::Warning
        );
        assert_eq!(declared_pooler(false, None).verdict, Verdict::NotVisible);
    }

    fn log_settings() -> LogSettings {
        LogSettings {
            log_statement: "none".to_owned(),
            log_min_error_statement: "error".to_owned(),
            log_min_duration_statement: "-1".to_owned(),
            log_min_duration_sample: "-1".to_owned(),
            log_transaction_sample_rate: 0.0,
            auto_explain: "-1".to_owned(),
            log_parameter_max_length: "-1".to_owned(),
            log_parameter_max_length_on_error: "0".to_owned(),
            log_error_verbosity: "default".to_owned(),
        }
    }

    #[test]
    fn a_log_is_loud_when_parameters_reach_it() {
        assert_eq!(server_log(&log_settings()).verdict, Verdict::Ok);
        let spoilt: [fn(&mut LogSettings); 7] = [
            |log| log.log_statement = "mod".to_owned(),
            |log| log.log_statement = "all".to_owned(),
            |log| log.log_min_duration_statement = "250ms".to_owned(),
            |log| log.log_min_duration_sample = "0".to_owned(),
            |log| log.log_transaction_sample_rate = 0.01,
            |log| log.auto_explain = "1s".to_owned(),
            |log| log.log_parameter_max_length_on_error = "-1".to_owned(),
        ];
        for spoil in spoilt {
            let mut settings = log_settings();
            spoil(&mut settings);
            assert_eq!(
                server_log(&settings).verdict,
                Verdict::Warning,
                "{settings:?}"
            );
            settings.log_parameter_max_length = "0".to_owned();
            settings.log_parameter_max_length_on_error = "0".to_owned();
            assert_eq!(server_log(&settings).verdict, Verdict::Ok, "{settings:?}");
        }
        let ddl = LogSettings {
            log_statement: "ddl".to_owned(),
            ..log_settings()
        };
        assert_eq!(server_log(&ddl).verdict, Verdict::Ok);
    }

    #[test]
    fn a_lock_is_worse_the_longer_it_is_held_and_named_even_if_nobody_may_see_since_when() {
        let now = DateTime::UNIX_EPOCH;
        let blocker = |secs: Option<i64>| Blocker {
            holds: "the lock of a mini-program".to_owned(),
            appid: Some("wx1".to_owned()),
            pid: Some(4711),
            prepared: None,
            username: Some("psmith".to_owned()),
            application: None,
            since: secs.map(|secs| now - TimeDelta::seconds(secs)),
            waiting: 0,
            holds_code: "tables".to_owned(),
            end_with: "select pg_terminate_backend(4711)".to_owned(),
        };
        assert_eq!(held_locks(&[], now).verdict, Verdict::Ok);
        assert_eq!(
            held_locks(&[blocker(Some(3))], now).verdict,
            Verdict::Warning
        );
        assert_eq!(held_locks(&[blocker(None)], now).verdict, Verdict::Warning);
        let long = held_locks(&[blocker(Some(3)), blocker(Some(100))], now);
        assert_eq!(long.verdict, Verdict::Failure);
        assert!(
            long.found.contains("session 4711 of user psmith holds the lock of a mini-program wx1, since 1969-12-31 23:58:20Z (100 s); and 1 more"),
            "{}",
            long.found
        );
    }

    #[test]
    fn callbacks_need_a_token_a_listener_and_encryption() {
        let app = |token: bool, key: bool| AppSecrets {
            secret: None,
            callback_token: token.then(|| "t".into()),
            callback_aeskey: key.then(|| "k".into()),
            ..AppSecrets::default()
        };
        let of = |app: AppSecrets, listens: bool| {
            let listen = listens.then(|| "127.0.0.1:9464".parse().unwrap());
            worst(&callbacks(
                &BTreeMap::from([("wx1".to_owned(), app)]),
                listen,
            ))
        };
        assert_eq!(of(app(true, true), true), Verdict::Ok);
        assert_eq!(of(app(true, false), true), Verdict::Warning);
        assert_eq!(of(app(false, false), true), Verdict::Warning);
        assert_eq!(of(app(true, true), false), Verdict::Failure);
        assert_eq!(
            worst(&callbacks(&BTreeMap::new(), None)),
            Verdict::NotVisible
        );
    }

    #[test]
    fn any_answer_of_wechat_will_do_and_none_will_not() {
        assert_eq!(
            wechat_host("api.weixin.qq.com", Ok(404)).verdict,
            Verdict::Ok
        );
        assert_eq!(
            wechat_host("api.weixin.qq.com", Err("no route")).verdict,
            Verdict::Failure
        );
    }
}
