//! A checkpoint's tensors under the canonical names of a family's table.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::mtp::mtp_tensors;
use crate::names::{NameRule, Presence, Transform, expand, match_pattern};
use crate::{Checkpoint, Format, TensorView, WeightsError};

const MAX_LAYERS: usize = 1 << 16;
const MAX_PARAMETERS: usize = 1 << 20;
/// Names are compared by their first characters; tensor names are shorter.
const MAX_COMPARED: usize = 200;

/// What a table needs to know of the model.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapOptions<'a> {
    /// Number of layers: the first `{}` of a name runs over it.
    pub layers: usize,
    /// Number of experts: the second `{}` of a name runs over it.
    pub experts: usize,
    /// Dim of one attention head, for [`Transform::LlamaRopePermute`].
    pub head_dim: usize,
    /// Other spellings of the beginning of canonical names: `("model.", "")` finds `layers.0.x` for `model.layers.0.x`.
    pub prefixes: &'a [(&'a str, &'a str)],
}

#[derive(Debug)]
struct Slot {
    tensor: TensorView,
    transform: Transform,
    expert: usize,
    taken: bool,
}

/// A checkpoint resolved against a name table, to be taken apart parameter by parameter.
///
/// The table is total: a required parameter that is not there is an error of [`WeightMap::new`], a tensor that nobody
/// took and no row ignores is one of [`WeightMap::finish`].
///
/// GGUF files, and custom formats that carry GGUF metadata, go by GGUF names; everything else by canonical ones.
#[derive(Debug)]
pub struct WeightMap {
    slots: BTreeMap<String, Slot>,
    /// Names of the table that this checkpoint does not hold, with the names they would have in it.
    absent: BTreeMap<String, String>,
    /// Tensors that no row speaks of.
    unknown: Vec<String>,
    head_dim: usize,
}

impl WeightMap {
    /// Finds every parameter of `rules` in `checkpoint`.
    ///
    /// # Errors
    /// [`WeightsError::MissingParameter`] for the first required parameter that is not there, with the tensor of the
    /// nearest name; [`WeightsError::Usage`] for absurd numbers of layers or experts.
    pub fn new(
        checkpoint: &Checkpoint,
        rules: &[NameRule],
        options: &MapOptions<'_>,
    ) -> Result<WeightMap, WeightsError> {
        if options.layers > MAX_LAYERS || options.layers.saturating_mul(options.experts) > MAX_PARAMETERS {
            let (layers, experts) = (options.layers, options.experts);
            return Err(WeightsError::Usage(format!(
                "a model of {layers} layers with {experts} experts each is absurd"
            )));
        }
        let gguf = checkpoint.format() != &Format::Safetensors && checkpoint.gguf().is_some();
        let prefixes = if gguf { &[] } else { options.prefixes };
        let mut slots = BTreeMap::new();
        let mut absent = BTreeMap::new();
        let mut matched = HashSet::new();
        let mut missing = None;
        for rule in rules.iter().filter(|rule| rule.presence != Presence::Ignored && !rule.canonical.is_empty()) {
            for numbers in numbers_of(rule.canonical, options) {
                let canonical = expand(rule.canonical, &numbers);
                let mut names = Vec::new();
                if !gguf {
                    names.extend(spellings(&canonical, prefixes).map(|name| (name, rule.hf_transform)));
                    if let Some((name, transform)) = rule.hf_instead {
                        names.extend(spellings(&expand(name, &numbers), prefixes).map(|name| (name, transform)));
                    }
                } else if !rule.gguf.is_empty() {
                    names.push((expand(rule.gguf, &numbers), rule.transform));
                }
                let found = names.iter().find_map(|(name, transform)| Some((checkpoint.tensor(name)?, *transform)));
                if let Some((tensor, transform)) = found {
                    matched.insert(tensor.name.as_str());
                    let expert = numbers.get(1).copied().unwrap_or(0);
                    let slot =
                        Slot { tensor: tensor.clone(), transform, expert, taken: rule.presence == Presence::Spare };
                    if slots.insert(canonical, slot).is_some() {
                        return Err(WeightsError::Usage(format!("the name table has {} twice", rule.canonical)));
                    }
                    continue;
                }
                let file_name = names.into_iter().next().map(|(name, _)| name).unwrap_or_default();
                if rule.presence == Presence::Required && missing.is_none() {
                    missing = Some((canonical.clone(), file_name.clone()));
                }
                // Absurd configs must not fill memory with the names of layers that are not there.
                if missing.is_some() && absent.len() > MAX_LAYERS {
                    break;
                }
                absent.insert(canonical, file_name);
            }
        }
        let ignored = |name: &str| {
            let names = if gguf { vec![name.to_owned()] } else { canonical_spellings(name, prefixes) };
            let patterns = rules.iter().filter(|rule| rule.presence == Presence::Ignored);
            let mut patterns = patterns.map(|rule| if gguf { rule.gguf } else { rule.canonical });
            patterns.any(|pattern| names.iter().any(|name| match_pattern(pattern, name).is_some()))
        };
        // Heads to draft with are no part of the model.
        let heads = mtp_tensors(checkpoint);
        let mut unknown: Vec<String> = Vec::new();
        for tensor in checkpoint.tensors().filter(|tensor| !matched.contains(tensor.name.as_str())) {
            if !heads.contains(tensor.name.as_str()) && !ignored(&tensor.name) {
                unknown.push(tensor.name.clone());
            }
        }
        if let Some((name, file_name)) = missing {
            // A renamed tensor is among those that nobody knows; without any, a whole layer or so is not there.
            let wanted = if file_name.is_empty() { &name } else { &file_name };
            let nearest = nearest(wanted, unknown.iter().map(String::as_str))
                .or_else(|| nearest(wanted, checkpoint.tensors().map(|tensor| tensor.name.as_str())));
            return Err(WeightsError::MissingParameter { name, file_name, nearest });
        }
        Ok(WeightMap { slots, absent, unknown, head_dim: options.head_dim })
    }

    /// Whether the checkpoint holds this parameter.
    pub fn contains(&self, canonical: &str) -> bool {
        self.slots.contains_key(canonical)
    }

    /// Canonical names of the parameters that the checkpoint holds, those of [`Presence::Spare`] too.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.slots.keys().map(String::as_str)
    }

    /// The parameter under its canonical name and in canonical row order. A parameter used twice may be taken twice.
    ///
    /// # Errors
    /// [`WeightsError::MissingParameter`] if the checkpoint does not hold it, [`WeightsError::Usage`] if the table does not
    /// have it, the errors of [`Transform::to_canonical`].
    pub fn take(&mut self, canonical: &str) -> Result<TensorView, WeightsError> {
        match self.get_opt(canonical)? {
            Some(tensor) => Ok(tensor),
            None => {
                let file_name = self.absent.get(canonical).cloned().unwrap_or_default();
                let nearest = nearest(&file_name, self.unknown.iter().map(String::as_str));
                Err(WeightsError::MissingParameter { name: canonical.to_owned(), file_name, nearest })
            }
        }
    }

    /// As [`WeightMap::take`], with `None` for an optional parameter that the checkpoint does not hold.
    ///
    /// # Errors
    /// [`WeightsError::Usage`] if the table does not have the name, the errors of [`Transform::to_canonical`].
    pub fn get_opt(&mut self, canonical: &str) -> Result<Option<TensorView>, WeightsError> {
        let Some(slot) = self.slots.get_mut(canonical) else {
            if self.absent.contains_key(canonical) {
                return Ok(None);
            }
            return Err(WeightsError::Usage(format!("parameter {canonical} is not in the family's name table")));
        };
        let mut tensor = slot.transform.to_canonical(&slot.tensor, self.head_dim, slot.expert)?;
        tensor.name = canonical.to_owned();
        slot.taken = true;
        Ok(Some(tensor))
    }

    /// Declares that a parameter is not needed in this model (`lm_head.weight` of a tied one, say).
    pub fn ignore(&mut self, canonical: &str) {
        if let Some(slot) = self.slots.get_mut(canonical) {
            slot.taken = true;
        }
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`WeightsError::UnusedTensors`] with the number of tensors that nobody took and the first of them.
    pub fn finish(self) -> Result<(), WeightsError> {
        let left: BTreeSet<&str> =
            self.slots.values().filter(|slot| !slot.taken).map(|slot| slot.tensor.name.as_str()).collect();
        let count = self.unknown.len() + left.len();
        let Some(first) = self.unknown.first().map(String::as_str).or_else(|| left.first().copied()) else {
            return Ok(());
        };
        let known =
            self.slots.values().map(|slot| slot.tensor.name.as_str()).chain(self.absent.values().map(String::as_str));
        let nearest = if left.contains(first) { None } else { nearest(first, known) };
        Err(WeightsError::UnusedTensors { count, first: first.to_owned(), nearest })
    }
}

/// All number tuples that the `{}` of a canonical name run over.
fn numbers_of(pattern: &str, options: &MapOptions<'_>) -> Box<dyn Iterator<Item = Vec<usize>>> {
    let (layers, experts) = (options.layers, options.experts);
    match pattern.matches("{}").count() {
        0 => Box::new(std::iter::once(Vec::new())),
        1 => Box::new((0..layers).map(|layer| vec![layer])),
        _ => Box::new((0..layers).flat_map(move |layer| (0..experts).map(move |expert| vec![layer, expert]))),
    }
}

fn spellings(canonical: &str, prefixes: &[(&str, &str)]) -> impl Iterator<Item = String> {
    let others = prefixes.iter().filter_map(|(from, to)| Some(format!("{to}{}", canonical.strip_prefix(from)?)));
    std::iter::once(canonical.to_owned()).chain(others)
}

fn canonical_spellings(name: &str, prefixes: &[(&str, &str)]) -> Vec<String> {
    let others = prefixes.iter().filter_map(|(from, to)| Some(format!("{from}{}", name.strip_prefix(to)?)));
    std::iter::once(name.to_owned()).chain(others).collect()
}

/// The candidate with the smallest edit distance.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let head = |name: &str| -> String { name.chars().take(MAX_COMPARED).collect() };
    let name = head(name);
    candidates.min_by_key(|candidate| strsim::levenshtein(&name, &head(candidate))).map(str::to_owned)
}
