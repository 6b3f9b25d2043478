//! Clocks that are set by hours, with libfaketime between the programs and the system's clock. The monotonic clock stays
//! true, as it does when a machine's time is set.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::run::{pass, plan, run};
use crate::stage::Stage;

/// A clock that can be set.
struct Clock {
    library: PathBuf,
    file: tempfile::NamedTempFile,
}

impl Clock {
    /// `None`: libfaketime is not installed.
    fn new() -> Option<Self> {
        let library = [
            "/usr/lib/x86_64-linux-gnu",
            "/usr/lib/aarch64-linux-gnu",
            "/usr/lib64",
            "/usr/lib",
        ]
        .map(|folder| Path::new(folder).join("faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|library| library.exists())?;
        let file = tempfile::NamedTempFile::new().ok()?;
        // The server reads it as another user.
        std::fs::set_permissions(file.path(), Permissions::from_mode(0o644)).ok()?;
        let clock = Self { library, file };
        clock.set("+0");
        Some(clock)
    }

    fn set(&self, offset: &str) {
        std::fs::write(self.file.path(), offset).unwrap();
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            (
                "FAKETIME_TIMESTAMP_FILE",
                self.file.path().display().to_string(),
            ),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_clock_stepped() {
    let Some(clock) = Clock::new() else {
        println!(
            "SKIPPED workers_clock_stepped: no libfaketime (Debian: apt-get install faketime)"
        );
        return;
    };
    let mut plan = plan();
    plan.settings.extend(clock.environment());
    let outcome = run(plan, 2, async |stage: &mut Stage| {
        for offset in ["+5h", "+0", "-5h", "+0"] {
            clock.set(offset);
            pass(500).await;
        }
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("workers_clock_stepped");
}

/// The database's clock decides everything: forward it makes leases lapse and rows expire, backward it makes both last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_clock_stepped() {
    let Some(clock) = Clock::new() else {
        println!(
            "SKIPPED databases_clock_stepped: no libfaketime (Debian: apt-get install faketime)"
        );
        return;
    };
    let mut plan = plan();
    plan.rules.one_clock = false;
    plan.server_environment = clock
        .environment()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let mut hours = 0;
    let outcome = run(plan, 1, async |stage: &mut Stage| {
        // Back, then forward beyond where it was: what was made due later by the way must still become due.
        for step in [-2, 4] {
            hours += step;
            clock.set(&format!("{hours:+}h"));
            pass(1_500).await;
        }
        stage.until_sends_flow().await
    })
    .await;
    outcome.report("databases_clock_stepped");
}
