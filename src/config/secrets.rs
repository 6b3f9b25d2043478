//! The apps' secrets: under which names they come, what they must be, and the files that hold them.
//!
//! Start at [`AppSecrets`], then `check_apps`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::loader::Loader;
use super::names::did_you_mean;

/// One app's secrets.
#[derive(Debug, Clone, Default)]
pub struct AppSecrets {
    /// The app's secret; tokens are fetched with it. Absent: this worker sends nothing for the app.
    pub secret: Option<SecretString>,
    /// Message push: the token that signs callbacks.
    pub callback_token: Option<SecretString>,
    /// Message push: the EncodingAESKey, 43 characters. Absent: plaintext mode.
    pub callback_aeskey: Option<SecretString>,
    /// The token before the present one, taken as well while WeChat's console changes from one to the other.
    pub callback_token_previous: Option<SecretString>,
    /// The key before the present one, likewise.
    pub callback_aeskey_previous: Option<SecretString>,
}

/// One of an app's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SecretKind {
    Secret,
    CallbackToken,
    CallbackAeskey,
    CallbackTokenPrevious,
    CallbackAeskeyPrevious,
}

impl SecretKind {
    /// Longer names first: a variable's name is read from its beginning.
    pub(super) const ALL: [Self; 5] = [
        Self::CallbackTokenPrevious,
        Self::CallbackAeskeyPrevious,
        Self::Secret,
        Self::CallbackToken,
        Self::CallbackAeskey,
    ];

    /// The environment variable before `_<appid>` or `_FILE_<appid>`.
    fn variable(self) -> &'static str {
        match self {
            Self::Secret => "WXNOTIFY_APPSECRET",
            Self::CallbackToken => "WXNOTIFY_CALLBACK_TOKEN",
            Self::CallbackAeskey => "WXNOTIFY_CALLBACK_AESKEY",
            Self::CallbackTokenPrevious => "WXNOTIFY_CALLBACK_TOKEN_PREVIOUS",
            Self::CallbackAeskeyPrevious => "WXNOTIFY_CALLBACK_AESKEY_PREVIOUS",
        }
    }

    /// The key in the file's `[apps.<appid>]`; with `_file` behind it, the path of a file that holds it.
    fn key(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::CallbackToken => "callback_token",
            Self::CallbackAeskey => "callback_aeskey",
            Self::CallbackTokenPrevious => "callback_token_previous",
            Self::CallbackAeskeyPrevious => "callback_aeskey_previous",
        }
    }

    fn broken_rule(self, secret: &str) -> Option<&'static str> {
        let alphanumeric = secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let holds = match self {
            Self::Secret => {
                (1..=128).contains(&secret.len())
                    && secret.bytes().all(|byte| byte.is_ascii_graphic())
            }
            Self::CallbackToken | Self::CallbackTokenPrevious => {
                (3..=32).contains(&secret.len()) && alphanumeric
            }
            Self::CallbackAeskey | Self::CallbackAeskeyPrevious => {
                secret.len() == 43 && alphanumeric
            }
        };
        let rule = match self {
            Self::Secret => "must be 1 to 128 visible ASCII characters without spaces",
            Self::CallbackToken | Self::CallbackTokenPrevious => {
                "must be 3 to 32 ASCII letters and digits"
            }
            Self::CallbackAeskey | Self::CallbackAeskeyPrevious => {
                "must be exactly 43 ASCII letters and digits (the EncodingAESKey)"
            }
        };
        (!holds).then_some(rule)
    }

    /// Where an app keeps it.
    fn place(self, app: &mut AppSecrets) -> &mut Option<SecretString> {
        match self {
            Self::Secret => &mut app.secret,
            Self::CallbackToken => &mut app.callback_token,
            Self::CallbackAeskey => &mut app.callback_aeskey,
            Self::CallbackTokenPrevious => &mut app.callback_token_previous,
            Self::CallbackAeskeyPrevious => &mut app.callback_aeskey_previous,
        }
    }

    /// Reads `WXNOTIFY_…[_FILE]_<appid>`: which secret of which app, and whether the value is a path.
    pub(super) fn of_variable(name: &str) -> Option<(Self, &str, bool)> {
        Self::ALL.into_iter().find_map(|kind| {
            let rest = name.strip_prefix(kind.variable())?.strip_prefix('_')?;
            let (appid, is_path) = rest
                .strip_prefix("FILE_")
                .map_or((rest, false), |appid| (appid, true));
            Some((kind, appid, is_path))
        })
    }

    /// Reads a key of `[apps.<appid>]`: which secret, and whether the value is a path.
    pub(super) fn of_key(key: &str) -> Option<(Self, bool)> {
        let (plain, is_path) = key
            .strip_suffix("_file")
            .map_or((key, false), |plain| (plain, true));
        let kind = Self::ALL.into_iter().find(|kind| kind.key() == plain)?;
        Some((kind, is_path))
    }
}

/// An app's secret as it was given: itself, or the path of its file.
pub(super) struct GivenSecret {
    pub(super) name: String,
    pub(super) text: SecretString,
    pub(super) source: String,
    pub(super) is_path: bool,
}

impl Loader {
    /// Takes the secrets of the file's `[apps.<appid>]`.
    pub(super) fn gather_file_apps(&mut self, source: &str, apps: toml::Table) {
        let example =
            "write [apps.wx0123456789abcdef] with secret = \"…\" or secret_file = \"…\" below it";
        let here = Some((None, source));
        for (appid, entry) in apps {
            let toml::Value::Table(entry) = entry else {
                let name = format!("apps.{appid}");
                self.refuse(name, here, "must be a table".into(), example.into());
                continue;
            };
            for (key, value) in entry {
                let name = format!("apps.{appid}.{key}");
                let Some((kind, is_path)) = SecretKind::of_key(&key) else {
                    let keys = SecretKind::ALL.map(SecretKind::key);
                    let files = keys.map(|key| format!("{key}_file"));
                    let known = keys.into_iter().chain(files.iter().map(String::as_str));
                    let next = did_you_mean(&key, known);
                    self.refuse(name, here, "is not a setting".into(), next);
                    continue;
                };
                let toml::Value::String(text) = value else {
                    self.refuse(name, here, "must be text".into(), example.into());
                    continue;
                };
                let given = GivenSecret {
                    name,
                    text: text.into(),
                    source: source.to_owned(),
                    is_path,
                };
                self.give_secret(&appid, kind, given);
            }
        }
    }

    /// Takes one secret, or refuses it beside another one from the same place.
    pub(super) fn give_secret(&mut self, appid: &str, kind: SecretKind, given: GivenSecret) {
        let is_of_appid =
            |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        let here = Some((None, given.source.as_str()));
        if appid.is_empty() || appid.len() > 64 || !appid.chars().all(is_of_appid) {
            let rule =
                format!("{appid:?} is not an appid: letters and digits, as in wx0123456789abcdef");
            let next = "copy the AppID from mp.weixin.qq.com";
            return self.refuse(&given.name, here, rule, next.into());
        }
        let slot = (appid.to_owned(), kind);
        let before = self.secrets.get(&slot);
        if let Some(other) = before.filter(|other| other.source == given.source) {
            let rule = format!("is given beside {}", other.name);
            return self.refuse(&given.name, here, rule, "remove one of the two".into());
        }
        self.secrets.insert(slot, given);
    }

    /// Reads and checks every app's secrets.
    pub(super) fn check_apps(&mut self) -> BTreeMap<String, AppSecrets> {
        let mut apps: BTreeMap<String, AppSecrets> = BTreeMap::new();
        for ((appid, kind), given) in std::mem::take(&mut self.secrets) {
            let secret = match self.read_secret(&given) {
                Some(secret) => secret,
                None => continue,
            };
            if let Some(rule) = kind.broken_rule(secret.expose_secret()) {
                let next = "copy it again from mp.weixin.qq.com; its value is not shown here";
                self.refuse(
                    given.name,
                    Some((None, &given.source)),
                    rule.into(),
                    next.into(),
                );
                continue;
            }
            let app = apps.entry(appid).or_default();
            *kind.place(app) = Some(secret);
        }
        for (appid, app) in &apps {
            self.check_callback(appid, app);
        }
        apps
    }

    fn check_callback(&mut self, appid: &str, app: &AppSecrets) {
        let (token, aeskey) = (&app.callback_token, &app.callback_aeskey);
        let previous = (&app.callback_token_previous, &app.callback_aeskey_previous);
        for (present, beside, missing, what) in [
            (
                token,
                aeskey,
                SecretKind::CallbackToken,
                "the EncodingAESKey",
            ),
            (
                token,
                previous.0,
                SecretKind::CallbackToken,
                "the previous token",
            ),
            (
                aeskey,
                previous.1,
                SecretKind::CallbackAeskey,
                "the previous EncodingAESKey",
            ),
        ] {
            if present.is_none() && beside.is_some() {
                let name = format!("{}_{appid}", missing.variable());
                let next = format!("set {name}, or remove {what}");
                self.refuse(name, None, format!("is missing beside {what}"), next);
            }
        }
    }

    /// Not a refusal: a mounted volume may know no other mode.
    pub(super) fn look_at_mode(&mut self, path: &Path, name: &str) {
        if let Some(mode) = mode_for_others(path) {
            self.advice.push(format!(
                "{name}: the secret's file {} has mode {mode:04o}, others than its owner may use it: chmod 600 (in Kubernetes defaultMode: 0400)",
                path.display()
            ));
        }
    }

    fn read_secret(&mut self, given: &GivenSecret) -> Option<SecretString> {
        if !given.is_path {
            return Some(given.text.clone());
        }
        let path = given.text.expose_secret();
        match fs::read_to_string(path) {
            Ok(secret) => {
                self.look_at_mode(Path::new(path), &given.name);
                Some(secret.trim_end().into())
            }
            Err(error) => {
                let next = "give the path of a file that holds the secret alone and that this user may read";
                let rule = format!("cannot be read: {error}");
                self.refuse(
                    &given.name,
                    Some((Some(path), &given.source)),
                    rule,
                    next.into(),
                );
                None
            }
        }
    }
}

/// The permissions of a file, if others than its owner have any.
#[cfg(unix)]
fn mode_for_others(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn mode_for_others(_: &Path) -> Option<u32> {
    None
}
