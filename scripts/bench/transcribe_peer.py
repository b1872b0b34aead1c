#!/usr/bin/env python3
"""Seconds that faster-whisper takes for a file, in F32 (or int8): the other side of `rlx-run transcribe`.

    python scripts/bench/transcribe_peer.py MODEL_DIR FILE [BEAM_SIZE] [RUNS] [float32|int8]

MODEL_DIR is a CTranslate2 folder, as `rlx-run fetch whisper-tiny.en` makes it; where it has no vocabulary.json, one is made of its
tokenizer.json. Requirements (Python 3.11): faster-whisper==1.2.1 ctranslate2==4.8.5
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from faster_whisper import WhisperModel


def with_vocabulary(model_dir, scratch):
    """The folder, or a copy by links that has a vocabulary: tokens by id, up to the last timestamp."""
    if (model_dir / "vocabulary.json").exists():
        return model_dir
    for file in model_dir.iterdir():
        (scratch / file.name).symlink_to(file.resolve())
    tokenizer = json.loads((model_dir / "tokenizer.json").read_text())
    ids = dict(tokenizer["model"]["vocab"])
    ids.update((token["content"], token["id"]) for token in tokenizer["added_tokens"])
    first_time = ids["<|notimestamps|>"] + 1
    ids.update((f"<|{i * 0.02:.2f}|>", first_time + i) for i in range(1501))
    tokens = sorted(ids, key=ids.get)
    (scratch / "vocabulary.json").write_text(json.dumps(tokens))
    return scratch


def main():
    path = sys.argv[2]
    beam_size = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    runs = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    compute_type = sys.argv[5] if len(sys.argv) > 5 else "float32"
    with tempfile.TemporaryDirectory() as scratch:
        model_dir = with_vocabulary(Path(sys.argv[1]), Path(scratch))
        model = WhisperModel(str(model_dir), device="cpu", compute_type=compute_type, cpu_threads=2)
        for _ in range(runs):
            start = time.perf_counter()
            segments, _ = model.transcribe(path, beam_size=beam_size, language="en")
            text = "".join(segment.text for segment in segments)
            print(f"{time.perf_counter() - start:.3f} s:{text}")


if __name__ == "__main__":
    main()
