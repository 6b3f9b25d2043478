//! The worker's HTTP listener: is it alive, can it work, and how is it doing? And, in [`callback`], what WeChat pushes.
//!
//! `/healthz` answers 200 while the process serves requests at all. `/readyz` answers 200 while the
//! database is reachable and leases flow, else 503 with the reasons. `/metrics` is Prometheus' text
//! format. The worker reports to [`Health`]; nothing here asks the database, so a probe costs nothing. What a client may
//! hold, and for how long, is `connections`' business.

pub mod callback;
mod connections;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

/// How long an answer may take; far more than any of these needs.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// None of these requests has a body.
const BODY_BYTES_MAX: usize = 1024;
/// How often samples are folded into the histograms, so that memory stays flat when nobody scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// The shortest silence between two lease polls that counts as a stall.
const STALL_MIN: Duration = Duration::from_secs(10);

/// What the worker last reported of itself; clones share it.
#[derive(Debug, Clone)]
pub struct Health(Arc<HealthState>);

#[derive(Debug)]
struct HealthState {
    stall: Duration,
    reported: Mutex<Reported>,
}

#[derive(Debug)]
struct Reported {
    /// Why the database is out of reach; `None` while it answers.
    database_failure: Option<String>,
    /// When a lease statement last succeeded, whether or not it found rows.
    lease_polled_at: Option<Instant>,
    stopping: bool,
}

impl Health {
    /// A worker that has not reached the database yet and will poll every `poll`.
    #[must_use]
    pub fn new(poll: Duration) -> Self {
        let reported = Reported {
            database_failure: Some("not connected yet".to_owned()),
            lease_polled_at: None,
            stopping: false,
        };
        Self(Arc::new(HealthState {
            stall: STALL_MIN.max(poll * 5),
            reported: Mutex::new(reported),
        }))
    }

    fn reported(&self) -> MutexGuard<'_, Reported> {
        // A panic elsewhere cannot leave these three fields half-written.
        self.0
            .reported
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A statement succeeded.
    pub fn database_ok(&self) {
        self.reported().database_failure = None;
    }

    /// A statement failed because the database is out of reach. `reason` is shown to whoever asks
    /// `/readyz`: no secret, no row.
    pub fn database_failed(&self, reason: impl Into<String>) {
        self.reported().database_failure = Some(reason.into());
    }

    /// A lease statement succeeded, with rows or without; so the database answers too.
    pub fn lease_polled(&self) {
        let mut reported = self.reported();
        reported.database_failure = None;
        reported.lease_polled_at = Some(Instant::now());
    }

    /// The worker takes no more rows.
    pub fn stopping(&self) {
        self.reported().stopping = true;
    }

    /// Why the worker cannot work at `now`, in words; empty when it can.
    #[must_use]
    pub fn complaints(&self, now: Instant) -> Vec<String> {
        let reported = self.reported();
        let mut complaints = Vec::new();
        if reported.stopping {
            complaints.push("stopping: no more rows are leased".to_owned());
        }
        if let Some(reason) = &reported.database_failure {
            complaints.push(format!("database: {reason}"));
        }
        match reported
            .lease_polled_at
            .map(|polled_at| now.saturating_duration_since(polled_at))
        {
            None => complaints.push("leases: none asked for yet".to_owned()),
            Some(silence) if silence > self.0.stall => complaints.push(format!(
                "leases: none asked for in {} s (limit {} s)",
                silence.as_secs(),
                self.0.stall.as_secs()
            )),
            Some(_) => {}
        }
        complaints
    }
}

/// Binds the listener of `WXNOTIFY_LISTEN`.
///
/// # Errors
///
/// The address is in use or not of this machine; the message names it and the setting.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let next =
            "free it, or set WXNOTIFY_LISTEN to another address (empty turns the listener off)";
        io::Error::new(
            error.kind(),
            format!("cannot listen on {address}: {error}; next: {next}"),
        )
    })
}

/// Serves until `shutdown` is cancelled, then finishes the requests at hand, for two seconds at most.
///
/// # Errors
///
/// The listener itself failed.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_with(listener, health, metrics, Router::new(), shutdown).await
}

/// As [`serve`], with routes beside those of this module; they bring their own limits.
///
/// # Errors
///
/// The listener itself failed.
pub async fn serve_with(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    routes: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let upkeep = shutdown
        .child_token()
        .run_until_cancelled_owned(keep_up(metrics.clone()));
    let router = router(health, metrics).merge(routes);
    let ((), _) = tokio::join!(connections::accept(listener, router, shutdown), upkeep);
    Ok(())
}

async fn keep_up(metrics: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_EVERY);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

fn router(health: Health, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(answer_readiness).with_state(health))
        .route("/metrics", get(render_metrics).with_state(metrics))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            ANSWER_WITHIN,
        ))
}

/// What `/readyz` answers.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
}

async fn answer_readiness(State(health): State<Health>) -> impl IntoResponse {
    let reasons = health.complaints(Instant::now());
    let ready = reasons.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Readiness { ready, reasons }))
}

async fn render_metrics(State(metrics): State<PrometheusHandle>) -> impl IntoResponse {
    // One after the other: hundreds of clients that ask without end must not keep a probe from the CPU.
    static RENDERING: Semaphore = Semaphore::const_new(1);
    let _turn = RENDERING.acquire().await;
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        metrics.render(),
    )
}
