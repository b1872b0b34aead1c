//! Task traits, the model registry, generic runners and checkpoint download.

pub mod fetch;
