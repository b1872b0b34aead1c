//! A column of a Parquet file.

use std::fs::File;

use ::parquet::basic::{LogicalType, Type as PhysicalType};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use rlx_weights::{list_names, quoted};

use super::jsonl::DEFAULT_FIELD;
use super::lines::Input;
use super::{Progress, ProgressUnit, SourceOptions, Text, TextSource};
use crate::VectorsError;

/// Records decoded at a time.
const BATCH: usize = 256;

/// A column of texts.
pub(super) struct Parquet {
    input: Input,
    reader: SerializedFileReader<File>,
    column: usize,
    /// The definition level of a value that is there; below it, it or a group around it is null.
    defined: i16,
    next_group: usize,
    pages: Option<ColumnReaderImpl<ByteArrayType>>,
    batch: std::vec::IntoIter<Option<ByteArray>>,
    rows: u64,
    total: u64,
    ended: bool,
}

impl Parquet {
    pub(super) fn new(file: File, name: &str, options: &SourceOptions) -> Result<Self, VectorsError> {
        let bad = |what: String| VectorsError::File { name: name.to_owned(), what };
        let reader =
            unpanicked(|| SerializedFileReader::new(file)).map_err(|e| bad(format!("not a Parquet file: {e}")))?;
        let metadata = reader.metadata().file_metadata();
        let wanted = options.column.as_deref().unwrap_or(DEFAULT_FIELD);
        let columns = metadata.schema_descr().columns();
        let Some(column) = columns.iter().position(|column| column.path().string() == wanted) else {
            let names: Vec<String> = columns.iter().map(|column| column.path().string()).collect();
            return Err(bad(format!(
                "no column {} (there are: {}); --column names another one",
                quoted(wanted),
                list_names(&names)
            )));
        };
        let found = &columns[column];
        if found.max_rep_level() > 0 {
            return Err(bad(format!("column {} is a list: a row must have one text", quoted(wanted))));
        }
        let texts = matches!(
            found.logical_type_ref(),
            None | Some(LogicalType::String | LogicalType::Enum | LogicalType::Json)
        );
        if found.physical_type() != PhysicalType::BYTE_ARRAY || !texts {
            return Err(bad(format!("column {} is {}, not text", quoted(wanted), found.physical_type())));
        }
        let total = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let defined = found.max_def_level();
        let input =
            Input { name: name.to_owned(), total: None, lossy: options.lossy, allow_missing: options.allow_missing };
        Ok(Parquet {
            input,
            column,
            defined,
            next_group: 0,
            pages: None,
            batch: Vec::new().into_iter(),
            rows: 0,
            total,
            ended: false,
            reader,
        })
    }

    fn read(&mut self) -> Result<Option<Text>, VectorsError> {
        let value = loop {
            if let Some(value) = self.batch.next() {
                break value;
            }
            match unpanicked(|| self.fill()) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    return Err(self.input.bad("row", self.rows + 1, format!("damaged Parquet file: {error}")));
                }
            }
        };
        let row = self.rows;
        self.rows += 1;
        let text = match value {
            Some(bytes) => self.input.text(bytes.data().to_vec(), "row", row + 1)?,
            None if self.input.allow_missing => String::new(),
            None => {
                let what = "the text is null (--allow-missing takes it for an empty one)";
                return Err(self.input.bad("row", row + 1, what));
            }
        };
        Ok(Some(Text { row, text }))
    }

    /// Whether the next row group's column can lie in the file: the library takes negative places for its own mistake.
    fn check_place(&self) -> Result<(), ParquetError> {
        let chunk = self.reader.metadata().row_group(self.next_group).column(self.column);
        let numbers = [
            Some(chunk.data_page_offset()),
            chunk.dictionary_page_offset(),
            Some(chunk.compressed_size()),
            Some(chunk.num_values()),
        ];
        match numbers.into_iter().flatten().find(|&number| number < 0) {
            Some(number) => Err(ParquetError::General(format!("a row group is said to begin or to reach to {number}"))),
            None => Ok(()),
        }
    }

    /// Decodes some more values; false at the end of the file.
    fn fill(&mut self) -> Result<bool, ParquetError> {
        loop {
            let Some(pages) = &mut self.pages else {
                if self.next_group == self.reader.num_row_groups() {
                    return Ok(false);
                }
                self.check_place()?;
                let group = self.reader.get_row_group(self.next_group)?;
                let ColumnReader::ByteArrayColumnReader(pages) = group.get_column_reader(self.column)? else {
                    return Err(ParquetError::General("a row group has another type of column than the file".into()));
                };
                self.pages = Some(pages);
                self.next_group += 1;
                continue;
            };
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let (records, ..) = pages.read_records(BATCH, Some(&mut levels), None, &mut values)?;
            if records == 0 {
                self.pages = None;
                continue;
            }
            let mut values = values.into_iter();
            let batch: Vec<Option<ByteArray>> = if self.defined == 0 {
                values.map(Some).collect()
            } else {
                levels.iter().map(|&level| if level == self.defined { values.next() } else { None }).collect()
            };
            self.batch = batch.into_iter();
            return Ok(true);
        }
    }
}

/// What `read` gives, or an error if it panics: the library does so on some damaged files (a page that needs a dictionary where there
/// is none), and a file must not end the program. Nothing is read after an error, so no half-changed state is seen.
fn unpanicked<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ParquetError::General("its reader gave up".into())))
}

impl Iterator for Parquet {
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

impl TextSource for Parquet {
    fn progress(&self) -> Progress {
        Progress { done: self.rows, total: Some(self.total.max(self.rows)), unit: ProgressUnit::Rows }
    }
}
