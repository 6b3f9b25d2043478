//! The time of reminders: which instants a calendar means. Pure, so every function takes the time it looks from.
//!
//! A *calendar* is a text and a time zone: a *pattern* (cron, five fields or six with seconds first), or an interval of
//! days with its anchor. It names *wall times*; the zone makes instants of them. A wall time and its *fold* (1: the second
//! time a clock shows it, after it was put back) are a fire's identity, so data of another release about a zone never make
//! a day fire twice.
//!
//! A pattern without `*` in minute and hour is *fixed*, and so is an interval: each wall time fires once, at the first
//! instant at which the clock shows it or, where the clock leaps over it, a later time. Any other pattern *follows real
//! time*: it fires whenever the clock shows such a time, so not at all in a gap and twice in an overlap.
//!
//! Start at [`calendar::Calendar::parse_cron`] and [`calendar::Calendar::fires_after`].

pub mod calendar;
pub mod pattern;
pub mod zone;
