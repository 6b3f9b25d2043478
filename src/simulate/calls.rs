//! What the calls for tokens and about quotas do with the fake's state.

use chrono::TimeDelta;
use serde_json::json;

use super::api::Api;
use super::quota;
use super::reply::{Refusal, Reply};
use super::send::{Inquiry, Request, TokenBody};
use super::state::State;
use super::token::Issued;

/// Clearings of quotas a month.
const CLEARINGS_PER_MONTH: u32 = 10;
/// How long `rid/get` remembers a failed call.
const RID_LIFE: TimeDelta = TimeDelta::days(7);

impl State {
    pub fn judge_plain_token(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        let appid = self.check_credentials(inquiry)?.appid.to_string();
        let now = self.now();
        Ok(token_reply(&self.tokens.issue_plain(
            &appid,
            now,
            &mut self.rng,
        )))
    }

    pub fn judge_stable_token(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        let body = self.check_credentials(inquiry)?;
        let now = self.now();
        let issued = if body.force_refresh {
            let forced = self.tokens.issue_forced(&body.appid, now, &mut self.rng);
            forced.map_err(|_| Refusal::new(45009))?
        } else {
            self.tokens.issue_stable(&body.appid, now, &mut self.rng)
        };
        Ok(token_reply(&issued))
    }

    /// Checks a token request in WeChat's order and counts it.
    fn check_credentials<'a>(
        &mut self,
        inquiry: &'a Inquiry<'_>,
    ) -> Result<&'a TokenBody<'a>, Refusal> {
        inquiry.check_method()?;
        let Request::Token(body) = &inquiry.request else {
            return Err(Refusal::new(47001));
        };
        let body = body.as_ref().map_err(|errcode| Refusal::new(*errcode))?;
        let refuse = |errcode| Err(Refusal::new(errcode));
        match body {
            _ if body.grant_type != "client_credential" => return refuse(40002),
            _ if body.appid.is_empty() => return refuse(41002),
            _ if body.secret.is_empty() => return refuse(41004),
            _ => {}
        }
        let spec = self
            .apps
            .get(&*body.appid)
            .and_then(|app| app.spec.as_ref());
        match spec {
            None if self.is_open() => {}
            None => return refuse(40013),
            Some(spec) if !spec.secret.is_empty() && spec.secret != body.secret => {
                return refuse(40125);
            }
            Some(spec) if spec.secret_frozen => return refuse(40243),
            Some(spec) => {
                let listed = |ips: &Vec<_>| ips.contains(&inquiry.client_ip);
                if !spec.ip_whitelist.as_ref().is_none_or(listed) {
                    let ip = inquiry.client_ip;
                    let text = format!("invalid ip {ip} ipv6 ::ffff:{ip}, not in whitelist");
                    return Err(Refusal::with_text(40164, text));
                }
                if spec.admin_confirmation {
                    return refuse(89503);
                }
            }
        }
        self.meter(&body.appid, inquiry.api)?;
        Ok(body)
    }

    pub fn judge_quota_get(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        inquiry.check_method()?;
        let appid = self.authorize(inquiry)?;
        let body = inquiry.json()?;
        let path = body["cgi_path"].as_str().unwrap_or_default();
        let api = Api::from_path(path).ok_or_else(|| Refusal::new(76021))?;
        let now = self.now();
        let app = self.app(&appid);
        let limits = app.limits(api);
        let used = app.meters.entry(api).or_default().used_today(now);
        let daily = limits.daily.unwrap_or(i64::MAX.unsigned_abs());
        let mut reply = json!({
            "errcode": 0,
            "errmsg": "ok",
            "quota": {"daily_limit": daily, "used": used, "remain": daily.saturating_sub(used)},
        });
        if let Some(per_minute) = limits.per_minute {
            reply["rate_limit"] = json!({"call_count": per_minute, "refresh_second": 60});
            reply["component_rate_limit"] = json!({"call_count": 0, "refresh_second": 0});
        }
        Ok(Reply::ok(reply.to_string()))
    }

    pub fn judge_rid_get(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        inquiry.check_method()?;
        let appid = self.authorize(inquiry)?;
        let body = inquiry.json()?;
        let rid = body["rid"].as_str().unwrap_or_default();
        let groups: Vec<&str> = rid.split('-').collect();
        let is_hex = |g: &&str| g.len() == 8 && g.bytes().all(|b| b.is_ascii_hexdigit());
        if groups.len() != 3 || !groups.iter().all(is_hex) {
            return Err(Refusal::new(76002));
        }
        let record = self.rids.iter().find(|record| record.rid == rid);
        let record = record.ok_or_else(|| Refusal::new(76001))?;
        if record.appid != appid {
            return Err(Refusal::new(76003));
        }
        if self.now() - record.at > RID_LIFE {
            return Err(Refusal::new(76004));
        }
        let request = json!({
            "invoke_time": record.at.timestamp(),
            "cost_in_ms": 1,
            "request_url": record.url,
            "request_body": record.body,
            "response_body": record.reply,
            "client_ip": record.client_ip,
        });
        let reply = json!({"errcode": 0, "errmsg": "ok", "request": request});
        Ok(Reply::ok(reply.to_string()))
    }

    pub fn judge_clear_quota(&mut self, inquiry: &Inquiry<'_>) -> Result<Reply, Refusal> {
        inquiry.check_method()?;
        let appid = if inquiry.api == Api::ClearQuotaV2 {
            self.check_credentials(inquiry)?.appid.to_string()
        } else {
            let appid = self.authorize(inquiry)?;
            if inquiry.json()?["appid"].as_str() != Some(&appid) {
                return Err(Refusal::new(40013));
            }
            appid
        };
        let month = quota::beijing_month(self.now());
        let app = self.app(&appid);
        if app.clearings.0 != month {
            app.clearings = (month, 0);
        }
        if app.clearings.1 >= CLEARINGS_PER_MONTH {
            return Err(Refusal::new(48006));
        }
        app.clearings.1 += 1;
        app.meters.values_mut().for_each(quota::Meter::clear);
        Ok(Reply::ok(r#"{"errcode":0,"errmsg":"ok"}"#.to_owned()))
    }
}

fn token_reply(issued: &Issued) -> Reply {
    let Issued {
        access_token,
        expires_in,
    } = issued;
    Reply::ok(format!(
        r#"{{"access_token":"{access_token}","expires_in":{expires_in}}}"#
    ))
}
