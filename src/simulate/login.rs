//! Login codes: what `wx.login` gives a page, and its one exchange through `jscode2session`.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt;
use serde_json::json;

use super::quota::Limits;
use super::reply::{Refusal, Reply};
use super::send::{Inquiry, Request};
use super::state::State;

/// How long a code lives.
const CODE_LIFE: TimeDelta = TimeDelta::minutes(5);
/// Exchanges of one user's codes a minute.
const PER_USER_AND_MINUTE: Limits = Limits {
    daily: None,
    per_minute: Some(100),
};
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// A code that was issued.
#[derive(Debug)]
pub(super) struct LoginCode {
    appid: String,
    openid: String,
    issued_at: DateTime<Utc>,
    used: bool,
}

/// The query of an exchange; what is missing is empty.
pub(super) struct LoginQuery<'a> {
    pub appid: Cow<'a, str>,
    pub secret: Cow<'a, str>,
    pub code: Cow<'a, str>,
    pub grant_type: Cow<'a, str>,
}

impl State {
    /// A code for the user's page.
    pub fn issue_login_code(&mut self, appid: &str, openid: &str) -> String {
        self.know_user(appid, openid);
        let code = format!("0a{}", self.letters(30));
        let login = LoginCode {
            appid: appid.to_owned(),
            openid: openid.to_owned(),
            issued_at: self.now(),
            used: false,
        };
        self.logins.insert(code.clone(), login);
        code
    }

    fn letters(&mut self, count: usize) -> String {
        let letter = |_| char::from(LETTERS[self.rng.random_range(0..LETTERS.len())]);
        (0..count).map(letter).collect()
    }

    /// Judges an exchange. One that succeeds uses the code up here, whatever becomes of the reply.
    pub fn judge_login(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        inquiry.check_method()?;
        let Request::Login(query) = &inquiry.request else {
            return Err(Refusal::new(47001));
        };
        self.check_login_query(query)?;
        let now = self.now();
        let login = self
            .logins
            .get(&*query.code)
            .filter(|login| login.appid == query.appid)
            .ok_or_else(|| Refusal::new(40029))?;
        let openid = login.openid.clone();
        let (used, expired) = (login.used, now - login.issued_at > CODE_LIFE);
        let user = self.app(&query.appid).user(&openid);
        if user.logins.count(PER_USER_AND_MINUTE, now).is_err() {
            return Err(Refusal::new(45011));
        }
        if user.login_blocked {
            return Err(Refusal::new(40226));
        }
        if expired {
            return Err(Refusal::new(40029));
        }
        if used {
            return Err(Refusal::new(40163));
        }
        if let Some(login) = self.logins.get_mut(&*query.code) {
            login.used = true;
        }
        // Shaped as WeChat's, and easy to find where it must not be.
        let session_key = format!("SESSIONKEY{}==", self.letters(12));
        let unionid = format!("oUNIONID{}", self.letters(20));
        let reply = json!({"openid": openid, "session_key": session_key, "unionid": unionid});
        Ok(Reply::ok(reply.to_string()))
    }

    fn check_login_query(&self, query: &LoginQuery<'_>) -> Result<(), Refusal> {
        let spec = self.apps.get(&*query.appid);
        let errcode = match spec.and_then(|app| app.spec.as_ref()) {
            _ if query.appid.is_empty() => 41002,
            _ if query.secret.is_empty() => 41004,
            _ if query.code.is_empty() => 41008,
            _ if query.grant_type != "authorization_code" => 40002,
            None if !self.is_open() => 40013,
            Some(spec) if !spec.secret.is_empty() && spec.secret != query.secret => 40125,
            _ => return Ok(()),
        };
        Err(Refusal::new(errcode))
    }
}
