//! Reading fields of `config.json`, with errors that name the field.

use rlx_ir::Activation;
use serde_json::Value;

use crate::CoreError;

/// A `config.json`, or an object inside it.
#[derive(Clone, Copy, Debug)]
pub struct HfConfig<'a> {
    value: &'a Value,
}

impl<'a> HfConfig<'a> {
    /// Wraps a JSON object.
    pub fn new(value: &'a Value) -> HfConfig<'a> {
        HfConfig { value }
    }

    /// The field's value; none if it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// Whether the field is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    /// The object under `key`; none if it is absent or null.
    pub fn object(&self, key: &str) -> Option<HfConfig<'a>> {
        self.get(key).filter(|value| value.is_object()).map(HfConfig::new)
    }

    /// A whole number; none if absent or null.
    ///
    /// # Errors
    /// If the field is something else.
    pub fn usize(&self, key: &str) -> Result<Option<usize>, CoreError> {
        self.typed(key, "a whole number", |value| {
            // Some configs write whole numbers as 8192.0.
            let whole =
                value.as_u64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && *x >= 0.0).map(|x| x as u64));
            whole.and_then(|n| usize::try_from(n).ok())
        })
    }

    /// A number; none if absent or null.
    ///
    /// # Errors
    /// If the field is something else.
    pub fn f64(&self, key: &str) -> Result<Option<f64>, CoreError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// True or false; none if absent or null.
    ///
    /// # Errors
    /// If the field is something else.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, CoreError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A string; none if absent or null.
    ///
    /// # Errors
    /// If the field is something else.
    pub fn str(&self, key: &str) -> Result<Option<&'a str>, CoreError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A whole number that must be there.
    ///
    /// # Errors
    /// If it is absent or something else.
    pub fn require_usize(&self, key: &str) -> Result<usize, CoreError> {
        self.usize(key)?.ok_or_else(|| CoreError::Config(format!("{key} is missing")))
    }

    /// An activation by the name that transformers has for it (`ACT2FN`); `default` if absent or null.
    ///
    /// # Errors
    /// If the field is something else.
    pub fn activation(&self, key: &str, default: Activation) -> Result<Activation, CoreError> {
        let Some(name) = self.str(key)? else { return Ok(default) };
        Ok(match name {
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::GeluErf,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            "relu" => Activation::Relu,
            "relu2" => Activation::Relu2,
            "sigmoid" => Activation::Sigmoid,
            "tanh" => Activation::Tanh,
            other => {
                return Err(CoreError::Config(format!(
                    "{key} `{other}` is not supported (silu, swish, gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, quick_gelu, \
                     relu, relu2, sigmoid, tanh)"
                )));
            }
        })
    }

    fn typed<T>(
        &self,
        key: &str,
        kind: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, CoreError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match convert(value) {
                Some(x) => Ok(Some(x)),
                None => Err(CoreError::Config(format!("{key} is {value}, not {kind}"))),
            },
        }
    }
}
