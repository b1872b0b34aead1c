//! Run open-weight models: facade crate and the rlx-run binary.
