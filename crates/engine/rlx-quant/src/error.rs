//! What can go wrong with a packed tensor.

use rlx_ir::DType;

/// Why a conversion to or from a block type was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// The operation does not exist for this type.
    #[error("{operation} is not available for type {dtype}")]
    UnsupportedType {
        /// The type asked for.
        dtype: DType,
        /// What was to be done, e.g. `"quantisation"`.
        operation: &'static str,
    },
    /// The number of elements is no whole number of blocks.
    #[error("{elements} elements are no whole number of {dtype} blocks of {} elements", .dtype.block_len())]
    PartialBlock {
        /// The block type.
        dtype: DType,
        /// Elements given.
        elements: usize,
    },
    /// The number of elements is no whole number of rows.
    #[error("{elements} elements to be packed as {dtype} are no whole number of rows of {row_len}")]
    PartialRow {
        /// The type packed into.
        dtype: DType,
        /// Elements given.
        elements: usize,
        /// Row length given.
        row_len: usize,
    },
    /// A buffer has the wrong length.
    #[error("{what} for {dtype} must have length {expected}, but has length {found}")]
    Size {
        /// The type being converted.
        dtype: DType,
        /// Which buffer, e.g. `"packed bytes"`.
        what: &'static str,
        /// Length needed: bytes for packed data, elements otherwise.
        expected: usize,
        /// Length given.
        found: usize,
    },
}

/// Bytes that `elements` elements of `dtype` take, or an error if they are no whole blocks.
pub(crate) fn packed_len(dtype: DType, elements: usize) -> Result<usize, QuantError> {
    dtype.bytes_for(elements).ok_or(QuantError::PartialBlock { dtype, elements })
}

/// Checks one buffer length.
pub(crate) fn check_len(dtype: DType, what: &'static str, expected: usize, found: usize) -> Result<(), QuantError> {
    if expected == found { Ok(()) } else { Err(QuantError::Size { dtype, what, expected, found }) }
}
