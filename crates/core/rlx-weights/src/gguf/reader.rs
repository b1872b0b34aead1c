//! Reads GGUF. Every count, length and offset is checked against the bytes that are there before anything is allocated
//! for it, so that metadata takes memory in proportion to the file.

use std::collections::HashSet;
use std::path::Path;

use rlx_ir::DType;
use rlx_mem::Bytes;

use super::{DEFAULT_ALIGNMENT, GgufArray, GgufMetadata, GgufValue, MAGIC, StringArray};
use crate::error::quoted;
use crate::tensor::{TensorView, tensor_bytes};
use crate::{Cursor, WeightsError};

const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 18;
const MAX_KEY_BYTES: u64 = 65_535;
const MAX_NAME_BYTES: u64 = 1024;
const MAX_DIMS: u32 = 8;
const MAX_ALIGNMENT: u32 = 1 << 20;
/// Arrays of arrays of arrays of arrays; nobody writes even two.
const MAX_DEPTH: usize = 4;
/// Arrays inside arrays, all together: each costs more memory than the bytes that announce it.
const MAX_NESTED: usize = 1 << 16;
/// Smallest key-value pair: key length, type, one byte of value.
const MIN_PAIR_BYTES: u64 = 8 + 4 + 1;
/// Smallest tensor record: name length, dim count, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// One parsed file.
#[derive(Clone, Debug)]
pub struct GgufFile {
    /// Format version, 2 or 3.
    pub version: u32,
    /// Alignment of tensor data in bytes.
    pub alignment: usize,
    /// Where tensor data begins in the file.
    pub data_offset: usize,
    /// The key-value pairs.
    pub metadata: GgufMetadata,
    /// The tensors in the file's order; their data are slices of the bytes given to [`parse`].
    pub tensors: Vec<TensorView>,
}

/// Parses a whole file; `path` only names it in errors.
///
/// # Errors
/// [`WeightsError::Format`], [`WeightsError::Truncated`] or [`WeightsError::UnknownTensorType`].
pub fn parse(bytes: &Bytes, path: &Path) -> Result<GgufFile, WeightsError> {
    let mut cursor = Cursor::new(bytes, path);
    let header = cursor.header()?;
    let metadata = cursor.metadata(header.keys)?;
    let alignment = alignment(&metadata, path)?;
    let records = cursor.tensor_records(header.tensors)?;
    let data_offset = cursor.pos().next_multiple_of(alignment);
    check_overlap(&records, path)?;

    let mut tensors = Vec::with_capacity(records.len());
    for record in records {
        if !record.offset.is_multiple_of(alignment as u64) {
            let what = format!(
                "tensor {} at offset {} breaks the alignment of {alignment}",
                quoted(&record.name),
                record.offset
            );
            return Err(WeightsError::format(path, what));
        }
        let start = usize::try_from(record.offset).ok().and_then(|offset| offset.checked_add(data_offset));
        let end = start.and_then(|start| start.checked_add(record.bytes));
        let (Some(start), Some(end)) = (start, end) else {
            let what = format!("tensor {} lies at impossible offset {}", quoted(&record.name), record.offset);
            return Err(WeightsError::format(path, what));
        };
        let Some(data) = bytes.slice(start..end) else {
            return Err(WeightsError::Truncated {
                path: path.to_path_buf(),
                what: format!("tensor {}", quoted(&record.name)),
                at: start as u64,
                need: record.bytes as u64,
                have: bytes.len().saturating_sub(start) as u64,
            });
        };
        tensors.push(TensorView { name: record.name, dtype: record.dtype, shape: record.shape, data });
    }
    Ok(GgufFile { version: header.version, alignment, data_offset, metadata, tensors })
}

/// Parses the header and the key-value pairs only.
///
/// # Errors
/// [`WeightsError::Format`] or [`WeightsError::Truncated`].
pub fn parse_metadata(bytes: &[u8], path: &Path) -> Result<GgufMetadata, WeightsError> {
    let mut cursor = Cursor::new(bytes, path);
    let header = cursor.header()?;
    cursor.metadata(header.keys)
}

struct Header {
    version: u32,
    tensors: u64,
    keys: u64,
}

struct Record {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

fn alignment(metadata: &GgufMetadata, path: &Path) -> Result<usize, WeightsError> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    match value {
        GgufValue::U32(n) if n.is_power_of_two() && *n <= MAX_ALIGNMENT => Ok(*n as usize),
        other => {
            let what = format!("general.alignment must be a uint32 power of two up to {MAX_ALIGNMENT}, is {other:?}");
            Err(WeightsError::format(path, what.chars().take(160).collect::<String>()))
        }
    }
}

/// Two tensors must not share bytes: such a file is corrupt, or made to make one tensor change another.
fn check_overlap(records: &[Record], path: &Path) -> Result<(), WeightsError> {
    let mut order: Vec<&Record> = records.iter().filter(|record| record.bytes > 0).collect();
    order.sort_unstable_by_key(|record| record.offset);
    for pair in order.windows(2) {
        // On overflow the range check of the tensor itself has the word.
        if pair[0].offset.saturating_add(pair[0].bytes as u64) > pair[1].offset {
            let what = format!("tensors {} and {} overlap", quoted(&pair[0].name), quoted(&pair[1].name));
            return Err(WeightsError::format(path, what));
        }
    }
    Ok(())
}

/// More about type numbers that ggml once had or has and this crate does not.
fn type_hint(id: u32) -> &'static str {
    match id {
        4 | 5 => " (Q4_2 and Q4_3 were removed from ggml: quantise the model again)",
        31..=33 => " (Q4_0_4_4, Q4_0_4_8 and Q4_0_8_8 were removed from ggml: use the Q4_0 file)",
        36..=38 => " (IQ4_NL_4_4, _4_8 and _8_8 were removed from ggml: use the IQ4_NL file)",
        _ => " (a newer format, or a corrupt file)",
    }
}

impl<'a> Cursor<'a> {
    fn header(&mut self) -> Result<Header, WeightsError> {
        if self.left() == 0 {
            return self.bad("file is empty");
        }
        let magic: [u8; 4] = self.array("magic")?;
        if magic != MAGIC {
            return match &magic {
                b"FUGG" => self.bad("big-endian GGUF is not supported: convert the model again for little-endian"),
                b"lmgg" | b"fmgg" | b"tjgg" | b"algg" => {
                    self.bad("GGML, GGMF and GGJT files are older than GGUF and not supported: convert the model again")
                }
                _ => self.bad(format!("not a GGUF file: starts with {}", quoted(&magic.escape_ascii().to_string()))),
            };
        }
        let version = self.u32("version")?;
        match version {
            2 | 3 => {}
            1 => return self.bad("GGUF version 1 is not supported: convert the model again (current is 3)"),
            v if v != 0 && v.is_multiple_of(1 << 16) => {
                return self.bad("big-endian GGUF is not supported: convert the model again for little-endian");
            }
            v => return self.bad(format!("GGUF version {v} is not supported (known: 2 and 3)")),
        }
        let tensors = self.u64("tensor count")?;
        let keys = self.u64("metadata count")?;
        if tensors > MAX_TENSORS || tensors * MIN_TENSOR_BYTES > self.left() {
            return self.bad(format!("header announces {tensors} tensors, more than the file can hold"));
        }
        if keys > MAX_KEYS || keys * MIN_PAIR_BYTES > self.left() {
            return self.bad(format!("header announces {keys} metadata keys, more than the file can hold"));
        }
        Ok(Header { version, tensors, keys })
    }

    fn string(&mut self, max: u64, what: &str) -> Result<&'a [u8], WeightsError> {
        let len = self.u64(what)?;
        if len > max.min(self.left()) {
            if len <= max {
                return Err(self.truncated(what, len));
            }
            return self.bad(format!("{what} at offset {} announces {len} bytes", self.pos()));
        }
        self.take(len, what)
    }

    fn metadata(&mut self, count: u64) -> Result<GgufMetadata, WeightsError> {
        let (mut entries, mut nested) = (Vec::new(), 0);
        for _ in 0..count {
            let key = match std::str::from_utf8(self.string(MAX_KEY_BYTES, "metadata key")?) {
                Ok(key) if !key.is_empty() => key.to_owned(),
                _ => return self.bad(format!("metadata key {} is empty or not UTF-8", entries.len())),
            };
            let kind = self.u32("type of a metadata value")?;
            let value = self.value(kind, &key, &mut nested)?;
            entries.push((key, value));
        }
        entries.shrink_to_fit();
        GgufMetadata::from_entries(entries)
            .or_else(|key| self.bad(format!("metadata key {} comes twice", quoted(&key))))
    }

    fn value(&mut self, kind: u32, key: &str, nested: &mut usize) -> Result<GgufValue, WeightsError> {
        const WHAT: &str = "a metadata value";
        Ok(match kind {
            0 => GgufValue::U8(u8::from_le_bytes(self.array(WHAT)?)),
            1 => GgufValue::I8(i8::from_le_bytes(self.array(WHAT)?)),
            2 => GgufValue::U16(u16::from_le_bytes(self.array(WHAT)?)),
            3 => GgufValue::I16(i16::from_le_bytes(self.array(WHAT)?)),
            4 => GgufValue::U32(self.u32(WHAT)?),
            5 => GgufValue::I32(i32::from_le_bytes(self.array(WHAT)?)),
            6 => GgufValue::F32(f32::from_le_bytes(self.array(WHAT)?)),
            7 => GgufValue::Bool(self.array::<1>(WHAT)?[0] != 0),
            8 => GgufValue::String(String::from_utf8_lossy(self.string(u64::MAX, WHAT)?).into_owned()),
            9 => GgufValue::Array(self.array_value(key, 1, nested)?),
            10 => GgufValue::U64(self.u64(WHAT)?),
            11 => GgufValue::I64(i64::from_le_bytes(self.array(WHAT)?)),
            12 => GgufValue::F64(f64::from_le_bytes(self.array(WHAT)?)),
            _ => return self.bad(format!("metadata key {} has unknown value type {kind}", quoted(key))),
        })
    }

    fn numbers<const N: usize, T>(&mut self, count: u64, value: impl Fn([u8; N]) -> T) -> Result<Vec<T>, WeightsError> {
        let Some(bytes) = count.checked_mul(N as u64) else {
            return Err(self.truncated("a metadata array", u64::MAX));
        };
        Ok(self.take(bytes, "a metadata array")?.as_chunks::<N>().0.iter().map(|&bytes| value(bytes)).collect())
    }

    fn array_value(&mut self, key: &str, depth: usize, nested: &mut usize) -> Result<GgufArray, WeightsError> {
        let kind = self.u32("type of an array")?;
        let count = self.u64("length of an array")?;
        Ok(match kind {
            0 => GgufArray::U8(self.numbers(count, u8::from_le_bytes)?),
            1 => GgufArray::I8(self.numbers(count, i8::from_le_bytes)?),
            2 => GgufArray::U16(self.numbers(count, u16::from_le_bytes)?),
            3 => GgufArray::I16(self.numbers(count, i16::from_le_bytes)?),
            4 => GgufArray::U32(self.numbers(count, u32::from_le_bytes)?),
            5 => GgufArray::I32(self.numbers(count, i32::from_le_bytes)?),
            6 => GgufArray::F32(self.numbers(count, f32::from_le_bytes)?),
            7 => GgufArray::Bool(self.numbers(count, |[b]: [u8; 1]| b != 0)?),
            8 => GgufArray::String(self.strings(count)?),
            9 if depth >= MAX_DEPTH => {
                return self.bad(format!("metadata key {} nests arrays deeper than {MAX_DEPTH}", quoted(key)));
            }
            9 => {
                let mut arrays = Vec::new();
                for _ in 0..count {
                    *nested += 1;
                    if *nested > MAX_NESTED {
                        return self.bad(format!("metadata key {}: more than {MAX_NESTED} nested arrays", quoted(key)));
                    }
                    arrays.push(self.array_value(key, depth + 1, nested)?);
                }
                GgufArray::Array(arrays)
            }
            10 => GgufArray::U64(self.numbers(count, u64::from_le_bytes)?),
            11 => GgufArray::I64(self.numbers(count, i64::from_le_bytes)?),
            12 => GgufArray::F64(self.numbers(count, f64::from_le_bytes)?),
            _ => return self.bad(format!("metadata key {} has unknown array type {kind}", quoted(key))),
        })
    }

    /// Measures first, so that the two vectors are allocated once and no larger than the array in the file.
    fn strings(&mut self, count: u64) -> Result<StringArray, WeightsError> {
        const WHAT: &str = "an array of strings";
        if count > self.left() / 8 {
            return Err(self.truncated(WHAT, count.saturating_mul(8)));
        }
        let start = self.pos();
        let mut bytes = 0;
        for _ in 0..count {
            bytes += self.string(u64::MAX, WHAT)?.len();
        }
        self.seek(start);
        let mut strings = StringArray::with_capacity(count as usize, bytes);
        for _ in 0..count {
            // Token pieces that are no UTF-8 by themselves occur in old files; they must not keep a model from loading.
            strings.push(&String::from_utf8_lossy(self.string(u64::MAX, WHAT)?));
        }
        Ok(strings)
    }

    fn tensor_records(&mut self, count: u64) -> Result<Vec<Record>, WeightsError> {
        let mut records = Vec::new();
        for i in 0..count {
            let name = match std::str::from_utf8(self.string(MAX_NAME_BYTES, "name of a tensor")?) {
                Ok(name) if !name.is_empty() => name.to_owned(),
                _ => return self.bad(format!("name of tensor {i} is empty or not UTF-8")),
            };
            let dims = self.u32("dim count of a tensor")?;
            if dims > MAX_DIMS {
                return self
                    .bad(format!("tensor {} announces {dims} dims, at most {MAX_DIMS} are allowed", quoted(&name)));
            }
            let mut shape = Vec::with_capacity(dims as usize);
            for _ in 0..dims {
                let dim = self.u64("dims of a tensor")?;
                match usize::try_from(dim) {
                    Ok(dim) if dim <= isize::MAX as usize => shape.push(dim),
                    _ => return self.bad(format!("tensor {} has impossible dim {dim}", quoted(&name))),
                }
            }
            // ggml writes the innermost dim first.
            shape.reverse();
            let id = self.u32("type of a tensor")?;
            let Some(dtype) = DType::from_ggml_id(id) else {
                let path = self.path().to_path_buf();
                return Err(WeightsError::UnknownTensorType { path, tensor: name, id, hint: type_hint(id) });
            };
            let offset = self.u64("offset of a tensor")?;
            let bytes = match tensor_bytes(dtype, &shape) {
                Ok(bytes) => bytes,
                Err(what) => return self.bad(format!("tensor {} {what}", quoted(&name))),
            };
            records.push(Record { name, dtype, shape, offset, bytes });
        }
        let mut seen = HashSet::with_capacity(records.len());
        if let Some(twice) = records.iter().find(|record| !seen.insert(record.name.as_str())) {
            return self.bad(format!("tensor {} comes twice", quoted(&twice.name)));
        }
        Ok(records)
    }
}
