//! Which family's command takes which checkpoint.

use std::path::Path;

use rlx_weights::{Checkpoint, GgufMetadata};
use serde_json::json;

/// A checkpoint without tensors that says what it is, as GGUF or by `config.json`.
fn checkpoint(name: &str, gguf: bool) -> Checkpoint {
    let empty = Checkpoint::custom("memory", Path::new("model"), vec![], vec![]).unwrap();
    if !gguf {
        return empty.with_config(json!({ "model_type": name }));
    }
    let mut metadata = GgufMetadata::default();
    metadata.set("general.architecture", name);
    empty.with_gguf(metadata)
}

/// Messages and tables name a family's command by the family.
#[test]
fn every_family_has_a_command() {
    let registry = rlx_models::registry();
    for family in registry.families().iter() {
        assert!(registry.runner(family.name).is_some(), "no command {}", family.name);
    }
}

#[test]
fn files_of_other_families_are_sent_to_theirs() {
    let registry = rlx_models::registry();
    let families = registry.families();
    let mut sent = 0;
    for of in families.iter() {
        for (names, gguf) in [(of.gguf_architectures, true), (of.hf_model_types, false)] {
            for name in names {
                let checkpoint = checkpoint(name, gguf);
                for command in families.iter() {
                    match families.expect(command.name, &checkpoint) {
                        Ok(family) => {
                            assert_eq!(family.name, command.name);
                            assert!(command.takes(&checkpoint), "{} takes {name}", command.name);
                        }
                        Err(error) => {
                            assert!(!command.takes(&checkpoint), "{} refuses {name}", command.name);
                            let text = error.to_string();
                            let expected = format!(
                                "this is a {name} file: use `rlx-run {}`",
                                families.find(&checkpoint).unwrap().name
                            );
                            assert!(text.starts_with(&expected), "{text}");
                            sent += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(sent > 20, "{sent}");
    let unknown = families.expect("qwen3", &checkpoint("mamba", true)).unwrap_err().to_string();
    assert!(unknown.contains("`mamba` is not supported"), "{unknown}");
}
