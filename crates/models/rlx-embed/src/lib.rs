//! Text in, vectors out: sentence embeddings and re-ranking with BERT-shaped encoders.
//!
//! ```no_run
//! use rlx_embed::RlxEmbed;
//! let model = RlxEmbed::from_pretrained("sentence-transformers/all-MiniLM-L6-v2")?;
//! let vectors = model.embed(&["A man is eating food.", "The sky is blue today."])?;
//! assert_eq!(vectors[0].len(), model.dim());
//! # Ok::<(), rlx_embed::EmbedError>(())
//! ```
//!
//! A checkpoint's own files say how its vectors are made: pooling, normalisation, longest text, prompts ([`EmbedSettings`]).
//! Texts run in ragged batches: the tokens of several texts one after the other, with no padding, so that a batch of mixed
//! lengths costs what its tokens cost. [`RlxEmbed::embed_each`] streams any number of texts in bounded memory.
//!
//! Families: `rlx-bert` (BERT, MiniLM, BGE, E5) and `rlx-nomic` (NomicBERT).

mod batch;
mod builder;
pub mod cli;
mod error;
mod model;
mod rerank;
mod settings;
mod texts;

pub use builder::EmbedBuilder;
pub use error::EmbedError;
pub use model::{EmbedStats, Prompt, RlxEmbed, TokenValue};
pub use rlx_core::encoder::Pooling;
pub use settings::EmbedSettings;
pub use texts::LongTexts;
