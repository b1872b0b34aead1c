//! Recorded cases (see scripts/reference/record_text.py) and small helpers.
#![allow(dead_code, unreachable_pub)]

pub mod gguf;

use std::path::{Path, PathBuf};

use rlx_text::{StreamDecoder, Tokenizer};
use serde_json::Value;

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

pub fn json(name: &str) -> Value {
    let path = data(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

pub struct Case {
    pub text: String,
    /// Special tokens parsed, none added.
    pub ids: Vec<u32>,
    /// Special tokens parsed and added around.
    pub full: Vec<u32>,
    /// Special tokens in the text are text.
    pub plain: Vec<u32>,
    pub decoded: Option<String>,
}

pub fn cases(name: &str) -> Vec<Case> {
    let ids = |v: &Value| -> Option<Vec<u32>> {
        Some(v.as_array()?.iter().map(|x| u32::try_from(x.as_u64().unwrap()).unwrap()).collect())
    };
    let list = json(name);
    let list = list.as_array().unwrap();
    assert!(list.len() > 200, "{name} holds {} cases", list.len());
    list.iter()
        .map(|c| {
            let of = ids(&c["ids"]).unwrap();
            Case {
                text: c["text"].as_str().unwrap().to_owned(),
                full: ids(&c["full"]).unwrap_or_else(|| of.clone()),
                plain: ids(&c["plain"]).unwrap_or_else(|| of.clone()),
                ids: of,
                decoded: c["decoded"].as_str().map(str::to_owned),
            }
        })
        .collect()
}

/// Which of the recorded answers to compare.
#[derive(Clone, Copy)]
pub struct Check {
    pub full: bool,
    pub plain: bool,
    pub decoded: bool,
}

/// All differences between a tokenizer and the record, then one panic.
pub fn check(tokenizer: &Tokenizer, cases: &[Case], what: Check) {
    let mut wrong = Vec::new();
    for c in cases {
        let mut compare = |name: &str, got: &[u32], want: &[u32]| {
            if got != want {
                wrong.push(format!("{name} {:?}\n   got {got:?}\n  want {want:?}", c.text));
            }
        };
        compare("ids", &tokenizer.encode(&c.text, false).unwrap(), &c.ids);
        if what.full {
            compare("full", &tokenizer.encode(&c.text, true).unwrap(), &c.full);
        }
        if what.plain {
            compare("plain", &tokenizer.encode_plain(&c.text).unwrap(), &c.plain);
        }
        let decoded = tokenizer.decode(&c.ids, true).unwrap();
        if let Some(want) = c.decoded.as_ref().filter(|_| what.decoded)
            && *want != decoded
        {
            wrong.push(format!("decoded {:?}\n   got {decoded:?}\n  want {want:?}", c.text));
        }
        let streamed = stream(tokenizer, &c.ids);
        if streamed != decoded {
            wrong.push(format!("streamed {:?}\n   got {streamed:?}\n  want {decoded:?}", c.text));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

pub fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut decoder = StreamDecoder::new(tokenizer);
    let mut out: String = ids.iter().map(|&id| decoder.push(id)).collect();
    out.push_str(&decoder.finish());
    out
}
