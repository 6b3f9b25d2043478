//! How long to wait before what is away is tried again: the database, mostly.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff as _};

/// Waits between tries to reach something that is away: from a tenth of a second up to five, without end.
#[derive(Debug)]
pub struct Reconnect(ExponentialBackoff);

impl Reconnect {
    /// The first wait is the shortest.
    #[must_use]
    pub fn new() -> Self {
        Self(ExponentialBackoff {
            current_interval: Duration::from_millis(100),
            initial_interval: Duration::from_millis(100),
            max_interval: Duration::from_secs(5),
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// How long to wait now; longer each time.
    pub fn next_wait(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::new()
    }
}
