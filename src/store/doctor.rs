//! What `wxnotify doctor` looks at: facts without a judgement. A fact that the user may not see is an error of its own.
//!
//! Start at [`Server`]; each fact has a type and a function `look_…`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Connection, FromRow, PgConnection};

use super::statement::statement;
use super::{Address, Store, StoreError};

/// The server and its settings.
#[derive(Debug, Clone, FromRow)]
pub struct Server {
    /// Such as `15.4`.
    pub version: String,
    /// Such as 150004.
    pub version_number: i32,
    /// Whether it only replays another's changes.
    pub is_standby: bool,
    /// The setting.
    pub fsync: bool,
    /// The setting.
    pub full_page_writes: bool,
    /// The isolation level of transactions that name none.
    pub isolation: String,
    /// Whether autovacuum runs, and has the counts it goes by.
    pub autovacuum: bool,
    /// Whether the connection that asked is encrypted.
    pub encrypted: bool,
    /// Of two thousand million, how many transaction ids this database has used since they were last reclaimed.
    pub transaction_ids_used: i64,
    /// Connections of all users now.
    pub connections: i64,
    /// How many ordinary users may have.
    pub connections_max: i64,
    /// Whether transactions that do not say otherwise may write.
    pub read_only: bool,
    /// How many connections the user may have; `None`: as many as there are.
    pub role_connections_max: Option<i64>,
    /// Connections of the user now.
    pub role_connections: i64,
    /// How many connections the database may have; `None`: as many as there are.
    pub database_connections_max: Option<i64>,
    /// Connections to the database now.
    pub database_connections: i64,
    /// How the database stores text.
    pub encoding: String,
    /// The server's clock.
    pub clock: DateTime<Utc>,
}

/// What the database user may do.
#[derive(Debug, Clone, FromRow)]
pub struct Rights {
    /// The user.
    pub name: String,
    /// Whether nothing is checked.
    pub is_superuser: bool,
    /// Whether the tables are its own.
    pub owns: bool,
    /// Whether it may do what `wxnotify run` does.
    pub may_work: bool,
    /// Whether it may use the verbs.
    pub may_operate: bool,
    /// Whether it may insert notifications.
    pub may_insert: bool,
    /// Whether it may read the views.
    pub may_look: bool,
    /// Whether anybody may create objects beside ours: what ends that, and who can.
    pub closing_statements: Option<String>,
    /// Roles of wxnotify that the server does not have.
    pub missing_roles: Vec<String>,
    /// Who may write columns of `pending_notifications` that are wxnotify's: a right to the whole table, not to its columns.
    pub wide_writers: Vec<String>,
}

/// Something that keeps VACUUM from removing dead rows.
#[derive(Debug, Clone, FromRow)]
pub struct Holder {
    /// `transaction`, `prepared`, `slot`; `hidden`: sessions that cannot be judged.
    pub kind: String,
    /// Which.
    pub name: String,
    /// For how long; `None`: not known.
    pub held_secs: Option<f64>,
    /// Of a slot: bytes of log kept for it. Of what is hidden: how many.
    pub amount: i64,
}

/// How a table is vacuumed.
#[derive(Debug, Clone, FromRow)]
pub struct TableCare {
    /// The table.
    pub name: String,
    /// Whether it is turned off for this table.
    pub autovacuum_is_off: bool,
    /// Rows, as estimated.
    pub live: i64,
    /// Rows that VACUUM has still to remove, as estimated.
    pub dead: i64,
}

/// A trigger or index that does not work.
#[derive(Debug, Clone, FromRow)]
pub struct BrokenObject {
    /// `trigger` or `index`.
    pub kind: String,
    /// Which.
    pub name: String,
}

/// What others hung on the tables of wxnotify.
#[derive(Debug, Clone, FromRow)]
pub struct ForeignObject {
    /// `foreign key`, `trigger` or `rule`.
    pub kind: String,
    /// Which.
    pub name: String,
    /// The table it belongs to.
    pub on_table: String,
    /// The table of ours that it is about.
    pub about: String,
}

/// A month's partition of a table.
#[derive(Debug, Clone, FromRow)]
pub struct MonthPartition {
    /// The table.
    pub parent: String,
    /// Such as `2026-12`.
    pub month: String,
    /// Until it begins; negative: it has begun.
    pub starts_in_secs: f64,
    /// Whether there is one.
    pub there: bool,
}

/// A table whose changes are published although it has no replica identity.
#[derive(Debug, Clone, FromRow)]
pub struct UnidentifiedTable {
    /// The publication.
    pub publication: String,
    /// The table.
    pub name: String,
}

/// What puts statements and their parameters into the server's log: settings, as `SHOW` shows them.
#[derive(Debug, Clone, FromRow)]
pub struct LogSettings {
    /// `none`, `ddl`, `mod` or `all`.
    pub log_statement: String,
    /// The least severity of an error whose statement is logged.
    pub log_min_error_statement: String,
    /// Statements that take so long are logged; `-1`: none.
    pub log_min_duration_statement: String,
    /// As above, for a sample of them.
    pub log_min_duration_sample: String,
    /// The share of transactions whose statements are all logged.
    pub log_transaction_sample_rate: f64,
    /// `auto_explain.log_min_duration`; `-1`: off, or not loaded.
    pub auto_explain: String,
    /// How much of a parameter goes along with a statement; `0`: nothing.
    pub log_parameter_max_length: String,
    /// How much of a parameter goes along with an error; `0`: nothing.
    pub log_parameter_max_length_on_error: String,
    /// `terse`, `default` or `verbose`.
    pub log_error_verbosity: String,
}

/// What a partial restore left behind; each counted up to 1,000.
#[derive(Debug, Clone, FromRow)]
pub struct MissingTraces {
    /// Rows whose counted attempts are on no record.
    pub without_attempts: i64,
    /// Rows that name a lease with a number not given out yet.
    pub of_unknown_leases: i64,
}

/// Leases that nobody took over.
#[derive(Debug, Clone, FromRow)]
pub struct LapsedLeases {
    /// How many.
    pub leases: i64,
    /// Their rows.
    pub rows: i64,
    /// Since when the oldest has lapsed.
    pub oldest_secs: f64,
}

/// Messages of an app that another program sent.
#[derive(Debug, Clone, FromRow)]
pub struct ForeignEvents {
    /// Whose callbacks told of them.
    pub appid: String,
    /// How many, at most 1,000 in all.
    pub events: i64,
}

/// A registered mini-program.
#[derive(Debug, Clone, FromRow)]
pub struct AppCare {
    /// As it was registered.
    pub appid: String,
    /// Whether a sent event of WeChat has ever confirmed a message.
    pub events_arrive: bool,
    /// Whether a worker that is alive, and past its start, has its secret.
    pub is_served: bool,
    /// Whether there is an access token that has not expired.
    pub token_is_valid: bool,
    /// When one was last fetched.
    pub token_fetched_at: Option<DateTime<Utc>>,
    /// When another program last replaced it.
    pub foreign_refresh_at: Option<DateTime<Utc>>,
}

/// Which server processes answered two connections that were open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backends {
    /// The first connection, before the second was in a transaction.
    pub first: i32,
    /// The second, in a transaction.
    pub second: i32,
    /// The first again, meanwhile.
    pub first_again: i32,
}

/// Ids that a sequence would give again.
#[derive(Debug, Clone, FromRow)]
pub struct StaleSequence {
    /// The table.
    pub table_name: String,
    /// Its column.
    pub column_name: String,
    /// The highest id that was given.
    pub highest: i64,
}

/// What two connections at once are to see.
async fn see_backends(address: &Address, within: Duration) -> sqlx::Result<Backends> {
    // Not prepared: an old pooler knows no prepared statements.
    let pid = async |connection: &mut PgConnection| {
        let row = sqlx::raw_sql(include_str!("../../sql/doctor/backend.sql"));
        let row: PgRow = sqlx::Executor::fetch_one(connection, row).await?;
        sqlx::Row::try_get::<i32, _>(&row, 0)
    };
    let mut one = address.connect(within).await?;
    let mut other = address.connect(within).await?;
    let first = pid(&mut one).await?;
    sqlx::raw_sql("begin").execute(&mut other).await?;
    let second = pid(&mut other).await?;
    let first_again = pid(&mut one).await?;
    sqlx::raw_sql("rollback").execute(&mut other).await?;
    one.close().await?;
    other.close().await?;
    Ok(Backends {
        first,
        second,
        first_again,
    })
}

impl Store {
    /// The server and its settings.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn look_at_server(&self) -> Result<Server, StoreError> {
        let statement = statement!("doctor/server");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Whether there is a pooler between here and the server: two connections, one of them in a transaction.
    ///
    /// # Errors
    ///
    /// The database did not answer, or allows no two connections.
    pub async fn look_for_pooler(&self) -> Result<Backends, StoreError> {
        let seen = see_backends(self.pool.address(), self.deadline);
        self.run("doctor/backend", seen).await
    }

    /// What the user may do.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn look_at_rights(&self) -> Result<Rights, StoreError> {
        let statement = statement!("doctor/rights");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// What keeps VACUUM from removing dead rows.
    ///
    /// # Errors
    ///
    /// The database did not answer, or the user may not see it; so of all that follow.
    pub async fn look_at_holders(&self) -> Result<Vec<Holder>, StoreError> {
        let statement = statement!("doctor/holders");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// How the tables are vacuumed.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_at_tables(&self) -> Result<Vec<TableCare>, StoreError> {
        let statement = statement!("doctor/tables");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// Triggers and indexes that do not work.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_for_broken_objects(&self) -> Result<Vec<BrokenObject>, StoreError> {
        let statement = statement!("doctor/broken_objects");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// Foreign keys, triggers and rules that are not ours.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_for_foreign_objects(&self) -> Result<Vec<ForeignObject>, StoreError> {
        let statement = statement!("doctor/foreign_objects");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// Tables that are published without a replica identity.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_at_publications(&self) -> Result<Vec<UnidentifiedTable>, StoreError> {
        let statement = statement!("doctor/publications");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// What the server logs of statements.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn look_at_log_settings(&self) -> Result<LogSettings, StoreError> {
        let statement = statement!("doctor/log_settings");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// What a restore of some tables without the others left behind.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_for_missing_traces(&self) -> Result<MissingTraces, StoreError> {
        let statement = statement!("doctor/traces");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// The partitions of this month and the next.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_at_partitions(&self) -> Result<Vec<MonthPartition>, StoreError> {
        let statement = statement!("doctor/partitions");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// Sequences that are behind the ids of their table.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_for_stale_sequences(&self) -> Result<Vec<StaleSequence>, StoreError> {
        let statement = statement!("doctor/sequences");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// Leases that lapsed a minute ago or more.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_at_lapsed_leases(&self) -> Result<LapsedLeases, StoreError> {
        let statement = statement!("doctor/lapsed_leases");
        let query = statement.query_as();
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Messages of the last day that WeChat names and nobody here sent.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_at_foreign_events(&self) -> Result<Vec<ForeignEvents>, StoreError> {
        let statement = statement!("doctor/foreign_events");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }

    /// The registered mini-programs.
    ///
    /// # Errors
    ///
    /// As [`Self::look_at_holders`].
    pub async fn look_at_apps(&self) -> Result<Vec<AppCare>, StoreError> {
        let statement = statement!("doctor/apps");
        let query = statement.query_as();
        self.read_rows(statement.name, query).await
    }
}
