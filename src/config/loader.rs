//! Gathers values from the file, the environment and flags, and keeps what is wrong with them.
//!
//! Start at `Loader::gather`, then `Loader::read`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::names::{did_you_mean, is_service_link};
use super::refusal::{BadSetting, BadSettings};
use super::rules::{Broken, Rule};
use super::secrets::{GivenSecret, SecretKind};
use super::table::SETTINGS;
use super::{PREFIX, Setting, Sources};

/// A value as it was given, and where.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) source: String,
}

/// Collects what was given and what is wrong with it.
pub(super) struct Loader {
    pub(super) given: BTreeMap<&'static str, Given>,
    pub(super) secrets: BTreeMap<(String, SecretKind), GivenSecret>,
    /// The environment, for what libpq reads there.
    environment: BTreeMap<String, String>,
    pub(super) bad: Vec<BadSetting>,
    pub(super) advice: Vec<String>,
}

impl Loader {
    pub(super) fn gather(sources: &Sources) -> Self {
        let mut loader = Self {
            given: BTreeMap::new(),
            secrets: BTreeMap::new(),
            environment: sources.environment.clone(),
            bad: Vec::new(),
            advice: Vec::new(),
        };
        if let Some(path) = &sources.file {
            loader.gather_file(path);
        }
        loader.gather_environment(&sources.environment);
        for setting in SETTINGS {
            if let Some(text) = sources.flags.get(setting.name) {
                loader.give(setting, text, "flag");
            }
        }
        loader
    }

    fn give(&mut self, setting: &Setting, text: impl Into<String>, source: &str) {
        let given = Given {
            text: text.into(),
            source: source.to_owned(),
        };
        self.given.insert(setting.name, given);
    }

    pub(super) fn finish(self) -> Result<(), BadSettings> {
        if self.bad.is_empty() {
            Ok(())
        } else {
            Err(BadSettings {
                bad_settings: self.bad,
            })
        }
    }

    pub(super) fn refuse(
        &mut self,
        name: impl Into<String>,
        given: Option<(Option<&str>, &str)>,
        rule: String,
        next: String,
    ) {
        let value = given.and_then(|(value, _)| value).map(shorten);
        let source = given.map(|(_, source)| source.to_owned());
        self.bad.push(BadSetting {
            name: name.into(),
            value,
            source,
            rule,
            next,
        });
    }

    fn gather_file(&mut self, path: &Path) {
        let source = path.display().to_string();
        let name = format!("--config {source}");
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let next = "give the path of a readable TOML file, or leave --config and WXNOTIFY_CONFIG out";
                return self.refuse(name, None, format!("cannot be read: {error}"), next.into());
            }
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                // The parser's full message quotes the line, which may hold a secret.
                let line = error.span().map_or(1, |span| {
                    text[..span.start.min(text.len())].lines().count().max(1)
                });
                let rule = format!("line {line} is not TOML: {}", error.message());
                return self.refuse(name, None, rule, "mend that line; text needs quotes".into());
            }
        };
        for (key, value) in table {
            match (key.as_str(), value) {
                ("apps", toml::Value::Table(apps)) => {
                    let mut keys = apps.values().filter_map(toml::Value::as_table).flatten();
                    if keys.any(|(key, _)| !key.ends_with("_file")) {
                        self.look_at_mode(path, "--config");
                    }
                    self.gather_file_apps(&source, apps);
                }
                (key, value) => self.gather_file_value(&source, key, value),
            }
        }
    }

    fn gather_file_value(&mut self, source: &str, key: &str, value: toml::Value) {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key() == key) else {
            let keys: Vec<String> = SETTINGS
                .iter()
                .map(Setting::key)
                .chain(["apps".to_owned()])
                .collect();
            let next = did_you_mean(key, keys.iter().map(String::as_str));
            return self.refuse(key, Some((None, source)), "is not a setting".into(), next);
        };
        match text_of(&value) {
            Some(text) => self.give(setting, text, source),
            None => {
                let rule = format!("is a TOML {}, not a value", value.type_str());
                self.refuse(
                    key,
                    Some((None, source)),
                    rule,
                    "write it as a number, text, true or false".into(),
                );
            }
        }
    }

    fn gather_environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, text) in environment {
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
                self.give(setting, text, "environment");
                continue;
            }
            // The tests' own variables, the file's path and the console's flags are no settings.
            if !name.starts_with(PREFIX)
                || name == "WXNOTIFY_CONFIG"
                || name.starts_with("WXNOTIFY_TEST_")
                || name.starts_with("WXNOTIFY_CONSOLE_")
                || is_service_link(name, text)
            {
                continue;
            }
            let Some((kind, appid, is_path)) = SecretKind::of_variable(name) else {
                let names = SETTINGS.iter().map(|setting| setting.name);
                let secrets = [
                    "WXNOTIFY_APPSECRET_<appid>",
                    "WXNOTIFY_APPSECRET_FILE_<appid>",
                ];
                let next = did_you_mean(name, names.chain(secrets));
                let rule = "is not a setting".to_owned();
                self.refuse(name, Some((None, "environment")), rule, next);
                continue;
            };
            let given = GivenSecret {
                name: name.clone(),
                text: text.as_str().into(),
                source: "environment".to_owned(),
                is_path,
            };
            self.give_secret(appid, kind, given);
        }
    }

    /// Checks one setting, with the table's default when no value was given. `None`: it was refused.
    pub(super) fn read<R: Rule>(&mut self, name: &str, rule: &R) -> Option<R::Value> {
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .expect("what reads a setting is made from its row of the table");
        let given = self.given.get(name).cloned();
        let default = || setting.default.map(str::to_owned);
        let text = match &given {
            Some(given) => Some(given.text.trim().to_owned()),
            None => default().or_else(|| rule.fallback()),
        };
        let Some(text) = text else {
            let next = format!("set {name}: {}", setting.help);
            self.refuse(name, None, "is missing".into(), next);
            return None;
        };
        match rule.parse_in(&text, &self.environment) {
            Ok(value) => Some(value),
            Err(Broken { rule, next }) => {
                let next = next.unwrap_or_else(|| match setting.default {
                    Some(default) => {
                        format!("correct it, or remove it to use the default, {default}")
                    }
                    None => format!("correct it: {}", setting.help),
                });
                let shown = (!R::IS_SECRET).then_some(text.as_str());
                let source = given.map_or_else(|| "default".to_owned(), |given| given.source);
                self.refuse(name, Some((shown, &source)), rule, next);
                None
            }
        }
    }

    /// Refuses a span of time that does not fit another one.
    pub(super) fn refuse_span(&mut self, name: &str, span: Duration, rule: String, next: &str) {
        let given = self.given.get(name);
        let source = given.map_or("default", |given| given.source.as_str());
        let source = source.to_owned();
        let value = span.as_secs_f64().to_string();
        self.refuse(name, Some((Some(&value), &source)), rule, next.to_owned());
    }
}

/// A TOML value as the text a variable would hold; a list is joined by commas.
fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<String>> = items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect();
            texts.map(|texts| texts.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// A value fit for a message: not longer than a line.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 80 {
        text.to_owned()
    } else {
        text.chars().take(79).chain(['…']).collect()
    }
}
