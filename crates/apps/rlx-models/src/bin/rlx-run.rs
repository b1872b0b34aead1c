//! Every command and family in one program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rlx_models::run(std::env::args_os())
}
