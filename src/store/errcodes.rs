//! The table of errcodes.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::statement::statement;
use super::{Store, StoreError};
use crate::notification::{Credit, PauseUntil};
use crate::wechat::errcode::{Counted, Disposition, ErrcodeRule, Escalation, Scope, Window};

/// A row of `wechat_errcodes` holds a word or a number that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("wechat_errcodes, errcode {errcode}: {column} is not known to this version")]
struct UnknownWord {
    errcode: i64,
    column: &'static str,
}

impl Store {
    /// Reads every rule. Workers do so at the start and every minute.
    ///
    /// # Errors
    ///
    /// The database did not answer, or a row is of a newer version: the message names its errcode and column.
    pub async fn errcode_rules(&self) -> Result<Vec<ErrcodeRule>, StoreError> {
        let statement = statement!("errcodes/errcode_rules");
        let query = statement.query();
        let rows = self
            .run(statement.name, query.fetch_all(&self.pool))
            .await?;
        rows.iter()
            .map(read_rule)
            .collect::<sqlx::Result<_>>()
            .map_err(|source| StoreError::Database {
                statement: statement.name,
                source,
            })
    }
}

fn read_rule(row: &PgRow) -> sqlx::Result<ErrcodeRule> {
    let errcode: i64 = row.try_get("errcode")?;
    let unknown = |column| sqlx::Error::Decode(Box::new(UnknownWord { errcode, column }));
    let disposition: &str = row.try_get("disposition")?;
    let credit: &str = row.try_get("credit")?;
    Ok(ErrcodeRule {
        errcode: Some(errcode),
        disposition: Disposition::from_column(disposition).ok_or_else(|| unknown("disposition"))?,
        credit: Credit::from_column(credit).ok_or_else(|| unknown("credit"))?,
        pause: read_pause(row.try_get("pause_secs")?, row.try_get("pause_until")?)
            .ok_or_else(|| unknown("pause_until"))?,
        retries_max: row.try_get("retries_max")?,
        escalation: read_escalation(row, &unknown)?,
    })
}

/// The pause of a rule, `Some(None)` where it has none, `None` for a word this version does not know.
fn read_pause(secs: Option<i32>, until: Option<&str>) -> Option<Option<PauseUntil>> {
    match (secs, until) {
        (Some(secs), _) => Some(Some(PauseUntil::After(read_secs(secs)))),
        (None, None) => Some(None),
        (None, Some("operator")) => Some(Some(PauseUntil::Operator)),
        (None, Some("china_midnight")) => Some(Some(PauseUntil::ChinaMidnight)),
        (None, Some("next_minute")) => Some(Some(PauseUntil::NextMinute)),
        (None, Some(_)) => None,
    }
}

fn read_escalation(
    row: &PgRow,
    unknown: &dyn Fn(&'static str) -> sqlx::Error,
) -> sqlx::Result<Option<Escalation>> {
    let scope = match row.try_get::<Option<&str>, _>("escalate_to")? {
        None => return Ok(None),
        Some("app") => Scope::App,
        Some("template") => Scope::Template,
        Some(_) => return Err(unknown("escalate_to")),
    };
    let counted = match row.try_get("escalate_counted")? {
        Some("calls") => Counted::Calls,
        Some("calls_of_one_page") => Counted::CallsOfOnePage,
        Some("openids") => Counted::Openids,
        Some("templates") => Counted::Templates,
        _ => return Err(unknown("escalate_counted")),
    };
    let calls: Option<i16> = row.try_get("escalate_calls")?;
    let secs: Option<i32> = row.try_get("escalate_secs")?;
    let window = match (calls, secs) {
        (Some(calls), _) => {
            Window::Calls(u8::try_from(calls).map_err(|_| unknown("escalate_calls"))?)
        }
        (None, Some(secs)) => Window::Time(read_secs(secs)),
        (None, None) => return Err(unknown("escalate_secs")),
    };
    let count_min: i32 = row.try_get("escalate_count")?;
    let percent_min: Option<i16> = row.try_get("escalate_percent")?;
    let pause_secs: Option<i32> = row.try_get("escalate_pause_secs")?;
    Ok(Some(Escalation {
        scope,
        counted,
        count_min: u32::try_from(count_min).map_err(|_| unknown("escalate_count"))?,
        percent_min: percent_min
            .map(u8::try_from)
            .transpose()
            .map_err(|_| unknown("escalate_percent"))?,
        window,
        pause: pause_secs.map_or(PauseUntil::Operator, |secs| {
            PauseUntil::After(read_secs(secs))
        }),
    }))
}

fn read_secs(secs: i32) -> Duration {
    Duration::from_secs(u64::from(secs.unsigned_abs()))
}
