//! `wxnotify template`: what WeChat lists, how rows are checked against it, pausing and resuming.
//!
//! Start at [`run`].

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::apps::{PauseArgs, PlainChange, pause, resume, until};
use super::{Operator, audit};
use crate::legible::command;
use crate::lookups::Synced;
use crate::operate::report::{Report, Table, Tone, cell, moment, optional};
use crate::operate::verbs::pauses::{Target, need_app, need_template};
use crate::operate::words::said;
use crate::store::Store;
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
            pause: args,
            options,
        } => {
            need_app(store, &appid).await?;
            pause(store, of_template(&appid, &template_id), &args, options).await
        }
        TemplateCommand::Resume {
            appid,
            template_id,
            options,
        } => {
            need_app(store, &appid).await?;
            need_template(store, &appid, &template_id).await?;
            resume(store, of_template(&appid, &template_id), options).await
        }
    }
}

fn of_template<'a>(appid: &'a str, template_id: &'a str) -> Target<'a> {
    Target {
        appid,
        template_id: Some(template_id),
    }
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
    let (would, would_zh) = if dry_run {
        ("would be", "将")
    } else {
        ("is", "会")
    };
    let (what, what_zh) = match check {
        DataCheck::Reject => ("refused", "被拒绝"),
        DataCheck::Truncate => (
            "cut where that is no lie (free text), otherwise refused",
            "在不失真时（自由文本）被截断，否则被拒绝",
        ),
        DataCheck::Off => ("stored unchecked", "不经检查即被保存"),
    };
    report.line(said(
        format!("A row that does not fit template {template_id} of app {appid} {would} {what}."),
        format!("不符合小程序 {appid} 的模板 {template_id} 的行{would_zh}{what_zh}。"),
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
    let mut sync = Sync::default();
    for known in &apps {
        sync.read(operator, known).await?;
    }
    let stranded = store.stranded(appid).await?;
    let mut report = Report::new(json!({ "apps": sync.documents, "stranded": stranded }));
    if apps.is_empty() {
        report
            .line("No app is registered.")
            .next("`wxnotify app add APPID --default`");
    }
    for line in sync.lines {
        report.line(line);
    }
    for step in sync.steps {
        report.next(step);
    }
    show_stranded(&mut report, &stranded);
    if sync.failed {
        report.in_part();
    }
    Ok(report)
}

/// What reading the lists of several mini-programs came to.
#[derive(Default)]
struct Sync {
    documents: Vec<Value>,
    lines: Vec<String>,
    steps: Vec<String>,
    failed: bool,
}

impl Sync {
    /// Reads the list of one; where its secret is not set, asks a worker to.
    async fn read(&mut self, operator: &Operator<'_>, appid: &str) -> anyhow::Result<()> {
        let Some(lookups) = operator.lookups(appid)? else {
            let wanted = [appid.to_owned()];
            operator
                .store
                .want_lookups(&wanted, std::time::Duration::ZERO)
                .await?;
            self.documents
                .push(json!({ "appid": appid, "asked": "a worker" }));
            self.lines.push(format!(
                "App {appid}: its secret is not set here, so a worker was asked to do it."
            ));
            self.steps.push(format!(
                "{} in a few seconds, while a worker runs",
                command("wxnotify template list --appid {}", &[appid])
            ));
            return Ok(());
        };
        match lookups.sync_templates(appid).await {
            Ok(synced) => {
                self.documents.push(
                    json!({ "appid": appid, "listed": synced.listed, "changes": synced.changes }),
                );
                self.lines.extend(synced_lines(appid, &synced));
            }
            Err(error) => {
                self.failed = true;
                self.documents.push(json!({ "appid": appid, "error": error.to_string(), "errcode": error.errcode() }));
                self.lines.push(format!("App {appid}: not read: {error}"));
                self.steps.push(super::account_step(appid, &error));
            }
        }
        Ok(())
    }
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
            report.next(said(
                format!("the list of app {appid} could not be read: {error}; it is tried again by itself"),
                format!("小程序 {appid} 的模板列表无法读取：{error}；会自动重试"),
            ));
        }
        (None, None) => {
            let sync = command("wxnotify template sync {}", &[appid]);
            report.next(said(
                format!("the list of app {appid} was never read: {sync}, or start a worker with its secret"),
                format!("小程序 {appid} 的模板列表从未读取：{sync}，或启动持有其密钥的 worker"),
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
    let rows = said(
        format!(
            "{held} held credits and {waiting} waiting rows of app {appid} are on template {template_id}, which WeChat does not list any more"
        ),
        format!(
            "小程序 {appid} 有 {held} 个预存次数和 {waiting} 行等待的消息属于模板 {template_id}，而微信的列表中已没有该模板"
        ),
    );
    let cancel = command(
        "wxnotify cancel --appid {} --template {}",
        &[appid, template_id],
    );
    match &row.successor_id {
        Some(successor) => said(
            format!(
                "{rows}; {successor} has the same title and fields, but a credit is good for its own template id alone: \
                 collect new ones for {successor}, then {cancel}"
            ),
            format!(
                "{rows}；{successor} 的标题与字段相同，但次数只对自己的模板有效：请为 {successor} 重新获取次数，然后执行 {cancel}"
            ),
        ),
        None => said(
            format!("{rows}: {cancel}, unless the template comes back"),
            format!("{rows}：若模板不会恢复，执行 {cancel}"),
        ),
    }
}
