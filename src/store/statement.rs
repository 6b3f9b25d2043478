//! A statement of `sql/`, spelled once: its text and, for errors, metrics and fail points, its name.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{FromRow, Postgres};

/// One file of `sql/<subject>/`. Made by [`statement!`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statement {
    /// The file's name without its folder.
    pub name: &'static str,
    /// What is sent to the server.
    pub text: &'static str,
}

/// The statement in `sql/<path>.sql`.
macro_rules! statement {
    ($path:literal) => {
        $crate::store::statement::Statement::new(
            $path,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/", $path, ".sql")),
        )
    };
}
pub(crate) use statement;

impl Statement {
    pub(crate) const fn new(path: &'static str, text: &'static str) -> Self {
        let mut at = path.len();
        while at > 0 && path.as_bytes()[at - 1] != b'/' {
            at -= 1;
        }
        Self {
            name: path.split_at(at).1,
            text,
        }
    }

    /// To be run for its effect, or for rows that are read by hand.
    pub(crate) fn query(self) -> Query<'static, Postgres, PgArguments> {
        sqlx::query(self.text)
    }

    /// To be run for rows of one type.
    pub(crate) fn query_as<Output>(self) -> QueryAs<'static, Postgres, Output, PgArguments>
    where
        Output: for<'row> FromRow<'row, PgRow>,
    {
        sqlx::query_as(self.text)
    }

    /// To be run for one column.
    pub(crate) fn query_scalar<Output>(self) -> QueryScalar<'static, Postgres, Output, PgArguments>
    where
        (Output,): for<'row> FromRow<'row, PgRow>,
    {
        sqlx::query_scalar(self.text)
    }
}
