//! Bio_ClinicalBERT (Alsentzer et al. 2019) and BioBERT (Lee et al. 2020): BERT trained on clinical notes and on papers.
//!
//! They are BERT to the last tensor, with the masked-language-model head in the layout `bert.*`, `cls.predictions.*`; so this crate is
//! a name for [`rlx_bert::FillMask`]. Their vectors come from `rlx-embed`, with mean pooling as for any encoder without settings of
//! its own.
//!
//! ```no_run
//! use rlx_clinicalbert::{Checkpoint, ClinicalBert, CompileOptions, OpenOptions};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = Checkpoint::open("Bio_ClinicalBERT".as_ref(), &OpenOptions::default())?;
//! let mut model = ClinicalBert::load(&checkpoint, &CompileOptions::default())?;
//! for word in &model.fill("The patient was given [MASK] for the infection.", 5)?[0] {
//!     println!("{:.3} {}", word.probability, word.token);
//! }
//! # Ok(()) }
//! ```

pub use rlx_bert::{Candidate, FillMask as ClinicalBert};
pub use rlx_runtime::CompileOptions;
pub use rlx_weights::{Checkpoint, OpenOptions};
