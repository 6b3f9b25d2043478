//! Slices of rates, free of input and output: how many sends of each mini-program were granted and are left.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A slice is used within this, or is lost.
const LASTS: Duration = Duration::from_secs(1);

/// What was granted to this worker, by mini-program.
#[derive(Debug, Default)]
pub(super) struct Slices {
    granted: HashMap<String, Slice>,
}

#[derive(Debug)]
struct Slice {
    left: usize,
    until: Instant,
    /// More was wanted: when it is used up there is nothing to be had for a while.
    is_less: bool,
}

impl Slices {
    /// How many sends are left of the last slice; `None`: a new one is to be asked for.
    pub(super) fn left(&self, appid: &str, now: Instant) -> Option<usize> {
        let slice = self.granted.get(appid)?;
        (slice.left > 0 && slice.until > now).then_some(slice.left)
    }

    /// Of the `wanted` sends so many were granted.
    pub(super) fn grant(&mut self, appid: &str, granted: usize, wanted: usize, now: Instant) {
        let slice = Slice {
            left: granted,
            until: now + LASTS,
            is_less: granted < wanted,
        };
        self.granted.insert(appid.to_owned(), slice);
    }

    /// So many rows were leased. True: nothing is left, and there was less than was wanted.
    pub(super) fn spend(&mut self, appid: &str, rows: usize) -> bool {
        let Some(slice) = self.granted.get_mut(appid) else {
            return false;
        };
        slice.left = slice.left.saturating_sub(rows);
        slice.left == 0 && slice.is_less
    }

    /// Forgets those of mini-programs that have no rate any more: nothing holds them back.
    pub(super) fn keep(&mut self, has_rate: impl Fn(&str) -> bool) {
        self.granted.retain(|appid, _| has_rate(appid));
    }

    /// Forgets all: the server may be another.
    pub(super) fn clear(&mut self) {
        self.granted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_spent_row_by_row_and_lost_after_a_second() {
        let now = Instant::now();
        let mut slices = Slices::default();
        assert_eq!(slices.left("wx1", now), None);
        slices.grant("wx1", 10, 64, now);
        assert!(!slices.spend("wx1", 4));
        assert_eq!(slices.left("wx1", now), Some(6));
        assert_eq!(slices.left("wx1", now + LASTS), None);
        assert!(slices.spend("wx1", 6));
        assert_eq!(slices.left("wx1", now), None);
    }

    #[test]
    fn who_was_granted_all_that_was_wanted_may_ask_again_at_once() {
        let mut slices = Slices::default();
        slices.grant("wx1", 64, 64, Instant::now());
        assert!(!slices.spend("wx1", 64));
    }

    /// A slice that was used up once held back each lease of a mini-program whose rate had been lifted.
    #[test]
    fn a_rate_that_was_lifted_holds_nothing_back() {
        let mut slices = Slices::default();
        slices.grant("wx1", 10, 64, Instant::now());
        assert!(slices.spend("wx1", 10));
        slices.keep(|_| false);
        assert!(!slices.spend("wx1", 64));
    }
}
