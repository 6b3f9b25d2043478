//! Connections to WeChat, and which of them may carry another request.
//!
//! HTTP/1.1 pairs answers with requests by their order alone. A gateway in between that answers one request twice leaves an
//! answer over, and the next request on that connection takes it for its own: its row would end as another's should have.
//! A gateway that keeps answers does the same on any connection. What WeChat answers to a send tells them apart: a success
//! has a msgid, a refusal a rid, and neither is ever given twice. An answer whose id was seen before *repeats* another's and
//! proves nothing about its own message.
//!
//! Only sends reuse connections, therefore: everything else is rare, its answers have no id, and another's would do harm
//! (a login code's answer is an openid). After an answer that repeats, nothing reuses any connection for a while, and what
//! is still in flight on the same one is not believed either.
//!
//! Start at [`Connections::judge`].

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;
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
    /// Our ends of connections that were reused and gave another's answer.
    out_of_step: Mutex<HashSet<SocketAddr>>,
    seen: Mutex<Seen>,
}

impl Connections {
    pub(super) fn new(
        options: &WechatOptions,
        https_only: bool,
    ) -> Result<Self, WechatOptionsError> {
        let client = |idle_max| {
            Client::builder()
                .http1_only()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
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
            seen: Mutex::new(Seen::new(REMEMBERED)),
        })
    }

    /// Whether a send may leave on a connection that another has used.
    pub(super) fn may_reuse(&self, now: Instant) -> bool {
        self.millis(now) >= self.apart_until_ms.load(Ordering::Acquire)
    }

    pub(super) fn client(&self, reuse: bool) -> &Client {
        if reuse { &self.reusing } else { &self.apart }
    }

    /// The reply, or that it is another request's. `connection` is our end of the one it came on, if others may use it too.
    pub(super) fn judge(
        &self,
        reply: Reply,
        connection: Option<SocketAddr>,
        now: Instant,
    ) -> Reply {
        let Reply::Answered {
            http_status, took, ..
        } = &reply
        else {
            return reply;
        };
        let repeats = id_of(&reply).is_some_and(|id| lock(&self.seen).repeats(id));
        let reason = if repeats {
            self.keep_apart(connection, now);
            format!("the answer repeats another request's ({})", name_of(&reply))
        } else if self.is_out_of_step(connection, now) {
            "the connection's answers are out of step with its requests".to_owned()
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

    fn keep_apart(&self, connection: Option<SocketAddr>, now: Instant) {
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

    fn is_out_of_step(&self, connection: Option<SocketAddr>, now: Instant) -> bool {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What WeChat gives to one answer alone. `None`: nothing of the kind, as with device messages and service cards.
fn id_of(reply: &Reply) -> Option<u128> {
    /// Keeps rids and msgids apart.
    const RID: u128 = 1 << 127;
    match reply {
        Reply::Answered { rid: Some(rid), .. } => {
            let digits = rid.bytes().filter_map(|byte| char::from(byte).to_digit(16));
            Some(digits.fold(RID, |id, digit| (id << 4 | u128::from(digit)) | RID))
        }
        // No message has the number 0.
        Reply::Answered {
            msgid: Some(msgid), ..
        } if *msgid != 0 => Some(u128::from(msgid.cast_unsigned())),
        _ => None,
    }
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

/// The ids of the last answers, a bounded number of them.
#[derive(Debug)]
struct Seen {
    ids: HashSet<u128>,
    in_order: VecDeque<u128>,
    bound: usize,
}

impl Seen {
    fn new(bound: usize) -> Self {
        Self {
            ids: HashSet::with_capacity(bound + 1),
            in_order: VecDeque::with_capacity(bound + 1),
            bound,
        }
    }

    /// Whether `id` is among them; it is from now on.
    fn repeats(&mut self, id: u128) -> bool {
        if !self.ids.insert(id) {
            return true;
        }
        self.in_order.push_back(id);
        if self.in_order.len() > self.bound
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        false
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

    fn port(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
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
            assert_eq!(connections.judge(first.clone(), port(1), now), first);
            let reply = connections.judge(second.clone(), port(2), now);
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
        connections.judge(accepted(1), port(1), now);
        connections.judge(accepted(1), port(1), now);
        let reason = reason_of(connections.judge(accepted(2), port(1), now));
        assert!(reason.unwrap().contains("out of step"));
        for connection in [port(2), None] {
            let own = accepted(3 + i64::from(connection.is_some()));
            assert_eq!(connections.judge(own.clone(), connection, now), own);
        }
    }

    #[tokio::test]
    async fn connections_are_reused_again_after_a_while_and_then_all_are_believed() {
        let (connections, now) = (connections(), Instant::now());
        connections.judge(accepted(1), port(1), now);
        connections.judge(accepted(1), port(1), now);
        let meanwhile = now + APART - Duration::from_secs(1);
        assert!(!connections.may_reuse(meanwhile));
        // A second one in between does not put it off.
        connections.judge(accepted(1), None, meanwhile);
        let later = now + connections.apart_for;
        assert!(connections.may_reuse(later));
        assert_eq!(connections.judge(accepted(2), port(1), later), accepted(2));
        connections.judge(accepted(2), port(5), later);
        assert!(!connections.may_reuse(later), "found out anew");
        assert_eq!(
            connections.judge(accepted(3), port(1), later),
            accepted(3),
            "the number is another connection's by now"
        );
    }

    #[test]
    fn what_is_left_over_is_gone_before_connections_are_reused() {
        assert!(IDLE < APART);
    }

    #[test]
    fn a_bounded_number_of_ids_is_remembered_the_newest() {
        let mut seen = Seen::new(3);
        for id in 0..1000 {
            assert!(!seen.repeats(id));
        }
        assert_eq!((seen.ids.len(), seen.in_order.len()), (3, 3));
        assert!(seen.repeats(997) && seen.repeats(999));
        assert!(!seen.repeats(996));
        assert!(!seen.repeats(997), "forgotten for the one before");
    }

    #[test]
    fn ids_of_both_kinds_are_never_alike() {
        let zeros = refused(Some("00000000-00000000-00000007"));
        let highest = refused(Some("ffffffff-ffffffff-ffffffff"));
        let ids: HashSet<_> = [zeros, highest, accepted(7), accepted(-1)]
            .iter()
            .map(|reply| id_of(reply).unwrap())
            .collect();
        assert_eq!(ids.len(), 4);
    }
}
