//! A column of CSV or TSV.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::csv::{ByteRecord, Reader, ReaderBuilder};
use rlx_weights::{list_names, quoted};

use super::jsonl::DEFAULT_FIELD;
use super::lines::Input;
use super::{MAX_RECORD_BYTES, Progress, SourceOptions, Text, TextSource};
use crate::VectorsError;

/// A column of a file of records.
pub(super) struct Csv<R> {
    input: Input,
    reader: Reader<Limited<R>>,
    /// Bytes that the reader may still take for the present record.
    allowance: Arc<AtomicUsize>,
    column: usize,
    name: String,
    record: ByteRecord,
    rows: u64,
    ended: bool,
}

impl<R: Read> Csv<R> {
    pub(super) fn new(stream: R, input: Input, delimiter: u8, options: &SourceOptions) -> Result<Self, VectorsError> {
        let allowance = Arc::new(AtomicUsize::new(MAX_RECORD_BYTES));
        let reader = ReaderBuilder::new()
            .delimiter(options.delimiter.unwrap_or(delimiter))
            .has_headers(!options.no_header)
            // A short record is an error only if it lacks the column.
            .flexible(true)
            .buffer_capacity(super::BUFFER_BYTES)
            .from_reader(Limited { stream, allowance: Arc::clone(&allowance) });
        let name = options.column.clone().unwrap_or_else(|| DEFAULT_FIELD.to_owned());
        let mut csv =
            Csv { input, reader, allowance, column: 0, name, record: ByteRecord::new(), rows: 0, ended: false };
        csv.column = if options.no_header { csv.numbered()? } else { csv.named()? };
        Ok(csv)
    }

    /// The column of the header that has the name.
    fn named(&mut self) -> Result<usize, VectorsError> {
        let header = match self.reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(self.failed(error)),
        };
        if let Some(column) = header.iter().position(|field| field == self.name.as_bytes()) {
            return Ok(column);
        }
        let names: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
        let what = format!(
            "no column {} in the header (there are: {}); --column names another one, --no-header takes the first line for a record",
            quoted(&self.name),
            list_names(&names)
        );
        Err(VectorsError::File { name: self.input.name.clone(), what })
    }

    /// The column of the given number.
    fn numbered(&self) -> Result<usize, VectorsError> {
        match self.name.parse::<usize>() {
            Ok(number) if number > 0 => Ok(number - 1),
            _ => Err(VectorsError::Usage("without a header, --column is the number of the column, from 1".into())),
        }
    }

    fn failed(&self, error: ::csv::Error) -> VectorsError {
        let error = match error.into_kind() {
            ::csv::ErrorKind::Io(error) => error,
            kind => io::Error::other(format!("{kind:?}")),
        };
        match error.kind() {
            io::ErrorKind::InvalidData => self.input.bad("line", self.reader.position().line(), error.to_string()),
            _ => VectorsError::io(&self.input.name, error),
        }
    }

    fn read(&mut self) -> Result<Option<Text>, VectorsError> {
        self.allowance.store(MAX_RECORD_BYTES, Ordering::Relaxed);
        let line = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        }
        let line = self.record.position().map_or(line, |position| position.line());
        let text = match self.record.get(self.column) {
            Some(field) => self.input.text(field.to_vec(), "line", line)?,
            None if self.input.allow_missing => String::new(),
            None => {
                let what = format!(
                    "the record has {} columns, too few for column {} (--allow-missing takes it for an empty text)",
                    self.record.len(),
                    quoted(&self.name)
                );
                return Err(self.input.bad("line", line, what));
            }
        };
        let row = self.rows;
        self.rows += 1;
        Ok(Some(Text { row, text }))
    }
}

impl<R: Read> Iterator for Csv<R> {
    type Item = Result<Text, VectorsError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let text = self.read().transpose();
        self.ended = !matches!(text, Some(Ok(_)));
        text
    }
}

impl<R: Read> TextSource for Csv<R> {
    fn progress(&self) -> Progress {
        self.input.progress(self.reader.position().byte())
    }
}

/// A stream that refuses to give more than an allowance: a quotation mark that is never closed makes one record of all that follows.
struct Limited<R> {
    stream: R,
    allowance: Arc<AtomicUsize>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        let left = self.allowance.load(Ordering::Relaxed);
        if read > left {
            let what =
                format!("a record is longer than {} MB: a quotation mark that is not closed?", MAX_RECORD_BYTES >> 20);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        self.allowance.store(left - read, Ordering::Relaxed);
        Ok(read)
    }
}
