//! Typed access to the key-value pairs of a file.

use super::{GgufArray, GgufValue, StringArray};
use crate::WeightsError;

/// The key-value pairs of a GGUF file, in the file's order.
///
/// `get_*` give `None` when the key is absent **or** holds another kind of value; `require_*` tell the two apart.
/// Integers widen and narrow where the value fits, since writers disagree about the widths.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufMetadata {
    entries: Vec<(String, GgufValue)>,
    /// Indices into `entries`, sorted by key.
    sorted: Vec<u32>,
}

impl GgufMetadata {
    /// Takes pairs in the file's order; a key that comes twice is given back.
    pub(crate) fn from_entries(entries: Vec<(String, GgufValue)>) -> Result<GgufMetadata, String> {
        let mut sorted: Vec<u32> = (0..entries.len() as u32).collect();
        sorted.sort_unstable_by(|&a, &b| entries[a as usize].0.cmp(&entries[b as usize].0));
        match sorted.windows(2).find(|pair| entries[pair[0] as usize].0 == entries[pair[1] as usize].0) {
            Some(pair) => Err(entries[pair[0] as usize].0.clone()),
            None => Ok(GgufMetadata { entries, sorted }),
        }
    }

    /// Sets `key`, replacing an earlier value in its place.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<GgufValue>) {
        let (key, value) = (key.into(), value.into());
        match self.position(&key) {
            Ok(i) => self.entries[self.sorted[i] as usize].1 = value,
            Err(i) => {
                self.sorted.insert(i, self.entries.len() as u32);
                self.entries.push((key, value));
            }
        }
    }

    /// Removes `key` and gives its value.
    pub fn remove(&mut self, key: &str) -> Option<GgufValue> {
        let i = self.position(key).ok()?;
        let at = self.sorted.remove(i);
        for other in self.sorted.iter_mut().filter(|other| **other > at) {
            *other -= 1;
        }
        Some(self.entries.remove(at as usize).1)
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|&i| self.entries[i as usize].0.as_str().cmp(key))
    }

    /// The pairs in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &GgufValue)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        let i = self.position(key).ok()?;
        Some(&self.entries[self.sorted[i] as usize].1)
    }

    /// Whether `key` is there.
    pub fn contains(&self, key: &str) -> bool {
        self.position(key).is_ok()
    }

    /// An integer that fits `u32`.
    pub fn get_u32(&self, key: &str) -> Option<u32> {
        u32::try_from(self.get(key)?.as_i64()?).ok()
    }

    /// A non-negative integer.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// An integer.
    pub fn get_i64(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_i64()
    }

    /// A number.
    pub fn get_f32(&self, key: &str) -> Option<f32> {
        self.get(key)?.as_f32()
    }

    /// A number.
    pub fn get_f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// A boolean.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// A string.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// An array.
    pub fn get_array(&self, key: &str) -> Option<&GgufArray> {
        self.get(key)?.as_array()
    }

    /// An array of strings.
    pub fn get_strings(&self, key: &str) -> Option<&StringArray> {
        if let GgufArray::String(strings) = self.get_array(key)? { Some(strings) } else { None }
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> Option<&str> {
        self.get_str("general.architecture")
    }

    /// `suffix` under the architecture's name: `arch_key("block_count")` is `llama.block_count` in a llama file.
    pub fn arch_key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.architecture().unwrap_or("general"))
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`WeightsError::MissingMetadata`] if it is absent.
    pub fn require(&self, key: &str) -> Result<&GgufValue, WeightsError> {
        self.get(key).ok_or_else(|| WeightsError::MissingMetadata { keys: vec![key.to_owned()] })
    }

    /// Checks that all `keys` are there.
    ///
    /// # Errors
    /// [`WeightsError::MissingMetadata`] with every key that is absent.
    pub fn require_all(&self, keys: &[&str]) -> Result<(), WeightsError> {
        let missing: Vec<String> = keys.iter().filter(|key| !self.contains(key)).map(|&key| key.to_owned()).collect();
        if missing.is_empty() { Ok(()) } else { Err(WeightsError::MissingMetadata { keys: missing }) }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        cast: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<T, WeightsError> {
        let value = self.require(key)?;
        cast(value).ok_or_else(|| WeightsError::MetadataType { key: key.to_owned(), expected, found: brief(value) })
    }

    /// An integer that fits `u32`.
    ///
    /// # Errors
    /// [`WeightsError::MissingMetadata`] or [`WeightsError::MetadataType`], as with all `require_*`.
    pub fn require_u32(&self, key: &str) -> Result<u32, WeightsError> {
        self.typed(key, "an integer of 32 bits", |v| u32::try_from(v.as_i64()?).ok())
    }

    /// A number.
    ///
    /// # Errors
    /// As [`GgufMetadata::require_u32`].
    pub fn require_f32(&self, key: &str) -> Result<f32, WeightsError> {
        self.typed(key, "a number", GgufValue::as_f32)
    }

    /// A string.
    ///
    /// # Errors
    /// As [`GgufMetadata::require_u32`].
    pub fn require_str(&self, key: &str) -> Result<&str, WeightsError> {
        self.typed(key, "a string", GgufValue::as_str)
    }

    /// An array of strings.
    ///
    /// # Errors
    /// As [`GgufMetadata::require_u32`].
    pub fn require_strings(&self, key: &str) -> Result<&StringArray, WeightsError> {
        self.typed(key, "an array of strings", |v| match v.as_array()? {
            GgufArray::String(strings) => Some(strings),
            _ => None,
        })
    }

    /// One `u32` per layer: a single value stands for all of `layers`, an array must have that many.
    ///
    /// # Errors
    /// As [`GgufMetadata::require_u32`]; [`WeightsError::Usage`] for more than 65,536 layers.
    pub fn require_u32_per_layer(&self, key: &str, layers: usize) -> Result<Vec<u32>, WeightsError> {
        if layers > 1 << 16 {
            return Err(WeightsError::Usage(format!("{layers} layers: check the block count first")));
        }
        self.typed(key, "an integer, or an array of one integer per layer", |value| match value {
            GgufValue::Array(array) => (array.len() == layers).then(|| array.to_u32s()).flatten(),
            _ => Some(vec![u32::try_from(value.as_i64()?).ok()?; layers]),
        })
    }
}

/// A value for an error message.
fn brief(value: &GgufValue) -> String {
    match value {
        GgufValue::String(text) => format!("string {}", crate::error::quoted(text)),
        GgufValue::Array(array) => format!("array of {} x {}", array.len(), array.element_type()),
        GgufValue::Bool(v) => format!("bool {v}"),
        _ => match (value.as_i64(), value.as_f64()) {
            (Some(v), _) => format!("{} {v}", value.type_name()),
            (None, Some(v)) => format!("{} {v}", value.type_name()),
            (None, None) => value.type_name().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_widen_where_they_fit() {
        let mut meta = GgufMetadata::default();
        meta.set("a", 7u8);
        meta.set("b", -1i32);
        meta.set("c", u64::MAX);
        meta.set("d", 3u64);
        assert_eq!(meta.get_u32("a"), Some(7));
        assert_eq!(meta.get_f32("a"), Some(7.0));
        assert_eq!(meta.get_u32("b"), None);
        assert_eq!(meta.get_i64("b"), Some(-1));
        assert_eq!(meta.get_u64("c"), Some(u64::MAX));
        assert_eq!(meta.get_i64("c"), None);
        assert_eq!(meta.get_u32("d"), Some(3));
        assert_eq!(meta.get_str("d"), None);
    }

    #[test]
    fn set_replaces_and_remove_keeps_order() {
        let mut meta = GgufMetadata::default();
        for key in ["z", "a", "m"] {
            meta.set(key, key);
        }
        meta.set("a", 1u32);
        assert_eq!(meta.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["z", "a", "m"]);
        assert_eq!(meta.remove("z"), Some("z".into()));
        assert_eq!(meta.get_u32("a"), Some(1));
        assert_eq!(meta.get_str("m"), Some("m"));
        assert_eq!(meta.remove("z"), None);
    }

    #[test]
    fn errors_tell_absent_from_mistyped() {
        let mut meta = GgufMetadata::default();
        meta.set("n", "six");
        assert!(matches!(meta.require_u32("n"), Err(WeightsError::MetadataType { .. })));
        assert!(matches!(meta.require_u32("m"), Err(WeightsError::MissingMetadata { .. })));
        let Err(WeightsError::MissingMetadata { keys }) = meta.require_all(&["x", "n", "y"]) else { panic!() };
        assert_eq!(keys, ["x", "y"]);
    }

    #[test]
    fn per_layer_values_broadcast() {
        let mut meta = GgufMetadata::default();
        meta.set("one", 4u32);
        meta.set("each", vec![4i32, 0, 2]);
        assert_eq!(meta.require_u32_per_layer("one", 3).unwrap(), [4, 4, 4]);
        assert_eq!(meta.require_u32_per_layer("each", 3).unwrap(), [4, 0, 2]);
        assert!(meta.require_u32_per_layer("each", 2).is_err());
    }
}
