//! The `wxnotify` program: parse the command line and dispatch.

use std::process::ExitCode;

fn main() -> ExitCode {
    wxnotify::cli::main()
}
