//! Attention of every instruction set, thread count, KV type and shape against a plain f64 implementation with the whole
//! score matrix.

mod cross;

use rlx_cpu::attention::{
    AttentionArgs, DistanceBias, HeadNorm, KvDType, KvLayerView, KvLayout, ScoreBias, SeqSpan, attention,
    attention_scratch_bytes,
};
use rlx_cpu::math::RopeStyle;
use rlx_cpu::rows::{rms_norm_row, rope_row};
use rlx_cpu::{Isa, Layout, Precision, RowsIn, RowsOut, SharedSlice, ThreadPool, WorkCounter};

/// The levels this machine can run; the others are named as skipped.
fn levels() -> Vec<Isa> {
    for isa in [Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx] {
        if let Err(why) = isa.require() {
            println!("skipped: {why}");
        }
    }
    Isa::available()
}

/// Deterministic values in -1..1.
fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

#[derive(Clone, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    v_dim: usize,
    causal: bool,
    window: Option<usize>,
    softcap: Option<f32>,
    norm: bool,
    rope: Option<RopeStyle>,
    /// None attends within the batch.
    cache: Option<KvDType>,
    block_len: usize,
    /// For each sequence, the lengths of the chunks it arrives in.
    chunks: Vec<Vec<usize>>,
}

impl Case {
    fn new(heads: usize, kv_heads: usize, head_dim: usize, cache: Option<KvDType>, chunks: &[&[usize]]) -> Case {
        Case {
            heads,
            kv_heads,
            head_dim,
            v_dim: head_dim,
            causal: true,
            window: None,
            softcap: None,
            norm: false,
            rope: None,
            cache,
            block_len: 64,
            chunks: chunks.iter().map(|chunks| chunks.to_vec()).collect(),
        }
    }
}

/// One sequence's rows.
struct Sequence {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    table: Vec<f32>,
}

fn stored(dtype: Option<KvDType>, row: &[f32]) -> Vec<f64> {
    match dtype {
        None | Some(KvDType::F32) => row.iter().map(|&x| f64::from(x)).collect(),
        Some(KvDType::F16) => row.iter().map(|&x| half::f16::from_f32(x).to_f64()).collect(),
        Some(KvDType::Q8) => row
            .chunks(32)
            .flat_map(|group| {
                let largest = group.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
                group.iter().map(move |x| f64::from((x * inverse).round_ties_even()) * f64::from(largest / 127.0))
            })
            .collect(),
    }
}

struct Fixture {
    case: Case,
    pairs: usize,
    scale: f32,
    q_weight: Vec<f32>,
    k_weight: Vec<f32>,
    sequences: Vec<Sequence>,
}

impl Fixture {
    fn new(case: Case) -> Fixture {
        let pairs = (case.head_dim / 2 / 2).max(1);
        let sequences = case.chunks.iter().enumerate().map(|(i, chunks)| {
            let total: usize = chunks.iter().sum();
            let seed = 100 * (i as u64 + 1);
            let grown = |mut x: Vec<f32>, factor: f32| {
                x.iter_mut().for_each(|x| *x *= factor);
                x
            };
            let mut table = vec![0.0; total * 2 * pairs];
            for t in 0..total {
                for p in 0..pairs {
                    let angle = t as f64 * 1000f64.powf(-(p as f64) / pairs as f64);
                    table[t * 2 * pairs + p] = angle.cos() as f32;
                    table[t * 2 * pairs + pairs + p] = angle.sin() as f32;
                }
            }
            Sequence {
                q: grown(noise(total * case.heads * case.head_dim, seed), 3.0),
                k: grown(noise(total * case.kv_heads * case.head_dim, seed + 1), 2.0),
                v: noise(total * case.kv_heads * case.v_dim, seed + 2),
                table,
            }
        });
        let sequences = sequences.collect();
        let scale = 1.0 / (case.head_dim as f32).sqrt();
        let (q_weight, k_weight) = (noise(case.head_dim, 7), noise(case.head_dim, 8));
        Fixture { case, pairs, scale, q_weight, k_weight, sequences }
    }

    /// A head with its norm and RoPE, by the reference row kernels.
    fn head(&self, sequence: &Sequence, x: &[f32], weight: &[f32], t: usize) -> Vec<f32> {
        let mut head = x.to_vec();
        if self.case.norm {
            rms_norm_row(Isa::Scalar, x, Some(weight), 1e-6, &mut head);
        }
        if let Some(style) = self.case.rope {
            let (cos, sin) = sequence.table[t * 2 * self.pairs..][..2 * self.pairs].split_at(self.pairs);
            rope_row(Isa::Scalar, style, &mut head, cos, sin);
        }
        head
    }

    /// Outputs of every sequence. `dtype` is what keys and values are rounded to.
    fn reference(&self, dtype: Option<KvDType>) -> Vec<Vec<f64>> {
        let case = &self.case;
        let group = case.heads / case.kv_heads;
        let per_sequence = |(sequence, chunks): (&Sequence, &Vec<usize>)| {
            let total: usize = chunks.iter().sum();
            let mut out = vec![0.0; total * case.heads * case.v_dim];
            // Without a cache each chunk is a sequence of its own.
            let bounds: Vec<(usize, usize)> = if case.cache.is_some() {
                vec![(0, total)]
            } else {
                let mut start = 0;
                let bound = |&len: &usize| {
                    start += len;
                    (start - len, start)
                };
                chunks.iter().map(bound).collect()
            };
            let (q_width, k_width) = (case.heads * case.head_dim, case.kv_heads * case.head_dim);
            for head in 0..case.heads {
                let kv = head / group;
                let keys: Vec<Vec<f64>> = (0..total)
                    .map(|t| {
                        let key = &sequence.k[t * k_width + kv * case.head_dim..][..case.head_dim];
                        stored(dtype, &self.head(sequence, key, &self.k_weight, t))
                    })
                    .collect();
                let values: Vec<Vec<f64>> = (0..total)
                    .map(|t| stored(dtype, &sequence.v[(t * case.kv_heads + kv) * case.v_dim..][..case.v_dim]))
                    .collect();
                for &(first, end) in &bounds {
                    for i in first..end {
                        let q = &sequence.q[i * q_width + head * case.head_dim..][..case.head_dim];
                        let q = self.head(sequence, q, &self.q_weight, i);
                        let seen = |j: &usize| {
                            (!case.causal || *j <= i) && case.window.is_none_or(|window| i.abs_diff(*j) < window)
                        };
                        let scores: Vec<(usize, f64)> = (first..end)
                            .filter(seen)
                            .map(|j| {
                                let dot: f64 = q.iter().zip(&keys[j]).map(|(&q, k)| f64::from(q) * k).sum();
                                let score = dot * f64::from(self.scale);
                                (j, case.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh()))
                            })
                            .collect();
                        let max = scores.iter().fold(f64::MIN, |max, s| max.max(s.1));
                        let sum: f64 = scores.iter().map(|s| (s.1 - max).exp()).sum();
                        let out = &mut out[(i * case.heads + head) * case.v_dim..][..case.v_dim];
                        for (j, score) in scores {
                            let weight = (score - max).exp() / sum;
                            out.iter_mut().zip(&values[j]).for_each(|(out, v)| *out += weight * v);
                        }
                    }
                }
            }
            out
        };
        self.sequences.iter().zip(&case.chunks).map(per_sequence).collect()
    }

    /// Outputs of every sequence by the kernel, chunk after chunk.
    fn run(&self, isa: Isa, precision: Precision, threads: usize) -> Vec<Vec<f32>> {
        self.run_as(Layout::Rows, isa, precision, threads).expect("every kernel makes rows")
    }

    /// The same, by way of `layout`; none if the kernel does not make it of every chunk.
    fn run_as(&self, layout: Layout, isa: Isa, precision: Precision, threads: usize) -> Option<Vec<Vec<f32>>> {
        let case = &self.case;
        let pool = ThreadPool::new(threads);
        let block_len = case.block_len;
        let kv_layout = case.cache.map(|dtype| KvLayout {
            dtype,
            kv_heads: case.kv_heads,
            k_dim: case.head_dim,
            v_dim: case.v_dim,
            block_len,
        });
        // Blocks full of NaN, dealt out in an order of their own, with other layers' bytes around them.
        let counts: Vec<usize> = case.chunks.iter().map(|c| c.iter().sum::<usize>().div_ceil(block_len)).collect();
        let blocks: usize = counts.iter().sum();
        let bytes = kv_layout.map_or(0, |layout| layout.bytes_per_block());
        const OFFSET: usize = 64;
        let mut memory: Vec<Vec<u32>> = (0..blocks).map(|_| vec![u32::MAX; (OFFSET + bytes + 64) / 4]).collect();
        let pointers: Vec<*mut u8> = memory.iter_mut().map(|block| block.as_mut_ptr().cast()).collect();
        // SAFETY: each block has OFFSET + bytes_per_block bytes, is used by the kernel alone, and outlives the view.
        let view = kv_layout.map(|layout| unsafe { KvLayerView::new(layout, &pointers, OFFSET) });
        let mut next = 0..blocks as u32;
        let tables: Vec<Vec<u32>> =
            counts.iter().map(|&count| next.by_ref().take(count).map(|i| blocks as u32 - 1 - i).collect()).collect();

        let (q_width, k_width) = (case.heads * case.head_dim, case.kv_heads * case.head_dim);
        let (v_width, o_width) = (case.kv_heads * case.v_dim, case.heads * case.v_dim);
        let mut outputs: Vec<Vec<f32>> = vec![vec![]; self.sequences.len()];
        let steps = case.chunks.iter().map(Vec::len).max().unwrap_or(0);
        for step in 0..steps {
            let (mut q, mut k, mut v, mut table) = (vec![], vec![], vec![], vec![]);
            let mut spans = vec![];
            let mut rows = 0;
            for (i, chunks) in case.chunks.iter().enumerate() {
                let Some(&len) = chunks.get(step) else { continue };
                let past: usize = chunks[..step].iter().sum();
                let take = |x: &[f32], width: usize| x[past * width..(past + len) * width].to_vec();
                let sequence = &self.sequences[i];
                q.extend(take(&sequence.q, q_width));
                k.extend(take(&sequence.k, k_width));
                v.extend(take(&sequence.v, v_width));
                table.extend(take(&sequence.table, 2 * self.pairs));
                spans.push(SeqSpan { start: rows, len, past, blocks: &tables[i] });
                rows += len;
            }
            let stride = o_width + 3;
            let tiles = rows.next_multiple_of(16) * o_width.next_multiple_of(32) / 2;
            let mut out = vec![f32::NAN; if layout == Layout::Tiles { tiles } else { rows * stride }];
            let args = AttentionArgs {
                q: RowsIn { data: &q, stride: q_width },
                kv: Some([RowsIn { data: &k, stride: k_width }, RowsIn { data: &v, stride: v_width }]),
                out: RowsOut { data: SharedSlice::new(&mut out), stride },
                out_layout: layout,
                heads: case.heads,
                kv_heads: case.kv_heads,
                head_dim: case.head_dim,
                v_dim: case.v_dim,
                scale: self.scale,
                causal: case.causal,
                window: case.window,
                softcap: case.softcap,
                q_norm: case.norm.then_some(HeadNorm { weight: &self.q_weight, eps: 1e-6 }),
                k_norm: case.norm.then_some(HeadNorm { weight: &self.k_weight, eps: 1e-6 }),
                rope: case.rope.map(|style| (style, &table[..], self.pairs)),
                bias: ScoreBias::default(),
                spans: &spans,
                cache: view.as_ref(),
                precision,
            };
            if layout == Layout::Tiles && !args.makes_tiles(isa, threads) {
                return None;
            }
            let mut scratch = vec![0xFFu8; attention_scratch_bytes(&args, isa, threads)];
            let scratch = SharedSlice::new(&mut scratch);
            let work = [WorkCounter::default(), WorkCounter::default()];
            pool.run(&|ctx| attention(ctx, isa, &work, scratch, &args));
            if layout == Layout::Tiles {
                out = rows_of_tiles(&out, rows, o_width, stride);
            }
            let spans: Vec<(usize, usize)> = spans.iter().map(|span| (span.start, span.len)).collect();
            let mut at = 0;
            for (i, chunks) in case.chunks.iter().enumerate() {
                if step < chunks.len() {
                    let (start, len) = spans[at];
                    for row in start..start + len {
                        outputs[i].extend(&out[row * stride..][..o_width]);
                        assert!(out[row * stride + o_width..][..3].iter().all(|x| x.is_nan()), "wrote between rows");
                    }
                    at += 1;
                }
            }
        }
        for block in &memory {
            let edge = |words: &[u32]| words.iter().all(|&word| word == u32::MAX);
            assert!(edge(&block[..OFFSET / 4]) && edge(&block[(OFFSET + bytes) / 4..]), "wrote outside a block");
        }
        Some(outputs)
    }
}

/// Rows of `width`, `stride` apart with NaNs between them, of tiles `[rows / 16][width / 32][16][32]` in bf16.
fn rows_of_tiles(tiles: &[f32], rows: usize, width: usize, stride: usize) -> Vec<f32> {
    let bits = |index: usize| tiles[index / 2].to_bits() >> (index % 2 * 16) & 0xFFFF;
    let blocks = width.div_ceil(32);
    let value =
        |t: usize, c: usize| f32::from_bits(bits(((t / 16 * blocks + c / 32) * 16 + t % 16) * 32 + c % 32) << 16);
    let row = |t: usize| (0..stride).map(move |c| if c < width { value(t, c) } else { f32::NAN });
    (0..rows).flat_map(row).collect()
}

/// What a product of tiles reads is what it would have made of rows.
#[test]
fn tiles_are_rows_rounded() {
    let mut made = 0;
    for cache in CACHES {
        for (heads, kv_heads, head_dim, chunks) in [
            (4, 2, 64, &[&[40, 3][..], &[70, 1]][..]),
            (3, 3, 32, &[&[130]]),
            (6, 1, 96, &[&[33, 20], &[17]]),
            (2, 1, 40, &[&[64]]),
        ] {
            let fixture = Fixture::new(Case::new(heads, kv_heads, head_dim, cache, chunks));
            for (isa, precision) in levels().into_iter().flat_map(|isa| PRECISIONS.map(|precision| (isa, precision))) {
                for threads in 1..=3 {
                    let Some(got) = fixture.run_as(Layout::Tiles, isa, precision, threads) else { continue };
                    assert!(head_dim % 32 == 0, "a head of {head_dim} is no whole lines");
                    let mut want = fixture.run(isa, precision, threads);
                    want.iter_mut().flatten().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
                    assert!(got == want, "{isa} {precision:?} {threads} threads {:?}", fixture.case);
                    made += 1;
                }
            }
        }
    }
    assert!(made > 0);
}

/// Squared error over squared size.
fn nmse(got: &[Vec<f32>], want: &[Vec<f64>]) -> f64 {
    let (mut error, mut size) = (0.0, 1e-30);
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.len(), want.len());
        for (&got, &want) in got.iter().zip(want) {
            assert!(got.is_finite(), "not finite");
            error += (f64::from(got) - want).powi(2);
            size += want * want;
        }
    }
    error / size
}

/// Checks a case at every level and thread count: closely against the reference on rounded keys and values, loosely against
/// the one on exact ones.
fn check(case: Case) {
    let fixture = Fixture::new(case);
    let rounded = fixture.reference(fixture.case.cache);
    let exact = fixture.reference(None);
    for (isa, precision) in levels().into_iter().flat_map(|isa| PRECISIONS.map(|precision| (isa, precision))) {
        for threads in 1..=3 {
            let got = fixture.run(isa, precision, threads);
            // f32 sums over a context of hundreds: 1e-6 relative, squared. A key within an ulp of a rounding boundary may
            // round the other way: half an ulp of f16 (2^-11) or of a 127th in one element of hundreds.
            let limit = match (isa, precision, fixture.case.cache) {
                (_, _, Some(KvDType::F32)) => 1e-11,
                // bf16 queries, keys, weights and values: 2^-9 each at most.
                (Isa::Amx, Precision::Bf16, _) => 5e-5,
                (Isa::Amx, Precision::Auto, Some(_)) => 5e-5,
                // Integers: values of 12 bits lose 0.29 / 2047 of the largest of 64, for a square of 2e-7 where that is
                // three times what is usual; weights of 14 bits as much again where many are small.
                (Isa::Avx512, Precision::Auto | Precision::Bf16, None | Some(KvDType::F16))
                | (Isa::Amx, Precision::Auto, None) => 1e-6,
                (_, _, None) => 1e-11,
                (_, _, Some(KvDType::F16)) => 1e-9,
                (_, _, Some(KvDType::Q8)) => 2e-6,
            };
            let error = nmse(&got, &rounded);
            assert!(error < limit, "{isa} {precision:?} {threads} threads {:?}: {error:e}", fixture.case);
            let limit = match fixture.case.cache {
                None => limit,
                Some(KvDType::F32) => 1e-11,
                Some(KvDType::F16) => 5e-5,
                Some(KvDType::Q8) => 1e-3,
            };
            let error = nmse(&got, &exact);
            assert!(error < limit, "{isa} {precision:?} {threads} threads {:?}: {error:e} from exact", fixture.case);
        }
    }
}

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Auto, Precision::Bf16];

const CACHES: [Option<KvDType>; 4] = [None, Some(KvDType::F32), Some(KvDType::F16), Some(KvDType::Q8)];

#[test]
fn groups_and_widths() {
    for cache in CACHES {
        for (heads, kv_heads, head_dim) in [
            (1, 1, 16),
            (2, 1, 64),
            (6, 2, 20),
            (4, 4, 72),
            (5, 1, 32),
            (14, 2, 64),
            (8, 1, 48),
            (9, 3, 64),
            (16, 8, 128),
        ] {
            check(Case::new(heads, kv_heads, head_dim, cache, &[&[37, 1]]));
        }
    }
}

#[test]
fn values_of_another_width() {
    for cache in CACHES {
        for (head_dim, v_dim) in [(192, 128), (24, 40), (16, 100), (576, 512)] {
            let case = Case::new(4, 1, head_dim, cache, &[&[19, 1, 2]]);
            check(Case { v_dim, ..case });
        }
    }
}

#[test]
fn lengths_around_tiles_and_blocks() {
    for cache in [Some(KvDType::F32), Some(KvDType::F16), Some(KvDType::Q8)] {
        for len in [1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 130, 200] {
            check(Case::new(3, 1, 32, cache, &[&[len, 1, 3]]));
        }
        for block_len in [1, 7, 16, 32, 100] {
            let case = Case::new(2, 2, 40, cache, &[&[75, 1, 20, 1]]);
            check(Case { block_len, ..case });
        }
    }
}

#[test]
fn windows_and_caps() {
    for cache in CACHES {
        for window in [1, 5, 64, 100, 1000] {
            for causal in [true, false] {
                // A cache of earlier tokens only makes sense for causal attention.
                if !causal && cache.is_some() {
                    continue;
                }
                let case = Case::new(4, 2, 32, cache, &[&[150, 1, 9], &[3, 70]]);
                check(Case { window: Some(window), causal, ..case });
            }
        }
        let case = Case::new(4, 2, 32, cache, &[&[90, 1, 1]]);
        check(Case { softcap: Some(2.0), ..case.clone() });
        check(Case { softcap: Some(20.0), window: Some(33), norm: true, ..case });
    }
}

#[test]
fn both_directions_without_a_cache() {
    for lens in [&[&[1usize][..]][..], &[&[130]], &[&[5], &[64], &[1], &[33]], &[&[40], &[0], &[2]]] {
        let case = Case::new(4, 4, 32, None, lens);
        check(Case { causal: false, ..case.clone() });
        check(Case { causal: false, rope: Some(RopeStyle::HalfSplit), norm: true, ..case });
    }
}

#[test]
fn norm_and_rope_are_folded_in() {
    for cache in CACHES {
        for rope in [None, Some(RopeStyle::HalfSplit), Some(RopeStyle::Interleaved)] {
            for norm in [false, true] {
                let case = Case::new(6, 2, 40, cache, &[&[30, 1, 1, 12], &[7, 2]]);
                check(Case { rope, norm, ..case });
            }
        }
    }
}

#[test]
fn many_sequences_in_one_batch() {
    for cache in [Some(KvDType::F32), Some(KvDType::F16)] {
        let chunks: &[&[usize]] = &[&[1, 1, 1], &[100, 1, 1], &[3, 70, 1], &[17], &[64, 64], &[129, 1, 5], &[0, 2]];
        check(Case::new(4, 2, 32, cache, chunks));
        let chunks: Vec<Vec<usize>> = (0..40).map(|i| vec![i % 7 + 1, 1]).collect();
        let chunks: Vec<&[usize]> = chunks.iter().map(Vec::as_slice).collect();
        check(Case::new(3, 3, 16, cache, &chunks));
    }
}

#[test]
fn long_contexts_are_cut_for_the_threads() {
    for cache in [Some(KvDType::F32), Some(KvDType::F16), Some(KvDType::Q8)] {
        for (heads, kv_heads) in [(1, 1), (3, 3), (12, 1), (5, 5)] {
            check(Case::new(heads, kv_heads, 32, cache, &[&[700, 1, 9, 1]]));
        }
        let case = Case::new(6, 3, 32, cache, &[&[600, 1], &[30, 1]]);
        check(Case { window: Some(400), ..case });
    }
}

#[test]
fn steps_equal_one_prefill() {
    for isa in levels() {
        for threads in 1..=2 {
            let whole =
                Fixture::new(Case::new(4, 2, 32, Some(KvDType::F16), &[&[90]])).run(isa, Precision::Auto, threads);
            for chunks in [vec![1; 90], vec![17, 1, 1, 30, 40, 1], vec![64, 26], vec![89, 1]] {
                let steps = Fixture::new(Case::new(4, 2, 32, Some(KvDType::F16), &[&chunks]));
                let steps = steps.run(isa, Precision::Auto, threads);
                let whole: Vec<Vec<f64>> = vec![whole[0].iter().map(|&x| f64::from(x)).collect()];
                let error = nmse(&steps, &whole);
                // Prefill rounds to bf16 on AMX and to integers by AVX-512, decoding does not.
                let limit = match isa {
                    Isa::Amx => 5e-5,
                    Isa::Avx512 => 1e-6,
                    _ => 1e-11,
                };
                assert!(error < limit, "{isa} {threads} threads {chunks:?}: {error:e}");
            }
        }
    }
}

#[test]
fn large_scores_neither_overflow_nor_vanish() {
    let mut fixture = Fixture::new(Case::new(2, 1, 16, Some(KvDType::F32), &[&[70, 1]]));
    fixture.scale = 300.0;
    let want = fixture.reference(None);
    for isa in levels() {
        // Scores of thousands lose digits to rounding before the exponential.
        let error = nmse(&fixture.run(isa, Precision::Bf16, 2), &want);
        assert!(error < 1e-5, "{isa}: {error:e}");
    }
}

/// What is added to the scores of [`biased_attention_adds_to_scores`].
#[derive(Clone, Copy, Debug)]
struct BiasCase {
    /// Distances to the left and right that are told apart.
    distances: Option<(usize, usize)>,
    /// Columns and query biases for each head.
    by_head: bool,
    /// Whether some keys are hidden and others weighed.
    keys: bool,
    causal: bool,
}

#[test]
fn biased_attention_adds_to_scores() {
    let (heads, levels) = (3, levels());
    let bias = |distances, by_head, keys, causal| BiasCase { distances, by_head, keys, causal };
    let cases = [
        bias(Some((64, 8)), false, false, false),
        bias(Some((3, 2)), false, true, false),
        bias(Some((0, 0)), false, false, false),
        bias(Some((5, 0)), false, false, true),
        bias(Some((199, 199)), true, false, false),
        bias(Some((20, 20)), true, true, false),
        bias(None, false, true, false),
    ];
    for (case, head_dim) in cases.iter().flat_map(|case| [10, 64].map(|head_dim| (case, head_dim))) {
        for lens in [&[1][..], &[23, 0, 5], &[200, 64, 17]] {
            let (width, total) = (heads * head_dim, lens.iter().sum::<usize>());
            let (q, k, v) = (noise(total * width, 1), noise(total * width, 2), noise(total * width, 3));
            let q: Vec<f32> = q.iter().map(|x| 3.0 * x).collect();
            let (content, position) = (noise(width, 4), noise(width, 5));
            // Every seventh key is hidden, but never a whole sequence.
            let keys: Vec<f32> = noise(total, 6)
                .iter()
                .enumerate()
                .map(|(i, &x)| if i % 7 == 6 { f32::NEG_INFINITY } else { 2.0 * x })
                .collect();
            let scale = 1.0 / (head_dim as f32).sqrt();
            let rows = case.distances.map_or(1, |(left, right)| left + right + 1);
            let stride = if case.by_head { width } else { head_dim };
            let table = noise(rows * stride, 7);
            let distance = case.distances.map(|(left, _)| DistanceBias {
                table: RowsIn { data: &table, stride },
                rows,
                zero: left,
                by_head: case.by_head,
                content: case.by_head.then_some(&content[..]),
                position: case.by_head.then_some(&position[..]),
            });
            let mut spans = Vec::new();
            for &len in lens {
                let start = spans.last().map_or(0, |span: &SeqSpan<'_>| span.start + span.len);
                spans.push(SeqSpan { start, len, past: 0, blocks: &[] });
            }

            let score = |head: usize, i: usize, j: usize, start: usize| {
                let mut sum = 0.0;
                for d in 0..head_dim {
                    let at = head * head_dim + d;
                    let query = f64::from(q[(start + i) * width + at]);
                    let (u, w) = if case.by_head { (content[at], position[at]) } else { (0.0, 0.0) };
                    sum += (query + f64::from(u)) * f64::from(k[(start + j) * width + at]);
                    if let Some((left, right)) = case.distances {
                        let clamped = (j as i64 - i as i64).clamp(-(left as i64), right as i64) + left as i64;
                        let column = if case.by_head { at } else { d };
                        sum += (query + f64::from(w)) * f64::from(table[clamped as usize * stride + column]);
                    }
                }
                sum * f64::from(scale) + if case.keys { f64::from(keys[start + j]) } else { 0.0 }
            };
            let mut want = vec![0.0; total * width];
            for span in &spans {
                for (head, i) in (0..heads).flat_map(|head| (0..span.len).map(move |i| (head, i))) {
                    let seen = if case.causal { i + 1 } else { span.len };
                    let scores: Vec<f64> = (0..seen).map(|j| score(head, i, j, span.start)).collect();
                    let max = scores.iter().copied().fold(f64::MIN, f64::max);
                    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                    for (j, s) in scores.iter().enumerate() {
                        for d in head * head_dim..(head + 1) * head_dim {
                            let value = f64::from(v[(span.start + j) * width + d]);
                            want[(span.start + i) * width + d] += (s - max).exp() / sum * value;
                        }
                    }
                }
            }

            for (threads, &isa) in (1..=3).flat_map(|threads| levels.iter().map(move |isa| (threads, isa))) {
                // A bias is added in f32 whatever is allowed.
                let precision = PRECISIONS[threads - 1];
                let pool = ThreadPool::new(threads);
                let mut data = vec![0.0; total * width];
                let args = AttentionArgs {
                    q: RowsIn { data: &q, stride: width },
                    kv: Some([RowsIn { data: &k, stride: width }, RowsIn { data: &v, stride: width }]),
                    out: RowsOut { data: SharedSlice::new(&mut data), stride: width },
                    out_layout: Layout::Rows,
                    heads,
                    kv_heads: heads,
                    head_dim,
                    v_dim: head_dim,
                    scale,
                    causal: case.causal,
                    window: None,
                    softcap: None,
                    q_norm: None,
                    k_norm: None,
                    rope: None,
                    bias: ScoreBias { distance, key: case.keys.then_some(&keys[..]) },
                    spans: &spans,
                    cache: None,
                    precision,
                };
                let mut scratch = vec![0u8; attention_scratch_bytes(&args, isa, threads)];
                let scratch = SharedSlice::new(&mut scratch);
                let work = [WorkCounter::default()];
                pool.run(&|ctx| attention(ctx, isa, &work, scratch, &args));
                for (i, (&got, &want)) in data.iter().zip(&want).enumerate() {
                    // Scores reach 60; half an ulp of that in the exponent is 2e-6, over values below 1.
                    let error = (f64::from(got) - want).abs();
                    assert!(error <= 2e-5, "{isa} {threads} {case:?} {head_dim} {lens:?} [{i}]: {got} not {want}");
                }
            }
        }
    }
}
