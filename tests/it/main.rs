//! The integration tests: one program, a file per behaviour.

mod harness;
mod postgres;
