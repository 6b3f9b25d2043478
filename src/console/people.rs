//! People: who may log in, how they do, and how long it lasts.
//!
//! Passwords are kept as Argon2id hashes. An unknown name costs as much time as a wrong password and gets the same answer, and so does who
//! has tried too often. A session is a random number in a cookie, of which the database holds the hash.
//!
//! Start at [`log_in`].

use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, bail};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use clap::{Subcommand, ValueEnum};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;

use super::visit::{self, From, hash_of, lang_of, session_cookie};
use super::words::Lang;
use super::{Console, frame};
use crate::exit::{Exit, Output};
use crate::store::{Store, StoreError};

/// A session ends after so long, whatever its person does.
const SESSION_LASTS: Duration = Duration::from_secs(12 * 3600);
/// So many failed log-ins of one name, or from one address, within a quarter of an hour; further ones are refused unjudged.
const TRIES_OF_NAME_MAX: i64 = 10;
const TRIES_OF_ADDRESS_MAX: i64 = 50;
/// The shortest password.
const PASSWORD_CHARS_MIN: usize = 12;
const PASSWORD_BYTES_MAX: usize = 1024;

/// What is verified when there is nobody of that name.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| hash("nobody has this password").unwrap_or_default());

/// `wxnotify console user`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add somebody; the password is asked for, or read from standard input
    Add {
        /// As they log in, and as operator_actions names them
        name: String,
        /// viewer: sees no receiver and no message; operator: the verbs; admin: other people's sessions, too
        #[arg(long, value_enum, default_value_t)]
        role: UserRole,
    },
    /// Everybody who may log in
    List,
    /// Set a new password, which ends the sessions
    Passwd {
        /// Whose
        name: String,
    },
    /// Remove somebody, and their sessions
    Remove {
        /// Whom
        name: String,
    },
}

/// As in `console_users`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum UserRole {
    #[default]
    /// Sees no receiver and no message
    Viewer,
    /// Uses the verbs
    Operator,
    /// Ends other people's sessions, too
    Admin,
}

impl UserRole {
    fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Runs `wxnotify console user`.
pub(super) async fn run(
    command: UserCommand,
    store: &Store,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let (done, says) = match command {
        UserCommand::Add { name, role } => {
            let password = read_password(&name)?;
            let added = store
                .add_user(&name, role.as_str(), &hash(&password)?)
                .await?;
            let says = if added {
                format!("{name} may log in as {}", role.as_str())
            } else {
                format!(
                    "there is a {name} already; `wxnotify console user passwd {name}` sets a new password"
                )
            };
            (added, says)
        }
        UserCommand::List => return list(store, output).await,
        UserCommand::Passwd { name } => {
            let password = read_password(&name)?;
            let changed = store.set_password(&name, &hash(&password)?).await?;
            (
                changed,
                if changed {
                    format!("{name} has a new password and no session")
                } else {
                    nobody(&name)
                },
            )
        }
        UserCommand::Remove { name } => {
            let removed = store.remove_user(&name).await?;
            (
                removed,
                if removed {
                    format!("{name} may not log in any more")
                } else {
                    nobody(&name)
                },
            )
        }
    };
    if output.json {
        println!("{}", json!({ "done": done, "says": says }));
    } else {
        println!("{says}");
    }
    Ok(if done { Exit::Done } else { Exit::Failed }.into())
}

fn nobody(name: &str) -> String {
    format!("there is no {name}; `wxnotify console user list` names everybody")
}

async fn list(store: &Store, output: Output) -> anyhow::Result<ExitCode> {
    let users = store.list_users().await?;
    if output.json {
        println!("{}", serde_json::to_string_pretty(&users)?);
    } else if users.is_empty() {
        println!(
            "nobody may log in yet; add somebody with `wxnotify console user add NAME --role operator`"
        );
    } else {
        for user in users {
            println!(
                "{:<24} {:<9} {} sessions",
                user.name, user.role, user.sessions
            );
        }
    }
    Ok(Exit::Done.into())
}

/// From the terminal, without showing it, or one line of standard input.
fn read_password(name: &str) -> anyhow::Result<String> {
    let line = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Password of {name} (it is not shown): "))
    } else {
        let mut line = String::new();
        let mut bounded = std::io::stdin().take(PASSWORD_BYTES_MAX as u64 + 2);
        bounded.read_to_string(&mut line).map(|_| line)
    };
    let line = line.context("reading the password")?;
    let password = line.lines().next().unwrap_or_default().to_owned();
    if password.chars().count() < PASSWORD_CHARS_MIN {
        bail!(
            "the password has {} characters; it needs {PASSWORD_CHARS_MIN} at least",
            password.chars().count()
        );
    }
    if password.len() > PASSWORD_BYTES_MAX {
        bail!("the password is longer than {PASSWORD_BYTES_MAX} bytes");
    }
    Ok(password)
}

fn hash(password: &str) -> anyhow::Result<String> {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    Ok(hashed
        .map_err(|error| anyhow::anyhow!("the password could not be hashed: {error}"))?
        .to_string())
}

fn is_right(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

#[derive(Deserialize)]
pub(super) struct Back {
    #[serde(default)]
    back: String,
}

/// The log-in page.
pub(super) async fn ask(
    State(console): State<Arc<Console>>,
    Query(back): Query<Back>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let lang = lang_of(&headers, &uri);
    door(&console, lang, "", &back.back, None).into_response()
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    back: String,
}

/// Judges a log-in: nobody learns which part of it was wrong.
pub(super) async fn log_in(
    State(console): State<Arc<Console>>,
    from: From,
    headers: HeaderMap,
    uri: Uri,
    Form(given): Form<Credentials>,
) -> Response {
    let lang = lang_of(&headers, &uri);
    let address = visit::address_of(&console, &headers, from.0);
    let judged = judge(&console, &given, &address).await;
    match judged {
        Ok(Some(token)) => {
            let secure = if console.behind_https { "; Secure" } else { "" };
            let cookie = format!(
                "{}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
                session_cookie(console.behind_https),
                SESSION_LASTS.as_secs()
            );
            (
                [(header::SET_COOKIE, cookie)],
                Redirect::to(inside(&given.back)),
            )
                .into_response()
        }
        Ok(None) => {
            let says = lang.pick(
                "Name or password is wrong, or there were too many tries.",
                "用户名或密码不对，或尝试次数过多。",
            );
            let page = door(&console, lang, &given.name, &given.back, Some(says));
            (StatusCode::FORBIDDEN, page).into_response()
        }
        Err(error) => frame::unavailable(&console, lang, &error),
    }
}

/// A new session's cookie; `None`: refused.
async fn judge(
    console: &Console,
    given: &Credentials,
    address: &str,
) -> Result<Option<String>, StoreError> {
    let store = &console.store;
    let tries = store.count_tries(&given.name, address).await?;
    let too_many = tries.is_some_and(|tries| {
        tries.of_name >= TRIES_OF_NAME_MAX || tries.of_address >= TRIES_OF_ADDRESS_MAX
    });
    let user = if too_many || given.password.len() > PASSWORD_BYTES_MAX {
        None
    } else {
        let user = store.find_user(&given.name).await?;
        let _turn = console.judging.acquire().await;
        let hash = user
            .as_ref()
            .map_or_else(|| NOBODY.clone(), |user| user.password_hash.clone());
        let password = given.password.clone();
        let is_right = tokio::task::spawn_blocking(move || is_right(&password, &hash))
            .await
            .unwrap_or(false);
        user.filter(|_| is_right)
    };
    let Some(user) = user else {
        store.note_try(&given.name, address).await?;
        tracing::warn!(%address, too_many, "A log-in to the console from {address} was refused");
        return Ok(None);
    };
    let token: String = rand::random::<[u8; 32]>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    store
        .begin_session(&hash_of(&token), &user.name, SESSION_LASTS, address)
        .await?;
    tracing::info!(person = %user.name, %address, "{} logged in to the console", user.name);
    Ok(Some(token))
}

/// Only to a page of ours: a link must not lead elsewhere by way of the log-in.
fn inside(back: &str) -> &str {
    let is_ours = back.starts_with('/')
        && !back.starts_with("//")
        && !back.contains('\\')
        && !back.chars().any(char::is_control);
    if is_ours { back } else { "/" }
}

/// Ends the session.
pub(super) async fn log_out(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let jar = axum_extra::extract::CookieJar::from_headers(&headers);
    if let Some(token) = jar.get(session_cookie(console.behind_https))
        && let Err(error) = console.store.end_session(&hash_of(token.value())).await
    {
        return frame::unavailable(&console, lang_of(&headers, &uri), &error);
    }
    let gone = format!(
        "{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0",
        session_cookie(console.behind_https)
    );
    ([(header::SET_COOKIE, gone)], Redirect::to("/login")).into_response()
}

fn door(console: &Console, lang: Lang, name: &str, back: &str, refused: Option<&str>) -> Markup {
    let badge = console.badge.as_deref();
    let content = html! {
        main id="main" tabindex="-1" class="door" {
            section {
                h1 { (lang.pick("Log in", "登录")) }
                p.muted { (lang.pick("wxnotify console", "wxnotify 控制台")) @if let Some(badge) = badge { ", " (badge) } }
                form method="post" action="/login" {
                    @if let Some(says) = refused {
                        div class="note bad" role="alert" { (frame::icon("dead")) p { (says) } }
                    }
                    input type="hidden" name="back" value=(back);
                    div.field {
                        label for="u" { (lang.pick("name", "用户名")) }
                        input id="u" name="name" autocomplete="username" autocapitalize="none" required value=(name);
                    }
                    div.field {
                        label for="p" { (lang.pick("password", "密码")) }
                        input id="p" name="password" type="password" autocomplete="current-password" required;
                    }
                    button class="btn main" { (lang.pick("Log in", "登录")) }
                    p class="small muted" { (lang.pick("Who may log in is decided with wxnotify console user.", "由 wxnotify console user 决定谁可以登录。")) }
                }
            }
        }
    };
    frame::bare(console, lang, lang.pick("Log in", "登录"), &content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_password_is_kept_as_a_hash_that_only_it_fits() {
        let kept = hash("correct horse battery").unwrap();
        assert!(kept.starts_with("$argon2id$") && !kept.contains("horse"));
        assert!(is_right("correct horse battery", &kept));
        assert!(
            !is_right("correct horse batterY", &kept)
                && !is_right("", &kept)
                && !is_right("x", "no hash")
        );
    }

    #[test]
    fn a_log_in_leads_to_pages_of_ours_alone() {
        assert_eq!(inside("/n/7?lang=zh"), "/n/7?lang=zh");
        for elsewhere in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/a\r\nx: y",
            "",
            "javascript:x",
        ] {
            assert_eq!(inside(elsewhere), "/", "{elsewhere}");
        }
    }
}
