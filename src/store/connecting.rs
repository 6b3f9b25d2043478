//! Connecting to the database: the first host of an [`Address`] that answers as wanted, and what a failure means.
//!
//! Start at [`Address::connect`].

use std::io;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, Row};

use super::statement::{Statement, statement};
use crate::address::{Address, Host, Wanted};

/// Whether a session's transactions may write.
pub(super) const SESSION_STATE: Statement = statement!("upkeep/session_state");

impl Address {
    /// Connects to the first host that answers as wanted, within `within`.
    ///
    /// # Errors
    ///
    /// Of one host its own; of several what each said. A refused password or unknown database ends the search, as with libpq.
    pub async fn connect(&self, within: Duration) -> sqlx::Result<PgConnection> {
        let (connection, _) = self.search(within).await?;
        Ok(connection)
    }

    /// How the host is connected to that [`Self::connect`] would lead to; the only one without asking.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub async fn choose(&self, within: Duration) -> sqlx::Result<PgConnectOptions> {
        if let [host] = self.hosts.as_slice() {
            return Ok(host.options.clone());
        }
        let (connection, options) = self.search(within).await?;
        connection.close().await?;
        Ok(options.clone())
    }

    async fn search(&self, within: Duration) -> sqlx::Result<(PgConnection, &PgConnectOptions)> {
        let until = Instant::now() + within;
        let mut hosts: Vec<&Host> = self.hosts.iter().collect();
        if self.shuffled {
            hosts.shuffle(&mut rand::rng());
        }
        let mut failures: Vec<(String, sqlx::Error)> = Vec::new();
        for (tried, host) in hosts.iter().enumerate() {
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(hosts.len() - tried).unwrap_or(1);
            let within = self.host_within.unwrap_or(share).min(left);
            match self.connect_to(host, within).await {
                Ok(connection) => return Ok((connection, &host.options)),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => failures.push((host.name(), error)),
            }
        }
        Err(of_all(failures))
    }

    async fn connect_to(&self, host: &Host, within: Duration) -> sqlx::Result<PgConnection> {
        let connected = tokio::time::timeout(within, async {
            let mut connection = host.connect().await?;
            self.check(&mut connection).await?;
            Ok(connection)
        });
        connected.await.unwrap_or_else(|_| {
            let words = format!("no answer within {:.1} s", within.as_secs_f64());
            Err(sqlx::Error::Io(io::Error::new(
                io::ErrorKind::TimedOut,
                words,
            )))
        })
    }

    /// Whether the session is what is wanted.
    async fn check(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if self.wanted == Wanted::Any {
            return Ok(());
        }
        // Not prepared: there may be a pooler in between.
        let state = sqlx::raw_sql(SESSION_STATE.text);
        let state = connection.fetch_one(state).await?;
        let state: (bool, bool) = (state.try_get(0)?, state.try_get(1)?);
        match why_read_only(state) {
            Some(_) if self.wanted == Wanted::Primary && !state.0 => Ok(()),
            Some(reason) => Err(sqlx::Error::Io(io::Error::other(reason))),
            None => Ok(()),
        }
    }
}

impl Host {
    async fn connect(&self) -> sqlx::Result<PgConnection> {
        let error = match PgConnection::connect_with(&self.options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match self.otherwise {
            Some(mode) if is_about_encryption(&error) => {
                PgConnection::connect_with(&self.options.clone().ssl_mode(mode)).await
            }
            _ => Err(self.explain(error)),
        }
    }

    /// A failed handshake in words: which certificate, which file, and what to make instead.
    fn explain(&self, error: sqlx::Error) -> sqlx::Error {
        let said = error.to_string();
        let roots = self.root.as_ref().map_or_else(
            || "the public CAs, since no sslrootcert is given".to_owned(),
            |file| format!("the CAs in sslrootcert={}", file.display()),
        );
        let words = if said.contains("CaUsedAsEndEntity") {
            format!(
                "the server's certificate is a CA's own (CA:TRUE), which may sign others and not stand for a server; it was \
                 checked against {roots}; next: on the server put a certificate that such a CA signed into ssl_cert_file, or a \
                 self-signed one with CA:FALSE (openssl req -x509 -newkey rsa:2048 -nodes -days 825 -subj /CN={host} -addext \
                 basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:{host} -keyout server.key -out server.crt) and \
                 name a copy of it in sslrootcert",
                host = self.options.get_host()
            )
        } else if said.contains("UnknownIssuer") || said.contains("BadSignature") {
            format!(
                "the server's certificate is signed by none of {roots}; next: name the file of the CA that signed the server's \
                 ssl_cert_file in sslrootcert"
            )
        } else if said.contains("not valid for name") || said.contains("NotValidForName") {
            format!(
                "the server's certificate does not name the host {host} that DATABASE_URL names; next: connect by a name in the \
                 certificate, or make one with subjectAltName=DNS:{host}",
                host = self.options.get_host()
            )
        } else if said.contains("Expired") || said.contains("expired") {
            "the server's certificate has expired, by this machine's clock; next: renew the server's ssl_cert_file".to_owned()
        } else if said.contains("NotValidYet") || said.contains("not valid yet") {
            "the server's certificate is not valid yet, by this machine's clock; next: check both machines' clocks".to_owned()
        } else if said.contains("UnsupportedCertVersion") {
            "the server's certificate is of X.509 version 1, which names no hosts; next: make one of version 3 with a \
             subjectAltName"
                .to_owned()
        } else if said.contains("server does not support TLS") {
            "the server does not offer TLS, which sslmode demands; next: set ssl = on at the server, or where nobody else can \
             listen sslmode=prefer"
                .to_owned()
        } else {
            return error;
        };
        sqlx::Error::Tls(words.into())
    }
}

/// Whether the server refused a connection because it is encrypted, or because it is not.
fn is_about_encryption(error: &sqlx::Error) -> bool {
    let Some(refused) = error.as_database_error() else {
        return false;
    };
    // The only refusal of pg_hba.conf that another way of connecting can change; its text may be translated.
    refused.code().as_deref() == Some("28000")
}

/// Whether another host would say the same: who we are, or which database we want, is refused.
fn is_final(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refused| refused.code());
    code.is_some_and(|code| code.starts_with("28") || code == "3D000")
}

/// Whether the server has no place for another connection: its own limit, the role's or the database's.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refused| refused.code());
    code.as_deref() == Some("53300")
}

/// What `session_state.sql` answers, in words; `None`: rows can be written.
pub(super) fn why_read_only((is_standby, is_read_only): (bool, bool)) -> Option<&'static str> {
    match (is_standby, is_read_only) {
        (true, _) => {
            Some("the server is a standby, which cannot be written to until it is promoted")
        }
        (false, true) => Some(
            "transactions are read-only here: default_transaction_read_only is on, for the server, the database or the role",
        ),
        (false, false) => None,
    }
}

/// One error for what each host said.
fn of_all(mut failures: Vec<(String, sqlx::Error)>) -> sqlx::Error {
    // That there is no place is what a caller can do something about.
    let telling = failures.iter().position(|(_, error)| is_full(error));
    if failures.len() == 1 || telling.is_some() {
        return failures.swap_remove(telling.unwrap_or(0)).1;
    }
    let said: Vec<String> = failures
        .iter()
        .map(|(host, error)| format!("{host}: {}", super::describe(error)))
        .collect();
    let words = format!("no host of DATABASE_URL can be used: {}", said.join("; "));
    sqlx::Error::Io(io::Error::new(io::ErrorKind::NotConnected, words))
}
