//! Every setting of the program: its name, unit, default, check and help stand in one table, [`SETTINGS`].
//!
//! A value comes from the TOML file, then the environment, then a flag; the last one given wins.
//! [`Settings::load`] checks all of them and either answers with settings that hold everywhere or
//! with [`BadSettings`], which names everything wrong at once, so that a start fails before it touched
//! anything.
//!
//! Secrets (the database's URL, each app's secret, token and key) are [`SecretString`]s: neither `Debug`,
//! nor an error, nor a log shows them.
//!
//! Start at [`SETTINGS`], then [`Settings::load`].

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::Url;

use crate::store::address::Refused;
use crate::store::{Address, Route, Shares};

/// One setting of the table.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable; also how every message names the setting.
    pub name: &'static str,
    /// What the value counts in, for people.
    pub unit: &'static str,
    /// The value when none is given, written as a person would. `None`: see `help`.
    pub default: Option<&'static str>,
    /// What a value must be.
    pub rule: Rule,
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

/// What a setting's value must be.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// A `postgres://` URL. Secret.
    DatabaseUrl,
    /// `https://host[:port][/path]` addresses with commas between them; plain http on loopback only.
    ApiBase,
    /// The URL of a forward proxy, or `none`. Secret.
    Proxy,
    /// A whole number within bounds.
    Whole(u64, u64),
    /// Seconds within bounds, fractions allowed.
    Seconds(f64, f64),
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 1 to 100 visible characters.
    Name,
    /// `address:port`, or nothing.
    Listen,
    /// Directives of a tracing filter.
    LogFilter,
}

const PREFIX: &str = "WXNOTIFY_";
/// How much longer a lease must last than a request.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// Every setting but the apps' secrets, in the order in which people read them.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "DATABASE_URL",
        unit: "URL",
        default: None,
        rule: Rule::DatabaseUrl,
        help: "the Postgres database, for example postgres://user:password@host/database, or what else libpq takes; on the command line other users can see the password",
    },
    Setting {
        name: "WXNOTIFY_API_BASE",
        unit: "URLs, comma-separated",
        default: Some("https://api.weixin.qq.com,https://api2.weixin.qq.com"),
        rule: Rule::ApiBase,
        help: "WeChat's hosts in order of preference, with the path of a gateway if there is one; plain http on loopback only",
    },
    Setting {
        name: "WXNOTIFY_HTTPS_PROXY",
        unit: "URL",
        default: Some("none"),
        rule: Rule::Proxy,
        help: "a forward proxy (CONNECT) on the way to WeChat's hosts, http://user:password@host:port; HTTPS_PROXY is not heeded",
    },
    Setting {
        name: "WXNOTIFY_WORKER",
        unit: "name",
        default: None,
        rule: Rule::Name,
        help: "the worker's name in views and logs (default: the host name)",
    },
    Setting {
        name: "WXNOTIFY_CONCURRENCY",
        unit: "sends",
        default: Some("64"),
        rule: Rule::Whole(1, 4096),
        help: "sends in flight per worker, at most",
    },
    Setting {
        name: "WXNOTIFY_CONCURRENCY_MODE",
        unit: "mode",
        default: Some("adaptive"),
        rule: Rule::Choice(&["adaptive", "fixed"]),
        help: "adaptive: fewer sends in flight while WeChat slows down or refuses; fixed: always WXNOTIFY_CONCURRENCY",
    },
    Setting {
        name: "WXNOTIFY_CONCURRENCY_MIN",
        unit: "sends",
        default: Some("4"),
        rule: Rule::Whole(1, 4096),
        help: "sends in flight that the mode adaptive allows at least",
    },
    Setting {
        name: "WXNOTIFY_CONNECT_TIMEOUT_SECS",
        unit: "seconds",
        default: Some("3"),
        rule: Rule::Seconds(0.1, 60.0),
        help: "how long connecting to WeChat may take",
    },
    Setting {
        name: "WXNOTIFY_REQUEST_TIMEOUT_SECS",
        unit: "seconds",
        default: Some("10"),
        rule: Rule::Seconds(0.1, 300.0),
        help: "how long a whole request to WeChat may take; after it the send is in doubt",
    },
    Setting {
        name: "WXNOTIFY_LEASE_SECS",
        unit: "seconds",
        default: Some("30"),
        rule: Rule::Seconds(1.0, 3600.0),
        help: "how long a worker owns what it leased; more than the request time-out + 5",
    },
    Setting {
        name: "WXNOTIFY_DOUBT_WINDOW_SECS",
        unit: "seconds",
        default: Some("120"),
        rule: Rule::Seconds(0.0, 86_400.0),
        help: "how long evidence about a send whose reply was lost is awaited",
    },
    Setting {
        name: "WXNOTIFY_DOUBT_AGE_HOURS",
        unit: "hours",
        default: Some("168"),
        rule: Rule::Whole(1, 8760),
        help: "how long a doubt with on_doubt = 'hold' waits for an operator before it ends unresolved",
    },
    Setting {
        name: "WXNOTIFY_UNCLAIMED_ACCEPT",
        unit: "word",
        default: Some("ignore"),
        rule: Rule::Choice(&["ignore", "hold"]),
        help: "hold: an accept that WeChat pushed and no business row claims becomes a held row; ignore: it is only counted",
    },
    Setting {
        name: "WXNOTIFY_CLAIM_WINDOW_SECS",
        unit: "seconds",
        default: Some("600"),
        rule: Rule::Seconds(1.0, 604_800.0),
        help: "how much later than WeChat's accept a row may be inserted and still be the same tap",
    },
    Setting {
        name: "WXNOTIFY_BACKOFF_BASE_SECS",
        unit: "seconds",
        default: Some("5"),
        rule: Rule::Seconds(0.01, 3600.0),
        help: "the first retry's longest wait; doubles with each attempt, with full jitter",
    },
    Setting {
        name: "WXNOTIFY_BACKOFF_CAP_SECS",
        unit: "seconds",
        default: Some("3600"),
        rule: Rule::Seconds(0.01, 604_800.0),
        help: "the longest wait between two attempts",
    },
    Setting {
        name: "WXNOTIFY_POLL_SECS",
        unit: "seconds",
        default: Some("1"),
        rule: Rule::Seconds(0.01, 60.0),
        help: "how often an idle worker looks for due rows when no bell rings",
    },
    Setting {
        name: "WXNOTIFY_DRAIN_SECS",
        unit: "seconds",
        default: Some("25"),
        rule: Rule::Seconds(0.0, 3600.0),
        help: "a graceful stop's deadline",
    },
    Setting {
        name: "WXNOTIFY_LISTEN",
        unit: "address:port",
        default: Some("127.0.0.1:9464"),
        rule: Rule::Listen,
        help: "the HTTP listener (/healthz, /readyz, /metrics, /wechat/callback/APPID); empty turns it off",
    },
    Setting {
        name: "WXNOTIFY_POOL_CONNECTIONS",
        unit: "connections",
        default: Some("6"),
        rule: Rule::Whole(3, 100),
        help: "database connections per worker, all in all; sends hold none, so few are enough",
    },
    Setting {
        name: "WXNOTIFY_STATEMENT_TIMEOUT_SECS",
        unit: "seconds",
        default: Some("10"),
        rule: Rule::Seconds(0.1, 600.0),
        help: "how long one SQL statement may take, watched on our side",
    },
    Setting {
        name: "WXNOTIFY_POOLER",
        unit: "true or false",
        default: Some("false"),
        rule: Rule::Switch,
        help: "true: the database is behind a pooler in transaction mode; new rows are then found by polling",
    },
    Setting {
        name: "WXNOTIFY_HISTORY_MONTHS",
        unit: "months",
        default: Some("13"),
        rule: Rule::Whole(1, 1200),
        help: "how long final rows are kept",
    },
    Setting {
        name: "WXNOTIFY_LOG",
        unit: "filter",
        default: Some("info"),
        rule: Rule::LogFilter,
        help: "what is logged, for example info or wxnotify=debug,sqlx=warn",
    },
    Setting {
        name: "WXNOTIFY_LOG_FORMAT",
        unit: "word",
        default: Some("auto"),
        rule: Rule::Choice(&["auto", "pretty", "json"]),
        help: "auto is pretty on a terminal and json otherwise",
    },
];

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

/// One app's secrets.
#[derive(Debug, Clone, Default)]
pub struct AppSecrets {
    /// The app's secret; tokens are fetched with it. Absent: this worker sends nothing for the app.
    pub secret: Option<SecretString>,
    /// Message push: the token that signs callbacks.
    pub callback_token: Option<SecretString>,
    /// Message push: the EncodingAESKey, 43 characters. Absent: plaintext mode.
    pub callback_aeskey: Option<SecretString>,
    /// The token before the present one, taken as well while WeChat's console changes from one to the other.
    pub callback_token_previous: Option<SecretString>,
    /// The key before the present one, likewise.
    pub callback_aeskey_previous: Option<SecretString>,
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

/// Checked settings. `Debug` shows no secret.
#[derive(Clone)]
pub struct Settings {
    values: BTreeMap<&'static str, Value>,
    apps: BTreeMap<String, AppSecrets>,
    advice: Vec<String>,
}

/// A checked value.
#[derive(Debug, Clone)]
enum Value {
    Database(Address),
    Urls(Vec<Url>),
    Proxy(Option<SecretString>),
    Whole(u64),
    Span(Duration),
    Switch(bool),
    Text(String),
    Address(Option<SocketAddr>),
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
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            if setting.name.starts_with("WXNOTIFY_LOG") {
                loader.check(setting, &mut values);
            }
        }
        loader.finish()?;
        Ok(Settings {
            values,
            apps: BTreeMap::new(),
            advice: Vec::new(),
        }
        .log())
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
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            loader.check(setting, &mut values);
        }
        loader.check_together(&values);
        let apps = loader.check_apps();
        let advice = std::mem::take(&mut loader.advice);
        loader.finish()?;
        Ok(Self {
            values,
            apps,
            advice,
        })
    }

    /// What works and should be otherwise, in words for the log.
    #[must_use]
    pub fn advice(&self) -> &[String] {
        &self.advice
    }

    /// Where the database is: `DATABASE_URL`, with the worker's name as `application_name` unless it has one.
    #[must_use]
    pub fn database(&self) -> Address {
        match self.value("DATABASE_URL") {
            Value::Database(address) => address
                .clone()
                .with_application_name(&format!("wxnotify {}", self.worker())),
            other => unreachable!("DATABASE_URL is an address, not {other:?}"),
        }
    }

    /// How this worker's connections are divided.
    #[must_use]
    pub fn shares(&self) -> Shares {
        let receives = |app: &AppSecrets| app.callback_token.is_some();
        let receives_events = self.listen().is_some() && self.apps.values().any(receives);
        Shares::of(self.pool_connections(), self.route(), receives_events)
    }

    /// What lies between this program and the database, as `WXNOTIFY_POOLER` says.
    #[must_use]
    pub fn route(&self) -> Route {
        if self.pooler() {
            Route::TransactionPooler
        } else {
            Route::Direct
        }
    }

    /// `WXNOTIFY_HTTPS_PROXY`: the forward proxy for WeChat's hosts, a well-formed URL that may hold a password.
    #[must_use]
    pub fn https_proxy(&self) -> Option<&SecretString> {
        match self.value("WXNOTIFY_HTTPS_PROXY") {
            Value::Proxy(url) => url.as_ref(),
            other => unreachable!("WXNOTIFY_HTTPS_PROXY is a URL, not {other:?}"),
        }
    }

    /// `WXNOTIFY_API_BASE`: WeChat's hosts in order of preference, at least one.
    #[must_use]
    pub fn api_base(&self) -> &[Url] {
        match self.value("WXNOTIFY_API_BASE") {
            Value::Urls(urls) => urls,
            other => unreachable!("WXNOTIFY_API_BASE is a list of URLs, not {other:?}"),
        }
    }

    /// `WXNOTIFY_WORKER`: the worker's name; the host's unless set.
    #[must_use]
    pub fn worker(&self) -> &str {
        self.text("WXNOTIFY_WORKER")
    }

    /// `WXNOTIFY_CONCURRENCY`: sends in flight.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        usize::try_from(self.whole("WXNOTIFY_CONCURRENCY")).expect("at most 4096")
    }

    /// `WXNOTIFY_CONCURRENCY_MODE`.
    #[must_use]
    pub fn concurrency_mode(&self) -> ConcurrencyMode {
        match self.text("WXNOTIFY_CONCURRENCY_MODE") {
            "fixed" => ConcurrencyMode::Fixed,
            _ => ConcurrencyMode::Adaptive,
        }
    }

    /// `WXNOTIFY_CONCURRENCY_MIN`: sends in flight that the mode `adaptive` allows at least.
    #[must_use]
    pub fn concurrency_min(&self) -> usize {
        usize::try_from(self.whole("WXNOTIFY_CONCURRENCY_MIN")).expect("at most 4096")
    }

    /// `WXNOTIFY_CONNECT_TIMEOUT_SECS`.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.span("WXNOTIFY_CONNECT_TIMEOUT_SECS")
    }

    /// `WXNOTIFY_REQUEST_TIMEOUT_SECS`.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.span("WXNOTIFY_REQUEST_TIMEOUT_SECS")
    }

    /// `WXNOTIFY_LEASE_SECS`; exceeds the request time-out by more than five seconds.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.span("WXNOTIFY_LEASE_SECS")
    }

    /// `WXNOTIFY_DOUBT_WINDOW_SECS`: how long evidence is awaited.
    #[must_use]
    pub fn doubt_window(&self) -> Duration {
        self.span("WXNOTIFY_DOUBT_WINDOW_SECS")
    }

    /// `WXNOTIFY_DOUBT_AGE_HOURS`: how long a `hold` doubt waits for an operator.
    #[must_use]
    pub fn doubt_age(&self) -> Duration {
        Duration::from_secs(self.whole("WXNOTIFY_DOUBT_AGE_HOURS") * 3600)
    }

    /// `WXNOTIFY_UNCLAIMED_ACCEPT`: whether an accept without a row becomes a held one.
    #[must_use]
    pub fn holds_unclaimed_accepts(&self) -> bool {
        self.text("WXNOTIFY_UNCLAIMED_ACCEPT") == "hold"
    }

    /// `WXNOTIFY_CLAIM_WINDOW_SECS`: how much later than an accept its row may be inserted.
    #[must_use]
    pub fn claim_window(&self) -> Duration {
        self.span("WXNOTIFY_CLAIM_WINDOW_SECS")
    }

    /// `WXNOTIFY_BACKOFF_BASE_SECS`; at most the cap.
    #[must_use]
    pub fn backoff_base(&self) -> Duration {
        self.span("WXNOTIFY_BACKOFF_BASE_SECS")
    }

    /// `WXNOTIFY_BACKOFF_CAP_SECS`.
    #[must_use]
    pub fn backoff_cap(&self) -> Duration {
        self.span("WXNOTIFY_BACKOFF_CAP_SECS")
    }

    /// `WXNOTIFY_POLL_SECS`: an idle worker's interval when no bell rings.
    #[must_use]
    pub fn poll(&self) -> Duration {
        self.span("WXNOTIFY_POLL_SECS")
    }

    /// `WXNOTIFY_DRAIN_SECS`: a graceful stop's deadline.
    #[must_use]
    pub fn drain(&self) -> Duration {
        self.span("WXNOTIFY_DRAIN_SECS")
    }

    /// `WXNOTIFY_LISTEN`: the HTTP listener's address; `None` turns it off.
    #[must_use]
    pub fn listen(&self) -> Option<SocketAddr> {
        match self.value("WXNOTIFY_LISTEN") {
            Value::Address(address) => *address,
            other => unreachable!("WXNOTIFY_LISTEN is an address, not {other:?}"),
        }
    }

    /// `WXNOTIFY_POOL_CONNECTIONS`: database connections of this worker.
    #[must_use]
    pub fn pool_connections(&self) -> u32 {
        u32::try_from(self.whole("WXNOTIFY_POOL_CONNECTIONS")).expect("at most 100")
    }

    /// `WXNOTIFY_STATEMENT_TIMEOUT_SECS`: the client-side deadline of one SQL statement.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        self.span("WXNOTIFY_STATEMENT_TIMEOUT_SECS")
    }

    /// `WXNOTIFY_POOLER`: whether to do without prepared statements.
    #[must_use]
    pub fn pooler(&self) -> bool {
        match self.value("WXNOTIFY_POOLER") {
            Value::Switch(on) => *on,
            other => unreachable!("WXNOTIFY_POOLER is a switch, not {other:?}"),
        }
    }

    /// `WXNOTIFY_HISTORY_MONTHS`: how long final rows are kept.
    #[must_use]
    pub fn history_months(&self) -> u32 {
        u32::try_from(self.whole("WXNOTIFY_HISTORY_MONTHS")).expect("at most 1200")
    }

    /// `WXNOTIFY_LOG` and `WXNOTIFY_LOG_FORMAT`.
    #[must_use]
    pub fn log(&self) -> LogSettings {
        let format = match self.text("WXNOTIFY_LOG_FORMAT") {
            "pretty" => LogFormat::Pretty,
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        };
        LogSettings {
            filter: self.text("WXNOTIFY_LOG").to_owned(),
            format,
        }
    }

    /// Each app's secrets, by appid.
    #[must_use]
    pub fn apps(&self) -> &BTreeMap<String, AppSecrets> {
        &self.apps
    }

    fn value(&self, name: &str) -> &Value {
        self.values
            .get(name)
            .expect("every setting of the table was checked and has a value")
    }

    fn whole(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Whole(number) => *number,
            other => unreachable!("{name} is a whole number, not {other:?}"),
        }
    }

    fn span(&self, name: &str) -> Duration {
        match self.value(name) {
            Value::Span(span) => *span,
            other => unreachable!("{name} is a span of time, not {other:?}"),
        }
    }

    fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(text) => text,
            other => unreachable!("{name} is text, not {other:?}"),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = formatter.debug_map();
        map.entries(&self.values);
        map.entry(&"apps", &self.apps);
        map.finish()
    }
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, Serialize)]
pub struct BadSetting {
    /// The variable, flag or key.
    pub name: String,
    /// The value as given; `None` when there is none or it is secret.
    pub value: Option<String>,
    /// Where it was given: `environment`, `flag`, or the file.
    pub source: Option<String>,
    /// The rule it breaks.
    pub rule: String,
    /// What to do about it.
    pub next: String,
}

/// Everything that is wrong with the settings, for a person to mend in one go.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
pub struct BadSettings {
    /// One entry for each.
    pub bad_settings: Vec<BadSetting>,
}

impl fmt::Display for BadSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bad_settings.len() {
            1 => writeln!(formatter, "1 setting is wrong, so nothing was started:")?,
            count => writeln!(
                formatter,
                "{count} settings are wrong, so nothing was started:"
            )?,
        }
        for bad in &self.bad_settings {
            write!(formatter, "\n  {}", bad.name)?;
            if let Some(value) = &bad.value {
                write!(formatter, " = {value:?}")?;
            }
            if let Some(source) = &bad.source {
                write!(formatter, " ({source})")?;
            }
            writeln!(formatter, "\n      {}\n      next: {}", bad.rule, bad.next)?;
        }
        Ok(())
    }
}

/// A value as it was given, and where.
#[derive(Clone)]
struct Given {
    text: String,
    source: String,
}

/// One of an app's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SecretKind {
    Secret,
    CallbackToken,
    CallbackAeskey,
    CallbackTokenPrevious,
    CallbackAeskeyPrevious,
}

impl SecretKind {
    /// Longer names first: a variable's name is read from its beginning.
    const ALL: [Self; 5] = [
        Self::CallbackTokenPrevious,
        Self::CallbackAeskeyPrevious,
        Self::Secret,
        Self::CallbackToken,
        Self::CallbackAeskey,
    ];

    /// The environment variable before `_<appid>` or `_FILE_<appid>`.
    fn variable(self) -> &'static str {
        match self {
            Self::Secret => "WXNOTIFY_APPSECRET",
            Self::CallbackToken => "WXNOTIFY_CALLBACK_TOKEN",
            Self::CallbackAeskey => "WXNOTIFY_CALLBACK_AESKEY",
            Self::CallbackTokenPrevious => "WXNOTIFY_CALLBACK_TOKEN_PREVIOUS",
            Self::CallbackAeskeyPrevious => "WXNOTIFY_CALLBACK_AESKEY_PREVIOUS",
        }
    }

    /// The key in the file's `[apps.<appid>]`; with `_file` behind it, the path of a file that holds it.
    fn key(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::CallbackToken => "callback_token",
            Self::CallbackAeskey => "callback_aeskey",
            Self::CallbackTokenPrevious => "callback_token_previous",
            Self::CallbackAeskeyPrevious => "callback_aeskey_previous",
        }
    }

    fn broken_rule(self, secret: &str) -> Option<&'static str> {
        let alphanumeric = secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let holds = match self {
            Self::Secret => {
                (1..=128).contains(&secret.len())
                    && secret.bytes().all(|byte| byte.is_ascii_graphic())
            }
            Self::CallbackToken | Self::CallbackTokenPrevious => {
                (3..=32).contains(&secret.len()) && alphanumeric
            }
            Self::CallbackAeskey | Self::CallbackAeskeyPrevious => {
                secret.len() == 43 && alphanumeric
            }
        };
        let rule = match self {
            Self::Secret => "must be 1 to 128 visible ASCII characters without spaces",
            Self::CallbackToken | Self::CallbackTokenPrevious => {
                "must be 3 to 32 ASCII letters and digits"
            }
            Self::CallbackAeskey | Self::CallbackAeskeyPrevious => {
                "must be exactly 43 ASCII letters and digits (the EncodingAESKey)"
            }
        };
        (!holds).then_some(rule)
    }
}

/// An app's secret as it was given: itself, or the path of its file.
struct GivenSecret {
    name: String,
    text: SecretString,
    source: String,
    is_path: bool,
}

/// Collects what was given and what is wrong with it.
struct Loader {
    given: BTreeMap<&'static str, Given>,
    secrets: BTreeMap<(String, SecretKind), GivenSecret>,
    /// The environment, for what libpq reads there.
    libpq: BTreeMap<String, String>,
    bad: Vec<BadSetting>,
    advice: Vec<String>,
}

impl Loader {
    fn gather(sources: &Sources) -> Self {
        let mut loader = Self {
            given: BTreeMap::new(),
            secrets: BTreeMap::new(),
            libpq: sources.environment.clone(),
            bad: Vec::new(),
            advice: Vec::new(),
        };
        if let Some(path) = &sources.file {
            loader.gather_file(path);
        }
        loader.gather_environment(&sources.environment);
        for setting in SETTINGS {
            if let Some(text) = sources.flags.get(setting.name) {
                loader.given.insert(
                    setting.name,
                    Given {
                        text: text.clone(),
                        source: "flag".into(),
                    },
                );
            }
        }
        loader
    }

    fn finish(self) -> Result<(), BadSettings> {
        if self.bad.is_empty() {
            Ok(())
        } else {
            Err(BadSettings {
                bad_settings: self.bad,
            })
        }
    }

    fn refuse(
        &mut self,
        name: impl Into<String>,
        given: Option<(Option<&str>, &str)>,
        rule: String,
        next: String,
    ) {
        let value = given.and_then(|(value, _)| value).map(shorten);
        let source = given.map(|(_, source)| source.to_owned());
        self.bad.push(BadSetting {
            name: name.into(),
            value,
            source,
            rule,
            next,
        });
    }

    fn gather_file(&mut self, path: &Path) {
        let source = path.display().to_string();
        let name = format!("--config {source}");
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let next = "give the path of a readable TOML file, or leave --config and WXNOTIFY_CONFIG out";
                return self.refuse(name, None, format!("cannot be read: {error}"), next.into());
            }
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                // The parser's full message quotes the line, which may hold a secret.
                let line = error.span().map_or(1, |span| {
                    text[..span.start.min(text.len())].lines().count().max(1)
                });
                let rule = format!("line {line} is not TOML: {}", error.message());
                return self.refuse(name, None, rule, "mend that line; text needs quotes".into());
            }
        };
        for (key, value) in table {
            match (key.as_str(), value) {
                ("apps", toml::Value::Table(apps)) => {
                    let mut keys = apps.values().filter_map(toml::Value::as_table).flatten();
                    if keys.any(|(key, _)| !key.ends_with("_file")) {
                        self.look_at_mode(path, "--config");
                    }
                    self.gather_file_apps(&source, apps);
                }
                (key, value) => self.gather_file_value(&source, key, value),
            }
        }
    }

    fn gather_file_value(&mut self, source: &str, key: &str, value: toml::Value) {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key() == key) else {
            let keys: Vec<String> = SETTINGS
                .iter()
                .map(Setting::key)
                .chain(["apps".to_owned()])
                .collect();
            let next = did_you_mean(key, keys.iter().map(String::as_str));
            return self.refuse(key, Some((None, source)), "is not a setting".into(), next);
        };
        match text_of(&value) {
            Some(text) => {
                self.given.insert(
                    setting.name,
                    Given {
                        text,
                        source: source.to_owned(),
                    },
                );
            }
            None => {
                let rule = format!("is a TOML {}, not a value", value.type_str());
                self.refuse(
                    key,
                    Some((None, source)),
                    rule,
                    "write it as a number, text, true or false".into(),
                );
            }
        }
    }

    fn gather_file_apps(&mut self, source: &str, apps: toml::Table) {
        let example =
            "write [apps.wx0123456789abcdef] with secret = \"…\" or secret_file = \"…\" below it";
        for (appid, entry) in apps {
            let toml::Value::Table(entry) = entry else {
                self.refuse(
                    format!("apps.{appid}"),
                    Some((None, source)),
                    "must be a table".into(),
                    example.into(),
                );
                continue;
            };
            for (key, value) in entry {
                let name = format!("apps.{appid}.{key}");
                let (plain, is_path) = key
                    .strip_suffix("_file")
                    .map_or((key.as_str(), false), |plain| (plain, true));
                let Some(kind) = SecretKind::ALL.into_iter().find(|kind| kind.key() == plain)
                else {
                    let keys = [
                        "secret",
                        "secret_file",
                        "callback_token",
                        "callback_token_file",
                        "callback_token_previous",
                        "callback_aeskey",
                        "callback_aeskey_file",
                        "callback_aeskey_previous",
                    ];
                    let next = did_you_mean(&key, keys.into_iter());
                    self.refuse(name, Some((None, source)), "is not a setting".into(), next);
                    continue;
                };
                match value {
                    toml::Value::String(text) => {
                        self.give_secret(&appid, kind, name, text, source, is_path)
                    }
                    _ => self.refuse(
                        name,
                        Some((None, source)),
                        "must be text".into(),
                        example.into(),
                    ),
                }
            }
        }
    }

    fn gather_environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, text) in environment {
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
                self.given.insert(
                    setting.name,
                    Given {
                        text: text.clone(),
                        source: "environment".into(),
                    },
                );
                continue;
            }
            // The tests' own variables, and the file's path, are no settings.
            if !name.starts_with(PREFIX)
                || name == "WXNOTIFY_CONFIG"
                || name.starts_with("WXNOTIFY_TEST_")
                || is_service_link(name, text)
            {
                continue;
            }
            let secret = SecretKind::ALL.into_iter().find_map(|kind| {
                let rest = name.strip_prefix(kind.variable())?.strip_prefix('_')?;
                let (appid, is_path) = rest
                    .strip_prefix("FILE_")
                    .map_or((rest, false), |appid| (appid, true));
                Some((kind, appid, is_path))
            });
            match secret {
                Some((kind, appid, is_path)) => {
                    self.give_secret(
                        appid,
                        kind,
                        name.clone(),
                        text.clone(),
                        "environment",
                        is_path,
                    );
                }
                None => {
                    let names = SETTINGS.iter().map(|setting| setting.name);
                    let secrets = [
                        "WXNOTIFY_APPSECRET_<appid>",
                        "WXNOTIFY_APPSECRET_FILE_<appid>",
                    ];
                    let next = did_you_mean(name, names.chain(secrets));
                    self.refuse(
                        name,
                        Some((None, "environment")),
                        "is not a setting".into(),
                        next,
                    );
                }
            }
        }
    }

    /// Takes one secret, or refuses it beside another one from the same place.
    fn give_secret(
        &mut self,
        appid: &str,
        kind: SecretKind,
        name: String,
        text: String,
        source: &str,
        is_path: bool,
    ) {
        let well_formed =
            |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if appid.is_empty() || appid.len() > 64 || !appid.chars().all(well_formed) {
            let rule =
                format!("{appid:?} is not an appid: letters and digits, as in wx0123456789abcdef");
            return self.refuse(
                name,
                Some((None, source)),
                rule,
                "copy the AppID from mp.weixin.qq.com".into(),
            );
        }
        let slot = (appid.to_owned(), kind);
        if let Some(other) = self
            .secrets
            .get(&slot)
            .filter(|other| other.source == source)
        {
            let rule = format!("is given beside {}", other.name);
            return self.refuse(
                name,
                Some((None, source)),
                rule,
                "remove one of the two".into(),
            );
        }
        let given = GivenSecret {
            name,
            text: text.into(),
            source: source.to_owned(),
            is_path,
        };
        self.secrets.insert(slot, given);
    }

    /// Checks one setting and puts its value into `values`, the default's when none was given.
    fn check(&mut self, setting: &'static Setting, values: &mut BTreeMap<&'static str, Value>) {
        let given = self.given.get(setting.name).cloned();
        let text = match (&given, setting.default) {
            (Some(given), _) => given.text.trim().to_owned(),
            (None, Some(default)) => default.to_owned(),
            (None, None) if matches!(setting.rule, Rule::Name) => host_name(),
            (None, None) => {
                let next = format!("set {}: {}", setting.name, setting.help);
                return self.refuse(setting.name, None, "is missing".into(), next);
            }
        };
        if matches!(setting.rule, Rule::DatabaseUrl) {
            let source = given.map_or_else(|| "default".to_owned(), |given| given.source);
            return self.check_database(setting.name, &text, &source, values);
        }
        match parse(setting.rule, &text) {
            Ok(value) => {
                values.insert(setting.name, value);
            }
            Err(rule) => {
                let shown = (!matches!(setting.rule, Rule::Proxy)).then_some(text.as_str());
                let source = given.map_or_else(|| "default".to_owned(), |given| given.source);
                let next = match setting.default {
                    Some(default) => {
                        format!("correct it, or remove it to use the default, {default}")
                    }
                    None => format!("correct it: {}", setting.help),
                };
                self.refuse(setting.name, Some((shown, &source)), rule, next);
            }
        }
    }

    /// As [`Self::check`], for the connection string: it is secret, and knows best what to write instead.
    fn check_database(
        &mut self,
        name: &'static str,
        text: &str,
        source: &str,
        values: &mut BTreeMap<&'static str, Value>,
    ) {
        match Address::parse(text, &self.libpq) {
            Ok(address) => {
                values.insert(name, Value::Database(address));
            }
            Err(Refused { rule, next }) => self.refuse(name, Some((None, source)), rule, next),
        }
    }

    /// Checks the values that bound each other.
    fn check_together(&mut self, values: &BTreeMap<&'static str, Value>) {
        let span = |name: &str| match values.get(name) {
            Some(Value::Span(span)) => Some(*span),
            _ => None,
        };
        let mut bound = |name: &str, rule: String, next: &str, holds: bool| {
            if !holds {
                let source = self
                    .given
                    .get(name)
                    .map_or("default", |given| given.source.as_str())
                    .to_owned();
                let value = span(name).map(|span| span.as_secs_f64().to_string());
                self.refuse(
                    name,
                    Some((value.as_deref(), &source)),
                    rule,
                    next.to_owned(),
                );
            }
        };
        if let (Some(lease), Some(request)) = (
            span("WXNOTIFY_LEASE_SECS"),
            span("WXNOTIFY_REQUEST_TIMEOUT_SECS"),
        ) {
            let least = (request + LEASE_MARGIN).as_secs_f64();
            bound(
                "WXNOTIFY_LEASE_SECS",
                format!("must exceed WXNOTIFY_REQUEST_TIMEOUT_SECS + 5 = {least} seconds"),
                "lengthen the lease or shorten the request time-out",
                lease > request + LEASE_MARGIN,
            );
        }
        if let (Some(base), Some(cap)) = (
            span("WXNOTIFY_BACKOFF_BASE_SECS"),
            span("WXNOTIFY_BACKOFF_CAP_SECS"),
        ) {
            bound(
                "WXNOTIFY_BACKOFF_BASE_SECS",
                format!(
                    "must not exceed WXNOTIFY_BACKOFF_CAP_SECS = {} seconds",
                    cap.as_secs_f64()
                ),
                "lower the base or raise the cap",
                base <= cap,
            );
        }
        if let (Some(connect), Some(request)) = (
            span("WXNOTIFY_CONNECT_TIMEOUT_SECS"),
            span("WXNOTIFY_REQUEST_TIMEOUT_SECS"),
        ) {
            bound(
                "WXNOTIFY_CONNECT_TIMEOUT_SECS",
                format!(
                    "must be less than WXNOTIFY_REQUEST_TIMEOUT_SECS = {} seconds",
                    request.as_secs_f64()
                ),
                "lower it or raise the request time-out",
                connect < request,
            );
        }
    }

    /// Reads and checks every app's secrets.
    fn check_apps(&mut self) -> BTreeMap<String, AppSecrets> {
        let mut apps: BTreeMap<String, AppSecrets> = BTreeMap::new();
        for ((appid, kind), given) in std::mem::take(&mut self.secrets) {
            let secret = match self.read_secret(&given) {
                Some(secret) => secret,
                None => continue,
            };
            if let Some(rule) = kind.broken_rule(secret.expose_secret()) {
                let next = "copy it again from mp.weixin.qq.com; its value is not shown here";
                self.refuse(
                    given.name,
                    Some((None, &given.source)),
                    rule.into(),
                    next.into(),
                );
                continue;
            }
            let app = apps.entry(appid).or_default();
            match kind {
                SecretKind::Secret => app.secret = Some(secret),
                SecretKind::CallbackToken => app.callback_token = Some(secret),
                SecretKind::CallbackAeskey => app.callback_aeskey = Some(secret),
                SecretKind::CallbackTokenPrevious => app.callback_token_previous = Some(secret),
                SecretKind::CallbackAeskeyPrevious => app.callback_aeskey_previous = Some(secret),
            }
        }
        for (appid, app) in &apps {
            self.check_callback(appid, app);
        }
        apps
    }

    fn check_callback(&mut self, appid: &str, app: &AppSecrets) {
        let (token, aeskey) = (&app.callback_token, &app.callback_aeskey);
        let previous = (&app.callback_token_previous, &app.callback_aeskey_previous);
        for (present, beside, missing, what) in [
            (
                token,
                aeskey,
                SecretKind::CallbackToken,
                "the EncodingAESKey",
            ),
            (
                token,
                previous.0,
                SecretKind::CallbackToken,
                "the previous token",
            ),
            (
                aeskey,
                previous.1,
                SecretKind::CallbackAeskey,
                "the previous EncodingAESKey",
            ),
        ] {
            if present.is_none() && beside.is_some() {
                let name = format!("{}_{appid}", missing.variable());
                let next = format!("set {name}, or remove {what}");
                self.refuse(name, None, format!("is missing beside {what}"), next);
            }
        }
    }

    /// Not a refusal: a mounted volume may know no other mode.
    fn look_at_mode(&mut self, path: &Path, name: &str) {
        if let Some(mode) = mode_for_others(path) {
            self.advice.push(format!(
                "{name}: the secret's file {} has mode {mode:04o}, others than its owner may use it: chmod 600 (in Kubernetes defaultMode: 0400)",
                path.display()
            ));
        }
    }

    fn read_secret(&mut self, given: &GivenSecret) -> Option<SecretString> {
        if !given.is_path {
            return Some(given.text.clone());
        }
        let path = given.text.expose_secret();
        match fs::read_to_string(path) {
            Ok(secret) => {
                self.look_at_mode(Path::new(path), &given.name);
                Some(secret.trim_end().into())
            }
            Err(error) => {
                let next = "give the path of a file that holds the secret alone and that this user may read";
                let rule = format!("cannot be read: {error}");
                self.refuse(
                    &given.name,
                    Some((Some(path), &given.source)),
                    rule,
                    next.into(),
                );
                None
            }
        }
    }
}

/// The permissions of a file, if others than its owner have any.
#[cfg(unix)]
fn mode_for_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn mode_for_others(_: &Path) -> Option<u32> {
    None
}

/// A TOML value as the text a variable would hold; a list is joined by commas.
fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<String>> = items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default();
    if name.is_empty() {
        "worker".to_owned()
    } else {
        name.chars().take(100).collect()
    }
}

/// A value fit for a message: not longer than a line.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 {
        text.to_owned()
    } else {
        text.chars().take(79).chain(['…']).collect()
    }
}

/// Whether Kubernetes, or Docker's links, put this variable there for a service whose name begins with ours: nobody wrote it, and
/// its value is an address.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_address = value.parse::<IpAddr>().is_ok();
    let is_port = value.parse::<u16>().is_ok();
    let is_endpoint = value
        .split_once("://")
        .is_some_and(|(protocol, _)| is_protocol(protocol));
    if name.ends_with("_SERVICE_HOST") {
        return is_address;
    }
    if let Some((_, port)) = name.split_once("_SERVICE_PORT") {
        return is_port && (port.is_empty() || port.starts_with('_'));
    }
    if name.ends_with("_PORT") && !name.contains("_PORT_") {
        return is_endpoint;
    }
    let Some((_, port)) = name.split_once("_PORT_") else {
        return false;
    };
    let mut words = port.split('_');
    let is_numbered = words.next().is_some_and(|port| port.parse::<u16>().is_ok());
    let is_named = words.next().is_some_and(is_protocol);
    is_numbered
        && is_named
        && match words.next() {
            None => is_endpoint,
            Some("PROTO") => is_protocol(value),
            Some("PORT") => is_port,
            Some("ADDR") => is_address,
            Some(_) => false,
        }
}

fn is_protocol(word: &str) -> bool {
    ["tcp", "udp", "sctp"]
        .iter()
        .any(|protocol| word.eq_ignore_ascii_case(protocol))
}

fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known
        .map(|candidate| (likeness(name, candidate), candidate))
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((likeness, candidate)) if likeness >= 0.6 => {
            format!("did you mean {candidate}? otherwise remove it")
        }
        _ => "remove it; `wxnotify run --help` lists every setting".to_owned(),
    }
}

/// 0 to 1, leaving out what would make all names look alike or different: the prefix and the appid.
fn likeness(name: &str, candidate: &str) -> f64 {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let candidate = candidate.strip_prefix(PREFIX).unwrap_or(candidate);
    match (candidate.strip_suffix("_<appid>"), name.rsplit_once('_')) {
        (Some(candidate), Some((name, _))) => {
            strsim::normalized_damerau_levenshtein(name, candidate)
        }
        _ => strsim::normalized_damerau_levenshtein(name, candidate),
    }
}

/// Checks `text` by `rule`; the error is the rule in words.
fn parse(rule: Rule, text: &str) -> Result<Value, String> {
    match rule {
        Rule::DatabaseUrl => unreachable!("it is read with libpq's variables"),
        Rule::ApiBase => parse_api_base(text),
        Rule::Proxy => parse_proxy(text),
        Rule::Whole(least, most) => match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Value::Whole(number)),
            _ => Err(format!("must be a whole number from {least} to {most}")),
        },
        Rule::Seconds(least, most) => match text.parse::<f64>() {
            Ok(secs) if (least..=most).contains(&secs) => Ok(Value::Span(Duration::from_secs_f64(secs))),
            _ => Err(format!("must be seconds from {least} to {most}, without a unit")),
        },
        Rule::Switch => match text {
            "true" => Ok(Value::Switch(true)),
            "false" => Ok(Value::Switch(false)),
            _ => Err("must be true or false".to_owned()),
        },
        Rule::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Rule::Choice(words) => Err(format!("must be one of {}", words.join(", "))),
        Rule::Name => {
            let visible = text.chars().all(|letter| !letter.is_control() && !letter.is_whitespace());
            let holds = visible && (1..=100).contains(&text.chars().count());
            holds.then(|| Value::Text(text.to_owned())).ok_or_else(|| "must be 1 to 100 visible characters".to_owned())
        }
        Rule::Listen => parse_listen(text),
        Rule::LogFilter => match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) if !text.is_empty() => Ok(Value::Text(text.to_owned())),
            _ => Err("must be a level (error, warn, info, debug, trace) or target=level pairs with commas".to_owned()),
        },
    }
}

fn parse_api_base(text: &str) -> Result<Value, String> {
    let mut urls = Vec::new();
    for part in text.split(',').map(str::trim) {
        let url = Url::parse(part).map_err(|error| format!("{part:?} is not a URL: {error}"))?;
        let loopback = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => return Err(format!("{part:?} names no host")),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => {
                return Err(format!(
                    "{part:?} must begin with https:// (http:// on loopback only)"
                ));
            }
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("{part:?} must end after the path"));
        }
        if url.path().split('/').any(|segment| segment == "cgi-bin") {
            return Err(format!("{part:?} must end before /cgi-bin"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must hold no user or password".to_owned());
        }
        urls.push(url);
    }
    Ok(Value::Urls(urls))
}

/// No part of the value is in the message: it may hold a password.
fn parse_proxy(text: &str) -> Result<Value, String> {
    if matches!(text, "" | "none") {
        return Ok(Value::Proxy(None));
    }
    let form = "must be http://host:port or http://user:password@host:port (https:// if the proxy itself speaks TLS), with \
                special characters of the password in percent-encoding, or none";
    let url = Url::parse(text).map_err(|_| form.to_owned())?;
    let is_base =
        matches!(url.path(), "/" | "") && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_base {
        return Err(form.to_owned());
    }
    Ok(Value::Proxy(Some(SecretString::from(text.to_owned()))))
}

fn parse_listen(text: &str) -> Result<Value, String> {
    if text.is_empty() {
        return Ok(Value::Address(None));
    }
    let local = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    let address = match local {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => text.parse().ok(),
    };
    match address {
        Some(address) => Ok(Value::Address(Some(address))),
        None => {
            Err("must be an IP address and a port, for example 127.0.0.1:9464, or empty".to_owned())
        }
    }
}
