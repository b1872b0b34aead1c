//! safetensors, written as the rows come: room for the header is left at the beginning, since it may end with spaces.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::path::Path;

use serde_json::json;

use super::whole::HeaderFirst;
use super::{SinkOptions, VectorSink, check, write_f32s};
use crate::index::tensors::{EMBEDDINGS, TEXT_BYTES, TEXT_OFFSETS};
use crate::{Text, VectorsError};

/// The tensor `embeddings`, and if asked for the texts.
pub(super) struct Safetensors {
    file: HeaderFirst,
    /// Bytes left for the header, its length included.
    room: usize,
    dims: usize,
    rows: u64,
    metadata: BTreeMap<String, String>,
    texts: Option<Spool>,
}

/// Texts on their way: they follow the vectors, so they wait in unnamed files on the same disk.
struct Spool {
    bytes: BufWriter<File>,
    offsets: BufWriter<File>,
    length: u64,
}

impl Safetensors {
    pub(super) fn create(path: &Path, options: &SinkOptions) -> Result<Safetensors, VectorsError> {
        let (dims, metadata) = (options.dims, options.metadata.clone());
        // No number in the final header has more digits.
        let longest = header_json(u64::MAX, dims as u64, options.texts.then_some(u64::MAX), &metadata);
        let room = (8 + longest.len()).next_multiple_of(64);
        let file = HeaderFirst::create(path, room)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let spool = || -> io::Result<Spool> {
            let file = || Ok::<_, io::Error>(BufWriter::new(tempfile::tempfile_in(folder)?));
            let mut offsets = file()?;
            offsets.write_all(&0u64.to_le_bytes())?;
            Ok(Spool { bytes: file()?, offsets, length: 0 })
        };
        let texts = if options.texts {
            Some(spool().map_err(|source| VectorsError::io(folder.display().to_string(), source))?)
        } else {
            None
        };
        Ok(Safetensors { file, room, dims, rows: 0, metadata, texts })
    }
}

impl VectorSink for Safetensors {
    fn write(&mut self, texts: &[Text], vectors: &[f32]) -> Result<(), VectorsError> {
        check(texts, vectors, self.dims)?;
        self.rows += texts.len() as u64;
        let spool = &mut self.texts;
        self.file.write(|file| {
            write_f32s(file, vectors)?;
            let Some(spool) = spool else { return Ok(()) };
            texts.iter().try_for_each(|text| spool.push(&text.text))
        })
    }

    fn finish(self: Box<Self>) -> Result<(), VectorsError> {
        let Safetensors { mut file, room, dims, rows, metadata, texts } = *self;
        let length = texts.as_ref().map(|spool| spool.length);
        if let Some(spool) = texts {
            file.write(|file| spool.copy_to(file))?;
        }
        let json = header_json(rows, dims as u64, length, &metadata);
        let mut header = ((room - 8) as u64).to_le_bytes().to_vec();
        header.extend_from_slice(json.as_bytes());
        header.resize(room, b' ');
        file.finish(&header)
    }
}

impl Spool {
    fn push(&mut self, text: &str) -> io::Result<()> {
        self.bytes.write_all(text.as_bytes())?;
        self.length += text.len() as u64;
        self.offsets.write_all(&self.length.to_le_bytes())
    }

    /// The offsets, then the texts.
    fn copy_to(self, out: &mut impl Write) -> io::Result<()> {
        for spooled in [self.offsets, self.bytes] {
            let mut file = spooled.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            io::copy(&mut BufReader::new(file), out)?;
        }
        Ok(())
    }
}

/// The header. `texts` is the length of all texts together.
fn header_json(rows: u64, dims: u64, texts: Option<u64>, metadata: &BTreeMap<String, String>) -> String {
    let mut end = 0u64;
    let mut tensor = |dtype: &str, shape: &[u64], bytes: u64| {
        let begin = end;
        end = end.saturating_add(bytes);
        json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] })
    };
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    header.insert(EMBEDDINGS.into(), tensor("F32", &[rows, dims], rows.saturating_mul(dims).saturating_mul(4)));
    if let Some(length) = texts {
        let offsets = rows.saturating_add(1);
        header.insert(TEXT_OFFSETS.into(), tensor("I64", &[offsets], offsets.saturating_mul(8)));
        header.insert(TEXT_BYTES.into(), tensor("U8", &[length], length));
    }
    serde_json::Value::Object(header).to_string()
}
