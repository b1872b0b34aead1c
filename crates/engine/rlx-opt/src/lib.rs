//! Graph passes of the RLX compiler: fusion and memory planning.
//!
//! Models write mathematics; [`optimise`] finds in it the shapes that backends run in one pass (QKV of one input,
//! gate and up with their product, norm before a matmul, residual after it, RoPE and head norms before attention) and
//! [`MemoryPlan`] lays the intermediate values out in one arena.

mod fuse_attention;
mod fuse_linear;
mod memory;
mod rewrite;

use rlx_ir::{Graph, IrError};

pub use memory::{MemoryPlan, PlanError};

/// Runs all passes. The result computes the same outputs from the same inputs.
///
/// # Errors
/// If `graph` does not verify.
pub fn optimise(graph: Graph) -> Result<Graph, IrError> {
    graph.verify()?;
    let mut rewriter = rewrite::Rewriter::new(&graph);
    rewriter.remove_dead_nodes();
    fuse_linear::fuse_gates(&mut rewriter);
    fuse_linear::fuse_siblings(&mut rewriter);
    fuse_linear::fuse_epilogues(&mut rewriter);
    fuse_linear::fuse_conv_activations(&mut rewriter);
    fuse_linear::fuse_norms(&mut rewriter);
    fuse_attention::fuse(&mut rewriter);
    let nodes = rewriter.finish();
    graph.with_nodes(nodes)
}

#[cfg(test)]
mod tests;
