//! The callback receiver: `/wechat/callback/{appid}`, which WeChat's console calls the message push URL.
//!
//! A request is checked, its event stored, and `success` answered, in that order and within a second: WeChat drops a
//! connection after five and repeats the push, three times in all. A database that is slow or away gets the request an error
//! status, so that WeChat repeats it; the repeat of an event that was stored after all changes nothing. What follows from an
//! event is maintenance's, after the commit.
//!
//! Every request is counted by what became of it. Neither its query nor its body reaches a log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::Utc;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use secrecy::{ExposeSecret, SecretString};
use tracing::warn;

use crate::config::Settings;
use crate::store::Store;
use crate::telemetry::{self, Restraint};
use crate::wechat::callback::cipher::AesKey;
use crate::wechat::callback::{BODY_BYTES_MAX, CallbackQuery, Push, Receiver, Refusal};

/// The route; `{appid}` is the mini-program's.
pub const PATH: &str = "/wechat/callback/{appid}";
/// How long storing an event may take, so that the answer is there within a second.
const STORE_WITHIN: Duration = Duration::from_millis(900);
/// How long the body may take to arrive; WeChat has given up by then.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Receives the callbacks of the mini-programs that have a callback token.
pub struct Callbacks {
    receivers: HashMap<String, Receiver>,
    store: Store,
    /// Refusals are counted each and logged once a minute: a stranger could fill the log.
    warnings: Restraint,
}

impl std::fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callbacks")
            .field("receivers", &self.receivers)
            .finish_non_exhaustive()
    }
}

impl Callbacks {
    /// Of the apps in `settings` that have a callback token; `None`: none has. Uses `connections` of its own to where `store`
    /// leads, when the first event comes.
    #[must_use]
    pub fn of_settings(settings: &Settings, store: &Store, connections: u32) -> Option<Self> {
        let receivers = settings.apps.iter().filter_map(|(appid, app)| {
            let token = app.callback_token.clone()?;
            let key_of = |key: &SecretString| {
                AesKey::from_encoding_aeskey(key.expose_secret())
                    .expect("43 letters and digits, as the settings were checked")
            };
            let aeskey = app.callback_aeskey.as_ref().map(key_of);
            let receiver = Receiver::new(appid.clone(), token, aeskey).with_previous(
                app.callback_token_previous.clone(),
                app.callback_aeskey_previous.as_ref().map(key_of),
            );
            Some(receiver)
        });
        Self::new(receivers, store.beside(connections, STORE_WITHIN))
    }

    /// Over receivers and a store whose deadline bounds the answer; `None` without receivers.
    pub fn new(receivers: impl IntoIterator<Item = Receiver>, store: Store) -> Option<Self> {
        let receivers: HashMap<_, _> = receivers
            .into_iter()
            .map(|receiver| (receiver.appid().to_owned(), receiver))
            .collect();
        (!receivers.is_empty()).then(|| Self {
            receivers,
            store,
            warnings: Restraint::new(1),
        })
    }

    /// The route that serves them.
    pub fn into_router(self) -> Router {
        Router::new()
            .route(PATH, get(verify_url).post(receive))
            .with_state(Arc::new(self))
    }

    fn refuse(&self, appid: &str, refusal: Refusal) -> Response {
        telemetry::record_callback(appid, refusal.label());
        self.warn(appid, &refusal);
        refused()
    }

    fn warn(&self, appid: &str, reason: &dyn std::fmt::Display) {
        if let Some(left_out) = self.warnings.admit() {
            warn!(wechat.appid = %appid, left_out, "A callback for {appid} was not taken: {reason}");
        }
    }

    /// Stores the event and says what to answer.
    async fn store(&self, appid: &str, event: &serde_json::Value) -> Response {
        let (result, response) = match self.store.ingest_event(appid, event).await {
            Ok(None) => ("ignored", success()),
            Ok(Some(0)) => ("repeated", success()),
            Ok(Some(_)) => ("stored", success()),
            Err(error) if error.is_data_error() => {
                self.warn(appid, &error);
                ("malformed", answer(StatusCode::BAD_REQUEST, "malformed"))
            }
            Err(error) => {
                self.warn(appid, &error);
                let status = StatusCode::SERVICE_UNAVAILABLE;
                ("failed", answer(status, "not stored, push it again"))
            }
        };
        telemetry::record_callback(appid, result);
        response
    }
}

/// What WeChat's console asks when the URL is saved.
async fn verify_url(
    State(callbacks): State<Arc<Callbacks>>,
    Path(appid): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(receiver) = callbacks.receivers.get(&appid) else {
        return unknown_app();
    };
    let query = CallbackQuery::parse(&query.unwrap_or_default());
    match receiver.verify_url(&query, Utc::now().timestamp()) {
        Ok(echostr) => {
            telemetry::record_callback(&appid, "verified");
            answer(StatusCode::OK, echostr.to_owned())
        }
        Err(refusal) => callbacks.refuse(&appid, refusal),
    }
}

/// A push.
async fn receive(
    State(callbacks): State<Arc<Callbacks>>,
    Path(appid): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    // Before the appid is looked at, so that one that is unknown takes as long.
    let body = read_body(body).await;
    let Some(receiver) = callbacks.receivers.get(&appid) else {
        return unknown_app();
    };
    let body = match body {
        Ok(body) => body,
        Err(BodyError::Oversized) => return callbacks.refuse(&appid, Refusal::Oversized),
        Err(BodyError::Truncated) => {
            telemetry::record_callback(&appid, "truncated");
            return refused();
        }
    };
    let query = CallbackQuery::parse(&query.unwrap_or_default());
    match receiver.read(&query, &body, Utc::now().timestamp()) {
        Ok(Push::Event(event)) => callbacks.store(&appid, &event).await,
        Ok(Push::Other) => {
            telemetry::record_callback(&appid, "ignored");
            success()
        }
        Err(refusal) => callbacks.refuse(&appid, refusal),
    }
}

enum BodyError {
    Oversized,
    /// It broke off, or came too slowly.
    Truncated,
}

async fn read_body(body: Body) -> Result<Bytes, BodyError> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_WITHIN, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::Oversized),
        Ok(Err(_)) | Err(_) => Err(BodyError::Truncated),
    }
}

fn unknown_app() -> Response {
    // Not the appid as it was asked for: a label must come from a small set.
    telemetry::record_callback("unknown", "unknown_app");
    refused()
}

/// One answer whatever was wrong, so that nobody learns which mini-programs are served here, nor in which mode; the metric and
/// the log tell those who run it.
fn refused() -> Response {
    answer(StatusCode::FORBIDDEN, "refused")
}

fn success() -> Response {
    answer(StatusCode::OK, "success")
}

/// Plain text that no browser takes for anything else.
fn answer(status: StatusCode, text: impl Into<String>) -> Response {
    const PLAIN: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, PLAIN, text.into()).into_response()
}
