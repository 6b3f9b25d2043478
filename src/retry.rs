//! When the next attempt comes: exponential backoff with full jitter, capped. Pure but for the dice.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff as _};

/// How attempts are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest wait before the second attempt.
    pub base: Duration,
    /// The longest wait before any attempt.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(5),
            cap: Duration::from_secs(3600),
        }
    }
}

/// No attempt follows another sooner than this, whatever the dice say.
pub const WAIT_MIN: Duration = Duration::from_secs(1);

impl RetryPolicy {
    /// The wait after attempt number `attempt` (from 1): uniform between [`WAIT_MIN`] and `base · 2^(attempt − 1)`,
    /// at most `cap`.
    ///
    /// Full jitter: rows that failed together do not come back together.
    pub fn wait_after(&self, attempt: u32) -> Duration {
        let longest = self.longest_wait_after(attempt);
        // The crate draws from `interval · (1 ± factor)`: around half of the longest wait, the whole range from zero.
        let mut backoff = ExponentialBackoff {
            current_interval: longest / 2,
            initial_interval: longest / 2,
            randomization_factor: 1.0,
            max_interval: self.cap,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let wait = backoff.next_backoff().unwrap_or(longest);
        wait.clamp(WAIT_MIN, self.cap.max(WAIT_MIN))
    }

    /// The upper end of [`Self::wait_after`].
    pub fn longest_wait_after(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_wait_doubles_up_to_the_cap() {
        let policy = RetryPolicy::default();
        let longest: Vec<u64> = (1..=12)
            .map(|attempt| policy.longest_wait_after(attempt).as_secs())
            .collect();
        assert_eq!(
            longest,
            [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
        );
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let policy = RetryPolicy {
            base: Duration::from_secs(100),
            cap: Duration::from_secs(3600),
        };
        let waits: Vec<f64> = (0..2000)
            .map(|_| policy.wait_after(1).as_secs_f64())
            .collect();
        for tenth in 0..10 {
            let range = f64::from(tenth) * 10.0..f64::from(tenth + 1) * 10.0;
            let share = waits.iter().filter(|wait| range.contains(wait)).count();
            assert!(
                (100..320).contains(&share),
                "{share} of 2000 waits in {range:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_never_below_the_least_nor_above_the_cap(attempt in any::<u32>(), base in 1u64..100_000, cap in 1u64..10_000_000) {
            let policy = RetryPolicy { base: Duration::from_millis(base), cap: Duration::from_millis(cap) };
            let wait = policy.wait_after(attempt);
            prop_assert!(wait >= WAIT_MIN);
            prop_assert!(wait <= policy.longest_wait_after(attempt).max(WAIT_MIN));
        }
    }
}
