//! Calendars: a pattern or an interval in a zone, and the instants at which it fires.

use chrono::{DateTime, Days, Duration, NaiveDateTime, SubsecRound, Utc};
use chrono_tz::Tz;

use super::pattern::{BadPattern, Pattern};
use super::zone::{self, UnknownZone};

/// How many days an interval may have at most: ten years.
const DAYS_MAX: u32 = 3660;

/// A moment at which a calendar fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FireTime {
    /// The wall time the calendar names. Where the clocks leap over it, they show a later one at `fire_at`.
    pub local_at: NaiveDateTime,
    /// 1 for the second time the clocks show `local_at`, having been put back; else 0.
    pub fold: i16,
    /// The instant.
    pub fire_at: DateTime<Utc>,
}

/// Why a text is no calendar, with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCalendar {
    /// The cron text.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// The zone.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
    /// The interval.
    #[error(
        "every: {0} days: write whole days or weeks, 1 day to {DAYS_MAX} days, as in 3 days or 2 weeks"
    )]
    Interval(i32),
}

/// A pattern or an interval in a zone.
#[derive(Debug, Clone)]
pub struct Calendar {
    rule: Rule,
    zone: Tz,
}

#[derive(Debug, Clone)]
enum Rule {
    Cron(Box<Pattern>),
    Every {
        step_days: u32,
        anchor: NaiveDateTime,
    },
}

impl Calendar {
    /// A cron text in a zone with an IANA name.
    ///
    /// # Errors
    ///
    /// [`BadCalendar`] says what to write instead.
    pub fn parse_cron(cron: &str, zone: &str) -> Result<Self, BadCalendar> {
        Ok(Self {
            rule: Rule::Cron(Box::new(Pattern::parse(cron)?)),
            zone: zone::find_zone(zone)?,
        })
    }

    /// Every so many days in a zone with an IANA name. `anchor` is the wall time of the first fire.
    ///
    /// # Errors
    ///
    /// [`BadCalendar`] says what to write instead.
    pub fn parse_every(days: i32, anchor: NaiveDateTime, zone: &str) -> Result<Self, BadCalendar> {
        let step_days = u32::try_from(days)
            .ok()
            .filter(|days| (1..=DAYS_MAX).contains(days));
        Ok(Self {
            rule: Rule::Every {
                step_days: step_days.ok_or(BadCalendar::Interval(days))?,
                anchor,
            },
            zone: zone::find_zone(zone)?,
        })
    }

    /// Its zone.
    #[must_use]
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// When it fires after an instant, in order, each instant once. Ends where nothing comes within 41 years.
    pub fn fires_after(&self, instant: DateTime<Utc>) -> impl Iterator<Item = FireTime> + '_ {
        std::iter::successors(self.find_fire(instant), |last| self.find_fire(last.fire_at))
    }

    /// The first fire after an instant.
    #[must_use]
    pub fn find_fire(&self, after: DateTime<Utc>) -> Option<FireTime> {
        let after = after.trunc_subsecs(0);
        match &self.rule {
            Rule::Cron(pattern) if !pattern.is_fixed() => self.find_running(pattern, after),
            Rule::Cron(pattern) => self.find_fixed(after, |from| pattern.find_wall(from)),
            Rule::Every { step_days, anchor } => {
                self.find_fixed(after, |from| find_multiple(*step_days, *anchor, from))
            }
        }
    }

    /// Each wall time once: the first that comes later than `after`. Of several that a gap moves to one instant, the first.
    fn find_fixed(
        &self,
        after: DateTime<Utc>,
        find_wall: impl Fn(NaiveDateTime) -> Option<NaiveDateTime>,
    ) -> Option<FireTime> {
        // A wall time that is earlier than the one at `after` comes no later than `after`.
        let mut from = zone::local_at(self.zone, after);
        loop {
            let local_at = find_wall(from)?;
            let fire_at = zone::first_instant_of(self.zone, local_at)?;
            if fire_at > after {
                return Some(FireTime {
                    local_at,
                    fold: 0,
                    fire_at,
                });
            }
            from = local_at.checked_add_signed(Duration::seconds(1))?;
        }
    }

    /// Whenever the clocks show such a time: looks through one stretch with the same offset after another.
    fn find_running(&self, pattern: &Pattern, after: DateTime<Utc>) -> Option<FireTime> {
        let mut from = after.checked_add_signed(Duration::seconds(1))?;
        loop {
            let local_at = pattern.find_wall(zone::local_at(self.zone, from))?;
            let fire_at = (local_at - zone::offset_at(self.zone, from)).and_utc();
            match zone::first_change(self.zone, from, fire_at) {
                Some(change) => from = change,
                None => {
                    let fold = zone::fold_at(self.zone, fire_at);
                    return Some(FireTime {
                        local_at,
                        fold,
                        fire_at,
                    });
                }
            }
        }
    }
}

/// The first of `anchor`, `step_days` later, twice as much later and so on that is at or after `from`.
fn find_multiple(
    step_days: u32,
    anchor: NaiveDateTime,
    from: NaiveDateTime,
) -> Option<NaiveDateTime> {
    let step_days = u64::from(step_days);
    let days_gone = u64::try_from((from - anchor).num_days()).unwrap_or(0);
    let wall = anchor.checked_add_days(Days::new(days_gone / step_days * step_days))?;
    if wall >= from {
        return Some(wall);
    }
    wall.checked_add_days(Days::new(step_days))
}
