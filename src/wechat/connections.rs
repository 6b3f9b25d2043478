//! Connections to WeChat, and which of them may carry another request.
//!
//! HTTP/1.1 pairs answers with requests by their order alone. A gateway in between that answers one request twice leaves an
//! answer over, and the next request on that connection takes it for its own: its row would end as another's should have.
//! A gateway that keeps answers does the same on any connection. What WeChat answers to a send tells them apart: a success
//! has a msgid, a refusal a rid, and neither is ever given twice. An answer whose id was seen before *repeats* another's and
//! proves nothing about its own message.
//!
//! Which of two readers comes first says nothing on a busy machine, so the answers of one connection are judged in the order
//! in which they came ([`Place`]). Across connections there is no order: an answer that repeats puts the one that had it before
//! in question, too ([`Dispute`]).
//!
//! Only sends reuse connections, therefore: everything else is rare, its answers have no id, and another's would do harm
//! (a login code's answer is an openid). After an answer that repeats, nothing reuses any connection for a while, and what
//! is still in flight on the same one is not believed either.
//!
//! Start at [`Connections::judge`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::{Client, Request, Response};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::{Reply, WechatOptions, WechatOptionsError};
use crate::telemetry;

/// Shorter than the idle time-out of common gateways, so that a connection is seldom closed by the other side in the moment
/// a request is written to it: that request would be in doubt.
const IDLE: Duration = Duration::from_secs(20);
/// After an answer that repeats another's. Whatever was left over is gone by then with its connection, as [`IDLE`] is
/// shorter; and while the gateway stays as it is, one in so long finds out anew at the cost of a few doubts.
const APART: Duration = Duration::from_secs(600);
/// Far more than are in flight together: an answer left over is the next one on its connection.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(super) struct Connections {
    /// Its connections carry one request after the other.
    reusing: Client,
    /// Each of its connections carries one request.
    apart: Client,
    made_at: Instant,
    /// Milliseconds after `made_at` until which every request gets a connection of its own.
    apart_until_ms: AtomicU64,
    apart_for: Duration,
    /// Connections that were reused and gave another's answer.
    out_of_step: Mutex<HashSet<Connection>>,
    /// Locked while a send is polled, too: see [`Connections::execute`].
    lines: Mutex<Lines>,
    /// Rung when an answer that others wait for was judged.
    moved_on: Notify,
    seen: Mutex<Seen>,
    disputes: Mutex<Vec<Dispute>>,
    /// Whether there was a dispute ever: as good as never.
    disputed: AtomicBool,
}

/// Our end and the other's.
type Connection = (SocketAddr, SocketAddr);

/// Two rows had one answer, and at most one of them is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispute {
    /// The row that had it first, and may be recorded by it.
    pub notification_id: i64,
    /// The row that had it then, and is in doubt for that.
    pub other: i64,
    /// The answer by its id: `msgid 3120045678901234567`.
    pub answer: String,
}

/// The answers on connections that others may use too, from the head of each until it is judged.
#[derive(Debug, Default)]
struct Lines {
    by_connection: HashMap<Connection, VecDeque<Waiting>>,
    last_number: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// The answer before it was given up before it was judged: nobody knows whether this one repeats it.
    follows_unknown: bool,
}

/// An answer's place in the order in which those on its connection came. Dropped without being judged it leaves those after it
/// unknown.
#[derive(Debug)]
pub(super) struct Place<'a> {
    connections: &'a Connections,
    connection: Connection,
    number: u64,
    judged: bool,
}

impl Connections {
    pub(super) fn new(
        options: &WechatOptions,
        https_only: bool,
    ) -> Result<Self, WechatOptionsError> {
        let client = |idle_max| {
            super::client_builder(options.proxy.as_ref())
                .map_err(|error| WechatOptionsError::Client(error.without_url()))?
                .referer(false)
                .https_only(https_only)
                .tcp_nodelay(true)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle_max)
                .connect_timeout(options.connect_timeout)
                .user_agent(concat!("wxnotify/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(WechatOptionsError::Client)
        };
        Ok(Self {
            reusing: client(options.idle_connections_max)?,
            apart: client(0)?,
            made_at: Instant::now(),
            apart_until_ms: AtomicU64::new(0),
            apart_for: APART + options.request_timeout,
            out_of_step: Mutex::default(),
            lines: Mutex::default(),
            moved_on: Notify::new(),
            seen: Mutex::new(Seen::new(REMEMBERED)),
            disputes: Mutex::default(),
            disputed: AtomicBool::new(false),
        })
    }

    /// Whether a send may leave on a connection that another has used.
    pub(super) fn may_reuse(&self, now: Instant) -> bool {
        self.millis(now) >= self.apart_until_ms.load(Ordering::Acquire)
    }

    /// Sends a request and waits for the head of its answer; its place, if others may use the connection.
    ///
    /// A connection is free for the next send once the head of an answer was polled for, and that send's own first poll takes
    /// it. With one lock around either, an answer has its place before the next request on its connection is even written.
    pub(super) async fn execute(
        &self,
        request: Request,
        reuse: bool,
    ) -> reqwest::Result<(Response, Option<Place<'_>>)> {
        if !reuse {
            return Ok((self.apart.execute(request).await?, None));
        }
        let mut answer = pin!(self.reusing.execute(request));
        poll_fn(|context| {
            let mut lines = lock(&self.lines);
            let response = ready!(answer.as_mut().poll(context))?;
            let info = response.extensions().get::<HttpInfo>();
            let place = info.map(|info| {
                let connection = (info.local_addr(), info.remote_addr());
                self.place(&mut lines, connection)
            });
            Poll::Ready(Ok((response, place)))
        })
        .await
    }

    fn place(&self, lines: &mut Lines, connection: Connection) -> Place<'_> {
        Place {
            connections: self,
            connection,
            number: lines.join(connection),
            judged: false,
        }
    }

    /// The reply to a row's send, or that it is another request's. Waits for the judgement of those that came on its
    /// connection before.
    pub(super) async fn judge(
        &self,
        reply: Reply,
        notification_id: i64,
        place: Option<Place<'_>>,
        now: Instant,
    ) -> Reply {
        let follows_unknown = match &place {
            Some(place) => place.wait_for_turn().await,
            None => false,
        };
        let connection = place.as_ref().map(|place| place.connection);
        let judged = self.judge_in_turn(reply, notification_id, connection, follows_unknown, now);
        if let Some(mut place) = place {
            place.judged = true;
        }
        judged
    }

    fn judge_in_turn(
        &self,
        reply: Reply,
        notification_id: i64,
        connection: Option<Connection>,
        follows_unknown: bool,
        now: Instant,
    ) -> Reply {
        let Reply::Answered {
            http_status,
            took,
            rid,
            msgid,
            ..
        } = &reply
        else {
            return reply;
        };
        let id = id_of(rid.as_deref(), *msgid);
        let first = id.and_then(|id| lock(&self.seen).note(id, notification_id));
        let reason = if let Some(first) = first {
            self.keep_apart(connection, now);
            let answer = name_of(&reply);
            let reason = format!(
                "the answer repeats another request's ({answer}, which notification {first} had before)"
            );
            self.dispute(first, notification_id, answer);
            reason
        } else if self.is_out_of_step(connection, now) {
            "the connection's answers are out of step with its requests".to_owned()
        } else if follows_unknown {
            "the answer before it on the connection was given up, and this one may repeat it"
                .to_owned()
        } else {
            return reply;
        };
        telemetry::record_repeated_answer();
        Reply::PossiblySent {
            reason,
            http_status: Some(*http_status),
            took: *took,
        }
    }

    fn dispute(&self, first: i64, other: i64, answer: String) {
        // A row's second request says nothing against its first.
        if first == other {
            return;
        }
        lock(&self.disputes).push(Dispute {
            notification_id: first,
            other,
            answer,
        });
        self.disputed.store(true, Ordering::Release);
    }

    /// Whether an answer that was believed came for another row since then.
    pub(super) fn is_disputed(&self, rid: Option<&str>, msgid: Option<i64>) -> bool {
        self.disputed.load(Ordering::Acquire)
            && id_of(rid, msgid).is_some_and(|id| lock(&self.seen).is_disputed(id))
    }

    /// The disputes since the last call.
    pub(super) fn take_disputes(&self) -> Vec<Dispute> {
        if !self.disputed.load(Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut lock(&self.disputes))
    }

    fn keep_apart(&self, connection: Option<Connection>, now: Instant) {
        let mut out_of_step = lock(&self.out_of_step);
        let begins = self.may_reuse(now);
        if begins {
            out_of_step.clear();
            let until = self.millis(now + self.apart_for);
            self.apart_until_ms.store(until, Ordering::Release);
        }
        out_of_step.extend(connection);
        drop(out_of_step);
        if begins {
            warn!(
                "WeChat's answer to one request came for another, too: a gateway in between repeats answers. Such rows are \
                 in doubt, and for {} s each request gets a connection of its own",
                self.apart_for.as_secs()
            );
        }
    }

    fn is_out_of_step(&self, connection: Option<Connection>, now: Instant) -> bool {
        let Some(connection) = connection.filter(|_| !self.may_reuse(now)) else {
            return false;
        };
        lock(&self.out_of_step).contains(&connection)
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.made_at);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Place<'_> {
    /// Waits until every answer that came before on the connection is judged, or given up: then true.
    async fn wait_for_turn(&self) -> bool {
        loop {
            let mut moved_on = pin!(self.connections.moved_on.notified());
            moved_on.as_mut().enable();
            if let Some(turn) = lock(&self.connections.lines).turn(self.connection, self.number) {
                return turn.follows_unknown;
            }
            moved_on.await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = lock(&self.connections.lines);
        if lines.leave(self.connection, self.number, self.judged) {
            self.connections.moved_on.notify_waiters();
        }
    }
}

impl Lines {
    fn join(&mut self, connection: Connection) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        let line = self.by_connection.entry(connection).or_default();
        line.push_back(Waiting {
            number,
            follows_unknown: false,
        });
        number
    }

    /// `None`: others come first.
    fn turn(&self, connection: Connection, number: u64) -> Option<&Waiting> {
        let first = self.by_connection.get(&connection)?.front()?;
        (first.number == number).then_some(first)
    }

    /// Whether others are left.
    fn leave(&mut self, connection: Connection, number: u64, judged: bool) -> bool {
        let Some(line) = self.by_connection.get_mut(&connection) else {
            return false;
        };
        for waiting in line.iter_mut().filter(|waiting| waiting.number > number) {
            waiting.follows_unknown |= !judged;
        }
        line.retain(|waiting| waiting.number != number);
        let others = !line.is_empty();
        if !others {
            self.by_connection.remove(&connection);
        }
        others
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What WeChat gives to one answer alone. `None`: nothing of the kind, as with device messages and service cards.
fn id_of(rid: Option<&str>, msgid: Option<i64>) -> Option<u128> {
    /// Keeps rids and msgids apart.
    const RID: u128 = 1 << 127;
    if let Some(rid) = rid {
        let digits = rid.bytes().filter_map(|byte| char::from(byte).to_digit(16));
        return Some(digits.fold(RID, |id, digit| (id << 4 | u128::from(digit)) | RID));
    }
    // No message has the number 0.
    let msgid = msgid.filter(|msgid| *msgid != 0)?;
    Some(u128::from(msgid.cast_unsigned()))
}

fn name_of(reply: &Reply) -> String {
    match reply {
        Reply::Answered { rid: Some(rid), .. } => format!("rid {rid}"),
        Reply::Answered {
            msgid: Some(msgid), ..
        } => format!("msgid {msgid}"),
        _ => "no id".to_owned(),
    }
}

/// The ids of the last answers, a bounded number of them, and who had them first.
#[derive(Debug)]
struct Seen {
    firsts: HashMap<u128, First>,
    in_order: VecDeque<u128>,
    bound: usize,
}

#[derive(Debug, Clone, Copy)]
struct First {
    notification_id: i64,
    disputed: bool,
}

impl Seen {
    fn new(bound: usize) -> Self {
        Self {
            firsts: HashMap::with_capacity(bound + 1),
            in_order: VecDeque::with_capacity(bound + 1),
            bound,
        }
    }

    /// Who had `id` before; it is disputed from now on. `None`: nobody did, `notification_id` has it.
    fn note(&mut self, id: u128, notification_id: i64) -> Option<i64> {
        if let Some(first) = self.firsts.get_mut(&id) {
            first.disputed |= first.notification_id != notification_id;
            return Some(first.notification_id);
        }
        let first = First {
            notification_id,
            disputed: false,
        };
        self.firsts.insert(id, first);
        self.in_order.push_back(id);
        if self.in_order.len() > self.bound
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.firsts.remove(&oldest);
        }
        None
    }

    fn is_disputed(&self, id: u128) -> bool {
        self.firsts.get(&id).is_some_and(|first| first.disputed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Connections {
        Connections::new(&WechatOptions::default(), true).unwrap()
    }

    fn accepted(msgid: i64) -> Reply {
        Reply::Answered {
            errcode: 0,
            errmsg: None,
            rid: None,
            msgid: Some(msgid),
            http_status: 200,
            took: Duration::from_millis(80),
        }
    }

    fn refused(rid: Option<&str>) -> Reply {
        Reply::Answered {
            errcode: 43101,
            errmsg: None,
            rid: rid.map(Into::into),
            msgid: None,
            http_status: 200,
            took: Duration::from_millis(80),
        }
    }

    fn port(port: u16) -> Connection {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (address(port), address(443))
    }

    impl Connections {
        fn at(&self, connection: Connection) -> Option<Place<'_>> {
            Some(self.place(&mut lock(&self.lines), connection))
        }

        /// The only answer under way on its connection.
        async fn judge_at(&self, reply: Reply, connection: Connection, now: Instant) -> Reply {
            self.judge(reply, 1, self.at(connection), now).await
        }
    }

    fn reason_of(reply: Reply) -> Option<String> {
        match reply {
            Reply::PossiblySent { reason, .. } => Some(reason),
            _ => None,
        }
    }

    #[tokio::test]
    async fn an_id_that_was_seen_belongs_to_the_request_that_had_it_first() {
        let (one, other) = ("68e0a1b2-1c2d3e4f-00112233", "68e0a1b2-1c2d3e4f-00112234");
        for (first, second, id) in [
            (accepted(7), accepted(7), Some("msgid 7")),
            (accepted(7), accepted(8), None),
            (refused(Some(one)), refused(Some(one)), Some(one)),
            (refused(Some(one)), refused(Some(other)), None),
            // Without an id answers may be alike and still each one's own.
            (refused(None), refused(None), None),
            (accepted(0), accepted(0), None),
        ] {
            let (connections, now) = (connections(), Instant::now());
            assert_eq!(
                connections.judge_at(first.clone(), port(1), now).await,
                first
            );
            let reply = connections.judge_at(second.clone(), port(2), now).await;
            match id {
                None => assert_eq!(reply, second),
                Some(id) => {
                    let reason = reason_of(reply).expect("it is in doubt");
                    assert!(reason.contains("another request's") && reason.contains(id));
                }
            }
            assert_eq!(connections.may_reuse(now), id.is_none());
        }
    }

    #[tokio::test]
    async fn what_was_in_flight_on_the_same_connection_is_not_believed() {
        let (connections, now) = (connections(), Instant::now());
        connections.judge_at(accepted(1), port(1), now).await;
        connections.judge_at(accepted(1), port(1), now).await;
        let reason = reason_of(connections.judge_at(accepted(2), port(1), now).await);
        assert!(reason.unwrap().contains("out of step"));
        for (msgid, place) in [(3, connections.at(port(2))), (4, None)] {
            let own = accepted(msgid);
            assert_eq!(connections.judge(own.clone(), 1, place, now).await, own);
        }
    }

    #[tokio::test]
    async fn connections_are_reused_again_after_a_while_and_then_all_are_believed() {
        let (connections, now) = (connections(), Instant::now());
        connections.judge_at(accepted(1), port(1), now).await;
        connections.judge_at(accepted(1), port(1), now).await;
        let meanwhile = now + APART - Duration::from_secs(1);
        assert!(!connections.may_reuse(meanwhile));
        // A second one in between does not put it off.
        connections.judge(accepted(1), 1, None, meanwhile).await;
        let later = now + connections.apart_for;
        assert!(connections.may_reuse(later));
        assert_eq!(
            connections.judge_at(accepted(2), port(1), later).await,
            accepted(2)
        );
        connections.judge_at(accepted(2), port(5), later).await;
        assert!(!connections.may_reuse(later), "found out anew");
        assert_eq!(
            connections.judge_at(accepted(3), port(1), later).await,
            accepted(3),
            "the number is another connection's by now"
        );
    }

    #[tokio::test]
    async fn answers_of_one_connection_are_judged_in_the_order_in_which_they_came() {
        let (connections, now) = (connections(), Instant::now());
        let (one, two) = (connections.at(port(1)), connections.at(port(1)));
        let elsewhere = connections.judge(accepted(8), 3, connections.at(port(2)), now);
        assert_eq!(elsewhere.await, accepted(8));
        let mut second = pin!(connections.judge(accepted(7), 2, two, now));
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(
            connections.judge(accepted(7), 1, one, now).await,
            accepted(7)
        );
        let reason = reason_of(second.await).expect("it is in doubt");
        assert!(reason.contains("notification 1 had"), "{reason}");
        assert!(lock(&connections.lines).by_connection.is_empty());
    }

    #[tokio::test]
    async fn what_follows_an_answer_that_was_given_up_is_not_believed() {
        let (connections, now) = (connections(), Instant::now());
        let (one, two) = (connections.at(port(1)), connections.at(port(1)));
        let mut second = pin!(connections.judge(accepted(7), 2, two, now));
        assert!(futures::poll!(&mut second).is_pending());
        drop(one);
        let reason = reason_of(second.await).expect("it is in doubt");
        assert!(reason.contains("given up"), "{reason}");
        let third = connections.judge_at(accepted(8), port(1), now).await;
        assert_eq!(third, accepted(8));
    }

    #[tokio::test]
    async fn a_row_does_not_dispute_with_itself() {
        let (connections, now) = (connections(), Instant::now());
        for _ in 0..2 {
            connections.judge_at(accepted(7), port(1), now).await;
        }
        assert_eq!(connections.take_disputes(), []);
        assert!(!connections.is_disputed(None, Some(7)));
        connections.judge(accepted(7), 2, None, now).await;
        assert_eq!(connections.take_disputes().len(), 1);
        assert!(connections.is_disputed(None, Some(7)));
    }

    #[test]
    fn what_is_left_over_is_gone_before_connections_are_reused() {
        assert!(IDLE < APART);
    }

    #[test]
    fn a_bounded_number_of_ids_is_remembered_the_newest() {
        let mut seen = Seen::new(3);
        for id in 0..1000 {
            assert_eq!(seen.note(id, 1), None);
        }
        assert_eq!((seen.firsts.len(), seen.in_order.len()), (3, 3));
        assert_eq!((seen.note(997, 2), seen.note(999, 2)), (Some(1), Some(1)));
        assert!(seen.is_disputed(997) && !seen.is_disputed(998));
        assert_eq!(seen.note(996, 3), None);
        assert_eq!(seen.note(997, 3), None, "forgotten for the one before");
    }

    #[test]
    fn ids_of_both_kinds_are_never_alike() {
        let zeros = id_of(Some("00000000-00000000-00000007"), None);
        let highest = id_of(Some("ffffffff-ffffffff-ffffffff"), None);
        let ids = [zeros, highest, id_of(None, Some(7)), id_of(None, Some(-1))];
        let ids: HashSet<_> = ids.into_iter().map(Option::unwrap).collect();
        assert_eq!(ids.len(), 4);
    }
}
