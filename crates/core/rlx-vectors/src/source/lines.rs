//! One text a line.

use std::io::{BufRead, BufReader, Read};

use memchr::memchr;

use super::{MAX_RECORD_BYTES, Progress, ProgressUnit, Text, TextSource};
use crate::VectorsError;

/// Where texts come from, and what is done with bad ones.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) total: Option<u64>,
    pub(super) lossy: bool,
    pub(super) allow_missing: bool,
}

impl Input {
    pub(super) fn bad(&self, unit: &'static str, number: u64, what: impl Into<String>) -> VectorsError {
        VectorsError::Row { name: self.name.clone(), unit, number, what: what.into() }
    }

    pub(super) fn progress(&self, done: u64) -> Progress {
        // A file may have grown since it was opened.
        let total = self.total.map(|total| total.max(done));
        Progress { done, total, unit: ProgressUnit::Bytes }
    }

    /// `bytes` as text. `number` of `unit` says where they are from.
    pub(super) fn text(&self, bytes: Vec<u8>, unit: &'static str, number: u64) -> Result<String, VectorsError> {
        let error = match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        if self.lossy {
            return Ok(String::from_utf8_lossy(bytes).into_owned());
        }
        // UTF-8 has no code for the surrogates U+D800..U+DFFF; these bytes would be theirs.
        let surrogate = matches!(bytes.get(at..at + 2), Some([0xed, 0xa0..=0xbf]));
        let what = if surrogate {
            format!("the text has a lone surrogate at byte {at}, which UTF-8 cannot express (--lossy replaces it)")
        } else {
            format!("the text is not UTF-8: byte {:#04x} at offset {at} (--lossy replaces it)", bytes[at])
        };
        Err(self.bad(unit, number, what))
    }
}

/// The lines of a stream; `\n` and `\r\n` end one.
pub(super) struct Lines<R> {
    pub(super) input: Input,
    reader: BufReader<R>,
    /// Lines read.
    pub(super) line: u64,
    /// Bytes read.
    done: u64,
    ended: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: BufReader<R>, input: Input) -> Self {
        Lines { input, reader, line: 0, done: 0, ended: false }
    }

    /// The next line without its end; none at the end of the stream and after an error.
    pub(super) fn next_line(&mut self) -> Option<Result<Vec<u8>, VectorsError>> {
        if self.ended {
            return None;
        }
        let line = self.read_line().transpose();
        self.ended = !matches!(line, Some(Ok(_)));
        line
    }

    /// Nothing more is read.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    fn read_line(&mut self) -> Result<Option<Vec<u8>>, VectorsError> {
        let mut line = Vec::new();
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                filled => filled.map_err(|source| VectorsError::io(&self.input.name, source))?,
            };
            if buffer.is_empty() && line.is_empty() {
                return Ok(None);
            }
            let end = memchr(b'\n', buffer);
            let part = end.map_or(buffer, |end| &buffer[..=end]);
            if line.len() + part.len() > MAX_RECORD_BYTES {
                let what = format!("the line is longer than {} MB: is this a text file?", MAX_RECORD_BYTES >> 20);
                return Err(self.input.bad("line", self.line + 1, what));
            }
            line.extend_from_slice(part);
            let (part, last) = (part.len(), end.is_some() || buffer.is_empty());
            self.reader.consume(part);
            self.done += part as u64;
            if last {
                break;
            }
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if self.line == 0 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        self.line += 1;
        Ok(Some(line))
    }

    pub(super) fn read_progress(&self) -> Progress {
        self.input.progress(self.done)
    }

    /// Whether a whole line has arrived. A file is always at hand.
    pub(super) fn line_ready(&self) -> bool {
        self.ended || self.input.total.is_some() || memchr(b'\n', self.reader.buffer()).is_some()
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<Text, VectorsError>;
    fn next(&mut self) -> Option<Self::Item> {
        let line = self.next_line()?;
        let text = line.and_then(|bytes| self.input.text(bytes, "line", self.line));
        if text.is_err() {
            self.end();
        }
        Some(text.map(|text| Text { row: self.line - 1, text }))
    }
}

impl<R: Read> TextSource for Lines<R> {
    fn progress(&self) -> Progress {
        self.read_progress()
    }

    fn ready(&self) -> bool {
        self.line_ready()
    }
}
