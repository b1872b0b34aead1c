//! Handing out the items of a step to threads.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what of a step's work is taken, in one lane or in several: as many as threads, which then have stretches of their own.
#[derive(Debug)]
pub struct WorkCounter(Box<[Lane]>);

/// Two cache lines, as processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(AtomicUsize);

impl Default for WorkCounter {
    fn default() -> WorkCounter {
        WorkCounter::new(1)
    }
}

impl WorkCounter {
    /// A counter of `lanes` lanes (at least one); best as many as threads.
    pub fn new(lanes: usize) -> WorkCounter {
        WorkCounter((0..lanes.max(1)).map(|_| Lane::default()).collect())
    }

    /// The next index that nobody has taken; the caller stops at its own limit. All threads take from the same lane.
    pub fn next(&self) -> usize {
        self.0[0].0.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts again at 0. Only between jobs, or where a barrier orders it against all that is taken.
    pub fn reset(&self) {
        self.0.iter().for_each(|lane| lane.0.store(0, Ordering::Relaxed));
    }
}

/// The items `0..total` as one thread takes them: those of its own stretch one after the other, so that what they read streams from
/// memory; then, one by one, what others have left of theirs.
pub(crate) struct Stretches<'a> {
    counter: &'a WorkCounter,
    total: usize,
    /// The stretch at hand, and how many are not done, with it.
    lane: usize,
    left: usize,
}

impl<'a> Stretches<'a> {
    pub(crate) fn new(counter: &'a WorkCounter, total: usize, thread: usize) -> Stretches<'a> {
        let lanes = counter.0.len();
        Stretches { counter, total, lane: thread % lanes, left: lanes }
    }

    fn stretch(&self) -> Range<usize> {
        let lanes = self.counter.0.len();
        self.total * self.lane / lanes..self.total * (self.lane + 1) / lanes
    }

    /// The item that probably follows `item`, the last one taken; none at the end of a stretch.
    pub(crate) fn after(&self, item: usize) -> Option<usize> {
        (item + 1 < self.stretch().end).then_some(item + 1)
    }
}

impl Iterator for Stretches<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.left > 0 {
            let (taken, stretch) = (&self.counter.0[self.lane].0, self.stretch());
            // Looked at before it is written to, as most threads come to find it done.
            if taken.load(Ordering::Relaxed) < stretch.len() {
                let index = taken.fetch_add(1, Ordering::Relaxed);
                if index < stretch.len() {
                    return Some(stretch.start + index);
                }
            }
            self.lane = (self.lane + 1) % self.counter.0.len();
            self.left -= 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_taken_once() {
        for total in [0, 1, 5, 96, 1000] {
            for (lanes, threads) in [(1, 1), (1, 3), (2, 2), (4, 3), (3, 4)] {
                let counter = WorkCounter::new(lanes);
                let mut of_threads: Vec<_> = (0..threads).map(|t| Stretches::new(&counter, total, t)).collect();
                let mut seen = vec![0; total];
                // The first thread is three times as fast as the others.
                let turns = [0, 0].into_iter().chain(0..threads).cycle();
                for thread in turns.take((threads + 2) * (total + 1)) {
                    let items = &mut of_threads[thread];
                    if let Some(item) = items.next() {
                        seen[item] += 1;
                        assert!(items.after(item).is_none_or(|after| after == item + 1 && after < total));
                    }
                }
                assert!(seen.iter().all(|&count| count == 1), "{total} {lanes} {threads}: {seen:?}");
            }
        }
    }

    #[test]
    fn a_thread_begins_with_a_stretch_of_its_own() {
        let counter = WorkCounter::new(2);
        let [mut first, mut second] = [0, 1].map(|thread| Stretches::new(&counter, 10, thread));
        let own: Vec<usize> = second.by_ref().take(4).collect();
        assert_eq!(own, [5, 6, 7, 8]);
        assert_eq!(first.by_ref().take(6).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 9]);
        assert_eq!((first.next(), second.next()), (None, None));
        counter.reset();
        assert_eq!(Stretches::new(&counter, 10, 2).count(), 10);
    }
}
