//! Sizes of a Whisper model, from `config.json`, GGUF metadata, or the tensors themselves.

use rlx_core::{CoreError, HfConfig, in_range};
use rlx_ir::Activation;
use rlx_weights::{Checkpoint, GgufMetadata};

use crate::weights::Naming;

/// Width of a head in every published model: what tells the number of heads where a file does not.
const HEAD_DIM: usize = 64;

/// A Whisper model's config; fields are named as in `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct WhisperConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Mel bands: 80, or 128 for large-v3 and turbo.
    pub num_mel_bins: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Heads of the encoder.
    pub encoder_attention_heads: usize,
    /// Width of the encoder's feed-forward.
    pub encoder_ffn_dim: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Heads of the decoder.
    pub decoder_attention_heads: usize,
    /// Width of the decoder's feed-forward.
    pub decoder_ffn_dim: usize,
    /// Positions of an encoded window: 1500. The window has twice as many frames.
    pub max_source_positions: usize,
    /// Longest sequence of the decoder: 448.
    pub max_target_positions: usize,
    /// Nonlinearity of the feed-forwards; the convolutions have GELU.
    pub activation_function: Activation,
    /// Layer and head of the cross-attention heads that follow the sound, for word timestamps.
    pub alignment_heads: Vec<(usize, usize)>,
}

impl WhisperConfig {
    /// The config of a checkpoint, in whichever form it has one.
    ///
    /// # Errors
    /// If it has none, or a field is missing or out of range.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<WhisperConfig, CoreError> {
        let generation = checkpoint.sidecar_json("generation_config.json")?;
        let beside = checkpoint.sidecar_json("config.json")?;
        let json = checkpoint.config().or(beside.as_ref().filter(|json| json.get("d_model").is_some()));
        let mut config = match (json, checkpoint.gguf()) {
            (Some(json), _) => WhisperConfig::from_hf(json)?,
            (None, Some(metadata)) => WhisperConfig::from_gguf(checkpoint, metadata)?,
            (None, None) => return Err(CoreError::Config("there is no config.json".into())),
        };
        // CTranslate2 writes them into a `config.json` that holds little else.
        let told = [&generation, &beside].into_iter().flatten().find_map(|json| json.get("alignment_heads"));
        if let Some(heads) = told.filter(|heads| heads.is_array()) {
            config.alignment_heads = pairs(heads)?;
        }
        config.validate()?;
        if config.alignment_heads.is_empty() {
            config.alignment_heads = config.default_alignment_heads();
        }
        Ok(config)
    }

    /// Reads `config.json`. Alignment heads, which it seldom has, may be left for `generation_config.json`.
    ///
    /// # Errors
    /// If a field is missing or of the wrong type.
    pub fn from_hf(json: &serde_json::Value) -> Result<WhisperConfig, CoreError> {
        let config = HfConfig::new(json);
        Ok(WhisperConfig {
            vocab_size: config.require_usize("vocab_size")?,
            num_mel_bins: config.usize("num_mel_bins")?.unwrap_or(80),
            d_model: config.require_usize("d_model")?,
            encoder_layers: config.require_usize("encoder_layers")?,
            encoder_attention_heads: config.require_usize("encoder_attention_heads")?,
            encoder_ffn_dim: config.require_usize("encoder_ffn_dim")?,
            decoder_layers: config.require_usize("decoder_layers")?,
            decoder_attention_heads: config.require_usize("decoder_attention_heads")?,
            decoder_ffn_dim: config.require_usize("decoder_ffn_dim")?,
            max_source_positions: config.usize("max_source_positions")?.unwrap_or(1500),
            max_target_positions: config.usize("max_target_positions")?.unwrap_or(448),
            activation_function: config.activation("activation_function", Activation::GeluErf)?,
            alignment_heads: config.get("alignment_heads").map(pairs).transpose()?.unwrap_or_default(),
        })
    }

    /// Sizes from the shapes of the tensors, which tell all but the numbers of heads: those are
    /// `whisper.encoder.attention.head_count` and `whisper.decoder.attention.head_count`, or 64 wide each as in every published
    /// model.
    ///
    /// # Errors
    /// If a tensor is missing or has an odd shape.
    pub fn from_gguf(checkpoint: &Checkpoint, metadata: &GgufMetadata) -> Result<WhisperConfig, CoreError> {
        let naming = Naming::of(checkpoint);
        let shape = |canonical: &str| -> Result<&[usize], CoreError> {
            let name = naming.name(canonical);
            let tensor = checkpoint.tensor(&name);
            Ok(&tensor.ok_or_else(|| CoreError::Config(format!("tensor {name} is missing")))?.shape)
        };
        let dims = |canonical: &str| match *shape(canonical)? {
            [rows, columns] => Ok((rows, columns)),
            ref other => Err(CoreError::Config(format!("{} has shape {other:?}", naming.name(canonical)))),
        };
        let layers = |side: &str| {
            let name = |i: usize| naming.name(&format!("model.{side}.layers.{i}.fc1.weight"));
            (0..MAX_LAYERS).take_while(|&i| checkpoint.tensor(&name(i)).is_some()).count()
        };
        let (vocab_size, d_model) = dims("model.decoder.embed_tokens.weight")?;
        let num_mel_bins = match *shape("model.encoder.conv1.weight")? {
            [_, mels, _] => mels,
            ref other => return Err(CoreError::Config(format!("the first convolution has shape {other:?}"))),
        };
        let max_source_positions = match checkpoint.tensor(&naming.name("model.encoder.embed_positions.weight")) {
            Some(_) => dims("model.encoder.embed_positions.weight")?.0,
            None => 1500,
        };
        let heads = |side: &str| {
            let told = metadata.get_u32(&format!("whisper.{side}.attention.head_count"));
            told.map_or(d_model / HEAD_DIM, |heads| heads as usize)
        };
        Ok(WhisperConfig {
            vocab_size,
            num_mel_bins,
            d_model,
            encoder_layers: layers("encoder"),
            encoder_attention_heads: heads("encoder"),
            encoder_ffn_dim: dims("model.encoder.layers.0.fc1.weight")?.0,
            decoder_layers: layers("decoder"),
            decoder_attention_heads: heads("decoder"),
            decoder_ffn_dim: dims("model.decoder.layers.0.fc1.weight")?.0,
            max_source_positions,
            max_target_positions: dims("model.decoder.embed_positions.weight")?.0,
            activation_function: Activation::GeluErf,
            alignment_heads: vec![],
        })
    }

    /// The heads that openai/whisper found to follow the sound, by the sizes of its models; all heads of the later half of the
    /// decoder's layers for others.
    fn default_alignment_heads(&self) -> Vec<(usize, usize)> {
        let found = ALIGNMENT_HEADS.iter().find(|known| {
            known.layers == self.decoder_layers && known.d_model == self.d_model && known.vocab == self.vocab_size
        });
        match found {
            Some(known) => known.heads.to_vec(),
            None => (self.decoder_layers / 2..self.decoder_layers)
                .flat_map(|layer| (0..self.decoder_attention_heads).map(move |head| (layer, head)))
                .collect(),
        }
    }

    /// Checks that sizes are in range and fit together.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self) -> Result<(), CoreError> {
        let sizes = [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("num_mel_bins", self.num_mel_bins, 1 << 12),
            ("d_model", self.d_model, 1 << 16),
            ("encoder_layers", self.encoder_layers, MAX_LAYERS),
            ("encoder_attention_heads", self.encoder_attention_heads, 1 << 12),
            ("encoder_ffn_dim", self.encoder_ffn_dim, 1 << 20),
            ("decoder_layers", self.decoder_layers, MAX_LAYERS),
            ("decoder_attention_heads", self.decoder_attention_heads, 1 << 12),
            ("decoder_ffn_dim", self.decoder_ffn_dim, 1 << 20),
            ("max_source_positions", self.max_source_positions, 1 << 20),
            ("max_target_positions", self.max_target_positions, 1 << 20),
        ];
        sizes.into_iter().try_for_each(|(name, value, max)| in_range(name, value, max))?;
        for (name, heads) in [
            ("encoder_attention_heads", self.encoder_attention_heads),
            ("decoder_attention_heads", self.decoder_attention_heads),
        ] {
            if !self.d_model.is_multiple_of(heads) {
                return Err(CoreError::Config(format!("{name} = {heads} do not divide d_model = {}", self.d_model)));
            }
        }
        let outside =
            |&&(layer, head): &&(usize, usize)| layer >= self.decoder_layers || head >= self.decoder_attention_heads;
        if let Some((layer, head)) = self.alignment_heads.iter().find(outside) {
            return Err(CoreError::Config(format!("alignment_heads names head {head} of layer {layer}")));
        }
        Ok(())
    }

    /// Frames of a window.
    pub fn window_frames(&self) -> usize {
        2 * self.max_source_positions
    }

    /// A model small enough for tests.
    pub fn tiny() -> WhisperConfig {
        WhisperConfig {
            vocab_size: 61,
            num_mel_bins: 9,
            d_model: 24,
            encoder_layers: 2,
            encoder_attention_heads: 3,
            encoder_ffn_dim: 40,
            decoder_layers: 2,
            decoder_attention_heads: 2,
            decoder_ffn_dim: 36,
            max_source_positions: 11,
            max_target_positions: 32,
            activation_function: Activation::GeluErf,
            alignment_heads: vec![(0, 1), (1, 0), (1, 1)],
        }
    }
}

const MAX_LAYERS: usize = 1 << 10;

fn pairs(json: &serde_json::Value) -> Result<Vec<(usize, usize)>, CoreError> {
    let pair = |value: &serde_json::Value| -> Option<(usize, usize)> {
        match value.as_array()?.as_slice() {
            [layer, head] => Some((layer.as_u64()?.try_into().ok()?, head.as_u64()?.try_into().ok()?)),
            _ => None,
        }
    };
    let all: Option<Vec<_>> = json.as_array().and_then(|list| list.iter().map(pair).collect());
    all.ok_or_else(|| CoreError::Config("alignment_heads is no list of pairs [layer, head]".into()))
}

struct KnownHeads {
    layers: usize,
    d_model: usize,
    vocab: usize,
    heads: &'static [(usize, usize)],
}

/// Alignment heads as `generation_config.json` of openai/whisper-* publishes them.
const ALIGNMENT_HEADS: &[KnownHeads] = &[
    KnownHeads {
        layers: 4,
        d_model: 384,
        vocab: 51864,
        heads: &[(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)],
    },
    KnownHeads { layers: 4, d_model: 384, vocab: 51865, heads: &[(2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)] },
    KnownHeads { layers: 6, d_model: 512, vocab: 51864, heads: &[(3, 3), (4, 7), (5, 1), (5, 5), (5, 7)] },
    KnownHeads {
        layers: 6,
        d_model: 512,
        vocab: 51865,
        heads: &[(3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6)],
    },
    KnownHeads {
        layers: 12,
        d_model: 768,
        vocab: 51864,
        heads: &[
            (6, 6),
            (7, 0),
            (7, 3),
            (7, 8),
            (8, 2),
            (8, 5),
            (8, 7),
            (9, 0),
            (9, 4),
            (9, 8),
            (9, 10),
            (10, 0),
            (10, 1),
            (10, 2),
            (10, 3),
            (10, 6),
            (10, 11),
            (11, 2),
            (11, 4),
        ],
    },
    KnownHeads {
        layers: 12,
        d_model: 768,
        vocab: 51865,
        heads: &[(5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5)],
    },
    KnownHeads {
        layers: 24,
        d_model: 1024,
        vocab: 51864,
        heads: &[
            (11, 4),
            (14, 1),
            (14, 12),
            (14, 14),
            (15, 4),
            (16, 0),
            (16, 4),
            (16, 9),
            (17, 12),
            (17, 14),
            (18, 7),
            (18, 10),
            (18, 15),
            (20, 0),
            (20, 3),
            (20, 9),
            (20, 14),
            (21, 12),
        ],
    },
    KnownHeads {
        layers: 24,
        d_model: 1024,
        vocab: 51865,
        heads: &[(13, 15), (15, 4), (15, 15), (16, 1), (20, 0), (23, 4)],
    },
    // large-v3; of large-v1 and -v2, which have other heads and the same sizes, the files say which.
    KnownHeads {
        layers: 32,
        d_model: 1280,
        vocab: 51866,
        heads: &[(7, 0), (10, 17), (12, 18), (13, 12), (16, 1), (17, 14), (19, 11), (21, 4), (24, 1), (25, 6)],
    },
    KnownHeads {
        layers: 32,
        d_model: 1280,
        vocab: 51865,
        heads: &[
            (10, 12),
            (13, 17),
            (16, 11),
            (16, 12),
            (16, 13),
            (17, 15),
            (17, 16),
            (18, 4),
            (18, 11),
            (18, 19),
            (19, 11),
            (21, 2),
            (21, 3),
            (22, 3),
            (22, 9),
            (22, 12),
            (23, 5),
            (23, 7),
            (23, 13),
            (25, 5),
            (26, 1),
            (26, 12),
            (27, 15),
        ],
    },
    KnownHeads { layers: 4, d_model: 1280, vocab: 51866, heads: &[(2, 4), (2, 11), (3, 3), (3, 6), (3, 11), (3, 14)] },
];
