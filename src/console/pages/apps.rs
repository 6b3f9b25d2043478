//! Mini-programs and templates: rates, quotas, tokens; and pausing and resuming them.

use axum::extract::{Form, Path};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use serde::Deserialize;

use super::verb::{frame_who, reason_is_missing};
use super::{answer, made, question};
use crate::console::frame::{self, head};
use crate::console::visit::{Operator, Visit};
use crate::console::words::{count, foreign, foreign_or_dash, time_or_dash};
use crate::operate::overview::name_of;
use crate::store::StoreError;

pub(in crate::console) async fn show(visit: Visit) -> Response {
    let page = show_apps(&visit).await;
    made(&visit, page)
}

async fn show_apps(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let apps = visit.store.list_apps().await?;
    let quotas = visit.store.quotas(None).await?;
    let tokens = visit.store.token_states(None).await?;
    let templates = if visit.may_act() {
        visit.store.list_templates(None).await?
    } else {
        Vec::new()
    };
    let title = lang.pick("Apps and templates", "小程序与模板");
    let content = html! {
        (head(lang, title, &html! {}))
        section.scroll tabindex="0" role="region" aria-label=(lang.pick("mini-programs", "小程序")) data-live="apps" { table {
            caption { (lang.pick("Mini-programs", "小程序")) small { (lang.pick("a quota is cleared with wxnotify quota clear, which takes the app's secret", "额度用 wxnotify quota clear 清零，需要小程序密钥")) } }
            thead { tr { th scope="col" { (lang.pick("app", "小程序")) } th scope="col" { (lang.pick("state", "状态")) } th.n scope="col" { (lang.pick("rate", "速率")) } th.n scope="col" { (lang.pick("quota left", "剩余额度")) } th.n scope="col" { (lang.pick("token until", "token 有效至")) } th scope="col" { span.vh { (lang.pick("verbs", "操作")) } } } }
            tbody { @for app in &apps {
                @let quota = quotas.iter().find(|quota| quota.appid == app.appid);
                @let token = tokens.iter().find(|token| token.appid == app.appid);
                tr {
                    th scope="row" { (foreign(app.name.as_deref().unwrap_or(&app.appid))) small.mono { (app.appid) } }
                    td { @if app.paused { span.warn { (lang.pick("paused: ", "已暂停：")) } (foreign_or_dash(app.pause_reason.as_deref())) } @else if app.probing { (lang.pick("probing", "试探中")) } @else { (lang.pick("sends", "正常")) } }
                    td.n { (quota.and_then(|quota| quota.rate_per_second).map_or_else(|| lang.pick("no limit", "不限").to_owned(), |rate| format!("{rate:.0}/s"))) }
                    td.n { (quota.and_then(|quota| quota.remaining).map_or_else(|| "–".to_owned(), count)) small { (quota.and_then(|quota| quota.daily_limit).map_or_else(String::new, |limit| format!("{} {}", lang.pick("of", "共"), count(limit)))) } }
                    td.n { (time_or_dash(token.and_then(|token| token.expires_at))) @if token.is_some_and(|token| token.foreign_refreshes > 0) { small.warn { (lang.pick("replaced from outside", "被外部替换")) } } }
                    td { @if visit.may_act() { @if app.paused { a.btn href=(format!("/apps/{}/resume", app.appid)) { (lang.pick("Resume…", "恢复…")) } } @else { a.btn href=(format!("/apps/{}/pause", app.appid)) { (lang.pick("Pause…", "暂停…")) } } } }
                }
            } }
        }
        @if apps.is_empty() { p.muted { (lang.pick("None is registered: wxnotify app add APPID.", "尚未登记：wxnotify app add APPID。")) } } }
        @if visit.may_act() { section.scroll tabindex="0" role="region" aria-label=(lang.pick("templates", "模板")) { table {
            caption { (lang.pick("Templates", "模板")) small { (lang.pick("as WeChat lists them", "以微信的列表为准")) } }
            thead { tr { th scope="col" { "template_id" } th scope="col" { (lang.pick("title", "标题")) } th scope="col" { (lang.pick("app", "小程序")) } th scope="col" { (lang.pick("state", "状态")) } th.n scope="col" { (lang.pick("last listed", "最近列出")) } th scope="col" { span.vh { (lang.pick("verbs", "操作")) } } } }
            tbody { @for template in &templates { tr {
                th.mono scope="row" { (foreign(&template.template_id)) } td { (foreign_or_dash(template.title.as_deref())) } td { (name_of(&apps, &template.appid)) }
                td { @if template.removed_at.is_some() { span.bad { (lang.pick("WeChat does not list it any more", "微信已不再列出")) } } @else if template.paused { span.warn { (lang.pick("paused: ", "已暂停：")) } (foreign_or_dash(template.pause_reason.as_deref())) } @else { (lang.pick("sends", "正常")) } }
                td.n { (time_or_dash(template.synced_at)) }
                @let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("template_id", &template.template_id).finish();
                td { @if template.paused { a.btn href=(format!("/apps/{}/resume?{query}", template.appid)) { (lang.pick("Resume…", "恢复…")) } } @else { a.btn href=(format!("/apps/{}/pause?{query}", template.appid)) { (lang.pick("Pause…", "暂停…")) } } }
            } } }
        } } }
    };
    Ok(answer(visit, title, &content))
}

pub(in crate::console) async fn ask(
    Operator(visit): Operator,
    Path((appid, verb)): Path<(String, String)>,
) -> Response {
    confirm(&visit, &appid, &verb, None)
}

fn confirm(visit: &Visit, appid: &str, verb: &str, refused: Option<&str>) -> Response {
    let lang = visit.lang;
    let (button, mind) = match verb {
        "pause" => (lang.pick("Pause", "暂停"), lang.pick("Its rows wait until somebody resumes it; those with expire_at expire meanwhile. What is being sent is finished.", "其消息等待直到有人恢复；有 expire_at 的可能过期。正在发送的会完成。")),
        "resume" => (lang.pick("Resume", "恢复"), lang.pick("Its rows are sent again at once. After WeChat paused it, one row is tried first.", "其消息立即恢复发送。若因微信错误而暂停，会先试发一行。")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let template = question(visit).remove("template_id");
    let what = match &template {
        Some(template) => format!("{} {template} ({appid})", lang.pick("template", "模板")),
        None => format!("{} {appid}", lang.pick("app", "小程序")),
    };
    let query = template.as_ref().map_or_else(String::new, |template| {
        format!(
            "?{}",
            form_urlencoded::Serializer::new(String::new())
                .append_pair("template_id", template)
                .finish()
        )
    });
    let title = format!("{button}: {what}");
    let content = html! {
        div.head { h1 { (foreign(&title)) } }
        @if let Some(refused) = refused { (frame::note("bad", "dead", &html! { (foreign(refused)) })) }
        div.split {
            div { (frame::note("warn", "warn", &html! { (mind) })) }
            div { form.panel method="post" action=(format!("/apps/{appid}/{verb}{query}")) {
                h2 { (lang.pick("Confirm", "确认")) }
                div.form {
                    div.field { label for="note" { (lang.pick("reason (required, goes into the record)", "原因（必填，写入操作记录）")) } textarea id="note" name="note" rows="3" required maxlength="500" {} }
                    button class="btn main" { (button) }
                    (frame_who(visit))
                    div.row { a class="btn quiet" href="/apps" { (lang.pick("Back", "返回")) } }
                }
            } }
        }
    };
    answer(visit, &title, &content)
}

#[derive(Deserialize)]
pub(in crate::console) struct Given {
    #[serde(default)]
    note: String,
}

pub(in crate::console) async fn act(
    Operator(visit): Operator,
    Path((appid, verb)): Path<(String, String)>,
    Form(given): Form<Given>,
) -> Response {
    let note = given.note.trim();
    if note.is_empty() {
        let says = reason_is_missing(visit.lang);
        return confirm(&visit, &appid, &verb, Some(says));
    }
    let (store, audit) = (&visit.store, visit.audit(Some(note)));
    let template = question(&visit).remove("template_id");
    let done = match (verb.as_str(), template.as_deref()) {
        ("pause", None) => {
            store
                .pause_app_by_operator(&appid, None, note, &audit)
                .await
        }
        ("pause", Some(template)) => {
            store
                .pause_template_by_operator(&appid, template, None, note, &audit)
                .await
        }
        ("resume", None) => store.resume_app(&appid, &audit).await.map(drop),
        ("resume", Some(template)) => store
            .resume_template(&appid, template, &audit)
            .await
            .map(drop),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match done {
        Ok(()) => Redirect::to("/workers").into_response(),
        Err(error) => frame::failed(&visit, &error),
    }
}
