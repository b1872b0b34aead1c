//! Shared slices of mapped files and of owned memory.

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::{AlignedBuf, MappedFile};

#[derive(Clone, Debug)]
enum Owner {
    Mapped(Arc<MappedFile>),
    Aligned(Arc<AlignedBuf<u8>>),
}

/// A shared, immutable slice of bytes; clones and sub-slices share the owner.
#[derive(Clone, Debug)]
pub struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

impl Bytes {
    /// The whole of a mapped file.
    pub fn from_mapped(file: Arc<MappedFile>) -> Bytes {
        let range = 0..file.as_slice().len();
        Bytes { owner: Owner::Mapped(file), range }
    }

    /// A copy of `data` in 64-byte aligned memory.
    pub fn copy_from(data: &[u8]) -> Bytes {
        Bytes::from(AlignedBuf::from_slice(data))
    }

    /// The part `range` of this slice, or `None` if it reaches beyond the end.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Bytes { owner: self.owner.clone(), range: start..start + range.len() })
    }

    /// If the bytes are a mapped file's, gives their resident pages back (see [`MappedFile::release`]).
    pub fn release(&self) {
        if let Owner::Mapped(file) = &self.owner {
            file.release(self.range.clone());
        }
    }

    /// If the bytes are a mapped file's, asks for them to be read ahead.
    pub fn will_need(&self) {
        if let Owner::Mapped(file) = &self.owner {
            file.will_need(self.range.clone());
        }
    }
}

impl From<AlignedBuf<u8>> for Bytes {
    fn from(buf: AlignedBuf<u8>) -> Bytes {
        let range = 0..buf.len();
        Bytes { owner: Owner::Aligned(Arc::new(buf)), range }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.owner {
            Owner::Mapped(file) => file.as_slice(),
            Owner::Aligned(buf) => buf,
        };
        &all[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_and_check_bounds() {
        let bytes = Bytes::copy_from(&[1, 2, 3, 4, 5]);
        let part = bytes.slice(1..4).unwrap();
        assert_eq!(&*part, &[2, 3, 4]);
        assert_eq!(&*part.slice(1..2).unwrap(), &[3]);
        assert!(part.slice(2..4).is_none());
    }

    #[test]
    fn mapped_pages_come_back_after_release() {
        let path = std::env::temp_dir().join(format!("rlx-mem-{}", std::process::id()));
        let data: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let bytes = Bytes::from_mapped(Arc::new(MappedFile::open(&path).unwrap()));
        assert_eq!(&*bytes, &data[..]);
        bytes.release();
        assert_eq!(&*bytes, &data[..]);
        std::fs::remove_file(&path).unwrap();
    }
}
