//! From the path a user gave to the files of one checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{OpenOptions, map_file, read_json};
use crate::custom::{CustomFormat, format_for};
use crate::split::SplitName;
use crate::{WeightsError, gguf, quant_tag};

/// The files of one checkpoint.
pub(crate) enum Located {
    Gguf { parts: Vec<PathBuf>, missing: Vec<PathBuf> },
    Safetensors { files: Vec<PathBuf>, missing: Vec<PathBuf>, index: Option<Index> },
    Custom(PathBuf, Arc<dyn CustomFormat>),
}

/// A sharded index: which file holds each tensor.
pub(crate) struct Index {
    pub(crate) path: PathBuf,
    pub(crate) weight_map: BTreeMap<String, String>,
}

/// One GGUF model of a directory; the parts of a split file count as one.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GgufListing {
    /// Number for [`OpenOptions::gguf_index`].
    pub index: usize,
    /// File name, of the first part if the file is split.
    pub name: String,
    /// Quantisation tag (`Q4_K_M`), from the name or else from `general.file_type`.
    pub quant: Option<String>,
    /// Size of the parts that are there.
    pub bytes: u64,
    /// Number of parts, 1 for a file that is not split.
    pub parts: usize,
    /// Parts that are not there.
    pub missing: Vec<PathBuf>,
    /// Whether it is a projector (`mmproj`) or another companion, which is never picked by default.
    pub companion: bool,
    /// The parts that are there.
    #[serde(skip)]
    pub paths: Vec<PathBuf>,
}

pub(crate) fn locate(path: &Path, options: &OpenOptions) -> Result<Located, WeightsError> {
    let meta = std::fs::metadata(path).map_err(|source| WeightsError::io(path, source))?;
    if meta.is_dir() { locate_in_directory(path, options) } else { locate_file(path) }
}

fn locate_file(path: &Path) -> Result<Located, WeightsError> {
    if let Some(format) = format_for(path) {
        return Ok(Located::Custom(path.to_path_buf(), format));
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_lowercase();
    if name.ends_with(".index.json") {
        return locate_index(path);
    }
    if name.ends_with(".gguf") {
        return locate_gguf(path);
    }
    if name.ends_with(".safetensors") {
        return locate_safetensors(path);
    }
    // Files in download caches are named by their hash.
    let bytes = map_file(path)?;
    if bytes.starts_with(&gguf::MAGIC) {
        return locate_gguf(path);
    }
    if bytes.get(8) == Some(&b'{') && bytes[..8].last() == Some(&0) {
        return locate_safetensors(path);
    }
    Err(WeightsError::not_found(
        path,
        "not a checkpoint: expected a .gguf or .safetensors file, or a directory with one",
    ))
}

fn locate_gguf(path: &Path) -> Result<Located, WeightsError> {
    let single = Located::Gguf { parts: vec![path.to_path_buf()], missing: Vec::new() };
    let Some(split) = SplitName::of(path).filter(|split| split.count > 1) else { return Ok(single) };
    match gguf::parse_metadata(&map_file(path)?, path)?.get_u64("split.count") {
        None => Ok(single),
        Some(count) if count == split.count as u64 => {
            let (parts, missing) = split.parts(path);
            Ok(Located::Gguf { parts, missing })
        }
        Some(count) => Err(WeightsError::format(path, format!("is one of {count} parts, not of {}", split.count))),
    }
}

fn locate_safetensors(path: &Path) -> Result<Located, WeightsError> {
    let single = Located::Safetensors { files: vec![path.to_path_buf()], missing: Vec::new(), index: None };
    let Some(split) = SplitName::of(path) else { return Ok(single) };
    let index = path.with_file_name(format!("{}.safetensors.index.json", split.prefix));
    if index.is_file() {
        return locate_index(&index);
    }
    let (files, missing) = split.parts(path);
    Ok(Located::Safetensors { files, missing, index: None })
}

fn locate_index(path: &Path) -> Result<Located, WeightsError> {
    let mut json = read_json(path)?;
    let bad = |what: &str| Err(WeightsError::format(path, what));
    let Some(serde_json::Value::Object(map)) = json.get_mut("weight_map").map(serde_json::Value::take) else {
        return bad("a safetensors index needs an object `weight_map`");
    };
    let mut names = BTreeSet::new();
    let mut weight_map = BTreeMap::new();
    for (tensor, file) in map {
        let serde_json::Value::String(file) = file else {
            return bad("`weight_map` must map tensor names to file names");
        };
        // A shard lies beside its index, not wherever the index says.
        let mut components = Path::new(&file).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            return bad("`weight_map` names a file outside its directory");
        }
        names.insert(file.clone());
        weight_map.insert(tensor, file);
    }
    if names.is_empty() {
        return bad("`weight_map` is empty");
    }
    let (files, missing) = names.iter().map(|name| path.with_file_name(name)).partition(|file| file.is_file());
    Ok(Located::Safetensors { files, missing, index: Some(Index { path: path.to_path_buf(), weight_map }) })
}

fn locate_in_directory(dir: &Path, options: &OpenOptions) -> Result<Located, WeightsError> {
    let names = file_names(dir)?;
    let has = |name: &str| names.iter().any(|other| other == name);
    let listing = list_gguf(dir)?;
    if options.gguf_index.is_some() || (options.prefer_quant.is_some() && !listing.is_empty()) {
        return choose_gguf(dir, listing, options);
    }
    for stem in ["model", "diffusion_pytorch_model", "consolidated"] {
        let file = format!("{stem}.safetensors");
        if has(&file) {
            return locate_safetensors(&dir.join(file));
        }
        let index = format!("{stem}.safetensors.index.json");
        if has(&index) {
            return locate_index(&dir.join(index));
        }
    }
    if listing.iter().any(|entry| !entry.companion) {
        return choose_gguf(dir, listing, options);
    }
    let loose: Vec<&String> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
    let groups: BTreeSet<Option<String>> =
        loose.iter().map(|name| SplitName::of(name.as_ref()).map(|split| split.prefix)).collect();
    if let Some(first) = loose.first() {
        if loose.len() == 1 || (groups.len() == 1 && !groups.contains(&None)) {
            return locate_safetensors(&dir.join(first));
        }
        let what = format!("holds several safetensors files, name one: {}", crate::error::list_names(&loose));
        return Err(WeightsError::not_found(dir, what));
    }
    for name in &names {
        if let Some(format) = format_for(name.as_ref()) {
            return Ok(Located::Custom(dir.join(name), format));
        }
    }
    if !listing.is_empty() {
        return Err(WeightsError::not_found(dir, "holds a projector (mmproj) only, not the model it belongs to"));
    }
    let hint = match names.iter().find(|name| name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth"))
    {
        Some(name) => format!(" ({} would have to be converted to safetensors)", crate::error::quoted(name)),
        None => String::new(),
    };
    Err(WeightsError::not_found(dir, format!("no checkpoint here: expected *.gguf or model.safetensors{hint}")))
}

fn choose_gguf(dir: &Path, listing: Vec<GgufListing>, options: &OpenOptions) -> Result<Located, WeightsError> {
    let there =
        crate::error::list_names(&listing.iter().map(|e| format!("{} {}", e.index, e.name)).collect::<Vec<_>>());
    let wish = options.prefer_quant.as_ref().map(|wish| wish.to_ascii_uppercase());
    let matches = |entry: &&GgufListing| match (&wish, &entry.quant) {
        (Some(wish), Some(quant)) => {
            quant == wish || quant.strip_prefix(wish.as_str()).is_some_and(|r| r.starts_with('_'))
        }
        (wish, _) => wish.is_none(),
    };
    let chosen = match options.gguf_index {
        Some(index) => listing.get(index),
        None => listing
            .iter()
            .filter(|entry| !entry.companion)
            .filter(matches)
            .min_by_key(|entry| (entry.quant != wish, quant_tag::rank(entry.quant.as_deref()), entry.index)),
    };
    match chosen {
        Some(entry) => Ok(Located::Gguf { parts: entry.paths.clone(), missing: entry.missing.clone() }),
        None if listing.is_empty() => Err(WeightsError::not_found(dir, "no .gguf file here")),
        None => {
            let asked = match (options.gguf_index, &wish) {
                (Some(index), _) => format!("number {index}"),
                (None, Some(wish)) => format!("quantisation {wish}"),
                (None, None) => "model".to_owned(),
            };
            Err(WeightsError::not_found(dir, format!("no .gguf file of {asked} here, there are: {there}")))
        }
    }
}

/// The GGUF models of a directory, sorted by name, numbered for [`OpenOptions::gguf_index`].
///
/// # Errors
/// [`WeightsError::Io`] if the directory cannot be read. Files that are no valid GGUF are listed all the same.
pub fn list_gguf(dir: &Path) -> Result<Vec<GgufListing>, WeightsError> {
    let mut out: Vec<GgufListing> = Vec::new();
    let mut splits = BTreeSet::new();
    for name in file_names(dir)? {
        if !name.to_ascii_lowercase().ends_with(".gguf") {
            continue;
        }
        let path = dir.join(&name);
        let (paths, missing, parts) = match SplitName::of(&path) {
            Some(split) if split.count > 1 => {
                if !splits.insert((split.prefix.clone(), split.count)) {
                    continue;
                }
                let (paths, missing) = split.parts(&path);
                (paths, missing, split.count)
            }
            _ => (vec![path.clone()], Vec::new(), 1),
        };
        let metadata = || gguf::parse_metadata(&map_file(&path).ok()?, &path).ok();
        let quant = quant_tag::from_name(&path)
            .or_else(|| quant_tag::from_file_type(metadata()?.get_u32("general.file_type")?));
        out.push(GgufListing {
            index: out.len(),
            companion: name.to_ascii_lowercase().contains("mmproj"),
            name,
            quant: quant.map(str::to_owned),
            bytes: paths.iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum(),
            parts,
            missing,
            paths,
        });
    }
    Ok(out)
}

/// Names of the regular files in a directory, sorted.
fn file_names(dir: &Path) -> Result<Vec<String>, WeightsError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|source| WeightsError::io(dir, source))? {
        let entry = entry.map_err(|source| WeightsError::io(dir, source))?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.path().is_file()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
