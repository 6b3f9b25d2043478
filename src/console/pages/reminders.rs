//! Reminders: schedules and what became of their times, their verbs, and what the next seven days will lack.
//!
//! Start at [`list`]. Times of a schedule are shown as wall times of its zone, with UTC beside them: where zones matter nobody
//! should have to reckon.

use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{NaiveDateTime, TimeDelta, Timelike};
use maud::{Markup, html};
use serde::Deserialize;

use super::verb::{frame_who, reason_is_missing};
use super::{answer, app_choice, made, nothing_here_for, question};
use crate::console::chart::{self, Series};
use crate::console::frame::{self, head};
use crate::console::visit::{Operator, Visit};
use crate::console::words::{Lang, count, fire_reason, foreign, number, time, time_or_dash};
use crate::operate::overview::name_of;
use crate::store::schedules::{FireOutcome, ForecastHour, NextFire, Schedule};
use crate::store::{StoreError, describe};

/// Schedules of one page; who has more gives an app or a name.
const SCHEDULES_MAX: i64 = 200;
/// Times of a schedule in the list, and on its own page.
const LAST_IN_LIST: i64 = 3;
const LAST: i64 = 40;
const NEXT: i32 = 20;
/// Hours of the forecast.
const HOURS: i64 = 7 * 24;

pub(in crate::console) async fn list(Operator(visit): Operator) -> Response {
    let page = show_list(&visit).await;
    made(&visit, page)
}

async fn show_list(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let asked = question(visit);
    let appid = asked.get("appid").map(String::as_str);
    let name = asked.get("name").map(String::as_str);
    let apps = visit.store.list_apps().await?;
    let schedules = visit
        .store
        .list_schedules(appid, None, name, SCHEDULES_MAX)
        .await?;
    let ids: Vec<i64> = schedules.iter().map(|schedule| schedule.id).collect();
    let outcomes = visit.store.fire_outcomes(&ids, LAST_IN_LIST).await?;
    let title = lang.pick("Reminders", "定时提醒");
    let choice = html! {
        form.row method="get" {
            (app_choice(lang, &apps, appid))
            label.vh for="name" { (lang.pick("Name", "名称")) }
            input id="name" name="name" size="20" autocomplete="off" placeholder=(lang.pick("whole name", "完整名称")) value=(name.unwrap_or_default());
            button.btn { (lang.pick("Show", "显示")) }
        }
    };
    let is_cut = schedules.len() as i64 == SCHEDULES_MAX;
    let content = html! {
        (head(lang, title, &choice))
        p.muted { a href="/forecast" { (lang.pick("What the next seven days will lack", "未来七天会缺什么")) } }
        section data-live="reminders" {
            @if schedules.is_empty() {
                p.muted { (lang.pick("No schedule is like that. A reminder is a row of reminder_schedules.", "没有这样的提醒。提醒是 reminder_schedules 里的一行。")) }
            } @else { table.stack role="table" {
                caption { (lang.pick("Schedules", "提醒")) small {
                    @if is_cut { (lang.pick("the first 200: give an app or a name", "前 200 个：请指定小程序或名称")) }
                    @else { (schedules.len()) (lang.pick("; the last three times of each: the bar is the audience", "；各最近三次：横条为受众")) }
                } }
                thead role="rowgroup" { tr role="row" {
                    @for word in [lang.pick("name", "名称"), lang.pick("state", "状态"), lang.pick("when", "何时"), lang.pick("audience", "受众"), lang.pick("next", "下一次"), lang.pick("last times", "最近几次")] { th role="columnheader" scope="col" { (word) } }
                } }
                tbody role="rowgroup" { @for schedule in &schedules {
                    tr role="row" data-row {
                        th.grow role="rowheader" scope="row" { a href=(format!("/reminders/{}", schedule.id)) { (foreign(&schedule.name)) } small { (name_of(&apps, &schedule.appid)) " · " span.mono { (foreign(&schedule.template_id)) } } }
                        td role="cell" { (state_word(lang, schedule)) }
                        td role="cell" { span.mono { (foreign(&schedule.calendar)) } small { (foreign(&schedule.time_zone)) } }
                        td role="cell" { (audience_word(lang, &schedule.audience)) }
                        td role="cell" { (next_cell(schedule)) }
                        td.fires role="cell" { @for outcome in outcomes.iter().filter(|outcome| outcome.schedule_id == schedule.id) { (fire_bar(lang, outcome)) } }
                    }
                } }
            } }
        }
    };
    Ok(answer(visit, title, &content))
}

fn state_word(lang: Lang, schedule: &Schedule) -> Markup {
    let (word, class) = match schedule.state.as_str() {
        "active" => (lang.pick("active", "生效"), ""),
        "paused" => (lang.pick("paused", "已暂停"), "warn"),
        "invalid" => (lang.pick("invalid", "无效"), "bad"),
        "over" => (lang.pick("over", "已结束"), "muted"),
        other => (other, ""),
    };
    html! { span class=(class) title=(schedule.state) { (word) } @if let Some(problem) = &schedule.problem { small { (foreign(problem)) } } }
}

fn audience_word(lang: Lang, audience: &str) -> &str {
    match audience {
        "one" => lang.pick("one user", "单个用户"),
        "list" => lang.pick("a list", "名单"),
        "holders" => lang.pick("all holders", "所有持有次数者"),
        other => other,
    }
}

/// The wall time, and the instant below it.
fn next_cell(schedule: &Schedule) -> Markup {
    html! {
        @match (schedule.next_local_at, schedule.next_at) {
            (Some(local), Some(at)) => { (wall(local)) small { (at.format("%m-%d %H:%M UTC")) } }
            _ => { "–" }
        }
    }
}

/// A wall time; seconds are said where there are any.
fn wall(local: NaiveDateTime) -> String {
    let form = if local.second() == 0 {
        "%Y-%m-%d %H:%M"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    local.format(form).to_string()
}

/// What became of one time, as parts of its audience.
fn fire_bar(lang: Lang, outcome: &FireOutcome) -> Markup {
    let lost = outcome.no_credit + outcome.refused + outcome.not_true + outcome.cancelled;
    let label = format!(
        "{}: {} {} {}",
        wall(outcome.local_at),
        count(outcome.sent),
        lang.pick("sent of", "已发送，共"),
        count(outcome.audience)
    );
    html! {
        div.fire {
            @if outcome.audience > 0 {
                (chart::parts(outcome.audience, &[("c-sent", outcome.sent), ("c-wait", outcome.open), ("c-doubt", outcome.in_doubt), ("c-plain", lost), ("c-dead", outcome.dead + outcome.expired)], &label))
            } @else { span class=(if outcome.state == "done" { "muted" } else { "warn" }) { (fire_state_word(lang, &outcome.state)) } }
            small.muted { (outcome.local_at.format("%m-%d")) }
        }
    }
}

fn fire_state_word(lang: Lang, state: &str) -> &str {
    match state {
        "open" => lang.pick("open", "进行中"),
        "done" => lang.pick("done", "完成"),
        "skipped" => lang.pick("skipped", "已跳过"),
        "cancelled" => lang.pick("cancelled", "已取消"),
        other => other,
    }
}

pub(in crate::console) async fn show(Operator(visit): Operator, Path(id): Path<i64>) -> Response {
    let page = show_one(&visit, id).await;
    made(&visit, page)
}

async fn find(visit: &Visit, id: i64) -> Result<Option<Schedule>, StoreError> {
    let found = visit.store.list_schedules(None, Some(id), None, 1).await?;
    Ok(found.into_iter().next())
}

async fn show_one(visit: &Visit, id: i64) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let Some(schedule) = find(visit, id).await? else {
        return Ok(nothing_here_for(visit));
    };
    let fires = visit.store.next_fires(id, NEXT).await?;
    let outcomes = visit.store.fire_outcomes(&[id], LAST).await?;
    let title = format!("{} {}", lang.pick("Reminder", "提醒"), schedule.name);
    let content = html! {
        div.head { h1 { (foreign(&title)) } (state_word(lang, &schedule)) div.end { a class="btn quiet" href="/reminders" { (lang.pick("All reminders", "全部提醒")) } } }
        div.row {
            @if schedule.paused_at.is_some() { a.btn href=(format!("/reminders/{id}/resume")) { (lang.pick("Resume…", "恢复…")) } }
            @else { a.btn href=(format!("/reminders/{id}/pause")) { (lang.pick("Pause…", "暂停…")) } }
            @if schedule.next_at.is_some() { a.btn href=(format!("/reminders/{id}/skip")) { (lang.pick("Skip the next time…", "跳过下一次…")) } }
            @if schedule.audience != "one" && !schedule.approved { a.btn href=(format!("/reminders/{id}/approve")) { (lang.pick("Approve…", "批准…")) } }
            a.btn href=(format!("/reminders/{id}/test")) { (lang.pick("Send to one user…", "发给一个用户试试…")) }
        }
        div.split {
            div { (next_box(lang, &schedule, &fires)) }
            div { (schedule_box(lang, &schedule)) }
        }
        (outcome_box(lang, &outcomes))
    };
    Ok(answer(visit, &title, &content))
}

fn schedule_box(lang: Lang, schedule: &Schedule) -> Markup {
    html! {
        section {
            h2 { (lang.pick("The schedule", "提醒本身")) }
            dl class="facts gap" {
                dt { "id" } dd.mono { (schedule.id) }
                dt { "appid" } dd.mono { (schedule.appid) }
                dt { "template_id" } dd.mono { (foreign(&schedule.template_id)) }
                dt { (lang.pick("when", "何时")) } dd { span.mono { (foreign(&schedule.calendar)) } " " (foreign(&schedule.time_zone)) }
                dt { (lang.pick("audience", "受众")) } dd { (audience_word(lang, &schedule.audience)) }
                dt { (lang.pick("in quiet hours", "安静时段")) } dd { (quiet_word(lang, &schedule.quiet)) }
                @if let Some(check) = &schedule.still_true { dt { (lang.pick("asked before each send", "发送前核实")) } dd.mono { (foreign(check)) } }
                @if schedule.approved { dt { (lang.pick("approval", "批准")) } dd { (lang.pick("approved as it is now", "现状已批准")) } }
                dt { "producer" } dd { (foreign(&schedule.producer)) }
                @if let Some(at) = schedule.paused_at { dt { (lang.pick("paused since", "暂停自")) } dd { (time(at)) } }
            }
        }
    }
}

fn quiet_word(lang: Lang, quiet: &str) -> &str {
    match quiet {
        "hold" => lang.pick("waits until they end", "等到结束后发送"),
        "drop" => lang.pick("that time is skipped", "跳过那一次"),
        "ignore" => lang.pick("goes out all the same", "照常发送"),
        other => other,
    }
}

fn next_box(lang: Lang, schedule: &Schedule, fires: &[NextFire]) -> Markup {
    html! {
        section { table {
            caption { (lang.pick("Next times", "接下来")) small { (foreign(&schedule.time_zone)) } }
            @if fires.is_empty() { tbody { tr { td { (lang.pick("None within the days that are computed ahead.", "已计算的日期内没有。")) } } } }
            @else {
                thead { tr { th scope="col" { (lang.pick("local", "当地时间")) } th.n scope="col" { "UTC" } th scope="col" { (lang.pick("remark", "备注")) } } }
                tbody { @for fire in fires { tr {
                    th scope="row" { (wall(fire.local_at)) @if fire.fold > 0 { small { (lang.pick("the second of the two", "两次中的第二次")) } } }
                    td.n { (wall(fire.fire_at.naive_utc())) }
                    td { @if let Some(reason) = &fire.skipped { span.warn { (lang.pick("will be skipped: ", "将跳过：")) } (foreign(&fire_reason(lang, reason))) } }
                } } }
            }
        } }
    }
}

fn outcome_box(lang: Lang, outcomes: &[FireOutcome]) -> Markup {
    let words = [
        (lang.pick("time", "时间"), ""),
        (lang.pick("state", "状态"), ""),
        (lang.pick("audience", "受众"), "n"),
        (lang.pick("sent", "已发送"), "n"),
        (lang.pick("open", "未结束"), "n"),
        (lang.pick("in doubt", "结果未知"), "n"),
        (lang.pick("no credit", "无次数"), "n"),
        (lang.pick("refused", "拒收"), "n"),
        (lang.pick("not true", "已不成立"), "n"),
        (lang.pick("expired", "过期"), "n"),
        (lang.pick("died", "死信"), "n"),
        (lang.pick("cancelled", "取消"), "n"),
    ];
    html! {
        section.scroll tabindex="0" role="region" aria-label=(lang.pick("what became of each time", "每一次的结果")) {
            @if outcomes.is_empty() { h2 { (lang.pick("Last times", "最近几次")) } p.muted { (lang.pick("It has not fired yet.", "尚未触发过。")) } }
            @else { table {
                caption { (lang.pick("Last times", "最近几次")) }
                thead { tr { @for (word, class) in words { th scope="col" class=[(!class.is_empty()).then_some(class)] { (word) } } } }
                tbody { @for outcome in outcomes { tr {
                    th scope="row" { (wall(outcome.local_at)) @if outcome.times > 1 { small { (count(outcome.times)) (lang.pick(" times", " 次")) } } }
                    td { (fire_state_word(lang, &outcome.state)) @if let Some(reason) = &outcome.reason { small { (foreign(&fire_reason(lang, reason))) } } }
                    @for value in [outcome.audience, outcome.sent, outcome.open, outcome.in_doubt, outcome.no_credit, outcome.refused, outcome.not_true, outcome.expired, outcome.dead, outcome.cancelled] { td.n { (number(value)) } }
                } } }
            } }
        }
    }
}

/// The button of a verb, and what to mind.
fn words_of(lang: Lang, verb: &str) -> Option<(&'static str, &'static str)> {
    Some(match verb {
        "pause" => (
            lang.pick("Pause", "暂停"),
            lang.pick(
                "It makes no more messages. Those that are made wait, and still expire.",
                "不再生成消息。已生成的会等待，仍会过期。",
            ),
        ),
        "resume" => (
            lang.pick("Resume", "恢复"),
            lang.pick(
                "It fires again. Its column missed says what becomes of times that passed.",
                "恢复触发。错过的时间按其 missed 列处理。",
            ),
        ),
        "skip" => (
            lang.pick("Skip the next time", "跳过下一次"),
            lang.pick(
                "The next time is left out and says so. What is made already is not taken back.",
                "跳过下一次并留下记录。已生成的不会收回。",
            ),
        ),
        "approve" => (
            lang.pick("Approve", "批准"),
            lang.pick(
                "As it is now, it may go to more users than its mini-program allows without an approval. An edit takes the approval away.",
                "以目前的内容，它可以发给超过该小程序免批准人数的用户。修改后需要重新批准。",
            ),
        ),
        "test" => (
            lang.pick("Send", "发送"),
            lang.pick(
                "The message goes to one user now, and spends a credit as the reminder does.",
                "消息会立即发给一个用户，并像提醒一样消耗一次次数。",
            ),
        ),
        _ => return None,
    })
}

pub(in crate::console) async fn ask(
    Operator(visit): Operator,
    Path((id, verb)): Path<(i64, String)>,
) -> Response {
    made(&visit, confirm(&visit, id, &verb, None).await)
}

async fn confirm(
    visit: &Visit,
    id: i64,
    verb: &str,
    refused: Option<&str>,
) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let (Some((button, mind)), Some(schedule)) = (words_of(lang, verb), find(visit, id).await?)
    else {
        return Ok(nothing_here_for(visit));
    };
    let next = match verb {
        "skip" => {
            let fires = visit.store.next_fires(id, NEXT).await?;
            fires.into_iter().find(|fire| fire.skipped.is_none())
        }
        _ => None,
    };
    let title = format!("{button}: {}", schedule.name);
    let content = html! {
        div.head { h1 { (foreign(&title)) } }
        @if let Some(refused) = refused { (frame::note("bad", "dead", &html! { (foreign(refused)) })) }
        div.split {
            div {
                (frame::note("warn", "warn", &html! { (mind) }))
                @if let Some(next) = next { p { (lang.pick("It is ", "这一次是 ")) b { (wall(next.local_at)) } " " (foreign(&schedule.time_zone)) " (" (next.fire_at.format("%Y-%m-%d %H:%M:%S UTC")) ")" } }
            }
            div { form.panel method="post" action=(format!("/reminders/{id}/{verb}")) {
                h2 { (lang.pick("Confirm", "确认")) }
                div.form {
                    @if verb == "test" { div.field { label for="openid" { "openid" } input id="openid" name="openid" size="32" required maxlength="128" autocomplete="off"; } }
                    @else { div.field { label for="note" { (lang.pick("reason (required, goes into the record)", "原因（必填，写入操作记录）")) } textarea id="note" name="note" rows="3" required maxlength="500" {} } }
                    button class="btn main" { (button) }
                    (frame_who(visit))
                    div.row { a class="btn quiet" href=(format!("/reminders/{id}")) { (lang.pick("Back", "返回")) } }
                }
            } }
        }
    };
    Ok(answer(visit, &title, &content))
}

#[derive(Deserialize)]
pub(in crate::console) struct Given {
    #[serde(default)]
    note: String,
    #[serde(default)]
    openid: String,
}

pub(in crate::console) async fn act(
    Operator(visit): Operator,
    Path((id, verb)): Path<(i64, String)>,
    Form(given): Form<Given>,
) -> Response {
    let lang = visit.lang;
    if words_of(lang, &verb).is_none() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let wanted = if verb == "test" {
        &given.openid
    } else {
        &given.note
    };
    if wanted.trim().is_empty() {
        let says = match verb.as_str() {
            "test" => lang.pick(
                "An openid is required; nothing was sent.",
                "必须填写 openid；没有发送。",
            ),
            _ => reason_is_missing(lang),
        };
        return made(&visit, confirm(&visit, id, &verb, Some(says)).await);
    }
    match change(&visit, id, &verb, &given).await {
        Ok(Ok(path)) => Redirect::to(&path).into_response(),
        Ok(Err(says)) => made(&visit, confirm(&visit, id, &verb, Some(&says)).await),
        // The database's own rule, say of a text that is too long.
        Err(StoreError::Database { source, .. }) if source.as_database_error().is_some() => {
            let says = describe(&source);
            made(&visit, confirm(&visit, id, &verb, Some(&says)).await)
        }
        Err(error) => frame::failed(&visit, &error),
    }
}

/// Where to go when it is done, or why nothing was changed.
async fn change(
    visit: &Visit,
    id: i64,
    verb: &str,
    given: &Given,
) -> Result<Result<String, String>, StoreError> {
    let lang = visit.lang;
    let (store, audit) = (&visit.store, visit.audit(Some(given.note.trim())));
    let (is_done, otherwise) = match verb {
        "test" => {
            let made = store.test_fire(id, given.openid.trim(), &audit).await?;
            return Ok(Ok(format!("/n/{made}")));
        }
        "pause" => (
            store.pause_schedule(id, &audit).await?,
            lang.pick("It was paused already.", "已经是暂停状态。"),
        ),
        "resume" => (
            store.resume_schedule(id, &audit).await?,
            lang.pick("It was not paused.", "并未暂停。"),
        ),
        "approve" => (
            store.approve_schedule(id, &audit).await?,
            lang.pick("It was approved already.", "已经批准过。"),
        ),
        _ => (
            store.skip_next(id, &audit).await?.is_some(),
            lang.pick(
                "No time is known that could be left out.",
                "没有可以跳过的时间。",
            ),
        ),
    };
    Ok(if is_done {
        Ok(format!("/reminders/{id}"))
    } else {
        Err(otherwise.to_owned())
    })
}

pub(in crate::console) async fn forecast(visit: Visit) -> Response {
    let page = show_forecast(&visit).await;
    made(&visit, page)
}

async fn show_forecast(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let asked = question(visit);
    let appid = asked.get("appid").map(String::as_str);
    let apps = visit.store.list_apps().await?;
    let hours = visit.store.forecast(appid).await?;
    let title = lang.pick("Forecast", "预测");
    let choice = html! { form.row method="get" { (app_choice(lang, &apps, appid)) button.btn { (lang.pick("Show", "显示")) } } };
    let lacking = hours.iter().find(|hour| hour.lacking > 0);
    let content = html! {
        (head(lang, title, &choice))
        @match lacking {
            Some(first) => { (frame::note("warn", "warn", &html! { b.mono { (foreign(&first.template_id)) } (lang.pick(" will lack credits from ", " 将缺次数，自 ")) (time(first.hour)) (lang.pick(" on: ", " 起：")) (count(first.lacking)) (lang.pick(" of ", "，共 ")) (count(first.receivers)) (lang.pick(" users have none then. Ask for an accept in the mini-program before.", " 个用户。请在此之前在小程序内请求同意。")) })) }
            None => { (frame::note("", "info", &html! { (lang.pick("Nobody will lack a credit in the next seven days, as far as reminders and rows are known today.", "按目前已知的提醒与消息，未来七天无人会缺次数。")) })) }
        }
        @if !hours.is_empty() {
            (forecast_chart(lang, &hours))
            section { table.stack role="table" {
                caption { (lang.pick("By hour and template", "按小时与模板")) small { (lang.pick("users as of today, as far as times are computed: 8 days, at most 64 a reminder", "用户数以今天为准；时间已计算到 8 天，每个提醒至多 64 次")) } }
                thead role="rowgroup" { tr role="row" { @for (word, class) in [(lang.pick("hour", "小时"), ""), (lang.pick("template", "模板"), ""), (lang.pick("app", "小程序"), ""), (lang.pick("rows", "消息"), "n"), (lang.pick("times", "触发"), "n"), (lang.pick("users", "用户"), "n"), (lang.pick("will lack a credit", "将缺次数"), "n"), (lang.pick("credits held", "预存次数"), "n")] { th role="columnheader" scope="col" class=[(!class.is_empty()).then_some(class)] { (word) } } } }
                tbody role="rowgroup" { @for hour in &hours { tr role="row" data-row {
                    th.grow role="rowheader" scope="row" { (time_or_dash(Some(hour.hour))) }
                    td.mono role="cell" { (foreign(&hour.template_id)) } td role="cell" { (name_of(&apps, &hour.appid)) }
                    td.n role="cell" data-l=(lang.pick("rows", "消息")) { (number(hour.rows_due)) }
                    td.n role="cell" data-l=(lang.pick("times", "触发")) { (number(hour.fires)) }
                    td.n role="cell" data-l=(lang.pick("users", "用户")) { (number(hour.receivers)) }
                    td.n role="cell" data-l=(lang.pick("will lack", "将缺")) { @if hour.lacking > 0 { span.warn { (number(hour.lacking)) } } @else { "–" } }
                    td.n role="cell" data-l=(lang.pick("held", "预存")) { (number(hour.credits_held)) }
                } } }
            } }
        }
    };
    Ok(answer(visit, title, &content))
}

/// Messages by hour: rows that are there, users of reminders with a credit, and those without.
fn forecast_chart(lang: Lang, hours: &[ForecastHour]) -> Markup {
    let Some(first) = hours.iter().map(|hour| hour.hour).min() else {
        return html! {};
    };
    let mut values = [
        vec![0.0; HOURS as usize],
        vec![0.0; HOURS as usize],
        vec![0.0; HOURS as usize],
    ];
    for hour in hours {
        let at = (hour.hour - first).num_hours().clamp(0, HOURS - 1) as usize;
        values[0][at] += hour.rows_due as f64;
        values[1][at] += (hour.receivers - hour.lacking) as f64;
        values[2][at] += hour.lacking as f64;
    }
    let [rows, covered, lacking] = &values;
    let series = [("c-sent", rows), ("c-wait", covered), ("c-doubt", lacking)]
        .map(|(class, values)| Series { class, values });
    let label = lang.pick("Messages by hour, seven days", "七天内每小时的消息");
    let legend = [
        ("c-sent", lang.pick("rows that are there", "已有的消息")),
        (
            "c-wait",
            lang.pick("reminders with a credit", "有次数的提醒"),
        ),
        (
            "c-doubt",
            lang.pick("reminders that will lack one", "将缺次数的提醒"),
        ),
    ];
    html! {
        section {
            header { h2 { (label) } small.muted { (lang.pick("the table below has the numbers", "数字见下表")) } }
            div.plot { (chart::stacked_bars(&series, label)) div.x { (time(first)) (time(first + TimeDelta::hours(HOURS))) } }
            ul.legend { @for (class, word) in legend { li { svg class=(class) viewBox="0 0 10 10" aria-hidden="true" { rect width="10" height="10" {} } (word) } } }
        }
    }
}
