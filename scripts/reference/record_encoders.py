#!/usr/bin/env python3
"""Records tiny random encoders of odd shapes with transformers, as cases for `rlx-run parity`.

    python record_encoders.py OUT [CASE...]

Needs torch 2.15.0 (CPU), transformers 5.24.0, safetensors. The first text of each batch is
padded in its middle, the second on the right, the third after its first token.
"""

import pathlib
import sys

import tiny
import torch
import transformers

BERT = dict(vocab_size=71, hidden_size=45, intermediate_size=50, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=50)
NOMIC = dict(vocab_size=67, hidden_size=40, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, head_dim=10)

CASES = {
    "bert_odd": ("BertModel", dict(BERT, type_vocab_size=3, layer_norm_eps=1e-3)),
    "bert_one_head_relu": ("BertModel", dict(BERT, num_attention_heads=1, hidden_act="relu", type_vocab_size=1)),
    "bert_wide_gelu_new": ("BertModel", dict(BERT, hidden_size=80, num_attention_heads=16, intermediate_size=33, hidden_act="gelu_new",
                                             num_hidden_layers=1)),
    "bert_cross_encoder": ("BertForSequenceClassification", dict(BERT, num_labels=1)),
    "bert_three_labels": ("BertForSequenceClassification", dict(BERT, num_labels=3, hidden_act="silu")),
    "bert_mlm_untied": ("BertForMaskedLM", dict(BERT, tie_word_embeddings=False, hidden_act="gelu_new")),
    "nomic_odd": ("NomicBertModel", dict(NOMIC, rope_parameters=dict(rope_type="default", rope_theta=777.0))),
    "nomic_one_type": ("NomicBertModel", dict(NOMIC, type_vocab_size=1, num_attention_heads=1, head_dim=40, hidden_size=40)),
}


def run(model, inputs):
    out = model(**inputs, output_hidden_states=True)
    tensors = {f"hidden.{i}": h for i, h in enumerate(out.hidden_states)}
    tensors["last_hidden_state"] = out.hidden_states[-1]
    if getattr(out, "pooler_output", None) is not None:
        tensors["pooler_output"] = out.pooler_output
    if "logits" in out:
        tensors["mlm_logits" if out.logits.dim() == 3 else "logits"] = out.logits
    return tensors


def record(name, out):
    kind, settings = CASES[name]
    torch.manual_seed(len(name))
    config_class = transformers.NomicBertConfig if kind.startswith("Nomic") else transformers.BertConfig
    config = config_class(**settings)
    config._attn_implementation = "eager"
    model = tiny.randomise(getattr(transformers, kind)(config))
    tokens = 37
    ids = torch.randint(3, config.vocab_size, (3, tokens))
    mask = torch.ones_like(ids)
    mask[0, 11:16] = 0
    mask[1, tokens - 20:] = 0
    mask[2, 1:4] = 0
    types = torch.randint(0, config.type_vocab_size, (3, tokens))
    inputs = dict(input_ids=ids, attention_mask=mask, token_type_ids=types)

    def keep(value):
        return torch.where(mask[..., None] > 0, value, 0.0) if value.dim() == 3 else value

    tiny.record(pathlib.Path(out) / name, model, inputs, run, keep)


if __name__ == "__main__":
    for case in sys.argv[2:] or CASES:
        record(case, sys.argv[1])
