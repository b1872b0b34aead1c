//! What the machine can do at best: memory bandwidth and arithmetic, to hold measured speeds against.

use std::time::Instant;

use rlx_mem::AlignedBuf;

use crate::{Isa, SharedSlice, ThreadCtx, ThreadPool};

/// Bytes that are read to measure the memory, at least: few where they can be driven out of the caches, else beyond every cache.
const MEMORY_BYTES: usize = if cfg!(target_arch = "x86_64") { 1 << 26 } else { 1 << 30 };
/// Bytes that each of many threads reads at least.
const THREAD_BYTES: usize = 1 << 23;
/// Measurements of the memory; the median counts.
const MEMORY_ROUNDS: usize = 25;
/// Measurements of each figure of arithmetic; the best counts.
const ROUNDS: usize = 8;
/// Iterations of a block of independent instructions in a round of arithmetic: some 10 ms.
const ITERATIONS: usize = 2_000_000;

/// Peaks of the machine with a number of threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Reading memory, in 10^9 bytes per second.
    pub dram_read_gb_s: f64,
    /// Multiply-adds of F32 in vector registers, in 10^9 operations per second (a multiply-add is two).
    pub f32_gflops: f64,
    /// 8-bit integer products: `vpdpbusd` with VNNI, else `vpmaddubsw` with its sums in 16 bits; none if the processor lacks both.
    pub int8_gops: Option<f64>,
    /// bf16 tiles (AMX); none if the processor lacks them.
    pub amx_bf16_gflops: Option<f64>,
    /// 8-bit integer tiles (AMX); none if the processor lacks them.
    pub amx_int8_gops: Option<f64>,
}

impl Limits {
    /// Measures with `threads` threads, in about a second.
    pub fn measure(threads: usize) -> Limits {
        let pool = ThreadPool::new(threads);
        let best = Isa::detect();
        Limits {
            dram_read_gb_s: MemoryProbe::new(threads).read_gb_s(),
            f32_gflops: arithmetic(&pool, || f32_block(best, ITERATIONS)),
            int8_gops: (best >= Isa::Avx2).then(|| arithmetic(&pool, || int8_block(best, ITERATIONS))),
            amx_bf16_gflops: (best == Isa::Amx).then(|| arithmetic(&pool, || tile_block(best, false))),
            amx_int8_gops: (best == Isa::Amx).then(|| arithmetic(&pool, || tile_block(best, true))),
        }
    }
}

/// Measures how fast memory can be read, again and again: on a shared machine that changes from one second to the next.
pub struct MemoryProbe {
    pool: ThreadPool,
    buffer: AlignedBuf<u64>,
    best: Isa,
}

impl MemoryProbe {
    /// A probe of `threads` threads.
    pub fn new(threads: usize) -> MemoryProbe {
        let pool = ThreadPool::new(threads);
        let mut buffer = AlignedBuf::<u64>::zeroed(MEMORY_BYTES.max(threads * THREAD_BYTES) / 8);
        let all = SharedSlice::new(&mut buffer);
        // Pages are real only once they are written; the thread that reads a part also places it.
        pool.run(&|ctx| {
            // SAFETY: the shares are disjoint.
            unsafe { all.part(ctx.share(all.len(), SHARE_UNIT)) }.fill(1);
        });
        MemoryProbe { pool, buffer, best: Isa::detect() }
    }

    /// Bytes that this probe keeps.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.buffer[..])
    }

    /// The rate at which all threads read memory just now, in 10^9 bytes per second; the caches have nothing of it. Takes some
    /// 0.1 s.
    pub fn read_gb_s(&mut self) -> f64 {
        let (best, bytes) = (self.best, self.bytes());
        let all = SharedSlice::new(&mut self.buffer);
        // SAFETY: nothing is written any more.
        let part = |ctx: &ThreadCtx<'_>| unsafe { &all.all()[ctx.share(all.len(), SHARE_UNIT)] };
        let mut seconds = [0.0; MEMORY_ROUNDS];
        time_rounds(&self.pool, &mut seconds, &|ctx| evict(part(ctx)), &|ctx| {
            std::hint::black_box(read(best, part(ctx)));
        });
        seconds.sort_by(f64::total_cmp);
        bytes as f64 / seconds[MEMORY_ROUNDS / 2] / 1e9
    }
}

/// Elements that a thread's share of the memory is a multiple of: 2 MB, so that pages are not shared.
const SHARE_UNIT: usize = 1 << 18;

/// The seconds in which all threads did `work` at once, once for each of `seconds`; `before` each, they did that.
fn time_rounds(
    pool: &ThreadPool,
    seconds: &mut [f64],
    before: &(dyn Fn(&ThreadCtx<'_>) + Sync),
    work: &(dyn Fn(&ThreadCtx<'_>) + Sync),
) {
    let shared = SharedSlice::new(seconds);
    pool.run(&|ctx| {
        for round in 0..shared.len() {
            before(ctx);
            ctx.barrier();
            let start = Instant::now();
            work(ctx);
            ctx.barrier();
            if ctx.index() == 0 {
                // SAFETY: only thread 0 touches them.
                unsafe { shared.part(round..round + 1)[0] = start.elapsed().as_secs_f64() };
            }
        }
    });
}

/// 10^9 operations per second over all threads; `block` tells how many it did.
fn arithmetic(pool: &ThreadPool, block: impl Fn() -> u64 + Sync) -> f64 {
    let operations = block();
    let mut seconds = [0.0; ROUNDS];
    time_rounds(pool, &mut seconds, &|_| (), &|_| {
        block();
    });
    let best = seconds.into_iter().fold(f64::INFINITY, f64::min);
    operations as f64 * pool.threads() as f64 / best / 1e9
}

/// Drives `data` out of every cache, where the machine lets programs do that.
fn evict(data: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    x86::flush(data);
    let _ = data;
}

/// Reads everything, in four streams.
fn read(best: Isa, data: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if best >= Isa::Avx512 {
            // SAFETY: the machine has AVX-512.
            return unsafe { x86::read_zmm(data) };
        }
        if best >= Isa::Avx2 {
            // SAFETY: the machine has AVX2.
            return unsafe { x86::read_ymm(data) };
        }
    }
    let _ = best;
    let streams: Vec<&[u64]> = data.chunks(data.len().div_ceil(4).max(1)).collect();
    let len = streams.iter().map(|stream| stream.len()).min().unwrap_or(0);
    let mut sums = [0u64; 4];
    for i in 0..len {
        for (sum, stream) in sums.iter_mut().zip(&streams) {
            *sum ^= stream[i];
        }
    }
    sums.iter().fold(0, |a, b| a ^ b)
}

fn f32_block(best: Isa, iterations: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if best >= Isa::Avx512 {
            // SAFETY: the machine has AVX-512.
            return unsafe { x86::f32_zmm(iterations) };
        }
        if best >= Isa::Avx2 {
            // SAFETY: the machine has AVX2 and FMA.
            return unsafe { x86::f32_ymm(iterations) };
        }
    }
    let _ = best;
    let (a, b) = (std::hint::black_box(0.5f32), std::hint::black_box(1.0f32));
    let mut sums = [[0.0f32; 4]; 12];
    for _ in 0..iterations {
        for sum in &mut sums {
            for lane in sum {
                *lane = *lane * a + b;
            }
        }
    }
    std::hint::black_box(sums);
    iterations as u64 * 12 * 4 * 2
}

fn int8_block(best: Isa, iterations: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if best >= Isa::Avx512 {
        // SAFETY: the machine has AVX-512 VNNI.
        return unsafe { x86::int8_zmm(iterations) };
    }
    #[cfg(target_arch = "x86_64")]
    if best >= Isa::Avx2 {
        // SAFETY: the machine has AVX2.
        return unsafe { x86::int8_ymm(iterations) };
    }
    let _ = (best, iterations);
    0
}

fn tile_block(best: Isa, int8: bool) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if best == Isa::Amx {
        // SAFETY: the machine has AMX and the process may use it.
        return unsafe { x86::tiles(ITERATIONS / 16, int8) };
    }
    let _ = (best, int8);
    0
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use crate::linear::Tiles;

    /// Drives `data` out of every cache.
    pub(super) fn flush(data: &[u64]) {
        for line in data.chunks(8) {
            // SAFETY: the line is there; flushing changes no memory.
            unsafe { _mm_clflush(line.as_ptr().cast()) };
        }
        // SAFETY: a fence touches nothing.
        unsafe { _mm_mfence() };
    }

    /// Bytes ahead of the loads that are fetched.
    const AHEAD: usize = 2048;

    /// # Safety
    /// The machine has AVX-512.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn read_zmm(data: &[u64]) -> u64 {
        let quarter = data.len() / 32 * 8;
        let start = data.as_ptr();
        let mut sums = [_mm512_setzero_si512(); 4];
        for at in (0..quarter).step_by(8) {
            for (stream, sum) in sums.iter_mut().enumerate() {
                // SAFETY: `4 * quarter` elements are in bounds, `quarter` is whole vectors; a prefetch never faults.
                unsafe {
                    let place = start.add(stream * quarter + at);
                    _mm_prefetch::<_MM_HINT_T0>(place.cast::<i8>().wrapping_add(AHEAD));
                    *sum = _mm512_xor_si512(*sum, _mm512_loadu_si512(place.cast()));
                }
            }
        }
        let sum = _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
        _mm512_reduce_add_epi64(sum) as u64
    }

    /// # Safety
    /// The machine has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn read_ymm(data: &[u64]) -> u64 {
        let quarter = data.len() / 32 * 8;
        let start = data.as_ptr();
        let mut sums = [_mm256_setzero_si256(); 8];
        for at in (0..quarter).step_by(8) {
            for stream in 0..4 {
                // SAFETY: `4 * quarter` elements are in bounds, `quarter` is whole lines; a prefetch never faults.
                unsafe {
                    let place = start.add(stream * quarter + at);
                    _mm_prefetch::<_MM_HINT_T0>(place.cast::<i8>().wrapping_add(AHEAD));
                    let (low, high) = (place.cast::<__m256i>(), place.add(4).cast::<__m256i>());
                    sums[2 * stream] = _mm256_xor_si256(sums[2 * stream], _mm256_loadu_si256(low));
                    sums[2 * stream + 1] = _mm256_xor_si256(sums[2 * stream + 1], _mm256_loadu_si256(high));
                }
            }
        }
        let sum = sums.into_iter().fold(_mm256_setzero_si256(), |a, b| _mm256_xor_si256(a, b));
        let mut lanes = [0u64; 4];
        // SAFETY: the array is one vector long.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
        lanes.iter().fold(0, |a, b| a ^ b)
    }

    /// # Safety
    /// The machine has AVX-512.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn f32_zmm(iterations: usize) -> u64 {
        let a = _mm512_set1_ps(std::hint::black_box(0.5));
        let b = _mm512_set1_ps(std::hint::black_box(1.0));
        let mut sums = [b; 12];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
        iterations as u64 * 12 * 16 * 2
    }

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn f32_ymm(iterations: usize) -> u64 {
        let a = _mm256_set1_ps(std::hint::black_box(0.5));
        let b = _mm256_set1_ps(std::hint::black_box(1.0));
        let mut sums = [b; 12];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
        iterations as u64 * 12 * 8 * 2
    }

    /// # Safety
    /// The machine has AVX-512 VNNI.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn int8_zmm(iterations: usize) -> u64 {
        let a = _mm512_set1_epi8(std::hint::black_box(1));
        let b = _mm512_set1_epi8(std::hint::black_box(2));
        let mut sums = [a; 12];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
        iterations as u64 * 12 * 64 * 2
    }

    /// # Safety
    /// The machine has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn int8_ymm(iterations: usize) -> u64 {
        let a = _mm256_set1_epi8(std::hint::black_box(1));
        let mut b = _mm256_set1_epi8(std::hint::black_box(2));
        let mut sums = [a; 12];
        for _ in 0..iterations {
            for sum in &mut sums {
                *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(a, b));
                // The product must not be computed once for all: each needs a `b` of its own.
                // SAFETY: an empty statement that claims to change `b`.
                unsafe { asm!("/* {0} */", inout(ymm_reg) b, options(nostack, nomem, preserves_flags)) };
            }
        }
        std::hint::black_box(sums);
        iterations as u64 * 12 * 32 * 2
    }

    /// # Safety
    /// The machine has AMX and the process may use it.
    pub(super) unsafe fn tiles(iterations: usize, int8: bool) -> u64 {
        // SAFETY: the caller's promise; the loop only touches tile registers, which are named as clobbered.
        unsafe {
            let _configured = Tiles::configure();
            if int8 {
                asm!(
                    "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    "2:",
                    "tdpbssd tmm0, tmm4, tmm6",
                    "tdpbssd tmm1, tmm4, tmm7",
                    "tdpbssd tmm2, tmm5, tmm6",
                    "tdpbssd tmm3, tmm5, tmm7",
                    "dec {count}",
                    "jnz 2b",
                    count = inout(reg) iterations => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, nomem),
                );
            } else {
                asm!(
                    "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    "2:",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "dec {count}",
                    "jnz 2b",
                    count = inout(reg) iterations => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, nomem),
                );
            }
        }
        // Four products of 16 x 16 rows by 64 bytes of columns.
        iterations as u64 * 4 * 16 * 16 * if int8 { 64 } else { 32 } * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_what_they_count() {
        let best = Isa::detect();
        assert!(f32_block(best, 1000) >= 96_000);
        assert_eq!(int8_block(best, 1) > 0, best >= Isa::Avx2);
        assert_eq!(tile_block(best, true), 2 * tile_block(best, false));
        assert_eq!(f32_block(Isa::Scalar, 10), 960);
    }

    #[test]
    fn many_threads_have_more_to_read() {
        for (threads, bytes) in [(1, MEMORY_BYTES), (16, MEMORY_BYTES.max(16 * THREAD_BYTES))] {
            let mut probe = MemoryProbe::new(threads);
            assert_eq!(probe.bytes(), bytes);
            let rate = probe.read_gb_s();
            assert!(rate.is_finite() && rate > 0.01, "{rate}");
        }
    }

    #[test]
    fn reads_see_every_element() {
        let data: Vec<u64> = (0..1024).map(|i| i * i).collect();
        let expected = data.iter().fold(0, |a, b| a ^ b);
        assert_eq!(read(Isa::Scalar, &data), expected);
        if Isa::Avx2.is_available() {
            assert_eq!(read(Isa::Avx2, &data), expected);
        }
    }
}
