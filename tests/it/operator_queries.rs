//! The query book, `sql/operator/`: psql runs each file as it stands, for an operator who has no other right, and finds the right answer
//! in the incident set.

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Row};
use wxnotify::demo::incidents;

use crate::copies::{client, clients};
use crate::harness::TestDatabase;
use crate::kernel::Queue;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sql/operator")
}

/// The files with their text, in order.
fn queries() -> Vec<(String, String)> {
    let mut queries: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    queries.sort();
    queries
}

/// What psql prints for a file, without a headline, as a member of `wxnotify_operator` alone.
fn ask(psql: &Path, database: &TestDatabase, name: &str, variables: &[&str]) -> String {
    let file = folder().join(name).to_string_lossy().into_owned();
    let mut arguments = vec![
        "--no-psqlrc",
        "--quiet",
        "--no-align",
        "--tuples-only",
        "--set=ON_ERROR_STOP=1",
        "--dbname",
        database.url(),
        "--command=set role wxnotify_operator",
    ];
    arguments.extend(variables);
    arguments.extend(["--file", &file]);
    String::from_utf8(client(psql.to_owned(), &arguments, b"")).unwrap()
}

async fn incident_database() -> TestDatabase {
    let database = TestDatabase::new().await;
    let mut connection = database.connect().await;
    incidents::load(&mut connection).await.unwrap();
    database
}

/// By file: what some line of the answer must hold, all of one line together.
const ANSWERS: &[(&str, &[&[&str]])] = &[
    (
        "why_did_she_not_get_it",
        &[&[
            "dead",
            "Which 43101: refused, certain",
            "用户已拒绝（确定）",
        ]],
    ),
    (
        "how_old_is_the_backlog",
        &[
            &["wxincident-bulk|2|tmplOffer|999|0|0|"],
            &["wxincident-manual|1|tmplOrderIsReady|1|1|0|"],
            &["wxincident-unknown|1|tmplOrderIsReady|1|1|0|"],
            &["wxincident-shop|1|tmplOrderIsReady|6|1|3|"],
        ],
    ),
    (
        "which_templates_fail",
        &[
            &["wxincident-shop|tmplOrderIsReady|43101|", "|4|4|0|"],
            &["wxincident-shop|tmplOrderIsReady|47003|"],
            &[
                "wxincident-shop|tmplOrderIsReady||no readable reply|",
                "|5|0|5|",
            ],
        ],
    ),
    ("who_has_no_credit", &[&["oUserOfIncident06|0|0|0|0|f|"]]),
    (
        "will_tomorrow_find_credits",
        &[
            &["wxincident-quota|tmplOrderIsReady|1|0|0|0|t|"],
            &["wxincident-shop|tmplOrderIsReady|5|1|0|58000|f|"],
            &["wxincident-bulk|tmplOffer|999|0|0||", "|10"],
        ],
    ),
    (
        "what_was_never_confirmed",
        &[&["incident-03|4000000000000000003|"], &["incident-19|"]],
    ),
    (
        "what_is_in_doubt",
        &[
            &["incident-14", "|hold|1|", "an operator"],
            &["incident-15", "|retry|1|", "is sent again|3"],
            &["incident-16", "|retry|8|", "attempts used up|3"],
        ],
    ),
    (
        "dead_letters_by_errcode",
        &[
            &["|43101|", "|gone|4|0|0|0|"],
            &["|-1|", "|unknown|3|2|1|1|"],
            &["|47003|", "|kept|2|1|1|1|"],
            &["|40163|", "|kept|1|0|0|0|"],
        ],
    ),
    (
        "how_is_that_redrive_going",
        &[
            &["operator (wang)|WeChat is back|", "|1|0|0|1|0"],
            &["operator (li)|the field is filled again|", "|2|1|1|0|0"],
        ],
    ),
    (
        "is_the_token_healthy",
        &[
            &[
                "wxincident-token|",
                "|23|",
                "another system fetches it by force",
            ],
            &["wxincident-shop|", "|healthy|正常"],
        ],
    ),
    (
        "how_near_are_quota_and_rate",
        &[
            &["wxincident-quota|外卖|50000|50000|0|100.0|"],
            &[
                "wxincident-shop|商城|100000|42000|58000|42.0|",
                "|100|100|0.0",
            ],
        ],
    ),
    (
        "what_is_paused",
        &[
            &[
                "wxincident-manual|",
                "|operator (li)|",
                "|until the menu is mended|wxnotify app resume wxincident-manual",
            ],
            &["wxincident-quota|", "45009", "||||wxnotify app resume"],
            &["tmplBanned", "43107"],
            &["wxnotify app add wxincident-unknown"],
        ],
    ),
    (
        "what_is_scheduled",
        &[&[
            "|scheduled|",
            "|incident-34|",
            "select * from cancel_notification(",
            "reschedule_notification(",
        ]],
    ),
    (
        "how_late_are_we",
        &[&["wxincident-shop|7|1|{00:00:01,00:00:01,00:00:01}|3|"]],
    ),
    (
        "are_the_workers_alive",
        &[
            &["worker|worker-a#1|live|"],
            &["worker|worker-b#2|silent|0.2.0, 1 in flight|"],
            &["perhaps twice|wxincident-shop||1 notifications|"],
        ],
    ),
    ("where_is_my_order", &[&["|dead|47003 "]]),
    (
        "credits_of_a_user",
        &[&["tmplOrderIsReady|0|2|0|0|0|0|1|0|1|0|0|0|0|"]],
    ),
    (
        "what_is_stuck",
        &[
            &["wxincident-secret|paused|"],
            &["wxincident-shop|in_doubt|"],
        ],
    ),
    ("what_is_due_next_hour", &[&["wxincident-shop|"]]),
    ("throughput_per_minute", &[]),
    ("who_blocks_the_queue", &[&["|nobody else|", "|0|"]]),
];

#[tokio::test]
async fn each_query_finds_the_right_answer_in_the_incident_set() {
    let Some(folder) = clients() else { return };
    let psql = folder.join("psql");
    let database = incident_database().await;
    for (name, expected) in ANSWERS {
        let answer = ask(&psql, &database, &format!("{name}.sql"), &[]);
        for words in *expected {
            assert!(
                answer
                    .lines()
                    .any(|line| words.iter().all(|word| line.contains(word))),
                "{name} has no line with {words:?}:\n{answer}"
            );
        }
    }
}

#[tokio::test]
async fn each_query_runs_on_an_empty_database() {
    let Some(folder) = clients() else { return };
    let database = TestDatabase::new().await;
    for (name, _) in queries() {
        let answer = ask(&folder.join("psql"), &database, &name, &[]);
        assert!(answer.lines().count() <= 1, "{name}: {answer}");
    }
}

#[tokio::test]
async fn a_parameter_is_given_as_a_psql_variable_and_is_no_sql() {
    let Some(folder) = clients() else { return };
    let psql = folder.join("psql");
    let database = incident_database().await;
    let name = "why_did_she_not_get_it.sql";
    let answer = ask(&psql, &database, name, &["--set=ref=incident-08"]);
    assert!(answer.contains("47003"), "{answer}");
    let nobody = ask(&psql, &database, name, &["--set=ref=' or '' = '"]);
    assert_eq!(nobody, "", "an unknown key finds nothing, never everything");
    let user = [
        "--set=ref=",
        "--set=appid=wxincident-shop",
        "--set=openid=oUserOfIncident37",
    ];
    let answer = ask(&psql, &database, "what_is_scheduled.sql", &user);
    assert!(
        answer.contains("|retrying|") && answer.lines().count() == 1,
        "{answer}"
    );
}

/// A producer may lock its table: then the operator must find the session that holds everybody up.
#[tokio::test]
async fn who_blocks_the_queue_names_the_session_that_holds_a_lock() {
    let queue = Queue::new().await;
    let mut holder = queue.pool().begin().await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
        .fetch_one(&mut *holder)
        .await
        .unwrap();
    sqlx::query("lock table pending_notifications in access exclusive mode")
        .execute(&mut *holder)
        .await
        .unwrap();
    let pool = queue.pool().clone();
    let waiting = tokio::spawn(async move {
        sqlx::query("select count(*) from pending_notifications")
            .fetch_one(&pool)
            .await
    });
    let (_, query) = queries()
        .into_iter()
        .find(|(name, _)| name == "who_blocks_the_queue.sql")
        .unwrap();
    let holds = crate::harness::eventually("the holder is named", async || {
        let rows = sqlx::query(AssertSqlSafe(query.clone()))
            .fetch_all(queue.pool())
            .await
            .unwrap();
        let row = rows
            .iter()
            .find(|row| row.get::<Option<i32>, _>("pid") == Some(pid))?;
        row.get::<Option<String>, _>("holds")
    })
    .await;
    assert!(
        holds.contains("pending_notifications AccessExclusiveLock"),
        "{holds}"
    );
    holder.rollback().await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[test]
fn each_query_has_an_answer_to_compare_with_and_opens_with_its_question_in_english_and_chinese() {
    let queries = queries();
    let mut answered: Vec<_> = ANSWERS
        .iter()
        .map(|(name, _)| format!("{name}.sql"))
        .collect();
    answered.sort();
    let names: Vec<_> = queries.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, answered);
    for (name, text) in queries {
        let mut lines = text.lines();
        let english = lines.next().unwrap();
        let chinese = lines.next().unwrap();
        assert!(
            english.starts_with("-- ") && english.ends_with('?'),
            "{name}: {english}"
        );
        assert!(
            chinese.starts_with("-- ") && chinese.ends_with('？'),
            "{name}: {chinese}"
        );
    }
}

/// Without a default a file would not run as it stands; as text a value would be SQL.
#[test]
fn each_parameter_has_a_default_and_is_quoted_or_counted() {
    for (name, text) in queries() {
        let statements: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("--"))
            .collect();
        let statements = statements.join("\n");
        for (at, _) in statements.match_indices(":'") {
            let variable = statements[at + 2..].split('\'').next().unwrap();
            let default = format!("\\if :{{?{variable}}}\n\\else\n\\set {variable} '");
            assert!(
                statements.contains(&default),
                "{name}: {variable} has no default"
            );
        }
        for counted in ["hours => :hours", "days => :days"] {
            let variable = counted.rsplit(':').next().unwrap();
            let default = format!("\\set {variable} '");
            assert!(
                !statements.contains(counted) || statements.contains(&default),
                "{name}: {counted}"
            );
        }
    }
}
