//! Day and minute quotas, counted for each app and path.

use chrono::{DateTime, Datelike, Utc};

/// The number of the day in Beijing; quotas start anew when it changes, at 00:00 UTC+8.
pub(super) fn beijing_day(now: DateTime<Utc>) -> i64 {
    (now.timestamp() + 8 * 3600).div_euclid(86_400)
}

/// The number of the month in Beijing.
pub(super) fn beijing_month(now: DateTime<Utc>) -> i64 {
    let local = now + chrono::TimeDelta::hours(8);
    i64::from(local.year()) * 12 + i64::from(local.month0())
}

/// How many calls a path takes; `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub daily: Option<u64>,
    pub per_minute: Option<u64>,
}

/// Which quota a call ran into.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    /// 45009.
    Daily,
    /// 45011.
    PerMinute,
}

/// The calls of one app to one path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    day: i64,
    used_today: u64,
    minute: i64,
    used_this_minute: u64,
}

impl Meter {
    /// Counts a call, unless it exceeds a limit; a refused call is not counted.
    pub fn count(&mut self, limits: Limits, now: DateTime<Utc>) -> Result<(), Exceeded> {
        self.turn_over(now);
        if limits.daily.is_some_and(|daily| self.used_today >= daily) {
            return Err(Exceeded::Daily);
        }
        if limits
            .per_minute
            .is_some_and(|minute| self.used_this_minute >= minute)
        {
            return Err(Exceeded::PerMinute);
        }
        self.used_today += 1;
        self.used_this_minute += 1;
        Ok(())
    }

    /// Calls counted today.
    pub fn used_today(&mut self, now: DateTime<Utc>) -> u64 {
        self.turn_over(now);
        self.used_today
    }

    pub fn clear(&mut self) {
        *self = Meter::default();
    }

    fn turn_over(&mut self, now: DateTime<Utc>) {
        let (day, minute) = (beijing_day(now), now.timestamp().div_euclid(60));
        if self.day != day {
            (self.day, self.used_today) = (day, 0);
        }
        if self.minute != minute {
            (self.minute, self.used_this_minute) = (minute, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_day_turns_at_midnight_in_beijing() {
        let limits = Limits {
            daily: Some(1),
            per_minute: None,
        };
        let mut meter = Meter::default();
        assert_eq!(meter.count(limits, at("2026-11-22T15:59:59Z")), Ok(()));
        assert_eq!(
            meter.count(limits, at("2026-11-22T15:59:59Z")),
            Err(Exceeded::Daily)
        );
        assert_eq!(meter.count(limits, at("2026-11-22T16:00:00Z")), Ok(()));
    }

    #[test]
    fn the_minute_turns_on_the_minute() {
        let limits = Limits {
            daily: None,
            per_minute: Some(2),
        };
        let mut meter = Meter::default();
        for expected in [Ok(()), Ok(()), Err(Exceeded::PerMinute)] {
            assert_eq!(meter.count(limits, at("2026-11-22T15:00:59Z")), expected);
        }
        assert_eq!(meter.count(limits, at("2026-11-22T15:01:00Z")), Ok(()));
        assert_eq!(meter.used_today(at("2026-11-22T15:01:00Z")), 3);
    }

    #[test]
    fn the_month_is_beijing_s() {
        let (before, after) = (at("2026-11-30T15:59:59Z"), at("2026-11-30T16:00:00Z"));
        assert_eq!(beijing_month(after) - beijing_month(before), 1);
    }
}
