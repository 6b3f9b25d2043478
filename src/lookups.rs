//! What WeChat says of each mini-program, asked now and then and kept in the database: its templates and its quota.
//!
//! Any worker asks, none leads: a question that is due is claimed by one of them ([`Lookups::answer_due`]), and its answer
//! is stored under the claim. Questions cost nobody a credit; a failure waits longer each time and stops nothing. An
//! operator's command asks at once ([`Lookups::sync_templates`], [`Lookups::read_quota`]).

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tracing::{info, warn};

use crate::store::{Lookup, Store, StoreError, TemplateChanges};
use crate::token_keeper::{TokenError, TokenKeeper};
use crate::wechat::Wechat;
use crate::wechat::access_token::{AccessToken, FetchError};
use crate::wechat::account::{AccountError, ListedTemplate, Quota, RecalledCall};
use crate::wechat::errcode;

/// How long a question waits for a token.
const TOKEN_WAIT: Duration = Duration::from_secs(8);
/// How long others respect a claim, beyond the request time-out: a token and two requests fit in.
const CLAIM_MARGIN: Duration = Duration::from_secs(45);

/// Questions under way at once.
const ASKED_AT_ONCE: usize = 4;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// WeChat refused or did not answer.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// There is no token to ask with.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The answer was not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LookupError {
    /// WeChat's errcode, if it was WeChat that refused.
    #[must_use]
    pub fn errcode(&self) -> Option<i64> {
        match self {
            Self::Account(AccountError::Refused { errcode, .. })
            | Self::Token(TokenError::Fetch(FetchError::Refused { errcode, .. })) => Some(*errcode),
            _ => None,
        }
    }
}

/// What an operator's sync of templates found.
#[derive(Debug)]
pub struct Synced {
    /// How many templates WeChat lists.
    pub listed: usize,
    /// What changed here.
    pub changes: TemplateChanges,
}

/// Asks WeChat about mini-programs and stores the answers.
#[derive(Clone)]
pub struct Lookups {
    store: Store,
    wechat: Arc<Wechat>,
    tokens: TokenKeeper,
    worker: String,
}

impl Lookups {
    /// `worker` is the name that claims are made in.
    pub fn new(store: Store, wechat: Arc<Wechat>, tokens: TokenKeeper, worker: String) -> Self {
        Self {
            store,
            wechat,
            tokens,
            worker,
        }
    }

    fn claim_for(&self) -> Duration {
        2 * self.wechat.request_timeout() + CLAIM_MARGIN
    }

    /// Asks and stores what is due for these mini-programs and nobody else has claimed. What fails is asked again later.
    ///
    /// # Errors
    ///
    /// The database did not answer; claims end by themselves.
    pub async fn answer_due(&self, appids: &[String]) -> Result<(), StoreError> {
        let claimed = self
            .store
            .claim_lookups(appids, &self.worker, self.claim_for())
            .await?;
        // One mini-program's trouble must not keep the others waiting.
        futures::stream::iter(claimed)
            .for_each_concurrent(ASKED_AT_ONCE, |lookup| async move {
                let answered = match lookup.lookup.as_str() {
                    "templates" => self.sync(&lookup, false).await.map(drop),
                    _ => self.measure(&lookup).await.map(drop),
                };
                if let Err(error) = answered {
                    self.give_up(&lookup, &error).await;
                }
            })
            .await;
        Ok(())
    }

    /// Gives the claim back; left to its time-out when this fails too.
    async fn give_up(&self, lookup: &Lookup, error: &LookupError) {
        let words = error.to_string();
        let errcode = error.errcode();
        let again_at = self.store.fail_lookup(lookup, errcode, &words).await;
        warn!(
            wechat.appid = %lookup.appid,
            again_at = again_at.ok().flatten().map(|time| time.to_rfc3339()),
            "WeChat did not tell the {} of {}: {words}", lookup.lookup, lookup.appid
        );
    }

    /// Reads the list of templates and stores it, now. An empty list is believed.
    ///
    /// # Errors
    ///
    /// [`LookupError`]; nothing was changed, unless it is [`LookupError::Store`].
    pub async fn sync_templates(&self, appid: &str) -> Result<Synced, LookupError> {
        let lookup = self.claim(appid, "templates").await?;
        self.or_give_up(&lookup, self.sync(&lookup, true).await)
            .await
    }

    /// Reads the quota for sends and stores it, now.
    ///
    /// # Errors
    ///
    /// [`LookupError`]; nothing was changed, unless it is [`LookupError::Store`].
    pub async fn read_quota(&self, appid: &str) -> Result<Quota, LookupError> {
        let lookup = self.claim(appid, "quota").await?;
        self.or_give_up(&lookup, self.measure(&lookup).await).await
    }

    /// What WeChat saw of a failed call. The answer is secret.
    ///
    /// # Errors
    ///
    /// [`LookupError`].
    pub async fn recall(&self, appid: &str, rid: &str) -> Result<RecalledCall, LookupError> {
        let rid = rid.to_owned();
        self.ask(appid, move |wechat, token| {
            let rid = rid.clone();
            async move { wechat.recall(&token, &rid).await }
        })
        .await
    }

    /// Clears the mini-program's quotas: one of ten times a month.
    ///
    /// # Errors
    ///
    /// [`LookupError`]; without a reply it may have been done.
    pub async fn clear_quota(&self, appid: &str) -> Result<(), LookupError> {
        let of = appid.to_owned();
        self.ask(appid, move |wechat, token| {
            let of = of.clone();
            async move { wechat.clear_quota(&token, &of).await }
        })
        .await
    }

    async fn claim(&self, appid: &str, lookup: &str) -> Result<Lookup, StoreError> {
        let claim = self
            .store
            .claim_lookup(appid, lookup, &self.worker, self.claim_for())
            .await?;
        Ok(Lookup {
            appid: appid.to_owned(),
            lookup: lookup.to_owned(),
            claim,
        })
    }

    async fn or_give_up<T>(
        &self,
        lookup: &Lookup,
        answer: Result<T, LookupError>,
    ) -> Result<T, LookupError> {
        if let Err(error) = &answer {
            let words = error.to_string();
            // The claim would end by itself; the caller hears of the first failure.
            let _ = self
                .store
                .fail_lookup(lookup, error.errcode(), &words)
                .await;
        }
        answer
    }

    async fn sync(&self, lookup: &Lookup, believe_empty: bool) -> Result<Synced, LookupError> {
        let templates: Vec<ListedTemplate> = self
            .ask(&lookup.appid, |wechat, token| async move {
                wechat.list_templates(&token).await
            })
            .await?;
        let stored = self
            .store
            .store_templates(lookup, &templates, believe_empty)
            .await?;
        let changes = stored.unwrap_or_default();
        for (template_id, change) in &changes {
            match change.as_str() {
                "removed" => warn!(
                    wechat.appid = %lookup.appid,
                    "WeChat does not list template {template_id} of {} any more: its rows wait", lookup.appid
                ),
                _ => {
                    info!(wechat.appid = %lookup.appid, "Template {template_id} of {}: {change}", lookup.appid)
                }
            }
        }
        Ok(Synced {
            listed: templates.len(),
            changes,
        })
    }

    async fn measure(&self, lookup: &Lookup) -> Result<Quota, LookupError> {
        let quota = self
            .ask(&lookup.appid, |wechat, token| async move {
                wechat.read_send_quota(&token).await
            })
            .await?;
        self.store.store_quota(lookup, quota).await?;
        Ok(quota)
    }

    /// Asks with the mini-program's token, and once more with a new one if WeChat refuses it.
    async fn ask<T, A>(
        &self,
        appid: &str,
        question: impl Fn(Arc<Wechat>, AccessToken) -> A,
    ) -> Result<T, LookupError>
    where
        A: Future<Output = Result<T, AccountError>>,
    {
        let token = self.tokens.token(appid, TOKEN_WAIT).await?;
        match question(self.wechat.clone(), token.clone()).await {
            Err(AccountError::Refused { errcode, .. })
                if errcode::DEAD_TOKEN.contains(&errcode) =>
            {
                let replaced = self.tokens.replace(appid, &token, TOKEN_WAIT).await?;
                Ok(question(self.wechat.clone(), replaced).await?)
            }
            answer => Ok(answer?),
        }
    }
}
