//! The stage of the demo: database, fake WeChat and worker, and everything that producers, operators and others do.
//!
//! Start at [`Stage::set_up`], then [`Stage::play`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgPool};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::comparison::Belief;
use super::plan::{self, BOOKS, CAFE, CINEMA, Fate, Plan, REFUND, RefusedInsert, SECRET};
use super::screen::Screen;
use crate::config::{Settings, Sources};
use crate::schema;
use crate::simulate::{CallbackSpec, FakeWechat, Ledger, SimulateOptions};
use crate::worker::{self, RunEnd, RunError, RunOptions};

/// What both sides of the callbacks know.
const CALLBACK_TOKEN: &str = "demotoken";
const CALLBACK_AESKEY: &str = "q1Os1ZMe0nG28KUEx9lg3HjK7V5QyXvi212fzsgDqg0";
/// Sends in flight: few, so that one can watch.
const CONCURRENCY: u32 = 12;
/// How long the plain rows should take together.
const LANES_MS: usize = 2500;
/// How often to look at the view.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// When to give up waiting for rows to end as planned; what then differs is reported.
const GIVE_UP_AFTER: Duration = Duration::from_secs(45);

/// Everything the demo runs on. Dropping it stops the fake; the worker is stopped by [`Stage::stop_worker`].
pub(super) struct Stage<'a> {
    plan: &'a Plan,
    screen: &'a Screen,
    pub(super) pool: PgPool,
    pub(super) fake: FakeWechat,
    stop: CancellationToken,
    worker: JoinHandle<Result<RunEnd, RunError>>,
}

/// What has been done already.
#[derive(Debug, Default)]
struct Done {
    lost: bool,
    told: bool,
    stolen: bool,
    cancelled: bool,
    armed: bool,
    app_added: bool,
    resumed: bool,
    confirmed: bool,
    denied: bool,
    /// Rows an operator's function has dealt with.
    decided: HashSet<i64>,
}

/// What an operator does to each row of a fate.
struct Decision {
    fate: Fate,
    /// The status the row must have before.
    status: &'static str,
    statement: &'static str,
    /// What the function answers when it is done; anything else: ask again later.
    answer: &'static str,
}

const CANCEL: Decision = Decision {
    fate: Fate::Cancelled,
    status: "scheduled",
    statement: include_str!("../../sql/demo/cancel_demo_row.sql"),
    answer: "cancelled",
};
const CONFIRM: Decision = Decision {
    fate: Fate::ConfirmedSent,
    status: "in_doubt",
    statement: include_str!("../../sql/demo/confirm_sent.sql"),
    answer: "confirmed sent",
};
const DENY: Decision = Decision {
    fate: Fate::ConfirmedUnsent,
    status: "in_doubt",
    statement: include_str!("../../sql/demo/confirm_not_sent.sql"),
    answer: "confirmed not sent",
};

impl<'a> Stage<'a> {
    /// Applies the migrations, teaches the fake what it must know, and starts a worker in this process.
    pub async fn set_up(
        plan: &'a Plan,
        seed: u64,
        database_url: &str,
        listen: &str,
        screen: &'a Screen,
    ) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(3)
            .connect(database_url)
            .await
            .context("connecting to the throwaway database")?;
        let mut connection = pool.acquire().await?.detach();
        schema::apply(&mut connection, &schema::OF_THIS_PROGRAM).await?;
        connection.close().await?;
        let fake = start_fake(plan, seed, listen).await?;
        for (appid, name) in [(CAFE, "咖啡小程序"), (CINEMA, "影院小程序")] {
            sqlx::query(include_str!("../../sql/demo/add_demo_app.sql"))
                .bind(appid)
                .bind(name)
                .execute(&pool)
                .await?;
        }
        let settings = settings(database_url, &fake.base_url(), listen)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let worker =
            tokio::spawn(
                async move { worker::run(&settings, RunOptions::default(), stopped).await },
            );
        Ok(Self {
            plan,
            screen,
            pool,
            fake,
            stop,
            worker,
        })
    }

    /// What a producer must not get away with.
    pub async fn try_bad_inserts(&self) -> Vec<RefusedInsert> {
        let mut refused = Vec::new();
        for statement in plan::bad_inserts() {
            let message = match self.type_sql(&statement).await {
                Ok(_) => None,
                Err(error) => Some(match error.as_database_error() {
                    Some(refusal) => refusal.message().to_owned(),
                    None => error.to_string(),
                }),
            };
            refused.push(RefusedInsert { statement, message });
        }
        refused
    }

    /// Inserts the rows, lets everything happen to them, and returns when all are where they had to come to, or it
    /// takes too long.
    pub async fn play(&self) -> anyhow::Result<Vec<Belief>> {
        self.pause_template().await?;
        for row in &self.plan.rows {
            let statement = match row.fate {
                Fate::TokenStolen => continue,
                Fate::LoginCode => {
                    let code = self.fake.control().issue_login_code(row.appid, &row.openid);
                    row.insert_statement_with_login_code(&code)
                }
                _ => row.insert_statement(),
            };
            self.type_sql(&statement)
                .await
                .with_context(|| format!("a row of the demo: {}", row.insert_statement()))?;
        }
        let rows = self.plan.rows.len();
        self.screen.event(&format!(
            "{rows} rows are inserted, one plain INSERT each; the worker is at them"
        ));
        self.screen.begin(rows);
        let began = Instant::now();
        let mut done = Done::default();
        loop {
            let beliefs = self.read_beliefs().await?;
            let settled = self.settled(&beliefs);
            self.screen.progress(settled, rows, &beliefs);
            if settled == rows || began.elapsed() > GIVE_UP_AFTER || self.worker.is_finished() {
                self.screen.end();
                return Ok(beliefs);
            }
            self.act(&beliefs, began.elapsed(), &mut done).await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Finishes what is in flight and ends the worker.
    pub async fn stop_worker(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.worker
            .await
            .context("the worker panicked")?
            .context("the worker did not run")?;
        self.pool.close().await;
        Ok(())
    }

    /// What the view says about every row.
    pub async fn read_beliefs(&self) -> anyhow::Result<Vec<Belief>> {
        sqlx::query_as(include_str!("../../sql/demo/read_beliefs.sql"))
            .fetch_all(&self.pool)
            .await
            .context("reading the view notifications")
    }

    /// WeChat's side, once it has finished with every call.
    pub async fn read_ledger(&self) -> Ledger {
        let control = self.fake.control();
        let arrived = control.counts().sends_arrived;
        // What is still open after that shows in the ledger as what it is.
        let _ = control
            .wait_for_sends(arrived, Duration::from_secs(2))
            .await;
        control.ledger()
    }

    /// How many rows have the status they must end with.
    fn settled(&self, beliefs: &[Belief]) -> usize {
        let is_settled = |belief: &&Belief| {
            self.plan
                .row(&belief.business_ref)
                .is_some_and(|row| row.status == belief.status)
        };
        beliefs.iter().filter(is_settled).count()
    }

    /// Whether all rows of a fate are there and have the status.
    fn all_are(&self, fate: Fate, status: &str, beliefs: &[Belief]) -> bool {
        let with_status = self
            .of(fate, beliefs)
            .filter(|belief| belief.status == status);
        with_status.count() == self.plan.of(fate).count()
    }

    fn of<'b>(&self, fate: Fate, beliefs: &'b [Belief]) -> impl Iterator<Item = &'b Belief> {
        beliefs.iter().filter(move |belief| {
            let row = self.plan.row(&belief.business_ref);
            row.is_some_and(|row| row.fate == fate)
        })
    }

    /// Does what is due now: each once, when the rows are ready for it.
    async fn act(
        &self,
        beliefs: &[Belief],
        elapsed: Duration,
        done: &mut Done,
    ) -> anyhow::Result<()> {
        let lost = self.fake.control().counts().replies_lost;
        let to_lose = self.plan.rows.iter().filter(|row| row.loses_reply());
        if !done.lost && lost >= to_lose.count() as u64 {
            done.lost = true;
            self.screen
                .event(&format!("{lost} replies are lost: those rows are in doubt"));
        }
        if !done.told && self.all_are(Fate::EventCame, "sent", beliefs) {
            done.told = true;
            let count = self.plan.of(Fate::EventCame).count();
            self.screen.event(&format!(
                "{count} of them are told of by WeChat's events: sent, and not sent twice"
            ));
        }
        let busy = beliefs
            .iter()
            .filter(|belief| matches!(belief.status.as_str(), "due" | "sending"));
        // With most slots free the stolen token meets many rows in flight at once.
        if !done.stolen && elapsed > Duration::from_millis(1500) && busy.count() < 3 {
            done.stolen = true;
            self.steal_token().await?;
        }
        if !done.cancelled
            && elapsed > Duration::from_secs(1)
            && self.decide(&CANCEL, beliefs, &mut done.decided).await?
        {
            done.cancelled = true;
            self.delete().await?;
        }
        if !done.armed && elapsed > Duration::from_secs(2) {
            done.armed = true;
            self.arm().await?;
        }
        if !done.app_added
            && elapsed > Duration::from_secs(3)
            && self.all_are(Fate::AppAdded, "paused", beliefs)
        {
            done.app_added = true;
            self.add_app().await?;
        }
        if !done.resumed && self.all_are(Fate::Expired, "expired", beliefs) {
            done.resumed = true;
            self.resume_template().await?;
        }
        if !done.confirmed && self.decide(&CONFIRM, beliefs, &mut done.decided).await? {
            done.confirmed = true;
            let count = self.plan.of(Fate::ConfirmedSent).count();
            self.screen.event(&format!(
                "{count} doubts on hold, and the message came: confirm_sent(id)"
            ));
        }
        if !done.denied && self.decide(&DENY, beliefs, &mut done.decided).await? {
            done.denied = true;
            let count = self.plan.of(Fate::ConfirmedUnsent).count();
            self.screen.event(&format!(
                "{count} doubts on hold, and nothing came: confirm_not_sent(id) sends them"
            ));
        }
        Ok(())
    }

    /// Types a statement as it would be typed into psql: it is text of the plan, and has no file.
    async fn type_sql(&self, statement: &str) -> sqlx::Result<u64> {
        let result = self
            .pool
            .execute(AssertSqlSafe(statement.to_owned()))
            .await?;
        Ok(result.rows_affected())
    }

    async fn pause_template(&self) -> anyhow::Result<()> {
        sqlx::query(include_str!("../../sql/demo/pause_demo_template.sql"))
            .bind(CAFE)
            .bind(REFUND)
            .execute(&self.pool)
            .await?;
        self.screen
            .event(&format!("an operator pauses the template {REFUND}"));
        Ok(())
    }

    /// Lets requests arrive and wait, has the token stolen under them, and lets WeChat judge them then.
    async fn steal_token(&self) -> anyhow::Result<()> {
        const ARRIVE_WITHIN: Duration = Duration::from_millis(500);
        let control = self.fake.control();
        control.hold();
        let arrived = control.counts().sends_arrived;
        for row in self.plan.of(Fate::TokenStolen) {
            self.type_sql(&row.insert_statement()).await?;
        }
        let all = arrived + self.plan.of(Fate::TokenStolen).count() as u64;
        let arrive = control.wait_until(|counts| counts.sends_arrived >= all);
        // On a slow machine some come later; they use the new token at once.
        let _ = tokio::time::timeout(ARRIVE_WITHIN, arrive).await;
        control.steal_token(CAFE);
        control.release();
        self.screen
            .event("the access token is stolen in mid-flight: 40001, one refresh for all");
        Ok(())
    }

    async fn delete(&self) -> anyhow::Result<()> {
        for row in self.plan.of(Fate::Deleted) {
            let deleted = self.type_sql(&row.delete_statement()).await?;
            anyhow::ensure!(
                deleted == 1,
                "{} deleted {deleted} rows",
                row.delete_statement()
            );
        }
        let deleted = self.plan.of(Fate::Deleted).count();
        let cancelled = self.plan.of(Fate::Cancelled).count();
        self.screen.event(&format!(
            "{deleted} rows are cancelled by DELETE, {cancelled} by cancel_notification(id)"
        ));
        Ok(())
    }

    async fn arm(&self) -> anyhow::Result<()> {
        for row in self.plan.of(Fate::Armed) {
            self.type_sql(&row.arm_statement()).await?;
        }
        let armed = self.plan.of(Fate::Armed).count();
        self.screen
            .event(&format!("{armed} held credits get their message, arm(…)"));
        Ok(())
    }

    async fn add_app(&self) -> anyhow::Result<()> {
        sqlx::query(include_str!("../../sql/demo/add_demo_app.sql"))
            .bind(BOOKS)
            .bind("书店小程序")
            .execute(&self.pool)
            .await?;
        self.screen.event(&format!(
            "{BOOKS} is registered: its rows waited and go out now"
        ));
        Ok(())
    }

    async fn resume_template(&self) -> anyhow::Result<()> {
        sqlx::query(include_str!("../../sql/demo/resume_demo_template.sql"))
            .bind(CAFE)
            .bind(REFUND)
            .execute(&self.pool)
            .await?;
        self.screen.event(&format!(
            "{REFUND} is resumed: some rows expired meanwhile, others go out"
        ));
        Ok(())
    }

    /// Runs an operator's function for each row of a fate that is ready for it. Whether all are dealt with: a row whose
    /// batch is still in flight has its turn later.
    async fn decide(
        &self,
        decision: &Decision,
        beliefs: &[Belief],
        decided: &mut HashSet<i64>,
    ) -> anyhow::Result<bool> {
        for belief in self.of(decision.fate, beliefs) {
            if belief.status != decision.status || decided.contains(&belief.id) {
                continue;
            }
            let answer: String = sqlx::query_scalar(decision.statement)
                .bind(belief.id)
                .fetch_one(&self.pool)
                .await?;
            if answer == decision.answer {
                decided.insert(belief.id);
            }
        }
        let mut rows = self.of(decision.fate, beliefs);
        Ok(rows.all(|belief| decided.contains(&belief.id)))
    }
}

/// A fake WeChat that knows the plan's users, their credits, and what goes wrong.
async fn start_fake(plan: &Plan, seed: u64, listen: &str) -> anyhow::Result<FakeWechat> {
    let options = SimulateOptions {
        seed: Some(seed),
        ..SimulateOptions::strict(plan::apps())
    };
    let fake = FakeWechat::start(options)
        .await
        .context("starting the fake WeChat")?;
    let control = fake.control();
    for (appid, template) in plan::templates() {
        control.add_template(appid, template);
    }
    let (appid, card_type) = plan::card_type();
    control.add_card_type(appid, card_type);
    for row in &plan.rows {
        control.grant(row.appid, &row.openid, row.template_id, row.fate.credits());
        if let Some(rule) = row.rule() {
            control.script(rule);
        }
        if let Some(sn) = row.serial_number() {
            control.subscribe_device(row.appid, &row.openid, row.template_id, &sn, plan::MODEL);
        }
        if let Some(code) = row.card_code() {
            control.issue_card_code(row.appid, code);
        }
    }
    let url = format!("http://{listen}/wechat/callback/{{appid}}");
    let callback = CallbackSpec::new(url, CALLBACK_TOKEN).with_aeskey(CALLBACK_AESKEY);
    control.set_callback(CINEMA, Some(callback));
    let latency_ms = (CONCURRENCY as usize * LANES_MS / plan.rows.len()).clamp(1, 100);
    control.set_latency(Duration::from_millis(latency_ms as u64));
    Ok(fake)
}

/// Settings under which minutes become seconds; the environment of this process is left out.
fn settings(database_url: &str, api_base: &str, listen: &str) -> anyhow::Result<Settings> {
    let sources = Sources::default()
        .with("DATABASE_URL", database_url)
        .with("WXNOTIFY_API_BASE", api_base)
        .with("WXNOTIFY_WORKER", "demo")
        .with("WXNOTIFY_CONCURRENCY", &CONCURRENCY.to_string())
        .with("WXNOTIFY_CONNECT_TIMEOUT_SECS", "1")
        .with("WXNOTIFY_REQUEST_TIMEOUT_SECS", "1.5")
        .with("WXNOTIFY_LEASE_SECS", "8")
        .with("WXNOTIFY_DOUBT_WINDOW_SECS", "2")
        .with("WXNOTIFY_BACKOFF_BASE_SECS", "1")
        .with("WXNOTIFY_BACKOFF_CAP_SECS", "2")
        .with("WXNOTIFY_POLL_SECS", "0.2")
        .with("WXNOTIFY_DRAIN_SECS", "5")
        .with("WXNOTIFY_LISTEN", listen)
        .with(&format!("WXNOTIFY_APPSECRET_{CAFE}"), SECRET)
        .with(&format!("WXNOTIFY_APPSECRET_{BOOKS}"), SECRET)
        .with(&format!("WXNOTIFY_APPSECRET_{CINEMA}"), SECRET)
        .with(&format!("WXNOTIFY_CALLBACK_TOKEN_{CINEMA}"), CALLBACK_TOKEN)
        .with(
            &format!("WXNOTIFY_CALLBACK_AESKEY_{CINEMA}"),
            CALLBACK_AESKEY,
        );
    Ok(Settings::load(&sources)?)
}
