//! Importance matrices: how large the inputs of each matrix are, column by column.
//!
//! llama.cpp's `llama-imatrix` writes them as GGUF files, and wrote a format of its own before (`.dat`); both are read.

use std::collections::BTreeMap;
use std::path::Path;

use rlx_ir::DType;

use super::mix::Role;
use crate::checkpoint::map_file;
use crate::error::quoted;
use crate::gguf::{self, GgufArray, GgufMetadata, GgufValue, GgufWriter};
use crate::{Cursor, TensorView, WeightsError, replace_file};

/// The inputs of one matrix, or of each matrix of a stack of experts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImatrixEntry {
    /// Sums of squares of the inputs, one per column, matrix after matrix.
    pub sums: Vec<f32>,
    /// How many inputs were summed, one number per matrix.
    pub counts: Vec<f32>,
}

impl ImatrixEntry {
    /// Mean squares: the importance of each column. Columns of experts that saw nothing are all equally important.
    pub fn importance(&self) -> Vec<f32> {
        let columns = self.sums.len().checked_div(self.counts.len()).unwrap_or(0);
        let of_matrix = |(sums, &count): (&[f32], &f32)| -> Vec<f32> {
            if count > 0.0 { sums.iter().map(|sum| sum / count).collect() } else { vec![1.0; sums.len()] }
        };
        self.sums.chunks_exact(columns.max(1)).zip(&self.counts).flat_map(of_matrix).collect()
    }
}

/// An importance matrix: entries by the GGUF names of tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// What was collected of each tensor.
    pub entries: BTreeMap<String, ImatrixEntry>,
    /// Names of the texts it was collected on.
    pub datasets: Vec<String>,
    /// Pieces of text that were run.
    pub chunks: u32,
    /// Tokens of a piece.
    pub chunk_size: u32,
}

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const DATASETS_KEY: &str = "imatrix.datasets";
const CHUNKS_KEY: &str = "imatrix.chunk_count";
const CHUNK_SIZE_KEY: &str = "imatrix.chunk_size";

impl Imatrix {
    /// Reads a file of either format.
    ///
    /// # Errors
    /// [`WeightsError::Io`]; [`WeightsError::Format`] and [`WeightsError::Truncated`] for files that are something else, or damaged;
    /// [`WeightsError::Shape`] for an entry whose parts do not fit together or are no numbers.
    pub fn open(path: &Path) -> Result<Imatrix, WeightsError> {
        let bytes = map_file(path)?;
        let imatrix = if bytes.starts_with(&gguf::MAGIC) {
            let file = gguf::parse(&bytes, path)?;
            from_gguf(&file.metadata, &file.tensors, path)?
        } else {
            from_legacy(&bytes, path)?
        };
        if imatrix.entries.is_empty() {
            return Err(WeightsError::format(path, "holds no importance matrix"));
        }
        for (name, entry) in &imatrix.entries {
            if let Some(bad) = entry.sums.iter().chain(&entry.counts).find(|x| !(x.is_finite() && **x >= 0.0)) {
                return Err(shape(name, format!("has importance {bad}: not a mean square")));
            }
        }
        Ok(imatrix)
    }

    /// Writes a GGUF file, replacing what is there.
    ///
    /// # Errors
    /// [`WeightsError::Io`]; [`WeightsError::Usage`] if an entry's sums are no whole matrices, or a name is too long.
    pub fn write(&self, path: &Path) -> Result<(), WeightsError> {
        let mut metadata = GgufMetadata::default();
        metadata.set("general.type", "imatrix");
        let datasets = GgufArray::String(self.datasets.iter().collect());
        metadata.set(DATASETS_KEY, GgufValue::Array(datasets));
        metadata.set(CHUNKS_KEY, self.chunks);
        metadata.set(CHUNK_SIZE_KEY, self.chunk_size);
        let mut writer = GgufWriter::from_metadata(metadata);
        for (name, entry) in &self.entries {
            let matrices = entry.counts.len();
            let columns = entry.sums.len().checked_div(matrices).unwrap_or(0);
            if columns * matrices != entry.sums.len() {
                return Err(shape(name, format!("has {} sums for {matrices} matrices", entry.sums.len())));
            }
            writer.add_tensor(&format!("{name}{SUMS}"), DType::F32, &[matrices, columns])?;
            writer.add_tensor(&format!("{name}{COUNTS}"), DType::F32, &[matrices, 1])?;
        }
        replace_file(path, |unfinished| {
            let mut stream = writer.create(unfinished)?;
            for entry in self.entries.values() {
                for values in [&entry.sums, &entry.counts] {
                    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                    stream.write(&bytes)?;
                }
            }
            stream.finish().map(|_| ())
        })
    }

    /// Notes in a file's metadata that this matrix, read from `file`, was used.
    pub fn note_in(&self, file: &Path, metadata: &mut GgufMetadata) {
        // The keys and their limit of 127 bytes are llama.cpp's.
        let cut = |text: &str| {
            let end = (0..=text.len().min(127)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            text[..end].to_owned()
        };
        metadata.set("quantize.imatrix.file", cut(&file.to_string_lossy()));
        if let Some(dataset) = self.datasets.first() {
            metadata.set("quantize.imatrix.dataset", cut(dataset));
        }
        metadata.set("quantize.imatrix.entries_count", u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        if self.chunks > 0 {
            metadata.set("quantize.imatrix.chunks_count", self.chunks);
        }
    }

    /// The importance of the columns of a tensor of this name and row-major shape, matrix after matrix; none if nothing is known.
    ///
    /// # Errors
    /// [`WeightsError::Shape`] if it was collected on a tensor of another shape.
    pub fn of(&self, name: &str, shape_of: &[usize]) -> Result<Option<Vec<f32>>, WeightsError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let columns = shape_of.last().copied().unwrap_or(1);
        let matrices: usize = shape_of.iter().rev().skip(2).product();
        if columns.checked_mul(matrices) != Some(entry.sums.len()) {
            // Lookups are no products; what a file may say of the table fits the output matrix at best.
            if Role::of(name) == Role::Embedding {
                return Ok(None);
            }
            let found = entry.sums.len();
            let what = format!(
                "has {columns} columns in {matrices} matrices, but the importance matrix {found} values for it: it is of another model"
            );
            return Err(shape(name, what));
        }
        Ok(Some(entry.importance()))
    }
}

fn shape(name: &str, what: String) -> WeightsError {
    WeightsError::Shape { tensor: name.to_owned(), what }
}

fn from_gguf(metadata: &GgufMetadata, tensors: &[TensorView], path: &Path) -> Result<Imatrix, WeightsError> {
    metadata
        .require_all(&[DATASETS_KEY, CHUNKS_KEY, CHUNK_SIZE_KEY])
        .map_err(|error| WeightsError::format(path, format!("no importance matrix: {error}")))?;
    let mut imatrix = Imatrix {
        datasets: metadata.require_strings(DATASETS_KEY)?.to_vec(),
        chunks: metadata.require_u32(CHUNKS_KEY)?,
        chunk_size: metadata.require_u32(CHUNK_SIZE_KEY)?,
        ..Imatrix::default()
    };
    for tensor in tensors {
        let (name, is_sums) = match (tensor.name.strip_suffix(SUMS), tensor.name.strip_suffix(COUNTS)) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) => continue,
        };
        if tensor.dtype != DType::F32 {
            let what = "importance is stored as F32".to_owned();
            return Err(WeightsError::Dtype { tensor: tensor.name.clone(), dtype: tensor.dtype, what });
        }
        let entry = imatrix.entries.entry(name.to_owned()).or_default();
        if is_sums {
            entry.sums = tensor.to_f32()?;
        } else {
            entry.counts = tensor.to_f32()?.into_iter().map(f32::round).collect();
        }
    }
    for (name, entry) in &imatrix.entries {
        let (sums, counts) = (entry.sums.len(), entry.counts.len());
        if sums == 0 || counts == 0 || !sums.is_multiple_of(counts) {
            return Err(shape(name, format!("has {sums} sums and {counts} counts of importance")));
        }
    }
    Ok(imatrix)
}

/// A number of things, from 0 to 2^31.
fn count(cursor: &mut Cursor<'_>, what: &str) -> Result<usize, WeightsError> {
    let number = i32::from_le_bytes(cursor.array(what)?);
    let count = usize::try_from(number);
    count.or_else(|_| cursor.bad(format!("{what} is {number}: neither a GGUF file nor an importance matrix")))
}

fn text(cursor: &mut Cursor<'_>, what: &str) -> Result<String, WeightsError> {
    let len = count(cursor, what)?;
    match std::str::from_utf8(cursor.take(len as u64, what)?) {
        Ok(text) => Ok(text.trim_end_matches('\0').to_owned()),
        Err(_) => cursor.bad(format!("{what} is no text: neither a GGUF file nor an importance matrix")),
    }
}

/// `i32` numbers and `f32` values: entries, then for each name, calls, values; then the chunks and the dataset.
fn from_legacy(bytes: &[u8], path: &Path) -> Result<Imatrix, WeightsError> {
    let mut cursor = Cursor::new(bytes, path);
    let mut imatrix = Imatrix::default();
    for _ in 0..count(&mut cursor, "the number of entries")? {
        let name = text(&mut cursor, "the name of an entry")?;
        let calls = count(&mut cursor, "the number of calls")?;
        let values = count(&mut cursor, "the number of values")?;
        if values == 0 {
            return Err(WeightsError::format(path, format!("entry {} has no values", quoted(&name))));
        }
        let values = cursor.take(4 * values as u64, "an entry")?;
        let sums = values.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        imatrix.entries.insert(name, ImatrixEntry { sums, counts: vec![calls.max(1) as f32] });
    }
    if cursor.left() > 0 {
        imatrix.chunks = u32::try_from(count(&mut cursor, "the number of chunks")?).unwrap_or(0);
        if cursor.left() > 0 {
            imatrix.datasets.push(text(&mut cursor, "the name of the dataset")?);
        }
    }
    Ok(imatrix)
}
