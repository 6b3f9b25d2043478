//! A TCP proxy that can stop forwarding without a word, as a network does, and lead elsewhere.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// When a system finds out that the other end of a connection is gone.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// One listening address that leads to another. Dropping it closes every connection.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// Counts the freezes: a connection older than the last one is dead for ever.
    freezes: watch::Sender<u64>,
    frozen: AtomicBool,
    /// Every answer is forwarded twice: one of two at once, the other before the answer to the next request, when the
    /// client cannot have seen that it is left over.
    doubling: AtomicBool,
}

impl Proxy {
    pub async fn start(listen: &str, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            freezes: watch::Sender::new(0),
            frozen: AtomicBool::new(false),
            doubling: AtomicBool::new(false),
        });
        let stop = CancellationToken::new();
        let (task, token) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = token.run_until_cancelled(listener.accept()).await {
                let shared = task.clone();
                let connection = token
                    .clone()
                    .run_until_cancelled_owned(async move { carry(client, &shared).await });
                tokio::spawn(connection);
            }
        });
        Self {
            address,
            shared,
            stop,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards nothing from now on, closes nothing, and goes on accepting.
    pub fn freeze(&self) {
        self.shared.frozen.store(true, Ordering::SeqCst);
        self.shared.freezes.send_modify(|freezes| *freezes += 1);
    }

    /// New connections are forwarded again; those that met the freeze stay dead.
    pub fn thaw(&self) {
        self.shared.frozen.store(false, Ordering::SeqCst);
    }

    /// New connections lead there; old ones are cut off without a word.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
        self.shared.freezes.send_modify(|freezes| *freezes += 1);
    }

    pub fn double_answers(&self, doubling: bool) {
        self.shared.doubling.store(doubling, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn carry(mut client: TcpStream, shared: &Shared) {
    let mut freezes = shared.freezes.subscribe();
    if shared.frozen.load(Ordering::SeqCst) {
        return tokio::time::sleep(KEEPALIVE).await;
    }
    let target = *shared.target.lock().unwrap();
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let died = tokio::select! {
        () = forward(&mut client, &mut server, &shared.doubling) => false,
        _ = freezes.changed() => true,
    };
    if died {
        // Neither end hears of the other again; keepalive ends it some time.
        tokio::time::sleep(KEEPALIVE).await;
    }
    drop((client, server));
}

async fn forward(client: &mut TcpStream, server: &mut TcpStream, doubling: &AtomicBool) {
    let (mut from_client, to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    // The way to the client, and an answer that is left over.
    let back = tokio::sync::Mutex::new((to_client, Vec::new()));
    let requests = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(bytes @ 1..) = from_client.read(&mut buffer).await {
            let (to_client, left_over) = &mut *back.lock().await;
            let left_over = std::mem::take(left_over);
            let forwarded = async {
                to_client.write_all(&left_over).await?;
                to_server.write_all(&buffer[..bytes]).await
            };
            if forwarded.await.is_err() {
                return;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut at_once = false;
        while let Ok(bytes @ 1..) = from_server.read(&mut buffer).await {
            let answer = &buffer[..bytes];
            let (to_client, left_over) = &mut *back.lock().await;
            let mut sent = to_client.write_all(answer).await;
            if doubling.load(Ordering::Relaxed) {
                if at_once {
                    sent = sent.and(to_client.write_all(answer).await);
                } else {
                    left_over.extend_from_slice(answer);
                }
                at_once = !at_once;
            }
            if sent.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}
