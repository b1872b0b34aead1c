//! Zeroed, 64-byte aligned buffers of plain numbers.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytemuck::{AnyBitPattern, NoUninit};

/// From this size on a buffer starts on a 2 MB boundary and asks for huge pages.
const HUGE_PAGE: usize = 2 << 20;
const ALIGN: usize = 64;

/// A zeroed buffer of `T`, aligned to 64 bytes (a cache line, a ZMM register, an AMX tile row).
pub struct AlignedBuf<T> {
    ptr: NonNull<u8>,
    len: usize,
    layout: Layout,
    _element: PhantomData<T>,
}

// SAFETY: the buffer owns its memory exclusively and `T` is plain data, so it moves and is shared like a `Box<[T]>`.
unsafe impl<T: Send> Send for AlignedBuf<T> {}
// SAFETY: as above; shared access only hands out `&[T]`.
unsafe impl<T: Sync> Sync for AlignedBuf<T> {}

impl<T: AnyBitPattern + NoUninit> AlignedBuf<T> {
    /// `len` zeroed elements. Pages of a large buffer are only touched (and counted as resident) when written.
    ///
    /// # Panics
    /// If `len` elements exceed the address space; callers check sizes that come from files first.
    pub fn zeroed(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>()).expect("buffer size overflows").max(ALIGN);
        let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
        let layout = Layout::from_size_align(bytes, align).expect("buffer size overflows");
        // SAFETY: `layout` has non-zero size.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        if bytes >= HUGE_PAGE {
            advise_huge(ptr, bytes);
        }
        AlignedBuf { ptr, len, layout, _element: PhantomData }
    }

    /// A copy of `data`.
    pub fn from_slice(data: &[T]) -> Self {
        let mut buf = Self::zeroed(data.len());
        buf.copy_from_slice(data);
        buf
    }
}

#[cfg(target_os = "linux")]
fn advise_huge(ptr: NonNull<u8>, bytes: usize) {
    // SAFETY: the range was just allocated, starts on a page boundary (2 MB alignment) and madvise only changes how it
    // is backed. A refusal costs speed alone, so the result is not needed.
    unsafe {
        libc::madvise(ptr.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_ptr: NonNull<u8>, _bytes: usize) {}

impl<T> Drop for AlignedBuf<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this very layout; plain data needs no drop of its own.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

impl<T> Deref for AlignedBuf<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements were allocated zeroed, which is a valid `T` (AnyBitPattern, checked at construction).
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for AlignedBuf<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), self.len) }
    }
}

impl<T> std::fmt::Debug for AlignedBuf<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} x {} bytes)", self.len, size_of::<T>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_and_zeroed_at_every_size() {
        for len in [0usize, 1, 15, 4096, 3 << 20] {
            let mut buf = AlignedBuf::<f32>::zeroed(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_ptr() as usize % 64, 0);
            assert!(buf.iter().all(|&x| x == 0.0));
            if let Some(last) = buf.last_mut() {
                *last = 1.0;
                assert_eq!(buf[len - 1], 1.0);
            }
        }
    }
}
