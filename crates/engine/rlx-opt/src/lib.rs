//! Graph passes of the RLX compiler: fusion and memory planning.
