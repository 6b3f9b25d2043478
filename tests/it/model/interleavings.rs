//! Every interleaving of two workers, a clock, crashes, lost replies and WeChat's events, in a small model of the kernel: the
//! promises are invariants that the checker tries to break. Each rule that was learnt the hard way can be taken out ([`Trap`]);
//! the checker must then find the harm it prevents, and does, as a shortest path of actions.
//!
//! A step is what no other session can see half done: a committed statement, a request leaving, WeChat's decision, a reply
//! arriving. Leasing is two steps, pick and commit, with the app's lock held between them. Time is a lease that lapses and a
//! doubt's window that passes, whenever they like. Attempts, crashes and lost replies are few, which keeps it finite.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

/// A rule taken out of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trap {
    /// All rules hold.
    None,
    /// Lock and pick are one statement, whose snapshot is older than the lock it waits for.
    LockAndPickInOneSnapshot,
    /// The lock is for a lane, not for the app.
    LockPerLane,
    /// Rescue looks for lapsed leases first and acts on what it saw later.
    RescueByScanThenUpdate,
    /// Settle does not ask whether the lease is still the worker's.
    SettleWithoutFence,
    /// A failure that certainly sent nothing ends the doubt of an earlier send.
    DoubtNotSticky,
    /// The start is recorded after the first request has left.
    SendBeforeStart,
    /// An event is evidence even when its msgid belongs to another row, or it is older than the doubt.
    AnyEventIsEvidence,
}

/// How much may happen.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    trap: Trap,
    /// `(user, lane)` of each row; all rows of a user are of one template.
    rows: &'static [(u8, u8)],
    /// Rows that are never sent again without evidence.
    hold: bool,
    attempts_max: u8,
    leases: u8,
    crashes: u8,
    losses: u8,
    failures: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    Sent,
    PresumedSent,
    Dead,
    Unresolved,
}

/// Since which start a send of the row may have arrived, and the latest msgid given out by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Doubt {
    lease: u8,
    after_msgid: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Row {
    pending: bool,
    doubt: Option<Doubt>,
    /// The window of its doubt has not passed.
    waits: bool,
    last_lease: u8,
    attempts: u8,
    /// Its history rows: status, whether a doubt is on record, msgid.
    ended: Vec<(Status, bool, u8)>,
    /// The truth: how often it reached the user.
    delivered: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lease {
    id: u8,
    worker: u8,
    rows: Vec<u8>,
    started: bool,
    after_msgid: u8,
    lapsed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outcome {
    Sent(u8),
    NotSent,
    NoCredit,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Only where lock and pick are one statement: the leases it saw before it got the lock.
    Waiting {
        seen: Vec<Lease>,
        lane: u8,
    },
    Picked {
        lane: u8,
        rows: Vec<u8>,
    },
    /// Holds a lease: what is left to send, and what became of the rest.
    Holding {
        lease: Lease,
        left: Vec<u8>,
        outcomes: Vec<(u8, Outcome)>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Worker {
    /// Which start of which process: the fence.
    epoch: u8,
    phase: Phase,
}

/// A request at WeChat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Call {
    row: u8,
    lease: u8,
    epoch: u8,
    answer: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    rows: Vec<Row>,
    leases: Vec<Lease>,
    workers: Vec<Worker>,
    calls: Vec<Call>,
    /// `(user, msgid)` of events under way, and of those stored.
    pushed: Vec<(u8, u8)>,
    events: Vec<(u8, u8)>,
    /// What a rescue saw that has not acted yet.
    scanned: Vec<Lease>,
    credits: Vec<u8>,
    lease_ids: u8,
    msgids: u8,
    crashes: u8,
    losses: u8,
    failures: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Action {
    AskForLock(usize, u8),
    Pick(usize, u8),
    Commit(usize),
    Start(usize),
    Send(usize),
    Accept(usize),
    Fail(usize),
    Hear(usize),
    LoseReply(usize),
    Settle(usize),
    Crash(usize),
    Lapse(usize),
    Scan,
    Rescue(usize),
    Push(usize),
    Weigh,
    PassWindow(usize),
    GiveUp(usize),
}

impl Kernel {
    fn user(&self, row: u8) -> u8 {
        self.rows[usize::from(row)].0
    }

    /// An event that ends this row's doubt.
    fn evidence(&self, state: &State, row: u8) -> Option<u8> {
        let doubt = state.rows[usize::from(row)].doubt?;
        let owned = |msgid: u8| {
            state
                .rows
                .iter()
                .any(|other| other.ended.iter().any(|end| end.2 == msgid))
        };
        let counts = |msgid: u8| {
            self.trap == Trap::AnyEventIsEvidence || (msgid > doubt.after_msgid && !owned(msgid))
        };
        let mut of_user = state
            .events
            .iter()
            .filter(|event| event.0 == self.user(row));
        of_user.find(|event| counts(event.1)).map(|event| event.1)
    }

    /// What a lease of the lane takes, given the leases it sees.
    fn pick(&self, state: &State, seen: &[Lease], lane: u8) -> Vec<u8> {
        let mut picked: Vec<u8> = Vec::new();
        for (number, row) in (0_u8..).zip(&state.rows) {
            let user = self.user(number);
            let busy = seen
                .iter()
                .any(|lease| lease.rows.iter().any(|other| self.user(*other) == user));
            let behind_a_doubt = (0_u8..).zip(&state.rows).any(|(other, standing)| {
                other != number
                    && self.user(other) == user
                    && standing.pending
                    && standing.doubt.is_some()
                    && (row.doubt.is_none() || other < number)
            });
            let sendable = row.doubt.is_none()
                || (!self.hold && !row.waits && self.evidence(state, number).is_none());
            if self.rows[usize::from(number)].1 == lane
                && row.pending
                && row.attempts < self.attempts_max
                && sendable
                && !busy
                && !behind_a_doubt
                && !picked.iter().any(|other| self.user(*other) == user)
            {
                picked.push(number);
            }
        }
        picked
    }

    fn in_flight(state: &State, row: u8) -> bool {
        let last = state.rows[usize::from(row)].last_lease;
        state
            .leases
            .iter()
            .any(|lease| lease.rows.contains(&row) && lease.id != last)
    }

    fn lock_is_free(&self, state: &State, lane: u8) -> bool {
        !state.workers.iter().any(|worker| match worker.phase {
            Phase::Picked { lane: held, .. } => self.trap != Trap::LockPerLane || held == lane,
            _ => false,
        })
    }

    fn end(state: &mut State, row: u8, status: Status, msgid: u8) {
        let row = &mut state.rows[usize::from(row)];
        row.pending = false;
        row.waits = false;
        row.ended.push((status, row.doubt.is_some(), msgid));
    }

    fn doubt(&self, state: &mut State, row: u8, lease: &Lease) {
        let row = &mut state.rows[usize::from(row)];
        row.doubt.get_or_insert(Doubt {
            lease: lease.id,
            after_msgid: lease.after_msgid,
        });
        (row.waits, row.last_lease) = (true, lease.id);
        row.attempts += 1;
    }

    /// One outcome of a lease that holds (or, without a fence, once held) the row.
    fn record(&self, state: &mut State, lease: &Lease, row: u8, outcome: Outcome) {
        let number = usize::from(row);
        if !state.rows[number].pending {
            return;
        }
        match outcome {
            Outcome::Sent(msgid) => Self::end(state, row, Status::Sent, msgid),
            Outcome::Unknown => self.doubt(state, row, lease),
            Outcome::NotSent => {
                let row = &mut state.rows[number];
                row.attempts += 1;
                row.last_lease = lease.id;
                if self.trap == Trap::DoubtNotSticky {
                    row.doubt = None;
                }
            }
            Outcome::NoCredit => {
                let other = |other: usize| {
                    other != number
                        && self.rows[other].0 == self.rows[number].0
                        && (state.rows[other].pending
                            || state.rows[other].ended.iter().any(|end| {
                                state.rows[number]
                                    .doubt
                                    .is_some_and(|doubt| end.2 > doubt.after_msgid)
                            }))
                };
                let status = match state.rows[number].doubt {
                    None => Status::Dead,
                    Some(_) if (0..self.rows.len()).any(other) => Status::Unresolved,
                    Some(_) => Status::PresumedSent,
                };
                Self::end(state, row, status, 0);
            }
        }
    }

    /// A worker hands in all its outcomes and closes its lease.
    fn settle(&self, state: &mut State, epoch: u8, lease: &Lease, outcomes: &[(u8, Outcome)]) {
        let holds = state
            .leases
            .iter()
            .any(|held| held.id == lease.id && held.worker == epoch);
        if holds {
            for (row, outcome) in outcomes {
                if state.rows[usize::from(*row)].last_lease != lease.id {
                    self.record(state, lease, *row, *outcome);
                }
            }
            state.leases.retain(|held| held.id != lease.id);
            return;
        }
        for &(row, outcome) in outcomes {
            let number = usize::from(row);
            if self.trap == Trap::SettleWithoutFence {
                // It thinks that the row is its own: its reply ends the doubt that its silence began.
                if state.rows[number]
                    .doubt
                    .is_some_and(|doubt| doubt.lease == lease.id)
                {
                    state.rows[number].doubt = None;
                }
                self.record(state, lease, row, outcome);
                continue;
            }
            // Fenced: what it knows is evidence, and no more.
            let began = state.rows[number]
                .doubt
                .is_some_and(|doubt| doubt.lease == lease.id);
            let reachable = state.rows[number].pending && !Self::in_flight(state, row);
            match outcome {
                Outcome::Sent(msgid) => {
                    let user = self.user(row);
                    if !state.events.contains(&(user, msgid)) {
                        state.events.push((user, msgid));
                        state.events.sort_unstable();
                    }
                    let doubt = state.rows[number].doubt;
                    if reachable && doubt.is_some_and(|doubt| msgid > doubt.after_msgid) {
                        Self::end(state, row, Status::Sent, msgid);
                    }
                }
                Outcome::NotSent
                    if began && reachable && state.rows[number].last_lease == lease.id =>
                {
                    let row = &mut state.rows[number];
                    (row.doubt, row.waits) = (None, false);
                }
                Outcome::NoCredit
                    if began && reachable && state.rows[number].last_lease == lease.id =>
                {
                    // Dead: nothing of it was ever sent.
                    state.rows[number].doubt = None;
                    Self::end(state, row, Status::Dead, 0);
                }
                _ => {}
            }
        }
    }

    /// Takes a lapsed lease over, as `lease` describes it.
    fn rescue(&self, state: &mut State, lease: &Lease) {
        if lease.started {
            for row in &lease.rows {
                let standing = &state.rows[usize::from(*row)];
                if standing.pending && standing.last_lease != lease.id {
                    self.doubt(state, *row, lease);
                }
            }
        }
        state.leases.retain(|held| held.id != lease.id);
    }
}

impl Model for Kernel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let row = Row {
            pending: true,
            doubt: None,
            waits: false,
            last_lease: 0,
            attempts: 0,
            ended: Vec::new(),
            delivered: 0,
        };
        let users = self.rows.iter().map(|row| row.0).max().unwrap_or(0) + 1;
        let credits = (0..users).map(|user| {
            u8::try_from(self.rows.iter().filter(|row| row.0 == user).count()).unwrap_or(u8::MAX)
        });
        vec![State {
            rows: vec![row; self.rows.len()],
            leases: Vec::new(),
            workers: (0..2)
                .map(|epoch| Worker {
                    epoch,
                    phase: Phase::Idle,
                })
                .collect(),
            calls: Vec::new(),
            pushed: Vec::new(),
            events: Vec::new(),
            scanned: Vec::new(),
            credits: credits.collect(),
            lease_ids: 0,
            msgids: 0,
            crashes: 0,
            losses: 0,
            failures: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let stale = self.trap == Trap::LockAndPickInOneSnapshot;
        for (number, worker) in state.workers.iter().enumerate() {
            match &worker.phase {
                Phase::Idle => {
                    for lane in 0..2 {
                        if !self.pick(state, &state.leases, lane).is_empty() {
                            if stale {
                                actions.push(Action::AskForLock(number, lane));
                            } else if self.lock_is_free(state, lane) {
                                actions.push(Action::Pick(number, lane));
                            }
                        }
                    }
                }
                Phase::Waiting { lane, .. } => {
                    if self.lock_is_free(state, *lane) {
                        actions.push(Action::Pick(number, *lane));
                    }
                }
                Phase::Picked { .. } => actions.push(Action::Commit(number)),
                Phase::Holding {
                    lease,
                    left,
                    outcomes,
                } => {
                    let call = state.calls.iter().find(|call| call.epoch == worker.epoch);
                    if let Some(call) = call {
                        if call.answer.is_some() {
                            actions.push(Action::Hear(number));
                        }
                        if state.losses < self.losses {
                            actions.push(Action::LoseReply(number));
                        }
                    } else if !lease.started && self.trap != Trap::SendBeforeStart {
                        actions.push(Action::Start(number));
                    } else if !left.is_empty() && !lease.lapsed {
                        actions.push(Action::Send(number));
                    } else if !lease.started && !outcomes.is_empty() {
                        actions.push(Action::Start(number));
                    } else {
                        actions.push(Action::Settle(number));
                    }
                }
            }
            if state.crashes < self.crashes && worker.phase != Phase::Idle {
                actions.push(Action::Crash(number));
            }
        }
        for (number, call) in state.calls.iter().enumerate() {
            if call.answer.is_none() {
                actions.push(Action::Accept(number));
                if state.failures < self.failures {
                    actions.push(Action::Fail(number));
                }
            }
        }
        for (number, lease) in state.leases.iter().enumerate() {
            // A lease outlives the longest request in it.
            let calling = state
                .calls
                .iter()
                .any(|call| call.lease == lease.id && call.answer.is_none());
            if !lease.lapsed && !calling {
                actions.push(Action::Lapse(number));
            }
            if lease.lapsed && self.trap != Trap::RescueByScanThenUpdate {
                actions.push(Action::Rescue(number));
            }
        }
        if self.trap == Trap::RescueByScanThenUpdate {
            if state.scanned.is_empty() && state.leases.iter().any(|lease| lease.lapsed) {
                actions.push(Action::Scan);
            }
            if !state.scanned.is_empty() {
                actions.push(Action::Rescue(0));
            }
        }
        for number in 0..state.pushed.len() {
            actions.push(Action::Push(number));
        }
        for (row, number) in state.rows.iter().zip(0_u8..) {
            if row.pending && row.doubt.is_some() {
                if row.waits && !self.hold {
                    actions.push(Action::PassWindow(usize::from(number)));
                }
                let given_up = self.hold || row.attempts >= self.attempts_max;
                if given_up && !Self::in_flight(state, number) {
                    actions.push(Action::GiveUp(usize::from(number)));
                }
                if !Self::in_flight(state, number) && self.evidence(state, number).is_some() {
                    actions.push(Action::Weigh);
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::AskForLock(worker, lane) => {
                let seen = state.leases.clone();
                state.workers[worker].phase = Phase::Waiting { seen, lane };
            }
            Action::Pick(worker, lane) => {
                let rows = match &last.workers[worker].phase {
                    Phase::Waiting { seen, .. } => self.pick(last, seen, lane),
                    _ => self.pick(last, &last.leases, lane),
                };
                state.workers[worker].phase = if rows.is_empty() {
                    Phase::Idle
                } else {
                    Phase::Picked { lane, rows }
                };
            }
            Action::Commit(worker) => {
                let Phase::Picked { rows, .. } = &last.workers[worker].phase else {
                    return None;
                };
                state.lease_ids += 1;
                let lease = Lease {
                    id: state.lease_ids,
                    worker: last.workers[worker].epoch,
                    rows: rows.clone(),
                    started: false,
                    after_msgid: 0,
                    lapsed: false,
                };
                state.leases.push(lease.clone());
                state.workers[worker].phase = Phase::Holding {
                    lease,
                    left: rows.clone(),
                    outcomes: Vec::new(),
                };
            }
            Action::Start(worker) => {
                let after_msgid = state.msgids;
                let epoch = state.workers[worker].epoch;
                let Phase::Holding {
                    lease, outcomes, ..
                } = &mut state.workers[worker].phase
                else {
                    return None;
                };
                let held = state
                    .leases
                    .iter_mut()
                    .find(|held| held.id == lease.id && held.worker == epoch);
                match held {
                    Some(held) => {
                        (held.started, held.lapsed, held.after_msgid) = (true, false, after_msgid);
                        *lease = held.clone();
                    }
                    // The lease is gone: send nothing.
                    None if outcomes.is_empty() => state.workers[worker].phase = Phase::Idle,
                    None => lease.started = true,
                }
            }
            Action::Send(worker) => {
                let epoch = state.workers[worker].epoch;
                let Phase::Holding { lease, left, .. } = &mut state.workers[worker].phase else {
                    return None;
                };
                let row = left.remove(0);
                state.calls.push(Call {
                    row,
                    lease: lease.id,
                    epoch,
                    answer: None,
                });
            }
            Action::Accept(call) => {
                let Call { row, epoch, .. } = state.calls[call];
                let user = self.user(row);
                let answer = if state.credits[usize::from(user)] > 0 {
                    state.credits[usize::from(user)] -= 1;
                    state.rows[usize::from(row)].delivered += 1;
                    state.msgids += 1;
                    state.pushed.push((user, state.msgids));
                    Outcome::Sent(state.msgids)
                } else {
                    Outcome::NoCredit
                };
                Self::answer(&mut state, call, epoch, answer);
            }
            Action::Fail(call) => {
                state.failures += 1;
                let epoch = state.calls[call].epoch;
                Self::answer(&mut state, call, epoch, Outcome::NotSent);
            }
            Action::Hear(worker) | Action::LoseReply(worker) => {
                let epoch = state.workers[worker].epoch;
                let at = state.calls.iter().position(|call| call.epoch == epoch)?;
                let call = state.calls.remove(at);
                let outcome = if matches!(action, Action::Hear(_)) {
                    call.answer?
                } else {
                    state.losses += 1;
                    Outcome::Unknown
                };
                let Phase::Holding { outcomes, .. } = &mut state.workers[worker].phase else {
                    return None;
                };
                outcomes.push((call.row, outcome));
            }
            Action::Settle(worker) => {
                let epoch = state.workers[worker].epoch;
                let Phase::Holding {
                    lease,
                    outcomes,
                    left,
                } = last.workers[worker].phase.clone()
                else {
                    return None;
                };
                // What there was no time for goes back unsent.
                self.settle(&mut state, epoch, &lease, &outcomes);
                let _ = left;
                state.workers[worker].phase = Phase::Idle;
            }
            Action::Crash(worker) => {
                state.crashes += 1;
                state.workers[worker].epoch += 2;
                state.workers[worker].phase = Phase::Idle;
                // Nobody hears an answer that was given already.
                let live: Vec<u8> = state.workers.iter().map(|worker| worker.epoch).collect();
                state
                    .calls
                    .retain(|call| call.answer.is_none() || live.contains(&call.epoch));
            }
            Action::Lapse(lease) => {
                state.leases[lease].lapsed = true;
                let id = state.leases[lease].id;
                for worker in &mut state.workers {
                    if let Phase::Holding { lease, .. } = &mut worker.phase
                        && lease.id == id
                    {
                        lease.lapsed = true;
                    }
                }
            }
            Action::Scan => {
                state.scanned = state
                    .leases
                    .iter()
                    .filter(|lease| lease.lapsed)
                    .cloned()
                    .collect()
            }
            Action::Rescue(lease) => {
                if self.trap == Trap::RescueByScanThenUpdate {
                    for lease in std::mem::take(&mut state.scanned) {
                        self.rescue(&mut state, &lease);
                    }
                } else {
                    let lease = state.leases[lease].clone();
                    self.rescue(&mut state, &lease);
                }
            }
            Action::Push(event) => {
                let event = state.pushed.remove(event);
                if !state.events.contains(&event) {
                    state.events.push(event);
                    state.events.sort_unstable();
                }
            }
            Action::Weigh => {
                for row in 0..self.rows.len() {
                    let number = u8::try_from(row).ok()?;
                    if state.rows[row].pending
                        && !Self::in_flight(&state, number)
                        && let Some(msgid) = self.evidence(&state, number)
                    {
                        Self::end(&mut state, number, Status::Sent, msgid);
                    }
                }
            }
            Action::PassWindow(row) => state.rows[row].waits = false,
            Action::GiveUp(row) => {
                Self::end(&mut state, u8::try_from(row).ok()?, Status::Unresolved, 0)
            }
        }
        Some(state)
    }

    /// Without an end to leases that lapse unused there would be no end.
    fn within_boundary(&self, state: &State) -> bool {
        state.lease_ids <= self.leases
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOTHING_LOST, |_, state: &State| {
                state
                    .rows
                    .iter()
                    .all(|row| usize::from(row.pending) + row.ended.len() == 1)
            }),
            Property::always(ONE_CALL_A_USER, |kernel: &Self, state: &State| {
                let under_way: Vec<u8> = state
                    .calls
                    .iter()
                    .filter(|call| call.answer.is_none())
                    .map(|call| kernel.user(call.row))
                    .collect();
                (1..under_way.len()).all(|at| !under_way[..at].contains(&under_way[at]))
            }),
            Property::always(NEVER_TWICE_UNKNOWINGLY, |kernel: &Self, state: &State| {
                state.rows.iter().all(|row| {
                    let on_record = row.doubt.is_some() || row.ended.iter().any(|end| end.1);
                    row.delivered < 2 || (on_record && !kernel.hold)
                })
            }),
            Property::always(FINAL_STATUS_IS_TRUE, |_, state: &State| {
                state.rows.iter().all(|row| {
                    row.ended.iter().all(|(status, doubted, _)| match status {
                        Status::Sent | Status::PresumedSent => row.delivered > 0,
                        Status::Dead => row.delivered == 0,
                        Status::Unresolved => *doubted,
                    })
                })
            }),
            Property::sometimes("every row is sent", |_, state: &State| {
                state
                    .rows
                    .iter()
                    .all(|row| row.ended.iter().any(|end| end.0 == Status::Sent && !end.1))
            }),
            Property::sometimes("evidence ends a doubt", |_, state: &State| {
                state.rows.iter().any(|row| {
                    row.delivered == 1 && row.ended.iter().any(|end| end.0 == Status::Sent && end.1)
                })
            }),
        ]
    }
}

impl Kernel {
    /// WeChat has decided. A caller that crashed hears nothing.
    fn answer(state: &mut State, call: usize, epoch: u8, answer: Outcome) {
        if state.workers.iter().any(|worker| worker.epoch == epoch) {
            state.calls[call].answer = Some(answer);
        } else {
            state.calls.remove(call);
        }
    }
}

const NOTHING_LOST: &str = "nothing is lost";
const ONE_CALL_A_USER: &str = "one call at a time for a user";
const NEVER_TWICE_UNKNOWINGLY: &str = "never sent twice unknowingly";
const FINAL_STATUS_IS_TRUE: &str = "the final status is true";
const PROMISES: [&str; 4] = [
    NOTHING_LOST,
    ONE_CALL_A_USER,
    NEVER_TWICE_UNKNOWINGLY,
    FINAL_STATUS_IS_TRUE,
];

/// Two rows of one user in two lanes.
const TWO_OF_ONE_USER: &[(u8, u8)] = &[(0, 0), (0, 1)];

const ALL_RULES: Kernel = Kernel {
    trap: Trap::None,
    rows: TWO_OF_ONE_USER,
    hold: false,
    attempts_max: 3,
    leases: 3,
    crashes: 1,
    losses: 1,
    failures: 1,
};

#[test]
fn no_interleaving_breaks_a_promise() {
    let quiet = Kernel {
        attempts_max: 2,
        crashes: 0,
        losses: 0,
        failures: 0,
        ..ALL_RULES
    };
    let kernels = [
        ("leases that lapse", quiet),
        (
            "a crash",
            Kernel {
                crashes: 1,
                ..quiet
            },
        ),
        (
            "a lost reply and a failure",
            Kernel {
                losses: 1,
                failures: 1,
                ..quiet
            },
        ),
        (
            "rows that are held in doubt",
            Kernel {
                hold: true,
                crashes: 1,
                losses: 1,
                ..quiet
            },
        ),
    ];
    for (what, kernel) in kernels {
        let checker = kernel.checker().threads(2).spawn_bfs().join();
        eprintln!(
            "{what}: {} states, depth {}",
            checker.unique_state_count(),
            checker.max_depth()
        );
        for promise in PROMISES {
            if let Some(path) = checker.discovery(promise) {
                panic!("{what}: not {promise}: {:#?}", path.into_actions());
            }
        }
        for example in ["every row is sent", "evidence ends a doubt"] {
            assert!(
                checker.discovery(example).is_some(),
                "{what}: no interleaving in which {example}"
            );
        }
    }
}

#[test]
fn every_trap_breaks_a_promise() {
    let traps = [
        (Trap::LockAndPickInOneSnapshot, ONE_CALL_A_USER),
        (Trap::LockPerLane, ONE_CALL_A_USER),
        (Trap::RescueByScanThenUpdate, ONE_CALL_A_USER),
        (Trap::SettleWithoutFence, NEVER_TWICE_UNKNOWINGLY),
        (Trap::DoubtNotSticky, NEVER_TWICE_UNKNOWINGLY),
        (Trap::SendBeforeStart, NEVER_TWICE_UNKNOWINGLY),
        (Trap::AnyEventIsEvidence, FINAL_STATUS_IS_TRUE),
    ];
    for (trap, promise) in traps {
        let found = HasDiscoveries::AllOf(BTreeSet::from([promise]));
        let checker = Kernel { trap, ..ALL_RULES }
            .checker()
            .finish_when(found)
            .spawn_bfs()
            .join();
        let Some(path) = checker.discovery(promise) else {
            panic!("{trap:?}: no interleaving breaks: {promise}");
        };
        let actions = path.into_actions();
        eprintln!("{trap:?} breaks '{promise}': {actions:?}");
    }
}
