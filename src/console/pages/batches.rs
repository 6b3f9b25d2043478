//! Batches: preview and confirmation on one page, then progress, stop and undo.
//!
//! Start at [`preview`].

use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use chrono::{TimeDelta, Utc};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::verb::frame_who;
use super::{answer, made};
use crate::console::chart::parts;
use crate::console::frame::{self, chip, head};
use crate::console::visit::{Operator, Visit};
use crate::console::words::{
    Lang, count, counted, foreign, foreign_or_dash, number, time, time_or_dash,
};
use crate::store::StoreError;
use crate::store::batches::{BATCH_ROWS_MAX, Batch, BatchCause};

/// A preview is good for so long.
const PREVIEW_FOR: TimeDelta = TimeDelta::minutes(15);
/// Paces to choose from, rows a minute.
const PACES: [i32; 4] = [200, 600, 1_000, 6_000];

#[derive(Deserialize)]
pub(in crate::console) struct Chosen {
    verb: String,
    #[serde(default)]
    appid: String,
    #[serde(default)]
    template_id: String,
    #[serde(default)]
    statuses: String,
    #[serde(default)]
    errcode: String,
    /// Set where the cause that was shown has none: then only rows without one are meant.
    #[serde(default)]
    without_errcode: String,
    #[serde(default)]
    business_ref: String,
    #[serde(default)]
    hours: String,
}

impl Chosen {
    fn filter(&self) -> Value {
        let mut filter = Map::new();
        let texts = [
            ("appid", &self.appid),
            ("template_id", &self.template_id),
            ("business_ref", &self.business_ref),
        ];
        for (key, text) in texts
            .into_iter()
            .filter(|(_, text)| !text.trim().is_empty())
        {
            filter.insert(key.to_owned(), json!(text.trim()));
        }
        if let Ok(errcode) = self.errcode.trim().parse::<i64>() {
            filter.insert("errcode".to_owned(), json!(errcode));
        }
        if !self.without_errcode.is_empty() {
            filter.insert("without_errcode".to_owned(), json!(true));
        }
        if !self.statuses.is_empty() {
            let statuses: Vec<&str> = self.statuses.split(',').collect();
            filter.insert("statuses".to_owned(), json!(statuses));
        }
        if let Ok(hours) = self.hours.trim().parse::<i64>() {
            let after = Utc::now() - TimeDelta::hours(hours.clamp(1, 24 * 400));
            filter.insert("after".to_owned(), json!(after.to_rfc3339()));
        }
        Value::Object(filter)
    }
}

/// Writes down which rows are meant; the page to confirm follows.
pub(in crate::console) async fn preview(
    Operator(visit): Operator,
    Form(chosen): Form<Chosen>,
) -> Response {
    if !matches!(chosen.verb.as_str(), "redrive" | "cancel") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let previewed = visit
        .store
        .preview_batch(
            &chosen.verb,
            &chosen.filter(),
            BATCH_ROWS_MAX,
            &visit.audit(None),
        )
        .await;
    match previewed {
        Ok(batch) => Redirect::to(&format!("/batches/{batch}")).into_response(),
        Err(error) => frame::failed(&visit, &error),
    }
}

pub(in crate::console) async fn show(visit: Visit, Path(id): Path<i64>) -> Response {
    let page = show_batch(&visit, id, None).await;
    made(&visit, page)
}

async fn show_batch(visit: &Visit, id: i64, says: Option<&str>) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let Some(batch) = visit.store.read_batch(id).await? else {
        return Ok(super::nothing_here_for(visit));
    };
    if !visit.may_act() {
        let content = html! { (batch_head(lang, &batch)) (who_box(lang, &batch)) };
        return Ok(answer(visit, &title_of(lang, &batch), &content));
    }
    let causes = visit.store.batch_causes(id).await?;
    let refused = html! { @if let Some(says) = says { (frame::note("bad", "dead", &html! { (foreign(says)) })) } };
    let content = if batch.state == "preview" {
        html! { (batch_head(lang, &batch)) (refused) (preview_content(visit, &batch, &causes)) }
    } else {
        let outcomes = visit.store.batch_outcomes(id).await?;
        html! {
            (batch_head(lang, &batch)) (refused)
            div.split {
                div {
                    (progress_box(lang, &batch))
                    section data-live="outcomes" { table {
                        caption { (lang.pick("What became of the new rows", "新行的去向")) }
                        @if outcomes.is_empty() { tbody { tr { td { span.muted { (lang.pick("There are none.", "没有新行。")) } } } } }
                        @else { tbody { @for outcome in &outcomes { tr { th scope="row" { (chip(lang, &outcome.status)) } td.n { (number(outcome.rows)) } } } } }
                    } }
                    (causes_box(lang, &causes))
                }
                div { (stop_box(visit, &batch)) (who_box(lang, &batch)) }
            }
        }
    };
    Ok(answer(visit, &title_of(lang, &batch), &content))
}

fn verb_word(lang: Lang, verb: &str) -> &'static str {
    match verb {
        "redrive" => lang.pick("redrive", "重投"),
        "cancel" => lang.pick("cancel", "取消"),
        _ => lang.pick("undo of a redrive", "撤销重投"),
    }
}

fn title_of(lang: Lang, batch: &Batch) -> String {
    if batch.state == "preview" {
        format!(
            "{} {}",
            lang.pick("Preview:", "预览："),
            verb_word(lang, &batch.verb)
        )
    } else {
        format!(
            "{} {}: {}",
            lang.pick("Batch", "批次"),
            batch.id,
            verb_word(lang, &batch.verb)
        )
    }
}

fn batch_head(lang: Lang, batch: &Batch) -> Markup {
    let step = match batch.state.as_str() {
        "preview" => 2,
        _ => 3,
    };
    let steps = [
        lang.pick("1 Choose", "1 选择"),
        lang.pick("2 Preview and confirm", "2 预览并确认"),
        lang.pick("3 Batch", "3 批次"),
    ];
    html! {
        (head(lang, &title_of(lang, batch), &html! {}))
        ol.steps { @for (at, word) in steps.into_iter().enumerate() { li aria-current=[(at + 1 == step).then_some("step")] { (word) } } }
    }
}

/// How many rows died since their user's credit was gone.
fn rows_without_credit(causes: &[&BatchCause]) -> i64 {
    let gone = causes.iter().filter(|cause| cause.cause.ends_with(" gone"));
    gone.map(|cause| cause.rows).sum()
}

fn preview_content(visit: &Visit, batch: &Batch, causes: &[BatchCause]) -> Markup {
    let lang = visit.lang;
    let (meant, left_out): (Vec<_>, Vec<_>) =
        causes.iter().partition(|cause| cause.result.is_none());
    let costs = batch.verb == "redrive";
    let gone = rows_without_credit(&meant);
    html! {
        div.split {
            div {
                @if costs && gone > 0 { (frame::note("warn", "warn", &html! { (lang.pick(
                    format!("{} of them have no credit left: they meet 43101 again, unless their users have accepted since.", count(gone)),
                    format!("其中 {} 行的次数已不存在：除非用户此后又同意过，否则会再次返回 43101。", count(gone)),
                )) })) }
                section {
                    p.big { (counted(lang, batch.waiting, "row", "行")) @if costs { " = " (counted(lang, batch.waiting - gone, "credit", "个次数")) } @if batch.more { " " span.warn { (lang.pick("(more match: the first of them)", "（匹配更多，仅取前面部分）")) } } }
                    p.muted { @match batch.verb.as_str() {
                        "redrive" => (lang.pick("A new notification is inserted from each; the old row stays in the history and is redriven once.", "将从每一行插入一条新的通知；旧行留在历史中，各只能重投一次。")),
                        "cancel" => (lang.pick("They will not be sent. What is being sent at that moment is left alone.", "将不再发送。届时正在发送的不会改动。")),
                        _ => (lang.pick("The new rows are cancelled where they were not sent; the old ones return to the dead letters.", "取消尚未发送的新行，旧行回到死信。")),
                    } }
                    table { caption.vh { (lang.pick("Rows to be changed", "将改动的行")) }
                        thead { tr { th scope="col" { (lang.pick("cause", "原因")) } th.n scope="col" { (lang.pick("ids", "编号")) } th.n scope="col" { (lang.pick("rows", "行")) } } }
                        tbody { @for cause in &meant { tr { th scope="row" { (foreign(&cause.cause)) } td.n { (cause.first_id) "–" (cause.last_id) } td.n { (number(cause.rows)) } } } }
                    }
                }
                @if !left_out.is_empty() {
                    section { table { caption { (lang.pick("Left out", "不处理")) small { (count(batch.left_out)) } }
                        tbody { @for cause in &left_out { tr { th scope="row" { (foreign_or_dash(cause.result.as_deref())) small { (foreign(&cause.cause)) } } td.n { (number(cause.rows)) } } } } } }
                }
            }
            div { (confirm_form(visit, batch)) }
        }
    }
}

fn confirm_form(visit: &Visit, batch: &Batch) -> Markup {
    let lang = visit.lang;
    let good_until = batch.previewed_at + PREVIEW_FOR;
    if Utc::now() > good_until {
        return html! { section { h2 { (lang.pick("Too old", "已过期")) } p { (lang.pick("A preview is good for 15 minutes: choose again.", "预览 15 分钟内有效：请重新选择。")) } p { a href="/dead" { (lang.pick("Dead letters", "死信")) } } } };
    }
    if batch.waiting == 0 {
        return html! { section { h2 { (lang.pick("Nothing to do", "无事可做")) } p.muted { (lang.pick("No row that matches can be changed.", "没有可以改动的行。")) } p { a href="/dead" { (lang.pick("Back", "返回")) } } } };
    }
    let button = format!(
        "{} {} {}",
        verb_word(lang, &batch.verb),
        count(batch.waiting),
        lang.pick("rows", "行")
    );
    html! {
        form.panel method="post" action=(format!("/batches/{}/start", batch.id)) {
            h2 { (lang.pick("Confirm", "确认")) }
            div.form {
                div.field { label for="note" { (lang.pick("reason (required, goes into the record)", "原因（必填，写入操作记录）")) } textarea id="note" name="note" rows="3" required maxlength="500" {} }
                div.field { label for="pace" { (lang.pick("pace", "速度")) }
                    select id="pace" name="pace" {
                        @for pace in PACES { option value=(pace) { (count(i64::from(pace))) " " (lang.pick("rows a minute, about", "行/分钟，约")) " " (1 + batch.waiting / i64::from(pace)) " min" } }
                        option value="" { (lang.pick("as fast as it goes", "不限")) }
                    }
                    small { (lang.pick("A batch can be stopped at any time; what was not sent can be undone.", "批次随时可以停止；尚未发送的可以撤销。")) } }
                p class="small muted" { (lang.pick("It acts on exactly these rows, not on the conditions anew. Good until ", "处理的正是上面这些行，不会按条件重新查找。有效至 ")) (time(good_until)) }
                button class="btn main" { (button) }
                (frame_who(visit))
                div.row { a class="btn quiet" href="/dead" { (lang.pick("Back", "返回")) } }
            }
        }
    }
}

fn progress_box(lang: Lang, batch: &Batch) -> Markup {
    let done = batch.changed + batch.unchanged;
    let whole = done + batch.waiting;
    let label = format!("{done} / {whole}");
    html! {
        section aria-labelledby="pg" data-live="progress" {
            header { h2 id="pg" { (lang.pick("Progress", "进度")) } small class="end muted" { @match batch.pace_per_minute { Some(pace) => { (count(i64::from(pace))) (lang.pick(" rows a minute", " 行/分钟")) } None => (lang.pick("as fast as it goes", "不限速")) } } }
            p.big { (count(done)) " / " (count(whole)) " " (lang.pick("rows", "行")) }
            div.gap2 { (parts(whole, &[("c-sent", batch.changed), ("c-dead", batch.unchanged), ("c-none", batch.waiting)], &label)) }
            ul.legend {
                li { svg.c-sent viewBox="0 0 10 10" aria-hidden="true" { rect width="10" height="10" {} } (lang.pick("changed", "已改动")) " " b { (count(batch.changed)) } }
                li { svg.c-dead viewBox="0 0 10 10" aria-hidden="true" { path d="M5 0l5 10H0z" {} } (lang.pick("refused: they moved meanwhile", "被拒：其间已变化")) " " b { (count(batch.unchanged)) } }
                li { svg.c-plain viewBox="0 0 10 10" aria-hidden="true" { path d="M5 0l5 5-5 5-5-5z" {} } (lang.pick("not done yet", "尚未处理")) " " b { (count(batch.waiting)) } }
            }
            @if batch.state == "stopped" { p class="warn gap" { (lang.pick("Stopped: the rest stays as it is.", "已停止：其余保持不变。")) } }
        }
    }
}

fn causes_box(lang: Lang, causes: &[BatchCause]) -> Markup {
    html! {
        section data-live="causes" { table {
            caption { (lang.pick("Each row's result", "各行的结果")) }
            thead { tr { th scope="col" { (lang.pick("cause", "原因")) } th scope="col" { (lang.pick("result", "结果")) } th.n scope="col" { (lang.pick("rows", "行")) } } }
            tbody { @for cause in causes { tr { th scope="row" { (foreign(&cause.cause)) } td { (cause.result.as_deref().map_or_else(|| html! { span.muted { (lang.pick("waits", "等待")) } }, foreign)) } td.n { (number(cause.rows)) } } } }
        } }
    }
}

fn stop_box(visit: &Visit, batch: &Batch) -> Markup {
    let lang = visit.lang;
    let action = |verb: &str| format!("/batches/{}/{verb}", batch.id);
    html! {
        @if batch.state == "running" {
            section { h2 { (lang.pick("Stop", "停止")) }
                form.gap method="post" action=(action("stop")) { button class="btn stop" { (lang.pick("Stop it", "停止")) } }
                p class="small muted gap" { (lang.pick("Rows not done yet stay as they are; what was redriven is sent as usual.", "尚未处理的行保持不变；已重投的照常发送。")) } }
        } @else if batch.verb == "redrive" && batch.changed > 0 {
            section { h2 { (lang.pick("Undo", "撤销")) }
                form.gap method="post" action=(action("undo")) { button.btn { (lang.pick("Undo what was not sent…", "撤销尚未发送的…")) } }
                p class="small muted gap" { (lang.pick("The new rows are cancelled, the old ones become dead letters again that may be redriven. It is previewed first.", "取消新行，旧行重新成为可重投的死信。会先预览。")) } }
        }
    }
}

fn who_box(lang: Lang, batch: &Batch) -> Markup {
    html! {
        section { header { h2 { (lang.pick("Who and why", "谁、为什么")) } }
            dl.facts {
                dt { (lang.pick("who", "操作人")) } dd { (foreign(&batch.actor)) }
                dt { (lang.pick("state", "状态")) } dd { (batch.state) }
                dt { (lang.pick("previewed", "预览")) } dd { (time(batch.previewed_at)) }
                dt { (lang.pick("started", "开始")) } dd { (time_or_dash(batch.started_at)) }
                dt { (lang.pick("ended", "结束")) } dd { (time_or_dash(batch.ended_at)) @if let Some(by) = &batch.ended_by { ", " (foreign(by)) } }
                dt { (lang.pick("why", "原因")) } dd { (foreign_or_dash(batch.note.as_deref())) }
                dt { (lang.pick("chosen by", "选择")) } dd { (foreign(&batch.filter.to_string())) }
            } }
    }
}

#[derive(Deserialize)]
pub(in crate::console) struct Given {
    #[serde(default)]
    note: String,
    #[serde(default)]
    pace: String,
}

/// Starts, stops or undoes a batch.
pub(in crate::console) async fn act(
    Operator(visit): Operator,
    Path((id, verb)): Path<(i64, String)>,
    Form(given): Form<Given>,
) -> Response {
    let audit = visit.audit(Some(&given.note));
    let here = format!("/batches/{id}");
    let (result, wanted) = match verb.as_str() {
        "start" => (
            visit
                .store
                .start_batch(
                    id,
                    &given.note,
                    given.pace.parse().ok().filter(|pace| *pace > 0),
                    &audit,
                )
                .await,
            "running",
        ),
        "stop" => (visit.store.stop_batch(id, &audit).await, "stopped"),
        "undo" => {
            let previewed = visit
                .store
                .preview_batch("undo", &json!({ "batch": id }), BATCH_ROWS_MAX, &audit)
                .await;
            return match previewed {
                Ok(undo) => Redirect::to(&format!("/batches/{undo}")).into_response(),
                Err(error) => frame::failed(&visit, &error),
            };
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match result {
        Ok(said) if said == wanted => Redirect::to(&here).into_response(),
        Ok(said) => {
            let says = format!("{} {said}", visit.lang.pick("Not done:", "未执行："));
            made(&visit, show_batch(&visit, id, Some(&says)).await)
        }
        Err(error) => frame::failed(&visit, &error),
    }
}

pub(in crate::console) async fn list(visit: Visit) -> Response {
    let page = show_list(&visit).await;
    made(&visit, page)
}

async fn show_list(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let batches = visit.store.list_batches(100).await?;
    let title = lang.pick("Batches", "批次");
    let content = html! {
        (head(lang, title, &html! {}))
        section data-live="batches" {
            @if !batches.is_empty() { table.stack role="table" {
                caption { (lang.pick("Verbs over many rows", "批量操作")) small { (lang.pick("the latest first", "最近的在前")) } }
                thead role="rowgroup" { tr role="row" { @for (word, class) in [(lang.pick("batch", "批次"), ""), (lang.pick("state", "状态"), ""), (lang.pick("who", "操作人"), ""), (lang.pick("why", "原因"), ""), (lang.pick("started", "开始"), "n"), (lang.pick("changed", "已改动"), "n"), (lang.pick("refused", "被拒"), "n"), (lang.pick("not done", "尚未处理"), "n")] { th role="columnheader" scope="col" class=[(!class.is_empty()).then_some(class)] { (word) } } } }
                tbody role="rowgroup" { @for batch in &batches { tr role="row" data-row {
                    td role="cell" { a href=(format!("/batches/{}", batch.id)) { (batch.id) " " (verb_word(lang, &batch.verb)) } } td role="cell" { (batch.state) }
                    td role="cell" { (foreign(&batch.actor)) } td.wide role="cell" { (foreign_or_dash(batch.note.as_deref())) } td.n role="cell" { (time_or_dash(batch.started_at)) }
                    td.n role="cell" { (number(batch.changed)) } td.n role="cell" { (number(batch.unchanged)) } td.n role="cell" { (number(batch.waiting)) }
                } } }
            }
            } @else { p.muted { (lang.pick("None yet. A redrive from the dead letters becomes one.", "尚无。从死信重投会产生批次。")) } }
        }
    };
    Ok(answer(visit, title, &content))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn what_died_since_its_credit_was_gone_costs_none_and_is_counted() {
        let cause = |cause: &str, rows| BatchCause {
            cause: cause.to_owned(),
            result: None,
            rows,
            first_id: 1,
            last_id: 9,
        };
        let (gone, kept) = (cause("dead 43101 gone", 4), cause("dead 47003 kept", 3));
        assert_eq!(rows_without_credit(&[&gone, &kept]), 4);
        assert_eq!(rows_without_credit(&[&kept]), 0);
    }

    #[test]
    fn what_is_left_empty_is_no_condition_and_what_is_no_number_neither() {
        let chosen: Chosen = serde_json::from_value(
            json!({ "verb": "redrive", "appid": " wx1 ", "errcode": "x", "business_ref": "" }),
        )
        .unwrap();
        assert_eq!(chosen.filter(), json!({ "appid": "wx1" }));
    }
}
