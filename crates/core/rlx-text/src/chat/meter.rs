//! What a template may use up: bytes made, values visited, depth of nesting.
//!
//! Every operation that makes or walks a value charges the meter for its size first, so neither a string that doubles
//! in a loop nor a list that contains itself many times over can fill the memory or take for ever.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Longest single string.
pub(super) const MAX_STRING: usize = 16 << 20;
/// Bytes made and visited in one rendering.
pub(super) const MAX_WORK: u64 = 256 << 20;
/// Deepest list of lists.
const MAX_DEPTH: usize = 128;
/// Charge for visiting or holding one value.
const NODE: usize = 32;
/// Namespaces may hold each other, beyond the reach of the depth check; so they are few.
const MAX_NAMESPACES: usize = 1000;

/// A limit that was exceeded, as the source of a template error.
#[derive(Debug)]
pub(super) struct LimitReached(pub(super) String);

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LimitReached {}

fn limit(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.clone()).with_source(LimitReached(what))
}

/// Counts what one rendering uses.
#[derive(Clone)]
pub(super) struct Meter {
    left: Arc<AtomicU64>,
    namespaces: Arc<AtomicUsize>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { left: Arc::new(AtomicU64::new(MAX_WORK)), namespaces: Arc::new(AtomicUsize::new(0)) }
    }

    /// Charges `bytes` of work.
    pub(super) fn work(&self, bytes: usize) -> Result<(), Error> {
        let bytes = bytes as u64;
        let left = self.left.load(Ordering::Relaxed);
        if bytes > left {
            return Err(limit(format!("it works through more than {} MiB", MAX_WORK >> 20)));
        }
        self.left.store(left - bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Charges for a string about to be made.
    pub(super) fn string(&self, bytes: usize) -> Result<(), Error> {
        if bytes > MAX_STRING {
            return Err(limit(format!("it makes a string of more than {} MiB", MAX_STRING >> 20)));
        }
        self.work(bytes + NODE)
    }

    /// Charges for a list about to be made.
    pub(super) fn list(&self, len: usize) -> Result<(), Error> {
        self.work(len.saturating_mul(NODE))
    }

    pub(super) fn namespace(&self) -> Result<(), Error> {
        if self.namespaces.fetch_add(1, Ordering::Relaxed) >= MAX_NAMESPACES {
            return Err(limit(format!("it makes more than {MAX_NAMESPACES} namespaces")));
        }
        Ok(())
    }

    /// Charges for the value itself and, for a list, its items; not for what is in those.
    pub(super) fn shallow(&self, v: &Value) -> Result<(), Error> {
        match v.as_str() {
            Some(s) => self.work(s.len()),
            None => self.list(v.len().unwrap_or(1)),
        }
    }

    /// Charges for everything in the value, and refuses deep ones.
    pub(super) fn whole(&self, v: &Value) -> Result<(), Error> {
        self.walk(v, 0)
    }

    /// Charges for a container about to be made of `items`.
    pub(super) fn container<'a>(&self, items: impl IntoIterator<Item = &'a Value>) -> Result<(), Error> {
        items.into_iter().try_for_each(|v| self.walk(v, 1))
    }

    fn walk(&self, v: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(limit(format!("it nests values more than {MAX_DEPTH} deep")));
        }
        self.work(NODE)?;
        match v.kind() {
            ValueKind::String => self.work(v.as_str().map_or(0, str::len) / 16),
            ValueKind::Seq | ValueKind::Iterable => v.try_iter()?.try_for_each(|item| self.walk(&item, depth + 1)),
            ValueKind::Map => v.try_iter()?.try_for_each(|key| {
                self.walk(&key, depth + 1)?;
                self.walk(&v.get_item(&key)?, depth + 1)
            }),
            _ => Ok(()),
        }
    }
}

/// A string that charges the meter as it grows.
pub(super) struct Metered<'a> {
    meter: &'a Meter,
    text: String,
    error: Option<Error>,
}

impl<'a> Metered<'a> {
    pub(super) fn new(meter: &'a Meter) -> Self {
        Self { meter, text: String::new(), error: None }
    }

    /// The text, or the limit it ran into.
    pub(super) fn finish(self, result: Result<(), Error>) -> Result<String, Error> {
        match self.error {
            Some(e) => Err(e),
            None => result.map(|()| self.text),
        }
    }
}

impl fmt::Write for Metered<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let charged = if self.text.len() + s.len() > MAX_STRING {
            self.meter.string(self.text.len() + s.len())
        } else {
            self.meter.work(s.len() + 1)
        };
        if let Err(e) = charged {
            self.error = Some(e);
            return Err(fmt::Error);
        }
        self.text.push_str(s);
        Ok(())
    }
}
