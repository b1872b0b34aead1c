//! Quantisation tags of GGUF files (`Q4_K_M`), from file names and from `general.file_type`.

use std::path::Path;

/// Tags in the order in which a directory's files are preferred when the caller has no wish: the usual compromise of
/// size and quality first, then better, then smaller, then unquantised ones, which are large.
const PREFERENCE: &[&str] = &[
    "Q4_K_M",
    "Q4_K_XL",
    "Q4_K_L",
    "Q4_K_S",
    "Q5_K_M",
    "Q5_K_XL",
    "Q5_K_L",
    "Q5_K_S",
    "Q6_K",
    "Q6_K_L",
    "Q6_K_XL",
    "Q8_0",
    "Q8_K_XL",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "MXFP4_MOE",
    "MXFP4",
    "IQ4_XS",
    "IQ4_NL",
    "Q3_K_M",
    "Q3_K_XL",
    "Q3_K_L",
    "Q3_K_S",
    "IQ3_M",
    "IQ3_S",
    "IQ3_XS",
    "IQ3_XXS",
    "Q2_K",
    "Q2_K_L",
    "Q2_K_XL",
    "Q2_K_S",
    "IQ2_M",
    "IQ2_S",
    "IQ2_XS",
    "IQ2_XXS",
    "TQ2_0",
    "TQ1_0",
    "IQ1_M",
    "IQ1_S",
    "Q4_K",
    "Q5_K",
    "Q3_K",
    "BF16",
    "F16",
    "F32",
];

/// Place of `tag` in the default order; lower is preferred.
pub(crate) fn rank(tag: Option<&str>) -> usize {
    tag.and_then(|tag| PREFERENCE.iter().position(|known| *known == tag)).unwrap_or(PREFERENCE.len())
}

/// The tag in a file's name, in capitals: the longest known one that stands by itself.
pub(crate) fn from_name(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?.to_ascii_uppercase();
    let stands_alone = |tag: &str| {
        name.match_indices(tag).any(|(at, _)| {
            let before = name[..at].chars().next_back();
            let after = name[at + tag.len()..].chars().next();
            !before.is_some_and(|c| c.is_ascii_alphanumeric()) && !after.is_some_and(|c| c.is_ascii_alphanumeric())
        })
    };
    PREFERENCE.iter().copied().filter(|tag| stands_alone(tag)).max_by_key(|tag| tag.len())
}

/// The tag of a `general.file_type` number (`llama_ftype` in `llama.h`).
pub(crate) fn from_file_type(id: u32) -> Option<&'static str> {
    Some(match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4_MOE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_in_names() {
        let tag = |name: &str| from_name(name.as_ref());
        assert_eq!(tag("SmolLM2-135M-Instruct.Q4_1.gguf"), Some("Q4_1"));
        assert_eq!(tag("gemma-3-270m-q4_k_m.gguf"), Some("Q4_K_M"));
        assert_eq!(tag("x-UD-IQ2_XXS-00001-of-00002.gguf"), Some("IQ2_XXS"));
        assert_eq!(tag("model-bf16.gguf"), Some("BF16"));
        assert_eq!(tag("model_q4_0.gguf"), Some("Q4_0"));
        assert_eq!(tag("model.gguf"), None);
    }
}
