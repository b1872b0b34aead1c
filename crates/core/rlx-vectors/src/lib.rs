//! Texts on their way to vectors, and vectors on their way to use. No model is known here: [`embed_stream`] takes one as a
//! closure.
//!
//! - [`TextSource`]: texts one by one, in order, in bounded memory, from [lines, JSONL, CSV or Parquet](TextFormat).
//! - [`VectorSink`]: vectors row by row to [JSONL, `.npy`, safetensors or Parquet](VectorFormat).
//! - [`VectorIndex`]: vectors of a mapped `.npy` or safetensors file, and the exact nearest of them.
//!
//! ```
//! use rlx_vectors::{SearchOptions, VectorIndex};
//!
//! # fn main() -> Result<(), rlx_vectors::VectorsError> {
//! let index = VectorIndex::from_vectors(2, &[1.0, 0.0, 0.6, 0.8, 0.0, 2.0])?;
//! let hits = index.search(&[0.0, 1.0], &SearchOptions { k: 2, ..SearchOptions::default() })?;
//! assert_eq!(hits[0].iter().map(|hit| hit.row).collect::<Vec<_>>(), [2, 1]);
//! # Ok(()) }
//! ```

mod error;
mod format;
mod index;
mod sink;
mod source;
mod stream;

pub use error::VectorsError;
pub use format::{TextFormat, VectorFormat};
pub use index::{Hit, Metric, SearchOptions, VectorIndex, scores};
pub use sink::{SinkOptions, VectorSink, create_sink, jsonl_sink};
pub use source::{Progress, ProgressUnit, SourceOptions, Text, TextSource, given_texts, open_source, read_source};
pub use stream::{ChunkLimits, Outcome, embed_stream};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
