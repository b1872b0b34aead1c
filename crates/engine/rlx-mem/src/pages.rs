//! Where aligned buffers get their memory: the heap for small ones, fresh pages for large ones, a part of shared pages for those
//! that are made many at a time.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

const ALIGN: usize = 64;
const PAGE: usize = 4 << 10;
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory, aligned to 64 bytes. From 2 MB on it starts on a 2 MB boundary, in fresh pages that count as resident only when
/// written.
pub(crate) struct Allocation {
    ptr: NonNull<u8>,
    owner: Owner,
}

/// Who gives the memory back.
enum Owner {
    /// This allocation, to the heap.
    Heap(Layout),
    /// This allocation, to the system.
    Pages(Layout),
    /// The last user of the pages that this is a part of.
    Part { _pages: Arc<Allocation> },
}

// SAFETY: the allocation is plain memory that its owner holds alone; parts of shared pages do not overlap.
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
        let (bytes, align) = if large { (bytes.next_multiple_of(PAGE), HUGE_PAGE) } else { (bytes.max(ALIGN), ALIGN) };
        let layout = Layout::from_size_align(bytes, align).expect("buffer size overflows");
        let raw = if large { map_zeroed(layout) } else { heap_zeroed(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        Allocation { ptr, owner: if large { Owner::Pages(layout) } else { Owner::Heap(layout) } }
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        match self.owner {
            Owner::Heap(layout) => heap_free(self.ptr, layout),
            Owner::Pages(layout) => unmap(self.ptr, layout),
            Owner::Part { .. } => {}
        }
    }
}

/// Hands out buffers that lie side by side in huge pages.
///
/// A matrix below 2 MB would sit in small pages, which cost a quarter of the memory bandwidth, and many larger ones would each waste
/// half a huge page at their end. The pages go back to the system when the last buffer in them is dropped.
#[derive(Default)]
pub struct PageArena {
    /// The pages that are being filled, and how many of their bytes are taken.
    open: Option<(Arc<Allocation>, usize)>,
    /// Size of those pages.
    chunk: usize,
    /// Bytes of all pages so far.
    reserved: usize,
}

/// Bytes of pages reserved at first. Only what is written counts as resident.
const CHUNK: usize = 64 << 20;
/// Later pages are as large as this part of all earlier ones: each end wastes a part of a huge page, so there should be few ends,
/// and address space is not free everywhere.
const GROWTH: usize = 2;

impl PageArena {
    /// An arena without pages.
    pub fn new() -> PageArena {
        PageArena::default()
    }

    /// `bytes` zeroed bytes.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Allocation {
        let bytes = bytes.max(ALIGN).checked_next_multiple_of(ALIGN).expect("buffer size overflows");
        if bytes > CHUNK / 2 {
            return Allocation::zeroed(bytes);
        }
        let (pages, taken) = match self.open.take() {
            Some((pages, taken)) if bytes <= self.chunk - taken => (pages, taken),
            _ => {
                self.chunk = CHUNK.max((self.reserved / GROWTH).next_multiple_of(HUGE_PAGE));
                self.reserved += self.chunk;
                (Arc::new(Allocation::zeroed(self.chunk)), 0)
            }
        };
        // SAFETY: `taken + bytes` is at most the size of the pages.
        let ptr = unsafe { pages.ptr.add(taken) };
        self.open = Some((Arc::clone(&pages), taken + bytes));
        Allocation { ptr, owner: Owner::Part { _pages: pages } }
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
