//! The demo's rows: what is inserted, what each must end as, and what WeChat must have seen of it.
//!
//! Every expectation is fixed before the first INSERT. Each row has a user and an order number of its own (duplicates share
//! the user), and the number travels in the message, so that a message in WeChat's ledger names the row it belongs to.
//!
//! Start at [`Plan::new`], which has one row of every [`Fate`].

use std::collections::HashMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use crate::simulate::{
    Action, AppSpec, Call, CardCodeSpec, CardStateSpec, CardTypeSpec, Rule, TemplateSpec,
};

/// The mini-program that is registered from the start.
pub const CAFE: &str = "wx_demo_cafe";
/// The one that is registered only after rows came for it.
pub const BOOKS: &str = "wx_demo_books";
/// The one whose events WeChat pushes to the worker.
pub const CINEMA: &str = "wx_demo_cinema";
/// The secret of all.
pub const SECRET: &str = "not-a-secret";
/// The template of most rows.
pub const PICKUP: &str = "pickup-ready";
/// The template that is paused for a while.
pub const REFUND: &str = "refund-done";
const ARRIVED: &str = "book-arrived";
const SHOW: &str = "show-soon";
const NEWS: &str = "cinema-news";
/// The template of a device's messages.
pub(super) const MACHINE: &str = "machine-fault";
/// The model of that device.
pub(super) const MODEL: &str = "mdl-coffee-1";
/// A service card: goods that a courier brings.
const CARD: &str = "2001";
const CARD_NOTIFY_TYPE: u32 = 2001;
/// What was paid for it, in fen, and when.
const PAID: (i64, i64) = (3600, 1_795_330_860);
/// The field of every message that holds the row's `business_ref`.
pub const REF_KEY: &str = "character_string1";

/// The fewest rows a plan can have: every fate has its own and some are plainly sent.
pub const ROWS_MIN: usize = 160;

/// What happens to a row, and what must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Sent at once, before everything else.
    Urgent,
    /// Sent at once.
    Normal,
    /// Sent when nothing else is due.
    Bulk,
    /// Sent at its `send_at`.
    Scheduled,
    /// A held credit that gets its message later.
    Armed,
    /// A held credit nobody uses.
    Held,
    /// Its user turned a long-term template on: no credit is spent.
    LongTerm,
    /// It names a login code instead of the user.
    LoginCode,
    /// A message about a device.
    Device,
    /// A state of a service card.
    Card,
    /// WeChat is busy (-1) once or twice.
    Retried,
    /// Inserted just as another system makes our access token useless.
    TokenStolen,
    /// Another system sends to the same user at this moment (43108).
    UserBusy,
    /// An operator pauses the template and resumes it.
    TemplateResumed,
    /// Its mini-program is registered only later.
    AppAdded,
    /// The user gave no credit (43101).
    NoCredit,
    /// WeChat refuses a field that fits its template (47003).
    FieldRefused,
    /// Its `expire_at` comes while its template is paused.
    Expired,
    /// The producer deletes it.
    Deleted,
    /// An operator cancels it.
    Cancelled,
    /// Inserted twice with one `dedup_key`.
    Duplicate,
    /// The reply is lost, and WeChat's sent event comes.
    EventCame,
    /// The reply is lost, and with it the last credit.
    PresumedSent,
    /// The reply is lost, and the user has another credit.
    Doubled,
    /// The reply is lost, and an operator knows that the message arrived.
    ConfirmedSent,
    /// The request is lost, and an operator knows that nothing arrived.
    ConfirmedUnsent,
    /// The reply is lost and nobody says anything until `expire_at`.
    Unresolved,
}

impl Fate {
    /// Every fate, in the order of the closing table.
    pub const ALL: [Self; 27] = [
        Self::Urgent,
        Self::Normal,
        Self::Bulk,
        Self::Scheduled,
        Self::Armed,
        Self::Held,
        Self::LongTerm,
        Self::LoginCode,
        Self::Device,
        Self::Card,
        Self::Retried,
        Self::TokenStolen,
        Self::UserBusy,
        Self::TemplateResumed,
        Self::AppAdded,
        Self::NoCredit,
        Self::FieldRefused,
        Self::Expired,
        Self::Deleted,
        Self::Cancelled,
        Self::Duplicate,
        Self::EventCame,
        Self::PresumedSent,
        Self::Doubled,
        Self::ConfirmedSent,
        Self::ConfirmedUnsent,
        Self::Unresolved,
    ];

    /// In a few words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Urgent => "sent, urgent lane",
            Self::Normal => "sent, normal lane",
            Self::Bulk => "sent, bulk lane",
            Self::Scheduled => "scheduled seconds ahead",
            Self::Armed => "held, then armed",
            Self::Held => "held, never armed",
            Self::LongTerm => "long-term message",
            Self::LoginCode => "login code, no openid",
            Self::Device => "device message",
            Self::Card => "service card",
            Self::Retried => "WeChat busy (-1)",
            Self::TokenStolen => "token stolen (40001)",
            Self::UserBusy => "user busy (43108)",
            Self::TemplateResumed => "template was paused",
            Self::AppAdded => "app added later",
            Self::NoCredit => "no credit (43101)",
            Self::FieldRefused => "field refused (47003)",
            Self::Expired => "expired while waiting",
            Self::Deleted => "cancelled by DELETE",
            Self::Cancelled => "cancelled by operator",
            Self::Duplicate => "same dedup_key twice",
            Self::EventCame => "reply lost, event came",
            Self::PresumedSent => "reply lost, last credit",
            Self::Doubled => "reply lost, two credits",
            Self::ConfirmedSent => "reply lost, confirmed",
            Self::ConfirmedUnsent => "request lost, denied",
            Self::Unresolved => "reply lost, unanswered",
        }
    }

    /// How many rows; the lanes share what the others leave of `rows`.
    fn rows(self, rows: usize) -> usize {
        let plain = rows.saturating_sub(SPECIAL_ROWS);
        match self {
            Self::Urgent => plain / 5,
            Self::Normal => plain * 2 / 5,
            Self::Bulk => plain - plain / 5 - plain * 2 / 5,
            Self::Scheduled | Self::TokenStolen | Self::NoCredit | Self::Duplicate => 12,
            Self::Retried => 10,
            Self::Armed | Self::TemplateResumed => 8,
            Self::Held
            | Self::UserBusy
            | Self::AppAdded
            | Self::FieldRefused
            | Self::Expired
            | Self::Deleted
            | Self::Cancelled => 6,
            Self::EventCame | Self::PresumedSent => 4,
            Self::Doubled
            | Self::ConfirmedSent
            | Self::LongTerm
            | Self::LoginCode
            | Self::Device
            | Self::Card => 3,
            Self::ConfirmedUnsent | Self::Unresolved => 2,
        }
    }

    /// The status a row must end with.
    fn status(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::NoCredit | Self::FieldRefused => "dead",
            Self::Expired => "expired",
            Self::Deleted | Self::Cancelled => "cancelled",
            Self::PresumedSent => "presumed_sent",
            Self::Unresolved => "unresolved",
            _ => "sent",
        }
    }

    /// How many messages must reach the user for one row.
    fn messages(self) -> usize {
        match self.status() {
            "held" | "dead" | "expired" | "cancelled" => 0,
            _ if self == Self::Doubled => 2,
            _ => 1,
        }
    }

    /// The credits the user gives for one row. Rows that must not be sent have one too: a message sent in error would
    /// be accepted and be seen.
    pub(super) fn credits(self) -> u64 {
        match self {
            // A device and a card are subscribed to in their own way.
            Self::NoCredit | Self::Device | Self::Card => 0,
            Self::Doubled => 2,
            _ => 1,
        }
    }

    /// Whether a message of this fate takes a credit.
    pub(super) fn spends_credit(self) -> bool {
        !matches!(self, Self::LongTerm | Self::Device | Self::Card)
    }

    /// What the fake does to the first calls for such a row; `turn` counts the rows of the fate.
    fn fault(self, turn: usize) -> Option<(u64, Action)> {
        let busy = |errcode| Action::Errcode {
            errcode,
            errmsg: None,
            after_credit: false,
        };
        let lost = match turn % 4 {
            0 => Action::Reset { after_credit: true },
            1 => Action::HttpStatus {
                status: 502,
                after_credit: true,
            },
            2 => Action::Hang { after_credit: true },
            _ => Action::CutBody { after_credit: true },
        };
        match self {
            Self::Retried => Some((1 + turn as u64 % 2, busy(-1))),
            Self::UserBusy => Some((1, busy(43108))),
            Self::FieldRefused => Some((
                1,
                Action::Errcode {
                    errcode: 47003,
                    errmsg: Some("argument invalid! data.thing2.value invalid".to_owned()),
                    after_credit: false,
                },
            )),
            Self::EventCame
            | Self::PresumedSent
            | Self::Doubled
            | Self::ConfirmedSent
            | Self::Unresolved => Some((1, lost)),
            Self::ConfirmedUnsent => Some((
                1,
                Action::HttpStatus {
                    status: 504,
                    after_credit: false,
                },
            )),
            _ => None,
        }
    }
}

/// The rows of all fates but the three lanes.
const SPECIAL_ROWS: usize = 4 * 12 + 10 + 2 * 8 + 7 * 6 + 2 * 4 + 6 * 3 + 2 * 2;

/// One row, before it is inserted.
#[derive(Debug, Clone)]
pub struct PlannedRow {
    /// What happens to it.
    pub fate: Fate,
    /// Its order number, unique; also in the message.
    pub business_ref: String,
    /// Which of the demo's mini-programs sends it.
    pub appid: &'static str,
    /// The user.
    pub openid: String,
    /// The template.
    pub template_id: &'static str,
    /// The status it must end with.
    pub status: &'static str,
    /// How many messages must reach the user.
    pub messages: usize,
    /// Whether the view must say that the message may have arrived twice.
    pub may_be_doubled: bool,
    /// Columns that differ from their defaults, each with its SQL.
    columns: Vec<(&'static str, String)>,
    data: Option<String>,
    fault: Option<(u64, Action)>,
    number: usize,
}

impl PlannedRow {
    fn new(fate: Fate, number: usize, turn: usize) -> Self {
        let business_ref = format!("D{number:05}");
        let (appid, template_id) = match fate {
            Fate::AppAdded => (BOOKS, ARRIVED),
            Fate::TemplateResumed | Fate::Expired => (CAFE, REFUND),
            Fate::EventCame | Fate::LoginCode => (CINEMA, SHOW),
            Fate::LongTerm => (CINEMA, NEWS),
            Fate::Device => (CAFE, MACHINE),
            Fate::Card => (CAFE, CARD),
            _ => (CAFE, PICKUP),
        };
        let columns = match fate {
            Fate::Urgent | Fate::TokenStolen => vec![("lane", "0".to_owned())],
            Fate::Bulk => vec![("lane", "2".to_owned())],
            Fate::Scheduled => vec![("send_at", seconds_ahead(3 + turn % 4))],
            Fate::Armed | Fate::Held => vec![("held", "true".to_owned())],
            Fate::Deleted | Fate::Cancelled => vec![("send_at", seconds_ahead(3600))],
            Fate::Expired => vec![("expire_at", seconds_ahead(4))],
            Fate::LongTerm => vec![("kind", literal("long_term"))],
            Fate::Device => vec![
                ("kind", literal("device")),
                ("page", literal("pages/machine")),
                (
                    "extra",
                    literal(&format!(
                        r#"{{"sn":"{}","modelId":"{MODEL}"}}"#,
                        serial_number(number)
                    )),
                ),
            ],
            Fate::Card => vec![
                ("kind", literal("service_card")),
                (
                    "extra",
                    literal(&format!(
                        r#"{{"notify_code":"{}","check_json":{{"pay_amount":{},"pay_time":{}}}}}"#,
                        notify_code(number),
                        PAID.0,
                        PAID.1
                    )),
                ),
            ],
            Fate::ConfirmedSent | Fate::ConfirmedUnsent => vec![("on_doubt", literal("hold"))],
            Fate::Unresolved => vec![
                ("on_doubt", literal("hold")),
                ("expire_at", seconds_ahead(8)),
            ],
            _ => Vec::new(),
        };
        let openid = format!("oUser{number:05}");
        let message = message(template_id, &business_ref, number);
        let is_held = matches!(fate, Fate::Armed | Fate::Held);
        Self {
            fate,
            appid,
            openid,
            template_id,
            status: fate.status(),
            messages: fate.messages(),
            may_be_doubled: fate == Fate::Doubled,
            columns,
            data: (!is_held).then_some(message),
            fault: fate.fault(turn),
            number,
            business_ref,
        }
    }

    /// A second row for the same thing: same user, same `dedup_key`, and no message.
    fn duplicate_of(first: &mut Self, number: usize) -> Self {
        let key = literal(&format!("order-{}-paid", first.business_ref));
        first.columns.push(("dedup_key", key));
        let mut second = Self::new(Fate::Duplicate, number, 0);
        second.openid.clone_from(&first.openid);
        second.columns.clone_from(&first.columns);
        second.status = "duplicate";
        second.messages = 0;
        second
    }

    /// The INSERT that a producer would type, in two or three lines.
    #[must_use]
    pub fn insert_statement(&self) -> String {
        self.insert_statement_to("openid", &self.openid)
    }

    /// The INSERT of a back end that knows no openid, only the code that the page sent along.
    #[must_use]
    pub fn insert_statement_with_login_code(&self, code: &str) -> String {
        self.insert_statement_to("login_code", code)
    }

    fn insert_statement_to(&self, receiver: &'static str, name: &str) -> String {
        let mut columns = vec![
            ("appid", literal(self.appid)),
            (receiver, literal(name)),
            ("template_id", literal(self.template_id)),
        ];
        columns.extend(self.columns.iter().cloned());
        columns.push(("business_ref", literal(&self.business_ref)));
        let mut names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
        let mut values = values.join(", ");
        if values.len() > 65 {
            // As somebody would type it into 80 columns.
            values = values.replacen("', now()", "',\n    now()", 1);
        }
        if let Some(data) = &self.data {
            names.push("data");
            values += &format!(",\n {}", literal(data));
        }
        let names = names.join(", ");
        format!("insert into pending_notifications\n    ({names})\nvalues ({values})")
    }

    /// The statement that gives a held credit its message.
    #[must_use]
    pub fn arm_statement(&self) -> String {
        let (appid, openid) = (literal(self.appid), literal(&self.openid));
        let template_id = literal(self.template_id);
        let data = literal(&message(self.template_id, &self.business_ref, 0));
        format!("select arm({appid}, {openid}, {template_id},\n           {data})")
    }

    /// The statement by which a producer cancels.
    #[must_use]
    pub fn delete_statement(&self) -> String {
        let business_ref = literal(&self.business_ref);
        format!("delete from pending_notifications where business_ref = {business_ref}")
    }

    /// Whether the first reply about it gets lost after WeChat took the message.
    pub(super) fn loses_reply(&self) -> bool {
        matches!(
            self.fate,
            Fate::EventCame
                | Fate::PresumedSent
                | Fate::Doubled
                | Fate::ConfirmedSent
                | Fate::Unresolved
        )
    }

    /// The serial number of the device it is about.
    pub(super) fn serial_number(&self) -> Option<String> {
        (self.fate == Fate::Device).then(|| serial_number(self.number))
    }

    /// The payment whose card it updates.
    pub(super) fn card_code(&self) -> Option<CardCodeSpec> {
        (self.fate == Fate::Card).then(|| CardCodeSpec {
            openid: self.openid.clone(),
            notify_type: CARD_NOTIFY_TYPE,
            notify_code: notify_code(self.number),
            pay_amount: Some(PAID.0),
            pay_time: Some(PAID.1),
        })
    }

    /// What must have ended the row, where the fate is about that.
    pub(super) fn settled_by(&self) -> Option<&'static str> {
        (self.fate == Fate::EventCame).then_some("event")
    }

    /// What the fake does to the first calls for this row.
    #[must_use]
    pub fn rule(&self) -> Option<Rule> {
        let (count, action) = self.fault.clone()?;
        Some(Rule {
            path: Some(crate::simulate::SEND_PATH.to_owned()),
            appid: None,
            openid: Some(self.openid.clone()),
            template_id: None,
            after: 0,
            count: Some(count),
            probability: None,
            action,
        })
    }
}

/// The message of a row as a producer writes it.
fn message(template_id: &str, business_ref: &str, number: usize) -> String {
    const DRINKS: [&str; 5] = [
        "桂花拿铁两杯",
        "美式咖啡一杯",
        "燕麦拿铁一杯",
        "冷萃三杯少冰",
        "抹茶拿铁一杯",
    ];
    let drink = DRINKS[number % DRINKS.len()];
    match template_id {
        REFUND => format!(r#"{{"{REF_KEY}": "{business_ref}", "amount2": "¥36.00"}}"#),
        NEWS => format!(r#"{{"{REF_KEY}":"{business_ref}","thing2":"周末加映四场"}}"#),
        MACHINE => format!(r#"{{"{REF_KEY}":"{business_ref}","enum_string2":"缺水"}}"#),
        CARD => format!(r#"{{"cur_status":1,"wxa_path_query":"{CARD_PAGE}{business_ref}"}}"#),
        SHOW => format!(r#"{{"{REF_KEY}": "{business_ref}", "thing2": "《流浪地球》今晚七点半"}}"#),
        ARRIVED => format!(r#"{{"{REF_KEY}": "{business_ref}", "thing2": "《三体》到货"}}"#),
        _ => format!(
            r#"{{"{REF_KEY}": "{business_ref}", "thing2": "{drink}", "phrase3": "待取餐"}}"#
        ),
    }
}

/// The café's service card and its one state of the demo: paid.
pub(super) fn card_type() -> (&'static str, CardTypeSpec) {
    let paid = CardStateSpec {
        status: 1,
        activates: true,
        after: Vec::new(),
        is_final: false,
    };
    let card = CardTypeSpec {
        notify_type: CARD_NOTIFY_TYPE,
        states: vec![paid],
    };
    (CAFE, card)
}

/// Where a card leads; the order number follows, and names the row in WeChat's ledger.
const CARD_PAGE: &str = "pages/order/detail?id=";

/// The order number that a message in WeChat's ledger carries.
pub(super) fn business_ref_of(call: &Call) -> Option<String> {
    call.value(REF_KEY).or_else(|| {
        let content: serde_json::Value = serde_json::from_str(call.data.as_ref()?.get()).ok()?;
        let page = content.get("wxa_path_query")?.as_str()?;
        page.strip_prefix(CARD_PAGE).map(str::to_owned)
    })
}

fn serial_number(number: usize) -> String {
    format!("SN-{number:05}")
}

/// As WeChat Pay numbers its transactions.
fn notify_code(number: usize) -> String {
    format!("42000000002026112200000{number:05}")
}

/// A statement that the database must refuse.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedInsert {
    /// What was typed.
    pub statement: String,
    /// What the database answered; `None`: it accepted the row.
    pub message: Option<String>,
}

/// All rows, in the order of their INSERTs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Every row that is inserted.
    pub rows: Vec<PlannedRow>,
    by_ref: HashMap<String, usize>,
}

impl Plan {
    /// A plan of `rows` rows, at least [`ROWS_MIN`], in an order that `seed` decides.
    #[must_use]
    pub fn new(rows: usize, seed: u64) -> Self {
        let rows = rows.max(ROWS_MIN);
        let mut number = 0;
        let mut groups: Vec<Vec<PlannedRow>> = Vec::with_capacity(rows);
        for fate in Fate::ALL {
            let pairs = fate == Fate::Duplicate;
            let size = if pairs { 2 } else { 1 };
            for turn in 0..fate.rows(rows) / size {
                number += size;
                let mut row = PlannedRow::new(fate, number, turn);
                let second = pairs.then(|| PlannedRow::duplicate_of(&mut row, number - 1));
                groups.push(std::iter::once(row).chain(second).collect());
            }
        }
        groups.shuffle(&mut StdRng::seed_from_u64(seed));
        let rows: Vec<PlannedRow> = groups.into_iter().flatten().collect();
        let refs = rows.iter().map(|row| row.business_ref.clone());
        let by_ref = refs.zip(0..).collect();
        Self { rows, by_ref }
    }

    /// The row with this order number.
    #[must_use]
    pub fn row(&self, business_ref: &str) -> Option<&PlannedRow> {
        Some(&self.rows[*self.by_ref.get(business_ref)?])
    }

    /// The rows of one fate.
    pub fn of(&self, fate: Fate) -> impl Iterator<Item = &PlannedRow> {
        self.rows.iter().filter(move |row| row.fate == fate)
    }
}

/// What the fake must know of the mini-programs.
pub(super) fn apps() -> [AppSpec; 3] {
    [CAFE, BOOKS, CINEMA].map(|appid| AppSpec::new(appid, SECRET))
}

/// The templates of the mini-programs.
pub(super) fn templates() -> [(&'static str, TemplateSpec); 6] {
    [
        (
            CAFE,
            TemplateSpec::new(PICKUP, [REF_KEY, "thing2", "phrase3"]),
        ),
        (CAFE, TemplateSpec::new(REFUND, [REF_KEY, "amount2"])),
        (BOOKS, TemplateSpec::new(ARRIVED, [REF_KEY, "thing2"])),
        (CINEMA, TemplateSpec::new(SHOW, [REF_KEY, "thing2"])),
        (
            CINEMA,
            TemplateSpec::new(NEWS, [REF_KEY, "thing2"]).long_term(),
        ),
        (
            CAFE,
            TemplateSpec::new(MACHINE, [REF_KEY, "enum_string2"]).device(),
        ),
    ]
}

/// INSERTs that the database must refuse, naming field and rule.
pub(super) fn bad_inserts() -> Vec<String> {
    let insert = |columns: &str, values: &str| {
        format!(
            "insert into pending_notifications (appid, openid, template_id, {columns})\n\
             values ('{CAFE}', 'oUser00000', '{PICKUP}', {values})"
        )
    };
    vec![
        insert(
            "data",
            r#"'{"thing2": "您点的桂花拿铁两杯和抹茶蛋糕一份已经做好，请尽快取走"}'"#,
        ),
        insert(
            "page, data",
            r#"'/pages/order', '{"thing2": "桂花拿铁两杯"}'"#,
        ),
        insert("lane, data", r#"7, '{"thing2": "桂花拿铁两杯"}'"#),
    ]
}

fn seconds_ahead(seconds: usize) -> String {
    format!("now() + interval '{seconds} seconds'")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_plan_has_as_many_rows_as_asked_for_and_every_fate() {
        for asked in [ROWS_MIN, 161, 320, 5000] {
            let plan = Plan::new(asked, 1);
            assert_eq!(plan.rows.len(), asked);
            for fate in Fate::ALL {
                assert!(plan.of(fate).count() > 0, "{fate:?} of {asked}");
            }
        }
    }

    #[test]
    fn order_numbers_are_unique() {
        let plan = Plan::new(320, 1);
        let refs: HashSet<_> = plan.rows.iter().map(|row| &row.business_ref).collect();
        assert_eq!(refs.len(), plan.rows.len());
    }

    #[test]
    fn the_first_of_two_duplicates_is_the_one_that_is_sent() {
        for seed in 0..20 {
            let plan = Plan::new(ROWS_MIN, seed);
            let statuses: Vec<_> = plan.of(Fate::Duplicate).map(|row| row.status).collect();
            assert!(statuses.chunks(2).all(|pair| pair == ["sent", "duplicate"]));
        }
    }

    #[test]
    fn a_seed_gives_the_same_order_again() {
        let order = |seed| {
            let rows = Plan::new(200, seed).rows.into_iter();
            rows.map(|row| row.business_ref).collect::<Vec<_>>()
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    #[test]
    fn a_quote_in_a_text_does_not_end_it() {
        assert_eq!(literal("it's"), "'it''s'");
    }
}
