use rlx_ir::*;

use crate::{MemoryPlan, optimise};

struct Toy {
    g: Graph,
}

impl Toy {
    fn linear(&mut self, x: ValueId, name: &str, out: usize) -> ValueId {
        let width = self.g.value(x).shape.width().unwrap();
        let weight = self.g.param(name, &[out, width]).unwrap();
        self.g.push(Op::Linear(LinearPart { weight, bias: None }), &[x], name).unwrap()[0]
    }

    fn norm(&mut self, x: ValueId, name: &str, group: Option<usize>) -> ValueId {
        let width = group.unwrap_or(self.g.value(x).shape.width().unwrap());
        let weight = self.g.param(name, &[width]).unwrap();
        let norm = Norm::Rms { weight: Some(weight), eps: 1e-5 };
        self.g.push(Op::Norm { norm, group }, &[x], name).unwrap()[0]
    }

    fn push(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.g.push(op, inputs, "op").unwrap()[0]
    }
}

/// One decoder layer as a model writes it, with QK-norm.
fn layer() -> Graph {
    let mut t = Toy { g: Graph::new() };
    let tokens = t.g.symbol("T");
    let x = t.g.input("x", DType::F32, Shape::rows(tokens, 32));
    let positions = t.g.input("positions", DType::I32, Shape::new([tokens.into()]));
    let table = t.push(Op::RopeTable { inv_freq: vec![1.0; 4], dynamic: None, attention_factor: 1.0 }, &[positions]);
    let h = t.norm(x, "l.input_layernorm", None);
    let (q, k, v) = (t.linear(h, "l.attn.q", 32), t.linear(h, "l.attn.k", 16), t.linear(h, "l.attn.v", 16));
    let (q, k) = (t.norm(q, "l.q_norm", Some(8)), t.norm(k, "l.k_norm", Some(8)));
    let rope = Op::Rope { style: RopeStyle::HalfSplit, head_dim: 8 };
    let (q, k) = (t.push(rope.clone(), &[q, table]), t.push(rope, &[k, table]));
    let cache = Some(t.g.cache(Cache { kv_heads: 2, k_dim: 8, v_dim: 8 }));
    let spec = AttentionSpec {
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        v_head_dim: 8,
        scale: 0.35,
        causal: true,
        window: None,
        softcap: None,
        cache,
    };
    let a = t.push(Op::Attention(spec), &[q, k, v]);
    let o = t.linear(a, "l.attn.o", 32);
    let x = t.push(Op::Binary(BinaryOp::Add), &[x, o]);
    let h = t.norm(x, "l.post_attention_layernorm", None);
    let (gate, up) = (t.linear(h, "l.mlp.gate", 48), t.linear(h, "l.mlp.up", 48));
    let gate = t.push(Op::Unary(UnaryOp::Activation(Activation::Silu)), &[gate]);
    let m = t.push(Op::Binary(BinaryOp::Mul), &[gate, up]);
    let m = t.linear(m, "l.mlp.down", 32);
    let unused = t.linear(m, "unused", 4);
    let _ = unused;
    let x = t.push(Op::Binary(BinaryOp::Add), &[x, m]);
    t.g.output("hidden", x);
    t.g
}

#[test]
fn a_decoder_layer_becomes_five_steps() {
    let fused = optimise(layer()).unwrap();
    let names: Vec<&str> = fused.nodes().iter().map(|node| node.op.name()).collect();
    let want = [
        "input",
        "input",
        "rope_table",
        "fused_linear",
        "fused_attention",
        "fused_linear",
        "fused_linear",
        "fused_linear",
    ];
    assert_eq!(names, want, "\n{fused}");
    let text = fused.to_string();
    assert!(text.contains("rms l.input_layernorm eps=1e-5; l.attn.q, l.attn.k, l.attn.v"), "{text}");
    assert!(text.contains("qk_norm rope=HalfSplit/4"), "{text}");
    assert!(text.contains("l.attn.o; Add"), "{text}");
    assert!(text.contains("l.mlp.gate, l.mlp.up; Gated(Silu)"), "{text}");
}

#[test]
fn a_value_with_another_reader_is_not_folded_away() {
    let mut t = Toy { g: Graph::new() };
    let tokens = t.g.symbol("T");
    let x = t.g.input("x", DType::F32, Shape::rows(tokens, 8));
    let h = t.norm(x, "n", None);
    let y = t.linear(h, "w", 8);
    let z = t.push(Op::Binary(BinaryOp::Add), &[x, y]);
    t.g.output("normed", h);
    t.g.output("product", y);
    t.g.output("sum", z);
    let fused = optimise(t.g).unwrap();
    let names: Vec<&str> = fused.nodes().iter().map(|node| node.op.name()).collect();
    assert_eq!(names, ["input", "rms_norm", "fused_linear", "add"]);
}

#[test]
fn live_values_share_no_memory_and_others_only_by_size() {
    let mut late_input = layer();
    let late = late_input.input("late", DType::F32, late_input.value(late_input.outputs()[0].1).shape.clone());
    let hidden = late_input.outputs()[0].1;
    let sum = late_input.push(Op::Binary(BinaryOp::Add), &[hidden, late], "sum").unwrap()[0];
    late_input.output("sum", sum);
    for graph in [layer(), optimise(layer()).unwrap(), late_input] {
        for tokens in [1, 7, 64] {
            let plan = MemoryPlan::new(&graph, &[tokens]).unwrap();
            let mut born = vec![0; graph.values().len()];
            let mut dies = vec![0; graph.values().len()];
            for (time, node) in graph.nodes().iter().enumerate() {
                // Inputs are written before the run.
                let birth = if node.op == Op::Input { 0 } else { time };
                node.outputs.iter().for_each(|id| (born[id.index()], dies[id.index()]) = (birth, time));
                node.inputs.iter().for_each(|id| dies[id.index()] = time);
            }
            graph.outputs().iter().for_each(|(_, id)| dies[id.index()] = usize::MAX);
            let written: Vec<usize> =
                graph.nodes().iter().flat_map(|node| &node.outputs).map(|id| id.index()).collect();
            for &a in &written {
                assert!(plan.offsets[a] + plan.elements[a] * 4 <= plan.arena_bytes);
                for &b in &written {
                    let together = a != b && born[a] <= dies[b] && born[b] <= dies[a];
                    let end = |v: usize| plan.offsets[v] + plan.elements[v] * 4;
                    let overlap = plan.offsets[a] < end(b) && plan.offsets[b] < end(a);
                    assert!(!(together && overlap), "values {a} and {b} overlap at T={tokens}");
                    // In whole cache lines.
                    let place = |v: usize| (plan.offsets[v], plan.elements[v].next_multiple_of(16));
                    let same = place(a) == place(b);
                    assert!(!overlap || same, "values {a} and {b} of two sizes share memory at T={tokens}");
                }
            }
        }
    }
    assert!(MemoryPlan::new(&layer(), &[]).is_err());
    assert!(MemoryPlan::new(&layer(), &[usize::MAX / 8]).is_err());
}

#[test]
fn blocks_normalised_on_both_sides_keep_their_last_norm() {
    let mut t = Toy { g: Graph::new() };
    let tokens = t.g.symbol("T");
    let x = t.g.input("x", DType::F32, Shape::rows(tokens, 16));
    let h = t.norm(x, "pre", None);
    let (gate, up) = (t.linear(h, "mlp.gate", 24), t.linear(h, "mlp.up", 24));
    let gate = t.push(Op::Unary(UnaryOp::Activation(Activation::GeluTanh)), &[gate]);
    let m = t.push(Op::Binary(BinaryOp::Mul), &[gate, up]);
    let m = t.linear(m, "mlp.down", 16);
    let m = t.norm(m, "post", None);
    let x = t.push(Op::Binary(BinaryOp::Add), &[x, m]);
    t.g.output("hidden", x);
    let fused = optimise(t.g).unwrap();
    let names: Vec<&str> = fused.nodes().iter().map(|node| node.op.name()).collect();
    assert_eq!(names, ["input", "fused_linear", "fused_linear", "rms_norm", "add"], "\n{fused}");
    assert!(fused.to_string().contains("rms pre eps=1e-5; mlp.gate, mlp.up; Gated(GeluTanh)"), "{fused}");
}

#[test]
fn a_row_routed_and_taken_by_experts_is_normalised_once() {
    let mut t = Toy { g: Graph::new() };
    let tokens = t.g.symbol("T");
    let x = t.g.input("x", DType::F32, Shape::rows(tokens, 16));
    let h = t.norm(x, "pre", None);
    let logits = t.linear(h, "router", 3);
    let experts = (0..3)
        .map(|e| Expert {
            gate: None,
            up: t.g.param(&format!("up.{e}"), &[8, 16]).unwrap(),
            down: t.g.param(&format!("down.{e}"), &[16, 8]).unwrap(),
        })
        .collect();
    let spec = MoeSpec {
        experts,
        top_k: 2,
        score: RouterScore::Sigmoid,
        choice_bias: None,
        normalise: true,
        scale: 1.0,
        expert_scale: None,
        activation: Activation::Relu2,
    };
    let m = t.push(Op::Moe(spec), &[h, logits]);
    let x = t.push(Op::Binary(BinaryOp::Add), &[x, m]);
    t.g.output("hidden", x);
    let fused = optimise(t.g).unwrap();
    let names: Vec<&str> = fused.nodes().iter().map(|node| node.op.name()).collect();
    assert_eq!(names, ["input", "rms_norm", "fused_linear", "moe", "add"], "\n{fused}");
}

#[test]
fn keys_of_several_layers_are_turned_once() {
    let mut t = Toy { g: Graph::new() };
    let tokens = t.g.symbol("T");
    let x = t.g.input("x", DType::F32, Shape::rows(tokens, 16));
    let positions = t.g.input("positions", DType::I32, Shape::new([tokens.into()]));
    let table = t.push(Op::RopeTable { inv_freq: vec![1.0; 4], dynamic: None, attention_factor: 1.0 }, &[positions]);
    let rope = Op::Rope { style: RopeStyle::HalfSplit, head_dim: 8 };
    let k = t.linear(x, "k", 8);
    let k = t.push(rope.clone(), &[k, table]);
    let v = t.linear(x, "v", 8);
    let cache = Some(t.g.cache(Cache { kv_heads: 1, k_dim: 8, v_dim: 8 }));
    for layer in ["a", "b"] {
        let q = t.linear(x, layer, 16);
        let q = t.push(rope.clone(), &[q, table]);
        let spec = AttentionSpec {
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            v_head_dim: 8,
            scale: 1.0,
            causal: true,
            window: None,
            softcap: None,
            cache,
        };
        let o = t.push(Op::Attention(spec), &[q, k, v]);
        t.g.output(layer, o);
    }
    let fused = optimise(t.g).unwrap();
    let count = |name: &str| fused.nodes().iter().filter(|node| node.op.name() == name).count();
    assert_eq!((count("rope"), count("attention"), count("fused_attention")), (3, 2, 0), "\n{fused}");
}

#[test]
fn an_activation_joins_its_convolution() {
    let build = |second_reader: bool| {
        let mut t = Toy { g: Graph::new() };
        let rows = t.g.symbol("T");
        let x = t.g.input("x", DType::F32, Shape::rows(rows, 8));
        let window = Window::new(3).pad(1, 1).stride(2);
        t.g.windowed(rows, window).unwrap();
        let weight = t.g.param("conv", &[6, 8, 3]).unwrap();
        let spec = Conv1dSpec { weight, bias: None, window, groups: 1, activation: None };
        let y = t.push(Op::Conv1d(spec), &[x]);
        let z = t.push(Op::Unary(UnaryOp::Activation(Activation::GeluErf)), &[y]);
        t.g.output("z", z);
        if second_reader {
            t.g.output("y", y);
        }
        optimise(t.g).unwrap()
    };
    let ops = |graph: &Graph| graph.nodes().iter().map(|node| node.op.name()).collect::<Vec<_>>().join(" ");
    let fused = build(false);
    assert_eq!(ops(&fused), "input conv1d");
    assert!(fused.to_string().contains("taps=3 stride=2 pad=1+1; GeluErf"), "{fused}");
    assert_eq!(ops(&build(true)), "input conv1d activation");
}
