//! What the system allows this process, as far as a worker depends on it: open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Settings;

/// Requests to the HTTP listener that may be open at once, the log, the runtime's own, and the like.
const BESIDE: u64 = 300;

/// How many files may be open now, and how many the process may allow itself; `None`: the system does not tell.
#[must_use]
pub fn descriptors() -> Option<(u64, u64)> {
    getrlimit(Resource::RLIMIT_NOFILE).ok()
}

/// How many a worker with these settings needs: one for each send and each connection, and some.
#[must_use]
pub fn descriptors_wanted(settings: &Settings) -> u64 {
    settings.concurrency as u64 + u64::from(settings.pool_connections) + BESIDE
}

/// Allows this process as many as it needs, where the system lets it, and warns where it does not: without one for its
/// connection a send looks as if WeChat were out of reach.
pub fn see_to_descriptors(settings: &Settings) {
    let wanted = descriptors_wanted(settings);
    let Some((now, most)) = descriptors() else {
        return;
    };
    if now >= wanted {
        return;
    }
    let raised = wanted.min(most);
    let has = match setrlimit(Resource::RLIMIT_NOFILE, raised, most) {
        Ok(()) => raised,
        Err(_) => now,
    };
    if has < wanted {
        warn!(
            "Only {has} files may be open and up to {wanted} are needed: sends will fail as if WeChat were out of reach; raise \
             LimitNOFILE (systemd), ulimits (containers) or ulimit -n, or lower WXNOTIFY_CONCURRENCY"
        );
    }
}
