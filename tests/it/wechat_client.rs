//! The client against real sockets: what certainly was not sent, what may have been, and what an answer says.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use wxnotify::notification::Notification;
use wxnotify::wechat::access_token::AccessToken;
use wxnotify::wechat::login::LoginReply;
use wxnotify::wechat::{Reply, Wechat, WechatOptions};

use crate::harness::notification;

const TOKEN: &str = "91_verysecrettoken";

/// What the gateway does with a request it has read.
#[derive(Clone)]
enum Act {
    /// Writes these bytes and keeps the connection.
    Answer(String),
    /// Writes these bytes, which may be half an answer, and closes.
    AnswerAndClose(String),
    /// Closes without an answer so that the client sees a reset.
    Reset,
    /// Never answers.
    Hang,
}

fn answer(status: &str, body: &str) -> Act {
    Act::Answer(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// A gateway on loopback that plays one act a request and keeps what it read.
struct Gateway {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    /// On which connection each of them came, counted from 0.
    carriers: Arc<Mutex<Vec<usize>>>,
    /// A permit for each connection that both sides have closed.
    closed: Arc<Semaphore>,
}

impl Gateway {
    async fn playing(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let carriers = Arc::new(Mutex::new(Vec::new()));
        let acts = Arc::new(Mutex::new(acts.into_iter().collect::<VecDeque<_>>()));
        let closed = Arc::new(Semaphore::new(0));
        let (seen, carried, permits) = (requests.clone(), carriers.clone(), closed.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((connection, _)) = listener.accept().await else {
                    return;
                };
                let (acts, seen, carried, permits) =
                    (acts.clone(), seen.clone(), carried.clone(), permits.clone());
                tokio::spawn(async move {
                    let note = |request| {
                        carried.lock().unwrap().push(number);
                        seen.lock().unwrap().push(request);
                    };
                    play(connection, acts, note).await;
                    permits.add_permits(1);
                });
            }
        });
        Self {
            address,
            requests,
            carriers,
            closed,
        }
    }

    fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.address)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn carriers(&self) -> Vec<usize> {
        self.carriers.lock().unwrap().clone()
    }
}

async fn play(mut connection: TcpStream, acts: Arc<Mutex<VecDeque<Act>>>, note: impl Fn(String)) {
    while let Some(request) = read_request(&mut connection).await {
        note(request);
        let act = acts.lock().unwrap().pop_front();
        match act.expect("the test plays an act for every request") {
            Act::Answer(bytes) => connection.write_all(bytes.as_bytes()).await.unwrap(),
            Act::AnswerAndClose(bytes) => {
                connection.write_all(bytes.as_bytes()).await.unwrap();
                connection.shutdown().await.unwrap();
                // Until the client has noticed and closes its side.
                let _ = connection.read_to_end(&mut Vec::new()).await;
                return;
            }
            Act::Reset => {
                connection.set_zero_linger().unwrap();
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

async fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")
                    .map(str::to_owned)
            });
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text);
            }
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn options(hosts: Vec<Url>) -> WechatOptions {
    WechatOptions {
        hosts,
        connect_timeout: Duration::from_millis(400),
        request_timeout: Duration::from_millis(1500),
        ..WechatOptions::default()
    }
}

fn client(hosts: Vec<Url>) -> Wechat {
    Wechat::new(&options(hosts)).unwrap()
}

async fn send(client: &Wechat) -> Reply {
    send_row(client, 1).await
}

async fn send_row(client: &Wechat, id: i64) -> Reply {
    let token = AccessToken::new(SecretString::from(TOKEN), 1);
    let row = Notification {
        id,
        ..notification(1)
    };
    let reply = client.send(&token, &row).await.unwrap();
    assert!(!format!("{reply:?}").contains("verysecret"), "{reply:?}");
    reply
}

/// The reply to one act; the gateway must have seen exactly one request.
async fn reply_to(act: Act) -> Reply {
    let gateway = Gateway::playing([act]).await;
    let reply = send(&client(vec![gateway.url()])).await;
    assert_eq!(
        gateway.requests().len(),
        1,
        "the request was repeated: {reply:?}"
    );
    reply
}

async fn reply_to_body(status: &str, body: &str) -> Reply {
    reply_to(answer(status, body)).await
}

fn is_not_sent(reply: &Reply) -> bool {
    matches!(reply, Reply::NotSent { .. })
}

fn is_possibly_sent(reply: &Reply) -> bool {
    matches!(reply, Reply::PossiblySent { .. })
}

/// An address where nobody listens.
async fn closed_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_refused_connection_certainly_sent_nothing() {
    let url = Url::parse(&format!("http://{}", closed_address().await)).unwrap();
    let reply = send(&client(vec![url])).await;
    assert!(is_not_sent(&reply), "{reply:?}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_certainly_sent_nothing() {
    let reply = send(&client(vec![Url::parse("https://wechat.invalid").unwrap()])).await;
    assert!(is_not_sent(&reply), "{reply:?}");
}

#[tokio::test]
async fn a_tls_handshake_that_fails_certainly_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nthis is no TLS")
                .await;
        }
    });
    let reply = send(&client(vec![url])).await;
    assert!(is_not_sent(&reply), "{reply:?}");
}

#[tokio::test]
async fn a_tls_handshake_that_never_ends_certainly_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    let reply = send(&client(vec![url])).await;
    assert!(is_not_sent(&reply), "{reply:?}");
}

#[tokio::test]
async fn a_request_that_was_read_and_not_answered_is_possibly_sent() {
    let reply = reply_to(Act::Hang).await;
    assert!(is_possibly_sent(&reply), "{reply:?}");
}

#[tokio::test]
async fn a_connection_reset_after_the_request_is_possibly_sent() {
    let reply = reply_to(Act::Reset).await;
    assert!(is_possibly_sent(&reply), "{reply:?}");
}

#[tokio::test]
async fn a_reset_on_a_reused_connection_is_possibly_sent_and_not_repeated() {
    let fine = answer("200 OK", r#"{"errcode":0,"errmsg":"ok","msgid":1}"#);
    let gateway = Gateway::playing([fine, Act::Reset]).await;
    let client = client(vec![gateway.url()]);
    send(&client).await;
    let reply = send(&client).await;
    assert!(is_possibly_sent(&reply), "{reply:?}");
    assert_eq!(gateway.requests().len(), 2);
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_possibly_sent() {
    for half in [
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"errcode\":0",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"err",
        "no HTTP at all\r\n\r\n",
    ] {
        let reply = reply_to(Act::AnswerAndClose(half.into())).await;
        assert!(is_possibly_sent(&reply), "{half:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_status_that_is_not_wechats_is_possibly_sent_whatever_the_body() {
    for status in [
        "500 Internal Server Error",
        "502 Bad Gateway",
        "504 Gateway Timeout",
        "302 Found\r\nLocation: /elsewhere",
        "307 Temporary Redirect\r\nLocation: /elsewhere",
    ] {
        for body in ["<html>", r#"{"errcode":40003,"errmsg":"invalid openid"}"#] {
            let reply = reply_to_body(status, body).await;
            assert!(is_possibly_sent(&reply), "{status} {body}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_says_nothing_certain_is_possibly_sent() {
    for body in [
        "",
        "<html><body>busy</body></html>",
        "null",
        "[]",
        "0",
        "{}",
        r#"{"errmsg":"ok"}"#,
        r#"{"errcode":"0.0"}"#,
        r#"{"errcode":null}"#,
        r#"{"errcode":0.5}"#,
        r#"{"errcode":1e3}"#,
        r#"{"errcode":99999999999999999999}"#,
        r#"{"errcode":true,"msgid":5}"#,
        r#"{"msgid":"many"}"#,
        r#"{"errcode":0,"errcode":43101}"#,
        r#"{"errcode":0,"#,
        r#"{"errcode":0}{"errcode":0}"#,
    ] {
        let reply = reply_to_body("200 OK", body).await;
        assert!(is_possibly_sent(&reply), "{body}: {reply:?}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_not_read_to_its_end() {
    let huge = format!(r#"{{"errcode":0,"errmsg":"{}"}}"#, "x".repeat(100 * 1024));
    let reply = reply_to_body("200 OK", &huge).await;
    let Reply::PossiblySent { reason, .. } = reply else {
        panic!("{reply:?}")
    };
    assert!(reason.contains("65536 bytes"), "{reason}");
}

#[tokio::test]
async fn a_4xx_counts_by_its_errcode_and_is_never_a_success() {
    let reply = reply_to_body(
        "403 Forbidden",
        r#"{"errcode":48001,"errmsg":"api unauthorized"}"#,
    )
    .await;
    assert!(
        matches!(
            reply,
            Reply::Answered {
                errcode: 48001,
                http_status: 403,
                ..
            }
        ),
        "{reply:?}"
    );
    for body in [r#"{"errcode":0}"#, "<html>", r#"{"msgid":5}"#] {
        let reply = reply_to_body("404 Not Found", body).await;
        assert!(is_possibly_sent(&reply), "{body}: {reply:?}");
    }
}

#[tokio::test]
async fn success_carries_a_msgid_above_2_to_the_53_however_it_is_written() {
    for (body, expected) in [
        (
            r#"{"errcode":0,"errmsg":"ok","msgid":3395159288267931652}"#,
            Some(3_395_159_288_267_931_652),
        ),
        (
            r#"{"errcode":0,"errmsg":"ok","msgid":"3395159288267931652"}"#,
            Some(3_395_159_288_267_931_652),
        ),
        (
            r#"{"msgid":3395159288267931652}"#,
            Some(3_395_159_288_267_931_652),
        ),
        (r#"{"errcode":0,"errmsg":"ok"}"#, None),
        (r#"{"errcode":0,"errmsg":7,"msgid":1.5}"#, None),
    ] {
        let reply = reply_to_body("200 OK", body).await;
        let Reply::Answered {
            errcode: 0, msgid, ..
        } = reply
        else {
            panic!("{body}: {reply:?}")
        };
        assert_eq!(msgid, expected, "{body}");
    }
}

/// A doubt costs a message: what a gateway did to the texts of an answer does not hide what it says in numbers.
#[tokio::test]
async fn an_answer_with_spoilt_texts_counts_by_its_numbers() {
    for body in [
        "\u{feff}{\"errcode\":0,\"errmsg\":\"ok\",\"msgid\":7}",
        r#"{"errcode":"0","errmsg":"ok","msgid":"7"}"#,
        "{\"errcode\":0,\"errmsg\":\"o\nk\u{1}\",\"msgid\":7}",
        "{\"errcode\":0,\"errmsg\":\"ok\",\"msgid\":7}\0",
    ] {
        let reply = reply_to_body("200 OK", body).await;
        let msgid = match reply {
            Reply::Answered {
                errcode: 0, msgid, ..
            } => msgid,
            _ => panic!("{body:?}: {reply:?}"),
        };
        assert_eq!(msgid, Some(7), "{body:?}");
    }
    let body =
        "{\"errcode\":\"43101\",\"errmsg\":\"user\trefuse rid: 68e0a1b2-1c2d3e4f-00112233\"}";
    let reply = reply_to_body("200 OK", body).await;
    let Reply::Answered {
        errcode: 43101,
        rid: Some(_),
        ..
    } = reply
    else {
        panic!("{reply:?}")
    };
}

#[tokio::test]
async fn an_errmsg_gives_its_rid_and_keeps_no_openid_and_no_nul() {
    let body = r#"{"errcode":43101,"errmsg":"user oUser0000000000000000000001 refuse\u0000 rid:68e0a1b2-1c2d3e4f-00112233"}"#;
    let reply = reply_to_body("200 OK", body).await;
    let Reply::Answered {
        errcode: 43101,
        errmsg: Some(errmsg),
        rid,
        ..
    } = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!(rid.as_deref(), Some("68e0a1b2-1c2d3e4f-00112233"));
    assert!(
        !errmsg.contains("oUser") && !errmsg.contains('\0'),
        "{errmsg:?}"
    );
}

#[tokio::test]
async fn the_next_host_is_asked_only_when_the_first_certainly_got_nothing() {
    let fine = answer("200 OK", r#"{"errcode":0}"#);
    let closed = Url::parse(&format!("http://{}", closed_address().await)).unwrap();
    let second = Gateway::playing([fine.clone(), fine]).await;
    let both = client(vec![closed, second.url()]);
    for _ in 0..2 {
        assert!(matches!(
            send(&both).await,
            Reply::Answered { errcode: 0, .. }
        ));
    }

    let first = Gateway::playing([Act::Reset]).await;
    let untouched = Gateway::playing([]).await;
    let reply = send(&client(vec![first.url(), untouched.url()])).await;
    assert!(is_possibly_sent(&reply), "{reply:?}");
    assert_eq!(untouched.requests().len(), 0);
}

#[tokio::test]
async fn a_connection_that_wechat_has_closed_meanwhile_puts_nothing_in_doubt() {
    let fine = r#"{"errcode":0}"#;
    let bye = Act::AnswerAndClose(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{fine}",
        fine.len()
    ));
    let gateway = Gateway::playing(vec![bye; 20]).await;
    let client = client(vec![gateway.url()]);
    for _ in 0..20 {
        let reply = send(&client).await;
        assert!(
            matches!(reply, Reply::Answered { errcode: 0, .. }),
            "{reply:?}"
        );
        gateway.closed.acquire().await.unwrap().forget();
    }
}

fn accepted(msgid: i64) -> Act {
    let body = format!(r#"{{"errcode":0,"errmsg":"ok","msgid":{msgid}}}"#);
    answer("200 OK", &body)
}

fn refused(rid: &str) -> Act {
    let body = format!(r#"{{"errcode":43101,"errmsg":"user refuse to accept the msg{rid}"}}"#);
    answer("200 OK", &body)
}

fn reason_of(reply: &Reply) -> &str {
    match reply {
        Reply::PossiblySent { reason, .. } => reason,
        _ => panic!("{reply:?} is no doubt"),
    }
}

/// The gateway answered one request twice: from then on each request on that connection finds the answer to the one before.
#[tokio::test]
async fn an_answer_that_another_request_had_is_in_doubt_and_its_connection_is_left() {
    for (one, other, id) in [
        (accepted(7), accepted(8), "msgid 7"),
        (
            refused(" rid: 68e0a1b2-1c2d3e4f-00112233"),
            refused(" rid: 68e0a1b2-1c2d3e4f-00112234"),
            "rid 68e0a1b2-1c2d3e4f-00112233",
        ),
    ] {
        let acts = [one.clone(), one, other, accepted(9)];
        let gateway = Gateway::playing(acts).await;
        let client = client(vec![gateway.url()]);
        assert!(matches!(send(&client).await, Reply::Answered { .. }));
        let reply = send(&client).await;
        assert!(reason_of(&reply).contains("another request's"), "{reply:?}");
        assert!(reason_of(&reply).contains(id), "{reply:?}");
        for _ in 0..2 {
            let reply = send(&client).await;
            assert!(matches!(reply, Reply::Answered { .. }), "{reply:?}");
        }
        assert_eq!(gateway.carriers(), [0, 0, 1, 2], "{id}");
    }
}

/// A gateway that gives the first answer on its only connection to the second request, too. The first one's body comes once
/// it may `go_on`.
async fn give_twice(listener: TcpListener, head_is_written: Arc<Notify>, go_on: Arc<Notify>) {
    let Act::Answer(text) = accepted(7) else {
        panic!("an answer is one")
    };
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (mut connection, _) = listener.accept().await.unwrap();
    read_request(&mut connection).await.unwrap();
    let head = format!("{head}\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    head_is_written.notify_one();
    go_on.notified().await;
    connection.write_all(body.as_bytes()).await.unwrap();
    read_request(&mut connection).await.unwrap();
    connection.write_all(text.as_bytes()).await.unwrap();
    std::future::pending().await
}

/// Polls as often as it takes for everything that can go on without the network to have gone on.
async fn advance(mut future: std::pin::Pin<&mut impl Future<Output = Reply>>) -> Option<Reply> {
    for _ in 0..500 {
        if let std::task::Poll::Ready(reply) = futures::poll!(&mut future) {
            return Some(reply);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// On a busy machine the task that an answer is for may run after the next one on the connection has read its copy.
#[tokio::test]
async fn of_two_answers_alike_the_first_on_the_wire_counts_whoever_reads_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (head_is_written, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    tokio::spawn(give_twice(listener, head_is_written.clone(), go_on.clone()));
    let client = client(vec![url]);
    let mut first = std::pin::pin!(send_row(&client, 1));
    let mut second = std::pin::pin!(send_row(&client, 2));
    tokio::select! {
        reply = &mut first => panic!("{reply:?} before it was written"),
        () = head_is_written.notified() => {}
    }
    assert_eq!(advance(first.as_mut()).await, None);
    go_on.notify_one();
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
    // From here on the first one's task does not get a turn, although its answer is there.
    let early = advance(second.as_mut()).await;
    let first = first.await;
    let second = match early {
        Some(reply) => reply,
        None => second.await,
    };
    assert!(
        matches!(first, Reply::Answered { msgid: Some(7), .. }),
        "{first:?}, {second:?}"
    );
    assert!(
        reason_of(&second).contains("another request's"),
        "{second:?}"
    );
}

fn is_disputed(client: &Wechat, reply: &Reply) -> bool {
    let Reply::Answered { rid, msgid, .. } = reply else {
        panic!("{reply:?} is no answer")
    };
    client.is_disputed(rid.as_deref(), *msgid)
}

/// Who was answered first is in question as well: a gateway may have kept the answer for longer than it took the next one.
#[tokio::test]
async fn a_repeated_answer_puts_both_of_its_requests_in_question() {
    for (act, id) in [
        (accepted(7), "msgid 7"),
        (
            refused(" rid: 68e0a1b2-1c2d3e4f-00112233"),
            "rid 68e0a1b2-1c2d3e4f-00112233",
        ),
    ] {
        let gateway = Gateway::playing([act.clone(), act, accepted(8)]).await;
        let client = client(vec![gateway.url()]);
        let first = send_row(&client, 41).await;
        assert!(!is_disputed(&client, &first) && client.take_disputes().is_empty());
        let second = send_row(&client, 42).await;
        assert!(reason_of(&second).contains("notification 41"), "{second:?}");
        assert!(is_disputed(&client, &first));
        let disputes = client.take_disputes();
        assert_eq!(disputes.len(), 1);
        assert_eq!((disputes[0].notification_id, disputes[0].other), (41, 42));
        assert_eq!(disputes[0].answer, id);
        assert!(client.take_disputes().is_empty(), "they are told once");
        let third = send_row(&client, 43).await;
        assert!(!is_disputed(&client, &third));
    }
}

/// Only an answer's id tells that it is another's, and WeChat's gateways refuse without one at times.
#[tokio::test]
async fn answers_without_an_id_may_be_alike() {
    let gateway = Gateway::playing(vec![refused(""); 3]).await;
    let client = client(vec![gateway.url()]);
    for _ in 0..3 {
        let reply = send(&client).await;
        let known = matches!(reply, Reply::Answered { errcode: 43101, .. });
        assert!(known, "{reply:?}");
    }
    assert_eq!(gateway.carriers(), [0, 0, 0]);
}

/// Another's answer would be another's token or openid, and no id would tell.
#[tokio::test]
async fn only_sends_share_connections() {
    let token = r#"{"access_token":"91_t","expires_in":7200}"#;
    let login = r#"{"openid":"oUser0000000000000000000001","session_key":"k"}"#;
    let quota = r#"{"errcode":0,"errmsg":"ok","quota":{"daily_limit":1,"used":0,"remain":1}}"#;
    let mut acts = vec![accepted(1)];
    acts.extend([token, token, login, login, quota].map(|body| answer("200 OK", body)));
    acts.push(accepted(2));
    let gateway = Gateway::playing(acts).await;
    let client = client(vec![gateway.url()]);
    let secret = SecretString::from("secret");
    send(&client).await;
    for _ in 0..2 {
        let fetched = client.fetch_access_token("wx1", &secret, false).await;
        assert!(fetched.is_ok());
    }
    for _ in 0..2 {
        let reply = client.exchange_login_code("wx1", &secret, &secret).await;
        assert!(matches!(reply, LoginReply::Receiver(_)), "{reply:?}");
    }
    let token = AccessToken::new(SecretString::from(TOKEN), 1);
    let _ = client.read_send_quota(&token).await;
    send(&client).await;
    assert_eq!(gateway.carriers(), [0, 1, 2, 3, 4, 5, 0]);
}

#[tokio::test]
async fn the_request_is_what_wechat_documents() {
    let gateway = Gateway::playing([answer("200 OK", r#"{"errcode":0}"#)]).await;
    send(&client(vec![gateway.url()])).await;
    let request = gateway.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let line = format!("POST /cgi-bin/message/subscribe/send?access_token={TOKEN} HTTP/1.1");
    assert_eq!(head.lines().next(), Some(line.as_str()));
    assert!(
        head.to_lowercase()
            .contains("content-type: application/json; charset=utf-8"),
        "{head}"
    );
    assert_eq!(
        body,
        r#"{"touser":"oUser0000000000000000000001","template_id":"T1","miniprogram_state":"formal","lang":"zh_CN","data":{"thing1":{"value":"杯"}}}"#
    );
}

#[tokio::test]
async fn a_token_fetch_that_fails_names_neither_secret_nor_token() {
    for act in [
        Act::Reset,
        answer(
            "200 OK",
            r#"{"access_token":"91_leak","expires_in":"soon"}"#,
        ),
        answer(
            "200 OK",
            r#"{"errcode":40125,"errmsg":"invalid appsecret topsecret"}"#,
        ),
        answer("502 Bad Gateway", "<html>"),
    ] {
        let gateway = Gateway::playing([act]).await;
        let client = client(vec![gateway.url()]);
        let secret = SecretString::from("topsecret");
        let error = client
            .fetch_access_token("wx1", &secret, false)
            .await
            .unwrap_err();
        let words = format!("{error} {error:?}");
        assert!(
            !words.contains("topsecret") && !words.contains("91_leak"),
            "{words}"
        );
        assert!(gateway.requests()[0].contains(r#""force_refresh":false"#));
    }
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_by_name() {
    let host = Url::parse("https://api.weixin.qq.com").unwrap();
    let mut slow = options(vec![host]);
    slow.connect_timeout = slow.request_timeout;
    assert!(
        Wechat::new(&slow)
            .unwrap_err()
            .to_string()
            .contains("connect time-out")
    );
    let plain = options(vec![Url::parse("http://api.weixin.qq.com").unwrap()]);
    assert!(
        Wechat::new(&plain)
            .unwrap_err()
            .to_string()
            .contains("loopback")
    );
    assert!(
        Wechat::new(&options(Vec::new()))
            .unwrap_err()
            .to_string()
            .contains("at least one")
    );
}
