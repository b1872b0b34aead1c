//! `rlx-run whisper` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_cli::run_single(&rlx_models::registry(), "whisper", std::env::args_os())
}
