//! The rules WeChat checks template values by, one for each type of key.
//!
//! A key is `<type><number>`, such as `thing2`; its whole prefix names the type. Length counts
//! Unicode scalar values. What WeChat does not document is taken the lenient way, except that a
//! value must be a string.
//!
//! Start at [`check`].

/// What is wrong with a value; the errmsg of 47003 differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `… is empty`: missing, empty or only white space.
    Empty,
    /// `… invalid`.
    Invalid,
}

/// Checks `value` by the rule of `key`'s type; `allowed` lists the values of an enumeration, and
/// an empty list allows any.
///
/// # Errors
///
/// The value breaks the rule: WeChat would answer 47003.
pub fn check(key: &str, value: &str, allowed: &[String]) -> Result<(), Fault> {
    let kind = key.trim_end_matches(|c: char| c.is_ascii_digit());
    if value.trim().is_empty() {
        let may_be_empty = kind == "const" && value.is_empty();
        return if may_be_empty {
            Ok(())
        } else {
            Err(Fault::Empty)
        };
    }
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if value.chars().any(breaks) {
        return Err(Fault::Invalid);
    }
    let listed = || allowed.is_empty() || allowed.iter().any(|allowed| allowed == value);
    let valid = match kind {
        "number" => is_number(value, 32),
        "letter" => at_most(value, 32) && value.chars().all(|c| c.is_ascii_alphabetic()),
        "symbol" => at_most(value, 5) && value.chars().all(is_symbol),
        "character_string" => at_most(value, 32) && value.chars().all(is_plain),
        "time" => is_span(value, is_time_point),
        "date" => is_span(value, is_date_point),
        "amount" => is_amount(value),
        "phone_number" => at_most(value, 17) && value.chars().all(is_digit_or_symbol),
        "car_number" => is_car_number(value),
        "name" => is_name(value),
        "phrase" => at_most(value, 5) && value.chars().all(is_han),
        "enum" | "enum_string" => listed(),
        "const" => at_most(value, 20) && listed(),
        "short_thing" => at_most(value, 10),
        _ => at_most(value, 20),
    };
    if valid { Ok(()) } else { Err(Fault::Invalid) }
}

fn at_most(value: &str, limit: usize) -> bool {
    value.chars().nth(limit).is_none()
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3007}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{323AF}')
}

fn is_symbol(c: char) -> bool {
    !c.is_alphanumeric() && !is_han(c)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || is_symbol(c)
}

fn is_digit_or_symbol(c: char) -> bool {
    c.is_ascii_digit() || is_symbol(c)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Digits with an optional fraction; `limit` counts the digits.
fn is_number(value: &str, limit: usize) -> bool {
    match value.split_once('.') {
        None => is_digits(value) && value.len() <= limit,
        Some((whole, part)) => {
            is_digits(whole) && is_digits(part) && whole.len() + part.len() <= limit
        }
    }
}

/// `¥36.00`, `36元`: a currency sign at most, ten digits before the point, 元 at most.
fn is_amount(value: &str) -> bool {
    let value = value
        .strip_prefix(['¥', '￥', '$', '€', '£', '₩', '฿', '₽'])
        .unwrap_or(value);
    let value = value.strip_suffix('元').unwrap_or(value);
    let (whole, part) = value.split_once('.').unwrap_or((value, "0"));
    is_digits(whole) && whole.len() <= 10 && is_digits(part)
}

fn is_car_number(value: &str) -> bool {
    let count = value.chars().count();
    let fits = |(index, c): (usize, char)| {
        c.is_ascii_alphanumeric() || (is_han(c) && (index == 0 || index + 1 == count))
    };
    count <= 8 && value.chars().enumerate().all(fits)
}

/// Up to ten characters with Chinese in them, up to twenty without; no digits.
fn is_name(value: &str) -> bool {
    let limit = if value.chars().any(is_han) { 10 } else { 20 };
    let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '０'..='９');
    at_most(value, limit) && !value.chars().any(is_digit)
}

/// One point, or two joined by `~`.
fn is_span(value: &str, is_point: fn(&str, bool) -> bool) -> bool {
    match value.split_once('~') {
        None => is_point(value, false),
        Some((from, to)) => is_point(from.trim_end(), false) && is_point(to.trim_start(), true),
    }
}

/// A clock time, with a date before it or not.
fn is_time_point(point: &str, _second: bool) -> bool {
    match split_clock(point) {
        Some((date, clock)) => is_clock(clock) && (date.is_empty() || is_date(date)),
        None => false,
    }
}

/// A date, with a clock time after it or not; the second point of a range may be the clock alone.
fn is_date_point(point: &str, second: bool) -> bool {
    match split_clock(point) {
        Some(("", clock)) => second && is_clock(clock),
        Some((date, clock)) => is_date(date) && is_clock(clock),
        None => is_date(point),
    }
}

/// Parts `2026年11月22日 15:01` into date and clock; `None` without a clock. The two are apart by
/// one space, or by nothing after 日.
fn split_clock(point: &str) -> Option<(&str, &str)> {
    if !point.contains(':') {
        return None;
    }
    if let Some(parts) = point.rsplit_once(' ') {
        return Some(parts);
    }
    match point.find('日') {
        Some(at) => Some(point.split_at(at + '日'.len_utf8())),
        None => Some(("", point)),
    }
}

/// `HH:MM` or `HH:MM:SS` on the 24-hour clock.
fn is_clock(clock: &str) -> bool {
    let parts: Vec<&str> = clock.split(':').collect();
    let minute = |part: &&str| part.len() == 2 && within(part, 0, 59);
    matches!(parts.len(), 2 | 3)
        && parts[0].len() <= 2
        && within(parts[0], 0, 23)
        && parts[1..].iter().all(minute)
}

/// A full date, a year and month, or a month and day, in 年月日 or joined by one of `-`, `/`, `.`.
fn is_date(date: &str) -> bool {
    if let Some(parts) = chinese_date(date) {
        return parts;
    }
    for joint in ['-', '/', '.'] {
        let parts: Vec<&str> = date.split(joint).collect();
        match parts[..] {
            [year, month, day] => return is_day(Some(year), month, day),
            [year, month] if year.len() == 4 => return is_year(year) && is_month(month),
            [month, day] => return is_day(None, month, day),
            _ => {}
        }
    }
    false
}

/// Whether a date with 月 in it is right; `None` if there is no 月.
fn chinese_date(date: &str) -> Option<bool> {
    let (before, day) = date.split_once('月')?;
    let day = day.strip_suffix('日').or((!day.is_empty()).then_some("?"));
    Some(match (before.split_once('年'), day) {
        (Some((year, month)), Some(day)) => is_day(Some(year), month, day),
        (Some((year, month)), None) => is_year(year) && is_month(month),
        (None, Some(day)) => is_day(None, before, day),
        (None, None) => false,
    })
}

fn is_year(year: &str) -> bool {
    year.len() == 4 && is_digits(year)
}

fn is_month(month: &str) -> bool {
    month.len() <= 2 && within(month, 1, 12)
}

/// Whether the day exists; 29 February does in a year left out.
fn is_day(year: Option<&str>, month: &str, day: &str) -> bool {
    if !is_month(month) || day.len() > 2 || !within(day, 1, 31) || !year.is_none_or(is_year) {
        return false;
    }
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    let year = year.map_or(2000, |year| number(year).cast_signed());
    chrono::NaiveDate::from_ymd_opt(year, number(month), number(day)).is_some()
}

fn within(text: &str, least: u32, most: u32) -> bool {
    is_digits(text)
        && text
            .parse()
            .is_ok_and(|number: u32| (least..=most).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, value, what the check says.
    const CASES: &[(&str, &str, Result<(), Fault>)] = &[
        ("thing2", "手冲咖啡两杯", Ok(())),
        ("thing2", "一二三四五六七八九十一二三四五六七八九十", Ok(())),
        (
            "thing2",
            "一二三四五六七八九十一二三四五六七八九十一",
            Err(Fault::Invalid),
        ),
        ("thing2", "", Err(Fault::Empty)),
        ("thing2", " \u{3000}\t", Err(Fault::Empty)),
        ("thing2", "two\nlines", Err(Fault::Invalid)),
        ("thing2", "bell\u{7}", Err(Fault::Invalid)),
        ("thing2", "line\u{2028}separator", Err(Fault::Invalid)),
        ("number1", "12.50", Ok(())),
        ("number1", "01234567890123456789012345678901", Ok(())),
        (
            "number1",
            "012345678901234567890123456789012",
            Err(Fault::Invalid),
        ),
        ("number1", "12.", Err(Fault::Invalid)),
        ("number1", "1.2.3", Err(Fault::Invalid)),
        ("number1", "12元", Err(Fault::Invalid)),
        ("number1", "１２", Err(Fault::Invalid)),
        ("letter1", "ABC", Ok(())),
        ("letter1", "AB1", Err(Fault::Invalid)),
        ("letter1", "甲", Err(Fault::Invalid)),
        ("symbol1", "★★★★", Ok(())),
        ("symbol1", "★★★★★★", Err(Fault::Invalid)),
        ("symbol1", "a★", Err(Fault::Invalid)),
        ("character_string10", "SO-20260042", Ok(())),
        ("character_string10", "订单42", Err(Fault::Invalid)),
        (
            "character_string10",
            "SO-2026004200000000000000000000042",
            Err(Fault::Invalid),
        ),
        ("time4", "15:01", Ok(())),
        ("time4", "15:01:30", Ok(())),
        ("time4", "2026年11月22日 15:01", Ok(())),
        ("time4", "2026-11-22 15:01:30", Ok(())),
        ("time4", "2026-11-22 08:00~12:00", Ok(())),
        ("time4", "08:00~12:00", Ok(())),
        ("time4", "2026-11-22 08~12", Err(Fault::Invalid)),
        ("time4", "2026-11-22 08:00~", Err(Fault::Invalid)),
        ("time4", "2026-11-22", Err(Fault::Invalid)),
        ("time4", "24:00", Err(Fault::Invalid)),
        ("time4", "15:1", Err(Fault::Invalid)),
        ("time4", "2026-11-22T15:01:30Z", Err(Fault::Invalid)),
        ("time4", "2026-11-22T15:01:30", Err(Fault::Invalid)),
        ("time4", "3 pm", Err(Fault::Invalid)),
        ("date1", "2026年11月22日", Ok(())),
        ("date1", "2026年11月", Ok(())),
        ("date1", "11月22日", Ok(())),
        ("date1", "2026-11-22", Ok(())),
        ("date1", "2026/11/22", Ok(())),
        ("date1", "2026.11.22", Ok(())),
        ("date1", "2026-11", Ok(())),
        ("date1", "11-22", Ok(())),
        ("date1", "2026年11月22日 15:01", Ok(())),
        ("date1", "2026-11-22~2026-11-30", Ok(())),
        ("date1", "2026-11-22 08:00~12:00", Ok(())),
        ("date1", "15:01", Err(Fault::Invalid)),
        ("date1", "2026-13-01", Err(Fault::Invalid)),
        ("date1", "2026-02-30", Err(Fault::Invalid)),
        ("date1", "2026-11/22", Err(Fault::Invalid)),
        ("date1", "2026年11月22", Err(Fault::Invalid)),
        ("date1", "2026-11-22T00:00:00Z", Err(Fault::Invalid)),
        ("date1", "tomorrow", Err(Fault::Invalid)),
        ("amount3", "¥36.00", Ok(())),
        ("amount3", "36元", Ok(())),
        ("amount3", "¥12345678901", Err(Fault::Invalid)),
        ("amount3", "¥¥36", Err(Fault::Invalid)),
        ("amount3", "thirty", Err(Fault::Invalid)),
        ("amount3", "¥", Err(Fault::Invalid)),
        ("phone_number1", "+86-0755-12345678", Ok(())),
        ("phone_number1", "+86-0755-1234567890", Err(Fault::Invalid)),
        ("phone_number1", "ext. 12", Err(Fault::Invalid)),
        ("car_number1", "粤B12345", Ok(())),
        ("car_number1", "粤A8Z888挂", Ok(())),
        ("car_number1", "粤B1京2345", Err(Fault::Invalid)),
        ("car_number1", "粤B1234567", Err(Fault::Invalid)),
        ("car_number1", "粤B-12345", Err(Fault::Invalid)),
        ("name1", "王小明", Ok(())),
        ("name1", "阿卜杜拉·买买提", Ok(())),
        ("name1", "Alexander Hamilton", Ok(())),
        ("name1", "一二三四五六七八九十一", Err(Fault::Invalid)),
        ("name1", "Alexander Hamilton II", Err(Fault::Invalid)),
        ("name1", "王小明2", Err(Fault::Invalid)),
        ("name1", "王小明２", Err(Fault::Invalid)),
        ("phrase5", "待取餐", Ok(())),
        ("phrase5", "等待取餐中啊", Err(Fault::Invalid)),
        ("phrase5", "OK", Err(Fault::Invalid)),
        ("phrase5", "待取餐！", Err(Fault::Invalid)),
        ("enum1", "客厅", Ok(())),
        ("enum1", "卧室", Err(Fault::Invalid)),
        ("enum_string2", "客厅", Ok(())),
        ("enum_string2", "卧室", Err(Fault::Invalid)),
        ("enum_string2", "", Err(Fault::Empty)),
        ("const1", "", Ok(())),
        ("const1", "\n", Err(Fault::Empty)),
        ("const1", "卧室", Err(Fault::Invalid)),
        ("short_thing1", "一二三四五六七八九十", Ok(())),
        (
            "short_thing1",
            "一二三四五六七八九十一",
            Err(Fault::Invalid),
        ),
        ("site1", "门店", Ok(())),
        ("site1", "", Err(Fault::Empty)),
    ];

    #[test]
    fn every_type_accepts_and_refuses_as_documented() {
        let allowed = ["客厅".to_owned()];
        for (key, value, expected) in CASES {
            assert_eq!(check(key, value, &allowed), *expected, "{key} = {value:?}");
        }
    }

    #[test]
    fn an_enumeration_without_a_list_takes_any_value() {
        assert_eq!(check("enum1", "卧室", &[]), Ok(()));
    }

    #[test]
    fn garbage_never_panics() {
        for key in [
            "time1",
            "date1",
            "amount1",
            "car_number1",
            "number1",
            "",
            "1",
        ] {
            for value in [
                "~",
                ":",
                "::",
                "日:",
                "月",
                "年月日",
                ".",
                "~~",
                "-",
                " :",
                "日",
                "¥元",
                "月日",
            ] {
                let _ = check(key, value, &[]);
            }
        }
    }
}
