//! `wxnotify template`: what WeChat lists, how rows are checked against it, pausing and resuming.
//!
//! Start at [`run`].

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::apps::{PauseArgs, PlainChange, need_app, pause_report, resume_report, until};
use super::report::{Report, Table, Tone, cell, moment, optional};
use super::{OperateError, Operator, audit};
use crate::legible::command;
use crate::lookups::Synced;
use crate::store::Store;
use crate::store::operators::BATCH_ROWS;
use crate::store::templates::{Stranded, Template, TemplateLookup};

/// Commands on templates.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Read the list of templates from WeChat now; without the app's secret here, a worker does it
    Sync {
        /// Only this mini-program
        appid: Option<String>,
    },
    /// List the templates that WeChat lists or listed, and those that are or were paused
    List {
        /// Only of this mini-program
        #[arg(long)]
        appid: Option<String>,
    },
    /// Set what an INSERT that does not fit the template meets
    Check {
        /// WeChat's appid
        appid: String,
        /// WeChat's private template id
        template_id: String,
        /// reject: refused; truncate: free text that is too long is cut, the rest refused; off: stored
        check: DataCheck,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// Let the rows of a template wait
    Pause {
        /// WeChat's appid
        appid: String,
        /// WeChat's private template id
        template_id: String,
        /// How long, and why.
        #[command(flatten)]
        pause: PauseArgs,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
    /// End the pause of a template
    Resume {
        /// WeChat's appid
        appid: String,
        /// WeChat's private template id
        template_id: String,
        /// Common options.
        #[command(flatten)]
        options: PlainChange,
    },
}

/// What an INSERT that does not fit its template meets.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DataCheck {
    /// It is refused
    Reject,
    /// Free text that is too long is cut and ends in …; the rest is refused
    Truncate,
    /// It is stored
    Off,
}

impl DataCheck {
    fn as_column(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Truncate => "truncate",
            Self::Off => "off",
        }
    }
}

pub(super) async fn run(
    command: TemplateCommand,
    operator: &Operator<'_>,
) -> anyhow::Result<Report> {
    let store = operator.store;
    match command {
        TemplateCommand::Sync { appid } => sync(operator, appid.as_deref()).await,
        TemplateCommand::List { appid } => list(store, appid.as_deref()).await,
        TemplateCommand::Check {
            appid,
            template_id,
            check,
            options,
        } => set_check(store, &appid, &template_id, check, options).await,
        TemplateCommand::Pause {
            appid,
            template_id,
            pause,
            options,
        } => {
            need_app(store, &appid).await?;
            if !options.dry_run {
                let audit = audit(options.note);
                let (until, reason) = (pause.until, &pause.reason);
                store
                    .pause_template_by_operator(&appid, &template_id, until, reason, &audit)
                    .await?;
            }
            let template_id = Some(template_id.as_str());
            Ok(pause_report(
                "template",
                &appid,
                template_id,
                &pause,
                options.dry_run,
            ))
        }
        TemplateCommand::Resume {
            appid,
            template_id,
            options,
        } => resume(store, &appid, &template_id, options).await,
    }
}

async fn resume(
    store: &Store,
    appid: &str,
    template_id: &str,
    options: PlainChange,
) -> anyhow::Result<Report> {
    need_app(store, appid).await?;
    need_template(store, appid, template_id).await?;
    let mut due = 0;
    if !options.dry_run {
        let audit = audit(options.note);
        loop {
            let rows = store.resume_template(appid, template_id, &audit).await?;
            due += i64::from(rows);
            if rows < BATCH_ROWS as i32 {
                break;
            }
        }
    }
    let template_id = Some(template_id);
    Ok(resume_report(
        "template",
        appid,
        template_id,
        due,
        options.dry_run,
    ))
}

async fn need_template(store: &Store, appid: &str, template_id: &str) -> anyhow::Result<()> {
    let known = store.list_templates(Some(appid)).await?;
    if known.iter().any(|known| known.template_id == template_id) {
        return Ok(());
    }
    Err(OperateError::usage(
        format!(
            "template {template_id} of app {appid} is not known: WeChat never listed it, and it was never paused"
        ),
        format!(
            "{}, or {}",
            command("wxnotify template list --appid {}", &[appid]),
            command("wxnotify template sync {}", &[appid])
        ),
    )
    .into())
}

async fn set_check(
    store: &Store,
    appid: &str,
    template_id: &str,
    check: DataCheck,
    options: PlainChange,
) -> anyhow::Result<Report> {
    need_app(store, appid).await?;
    need_template(store, appid, template_id).await?;
    let dry_run = options.dry_run;
    if !dry_run {
        store
            .set_template_check(appid, template_id, check.as_column(), &audit(options.note))
            .await?;
    }
    let mut report = Report::new(json!({
        "action": "set_template_check", "dry_run": dry_run, "appid": appid, "template_id": template_id, "check": check.as_column(),
    }));
    let would = if dry_run { "would be" } else { "is" };
    let what = match check {
        DataCheck::Reject => "refused",
        DataCheck::Truncate => "cut where that is no lie (free text), otherwise refused",
        DataCheck::Off => "stored unchecked",
    };
    report.line(format!(
        "A row that does not fit template {template_id} of app {appid} {would} {what}."
    ));
    Ok(report)
}

async fn sync(operator: &Operator<'_>, appid: Option<&str>) -> anyhow::Result<Report> {
    let store = operator.store;
    if let Some(appid) = appid {
        need_app(store, appid).await?;
    }
    let apps = store.list_apps().await?;
    let apps: Vec<String> = apps
        .into_iter()
        .map(|app| app.appid)
        .filter(|known| appid.is_none_or(|appid| appid == known))
        .collect();
    let (mut documents, mut lines, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    let mut failed = false;
    for known in &apps {
        let Some(lookups) = operator.lookups(known)? else {
            store
                .want_lookups(std::slice::from_ref(known), std::time::Duration::ZERO)
                .await?;
            documents.push(json!({ "appid": known, "asked": "a worker" }));
            lines.push(format!(
                "App {known}: its secret is not set here, so a worker was asked to do it."
            ));
            steps.push(format!(
                "{} in a few seconds, while a worker runs",
                command("wxnotify template list --appid {}", &[known])
            ));
            continue;
        };
        match lookups.sync_templates(known).await {
            Ok(synced) => {
                documents.push(
                    json!({ "appid": known, "listed": synced.listed, "changes": synced.changes }),
                );
                lines.extend(synced_lines(known, &synced));
            }
            Err(error) => {
                failed = true;
                documents.push(json!({ "appid": known, "error": error.to_string(), "errcode": error.errcode() }));
                lines.push(format!("App {known}: not read: {error}"));
                steps.push(super::account_step(known, &error));
            }
        }
    }
    let stranded = store.stranded(appid).await?;
    let mut report = Report::new(json!({ "apps": documents, "stranded": stranded }));
    if apps.is_empty() {
        report
            .line("No app is registered.")
            .next("`wxnotify app add APPID --default`");
    }
    for line in lines {
        report.line(line);
    }
    for step in steps {
        report.next(step);
    }
    show_stranded(&mut report, &stranded);
    if failed {
        report.in_part();
    }
    Ok(report)
}

fn synced_lines(appid: &str, synced: &Synced) -> Vec<String> {
    let head = format!("App {appid}: WeChat lists {} templates.", synced.listed);
    let changes = synced.changes.iter().map(|(template_id, change)| {
        let what = match change.as_str() {
            "added" => "new here",
            "changed" => "changed",
            "removed" => "not listed any more: its rows wait",
            "back" => "listed again",
            other => other,
        };
        format!("  {template_id}: {what}")
    });
    std::iter::once(head).chain(changes).collect()
}

/// What WeChat lists and how far it can be trusted.
async fn list(store: &Store, appid: Option<&str>) -> anyhow::Result<Report> {
    let templates = store.list_templates(appid).await?;
    let lookups = store.template_lookups(appid).await?;
    let stranded = store.stranded(appid).await?;
    let mut report =
        Report::new(json!({ "templates": templates, "read": lookups, "stranded": stranded }));
    if templates.is_empty() {
        report
            .line("No template is known.")
            .next("`wxnotify template sync`");
    } else {
        report.table(table(&templates));
    }
    for lookup in &lookups {
        show_trouble(&mut report, lookup);
    }
    show_stranded(&mut report, &stranded);
    Ok(report)
}

fn table(templates: &[Template]) -> Table {
    let mut table = Table::new(&[
        "appid", "template", "title", "kind", "fields", "check", "state", "reason", "until",
        "listed",
    ]);
    for template in templates {
        let (state, tone) = match (template.removed_at, template.paused) {
            (Some(_), true) => ("gone, paused", Tone::Bad),
            (Some(_), false) => ("gone", Tone::Bad),
            (None, true) => ("paused", Tone::Bad),
            (None, false) => ("sends", Tone::Good),
        };
        let fields = template.fields.as_ref().map(|fields| fields.join(" "));
        table.row(vec![
            cell(&template.appid),
            cell(&template.template_id),
            optional(template.title.as_ref()),
            optional(template.kind.as_ref()),
            optional(fields),
            cell(&template.data_check),
            (state.to_owned(), tone),
            optional(template.pause_reason.as_ref().filter(|_| template.paused)),
            until(template.paused, template.paused_until),
            moment(template.synced_at),
        ]);
    }
    table
}

fn show_trouble(report: &mut Report, lookup: &TemplateLookup) {
    let appid = &lookup.appid;
    match (&lookup.error, lookup.done_at) {
        (Some(error), _) => {
            report.next(format!(
                "the list of app {appid} could not be read: {error}; it is tried again by itself"
            ));
        }
        (None, None) => {
            report.next(format!(
                "the list of app {appid} was never read: {}, or start a worker with its secret",
                command("wxnotify template sync {}", &[appid])
            ));
        }
        (None, Some(_)) => {}
    }
}

/// What cannot be sent any more, and why nothing is moved.
pub(super) fn show_stranded(report: &mut Report, stranded: &[Stranded]) {
    for row in stranded {
        report.next(stranded_step(row));
    }
}

pub(super) fn stranded_step(row: &Stranded) -> String {
    let Stranded {
        appid,
        template_id,
        held,
        waiting,
        ..
    } = row;
    let rows = format!(
        "{held} held credits and {waiting} waiting rows of app {appid} are on template {template_id}, which WeChat does not list any more"
    );
    let cancel = command(
        "wxnotify cancel --appid {} --template {}",
        &[appid, template_id],
    );
    match &row.successor_id {
        Some(successor) => format!(
            "{rows}; {successor} has the same title and fields, but a credit is good for its own template id alone: \
             collect new ones for {successor}, then {cancel}"
        ),
        None => format!("{rows}: {cancel}, unless the template comes back"),
    }
}
