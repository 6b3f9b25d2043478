//! One shared access token per mini-program, refreshed once however many ask for it.
//!
//! The token lives in one row per mini-program; this process remembers it, so that a send costs no SQL. It is refreshed
//! in the background before its end ([`TokenKeeper::keep_fresh`]): nobody waits while a token has life. Who learns from
//! WeChat that a token is dead says which *generation* failed ([`TokenKeeper::replace`]); only the latest generation can
//! be replaced, once. Within the process one task asks for all; across processes one has the *claim* to fetch.
//!
//! Tokens come from `stable_token` in normal mode, which gives every worker the same one. If WeChat hands back the very
//! token that failed, it is tried once more; if it fails again, one *forced* refresh is made within WeChat's budget.
//! Forcing breaks the token of everybody else who uses the mini-program's secret, so it comes last.
//!
//! Start at [`TokenKeeper::token`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::{
    store::{Store, StoreError, TokenClaim},
    telemetry,
    wechat::{
        Wechat,
        access_token::{AccessToken, FetchError, FetchedToken},
    },
};

/// Spans of the keeper; the defaults follow WeChat's documentation.
#[derive(Debug, Clone, Copy)]
pub struct TokenKeeperOptions {
    /// A token is refreshed in the background this long before its end. Within its last 5 minutes WeChat gives a new one.
    pub refresh_before: Duration,
    /// Background refreshes are spread over so long, that workers do not all ask at once.
    pub refresh_spread: Duration,
    /// The least time from a fetch to the next background refresh, for tokens that come with little life.
    pub refresh_gap: Duration,
    /// How often to look whether another process has fetched the token.
    pub poll: Duration,
    /// How long a token that failed twice is left before it is fetched once more.
    pub settle_wait: Duration,
    /// How long others respect the claim of a process that may have died, beyond the request time-out.
    pub claim_margin: Duration,
}

impl Default for TokenKeeperOptions {
    fn default() -> Self {
        Self {
            refresh_before: Duration::from_secs(300),
            refresh_spread: Duration::from_secs(60),
            refresh_gap: Duration::from_secs(5),
            poll: Duration::from_millis(200),
            settle_wait: Duration::from_secs(3),
            claim_margin: Duration::from_secs(5),
        }
    }
}

/// Why there is no token. Nothing was sent with it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// This process does not have the mini-program's secret: another may.
    #[error(
        "no AppSecret for {appid} is set here: set WXNOTIFY_APPSECRET_{appid} or WXNOTIFY_APPSECRET_FILE_{appid}"
    )]
    NoSecret {
        /// The one that rows wait for, and whose secret is missing.
        appid: String,
    },
    /// WeChat refused or did not answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// WeChat keeps handing back a token that it refuses, and no forced refresh is to be had now.
    #[error(
        "WeChat refuses the access token that it hands out, and today's forced refreshes are used up or too close together"
    )]
    Irreplaceable,
    /// It is being fetched and takes longer than this caller waits.
    #[error("the access token is still being fetched")]
    Busy,
    /// The token's row could not be read or written.
    #[error("the access token's row: {0}")]
    Store(Arc<StoreError>),
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Keeps the access tokens of the mini-programs whose secret this process has. Cheap to clone.
#[derive(Clone)]
pub struct TokenKeeper {
    keeper: Arc<Keeper>,
}

struct Keeper {
    store: Store,
    wechat: Arc<Wechat>,
    worker: String,
    options: TokenKeeperOptions,
    apps: HashMap<String, Arc<App>>,
}

struct App {
    appid: String,
    secret: SecretString,
    cached: RwLock<Option<Cached>>,
    /// Held by the one task that asks for the token.
    turn: tokio::sync::Mutex<()>,
    /// Answers those who were waiting when it happened: a failure is not repeated by each of them.
    last_failure: Mutex<Option<(Instant, TokenError)>>,
}

#[derive(Clone)]
struct Cached {
    token: AccessToken,
    expires_at: Instant,
    refresh_at: Instant,
}

/// Left of a token's life when it is no longer used for a new send.
const LIFE_MIN: Duration = Duration::from_secs(2);

impl TokenKeeper {
    /// A keeper with an empty memory. `secrets` maps appid to AppSecret; `worker` is this process's name and epoch.
    pub fn new(
        store: Store,
        wechat: Arc<Wechat>,
        secrets: HashMap<String, SecretString>,
        worker: String,
    ) -> Self {
        Self::with_options(
            store,
            wechat,
            secrets,
            worker,
            TokenKeeperOptions::default(),
        )
    }

    /// As [`Self::new`], with spans of the caller's.
    pub fn with_options(
        store: Store,
        wechat: Arc<Wechat>,
        secrets: HashMap<String, SecretString>,
        worker: String,
        options: TokenKeeperOptions,
    ) -> Self {
        let apps = secrets
            .into_iter()
            .map(|(appid, secret)| {
                let app = App {
                    appid: appid.clone(),
                    secret,
                    cached: RwLock::new(None),
                    turn: tokio::sync::Mutex::new(()),
                    last_failure: Mutex::new(None),
                };
                (appid, Arc::new(app))
            })
            .collect();
        Self {
            keeper: Arc::new(Keeper {
                store,
                wechat,
                worker,
                options,
                apps,
            }),
        }
    }

    /// The mini-programs whose secret this process has, in no order.
    pub fn appids(&self) -> impl Iterator<Item = &str> {
        self.keeper.apps.keys().map(String::as_str)
    }

    /// The mini-program's AppSecret, if this process has it.
    pub(crate) fn secret(&self, appid: &str) -> Option<&SecretString> {
        self.keeper.apps.get(appid).map(|app| &app.secret)
    }

    /// The mini-program's token. Waits, at most `wait`, only when there is none with life left.
    ///
    /// # Errors
    ///
    /// [`TokenError`]; the caller sends nothing.
    pub async fn token(&self, appid: &str, wait: Duration) -> Result<AccessToken, TokenError> {
        let app = self.app(appid)?;
        match app.cached() {
            Some(cached) if cached.expires_at > Instant::now() + LIFE_MIN => Ok(cached.token),
            _ => self.obtain(app, None, LIFE_MIN, wait).await,
        }
    }

    /// Gets the tokens of mini-programs whose rows are about to be sent, a few at a time, so that the sends need not wait
    /// for them. A failure is met again by who needs the token.
    pub fn warm(&self, appids: impl IntoIterator<Item = String>) {
        const AT_ONCE: usize = 4;
        let cold = |appid: &String| self.app(appid).is_ok_and(|app| app.cached().is_none());
        let appids: Vec<String> = appids.into_iter().filter(cold).collect();
        if appids.is_empty() {
            return;
        }
        let (tokens, wait) = (self.clone(), self.keeper.claim_for());
        tokio::spawn(async move {
            futures::stream::iter(appids)
                .for_each_concurrent(AT_ONCE, async |appid| {
                    let _ = tokens.token(&appid, wait).await;
                })
                .await;
        });
    }

    /// The token that replaces `failed`, which WeChat refused. However many ask, it is replaced once.
    ///
    /// # Errors
    ///
    /// [`TokenError`]; with [`TokenError::Busy`] the replacement goes on without the caller.
    pub async fn replace(
        &self,
        appid: &str,
        failed: &AccessToken,
        wait: Duration,
    ) -> Result<AccessToken, TokenError> {
        let app = self.app(appid)?;
        match app.cached() {
            Some(cached) if cached.token.generation() > failed.generation() => Ok(cached.token),
            _ => {
                self.obtain(app, Some(failed.generation()), LIFE_MIN, wait)
                    .await
            }
        }
    }

    /// Refreshes tokens that are in use shortly before their end, until dropped. Run it beside the worker.
    pub async fn keep_fresh(&self) {
        const LOOK_EVERY: Duration = Duration::from_secs(30);
        loop {
            let now = Instant::now();
            let mut next_at = now + LOOK_EVERY;
            for app in self.keeper.apps.values() {
                match app.cached() {
                    Some(cached) if cached.refresh_at <= now => self.refresh(app).await,
                    Some(cached) => next_at = next_at.min(cached.refresh_at),
                    None => {}
                }
            }
            tokio::time::sleep_until(next_at).await;
        }
    }

    async fn refresh(&self, app: &Arc<App>) {
        let life_min = self.keeper.options.refresh_before;
        let wait = self.keeper.claim_for();
        if let Err(error) = self.obtain(app, None, life_min, wait).await {
            warn!(appid = %app.appid, "The access token was not refreshed before its end, trying again: {error}");
        }
    }

    fn app(&self, appid: &str) -> Result<&Arc<App>, TokenError> {
        let app = self.keeper.apps.get(appid);
        app.ok_or_else(|| TokenError::NoSecret {
            appid: appid.to_owned(),
        })
    }

    /// Asks in a task of its own: a caller that stops waiting does not stop the fetch that others wait for.
    async fn obtain(
        &self,
        app: &Arc<App>,
        failed: Option<i64>,
        life_min: Duration,
        wait: Duration,
    ) -> Result<AccessToken, TokenError> {
        let asked_at = Instant::now();
        let (keeper, app) = (Arc::clone(&self.keeper), Arc::clone(app));
        let asking = tokio::spawn(async move {
            let _turn = app.turn.lock().await;
            if let Some(answer) = app.answered_since(asked_at, failed, life_min) {
                return answer;
            }
            let answer = keeper.ask(&app, failed, life_min).await;
            if let Err(error) = &answer {
                *lock(&app.last_failure) = Some((Instant::now(), error.clone()));
            }
            answer
        });
        match timeout(wait, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panicked)) => Err(TokenError::Busy),
            Err(_elapsed) => Err(TokenError::Busy),
        }
    }
}

impl App {
    fn cached(&self) -> Option<Cached> {
        self.cached
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What another task's asking brought while this one waited for its turn.
    fn answered_since(
        &self,
        asked_at: Instant,
        failed: Option<i64>,
        life_min: Duration,
    ) -> Option<Result<AccessToken, TokenError>> {
        if let Some(cached) = self.cached()
            && failed.is_none_or(|failed| cached.token.generation() > failed)
            && cached.expires_at > Instant::now() + life_min
        {
            return Some(Ok(cached.token));
        }
        let last_failure = lock(&self.last_failure);
        let (failed_at, error) = last_failure.as_ref()?;
        (*failed_at >= asked_at).then(|| Err(error.clone()))
    }
}

impl Keeper {
    fn claim_for(&self) -> Duration {
        self.wechat.request_timeout() + self.options.claim_margin
    }

    /// Takes the token from its row, or fetches it under a claim, or waits for who has the claim.
    async fn ask(
        &self,
        app: &App,
        failed: Option<i64>,
        life_min: Duration,
    ) -> Result<AccessToken, TokenError> {
        let give_up_at = Instant::now() + 2 * self.claim_for();
        while Instant::now() < give_up_at {
            let claim = self
                .store
                .claim_token(&app.appid, &self.worker, failed, life_min, self.claim_for())
                .await?;
            match claim {
                TokenClaim::Have { token, life } => return Ok(self.remember(app, token, life)),
                TokenClaim::Wait => sleep(self.options.poll).await,
                TokenClaim::Claimed {
                    claim,
                    current,
                    unchanged,
                } => {
                    let handed_back =
                        current.filter(|token| unchanged > 0 && failed >= Some(token.generation()));
                    let fetched = self.fetch_under(app, claim, failed, handed_back).await;
                    if let Some(token) = fetched? {
                        return Ok(token);
                    }
                }
            }
        }
        Err(TokenError::Busy)
    }

    /// Fetches and stores under a claim; `None` when the claim was lost meanwhile. Gives the claim back on failure.
    ///
    /// `handed_back` is the token that WeChat refused, handed out again, and refused again.
    async fn fetch_under(
        &self,
        app: &App,
        claim: i64,
        failed: Option<i64>,
        handed_back: Option<AccessToken>,
    ) -> Result<Option<AccessToken>, TokenError> {
        let reason = if failed.is_some() {
            "refused"
        } else {
            "expiring"
        };
        let fetched = match &handed_back {
            Some(token) => self.fetch_another(app, claim, token).await,
            None => self.fetch(app, false, reason).await,
        };
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                // Left to its time-out when this fails too.
                let _ = self.store.release_token_claim(&app.appid, claim).await;
                return Err(error);
            }
        };
        let stored = self
            .store
            .store_token(&app.appid, &self.worker, claim, &fetched, failed)
            .await?;
        if stored.foreign_refresh {
            warn!(
                appid = %app.appid,
                generation = stored.generation,
                "The access token died early though no worker replaced it: something else refreshes it by force or \
                 uses the mini-program's secret; move it to stable_token in normal mode"
            );
        }
        if !stored.stored {
            return Ok(None);
        }
        info!(appid = %app.appid, generation = stored.generation, "Access token refreshed");
        let token = AccessToken::new(fetched.token, stored.generation);
        Ok(Some(self.remember(app, token, fetched.expires_in)))
    }

    /// WeChat has handed back a token that failed, and it failed again: wait, fetch, and only then force.
    async fn fetch_another(
        &self,
        app: &App,
        claim: i64,
        refused: &AccessToken,
    ) -> Result<FetchedToken, TokenError> {
        sleep(self.options.settle_wait).await;
        let fetched = self.fetch(app, false, "refused").await?;
        if fetched.token.expose_secret() != refused.expose() {
            return Ok(fetched);
        }
        if !self.store.take_forced_refresh(&app.appid, claim).await? {
            return Err(TokenError::Irreplaceable);
        }
        warn!(appid = %app.appid, "WeChat refuses the access token that it hands out: forcing a refresh");
        self.fetch(app, true, "forced").await
    }

    async fn fetch(
        &self,
        app: &App,
        force: bool,
        reason: &'static str,
    ) -> Result<FetchedToken, TokenError> {
        let asked_at = Instant::now();
        let mut fetched = self
            .wechat
            .fetch_access_token(&app.appid, &app.secret, force)
            .await?;
        fetched.expires_in = fetched.expires_in.saturating_sub(asked_at.elapsed());
        telemetry::record_token_refresh(&app.appid, reason);
        Ok(fetched)
    }

    fn remember(&self, app: &App, token: AccessToken, life: Duration) -> AccessToken {
        let now = Instant::now();
        let spread = self.options.refresh_spread.mul_f64(rand::random::<f64>());
        let refresh_in = life
            .saturating_sub(self.options.refresh_before)
            .max(self.options.refresh_gap)
            + spread;
        let cached = Cached {
            token: token.clone(),
            expires_at: now + life,
            refresh_at: now + refresh_in,
        };
        let mut remembered = app.cached.write().unwrap_or_else(PoisonError::into_inner);
        if remembered
            .as_ref()
            .is_none_or(|known| known.token.generation() <= token.generation())
        {
            *remembered = Some(cached);
        }
        token
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
