//! The verbs on notifications: cancel, reschedule, redrive, and the verdicts on doubts.
//!
//! [`select`] chooses rows, at most as many as are wanted; [`preview`] says what they are; [`apply`] changes them in batches of a
//! transaction each. A row that is in flight or in doubt by then is reported, not waited for.
//!
//! Verbs on mini-programs and templates: [`pauses`]. Start at [`select`].

pub mod pauses;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::operate::search::{MOVING, STATUSES};
use crate::store::verbs::{Audit, BATCH_ROWS, Filter, FoundNotification, VerbResult};
use crate::store::{Store, StoreError};

/// Statuses that are not final.
static PENDING: &[&str] = STATUSES.split_at(MOVING).0;

/// Final statuses from which a notification can be sent anew.
pub const REDRIVABLE: [&str; 4] = ["dead", "unresolved", "expired", "cancelled"];

/// What an operator knows or decides of a send in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The user received it: it ends as sent.
    Sent,
    /// The user did not receive it: it is sent.
    NotSent,
    /// It is sent, although the user may receive it twice.
    Retry,
}

impl Verdict {
    /// As `wxnotify_end_doubts` takes it.
    fn as_parameter(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::NotSent => "not_sent",
            Self::Retry => "retry",
        }
    }
}

/// What is done to notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Ends what is not yet sent.
    Cancel {
        /// Also what is in doubt: it ends `unresolved`.
        doubts: bool,
    },
    /// Gives another time.
    Reschedule {
        /// Not before.
        send_at: DateTime<Utc>,
        /// Not after; `None`: as it is.
        expire_at: Option<DateTime<Utc>>,
    },
    /// Sends final ones anew, each as a new row.
    Redrive {
        /// Not before; `None`: now.
        send_at: Option<DateTime<Utc>>,
        /// Not after; `None`: as it was, unless that has passed.
        expire_at: Option<DateTime<Utc>>,
    },
    /// Ends doubts.
    EndDoubts(Verdict),
}

impl Verb {
    /// As in `operator_actions.action`.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "cancel",
            Self::Reschedule { .. } => "reschedule",
            Self::Redrive { .. } => "redrive",
            Self::EndDoubts(Verdict::Sent) => "confirm_sent",
            Self::EndDoubts(Verdict::NotSent) => "confirm_not_sent",
            Self::EndDoubts(Verdict::Retry) => "retry_anyway",
        }
    }

    /// Whether a row's result says that the verb changed it.
    #[must_use]
    pub fn changed(&self, result: &str) -> bool {
        match self {
            Self::Cancel { doubts } => result == "cancelled" || (*doubts && result == "unresolved"),
            Self::Reschedule { .. } => result == "rescheduled",
            Self::Redrive { .. } => {
                matches!(result, "redriven" | "redriven, but its credit was gone")
            }
            Self::EndDoubts(_) => {
                matches!(
                    result,
                    "confirmed sent" | "confirmed not sent" | "sent again"
                )
            }
        }
    }

    /// Whether a row of this status will be changed, as far as can be told before.
    #[must_use]
    pub fn would_change(&self, status: &str) -> bool {
        match self {
            Self::Cancel { doubts } => {
                PENDING.contains(&status)
                    && status != "sending"
                    && (*doubts || status != "in_doubt")
            }
            Self::Reschedule { .. } => {
                PENDING.contains(&status) && !matches!(status, "sending" | "in_doubt")
            }
            Self::Redrive { .. } => REDRIVABLE.contains(&status),
            Self::EndDoubts(_) => status == "in_doubt",
        }
    }

    /// The statuses it is about when none are asked for; `None`: rows named by id are all looked at, so that each gets an answer.
    fn statuses(&self, by_id: bool) -> Option<Vec<String>> {
        let statuses: &[&str] = match (self, by_id) {
            (Self::Redrive { .. }, true) => &REDRIVABLE,
            (Self::Redrive { .. }, false) => &["dead"],
            (_, true) => return None,
            (Self::EndDoubts(_), false) => &["in_doubt"],
            (_, false) => PENDING,
        };
        Some(statuses.iter().map(ToString::to_string).collect())
    }

    fn check(&self) -> Result<(), VerbError> {
        match *self {
            Self::Reschedule {
                send_at,
                expire_at: Some(end),
            } if end <= send_at => Err(VerbError::EndsBeforeItBegins),
            _ => Ok(()),
        }
    }

    async fn apply_to(
        &self,
        store: &Store,
        ids: &[i64],
        filter: &Value,
        audit: &Audit,
    ) -> Result<Vec<VerbResult>, StoreError> {
        match *self {
            Self::Cancel { doubts } => store.cancel_notifications(ids, doubts, filter, audit).await,
            Self::Reschedule { send_at, expire_at } => {
                store
                    .reschedule_notifications(ids, Some(send_at), expire_at, filter, audit)
                    .await
            }
            Self::Redrive { send_at, expire_at } => {
                store
                    .redrive_notifications(ids, send_at, expire_at, filter, audit)
                    .await
            }
            Self::EndDoubts(verdict) => {
                store
                    .end_doubts(ids, verdict.as_parameter(), filter, audit)
                    .await
            }
        }
    }
}

/// Why a verb was not done, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// A filter without a condition. Nothing was changed: ask for one.
    #[error("nothing selected, and everything is never meant")]
    NothingSelected,

    /// `expire_at` is not after `send_at`, so nothing would be sent. Nothing was changed.
    #[error("expire_at is not after send_at, so nothing would be sent")]
    EndsBeforeItBegins,

    /// Nothing was changed; after a deadline, perhaps a batch was.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// A later batch failed. What is done stays done; the same verb goes on with the others.
    #[error("{changed} of {chosen} notifications were changed, then it failed")]
    Stopped {
        /// How many were changed.
        changed: usize,
        /// How many were to be.
        chosen: usize,
        /// What failed.
        source: StoreError,
    },
}

/// The rows a verb is to be done to.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Their ids, in the order in which they are changed.
    pub ids: Vec<i64>,
    /// Whether more match than were wanted.
    pub more: bool,
    /// Ids that were asked for and do not match.
    pub unmatched_ids: Vec<i64>,
    filter: Filter,
    /// What is known of them, where it was read on the way.
    found: Option<Vec<FoundNotification>>,
}

/// What a verb would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The rows as they are.
    pub rows: Vec<FoundNotification>,
    /// How many would be changed, as far as can be told before.
    pub would_change: usize,
}

/// What a verb did.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What became of each row.
    pub results: Vec<VerbResult>,
    /// How many were changed.
    pub changed: usize,
}

/// Chooses the rows that `filter` matches, at most `rows_max`. Without statuses in it, those that the verb is about.
///
/// # Errors
///
/// [`VerbError::NothingSelected`], [`VerbError::EndsBeforeItBegins`]; [`VerbError::Store`]: ask again.
pub async fn select(
    store: &Store,
    verb: &Verb,
    mut filter: Filter,
    rows_max: usize,
) -> Result<Selection, VerbError> {
    if filter.is_empty() {
        return Err(VerbError::NothingSelected);
    }
    verb.check()?;
    let by_id = filter.ids.is_some();
    if filter.statuses.is_none() {
        filter.statuses = verb.statuses(by_id);
    }
    let mut found = match verb {
        Verb::Redrive { .. } => Some(store.find_redrivable(&filter, rows_max + 1).await?),
        _ if by_id => Some(store.find_notifications(&filter, rows_max + 1).await?),
        _ => None,
    };
    let mut ids = match &found {
        Some(found) => found.iter().map(|row| row.id).collect(),
        None => store.find_ids(&filter, rows_max + 1).await?,
    };
    let more = ids.len() > rows_max;
    ids.truncate(rows_max);
    if let Some(found) = &mut found {
        found.truncate(rows_max);
    }
    let asked = filter.ids.iter().flatten();
    let unmatched_ids = asked.filter(|id| !ids.contains(id)).copied().collect();
    Ok(Selection {
        ids,
        more,
        unmatched_ids,
        filter,
        found,
    })
}

/// Says what the chosen rows are, and how many would be changed. Nothing is changed, nothing written down.
///
/// # Errors
///
/// [`VerbError::Store`]: ask again.
pub async fn preview(
    store: &Store,
    verb: &Verb,
    selection: &Selection,
) -> Result<Preview, VerbError> {
    let rows = match &selection.found {
        Some(found) => found.clone(),
        None => look_at(store, selection).await?,
    };
    let would_change = rows
        .iter()
        .filter(|row| verb.would_change(&row.status))
        .count();
    Ok(Preview { rows, would_change })
}

/// What is known of these rows, a batch at a time: to ask for the status of very many at once takes a minute.
async fn look_at(
    store: &Store,
    selection: &Selection,
) -> Result<Vec<FoundNotification>, StoreError> {
    let mut found = Vec::with_capacity(selection.ids.len());
    for batch in selection.ids.chunks(BATCH_ROWS) {
        let filter = Filter {
            ids: Some(batch.to_vec()),
            ..selection.filter.clone()
        };
        found.extend(store.find_notifications(&filter, batch.len()).await?);
    }
    Ok(found)
}

/// Does it, in batches of a transaction each; `on_batch` hears how many rows are done after each.
///
/// # Errors
///
/// [`VerbError::Store`]: the first batch failed. [`VerbError::Stopped`]: a later one, and what is done stays done.
pub async fn apply(
    store: &Store,
    verb: &Verb,
    selection: &Selection,
    audit: &Audit,
    mut on_batch: impl FnMut(usize),
) -> Result<Applied, VerbError> {
    let filter = serde_json::to_value(&selection.filter)
        .expect("a filter holds numbers and strings, which serialise");
    let mut results: Vec<VerbResult> = Vec::with_capacity(selection.ids.len());
    let count = |results: &[VerbResult]| {
        let changed = results.iter().filter(|row| verb.changed(&row.result));
        changed.count()
    };
    for batch in selection.ids.chunks(BATCH_ROWS) {
        match verb.apply_to(store, batch, &filter, audit).await {
            Ok(changed) => results.extend(changed),
            Err(source) if results.is_empty() => return Err(source.into()),
            Err(source) => {
                return Err(VerbError::Stopped {
                    changed: count(&results),
                    chosen: selection.ids.len(),
                    source,
                });
            }
        }
        on_batch(results.len());
    }
    results.extend(selection.unmatched_ids.iter().map(|&id| VerbResult {
        id,
        result: "no match".to_owned(),
        new_id: None,
    }));
    Ok(Applied {
        changed: count(&results),
        results,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verb_without_ids_is_about_rows_it_can_change_and_with_ids_about_all_of_them() {
        let cancel = Verb::Cancel { doubts: false };
        let redrive = Verb::Redrive {
            send_at: None,
            expire_at: None,
        };
        assert_eq!(cancel.statuses(true), None);
        assert_eq!(cancel.statuses(false).unwrap(), PENDING);
        assert_eq!(redrive.statuses(true).unwrap(), REDRIVABLE);
        assert_eq!(redrive.statuses(false).unwrap(), ["dead"]);
        let verdict = Verb::EndDoubts(Verdict::Retry);
        assert_eq!(verdict.statuses(false).unwrap(), ["in_doubt"]);
    }

    #[test]
    fn a_row_in_flight_or_in_doubt_is_not_among_those_that_a_cancel_would_change() {
        let cancel = Verb::Cancel { doubts: false };
        assert!(!cancel.would_change("sending") && !cancel.would_change("in_doubt"));
        assert!(cancel.would_change("due") && !cancel.would_change("sent"));
        assert!(Verb::Cancel { doubts: true }.would_change("in_doubt"));
        assert!(!cancel.changed("unresolved") && !cancel.changed("busy"));
    }
}
