//! Producers: rows that come one by one at a rate, each an INSERT with a commit of its own, as contenders document theirs.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::contender::{Contender, awa, river};
use crate::message;
use crate::stage::Database;
use crate::traffic::{Commit, now};

/// Sessions that insert beside each other, so that one slow commit does not hold up the rate.
const SESSIONS: u64 = 4;

/// One session that inserts.
pub enum Producer {
    /// Statements of one parameter, the number of the row: for usual and for urgent rows.
    Sql {
        session: PgConnection,
        usual: String,
        urgent: String,
    },
    River(riverqueue::Client),
    Awa(sqlx_for_awa::PgPool),
}

impl Producer {
    /// For rows shared evenly among the first `apps` mini-programs.
    pub async fn start(
        contender: Contender,
        database: &Database,
        apps: u64,
    ) -> anyhow::Result<Self> {
        let (usual, urgent) = match contender {
            Contender::River => {
                return Ok(Self::River(river::producer(database.pool.clone())?));
            }
            Contender::Awa => return Ok(Self::Awa(awa::connect(&database.url).await?)),
            Contender::Wxnotify { .. } => (insert_sql(apps, 1), insert_sql(apps, 0)),
            Contender::GraphileRust | Contender::GraphileNode => (job_sql(0), job_sql(-1)),
            Contender::Pgmq => (message_sql("send"), message_sql("urgent")),
            other => anyhow::bail!("{} has no producer", other.name()),
        };
        Ok(Self::Sql {
            session: PgConnection::connect(&database.url).await?,
            usual,
            urgent: urgent.replace(message::TEMPLATE_ID, message::URGENT_TEMPLATE_ID),
        })
    }

    /// Inserts row `number`. Returns when it was known to be committed.
    pub async fn insert(&mut self, number: u64, is_urgent: bool) -> anyhow::Result<Commit> {
        match self {
            Self::Sql {
                session,
                usual,
                urgent,
            } => {
                let statement = if is_urgent { urgent } else { usual };
                sqlx::query(AssertSqlSafe(statement.clone()))
                    .bind(i64::try_from(number)?)
                    .execute(session)
                    .await?;
            }
            Self::River(client) => {
                client.insert(river::job(number)).await?;
            }
            Self::Awa(pool) => awa::insert_one(pool, number, is_urgent).await?,
        }
        Ok(Commit {
            openid: message::openid(number),
            at: now(),
        })
    }
}

fn insert_sql(apps: u64, lane: u8) -> String {
    format!(
        "insert into pending_notifications (appid, openid, template_id, page, data, lane) \
         select {}, {lane} from (values ($1::bigint)) v (n)",
        message::columns_in_sql(apps)
    )
}

fn job_sql(priority: i8) -> String {
    format!(
        "select graphile_worker.add_job('send', {}, priority => {priority}) from (values ($1::bigint)) v (n)",
        message::body_in_sql()
    )
}

fn message_sql(queue: &str) -> String {
    format!(
        "select pgmq.send('{queue}', {}) from (values ($1::bigint)) v (n)",
        message::body_in_sql().replace("::json", "::jsonb")
    )
}

/// Sessions that insert together. They stay: a new one costs the database more than a row.
pub struct Producers(Vec<Producer>);

impl Producers {
    /// For rows shared evenly among the first `apps` mini-programs.
    pub async fn start(
        contender: Contender,
        database: &Database,
        apps: u64,
    ) -> anyhow::Result<Self> {
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(Producer::start(contender, database, apps).await?);
        }
        Ok(Self(sessions))
    }

    /// Inserts `rows` rows from number `first` on, `rate` a second in all. Returns every commit.
    pub async fn produce(
        &mut self,
        first: u64,
        rows: u64,
        rate: u32,
    ) -> anyhow::Result<Vec<Commit>> {
        let began = tokio::time::Instant::now();
        let sessions = self
            .0
            .iter_mut()
            .zip(0..)
            .map(|(producer, place)| async move {
                let mut commits = Vec::new();
                for index in (place..rows).step_by(SESSIONS as usize) {
                    // Not in step with anybody's poll.
                    let place = index as f64 + (index * 37 % 101) as f64 / 101.0;
                    let due = Duration::from_secs_f64(place / f64::from(rate));
                    tokio::time::sleep_until(began + due).await;
                    commits.push(producer.insert(first + index, false).await?);
                }
                anyhow::Ok(commits)
            });
        let commits = futures::future::try_join_all(sessions).await?;
        Ok(commits.concat())
    }
}
