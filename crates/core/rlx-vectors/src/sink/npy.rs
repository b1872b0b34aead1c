//! NumPy's `.npy`, version 1.0: magic, header length, a Python dict, the data.

use std::path::Path;

use super::whole::HeaderFirst;
use super::{SinkOptions, VectorSink, check, write_f32s};
use crate::{Text, VectorsError};

/// Bytes before the data: a multiple of 64, as the format asks; the dict with two numbers of 20 digits takes 109.
const HEADER_BYTES: usize = 128;

/// F32 `[rows, dims]`.
pub(super) struct Npy {
    file: HeaderFirst,
    dims: usize,
    rows: u64,
}

impl Npy {
    pub(super) fn create(path: &Path, options: &SinkOptions) -> Result<Npy, VectorsError> {
        if options.texts {
            let what = format!("{}: .npy files hold numbers only; write the texts with .safetensors", path.display());
            return Err(VectorsError::Usage(what));
        }
        Ok(Npy { file: HeaderFirst::create(path, HEADER_BYTES)?, dims: options.dims, rows: 0 })
    }
}

impl VectorSink for Npy {
    fn write(&mut self, texts: &[Text], vectors: &[f32]) -> Result<(), VectorsError> {
        check(texts, vectors, self.dims)?;
        self.rows += texts.len() as u64;
        self.file.write(|file| write_f32s(file, vectors))
    }

    fn finish(self: Box<Self>) -> Result<(), VectorsError> {
        self.file.finish(&header(self.rows, self.dims))
    }
}

fn header(rows: u64, dims: usize) -> [u8; HEADER_BYTES] {
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dims}), }}");
    let mut header = [b' '; HEADER_BYTES];
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8..10].copy_from_slice(&(HEADER_BYTES as u16 - 10).to_le_bytes());
    header[10..10 + dict.len()].copy_from_slice(dict.as_bytes());
    header[HEADER_BYTES - 1] = b'\n';
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_numbers_fit() {
        let header = header(u64::MAX, usize::MAX);
        assert_eq!(header[HEADER_BYTES - 1], b'\n');
        assert!(String::from_utf8_lossy(&header).contains(&format!("({0}, {0}), }}", u64::MAX)));
    }
}
