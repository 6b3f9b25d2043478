//! What the fake knows of each app: its secret, its templates, its users and their credits.
//!
//! Start at [`App`], then [`User`] and [`Pair`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::api::Api;
use super::callback::CallbackSpec;
use super::card::{Card, CardTypeSpec};
use super::device::DeviceSubscription;
use super::ledger::PairSum;
use super::quota::{Limits, Meter};

/// A mini-program known to the fake. As JSON only `appid` and `secret` are required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// The AppID.
    pub appid: String,
    /// The only AppSecret that works; another gets 40125.
    pub secret: String,
    /// Callers of the token endpoints must be listed, else 40164; absent: anybody.
    #[serde(default)]
    pub ip_whitelist: Option<Vec<IpAddr>>,
    /// Token calls get 89503.
    #[serde(default)]
    pub admin_confirmation: bool,
    /// Token calls get 40243.
    #[serde(default)]
    pub secret_frozen: bool,
}

impl AppSpec {
    /// An app without restrictions.
    pub fn new(appid: impl Into<String>, secret: impl Into<String>) -> Self {
        AppSpec {
            appid: appid.into(),
            secret: secret.into(),
            ip_whitelist: None,
            admin_confirmation: false,
            secret_frozen: false,
        }
    }
}

/// A template of an app. As JSON only `template_id` and `fields` are required.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSpec {
    /// The private template id (`priTmplId`).
    pub template_id: String,
    /// What `gettemplate` shows; empty: the id.
    #[serde(default)]
    pub title: String,
    /// Its keys in order, such as `thing2`; every one must be sent. The type is the prefix.
    pub fields: Vec<String>,
    /// The allowed values of `enum…`, `enum_string…` and `const…` keys; a key left out takes any value.
    #[serde(default)]
    pub enums: BTreeMap<String, Vec<String>>,
    /// A long-term template: one credit allows any number of messages.
    #[serde(default)]
    pub long_term: bool,
    /// A device template: for `device/subscribe/send` alone.
    #[serde(default)]
    pub device: bool,
    /// Sends get 43107.
    #[serde(default)]
    pub banned: bool,
}

impl TemplateSpec {
    /// A one-time template with these keys.
    pub fn new<F: Into<String>>(
        template_id: impl Into<String>,
        fields: impl IntoIterator<Item = F>,
    ) -> Self {
        TemplateSpec {
            template_id: template_id.into(),
            title: String::new(),
            fields: fields.into_iter().map(Into::into).collect(),
            enums: BTreeMap::new(),
            long_term: false,
            device: false,
            banned: false,
        }
    }

    /// Names the template for `gettemplate`.
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Lists the values of an enumeration key.
    pub fn with_enum<V: Into<String>>(
        mut self,
        key: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.enums
            .insert(key.into(), values.into_iter().map(Into::into).collect());
        self
    }

    /// For device messages alone.
    pub fn device(mut self) -> Self {
        self.device = true;
        self
    }

    /// One credit allows any number of messages.
    pub fn long_term(mut self) -> Self {
        self.long_term = true;
        self
    }
}

/// One app.
#[derive(Debug, Default)]
pub(super) struct App {
    /// Present once the app was added; an app without accepts any secret in open mode.
    pub spec: Option<AppSpec>,
    pub templates: HashMap<String, TemplateSpec>,
    /// Ids of templates that were removed: 40037 even where any template is accepted.
    pub removed_templates: HashSet<String>,
    pub users: HashMap<String, User>,
    /// Who subscribed to which device.
    pub devices: HashSet<DeviceSubscription>,
    /// The state machines of service cards, by notify_type.
    pub card_types: HashMap<String, CardTypeSpec>,
    /// Service cards, by notify_code.
    pub cards: HashMap<String, Card>,
    /// Where its events go, if not where every app's go.
    pub callback: Option<CallbackSpec>,
    /// Quotas set for this app.
    pub limits: HashMap<Api, Limits>,
    pub meters: HashMap<Api, Meter>,
    /// Month (Beijing) and number of the quota clearings in it.
    pub clearings: (i64, u32),
}

impl App {
    pub fn limits(&self, api: Api) -> Limits {
        let own = self.limits.get(&api).copied();
        own.unwrap_or_else(|| api.usual_limits())
    }

    pub fn add_template(&mut self, spec: TemplateSpec) {
        self.removed_templates.remove(&spec.template_id);
        self.templates.insert(spec.template_id.clone(), spec);
    }

    /// Whether there was such a template.
    pub fn remove_template(&mut self, template_id: &str) -> bool {
        self.removed_templates.insert(template_id.to_owned());
        self.templates.remove(template_id).is_some()
    }

    /// The user, made if new; looking one up costs no allocation.
    pub fn user(&mut self, openid: &str) -> &mut User {
        if !self.users.contains_key(openid) {
            self.users.insert(openid.to_owned(), User::default());
        }
        self.users
            .get_mut(openid)
            .expect("inserted above if it was missing")
    }
}

/// One user of an app.
#[derive(Debug, Default)]
pub(super) struct User {
    /// Whether strict mode takes the openid for one of this app.
    pub known: bool,
    /// Whether exchanges of the user's login codes get 40226.
    pub login_blocked: bool,
    /// Exchanges of the user's login codes.
    pub logins: Meter,
    /// Whether a send to this user is in flight.
    pub busy: bool,
    pub pairs: HashMap<String, Pair>,
}

impl User {
    /// Whether nobody has said anything about this user: without the sums one forgotten is as good as one kept.
    pub fn is_blank(&self) -> bool {
        !self.known
            && !self.busy
            && !self.login_blocked
            && self.logins == Meter::default()
            && self.pairs.values().all(Pair::is_blank)
    }

    /// What is known of this user and one template, made if new.
    pub fn pair(&mut self, template_id: &str, credits: Option<u64>) -> &mut Pair {
        if !self.pairs.contains_key(template_id) {
            self.pairs.insert(
                template_id.to_owned(),
                Pair {
                    credits,
                    ..Pair::default()
                },
            );
        }
        self.pairs
            .get_mut(template_id)
            .expect("inserted above if it was missing")
    }
}

/// One (openid, template_id) of an app.
#[derive(Debug, Default)]
pub(super) struct Pair {
    /// Credits left; `None`: unlimited.
    pub credits: Option<u64>,
    /// Whether credits were ever granted explicitly.
    pub granted: u64,
    pub refuses: bool,
    pub arrived: u64,
    pub accepted: u64,
    pub credits_taken: u64,
    /// Messages accepted from another system.
    pub sent_elsewhere: u64,
    /// How many of those have explained a 43101.
    pub blamed_elsewhere: u64,
}

impl Pair {
    fn is_blank(&self) -> bool {
        self.credits.is_none() && self.granted == 0 && !self.refuses && self.sent_elsewhere == 0
    }

    /// Adds credits; the first grant ends an unlimited allowance.
    pub fn grant(&mut self, credits: u64) {
        self.granted = self.granted.saturating_add(credits);
        self.credits = Some(self.credits.unwrap_or(0).saturating_add(credits));
    }

    /// Whether a message would be accepted now (else: 43101).
    pub fn is_open(&self) -> bool {
        !self.refuses && self.credits != Some(0)
    }

    /// Counts an accepted message; says whether it took a credit.
    pub fn accept(&mut self, long_term: bool) -> bool {
        self.accepted += 1;
        match &mut self.credits {
            Some(credits) if !long_term => {
                *credits = credits.saturating_sub(1);
                self.credits_taken += 1;
                true
            }
            _ => false,
        }
    }

    pub fn sum(&self, appid: &str, openid: &str, template_id: &str) -> PairSum {
        PairSum {
            appid: appid.to_owned(),
            openid: openid.to_owned(),
            template_id: template_id.to_owned(),
            granted: self.granted,
            remaining: self.credits,
            refuses: self.refuses,
            arrived: self.arrived,
            accepted: self.accepted,
            credits_taken: self.credits_taken,
            sent_elsewhere: self.sent_elsewhere,
        }
    }
}
