//! An encoder that leaves keys and values, and a decoder whose sequences are about them: sharing, batches, and what is refused.

use std::sync::Arc;

use rlx_ir::{
    AttentionSpec, BinaryOp, Cache, CrossAttentionSpec, CrossKv, DType, Graph, LinearPart, Op, Param, Shape, ValueId,
    batch,
};
use rlx_mem::Bytes;
use rlx_runtime::{
    CompileOptions, CrossCache, CrossEntry, CrossRef, Entry, Executable, InputData, KvType, Logits, ParamData,
    RuntimeError, SequenceId, Session, SessionOptions, Span, State, Step,
};

const VOCAB: usize = 24;
const WIDTH: usize = 16;
const ROWS: usize = 9;
const KV: CrossKv = CrossKv { kv_heads: 2, k_dim: 8, v_dim: 8, rows: ROWS };

fn push(g: &mut Graph, op: Op, inputs: &[ValueId]) -> ValueId {
    g.push(op, inputs, "op").unwrap()[0]
}

fn linear(g: &mut Graph, x: ValueId, name: &str, out: usize) -> ValueId {
    let weight = g.param(name, &[out, WIDTH]).unwrap();
    push(g, Op::Linear(LinearPart { weight, bias: None }), &[x])
}

fn encoder() -> Graph {
    let mut g = Graph::new();
    let s = g.symbol("S");
    let x = g.input("x", DType::F32, Shape::rows(s, WIDTH));
    for name in ["a", "b"] {
        let layer = g.cross_kv(KV);
        let (k, v) = (linear(&mut g, x, &format!("{name}.k"), 16), linear(&mut g, x, &format!("{name}.v"), 16));
        assert!(g.push(Op::StoreCrossKv(layer), &[k, v], name).unwrap().is_empty());
    }
    g
}

fn decoder() -> Graph {
    let mut g = Graph::new();
    let (t, r) = (g.symbol(batch::TOKEN_COUNT), g.symbol(batch::LOGIT_COUNT));
    let a = g.symbol(batch::CROSS_WEIGHT_COUNT);
    let tokens = g.input(batch::TOKENS, DType::I32, Shape::new([t.into()]));
    g.input(batch::POSITIONS, DType::I32, Shape::new([t.into()]));
    let rows = g.input(batch::LOGIT_ROWS, DType::I32, Shape::new([r.into()]));
    let wanted = g.input(batch::CROSS_WEIGHT_ROWS, DType::I32, Shape::new([a.into()]));
    let table = g.param("embed", &[VOCAB, WIDTH]).unwrap();
    let mut x = push(&mut g, Op::Embedding { table }, &[tokens]);
    for layer in 0..2 {
        let source = g.cross_kv(KV);
        let spec = CrossAttentionSpec { heads: 2, scale: 2.0, source };
        let q = linear(&mut g, x, &format!("q{layer}"), 16);
        let weights = push(&mut g, Op::CrossWeights { spec, chosen: vec![1] }, &[q, wanted]);
        g.output(&batch::cross_weights(layer), weights);
        let y = push(&mut g, Op::CrossAttention(spec), &[q]);
        x = push(&mut g, Op::Binary(BinaryOp::Add), &[x, y]);
    }
    let cache = Some(g.cache(Cache { kv_heads: 2, k_dim: 8, v_dim: 8 }));
    let spec = AttentionSpec {
        heads: 2,
        kv_heads: 2,
        head_dim: 8,
        v_head_dim: 8,
        scale: 1.0,
        causal: true,
        window: None,
        softcap: None,
        cache,
    };
    let x = push(&mut g, Op::Attention(spec), &[x, x, x]);
    let x = push(&mut g, Op::SelectRows, &[x, rows]);
    let logits = push(&mut g, Op::Linear(LinearPart { weight: table, bias: None }), &[x]);
    g.output(batch::LOGITS, logits);
    g
}

fn noise(seed: &str, count: usize) -> Vec<f32> {
    let mut state = seed.bytes().fold(17u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn compile(graph: Graph) -> Arc<dyn Executable> {
    let mut weights = |param: &Param| {
        let data = noise(&param.name, param.shape.iter().product());
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        Ok(ParamData { dtype: DType::F32, shape: param.shape.clone(), bytes: Bytes::copy_from(&bytes) })
    };
    let options = CompileOptions { threads: 2, ..CompileOptions::default() };
    rlx_runtime::compile(graph, &mut weights, &options).unwrap()
}

struct Model {
    encoder: Box<dyn State>,
    session: Session,
    cache: CrossCache,
}

impl Model {
    fn new() -> Model {
        let (encoder, decoder) = (compile(encoder()), compile(decoder()));
        let cache = CrossCache::new(decoder.as_ref(), KvType::F32).unwrap();
        let options = SessionOptions { max_seq: 32, block_len: 4, prefill_chunk: 8, kv_type: KvType::F32 };
        let encoder = encoder.new_state(&options, Some(&cache)).unwrap();
        let session = Session::with_cross_cache(decoder, options, cache.clone()).unwrap();
        Model { encoder, session, cache }
    }

    /// Encodes inputs of the given numbers of rows in one run; each is drawn from its own number.
    fn encode(&mut self, inputs: &[(usize, usize)]) -> Vec<CrossEntry> {
        let entries: Vec<CrossEntry> = inputs.iter().map(|&(_, rows)| self.cache.add_entry(rows).unwrap()).collect();
        let at: Vec<CrossRef> = entries.iter().map(CrossEntry::at).collect();
        self.run_encoder(inputs, &at).unwrap();
        entries
    }

    fn run_encoder(&mut self, inputs: &[(usize, usize)], at: &[CrossRef]) -> Result<(), RuntimeError> {
        let mut x = vec![];
        let mut spans = vec![];
        for &(seed, rows) in inputs {
            spans.push(Span { start: x.len() / WIDTH, len: rows, past: 0, blocks: &[] });
            x.extend(noise(&format!("input {seed}"), rows * WIDTH));
        }
        let bindings = [x.len() / WIDTH];
        self.encoder.run(&Step { bindings: &bindings, inputs: &[InputData::F32(&x)], spans: &spans, cross: at })
    }

    fn step(&mut self, feeds: &[(SequenceId, &[u32])]) -> Vec<Vec<f32>> {
        let entries: Vec<Entry<'_>> =
            feeds.iter().map(|&(sequence, tokens)| Entry { sequence, tokens, logits: Logits::Last }).collect();
        self.session.step(&entries).unwrap();
        self.session.logits().chunks_exact(VOCAB).map(<[f32]>::to_vec).collect()
    }

    /// Logits after `tokens` about an input, all alone.
    fn alone(input: (usize, usize), tokens: &[u32]) -> Vec<f32> {
        let mut model = Model::new();
        let entry = model.encode(&[input]).remove(0);
        let id = model.session.add_sequence_about(&entry).unwrap();
        model.step(&[(id, tokens)]).remove(0)
    }
}

fn assert_close(a: &[f32], b: &[f32]) {
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The same sums in another order.
    assert!(a.len() == b.len() && worst < 1e-5, "{worst}");
}

#[test]
fn sequences_in_a_batch_see_their_own_input() {
    let mut model = Model::new();
    let inputs = [(1, 9), (2, 1), (3, 5)];
    let entries = model.encode(&inputs);
    let ids: Vec<SequenceId> = entries.iter().map(|entry| model.session.add_sequence_about(entry).unwrap()).collect();
    let rows = model.step(&[(ids[0], &[1, 2, 3]), (ids[1], &[4]), (ids[2], &[5, 6])]);
    for ((row, input), tokens) in rows.iter().zip(inputs).zip([&[1u32, 2, 3][..], &[4], &[5, 6]]) {
        assert_close(row, &Model::alone(input, tokens));
    }
    assert!(rows[0].iter().zip(&Model::alone(inputs[1], &[1, 2, 3])).any(|(a, b)| (a - b).abs() > 1e-3));
    // Forks are about the same input; neighbours read it together.
    let fork = model.session.fork(ids[2]).unwrap();
    let rows = model.step(&[(ids[2], &[7]), (fork, &[8]), (ids[0], &[9])]);
    assert_close(&rows[0], &Model::alone(inputs[2], &[5, 6, 7]));
    assert_close(&rows[1], &Model::alone(inputs[2], &[5, 6, 8]));
    assert_close(&rows[2], &Model::alone(inputs[0], &[1, 2, 3, 9]));
}

#[test]
fn an_entry_lives_as_long_as_somebody_needs_it() {
    let mut model = Model::new();
    let entry = model.encode(&[(1, 4)]).remove(0);
    let first = model.session.add_sequence_about(&entry).unwrap();
    let second = model.session.fork(first).unwrap();
    drop(entry);
    assert_eq!(model.cache.entries_in_use(), 1);
    model.session.remove(first).unwrap();
    assert_close(&model.step(&[(second, &[3])])[0], &Model::alone((1, 4), &[3]));
    model.session.remove(second).unwrap();
    assert_eq!(model.cache.entries_in_use(), 0);
    // Its room is taken by the next.
    let bytes = model.cache.bytes();
    let entry = model.encode(&[(2, 9)]).remove(0);
    assert_eq!((entry.at().entry, model.cache.bytes()), (0, bytes));
    let id = model.session.add_sequence_about(&entry).unwrap();
    assert_close(&model.step(&[(id, &[3])])[0], &Model::alone((2, 9), &[3]));
}

#[test]
fn tokens_tell_what_they_attend_to() {
    let mut model = Model::new();
    let entries = model.encode(&[(1, 9), (2, 4)]);
    let ids: Vec<SequenceId> = entries.iter().map(|entry| model.session.add_sequence_about(entry).unwrap()).collect();
    let entry = |i: usize, tokens| Entry { sequence: ids[i], tokens, logits: Logits::All };
    model.session.step_with_cross_weights(&[entry(0, &[1, 2]), entry(1, &[3])]).unwrap();
    for layer in 0..2 {
        let mut weights = vec![];
        model.session.read_output(&batch::cross_weights(layer), &mut weights).unwrap();
        assert_eq!(weights.len(), 3 * ROWS);
        for (row, rows) in weights.chunks_exact(ROWS).zip([9, 9, 4]) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5 && row[rows..].iter().all(|&x| x == 0.0), "{row:?}");
        }
    }
    // Nobody asked: there are none.
    model.session.step(&[entry(0, &[4])]).unwrap();
    let mut weights = vec![1.0];
    model.session.read_output(&batch::cross_weights(0), &mut weights).unwrap();
    assert!(weights.is_empty());
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut model = Model::new();
    let cross = |result: Result<(), RuntimeError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, RuntimeError::Cross(_)), "{error}");
    };
    for rows in [0, ROWS + 1, usize::MAX] {
        cross(model.cache.add_entry(rows).map(drop));
    }
    let other = Model::new().encode(&[(1, 3)]).remove(0);
    cross(model.session.add_sequence_about(&other).map(drop));
    let plain = model.session.add_sequence();
    cross(model.session.step(&[Entry { sequence: plain, tokens: &[1], logits: Logits::Last }]));
    cross(Session::new(compile(decoder()), SessionOptions::default()).map(drop));
    let about = model.encode(&[(1, 3)]).remove(0);
    let id = model.session.add_sequence_about(&about).unwrap();
    assert!(matches!(model.session.save(id), Err(RuntimeError::Snapshot(_))));
    // The encoder: an entry that is not there, of other rows, that two sequences write, or none.
    let at = about.at();
    for bad in
        [vec![CrossRef { entry: 9, ..at }], vec![CrossRef { rows: 2, ..at }], vec![CrossRef { rows: 0, ..at }], vec![]]
    {
        assert!(model.run_encoder(&[(1, 3)], &bad).is_err(), "{bad:?}");
    }
    assert!(model.run_encoder(&[(1, 3), (2, 3)], &[at, at]).is_err());
    // Another model's cache.
    let mut graph = Graph::new();
    graph.cross_kv(CrossKv { rows: 3, ..KV });
    let small = compile(graph);
    assert!(small.new_state(&SessionOptions::default(), Some(&model.cache)).is_err());
}
