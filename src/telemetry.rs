//! What an operator sees from outside: the log, and every metric.
//!
//! The log goes to standard error, pretty on a terminal and JSON otherwise. [`METRICS`] lists every metric
//! with its unit and labels; each is recorded through one function here and nowhere else. No label and no
//! log line ever holds an openid, a token, a secret or a message's text.
//!
//! Start at [`METRICS`] for what is counted, at [`start_log`] for the log.

use std::any::Any;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use crate::config::{LogFormat, LogSettings};
use crate::legible::legible;

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution; its name ends in its unit.
    Histogram,
}

/// One metric of the list.
#[derive(Debug)]
pub struct Metric {
    /// The name in `/metrics`, its unit last.
    pub name: &'static str,
    /// What kind it is.
    pub kind: MetricKind,
    /// Its labels; their values come from small sets.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub help: &'static str,
}

const SENDS: &str = "wxnotify_sends_total";
const SEND_DURATION: &str = "wxnotify_send_duration_seconds";
const IN_FLIGHT: &str = "wxnotify_in_flight";
const CONCURRENCY_LIMIT: &str = "wxnotify_concurrency_limit";
const LEASED_ROWS: &str = "wxnotify_leased_rows_total";
const LEASE_DURATION: &str = "wxnotify_lease_duration_seconds";
const SETTLED_ROWS: &str = "wxnotify_settled_rows_total";
const SETTLE_DURATION: &str = "wxnotify_settle_duration_seconds";
const RESCUED_ROWS: &str = "wxnotify_rescued_rows_total";
const LATENESS: &str = "wxnotify_send_lateness_seconds";
const DUE_ROWS: &str = "wxnotify_due_rows";
const OLDEST_DUE_AGE: &str = "wxnotify_oldest_due_age_seconds";
const ROWS_IN_DOUBT: &str = "wxnotify_rows_in_doubt";
const PAUSED_APPS: &str = "wxnotify_paused_apps";
const QUEUE_COUNTED_AT: &str = "wxnotify_queue_counted_at_seconds";
const BREAKER_TRIPS: &str = "wxnotify_breaker_trips_total";
const TOKEN_REFRESHES: &str = "wxnotify_token_refreshes_total";
const DATABASE_ERRORS: &str = "wxnotify_database_errors_total";
const FENCED: &str = "wxnotify_fenced_total";
const REPEATED_ANSWERS: &str = "wxnotify_repeated_answers_total";
const LOGINS: &str = "wxnotify_logins_total";
const CALLBACKS: &str = "wxnotify_callbacks_total";
const FIRES: &str = "wxnotify_reminder_fires_total";
const CHECKS: &str = "wxnotify_checks_total";
const FIRES_OPEN: &str = "wxnotify_reminder_fires_open";
const TIMES_SKIPPED: &str = "wxnotify_reminder_times_skipped";
const FIRE_LAG: &str = "wxnotify_reminder_fire_lag_seconds";
const REMINDERS_ENDED: &str = "wxnotify_reminder_rows_ended";
const ROWS_WAITING: &str = "wxnotify_rows_waiting";
const REMINDERS_COUNTED_AT: &str = "wxnotify_reminders_counted_at_seconds";
const PANICS: &str = "wxnotify_panics_total";
const BUILD_INFO: &str = "wxnotify_build_info";

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: MetricKind::Counter,
        labels,
        help,
    }
}
const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        labels,
        help,
    }
}
const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: MetricKind::Histogram,
        labels,
        help,
    }
}

/// Every metric of the program.
pub static METRICS: &[Metric] = &[
    counter(
        SENDS,
        &["appid", "outcome"],
        "Attempts that ended, by outcome",
    ),
    histogram(
        SEND_DURATION,
        &["appid"],
        "From a request's start to WeChat's answer or our time-out",
    ),
    histogram(
        LATENESS,
        &["appid"],
        "From the moment a row was due to the start of its attempt",
    ),
    gauge(IN_FLIGHT, &[], "Requests to WeChat that await an answer"),
    gauge(
        CONCURRENCY_LIMIT,
        &[],
        "Requests to WeChat that may await an answer at once, as WeChat's answers allow",
    ),
    counter(LEASED_ROWS, &["appid"], "Rows leased by this worker"),
    histogram(
        LEASE_DURATION,
        &[],
        "How long the statement that leases a batch took",
    ),
    counter(
        SETTLED_ROWS,
        &[],
        "Rows whose outcome this worker has written",
    ),
    histogram(
        SETTLE_DURATION,
        &[],
        "How long the statement that settles a batch took",
    ),
    counter(
        RESCUED_ROWS,
        &[],
        "Rows of vanished workers that may have been sent and are in doubt now",
    ),
    gauge(
        DUE_ROWS,
        &[],
        "Rows that could be sent at wxnotify_queue_counted_at_seconds; counting stops at a bound",
    ),
    gauge(
        OLDEST_DUE_AGE,
        &[],
        "How long the oldest due row had waited at wxnotify_queue_counted_at_seconds",
    ),
    gauge(
        ROWS_IN_DOUBT,
        &[],
        "Rows that may have been sent, counted at wxnotify_queue_counted_at_seconds",
    ),
    gauge(
        PAUSED_APPS,
        &[],
        "Mini-programs that were paused at wxnotify_queue_counted_at_seconds",
    ),
    gauge(
        QUEUE_COUNTED_AT,
        &[],
        "When this worker last counted due rows, their age, doubts and paused mini-programs: unix time by the database's clock",
    ),
    counter(
        BREAKER_TRIPS,
        &["appid"],
        "Times the circuit breaker paused a mini-program",
    ),
    counter(
        TOKEN_REFRESHES,
        &["appid", "reason"],
        "Access tokens fetched, by reason",
    ),
    counter(
        DATABASE_ERRORS,
        &["statement"],
        "Statements that failed or took too long",
    ),
    counter(
        FENCED,
        &["statement"],
        "Times the database refused this worker because a newer one has its name or its lease",
    ),
    counter(
        REPEATED_ANSWERS,
        &[],
        "Answers to sends that were another request's, by fault of a gateway; the rows are in doubt",
    ),
    counter(
        CALLBACKS,
        &["appid", "result"],
        "Callback requests, by what became of them: verified, stored, repeated, ignored, failed, or why they were refused",
    ),
    counter(
        LOGINS,
        &["appid", "result"],
        "Exchanges of login codes, by what they brought: openid, retry or dead",
    ),
    counter(FIRES, &[], "Fires of reminders that this worker made"),
    counter(
        CHECKS,
        &["check", "result"],
        "Times that a check was asked whether reminders are still true, by result: answered or failed",
    ),
    gauge(
        FIRES_OPEN,
        &[],
        "Fires whose rows were being made at wxnotify_reminders_counted_at_seconds; counting stops at 10,000",
    ),
    gauge(
        TIMES_SKIPPED,
        &[],
        "Times of reminders in the hour before wxnotify_reminders_counted_at_seconds that were skipped",
    ),
    gauge(
        FIRE_LAG,
        &[],
        "How long the first fire that was due and not made had waited at wxnotify_reminders_counted_at_seconds",
    ),
    gauge(
        REMINDERS_ENDED,
        &["result"],
        "Rows of reminders that ended in the hour before wxnotify_reminders_counted_at_seconds: sent, no_credit, not_true, refused, in_doubt, expired, dead, cancelled, withdrawn",
    ),
    gauge(
        ROWS_WAITING,
        &["for"],
        "Rows that waited at wxnotify_reminders_counted_at_seconds for quiet hours to end or for a check; counting stops at 10,000",
    ),
    gauge(
        REMINDERS_COUNTED_AT,
        &[],
        "When this worker last counted what is about reminders: unix time by the database's clock",
    ),
    counter(
        PANICS,
        &[],
        "Panics of the program's own code; the row concerned is dead-lettered",
    ),
    gauge(
        BUILD_INFO,
        &["version"],
        "Always 1; the label tells the version",
    ),
];

/// Bounds of the histograms' buckets in seconds, from a local statement to a request's time-out.
const BUCKETS_SECS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Lateness is milliseconds when all is well, and hours after an outage.
const LATENESS_BUCKETS_SECS: &[f64] = &[
    0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0,
    86_400.0,
];

/// Starts recording metrics, once a process, and answers how to render them.
///
/// Without this call every recording function does nothing, at next to no cost.
pub fn record_metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(install_metrics).clone()
}

fn install_metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new()
        .set_buckets(BUCKETS_SECS)
        .and_then(|builder| {
            builder
                .set_buckets_for_metric(Matcher::Full(LATENESS.to_owned()), LATENESS_BUCKETS_SECS)
        })
        .expect("the buckets are not empty")
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)
        .expect("nothing else in the program installs a recorder");
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    handle
}

/// The metrics of one mini-program's sends. Finding a metric by its labels costs more than recording it, so they are found
/// once for a batch.
#[derive(Debug)]
pub struct SendMetrics {
    appid: Arc<str>,
    sent: Counter,
    duration: Histogram,
    lateness: Histogram,
    in_flight: Gauge,
}

/// The outcome that nearly all attempts have.
const SENT: &str = "sent";

impl SendMetrics {
    /// Finds the metrics of `appid`.
    pub fn of(appid: &str) -> Self {
        let appid = Arc::<str>::from(appid);
        Self {
            sent: counter!(SENDS, "appid" => appid.clone(), "outcome" => SENT),
            duration: histogram!(SEND_DURATION, "appid" => appid.clone()),
            lateness: histogram!(LATENESS, "appid" => appid.clone()),
            in_flight: gauge!(IN_FLIGHT),
            appid,
        }
    }

    /// An attempt begins this long after its row was due; it counts as in flight until the answer is dropped.
    pub fn begin(&self, lateness: Duration) -> InFlight<'_> {
        self.lateness.record(lateness.as_secs_f64());
        self.in_flight.increment(1.0);
        InFlight(&self.in_flight)
    }

    /// One attempt ended as `outcome` (`sent`, `retry`, `dead`, `doubt` …) after `took`.
    pub fn end(&self, outcome: &'static str, took: Duration) {
        if outcome == SENT {
            self.sent.increment(1);
        } else {
            counter!(SENDS, "appid" => self.appid.clone(), "outcome" => outcome).increment(1);
        }
        self.duration.record(took.as_secs_f64());
    }
}

/// Counts one request in flight until it is dropped.
#[derive(Debug)]
#[must_use = "it counts only as long as it lives"]
pub struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// So many sends may be in flight now.
pub fn record_concurrency_limit(limit: usize) {
    gauge!(CONCURRENCY_LIMIT).set(approximate(count(limit)));
}

/// One lease of `rows` rows of `appid`; zero rows tell of the statement's duration alone.
pub fn record_lease(appid: &str, rows: usize, took: Duration) {
    if rows > 0 {
        counter!(LEASED_ROWS, "appid" => appid.to_owned()).increment(count(rows));
    }
    histogram!(LEASE_DURATION).record(took.as_secs_f64());
}

/// One batch of `rows` outcomes was written.
pub fn record_settle(rows: usize, took: Duration) {
    counter!(SETTLED_ROWS).increment(count(rows));
    histogram!(SETTLE_DURATION).record(took.as_secs_f64());
}

/// A rescue found `rows` that may have been sent.
pub fn record_rescue(rows: usize) {
    counter!(RESCUED_ROWS).increment(count(rows));
}

/// What the queue looked like when it was last weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueWeight {
    /// Rows that could be sent now.
    pub due_rows: u64,
    /// How long the oldest of them has waited; zero when there is none.
    pub oldest_due_age: Duration,
    /// Rows in doubt.
    pub rows_in_doubt: u64,
    /// Paused mini-programs.
    pub paused_apps: u64,
    /// When it was weighed, by the database's clock.
    pub counted_at: DateTime<Utc>,
}

/// Sets the gauges of the queue.
pub fn record_queue(weight: QueueWeight) {
    gauge!(DUE_ROWS).set(approximate(weight.due_rows));
    gauge!(OLDEST_DUE_AGE).set(weight.oldest_due_age.as_secs_f64());
    gauge!(ROWS_IN_DOUBT).set(approximate(weight.rows_in_doubt));
    gauge!(PAUSED_APPS).set(approximate(weight.paused_apps));
    let counted_at_ms = u64::try_from(weight.counted_at.timestamp_millis()).unwrap_or(0);
    gauge!(QUEUE_COUNTED_AT).set(approximate(counted_at_ms) / 1e3);
}

/// What became of reminders in the last hour, and what waits.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct ReminderCounts {
    /// Fires whose rows are being made.
    pub open_fires: i64,
    /// Times that were skipped.
    pub skipped: i64,
    /// Seconds that the first fire due and not made has waited; zero when there is none.
    pub lag_secs: f64,
    /// Rows that wait for the end of quiet hours.
    pub waiting_quiet: i64,
    /// Rows that wait for a check.
    pub waiting_check: i64,
    /// How rows ended, and how many did so.
    pub results: Vec<String>,
    /// In the order of `results`.
    pub ended: Vec<i64>,
    /// When it was counted, by the database's clock.
    pub counted_at: DateTime<Utc>,
}

/// All results that a row of a reminder may end with: one that no row ends with any more is zero.
const REMINDER_RESULTS: [&str; 9] = [
    "sent",
    "no_credit",
    "not_true",
    "refused",
    "in_doubt",
    "expired",
    "dead",
    "cancelled",
    "withdrawn",
];

/// Sets the gauges of reminders.
pub fn record_reminders(counts: &ReminderCounts) {
    gauge!(FIRES_OPEN).set(approximate(counts.open_fires.unsigned_abs()));
    gauge!(TIMES_SKIPPED).set(approximate(counts.skipped.unsigned_abs()));
    gauge!(FIRE_LAG).set(counts.lag_secs.max(0.0));
    gauge!(ROWS_WAITING, "for" => "quiet").set(approximate(counts.waiting_quiet.unsigned_abs()));
    gauge!(ROWS_WAITING, "for" => "check").set(approximate(counts.waiting_check.unsigned_abs()));
    for result in REMINDER_RESULTS {
        let ended = counts.results.iter().position(|told| told == result);
        let ended = ended.map_or(0, |at| counts.ended[at]);
        gauge!(REMINDERS_ENDED, "result" => result).set(approximate(ended.unsigned_abs()));
    }
    let counted_at_ms = u64::try_from(counts.counted_at.timestamp_millis()).unwrap_or(0);
    gauge!(REMINDERS_COUNTED_AT).set(approximate(counted_at_ms) / 1e3);
}

/// This worker made `fires` fires of reminders.
pub fn record_fires(fires: i32) {
    counter!(FIRES).increment(u64::try_from(fires).unwrap_or(0));
}

/// A check was asked, and answered or failed.
pub fn record_check(check: &str, answered: bool) {
    let result = if answered { "answered" } else { "failed" };
    counter!(CHECKS, "check" => check.to_owned(), "result" => result).increment(1);
}

/// The circuit breaker paused `appid`.
pub fn record_breaker_trip(appid: &str) {
    counter!(BREAKER_TRIPS, "appid" => appid.to_owned()).increment(1);
}

/// A token was fetched because of `reason` (`first`, `expiring`, `rejected`, `forced`, `foreign` …).
pub fn record_token_refresh(appid: &str, reason: &'static str) {
    counter!(TOKEN_REFRESHES, "appid" => appid.to_owned(), "reason" => reason).increment(1);
}

/// A statement, named as its file in `sql/`, failed or took too long.
pub fn record_database_error(statement: &'static str) {
    counter!(DATABASE_ERRORS, "statement" => statement).increment(1);
}

/// The database refused a statement because this worker, or its lease, has been superseded.
pub fn record_fenced(statement: &'static str) {
    counter!(FENCED, "statement" => statement).increment(1);
}

/// The answer to a send was another request's.
pub fn record_repeated_answer() {
    counter!(REPEATED_ANSWERS).increment(1);
}

/// A callback request ended as `result`. `appid` is one that this worker has a token for, or `unknown`.
pub fn record_callback(appid: &str, result: &'static str) {
    counter!(CALLBACKS, "appid" => appid.to_owned(), "result" => result).increment(1);
}

/// An exchange of a login code ended as `result`.
pub fn record_login(appid: &str, result: &'static str) {
    counter!(LOGINS, "appid" => appid.to_owned(), "result" => result).increment(1);
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

/// A count as the floating-point number that a gauge holds; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "a gauge holds nothing else")]
fn approximate(rows: u64) -> f64 {
    rows as f64
}

/// Crates that may print addresses with tokens in them, or headers, at their finest levels: never shown below this.
const LEVEL_CAPS: &[(&str, LevelFilter)] = &[
    ("h2", LevelFilter::INFO),
    ("hyper", LevelFilter::INFO),
    ("hyper_util", LevelFilter::INFO),
    ("reqwest", LevelFilter::INFO),
    ("rustls", LevelFilter::INFO),
    ("sqlx", LevelFilter::DEBUG),
    ("tower_http", LevelFilter::INFO),
];

/// Starts the log on standard error and has panics reported there.
///
/// # Panics
///
/// When called twice.
pub fn start_log(settings: &LogSettings) {
    let pretty = match settings.format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let lines = if pretty {
        let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines_for_people(ansi, std::io::stderr).boxed()
    } else {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed()
    };
    let filter =
        EnvFilter::try_new(&settings.filter).expect("the filter was parsed when it was checked");
    let caps = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_targets(LEVEL_CAPS.iter().copied());
    registry().with(filter).with(caps).with(lines).init();
    std::panic::set_hook(Box::new(report_panic));
}

/// Lines that people read, in which nothing that is logged moves the cursor or begins a line of its own.
fn lines_for_people<S, W>(ansi: bool, writer: W) -> impl Layer<S> + Send + Sync
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    fmt::layer()
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .with_ansi(ansi)
        .with_target(false)
        .with_writer(writer)
}

fn write_field(
    writer: &mut Writer<'_>,
    field: &Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    use owo_colors::OwoColorize;
    let value = format!("{value:?}");
    let value = legible(&value);
    match field.name() {
        "message" => write!(writer, "{value}"),
        name if writer.has_ansi_escapes() => {
            write!(writer, "{}{}{value}", name.italic(), "=".dimmed())
        }
        name => write!(writer, "{name}={value}"),
    }
}

/// Lets a few lines of a kind into the log each minute and counts the rest, where strangers can cause any number.
#[derive(Debug)]
pub struct Restraint {
    lines_max: u32,
    minute: Mutex<Option<Minute>>,
}

#[derive(Debug)]
struct Minute {
    began: Instant,
    lines: u32,
    left_out: u64,
}

impl Restraint {
    /// So many lines a minute.
    #[must_use]
    pub const fn new(lines_max: u32) -> Self {
        Self {
            lines_max,
            minute: Mutex::new(None),
        }
    }

    /// `None`: say nothing. Else how many lines were left out since the last that was let in.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = minute.get_or_insert(Minute {
            began: now,
            lines: 0,
            left_out: 0,
        });
        if now.duration_since(minute.began) >= Duration::from_secs(60) {
            (minute.began, minute.lines) = (now, 0);
        }
        if minute.lines >= self.lines_max {
            minute.left_out += 1;
            return None;
        }
        minute.lines += 1;
        Some(std::mem::take(&mut minute.left_out))
    }
}

/// Whether a panic only says that nobody reads our standard output any more, as under `| head`.
#[must_use]
pub fn is_closed_output(panic: &(dyn Any + Send)) -> bool {
    panic
        .downcast_ref::<String>()
        .is_some_and(|message| is_closed_output_message(message))
}

fn is_closed_output_message(message: &str) -> bool {
    message.starts_with("failed printing to stdout: Broken pipe")
}

/// Logs where a panic happened. Its message is shown only if it is a literal of the source: one built at
/// run time may quote a row.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload().downcast_ref::<String>();
    if message.is_some_and(|message| is_closed_output_message(message)) {
        return;
    }
    counter!(PANICS).increment(1);
    let message = panic
        .payload()
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(not shown: it may quote data)");
    let location = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        thread = thread.name().unwrap_or("unnamed"),
        "Panic at {location}: {message}"
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is written to it, for a test to read.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_that_is_logged_forges_a_line_or_moves_the_cursor() {
        let evil = "wx1\u{1b}[2J\u{9b}31m\r\n2026-01-01T00:00:00Z ERROR forged\u{202e}\u{2028}";
        for ansi in [false, true] {
            let written = Written::default();
            let writer = written.clone();
            let lines = lines_for_people(ansi, move || writer.clone());
            tracing::subscriber::with_default(registry().with(lines), || {
                let span = tracing::info_span!("deliver", wechat.appid = %evil, business = evil);
                let _entered = span.enter();
                let error = std::io::Error::other(evil);
                tracing::warn!(wechat.appid = %evil, reason = evil, cause = ?evil, "Rows wait for {evil}: {error}");
                tracing::warn!(error = &error as &dyn std::error::Error, "{}", evil);
            });

            let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert_eq!(log.lines().count(), 2, "a line an event: {log}");
            assert!(log.contains("Rows wait for wx1\\u{1b}[2J"), "{log}");
            assert!(!log.contains("\u{1b}[2J"), "{log:?}");
            // Ours are colours.
            let log = log.replace("\u{1b}[", if ansi { "" } else { "\u{1b}[" });
            let obeyed = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{2028}".contains(c);
            assert!(!log.contains(obeyed), "{log:?}");
        }
    }

    #[test]
    fn lines_that_strangers_cause_are_few_and_the_rest_is_counted() {
        let restraint = Restraint::new(2);
        let begin = Instant::now();
        let after = |secs| restraint.admit_at(begin + Duration::from_secs(secs));
        assert_eq!(
            [after(0), after(1), after(2), after(59)],
            [Some(0), Some(0), None, None]
        );
        assert_eq!([after(60), after(61), after(62)], [Some(2), Some(0), None]);
        assert_eq!(after(300), Some(1));
    }

    #[test]
    fn a_panic_is_logged_with_its_place_and_without_data() {
        let written = Written::default();
        let writer = written.clone();
        let lines = fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let openid = std::hint::black_box("oSecretOpenid");
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(report_panic));
        tracing::subscriber::with_default(registry().with(lines), || {
            let _ = std::panic::catch_unwind(|| panic!("no row for {openid}"));
            let _ = std::panic::catch_unwind(|| panic!("a literal of the source"));
            let _ = std::panic::catch_unwind(|| {
                panic!(
                    "failed printing to stdout: {}",
                    std::hint::black_box("Broken pipe")
                )
            });
        });
        std::panic::set_hook(usual);

        let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 2, "a closed pipe is no news: {log}");
        assert!(
            log.contains("telemetry.rs:") && log.contains("not shown"),
            "{log}"
        );
        assert!(log.contains("a literal of the source"), "{log}");
        assert!(!log.contains("oSecretOpenid"), "{log}");
    }

    /// Records everything once and returns what `/metrics` shows.
    fn record_everything() -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let sends = SendMetrics::of("wx1");
            drop(sends.begin(Duration::from_millis(3)));
            sends.end("sent", Duration::from_millis(3));
            sends.end("dead", Duration::from_millis(3));
            record_concurrency_limit(64);
            record_lease("wx1", 2, Duration::from_millis(1));
            record_settle(2, Duration::from_millis(1));
            record_rescue(1);
            let oldest_due_age = Duration::from_secs(5);
            record_queue(QueueWeight {
                due_rows: 1,
                oldest_due_age,
                rows_in_doubt: 2,
                paused_apps: 3,
                counted_at: Utc::now(),
            });
            record_breaker_trip("wx1");
            record_token_refresh("wx1", "first");
            record_database_error("lease");
            record_fenced("settle");
            record_repeated_answer();
            record_callback("wx1", "stored");
            record_login("wx1", "openid");
            record_fires(1);
            record_check("lessons", true);
            record_reminders(&ReminderCounts {
                open_fires: 1,
                skipped: 2,
                lag_secs: 0.5,
                waiting_quiet: 3,
                waiting_check: 4,
                results: vec!["sent".to_owned()],
                ended: vec![5],
                counted_at: Utc::now(),
            });
            counter!(PANICS).increment(1);
            gauge!(BUILD_INFO, "version" => "0").set(1.0);
        });
        handle.render()
    }

    #[test]
    fn every_metric_of_the_list_is_recorded_with_exactly_its_labels() {
        let rendered = record_everything();
        for metric in METRICS {
            let line = rendered
                .lines()
                .find(|line| !line.starts_with('#') && line.starts_with(metric.name))
                .unwrap_or_else(|| panic!("{} is never recorded", metric.name));
            let labels = line.split_once('{').map_or("", |(_, labels)| labels);
            let names: Vec<&str> = labels
                .split("\",")
                .filter_map(|label| label.split_once('=').map(|(name, _)| name))
                .filter(|name| !matches!(*name, "le" | "quantile"))
                .collect();
            assert_eq!(names, metric.labels, "labels of {}", metric.name);
        }
    }

    #[test]
    fn every_recorded_metric_is_in_the_list() {
        for line in record_everything()
            .lines()
            .filter(|line| line.starts_with("# TYPE "))
        {
            let name = line.split(' ').nth(2).unwrap();
            assert!(
                METRICS.iter().any(|metric| metric.name == name),
                "{name} is not in the list"
            );
        }
    }

    #[test]
    fn names_end_in_their_unit_and_no_label_names_a_person() {
        for metric in METRICS {
            assert!(metric.name.starts_with("wxnotify_"), "{}", metric.name);
            let ending = match metric.kind {
                MetricKind::Counter => "_total",
                MetricKind::Histogram => "_seconds",
                MetricKind::Gauge => "",
            };
            assert!(
                metric.name.ends_with(ending),
                "{} should end in {ending}",
                metric.name
            );
            assert!(!metric.labels.contains(&"openid"), "{}", metric.name);
        }
    }
}
