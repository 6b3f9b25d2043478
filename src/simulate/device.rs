//! Device messages: a subscription holds for one device, by serial number and model.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::Api;
use super::reply::{Refusal, Reply};
use super::send::{Inquiry, Request, check_data, read_data};
use super::state::State;

/// Receivers of one call; the true number is not published.
const RECEIVERS_MAX: usize = 100;
const SN_BYTES_MAX: usize = 128;

/// A user's subscription to one device's messages.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DeviceSubscription {
    openid: String,
    template_id: String,
    sn: String,
    model_id: String,
}

impl DeviceSubscription {
    pub fn new(openid: &str, template_id: &str, sn: &str, model_id: &str) -> Self {
        DeviceSubscription {
            openid: openid.to_owned(),
            template_id: template_id.to_owned(),
            sn: sn.to_owned(),
            model_id: model_id.to_owned(),
        }
    }
}

/// The body of a device send; what is missing is empty.
#[derive(Deserialize)]
pub(super) struct DeviceBody<'a> {
    #[serde(borrow, default)]
    to_openid_list: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    template_id: Cow<'a, str>,
    #[serde(borrow, default)]
    sn: Cow<'a, str>,
    #[serde(borrow, default, rename = "modelId")]
    model_id: Cow<'a, str>,
    #[serde(borrow, default)]
    page: Cow<'a, str>,
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
}

impl DeviceBody<'_> {
    /// The first receiver, and the template.
    pub fn receiver(&self) -> (&str, &str) {
        let openid = self.to_openid_list.first();
        (openid.map_or("", |openid| openid), &self.template_id)
    }
}

impl State {
    /// Judges a device send in the order of plain ones. There is one answer for all receivers: the first refusal.
    pub fn judge_device_send(
        &mut self,
        inquiry: &Inquiry<'_>,
        concurrent: bool,
    ) -> Result<Reply, Refusal> {
        inquiry.check_method()?;
        let appid = self.authorize(inquiry)?;
        self.meter(&appid, Api::DeviceSend)?;
        let Request::Device(body) = &inquiry.request else {
            return Err(Refusal::new(47001));
        };
        let body = body.as_ref().map_err(|errcode| Refusal::new(*errcode))?;
        if !(1..=RECEIVERS_MAX).contains(&body.to_openid_list.len()) {
            return Err(Refusal::new(40032));
        }
        for openid in &body.to_openid_list {
            if !self.knows_openid(&appid, openid) {
                return Err(Refusal::new(40003));
            }
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        match () {
            () if body.sn.len() > SN_BYTES_MAX => return Err(Refusal::new(9_800_001)),
            () if body.sn.is_empty() || !body.sn.bytes().all(plain) => {
                return Err(Refusal::new(9_800_002));
            }
            () if body.model_id.is_empty() => return Err(Refusal::new(9_800_003)),
            () => {}
        }
        self.check_device_template(&appid, &body.template_id)?;
        if concurrent {
            return Err(Refusal::new(43108));
        }
        for openid in &body.to_openid_list {
            self.check_subscription(&appid, openid, body)?;
        }
        let templates = self.apps.get(&appid).map(|app| &app.templates);
        let template = templates.and_then(|templates| templates.get(&*body.template_id));
        let values = read_data(body.data)?;
        check_data(template, &values)?;
        if body.page.starts_with('/') || body.page.contains("://") {
            return Err(Refusal::new(41030));
        }
        for openid in &body.to_openid_list {
            self.pair(&appid, openid, &body.template_id).accept(true);
        }
        Ok(Reply::accepted_without_msgid())
    }

    fn check_device_template(&self, appid: &str, template_id: &str) -> Result<(), Refusal> {
        let app = self.apps.get(appid);
        match app.and_then(|app| app.templates.get(template_id)) {
            Some(template) if !template.device => Err(Refusal::new(40037)),
            Some(template) if template.banned => Err(Refusal::new(43107)),
            None if !self.is_open() || template_id.is_empty() => Err(Refusal::new(40037)),
            _ => Ok(()),
        }
    }

    fn check_subscription(
        &mut self,
        appid: &str,
        openid: &str,
        body: &DeviceBody<'_>,
    ) -> Result<(), Refusal> {
        let everybody_is_subscribed = self.options.credits_default.is_none();
        if self.pair(appid, openid, &body.template_id).refuses {
            return Err(Refusal::new(43101));
        }
        let devices = &self.app(appid).devices;
        let asked = DeviceSubscription::new(openid, &body.template_id, &body.sn, &body.model_id);
        if devices.contains(&asked) {
            return Ok(());
        }
        let of_another_device = devices
            .iter()
            .any(|one| one.openid == openid && one.template_id == asked.template_id);
        match (of_another_device, everybody_is_subscribed) {
            (true, _) => Err(Refusal::new(9_800_006)),
            (false, true) => Ok(()),
            (false, false) => Err(Refusal::new(43101)),
        }
    }
}
