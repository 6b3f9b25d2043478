//! Brings a database up to date: under one lock, each step a transaction of its own that waits for no lock longer than others can bear.
//!
//! Who replaces a view or trigger needs a lock that waits for everybody who uses it, while everybody who comes later waits
//! behind: so it gives up after a quarter of a second, lets the others go on, and tries again.
//!
//! Start at [`apply`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::RngExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tracing::warn;

use super::age::{Found, Standing};
use super::plan::{Plan, Step, plan, read_rights};
use super::text::{Kind, Text};
use super::{Schema, SchemaError, unreleased};

/// Class of the advisory lock under which schemas are changed; the other key is the schema's name. The numbers in use are in
/// `sql/schema/README.md`.
pub(super) const LOCK_CLASS: i32 = 20_788;
/// How long one try may make others wait.
const LOCK_WAIT: Duration = Duration::from_millis(250);
/// After so many tries in vain each waits longer: many short transactions that overlap leave no gap of [`LOCK_WAIT`].
const PATIENT_TRIES: u32 = 12;
/// Still less than half a second.
const LOCK_WAIT_MAX: Duration = Duration::from_millis(450);
/// Tries end after that: a report that reads a view for long is waited for, a forgotten transaction is not.
const GIVE_UP_AFTER: Duration = Duration::from_mins(10);

/// What a migration did.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What this program was to the database before.
    pub standing: Standing,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// What an administrator should mend, in words.
    pub advice: Vec<String>,
}

/// Brings the database up to date with `schema`, or changes nothing where it is, or is newer and still serves it.
///
/// Any number may be started at once: one works, the others wait and find nothing to do. What was applied stays when it fails
/// half-way, and the next one goes on from there. The session's settings become those that the texts need.
///
/// # Errors
///
/// Those of [`plan`]; [`SchemaError::TooOld`]; [`SchemaError::Busy`] when a lock cannot be had for ten minutes.
pub async fn apply(connection: &mut PgConnection, schema: &Schema) -> Result<Applied, SchemaError> {
    // Before the lock, so that a database that is no place for us is told so at once.
    plan(connection, schema).await?;
    sqlx::query(AssertSqlSafe(lock("pg_advisory_lock")))
        .execute(&mut *connection)
        .await
        .map_err(SchemaError::of("waiting for another migration"))?;
    let applied = apply_locked(connection, schema).await;
    let unlocked = sqlx::query(AssertSqlSafe(lock("pg_advisory_unlock")))
        .execute(&mut *connection)
        .await
        .map_err(SchemaError::of("giving back the lock"));
    let applied = applied?;
    unlocked?;
    Ok(applied)
}

/// A call of one of the advisory lock's functions.
pub(super) fn lock(function: &str) -> String {
    format!("select {function}({LOCK_CLASS}, hashtext(current_schema()))")
}

async fn apply_locked(
    connection: &mut PgConnection,
    schema: &Schema,
) -> Result<Applied, SchemaError> {
    let Plan {
        found,
        standing,
        steps,
        roles,
    } = plan(connection, schema).await?;
    if let Standing::TooOld(books) = standing {
        return Err(SchemaError::too_old(books, schema));
    }
    if !steps.is_empty() {
        if let Found::Books(books) = &found {
            // From here until the end nobody starts on what may be half of each.
            let under_way = write_books(schema, books.level, "", &books.rights);
            execute(connection, "wxnotify_schema", None, &[under_way]).await?;
        }
        for step in steps.iter().filter(|step| step.is_of_tables()) {
            let statements = statements_of_tables(step, schema);
            execute(connection, &step.to_string(), None, &statements).await?;
        }
        let make_roles = [include_str!("../../sql/migrate/create_roles.sql").to_owned()];
        execute(connection, "the roles", None, &make_roles).await?;
        let roles_now = read_rights(connection).await?.roles.into_iter().collect();
        let new_roles: BTreeSet<_> = &roles_now - &roles;
        apply_texts(connection, schema, &steps, &roles_now, &new_roles).await?;
        let partitions = [include_str!("../../sql/upkeep/make_partitions.sql").to_owned()];
        execute(connection, "the partitions", None, &partitions).await?;
        grant(connection, schema, &roles_now).await?;
    }
    let advice = sqlx::query_scalar(include_str!("../../sql/migrate/advice.sql"))
        .fetch_all(&mut *connection)
        .await
        .map_err(SchemaError::of("looking for what is to mend"))?;
    Ok(Applied {
        standing,
        steps,
        advice,
    })
}

impl Step {
    fn is_of_tables(&self) -> bool {
        matches!(self, Self::TakeOver | Self::Migrate { .. })
    }

    /// The text it is about, if it is still one.
    pub(super) fn text<'a>(&self, schema: &'a Schema) -> Option<&'a Text> {
        let (Self::Make { kind, name } | Self::Replace { kind, name }) = self else {
            return None;
        };
        schema
            .texts
            .iter()
            .find(|text| text.kind == *kind && text.name == *name)
    }
}

/// Statements of one transaction that changes tables and says so in the books.
pub(super) fn statements_of_tables(step: &Step, schema: &Schema) -> Vec<String> {
    let books = include_str!("../../sql/migrate/make_books.sql").to_owned();
    match step {
        Step::TakeOver => vec![
            books,
            unreleased::leave_sqlx_books(),
            include_str!("../../sql/migrate/complete_partitions.sql").to_owned(),
            write_books(schema, unreleased::LEVEL, "", ""),
        ],
        Step::Migrate { level, .. } => schema
            .migrations
            .iter()
            .find(|migration| migration.level == *level)
            .map(|migration| {
                vec![
                    books,
                    migration.sql.clone(),
                    write_books(schema, *level, "", ""),
                ]
            })
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Functions in one transaction, so that nobody meets half of them; everything else that needs a lock one by one.
async fn apply_texts(
    connection: &mut PgConnection,
    schema: &Schema,
    steps: &[Step],
    roles: &BTreeSet<String>,
    new_roles: &BTreeSet<String>,
) -> Result<(), SchemaError> {
    let texts: Vec<&Text> = steps.iter().filter_map(|step| step.text(schema)).collect();
    let functions: Vec<String> = texts
        .iter()
        .filter(|text| text.kind == Kind::Function)
        .flat_map(|text| statements_of_text(text, roles))
        .collect();
    execute(connection, "the functions", None, &functions).await?;
    let others = texts
        .iter()
        .copied()
        .filter(|text| text.kind != Kind::Function);
    // The policies of roles that were made just now were not planned.
    let waited = schema.texts.iter().filter(|text| {
        let role = text.needs_role.as_ref();
        role.is_some_and(|role| new_roles.contains(role))
    });
    for text in others.chain(waited) {
        let statements = statements_of_text(text, roles);
        execute(
            connection,
            &text.describe(),
            Some(locked_by(text.kind, &text.name)),
            &statements,
        )
        .await?;
    }
    for step in steps {
        if let Step::Drop { kind, name } = step {
            let what = format!("{} {name}", kind.as_str());
            execute(
                connection,
                &what,
                Some(locked_by(*kind, name)),
                &drop_statements(*kind, name),
            )
            .await?;
        }
    }
    Ok(())
}

/// The table or view whose users are in the way.
fn locked_by(kind: Kind, name: &str) -> &str {
    match kind {
        Kind::Trigger | Kind::Policy => name.split_once('.').map_or(name, |(table, _)| table),
        Kind::Function | Kind::View | Kind::Rights => name,
    }
}

/// The statements that make or replace a text's object, with its grants, and record that.
pub(super) fn statements_of_text(text: &Text, roles: &BTreeSet<String>) -> Vec<String> {
    let mut statements = Vec::new();
    if text.kind == Kind::Policy {
        statements.push(drop_statement(text.kind, &text.name));
    }
    statements.push(text.sql.clone());
    if text.kind == Kind::Function {
        statements.push(format!(
            "revoke execute on function {} from public",
            text.name
        ));
    }
    let grants = text
        .grants
        .iter()
        .filter(|grant| roles.contains(&grant.role));
    statements.extend(grants.map(|grant| grant.sql.clone()));
    statements.push(record(text));
    statements
}

pub(super) fn record(text: &Text) -> String {
    format!(
        "insert into wxnotify_schema_texts (kind, name, hash) values ('{}', '{}', '{}') \
         on conflict (kind, name) do update set hash = excluded.hash, applied_at = now()",
        text.kind.as_str(),
        text.name,
        text.hash
    )
}

fn drop_statement(kind: Kind, name: &str) -> String {
    match (kind, name.split_once('.')) {
        (Kind::Trigger | Kind::Policy, Some((table, own))) => {
            format!("drop {} if exists {own} on {table}", kind.as_str())
        }
        (Kind::Rights, _) => String::new(),
        _ => format!("drop {} if exists {name}", kind.as_str()),
    }
}

/// Never CASCADE: what others hang on it was looked for before.
fn drop_statements(kind: Kind, name: &str) -> Vec<String> {
    let forget = format!(
        "delete from wxnotify_schema_texts where kind = '{}' and name = '{name}'",
        kind.as_str()
    );
    vec![drop_statement(kind, name), forget]
}

/// Grants all where our roles may not do just what they should, and closes the books.
async fn grant(
    connection: &mut PgConnection,
    schema: &Schema,
    roles: &BTreeSet<String>,
) -> Result<(), SchemaError> {
    let grants: Vec<String> = schema
        .texts
        .iter()
        .flat_map(|text| &text.grants)
        .filter(|grant| roles.contains(&grant.role))
        .map(|grant| grant.sql.clone())
        .collect();
    execute(connection, "the rights of our roles", None, &grants).await?;
    let rights = read_rights(connection).await?.digest;
    let close = write_books(schema, schema.level(), &schema.fingerprint(), &rights);
    execute(connection, "wxnotify_schema", None, &[close]).await
}

/// The one row of the books. None of the values is anybody's but ours.
pub(super) fn write_books(schema: &Schema, level: i32, fingerprint: &str, rights: &str) -> String {
    format!(
        "insert into wxnotify_schema (level, serves, release, fingerprint, rights) values ({level}, {}, '{}', '{fingerprint}', '{rights}') \
         on conflict (is_the_only_row) do update set level = excluded.level, serves = excluded.serves, release = excluded.release, \
         fingerprint = excluded.fingerprint, rights = excluded.rights, applied_at = now()",
        schema.serves.min(level),
        schema.release
    )
}

/// Runs statements as one transaction, again and again while a lock is not to be had.
async fn execute(
    connection: &mut PgConnection,
    what: &str,
    relation: Option<&str>,
    statements: &[String],
) -> Result<(), SchemaError> {
    if statements.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    for tried in 1.. {
        let wait = if tried > PATIENT_TRIES {
            LOCK_WAIT_MAX
        } else {
            LOCK_WAIT
        };
        let error = match try_execute(connection, wait, statements).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let is_busy = error.as_database_error().is_some_and(|refused| {
            // lock_not_available, deadlock_detected
            matches!(refused.code().as_deref(), Some("55P03" | "40P01"))
        });
        if !is_busy {
            return Err(SchemaError::of(what)(error));
        }
        let waited = begun.elapsed();
        if waited >= GIVE_UP_AFTER || tried % 20 == 1 {
            let holders = match relation {
                Some(relation) => read_holders(connection, relation).await?,
                None => Vec::new(),
            };
            if waited >= GIVE_UP_AFTER {
                return Err(SchemaError::Busy {
                    object: what.to_owned(),
                    holders,
                    waited_secs: waited.as_secs(),
                });
            }
            warn!(
                "Waiting for the lock of {what}, held by {}",
                holders.join(", ")
            );
        }
        // Longer than a try, so that those who waited behind it are through.
        let rest = Duration::from_millis(rand::rng().random_range(300..700));
        tokio::time::sleep(rest).await;
    }
    unreachable!("the loop ends by returning")
}

async fn try_execute(
    connection: &mut PgConnection,
    wait: Duration,
    statements: &[String],
) -> sqlx::Result<()> {
    let begin = "begin isolation level read committed read write";
    let mut transaction = connection.begin_with(begin).await?;
    let lock_timeout = format!("set local lock_timeout = {}", wait.as_millis());
    sqlx::raw_sql(AssertSqlSafe(lock_timeout))
        .execute(&mut *transaction)
        .await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str()))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

async fn read_holders(
    connection: &mut PgConnection,
    relation: &str,
) -> Result<Vec<String>, SchemaError> {
    sqlx::query_scalar(include_str!("../../sql/migrate/read_holders.sql"))
        .bind(relation)
        .fetch_all(connection)
        .await
        .map_err(SchemaError::of("looking for who holds the lock"))
}
