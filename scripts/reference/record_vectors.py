"""Records small files of texts and vectors as other programs write them, for the tests of rlx-vectors.

    pip install numpy==2.4.6 pyarrow==26.0.1 safetensors==0.8.0
    python scripts/reference/record_vectors.py crates/core/rlx-vectors/tests/data

With --check FILE it reads a file that rlx-vectors wrote instead, and prints what is in it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save_file

TEXTS = [f"text {i} é" if i % 5 else None for i in range(300)]


def record(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
    for dtype in ("float16", "float32", "float64"):
        np.save(folder / f"{dtype}.npy", vectors.astype(dtype))
    np.save(folder / "fortran.npy", np.asfortranarray(vectors))
    save_file({"embeddings": vectors}, folder / "plain.safetensors", metadata={"model": "m"})
    table = pa.table(
        {
            "id": range(300),
            "text": pa.array(TEXTS),
            "words": pa.array([[t] if t else [] for t in TEXTS]),
            "inner": pa.array([{"body": t} if i % 7 else None for i, t in enumerate(TEXTS)]),
        }
    )
    for codec in ("none", "snappy", "gzip", "zstd", "lz4"):
        # Two row groups, the second of pages of the second version.
        pq.write_table(table, folder / f"{codec}.parquet", compression=codec, row_group_size=200,
                       data_page_version="2.0" if codec == "zstd" else "1.0", data_page_size=2048,
                       use_dictionary=codec != "gzip")


def check(path: Path) -> None:
    if path.suffix == ".npy":
        array = np.load(path)
        print(json.dumps({"shape": array.shape, "dtype": str(array.dtype), "first": array[0].tolist()}))
    elif path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            out = {name: [list(t.shape), str(t.dtype)] for name, t in tensors.items()}
            out["metadata"] = file.metadata()
            out["first"] = tensors["embeddings"][0].tolist()
            if "text_bytes" in tensors:
                begin, end = tensors["text_offsets"][:2]
                out["text"] = tensors["text_bytes"][begin:end].tobytes().decode()
            print(json.dumps(out))
    else:
        table = pq.read_table(path)
        print(table.schema, pq.read_metadata(path), table.slice(0, 1).to_pylist(), sep="\n")


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check(Path(sys.argv[2]))
    else:
        record(Path(sys.argv[1]))
