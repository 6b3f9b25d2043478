//! Lists: failures, dead letters to choose from, doubts, workers and pauses, and who did what.

use axum::response::Response;
use chrono::Utc;
use maud::{Markup, html};
use serde_json::Value;

use super::{answer, app_choice, made, question};
use crate::console::frame::{self, head};
use crate::console::visit::{Operator, Visit};
use crate::console::words::{
    age, credit_word, foreign, foreign_or_dash, number, time, time_or_dash,
};
use crate::operate::overview::name_of;
use crate::store::StoreError;
use crate::store::verbs::Filter;

const ROWS: usize = 200;

pub(in crate::console) async fn failures(visit: Visit) -> Response {
    let page = show_failures(&visit).await;
    made(&visit, page)
}

async fn show_failures(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let asked = question(visit);
    let appid = asked.get("appid").map(String::as_str);
    let apps = visit.store.list_apps().await?;
    let causes = visit.store.failure_causes(appid).await?;
    let title = lang.pick("Failures", "失败");
    let choice = html! { form.row method="get" { (app_choice(lang, &apps, appid)) button.btn { (lang.pick("Show", "显示")) } } };
    let content = html! {
        (head(lang, title, &choice))
        section data-live="failures" {
            @if !causes.is_empty() { table.stack role="table" {
                caption { (lang.pick("Attempts that did not succeed", "未成功的尝试")) small { (lang.pick("last 24 hours, by app and errcode", "最近 24 小时，按小程序与 errcode")) } }
                thead role="rowgroup" { tr role="row" {
                    @for (word, class) in [("errcode", "n"), (lang.pick("meaning and what to do", "含义与处理"), ""), (lang.pick("app", "小程序"), ""), (lang.pick("wxnotify does", "处置"), ""), (lang.pick("attempts", "尝试"), "n"), (lang.pick("died", "死信"), "n"), (lang.pick("doubts", "结果未知"), "n"), (lang.pick("first", "最早"), "n"), (lang.pick("last", "最近"), "n")] { th role="columnheader" scope="col" class=[(!class.is_empty()).then_some(class)] { (word) } }
                } }
                tbody role="rowgroup" {
                    @for cause in &causes {
                        tr role="row" data-row {
                            td.n role="cell" { @match cause.errcode { Some(errcode) => a href=(format!("/find?status=ended&errcode={errcode}&appid={}", cause.appid)) { (errcode) }, None => "–" } }
                            th.grow role="rowheader" scope="row" { (foreign(lang.pick(&cause.meaning, &cause.meaning_zh))) small { (foreign(lang.pick(&cause.advice, &cause.advice_zh))) } }
                            td role="cell" { (name_of(&apps, &cause.appid)) }
                            td.mono role="cell" { (cause.disposition.as_deref().unwrap_or("–")) }
                            td.n role="cell" { (number(cause.attempts)) } td.n role="cell" { (number(cause.dead)) } td.n role="cell" { (number(cause.doubts)) }
                            td.n role="cell" { (time(cause.first_at)) } td.n role="cell" { (time(cause.last_at)) }
                        }
                    }
                }
            }
            } @else { p.muted { (lang.pick("No attempt failed. Refusals of WeChat, lost replies and parks are counted here.", "没有失败的尝试。微信的拒绝、丢失的回复与搁置会计入此处。")) } }
        }
    };
    Ok(answer(visit, title, &content))
}

pub(in crate::console) async fn dead(visit: Visit) -> Response {
    let page = show_dead(&visit).await;
    made(&visit, page)
}

async fn show_dead(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let asked = question(visit);
    let appid = asked.get("appid").map(String::as_str);
    let hours = asked
        .get("hours")
        .and_then(|hours| hours.parse().ok())
        .unwrap_or(24)
        .clamp(1, 24 * 400);
    let apps = visit.store.list_apps().await?;
    let causes = visit.store.dead_causes(appid, hours).await?;
    let title = lang.pick("Dead letters", "死信");
    let spans = [
        (24, lang.pick("last 24 hours", "最近 24 小时")),
        (24 * 7, lang.pick("last 7 days", "最近 7 天")),
        (24 * 31, lang.pick("last 31 days", "最近 31 天")),
    ];
    let choice = html! {
        form.row method="get" {
            label.vh for="hours" { (lang.pick("Time", "时间")) }
            select id="hours" name="hours" { @for (span, word) in spans { option value=(span) selected[hours == span] { (word) } } }
            (app_choice(lang, &apps, appid))
            button.btn { (lang.pick("Show", "显示")) }
        }
    };
    let content = html! {
        (head(lang, title, &choice))
        (frame::note("", "info", &html! { (lang.pick("Dead letters are not sent again by themselves. Mend the cause first, then redrive: where the credit is kept it is used once more, where it is gone WeChat says 43101 again.", "死信不会自动重发。先排除原因，再重投：次数「保留」的会再用一次，「已不存在」的会再次返回 43101。")) }))
        section {
            @if !causes.is_empty() { table.stack role="table" {
                caption { (lang.pick("By cause", "按原因")) small { (lang.pick("a redrive is previewed before anything changes", "重投前会先预览")) } }
                thead role="rowgroup" { tr role="row" {
                    @for (word, class) in [(lang.pick("errcode and meaning", "errcode 与含义"), ""), (lang.pick("app", "小程序"), ""), (lang.pick("credit", "次数"), ""), (lang.pick("rows", "行"), "n"), (lang.pick("redriven", "已重投"), "n"), (lang.pick("first", "最早"), "n"), (lang.pick("last", "最近"), "n"), ("", "")] { th role="columnheader" scope="col" class=[(!class.is_empty()).then_some(class)] { @if word.is_empty() { span.vh { (lang.pick("verb", "操作")) } } @else { (word) } } }
                } }
                tbody role="rowgroup" {
                    @for cause in &causes {
                        @let errcode = cause.errcode.map_or_else(String::new, |errcode| errcode.to_string());
                        tr role="row" data-row id=(format!("c{errcode}")) {
                            th.grow role="rowheader" scope="row" { a href=(format!("/find?status={}&errcode={errcode}&appid={}&hours={hours}", cause.status, cause.appid)) { (foreign_or_dash(lang.pick(cause.meaning.as_deref(), cause.meaning_zh.as_deref()).or(Some(&cause.status)))) } }
                            td role="cell" { (name_of(&apps, &cause.appid)) }
                            td role="cell" data-l=(lang.pick("credit", "次数")) { (credit_word(lang, cause.credit.as_deref())) }
                            td.n role="cell" data-l=(lang.pick("rows", "行")) { (number(cause.rows)) }
                            td.n role="cell" data-l=(lang.pick("redriven", "已重投")) { (number(cause.redriven)) }
                            td.n role="cell" { (time(cause.first_at)) } td.n role="cell" { (time(cause.last_at)) }
                            td role="cell" {
                                @if visit.may_act() && cause.rows > cause.redriven {
                                    form method="post" action="/preview" {
                                        input type="hidden" name="verb" value="redrive"; input type="hidden" name="appid" value=(cause.appid);
                                        input type="hidden" name="statuses" value=(cause.status); input type="hidden" name="errcode" value=(errcode);
                                        @if cause.errcode.is_none() { input type="hidden" name="without_errcode" value="true"; }
                                        input type="hidden" name="hours" value=(hours);
                                        button.btn { (lang.pick("Redrive…", "重投…")) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            } @else { p.muted { (lang.pick("None in this time. What WeChat refuses for good, or what used up its attempts, ends here.", "此时间内没有。微信永久拒绝或尝试次数用尽的消息会在这里。")) } }
        }
    };
    Ok(answer(visit, title, &content))
}

pub(in crate::console) async fn doubts(visit: Visit) -> Response {
    let page = show_doubts(&visit).await;
    made(&visit, page)
}

async fn show_doubts(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let asked = question(visit);
    let filter = Filter {
        appid: asked.get("appid").cloned(),
        ..Filter::default()
    };
    let apps = visit.store.list_apps().await?;
    let doubts = visit.store.doubts(&filter, ROWS).await?;
    let title = lang.pick("Doubts", "结果未知");
    let choice = html! { form.row method="get" { (app_choice(lang, &apps, filter.appid.as_deref())) button.btn { (lang.pick("Show", "显示")) } } };
    let content = html! {
        (head(lang, title, &choice))
        section data-live="doubts" {
            @if !doubts.is_empty() { table.stack role="table" {
                caption { (doubts.len()) @if doubts.len() >= ROWS { "+" } " " (lang.pick("sends whose reply was lost", "次发送的回复已丢失")) small { (lang.pick("the oldest first", "最早的在前")) } }
                thead role="rowgroup" { tr role="row" {
                    @for (word, class) in [("id", ""), (lang.pick("since", "自"), "n"), (lang.pick("app", "小程序"), ""), (lang.pick("template", "模板"), ""), ("business_ref", ""), ("on_doubt", ""), (lang.pick("what then", "之后"), ""), (lang.pick("at", "时间"), "n"), (lang.pick("events since", "此后事件"), "n")] { th role="columnheader" scope="col" class=[(!class.is_empty()).then_some(class)] { (word) } }
                } }
                tbody role="rowgroup" {
                    @for doubt in &doubts {
                        tr role="row" data-row {
                            td.mono role="cell" { a href=(format!("/n/{}", doubt.id)) { (doubt.id) } }
                            td.n role="cell" { (time(doubt.in_doubt_since)) }
                            td role="cell" { (name_of(&apps, &doubt.appid)) } td.mono role="cell" { (foreign(&doubt.template_id)) }
                            td role="cell" { (foreign_or_dash(doubt.business_ref.as_deref())) } td.mono role="cell" { (doubt.on_doubt) }
                            td.wide role="cell" { @if doubt.is_sending { (lang.pick("being sent again", "正在重发")) } @else { (doubt.what_next) } }
                            td.n role="cell" { (time_or_dash(doubt.next_at)) } td.n role="cell" { (number(doubt.events_since)) }
                        }
                    }
                }
            }
            } @else { p.muted { (lang.pick("None. When WeChat's reply is lost a message stands here until evidence, an operator, or its window ends it.", "没有。微信的回复丢失时，消息会列在这里，直到有证据、运维判断或等待期结束。")) } }
        }
    };
    Ok(answer(visit, title, &content))
}

pub(in crate::console) async fn workers(visit: Visit) -> Response {
    let page = show_workers(&visit).await;
    made(&visit, page)
}

async fn show_workers(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let apps = visit.store.list_apps().await?;
    let workers = visit.store.live_workers().await?;
    let pauses = visit.store.pauses(None).await?;
    let blockers = visit.store.blockers(None).await?;
    let title = lang.pick("Workers and pauses", "worker 与暂停");
    let content = html! {
        (head(lang, title, &html! {}))
        @if !blockers.is_empty() {
            section.needs { header { h2 { (lang.pick("Sessions that hold what workers need", "占住 worker 所需锁的会话")) } }
                ul { @for blocker in &blockers { li.now { (frame::icon("paused")) div { p { strong { (foreign(&blocker.sentence())) } } p.mono { (foreign(&blocker.end_with)) } } span class="small muted" { (time_or_dash(blocker.since)) } span {} } } } }
        }
        section.scroll tabindex="0" role="region" aria-label=(lang.pick("workers", "worker")) data-live="workers" {
            table {
                caption { (lang.pick("Workers alive", "存活的 worker")) small { (lang.pick("a sign of life in the last minute", "最近一分钟有心跳")) } }
                @if workers.is_empty() { tbody { tr { td { span.bad { (lang.pick("None: nothing is sent.", "没有：什么都发不出去。")) } } } } } @else {
                    thead { tr { th scope="col" { "worker" } th scope="col" { (lang.pick("version", "版本")) } th scope="col" { (lang.pick("apps", "小程序")) } th.n scope="col" { (lang.pick("in flight", "发送中")) } th.n scope="col" { (lang.pick("up", "已运行")) } th.n scope="col" { (lang.pick("last sign", "最近心跳")) } } }
                    tbody { @for worker in &workers { tr {
                        th scope="row" { (foreign(&worker.name)) "#" (worker.epoch) } td { (worker.version) }
                        td { (worker.appids.iter().map(|appid| name_of(&apps, appid)).collect::<Vec<_>>().join(", ")) }
                        td.n { (worker.in_flight) } td.n { (age(Utc::now() - worker.started_at)) } td.n { (age(Utc::now() - worker.heartbeat_at)) }
                    } } }
                }
            }
        }
        section.scroll tabindex="0" role="region" aria-label=(lang.pick("pauses", "暂停")) data-live="pauses" {
            table {
                caption { (lang.pick("Pauses", "暂停")) }
                @if pauses.is_empty() { tbody { tr { td { span.muted { (lang.pick("None: every app and template sends.", "没有：所有小程序与模板都在发送。")) } } } } } @else {
                    thead { tr { th scope="col" { (lang.pick("app", "小程序")) } th scope="col" { (lang.pick("template", "模板")) } th scope="col" { (lang.pick("why", "原因")) } th.n scope="col" { (lang.pick("until", "直到")) } th scope="col" { (lang.pick("what ends it", "如何结束")) } } }
                    tbody { @for pause in &pauses { tr {
                        th scope="row" { (name_of(&apps, &pause.appid)) } td.mono { (foreign_or_dash(pause.template_id.as_deref())) }
                        td { (foreign_or_dash(pause.reason.as_deref())) small { (foreign_or_dash(lang.pick(pause.meaning.as_deref(), pause.meaning_zh.as_deref()))) } }
                        td.n { @match pause.paused_until { Some(at) => { (time(at)) } None => { (lang.pick("an operator acts", "运维处理")) } } }
                        td.mono { (foreign(&pause.resume_with)) }
                    } } }
                }
            }
        }
    };
    Ok(answer(visit, title, &content))
}

pub(in crate::console) async fn actions(Operator(visit): Operator) -> Response {
    let page = show_actions(&visit).await;
    made(&visit, page)
}

async fn show_actions(visit: &Visit) -> Result<Response, StoreError> {
    const ROWS: i64 = 100;
    let lang = visit.lang;
    let asked = question(visit);
    let (who, action) = (
        asked.get("who").map(String::as_str),
        asked.get("action").map(String::as_str),
    );
    let before = asked.get("before").and_then(|before| before.parse().ok());
    let mut rows = visit.store.actions(who, action, before, ROWS + 1).await?;
    let more = rows.len() > ROWS as usize;
    rows.truncate(ROWS as usize);
    let title = lang.pick("Who did what", "操作记录");
    let next = rows.last().filter(|_| more).map(|last| {
        let pairs = asked
            .iter()
            .filter(|(key, _)| *key != "before")
            .map(|(key, value)| (key.clone(), value.clone()))
            .chain([("before".to_owned(), last.id.to_string())]);
        format!(
            "/actions?{}",
            form_urlencoded::Serializer::new(String::new())
                .extend_pairs(pairs)
                .finish()
        )
    });
    let content = html! {
        div.head { h1 { (title) } p.muted { (lang.pick("operator_actions: every verb leaves a row, and nobody can change it", "operator_actions：每个操作都留下一行，任何人都不能修改")) } }
        form class="panel filters" method="get" {
            div.field { label for="who" { (lang.pick("who (how the name begins)", "操作人（开头）")) } input id="who" name="who" value=(who.unwrap_or_default()); }
            div.field { label for="action" { (lang.pick("action", "操作")) } input id="action" name="action" value=(action.unwrap_or_default()); }
            button class="btn main" { (lang.pick("Show", "显示")) }
        }
        section {
            @if !rows.is_empty() { table.stack role="table" {
                caption { (lang.pick("Actions", "操作")) small { (lang.pick("the latest first", "最近的在前")) } }
                thead role="rowgroup" { tr role="row" { @for (word, class) in [(lang.pick("at", "时间"), "n"), (lang.pick("who", "操作人"), ""), (lang.pick("action", "操作"), ""), (lang.pick("which", "对象"), ""), (lang.pick("reason", "原因"), ""), (lang.pick("rows", "行"), "n")] { th role="columnheader" scope="col" class=[(!class.is_empty()).then_some(class)] { (word) } } } }
                tbody role="rowgroup" { @for row in &rows { tr role="row" data-row {
                    td.n role="cell" { (time(row.at)) } th role="rowheader" scope="row" { (foreign(&row.actor)) } td.mono role="cell" { (row.action) }
                    td.wide role="cell" { (which(&row.filter)) } td.wide role="cell" { (foreign_or_dash(row.note.as_deref())) } td.n role="cell" { (number(row.rows_changed)) }
                } } }
            }
            } @else { p.muted { (lang.pick("Nobody did anything of this kind.", "没有这样的操作。")) } }
        }
        @if let Some(next) = next { div.pager { a.btn rel="next" href=(next) { (lang.pick("Older", "更早")) } } }
    };
    Ok(answer(visit, title, &content))
}

/// What an action was about: the conditions, with a link to a batch or a row.
fn which(filter: &Value) -> Markup {
    let pairs = filter.as_object().into_iter().flatten();
    html! {
        @for (at, (key, value)) in pairs.enumerate() {
            @if at > 0 { ", " }
            @match (key.as_str(), value.as_i64()) {
                ("batch", Some(batch)) => { a href=(format!("/batches/{batch}")) { "batch " (batch) } }
                ("id", Some(id)) => { a href=(format!("/n/{id}")) { "id " (id) } }
                _ => { (foreign(&format!("{key} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))) }
            }
        }
    }
}
