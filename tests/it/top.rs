//! `wxnotify top`: once as text and as a document, and live on a terminal.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, wxnotify};
use crate::kernel::{Outcome, Queue};
use crate::security::Login;

/// What `wxnotify top` ends with, says and complains of.
fn top(url: &str, arguments: &[&str], language: &str) -> (Option<i32>, String, String) {
    let output = wxnotify()
        .arg("top")
        .args(arguments)
        .env("DATABASE_URL", url)
        .env("LC_ALL", language)
        .env("TZ", "Asia/Shanghai")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

async fn queue_with_rows() -> Queue {
    let queue = Queue::new().await;
    let dead = queue.enqueue(json!({"openid": "oSecret"})).await;
    let lease = queue.lease_and_start("w").await;
    queue
        .settle(&lease, &[Outcome::dead(dead, 47003, "kept")])
        .await;
    queue
        .enqueue_all((0..3).map(|n| json!({"openid": format!("oSecret{n}")})))
        .await;
    queue
}

#[tokio::test]
async fn once_it_is_text_in_the_readers_language_and_zone_without_a_receiver() {
    let queue = queue_with_rows().await;
    let (code, english, _) = top(queue.url(), &["--once"], "C.UTF-8");
    assert_eq!(code, Some(0));
    for words in [
        "No worker is alive; 3 rows wait",
        "due 3",
        "died in 24 h 1",
        "backlog",
        "+08:00",
    ] {
        assert!(english.contains(words), "{words}: {english}");
    }
    let (_, chinese, _) = top(queue.url(), &["--once"], "zh_CN.UTF-8");
    assert!(
        chinese.contains("没有存活的 worker；3 行在等待") && chinese.contains("积压"),
        "{chinese}"
    );
    assert!(!english.contains("oSecret") && !chinese.contains("oSecret"));
    assert!(
        !english.contains('\u{1b}'),
        "no colour, no cursor: {english:?}"
    );
}

#[tokio::test]
async fn once_as_a_document_it_is_the_same_in_every_language_and_a_viewer_may_read_it() {
    let queue = queue_with_rows().await;
    let viewer = Login::of("wxnotify_viewer", queue.database()).await;
    let url = viewer.url(queue.database());
    let read = |language| {
        let (code, document, complaint) = top(&url, &["--once", "--json"], language);
        assert_eq!(code, Some(0), "{complaint}");
        serde_json::from_str::<Value>(&document).unwrap()
    };
    let (english, chinese) = (read("C"), read("zh_CN.UTF-8"));
    assert_eq!(
        english["needs"][0]["sentence"],
        chinese["needs"][0]["sentence"]
    );
    assert_eq!(english["backlog"][0]["rows"], 3);
    assert_eq!(english["doubts"]["count"], 0);
    assert!(english["at"].as_str().unwrap().ends_with('Z'));
    assert!(!english.to_string().contains("oSecret"));
    let (_, of_nobody, _) = top(&url, &["--once", "--json", "--appid", "nobody"], "C");
    let of_nobody: Value = serde_json::from_str(&of_nobody).unwrap();
    assert_eq!(of_nobody["backlog"], json!([]));
}

#[tokio::test]
async fn without_a_terminal_or_a_database_it_says_what_to_do() {
    let queue = Queue::new().await;
    let (code, _, complaint) = top(queue.url(), &[], "C");
    assert_eq!(code, Some(2));
    assert!(
        complaint.contains("no terminal") && complaint.contains("--once"),
        "{complaint}"
    );
    let (code, _, complaint) = top("postgres://nobody@127.0.0.1:1/x", &["--once"], "C");
    assert_eq!(code, Some(69), "{complaint}");
    let (code, _, _) = top(queue.url(), &["--every", "0"], "C");
    assert_eq!(code, Some(2));
}

/// Reads what the program draws until it drew `words`.
fn read_until(terminal: &mut std::fs::File, words: &str, drawn: &mut String) {
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    while !drawn.contains(words) {
        assert!(Instant::now() < until, "{words:?} is not in {drawn:?}");
        match terminal.read(&mut buffer) {
            Ok(read) => drawn.push_str(&String::from_utf8_lossy(&buffer[..read])),
            // The other end is closed.
            Err(_) => break,
        }
    }
    assert!(drawn.contains(words), "{words:?} is not in {drawn:?}");
}

#[tokio::test]
async fn live_it_draws_obeys_keys_and_leaves_the_terminal_as_it_was() {
    let queue = queue_with_rows().await;
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).unwrap();
    let other_end = |end: &OwnedFd| Stdio::from(end.try_clone().unwrap());
    let mut program = wxnotify()
        .args(["top", "--every", "1"])
        .env("DATABASE_URL", queue.url())
        .env("LC_ALL", "C.UTF-8")
        .env("TERM", "xterm")
        .stdin(other_end(&pty.slave))
        .stdout(other_end(&pty.slave))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(pty.slave);
    let ended = tokio::task::spawn_blocking(move || {
        let mut terminal = std::fs::File::from(pty.master);
        let mut drawn = String::new();
        read_until(&mut terminal, "backlog", &mut drawn);
        terminal.write_all(b"?").unwrap();
        // Drawn are the cells that changed, so whole sentences are not to be found.
        read_until(&mut terminal, "still,", &mut drawn);
        terminal.write_all(b"?q").unwrap();
        // The screen that was there before comes back.
        read_until(&mut terminal, "\u{1b}[?1049l", &mut drawn);
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = program.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end");
            std::thread::yield_now();
        }
    });
    let code = tokio::time::timeout(PATIENCE + Duration::from_secs(5), ended).await;
    assert_eq!(code.unwrap().unwrap(), Some(0));
}
