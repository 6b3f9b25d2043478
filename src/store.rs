//! Every SQL statement of the program: one function here, one file in `sql/`.

use sqlx::PgPool;
use sqlx::migrate::Migrator;

/// The schema, one migration a step.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// The database, as the rest of the program sees it.
#[derive(Debug, Clone)]
pub struct Store {
    /// Few connections, whatever the concurrency: no send holds one.
    pub pool: PgPool,
}
