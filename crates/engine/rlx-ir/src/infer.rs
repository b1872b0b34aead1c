//! Shape inference, and the verifier that repeats it over a whole graph.

use crate::graph::{Graph, Value};
use crate::{
    AttentionSpec, Conv1dSpec, CrossAttentionSpec, CrossKv, CrossKvId, DType, Dim, DistanceTable, Epilogue, HeadNorm,
    LinearPart, MoeSpec, Norm, Op, ParamId, ScoreBias, Shape, Symbol, ValueId,
};

/// A graph that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum IrError {
    /// Operands that do not fit an op.
    #[error("{label}: {op}: {what}")]
    Node { label: String, op: &'static str, what: String },
    /// One parameter name used with two shapes.
    #[error("parameter {name} is used with shape {first:?} and with shape {second:?}")]
    ParamShape { name: String, first: Vec<usize>, second: Vec<usize> },
    /// Rows that no window makes.
    #[error("rows of a window: {what}")]
    Window { what: String },
    /// A value that is read before, or written more than once.
    #[error("{label}: value %{value} {what}")]
    Order { label: String, value: u32, what: &'static str },
}

type Inferred = Result<Vec<Value>, String>;

/// The values that `op` makes of `inputs`.
pub(crate) fn infer(graph: &Graph, op: &Op, inputs: &[ValueId]) -> Inferred {
    let check = Check { graph, inputs };
    match op {
        Op::Input => Err("declared by Graph::input only".into()),
        Op::Embedding { table } => {
            check.count(1)?;
            let width = check.matrix(*table)?.1;
            let ids = check.indices(0)?;
            Ok(vec![f32_value(Shape::new(ids.dims().iter().copied().chain([width.into()])))])
        }
        Op::Linear(part) => {
            check.count(1)?;
            Ok(vec![f32_value(check.linear(0, part)?)])
        }
        Op::Norm { norm, group } => {
            check.count(1)?;
            let width = check.width(0)?;
            let group = group.unwrap_or(width);
            if group == 0 || !width.is_multiple_of(group) {
                return Err(format!("groups of {group} do not divide a row of {width}"));
            }
            check.norm(norm, group)?;
            Ok(vec![check.value(0)?.clone()])
        }
        Op::Unary(_) => {
            check.count(1)?;
            check.activations(0)?;
            Ok(vec![check.value(0)?.clone()])
        }
        Op::Binary(_) | Op::Gated(_) => {
            check.count(2)?;
            check.same_shape(0, 1)?;
            Ok(vec![check.value(0)?.clone()])
        }
        Op::RopeTable { inv_freq, .. } => {
            check.count(1)?;
            let positions = check.indices(0)?;
            Ok(vec![f32_value(Shape::new(positions.dims().iter().copied().chain([(2 * inv_freq.len()).into()])))])
        }
        Op::Rope { head_dim, .. } => {
            check.count(2)?;
            let width = check.width(0)?;
            if *head_dim == 0 || !width.is_multiple_of(*head_dim) {
                return Err(format!("heads of {head_dim} do not divide a row of {width}"));
            }
            check.rope_table(1, *head_dim)?;
            Ok(vec![check.value(0)?.clone()])
        }
        Op::Attention(spec) => {
            check.count(3)?;
            Ok(vec![f32_value(check.attention(spec)?)])
        }
        Op::BiasedAttention { spec, bias } => Ok(vec![f32_value(check.biased_attention(spec, bias)?)]),
        Op::StoreCrossKv(id) => {
            check.count(2)?;
            let kv = check.cross_kv(*id)?;
            for (i, want) in [kv.kv_heads * kv.k_dim, kv.kv_heads * kv.v_dim].into_iter().enumerate() {
                check.has_width(i, want)?;
            }
            if check.activations(0)?.outer() != check.activations(1)?.outer() {
                return Err("keys and values have other numbers of rows".into());
            }
            Ok(vec![])
        }
        Op::CrossAttention(spec) => {
            check.count(1)?;
            let kv = check.cross_attention(spec)?;
            Ok(vec![f32_value(check.activations(0)?.with_width(spec.heads * kv.v_dim))])
        }
        Op::CrossWeights { spec, chosen } => {
            check.count(2)?;
            let kv = check.cross_attention(spec)?;
            if let Some(head) = chosen.iter().find(|&&head| head >= spec.heads) {
                return Err(format!("head {head} of {}", spec.heads));
            }
            let tokens = check.indices(1)?;
            let width = chosen.len() * kv.rows;
            Ok(vec![f32_value(Shape::new(tokens.dims().iter().copied().chain([width.into()])))])
        }
        Op::SelectRows => {
            check.count(2)?;
            let width = check.width(0)?;
            let rows = check.indices(1)?;
            Ok(vec![f32_value(Shape::new(rows.dims().iter().copied().chain([width.into()])))])
        }
        Op::Columns { start, width } => {
            check.count(1)?;
            let available = check.width(0)?;
            if *width == 0 || start.checked_add(*width).is_none_or(|end| end > available) {
                return Err(format!("{width} columns from {start} on are not in a row of {available}"));
            }
            Ok(vec![f32_value(check.activations(0)?.with_width(*width))])
        }
        Op::MulParam { weight } => {
            check.count(1)?;
            let width = check.width(0)?;
            check.vector(*weight, 1).or_else(|_| check.vector(*weight, width))?;
            Ok(vec![check.value(0)?.clone()])
        }
        Op::Moe(spec) => {
            check.count(2)?;
            Ok(vec![f32_value(check.moe(spec)?)])
        }
        Op::Conv1d(spec) => {
            check.count(1)?;
            Ok(vec![f32_value(check.conv1d(spec)?)])
        }
        Op::FusedLinear { norm, parts, epilogue } => {
            check.count(if *epilogue == Epilogue::Add { 2 } else { 1 })?;
            if let Some(norm) = norm {
                check.norm(norm, check.width(0)?)?;
            }
            let mut shapes = parts.iter().map(|part| check.linear(0, part)).collect::<Result<Vec<_>, _>>()?;
            match epilogue {
                Epilogue::Gated(_) if shapes.len() != 2 || shapes[0] != shapes[1] => {
                    return Err("a gated epilogue takes two parts of one shape".into());
                }
                Epilogue::Gated(_) => shapes.truncate(1),
                Epilogue::Add if shapes.len() != 1 || check.value(1)?.shape != shapes[0] => {
                    return Err("an added residual has the shape of the only part's product".into());
                }
                _ if shapes.is_empty() => return Err("no parts".into()),
                _ => {}
            }
            Ok(shapes.into_iter().map(f32_value).collect())
        }
        Op::FusedAttention { spec, q_norm, k_norm, rope } => {
            check.count(if rope.is_some() { 4 } else { 3 })?;
            for HeadNorm { weight, .. } in q_norm.iter().chain(k_norm) {
                check.vector(*weight, spec.head_dim)?;
            }
            if let Some(rope) = rope {
                let pairs = check.rope_table(3, spec.head_dim)?;
                if pairs != rope.pairs {
                    return Err(format!("the table has {pairs} pairs, the op {}", rope.pairs));
                }
            }
            Ok(vec![f32_value(check.attention(spec)?)])
        }
    }
}

fn f32_value(shape: Shape) -> Value {
    Value { dtype: DType::F32, shape }
}

struct Check<'a> {
    graph: &'a Graph,
    inputs: &'a [ValueId],
}

impl Check<'_> {
    fn count(&self, n: usize) -> Result<(), String> {
        if self.inputs.len() == n { Ok(()) } else { Err(format!("takes {n} operands, not {}", self.inputs.len())) }
    }

    fn value(&self, i: usize) -> Result<&Value, String> {
        let id = self.inputs[i];
        self.graph.values().get(id.index()).ok_or_else(|| format!("no value %{}", id.0))
    }

    fn activations(&self, i: usize) -> Result<&Shape, String> {
        let value = self.value(i)?;
        if value.dtype != DType::F32 {
            return Err(format!("operand {i} is {}, not F32", value.dtype));
        }
        Ok(&value.shape)
    }

    fn indices(&self, i: usize) -> Result<&Shape, String> {
        let value = self.value(i)?;
        if value.dtype != DType::I32 {
            return Err(format!("operand {i} is {}, not I32", value.dtype));
        }
        Ok(&value.shape)
    }

    fn width(&self, i: usize) -> Result<usize, String> {
        self.activations(i)?.width().ok_or_else(|| format!("operand {i} has no constant width"))
    }

    fn same_shape(&self, i: usize, j: usize) -> Result<(), String> {
        let (a, b) = (self.activations(i)?, self.activations(j)?);
        if a == b {
            return Ok(());
        }
        let symbols = self.graph.symbols();
        Err(format!("shapes {} and {} differ", a.display(symbols), b.display(symbols)))
    }

    fn matrix(&self, id: ParamId) -> Result<(usize, usize), String> {
        let param = self.graph.params().get(id.index()).ok_or("no such parameter")?;
        match param.shape[..] {
            [rows, cols] | [rows, cols, 1] if rows > 0 && cols > 0 => Ok((rows, cols)),
            _ => Err(format!("parameter {} of shape {:?} is no matrix", param.name, param.shape)),
        }
    }

    fn vector(&self, id: ParamId, len: usize) -> Result<(), String> {
        let param = self.graph.params().get(id.index()).ok_or("no such parameter")?;
        if param.shape == [len] {
            Ok(())
        } else {
            Err(format!("parameter {} has shape {:?}, not [{len}]", param.name, param.shape))
        }
    }

    fn norm(&self, norm: &Norm, width: usize) -> Result<(), String> {
        let (weight, bias) = match *norm {
            Norm::Rms { weight, .. } => (weight, None),
            Norm::Layer { weight, bias, .. } => (weight, bias),
        };
        weight.into_iter().chain(bias).try_for_each(|id| self.vector(id, width))
    }

    fn linear(&self, x: usize, part: &LinearPart) -> Result<Shape, String> {
        let (out, inner) = self.matrix(part.weight)?;
        let width = self.width(x)?;
        if width != inner {
            let name = &self.graph.param_info(part.weight).name;
            return Err(format!("a row has {width} elements, {name} takes {inner}"));
        }
        if let Some(bias) = part.bias {
            self.vector(bias, out)?;
        }
        Ok(self.activations(x)?.with_width(out))
    }

    fn moe(&self, spec: &MoeSpec) -> Result<Shape, String> {
        let (x, logits) = (self.activations(0)?, self.activations(1)?);
        let (width, experts) = (self.width(0)?, spec.experts.len());
        if x.outer() != logits.outer() || self.width(1)? != experts {
            return Err(format!("the router gives {} logits per row for {experts} experts", self.width(1)?));
        }
        if spec.top_k == 0 || spec.top_k > experts {
            return Err(format!("{} experts of {experts} per token", spec.top_k));
        }
        let first = &spec.experts[0];
        let inner = self.matrix(first.up)?.0;
        for expert in &spec.experts {
            if expert.gate.is_some() != first.gate.is_some() {
                return Err("some experts have a gate, others have none".into());
            }
            let inward = expert.gate.iter().chain([&expert.up]).map(|&id| (id, (inner, width)));
            for (id, want) in inward.chain([(expert.down, (width, inner))]) {
                let found = self.matrix(id)?;
                if found != want {
                    let name = &self.graph.param_info(id).name;
                    return Err(format!("expert matrix {name} is {found:?}, not {want:?}"));
                }
            }
        }
        spec.choice_bias.iter().chain(&spec.expert_scale).try_for_each(|&id| self.vector(id, experts))?;
        Ok(x.clone())
    }

    /// The symbol of the rows of operand `i`, which windows slide along.
    fn sequence_rows(&self, i: usize) -> Result<Symbol, String> {
        match *self.activations(i)?.dims() {
            [Dim::Symbolic { symbol, mul: 1 }, Dim::Const(_)] => Ok(symbol),
            _ => Err(format!("operand {i} is not rows of sequences: [symbol, width]")),
        }
    }

    fn conv1d(&self, spec: &Conv1dSpec) -> Result<Shape, String> {
        let (rows, width) = (self.sequence_rows(0)?, self.width(0)?);
        let param = self.graph.params().get(spec.weight.index()).ok_or("no such parameter")?;
        let [out, inner, taps] = param.shape[..] else {
            return Err(format!("parameter {} of shape {:?} is no kernel [out, in, taps]", param.name, param.shape));
        };
        spec.window.check()?;
        if taps != spec.window.taps {
            return Err(format!("{} has {taps} taps, the window {}", param.name, spec.window.taps));
        }
        if spec.groups == 0 || out == 0 || inner == 0 || !out.is_multiple_of(spec.groups) {
            return Err(format!("{} of shape {:?} in {} groups", param.name, param.shape, spec.groups));
        }
        if inner.checked_mul(spec.groups) != Some(width) {
            let groups = spec.groups;
            return Err(format!("a row has {width} channels, {} takes {inner} in each of {groups} groups", param.name));
        }
        if let Some(bias) = spec.bias {
            self.vector(bias, out)?;
        }
        let rows = self.graph.windowed_symbol(rows, &spec.window);
        Ok(Shape::rows(rows.ok_or("the rows of the result have no symbol (Graph::windowed)")?, out))
    }

    fn rope_table(&self, i: usize, head_dim: usize) -> Result<usize, String> {
        let width = self.width(i)?;
        if width % 2 != 0 || width > head_dim {
            return Err(format!("a table of width {width} does not fit heads of {head_dim}"));
        }
        Ok(width / 2)
    }

    fn has_width(&self, i: usize, want: usize) -> Result<(), String> {
        let width = self.width(i)?;
        if width != want { Err(format!("operand {i} is {width} wide, not {want}")) } else { Ok(()) }
    }

    fn cross_kv(&self, id: CrossKvId) -> Result<CrossKv, String> {
        let kv = *self.graph.cross_kvs().get(id.index()).ok_or("no such layer of the cross KV cache")?;
        if kv.kv_heads == 0 || kv.k_dim == 0 || kv.v_dim == 0 || kv.rows == 0 {
            return Err(format!("an empty layer of the cross KV cache: {kv:?}"));
        }
        Ok(kv)
    }

    fn cross_attention(&self, spec: &CrossAttentionSpec) -> Result<CrossKv, String> {
        let kv = self.cross_kv(spec.source)?;
        if spec.heads == 0 || !spec.heads.is_multiple_of(kv.kv_heads) {
            return Err(format!("{} query heads over {} key/value heads", spec.heads, kv.kv_heads));
        }
        self.has_width(0, spec.heads * kv.k_dim)?;
        Ok(kv)
    }

    fn attention(&self, spec: &AttentionSpec) -> Result<Shape, String> {
        if spec.kv_heads == 0 || spec.head_dim == 0 || spec.v_head_dim == 0 || !spec.heads.is_multiple_of(spec.kv_heads)
        {
            return Err(format!("{} query heads over {} key/value heads", spec.heads, spec.kv_heads));
        }
        let want = [spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim, spec.kv_heads * spec.v_head_dim];
        for (i, want) in want.into_iter().enumerate() {
            self.has_width(i, want)?;
        }
        if let Some(cache) = spec.cache {
            let rows = self.activations(0)?.dims();
            if rows.iter().any(|dim| matches!(*dim, Dim::Symbolic { symbol, .. } if self.graph.is_derived(symbol))) {
                return Err("a KV cache keeps the tokens of the batch, not what a window makes of them".into());
            }
            let cache = self.graph.caches().get(cache.index()).ok_or("no such KV cache")?;
            if (cache.kv_heads, cache.k_dim, cache.v_dim) != (spec.kv_heads, spec.head_dim, spec.v_head_dim) {
                return Err(format!("the KV cache is of other sizes: {cache:?}"));
            }
        }
        Ok(self.activations(0)?.with_width(spec.heads * spec.v_head_dim))
    }

    fn biased_attention(&self, spec: &AttentionSpec, bias: &ScoreBias) -> Result<Shape, String> {
        let mut operands = 3;
        if let Some(distance) = bias.distance {
            match distance.table {
                DistanceTable::Param { table, left } => {
                    let (rows, width) = self.matrix(table)?;
                    if left >= rows || width != spec.head_dim {
                        let name = &self.graph.param_info(table).name;
                        return Err(format!("{name}: {rows} x {width} is no table of distances from -{left} on"));
                    }
                }
                DistanceTable::Operand => {
                    operands += 1;
                    self.count(operands + usize::from(bias.key))?;
                    if self.width(3)? != spec.heads.saturating_mul(spec.head_dim) {
                        return Err(format!("distances are {} wide for {} heads", self.width(3)?, spec.heads));
                    }
                }
            }
            for id in distance.content.iter().chain(&distance.position) {
                if self.matrix(*id)? != (spec.heads, spec.head_dim) {
                    let name = &self.graph.param_info(*id).name;
                    return Err(format!("{name} is not [{}, {}]", spec.heads, spec.head_dim));
                }
            }
        }
        self.count(operands + usize::from(bias.key))?;
        if bias.key && *self.activations(operands)? != self.activations(1)?.with_width(1) {
            return Err("a bias of keys has one number per key".into());
        }
        if spec.heads != spec.kv_heads || spec.cache.is_some() || spec.softcap.is_some() {
            return Err("attention with biases has keys of its own for each head, no cache and no soft cap".into());
        }
        self.attention(spec)
    }
}

impl Graph {
    /// Checks the whole graph: every value is written once and before it is read, every op's shapes hold.
    pub fn verify(&self) -> Result<(), IrError> {
        let mut written = vec![false; self.values().len()];
        for node in self.nodes() {
            let order = |value: &ValueId, what| IrError::Order { label: node.label.clone(), value: value.0, what };
            for id in &node.inputs {
                if !written.get(id.index()).copied().unwrap_or(false) {
                    return Err(order(id, "is read before it is written"));
                }
            }
            if node.op != Op::Input {
                let fail = |what| IrError::Node { label: node.label.clone(), op: node.op.name(), what };
                let inferred = infer(self, &node.op, &node.inputs).map_err(fail)?;
                let same = inferred.len() == node.outputs.len()
                    && inferred.iter().zip(&node.outputs).all(|(value, id)| value == self.value(*id));
                if !same {
                    return Err(fail("results are not of the inferred shapes".into()));
                }
            }
            for id in &node.outputs {
                if std::mem::replace(&mut written[id.index()], true) {
                    return Err(order(id, "is written twice"));
                }
            }
        }
        for (name, id) in self.outputs() {
            if !written[id.index()] {
                return Err(IrError::Order {
                    label: name.clone(),
                    value: id.0,
                    what: "is an output but never written",
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, BinaryOp, DistanceBias, Expert, Node, RouterScore, Window};

    fn toy() -> (Graph, ValueId) {
        let mut g = Graph::new();
        let t = g.symbol("T");
        let x = g.input("x", DType::F32, Shape::rows(t, 8));
        (g, x)
    }

    #[test]
    fn linear_infers_and_rejects_wrong_widths() {
        let (mut g, x) = toy();
        let good = g.param("w", &[4, 8]).unwrap();
        let bad = g.param("v", &[4, 9]).unwrap();
        let y = g.push(Op::Linear(LinearPart { weight: good, bias: None }), &[x], "y").unwrap()[0];
        assert_eq!(g.value(y).shape.display(g.symbols()).to_string(), "[T, 4]");
        let error = g.push(Op::Linear(LinearPart { weight: bad, bias: None }), &[x], "z").unwrap_err();
        assert!(error.to_string().contains("a row has 8 elements, v takes 9"), "{error}");
        assert!(g.push(Op::Binary(BinaryOp::Add), &[x, y], "sum").is_err());
        assert!(g.param("w", &[8, 4]).is_err());
        g.output("y", y);
        g.verify().unwrap();
    }

    #[test]
    fn order_is_verified() {
        let (mut g, x) = toy();
        let y = g.push(Op::Binary(BinaryOp::Add), &[x, x], "double").unwrap()[0];
        g.output("y", y);
        let mut nodes: Vec<Node> = g.nodes().to_vec();
        nodes.swap(0, 1);
        assert!(matches!(g.clone().with_nodes(nodes), Err(IrError::Order { .. })));
        let twice = [g.nodes(), &g.nodes()[1..]].concat();
        assert!(matches!(g.with_nodes(twice), Err(IrError::Order { .. })));
    }

    #[test]
    fn columns_and_parameters_fit_their_rows() {
        let (mut g, x) = toy();
        let one = g.param("one", &[1]).unwrap();
        let wide = g.param("wide", &[9]).unwrap();
        let y = g.push(Op::Columns { start: 2, width: 6 }, &[x], "y").unwrap()[0];
        assert_eq!(g.value(y).shape.width(), Some(6));
        for (start, width) in [(2, 7), (8, 1), (0, 0), (usize::MAX, 2)] {
            assert!(g.push(Op::Columns { start, width }, &[x], "z").is_err(), "{start} {width}");
        }
        assert!(g.push(Op::MulParam { weight: one }, &[x], "s").is_ok());
        assert!(g.push(Op::MulParam { weight: wide }, &[x], "s").is_err());
    }

    #[test]
    fn cross_attention_fits_its_source() {
        let (mut g, x) = toy();
        let kv = CrossKv { kv_heads: 2, k_dim: 4, v_dim: 3, rows: 5 };
        let source = g.cross_kv(kv);
        let none = g.cross_kv(CrossKv { rows: 0, ..kv });
        let spec = CrossAttentionSpec { heads: 2, scale: 0.5, source };
        let y = g.push(Op::CrossAttention(spec), &[x], "y").unwrap()[0];
        assert_eq!(g.value(y).shape.width(), Some(6));
        for bad in [
            CrossAttentionSpec { heads: 3, ..spec },
            CrossAttentionSpec { heads: 4, ..spec },
            CrossAttentionSpec { heads: 0, ..spec },
            CrossAttentionSpec { source: none, ..spec },
            CrossAttentionSpec { source: CrossKvId(9), ..spec },
        ] {
            assert!(g.push(Op::CrossAttention(bad), &[x], "bad").is_err(), "{bad:?}");
        }
        assert!(g.push(Op::StoreCrossKv(source), &[x, y], "store").unwrap().is_empty());
        assert!(g.push(Op::StoreCrossKv(source), &[x, x], "store").is_err());
        let a = g.symbol("A");
        let rows = g.input("rows", DType::I32, Shape::new([a.into()]));
        let w = g.push(Op::CrossWeights { spec, chosen: vec![1] }, &[x, rows], "w").unwrap()[0];
        assert_eq!(g.value(w).shape.display(g.symbols()).to_string(), "[A, 5]");
        assert!(g.push(Op::CrossWeights { spec, chosen: vec![2] }, &[x, rows], "w").is_err());
        assert!(g.push(Op::CrossWeights { spec, chosen: vec![0] }, &[x, x], "w").is_err());
    }

    #[test]
    fn biases_of_scores_fit_their_heads() {
        let (mut g, x) = toy();
        let (t, d) = (g.symbol("T"), g.symbol("D"));
        let table = g.param("table", &[7, 4]).unwrap();
        let by_head = g.param("u", &[2, 4]).unwrap();
        let operand = g.input("distances", DType::F32, Shape::rows(d, 8));
        let keys = g.input("keys", DType::F32, Shape::rows(t, 1));
        let spec = AttentionSpec {
            heads: 2,
            kv_heads: 2,
            head_dim: 4,
            v_head_dim: 4,
            scale: 0.5,
            causal: false,
            window: None,
            softcap: None,
            cache: None,
        };
        let shaw = DistanceBias { table: DistanceTable::Param { table, left: 4 }, content: None, position: None };
        let xl = DistanceBias { table: DistanceTable::Operand, content: Some(by_head), position: Some(by_head) };
        let none = ScoreBias::default();
        for (bias, inputs) in [
            (none, vec![x, x, x]),
            (ScoreBias { key: true, ..none }, vec![x, x, x, keys]),
            (ScoreBias { distance: Some(shaw), ..none }, vec![x, x, x]),
            (ScoreBias { distance: Some(shaw), key: true }, vec![x, x, x, keys]),
            (ScoreBias { distance: Some(xl), ..none }, vec![x, x, x, operand]),
            (ScoreBias { distance: Some(xl), key: true }, vec![x, x, x, operand, keys]),
        ] {
            let op = Op::BiasedAttention { spec, bias };
            let y = g.push(op.clone(), &inputs, "attention").unwrap()[0];
            assert_eq!(g.value(y), g.value(x));
            assert!(g.push(op.clone(), &inputs[1..], "few").is_err());
            let soft = Op::BiasedAttention { spec: AttentionSpec { softcap: Some(1.0), ..spec }, bias };
            assert!(g.push(soft, &inputs, "soft").is_err());
        }
        let bad = |distance| ScoreBias { distance: Some(distance), key: false };
        for (bias, inputs) in [
            (bad(DistanceBias { table: DistanceTable::Param { table, left: 7 }, ..shaw }), vec![x, x, x]),
            (bad(DistanceBias { content: Some(table), ..shaw }), vec![x, x, x]),
            (bad(DistanceBias { table: DistanceTable::Param { table: ParamId(99), left: 0 }, ..shaw }), vec![x, x, x]),
            (bad(xl), vec![x, x, x, keys]),
            (ScoreBias { key: true, ..none }, vec![x, x, x, operand]),
        ] {
            assert!(g.push(Op::BiasedAttention { spec, bias }, &inputs, "bad").is_err(), "{bias:?}");
        }
    }

    #[test]
    fn convolutions_derive_their_rows() {
        let (mut g, x) = toy();
        let t = g.symbol("T");
        let dense = g.param("dense", &[6, 8, 3]).unwrap();
        let depthwise = g.param("depthwise", &[8, 1, 5]).unwrap();
        let same = Window::new(3).pad(1, 1);
        let spec = Conv1dSpec { weight: dense, bias: None, window: same, groups: 1, activation: None };
        let y = g.push(Op::Conv1d(spec), &[x], "same").unwrap()[0];
        assert_eq!(g.value(y).shape, Shape::rows(t, 6));
        let halved = Conv1dSpec { window: same.stride(2), ..spec };
        assert!(g.push(Op::Conv1d(halved), &[x], "halved").is_err(), "its rows are not declared");
        let half = g.windowed(t, halved.window).unwrap();
        assert_eq!(g.windowed(t, halved.window).unwrap(), half);
        assert_eq!(g.windowed(t, same).unwrap(), t);
        let z = g.push(Op::Conv1d(halved), &[x], "halved").unwrap()[0];
        assert_eq!(g.value(z).shape.display(g.symbols()).to_string(), "[T(taps=3 stride=2 pad=1+1), 6]");
        let quarter = g.windowed(half, halved.window).unwrap();
        assert_eq!(g.sequence_len(quarter, 10), 3);
        assert_eq!(g.bind_derived(&[19, 0, 0], &[10, 9]).unwrap(), [19, 10, 6]);
        assert!(g.bind_derived(&[19], &[10, 9]).is_err());
        let causal = Conv1dSpec { weight: depthwise, groups: 8, window: Window::new(5).pad(4, 0), ..spec };
        assert!(g.push(Op::Conv1d(causal), &[x], "causal").is_ok());
        for bad in [
            Conv1dSpec { groups: 4, ..causal },
            Conv1dSpec { groups: 0, ..causal },
            Conv1dSpec { groups: 2, ..spec },
            Conv1dSpec { window: Window::new(4).pad(3, 0), ..causal },
            Conv1dSpec { bias: Some(dense), ..causal },
            Conv1dSpec { weight: ParamId(99), ..causal },
        ] {
            assert!(g.push(Op::Conv1d(bad), &[x], "bad").is_err(), "{bad:?}");
        }
        assert!(g.windowed(t, Window::new(0)).is_err());
        g.verify().unwrap();
    }

    #[test]
    fn experts_are_of_one_shape() {
        let (mut g, x) = toy();
        let router = g.param("router", &[3, 8]).unwrap();
        let logits = g.push(Op::Linear(LinearPart { weight: router, bias: None }), &[x], "router").unwrap()[0];
        let mut expert = |name: &str, inner: usize| Expert {
            gate: Some(g.param(&format!("{name}.gate"), &[inner, 8]).unwrap()),
            up: g.param(&format!("{name}.up"), &[inner, 8]).unwrap(),
            down: g.param(&format!("{name}.down"), &[8, inner]).unwrap(),
        };
        let good = vec![expert("a", 5), expert("b", 5), expert("c", 5)];
        let odd = expert("d", 6);
        let spec = MoeSpec {
            experts: good,
            top_k: 2,
            score: RouterScore::Softmax,
            choice_bias: None,
            normalise: true,
            scale: 1.0,
            expert_scale: None,
            activation: Activation::Silu,
        };
        let y = g.push(Op::Moe(spec.clone()), &[x, logits], "moe").unwrap()[0];
        assert_eq!(g.value(y), g.value(x));
        assert_eq!(Op::Moe(spec.clone()).params().len(), 9);
        // The router, and two of three experts.
        assert_eq!(g.parameters_per_token(), 3 * 8 + 2 * 3 * 5 * 8);
        let with = |change: &dyn Fn(&mut MoeSpec)| {
            let mut spec = spec.clone();
            change(&mut spec);
            spec
        };
        for bad in [
            with(&|spec| spec.top_k = 0),
            with(&|spec| spec.top_k = 4),
            with(&|spec| spec.experts[1] = odd),
            with(&|spec| spec.experts[1].gate = None),
            with(&|spec| spec.experts.truncate(2)),
            with(&|spec| spec.expert_scale = Some(router)),
        ] {
            assert!(g.push(Op::Moe(bad.clone()), &[x, logits], "bad").is_err(), "{bad:?}");
        }
    }
}
