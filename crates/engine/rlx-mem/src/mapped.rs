//! Files mapped read-only into memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

/// Touching a page maps others with it: 64 KB around it, or the whole run of pages that the system's cache holds it in, which is at
/// most a huge page. Thousands of small tensors one after the other would leave that much of each neighbour behind.
#[cfg(unix)]
const AROUND: usize = 2 << 20;

/// A file mapped read-only. Resident pages can be given back with [`MappedFile::release`].
///
/// The file must not be cut short while it is mapped: as with every mapped file, reading past the new end is a bus error.
#[derive(Debug)]
pub struct MappedFile {
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`; an empty file gives an empty slice.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        if meta.len() == 0 {
            return Ok(MappedFile { map: None });
        }
        // SAFETY: the mapping is private and read-only; that nobody truncates the file meanwhile is the documented
        // condition of this type.
        let map = unsafe { Mmap::map(&file)? };
        Ok(MappedFile { map: Some(map) })
    }

    /// The file's bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }

    /// Gives the resident pages of `range` back, and those beside it that the system mapped with them; they are read again from the
    /// file when touched.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            let start = range.start / AROUND * AROUND;
            let end = range.end.div_ceil(AROUND).saturating_mul(AROUND).min(map.len());
            if end > start {
                // SAFETY: the mapping is read-only and file-backed, so dropped pages come back with the same content;
                // the range lies inside the mapping. A refusal only costs memory.
                unsafe {
                    let _ = map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start);
                }
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Tells the kernel that `range` is about to be read in order.
    pub fn will_need(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            let end = range.end.min(map.len());
            if end > range.start {
                // Advice only: a refusal changes nothing but speed.
                let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, end - range.start);
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
