//! `wxnotify credits`: the books of one user, and where they do not balance.

use clap::Args;
use serde_json::json;

use crate::operate::report::{Report, Table, cell, moment};
use crate::operate::words::said;
use crate::store::Store;

/// Whose credits.
#[derive(Debug, Args)]
pub struct CreditsArgs {
    /// The mini-program
    appid: String,
    /// The user's openid in it
    openid: String,
}

pub(super) async fn run(args: CreditsArgs, store: &Store) -> anyhow::Result<Report> {
    let credits = store.credits(&args.appid, &args.openid).await?;
    let faults = store.credit_faults(&args.appid, &args.openid).await?;
    let mut report = Report::new(json!({ "credits": credits, "faults": faults }));
    if credits.is_empty() && faults.is_empty() {
        report.line("Nothing is known of this user: neither a row nor an accept, as far back as the history reaches.");
        report.in_part();
        return Ok(report);
    }
    let mut table = Table::new(&[
        "template",
        "balance#",
        "accepted#",
        "unclaimed#",
        "held#",
        "pending#",
        "in doubt#",
        "sent#",
        "elsewhere#",
        "43101#",
        "other ends#",
        "refuses since",
        "last accept",
    ]);
    for credit in &credits {
        table.row(vec![
            cell(&credit.template_id),
            cell(credit.balance),
            cell(credit.accepted),
            cell(credit.unclaimed),
            cell(credit.held),
            cell(credit.pending),
            cell(credit.in_doubt),
            cell(credit.sent),
            cell(credit.sent_elsewhere),
            cell(credit.dead_gone),
            cell(credit.unresolved + credit.dead_kept + credit.dead_unknown + credit.unused),
            moment(credit.refused_at),
            moment(credit.last_accepted_at),
        ]);
    }
    report.table(table);
    for fault in &faults {
        let (what, template) = (&fault.fault, &fault.template_id);
        let id = fault
            .notification_id
            .map_or_else(|| said("none", "无"), |id| id.to_string());
        report.line(said(
            format!("The books do not balance: {what} (template {template}, notification {id})"),
            format!("账目不平：{what}（模板 {template}，通知 {id}）"),
        ));
    }
    report.next("`wxnotify explain ID` says of a 43101 which it was");
    Ok(report)
}
