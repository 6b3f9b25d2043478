//! How many sends may be in flight. Pure: takes `now`.
//!
//! More sends at once than WeChat serves at once only wait there, and what waits too long ends in doubt. So the limit
//! follows what is observed, in windows of about a round trip:
//!
//! * *Refusals* (system busy, too many calls, 5xx, no answer in time) cut it by a third. Up to where they came the limit
//!   grows quickly again, then slowly: the way of TCP CUBIC.
//! * *Latency* beyond twice what a lightly loaded WeChat takes says that half of our sends are waiting: the limit is cut in
//!   proportion, as the Gradient limit of Netflix's concurrency-limits does. A cut that brings no relief shows that
//!   the latency is not of our making: then it is what WeChat takes now, and the limit grows again.
//! * Otherwise it grows by its square root a window while it is used at all; at first it trebles each round trip.
//!
//! Sources: RFC 9438 (CUBIC), Brakmo and Peterson's TCP Vegas, <https://github.com/Netflix/concurrency-limits>.
//!
//! Start at [`AdaptiveLimit::observe`].

use std::time::{Duration, Instant};

/// Where the limit begins, unless its maximum is lower.
const FIRST: f64 = 32.0;
/// At first each answer lets so many more sends begin beside the one that follows it: threefold each round trip.
const FIRST_GROWTH: f64 = 2.0;
/// A limit matters while at least one in so many of the sends that it allows are in flight.
const USED: f64 = 3.0;
/// A window lasts at least so long (the shorter span while the limit is trebled), at least one round trip, and has at least
/// so many samples.
const WINDOW_MIN: Duration = Duration::from_millis(100);
const FIRST_WINDOW_MIN: Duration = Duration::from_millis(10);
const SAMPLES_MIN: u32 = 8;
/// From this share of refusals on the limit is cut, by this factor.
const REFUSED_PERCENT: u32 = 2;
const CUT_FOR_REFUSALS: f64 = 0.7;
/// Latency may be so many times that of a lightly loaded WeChat, and a little more, which is our own scheduler's.
const LATENCY_TOLERATED: f64 = 2.0;
const LATENCY_NOISE_SECS: f64 = 0.02;
/// A cut for latency is no smaller than this, so that its relief can be told from chance, and no larger than that.
const CUT_FOR_LATENCY: (f64, f64) = (0.5, 0.8);
/// Relief is looked for when sends in flight have become so many times fewer.
const CLEARLY_FEWER: f64 = 0.85;
/// From this share of the limit at which refusals came it grows by so many a second only.
const NEAR_REFUSALS: f64 = 0.9;
const GROWTH_NEAR_REFUSALS_PER_SEC: f64 = 1.0;

/// One send that ended.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// From the request to the answer, or to giving up.
    pub latency: Duration,
    /// WeChat had no capacity for it, or gave no answer.
    pub refused: bool,
    /// Sends that were in flight when it began, this one included.
    pub in_flight: usize,
}

/// A limit that follows what WeChat can take.
#[derive(Debug)]
pub struct AdaptiveLimit {
    min: f64,
    max: f64,
    limit: f64,
    /// Trebling each round trip, until there is a reason not to.
    is_first_growth: bool,
    /// Seconds that a lightly loaded WeChat takes: the least mean of a window so far.
    unloaded_secs: Option<f64>,
    /// Where refusals last came.
    refused_at: Option<f64>,
    /// The last cut for latency, until its relief is seen.
    cut: Option<Cut>,
    /// Sends begun before tell how it was with the limit of then.
    cut_at: Option<Instant>,
    window: Window,
}

/// A cut for latency: how many sends were in flight before, and what they took.
#[derive(Debug, Clone, Copy)]
struct Cut {
    in_flight: f64,
    latency_secs: f64,
}

#[derive(Debug)]
struct Window {
    began_at: Instant,
    samples: u32,
    refused: u32,
    latency_secs: f64,
    in_flight: f64,
    in_flight_max: usize,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self {
            began_at: now,
            samples: 0,
            refused: 0,
            latency_secs: 0.0,
            in_flight: 0.0,
            in_flight_max: 0,
        }
    }

    fn latency_mean_secs(&self) -> f64 {
        self.latency_secs / f64::from(self.samples.max(1))
    }

    /// How many sends were in flight when those of the window began.
    fn in_flight_mean(&self) -> f64 {
        self.in_flight / f64::from(self.samples.max(1))
    }
}

impl AdaptiveLimit {
    /// A limit between `min` and `max` that has seen nothing yet. `min` is at least 1 and at most `max`.
    pub fn new(min: usize, max: usize, now: Instant) -> Self {
        let (min, max) = (as_f64(min), as_f64(max));
        Self {
            min,
            max,
            limit: FIRST.clamp(min, max),
            is_first_growth: true,
            unloaded_secs: None,
            refused_at: None,
            cut: None,
            cut_at: None,
            window: Window::new(now),
        }
    }

    /// Sends that may be in flight.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between two numbers that were a usize"
    )]
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Counts one send that ended; the limit from now on.
    pub fn observe(&mut self, sample: Sample, now: Instant) -> usize {
        let begun_at = now.checked_sub(sample.latency);
        if self
            .cut_at
            .is_some_and(|cut_at| begun_at.is_none_or(|begun_at| begun_at < cut_at))
        {
            return self.limit();
        }
        let window = &mut self.window;
        window.samples += 1;
        window.refused += u32::from(sample.refused);
        window.latency_secs += sample.latency.as_secs_f64();
        window.in_flight += as_f64(sample.in_flight);
        window.in_flight_max = window.in_flight_max.max(sample.in_flight);
        if self.is_first_growth && !sample.refused && self.is_used() {
            self.limit = (self.limit + FIRST_GROWTH).min(self.max);
        }
        let lasted = now.saturating_duration_since(self.window.began_at);
        let least = if self.is_first_growth {
            FIRST_WINDOW_MIN
        } else {
            WINDOW_MIN
        };
        let lasts = least.max(Duration::from_secs_f64(self.window.latency_mean_secs()));
        if self.window.samples >= SAMPLES_MIN && lasted >= lasts {
            self.conclude(now, lasted);
            self.window = Window::new(now);
        }
        self.limit()
    }

    /// Whether the limit, and not want of rows, decides how much is in flight.
    fn is_used(&self) -> bool {
        as_f64(self.window.in_flight_max) * USED >= self.limit
    }

    /// Draws the conclusion of a window that has ended.
    fn conclude(&mut self, now: Instant, lasted: Duration) {
        let latency_secs = self.window.latency_mean_secs();
        let in_flight = self.window.in_flight_mean();
        let is_refused = self.window.refused * 100 >= self.window.samples * REFUSED_PERCENT
            && self.window.refused > 0;
        if is_refused {
            if self.is_used() {
                self.refused_at = Some(self.limit);
                self.cut = None;
                self.cut_to(self.limit * CUT_FOR_REFUSALS, now);
            }
            // Refusals may come faster than any answer: they say nothing of latency.
            return;
        }
        let cut = self.cut.take();
        if cut.is_some_and(|cut| cut.brought_no_relief(in_flight, latency_secs)) {
            self.unloaded_secs = Some(latency_secs);
        }
        let unloaded_secs = self
            .unloaded_secs
            .unwrap_or(f64::INFINITY)
            .min(latency_secs);
        self.unloaded_secs = Some(unloaded_secs);
        if !self.is_used() {
            return;
        }
        let tolerated_secs = unloaded_secs * LATENCY_TOLERATED + LATENCY_NOISE_SECS;
        if latency_secs > tolerated_secs {
            self.cut = Some(Cut {
                in_flight,
                latency_secs,
            });
            let (most, least) = CUT_FOR_LATENCY;
            let factor = (tolerated_secs / latency_secs).clamp(most, least);
            self.cut_to(in_flight.min(self.limit) * factor, now);
        } else if !self.is_first_growth {
            self.grow(lasted);
        }
    }

    fn cut_to(&mut self, limit: f64, now: Instant) {
        self.is_first_growth = false;
        self.limit = limit.max(self.min);
        self.cut_at = Some(now);
    }

    fn grow(&mut self, lasted: Duration) {
        let slow = GROWTH_NEAR_REFUSALS_PER_SEC * lasted.as_secs_f64();
        let grown = match self.refused_at {
            Some(refused_at) if self.limit >= refused_at * NEAR_REFUSALS => self.limit + slow,
            Some(refused_at) => (self.limit + self.limit.sqrt()).min(refused_at * NEAR_REFUSALS),
            None => self.limit + self.limit.sqrt(),
        };
        self.limit = grown.min(self.max);
        if self.refused_at.is_some_and(|at| self.limit > at * 1.1) {
            self.refused_at = None;
        }
    }
}

impl Cut {
    /// If the sends waited for each other, latency falls as their number does. Less than half of that: they did not. Latency
    /// that goes on rising allows no conclusion yet.
    fn brought_no_relief(self, in_flight: f64, latency_secs: f64) -> bool {
        let share = in_flight / self.in_flight;
        let relieved_secs = self.latency_secs * f64::midpoint(1.0, share);
        share < CLEARLY_FEWER && (relieved_secs..self.latency_secs * 1.1).contains(&latency_secs)
    }
}

/// A number of sends, which is far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "at most some thousands")]
fn as_f64(sends: usize) -> f64 {
    sends as f64
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use proptest::prelude::*;

    use super::*;

    /// A server as queueing theory has it: serves so many at once, each in `service`, lets others wait, and refuses at
    /// once what comes while `refuses_from` are inside.
    #[derive(Debug, Clone, Copy)]
    struct Server {
        at_once: usize,
        service: Duration,
        refuses_from: usize,
    }

    impl Server {
        fn of(at_once: usize, service_ms: u64) -> Self {
            Self {
                at_once,
                service: Duration::from_millis(service_ms),
                refuses_from: usize::MAX,
            }
        }
    }

    /// Sends as fast as the limit allows.
    struct Client {
        limit: Box<dyn FnMut(Option<Sample>, Instant) -> usize>,
        now: Instant,
        /// When each of the server's places becomes free.
        places: BinaryHeap<Reverse<Instant>>,
        /// Sends in flight: when they end, when they began, whether they are refused, how many were in flight then.
        in_flight: BinaryHeap<Reverse<(Instant, Instant, bool, usize)>>,
        last_limit: usize,
        /// Rows to send; others come when these are done.
        rows_at_once_max: usize,
    }

    /// What some time of sending brought.
    #[derive(Debug, Default)]
    struct Tally {
        accepted: u32,
        refused: u32,
        latency: Duration,
        limit: usize,
    }

    impl Tally {
        fn per_second(&self, lasted: Duration) -> f64 {
            f64::from(self.accepted) / lasted.as_secs_f64()
        }

        fn latency_mean(&self) -> Duration {
            self.latency / (self.accepted + self.refused).max(1)
        }
    }

    impl Client {
        fn adaptive(min: usize, max: usize) -> Self {
            let now = Instant::now();
            let mut limit = AdaptiveLimit::new(min, max, now);
            Self::new(now, move |sample, now| match sample {
                Some(sample) => limit.observe(sample, now),
                None => limit.limit(),
            })
        }

        fn fixed(limit: usize) -> Self {
            Self::new(Instant::now(), move |_, _| limit)
        }

        fn new(
            now: Instant,
            mut limit: impl FnMut(Option<Sample>, Instant) -> usize + 'static,
        ) -> Self {
            Self {
                last_limit: limit(None, now),
                limit: Box::new(limit),
                now,
                places: BinaryHeap::new(),
                in_flight: BinaryHeap::new(),
                rows_at_once_max: usize::MAX,
            }
        }

        /// Sends to `server` for a while.
        fn send(&mut self, server: Server, lasts: Duration) -> Tally {
            let until = self.now + lasts;
            let mut tally = Tally::default();
            while self.now < until {
                while self.in_flight.len() < self.last_limit.min(self.rows_at_once_max) {
                    self.begin(server);
                }
                let Some(Reverse((ends_at, began_at, refused, in_flight))) = self.in_flight.pop()
                else {
                    break;
                };
                self.now = ends_at;
                let latency = ends_at - began_at;
                tally.latency += latency;
                tally.accepted += u32::from(!refused);
                tally.refused += u32::from(refused);
                let sample = Sample {
                    latency,
                    refused,
                    in_flight,
                };
                self.last_limit = (self.limit)(Some(sample), ends_at);
            }
            tally.limit = self.last_limit;
            tally
        }

        fn begin(&mut self, server: Server) {
            let in_flight = self.in_flight.len() + 1;
            let inside = self.in_flight.iter().filter(|sent| !sent.0.2).count();
            if inside >= server.refuses_from {
                let ends_at = self.now + Duration::from_millis(2);
                self.in_flight
                    .push(Reverse((ends_at, self.now, true, in_flight)));
                return;
            }
            while self.places.len() > server.at_once {
                self.places.pop();
            }
            while self.places.len() < server.at_once {
                self.places.push(Reverse(self.now));
            }
            let free_at = self.places.pop().map_or(self.now, |place| place.0);
            let ends_at = free_at.max(self.now) + server.service;
            self.places.push(Reverse(ends_at));
            self.in_flight
                .push(Reverse((ends_at, self.now, false, in_flight)));
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_server_with_room_for_all_gets_all_within_a_few_round_trips() {
        let mut client = Client::adaptive(4, 256);
        let tally = client.send(Server::of(1000, 50), 8 * SECOND);
        assert_eq!(tally.limit, 256);
        let of_ideal = tally.per_second(8 * SECOND) / 5120.0;
        assert!(of_ideal > 0.98, "{of_ideal}");
    }

    #[test]
    fn a_server_that_is_smaller_is_kept_busy_without_a_long_queue() {
        let mut client = Client::adaptive(4, 256);
        let server = Server::of(20, 50);
        client.send(server, 5 * SECOND);
        let tally = client.send(server, 20 * SECOND);
        let latency = tally.latency_mean();
        assert!(tally.per_second(20 * SECOND) > 0.97 * 400.0, "{tally:?}");
        assert!(latency < Duration::from_millis(150), "{latency:?}");
        let fixed = Client::fixed(256).send(server, 20 * SECOND);
        assert!(fixed.latency_mean() > 3 * latency, "{fixed:?}");
    }

    #[test]
    fn a_server_that_refuses_is_seldom_made_to() {
        let server = Server {
            refuses_from: 60,
            ..Server::of(50, 50)
        };
        let mut client = Client::adaptive(4, 256);
        let tally = client.send(server, 30 * SECOND);
        let refused = f64::from(tally.refused) / f64::from(tally.accepted);
        assert!(refused < 0.02, "{tally:?}");
        assert!(tally.per_second(30 * SECOND) > 0.9 * 1000.0, "{tally:?}");
        let fixed = Client::fixed(256).send(server, 30 * SECOND);
        assert!(fixed.refused > 10 * tally.refused, "{fixed:?} {tally:?}");
    }

    #[test]
    fn when_the_server_shrinks_and_grows_the_limit_follows() {
        let mut client = Client::adaptive(4, 128);
        let (large, small) = (Server::of(200, 40), Server::of(10, 40));
        assert_eq!(client.send(large, 5 * SECOND).limit, 128);
        let tally = client.send(small, 10 * SECOND);
        assert!((10..60).contains(&tally.limit), "{tally:?}");
        assert_eq!(client.send(large, 10 * SECOND).limit, 128);
    }

    /// The network became slower, or others load WeChat: fewer sends of ours change nothing about it.
    #[test]
    fn latency_that_is_not_of_our_making_costs_no_concurrency() {
        let mut client = Client::adaptive(4, 128);
        client.send(Server::of(1000, 30), 5 * SECOND);
        client.send(Server::of(1000, 200), 10 * SECOND);
        let tally = client.send(Server::of(1000, 200), 20 * SECOND);
        assert_eq!(tally.limit, 128);
        assert!(tally.per_second(20 * SECOND) > 0.95 * 640.0, "{tally:?}");
    }

    #[test]
    fn a_few_rows_now_and_then_move_nothing() {
        let mut client = Client::adaptive(4, 128);
        client.send(Server::of(1000, 50), 5 * SECOND);
        client.rows_at_once_max = 3;
        let slow = Server::of(1000, 400);
        let tally = client.send(slow, 60 * SECOND);
        assert_eq!(tally.limit, 128);
    }

    #[test]
    fn what_was_in_flight_at_a_cut_does_not_cut_again() {
        let mut now = Instant::now();
        let mut limit = AdaptiveLimit::new(1, 64, now);
        let refused = Sample {
            latency: Duration::from_millis(50),
            refused: true,
            in_flight: 32,
        };
        now += SECOND;
        let after: Vec<usize> = (0..32).map(|_| limit.observe(refused, now)).collect();
        assert_eq!(after.last(), Some(&22), "{after:?}");
    }

    #[test]
    fn one_refusal_in_hundreds_is_no_reason() {
        let mut client = Client::adaptive(4, 64);
        client.send(Server::of(1000, 50), 5 * SECOND);
        let refused = Sample {
            latency: Duration::from_millis(50),
            refused: true,
            in_flight: 64,
        };
        let now = client.now;
        assert_eq!((client.limit)(Some(refused), now), 64);
        assert_eq!(client.send(Server::of(1000, 50), SECOND).limit, 64);
    }

    proptest! {
        #[test]
        fn the_limit_stays_between_its_bounds(
            min in 1_usize..50,
            more in 0_usize..500,
            sends in proptest::collection::vec((0_u64..20_000, any::<bool>(), 0_usize..600, 0_u64..500), 1..400),
        ) {
            let mut now = Instant::now();
            let mut limit = AdaptiveLimit::new(min, min + more, now);
            for (millis, refused, in_flight, passed) in sends {
                now += Duration::from_millis(passed);
                let sample = Sample { latency: Duration::from_millis(millis), refused, in_flight };
                let limit = limit.observe(sample, now);
                prop_assert!((min..=min + more).contains(&limit), "{}", limit);
            }
        }
    }
}
