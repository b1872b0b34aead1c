//! Files that are there as a whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::WeightsError;

/// A file that is written beside its place and moved there when it is finished. Dropped before that, nothing of it is left, and
/// what was at its place is untouched.
#[derive(Debug)]
pub struct UnfinishedFile {
    place: PathBuf,
    unfinished: PathBuf,
    moved: bool,
}

impl UnfinishedFile {
    /// For a file at `place`. A link is followed: the file that it points to is replaced.
    ///
    /// # Errors
    /// [`WeightsError::Io`] if something that is no file lies at `place`: a directory, a device, a pipe.
    pub fn new(place: &Path) -> Result<UnfinishedFile, WeightsError> {
        let place = match fs::metadata(place) {
            Ok(found) if found.is_file() => {
                fs::canonicalize(place).map_err(|source| WeightsError::io(place, source))?
            }
            Ok(_) => {
                let source =
                    io::Error::new(io::ErrorKind::AlreadyExists, "is no file, so it cannot be replaced by one");
                return Err(WeightsError::io(place, source));
            }
            // Whatever else is wrong shows when the file is created.
            Err(_) => place.to_path_buf(),
        };
        let mut unfinished: OsString = place.as_os_str().to_owned();
        unfinished.push(".part");
        Ok(UnfinishedFile { place, unfinished: unfinished.into(), moved: false })
    }

    /// Where to write it.
    pub fn path(&self) -> &Path {
        &self.unfinished
    }

    /// Where it will be.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Moves it to its place.
    ///
    /// # Errors
    /// [`WeightsError::Io`] if it cannot be moved.
    pub fn finish(mut self) -> Result<(), WeightsError> {
        fs::rename(&self.unfinished, &self.place).map_err(|source| WeightsError::io(&self.place, source))?;
        self.moved = true;
        Ok(())
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if !self.moved {
            // What went wrong before tells more than that of cleaning up.
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

/// Lets `write` write a file beside `path`, then moves it there, replacing what is there; see [`UnfinishedFile`].
///
/// # Errors
/// Those of `write`, and [`WeightsError::Io`] if the file cannot be moved.
pub fn replace_file<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T, WeightsError>) -> Result<T, WeightsError> {
    let file = UnfinishedFile::new(path)?;
    let result = write(file.path())?;
    file.finish()?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let write =
            |text: &'static str| move |path: &Path| fs::write(path, text).map_err(|e| WeightsError::io(path, e));
        replace_file(&path, write("first")).unwrap();
        let failed: Result<(), _> = replace_file(&path, |part| {
            write("second")(part)?;
            Err(WeightsError::Usage("no".into()))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        replace_file(&link, |path| fs::write(path, "new").map_err(|e| WeightsError::io(path, e))).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        for place in [Path::new("/dev/null"), dir.path()] {
            let error = UnfinishedFile::new(place).unwrap_err().to_string();
            assert!(error.contains("is no file"), "{error}");
        }
    }
}
