//! Elementary functions of a register of lanes.
//!
//! Polynomials were fitted for least relative error over the reduced range; the errors given are the largest seen against
//! f64 over the function's whole range, in units in the last place (ulp), and are checked in `tests/ops_math.rs`.

use std::f32::consts::{LN_2, LOG2_E};

use super::simd::Simd;

/// `c[0] + c[1] x + c[2] x^2 + ..` (Horner).
#[inline(always)]
pub(crate) fn polynomial<V: Simd, const N: usize>(x: V, c: [f32; N]) -> V {
    let mut sum = V::splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = sum.fma(x, V::splat(c[i]));
    }
    sum
}

/// `e^x`: 2 ulp; 0 below -103.97, infinity above 88.72.
#[inline(always)]
pub(crate) fn exp<V: Simd>(x: V) -> V {
    if V::REFERENCE {
        return x.map(f32::exp);
    }
    // ln 2 in two parts, the first short enough that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = (std::f64::consts::LN_2 - LN2_HIGH as f64) as f32;
    let x = x.max(V::splat(-104.0)).min(V::splat(89.0));
    let n = (x * V::splat(LOG2_E)).round();
    let r = n.fma(V::splat(-LN2_HIGH), x);
    let r = n.fma(V::splat(-LN2_LOW), r);
    let p = polynomial(r, [0.5, 0.166_665_18, 0.041_666_206, 0.008_368_918, 0.001_395_054]);
    (r * r).fma(p, r + V::splat(1.0)).scale2(n)
}

/// `2^x` for `x <= 0` (and up to 1): 2 ulp; 0 below -150.
#[inline(always)]
pub(crate) fn exp2<V: Simd>(x: V) -> V {
    if V::REFERENCE {
        return x.map(f32::exp2);
    }
    let x = x.max(V::splat(-151.0));
    let n = x.round();
    let r = x - n;
    let c = [LN_2, 0.240_226_5, 0.055_503_275, 0.009_618_004, 0.001_340_040_4, 0.000_154_764_46];
    polynomial(r, c).fma(r, V::splat(1.0)).scale2(n)
}

/// `1 / (1 + e^-x)`: 3 ulp.
#[inline(always)]
pub(crate) fn sigmoid<V: Simd>(x: V) -> V {
    let one = V::splat(1.0);
    let e = exp(V::zero() - x.abs());
    V::select(x.lt(V::zero()), e, one) / (one + e)
}

/// Hyperbolic tangent: 3 ulp.
#[inline(always)]
pub(crate) fn tanh<V: Simd>(x: V) -> V {
    if V::REFERENCE {
        return x.map(f32::tanh);
    }
    let one = V::splat(1.0);
    let size = x.abs();
    let square = x * x;
    let p = polynomial(square, [-0.333_332_84, 0.133_314_91, -0.053_743_497, 0.020_650_586, -0.005_717_044_7]);
    let small = (x * square).fma(p, x);
    let large = one - V::splat(2.0) / (exp(size + size) + one);
    let large = V::select(x.lt(V::zero()), V::zero() - large, large);
    V::select(size.lt(V::splat(0.625)), small, large)
}

/// `x Φ(x)`, Φ the normal distribution: `0.5 x (1 + erf(x / √2))`. Relative error below 1e-6 for x > -5, growing to 1e-5 at
/// -13, where the value has fallen to 1e-37.
#[inline(always)]
pub(crate) fn gelu_erf<V: Simd>(x: V) -> V {
    if V::REFERENCE {
        return x.map(|x| (f64::from(x) * normal_cdf(f64::from(x))) as f32);
    }
    // Φ(-z √2) = erfc(z) / 2, and erfc(z) = e^(-z^2) t P(t) with t = 1 / (1 + 0.4 z), fitted for z in 0..10.5.
    let one = V::splat(1.0);
    let z = x.abs() * V::splat(std::f32::consts::FRAC_1_SQRT_2);
    let t = one / z.fma(V::splat(0.4), one);
    let p = polynomial(
        t,
        [
            0.225_703_67,
            0.225_015_27,
            0.214_390_78,
            0.132_156_24,
            0.264_874_4,
            -0.270_924_1,
            0.531_227_6,
            -0.486_629,
            0.192_821_98,
            -0.028_636_82,
        ],
    );
    let tail = exp(x * x * V::splat(-0.5)) * (t * p) * V::splat(0.5);
    x * V::select(x.lt(V::zero()), tail, one - tail)
}

/// The standard normal distribution function, to f64 accuracy.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let z = x.abs();
    let upper = if z < 3.0 {
        // Marsaglia's series: Φ(z) - 1/2 = φ(z) (z + z^3/3 + z^5/15 + ..).
        let (mut term, mut sum, mut n) = (z, z, 1.0);
        while term > sum * 1e-17 {
            n += 2.0;
            term *= z * z / n;
            sum += term;
        }
        0.5 - density * sum
    } else {
        // Laplace's continued fraction of Mills' ratio.
        let fraction = (1..=60).rev().fold(0.0, |tail, n| f64::from(n) / (z + tail));
        density / (z + fraction)
    };
    if x < 0.0 { upper } else { 1.0 - upper }
}

/// `cap * tanh(x / cap)`.
#[inline(always)]
pub(crate) fn soft_cap<V: Simd>(x: V, cap: V) -> V {
    cap * tanh(x / cap)
}
