//! Names of split files: `model-00002-of-00003.gguf`, also with `.safetensors`.

use std::path::{Path, PathBuf};

/// A file name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SplitName {
    pub(crate) prefix: String,
    /// From 1.
    pub(crate) part: usize,
    pub(crate) count: usize,
    digits: usize,
    extension: String,
}

impl SplitName {
    /// Takes the name of `path` apart; `None` if it is not of that form.
    pub(crate) fn of(path: &Path) -> Option<SplitName> {
        let name = path.file_name()?.to_str()?;
        let (stem, extension) = name.rsplit_once('.')?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, part) = rest.rsplit_once('-')?;
        let number = |text: &str| {
            let digits = text.len() >= 3 && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<usize>().ok()).flatten()
        };
        let digits = part.len();
        let (part, total) = (number(part)?, number(count)?);
        if part == 0 || part > total || count.len() != digits {
            return None;
        }
        Some(SplitName { prefix: prefix.to_owned(), part, count: total, digits, extension: extension.to_owned() })
    }

    /// File name of another part of the same checkpoint.
    pub(crate) fn part_name(&self, part: usize) -> String {
        let (digits, count) = (self.digits, self.count);
        format!("{}-{part:0digits$}-of-{count:0digits$}.{}", self.prefix, self.extension)
    }

    /// Paths of all parts, in the directory of `path`: those that are there, those that are not.
    pub(crate) fn parts(&self, path: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
        (1..=self.count).map(|part| path.with_file_name(self.part_name(part))).partition(|path| path.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart_and_together() {
        let split = SplitName::of("d/a-b.Q4_K_M-00002-of-00003.gguf".as_ref()).unwrap();
        assert_eq!((split.prefix.as_str(), split.part, split.count), ("a-b.Q4_K_M", 2, 3));
        assert_eq!(split.part_name(1), "a-b.Q4_K_M-00001-of-00003.gguf");
        for other in ["a.gguf", "a-00004-of-00003.gguf", "a-00000-of-00003.gguf", "a-x-of-00003.gguf", "a-1-of-3.gguf"]
        {
            assert_eq!(SplitName::of(other.as_ref()), None, "{other}");
        }
    }
}
