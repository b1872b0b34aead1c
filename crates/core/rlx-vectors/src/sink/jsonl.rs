//! JSON lines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use rlx_weights::UnfinishedFile;
use serde::Serialize;

use super::{SinkOptions, VectorSink, check, create_file};
use crate::{Text, VectorsError};

/// One line.
#[derive(Serialize)]
struct Row<'a> {
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// The shortest decimal that is read back as the same number.
    embedding: &'a [f32],
}

/// Lines into a stream.
pub(super) struct Jsonl<W: Write> {
    stream: BufWriter<W>,
    name: String,
    dims: usize,
    texts: bool,
}

impl<W: Write> Jsonl<W> {
    pub(super) fn new(stream: W, name: &str, options: &SinkOptions) -> Jsonl<W> {
        let stream = BufWriter::with_capacity(1 << 18, stream);
        Jsonl { stream, name: name.to_owned(), dims: options.dims, texts: options.texts }
    }

    fn write_rows(&mut self, texts: &[Text], vectors: &[f32]) -> Result<(), VectorsError> {
        check(texts, vectors, self.dims)?;
        for (text, embedding) in texts.iter().zip(vectors.chunks_exact(self.dims)) {
            let row = Row { index: text.row, text: self.texts.then_some(text.text.as_str()), embedding };
            let written = serde_json::to_writer(&mut self.stream, &row).map_err(std::io::Error::from);
            written.and_then(|()| self.stream.write_all(b"\n")).map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), VectorsError> {
        self.stream.flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> VectorsError {
        VectorsError::io(&self.name, source)
    }
}

impl<W: Write> VectorSink for Jsonl<W> {
    fn write(&mut self, texts: &[Text], vectors: &[f32]) -> Result<(), VectorsError> {
        self.write_rows(texts, vectors)?;
        // Whoever reads the stream need not wait for more.
        self.flush()
    }

    fn finish(mut self: Box<Self>) -> Result<(), VectorsError> {
        self.flush()
    }
}

/// Lines into a file.
struct JsonlFile {
    lines: Jsonl<File>,
    unfinished: UnfinishedFile,
}

pub(super) fn create(path: &Path, options: &SinkOptions) -> Result<Box<dyn VectorSink>, VectorsError> {
    let name = path.display().to_string();
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        // A pipe or a device takes the lines as they come.
        let stream = File::options().write(true).open(path).map_err(|source| VectorsError::io(&name, source))?;
        return Ok(Box::new(Jsonl::new(stream, &name, options)));
    }
    let unfinished = UnfinishedFile::new(path)?;
    let lines = Jsonl::new(create_file(&unfinished)?, &name, options);
    Ok(Box::new(JsonlFile { lines, unfinished }))
}

impl VectorSink for JsonlFile {
    fn write(&mut self, texts: &[Text], vectors: &[f32]) -> Result<(), VectorsError> {
        self.lines.write_rows(texts, vectors)
    }

    fn finish(mut self: Box<Self>) -> Result<(), VectorsError> {
        self.lines.flush()?;
        let JsonlFile { lines, unfinished } = *self;
        drop(lines);
        Ok(unfinished.finish()?)
    }
}
