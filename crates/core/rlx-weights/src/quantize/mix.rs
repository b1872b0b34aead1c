//! Which type each tensor gets: the rules of llama.cpp's quantiser (`llama-quant.cpp`), for decoders and encoders alike.

use rlx_ir::DType;

use super::FileType::{self, *};
use crate::GgufMetadata;

/// What the rules look at in a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// `general.architecture`.
    pub architecture: String,
    /// Layers.
    pub layers: usize,
    /// Query heads of the first layer.
    pub heads: usize,
    /// Key/value heads of the first layer.
    pub kv_heads: usize,
    /// Experts of a layer; 0 for none.
    pub experts: usize,
}

impl ModelFacts {
    /// What a file's metadata say; 0 for what they do not.
    pub fn of(metadata: &GgufMetadata) -> ModelFacts {
        let first = |suffix: &str| -> Option<usize> {
            let key = metadata.arch_key(suffix);
            let value = metadata.get_u32(&key).or_else(|| metadata.get_array(&key)?.to_u32s()?.first().copied())?;
            usize::try_from(value).ok()
        };
        let heads = first("attention.head_count").unwrap_or(0);
        ModelFacts {
            architecture: metadata.architecture().unwrap_or_default().to_owned(),
            layers: first("block_count").unwrap_or(0),
            heads,
            kv_heads: first("attention.head_count_kv").unwrap_or(heads),
            experts: first("expert_count").unwrap_or(0),
        }
    }

    /// Whether four or more query heads share a key head.
    fn many_queries(&self) -> bool {
        self.heads.checked_div(self.kv_heads).is_some_and(|queries| queries >= 4)
    }

    /// Models of 80 layers have value projections eight times smaller than the query projections.
    fn is_70b(&self) -> bool {
        self.layers == 80 && matches!(self.architecture.as_str(), "llama" | "qwen2") && self.heads != self.kv_heads
    }
}

/// What a tensor is for, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    Output,
    Qkv,
    /// Values, and other projections that suffer as they do.
    V,
    K,
    O,
    Down,
    Other,
}

impl Role {
    pub(crate) fn of(name: &str) -> Role {
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Role::Embedding,
            _ if name.contains("attn_qkv.weight") => Role::Qkv,
            _ if name.contains("attn_kv_b.weight") || name.contains("attn_v.weight") => Role::V,
            _ if name.contains("attn_k.weight") => Role::K,
            _ if name.contains("attn_output.weight") => Role::O,
            _ if name.contains("ffn_up") || name.contains("ffn_gate") => Role::Other,
            _ if name.contains("ffn_down") => Role::Down,
            _ => Role::Other,
        }
    }
}

/// The layer in `blk.N.`.
pub(crate) fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

/// Parts of the names of matrices that are too small or too sensitive to be packed.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
];

/// Whether a tensor of this name and shape (outermost dim first) is packed at all.
pub(crate) fn is_packed(name: &str, shape: &[usize]) -> bool {
    // Outer dims of 1 do not count.
    let dims = shape.len() - shape.iter().take_while(|&&dim| dim == 1).count();
    dims >= 2
        && name.ends_with("weight")
        && !KEPT.iter().any(|part| name.contains(part))
        && !matches!(name, "position_embd.weight" | "token_types.weight")
}

/// The rules for one file: ask for its tensors in order, layer by layer.
#[derive(Clone, Debug)]
pub struct Mix {
    kind: FileType,
    facts: ModelFacts,
    tied: bool,
    importance: bool,
    /// Value projections in the file, and those seen so far.
    values: usize,
    seen_values: usize,
    seen_downs: usize,
}

impl Mix {
    /// The rules for a file of this kind that holds tensors of these `names`. With `importance` some tensors need fewer
    /// bits.
    pub fn new<'a>(
        kind: FileType,
        facts: ModelFacts,
        names: impl IntoIterator<Item = &'a str>,
        importance: bool,
    ) -> Mix {
        let (mut tied, mut values) = (true, 0);
        for name in names {
            match Role::of(name) {
                Role::Output => tied = false,
                Role::V | Role::Qkv => values += 1,
                _ => {}
            }
        }
        Mix { kind, facts, tied, importance, values, seen_values: 0, seen_downs: 0 }
    }

    /// The type of the next tensor of the file: `shape` is row-major.
    pub fn dtype(&mut self, name: &str, shape: &[usize]) -> DType {
        let base = self.kind.base();
        if !is_packed(name, shape) {
            return DType::F32;
        }
        if !base.is_block() {
            return base;
        }
        let wanted = self.wanted(name, shape, None);
        fallback(wanted, shape.last().copied().unwrap_or(1))
    }

    /// As [`Mix::dtype`] of a packed tensor in a file of block types, before rows that are no whole blocks are looked at.
    /// `output` is the type asked for of the output matrix.
    pub(crate) fn wanted(&mut self, name: &str, shape: &[usize], output: Option<DType>) -> DType {
        let (kind, base) = (self.kind, self.kind.base());
        let columns = shape.last().copied().unwrap_or(1);
        let role = Role::of(name);
        if role == Role::Output || (role == Role::Embedding && self.tied) {
            if let Some(output) = output {
                return output;
            }
            return match base {
                _ if kind == MXFP4_MOE || !columns.is_multiple_of(base.block_len()) => DType::Q8_0,
                DType::Q8_0 => DType::Q8_0,
                _ => DType::Q6_K,
            };
        }
        if kind == MXFP4_MOE {
            return if shape.len() > 2 && shape[0] > 1 { DType::MXFP4 } else { DType::Q8_0 };
        }
        let layers = self.facts.layers;
        let many_queries = self.facts.many_queries();
        let eight_experts = self.facts.experts == 8;
        match role {
            Role::Embedding if matches!(kind, TQ1_0 | TQ2_0) => DType::Q4_K,
            Role::V | Role::Qkv => {
                let number = self.seen_values;
                self.seen_values += 1;
                let wanted = match kind {
                    Q2_K if many_queries => DType::Q4_K,
                    Q2_K => DType::Q3_K,
                    Q2_K_S if many_queries => DType::Q4_K,
                    Q3_K_M if number < 2 => DType::Q5_K,
                    Q3_K_M => DType::Q4_K,
                    Q3_K_L => DType::Q5_K,
                    IQ4_NL | IQ4_XS if many_queries => DType::Q5_K,
                    Q4_K_M | Q5_K_M if use_more_bits(number, self.values) => DType::Q6_K,
                    Q4_K_S if number < 4 => DType::Q5_K,
                    _ => base,
                };
                match wanted {
                    _ if eight_experts => DType::Q8_0,
                    DType::Q3_K | DType::Q4_K if self.facts.is_70b() => DType::Q5_K,
                    wanted => wanted,
                }
            }
            Role::K if eight_experts => DType::Q8_0,
            Role::Down => {
                // Experts stored one by one do not come in the order of layers.
                let layer = if self.facts.experts > 1 { layer_of(name) } else { None }.unwrap_or(self.seen_downs);
                self.seen_downs += 1;
                match kind {
                    Q2_K => DType::Q3_K,
                    Q2_K_S if layer < layers / 8 => DType::Q4_K,
                    Q3_K_M if layer < layers / 16 => DType::Q5_K,
                    Q3_K_M => DType::Q4_K,
                    Q3_K_L => DType::Q5_K,
                    Q4_K_M | Q5_K_M if use_more_bits(layer, layers) => DType::Q6_K,
                    IQ4_NL | IQ4_XS if layer < layers / 8 && !self.importance => DType::Q5_K,
                    Q4_K_S if layer < layers / 8 => DType::Q5_K,
                    Q4_0 if layer < layers / 8 && self.importance => DType::Q4_1,
                    Q5_0 if layer < layers / 8 && self.importance => DType::Q5_1,
                    _ => base,
                }
            }
            Role::O if eight_experts => match kind {
                Q2_K | Q3_K_S | Q3_K_M | Q4_K_S | Q4_K_M | IQ4_NL | IQ4_XS => DType::Q5_K,
                _ => base,
            },
            Role::O => match kind {
                Q2_K => DType::Q3_K,
                Q3_K_M => DType::Q4_K,
                Q3_K_L => DType::Q5_K,
                _ => base,
            },
            _ => base,
        }
    }
}

/// The first and last eighth of the layers, and every third between.
fn use_more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// The type that stands in for `dtype` where a row is no whole number of its blocks.
pub(crate) fn fallback(dtype: DType, columns: usize) -> DType {
    if columns.is_multiple_of(dtype.block_len()) {
        return dtype;
    }
    let small = match dtype {
        DType::Q2_K | DType::Q3_K | DType::TQ1_0 | DType::TQ2_0 => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        DType::IQ4_XS => DType::IQ4_NL,
        other => other,
    };
    if columns.is_multiple_of(small.block_len()) { small } else { DType::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(kind: FileType, facts: &ModelFacts, tensors: &[(&str, &[usize])], importance: bool) -> Vec<DType> {
        let mut mix = Mix::new(kind, facts.clone(), tensors.iter().map(|(name, _)| *name), importance);
        tensors.iter().map(|(name, shape)| mix.dtype(name, shape)).collect()
    }

    fn facts(layers: usize, heads: usize, kv_heads: usize, experts: usize) -> ModelFacts {
        ModelFacts { architecture: "llama".into(), layers, heads, kv_heads, experts }
    }

    #[test]
    fn names_tell_roles() {
        assert_eq!(Role::of("blk.3.attn_v.weight"), Role::V);
        assert_eq!(Role::of("blk.3.ffn_gate_up_exps.weight"), Role::Other);
        assert_eq!(Role::of("blk.3.ffn_down_exps.weight"), Role::Down);
        assert_eq!(Role::of("per_layer_token_embd.weight"), Role::Embedding);
        assert_eq!((layer_of("blk.12.x"), layer_of("blk.x.y"), layer_of("output.weight")), (Some(12), None, None));
    }

    #[test]
    fn small_and_sensitive_tensors_stay() {
        for name in ["blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight", "per_layer_model_proj.weight", "a.scale"] {
            assert!(!is_packed(name, &[64, 64]), "{name}");
        }
        assert!(is_packed("blk.0.attn_q.weight", &[64, 64]));
        assert!(is_packed("blk.0.ffn_up_exps.weight", &[1, 64, 64]));
        assert!(!is_packed("blk.0.attn_q.weight", &[1, 64]));
        assert!(!is_packed("rope_freqs.weight", &[64]));
        assert!(!is_packed("x.weight", &[]));
    }

    #[test]
    fn rows_that_are_no_whole_blocks_fall_back() {
        assert_eq!(fallback(DType::Q4_K, 512), DType::Q4_K);
        assert_eq!(fallback(DType::Q4_K, 96), DType::Q5_0);
        assert_eq!(fallback(DType::Q4_K, 90), DType::F16);
        assert_eq!(fallback(DType::Q8_0, 90), DType::F16);
    }

    #[test]
    fn experts_and_importance_change_the_mix() {
        let tensors: &[(&str, &[usize])] = &[
            ("output.weight", &[512, 256]),
            ("token_embd.weight", &[512, 256]),
            ("blk.0.attn_k.weight", &[256, 256]),
            ("blk.0.attn_v.weight", &[256, 256]),
            ("blk.0.attn_output.weight", &[256, 256]),
            ("blk.0.ffn_down_exps.weight", &[8, 256, 256]),
        ];
        use DType::{MXFP4, Q4_0 as D4_0, Q4_1 as D4_1, Q4_K, Q5_K, Q6_K as D6_K, Q8_0 as D8_0};
        let mixtral = facts(32, 32, 8, 8);
        assert_eq!(types(Q4_K_M, &mixtral, tensors, false), [D6_K, Q4_K, D8_0, D8_0, Q5_K, D6_K]);
        assert_eq!(types(MXFP4_MOE, &mixtral, tensors, false), [D8_0, D8_0, D8_0, D8_0, D8_0, MXFP4]);
        let dense = facts(32, 32, 8, 0);
        assert_eq!(types(Q4_0, &dense, tensors, false), [D6_K, D4_0, D4_0, D4_0, D4_0, D4_0]);
        assert_eq!(types(Q4_0, &dense, tensors, true), [D6_K, D4_0, D4_0, D4_0, D4_0, D4_1]);
        // Tied: the table is the output matrix.
        assert_eq!(types(Q4_0, &dense, &tensors[1..], false)[0], D6_K);
        assert_eq!(types(Q3_K_M, &facts(80, 64, 8, 0), &tensors[3..4], false), [Q5_K]);
    }
}
