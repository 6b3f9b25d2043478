//! Login codes: their exchange, and what an answer to it means for its row.
//!
//! A code works once and lives for 5 minutes, so a call whose answer is lost may have used it: such a code is tried once
//! more, and the database, which counts these calls, then gives it up. [`judge`] is pure: it
//! needs no more than the answer.

use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};

use super::Deliverer;
use crate::notification::{
    ClaimedLogin, Conclusion, Effect, LoginOutcome, LoginVerdict, PauseUntil,
};
use crate::wechat::errcode::{CALLED_TOO_OFTEN, Disposition, ErrcodeTable, SYSTEM_BUSY};
use crate::wechat::login::LoginReply;

/// The pause where a rule has none.
const PAUSE: Duration = Duration::from_secs(300);

impl Deliverer {
    /// Exchanges a claimed login code. Never fails: whatever happens is an outcome, and effects for the worker to store.
    pub async fn exchange_login(&self, login: &ClaimedLogin) -> Conclusion<LoginOutcome> {
        let reply = match self.tokens.secret(&login.appid) {
            Some(secret) => {
                let exchange = self
                    .wechat
                    .exchange_login_code(&login.appid, secret, &login.code);
                exchange.await
            }
            None => LoginReply::NotSent {
                reason: format!("no AppSecret for {} is set here", login.appid),
            },
        };
        let mut conclusion = judge(reply, &self.rules(), login, Utc::now());
        self.leave_out_repeats(&mut conclusion.effects);
        conclusion
    }
}

/// Judges one answer. `now` says how long this minute still lasts.
pub fn judge(
    reply: LoginReply,
    rules: &ErrcodeTable,
    login: &ClaimedLogin,
    now: DateTime<Utc>,
) -> Conclusion<LoginOutcome> {
    let mut effects = Vec::new();
    let soon = || Duration::from_secs_f64(1.0 + 2.0 * rand::random::<f64>());
    let outcome = |verdict, errcode, errmsg, rid| LoginOutcome {
        id: login.id,
        claim: login.claim,
        verdict,
        errcode,
        errmsg,
        rid,
    };
    let outcome = match reply {
        LoginReply::Receiver(openid) => outcome(LoginVerdict::Receiver(openid), None, None, None),
        LoginReply::NotSent { reason } => {
            let (after, unclear) = (soon(), false);
            outcome(
                LoginVerdict::Retry { after, unclear },
                None,
                Some(reason),
                None,
            )
        }
        LoginReply::Lost { reason } => {
            let (after, unclear) = (soon(), true);
            outcome(
                LoginVerdict::Retry { after, unclear },
                None,
                Some(reason),
                None,
            )
        }
        LoginReply::Refused {
            errcode,
            errmsg,
            rid,
        } => {
            let rule = rules.rule(errcode);
            let verdict = match rule.disposition {
                _ if errcode == SYSTEM_BUSY => retry(soon()),
                // Here it is this user's own limit a minute, not the mini-program's.
                _ if errcode == CALLED_TOO_OFTEN => {
                    let left = 60 - u64::from(now.second().min(59));
                    retry(Duration::from_secs(left) + soon())
                }
                Disposition::Dead => LoginVerdict::Dead {
                    credit: rule.credit,
                },
                Disposition::PauseApp | Disposition::RefreshToken => {
                    effects.push(Effect::PauseApp {
                        appid: login.appid.clone(),
                        until: rule.pause.unwrap_or(PauseUntil::After(PAUSE)),
                        reason: format!("errcode {errcode} at the exchange of a login code"),
                        errcode: Some(errcode),
                    });
                    retry(soon())
                }
                _ => retry(2 * soon()),
            };
            outcome(verdict, Some(errcode), errmsg, rid)
        }
    };
    Conclusion { outcome, effects }
}

/// The code was certainly not used.
fn retry(after: Duration) -> LoginVerdict {
    LoginVerdict::Retry {
        after,
        unclear: false,
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::notification::{Credit, Openid};
    use crate::wechat::errcode::ErrcodeRule;

    fn rules() -> ErrcodeTable {
        let rule = |errcode, disposition, pause| ErrcodeRule {
            errcode: Some(errcode),
            disposition,
            credit: Credit::Kept,
            pause,
            retries_max: None,
            escalation: None,
        };
        ErrcodeTable::new([
            rule(-1, Disposition::Retry, None),
            rule(40029, Disposition::Dead, None),
            rule(40125, Disposition::PauseApp, Some(PauseUntil::Operator)),
            rule(45011, Disposition::PauseApp, Some(PauseUntil::NextMinute)),
        ])
    }

    fn judged(reply: LoginReply) -> Conclusion<LoginOutcome> {
        let login = ClaimedLogin {
            id: 7,
            appid: "wx1".to_owned(),
            code: SecretString::from("0aSecretCode"),
            claim: 1,
        };
        let half_past = "2026-11-22T15:00:30Z".parse().unwrap();
        judge(reply, &rules(), &login, half_past)
    }

    fn refused(errcode: i64) -> LoginReply {
        LoginReply::Refused {
            errcode,
            errmsg: None,
            rid: None,
        }
    }

    #[test]
    fn an_openid_is_the_rows_receiver() {
        let Conclusion { outcome, effects } = judged(LoginReply::Receiver(Openid::new("oUser")));
        assert_eq!(
            outcome.verdict,
            LoginVerdict::Receiver(Openid::new("oUser"))
        );
        assert_eq!((outcome.id, outcome.claim, effects), (7, 1, vec![]));
    }

    #[test]
    fn a_code_that_wechat_does_not_take_is_dead() {
        let Conclusion { outcome, effects } = judged(refused(40029));
        let credit = Credit::Kept;
        assert_eq!(outcome.verdict, LoginVerdict::Dead { credit });
        assert_eq!(effects, []);
    }

    #[test]
    fn only_a_lost_answer_leaves_it_open_whether_the_code_was_used() {
        let reason = String::new;
        for (reply, lost) in [
            (LoginReply::Lost { reason: reason() }, true),
            (LoginReply::NotSent { reason: reason() }, false),
            (refused(-1), false),
            (refused(77_777), false),
        ] {
            let shown = format!("{reply:?}");
            let LoginVerdict::Retry { unclear, .. } = judged(reply).outcome.verdict else {
                panic!("{shown}");
            };
            assert_eq!(unclear, lost, "{shown}");
        }
    }

    #[test]
    fn too_often_waits_for_the_next_minute_and_pauses_nothing() {
        let Conclusion { outcome, effects } = judged(refused(45011));
        let LoginVerdict::Retry { after, unclear } = outcome.verdict else {
            panic!("{outcome:?}");
        };
        assert!((30.0..=35.0).contains(&after.as_secs_f64()), "{after:?}");
        assert!(!unclear);
        assert_eq!(effects, []);
    }

    #[test]
    fn a_wrong_secret_pauses_the_mini_program() {
        let Conclusion { outcome, effects } = judged(refused(40125));
        assert!(matches!(outcome.verdict, LoginVerdict::Retry { .. }));
        assert!(matches!(
            effects[..],
            [Effect::PauseApp {
                until: PauseUntil::Operator,
                errcode: Some(40125),
                ..
            }]
        ));
    }

    #[test]
    fn a_claim_is_printed_without_its_code() {
        let login = ClaimedLogin {
            id: 7,
            appid: "wx1".to_owned(),
            code: SecretString::from("0aSecretCode"),
            claim: 1,
        };
        assert!(!format!("{login:?}").contains("0aSecretCode"));
    }
}
