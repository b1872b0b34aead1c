//! Building blocks on the RLX graph: linear, norms, RoPE, attention, MLP, and the decoder specification.
