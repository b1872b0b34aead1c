//! Host memory of the RLX engine: aligned buffers in huge pages, mapped files, cheap shared slices.
//!
//! - [`AlignedBuf`]: zeroed, 64-byte aligned memory for numbers; large ones ask for 2 MB pages, which is worth a third of
//!   the DRAM bandwidth when weights stream through the cores.
//! - [`PageArena`]: huge pages that many such buffers share, side by side.
//! - [`MappedFile`]: a file mapped read-only, whose pages can be given back once they have been repacked.
//! - [`Bytes`]: a shared, cheaply cloned slice of either.
//! - [`StringArray`]: the strings of a vocabulary in one piece of memory.

mod aligned;
mod bytes;
mod mapped;
mod pages;
mod strings;

pub use aligned::AlignedBuf;
pub use bytes::Bytes;
pub use mapped::MappedFile;
pub use pages::PageArena;
pub use strings::StringArray;
