//! Many strings side by side.

use std::fmt;
use std::ops::Index;

/// Many strings in one allocation: a vocabulary of 262,144 tokens is two vectors, not 262,144.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StringArray {
    text: String,
    ends: Vec<usize>,
}

impl StringArray {
    /// An empty array with room for `count` strings of `bytes` bytes together.
    pub fn with_capacity(count: usize, bytes: usize) -> StringArray {
        StringArray { text: String::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    /// Appends a string.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `i`, if there are that many.
    pub fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)?;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        self.text.get(start..end)
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len()).map(|i| &self[i])
    }

    /// Bytes of all strings together.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// The strings as owned ones.
    pub fn to_vec(&self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }
}

impl Index<usize> for StringArray {
    type Output = str;
    fn index(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }
}

impl<S: AsRef<str>> FromIterator<S> for StringArray {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> StringArray {
        let mut out = StringArray::default();
        for string in strings {
            out.push(string.as_ref());
        }
        out
    }
}

impl<S: AsRef<str>> From<Vec<S>> for StringArray {
    fn from(strings: Vec<S>) -> StringArray {
        let bytes = strings.iter().map(|string| string.as_ref().len()).sum();
        let mut out = StringArray::with_capacity(strings.len(), bytes);
        for string in strings {
            out.push(string.as_ref());
        }
        out
    }
}

impl fmt::Debug for StringArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_arrays_index() {
        let array: StringArray = ["a", "", "bcd"].into_iter().collect();
        assert_eq!(array.to_vec(), ["a", "", "bcd"]);
        assert_eq!(array.get(3), None);
        assert_eq!(&array[2], "bcd");
    }
}
