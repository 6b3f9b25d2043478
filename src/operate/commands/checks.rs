//! `wxnotify check`: the business's functions that say whether a reminder is still true.
//!
//! Start at [`run`].

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::apps::PlainChange;
use super::audit;
use crate::operate::report::{Report, Table, Tone, cell, moment};
use crate::operate::verbs::pauses::need_app;
use crate::operate::words::said;
use crate::store::Store;

/// What becomes of rows whose check fails.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OnError {
    /// They wait, and it is asked again
    Hold,
    /// They are cancelled
    Drop,
}

/// Commands on checks.
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// List the checks, how they do, and how many rows wait for each
    List,
    /// Add a check, or change it: a SECURITY DEFINER function (text[]) → text[] of a business's role
    Add {
        /// What still_true calls it
        name: String,
        /// The function, as schema.function
        function: String,
        /// What becomes of rows when it fails
        #[arg(long, value_enum, default_value = "hold")]
        on_error: OnError,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// Remove a check that no reminder and no template names
    Remove {
        /// Its name
        name: String,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// Ask a check for those reminders of a template that name none
    Template {
        /// WeChat's appid
        appid: String,
        /// WeChat's template id
        template: String,
        /// The check's name, or `none`
        check: String,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
}

pub(super) async fn run(command: CheckCommand, store: &Store) -> anyhow::Result<Report> {
    match command {
        CheckCommand::List => list(store).await,
        CheckCommand::Add {
            name,
            function,
            on_error,
            options,
        } => add(store, &name, &function, on_error, options).await,
        CheckCommand::Remove { name, options } => {
            if !options.dry_run {
                store.remove_check(&name, &audit(options.note)).await?;
            }
            let mut report = Report::new(
                json!({ "action": "remove_check", "dry_run": options.dry_run, "check": name }),
            );
            let (is, is_zh) = if options.dry_run {
                ("would be", "将")
            } else {
                ("is", "已")
            };
            report.line(said(
                format!("Check {name} {is} removed."),
                format!("核实函数 {name} {is_zh}移除。"),
            ));
            Ok(report)
        }
        CheckCommand::Template {
            appid,
            template,
            check,
            options,
        } => set_template(store, &appid, &template, &check, options).await,
    }
}

async fn list(store: &Store) -> anyhow::Result<Report> {
    let checks = store.list_checks().await?;
    let mut report = Report::new(json!({ "checks": checks }));
    if checks.is_empty() {
        report
            .line("There are no checks.")
            .next("`wxnotify check add NAME SCHEMA.FUNCTION`, see docs/reminders.md");
        return Ok(report);
    }
    let mut table = Table::new(&[
        "name",
        "function",
        "on error",
        "asked#",
        "errors#",
        "waiting#",
        "failing since",
        "problem",
    ]);
    for check in &checks {
        let problem = check.problem.clone().unwrap_or_default();
        table.row(vec![
            cell(&check.name),
            cell(&check.function_name),
            cell(&check.on_error),
            cell(check.asked),
            cell(check.errors),
            cell(check.waiting),
            moment(check.failing_since),
            (problem, Tone::Bad),
        ]);
    }
    report.table(table);
    Ok(report)
}

async fn add(
    store: &Store,
    name: &str,
    function: &str,
    on_error: OnError,
    options: PlainChange,
) -> anyhow::Result<Report> {
    let on_error = match on_error {
        OnError::Hold => "hold",
        OnError::Drop => "drop",
    };
    let is_new = if options.dry_run {
        let known = store.list_checks().await?;
        !known.iter().any(|check| check.name == name)
    } else {
        let audit = audit(options.note);
        store.add_check(name, function, on_error, &audit).await?
    };
    let mut report = Report::new(json!({
        "action": "add_check", "dry_run": options.dry_run, "check": name, "function": function, "on_error": on_error, "new": is_new,
    }));
    let (would, would_zh) = if options.dry_run {
        ("would be ", "将")
    } else {
        ("", "已")
    };
    let (done, done_zh) = if is_new {
        ("added", "添加")
    } else {
        ("changed", "修改")
    };
    report
        .line(said(
            format!("Check {name} {would}{done}: {function} is asked about business_refs."),
            format!("核实函数 {name} {would_zh}{done_zh}：将以 business_ref 询问 {function}。"),
        ))
        .next("name it in reminder_schedules.still_true, or with `wxnotify check template`");
    Ok(report)
}

async fn set_template(
    store: &Store,
    appid: &str,
    template: &str,
    check: &str,
    options: PlainChange,
) -> anyhow::Result<Report> {
    need_app(store, appid).await?;
    let named = (check != "none").then_some(check);
    if !options.dry_run {
        let audit = audit(options.note);
        store
            .set_template_still_true(appid, template, named, &audit)
            .await?;
    }
    let mut report = Report::new(json!({
        "action": "set_template_still_true", "dry_run": options.dry_run, "appid": appid, "template_id": template, "check": named,
    }));
    let (are, are_zh) = if options.dry_run {
        ("would be", "将")
    } else {
        ("are", "")
    };
    report.line(match named {
        Some(check) => said(
            format!("Reminders of template {template} {are} asked about by {check}."),
            format!("模板 {template} 的提醒{are_zh}由 {check} 核实。"),
        ),
        None => said(
            format!(
                "Reminders of template {template} {are} asked about only if they name a check."
            ),
            format!("模板 {template} 的提醒{are_zh}只在自己写明核实函数时才核实。"),
        ),
    });
    Ok(report)
}
