//! The integration tests: one program, a file per behaviour.
