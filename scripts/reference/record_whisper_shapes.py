#!/usr/bin/env python3
"""Records tiny random Whispers of odd shapes with transformers, as cases for `rlx-run parity`.

    python record_whisper_shapes.py OUT [CASE...]

Needs torch 2.15.0 (CPU), transformers 5.24.0, safetensors.
"""

import pathlib
import sys

import tiny
import torch
import transformers

BASE = dict(vocab_size=53, num_mel_bins=33, d_model=48, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2,
            decoder_attention_heads=3, encoder_ffn_dim=37, decoder_ffn_dim=41, max_source_positions=19, max_target_positions=24,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)

# The convolutions have GELU whatever the config says, and `scale_embedding` changes nothing.
CASES = {
    "whisper_relu_scale": dict(activation_function="relu", scale_embedding=True),
    "whisper_one_head": dict(d_model=22, encoder_attention_heads=1, decoder_attention_heads=11, encoder_layers=1, decoder_layers=1,
                             activation_function="gelu_new"),
}


def run(model, inputs):
    out = model(**inputs, output_hidden_states=True, use_cache=False)
    tensors = {f"enc_hidden.{i}": h for i, h in enumerate(out.encoder_hidden_states)}
    tensors |= {f"dec_hidden.{i}": h for i, h in enumerate(out.decoder_hidden_states)}
    return tensors | dict(encoder_last_hidden_state=out.encoder_last_hidden_state, logits=out.logits)


def record(name, out):
    torch.manual_seed(len(name))
    config = transformers.WhisperConfig(**{**BASE, **CASES[name]})
    config._attn_implementation = "eager"
    model = tiny.randomise(transformers.WhisperForConditionalGeneration(config))
    features = torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions)
    tokens = torch.randint(3, config.vocab_size, (1, 13))
    tiny.record(pathlib.Path(out) / name, model, dict(input_features=features, decoder_input_ids=tokens), run)


if __name__ == "__main__":
    for case in sys.argv[2:] or CASES:
        record(case, sys.argv[1])
