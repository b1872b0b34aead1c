//! NumPy's `.npy`, versions 1 to 3 (numpy.lib.format).

use std::collections::BTreeMap;
use std::path::Path;

use rlx_ir::DType;
use rlx_mem::Bytes;
use rlx_weights::quoted;

use super::VectorIndex;
use crate::VectorsError;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// NumPy itself refuses headers above 10,000 bytes.
const MAX_HEADER_BYTES: usize = 10_000;

pub(super) fn open(bytes: &Bytes, path: &Path) -> Result<VectorIndex, VectorsError> {
    let bad = |what: String| VectorsError::file(path, what);
    let cut = || bad("the .npy file is cut short in its header".into());
    let length_bytes = match bytes.get(6) {
        Some(1) => 2,
        Some(2 | 3) => 4,
        Some(version) => return Err(bad(format!(".npy version {version} is not known"))),
        None => return Err(cut()),
    };
    let begin = 8 + length_bytes;
    let length = bytes.get(8..begin).ok_or_else(cut)?.iter().rev().fold(0usize, |n, &byte| n << 8 | usize::from(byte));
    if length > MAX_HEADER_BYTES {
        return Err(bad(format!("the .npy header has {length} bytes, more than {MAX_HEADER_BYTES}")));
    }
    let header = bytes.get(begin..begin + length).ok_or_else(cut)?;
    let header = Header::parse(header).map_err(|what| bad(format!("bad .npy header: {what}")))?;
    let dtype = match header.descr.as_str() {
        "<f4" => DType::F32,
        "<f2" => DType::F16,
        "<f8" => DType::F64,
        other => {
            let what =
                format!("elements of type {} are not supported: convert them with .astype('<f4')", quoted(other));
            return Err(bad(what));
        }
    };
    let (rows, dims) = match header.shape.as_slice() {
        &[dims] => (1, dims),
        &[rows, dims] => (rows, dims),
        shape => return Err(bad(format!("an array of shape {shape:?}, not [rows, dims]"))),
    };
    if header.fortran_order && rows > 1 && dims > 1 {
        return Err(bad("the array is in Fortran order: save np.ascontiguousarray(array)".into()));
    }
    let row = dims.checked_mul(dtype.block_bytes());
    let need = row.and_then(|row| row.checked_mul(rows)).ok_or_else(|| bad("an absurd shape".into()))?;
    let data = bytes.slice(begin + length..bytes.len()).ok_or_else(cut)?;
    if data.len() < need {
        let whole = data.len() / row.unwrap_or(1).max(1);
        return Err(bad(format!("the file is cut short: {whole} of {rows} rows are there (make it again)")));
    }
    if data.len() > need {
        return Err(bad(format!("{} bytes after the array belong to nothing", data.len() - need)));
    }
    Ok(VectorIndex { data, dtype, rows, dims, texts: None, metadata: BTreeMap::new() })
}

/// The dict of a header: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn parse(text: &[u8]) -> Result<Header, String> {
        let mut rest = Literal(text);
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        rest.expect(b'{')?;
        while !rest.take(b'}') {
            let key = rest.string()?;
            rest.expect(b':')?;
            match key.as_str() {
                "descr" => descr = Some(rest.string().map_err(|what| format!("the type of its elements: {what}"))?),
                "fortran_order" => fortran_order = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                other => return Err(format!("unknown key {}", quoted(other))),
            }
            if !rest.take(b',') {
                rest.expect(b'}')?;
                break;
            }
        }
        rest.skip_space();
        if !rest.0.is_empty() {
            return Err("something follows the dict".into());
        }
        let missing = |key: &str| format!("no `{key}`");
        Ok(Header {
            descr: descr.ok_or_else(|| missing("descr"))?,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
        })
    }
}

/// What is left of a Python literal.
struct Literal<'a>(&'a [u8]);

impl Literal<'_> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        match self.0.split_first() {
            Some((&first, rest)) if first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(format!("`{}` is missing", char::from(byte))) }
    }

    /// A string without escapes.
    fn string(&mut self) -> Result<String, String> {
        self.skip_space();
        let quote = match self.0.first() {
            Some(&quote @ (b'\'' | b'"')) => quote,
            _ => return Err("a string is missing".into()),
        };
        let body = &self.0[1..];
        let end = body.iter().position(|&byte| byte == quote).ok_or("a string is not closed")?;
        self.0 = &body[end + 1..];
        Ok(String::from_utf8_lossy(&body[..end]).into_owned())
    }

    fn boolean(&mut self) -> Result<bool, String> {
        self.skip_space();
        for (word, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err("True or False is missing".into())
    }

    /// Whole numbers in parentheses; Python 2 wrote `3L`.
    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        const MAX_DIMS: usize = 32;
        let mut numbers = Vec::new();
        self.expect(b'(')?;
        while !self.take(b')') {
            self.skip_space();
            let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = std::str::from_utf8(&self.0[..digits]).ok().and_then(|digits| digits.parse().ok());
            numbers.push(number.ok_or("a dimension is no whole number that fits")?);
            if numbers.len() > MAX_DIMS {
                return Err("too many dimensions".into());
            }
            self.0 = &self.0[digits..];
            self.0 = self.0.strip_prefix(b"L").unwrap_or(self.0);
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(numbers)
    }
}
