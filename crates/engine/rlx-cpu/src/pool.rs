//! A pool of threads that run one closure together, with barriers inside it.
//!
//! A whole graph runs as one job: every thread walks the same list of steps and meets the others at a barrier between
//! them. A barrier is a spin of about a microsecond, where waking a parked thread costs tens. Idle workers spin briefly,
//! then park, so an idle pool costs nothing.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{JoinHandle, Thread};

/// Spins of a waiting thread before it offers the processor to others, roughly 50 us: longer than threads of a balanced step
/// differ, short enough not to starve a peer that shares the processor.
const SPINS_BEFORE_YIELD: u32 = 1_000;
/// Yields of an idle worker before it parks, roughly 1 ms: longer than the pause between two tokens.
const YIELDS_BEFORE_PARK: u32 = 2_000;

type Job<'a> = dyn Fn(&ThreadCtx<'_>) + Sync + 'a;

struct Shared {
    threads: usize,
    /// Spins before yielding: none when there are more threads than processors, where spinning starves the others.
    spins: u32,
    /// Counts jobs; a change tells the workers that one is ready.
    epoch: AtomicU32,
    /// Fat pointer to the current job, valid while `running > 0`.
    job: AtomicPtr<&'static Job<'static>>,
    running: AtomicUsize,
    barrier: Barrier,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// A reusable barrier that counts generations.
struct Barrier {
    arrived: AtomicUsize,
    generation: AtomicU32,
}

/// What a job knows of the thread that runs it.
pub struct ThreadCtx<'a> {
    index: usize,
    shared: &'a Shared,
}

impl ThreadCtx<'_> {
    /// This thread's number, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many threads run the job.
    pub fn count(&self) -> usize {
        self.shared.threads
    }

    /// Waits until every thread of the job is here. All threads must call it the same number of times.
    pub fn barrier(&self) {
        let shared = self.shared;
        if shared.threads == 1 {
            return;
        }
        let generation = shared.barrier.generation.load(Ordering::Acquire);
        if shared.barrier.arrived.fetch_add(1, Ordering::AcqRel) + 1 == shared.threads {
            shared.barrier.arrived.store(0, Ordering::Relaxed);
            shared.barrier.generation.store(generation.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut waiter = Waiter::new(shared.spins);
        while shared.barrier.generation.load(Ordering::Acquire) == generation {
            if shared.panicked.load(Ordering::Relaxed) {
                // A peer died and will never arrive; leave the job through the same door.
                resume_unwind(Box::new("another thread of the pool panicked"));
            }
            waiter.wait();
        }
    }

    /// This thread's share of `0..n`: contiguous, and even to within one `unit`.
    pub fn share(&self, n: usize, unit: usize) -> std::ops::Range<usize> {
        let units = n.div_ceil(unit);
        let start = units * self.index / self.count() * unit;
        let end = units * (self.index + 1) / self.count() * unit;
        start.min(n)..end.min(n)
    }
}

/// Spins first, then yields.
struct Waiter {
    spins_left: u32,
    yields: u32,
}

impl Waiter {
    fn new(spins: u32) -> Waiter {
        Waiter { spins_left: spins, yields: 0 }
    }

    fn wait(&mut self) {
        if self.spins_left > 0 {
            self.spins_left -= 1;
            std::hint::spin_loop();
        } else {
            self.yields += 1;
            std::thread::yield_now();
        }
    }
}

/// A fixed set of threads; the caller of [`ThreadPool::run`] is one of them.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<Thread>,
    handles: Vec<JoinHandle<()>>,
    /// One job at a time; callers from several threads take turns.
    turn: Mutex<()>,
}

impl ThreadPool {
    /// A pool that runs jobs on `threads` threads (at least one): the caller's and `threads - 1` of its own.
    pub fn new(threads: usize) -> ThreadPool {
        let threads = threads.max(1);
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let shared = Arc::new(Shared {
            threads,
            spins: if threads > processors { 0 } else { SPINS_BEFORE_YIELD },
            epoch: AtomicU32::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            running: AtomicUsize::new(0),
            barrier: Barrier { arrived: AtomicUsize::new(0), generation: AtomicU32::new(0) },
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let handles: Vec<_> = (1..threads)
            .map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("rlx-{index}"))
                    .spawn(move || worker(&shared, index))
                    .expect("the system refuses new threads")
            })
            .collect();
        let workers = handles.iter().map(|handle| handle.thread().clone()).collect();
        ThreadPool { shared, workers, handles, turn: Mutex::new(()) }
    }

    /// How many threads run a job.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `job` once on every thread and returns when all are done. A panic in any of them is passed on.
    pub fn run(&self, job: &(dyn Fn(&ThreadCtx<'_>) + Sync)) {
        let _turn = self.lock();
        let shared = &*self.shared;
        if shared.threads == 1 {
            return job(&ThreadCtx { index: 0, shared });
        }
        // SAFETY: only the lifetime changes. Workers use the reference between the epoch change below and the moment
        // they lower `running`; this function does not return, nor unwind, before `running` is zero.
        let mut job_static: &'static Job<'static> =
            unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) };
        shared.job.store(&mut job_static, Ordering::Relaxed);
        shared.running.store(shared.threads - 1, Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        for worker in &self.workers {
            worker.unpark();
        }
        let result = catch_unwind(AssertUnwindSafe(|| job(&ThreadCtx { index: 0, shared })));
        if result.is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        let mut waiter = Waiter::new(shared.spins);
        while shared.running.load(Ordering::Acquire) > 0 {
            waiter.wait();
        }
        if shared.panicked.swap(false, Ordering::Relaxed) {
            shared.barrier.arrived.store(0, Ordering::Relaxed);
            match result {
                Err(payload) => resume_unwind(payload),
                Ok(()) => panic!("a thread of the pool panicked"),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // A poisoned lock only says that an earlier job panicked; the pool itself is reset by then.
        self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for handle in self.handles.drain(..) {
            handle.thread().unpark();
            // A worker catches its job's panics, so it ends normally.
            let _ = handle.join();
        }
    }
}

fn worker(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let mut waiter = Waiter::new(shared.spins);
        while shared.epoch.load(Ordering::Acquire) == seen {
            if waiter.yields >= YIELDS_BEFORE_PARK { std::thread::park() } else { waiter.wait() }
        }
        seen = shared.epoch.load(Ordering::Acquire);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: the epoch changed for a job, whose pointer was stored before (release/acquire) and stays valid until
        // this thread lowers `running`.
        let job: &Job<'_> = unsafe { *shared.job.load(Ordering::Relaxed) };
        if catch_unwind(AssertUnwindSafe(|| job(&ThreadCtx { index, shared }))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_order_the_phases_at_any_thread_count() {
        for threads in [1, 2, 3, 7] {
            let pool = ThreadPool::new(threads);
            for _ in 0..50 {
                let first = AtomicUsize::new(0);
                let ok = AtomicUsize::new(0);
                pool.run(&|ctx| {
                    for phase in 1..=20 {
                        first.fetch_add(1, Ordering::Relaxed);
                        ctx.barrier();
                        if first.load(Ordering::Relaxed) == phase * threads {
                            ok.fetch_add(1, Ordering::Relaxed);
                        }
                        ctx.barrier();
                    }
                });
                assert_eq!(ok.load(Ordering::Relaxed), 20 * threads);
            }
        }
    }

    #[test]
    fn shares_cover_everything_once() {
        let pool = ThreadPool::new(3);
        for (n, unit) in [(0, 1), (1, 16), (100, 16), (7, 1), (48, 16)] {
            let total = AtomicUsize::new(0);
            pool.run(&|ctx| {
                total.fetch_add(ctx.share(n, unit).len(), Ordering::Relaxed);
            });
            assert_eq!(total.load(Ordering::Relaxed), n);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = ThreadPool::new(2);
        for index in 0..2 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|ctx| {
                    assert!(ctx.index() != index, "on purpose");
                    ctx.barrier();
                })
            }));
            assert!(result.is_err());
        }
        let count = AtomicUsize::new(0);
        pool.run(&|ctx| {
            ctx.barrier();
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
