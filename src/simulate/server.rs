//! HTTP: accepting connections, routing calls, and playing faults on the wire.
//!
//! hyper is used without a router: a fault may have to leave a call unanswered, cut its body or
//! reset its connection, and a benchmark's worker must not wait for the fake.
//!
//! Start at [`serve`].

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::callback::{CallbackTiming, Push};
use super::control::{self, CONTROL_PREFIX, Control, ControlRequest};
use super::reply::{Refusal, Reply};
use super::script::Action;
use super::send::Inquiry;
use super::state::{Arrived, Ending, Shared};

/// Larger request bodies get HTTP 413.
const BODY_BYTES_MAX: usize = 1 << 20;
const CHUNK: &[u8] = &[b'x'; 64 * 1024];

/// Accepts connections until told to stop; then every connection is closed as it stands.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(converse(stream, peer, shared.clone()));
            }
            // Out of file descriptors, most likely: let some connections end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    connections.shutdown().await;
}

async fn converse(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Without it replies may wait for the peer's delayed acknowledgement; a failure costs only time.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket {
        stream,
        reset: reset.clone(),
    };
    let service = service_fn(move |request| {
        let (shared, reset) = (shared.clone(), reset.clone());
        async move {
            let answer = answer(&shared, request, peer.ip()).await;
            if answer.is_err() {
                reset.store(true, Ordering::Relaxed);
            }
            answer
        }
    });
    // An error here is the peer's leaving or a fault being played.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

/// The connection is to be reset without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection reset on purpose")]
struct ResetConnection;

async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    client_ip: IpAddr,
) -> Result<Response<Answer>, ResetConnection> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(page(StatusCode::PAYLOAD_TOO_LARGE));
    };
    let body = body.to_bytes();
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    if let Some(api) = Api::from_path(path) {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default();
        let inquiry = Inquiry::read(api, &parts.method, query, host, &body, client_ip);
        return call(shared, &inquiry).await;
    }
    if let Some(operation) = path.strip_prefix(CONTROL_PREFIX) {
        if is_of_a_page(&parts.headers) {
            return Ok(page(StatusCode::FORBIDDEN));
        }
        let control = Control::new(shared.clone());
        let request = ControlRequest {
            method: &parts.method,
            operation,
            query,
            body,
        };
        let (status, content_type, text) = control::answer(&control, request).await;
        return Ok(respond(status, content_type, text.into()));
    }
    let rid = {
        let mut state = shared.lock();
        let now = state.now();
        super::reply::mint_rid(now, &mut state.rng)
    };
    let Refusal { errcode, text } = Refusal::new(40066);
    Ok(json(Reply::refused(errcode, &text, &rid).body))
}

/// Whether a browser sends this for some page, or for a name that was made to point here: pages may POST anywhere, and
/// control is for whoever runs the fake.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let is_ours = url::Url::parse(&format!("http://{host}")).is_ok_and(|url| match url.host() {
        Some(url::Host::Ipv4(_) | url::Host::Ipv6(_)) => true,
        // `wechat` in deploy/compose.yaml: no public name is without a dot.
        Some(url::Host::Domain(name)) => !name.contains('.'),
        None => false,
    });
    headers.contains_key(ORIGIN) || !is_ours
}

/// A call in progress. Dropped before its end (the caller has gone, or the fake stops), it frees
/// its user and stays in the ledger without an answer.
struct Visit<'a> {
    shared: &'a Shared,
    inquiry: &'a Inquiry<'a>,
    arrived: Arrived,
    reply: Option<Reply>,
    /// The sent event of an accepted message, until it is pushed.
    push: Option<Push>,
    /// Its place among the sends served at once.
    place: Option<OwnedSemaphorePermit>,
    /// When it began to be served.
    served_at: Instant,
    ended: bool,
}

impl<'a> Visit<'a> {
    fn begin(shared: &'a Shared, inquiry: &'a Inquiry<'a>) -> Self {
        let arrived = shared.lock().arrive(inquiry);
        if inquiry.api.is_message() {
            shared.moved.notify_waiters();
        }
        Visit {
            shared,
            inquiry,
            arrived,
            reply: None,
            push: None,
            place: None,
            served_at: Instant::now(),
            ended: false,
        }
    }

    /// The gate, a place where these are limited, and the first half of the latency.
    async fn wait_to_be_judged(&mut self) {
        if self.inquiry.api.is_message() && !self.arrived.concurrent && *self.shared.held.borrow() {
            let mut held = self.shared.held.subscribe();
            // The sender lives in `shared`, so the wait cannot fail.
            let _ = held.wait_for(|held| !held).await;
        }
        if let Some(places) = self.arrived.places.take() {
            // Nobody closes it: the wait cannot fail.
            self.place = places.acquire_owned().await.ok();
        }
        self.served_at = Instant::now();
        pause(self.arrived.latency / 2).await;
    }

    /// The rest of the latency and a delay from the script.
    async fn wait_to_be_answered(&mut self, action: Option<&Action>) {
        if !self.arrived.latency.is_zero() {
            // Two halves would each be rounded up to the timer's next millisecond.
            tokio::time::sleep_until(self.served_at + self.arrived.latency).await;
        }
        self.place = None;
        if let Some(Action::Delay { ms }) = action {
            pause(Duration::from_millis(*ms)).await;
        }
    }

    fn judge(&mut self) {
        let mut state = self.shared.lock();
        let reply = state.judge(self.inquiry, &self.arrived);
        if let Some(msgid) = reply.msgid {
            self.push = state.sent_push(self.inquiry, &self.arrived, msgid);
        }
        if reply.accepted {
            self.shared.moved.notify_waiters();
        }
        self.reply = Some(reply);
    }

    /// Pushes the sent event and waits for its end, if it is to come before the reply.
    async fn push_before_reply(&mut self) {
        let before = |push: &mut Push| push.spec.timing == CallbackTiming::BeforeReply;
        let Some(mut push) = self.push.take_if(before) else {
            return;
        };
        let (done, ended) = tokio::sync::oneshot::channel();
        push.done = Some(done);
        // Fails when the fake stops, and so does the wait.
        let _ = self.shared.pushes.send(push);
        let _ = ended.await;
    }

    /// Answers with an errcode of the script's choosing.
    fn refuse(&self, errcode: i64, errmsg: Option<&str>) -> Reply {
        let refusal = match errmsg {
            Some(errmsg) => Refusal::with_text(errcode, errmsg),
            None => Refusal::new(errcode),
        };
        self.shared.lock().refuse(&refusal, self.inquiry)
    }

    fn end(&mut self, ending: Ending<'_>) {
        let ending = Ending {
            reply: ending.reply.or(self.reply.as_ref()),
            ..ending
        };
        self.shared.lock().end(self.inquiry, &self.arrived, &ending);
        self.ended = true;
        if let Some(push) = self.push.take() {
            // The fake stops when this fails: nobody waits for the event any more.
            let _ = self.shared.pushes.send(push);
        }
        if self.inquiry.api.is_message() {
            self.shared.moved.notify_waiters();
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let fault = Some("caller_gone");
            self.end(Ending {
                reply: None,
                errcode: None,
                fault,
                answered: false,
                delivered: false,
            });
        }
    }
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

/// One call from arrival to answer.
async fn call(shared: &Shared, inquiry: &Inquiry<'_>) -> Result<Response<Answer>, ResetConnection> {
    let mut visit = Visit::begin(shared, inquiry);
    visit.wait_to_be_judged().await;
    let action = visit.arrived.action.take();
    if action.as_ref().is_none_or(Action::is_after_credit) {
        visit.judge();
        visit.push_before_reply().await;
    }
    visit.wait_to_be_answered(action.as_ref()).await;
    match action {
        None => {
            visit.end(Ending {
                reply: None,
                errcode: None,
                fault: None,
                answered: true,
                delivered: true,
            });
            Ok(json(visit.true_body()))
        }
        Some(action) => play(visit, action).await,
    }
}

impl Visit<'_> {
    /// The reply WeChat would have given; nothing was judged when a fault struck first.
    fn true_body(&mut self) -> Bytes {
        self.reply
            .as_ref()
            .map_or_else(Bytes::new, |reply| reply.body.clone())
    }
}

/// Ends a visit with a fault.
async fn play(mut visit: Visit<'_>, action: Action) -> Result<Response<Answer>, ResetConnection> {
    let struck_first = visit.reply.is_none();
    let mut ending = Ending {
        reply: None,
        errcode: None,
        fault: Some(action.name()),
        answered: true,
        delivered: false,
    };
    match action {
        Action::Delay { .. } => {
            ending.delivered = true;
            visit.end(ending);
            Ok(json(visit.true_body()))
        }
        Action::Errcode {
            errcode, errmsg, ..
        } => {
            let reply = visit.refuse(errcode, errmsg.as_deref());
            ending.errcode = Some(errcode);
            ending.delivered = struck_first;
            visit.end(ending);
            Ok(json(reply.body))
        }
        Action::Hang { .. } => {
            ending.answered = false;
            visit.end(ending);
            std::future::pending().await
        }
        Action::Reset { .. } => {
            visit.end(ending);
            Err(ResetConnection)
        }
        Action::HttpStatus { status, .. } => {
            visit.end(ending);
            Ok(page(
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
            ))
        }
        Action::EmptyBody { .. } => {
            visit.end(ending);
            Ok(json(Bytes::new()))
        }
        Action::HalfJson { .. } => {
            visit.end(ending);
            let body = visit.body_to_break();
            Ok(json(body.slice(..body.len() / 2)))
        }
        Action::CutBody { .. } => {
            visit.end(ending);
            Ok(cut(visit.body_to_break()))
        }
        Action::HugeBody { bytes, .. } => {
            visit.end(ending);
            Ok(huge(bytes))
        }
        Action::HugeErrcode { .. } => {
            visit.end(ending);
            Ok(json(Bytes::from_static(
                br#"{"errcode":98765432109876543210987,"errmsg":"ok"}"#,
            )))
        }
        Action::Body { status, body, .. } => {
            visit.end(ending);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            Ok(respond(status, "application/json", body.into()))
        }
    }
}

impl Visit<'_> {
    fn body_to_break(&mut self) -> Bytes {
        let body = self.true_body();
        if body.is_empty() {
            Bytes::from_static(br#"{"errcode":-1,"errmsg":"system error"}"#)
        } else {
            body
        }
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Some(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json(body: Bytes) -> Response<Answer> {
    respond(StatusCode::OK, "application/json; encoding=utf-8", body)
}

fn page(status: StatusCode) -> Response<Answer> {
    let body =
        format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>");
    respond(status, "text/html", body.into())
}

/// Announces the whole body and sends half of it.
fn cut(body: Bytes) -> Response<Answer> {
    let mut response = json(Bytes::new());
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Answer::Cut {
        half: Some(body.slice(..body.len() / 2)),
        flushed: false,
    };
    response
}

/// A JSON object of `bytes` bytes at least, most of them in `errmsg`.
fn huge(bytes: u64) -> Response<Answer> {
    let mut response = json(Bytes::new());
    *response.body_mut() = Answer::Huge {
        begun: false,
        left: bytes,
        done: false,
    };
    response
}

/// A response body.
enum Answer {
    Whole(Option<Bytes>),
    Cut { half: Option<Bytes>, flushed: bool },
    Huge { begun: bool, left: u64, done: bool },
}

/// The rest of the body was withheld on purpose.
#[derive(Debug, thiserror::Error)]
#[error("body cut on purpose")]
struct CutShort;

impl Body for Answer {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let data = match &mut *self {
            Answer::Whole(body) => body.take(),
            Answer::Cut {
                half: half @ Some(_),
                ..
            } => half.take(),
            Answer::Cut { flushed, .. } if !*flushed => {
                // One turn for hyper to write the half before it learns of the end.
                *flushed = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Answer::Cut { .. } => return Poll::Ready(Some(Err(CutShort))),
            Answer::Huge { begun, .. } if !*begun => {
                *begun = true;
                Some(Bytes::from_static(br#"{"errcode":0,"errmsg":""#))
            }
            Answer::Huge { left, .. } if *left > 0 => {
                let size = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(CHUNK.len());
                *left -= size as u64;
                Some(Bytes::from_static(&CHUNK[..size]))
            }
            Answer::Huge { done, .. } if !*done => {
                *done = true;
                Some(Bytes::from_static(br#""}"#))
            }
            Answer::Huge { .. } => None,
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64))
            }
            _ => SizeHint::default(),
        }
    }
}

/// The value of a query parameter, decoded.
pub(super) fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

/// A TCP stream that is reset instead of closed once told so.
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // Closing with a zero linger sends RST; should it fail, the peer sees an end instead.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
