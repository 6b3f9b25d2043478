//! What all pages have: head, navigation, icons; and the pages that say why there is none.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::visit::Visit;
use super::words::{Lang, status_word};
use super::{Console, assets};
use crate::legible::legible;
use crate::store::{StoreError, describe};

/// One symbol a line; pages refer to them.
const ICONS: &str = include_str!("assets/icons.svg");

/// The pages in the navigation: path, and the words in both languages.
const GROUPS: [&[(&str, &str, &str)]; 5] = [
    &[("/", "Overview", "总览"), ("/find", "Find", "查找")],
    &[
        ("/failures", "Failures", "失败"),
        ("/dead", "Dead letters", "死信"),
        ("/doubts", "Doubts", "结果未知"),
        ("/credits", "Credits", "次数"),
    ],
    &[
        ("/reminders", "Reminders", "定时提醒"),
        ("/forecast", "Forecast", "预测"),
    ],
    &[
        ("/apps", "Apps and templates", "小程序与模板"),
        ("/workers", "Workers and pauses", "worker 与暂停"),
        ("/batches", "Batches", "批次"),
    ],
    &[
        ("/actions", "Who did what", "操作记录"),
        ("/about", "About", "关于"),
    ],
];

/// An icon of the sprite.
pub(super) fn icon(name: &str) -> Markup {
    html! { svg.i aria-hidden="true" { use href=(format!("#i-{name}")) {} } }
}

/// The status in its shape and its word; SQL's word is the title.
pub(super) fn chip(lang: Lang, status: &str) -> Markup {
    html! {
        span class=(format!("chip s-{status}")) title=(status) { (icon(status)) (status_word(lang, status)) }
    }
}

/// A page: its title, and its content inside `main`.
pub(super) fn page(visit: &Visit, title: &str, content: &Markup) -> Markup {
    let body = html! {
        (top(&visit.console, visit.lang, Some(visit)))
        (side(visit))
        main id="main" tabindex="-1" { (content) }
    };
    document(visit.lang, title, &body)
}

/// A page without navigation.
pub(super) fn bare(console: &Console, lang: Lang, title: &str, content: &Markup) -> Markup {
    let body = html! { (top(console, lang, None)) (content) };
    document(lang, title, &body)
}

fn document(lang: Lang, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(lang.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · wxnotify" }
                link rel="stylesheet" href=(assets::css_path());
                script src=(assets::js_path()) defer {}
            }
            body {
                svg width="0" height="0" aria-hidden="true" { (PreEscaped(ICONS)) }
                a.skip href="#main" { (lang.pick("Skip to the content", "跳到正文")) }
                (body)
            }
        }
    }
}

fn top(console: &Console, lang: Lang, visit: Option<&Visit>) -> Markup {
    html! {
        header.top {
            a.brand href="/" aria-label="wxnotify" { svg aria-hidden="true" { use href="#i-brand" {} } span { "wxnotify" } }
            @if let Some(badge) = &console.badge {
                span class=(if badge == "production" { "env prod" } else { "env" }) { (badge) }
            }
            @if let Some(visit) = visit {
                form.seek action="/find" role="search" {
                    label.vh for="q" { (lang.pick("Find a message", "查找消息")) }
                    input id="q" name="q" type="search" autocomplete="off" value=(asked(visit))
                        placeholder=(lang.pick("id, openid, business_ref, dedup_key, msgid or rid", "id、openid、business_ref、dedup_key、msgid 或 rid"));
                    button.btn { (lang.pick("Find", "查找")) }
                }
            }
            div.me {
                (other_language(lang, visit))
                @if let Some(visit) = visit {
                    span { b { (visit.name) } " " span.muted { (visit.role.as_str()) } }
                    form action="/logout" method="post" { button class="btn quiet" { (lang.pick("Log out", "退出")) } }
                }
            }
        }
    }
}

fn asked(visit: &Visit) -> String {
    if visit.uri.path() != "/find" {
        return String::new();
    }
    let key = super::pages::question(visit)
        .remove("q")
        .unwrap_or_default();
    legible(&key).into_owned()
}

fn other_language(lang: Lang, visit: Option<&Visit>) -> Markup {
    let other = lang.pick(Lang::Zh, Lang::En);
    let path = visit.map_or("/login", |visit| visit.uri.path());
    let question = visit.map(super::pages::question).unwrap_or_default();
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for (key, value) in question.iter().filter(|(key, _)| *key != "lang") {
        pairs.append_pair(key, value);
    }
    pairs.append_pair("lang", other.code());
    html! {
        a href=(format!("{path}?{}", pairs.finish())) hreflang=(other.tag()) lang=(other.tag()) { (other.pick("English", "中文")) }
    }
}

fn side(visit: &Visit) -> Markup {
    let here = visit.uri.path();
    let is_here = |path: &str| match path {
        "/" => here == "/",
        "/find" => here == "/find" || here.starts_with("/n/"),
        path => here.starts_with(path),
    };
    html! {
        nav.side aria-label=(visit.lang.pick("Pages", "页面")) {
            @for group in GROUPS {
                ul {
                    @for (path, en, zh) in group {
                        li { a href=(path) aria-current=[is_here(path).then_some("page")] { (visit.lang.pick(en, zh)) } }
                    }
                }
            }
        }
    }
}

/// A note: what one must know before the rest.
pub(super) fn note(tone: &str, icon_name: &str, text: &Markup) -> Markup {
    html! { div class=(format!("note {tone}")) { (icon(icon_name)) p { (text) } } }
}

/// The head of a page: its title, when it was made, and what stands at the end.
pub(super) fn head(lang: Lang, title: &str, end: &Markup) -> Markup {
    html! {
        div.head {
            h1 { (title) }
            p class="muted live" role="status" data-live="as-of" {
                (lang.pick("as of ", "截至 ")) (super::words::time(chrono::Utc::now()))
            }
            div.end { (end) }
        }
    }
}

/// A page that says that something is not allowed.
pub(super) fn refusal(console: &Console, lang: Lang, visit: Option<&Visit>, says: &str) -> Markup {
    let content = html! {
        h1 { (lang.pick("Not allowed", "不允许")) }
        (note("bad", "dead", &html! { (says) }))
        p { a href="/" { (lang.pick("To the overview", "回到总览")) } }
    };
    match visit {
        Some(visit) => page(visit, lang.pick("Not allowed", "不允许"), &content),
        None => bare(
            console,
            lang,
            lang.pick("Not allowed", "不允许"),
            &html! { main id="main" tabindex="-1" { (content) } },
        ),
    }
}

/// The database is away: the page says so and comes back by itself.
pub(super) fn unavailable(console: &Console, lang: Lang, error: &StoreError) -> Response {
    let why = why(lang, error);
    let content = html! {
        main id="main" tabindex="-1" class="door" data-again="3" {
            section {
                h1 { (lang.pick("The database does not answer", "数据库没有应答")) }
                p { (why) }
                p.muted { (lang.pick("This page tries again by itself; without JavaScript load it anew.", "本页会自动重试；没有 JavaScript 时请重新加载。")) }
            }
        }
    };
    let page = bare(
        console,
        lang,
        lang.pick("No database", "数据库不可用"),
        &content,
    );
    (StatusCode::SERVICE_UNAVAILABLE, page).into_response()
}

/// What a database error means to a reader: never a statement or a row.
fn why(lang: Lang, error: &StoreError) -> String {
    match (error, error.sqlstate().as_deref()) {
        (_, Some("42P01" | "42883" | "42703")) => lang.pick("The schema is missing or older than this program: run wxnotify migrate.", "数据库结构缺失或早于本程序：请运行 wxnotify migrate。").to_owned(),
        (_, Some("42501")) => lang.pick("The console's login may not do this: grant it wxnotify_console, wxnotify_operator and wxnotify_viewer.", "控制台的数据库登录没有权限：请授予 wxnotify_console、wxnotify_operator 与 wxnotify_viewer。").to_owned(),
        (_, Some("25006")) => lang.pick("This server is a standby or read-only.", "该服务器为备库或只读。").to_owned(),
        (StoreError::Deadline { waited, .. }, _) => format!("{} {} s", lang.pick("No answer within", "未在此时间内应答："), waited.as_secs()),
        (StoreError::Database { source, .. }, _) => describe(source),
    }
}

/// A page that could not be made: too wide a question, or no database.
pub(super) fn failed(visit: &Visit, error: &StoreError) -> Response {
    let lang = visit.lang;
    if error.sqlstate().as_deref() == Some("57014") {
        let content = html! {
            h1 { (lang.pick("Too wide", "范围过大")) }
            (note("warn", "warn", &html! { (lang.pick("The database was stopped after 2 s. Narrow it by app, by template or by time.", "查询在 2 秒后被中止。请按小程序、模板或时间缩小范围。")) }))
            p { a href=(visit.uri.path()) { (lang.pick("Without conditions", "不带条件")) } }
        };
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            page(visit, lang.pick("Too wide", "范围过大"), &content),
        )
            .into_response();
    }
    let says = why(lang, error);
    tracing::warn!(path = %visit.uri.path(), "A page of the console was not made: {error}");
    let content = html! {
        div data-again="3" {
            h1 { (lang.pick("This page cannot be shown now", "此页暂时无法显示")) }
            (note("bad", "dead", &html! { (says) }))
        }
    };
    (
        StatusCode::SERVICE_UNAVAILABLE,
        page(visit, lang.pick("Not now", "暂不可用"), &content),
    )
        .into_response()
}
