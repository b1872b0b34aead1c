#!/usr/bin/env python3
"""Takes the weights of Silero VAD's two branches out of its published ONNX file: crates/models/rlx-vad/weights.

    python extract_silero.py silero_vad.onnx OUT_DIR

Needs onnx 1.23.2, numpy, safetensors. silero_vad.onnx is that of the package silero-vad==6.2.3 (MIT, Silero Team), SHA-256
1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3. The safetensors file in the package holds other weights.
The forward basis of the STFT is not stored: it is checked to be a periodic Hann window on a Fourier basis, to 1e-6.
"""

import hashlib
import pathlib
import sys

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

SHA256 = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
NAMES = {f"encoder.{i}.reparam_conv.{kind}": f"conv{i + 1}.{kind}" for i in range(4) for kind in ("weight", "bias")}
NAMES |= {f"decoder.rnn.{kind}_{part}": f"lstm_cell.{kind}_{part}" for kind in ("weight", "bias") for part in ("ih", "hh")}
NAMES |= {f"decoder.decoder.2.{kind}": f"final_conv.{kind}" for kind in ("weight", "bias")}


def branches(model):
    (condition,) = [node for node in model.graph.node if node.op_type == "If"]
    for attribute in condition.attribute:
        yield ("16k" if attribute.name == "then_branch" else "8k"), attribute.g


def tensors(graph):
    for node in graph.node:
        if node.op_type == "Constant":
            yield node.output[0].split("__", 3)[-1], numpy_helper.to_array(node.attribute[0].t)
    for tensor in graph.initializer:
        yield tensor.name.split("__", 3)[-1], numpy_helper.to_array(tensor)


def check_basis(basis):
    rows, _, length = basis.shape
    n, k = np.arange(length), np.arange(rows // 2)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / length)
    wave = 2 * np.pi * k * n / length
    error = np.abs(basis[:, 0] - np.concatenate([window * np.cos(wave), -window * np.sin(wave)])).max()
    assert error < 1e-6, error
    return error


def main(path, out):
    data = pathlib.Path(path).read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256, "another file than that of silero-vad 6.2.3"
    for rate, graph in branches(onnx.load_from_string(data)):
        found = dict(tensors(graph))
        error = check_basis(found["stft.forward_basis_buffer"])
        weights = {name: np.ascontiguousarray(found[onnx_name]) for onnx_name, name in NAMES.items()}
        file = pathlib.Path(out) / f"silero_v6_{rate}.safetensors"
        save_file(weights, file)
        print(file, file.stat().st_size, "bytes; basis", error, {k: v.shape for k, v in weights.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
