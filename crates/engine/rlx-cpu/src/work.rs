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

/// What is left of a stretch is taken in so many runs at least.
const ENDING: usize = 4;

/// The items `0..total` as one thread takes them: those of its own stretch one after the other, so that what they read streams from
/// memory; then, one by one, what others have left of theirs.
pub(crate) struct Stretches<'a> {
    counter: &'a WorkCounter,
    total: usize,
    /// The stretch at hand, and how many are not done, with it.
    lane: usize,
    left: usize,
    /// Items of another's stretch that are too few to take one of.
    kept: usize,
}

impl<'a> Stretches<'a> {
    pub(crate) fn new(counter: &'a WorkCounter, total: usize, thread: usize) -> Stretches<'a> {
        let lanes = counter.0.len();
        Stretches { counter, total, lane: thread % lanes, left: lanes, kept: 0 }
    }

    /// Leaves each other thread its last item: where an item's inputs lie in its owner's cache, taking it would take longer than
    /// waiting, and leave those inputs in two caches, which slows the owner's next writes. With fewer than a thread (of `threads`) for
    /// each stretch all items are taken: some have no owner.
    pub(crate) fn leaving_last(self, threads: usize) -> Stretches<'a> {
        Stretches { kept: usize::from(self.counter.0.len() <= threads), ..self }
    }

    fn stretch(&self) -> Range<usize> {
        let lanes = self.counter.0.len();
        self.total * self.lane / lanes..self.total * (self.lane + 1) / lanes
    }

    /// The item that probably follows `item`, the last one taken; none at the end of a stretch.
    pub(crate) fn after(&self, item: usize) -> Option<usize> {
        (item + 1 < self.stretch().end).then_some(item + 1)
    }

    /// The next items: up to `most` at once of what is left of the own stretch, fewer towards its end, so that all threads are done
    /// at about the same time.
    pub(crate) fn next(&mut self, most: usize) -> Option<Range<usize>> {
        while self.left > 0 {
            let (taken, stretch) = (&self.counter.0[self.lane].0, self.stretch());
            let own = self.left == self.counter.0.len();
            let (most, end) = if own { (most, stretch.len()) } else { (1, stretch.len().saturating_sub(self.kept)) };
            let run = |index: usize| (stretch.len().saturating_sub(index) / ENDING).clamp(1, most);
            // Looked at before it is written to, as most threads come to find it done.
            let mut index = taken.load(Ordering::Relaxed);
            while index < end {
                let next = index + run(index);
                match taken.compare_exchange_weak(index, next, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return Some(stretch.start + index..stretch.start + next),
                    Err(other) => index = other,
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
                    if let Some(run) = items.next(1 + thread * 3) {
                        let last = run.end - 1;
                        run.for_each(|item| seen[item] += 1);
                        assert!(items.after(last).is_none_or(|after| after == last + 1 && after < total));
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
        let take = |items: &mut Stretches<'_>, count: usize| -> Vec<usize> {
            (0..count).flat_map(|_| items.next(1)).flatten().collect()
        };
        assert_eq!(take(&mut second, 4), [5, 6, 7, 8]);
        assert_eq!(take(&mut first, 6), [0, 1, 2, 3, 4, 9]);
        assert_eq!((first.next(1), second.next(1)), (None, None));
        counter.reset();
        assert_eq!(take(&mut Stretches::new(&counter, 10, 2), 20).len(), 10);
    }

    #[test]
    fn the_last_of_another_stretch_can_be_left() {
        let counter = WorkCounter::new(2);
        let [mut first, mut second] = [0, 1].map(|thread| Stretches::new(&counter, 10, thread).leaving_last(2));
        let of_first: Vec<usize> = std::iter::from_fn(|| first.next(1)).flatten().collect();
        assert_eq!(of_first, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((second.next(1), second.next(1)), (Some(9..10), None));
        // Alone, a thread takes all, in however many stretches they are.
        counter.reset();
        let mut alone = Stretches::new(&counter, 10, 0).leaving_last(1);
        assert_eq!(std::iter::from_fn(|| alone.next(1)).flatten().count(), 10);
    }

    #[test]
    fn runs_grow_shorter_and_others_take_single_items() {
        let counter = WorkCounter::new(2);
        let [mut first, mut second] = [0, 1].map(|thread| Stretches::new(&counter, 96, thread));
        let lens: Vec<usize> = (0..6).flat_map(|_| first.next(8)).map(|run| run.len()).collect();
        assert_eq!(lens, [8, 8, 8, 6, 4, 3]);
        while second.next(8).is_some_and(|run| run.start >= 48) {}
        assert_eq!(second.next(8), Some(38..39));
    }
}
