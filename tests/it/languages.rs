//! What is printed for people, in the reader's language and zone; documents are the same for everybody.

use serde_json::Value;
use wxnotify::operate::phrases::in_chinese;

use crate::harness::{TestDatabase, wxnotify};

/// What a command prints.
fn printed(database: &TestDatabase, words: &str, language: &str, zone: &str) -> String {
    let output = wxnotify()
        .args(words.split_whitespace())
        .env("DATABASE_URL", database.url())
        .env("LC_ALL", language)
        .env("TZ", zone)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        matches!(output.status.code(), Some(0 | 1 | 3)),
        "{words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

async fn incidents() -> TestDatabase {
    let database = TestDatabase::new().await;
    let mut connection = database.connect().await;
    wxnotify::demo::incidents::load(&mut connection)
        .await
        .unwrap();
    sqlx::raw_sql(
        "insert into reminder_schedules (appid, name, cron, openid, template_id, data) values ('wxincident-shop', 'habit', '0 9 * * *', 'o', 'T', '{\"thing1\": \"x\"}');
         select set_quiet_hours('wxincident-shop', '22:00', '08:00')",
    )
    .execute(database.pool())
    .await
    .unwrap();
    database
}

const COMMANDS: [&str; 16] = [
    "status",
    "dead",
    "doubt list",
    "failures",
    "latency",
    "actions",
    "app list",
    "template list",
    "token status",
    "quota",
    "schedule list",
    "forecast",
    "quiet list",
    "check list",
    "batch list",
    "find incident-07",
];

fn is_chinese(text: &str) -> bool {
    text.chars().any(|letter| ('一'..='龥').contains(&letter))
}

#[tokio::test]
async fn every_report_is_chinese_for_a_chinese_reader_and_its_document_is_the_same_for_all() {
    let database = incidents().await;
    for words in COMMANDS {
        let english = printed(&database, words, "C.UTF-8", "UTC");
        let chinese = printed(&database, words, "zh_CN.UTF-8", "UTC");
        assert_eq!(
            english.lines().count(),
            chinese.lines().count(),
            "{words}: {english}\n{chinese}"
        );
        assert!(is_chinese(&chinese), "{words}: {chinese}");
        assert_ne!(english, chinese, "{words}");
        let document = |language| {
            let text = printed(
                &database,
                &format!("{words} --json"),
                language,
                "Asia/Shanghai",
            );
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let (one, other) = (document("C.UTF-8"), document("zh_CN.UTF-8"));
        assert_eq!(
            one.as_object()
                .map(|object| object.keys().collect::<Vec<_>>()),
            other
                .as_object()
                .map(|object| object.keys().collect::<Vec<_>>()),
            "{words}"
        );
        assert!(
            !one.to_string().contains("+08:00"),
            "{words}: times are UTC"
        );
    }
}

#[tokio::test]
async fn a_flag_goes_before_the_environment() {
    let database = incidents().await;
    let chinese = printed(&database, "status --lang zh", "C.UTF-8", "UTC");
    assert!(
        chinese.contains("积压") && chinese.contains("下一步："),
        "{chinese}"
    );
    let english = printed(&database, "status --lang en", "zh_CN.UTF-8", "UTC");
    assert!(
        english.contains("Backlog") && english.contains("next: "),
        "{english}"
    );
}

#[tokio::test]
async fn times_are_in_the_readers_zone_with_its_offset_and_utc_is_z() {
    let database = incidents().await;
    for (zone, offset) in [
        ("Asia/Shanghai", " +08:00"),
        ("America/Argentina/Buenos_Aires", " -03:00"),
        ("UTC", "Z"),
        ("Mars/Olympus", "Z"),
    ] {
        let dead = printed(&database, "dead", "C.UTF-8", zone);
        assert!(dead.contains(offset), "{zone}: {dead}");
    }
}

/// Headings and sentences without a value are translated by their text: one that is not there would stay English.
#[test]
fn every_heading_and_every_sentence_without_a_value_is_there_in_chinese() {
    let mut missing = Vec::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/operate/commands");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let headings = code
            .split("Table::new(&[")
            .skip(1)
            .flat_map(|rest| literals(rest.split("])").next().unwrap()));
        let sentences = [".line(", ".heading(", ".next("]
            .into_iter()
            .flat_map(|call| {
                code.split(call).skip(1).filter_map(|rest| {
                    let rest = rest.trim_start();
                    rest.starts_with('"')
                        .then(|| literals(rest))
                        .and_then(|found| found.into_iter().next())
                })
            });
        for said in headings.chain(sentences.collect::<Vec<_>>()) {
            let said = said.trim_end_matches('#');
            if in_chinese(said).is_none() {
                missing.push(format!("{}: {said:?}", path.file_name().unwrap().display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The string literals of a piece of code.
fn literals(code: &str) -> Vec<String> {
    code.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}
