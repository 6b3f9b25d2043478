//! What operators read at a glance, and what there is to do: data, without words.
//!
//! Start at [`Glance::read`], then [`Glance::steps`].

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::store::status::{
    Backlog, Blocker, DeadCount, DeadLetter, Doubt, Failure, LiveWorker, Pause, TokenState,
};
use crate::store::templates::Stranded;
use crate::store::verbs::Filter;
use crate::store::{Punishment, Store, StoreError};

/// How many entries of a list a glance shows: producers can make any number of appids and templates.
const LIST_MAX: usize = 50;

/// From when on the oldest due row is called late.
const LATE: TimeDelta = TimeDelta::minutes(5);

/// Everything at a glance.
#[derive(Debug, Clone)]
pub struct Glance {
    /// Rows not yet final by app, lane and status.
    pub backlog: Vec<Backlog>,
    /// Since when the oldest row has been due.
    pub oldest_due: Option<DateTime<Utc>>,
    /// How many notifications are in doubt.
    pub doubts: i64,
    /// What failed in the last 24 hours.
    pub failures: Vec<Failure>,
    /// What died in the last 24 hours.
    pub dead: Vec<DeadCount>,
    /// Workers that are alive.
    pub workers: Vec<LiveWorker>,
    /// Who holds what workers need.
    pub blockers: Vec<Blocker>,
    /// Registered apps and templates that send nothing now.
    pub pauses: Vec<Pause>,
    /// Access tokens, without the tokens.
    pub tokens: Vec<TokenState>,
    /// Rows on templates that WeChat does not list any more.
    pub stranded: Vec<Stranded>,
    /// What WeChat punished in the last week.
    pub punishments: Vec<Punishment>,
    /// Mini-programs that rows name and nobody registered: all of them.
    pub unknown_apps: Vec<String>,
    /// How many entries each list lost that was too long to be shown.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Something for a person to do.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Rows wait and no worker is alive.
    NoWorker,
    /// Rows wait for apps that nobody registered.
    UnknownApps(&'a [String]),
    /// Somebody holds what workers need.
    Blocked(&'a Blocker),
    /// Rows on a template that is gone.
    Stranded(&'a Stranded),
    /// A pause that does not end by itself.
    Paused(&'a Pause),
    /// WeChat punished the mini-program.
    Punished(&'a Punishment),
    /// The oldest due row is late although workers are alive.
    Late,
    /// So many are in doubt.
    Doubts(i64),
    /// Another program refreshes the token of this app by force.
    ForeignToken(&'a str),
    /// Messages died of this.
    Died(&'a Failure),
}

impl Glance {
    /// Reads it all; of one mini-program, or of all.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: ask again.
    pub async fn read(store: &Store, appid: Option<&str>) -> Result<Self, StoreError> {
        let backlog = store.backlog(appid).await?;
        let mut glance = Self {
            oldest_due: backlog.iter().filter_map(|row| row.oldest_due).min(),
            backlog,
            doubts: store.count_doubts(appid).await?,
            failures: store.failures_of_last_day(appid).await?,
            dead: store.dead_letters_of_last_day(appid).await?,
            workers: store.live_workers().await?,
            blockers: store.blockers(appid).await?,
            pauses: store.pauses(appid).await?,
            tokens: store.token_states(appid).await?,
            stranded: store.stranded(appid).await?,
            punishments: store.punishments(appid).await?,
            unknown_apps: Vec::new(),
            left_out: BTreeMap::new(),
        };
        glance.take_unknown_apps();
        glance.bound();
        Ok(glance)
    }

    /// Takes the mini-programs that nobody registered out of the pauses: whoever inserts can make any number.
    fn take_unknown_apps(&mut self) {
        let (unknown, pauses): (Vec<_>, Vec<_>) =
            self.pauses.drain(..).partition(Pause::is_of_unknown_app);
        self.pauses = pauses;
        self.unknown_apps = unknown.into_iter().map(|pause| pause.appid).collect();
    }

    /// Cuts each list that others can lengthen to [`LIST_MAX`], registered mini-programs first.
    fn bound(&mut self) {
        let unknown: BTreeSet<&str> = self.unknown_apps.iter().map(String::as_str).collect();
        let mut appids: Vec<String> = self.backlog.iter().map(|row| row.appid.clone()).collect();
        appids.dedup();
        appids.sort_by_key(|appid| unknown.contains(appid.as_str()));
        let lost = appids.split_off(appids.len().min(LIST_MAX));
        let lost_rows: BTreeSet<&str> = lost.iter().map(String::as_str).collect();
        self.backlog
            .retain(|row| !lost_rows.contains(row.appid.as_str()));
        let left_out = [
            ("backlog", lost.len()),
            ("unknown_apps", unknown.len().saturating_sub(LIST_MAX)),
            ("pauses", cut(&mut self.pauses)),
            ("dead_last_day", cut(&mut self.dead)),
            ("failures_last_day", cut(&mut self.failures)),
            ("stranded", cut(&mut self.stranded)),
            ("punishments_last_week", cut(&mut self.punishments)),
        ];
        self.left_out = left_out.into_iter().filter(|(_, lost)| *lost > 0).collect();
    }

    /// The first of the apps that nobody registered.
    #[must_use]
    pub fn first_unknown_apps(&self) -> &[String] {
        &self.unknown_apps[..self.unknown_apps.len().min(LIST_MAX)]
    }

    /// What there is to do, the most urgent first.
    #[must_use]
    pub fn steps(&self, now: DateTime<Utc>) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        let waits = |row: &Backlog| matches!(row.status.as_str(), "due" | "retrying" | "scheduled");
        if self.workers.is_empty() && self.backlog.iter().any(waits) {
            steps.push(Step::NoWorker);
        }
        if !self.unknown_apps.is_empty() {
            steps.push(Step::UnknownApps(&self.unknown_apps));
        }
        steps.extend(self.blockers.iter().map(Step::Blocked));
        steps.extend(self.stranded.iter().map(Step::Stranded));
        let needy = |pause: &&Pause| pause.needs_operator && !self.is_stranded(pause);
        steps.extend(self.pauses.iter().filter(needy).map(Step::Paused));
        steps.extend(self.punishments.iter().map(Step::Punished));
        if self.oldest_due.is_some_and(|since| now - since >= LATE) && !self.workers.is_empty() {
            steps.push(Step::Late);
        }
        if self.doubts > 0 {
            steps.push(Step::Doubts(self.doubts));
        }
        let day_ago = now - TimeDelta::days(1);
        let of_today = |token: &&TokenState| token.last_foreign_at.is_some_and(|at| at > day_ago);
        let tokens = self.tokens.iter().filter(of_today);
        steps.extend(tokens.map(|token| Step::ForeignToken(&token.appid)));
        let deadly = self.failures.iter().filter(|failure| failure.dead > 0);
        steps.extend(deadly.map(Step::Died));
        steps
    }

    fn is_stranded(&self, pause: &Pause) -> bool {
        let is_same = |row: &Stranded| {
            row.appid == pause.appid && pause.template_id.as_ref() == Some(&row.template_id)
        };
        self.stranded.iter().any(is_same)
    }
}

fn cut<T>(list: &mut Vec<T>) -> usize {
    list.split_off(list.len().min(LIST_MAX)).len()
}

/// The first rows of a list, and whether there are more.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// At most as many as were wanted.
    pub rows: Vec<T>,
    /// Whether more match.
    pub more: bool,
}

impl<T> Page<T> {
    /// `rows` is one longer than wanted where there are more.
    fn of(mut rows: Vec<T>, rows_max: usize) -> Self {
        let more = rows.len() > rows_max;
        rows.truncate(rows_max);
        Self { rows, more }
    }
}

/// The latest dead letters.
///
/// # Errors
///
/// [`StoreError`]: ask again.
pub async fn dead_letters(
    store: &Store,
    filter: &Filter,
    rows_max: usize,
) -> Result<Page<DeadLetter>, StoreError> {
    let rows = store.dead_letters(filter, rows_max + 1).await?;
    Ok(Page::of(rows, rows_max))
}

/// What is in doubt, the oldest first.
///
/// # Errors
///
/// [`StoreError`]: ask again.
pub async fn doubts(
    store: &Store,
    filter: &Filter,
    rows_max: usize,
) -> Result<Page<Doubt>, StoreError> {
    let rows = store.doubts(filter, rows_max + 1).await?;
    Ok(Page::of(rows, rows_max))
}
