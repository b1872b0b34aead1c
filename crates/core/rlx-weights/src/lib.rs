//! Checkpoints as named tensors, from files that may be hostile.
//!
//! [`Checkpoint::open`] takes a path (GGUF, safetensors, split files, a directory, a registered custom format) and gives
//! tensors as slices of the mapped files, plus metadata. Sizes and offsets are checked before they are believed; errors
//! are typed and one line long. [`gguf`] and [`safetensors_file`] read and write the formats themselves.

pub mod check;
mod checkpoint;
mod cursor;
mod custom;
mod error;
pub mod gguf;
pub mod inspect;
mod locate;
mod mtp;
pub mod names;
mod quant_tag;
pub mod quantize;
pub mod safetensors_file;
mod split;
mod tensor;
mod to_gguf;
mod unfinished;
mod weight_map;

pub use checkpoint::{Checkpoint, Format, OpenOptions, map_file};
pub use cursor::Cursor;
pub use custom::{CustomFormat, list_formats, register_format};
pub use error::{WeightsError, list_names, quoted};
pub use gguf::{GgufMetadata, GgufValue};
pub use locate::{GgufListing, list_gguf};
pub use mtp::mtp_tensors;
pub use tensor::TensorView;
pub use unfinished::{UnfinishedFile, replace_file};
