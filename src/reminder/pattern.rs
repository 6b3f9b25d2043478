//! Cron texts: which are taken, and the wall times they name.
//!
//! The form is judged here, field by field, with words for whoever wrote it; what passes is `croner`'s to read and to
//! enumerate. It reads more (`W`, `?`, years, nicknames), which is not promised and therefore refused, and some of it in
//! another way than other crons do, which is refused for that reason.
//!
//! Start at [`Pattern::parse`].

use std::ops::RangeInclusive;

use chrono::{Days, NaiveDateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// How many characters a cron text may have.
pub const CHARS_MAX: usize = 100;

/// Beyond so many days nothing is looked for. The rarest pattern, a fifth Monday in February, comes within 40 years.
const SEARCH_DAYS: u64 = 41 * 366;

/// Why a cron text is refused, with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Longer than [`CHARS_MAX`].
    #[error(
        "cron: {0} characters; a cron text has at most {CHARS_MAX}: split it into several schedules"
    )]
    TooLong(usize),
    /// A nickname such as `@daily`.
    #[error("cron: {0:?} is a nickname; write {1}")]
    Nickname(String, &'static str),
    /// Neither five nor six fields.
    #[error(
        "cron: {0} fields; write five (minute hour day month weekday) or six (second first){hint}",
        hint = if *.0 == 7 { "; there is no field for years, give ends_at instead" } else { "" }
    )]
    Fields(usize),
    /// A field that breaks a rule.
    #[error("cron: {field} {text:?}: {rule}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// Its text, or the part of it at fault.
        text: String,
        /// The rule and what to write instead.
        rule: String,
    },
    /// No year has such a day.
    #[error(
        "cron: day {day} in month {month}: no such month has that day; write L for the last day of a month"
    )]
    Never {
        /// The field of days.
        day: String,
        /// The field of months.
        month: String,
    },
    /// What the form allows and the library does not.
    #[error("cron: {0:?} is refused: {1}")]
    Library(String, String),
}

/// A cron text that was taken.
#[derive(Debug, Clone)]
pub struct Pattern {
    cron: Cron,
    fixed: bool,
}

impl Pattern {
    /// Reads a cron text.
    ///
    /// # Errors
    ///
    /// [`BadPattern`] says what to write instead.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let chars = text.chars().count();
        if chars > CHARS_MAX {
            return Err(BadPattern::TooLong(chars));
        }
        let upper = text.to_ascii_uppercase();
        if let Some(nickname) = upper.trim().strip_prefix('@') {
            return Err(BadPattern::Nickname(
                text.trim().to_owned(),
                spell_out(nickname),
            ));
        }
        let fields: Vec<&str> = upper.split_ascii_whitespace().collect();
        let (second, [minute, hour, day, month, weekday]) = match fields[..] {
            [minute, hour, day, month, weekday] => ("0", [minute, hour, day, month, weekday]),
            [second, minute, hour, day, month, weekday] => {
                (second, [minute, hour, day, month, weekday])
            }
            _ => return Err(BadPattern::Fields(fields.len())),
        };
        let plain = [
            SECOND.rewrite(second)?,
            MINUTE.rewrite(minute)?,
            HOUR.rewrite(hour)?,
            DAY.rewrite(day)?,
            MONTH.rewrite(month)?,
            WEEKDAY.rewrite(weekday)?,
        ];
        check_days(&plain)?;
        let cron = CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Disallowed)
            .build()
            .parse(&plain.join(" "))
            .map_err(|error| BadPattern::Library(text.to_owned(), error.to_string()))?;
        let fixed = !minute.contains('*') && !hour.contains('*');
        Ok(Self { cron, fixed })
    }

    /// Whether neither minute nor hour has a `*`: each wall time fires once, whatever the clocks do.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// The first wall time it names at or after `from`, which is taken to the second; `None` if none comes in 41 years.
    #[must_use]
    pub fn find_wall(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let until = from.checked_add_days(Days::new(SEARCH_DAYS))?;
        let found = self
            .cron
            .find_next_occurrence::<Utc>(&from.and_utc(), true)
            .ok()?;
        Some(found.naive_utc()).filter(|wall| *wall <= until)
    }
}

/// What a nickname stands for.
fn spell_out(nickname: &str) -> &'static str {
    match nickname {
        "YEARLY" | "ANNUALLY" => "\"0 0 1 1 *\"",
        "MONTHLY" => "\"0 0 1 * *\"",
        "WEEKLY" => "\"0 0 * * 0\"",
        "DAILY" | "MIDNIGHT" => "\"0 0 * * *\"",
        "HOURLY" => "\"0 * * * *\"",
        _ => "five fields: minute hour day month weekday",
    }
}

/// What the fields of days say together: croner, as POSIX, takes either; others take `*/n` beside a weekday for both.
fn check_days([.., day, month, weekday]: &[String; 6]) -> Result<(), BadPattern> {
    if day == "*" || weekday == "*" {
        let possible = weekday != "*" || day == "*" || day.contains(['L', '*']) || {
            let days_max = list(month).map(days_of_month).max().unwrap_or(31);
            list(day).min().is_some_and(|first| first <= days_max)
        };
        return if possible {
            Ok(())
        } else {
            Err(BadPattern::Never {
                day: day.clone(),
                month: month.clone(),
            })
        };
    }
    for (field, text) in [("day", day), ("weekday", weekday)] {
        if text.contains('*') {
            return Err(BadPattern::Field {
                field,
                text: text.clone(),
                rule: "with day and weekday both given either may match, and crons disagree about a step there; \
                       list the days, or write * in one of the two fields"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

/// The first values of the parts of a plain field; of `*` and its steps the smallest a field can have.
fn list(field: &str) -> impl Iterator<Item = u8> {
    field.split(',').map(|part| {
        let digits = part
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap_or_default();
        digits.parse().unwrap_or(1)
    })
}

/// How many days a month has at most.
fn days_of_month(month: u8) -> u8 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A field: its name, its values, and the names some of them have.
struct Field {
    name: &'static str,
    values: RangeInclusive<u8>,
    names: &'static [&'static str],
}

const SECOND: Field = Field {
    name: "second",
    values: 0..=59,
    names: &[],
};
const MINUTE: Field = Field {
    name: "minute",
    values: 0..=59,
    names: &[],
};
const HOUR: Field = Field {
    name: "hour",
    values: 0..=23,
    names: &[],
};
const DAY: Field = Field {
    name: "day",
    values: 1..=31,
    names: &[],
};
const MONTH: Field = Field {
    name: "month",
    values: 1..=12,
    names: &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
};
const WEEKDAY: Field = Field {
    name: "weekday",
    values: 0..=7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

impl Field {
    /// The field in plain digits.
    fn rewrite(&self, text: &str) -> Result<String, BadPattern> {
        if text == "*" {
            return Ok(text.to_owned());
        }
        let parts: Result<Vec<_>, _> = text
            .split(',')
            .map(|part| self.rewrite_part(part, text))
            .collect();
        Ok(parts?.join(","))
    }

    fn rewrite_part(&self, part: &str, whole: &str) -> Result<String, BadPattern> {
        if part.is_empty() {
            return self.refuse(whole, "a comma with nothing beside it; remove it");
        }
        if part == "*" {
            return self.refuse(whole, "* is every value already; write * alone");
        }
        if let Some((range, step)) = part.split_once('/') {
            let step = self.read_step(step, part)?;
            let range = if range == "*" {
                range.to_owned()
            } else {
                self.rewrite_range(range)?
            };
            return Ok(format!("{range}/{step}"));
        }
        match (self.name, part) {
            ("day", "L") => return Ok(part.to_owned()),
            ("weekday", "L") => {
                return self.refuse(
                    part,
                    "write 6 for Saturdays, or 6L for the last Saturday of a month",
                );
            }
            _ => {}
        }
        if self.name == "weekday" {
            if let Some(day) = part.strip_suffix('L') {
                return Ok(format!("{}#L", self.read_value(day)?));
            }
            if let Some((day, nth)) = part.split_once('#') {
                if !matches!(nth, "1" | "2" | "3" | "4" | "5") {
                    return self.refuse(
                        part,
                        "after # comes 1 to 5, as in 1#2, the second Monday of a month",
                    );
                }
                return Ok(format!("{}#{nth}", self.read_value(day)?));
            }
        }
        self.rewrite_range(part)
    }

    fn rewrite_range(&self, range: &str) -> Result<String, BadPattern> {
        let Some((first, last)) = range.split_once('-') else {
            return Ok(self.read_value(range)?.to_string());
        };
        let from = self.read_value(first)?;
        // A week may end with its Sunday.
        let to = match self.read_value(last)? {
            0 if self.name == "weekday" && from > 0 => 7,
            to => to,
        };
        if from > to {
            let (low, high) = (self.values.start(), self.values.end());
            let high = if self.name == "weekday" { &6 } else { high };
            return self.refuse(
                range,
                &format!("a range goes upwards; write {from}-{high},{low}-{to}"),
            );
        }
        Ok(format!("{from}-{to}"))
    }

    fn read_step(&self, step: &str, part: &str) -> Result<u8, BadPattern> {
        let step_max = match self.name {
            "weekday" => 6,
            _ => self.values.end() - self.values.start(),
        };
        match read_digits(step) {
            Some(step) if (1..=step_max).contains(&step) => Ok(step),
            _ => self.refuse(
                part,
                &format!("a step is 1 to {step_max}; for one value write that value alone"),
            ),
        }
    }

    fn read_value(&self, text: &str) -> Result<u8, BadPattern> {
        if let Some(place) = self.names.iter().position(|name| *name == text) {
            let place = u8::try_from(place).expect("a field has few names");
            // The first month is 1 and the first weekday 0.
            return Ok(place + self.values.start());
        }
        if let Some(value) = read_digits(text).filter(|value| self.values.contains(value)) {
            return Ok(value);
        }
        let (low, high) = (self.values.start(), self.values.end());
        let rule = match (self.name, text) {
            (_, "?") => "? is of another cron; write *".to_owned(),
            ("day", _) if text.ends_with('W') => {
                "W is not known; list weekdays in the last field, or days".to_owned()
            }
            ("day", _) => format!("a day is {low} to {high}, or L for the last of the month"),
            ("month", _) => format!("a month is {low} to {high}, or JAN to DEC"),
            ("weekday", _) => {
                format!(
                    "a weekday is {low} to {high} (0 and 7 are Sunday) or SUN to SAT, as in 1-5, 1#2 or 5L"
                )
            }
            (name, _) => {
                let article = if name == "hour" { "an" } else { "a" };
                format!("{article} {name} is {low} to {high}, as in 5, 1-4, */10 or 0,30")
            }
        };
        self.refuse(text, &rule)
    }

    fn refuse<T>(&self, text: &str, rule: &str) -> Result<T, BadPattern> {
        Err(BadPattern::Field {
            field: self.name,
            text: text.chars().take(40).collect(),
            rule: rule.to_owned(),
        })
    }
}

/// A number of one or two digits.
fn read_digits(text: &str) -> Option<u8> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
