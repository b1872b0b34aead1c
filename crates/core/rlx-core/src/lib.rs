//! Task traits, the model registry, generic runners and checkpoint download.
//!
//! A [`Family`] says which checkpoints it takes and how to read one; [`CausalLm`] runs any of them. [`Runner`] is the typed
//! one-call API that family crates re-export.

mod causal_lm;
mod config;
mod convert;
mod draft;
pub mod encoder;
mod error;
pub mod fetch;
mod forward;
mod generate;
mod gguf_header;
mod network;
pub mod parity;
mod perplexity;
mod registry;
mod rope;
mod runner;
mod sizes;
mod tensors;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
mod vocabulary;

pub use causal_lm::{CausalLm, LoadOptions, ModelInfo};
pub use config::HfConfig;
pub use convert::{ConvertOptions, StoredModel, gguf_source};
pub use draft::{DraftStats, Drafter, MAX_DRAFT_TOKENS, ModelDrafter, NgramDrafter};
pub use error::CoreError;
pub use forward::{ForwardOptions, forward};
pub use generate::{Assist, Event, GenerateOptions, Generation, StopReason};
pub use gguf_header::GgufHeader;
pub use network::{Network, SpanOf, take_param};
pub use perplexity::Perplexity;
pub use registry::{BASE_MODEL_PREFIXES, DecoderModel, Families, Family, GgufForm, Task};
pub use rope::{rope_from_gguf, rope_from_hf, rope_of_layer_type};
pub use runner::{DecoderFamily, Runner, RunnerBuilder, TokenPiece};
pub use sizes::{DecoderSizes, in_range, sliding_layers};
pub use tensors::{NamedTensor, NamedTensors, TensorData, read_tensors, write_tensors};
pub use trace::{Trace, TracedNetwork, explain};
pub use vocabulary::{load_tokenizer, set_vocabulary};
