//! The `wxnotify` program: parse the command line and dispatch.

fn main() {}
