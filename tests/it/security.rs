//! Who may do what, and what those who may not are told: database roles, TLS, and the HTTP listener under attack.

mod attempts;
mod listener;
mod roles;
mod server_log;
pub mod tls;

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

use crate::harness::TestDatabase;

/// The password of every login here.
const PASSWORD: &str = "password-of-a-login-never-to-be-shown";

/// A login that is a member of one of wxnotify's roles, or of none, and connections of it.
pub struct Login {
    pub name: String,
    pub pool: PgPool,
}

impl Login {
    /// Logins belong to the whole server, hence a name for each.
    pub async fn of(role: &str, database: &TestDatabase) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wxnotify_login_{}_{count}", std::process::id());
        let membership = match role {
            "" => String::new(),
            role => format!(" in role {role}"),
        };
        let statement = format!("create role {name} login password '{PASSWORD}'{membership}");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(database.pool())
            .await
            .unwrap();
        let pool = PgPoolOptions::new()
            .max_connections(3)
            .connect(&url_of(&name, database))
            .await
            .unwrap();
        Self { name, pool }
    }

    /// Where this login connects.
    pub fn url(&self, database: &TestDatabase) -> String {
        url_of(&self.name, database)
    }

    /// Runs statements; gives the SQLSTATE of the refusal.
    pub async fn refused(&self, statements: &str) -> String {
        let error = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .fetch_all(&self.pool)
            .await
            .err()
            .unwrap_or_else(|| panic!("{} may do this: {statements}", self.name));
        let code = error.as_database_error().and_then(|error| error.code());
        code.unwrap_or_else(|| panic!("{error}\n{statements}"))
            .into_owned()
    }

    /// Runs a statement; gives the rows it changed.
    pub async fn run(&self, statement: &str) -> u64 {
        sqlx::query(AssertSqlSafe(statement.to_owned()))
            .execute(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{statement}"))
            .rows_affected()
    }

    /// The first column of a query as text.
    pub async fn texts(&self, query: &str) -> Vec<String> {
        let query = format!("select t::text from ({query}) q (t)");
        sqlx::query_scalar(AssertSqlSafe(query.clone()))
            .fetch_all(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{query}"))
    }
}

fn url_of(name: &str, database: &TestDatabase) -> String {
    let mut url = url::Url::parse(database.url()).unwrap();
    url.set_username(name).unwrap();
    url.set_password(Some(PASSWORD)).unwrap();
    url.into()
}
