//! What wxnotify believes beside what WeChat's ledger says, row by row. Pure.
//!
//! A message in the ledger belongs to the row whose order number it carries. Whatever one side knows and the other does not
//! is a [`Disagreement`]; with none, every credit that was taken and every message that was delivered is accounted for.
//!
//! Start at [`compare`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::plan::{CAFE, Fate, Plan, PlannedRow, RefusedInsert, business_ref_of};
use crate::simulate::{Call, Ledger, STABLE_TOKEN_PATH};
use crate::wechat::errcode::{DEAD_TOKEN, USER_BUSY};

/// One row of the view `notifications`.
#[derive(Debug, Clone, Serialize, sqlx::FromRow)]
pub struct Belief {
    /// The notification.
    pub id: i64,
    /// Its order number.
    pub business_ref: String,
    /// What it is or ended as.
    pub status: String,
    /// Why.
    pub reason: Option<String>,
    /// Attempts counted.
    pub attempts: i16,
    /// WeChat's last errcode.
    pub errcode: Option<i64>,
    /// The message WeChat confirmed.
    pub msgid: Option<i64>,
    /// It was sent again after a lost reply, so the user may have it twice.
    pub may_be_doubled: bool,
    /// Who or what ended it.
    pub settled_by: Option<String>,
    /// Not before.
    pub send_at: Option<DateTime<Utc>>,
    /// Not after.
    pub expire_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Something that one side says and the other does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// The row, or the message's order number; absent when it is about a whole side.
    pub business_ref: Option<String>,
    /// The fate of the row, if it was planned.
    pub fate: Option<&'static str>,
    /// What differs.
    pub what: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.business_ref, self.fate) {
            (Some(row), Some(fate)) => write!(formatter, "{row} ({fate}): {}", self.what),
            (Some(row), None) => write!(formatter, "{row}: {}", self.what),
            _ => formatter.write_str(&self.what),
        }
    }
}

/// The sums of one fate on both sides.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FateSum {
    /// What happened to these rows.
    pub fate: &'static str,
    /// How many there are.
    pub rows: usize,
    /// wxnotify: rows by status.
    pub statuses: BTreeMap<String, usize>,
    /// wxnotify: rows that the user may have twice.
    pub may_be_doubled: usize,
    /// wxnotify: attempts counted.
    pub attempts: usize,
    /// WeChat: sends that arrived.
    pub calls: usize,
    /// WeChat: credits taken.
    pub credits_taken: usize,
    /// WeChat: messages accepted for delivery.
    pub messages: usize,
    /// Rows of this fate on which the two do not agree.
    pub disagreeing: usize,
}

/// The result of [`compare`].
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The sums, a fate each.
    pub fates: Vec<FateSum>,
    /// INSERTs that the database had to refuse, with its answers.
    pub refused_inserts: Vec<RefusedInsert>,
    /// Empty: both sides say the same.
    pub disagreements: Vec<Disagreement>,
}

/// Compares plan, belief and ledger. `refused` are the INSERTs that had to fail.
#[must_use]
pub fn compare(
    plan: &Plan,
    refused: &[RefusedInsert],
    beliefs: &[Belief],
    ledger: &Ledger,
) -> Comparison {
    let mut books = Books::open(plan, beliefs, ledger);
    for row in &plan.rows {
        books.compare_row(row);
    }
    books.compare_strays();
    books.compare_totals();
    for insert in refused.iter().filter(|insert| insert.message.is_none()) {
        let what = format!("the database accepted a bad row: {}", insert.statement);
        books.note(None, what);
    }
    let fates = Fate::ALL.map(|fate| books.sum(fate)).into();
    Comparison {
        fates,
        refused_inserts: refused.to_vec(),
        disagreements: books.disagreements,
    }
}

/// Both sides by order number.
struct Books<'a> {
    plan: &'a Plan,
    beliefs: HashMap<&'a str, Vec<&'a Belief>>,
    calls: HashMap<String, Vec<&'a Call>>,
    ledger: &'a Ledger,
    disagreements: Vec<Disagreement>,
}

impl<'a> Books<'a> {
    fn open(plan: &'a Plan, beliefs: &'a [Belief], ledger: &'a Ledger) -> Self {
        let mut by_ref: HashMap<&str, Vec<&Belief>> = HashMap::new();
        for belief in beliefs {
            by_ref.entry(&belief.business_ref).or_default().push(belief);
        }
        let mut calls: HashMap<String, Vec<&Call>> = HashMap::new();
        for call in ledger.sends() {
            let business_ref = business_ref_of(call).unwrap_or_default();
            calls.entry(business_ref).or_default().push(call);
        }
        Self {
            plan,
            beliefs: by_ref,
            calls,
            ledger,
            disagreements: Vec::new(),
        }
    }

    fn note(&mut self, row: Option<&PlannedRow>, what: impl Into<String>) {
        self.disagreements.push(Disagreement {
            business_ref: row.map(|row| row.business_ref.clone()),
            fate: row.map(|row| row.fate.label()),
            what: what.into(),
        });
    }

    fn beliefs_of(&self, row: &PlannedRow) -> &[&'a Belief] {
        self.beliefs
            .get(row.business_ref.as_str())
            .map_or(&[], Vec::as_slice)
    }

    fn calls_of(&self, row: &PlannedRow) -> &[&'a Call] {
        self.calls.get(&row.business_ref).map_or(&[], Vec::as_slice)
    }

    fn compare_row(&mut self, row: &PlannedRow) {
        let belief = match *self.beliefs_of(row) {
            [belief] => belief,
            [] => return self.note(Some(row), "was inserted, and the view does not have it"),
            ref many => {
                let what = format!(
                    "was inserted once, and the view has it {} times",
                    many.len()
                );
                return self.note(Some(row), what);
            }
        };
        let calls = self.calls_of(row).to_vec();
        let complaints = [
            wrong_status(row, belief),
            wrong_messages(row, belief, &calls),
            wrong_msgid(belief, &calls),
            wrong_attempts(belief, &calls),
            wrong_receiver(row, &calls),
            wrong_time(belief, &calls),
        ];
        for complaint in complaints.into_iter().flatten() {
            self.note(Some(row), complaint);
        }
    }

    /// What no planned row explains.
    fn compare_strays(&mut self) {
        let planned: HashSet<&str> = self
            .plan
            .rows
            .iter()
            .map(|row| row.business_ref.as_str())
            .collect();
        let rows = self.beliefs.keys().copied();
        let calls = self.calls.keys().map(String::as_str);
        let mut strays: Vec<_> = rows
            .map(|stray| (stray, "is in the view and was never inserted"))
            .chain(calls.map(|stray| (stray, "reached WeChat and belongs to no row")))
            .filter(|(stray, _)| !planned.contains(stray))
            .map(|(stray, what)| Disagreement {
                business_ref: Some(stray.to_owned()),
                fate: None,
                what: what.to_owned(),
            })
            .collect();
        strays.sort_by(|one, other| one.business_ref.cmp(&other.business_ref));
        self.disagreements.extend(strays);
    }

    /// Sums over everything, so that nothing is lost between the rows.
    fn compare_totals(&mut self) {
        let ledger = self.ledger;
        let accepted = ledger.sends().filter(|call| call.accepted).count() as u64;
        if accepted != ledger.counts.sends_accepted {
            let counted = ledger.counts.sends_accepted;
            self.note(
                None,
                format!("WeChat counted {counted} messages and lists {accepted}"),
            );
        }
        let mut messages: HashMap<(&str, &str, &str), u64> = HashMap::new();
        for row in &self.plan.rows {
            let pair = (row.appid, row.openid.as_str(), row.template_id);
            let spent = if row.fate.spends_credit() {
                row.messages as u64
            } else {
                0
            };
            *messages.entry(pair).or_default() += spent;
        }
        for pair in &ledger.pairs {
            let key = (&*pair.appid, &*pair.openid, &*pair.template_id);
            let planned = messages.get(&key).copied().unwrap_or_default();
            let left = pair.remaining.unwrap_or_default();
            if pair.credits_taken != planned || left + planned != pair.granted {
                let openid = &pair.openid;
                let (granted, taken) = (pair.granted, pair.credits_taken);
                let what = format!(
                    "{openid} gave {granted} credits, {taken} were taken and {left} are left; {planned} had to be taken"
                );
                self.note(None, what);
            }
        }
        let concurrent = ledger.sends().filter(|call| call.concurrent).count();
        if concurrent > 0 {
            let what = format!("{concurrent} sends met another one to the same user");
            self.note(None, what);
        }
        if !ledger.sends().any(|call| call.errcode == Some(40001)) {
            self.note(None, "the token was stolen, and WeChat never refused it");
        }
        let fetched = |call: &&Call| call.path == STABLE_TOKEN_PATH && call.appid == CAFE;
        let fetches = ledger.calls.iter().filter(fetched).count();
        if fetches != 2 {
            let what = format!(
                "the access token was fetched {fetches} times; once at first and once for the stolen one are enough"
            );
            self.note(None, what);
        }
    }

    fn sum(&self, fate: Fate) -> FateSum {
        let mut sum = FateSum {
            fate: fate.label(),
            ..FateSum::default()
        };
        let disagreeing: HashSet<&str> = self
            .disagreements
            .iter()
            .filter_map(|disagreement| disagreement.business_ref.as_deref())
            .collect();
        for row in self.plan.of(fate) {
            sum.rows += 1;
            sum.disagreeing += usize::from(disagreeing.contains(row.business_ref.as_str()));
            for belief in self.beliefs_of(row) {
                *sum.statuses.entry(belief.status.clone()).or_default() += 1;
                sum.may_be_doubled += usize::from(belief.may_be_doubled);
                sum.attempts += usize::try_from(belief.attempts).unwrap_or_default();
            }
            for call in self.calls_of(row) {
                sum.calls += 1;
                sum.credits_taken += usize::from(call.credit_taken);
                sum.messages += usize::from(call.accepted);
            }
        }
        sum
    }
}

fn wrong_status(row: &PlannedRow, belief: &Belief) -> Option<String> {
    if belief.status != row.status {
        let (is, reason) = (&belief.status, belief.reason.as_deref().unwrap_or("-"));
        return Some(format!("is {is} ({reason}), and had to be {}", row.status));
    }
    let settled_by = belief.settled_by.as_deref();
    if row
        .settled_by()
        .is_some_and(|wanted| settled_by != Some(wanted))
    {
        let (by, wanted) = (settled_by.unwrap_or("-"), row.settled_by());
        return Some(format!(
            "was ended by {by}, and had to be by {}",
            wanted.unwrap_or("-")
        ));
    }
    (belief.may_be_doubled != row.may_be_doubled).then(|| {
        let said = belief.may_be_doubled;
        format!("may_be_doubled is {said}, and had to be {}", !said)
    })
}

/// A message in the ledger belongs to exactly one row believed sent; a second one is owned up to.
fn wrong_messages(row: &PlannedRow, belief: &Belief, calls: &[&Call]) -> Option<String> {
    let messages = calls.iter().filter(|call| call.accepted).count();
    let credits = calls.iter().filter(|call| call.credit_taken).count();
    let status = &belief.status;
    if messages != row.messages {
        let wanted = row.messages;
        return Some(format!(
            "is {status}; WeChat delivered {messages} messages, it had to be {wanted}"
        ));
    }
    if credits
        != if row.fate.spends_credit() {
            messages
        } else {
            0
        }
    {
        return Some(format!(
            "WeChat delivered {messages} messages for {credits} credits"
        ));
    }
    if messages > 1 && !belief.may_be_doubled {
        return Some(format!(
            "WeChat delivered {messages} messages, and may_be_doubled is false"
        ));
    }
    let believed_sent = matches!(status.as_str(), "sent" | "presumed_sent");
    (believed_sent && messages == 0).then(|| format!("is {status}, and WeChat delivered nothing"))
}

/// The msgid is one that WeChat gave to this very row, in a reply that came through or in an event.
fn wrong_msgid(belief: &Belief, calls: &[&Call]) -> Option<String> {
    let by_reply = belief.status == "sent" && belief.settled_by.as_deref() == Some("reply");
    let by_event = belief.settled_by.as_deref() == Some("event");
    match belief.msgid {
        Some(msgid) => {
            let told = |call: &&Call| {
                call.msgid == Some(msgid) && (call.reply_delivered || by_event && call.accepted)
            };
            (!calls.iter().any(told))
                .then(|| format!("has msgid {msgid}, which WeChat never told of this row"))
        }
        // WeChat gives none to a device's message and to a card.
        None => (by_reply && calls.iter().any(|call| call.msgid.is_some()))
            .then(|| "was sent by WeChat's word, and has no msgid".to_owned()),
    }
}

fn wrong_attempts(belief: &Belief, calls: &[&Call]) -> Option<String> {
    // Refusals that count no attempt: the token was dead, or the user was busy.
    let uncounted = |code| DEAD_TOKEN.contains(&code) || code == USER_BUSY;
    let counted = |call: &&&Call| !call.errcode.is_some_and(uncounted);
    let counted = calls.iter().filter(counted).count();
    let attempts = usize::try_from(belief.attempts).unwrap_or_default();
    (attempts != counted).then(|| format!("counts {attempts} attempts, WeChat saw {counted}"))
}

fn wrong_receiver(row: &PlannedRow, calls: &[&Call]) -> Option<String> {
    let same = |call: &&Call| {
        call.appid == row.appid && call.openid == row.openid && call.template_id == row.template_id
    };
    (!calls.iter().all(same)).then(|| "its message went to another user or template".to_owned())
}

fn wrong_time(belief: &Belief, calls: &[&Call]) -> Option<String> {
    let early = |call: &&Call| belief.send_at.is_some_and(|at| call.arrived_at < at);
    let late = |call: &&Call| belief.expire_at.is_some_and(|at| call.arrived_at > at);
    if calls.iter().any(early) {
        return Some("was sent before its send_at".to_owned());
    }
    calls
        .iter()
        .any(late)
        .then(|| "was sent after its expire_at".to_owned())
}
