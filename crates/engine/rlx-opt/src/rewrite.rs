//! The working form of a graph while passes rewrite it.

use rlx_ir::{Graph, Node, Op, ValueId};

/// Nodes that can be taken out and replaced, with who makes and who reads each value kept up to date.
pub(crate) struct Rewriter<'g> {
    pub(crate) graph: &'g Graph,
    nodes: Vec<Option<Node>>,
    producer: Vec<Option<usize>>,
    uses: Vec<usize>,
}

impl<'g> Rewriter<'g> {
    pub(crate) fn new(graph: &'g Graph) -> Rewriter<'g> {
        let mut producer = vec![None; graph.values().len()];
        for (index, node) in graph.nodes().iter().enumerate() {
            for id in &node.outputs {
                producer[id.index()] = Some(index);
            }
        }
        let nodes = graph.nodes().iter().cloned().map(Some).collect();
        Rewriter { graph, nodes, producer, uses: graph.use_counts() }
    }

    /// Number of node slots; a slot may be empty.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node in a slot.
    pub(crate) fn node(&self, index: usize) -> Option<&Node> {
        self.nodes[index].as_ref()
    }

    /// The node that makes `value`, if that value is read exactly once (so that the node can be folded into its reader).
    pub(crate) fn sole_use_producer(&self, value: ValueId) -> Option<(usize, &Node)> {
        if self.uses[value.index()] != 1 {
            return None;
        }
        let index = self.producer[value.index()]?;
        Some((index, self.nodes[index].as_ref()?))
    }

    /// Puts `node` into slot `index`, in place of what is there, and takes the nodes `absorbed` out.
    pub(crate) fn replace(&mut self, index: usize, node: Node, absorbed: &[usize]) {
        for &slot in absorbed.iter().chain([&index]) {
            if let Some(old) = self.nodes[slot].take() {
                for id in &old.inputs {
                    self.uses[id.index()] -= 1;
                }
                for id in &old.outputs {
                    self.producer[id.index()] = None;
                }
            }
        }
        for id in &node.inputs {
            self.uses[id.index()] += 1;
        }
        for id in &node.outputs {
            self.producer[id.index()] = Some(index);
        }
        self.nodes[index] = Some(node);
    }

    /// Takes out nodes whose results nobody reads. Inputs stay, since they are the graph's interface, and so do nodes without
    /// results, which are there for what they keep.
    pub(crate) fn remove_dead_nodes(&mut self) {
        for index in (0..self.nodes.len()).rev() {
            let Some(node) = &self.nodes[index] else { continue };
            if node.op != Op::Input
                && !node.outputs.is_empty()
                && node.outputs.iter().all(|id| self.uses[id.index()] == 0)
            {
                for id in &node.inputs {
                    self.uses[id.index()] -= 1;
                }
                self.nodes[index] = None;
            }
        }
    }

    /// The nodes that are left, in order.
    pub(crate) fn finish(self) -> Vec<Node> {
        self.nodes.into_iter().flatten().collect()
    }
}
