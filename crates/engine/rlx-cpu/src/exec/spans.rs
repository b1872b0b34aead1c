//! The sequences of a batch under each symbol of the graph.

use rlx_ir::{Dim, Graph, Op, Shape, Symbol, ValueId};
use rlx_opt::MemoryPlan;

use super::CpuError;
use crate::attention::SeqSpan;

/// Which rows form sequences: as given for the symbols that are bound, one after the other for those that a convolution
/// derives.
pub(super) struct SpanTable<'a> {
    given: &'a [SeqSpan<'a>],
    /// By symbol; none for those that are bound.
    derived: Vec<Option<Vec<SeqSpan<'a>>>>,
}

impl<'a> SpanTable<'a> {
    pub(super) fn new(graph: &Graph, given: &'a [SeqSpan<'a>]) -> SpanTable<'a> {
        let symbols = (0..graph.symbols().len()).map(|index| Symbol(index as u16));
        let derive = |symbol: Symbol| {
            let mut start = 0;
            let spans = given.iter().map(|span| {
                let len = graph.sequence_len(symbol, span.len);
                start += len;
                SeqSpan { start: start - len, len, past: 0, blocks: &[] }
            });
            spans.collect()
        };
        let derived = symbols.map(|symbol| graph.is_derived(symbol).then(|| derive(symbol)));
        SpanTable { given, derived: derived.collect() }
    }

    /// The spans of a value of this shape.
    pub(super) fn of(&self, shape: &Shape) -> &[SeqSpan<'a>] {
        match shape.dims().first() {
            Some(Dim::Symbolic { symbol, .. }) => self.derived[symbol.0 as usize].as_deref().unwrap_or(self.given),
            _ => self.given,
        }
    }

    /// Sequences must lie in the rows of what is computed by sequence, and convolutions see none of their past.
    pub(super) fn check(&self, graph: &Graph, plan: &MemoryPlan) -> Result<(), CpuError> {
        for node in graph.nodes() {
            let by_sequence = matches!(
                node.op,
                Op::Conv1d(_)
                    | Op::Attention(_)
                    | Op::FusedAttention { .. }
                    | Op::BiasedAttention { .. }
                    | Op::StoreCrossKv(_)
                    | Op::CrossAttention(_)
                    | Op::CrossWeights { .. }
            );
            let Some(&x) = node.inputs.first().filter(|_| by_sequence) else { continue };
            let rows = plan.rows[x.index()];
            let inside = |span: &SeqSpan<'_>| span.start.checked_add(span.len).is_some_and(|end| end <= rows);
            if let Some(span) = self.of(&graph.value(x).shape).iter().find(|span| !inside(span)) {
                return Err(CpuError::Span(format!("of {} rows from {} on, in {rows} rows", span.len, span.start)));
            }
            let empty = |id: &ValueId| rows > 0 && plan.rows[id.index()] == 0;
            if matches!(node.op, Op::BiasedAttention { .. }) && node.inputs.iter().any(empty) {
                return Err(CpuError::Input { name: node.label.clone(), what: "there are no distances".into() });
            }
        }
        let convolves = graph.nodes().iter().any(|node| matches!(node.op, Op::Conv1d(_)));
        match self.given.iter().find(|span| convolves && span.past > 0) {
            Some(span) => {
                Err(CpuError::Span(format!("has {} earlier rows, of which convolutions know nothing", span.past)))
            }
            None => Ok(()),
        }
    }
}
