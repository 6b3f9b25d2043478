//! Verbs on mini-programs and templates: register, pause, resume.

use chrono::{DateTime, Utc};

use crate::store::verbs::{Audit, BATCH_ROWS};
use crate::store::{Store, StoreError};

/// What is paused or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Whose sends are meant.
    pub appid: &'a str,
    /// One of its templates; `None`: all of it.
    pub template_id: Option<&'a str>,
}

/// Why there is nothing to be changed.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Nobody registered it.
    #[error("app {appid} is not registered")]
    UnknownApp {
        /// What was asked for.
        appid: String,
        /// Those that are.
        known: Vec<String>,
    },

    /// WeChat never listed it, and it was never paused.
    #[error("template {template_id} of app {appid} is not known")]
    UnknownTemplate {
        /// Of this mini-program.
        appid: String,
        /// What was asked for.
        template_id: String,
    },

    /// Ask again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes sure that the mini-program is registered, before anything is tried.
///
/// # Errors
///
/// [`TargetError::UnknownApp`]; [`TargetError::Store`].
pub async fn need_app(store: &Store, appid: &str) -> Result<(), TargetError> {
    let apps = store.list_apps().await?;
    if apps.iter().any(|app| app.appid == appid) {
        return Ok(());
    }
    Err(TargetError::UnknownApp {
        appid: appid.to_owned(),
        known: apps.into_iter().map(|app| app.appid).collect(),
    })
}

/// Makes sure that the template is known.
///
/// # Errors
///
/// [`TargetError::UnknownTemplate`]; [`TargetError::Store`].
pub async fn need_template(
    store: &Store,
    appid: &str,
    template_id: &str,
) -> Result<(), TargetError> {
    let known = store.list_templates(Some(appid)).await?;
    if known.iter().any(|known| known.template_id == template_id) {
        return Ok(());
    }
    Err(TargetError::UnknownTemplate {
        appid: appid.to_owned(),
        template_id: template_id.to_owned(),
    })
}

/// Lets its rows wait until then; `None`: until it is resumed. What is in flight is finished.
///
/// # Errors
///
/// [`StoreError`]: nothing was changed; after a deadline, perhaps it was.
pub async fn pause(
    store: &Store,
    target: Target<'_>,
    until: Option<DateTime<Utc>>,
    reason: &str,
    audit: &Audit,
) -> Result<(), StoreError> {
    let Target { appid, template_id } = target;
    match template_id {
        None => {
            store
                .pause_app_by_operator(appid, until, reason, audit)
                .await
        }
        Some(template_id) => {
            store
                .pause_template_by_operator(appid, template_id, until, reason, audit)
                .await
        }
    }
}

/// Ends the pause and makes the rows that waited for it due, in batches of a transaction each. Returns how many.
///
/// # Errors
///
/// [`StoreError`]: the pause is over as soon as the first batch is done; call it again for the other rows, or leave them to the
/// workers.
pub async fn resume(store: &Store, target: Target<'_>, audit: &Audit) -> Result<i64, StoreError> {
    let Target { appid, template_id } = target;
    let mut due = 0;
    loop {
        let rows = match template_id {
            None => store.resume_app(appid, audit).await?,
            Some(template_id) => store.resume_template(appid, template_id, audit).await?,
        };
        due += i64::from(rows);
        if rows < BATCH_ROWS as i32 {
            return Ok(due);
        }
    }
}

/// What registering a mini-program did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// Whether it was new; otherwise its name and rate were changed.
    pub is_new: bool,
    /// Rows that waited for it and are due now.
    pub rows_made_due: i64,
}

/// Registers a mini-program, or changes its name and rate (sends per second); with `is_default`, INSERTs may leave it out.
///
/// # Errors
///
/// [`StoreError`]: what came before in this order may be done: registered, made the default, rows made due.
pub async fn add_app(
    store: &Store,
    appid: &str,
    name: Option<&str>,
    rate: Option<f32>,
    is_default: bool,
    audit: &Audit,
) -> Result<Added, StoreError> {
    let is_new = store.add_app(appid, name, rate, audit).await?;
    if is_default {
        store.set_default_app(appid, audit).await?;
    }
    // Rows inserted before the app was known were parked; a new app has no pause that this could end.
    let target = Target {
        appid,
        template_id: None,
    };
    let rows_made_due = if is_new {
        resume(store, target, audit).await?
    } else {
        0
    };
    Ok(Added {
        is_new,
        rows_made_due,
    })
}
