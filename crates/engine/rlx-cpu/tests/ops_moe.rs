//! Mixtures of experts, columns and products with a parameter, against plain loops.

use rlx_cpu::moe::{ExpertArgs, MoeArgs, RouterArgs, moe, moe_scratch_bytes, route_row};
use rlx_cpu::{Isa, PackedMatrix, Precision, RowsIn, RowsOut, SharedSlice, ThreadPool, WorkCounter, rows};
use rlx_ir::{Activation, DType, RouterScore};

fn normals(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (uniform() + uniform() + uniform()) * 2.0).collect()
}

#[derive(Clone, Copy, Debug)]
struct Case {
    rows: usize,
    width: usize,
    inner: usize,
    experts: usize,
    top_k: usize,
    gated: bool,
    score: RouterScore,
}

/// Packed values of a matrix, and what they stand for.
fn matrix(dtype: DType, rows: usize, cols: usize, seed: u64) -> (Vec<u8>, Vec<f32>) {
    let floats: Vec<f32> = normals(seed, rows * cols).into_iter().map(|x| x * 0.3).collect();
    let mut bytes = vec![0; dtype.bytes_for(rows * cols).unwrap()];
    match dtype {
        DType::F32 => bytes.chunks_exact_mut(4).zip(&floats).for_each(|(b, x)| b.copy_from_slice(&x.to_le_bytes())),
        _ => rlx_quant::quantize(dtype, &floats, &mut bytes).unwrap(),
    }
    let mut values = vec![0.0; rows * cols];
    rlx_quant::dequantize(dtype, &bytes, &mut values).unwrap();
    (bytes, values)
}

fn multiply(weights: &[f32], x: &[f64]) -> Vec<f64> {
    let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
    weights.chunks_exact(x.len()).map(dot).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn check(case: Case, dtype: DType, precision: Precision, isa: Isa, threads: usize) {
    let Case { rows, width, inner, experts, top_k, gated, score } = case;
    let pool = ThreadPool::new(threads);
    let shapes = [(inner, width), (inner, width), (width, inner)];
    let mut packed = Vec::new();
    let mut values = Vec::new();
    for expert in 0..experts {
        for (i, (m, n)) in shapes.into_iter().enumerate() {
            let (bytes, floats) = matrix(dtype, m, n, (3 * expert + i + 1) as u64);
            packed.push(PackedMatrix::pack(dtype, m, n, &bytes, isa, &pool).unwrap());
            values.push(floats);
        }
    }
    let (x, logits) = (normals(101, rows * width), normals(202, rows * experts));
    let (bias, expert_scale) = (normals(303, experts), normals(404, experts));
    let router = RouterArgs {
        top_k,
        score,
        choice_bias: (score == RouterScore::Sigmoid).then_some(&bias),
        normalise: experts.is_multiple_of(2),
        scale: 1.5,
        expert_scale: gated.then_some(&expert_scale),
    };
    // Stale numbers in memory must not matter.
    let mut out = vec![f32::NAN; rows * width];
    let work = [WorkCounter::new(threads), WorkCounter::new(threads)];
    let mut args = MoeArgs {
        rows,
        x: RowsIn { data: &x, stride: width },
        logits: RowsIn { data: &logits, stride: experts },
        out: RowsOut { data: SharedSlice::new(&mut out), stride: width },
        experts: packed
            .chunks_exact(3)
            .map(|m| ExpertArgs { gate: gated.then_some(&m[0]), up: &m[1], down: &m[2] })
            .collect(),
        router,
        activation: Activation::Silu,
        precision,
    };
    let mut scratch = vec![0xFFu8; moe_scratch_bytes(&args, isa, threads)];
    let shared = SharedSlice::new(&mut scratch);
    pool.run(&|ctx| moe(ctx, isa, &work, shared, &args));
    args.rows = 0;
    drop(args);

    let (mut error, mut power) = (0.0, 0.0);
    for t in 0..rows {
        let row: Vec<f64> = x[t * width..(t + 1) * width].iter().map(|&x| x.into()).collect();
        let (mut chosen, mut weights) = (vec![0; top_k], vec![0.0; top_k]);
        let mut scores = vec![0.0; 2 * experts];
        route_row(&router, &logits[t * experts..(t + 1) * experts], &mut scores, &mut chosen, &mut weights);
        let mut expected = vec![0.0; width];
        for (&expert, &weight) in chosen.iter().zip(&weights) {
            let m = &values[3 * expert as usize..][..3];
            let up = multiply(&m[1], &row);
            let hidden: Vec<f64> = if gated {
                multiply(&m[0], &row).iter().zip(&up).map(|(gate, up)| silu(*gate) * up).collect()
            } else {
                up.iter().map(|&up| silu(up)).collect()
            };
            let down = multiply(&m[2], &hidden);
            expected.iter_mut().zip(&down).for_each(|(sum, y)| *sum += f64::from(weight) * y);
        }
        for (found, expected) in out[t * width..].iter().zip(&expected) {
            error += (f64::from(*found) - expected).powi(2);
            power += expected.powi(2);
        }
    }
    let limit = match (dtype, precision) {
        (DType::F32, _) | (_, Precision::F32) => 1e-10,
        // Roundings to bf16 have an energy of 2^-16 / 6 for even mantissas: 5e-6 for a product of two rounded numbers. Gate (1.35
        // times through SiLU, at these sizes), up and down are three products: 1.7e-5. The rest is luck of small cases.
        _ if isa == Isa::Amx => 4e-5,
        // Activations of 15 bits.
        _ => 1e-7,
    };
    let nmse = error / power;
    assert!(nmse <= limit, "{case:?} {dtype} {precision:?} {isa} {threads} threads: NMSE {nmse:e}");
}

#[test]
fn experts_are_those_of_plain_loops() {
    let base = Case { rows: 1, width: 64, inner: 32, experts: 6, top_k: 2, gated: true, score: RouterScore::Softmax };
    let cases = [
        base,
        Case { rows: 7, ..base },
        Case { rows: 70, top_k: 3, ..base },
        Case { rows: 40, experts: 1, top_k: 1, ..base },
        Case { rows: 5, experts: 9, top_k: 9, gated: false, ..base },
        Case { rows: 33, experts: 64, top_k: 4, score: RouterScore::Sigmoid, gated: false, ..base },
        Case { rows: 3, width: 96, inner: 160, experts: 5, score: RouterScore::Sigmoid, ..base },
    ];
    for isa in Isa::available() {
        for case in cases {
            for threads in [1, 2, 3] {
                check(case, DType::F32, Precision::Auto, isa, threads);
                check(case, DType::Q8_0, Precision::F32, isa, threads);
                check(case, DType::Q8_0, Precision::Auto, isa, threads);
            }
        }
        // Widths that are no multiples of anything.
        check(Case { rows: 19, width: 37, inner: 23, ..base }, DType::F32, Precision::Auto, isa, 2);
    }
}

#[test]
fn columns_are_copied() {
    let x: Vec<f32> = (0..3 * 7).map(|i| i as f32).collect();
    for threads in [1, 2, 5] {
        let pool = ThreadPool::new(threads);
        let mut out = vec![0.0; 3 * 2];
        let target = RowsOut { data: SharedSlice::new(&mut out), stride: 2 };
        pool.run(&|ctx| rows::columns(ctx, RowsIn { data: &x, stride: 7 }, 4, target, 3, 2));
        assert_eq!(out, [4.0, 5.0, 11.0, 12.0, 18.0, 19.0]);
    }
}
