//! Configs that describe no model.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rlx_runtime::{Entry, Logits, SessionOptions};
use serde_json::{Value, json};

use super::TinyModel;
use super::tiny::exact;
use crate::{CausalLm, CoreError, Family};

/// Fields without which, or with 0 in which, there is no model.
const SIZES: [&str; 5] = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"];

/// Every field in turn is left out or replaced by nonsense: loading either fails with one line or gives a model that runs.
/// Sizes that are zero, absent or huge, and more or fewer key/value heads than fit, always fail.
///
/// # Panics
/// If something panics, or a config that must fail does not.
pub fn hostile_configs_are_errors(family: &Family, configs: &[(&'static str, Value)]) {
    for (name, config) in configs {
        let tiny = TinyModel::new(family, config, 3);
        for (field, value, hostile) in variations(config) {
            let what = format!("{name}: {field} = {}", value.as_ref().map_or("absent".into(), Value::to_string));
            let Ok(result) = catch_unwind(AssertUnwindSafe(|| load_and_run(family, &tiny, &hostile))) else {
                panic!("{what}: panicked");
            };
            let absurd = value.as_ref().is_none_or(|value| !value.as_u64().is_some_and(|n| (1..1 << 40).contains(&n)));
            match result {
                Err(error) => {
                    let text = error.to_string();
                    assert!(!text.is_empty() && !text.contains('\n'), "{what}: the error is not one line: {text}");
                }
                Ok(()) => assert!(!(absurd && SIZES.contains(&field.as_str())), "{what}: was taken"),
            }
        }
        // Nothing is read of a checkpoint whose tensors are of another model.
        let mut wrong = tiny.tensors().to_vec();
        wrong.pop();
        let missing = super::tiny::checkpoint(wrong).with_config(config.clone());
        assert!(CausalLm::load(&missing, family, &exact(1)).is_err(), "{name}: a missing tensor was not missed");
    }
}

fn load_and_run(family: &Family, tiny: &TinyModel, config: &Value) -> Result<(), CoreError> {
    let checkpoint = super::tiny::checkpoint(tiny.tensors().to_vec()).with_config(config.clone());
    let model = CausalLm::load(&checkpoint, family, &exact(1))?;
    let mut session = model.session(SessionOptions { max_seq: 8, ..SessionOptions::default() })?;
    let sequence = session.add_sequence();
    session.step(&[Entry { sequence, tokens: &[0, 1, 2], logits: Logits::Last }])?;
    Ok(())
}

/// Each field (of the config and of the objects in it) with each kind of nonsense: its name, the new value, the config.
fn variations(config: &Value) -> Vec<(String, Option<Value>, Value)> {
    let nonsense = [
        None,
        Some(Value::Null),
        Some(json!(0)),
        Some(json!(-1)),
        Some(json!(7)),
        Some(json!(1u64 << 40)),
        Some(json!(u64::MAX)),
        Some(json!(1e300)),
        Some(json!(-0.5)),
        Some(json!("x")),
        Some(json!([])),
        Some(json!({})),
        Some(json!(true)),
    ];
    let mut out = Vec::new();
    let Some(fields) = config.as_object() else { return out };
    for (field, old) in fields {
        for value in &nonsense {
            out.push((field.clone(), value.clone(), replaced(config, &[field], value.clone())));
        }
        for inner in old.as_object().into_iter().flatten().map(|(inner, _)| inner) {
            for value in &nonsense {
                let name = format!("{field}.{inner}");
                out.push((name, value.clone(), replaced(config, &[field, inner], value.clone())));
            }
        }
    }
    out
}

fn replaced(config: &Value, path: &[&str], value: Option<Value>) -> Value {
    let mut config = config.clone();
    let mut at = &mut config;
    for key in &path[..path.len() - 1] {
        at = &mut at[*key];
    }
    let (object, key) = (at.as_object_mut().expect("only objects have fields"), path[path.len() - 1]);
    match value {
        Some(value) => object.insert(key.to_string(), value),
        None => object.remove(key),
    };
    config
}
