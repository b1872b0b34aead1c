//! Sessions on a one-layer attention model: batching, forks, cuts, snapshots, and what is refused.

use std::sync::Arc;

use rlx_ir::{AttentionSpec, Cache, DType, Graph, LinearPart, Op, Param, Shape, ValueId, batch};
use rlx_mem::Bytes;
use rlx_runtime::{
    CompileOptions, Entry, Executable, KvType, Logits, ParamData, RuntimeError, SequenceId, Session, SessionOptions,
};

const VOCAB: usize = 40;
const WIDTH: usize = 32;

fn graph() -> Graph {
    let mut g = Graph::new();
    let (t, r) = (g.symbol(batch::TOKEN_COUNT), g.symbol(batch::LOGIT_COUNT));
    let tokens = g.input(batch::TOKENS, DType::I32, Shape::new([t.into()]));
    let positions = g.input(batch::POSITIONS, DType::I32, Shape::new([t.into()]));
    let rows = g.input(batch::LOGIT_ROWS, DType::I32, Shape::new([r.into()]));
    let push = |g: &mut Graph, op: Op, inputs: &[ValueId]| g.push(op, inputs, "op").unwrap()[0];
    let table = g.param("embed", &[VOCAB, WIDTH]).unwrap();
    let x = push(&mut g, Op::Embedding { table }, &[tokens]);
    let rope =
        push(&mut g, Op::RopeTable { inv_freq: vec![1.0, 0.1], dynamic: None, attention_factor: 1.0 }, &[positions]);
    let linear = |g: &mut Graph, x: ValueId, name: &str, out: usize| {
        let weight = g.param(name, &[out, WIDTH]).unwrap();
        push(g, Op::Linear(LinearPart { weight, bias: None }), &[x])
    };
    let (q, k, v) = (linear(&mut g, x, "q", 32), linear(&mut g, x, "k", 16), linear(&mut g, x, "v", 16));
    let turn = |g: &mut Graph, x: ValueId| {
        g.push(Op::Rope { style: rlx_ir::RopeStyle::HalfSplit, head_dim: 8 }, &[x, rope], "rope").unwrap()[0]
    };
    let (q, k) = (turn(&mut g, q), turn(&mut g, k));
    let cache = Some(g.cache(Cache { kv_heads: 2, k_dim: 8, v_dim: 8 }));
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
    let a = g.push(Op::Attention(spec), &[q, k, v], "attention").unwrap()[0];
    let x = g.push(Op::Binary(rlx_ir::BinaryOp::Add), &[x, a], "add").unwrap()[0];
    let x = g.push(Op::SelectRows, &[x, rows], "rows").unwrap()[0];
    let weight = g.param("head", &[VOCAB, WIDTH]).unwrap();
    let logits = g.push(Op::Linear(LinearPart { weight, bias: None }), &[x], "head").unwrap()[0];
    g.output(batch::LOGITS, logits);
    g
}

fn weights(param: &Param) -> Result<ParamData, RuntimeError> {
    let mut state = param.name.bytes().fold(17u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let data: Vec<u8> = (0..param.shape.iter().product::<usize>())
        .flat_map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 24) as f32 - 0.5).to_le_bytes()
        })
        .collect();
    Ok(ParamData { dtype: DType::F32, shape: param.shape.clone(), bytes: Bytes::copy_from(&data) })
}

fn model(threads: usize) -> Arc<dyn Executable> {
    let options = CompileOptions { threads, ..CompileOptions::default() };
    rlx_runtime::compile(graph(), &mut weights, &options).unwrap()
}

fn session(max_seq: usize) -> Session {
    let options = SessionOptions { max_seq, block_len: 4, prefill_chunk: 5, kv_type: KvType::F32 };
    Session::new(model(2), options).unwrap()
}

fn run(session: &mut Session, id: SequenceId, tokens: &[u32]) -> Vec<f32> {
    session.step(&[Entry { sequence: id, tokens, logits: Logits::Last }]).unwrap();
    session.logits().to_vec()
}

/// Logits after `tokens`, run alone in one go.
fn alone(tokens: &[u32]) -> Vec<f32> {
    let mut session = session(64);
    let id = session.add_sequence();
    run(&mut session, id, tokens)
}

fn assert_close(a: &[f32], b: &[f32]) {
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // The same sums in another order.
    assert!(a.len() == b.len() && worst < 1e-5, "{worst}");
}

#[test]
fn any_way_of_feeding_tokens_gives_the_same_logits() {
    let tokens: Vec<u32> = (0..19).map(|i| i * 7 % VOCAB as u32).collect();
    let whole = alone(&tokens);
    let mut one_by_one = session(64);
    let id = one_by_one.add_sequence();
    for &token in &tokens {
        run(&mut one_by_one, id, &[token]);
    }
    assert_close(&whole, one_by_one.logits());
    let mut chunked = session(64);
    let id = chunked.add_sequence();
    let mut seen = vec![];
    assert!(
        chunked
            .prefill(id, &tokens, |done| {
                seen.push(done);
                true
            })
            .unwrap()
    );
    assert_eq!(seen, [5, 10, 15, 19]);
    assert_close(&whole, chunked.logits());
    assert_eq!(chunked.tokens(id).unwrap(), tokens);
}

#[test]
fn a_ragged_batch_is_its_sequences_alone() {
    let prompts: [&[u32]; 3] = [&[1, 2, 3, 4, 5, 6, 7], &[9], &[4, 4, 30]];
    let mut session = session(64);
    let ids: Vec<SequenceId> = prompts.iter().map(|_| session.add_sequence()).collect();
    let entries: Vec<Entry<'_>> =
        ids.iter().zip(prompts).map(|(&sequence, tokens)| Entry { sequence, tokens, logits: Logits::Last }).collect();
    session.step(&entries).unwrap();
    for (row, prompt) in session.logits().chunks_exact(VOCAB).zip(prompts) {
        assert_close(row, &alone(prompt));
    }
    let next: Vec<Entry<'_>> =
        ids.iter().map(|&sequence| Entry { sequence, tokens: &[11, 12], logits: Logits::All }).collect();
    session.step(&next).unwrap();
    let rows: Vec<&[f32]> = session.logits().chunks_exact(VOCAB).collect();
    assert_eq!(rows.len(), 6);
    for (i, prompt) in prompts.iter().enumerate() {
        assert_close(rows[2 * i], &alone(&[prompt, &[11][..]].concat()));
        assert_close(rows[2 * i + 1], &alone(&[prompt, &[11, 12][..]].concat()));
    }
}

#[test]
fn forks_share_blocks_and_part_without_disturbing_each_other() {
    let mut session = session(64);
    let first = session.add_sequence();
    run(&mut session, first, &[1, 2, 3, 4, 5, 6]);
    assert_eq!(session.blocks_in_use(), 2);
    let second = session.fork(first).unwrap();
    assert_eq!(session.blocks_in_use(), 2);
    assert_close(&run(&mut session, second, &[20]), &alone(&[1, 2, 3, 4, 5, 6, 20]));
    assert_eq!(session.blocks_in_use(), 3);
    assert_close(&run(&mut session, first, &[21]), &alone(&[1, 2, 3, 4, 5, 6, 21]));
    session.truncate(second, 3).unwrap();
    assert_close(&run(&mut session, second, &[7]), &alone(&[1, 2, 3, 7]));
    assert_close(&run(&mut session, first, &[22]), &alone(&[1, 2, 3, 4, 5, 6, 21, 22]));
    session.remove(first).unwrap();
    session.remove(second).unwrap();
    assert_eq!(session.blocks_in_use(), 0);
    assert!(matches!(session.tokens(first), Err(RuntimeError::NoSequence(_))));
}

#[test]
fn a_restored_sequence_goes_on_to_the_bit() {
    let mut original = session(64);
    let id = original.add_sequence();
    run(&mut original, id, &[1, 2, 3, 4, 5, 6]);
    let saved = original.save(id).unwrap();
    let expected = run(&mut original, id, &[7]);
    let mut other = session(64);
    let copy = other.restore(&saved).unwrap();
    assert_eq!(run(&mut other, copy, &[7]), expected);
    for cut in [0, 3, 27, 28, 40, saved.len() - 1] {
        assert!(matches!(other.restore(&saved[..cut]), Err(RuntimeError::Snapshot(_))), "{cut}");
    }
    let mut huge = saved.clone();
    huge[20..28].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(other.restore(&huge).is_err());
    let mut foreign = saved;
    foreign[28..32].copy_from_slice(&1000u32.to_le_bytes());
    assert!(matches!(other.restore(&foreign), Err(RuntimeError::TokenId { .. })));
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_runs() {
    let mut session = session(6);
    let id = session.add_sequence();
    run(&mut session, id, &[1, 2, 3]);
    let entry = |tokens| Entry { sequence: id, tokens, logits: Logits::Last };
    assert!(matches!(session.step(&[]), Err(RuntimeError::Empty)));
    assert!(matches!(session.step(&[entry(&[])]), Err(RuntimeError::Empty)));
    assert!(matches!(session.step(&[entry(&[VOCAB as u32])]), Err(RuntimeError::TokenId { .. })));
    assert!(matches!(session.step(&[entry(&[1, 2, 3, 4])]), Err(RuntimeError::TooLong { len: 7, max: 6 })));
    assert!(matches!(session.step(&[entry(&[1]), entry(&[2])]), Err(RuntimeError::Options(_))));
    assert!(matches!(session.truncate(id, 4), Err(RuntimeError::Truncate { .. })));
    assert_eq!(session.tokens(id).unwrap(), [1, 2, 3]);
    assert_close(&run(&mut session, id, &[4]), &alone(&[1, 2, 3, 4]));
}

#[test]
fn parameters_must_be_there_and_of_their_shape() {
    let options = CompileOptions::default();
    let mut missing = |param: &Param| match param.name.as_str() {
        "head" => Err(RuntimeError::Param { name: "head".into(), what: "is missing".into() }),
        _ => weights(param),
    };
    assert!(rlx_runtime::compile(graph(), &mut missing, &options).is_err());
    let mut transposed = |param: &Param| {
        let mut data = weights(param)?;
        data.shape.reverse();
        Ok(data)
    };
    assert!(rlx_runtime::compile(graph(), &mut transposed, &options).is_err());
    let mut cut = |param: &Param| {
        let mut data = weights(param)?;
        data.bytes = data.bytes.slice(0..8).unwrap();
        Ok(data)
    };
    assert!(rlx_runtime::compile(graph(), &mut cut, &options).is_err());
}

#[test]
fn the_plan_can_be_read_and_timed() {
    let executable = model(1);
    let text = executable.explain(&[7, 1]).unwrap();
    assert!(text.contains("fused_attention") && text.contains("T=7 R=1"), "{text}");
    assert!(executable.explain(&[]).is_err());
    let mut session = Session::new(executable, SessionOptions::default()).unwrap();
    session.set_profiling(true);
    let id = session.add_sequence();
    run(&mut session, id, &[1]);
    run(&mut session, id, &[2]);
    let profile = session.profile();
    assert!(profile.iter().all(|step| step.runs == 2));
    assert!(profile.iter().any(|step| step.op == "fused_attention"));
}
