//! The texts of a vocabulary, and the way back from a text to its id.

use ahash::RandomState;
use hashbrown::HashTable;
use rlx_mem::StringArray;

/// Texts of all ids, and an index of five bytes per slot over them: a map that owns its texts takes as much again for each of them.
pub(super) struct TextTable {
    texts: StringArray,
    ids: HashTable<u32>,
    hasher: RandomState,
}

impl TextTable {
    /// Of a text that comes twice, the first id is found. Ids are places in `texts`, which callers have checked to fit 32 bits.
    pub(super) fn new(texts: StringArray) -> TextTable {
        let hasher = RandomState::new();
        let hash = |text: &str| hasher.hash_one(text);
        let mut ids = HashTable::with_capacity(texts.len());
        for (id, text) in (0u32..).zip(texts.iter()) {
            let same = |&other: &u32| &texts[other as usize] == text;
            ids.entry(hash(text), same, |&other| hash(&texts[other as usize])).or_insert(id);
        }
        TextTable { texts, ids, hasher }
    }

    /// Id of a text.
    pub(super) fn id(&self, text: &str) -> Option<u32> {
        let same = |&id: &u32| &self.texts[id as usize] == text;
        self.ids.find(self.hasher.hash_one(text), same).copied()
    }

    /// Text of an id.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize)
    }

    /// All texts.
    pub(super) fn texts(&self) -> &StringArray {
        &self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_texts_is_found() {
        let table = TextTable::new(["a", "b", "a", ""].into_iter().collect());
        assert_eq!(["a", "b", "", "c"].map(|text| table.id(text)), [Some(0), Some(1), Some(3), None]);
        assert_eq!((table.text(2), table.text(4), table.texts().len()), (Some("a"), None, 4));
    }
}
