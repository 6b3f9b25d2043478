//! Credits of one user, by template; and where the books do not balance.

use axum::response::Response;
use maud::html;

use super::{answer, app_choice, made, question};
use crate::console::frame;
use crate::console::visit::{Operator, Visit};
use crate::console::words::{foreign, masked, number, time_or_dash};
use crate::store::StoreError;

pub(in crate::console) async fn show(Operator(visit): Operator) -> Response {
    let page = show_credits(&visit).await;
    made(&visit, page)
}

async fn show_credits(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let asked = question(visit);
    let apps = visit.store.list_apps().await?;
    let (appid, openid) = (asked.get("appid"), asked.get("openid"));
    let books = match (appid, openid) {
        (Some(appid), Some(openid)) => Some((
            visit.store.credits(appid, openid).await?,
            visit.store.credit_faults(appid, openid).await?,
        )),
        _ => None,
    };
    let title = lang.pick("Credits", "次数");
    let content = html! {
        div.head { h1 { (title) } p.muted { (lang.pick("One accepted prompt is one message. What one user of an app has left, by template.", "用户同意一次，可发一条。某小程序的一个用户各模板的剩余次数。")) } }
        form class="panel filters" method="get" {
            div.field { (app_choice(lang, &apps, appid.map(String::as_str))) }
            div.field { label for="openid" { "openid" } input id="openid" name="openid" size="32" autocomplete="off" value=(openid.map(String::as_str).unwrap_or_default()); }
            button class="btn main" { (lang.pick("Show", "显示")) }
        }
        @match books {
            None => { (frame::note("", "info", &html! { (lang.pick("Choose an app and give an openid.", "请选择小程序并填写 openid。")) })) }
            Some((credits, faults)) => {
                section.scroll tabindex="0" role="region" aria-label=(lang.pick("credits", "次数")) { @if credits.is_empty() { p.muted { (lang.pick("Nothing is known of this user: no row, no event.", "没有此用户的任何记录：没有行，也没有事件。")) } } @else { table {
                    caption { (lang.pick("Books of ", "账目：")) (masked(openid.map(String::as_str).unwrap_or_default())) }
                    thead { tr { th scope="col" { (lang.pick("template", "模板")) } @for word in [lang.pick("left", "剩余"), lang.pick("accepted", "同意"), lang.pick("held", "预存"), lang.pick("on their way", "在途"), lang.pick("in doubt", "未知"), lang.pick("spent", "已用"), lang.pick("gone", "不存在"), lang.pick("kept", "保留"), lang.pick("elsewhere", "他处")] { th.n scope="col" { (word) } } th.n scope="col" { (lang.pick("refused since", "拒收自")) } } }
                    tbody { @for row in &credits { tr {
                        th.mono scope="row" { (foreign(&row.template_id)) }
                        @for value in [row.balance, row.accepted, row.held, row.pending, row.in_doubt, row.sent, row.dead_gone, row.dead_kept, row.sent_elsewhere] { td.n { (number(value)) } }
                        td.n { (time_or_dash(row.refused_at)) }
                    } } }
                }
                } }
                @if !faults.is_empty() { section { h2 { (lang.pick("Where the books do not balance", "账目不平之处")) } ul { @for fault in &faults { li.row { (frame::icon("warn")) span { b.mono { (foreign(&fault.template_id)) } " " (foreign(&fault.fault)) @if let Some(id) = fault.notification_id { " " a href=(format!("/n/{id}")) { (id) } } } } } } } }
            }
        }
    };
    Ok(answer(visit, title, &content))
}
