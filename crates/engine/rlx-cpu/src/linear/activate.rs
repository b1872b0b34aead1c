//! Nonlinearities over short rows, written so that they vectorise in every instruction set.

use rlx_ir::Activation;

/// Applies `activation` to each value.
#[inline(always)]
pub(crate) fn activate<const N: usize>(activation: Activation, y: &mut [f32; N]) {
    match activation {
        Activation::Silu => each(y, |x| x * sigmoid(x)),
        Activation::GeluTanh => each(y, |x| {
            // 0.5 (1 + tanh u) = sigmoid(2u)
            x * sigmoid(1.595_769 * (x + 0.044_715 * x * x * x))
        }),
        Activation::GeluErf => each(y, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
        Activation::QuickGelu => each(y, |x| x * sigmoid(1.702 * x)),
        Activation::Relu => each(y, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::Relu2 => each(y, |x| if x < 0.0 { 0.0 } else { x * x }),
        Activation::Sigmoid => each(y, sigmoid),
        Activation::Tanh => each(y, |x| 2.0 * sigmoid(2.0 * x) - 1.0),
    }
}

#[inline(always)]
fn each<const N: usize>(y: &mut [f32; N], f: impl Fn(f32) -> f32) {
    for y in y.iter_mut() {
        *y = f(*y);
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// e^x to about 2 ulp; 0 and infinity beyond the range of f32 exponents, NaN for NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Round x / ln 2 by adding 1.5 * 2^23, then a polynomial on the remainder in ±ln 2 / 2.
    let clamped = x.clamp(-87.3, 88.8);
    let shifted = clamped * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // 2^n in two factors, so that n = 128 does not overflow before the product does.
    let n = (shifted.to_bits() as i32).wrapping_sub(0x4B40_0000);
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n.wrapping_add(127)) as u32).wrapping_shl(23));
    p * power(half) * power(n.wrapping_sub(half))
}

/// The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let y = 1.0 - p * t * exp(-a * a);
    if x < 0.0 { -y } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libm_erf(x: f64) -> f64 {
        // Series near zero, continued sum elsewhere is not needed: erf(x) = 2/sqrt(pi) * sum (-1)^n x^(2n+1) / (n! (2n+1)).
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn agree_with_f64() {
        for i in -500..=500 {
            let x = i as f32 / 100.0;
            let d = x as f64;
            let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
            let gelu_tanh = 0.5 * d * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (d + 0.044715 * d * d * d)).tanh());
            for (activation, want) in [
                (Activation::Silu, d * sigmoid(d)),
                (Activation::GeluTanh, gelu_tanh),
                (Activation::GeluErf, 0.5 * d * (1.0 + libm_erf(d / 2.0f64.sqrt()))),
                (Activation::QuickGelu, d * sigmoid(1.702 * d)),
                (Activation::Relu, d.max(0.0)),
                (Activation::Relu2, d.max(0.0) * d.max(0.0)),
                (Activation::Sigmoid, sigmoid(d)),
                (Activation::Tanh, d.tanh()),
            ] {
                let mut y = [x; 4];
                activate(activation, &mut y);
                assert!((y[3] as f64 - want).abs() < 2e-6, "{activation:?}({x}) = {} not {want}", y[3]);
            }
        }
    }

    #[test]
    fn extremes_stay_sane() {
        assert_eq!(exp(1000.0), f32::INFINITY);
        assert!(exp(-1000.0) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
        let mut y = [-1e30f32, 1e30, f32::NAN, -200.0];
        activate(Activation::Silu, &mut y);
        assert!(y[0] == 0.0 || y[0].abs() < 1e-6, "{}", y[0]);
        assert_eq!(y[1], 1e30);
        assert!(y[2].is_nan());
    }
}
