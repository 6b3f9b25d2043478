//! What is wrong with the settings, in words: everything at once, for a person to mend in one go.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, Serialize)]
pub struct BadSetting {
    /// The variable, flag or key.
    pub name: String,
    /// The value as given; `None` when there is none or it is secret.
    pub value: Option<String>,
    /// Where it was given: `environment`, `flag`, or the file.
    pub source: Option<String>,
    /// The rule it breaks.
    pub rule: String,
    /// What to do about it.
    pub next: String,
}

/// Everything that is wrong with the settings, for a person to mend in one go.
#[derive(Debug, Clone, Serialize, thiserror::Error)]
pub struct BadSettings {
    /// One entry for each.
    pub bad_settings: Vec<BadSetting>,
}

impl fmt::Display for BadSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bad_settings.len() {
            1 => writeln!(formatter, "1 setting is wrong, so nothing was started:")?,
            count => writeln!(
                formatter,
                "{count} settings are wrong, so nothing was started:"
            )?,
        }
        for bad in &self.bad_settings {
            write!(formatter, "\n  {}", bad.name)?;
            if let Some(value) = &bad.value {
                write!(formatter, " = {value:?}")?;
            }
            if let Some(source) = &bad.source {
                write!(formatter, " ({source})")?;
            }
            writeln!(formatter, "\n      {}\n      next: {}", bad.rule, bad.next)?;
        }
        Ok(())
    }
}
