//! The integration tests: one program, a file per behaviour.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod harness;
mod kernel;
mod postgres;
mod simulate;
