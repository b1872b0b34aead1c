//! Fusions around matrix products.

use rlx_ir::{Activation, BinaryOp, Conv1dSpec, Epilogue, LinearPart, Node, Norm, Op, UnaryOp};

use crate::rewrite::Rewriter;

/// `act(x W1) * (x W2)` -> one gated linear.
pub(crate) fn fuse_gates(r: &mut Rewriter<'_>) {
    for index in 0..r.len() {
        let Some((gate, up, activation, mut absorbed)) = match_gate(r, index) else { continue };
        let (Some((gate_index, gate_node)), Some((up_index, up_node))) =
            (r.sole_use_producer(gate), r.sole_use_producer(up))
        else {
            continue;
        };
        let (Op::Linear(gate_part), Op::Linear(up_part)) = (&gate_node.op, &up_node.op) else { continue };
        if gate_node.inputs != up_node.inputs {
            continue;
        }
        let node = Node {
            op: Op::FusedLinear {
                norm: None,
                parts: vec![*gate_part, *up_part],
                epilogue: Epilogue::Gated(activation),
            },
            inputs: gate_node.inputs.clone(),
            outputs: outputs_of(r, index),
            label: parent_label(&gate_node.label),
        };
        absorbed.extend([gate_index, up_index]);
        r.replace(index, node, &absorbed);
    }
}

/// Node `index` as `act(gate) * up`, written as one op or as two: the two values, the activation, and the nodes it takes
/// besides `index`.
fn match_gate(r: &Rewriter<'_>, index: usize) -> Option<(rlx_ir::ValueId, rlx_ir::ValueId, Activation, Vec<usize>)> {
    let node = r.node(index)?;
    match node.op {
        Op::Gated(activation) => Some((node.inputs[0], node.inputs[1], activation, vec![])),
        Op::Binary(BinaryOp::Mul) => {
            let (a, b) = (node.inputs[0], node.inputs[1]);
            [(a, b), (b, a)].into_iter().find_map(|(activated, up)| {
                let (inner_index, inner) = r.sole_use_producer(activated)?;
                match inner.op {
                    Op::Unary(UnaryOp::Activation(activation)) => {
                        Some((inner.inputs[0], up, activation, vec![inner_index]))
                    }
                    _ => None,
                }
            })
        }
        _ => None,
    }
}

/// Linears of one input (Q, K and V) -> one pass over it. They stay within a stretch of the graph: the fused node stands
/// where the first one stood, which is right for all since they read the same value. A stretch ends where something is kept
/// ([`Op::StoreCrossKv`]): the keys and values of all layers read one value, but must not all be there at once.
pub(crate) fn fuse_siblings(r: &mut Rewriter<'_>) {
    for first in 0..r.len() {
        let Some(Node { op: Op::Linear(_), inputs, label, .. }) = r.node(first) else { continue };
        let (inputs, label) = (inputs.clone(), label.clone());
        let siblings: Vec<(usize, LinearPart)> = (first..r.len())
            .take_while(|&index| !matches!(r.node(index), Some(Node { op: Op::StoreCrossKv(_), .. })))
            .filter_map(|index| match r.node(index) {
                Some(Node { op: Op::Linear(part), inputs: other, .. }) if *other == inputs => Some((index, *part)),
                _ => None,
            })
            .collect();
        let outputs = siblings.iter().flat_map(|&(index, _)| outputs_of(r, index)).collect();
        let parts = siblings.iter().map(|&(_, part)| part).collect::<Vec<_>>();
        let label = if parts.len() > 1 { parent_label(&label) } else { label };
        let absorbed: Vec<usize> = siblings[1..].iter().map(|&(index, _)| index).collect();
        let op = Op::FusedLinear { norm: None, parts, epilogue: Epilogue::None };
        r.replace(first, Node { op, inputs, outputs, label }, &absorbed);
    }
}

/// `residual + x W` and `act(x W)` -> the product's epilogue.
pub(crate) fn fuse_epilogues(r: &mut Rewriter<'_>) {
    for index in 0..r.len() {
        let Some(node) = r.node(index) else { continue };
        let (candidates, activation) = match node.op {
            Op::Binary(BinaryOp::Add) => {
                (vec![(node.inputs[1], Some(node.inputs[0])), (node.inputs[0], Some(node.inputs[1]))], None)
            }
            Op::Unary(UnaryOp::Activation(activation)) => (vec![(node.inputs[0], None)], Some(activation)),
            _ => continue,
        };
        let found = candidates.into_iter().find_map(|(product, residual)| {
            let (linear_index, linear) = r.sole_use_producer(product)?;
            match &linear.op {
                Op::FusedLinear { norm, parts, epilogue: Epilogue::None } if parts.len() == 1 => {
                    Some((linear_index, linear.clone(), *norm, parts.clone(), residual))
                }
                _ => None,
            }
        });
        let Some((linear_index, linear, norm, parts, residual)) = found else { continue };
        let epilogue = activation.map_or(Epilogue::Add, Epilogue::Activation);
        let node = Node {
            op: Op::FusedLinear { norm, parts, epilogue },
            inputs: linear.inputs.iter().copied().chain(residual).collect(),
            outputs: outputs_of(r, index),
            label: linear.label,
        };
        r.replace(index, node, &[linear_index]);
    }
}

/// `act(conv(x))` -> the convolution's activation.
pub(crate) fn fuse_conv_activations(r: &mut Rewriter<'_>) {
    for index in 0..r.len() {
        let Some(Node { op: Op::Unary(UnaryOp::Activation(activation)), inputs, .. }) = r.node(index) else { continue };
        let Some((conv_index, Node { op: Op::Conv1d(spec), inputs, label, .. })) = r.sole_use_producer(inputs[0])
        else {
            continue;
        };
        if spec.activation.is_some() {
            continue;
        }
        let op = Op::Conv1d(Conv1dSpec { activation: Some(*activation), ..*spec });
        let node = Node { op, inputs: inputs.clone(), outputs: outputs_of(r, index), label: label.clone() };
        r.replace(index, node, &[conv_index]);
    }
}

/// `norm(x) W` -> the product's prologue, where the normalised row has no other reader.
pub(crate) fn fuse_norms(r: &mut Rewriter<'_>) {
    for index in 0..r.len() {
        let Some(node) = r.node(index) else { continue };
        let Op::FusedLinear { norm: None, parts, epilogue } = &node.op else { continue };
        let Some((norm_index, norm_node)) = r.sole_use_producer(node.inputs[0]) else { continue };
        let Op::Norm { norm, group: None } = &norm_node.op else { continue };
        // A norm without weight has nothing to fold but the scale; backends take the weighted forms.
        if matches!(norm, Norm::Rms { weight: None, .. } | Norm::Layer { weight: None, .. }) {
            continue;
        }
        let mut inputs = node.inputs.clone();
        inputs[0] = norm_node.inputs[0];
        let node = Node {
            op: Op::FusedLinear { norm: Some(*norm), parts: parts.clone(), epilogue: *epilogue },
            inputs,
            outputs: node.outputs.clone(),
            label: node.label.clone(),
        };
        r.replace(index, node, &[norm_index]);
    }
}

fn outputs_of(r: &Rewriter<'_>, index: usize) -> Vec<rlx_ir::ValueId> {
    r.node(index).map(|node| node.outputs.clone()).unwrap_or_default()
}

/// `layers.3.mlp` of `layers.3.mlp.gate_proj`.
fn parent_label(label: &str) -> String {
    label.rsplit_once('.').map_or(label, |(parent, _)| parent).to_string()
}
