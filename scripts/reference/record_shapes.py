#!/usr/bin/env python3
"""Records tiny random decoders of odd shapes with transformers, as cases for `rlx-run parity`.

    python record_shapes.py OUT [CASE...]

Needs torch 2.15.0 (CPU), transformers 5.23.0, safetensors. The second row of each batch is padded
on the right.
"""

import pathlib
import sys

import tiny
import torch
import transformers

BASE = dict(vocab_size=61, hidden_size=40, intermediate_size=44, num_hidden_layers=2, max_position_embeddings=64,
            bos_token_id=1, eos_token_id=2, pad_token_id=0, rms_norm_eps=1e-5)

CASES = {
    "llama_linear_mqa": ("Llama", dict(num_attention_heads=6, num_key_value_heads=1, hidden_size=42, head_dim=24, tie_word_embeddings=True,
                         attention_bias=True, mlp_bias=True,
                         rope_parameters=dict(rope_type="linear", factor=3.0, rope_theta=5000.0))),
    "llama_yarn": ("Llama", dict(num_attention_heads=5, num_key_value_heads=5, head_dim=8, max_position_embeddings=128,
                   rope_parameters=dict(rope_type="yarn", factor=8.0, rope_theta=20000.0, beta_fast=16.0, beta_slow=2.0,
                                        original_max_position_embeddings=16))),
    "llama_llama3": ("Llama", dict(num_attention_heads=7, num_key_value_heads=7, hidden_size=49, head_dim=10,
                     rope_parameters=dict(rope_type="llama3", factor=4.0, rope_theta=500000.0, low_freq_factor=1.0,
                                          high_freq_factor=3.0, original_max_position_embeddings=24))),
    "llama_dynamic": ("Llama", dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=12,
                      rope_parameters=dict(rope_type="dynamic", factor=2.0, rope_theta=10000.0))),
    "qwen2_windows": ("Qwen2", dict(num_attention_heads=8, num_key_value_heads=1, hidden_size=64, num_hidden_layers=3,
                      use_sliding_window=True, sliding_window=6, max_window_layers=1)),
    "qwen3_gqa3_bias": ("Qwen3", dict(num_attention_heads=9, num_key_value_heads=3, head_dim=18, attention_bias=True,
                        rope_parameters=dict(rope_type="yarn", factor=4.0, rope_theta=1e6, attention_factor=1.3,
                                             original_max_position_embeddings=16))),
    "qwen3_moe_mixed": ("Qwen3Moe", dict(num_attention_heads=4, num_key_value_heads=4, head_dim=14, num_experts=5,
                        num_experts_per_tok=2, norm_topk_prob=False, moe_intermediate_size=24, decoder_sparse_step=1,
                        mlp_only_layers=[0])),
    "gemma1_gqa2": ("Gemma", dict(num_attention_heads=4, num_key_value_heads=2, head_dim=12, hidden_size=28)),
    "gemma2_scale": ("Gemma2", dict(num_attention_heads=3, num_key_value_heads=1, head_dim=20, hidden_size=36,
                     query_pre_attn_scalar=33, sliding_window=5, attn_logit_softcapping=7.0, final_logit_softcapping=11.0)),
    "gemma3_layers": ("Gemma3Text", dict(num_attention_heads=6, num_key_value_heads=3, head_dim=16, hidden_size=48, num_hidden_layers=3,
                      query_pre_attn_scalar=24, sliding_window=7,
                      layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                      rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=9000.0),
                                           full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6)))),
}


def model_class(name):
    return getattr(transformers, {"Gemma3Text": "Gemma3ForCausalLM"}.get(name, name + "ForCausalLM"))


def run(model, inputs):
    out = model(**inputs, output_hidden_states=True, use_cache=False)
    tensors = {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    tensors["logits"] = out.logits
    return tensors


def record(name, out):
    family, changes = CASES[name]
    torch.manual_seed(len(name))
    config = getattr(transformers, family + "Config")(**{**BASE, **changes})
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = tiny.randomise(model_class(family)(config), norm=0.1 if "Gemma" in family else 1.0)
    tokens = 20
    ids = torch.randint(3, config.vocab_size, (2, tokens))
    mask = torch.ones_like(ids)
    mask[1, tokens - 3:] = 0
    # A row of padding may see nothing at all, and is NaN then.
    tiny.record(pathlib.Path(out) / name, model, dict(input_ids=ids, attention_mask=mask), run,
                lambda value: torch.where(mask[..., None] > 0, value, 0.0))


if __name__ == "__main__":
    for case in sys.argv[2:] or CASES:
        record(case, sys.argv[1])
