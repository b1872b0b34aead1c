//! ggml block formats: layout, exact dequantisation and quantisation.
