#!/usr/bin/env python3
"""Records the features of transformers' WhisperFeatureExtractor and SeamlessM4TFeatureExtractor, the data of rlx-audio's tests.

    python record_mel.py JFK_WAV OUT.safetensors

Needs transformers 5.23.0, numpy 2.4.6, safetensors, soundfile; no torch. JFK_WAV is the file that `rlx-run fetch jfk` brings.
`in.NAME` are sounds at 16 kHz; `whisper.MELS.NAME` the log-mel of the sound as it is, `window.MELS.NAME` every 47th column of that of
the sound padded to 30 s; `fbank.NAME` Kaldi logarithms, `rows.NAME` and `mask.NAME` what the model takes.
"""

import sys

import numpy as np
import soundfile
from safetensors.numpy import save_file
from transformers import SeamlessM4TFeatureExtractor, WhisperFeatureExtractor

COLUMNS = 47


def sounds(path):
    speech, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000 and speech.ndim == 1
    noise = np.random.RandomState(1)
    ramp = np.arange(3000) / 16000
    sweep = np.sin(2 * np.pi * (50 + 12000 * ramp) * ramp) * np.linspace(1e-5, 1, 3000)
    return {
        "speech": speech[5000:15007],
        "noise": noise.uniform(-1, 1, 4321),
        "sweep": sweep,
        "short": noise.normal(0, 0.1, 250),
        "tiny": noise.normal(0, 1e-6, 1777),
        "loud": noise.normal(0, 300, 1000),
    }


def main(path, out):
    tensors = {}
    whisper = {mels: WhisperFeatureExtractor(feature_size=mels) for mels in (80, 128)}
    seamless = SeamlessM4TFeatureExtractor()
    for name, sound in sounds(path).items():
        sound = np.ascontiguousarray(sound, dtype=np.float32)
        tensors[f"in.{name}"] = sound
        for mels, extractor in whisper.items():
            if mels == 128 and name != "speech":
                continue
            tensors[f"whisper.{mels}.{name}"] = extractor._np_extract_fbank_features(sound[None], "cpu")[0]
            window = extractor(sound, sampling_rate=16000, return_tensors="np")["input_features"][0]
            tensors[f"window.{mels}.{name}"] = window[:, ::COLUMNS]
        if len(sound) >= 720:
            tensors[f"fbank.{name}"] = seamless._extract_fbank_features(sound)
            model = seamless(sound, sampling_rate=16000, return_tensors="np")
            tensors[f"rows.{name}"] = model["input_features"][0]
            tensors[f"mask.{name}"] = model["attention_mask"][0].astype(np.int32)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, out)
    for name, tensor in tensors.items():
        print(name, tensor.dtype, tensor.shape, float(np.abs(tensor).max()))


if __name__ == "__main__":
    main(*sys.argv[1:])
