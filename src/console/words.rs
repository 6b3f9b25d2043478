//! How the pages show numbers, times, statuses and texts of others; both languages stand side by side where they are used.

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use maud::{Markup, html};

use crate::legible::legible;
pub(super) use crate::operate::words::{Lang, age, count, counted, fire_reason, seconds};

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
