//! The loop that runs a program.

use std::time::{Duration, Instant};

use rlx_ir::{DType, Op, ValueId};
use rlx_mem::AlignedBuf;
use rlx_opt::MemoryPlan;

use super::cross::{CrossRef, CrossSpans};
use super::kernel::{Arena, Builder, Kernel};
use super::spans::SpanTable;
use super::{CpuError, CpuProgram, CpuState};
use crate::attention::SeqSpan;
use crate::{SharedSlice, WorkCounter};

/// Data of one graph input.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Indices.
    I32(&'a [i32]),
    /// Activations.
    F32(&'a [f32]),
}

impl CpuState {
    /// Runs the program once. `bindings` are the symbols' values (those of derived symbols are not looked at), `inputs` the graph's inputs in its order; `spans` says which
    /// rows form sequences, and where each sequence's earlier tokens are.
    ///
    /// # Errors
    /// If inputs or spans do not fit; nothing has run then.
    pub fn run(
        &mut self,
        bindings: &[usize],
        inputs: &[Input<'_>],
        spans: &[SeqSpan<'_>],
        cross: &[CrossRef],
    ) -> Result<(), CpuError> {
        let program = std::sync::Arc::clone(&self.program);
        let lens: Vec<usize> = spans.iter().map(|span| span.len).collect();
        let plan = self.plan(&program.graph.bind_derived(bindings, &lens)?)?;
        check_inputs(&program, &plan, inputs)?;
        self.check_spans(spans)?;
        let spans = SpanTable::new(&program.graph, spans);
        spans.check(&program.graph, &plan)?;
        self.current = None;
        if self.arena.len() * 4 < plan.arena_bytes {
            self.arena = AlignedBuf::zeroed(plan.arena_bytes / 4);
        }
        copy_inputs(&program, &plan, inputs, &mut self.arena);

        let counters = &self.counters;
        counters.iter().flatten().for_each(WorkCounter::reset);
        let views = self.kv.views();
        let cross_cache = self.cross.clone();
        let mut cross_store = cross_cache.as_ref().map(|cache| cache.lock());
        let cross = CrossSpans::new(&program.graph, cross, cross_store.as_deref(), &spans)?;
        let cross_views = cross_store.as_mut().map_or(vec![], |store| store.views());
        let arena = Arena::new(&plan, SharedSlice::new(&mut self.arena));
        let kernels = Builder {
            program: &program,
            arena,
            spans: &spans,
            caches: &views,
            cross: &cross,
            cross_caches: &cross_views,
        };
        let mut steps: Vec<Kernel<'_>> = program.graph.nodes().iter().map(|node| kernels.build(node)).collect();
        let isa = program.options.isa;
        let threads = program.pool.threads();
        for &(maker, reader) in &program.handed_on {
            if let Ok([maker, reader]) = steps.get_disjoint_mut([maker, reader]) {
                maker.hand_on_tiles(reader, isa, threads);
            }
        }
        let need = steps.iter().map(|step| step.scratch_bytes(isa, threads)).max().unwrap_or(0);
        if self.scratch.len() < need {
            self.scratch = AlignedBuf::zeroed(need);
        }
        let scratch = SharedSlice::new(&mut self.scratch);
        let times = self.times.as_mut().map(|times| SharedSlice::new(times));

        program.pool.run(&|ctx| {
            let mut last = times.is_some().then(Instant::now);
            let computed = steps.iter().enumerate().filter(|(_, step)| !matches!(step, Kernel::Nothing));
            for (turn, (index, step)) in computed.enumerate() {
                let work = &counters[turn % 2];
                step.run(ctx, isa, work, scratch);
                ctx.barrier();
                if ctx.index() == 0 {
                    // Nobody takes from them again before the barrier of the next step.
                    work.iter().for_each(WorkCounter::reset);
                }
                if let (Some(times), Some(start), 0) = (&times, &mut last, ctx.index()) {
                    let now = Instant::now();
                    // SAFETY: only thread 0 touches the times.
                    let entry: &mut (u64, Duration) = unsafe { &mut times.part(index..index + 1)[0] };
                    entry.0 += 1;
                    entry.1 += now - *start;
                    *start = now;
                }
            }
        });
        self.current = Some(plan);
        Ok(())
    }

    /// The blocks of spans must hold all their tokens.
    fn check_spans(&self, spans: &[SeqSpan<'_>]) -> Result<(), CpuError> {
        let block_len = self.kv.block_len();
        for span in spans {
            let total = span.past.saturating_add(span.len);
            if span.blocks.len() * block_len < total && !self.kv.layouts.is_empty() {
                return Err(CpuError::Span(format!("of {total} tokens has {} KV blocks", span.blocks.len())));
            }
            if let Some(id) = span.blocks.iter().find(|&&id| id as usize >= self.kv.block_count()) {
                return Err(CpuError::Span(format!("names KV block {id} of {}", self.kv.block_count())));
            }
        }
        Ok(())
    }
}

fn check_inputs(program: &CpuProgram, plan: &MemoryPlan, inputs: &[Input<'_>]) -> Result<(), CpuError> {
    let declared = program.graph.inputs();
    if declared.len() != inputs.len() {
        let what = format!("{} inputs given, {} declared", inputs.len(), declared.len());
        return Err(CpuError::Input { name: "all".into(), what });
    }
    for ((name, value), input) in declared.iter().zip(inputs) {
        let fail = |what: String| Err(CpuError::Input { name: name.clone(), what });
        let (dtype, len) = match input {
            Input::I32(data) => (DType::I32, data.len()),
            Input::F32(data) => (DType::F32, data.len()),
        };
        let expected = program.graph.value(*value).dtype;
        if dtype != expected {
            return fail(format!("is {dtype}, not {expected}"));
        }
        if len != plan.elements[value.index()] {
            return fail(format!("has {len} elements, not {}", plan.elements[value.index()]));
        }
        if let Input::I32(data) = input {
            check_indices(program, plan, *value, data).or_else(fail)?;
        }
    }
    Ok(())
}

/// Indices must lie in what they are looked up in, since kernels do not check.
fn check_indices(program: &CpuProgram, plan: &MemoryPlan, value: ValueId, data: &[i32]) -> Result<(), String> {
    for node in program.graph.nodes() {
        let limit = match &node.op {
            Op::Embedding { table } if node.inputs[0] == value => program.graph.param_info(*table).shape[0],
            Op::SelectRows | Op::CrossWeights { .. } if node.inputs[1] == value => plan.rows[node.inputs[0].index()],
            _ => continue,
        };
        if let Some(index) = data.iter().find(|&&index| index < 0 || index as usize >= limit) {
            return Err(format!("holds {index}, which is not below {limit}"));
        }
    }
    Ok(())
}

fn copy_inputs(program: &CpuProgram, plan: &MemoryPlan, inputs: &[Input<'_>], arena: &mut [f32]) {
    for ((_, value), input) in program.graph.inputs().iter().zip(inputs) {
        let start = plan.offsets[value.index()] / 4;
        let place = &mut arena[start..start + plan.elements[value.index()]];
        match input {
            Input::F32(data) => place.copy_from_slice(data),
            Input::I32(data) => bytemuck::cast_slice_mut::<f32, i32>(place).copy_from_slice(data),
        }
    }
}
