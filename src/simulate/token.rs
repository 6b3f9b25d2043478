//! The two token families of every app: minting, handing over, replacing, expiring.
//!
//! Start at [`Tokens`].

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use rand::rngs::StdRng;

use super::ledger::{TokenFamily, TokenRecord};

/// How long a fresh token lives.
pub(super) const LIFE: TimeDelta = TimeDelta::seconds(7200);
/// How long a replaced token still works, and how close to its end normal mode hands out a fresh one.
pub(super) const OVERLAP: TimeDelta = TimeDelta::seconds(300);
/// The least time between two forced refreshes; a sooner one refreshes nothing.
const FORCED_GAP: TimeDelta = TimeDelta::seconds(30);
/// Forced refreshes a day.
const FORCED_PER_DAY: u32 = 20;

const PREFIX: &str = "91_";
const RANDOM_CHARS: usize = 136;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What a token is worth at a given moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing<'a> {
    /// Works for this app.
    Valid(&'a str),
    /// Another token replaced it: 40001.
    Replaced,
    /// It lived its life: 42001.
    Expired,
    /// Looks like a token, but nobody minted it: 40001.
    Unknown,
    /// No token could look like this: 40014.
    Malformed,
}

/// A token handed out, with the seconds it has left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Issued {
    pub access_token: String,
    pub expires_in: i64,
}

/// The forced refreshes of the day are used up: 45009.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ForcedBudgetSpent;

/// The tokens of one family of one app that may still work.
#[derive(Debug, Default)]
struct Family {
    current: Option<usize>,
    previous: Option<usize>,
}

#[derive(Debug, Default)]
struct Forced {
    last_at: Option<DateTime<Utc>>,
    day: i64,
    used: u32,
}

/// Every token ever minted.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    minted: Vec<TokenRecord>,
    by_value: HashMap<String, usize>,
    families: HashMap<(String, TokenFamily), Family>,
    forced: HashMap<String, Forced>,
}

impl Tokens {
    pub fn minted(&self) -> &[TokenRecord] {
        &self.minted
    }

    /// The app a token was minted for, whether or not it still works.
    pub fn owner(&self, access_token: &str) -> Option<&str> {
        let index = *self.by_value.get(access_token)?;
        Some(&self.minted[index].appid)
    }

    pub fn standing(&self, access_token: &str, now: DateTime<Utc>) -> Standing<'_> {
        let Some(&index) = self.by_value.get(access_token) else {
            return if is_well_formed(access_token) {
                Standing::Unknown
            } else {
                Standing::Malformed
            };
        };
        let token = &self.minted[index];
        match token.replaced_at {
            Some(replaced_at) if now >= replaced_at && replaced_at < token.expires_at => {
                Standing::Replaced
            }
            _ if now >= token.expires_at => Standing::Expired,
            _ => Standing::Valid(&token.appid),
        }
    }

    /// `GET /cgi-bin/token`: always a new token; the one before works for five minutes more.
    pub fn issue_plain(&mut self, appid: &str, now: DateTime<Utc>, rng: &mut StdRng) -> Issued {
        let index = self.replace(appid, TokenFamily::Plain, now, now + OVERLAP, rng);
        self.issued(index, now)
    }

    /// `stable_token` in normal mode: the current token while it has more than five minutes left,
    /// else a fresh one; the old one lives out its life.
    pub fn issue_stable(&mut self, appid: &str, now: DateTime<Utc>, rng: &mut StdRng) -> Issued {
        if let Some(index) = self.current(appid, TokenFamily::Stable, now + OVERLAP) {
            return self.issued(index, now);
        }
        let index = self.replace(appid, TokenFamily::Stable, now, now + OVERLAP, rng);
        self.issued(index, now)
    }

    /// `stable_token` with `force_refresh`: a new token, at most 20 a day and 30 seconds apart.
    /// Sooner than that it refreshes nothing and costs nothing. The token before works for five
    /// minutes more, the one before that not at all, so two forced calls kill a leaked token.
    pub fn issue_forced(
        &mut self,
        appid: &str,
        now: DateTime<Utc>,
        rng: &mut StdRng,
    ) -> Result<Issued, ForcedBudgetSpent> {
        let forced = self.forced.entry(appid.to_owned()).or_default();
        let too_soon = forced
            .last_at
            .is_some_and(|last_at| now - last_at < FORCED_GAP);
        if too_soon {
            return Ok(self.issue_stable(appid, now, rng));
        }
        let today = super::quota::beijing_day(now);
        if forced.day != today {
            (forced.day, forced.used) = (today, 0);
        }
        if forced.used >= FORCED_PER_DAY {
            return Err(ForcedBudgetSpent);
        }
        forced.used += 1;
        forced.last_at = Some(now);
        let index = self.replace(appid, TokenFamily::Stable, now, now + OVERLAP, rng);
        Ok(self.issued(index, now))
    }

    /// A foreign system replaced the tokens until the ones known here died: both families move on
    /// and every earlier token stops working now. Costs none of the forced budget.
    pub fn steal(&mut self, appid: &str, now: DateTime<Utc>, rng: &mut StdRng) {
        for family in [TokenFamily::Plain, TokenFamily::Stable] {
            for token in self.living(appid, family) {
                let replaced_at = self.minted[token].replaced_at;
                self.minted[token].replaced_at = Some(replaced_at.map_or(now, |at| at.min(now)));
            }
            if self.current(appid, family, now).is_some() {
                self.replace(appid, family, now, now, rng);
            }
        }
    }

    /// The current tokens of both families expire now.
    pub fn expire(&mut self, appid: &str, now: DateTime<Utc>) {
        for family in [TokenFamily::Plain, TokenFamily::Stable] {
            for token in self.living(appid, family) {
                let expires_at = self.minted[token].expires_at;
                self.minted[token].expires_at = expires_at.min(now);
            }
        }
    }

    /// The token of a family that is current and lives past `until`.
    fn current(&self, appid: &str, family: TokenFamily, until: DateTime<Utc>) -> Option<usize> {
        let index = self.families.get(&(appid.to_owned(), family))?.current?;
        (self.minted[index].expires_at > until).then_some(index)
    }

    fn living(&self, appid: &str, family: TokenFamily) -> Vec<usize> {
        self.families
            .get(&(appid.to_owned(), family))
            .map(|family| family.current.into_iter().chain(family.previous).collect())
            .unwrap_or_default()
    }

    /// Mints the family's new current token. The current one works until `overlap_until`, the one
    /// before it stops working now.
    fn replace(
        &mut self,
        appid: &str,
        family: TokenFamily,
        now: DateTime<Utc>,
        overlap_until: DateTime<Utc>,
        rng: &mut StdRng,
    ) -> usize {
        let access_token = mint(rng);
        let index = self.minted.len();
        self.by_value.insert(access_token.clone(), index);
        self.minted.push(TokenRecord {
            appid: appid.to_owned(),
            family,
            access_token,
            minted_at: now,
            expires_at: now + LIFE,
            replaced_at: None,
        });
        let slot = self.families.entry((appid.to_owned(), family)).or_default();
        let older = std::mem::replace(&mut slot.previous, slot.current.replace(index));
        let ends = [(slot.previous, overlap_until), (older, now)];
        for (token, ends_at) in ends {
            if let Some(token) = token.map(|index| &mut self.minted[index]) {
                token.replaced_at = Some(token.replaced_at.map_or(ends_at, |at| at.min(ends_at)));
            }
        }
        index
    }

    fn issued(&self, index: usize, now: DateTime<Utc>) -> Issued {
        let token = &self.minted[index];
        Issued {
            access_token: token.access_token.clone(),
            expires_in: (token.expires_at - now).num_seconds(),
        }
    }
}

fn mint(rng: &mut StdRng) -> String {
    let mut token = String::with_capacity(PREFIX.len() + RANDOM_CHARS);
    token.push_str(PREFIX);
    for _ in 0..RANDOM_CHARS {
        token.push(char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]));
    }
    token
}

fn is_well_formed(access_token: &str) -> bool {
    access_token.len() == PREFIX.len() + RANDOM_CHARS
        && access_token.starts_with(PREFIX)
        && access_token.bytes().all(|byte| ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    struct World {
        tokens: Tokens,
        rng: StdRng,
        now: DateTime<Utc>,
    }

    impl World {
        fn new() -> Self {
            let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
            World {
                tokens: Tokens::default(),
                rng: StdRng::seed_from_u64(1),
                now,
            }
        }
        fn plain(&mut self) -> Issued {
            self.tokens.issue_plain("wx1", self.now, &mut self.rng)
        }
        fn stable(&mut self) -> Issued {
            self.tokens.issue_stable("wx1", self.now, &mut self.rng)
        }
        fn forced(&mut self) -> Result<Issued, ForcedBudgetSpent> {
            self.tokens.issue_forced("wx1", self.now, &mut self.rng)
        }
        fn pass(&mut self, seconds: i64) {
            self.now += TimeDelta::seconds(seconds);
        }
        fn standing(&self, issued: &Issued) -> Standing<'_> {
            self.tokens.standing(&issued.access_token, self.now)
        }
    }

    #[test]
    fn a_plain_call_displaces_the_token_before_after_five_minutes() {
        let mut world = World::new();
        let first = world.plain();
        world.pass(10);
        let second = world.plain();
        world.pass(299);
        assert_eq!(world.standing(&first), Standing::Valid("wx1"));
        world.pass(1);
        assert_eq!(world.standing(&first), Standing::Replaced);
        assert_eq!(world.standing(&second), Standing::Valid("wx1"));
    }

    #[test]
    fn only_the_latest_two_plain_tokens_work() {
        let mut world = World::new();
        let first = world.plain();
        let second = world.plain();
        let third = world.plain();
        assert_eq!(world.standing(&first), Standing::Replaced);
        assert_eq!(world.standing(&second), Standing::Valid("wx1"));
        assert_eq!(world.standing(&third), Standing::Valid("wx1"));
    }

    #[test]
    fn the_families_do_not_disturb_each_other() {
        let mut world = World::new();
        let stable = world.stable();
        for _ in 0..5 {
            world.plain();
            world.pass(301);
        }
        assert_eq!(world.standing(&stable), Standing::Valid("wx1"));
        let plain = world.plain();
        world.forced().unwrap();
        world.pass(301);
        assert_eq!(world.standing(&plain), Standing::Valid("wx1"));
    }

    #[test]
    fn normal_mode_counts_down_and_renews_in_the_last_five_minutes() {
        let mut world = World::new();
        let first = world.stable();
        assert_eq!(first.expires_in, 7200);
        world.pass(6855);
        let again = world.stable();
        assert_eq!(
            (&again.access_token, again.expires_in),
            (&first.access_token, 345)
        );
        world.pass(45);
        let fresh = world.stable();
        assert_ne!(fresh.access_token, first.access_token);
        assert_eq!(fresh.expires_in, 7200);
        world.pass(299);
        assert_eq!(world.standing(&first), Standing::Valid("wx1"));
        world.pass(1);
        assert_eq!(world.standing(&first), Standing::Expired);
    }

    #[test]
    fn two_forced_calls_thirty_seconds_apart_kill_a_leaked_token_at_once() {
        let mut world = World::new();
        let leaked = world.stable();
        let second = world.forced().unwrap();
        assert_eq!(world.standing(&leaked), Standing::Valid("wx1"));
        world.pass(29);
        assert_eq!(world.forced().unwrap().access_token, second.access_token);
        world.pass(1);
        assert_ne!(world.forced().unwrap().access_token, second.access_token);
        assert_eq!(world.standing(&leaked), Standing::Replaced);
    }

    #[test]
    fn the_forced_budget_is_twenty_a_day_and_returns_at_midnight_in_beijing() {
        let mut world = World::new();
        for _ in 0..20 {
            world.forced().unwrap();
            world.pass(30);
        }
        assert_eq!(world.forced(), Err(ForcedBudgetSpent));
        world.pass(86_400);
        assert!(world.forced().is_ok());
    }

    #[test]
    fn a_stolen_token_dies_at_once_and_normal_mode_gives_the_thief_s() {
        let mut world = World::new();
        let mine = world.stable();
        world.tokens.steal("wx1", world.now, &mut world.rng);
        assert_eq!(world.standing(&mine), Standing::Replaced);
        let theirs = world.stable();
        assert_ne!(theirs.access_token, mine.access_token);
        assert_eq!(world.standing(&theirs), Standing::Valid("wx1"));
    }

    #[test]
    fn an_expired_token_is_told_from_a_replaced_a_foreign_and_a_garbled_one() {
        let mut world = World::new();
        let token = world.stable();
        let garbled = &token.access_token[..100];
        assert_eq!(
            world.tokens.standing(garbled, world.now),
            Standing::Malformed
        );
        let foreign = mint(&mut StdRng::seed_from_u64(99));
        assert_eq!(
            world.tokens.standing(&foreign, world.now),
            Standing::Unknown
        );
        world.tokens.expire("wx1", world.now);
        assert_eq!(world.standing(&token), Standing::Expired);
        assert_ne!(world.stable().access_token, token.access_token);
    }
}
