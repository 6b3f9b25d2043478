//! The program as a person meets it: exit codes, help, errors.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{TestDatabase, wxnotify};

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    (
        status.code(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

#[test]
fn bad_settings_are_all_listed_and_the_program_ends_with_64() {
    let (code, stdout, stderr) = run(wxnotify()
        .arg("migrate")
        .env("WXNOTIFY_LEASE_SECS", "1")
        .env("WXNOTIFY_POLL_SECS", "soon")
        .env("WXNOTIFY_POLLSECS", "1"));
    assert_eq!(code, Some(64), "{stderr}");
    assert_eq!(stdout, "");
    for name in [
        "DATABASE_URL",
        "WXNOTIFY_LEASE_SECS",
        "WXNOTIFY_POLL_SECS",
        "WXNOTIFY_POLLSECS",
    ] {
        assert!(stderr.contains(name), "{name} is not in: {stderr}");
    }
    assert!(stderr.contains("4 settings are wrong"), "{stderr}");
}

#[test]
fn with_json_an_error_is_one_json_object() {
    let (code, _, stderr) = run(wxnotify().args(["migrate", "--json", "--log", "="]));
    assert_eq!(code, Some(64));
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["exit_code"], 64);
    let names: Vec<&str> = error["bad_settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bad| bad["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["DATABASE_URL", "WXNOTIFY_LOG"]);
}

#[test]
fn help_lists_the_exit_codes_and_a_wrong_command_line_ends_with_2() {
    let (code, help, _) = run(wxnotify().arg("--help"));
    assert_eq!(code, Some(0));
    for exit in ["0", "1", "2", "64", "69", "70", "75"] {
        let listed = help
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{exit}  ")));
        assert!(listed, "exit code {exit} is not in: {help}");
    }
    assert_eq!(run(wxnotify().arg("fly")).0, Some(2));
    assert_eq!(run(&mut wxnotify()).0, Some(2));
}

#[test]
fn a_database_out_of_reach_ends_with_69_and_without_its_password() {
    // Port 1 on loopback: nothing listens there.
    let url = "postgres://notifier:hunter2@127.0.0.1:1/x";
    let (code, _, stderr) = run(wxnotify().arg("migrate").env("DATABASE_URL", url));
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains("connecting to the database"), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test]
async fn settings_come_from_a_file_and_a_flag_too() {
    let database = TestDatabase::empty().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        format!("database_url = {:?}\n", database.url()),
    )
    .unwrap();
    let mut by_config = wxnotify();
    by_config.arg("migrate").arg("--config").arg(file.path());
    assert_eq!(run(&mut by_config).0, Some(0));
    let mut by_variable = wxnotify();
    by_variable
        .arg("migrate")
        .env("WXNOTIFY_CONFIG", file.path());
    assert_eq!(run(&mut by_variable).0, Some(0));
    assert_eq!(
        run(wxnotify().args(["migrate", "--database-url", database.url()])).0,
        Some(0)
    );
}

#[test]
fn the_worker_starts_nothing_with_bad_settings_and_a_flag_is_checked_like_a_variable() {
    let (code, _, stderr) = run(wxnotify()
        .args(["run", "--migrate", "--concurrency", "0", "--lease-secs=11"])
        .env("DATABASE_URL", "postgres://notifier:hunter2@127.0.0.1:1/x"));
    assert_eq!(code, Some(64), "{stderr}");
    assert!(
        stderr.contains("WXNOTIFY_CONCURRENCY = \"0\" (flag)"),
        "{stderr}"
    );
    assert!(
        stderr.contains("WXNOTIFY_LEASE_SECS = \"11\" (flag)"),
        "{stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn the_workers_help_lists_every_setting_with_its_variable_and_default() {
    let (code, help, _) = run(wxnotify().args(["run", "--help"]));
    assert_eq!(code, Some(0));
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in wxnotify::config::SETTINGS {
        assert!(
            help.contains(&format!("--{} ", setting.flag())),
            "{}",
            setting.name
        );
        assert!(
            help.contains(&format!("[env: {}]", setting.name)),
            "{}",
            setting.name
        );
        if let Some(default) = setting.default {
            assert!(
                help.contains(&format!("[default: {default}]")),
                "{}",
                setting.name
            );
        }
    }
}

/// Nobody can hear it, but the exit code tells all the same.
#[test]
fn a_standard_error_that_cannot_be_written_changes_no_exit_code() {
    for (arguments, code) in [
        ("run", 64),
        ("migrate", 64),
        ("frobnicate", 2),
        ("status", 69),
    ] {
        for closed in ["2>/dev/full", "2>&-", ">/dev/full 2>&-"] {
            let script = format!("\"$0\" {arguments} {closed}");
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &script]).arg(wxnotify().get_program());
            command.env_remove("DATABASE_URL");
            if code == 69 {
                command.env("DATABASE_URL", "postgres://u@127.0.0.1:1/x");
            }
            let ended = command.output().unwrap();
            assert_eq!(ended.status.code(), Some(code), "{script}");
        }
    }
}

/// Many errors say their cause, and so does the chain of causes.
#[test]
fn an_error_says_each_thing_once() {
    for arguments in [["migrate"].as_slice(), &["run", "--no-wait"], &["status"]] {
        let ended = wxnotify()
            .args(arguments)
            .env("DATABASE_URL", "postgres://u@127.0.0.1:1/x")
            .env("WXNOTIFY_LISTEN", "")
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(69));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(said.matches("refused").count(), 1, "{arguments:?}: {said}");
    }
}
