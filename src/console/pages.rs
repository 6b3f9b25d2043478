//! The pages, one file for what belongs together, and what they share: questions in the address, choices of apps, lists.

pub(super) mod about;
pub(super) mod apps;
pub(super) mod batches;
pub(super) mod credits;
pub(super) mod export;
pub(super) mod find;
pub(super) mod lists;
pub(super) mod live;
pub(super) mod overview;
pub(super) mod reminders;
pub(super) mod row;
pub(super) mod verb;

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};

use super::frame;
use super::visit::{LANG_COOKIE, Visit};
use super::words::{Lang, foreign, foreign_or_dash, time, time_or_dash};
use crate::store::StoreError;
use crate::store::console::Found;
use crate::store::status::App;

/// What the address asks, by name; empty values are left out.
pub(super) fn question(visit: &Visit) -> BTreeMap<String, String> {
    let pairs = form_urlencoded::parse(visit.uri.query().unwrap_or_default().as_bytes());
    pairs
        .map(|(key, value)| (key.into_owned(), value.trim().to_owned()))
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// A finished page, with the language remembered if the address chose one.
pub(super) fn answer(visit: &Visit, title: &str, content: &Markup) -> Response {
    let page = frame::page(visit, title, content);
    if question(visit).contains_key("lang") {
        let cookie = format!(
            "{LANG_COOKIE}={}; Path=/; SameSite=Lax; Max-Age=31536000",
            visit.lang.code()
        );
        return ([(header::SET_COOKIE, cookie)], page).into_response();
    }
    page.into_response()
}

/// The page of an address that leads nowhere.
pub(super) async fn nothing_here(visit: Visit) -> Response {
    nothing_here_for(&visit)
}

pub(super) fn nothing_here_for(visit: &Visit) -> Response {
    let lang = visit.lang;
    let content = html! {
        h1 { (lang.pick("No such page", "没有此页")) }
        p { a href="/" { (lang.pick("To the overview", "回到总览")) } }
    };
    (
        StatusCode::NOT_FOUND,
        frame::page(visit, lang.pick("No such page", "没有此页"), &content),
    )
        .into_response()
}

/// The choice of a mini-program.
pub(super) fn app_choice(lang: Lang, apps: &[App], chosen: Option<&str>) -> Markup {
    html! {
        label.vh for="appid" { (lang.pick("Mini-program", "小程序")) }
        select id="appid" name="appid" {
            option value="" { (lang.pick("All mini-programs", "全部小程序")) }
            @for app in apps {
                option value=(app.appid) selected[chosen == Some(&app.appid)] { (app_name(app)) }
            }
        }
    }
}

fn app_name(app: &App) -> String {
    match &app.name {
        Some(name) => format!("{name} · {}", app.appid),
        None => app.appid.clone(),
    }
}

/// A list of notifications: on a phone it flows into blocks.
pub(super) fn found_table(lang: Lang, caption: &Markup, rows: &[Found]) -> Markup {
    html! {
        table.stack role="table" {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for (word, class) in [(lang.pick("created", "创建"), "n"), (lang.pick("status", "状态"), ""), ("id", ""), (lang.pick("template", "模板"), ""), ("business_ref", ""), (lang.pick("why", "原因"), ""), (lang.pick("ended or next", "结束或下一步"), "n")] {
                        th role="columnheader" scope="col" class=[(!class.is_empty()).then_some(class)] { (word) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" data-row {
                        td.n role="cell" { (time(row.created_at)) }
                        td role="cell" { (frame::chip(lang, &row.status)) }
                        td.mono role="cell" { a href=(format!("/n/{}", row.id)) { (row.id) } }
                        td.mono role="cell" { (foreign(&row.template_id)) }
                        td role="cell" { (foreign_or_dash(row.business_ref.as_deref())) }
                        td.wide role="cell" { @if let Some(errcode) = row.errcode { (errcode) " " } (foreign_or_dash(row.errmsg.as_deref())) }
                        td.n role="cell" { (time_or_dash(row.finished_at.or(row.next_at))) }
                    }
                }
            }
        }
    }
}

/// Makes a page of what the database said, or the page that says why not.
pub(super) fn made(visit: &Visit, page: Result<Response, StoreError>) -> Response {
    page.unwrap_or_else(|error| frame::failed(visit, &error))
}
