//! What a setting's value must be: one [`Rule`] for each kind of value, and the rules between values.
//!
//! Start at [`Rule`].

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::loader::Loader;
use super::table::Draft;
use crate::address::{Address, Refused};

/// How much longer a lease must last than a request.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// What a value must be, and what it becomes.
pub(super) trait Rule {
    /// What a value becomes.
    type Value;
    /// Whether messages must not show a value.
    const IS_SECRET: bool = false;

    /// Checks `text`; the error is the rule in words.
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// As [`Rule::parse`], for a value that the environment completes.
    fn parse_in(
        &self,
        text: &str,
        _environment: &BTreeMap<String, String>,
    ) -> Result<Self::Value, Broken> {
        self.parse(text).map_err(|rule| Broken { rule, next: None })
    }

    /// What stands for a value when none is given and the table has no default.
    fn fallback(&self) -> Option<String> {
        None
    }
}

/// Why a value is refused.
pub(super) struct Broken {
    /// The rule in words.
    pub(super) rule: String,
    /// What to do; `None`: what is said of every setting.
    pub(super) next: Option<String>,
}

/// Where the database is, as libpq takes it. Secret.
pub(super) struct DatabaseUrl;

impl Rule for DatabaseUrl {
    type Value = Address;
    const IS_SECRET: bool = true;

    fn parse(&self, text: &str) -> Result<Address, String> {
        text.parse().map_err(|Refused { rule, .. }| rule)
    }

    fn parse_in(
        &self,
        text: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Address, Broken> {
        Address::parse(text, environment).map_err(|Refused { rule, next }| Broken {
            rule,
            next: Some(next),
        })
    }
}

/// `https://host[:port][/path]` addresses with commas between them; plain http on loopback only.
pub(super) struct ApiBase;

impl Rule for ApiBase {
    type Value = Vec<Url>;

    fn parse(&self, text: &str) -> Result<Vec<Url>, String> {
        let mut urls = Vec::new();
        for part in text.split(',').map(str::trim) {
            let url =
                Url::parse(part).map_err(|error| format!("{part:?} is not a URL: {error}"))?;
            let loopback = match url.host() {
                Some(url::Host::Ipv4(address)) => address.is_loopback(),
                Some(url::Host::Ipv6(address)) => address.is_loopback(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => return Err(format!("{part:?} names no host")),
            };
            match url.scheme() {
                "https" => {}
                "http" if loopback => {}
                _ => {
                    return Err(format!(
                        "{part:?} must begin with https:// (http:// on loopback only)"
                    ));
                }
            }
            if url.query().is_some() || url.fragment().is_some() {
                return Err(format!("{part:?} must end after the path"));
            }
            if url.path().split('/').any(|segment| segment == "cgi-bin") {
                return Err(format!("{part:?} must end before /cgi-bin"));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err("must hold no user or password".to_owned());
            }
            urls.push(url);
        }
        Ok(urls)
    }
}

/// The URL of a forward proxy, or `none`. Secret, so no part of the value is in the message.
pub(super) struct Proxy;

impl Rule for Proxy {
    type Value = Option<SecretString>;
    const IS_SECRET: bool = true;

    fn parse(&self, text: &str) -> Result<Option<SecretString>, String> {
        if matches!(text, "" | "none") {
            return Ok(None);
        }
        let form = "must be http://host:port or http://user:password@host:port (https:// if the proxy itself speaks TLS), with \
                    special characters of the password in percent-encoding, or none";
        let url = Url::parse(text).map_err(|_| form.to_owned())?;
        let is_base =
            matches!(url.path(), "/" | "") && url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !is_base {
            return Err(form.to_owned());
        }
        Ok(Some(SecretString::from(text.to_owned())))
    }
}

/// A whole number within bounds.
pub(super) struct Whole<Number>(pub(super) Number, pub(super) Number);

impl<Number: Copy + Display + FromStr + PartialOrd> Rule for Whole<Number> {
    type Value = Number;

    fn parse(&self, text: &str) -> Result<Number, String> {
        let Whole(least, most) = self;
        match text.parse() {
            Ok(number) if (*least..=*most).contains(&number) => Ok(number),
            _ => Err(format!("must be a whole number from {least} to {most}")),
        }
    }
}

/// Whole hours within bounds.
pub(super) struct Hours(pub(super) u64, pub(super) u64);

impl Rule for Hours {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, String> {
        let hours = Whole(self.0, self.1).parse(text)?;
        Ok(Duration::from_secs(hours * 3600))
    }
}

/// Seconds within bounds, fractions allowed.
pub(super) struct Seconds(pub(super) f64, pub(super) f64);

impl Rule for Seconds {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, String> {
        let Seconds(least, most) = self;
        match text.parse::<f64>() {
            Ok(secs) if (*least..=*most).contains(&secs) => Ok(Duration::from_secs_f64(secs)),
            _ => Err(format!(
                "must be seconds from {least} to {most}, without a unit"
            )),
        }
    }
}

/// `true` or `false`.
pub(super) struct Switch;

impl Rule for Switch {
    type Value = bool;

    fn parse(&self, text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "must be true or false".to_owned())
    }
}

/// One of these words.
pub(super) struct Choice<Meaning: 'static>(pub(super) &'static [(&'static str, Meaning)]);

impl<Meaning: Copy> Rule for Choice<Meaning> {
    type Value = Meaning;

    fn parse(&self, text: &str) -> Result<Meaning, String> {
        let chosen = self.0.iter().find(|(word, _)| *word == text);
        chosen.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<&str> = self.0.iter().map(|(word, _)| *word).collect();
            format!("must be one of {}", words.join(", "))
        })
    }
}

/// 1 to 100 visible characters; the host's name when none is given.
pub(super) struct Name;

impl Rule for Name {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, String> {
        let is_visible = |letter: char| !letter.is_control() && !letter.is_whitespace();
        if text.chars().all(is_visible) && (1..=100).contains(&text.chars().count()) {
            Ok(text.to_owned())
        } else {
            Err("must be 1 to 100 visible characters".to_owned())
        }
    }

    fn fallback(&self) -> Option<String> {
        Some(host_name())
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default();
    if name.is_empty() {
        "worker".to_owned()
    } else {
        name.chars().take(100).collect()
    }
}

/// `address:port`, or nothing.
pub(super) struct Listen;

impl Rule for Listen {
    type Value = Option<SocketAddr>;

    fn parse(&self, text: &str) -> Result<Option<SocketAddr>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let local = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok());
        let address = match local {
            Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
            None => text.parse().ok(),
        };
        match address {
            Some(address) => Ok(Some(address)),
            None => Err(
                "must be an IP address and a port, for example 127.0.0.1:9464, or empty".to_owned(),
            ),
        }
    }
}

/// Directives of a tracing filter.
pub(super) struct LogFilter;

impl Rule for LogFilter {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, String> {
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(
                "must be a level (error, warn, info, debug, trace) or target=level pairs with commas"
                    .to_owned(),
            ),
        }
    }
}

/// Checks the values that bound each other.
pub(super) fn check_together(loader: &mut Loader, draft: &Draft) {
    let secs = |span: Duration| span.as_secs_f64();
    if let (Some(lease), Some(request)) = (draft.lease, draft.request_timeout)
        && lease <= request + LEASE_MARGIN
    {
        let least = secs(request + LEASE_MARGIN);
        loader.refuse_span(
            "WXNOTIFY_LEASE_SECS",
            lease,
            format!("must exceed WXNOTIFY_REQUEST_TIMEOUT_SECS + 5 = {least} seconds"),
            "lengthen the lease or shorten the request time-out",
        );
    }
    if let (Some(base), Some(cap)) = (draft.backoff_base, draft.backoff_cap)
        && base > cap
    {
        let most = secs(cap);
        loader.refuse_span(
            "WXNOTIFY_BACKOFF_BASE_SECS",
            base,
            format!("must not exceed WXNOTIFY_BACKOFF_CAP_SECS = {most} seconds"),
            "lower the base or raise the cap",
        );
    }
    if let (Some(connect), Some(request)) = (draft.connect_timeout, draft.request_timeout)
        && connect >= request
    {
        let limit = secs(request);
        loader.refuse_span(
            "WXNOTIFY_CONNECT_TIMEOUT_SECS",
            connect,
            format!("must be less than WXNOTIFY_REQUEST_TIMEOUT_SECS = {limit} seconds"),
            "lower it or raise the request time-out",
        );
    }
}
