//! Statements on mini-programs: which are ours, and their pauses and probes, and those of their templates.

use super::statement::statement;
use super::{Store, StoreError};
use crate::notification::{Effect, PauseUntil};

/// A registered mini-program whose secret this worker has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendingApp {
    /// What its lanes are leased by.
    pub appid: String,
    /// Whether its sends need a slice of its rate.
    pub has_rate: bool,
}

impl Store {
    /// The registered mini-programs among `appids`.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn list_sending_apps(
        &self,
        appids: &[String],
    ) -> Result<Vec<SendingApp>, StoreError> {
        let statement = statement!("apps/list_sending_apps");
        let query = statement.query_as::<(String, bool)>().bind(appids);
        let rows = self
            .run(statement.name, query.fetch_all(&self.pool))
            .await?;
        Ok(rows
            .into_iter()
            .map(|(appid, has_rate)| SendingApp { appid, has_rate })
            .collect())
    }

    /// Mini-programs that have rows but are not registered.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn list_unregistered_apps(&self) -> Result<Vec<String>, StoreError> {
        let statement = statement!("apps/list_unregistered_apps");
        let query = statement.query_scalar();
        self.run(statement.name, query.fetch_all(&self.pool)).await
    }

    /// Stores what an attempt means for more than its own row. Storing it twice is harmless.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn apply_effect(&self, effect: &Effect) -> Result<(), StoreError> {
        match effect {
            Effect::PauseApp {
                appid,
                until,
                reason,
                errcode,
            } => {
                self.pause_app(appid, *until, reason, *errcode).await?;
            }
            Effect::PauseTemplate {
                appid,
                template_id,
                until,
                reason,
                errcode,
            } => {
                self.pause_template(appid, template_id, *until, reason, *errcode)
                    .await?;
            }
            Effect::ProbeOk { appid } => {
                self.probe_ok(appid).await?;
            }
        }
        Ok(())
    }

    /// Pauses a mini-program; never shortens a pause. `false`: it is not registered.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn pause_app(
        &self,
        appid: &str,
        until: PauseUntil,
        reason: &str,
        errcode: Option<i64>,
    ) -> Result<bool, StoreError> {
        let statement = statement!("apps/pause_app");
        let query = statement
            .query_scalar()
            .bind(appid)
            .bind(until.secs())
            .bind(until.rule())
            .bind(reason)
            .bind(errcode);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }

    /// Pauses one template; never shortens a pause.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn pause_template(
        &self,
        appid: &str,
        template_id: &str,
        until: PauseUntil,
        reason: &str,
        errcode: Option<i64>,
    ) -> Result<(), StoreError> {
        let statement = statement!("apps/pause_template");
        let query = statement
            .query()
            .bind(appid)
            .bind(template_id)
            .bind(until.secs())
            .bind(until.rule())
            .bind(reason)
            .bind(errcode);
        self.run(statement.name, query.execute(&self.pool)).await?;
        Ok(())
    }

    /// Ends the probing of a mini-program and the pause that has lapsed. `false`: there was nothing to end.
    ///
    /// # Errors
    ///
    /// The database did not answer.
    pub async fn probe_ok(&self, appid: &str) -> Result<bool, StoreError> {
        let statement = statement!("apps/probe_ok");
        let query = statement.query_scalar().bind(appid);
        self.run(statement.name, query.fetch_one(&self.pool)).await
    }
}
