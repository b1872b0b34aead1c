//! GGUF: the file format of ggml (`ggml/docs/gguf.md`), versions 2 and 3, little-endian.

mod metadata;
pub mod reader;
mod value;
pub mod writer;

pub use metadata::GgufMetadata;
pub use reader::{GgufFile, parse, parse_metadata};
pub use rlx_mem::StringArray;
pub use value::{GgufArray, GgufValue};
pub use writer::{GgufStream, GgufWriter};

/// First four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// Alignment of tensor data where `general.alignment` does not say otherwise.
pub const DEFAULT_ALIGNMENT: usize = 32;
