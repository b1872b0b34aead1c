#!/usr/bin/env python3
"""Records what the published Silero VAD says: the data of rlx-vad's tests.

    python record_silero.py silero_vad-PACKAGE_DIR JFK_WAV OUT_DIR

Needs onnxruntime 1.32.0, numpy, safetensors, soundfile and the files of silero-vad 6.2.3. The package's own Python decides on segments;
torch, which that part only names, is replaced by a stub.

OUT_DIR/jfk.flac            the sound, 16 kHz
OUT_DIR/silero.safetensors  `probs.16k`, and `probs.8k` of every second sample, one value per window
OUT_DIR/segments.json       probabilities, options, and the segments (get_speech_timestamps_from_probs) and events (VADIterator) for them
"""

import importlib.util
import json
import pathlib
import sys
import types

import numpy as np
import onnxruntime
import soundfile
from safetensors.numpy import save_file


def official(package):
    class Decorator:
        def __call__(self, function):
            return function

    torch = types.ModuleType("torch")
    torch.Tensor = object
    torch.no_grad = Decorator
    torch.device = lambda name: name
    torch.is_tensor = lambda x: True
    sys.modules["torch"] = torch
    spec = importlib.util.spec_from_file_location("utils_vad", pathlib.Path(package) / "utils_vad.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def probabilities(session, sound, rate):
    window, context = (512, 64) if rate == 16000 else (256, 32)
    sound = np.concatenate([sound, np.zeros(-len(sound) % window, np.float32)])
    state = np.zeros((2, 1, 128), np.float32)
    before = np.zeros(context, np.float32)
    out = []
    for start in range(0, len(sound), window):
        chunk = np.concatenate([before, sound[start:start + window]])
        prob, state = session.run(None, {"input": chunk[None], "state": state, "sr": np.array(rate)})
        before = chunk[-context:]
        out.append(prob[0, 0])
    return np.array(out, np.float32)


class Replay:
    """A model that says what it is told, and a window of sound for it."""

    def __init__(self, probs):
        self.probs = iter(probs)

    def reset_states(self):
        pass

    def __call__(self, window, rate):
        return types.SimpleNamespace(item=lambda: next(self.probs))


class Window:
    def __init__(self, samples):
        self.samples = samples

    def dim(self):
        return 1

    def __len__(self):
        return self.samples


def walks(count):
    """Probabilities that wander between speech and silence, with three decimals."""
    random = np.random.RandomState(5)
    for i in range(count):
        steps = random.normal(0, 0.04 + 0.1 * (i % 4), 120 + 7 * i)
        wave = 0.5 + 0.5 * np.sin(np.cumsum(steps) + i)
        yield [round(float(p), 3) for p in wave]


OPTIONS = [
    {},
    {"threshold": 0.7},
    {"threshold": 0.1},
    {"threshold": 0.6, "neg_threshold": 0.2},
    {"min_speech_duration_ms": 0, "min_silence_duration_ms": 0, "speech_pad_ms": 0},
    {"min_silence_duration_ms": 500, "speech_pad_ms": 200},
    {"max_speech_duration_s": 1.0},
    {"max_speech_duration_s": 0.7, "min_silence_duration_ms": 400, "min_silence_at_max_speech": 60},
    {"max_speech_duration_s": 2.0, "min_silence_duration_ms": 1000, "speech_pad_ms": 100},
]


def case(vad, probs, rate, options, samples):
    segments = vad.get_speech_timestamps_from_probs(probs, sampling_rate=rate, audio_length_samples=samples, **options)
    keys = {"threshold", "min_silence_duration_ms", "speech_pad_ms"}
    record = {"rate": rate, "samples": samples, "options": options, "segments": [[s["start"], s["end"]] for s in segments]}
    if set(options) <= keys:
        window = 512 if rate == 16000 else 256
        iterator = vad.VADIterator(Replay(probs), sampling_rate=rate, **options)
        events = [iterator(Window(window)) for _ in probs]
        record["events"] = [[i, *event.items()] for i, event in enumerate(events) if event]
        record["events"] = [[i, kind, at] for i, (kind, at) in record["events"]]
    return record


def main(package, jfk, out):
    vad = official(package)
    out = pathlib.Path(out)
    session = onnxruntime.InferenceSession(pathlib.Path(package) / "data/silero_vad.onnx", providers=["CPUExecutionProvider"])
    sound, rate = soundfile.read(jfk, dtype="float32")
    assert rate == 16000 and sound.ndim == 1
    soundfile.write(out / "jfk.flac", soundfile.read(jfk, dtype="int16")[0], rate, subtype="PCM_16")
    probs = {16000: probabilities(session, sound, 16000), 8000: probabilities(session, np.ascontiguousarray(sound[::2]), 8000)}
    save_file({"probs.16k": probs[16000], "probs.8k": probs[8000]}, out / "silero.safetensors")
    groups = []
    for rate, series in probs.items():
        series = [round(float(p), 4) for p in series]
        samples = len(sound) * rate // 16000
        groups.append({"probs": series, "cases": [case(vad, series, rate, options, samples) for options in OPTIONS]})
    for i, series in enumerate(walks(24)):
        rate = 8000 if i % 3 == 0 else 16000
        samples = len(series) * (512 if rate == 16000 else 256) - 13 * i
        groups.append({"probs": series, "cases": [case(vad, series, rate, options, samples) for options in OPTIONS]})
    (out / "segments.json").write_text(json.dumps(groups, separators=(",", ":")) + "\n")
    print({rate: (len(p), float(p.min()), float(p.max())) for rate, p in probs.items()})
    print("segments of jfk:", groups[0]["cases"][0]["segments"])


if __name__ == "__main__":
    main(*sys.argv[1:])
