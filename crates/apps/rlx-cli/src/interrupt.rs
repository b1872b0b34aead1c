//! Ctrl-C: the first press asks to stop, the second ends the program.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static PRESSES: AtomicUsize = AtomicUsize::new(0);
static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();

/// Whether the user pressed Ctrl-C. All copies look at the same count.
#[derive(Debug, Clone, Copy)]
pub struct Interrupt {
    _installed: (),
}

impl Interrupt {
    /// Installs the handler once per process.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let installed = INSTALLED.get_or_init(|| {
            let handler = || {
                if PRESSES.fetch_add(1, Ordering::SeqCst) > 0 {
                    std::process::exit(130);
                }
            };
            ctrlc::set_handler(handler).map_err(|e| e.to_string())
        });
        match installed {
            Ok(()) => Ok(Interrupt { _installed: () }),
            Err(e) => anyhow::bail!("cannot listen for Ctrl-C: {e}"),
        }
    }

    /// True once Ctrl-C was pressed.
    pub fn is_set(self) -> bool {
        PRESSES.load(Ordering::SeqCst) > 0
    }

    /// As [`Interrupt::is_set`], and forgets the press: what was asked to stop has stopped.
    pub fn take(self) -> bool {
        PRESSES.swap(0, Ordering::SeqCst) > 0
    }
}
