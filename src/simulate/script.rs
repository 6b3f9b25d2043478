//! Faults and errcodes on demand: which calls a [`Rule`] catches and what it does to them.
//!
//! Start at [`Rule`] and [`Action`], then [`Script::strike`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{SEND_PATH, STABLE_TOKEN_PATH};

/// Catches calls and plays an [`Action`] on them. A matcher left out matches everything;
/// rules are tried in the order they were added and the first that fires wins.
///
/// As JSON (for `POST /_control/script`) the action's members stand beside the matchers:
/// `{"openid":"oUser1","after":2,"count":1,"action":"errcode","errcode":-1}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The exact path, such as `/cgi-bin/message/subscribe/send`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The app that calls, known from the token or from the token request itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appid: Option<String>,
    /// The receiver of a send; matches sends only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openid: Option<String>,
    /// The template of a send; matches sends only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_id: Option<String>,
    /// Lets this many matching calls through first.
    #[serde(default)]
    pub after: u64,
    /// Fires this many times; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Fires on this share of the calls it would catch, 0 to 1, drawn from the seed; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// What happens to a call it catches.
    #[serde(flatten)]
    pub action: Action,
}

/// What a [`Rule`] does to a call. `after_credit: false` strikes before the fake looks at the
/// call, so nothing is taken; `true` strikes once the call was judged as usual (and, if it was
/// accepted, its credit was taken and its message counts as sent), so only the reply is lost or replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Answers this errcode, with WeChat's text for it unless `errmsg` says otherwise.
    Errcode {
        /// The errcode to answer.
        errcode: i64,
        /// The text before the rid.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        errmsg: Option<String>,
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Never answers; the connection stays open until the caller gives up.
    Hang {
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Judges the call at once and answers this much later; the user stays busy (43108) meanwhile.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Resets the TCP connection instead of answering.
    Reset {
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Answers this HTTP status with an HTML page, as a gateway would.
    HttpStatus {
        /// 100 to 999; outside it, 502.
        status: u16,
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Answers HTTP 200 without a body.
    EmptyBody {
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Answers HTTP 200 with the first half of the reply, well framed: a complete body that is no JSON.
    HalfJson {
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Announces the whole reply, sends half of it and closes the connection.
    CutBody {
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Answers HTTP 200 with this many bytes of JSON string.
    HugeBody {
        /// Length of the body.
        bytes: u64,
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Answers an errcode that fits no 64-bit integer.
    HugeErrcode {
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
    /// Answers exactly this body.
    Body {
        /// The HTTP status, 200 if absent.
        #[serde(default = "ok_status")]
        status: u16,
        /// The body, sent as `application/json`.
        body: String,
        /// See [`Action`].
        #[serde(default)]
        after_credit: bool,
    },
}

fn ok_status() -> u16 {
    200
}

impl Action {
    /// An errcode answered before any check: nothing is taken.
    pub fn errcode(errcode: i64) -> Self {
        Action::Errcode {
            errcode,
            errmsg: None,
            after_credit: false,
        }
    }

    /// An errcode answered although the message was accepted and its credit taken.
    pub fn errcode_after_credit(errcode: i64) -> Self {
        Action::Errcode {
            errcode,
            errmsg: None,
            after_credit: true,
        }
    }

    /// No answer; nothing is taken.
    pub fn hang_before_credit() -> Self {
        Action::Hang {
            after_credit: false,
        }
    }

    /// No answer although the message was accepted and its credit taken.
    pub fn hang_after_credit() -> Self {
        Action::Hang { after_credit: true }
    }

    /// A reset connection; nothing is taken.
    pub fn reset_before_credit() -> Self {
        Action::Reset {
            after_credit: false,
        }
    }

    /// A reset connection although the message was accepted and its credit taken.
    pub fn reset_after_credit() -> Self {
        Action::Reset { after_credit: true }
    }

    /// The usual answer, late.
    pub fn delay(delay: Duration) -> Self {
        Action::Delay {
            ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// An HTTP error page of a gateway; nothing is taken.
    pub fn http_status(status: u16) -> Self {
        Action::HttpStatus {
            status,
            after_credit: false,
        }
    }

    /// Whether the call is judged as usual before the fault strikes.
    pub(super) fn is_after_credit(&self) -> bool {
        match *self {
            Action::Delay { .. } => true,
            Action::Errcode { after_credit, .. }
            | Action::Hang { after_credit }
            | Action::Reset { after_credit }
            | Action::HttpStatus { after_credit, .. }
            | Action::EmptyBody { after_credit }
            | Action::HalfJson { after_credit }
            | Action::CutBody { after_credit }
            | Action::HugeBody { after_credit, .. }
            | Action::HugeErrcode { after_credit }
            | Action::Body { after_credit, .. } => after_credit,
        }
    }

    /// The name under which the ledger records the fault.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Action::Errcode { .. } => "errcode",
            Action::Hang { .. } => "hang",
            Action::Delay { .. } => "delay",
            Action::Reset { .. } => "reset",
            Action::HttpStatus { .. } => "http_status",
            Action::EmptyBody { .. } => "empty_body",
            Action::HalfJson { .. } => "half_json",
            Action::CutBody { .. } => "cut_body",
            Action::HugeBody { .. } => "huge_body",
            Action::HugeErrcode { .. } => "huge_errcode",
            Action::Body { .. } => "body",
        }
    }
}

impl Rule {
    /// Catches every call to any path.
    pub fn new(action: Action) -> Self {
        Rule {
            path: None,
            appid: None,
            openid: None,
            template_id: None,
            after: 0,
            count: None,
            probability: None,
            action,
        }
    }

    /// Catches sends (`/cgi-bin/message/subscribe/send`).
    pub fn send(action: Action) -> Self {
        Rule::new(action).path(SEND_PATH)
    }

    /// Catches token requests (`/cgi-bin/stable_token`).
    pub fn token(action: Action) -> Self {
        Rule::new(action).path(STABLE_TOKEN_PATH)
    }

    /// Only calls to this path.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Only calls of this app.
    pub fn appid(mut self, appid: impl Into<String>) -> Self {
        self.appid = Some(appid.into());
        self
    }

    /// Only sends to this user.
    pub fn openid(mut self, openid: impl Into<String>) -> Self {
        self.openid = Some(openid.into());
        self
    }

    /// Only sends of this template.
    pub fn template_id(mut self, template_id: impl Into<String>) -> Self {
        self.template_id = Some(template_id.into());
        self
    }

    /// Lets `calls` matching calls through first.
    pub fn after(mut self, calls: u64) -> Self {
        self.after = calls;
        self
    }

    /// Fires `count` times, then never again.
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Fires once.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Fires on this share of the calls it would catch, 0 to 1.
    pub fn probability(mut self, share: f64) -> Self {
        self.probability = Some(share);
        self
    }

    fn matches(&self, call: &Subject<'_>) -> bool {
        let wants =
            |wanted: &Option<String>, have: &str| wanted.as_deref().is_none_or(|w| w == have);
        wants(&self.path, call.path)
            && wants(&self.appid, call.appid)
            && wants(&self.openid, call.openid)
            && wants(&self.template_id, call.template_id)
    }
}

/// How many sends are served at once. More of them wait; what comes while `refuses_from` are inside meets `refusal`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Sends served at once.
    pub at_once: usize,
    /// From how many sends inside, served or waiting, others are refused; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses_from: Option<usize>,
    /// What a refused send meets: as JSON its members stand beside the others.
    #[serde(flatten)]
    pub refusal: Action,
}

/// What of a call the rules look at; unknown parts are empty.
pub(super) struct Subject<'a> {
    pub path: &'a str,
    pub appid: &'a str,
    pub openid: &'a str,
    pub template_id: &'a str,
}

/// A rule and how often it has matched and fired.
#[derive(Debug)]
struct Armed {
    rule: Rule,
    passed: u64,
    fired: u64,
}

/// The rules in force, in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Script {
    armed: Vec<Armed>,
}

impl Script {
    pub fn add(&mut self, rule: Rule) {
        self.armed.push(Armed {
            rule,
            passed: 0,
            fired: 0,
        });
    }

    pub fn clear(&mut self) {
        self.armed.clear();
    }

    /// The action for this call, if a rule fires. `draw` gives a number in 0..1 for each
    /// rule with a probability.
    pub fn strike(&mut self, call: &Subject<'_>, mut draw: impl FnMut() -> f64) -> Option<Action> {
        for armed in &mut self.armed {
            if !armed.rule.matches(call) {
                continue;
            }
            if armed.passed < armed.rule.after {
                armed.passed += 1;
                continue;
            }
            if armed.rule.count.is_some_and(|count| armed.fired >= count) {
                continue;
            }
            if armed.rule.probability.is_some_and(|share| draw() >= share) {
                continue;
            }
            armed.fired += 1;
            return Some(armed.rule.action.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send_to(openid: &str) -> Subject<'_> {
        Subject {
            path: SEND_PATH,
            appid: "wx1",
            openid,
            template_id: "T1",
        }
    }

    fn strikes(script: &mut Script, openid: &str) -> bool {
        script.strike(&send_to(openid), || 0.5).is_some()
    }

    #[test]
    fn a_rule_lets_k_calls_through_then_fires_n_times() {
        let mut script = Script::default();
        script.add(Rule::send(Action::errcode(-1)).after(2).times(2));
        let fired: Vec<bool> = (0..6).map(|_| strikes(&mut script, "o1")).collect();
        assert_eq!(fired, [false, false, true, true, false, false]);
    }

    #[test]
    fn calls_that_do_not_match_count_for_nothing() {
        let mut script = Script::default();
        script.add(Rule::send(Action::errcode(-1)).openid("o1").after(1).once());
        assert!(!strikes(&mut script, "o2"));
        assert!(!strikes(&mut script, "o1"));
        assert!(!strikes(&mut script, "o2"));
        assert!(strikes(&mut script, "o1"));
    }

    #[test]
    fn a_spent_rule_makes_way_for_the_next() {
        let mut script = Script::default();
        script.add(Rule::send(Action::errcode(-1)).once());
        script.add(Rule::send(Action::errcode(43101)));
        let first = script.strike(&send_to("o1"), || 0.0);
        let second = script.strike(&send_to("o1"), || 0.0);
        assert_eq!(
            (first, second),
            (Some(Action::errcode(-1)), Some(Action::errcode(43101)))
        );
    }

    #[test]
    fn a_rule_with_a_probability_fires_only_below_it() {
        let mut script = Script::default();
        script.add(Rule::send(Action::errcode(-1)).probability(0.25));
        assert!(script.strike(&send_to("o1"), || 0.25).is_none());
        assert!(script.strike(&send_to("o1"), || 0.24).is_some());
    }

    #[test]
    fn a_rule_reads_as_one_flat_json_object() {
        let rule: Rule = serde_json::from_str(
            r#"{"openid":"o1","count":1,"action":"reset","after_credit":true}"#,
        )
        .unwrap();
        assert_eq!(
            rule,
            Rule::new(Action::reset_after_credit()).openid("o1").once()
        );
    }

    #[test]
    fn an_unknown_action_is_refused() {
        assert!(serde_json::from_str::<Rule>(r#"{"action":"explode"}"#).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"openid":"o1"}"#).is_err());
    }
}
