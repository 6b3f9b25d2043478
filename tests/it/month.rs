//! A month of users: what the ledger believes beside what the fake knows to be true.
//!
//! Users accept, refuse and use "always keep"; the business system loses reports, makes them twice, late, and of taps that
//! never were; WeChat's events are lost, pushed twice and out of order; another system spends credits of the same users. The
//! worker is the real one, run once a day. Days pass by dating rows and events, and nothing sleeps.
//!
//! The long form prints the tables of `docs/credits.md`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use wxnotify::simulate::{Answer, Tap, TapAnswer, Why43101};
use wxnotify::store::{ClaimPolicy, EVENTS_A_CALL, Store};

use crate::worker::{APP, Scene};

const DAY: i64 = 86_400;
const TEMPLATES: [&str; 2] = ["order-ready", "parcel-arrived"];
const HOLD: [(&str, &str); 1] = [("WXNOTIFY_UNCLAIMED_ACCEPT", "hold")];

/// How often each thing happens: of a hundred, for each user, template and day; the rest of a hundred taps or events.
mod per_cent {
    pub const TAPS: u32 = 20;
    pub const REJECTS: u32 = 2;
    pub const PHANTOM_REPORTS: u32 = 1;
    pub const SENDS_ELSEWHERE: u32 = 2;
    pub const TAPS_WITHOUT_POPUP: u32 = 10;
    pub const REPORTS_LOST: u32 = 5;
    pub const REPORTS_TWICE: u32 = 2;
    pub const REPORTS_TOO_LATE: u32 = 3;
    pub const ROWS_SENT_DAYS_LATER: u32 = 40;
    pub const EVENTS_LOST: u32 = 5;
    pub const EVENTS_TWICE: u32 = 10;
    pub const EVENTS_A_DAY_LATE: u32 = 5;
}

#[derive(Clone, Copy)]
enum Deed {
    Tap,
    RejectInPopup,
    RejectInMenu,
    PhantomReport,
    SendElsewhere,
}

struct Month {
    scene: Scene,
    store: Store,
    rng: StdRng,
    users: usize,
    /// Unix seconds of its first midnight.
    start: i64,
    reports: u64,
    /// Events on their way, with the day on which they arrive.
    events: Vec<(i64, Value)>,
    /// Held rows with the day on which they are to be sent.
    held: Vec<(i64, i64)>,
    /// Calls of the fake whose sent events have been dealt with.
    calls_seen: usize,
}

impl Month {
    async fn new(users: usize) -> Self {
        let scene = Scene::without_credits().await;
        // The month may begin two months back, where no partition is made.
        sqlx::raw_sql(
            "do $$ begin execute format('create table history_before partition of notification_history for values from (%L) to (%L)',
                 '2000-01-01 00:00:00+00', (date_trunc('month', now() at time zone 'UTC') - interval '1 month')::date || ' 00:00:00+00'); end $$",
        )
        .execute(scene.pool())
        .await
        .unwrap();
        Self {
            store: Store::new(scene.pool().clone()),
            scene,
            rng: StdRng::seed_from_u64(20_261_122),
            users,
            start: chrono::Utc::now().timestamp() - 32 * DAY,
            reports: 0,
            events: Vec::new(),
            held: Vec::new(),
            calls_seen: 0,
        }
    }

    fn chance(&mut self, per_cent: u32) -> bool {
        self.rng.random_range(0..100) < per_cent
    }

    async fn live(&mut self, days: i64) {
        for day in 0..days {
            for (at, user, template, deed) in self.plan(day) {
                self.perform(day, at, &user, template, deed).await;
            }
            self.deliver(day).await;
            self.arm(day).await;
            self.scene.run_until_empty(&HOLD).await;
            self.close(day).await;
        }
    }

    /// The deeds of a day, in order; all before 22:00.
    fn plan(&mut self, day: i64) -> Vec<(i64, String, &'static str, Deed)> {
        let mut deeds = Vec::new();
        for user in 0..self.users {
            for template in TEMPLATES {
                for (per_cent, deed) in [
                    (per_cent::TAPS, Deed::Tap),
                    (per_cent::REJECTS / 2, Deed::RejectInPopup),
                    (per_cent::REJECTS / 2, Deed::RejectInMenu),
                    (per_cent::PHANTOM_REPORTS, Deed::PhantomReport),
                    (per_cent::SENDS_ELSEWHERE, Deed::SendElsewhere),
                ] {
                    if self.chance(per_cent) {
                        let at = self.start + day * DAY + self.rng.random_range(0..22 * 3600);
                        deeds.push((at, format!("user-{user}"), template, deed));
                    }
                }
            }
        }
        deeds.sort_by_key(|deed| deed.0);
        deeds
    }

    async fn perform(&mut self, day: i64, at: i64, user: &str, template: &'static str, deed: Deed) {
        let wechat = self.scene.wechat.clone();
        let tap = |answer, always_keep| Tap {
            appid: APP.to_owned(),
            openid: user.to_owned(),
            answers: vec![TapAnswer {
                template_id: template.to_owned(),
                answer,
            }],
            always_keep,
        };
        let said = |answer: &str| json!({"TemplateId": template, "SubscribeStatusString": answer, "PopupScene": "0"});
        match deed {
            Deed::Tap => {
                let always_keep = self.chance(per_cent::TAPS_WITHOUT_POPUP);
                wechat.tap(&tap(Answer::Accept, always_keep));
                if !always_keep {
                    self.push(day, at, user, "subscribe_msg_popup_event", said("accept"));
                }
                if !self.chance(per_cent::REPORTS_LOST) {
                    self.report(day, at, user, template).await;
                    if self.chance(per_cent::REPORTS_TWICE) {
                        self.report(day, at, user, template).await;
                    }
                }
            }
            Deed::RejectInPopup => {
                wechat.tap(&tap(Answer::Reject, false));
                self.push(day, at, user, "subscribe_msg_popup_event", said("reject"));
            }
            Deed::RejectInMenu => {
                wechat.reject_later(APP, user, template);
                self.push(day, at, user, "subscribe_msg_change_event", said("reject"));
            }
            Deed::PhantomReport => self.report(day, at, user, template).await,
            Deed::SendElsewhere => {
                if let Some(msgid) = wechat.send_elsewhere(APP, user, template) {
                    self.push(
                        day,
                        at,
                        user,
                        "subscribe_msg_sent_event",
                        sent(template, msgid),
                    );
                }
            }
        }
    }

    /// The business system inserts the row of a tap.
    async fn report(&mut self, day: i64, at: i64, user: &str, template: &str) {
        let delay = if self.chance(per_cent::REPORTS_TOO_LATE) {
            self.rng.random_range(2 * 3600..5 * 3600)
        } else {
            self.rng.random_range(1..120)
        };
        let is_for_later = self.chance(per_cent::ROWS_SENT_DAYS_LATER);
        self.reports += 1;
        let name = format!("report-{}", self.reports);
        let row = json!({
            "template_id": template, "created_at": moment(at + delay), "business_ref": name, "data": {"thing1": name},
            "held": is_for_later,
        });
        let id = self.scene.insert(user, row).await;
        if is_for_later {
            let until = day + self.rng.random_range(1..6);
            self.held.push((until, id));
        }
    }

    /// WeChat pushes an event, or does not, or twice, or the day after.
    fn push(&mut self, day: i64, at: i64, user: &str, event: &str, entry: Value) {
        if self.chance(per_cent::EVENTS_LOST) {
            return;
        }
        let arrives = day + i64::from(self.chance(per_cent::EVENTS_A_DAY_LATE));
        let event = json!({"FromUserName": user, "CreateTime": at, "MsgType": "event", "Event": event, "List": entry});
        if self.chance(per_cent::EVENTS_TWICE) {
            self.events.push((arrives, event.clone()));
        }
        self.events.push((arrives, event));
    }

    /// What has arrived by the end of a day, in no order.
    async fn deliver(&mut self, day: i64) {
        let (mut arrived, later): (Vec<_>, Vec<_>) = self
            .events
            .drain(..)
            .partition(|(arrives, _)| *arrives <= day);
        self.events = later;
        arrived.shuffle(&mut self.rng);
        for (_, event) in arrived {
            self.store.ingest_event(APP, &event).await.unwrap();
        }
        while self.store.apply_events().await.unwrap() == EVENTS_A_CALL {}
        let policy = ClaimPolicy {
            window: std::time::Duration::from_secs(600),
            holds_unclaimed: true,
        };
        while self.store.apply_answers(policy).await.unwrap() == EVENTS_A_CALL {}
    }

    /// The texts of the day are known: their rows may go.
    async fn arm(&mut self, day: i64) {
        let (due, later): (Vec<_>, Vec<_>) =
            self.held.drain(..).partition(|(until, _)| *until <= day);
        self.held = later;
        let ids: Vec<i64> = due.into_iter().map(|(_, id)| id).collect();
        sqlx::query("update pending_notifications set held = false where id = any ($1)")
            .bind(ids)
            .execute(self.scene.pool())
            .await
            .unwrap();
    }

    /// Dates what ended today, and sends the events of what was sent on their way.
    async fn close(&mut self, day: i64) {
        let at = self.start + day * DAY + 23 * 3600;
        let statement = format!(
            "update notification_history set finished_at = '{}' where finished_at > now() - interval '12 hours'",
            moment(at)
        );
        sqlx::query(AssertSqlSafe(statement))
            .execute(self.scene.pool())
            .await
            .unwrap();
        let calls = self.scene.ledger().calls;
        for call in &calls[self.calls_seen..] {
            if let Some(msgid) = call.msgid {
                let entry = sent(&call.template_id, msgid);
                self.push(day, at, &call.openid, "subscribe_msg_sent_event", entry);
            }
        }
        self.calls_seen = calls.len();
    }

    /// Each answer to "which 43101" beside the truth: (truth, answer) → how often.
    async fn matrix(&self) -> BTreeMap<(Why43101, String), u64> {
        let ledger = self.scene.ledger();
        let truths: HashMap<String, Why43101> = ledger
            .sends()
            .filter_map(|call| Some((call.value("thing1")?, call.why_43101?)))
            .collect();
        let answers: Vec<(String, String)> =
            sqlx::query_as("select business_ref, which from notification_43101")
                .fetch_all(self.scene.pool())
                .await
                .unwrap();
        let mut matrix = BTreeMap::new();
        for (report, which) in answers {
            *matrix.entry((truths[&report], which)).or_default() += 1;
        }
        matrix
    }

    /// For each pair the ledger's balance less the fake's.
    async fn differences(&self) -> BTreeMap<i64, u64> {
        let balances: Vec<(String, String, i64)> =
            sqlx::query_as("select openid, template_id, balance::int8 from notification_credits")
                .fetch_all(self.scene.pool())
                .await
                .unwrap();
        let believed: HashMap<_, _> = balances
            .into_iter()
            .map(|(openid, template, balance)| ((openid, template), balance))
            .collect();
        let mut differences = BTreeMap::new();
        for pair in self.scene.ledger().pairs {
            let truth = i64::try_from(pair.remaining.unwrap()).unwrap();
            let key = (pair.openid, pair.template_id);
            let difference = believed.get(&key).copied().unwrap_or(0) - truth;
            *differences.entry(difference).or_default() += 1;
        }
        differences
    }
}

fn sent(template: &str, msgid: i64) -> Value {
    json!({"TemplateId": template, "MsgID": msgid.to_string(), "ErrorCode": "0", "ErrorStatus": "success"})
}

fn moment(at: i64) -> String {
    chrono::DateTime::from_timestamp(at, 0)
        .unwrap()
        .to_rfc3339()
}

/// The tables as they stand in the documentation, and the shares of right answers and of exact balances.
fn report(
    matrix: &BTreeMap<(Why43101, String), u64>,
    differences: &BTreeMap<i64, u64>,
) -> (String, f64, f64) {
    let mut text = String::from("| truth \\ answer |");
    for answer in Why43101::ALL {
        write!(text, " {} |", answer.as_str()).unwrap();
    }
    text.push_str("\n|---|---|---|---|---|\n");
    for truth in Why43101::ALL {
        write!(text, "| {} |", truth.as_str()).unwrap();
        for answer in Why43101::ALL {
            let count = matrix.get(&(truth, answer.as_str().to_owned()));
            write!(text, " {} |", count.copied().unwrap_or(0)).unwrap();
        }
        text.push('\n');
    }
    text.push_str("\n| ledger less truth | pairs |\n|---|---|\n");
    for (difference, pairs) in differences {
        writeln!(text, "| {difference:+} | {pairs} |").unwrap();
    }
    let right: u64 = matrix
        .iter()
        .filter(|((truth, answer), _)| truth.as_str() == answer)
        .map(|(_, count)| count)
        .sum();
    let exact = differences.get(&0).copied().unwrap_or(0);
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let right = share(right, matrix.values().sum());
    let exact = share(exact, differences.values().sum());
    writeln!(
        text,
        "\nright answers: {right:.3}; exact balances: {exact:.3}"
    )
    .unwrap();
    (text, right, exact)
}

async fn live_through(users: usize, days: i64) -> (f64, f64) {
    let mut month = Month::new(users).await;
    month.live(days).await;
    let matrix = month.matrix().await;
    let differences = month.differences().await;
    let (text, right, exact) = report(&matrix, &differences);
    println!("{users} users, {days} days\n\n{text}");
    let faults: Vec<(String, String)> =
        sqlx::query_as("select openid, fault from notification_credit_faults")
            .fetch_all(month.scene.pool())
            .await
            .unwrap();
    assert!(faults.is_empty(), "the books balance: {faults:?}");
    let held: i64 = month
        .scene
        .count("select count(*) from wechat_events where held_id is not null")
        .await;
    assert!(held > 0, "lost reports became held rows");
    let parked: i64 = month
        .scene
        .count("select count(*) from pending_notifications where waiting_for = 'refused'")
        .await;
    assert!(parked > 0, "somebody's rows wait for an accept");
    (right, exact)
}

#[tokio::test]
async fn a_few_days_of_some_users_leave_the_books_balanced() {
    let (right, exact) = live_through(150, 4).await;
    assert!(right > 0.8 && exact > 0.7, "{right} {exact}");
}

#[tokio::test]
#[ignore = "takes minutes: cargo test --test it a_month_of_a_thousand_users -- --ignored --nocapture"]
async fn a_month_of_a_thousand_users() {
    let (right, exact) = live_through(1000, 30).await;
    assert!(right > 0.9 && exact > 0.7, "{right} {exact}");
}
