//! `rlx-run llama32` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_cli::run_single(&rlx_models::registry(), "llama32", std::env::args_os())
}
