//! Time zones: their names, and when the clocks of one change.

use chrono::{DateTime, Duration, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

/// The release of the zone data in this program, such as `2025b`.
pub const ZONE_DATA: &str = chrono_tz::IANA_TZDB_VERSION;

/// Why a text names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("time_zone: {name:?} is no IANA name; {advice}")]
pub struct UnknownZone {
    name: String,
    advice: String,
}

/// The zone with this IANA name, spelled as there.
///
/// # Errors
///
/// [`UnknownZone`] with the most similar name.
pub fn find_zone(name: &str) -> Result<Tz, UnknownZone> {
    name.parse().map_err(|_| UnknownZone {
        name: name.chars().take(60).collect(),
        advice: advise(name),
    })
}

fn advise(name: &str) -> String {
    let wanted: String = name.chars().take(60).collect::<String>().to_lowercase();
    let similarity = |zone: &Tz| {
        let known = zone.name().to_lowercase();
        let city = known.rsplit('/').next().unwrap_or(&known);
        strsim::jaro_winkler(&known, &wanted).max(strsim::jaro_winkler(city, &wanted))
    };
    let nearest = TZ_VARIANTS
        .iter()
        .max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    match nearest {
        Some(zone) if similarity(zone) > 0.85 => format!("write {:?}", zone.name()),
        _ => "write one such as \"Asia/Shanghai\"".to_owned(),
    }
}

/// How far the zone's clocks are ahead of UTC at an instant.
#[must_use]
pub fn offset_at(zone: Tz, instant: DateTime<Utc>) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&instant.naive_utc()).fix();
    Duration::seconds(offset.local_minus_utc().into())
}

/// What the zone's clocks show at an instant.
#[must_use]
pub fn local_at(zone: Tz, instant: DateTime<Utc>) -> NaiveDateTime {
    instant.naive_utc() + offset_at(zone, instant)
}

/// The first instant at which the zone's clocks show this wall time or, having leapt over it, a later one.
///
/// `None` beyond what the zone data know.
#[must_use]
pub fn first_instant_of(zone: Tz, wall: NaiveDateTime) -> Option<DateTime<Utc>> {
    let shown = zone.from_local_datetime(&wall).earliest();
    let instant = shown.or_else(|| GapInfo::new(&wall, &zone)?.end)?;
    Some(instant.to_utc())
}

/// 1 if the zone's clocks show at this instant what they have shown before, being put back; else 0.
#[must_use]
pub fn fold_at(zone: Tz, instant: DateTime<Utc>) -> i16 {
    let wall = local_at(zone, instant);
    i16::from(first_instant_of(zone, wall).is_some_and(|first| first < instant))
}

/// The first instant in `(from, to]` at which the zone's offset is another than at `from`.
///
/// Two changes within a day that cancel each other are not seen; no zone has had such since 1950.
#[must_use]
pub fn first_change(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let offset = offset_at(zone, from);
    let mut before = from;
    while before < to {
        let after = (before + Duration::days(1)).min(to);
        if offset_at(zone, after) != offset {
            return Some(bisect_change(zone, before, after));
        }
        before = after;
    }
    None
}

/// Between `before`, with the old offset, and `after`, with another: the first second of the new one.
fn bisect_change(zone: Tz, mut before: DateTime<Utc>, mut after: DateTime<Utc>) -> DateTime<Utc> {
    let offset = offset_at(zone, before);
    while after - before > Duration::seconds(1) {
        let middle = before + Duration::seconds((after - before).num_seconds() / 2);
        if offset_at(zone, middle) == offset {
            before = middle;
        } else {
            after = middle;
        }
    }
    after
}

/// The instants in `[from, from + days)` at which to compare two sets of zone data, with this program's offsets in
/// seconds: each day, and the last second before and the first after each change.
#[must_use]
pub fn sample_offsets(zone: Tz, from: DateTime<Utc>, days: u16) -> Vec<(DateTime<Utc>, i32)> {
    let until = from + Duration::days(days.into());
    let mut instants: Vec<_> = (0..days)
        .map(|day| from + Duration::days(day.into()))
        .collect();
    let mut looked = from;
    while let Some(change) = first_change(zone, looked, until) {
        instants.extend([change - Duration::seconds(1), change]);
        looked = change;
    }
    instants.sort_unstable();
    let offset_secs = |instant: &DateTime<Utc>| {
        zone.offset_from_utc_datetime(&instant.naive_utc())
            .fix()
            .local_minus_utc()
    };
    instants
        .iter()
        .map(|instant| (*instant, offset_secs(instant)))
        .collect()
}
