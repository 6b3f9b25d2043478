//! `wxnotify schedule add`: a reminder from the command line, as its business would insert it.
//!
//! Start at [`add`].

use chrono::Utc;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::OperateError;
use super::schedules::in_utc;
use crate::operate::report::{Report, Table, cell};
use crate::operate::words::said;
use crate::reminder::calendar::Calendar;
use crate::store::Store;

/// How many of its times are told.
const SHOWN: usize = 3;

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Audience {
    /// The user of --openid
    One,
    /// Its rows of reminder_audience
    List,
    /// Every user with an unspent held credit of the template
    Holders,
}

/// `wxnotify schedule add`: columns of `reminder_schedules`; what is left out has its default.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its name, unique for this login and mini-program
    name: String,
    /// WeChat's template id
    #[arg(long)]
    template: String,
    /// The fields as JSON, such as '{"thing1": "Pottery", "time2": "{{fire:YYYY-MM-DD HH24:MI}}"}'
    #[arg(long, value_parser = parse_data)]
    data: Value,
    /// When: minute hour day month weekday
    #[arg(long, required_unless_present = "every", conflicts_with = "every")]
    cron: Option<String>,
    /// Or how often, counted from --starts-at: 3 days, 2 weeks
    #[arg(long, requires = "starts_at")]
    every: Option<String>,
    /// IANA name of the zone of its times
    #[arg(long, default_value = "Asia/Shanghai", value_name = "ZONE")]
    time_zone: String,
    /// The user, where there is one
    #[arg(long)]
    openid: Option<String>,
    /// Who is told [default: one]
    #[arg(long, value_enum)]
    audience: Option<Audience>,
    /// WeChat's appid [default: the default one]
    #[arg(long)]
    appid: Option<String>,
    /// Page of the mini-program that the card opens
    #[arg(long)]
    page: Option<String>,
    /// The business object, for find, explain and checks
    #[arg(long)]
    business_ref: Option<String>,
    /// Only on such days of reminder_days: workday or holiday
    #[arg(long)]
    only_on: Option<String>,
    /// Not before this wall time of the zone, such as 2026-12-01T09:00
    #[arg(long)]
    starts_at: Option<String>,
    /// Not at this wall time of the zone or after it
    #[arg(long)]
    ends_at: Option<String>,
    /// Ends after so many fires
    #[arg(long)]
    fires_max: Option<u32>,
    /// held: each message spends a held credit; none
    #[arg(long)]
    credit: Option<String>,
    /// How long a message may be late, such as '50 minutes'
    #[arg(long)]
    valid_for: Option<String>,
    /// Over how long the messages of a fire are spread, such as '20 minutes'
    #[arg(long)]
    spread: Option<String>,
    /// Of times that pass during an outage or a pause: skip, latest or all
    #[arg(long)]
    missed: Option<String>,
    /// In quiet hours: hold, drop or ignore
    #[arg(long)]
    quiet: Option<String>,
    /// The check that is asked before each send
    #[arg(long, value_name = "CHECK")]
    still_true: Option<String>,
    /// Only say what would be added
    #[arg(long)]
    dry_run: bool,
}

fn parse_data(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(data @ Value::Object(_)) => Ok(data),
        Ok(_) => Err("must be a JSON object such as {\"thing1\": \"...\"}".to_owned()),
        Err(error) => Err(format!(
            "is no JSON: {error}; quote it for the shell: '{{\"thing1\": \"...\"}}'"
        )),
    }
}

impl AddArgs {
    /// The columns that are given, by name.
    fn columns(&self) -> Value {
        let audience = self.audience.map(|audience| match audience {
            Audience::One => "one",
            Audience::List => "list",
            Audience::Holders => "holders",
        });
        let columns = json!({
            "name": self.name, "template_id": self.template, "data": self.data, "cron": self.cron, "every": self.every,
            "time_zone": self.time_zone, "openid": self.openid, "audience": audience, "appid": self.appid, "page": self.page,
            "business_ref": self.business_ref, "only_on": self.only_on, "starts_at": self.starts_at, "ends_at": self.ends_at,
            "fires_max": self.fires_max, "credit": self.credit, "valid_for": self.valid_for, "spread": self.spread,
            "missed": self.missed, "quiet": self.quiet, "still_true": self.still_true,
        });
        let columns = columns.as_object().cloned().unwrap_or_default();
        let given: Map<_, _> = columns
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect();
        given.into()
    }
}

pub(super) async fn add(store: &Store, args: &AddArgs) -> anyhow::Result<Report> {
    let calendar = match &args.cron {
        None => None,
        Some(cron) => Some(Calendar::parse_cron(cron, &args.time_zone).map_err(|bad| {
            OperateError::usage(bad.to_string(), "write it otherwise, then try again")
        })?),
    };
    let id = match store.add_schedule(&args.columns(), args.dry_run).await {
        Err(refused) if refused.sqlstate().as_deref() == Some("42501") => {
            return Err(OperateError::usage(
                "this login may not insert reminders: they are their business's",
                "connect as a member of wxnotify_producer, such as the login that inserts notifications",
            )
            .into());
        }
        id => id?,
    };
    let times: Vec<_> = calendar
        .iter()
        .flat_map(|calendar| calendar.fires_after(Utc::now()))
        .take(SHOWN)
        .collect();
    let told: Vec<_> = times
        .iter()
        .map(|fire| json!({ "local_at": fire.local_at, "fire_at": fire.fire_at }))
        .collect();
    let mut report = Report::new(json!({
        "action": "add_schedule", "dry_run": args.dry_run, "schedule_id": (!args.dry_run).then_some(id), "name": args.name, "times": told,
    }));
    if args.dry_run {
        report.line(said(
            format!("Schedule {} would be added.", args.name),
            format!("将添加提醒 {}。", args.name),
        ));
    } else {
        report
            .line(said(
                format!("Schedule {id} ({}) is added.", args.name),
                format!("已添加提醒 {id}（{}）。", args.name),
            ))
            .next(format!("`wxnotify schedule show {id}`"));
    }
    if calendar.is_some() {
        report.heading("Next times, but for starts_at, ends_at and only_on");
        let mut table = Table::new(&["local", "UTC"]);
        for fire in &times {
            table.row(vec![
                cell(fire.local_at.format("%Y-%m-%d %H:%M:%S")),
                in_utc(fire.fire_at),
            ]);
        }
        report.table(table);
    }
    Ok(report)
}
