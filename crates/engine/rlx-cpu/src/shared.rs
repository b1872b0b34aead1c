//! Slices that several threads of one step write to at once, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice shared by the threads of a step. Kernels take disjoint parts of it.
#[derive(Clone, Copy)]
pub struct SharedSlice<'a, T> {
    ptr: *mut T,
    len: usize,
    _owner: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `part`/`all`, whose callers promise that threads touch disjoint parts between barriers.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Shares `slice` among threads for its lifetime.
    pub fn new(slice: &'a mut [T]) -> SharedSlice<'a, T> {
        SharedSlice { ptr: slice.as_mut_ptr(), len: slice.len(), _owner: PhantomData }
    }

    /// Shares `len` elements at `ptr`.
    ///
    /// # Safety
    /// The memory must be valid for reads and writes for `'a`, and not be used otherwise meanwhile.
    pub unsafe fn from_raw(ptr: *mut T, len: usize) -> SharedSlice<'a, T> {
        SharedSlice { ptr, len, _owner: PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements from `start` on, still shared.
    ///
    /// # Panics
    /// If there are fewer than `start`.
    pub fn from(&self, start: usize) -> SharedSlice<'a, T> {
        assert!(start <= self.len, "elements from {start} on, of {}", self.len);
        SharedSlice { ptr: self.ptr.wrapping_add(start), len: self.len - start, _owner: PhantomData }
    }

    /// The elements `range`, to write.
    ///
    /// # Safety
    /// Until the next barrier no other thread may touch any element of `range`.
    ///
    /// # Panics
    /// If `range` reaches beyond the end.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part {range:?} of {}", self.len);
        // SAFETY: in bounds by the check above; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(range.start), range.len()) }
    }

    /// All elements, to read.
    ///
    /// # Safety
    /// Until the next barrier no thread may write any element.
    pub unsafe fn all(&self) -> &'a [T] {
        // SAFETY: valid by construction; not written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// The address of the first element, for strided kernels that promise disjointness themselves.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.ptr
    }
}
