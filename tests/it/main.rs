//! The integration tests: one program, a file per behaviour.

mod harness;
mod kernel;
mod postgres;
mod simulate;
