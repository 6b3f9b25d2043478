//! Proof by faults: real workers, a real Postgres and a fake WeChat, everything that can break broken, and every row
//! compared with the truth afterwards.
//!
//! Each test is a scenario. In its short form all of them take some minutes; `make chaos` runs them longer:
//!
//! | variable | default | |
//! |---|---|---|
//! | `WXNOTIFY_CHAOS_SENDS` | 600 | rows of each scenario |
//! | `WXNOTIFY_CHAOS_SEED` | 7 | the dice |
//! | `WXNOTIFY_CHAOS_PROGRAM` | the one just built | the `wxnotify` to break |
//! | `WXNOTIFY_CHAOS_REPORT` | | a file that gets a line of a Markdown table for each scenario |
//!
//! Read `stage.rs` for what is played on, `checker.rs` for what is compared, then the scenarios.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![cfg(target_os = "linux")]

mod checker;
mod clocks;
mod database;
mod failover;
mod mutants;
mod patroni;
mod pooler;
mod processes;
mod proxy;
mod rows;
mod run;
mod soak;
mod stage;
mod wechat;
