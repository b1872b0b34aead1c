//! The merging of byte-pair encoding: the pair of the lowest rank first, the leftmost among equals.
//!
//! The work is `O(n log n)` in the length of a word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ahash::RandomState;
use hashbrown::HashTable;

/// Two neighbours and what they become.
struct Merge {
    left: u32,
    right: u32,
    result: u32,
}

/// Merges in the order of their ranks, and an index of five bytes per slot over them.
#[derive(Default)]
pub(super) struct Merges {
    merges: Vec<Merge>,
    ranks: HashTable<u32>,
    hasher: RandomState,
}

/// A token so far, in a doubly linked list.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Merged into its left neighbour.
    gone: bool,
    prev: usize,
    next: usize,
}

const END: usize = usize::MAX;

/// Working memory of [`Merges::apply`], kept from word to word.
#[derive(Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    /// Rank, place of the left one, result.
    queue: BinaryHeap<Reverse<(u32, usize, u32)>>,
}

impl Merges {
    /// No merges yet, with room for `count`.
    pub(super) fn with_capacity(count: usize) -> Merges {
        Merges { merges: Vec::with_capacity(count), ranks: HashTable::with_capacity(count), hasher: RandomState::new() }
    }

    /// Adds the merge of the next rank. The first rank of a pair that comes again counts.
    pub(super) fn push(&mut self, left: u32, right: u32, result: u32) {
        // A file of four thousand million merges would not have been read.
        let Ok(rank) = u32::try_from(self.merges.len()) else { return };
        let merges = &self.merges;
        let hash = |left: u32, right: u32| self.hasher.hash_one((left, right));
        let same = |&rank: &u32| (merges[rank as usize].left, merges[rank as usize].right) == (left, right);
        let rehash = |&rank: &u32| hash(merges[rank as usize].left, merges[rank as usize].right);
        if let hashbrown::hash_table::Entry::Vacant(slot) = self.ranks.entry(hash(left, right), same, rehash) {
            slot.insert(rank);
            self.merges.push(Merge { left, right, result });
        }
    }

    /// Rank and result of a pair.
    fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let same = |&rank: &u32| {
            let merge = &self.merges[rank as usize];
            (merge.left, merge.right) == (left, right)
        };
        let rank = *self.ranks.find(self.hasher.hash_one((left, right)), same)?;
        Some((rank, self.merges[rank as usize].result))
    }

    /// Merges the tokens of a word until no pair is left, and appends what they became.
    pub(super) fn apply(&self, word: impl Iterator<Item = u32>, scratch: &mut Scratch, out: &mut Vec<u32>) {
        let Scratch { symbols, queue } = scratch;
        symbols.clear();
        queue.clear();
        symbols.extend(word.enumerate().map(|(i, id)| Symbol {
            id,
            gone: false,
            prev: i.wrapping_sub(1),
            next: i + 1,
        }));
        let Some(last) = symbols.last_mut() else { return };
        last.next = END;
        for at in 1..symbols.len() {
            self.queue(symbols, at - 1, at, queue);
        }
        while let Some(Reverse((_, at, result))) = queue.pop() {
            let Symbol { id, gone, prev, next } = symbols[at];
            // A neighbour may have changed since the pair was queued.
            if gone || next == END || self.get(id, symbols[next].id).is_none_or(|(_, now)| now != result) {
                continue;
            }
            let after = symbols[next].next;
            symbols[next].gone = true;
            symbols[at].id = result;
            symbols[at].next = after;
            if after != END {
                symbols[after].prev = at;
            }
            self.queue(symbols, prev, at, queue);
            self.queue(symbols, at, after, queue);
        }
        out.extend(symbols.iter().filter(|symbol| !symbol.gone).map(|symbol| symbol.id));
    }

    fn queue(&self, symbols: &[Symbol], left: usize, right: usize, queue: &mut BinaryHeap<Reverse<(u32, usize, u32)>>) {
        if left != END
            && right != END
            && let Some((rank, result)) = self.get(symbols[left].id, symbols[right].id)
        {
            queue.push(Reverse((rank, left, result)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One merge at a time, looked for from the start.
    fn naive(merges: &[(u32, u32, u32)], word: &[u32]) -> Vec<u32> {
        let mut word = word.to_vec();
        loop {
            let rank = |pair: &[u32]| merges.iter().position(|merge| (merge.0, merge.1) == (pair[0], pair[1]));
            let best = word.windows(2).enumerate().filter_map(|(at, pair)| Some((rank(pair)?, at))).min();
            let Some((rank, at)) = best else { return word };
            word.splice(at..at + 2, [merges[rank].2]);
        }
    }

    #[test]
    fn the_lowest_rank_goes_first() {
        let list = [(1, 2, 10), (2, 3, 11), (1, 2, 99), (10, 3, 12), (1, 1, 13), (13, 13, 14), (12, 1, 15)];
        let mut merges = Merges::with_capacity(0);
        list.iter().for_each(|&(left, right, result)| merges.push(left, right, result));
        let mut scratch = Scratch::default();
        let mut state = 7u32;
        for len in 0..200 {
            let word: Vec<u32> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    1 + (state >> 24) % 3
                })
                .collect();
            let mut out = vec![];
            merges.apply(word.iter().copied(), &mut scratch, &mut out);
            assert_eq!(out, naive(&list, &word), "{word:?}");
        }
    }
}
