//! Mixtures of experts: which rows go to which expert, and a grouped product per expert that has any.
//!
//! A call first routes: each row's experts and weights, then per expert the list of its rows. Then experts are taken in turn,
//! all threads on one: its rows are gathered, gate and up and their product are one linear, down another, and the weighted
//! results are added to the output. Only experts that were chosen are read.

mod route;

use rlx_ir::Activation;

pub use route::{RouterArgs, route_row};

use crate::calls::Calls;
use crate::linear::{self, Epilogue, Layout, LinearArgs, LinearPart, LinearShape, PackedMatrix, Precision, Prologue};
use crate::{Isa, RowsIn, RowsOut, SharedSlice, ThreadCtx, WorkCounter};

/// One expert's matrices.
#[derive(Clone, Copy)]
pub struct ExpertArgs<'a> {
    /// `[intermediate, width]`
    pub gate: Option<&'a PackedMatrix>,
    /// `[intermediate, width]`
    pub up: &'a PackedMatrix,
    /// `[width, intermediate]`
    pub down: &'a PackedMatrix,
}

/// A call of [`moe`].
#[derive(Clone)]
pub struct MoeArgs<'a> {
    /// Tokens, T.
    pub rows: usize,
    /// `[T, width]`
    pub x: RowsIn<'a>,
    /// `[T, experts]`
    pub logits: RowsIn<'a>,
    /// `[T, width]`; overlaps neither input.
    pub out: RowsOut<'a>,
    /// All experts, of one shape.
    pub experts: Vec<ExpertArgs<'a>>,
    /// How a row's experts are chosen and weighed.
    pub router: RouterArgs<'a>,
    /// Applied to the gate, or to up without one.
    pub activation: Activation,
    /// Which arithmetic is allowed.
    pub precision: Precision,
}

impl MoeArgs<'_> {
    /// A product of this call.
    fn linear<'a>(
        &self,
        rows: usize,
        x: RowsIn<'a>,
        parts: &'a [LinearPart<'a>],
        epilogue: Epilogue<'a>,
    ) -> LinearArgs<'a> {
        LinearArgs {
            rows,
            batch: self.rows,
            x,
            x_layout: Layout::Rows,
            prologue: Prologue::None,
            parts,
            epilogue,
            out_layout: Layout::Rows,
            precision: self.precision,
        }
    }
}

/// Rows from which on scratch memory only grows with them.
const SMALL_ROWS: usize = 32;

/// Places in scratch memory, in bytes from its aligned start.
struct Places {
    /// `[T, top_k]` u32: the experts of each row.
    chosen: usize,
    /// `[T, top_k]` f32: their weights.
    weights: usize,
    /// `[T, width]`: the rows of the expert at hand.
    gathered: usize,
    /// `[T, intermediate]`: between its matrices.
    hidden: usize,
    /// `[T, width]`: its results.
    results: usize,
    /// The linears' own.
    linear: usize,
    end: usize,
}

impl Places {
    fn new(args: &MoeArgs<'_>, isa: Isa, threads: usize) -> Places {
        let (width, inner) = (args.experts[0].up.cols(), args.experts[0].up.rows());
        let mut end = 0;
        let mut place = |bytes: usize| {
            let start = end;
            end += bytes.next_multiple_of(64);
            start
        };
        let pairs = args.rows * args.router.top_k * size_of::<u32>();
        Places {
            chosen: place(pairs),
            weights: place(pairs),
            gathered: place(args.rows * width * size_of::<f32>()),
            hidden: place(args.rows * inner * size_of::<f32>()),
            results: place(args.rows * width * size_of::<f32>()),
            linear: place(linear_bytes(args, isa, threads)),
            end,
        }
    }
}

/// The most that any expert's linears may need, whatever the router does.
fn linear_bytes(args: &MoeArgs<'_>, isa: Isa, threads: usize) -> usize {
    let shape = |m: &PackedMatrix| LinearShape { dtype: m.dtype(), rows: m.rows(), cols: m.cols() };
    let mut kinds: Vec<(Vec<LinearShape>, bool)> = Vec::new();
    for expert in &args.experts {
        let inward: Vec<_> = expert.gate.into_iter().chain([expert.up]).map(shape).collect();
        for kind in [(inward, expert.gate.is_some()), (vec![shape(expert.down)], false)] {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    // Tiles round the number of rows up by less than 16.
    let rows = (1..=args.rows.min(SMALL_ROWS)).chain([args.rows, args.rows + 16]);
    let bytes = |rows: usize| {
        let each = kinds.iter().map(|(parts, gated)| {
            linear::scratch_bytes_in(rows, args.rows, parts, *gated, args.precision, isa, threads)
        });
        each.max().unwrap_or(0)
    };
    rows.map(bytes).max().unwrap_or(0)
}

/// Bytes of scratch memory that a call needs on `threads` threads.
pub fn moe_scratch_bytes(args: &MoeArgs<'_>, isa: Isa, threads: usize) -> usize {
    // 64 more, to align the start.
    Places::new(args, isa, threads).end + 64
}

/// Computes `args` on all threads of a pool: each calls it with the same arguments. `work` are at least two counters at zero;
/// `scratch` has [`moe_scratch_bytes`]. The output is complete after a barrier, which the caller puts.
///
/// # Panics
/// If shapes do not fit together, or scratch is too short.
pub fn moe(ctx: &ThreadCtx<'_>, isa: Isa, work: &[WorkCounter], scratch: SharedSlice<'_, u8>, args: &MoeArgs<'_>) {
    if args.rows == 0 {
        return;
    }
    let places = Places::new(args, isa, ctx.count());
    let skip = scratch.as_mut_ptr().align_offset(64);
    assert!(scratch.len() >= skip + places.end, "scratch memory of {} bytes is too small", scratch.len());
    let part = |start: usize, end: usize| {
        // SAFETY: in bounds by the check above.
        unsafe { SharedSlice::from_raw(scratch.as_mut_ptr().add(skip + start), end - start) }
    };
    let top_k = args.router.top_k;
    let (width, inner) = (args.experts[0].up.cols(), args.experts[0].up.rows());
    let chosen = cast::<u32>(part(places.chosen, places.weights), args.rows * top_k);
    let weights = cast::<f32>(part(places.weights, places.gathered), args.rows * top_k);
    let rows_of = |start, end, width| RowsOut { data: cast::<f32>(part(start, end), args.rows * width), stride: width };
    let gathered = rows_of(places.gathered, places.hidden, width);
    let hidden = rows_of(places.hidden, places.results, inner);
    let results = rows_of(places.results, places.linear, width);
    let linear_scratch = part(places.linear, places.end);

    let mut scores = vec![0.0; 2 * args.experts.len()];
    for t in ctx.share(args.rows, 1) {
        // SAFETY: each row belongs to one thread.
        unsafe {
            let (chosen, weights) = (chosen.part(t * top_k..(t + 1) * top_k), weights.part(t * top_k..(t + 1) * top_k));
            route_row(&args.router, args.logits.row(t, args.experts.len()), &mut scores, chosen, weights);
            args.out.part(t, 0..width).fill(0.0);
        }
    }
    ctx.barrier();
    // SAFETY: written before the barrier, and not again in this call.
    let (chosen, weights) = unsafe { (chosen.all(), weights.all()) };
    let lists = RowLists::new(chosen, args.experts.len());

    let mut calls = Calls::new(ctx, isa, work, linear_scratch);
    for (index, expert) in args.experts.iter().enumerate() {
        let pairs = lists.of(index);
        if pairs.is_empty() {
            continue;
        }
        let x = if args.rows == 1 {
            args.x
        } else {
            for r in ctx.share(pairs.len(), 1) {
                let row = args.x.row(pairs[r] as usize / top_k, width);
                // SAFETY: each row belongs to one thread.
                unsafe { gathered.part(r, 0..width) }.copy_from_slice(row);
            }
            ctx.barrier();
            // SAFETY: written before the barrier; written again only after the barriers of this expert's linears.
            RowsIn { data: unsafe { gathered.data.all() }, stride: width }
        };
        let up = LinearPart { weight: expert.up, bias: None, out: hidden };
        match expert.gate {
            Some(gate) => {
                let gate = LinearPart { weight: gate, bias: None, out: hidden };
                calls.linear(&args.linear(pairs.len(), x, &[gate, up], Epilogue::Gated(args.activation)));
            }
            None => calls.linear(&args.linear(pairs.len(), x, &[up], Epilogue::Activation(args.activation))),
        }
        // SAFETY: written before the barrier that ends the call; written again only after the next call's.
        let h = RowsIn { data: unsafe { hidden.data.all() }, stride: inner };
        let down = LinearPart { weight: expert.down, bias: None, out: results };
        calls.linear(&args.linear(pairs.len(), h, &[down], Epilogue::None));
        for r in ctx.share(pairs.len(), 1) {
            let pair = pairs[r] as usize;
            // SAFETY: results are complete; a row is chosen once by an expert, and experts are separated by barriers.
            unsafe {
                let y = results.part(r, 0..width);
                let out = args.out.part(pair / top_k, 0..width);
                out.iter_mut().zip(y).for_each(|(out, y)| *out += weights[pair] * *y);
            }
        }
    }
}

/// `len` elements at the start of aligned bytes.
fn cast<T>(bytes: SharedSlice<'_, u8>, len: usize) -> SharedSlice<'_, T> {
    assert!(bytes.len() >= len * size_of::<T>() && bytes.as_mut_ptr().cast::<T>().is_aligned());
    // SAFETY: in bounds and aligned by the check above; T is u32 or f32, for which all bytes are valid.
    unsafe { SharedSlice::from_raw(bytes.as_mut_ptr().cast(), len) }
}

/// Pairs of row and choice (`row * top_k + choice`), by expert.
struct RowLists {
    pairs: Vec<u32>,
    starts: Vec<usize>,
}

impl RowLists {
    fn new(chosen: &[u32], experts: usize) -> RowLists {
        let mut starts = vec![0; experts + 1];
        chosen.iter().for_each(|&expert| starts[expert as usize + 1] += 1);
        for expert in 0..experts {
            starts[expert + 1] += starts[expert];
        }
        let mut next = starts.clone();
        let mut pairs = vec![0; chosen.len()];
        for (pair, &expert) in chosen.iter().enumerate() {
            pairs[next[expert as usize]] = pair as u32;
            next[expert as usize] += 1;
        }
        RowLists { pairs, starts }
    }

    fn of(&self, expert: usize) -> &[u32] {
        &self.pairs[self.starts[expert]..self.starts[expert + 1]]
    }
}
