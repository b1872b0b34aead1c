"""Tiny random models as cases for `rlx-run parity`: what the recorders share.

Tolerances are 20 times the difference between f32 and f64, at least 1e-5 of the largest value.
"""

import copy
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file


def randomise(model, norm=1.0):
    """Weights that keep values of about the same size; norm weights about `norm`, biases not 0."""
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.dim() > 1:
                inputs = p[0].numel() if "conv" in key else p.shape[-1]
                p.normal_(0.0, 1.0 if "embed" in key else 1.2 / inputs ** 0.5)
            elif key.endswith("bias"):
                p.normal_(0.0, 0.2)
            else:
                p.normal_(norm, 0.3)
    return model.eval()


def record(folder, model, inputs, run, keep=lambda value: value):
    """Writes the checkpoint, `inputs`, and what `run(model, inputs)` gives; `keep` makes what is not compared 0."""
    def outputs(model, inputs):
        with torch.no_grad():
            return {key: keep(value) for key, value in run(model, inputs).items()}

    got = outputs(model, inputs)
    wide = {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}
    exact = outputs(copy.deepcopy(model).double(), wide)
    tensors = {"in." + key: value for key, value in inputs.items()}
    tolerances = {}
    for key, value in got.items():
        error = (value.double() - exact[key]).abs().max().item()
        size = value.abs().max().item()
        tolerances[key] = dict(absmax=size, f32_vs_f64=error, suggested_atol=max(20 * error, 1e-5 * size))
        tensors["out." + key] = value.contiguous().clone()
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file(tensors, folder / "expected.safetensors")
    meta = dict(family=folder.name, reference=f"transformers.{type(model).__name__}", tolerances=tolerances,
                versions=dict(torch=torch.__version__, transformers=transformers.__version__))
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    print(folder.name, f"{sum(f.stat().st_size for f in folder.iterdir()) / 1e3:.0f} KB")
