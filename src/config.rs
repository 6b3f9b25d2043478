//! Every setting of the program: its name, unit, default, check and help stand in one table, and its value in one typed field.
//!
//! A value comes from the TOML file, then the environment, then a flag; the last one given wins.
//! [`Settings::load`] checks all of them and either answers with settings that hold everywhere or
//! with [`BadSettings`], which names everything wrong at once, so that a start fails before it touched
//! anything.
//!
//! Secrets (the database's URL, each app's secret, token and key) are [`SecretString`](secrecy::SecretString)s:
//! neither `Debug`, nor an error, nor a log shows them.
//!
//! Start at the table in `config/table.rs`, then [`Settings::load`]. A new setting is a row of the table and its user.

mod loader;
mod names;
mod refusal;
mod rules;
mod secrets;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;

use loader::{Given, Loader};
pub use refusal::{BadSetting, BadSettings};
pub use secrets::AppSecrets;
use table::{Draft, read};
pub use table::{SETTINGS, Settings};

use crate::address::Route;

const PREFIX: &str = "WXNOTIFY_";

/// One setting of the table.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable; also how every message names the setting.
    pub name: &'static str,
    /// What the value counts in, for people.
    pub unit: &'static str,
    /// The value when none is given, written as a person would. `None`: see `help`.
    pub default: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

impl Setting {
    /// The key in the TOML file: the name in lower case without the prefix.
    #[must_use]
    pub fn key(&self) -> String {
        self.name
            .strip_prefix(PREFIX)
            .unwrap_or(self.name)
            .to_lowercase()
    }

    /// The flag without its dashes.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key().replace('_', "-")
    }
}

/// Where values come from, so that a test needs no environment of the process.
#[derive(Clone, Default)]
pub struct Sources {
    /// The TOML file of `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables; those that are not ours are ignored.
    pub environment: BTreeMap<String, String>,
    /// Flags, by the [`Setting::name`] they set.
    pub flags: BTreeMap<String, String>,
}

impl Sources {
    /// The environment of this process; `WXNOTIFY_CONFIG` names the file unless `--config` does.
    ///
    /// A variable whose value is not UTF-8 is kept with replacement characters, for the check to refuse.
    #[must_use]
    pub fn of_process() -> Self {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into_owned(),
                    value.to_string_lossy().into_owned(),
                )
            })
            .collect();
        let file = environment
            .get("WXNOTIFY_CONFIG")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        Self {
            file,
            environment,
            flags: BTreeMap::new(),
        }
    }

    /// Adds or replaces an environment variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// Who decides how many sends are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyMode {
    /// What WeChat can take, up to the setting.
    Adaptive,
    /// The setting alone.
    Fixed,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// What becomes of an accept that WeChat pushed and no business row claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnclaimedAccept {
    /// It is only counted.
    Ignore,
    /// It becomes a held row.
    Hold,
}

/// The settings of the log alone, for commands that need no others.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Directives of a tracing filter.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl LogSettings {
    /// Reads only `WXNOTIFY_LOG`, whose default is `default_filter` here, and `WXNOTIFY_LOG_FORMAT`.
    ///
    /// # Errors
    ///
    /// One of them is malformed, or the file cannot be read.
    pub fn load(sources: &Sources, default_filter: &str) -> Result<Self, BadSettings> {
        let mut loader = Loader::gather(sources);
        // Other settings are none of such a command's business, only whether the file can be read.
        loader.bad.retain(|bad| bad.name.starts_with("--config"));
        let default = Given {
            text: default_filter.to_owned(),
            source: "default".to_owned(),
        };
        loader.given.entry("WXNOTIFY_LOG").or_insert(default);
        let read = (read::log_filter(&mut loader), read::log_format(&mut loader));
        match (read, loader.finish()) {
            ((Some(filter), Some(format)), Ok(())) => Ok(Self { filter, format }),
            (_, Err(bad)) => Err(bad),
            (_, Ok(())) => unreachable!("what does not hold was refused"),
        }
    }
}

impl Settings {
    /// Reads and checks every setting.
    ///
    /// # Errors
    ///
    /// [`BadSettings`] lists everything that is wrong: missing or malformed values, values that do not fit
    /// together, unknown names.
    pub fn load(sources: &Sources) -> Result<Self, BadSettings> {
        let mut loader = Loader::gather(sources);
        let draft = Draft::read(&mut loader);
        rules::check_together(&mut loader, &draft);
        let apps = loader.check_apps();
        let advice = std::mem::take(&mut loader.advice);
        loader.finish()?;
        let mut settings = draft
            .complete(apps, advice)
            .expect("a value that does not hold was refused");
        let name = format!("wxnotify {}", settings.worker);
        settings.database = settings.database.with_application_name(&name);
        Ok(settings)
    }

    /// What lies between this program and the database, as `WXNOTIFY_POOLER` says.
    #[must_use]
    pub fn route(&self) -> Route {
        if self.pooler {
            Route::TransactionPooler
        } else {
            Route::Direct
        }
    }

    /// Whether WeChat's events are received here: some app has a callback token, and there is a listener.
    #[must_use]
    pub fn receives_events(&self) -> bool {
        let has_token = |app: &AppSecrets| app.callback_token.is_some();
        self.listen.is_some() && self.apps.values().any(has_token)
    }

    /// `WXNOTIFY_LOG` and `WXNOTIFY_LOG_FORMAT`.
    #[must_use]
    pub fn log(&self) -> LogSettings {
        LogSettings {
            filter: self.log_filter.clone(),
            format: self.log_format,
        }
    }
}
