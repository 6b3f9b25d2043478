//! The listener's connections: who has a place, for how long, and who gives it up to a newcomer.
//!
//! A newcomer is always accepted. When all places are taken, the connection that has kept us waiting longest is ended: one
//! that dawdles over its head or body, does not read its answer, or says nothing. One whose request has arrived whole and is
//! being answered is never ended for another's sake. So a probe or a push, which is whole at once, needs no place reserved,
//! whatever strangers hold. Waiting itself has deadlines, and so has a connection as a whole.
//!
//! A connection serves one request: who could send the next before reading the last would never be seen to keep us waiting.
//! Probes, scrapers and pushes come seconds apart, or through a proxy close by.
//!
//! Start at [`accept`].

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::Request;
use futures::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use crate::lock::lock;

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long a client may leave what we write unread.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may last, however slowly its client reads: more than head, body and answer may take.
const CONNECTION_WITHIN: Duration = Duration::from_secs(30);
/// What a stop leaves requests at hand: storing an event takes less than a second.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Each costs memory and a file descriptor.
const CONNECTIONS_MAX: usize = 256;
/// What a connection may keep in memory of what it reads, and so the longest head.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// After a failed accept, out of file descriptors most likely: let some connections end first.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Serves `router` until `shutdown` is cancelled, then finishes the requests at hand.
pub(super) async fn accept(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let mut connections = Connections::default();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let seated = async {
            if let Ok((stream, _)) = accepted {
                connections.make_room().await;
                connections.seat(stream, router.clone(), shutdown.clone());
            } else {
                connections.end_longest_awaited();
                sleep(ACCEPT_AGAIN).await;
            }
        };
        if shutdown.run_until_cancelled(seated).await.is_none() {
            break;
        }
    }
    drop(listener);
    let last_answers = async { while connections.tasks.join_next().await.is_some() {} };
    // Who is not done by then is cut off: a client that reads nothing must not keep the process alive.
    let _ = timeout(LAST_ANSWERS_WITHIN, last_answers).await;
}

/// The connections that are served.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    seated: Vec<(AbortHandle, Turn)>,
    /// Rung when a client that was being answered is awaited again.
    awaited: Arc<Notify>,
}

impl Connections {
    fn seat(&mut self, stream: TcpStream, router: Router, shutdown: CancellationToken) {
        let turn = Turn {
            awaited_since: Arc::new(Mutex::new(Some(Instant::now()))),
            awaited: self.awaited.clone(),
        };
        let task = self
            .tasks
            .spawn(converse(stream, router, turn.clone(), shutdown));
        self.seated.retain(|(task, _)| !task.is_finished());
        self.seated.push((task, turn));
    }

    /// Waits until there is a place, for an answer at the longest.
    async fn make_room(&mut self) {
        while self.tasks.len() >= CONNECTIONS_MAX {
            self.end_longest_awaited();
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = self.awaited.notified() => {}
            }
        }
    }

    fn end_longest_awaited(&mut self) {
        self.seated.retain(|(task, _)| !task.is_finished());
        let awaited = self
            .seated
            .iter()
            .filter_map(|(task, turn)| Some((turn.awaited_since()?, task)));
        if let Some((_, task)) = awaited.min_by_key(|(since, _)| *since) {
            task.abort();
        }
    }
}

/// Whose turn it is on a connection: its client's, to send or to read, or ours.
#[derive(Clone)]
struct Turn {
    awaited_since: Arc<Mutex<Option<Instant>>>,
    awaited: Arc<Notify>,
}

impl Turn {
    fn awaited_since(&self) -> Option<Instant> {
        *lock(&self.awaited_since)
    }

    fn is_ours(&self) {
        *lock(&self.awaited_since) = None;
    }

    fn is_clients(&self) {
        *lock(&self.awaited_since) = Some(Instant::now());
        self.awaited.notify_one();
    }

    /// The request, so that the turn is ours once its body has arrived.
    fn watch(&self, request: Request<Incoming>) -> Request<Body> {
        let turn = self.clone();
        request.map(|body| {
            if body.is_end_stream() {
                turn.is_ours();
                return Body::empty();
            }
            let end = stream::poll_fn(move |_| {
                turn.is_ours();
                Poll::Ready(None)
            });
            Body::from_stream(Body::new(body).into_data_stream().chain(end))
        })
    }
}

/// hyper has deadlines for heads alone, and none for writing.
async fn converse(stream: TcpStream, router: Router, turn: Turn, shutdown: CancellationToken) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_WITHIN));
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let answer = router.call(turn.watch(request));
        let turn = turn.clone();
        async move {
            let answer = answer.await;
            turn.is_clients();
            answer
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(BUFFER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut served = std::pin::pin!(served);
    // An error here is the client's leaving, or its taking too long.
    let all = async {
        tokio::select! {
            _ = served.as_mut() => return,
            () = shutdown.cancelled() => {}
        }
        served.as_mut().graceful_shutdown();
        let _ = served.await;
    };
    let _ = timeout(CONNECTION_WITHIN, all).await;
}
