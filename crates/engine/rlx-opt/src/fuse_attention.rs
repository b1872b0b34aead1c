//! RoPE and per-head norms of queries and keys folded into attention.

use rlx_ir::{AttentionSpec, FusedRope, HeadNorm, Node, Norm, Op, RopeStyle, ValueId};

use crate::rewrite::Rewriter;

pub(crate) fn fuse(r: &mut Rewriter<'_>) {
    for index in 0..r.len() {
        let Some(Node { op: Op::Attention(spec), inputs, outputs, label }) = r.node(index) else { continue };
        let spec = *spec;
        let (outputs, label) = (outputs.clone(), label.clone());
        let q = Prepared::of(r, inputs[0], &spec);
        let k = Prepared::of(r, inputs[1], &spec);
        // Both must be turned alike, by the same table, or neither: the kernel has one RoPE for the two.
        if q.rope != k.rope {
            continue;
        }
        let mut operands = vec![q.source, k.source, inputs[2]];
        let rope = q.rope.map(|(style, table)| {
            operands.push(table);
            FusedRope { style, pairs: r.graph.value(table).shape.width().unwrap_or(0) / 2 }
        });
        let absorbed = [q.absorbed, k.absorbed].concat();
        if absorbed.is_empty() {
            continue;
        }
        let op = Op::FusedAttention { spec, q_norm: q.norm, k_norm: k.norm, rope };
        r.replace(index, Node { op, inputs: operands, outputs, label }, &absorbed);
    }
}

/// What stands between a projection and attention.
struct Prepared {
    source: ValueId,
    norm: Option<HeadNorm>,
    rope: Option<(RopeStyle, ValueId)>,
    absorbed: Vec<usize>,
}

impl Prepared {
    fn of(r: &Rewriter<'_>, value: ValueId, spec: &AttentionSpec) -> Prepared {
        let mut found = Prepared { source: value, norm: None, rope: None, absorbed: vec![] };
        if let Some((index, Node { op: Op::Rope { style, head_dim }, inputs, .. })) = r.sole_use_producer(value)
            && *head_dim == spec.head_dim
        {
            found.rope = Some((*style, inputs[1]));
            found.source = inputs[0];
            found.absorbed.push(index);
        }
        if let Some((index, Node { op: Op::Norm { norm, group }, inputs, .. })) = r.sole_use_producer(found.source)
            && let Norm::Rms { weight: Some(weight), eps } = *norm
            && *group == Some(spec.head_dim)
        {
            found.norm = Some(HeadNorm { weight, eps });
            found.source = inputs[0];
            found.absorbed.push(index);
        }
        found
    }
}
