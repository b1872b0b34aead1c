//! Multi-token-prediction heads: the layers that some checkpoints carry after the model's own, to draft with.

use std::collections::BTreeSet;

use crate::Checkpoint;

/// Parts that only such a layer has: DeepSeek's and GLM's names.
const MARKS: [&str; 4] = ["enorm", "hnorm", "eh_proj", "shared_head"];

/// Names of the tensors that belong to multi-token-prediction heads, and not to the model: what says so itself (`mtp.*`,
/// `blk.N.nextn.*`), and everything beside it in a layer of its own (`model.layers.N.*` with an `eh_proj`).
pub fn mtp_tensors(checkpoint: &Checkpoint) -> BTreeSet<&str> {
    let names = || checkpoint.tensors().map(|tensor| tensor.name.as_str());
    let layers: BTreeSet<&str> = names()
        .filter_map(|name| {
            let (layer, rest) = split_layer(name)?;
            let first = rest.split('.').next()?;
            (first == "nextn" || MARKS.contains(&first)).then_some(layer)
        })
        .collect();
    let in_layer = |name: &str| split_layer(name).is_some_and(|(layer, _)| layers.contains(layer));
    names().filter(|name| speaks_of_mtp(name) || in_layer(name)).collect()
}

/// Whether a name has the word in it.
pub(crate) fn speaks_of_mtp(name: &str) -> bool {
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| ["nextn", "mtp"].iter().any(|known| word.eq_ignore_ascii_case(known)))
}

/// `model.layers.61.enorm.weight` as `model.layers.61` and `enorm.weight`.
fn split_layer(name: &str) -> Option<(&str, &str)> {
    let start = ["layers.", "blk."].iter().find_map(|word| Some(name.find(word)? + word.len()))?;
    let digits = name[start..].find(|c: char| !c.is_ascii_digit())?;
    let rest = name[start + digits..].strip_prefix('.')?;
    (digits > 0).then(|| (&name[..start + digits], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_from_their_parts() {
        assert_eq!(split_layer("model.layers.61.enorm.weight"), Some(("model.layers.61", "enorm.weight")));
        assert_eq!(split_layer("blk.2.nextn.eh_proj.weight"), Some(("blk.2", "nextn.eh_proj.weight")));
        for name in ["model.layers", "model.layers.x.y", "blk.7", "norm.weight", "layers..a"] {
            assert_eq!(split_layer(name), None, "{name}");
        }
        assert!(speaks_of_mtp("mtp.fc.weight") && speaks_of_mtp("model.mtp_layers.0.x") && !speaks_of_mtp("mtpx.y"));
    }
}
