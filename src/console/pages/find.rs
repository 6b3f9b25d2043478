//! Find: one box for any key, or filters. An unknown key finds nothing, never everything.

use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::{answer, app_choice, found_table, made, question};
use crate::console::frame;
use crate::console::visit::Visit;
use crate::console::words::{Lang, foreign, status_word};
use crate::operate::search::{self, STATUSES};
use crate::store::StoreError;
use crate::store::console::{Found, Narrowed};
use crate::store::status::App;

/// Rows of a page.
const ROWS: i64 = 50;

/// What the address asks for.
pub(super) struct Asked {
    pub key: Option<String>,
    pub appid: Option<String>,
    pub template_id: Option<String>,
    pub status: String,
    pub errcode: Option<i64>,
    pub hours: i64,
    after: Option<(DateTime<Utc>, i64)>,
}

impl Asked {
    pub(super) fn of(visit: &Visit) -> Self {
        let mut asked = question(visit);
        let after = asked.remove("after").and_then(|place| {
            let (at, id) = place.split_once('_')?;
            Some((
                DateTime::from_timestamp_micros(at.parse().ok()?)?,
                id.parse().ok()?,
            ))
        });
        Self {
            key: asked.remove("q"),
            appid: asked.remove("appid"),
            template_id: asked.remove("template_id"),
            status: asked.remove("status").unwrap_or_else(|| "ended".to_owned()),
            errcode: asked.remove("errcode").and_then(|code| code.parse().ok()),
            hours: asked
                .remove("hours")
                .and_then(|hours| hours.parse().ok())
                .unwrap_or(24)
                .clamp(1, 24 * 400),
            after,
        }
    }

    pub(super) fn narrowed(&self, rows_max: i64) -> Narrowed {
        Narrowed {
            statuses: search::statuses_of(&self.status),
            appid: self.appid.clone(),
            template_id: self.template_id.clone(),
            errcode: self.errcode,
            since: Utc::now() - TimeDelta::hours(self.hours),
            after: self.after,
            rows_max,
        }
    }

    fn has_ended(&self) -> bool {
        search::have_ended(&search::statuses_of(&self.status))
    }
}

/// The rows of a question, and how they were found.
pub(super) async fn find(
    visit: &Visit,
    asked: &Asked,
    rows_max: i64,
) -> Result<(Vec<Found>, Vec<String>), StoreError> {
    match asked.key.as_deref() {
        Some(key) => search::find_key(&visit.store, key, visit.may_act(), rows_max).await,
        None => {
            let rows = search::find(&visit.store, &asked.narrowed(rows_max)).await?;
            Ok((rows, Vec::new()))
        }
    }
}

pub(in crate::console) async fn show(visit: Visit) -> Response {
    let page = show_found(&visit).await;
    made(&visit, page)
}

async fn show_found(visit: &Visit) -> Result<Response, StoreError> {
    let lang = visit.lang;
    let asked = Asked::of(visit);
    let apps = visit.store.list_apps().await?;
    let (rows, by) = find(visit, &asked, ROWS + 1).await?;
    let content = html! {
        div.head {
            h1 { (lang.pick("Find", "查找")) }
            p.muted { (lang.pick("id, openid, business_ref, dedup_key, msgid, rid: whole values, not parts", "id、openid、business_ref、dedup_key、msgid、rid：完整的值，不支持部分匹配")) }
        }
        (filters(lang, &asked, &apps))
        (found_box(visit, &asked, rows, &by))
    };
    Ok(answer(visit, lang.pick("Find", "查找"), &content))
}

fn filters(lang: Lang, asked: &Asked, apps: &[App]) -> Markup {
    let statuses = [
        ("ended", lang.pick("ended", "已结束")),
        ("moving", lang.pick("not ended", "未结束")),
        (
            "badly",
            lang.pick(
                "ended badly: dead, expired, unresolved",
                "未成功：死信、过期、未决",
            ),
        ),
    ];
    let spans = [
        (1, lang.pick("last hour", "最近一小时")),
        (24, lang.pick("last 24 hours", "最近 24 小时")),
        (24 * 7, lang.pick("last 7 days", "最近 7 天")),
        (24 * 31, lang.pick("last 31 days", "最近 31 天")),
        (24 * 400, lang.pick("all that is kept", "全部保留的")),
    ];
    html! {
        form class="panel filters" method="get" {
            div.field { (app_choice(lang, apps, asked.appid.as_deref())) }
            div.field { label for="f-tp" { (lang.pick("template", "模板")) } input id="f-tp" name="template_id" size="18" value=(asked.template_id.as_deref().unwrap_or_default()); }
            div.field { label for="f-st" { (lang.pick("status", "状态")) }
                select id="f-st" name="status" {
                    @for (value, word) in statuses { option value=(value) selected[asked.status == value] { (word) } }
                    @for status in STATUSES { option value=(status) selected[asked.status == status] { (status_word(lang, status)) } }
                } }
            div.field { label for="f-ec" { "errcode" } input id="f-ec" name="errcode" size="8" inputmode="numeric" value=(asked.errcode.map_or_else(String::new, |code| code.to_string())); }
            div.field { label for="f-per" { (lang.pick("ended", "结束于")) }
                select id="f-per" name="hours" { @for (hours, word) in spans { option value=(hours) selected[asked.hours == hours] { (word) } } } }
            button class="btn main" { (lang.pick("Find", "查找")) }
            a class="btn quiet" href="/find" { (lang.pick("Clear", "清除")) }
        }
    }
}

fn found_box(visit: &Visit, asked: &Asked, mut rows: Vec<Found>, by: &[String]) -> Markup {
    let lang = visit.lang;
    if rows.is_empty() {
        return nothing_found(visit, asked);
    }
    let more = rows.len() > ROWS as usize;
    rows.truncate(ROWS as usize);
    let next = rows
        .last()
        .filter(|_| more && asked.has_ended() && asked.key.is_none())
        .and_then(|row| {
            let mut pairs = question(visit);
            pairs.insert(
                "after".to_owned(),
                format!("{}_{}", row.finished_at?.timestamp_micros(), row.id),
            );
            Some(format!(
                "/find?{}",
                form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(pairs)
                    .finish()
            ))
        });
    let caption = html! {
        (rows.len()) (if more { "+" } else { "" }) " " (lang.pick("found", "行"))
        small { @if by.is_empty() { (if asked.has_ended() { lang.pick("the latest first", "最近的在前") } else { lang.pick("the next first", "最先到期的在前") }) } @else { (lang.pick("by ", "按 ")) (by.join(", ")) } }
    };
    let export = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(question(visit))
        .finish();
    html! {
        section { (found_table(lang, &caption, &rows)) }
        div.pager {
            @if let Some(next) = next { a.btn rel="next" href=(next) { (lang.pick("Older", "更早")) } }
            @if visit.may_act() {
                a class="btn quiet" href=(format!("/export?format=csv&{export}")) download { "CSV" }
                a class="btn quiet" href=(format!("/export?format=ndjson&{export}")) download { "NDJSON" }
                small.muted { (lang.pick("an export is recorded", "导出会被记录")) }
            }
        }
    }
}

fn nothing_found(visit: &Visit, asked: &Asked) -> Markup {
    let lang = visit.lang;
    html! {
        section {
            h2 { (lang.pick("Nothing found", "没有找到")) }
            @if let Some(key) = &asked.key {
                p { (foreign(key)) }
                p.muted { (lang.pick("Searched as id, business_ref, dedup_key, msgid and rid", "已按 id、business_ref、dedup_key、msgid、rid 查找")) @if visit.may_act() { (lang.pick(", and as openid", "，以及 openid")) } (lang.pick(", in all that is kept. Parts of a value find nothing. A msgid without a receipt is looked for in the last 3 days.", "，范围为全部保留的数据。部分值不会匹配；没有回执的 msgid 只查最近 3 天。")) }
            } @else {
                p.muted { (lang.pick("No notification has this app, template, status and errcode in that time.", "此时间内没有符合小程序、模板、状态与 errcode 的消息。")) }
            }
            (frame::note("", "info", &html! { (lang.pick("A row is visible once its transaction has committed; retention drops ended ones.", "事务提交后才可见；已结束的行超过保留期会被清除。")) }))
        }
    }
}
