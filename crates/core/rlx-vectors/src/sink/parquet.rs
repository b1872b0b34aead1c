//! Parquet with a list column.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::{WriterProperties, WriterVersion};
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use ::parquet::schema::types::ColumnPath;
use rlx_weights::UnfinishedFile;

use super::{SinkOptions, VectorSink, check, create_file};
use crate::{Text, VectorsError};

/// Bytes of vectors in a row group: what is held before it is written.
const GROUP_BYTES: usize = 16 << 20;

/// The columns `index`, `text` if asked for, and `embedding`.
pub(super) struct Parquet {
    writer: SerializedFileWriter<File>,
    unfinished: UnfinishedFile,
    dims: usize,
    texts: bool,
    group: Group,
}

/// Rows of a row group that is being filled.
#[derive(Default)]
struct Group {
    index: Vec<i64>,
    texts: Vec<ByteArray>,
    vectors: Vec<f32>,
    bytes: usize,
}

impl Parquet {
    pub(super) fn create(path: &Path, options: &SinkOptions) -> Result<Parquet, VectorsError> {
        let failed = |error: ParquetError| VectorsError::file(path, error.to_string());
        let unfinished = UnfinishedFile::new(path)?;
        let text = if options.texts { "REQUIRED BYTE_ARRAY text (STRING);" } else { "" };
        let schema = format!(
            "message schema {{ REQUIRED INT64 index; {text}
               REQUIRED group embedding (LIST) {{ REPEATED group list {{ REQUIRED FLOAT element; }} }} }}"
        );
        let schema = parse_message_type(&schema).map_err(failed)?;
        let metadata = options.metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_created_by(concat!("rlx-vectors ", env!("CARGO_PKG_VERSION")).into())
            .set_key_value_metadata(Some(metadata))
            .set_dictionary_enabled(false)
            // Numbers that look random do not shrink.
            .set_column_compression(ColumnPath::from("text"), Compression::SNAPPY)
            .build();
        let file = create_file(&unfinished)?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        Ok(Parquet { writer, unfinished, dims: options.dims, texts: options.texts, group: Group::default() })
    }

    fn write_group(&mut self) -> Result<(), VectorsError> {
        let group = std::mem::take(&mut self.group);
        if group.index.is_empty() {
            return Ok(());
        }
        let (writer, texts, dims) = (&mut self.writer, self.texts, self.dims);
        let mut write = || -> Result<(), ParquetError> {
            let mut columns = writer.next_row_group()?;
            write_column::<Int64Type>(&mut columns, &group.index, None)?;
            if texts {
                write_column::<ByteArrayType>(&mut columns, &group.texts, None)?;
            }
            // Repetition level 0 begins a list, 1 goes on with it.
            let repetition: Vec<i16> = (0..group.vectors.len()).map(|i| i16::from(i % dims != 0)).collect();
            let definition = vec![1; group.vectors.len()];
            write_column::<FloatType>(&mut columns, &group.vectors, Some((&definition, &repetition)))?;
            columns.close().map(drop)
        };
        write().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &ParquetError) -> VectorsError {
        VectorsError::file(self.unfinished.place(), error.to_string())
    }
}

/// One column of a row group, with its definition and repetition levels if it has any.
fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    levels: Option<(&[i16], &[i16])>,
) -> Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else {
        return Err(ParquetError::General("the schema has too few columns".into()));
    };
    let (definition, repetition) = levels.unzip();
    column.typed::<T>().write_batch(values, definition, repetition)?;
    column.close()
}

impl VectorSink for Parquet {
    fn write(&mut self, texts: &[Text], vectors: &[f32]) -> Result<(), VectorsError> {
        check(texts, vectors, self.dims)?;
        for (text, vector) in texts.iter().zip(vectors.chunks_exact(self.dims)) {
            let index = i64::try_from(text.row);
            self.group.index.push(index.map_err(|_| VectorsError::Usage("too many rows for Parquet".into()))?);
            if self.texts {
                self.group.texts.push(ByteArray::from(text.text.as_str()));
                self.group.bytes += text.text.len();
            }
            self.group.vectors.extend_from_slice(vector);
            self.group.bytes += size_of_val(vector);
            if self.group.bytes >= GROUP_BYTES {
                self.write_group()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), VectorsError> {
        self.write_group()?;
        let Parquet { writer, unfinished, .. } = *self;
        let file = writer.into_inner().map_err(|e| VectorsError::file(unfinished.place(), e.to_string()))?;
        drop(file);
        Ok(unfinished.finish()?)
    }
}
