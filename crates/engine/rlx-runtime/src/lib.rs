//! Devices, compilation, sessions, KV cache and state of the RLX engine.
