#!/usr/bin/env python3
"""Texts per second of all-MiniLM-L6-v2 (F32) in onnxruntime: the other side of rlx-embed's example embed_speed.

Builds the ONNX graph from model.safetensors (opset 17: MatMul, Softmax, LayerNormalization, Erf-GELU), checks the first values of its
vectors, and measures the cases of the example; mixed lengths are padded to the longest.

    python scripts/bench/onnxruntime_minilm.py DIR [THREADS] [--turns]

With --turns each number of a case, a line of standard input, is answered by the seconds of one run: see embed_in_turn.py.

Requirements (Python 3.11): onnxruntime onnx numpy safetensors
"""

import statistics
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

LAYERS, HEADS, WIDTH = 6, 12, 384
ROUNDS, SECONDS = 7, 1.5  # at least, of a case


def build(weights):
    nodes, initial = [], []

    def const(name, array):
        initial.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(kind, *inputs, **attributes):
        out = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def linear(x, name):
        y = op("MatMul", x, const(f"{name}.w", weights[f"{name}.weight"].T))
        return op("Add", y, const(f"{name}.b", weights[f"{name}.bias"]))

    def norm(x, name):
        scale, bias = const(f"{name}.g", weights[f"{name}.weight"]), const(f"{name}.h", weights[f"{name}.bias"])
        return op("LayerNormalization", x, scale, bias, epsilon=1e-12, axis=-1)

    def heads(x):
        x = op("Reshape", x, "split")
        return op("Transpose", x, perm=[0, 2, 1, 3])

    const("split", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
    const("join", np.array([0, 0, WIDTH], np.int64))
    e = "embeddings"
    x = op("Gather", const("words", weights[f"{e}.word_embeddings.weight"]), "input_ids")
    x = op("Add", x, const("type", weights[f"{e}.token_type_embeddings.weight"][0]))
    x = op("Add", x, op("Gather", const("positions", weights[f"{e}.position_embeddings.weight"]), "position_ids"))
    x = norm(x, f"{e}.LayerNorm")
    for i in range(LAYERS):
        a = f"encoder.layer.{i}.attention"
        q, k, v = (heads(linear(x, f"{a}.self.{n}")) for n in ("query", "key", "value"))
        scores = op("MatMul", q, op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = op("Div", scores, const(f"scale{i}", np.float32((WIDTH // HEADS) ** 0.5)))
        scores = op("Add", scores, "mask")
        y = op("MatMul", op("Softmax", scores, axis=-1), v)
        y = op("Reshape", op("Transpose", y, perm=[0, 2, 1, 3]), "join")
        x = norm(op("Add", linear(y, f"{a}.output.dense"), x), f"{a}.output.LayerNorm")
        y = linear(x, f"encoder.layer.{i}.intermediate.dense")
        erf = op("Erf", op("Div", y, const(f"root{i}", np.float32(2**0.5))))
        y = op("Mul", op("Mul", y, op("Add", erf, const(f"one{i}", np.float32(1)))), const(f"half{i}", np.float32(0.5)))
        x = norm(op("Add", linear(y, f"encoder.layer.{i}.output.dense"), x), f"encoder.layer.{i}.output.LayerNorm")
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"]),
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["s"]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["b", 1, 1, "s"]),
    ]
    output = helper.make_tensor_value_info(x, TensorProto.FLOAT, ["b", "s", WIDTH])
    graph = helper.make_graph(nodes, "minilm", inputs, [output], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def main():
    directory, threads = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(build(load_file(f"{directory}/model.safetensors")), options)

    def embed(rows):
        longest = max(map(len, rows))
        ids = np.array([row + [0] * (longest - len(row)) for row in rows], np.int64)
        real = np.array([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows], np.float32)
        mask = np.where(real == 1, 0, np.finfo(np.float32).min).astype(np.float32)[:, None, None, :]
        feed = {"input_ids": ids, "position_ids": np.arange(longest), "mask": mask}
        hidden = session.run(None, feed)[0]
        mean = (hidden * real[:, :, None]).sum(1) / real.sum(1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    # "A man is eating food."
    first = embed([[101, 1037, 2158, 2003, 5983, 2833, 1012, 102], [101, 102]])[0]
    assert np.abs(first[:3] - [0.03324157, 0.00440607, -0.00627695]).max() < 1e-5, first[:3]
    print(f"onnxruntime {onnxruntime.__version__}, {threads} threads")
    row = lambda n, seed: [101] + [1996 + (i * 5 + seed) % 8 for i in range(n - 2)] + [102]
    cases = [
        ("128 tokens, batch 1", [row(128, 0)]),
        ("128 tokens, batch 32", [row(128, i) for i in range(32)]),
        ("5..256 tokens, batch 32", [row(5 + (i * 97) % 252, i) for i in range(32)]),
    ]
    if "--turns" in sys.argv:
        for line in sys.stdin:
            start = time.perf_counter()
            embed(cases[int(line)][1])
            print(time.perf_counter() - start, flush=True)
        return
    for name, rows in cases:
        embed(rows)
        times = []
        while len(times) < ROUNDS or sum(times) < SECONDS:
            start = time.perf_counter()
            embed(rows)
            times.append(time.perf_counter() - start)
        median = statistics.median(times)
        print(f"{name}: {len(rows) / median:.1f} texts/s, {sum(map(len, rows)) / median:.0f} tokens/s")


main()
