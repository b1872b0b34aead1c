//! Row kernels of every instruction set, thread count and ragged shape against plain f64.

use rlx_cpu::math::{Activation, ActivationMath, BinaryOp, RopeStyle, UnaryOp};
use rlx_cpu::rows::{self, Operand};
use rlx_cpu::{Isa, RowsIn, RowsOut, SharedSlice, ThreadPool};

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

/// Each level, thread count and shape `(rows, width, stride)`.
fn cases(mut f: impl FnMut(Isa, &ThreadPool, usize, usize, usize)) {
    for threads in 1..=3 {
        let pool = ThreadPool::new(threads);
        for isa in levels() {
            for (rows, width, stride) in
                [(1, 1, 1), (3, 20, 24), (5, 72, 72), (2, 576, 580), (1, 3000, 3000), (7, 64, 64), (0, 16, 16)]
            {
                f(isa, &pool, rows, width, stride);
            }
        }
    }
}

const GUARD: f32 = 12345.0;

/// Runs `kernel` into a guarded buffer, checks the guards, and gives the rows without their padding.
fn run(
    pool: &ThreadPool,
    rows: usize,
    width: usize,
    stride: usize,
    kernel: impl Fn(&rlx_cpu::ThreadCtx<'_>, RowsOut<'_>) + Sync,
) -> Vec<f32> {
    let mut data = vec![GUARD; rows * stride + 16];
    let out = RowsOut { data: SharedSlice::new(&mut data), stride };
    pool.run(&|ctx| kernel(ctx, out));
    for (i, &x) in data.iter().enumerate() {
        if i / stride >= rows || i % stride >= width {
            assert_eq!(x, GUARD, "wrote beyond the rows at {i}");
        }
    }
    (0..rows).flat_map(|t| data[t * stride..][..width].to_vec()).collect()
}

fn close(got: &[f32], want: impl Iterator<Item = f64>, tolerance: f64, what: &str) {
    let want: Vec<f64> = want.collect();
    assert_eq!(got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(&want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= tolerance * (1.0 + want.abs()), "{what} [{i}]: {got} not {want}");
    }
}

#[test]
fn norms() {
    cases(|isa, pool, rows, width, stride| {
        let data: Vec<f32> = noise(rows * stride + 16, 1).iter().map(|x| x * 3.0 + 0.5).collect();
        let x = RowsIn { data: &data, stride };
        let (weight, bias) = (noise(width, 2), noise(width, 3));
        for group in [width, if width % 4 == 0 { width / 4 } else { 1 }] {
            let (w, b) = (&weight[..group], &bias[..group]);
            let runs = || (0..rows).flat_map(|t| data[t * stride..][..width].chunks_exact(group));
            let got = run(pool, rows, width, stride, |ctx, out| {
                rows::rms_norm_groups(ctx, isa, x, Some(w), 1e-5, out, rows, width, group);
            });
            let want = runs().flat_map(|run| {
                let square = run.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / group as f64;
                let scale = 1.0 / (square + 1e-5).sqrt();
                run.iter().zip(w).map(move |(&x, &w)| f64::from(x) * scale * f64::from(w))
            });
            close(&got, want, 1e-6, &format!("{isa} rms_norm {rows}x{width}/{group}"));
            let got = run(pool, rows, width, stride, |ctx, out| {
                rows::layer_norm_groups(ctx, isa, x, Some(w), Some(b), 1e-5, out, rows, width, group);
            });
            let want = runs().flat_map(|run| {
                let mean = run.iter().map(|&x| f64::from(x)).sum::<f64>() / group as f64;
                let var = run.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / group as f64;
                let scale = 1.0 / (var + 1e-5).sqrt();
                let term = move |(&x, (&w, &b)): (&f32, (&f32, &f32))| {
                    (f64::from(x) - mean) * scale * f64::from(w) + f64::from(b)
                };
                run.iter().zip(w.iter().zip(b)).map(term)
            });
            // Sums over a group of one cancel to the bias; longer ones keep six digits.
            close(&got, want, 3e-6, &format!("{isa} layer_norm {rows}x{width}/{group}"));
        }
        let got = run(pool, rows, width, stride, |ctx, out| rows::rms_norm(ctx, isa, x, None, 0.0, out, rows, width));
        for t in 0..rows {
            let square: f64 =
                got[t * width..][..width].iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / width as f64;
            assert!((square - 1.0).abs() < 1e-5, "{isa} {square}");
        }
    });
}

#[test]
fn layer_norm_keeps_its_digits_on_a_large_mean() {
    let x: Vec<f32> = noise(768, 5).iter().map(|x| x + 1000.0).collect();
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / 768.0;
    let var = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 768.0;
    for isa in levels() {
        let mut out = vec![0.0; 768];
        rows::layer_norm_row(isa, &x, None, None, 1e-5, &mut out);
        close(&out, x.iter().map(|&x| (f64::from(x) - mean) / (var + 1e-5).sqrt()), 3e-4, "large mean");
    }
}

#[test]
fn softmax() {
    cases(|isa, pool, rows, width, stride| {
        let data: Vec<f32> = noise(rows * stride + 16, 4).iter().map(|x| x * 20.0 - 100.0).collect();
        let x = RowsIn { data: &data, stride };
        let got = run(pool, rows, width, stride, |ctx, out| rows::softmax_rows(ctx, isa, x, out, rows, width));
        let want = (0..rows).flat_map(|t| {
            let row = &data[t * stride..][..width];
            let max = row.iter().fold(f64::MIN, |m, &x| m.max(f64::from(x)));
            let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
            row.iter().map(move |&x| (f64::from(x) - max).exp() / sum)
        });
        close(&got, want, 1e-6, &format!("{isa} softmax {rows}x{width}"));
    });
    let pool = ThreadPool::new(1);
    let data = [f32::NEG_INFINITY; 20];
    let x = RowsIn { data: &data, stride: 20 };
    for isa in levels() {
        let got = run(&pool, 1, 20, 20, |ctx, out| rows::softmax_rows(ctx, isa, x, out, 1, 20));
        assert_eq!(got, [0.0; 20]);
    }
}

#[test]
fn elementwise() {
    cases(|isa, pool, rows, width, stride| {
        let (a, b, row) = (noise(rows * stride + 16, 6), noise(rows * width + 16, 7), noise(width, 8));
        let (x, y) = (RowsIn { data: &a, stride }, RowsIn { data: &b, stride: width });
        let at = |t: usize, i: usize| f64::from(a[t * stride + i]);
        let every = || (0..rows).flat_map(|t| (0..width).map(move |i| (t, i)));
        let what = format!("{isa} {rows}x{width}");
        for op in [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul] {
            let apply = |a: f64, b: f64| match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
            };
            for operand in [Operand::Rows(y), Operand::Row(&row), Operand::Scalar(0.75)] {
                let got =
                    run(pool, rows, width, stride, |ctx, out| rows::binary(ctx, isa, op, x, operand, out, rows, width));
                let want = every().map(|(t, i)| {
                    let b = match operand {
                        Operand::Rows(y) => y.data[t * width + i],
                        Operand::Row(row) => row[i],
                        Operand::Scalar(b) => b,
                    };
                    apply(at(t, i), f64::from(b))
                });
                close(&got, want, 1e-7, &what);
            }
        }
        let got = run(pool, rows, width, stride, |ctx, out| {
            rows::gated(ctx, isa, Activation::Silu, x, y, out, rows, width);
        });
        let silu = |x: f64| f64::from(Activation::Silu.apply(x as f32));
        close(&got, every().map(|(t, i)| silu(at(t, i)) * f64::from(b[t * width + i])), 1e-6, &what);
        let got =
            run(pool, rows, width, stride, |ctx, out| rows::unary(ctx, isa, UnaryOp::Scale(3.0), x, out, rows, width));
        close(&got, every().map(|(t, i)| at(t, i) * 3.0), 1e-6, &what);
    });
}

#[test]
fn gather_takes_rows_and_refuses_strangers() {
    let data = noise(10 * 24, 9);
    let x = RowsIn { data: &data, stride: 24 };
    for threads in 1..=3 {
        let pool = ThreadPool::new(threads);
        let got = run(&pool, 4, 20, 21, |ctx, out| rows::gather_rows(ctx, x, 10, &[9, 0, 3, 3], out, 20).unwrap());
        let want: Vec<f32> = [9, 0, 3, 3].iter().flat_map(|r| data[r * 24..][..20].to_vec()).collect();
        assert_eq!(got, want);
        for bad in [10, -1, i32::MIN] {
            run(&pool, 2, 20, 20, |ctx, out| {
                let error = rows::gather_rows(ctx, x, 10, &[1, bad], out, 20).unwrap_err();
                assert_eq!((error.place, error.index, error.rows), (1, bad, 10));
            });
        }
    }
}

#[test]
fn rope_turns_pairs() {
    for (pairs, head_dim, heads) in [(1, 2, 1), (10, 20, 3), (32, 64, 2), (18, 72, 1), (64, 128, 4)] {
        let positions = [0, 1, 17, 8191, 131_071];
        let inv_freq: Vec<f32> = (0..pairs).map(|i| 10000f32.powf(-(i as f32) / pairs as f32)).collect();
        let width = heads * head_dim;
        let data = noise(positions.len() * width, 10);
        let x = RowsIn { data: &data, stride: width };
        for threads in 1..=3 {
            let pool = ThreadPool::new(threads);
            let mut table = vec![0.0; positions.len() * 2 * pairs];
            let shared = SharedSlice::new(&mut table);
            pool.run(&|ctx| rows::rope_table(ctx, &positions, &inv_freq, 1.5, shared));
            for isa in levels() {
                for style in [RopeStyle::HalfSplit, RopeStyle::Interleaved] {
                    let got = run(&pool, positions.len(), width, width, |ctx, out| {
                        rows::rope(ctx, isa, style, x, &table, pairs, out, positions.len(), heads, head_dim);
                    });
                    let mut want: Vec<f64> = data.iter().map(|&x| f64::from(x)).collect();
                    for (t, &position) in positions.iter().enumerate() {
                        for head in want[t * width..][..width].chunks_exact_mut(head_dim) {
                            for i in 0..pairs {
                                let angle = f64::from(position as f32 * inv_freq[i]);
                                let (s, c) = angle.sin_cos();
                                let (a, b) = match style {
                                    RopeStyle::HalfSplit => (i, i + pairs),
                                    RopeStyle::Interleaved => (2 * i, 2 * i + 1),
                                };
                                let (x, y) = (head[a], head[b]);
                                head[a] = (x * c - y * s) * 1.5;
                                head[b] = (y * c + x * s) * 1.5;
                            }
                        }
                    }
                    close(&got, want.into_iter(), 1e-6, &format!("{isa} {style:?} {pairs} of {head_dim}"));
                }
            }
        }
    }
}

#[test]
fn products_of_rows() {
    for isa in levels() {
        for width in [1usize, 3, 7, 8, 15, 16, 31, 33, 64, 384, 1001] {
            for (rows, count) in [(0usize, 2usize), (3, 0), (1, 1), (5, 3), (4, 4), (3, 9)] {
                let (a, b) = (noise(rows * width, 1), noise(count * width, 2));
                let mut out = vec![GUARD; rows * count];
                rows::row_products(isa, &a, &b, width, &mut out);
                let mut squares = vec![GUARD; rows];
                rows::row_squares(isa, &a, width, &mut squares);
                let exact =
                    |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
                // At most `width` roundings of sums below `width`.
                let near = |x: f32, exact: f64| (f64::from(x) - exact).abs() <= 6e-8 * (width * width) as f64;
                for (r, row) in a.chunks(width).enumerate() {
                    assert!(near(squares[r], exact(row, row)), "{isa} {width}");
                    for (n, vector) in b.chunks(width).enumerate() {
                        let product = out[r * count + n];
                        assert!(near(product, exact(row, vector)), "{isa} {width}: {product}");
                        let mut alone = [GUARD];
                        rows::row_products(isa, row, vector, width, &mut alone);
                        assert_eq!(alone[0].to_bits(), product.to_bits(), "{isa} {width}: alone and together");
                    }
                }
            }
        }
    }
}
