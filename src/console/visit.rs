//! Who asks: the session behind a request, what its person may do, in which language. And what no request may be: forged by another site.
//!
//! Start at [`Visit`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::CookieJar;
use sha2::{Digest, Sha256};

use super::words::Lang;
use super::{Console, PATIENCE, frame};
use crate::store::Store;
use crate::store::verbs::{Acting, Audit};

/// The language chosen.
pub(super) const LANG_COOKIE: &str = "wxnotify_lang";

/// The session's cookie. Its long name makes browsers refuse one that was not set by this very host over https.
pub(super) fn session_cookie(behind_https: bool) -> &'static str {
    if behind_https {
        "__Host-wxnotify"
    } else {
        "wxnotify"
    }
}

/// What stands in the database for a cookie's value.
pub(super) fn hash_of(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// A request of somebody who is logged in.
pub(super) struct Visit {
    pub console: Arc<Console>,
    pub name: String,
    pub role: Role,
    pub lang: Lang,
    /// The page asked for, with its question.
    pub uri: Uri,
    /// What it asks of the database runs as this person's role.
    pub store: Store,
}

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Viewer,
    Operator,
    Admin,
}

impl Role {
    pub(super) fn of_column(text: &str) -> Option<Self> {
        match text {
            "viewer" => Some(Self::Viewer),
            "operator" => Some(Self::Operator),
            "admin" => Some(Self::Admin),
            _ => None,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    fn in_database(self) -> &'static str {
        match self {
            Self::Viewer => "wxnotify_viewer",
            Self::Operator | Self::Admin => "wxnotify_operator",
        }
    }
}

impl Visit {
    pub(super) fn may_act(&self) -> bool {
        self.role >= Role::Operator
    }

    /// What goes into the record of an action. The name comes from the session.
    pub(super) fn audit(&self, note: Option<&str>) -> Audit {
        let note = note.map(str::trim).filter(|note| !note.is_empty());
        Audit {
            actor: String::new(),
            note: note.map(str::to_owned),
        }
    }
}

/// The store as somebody sees it.
pub(super) fn store_of(store: &Store, person: &str, role: Role, patience: Duration) -> Store {
    store.acting_for(Acting {
        person: person.to_owned(),
        role: role.in_database(),
        zone: "Asia/Shanghai",
        patience,
    })
}

impl FromRequestParts<Arc<Console>> for Visit {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, Response> {
        let lang = lang_of(&parts.headers, &parts.uri);
        let jar = CookieJar::from_headers(&parts.headers);
        let token = jar.get(session_cookie(console.behind_https));
        let person = match token {
            None => None,
            Some(token) => {
                let found = console.store.find_session(&hash_of(token.value())).await;
                found.map_err(|error| frame::unavailable(console, lang, &error))?
            }
        };
        let known = person.and_then(|person| Some((Role::of_column(&person.role)?, person.name)));
        let Some((role, name)) = known else {
            return Err(if parts.method == Method::GET {
                Redirect::to(&log_in_path(&parts.uri)).into_response()
            } else {
                (
                    StatusCode::FORBIDDEN,
                    frame::refusal(
                        console,
                        lang,
                        None,
                        lang.pick(
                            "Your session has ended: log in again. Nothing was changed.",
                            "会话已结束，请重新登录。没有任何改动。",
                        ),
                    ),
                )
                    .into_response()
            });
        };
        Ok(Self {
            store: store_of(&console.store, &name, role, PATIENCE),
            console: console.clone(),
            name,
            role,
            lang,
            uri: parts.uri.clone(),
        })
    }
}

/// The log-in page, which leads back to where one was going.
fn log_in_path(uri: &Uri) -> String {
    let back = uri.path_and_query().map_or("/", |path| path.as_str());
    let back: String = form_urlencoded::byte_serialize(back.as_bytes()).collect();
    format!("/login?back={back}")
}

/// A visit of an operator or admin; others get 403, and nothing is changed.
pub(super) struct Operator(pub Visit);
/// A visit of an admin; others get 403, and nothing is changed.
pub(super) struct Admin(pub Visit);

async fn visit_of(
    parts: &mut Parts,
    console: &Arc<Console>,
    least: Role,
) -> Result<Visit, Response> {
    let visit = Visit::from_request_parts(parts, console).await?;
    if visit.role >= least {
        return Ok(visit);
    }
    tracing::warn!(person = %visit.name, path = %visit.uri.path(), "The console refused {} to {}: a {}", visit.uri.path(), visit.name, visit.role.as_str());
    let says = visit.lang.pick(
        format!(
            "This takes the role {}, and {} is a {}. Nothing was changed.",
            least.as_str(),
            visit.name,
            visit.role.as_str()
        ),
        format!(
            "此操作需要角色 {}，而 {} 是 {}。没有任何改动。",
            least.as_str(),
            visit.name,
            visit.role.as_str()
        ),
    );
    let page = frame::refusal(console, visit.lang, Some(&visit), &says);
    Err((StatusCode::FORBIDDEN, page).into_response())
}

impl FromRequestParts<Arc<Console>> for Operator {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, Response> {
        visit_of(parts, console, Role::Operator).await.map(Self)
    }
}

impl FromRequestParts<Arc<Console>> for Admin {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, Response> {
        visit_of(parts, console, Role::Admin).await.map(Self)
    }
}

/// The page's language: asked for, chosen before, or the browser's.
pub(super) fn lang_of(headers: &HeaderMap, uri: &Uri) -> Lang {
    let asked = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .find(|(key, _)| key == "lang")
        .and_then(|(_, value)| Lang::of_code(&value));
    let chosen = || {
        let jar = CookieJar::from_headers(headers);
        jar.get(LANG_COOKIE)
            .and_then(|cookie| Lang::of_code(cookie.value()))
    };
    let browser = || {
        let accepted = headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?;
        accepted
            .split(',')
            .find_map(|word| Lang::of_code(&word.trim().to_lowercase()))
    };
    asked.or_else(chosen).or_else(browser).unwrap_or(Lang::En)
}

/// Where a request comes from: the proxy's word behind a proxy, else the connection.
pub(super) fn address_of(console: &Console, headers: &HeaderMap, connection: SocketAddr) -> String {
    let named = headers
        .get("x-forwarded-for")
        .filter(|_| console.behind_https)
        .and_then(|value| value.to_str().ok())
        // The last one is the proxy's own word; those before it are whatever the client said.
        .and_then(|value| value.rsplit(',').next())
        .map(|address| address.trim().chars().take(64).collect());
    named.unwrap_or_else(|| connection.ip().to_string())
}

/// Refuses what another site makes a browser send. Browsers say where a request comes from in Sec-Fetch-Site, older ones in Origin; what says
/// neither is no browser's, and carries no cookie that it was not given.
pub(super) async fn refuse_forgeries(request: Request, next: Next) -> Response {
    let is_safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if is_safe || is_same_origin(request.headers()) {
        return next.run(request).await;
    }
    tracing::warn!(path = %request.uri().path(), "The console refused a request that another site had made");
    (
        StatusCode::FORBIDDEN,
        "refused: the request comes from another site\n",
    )
        .into_response()
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
    };
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text("origin") else {
        return true;
    };
    let origin = origin.split_once("://").map_or(origin, |(_, host)| host);
    text("host") == Some(origin)
}

/// The address of the connection.
pub(super) type From = ConnectInfo<SocketAddr>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    header::HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn what_another_site_makes_a_browser_send_is_refused() {
        for forged in [
            &[("sec-fetch-site", "cross-site"), ("host", "a")][..],
            &[("sec-fetch-site", "same-site"), ("host", "a")],
            &[
                ("origin", "https://evil.example"),
                ("host", "console.example"),
            ],
            &[("origin", "null"), ("host", "console.example")],
        ] {
            assert!(!is_same_origin(&headers(forged)), "{forged:?}");
        }
        for ours in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("sec-fetch-site", "none")],
            &[
                ("origin", "https://console.example"),
                ("host", "console.example"),
            ],
            &[("host", "console.example")],
        ] {
            assert!(is_same_origin(&headers(ours)), "{ours:?}");
        }
    }

    #[test]
    fn the_language_is_what_was_asked_for_then_chosen_then_the_browsers() {
        let lang = |uri: &str, pairs| lang_of(&headers(pairs), &uri.parse().unwrap());
        assert_eq!(lang("/?lang=zh", &[("accept-language", "en")]), Lang::Zh);
        assert_eq!(
            lang(
                "/",
                &[("cookie", "wxnotify_lang=zh"), ("accept-language", "en")]
            ),
            Lang::Zh
        );
        assert_eq!(
            lang("/", &[("accept-language", "fr, zh-TW;q=0.8")]),
            Lang::Zh
        );
        assert_eq!(lang("/", &[]), Lang::En);
    }
}
