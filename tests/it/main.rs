//! The integration tests: one program, a file per behaviour.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cli;
mod config;
mod connecting;
mod console;
mod contract;
mod copies;
mod credits;
mod delivery;
mod demo;
mod doctor;
mod errcodes;
mod events;
mod fleet;
mod fuzz_seeds;
mod hammer;
mod harness;
mod http;
mod kernel;
mod model;
mod month;
mod operate;
mod operator_queries;
mod postgres;
mod quotas;
mod random_rows;
mod readme;
mod schema;
mod security;
mod simulate;
mod templates;
mod tidy;
mod tokens;
mod views;
mod wechat_client;
mod worker;
