//! A verb on one row: a page of its own to confirm, with a reason. Verbs over many rows are [`super::batches`].

use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{DateTime, FixedOffset, NaiveDateTime, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;

use super::{answer, made};
use crate::console::frame::{self, chip};
use crate::console::visit::{Operator, Visit};
use crate::console::words::{Lang, foreign};
use crate::store::StoreError;

/// A verb: its name in the address, its words, and what to mind.
struct Words {
    button: &'static str,
    mind: &'static str,
}

fn words_of(lang: Lang, verb: &str) -> Option<Words> {
    let (button, mind) = match verb {
        "redrive" => (
            lang.pick("Redrive 1 row, 1 credit", "重投 1 行，使用 1 个次数"),
            lang.pick("A new row is inserted; this one stays in the history and is redriven once. Without a credit it meets 43101 again; if an earlier send arrived, the user receives it twice.", "会插入一条新行；旧行留在历史中，只能重投一次。没有次数时会再次返回 43101；若先前已送达，用户会收到两次。"),
        ),
        "cancel" => (
            lang.pick("Cancel 1 row", "取消 1 行"),
            lang.pick("It will not be sent. A row that is being sent at this moment is left alone, and told so.", "将不再发送。此刻正在发送的行不会改动，并会说明。"),
        ),
        "reschedule" => (
            lang.pick("Move 1 row", "更改 1 行的时间"),
            lang.pick("Times are China's (UTC+8). It is sent not before the first and expires at the second.", "时间为北京时间（UTC+8）。不早于前者发送，后者到期。"),
        ),
        "confirm_sent" => (
            lang.pick("It arrived: end as sent", "已送达：以已发送结束"),
            lang.pick("You know that the user received it, for instance because they said so.", "你确知用户已收到，例如用户本人确认。"),
        ),
        "confirm_not_sent" => (
            lang.pick("It did not arrive: send again", "未送达：重新发送"),
            lang.pick("You know that nothing arrived. If it did after all, the user receives it twice.", "你确知没有送达。若其实已送达，用户会收到两次。"),
        ),
        "retry_anyway" => (
            lang.pick("Send again without knowing", "不确定也重发"),
            lang.pick("Nobody knows whether it arrived: the user may receive it twice, and the row will say so.", "无人知道是否送达：用户可能收到两次，该行会如此标注。"),
        ),
        _ => return None,
    };
    Some(Words { button, mind })
}

pub(in crate::console) async fn ask(
    Operator(visit): Operator,
    Path((id, verb)): Path<(i64, String)>,
) -> Response {
    let page = confirm(&visit, id, &verb, None).await;
    made(&visit, page)
}

async fn confirm(
    visit: &Visit,
    id: i64,
    verb: &str,
    refused: Option<&str>,
) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let Some(words) = words_of(lang, verb) else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let told = visit.store.explain_notification(id).await?;
    let title = format!("{} · {id}", words.button);
    let content = html! {
        div.head { h1 { (words.button) } (chip(lang, &told.status)) }
        @if let Some(refused) = refused { (frame::note("bad", "dead", &html! { (foreign(refused)) })) }
        div.split {
            div {
                section.say { p.sentence { (foreign(lang.pick(&told.sentence, &told.sentence_zh))) } }
                (frame::note("warn", "warn", &html! { (words.mind) }))
            }
            div { (form(visit, id, verb, &words)) }
        }
    };
    Ok(answer(visit, &title, &content))
}

fn form(visit: &Visit, id: i64, verb: &str, words: &Words) -> Markup {
    let lang = visit.lang;
    html! {
        form.panel method="post" action=(format!("/n/{id}/{verb}")) {
            h2 { (lang.pick("Confirm", "确认")) }
            div.form {
                @if verb == "reschedule" {
                    div.field { label for="send_at" { "send_at" } input id="send_at" name="send_at" type="datetime-local" required; }
                    div.field { label for="expire_at" { "expire_at " (lang.pick("(empty: as it is)", "（空：不变）")) } input id="expire_at" name="expire_at" type="datetime-local"; }
                }
                div.field {
                    label for="note" { (lang.pick("reason (required, goes into the record)", "原因（必填，写入操作记录）")) }
                    textarea id="note" name="note" rows="3" required maxlength="500" {}
                }
                button class="btn main" { (words.button) }
                (frame_who(visit))
                div.row { a class="btn quiet" href=(format!("/n/{id}")) { (lang.pick("Back", "返回")) } }
            }
        }
    }
}

/// As whom, and where: beside every button that changes something.
pub(super) fn frame_who(visit: &Visit) -> Markup {
    html! {
        p class="small muted" {
            (visit.lang.pick("as ", "身份：")) b { (visit.name) }
            @if let Some(badge) = &visit.console.badge { (visit.lang.pick(", on ", "，环境：")) b class=(if badge == "production" { "bad" } else { "" }) { (badge) } }
        }
    }
}

#[derive(Deserialize)]
pub(in crate::console) struct Given {
    #[serde(default)]
    note: String,
    #[serde(default)]
    send_at: String,
    #[serde(default)]
    expire_at: String,
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
    if given.note.trim().is_empty() {
        let says = reason_is_missing(lang);
        return made(&visit, confirm(&visit, id, &verb, Some(says)).await);
    }
    match change(&visit, id, &verb, &given).await {
        Ok(result) if is_done(&verb, &result) => Redirect::to(&format!("/n/{id}")).into_response(),
        Ok(result) => {
            let says = format!(
                "{} {result}",
                lang.pick("It was not changed:", "没有改动：")
            );
            made(&visit, confirm(&visit, id, &verb, Some(&says)).await)
        }
        Err(error) => frame::failed(&visit, &error),
    }
}

pub(super) fn reason_is_missing(lang: Lang) -> &'static str {
    lang.pick(
        "A reason is required; nothing was changed.",
        "必须填写原因；没有任何改动。",
    )
}

/// Whether a verb's word says that it changed the row.
fn is_done(verb: &str, result: &str) -> bool {
    match verb {
        "redrive" => result.starts_with("redriven"),
        "cancel" => result == "cancelled",
        "reschedule" => result == "rescheduled",
        _ => !matches!(
            result,
            "busy" | "in flight" | "not found" | "not in doubt" | "free"
        ),
    }
}

/// What the verb said of the row.
async fn change(visit: &Visit, id: i64, verb: &str, given: &Given) -> Result<String, StoreError> {
    let (store, audit) = (&visit.store, visit.audit(Some(&given.note)));
    let filter = json!({ "ids": [id] });
    let results = match verb {
        "redrive" => {
            store
                .redrive_notifications(&[id], None, None, &filter, &audit)
                .await?
        }
        "cancel" => {
            store
                .cancel_notifications(&[id], false, &filter, &audit)
                .await?
        }
        "reschedule" => {
            let Some(send_at) = china_time(&given.send_at) else {
                return Ok(format!("send_at {:?} is no time", given.send_at));
            };
            let expire_at = china_time(&given.expire_at);
            store
                .reschedule_notifications(&[id], Some(send_at), expire_at, &filter, &audit)
                .await?
        }
        "confirm_sent" => store.end_doubts(&[id], "sent", &filter, &audit).await?,
        "confirm_not_sent" => store.end_doubts(&[id], "not_sent", &filter, &audit).await?,
        _ => store.end_doubts(&[id], "retry", &filter, &audit).await?,
    };
    Ok(results
        .into_iter()
        .next()
        .map_or_else(|| "not found".to_owned(), |one| one.result))
}

/// A time as browsers write it, in China.
fn china_time(text: &str) -> Option<DateTime<Utc>> {
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S"))
        .ok()?;
    let zone = FixedOffset::east_opt(8 * 3600)?;
    Some(local.and_local_timezone(zone).single()?.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_time_from_a_form_is_chinas() {
        assert_eq!(
            china_time("2026-12-01T08:30").unwrap().to_rfc3339(),
            "2026-12-01T00:30:00+00:00"
        );
        assert_eq!(china_time("tomorrow"), None);
    }
}
