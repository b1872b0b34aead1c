//! Where each value lives: one arena, shared by values of one size whose lives do not overlap.
//!
//! Of one size, because threads share out rows: rows of values of one size lie in the same places, so that a thread writes over what it
//! has in its own cache. Where threads share no cache (each on another die of an AMD processor, or in another socket), writing over
//! another's rows waits for every line of them, which costs encoders more than a smaller arena gains.

use rlx_ir::{Graph, Op};

/// Every value starts on a cache line, which is also a ZMM register.
const ALIGN: usize = 64;

/// Sizes that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A symbol has no value, or a size overflows.
    #[error("value %{0} has no size under the bindings {1:?}")]
    Unsized(u32, Vec<usize>),
}

/// The arena's layout for one binding of the symbols.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// Byte offset of each value.
    pub offsets: Vec<usize>,
    /// Elements of each value (all are 4 bytes wide).
    pub elements: Vec<usize>,
    /// Rows of each value.
    pub rows: Vec<usize>,
    /// Size of the arena in bytes.
    pub arena_bytes: usize,
}

/// A place in the arena, and the node that last reads the value that is there.
struct Slot {
    offset: usize,
    bytes: usize,
    last_use: usize,
}

impl MemoryPlan {
    /// Plans `graph` under `bindings`: by time, each value where one of its size was last read. Outputs live to the end.
    ///
    /// # Errors
    /// If a symbol is unbound or a size overflows.
    pub fn new(graph: &Graph, bindings: &[usize]) -> Result<MemoryPlan, PlanError> {
        let count = graph.values().len();
        let mut plan =
            MemoryPlan { offsets: vec![0; count], elements: vec![0; count], rows: vec![0; count], arena_bytes: 0 };
        let last_use = last_uses(graph);
        let mut slots: Vec<Slot> = Vec::new();
        // Inputs are in place before the first step, wherever they are declared.
        let (inputs, steps): (Vec<_>, Vec<_>) =
            graph.nodes().iter().enumerate().partition(|(_, node)| node.op == Op::Input);
        for (time, node) in inputs.into_iter().chain(steps) {
            for &id in &node.outputs {
                let fail = || PlanError::Unsized(id.0, bindings.to_vec());
                let shape = &graph.value(id).shape;
                let elements = shape.elements(bindings).ok_or_else(fail)?;
                let bytes = elements.checked_mul(4).and_then(|n| n.checked_next_multiple_of(ALIGN)).ok_or_else(fail)?;
                let is_free = |slot: &&mut Slot| node.op != Op::Input && slot.bytes == bytes && slot.last_use < time;
                let free = slots.iter_mut().filter(is_free);
                let last_use = last_use[id.index()].max(time);
                plan.offsets[id.index()] = match free.max_by_key(|slot| slot.last_use) {
                    Some(slot) => {
                        slot.last_use = last_use;
                        slot.offset
                    }
                    None => {
                        let offset = plan.arena_bytes;
                        plan.arena_bytes = offset.checked_add(bytes).ok_or_else(fail)?;
                        slots.push(Slot { offset, bytes, last_use });
                        offset
                    }
                };
                plan.elements[id.index()] = elements;
                plan.rows[id.index()] = shape.row_count(bindings).ok_or_else(fail)?;
            }
        }
        Ok(plan)
    }
}

/// The node that reads each value last; outputs of the graph outlive all nodes.
fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.values().len()];
    for (time, node) in graph.nodes().iter().enumerate() {
        for id in &node.inputs {
            last[id.index()] = time;
        }
    }
    for (_, id) in graph.outputs() {
        last[id.index()] = graph.nodes().len();
    }
    last
}
