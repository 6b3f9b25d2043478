//! Words of the pages in both languages, side by side where they are used; and how numbers, times and texts of others are shown.

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta, Utc};
use maud::{Markup, html};

use crate::legible::legible;

/// The language of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lang {
    En,
    Zh,
}

impl Lang {
    pub(super) fn of_code(code: &str) -> Option<Self> {
        match code.get(..2)? {
            "zh" => Some(Self::Zh),
            "en" => Some(Self::En),
            _ => None,
        }
    }

    /// Of what is said in both, this language's.
    pub(super) fn pick<T>(self, en: T, zh: T) -> T {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }

    /// As HTML's `lang`.
    pub(super) fn tag(self) -> &'static str {
        self.pick("en", "zh-CN")
    }

    pub(super) fn code(self) -> &'static str {
        self.pick("en", "zh")
    }
}

/// Without JavaScript times are China's; with it, the reader's.
fn china(at: DateTime<Utc>) -> DateTime<FixedOffset> {
    let offset = FixedOffset::east_opt(8 * 3600)
        .unwrap_or_else(|| unreachable!("eight hours are an offset"));
    at.with_timezone(&offset)
}

/// A moment: the time of day, with the date unless it is today's.
pub(super) fn time(at: DateTime<Utc>) -> Markup {
    let here = china(at);
    let form = if here.date_naive() == china(Utc::now()).date_naive() {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M"
    };
    html! {
        time datetime=(at.to_rfc3339_opts(SecondsFormat::Secs, true)) title=(at.format("%Y-%m-%d %H:%M:%S UTC")) { (here.format(form)) }
    }
}

/// A moment, or a dash.
pub(super) fn time_or_dash(at: Option<DateTime<Utc>>) -> Markup {
    at.map_or_else(|| html! { "–" }, time)
}

/// How long ago, in at most two units.
pub(super) fn age(span: TimeDelta) -> String {
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
pub(super) fn seconds(secs: f64) -> String {
    if secs < 10.0 {
        format!("{secs:.1} s")
    } else if secs < 120.0 {
        format!("{secs:.0} s")
    } else {
        age(TimeDelta::seconds(secs as i64))
    }
}

/// A count with its thousands apart.
pub(super) fn count(number: i64) -> String {
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
pub(super) fn counted(lang: Lang, number: i64, en: &str, zh: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    lang.pick(
        format!("{} {en}{plural}", count(number)),
        format!("{} {zh}", count(number)),
    )
}

/// A count in a table: nothing is muted.
pub(super) fn number(number: i64) -> Markup {
    html! { @if number == 0 { span.muted { "0" } } @else { (count(number)) } }
}

/// Text of others: bounded, isolated, its control characters visible.
pub(super) fn foreign(text: &str) -> Markup {
    const CHARS_MAX: usize = 300;
    let bounded: String = text.chars().take(CHARS_MAX).collect();
    let cut = text.chars().nth(CHARS_MAX).is_some();
    html! { bdi { (legible(&bounded)) @if cut { "…" } } }
}

/// Text of others, or a dash.
pub(super) fn foreign_or_dash(text: Option<&str>) -> Markup {
    text.map_or_else(|| html! { "–" }, foreign)
}

/// An openid as it may be seen: its first five and last two characters.
pub(super) fn masked(openid: &str) -> String {
    let letters: Vec<char> = openid.chars().collect();
    if letters.len() < 10 {
        return "****".to_owned();
    }
    let head: String = letters[..5].iter().collect();
    let tail: String = letters[letters.len() - 2..].iter().collect();
    format!("{head}****{tail}")
}

/// The word of a status, in the language of the page.
pub(super) fn status_word(lang: Lang, status: &str) -> &str {
    let zh = match status {
        "held" => "预存",
        "scheduled" => "已排期",
        "due" => "待发送",
        "sending" => "发送中",
        "retrying" => "重试中",
        "in_doubt" => "结果未知",
        "paused" => "已暂停",
        "sent" => "已发送",
        "presumed_sent" => "推定已发送",
        "dead" => "死信",
        "expired" => "已过期",
        "cancelled" => "已取消",
        "duplicate" => "重复",
        "unresolved" => "未决",
        other => other,
    };
    lang.pick(status, zh)
}

/// What became of a credit.
pub(super) fn credit_word(lang: Lang, credit: Option<&str>) -> &'static str {
    match credit {
        Some("kept") => lang.pick("kept", "保留"),
        Some("gone") => lang.pick("gone", "已不存在"),
        Some(_) => lang.pick("unknown", "未知"),
        None => "–",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::search::STATUSES;

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
    fn a_masked_openid_tells_nobody_apart_from_the_rest() {
        assert_eq!(masked("oUser0000000000000000000077"), "oUser****77");
        assert_eq!(masked("short"), "****");
    }

    #[test]
    fn every_status_has_a_word_in_chinese() {
        for status in STATUSES {
            assert_ne!(status_word(Lang::Zh, status), status);
        }
    }
}
