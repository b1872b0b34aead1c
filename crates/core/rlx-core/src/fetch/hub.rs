//! Any file or repository of the hub, by reference.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::cache::{self, DirLock, Entry};
use super::{FetchError, FetchOptions, Progress, http};

/// A repository of the hub, and perhaps one file and a revision of it: `owner/name[:file][@revision]`.
///
/// ```
/// use rlx_core::fetch::HubRef;
/// let r: HubRef = "owner/name:sub/model.gguf@v1.0".parse()?;
/// assert_eq!((r.repo.as_str(), r.file.as_deref(), r.revision.as_str()), ("owner/name", Some("sub/model.gguf"), "v1.0"));
/// # Ok::<(), rlx_core::fetch::FetchError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRef {
    /// `owner/name`.
    pub repo: String,
    /// Path inside the repository; `None` means the whole model.
    pub file: Option<String>,
    /// Commit, branch or tag; `main` unless given.
    pub revision: String,
}

impl FromStr for HubRef {
    type Err = FetchError;

    fn from_str(text: &str) -> Result<Self, FetchError> {
        let bad = |reason| FetchError::BadReference { text: text.to_owned(), reason };
        let (rest, revision) = match text.rsplit_once('@') {
            Some((rest, revision)) => (rest, revision),
            None => (text, "main"),
        };
        let (repo, file) = match rest.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (rest, None),
        };
        let (owner, name) = repo.split_once('/').ok_or_else(|| bad("the owner is missing"))?;
        for part in [owner, name] {
            let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            if part.is_empty() || !plain || part.starts_with('.') {
                return Err(bad("owner and name are letters, digits, `-`, `_` and `.`"));
            }
        }
        if file.is_some_and(|file| !is_safe_relative(file)) {
            return Err(bad("the file must be a relative path inside the repository"));
        }
        if !is_safe_relative(revision) {
            return Err(bad("the revision must be a commit, branch or tag"));
        }
        Ok(HubRef { repo: repo.to_owned(), file: file.map(str::to_owned), revision: revision.to_owned() })
    }
}

impl fmt::Display for HubRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo)?;
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// True for a path that stays below where it is joined, on every system.
fn is_safe_relative(path: &str) -> bool {
    let plain = !path.is_empty() && !path.bytes().any(|b| b.is_ascii_control() || b"\\:?*\"<>|".contains(&b));
    plain
        && !path.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Brings a file of the hub, or a whole model, into the cache.
///
/// With a file: returns its path; of a split GGUF all shards are fetched and the first one's path is returned.
/// Without: a repository of safetensors is fetched with its configuration and tokenizer files and the directory is
/// returned; a repository with a single GGUF is fetched as that file; several GGUF files are
/// [`FetchError::Ambiguous`].
///
/// A file that is in the cache is used as it is, with [`FetchOptions::force`] it is fetched anew. Where the hub tells
/// the SHA-256 it is checked.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch_hub(
    reference: &HubRef,
    options: &FetchOptions,
    progress: &mut dyn Progress,
) -> Result<PathBuf, FetchError> {
    let owner_name = reference.repo.replace('/', "--");
    let dir = options.cache_root()?.join("hub").join(owner_name).join(&reference.revision);
    // The list of a whole model is kept beside it, so that it is found again without the network.
    let list_path = dir.join(".files.json");
    let selection = match &reference.file {
        Some(file) => Selection { open: Some(file.clone()), files: shards(file).unwrap_or(vec![file.clone()]) },
        None => match std::fs::read(&list_path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(Listing { files }) if !options.force => Selection::of(&reference.repo, &files)?,
            _ if options.offline => return Err(offline(reference, &dir, options)),
            _ => {
                let files = list(reference, options, progress)?;
                let selection = Selection::of(&reference.repo, &files)?;
                cache::create_dir(&dir)?;
                let text = serde_json::json!({ "files": files }).to_string();
                std::fs::write(&list_path, text).map_err(|e| FetchError::write(&list_path, e))?;
                selection
            }
        },
    };
    let open = selection.open.as_ref().map_or_else(|| dir.clone(), |file| dir.join(file));
    let absent = |file: &&String| options.force || !dir.join(file).is_file();
    if !selection.files.iter().any(|file| absent(&file)) {
        return Ok(open);
    }
    if options.offline {
        return Err(offline(reference, &dir, options));
    }
    cache::create_dir(&dir)?;
    let _lock = DirLock::acquire(&dir, progress)?;
    let client = http::Client::new(options);
    for file in selection.files.iter().filter(absent) {
        let entry = Entry::new(&dir, file);
        entry.create_parent()?;
        let url = resolve_url(&options.hub_endpoint, &reference.repo, &reference.revision, file);
        let mut tag = entry.part().into_os_string();
        tag.push(".etag");
        let tag = PathBuf::from(tag);
        let transfer = client.download(&url, None, &entry.part(), Some(&tag), progress)?;
        let accepted = entry.accept_sum(transfer.sha256.as_deref(), progress);
        // Only meaningful together with the `.part` file, which is gone now.
        let _ = std::fs::remove_file(&tag);
        accepted?;
    }
    Ok(open)
}

fn offline(reference: &HubRef, dir: &Path, options: &FetchOptions) -> FetchError {
    let endpoint = &options.hub_endpoint;
    let manual = match &reference.file {
        Some(file) => format!(
            "to put it there by hand, on a machine that has network access:\n  download {}\n  as {}",
            resolve_url(endpoint, &reference.repo, &reference.revision, file),
            dir.join(file).display()
        ),
        None => format!(
            "on a machine that has network access download the files of {endpoint}/{} and give their directory as weights",
            reference.repo
        ),
    };
    FetchError::Offline { what: reference.to_string(), dir: dir.to_owned(), manual }
}

/// Where a file is downloaded from.
pub(super) fn resolve_url(endpoint: &str, repo: &str, revision: &str, file: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    let path: Vec<String> = file.split('/').map(percent_encode).collect();
    format!("{endpoint}/{repo}/resolve/{}/{}", percent_encode(revision), path.join("/"))
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// What we keep of a repository's file list.
#[derive(Deserialize)]
struct Listing {
    files: Vec<String>,
}

/// The names of all files of a repository that could be written below a directory.
fn list(reference: &HubRef, options: &FetchOptions, progress: &mut dyn Progress) -> Result<Vec<String>, FetchError> {
    #[derive(Deserialize)]
    struct Model {
        #[serde(default)]
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    struct Sibling {
        rfilename: String,
    }
    let endpoint = options.hub_endpoint.trim_end_matches('/');
    let url = format!("{endpoint}/api/models/{}/revision/{}", reference.repo, percent_encode(&reference.revision));
    let text = http::Client::new(options).text(&url, progress)?;
    let model: Model = serde_json::from_str(&text)
        .map_err(|e| FetchError::BadResponse { url, reason: format!("no valid file list: {e}") })?;
    Ok(model.siblings.into_iter().map(|s| s.rfilename).filter(|name| is_safe_relative(name)).collect())
}

/// Which files of a repository make up the model.
#[derive(Debug, PartialEq, Eq)]
struct Selection {
    /// The file to open; `None` for the directory.
    open: Option<String>,
    files: Vec<String>,
}

impl Selection {
    fn of(repo: &str, all: &[String]) -> Result<Self, FetchError> {
        let with = |suffix: &str| -> Vec<&String> { all.iter().filter(|f| f.ends_with(suffix)).collect() };
        let mut tensors = with(".safetensors");
        // A repository that also keeps its components in folders has the whole model at the top.
        if tensors.iter().any(|f| !f.contains('/')) {
            tensors.retain(|f| !f.contains('/'));
        }
        // Some publishers ship the same weights a second time in their own layout.
        if tensors.iter().any(|f| f.starts_with("model")) {
            tensors.retain(|f| !f.starts_with("consolidated"));
        }
        if !tensors.is_empty() {
            let companion = |f: &&String| {
                [".json", ".txt", ".model", ".jinja"].iter().any(|s| f.ends_with(s)) && !f.starts_with("onnx/")
            };
            let files = tensors.into_iter().chain(all.iter().filter(companion)).cloned().collect();
            return Ok(Selection { open: None, files });
        }
        let ggufs = with(".gguf");
        let Some(first) = ggufs.first().copied().or(with(".onnx").first().copied()) else {
            return Err(FetchError::NoWeights { repo: repo.to_owned() });
        };
        let group = shards(first).unwrap_or(vec![first.clone()]);
        if ggufs.iter().any(|f| !group.contains(f)) {
            const SHOWN: usize = 12;
            let mut names: Vec<&str> = ggufs.iter().take(SHOWN).map(|f| f.as_str()).collect();
            if ggufs.len() > SHOWN {
                names.push("...");
            }
            return Err(FetchError::Ambiguous { repo: repo.to_owned(), count: ggufs.len(), files: names.join(", ") });
        }
        Ok(Selection { open: group.first().cloned(), files: group })
    }
}

/// All shard names of a split GGUF (`x-00002-of-00003.gguf`), from any one of them.
fn shards(file: &str) -> Option<Vec<String>> {
    let stem = file.strip_suffix(".gguf")?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let five_digits = |s: &str| s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit());
    if !five_digits(count) || !five_digits(number) {
        return None;
    }
    let n: u32 = count.parse().ok()?;
    Some((1..=n).map(|i| format!("{prefix}-{i:05}-of-{count}.gguf")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed_and_hostile_ones_refused() {
        let r: HubRef = "o/n".parse().unwrap();
        assert_eq!((r.file, r.revision.as_str()), (None, "main"));
        let r: HubRef = "o/n@refs/pr/1".parse().unwrap();
        assert_eq!(r.revision, "refs/pr/1");
        for text in
            ["", "n", "o/", "/n", "o/n:", "o/n:../x", "o/n:/etc/x", "o/n:a\\b", "o/n@..", "o/n/x", "../n", "o/n:a//b"]
        {
            assert!(text.parse::<HubRef>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn urls_are_escaped() {
        assert_eq!(
            resolve_url("http://h/", "o/n", "refs/pr/1", "a b/c#.gguf"),
            "http://h/o/n/resolve/refs%2Fpr%2F1/a%20b/c%23.gguf"
        );
    }

    #[test]
    fn selections() {
        let of = |names: &[&str]| Selection::of("o/n", &names.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        let s = of(&["README.md", "config.json", "model.safetensors", "consolidated.safetensors", "x.bin"]).unwrap();
        assert_eq!(s, Selection { open: None, files: vec!["model.safetensors".into(), "config.json".into()] });
        let s = of(&["a-00002-of-00002.gguf", "a-00001-of-00002.gguf"]).unwrap();
        assert_eq!(s.open.as_deref(), Some("a-00001-of-00002.gguf"));
        assert!(matches!(of(&["a.gguf", "b.gguf"]), Err(FetchError::Ambiguous { count: 2, .. })));
        assert!(matches!(of(&["README.md"]), Err(FetchError::NoWeights { .. })));
    }
}
