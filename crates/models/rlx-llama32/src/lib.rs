//! Llama 3.x, SmolLM2 and every GGUF of architecture llama.
