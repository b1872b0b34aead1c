//! Building blocks on the RLX graph: linear, norms, RoPE, attention, MLP, and the decoder specification.
//!
//! Models write mathematics with [`Flow`]; language models are data, a [`DecoderSpec`].

mod decoder;
mod flow;
mod rope;

pub use decoder::{
    AttentionLayer, DecoderSpec, LayerSpec, Mlp, MoeLayer, NormKind, NormPlacement, NormSpec, PerLayerInputs, Taps,
};
pub use flow::{Biases, Conv1d, Distances, Flow, FlowError, RopeTable, Tensor};
pub use rlx_ir::{Activation, Graph, RouterScore, Window};
pub use rope::{RopeScaling, RopeSpec, Yarn};
