//! One notification: the sentence, what next, the verbs that are possible, its timeline, and its texts on request.

use axum::extract::{Form, Path};
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::{answer, made};
use crate::console::frame::{chip, icon};
use crate::console::visit::{Operator, Visit};
use crate::console::words::{Lang, foreign, foreign_or_dash, time};
use crate::store::StoreError;
use crate::store::console::{Found, Revealed};
use crate::store::status::Explanation;

pub(in crate::console) async fn show(visit: Visit, Path(id): Path<i64>) -> Response {
    let page = show_row(&visit, id, None).await;
    made(&visit, page)
}

#[derive(Deserialize)]
pub(in crate::console) struct Why {
    #[serde(default)]
    note: String,
}

/// Shows receiver and texts, and records that somebody asked.
pub(in crate::console) async fn reveal(
    Operator(visit): Operator,
    Path(id): Path<i64>,
    Form(why): Form<Why>,
) -> Response {
    let page = async {
        let revealed = visit
            .store
            .reveal(id, &visit.audit(Some(&why.note)))
            .await?;
        show_row(&visit, id, revealed.as_ref()).await
    };
    made(&visit, page.await)
}

async fn show_row(
    visit: &Visit,
    id: i64,
    revealed: Option<&Revealed>,
) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let told = visit.store.explain_notification(id).await?;
    let row = visit.store.find_by_ids(&[id], 1).await?.pop();
    let title = format!("{} {id}", lang.pick("Notification", "消息"));
    let content = html! {
        div.head {
            h1 { (title) }
            @if row.is_some() { (chip(lang, &told.status)) }
            div.end { a class="btn quiet noprint" href=(format!("/find?q={id}")) { (lang.pick("Back to the search", "回到查找")) } }
        }
        (sentence_box(visit, id, &told))
        @if let Some(row) = &row {
            div.split {
                div { (timeline_box(lang, &told)) }
                div { (facts_box(lang, row)) (reminder_box(visit, &told)) (card_box(visit, id, revealed)) }
            }
        }
    };
    Ok(answer(visit, &title, &content))
}

/// The verbs that are possible in a status.
fn verbs_of(status: &str) -> &'static [(&'static str, &'static str, &'static str)] {
    match status {
        "held" | "scheduled" | "due" | "retrying" | "paused" => &[
            ("reschedule", "Move…", "改时间…"),
            ("cancel", "Cancel…", "取消…"),
        ],
        "in_doubt" => &[
            ("confirm_sent", "It arrived…", "已送达…"),
            ("confirm_not_sent", "It did not arrive…", "未送达…"),
            ("retry_anyway", "Send again now…", "现在重发…"),
        ],
        "dead" | "unresolved" | "expired" | "cancelled" => &[("redrive", "Redrive…", "重投…")],
        _ => &[],
    }
}

fn tone_of(status: &str) -> &'static str {
    match status {
        "sent" => "good",
        "dead" | "expired" | "not found" => "bad",
        "in_doubt" | "unresolved" | "presumed_sent" | "paused" | "retrying" => "warn",
        _ => "",
    }
}

fn sentence_box(visit: &Visit, id: i64, told: &Explanation) -> Markup {
    let lang = visit.lang;
    let verbs = if visit.may_act() {
        verbs_of(&told.status)
    } else {
        &[]
    };
    html! {
        section class=(format!("say {}", tone_of(&told.status))) aria-label=(lang.pick("What happened", "发生了什么")) {
            p.sentence { (foreign(lang.pick(&told.sentence, &told.sentence_zh))) }
            p.next { b { (lang.pick("What next", "接下来")) } span { (foreign(lang.pick(&told.what_next, &told.what_next_zh))) } }
            @if !verbs.is_empty() {
                div.row { @for (verb, en, zh) in verbs { a.btn href=(format!("/n/{id}/{verb}")) { (lang.pick(en, zh)) } } }
            }
        }
    }
}

fn timeline_box(lang: Lang, told: &Explanation) -> Markup {
    let entries = told
        .timeline
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    html! {
        section aria-labelledby="tl" {
            header { h2 id="tl" { (lang.pick("Timeline", "时间线")) } small.muted { (entries.len()) } }
            ol.time { @for entry in entries { (timeline_entry(lang, entry)) } }
        }
    }
}

fn timeline_entry(lang: Lang, entry: &Value) -> Markup {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let event = text("event").unwrap_or_default();
    let at = text("at")
        .and_then(|at| DateTime::parse_from_rfc3339(at).ok())
        .map(|at| at.with_timezone(&Utc));
    let (class, icon_name) = match event {
        word if word.contains("sent_event") || word == "receipt" => ("ok", "event"),
        word if word.contains("doubt") => ("ask", "in_doubt"),
        word if word.contains("attempt") => ("ask", "retrying"),
        word if word.contains("dead") => ("no", "dead"),
        "created" | "inserted" | "armed" => ("", "new"),
        word if word.contains("lease") || word.contains("sending") => ("", "sending"),
        word if word.contains("sent") || word.contains("finished") || word.contains("final") => {
            ("ok", "sent")
        }
        "ended" => match text("status") {
            Some("sent" | "presumed_sent") => ("ok", "sent"),
            Some("dead" | "expired" | "unresolved") => ("no", "dead"),
            _ => ("", "cancelled"),
        },
        _ => ("", "info"),
    };
    let facts: Vec<(&String, String)> = entry
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !matches!(key.as_str(), "at" | "event") && !value.is_null())
        .map(|(key, value)| {
            (
                key,
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned),
            )
        })
        .collect();
    html! {
        li class=(class) {
            @match at { Some(at) => { (time(at)) } None => { span {} } }
            (icon(icon_name))
            div {
                p { (foreign(&event.replace('_', " "))) }
                @if !facts.is_empty() {
                    details open[facts.len() <= 3] {
                        summary { (lang.pick("details", "详情")) }
                        dl.facts { @for (key, value) in facts { dt.mono { (key) } dd { (foreign(&value)) } } }
                    }
                }
            }
        }
    }
}

fn facts_box(lang: Lang, row: &Found) -> Markup {
    html! {
        section {
            h2 { (lang.pick("The row", "该行")) }
            dl class="facts gap" {
                dt { "status" } dd { (row.status) }
                dt { "appid" } dd.mono { (row.appid) }
                dt { "template_id" } dd.mono { (foreign(&row.template_id)) }
                dt { "business_ref" } dd { (foreign_or_dash(row.business_ref.as_deref())) }
                dt { "attempts" } dd { (row.attempts) }
                @if let Some(errcode) = row.errcode { dt { "errcode" } dd { a href=(format!("/find?errcode={errcode}&status=ended")) { (errcode) } } }
                @if let Some(credit) = &row.credit { dt { "credit" } dd { (credit) } }
                dt { "created_at" } dd { (time(row.created_at)) }
                @if let Some(at) = row.next_at { dt { "next_at" } dd { (time(at)) } }
                @if let Some(at) = row.finished_at { dt { "finished_at" } dd { (time(at)) } }
            }
        }
    }
}

/// The reminder that made the row, if one did; its page is for operators.
fn reminder_box(visit: &Visit, told: &Explanation) -> Markup {
    let lang = visit.lang;
    let made = told.timeline.get(0);
    let fact = |key: &str| made.and_then(|made| made.get(key));
    let Some(id) = fact("reminder_id").and_then(Value::as_i64) else {
        return html! {};
    };
    let text = |key: &str| fact(key).and_then(Value::as_str);
    let is_deleted = fact("reminder_deleted").and_then(Value::as_bool) == Some(true);
    html! {
        section {
            h2 { (lang.pick("Its reminder", "所属提醒")) }
            dl class="facts gap" {
                dt { (lang.pick("name", "名称")) }
                dd { @if is_deleted { (foreign_or_dash(text("reminder"))) small { (lang.pick("deleted since", "已删除")) } } @else if visit.may_act() { a href=(format!("/reminders/{id}")) { (foreign_or_dash(text("reminder"))) } } @else { (foreign_or_dash(text("reminder"))) } }
                dt { (lang.pick("made for", "应触发于")) } dd { (foreign_or_dash(text("made_for"))) }
            }
        }
    }
}

fn card_box(visit: &Visit, id: i64, revealed: Option<&Revealed>) -> Markup {
    let lang = visit.lang;
    html! {
        section {
            h2 { (lang.pick("Receiver and texts", "接收人与内容")) }
            @if let Some(shown) = revealed {
                div class="card gap" {
                    dl.facts {
                        dt { "openid" } dd.mono { (foreign_or_dash(shown.openid.as_deref())) }
                        @if let Some(fields) = shown.data.as_ref().and_then(Value::as_object) {
                            @for (key, value) in fields { dt.mono { (foreign(key)) } dd { (foreign(value_of(value))) } }
                        }
                    }
                    footer { "page: " (foreign_or_dash(shown.page.as_deref())) }
                }
                p class="small muted gap" { (lang.pick("That you looked is recorded.", "你的查看已被记录。")) }
            } @else if visit.may_act() {
                form class="form" method="post" action=(format!("/n/{id}/reveal")) {
                    div.field { label for="why" { (lang.pick("reason", "原因")) } input id="why" name="note" maxlength="500"; }
                    button.btn { (icon("eye")) (lang.pick("Show", "显示")) }
                    p class="small muted" { (lang.pick("Masked until asked for; the asking is recorded.", "默认隐藏；查看会被记录。")) }
                }
            } @else {
                p.muted { (lang.pick("A viewer sees no receiver and no message.", "只读角色看不到接收人与内容。")) }
            }
        }
    }
}

/// A field in the long form, or in the short one.
fn value_of(field: &Value) -> &str {
    field
        .get("value")
        .unwrap_or(field)
        .as_str()
        .unwrap_or_default()
}
