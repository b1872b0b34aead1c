//! The plan as text, and times per step.

use std::fmt::Write;

use rlx_opt::MemoryPlan;

use super::{CpuError, CpuProgram, CpuState};

/// Time spent in one step, summed over runs.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTimes {
    /// The op.
    pub op: &'static str,
    /// Where it stands in the model.
    pub label: String,
    /// Its attributes.
    pub detail: String,
    /// How often it ran.
    pub runs: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Bytes of weights that one run reads.
    pub weight_bytes: usize,
}

impl CpuProgram {
    /// The plan for `bindings`, with all rows one sequence: each step with its kernel's op, what it reads of the weights, and where its results lie. Every
    /// step but an input is one parallel region, ended by one barrier.
    ///
    /// # Errors
    /// If a symbol is unbound.
    pub fn explain(&self, bindings: &[usize]) -> Result<String, CpuError> {
        let graph = &self.graph;
        let bindings = &graph.bind_derived(bindings, bindings.get(..1).unwrap_or_default())?;
        let plan = MemoryPlan::new(graph, bindings)?;
        let mut text = String::new();
        let regions = graph.nodes().iter().filter(|node| node.op != rlx_ir::Op::Input).count();
        let bound: Vec<String> =
            graph.symbols().iter().zip(bindings).map(|(name, value)| format!("{name}={value}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "plan for {}: {regions} regions, arena {} bytes, weights {} bytes, {} threads, {}, precision {:?}",
            bound.join(" "),
            plan.arena_bytes,
            self.weight_bytes(),
            self.pool.threads(),
            self.options.isa,
            self.options.precision,
        );
        for (index, node) in graph.nodes().iter().enumerate() {
            let _ = write!(text, "{index:>4} {:<16} {:<32}", node.op.name(), node.label);
            for id in &node.outputs {
                let shape = &graph.value(*id).shape;
                let _ = write!(text, " %{}{}@{}", id.0, shape.display(graph.symbols()), plan.offsets[id.index()]);
            }
            let weights = self.weight_bytes_of(&node.op);
            if weights > 0 {
                let _ = write!(text, " weights={weights}");
            }
            let detail = graph.describe(&node.op);
            if !detail.is_empty() {
                let _ = write!(text, " {{{detail}}}");
            }
            text.push('\n');
        }
        Ok(text)
    }
}

impl CpuState {
    /// Times per step since profiling was turned on; nothing if it is off.
    pub fn times(&self) -> Vec<StepTimes> {
        let Some(times) = &self.times else { return vec![] };
        let graph = &self.program.graph;
        let steps = graph.nodes().iter().zip(times).filter(|(_, (runs, _))| *runs > 0);
        steps
            .map(|(node, (runs, time))| StepTimes {
                op: node.op.name(),
                label: node.label.clone(),
                detail: graph.describe(&node.op),
                runs: *runs,
                seconds: time.as_secs_f64(),
                weight_bytes: self.program.weight_bytes_of(&node.op),
            })
            .collect()
    }
}
