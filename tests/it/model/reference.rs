//! What the queue should do, as a small pure program: rows, leases, events and a clock that moves in steps.
//!
//! One [`Op`] is one call of a producer, worker or operator. [`Model::apply`] says what it leads to; where the kernel may
//! choose (which of a user's rows is leased), [`Model::lease`] says whether a choice was allowed, and takes it over.
//!
//! A step of the clock is a [`UNIT`]. All spans are fractions of it that stay clear of one another, so the milliseconds
//! a test really takes decide nothing; each op is one tick later than the one before it, as in reality.

use std::collections::{BTreeMap, BTreeSet};

/// One step of the clock, in ticks of a millisecond.
pub const UNIT: i64 = 1_000_000;
/// Spans as the kernel is told them, in ticks.
pub const RETRY: i64 = UNIT / 2;
pub const LEASE: i64 = UNIT * 3 / 2;
pub const DOUBT_WINDOW: i64 = UNIT * 2 / 5;
pub const DOUBT_AGE: i64 = UNIT * 5 / 2;
/// An event is dated this much later than it is stored.
pub const EVENT_AHEAD: i64 = 20_000;
const GRACE: i64 = 5_000;
const NEVER: i64 = i64::MAX;
const ROWS_PER_USER: usize = 6;

/// What somebody does. Rows and leases are named by number, taken modulo how many there are.
#[derive(Debug, Clone)]
pub enum Op {
    Insert {
        user: usize,
        template: usize,
        held: bool,
        send_in: i64,
        expire_in: Option<i64>,
        key: Option<usize>,
        hold: bool,
        attempts_max: i64,
    },
    Arm {
        user: usize,
        template: usize,
    },
    Delete(usize),
    Postpone(usize, i64),
    Cancel(usize),
    Reschedule(usize, i64),
    Redrive(usize),
    ConfirmSent(usize),
    ConfirmNotSent(usize),
    RetryAnyway(usize),
    Lease {
        worker: usize,
        start: bool,
    },
    Start(usize),
    Release(usize),
    Settle {
        lease: usize,
        verdicts: Vec<Verdict>,
        close: bool,
    },
    LateReply {
        lease: usize,
        row: usize,
        reply: Reply,
    },
    Rescue,
    Tidy,
    Weigh,
    Event {
        user: usize,
        template: usize,
        units_ago: i64,
        known: bool,
    },
    PauseApp(Option<i64>),
    ResumeApp,
    PauseTemplate(usize),
    ResumeTemplate(usize),
    Step(i64),
}

/// What a worker reports of one send. `Skip`: nothing, yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Skip,
    Sent,
    Refused,
    NoCredit,
    Retry,
    Park,
    Doubt,
    Release,
    Expired,
}

/// What a reply says that comes after its lease was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Sent,
    Refused,
    NotSent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Retry,
    User,
    Pair,
    Template,
    App,
    Doubt,
    Duplicate,
}

/// A mistake put into the model on purpose, to show that the comparison notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    None,
    DoubtsExpire,
    RetriesAreFree,
}

type Pair = (usize, usize);

#[derive(Debug, Clone)]
pub struct Row {
    pub id: i64,
    pair: Pair,
    held: bool,
    send_at: i64,
    expire_at: i64,
    key: Option<usize>,
    hold: bool,
    attempts_max: i64,
    pub attempts: i64,
    rescues: i64,
    due: i64,
    waiting: Option<Waiting>,
    in_doubt_since: Option<i64>,
    last_lease: Option<i64>,
    ended: Option<End>,
    redriven: bool,
}

#[derive(Debug, Clone)]
struct End {
    status: &'static str,
    by: &'static str,
    at: i64,
    msgid: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct Lease {
    pub id: i64,
    pub rows: Vec<i64>,
    started: Option<i64>,
    expires: i64,
}

#[derive(Debug, Clone)]
struct Event {
    pair: Pair,
    msgid: i64,
    at: i64,
    late_reply: bool,
}

/// What everybody can see of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub id: i64,
    pub status: String,
    pub attempts: i64,
    pub in_doubt: bool,
    pub settled_by: Option<String>,
}

pub struct Model {
    pub mistake: Mistake,
    pub now: i64,
    pub rows: Vec<Row>,
    pub leases: Vec<Lease>,
    /// Leases that were taken over: whoever held them may still hear a reply.
    pub lost: Vec<Lease>,
    events: Vec<Event>,
    keys: BTreeMap<usize, i64>,
    app_paused_until: i64,
    templates_paused: BTreeSet<usize>,
    msgids: i64,
}

impl Model {
    pub fn new(mistake: Mistake) -> Self {
        Self {
            mistake,
            now: 0,
            rows: Vec::new(),
            leases: Vec::new(),
            lost: Vec::new(),
            events: Vec::new(),
            keys: BTreeMap::new(),
            app_paused_until: 0,
            templates_paused: BTreeSet::new(),
            msgids: 0,
        }
    }

    pub fn fresh_msgid(&mut self) -> i64 {
        self.msgids += 1;
        self.msgids
    }

    fn row(&self, id: i64) -> &Row {
        self.rows
            .iter()
            .find(|row| row.id == id)
            .expect("a row of ours")
    }

    fn row_mut(&mut self, id: i64) -> &mut Row {
        self.rows
            .iter_mut()
            .find(|row| row.id == id)
            .expect("a row of ours")
    }

    /// The row that an op names, if there is any.
    pub fn named(&self, number: usize) -> Option<i64> {
        (!self.rows.is_empty()).then(|| self.rows[number % self.rows.len()].id)
    }

    pub fn named_lease(&self, number: usize) -> Option<Lease> {
        (!self.leases.is_empty()).then(|| self.leases[number % self.leases.len()].clone())
    }

    /// Rows of a lease whose outcome was not recorded.
    pub fn unsettled(&self, lease: &Lease) -> Vec<i64> {
        let open = |id: &&i64| {
            let row = self.row(**id);
            row.ended.is_none() && row.last_lease != Some(lease.id)
        };
        lease.rows.iter().filter(open).copied().collect()
    }

    /// More rows of a user would meet the rule about long queues of one user, which this model leaves out.
    pub fn has_room(&self, user: usize) -> bool {
        let pending = |row: &&Row| row.ended.is_none() && row.pair.0 == user;
        self.rows.iter().filter(pending).count() < ROWS_PER_USER
    }

    pub fn user_of(&self, id: i64) -> usize {
        self.row(id).pair.0
    }

    fn next_due(row: &Row, now: i64) -> i64 {
        let due = if row.held {
            NEVER
        } else {
            row.send_at.max(now)
        };
        due.min(row.expire_at)
    }

    /// Held by a lease that has not settled it.
    fn in_flight(&self, row: &Row) -> bool {
        let holds =
            |lease: &Lease| lease.rows.contains(&row.id) && row.last_lease != Some(lease.id);
        self.leases.iter().any(holds)
    }

    /// Out of reach of producers and operators.
    fn is_free(&self, row: &Row) -> bool {
        row.ended.is_none() && row.in_doubt_since.is_none() && !self.in_flight(row)
    }

    fn app_is_paused(&self) -> bool {
        self.app_paused_until > self.now
    }

    fn evidence(&self, row: &Row) -> Option<i64> {
        let since = row.in_doubt_since?;
        let owned = |msgid| {
            self.rows.iter().any(|other| {
                other.pair == row.pair
                    && other
                        .ended
                        .as_ref()
                        .is_some_and(|end| end.msgid == Some(msgid))
            })
        };
        let mut found: Vec<&Event> = self
            .events
            .iter()
            .filter(|e| e.pair == row.pair && e.at >= since - if e.late_reply { 0 } else { GRACE })
            .filter(|e| !owned(e.msgid))
            .collect();
        found.sort_by_key(|event| event.at);
        found.first().map(|event| event.msgid)
    }

    fn free_key(&mut self, id: i64) {
        if let Some(key) = self.row(id).key
            && self.keys.get(&key) == Some(&id)
        {
            self.keys.remove(&key);
        }
    }

    /// Ends rows, all in one call of the kernel. A doubt that would end without evidence is looked at once more.
    fn finish(&mut self, ends: &[(i64, &'static str, &'static str, Option<i64>)], attempts: i64) {
        let mut proven: BTreeMap<Pair, (i64, i64)> = BTreeMap::new();
        for &(id, status, ..) in ends {
            let row = self.row(id);
            if let ("unresolved" | "presumed_sent", Some(msgid)) = (status, self.evidence(row)) {
                let first = proven.entry(row.pair).or_insert((id, msgid));
                if id < first.0 {
                    *first = (id, msgid);
                }
            }
        }
        for &(id, status, by, msgid) in ends {
            let by_evidence = proven.values().find(|(first, _)| *first == id);
            let (status, by, msgid) = match by_evidence {
                Some((_, msgid)) => ("sent", "event", Some(*msgid)),
                None => (status, by, msgid),
            };
            if !matches!(status, "sent" | "presumed_sent") {
                self.free_key(id);
            }
            let at = self.now;
            let row = self.row_mut(id);
            row.attempts += attempts;
            row.ended = Some(End {
                status,
                by,
                at,
                msgid,
            });
        }
    }

    fn end(&mut self, id: i64, status: &'static str, by: &'static str, msgid: Option<i64>) {
        self.finish(&[(id, status, by, msgid)], 0);
    }

    pub fn insert(&mut self, id: i64, op: &Op) {
        let &Op::Insert {
            user,
            template,
            held,
            send_in,
            expire_in,
            key,
            hold,
            attempts_max,
        } = op
        else {
            unreachable!("an insert")
        };
        let mut row = Row {
            id,
            pair: (user, template),
            held,
            send_at: send_at(self.now, send_in),
            expire_at: expire_in.map_or(NEVER, |units| expire_at(self.now, units)),
            key,
            hold,
            attempts_max,
            attempts: 0,
            rescues: 0,
            due: 0,
            waiting: None,
            in_doubt_since: None,
            last_lease: None,
            ended: None,
            redriven: false,
        };
        row.due = Self::next_due(&row, self.now);
        self.rows.push(row);
    }

    pub fn redrive(&mut self, id: i64, new_id: i64) {
        let old = self.row_mut(id);
        old.redriven = true;
        let mut row = old.clone();
        row.id = new_id;
        row.send_at = self.now;
        if row.expire_at <= self.now {
            row.expire_at = NEVER;
        }
        (row.attempts, row.rescues, row.waiting) = (0, 0, None);
        (row.in_doubt_since, row.last_lease, row.ended, row.redriven) = (None, None, None, false);
        row.due = Self::next_due(&row, self.now);
        self.rows.push(row);
    }

    pub fn may_redrive(&self, id: i64) -> bool {
        let row = self.row(id);
        let again = ["dead", "unresolved", "expired", "cancelled"];
        !row.redriven
            && row
                .ended
                .as_ref()
                .is_some_and(|end| again.contains(&end.status))
    }

    /// The credit that arming this pair uses.
    pub fn armed(&self, user: usize, template: usize) -> Option<i64> {
        let usable = |row: &&Row| {
            row.pair == (user, template)
                && row.held
                && row.ended.is_none()
                && row.expire_at > self.now
        };
        self.rows.iter().filter(usable).map(|row| row.id).min()
    }

    fn again(&mut self, id: i64) {
        let now = self.now;
        let row = self.row_mut(id);
        row.waiting = None;
        row.due = Self::next_due(row, now);
    }

    fn postpone(&mut self, id: i64, units: i64) {
        let at = send_at(self.now, units);
        self.row_mut(id).send_at = at;
        self.again(id);
        self.free_key(id);
    }

    /// The rows that a lease may take now, whichever of a user's it chooses.
    fn eligible(&self) -> Vec<i64> {
        if self.app_is_paused() {
            return Vec::new();
        }
        let leased: BTreeSet<i64> = self
            .leases
            .iter()
            .flat_map(|lease| lease.rows.clone())
            .collect();
        let busy: BTreeSet<usize> = leased.iter().map(|id| self.row(*id).pair.0).collect();
        let fits = |row: &&Row| {
            row.ended.is_none()
                && row.due <= self.now
                && row.expire_at > self.now
                && row.attempts < row.attempts_max
                && !busy.contains(&row.pair.0)
                && !self.templates_paused.contains(&row.pair.1)
                && !self.stands_behind_a_doubt(row)
                && (row.in_doubt_since.is_none() || (!row.hold && self.evidence(row).is_none()))
        };
        self.rows.iter().filter(fits).map(|row| row.id).collect()
    }

    fn stands_behind_a_doubt(&self, row: &Row) -> bool {
        self.rows.iter().any(|other| {
            other.pair == row.pair
                && other.id != row.id
                && other.ended.is_none()
                && other.in_doubt_since.is_some()
                && (row.in_doubt_since.is_none() || other.id < row.id)
        })
    }

    /// Takes over what the kernel leased, or says why that was wrong.
    pub fn lease(&mut self, leased: Option<(i64, Vec<i64>)>, start: bool) -> Result<(), String> {
        let eligible = self.eligible();
        let owner = |model: &Self, id: i64| {
            let key = model.row(id).key?;
            model.keys.get(&key).copied().filter(|winner| *winner != id)
        };
        let losers: Vec<(i64, i64)> = eligible
            .iter()
            .filter_map(|id| Some((*id, owner(self, *id)?)))
            .collect();
        let chosen = leased.as_ref().map_or(&[][..], |(_, ids)| ids);
        let users: BTreeSet<usize> = chosen.iter().map(|id| self.user_of(*id)).collect();
        let keys: Vec<usize> = chosen.iter().filter_map(|id| self.row(*id).key).collect();
        if users.len() < chosen.len() {
            return Err(format!("two rows of a user in one lease: {chosen:?}"));
        }
        if keys.iter().collect::<BTreeSet<_>>().len() < keys.len() {
            return Err(format!("two rows of a dedup key in one lease: {chosen:?}"));
        }
        for id in chosen {
            if !eligible.contains(id) {
                return Err(format!(
                    "{id} was leased and may not be: {:?}",
                    self.row(*id)
                ));
            }
            if losers.iter().any(|(loser, _)| loser == id) {
                return Err(format!("{id} was leased although its key is taken"));
            }
            if self.row(*id).rescues >= 2 && chosen.len() > 1 {
                return Err(format!("{id} was rescued twice and has company"));
            }
        }
        let rescued_once = |ids: &[i64]| {
            let once = ids.iter().filter(|id| self.row(**id).rescues == 1);
            once.count()
        };
        if rescued_once(chosen) > 1 {
            return Err(format!(
                "rows that were rescued once share a lease: {chosen:?}"
            ));
        }
        let suspects =
            rescued_once(&eligible) > 1 || eligible.iter().any(|id| self.row(*id).rescues >= 2);
        for id in &eligible {
            let user = self.user_of(*id);
            let of_user = eligible
                .iter()
                .filter(|other| self.user_of(**other) == user);
            let mut plain = of_user.map(|other| self.row(*other).key.is_none());
            if !suspects && plain.all(|plain| plain) && !users.contains(&user) {
                return Err(format!("{id} is due and nothing of its user was leased"));
            }
        }
        let ended: Vec<i64> = losers
            .iter()
            .filter(|(loser, winner)| {
                self.row(*winner).ended.is_some() && self.row(*loser).in_doubt_since.is_none()
            })
            .map(|(loser, _)| *loser)
            .collect();
        for (loser, _) in losers {
            if ended.contains(&loser) {
                self.end(loser, "duplicate", "worker", None);
            } else {
                let (now, row) = (self.now, self.row_mut(loser));
                (row.waiting, row.due) = (Some(Waiting::Duplicate), now.min(row.expire_at));
            }
        }
        if let Some((id, rows)) = leased {
            for row in &rows {
                if let Some(key) = self.row(*row).key {
                    self.keys.insert(key, *row);
                }
            }
            let (started, expires) = (start.then_some(self.now), self.now + LEASE);
            self.leases.push(Lease {
                id,
                rows,
                started,
                expires,
            });
        }
        Ok(())
    }

    pub fn start(&mut self, lease: i64) {
        let now = self.now;
        for held in self.leases.iter_mut().filter(|held| held.id == lease) {
            held.started = held.started.or(Some(now));
            held.expires = now + LEASE;
        }
    }

    pub fn is_started(&self, lease: i64) -> bool {
        self.leases
            .iter()
            .any(|held| held.id == lease && held.started.is_some())
    }

    /// Outcomes as `(row, verdict, msgid)`.
    pub fn settle(&mut self, lease: &Lease, outcomes: &[(i64, Verdict, i64)], close: bool) {
        let started = lease.started.expect("only started leases are settled");
        let sent: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.1 == Verdict::Sent)
            .collect();
        let ends: Vec<_> = sent
            .iter()
            .map(|(id, _, msgid)| (*id, "sent", "reply", Some(*msgid)))
            .collect();
        self.finish(&ends, 1);
        let judged: Vec<_> = outcomes
            .iter()
            .filter(|outcome| !matches!(outcome.1, Verdict::Sent | Verdict::Skip))
            .map(|&(id, verdict, _)| (id, verdict, self.judge(id, verdict)))
            .collect();
        let of = |expired: bool| {
            judged
                .iter()
                .filter(move |(_, verdict, _)| (*verdict == Verdict::Expired) == expired)
                .filter_map(move |(id, _, status)| {
                    Some((
                        *id,
                        (*status)?,
                        if expired { "worker" } else { "reply" },
                        None,
                    ))
                })
                .collect::<Vec<_>>()
        };
        let (expired, dead) = (of(true), of(false));
        self.finish(&expired, 0);
        self.finish(&dead, 1);
        let now = self.now;
        let free = usize::from(self.mistake == Mistake::RetriesAreFree);
        for (id, verdict, status) in judged {
            if status.is_some() {
                continue;
            }
            let row = self.row_mut(id);
            row.last_lease = Some(lease.id);
            match verdict {
                Verdict::Retry => {
                    row.attempts += 1 - i64::try_from(free).unwrap_or(0);
                    (row.waiting, row.due) =
                        (Some(Waiting::Retry), (now + RETRY).min(row.expire_at));
                }
                Verdict::Park => {
                    (row.waiting, row.due) =
                        (Some(Waiting::User), (now + RETRY).min(row.expire_at));
                }
                Verdict::Doubt => {
                    row.attempts += 1;
                    Self::doubt(row, started, now);
                }
                _ => {
                    row.waiting = None;
                    row.due = Self::next_due(row, now);
                }
            }
        }
        let rest = self.unsettled(lease);
        if close && rest.is_empty() {
            self.leases.retain(|held| held.id != lease.id);
        } else if close && 2 * rest.len() <= lease.rows.len() {
            for held in self.leases.iter_mut().filter(|held| held.id == lease.id) {
                held.rows = rest.clone();
            }
        }
    }

    fn doubt(row: &mut Row, started: i64, now: i64) {
        let since = *row.in_doubt_since.get_or_insert(started);
        let due = if row.hold {
            since + DOUBT_AGE
        } else {
            now + DOUBT_WINDOW
        };
        (row.waiting, row.due) = (Some(Waiting::Doubt), due.min(row.expire_at));
    }

    /// How a row ends by a verdict; `None`: it does not.
    fn judge(&self, id: i64, verdict: Verdict) -> Option<&'static str> {
        let row = self.row(id);
        let doubtful = row.in_doubt_since.is_some() && self.mistake != Mistake::DoubtsExpire;
        match verdict {
            Verdict::Expired if doubtful => Some("unresolved"),
            Verdict::Expired => Some("expired"),
            Verdict::Refused | Verdict::NoCredit if row.in_doubt_since.is_none() => Some("dead"),
            Verdict::Refused => Some("unresolved"),
            Verdict::NoCredit => {
                let took_it = |other: &Row| {
                    other.pair == row.pair
                        && other.id != row.id
                        && match &other.ended {
                            None => true,
                            Some(end) => {
                                matches!(end.status, "sent" | "presumed_sent")
                                    && Some(end.at) >= row.in_doubt_since
                            }
                        }
                };
                Some(if self.rows.iter().any(took_it) {
                    "unresolved"
                } else {
                    "presumed_sent"
                })
            }
            _ => None,
        }
    }

    fn rescue(&mut self) {
        let now = self.now;
        let (lapsed, kept): (Vec<Lease>, Vec<Lease>) =
            self.leases.drain(..).partition(|lease| lease.expires < now);
        self.leases = kept;
        for lease in lapsed {
            if let Some(started) = lease.started {
                for id in self.unsettled(&lease) {
                    let row = self.row_mut(id);
                    row.attempts += 1;
                    row.rescues += 1;
                    row.last_lease = Some(lease.id);
                    Self::doubt(row, started, now);
                }
                self.lost.push(lease);
            }
        }
    }

    fn weigh(&mut self) {
        let mut doubts: Vec<i64> = self
            .rows
            .iter()
            .filter(|row| {
                row.ended.is_none() && row.in_doubt_since.is_some() && !self.in_flight(row)
            })
            .map(|row| row.id)
            .collect();
        doubts.sort_unstable();
        for id in doubts {
            if let Some(msgid) = self.evidence(self.row(id)) {
                self.end(id, "sent", "event", Some(msgid));
            }
        }
    }

    fn tidy(&mut self) {
        let now = self.now;
        let leased: BTreeSet<i64> = self
            .leases
            .iter()
            .flat_map(|lease| lease.rows.clone())
            .collect();
        let busy: BTreeSet<usize> = leased.iter().map(|id| self.row(*id).pair.0).collect();
        let front: Vec<Row> = self
            .rows
            .iter()
            .filter(|row| row.ended.is_none() && row.due <= now && !leased.contains(&row.id))
            .cloned()
            .collect();
        let mut ends = Vec::new();
        for row in front {
            let doubtful = row.in_doubt_since.is_some();
            let status = if row.expire_at <= now {
                Some(if doubtful && self.mistake != Mistake::DoubtsExpire {
                    "unresolved"
                } else {
                    "expired"
                })
            } else if doubtful && (row.hold || row.attempts >= row.attempts_max) {
                Some("unresolved")
            } else if row.attempts >= row.attempts_max {
                Some("dead")
            } else {
                None
            };
            if let Some(status) = status {
                ends.push((row.id, status, "policy", None));
                continue;
            }
            let park = if self.app_is_paused() {
                Some((Waiting::App, self.app_paused_until.min(now + UNIT * 3 / 5)))
            } else if self.templates_paused.contains(&row.pair.1) {
                Some((Waiting::Template, now + UNIT * 3 / 5))
            } else if self.stands_behind_a_doubt(&row) {
                Some((Waiting::Pair, now))
            } else if busy.contains(&row.pair.0) {
                Some((Waiting::User, now))
            } else {
                None
            };
            if let Some((waiting, due)) = park {
                let row = self.row_mut(row.id);
                (row.waiting, row.due) = (Some(waiting), due.min(row.expire_at));
            }
        }
        self.finish(&ends, 0);
    }

    fn unpark(&mut self, waiting: Waiting, template: Option<usize>) {
        let now = self.now;
        for row in self
            .rows
            .iter_mut()
            .filter(|row| row.ended.is_none() && row.waiting == Some(waiting))
        {
            if template.is_none_or(|template| template == row.pair.1) {
                row.waiting = row.in_doubt_since.is_some().then_some(Waiting::Doubt);
                row.due = Self::next_due(row, now);
            }
        }
    }

    /// A reply after the lease was taken over; `msgid` is of this very send.
    pub fn late_reply(&mut self, lease: &Lease, id: i64, reply: Reply, msgid: i64) {
        let started = lease.started.expect("it was sent");
        let row = self.row(id).clone();
        match reply {
            Reply::Sent => {
                self.events.push(Event {
                    pair: row.pair,
                    msgid,
                    at: started,
                    late_reply: true,
                });
                let caused = row.in_doubt_since.is_some_and(|since| since <= started);
                if caused && row.ended.is_none() && !self.in_flight(&row) {
                    self.end(id, "sent", "late_reply", Some(msgid));
                }
            }
            Reply::Refused | Reply::NotSent => {
                let caused =
                    row.in_doubt_since == Some(started) && row.last_lease == Some(lease.id);
                if !caused || row.ended.is_some() || self.in_flight(&row) {
                    return;
                }
                if reply == Reply::Refused {
                    self.end(id, "dead", "late_reply", None);
                } else {
                    self.row_mut(id).in_doubt_since = None;
                    self.again(id);
                }
            }
        }
    }

    /// A msgid that a settled row of the pair owns.
    pub fn owned_msgid(&self, user: usize, template: usize) -> Option<i64> {
        let of_pair = self.rows.iter().filter(|row| row.pair == (user, template));
        of_pair
            .filter_map(|row| row.ended.as_ref()?.msgid)
            .next_back()
    }

    pub fn event(&mut self, user: usize, template: usize, units_ago: i64, msgid: i64) {
        let at = self.now - units_ago * UNIT + EVENT_AHEAD;
        // WeChat repeats itself; the same message again is no other event.
        if !self
            .events
            .iter()
            .any(|event| event.msgid == msgid && !event.late_reply)
        {
            self.events.push(Event {
                pair: (user, template),
                msgid,
                at,
                late_reply: false,
            });
        }
    }

    /// What an op on one row leads to, and every op without a choice in it.
    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::Arm { user, template } => {
                if let Some(id) = self.armed(user, template) {
                    let row = self.row_mut(id);
                    (row.held, row.send_at) = (false, i64::MIN);
                    self.again(id);
                    self.free_key(id);
                }
            }
            Op::PauseApp(units) => {
                self.app_paused_until = units.map_or(NEVER, |units| expire_at(self.now, units));
            }
            Op::ResumeApp => {
                self.app_paused_until = 0;
                self.unpark(Waiting::App, None);
            }
            Op::PauseTemplate(template) => {
                self.templates_paused.insert(template);
            }
            Op::ResumeTemplate(template) => {
                self.templates_paused.remove(&template);
                self.unpark(Waiting::Template, Some(template));
            }
            Op::Rescue => self.rescue(),
            Op::Weigh => self.weigh(),
            Op::Tidy => self.tidy(),
            Op::Step(units) => self.now += units * UNIT,
            _ => {}
        }
    }

    /// What a producer or operator does to one row.
    pub fn apply_to(&mut self, id: i64, op: &Op) {
        let row = self.row(id).clone();
        let free = self.is_free(&row);
        let doubtful = row.ended.is_none() && row.in_doubt_since.is_some() && !self.in_flight(&row);
        match *op {
            Op::Delete(_) if free => self.end(id, "cancelled", "producer", None),
            Op::Postpone(_, units) if free => self.postpone(id, units),
            Op::Cancel(_) if free => self.end(id, "cancelled", "operator", None),
            Op::Cancel(_) if doubtful => self.end(id, "unresolved", "operator", None),
            Op::Reschedule(_, units) if free && row.expire_at > send_at(self.now, units) => {
                self.postpone(id, units);
            }
            Op::ConfirmSent(_) if doubtful => self.end(id, "sent", "operator", None),
            Op::ConfirmNotSent(_) | Op::RetryAnyway(_) if doubtful => {
                let anyway = matches!(op, Op::RetryAnyway(_));
                let row = self.row_mut(id);
                row.attempts_max = row.attempts_max.max((row.attempts + 1).min(100));
                if anyway {
                    row.hold = false;
                } else {
                    row.in_doubt_since = None;
                }
                self.again(id);
                self.row_mut(id).waiting = anyway.then_some(Waiting::Doubt);
            }
            _ => {}
        }
    }

    /// What the view `notifications` must show.
    pub fn seen(&self) -> Vec<Seen> {
        let mut seen: Vec<Seen> = self.rows.iter().map(|row| self.see(row)).collect();
        seen.sort_by_key(|row| row.id);
        seen
    }

    fn see(&self, row: &Row) -> Seen {
        let sending = self.leases.iter().any(|lease| {
            lease.started.is_some()
                && lease.rows.contains(&row.id)
                && row.last_lease != Some(lease.id)
        });
        let parked =
            matches!(row.waiting, Some(Waiting::App | Waiting::Template)) && row.due > self.now;
        // A pause that is over by then does not concern it; templates are paused without an end here.
        let is_later = row.due > self.now
            && row.due < NEVER
            && matches!(row.waiting, None | Some(Waiting::Retry));
        let status = match &row.ended {
            Some(end) => end.status,
            None if sending => "sending",
            None if row.held => "held",
            None if row.in_doubt_since.is_some() => "in_doubt",
            None if self.app_is_paused() && !(is_later && self.app_paused_until <= row.due)
                || self.templates_paused.contains(&row.pair.1)
                || parked =>
            {
                "paused"
            }
            None if row.waiting == Some(Waiting::Retry) => "retrying",
            None if row.waiting.is_none() && row.due > self.now => "scheduled",
            None => "due",
        };
        Seen {
            id: row.id,
            status: status.to_owned(),
            attempts: row.attempts,
            in_doubt: row.in_doubt_since.is_some(),
            settled_by: row.ended.as_ref().map(|end| end.by.to_owned()),
        }
    }
}

/// Not before: between two steps, or now.
pub fn send_at(now: i64, units: i64) -> i64 {
    if units == 0 {
        now
    } else {
        now + units * UNIT - UNIT * 7 / 10
    }
}

/// Not after, and the end of a pause: between two steps, clear of everything else.
pub fn expire_at(now: i64, units: i64) -> i64 {
    now + units * UNIT - UNIT * 3 / 4
}
