//! Vectors to files.

mod jsonl;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod safetensors;
mod whole;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use rlx_weights::UnfinishedFile;

use crate::{Text, VectorFormat, VectorsError};

/// Vectors row by row into a file. Nothing of the file is there before [`VectorSink::finish`], and nothing if the sink is dropped
/// without it. (JSON lines to a stream are there as they are written.)
pub trait VectorSink {
    /// Adds rows: `vectors` is `[texts.len(), dims]`, row-major.
    ///
    /// # Errors
    /// If the rows cannot be written, `vectors` is of another size, or a value is not finite.
    fn write(&mut self, texts: &[Text], vectors: &[f32]) -> Result<(), VectorsError>;

    /// Makes the file complete, with the rows written so far.
    ///
    /// # Errors
    /// If it cannot be written, or moved to its place.
    fn finish(self: Box<Self>) -> Result<(), VectorsError>;
}

/// How to write vectors.
#[derive(Debug, Clone, Default)]
pub struct SinkOptions {
    /// Numbers per vector.
    pub dims: usize,
    /// Write the texts too.
    pub texts: bool,
    /// Kept in the files of formats that can (safetensors, Parquet): which model made the vectors, and how.
    pub metadata: BTreeMap<String, String>,
    /// Replace what is there.
    pub overwrite: bool,
}

/// A sink into the file `path`.
///
/// # Errors
/// If it cannot be created, or is there and may not be replaced; `dims` of 0; texts in a format that has no place for them; Parquet
/// where it is not built in.
pub fn create_sink(
    path: &Path,
    format: VectorFormat,
    options: &SinkOptions,
) -> Result<Box<dyn VectorSink>, VectorsError> {
    if options.dims == 0 {
        return Err(VectorsError::Usage("vectors of no dimensions".into()));
    }
    if !options.overwrite && std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
        let what = format!("{}: there is such a file; --force replaces it", path.display());
        return Err(VectorsError::Usage(what));
    }
    match format {
        VectorFormat::Jsonl => jsonl::create(path, options),
        VectorFormat::Npy => Ok(Box::new(npy::Npy::create(path, options)?)),
        VectorFormat::Safetensors => Ok(Box::new(safetensors::Safetensors::create(path, options)?)),
        #[cfg(feature = "parquet")]
        VectorFormat::Parquet => Ok(Box::new(parquet::Parquet::create(path, options)?)),
        #[cfg(not(feature = "parquet"))]
        VectorFormat::Parquet => Err(no_parquet(&path.display().to_string())),
    }
}

/// A sink of JSON lines into a stream, flushed after each write.
pub fn jsonl_sink<'w>(stream: impl Write + 'w, name: &str, options: &SinkOptions) -> Box<dyn VectorSink + 'w> {
    Box::new(jsonl::Jsonl::new(stream, name, options))
}

#[cfg(not(feature = "parquet"))]
pub(crate) fn no_parquet(name: &str) -> VectorsError {
    VectorsError::Usage(format!("{name}: Parquet is not built into this binary (cargo feature `parquet`)"))
}

/// The size of a block of rows, and their values: a row that is not finite would spoil every search.
fn check(texts: &[Text], vectors: &[f32], dims: usize) -> Result<(), VectorsError> {
    if texts.len().checked_mul(dims) != Some(vectors.len()) {
        let what = format!("{} texts of {dims} numbers each, but {} numbers were given", texts.len(), vectors.len());
        return Err(VectorsError::Usage(what));
    }
    match vectors.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(VectorsError::Usage(format!(
            "the vector of text {} is not finite ({}): the model is damaged, or its precision is too low",
            texts[at / dims].row,
            vectors[at]
        ))),
        None => Ok(()),
    }
}

/// Numbers in little-endian order, as all formats here have them.
fn write_f32s(file: &mut impl Write, vectors: &[f32]) -> std::io::Result<()> {
    if cfg!(target_endian = "little") {
        return file.write_all(bytemuck::cast_slice(vectors));
    }
    vectors.iter().try_for_each(|x| file.write_all(&x.to_le_bytes()))
}

/// The file to be moved to its place later; errors call it by its place.
fn create_file(unfinished: &UnfinishedFile) -> Result<File, VectorsError> {
    let place = unfinished.place().display().to_string();
    File::create(unfinished.path()).map_err(|source| VectorsError::io(place, source))
}
