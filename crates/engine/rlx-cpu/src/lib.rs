//! CPU backend of RLX: kernels per instruction set behind one dispatch, thread pool, executor.
