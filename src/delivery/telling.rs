//! What is said of a delivery, in logs and to the worker: the same not again and again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::Deliverer;
use crate::lock::lock;
use crate::notification::{Conclusion, Effect, Notification, Verdict};
use crate::telemetry::Restraint;

/// The same pause is not asked for again sooner: everything in flight tends to fail alike.
const SAME_PAUSE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Why rows of a mini-program are not sent is not said again sooner.
const SAME_REASON_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What was said lately.
#[derive(Default)]
pub(super) struct Told {
    asked_pauses: HashMap<String, Instant>,
    /// Why rows of a mini-program were last said not to be sent.
    reasons: HashMap<String, (String, Instant)>,
}

impl Deliverer {
    /// Says why rows of a mini-program are not sent, also if they are too few for a pause; the same again after a while only.
    pub(super) fn tell(&self, notification: &Notification, reason: &str) {
        let appid = &notification.appid;
        let now = Instant::now();
        let mut told = lock(&self.told);
        let is_told = told.reasons.get(appid).is_some_and(|(before, at)| {
            before == reason && now.duration_since(*at) < SAME_REASON_AGAIN_AFTER
        });
        if !is_told {
            let at = (reason.to_owned(), now);
            told.reasons.insert(appid.clone(), at);
            drop(told);
            warn!(%appid, "Rows of {appid} are not sent: {reason}");
        }
    }

    /// Leaves out pauses that another send has just asked for. One that was not stored comes again with the next failure.
    pub(super) fn leave_out_repeats(&self, effects: &mut Vec<Effect>) {
        const REMEMBERED_MAX: usize = 1000;
        if effects.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut told = lock(&self.told);
        let asked = &mut told.asked_pauses;
        if asked.len() > REMEMBERED_MAX {
            asked.clear();
        }
        effects.retain(|effect| {
            let key = match effect {
                Effect::PauseApp { appid, until, .. } => format!("{appid} {until:?}"),
                Effect::PauseTemplate {
                    appid,
                    template_id,
                    until,
                    ..
                } => {
                    format!("{appid} {template_id} {until:?}")
                }
                Effect::ProbeOk { .. } => return true,
            };
            let is_new = asked
                .get(&key)
                .is_none_or(|before| now.duration_since(*before) >= SAME_PAUSE_AGAIN_AFTER);
            if is_new {
                asked.insert(key, now);
            }
            is_new
        });
    }
}

/// No host of WeChat's could be connected to.
pub(super) fn unreachable(reason: &str) -> String {
    format!("WeChat cannot be reached: {reason}")
}

/// A producer can have any number of templates refused by naming them.
static TEMPLATE_PAUSES: Restraint = Restraint::new(10);

/// A business outcome such as 43101 is no trouble; a pause is.
pub(super) fn report(conclusion: &Conclusion) {
    let Conclusion { outcome, effects } = conclusion;
    let id = outcome.notification_id;
    if outcome.verdict != Verdict::Sent {
        let reason = outcome.reason.as_deref().unwrap_or_default();
        debug!(errcode = outcome.errcode, verdict = ?outcome.verdict, "Notification {id} was not sent {reason}");
    }
    for effect in effects {
        match effect {
            Effect::PauseApp {
                appid,
                until,
                reason,
                errcode,
            } => {
                warn!(%appid, errcode, ?until, "Pausing mini-program {appid}: {reason}");
            }
            Effect::PauseTemplate {
                appid,
                template_id,
                until,
                reason,
                errcode,
            } => {
                if let Some(left_out) = TEMPLATE_PAUSES.admit() {
                    warn!(%appid, errcode, ?until, left_out, "Pausing template {template_id}: {reason}");
                }
            }
            Effect::ProbeOk { appid } => debug!(%appid, "The probe of {appid} got a sound answer"),
        }
    }
}
