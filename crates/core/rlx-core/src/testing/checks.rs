//! What must hold of every model.

use rlx_ir::DType;
use rlx_runtime::{Entry, Isa, KvType, Logits, Precision, Session, SessionOptions};
use rlx_weights::GgufMetadata;
use serde_json::Value;

use super::tiny::exact;
use super::{Random, TinyModel};
use crate::parity::Errors;
use crate::{CausalLm, Family};

/// F32 sums in another order, over a few layers.
const SAME: f64 = 1e-8;

/// `config.json`s by name.
type Configs = [(&'static str, Value)];

fn each(family: &Family, configs: &Configs, mut check: impl FnMut(&str, &TinyModel)) {
    assert!(!configs.is_empty());
    for (index, (name, config)) in configs.iter().enumerate() {
        check(name, &TinyModel::new(family, config, 1 + index as u64));
    }
}

fn session(model: &CausalLm) -> Session {
    session_with(model, KvType::F32)
}

/// Blocks of 4 tokens, so that even short sequences have several.
fn session_with(model: &CausalLm, kv_type: KvType) -> Session {
    let options = SessionOptions { max_seq: 64, kv_type, block_len: 4, ..SessionOptions::default() };
    model.session(options).expect("the options are in range")
}

/// Logits of every token, run at once.
fn all_logits(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    let sequence = session.add_sequence();
    session.step(&[Entry { sequence, tokens, logits: Logits::All }]).expect("a step runs");
    session.remove(sequence).expect("the sequence exists");
    session.logits().to_vec()
}

#[track_caller]
fn assert_close(name: &str, what: &str, found: &[f32], expected: &[f32], nmse: f64) {
    assert_eq!(found.len(), expected.len(), "{name}: {what}");
    assert!(expected.iter().all(|x| x.is_finite()), "{name}: {what}: the reference is not finite");
    let errors = Errors::between(found, expected);
    assert!(errors.nmse <= nmse, "{name}: {what}: NMSE {:.3e} exceeds {nmse:.0e}", errors.nmse);
}

/// Tokens run one by one, or in pieces of odd lengths, give the logits that one run of all gives; tokens that come later
/// change nothing.
///
/// # Panics
/// If they do not.
pub fn cached_decode_is_recompute(family: &Family, configs: &Configs) {
    each(family, configs, |name, tiny| {
        let model = tiny.load();
        let mut session = session(&model);
        let vocab = session.vocab();
        let tokens = Random::new(7).tokens(23, vocab);
        let full = all_logits(&mut session, &tokens);
        for pieces in [&[1; 23][..], &[5, 1, 1, 7, 1, 2, 6], &[16, 1, 6]] {
            let sequence = session.add_sequence();
            let mut at = 0;
            for &len in pieces {
                let entry = Entry { sequence, tokens: &tokens[at..at + len], logits: Logits::All };
                session.step(&[entry]).expect("a step runs");
                let expected = &full[at * vocab..(at + len) * vocab];
                assert_close(name, &format!("tokens {at}..{}", at + len), session.logits(), expected, SAME);
                at += len;
            }
            session.remove(sequence).expect("the sequence exists");
        }
    });
}

/// Sequences of different lengths in one batch give what each gives alone, prompts and single tokens mixed.
///
/// # Panics
/// If they do not.
pub fn batched_is_single(family: &Family, configs: &Configs) {
    each(family, configs, |name, tiny| {
        let model = tiny.load();
        let mut session = session(&model);
        let vocab = session.vocab();
        let mut random = Random::new(11);
        let rows: Vec<Vec<u32>> = [3, 17, 9].iter().map(|&len| random.tokens(len, vocab)).collect();
        let alone: Vec<Vec<f32>> = rows.iter().map(|row| all_logits(&mut session, row)).collect();
        let ids: Vec<_> = rows.iter().map(|_| session.add_sequence()).collect();

        // All but the last token of each, then the last tokens together with a prompt of a fourth sequence.
        let entries: Vec<Entry<'_>> = ids
            .iter()
            .zip(&rows)
            .map(|(&sequence, row)| Entry { sequence, tokens: &row[..row.len() - 1], logits: Logits::All })
            .collect();
        session.step(&entries).expect("a step runs");
        let expected: Vec<f32> =
            alone.iter().zip(&rows).flat_map(|(all, row)| &all[..(row.len() - 1) * vocab]).copied().collect();
        assert_close(name, "a ragged batch of prompts", session.logits(), &expected, SAME);

        let prompt = session.add_sequence();
        let mut entries: Vec<Entry<'_>> = ids
            .iter()
            .zip(&rows)
            .map(|(&sequence, row)| Entry { sequence, tokens: &row[row.len() - 1..], logits: Logits::Last })
            .collect();
        entries.insert(1, Entry { sequence: prompt, tokens: &rows[1], logits: Logits::Last });
        session.step(&entries).expect("a step runs");
        let last = |i: usize| &alone[i][(rows[i].len() - 1) * vocab..];
        let expected = [last(0), last(1), last(1), last(2)].concat();
        assert_close(name, "single tokens beside a prompt", session.logits(), &expected, SAME);

        // Rows that want no logits give none.
        let entry = Entry { sequence: prompt, tokens: &rows[0], logits: Logits::None };
        session.step(&[entry]).expect("a step runs");
        assert!(session.logits().is_empty(), "{name}");
    });
}

/// Forked, cut, saved and restored sequences go on with exactly the logits of the original; forks do not disturb it;
/// all blocks come back.
///
/// # Panics
/// If they do not.
pub fn state_is_exact(family: &Family, configs: &Configs) {
    each(family, configs, |name, tiny| {
        let model = tiny.load();
        for kv_type in [KvType::F32, KvType::F16] {
            let mut session = session_with(&model, kv_type);
            let vocab = session.vocab();
            let mut random = Random::new(13);
            // 10 tokens end in the middle of a block of 4; 8 at its end.
            for len in [10, 8] {
                let prompt = random.tokens(len, vocab);
                let next = random.tokens(3, vocab);
                let other = random.tokens(2, vocab);
                let decode = |session: &mut Session, sequence, tokens: &[u32]| -> Vec<f32> {
                    let mut rows = Vec::new();
                    for token in tokens {
                        let entry = Entry { sequence, tokens: std::slice::from_ref(token), logits: Logits::Last };
                        session.step(&[entry]).expect("a step runs");
                        rows.extend_from_slice(session.logits());
                    }
                    rows
                };
                let original = session.add_sequence();
                session.prefill(original, &prompt, |_| true).expect("the prompt fits");
                let saved = session.save(original).expect("the sequence exists");
                let fork = session.fork(original).expect("the sequence exists");
                decode(&mut session, fork, &other);
                let expected = decode(&mut session, original, &next);

                session.truncate(fork, len).expect("it is longer");
                assert!(decode(&mut session, fork, &next) == expected, "{name}: a fork, cut");
                session.truncate(original, len).expect("it is longer");
                assert!(decode(&mut session, original, &next) == expected, "{name}: the original, cut");
                let restored = session.restore(&saved).expect("it was just saved");
                assert_eq!(session.tokens(restored).expect("the sequence exists"), prompt);
                assert!(decode(&mut session, restored, &next) == expected, "{name}: restored");
                let mut elsewhere = session_with(&model, kv_type);
                let restored_elsewhere = elsewhere.restore(&saved).expect("the same model and options");
                assert!(decode(&mut elsewhere, restored_elsewhere, &next) == expected, "{name}: restored elsewhere");

                for cut in [0, 1, 27, saved.len() - 1] {
                    assert!(session.restore(&saved[..cut]).is_err(), "{name}: {cut} bytes of a saved sequence");
                }
                for sequence in [original, fork, restored] {
                    session.remove(sequence).expect("the sequence exists");
                }
                assert_eq!(session.blocks_in_use(), 0, "{name}");
            }
        }
    });
}

/// The smaller KV types stay close to F32.
///
/// # Panics
/// If they do not.
pub fn kv_types_agree(family: &Family, configs: &Configs) {
    each(family, configs, |name, tiny| {
        let model = tiny.load();
        let mut exact = session(&model);
        let tokens = Random::new(17).tokens(29, exact.vocab());
        let expected = all_logits(&mut exact, &tokens);
        for (kv_type, nmse) in [(KvType::F16, 1e-4), (KvType::Q8, 1e-2)] {
            let found = all_logits(&mut session_with(&model, kv_type), &tokens);
            assert_close(name, &format!("KV {kv_type:?}"), &found, &expected, nmse);
        }
    });
}

/// Every instruction set of this machine computes what the scalar kernels compute.
///
/// # Panics
/// If one does not.
pub fn instruction_sets_agree(family: &Family, configs: &Configs) {
    each(family, configs, |name, tiny| {
        let run = |isa: Isa| {
            let mut options = exact(2);
            options.compile.isa = isa;
            let model = tiny.load_with(&options);
            let mut session = session(&model);
            let tokens = Random::new(19).tokens(21, session.vocab());
            all_logits(&mut session, &tokens)
        };
        let expected = run(Isa::Scalar);
        for isa in Isa::available() {
            assert_close(name, &isa.to_string(), &run(isa), &expected, SAME);
        }
    });
}

/// Any number of threads computes the same.
///
/// # Panics
/// If one does not.
pub fn threads_agree(family: &Family, configs: &Configs) {
    each(family, configs, |name, tiny| {
        let run = |threads: usize| {
            let model = tiny.load_with(&exact(threads));
            let mut session = session(&model);
            let tokens = Random::new(23).tokens(21, session.vocab());
            all_logits(&mut session, &tokens)
        };
        let expected = run(1);
        for threads in [2, 3, 5] {
            assert_close(name, &format!("{threads} threads"), &run(threads), &expected, SAME);
        }
    });
}

/// Weights of small types give what the same values in F32 give: exactly so in F32 arithmetic, closely with the kernels
/// that work on packed weights.
///
/// # Panics
/// If they do not.
pub fn packed_is_dequantised(family: &Family, configs: &Configs) {
    let types: [&[DType]; 6] = [
        &[DType::F16],
        &[DType::BF16],
        &[DType::Q8_0, DType::F16],
        &[DType::Q4_0, DType::BF16],
        &[DType::Q4_K, DType::Q5_1],
        &[DType::Q6_K, DType::Q5_0],
    ];
    each(family, configs, |name, tiny| {
        for types in types {
            let run = |tiny: &TinyModel, precision| {
                let mut options = exact(2);
                options.compile.precision = precision;
                let model = tiny.load_with(&options);
                let mut session = session(&model);
                let tokens = Random::new(29).tokens(21, session.vocab());
                all_logits(&mut session, &tokens)
            };
            let expected = run(&tiny.rounded(types, true), Precision::F32);
            let packed = tiny.rounded(types, false);
            assert_close(name, &format!("{types:?}, f32"), &run(&packed, Precision::F32), &expected, SAME);
            assert_close(name, &format!("{types:?}, auto"), &run(&packed, Precision::Auto), &expected, 2e-3);
        }
    });
}

/// The same weights as GGUF give the same logits.
///
/// # Panics
/// If they do not.
pub fn gguf_is_safetensors(family: &Family, configs: &Configs, metadata: fn(&Value) -> GgufMetadata) {
    each(family, configs, |name, tiny| {
        let run = |model: CausalLm| {
            let mut session = session(&model);
            let tokens = Random::new(31).tokens(40, session.vocab());
            all_logits(&mut session, &tokens)
        };
        let expected = run(tiny.load());
        let gguf = CausalLm::load(&tiny.gguf_checkpoint(metadata(tiny.config())), family, &exact(2));
        let gguf = gguf.unwrap_or_else(|error| panic!("{name}: as GGUF: {error}"));
        assert_close(name, "as GGUF", &run(gguf), &expected, SAME);
    });
}
