//! `wxnotify schedule`: times without a database, and operators' looks and changes with one.

use serde_json::Value;
use sqlx::PgPool;
use wxnotify::operate::commands::forecast::ForecastArgs;
use wxnotify::operate::commands::schedules::ScheduleCommand;
use wxnotify::operate::doctor::DoctorArgs;
use wxnotify::operate::report::{Report, Style};
use wxnotify::operate::{OperateCommand, execute};
use wxnotify::store::Store;

use crate::harness::{TestDatabase, wxnotify};

/// What `wxnotify schedule next` ends with, says and complains of; no database is near.
fn next(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = wxnotify()
        .args(["schedule", "next"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_next_times_of_a_cron_text_need_no_database() {
    let (code, stdout, stderr) = next(&[
        "--cron",
        "30 2 * * *",
        "--time-zone",
        "Europe/Berlin",
        "--from",
        "2027-03-27T12:00",
        "--count",
        "2",
        "--json",
    ]);
    assert_eq!(code, Some(0), "{stderr}");
    let document: Value = serde_json::from_str(&stdout).unwrap();
    let times = document["times"].as_array().unwrap();
    assert_eq!(times[0]["local_at"], "2027-03-28T02:30:00");
    assert_eq!(times[0]["fire_at"], "2027-03-28T01:00:00Z");
    assert_eq!(
        times[0]["remark"],
        "the clocks leap over 02:30, it is 03:00 then"
    );
    assert_eq!(times[1]["fire_at"], "2027-03-29T00:30:00Z");
    assert_eq!(times[1]["remark"], Value::Null);
    assert_eq!(times.len(), 2);
}

#[test]
fn people_read_wall_time_day_and_utc_in_one_line_each() {
    let (code, stdout, _) = next(&[
        "--cron",
        "0 9 * * 1",
        "--from",
        "2026-12-01T01:00:00Z",
        "--count",
        "1",
    ]);
    assert_eq!(code, Some(0));
    let last: Vec<&str> = stdout.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(
        last,
        [
            "2026-12-07",
            "09:00:00",
            "Mon",
            "2026-12-07",
            "01:00:00Z",
            "-"
        ]
    );
}

#[test]
fn a_wrong_cron_text_zone_or_time_is_wrong_usage_with_the_rule() {
    for (arguments, words) in [
        (&["--cron", "0 25 * * *"][..], "an hour is 0 to 23"),
        (
            &["--cron", "0 9 * * *", "--time-zone", "Asia/Shangai"],
            "write \"Asia/Shanghai\"",
        ),
        (
            &["--cron", "0 9 * * *", "--from", "tomorrow"],
            "--from \"tomorrow\" is no time",
        ),
        (
            &["--cron", "0 9 * * *", "--count", "0"],
            "0 is not in 1..=1000",
        ),
        (&[], "required arguments were not provided"),
        (&["weekend", "--cron", "0 9 * * *"], "cannot be used with"),
    ] {
        let (code, _, stderr) = next(arguments);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
    }
}

async fn database_with_schedules() -> TestDatabase {
    let database = TestDatabase::new().await;
    sqlx::raw_sql(
        "select add_app('wx1'), set_default_app('wx1');
         insert into reminder_schedules (name, cron, openid, template_id, data)
         values ('course', '40 7 * * 1-5', 'oUser1', 'Tmpl1', '{\"thing1\": \"Pottery\"}'),
                ('habit', '0 9 * * *', 'oUser1', 'Tmpl1', '{\"thing1\": \"Water\"}')",
    )
    .execute(database.pool())
    .await
    .unwrap();
    database
}

async fn run(database: &TestDatabase, arguments: &[&str]) -> Report {
    try_run(database, arguments).await.unwrap()
}

async fn try_run(database: &TestDatabase, arguments: &[&str]) -> anyhow::Result<Report> {
    let command = parse(arguments);
    execute(OperateCommand::Schedule(command), &store(database.pool())).await
}

fn store(pool: &PgPool) -> Store {
    Store::new(pool.clone())
}

fn parse(arguments: &[&str]) -> ScheduleCommand {
    use clap::Parser;
    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: ScheduleCommand,
    }
    Line::parse_from(std::iter::once(&"schedule").chain(arguments)).command
}

#[tokio::test]
async fn schedules_are_listed_and_shown_with_their_state() {
    let database = database_with_schedules().await;
    let list = run(&database, &["list"]).await;
    let names: Vec<&str> = list.document()["schedules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|schedule| schedule["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["course", "habit"]);
    let show = run(&database, &["show", "course"]).await;
    assert_eq!(show.document()["schedule"]["state"], "active");
    let text = show.to_text(Style::PLAIN);
    assert!(text.contains("40 7 * * 1-5 in Asia/Shanghai"), "{text}");
}

#[tokio::test]
async fn a_schedule_is_paused_once_and_resumed_once_and_tried_without_a_change() {
    let database = database_with_schedules().await;
    let changed = async |arguments: &[&str]| {
        let report = run(&database, arguments).await;
        (
            report.document()["changed"].as_bool().unwrap(),
            report.exit() as u8,
        )
    };
    assert_eq!(changed(&["pause", "course", "--dry-run"]).await, (true, 0));
    assert_eq!(
        changed(&["resume", "course", "--dry-run"]).await,
        (false, 3)
    );
    assert_eq!(
        changed(&["pause", "course", "--note", "summer"]).await,
        (true, 0)
    );
    assert_eq!(changed(&["pause", "course"]).await, (false, 3));
    let show = run(&database, &["show", "course"]).await;
    assert_eq!(show.document()["schedule"]["state"], "paused");
    assert_eq!(show.document()["schedule"]["problem"], "summer");
    assert_eq!(changed(&["resume", "course"]).await, (true, 0));
    let actions: Vec<(String, Option<String>)> =
        sqlx::query_as("select action, note from operator_actions order by id")
            .fetch_all(database.pool())
            .await
            .unwrap();
    let schedules: Vec<_> = actions
        .iter()
        .filter(|(action, _)| action.ends_with("_schedule"))
        .collect();
    assert_eq!(schedules.len(), 2, "{actions:?}");
    assert_eq!(schedules[0].1.as_deref(), Some("summer"));
}

#[tokio::test]
async fn a_test_is_a_row_of_the_schedule_and_the_forecast_counts_it() {
    let database = database_with_schedules().await;
    let report = run(&database, &["test", "course", "--openid", "oTester"]).await;
    let id = report.document()["id"].as_i64().unwrap();
    let openid: String = sqlx::query_scalar("select openid from notifications where id = $1")
        .bind(id)
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(openid, "oTester");
    let args = ForecastArgs {
        appid: None,
        lacking: false,
    };
    let forecast = execute(OperateCommand::Forecast(args), &store(database.pool()))
        .await
        .unwrap();
    let hours = forecast.document()["hours"].as_array().unwrap();
    assert_eq!(
        hours.len(),
        1,
        "no worker has computed the schedules' times"
    );
    assert_eq!(
        (&hours[0]["rows_due"], &hours[0]["template_id"]),
        (&1.into(), &"Tmpl1".into())
    );
    assert_eq!(lacking_hours(&database).await, 1, "oTester holds none");
    let credit = "insert into pending_notifications (appid, openid, template_id, data, held) values ('wx1', 'oTester', 'Tmpl1', '{}', true)";
    sqlx::raw_sql(credit)
        .execute(database.pool())
        .await
        .unwrap();
    assert_eq!(lacking_hours(&database).await, 0);
}

/// How many hours `wxnotify forecast --lacking` names.
async fn lacking_hours(database: &TestDatabase) -> usize {
    let args = ForecastArgs {
        appid: Some("wx1".to_owned()),
        lacking: true,
    };
    let forecast = execute(OperateCommand::Forecast(args), &store(database.pool()))
        .await
        .unwrap();
    forecast.document()["hours"].as_array().unwrap().len()
}

#[tokio::test]
async fn what_is_meant_by_a_name_is_never_guessed() {
    let database = database_with_schedules().await;
    sqlx::raw_sql(
        "select add_app('wx2');
         insert into reminder_schedules (appid, name, cron, openid, template_id, data)
         values ('wx2', 'course', '0 9 * * *', 'oUser1', 'Tmpl1', '{\"thing1\": \"Pottery\"}')",
    )
    .execute(database.pool())
    .await
    .unwrap();
    let error = try_run(&database, &["pause", "course"])
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("2 schedules are called \"course\""),
        "{error}"
    );
    assert!(error.contains("wx2"), "{error}");
    let report = run(&database, &["pause", "course", "--appid", "wx2"]).await;
    assert_eq!(report.document()["changed"], true);
    let error = try_run(&database, &["show", "cours"])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("there is no schedule \"cours\""), "{error}");
}

#[tokio::test]
async fn a_schedule_is_added_as_its_business_would_tried_before_and_removed() {
    let database = database_with_schedules().await;
    let add = [
        "add",
        "weekend",
        "--template",
        "Tmpl1",
        "--data",
        "{\"thing1\": \"Menu\"}",
        "--cron",
        "0 18 * * 5",
        "--audience",
        "holders",
        "--spread",
        "20 minutes",
    ];
    let count = async || {
        let count = "select count(*) from reminder_schedules where name = 'weekend' and spread = '20 minutes' and lane = 2";
        sqlx::query_scalar::<_, i64>(count)
            .fetch_one(database.pool())
            .await
            .unwrap()
    };
    let tried = run(&database, &[&add[..], &["--dry-run"]].concat()).await;
    assert_eq!(
        (tried.document()["schedule_id"].as_i64(), count().await),
        (None, 0)
    );
    let added = run(&database, &add).await;
    assert_eq!(count().await, 1);
    let text = added.to_text(Style::PLAIN);
    assert!(text.contains("18:00:00"), "{text}");
    let tried = run(&database, &["remove", "weekend", "--dry-run"]).await;
    assert_eq!((tried.exit() as u8, count().await), (0, 1));
    run(&database, &["remove", "weekend"]).await;
    assert_eq!(count().await, 0);
    let error = try_run(&database, &["remove", "weekend"])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("has no schedule"), "{error}");
}

#[tokio::test]
async fn a_schedule_that_breaks_a_rule_is_not_added_and_the_rule_is_said() {
    let database = database_with_schedules().await;
    for (arguments, words) in [
        (
            &["--cron", "0 25 * * *", "--openid", "o"][..],
            "an hour is 0 to 23",
        ),
        (&["--cron", "0 9 * * *"], "openid: an audience of one needs"),
        (
            &[
                "--cron",
                "0 9 * * *",
                "--openid",
                "o",
                "--time-zone",
                "Asia/Shangai",
            ],
            "Asia/Shanghai",
        ),
        (
            &["--cron", "0 9 * * *", "--openid", "o", "--quiet", "loud"],
            "quiet: must be",
        ),
        (
            &[
                "--cron",
                "0 9 * * *",
                "--openid",
                "o",
                "--still-true",
                "nobody",
            ],
            "still_true: there is no such check",
        ),
        (
            &[
                "--every",
                "3 hours",
                "--starts-at",
                "2026-12-01T09:00",
                "--openid",
                "o",
            ],
            "every: write whole days",
        ),
    ] {
        let add = [
            "add",
            "new",
            "--template",
            "Tmpl1",
            "--data",
            "{\"thing1\": \"x\"}",
        ];
        let error = try_run(&database, &[&add[..], arguments].concat()).await;
        let error = error.expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_approval_is_of_the_schedule_as_it_is_now() {
    let database = database_with_schedules().await;
    let app = OperateCommand::App(wxnotify::operate::commands::apps::AppCommand::Approval {
        appid: "wx1".to_owned(),
        above: "1000"
            .parse()
            .map(|above| wxnotify::operate::commands::apps::Above(Some(above)))
            .unwrap(),
        options: wxnotify::operate::commands::apps::PlainChange {
            dry_run: false,
            note: None,
        },
    });
    let set = execute(app, &store(database.pool())).await.unwrap();
    assert!(set.to_text(Style::PLAIN).contains("more than 1000 users"));
    let changed = async |arguments: &[&str]| {
        let report = run(&database, arguments).await;
        report.document()["changed"].as_bool().unwrap()
    };
    assert!(changed(&["approve", "course", "--dry-run"]).await);
    assert!(changed(&["approve", "course", "--note", "looked at"]).await);
    assert!(!changed(&["approve", "course"]).await);
    let edit =
        "update reminder_schedules set data = '{\"thing1\": \"Glaze\"}' where name = 'course'";
    sqlx::raw_sql(edit).execute(database.pool()).await.unwrap();
    assert!(
        changed(&["approve", "course"]).await,
        "an edit takes it away"
    );
}

#[tokio::test]
async fn quiet_hours_are_set_listed_and_ended_from_the_command_line() {
    let database = database_with_schedules().await;
    let quiet = async |arguments: &[&str]| {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(subcommand)]
            command: wxnotify::operate::commands::quiet::QuietCommand,
        }
        let line = Line::try_parse_from(std::iter::once(&"quiet").chain(arguments))?;
        execute(OperateCommand::Quiet(line.command), &store(database.pool())).await
    };
    for (arguments, words) in [
        (
            &["set", "wx1", "--from", "22", "--until", "08:00"][..],
            "wall time such as",
        ),
        (
            &["set", "wx1", "--from", "22:00", "--until", "22:00"],
            "two different times",
        ),
        (
            &["set", "wx9", "--from", "22:00", "--until", "08:00"],
            "wx9 is not registered",
        ),
        (
            &[
                "set",
                "wx1",
                "--from",
                "22:00",
                "--until",
                "08:00",
                "--time-zone",
                "Mars",
            ],
            "IANA name",
        ),
    ] {
        let error = quiet(arguments).await.expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    let list = async || quiet(&["list"]).await.unwrap().document()["quiet_hours"].clone();
    quiet(&[
        "set",
        "wx1",
        "--from",
        "22:00",
        "--until",
        "08:00",
        "--dry-run",
    ])
    .await
    .unwrap();
    assert_eq!(list().await.as_array().map(Vec::len), Some(0));
    quiet(&[
        "set", "wx1", "--from", "22:00", "--until", "08:00", "--note", "nights",
    ])
    .await
    .unwrap();
    quiet(&[
        "set",
        "wx1",
        "--from",
        "12:00",
        "--until",
        "14:00",
        "--template",
        "T1",
    ])
    .await
    .unwrap();
    let listed = list().await;
    assert_eq!(
        (&listed[0]["begins"], &listed[0]["template_id"]),
        (&"22:00".into(), &Value::Null)
    );
    assert_eq!(
        (&listed[1]["ends"], &listed[1]["template_id"]),
        (&"14:00".into(), &"T1".into())
    );
    quiet(&["clear", "wx1"]).await.unwrap();
    assert_eq!(list().await.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_check_that_cannot_be_one_is_refused_from_the_command_line_with_the_rule() {
    let database = database_with_schedules().await;
    let check = async |arguments: &[&str]| {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(subcommand)]
            command: wxnotify::operate::commands::checks::CheckCommand,
        }
        let line = Line::parse_from(std::iter::once(&"check").chain(arguments));
        execute(OperateCommand::Check(line.command), &store(database.pool())).await
    };
    let listed = check(&["list"]).await.unwrap();
    assert!(
        listed
            .to_text(Style::PLAIN)
            .contains("There are no checks.")
    );
    for (arguments, words) in [
        (
            &["add", "lessons", "shop.still_on"][..],
            "there is no such function",
        ),
        (&["remove", "lessons"], "check lessons does not exist"),
        (
            &["template", "wx1", "T1", "lessons"],
            "check lessons does not exist",
        ),
        (&["template", "wx9", "T1", "none"], "wx9 is not registered"),
    ] {
        let error = check(arguments).await.expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn doctor_compares_the_zones_in_use_and_says_which_workdays_end() {
    let database = database_with_schedules().await;
    sqlx::query("insert into reminder_calendars (spec, cron, time_zone) values ('a', '0 9 * * *', 'Asia/Shanghai'), ('b', '0 9 * * *', 'Europe/Berlin')")
        .execute(database.pool())
        .await
        .unwrap();
    sqlx::query("insert into reminder_days values ('CN', current_date + 59, true), ('mine', current_date + 61, true)")
        .execute(database.pool())
        .await
        .unwrap();
    let store = store(database.pool());
    assert_eq!(store.differing_zones().await.unwrap(), []);
    let report = execute(OperateCommand::Doctor(DoctorArgs { online: false }), &store)
        .await
        .unwrap();
    let text = report.to_text(Style::PLAIN);
    assert!(text.contains("zones of reminders"), "{text}");
    assert!(text.contains("CN ends with"), "{text}");
    assert!(!text.contains("mine ends with"), "{text}");
}
