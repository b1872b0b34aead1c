//! Texts one by one.

mod csv;
mod jsonl;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::{TextFormat, VectorsError};

/// The longest text, line or record that is read, in bytes. A file that is no text has no line ends: it must not fill the memory.
pub(crate) const MAX_RECORD_BYTES: usize = 64 << 20;

/// Bytes that are asked of a file at once.
const BUFFER_BYTES: usize = 64 << 10;

/// One text of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Number of the text in its source, from 0.
    pub row: u64,
    /// The text.
    pub text: String,
}

/// What [`Progress::done`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressUnit {
    /// Bytes of a file.
    Bytes,
    /// Rows.
    Rows,
}

/// How much of a source has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// So much of it.
    pub done: u64,
    /// So much there is; none for a stream whose end is not known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: ProgressUnit,
}

/// Texts in order, read as they are asked for, so that memory does not grow with their number. After an error there is nothing
/// more.
pub trait TextSource: Iterator<Item = Result<Text, VectorsError>> {
    /// How much has been read.
    fn progress(&self) -> Progress;

    /// False if the next text has not arrived yet, so that asking for it would wait: those at hand can be worked on meanwhile.
    fn ready(&self) -> bool {
        true
    }
}

/// How to read texts.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// The format; none: what the name of the file says.
    pub format: Option<TextFormat>,
    /// Which field or column is the text; none: `text`. A path of names joined by dots leads into JSON objects and Parquet groups
    /// (in JSON arrays, the index from 0). In CSV without a header it is a number from 1.
    pub column: Option<String>,
    /// The first line of a CSV file is a record, not the names of the columns.
    pub no_header: bool,
    /// What separates CSV columns; none: a comma, in TSV a tab.
    pub delimiter: Option<u8>,
    /// Replace what is no UTF-8 (in JSON also lone surrogates) by U+FFFD instead of failing.
    pub lossy: bool,
    /// Take a missing or null value for an empty text instead of failing.
    pub allow_missing: bool,
}

/// Opens a file of texts.
///
/// # Errors
/// If it cannot be opened, or its format's beginning (CSV header, Parquet schema) is not right.
pub fn open_source(path: &Path, options: &SourceOptions) -> Result<Box<dyn TextSource>, VectorsError> {
    let name = path.display().to_string();
    let io = |source| VectorsError::io(&name, source);
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if meta.is_dir() {
        return Err(io(std::io::Error::new(std::io::ErrorKind::IsADirectory, "is a directory")));
    }
    let format = options.format.unwrap_or_else(|| TextFormat::of_path(path));
    if format == TextFormat::Parquet {
        return open_parquet(file, &name, options);
    }
    // A pipe or a device has no length.
    let total = meta.is_file().then_some(meta.len());
    open_stream(Box::new(file), name, format, total, options)
}

/// Reads texts from a stream such as stdin, which `name` calls in errors.
///
/// # Errors
/// As [`open_source`]; Parquet cannot be read from a stream.
pub fn read_source(
    stream: Box<dyn Read>,
    name: &str,
    options: &SourceOptions,
) -> Result<Box<dyn TextSource>, VectorsError> {
    open_stream(stream, name.to_owned(), options.format.unwrap_or(TextFormat::Lines), None, options)
}

/// Texts that are there already.
pub fn given_texts(texts: Vec<String>) -> Box<dyn TextSource> {
    let total = texts.len() as u64;
    Box::new(Given { texts: texts.into_iter(), total })
}

fn open_stream(
    stream: Box<dyn Read>,
    name: String,
    format: TextFormat,
    total: Option<u64>,
    options: &SourceOptions,
) -> Result<Box<dyn TextSource>, VectorsError> {
    let input = lines::Input { name, total, lossy: options.lossy, allow_missing: options.allow_missing };
    match format {
        TextFormat::Lines => Ok(Box::new(lines::Lines::new(BufReader::with_capacity(BUFFER_BYTES, stream), input))),
        TextFormat::Jsonl => {
            let lines = lines::Lines::new(BufReader::with_capacity(BUFFER_BYTES, stream), input);
            Ok(Box::new(jsonl::Jsonl::new(lines, options.column.as_deref())))
        }
        TextFormat::Csv => Ok(Box::new(csv::Csv::new(stream, input, b',', options)?)),
        TextFormat::Tsv => Ok(Box::new(csv::Csv::new(stream, input, b'\t', options)?)),
        TextFormat::Parquet => Err(VectorsError::Usage(format!(
            "{}: Parquet files end with their directory, so they cannot be read from a stream: give the file itself",
            input.name
        ))),
    }
}

#[cfg(feature = "parquet")]
fn open_parquet(file: File, name: &str, options: &SourceOptions) -> Result<Box<dyn TextSource>, VectorsError> {
    Ok(Box::new(parquet::Parquet::new(file, name, options)?))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(_: File, name: &str, _: &SourceOptions) -> Result<Box<dyn TextSource>, VectorsError> {
    Err(crate::sink::no_parquet(name))
}

/// Texts of an argument list.
struct Given {
    texts: std::vec::IntoIter<String>,
    total: u64,
}

impl Iterator for Given {
    type Item = Result<Text, VectorsError>;
    fn next(&mut self) -> Option<Self::Item> {
        let row = self.total - self.texts.len() as u64;
        Some(Ok(Text { row, text: self.texts.next()? }))
    }
}

impl TextSource for Given {
    fn progress(&self) -> Progress {
        let done = self.total - self.texts.len() as u64;
        Progress { done, total: Some(self.total), unit: ProgressUnit::Rows }
    }
}
