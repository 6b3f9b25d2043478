//! Service cards: a state that may have been sent is read back, not sent again.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::breaker::Observation;
use super::judgement::{PARKS_UNCOUNTED_FOR, PAUSE, outcome_of, pause_app, retry, spread};
use super::telling::unreachable;
use super::tokens::{TOKEN_WAIT, refuses_token};
use super::{Deliverer, Ended, REPEAT_WITHIN};
use crate::notification::{
    Conclusion, Credit, Effect, Notification, Outcome, PauseUntil, Verdict, WaitingFor,
};
use crate::retry::RetryPolicy;
use crate::wechat::Reply;
use crate::wechat::card::{self, Standing};
use crate::wechat::errcode::{self, Disposition, ErrcodeTable};

impl Deliverer {
    /// Asks for the state of a service card that may have been sent. Nothing is sent here: what is not there is due again.
    pub(super) async fn read_back(
        &self,
        notification: &Notification,
        rules: &ErrcodeTable,
        send_before: Instant,
    ) -> Conclusion {
        let token = match self.tokens.token(&notification.appid, TOKEN_WAIT).await {
            Ok(token) => token,
            Err(error) => match self.no_token(notification, &error, rules) {
                Ended::Unsent(conclusion) => return conclusion,
                Ended::Replied(_) => unreachable!("without a token nothing is sent"),
            },
        };
        if Instant::now() >= send_before {
            return Outcome::unsent(notification.id, Verdict::Release, None).into();
        }
        let shown = self.wechat.read_card(&token, notification).await;
        if let Err(reply) = &shown
            && refuses_token(reply, rules)
        {
            // Asked again with the new one in a moment, by whoever leases the row then.
            let _ = self
                .tokens
                .replace(&notification.appid, &token, REPEAT_WITHIN)
                .await;
        }
        if let Err(Reply::NotSent { reason, .. }) = &shown {
            let reason = unreachable(reason);
            let mut judged = judge_read_back(notification, shown, rules, Utc::now());
            let observed = self.observe(notification, Observation::NotSent(&reason));
            judged.effects.extend(observed);
            return judged;
        }
        judge_read_back(notification, shown, rules, Utc::now())
    }

    /// WeChat refuses the state: it may be there already, or a later one.
    pub(super) async fn conclude_by_state(
        &self,
        notification: &Notification,
        reply: &Reply,
        rules: &ErrcodeTable,
    ) -> Conclusion {
        let shown = match self.tokens.token(&notification.appid, TOKEN_WAIT).await {
            Ok(token) => self.wechat.read_card(&token, notification).await.ok(),
            Err(_) => None,
        };
        let mut conclusion = self.conclude(notification, reply, rules, Utc::now());
        let outcome = &mut conclusion.outcome;
        if let Some(verdict) = verdict_of_illegal_state(shown, notification, rules, &self.policy) {
            outcome.verdict = verdict;
        }
        outcome.reason = Some(match shown {
            Some(standing) => format!("read back: {}", standing.in_words()),
            None => "the card's state could not be read back".to_owned(),
        });
        conclusion
    }
}

/// What asking for a service card's state means for a row that may have been sent. `now` is compared with its age only.
pub fn judge_read_back(
    notification: &Notification,
    shown: Result<Standing, Reply>,
    rules: &ErrcodeTable,
    now: DateTime<Utc>,
) -> Conclusion {
    let mut effects = Vec::new();
    let reply = match shown {
        Ok(standing) => {
            if notification.probe {
                let appid = notification.appid.clone();
                effects.push(Effect::ProbeOk { appid });
            }
            let verdict = match standing {
                Standing::Same => Verdict::Found,
                // Later ones too: only the state machine knows whether this state may still follow. WeChat says 85439 if not.
                _ => Verdict::NotFound,
            };
            let reason = format!("read back: {}", standing.in_words());
            let outcome = Outcome::unsent(notification.id, verdict, Some(reason));
            return Conclusion { outcome, effects };
        }
        Err(reply) => reply,
    };
    let mut verdict = if now - notification.waiting_since > PARKS_UNCOUNTED_FOR {
        Verdict::Dead {
            credit: Credit::Unknown,
        }
    } else {
        Verdict::Park {
            waiting_for: WaitingFor::Doubt,
            after: spread(5, 15),
        }
    };
    if let Reply::Answered { errcode: code, .. } = &reply {
        let rule = rules.rule(*code);
        match rule.disposition {
            Disposition::PauseApp => {
                let until = rule.pause.unwrap_or(PauseUntil::After(PAUSE));
                let reason = format!("errcode {code}");
                effects.push(pause_app(notification, until, reason, Some(*code)));
            }
            // The code is unknown, so no update of it can have arrived.
            _ if *code == errcode::NO_SUCH_CARD_CODE => {
                let reason = "read back: WeChat does not know the code".to_owned();
                let outcome = Outcome::unsent(notification.id, Verdict::NotFound, Some(reason));
                return Conclusion { outcome, effects };
            }
            // It will never be shown.
            Disposition::Dead => {
                verdict = Verdict::Dead {
                    credit: Credit::Unknown,
                };
            }
            _ => {}
        }
    }
    let mut outcome = outcome_of(notification.id, &reply, verdict);
    let failure = outcome.reason.take().or_else(|| outcome.errmsg.clone());
    let failure = failure.unwrap_or_else(|| "WeChat refused".to_owned());
    outcome.reason = Some(format!(
        "the card's state could not be read back: {failure}"
    ));
    Conclusion { outcome, effects }
}

/// What an illegal state comes to, by the state that WeChat shows; `None`: as the errcode's rule says.
fn verdict_of_illegal_state(
    shown: Option<Standing>,
    notification: &Notification,
    rules: &ErrcodeTable,
    policy: &RetryPolicy,
) -> Option<Verdict> {
    match shown {
        Some(Standing::Same | Standing::SameStateOtherwise | Standing::Later) => {
            Some(Verdict::Found)
        }
        Some(Standing::Earlier | Standing::Nothing) => None,
        None => {
            let rule = rules.rule(errcode::ILLEGAL_CARD_STATE);
            Some(retry(rule, notification, policy, Duration::ZERO))
        }
    }
}

pub(super) fn is_illegal_state(reply: &Reply, notification: &Notification) -> bool {
    card::reads_back(notification)
        && matches!(reply, Reply::Answered { errcode: code, .. } if *code == errcode::ILLEGAL_CARD_STATE)
}
