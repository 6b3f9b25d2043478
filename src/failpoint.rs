//! Faults on purpose, for the chaos tests: a worker that dies or stops at a chosen step. Debug builds only; a release
//! build has nothing of it but empty functions.
//!
//! Every statement and every request to WeChat passes two points, `before:NAME` and `after:NAME`, and a statement a third,
//! `during:NAME`, when its request has left and its answer has not come. `FAILPOINT=before:settle@3` kills the
//! process, as `kill -9` would, when it passes that point for the third time; `…=stop/during:lease@1` stops it
//! (SIGSTOP). A send passes `to:OPENID` as well: `…=to:oPoison` kills whoever sends to that user.
//! `FAILPOINTS_SEEN` names a file that gets a line for each point when it is first passed. Neither is a setting: their
//! names do not begin like one.

#[cfg(debug_assertions)]
pub use armed::{during, pass};
#[cfg(not(debug_assertions))]
pub use disarmed::{during, pass};

#[cfg(not(debug_assertions))]
mod disarmed {
    /// Nothing.
    #[inline(always)]
    pub fn pass(_kind: &str, _name: &str) {}

    /// The future itself.
    #[inline(always)]
    pub fn during<F>(_name: &str, future: F) -> F {
        future
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::collections::BTreeSet;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};

    use nix::sys::signal::{Signal, raise};

    /// What the environment asks for.
    struct Plan {
        point: String,
        signal: Signal,
        /// Passes left until it strikes.
        left: AtomicU32,
    }

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(|| {
        let text = std::env::var("FAILPOINT").ok()?;
        let (signal, text) = match text.strip_prefix("stop/") {
            Some(rest) => (Signal::SIGSTOP, rest.to_owned()),
            None => (Signal::SIGKILL, text),
        };
        let (point, count) = match text.rsplit_once('@') {
            Some((point, count)) => (point.to_owned(), count.parse().ok()?),
            None => (text, 1),
        };
        let left = AtomicU32::new(count);
        Some(Plan {
            point,
            signal,
            left,
        })
    });

    static SEEN: LazyLock<Option<(String, Mutex<BTreeSet<String>>)>> =
        LazyLock::new(|| Some((std::env::var("FAILPOINTS_SEEN").ok()?, Mutex::default())));

    /// The process is at this point; it may not come back.
    pub fn pass(kind: &str, name: &str) {
        if let Some((path, seen)) = &*SEEN {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if kind != "to" && seen.insert(format!("{kind}:{name}")) {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let _ = file.and_then(|mut file| writeln!(file, "{kind}:{name}"));
            }
        }
        let Some(plan) = &*PLAN else { return };
        let is_it = plan
            .point
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|point| point == name);
        if is_it && plan.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = raise(plan.signal);
        }
    }

    /// Passes `during:NAME` when the future has begun and waits.
    pub async fn during<F: Future>(name: &'static str, future: F) -> F::Output {
        let mut future = pin!(future);
        if let std::task::Poll::Ready(output) = futures::poll!(future.as_mut()) {
            return output;
        }
        pass("during", name);
        future.await
    }
}
