//! What happened, compared with what the database believes.
//!
//! The fake WeChat is the truth: every send that arrived, whether its message was accepted, from which worker. The
//! database is the belief: the rows, their attempts, and a journal of every lease, which a trigger of the tests writes. The
//! producer knows what it committed. [`compare`] goes through them row by row and names everything that does not fit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use wxnotify::simulate::{Call, PairSum};

/// The journal of leases, for a scenario's database.
pub const JOURNAL: &str = "
create table chaos_leases (
    seq bigint generated always as identity primary key, at timestamptz not null default clock_timestamp(), ended boolean not null,
    appid text not null, lease_id bigint not null, worker text not null, ids bigint[] not null, leased_at timestamptz not null, started_at timestamptz);
create function chaos_journal() returns trigger language plpgsql security definer as $$
begin
    if tg_op = 'DELETE' then
        insert into public.chaos_leases (ended, appid, lease_id, worker, ids, leased_at, started_at)
        values (true, old.appid, old.lease_id, old.worker, old.ids, old.leased_at, old.started_at);
    elsif tg_op = 'INSERT' or (old.started_at, old.ids) is distinct from (new.started_at, new.ids) then
        insert into public.chaos_leases (ended, appid, lease_id, worker, ids, leased_at, started_at)
        values (false, new.appid, new.lease_id, new.worker, new.ids, new.leased_at, new.started_at);
    end if;
    return null;
end $$;
create trigger chaos_journal after insert or update or delete on notification_leases for each row execute function chaos_journal();
";

/// Every row there is, final or not.
pub const ROWS: &str = "
select id, business_ref as nonce, appid, openid, template_id, 'pending' as status, null as settled_by, on_doubt, attempts, in_doubt_since,
       expire_at, null::timestamptz as finished_at, null::bigint as msgid, null::bigint as duplicate_of, dedup_key
from pending_notifications
union all
select id, business_ref, appid, openid, template_id, status, settled_by, on_doubt, attempts, in_doubt_since,
       expire_at, finished_at, msgid, duplicate_of, dedup_key
from notification_history";

pub const ATTEMPTS: &str = "
select notification_id, result, lease_id, finished_at, reason from notification_attempts order by notification_id, finished_at";

pub const LEASES: &str = "select seq, at, ended, appid, lease_id, worker, ids, leased_at, started_at from chaos_leases order by seq";

/// Two clocks that should agree are read at moments that may differ by this much.
const TOLERANCE: TimeDelta = TimeDelta::milliseconds(150);
/// A request that left in time may be so long on its way: the workers' request time-out.
const ON_ITS_WAY: TimeDelta = TimeDelta::milliseconds(1_000);

/// A row as its producer knows it.
#[derive(Debug, Clone)]
pub struct Told {
    /// Whether its cancel was committed; `None`: the answer to the commit was lost.
    pub cancelled: Option<bool>,
}

/// A row as the database knows it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    pub id: i64,
    pub nonce: Option<String>,
    pub appid: String,
    pub openid: Option<String>,
    pub template_id: Option<String>,
    pub status: String,
    pub settled_by: Option<String>,
    pub on_doubt: String,
    pub attempts: i16,
    pub in_doubt_since: Option<DateTime<Utc>>,
    pub expire_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub msgid: Option<i64>,
    pub duplicate_of: Option<i64>,
    pub dedup_key: Option<String>,
}

/// A recorded attempt.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Attempt {
    pub notification_id: i64,
    pub result: String,
    pub lease_id: Option<i64>,
    pub finished_at: DateTime<Utc>,
    pub reason: Option<String>,
}

impl Attempt {
    /// The worker waited for the reply as long as it may: on a slow machine that needs no fault.
    fn timed_out(&self) -> bool {
        let reason = self.reason.as_deref().unwrap_or_default();
        reason.contains("in time") || reason.contains("timed out")
    }
}

/// An entry of the journal.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Entry {
    pub seq: i64,
    pub at: DateTime<Utc>,
    pub ended: bool,
    pub appid: String,
    pub lease_id: i64,
    pub worker: String,
    pub ids: Vec<i64>,
    pub leased_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
}

/// What a scenario may and may not do.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The fake's clock and the database's are one: times may be compared.
    pub one_clock: bool,
    /// Replies or workers are lost, so that there may be doubts.
    pub doubts: bool,
    /// How long a doubt waits before it is sent again.
    pub doubt_window: Duration,
}

/// Everything a comparison needs.
pub struct History {
    pub rules: Rules,
    pub told: HashMap<String, Told>,
    pub rows: Vec<Row>,
    pub attempts: Vec<Attempt>,
    pub leases: Vec<Entry>,
    pub calls: Vec<Call>,
    pub pairs: Vec<PairSum>,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Lost,
    EndedTwice,
    NeverCommitted,
    SentTwiceUnrecorded,
    SentTwiceOnHold,
    SentAfterExpiry,
    SentByAFencedWorker,
    SentWithoutAStart,
    AUserInTwoLeases,
    WrongStatus,
    ADoubtThatWasNone,
    ADoubtRetriedTooSoon,
    CreditBooks,
    NeverEnded,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Violation {
    pub kind: Kind,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.kind, self.what)
    }
}

/// The outcome of a comparison.
#[derive(Debug, Default)]
pub struct Verdict {
    pub sends: usize,
    pub accepted: usize,
    pub doubts: usize,
    /// Rows with `on_doubt = 'hold'` that were in doubt.
    pub doubts_on_hold: usize,
    /// Messages beyond the first of a row, each with a recorded doubt before it.
    pub twice_recorded: usize,
    /// Sends of a worker that was stopped between its last look at the lease and the request, each with its lease in doubt.
    pub late: usize,
    pub violations: Vec<Violation>,
}

impl Verdict {
    pub fn count(&self, kinds: &[Kind]) -> usize {
        self.violations
            .iter()
            .filter(|violation| kinds.contains(&violation.kind))
            .count()
    }

    /// How many of each kind.
    pub fn summary(&self) -> String {
        let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
        for violation in &self.violations {
            *kinds.entry(violation.kind).or_default() += 1;
        }
        let kinds = kinds
            .iter()
            .map(|(kind, count)| format!("{count} × {kind:?}"));
        kinds.collect::<Vec<_>>().join(", ")
    }

    fn add(&mut self, kind: Kind, what: impl Into<String>) {
        let what = what.into();
        self.violations.push(Violation { kind, what });
    }
}

/// The worker a call came from: each is given an address of its own, `127.0.1.N`.
fn worker_of(call: &Call) -> Option<&str> {
    call.host.strip_prefix("127.0.1.")?.split(':').next()
}

/// One row's place in one lease.
#[derive(Debug)]
struct Held {
    worker: String,
    begun_seq: i64,
    ended_seq: i64,
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    /// A rescue could take over only part of the lease at first.
    in_parts: bool,
    lease_id: i64,
}

/// Compares everything with everything.
pub fn compare(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_nonce: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in &history.rows {
        by_nonce
            .entry(row.nonce.as_deref().unwrap_or_default())
            .or_default()
            .push(row);
    }
    let mut calls: HashMap<String, Vec<&Call>> = HashMap::new();
    for call in history.calls.iter().filter(|call| call.is_send()) {
        verdict.sends += 1;
        verdict.accepted += usize::from(call.accepted);
        let nonce = call.value("thing1").unwrap_or_default();
        calls.entry(nonce).or_default().push(call);
    }
    for nonce in calls.keys() {
        if !history.told.contains_key(nonce) {
            verdict.add(
                Kind::NeverCommitted,
                format!("{nonce} was sent and never committed"),
            );
        }
    }
    let mut attempts: HashMap<i64, Vec<&Attempt>> = HashMap::new();
    for attempt in &history.attempts {
        verdict.doubts += usize::from(attempt.result == "doubt");
        attempts
            .entry(attempt.notification_id)
            .or_default()
            .push(attempt);
    }
    let held = places(&history.leases);
    let by_id: HashMap<i64, &Row> = history.rows.iter().map(|row| (row.id, row)).collect();
    let messages = messages_of_pairs(history);
    for (nonce, told) in &history.told {
        match by_nonce.get(nonce.as_str()).map_or(&[][..], Vec::as_slice) {
            [] => verdict.add(Kind::Lost, format!("{nonce} was committed and is nowhere")),
            [row] => {
                let no_calls = Vec::new();
                let case = Case {
                    rules: history.rules,
                    row,
                    told,
                    calls: calls.get(nonce).unwrap_or(&no_calls),
                    attempts: attempts.get(&row.id).map_or(&[][..], Vec::as_slice),
                    held: held.get(&row.id).map_or(&[][..], Vec::as_slice),
                    by_id: &by_id,
                    messages: &messages,
                };
                case.compare(&mut verdict);
            }
            [first, ..] => verdict.add(
                Kind::EndedTwice,
                format!("{nonce} ({}) is more than one row", first.id),
            ),
        }
    }
    compare_users(history, &held, &mut verdict);
    compare_keys(history, &mut verdict);
    compare_books(history, &mut verdict);
    verdict
}

/// The accepted messages of each pair.
fn messages_of_pairs(history: &History) -> HashMap<(&str, &str, &str), HashSet<i64>> {
    let mut messages: HashMap<(&str, &str, &str), HashSet<i64>> = HashMap::new();
    for call in history.calls.iter().filter(|call| call.is_send()) {
        if let Some(msgid) = call.msgid {
            let pair = (
                call.appid.as_str(),
                call.openid.as_str(),
                call.template_id.as_str(),
            );
            messages.entry(pair).or_default().insert(msgid);
        }
    }
    messages
}

/// Which leases held each row, from when to when, in the order of the journal.
fn places(leases: &[Entry]) -> HashMap<i64, Vec<Held>> {
    type LeaseKey<'a> = (&'a str, i64, DateTime<Utc>);
    let mut held: HashMap<i64, Vec<Held>> = HashMap::new();
    let mut live: HashMap<LeaseKey<'_>, HashMap<i64, usize>> = HashMap::new();
    for entry in leases {
        let lease = live
            .entry((&entry.appid, entry.lease_id, entry.leased_at))
            .or_default();
        let remaining: HashSet<i64> = if entry.ended {
            HashSet::new()
        } else {
            entry.ids.iter().copied().collect()
        };
        for id in &entry.ids {
            let places = held.entry(*id).or_default();
            let place = *lease.entry(*id).or_insert_with(|| {
                places.push(Held {
                    worker: entry.worker.clone(),
                    begun_seq: entry.seq,
                    ended_seq: i64::MAX,
                    started_at: None,
                    ended_at: None,
                    in_parts: false,
                    lease_id: entry.lease_id,
                });
                places.len() - 1
            });
            let place = &mut places[place];
            place.started_at = place.started_at.or(entry.started_at);
            place.in_parts |= entry.worker.ends_with("(rescued)");
        }
        let left: Vec<i64> = lease
            .keys()
            .copied()
            .filter(|id| !remaining.contains(id))
            .collect();
        for id in left {
            let places = held.entry(id).or_default();
            if let Some(place) = lease.remove(&id).and_then(|place| places.get_mut(place)) {
                place.ended_seq = entry.seq;
                place.ended_at = Some(entry.at);
            }
        }
    }
    held
}

/// One row and all that is known of it.
struct Case<'a> {
    rules: Rules,
    row: &'a Row,
    told: &'a Told,
    calls: &'a [&'a Call],
    attempts: &'a [&'a Attempt],
    held: &'a [Held],
    by_id: &'a HashMap<i64, &'a Row>,
    messages: &'a HashMap<(&'a str, &'a str, &'a str), HashSet<i64>>,
}

impl Case<'_> {
    fn compare(&self, verdict: &mut Verdict) {
        self.compare_status(verdict);
        self.compare_repeats(verdict);
        self.compare_doubts(verdict);
        if self.rules.one_clock {
            for call in self.calls {
                self.compare_call(call, verdict);
            }
        }
    }

    fn name(&self) -> String {
        format!(
            "{} ({}) {}",
            self.row.id,
            self.row.nonce.as_deref().unwrap_or_default(),
            self.row.status
        )
    }

    /// The lease a call was made under: its worker's last that had been started by then.
    fn lease_of(&self, call: &Call) -> Option<&Held> {
        let prefix = format!("w{}#", worker_of(call)?);
        let last_started_by = |moment: DateTime<Utc>| {
            self.held.iter().rfind(|held| {
                held.worker.starts_with(&prefix) && held.started_at.is_some_and(|at| at <= moment)
            })
        };
        // A lease that was started after a call came cannot be the call's, if the clocks allow to tell.
        last_started_by(call.arrived_at).or_else(|| last_started_by(call.arrived_at + TOLERANCE))
    }

    /// Whether the very lease a call was made under was on record as doubtful by then.
    fn is_doubted(&self, call: &Call, by: DateTime<Utc>) -> bool {
        self.lease_of(call).is_some_and(|held| {
            self.attempts.iter().any(|a| {
                a.result == "doubt"
                    && a.lease_id == Some(held.lease_id)
                    && a.finished_at <= by + TOLERANCE
            })
        })
    }

    fn accepted(&self) -> impl Iterator<Item = &&Call> {
        self.calls.iter().filter(|call| call.accepted)
    }

    fn compare_status(&self, verdict: &mut Verdict) {
        let (row, accepted) = (self.row, self.accepted().count());
        let mut wrong = |what: String| {
            verdict.add(Kind::WrongStatus, format!("{}: {what}", self.name()));
        };
        let own = |msgid: i64| self.accepted().any(|call| call.msgid == Some(msgid));
        let of_the_pair = |msgid: i64| {
            let pair = (
                row.appid.as_str(),
                row.openid.as_deref().unwrap_or_default(),
                row.template_id.as_deref().unwrap_or_default(),
            );
            self.messages
                .get(&pair)
                .is_some_and(|messages| messages.contains(&msgid))
        };
        match (row.status.as_str(), row.settled_by.as_deref(), row.msgid) {
            ("sent", Some("event"), Some(msgid)) if !of_the_pair(msgid) => {
                wrong(format!("msgid {msgid} is no message to this user"));
            }
            ("sent", Some("reply" | "late_reply"), Some(msgid)) if !own(msgid) => {
                wrong(format!("msgid {msgid} is none of its messages"));
            }
            ("sent", Some("reply"), None) => wrong("no msgid".to_owned()),
            ("sent", Some("operator"), _) if accepted == 0 => wrong("nothing was sent".to_owned()),
            ("sent", ..) => {}
            ("presumed_sent", ..) if accepted == 0 => wrong("nothing was ever accepted".to_owned()),
            ("presumed_sent", ..) => {}
            ("unresolved", ..) if row.in_doubt_since.is_none() => {
                wrong("it was never in doubt".to_owned());
            }
            ("unresolved", ..) => {}
            ("pending", ..) => verdict.add(
                Kind::NeverEnded,
                format!("{}, attempts {}", self.name(), row.attempts),
            ),
            _ if accepted > 0 => wrong(format!("{accepted} messages reached the user")),
            // A worker counts the database's clock from when it asked, so it may be early by as much.
            ("expired", ..)
                if self.rules.one_clock
                    && row.expire_at > row.finished_at.map(|at| at + ON_ITS_WAY) =>
            {
                wrong("before its time".to_owned());
            }
            ("duplicate", ..) => {
                let winner = row.duplicate_of.and_then(|id| self.by_id.get(&id));
                if !winner.is_some_and(|winner| {
                    matches!(winner.status.as_str(), "sent" | "presumed_sent")
                        && winner.dedup_key == row.dedup_key
                }) {
                    wrong(format!("of {:?}, which was not sent", row.duplicate_of));
                }
            }
            _ => {}
        }
        if self
            .told
            .cancelled
            .is_some_and(|cancelled| cancelled != (row.status == "cancelled"))
        {
            let what = format!("its cancel's commit was {:?}", self.told.cancelled);
            verdict.add(Kind::WrongStatus, format!("{}: {what}", self.name()));
        }
        if row.status != "pending" && accepted > usize::try_from(row.attempts).unwrap_or(0) {
            let what = format!("{accepted} messages, {} attempts", row.attempts);
            verdict.add(Kind::WrongStatus, format!("{}: {what}", self.name()));
        }
    }

    /// After a message that reached the user nothing may follow without a doubt that was recorded in between. Of two messages
    /// one may be a late send of a worker that was stopped: the doubt of its lease was recorded before it came. It counts if
    /// it was recorded before the other one came, whichever of them was the first.
    fn compare_repeats(&self, verdict: &mut Verdict) {
        let accepted: Vec<&&Call> = self.accepted().collect();
        let doubts = || self.attempts.iter().filter(|a| a.result == "doubt");
        for (n, pair) in accepted.windows(2).enumerate() {
            let is_recorded = if self.rules.one_clock {
                doubts().any(|doubt| {
                    doubt.finished_at >= pair[0].arrived_at - TOLERANCE
                        && doubt.finished_at <= pair[1].arrived_at + TOLERANCE
                }) || self.is_doubted(pair[0], pair[1].arrived_at)
                    || self.is_doubted(pair[1], pair[0].arrived_at)
            } else {
                doubts().count() > n
            };
            if !is_recorded {
                verdict.add(
                    Kind::SentTwiceUnrecorded,
                    format!(
                        "{}: at {} by worker {:?} and at {} by worker {:?}",
                        self.name(),
                        pair[0].arrived_at,
                        worker_of(pair[0]),
                        pair[1].arrived_at,
                        worker_of(pair[1])
                    ),
                );
            } else if self.row.on_doubt == "hold" {
                verdict.add(Kind::SentTwiceOnHold, self.name());
            } else {
                verdict.twice_recorded += 1;
            }
        }
    }

    fn compare_doubts(&self, verdict: &mut Verdict) {
        let doubts = || self.attempts.iter().filter(|a| a.result == "doubt");
        let is_held = self.row.on_doubt == "hold" && doubts().next().is_some();
        verdict.doubts_on_hold += usize::from(is_held);
        if !self.rules.doubts && doubts().any(|doubt| !doubt.timed_out()) {
            let what = format!("{}: nothing was lost here", self.name());
            verdict.add(Kind::ADoubtThatWasNone, what);
        }
        for doubt in doubts() {
            // What a lease settled is known; that lease cannot leave a doubt behind.
            let settled = self.attempts.iter().filter(|other| {
                other.lease_id == doubt.lease_id && !matches!(other.result.as_str(), "late_reply")
            });
            if doubt.lease_id.is_some() && settled.count() > 1 {
                let what = format!("{}: lease {:?} had settled it", self.name(), doubt.lease_id);
                verdict.add(Kind::ADoubtThatWasNone, what);
            }
            let was_known = self.attempts.iter().any(|other| {
                other.result == "late_reply"
                    && other.lease_id == doubt.lease_id
                    && other.finished_at < doubt.finished_at
            });
            let in_parts = self
                .held
                .iter()
                .any(|held| held.in_parts && Some(held.lease_id) == doubt.lease_id);
            if was_known && !in_parts && self.rules.one_clock {
                let what = format!("{}: its worker had the reply", self.name());
                verdict.add(Kind::ADoubtThatWasNone, what);
            }
            if !self.rules.one_clock {
                continue;
            }
            let again = self.calls.iter().find(|call| {
                call.arrived_at > doubt.finished_at + TimeDelta::milliseconds(1)
                    && self.lease_of(call).map(|held| held.lease_id) != doubt.lease_id
            });
            let Some(again) = again else { continue };
            let learnt = self.attempts.iter().any(|other| {
                other.result == "late_reply"
                    && other.finished_at >= doubt.finished_at
                    && other.finished_at <= again.arrived_at
            });
            let window = TimeDelta::from_std(self.rules.doubt_window).unwrap_or_default();
            let waited = again.arrived_at - doubt.finished_at;
            // A send that was under way when another worker called it doubtful arrives in the window.
            let was_under_way = self.calls.len() == 1;
            if !learnt && !was_under_way && waited < window - TOLERANCE {
                verdict.add(
                    Kind::ADoubtRetriedTooSoon,
                    format!(
                        "{}: after {} ms of {} ms",
                        self.name(),
                        waited.num_milliseconds(),
                        window.num_milliseconds()
                    ),
                );
            }
        }
    }

    /// A send needs a lease of its worker that was started before and still held.
    fn compare_call(&self, call: &Call, verdict: &mut Verdict) {
        if self
            .row
            .expire_at
            .is_some_and(|expire_at| call.arrived_at > expire_at + ON_ITS_WAY)
        {
            // A worker that is stopped between its last look and the request sends late; its lease is in doubt by then.
            if self.is_doubted(call, call.arrived_at) {
                verdict.late += 1;
                return;
            }
            let late = call.arrived_at - self.row.expire_at.unwrap_or_default();
            verdict.add(
                Kind::SentAfterExpiry,
                format!("{}: {} ms late", self.name(), late.num_milliseconds()),
            );
        }
        let Some(worker) = worker_of(call) else {
            return;
        };
        match self.lease_of(call) {
            None => verdict.add(
                Kind::SentWithoutAStart,
                format!("{}: at {} by worker {worker}", self.name(), call.arrived_at),
            ),
            Some(held)
                if held
                    .ended_at
                    .is_some_and(|ended| ended + TOLERANCE < call.arrived_at) =>
            {
                if self.is_doubted(call, call.arrived_at) {
                    verdict.late += 1;
                    return;
                }
                let ended = call.arrived_at - held.ended_at.unwrap_or_default();
                verdict.add(
                    Kind::SentByAFencedWorker,
                    format!(
                        "{}: {} ms after the lease of {} had ended",
                        self.name(),
                        ended.num_milliseconds(),
                        held.worker
                    ),
                );
            }
            Some(_) => {}
        }
    }
}

/// No user is in two leases at once.
fn compare_users(history: &History, held: &HashMap<i64, Vec<Held>>, verdict: &mut Verdict) {
    let mut users: HashMap<(&str, &str), Vec<(&Held, i64)>> = HashMap::new();
    for row in &history.rows {
        let places = held.get(&row.id).map_or(&[][..], Vec::as_slice);
        let user = (
            row.appid.as_str(),
            row.openid.as_deref().unwrap_or_default(),
        );
        users
            .entry(user)
            .or_default()
            .extend(places.iter().map(|place| (place, row.id)));
    }
    for ((appid, openid), mut places) in users {
        places.sort_by_key(|(place, _)| place.begun_seq);
        for pair in places.windows(2) {
            let ((first, one), (second, other)) = (pair[0], pair[1]);
            if second.begun_seq < first.ended_seq {
                verdict.add(
                    Kind::AUserInTwoLeases,
                    format!(
                        "{openid} of {appid}: {one} with {}, {other} with {}",
                        first.worker, second.worker
                    ),
                );
            }
        }
    }
}

/// Of the rows of one dedup key at most one is sent.
fn compare_keys(history: &History, verdict: &mut Verdict) {
    let mut keys: HashMap<(&str, &str), Vec<i64>> = HashMap::new();
    for row in &history.rows {
        if let (Some(key), "sent" | "presumed_sent") = (&row.dedup_key, row.status.as_str()) {
            keys.entry((&row.appid, key)).or_default().push(row.id);
        }
    }
    for ((_, key), ids) in keys.iter().filter(|(_, ids)| ids.len() > 1) {
        verdict.add(
            Kind::SentTwiceUnrecorded,
            format!("dedup key {key} was sent by {ids:?}"),
        );
    }
}

/// Credits given are credits taken and left; and where each row had a credit of its own, who was sent to spent exactly that.
fn compare_books(history: &History, verdict: &mut Verdict) {
    let mut spent: HashMap<(&str, &str, &str), (u64, u64)> = HashMap::new();
    for row in &history.rows {
        let pair = (
            row.appid.as_str(),
            row.openid.as_deref().unwrap_or_default(),
            row.template_id.as_deref().unwrap_or_default(),
        );
        let (surely, perhaps) = spent.entry(pair).or_default();
        match row.status.as_str() {
            "sent" | "presumed_sent" => *surely += 1,
            "unresolved" | "pending" => *perhaps += 1,
            _ => {}
        }
    }
    for pair in history.pairs.iter().filter(|pair| pair.granted > 0) {
        let key = (
            pair.appid.as_str(),
            pair.openid.as_str(),
            pair.template_id.as_str(),
        );
        let (surely, perhaps) = spent.get(&key).copied().unwrap_or_default();
        let balances = pair.granted == pair.credits_taken + pair.remaining.unwrap_or(0)
            && pair.credits_taken == pair.accepted
            && (surely..=surely + perhaps).contains(&pair.credits_taken);
        if !balances {
            verdict.add(
                Kind::CreditBooks,
                format!(
                    "{}: {} given, {} taken, {:?} left; {surely} rows were sent, {perhaps} perhaps",
                    pair.openid, pair.granted, pair.credits_taken, pair.remaining
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPID: &str = "wx1111222233334444";

    /// So many milliseconds after the tests' beginning.
    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::milliseconds(millis)
    }

    /// A message to the row's user that worker `worker` sent and WeChat accepted.
    fn message(worker: u32, millis: i64, msgid: i64) -> Call {
        serde_json::from_value(serde_json::json!({
            "sequence": msgid,
            "path": "/cgi-bin/message/subscribe/send",
            "appid": APPID,
            "openid": "oUser",
            "template_id": "t-one",
            "host": format!("127.0.1.{worker}:80"),
            "arrived_at": at(millis),
            "answered_at": null,
            "errcode": 0,
            "fault": null,
            "msgid": msgid,
            "accepted": true,
            "credit_taken": false,
            "reply_delivered": true,
            "concurrent": false,
            "data": {"thing1": {"value": "n1"}},
        }))
        .unwrap()
    }

    /// A lease of the row: the worker's, started at once, ended some time later.
    fn lease(lease_id: i64, worker: u32, started: i64, ended: i64) -> [Entry; 2] {
        let entry = |millis, has_ended| Entry {
            // In the order of time.
            seq: millis,
            at: at(millis),
            ended: has_ended,
            appid: APPID.to_owned(),
            lease_id,
            worker: format!("w{worker}#1"),
            ids: vec![1],
            leased_at: at(started),
            started_at: Some(at(started)),
        };
        [entry(started, false), entry(ended, true)]
    }

    fn doubt(lease_id: i64, millis: i64) -> Attempt {
        Attempt {
            notification_id: 1,
            result: "doubt".to_owned(),
            lease_id: Some(lease_id),
            finished_at: at(millis),
            reason: None,
        }
    }

    /// One row that ended as sent by the message `msgid`.
    fn history(
        leases: impl IntoIterator<Item = [Entry; 2]>,
        attempts: Vec<Attempt>,
        calls: Vec<Call>,
    ) -> History {
        let mut leases: Vec<Entry> = leases.into_iter().flatten().collect();
        leases.sort_by_key(|entry| entry.seq);
        let row = Row {
            id: 1,
            nonce: Some("n1".to_owned()),
            appid: APPID.to_owned(),
            openid: Some("oUser".to_owned()),
            template_id: Some("t-one".to_owned()),
            status: "sent".to_owned(),
            settled_by: Some("reply".to_owned()),
            on_doubt: "retry".to_owned(),
            attempts: 5,
            in_doubt_since: None,
            expire_at: None,
            finished_at: Some(at(60_000)),
            msgid: calls.last().and_then(|call| call.msgid),
            duplicate_of: None,
            dedup_key: None,
        };
        let told = Told {
            cancelled: Some(false),
        };
        History {
            rules: Rules {
                one_clock: true,
                doubts: true,
                doubt_window: Duration::from_secs(1),
            },
            told: HashMap::from([("n1".to_owned(), told)]),
            rows: vec![row],
            attempts,
            leases,
            calls,
            pairs: Vec::new(),
        }
    }

    fn kinds(verdict: &Verdict) -> Vec<Kind> {
        let found = verdict.violations.iter().map(|violation| violation.kind);
        found.collect()
    }

    #[test]
    fn a_resend_after_a_recorded_doubt_is_counted_and_no_violation() {
        let verdict = compare(&history(
            [lease(1, 1, 0, 6_200), lease(2, 2, 7_300, 7_500)],
            vec![doubt(1, 6_200)],
            vec![message(1, 10, 71), message(2, 7_310, 72)],
        ));
        assert_eq!(kinds(&verdict), []);
        assert_eq!((verdict.twice_recorded, verdict.late), (1, 0));
    }

    #[test]
    fn a_resend_without_a_doubt_is_reported() {
        let verdict = compare(&history(
            [lease(1, 1, 0, 200), lease(2, 2, 7_300, 7_500)],
            Vec::new(),
            vec![message(1, 10, 71), message(2, 7_310, 72)],
        ));
        assert_eq!(kinds(&verdict), [Kind::SentTwiceUnrecorded]);
    }

    /// The worker was stopped before its request left, and went on when its lease was in doubt and nobody had sent again.
    #[test]
    fn a_late_send_before_the_resend_is_recorded_by_the_doubt_of_its_lease() {
        let verdict = compare(&history(
            [lease(1, 1, 0, 6_200), lease(2, 2, 7_900, 8_100)],
            vec![doubt(1, 6_200)],
            vec![message(1, 7_300, 71), message(2, 7_910, 72)],
        ));
        assert_eq!(kinds(&verdict), []);
        assert_eq!((verdict.twice_recorded, verdict.late), (1, 1));
    }

    #[test]
    fn a_late_send_behind_the_resend_is_recorded_by_the_doubt_of_its_lease() {
        let verdict = compare(&history(
            [lease(1, 1, 0, 6_200), lease(2, 2, 7_900, 8_100)],
            vec![doubt(1, 6_200)],
            vec![message(2, 7_910, 71), message(1, 9_000, 72)],
        ));
        assert_eq!(kinds(&verdict), []);
        assert_eq!((verdict.twice_recorded, verdict.late), (1, 1));
    }

    /// The doubt explains the late send and the message after it; it does not explain a third.
    #[test]
    fn one_late_send_excuses_no_third_message() {
        let verdict = compare(&history(
            [
                lease(1, 1, 0, 6_200),
                lease(2, 2, 7_900, 8_100),
                lease(3, 3, 9_000, 9_200),
            ],
            vec![doubt(1, 6_200)],
            vec![
                message(1, 7_300, 71),
                message(2, 7_910, 72),
                message(3, 9_010, 73),
            ],
        ));
        assert_eq!(kinds(&verdict), [Kind::SentTwiceUnrecorded]);
    }

    /// The first worker's lease was settled; that an older lease of its was in doubt is no record of this send.
    #[test]
    fn the_doubt_of_another_lease_of_the_same_worker_excuses_nothing() {
        let verdict = compare(&history(
            [
                lease(1, 1, 0, 6_200),
                lease(2, 1, 7_300, 7_500),
                lease(3, 2, 9_000, 9_200),
            ],
            vec![doubt(1, 6_200)],
            vec![message(1, 7_310, 71), message(2, 9_010, 72)],
        ));
        assert_eq!(kinds(&verdict), [Kind::SentTwiceUnrecorded]);
    }

    /// What became doubtful after both were sent was no reason to send again.
    #[test]
    fn a_doubt_that_came_after_the_second_message_excuses_nothing() {
        for doubted in [1, 2] {
            let verdict = compare(&history(
                [lease(1, 1, 0, 200), lease(2, 2, 7_300, 9_000)],
                vec![doubt(doubted, 9_000)],
                vec![message(1, 10, 71), message(2, 7_310, 72)],
            ));
            assert_eq!(kinds(&verdict), [Kind::SentTwiceUnrecorded]);
        }
    }

    #[test]
    fn a_late_send_whose_lease_was_never_in_doubt_is_a_fenced_workers() {
        let verdict = compare(&history(
            [lease(1, 1, 0, 200)],
            Vec::new(),
            vec![message(1, 7_300, 71)],
        ));
        assert_eq!(kinds(&verdict), [Kind::SentByAFencedWorker]);
        assert_eq!(verdict.late, 0);
    }

    /// A worker that goes on may lease the row again while its late send arrives.
    #[test]
    fn a_late_send_is_not_taken_for_the_send_of_the_lease_that_follows() {
        let verdict = compare(&history(
            [lease(1, 1, 0, 6_200), lease(2, 1, 7_400, 7_600)],
            vec![doubt(1, 6_200)],
            vec![message(1, 7_350, 71), message(1, 7_410, 72)],
        ));
        assert_eq!(kinds(&verdict), []);
        assert_eq!((verdict.twice_recorded, verdict.late), (1, 1));
    }

    fn expired_at(millis: i64, attempts: Vec<Attempt>) -> Verdict {
        let mut history = history(
            [lease(1, 1, 0, 6_200)],
            attempts,
            vec![message(1, 7_300, 71)],
        );
        history.rows[0].expire_at = Some(at(millis));
        compare(&history)
    }

    #[test]
    fn a_message_after_its_expiry_is_reported() {
        let verdict = expired_at(5_000, Vec::new());
        assert!(kinds(&verdict).contains(&Kind::SentAfterExpiry));
    }

    /// The worker was stopped before its request left: no check of its own could have kept it.
    #[test]
    fn a_late_send_of_a_doubtful_lease_is_counted_as_late_alone() {
        let verdict = expired_at(5_000, vec![doubt(1, 6_200)]);
        assert!(!kinds(&verdict).contains(&Kind::SentAfterExpiry));
        assert_eq!(verdict.late, 1);
    }

    #[test]
    fn twice_on_hold_is_reported_though_a_doubt_was_recorded() {
        let mut history = history(
            [lease(1, 1, 0, 6_200), lease(2, 2, 7_300, 7_500)],
            vec![doubt(1, 6_200)],
            vec![message(1, 10, 71), message(2, 7_310, 72)],
        );
        history.rows[0].on_doubt = "hold".to_owned();
        let verdict = compare(&history);
        assert_eq!(kinds(&verdict), [Kind::SentTwiceOnHold]);
        assert_eq!((verdict.doubts_on_hold, verdict.twice_recorded), (1, 0));
    }
}
