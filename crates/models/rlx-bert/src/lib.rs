//! BERT (Devlin et al. 2018) and the encoders of its shape: MiniLM, BGE, E5, BioBERT, ClinicalBERT.
//!
//! The encoder that the others are described against: learned positions and text types, layers normalised after each
//! residual addition, attention to all tokens of the text with biases everywhere, GELU. Three heads: the pooler (tanh of a dense layer on
//! the first token), the masked-language-model head (tied to the embedding), and sequence classification on the pooler, which
//! cross-encoders score pairs with.
//!
//! `rlx-embed` makes vectors of texts with it.

mod builder;
mod config;
mod fill_mask;
mod weights;

pub use builder::{BertHead, encoder};
pub use config::BertConfig;
pub use fill_mask::{Candidate, FillMask};

use rlx_core::encoder::Encoder;
use rlx_core::{Family, GgufForm, Task};
use rlx_flow::Taps;

/// The family.
pub const FAMILY: Family = Family {
    name: "bert",
    about: "BERT, MiniLM, BGE, E5, BioBERT: encoders for embeddings, masked words and re-ranking",
    gguf_architectures: &["bert"],
    hf_model_types: &["bert"],
    task: Task::Network {
        check: |checkpoint| BertConfig::from_checkpoint(checkpoint).map(drop),
        forward: |checkpoint, options, inputs, trace| {
            let head = BertHead::of(checkpoint);
            let model = encoder(checkpoint, head, Taps::Hidden)?;
            Encoder::load(checkpoint, model, &options.compile)?.forward(inputs, trace)
        },
        gguf: Some(GgufForm {
            stored: |checkpoint| {
                let config = BertConfig::from_checkpoint(checkpoint)?;
                let mut header = config.to_gguf(BertHead::of(checkpoint))?;
                header.set_pooling(checkpoint, config.hidden_size)?;
                Ok(encoder(checkpoint, BertHead::None, Taps::None)?.stored(header))
            },
            without: &["pooler_output", "mlm_logits", "logits"],
        }),
    },
};
