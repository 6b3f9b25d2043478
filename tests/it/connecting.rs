//! `DATABASE_URL`: every form that libpq takes leads where libpq would go, or is refused at the start with the way out.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use wxnotify::config::{BadSetting, Settings, Sources};
use wxnotify::postgres::{Options, ThrowawayPostgres};
use wxnotify::store::Address;

use crate::harness::{TestDatabase, wxnotify};

const SOON: Duration = Duration::from_secs(20);

fn load(text: &str) -> Address {
    let sources = Sources::default().with("DATABASE_URL", text);
    Settings::load(&sources)
        .unwrap_or_else(|bad| panic!("{text}: {bad}"))
        .database
}

/// What is wrong with this connection string; it is one thing, and no password is in it.
fn refused(text: &str) -> BadSetting {
    let sources = Sources::default().with("DATABASE_URL", text);
    let Err(mut bad) = Settings::load(&sources) else {
        panic!("{text} is taken");
    };
    assert_eq!(bad.bad_settings.len(), 1, "{text}: {bad}");
    assert!(!format!("{bad} {bad:?}").contains("hunter2"), "{bad}");
    bad.bad_settings.remove(0)
}

/// Host, port, user and database of each host.
fn parts(text: &str) -> Vec<(String, u16, String, Option<String>)> {
    let part = |options: &PgConnectOptions| {
        let host = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let user = options.get_username().to_owned();
        let database = options.get_database().map(str::to_owned);
        (host, options.get_port(), user, database)
    };
    load(text).hosts().map(part).collect()
}

async fn ask(connection: &mut PgConnection, question: &'static str) -> String {
    sqlx::query_scalar(question)
        .fetch_one(connection)
        .await
        .unwrap()
}

#[test]
fn both_forms_name_hosts_ports_users_and_databases() {
    let one = |host: &str, port, user: &str, database: &str| {
        vec![(
            host.to_owned(),
            port,
            user.to_owned(),
            Some(database.to_owned()),
        )]
    };
    for (text, expected) in [
        (
            "postgres://u:p@[::1]:5433/shop",
            one("::1", 5433, "u", "shop"),
        ),
        (
            "postgresql://u@[2001:db8::7]/shop",
            one("2001:db8::7", 5432, "u", "shop"),
        ),
        (
            "postgresql://u@/shop?host=/run/postgresql",
            one("/run/postgresql", 5432, "u", "shop"),
        ),
        (
            "postgresql:///shop?host=db&user=u&port=5",
            one("db", 5, "u", "shop"),
        ),
        (
            "postgres://u@%2Frun%2Fpostgresql:6432/shop",
            one("/run/postgresql", 6432, "u", "shop"),
        ),
        (
            "postgres://u%40corp:p%2F%3F@db/shop%20floor",
            one("db", 5432, "u@corp", "shop floor"),
        ),
        (
            "postgres://u@db:/shop?dbname=other",
            one("db", 5432, "u", "other"),
        ),
        (
            "host=db port=5433 user=u dbname=shop password='two words'",
            one("db", 5433, "u", "shop"),
        ),
        (
            "host = db user = 'it\\'s' dbname=shop",
            one("db", 5432, "it's", "shop"),
        ),
        (
            "hostaddr=10.0.0.7 host=db user=u dbname=shop",
            one("10.0.0.7", 5432, "u", "shop"),
        ),
        (
            "postgres://u@db/shop?password=a+b%2B",
            one("db", 5432, "u", "shop"),
        ),
    ] {
        assert_eq!(parts(text), expected, "{text}");
    }
}

#[test]
fn several_hosts_have_ports_of_their_own_or_one_for_all() {
    let hosts = |text: &str| -> Vec<(String, u16)> {
        let parts = parts(text).into_iter();
        parts.map(|(host, port, ..)| (host, port)).collect()
    };
    let pair = |one: u16, two: u16| vec![("a".to_owned(), one), ("b".to_owned(), two)];
    assert_eq!(hosts("postgres://u@a:1,b:2/x"), pair(1, 2));
    assert_eq!(
        hosts("postgres://u@a,b:2/x?target_session_attrs=read-write"),
        pair(5432, 2)
    );
    assert_eq!(hosts("postgres://u@a,b/x?port=7"), pair(7, 7));
    assert_eq!(hosts("postgres://u@/x?host=a,b&port=1,2"), pair(1, 2));
    assert_eq!(
        hosts("host=a,b port=1,2 user=u target_session_attrs=primary"),
        pair(1, 2)
    );
    let mixed = hosts("postgres://u@[::1]:1,b:2,%2Frun%2Fpg:3/x?load_balance_hosts=random");
    assert_eq!(mixed.len(), 3);
    assert_eq!(mixed[0], ("::1".to_owned(), 1));
    assert_eq!(mixed[2], ("/run/pg".to_owned(), 3));

    for text in [
        "host=a,b,c port=1,2",
        "host=a,b hostaddr=10.0.0.1",
        "postgres://a,b/x?port=1,2,3",
    ] {
        let bad = refused(text);
        assert!(!bad.next.is_empty(), "{text}");
    }
}

/// Each with the parameter's name and something to do instead.
#[test]
fn what_cannot_be_obeyed_is_refused_by_name_with_the_way_out() {
    for (parameter, way_out) in [
        ("channel_binding=require", "sslmode=verify-full"),
        ("require_auth=scram-sha-256", "sslmode=verify-full"),
        ("sslcrl=/etc/ssl/crl.pem", "revoked"),
        ("sslpassword=hunter2", "openssl pkey"),
        ("ssl_min_protocol_version=TLSv1.3", "TLS 1.2"),
        ("ssl_max_protocol_version=TLSv1.1", "leave it out"),
        ("sslcertmode=require", "sslcert"),
        ("sslsni=0", "leave it out"),
        ("gssencmode=require", "sslmode"),
        ("requirepeer=postgres", "socket"),
        ("service=shop", "DATABASE_URL"),
        ("replication=database", "ordinary"),
        ("client_encoding=latin1", "UTF8"),
        ("target_session_attrs=standby", "read-write"),
        ("target_session_attrs=prefer-standby", "read-write"),
        ("load_balance_hosts=always", "correct"),
        ("connect_timeout=soon", "correct"),
        ("oauth_issuer=https://id.example", "password"),
        ("scram_client_key=hunter2", "password"),
        ("max_protocol_version=2", "leave it out"),
        ("sslmode=verify-most", "verify-full"),
        (
            "sslrootcert=/nowhere/ca.pem&sslmode=verify-full",
            "may read",
        ),
        ("sslrootcert=/tmp&sslmode=verify-full", "PEM"),
        ("sslrootcert=system&sslmode=require", "verify-full"),
        ("sslcert=/dev/null", "PEM"),
        ("hostaddr=10.0.0.1&sslmode=verify-full", "/etc/hosts"),
        ("hostaddr=db.example", "host"),
        ("host=@abstract", "/run/postgresql"),
        ("statement-cache-capacity=many", "correct"),
        ("sslmod=require", "correct"),
    ] {
        let bad = refused(&format!("postgres://notifier:hunter2@db/x?{parameter}"));
        let name = parameter.split('=').next().unwrap();
        let named = bad.rule.contains(name) || name == "host";
        assert!(named, "{parameter}: {bad:?}");
        assert!(bad.next.contains(way_out), "{parameter}: {bad:?}");
    }
}

/// A password with a special letter shifts everything behind it: no piece of it may be shown.
#[test]
fn what_is_malformed_is_refused_without_a_piece_of_a_password() {
    for text in [
        "postgres://notifier:hunter2@host:port/x",
        "postgres://notifier:?hunter2@host/x",
        "postgres://notifier:/hunter2@host/x",
        "postgres://notifier:a?hunter2=b@host/x?sslmode=disable",
        "postgres://notifier:%FF@host/x",
        "postgres://notifier:hunter2%00@host/x",
        "postgres://::1/x",
        "postgres://[::1/x",
        "postgres://host:0/x",
        "postgres://host:65536/x",
        "postgres://host/x?sslmode",
        "host=db password='hunter2",
        "host=db password=hunter2\\",
        "mysql://notifier:hunter2@host/x",
        "hunter2",
        "",
    ] {
        let bad = refused(text);
        assert!(
            !bad.next.is_empty() && bad.value.is_none(),
            "{text}: {bad:?}"
        );
    }
}

#[tokio::test]
async fn every_form_connects() {
    let database = TestDatabase::new().await;
    let url = url::Url::parse(database.url()).unwrap();
    let (host, port, name) = (
        url.host_str().unwrap(),
        url.port().unwrap(),
        &url.path()[1..],
    );
    let user = url.username();
    // Nobody listens on a port that was just given back.
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for text in [
        format!("postgresql://{user}@{host}:{port}/{name}"),
        format!("postgres://{user}@/{name}?host={host}&port={port}"),
        format!("host={host} port={port} user={user} dbname='{name}'"),
        format!("hostaddr=127.0.0.1 port={port} user={user} dbname={name}"),
        format!(
            "postgres://{user}@127.0.0.1:{dead},{host}:{port}/{name}?target_session_attrs=read-write"
        ),
        format!("postgres://{user}@nowhere.invalid:1,{host}:{port}/{name}?connect_timeout=5"),
        format!(
            "postgres://{user}@{host}:{port},127.0.0.1:{dead}/{name}?load_balance_hosts=random"
        ),
        format!("{url}&connect_timeout=3&keepalives_idle=30&tcp_user_timeout=9"),
        format!("{url}&channel_binding=prefer&sslnegotiation=postgres&gssencmode=disable"),
        format!(
            "{url}&client_encoding=UTF8&krbsrvname=postgres&sslcompression=0&target_session_attrs=primary"
        ),
        format!("postgres://{user}@{host}:{port}/{name}?sslmode=allow"),
        format!(
            "postgres://{user}@{host}:{port}/{name}?sslmode=prefer&sslsni=1&fallback_application_name=x"
        ),
    ] {
        let mut connection = load(&text)
            .connect(SOON)
            .await
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            ask(&mut connection, "select current_database()::text").await,
            *name,
            "{text}"
        );
    }
}

#[tokio::test]
async fn options_and_the_applications_name_reach_the_server() {
    let database = TestDatabase::new().await;
    let text = format!(
        "{}&options=-c%20work_mem%3D7MB%20--maintenance-work-mem%3D9MB&options[lock_timeout]=17&application_name=shop",
        database.url()
    );
    let mut connection = load(&text).connect(SOON).await.unwrap();
    let asked = "select concat_ws(' ', current_setting('work_mem'), current_setting('maintenance_work_mem'), current_setting('lock_timeout'), current_setting('application_name'))";
    assert_eq!(ask(&mut connection, asked).await, "7MB 9MB 17ms shop");
}

/// A server that wants a password, and a file that has one for it.
#[tokio::test]
async fn a_password_file_has_a_password_for_each_host() {
    let database = TestDatabase::new().await;
    let mut postgres = ThrowawayPostgres::start(Options::default()).await.unwrap();
    let mut superuser = PgConnection::connect(postgres.url()).await.unwrap();
    let roles = "create role notifier login password 'pass:word\\1'";
    sqlx::raw_sql(roles).execute(&mut superuser).await.unwrap();
    let hba: String = ask(&mut superuser, "select current_setting('hba_file')").await;
    std::fs::write(
        hba,
        "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    postgres.restart().await.unwrap();
    let port = postgres.port();
    let own = url::Url::parse(database.url()).unwrap().port().unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "# a comment\n127.0.0.1:{own}:*:notifier:another\n*:{port}:postgres:notifier:pass\\:word\\\\1").unwrap();
    let path = file.path().display().to_string();
    let url = format!("postgres://notifier@127.0.0.1:{port}/postgres?sslmode=disable");

    let mut connection = load(&format!("{url}&passfile={path}"))
        .connect(SOON)
        .await
        .unwrap();
    assert_eq!(
        ask(&mut connection, "select current_user::text").await,
        "notifier"
    );
    let error = load(&url).connect(SOON).await.unwrap_err();
    assert!(
        error.to_string().contains("password authentication failed"),
        "{error}"
    );

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let bad = refused(&format!("{url}&passfile=/nowhere/pgpass"));
    assert!(bad.rule.contains("cannot be read"), "{bad:?}");
    let bad = refused(&format!("{url}&passfile={path}"));
    assert!(bad.rule.contains("others may read"), "{bad:?}");
}

/// libpq's own variables fill what the connection string leaves out, and are checked like it.
#[test]
fn libpqs_variables_fill_what_is_left_out() {
    let with = |name: &str, value: &str| {
        let sources = Sources::default().with("DATABASE_URL", "postgres://u@/x");
        Settings::load(&sources.with(name, value))
    };
    let settings = with("PGHOST", "a,b").unwrap();
    let hosts: Vec<_> = settings
        .database
        .hosts()
        .map(|host| host.get_host().to_owned())
        .collect();
    assert_eq!(hosts, ["a", "b"]);
    let bad = with("PGCHANNELBINDING", "require").unwrap_err();
    assert!(bad.to_string().contains("PGCHANNELBINDING"), "{bad}");
    let settings = with("PGDATABASE", "other").unwrap();
    assert_eq!(
        settings.database.hosts().next().unwrap().get_database(),
        Some("x")
    );
}

#[tokio::test]
async fn when_no_host_can_be_used_each_says_why() {
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = silent.local_addr().unwrap().port();
    let text = format!("postgres://u@127.0.0.1:{dead},127.0.0.1:{deaf}/x?connect_timeout=1");
    let error = load(&text).connect(SOON).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("127.0.0.1:{dead}")) && error.contains("refused"),
        "{error}"
    );
    assert!(
        error.contains(&format!("127.0.0.1:{deaf}: no answer within 1.0 s")),
        "{error}"
    );
}

#[tokio::test]
async fn no_parameter_of_the_url_puts_a_warning_before_an_answer() {
    let database = TestDatabase::new().await;
    let status = wxnotify()
        .args(["status", "--json"])
        .env(
            "DATABASE_URL",
            format!("{}&connect_timeout=5&keepalives=1", database.url()),
        )
        .output()
        .unwrap();
    assert!(status.status.success());
    assert_eq!(String::from_utf8_lossy(&status.stderr), "");
}
