//! The overview: what needs somebody now, in sentences, worst first, and the numbers behind it. The console draws it as a page, `wxnotify top` on
//! a terminal.
//!
//! Start at [`look`].

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::words::{Lang, count, counted};
use crate::store::console::{DeadCause, Latency, Minute};
use crate::store::quotas::QuotaState;
use crate::store::status::{App, Backlog, Blocker, Doubt, LiveWorker, Pause, TokenState};
use crate::store::verbs::Filter;
use crate::store::{Store, StoreError};

/// Doubts that are looked at one by one; more are counted.
pub const DOUBTS_MAX: usize = 500;
/// Outcomes of the last hour, by the minute.
pub const MINUTES: i32 = 60;

/// Everything the overview shows.
#[derive(Debug, Clone)]
pub struct Overview {
    /// When it was seen.
    pub at: DateTime<Utc>,
    /// The mini-programs.
    pub apps: Vec<App>,
    /// Rows not final, by mini-program, lane and status.
    pub backlog: Vec<Backlog>,
    /// Dead letters of a day, by cause.
    pub dead: Vec<DeadCause>,
    /// Doubts, the oldest first, at most [`DOUBTS_MAX`].
    pub doubts: Vec<Doubt>,
    /// What is paused.
    pub pauses: Vec<Pause>,
    /// Access tokens, without themselves.
    pub tokens: Vec<TokenState>,
    /// Quotas and rates.
    pub quotas: Vec<QuotaState>,
    /// Workers that are alive.
    pub workers: Vec<LiveWorker>,
    /// Who holds what workers need.
    pub blockers: Vec<Blocker>,
    /// What ended in the last hour; `None`: more than can be counted in time.
    pub minutes: Option<Vec<Minute>>,
    /// How long messages of the last hour took; `None`: it could not be told in time.
    pub latency: Option<Latency>,
}

/// What somebody should look at.
#[derive(Debug, Clone, Serialize)]
pub struct Need {
    /// It gets worse by itself.
    pub now: bool,
    /// What a page puts before it.
    pub icon: &'static str,
    /// What is wrong.
    pub sentence: String,
    /// The console's page about it.
    pub link: String,
    /// What that means and what to do.
    pub why: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// A page that does something about it, and its word.
    pub verb: Option<(String, String)>,
}

/// A picture that takes too long is left out; a number is not.
fn in_time<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.sqlstate().as_deref() == Some("57014") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks; a picture that takes too long is left out.
///
/// # Errors
///
/// The database did not answer.
pub async fn look(store: &Store, appid: Option<&str>) -> Result<Overview, StoreError> {
    let of_app = Filter {
        appid: appid.map(str::to_owned),
        ..Filter::default()
    };
    Ok(Overview {
        at: Utc::now(),
        apps: store.list_apps().await?,
        backlog: store.backlog(appid).await?,
        dead: in_time(store.dead_causes(appid, 24).await)?.unwrap_or_default(),
        doubts: store.doubts(&of_app, DOUBTS_MAX).await?,
        pauses: store.pauses(appid).await?,
        tokens: store.token_states(appid).await?,
        quotas: store.quotas(appid).await?,
        workers: store.live_workers().await?,
        blockers: store.blockers(appid).await?,
        minutes: in_time(store.outcomes(MINUTES, 1, appid).await)?,
        latency: in_time(store.latency(appid).await)?.flatten(),
    })
}

impl Overview {
    /// Rows of a status.
    #[must_use]
    pub fn rows(&self, status: &str) -> i64 {
        let of_status = self.backlog.iter().filter(|row| row.status == status);
        of_status.map(|row| row.rows).sum()
    }

    /// Since when the oldest due row waits.
    #[must_use]
    pub fn oldest_due(&self) -> Option<DateTime<Utc>> {
        let waiting = self.backlog.iter().filter(|row| row.status == "due");
        waiting.filter_map(|row| row.oldest_due).min()
    }

    /// What needs somebody, what gets worse by itself first.
    #[must_use]
    pub fn needs(&self, lang: Lang) -> Vec<Need> {
        let mut needs = self.needs_of_machinery(lang);
        needs.extend(self.needs_of_dead(lang));
        needs.extend(self.needs_of_pauses(lang));
        needs.extend(self.needs_of_doubts(lang));
        needs.extend(self.needs_of_tokens(lang));
        needs.sort_by_key(|need| (!need.now, need.since));
        needs
    }

    fn needs_of_machinery(&self, lang: Lang) -> Vec<Need> {
        let mut needs = Vec::new();
        let waiting = self.rows("due") + self.rows("retrying");
        if self.workers.is_empty() && waiting > 0 {
            needs.push(Need {
                now: true,
                icon: "dead",
                sentence: lang.pick(
                    format!("No worker is alive; {} rows wait", count(waiting)),
                    format!("没有存活的 worker；{} 行在等待", count(waiting)),
                ),
                link: "/workers".to_owned(),
                why: lang
                    .pick(
                        "Nothing is sent. Start `wxnotify run`, and look at its log.",
                        "什么都发不出去。请启动 wxnotify run 并查看其日志。",
                    )
                    .to_owned(),
                since: self.oldest_due(),
                verb: None,
            });
        }
        for blocker in &self.blockers {
            needs.push(Need {
                now: true,
                icon: "paused",
                sentence: blocker.sentence(),
                link: "/workers".to_owned(),
                why: format!(
                    "{} {}",
                    lang.pick(
                        "Workers wait for it. What ends it:",
                        "worker 在等待它。结束的办法："
                    ),
                    blocker.end_with
                ),
                since: blocker.since,
                verb: None,
            });
        }
        needs
    }

    fn needs_of_dead(&self, lang: Lang) -> Vec<Need> {
        let kept = self
            .dead
            .iter()
            .filter(|cause| cause.credit.as_deref() == Some("kept") && cause.rows > cause.redriven);
        kept.map(|cause| {
            let left = cause.rows - cause.redriven;
            let app = name_of(&self.apps, &cause.appid);
            let meaning = lang
                .pick(&cause.meaning, &cause.meaning_zh)
                .clone()
                .unwrap_or_default();
            let errcode = cause
                .errcode
                .map_or_else(String::new, |errcode| errcode.to_string());
            Need {
                now: Utc::now() - cause.last_at < TimeDelta::minutes(15),
                icon: "dead",
                sentence: lang.pick(
                    format!("{} died on app {app}: {meaning}", count(left)),
                    format!("{app} 有 {} 行成为死信：{meaning}", count(left)),
                ),
                link: format!("/dead?appid={}#c{errcode}", cause.appid),
                why: lang
                    .pick(
                        "The credits are kept: mend the cause, then redrive.",
                        "次数仍保留：排除原因后重投。",
                    )
                    .to_owned(),
                since: Some(cause.first_at),
                verb: None,
            }
        })
        .collect()
    }

    fn needs_of_pauses(&self, lang: Lang) -> Vec<Need> {
        let lasting = self.pauses.iter().filter(|pause| pause.needs_operator);
        lasting
            .map(|pause| {
                let app = name_of(&self.apps, &pause.appid);
                let reason = pause_reason(pause, lang);
                let what = match &pause.template_id {
                    Some(template) => lang.pick(
                        format!("Template {template} of app {app} sends nothing: {reason}"),
                        format!("{app} 的模板 {template} 停止发送：{reason}"),
                    ),
                    None => lang.pick(
                        format!("App {app} sends nothing: {reason}"),
                        format!("小程序 {app} 停止发送：{reason}"),
                    ),
                };
                let query = pause
                    .template_id
                    .as_ref()
                    .map_or_else(String::new, |template| format!("?template_id={template}"));
                let known = self.apps.iter().any(|app| app.appid == pause.appid);
                Need {
                    now: false,
                    icon: "paused",
                    sentence: what,
                    link: "/workers".to_owned(),
                    why: lang
                        .pick(
                            "Its rows wait until an operator resumes it, and expire meanwhile.",
                            "其消息一直等到运维恢复，期间可能过期。",
                        )
                        .to_owned(),
                    since: None,
                    verb: known.then(|| {
                        (
                            format!("/apps/{}/resume{query}", pause.appid),
                            lang.pick("Resume…", "恢复…").to_owned(),
                        )
                    }),
                }
            })
            .collect()
    }

    fn needs_of_doubts(&self, lang: Lang) -> Vec<Need> {
        let held = self
            .doubts
            .iter()
            .filter(|doubt| doubt.on_doubt == "hold")
            .count();
        let Some(oldest) = self.doubts.iter().map(|doubt| doubt.in_doubt_since).min() else {
            return Vec::new();
        };
        if held == 0 {
            return Vec::new();
        }
        let others = self.doubts.len() - held;
        vec![Need {
            now: false,
            icon: "in_doubt",
            sentence: lang.pick(format!("{} in doubt; {held} with on_doubt = 'hold' wait for you", self.doubts.len()), format!("{} 行结果未知；其中 {held} 行 on_doubt = 'hold'，等待你的判断", self.doubts.len())),
            link: "/doubts".to_owned(),
            why: lang.pick(format!("Without evidence the other {others} are sent again, and their users may receive them twice."), format!("若无证据，其余 {others} 行会重发，用户可能收到两次。")),
            since: Some(oldest),
            verb: None,
        }]
    }

    fn needs_of_tokens(&self, lang: Lang) -> Vec<Need> {
        let mut needs = Vec::new();
        for token in &self.tokens {
            let app = name_of(&self.apps, &token.appid);
            let recent = token
                .last_foreign_at
                .filter(|at| Utc::now() - *at < TimeDelta::days(1));
            if let Some(at) = recent {
                needs.push(Need {
                    now: false,
                    icon: "warn",
                    sentence: lang.pick(
                        format!("Another program refreshes the token of app {app} by force"),
                        format!("另有程序强制刷新 {app} 的 access_token"),
                    ),
                    link: "/apps".to_owned(),
                    why: lang.pick(
                        format!(
                            "{}: let it use getStableAccessToken in normal mode.",
                            counted(lang, token.foreign_refreshes, "time", "")
                        ),
                        format!(
                            "共 {} 次：请让它以普通模式调用 getStableAccessToken。",
                            token.foreign_refreshes
                        ),
                    ),
                    since: Some(at),
                    verb: None,
                });
            }
        }
        for quota in self.quotas.iter().filter(|quota| quota.used_up) {
            let app = name_of(&self.apps, &quota.appid);
            needs.push(Need {
                now: true,
                icon: "warn",
                sentence: lang.pick(format!("The day's quota of app {app} is used up"), format!("{app} 当天的额度已用完")),
                link: "/apps".to_owned(),
                why: lang.pick("It begins anew at 00:00 China time; `wxnotify quota clear` takes one of ten clearings a month.", "北京时间 00:00 重新开始；wxnotify quota clear 会用掉每月十次清零之一。").to_owned(),
                since: quota.read_at,
                verb: None,
            });
        }
        needs
    }
}

/// Why it is paused. What an operator wrote stays as it is.
fn pause_reason(pause: &Pause, lang: Lang) -> String {
    let said = pause.reason.clone().unwrap_or_default();
    match (
        lang,
        pause.reason_code.as_str(),
        pause.errcode,
        &pause.meaning_zh,
    ) {
        (Lang::Zh, "unknown_app", ..) => "小程序未登记".to_owned(),
        (Lang::Zh, "template_removed", ..) => "微信的模板列表中已没有该模板".to_owned(),
        (Lang::Zh, _, Some(errcode), Some(meaning)) => format!("{errcode} {meaning}"),
        _ => said,
    }
}

/// How many of some statuses ended in each minute of the last hour, the oldest first.
#[must_use]
pub fn by_minute(minutes: &[Minute], at: DateTime<Utc>, counts: impl Fn(&str) -> bool) -> Vec<f64> {
    let mut values = vec![0.0; MINUTES as usize];
    for minute in minutes.iter().filter(|minute| counts(&minute.status)) {
        let back = (at - minute.minute).num_minutes();
        if let Some(value) = usize::try_from(i64::from(MINUTES) - 1 - back)
            .ok()
            .and_then(|index| values.get_mut(index))
        {
            *value += minute.rows as f64;
        }
    }
    values
}

/// Whether a message of this status was sent, as far as is known.
#[must_use]
pub fn is_sent(status: &str) -> bool {
    matches!(status, "sent" | "presumed_sent")
}

/// The name of a mini-program for people, its appid where it has none.
#[must_use]
pub fn name_of<'a>(apps: &'a [App], appid: &'a str) -> &'a str {
    let app = apps.iter().find(|app| app.appid == appid);
    app.and_then(|app| app.name.as_deref()).unwrap_or(appid)
}
