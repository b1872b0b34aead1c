//! Bytes of a file, taken from the front: what readers of binary formats are written with.

use std::path::Path;

use crate::WeightsError;

/// Takes little-endian numbers and stretches of bytes one after the other. Nothing is believed that the file does not hold.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    data: &'a [u8],
    pos: usize,
    path: &'a Path,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte; `path` only names the file in errors.
    pub fn new(data: &'a [u8], path: &'a Path) -> Cursor<'a> {
        Cursor { data, pos: 0, path }
    }

    /// The file.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Bytes taken so far.
    pub fn pos(&self) -> usize {
        self.pos
    }

    /// Goes back (or on) to a position.
    pub(crate) fn seek(&mut self, pos: usize) {
        self.pos = pos.min(self.data.len());
    }

    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        (self.data.len() - self.pos) as u64
    }

    /// An error: the file breaks its format.
    ///
    /// # Errors
    /// Always.
    pub fn bad<T>(&self, what: impl Into<String>) -> Result<T, WeightsError> {
        Err(WeightsError::format(self.path, what))
    }

    pub(crate) fn truncated(&self, what: impl Into<String>, need: u64) -> WeightsError {
        WeightsError::Truncated {
            path: self.path.to_path_buf(),
            what: what.into(),
            at: self.pos as u64,
            need,
            have: self.left(),
        }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`WeightsError::Truncated`], which says that `what` is not there.
    pub fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], WeightsError> {
        if n > self.left() {
            return Err(self.truncated(what, n));
        }
        let part = &self.data[self.pos..self.pos + n as usize];
        self.pos += n as usize;
        Ok(part)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], WeightsError> {
        let bytes = self.take(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(bytes);
        Ok(out)
    }

    /// The next u32.
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn u32(&mut self, what: &str) -> Result<u32, WeightsError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// The next u64.
    ///
    /// # Errors
    /// As [`Cursor::take`].
    pub fn u64(&mut self, what: &str) -> Result<u64, WeightsError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }
}
