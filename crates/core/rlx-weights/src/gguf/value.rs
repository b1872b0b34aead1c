//! Metadata values and typed access to them.

use std::fmt;
use std::ops::Index;

use crate::WeightsError;

/// A metadata value: the 13 value types of GGUF.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(GgufArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array of one value type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(StringArray),
    Array(Vec<GgufArray>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Many strings in one allocation: a vocabulary of 262,144 tokens is two vectors, not 262,144.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StringArray {
    text: String,
    ends: Vec<usize>,
}

impl StringArray {
    /// An empty array with room for `count` strings of `bytes` bytes together.
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> StringArray {
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

impl fmt::Debug for StringArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl GgufArray {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            GgufArray::U8(v) => v.len(),
            GgufArray::I8(v) => v.len(),
            GgufArray::U16(v) => v.len(),
            GgufArray::I16(v) => v.len(),
            GgufArray::U32(v) => v.len(),
            GgufArray::I32(v) => v.len(),
            GgufArray::F32(v) => v.len(),
            GgufArray::Bool(v) => v.len(),
            GgufArray::String(v) => v.len(),
            GgufArray::Array(v) => v.len(),
            GgufArray::U64(v) => v.len(),
            GgufArray::I64(v) => v.len(),
            GgufArray::F64(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` as a value of its own.
    pub fn get(&self, i: usize) -> Option<GgufValue> {
        Some(match self {
            GgufArray::U8(v) => GgufValue::U8(*v.get(i)?),
            GgufArray::I8(v) => GgufValue::I8(*v.get(i)?),
            GgufArray::U16(v) => GgufValue::U16(*v.get(i)?),
            GgufArray::I16(v) => GgufValue::I16(*v.get(i)?),
            GgufArray::U32(v) => GgufValue::U32(*v.get(i)?),
            GgufArray::I32(v) => GgufValue::I32(*v.get(i)?),
            GgufArray::F32(v) => GgufValue::F32(*v.get(i)?),
            GgufArray::Bool(v) => GgufValue::Bool(*v.get(i)?),
            GgufArray::String(v) => GgufValue::String(v.get(i)?.to_owned()),
            GgufArray::Array(v) => GgufValue::Array(v.get(i)?.clone()),
            GgufArray::U64(v) => GgufValue::U64(*v.get(i)?),
            GgufArray::I64(v) => GgufValue::I64(*v.get(i)?),
            GgufArray::F64(v) => GgufValue::F64(*v.get(i)?),
        })
    }

    /// Every element as `i64`, or `None` if they are no integers or one does not fit.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        (0..self.len()).map(|i| self.get(i)?.as_i64()).collect()
    }

    /// Every element as `u32`, or `None` if they are no integers or one does not fit.
    pub fn to_u32s(&self) -> Option<Vec<u32>> {
        (0..self.len()).map(|i| u32::try_from(self.get(i)?.as_i64()?).ok()).collect()
    }

    /// Every element as `f32`, or `None` if they are no numbers.
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        (0..self.len()).map(|i| self.get(i)?.as_f32()).collect()
    }

    /// The type of the elements, as the GGUF specification spells it.
    pub fn element_type(&self) -> &'static str {
        match self {
            GgufArray::U8(_) => "uint8",
            GgufArray::I8(_) => "int8",
            GgufArray::U16(_) => "uint16",
            GgufArray::I16(_) => "int16",
            GgufArray::U32(_) => "uint32",
            GgufArray::I32(_) => "int32",
            GgufArray::F32(_) => "float32",
            GgufArray::Bool(_) => "bool",
            GgufArray::String(_) => "string",
            GgufArray::Array(_) => "array",
            GgufArray::U64(_) => "uint64",
            GgufArray::I64(_) => "int64",
            GgufArray::F64(_) => "float64",
        }
    }
}

impl GgufValue {
    /// Any integer type as `u64`; `None` for the rest and for negative numbers.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            GgufValue::U64(v) => Some(v),
            _ => u64::try_from(self.as_i64()?).ok(),
        }
    }

    /// Any integer type as `i64`; `None` for the rest and for what does not fit.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            GgufValue::U8(v) => Some(v.into()),
            GgufValue::I8(v) => Some(v.into()),
            GgufValue::U16(v) => Some(v.into()),
            GgufValue::I16(v) => Some(v.into()),
            GgufValue::U32(v) => Some(v.into()),
            GgufValue::I32(v) => Some(v.into()),
            GgufValue::U64(v) => i64::try_from(v).ok(),
            GgufValue::I64(v) => Some(v),
            _ => None,
        }
    }

    /// Any number as `f64`.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            GgufValue::F32(v) => Some(v.into()),
            GgufValue::F64(v) => Some(v),
            GgufValue::U64(v) => Some(v as f64),
            _ => self.as_i64().map(|v| v as f64),
        }
    }

    /// Any number as `f32`.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            GgufValue::F32(v) => Some(v),
            _ => self.as_f64().map(|v| v as f32),
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let GgufValue::Bool(v) = *self { Some(v) } else { None }
    }

    /// A string.
    pub fn as_str(&self) -> Option<&str> {
        if let GgufValue::String(v) = self { Some(v) } else { None }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&GgufArray> {
        if let GgufValue::Array(v) = self { Some(v) } else { None }
    }

    /// The type, as the GGUF specification spells it.
    pub fn type_name(&self) -> &'static str {
        match self {
            GgufValue::U8(_) => "uint8",
            GgufValue::I8(_) => "int8",
            GgufValue::U16(_) => "uint16",
            GgufValue::I16(_) => "int16",
            GgufValue::U32(_) => "uint32",
            GgufValue::I32(_) => "int32",
            GgufValue::F32(_) => "float32",
            GgufValue::Bool(_) => "bool",
            GgufValue::String(_) => "string",
            GgufValue::Array(_) => "array",
            GgufValue::U64(_) => "uint64",
            GgufValue::I64(_) => "int64",
            GgufValue::F64(_) => "float64",
        }
    }
}

macro_rules! from_value {
    ($($ty:ty => $variant:ident),*) => {$(
        impl From<$ty> for GgufValue {
            fn from(value: $ty) -> GgufValue {
                GgufValue::$variant(value)
            }
        }
    )*};
}
from_value!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool,
    String => String, GgufArray => Array, u64 => U64, i64 => I64, f64 => F64);

impl From<&str> for GgufValue {
    fn from(value: &str) -> GgufValue {
        GgufValue::String(value.to_owned())
    }
}

macro_rules! from_vec {
    ($($ty:ty => $variant:ident),*) => {$(
        impl From<Vec<$ty>> for GgufValue {
            fn from(values: Vec<$ty>) -> GgufValue {
                GgufValue::Array(GgufArray::$variant(values))
            }
        }
    )*};
}
from_vec!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, bool => Bool,
    u64 => U64, i64 => I64, f64 => F64);

impl<S: AsRef<str>> From<&[S]> for GgufValue {
    fn from(values: &[S]) -> GgufValue {
        GgufValue::Array(GgufArray::String(values.iter().collect()))
    }
}

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

    #[test]
    fn string_arrays_index() {
        let array: StringArray = ["a", "", "bcd"].into_iter().collect();
        assert_eq!(array.to_vec(), ["a", "", "bcd"]);
        assert_eq!(array.get(3), None);
        assert_eq!(&array[2], "bcd");
    }
}
