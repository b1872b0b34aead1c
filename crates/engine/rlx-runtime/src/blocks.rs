//! Which blocks of the KV cache are in use, and by how many sequences.

/// Hands out block numbers and counts their owners.
#[derive(Debug, Default)]
pub(crate) struct BlockAllocator {
    owners: Vec<u32>,
    free: Vec<u32>,
}

impl BlockAllocator {
    /// A block with one owner: a freed one, or the next number.
    pub(crate) fn allocate(&mut self) -> u32 {
        match self.free.pop() {
            Some(id) => {
                self.owners[id as usize] = 1;
                id
            }
            None => {
                self.owners.push(1);
                self.owners.len() as u32 - 1
            }
        }
    }

    /// One more owner.
    pub(crate) fn share(&mut self, id: u32) {
        self.owners[id as usize] += 1;
    }

    /// One owner less; the last one frees the block.
    pub(crate) fn release(&mut self, id: u32) {
        let owners = &mut self.owners[id as usize];
        *owners -= 1;
        if *owners == 0 {
            self.free.push(id);
        }
    }

    pub(crate) fn is_shared(&self, id: u32) -> bool {
        self.owners[id as usize] > 1
    }

    /// Blocks ever handed out: every number in use is below this.
    pub(crate) fn count(&self) -> usize {
        self.owners.len()
    }

    /// Blocks in use.
    pub(crate) fn in_use(&self) -> usize {
        self.owners.len() - self.free.len()
    }
}
