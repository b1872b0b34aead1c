//! `rlx-run embed` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_cli::run_single(&rlx_models::registry(), "embed", std::env::args_os())
}
