//! Elementwise mathematics of every instruction set against f64.

use rlx_cpu::Isa;
use rlx_cpu::math::{Activation, ActivationMath, UnaryMath, UnaryOp, log_sum_exp};

const ALL: [Activation; 8] = [
    Activation::Silu,
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Relu2,
    Activation::Sigmoid,
    Activation::Tanh,
];

/// The levels this machine can run; the others are named as skipped.
fn levels() -> Vec<Isa> {
    for isa in [Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx] {
        if let Err(why) = isa.require() {
            println!("skipped: {why}");
        }
    }
    Isa::available()
}

/// Distance in units in the last place of `want`.
fn ulps(got: f32, want: f32) -> f32 {
    if got == want {
        return 0.0;
    }
    let ulp = f32::from_bits(want.abs().max(f32::MIN_POSITIVE).to_bits() + 1) - want.abs().max(f32::MIN_POSITIVE);
    (got - want).abs() / ulp
}

fn inputs() -> Vec<f32> {
    let mut x: Vec<f32> = (-24_000..24_000).map(|i| i as f32 * 0.000_517_3 + 0.000_01).collect();
    x.extend((-1000..1000).map(|i| i as f32 * 0.097));
    x.extend([0.0, -0.0, 1e-20, -1e-20, 1e-40, 1000.0, -1000.0, 3e38]);
    x
}

#[test]
fn activations_are_close_to_the_exact_function_at_every_level() {
    let x = inputs();
    for isa in levels() {
        for act in ALL {
            let mut y = x.clone();
            act.apply_slice(isa, &mut y);
            let mut worst = (0.0, 0.0, 0.0, 0.0);
            for (&x, &y) in x.iter().zip(&y) {
                let want = act.apply(x);
                if want.abs() < 1e-30 {
                    assert!(y.abs() < 1e-29, "{isa} {act:?}({x}) = {y} not {want}");
                    continue;
                }
                let error = ulps(y, want);
                if error > worst.0 {
                    worst = (error, x, y, want);
                }
            }
            let limit = match act {
                // Rounding of the exponential's argument grows with it: |u| * 2^-24 relative.
                Activation::Silu | Activation::Sigmoid => 4.0,
                Activation::GeluTanh | Activation::GeluErf | Activation::QuickGelu => 160.0,
                Activation::Tanh => 4.0,
                _ => 0.0,
            };
            assert!(worst.0 <= limit, "{isa} {act:?}: {} ulp at {}: {} not {}", worst.0, worst.1, worst.2, worst.3);
            let typical = x.iter().zip(&y).filter(|(x, _)| x.abs() < 3.0).map(|(&x, &y)| ulps(y, act.apply(x)));
            let typical = typical.fold(0.0, f32::max);
            assert!(typical <= 16.0, "{isa} {act:?}: {typical} ulp below 3");
        }
    }
}

#[test]
fn the_scalar_reference_has_known_values() {
    // From the definitions, to 8 digits.
    for (act, x, want) in [
        (Activation::Silu, 1.0, 0.731_058_6),
        (Activation::GeluTanh, 1.0, 0.841_192),
        (Activation::GeluErf, 1.0, 0.841_344_8),
        (Activation::GeluErf, -3.5, -0.000_814_201_8),
        (Activation::QuickGelu, 1.0, 0.845_795_5),
        (Activation::Relu2, 3.0, 9.0),
        (Activation::Relu, -3.0, 0.0),
        (Activation::Sigmoid, -2.0, 0.119_202_92),
        (Activation::Tanh, 0.5, 0.462_117_16),
    ] {
        assert!(ulps(act.apply(x), want) <= 4.0, "{act:?}({x}) = {} not {want}", act.apply(x));
    }
}

#[test]
fn odd_lengths_touch_nothing_beyond_and_nan_stays() {
    for isa in levels() {
        for len in 0..40 {
            let mut y = [2.0f32; 48];
            Activation::Relu2.apply_slice(isa, &mut y[3..3 + len]);
            for (i, &y) in y.iter().enumerate() {
                assert_eq!(y, if (3..3 + len).contains(&i) { 4.0 } else { 2.0 }, "{isa} {len} {i}");
            }
        }
        for act in ALL {
            let mut y = [1.0, f32::NAN, -1.0];
            act.apply_slice(isa, &mut y);
            assert!(y[1].is_nan() && !y[0].is_nan() && !y[2].is_nan(), "{isa} {act:?} {y:?}");
        }
    }
}

#[test]
fn scale_and_soft_cap() {
    for isa in levels() {
        let x: Vec<f32> = (-60..61).map(|i| i as f32 * 2.5).collect();
        let mut y = x.clone();
        UnaryOp::SoftCap(30.0).apply_slice(isa, &mut y);
        let mut z = x.clone();
        UnaryOp::Scale(0.25).apply_slice(isa, &mut z);
        for i in 0..x.len() {
            let want = 30.0 * (f64::from(x[i]) / 30.0).tanh();
            assert!((f64::from(y[i]) - want).abs() <= 1e-5, "{isa} {} -> {} not {want}", x[i], y[i]);
            assert_eq!(z[i], x[i] * 0.25);
        }
    }
}

#[test]
fn norms_of_logits_of_any_length() {
    for isa in levels() {
        for n in [0usize, 1, 15, 16, 17, 63, 64, 65, 1000, 51_864] {
            let row: Vec<f32> = (0..n).map(|i| ((i * 37) % 101) as f32 * 0.3 - 12.0).collect();
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&l| f64::from(l).exp()).sum();
            let got = f64::from(log_sum_exp(isa, &row, max));
            let close = (got - sum.ln()).abs() < 2e-6 * sum.ln().abs().max(1.0);
            assert!(n == 0 && got == f64::NEG_INFINITY || close, "{isa} {n}: {got}, not {}", sum.ln());
        }
        // What is forbidden counts nothing, wherever it is, and what is impossible next to the largest hardly anything.
        let mut row = vec![f32::NEG_INFINITY; 200];
        assert_eq!(log_sum_exp(isa, &row, f32::NEG_INFINITY), f32::NEG_INFINITY);
        (row[3], row[199]) = (2.0, -3e38);
        assert_eq!(log_sum_exp(isa, &row, 2.0), 2.0);
    }
}
