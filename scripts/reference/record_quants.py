#!/usr/bin/env python3
"""Record reference block data for the tests of rlx-quant.

Writes crates/engine/rlx-quant/tests/data/dequantize.safetensors and quantize.safetensors:

- dequantize: for every block type, random blocks (`<TYPE>.bytes`) and their values (`<TYPE>.values`) by the gguf package;
  Q8_1 and Q8_K, which gguf lacks, by their formula.
- quantize: inputs `x` [rows, columns] and `importance` [columns], and the blocks that ggml's C library makes from them, without
  (`<TYPE>.plain`) and with importance (`<TYPE>.weighted`).

Requirements (Python 3.11): gguf==0.19.0 numpy==2.4.6 safetensors==0.8.0 xllamacpp==2026.10.11549
(xllamacpp is only the carrier of a ggml build whose quantisers can be called through ctypes.)
"""

import ctypes
import importlib.util
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf import quants
from safetensors.numpy import save_file

DATA = Path(__file__).resolve().parents[2] / "crates/engine/rlx-quant/tests/data"

# gguf still has Q8_1 with two f32; ggml has had two f16 since 2024.
SIZES = GGML_QUANT_SIZES | {T.Q8_1: (32, 36)}

BLOCK_TYPES = [
    T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q8_1, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.Q8_K,
    T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.IQ4_NL, T.IQ4_XS, T.TQ1_0, T.TQ2_0, T.MXFP4,
]  # fmt: skip

# Byte offsets of the f16 fields.
F16_FIELDS = {
    T.Q4_1: [0, 2], T.Q5_1: [0, 2], T.Q8_1: [0, 2], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2],
    T.Q6_K: [208], T.TQ1_0: [52], T.TQ2_0: [64], T.MXFP4: [], T.Q8_K: [], T.IQ1_M: [],
}  # fmt: skip


def random_blocks(rng, t):
    length, size = SIZES[t]
    n = 2048 // length if length > 32 else 16
    b = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in F16_FIELDS.get(t, [0]):
        d = (rng.standard_normal(n) * 2.0 ** rng.integers(-20, 3, n)).astype(np.float16)
        d[0] = np.float16(0.0)
        b[:, at : at + 2] = d.view(np.uint8).reshape(n, 2)
    if t == T.Q8_K:
        b[:, :4] = rng.standard_normal(n).astype(np.float32).view(np.uint8).reshape(n, 4)
    if t == T.MXFP4:
        b[:4, 0] = [0, 1, 2, 250]
    if t == T.IQ1_M:
        b[:, 55] &= 0x3F  # top bits of the spread f16 exponent: keep it finite
    return b


def values(t, b):
    if t == T.Q8_1:
        d = b[:, :2].copy().view(np.float16).astype(np.float32)
        return d * b[:, 4:].view(np.int8).astype(np.float32)
    if t == T.Q8_K:
        return b[:, :4].copy().view(np.float32) * b[:, 4:260].view(np.int8).astype(np.float32)
    return quants.dequantize(b, t)


def record_dequantize():
    rng = np.random.default_rng(1)
    out = {}
    for t in BLOCK_TYPES:
        b = random_blocks(rng, t)
        out[f"{t.name}.bytes"] = b.reshape(-1)
        out[f"{t.name}.values"] = np.ascontiguousarray(values(t, b), dtype=np.float32).reshape(-1)
        assert np.isfinite(out[f"{t.name}.values"]).all(), t
    save_file(out, DATA / "dequantize.safetensors")


COLUMNS = 512
QUANTISED = [
    T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.TQ1_0, T.TQ2_0,
    T.MXFP4,
]  # fmt: skip
ROW_ONLY = {T.Q8_1: "q8_1", T.Q8_K: "q8_K"}


def inputs():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((14, COLUMNS)).astype(np.float32)
    x[1] *= np.float32(0.02)
    x[2] = rng.uniform(-1, 1, COLUMNS)
    x[3] = rng.laplace(0, 0.05, COLUMNS)
    x[4] = np.where(rng.random(COLUMNS) < 0.02, x[4] * 30, x[4])
    x[5] = abs(x[5])
    x[6] = -abs(x[6]) - 1
    x[7] = 0
    x[8] = np.float32(0.37)
    x[9] = 0
    x[9, 5::37] = x[9, 5::37] - np.float32(1.5)
    x[10] *= np.float32(1e-9)
    x[11] *= np.float32(1e3)
    x[12] = np.round(x[12] * 4) / 4
    x[13] = np.sin(np.arange(COLUMNS) * 0.1)
    importance = (rng.standard_normal(COLUMNS) ** 2 * 3 + 1e-3).astype(np.float32)
    return np.ascontiguousarray(x, dtype=np.float32), importance


def ggml():
    lib = ctypes.CDLL(str(next(Path(importlib.util.find_spec("xllamacpp").origin).parent.glob("xllamacpp*.so"))))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    return lib


def record_quantize():
    lib = ggml()
    x, importance = inputs()
    rows, columns = x.shape
    out = {"x": x, "importance": importance}
    for t in QUANTISED:
        length, size = SIZES[t]
        for name, weights in (("plain", None), ("weighted", importance.ctypes.data)):
            y = np.zeros(x.size // length * size, dtype=np.uint8)
            n = lib.ggml_quantize_chunk(int(t), x.ctypes.data, y.ctypes.data, 0, rows, columns, weights)
            assert n == y.size, t
            out[f"{t.name}.{name}"] = y
        try:
            other = quants.quantize(x, t).reshape(-1)
            differing = (other != out[f"{t.name}.plain"]).sum()
            print(f"{t.name}: gguf and ggml differ in {differing} of {other.size} bytes")
        except NotImplementedError:
            pass
    for t, name in ROW_ONLY.items():
        length, size = SIZES[t]
        y = np.zeros(x.size // length * size, dtype=np.uint8)
        f = getattr(lib, f"quantize_row_{name}_ref")
        f.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        f(x.ctypes.data, y.ctypes.data, x.size)
        out[f"{t.name}.plain"] = y
    save_file(out, DATA / "quantize.safetensors")


if __name__ == "__main__":
    DATA.mkdir(parents=True, exist_ok=True)
    record_dequantize()
    record_quantize()
