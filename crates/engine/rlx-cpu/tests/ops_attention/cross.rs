//! Cross-attention: keys and values that are stored once, then attended to without rows of their own, and the weights that tokens
//! give them; every instruction set, thread count and KV type against plain f64 sums.

use rlx_cpu::attention::{
    AttentionArgs, CrossWeightsArgs, KvDType, KvLayerView, KvLayout, ScoreBias, SeqSpan, StoreArgs, attention,
    attention_scratch_bytes, cross_weights, cross_weights_scratch_bytes, store_kv, store_scratch_bytes,
};
use rlx_cpu::{Isa, Layout, Precision, RowsIn, RowsOut, SharedSlice, ThreadPool, WorkCounter};

use super::{levels, nmse, noise, stored};

#[derive(Clone, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    k_dim: usize,
    v_dim: usize,
    dtype: KvDType,
    /// Room of an entry.
    capacity: usize,
    /// Rows of each entry.
    entries: Vec<usize>,
    /// Tokens of each sequence, and the entry it is about.
    sequences: Vec<(usize, usize)>,
}

struct Found {
    out: Vec<f32>,
    weights: Vec<f32>,
}

struct Fixture {
    case: Case,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    scale: f32,
    /// Tokens whose weights are wanted, and heads.
    rows: Vec<i32>,
    chosen: Vec<usize>,
}

impl Fixture {
    fn new(case: Case) -> Fixture {
        let tokens: usize = case.sequences.iter().map(|(len, _)| len).sum();
        let stored: usize = case.entries.iter().sum();
        let q = noise(tokens * case.heads * case.k_dim, 1).iter().map(|x| 3.0 * x).collect();
        let k = noise(stored * case.kv_heads * case.k_dim, 2);
        let v = noise(stored * case.kv_heads * case.v_dim, 3);
        let rows = (0..tokens as i32).rev().step_by(2).collect();
        let chosen = (0..case.heads).rev().step_by(2).collect();
        let scale = 1.0 / (case.k_dim as f32).sqrt();
        Fixture { case, q, k, v, scale, rows, chosen }
    }

    /// The entry of each token.
    fn entry_of(&self, token: usize) -> usize {
        let mut end = 0;
        let found = self.case.sequences.iter().find(|(len, _)| {
            end += len;
            token < end
        });
        found.unwrap().1
    }

    /// Softmax weights of a token and head over its entry.
    fn weights(&self, token: usize, head: usize) -> Vec<f64> {
        let case = &self.case;
        let entry = self.entry_of(token);
        let first: usize = case.entries[..entry].iter().sum();
        let kv = head / (case.heads / case.kv_heads);
        let q = &self.q[(token * case.heads + head) * case.k_dim..][..case.k_dim];
        let scores: Vec<f64> = (first..first + case.entries[entry])
            .map(|row| {
                let key = stored(Some(case.dtype), &self.k[(row * case.kv_heads + kv) * case.k_dim..][..case.k_dim]);
                q.iter().zip(key).map(|(&q, k)| f64::from(q) * k).sum::<f64>() * f64::from(self.scale)
            })
            .collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        scores.iter().map(|s| (s - max).exp() / sum).collect()
    }

    fn reference(&self) -> [Vec<f64>; 2] {
        let case = &self.case;
        let tokens: usize = case.sequences.iter().map(|(len, _)| len).sum();
        let mut out = vec![];
        for token in 0..tokens {
            let entry = self.entry_of(token);
            let first: usize = case.entries[..entry].iter().sum();
            for head in 0..case.heads {
                let kv = head / (case.heads / case.kv_heads);
                let mut sums = vec![0.0; case.v_dim];
                for (row, weight) in self.weights(token, head).into_iter().enumerate() {
                    let at = ((first + row) * case.kv_heads + kv) * case.v_dim;
                    let value = stored(Some(case.dtype), &self.v[at..][..case.v_dim]);
                    sums.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight * v);
                }
                out.extend(sums);
            }
        }
        let mut weights = vec![];
        for &token in &self.rows {
            for &head in &self.chosen {
                let mut row = self.weights(token as usize, head);
                row.resize(case.capacity, 0.0);
                weights.extend(row);
            }
        }
        [out, weights]
    }

    fn run(&self, isa: Isa, threads: usize) -> Found {
        let case = &self.case;
        let pool = ThreadPool::new(threads);
        let layout = KvLayout {
            dtype: case.dtype,
            kv_heads: case.kv_heads,
            k_dim: case.k_dim,
            v_dim: case.v_dim,
            block_len: case.capacity,
        };
        // Full of NaN, numbered backwards.
        let count = case.entries.len();
        let mut memory: Vec<Vec<u32>> = vec![vec![u32::MAX; layout.bytes_per_block().div_ceil(4)]; count];
        let pointers: Vec<*mut u8> = memory.iter_mut().map(|block| block.as_mut_ptr().cast()).collect();
        // SAFETY: each block has bytes_per_block bytes, is used by the kernels alone, and outlives the view.
        let view = unsafe { KvLayerView::new(layout, &pointers, 0) };
        let blocks: Vec<[u32; 1]> = (0..count).map(|entry| [(count - 1 - entry) as u32]).collect();

        let mut start = 0;
        let spans: Vec<SeqSpan<'_>> = case
            .entries
            .iter()
            .zip(&blocks)
            .map(|(&len, blocks)| {
                start += len;
                SeqSpan { start: start - len, len, past: 0, blocks }
            })
            .collect();
        let rows = |data, stride| RowsIn { data, stride };
        let args = StoreArgs {
            k: rows(&self.k, case.kv_heads * case.k_dim),
            v: rows(&self.v, case.kv_heads * case.v_dim),
            spans: &spans,
            cache: &view,
        };
        let mut scratch = vec![0xFFu8; store_scratch_bytes(&args, threads)];
        let scratch = SharedSlice::new(&mut scratch);
        pool.run(&|ctx| store_kv(ctx, isa, scratch, &args));

        let mut start = 0;
        let spans: Vec<SeqSpan<'_>> = case
            .sequences
            .iter()
            .map(|&(len, entry)| {
                start += len;
                SeqSpan { start: start - len, len, past: case.entries[entry], blocks: &blocks[entry] }
            })
            .collect();
        let q = rows(&self.q, case.heads * case.k_dim);
        let width = case.heads * case.v_dim;
        let mut out = vec![f32::NAN; start * width];
        let args = AttentionArgs {
            q,
            kv: None,
            out: RowsOut { data: SharedSlice::new(&mut out), stride: width },
            out_layout: Layout::Rows,
            heads: case.heads,
            kv_heads: case.kv_heads,
            head_dim: case.k_dim,
            v_dim: case.v_dim,
            scale: self.scale,
            causal: false,
            window: None,
            softcap: None,
            q_norm: None,
            k_norm: None,
            rope: None,
            bias: ScoreBias::default(),
            spans: &spans,
            cache: Some(&view),
            precision: Precision::Auto,
        };
        let mut scratch = vec![0xFFu8; attention_scratch_bytes(&args, isa, threads)];
        let scratch = SharedSlice::new(&mut scratch);
        let work = [WorkCounter::default(), WorkCounter::default()];
        pool.run(&|ctx| attention(ctx, isa, &work, scratch, &args));

        let width = self.chosen.len() * case.capacity;
        let mut weights = vec![f32::NAN; self.rows.len() * width];
        let args = CrossWeightsArgs {
            q,
            rows: &self.rows,
            out: RowsOut { data: SharedSlice::new(&mut weights), stride: width },
            heads: case.heads,
            chosen: &self.chosen,
            scale: self.scale,
            spans: &spans,
            cache: &view,
        };
        let mut scratch = vec![0xFFu8; cross_weights_scratch_bytes(&args, threads)];
        let scratch = SharedSlice::new(&mut scratch);
        let work = [WorkCounter::default()];
        pool.run(&|ctx| cross_weights(ctx, isa, &work, scratch, &args));
        Found { out, weights }
    }
}

fn check(case: Case) {
    let fixture = Fixture::new(case);
    let [out, weights] = fixture.reference();
    for isa in levels() {
        for threads in 1..=3 {
            let found = fixture.run(isa, threads);
            // As in the tests of self-attention: f32 sums, and bf16 tiles where keys are not kept as f32.
            let limit = match (isa, fixture.case.dtype) {
                (_, KvDType::F32) => 1e-11,
                (Isa::Amx, _) => 5e-5,
                (Isa::Avx512, KvDType::F16) => 1e-6,
                (_, KvDType::F16) => 1e-9,
                (_, KvDType::Q8) => 2e-6,
            };
            let error = nmse(&[found.out], std::slice::from_ref(&out));
            assert!(error < limit, "{isa} {threads} threads {:?}: {error:e}", fixture.case);
            let limit = if fixture.case.dtype == KvDType::Q8 { 2e-6 } else { 1e-9 };
            let error = nmse(&[found.weights], std::slice::from_ref(&weights));
            assert!(error < limit, "weights: {isa} {threads} threads {:?}: {error:e}", fixture.case);
        }
    }
}

#[test]
fn tokens_attend_to_what_was_stored() {
    for dtype in [KvDType::F32, KvDType::F16, KvDType::Q8] {
        let case = Case {
            heads: 4,
            kv_heads: 4,
            k_dim: 32,
            v_dim: 32,
            dtype,
            capacity: 300,
            entries: vec![300, 1, 77],
            // One token, a beam of five, a prompt; two sequences about one entry that are not neighbours.
            sequences: vec![(1, 0), (5, 2), (40, 1), (9, 0), (1, 2)],
        };
        check(case.clone());
        check(Case { heads: 6, kv_heads: 2, k_dim: 20, v_dim: 36, ..case.clone() });
        check(Case { heads: 1, kv_heads: 1, k_dim: 10, sequences: vec![(3, 1)], ..case.clone() });
        // Long contexts are cut for the threads.
        check(Case { heads: 3, kv_heads: 3, capacity: 1500, entries: vec![1500], sequences: vec![(1, 0)], ..case });
    }
}
