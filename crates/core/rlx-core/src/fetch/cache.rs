//! The cache on disk: final names, `.part` files, checked stamps, and the lock between processes.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::{FetchError, Phase, Progress, SourceFile};

/// Creates `dir` and its parents.
pub(super) fn create_dir(dir: &Path) -> Result<(), FetchError> {
    fs::create_dir_all(dir).map_err(|e| FetchError::write(dir, e))
}

/// One file's place in the cache.
pub(super) struct Entry {
    /// The final name.
    pub(super) path: PathBuf,
}

impl Entry {
    /// The entry of the file at `relative` below `dir`.
    pub(super) fn new(dir: &Path, relative: &str) -> Self {
        Entry { path: dir.join(relative) }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        self.path.with_file_name(name)
    }

    /// Where an unfinished download lies.
    pub(super) fn part(&self) -> PathBuf {
        self.beside(".part")
    }

    /// Records that the file was checked, with the sum, size and time it had then.
    fn stamp(&self) -> PathBuf {
        self.beside(".verified")
    }

    /// Creates the directory that holds the file.
    pub(super) fn create_parent(&self) -> Result<(), FetchError> {
        self.path.parent().map_or(Ok(()), create_dir)
    }

    /// True if the final file is there and is the published one. Its sum is computed when no stamp vouches for it,
    /// as after it was put there by hand.
    pub(super) fn is_verified(&self, file: &SourceFile, progress: &mut dyn Progress) -> Result<bool, FetchError> {
        match fs::metadata(&self.path) {
            Ok(meta) if meta.is_file() && meta.len() == file.bytes => {}
            Ok(_) => return Ok(false),
            Err(e) if absent(&e) => return Ok(false),
            Err(e) => return Err(FetchError::read(&self.path, e)),
        }
        if fs::read_to_string(self.stamp()).is_ok_and(|text| Some(text) == self.stamp_text(file.sha256)) {
            return Ok(true);
        }
        if hash_file(&self.path, progress)? != file.sha256 {
            return Ok(false);
        }
        self.write_stamp(file.sha256);
        Ok(true)
    }

    /// Checks the finished `.part` file against `file` and gives it its final name. A wrong one is removed.
    pub(super) fn accept(&self, file: &SourceFile, progress: &mut dyn Progress) -> Result<(), FetchError> {
        self.accept_sum(Some(file.sha256), progress)
    }

    /// As [`Entry::accept`], for a file whose sum may be unknown.
    pub(super) fn accept_sum(&self, sha256: Option<&str>, progress: &mut dyn Progress) -> Result<(), FetchError> {
        let part = self.part();
        if let Some(expected) = sha256 {
            let found = hash_file(&part, progress)?;
            if found != expected {
                fs::remove_file(&part).map_err(|e| FetchError::write(&part, e))?;
                let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Err(FetchError::WrongHash { file, expected: expected.to_owned(), found });
            }
        }
        File::open(&part).and_then(|f| f.sync_all()).map_err(|e| FetchError::write(&part, e))?;
        fs::rename(&part, &self.path).map_err(|e| FetchError::write(&self.path, e))?;
        if let Some(sum) = sha256 {
            self.write_stamp(sum);
        }
        Ok(())
    }

    /// The stamp only saves time: that it cannot be written (a read-only cache) is no error.
    fn write_stamp(&self, sha256: &str) {
        if let Some(text) = self.stamp_text(sha256) {
            let _ = fs::write(self.stamp(), text);
        }
    }

    fn stamp_text(&self, sha256: &str) -> Option<String> {
        let meta = fs::metadata(&self.path).ok()?;
        let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(format!("{sha256} {} {modified}\n", meta.len()))
    }
}

/// Whether an error means that the path is not there (a parent that is a file counts too).
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Size of `path`, 0 if it is not there.
pub(super) fn length(path: &Path) -> Result<u64, FetchError> {
    match fs::metadata(path) {
        Ok(meta) => Ok(meta.len()),
        Err(e) if absent(&e) => Ok(0),
        Err(e) => Err(FetchError::read(path, e)),
    }
}

/// SHA-256 of a file as lower-case hexadecimal.
pub(super) fn hash_file(path: &Path, progress: &mut dyn Progress) -> Result<String, FetchError> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let file = file.strip_suffix(".part").unwrap_or(&file).to_owned();
    progress.phase(&Phase::Verifying { file });
    let read = |e| FetchError::read(path, e);
    let mut input = File::open(path).map_err(read)?;
    let total = input.metadata().map_err(read)?.len();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let n = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(read(e)),
        };
        hasher.update(&buffer[..n]);
        done += n as u64;
        if progress.advance(done, Some(total)) == ControlFlow::Break(()) {
            return Err(FetchError::Interrupted);
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// An exclusive lock on a directory of the cache, released when dropped or when the process ends.
pub(super) struct DirLock {
    _file: Option<File>,
}

impl DirLock {
    /// Waits until no other process holds the lock of `dir`.
    pub(super) fn acquire(dir: &Path, progress: &mut dyn Progress) -> Result<Self, FetchError> {
        let path = dir.join(".lock");
        let write = |e| FetchError::write(&path, e);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(write)?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(DirLock { _file: Some(file) }),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        progress.phase(&Phase::Waiting);
                        told = true;
                    }
                    if progress.advance(0, None) == ControlFlow::Break(()) {
                        return Err(FetchError::Interrupted);
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                // Some network file systems have no locks: go on without, the final rename is atomic all the same.
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                    return Ok(DirLock { _file: None });
                }
                Err(TryLockError::Error(e)) => return Err(write(e)),
            }
        }
    }
}
