//! Elementary functions of a register of lanes.
//!
//! Polynomials were fitted for least relative error over the reduced range; the errors given are the largest seen against
//! f64 over the function's whole range, in units in the last place (ulp), and are checked in `tests/ops_math.rs`.

use std::f32::consts::LOG2_E;

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
    let p = polynomial(r, [5.000000095e-1, 1.666651860e-1, 4.166620506e-2, 8.368917877e-3, 1.395054042e-3]);
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
    let c = [6.931472064e-1, 2.402265135e-1, 5.550327458e-2, 9.618003388e-3, 1.340040332e-3, 1.547644586e-4];
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
    let p = polynomial(square, [-3.333328393e-1, 1.333149128e-1, -5.374349792e-2, 2.065058678e-2, -5.717044510e-3]);
    let small = (x * square).fma(p, x);
    let large = one - V::splat(2.0) / (exp(size + size) + one);
    let large = V::select(x.lt(V::zero()), V::zero() - large, large);
    V::select(size.lt(V::splat(0.625)), small, large)
}

/// `ln(1 + e^x)`: 3 ulp.
#[inline(always)]
pub(crate) fn softplus<V: Simd>(x: V) -> V {
    if V::REFERENCE {
        return x.map(|x| x.max(0.0) + (-x.abs()).exp().ln_1p());
    }
    // ln(1 + e) = 2 artanh(e / (2 + e)), whose argument stays below 1/3.
    let e = exp(V::zero() - x.abs());
    let s = e / (e + V::splat(2.0));
    let square = s * s;
    let p = polynomial(square, [3.333333781e-1, 1.999943887e-1, 1.430844237e-1, 1.071382912e-1, 1.215046691e-1]);
    let log = (s * square).fma(p, s);
    x.max(V::zero()) + log + log
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
            2.257036756e-1,
            2.250152681e-1,
            2.143907831e-1,
            1.321562324e-1,
            2.648743876e-1,
            -2.709240999e-1,
            5.312276183e-1,
            -4.866290177e-1,
            1.928219823e-1,
            -2.863682072e-2,
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
