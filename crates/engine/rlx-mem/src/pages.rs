//! Where aligned buffers get their memory: the heap for small ones, fresh pages for large ones.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const ALIGN: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory, aligned to 64 bytes; from 2 MB on to 2 MB, in fresh pages that count as resident only when written.
pub(crate) struct Allocation {
    ptr: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the allocation is plain memory that its owner holds alone.
unsafe impl Send for Allocation {}
// SAFETY: as above; nothing here writes through `&self`.
unsafe impl Sync for Allocation {}

impl Allocation {
    /// `bytes` zeroed bytes.
    ///
    /// # Panics
    /// If they exceed the address space.
    pub(crate) fn zeroed(bytes: usize) -> Allocation {
        let large = bytes >= HUGE_PAGE;
        let (bytes, align) =
            if large { (bytes.next_multiple_of(HUGE_PAGE), HUGE_PAGE) } else { (bytes.max(ALIGN), ALIGN) };
        let layout = Layout::from_size_align(bytes, align).expect("buffer size overflows");
        let raw = if large { map_zeroed(layout) } else { heap_zeroed(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        Allocation { ptr, layout }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.layout.size() >= HUGE_PAGE { unmap(self.ptr, self.layout) } else { heap_free(self.ptr, self.layout) }
    }
}

fn heap_zeroed(layout: Layout) -> *mut u8 {
    // SAFETY: callers pass a layout of at least 64 bytes.
    unsafe { alloc_zeroed(layout) }
}

fn heap_free(ptr: NonNull<u8>, layout: Layout) {
    // SAFETY: `ptr` came from `heap_zeroed` with this layout.
    unsafe { dealloc(ptr.as_ptr(), layout) }
}

/// Fresh anonymous pages on a 2 MB boundary, in huge pages if the system grants them. Null if it refuses.
///
/// The allocator's own zeroed memory would be written through once when the alignment is this large.
#[cfg(target_os = "linux")]
fn map_zeroed(layout: Layout) -> *mut u8 {
    let (size, align) = (layout.size(), layout.align());
    let Some(padded) = size.checked_add(align) else { return std::ptr::null_mut() };
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches nothing that exists; the two
    // `munmap` calls give back exactly the parts of it before and after the aligned range; `madvise` is advice.
    unsafe {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let base = libc::mmap(std::ptr::null_mut(), padded, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        if base == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        let base = base.cast::<u8>();
        let head = base.align_offset(align);
        if head > 0 {
            libc::munmap(base.cast(), head);
        }
        let start = base.add(head);
        if padded - head > size {
            libc::munmap(start.add(size).cast(), padded - head - size);
        }
        libc::madvise(start.cast(), size, libc::MADV_HUGEPAGE);
        start
    }
}

#[cfg(target_os = "linux")]
fn unmap(ptr: NonNull<u8>, layout: Layout) {
    // SAFETY: `map_zeroed` made exactly this range.
    unsafe {
        libc::munmap(ptr.as_ptr().cast(), layout.size());
    }
}

#[cfg(not(target_os = "linux"))]
fn map_zeroed(layout: Layout) -> *mut u8 {
    heap_zeroed(layout)
}

#[cfg(not(target_os = "linux"))]
fn unmap(ptr: NonNull<u8>, layout: Layout) {
    heap_free(ptr, layout)
}
