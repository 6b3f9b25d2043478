//! The operators' commands: their arguments, and their answers in words.
//!
//! Every command makes a [`Report`]: a document for `--json`, text and tables for people. Commands that change
//! notifications take a [selection](selection::SelectionArgs), refuse an empty one, can be tried with `--dry-run`, change
//! at most `--limit` rows and leave a row in `operator_actions`.
//!
//! They end with [`Exit::InPart`] when rows were left, because they are in flight or in doubt or more match than `--limit`, or
//! when the notification asked for does not exist.
//!
//! Start at [`run`].

pub mod apps;
pub mod batches;
pub mod changes;
pub mod checks;
pub mod credits;
pub mod events;
pub mod find;
pub mod forecast;
pub mod looks;
pub mod new_schedule;
pub mod paced;
pub mod past;
pub mod person;
pub mod quiet;
pub mod quota;
pub mod rid;
pub mod schedules;
pub mod selection;
pub mod templates;
pub mod tokens;
pub mod top;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use sqlx::Connection;

use crate::config::Settings;
use crate::exit::{Exit, Output};
use crate::legible::{command, legible};
use crate::lookups::{LookupError, Lookups};
use crate::operate::doctor;
use crate::operate::report::{Report, Style};
use crate::operate::verbs::pauses::TargetError;
use crate::store::verbs::Audit;
use crate::store::{Store, StoreError, describe};
use crate::wechat::account::AccountError;
use crate::worker;

/// How long a statement of an operator may take: people wait longer than workers.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the database may take to answer at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

const CHECK_DATABASE: &str = "check DATABASE_URL and that Postgres is running";

/// The operators' commands.
#[derive(Debug, Subcommand)]
pub enum OperateCommand {
    /// Register, list, pause and resume mini-programs
    #[command(subcommand)]
    App(apps::AppCommand),
    /// Read templates from WeChat, list, check, pause and resume them
    #[command(subcommand)]
    Template(templates::TemplateCommand),
    /// Look at the access tokens (never at the tokens themselves)
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// The day's quota and the rate of each mini-program; clear a quota
    Quota(quota::QuotaArgs),
    /// What WeChat saw of a failed call, without its secrets
    Rid(rid::RidArgs),
    /// Store events of WeChat that reached another program
    #[command(subcommand)]
    Event(events::EventCommand),
    /// Reminders: schedules, their times, and what became of each
    #[command(subcommand)]
    Schedule(schedules::ScheduleCommand),
    /// Functions of the business that say whether a reminder is still true
    #[command(subcommand)]
    Check(checks::CheckCommand),
    /// Quiet hours: when reminders, retries, redrives and the end of a pause wait
    #[command(subcommand)]
    Quiet(quiet::QuietCommand),
    /// What goes out in the next seven days, and what will lack a credit
    Forecast(forecast::ForecastArgs),
    /// One glance: backlog, doubts, failures, workers, pauses, tokens, and what to do next
    Status(looks::StatusArgs),
    /// The overview on the terminal, live; once with --once, for scripts with --json
    Top(top::TopArgs),
    /// Everything that would otherwise be found out too late, with the next step; exit code 1 when something fails
    Doctor(doctor::DoctorArgs),
    /// What happened to one notification, why, and what happens next
    Explain(looks::ExplainArgs),
    /// Find notifications by a whole key: id, openid, business_ref, dedup_key, msgid or rid
    Find(find::FindArgs),
    /// Show one notification's receiver and texts; that you looked is recorded
    Reveal(find::RevealArgs),
    /// Notifications as CSV or NDJSON on standard output, without receivers and texts; the export is recorded
    Export(find::ExportArgs),
    /// Everything that is kept of one user, as a file; and its erasure
    #[command(subcommand)]
    Person(person::PersonCommand),
    /// Attempts of the last 24 hours that failed, by errcode: what it means and what to do
    Failures(past::FailuresArgs),
    /// How long messages of the last hour took, from due to sent and to confirmed
    Latency(past::LatencyArgs),
    /// Who did what: every verb of operators, with its reason
    Actions(past::ActionsArgs),
    /// Verbs over many rows at a pace: how far they are; stop, go on with, or undo one
    #[command(subcommand)]
    Batch(batches::BatchCommand),
    /// Dead letters: notifications that could not be sent
    Dead(looks::DeadArgs),
    /// Notifications whose send may have arrived and whose reply was lost
    #[command(subcommand)]
    Doubt(changes::DoubtCommand),
    /// One user's credits: accepted, spent, left, and where the books do not balance
    Credits(credits::CreditsArgs),
    /// Send final notifications anew, each as a new row
    Redrive(changes::RedriveArgs),
    /// Cancel notifications not yet sent
    Cancel(changes::CancelArgs),
    /// Give notifications another time
    Reschedule(changes::RescheduleArgs),
}

/// Connects, runs the command and prints its report on standard output.
///
/// # Errors
///
/// [`OperateError`]: wrong usage, or a database that cannot be reached, lacks the schema or refuses the command. The
/// message says what to do next.
pub async fn run(
    command: OperateCommand,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let address = settings.database.clone();
    // The pool would go on trying to connect; a person wants to hear at once that the database is away.
    let failed = match address.connect(CONNECT_DEADLINE).await {
        Ok(connection) => {
            connection.close().await.unwrap_or_default();
            None
        }
        Err(source) => Some(source),
    };
    if let Some(source) = failed {
        if matches!(command, OperateCommand::Doctor(_)) {
            return print(
                &doctor::unreachable_database(&why_no_connection(&source)),
                output,
            );
        }
        return Err(no_connection(&source));
    }
    let store = Store::connect_lazy(address, settings.route(), 1, DEADLINE);
    if let OperateCommand::Top(args) = &command
        && !args.once
        && !output.json
    {
        let is_coloured = Style::of_stdout(output.color) != Style::PLAIN;
        top::watch(args, &store, is_coloured).await?;
        return Ok(Exit::Done.into());
    }
    let operator = Operator {
        store: &store,
        settings: Some(settings),
    };
    let result = execute_as(command, &operator).await;
    store.pool.close().await;
    print(&result?, output)
}

/// Answers a command that needs neither settings nor a database; `None`: it needs them.
pub fn run_alone(command: &OperateCommand, output: Output) -> Option<anyhow::Result<ExitCode>> {
    let OperateCommand::Schedule(command) = command else {
        return None;
    };
    let report = schedules::answer_alone(command)?;
    Some(report.and_then(|report| print(&report, output)))
}

/// Prints a report on standard output; its exit code.
fn print(report: &Report, output: Output) -> anyhow::Result<ExitCode> {
    let text = if output.json && !report.is_file() {
        report.to_json()
    } else {
        report.to_text(Style::of_stdout(output.color))
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(report.exit().into())
}

/// Runs the command and gives its report unprinted.
///
/// # Errors
///
/// As [`run`].
pub async fn execute(command: OperateCommand, store: &Store) -> anyhow::Result<Report> {
    let settings = None;
    execute_as(command, &Operator { store, settings }).await
}

/// As [`execute`], for commands that speak with WeChat too.
///
/// # Errors
///
/// As [`run`].
pub async fn execute_as(
    command: OperateCommand,
    operator: &Operator<'_>,
) -> anyhow::Result<Report> {
    let store = operator.store;
    let outcome = match command {
        OperateCommand::App(command) => apps::run(command, store).await,
        OperateCommand::Template(command) => templates::run(command, operator).await,
        OperateCommand::Quota(args) => quota::run(args, operator).await,
        OperateCommand::Rid(args) => rid::run(args, operator).await,
        OperateCommand::Token(command) => tokens::run(command, store).await,
        OperateCommand::Event(command) => events::run(command, store).await,
        OperateCommand::Schedule(command) => schedules::run(command, store).await,
        OperateCommand::Check(command) => checks::run(command, store).await,
        OperateCommand::Quiet(command) => quiet::run(command, store).await,
        OperateCommand::Forecast(args) => forecast::run(args, store).await,
        OperateCommand::Status(args) => looks::status(args, store).await,
        OperateCommand::Top(args) => top::look_once(&args, store).await,
        OperateCommand::Doctor(args) => doctor::run(args, operator).await,
        OperateCommand::Explain(args) => looks::explain(args, store).await,
        OperateCommand::Find(args) => find::find(args, store).await,
        OperateCommand::Reveal(args) => find::reveal(args, store).await,
        OperateCommand::Export(args) => find::export(args, store).await,
        OperateCommand::Person(command) => person::run(command, store).await,
        OperateCommand::Failures(args) => past::failures(args, store).await,
        OperateCommand::Latency(args) => past::latency(args, store).await,
        OperateCommand::Actions(args) => past::actions(args, store).await,
        OperateCommand::Batch(command) => batches::run(command, store).await,
        OperateCommand::Dead(args) => looks::dead(args, store).await,
        OperateCommand::Doubt(command) => changes::run_doubt(command, store).await,
        OperateCommand::Credits(args) => credits::run(args, store).await,
        OperateCommand::Redrive(args) => changes::redrive(args, store).await,
        OperateCommand::Cancel(args) => changes::cancel(args, store).await,
        OperateCommand::Reschedule(args) => changes::reschedule(args, store).await,
    };
    outcome.map_err(with_next_step)
}

/// Where a command works, and as whom.
#[derive(Debug, Clone, Copy)]
pub struct Operator<'a> {
    /// The database.
    pub store: &'a Store,
    /// Where the secrets are that speaking with WeChat takes; `None`: nowhere.
    pub settings: Option<&'a Settings>,
}

impl Operator<'_> {
    /// What asks WeChat about a mini-program; `None`: its secret is not set here.
    fn lookups(&self, appid: &str) -> anyhow::Result<Option<Lookups>> {
        let Some(settings) = self.settings else {
            return Ok(None);
        };
        let app = settings.apps.get(appid);
        if app.is_none_or(|app| app.secret.is_none()) {
            return Ok(None);
        }
        let name = format!("operator {}", operating_system_user());
        let (wechat, tokens) = worker::reach_wechat(settings, self.store, &name)?;
        Ok(Some(Lookups::new(self.store.clone(), wechat, tokens, name)))
    }

    /// As [`Self::lookups`], for commands that no worker can do instead.
    fn need_lookups(&self, appid: &str) -> anyhow::Result<Lookups> {
        self.lookups(appid)?.ok_or_else(|| {
            OperateError::usage(
                format!("WeChat is asked with the secret of app {appid}, which is not set here"),
                format!(
                    "set WXNOTIFY_APPSECRET_{appid} or WXNOTIFY_APPSECRET_FILE_{appid}, as the workers have it"
                ),
            )
            .into()
        })
    }
}

/// What an operator does about a question that WeChat did not answer.
fn account_step(appid: &str, error: &LookupError) -> String {
    match (error, error.errcode()) {
        (LookupError::Account(_), Some(45009)) => {
            "this call's own daily quota is used up; it returns at 00:00 China time".to_owned()
        }
        (LookupError::Account(_), Some(48001 | 61007)) => {
            format!("app {appid} may not make this call: check its permissions at mp.weixin.qq.com")
        }
        (LookupError::Account(AccountError::Refused { .. }), Some(errcode)) => format!(
            "look errcode {errcode} up: `select meaning_en, advice from wechat_errcodes where errcode = {errcode}`"
        ),
        (LookupError::Account(_), _) => {
            "check the network between here and api.weixin.qq.com, then try again".to_owned()
        }
        (LookupError::Token(_), _) => {
            format!(
                "check the AppSecret of {appid} and this server's address in the IP whitelist at mp.weixin.qq.com"
            )
        }
        (LookupError::Store(_), _) => "check the database, then try again".to_owned(),
    }
}

/// A failure of asking WeChat, with the next step.
fn unanswered(appid: &str, error: &LookupError) -> anyhow::Error {
    OperateError::new(Exit::Failed, error.to_string(), account_step(appid, error)).into()
}

/// Why a command was not done, in words for the person at the keyboard, and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{message}{next}", message = legible(message), next = next.as_ref().map(|next| format!("\nnext: {}", legible(next))).unwrap_or_default())]
pub struct OperateError {
    /// What was not done, and why: one line, whatever is quoted in it.
    pub message: String,
    /// What to do next.
    pub next: Option<String>,
    /// What the process ends with.
    pub exit: Exit,
}

impl OperateError {
    fn new(exit: Exit, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            next: Some(next.into()),
            exit,
        }
    }

    /// The command line does not say what to do; nothing was changed.
    fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message, next)
    }
}

/// Adds to an error of the database, or about an unknown app or template, what the person at the keyboard does about it.
fn with_next_step(error: anyhow::Error) -> anyhow::Error {
    if let Some(failed) = error.downcast_ref::<StoreError>() {
        return explain_store_error(failed).into();
    }
    match error.downcast_ref::<TargetError>() {
        Some(unknown) => explain_target_error(unknown).into(),
        None => error,
    }
}

/// What a failure of the database means for an operator.
fn explain_store_error(failed: &StoreError) -> OperateError {
    match failed {
        StoreError::Deadline { .. } => OperateError::new(
            Exit::Unavailable,
            failed.to_string(),
            "look with `wxnotify status` whether it took effect, then try again",
        ),
        StoreError::Database {
            source: sqlx::Error::Database(refused),
            ..
        } => explain_refusal(&**refused),
        StoreError::Database { source, .. } => OperateError::new(
            Exit::of_database_error(source).unwrap_or(Exit::Failed),
            format!("the database did not answer: {}", describe(source)),
            CHECK_DATABASE,
        ),
    }
}

/// What an operator does about an app or template that is not known.
fn explain_target_error(unknown: &TargetError) -> OperateError {
    match unknown {
        TargetError::UnknownApp { appid, known } => {
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            OperateError::usage(
                format!("{unknown}; registered: {known}"),
                command("wxnotify app add {}", &[appid]),
            )
        }
        TargetError::UnknownTemplate { appid, .. } => OperateError::usage(
            format!("{unknown}: WeChat never listed it, and it was never paused"),
            format!(
                "{}, or {}",
                command("wxnotify template list --appid {}", &[appid]),
                command("wxnotify template sync {}", &[appid])
            ),
        ),
        TargetError::Store(failed) => explain_store_error(failed),
    }
}

/// What the database, or the way to it, said.
fn why_no_connection(source: &sqlx::Error) -> String {
    match source {
        sqlx::Error::Database(refused) => refused.message().to_owned(),
        other => describe(other),
    }
}

/// The database cannot be reached, or does not let us in.
fn no_connection(source: &sqlx::Error) -> anyhow::Error {
    let why = why_no_connection(source);
    OperateError::new(
        Exit::Unavailable,
        format!("the database cannot be used: {why}"),
        CHECK_DATABASE,
    )
    .into()
}

/// What a refusal of the database means for an operator.
fn explain_refusal(refused: &dyn sqlx::error::DatabaseError) -> OperateError {
    let message = refused.message();
    match refused.code().as_deref() {
        // undefined_table, undefined_function, undefined_column, undefined_object
        Some("42P01" | "42883" | "42703" | "42704") => OperateError::new(
            Exit::Unavailable,
            format!("the schema is missing or older than this program: {message}"),
            "run `wxnotify migrate`",
        ),
        Some("42501") => OperateError::new(
            Exit::Failed,
            format!("the database user may not do this: {message}"),
            "connect as the owner of the tables, or ask for the right",
        ),
        Some("55P03") => OperateError::new(
            Exit::Failed,
            format!("a long transaction holds the table: {message}"),
            "try again when it has ended; pg_stat_activity names it",
        ),
        Some(code)
            if ["08", "28", "3D", "57"]
                .iter()
                .any(|class| code.starts_with(class)) =>
        {
            OperateError::new(
                Exit::Unavailable,
                format!("the database cannot be used: {message}"),
                CHECK_DATABASE,
            )
        }
        _ => OperateError {
            message: message.to_owned(),
            next: refused
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .and_then(|refused| refused.hint())
                .map(str::to_owned),
            exit: Exit::Failed,
        },
    }
}

/// The audit data of a command: the person at the keyboard as the operating system knows them.
fn audit(note: Option<String>) -> Audit {
    Audit {
        actor: operating_system_user(),
        note,
    }
}

#[cfg(unix)]
fn operating_system_user() -> String {
    // Behind sudo the person is the one who called it.
    std::env::var("SUDO_USER").ok().unwrap_or_else(|| {
        let uid = nix::unistd::getuid();
        match nix::unistd::User::from_uid(uid) {
            Ok(Some(user)) => user.name,
            _ => format!("uid {uid}"),
        }
    })
}

#[cfg(not(unix))]
fn operating_system_user() -> String {
    std::env::var("USERNAME").unwrap_or_default()
}
