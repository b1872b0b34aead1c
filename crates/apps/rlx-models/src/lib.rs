//! Run open-weight models: every family under one roof.
//!
//! Each family is a module ([`llama32`] ...); [`registry`] knows them all, with the commands of `rlx-run`. To run a
//! command from a program of your own, hand its arguments to [`run`]; to add your own commands, register them in a
//! [`registry`] and [`dispatch`](rlx_cli::dispatch) it (see `examples/register_custom_runner.rs`).

use std::ffi::OsString;
use std::process::ExitCode;

use rlx_core::DecoderFamily;

pub use rlx_audio as audio;
pub use rlx_bert as bert;
pub use rlx_cli as cli;
pub use rlx_clinicalbert as clinicalbert;
pub use rlx_core as core;
pub use rlx_embed as embed;
pub use rlx_gemma as gemma;
pub use rlx_llama32 as llama32;
pub use rlx_minicpm5 as minicpm5;
pub use rlx_nomic as nomic;
pub use rlx_qwen3 as qwen3;
pub use rlx_runtime as runtime;
pub use rlx_text as text;
pub use rlx_vad as vad;
pub use rlx_wav2vec2_bert as wav2vec2_bert;
pub use rlx_weights as weights;
pub use rlx_whisper as whisper;

/// All commands and families.
pub fn registry() -> rlx_cli::Registry {
    let mut registry = rlx_cli::Registry::new();
    rlx_cli::register_cli(&mut registry);
    embed::cli::register(&mut registry);
    // One line per family, in the order of the README's table.
    registry.register_family(llama32::Llama32::FAMILY);
    registry.register_family(qwen3::Qwen3::FAMILY);
    registry.register_family(gemma::Gemma::FAMILY);
    registry.register_family(minicpm5::MiniCpm5::FAMILY);
    // Where a program has a format of its own for `.bin` files, that one stays.
    let _ = whisper::register_formats();
    registry.register_network(whisper::FAMILY, whisper::cli::RUNNER);
    registry.register(whisper::cli::TRANSCRIBE);
    registry.register(vad::cli::RUNNER);
    registry.register_network(wav2vec2_bert::FAMILY, wav2vec2_bert::cli::RUNNER);
    // Encoders, which the commands of rlx-embed run.
    registry.register_known(bert::FAMILY);
    registry.register_known(nomic::FAMILY);
    registry
}

/// Runs the command that `args` name, as `rlx-run` does. The first argument is the program's name.
///
/// ```
/// use std::process::ExitCode;
/// assert_eq!(rlx_models::run(["rlx-run", "devices"]), ExitCode::SUCCESS);
/// ```
pub fn run<I, S>(args: I) -> ExitCode
where
    I: IntoIterator<Item = S>,
    S: Into<OsString>,
{
    rlx_cli::dispatch(&registry(), args)
}
