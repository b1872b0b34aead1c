//! Zeroed, 64-byte aligned buffers of plain numbers.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::{AnyBitPattern, NoUninit};

use crate::pages::{Allocation, PageArena};

/// A zeroed buffer of `T`, aligned to 64 bytes (a cache line, a ZMM register, an AMX tile row).
pub struct AlignedBuf<T> {
    memory: Allocation,
    len: usize,
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
        let bytes = len.checked_mul(size_of::<T>()).expect("buffer size overflows");
        AlignedBuf { memory: Allocation::zeroed(bytes), len, _element: PhantomData }
    }

    /// As [`zeroed`](Self::zeroed), in pages that it shares with other buffers of `arena`.
    ///
    /// # Panics
    /// As [`zeroed`](Self::zeroed).
    pub fn zeroed_in(arena: &mut PageArena, len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>()).expect("buffer size overflows");
        AlignedBuf { memory: arena.allocate(bytes), len, _element: PhantomData }
    }

    /// A copy of `data`.
    pub fn from_slice(data: &[T]) -> Self {
        let mut buf = Self::zeroed(data.len());
        buf.copy_from_slice(data);
        buf
    }
}

impl<T> Deref for AlignedBuf<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements were allocated zeroed, which is a valid `T` (AnyBitPattern, checked at construction).
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }
}

impl<T> DerefMut for AlignedBuf<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().cast(), self.len) }
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

    #[test]
    fn buffers_of_an_arena_are_apart_and_outlive_it() {
        let mut arena = PageArena::new();
        let sizes = [1usize, 100, 3 << 20, 0, 40 << 20, 50 << 20, 7];
        let mut bufs: Vec<_> = sizes.iter().map(|&len| AlignedBuf::<u8>::zeroed_in(&mut arena, len)).collect();
        drop(arena);
        for (i, buf) in bufs.iter_mut().enumerate() {
            assert_eq!((buf.as_ptr() as usize % 64, buf.len()), (0, sizes[i]));
            assert!(buf.iter().all(|&x| x == 0), "buffer {i} is zero before it is written");
            buf.fill(i as u8 + 1);
        }
        bufs.swap_remove(1);
        for buf in &bufs {
            assert!(buf.windows(2).all(|pair| pair[0] == pair[1]), "nobody else wrote here");
        }
    }
}
