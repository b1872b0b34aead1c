//! `rlx-run wav2vec2-bert` as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_cli::run_single(&rlx_models::registry(), "wav2vec2-bert", std::env::args_os())
}
