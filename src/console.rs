//! `wxnotify console`: pages for whoever is woken, answers a customer, or decides about a redrive.
//!
//! A process of its own: it holds no secret of WeChat's, may be restarted at will, and runs as many copies as wanted. Who looks has
//! logged in ([`people`]), and what a page asks of the database runs as the role of that person ([`visit`]), so that the database
//! itself refuses. Pages ([`pages`]) are made here and need no JavaScript; a script of a few kilobytes moves what may move. Verbs over
//! many rows are batches, previewed and confirmed; [`runner`] does them.
//!
//! Start at [`run`], then [`router`].

mod assets;
mod chart;
mod frame;
mod pages;
mod people;
mod runner;
mod visit;
mod words;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use clap::Subcommand;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tracing::{info, warn};

use crate::config::Settings;
use crate::exit::{Exit, Output};
use crate::operate::overview::Overview;
use crate::signals::StopSignals;
use crate::store::Store;

pub use self::people::UserCommand;

/// The server ends a statement of a page that takes longer: then the page says that it asks for too much.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a statement may take all in all, a connection included.
const DEADLINE: Duration = Duration::from_secs(8);
/// Connections to the database.
const CONNECTIONS: u32 = 4;
/// How long a page may take to make.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// No form of ours is longer.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// What the stop leaves requests at hand.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// What a page may load and do: nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'";

/// `wxnotify console`
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Where the pages are served; plain http, so on loopback, or behind a proxy that speaks https
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9465",
        env = "WXNOTIFY_CONSOLE_LISTEN"
    )]
    listen: SocketAddr,
    /// A word beside the name on every page, for instance production
    #[arg(long, value_name = "WORD", env = "WXNOTIFY_CONSOLE_BADGE")]
    badge: Option<String>,
    /// Browsers come over https, through a proxy: cookies are marked so, and its X-Forwarded-For names who asks
    #[arg(long, env = "WXNOTIFY_CONSOLE_BEHIND_HTTPS")]
    behind_https: bool,
    #[command(subcommand)]
    command: Option<ConsoleCommand>,
}

#[derive(Debug, Subcommand)]
enum ConsoleCommand {
    /// Who may log in
    #[command(subcommand)]
    User(UserCommand),
}

/// Whether operators see it, and of which mini-program.
type SeenBy = (bool, Option<String>);

/// What all requests share.
pub(crate) struct Console {
    store: Store,
    badge: Option<String>,
    behind_https: bool,
    /// Log-ins that are being judged: a hash is slow on purpose, and takes memory.
    judging: tokio::sync::Semaphore,
    /// What the overview showed a moment ago, which is good enough for whoever asks next.
    seen: Mutex<HashMap<SeenBy, (Instant, Arc<Overview>)>>,
    stop: CancellationToken,
}

/// Runs the console, or changes who may log in.
///
/// # Errors
///
/// The address is taken, the database is away or not migrated, or the command does not say what to do.
pub async fn run(args: Args, settings: &Settings, output: Output) -> anyhow::Result<ExitCode> {
    let store = Store::connect_lazy(
        settings.database.clone(),
        settings.route(),
        CONNECTIONS,
        DEADLINE,
    );
    if let Some(ConsoleCommand::User(command)) = args.command {
        let done = people::run(command, &store, output).await;
        store.pool.close().await;
        return done;
    }
    if !args.listen.ip().is_loopback() && !args.behind_https {
        warn!(
            "The console is served over plain http on {}: passwords can be read on the way. Serve it on loopback, or through a proxy \
             that speaks https, with --behind-https",
            args.listen
        );
    }
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; free it, or set WXNOTIFY_CONSOLE_LISTEN to another address",
            args.listen
        )
    })?;
    let stop = CancellationToken::new();
    info!("The console is at http://{}", listener.local_addr()?);
    let serving = serve(
        listener,
        store.clone(),
        args.badge,
        args.behind_https,
        stop.clone(),
    );
    let mut signals = StopSignals::listen().context("waiting for signals")?;
    let served = tokio::spawn(serving);
    signals.next().await;
    stop.cancel();
    let _ = tokio::time::timeout(LAST_ANSWERS_WITHIN, served).await;
    store.pool.close().await;
    Ok(Exit::Done.into())
}

/// Serves until `stop` is cancelled.
///
/// # Errors
///
/// The listener itself failed.
pub async fn serve(
    listener: TcpListener,
    store: Store,
    badge: Option<String>,
    behind_https: bool,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let console = Arc::new(Console {
        store,
        badge,
        behind_https,
        judging: tokio::sync::Semaphore::new(2),
        seen: Mutex::default(),
        stop: stop.clone(),
    });
    let runner = tokio::spawn(runner::run(console.clone()));
    let app = router(console).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    runner.abort();
    served
}

/// Every route. Who may ask is said by the arguments of its function: [`visit::Visit`] is anybody who is logged in,
/// [`visit::Operator`] and [`visit::Admin`] are fewer.
fn router(console: Arc<Console>) -> Router {
    let pages = Router::new()
        .route("/", get(pages::overview::show))
        .route("/find", get(pages::find::show))
        .route("/n/{id}", get(pages::row::show))
        .route("/n/{id}/reveal", post(pages::row::reveal))
        .route(
            "/n/{id}/{verb}",
            get(pages::verb::ask).post(pages::verb::act),
        )
        .route("/failures", get(pages::lists::failures))
        .route("/dead", get(pages::lists::dead))
        .route("/doubts", get(pages::lists::doubts))
        .route("/credits", get(pages::credits::show))
        .route("/apps", get(pages::apps::show))
        .route(
            "/apps/{appid}/{verb}",
            get(pages::apps::ask).post(pages::apps::act),
        )
        .route("/reminders", get(pages::reminders::list))
        .route("/reminders/{id}", get(pages::reminders::show))
        .route(
            "/reminders/{id}/{verb}",
            get(pages::reminders::ask).post(pages::reminders::act),
        )
        .route("/forecast", get(pages::reminders::forecast))
        .route("/workers", get(pages::lists::workers))
        .route("/actions", get(pages::lists::actions))
        .route("/about", get(pages::about::show))
        .route("/sessions/end", post(pages::about::end_sessions))
        .route("/batches", get(pages::batches::list))
        .route("/preview", post(pages::batches::preview))
        .route("/batches/{id}", get(pages::batches::show))
        .route("/batches/{id}/{verb}", post(pages::batches::act))
        .route("/export", get(pages::export::download))
        .route("/login", get(people::ask).post(people::log_in))
        .route("/logout", post(people::log_out));
    pages
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            ANSWER_WITHIN,
        ))
        // Not under the time limit: it lasts.
        .route("/live", get(pages::live::stream))
        .route("/assets/{name}", get(assets::serve))
        // Browsers ask for it on their own.
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .route("/healthz", get(async || "alive\n"))
        .fallback(pages::nothing_here)
        .layer(middleware::from_fn(visit::refuse_forgeries))
        .layer(middleware::map_response(add_policy))
        .layer(CompressionLayer::new())
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .with_state(console)
}

/// What every answer says about itself.
async fn add_policy(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}
