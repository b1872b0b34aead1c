//! `rlx-run minicpm5` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_cli::run_single(&rlx_models::registry(), "minicpm5", std::env::args_os())
}
