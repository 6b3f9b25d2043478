//! How a command ends, and how it prints.

use std::process::ExitCode;

/// What the program's exit code tells. Above 64 they follow `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done as asked.
    Done = 0,
    /// Not done: the message says what is wrong and what to do next.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Done in part, or nothing was found: the output says what was left and why.
    InPart = 3,
    /// Settings are wrong; all of them are listed and nothing was started.
    BadSettings = 64,
    /// The database (or the throwaway Postgres) is out of reach or not migrated.
    Unavailable = 69,
    /// A fault of the program itself.
    Internal = 70,
    /// Stopped before all was finished; what remains is safe in the database, so start again.
    Temporary = 75,
}

impl Exit {
    /// Each code with its meaning, for `--help` and the documentation.
    pub const MEANINGS: [(Self, &'static str); 8] = [
        (Self::Done, "done as asked"),
        (
            Self::Failed,
            "not done; the message says why and what to do next",
        ),
        (Self::Usage, "the command line is wrong"),
        (
            Self::InPart,
            "done in part, or nothing found; the output says what was left",
        ),
        (
            Self::BadSettings,
            "settings are wrong; all are listed, nothing was started",
        ),
        (
            Self::Unavailable,
            "the database is out of reach or not migrated",
        ),
        (Self::Internal, "a fault of the program itself"),
        (
            Self::Temporary,
            "stopped before all was finished; nothing is lost, start again",
        ),
    ];

    /// The code of a failure of the database; `None`: it is none that says the database cannot serve us.
    #[must_use]
    pub fn of_database_error(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Some(Self::Unavailable),
            sqlx::Error::Database(refusal) => refusal
                .code()
                .filter(|code| means_unavailable(code))
                .map(|_| Self::Unavailable),
            _ => None,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Whether an SQLSTATE says that the database cannot serve us: connection, authorization, no such
/// database, resources, shutdown, or a schema that lacks our objects.
fn means_unavailable(sqlstate: &str) -> bool {
    let class = sqlstate.get(..2).unwrap_or_default();
    matches!(class, "08" | "28" | "3D" | "53" | "57") || matches!(sqlstate, "42P01" | "42883")
}

/// How a command prints its results.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON on standard output instead of text for people.
    pub json: bool,
    /// Colour in text for people.
    pub color: bool,
}
