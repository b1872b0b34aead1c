//! The IR's elementwise functions as arithmetic.

use rlx_ir::{Activation, BinaryOp, UnaryOp};

use super::functions::{exp, gelu_erf, normal_cdf, sigmoid, soft_cap, tanh};
use super::simd::{Simd, simd_dispatch};
use crate::Isa;

/// The arithmetic of [`Activation`].
pub trait ActivationMath: Copy {
    /// The function of one value, correct to f32 rounding: the reference for the vector kernels.
    fn apply(self, x: f32) -> f32;
    /// The function of every element. Vector levels are within 4 ulp of [`ActivationMath::apply`]; the GELUs within 16 ulp for
    /// |x| < 3, and within 160 ulp (1e-5) down to values of 1e-30, as the rounding of the exponential's argument grows.
    fn apply_slice(self, isa: Isa, x: &mut [f32]);
}

/// The arithmetic of [`UnaryOp`].
pub trait UnaryMath: Copy {
    /// The function of every element.
    fn apply_slice(self, isa: Isa, x: &mut [f32]);
}

impl ActivationMath for Activation {
    fn apply(self, x: f32) -> f32 {
        let wide = f64::from(x);
        let value = match self {
            Activation::Silu => wide / (1.0 + (-wide).exp()),
            // 0.5 (1 + tanh u) is sigmoid(2 u), which keeps its digits where tanh is near -1.
            Activation::GeluTanh => wide / (1.0 + (-2.0 * gelu_tanh_argument(wide)).exp()),
            Activation::GeluErf => wide * normal_cdf(wide),
            Activation::QuickGelu => wide / (1.0 + (-1.702 * wide).exp()),
            Activation::Relu => return if x < 0.0 { 0.0 } else { x },
            Activation::Relu2 => return if x < 0.0 { 0.0 } else { x * x },
            Activation::Sigmoid => 1.0 / (1.0 + (-wide).exp()),
            Activation::Tanh => wide.tanh(),
        };
        value as f32
    }

    fn apply_slice(self, isa: Isa, x: &mut [f32]) {
        apply_unary(isa, UnaryOp::Activation(self), x);
    }
}

impl UnaryMath for UnaryOp {
    fn apply_slice(self, isa: Isa, x: &mut [f32]) {
        apply_unary(isa, self, x);
    }
}

/// `sqrt(2/pi) (x + 0.044715 x^3)`.
fn gelu_tanh_argument(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)
}

simd_dispatch! {
    fn apply_unary(op: UnaryOp, x: &mut [f32]) = apply_unary_v
}

#[inline(always)]
fn apply_unary_v<V: Simd>(op: UnaryOp, x: &mut [f32]) {
    let whole = x.len() / V::LANES * V::LANES;
    let p = x.as_mut_ptr();
    for i in (0..whole).step_by(V::LANES) {
        // SAFETY: i + LANES <= len.
        unsafe { unary(op, V::load(p.add(i))).store(p.add(i)) }
    }
    let rest = x.len() - whole;
    // SAFETY: `rest` elements follow the whole registers.
    unsafe { unary(op, V::load_part(p.add(whole), rest)).store_part(p.add(whole), rest) }
}

/// `act(x)` lane by lane.
#[inline(always)]
pub(crate) fn activate<V: Simd>(act: Activation, x: V) -> V {
    if V::REFERENCE {
        return x.map(|x| act.apply(x));
    }
    match act {
        Activation::Silu => x * sigmoid(x),
        Activation::GeluTanh => {
            // sigmoid(2u) = 1 / (1 + e^(-2u)); e^(-2u) overflows to infinity, and the value to 0, where it should.
            let cubic = (x * x).fma(V::splat(-2.0 * 0.797_884_6 * 0.044_715), V::splat(-2.0 * 0.797_884_6));
            x / (V::splat(1.0) + exp(x * cubic))
        }
        Activation::GeluErf => gelu_erf(x),
        Activation::QuickGelu => x * sigmoid(x * V::splat(1.702)),
        Activation::Relu => V::select(x.lt(V::zero()), V::zero(), x),
        Activation::Relu2 => V::select(x.lt(V::zero()), V::zero(), x * x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => tanh(x),
    }
}

/// `op(x)` lane by lane.
#[inline(always)]
pub(crate) fn unary<V: Simd>(op: UnaryOp, x: V) -> V {
    match op {
        UnaryOp::Activation(act) => activate(act, x),
        UnaryOp::Scale(factor) => x * V::splat(factor),
        UnaryOp::SoftCap(cap) => soft_cap(x, V::splat(cap)),
    }
}

/// `a op b` lane by lane.
#[inline(always)]
pub(crate) fn binary<V: Simd>(op: BinaryOp, a: V, b: V) -> V {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
    }
}
