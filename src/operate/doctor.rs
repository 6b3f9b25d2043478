//! `wxnotify doctor`: everything an operator would otherwise find out too late.
//!
//! It looks (`sql/doctor/`, by [`crate::store::doctor`]), judges ([`checks`], pure) and reports. Nothing is changed, nothing is
//! sent and no token is fetched. What this database user may not see is said to be not visible.
//!
//! Start at [`run`].

pub mod checks;

use std::time::Duration;

use chrono::Utc;
use clap::Args;
use serde_json::json;

use super::Operator;
use super::report::{Report, Table, Tone, cell};
use crate::config::Settings;
use crate::limits;
use crate::schema::{self, Found, Standing};
use crate::store::{Store, StoreError};
use checks::{Finding, Verdict};

/// `wxnotify doctor`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also connect to WeChat's hosts; nothing is sent and no quota is spent
    #[arg(long)]
    pub online: bool,
}

/// How long a host of WeChat may take to answer.
const ONLINE_DEADLINE: Duration = Duration::from_secs(10);

pub(super) async fn run(args: DoctorArgs, operator: &Operator<'_>) -> anyhow::Result<Report> {
    let wanted = operator.settings.map(|settings| settings.pool_connections);
    let mut findings = Box::pin(look_at_database(operator.store, wanted)).await;
    if let Some(settings) = operator.settings {
        findings.push(checks::descriptors(
            limits::descriptors(),
            limits::descriptors_wanted(settings),
        ));
        findings.extend(checks::callbacks(&settings.apps, settings.listen));
        findings.push(checks::declared_pooler(
            settings.pooler,
            operator.store.look_for_pooler().await.ok(),
        ));
    } else if let Ok(backends) = operator.store.look_for_pooler().await {
        findings.push(checks::pooler(backends));
    }
    if args.online {
        match operator.settings {
            Some(settings) => findings.extend(look_at_wechat(settings).await),
            None => findings.push(Finding::not_looked_at("WeChat", "no settings are at hand")),
        }
    }
    Ok(report(findings))
}

/// The database cannot be used, so nothing else can be looked at.
pub(super) fn unreachable_database(why: &str) -> Report {
    report(vec![Finding::failure(
        "database",
        format!("cannot be used: {why}"),
        "no notification is accepted or sent",
        "check DATABASE_URL and that Postgres is running",
    )])
}

/// `connections`: how many a worker with the settings at hand takes.
async fn look_at_database(store: &Store, connections: Option<u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let asked_at = Utc::now();
    match store.look_at_server().await {
        Ok(server) => {
            let answered_at = Utc::now();
            findings.extend(checks::server(&server));
            findings.extend(checks::connection_limits(&server, connections));
            findings.push(checks::clock(server.clock, asked_at, answered_at));
            findings.push(checks::encryption(store.pool.address(), server.encrypted));
        }
        Err(error) => findings.push(Finding::of_error("server", &error)),
    }
    findings.push(judge("commits", store.durability().await, |durability| {
        checks::commits(&durability)
    }));
    let found = store.read_schema_books().await;
    let is_migrated = !matches!(found, Ok(Found::Nothing));
    findings.push(judge("schema", found, |found| {
        checks::schema(&Standing::of(&found, &schema::OF_THIS_PROGRAM))
    }));
    findings.push(judge(
        "server log",
        store.look_at_log_settings().await,
        |settings| checks::server_log(&settings),
    ));
    findings.push(judge(
        "holding back VACUUM",
        store.look_at_holders().await,
        |holders| checks::holders(&holders),
    ));
    if is_migrated {
        findings.extend(Box::pin(look_at_queue(store)).await);
    }
    findings
}

async fn look_at_queue(store: &Store) -> Vec<Finding> {
    let mut findings = look_at_schema(store).await;
    findings.extend(look_at_rows(store).await);
    findings.extend(look_at_reminders(store).await);
    let waiting = store.backlog(None).await;
    let workers = store.live_workers().await;
    findings.push(judge(
        "workers",
        waiting.and_then(|waiting| Ok((waiting, workers?))),
        |(waiting, workers)| checks::workers(&workers, &waiting),
    ));
    match store.look_at_apps().await {
        Ok(apps) => findings.extend(checks::apps(&apps, Utc::now())),
        Err(error) => findings.push(Finding::of_error("apps", &error)),
    }
    findings.push(judge(
        "unregistered apps",
        store.list_unregistered_apps().await,
        |appids| checks::unregistered(&appids),
    ));
    match store.pauses(None).await {
        Ok(pauses) => findings.extend(checks::pauses(&pauses)),
        Err(error) => findings.push(Finding::of_error("pauses", &error)),
    }
    findings.push(judge(
        "foreign messages",
        store.look_at_foreign_events().await,
        |events| checks::foreign_events(&events),
    ));
    findings
}

/// The tables, and what others did to them.
async fn look_at_schema(store: &Store) -> Vec<Finding> {
    vec![
        judge("rights", store.look_at_rights().await, |rights| {
            checks::rights(&rights)
        }),
        judge("autovacuum", store.look_at_tables().await, |tables| {
            checks::tables(&tables)
        }),
        judge(
            "triggers and indexes",
            store.look_for_broken_objects().await,
            |broken| checks::broken_objects(&broken),
        ),
        judge(
            "objects of others",
            store.look_for_foreign_objects().await,
            |objects| checks::foreign_objects(&objects),
        ),
        judge(
            "partitions",
            store.look_at_partitions().await,
            |partitions| checks::partitions(&partitions),
        ),
        judge("ids", store.look_for_stale_sequences().await, |stale| {
            checks::sequences(&stale)
        }),
        judge(
            "publications",
            store.look_at_publications().await,
            |tables| checks::publications(&tables),
        ),
    ]
}

async fn look_at_rows(store: &Store) -> Vec<Finding> {
    vec![
        judge("held locks", store.blockers(None).await, |blockers| {
            checks::held_locks(&blockers, Utc::now())
        }),
        judge(
            "restored rows",
            store.look_for_missing_traces().await,
            |traces| checks::missing_traces(&traces),
        ),
        judge(
            "lapsed leases",
            store.look_at_lapsed_leases().await,
            |leases| checks::lapsed_leases(&leases),
        ),
    ]
}

async fn look_at_reminders(store: &Store) -> Vec<Finding> {
    vec![
        judge(
            "zones of reminders",
            store.differing_zones().await,
            |zones| checks::zones(&zones),
        ),
        judge(
            "workdays of reminders",
            store.ending_days().await,
            |calendars| checks::workdays(&calendars),
        ),
        judge("checks of reminders", store.list_checks().await, |found| {
            checks::still_true(&found)
        }),
    ]
}

/// Judges what was found, or says why nothing was.
fn judge<T>(
    check: &'static str,
    found: Result<T, StoreError>,
    judge: impl FnOnce(T) -> Finding,
) -> Finding {
    match found {
        Ok(found) => judge(found),
        Err(error) => Finding::of_error(check, &error),
    }
}

/// Asks each host for its front page: no credential, nothing that counts.
async fn look_at_wechat(settings: &Settings) -> Vec<Finding> {
    let client = crate::wechat::client_builder(settings.https_proxy.as_ref()).and_then(|builder| {
        builder
            .connect_timeout(settings.connect_timeout)
            .timeout(ONLINE_DEADLINE)
            .build()
    });
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            return vec![checks::wechat_host(
                "WeChat",
                Err(&chain(&error.without_url())),
            )];
        }
    };
    let mut findings = Vec::new();
    for base in &settings.api_base {
        let host = base.host_str().unwrap_or("?");
        let answer = client.head(base.clone()).send().await;
        let answer = answer
            .map(|response| response.status().as_u16())
            .map_err(|error| chain(&error.without_url()));
        findings.push(checks::wechat_host(
            host,
            answer
                .as_ref()
                .map(|status| *status)
                .map_err(String::as_str),
        ));
    }
    findings
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += ": ";
        text += &cause.to_string();
        source = cause.source();
    }
    text
}

/// The worst first; then each that is not well, with its next step.
fn report(mut findings: Vec<Finding>) -> Report {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
    let worst = findings
        .first()
        .map_or(Verdict::Ok, |finding| finding.verdict);
    let count = |verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let (failures, warnings, hidden) = (
        count(Verdict::Failure),
        count(Verdict::Warning),
        count(Verdict::NotVisible),
    );
    let mut report = Report::new(json!({
        "verdict": worst, "failures": failures, "warnings": warnings, "not_visible": hidden, "findings": findings,
    }));
    let mut table = Table::new(&["", "check", "found"]);
    for finding in &findings {
        let (word, tone) = match finding.verdict {
            Verdict::Failure => ("failure", Tone::Bad),
            Verdict::Warning => ("warning", Tone::Warning),
            Verdict::NotVisible => ("not visible", Tone::Plain),
            Verdict::Ok => ("ok", Tone::Good),
        };
        table.row(vec![
            (word.to_owned(), tone),
            cell(finding.check),
            cell(&finding.found),
        ]);
    }
    report.table(table);
    for finding in &findings {
        let Some(next) = &finding.next else { continue };
        report.heading(format!("{}: {}", finding.check, finding.found));
        report.line(&finding.why);
        report.next(next);
    }
    report.heading(match (failures, warnings) {
        (0, 0) => "Nothing needs you.".to_owned(),
        (failures, warnings) => format!("failures: {failures}, warnings: {warnings}"),
    });
    if failures > 0 {
        report.failed();
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::operate::report::Style;

    fn lists(appids: &[&str]) -> Finding {
        let appids: Vec<String> = appids.iter().map(ToString::to_string).collect();
        checks::unregistered(&appids)
    }

    #[test]
    fn warnings_alone_leave_the_exit_code_zero() {
        assert_eq!(report(vec![lists(&[])]).exit(), Exit::Done);
        let warned = report(vec![lists(&[]), checks::apps(&[], Utc::now()).remove(0)]);
        assert_eq!(warned.exit(), Exit::Done);
        assert_eq!(warned.document()["verdict"], "warning");
        let failed = report(vec![lists(&[]), lists(&["wx1"])]);
        assert_eq!(failed.exit(), Exit::Failed);
        assert_eq!(failed.document()["verdict"], "failure");
    }

    #[test]
    fn a_command_is_never_made_of_what_a_shell_would_run() {
        let text = report(vec![lists(&["$(touch /tmp/x)"])]).to_text(Style::PLAIN);
        assert!(!text.contains("add $("), "{text}");
        assert!(
            text.contains("next: register it with `wxnotify app add …` (not written out"),
            "{text}"
        );
    }

    #[test]
    fn the_worst_comes_first_and_tells_the_next_step() {
        let text = report(vec![lists(&[]), lists(&["wx1"])]).to_text(Style::PLAIN);
        assert!(
            text.find("failure").unwrap() < text.find(" ok ").unwrap(),
            "{text}"
        );
        assert!(
            text.contains("next: register it with `wxnotify app add wx1`"),
            "{text}"
        );
        assert!(text.ends_with("failures: 1, warnings: 0\n"), "{text}");
    }
}
