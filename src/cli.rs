//! The command line: every command, what they share, and what the exit codes mean.
//!
//! A command's own arguments and its `run` live in its module; this one lists them, loads the settings,
//! starts the log, dispatches, and turns an error into words and an [`Exit`] code.
//!
//! Start at [`main`].

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgMatches, FromArgMatches, Parser, Subcommand, ValueEnum};
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use crate::config::{BadSettings, LogSettings, SETTINGS, Setting, Settings, Sources};
use crate::console;
use crate::demo;
use crate::exit::{Exit, Output};
use crate::legible::legible_lines;
use crate::limits;
use crate::operate;
use crate::operate::words::{Lang, set_reader};
use crate::postgres;
use crate::schema::{self, SchemaError, Standing, Step};
use crate::signals::StopSignals;
use crate::simulate;
use crate::store::{self, Route};
use crate::telemetry;
use crate::worker::{self, RunEnd, RunError, RunOptions};

/// How long connecting for a migration may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// The code that `error`, or whatever caused it, stands for.
fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(exit_of_cause)
        .unwrap_or(Exit::Failed)
}

fn exit_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if cause.is::<BadSettings>() {
        return Some(Exit::BadSettings);
    }
    if let Some(error) = cause.downcast_ref::<operate::OperateError>() {
        return Some(error.exit);
    }
    if cause.is::<postgres::PostgresError>() {
        return Some(Exit::Unavailable);
    }
    match cause.downcast_ref() {
        Some(RunError::Migrate(error)) => return exit_of_schema_error(error),
        Some(
            RunError::Schema { .. }
            | RunError::OtherText
            | RunError::ReadOnly(_)
            | RunError::Store(_),
        ) => {
            return Some(Exit::Unavailable);
        }
        _ => {}
    }
    if let Some(error) = cause.downcast_ref() {
        return exit_of_schema_error(error);
    }
    Exit::of_database_error(cause.downcast_ref()?)
}

fn exit_of_schema_error(error: &SchemaError) -> Option<Exit> {
    match error {
        SchemaError::TooOld { .. }
        | SchemaError::Busy { .. }
        | SchemaError::Encoding { .. }
        | SchemaError::Server { .. }
        | SchemaError::NoSchema
        | SchemaError::MayNotCreate { .. } => Some(Exit::Unavailable),
        SchemaError::Database { error, .. } => Exit::of_database_error(error),
        SchemaError::Text { .. } | SchemaError::Unreleased { .. } | SchemaError::InUse { .. } => {
            None
        }
    }
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// In which language to speak.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// 中文
    Zh,
    /// English
    En,
}

/// A durable notification queue worker for WeChat mini-program subscription messages.
///
/// Business systems INSERT a row into pending_notifications; `wxnotify run` sends it through WeChat and
/// records what happened. `wxnotify demo` shows it all on a bare machine.
#[derive(Debug, Parser)]
#[command(name = "wxnotify", version, max_term_width = 100, after_help = exit_codes_help())]
struct Cli {
    /// A TOML file of settings; environment variables and flags win over it [env: WXNOTIFY_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print results and errors as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Colour the output
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    /// The language of what is printed for people [default: by LC_ALL, LC_MESSAGES or LANG]; documents and logs are English
    #[arg(long, global = true, value_enum, value_name = "LANGUAGE")]
    lang: Option<Language>,
    #[command(flatten)]
    settings: SettingFlags<true>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it all on this machine: Postgres, a fake WeChat, a worker, rows of every fate, and a proof
    Demo(demo::Args),
    /// Create or update the tables and functions in the database
    Migrate(MigrateArgs),
    /// The worker: lease due notifications, send them, record what WeChat answered
    Run(Box<RunArgs>),
    /// Run a command with DATABASE_URL set to a throwaway Postgres
    Postgres(postgres::Args),
    /// Pages for operators: what needs somebody, any message, failures, dead letters, who did what
    Console(console::Args),
    /// A fake WeChat: tokens, credits, quotas, errcodes and faults, with a ledger of what happened
    Simulate(simulate::Args),
    #[command(flatten)]
    Operate(operate::OperateCommand),
}

/// `wxnotify migrate`
#[derive(Debug, clap::Args)]
struct MigrateArgs {
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the whole schema as one SQL script, for another tool to apply; no database is needed
    #[arg(long, conflicts_with = "dry_run")]
    print: bool,
}

/// What `wxnotify run` takes besides the shared settings.
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Apply migrations first
    #[arg(long)]
    migrate: bool,
    /// End when nothing is due
    #[arg(long)]
    until_empty: bool,
    /// End with code 69 when the database is away or a standby at the start, instead of waiting for it
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    settings: SettingFlags<false>,
}

fn exit_codes_help() -> String {
    let lines = Exit::MEANINGS.map(|(exit, meaning)| format!("{:>4}  {meaning}", exit as u8));
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// Flags made from the table of settings: with `GLOBAL`, those every command takes, else the worker's.
#[derive(Debug, Clone, Default)]
pub struct SettingFlags<const GLOBAL: bool>(BTreeMap<String, String>);

impl<const GLOBAL: bool> SettingFlags<GLOBAL> {
    fn settings() -> impl Iterator<Item = &'static Setting> {
        let global = |setting: &Setting| {
            matches!(
                setting.name,
                "DATABASE_URL" | "WXNOTIFY_LOG" | "WXNOTIFY_LOG_FORMAT"
            )
        };
        SETTINGS
            .iter()
            .filter(move |setting| global(setting) == GLOBAL)
    }
}

impl<const GLOBAL: bool> clap::Args for SettingFlags<GLOBAL> {
    fn augment_args(command: clap::Command) -> clap::Command {
        Self::settings().fold(command, |command, setting| {
            let default = setting
                .default
                .map(|default| format!(" [default: {default}]"))
                .unwrap_or_default();
            let flag = Arg::new(setting.name)
                .long(setting.flag())
                .value_name(
                    setting
                        .unit
                        .to_uppercase()
                        .replace([' ', ','], "-")
                        .replace("--", "-"),
                )
                .help(format!("{} [env: {}]{default}", setting.help, setting.name))
                .help_heading("Settings")
                .allow_hyphen_values(true)
                .global(GLOBAL);
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<const GLOBAL: bool> FromArgMatches for SettingFlags<GLOBAL> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = Self::settings().filter_map(|setting| {
            let value = matches.get_one::<String>(setting.name)?;
            Some((setting.name.to_owned(), value.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        // Help and version come this way too, with code 0.
        Err(error) => error.exit(),
    };
    let json = cli.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(
                &anyhow::Error::from(error).context("the async runtime did not start"),
                json,
            );
        }
    };
    // Nothing of what unwound is used again.
    match catch_unwind(AssertUnwindSafe(|| runtime.block_on(dispatch(cli)))) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => report(&error, json),
        Err(panic) if telemetry::is_closed_output(&*panic) => Exit::Done.into(),
        Err(_) => Exit::Internal.into(),
    }
}

/// Says on standard error what went wrong.
fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let exit = exit_of(error);
    let is_closed_output = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
    if is_closed_output {
        return Exit::Done.into();
    }
    if json {
        let bad_settings = error
            .downcast_ref::<BadSettings>()
            .map(|bad| &bad.bad_settings);
        let message = in_one_line(error);
        let report = serde_json::json!({ "error": message, "exit_code": exit as u8, "bad_settings": bad_settings });
        say(&report.to_string());
    } else {
        say(&format!("wxnotify: {}", legible_lines(&in_one_line(error))));
    }
    exit.into()
}

/// Says it on standard error; where nobody can hear it, the exit code still tells.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// An error and its causes, each once: many errors say their cause themselves.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = match cause.downcast_ref() {
            Some(error) => store::describe(error),
            None => cause.to_string(),
        };
        if said.contains(&cause) {
            continue;
        }
        if !said.is_empty() {
            said += ": ";
        }
        said += &cause;
    }
    said
}

impl Cli {
    fn sources(&self) -> Sources {
        let mut sources = Sources::of_process();
        sources.file = self.config.clone().or(sources.file);
        sources.flags.clone_from(&self.settings.0);
        sources
    }

    fn output(&self) -> Output {
        let color = match self.color {
            Color::Auto => {
                std::io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
            }
            Color::Always => true,
            Color::Never => false,
        };
        Output {
            json: self.json,
            color,
        }
    }
}

/// Starts the log for a command that people watch: only what they should worry about, unless they ask.
fn start_quiet_log(sources: &Sources) -> Result<(), BadSettings> {
    telemetry::start_log(&LogSettings::load(sources, "warn")?);
    Ok(())
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let sources = cli.sources();
    let output = cli.output();
    set_reader(
        cli.lang
            .map_or_else(Lang::of_environment, |language| match language {
                Language::Zh => Lang::Zh,
                Language::En => Lang::En,
            }),
    );
    match cli.command {
        Command::Migrate(args) if args.print => {
            let script = schema::print(&schema::OF_THIS_PROGRAM);
            std::io::stdout().lock().write_all(script.as_bytes())?;
            Ok(Exit::Done.into())
        }
        Command::Migrate(args) => {
            let settings = Settings::load(&sources)?;
            start_quiet_log(&sources)?;
            migrate(args, &settings, output).await
        }
        Command::Demo(args) => {
            // What goes wrong here goes wrong on purpose, and the worker's warnings would tear the picture.
            telemetry::start_log(&LogSettings::load(&sources, "error")?);
            demo::run(args, output).await
        }
        Command::Run(args) => run_worker(sources, *args).await,
        Command::Postgres(args) => {
            start_quiet_log(&sources)?;
            postgres::run(args).await
        }
        Command::Console(args) => {
            let settings = Settings::load(&sources)?;
            telemetry::start_log(&settings.log());
            console::run(args, &settings, output).await
        }
        Command::Simulate(args) => {
            start_quiet_log(&sources)?;
            simulate::run(args).await
        }
        Command::Operate(command) => {
            if let Some(answer) = operate::run_alone(&command, output) {
                return answer;
            }
            let settings = Settings::load(&sources)?;
            start_quiet_log(&sources)?;
            operate::run(command, &settings, output).await
        }
    }
}

/// Runs the worker until a signal: the first one lets it finish what is in flight, a second one ends it at once.
async fn run_worker(mut sources: Sources, args: RunArgs) -> anyhow::Result<ExitCode> {
    sources.flags.extend(args.settings.0);
    let settings = Settings::load(&sources)?;
    telemetry::start_log(&settings.log());
    limits::see_to_descriptors(&settings);
    let stop = CancellationToken::new();
    let signals = tokio::spawn(stop_on_signals(stop.clone()));
    let options = RunOptions {
        migrate: args.migrate,
        until_empty: args.until_empty,
        no_wait: args.no_wait,
    };
    let end = worker::run(&settings, options, stop).await?;
    signals.abort();
    Ok(match end {
        RunEnd::Drained => Exit::Done.into(),
        RunEnd::DeadlinePassed => Exit::Temporary.into(),
    })
}

async fn stop_on_signals(stop: CancellationToken) {
    let mut signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!("Signals cannot be awaited, a stop will not be graceful: {error}");
            return;
        }
    };
    signals.next().await;
    tracing::info!(
        "Stopping: no more leases; what is in flight is finished. A second signal stops at once"
    );
    stop.cancel();
    signals.next().await;
    tracing::warn!("Stopped at once: what was in flight will be in doubt when its leases lapse");
    #[allow(
        clippy::disallowed_methods,
        reason = "the second signal asks for just that"
    )]
    std::process::exit(i32::from(Exit::Temporary as u8));
}

/// Brings the database up to date and says what was done; or says what would be, or prints it.
async fn migrate(
    args: MigrateArgs,
    settings: &Settings,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let ours = &*schema::OF_THIS_PROGRAM;
    if settings.route() == Route::TransactionPooler {
        return Err(RunError::MigrateThroughPooler.into());
    }
    let mut connection = settings
        .database
        .connect(CONNECT_WITHIN)
        .await
        .context("connecting to the database")?;
    let applied = if args.dry_run {
        let plan = schema::plan(&mut connection, ours).await?;
        if let Standing::TooOld(books) = plan.standing {
            return Err(SchemaError::too_old(books, ours).into());
        }
        schema::Applied {
            standing: plan.standing,
            steps: plan.steps,
            advice: Vec::new(),
        }
    } else {
        schema::apply(&mut connection, ours).await?
    };
    connection.close().await?;
    let mut out = std::io::stdout().lock();
    if output.json {
        let report = serde_json::json!({
            "release": ours.release.to_string(),
            "level": ours.level(),
            "dry_run": args.dry_run,
            "steps": applied.steps,
            "newer": match &applied.standing {
                Standing::Served { release, level } => Some(serde_json::json!({ "release": release, "level": level })),
                _ => None,
            },
            "advice": applied.advice,
        });
        writeln!(out, "{report}")?;
        return Ok(Exit::Done.into());
    }
    match &applied.standing {
        Standing::Served { release, level } => writeln!(
            out,
            "The database has the schema of wxnotify {release} (level {level}), newer than this wxnotify {} (level {}), which it still serves: nothing was changed.",
            ours.release,
            ours.level()
        )?,
        _ if applied.steps.is_empty() => writeln!(out, "The database is up to date.")?,
        _ if args.dry_run => {
            for step in &applied.steps {
                writeln!(out, "would {step}")?;
            }
        }
        _ => writeln!(out, "{}", in_brief(&applied.steps))?,
    }
    for advice in applied.advice {
        writeln!(out, "next: {advice}")?;
    }
    Ok(Exit::Done.into())
}

/// Migrations and what was dropped by name, the rest by number: a first migration makes more than a hundred objects.
fn in_brief(steps: &[Step]) -> String {
    let mut lines = Vec::new();
    let mut made = BTreeMap::<(&str, &str), usize>::new();
    for step in steps {
        match step {
            Step::Make { kind, .. } => *made.entry((kind.as_str(), "made")).or_default() += 1,
            Step::Replace { kind, .. } => {
                *made.entry((kind.as_str(), "replaced")).or_default() += 1
            }
            Step::TakeOver | Step::Migrate { .. } | Step::Drop { .. } | Step::Grant => {
                lines.push(format!("done: {step}"));
            }
        }
    }
    lines.extend(
        made.into_iter()
            .map(|((kind, done), count)| format!("{done}: {kind} × {count}")),
    );
    lines.join("\n")
}
