//! Several linears within one step.

use crate::linear::{self, LinearArgs};
use crate::{Isa, SharedSlice, ThreadCtx, WorkCounter};

/// Runs linears one after the other, each ended by a barrier.
pub(crate) struct Calls<'a, 'c> {
    ctx: &'a ThreadCtx<'c>,
    isa: Isa,
    work: &'a [WorkCounter],
    scratch: SharedSlice<'a, u8>,
    count: usize,
}

impl<'a, 'c> Calls<'a, 'c> {
    /// `work` are at least two counters at zero; `scratch` has room for each of the calls.
    pub(crate) fn new(
        ctx: &'a ThreadCtx<'c>,
        isa: Isa,
        work: &'a [WorkCounter],
        scratch: SharedSlice<'a, u8>,
    ) -> Calls<'a, 'c> {
        Calls { ctx, isa, work, scratch, count: 0 }
    }

    pub(crate) fn linear(&mut self, args: &LinearArgs<'_>) {
        // Two counters take turns: while one is in use, the other is set back, and a barrier lies between.
        let (now, next) = (self.count % 2, (self.count + 1) % 2);
        if self.ctx.index() == 0 {
            self.work[next].reset();
        }
        linear::linear(self.ctx, self.isa, &self.work[now..=now], self.scratch, args);
        self.ctx.barrier();
        self.count += 1;
    }
}
