//! The incident set: forty cases that people have been woken for, each with the right answer in SQL and by command.

use clap::Parser;
use serde_json::Value;
use wxnotify::demo::incidents::{self, Incident};
use wxnotify::operate::execute;
use wxnotify::operate::report::Style;
use wxnotify::store::Store;

use crate::harness::{Line, TestDatabase};

async fn loaded() -> TestDatabase {
    let database = TestDatabase::new().await;
    let mut connection = database.connect().await;
    incidents::load(&mut connection).await.unwrap();
    database
}

/// What a command prints, and its document.
async fn command(database: &TestDatabase, words: &str) -> (String, Value) {
    let words = std::iter::once("wxnotify").chain(words.split_whitespace());
    let line = Line::try_parse_from(words).unwrap();
    let store = Store::new(database.pool().clone());
    let report = execute(line.command, &store).await.unwrap();
    (report.to_text(Style::PLAIN), report.document().clone())
}

async fn id_of(database: &TestDatabase, incident: &Incident) -> i64 {
    sqlx::query_scalar("select id from notifications where business_ref = $1")
        .bind(incident.business_ref())
        .fetch_one(database.pool())
        .await
        .unwrap_or_else(|error| panic!("incident {}: {error}", incident.number))
}

#[tokio::test]
async fn each_of_forty_incidents_is_explained_rightly_in_sql_and_by_command() {
    let incidents = incidents::list();
    let numbers: Vec<_> = (1..=40).map(|number| format!("{number:02}")).collect();
    assert_eq!(
        incidents
            .iter()
            .map(|incident| incident.number)
            .collect::<Vec<_>>(),
        numbers
    );
    let database = loaded().await;
    let mut wrong = Vec::new();
    for incident in &incidents {
        let id = id_of(&database, incident).await;
        let (status, sentence, what_next): (String, String, String) =
            sqlx::query_as("select status, sentence, what_next from explain_notification($1)")
                .bind(id)
                .fetch_one(database.pool())
                .await
                .unwrap();
        let told = format!("{sentence}\n{what_next}");
        if status != incident.status || !told.contains(incident.answer) {
            wrong.push(format!("{incident:?} in SQL: {status}: {told}"));
        }
        let (text, document) = command(&database, &format!("explain {id}")).await;
        if document["status"] != incident.status || !text.contains(incident.answer) {
            wrong.push(format!("{incident:?} by command: {text}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn each_incident_has_a_sentence_and_a_next_step_in_chinese() {
    let database = loaded().await;
    let without: Vec<String> = sqlx::query_scalar(
        "select n.business_ref from notifications n cross join lateral explain_notification(n.id) e
         where n.business_ref like 'incident-%' and (e.sentence_zh !~ '[一-龥]' or e.what_next_zh !~ '[一-龥]')",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    assert!(without.is_empty(), "{without:?}");
}

#[tokio::test]
async fn the_books_of_the_incidents_balance() {
    let database = loaded().await;
    let faults: i64 = sqlx::query_scalar("select count(*) from notification_credit_faults")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(faults, 0);
}

#[tokio::test]
async fn status_dead_letters_doubts_and_credits_show_the_incidents_by_command() {
    let database = loaded().await;
    let (status, _) = command(&database, "status").await;
    for words in [
        "wxincident-bulk",
        "the menu is wrong",
        "45009 the daily quota is used up",
        "worker-a",
        "in doubt: 3",
    ] {
        assert!(status.contains(words), "{words}: {status}");
    }
    let (dead, _) = command(&database, "dead").await;
    for number in [
        "04", "05", "07", "08", "09", "10", "11", "12", "17", "28", "29",
    ] {
        assert!(
            dead.contains(&format!("incident-{number}")),
            "{number}: {dead}"
        );
    }
    let (doubts, _) = command(&database, "doubt list").await;
    assert!(
        ["14", "15", "16"]
            .iter()
            .all(|number| doubts.contains(&format!("incident-{number}"))),
        "{doubts}"
    );
    let (credits, _) = command(&database, "credits wxincident-shop oUserOfIncident07").await;
    assert!(credits.contains("tmplOrderIsReady"), "{credits}");
}

/// It would bring made-up mini-programs into a database that sends.
#[tokio::test]
async fn the_set_is_not_loaded_into_a_database_with_anything_in_it() {
    let database = loaded().await;
    let mut connection = database.connect().await;
    let error = incidents::load(&mut connection)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("wants an empty database"), "{error}");
}
