//! What libpq would read in a connection string: both of its forms, each of its parameters.
//!
//! A parameter is obeyed, harmless, or refused by name with what to write instead; none is passed over that asks for something.
//! No error shows a value: a password with an unescaped `@` or `?` may stand anywhere.
//!
//! Start at [`Parameters::parse`].

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// Why a connection string is refused, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The rule that is broken, with the parameter's name.
    pub rule: String,
    /// What to write instead.
    pub next: String,
}

impl Refused {
    pub(super) fn new(rule: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            rule: rule.into(),
            next: next.into(),
        }
    }
}

/// What is done about a parameter.
enum Treatment {
    /// Something here does what it says.
    Obeyed,
    /// It changes nothing here, whatever it says.
    Harmless,
    /// Only these values: with them nothing else is asked for than what happens anyway. The text is the way out of the others.
    Only(&'static [&'static str], &'static str),
    /// Nothing here can do it. The text is the way out.
    Refused(&'static str),
}

use Treatment::{Harmless, Obeyed, Only, Refused as Never};

/// The form that most people write.
const FORM: &str = "postgres://user:password@host:port/database";
const NO_GSS: &str = "leave it out: GSSAPI is not supported; encrypt with sslmode=verify-full";
const NO_OAUTH: &str = "leave it out and give the user a password or a client certificate";
const NO_REVOCATION: &str = "leave it out: revoked certificates cannot be told here; have the server's certificate replaced and its CA changed";
const BY_CERTIFICATE: &str = "leave it out and write sslmode=verify-full (with sslrootcert=… unless the CA is a public one), which proves by its certificate that the server is the right one";

/// Every parameter of libpq, and those that only the driver has.
const PARAMETERS: &[(&str, Treatment)] = &[
    ("host", Obeyed),
    ("hostaddr", Obeyed),
    ("port", Obeyed),
    ("dbname", Obeyed),
    ("user", Obeyed),
    ("password", Obeyed),
    ("passfile", Obeyed),
    ("connect_timeout", Obeyed),
    ("application_name", Obeyed),
    ("fallback_application_name", Obeyed),
    ("options", Obeyed),
    ("sslmode", Obeyed),
    ("requiressl", Obeyed),
    ("sslrootcert", Obeyed),
    ("sslcert", Obeyed),
    ("sslkey", Obeyed),
    ("target_session_attrs", Obeyed),
    ("load_balance_hosts", Obeyed),
    ("statement-cache-capacity", Obeyed),
    // Every server that speaks TLS at once also speaks it after being asked, which is what happens here.
    (
        "sslnegotiation",
        Only(&["postgres", "direct"], "leave it out"),
    ),
    (
        "channel_binding",
        Only(&["prefer", "disable"], BY_CERTIFICATE),
    ),
    ("require_auth", Never(BY_CERTIFICATE)),
    ("scram_client_key", Never("write the password instead")),
    ("scram_server_key", Never("write the password instead")),
    (
        "client_encoding",
        Only(
            &["utf8", "utf-8", "unicode", "auto"],
            "leave it out: wxnotify speaks UTF8 whatever the database's encoding",
        ),
    ),
    ("gssencmode", Only(&["disable", "prefer"], NO_GSS)),
    ("gssdelegation", Only(&["0"], NO_GSS)),
    ("krbsrvname", Harmless),
    ("gsslib", Harmless),
    (
        "replication",
        Only(
            &["false", "off", "no", "0"],
            "leave it out: wxnotify needs an ordinary connection",
        ),
    ),
    (
        "requirepeer",
        Never("leave it out: let nobody but the server's user write to the socket's directory"),
    ),
    (
        "sslcompression",
        Only(&["0"], "leave it out: TLS has no compression any more"),
    ),
    (
        "sslcertmode",
        Only(
            &["allow"],
            "leave it out; a certificate is sent if sslcert and sslkey name one",
        ),
    ),
    (
        "sslpassword",
        Never(
            "leave it out and take the password off the key's file: openssl pkey -in KEY -out NEWKEY",
        ),
    ),
    ("sslcrl", Never(NO_REVOCATION)),
    ("sslcrldir", Never(NO_REVOCATION)),
    (
        "sslkeylogfile",
        Never("leave it out: the keys of connections are not written down"),
    ),
    (
        "sslsni",
        Only(&["1"], "leave it out: the server's name is always sent"),
    ),
    (
        "ssl_min_protocol_version",
        Only(
            &["tlsv1", "tlsv1.1", "tlsv1.2"],
            "leave it out: nothing below TLS 1.2 is spoken; set the server's ssl_min_protocol_version",
        ),
    ),
    (
        "ssl_max_protocol_version",
        Only(&["tlsv1.3"], "leave it out"),
    ),
    (
        "min_protocol_version",
        Only(&["3.0"], "leave it out: protocol 3.0 is spoken"),
    ),
    (
        "max_protocol_version",
        Only(&["3.0", "3.2", "latest"], "leave it out"),
    ),
    (
        "service",
        Never("write what the service file says of it into DATABASE_URL"),
    ),
    (
        "servicefile",
        Never("write what the service file says into DATABASE_URL"),
    ),
    ("oauth_issuer", Never(NO_OAUTH)),
    ("oauth_client_id", Never(NO_OAUTH)),
    ("oauth_client_secret", Never(NO_OAUTH)),
    ("oauth_scope", Never(NO_OAUTH)),
    // Connections that break are noticed by deadlines, and by the server's own keepalives, which the sessions set.
    ("keepalives", Harmless),
    ("keepalives_idle", Harmless),
    ("keepalives_interval", Harmless),
    ("keepalives_count", Harmless),
    ("tcp_user_timeout", Harmless),
];

/// Other names that the driver has always taken.
const ALIASES: &[(&str, &str)] = &[
    ("ssl-mode", "sslmode"),
    ("ssl-root-cert", "sslrootcert"),
    ("ssl-ca", "sslrootcert"),
    ("ssl-cert", "sslcert"),
    ("ssl-key", "sslkey"),
];

/// Variables that stand for a parameter which the connection string does not have; PGOPTIONS the driver itself adds.
const VARIABLES: &[(&str, &str)] = &[
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGSERVICE", "service"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGREQUIRESSL", "requiressl"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGCLIENTENCODING", "client_encoding"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
];

/// The parameters of one connection string.
#[derive(Default)]
pub(super) struct Parameters {
    given: BTreeMap<&'static str, String>,
    /// `options[name]`, the driver's own.
    pub(super) settings: Vec<(String, String)>,
}

impl Parameters {
    /// Reads either form; `environment` gives what it leaves out.
    pub(super) fn parse(
        text: &str,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Refused> {
        let text = text.trim();
        let mut parameters = Self::default();
        if let Some(rest) = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
        {
            parameters.read_url(rest)?;
        } else if text.contains("://") || !text.contains('=') {
            return Err(Refused::new(
                format!("must be a URL like {FORM}, or key=value pairs as libpq takes them"),
                "write it in one of these forms",
            ));
        } else {
            parameters.read_pairs(text)?;
        }
        for (variable, name) in VARIABLES {
            if let Some(value) = environment.get(*variable)
                && !value.is_empty()
                && !parameters.given.contains_key(name)
            {
                parameters
                    .put(name, value.clone())
                    .map_err(|refused| Refused {
                        rule: format!("{} (given by the variable {variable})", refused.rule),
                        ..refused
                    })?;
            }
        }
        Ok(parameters)
    }

    /// A parameter's value; an empty one is none, as for libpq.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.given.get(name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    fn put(&mut self, key: &str, value: String) -> Result<(), Refused> {
        if let Some(name) = key
            .strip_prefix("options[")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            self.settings.push((name.to_owned(), value));
            return Ok(());
        }
        let key = ALIASES
            .iter()
            .find_map(|(alias, name)| (*alias == key).then_some(*name))
            .unwrap_or(key);
        let Some((name, treatment)) = PARAMETERS.iter().find(|(name, _)| *name == key) else {
            // It may be a piece of a password: only what is nearly a parameter's name is shown.
            let near = |known: &&str| strsim::normalized_damerau_levenshtein(key, known) >= 0.7;
            let mut known = PARAMETERS.iter().map(|(name, _)| *name);
            let shown = known.find(near).map_or_else(String::new, |name| {
                format!(" {key:?}; did you mean {name}?")
            });
            return Err(Refused::new(
                format!("has an unknown parameter{shown}"),
                "correct or remove it; in a user name or password write % @ : / ? # as %25 %40 %3A %2F %3F %23",
            ));
        };
        match treatment {
            Obeyed | Harmless => {}
            Only(values, _) if values.contains(&value.to_lowercase().as_str()) => {}
            _ if value.is_empty() => {}
            Only(values, next) => {
                let rule = format!(
                    "{name} cannot be obeyed unless it is {}",
                    values.join(" or ")
                );
                return Err(Refused::new(rule, *next));
            }
            Never(next) => {
                return Err(Refused::new(format!("{name} cannot be obeyed"), *next));
            }
        }
        self.given.insert(name, value);
        Ok(())
    }

    /// Reads what follows the scheme: `[user[:password]@][host[:port],…][/database][?parameter=value&…]`.
    fn read_url(&mut self, rest: &str) -> Result<(), Refused> {
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = before.split_once('/').unwrap_or((before, ""));
        let hosts = match authority.rsplit_once('@') {
            Some((user, hosts)) => {
                let (user, password) = match user.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (user, None),
                };
                if !user.is_empty() {
                    self.put("user", decode("the user name", user)?)?;
                }
                if let Some(password) = password {
                    self.put("password", decode("the password", password)?)?;
                }
                hosts
            }
            None => authority,
        };
        self.read_hosts(hosts)?;
        if database.contains(['@', '/']) {
            return Err(bad_host(
                "has a / before the host, or one too many behind it",
            ));
        }
        if !database.is_empty() {
            self.put("dbname", decode("the database's name", database)?)?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Refused::new(
                    "has a parameter without a value behind the ?",
                    "write parameter=value; in a password write ? as %3F",
                ));
            };
            let key = decode("a parameter's name", key)?;
            let value = decode(&format!("the parameter {key}"), value)?;
            self.put(&key, value)?;
        }
        Ok(())
    }

    fn read_hosts(&mut self, text: &str) -> Result<(), Refused> {
        if text.is_empty() {
            return Ok(());
        }
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for part in text.split(',') {
            let (host, port) = if let Some(bracketed) = part.strip_prefix('[') {
                let Some((host, port)) = bracketed.split_once(']') else {
                    return Err(bad_host("a host's bracket is not closed"));
                };
                (host, port.strip_prefix(':').unwrap_or(port))
            } else {
                match part.split_once(':') {
                    Some((_, port)) if port.contains(':') => {
                        return Err(bad_host("a host has more than one colon"));
                    }
                    Some((host, port)) => (host, port),
                    None => (part, ""),
                }
            };
            hosts.push(decode("a host's name", host)?);
            ports.push(port.to_owned());
        }
        if hosts.iter().any(|host| !host.is_empty()) {
            self.put("host", hosts.join(","))?;
        }
        if ports.iter().any(|port| !port.is_empty()) {
            self.put("port", ports.join(","))?;
        }
        Ok(())
    }

    /// Reads `key = value` pairs; a value with blanks is quoted, a quote or backslash in it has a backslash before it.
    fn read_pairs(&mut self, text: &str) -> Result<(), Refused> {
        let malformed = || {
            Refused::new(
                "must be key=value pairs with blanks between them",
                "quote values that hold blanks: password='two words'",
            )
        };
        let mut letters = text.chars().peekable();
        loop {
            while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
            if letters.peek().is_none() {
                return Ok(());
            }
            let mut key = String::new();
            while let Some(letter) = letters.next_if(|letter| *letter != '=') {
                key.push(letter);
            }
            letters.next().ok_or_else(malformed)?;
            while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
            let quoted = letters.next_if(|letter| *letter == '\'').is_some();
            let mut value = String::new();
            loop {
                match letters.next() {
                    Some('\\') => value.push(letters.next().ok_or_else(malformed)?),
                    Some('\'') if quoted => break,
                    Some(letter) if !quoted && letter.is_whitespace() => break,
                    Some(letter) => value.push(letter),
                    None if quoted => return Err(malformed()),
                    None => break,
                }
            }
            self.put(key.trim(), value)?;
        }
    }
}

fn bad_host(rule: &str) -> Refused {
    Refused::new(
        rule,
        "write host:port, and an IPv6 address in brackets, [::1]:5432; in a user name or password write % @ : / ? as %25 %40 %3A %2F %3F",
    )
}

fn decode(what: &str, text: &str) -> Result<String, Refused> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| {
        Refused::new(
            format!("{what} is not UTF-8 behind its percent signs"),
            "write a percent sign itself as %25",
        )
    })?;
    if decoded.contains('\0') {
        return Err(Refused::new(
            format!("{what} holds a zero byte"),
            "remove %00",
        ));
    }
    Ok(decoded.into_owned())
}
