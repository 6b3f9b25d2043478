//! What one reply of WeChat's means for its row and beyond. Pure: the reply, the rules and the row are given.
//!
//! Start at [`judge`].

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::notification::{Credit, Effect, Notification, Outcome, PauseUntil, Verdict, WaitingFor};
use crate::retry::RetryPolicy;
use crate::wechat::Reply;
use crate::wechat::errcode::{Disposition, ErrcodeRule, ErrcodeTable};

/// The pause where a rule has none.
pub(super) const PAUSE: Duration = Duration::from_secs(300);
/// A row parked for a mini-program or template looks again at least so often: pauses may end early.
const PARK_MAX: Duration = Duration::from_secs(600);
/// A row whose user refuses it is released by the next accept; it looks by itself only in case that was missed.
const REFUSED_LOOK: Duration = Duration::from_secs(3600);
/// Parks count no attempt, but not for ever: from this age on they do.
pub(super) const PARKS_UNCOUNTED_FOR: TimeDelta = TimeDelta::hours(24);

/// What a reply means for its row and beyond.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What becomes of the row.
    pub verdict: Verdict,
    /// What follows for its mini-program or template.
    pub effects: Vec<Effect>,
    /// WeChat serves this mini-program: a probe that got this reply has succeeded.
    pub sound: bool,
}

/// Judges one reply. `now` is compared with the row's age only.
pub fn judge(
    reply: &Reply,
    rules: &ErrcodeTable,
    notification: &Notification,
    policy: &RetryPolicy,
    now: DateTime<Utc>,
) -> Judgement {
    match reply {
        Reply::Answered { errcode, .. } => {
            judge_errcode(*errcode, rules.rule(*errcode), notification, policy, now)
        }
        Reply::PossiblySent { .. } => Judgement {
            verdict: Verdict::InDoubt,
            effects: Vec::new(),
            sound: false,
        },
        // An outage of our network must not use up attempts; expire_at bounds it. The breaker pauses the mini-program.
        Reply::NotSent { .. } => {
            let verdict = Verdict::Park {
                waiting_for: WaitingFor::App,
                after: spread(5, 15),
            };
            Judgement {
                verdict,
                effects: Vec::new(),
                sound: false,
            }
        }
    }
}

fn judge_errcode(
    errcode: i64,
    rule: &ErrcodeRule,
    notification: &Notification,
    policy: &RetryPolicy,
    now: DateTime<Utc>,
) -> Judgement {
    // Success is not up to the table.
    let disposition = if errcode == 0 {
        Disposition::Sent
    } else {
        rule.disposition
    };
    let until = rule.pause.unwrap_or(PauseUntil::After(PAUSE));
    let parked = |waiting_for| {
        park(
            waiting_for,
            park_for(until),
            rule,
            notification,
            policy,
            now,
        )
    };
    let mut effects = Vec::new();
    let verdict = match disposition {
        Disposition::Sent => Verdict::Sent,
        Disposition::Dead if waits_for_accept(rule, notification) => Verdict::Park {
            waiting_for: WaitingFor::Refused,
            after: REFUSED_LOOK,
        },
        Disposition::Dead => Verdict::Dead {
            credit: rule.credit,
        },
        Disposition::Retry => {
            let least = rule.pause.map_or(Duration::ZERO, span_of);
            retry(rule, notification, policy, least)
        }
        Disposition::PauseUser => {
            let pause = park_for(until).max(Duration::from_secs(1));
            let jitter = pause.mul_f64(1.5).min(PARK_MAX).mul_f64(rand::random());
            let after = span_of(until) + jitter;
            park(WaitingFor::User, after, rule, notification, policy, now)
        }
        Disposition::RefreshToken | Disposition::PauseApp => {
            let reason = format!("errcode {errcode}");
            effects.push(pause_app(notification, until, reason, Some(errcode)));
            parked(WaitingFor::App)
        }
        Disposition::PauseTemplate => {
            effects.push(pause_template(notification, until, errcode));
            parked(WaitingFor::Template)
        }
    };
    let sound = !matches!(
        disposition,
        Disposition::Retry | Disposition::RefreshToken | Disposition::PauseApp
    );
    if sound && notification.probe {
        effects.push(Effect::ProbeOk {
            appid: notification.appid.clone(),
        });
    }
    Judgement {
        verdict,
        effects,
        sound,
    }
}

/// Where a message spends no credit, that there is none means that the user turned it off, until the next accept. A row in doubt
/// ends.
fn waits_for_accept(rule: &ErrcodeRule, notification: &Notification) -> bool {
    !notification.kind.spends_credit()
        && notification.kind.can_be_refused()
        && rule.credit == Credit::Gone
        && !notification.in_doubt
}

/// A retry, or death when this was the last attempt or the code's own retries are used up.
pub(super) fn retry(
    rule: &ErrcodeRule,
    notification: &Notification,
    policy: &RetryPolicy,
    after_min: Duration,
) -> Verdict {
    let is_last = notification.attempts.saturating_add(1) >= notification.attempts_max;
    let code_is_used_up = rule
        .retries_max
        .is_some_and(|most| notification.attempts >= most);
    if is_last || code_is_used_up {
        return Verdict::Dead {
            credit: rule.credit,
        };
    }
    let attempt = u32::from(notification.attempts.unsigned_abs()) + 1;
    Verdict::Retry {
        after: policy.wait_after(attempt).max(after_min),
    }
}

/// A park, or a counted retry when the row has been waiting for a day.
fn park(
    waiting_for: WaitingFor,
    after: Duration,
    rule: &ErrcodeRule,
    notification: &Notification,
    policy: &RetryPolicy,
    now: DateTime<Utc>,
) -> Verdict {
    if now - notification.waiting_since > PARKS_UNCOUNTED_FOR {
        return retry(rule, notification, policy, after);
    }
    Verdict::Park { waiting_for, after }
}

/// How long a row waits when its mini-program or template is paused.
pub(super) fn park_for(until: PauseUntil) -> Duration {
    match until {
        PauseUntil::After(span) => span.min(PARK_MAX),
        PauseUntil::NextMinute => Duration::from_secs(60),
        PauseUntil::Operator | PauseUntil::ChinaMidnight => PARK_MAX,
    }
}

fn span_of(until: PauseUntil) -> Duration {
    match until {
        PauseUntil::After(span) => span,
        _ => park_for(until),
    }
}

fn pause_template(notification: &Notification, until: PauseUntil, errcode: i64) -> Effect {
    Effect::PauseTemplate {
        appid: notification.appid.clone(),
        template_id: notification.template_id.clone(),
        until,
        reason: format!("errcode {errcode}"),
        errcode: Some(errcode),
    }
}

pub(super) fn pause_app(
    notification: &Notification,
    until: PauseUntil,
    reason: String,
    errcode: Option<i64>,
) -> Effect {
    Effect::PauseApp {
        appid: notification.appid.clone(),
        until,
        reason,
        errcode,
    }
}

/// Between `from` and `to` seconds.
pub(super) fn spread(from: u32, to: u32) -> Duration {
    let (from, to) = (f64::from(from), f64::from(to));
    Duration::from_secs_f64(from + (to - from) * rand::random::<f64>())
}

pub(super) fn outcome_of(notification_id: i64, reply: &Reply, verdict: Verdict) -> Outcome {
    let millis = |took: &Duration| Some(i32::try_from(took.as_millis()).unwrap_or(i32::MAX));
    let http = |status: u16| i16::try_from(status).ok();
    let unsent = Outcome::unsent(notification_id, verdict, None);
    match reply {
        Reply::Answered {
            errcode,
            errmsg,
            rid,
            msgid,
            http_status,
            took,
        } => Outcome {
            errcode: Some(*errcode),
            errmsg: errmsg.clone(),
            rid: rid.clone(),
            msgid: *msgid,
            http_status: http(*http_status),
            response_ms: millis(took),
            ..unsent
        },
        Reply::NotSent { reason, took } => Outcome {
            reason: Some(reason.clone()),
            response_ms: millis(took),
            ..unsent
        },
        Reply::PossiblySent {
            reason,
            http_status,
            took,
        } => Outcome {
            reason: Some(reason.clone()),
            http_status: http_status.and_then(http),
            response_ms: millis(took),
            ..unsent
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notification::{Kind, sample};

    fn rule(errcode: i64, disposition: Disposition, pause: Option<PauseUntil>) -> ErrcodeRule {
        ErrcodeRule {
            errcode: Some(errcode),
            disposition,
            credit: Credit::Kept,
            pause,
            retries_max: None,
            escalation: None,
        }
    }

    const MINUTE: PauseUntil = PauseUntil::After(Duration::from_secs(60));

    fn rules() -> ErrcodeTable {
        ErrcodeTable::new([
            rule(-1, Disposition::Retry, None),
            rule(40001, Disposition::RefreshToken, Some(MINUTE)),
            rule(
                45009,
                Disposition::PauseApp,
                Some(PauseUntil::ChinaMidnight),
            ),
            rule(
                40037,
                Disposition::PauseTemplate,
                Some(PauseUntil::Operator),
            ),
            rule(
                43108,
                Disposition::PauseUser,
                Some(PauseUntil::After(Duration::from_secs(2))),
            ),
            rule(43101, Disposition::Dead, None),
            ErrcodeRule {
                retries_max: Some(1),
                ..rule(44002, Disposition::Retry, None)
            },
            // A mistake of an operator.
            rule(0, Disposition::Dead, None),
        ])
    }

    fn answered(errcode: i64) -> Reply {
        Reply::Answered {
            errcode,
            errmsg: None,
            rid: None,
            msgid: None,
            http_status: 200,
            took: Duration::from_millis(80),
        }
    }

    fn judged(reply: &Reply, change: impl FnOnce(&mut Notification)) -> Judgement {
        let mut notification = sample();
        change(&mut notification);
        judge(
            reply,
            &rules(),
            &notification,
            &RetryPolicy::default(),
            Utc::now(),
        )
    }

    fn is_retry(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Retry { .. })
    }

    #[test]
    fn zero_is_sent_whatever_the_table_says() {
        let judgement = judged(&answered(0), |_| {});
        assert_eq!(judgement.verdict, Verdict::Sent);
        assert_eq!(judgement.effects, []);
    }

    #[test]
    fn a_refused_message_is_dead_with_the_rules_credit() {
        let verdict = judged(&answered(43101), |row| row.in_doubt = true).verdict;
        assert_eq!(
            verdict,
            Verdict::Dead {
                credit: Credit::Kept
            }
        );
    }

    #[test]
    fn a_long_term_message_without_subscription_waits_for_the_next_accept_however_old_it_is() {
        let gone = ErrcodeRule {
            credit: Credit::Gone,
            ..rule(43101, Disposition::Dead, None)
        };
        let judged = |change: fn(&mut Notification)| {
            let mut row = sample();
            row.kind = Kind::LongTerm;
            row.waiting_since = Utc::now() - TimeDelta::days(400);
            row.attempts = row.attempts_max - 1;
            change(&mut row);
            judge_errcode(43101, &gone, &row, &RetryPolicy::default(), Utc::now()).verdict
        };
        let waits = |verdict| {
            matches!(
                verdict,
                Verdict::Park {
                    waiting_for: WaitingFor::Refused,
                    ..
                }
            )
        };
        assert!(waits(judged(|_| {})));
        for change in [
            (|row: &mut Notification| row.kind = Kind::OneTime) as fn(&mut Notification),
            |row| row.in_doubt = true,
        ] {
            assert_eq!(
                judged(change),
                Verdict::Dead {
                    credit: Credit::Gone
                }
            );
        }
    }

    #[test]
    fn a_retry_on_the_last_attempt_is_dead() {
        assert!(is_retry(
            judged(&answered(-1), |row| row.attempts = 6).verdict
        ));
        for attempts in [7, 8, 100, i16::MAX] {
            let verdict = judged(&answered(-1), |row| row.attempts = attempts).verdict;
            assert_eq!(
                verdict,
                Verdict::Dead {
                    credit: Credit::Kept
                },
                "{attempts}"
            );
        }
    }

    #[test]
    fn a_code_with_few_retries_dies_before_the_attempts_are_used_up() {
        assert!(is_retry(judged(&answered(44002), |_| {}).verdict));
        let verdict = judged(&answered(44002), |row| row.attempts = 1).verdict;
        assert_eq!(
            verdict,
            Verdict::Dead {
                credit: Credit::Kept
            }
        );
    }

    #[test]
    fn an_unlisted_code_is_retried_three_times() {
        for attempts in 0..3 {
            assert!(is_retry(
                judged(&answered(77_777), |row| row.attempts = attempts).verdict
            ));
        }
        let verdict = judged(&answered(77_777), |row| row.attempts = 3).verdict;
        assert_eq!(
            verdict,
            Verdict::Dead {
                credit: Credit::Unknown
            }
        );
    }

    #[test]
    fn pauses_park_the_row_and_say_what_is_paused() {
        for (errcode, waiting_for, after) in [
            (45009, WaitingFor::App, PARK_MAX),
            (40001, WaitingFor::App, Duration::from_secs(60)),
            (40037, WaitingFor::Template, PARK_MAX),
        ] {
            let judgement = judged(&answered(errcode), |_| {});
            assert_eq!(
                judgement.verdict,
                Verdict::Park { waiting_for, after },
                "{errcode}"
            );
            assert_eq!(judgement.effects.len(), 1, "{errcode}");
        }
        assert!(matches!(
            judged(&answered(45009), |_| {}).effects[0],
            Effect::PauseApp {
                until: PauseUntil::ChinaMidnight,
                errcode: Some(45009),
                ..
            }
        ));
        assert!(matches!(
            judged(&answered(40037), |_| {}).effects[0],
            Effect::PauseTemplate {
                until: PauseUntil::Operator,
                ..
            }
        ));
    }

    #[test]
    fn two_calls_for_one_user_wait_two_to_five_seconds_without_an_effect() {
        for _ in 0..200 {
            let judgement = judged(&answered(43108), |_| {});
            let Verdict::Park {
                waiting_for: WaitingFor::User,
                after,
            } = judgement.verdict
            else {
                panic!("{judgement:?}");
            };
            assert!((2.0..=5.0).contains(&after.as_secs_f64()), "{after:?}");
            assert_eq!(judgement.effects, []);
        }
    }

    #[test]
    fn parks_count_an_attempt_once_the_row_has_waited_for_a_day() {
        let old = |row: &mut Notification| row.waiting_since = Utc::now() - TimeDelta::hours(25);
        for errcode in [43108, 45009, 40037] {
            assert!(
                is_retry(judged(&answered(errcode), old).verdict),
                "{errcode}"
            );
        }
        let Verdict::Retry { after } = judged(&answered(45009), old).verdict else {
            panic!()
        };
        assert!(
            after >= PARK_MAX,
            "a counted park is not shorter than the park: {after:?}"
        );
    }

    #[test]
    fn no_connection_never_uses_up_attempts_however_old_the_row() {
        let reply = Reply::NotSent {
            reason: "no connection".into(),
            took: Duration::ZERO,
        };
        let verdict = judged(&reply, |row| {
            row.attempts = 7;
            row.waiting_since = Utc::now() - TimeDelta::days(30);
        });
        assert!(matches!(
            verdict.verdict,
            Verdict::Park {
                waiting_for: WaitingFor::App,
                ..
            }
        ));
    }

    #[test]
    fn a_lost_answer_is_in_doubt_even_on_the_last_attempt() {
        let reply = Reply::PossiblySent {
            reason: "no reply in time".into(),
            http_status: None,
            took: Duration::from_secs(10),
        };
        assert_eq!(
            judged(&reply, |row| row.attempts = 7).verdict,
            Verdict::InDoubt
        );
    }

    #[test]
    fn only_a_sound_answer_ends_a_probe() {
        let lost = Reply::PossiblySent {
            reason: "x".into(),
            http_status: Some(502),
            took: Duration::ZERO,
        };
        let unsent = Reply::NotSent {
            reason: "x".into(),
            took: Duration::ZERO,
        };
        for (reply, ends) in [
            (answered(0), true),
            (answered(43101), true),
            (answered(43108), true),
            (answered(40037), true),
            (answered(-1), false),
            (answered(77_777), false),
            (answered(40001), false),
            (answered(45009), false),
            (lost, false),
            (unsent, false),
        ] {
            let judgement = judged(&reply, |row| row.probe = true);
            let probe_ok = judgement
                .effects
                .iter()
                .any(|effect| matches!(effect, Effect::ProbeOk { .. }));
            assert_eq!(probe_ok, ends, "{reply:?}");
            let unasked = judged(&reply, |row| row.probe = false);
            assert!(
                !unasked
                    .effects
                    .iter()
                    .any(|effect| matches!(effect, Effect::ProbeOk { .. }))
            );
        }
    }
}
