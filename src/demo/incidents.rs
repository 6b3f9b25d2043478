//! The incident set: forty cases that people have been woken for, in a throwaway database, to look at with every command.
//!
//! The cases and their answers are `sql/demo/incidents.sql`, which `psql` can load as well. No worker runs: it would change them.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::screen::Screen;
use crate::exit::{Exit, Output};
use crate::postgres::{Options, ThrowawayPostgres};
use crate::schema;
use crate::signals::StopSignals;

const SET: &str = include_str!("../../sql/demo/incidents.sql");

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Incident {
    /// From 01; its row has the `business_ref` `incident-<number>`.
    pub number: &'static str,
    /// The row's status.
    pub status: &'static str,
    /// Words that the right answer holds.
    pub answer: &'static str,
}

impl Incident {
    /// By what its row is found.
    #[must_use]
    pub fn business_ref(&self) -> String {
        format!("incident-{}", self.number)
    }
}

/// The cases in order, as the lines `-- number | status | words` of the set say.
#[must_use]
pub fn list() -> Vec<Incident> {
    let lines = SET.lines().filter_map(|line| line.strip_prefix("-- "));
    lines
        .filter_map(|line| {
            let mut parts = line.splitn(3, " | ");
            let number = parts.next()?;
            let is_case = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
            let (status, answer) = (parts.next()?, parts.next()?);
            is_case.then_some(Incident {
                number,
                status,
                answer,
            })
        })
        .collect()
}

/// Loads the set into a database that has the schema and nothing else.
///
/// # Errors
///
/// There is something in it already, or the database failed: nothing was loaded.
pub async fn load(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(SET).execute(connection).await.map(drop)
}

/// Loads the set into a throwaway Postgres, lists the cases, and stays up until Ctrl-C.
///
/// # Errors
///
/// There is no Postgres server on this machine, or it failed.
pub async fn run(output: Output) -> anyhow::Result<ExitCode> {
    let postgres = ThrowawayPostgres::start(Options::default()).await?;
    let database_url = postgres.create_database("wxnotify").await?;
    let mut connection = PgConnection::connect(&database_url)
        .await
        .context("connecting to the throwaway database")?;
    schema::apply(&mut connection, &schema::OF_THIS_PROGRAM).await?;
    load(&mut connection)
        .await
        .context("loading the incidents")?;
    connection.close().await?;
    if output.json {
        let document = json!({"database_url": database_url, "incidents": list()});
        writeln!(std::io::stdout(), "{document:#}")?;
    } else {
        show(&database_url, &Screen::of_process(output.color));
    }
    StopSignals::listen()
        .context("waiting for Ctrl-C")?
        .next()
        .await;
    postgres.stop().await?;
    Ok(Exit::Done.into())
}

fn show(database_url: &str, screen: &Screen) {
    let incidents = list();
    screen.heading(&format!(
        "{} incidents: what happened to each?",
        incidents.len()
    ));
    for incident in &incidents {
        screen.say(&format!(
            "  incident-{}  {}",
            incident.number, incident.status
        ));
    }
    screen.heading("What to try next");
    let faint = |text: &str| screen.faint(&format!("# {text}"));
    screen.say(&format!(
        "  export DATABASE_URL='{database_url}'\n  wxnotify status\n  psql \"$DATABASE_URL\" -v ref=incident-07 -f sql/operator/why_did_she_not_get_it.sql    {}\n\n{}\nCtrl-C ends it all.",
        faint("one file a question"),
        faint("the answers stand in sql/demo/incidents.sql; those that need a live worker hold for a minute"),
    ));
}
