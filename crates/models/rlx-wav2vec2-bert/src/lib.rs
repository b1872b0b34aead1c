//! wav2vec2-BERT, the speech encoder of w2v-BERT 2.0 and SeamlessM4T v2 (Seamless Communication 2023): Conformer blocks (Gulati et
//! al. 2020) over Kaldi filter-bank features, with self-attention that knows clamped distances (Shaw et al. 2018) and a causal
//! depthwise convolution. Optionally an adapter that halves the rate, and a head for CTC recognition (Graves et al. 2006).
//!
//! Reference: transformers' `Wav2Vec2BertModel` and `Wav2Vec2BertForCTC`.
//!
//! ```no_run
//! use rlx_wav2vec2_bert::Wav2Vec2BertRunner;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sound = rlx_audio::load("speech.wav", 16_000)?;
//! let mut runner = Wav2Vec2BertRunner::builder().weights("w2v-bert-ctc").build()?;
//! let hidden = runner.features(&sound.samples)?;
//! println!("{} rows of {}", hidden.rows, hidden.width);
//! println!("{}", runner.transcribe(&sound.samples)?);
//! # Ok(()) }
//! ```

mod builder;
pub mod cli;
mod config;
mod error;
mod forward;
mod runner;
mod weights;

pub use builder::{GraphOptions, graph};
pub use config::{PositionEmbeddings, Wav2Vec2BertConfig};
pub use error::Wav2Vec2BertError;
pub use runner::{Hidden, Wav2Vec2BertRunner, Wav2Vec2BertRunnerBuilder};

use rlx_core::{Family, Task};

/// Declared facts of the family.
pub const FAMILY: Family = Family {
    name: "wav2vec2-bert",
    about: "wav2vec2-BERT (w2v-BERT 2.0): speech features and CTC recognition",
    gguf_architectures: &[],
    hf_model_types: &["wav2vec2-bert"],
    task: Task::Network {
        check: |checkpoint| Wav2Vec2BertConfig::from_checkpoint(checkpoint).map(drop),
        forward: forward::forward,
        gguf: None,
    },
};
