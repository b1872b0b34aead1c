//! What one step hands on to a product as tiles: the results of a run are the same bit by bit as of a graph whose values are seen by
//! others too, and so stay rows.

use std::sync::Arc;

use half::bf16;
use rlx_cpu::{CpuError, CpuOptions, CpuProgram, CpuState, Input, Isa, KvDType, Precision, SeqSpan, WeightData};
use rlx_ir::{Activation, AttentionSpec, DType, Epilogue, Graph, LinearPart, Op, Shape};
use rlx_mem::Bytes;

const HEADS: usize = 3;
const HEAD_DIM: usize = 32;
const WIDTH: usize = HEADS * HEAD_DIM;
/// No multiple of a tile's columns.
const WIDE: usize = 150;

/// Attention and its product, then a gate and its product; `seen` makes what is handed on outputs of the graph too.
fn graph(seen: bool) -> Graph {
    let mut graph = Graph::new();
    let t = graph.symbol("T");
    let x = graph.input("x", DType::F32, Shape::new([t.into(), WIDTH.into()]));
    let linear = |graph: &mut Graph, name: &str, rows: usize, cols: usize| LinearPart {
        weight: graph.param(name, &[rows, cols]).unwrap(),
        bias: None,
    };
    let parts = ["q", "k", "v"].map(|name| linear(&mut graph, name, WIDTH, WIDTH)).to_vec();
    let qkv = graph.push(Op::FusedLinear { norm: None, parts, epilogue: Epilogue::None }, &[x], "qkv").unwrap();
    let spec = AttentionSpec::bidirectional(HEADS, HEAD_DIM);
    let attention = graph.push(Op::Attention(spec), &qkv, "attention").unwrap()[0];
    let o = linear(&mut graph, "o", WIDTH, WIDTH);
    let add = Op::FusedLinear { norm: None, parts: vec![o], epilogue: Epilogue::Add };
    let y = graph.push(add, &[attention, x], "o").unwrap()[0];
    let parts = ["gate", "up"].map(|name| linear(&mut graph, name, WIDE, WIDTH)).to_vec();
    let gate = Op::FusedLinear { norm: None, parts, epilogue: Epilogue::Gated(Activation::Silu) };
    let gated = graph.push(gate, &[y], "gate").unwrap()[0];
    let down = linear(&mut graph, "down", WIDTH, WIDE);
    let add = Op::FusedLinear { norm: None, parts: vec![down], epilogue: Epilogue::Add };
    let out = graph.push(add, &[gated, y], "down").unwrap()[0];
    graph.output("out", out);
    if seen {
        graph.output("attention", attention);
        graph.output("gated", gated);
    }
    graph
}

/// Numbers in -1..1.
fn noise(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0).collect()
}

fn weight(name: &str, elements: usize) -> WeightData {
    let seed = name.bytes().map(usize::from).sum();
    let bytes: Vec<u8> =
        noise(elements, seed).iter().flat_map(|x| bf16::from_f32(x * 0.2).to_bits().to_le_bytes()).collect();
    WeightData { dtype: DType::BF16, bytes: Bytes::copy_from(&bytes) }
}

/// The result for sequences of these lengths.
fn run(isa: Isa, precision: Precision, threads: usize, lens: &[usize], seen: bool) -> Vec<f32> {
    let options = CpuOptions { threads, isa, precision };
    let load = &mut |param: &rlx_ir::Param| Ok::<_, CpuError>(weight(&param.name, param.shape.iter().product()));
    let program = CpuProgram::compile(graph(seen), options, load).unwrap();
    let mut state = CpuState::new(Arc::new(program), KvDType::F16, 16);
    let rows: usize = lens.iter().sum();
    let x = noise(rows * WIDTH, 5);
    let starts = lens.iter().scan(0, |end, len| {
        *end += len;
        Some(*end - len)
    });
    let span = |(start, &len): (usize, &usize)| SeqSpan { start, len, past: 0, blocks: &[] };
    let spans: Vec<SeqSpan<'_>> = starts.zip(lens).map(span).collect();
    state.run(&[rows], &[Input::F32(&x)], &spans, &[]).unwrap();
    state.output(0).unwrap().to_vec()
}

#[test]
fn results_do_not_depend_on_who_sees_a_value() {
    if let Err(why) = Isa::Amx.require() {
        println!("no tiles here: {why}");
    }
    for isa in Isa::available() {
        for precision in [Precision::Auto, Precision::Bf16, Precision::F32] {
            for threads in 1..=3 {
                for lens in [&[1][..], &[17], &[16, 1], &[100, 33], &[300]] {
                    let alone = run(isa, precision, threads, lens, false);
                    assert!(alone.iter().all(|x| x.is_finite()));
                    assert!(
                        alone == run(isa, precision, threads, lens, true),
                        "{isa} {precision:?} {threads} {lens:?}"
                    );
                }
            }
        }
    }
}
