#!/usr/bin/env python3
"""Records tiny random encoders of odd shapes with transformers, as cases for `rlx-run parity`.

    python record_encoders.py OUT [CASE...]

Needs torch 2.15.0 (CPU), transformers 5.24.0, safetensors. Norm weights are not 1 and biases not 0. The first text of each batch is
padded in its middle, the second on the right, the third after its first token. Tolerances are 20 times the difference between f32 and f64, at
least 1e-5 of the largest value.
"""

import copy
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

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
    settings = dict(settings)
    config_class = transformers.NomicBertConfig if kind.startswith("Nomic") else transformers.BertConfig
    config = config_class(**settings)
    config._attn_implementation = "eager"
    model = getattr(transformers, kind)(config).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.dim() > 1:
                p.normal_(0.0, 1.0 if "embed" in key else 1.2 / p.shape[-1] ** 0.5)
            elif key.endswith("bias"):
                p.normal_(0.0, 0.2)
            else:
                p.normal_(1.0, 0.3)
    tokens = 37
    ids = torch.randint(3, config.vocab_size, (3, tokens))
    mask = torch.ones_like(ids)
    mask[0, 11:16] = 0
    mask[1, tokens - 20:] = 0
    mask[2, 1:4] = 0
    types = torch.randint(0, config.type_vocab_size, (3, tokens))
    inputs = dict(input_ids=ids, attention_mask=mask, token_type_ids=types)
    got = run(model, inputs)
    exact = run(copy.deepcopy(model).double(), inputs)
    tensors = {"in." + key: value for key, value in inputs.items()}
    tolerances = {}
    for key, value in got.items():
        kept = mask[..., None] > 0 if value.dim() == 3 else torch.ones(1, dtype=torch.bool)
        value = torch.where(kept, value, 0.0)
        error = (value.double() - torch.where(kept, exact[key], 0.0)).abs().max().item()
        size = value.abs().max().item()
        tolerances[key] = dict(absmax=size, f32_vs_f64=error, suggested_atol=max(20 * error, 1e-5 * size))
        tensors["out." + key] = value.contiguous()
    folder = pathlib.Path(out) / name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    save_file(tensors, folder / "expected.safetensors")
    meta = dict(family=name, reference=f"transformers.{kind}", tolerances=tolerances,
                versions=dict(torch=torch.__version__, transformers=transformers.__version__))
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    print(name, f"{sum(f.stat().st_size for f in folder.iterdir()) / 1e3:.0f} KB")


if __name__ == "__main__":
    for case in sys.argv[2:] or CASES:
        record(case, sys.argv[1])
