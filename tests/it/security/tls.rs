//! Certificates: one that cannot be checked, or is another host's, ends the connection before a byte of ours is sent.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{Certificate, CertificateParams, Issuer, KeyPair};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use wxnotify::store::Address;

use crate::harness::{TestDatabase, eventually, in_time};
use crate::worker::Scene;

/// An authority of nobody's, and a server with a certificate from it for `host`.
pub fn server_of(host: &str) -> (NamedTempFile, TlsAcceptor) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([host.to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let mut pem = NamedTempFile::new().unwrap();
    pem.write_all(root.pem().as_bytes()).unwrap();
    (pem, acceptor_of(&certificate, &key))
}

fn acceptor_of(certificate: &Certificate, key: &KeyPair) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// TLS in front of a Postgres, as its clients ask for it: a plain request first, then the handshake. Gives its port.
async fn front_of(postgres: String, acceptor: TlsAcceptor) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (postgres, acceptor) = (postgres.clone(), acceptor.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await?;
                client.write_all(b"S").await?;
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(postgres).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

#[tokio::test]
async fn a_database_whose_certificate_is_not_right_is_not_spoken_to() {
    let database = TestDatabase::new().await;
    let real = url::Url::parse(database.url()).unwrap();
    let address = format!("127.0.0.1:{}", real.port().unwrap());
    let (root, acceptor) = server_of("localhost");
    let (other_root, _) = server_of("localhost");
    let port = front_of(address, acceptor).await;
    let connect = async |host: &str, mode: &str, root: Option<&NamedTempFile>| {
        let mut url = real.clone();
        url.set_host(Some(host)).unwrap();
        url.set_port(Some(port)).unwrap();
        url.set_query(None);
        url.query_pairs_mut().append_pair("sslmode", mode);
        if let Some(root) = root {
            url.query_pairs_mut()
                .append_pair("sslrootcert", root.path().to_str().unwrap());
        }
        in_time("an answer", PgConnection::connect(url.as_str())).await
    };

    let connection = connect("localhost", "verify-full", Some(&root)).await;
    let mut connection = connection.expect("the right authority and the right host");
    assert_eq!(
        sqlx::query_scalar::<_, i32>("select 1")
            .fetch_one(&mut connection)
            .await
            .unwrap(),
        1
    );
    for (host, mode, root, why) in [
        (
            "localhost",
            "verify-full",
            Some(&other_root),
            "another authority",
        ),
        (
            "localhost",
            "verify-full",
            None,
            "no authority of that name on this machine",
        ),
        ("127.0.0.1", "verify-full", Some(&root), "another host"),
        (
            "localhost",
            "verify-ca",
            Some(&other_root),
            "another authority",
        ),
    ] {
        let error = match connect(host, mode, root).await {
            Ok(_) => panic!("connected in spite of {why}"),
            Err(error) => error,
        };
        assert!(
            matches!(error, sqlx::Error::Tls(_) | sqlx::Error::Io(_)),
            "{why}: {error}"
        );
    }
}

/// A server that shows this certificate itself, and the file to trust.
fn self_signed(is_ca: rcgen::IsCa, host: &str) -> (NamedTempFile, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([host.to_owned()]).unwrap();
    params.is_ca = is_ca;
    let certificate = params.self_signed(&key).unwrap();
    let mut pem = NamedTempFile::new().unwrap();
    pem.write_all(certificate.pem().as_bytes()).unwrap();
    (pem, acceptor_of(&certificate, &key))
}

/// What wxnotify says of a database behind this certificate, with the next step.
#[tokio::test]
async fn a_certificate_that_is_not_right_is_named_with_what_to_make_instead() {
    let database = TestDatabase::new().await;
    let real = url::Url::parse(database.url()).unwrap();
    let address = format!("127.0.0.1:{}", real.port().unwrap());
    let authority = || rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let say = async |acceptor: TlsAcceptor, host: &str, query: String| {
        let port = front_of(address.clone(), acceptor).await;
        let user = real.username();
        let url = format!("postgres://{user}@{host}:{port}{}?{query}", real.path());
        let database: Address = url.parse().unwrap();
        in_time("an answer", database.connect(Duration::from_secs(20)))
            .await
            .map_err(|error| error.to_string())
    };
    let trusting =
        |root: &NamedTempFile| format!("sslmode=verify-full&sslrootcert={}", root.path().display());

    let (root, acceptor) = self_signed(authority(), "localhost");
    let said = say(acceptor, "localhost", trusting(&root))
        .await
        .unwrap_err();
    assert!(
        said.contains("CA:TRUE") && said.contains("openssl req"),
        "{said}"
    );
    assert!(said.contains(root.path().to_str().unwrap()), "{said}");
    // What it says to make instead works.
    let (root, acceptor) = self_signed(rcgen::IsCa::ExplicitNoCa, "localhost");
    say(acceptor, "localhost", trusting(&root)).await.unwrap();

    let (other, _) = server_of("localhost");
    let (_, acceptor) = server_of("localhost");
    let said = say(acceptor, "localhost", trusting(&other))
        .await
        .unwrap_err();
    assert!(
        said.contains("signed by none") && said.contains(other.path().to_str().unwrap()),
        "{said}"
    );
    let (_, acceptor) = server_of("localhost");
    let said = say(acceptor, "localhost", "sslmode=verify-full".to_owned())
        .await
        .unwrap_err();
    assert!(said.contains("no sslrootcert is given"), "{said}");
    let (root, acceptor) = server_of("localhost");
    let said = say(acceptor, "127.0.0.1", trusting(&root))
        .await
        .unwrap_err();
    assert!(said.contains("does not name the host 127.0.0.1"), "{said}");
    // As with libpq, whoever names a CA wants the certificate checked.
    let (_, acceptor) = server_of("localhost");
    let query = format!("sslmode=require&sslrootcert={}", other.path().display());
    say(acceptor, "localhost", query).await.unwrap_err();

    let plain = real.as_str().replace("sslmode=disable", "sslmode=require");
    let plain: Address = plain.parse().unwrap();
    let error = plain.connect(Duration::from_secs(20)).await.unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("does not offer TLS") && said.contains("ssl = on"),
        "{said}"
    );
}

#[tokio::test]
async fn a_wechat_whose_certificate_is_not_right_is_sent_nothing() {
    let (_, acceptor) = server_of("localhost");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (handshakes, spoken) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (tried, heard) = (handshakes.clone(), spoken.clone());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tried.fetch_add(1, Ordering::SeqCst);
            if let Ok(mut connection) = acceptor.accept(connection).await {
                let mut bytes = [0; 1];
                if connection.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                    heard.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
    let scene = Scene::new().await;
    let id = scene.insert("oPrudent", json!({})).await;
    let base = format!("https://localhost:{}", address.port());

    let worker = scene.start(&[("WXNOTIFY_API_BASE", &base)]);
    eventually("it has tried more than once", async || {
        (handshakes.load(Ordering::SeqCst) > 1).then_some(())
    })
    .await;
    let status = scene.status(id).await;
    worker.stop().await;

    assert_eq!(
        spoken.load(Ordering::SeqCst),
        0,
        "not even a token was asked for"
    );
    assert_ne!(status, "in_doubt", "nothing can have arrived");
    assert_eq!(
        scene
            .count("select count(*) from notification_history")
            .await,
        0
    );
}
