//! Words in both languages, side by side where they are used, and numbers as people read them.

use chrono::TimeDelta;

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
