//! What WeChat tells a mini-program about itself: its templates, its quotas, what it saw of a failed call. None of it sends
//! a message, so each call may be repeated.
//!
//! Start at [`AccountError`], then the calls.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::{self, optional_integer};
use super::{Exchange, SEND_PATH, Wechat, access_token::AccessToken, find_rid, presentable};

/// Why WeChat told nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// WeChat refused.
    #[error("WeChat refused: errcode {errcode}{}", .errmsg.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// WeChat's errcode.
        errcode: i64,
        /// WeChat's words, without the token.
        errmsg: Option<String>,
        /// WeChat's request id.
        rid: Option<String>,
    },
    /// No connection: WeChat was not asked.
    #[error("WeChat cannot be reached: {reason}")]
    NotAsked {
        /// The failure in words.
        reason: String,
    },
    /// WeChat may have been asked; no readable answer came.
    #[error("no readable answer from WeChat: {reason}")]
    NoReply {
        /// The failure in words.
        reason: String,
    },
}

/// A template as `gettemplate` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedTemplate {
    /// The private template id.
    pub template_id: String,
    /// Its title.
    pub title: String,
    /// `one_time` or `long_term`; `None`: a type this version does not know.
    pub kind: Option<&'static str>,
    /// Its text with the places of the fields.
    pub content: String,
    /// The keys in order; `None`: the text could not be understood, then nothing is known of its fields.
    pub fields: Option<Vec<String>>,
    /// The values allowed for a key, by key; `None`: none are listed.
    pub enums: Option<BTreeMap<String, Vec<String>>>,
}

/// What `quota/get` says of one API path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quota {
    /// Calls a day.
    pub daily_limit: i64,
    /// Calls of this day.
    pub used: i64,
    /// Calls left of this day.
    pub remaining: i64,
    /// Calls per second, if WeChat names a rate.
    pub rate_per_second: Option<f32>,
}

/// What WeChat saw of a failed call. It holds a token and user data, hence no `Debug`.
#[derive(Deserialize)]
pub struct RecalledCall {
    /// Unix time of the call.
    #[serde(default)]
    pub invoke_time: i64,
    /// How long WeChat took.
    #[serde(default)]
    pub cost_in_ms: i64,
    /// Path and query, with the token.
    #[serde(default)]
    pub request_url: String,
    /// What was sent.
    #[serde(default)]
    pub request_body: String,
    /// What WeChat answered.
    #[serde(default)]
    pub response_body: String,
    /// The address the call came from.
    #[serde(default)]
    pub client_ip: String,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default, deserialize_with = "optional_integer")]
    errcode: Option<i64>,
    errmsg: Option<String>,
}

#[derive(Deserialize)]
struct TemplateList {
    data: Vec<TemplateEntry>,
}

#[derive(Deserialize)]
struct TemplateEntry {
    #[serde(rename = "priTmplId")]
    template_id: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    content: String,
    #[serde(rename = "type")]
    kind: Option<i64>,
    #[serde(rename = "keywordEnumValueList")]
    enums: Option<Vec<EnumEntry>>,
}

#[derive(Deserialize)]
struct EnumEntry {
    #[serde(rename = "keywordCode", default)]
    code: String,
    #[serde(rename = "enumValueList", default)]
    values: Vec<String>,
}

#[derive(Deserialize)]
struct QuotaReply {
    quota: DailyQuota,
    rate_limit: Option<RateLimit>,
}

#[derive(Deserialize)]
struct DailyQuota {
    daily_limit: i64,
    used: i64,
    remain: i64,
}

#[derive(Deserialize)]
struct RateLimit {
    #[serde(default)]
    call_count: i64,
    #[serde(default)]
    refresh_second: i64,
}

#[derive(Deserialize)]
struct RidReply {
    request: RecalledCall,
}

#[derive(Deserialize)]
struct Nothing {}

/// Lists of templates are longer than replies to sends.
const LIST_BYTES_MAX: usize = 1 << 20;

impl Wechat {
    /// Lists the templates of the token's mini-program. WeChat gives this call a daily quota of its own.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; asking again is harmless.
    ///
    /// Source: <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/getMessageTemplateList.html>
    pub async fn list_templates(
        &self,
        token: &AccessToken,
    ) -> Result<Vec<ListedTemplate>, AccountError> {
        let path = "/wxaapi/newtmpl/gettemplate";
        let list: TemplateList = self.ask(path, token, None).await?;
        Ok(list.data.into_iter().map(read_template).collect())
    }

    /// What is used and left of the quota for sends.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; asking again is harmless.
    ///
    /// Source: <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/openApi-mgnt/getApiQuota.html>
    pub async fn read_send_quota(&self, token: &AccessToken) -> Result<Quota, AccountError> {
        let body = json!({ "cgi_path": SEND_PATH });
        let path = "/cgi-bin/openapi/quota/get";
        let reply: QuotaReply = self.ask(path, token, Some(body)).await?;
        Ok(Quota {
            daily_limit: reply.quota.daily_limit,
            used: reply.quota.used,
            remaining: reply.quota.remain,
            rate_per_second: reply.rate_limit.and_then(|rate| {
                let named = rate.call_count > 0 && rate.refresh_second > 0;
                named.then(|| rate.call_count as f32 / rate.refresh_second as f32)
            }),
        })
    }

    /// What WeChat saw of the failed call with this rid, for seven days. The answer is secret.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; 76001 to 76004 say why there is no such record.
    ///
    /// Source: <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/openApi-mgnt/getRidInfo.html>
    pub async fn recall(
        &self,
        token: &AccessToken,
        rid: &str,
    ) -> Result<RecalledCall, AccountError> {
        let path = "/cgi-bin/openapi/rid/get";
        let reply: RidReply = self.ask(path, token, Some(json!({ "rid": rid }))).await?;
        Ok(reply.request)
    }

    /// Clears the quotas of every API of the mini-program: ten times a month.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; after [`AccountError::NoReply`] it may have been done. 48006: the ten are used up.
    ///
    /// Source: <https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/openApi-mgnt/clearQuota.html>
    pub async fn clear_quota(&self, token: &AccessToken, appid: &str) -> Result<(), AccountError> {
        let body = json!({ "appid": appid });
        let _: Nothing = self.ask("/cgi-bin/clear_quota", token, Some(body)).await?;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &'static str,
        token: &AccessToken,
        body: Option<serde_json::Value>,
    ) -> Result<T, AccountError> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let (exchange, _took): (_, Duration) =
            self.call(path, Some(token), body, LIST_BYTES_MAX).await;
        match exchange {
            Exchange::Answered { status, body, .. } => read(status, &body, token.expose()),
            Exchange::NotSent { reason } => Err(AccountError::NotAsked { reason }),
            Exchange::Lost { reason, .. } => Err(AccountError::NoReply { reason }),
        }
    }
}

/// Reads the head of an answer first: WeChat leaves out the rest of it when it refuses.
fn read<T: DeserializeOwned>(
    status: StatusCode,
    body: &[u8],
    token: &str,
) -> Result<T, AccountError> {
    let unreadable = || AccountError::NoReply {
        reason: answer::describe(status, body),
    };
    let head: Head = answer::read(body).ok_or_else(unreadable)?;
    if let Some(errcode) = head.errcode.filter(|errcode| *errcode != 0) {
        let errmsg = head.errmsg.unwrap_or_default();
        return Err(AccountError::Refused {
            errcode,
            rid: find_rid(&errmsg).map(Into::into),
            errmsg: (!errmsg.is_empty()).then(|| presentable(&errmsg, token, "[token]")),
        });
    }
    if !status.is_success() {
        let status = status.as_u16();
        return Err(AccountError::NoReply {
            reason: format!("HTTP status {status} with a body without an errcode"),
        });
    }
    // A list with spoilt texts would refuse good messages.
    let texts_are_sound = std::str::from_utf8(body).is_ok();
    texts_are_sound
        .then(|| answer::read(body))
        .flatten()
        .ok_or_else(unreadable)
}

fn read_template(entry: TemplateEntry) -> ListedTemplate {
    let enums: BTreeMap<String, Vec<String>> = entry
        .enums
        .into_iter()
        .flatten()
        .filter(|list| !list.values.is_empty())
        .map(|list| {
            let key = list.code.strip_suffix(".DATA").unwrap_or(&list.code);
            (key.to_owned(), list.values)
        })
        .collect();
    ListedTemplate {
        template_id: entry.template_id,
        title: entry.title,
        kind: match entry.kind {
            Some(2) => Some("one_time"),
            Some(3) => Some("long_term"),
            _ => None,
        },
        fields: find_fields(&entry.content),
        content: entry.content,
        enums: (!enums.is_empty()).then_some(enums),
    }
}

/// The keys in `订单号:{{character_string1.DATA}}` and so on. `None` if there is none, or one that is not understood: a check
/// against half of the fields would refuse good messages.
fn find_fields(content: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    for place in content.split("{{").skip(1) {
        let (inside, _) = place.split_once("}}")?;
        let key = inside.trim().strip_suffix(".DATA")?;
        let kind = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        if kind.is_empty() || kind.len() == key.len() || !kind.chars().all(plain) {
            return None;
        }
        if !fields.iter().any(|known| known == key) {
            fields.push(key.to_owned());
        }
    }
    (!fields.is_empty()).then_some(fields)
}

/// Whether a text has the form of a rid: three groups of eight hex digits.
pub fn is_rid(text: &str) -> bool {
    find_rid(&format!("rid: {text}")) == Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_template_come_from_its_content_in_order() {
        let content = "订单号:{{character_string1.DATA}}\n商品:{{thing12.DATA}}\n位置:{{ enum_string2.DATA }}\n";
        assert_eq!(
            find_fields(content).unwrap(),
            ["character_string1", "thing12", "enum_string2"]
        );
    }

    #[test]
    fn of_a_content_that_is_not_understood_no_field_is_known() {
        for content in [
            "",
            "没有字段",
            "{{thing1.DATA}} {{first.DATA}}",
            "{{thing1.DATA}} {{thing2",
            "{{thing1.VALUE}}",
            "{{1.DATA}}",
        ] {
            assert_eq!(find_fields(content), None, "{content}");
        }
    }

    #[test]
    fn a_list_is_read_with_types_and_enumerations() {
        let body = r#"{"errcode":0,"errmsg":"ok","data":[
            {"priTmplId":"T1","title":"取餐提醒","content":"商品:{{thing2.DATA}}\n","example":"商品:拿铁\n","type":2},
            {"priTmplId":"T2","title":"设备","content":"位置:{{enum_string2.DATA}}\n","type":3,
             "keywordEnumValueList":[{"keywordCode":"enum_string2.DATA","enumValueList":["客厅","厨房"]}]},
            {"priTmplId":"T3","title":"新","content":"","type":9}]}"#;
        let list: TemplateList = read(StatusCode::OK, body.as_bytes(), "token").unwrap();
        let templates: Vec<_> = list.data.into_iter().map(read_template).collect();
        assert_eq!(templates[0].kind, Some("one_time"));
        assert_eq!(templates[0].fields.as_deref().unwrap(), ["thing2"]);
        assert_eq!(templates[1].kind, Some("long_term"));
        assert_eq!(
            templates[1].enums.as_ref().unwrap()["enum_string2"],
            ["客厅", "厨房"]
        );
        assert_eq!((templates[2].kind, &templates[2].fields), (None, &None));
    }

    #[test]
    fn a_refusal_keeps_the_errcode_and_hides_the_token() {
        let body = r#"{"errcode":40001,"errmsg":"invalid 91_abc rid: 68e0a1b2-1c2d3e4f-00112233"}"#;
        let Err(AccountError::Refused {
            errcode,
            errmsg,
            rid,
        }) = read::<TemplateList>(StatusCode::OK, body.as_bytes(), "91_abc")
        else {
            panic!("not a refusal");
        };
        assert_eq!(errcode, 40001);
        assert_eq!(rid.as_deref(), Some("68e0a1b2-1c2d3e4f-00112233"));
        assert!(!errmsg.unwrap().contains("91_abc"));
    }

    #[test]
    fn an_answer_is_read_whatever_a_gateway_did_to_its_texts() {
        let body =
            "\u{feff}{\"errcode\":\"0\",\"data\":[{\"priTmplId\":\"T1\",\"title\":\"取餐\n\"}]}";
        let list: TemplateList = read(StatusCode::OK, body.as_bytes(), "token").unwrap();
        assert_eq!(list.data[0].title, "取餐 ");
        // Enumerations in another encoding would be compared with what producers insert.
        let body = b"{\"errcode\":0,\"data\":[{\"priTmplId\":\"T1\",\"title\":\"\xb2\xcd\"}]}";
        let list = read::<TemplateList>(StatusCode::OK, body, "token");
        assert!(matches!(list, Err(AccountError::NoReply { .. })));
    }

    #[test]
    fn what_is_not_an_answer_is_no_answer() {
        for (status, body) in [
            (200, ""),
            (200, "<html>"),
            (200, r#"{"errcode":0,"errmsg":"ok"}"#),
            (502, "{}"),
            (200, r#"{"data":[{"title":"without an id"}]}"#),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = read::<TemplateList>(status, body.as_bytes(), "token");
            assert!(
                matches!(answer, Err(AccountError::NoReply { .. })),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn a_rid_is_known_by_its_form() {
        assert!(is_rid("68e0a1b2-1c2d3e4f-00112233"));
        for text in [
            "",
            "68e0a1b2",
            "68e0a1b2-1c2d3e4f-0011223g",
            " 68e0a1b2-1c2d3e4f-00112233",
        ] {
            assert!(!is_rid(text), "{text}");
        }
    }
}
