//! `rlx-run inspect` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_cli::run_single(&rlx_models::registry(), "inspect", std::env::args_os())
}
