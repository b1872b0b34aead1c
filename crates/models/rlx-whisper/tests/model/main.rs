//! The network on small random models: batches, forks, formats of files, damaged files and configs.

mod files;
mod formats;
mod running;
