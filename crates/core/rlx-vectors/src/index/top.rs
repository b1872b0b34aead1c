//! The best of many.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Hit;

/// The `k` best hits of those offered, whatever their order. Equal scores go by the row, so that the result does not depend on who
/// looked where.
pub(super) struct Top {
    k: usize,
    worst_first: BinaryHeap<Reverse<Ranked>>,
}

/// A hit that compares: the better one is the greater one.
struct Ranked(Hit);

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        self.0.score.total_cmp(&other.0.score).then(other.0.row.cmp(&self.0.row))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

impl Top {
    pub(super) fn new(k: usize) -> Top {
        Top { k, worst_first: BinaryHeap::new() }
    }

    /// Takes a hit into account; one without a score that compares is none.
    pub(super) fn offer(&mut self, hit: Hit) {
        if hit.score.is_nan() || self.k == 0 {
            return;
        }
        let hit = Ranked(hit);
        if self.worst_first.len() < self.k {
            self.worst_first.push(Reverse(hit));
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && hit > worst.0
        {
            *worst = Reverse(hit);
        }
    }

    pub(super) fn merge(&mut self, other: Top) {
        for Reverse(Ranked(hit)) in other.worst_first {
            self.offer(hit);
        }
    }

    /// The hits, best first.
    pub(super) fn into_hits(self) -> Vec<Hit> {
        self.worst_first.into_sorted_vec().into_iter().map(|Reverse(Ranked(hit))| hit).collect()
    }
}
