//! The demo's reminders: one that fires each second, one that a check stops, and one that tomorrow will lack credits. They come after the
//! comparison, since WeChat's ledger would else hold messages that nobody planned.
//!
//! Start at [`show`].

use std::time::{Duration, Instant};

use super::plan::{CAFE, PICKUP};
use super::screen::Screen;
use super::stage::Stage;
use anyhow::Context;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// When to give up waiting for fires; what is there then is shown.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// What a producer types.
const HABIT: &str = "INSERT INTO reminder_schedules (appid, name, cron, openid, template_id, data, fires_max) VALUES ('wx_demo_cafe', 'habit', '* * * * * *', 'o-reminded', 'pickup-ready', \
'{\"character_string1\": \"H-1\", \"thing2\": \"Water\", \"phrase3\": \"提醒\"}', 5)";
const LESSON: &str = "INSERT INTO reminder_schedules (appid, name, cron, openid, template_id, data, business_ref, still_true, credit, fires_max) VALUES ('wx_demo_cafe', 'lesson-7', '* * * * * *', \
'o-pupil', 'pickup-ready', '{\"character_string1\": \"L-7\", \"thing2\": \"Pottery\", \"phrase3\": \"提醒\"}', 'lesson-7', 'lessons', 'none', 1)";
const MENU: &str = "INSERT INTO reminder_schedules (appid, name, cron, audience, template_id, data) VALUES ('wx_demo_cafe', 'menu', '0 18 * * *', 'list', 'pickup-ready', \
'{\"character_string1\": \"M-1\", \"thing2\": \"Menu\", \"phrase3\": \"提醒\"}')";
const GUESTS: &str = "INSERT INTO reminder_audience (schedule_id, openid) SELECT s.id, g FROM reminder_schedules s, unnest('{o-guest-1,o-guest-2}'::text[]) g WHERE s.name = 'menu'";

/// What became of a reminder.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
struct Outcome {
    name: String,
    fires: i64,
    sent: i64,
    no_credit: i64,
    not_true: i64,
    open: i64,
}

/// Types the reminders, waits for their fires and says what became of them.
pub(super) async fn show(stage: &Stage<'_>, screen: &Screen) -> anyhow::Result<()> {
    let pool = &stage.pool;
    screen.heading("Reminders are rows, too");
    // What the user accepted at WeChat is recorded as three held rows below.
    let at_wechat = stage.fake.control();
    at_wechat.grant(CAFE, "o-reminded", PICKUP, 3);
    sqlx::raw_sql(include_str!("../../sql/demo/reminders.sql"))
        .execute(pool)
        .await
        .context("the reminders of the demo")?;
    for statement in [HABIT, LESSON, MENU, GUESTS] {
        screen.statement(statement);
        sqlx::raw_sql(statement).execute(pool).await?;
    }
    let began = Instant::now();
    let (habit, lesson, lacking) = loop {
        let outcomes: Vec<Outcome> =
            sqlx::query_as(include_str!("../../sql/demo/reminder_outcomes.sql"))
                .fetch_all(pool)
                .await?;
        let lacking: i64 =
            sqlx::query_scalar(include_str!("../../sql/demo/reminder_shortfall.sql"))
                .fetch_one(pool)
                .await?;
        let of = |name: &str| {
            let outcome = outcomes.iter().find(|outcome| outcome.name == name);
            outcome.cloned().unwrap_or_default()
        };
        let (habit, lesson) = (of("habit"), of("lesson-7"));
        let is_done = habit.fires == 5 && habit.open == 0 && lesson.not_true == 1 && lacking > 0;
        if is_done || began.elapsed() > GIVE_UP_AFTER {
            break (habit, lesson, lacking);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    screen.event(&format!(
        "habit fired {} times, a second apart: {} sent, {} without a credit, since the user held three",
        habit.fires, habit.sent, habit.no_credit
    ));
    screen.event(&format!(
        "lesson-7: the school's own function said that it is off, so {} message was not sent",
        lesson.not_true
    ));
    screen.event(&format!(
        "the forecast: {lacking} of tomorrow's guests will lack a credit"
    ));
    Ok(())
}
