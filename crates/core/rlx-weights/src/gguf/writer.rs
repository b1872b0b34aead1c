//! Writes GGUF version 3 in bounded memory: declare keys and tensors, then stream the data in that order.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rlx_ir::DType;

use super::{DEFAULT_ALIGNMENT, GgufArray, GgufMetadata, GgufValue, MAGIC};
use crate::WeightsError;
use crate::error::quoted;
use crate::tensor::tensor_bytes;

const VERSION: u32 = 3;

/// A file to be: its metadata and the list of its tensors.
///
/// ```no_run
/// # use rlx_weights::{gguf::GgufWriter, WeightsError}; use rlx_ir::DType;
/// # fn main() -> Result<(), WeightsError> {
/// let mut writer = GgufWriter::new("llama");
/// writer.set("llama.block_count", 1u32);
/// writer.add_tensor("output_norm.weight", DType::F32, &[2])?;
/// let mut stream = writer.create("model.gguf".as_ref())?;
/// stream.write(&1.0f32.to_le_bytes())?; // in pieces of any size
/// stream.write(&2.0f32.to_le_bytes())?;
/// stream.finish()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct GgufWriter {
    metadata: GgufMetadata,
    tensors: Vec<Planned>,
    names: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Planned {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    bytes: usize,
}

impl GgufWriter {
    /// A file with `general.architecture` alone.
    pub fn new(architecture: &str) -> GgufWriter {
        let mut metadata = GgufMetadata::default();
        metadata.set("general.architecture", architecture);
        GgufWriter::from_metadata(metadata)
    }

    /// A file with this metadata, say that of a file to be rewritten.
    pub fn from_metadata(metadata: GgufMetadata) -> GgufWriter {
        GgufWriter { metadata, tensors: Vec::new(), names: HashSet::new() }
    }

    /// Sets a key. `general.alignment` (u32) is obeyed; without it tensors lie on multiples of 32.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<GgufValue>) -> &mut GgufWriter {
        self.metadata.set(key, value);
        self
    }

    /// The metadata as it stands.
    pub fn metadata(&self) -> &GgufMetadata {
        &self.metadata
    }

    /// Declares the next tensor; `shape` is row-major, outermost dim first.
    ///
    /// # Errors
    /// [`WeightsError::Usage`] if the name is taken or too long for llama.cpp (63 bytes), there are more than 4 dims, ggml
    /// has no such type, or rows are no whole blocks.
    pub fn add_tensor(&mut self, name: &str, dtype: DType, shape: &[usize]) -> Result<&mut GgufWriter, WeightsError> {
        let bad = |what: String| WeightsError::Usage(format!("cannot write tensor {}: {what}", quoted(name)));
        if name.is_empty() || name.len() > 63 {
            return Err(bad(format!("names have 1 to 63 bytes, this has {}", name.len())));
        }
        if shape.len() > 4 {
            return Err(bad(format!("GGUF holds up to 4 dims, shape is {shape:?}")));
        }
        if dtype.ggml_id().is_none() {
            return Err(bad(format!("ggml has no type {dtype}")));
        }
        let bytes = tensor_bytes(dtype, shape).map_err(|what| bad(format!("it {what}")))?;
        if !self.names.insert(name.to_owned()) {
            return Err(bad("the name is taken".into()));
        }
        self.tensors.push(Planned { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes });
        Ok(self)
    }

    /// Creates the file and writes everything but tensor data.
    ///
    /// # Errors
    /// As [`GgufWriter::start`].
    pub fn create(self, path: &Path) -> Result<GgufStream<BufWriter<File>>, WeightsError> {
        let file = File::create(path).map_err(|source| WeightsError::io(path, source))?;
        self.start_at(BufWriter::with_capacity(1 << 20, file), path.to_path_buf())
    }

    /// Writes everything but tensor data to `sink`.
    ///
    /// # Errors
    /// [`WeightsError::Io`] from the sink, [`WeightsError::Usage`] if `general.alignment` is no u32 power of two.
    pub fn start<W: Write>(self, sink: W) -> Result<GgufStream<W>, WeightsError> {
        self.start_at(sink, PathBuf::from("GGUF output"))
    }

    fn start_at<W: Write>(self, mut sink: W, path: PathBuf) -> Result<GgufStream<W>, WeightsError> {
        let alignment = match self.metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(&GgufValue::U32(n)) if n.is_power_of_two() => n as usize,
            Some(_) => return Err(WeightsError::Usage("general.alignment must be a u32 power of two".into())),
        };
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in self.metadata.iter() {
            put_string(&mut header, key);
            header.extend(value_type(value).to_le_bytes());
            put_value(&mut header, value);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            put_string(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            for &dim in tensor.shape.iter().rev() {
                header.extend((dim as u64).to_le_bytes());
            }
            // add_tensor has checked that there is an id.
            header.extend(tensor.dtype.ggml_id().unwrap_or(u32::MAX).to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += tensor.bytes.next_multiple_of(alignment) as u64;
        }
        header.resize(header.len().next_multiple_of(alignment), 0);
        sink.write_all(&header).map_err(|source| WeightsError::io(&path, source))?;
        let mut stream = GgufStream { sink, path, tensors: self.tensors, alignment, next: 0, written: 0 };
        stream.skip_empty();
        Ok(stream)
    }
}

/// Tensor data on its way into a file; see [`GgufWriter`].
#[derive(Debug)]
#[must_use = "the file is complete only after finish()"]
pub struct GgufStream<W: Write> {
    sink: W,
    path: PathBuf,
    tensors: Vec<Planned>,
    alignment: usize,
    next: usize,
    written: usize,
}

impl<W: Write> GgufStream<W> {
    /// Name, dtype and shape of the tensor whose data comes next.
    pub fn current(&self) -> Option<(&str, DType, &[usize])> {
        self.tensors.get(self.next).map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice()))
    }

    /// Writes the next bytes of the current tensor: the whole of it or a piece, but not across its end.
    ///
    /// # Errors
    /// [`WeightsError::Usage`] for more bytes than the tensor has, [`WeightsError::Io`] from the sink.
    pub fn write(&mut self, data: &[u8]) -> Result<(), WeightsError> {
        if data.is_empty() {
            return Ok(());
        }
        let Some(tensor) = self.tensors.get(self.next) else {
            return Err(WeightsError::Usage("all tensors are written already".into()));
        };
        if data.len() > tensor.bytes - self.written {
            let name = quoted(&tensor.name);
            return Err(WeightsError::Usage(format!("tensor {name} has {} bytes, more were written", tensor.bytes)));
        }
        let padding = tensor.bytes.next_multiple_of(self.alignment) - tensor.bytes;
        self.written += data.len();
        let complete = self.written == tensor.bytes;
        let result = (|| -> io::Result<()> {
            self.sink.write_all(data)?;
            let mut left = if complete { padding } else { 0 };
            while left > 0 {
                let n = left.min(256);
                self.sink.write_all(&[0; 256][..n])?;
                left -= n;
            }
            Ok(())
        })();
        result.map_err(|source| WeightsError::io(&self.path, source))?;
        if complete {
            self.next += 1;
            self.written = 0;
            self.skip_empty();
        }
        Ok(())
    }

    fn skip_empty(&mut self) {
        while self.tensors.get(self.next).is_some_and(|tensor| tensor.bytes == 0) {
            self.next += 1;
        }
    }

    /// Flushes and gives the sink back.
    ///
    /// # Errors
    /// [`WeightsError::Usage`] if data is missing, [`WeightsError::Io`] from the sink.
    pub fn finish(mut self) -> Result<W, WeightsError> {
        if let Some(tensor) = self.tensors.get(self.next) {
            return Err(WeightsError::Usage(format!("data of tensor {} is not complete", quoted(&tensor.name))));
        }
        self.sink.flush().map_err(|source| WeightsError::io(&self.path, source))?;
        Ok(self.sink)
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn value_type(value: &GgufValue) -> u32 {
    match value {
        GgufValue::U8(_) => 0,
        GgufValue::I8(_) => 1,
        GgufValue::U16(_) => 2,
        GgufValue::I16(_) => 3,
        GgufValue::U32(_) => 4,
        GgufValue::I32(_) => 5,
        GgufValue::F32(_) => 6,
        GgufValue::Bool(_) => 7,
        GgufValue::String(_) => 8,
        GgufValue::Array(_) => 9,
        GgufValue::U64(_) => 10,
        GgufValue::I64(_) => 11,
        GgufValue::F64(_) => 12,
    }
}

fn put_value(out: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::U8(v) => out.push(*v),
        GgufValue::I8(v) => out.extend(v.to_le_bytes()),
        GgufValue::U16(v) => out.extend(v.to_le_bytes()),
        GgufValue::I16(v) => out.extend(v.to_le_bytes()),
        GgufValue::U32(v) => out.extend(v.to_le_bytes()),
        GgufValue::I32(v) => out.extend(v.to_le_bytes()),
        GgufValue::F32(v) => out.extend(v.to_le_bytes()),
        GgufValue::Bool(v) => out.push(u8::from(*v)),
        GgufValue::String(v) => put_string(out, v),
        GgufValue::Array(v) => put_array(out, v),
        GgufValue::U64(v) => out.extend(v.to_le_bytes()),
        GgufValue::I64(v) => out.extend(v.to_le_bytes()),
        GgufValue::F64(v) => out.extend(v.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &GgufArray) {
    macro_rules! numbers {
        ($id:expr, $values:expr) => {{
            put_array_header(out, $id, $values.len());
            for value in $values {
                out.extend(value.to_le_bytes());
            }
        }};
    }
    match array {
        GgufArray::U8(v) => numbers!(0, v),
        GgufArray::I8(v) => numbers!(1, v),
        GgufArray::U16(v) => numbers!(2, v),
        GgufArray::I16(v) => numbers!(3, v),
        GgufArray::U32(v) => numbers!(4, v),
        GgufArray::I32(v) => numbers!(5, v),
        GgufArray::F32(v) => numbers!(6, v),
        GgufArray::Bool(v) => {
            put_array_header(out, 7, v.len());
            out.extend(v.iter().map(|&b| u8::from(b)));
        }
        GgufArray::String(v) => {
            put_array_header(out, 8, v.len());
            for text in v.iter() {
                put_string(out, text);
            }
        }
        GgufArray::Array(v) => {
            put_array_header(out, 9, v.len());
            for inner in v {
                put_array(out, inner);
            }
        }
        GgufArray::U64(v) => numbers!(10, v),
        GgufArray::I64(v) => numbers!(11, v),
        GgufArray::F64(v) => numbers!(12, v),
    }
}

fn put_array_header(out: &mut Vec<u8>, id: u32, len: usize) {
    out.extend(id.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
}
