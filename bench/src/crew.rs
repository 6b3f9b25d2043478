//! Workers of the program that go on running while rows come and go, and the fake WeChat they send to.

use std::time::{Duration, Instant};

use tokio::process::Child;

use crate::contender::Contender;
use crate::stage::{Database, FakeProcess, Stage};

/// No measured stretch takes longer.
const LIMIT: Duration = Duration::from_secs(900);

/// Running workers. Dropping them ends their processes.
pub struct Crew {
    children: Vec<Child>,
    pub fake: FakeProcess,
}

/// A stretch of sends.
pub struct Stretch {
    pub rate: f64,
    /// CPU of the database for each send, in microseconds.
    pub database_us: f64,
}

impl Crew {
    /// Starts `workers` workers for the first `apps` mini-programs; requests take no time.
    pub async fn start(
        database: &Database,
        workers: u32,
        concurrency: u32,
        apps: u64,
    ) -> anyhow::Result<Self> {
        let fake = FakeProcess::start(Duration::ZERO).await?;
        let contender = Contender::Wxnotify { concurrency };
        Self::start_of(contender, fake, database, workers, apps, None)
    }

    /// The same of any contender, beside a fake that runs already; held to a rate if it must be told.
    pub fn start_of(
        contender: Contender,
        fake: FakeProcess,
        database: &Database,
        workers: u32,
        apps: u64,
        rate: Option<u32>,
    ) -> anyhow::Result<Self> {
        let mut children = Vec::new();
        for number in 1..=workers {
            let mut command =
                contender.command_for_ever(&database.url, &fake.base_url, apps, rate)?;
            command.env("WXNOTIFY_WORKER", format!("worker-{number}"));
            children.push(command.kill_on_drop(true).spawn()?);
        }
        Ok(Self { children, fake })
    }

    /// The process of the first worker.
    pub fn pid(&self) -> u32 {
        self.children[0].id().unwrap_or_default()
    }

    /// The processes of all workers.
    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().filter_map(Child::id).collect()
    }

    /// From when `from` sends have arrived until `to` have.
    pub async fn stretch(&self, stage: &Stage, from: u64, to: u64) -> anyhow::Result<Stretch> {
        self.fake.wait_for(from, LIMIT).await?;
        let (cpu, began) = (stage.cpu(), Instant::now());
        let seen = self.fake.counts().await?.0;
        anyhow::ensure!(seen < to, "{to} sends are too few to measure");
        self.fake.wait_for(to, LIMIT).await?;
        let sends = (to - seen) as f64;
        Ok(Stretch {
            rate: sends / began.elapsed().as_secs_f64(),
            database_us: stage.cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / sends,
        })
    }

    /// Ends the workers at once.
    pub async fn end(self) -> anyhow::Result<()> {
        self.kill().await.map(drop)
    }

    /// The same; the fake goes on.
    pub async fn kill(mut self) -> anyhow::Result<FakeProcess> {
        for child in &mut self.children {
            child.start_kill()?;
        }
        for child in &mut self.children {
            child.wait().await?;
        }
        Ok(self.fake)
    }
}
