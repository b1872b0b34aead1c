//! AArch64 kernels (Advanced SIMD with the dot-product instructions): a register holds a quarter of a line, 4 rows x 4 columns, or
//! 4 f32. Run under an emulator only: their results are tested, their speed is not known.

mod float;
mod int8;
mod unpack;

pub(crate) use float::float;
pub(crate) use int8::int8;
