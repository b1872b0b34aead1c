//! What is fetched from memory while a kernel multiplies what the caches have.

use super::lines::CACHE_LINE;
#[cfg(target_arch = "x86_64")]
use crate::math::simd::prefetch_second;

/// How far ahead of the arithmetic weights that stream from memory are fetched into the second-level cache, and into the first, in
/// bytes (0: not).
///
/// Few misses of the first-level cache can wait for memory at a time, so lines come by way of the second; they must be in the first well
/// before they are read, as a miss that waits there takes the place of one that could wait for memory.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    pub(crate) second: usize,
    pub(crate) first: usize,
}

#[cfg(target_arch = "x86_64")]
impl Ahead {
    /// For quants of `bits` bits, found by trying. AMD's processors do better without a second request, and want bytes that are not
    /// unpacked from nearer.
    pub(crate) fn of_quants(bits: usize) -> Ahead {
        match (crate::isa::is_amd(), bits) {
            (false, _) => Ahead { second: 8192, first: 4096 },
            (true, 8) => Ahead { second: 2048, first: 0 },
            (true, 4) => Ahead { second: 7168, first: 0 },
            (true, _) => Ahead { second: 6144, first: 0 },
        }
    }

    /// For floats times `tokens` tokens, found by trying. More than two have arithmetic to wait for.
    pub(crate) fn of_floats(tokens: usize) -> Ahead {
        if tokens > 2 || crate::isa::is_amd() {
            Ahead { second: 0, first: 2048 }
        } else {
            Ahead { second: 8192, first: 4096 }
        }
    }

    /// Fetches the line at `far` into the second-level cache, and the one at `near` into the first.
    ///
    /// Compiled into its caller, so that it takes on its instruction set.
    #[inline(always)]
    pub(crate) fn prefetch(self, near: *const u8, far: *const u8) {
        use std::arch::x86_64::*;
        // SAFETY: prefetching never faults.
        unsafe {
            if self.second > 0 {
                _mm_prefetch::<_MM_HINT_T1>(far.cast());
            }
            if self.first > 0 {
                _mm_prefetch::<_MM_HINT_T0>(near.cast());
            }
        }
    }
}

/// Panel `index` of the `panels` of `bytes` each from `first` on, and the one that is read after it: `next` after the last, and null
/// throughout if that is null, which says that the caches have the panels.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn panel_and_next(
    first: *const u8,
    index: usize,
    panels: usize,
    bytes: usize,
    next: *const u8,
) -> [*const u8; 2] {
    let panel = first.wrapping_add(index * bytes);
    [panel, if next.is_null() || index + 1 == panels { next } else { panel.wrapping_add(bytes) }]
}

/// What a float kernel asks for while it computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetch {
    /// Where that is, for each panel at hand. It is never read, so it need not exist.
    next: [*const u8; 2],
    /// Cache lines for every line of activations; none in a stream.
    share: Option<usize>,
}

impl Fetch {
    /// The panels at hand and then `next` are read from memory in one stream, and fetched a short way ahead.
    pub(crate) fn stream(next: [*const u8; 2]) -> Fetch {
        Fetch { next, share: None }
    }

    /// Share `index` of `of` of the panels that are read next, of `bytes` each, evenly over `lines` lines of activations: asked for all
    /// at once, they would be waited for.
    pub(crate) fn share(next: [*const u8; 2], index: usize, of: usize, bytes: usize, lines: usize) -> Fetch {
        let each = bytes.div_ceil(CACHE_LINE * lines * of);
        let first = index * lines * each * CACHE_LINE;
        let share = if next[0].is_null() || first >= bytes { 0 } else { each };
        Fetch { next: next.map(|panel| panel.wrapping_add(first)), share: Some(share) }
    }

    /// Whether panels are fetched a short way ahead.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn is_stream(self) -> bool {
        self.share.is_none()
    }

    /// What is read after panel `panel`, or a share of it.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn next(self, panel: usize) -> *const u8 {
        self.next[panel]
    }

    /// Asks for what line `line` of the activations brings of the share of panel `panel`, in the second-level cache.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn of_line(self, panel: usize, line: usize) {
        let bytes = self.share.unwrap_or(0) * CACHE_LINE;
        prefetch_second(self.next[panel].wrapping_add(line * bytes), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that all shares ask for, in the order in which they do.
    fn asked(bytes: usize, of: usize, lines: usize) -> Vec<usize> {
        let start = std::ptr::without_provenance(CACHE_LINE);
        (0..of)
            .map(|index| Fetch::share([start; 2], index, of, bytes, lines))
            .flat_map(|fetch| {
                let each = fetch.share.expect("a share");
                (0..each * lines).map(move |line| fetch.next[1].addr() - CACHE_LINE + line * CACHE_LINE)
            })
            .collect()
    }

    #[test]
    fn shares_are_the_panels_once_and_little_beyond() {
        let cases = [(65536, 9, 64), (65536, 64, 64), (640, 3, 7), (64, 1, 1), (100, 2, 40), (4096, 2, 1)];
        for (bytes, of, lines) in cases {
            let asked = asked(bytes, of, lines);
            assert!(asked.iter().enumerate().all(|(i, &at)| at == i * CACHE_LINE), "{bytes} {of} {lines}");
            let end = asked.len() * CACHE_LINE;
            assert!(end >= bytes && end < bytes + of * lines * CACHE_LINE, "{bytes} {of} {lines}: {end}");
        }
    }

    #[test]
    fn nothing_is_asked_for_without_a_next_panel() {
        let asked = |next| Fetch::share([next; 2], 0, 4, 4096, 16).share;
        assert_eq!((asked(std::ptr::null()), asked(b"0".as_ptr())), (Some(0), Some(1)));
    }
}
