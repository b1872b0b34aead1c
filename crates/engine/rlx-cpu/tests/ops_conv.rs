//! Convolutions of every kind, instruction set, thread count and element type against a plain sum in f64.

use std::ops::Range;

use half::{bf16, f16};
use rlx_cpu::conv::{self, ConvArgs, ConvKernel, Slides};
use rlx_cpu::math::{Activation, ActivationMath};
use rlx_cpu::{Isa, LinearError, Precision, RowsIn, RowsOut, SharedSlice, ThreadPool, WorkCounter};
use rlx_ir::{DType, Window};
use rlx_mem::PageArena;

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

/// Values as a file has them, and what they are after rounding to the type.
fn stored(dtype: DType, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let bytes: Vec<u8> = match dtype {
        DType::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        DType::F64 => values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|&v| v.to_le_bytes()).collect(),
    };
    let mut rounded = vec![0.0; values.len()];
    rlx_quant::dequantize(dtype, &bytes, &mut rounded).unwrap();
    (bytes, rounded)
}

/// A kind of convolution.
#[derive(Clone, Copy, Debug)]
struct Case {
    channels: usize,
    out: usize,
    groups: usize,
    window: Window,
    bias: bool,
    activation: Option<Activation>,
}

impl Case {
    fn inner(&self) -> usize {
        self.channels / self.groups
    }
}

fn cases() -> Vec<Case> {
    let plain = |channels, out, window| Case { channels, out, groups: 1, window, bias: true, activation: None };
    let same3 = Window::new(3).pad(1, 1);
    vec![
        plain(80, 48, same3),
        Case { activation: Some(Activation::GeluErf), ..plain(33, 50, same3.stride(2)) },
        Case { bias: false, ..plain(7, 5, Window { dilation: 3, ..Window::new(4).pad(9, 0) }) },
        plain(3, 1, Window::new(1)),
        plain(16, 32, Window::new(8).stride(5)),
        plain(1, 17, Window::new(2).pad(0, 1)),
        // Groups, with as many or more results as channels.
        Case { groups: 4, ..plain(24, 36, Window::new(5).pad(2, 2)) },
        Case { groups: 3, activation: Some(Activation::Silu), ..plain(3, 6, same3.stride(2)) },
        // Depthwise.
        Case { groups: 40, bias: false, ..plain(40, 40, Window::new(31).pad(30, 0)) },
        Case { groups: 71, activation: Some(Activation::Silu), ..plain(71, 71, same3) },
        Case { groups: 1, ..plain(1, 1, same3) },
        Case { groups: 24, ..plain(24, 24, Window { dilation: 2, ..Window::new(3).stride(3).pad(2, 1) }) },
    ]
}

/// Lengths of the sequences of a batch; among them some shorter than the windows, and none at all.
const BATCHES: &[&[usize]] = &[&[1], &[70], &[5, 0, 1, 33], &[2, 19, 40, 3], &[], &[0]];

/// Sequences with a row of no sequence between them, as ranges, and the number of rows.
fn rows_of(lens: &[usize]) -> (Vec<Range<usize>>, usize) {
    let mut next = 0;
    let ranges = lens.iter().map(|&len| {
        next += len + 1;
        next - len - 1..next - 1
    });
    let ranges: Vec<_> = ranges.collect();
    (ranges, next)
}

fn expected(
    case: &Case,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    slides: &[(Range<usize>, Range<usize>)],
    rows: usize,
) -> Vec<f64> {
    let Window { taps, stride, dilation, left, .. } = case.window;
    let (inner, per_group) = (case.inner(), case.out / case.groups);
    let mut want = vec![0.0; rows * case.out];
    for t in 0..rows {
        let run = slides.iter().find(|(_, output)| output.contains(&t));
        for o in 0..case.out {
            let mut sum = bias.map_or(0.0, |bias| f64::from(bias[o]));
            if let Some((input, output)) = run {
                for tap in 0..taps {
                    let at = ((t - output.start) * stride + tap * dilation) as isize - left as isize;
                    if at < 0 || at as usize >= input.len() {
                        continue;
                    }
                    for i in 0..inner {
                        let channel = o / per_group * inner + i;
                        let value = x[(input.start + at as usize) * case.channels + channel];
                        sum += f64::from(value) * f64::from(weight[(o * inner + i) * taps + tap]);
                    }
                }
            }
            want[t * case.out + o] = match case.activation {
                Some(activation) => f64::from(activation.apply(sum as f32)),
                None => sum,
            };
        }
    }
    want
}

#[test]
fn convolutions_equal_plain_sums() {
    const GUARD: f32 = 12345.0;
    let levels = levels();
    for (case_index, case) in cases().iter().enumerate() {
        let shape = [case.out, case.inner(), case.window.taps];
        let values = noise(shape.iter().product(), case_index as u64 + 1);
        let bias = case.bias.then(|| noise(case.out, 77));
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let (bytes, weight) = stored(dtype, &values);
            for threads in 1..=3 {
                let pool = ThreadPool::new(threads);
                for &isa in &levels {
                    let pack = ConvKernel::pack(&mut PageArena::new(), dtype, shape, case.groups, &bytes, isa, &pool);
                    let kernel = pack.unwrap();
                    for lens in BATCHES {
                        let (inputs, in_rows) = rows_of(lens);
                        let keeps = case.window.keeps_length();
                        let made: Vec<usize> = lens.iter().map(|&len| case.window.output_len(len)).collect();
                        let (outputs, rows) = if keeps { (inputs.clone(), in_rows) } else { rows_of(&made) };
                        let runs: Vec<_> = inputs.into_iter().zip(outputs).collect();
                        let x = noise(in_rows * case.channels, 5);
                        let mut data = vec![GUARD; rows * case.out + 16];
                        let args = ConvArgs {
                            rows,
                            x: RowsIn { data: &x, stride: case.channels },
                            kernel: &kernel,
                            bias: bias.as_deref(),
                            slides: Slides::new(case.window, runs.clone()),
                            activation: case.activation,
                            out: RowsOut { data: SharedSlice::new(&mut data), stride: case.out },
                            precision: Precision::F32,
                        };
                        let mut scratch = vec![0u8; conv::conv1d_scratch_bytes(&args, isa, threads)];
                        let scratch = SharedSlice::new(&mut scratch);
                        let work: Vec<WorkCounter> = (0..2).map(|_| WorkCounter::new(threads)).collect();
                        pool.run(&|ctx| conv::conv1d(ctx, isa, &work, scratch, &args));
                        let want = expected(case, &x, &weight, bias.as_deref(), &runs, rows);
                        for (i, &want) in want.iter().enumerate() {
                            // A sum of at most 240 products below 1: each adds at most half an ulp of the largest partial sum.
                            let error = (f64::from(data[i]) - want).abs();
                            assert!(error <= 2e-5, "{isa} {dtype} {case:?} {lens:?} [{i}]: {} not {want}", data[i]);
                        }
                        assert!(data[want.len()..].iter().all(|&x| x == GUARD), "wrote beyond the rows");
                    }
                }
            }
        }
    }
}

#[test]
fn kernels_of_other_sizes_are_refused() {
    let (pool, isa) = (ThreadPool::new(1), Isa::detect());
    let pack = |shape, groups, bytes: usize| {
        ConvKernel::pack(&mut PageArena::new(), DType::F32, shape, groups, &vec![0; bytes], isa, &pool).map(drop)
    };
    assert_eq!(pack([4, 2, 3], 2, 96), Ok(()));
    assert!(matches!(pack([4, 2, 3], 2, 95), Err(LinearError::Size { expected: 96, found: 95, .. })));
    assert!(matches!(pack([4, 2, 3], 3, 96), Err(LinearError::Empty { .. })));
    assert!(matches!(pack([4, 2, 3], 0, 96), Err(LinearError::Empty { .. })));
    assert!(matches!(pack([0, 2, 3], 1, 0), Err(LinearError::Empty { .. })));
    assert!(matches!(pack([4, usize::MAX, 3], 1, 0), Err(LinearError::TooLarge { .. })));
    assert!(matches!(pack([usize::MAX, 2, 3], 1, 0), Err(LinearError::TooLarge { .. })));
}
