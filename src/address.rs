//! Where the database is: one host or several, and what a connection to it must be.
//!
//! Several hosts are tried in order (or in a random one, with `load_balance_hosts=random`) at each connect, each with its own
//! port and a share of the time, until one answers whose transactions may write. So a failover needs nothing in between: what
//! connects anew finds the new primary.
//!
//! What connects is `store::connecting`: here is no SQL, so that settings can hold an address.
//!
//! Start at [`Address::parse`].

mod libpq;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use libpq::Parameters;
pub use libpq::Refused;

/// What libpq takes when nothing names one.
const DEFAULT_PORT: u16 = 5432;
/// libpq's password file in the home directory.
const PASSWORD_FILE: &str = ".pgpass";

/// What lies between the program and the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Nothing, or a pooler in session mode: a connection is a session.
    Direct,
    /// A pooler that gives each transaction a server process.
    TransactionPooler,
}

/// A database's hosts, and how each is connected to.
#[derive(Debug, Clone)]
pub struct Address {
    pub(crate) hosts: Vec<Host>,
    pub(crate) wanted: Wanted,
    pub(crate) shuffled: bool,
    /// How long one host may take; `None`: its share of the whole.
    pub(crate) host_within: Option<Duration>,
}

/// What a session must be before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    /// Its transactions may write.
    ReadWrite,
    /// Its server replays no other's changes.
    Primary,
}

#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) options: PgConnectOptions,
    /// What to try when the server refuses a connection for being encrypted, or for not being so.
    pub(crate) otherwise: Option<PgSslMode>,
    /// The file of certificates that the server's is checked against.
    pub(crate) root: Option<PathBuf>,
}

/// Options hold the password.
impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Host").field(&self.name()).finish()
    }
}

impl From<PgConnectOptions> for Address {
    fn from(options: PgConnectOptions) -> Self {
        let host = Host {
            options,
            otherwise: None,
            root: None,
        };
        Self {
            hosts: vec![host],
            wanted: Wanted::Any,
            shuffled: false,
            host_within: None,
        }
    }
}

impl FromStr for Address {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        Self::parse(text, &BTreeMap::new())
    }
}

impl StdError for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; next: {}", self.rule, self.next)
    }
}

impl Address {
    /// Reads a URL or `key=value` pairs as libpq does; what they leave out comes from libpq's variables in `environment`.
    ///
    /// # Errors
    ///
    /// [`Refused`] names what is malformed or cannot be obeyed, and what to write instead; no value is in it.
    pub fn parse(text: &str, environment: &BTreeMap<String, String>) -> Result<Self, Refused> {
        let parameters = Parameters::parse(text, environment)?;
        let hosts = read_hosts(&parameters, environment)?;
        let wanted = read_wanted(&parameters, hosts.len())?;
        let shuffled = match parameters.get("load_balance_hosts") {
            None | Some("disable") => false,
            Some("random") => true,
            Some(_) => {
                return Err(Refused::new(
                    "load_balance_hosts must be disable or random",
                    "correct or remove it",
                ));
            }
        };
        let host_within = match parameters.get("connect_timeout").map(str::parse::<i64>) {
            None => None,
            // libpq: without end; here the statement's deadline ends it.
            Some(Ok(secs)) if secs <= 0 => None,
            Some(Ok(secs)) => Some(Duration::from_secs(secs.unsigned_abs())),
            Some(Err(_)) => {
                return Err(Refused::new(
                    "connect_timeout must be a whole number of seconds",
                    "correct or remove it",
                ));
            }
        };
        Ok(Self {
            hosts,
            wanted,
            shuffled,
            host_within,
        })
    }

    /// Says `name` to servers as the application's, unless the connection string has one.
    #[must_use]
    pub fn with_application_name(mut self, name: &str) -> Self {
        for host in &mut self.hosts {
            if host.options.get_application_name().is_none() {
                host.options = host.options.clone().application_name(name);
            }
        }
        self
    }

    /// How each host is connected to, in their order.
    pub fn hosts(&self) -> impl Iterator<Item = &PgConnectOptions> {
        self.hosts.iter().map(|host| &host.options)
    }
}

impl Host {
    /// As a person names it: `host:port`, or the socket's folder.
    pub(crate) fn name(&self) -> String {
        let host = self.options.get_host();
        let port = self.options.get_port();
        match self.options.get_socket() {
            Some(folder) => format!("{}:{port}", folder.display()),
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        }
    }
}

/// wxnotify writes, so of several hosts only one that can be written to is of use, asked for or not.
fn read_wanted(parameters: &Parameters, hosts: usize) -> Result<Wanted, Refused> {
    match parameters.get("target_session_attrs") {
        None | Some("any") if hosts > 1 => Ok(Wanted::ReadWrite),
        None | Some("any") => Ok(Wanted::Any),
        Some("read-write") => Ok(Wanted::ReadWrite),
        Some("primary") => Ok(Wanted::Primary),
        Some(_) => Err(Refused::new(
            "target_session_attrs must be read-write, primary or any: wxnotify writes",
            "write target_session_attrs=read-write",
        )),
    }
}

/// One [`Host`] for each that is named, with its own port.
fn read_hosts(
    parameters: &Parameters,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Host>, Refused> {
    let list = |name: &str| -> Vec<String> {
        let text = parameters.get(name).unwrap_or_default();
        text.split(',').map(|part| part.trim().to_owned()).collect()
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let has_addresses = parameters.get("hostaddr").is_some();
    if has_addresses && parameters.get("host").is_some() && names.len() != addresses.len() {
        return Err(Refused::new(
            "host and hostaddr must name as many hosts",
            "write one address for each host, with commas between them",
        ));
    }
    let count = if has_addresses {
        addresses.len()
    } else {
        names.len()
    };
    if ports.len() != 1 && ports.len() != count {
        return Err(Refused::new(
            "there must be one port for all hosts, or one for each",
            "write host:port for each host",
        ));
    }
    let common = CommonOptions::read(parameters)?;
    (0..count)
        .map(|number| {
            let port = read_port(
                ports
                    .get(number)
                    .or(ports.first())
                    .map_or("", String::as_str),
            )?;
            let name = names.get(number).map_or("", String::as_str);
            let address = addresses.get(number).map_or("", String::as_str);
            let host = common.host(name, address, port)?;
            with_password(host, parameters, environment, name)
        })
        .collect()
}

fn read_port(text: &str) -> Result<u16, Refused> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Refused::new(
            "a port must be a number from 1 to 65535",
            "write host:port; in a user name or password write % @ : / ? # as %25 %40 %3A %2F %3F %23",
        )),
    }
}

/// What is the same for all hosts.
struct CommonOptions {
    options: PgConnectOptions,
    /// `None`: not encrypted at first, but if the server wants it.
    mode: Option<PgSslMode>,
    root: Option<PathBuf>,
}

impl CommonOptions {
    fn read(parameters: &Parameters) -> Result<Self, Refused> {
        let mut options = base_options(parameters);
        if let Some(user) = parameters.get("user") {
            options = options.username(user);
        }
        if let Some(password) = parameters.get("password") {
            options = options.password(password);
        }
        if let Some(database) = parameters.get("dbname") {
            options = options.database(database);
        }
        let application = parameters.get("application_name");
        if let Some(name) = application.or_else(|| parameters.get("fallback_application_name")) {
            options = options.application_name(name);
        }
        if let Some(capacity) = parameters.get("statement-cache-capacity") {
            let capacity = capacity.parse().map_err(|_| {
                Refused::new(
                    "statement-cache-capacity must be a whole number",
                    "correct or remove it",
                )
            })?;
            options = options.statement_cache_capacity(capacity);
        }
        let (mode, root) = read_encryption(parameters)?;
        if let Some(file) = &root {
            options = options.ssl_root_cert(file);
        }
        match (
            readable(parameters, "sslcert")?,
            readable(parameters, "sslkey")?,
        ) {
            (Some(certificate), Some(key)) => {
                options = options.ssl_client_cert(certificate).ssl_client_key(key);
            }
            (None, None) => {}
            _ => {
                return Err(Refused::new(
                    "sslcert and sslkey must be given together",
                    "name the certificate's file and its key's",
                ));
            }
        }
        Ok(Self {
            options,
            mode,
            root,
        })
    }

    fn host(&self, name: &str, address: &str, port: u16) -> Result<Host, Refused> {
        let mut options = self.options.clone().port(port);
        let target = if address.is_empty() { name } else { address };
        if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
            return Err(Refused::new(
                "hostaddr must be an IP address",
                "write a name as host",
            ));
        }
        if target.starts_with('@') {
            return Err(Refused::new(
                "an abstract socket is not supported",
                "write the folder of the server's socket: host=/run/postgresql",
            ));
        }
        let folder = if target.is_empty() {
            usual_folder(port)
        } else {
            target.starts_with('/').then_some(target)
        };
        options = match folder {
            Some(folder) => options.socket(folder),
            None if target.is_empty() => options.host("localhost"),
            None => options.host(target),
        };
        if matches!(self.mode, Some(PgSslMode::VerifyFull))
            && !address.is_empty()
            && !name.is_empty()
            && address != name
        {
            return Err(Refused::new(
                "hostaddr cannot be obeyed beside host and sslmode=verify-full: the name that is connected to is checked",
                "leave hostaddr out; where no name server knows the host, /etc/hosts does",
            ));
        }
        // As with libpq, a socket is not encrypted whatever is asked for: it does not leave the machine.
        let (mode, otherwise) = match self.mode {
            _ if folder.is_some() => (PgSslMode::Disable, None),
            Some(PgSslMode::Prefer) => (PgSslMode::Prefer, Some(PgSslMode::Disable)),
            Some(mode) => (mode, None),
            None => (PgSslMode::Disable, Some(PgSslMode::Require)),
        };
        Ok(Host {
            options: options.ssl_mode(mode),
            otherwise,
            root: self.root.clone(),
        })
    }
}

/// What the driver takes from its own variables and `options` as the server takes them; the driver reads the latter in a URL only.
fn base_options(parameters: &Parameters) -> PgConnectOptions {
    let options = parameters.get("options").unwrap_or_default();
    // An empty password keeps the driver from looking for one under a host that is not yet known.
    let mut url = "postgres:///?password=".to_owned();
    if !options.is_empty() {
        url += &format!(
            "&options={}",
            utf8_percent_encode(options, NON_ALPHANUMERIC)
        );
    }
    let options = PgConnectOptions::from_str(&url).expect("a URL with two parameters is one");
    if parameters.settings.is_empty() {
        return options;
    }
    let settings = parameters.settings.iter();
    options.options(settings.map(|(name, value)| (name.as_str(), value.as_str())))
}

/// Where a server's socket usually is, if there is one for this port.
fn usual_folder(port: u16) -> Option<&'static str> {
    let folders = ["/var/run/postgresql", "/private/tmp", "/tmp"];
    let has_socket = |folder: &&&str| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists();
    folders.iter().find(has_socket).copied()
}

/// How connections are encrypted, and by which CAs the server's certificate is checked. `None`: not at first, but if the server
/// wants it.
fn read_encryption(
    parameters: &Parameters,
) -> Result<(Option<PgSslMode>, Option<PathBuf>), Refused> {
    let trusts_system = parameters.get("sslrootcert") == Some("system");
    let root = if trusts_system {
        None
    } else {
        readable(parameters, "sslrootcert")?
    };
    let mode = match parameters.get("sslmode") {
        None if trusts_system => Some(PgSslMode::VerifyFull),
        None if parameters.get("requiressl") == Some("1") => Some(PgSslMode::Require),
        None | Some("prefer") => Some(PgSslMode::Prefer),
        Some("allow") => None,
        Some("disable") => Some(PgSslMode::Disable),
        // As with libpq: whoever names a CA means it.
        Some("require") if root.is_some() => Some(PgSslMode::VerifyCa),
        Some("require") => Some(PgSslMode::Require),
        Some("verify-ca") => Some(PgSslMode::VerifyCa),
        Some("verify-full") => Some(PgSslMode::VerifyFull),
        Some(_) => {
            return Err(Refused::new(
                "sslmode must be disable, allow, prefer, require, verify-ca or verify-full",
                "write sslmode=verify-full over a network",
            ));
        }
    };
    if trusts_system && !matches!(mode, Some(PgSslMode::VerifyFull)) {
        return Err(Refused::new(
            "sslrootcert=system needs sslmode=verify-full: anybody can have a certificate of a public CA",
            "write sslmode=verify-full",
        ));
    }
    Ok((mode, root))
}

/// The file that a parameter names; one that cannot be read would only be noticed at each connect.
fn readable(parameters: &Parameters, name: &str) -> Result<Option<PathBuf>, Refused> {
    let Some(path) = parameters.get(name) else {
        return Ok(None);
    };
    match File::open(path).and_then(|file| file.metadata()) {
        Ok(found) if found.is_file() => Ok(Some(path.into())),
        Ok(_) => Err(Refused::new(
            format!("{name} names {path}, which is no file"),
            "give the path of a PEM file",
        )),
        Err(error) => Err(Refused::new(
            format!("{name} names {path}, which cannot be read: {error}"),
            "give the path of a PEM file that this user may read",
        )),
    }
}

/// Adds the password that a password file has for this host, unless one is given.
fn with_password(
    mut host: Host,
    parameters: &Parameters,
    environment: &BTreeMap<String, String>,
    name: &str,
) -> Result<Host, Refused> {
    if parameters.get("password").is_some() {
        return Ok(host);
    }
    let named = parameters.get("passfile");
    let path = match (named, environment.get("HOME")) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(home)) => Path::new(home).join(PASSWORD_FILE),
        (None, None) => return Ok(host),
    };
    let lines = match read_private(&path) {
        Ok(lines) => lines,
        // libpq passes its own file over, too, when it is not there or others may read it.
        Err(_) if named.is_none() => return Ok(host),
        Err(fault) => {
            return Err(Refused::new(
                format!("passfile names {}, which {fault}", path.display()),
                "give the path of a password file that this user alone may read (chmod 600)",
            ));
        }
    };
    let port = host.options.get_port().to_string();
    let user = host.options.get_username();
    let database = host.options.get_database().unwrap_or(user);
    let name = if name.is_empty() { "localhost" } else { name };
    let wanted = [name, port.as_str(), database, user];
    if let Some(password) = lines.lines().find_map(|line| password_in(line, wanted)) {
        host.options = host.options.password(&password);
    }
    Ok(host)
}

fn read_private(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let found = std::fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        return Err("is no file".to_owned());
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err("others may read".to_owned());
    }
    std::fs::read_to_string(path).map_err(cannot)
}

/// The password of a line `host:port:database:user:password` that is about `wanted`; `*` fits anything.
fn password_in(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => fields.last_mut()?.push(letters.next()?),
            // The password is the rest, colons and all.
            ':' if fields.len() < 5 => fields.push(String::new()),
            letter => fields.last_mut()?.push(letter),
        }
    }
    let fits = |(field, wanted): (&String, &str)| field == "*" || field == wanted;
    (fields.len() == 5 && fields.iter().zip(wanted).all(fits)).then(|| fields.remove(4))
}
