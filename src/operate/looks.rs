//! The commands that only look: `status`, `explain`, `dead`, `doubt list`.
//!
//! Start at [`status`].

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};

use super::report::{Report, Table, Tone, age, cell, moment, optional};
use super::selection::Selection;
use super::templates::stranded_step;
use crate::legible::{command, few};
use crate::store::operators::{
    Backlog, Blocker, DeadCount, Explanation, Failure, LiveWorker, Pause, TokenState,
};
use crate::store::templates::Stranded;
use crate::store::{Punishment, Store};

/// `wxnotify status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this mini-program
    #[arg(long)]
    pub appid: Option<String>,
}

/// `wxnotify explain`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The notification
    pub id: i64,
    /// 用中文说明 (in Chinese)
    #[arg(long)]
    pub zh: bool,
}

/// `wxnotify dead`
#[derive(Debug, Args)]
pub struct DeadArgs {
    /// Which ones.
    #[command(flatten)]
    pub selection: Selection,
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// `wxnotify doubt list`
#[derive(Debug, Args)]
pub struct DoubtListArgs {
    /// Which ones.
    #[command(flatten)]
    pub selection: Selection,
    /// Show at most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// How many entries of a list `status` shows: producers can make any number of appids and templates.
const LIST_MAX: usize = 50;

/// Everything `status` shows.
struct Glance {
    backlog: Vec<Backlog>,
    doubts: i64,
    failures: Vec<Failure>,
    dead: Vec<DeadCount>,
    workers: Vec<LiveWorker>,
    blockers: Vec<Blocker>,
    pauses: Vec<Pause>,
    tokens: Vec<TokenState>,
    stranded: Vec<Stranded>,
    punishments: Vec<Punishment>,
}

impl Glance {
    /// Takes out the mini-programs that rows name and nobody registered: whoever inserts can make any number.
    fn take_unknown_apps(&mut self) -> Vec<String> {
        let (unknown, pauses) = self.pauses.drain(..).partition(is_of_unknown_app);
        self.pauses = pauses;
        unknown
            .into_iter()
            .map(|pause: Pause| pause.appid)
            .collect()
    }

    /// Cuts each list that others can lengthen to [`LIST_MAX`], registered mini-programs first; how many entries each lost.
    fn bound(&mut self, unknown: &[String]) -> BTreeMap<&'static str, usize> {
        let unknown: BTreeSet<&str> = unknown.iter().map(String::as_str).collect();
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
        left_out.into_iter().filter(|(_, lost)| *lost > 0).collect()
    }
}

fn cut<T>(list: &mut Vec<T>) -> usize {
    list.split_off(list.len().min(LIST_MAX)).len()
}

fn first(list: &[String]) -> &[String] {
    &list[..list.len().min(LIST_MAX)]
}

fn say_left_out(report: &mut Report, left_out: &BTreeMap<&str, usize>, list: &str, what: &str) {
    if let Some(lost) = left_out.get(list) {
        report.line(format!("… and {lost} more {what}"));
    }
}

pub(super) async fn status(args: StatusArgs, store: &Store) -> anyhow::Result<Report> {
    let appid = args.appid.as_deref();
    let mut glance = Glance {
        backlog: store.backlog(appid).await?,
        doubts: store.count_doubts(appid).await?,
        failures: store.failures_of_last_day(appid).await?,
        dead: store.dead_letters_of_last_day(appid).await?,
        workers: store.live_workers().await?,
        blockers: store.blockers(appid).await?,
        pauses: store.pauses(appid).await?,
        tokens: store.token_states(appid).await?,
        stranded: store.stranded(appid).await?,
        punishments: store.punishments(appid).await?,
    };
    let oldest = glance.backlog.iter().filter_map(|row| row.oldest_due).min();
    let unknown = glance.take_unknown_apps();
    let left_out = glance.bound(&unknown);
    let steps = next_steps(&glance, &unknown, oldest);
    let mut report = Report::new(json!({
        "backlog": glance.backlog, "oldest_due": oldest, "in_doubt": glance.doubts, "failures_last_day": glance.failures,
        "dead_last_day": glance.dead, "workers": glance.workers, "blockers": glance.blockers, "pauses": glance.pauses, "tokens": glance.tokens,
        "stranded": glance.stranded, "punishments_last_week": glance.punishments, "next_steps": steps,
        "unknown_apps": first(&unknown), "left_out": left_out,
    }));
    show_backlog(&mut report, &glance, oldest);
    say_left_out(&mut report, &left_out, "backlog", "mini-programs");
    show_workers(&mut report, &glance.workers);
    show_pauses(&mut report, &glance.pauses);
    say_left_out(&mut report, &left_out, "pauses", "pauses");
    show_dead(&mut report, &glance.dead);
    say_left_out(&mut report, &left_out, "dead_last_day", "lines");
    show_failures(&mut report, &glance.failures);
    say_left_out(&mut report, &left_out, "failures_last_day", "lines");
    show_tokens(&mut report, &glance.tokens);
    if steps.is_empty() {
        report.heading("Nothing needs you.");
    } else {
        report.heading("To do");
        for step in steps {
            report.next(step);
        }
    }
    Ok(report)
}

/// What is wrong and what to do about it, the most urgent first.
fn next_steps(glance: &Glance, unknown: &[String], oldest: Option<DateTime<Utc>>) -> Vec<String> {
    let mut steps = Vec::new();
    let waiting = glance
        .backlog
        .iter()
        .any(|row| matches!(row.status.as_str(), "due" | "retrying" | "scheduled"));
    if glance.workers.is_empty() && waiting {
        steps.push("rows wait and no worker is alive: start one with `wxnotify run`".to_owned());
    }
    if let [first, others @ ..] = unknown {
        let first = command("wxnotify app add {}", &[first]);
        steps.push(if others.is_empty() {
            format!("rows wait for an app that is not registered: {first}, or correct what inserts such an appid")
        } else {
            format!(
                "rows wait for {} apps that are not registered ({}): {first} and so on, or correct what inserts such appids",
                unknown.len(),
                few(unknown)
            )
        });
    }
    steps.extend(glance.blockers.iter().map(|blocker| {
        let since = blocker.since;
        format!(
            "{}{}, and workers wait for it: let it commit or roll back, or `{}`",
            blocker.sentence(),
            since.map_or_else(String::new, |since| format!(", for {}", age(since))),
            blocker.end_with
        )
    }));
    steps.extend(glance.stranded.iter().map(stranded_step));
    let is_stranded = |pause: &Pause| {
        let of = |row: &Stranded| pause.template_id.as_ref() == Some(&row.template_id);
        glance
            .stranded
            .iter()
            .any(|row| row.appid == pause.appid && of(row))
    };
    for pause in glance.pauses.iter().filter(|pause| pause.needs_operator) {
        if is_stranded(pause) {
            continue;
        }
        let what = pause.template_id.as_deref().map_or_else(
            || format!("app {}", pause.appid),
            |template| format!("template {template} of app {}", pause.appid),
        );
        let why = pause
            .meaning
            .as_deref()
            .or(pause.reason.as_deref())
            .unwrap_or("paused");
        steps.push(format!(
            "{what} sends nothing ({why}): mend the cause, then {}",
            resume_command(pause)
        ));
    }
    for punishment in &glance.punishments {
        steps.push(format!(
            "{} ({} ago): read the notices at mp.weixin.qq.com and the view wechat_punishments",
            punishment.sentence(),
            age(punishment.punished_at)
        ));
    }
    let late = oldest.is_some_and(|since| (Utc::now() - since).num_minutes() >= 5);
    if late && !glance.workers.is_empty() {
        steps.push(
            "the oldest due row is more than 5 minutes late: add workers, or look for a rate limit (`wxnotify app list`) and at each row's reason (sql/operator/what_is_stuck.sql)"
                .to_owned(),
        );
    }
    if glance.doubts > 0 {
        steps.push(format!(
            "{} in doubt: `wxnotify doubt list`; those with on_doubt = 'hold' wait for you",
            glance.doubts
        ));
    }
    let day_ago = Utc::now() - chrono::TimeDelta::days(1);
    for token in &glance.tokens {
        if token.last_foreign_at.is_some_and(|at| at > day_ago) {
            steps.push(format!(
                "another program refreshes the token of app {} by force: let it use getStableAccessToken in normal mode",
                token.appid
            ));
        }
    }
    for failure in glance.failures.iter().filter(|failure| failure.dead > 0) {
        steps.push(format!(
            "{} died of {} on app {}: {}",
            failure.dead,
            failure
                .errcode
                .map_or("a lost connection".to_owned(), |code| format!(
                    "errcode {code}"
                )),
            failure.appid,
            failure.advice
        ));
    }
    steps
}

/// Whether it stands for rows of a mini-program that nobody registered.
pub(super) fn is_of_unknown_app(pause: &Pause) -> bool {
    pause.resume_with.starts_with("wxnotify app add ")
}

/// What ends a pause.
pub(super) fn resume_command(pause: &Pause) -> String {
    match &pause.template_id {
        Some(template_id) => command(
            "wxnotify template resume {} {}",
            &[&pause.appid, template_id],
        ),
        None => command("wxnotify app resume {}", &[&pause.appid]),
    }
}

fn show_backlog(report: &mut Report, glance: &Glance, oldest: Option<DateTime<Utc>>) {
    report.heading("Backlog");
    if glance.backlog.is_empty() {
        report.line("empty");
        return;
    }
    /// Rows, since when the oldest is due, whether there are more, and the app's name.
    type Sum<'a> = (i64, Option<DateTime<Utc>>, bool, Option<&'a str>);
    let mut sums: BTreeMap<(&str, &str), Sum<'_>> = BTreeMap::new();
    for row in &glance.backlog {
        let sum =
            sums.entry((&row.appid, &row.status))
                .or_insert((0, None, false, row.app.as_deref()));
        sum.0 += row.rows;
        sum.1 = [sum.1, row.oldest_due].into_iter().flatten().min();
        sum.2 |= row.more;
    }
    let mut table = Table::new(&["appid", "name", "status", "rows#", "late"]);
    for ((appid, status), (rows, oldest, more, name)) in sums {
        let rows = if more {
            format!("{rows}+")
        } else {
            rows.to_string()
        };
        table.row(vec![
            cell(appid),
            optional(name),
            (status.to_owned(), Tone::of_status(status)),
            cell(rows),
            optional(oldest.map(age)),
        ]);
    }
    report.table(table);
    report.line(format!(
        "oldest due: {}; in doubt: {}",
        oldest.map_or("-".to_owned(), |since| format!("{} ago", age(since))),
        glance.doubts
    ));
}

fn show_workers(report: &mut Report, workers: &[LiveWorker]) {
    report.heading("Workers");
    if workers.is_empty() {
        report.toned_line("none alive", Tone::Bad);
        return;
    }
    let mut table = Table::new(&["worker", "version", "apps", "in flight#", "up", "last seen"]);
    for worker in workers {
        table.row(vec![
            cell(format!("{}#{}", worker.name, worker.epoch)),
            cell(&worker.version),
            cell(worker.appids.join(" ")),
            cell(worker.in_flight),
            cell(age(worker.started_at)),
            cell(format!("{} ago", age(worker.heartbeat_at))),
        ]);
    }
    report.table(table);
}

fn show_pauses(report: &mut Report, pauses: &[Pause]) {
    if pauses.is_empty() {
        return;
    }
    report.heading("Paused");
    let mut table = Table::new(&["appid", "template", "reason", "until"]);
    for pause in pauses {
        table.row(vec![
            cell(&pause.appid),
            optional(pause.template_id.as_ref()),
            optional(pause.reason.as_ref().or(pause.meaning.as_ref())),
            if pause.needs_operator {
                ("an operator acts".to_owned(), Tone::Bad)
            } else {
                moment(pause.paused_until)
            },
        ]);
    }
    report.table(table);
}

fn show_dead(report: &mut Report, dead: &[DeadCount]) {
    report.heading("Dead letters, last 24 hours");
    if dead.is_empty() {
        report.line("none");
        return;
    }
    let mut table = Table::new(&["appid", "status", "rows#", "redriven#", "meaning"]);
    for row in dead {
        table.row(vec![
            cell(&row.appid),
            (row.status.clone(), Tone::of_status(&row.status)),
            cell(row.rows),
            cell(row.redriven),
            optional(row.meaning.as_ref()),
        ]);
    }
    report.table(table);
}

fn show_failures(report: &mut Report, failures: &[Failure]) {
    if failures.is_empty() {
        return;
    }
    report.heading("Failed attempts, last 24 hours");
    let mut table = Table::new(&[
        "appid",
        "errcode#",
        "attempts#",
        "dead#",
        "doubts#",
        "meaning",
    ]);
    for failure in failures {
        table.row(vec![
            cell(&failure.appid),
            optional(failure.errcode),
            cell(failure.attempts),
            cell(failure.dead),
            cell(failure.doubts),
            cell(&failure.meaning),
        ]);
    }
    report.table(table);
}

fn show_tokens(report: &mut Report, tokens: &[TokenState]) {
    let fetched: Vec<String> = tokens
        .iter()
        .filter(|token| token.expires_at.is_some())
        .map(|token| {
            let state = if token.valid { "valid" } else { "expired" };
            format!("{} {state}", token.appid)
        })
        .collect();
    if !fetched.is_empty() {
        report.heading("Tokens");
        report.line(fetched.join(", "));
    }
}

pub(super) async fn explain(args: ExplainArgs, store: &Store) -> anyhow::Result<Report> {
    let story = store.explain_notification(args.id).await?;
    let mut report = Report::new(&story);
    report.toned_line(
        format!("{}  {}", story.id, story.status),
        Tone::of_status(&story.status),
    );
    if args.zh {
        report.line(&story.sentence_zh).next(&story.what_next_zh);
    } else {
        report.line(&story.sentence).next(&story.what_next);
    }
    show_timeline(&mut report, &story, args.zh);
    if story.status == "not found" {
        report.in_part();
    }
    Ok(report)
}

fn show_timeline(report: &mut Report, story: &Explanation, chinese: bool) {
    let Some(events) = story
        .timeline
        .as_array()
        .filter(|events| !events.is_empty())
    else {
        return;
    };
    report.heading("Timeline");
    let mut table = Table::new(&["at", "event", "details"]);
    for event in events {
        let at = event["at"].as_str().unwrap_or_default();
        let at = DateTime::parse_from_rfc3339(at).map(|at| at.with_timezone(&Utc));
        table.row(vec![
            moment(at.ok()),
            cell(event["event"].as_str().unwrap_or_default()),
            cell(details(event, chinese)),
        ]);
    }
    report.table(table);
}

/// What an event of the timeline holds beside its time and name, as `key value` pairs.
fn details(event: &Value, chinese: bool) -> String {
    let Some(fields) = event.as_object() else {
        return String::new();
    };
    let other_language = if chinese { "meaning" } else { "meaning_zh" };
    let shown = fields.iter().filter(|(key, _)| {
        !matches!(key.as_str(), "at" | "event" | "started_at" | "received_at")
            && key.as_str() != other_language
            // The meaning begins with the code.
            && !(key.as_str() == "errcode" && fields.contains_key("meaning"))
    });
    let words: Vec<String> = shown
        .map(|(key, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            match key.as_str() {
                "meaning" | "meaning_zh" => value,
                "response_ms" => format!("after {value} ms"),
                _ => format!("{} {value}", key.replace('_', " ")),
            }
        })
        .collect();
    words.join(", ")
}

pub(super) async fn dead(args: DeadArgs, store: &Store) -> anyhow::Result<Report> {
    let filter = args.selection.to_filter(None);
    let rows_max = args.limit as usize;
    let mut letters = store.dead_letters(&filter, rows_max + 1).await?;
    let more = letters.len() > rows_max;
    letters.truncate(rows_max);
    let mut report = Report::new(json!({ "dead_letters": letters, "more": more }));
    if letters.is_empty() {
        report.line("No dead letters match.");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "id#",
        "appid",
        "status",
        "ended",
        "tries#",
        "credit",
        "business ref",
        "redriven as#",
        "why",
    ]);
    for letter in &letters {
        table.row(vec![
            cell(letter.id),
            cell(&letter.appid),
            (letter.status.clone(), Tone::of_status(&letter.status)),
            moment(Some(letter.finished_at)),
            cell(letter.attempts),
            optional(letter.credit.as_ref()),
            optional(letter.business_ref.as_ref()),
            optional(letter.redriven_as),
            optional(letter.meaning.as_ref()),
        ]);
    }
    report.table(table);
    if more {
        report.line(format!(
            "The latest {rows_max} of more: raise --limit or narrow the selection."
        ));
    }
    report.next("`wxnotify explain ID` for one; mend the cause, then `wxnotify redrive --errcode CODE --dry-run`");
    Ok(report)
}

pub(super) async fn doubt_list(args: DoubtListArgs, store: &Store) -> anyhow::Result<Report> {
    let filter = args.selection.to_filter(None);
    let rows_max = args.limit as usize;
    let mut doubts = store.doubts(&filter, rows_max + 1).await?;
    let more = doubts.len() > rows_max;
    doubts.truncate(rows_max);
    let mut report = Report::new(json!({ "doubts": doubts, "more": more }));
    if doubts.is_empty() {
        report.line("Nothing is in doubt.");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "id#",
        "appid",
        "template",
        "business ref",
        "in doubt for",
        "events#",
        "next",
        "what next",
    ]);
    for doubt in &doubts {
        let what_next = if doubt.is_sending {
            "is being sent again"
        } else {
            &doubt.what_next
        };
        table.row(vec![
            cell(doubt.id),
            cell(&doubt.appid),
            cell(&doubt.template_id),
            optional(doubt.business_ref.as_ref()),
            (age(doubt.in_doubt_since), Tone::Warning),
            cell(doubt.events_since),
            moment(doubt.next_at),
            cell(what_next),
        ]);
    }
    report.table(table);
    if more {
        report.line(format!(
            "The oldest {rows_max} of more: raise --limit or narrow the selection."
        ));
    }
    report.next("if you know better: `wxnotify doubt confirm-sent --id ID`, `confirm-not-sent` or `retry-anyway`");
    Ok(report)
}
