//! What users do in the mini-program, what another system sends to them, and why a send of the caller's met 43101.
//!
//! A tap changes what is true and pushes the event WeChat would push of it: an accept is one credit more, a reject closes the
//! template until the next accept. With "always keep this choice" no pop-up is shown, and WeChat pushes nothing.

use serde::{Deserialize, Serialize};

use super::account::Pair;
use super::control::Control;

/// A tap that asks for subscriptions, answered by the user or by an earlier "always keep".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// The app.
    pub appid: String,
    /// The user.
    pub openid: String,
    /// The answer for each template asked for.
    pub answers: Vec<TapAnswer>,
    /// No pop-up was shown, so no event is pushed.
    #[serde(default)]
    pub always_keep: bool,
}

/// What the user answered for one template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapAnswer {
    /// The template.
    pub template_id: String,
    /// The answer.
    pub answer: Answer,
}

/// An answer in the pop-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// One credit more.
    Accept,
    /// Sends get 43101 until the next accept.
    Reject,
}

impl Answer {
    /// WeChat's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
        }
    }
}

/// Why a send met 43101, which WeChat itself does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why43101 {
    /// The user never accepted the template.
    NeverAccepted,
    /// The user refuses it now.
    Refused,
    /// Every credit went to messages of the caller.
    UsedUp,
    /// A message of another system took the credit.
    SpentElsewhere,
}

impl Why43101 {
    /// Every reason, in the order in which they are shown.
    pub const ALL: [Self; 4] = [
        Self::NeverAccepted,
        Self::Refused,
        Self::UsedUp,
        Self::SpentElsewhere,
    ];

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverAccepted => "never_accepted",
            Self::Refused => "refused",
            Self::UsedUp => "used_up",
            Self::SpentElsewhere => "spent_elsewhere",
        }
    }
}

impl Pair {
    /// Takes the user's answer.
    fn answer(&mut self, answer: Answer) {
        self.refuses = answer == Answer::Reject;
        if answer == Answer::Accept {
            self.grant(1);
        }
    }

    /// Why a send is refused now. Each message of another system explains one such send.
    pub(super) fn blame_43101(&mut self) -> Why43101 {
        if self.refuses {
            Why43101::Refused
        } else if self.granted == 0 {
            Why43101::NeverAccepted
        } else if self.blamed_elsewhere < self.sent_elsewhere {
            self.blamed_elsewhere += 1;
            Why43101::SpentElsewhere
        } else {
            Why43101::UsedUp
        }
    }
}

impl Control {
    /// A user answers a request for subscriptions.
    pub fn tap(&self, tap: &Tap) {
        let mut state = self.shared.lock();
        state.know_user(&tap.appid, &tap.openid);
        for answered in &tap.answers {
            state
                .pair(&tap.appid, &tap.openid, &answered.template_id)
                .answer(answered.answer);
        }
        drop(state);
        if !tap.always_keep {
            let answers: Vec<_> = tap
                .answers
                .iter()
                .map(|answered| (answered.template_id.as_str(), answered.answer.as_str()))
                .collect();
            self.push_popup(&tap.appid, &tap.openid, &answers);
        }
    }

    /// A user turns a template off in the card's menu.
    pub fn reject_later(&self, appid: &str, openid: &str, template_id: &str) {
        self.refuse(appid, openid, template_id, true);
        self.push_change(appid, openid, &[(template_id, "reject")]);
    }

    /// Another system sends to the user. Answers the msgid; `None`: it met 43101.
    pub fn send_elsewhere(&self, appid: &str, openid: &str, template_id: &str) -> Option<i64> {
        let mut state = self.shared.lock();
        state.know_user(appid, openid);
        let long_term = state
            .app(appid)
            .templates
            .get(template_id)
            .is_some_and(|template| template.long_term);
        let pair = state.pair(appid, openid, template_id);
        if !pair.is_open() {
            return None;
        }
        pair.accept(long_term);
        pair.sent_elsewhere += 1;
        let msgid = state.next_msgid();
        let push = state.sent_event(appid, openid, template_id, msgid);
        drop(state);
        if let Some(push) = push {
            // Fails when the fake has stopped: then nothing is pushed.
            let _ = self.shared.pushes.send(push);
        }
        Some(msgid)
    }
}
