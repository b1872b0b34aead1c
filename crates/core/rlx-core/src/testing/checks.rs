//! What must hold of every model.

use std::ops::ControlFlow;

use rlx_ir::DType;
use rlx_runtime::{Entry, Isa, KvType, Logits, Precision, Session, SessionOptions};
use rlx_weights::GgufMetadata;
use serde_json::Value;

use super::tiny::exact;
use super::{Random, TinyModel};
use crate::parity::Errors;
use crate::{
    Assist, CausalLm, ConvertOptions, CoreError, Drafter, Families, Family, GenerateOptions, LoadOptions, ModelDrafter,
    NgramDrafter, StopReason, gguf_source,
};

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

/// Guesses at random: the worst of drafts.
struct RandomDrafter(Random, usize);

impl Drafter for RandomDrafter {
    fn draft(&mut self, _: &[u32], max: usize, out: &mut Vec<u32>) -> Result<(), CoreError> {
        out.extend(self.0.tokens(max, self.1));
        Ok(())
    }
}

/// Whatever is drafted, and however well, the same tokens are generated, greedily and by chance; and the packed kernels compute
/// drafted tokens to the last bit as they compute them one by one.
///
/// # Panics
/// If they do not.
pub fn drafts_change_nothing(family: &Family, configs: &Configs) {
    each(family, configs, |name, tiny| {
        let model = tiny.load();
        let vocab = session(&model).vocab();
        let prompt = Random::new(37).tokens(9, vocab);
        for (temperature, seed) in [(0.0, 0), (0.7, 1), (0.7, 2), (1.3, 3)] {
            let mut options = GenerateOptions { max_tokens: 40, ..GenerateOptions::default() };
            options.sampler.temperature = temperature;
            options.sampler.seed = Some(seed);
            let run = |drafter: Option<(&mut dyn Drafter, usize)>| {
                let mut session = session(&model);
                let sequence = session.add_sequence();
                let assist = Assist { drafter, ..Assist::default() };
                let generation =
                    model
                        .generate_with(&mut session, sequence, &prompt, &options, assist, &mut |_| {
                            ControlFlow::Continue(())
                        })
                        .expect("the prompt fits");
                assert_eq!(generation.reason, StopReason::MaxTokens, "{name}");
                let held = session.tokens(sequence).expect("the sequence exists").to_vec();
                assert_eq!(held, [&prompt[..], &generation.ids[..39]].concat(), "{name}: tokens held");
                generation
            };
            let plain = run(None);
            let options = SessionOptions { max_seq: 64, ..SessionOptions::default() };
            let mut own = ModelDrafter::new(&model, &model, options).expect("the vocabulary is its own");
            let drafters: [(&str, &mut dyn Drafter, usize); 3] = [
                ("its own", &mut own, 4),
                ("n-gram", &mut NgramDrafter::new(), 15),
                ("random", &mut RandomDrafter(Random::new(41), vocab), 3),
            ];
            for (kind, drafter, tokens) in drafters {
                let found = run(Some((drafter, tokens)));
                assert_eq!(found.ids, plain.ids, "{name}: {kind} drafts at temperature {temperature}");
                let stats = found.drafts;
                if kind == "its own" && temperature == 0.0 && stats.drafted > 0 {
                    assert_eq!(stats.accepted, stats.drafted, "{name}: its own drafts");
                }
                assert_eq!(stats.plain_steps + stats.verify_steps + stats.accepted, 39, "{name}: {stats:?}");
            }
        }

        let packed = tiny.rounded(&[DType::Q8_0], false);
        // Sums of float weights are in another order where there are several tokens.
        let exact = packed.tensors().iter().all(|tensor| tensor.shape.len() == 1 || tensor.dtype == DType::Q8_0);
        let packed = packed.load_with(&LoadOptions::default());
        if packed.independent_len() < 512 {
            return;
        }
        let options = SessionOptions { max_seq: 512, block_len: 16, ..SessionOptions::default() };
        let mut session = packed.session(options).expect("the options are in range");
        let all = Random::new(43).tokens(48, vocab);
        // Contexts so long that they are cut among the threads.
        let one_by_one = session.add_sequence();
        session.prefill(one_by_one, &all.repeat(6), |_| true).expect("the prompt fits");
        let at_once = session.fork(one_by_one).expect("the sequence exists");
        for tokens in all.chunks(16) {
            let mut rows = Vec::new();
            for token in tokens {
                let entry = Entry { sequence: one_by_one, tokens: std::slice::from_ref(token), logits: Logits::Last };
                session.step(&[entry]).expect("a step runs");
                rows.extend_from_slice(session.logits());
            }
            session.verify(at_once, tokens).expect("a step runs");
            assert_close(name, "verified tokens", session.logits(), &rows, if exact { 0.0 } else { 1e-3 });
        }
    });
}

/// Heads to draft with change nothing and are in nobody's way; a layer too many that is none is an error.
///
/// # Panics
/// If it is not so.
pub fn draft_heads_are_left_out(family: &Family, configs: &Configs) {
    each(family, configs, |name, tiny| {
        let tokens = Random::new(47).tokens(9, session(&tiny.load()).vocab());
        let expected = all_logits(&mut session(&tiny.load()), &tokens);
        let layer = format!("model.layers.{}", tiny.layers());
        let deepseek = ["eh_proj", "enorm", "hnorm", "shared_head.head", "self_attn.q_proj", "mlp.gate_proj"];
        let deepseek: Vec<String> = deepseek.iter().map(|part| format!("{layer}.{part}.weight")).collect();
        let qwen = ["mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight", "mtp.norm.weight"].map(str::to_owned);
        for extra in [&deepseek[..], &qwen[..]] {
            let model = tiny.with_extra(extra).try_load().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(all_logits(&mut session(&model), &tokens) == expected, "{name}: {extra:?}");
            assert_eq!(model.info().parameters, tiny.load().info().parameters, "{name}");
        }
        let more = tiny.with_extra(&[format!("{layer}.self_attn.q_proj.weight")]).try_load();
        let error = more.err().unwrap_or_else(|| panic!("{name}: a layer too many is accepted"));
        assert!(error.to_string().contains(&layer), "{name}: {error}");
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

/// What the family says of the model in GGUF's words, with its tensors under GGUF's names, gives the same logits; what the format
/// has no words for is an error that says so.
///
/// # Panics
/// If it does not, or if no model can be said.
pub fn conversion_is_exact(family: &Family, configs: &Configs) {
    let mut families = Families::new();
    families.register(*family);
    let mut said = 0;
    each(family, configs, |name, tiny| {
        let options = ConvertOptions { no_tokenizer: true, ..ConvertOptions::default() };
        let source = match gguf_source(&tiny.checkpoint(), &families, &options) {
            Ok((source, _)) => source,
            Err(CoreError::Config(what)) if what.contains("GGUF files") => return,
            Err(error) => panic!("{name}: {error}"),
        };
        said += 1;
        let run = |model: CausalLm| {
            let mut session = session(&model);
            let tokens = Random::new(37).tokens(40, session.vocab());
            all_logits(&mut session, &tokens)
        };
        let tensors = source.tensors.into_iter().map(|tensor| tensor.into_view().expect("it can be read"));
        let checkpoint = super::tiny::checkpoint(tensors.collect()).with_gguf(source.metadata);
        let converted = CausalLm::load(&checkpoint, family, &exact(2));
        let converted = converted.unwrap_or_else(|error| panic!("{name}: converted: {error}"));
        assert_close(name, "converted", &run(converted), &run(tiny.load()), SAME);
    });
    assert!(said > 0, "no config can be said in GGUF's words");
}
