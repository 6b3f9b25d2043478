//! What a migration is going to do in a database: looked up, compared and put in order. Nothing is changed here.
//!
//! Start at [`plan`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use sqlx::{FromRow, PgConnection};

use super::age::{Books, Found, Standing};
use super::text::Kind;
use super::{Schema, SchemaError, unreleased};

/// The oldest server that has what the texts use, as in `server_version_num`.
const SERVER_MIN: i32 = 140_000;

/// One thing that a migration does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "does", rename_all = "snake_case")]
pub enum Step {
    /// The books of the schema from before the first release become ours.
    TakeOver,
    /// A file of `migrations/`.
    Migrate {
        /// Its number.
        level: i32,
        /// Its name.
        name: String,
    },
    /// A text whose object is not there yet.
    Make {
        /// function, view, trigger, policy or rights.
        #[serde(serialize_with = "as_word")]
        kind: Kind,
        /// The object.
        name: String,
    },
    /// A text that differs from what was applied last.
    Replace {
        /// function, view, trigger, policy or rights.
        #[serde(serialize_with = "as_word")]
        kind: Kind,
        /// The object.
        name: String,
    },
    /// An object that this release no longer has.
    Drop {
        /// function, view, trigger or policy.
        #[serde(serialize_with = "as_word")]
        kind: Kind,
        /// The object.
        name: String,
    },
    /// All grants: our roles may not do what they should, or more was granted to them since.
    Grant,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn as_word<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakeOver => write!(formatter, "take over the books of the unreleased schema"),
            Self::Migrate { level, name } => write!(formatter, "migrate {level:04} {name}"),
            Self::Make { kind, name } => write!(formatter, "make {} {name}", kind.as_str()),
            Self::Replace { kind, name } => write!(formatter, "replace {} {name}", kind.as_str()),
            Self::Drop { kind, name } => write!(formatter, "drop {} {name}", kind.as_str()),
            Self::Grant => write!(formatter, "grant the rights of our roles"),
        }
    }
}

/// What a database has, and the steps that bring it up to date: none where it is, or where it is newer.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What was found.
    pub found: Found,
    /// What this program is to it.
    pub standing: Standing,
    /// In order.
    pub steps: Vec<Step>,
    /// Our roles that exist.
    pub roles: BTreeSet<String>,
}

#[derive(FromRow)]
struct PlaceRow {
    version: String,
    version_num: i32,
    database: String,
    encoding: String,
    schema: Option<String>,
    has_books: bool,
    has_sqlx_books: bool,
}

#[derive(FromRow)]
struct BooksRow {
    level: i32,
    serves: i32,
    release: String,
    fingerprint: String,
    rights: String,
}

#[derive(FromRow)]
struct TextRow {
    kind: String,
    name: String,
    hash: String,
}

#[derive(FromRow)]
struct ObjectRow {
    kind: String,
    name: String,
}

#[derive(FromRow)]
pub(super) struct RightsRow {
    pub(super) roles: Vec<String>,
    pub(super) digest: String,
}

/// Compares a database with `schema`. The session's settings become those that the texts need.
///
/// # Errors
///
/// A database that cannot hold the schema ([`SchemaError::Encoding`], [`SchemaError::Server`], [`SchemaError::NoSchema`]), one
/// that is half-way ([`SchemaError::Unreleased`]), somebody's own objects that are in the way ([`SchemaError::InUse`]), and a user
/// who may not make what is lacking ([`SchemaError::MayNotCreate`]).
pub async fn plan(connection: &mut PgConnection, schema: &Schema) -> Result<Plan, SchemaError> {
    sqlx::raw_sql(include_str!("../../sql/migrate/settle_session.sql"))
        .execute(&mut *connection)
        .await
        .map_err(SchemaError::of("settling the session"))?;
    let found = look(connection).await?;
    let standing = Standing::of(&found, schema);
    let rights = read_rights(connection).await?;
    let mut plan = Plan {
        found,
        standing,
        steps: Vec::new(),
        roles: rights.roles.into_iter().collect(),
    };
    if !matches!(plan.standing, Standing::Served { .. } | Standing::TooOld(_)) {
        plan.steps = steps(connection, schema, &plan, &rights.digest).await?;
    }
    if plan.steps.iter().any(|step| *step != Step::Grant) {
        ensure_may_create(connection).await?;
    }
    Ok(plan)
}

/// Where everybody may create, an owner of the tables may have had that right like everybody else, and lost it with them.
async fn ensure_may_create(connection: &mut PgConnection) -> Result<(), SchemaError> {
    let closed: Option<(String, String, String)> =
        sqlx::query_as(include_str!("../../sql/migrate/may_not_create.sql"))
            .fetch_optional(connection)
            .await
            .map_err(SchemaError::of("asking what this user may create"))?;
    closed.map_or(Ok(()), |(schema, user, owner)| {
        Err(SchemaError::MayNotCreate {
            schema,
            user,
            owner,
        })
    })
}

/// What the database has, after the looks that a wrong one does not survive.
async fn look(connection: &mut PgConnection) -> Result<Found, SchemaError> {
    let place: PlaceRow = sqlx::query_as(include_str!("../../sql/migrate/look.sql"))
        .fetch_one(&mut *connection)
        .await
        .map_err(SchemaError::of("looking at the database"))?;
    if place.version_num < SERVER_MIN {
        return Err(SchemaError::Server {
            version: place.version,
        });
    }
    if place.encoding != "UTF8" {
        return Err(SchemaError::Encoding {
            database: place.database,
            encoding: place.encoding,
        });
    }
    if place.schema.is_none() {
        return Err(SchemaError::NoSchema);
    }
    if place.has_books {
        let books: Option<BooksRow> =
            sqlx::query_as(include_str!("../../sql/migrate/read_books.sql"))
                .fetch_optional(&mut *connection)
                .await
                .map_err(SchemaError::of("reading wxnotify_schema"))?;
        if let Some(books) = books {
            return Ok(Found::Books(Books {
                level: books.level,
                serves: books.serves,
                release: books.release,
                fingerprint: books.fingerprint,
                rights: books.rights,
            }));
        }
    }
    if place.has_sqlx_books {
        let recorded: Vec<(i64, String)> =
            sqlx::query_as(include_str!("../../sql/migrate/read_sqlx_books.sql"))
                .fetch_all(&mut *connection)
                .await
                .map_err(SchemaError::of("reading _sqlx_migrations"))?;
        let of = unreleased::MIGRATIONS.len();
        match unreleased::count_among(&recorded) {
            0 => {}
            applied if applied == of => return Ok(Found::Unreleased),
            applied => return Err(SchemaError::Unreleased { applied, of }),
        }
    }
    Ok(Found::Nothing)
}

/// Which of our roles there are, and a digest of what they may do.
pub(super) async fn read_rights(connection: &mut PgConnection) -> Result<RightsRow, SchemaError> {
    sqlx::query_as(include_str!("../../sql/migrate/read_rights.sql"))
        .fetch_one(connection)
        .await
        .map_err(SchemaError::of("reading the rights of our roles"))
}

async fn steps(
    connection: &mut PgConnection,
    schema: &Schema,
    plan: &Plan,
    rights: &str,
) -> Result<Vec<Step>, SchemaError> {
    let applied = read_texts(connection, &plan.found).await?;
    let objects: Vec<ObjectRow> =
        sqlx::query_as(include_str!("../../sql/migrate/read_objects.sql"))
            .fetch_all(&mut *connection)
            .await
            .map_err(SchemaError::of("listing the objects"))?;
    let exist: BTreeSet<(&str, &str)> = objects
        .iter()
        .map(|object| (object.kind.as_str(), object.name.as_str()))
        .collect();

    let (from, known_rights) = match &plan.found {
        Found::Nothing => (0, None),
        Found::Unreleased => (unreleased::LEVEL, None),
        Found::Books(books) => (books.level, Some(&books.rights)),
    };
    let mut steps = Vec::new();
    if plan.found == Found::Unreleased {
        steps.push(Step::TakeOver);
    }
    steps.extend(
        schema
            .migrations
            .iter()
            .filter(|migration| migration.level > from)
            .map(|migration| Step::Migrate {
                level: migration.level,
                name: migration.name.clone(),
            }),
    );
    for text in &schema.texts {
        // Without its role a policy waits for it; a first migration makes the role.
        let waits = text
            .needs_role
            .as_ref()
            .is_some_and(|role| !plan.roles.contains(role));
        let exists = text.kind == Kind::Rights || exist.contains(&(text.kind.as_str(), &text.name));
        let hash = applied.get(&(text.kind, text.name.clone()));
        let (kind, name) = (text.kind, text.name.clone());
        if !exists && !waits || exists && hash.is_none() && text.kind == Kind::Rights {
            steps.push(Step::Make { kind, name });
        } else if exists && hash != Some(&text.hash) {
            steps.push(Step::Replace { kind, name });
        }
    }
    let gone = gone(connection, schema, &applied, &exist).await?;
    steps.extend(
        gone.into_iter()
            .map(|(kind, name)| Step::Drop { kind, name }),
    );
    if known_rights.is_none_or(|known| known != rights) {
        steps.push(Step::Grant);
    }
    Ok(steps)
}

/// The texts that were applied last, by kind and name; those of a schema from before the first release are unknown.
async fn read_texts(
    connection: &mut PgConnection,
    found: &Found,
) -> Result<BTreeMap<(Kind, String), String>, SchemaError> {
    match found {
        Found::Nothing => Ok(BTreeMap::new()),
        Found::Unreleased => Ok(unreleased::GONE
            .iter()
            .map(|(kind, name)| ((*kind, (*name).to_owned()), String::new()))
            .collect()),
        Found::Books(_) => {
            let rows: Vec<TextRow> =
                sqlx::query_as(include_str!("../../sql/migrate/read_texts.sql"))
                    .fetch_all(connection)
                    .await
                    .map_err(SchemaError::of("reading wxnotify_schema_texts"))?;
            Ok(rows
                .into_iter()
                .filter_map(|row| Some(((Kind::of_name(&row.kind)?, row.name), row.hash)))
                .collect())
        }
    }
}

/// What was applied once, is there, and is no text any more: users first, so triggers, policies, views, functions.
async fn gone(
    connection: &mut PgConnection,
    schema: &Schema,
    applied: &BTreeMap<(Kind, String), String>,
    exist: &BTreeSet<(&str, &str)>,
) -> Result<Vec<(Kind, String)>, SchemaError> {
    let texts: BTreeSet<(Kind, &str)> = schema
        .texts
        .iter()
        .map(|text| (text.kind, text.name.as_str()))
        .collect();
    let mut gone: Vec<_> = applied
        .keys()
        .filter(|(kind, name)| !texts.contains(&(*kind, name.as_str())))
        .filter(|(kind, name)| {
            *kind == Kind::Rights || exist.contains(&(kind.as_str(), name.as_str()))
        })
        .cloned()
        .collect();
    let rank = |kind: Kind| match kind {
        Kind::Rights => 0,
        Kind::Trigger => 1,
        Kind::Policy => 2,
        Kind::View => 3,
        Kind::Function => 4,
    };
    gone.sort_by_key(|(kind, _)| rank(*kind));
    let ours: Vec<String> = applied
        .keys()
        .map(|(_, name)| name.clone())
        .chain(schema.texts.iter().map(|text| text.name.clone()))
        .collect();
    for (kind, name) in &gone {
        if !matches!(kind, Kind::Function | Kind::View) {
            continue;
        }
        let users: Vec<String> =
            sqlx::query_scalar(include_str!("../../sql/migrate/read_users.sql"))
                .bind(kind.as_str())
                .bind(name)
                .bind(&ours)
                .fetch_all(&mut *connection)
                .await
                .map_err(SchemaError::of(format!("looking for users of {name}")))?;
        if !users.is_empty() {
            return Err(SchemaError::InUse {
                object: format!("{} {name}", kind.as_str()),
                users,
            });
        }
    }
    Ok(gone)
}
