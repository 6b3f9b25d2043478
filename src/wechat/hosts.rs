//! Which of WeChat's hosts to ask: the preferred one, another for a while after it could not be connected to.

use std::{
    sync::Mutex,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::Url;
use tokio::time::Instant;

use super::WechatOptionsError;

/// How long another host is used before the preferred one is tried again.
const COME_BACK_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Hosts {
    bases: Vec<Url>,
    current: AtomicUsize,
    come_back_at: Mutex<Option<Instant>>,
}

impl Hosts {
    pub(super) fn new(bases: &[Url]) -> Result<Self, WechatOptionsError> {
        if bases.is_empty() {
            return Err(WechatOptionsError::NoHost);
        }
        for base in bases {
            check(base)?;
        }
        Ok(Self {
            bases: bases.to_vec(),
            current: AtomicUsize::new(0),
            come_back_at: Mutex::new(None),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.bases.len()
    }

    /// Whether plain http is among them, which [`check`] allows on loopback alone.
    pub(super) fn any_plain(&self) -> bool {
        self.bases.iter().any(|base| base.scheme() == "http")
    }

    /// The host to ask first.
    pub(super) fn current(&self, now: Instant) -> usize {
        let current = self.current.load(Ordering::Relaxed);
        if current == 0 {
            return 0;
        }
        let mut come_back_at = self.lock();
        if come_back_at.is_some_and(|at| now >= at) {
            *come_back_at = None;
            self.current.store(0, Ordering::Relaxed);
        }
        self.current.load(Ordering::Relaxed)
    }

    /// Records that no connection to `host` came about; the host to try next.
    pub(super) fn failed(&self, host: usize, now: Instant) -> usize {
        let next = (host + 1) % self.bases.len();
        let mut come_back_at = self.lock();
        if self.current.load(Ordering::Relaxed) == host {
            self.current.store(next, Ordering::Relaxed);
            *come_back_at = (next != 0).then(|| now + COME_BACK_AFTER);
        }
        next
    }

    /// The address of `path` on `host`.
    pub(super) fn url(&self, host: usize, path: &str) -> Url {
        let mut url = self.bases[host].clone();
        let path = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.come_back_at
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn check(base: &Url) -> Result<(), WechatOptionsError> {
    let host = base.host_str().unwrap_or_default().to_owned();
    let bare = base.username().is_empty()
        && base.password().is_none()
        && base.query().is_none()
        && base.fragment().is_none();
    match base.scheme() {
        _ if host.is_empty() || !bare => Err(WechatOptionsError::NotABase { host }),
        "https" => Ok(()),
        "http" if is_loopback(&host) => Ok(()),
        _ => Err(WechatOptionsError::Insecure { host }),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        let bases =
            ["https://one.example", "https://two.example"].map(|base| Url::parse(base).unwrap());
        Hosts::new(&bases).unwrap()
    }

    #[tokio::test]
    async fn a_host_that_failed_is_left_for_a_while_and_then_preferred_again() {
        let hosts = hosts();
        let now = Instant::now();
        assert_eq!(hosts.current(now), 0);
        assert_eq!(hosts.failed(0, now), 1);
        assert_eq!(hosts.current(now + Duration::from_secs(59)), 1);
        assert_eq!(hosts.current(now + Duration::from_secs(61)), 0);
    }

    #[tokio::test]
    async fn a_late_failure_of_a_host_already_left_changes_nothing() {
        let hosts = hosts();
        let now = Instant::now();
        hosts.failed(0, now);
        hosts.failed(0, now);
        assert_eq!(hosts.current(now), 1);
    }

    #[tokio::test]
    async fn when_the_second_host_fails_too_the_first_is_next() {
        let hosts = hosts();
        let now = Instant::now();
        hosts.failed(0, now);
        assert_eq!(hosts.failed(1, now), 0);
        assert_eq!(hosts.current(now), 0);
    }

    #[test]
    fn the_path_of_a_gateway_comes_before_wechats() {
        for (base, url) in [
            ("https://one.example", "https://one.example/cgi-bin/x"),
            (
                "https://one.example/wechat",
                "https://one.example/wechat/cgi-bin/x",
            ),
            (
                "https://one.example:8443/a/b/",
                "https://one.example:8443/a/b/cgi-bin/x",
            ),
        ] {
            let hosts = Hosts::new(&[Url::parse(base).unwrap()]).unwrap();
            assert_eq!(hosts.url(0, "/cgi-bin/x").as_str(), url);
        }
    }

    #[test]
    fn plain_http_is_refused_but_on_loopback() {
        for (base, accepted) in [
            ("https://api.weixin.qq.com", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost:1", true),
            ("http://api.weixin.qq.com", false),
            ("http://127.0.0.1.example.com", false),
            ("ftp://127.0.0.1", false),
            ("https://user@api.weixin.qq.com", false),
            ("https://gateway.example/wechat", true),
            ("https://api.weixin.qq.com/?a=b", false),
        ] {
            assert_eq!(
                check(&Url::parse(base).unwrap()).is_ok(),
                accepted,
                "{base}"
            );
        }
    }
}
