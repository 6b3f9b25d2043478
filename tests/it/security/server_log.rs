//! What the database's own log shows of messages and receivers.

use std::fs;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use wxnotify::postgres::{Options, ThrowawayPostgres};

use crate::harness::make_schema;

/// In every private part of a row.
const PRIVATE: &str = "PRIVATE";
/// More than a `thing` may have.
const TOO_LONG: &str = "PRIVATE text of more than twenty characters";

struct Server {
    postgres: ThrowawayPostgres,
    session: PgConnection,
}

impl Server {
    async fn new() -> Self {
        let postgres = ThrowawayPostgres::start(Options::default()).await.unwrap();
        let mut session = PgConnection::connect(postgres.url()).await.unwrap();
        make_schema(&mut session).await;
        session
            .execute("create role shop login in role wxnotify_producer")
            .await
            .unwrap();
        Self { postgres, session }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.postgres.folder().join("log")).unwrap()
    }

    /// Sets a parameter for the session, as whoever may.
    async fn set(&mut self, name: &str, value: &str) {
        let set = format!("reset role; set {name} = '{value}'; set role shop");
        self.session
            .execute(sqlx::raw_sql(AssertSqlSafe(set)))
            .await
            .unwrap();
    }

    /// What is logged of a row that is refused; with its values bound, or written into the statement.
    async fn logged(&mut self, data: &str, is_bound: bool) -> String {
        let before = self.log().len();
        let refused = if is_bound {
            sqlx::query("insert into pending_notifications (appid, openid, template_id, data) values ('wx1', $1, 't', $2::text::jsonb)")
                .bind(PRIVATE)
                .bind(data)
                .execute(&mut self.session)
                .await
        } else {
            let statement = format!(
                "insert into pending_notifications (appid, openid, template_id, data) values ('wx1', '{PRIVATE}', 't', '{data}')"
            );
            self.session
                .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
                .await
        };
        assert!(refused.is_err(), "{data} was stored");
        let log = self.log()[before..].to_owned();
        assert!(log.contains("ERROR:"), "nothing is logged: {log}");
        log
    }
}

#[tokio::test]
async fn a_refused_row_is_in_the_databases_log_as_it_was_written_unless_its_values_are_bound() {
    let mut server = Server::new().await;
    let refused = json!({ "thing1": TOO_LONG }).to_string();
    let unreadable = format!("{{\"thing1\": \"{PRIVATE}");
    server.set("log_error_verbosity", "default").await;

    let log = server.logged(&refused, false).await;
    assert!(
        log.contains(&format!("'{PRIVATE}'")),
        "the statement, as Postgres logs it: {log}"
    );
    let message = log.lines().next().unwrap();
    assert!(
        message.contains("thing1: at most 20") && !message.contains(PRIVATE),
        "{message}"
    );
    let log = server.logged(&refused, true).await;
    assert!(!log.contains(PRIVATE), "{log}");
    let log = server.logged(&unreadable, true).await;
    assert!(
        log.contains("JSON data, line 1") && log.contains(PRIVATE),
        "{log}"
    );

    server.set("log_error_verbosity", "terse").await;
    let log = server.logged(&unreadable, true).await;
    assert!(!log.contains(PRIVATE), "{log}");
    server.set("log_min_error_statement", "fatal").await;
    for data in [&refused, &unreadable] {
        let log = server.logged(data, false).await;
        assert!(!log.contains(PRIVATE), "{log}");
    }
}

#[tokio::test]
async fn bound_values_are_logged_when_a_setting_says_so() {
    let mut server = Server::new().await;
    let refused = json!({ "thing1": TOO_LONG }).to_string();
    server.set("log_parameter_max_length_on_error", "-1").await;
    let log = server.logged(&refused, true).await;
    assert!(
        log.contains("unnamed portal") || log.contains("with parameters"),
        "{log}"
    );
    assert!(log.contains(PRIVATE), "{log}");
    server.set("log_parameter_max_length_on_error", "0").await;
    for (name, loud, quiet) in [
        ("log_statement", "all", "none"),
        ("log_min_duration_statement", "0", "-1"),
    ] {
        server.set(name, loud).await;
        let log = server.logged(&refused, true).await;
        assert!(log.contains(PRIVATE), "{name}: {log}");
        let before = server.log().len();
        sqlx::query("select $1::text")
            .bind(PRIVATE)
            .execute(&mut server.session)
            .await
            .unwrap();
        assert!(server.log()[before..].contains(PRIVATE), "{name}");
        server.set("log_parameter_max_length", "0").await;
        let before = server.log().len();
        sqlx::query("select $1::text")
            .bind(PRIVATE)
            .execute(&mut server.session)
            .await
            .unwrap();
        assert!(!server.log()[before..].contains(PRIVATE), "{name}");
        server.set("log_parameter_max_length", "-1").await;
        server.set(name, quiet).await;
    }
}
