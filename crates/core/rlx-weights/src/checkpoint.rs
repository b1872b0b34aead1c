//! A checkpoint opened: tensors and metadata, whatever the file format.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rlx_mem::{Bytes, MappedFile};

use crate::error::quoted;
use crate::gguf::{self, GgufMetadata};
use crate::locate::{Index, Located, locate};
use crate::split::SplitName;
use crate::{TensorView, WeightsError, safetensors_file};

/// JSON files beside the weights are small; a larger one is not what it says.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// How to open a path that leaves a choice.
///
/// In a directory, `model.safetensors` (or its sharded index) is taken first, then GGUF files. With several GGUF files
/// and no wish the order is Q4_K_M, the other Q4_K, Q5_K, Q6_K, Q8_0, Q4_0 to Q5_1, then smaller ones, then BF16, F16 and F32;
/// projectors (`mmproj`) are left out. Either wish makes a directory's GGUF files go before its safetensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Quantisation tag to take among a directory's GGUF files: `Q4_K_M`, or `Q4_K` for any of that family.
    pub prefer_quant: Option<String>,
    /// Number of the GGUF file to take in a directory, as [`list_gguf`](crate::list_gguf) counts them.
    pub gguf_index: Option<usize>,
    /// Opens the parts of a split checkpoint that are there and lists the others in [`Checkpoint::missing_parts`].
    pub allow_missing_parts: bool,
}

/// File format of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// GGUF, one file or split.
    Gguf,
    /// safetensors, one file or sharded.
    Safetensors,
    /// A format added with [`register_format`](crate::register_format), by its name.
    Custom(String),
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Gguf => "gguf",
            Format::Safetensors => "safetensors",
            Format::Custom(name) => name,
        })
    }
}

/// One opened model. The files stay mapped as long as any of the tensors lives.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    format: Format,
    path: PathBuf,
    files: Vec<PathBuf>,
    missing: Vec<PathBuf>,
    file_bytes: u64,
    tensors: Vec<TensorView>,
    /// Indices into `tensors`, sorted by name.
    sorted: Vec<u32>,
    gguf: Option<GgufMetadata>,
    config: Option<serde_json::Value>,
    header_metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a `.gguf` or `.safetensors` file, any part of a split one, a `*.safetensors.index.json`, a directory, or a
    /// file with the extension of a [`CustomFormat`](crate::CustomFormat).
    ///
    /// # Errors
    /// [`WeightsError::Io`], [`WeightsError::NotFound`], [`WeightsError::MissingParts`], or what is wrong with the files.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Checkpoint, WeightsError> {
        let located = locate(path, options)?;
        let missing = match &located {
            Located::Gguf { missing, .. } | Located::Safetensors { missing, .. } => missing.clone(),
            Located::Custom(..) => Vec::new(),
        };
        if !missing.is_empty() && !options.allow_missing_parts {
            return Err(WeightsError::MissingParts { missing });
        }
        let complete = missing.is_empty();
        let mut checkpoint = match located {
            Located::Gguf { parts, .. } => open_gguf(path, parts, complete)?,
            Located::Safetensors { files, index, .. } => open_safetensors(path, files, index, complete)?,
            Located::Custom(file, format) => format.open(&file)?,
        };
        checkpoint.missing = missing;
        Ok(checkpoint)
    }

    /// A checkpoint of a custom format: its tensors and the files they come from.
    ///
    /// # Errors
    /// [`WeightsError::Format`] if a name comes twice.
    pub fn custom(
        format: &str,
        path: &Path,
        files: Vec<PathBuf>,
        tensors: Vec<TensorView>,
    ) -> Result<Checkpoint, WeightsError> {
        Checkpoint::build(Format::Custom(format.to_owned()), path, files, tensors)
    }

    /// Attaches what stands for `config.json`.
    #[must_use]
    pub fn with_config(mut self, config: serde_json::Value) -> Checkpoint {
        self.config = Some(config);
        self
    }

    /// Attaches metadata of the kind that GGUF files have.
    #[must_use]
    pub fn with_gguf(mut self, metadata: GgufMetadata) -> Checkpoint {
        self.gguf = Some(metadata);
        self
    }

    fn build(
        format: Format,
        path: &Path,
        files: Vec<PathBuf>,
        tensors: Vec<TensorView>,
    ) -> Result<Checkpoint, WeightsError> {
        let mut sorted: Vec<u32> = (0..tensors.len() as u32).collect();
        sorted.sort_unstable_by(|&a, &b| tensors[a as usize].name.cmp(&tensors[b as usize].name));
        for pair in sorted.windows(2) {
            let name = &tensors[pair[0] as usize].name;
            if *name == tensors[pair[1] as usize].name {
                return Err(WeightsError::format(path, format!("tensor {} comes twice", quoted(name))));
            }
        }
        let file_bytes = files.iter().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
        Ok(Checkpoint {
            format,
            path: path.to_path_buf(),
            files,
            missing: Vec::new(),
            file_bytes,
            tensors,
            sorted,
            gguf: None,
            config: None,
            header_metadata: BTreeMap::new(),
        })
    }

    /// The file format.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Size of [`Checkpoint::files`] together.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Parts that are not there; only with [`OpenOptions::allow_missing_parts`].
    pub fn missing_parts(&self) -> &[PathBuf] {
        &self.missing
    }

    /// The metadata of a GGUF file (of the first part if it is split).
    pub fn gguf(&self) -> Option<&GgufMetadata> {
        self.gguf.as_ref()
    }

    /// `config.json` beside safetensors files.
    pub fn config(&self) -> Option<&serde_json::Value> {
        self.config.as_ref()
    }

    /// The free-form strings in the headers of safetensors files.
    pub fn header_metadata(&self) -> &BTreeMap<String, String> {
        &self.header_metadata
    }

    /// A file beside the weights (`tokenizer.json`) or in a folder beside them (`1_Pooling/config.json`), if there is one. Names
    /// that lead elsewhere find nothing.
    pub fn sidecar(&self, name: &str) -> Option<PathBuf> {
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        let path = directory_of(self.files.first().unwrap_or(&self.path)).join(name);
        path.is_file().then_some(path)
    }

    /// A JSON file beside the weights.
    ///
    /// # Errors
    /// [`WeightsError::Io`], [`WeightsError::Format`] if it is no JSON or larger than 64 MB.
    pub fn sidecar_json(&self, name: &str) -> Result<Option<serde_json::Value>, WeightsError> {
        self.sidecar(name).map(|path| read_json(&path)).transpose()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorView> {
        let found = self.sorted.binary_search_by(|&i| self.tensors[i as usize].name.as_str().cmp(name));
        found.ok().map(|i| &self.tensors[self.sorted[i] as usize])
    }

    /// All tensors, in the order of the files.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorView> + Clone {
        self.tensors.iter()
    }

    /// Name of the architecture: `general.architecture` of GGUF, `model_type` of `config.json`.
    pub fn architecture(&self) -> Option<&str> {
        let config = || self.config.as_ref()?.get("model_type")?.as_str();
        self.gguf.as_ref().and_then(GgufMetadata::architecture).or_else(config)
    }
}

fn open_gguf(path: &Path, parts: Vec<PathBuf>, complete: bool) -> Result<Checkpoint, WeightsError> {
    let split = parts.len() > 1 || !complete;
    let mut tensors = Vec::new();
    let mut metadata: Option<GgufMetadata> = None;
    for part in &parts {
        let bytes = map_file(part)?;
        let file = gguf::parse(&bytes, part)?;
        // What stands before the tensors has been copied.
        if let Some(header) = bytes.slice(0..file.data_offset) {
            header.release();
        }
        check_part(part, &file.metadata, split)?;
        tensors.extend(file.tensors);
        metadata.get_or_insert(file.metadata);
    }
    let announced = metadata.as_ref().and_then(|meta| meta.get_u64("split.tensors.count"));
    if complete && split && announced.is_some_and(|count| count != tensors.len() as u64) {
        let what = format!("the parts hold {} tensors, {} are announced", tensors.len(), announced.unwrap_or(0));
        return Err(WeightsError::format(path, what));
    }
    let mut checkpoint = Checkpoint::build(Format::Gguf, path, parts, tensors)?;
    checkpoint.gguf = metadata;
    Ok(checkpoint)
}

/// The numbers in a part's name and in its metadata must agree, lest parts of two models be merged, or one part be taken
/// for a model.
fn check_part(part: &Path, metadata: &GgufMetadata, split: bool) -> Result<(), WeightsError> {
    let (no, count) = (metadata.get_u64("split.no"), metadata.get_u64("split.count"));
    let name = SplitName::of(part);
    let what = match (split, count, name) {
        (false, None | Some(0 | 1), _) => return Ok(()),
        (true, Some(count), Some(name)) if no == Some(name.part as u64 - 1) && count == name.count as u64 => {
            return Ok(());
        }
        (true, count, Some(name)) => {
            let show = |n: Option<u64>| n.map_or("absent".to_owned(), |n| n.to_string());
            let (no, found) = (show(no), show(count));
            format!("named part {} of {}, but split.no is {no} and split.count {found}", name.part, name.count)
        }
        (_, count, _) => {
            let count = count.unwrap_or(0);
            format!("is one of {count} parts but not named like it (NAME-00001-of-{count:05}.gguf): rename it")
        }
    };
    Err(WeightsError::format(part, what))
}

fn open_safetensors(
    path: &Path,
    files: Vec<PathBuf>,
    index: Option<Index>,
    complete: bool,
) -> Result<Checkpoint, WeightsError> {
    let mut tensors = Vec::new();
    let mut header_metadata = BTreeMap::new();
    for file in &files {
        let parsed = safetensors_file::parse(&map_file(file)?, file)?;
        tensors.extend(parsed.tensors);
        header_metadata.extend(parsed.metadata);
    }
    let config = directory_of(files.first().map_or(path, PathBuf::as_path)).join("config.json");
    let config = config.is_file().then(|| read_json(&config)).transpose()?;
    let mut checkpoint = Checkpoint::build(Format::Safetensors, path, files, tensors)?;
    if let Some(index) = index.filter(|_| complete)
        && let Some((name, file)) = index.weight_map.iter().find(|(name, _)| checkpoint.tensor(name).is_none())
    {
        let what = format!("tensor {} should be in {}, which does not hold it", quoted(name), quoted(file));
        return Err(WeightsError::format(&index.path, what));
    }
    checkpoint.config = config;
    checkpoint.header_metadata = header_metadata;
    Ok(checkpoint)
}

fn directory_of(path: &Path) -> &Path {
    if path.is_dir() {
        return path;
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Maps a regular file. Pipes and devices are refused before they are opened, since that could block for ever.
///
/// # Errors
/// [`WeightsError::Io`], and [`WeightsError::NotFound`] for what is no regular file.
pub fn map_file(path: &Path) -> Result<Bytes, WeightsError> {
    let meta = std::fs::metadata(path).map_err(|source| WeightsError::io(path, source))?;
    if !meta.is_file() {
        return Err(WeightsError::not_found(path, "not a regular file"));
    }
    let file = MappedFile::open(path).map_err(|source| WeightsError::io(path, source))?;
    Ok(Bytes::from_mapped(Arc::new(file)))
}

/// Reads a small JSON file.
pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value, WeightsError> {
    let bytes = map_file(path)?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        return Err(WeightsError::format(path, format!("JSON of more than {} MB", MAX_JSON_BYTES >> 20)));
    }
    serde_json::from_slice(&bytes).map_err(|e| {
        let e: String = e.to_string().chars().take(200).collect();
        WeightsError::format(path, format!("bad JSON: {}", e.escape_debug()))
    })
}
