//! The table of settings. A row here is a field of [`Settings`], a flag, a variable, a key of the file, a check and a help text.
//!
//! Start at the rows below the macro.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::loader::Loader;
use super::rules::{
    ApiBase, Choice, DatabaseUrl, Hours, Listen, LogFilter, Name, Proxy, Seconds, Switch, Whole,
};
use super::secrets::AppSecrets;
use super::{ConcurrencyMode, LogFormat, Setting, UnclaimedAccept};
use crate::address::Address;

/// Makes of each row the field, its entry in [`SETTINGS`] and what reads it.
macro_rules! settings {
    ($($field:ident: $type:ty {
        name: $name:literal,
        unit: $unit:literal,
        default: $default:expr,
        rule: $rule:expr,
        help: $help:literal,
    })*) => {
        /// Every setting but the apps' secrets, in the order in which people read them.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            unit: $unit,
            default: $default,
            help: $help,
        }),*];

        /// Checked settings: they hold each and together. `Debug` shows no secret.
        #[derive(Debug, Clone)]
        pub struct Settings {
            $(
                #[doc = concat!("`", $name, "`: ", $help, ".")]
                pub $field: $type,
            )*
            /// Each app's secrets, by appid.
            pub apps: BTreeMap<String, AppSecrets>,
            /// What works and should be otherwise, in words for the log.
            pub advice: Vec<String>,
        }

        /// The values that hold, each by itself; those that do not are with the loader.
        pub(super) struct Draft {
            $(pub(super) $field: Option<$type>,)*
        }

        impl Draft {
            /// Reads every setting.
            pub(super) fn read(loader: &mut Loader) -> Self {
                Self { $($field: read::$field(loader),)* }
            }

            /// `None`: one is missing.
            pub(super) fn complete(
                self,
                apps: BTreeMap<String, AppSecrets>,
                advice: Vec<String>,
            ) -> Option<Settings> {
                Some(Settings { $($field: self.$field?,)* apps, advice })
            }
        }

        /// What reads one setting, by its field.
        pub(super) mod read {
            use super::*;

            $(pub(in crate::config) fn $field(loader: &mut Loader) -> Option<$type> {
                loader.read($name, &$rule)
            })*
        }
    };
}

settings! {
    database: Address {
        name: "DATABASE_URL",
        unit: "URL",
        default: None,
        rule: DatabaseUrl,
        help: "the Postgres database, for example postgres://user:password@host/database, or what else libpq takes; on the command line other users can see the password",
    }
    api_base: Vec<Url> {
        name: "WXNOTIFY_API_BASE",
        unit: "URLs, comma-separated",
        default: Some("https://api.weixin.qq.com,https://api2.weixin.qq.com"),
        rule: ApiBase,
        help: "WeChat's hosts in order of preference, with the path of a gateway if there is one; plain http on loopback only",
    }
    https_proxy: Option<SecretString> {
        name: "WXNOTIFY_HTTPS_PROXY",
        unit: "URL",
        default: Some("none"),
        rule: Proxy,
        help: "a forward proxy (CONNECT) on the way to WeChat's hosts, http://user:password@host:port; HTTPS_PROXY is not heeded",
    }
    worker: String {
        name: "WXNOTIFY_WORKER",
        unit: "name",
        default: None,
        rule: Name,
        help: "the worker's name in views and logs (default: the host name)",
    }
    concurrency: usize {
        name: "WXNOTIFY_CONCURRENCY",
        unit: "sends",
        default: Some("64"),
        rule: Whole(1, 4096),
        help: "sends in flight per worker, at most",
    }
    concurrency_mode: ConcurrencyMode {
        name: "WXNOTIFY_CONCURRENCY_MODE",
        unit: "mode",
        default: Some("adaptive"),
        rule: Choice(&[("adaptive", ConcurrencyMode::Adaptive), ("fixed", ConcurrencyMode::Fixed)]),
        help: "adaptive: fewer sends in flight while WeChat slows down or refuses; fixed: always WXNOTIFY_CONCURRENCY",
    }
    concurrency_min: usize {
        name: "WXNOTIFY_CONCURRENCY_MIN",
        unit: "sends",
        default: Some("4"),
        rule: Whole(1, 4096),
        help: "sends in flight that the mode adaptive allows at least",
    }
    connect_timeout: Duration {
        name: "WXNOTIFY_CONNECT_TIMEOUT_SECS",
        unit: "seconds",
        default: Some("3"),
        rule: Seconds(0.1, 60.0),
        help: "how long connecting to WeChat may take",
    }
    request_timeout: Duration {
        name: "WXNOTIFY_REQUEST_TIMEOUT_SECS",
        unit: "seconds",
        default: Some("10"),
        rule: Seconds(0.1, 300.0),
        help: "how long a whole request to WeChat may take; after it the send is in doubt",
    }
    lease: Duration {
        name: "WXNOTIFY_LEASE_SECS",
        unit: "seconds",
        default: Some("30"),
        rule: Seconds(1.0, 3600.0),
        help: "how long a worker owns what it leased; more than the request time-out + 5",
    }
    doubt_window: Duration {
        name: "WXNOTIFY_DOUBT_WINDOW_SECS",
        unit: "seconds",
        default: Some("120"),
        rule: Seconds(0.0, 86_400.0),
        help: "how long evidence about a send whose reply was lost is awaited",
    }
    doubt_age: Duration {
        name: "WXNOTIFY_DOUBT_AGE_HOURS",
        unit: "hours",
        default: Some("168"),
        rule: Hours(1, 8760),
        help: "how long a doubt with on_doubt = 'hold' waits for an operator before it ends unresolved",
    }
    unclaimed_accept: UnclaimedAccept {
        name: "WXNOTIFY_UNCLAIMED_ACCEPT",
        unit: "word",
        default: Some("ignore"),
        rule: Choice(&[("ignore", UnclaimedAccept::Ignore), ("hold", UnclaimedAccept::Hold)]),
        help: "hold: an accept that WeChat pushed and no business row claims becomes a held row; ignore: it is only counted",
    }
    claim_window: Duration {
        name: "WXNOTIFY_CLAIM_WINDOW_SECS",
        unit: "seconds",
        default: Some("600"),
        rule: Seconds(1.0, 604_800.0),
        help: "how much later than WeChat's accept a row may be inserted and still be the same tap",
    }
    backoff_base: Duration {
        name: "WXNOTIFY_BACKOFF_BASE_SECS",
        unit: "seconds",
        default: Some("5"),
        rule: Seconds(0.01, 3600.0),
        help: "the first retry's longest wait; doubles with each attempt, with full jitter",
    }
    backoff_cap: Duration {
        name: "WXNOTIFY_BACKOFF_CAP_SECS",
        unit: "seconds",
        default: Some("3600"),
        rule: Seconds(0.01, 604_800.0),
        help: "the longest wait between two attempts",
    }
    poll: Duration {
        name: "WXNOTIFY_POLL_SECS",
        unit: "seconds",
        default: Some("1"),
        rule: Seconds(0.01, 60.0),
        help: "how often an idle worker looks for due rows when no bell rings",
    }
    drain: Duration {
        name: "WXNOTIFY_DRAIN_SECS",
        unit: "seconds",
        default: Some("25"),
        rule: Seconds(0.0, 3600.0),
        help: "a graceful stop's deadline",
    }
    listen: Option<SocketAddr> {
        name: "WXNOTIFY_LISTEN",
        unit: "address:port",
        default: Some("127.0.0.1:9464"),
        rule: Listen,
        help: "the HTTP listener (/healthz, /readyz, /metrics, /wechat/callback/APPID); empty turns it off",
    }
    pool_connections: u32 {
        name: "WXNOTIFY_POOL_CONNECTIONS",
        unit: "connections",
        default: Some("6"),
        rule: Whole(3, 100),
        help: "database connections per worker, all in all; sends hold none, so few are enough",
    }
    statement_timeout: Duration {
        name: "WXNOTIFY_STATEMENT_TIMEOUT_SECS",
        unit: "seconds",
        default: Some("10"),
        rule: Seconds(0.1, 600.0),
        help: "how long one SQL statement may take, watched on our side",
    }
    pooler: bool {
        name: "WXNOTIFY_POOLER",
        unit: "true or false",
        default: Some("false"),
        rule: Switch,
        help: "true: the database is behind a pooler in transaction mode; new rows are then found by polling",
    }
    history_months: i32 {
        name: "WXNOTIFY_HISTORY_MONTHS",
        unit: "months",
        default: Some("13"),
        rule: Whole(1, 1200),
        help: "how long final rows are kept",
    }
    data_days: i32 {
        name: "WXNOTIFY_DATA_DAYS",
        unit: "days",
        default: Some("0"),
        rule: Whole(0, 36500),
        help: "how long final rows keep their texts; 0: as long as the row",
    }
    openid_days: i32 {
        name: "WXNOTIFY_OPENID_DAYS",
        unit: "days",
        default: Some("0"),
        rule: Whole(0, 36500),
        help: "how long final rows name their receiver, for whom a pseudonym stands then; 0: as long as the row",
    }
    log_filter: String {
        name: "WXNOTIFY_LOG",
        unit: "filter",
        default: Some("info"),
        rule: LogFilter,
        help: "what is logged, for example info or wxnotify=debug,sqlx=warn",
    }
    log_format: LogFormat {
        name: "WXNOTIFY_LOG_FORMAT",
        unit: "word",
        default: Some("auto"),
        rule: Choice(&[("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)]),
        help: "auto is pretty on a terminal and json otherwise",
    }
}
