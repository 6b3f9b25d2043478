//! What a missing or refused access token means for a row.

use std::time::Duration;

use super::breaker::Observation;
use super::judgement::{PAUSE, park_for, pause_app, spread};
use super::telling::unreachable;
use super::{Deliverer, Ended};
use crate::notification::{Conclusion, Notification, Outcome, PauseUntil, Verdict, WaitingFor};
use crate::token_keeper::TokenError;
use crate::wechat::Reply;
use crate::wechat::access_token::{AccessToken, FetchError};
use crate::wechat::account::AccountError;
use crate::wechat::errcode::{self, Disposition, ErrcodeRule, ErrcodeTable};

/// How long a delivery waits for a token; longer is left to the next lease.
pub(super) const TOKEN_WAIT: Duration = Duration::from_secs(8);

impl Deliverer {
    /// After a pause, asks WeChat something that costs no credit before a message is risked: a token that is still dead and
    /// a gateway that still answers nobody show themselves here. Other refusals are left to the message itself.
    pub(super) async fn probe(
        &self,
        notification: &Notification,
        token: AccessToken,
        rules: &ErrcodeTable,
    ) -> Result<AccessToken, Ended> {
        if !notification.probe {
            return Ok(token);
        }
        let appid = &notification.appid;
        let (is_lost, reason) = match self.wechat.read_send_quota(&token).await {
            Err(AccountError::NotAsked { reason }) => (false, unreachable(&reason)),
            Err(AccountError::NoReply { reason }) => (true, reason),
            Err(AccountError::Refused { errcode, .. })
                if rules.rule(errcode).disposition == Disposition::RefreshToken =>
            {
                let replaced = self.tokens.replace(appid, &token, TOKEN_WAIT).await;
                return replaced.map_err(|error| self.no_token(notification, &error, rules));
            }
            Ok(_) | Err(AccountError::Refused { .. }) => return Ok(token),
        };
        let verdict = Verdict::Park {
            waiting_for: WaitingFor::App,
            after: spread(5, 15),
        };
        let observation = if is_lost {
            Observation::PossiblySent
        } else {
            Observation::NotSent(&reason)
        };
        let effects = self.observe(notification, observation);
        let outcome = Outcome::unsent(notification.id, verdict, Some(reason));
        Err(Ended::Unsent(Conclusion { outcome, effects }))
    }

    /// Both requests were refused for their token. If WeChat had handed back the same one, it is worth another try.
    pub(super) async fn refused_again(
        &self,
        notification: &Notification,
        first: &AccessToken,
        second: &AccessToken,
        reply: Reply,
        rules: &ErrcodeTable,
    ) -> Ended {
        if first.expose() != second.expose() {
            return Ended::Replied(reply);
        }
        match self
            .tokens
            .replace(&notification.appid, second, TOKEN_WAIT / 2)
            .await
        {
            Ok(_) => released(notification),
            Err(error) => self.no_token(notification, &error, rules),
        }
    }

    /// Nothing was sent for want of a token: the row waits, no attempt is counted.
    pub(super) fn no_token(
        &self,
        notification: &Notification,
        error: &TokenError,
        rules: &ErrcodeTable,
    ) -> Ended {
        let reason = error.to_string();
        self.tell(notification, &reason);
        let (after, effects) = match error {
            TokenError::NoSecret { .. } => (Duration::from_secs(60), Vec::new()),
            TokenError::Store(_) => (spread(2, 4), Vec::new()),
            // A token endpoint that hangs looks busy from here: slots must not be spent on waiting for it.
            TokenError::Busy
            | TokenError::Fetch(FetchError::NotAsked { .. } | FetchError::NoReply { .. }) => (
                spread(5, 15),
                self.observe(notification, Observation::NotSent(&reason)),
            ),
            TokenError::Irreplaceable => {
                let until = PauseUntil::After(PAUSE);
                (
                    PAUSE,
                    vec![pause_app(
                        notification,
                        until,
                        error.to_string(),
                        Some(errcode::INVALID_CREDENTIAL),
                    )],
                )
            }
            TokenError::Fetch(FetchError::Refused { errcode, .. }) => {
                let until = pause_for_token(rules.rule(*errcode));
                let effect = pause_app(notification, until, error.to_string(), Some(*errcode));
                (park_for(until), vec![effect])
            }
        };
        let verdict = Verdict::Park {
            waiting_for: WaitingFor::App,
            after,
        };
        let mut outcome = Outcome::unsent(notification.id, verdict, Some(error.to_string()));
        if let TokenError::Fetch(FetchError::Refused {
            errcode,
            errmsg,
            rid,
        }) = error
        {
            outcome.errcode = Some(*errcode);
            outcome.errmsg.clone_from(errmsg);
            outcome.rid.clone_from(rid);
        }
        Ended::Unsent(Conclusion { outcome, effects })
    }
}

/// The pause when WeChat refuses a token. Every rule leads to one: without a token nothing is sent.
fn pause_for_token(rule: &ErrcodeRule) -> PauseUntil {
    match (rule.disposition, rule.pause) {
        (Disposition::PauseApp | Disposition::RefreshToken, Some(pause)) => pause,
        (Disposition::Retry, _) if rule.errcode.is_some() => {
            PauseUntil::After(Duration::from_secs(10))
        }
        (Disposition::Retry, _) => PauseUntil::After(Duration::from_secs(60)),
        _ => PauseUntil::After(PAUSE),
    }
}

pub(super) fn refuses_token(reply: &Reply, rules: &ErrcodeTable) -> bool {
    matches!(reply, Reply::Answered { errcode, .. }
        if *errcode != 0 && rules.rule(*errcode).disposition == Disposition::RefreshToken)
}

pub(super) fn released(notification: &Notification) -> Ended {
    let reason = Some("WeChat refused the access token; it is being replaced".to_owned());
    let outcome = Outcome::unsent(notification.id, Verdict::Release, reason);
    Ended::Unsent(outcome.into())
}
