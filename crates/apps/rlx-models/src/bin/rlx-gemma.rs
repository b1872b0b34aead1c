//! `rlx-run gemma` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_cli::run_single(&rlx_models::registry(), "gemma", std::env::args_os())
}
