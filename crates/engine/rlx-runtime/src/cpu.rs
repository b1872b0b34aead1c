//! The CPU backend behind the runtime's traits.

use std::any::Any;
use std::sync::Arc;

use rlx_cpu::{CpuCrossCache, CpuOptions, CpuProgram, CpuState, Input, SeqSpan, WeightData};
use rlx_ir::Graph;

use crate::{
    CompileOptions, CrossCache, CrossStore, Executable, InputData, KvType, ParamSource, RuntimeError, SessionOptions,
    State, Step, StepProfile,
};

/// A graph compiled for the CPU.
pub(crate) struct CpuExecutable {
    program: Arc<CpuProgram>,
}

impl CpuExecutable {
    pub(crate) fn compile(
        graph: Graph,
        params: &mut dyn ParamSource,
        options: &CompileOptions,
    ) -> Result<CpuExecutable, RuntimeError> {
        let cpu = CpuOptions { threads: options.threads, isa: options.isa, precision: options.precision };
        let program = CpuProgram::compile(graph, cpu, &mut |param| {
            let data = params.param(param)?;
            if data.shape != param.shape {
                let what = format!("has shape {:?}, the graph wants {:?}", data.shape, param.shape);
                return Err(RuntimeError::Param { name: param.name.clone(), what });
            }
            Ok(WeightData { dtype: data.dtype, bytes: data.bytes })
        })?;
        Ok(CpuExecutable { program: Arc::new(program) })
    }
}

impl Executable for CpuExecutable {
    fn graph(&self) -> &Graph {
        self.program.graph()
    }

    fn weight_bytes(&self) -> usize {
        self.program.weight_bytes()
    }

    fn weight_bytes_per_token(&self) -> usize {
        self.program.weight_bytes_per_token()
    }

    fn describe(&self) -> String {
        let options = self.program.options();
        format!("cpu, {}, {} threads, precision {:?}", options.isa, options.threads, options.precision)
    }

    fn explain(&self, bindings: &[usize]) -> Result<String, RuntimeError> {
        Ok(self.program.explain(bindings)?)
    }

    fn new_state(&self, options: &SessionOptions, cross: Option<&CrossCache>) -> Result<Box<dyn State>, RuntimeError> {
        let mut state = CpuState::new(Arc::clone(&self.program), options.kv_type, options.block_len);
        if let Some(cross) = cross {
            let store: &dyn Any = cross.store().as_ref();
            let store = store.downcast_ref::<CpuCrossStore>();
            let store = store.ok_or_else(|| RuntimeError::Cross("the cache is another device's".into()))?;
            state = state.with_cross_cache(Arc::clone(&store.0))?;
        }
        Ok(Box::new(CpuSessionState(state)))
    }

    fn new_cross_store(&self, kv_type: KvType) -> Arc<dyn CrossStore> {
        Arc::new(CpuCrossStore(Arc::new(CpuCrossCache::new(self.program.graph(), kv_type))))
    }
}

struct CpuCrossStore(Arc<CpuCrossCache>);

impl CrossStore for CpuCrossStore {
    fn reserve(&self, count: usize) {
        self.0.reserve(count);
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

struct CpuSessionState(CpuState);

impl State for CpuSessionState {
    fn run(&mut self, step: &Step<'_>) -> Result<(), RuntimeError> {
        let inputs: Vec<Input<'_>> = step
            .inputs
            .iter()
            .map(|input| match *input {
                InputData::I32(data) => Input::I32(data),
                InputData::F32(data) => Input::F32(data),
            })
            .collect();
        let spans: Vec<SeqSpan<'_>> = step
            .spans
            .iter()
            .map(|span| SeqSpan { start: span.start, len: span.len, past: span.past, blocks: span.blocks })
            .collect();
        Ok(self.0.run(step.bindings, &inputs, &spans, step.cross)?)
    }

    fn output(&self, index: usize) -> Result<&[f32], RuntimeError> {
        Ok(self.0.output(index)?)
    }

    fn output_mut(&mut self, index: usize) -> Result<&mut [f32], RuntimeError> {
        Ok(self.0.output_mut(index)?)
    }

    fn reserve_blocks(&mut self, count: usize) {
        self.0.reserve_blocks(count);
    }

    fn copy_block(&mut self, from: u32, to: u32) {
        self.0.copy_block(from, to);
    }

    fn block_bytes(&self) -> usize {
        self.0.block_bytes()
    }

    fn export_block(&mut self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.block(id));
    }

    fn import_block(&mut self, id: u32, data: &[u8]) {
        self.0.block_mut(id).copy_from_slice(data);
    }

    fn set_profiling(&mut self, on: bool) {
        self.0.set_profiling(on);
    }

    fn profile(&self) -> Vec<StepProfile> {
        let times = self.0.times().into_iter();
        times
            .map(|step| StepProfile {
                op: step.op,
                label: step.label,
                detail: step.detail,
                runs: step.runs,
                seconds: step.seconds,
                weight_bytes: step.weight_bytes,
            })
            .collect()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}
