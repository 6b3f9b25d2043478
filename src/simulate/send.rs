//! A call as it was received, and what a send goes through before it is accepted.
//!
//! Start at [`State::judge_send`].

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use hyper::Method;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::account::TemplateSpec;
use super::api::Api;
use super::card::CardBody;
use super::device::DeviceBody;
use super::field::{self, Fault};
use super::login::LoginQuery;
use super::reply::{Refusal, Reply};
use super::server::query_value;
use super::state::State;

/// One call: read once on arrival, judged later.
pub(super) struct Inquiry<'a> {
    pub api: Api,
    pub method: &'a Method,
    pub query: &'a str,
    /// The `Host` header; empty if missing.
    pub host: &'a str,
    /// Empty if missing.
    pub access_token: Cow<'a, str>,
    pub body: &'a [u8],
    pub client_ip: IpAddr,
    pub request: Request<'a>,
}

/// The part of a call its API cares about; an unreadable body is the errcode it deserves.
pub(super) enum Request<'a> {
    Send(Result<SendBody<'a>, i64>),
    Device(Result<DeviceBody<'a>, i64>),
    Card(Result<CardBody<'a>, i64>),
    Login(LoginQuery<'a>),
    Token(Result<TokenBody<'a>, i64>),
    Other,
}

/// The body of a send; what is missing is empty.
#[derive(Deserialize)]
pub(super) struct SendBody<'a> {
    #[serde(borrow, default)]
    touser: Cow<'a, str>,
    #[serde(borrow, default)]
    template_id: Cow<'a, str>,
    #[serde(borrow, default)]
    page: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// A token request, from the body or the query; what is missing is empty.
#[derive(Deserialize)]
pub(super) struct TokenBody<'a> {
    #[serde(borrow, default)]
    pub grant_type: Cow<'a, str>,
    #[serde(borrow, default)]
    pub appid: Cow<'a, str>,
    #[serde(borrow, default, alias = "appsecret")]
    pub secret: Cow<'a, str>,
    #[serde(default)]
    pub force_refresh: bool,
}

impl<'a> Inquiry<'a> {
    pub fn read(
        api: Api,
        method: &'a Method,
        query: &'a str,
        host: &'a str,
        body: &'a [u8],
        client_ip: IpAddr,
    ) -> Self {
        let request = api.read(query, body);
        let access_token = query_value(query, "access_token").unwrap_or_default();
        Inquiry {
            api,
            method,
            query,
            host,
            access_token,
            body,
            client_ip,
            request,
        }
    }

    /// The openid and template of a send as far as its body could be read; else empty.
    pub fn receiver(&self) -> (&str, &str) {
        match &self.request {
            Request::Send(Ok(body)) => (&body.touser, &body.template_id),
            Request::Device(Ok(body)) => body.receiver(),
            Request::Card(Ok(body)) if self.api.is_message() => body.receiver(),
            _ => ("", ""),
        }
    }

    pub fn data(&self) -> Option<Box<RawValue>> {
        match &self.request {
            Request::Send(Ok(body)) => body.data.map(RawValue::to_owned),
            Request::Device(Ok(body)) => body.data.map(RawValue::to_owned),
            Request::Card(Ok(body)) => RawValue::from_string(body.content_json.to_string()).ok(),
            _ => None,
        }
    }

    /// 43001 or 43002 for the wrong method.
    pub fn check_method(&self) -> Result<(), Refusal> {
        match (self.api, self.method) {
            (Api::Token | Api::Login | Api::GetTemplate, &Method::GET) => Ok(()),
            (Api::Token | Api::Login | Api::GetTemplate, _) => Err(Refusal::new(43001)),
            (_, &Method::POST) => Ok(()),
            _ => Err(Refusal::new(43002)),
        }
    }

    pub fn json(&self) -> Result<serde_json::Value, Refusal> {
        read_json(self.body).map_err(Refusal::new)
    }
}

/// 44002 for an empty body, 47001 for one that is not UTF-8 or not the JSON expected.
pub(super) fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, i64> {
    if body.is_empty() {
        return Err(44002);
    }
    let text = std::str::from_utf8(body).map_err(|_| 47001_i64)?;
    serde_json::from_str(text).map_err(|_| 47001)
}

impl State {
    /// Judges a send in WeChat's order: method, token, quota, body, openid, template, concurrency,
    /// subscription, data, page, content. An accepted one takes its credit here.
    ///
    /// Whatever WeChat reports later about an accepted message (its sent event) would start here
    /// too, from the same msgid.
    pub fn judge_send(
        &mut self,
        inquiry: &Inquiry<'_>,
        concurrent: bool,
    ) -> Result<Reply, Refusal> {
        inquiry.check_method()?;
        let appid = self.authorize(inquiry)?;
        self.meter(&appid, inquiry.api)?;
        let Request::Send(body) = &inquiry.request else {
            return Err(Refusal::new(47001));
        };
        let body = body.as_ref().map_err(|errcode| Refusal::new(*errcode))?;
        if !self.knows_openid(&appid, &body.touser) {
            return Err(Refusal::new(40003));
        }
        let long_term = self.check_template(&appid, &body.template_id)?;
        if concurrent {
            return Err(Refusal::new(43108));
        }
        if !self.pair(&appid, &body.touser, &body.template_id).is_open() {
            return Err(Refusal::new(43101));
        }
        let template = self
            .apps
            .get(&appid)
            .and_then(|app| app.templates.get(&*body.template_id));
        let values = read_data(body.data)?;
        check_data(template, &values)?;
        if body.page.starts_with('/') || body.page.contains("://") {
            return Err(Refusal::new(41030));
        }
        let mut texts = values.iter().filter_map(|(_, value)| value.as_deref());
        if texts.any(|text| self.is_sensitive(text)) {
            return Err(Refusal::new(45168));
        }
        let credit_taken = self
            .pair(&appid, &body.touser, &body.template_id)
            .accept(long_term);
        Ok(Reply::accepted(self.next_msgid(), credit_taken))
    }

    pub fn knows_openid(&self, appid: &str, openid: &str) -> bool {
        let user = self.apps.get(appid).and_then(|app| app.users.get(openid));
        if user.is_some_and(|user| user.known) {
            return true;
        }
        let plausible = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        self.is_open() && !openid.is_empty() && openid.bytes().all(plausible)
    }

    /// Whether the template is a long-term one.
    fn check_template(&self, appid: &str, template_id: &str) -> Result<bool, Refusal> {
        let app = self.apps.get(appid);
        if app.is_some_and(|app| app.removed_templates.contains(template_id)) {
            return Err(Refusal::new(40037));
        }
        match app.and_then(|app| app.templates.get(template_id)) {
            Some(template) if template.device => Err(Refusal::new(40037)),
            Some(template) if template.banned => Err(Refusal::new(43107)),
            Some(template) => Ok(template.long_term),
            None if self.is_open() && !template_id.is_empty() => Ok(false),
            None => Err(Refusal::new(40037)),
        }
    }

    pub fn is_sensitive(&self, value: &str) -> bool {
        self.sensitive_words
            .iter()
            .any(|word| value.contains(word.as_str()))
    }
}

/// The keys of a send in the order sent, each with its value; `None` for one that is no string.
pub(super) type Values<'a> = Vec<(Cow<'a, str>, Option<Cow<'a, str>>)>;

/// Reads `data`; one that is no object (a JSON string, say) is refused as a whole.
pub(super) fn read_data(data: Option<&RawValue>) -> Result<Values<'_>, Refusal> {
    let Some(data) = data else {
        return Err(Refusal::with_text(47003, "argument invalid! data is empty"));
    };
    match serde_json::from_str::<Object<'_>>(data.get()) {
        Ok(Object(values)) => Ok(values),
        Err(_) => Err(Refusal::with_text(47003, "argument invalid! data invalid")),
    }
}

/// 47003 for the first bad key: in the template's order if it has fields, else in the order sent.
/// Keys a template does not have are ignored.
pub(super) fn check_data(
    template: Option<&TemplateSpec>,
    values: &Values<'_>,
) -> Result<(), Refusal> {
    let check = |key: &str, value: Option<&Option<Cow<'_, str>>>| {
        let none = Vec::new();
        let allowed = template
            .and_then(|template| template.enums.get(key))
            .unwrap_or(&none);
        let fault = match value {
            None => Err(Fault::Empty),
            Some(None) => Err(Fault::Invalid),
            Some(Some(value)) => field::check(key, value, allowed),
        };
        fault.map_err(|fault| {
            let complaint = if fault == Fault::Empty {
                "is empty"
            } else {
                "invalid"
            };
            Refusal::with_text(
                47003,
                format!("argument invalid! data.{key}.value {complaint}"),
            )
        })
    };
    match template {
        Some(template) if !template.fields.is_empty() => {
            template.fields.iter().try_for_each(|key| {
                let sent = values.iter().rfind(|(sent, _)| sent == key);
                check(key, sent.map(|(_, value)| value))
            })
        }
        _ if values.is_empty() => Err(Refusal::with_text(47003, "argument invalid! data is empty")),
        _ => values
            .iter()
            .try_for_each(|(key, value)| check(key, Some(value))),
    }
}

struct Object<'a>(Values<'a>);

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The member `value`; others, such as `color`, are ignored.
#[derive(Deserialize)]
struct Member<'a> {
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of objects")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut values = Vec::with_capacity(8);
                while let Some(Text(key)) = map.next_key()? {
                    let member: &RawValue = map.next_value()?;
                    values.push((key, read_value(member)));
                }
                Ok(Object(values))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// The text of `{"value":"…"}`; a missing or null value is empty, one of another type is `None`.
fn read_value(member: &RawValue) -> Option<Cow<'_, str>> {
    let member: Member<'_> = serde_json::from_str(member.get()).ok()?;
    match member.value {
        None => Some(Cow::Borrowed("")),
        Some(value) => serde_json::from_str(value.get())
            .ok()
            .map(|Text(text)| text),
    }
}
