//! GGUF files of other types from checkpoints: which type each tensor gets, and the work of making it.
//!
//! A [`Source`] (a GGUF file, or a model that its family describes in GGUF's words) and [`QuantizeOptions`] make a [`Plan`]; the plan
//! can be looked at before it is carried out. The rules are those of llama.cpp's quantiser, and blocks are those of ggml's reference
//! quantiser: from the same input both give the same file.
//!
//! Memory stays bounded: tensors are read from their mapped files, converted and written a few rows at a time.

mod file_type;
mod imatrix;
mod mix;
mod plan;
mod write;

pub use file_type::FileType;
pub use imatrix::{Imatrix, ImatrixEntry};
pub use mix::{Mix, ModelFacts};
pub use plan::{Plan, PlannedTensor, QuantizeOptions, Source, Summary, TensorType};
pub use write::Progress;
