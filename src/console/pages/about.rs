//! About: versions, keys, and who is logged in.

use axum::extract::Form;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::{answer, made};
use crate::console::frame::{self, head};
use crate::console::visit::{Admin, Role, Visit};
use crate::console::words::{Lang, foreign, time};
use crate::schema;
use crate::store::StoreError;

pub(in crate::console) async fn show(visit: Visit) -> Response {
    let page = show_about(&visit).await;
    made(&visit, page)
}

async fn show_about(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let sessions = if visit.role == Role::Admin {
        visit.console.store.list_sessions().await?
    } else {
        Vec::new()
    };
    let title = lang.pick("About", "关于");
    let content = html! {
        (head(lang, title, &html! {}))
        section {
            dl.facts {
                dt { "wxnotify" } dd { (env!("CARGO_PKG_VERSION")) }
                dt { (lang.pick("schema of this program", "本程序的结构")) } dd { (schema::OF_THIS_PROGRAM.level()) }
                dt { (lang.pick("you", "你")) } dd { (visit.name) ", " (visit.role.as_str()) }
                dt { (lang.pick("badge", "标识")) } dd { (visit.console.badge.as_deref().unwrap_or("–")) }
                dt { (lang.pick("times", "时间")) } dd { (lang.pick("your browser's zone; without JavaScript China's. UTC on hover.", "浏览器所在时区；没有 JavaScript 时为北京时间。悬停显示 UTC。")) }
            }
        }
        (keys_box(lang))
        @if visit.role == Role::Admin {
            section { table {
                caption { (lang.pick("Who is logged in", "在线会话")) }
                thead { tr { th scope="col" { (lang.pick("name", "用户名")) } th scope="col" { (lang.pick("from", "来自")) } th.n scope="col" { (lang.pick("since", "自")) } th.n scope="col" { (lang.pick("last seen", "最近")) } th scope="col" { span.vh { (lang.pick("verbs", "操作")) } } } }
                tbody { @for session in &sessions { tr {
                    th scope="row" { (session.name) } td.mono { (foreign(&session.address)) } td.n { (time(session.began_at)) } td.n { (time(session.seen_at)) }
                    td { form method="post" action="/sessions/end" { input type="hidden" name="name" value=(session.name); button class="btn stop" { (lang.pick("End all of theirs", "结束其全部会话")) } } }
                } } }
            } }
        }
    };
    Ok(answer(visit, title, &content))
}

fn keys_box(lang: Lang) -> Markup {
    let keys = [
        ("/", lang.pick("find", "查找")),
        (
            "g o, g f, g d, g u, g w, g b",
            lang.pick(
                "overview, find, dead letters, doubts, who did what, batches",
                "总览、查找、死信、结果未知、操作记录、批次",
            ),
        ),
        (
            "j k",
            lang.pick(
                "next and previous row; Enter opens it",
                "下一行、上一行；回车打开",
            ),
        ),
        ("n p", lang.pick("older, back", "更早、返回")),
        (".", lang.pick("hold still, go on", "停止、继续刷新")),
        ("?", lang.pick("this list", "本列表")),
        ("Esc", lang.pick("leaves a field", "离开输入框")),
    ];
    html! {
        section id="keys" {
            h2 { (lang.pick("Keys", "按键")) }
            p class="muted small" { (lang.pick("No key changes data.", "任何按键都不会改动数据。")) }
            dl class="facts gap" { @for (key, what) in keys { dt { kbd { (key) } } dd { (what) } } }
            label class="check gap" { input type="checkbox" id="keys-switch" checked; (lang.pick("Keys are on (in this browser)", "启用按键（仅此浏览器）")) }
        }
    }
}

#[derive(Deserialize)]
pub(in crate::console) struct Whose {
    name: String,
}

pub(in crate::console) async fn end_sessions(
    Admin(visit): Admin,
    Form(whose): Form<Whose>,
) -> Response {
    match visit.console.store.end_sessions_of(&whose.name).await {
        Ok(()) => Redirect::to("/about").into_response(),
        Err(error) => frame::failed(&visit, &error),
    }
}
