//! Functions of one, two or three values, element by element.

use rlx_ir::{Activation, BinaryOp, UnaryOp};

use crate::math::simd::{Simd, simd_dispatch};
use crate::{Isa, RowsIn, RowsOut, ThreadCtx, math};

/// The second operand of [`binary`].
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// Rows of the same shape as the first.
    Rows(RowsIn<'a>),
    /// One row `[width]` for all.
    Row(&'a [f32]),
    /// One value for all.
    Scalar(f32),
}

/// Elements a thread takes at once: a multiple of every cache line and register.
const UNIT: usize = 1024;

simd_dispatch! {
    fn unary_run(op: UnaryOp, x: &[f32], out: &mut [f32]) = unary_run_v
}
simd_dispatch! {
    fn binary_run(op: BinaryOp, a: &[f32], b: &[f32], out: &mut [f32]) = binary_run_v
}
simd_dispatch! {
    fn gated_run(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) = gated_run_v
}

/// A function of two registers. A trait and not a closure: the compiler leaves a large closure out of line, and there it lacks the
/// instruction set of its caller, so that every operation becomes a call.
trait Lanes {
    fn of<V: Simd>(self, a: V, b: V) -> V;
}

/// `op` of the first register.
#[derive(Clone, Copy)]
struct OfFirst(UnaryOp);

impl Lanes for OfFirst {
    #[inline(always)]
    fn of<V: Simd>(self, a: V, _: V) -> V {
        math::unary(self.0, a)
    }
}

impl Lanes for BinaryOp {
    #[inline(always)]
    fn of<V: Simd>(self, a: V, b: V) -> V {
        math::binary(self, a, b)
    }
}

/// The activation of the first register times the second.
#[derive(Clone, Copy)]
struct Gate(Activation);

impl Lanes for Gate {
    #[inline(always)]
    fn of<V: Simd>(self, gate: V, up: V) -> V {
        math::activate(self.0, gate) * up
    }
}

/// `out = f(a, b)`; all slices have the length of `out`.
#[inline(always)]
fn zip<V: Simd>(a: &[f32], b: &[f32], out: &mut [f32], f: impl Lanes + Copy) {
    let n = out.len();
    let (a, b, out) = (a[..n].as_ptr(), b[..n].as_ptr(), out.as_mut_ptr());
    let mut i = 0;
    // SAFETY: all have n elements, and every access is to i..i + LANES below n, or to the last n - i.
    unsafe {
        while i + V::LANES <= n {
            f.of(V::load(a.add(i)), V::load(b.add(i))).store(out.add(i));
            i += V::LANES;
        }
        let rest = n - i;
        if rest > 0 {
            f.of(V::load_part(a.add(i), rest), V::load_part(b.add(i), rest)).store_part(out.add(i), rest);
        }
    }
}

#[inline(always)]
fn unary_run_v<V: Simd>(op: UnaryOp, x: &[f32], out: &mut [f32]) {
    zip::<V>(x, x, out, OfFirst(op));
}

#[inline(always)]
fn binary_run_v<V: Simd>(op: BinaryOp, a: &[f32], b: &[f32], out: &mut [f32]) {
    zip::<V>(a, b, out, op);
}

#[inline(always)]
fn gated_run_v<V: Simd>(act: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
    zip::<V>(gate, up, out, Gate(act));
}

/// Calls `run(row, columns)` for this thread's share of `[rows, width]`, cut so that one wide row is shared too.
fn each_run(ctx: &ThreadCtx<'_>, rows: usize, width: usize, run: impl Fn(usize, std::ops::Range<usize>)) {
    let runs = width.div_ceil(UNIT);
    for item in ctx.share(rows * runs, 1) {
        let start = item % runs * UNIT;
        run(item / runs, start..(start + UNIT).min(width));
    }
}

/// `op(x)` of each element of `[rows, width]`.
pub fn unary(ctx: &ThreadCtx<'_>, isa: Isa, op: UnaryOp, x: RowsIn<'_>, out: RowsOut<'_>, rows: usize, width: usize) {
    each_run(ctx, rows, width, |t, columns| {
        // SAFETY: each run belongs to one thread.
        let out = unsafe { out.part(t, columns.clone()) };
        unary_run(isa, op, &x.row(t, width)[columns], out);
    });
}

/// `a op b` of each element of `[rows, width]`.
pub fn binary(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    op: BinaryOp,
    a: RowsIn<'_>,
    b: Operand<'_>,
    out: RowsOut<'_>,
    rows: usize,
    width: usize,
) {
    each_run(ctx, rows, width, |t, columns| {
        // SAFETY: each run belongs to one thread.
        let out = unsafe { out.part(t, columns.clone()) };
        let a = &a.row(t, width)[columns.clone()];
        match b {
            Operand::Rows(b) => binary_run(isa, op, a, &b.row(t, width)[columns], out),
            Operand::Row(b) => binary_run(isa, op, a, &b[columns], out),
            Operand::Scalar(b) => binary_run(isa, op, a, &[b; UNIT][..out.len()], out),
        }
    });
}

/// `act(gate) * up` of each element of `[rows, width]`.
pub fn gated(
    ctx: &ThreadCtx<'_>,
    isa: Isa,
    act: Activation,
    gate: RowsIn<'_>,
    up: RowsIn<'_>,
    out: RowsOut<'_>,
    rows: usize,
    width: usize,
) {
    each_run(ctx, rows, width, |t, columns| {
        // SAFETY: each run belongs to one thread.
        let out = unsafe { out.part(t, columns.clone()) };
        gated_run(isa, act, &gate.row(t, width)[columns.clone()], &up.row(t, width)[columns], out);
    });
}
