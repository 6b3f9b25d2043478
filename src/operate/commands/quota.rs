//! `wxnotify quota`: what is left of the day, the rate, and clearing by hand.

use std::io::{BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{OperateError, Operator, account_step, audit, unanswered};
use crate::legible::command;
use crate::lookups::{LookupError, Lookups};
use crate::operate::report::{Report, Table, Tone, cell, moment, optional};
use crate::operate::verbs::pauses::need_app;
use crate::operate::words::said;
use crate::store::quotas::QuotaState;
use crate::wechat::account::AccountError;

/// `wxnotify quota`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct QuotaArgs {
    /// Only this mini-program
    pub appid: Option<String>,
    /// Show what a worker last read, do not ask WeChat
    #[arg(long)]
    pub known: bool,
    /// What to do with a quota.
    #[command(subcommand)]
    pub command: Option<QuotaCommand>,
}

/// What to do with a quota.
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Clear the quotas of all APIs of a mini-program: WeChat allows it 10 times a month
    Clear {
        /// WeChat's appid
        appid: String,
        /// Confirms it without a question: the appid once more
        #[arg(long, value_name = "APPID")]
        yes_clear_quota_of: Option<String>,
        /// Your reason, kept in operator_actions
        #[arg(long)]
        note: Option<String>,
    },
}

pub(super) async fn run(args: QuotaArgs, operator: &Operator<'_>) -> anyhow::Result<Report> {
    match args.command {
        Some(QuotaCommand::Clear {
            appid,
            yes_clear_quota_of,
            note,
        }) => clear(operator, &appid, yes_clear_quota_of, note).await,
        None => show(operator, args.appid.as_deref(), args.known).await,
    }
}

/// Asks WeChat where the secret is here, and shows what is known then.
async fn show(operator: &Operator<'_>, appid: Option<&str>, known: bool) -> anyhow::Result<Report> {
    let store = operator.store;
    if let Some(appid) = appid {
        need_app(store, appid).await?;
    }
    let mut failures = Vec::new();
    for app in store.quotas(appid).await? {
        let lookups = if known {
            None
        } else {
            operator.lookups(&app.appid)?
        };
        if let Some(lookups) = lookups
            && let Err(error) = lookups.read_quota(&app.appid).await
        {
            failures.push((app.appid, error));
        }
    }
    let quotas = store.quotas(appid).await?;
    let mut report = Report::new(json!({ "quotas": quotas }));
    if quotas.is_empty() {
        report
            .line("No app is registered.")
            .next("`wxnotify app add APPID --default`");
        return Ok(report);
    }
    report.table(table(&quotas));
    for quota in &quotas {
        if quota.read_at.is_none() {
            let appid = &quota.appid;
            report.next(said(
                format!("WeChat never told the quota of app {appid}: start a worker with its secret, or set WXNOTIFY_APPSECRET_{appid} here"),
                format!("微信从未告知小程序 {appid} 的额度：启动持有其密钥的 worker，或在此设置 WXNOTIFY_APPSECRET_{appid}"),
            ));
        }
        if quota.used_up {
            let appid = &quota.appid;
            let clear = command("wxnotify quota clear {}", &[appid]);
            report.next(said(
                format!("app {appid} waits until 00:00 China time; each hour a worker asks whether calls are left; {clear} takes one of 10 clearings a month"),
                format!("小程序 {appid} 等到北京时间 00:00；worker 每小时询问是否还有额度；{clear} 会用掉每月 10 次清零之一"),
            ));
        }
    }
    for (appid, error) in &failures {
        report
            .toned_line(format!("App {appid}: not read: {error}"), Tone::Bad)
            .next(account_step(appid, error))
            .in_part();
    }
    Ok(report)
}

fn table(quotas: &[QuotaState]) -> Table {
    let mut table = Table::new(&[
        "appid", "name", "a day#", "used#", "left#", "rate/s#", "rate is", "read",
    ]);
    for quota in quotas {
        let left = match quota.remaining {
            Some(..=0) => Tone::Bad,
            Some(left) if quota.daily_limit.is_some_and(|limit| left * 10 < limit) => Tone::Warning,
            _ => Tone::Plain,
        };
        let source = match (quota.operator_rate_per_second, quota.quota_rate_per_second) {
            (Some(_), _) => "set by an operator",
            (None, Some(_)) => "95 % of WeChat's",
            (None, None) => "not known",
        };
        let (source, tone) = if quota.rate_is_cut {
            (format!("{source}, halved after 45011"), Tone::Warning)
        } else {
            cell(source)
        };
        table.row(vec![
            cell(&quota.appid),
            optional(quota.app.as_ref()),
            optional(quota.daily_limit),
            optional(quota.used),
            (optional(quota.remaining).0, left),
            optional(
                quota
                    .rate_per_second
                    .map(|rate| (f64::from(rate) * 100.0).round() / 100.0),
            ),
            (source, tone),
            moment(quota.read_at),
        ]);
    }
    table
}

async fn clear(
    operator: &Operator<'_>,
    appid: &str,
    confirmed: Option<String>,
    note: Option<String>,
) -> anyhow::Result<Report> {
    need_app(operator.store, appid).await?;
    let confirmed = confirmed.or_else(|| ask_at_terminal(appid));
    if confirmed.as_deref().map(str::trim) != Some(appid) {
        return Err(OperateError::usage(
            format!(
                "not confirmed: clearing the quotas of app {appid} takes one of the 10 clearings that WeChat allows a month"
            ),
            command("wxnotify quota clear {} --yes-clear-quota-of {}", &[appid; 2]),
        )
        .into());
    }
    let lookups = operator.need_lookups(appid)?;
    let cleared = lookups.clear_quota(appid).await;
    let result = match &cleared {
        Ok(()) => "cleared".to_owned(),
        Err(error) => error.to_string(),
    };
    let filter = json!({ "appid": appid, "result": result });
    operator
        .store
        .record_action("clear_quota", &filter, &audit(note))
        .await?;
    cleared.map_err(|error| not_cleared(appid, &error))?;
    let mut report =
        Report::new(json!({ "action": "clear_quota", "appid": appid, "cleared": true }));
    report.line(said(
        format!("The quotas of app {appid} are cleared: one of 10 clearings of this month."),
        format!("小程序 {appid} 的额度已清零：用掉本月 10 次清零之一。"),
    ));
    show_after(&mut report, &lookups, appid).await;
    Ok(report)
}

/// The quota now; reading it also ends a pause for 45009.
async fn show_after(report: &mut Report, lookups: &Lookups, appid: &str) {
    match lookups.read_quota(appid).await {
        Ok(quota) => report.line(said(
            format!(
                "{} of {} sends a day are left; a pause because they were used up is over.",
                quota.remaining, quota.daily_limit
            ),
            format!(
                "当天 {} 次中还剩 {} 次；因额度用完的暂停已结束。",
                quota.daily_limit, quota.remaining
            ),
        )),
        Err(error) => report.next(format!(
            "the quota could not be read ({error}): if the app is paused, {}",
            command("wxnotify app resume {}", &[appid])
        )),
    };
}

fn not_cleared(appid: &str, error: &LookupError) -> anyhow::Error {
    let next = match error {
        LookupError::Account(AccountError::Refused { errcode: 48006, .. }) => {
            "the 10 clearings of this month are used up, here and at mp.weixin.qq.com together: wait for 00:00 China time"
        }
        LookupError::Account(AccountError::NoReply { .. }) => {
            "it may have been done: look with `wxnotify quota` before you try again"
        }
        _ => return unanswered(appid, error),
    };
    OperateError::new(
        crate::exit::Exit::Failed,
        format!("the quotas of app {appid} were not cleared: {error}"),
        next,
    )
    .into()
}

/// What a person types when asked; `None` where nobody can be asked.
fn ask_at_terminal(appid: &str) -> Option<String> {
    let (input, mut output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !output.is_terminal() {
        return None;
    }
    write!(
        output,
        "This takes one of the 10 clearings of all quotas that WeChat allows app {appid} a month.\nType the appid to go on: "
    )
    .and_then(|()| output.flush())
    .ok()?;
    let mut line = String::new();
    input.lock().read_line(&mut line).ok()?;
    Some(line)
}
