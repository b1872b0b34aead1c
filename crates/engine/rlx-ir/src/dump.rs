//! The text form of a graph.

use std::fmt;

use crate::{DistanceTable, Graph, LinearPart, Norm, Op, ParamId};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in self.nodes() {
            let list =
                |ids: &[crate::ValueId]| ids.iter().map(|id| format!("%{}", id.0)).collect::<Vec<_>>().join(", ");
            write!(f, "{} = {}({})", list(&node.outputs), node.op.name(), list(&node.inputs))?;
            let attributes = self.describe(&node.op);
            if !attributes.is_empty() {
                write!(f, " {{{attributes}}}")?;
            }
            let shapes = node.outputs.iter().map(|&id| {
                let value = self.value(id);
                format!("{} {}", value.dtype, value.shape.display(self.symbols()))
            });
            writeln!(f, " : {}  # {}", shapes.collect::<Vec<_>>().join(", "), node.label)?;
        }
        let outputs = self.outputs().iter().map(|(name, id)| format!("{name}=%{}", id.0));
        writeln!(f, "return {}", outputs.collect::<Vec<_>>().join(", "))
    }
}

impl Graph {
    /// The attributes of `op` with parameters by name, as in the text form.
    pub fn describe(&self, op: &Op) -> String {
        let name = |id: ParamId| self.param_info(id).name.as_str();
        let norm_text = |norm: &Norm| match norm {
            Norm::Rms { weight, eps } => format!("rms {} eps={eps:e}", weight.map_or("1", name)),
            Norm::Layer { weight, eps, .. } => format!("layer {} eps={eps:e}", weight.map_or("1", name)),
        };
        let part_text = |part: &LinearPart| match part.bias {
            Some(_) => format!("{}+bias", name(part.weight)),
            None => name(part.weight).to_string(),
        };
        match op {
            Op::Embedding { table } => name(*table).to_string(),
            Op::Linear(part) => part_text(part),
            Op::Norm { norm, group: None } => norm_text(norm),
            Op::Norm { norm, group: Some(group) } => format!("{} group={group}", norm_text(norm)),
            Op::Unary(unary) => format!("{unary:?}"),
            Op::Gated(activation) => format!("{activation:?}"),
            Op::RopeTable { inv_freq, attention_factor, .. } => {
                format!("pairs={} attention_factor={attention_factor}", inv_freq.len())
            }
            Op::Rope { style, head_dim } => format!("{style:?} head_dim={head_dim}"),
            Op::Attention(spec) => spec.to_string(),
            Op::BiasedAttention { spec, bias } => {
                let mut text = spec.to_string();
                if let Some(distance) = bias.distance {
                    text += &match distance.table {
                        DistanceTable::Param { table, left } => format!(" distances={} from -{left}", name(table)),
                        DistanceTable::Operand => " distances".into(),
                    };
                }
                if bias.key {
                    text += " keys";
                }
                text
            }
            Op::FusedLinear { norm, parts, epilogue } => {
                let mut text = norm.as_ref().map(|norm| format!("{}; ", norm_text(norm))).unwrap_or_default();
                text += &parts.iter().map(part_text).collect::<Vec<_>>().join(", ");
                if *epilogue != crate::Epilogue::None {
                    text += &format!("; {epilogue:?}");
                }
                text
            }
            Op::FusedAttention { spec, q_norm, k_norm, rope } => {
                let mut text = spec.to_string();
                if q_norm.is_some() || k_norm.is_some() {
                    text += " qk_norm";
                }
                if let Some(rope) = rope {
                    text += &format!(" rope={:?}/{}", rope.style, rope.pairs);
                }
                text
            }
            Op::Columns { start, width } => format!("{start}..{}", start + width),
            Op::MulParam { weight } => name(*weight).to_string(),
            Op::Conv1d(spec) => {
                let bias = if spec.bias.is_some() { "+bias" } else { "" };
                let mut text = format!("{}{bias}; {}", name(spec.weight), spec.window);
                if spec.groups != 1 {
                    text += &format!(" groups={}", spec.groups);
                }
                if let Some(activation) = spec.activation {
                    text += &format!("; {activation:?}");
                }
                text
            }
            Op::Moe(spec) => format!(
                "experts={} top_k={} {:?}{} {:?}",
                spec.experts.len(),
                spec.top_k,
                spec.score,
                if spec.normalise { " normalised" } else { "" },
                spec.activation
            ),
            Op::StoreCrossKv(id) => format!("cross_kv={}", id.0),
            Op::CrossAttention(spec) => spec.to_string(),
            Op::CrossWeights { spec, chosen } => format!("{spec} chosen={chosen:?}"),
            Op::Input | Op::Binary(_) | Op::SelectRows => String::new(),
        }
    }
}

impl fmt::Display for crate::AttentionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "heads={}/{} dim={}", self.heads, self.kv_heads, self.head_dim)?;
        if self.causal {
            f.write_str(" causal")?;
        }
        if let Some(window) = self.window {
            write!(f, " window={window}")?;
        }
        if let Some(cap) = self.softcap {
            write!(f, " softcap={cap}")?;
        }
        if let Some(cache) = self.cache {
            write!(f, " cache={}", cache.0)?;
        }
        Ok(())
    }
}
