//! What really happened, kept beside the database and compared with it at the end.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

/// A row as its producer knows it.
#[derive(Debug, Clone)]
pub struct Told {
    pub appid: String,
    pub key: Option<String>,
    /// The number in the words that were committed last.
    pub version: i64,
    pub held: bool,
    pub cancelled: bool,
}

/// One message handed to WeChat.
#[derive(Debug, Clone)]
pub struct Send {
    pub id: i64,
    pub appid: String,
    pub openid: String,
    pub template_id: String,
    pub lease_id: i64,
    pub version: i64,
    pub at: DateTime<Utc>,
    /// When the sender gave the row back or its lease may have ended, whichever came first.
    pub until: DateTime<Utc>,
    /// The msgid if the message reached the user, whatever the sender learned of it.
    pub delivered: Option<i64>,
}

/// A row of the history, for the comparison.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Ended {
    pub id: i64,
    pub status: String,
    pub settled_by: String,
    pub version: i64,
    pub attempts: i16,
    pub dedup_key: Option<String>,
    pub duplicate_of: Option<i64>,
    pub in_doubt_since: Option<DateTime<Utc>>,
    pub msgid: Option<i64>,
}

#[derive(Debug, Default)]
pub struct Truth {
    pub rows: HashMap<i64, Told>,
    pub rolled_back: HashSet<i64>,
    pub sends: Vec<Send>,
    pub msgids: i64,
    pub violations: Vec<String>,
}

impl Truth {
    /// Compares what ended with what happened; `pending` are the ids that have not ended.
    pub fn compare(&mut self, ended: &[Ended], pending: &HashSet<i64>) {
        let mut found = Vec::new();
        let mut by_id: HashMap<i64, &Ended> = HashMap::new();
        for row in ended {
            if by_id.insert(row.id, row).is_some() {
                found.push(format!("{} ended twice", row.id));
            }
            if pending.contains(&row.id) {
                found.push(format!("{} ended and is pending", row.id));
            }
            if !self.rows.contains_key(&row.id) {
                found.push(format!("{} ended and was never committed", row.id));
            }
        }
        let mut sends: HashMap<i64, Vec<&Send>> = HashMap::new();
        for send in &self.sends {
            sends.entry(send.id).or_default().push(send);
        }
        for (id, told) in &self.rows {
            let sends = sends.get(id).map_or(&[][..], Vec::as_slice);
            match by_id.get(id) {
                Some(row) => compare_row(row, told, sends, &mut found),
                None if pending.contains(id) => {}
                None => found.push(format!("{id} is lost")),
            }
        }
        for id in &self.rolled_back {
            if sends.contains_key(id) {
                found.push(format!("{id} was sent and its INSERT rolled back"));
            }
        }
        self.compare_keys(&by_id, &sends, &mut found);
        self.compare_users(&mut found);
        self.violations.append(&mut found);
    }

    fn compare_keys(
        &self,
        by_id: &HashMap<i64, &Ended>,
        sends: &HashMap<i64, Vec<&Send>>,
        found: &mut Vec<String>,
    ) {
        let mut keys: HashMap<(&str, &str), Vec<i64>> = HashMap::new();
        for (id, told) in &self.rows {
            if let Some(key) = &told.key {
                keys.entry((&told.appid, key)).or_default().push(*id);
            }
        }
        for (key, ids) in keys {
            let sent = |id: &&i64| by_id.get(id).is_some_and(|row| row.status == "sent");
            if ids.iter().filter(sent).count() > 1 {
                found.push(format!("key {key:?} was sent more than once: {ids:?}"));
            }
            for row in ids
                .iter()
                .filter_map(|id| by_id.get(id))
                .filter(|row| row.status == "duplicate")
            {
                let winner = row.duplicate_of.and_then(|id| by_id.get(&id));
                if !winner.is_some_and(|winner| {
                    winner.status == "sent" && winner.dedup_key == row.dedup_key
                }) {
                    found.push(format!(
                        "{} is the duplicate of {:?}, which was not sent",
                        row.id, row.duplicate_of
                    ));
                }
                if sends.contains_key(&row.id) && row.attempts == 0 {
                    found.push(format!("{} was sent and ended as a duplicate", row.id));
                }
            }
        }
    }

    /// No user was in two leases at once.
    fn compare_users(&self, found: &mut Vec<String>) {
        let mut users: HashMap<(&str, &str), Vec<&Send>> = HashMap::new();
        for send in &self.sends {
            users
                .entry((&send.appid, &send.openid))
                .or_default()
                .push(send);
        }
        for sends in users.values_mut() {
            sends.sort_by_key(|send| send.at);
            for pair in sends.windows(2) {
                if pair[0].lease_id != pair[1].lease_id && pair[1].at < pair[0].until {
                    found.push(format!(
                        "{} and {} went to one user at once",
                        pair[0].id, pair[1].id
                    ));
                }
            }
        }
    }
}

fn compare_row(row: &Ended, told: &Told, sends: &[&Send], found: &mut Vec<String>) {
    let id = row.id;
    let mut wrong = |what: String| {
        found.push(format!(
            "{id} ended {} by {}: {what}",
            row.status, row.settled_by
        ))
    };
    let delivered: Vec<&&Send> = sends
        .iter()
        .filter(|send| send.delivered.is_some())
        .collect();
    if row.version != told.version {
        wrong(format!(
            "with version {}, committed was {}",
            row.version, told.version
        ));
    }
    if told.cancelled != (row.status == "cancelled") {
        wrong(format!("cancelled is {}", told.cancelled));
    }
    if sends.len() > usize::try_from(row.attempts).unwrap() {
        wrong(format!("{} sends, {} attempts", sends.len(), row.attempts));
    }
    match row.status.as_str() {
        "sent" if !delivered.iter().any(|send| send.delivered == row.msgid) => {
            wrong(format!("msgid {:?} is none of its messages", row.msgid));
        }
        "sent" | "unresolved" => {}
        _ if !delivered.is_empty() => {
            wrong(format!("{} messages reached the user", delivered.len()))
        }
        _ => {}
    }
    if row.status == "unresolved" && row.in_doubt_since.is_none() {
        wrong("without a doubt".to_owned());
    }
    for (n, send) in sends.iter().enumerate() {
        let again = n + 1 < sends.len();
        if again && send.delivered.is_some() {
            // A doubt begins when its lease was started, hence before the send.
            let doubted = row
                .in_doubt_since
                .is_some_and(|since| since <= send.at + TimeDelta::milliseconds(1));
            if !doubted {
                wrong(format!(
                    "sent again after lease {} without a doubt in between",
                    send.lease_id
                ));
            }
        }
        if send.delivered.is_some() && send.version > told.version {
            wrong(format!(
                "version {} was sent and never committed",
                send.version
            ));
        }
    }
    if let (Some(last), "sent") = (delivered.last(), row.status.as_str())
        && last.version != row.version
    {
        wrong(format!("version {} was sent last", last.version));
    }
}
