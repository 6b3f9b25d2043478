//! The database's part of the program: which tables, functions, views and rights it has, and how it gets them.
//!
//! *State is migrated*: `migrations/` holds tables, one step after another, each applied once. *Code is replaced*: a function,
//! view, trigger, policy or set of grants is one file of `sql/schema/`, its current text, applied whole where it differs from
//! what was applied last. A schema has a *level*, the number of its newest migration, and knows the oldest level whose programs
//! it still *serves*; `wxnotify_schema` and `wxnotify_schema_texts` say both, so that a program and a database of different
//! releases find out what they are to each other ([`Standing`]).
//!
//! Start at [`apply()`]; [`Plan`] is what it is going to do, [`print`](print()) the same as one script.

mod age;
mod apply;
mod plan;
mod print;
mod text;
mod unreleased;

use std::sync::LazyLock;

use include_dir::{Dir, include_dir};
use semver::Version;
use sha2::{Digest, Sha256};

pub use age::{Books, Found, Standing};
pub use apply::{Applied, apply};
pub use plan::{Plan, Step, plan};
pub use print::print;
pub use text::{Grant, Kind, Text};

/// The oldest level whose programs work on the schema of this release: a worker of that level may go on while, and after, the
/// newer `wxnotify migrate` runs. Raised only when a migration takes away what older programs need.
const SERVES: i32 = 1;

static MIGRATIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/migrations");
static TEXTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/sql/schema");

/// The schema that this program needs.
pub static OF_THIS_PROGRAM: LazyLock<Schema> = LazyLock::new(|| {
    let release = Version::parse(env!("CARGO_PKG_VERSION")).expect("a release has a version");
    Schema::parse(release, SERVES, &embedded(&MIGRATIONS), &embedded(&TEXTS))
        .expect("a test reads these very files")
});

/// Why a schema cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A file of the schema is not what its folder holds.
    #[error("{file}: {problem}")]
    Text {
        /// Its path below `migrations/` or `sql/schema/`.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The texts hold Chinese; another encoding would refuse some of them half-way.
    #[error(
        "the database {database} has the encoding {encoding}, and wxnotify needs UTF8: nothing was applied. Next: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and migrate that one"
    )]
    Encoding {
        /// The database's name.
        database: String,
        /// Its `server_encoding`.
        encoding: String,
    },
    /// Views, triggers and functions here need Postgres 14.
    #[error(
        "the server is PostgreSQL {version}, and wxnotify needs 14 or newer: nothing was applied. Next: upgrade the server"
    )]
    Server {
        /// Its `server_version`.
        version: String,
    },
    /// `search_path` names no schema that exists.
    #[error(
        "no schema of this connection's search_path exists: nothing was applied. Next: CREATE SCHEMA, or correct search_path in DATABASE_URL"
    )]
    NoSchema,
    /// There is something to make, and this user may not make it.
    #[error(
        "{user} may create nothing in the schema {schema}, and there is something to make: nothing was changed. Next: as {owner}, its owner, GRANT CREATE ON SCHEMA {schema} TO {user}; or name another schema by search_path in DATABASE_URL"
    )]
    MayNotCreate {
        /// The first schema of the search_path.
        schema: String,
        /// The user of the connection.
        user: String,
        /// Who owns the schema.
        owner: String,
    },
    /// A schema from before the first release, but not the last one of these.
    #[error(
        "the database holds the schema of an unreleased wxnotify, of which only {applied} of {of} migrations were applied: nothing was changed. Next: bring it up to date with that program first, or drop its objects"
    )]
    Unreleased {
        /// How many of its migrations are there.
        applied: usize,
        /// How many there would be.
        of: usize,
    },
    /// Somebody's own object uses what this release no longer has.
    #[error(
        "this release no longer has the {object}, and these use it: {}; nothing was changed. Next: drop or change them, then run `wxnotify migrate` again",
        users.join(", ")
    )]
    InUse {
        /// The function or view.
        object: String,
        /// Who uses it, in Postgres's words.
        users: Vec<String>,
    },
    /// A lock could not be had in small portions.
    #[error(
        "{object}: its lock could not be had in {waited_secs} s, since others hold it: {}. What was applied before it stays, workers go on. Next: end those sessions, then run `wxnotify migrate` again",
        holders.join(", ")
    )]
    Busy {
        /// What was to be replaced.
        object: String,
        /// Sessions that hold a lock on it.
        holders: Vec<String>,
        /// How long was tried.
        waited_secs: u64,
    },
    /// The database is newer and has no use for this program.
    #[error(
        "the database has the schema of wxnotify {release} (level {level}), which serves programs of level {serves} and newer; this is wxnotify {ours} (level {our_level}). Nothing was changed. Next: install wxnotify {release} or newer"
    )]
    TooOld {
        /// The release that the database has.
        release: String,
        /// Its level.
        level: i32,
        /// The oldest level it serves.
        serves: i32,
        /// This program's release.
        ours: String,
        /// This program's level.
        our_level: i32,
    },
    /// A statement failed.
    #[error("{what}: {}", crate::legible::describe(error))]
    Database {
        /// What was being done.
        what: String,
        /// What sqlx reported. No source, since its words are in ours.
        error: sqlx::Error,
    },
}

impl SchemaError {
    /// [`SchemaError::TooOld`] of what the database has and this program needs.
    #[must_use]
    pub fn too_old(books: Books, ours: &Schema) -> Self {
        Self::TooOld {
            release: books.release,
            level: books.level,
            serves: books.serves,
            ours: ours.release.to_string(),
            our_level: ours.level(),
        }
    }

    pub(crate) fn of(what: impl Into<String>) -> impl FnOnce(sqlx::Error) -> Self {
        let what = what.into();
        move |error| Self::Database { what, error }
    }
}

/// One file of `migrations/`.
#[derive(Debug, Clone)]
pub struct Migration {
    /// Its number, from 1 without gaps.
    pub level: i32,
    /// Its name in words.
    pub name: String,
    /// Its statements.
    pub sql: String,
}

/// Tables, code and rights of one release.
#[derive(Debug, Clone)]
pub struct Schema {
    /// Which release.
    pub release: Version,
    /// The oldest level whose programs work on it.
    pub serves: i32,
    /// In order.
    pub migrations: Vec<Migration>,
    /// In the order in which they can be made: functions, views after those they read, triggers, policies, rights.
    pub texts: Vec<Text>,
}

impl Schema {
    /// The schema of these files, each a path (`0001_tables.sql`, `kernel/wxnotify_settle.sql`) and its text.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Text`] names the first file that is not what its name says.
    pub fn parse(
        release: Version,
        serves: i32,
        migrations: &[(String, String)],
        texts: &[(String, String)],
    ) -> Result<Self, SchemaError> {
        let mut migrations = migrations
            .iter()
            .map(|(path, sql)| parse_migration(path, sql))
            .collect::<Result<Vec<_>, _>>()?;
        migrations.sort_by_key(|migration| migration.level);
        let gap = (1..)
            .zip(&migrations)
            .find(|(level, migration)| *level != migration.level);
        if let Some((level, migration)) = gap {
            return Err(SchemaError::Text {
                file: migration.name.clone(),
                problem: format!("has the number {}, expected {level}", migration.level),
            });
        }
        Ok(Self {
            release,
            serves,
            migrations,
            texts: text::in_order(texts)?,
        })
    }

    /// The number of its newest migration.
    #[must_use]
    pub fn level(&self) -> i32 {
        self.migrations
            .last()
            .map_or(0, |migration| migration.level)
    }

    /// SHA-256 over all of it, in hexadecimal digits: schemas with one fingerprint are the same.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let migrations = self.migrations.iter().map(|migration| &migration.sql);
        digest(migrations.chain(self.texts.iter().map(|text| &text.hash)))
    }
}

/// SHA-256 over some texts, told apart by their lengths, in hexadecimal digits.
fn digest<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let bytes = hash.finalize();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_migration(path: &str, sql: &str) -> Result<Migration, SchemaError> {
    let parts = path
        .strip_suffix(".sql")
        .and_then(|stem| stem.split_once('_'))
        .and_then(|(level, name)| Some((level.parse().ok()?, name.replace('_', " "))));
    let Some((level, name)) = parts else {
        return Err(SchemaError::Text {
            file: path.to_owned(),
            problem: "a migration is called <number>_<name>.sql".to_owned(),
        });
    };
    Ok(Migration {
        level,
        name,
        sql: sql.to_owned(),
    })
}

/// Files of SQL: path and text.
pub type Files = Vec<(String, String)>;

/// The SQL files below a folder.
fn embedded(folder: &Dir<'_>) -> Files {
    let mut found: Vec<_> = folder
        .files()
        .filter(|file| file.path().extension().is_some_and(|kind| kind == "sql"))
        .map(|file| {
            let path = file.path().to_string_lossy().into_owned();
            let text = file.contents_utf8().expect("SQL files are UTF-8");
            (path, text.to_owned())
        })
        .collect();
    found.extend(folder.dirs().flat_map(embedded));
    found
}

/// The files of this program's own schema: migrations, then texts. For tests that make the schema of another release of it.
#[must_use]
pub fn files() -> (Files, Files) {
    (embedded(&MIGRATIONS), embedded(&TEXTS))
}
