//! The fake as a program, and its end.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use wxnotify::simulate::{Action, Rule, SEND_PATH, TOKEN_PATH};

use super::{APP, SECRET, World, assert_refused, message, read, token_of};

#[tokio::test]
async fn a_stopped_fake_breaks_its_connections_and_listens_no_more() {
    let world = World::open().await;
    world
        .control
        .script(Rule::send(Action::hang_before_credit()));
    let path = format!("{SEND_PATH}?access_token={}", world.token().await);
    let url = world.url(&path);
    let request = world.http.post(&url).body(message().to_string());
    let hanging = tokio::spawn(request.send());
    world.control.wait_for_calls(1).await;
    world.fake.stop().await;
    assert!(!hanging.await.unwrap().unwrap_err().is_timeout());
    assert!(world.http.get(&url).send().await.unwrap_err().is_connect());
    assert_eq!(world.control.ledger().sends().count(), 1);
}

// The program

#[tokio::test]
async fn the_program_says_which_address_it_cannot_listen_on() {
    let world = World::open().await;
    let taken = world.fake.address().to_string();
    let program = Command::new(env!("CARGO_BIN_EXE_wxnotify"))
        .args(["simulate", "--listen", &taken])
        .output();
    let output = program.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(
        complaint.contains(&taken) && complaint.contains("--listen"),
        "{complaint}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn the_program_says_where_it_listens_and_serves_until_interrupted() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let mut program = Command::new(env!("CARGO_BIN_EXE_wxnotify"))
        .args(["simulate", "--listen", "127.0.0.1:0", "--strict"])
        .args(["--appid", APP, "--secret", SECRET])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let base_url = first.split_whitespace().last().unwrap();
    let query = "grant_type=client_credential&appid";
    let unknown = reqwest::get(format!("{base_url}{TOKEN_PATH}?{query}=wx9&secret=x")).await;
    assert_refused(&read(unknown.unwrap()).await, 40013);
    let known = reqwest::get(format!(
        "{base_url}{TOKEN_PATH}?{query}={APP}&secret={SECRET}"
    ))
    .await;
    token_of(&read(known.unwrap()).await);
    let help = reqwest::get(format!("{base_url}/_control/")).await.unwrap();
    assert!(help.text().await.unwrap().contains("/_control/grant"));
    let pid = Pid::from_raw(program.id().unwrap().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    assert!(program.wait().await.unwrap().success());
}
