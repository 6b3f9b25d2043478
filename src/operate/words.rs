//! Words in both languages, side by side where they are used, and numbers as people read them.

use std::sync::OnceLock;

use chrono::{DateTime, FixedOffset, Local, TimeDelta, Utc};
use chrono_tz::Tz;

use super::phrases::in_chinese;

/// The language of whoever reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lang {
    /// English.
    En,
    /// Chinese.
    Zh,
}

impl Lang {
    /// Of a code such as `zh` or `en_US.UTF-8`; `None`: neither language.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        match code.get(..2)? {
            "zh" => Some(Self::Zh),
            "en" => Some(Self::En),
            _ => None,
        }
    }

    /// As the environment says: the first of `LC_ALL`, `LC_MESSAGES` and `LANG` that says something.
    #[must_use]
    pub fn of_environment() -> Self {
        let said = ["LC_ALL", "LC_MESSAGES", "LANG"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|said| !said.is_empty());
        said.and_then(|said| Self::of_code(&said))
            .unwrap_or(Self::En)
    }

    /// Of what is said in both, this language's.
    #[must_use]
    pub fn pick<T>(self, en: T, zh: T) -> T {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }

    /// As HTML's `lang`.
    #[must_use]
    pub fn tag(self) -> &'static str {
        self.pick("en", "zh-CN")
    }

    /// `en` or `zh`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.pick("en", "zh")
    }
}

/// Who reads what this process prints. Set once, by the command line; until then it is English and UTC.
static READER: OnceLock<Lang> = OnceLock::new();

/// Says in which language this process is read, and that times are to be in its zone. Only the first call counts.
pub fn set_reader(lang: Lang) {
    let _ = READER.set(lang);
}

/// The reader's language.
#[must_use]
pub fn reader() -> Lang {
    READER.get().copied().unwrap_or(Lang::En)
}

/// Of what is said in both languages, the reader's.
pub fn said(en: impl Into<String>, zh: impl Into<String>) -> String {
    match reader() {
        Lang::En => en.into(),
        Lang::Zh => zh.into(),
    }
}

/// What a report says word for word, in the reader's language.
#[must_use]
pub fn phrase(english: String) -> String {
    match reader() {
        Lang::En => english,
        Lang::Zh => in_chinese(&english).map_or(english, str::to_owned),
    }
}

/// A moment in the zone that `TZ` names, in UTC where it names none that is known, and without it in the system's.
#[must_use]
pub fn in_readers_zone(at: DateTime<Utc>) -> DateTime<FixedOffset> {
    let named = std::env::var("TZ").unwrap_or_default();
    if named.is_empty() {
        return at.with_timezone(&Local).fixed_offset();
    }
    match named.trim_start_matches(':').parse::<Tz>() {
        Ok(zone) => at.with_timezone(&zone).fixed_offset(),
        Err(_) => at.fixed_offset(),
    }
}

/// A moment in the reader's zone (`TZ`, else the system's) with its offset; UTC as `Z`.
#[must_use]
pub fn moment(at: DateTime<Utc>) -> String {
    let here = in_readers_zone(at);
    if READER.get().is_none() || here.offset().local_minus_utc() == 0 {
        return at.format("%Y-%m-%d %H:%M:%SZ").to_string();
    }
    here.format("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// How long ago, in at most two units.
#[must_use]
pub fn age(span: TimeDelta) -> String {
    let secs = span.num_seconds().max(0);
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min", secs / 60),
        3600..86_400 if secs / 60 % 60 == 0 => format!("{} h", secs / 3600),
        3600..86_400 => format!("{} h {} min", secs / 3600, secs / 60 % 60),
        _ if secs / 3600 % 24 == 0 => format!("{} d", secs / 86_400),
        _ => format!("{} d {} h", secs / 86_400, secs / 3600 % 24),
    }
}

/// Seconds as people read a latency.
#[must_use]
pub fn seconds(secs: f64) -> String {
    if secs < 10.0 {
        format!("{secs:.1} s")
    } else if secs < 120.0 {
        format!("{secs:.0} s")
    } else {
        age(TimeDelta::seconds(secs as i64))
    }
}

/// A count with its thousands apart.
#[must_use]
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// A count of things, in English with an `s` where there are none or several.
#[must_use]
pub fn counted(lang: Lang, number: i64, en: &str, zh: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    lang.pick(
        format!("{} {en}{plural}", count(number)),
        format!("{} {zh}", count(number)),
    )
}

/// Why a time of a reminder was not fired, or not to its end, as `reminder_outcomes` says it. What an operator or a rule said in words of their own
/// stays as it is.
#[must_use]
pub fn fire_reason(lang: Lang, reason: &str) -> String {
    if lang == Lang::En {
        return reason.to_owned();
    }
    if let Some((what, rows)) = reason.split_once(" after ") {
        let what = match what {
            "paused" => "暂停",
            "too late" => "已过有效期",
            "deleted" => "提醒被删除",
            _ => return reason.to_owned(),
        };
        return format!("{what}（此前已生成 {rows} 条）");
    }
    if let Some(who) = reason.strip_prefix("skipped by ") {
        return format!("由 {who} 跳过");
    }
    match reason {
        "paused" => "当时处于暂停",
        "missed" => "停机期间错过，未补",
        "too late" => "已过有效期",
        "quiet hours" => "落在安静时段",
        "not approved" => "接收者较多，尚未批准",
        "no workday" => "不是工作日",
        "no holiday" => "不是节假日",
        "over" => "已结束",
        "edited while sending" => "发送期间被修改",
        "edited before it was made" => "生成之前被修改",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart_and_ages_two_units_at_most() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(-12_345_678)],
            ["0", "999", "1,000", "-12,345,678"]
        );
        let ages = [41, 61, 3_600, 5_400, 90_000].map(|secs| age(TimeDelta::seconds(secs)));
        assert_eq!(ages, ["41 s", "1 min", "1 h", "1 h 30 min", "1 d 1 h"]);
    }

    #[test]
    fn a_reason_of_ours_is_translated_and_anothers_words_are_not() {
        for (reason, said) in [
            ("paused after 17", "暂停（此前已生成 17 条）"),
            ("quiet hours", "落在安静时段"),
            (
                "skipped by anna: rain after all",
                "skipped by anna: rain after all",
            ),
            ("skipped by anna", "由 anna 跳过"),
            (
                "pending_notifications.data: too long",
                "pending_notifications.data: too long",
            ),
        ] {
            assert_eq!(fire_reason(Lang::Zh, reason), said);
            assert_eq!(fire_reason(Lang::En, reason), reason);
        }
    }

    #[test]
    fn a_language_is_known_by_its_code_however_it_goes_on() {
        for (code, lang) in [
            ("zh", Some(Lang::Zh)),
            ("zh_CN.UTF-8", Some(Lang::Zh)),
            ("en_US", Some(Lang::En)),
            ("C", None),
            ("", None),
            ("中文", None),
        ] {
            assert_eq!(Lang::of_code(code), lang, "{code}");
        }
    }
}
