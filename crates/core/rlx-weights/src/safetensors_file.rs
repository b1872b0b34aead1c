//! safetensors: 8 bytes header length, a JSON header, the data. The same rules as the reference implementation: header up
//! to 100 MB, offsets in order without gaps or overlaps, the data used up to the last byte.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rlx_ir::DType;
use rlx_mem::Bytes;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::WeightsError;
use crate::error::quoted;
use crate::tensor::{TensorView, tensor_bytes};

const MAX_HEADER_BYTES: u64 = 100_000_000;
const MAX_TENSORS: usize = 1 << 18;
const MAX_DIMS: usize = 8;
const MAX_NAME_BYTES: usize = 4096;

/// One parsed file.
#[derive(Clone, Debug)]
pub struct SafetensorsFile {
    /// The free-form `__metadata__` strings.
    pub metadata: BTreeMap<String, String>,
    /// The tensors in order of their data, which are slices of the bytes given to [`parse`].
    pub tensors: Vec<TensorView>,
}

/// Parses a whole file; `path` only names it in errors.
///
/// # Errors
/// [`WeightsError::Format`], [`WeightsError::Truncated`] or [`WeightsError::UnsupportedDtype`].
pub fn parse(bytes: &Bytes, path: &Path) -> Result<SafetensorsFile, WeightsError> {
    let bad = |what: String| Err(WeightsError::format(path, what));
    let truncated = |what: String, at: u64, need: u64| {
        let have = (bytes.len() as u64).saturating_sub(at);
        WeightsError::Truncated { path: path.to_path_buf(), what, at, need, have }
    };
    if bytes.is_empty() {
        return bad("file is empty".into());
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(truncated("the header length".into(), 0, 8));
    };
    let header_len = u64::from_le_bytes(*length);
    if header_len > MAX_HEADER_BYTES {
        return bad(format!("not a safetensors file: header of {header_len} bytes (at most {MAX_HEADER_BYTES})"));
    }
    let Some(header) = rest.get(..header_len as usize) else {
        return Err(truncated("the header".into(), 8, header_len));
    };
    if header.first() != Some(&b'{') {
        return bad("not a safetensors file: the header is no JSON object".into());
    }
    let header: Header = match serde_json::from_slice(header) {
        Ok(header) => header,
        Err(e) => {
            let e: String = e.to_string().chars().take(200).collect();
            return bad(format!("bad safetensors header: {}", e.escape_debug()));
        }
    };

    let base = 8 + header_len as usize;
    let data_len = bytes.len() - base;
    let mut entries = header.entries;
    let mut seen = HashSet::with_capacity(entries.len());
    if let Some((twice, _)) = entries.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return bad(format!("tensor {} comes twice", quoted(twice)));
    }
    drop(seen);
    entries.sort_by_key(|(_, entry)| entry.data_offsets);

    let mut tensors = Vec::with_capacity(entries.len());
    let mut expected = 0u64;
    for (name, entry) in entries {
        let [begin, end] = entry.data_offsets;
        let shown = quoted(&name);
        if begin != expected || end < begin {
            return bad(format!("tensor {shown} has offsets {begin}..{end}, expected it to begin at {expected}"));
        }
        let Some(dtype) = dtype_from_name(&entry.dtype) else {
            drop(shown);
            return Err(WeightsError::UnsupportedDtype { path: path.to_path_buf(), tensor: name, dtype: entry.dtype });
        };
        let need = match tensor_bytes(dtype, &entry.shape.0) {
            Ok(need) => need as u64,
            Err(what) => return bad(format!("tensor {shown} {what}")),
        };
        if need != end - begin {
            let shape = entry.shape.0;
            return bad(format!("tensor {shown} ({dtype} {shape:?}) needs {need} bytes, has {}", end - begin));
        }
        if end > data_len as u64 {
            return Err(truncated(format!("tensor {shown}"), base as u64 + begin, need));
        }
        let Some(data) = bytes.slice(base + begin as usize..base + end as usize) else {
            return Err(truncated(format!("tensor {shown}"), base as u64 + begin, need));
        };
        drop(shown);
        tensors.push(TensorView { name, dtype, shape: entry.shape.0, data });
        expected = end;
    }
    if expected != data_len as u64 {
        return bad(format!("{} bytes after the last tensor belong to none", data_len as u64 - expected));
    }
    Ok(SafetensorsFile { metadata: header.metadata, tensors })
}

fn dtype_from_name(name: &str) -> Option<DType> {
    Some(match name {
        "F64" => DType::F64,
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "I64" => DType::I64,
        "I32" => DType::I32,
        "I16" => DType::I16,
        "I8" => DType::I8,
        "U8" => DType::U8,
        "BOOL" => DType::Bool,
        _ => return None,
    })
}

#[derive(Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    entries: Vec<(String, Entry)>,
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: String,
    shape: Dims,
    data_offsets: [u64; 2],
}

struct Dims(Vec<usize>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Header, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                        continue;
                    }
                    if name.len() > MAX_NAME_BYTES || header.entries.len() == MAX_TENSORS {
                        return Err(A::Error::custom("too many tensors, or too long a name"));
                    }
                    let entry = map.next_value()?;
                    header.entries.push((name, entry));
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Dims, D::Error> {
        struct DimsVisitor;
        impl<'de> Visitor<'de> for DimsVisitor {
            type Value = Dims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_DIMS} dims")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::new();
                while let Some(dim) = seq.next_element::<usize>()? {
                    if dims.len() == MAX_DIMS {
                        return Err(A::Error::invalid_length(MAX_DIMS + 1, &self));
                    }
                    dims.push(dim);
                }
                Ok(Dims(dims))
            }
        }
        deserializer.deserialize_seq(DimsVisitor)
    }
}

/// A tensor to be written: name, dtype, row-major shape, little-endian data.
pub type SafetensorsEntry<'a> = (&'a str, DType, &'a [usize], &'a [u8]);

/// Writes a safetensors file. Larger element types come first, so that every tensor is aligned.
///
/// # Errors
/// [`WeightsError::Usage`] for a name that comes twice, a block type, or data of the wrong length; [`WeightsError::Io`].
pub fn write_safetensors(path: &Path, tensors: &[SafetensorsEntry<'_>]) -> Result<(), WeightsError> {
    let mut order: Vec<&SafetensorsEntry<'_>> = tensors.iter().collect();
    order.sort_by_key(|(_, dtype, _, _)| std::cmp::Reverse(dtype.block_bytes()));
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for (name, dtype, shape, data) in &order {
        let bad = |what: String| WeightsError::Usage(format!("cannot write tensor {}: {what}", quoted(name)));
        if dtype_from_name(dtype.name()) != Some(*dtype) {
            return Err(bad(format!("safetensors has no type {dtype}")));
        }
        let need = tensor_bytes(*dtype, shape).map_err(|what| bad(format!("it {what}")))?;
        if need != data.len() {
            return Err(bad(format!("{dtype} {shape:?} needs {need} bytes, {} were given", data.len())));
        }
        let entry = serde_json::json!({
            "dtype": dtype.name(), "shape": shape, "data_offsets": [offset, offset + need],
        });
        if *name == "__metadata__" || header.insert((*name).to_owned(), entry).is_some() {
            return Err(bad("the name is taken".into()));
        }
        offset += need;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, _, _, data) in &order {
            file.write_all(data)?;
        }
        file.flush()
    };
    write().map_err(|source| WeightsError::io(path, source))
}
