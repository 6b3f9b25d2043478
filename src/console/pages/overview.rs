//! The overview: what needs somebody now, in sentences, worst first; then numbers; then pictures.
//!
//! Start at [`show`], then [`look`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::{answer, app_choice, made, question};
use crate::console::chart::{Series, sparkline, stacked_bars};
use crate::console::frame::{self, icon};
use crate::console::visit::Visit;
use crate::console::words::{
    Lang, age, count, credit_word, foreign_or_dash, number, seconds, time, time_or_dash,
};
use crate::lock::lock;
use crate::operate::overview::{
    DOUBTS_MAX, MINUTES, Need, Overview, by_minute, is_sent, look, name_of,
};
use crate::store::StoreError;
use crate::store::console::Minute;
use crate::store::quotas::QuotaState;
use crate::store::status::Backlog;

/// What was seen so lately is shown again.
const FRESH_FOR: Duration = Duration::from_secs(4);
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
