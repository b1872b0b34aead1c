//! A file that begins with how much is in it, which is known last.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use rlx_weights::UnfinishedFile;

use crate::VectorsError;

/// Room for a header, then data; the header is written at the end, the file then moved to its place.
pub(super) struct HeaderFirst {
    file: BufWriter<File>,
    unfinished: UnfinishedFile,
}

impl HeaderFirst {
    /// Creates the file with `room` bytes before the data.
    pub(super) fn create(path: &Path, room: usize) -> Result<HeaderFirst, VectorsError> {
        let unfinished = UnfinishedFile::new(path)?;
        let file = BufWriter::with_capacity(1 << 20, super::create_file(&unfinished)?);
        let mut whole = HeaderFirst { file, unfinished };
        whole.write(|file| file.write_all(&vec![0; room]))?;
        Ok(whole)
    }

    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ) -> Result<(), VectorsError> {
        write(&mut self.file).map_err(|source| VectorsError::io(self.unfinished.place().display().to_string(), source))
    }

    /// Writes the header, whose length is the room left for it.
    pub(super) fn finish(mut self, header: &[u8]) -> Result<(), VectorsError> {
        self.write(|file| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(header)?;
            file.flush()
        })?;
        drop(self.file);
        Ok(self.unfinished.finish()?)
    }
}
