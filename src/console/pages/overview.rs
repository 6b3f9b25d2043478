//! The overview: what needs somebody now, in sentences, worst first; then numbers; then pictures.
//!
//! Start at [`show`], then [`look`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::{answer, app_choice, made, name_of, question};
use crate::console::chart::{Series, sparkline, stacked_bars};
use crate::console::frame::{self, icon};
use crate::console::visit::Visit;
use crate::console::words::{
    Lang, age, count, counted, credit_word, foreign_or_dash, number, seconds, time, time_or_dash,
};
use crate::lock::lock;
use crate::store::console::{DeadCause, Latency, Minute};
use crate::store::quotas::QuotaState;
use crate::store::status::{App, Backlog, Blocker, Doubt, LiveWorker, Pause, TokenState};
use crate::store::verbs::Filter;
use crate::store::{Store, StoreError};

/// What was seen so lately is shown again.
const FRESH_FOR: Duration = Duration::from_secs(4);
/// Doubts that are looked at one by one; more are counted.
const DOUBTS_MAX: usize = 500;
/// A page shows the last hour.
const MINUTES: i32 = 60;

/// Everything the overview shows.
pub(in crate::console) struct Overview {
    at: DateTime<Utc>,
    apps: Vec<App>,
    backlog: Vec<Backlog>,
    dead: Vec<DeadCause>,
    doubts: Vec<Doubt>,
    pauses: Vec<Pause>,
    tokens: Vec<TokenState>,
    quotas: Vec<QuotaState>,
    workers: Vec<LiveWorker>,
    blockers: Vec<Blocker>,
    /// `None`: more ended than can be counted in time.
    minutes: Option<Vec<Minute>>,
    latency: Option<Latency>,
}

/// What somebody should look at.
struct Need {
    /// It gets worse by itself.
    now: bool,
    icon: &'static str,
    sentence: String,
    link: String,
    why: String,
    since: Option<DateTime<Utc>>,
    verb: Option<(String, String)>,
}

pub(in crate::console) async fn show(visit: Visit) -> Response {
    let asked = question(&visit);
    let appid = asked.get("appid").map(String::as_str);
    let seen = see(&visit, appid).await;
    let page = seen.map(|seen| {
        let title = visit.lang.pick("Overview", "总览");
        answer(&visit, title, &content(&visit, &seen, appid))
    });
    made(&visit, page)
}

/// What is to be seen; what was seen a moment ago is good enough.
async fn see(visit: &Visit, appid: Option<&str>) -> Result<Arc<Overview>, StoreError> {
    let key = (visit.may_act(), appid.map(str::to_owned));
    let kept = lock(&visit.console.seen).get(&key).cloned();
    if let Some((at, seen)) = kept
        && at.elapsed() < FRESH_FOR
    {
        return Ok(seen);
    }
    let seen = Arc::new(look(&visit.store, appid).await?);
    let mut all = lock(&visit.console.seen);
    all.retain(|_, (at, _)| at.elapsed() < FRESH_FOR);
    all.insert(key, (Instant::now(), seen.clone()));
    Ok(seen)
}

/// A picture that takes too long is left out; a number is not.
fn in_time<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.sqlstate().as_deref() == Some("57014") => Ok(None),
        Err(error) => Err(error),
    }
}

async fn look(store: &Store, appid: Option<&str>) -> Result<Overview, StoreError> {
    let of_app = Filter {
        appid: appid.map(str::to_owned),
        ..Filter::default()
    };
    Ok(Overview {
        at: Utc::now(),
        apps: store.list_apps().await?,
        backlog: store.backlog(appid).await?,
        dead: in_time(store.dead_causes(appid, 24).await)?.unwrap_or_default(),
        doubts: store.doubts(&of_app, DOUBTS_MAX).await?,
        pauses: store.pauses(appid).await?,
        tokens: store.token_states(appid).await?,
        quotas: store.quotas(appid).await?,
        workers: store.live_workers().await?,
        blockers: store.blockers(appid).await?,
        minutes: in_time(store.outcomes(MINUTES, 1, appid).await)?,
        latency: in_time(store.latency(appid).await)?.flatten(),
    })
}

impl Overview {
    fn rows(&self, status: &str) -> i64 {
        let of_status = self.backlog.iter().filter(|row| row.status == status);
        of_status.map(|row| row.rows).sum()
    }

    fn oldest_due(&self) -> Option<DateTime<Utc>> {
        let waiting = self.backlog.iter().filter(|row| row.status == "due");
        waiting.filter_map(|row| row.oldest_due).min()
    }

    fn needs(&self, lang: Lang) -> Vec<Need> {
        let mut needs = self.needs_of_machinery(lang);
        needs.extend(self.needs_of_dead(lang));
        needs.extend(self.needs_of_pauses(lang));
        needs.extend(self.needs_of_doubts(lang));
        needs.extend(self.needs_of_tokens(lang));
        needs.sort_by_key(|need| (!need.now, need.since));
        needs
    }

    fn needs_of_machinery(&self, lang: Lang) -> Vec<Need> {
        let mut needs = Vec::new();
        let waiting = self.rows("due") + self.rows("retrying");
        if self.workers.is_empty() && waiting > 0 {
            needs.push(Need {
                now: true,
                icon: "dead",
                sentence: lang.pick(
                    format!("No worker is alive; {} rows wait", count(waiting)),
                    format!("没有存活的 worker；{} 行在等待", count(waiting)),
                ),
                link: "/workers".to_owned(),
                why: lang
                    .pick(
                        "Nothing is sent. Start `wxnotify run`, and look at its log.",
                        "什么都发不出去。请启动 wxnotify run 并查看其日志。",
                    )
                    .to_owned(),
                since: self.oldest_due(),
                verb: None,
            });
        }
        for blocker in &self.blockers {
            needs.push(Need {
                now: true,
                icon: "paused",
                sentence: blocker.sentence(),
                link: "/workers".to_owned(),
                why: format!(
                    "{} {}",
                    lang.pick(
                        "Workers wait for it. What ends it:",
                        "worker 在等待它。结束的办法："
                    ),
                    blocker.end_with
                ),
                since: blocker.since,
                verb: None,
            });
        }
        needs
    }

    fn needs_of_dead(&self, lang: Lang) -> Vec<Need> {
        let kept = self
            .dead
            .iter()
            .filter(|cause| cause.credit.as_deref() == Some("kept") && cause.rows > cause.redriven);
        kept.map(|cause| {
            let left = cause.rows - cause.redriven;
            let app = name_of(&self.apps, &cause.appid);
            let meaning = lang
                .pick(&cause.meaning, &cause.meaning_zh)
                .clone()
                .unwrap_or_default();
            let errcode = cause
                .errcode
                .map_or_else(String::new, |errcode| errcode.to_string());
            Need {
                now: Utc::now() - cause.last_at < TimeDelta::minutes(15),
                icon: "dead",
                sentence: lang.pick(
                    format!("{} died on app {app}: {meaning}", count(left)),
                    format!("{app} 有 {} 行成为死信：{meaning}", count(left)),
                ),
                link: format!("/dead?appid={}#c{errcode}", cause.appid),
                why: lang
                    .pick(
                        "The credits are kept: mend the cause, then redrive.",
                        "次数仍保留：排除原因后重投。",
                    )
                    .to_owned(),
                since: Some(cause.first_at),
                verb: None,
            }
        })
        .collect()
    }

    fn needs_of_pauses(&self, lang: Lang) -> Vec<Need> {
        let lasting = self.pauses.iter().filter(|pause| pause.needs_operator);
        lasting
            .map(|pause| {
                let app = name_of(&self.apps, &pause.appid);
                let reason = pause.reason.as_deref().unwrap_or_default();
                let what = match &pause.template_id {
                    Some(template) => lang.pick(
                        format!("Template {template} of app {app} sends nothing: {reason}"),
                        format!("{app} 的模板 {template} 停止发送：{reason}"),
                    ),
                    None => lang.pick(
                        format!("App {app} sends nothing: {reason}"),
                        format!("小程序 {app} 停止发送：{reason}"),
                    ),
                };
                let query = pause
                    .template_id
                    .as_ref()
                    .map_or_else(String::new, |template| format!("?template_id={template}"));
                let known = self.apps.iter().any(|app| app.appid == pause.appid);
                Need {
                    now: false,
                    icon: "paused",
                    sentence: what,
                    link: "/workers".to_owned(),
                    why: lang
                        .pick(
                            "Its rows wait until an operator resumes it, and expire meanwhile.",
                            "其消息一直等到运维恢复，期间可能过期。",
                        )
                        .to_owned(),
                    since: None,
                    verb: known.then(|| {
                        (
                            format!("/apps/{}/resume{query}", pause.appid),
                            lang.pick("Resume…", "恢复…").to_owned(),
                        )
                    }),
                }
            })
            .collect()
    }

    fn needs_of_doubts(&self, lang: Lang) -> Vec<Need> {
        let held = self
            .doubts
            .iter()
            .filter(|doubt| doubt.on_doubt == "hold")
            .count();
        let Some(oldest) = self.doubts.iter().map(|doubt| doubt.in_doubt_since).min() else {
            return Vec::new();
        };
        if held == 0 {
            return Vec::new();
        }
        let others = self.doubts.len() - held;
        vec![Need {
            now: false,
            icon: "in_doubt",
            sentence: lang.pick(format!("{} in doubt; {held} with on_doubt = 'hold' wait for you", self.doubts.len()), format!("{} 行结果未知；其中 {held} 行 on_doubt = 'hold'，等待你的判断", self.doubts.len())),
            link: "/doubts".to_owned(),
            why: lang.pick(format!("Without evidence the other {others} are sent again, and their users may receive them twice."), format!("若无证据，其余 {others} 行会重发，用户可能收到两次。")),
            since: Some(oldest),
            verb: None,
        }]
    }

    fn needs_of_tokens(&self, lang: Lang) -> Vec<Need> {
        let mut needs = Vec::new();
        for token in &self.tokens {
            let app = name_of(&self.apps, &token.appid);
            let recent = token
                .last_foreign_at
                .filter(|at| Utc::now() - *at < TimeDelta::days(1));
            if let Some(at) = recent {
                needs.push(Need {
                    now: false,
                    icon: "warn",
                    sentence: lang.pick(
                        format!("Another program refreshes the token of app {app} by force"),
                        format!("另有程序强制刷新 {app} 的 access_token"),
                    ),
                    link: "/apps".to_owned(),
                    why: lang.pick(
                        format!(
                            "{}: let it use getStableAccessToken in normal mode.",
                            counted(lang, token.foreign_refreshes, "time", "")
                        ),
                        format!(
                            "共 {} 次：请让它以普通模式调用 getStableAccessToken。",
                            token.foreign_refreshes
                        ),
                    ),
                    since: Some(at),
                    verb: None,
                });
            }
        }
        for quota in self.quotas.iter().filter(|quota| quota.used_up) {
            let app = name_of(&self.apps, &quota.appid);
            needs.push(Need {
                now: true,
                icon: "warn",
                sentence: lang.pick(format!("The day's quota of app {app} is used up"), format!("{app} 当天的额度已用完")),
                link: "/apps".to_owned(),
                why: lang.pick("It begins anew at 00:00 China time; `wxnotify quota clear` takes one of ten clearings a month.", "北京时间 00:00 重新开始；wxnotify quota clear 会用掉每月十次清零之一。").to_owned(),
                since: quota.read_at,
                verb: None,
            });
        }
        needs
    }
}

fn content(visit: &Visit, seen: &Overview, appid: Option<&str>) -> Markup {
    let lang = visit.lang;
    html! {
        div.head {
            h1 { (lang.pick("Overview", "总览")) }
            p class="muted live" role="status" data-live="as-of" { (lang.pick("as of ", "截至 ")) (time(seen.at)) }
            div.end {
                form.row method="get" { (app_choice(lang, &seen.apps, appid)) button.btn { (lang.pick("Show", "显示")) } }
                a class="btn quiet" href="?live=0" { (lang.pick("Hold still ", "停止刷新 ")) kbd.key { "." } }
            }
        }
        (needs_box(lang, &seen.needs(lang), seen))
        (numbers(lang, seen))
        div.split {
            div {
                (outcomes_box(lang, seen))
                (backlog_box(lang, seen))
                (dead_box(lang, seen))
            }
            div {
                (latency_box(lang, seen))
                (doubts_box(lang, seen))
                (quota_box(lang, seen))
                (token_box(lang, seen))
                (worker_box(lang, seen))
            }
        }
    }
}

fn needs_box(lang: Lang, needs: &[Need], seen: &Overview) -> Markup {
    if needs.is_empty() {
        return html! {
            section.calm aria-label=(lang.pick("What needs somebody", "需要处理的事")) data-live="needs" {
                (icon("sent"))
                p {
                    b { (lang.pick("Nothing needs you.", "没有需要处理的事。")) } " "
                    span.muted { (lang.pick(
                        format!("{} apps, {} workers, pauses, doubts, tokens, quotas and the dead letters of a day were looked at.", seen.apps.len(), seen.workers.len()),
                        format!("已查看 {} 个小程序、{} 个 worker、暂停、结果未知、token、额度与一天的死信。", seen.apps.len(), seen.workers.len()),
                    )) }
                }
            }
        };
    }
    html! {
        section.needs aria-labelledby="nd" data-live="needs" {
            header { h2 id="nd" { (lang.pick("Needs somebody now", "需要处理")) } small.muted { (needs.len()) } }
            ul {
                @for need in needs.iter().take(20) {
                    li class=(if need.now { "now" } else { "soon" }) {
                        (icon(need.icon))
                        div { p { strong { a href=(need.link) { bdi { (crate::legible::legible(&need.sentence)) } } } } p { (need.why) } }
                        @if let Some(since) = need.since {
                            span class="small muted" { (lang.pick("since ", "自 ")) (time(since)) ", " (age(Utc::now() - since)) }
                        } @else { span {} }
                        div.row { @if let Some((path, word)) = &need.verb { a.btn href=(path) { (word) } } }
                    }
                }
            }
        }
    }
}

/// How many of a status ended in each minute of the last hour.
fn by_minute(minutes: &[Minute], at: DateTime<Utc>, counts: impl Fn(&str) -> bool) -> Vec<f64> {
    let mut values = vec![0.0; MINUTES as usize];
    for minute in minutes.iter().filter(|minute| counts(&minute.status)) {
        let back = (at - minute.minute).num_minutes();
        if let Some(value) = usize::try_from(i64::from(MINUTES) - 1 - back)
            .ok()
            .and_then(|index| values.get_mut(index))
        {
            *value += minute.rows as f64;
        }
    }
    values
}

fn is_sent(status: &str) -> bool {
    matches!(status, "sent" | "presumed_sent")
}

fn numbers(lang: Lang, seen: &Overview) -> Markup {
    let minutes = seen.minutes.as_deref();
    let sent = minutes.map(|minutes| by_minute(minutes, seen.at, is_sent));
    // The minute that is under way is not counted whole yet.
    let last = sent
        .as_ref()
        .and_then(|sent| sent.get(sent.len().wrapping_sub(2)).copied())
        .unwrap_or_default();
    let ended = minutes.map_or(0, |minutes| {
        minutes.iter().map(|minute| minute.rows).sum::<i64>()
    });
    let well = minutes.map_or(0, |minutes| {
        minutes
            .iter()
            .filter(|minute| is_sent(&minute.status))
            .map(|minute| minute.rows)
            .sum::<i64>()
    });
    let p = |at: usize| {
        seen.latency
            .as_ref()
            .and_then(|latency| latency.sent.as_ref())
            .and_then(|sent| sent.get(at).copied())
    };
    let dash = || "–".to_owned();
    let died = seen.dead.iter().map(|cause| cause.rows).sum();
    html! {
        h2.vh { (lang.pick("Numbers", "数字")) }
        dl class="stats panel" data-live="numbers" {
            div { dt { (lang.pick("due", "待发送")) } dd { (count(seen.rows("due"))) } dd class="small muted" { (seen.oldest_due().map_or_else(|| lang.pick("nothing waits", "没有等待").to_owned(), |at| format!("{} {}", lang.pick("oldest", "最久"), age(seen.at - at)))) } }
            div { dt { (lang.pick("sent a minute", "每分钟发送")) } dd { (if minutes.is_some() { count(last as i64) } else { dash() }) } dd class="small muted" { (lang.pick("the last whole minute", "上一整分钟")) } @if let Some(sent) = &sent { dd { (sparkline(sent)) } } }
            div { dt { (lang.pick("due → sent, p95", "到期→发送 p95")) } dd { (p(1).map_or_else(dash, seconds)) } dd class="small muted" { "p99 " (p(2).map_or_else(dash, seconds)) } }
            div { dt { (lang.pick("in doubt", "结果未知")) } dd { (seen.doubts.len()) @if seen.doubts.len() >= DOUBTS_MAX { "+" } } dd class="small muted" { (seen.doubts.iter().map(|doubt| doubt.in_doubt_since).min().map_or_else(|| lang.pick("none", "无").to_owned(), |at| format!("{} {}", lang.pick("oldest", "最久"), age(seen.at - at)))) } }
            div { dt { (lang.pick("died, last 24 hours", "24 小时死信")) } dd { (count(died)) } dd class="small muted" { (lang.pick("by cause below", "原因见下")) } }
            div { dt { (lang.pick("ended, last hour", "最近一小时结束")) } dd { (if minutes.is_some() { count(ended) } else { dash() }) } dd class="small muted" { @if ended > 0 { (format!("{:.1} % ", 100.0 * well as f64 / ended as f64)) (lang.pick("sent", "已发送")) } @else { (lang.pick("nothing ended", "没有结束的")) } } }
        }
    }
}

fn outcomes_box(lang: Lang, seen: &Overview) -> Markup {
    let Some(minutes) = &seen.minutes else {
        return html! { section { h2 { (lang.pick("Outcomes a minute", "每分钟结果")) } p.muted { (lang.pick("More ended in the last hour than could be counted within 2 s.", "最近一小时结束的消息过多，2 秒内数不完。")) } } };
    };
    type Counts = fn(&str) -> bool;
    let kinds: [(&str, &str, Counts); 3] = [
        ("c-sent", lang.pick("sent", "已发送"), is_sent),
        (
            "c-wait",
            lang.pick("expired, cancelled, duplicate", "过期、取消、重复"),
            |status| matches!(status, "expired" | "cancelled" | "duplicate"),
        ),
        (
            "c-dead",
            lang.pick("dead, unresolved", "死信、未决"),
            |status| matches!(status, "dead" | "unresolved"),
        ),
    ];
    let values: Vec<Vec<f64>> = kinds
        .iter()
        .map(|(_, _, counts)| by_minute(minutes, seen.at, counts))
        .collect();
    let series: Vec<Series<'_>> = kinds
        .iter()
        .zip(&values)
        .map(|((class, ..), values)| Series { class, values })
        .collect();
    let label = lang.pick(
        "Outcomes a minute in the last hour",
        "最近一小时每分钟的结果",
    );
    html! {
        section aria-labelledby="ch" data-live="outcomes" {
            header { h2 id="ch" { (lang.pick("Outcomes a minute", "每分钟结果")) } small.muted { (lang.pick("last hour", "最近一小时")) } }
            @if values.iter().flatten().all(|value| *value == 0.0) {
                p.muted { (lang.pick("Nothing ended in the last hour. What is sent, dies or expires shows here by the minute.", "最近一小时没有结束的消息。发送、死信、过期会按分钟显示在这里。")) }
            } @else {
                div.plot {
                    (stacked_bars(&series, label))
                    div.x { (time(seen.at - TimeDelta::minutes(i64::from(MINUTES)))) (time(seen.at)) }
                }
                ul.legend {
                    @for ((class, word, _), values) in kinds.iter().zip(&values) {
                        li { svg class=(class) viewBox="0 0 10 10" aria-hidden="true" { rect width="10" height="10" {} } (word) " " b { (count(values.iter().sum::<f64>() as i64)) } }
                    }
                }
                (minutes_table(lang, minutes))
            }
        }
    }
}

fn minutes_table(lang: Lang, minutes: &[Minute]) -> Markup {
    let mut by: BTreeMap<DateTime<Utc>, BTreeMap<&str, i64>> = BTreeMap::new();
    for minute in minutes {
        *by.entry(minute.minute)
            .or_default()
            .entry(&minute.status)
            .or_default() += minute.rows;
    }
    html! {
        details.gap {
            summary { (lang.pick("As a table", "以表格显示")) }
            table {
                thead { tr { th scope="col" { (lang.pick("minute", "分钟")) } th.n scope="col" { (lang.pick("sent", "已发送")) } th.n scope="col" { (lang.pick("not sent", "未发送")) } } }
                tbody {
                    @for (minute, statuses) in by.iter().rev() {
                        @let sent: i64 = statuses.iter().filter(|(status, _)| is_sent(status)).map(|(_, rows)| rows).sum();
                        @let all: i64 = statuses.values().sum();
                        tr { th scope="row" { (time(*minute)) } td.n { (number(sent)) } td.n { (number(all - sent)) } }
                    }
                }
            }
        }
    }
}

fn backlog_box(lang: Lang, seen: &Overview) -> Markup {
    const COLUMNS: [&str; 7] = [
        "due",
        "retrying",
        "sending",
        "in_doubt",
        "paused",
        "scheduled",
        "held",
    ];
    let mut lanes: BTreeMap<(&str, i16), BTreeMap<&str, &Backlog>> = BTreeMap::new();
    for row in &seen.backlog {
        lanes
            .entry((&row.appid, row.lane))
            .or_default()
            .insert(&row.status, row);
    }
    let lane_word = |lane: i16| match lane {
        0 => lang.pick("0 urgent", "0 紧急"),
        1 => lang.pick("1 normal", "1 普通"),
        _ => lang.pick("2 bulk", "2 批量"),
    };
    html! {
        section.scroll tabindex="0" role="region" aria-label=(lang.pick("backlog", "积压")) data-live="backlog" {
            @if lanes.is_empty() {
                h2 { (lang.pick("Backlog", "积压")) }
                p.muted { (lang.pick("Nothing waits. Rows that are due, scheduled, paused or in doubt are counted here by app and lane.", "没有等待的消息。待发送、已排期、已暂停或结果未知的行会按小程序与通道计数。")) }
            } @else {
                table {
                    caption { (lang.pick("Backlog", "积压")) small { (lang.pick("by app and lane; of each the 10,000 that are due first", "按小程序与通道；各取最早到期的 10,000 行")) } }
                    thead { tr { th scope="col" { (lang.pick("app, lane", "小程序、通道")) } th.n scope="col" { (lang.pick("oldest", "最久")) } @for status in COLUMNS { th.n scope="col" { (crate::console::words::status_word(lang, status)) } } } }
                    tbody {
                        @for ((appid, lane), statuses) in &lanes {
                            tr {
                                th scope="row" { a href=(format!("/find?appid={appid}&status=moving")) { (name_of(&seen.apps, appid)) } " " (lane_word(*lane)) }
                                td.n { (statuses.get("due").and_then(|row| row.oldest_due).map_or_else(|| "–".to_owned(), |at| age(seen.at - at))) }
                                @for status in COLUMNS {
                                    td.n { @match statuses.get(status) { Some(row) => { (number(row.rows)) @if row.more { "+" } } None => { (number(0)) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn dead_box(lang: Lang, seen: &Overview) -> Markup {
    html! {
        section data-live="dead" {
            table {
                caption { a href="/dead" { (lang.pick("Dead letters by cause", "死信按原因")) } small { (lang.pick("last 24 hours", "最近 24 小时")) } }
                @if seen.dead.is_empty() { tbody { tr { td { span.muted { (lang.pick("None.", "没有。")) } } } } } @else {
                    thead { tr { th scope="col" { (lang.pick("meaning", "含义")) } th scope="col" { (lang.pick("app", "小程序")) } th scope="col" { (lang.pick("credit", "次数")) } th.n scope="col" { (lang.pick("rows", "行")) } th.n scope="col" { (lang.pick("redriven", "已重投")) } } }
                    tbody {
                        @for cause in seen.dead.iter().take(12) {
                            tr {
                                th scope="row" { (foreign_or_dash(lang.pick(cause.meaning.as_deref(), cause.meaning_zh.as_deref()))) }
                                td { (name_of(&seen.apps, &cause.appid)) }
                                td { (credit_word(lang, cause.credit.as_deref())) }
                                td.n { (number(cause.rows)) } td.n { (number(cause.redriven)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn latency_box(lang: Lang, seen: &Overview) -> Markup {
    let Some(latency) = &seen.latency else {
        return html! {};
    };
    let cells = |values: Option<&Vec<f64>>| -> Vec<String> {
        (0..3)
            .map(|at| {
                values
                    .and_then(|values| values.get(at))
                    .map_or_else(|| "–".to_owned(), |secs| seconds(*secs))
            })
            .collect()
    };
    html! {
        section data-live="latency" {
            table {
                caption { (lang.pick("Latency", "延迟")) small { (lang.pick("last hour", "最近一小时")) } }
                thead { tr { td {} @for word in ["p50", "p95", "p99"] { th.n scope="col" { (word) } } } }
                tbody {
                    tr { th scope="row" { (lang.pick("due → sent", "到期→发送")) } @for cell in cells(latency.sent.as_ref()) { td.n { (cell) } } }
                    tr { th scope="row" { (lang.pick("sent → receipt", "发送→回执")) } @for cell in cells(latency.confirmed.as_ref()) { td.n { (cell) } } }
                    tr.sub { th scope="row" colspan="3" { (lang.pick("expired unsent", "未发送而过期")) } td.n { (number(latency.expired)) } }
                    tr.sub { th scope="row" colspan="3" { (lang.pick("accepted over 10 min ago, no receipt", "已接受超过 10 分钟而无回执")) } td.n { (number(latency.unconfirmed)) } }
                }
            }
        }
    }
}

fn doubts_box(lang: Lang, seen: &Overview) -> Markup {
    let mut by: BTreeMap<&str, i64> = BTreeMap::new();
    for doubt in &seen.doubts {
        *by.entry(&doubt.what_next).or_default() += 1;
    }
    html! {
        section data-live="doubts" {
            header { h2 { a href="/doubts" { (lang.pick("Doubts", "结果未知")) } } small.end { (seen.doubts.len()) } }
            @if by.is_empty() { p.muted { (lang.pick("None: every reply of WeChat's arrived.", "没有：微信的每个回复都已收到。")) } }
            ul { @for (what_next, rows) in by { li.row { b { (rows) } span { (what_next) } } } }
        }
    }
}

fn quota_box(lang: Lang, seen: &Overview) -> Markup {
    let known: Vec<&QuotaState> = seen
        .quotas
        .iter()
        .filter(|quota| quota.daily_limit.is_some())
        .collect();
    html! {
        section data-live="quota" {
            table {
                caption { (lang.pick("Quota and rate", "额度与速率")) small { (lang.pick("begins anew at 00:00 China time", "北京时间 00:00 重新开始")) } }
                @if known.is_empty() { tbody { tr { td { span.muted { (lang.pick("WeChat was not asked yet.", "尚未询问微信。")) } } } } } @else {
                    thead { tr { th scope="col" { (lang.pick("app", "小程序")) } th.n scope="col" { (lang.pick("left", "剩余")) } th.n scope="col" { (lang.pick("rate", "速率")) } } }
                    tbody { @for quota in known {
                        tr {
                            th scope="row" { (name_of(&seen.apps, &quota.appid)) }
                            td.n { (quota.remaining.map_or_else(|| "–".to_owned(), count)) small { (lang.pick("of ", "共 ")) (quota.daily_limit.map_or_else(String::new, count)) } }
                            td.n { (quota.rate_per_second.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}/s"))) }
                        }
                    } }
                }
            }
        }
    }
}

fn token_box(lang: Lang, seen: &Overview) -> Markup {
    html! {
        section data-live="tokens" {
            table {
                caption { "access_token" }
                thead { tr { th scope="col" { (lang.pick("app", "小程序")) } th scope="col" { (lang.pick("state", "状态")) } th.n scope="col" { (lang.pick("valid until", "有效至")) } } }
                tbody { @for token in &seen.tokens {
                    tr {
                        th scope="row" { (name_of(&seen.apps, &token.appid)) }
                        td { @if token.valid { (lang.pick("valid", "有效")) } @else if token.generation.is_none() { span.muted { (lang.pick("none yet", "尚无")) } } @else { span.warn { (lang.pick("lapsed", "已失效")) } } @if token.foreign_refreshes > 0 { small.warn { (lang.pick("replaced from outside ", "被外部替换 ")) (token.foreign_refreshes) "×" } } }
                        td.n { (time_or_dash(token.expires_at)) }
                    }
                } }
            }
        }
    }
}

fn worker_box(lang: Lang, seen: &Overview) -> Markup {
    html! {
        section data-live="workers" {
            table {
                caption { a href="/workers" { "worker" } small { (env!("CARGO_PKG_VERSION")) } }
                @if seen.workers.is_empty() { tbody { tr { td { span.bad { (lang.pick("None is alive.", "没有存活的。")) } } } } } @else {
                    thead { tr { th scope="col" { (lang.pick("worker", "worker")) } th.n scope="col" { (lang.pick("in flight", "发送中")) } th.n scope="col" { (lang.pick("up", "已运行")) } } }
                    tbody { @for worker in &seen.workers { tr { th scope="row" { (frame::icon("sent")) " " (foreign_or_dash(Some(&worker.name))) "#" (worker.epoch) } td.n { (worker.in_flight) } td.n { (age(seen.at - worker.started_at)) } } } }
                }
            }
        }
    }
}
