//! Which notifications a command is about, and how carefully it changes them, as arguments.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;

use crate::store::verbs::Filter;

/// Conditions on notifications; all given ones must hold.
#[derive(Debug, Clone, Default, Args)]
pub struct SelectionArgs {
    /// This notification (repeatable)
    #[arg(long = "id", value_name = "ID")]
    pub ids: Vec<i64>,
    /// With this errcode of WeChat at the last attempt
    #[arg(long, value_name = "CODE", allow_negative_numbers = true)]
    pub errcode: Option<i64>,
    /// Of this template
    #[arg(long = "template", value_name = "TEMPLATE_ID")]
    pub template_id: Option<String>,
    /// Of this business object
    #[arg(long, value_name = "REF")]
    pub business_ref: Option<String>,
    /// Of this mini-program
    #[arg(long)]
    pub appid: Option<String>,
}

impl SelectionArgs {
    /// The selection as the store takes it; the statuses are the verb's to say.
    #[must_use]
    pub fn to_filter(&self) -> Filter {
        Filter {
            ids: (!self.ids.is_empty()).then(|| self.ids.clone()),
            errcode: self.errcode,
            template_id: self.template_id.clone(),
            business_ref: self.business_ref.clone(),
            appid: self.appid.clone(),
            statuses: None,
        }
    }
}

/// Options of every command that changes notifications.
#[derive(Debug, Clone, Args)]
pub struct ChangeArgs {
    /// Which notifications.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Only say what would be changed
    #[arg(long)]
    pub dry_run: bool,
    /// Change at most so many notifications
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Your reason, kept in operator_actions
    #[arg(long)]
    pub note: Option<String>,
}

/// Counts equal words, in alphabetical order.
pub fn tally<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Reads a time: RFC 3339 (`2026-11-22T15:01:00+08:00`), `now`, or a span from now (`+90s`, `+30m`, `+2h`, `+1d`).
///
/// # Errors
///
/// Says what a time looks like.
pub fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if text == "now" {
        return Ok(Utc::now());
    }
    let span = text.strip_prefix('+').and_then(|span| {
        let count: i64 = span.get(..span.len().checked_sub(1)?)?.parse().ok()?;
        let span = match span.chars().last()? {
            's' => TimeDelta::try_seconds(count)?,
            'm' => TimeDelta::try_minutes(count)?,
            'h' => TimeDelta::try_hours(count)?,
            'd' => TimeDelta::try_days(count)?,
            _ => return None,
        };
        Utc::now().checked_add_signed(span)
    });
    match span {
        Some(time) => Ok(time),
        None => DateTime::parse_from_rfc3339(text)
            .map(|time| time.with_timezone(&Utc))
            .map_err(|_| {
                "must be `now`, a span from now such as +90s, +30m, +2h or +1d, or a time with its zone such as 2026-11-22T15:01:00+08:00"
                    .to_owned()
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_now_a_span_or_a_moment_with_its_zone() {
        let moment = parse_time("2026-11-22T15:01:00+08:00").unwrap();
        assert_eq!(moment.to_rfc3339(), "2026-11-22T07:01:00+00:00");
        let ahead = parse_time("+2h").unwrap() - Utc::now();
        assert!((119..=120).contains(&ahead.num_minutes()), "{ahead}");
        assert!(
            (parse_time("now").unwrap() - Utc::now())
                .num_seconds()
                .abs()
                < 2
        );
    }

    #[test]
    fn a_time_without_zone_or_unit_is_refused_with_examples() {
        for text in [
            "",
            "+",
            "2026-11-22 15:01",
            "+2",
            "2h",
            "+2w",
            "+99999999999999999d",
            "+时",
        ] {
            let error = parse_time(text).unwrap_err();
            assert!(error.contains("+2h"), "{text}: {error}");
        }
    }
}
