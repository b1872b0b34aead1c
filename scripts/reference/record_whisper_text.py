"""Records what openai/whisper's writers, text normalisers and time warping make of given input.

    pip download --no-deps --no-binary :all: openai-whisper==20250625
    pip install regex==2026.11.19 more-itertools==11.2.1 numpy==2.4.6
    python record_whisper_text.py openai_whisper-20250625.tar.gz

None of what is recorded needs torch or a model. Writes
crates/core/rlx-text/tests/data/normalizers.json and crates/models/rlx-whisper/tests/data/{writers,dtw}.json.
"""

import importlib
import io
import json
import pathlib
import sys
import tarfile
import tempfile
import types
from unittest.mock import MagicMock

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(archive):
    """The package without its __init__, which imports torch."""
    directory = tempfile.mkdtemp()
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    package = next(pathlib.Path(directory).glob("*/whisper"))
    for name in ["torch", "torch.nn", "torch.nn.functional"]:
        sys.modules[name] = MagicMock()
    sys.modules["numba"] = types.SimpleNamespace(jit=lambda **_: lambda f: f)
    whisper = types.ModuleType("whisper")
    whisper.__path__ = [str(package)]
    sys.modules["whisper"] = whisper
    for name in ["audio", "tokenizer"]:
        sys.modules[f"whisper.{name}"] = MagicMock()
    return lambda name: importlib.import_module(f"whisper.{name}")


NORMALIZER_INPUTS = [
    "Let's go to the theatre, shall we? [laughter] It isn't <unk> far (I think).",
    "he's been gone; she'd been there. They've got ten. I'ma gonna wanna y'all won't can't",
    "Mr. Park visited Assoc. Prof. Kim Jr. and Mrs. Lee, Esq.",
    "um the colour, hmm, of grey aluminium - uh - organised",
    "one hundred and twenty three thousand four hundred and fifty-six",
    "twenty twenty one, nineteen eighty four, two thousand and one",
    "one oh one; double oh seven; triple five; double trouble",
    "the nineties and the 1960s, the twenty-first, the 274th, sixes and sevens, the fortieth millionth",
    "three point one four, point five, two and a half million, a half, and a half, ten and a half dollars",
    "$20 million, twenty dollars and seven cents, 2 dollars and 50 cents, $0.05, five cents, £3.50, 7 euros",
    "minus five, positive ten, negative thoughts, plus, -3, +4.25, minus",
    "fifty percent, 5 per cent, per cent, per person 7 per day, 3% more, a % sign",
    "1,000,000 and 3,5; 10.5; 192.168.0.1; version 2.0.1.",
    "and one and two and three hundred and and",
    "zero, oh, o, zero point zero, oh no, zero hundred",
    "decillion octillion nine nonillion, hundred hundred, thousand million",
    "one two three four five, ten eleven twelve, fifty five fifty six, twenty ten",
    "first second third fourth fifth eighth ninth twelfth twentieth hundredth",
    "1 ones 1s one's 11 1st 21st 2 nd 3 rd",
    "Ærøskøbing Łódź naïve façade ß ½ café — “quotes” …",
    "a1b2c3 4x4 mp3s 20s 5th 5 th 5 s",
    "3.0 dollars 007 0 0.0 100 200 3 hundred 2.5 thousand 2.5 hundredths 1.2.3 million",
    "",
    "  white   space\tand\nlines  ",
    "point and double per percent dollars",
    "two hundred point, point two hundred, forty two point seven percent, one point twenty",
    "St. Dr. gov. gen sen rep pres rev hon asst lt col sr",
    "I'd done it; he's done it; it's got it; 'tis; rock 'n' roll; dogs' '90s",
    "Größe straße 中文 字符 日本語 テスト",
]


def normalizers(load):
    module = load("normalizers")
    english, basic = module.EnglishTextNormalizer(), module.BasicTextNormalizer()
    return [{"text": t, "english": english(t), "basic": basic(t)} for t in NORMALIZER_INPUTS]


def word(text, start, end, probability=0.9):
    return {"word": text, "start": start, "end": end, "probability": probability}


def segment(i, start, end, text, words=None):
    out = {
        "id": i, "seek": 100 * i, "start": start, "end": end, "text": text, "tokens": [50363, 843, 50413 + i],
        "temperature": [0.0, 0.2, 1.0][i % 3], "avg_logprob": -0.27154 / (i + 1), "compression_ratio": 1.0 + i / 3,
        "no_speech_prob": float(np.float32(1e-12 if i else 0.0316)),
    }
    if words is not None:
        out["words"] = words
    return out


def transcripts():
    plain = [
        segment(0, 0.0, 7.36, " And so, my fellow Americans -->"),
        segment(1, 7.36, 11.0005, " ask\tnot \"what\" caf\u00e9 \U0001f600"),
        segment(2, 3599.9995, 36000.5, " \u4f60\u597d"),
    ]
    text = " And so my fellow Americans, ask not what your country can do for you".split(" ")[1:]
    words = [word(" " + w, round(0.4 * i, 2), round(0.4 * i + (0.4 if i % 3 else 0.3), 2)) for i, w in enumerate(text)]
    for w in words[7:]:
        w["start"], w["end"] = w["start"] + 4, w["end"] + 4
    spoken = [
        segment(0, 0.0, 2.0, "".join(w["word"] for w in words[:5]), words[:5]),
        segment(1, 2.0, 2.0, "", []),
        segment(2, 2.0, 9.6, "".join(w["word"] for w in words[5:]), words[5:]),
    ]
    result = lambda segments: {"text": "".join(s["text"] for s in segments), "segments": segments, "language": "en"}
    layouts = [
        {}, {"max_line_width": 20}, {"max_line_width": 20, "max_line_count": 2}, {"max_line_width": 12, "max_line_count": 1},
        {"max_words_per_line": 3}, {"highlight_words": True}, {"highlight_words": True, "max_line_width": 16, "max_line_count": 2},
    ]
    return [(result(plain), [{}]), (result(spoken), layouts), (result([]), [{}])]


def writers(load):
    utils = load("utils")
    cases = []
    for result, layouts in transcripts():
        for layout in layouts:
            outputs = {}
            for name in ["txt", "srt", "vtt", "tsv", "json"]:
                file = io.StringIO()
                utils.get_writer(name, ".").write_result(result, file=file, **layout)
                outputs[name] = file.getvalue()
            cases.append({"transcript": result, "layout": layout, "outputs": outputs})
    return cases


def dtw(load):
    timing = load("timing")
    rng = np.random.default_rng(5)
    cases = []
    for rows, columns in [(1, 1), (1, 9), (9, 1), (5, 12), (7, 30), (12, 12)]:
        # Rounded, so that the text of the numbers is exact and ties occur.
        values = np.round(rng.normal(size=(rows, columns)), 1)
        text, time = timing.dtw_cpu(-values)
        first = [int(time[text == row].min()) for row in range(rows)]
        cases.append({"rows": rows, "columns": columns, "values": values.flatten().tolist(), "first": first})
    return cases


def main():
    module = load(sys.argv[1])
    for path, record in [
        ("crates/core/rlx-text/tests/data/normalizers.json", normalizers),
        ("crates/models/rlx-whisper/tests/data/writers.json", writers),
        ("crates/models/rlx-whisper/tests/data/dtw.json", dtw),
    ]:
        path = ROOT / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record(module), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
