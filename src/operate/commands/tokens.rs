//! `wxnotify token`: the state of each app's access token, never the token.

use clap::Subcommand;
use serde_json::json;

use crate::operate::report::{Report, Table, Tone, cell, moment, optional};
use crate::operate::words::said;
use crate::store::Store;

/// Commands on access tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Whether each app has a valid token, until when, and who fetched it
    Status {
        /// Only this mini-program
        #[arg(long)]
        appid: Option<String>,
    },
}

pub(super) async fn run(command: TokenCommand, store: &Store) -> anyhow::Result<Report> {
    let TokenCommand::Status { appid, .. } = command;
    let tokens = store.token_states(appid.as_deref()).await?;
    let mut report = Report::new(json!({ "tokens": tokens }));
    if tokens.is_empty() {
        report
            .line("No registered app matches.")
            .next("register one with `wxnotify app add APPID`")
            .in_part();
        return Ok(report);
    }
    let mut table = Table::new(&[
        "appid",
        "name",
        "token",
        "generation#",
        "expires",
        "fetched",
        "by",
    ]);
    for token in &tokens {
        let state = match (token.valid, token.expires_at) {
            (true, _) => ("valid", Tone::Good),
            (false, Some(_)) => ("expired", Tone::Warning),
            (false, None) => ("never fetched", Tone::Plain),
        };
        table.row(vec![
            cell(&token.appid),
            optional(token.app.as_ref()),
            (state.0.to_owned(), state.1),
            optional(token.generation),
            moment(token.expires_at),
            moment(token.fetched_at),
            optional(token.refreshed_by.as_ref()),
        ]);
    }
    report.table(table);
    for token in tokens.iter().filter(|token| token.foreign_refreshes > 0) {
        let (appid, times) = (&token.appid, token.foreign_refreshes);
        report.next(said(
            format!("another program refreshed the token of {appid} by force {times} times: let it use getStableAccessToken in normal mode too"),
            format!("另有程序 {times} 次强制刷新 {appid} 的 access_token：请让它也以普通模式调用 getStableAccessToken"),
        ));
    }
    Ok(report)
}
