//! A search as the console's box and `wxnotify find` make it, and its rows as files.
//!
//! A key is whole: an unknown one finds nothing, never everything. Files hold no receiver and no text of a message.
//!
//! Start at [`find`].

use crate::store::console::{Found, Narrowed};
use crate::store::{Store, StoreError};

/// The fourteen statuses, those that still move first.
pub static STATUSES: [&str; 14] = [
    "held",
    "scheduled",
    "due",
    "sending",
    "retrying",
    "in_doubt",
    "paused",
    "sent",
    "presumed_sent",
    "dead",
    "expired",
    "cancelled",
    "duplicate",
    "unresolved",
];
/// How many of them still move.
pub const MOVING: usize = 7;

/// Ids that a key may mean.
const IDS_MAX: i32 = 200;
/// The longest key that anything is known by.
const KEY_CHARS_MAX: usize = 512;

/// The statuses meant by a word: `ended`, `moving`, `badly`, or one of them; none for an unknown word, which finds nothing.
#[must_use]
pub fn statuses_of(word: &str) -> Vec<String> {
    let chosen: Vec<&str> = match word {
        "ended" => STATUSES[MOVING..].to_vec(),
        "moving" => STATUSES[..MOVING].to_vec(),
        "badly" => vec!["dead", "expired", "unresolved"],
        one => STATUSES
            .iter()
            .copied()
            .filter(|status| *status == one)
            .collect(),
    };
    chosen.into_iter().map(str::to_owned).collect()
}

/// Whether these are statuses of rows that have ended.
#[must_use]
pub fn have_ended(statuses: &[String]) -> bool {
    statuses
        .first()
        .is_some_and(|status| STATUSES[MOVING..].contains(&status.as_str()))
}

/// The rows that a key means, the latest first, and as what it found them: `id`, `business_ref` and so on. As an openid it
/// is looked for when `with_openids`.
///
/// # Errors
///
/// The database did not answer in time, or refuses this role.
pub async fn find_key(
    store: &Store,
    key: &str,
    with_openids: bool,
    rows_max: i64,
) -> Result<(Vec<Found>, Vec<String>), StoreError> {
    if key.chars().count() > KEY_CHARS_MAX || key.contains('\0') {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut keys = store.ids_of_key(key, IDS_MAX).await?;
    if with_openids {
        keys.extend(store.ids_of_openid(key, IDS_MAX).await?);
    }
    let ids: Vec<i64> = keys.iter().map(|key| key.id).collect();
    let mut by: Vec<String> = keys.into_iter().map(|key| key.found_by).collect();
    by.sort();
    by.dedup();
    if ids.is_empty() {
        return Ok((Vec::new(), by));
    }
    Ok((store.find_by_ids(&ids, rows_max).await?, by))
}

/// The rows with these conditions: of those that have ended the latest first, of the others the next.
///
/// # Errors
///
/// The database did not answer in time, or refuses this role.
pub async fn find(store: &Store, narrowed: &Narrowed) -> Result<Vec<Found>, StoreError> {
    if have_ended(&narrowed.statuses) {
        store.find_ended(narrowed).await
    } else {
        store.find_waiting(narrowed).await
    }
}

const COLUMNS: [&str; 12] = [
    "id",
    "appid",
    "status",
    "template_id",
    "business_ref",
    "errcode",
    "errmsg",
    "attempts",
    "credit",
    "created_at",
    "finished_at",
    "next_at",
];

/// The rows as CSV, with a mark that spreadsheets need to read Chinese.
#[must_use]
pub fn to_csv(rows: &[Found]) -> String {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    let written = writer.write_record(COLUMNS).and_then(|()| {
        rows.iter()
            .try_for_each(|row| writer.write_record(cells(row).iter().map(|cell| defused(cell))))
    });
    written.expect("every row has as many cells as there are columns");
    let bytes = writer.into_inner().expect("memory takes what is written");
    // Spreadsheets take a file without this mark for another encoding than UTF-8.
    format!("\u{feff}{}", String::from_utf8_lossy(&bytes))
}

fn cells(row: &Found) -> [String; COLUMNS.len()] {
    let time = |at: Option<chrono::DateTime<chrono::Utc>>| {
        at.map_or_else(String::new, |at| at.to_rfc3339())
    };
    [
        row.id.to_string(),
        row.appid.clone(),
        row.status.clone(),
        row.template_id.clone(),
        row.business_ref.clone().unwrap_or_default(),
        row.errcode
            .map_or_else(String::new, |errcode| errcode.to_string()),
        row.errmsg.clone().unwrap_or_default(),
        row.attempts.to_string(),
        row.credit.clone().unwrap_or_default(),
        row.created_at.to_rfc3339(),
        time(row.finished_at),
        time(row.next_at),
    ]
}

/// A cell that no spreadsheet runs: what begins like a formula gets an apostrophe, unless it is a plain number.
fn defused(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<i64>().is_err() {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// The rows as JSON, one a line.
#[must_use]
pub fn to_ndjson(rows: &[Found]) -> String {
    rows.iter()
        .filter_map(|row| serde_json::to_string(row).ok())
        .flat_map(|line| [line, "\n".to_owned()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_its_statuses_and_an_unknown_one_none() {
        assert_eq!(statuses_of("ended").len(), 7);
        assert_eq!(statuses_of("moving").len(), 7);
        assert_eq!(statuses_of("dead"), ["dead"]);
        assert!(statuses_of("deads").is_empty() && !have_ended(&[]));
    }

    #[test]
    fn no_cell_is_a_formula_and_numbers_stay_numbers() {
        let cells = ["=1+1", "+cmd", "-1", "@x", "plain"].map(defused);
        assert_eq!(cells, ["'=1+1", "'+cmd", "-1", "'@x", "plain"]);
    }

    #[test]
    fn a_reference_with_commas_quotes_and_formulas_is_one_cell() {
        let row = Found {
            id: 9_007_199_254_740_993,
            appid: "wx1".into(),
            status: "dead".into(),
            template_id: "Tmpl".into(),
            business_ref: Some("=a,\"b\"".into()),
            errcode: Some(-1),
            errmsg: None,
            attempts: 1,
            credit: None,
            created_at: chrono::DateTime::UNIX_EPOCH,
            finished_at: None,
            next_at: None,
        };
        let text = to_csv(&[row]);
        let line = text.lines().nth(1).unwrap_or_default();
        assert!(
            line.starts_with("9007199254740993,wx1,dead,Tmpl,\"'=a,\"\"b\"\"\",-1,,1,,1970"),
            "{line}"
        );
    }
}
