//! `rlx-run qwen3` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_cli::run_single(&rlx_models::registry(), "qwen3", std::env::args_os())
}
