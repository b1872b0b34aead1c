#!/usr/bin/env python3
"""Records tiny random wav2vec2-BERT models with transformers, as cases for `rlx-run parity`.

    python record_wav2vec2_bert.py OUT [CASE...]

Needs torch 2.15.0 (CPU), transformers 5.23.0, safetensors. Norm weights are not 1 and biases not 0. Where a case has a mask, the rows
of the batch are padded on the right. Tolerances are 20 times the difference between f32 and f64, at least 1e-5 of the largest value.
"""

import copy
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

BASE = dict(vocab_size=11, feature_projection_input_dim=18, hidden_size=28, intermediate_size=39, num_hidden_layers=2, num_attention_heads=2,
            conv_depthwise_kernel_size=5, left_max_position_embeddings=7, right_max_position_embeddings=2, apply_spec_augment=False,
            mask_time_prob=0.0, hidden_dropout=0.0, layerdrop=0.0)

# Name: class, changes, lengths of the sequences (none: no mask).
CASES = {
    "ctc": ("ForCTC", dict(hidden_act="gelu", feature_projection_input_dim=160), [31, 12, 1]),
    "ctc_adapter": ("ForCTC", dict(add_adapter=True, num_adapter_layers=2, output_hidden_size=20, adapter_act="gelu",
                    use_intermediate_ffn_before_adapter=True), [40, 29]),
    "rotary": ("Model", dict(position_embeddings_type="rotary", rotary_embedding_base=300), [17, 26]),
    "relative": ("Model", dict(position_embeddings_type="relative", num_attention_heads=7, max_source_positions=9), [33, 20]),
    "no_positions": ("Model", dict(position_embeddings_type=None, hidden_act="relu"), [9, 14]),
    "long": ("Model", dict(left_max_position_embeddings=64, right_max_position_embeddings=8, num_hidden_layers=1,
             conv_depthwise_kernel_size=31), [150, 90]),
    "adapter_kernel_5_stride_3": ("Model", dict(add_adapter=True, adapter_kernel_size=5, adapter_stride=3), [38, 25]),
    "adapter_unmasked": ("Model", dict(add_adapter=True, output_hidden_size=24, num_hidden_layers=1), None),
}


VOCAB = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5, "b": 6, "c": 7, "d": 8, "e": 9, "f": 10}


def samples(seconds):
    """Noise that changes its loudness and colour ten times a second; tests/suite.rs makes the same."""
    state, last, values = 1, 0.0, []
    for i in range(int(16000 * seconds)):
        state = (state * 1103515245 + 12345) % (1 << 31)
        part = i // 1600
        noise = ((state >> 16) % 2001 - 1000) / 32768
        last = noise * (1 + part * 5 % 7) + last * (part % 4) / 4
        values.append(last)
    return values


def transcribe(model, folder, sound):
    """What the reference's feature extractor, model and tokenizer make of a sound, and how near the best token's rival is."""
    (folder / "vocab.json").write_text(json.dumps(VOCAB) + "\n")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    extractor = transformers.SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2, padding_value=0.0)
    inputs = extractor(sound, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0][: int(inputs["attention_mask"].sum())]
    best = logits.topk(2, dim=-1).values
    return dict(text=tokenizer.decode(logits.argmax(-1)), margin=(best[:, 0] - best[:, 1]).min().item())


def record(name, out):
    kind, changes, lens = CASES[name]
    torch.manual_seed(sum(map(ord, name)))
    config = transformers.Wav2Vec2BertConfig(**{**BASE, **changes})
    config._attn_implementation = "eager"
    model = getattr(transformers, "Wav2Vec2Bert" + kind)(config).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            norm = "norm" in key and key.endswith("weight")
            value.copy_(torch.randn_like(value) * (0.2 if norm or value.dim() == 1 else 0.25) + (1.0 if norm else 0.0))
    rows = max(lens) if lens else 27
    features = torch.randn(len(lens) if lens else 2, rows, config.feature_projection_input_dim)
    mask = torch.tensor([[int(t < n) for t in range(rows)] for n in lens]) if lens else None

    def run(model, features):
        with torch.no_grad():
            result = model(input_features=features, attention_mask=mask, output_hidden_states=True)
        tensors = {f"hidden.{i}": h for i, h in enumerate(result.hidden_states)}
        tensors["logits" if kind == "ForCTC" else "last_hidden_state"] = result[0]
        return tensors

    single, double = run(model, features), run(copy.deepcopy(model).double(), features.double())
    tolerances = {}
    for key, value in single.items():
        absmax = value.abs().max().item()
        error = (value.double() - double[key]).abs().max().item()
        tolerances[key] = dict(absmax=absmax, f32_vs_f64=error, suggested_atol=max(20 * error, 1e-5 * absmax))
    folder = pathlib.Path(out) / name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = {f"out.{key}": value.clone().contiguous() for key, value in single.items()}
    tensors["in.input_features"] = features
    if mask is not None:
        tensors["in.attention_mask"] = mask
    save_file(tensors, folder / "expected.safetensors")
    meta = dict(family="wav2vec2_bert", reference="transformers.Wav2Vec2Bert" + kind, tolerances=tolerances,
                versions=dict(torch=torch.__version__, transformers=transformers.__version__))
    if config.feature_projection_input_dim == 160:
        meta["transcripts"] = [dict(seconds=seconds, **transcribe(model, folder, samples(seconds))) for seconds in (0.05, 1.5, 2.015)]
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


for case in sys.argv[2:] or CASES:
    record(case, sys.argv[1])
