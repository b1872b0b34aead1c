//! Checkpoints: safetensors and GGUF readers and writers, name rules, inspection.
