#!/usr/bin/env python3
"""Records the reference cases of crates/core/rlx-text/tests/data.

    pip install gguf tokenizers transformers jinja2 xllamacpp
    record_text.py --out crates/core/rlx-text/tests/data [--smollm2 FILE.gguf] [--gemma3 FILE.gguf]

splits.json    pre-tokenizer expressions, by the `tokenizers` library (Oniguruma, with their look-aheads)
tiny/          small tokenizer.json files of every kind and the ids the `tokenizers` library gives
templates.json chat templates, by `transformers`
smollm2.json   ids and texts of the published vocabularies, by llama.cpp; these two need the GGUF files
gemma3.json
"""

import argparse
import json
import random
import urllib.request
from pathlib import Path

TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n", "\r\n", " \n", "\n ", "\t\t\n  x", "a", " a", "a ", "  a", "a  ", "a  b", "a   b",
    "Hello", "Hello world", " Hello", "Hello, world!", "Hello, y'all! How are you 😁 ?", "The capital of France is",
    "I'm you're he's she'd we'll they've I'M YOU'RE HE'S WE'LL 'tis 'Twas don't DON'T o'clock",
    "1", "12", "123", "1234", "12345", "123456", "1234567890", "3.14159", "1,000,000.00", "0x1F", "1e-9", "2024-07-26", "½ ² Ⅷ ٣ ३ 三",
    "a1b2c3", "v1.2.3-rc4", "10:45pm", "$5.00 €3 £4 ¥100", "50% off!", "C++ C# F#", "x = y + z;",
    "fn main() {\n    println!(\"{}\", 1 + 2);\n}\n", "def f(x):\n\treturn x**2  # square\n\n\nprint(f(3))",
    "for (int i = 0; i < n; ++i) { a[i] = b[i] & 0xff; }", "SELECT * FROM t WHERE a >= 1 AND b != 'x';",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\"}}", "<html><body>&amp; <br/></body></html>",
    "https://example.com/path?q=1&r=2#frag", "user@example.com", "C:\\Windows\\System32", "/usr/local/bin",
    "snake_case camelCase PascalCase kebab-case SCREAMING_SNAKE", "HelloWORLDHello XMLHttpRequest iPhone McDonald",
    "...", "…", "!!!", "?!?!", "--", "---", "—–-", "\"quoted\" 'single' “curly” ‘single’ «guillemets»", "(a) [b] {c} <d>", "* # @ ~ ` ^ | \\",
    "a\nb", "a\n\nb", "a\n\n\nb", "a \n b", "a\r\nb\r\n", "a\t\tb", "line one\n  line two\n    line three\n", "trailing   \n\n",
    "     five spaces", "ends with spaces     ", "\u00a0nbsp\u00a0\u00a0x", "\u3000ideographic\u3000space", "\u2003em\u2003space \u200bzwsp\u200b", "\ufeffbom",
    "日本語のテキスト", "中文文本，测试。", "한국어 텍스트", "東京特許許可局", "漢字かな交じり文123", "你好，世界！Hello", "ｆｕｌｌｗｉｄｔｈ　１２３", "カタカナﾊﾝｶｸ",
    "Привет, мир!", "Ελληνικά γράμματα", "עברית מימין", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "வணக்கம்", "ქართული", "Հայերեն", "አማርኛ", "ᏣᎳᎩ",
    "Tiếng Việt có dấu", "naïve café résumé", "cafe\u0301 re\u0301sume\u0301", "Ångström A\u030angstro\u0308m", "Straße ẞ ß", "İstanbul ıI", "ﬁ ligature ﬀ", "ĳ Ǆ ǅ ǆ",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙a̴̡͍l͖̩͇̗̪g̻̗o", "a\u0300\u0301\u0302b", "e\u0301\u0301\u0301",
    "😀", "😀😁😂", "👍🏽", "👨‍👩‍👧‍👦", "👩🏻‍💻 codes", "🏳️‍🌈", "🇫🇷🇩🇪", "1️⃣2️⃣", "❤️ ❤", "text😀text", " 😀 ", "\U0001F9D1\u200D\U0001F680", "🫠🫥", "\U0001FAE8",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𝒜𝓑", "\U00010348\U00010330", "\U000E0041", "\U0010FFFD", "\u0000", "a\u0000b", "\u0001\u0002\u001f", "\u007f", "\u0080\u009f", "\ufffd", "\ufffe\uffff", "\u2028\u2029",
    "ÀÁÂÃÄÅÆÇÈÉ", "àáâãäåæçèé", "°C µm × ÷ ± ≠ ≤ ≥ ∞ ∑ ∫ √ π", "→ ← ↑ ↓ ⇒", "■□▪▫●○", "①②③", "™ © ®", "†‡§¶", "№ ℃ ℓ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "abababababababababab", "=" * 40, "-" * 33, " " * 40, "\n" * 20, " " * 63 + "x", ("ab " * 12).strip(),
    "supercalifragilisticexpialidocious", "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "The quick brown fox jumps over the lazy dog.", "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "Mr. Smith's dog—the one that's 12 years old—can't bark.", "\"What's that?\" she asked; he replied: 'Nothing.'",
    "U.S.A. e.g. i.e. etc. Ph.D.", "state-of-the-art", "rock 'n' roll", "'90s", "it''s", "''", "'", "' s", "a'", "'re", "x'LLy", "l'été d'août",
    "▁", "▁a", "a▁b", "▁▁▁", "Ġ", "Ċ", "Ġhello", "##ing", "<0x0A>", "<0xFF>", "<s>", "</s>", "<unk>", "<pad>", "[CLS] [SEP] [MASK] [UNK]",
    "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Hello <|im_end|> x", "<|im_end|>", "<|im_end|><|im_end|>", " <|im_end|> ", "<|im_end", "|im_end|>", "<<|im_end|>>",
    "<repo_name>x<file_sep>y", "<bos>a<eos>", "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "<unused12>", "[multimodal]", "<mask>", "<table><tr><td>1</td></tr></table>", "<h1>x</h1>",
    "Hello<end_of_turn> world", "  <bos>  <bos>  ", "a<0x41>b", "<bo", "s>",
]


def random_texts(n):
    rng = random.Random(20240726)
    alphabets = [
        "abcdefghij   \n'", "ABCabc123 .,'!?", "aáàäçñ ßøåİı", "日本語中文한국어 。、", "😀👍🏽\u200d👩❤️ a", "\t\n\r \u00a0\u3000x1",
        "".join(map(chr, range(1, 128))), "'sStTrReEvVmMlLdD x", "0123456789 ab", "\u0301\u0308\u200d\u0e31\u0e33กขa ",
    ]
    out = []
    for i in range(n):
        alphabet = alphabets[i % len(alphabets)]
        out.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))))
    return out


def all_texts():
    seen = dict.fromkeys(TEXTS + random_texts(100))
    return list(seen)


CI = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WS = r"|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+" + WS
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ASCII_PUNCT = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
PRE = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [CI + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+" + WS],
    "qwen2": [CI + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+" + WS],
    "qwen35": [CI + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+" + WS],
    "tekken": [rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+" + WS],
    "gpt-4o": [rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CI}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CI}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+" + WS],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", ASCII_PUNCT + r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+" + WS],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+", r"\p{N}"],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    "bloom": [r" ?[^(\s|.,!?…。，、।۔،)]+"],
    "minicpm5": [r"\p{N}{1,3}", CI + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+" + WS],
    "seed-coder": [CI + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+" + WS],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]" + WS],
}


def record_splits():
    from tokenizers import Regex, pre_tokenizers

    out = {}
    texts = [t for t in all_texts() if t]
    for name, expressions in PRE.items():
        pre = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(e), "isolated") for e in expressions])
        # Lengths in code points are enough, and small.
        out[name] = [[len(piece) for piece, _ in pre.pre_tokenize_str(t)] for t in texts]
    return {"texts": texts, "splits": out}


def corpus():
    return [t for t in TEXTS for _ in range(3)] + [
        "the cat sat on the mat and the dog sat on the log",
        "the other brother gathers the feathers together another time",
        "Hello world, hello there, yellow fellow, mellow cello.",
    ] * 8


def record_tiny(out):
    """Small tokenizers of each kind. Byte-level and SentencePiece-like ones are complete over all bytes."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    out.mkdir(exist_ok=True)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

    byte_level = Tokenizer(models.BPE())
    byte_level.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(e), "isolated") for e in PRE["smollm"]] + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    byte_level.decoder = decoders.ByteLevel()
    byte_level.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    )
    byte_level.add_tokens(["<tool_call>"])

    spm = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spm.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    spm.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    spm.train_from_iterator(
        corpus()[-24:],
        trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)], show_progress=False),
    )
    # Byte tokens are plain vocabulary, not added tokens.
    config = json.loads(spm.to_str())
    config["added_tokens"] = [t for t in config["added_tokens"] if not t["content"].startswith("<0x")]
    config["post_processor"] = json.loads(processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]).__getstate__())
    spm = Tokenizer.from_str(json.dumps(config))

    word_piece = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    word_piece.normalizer = normalizers.BertNormalizer()
    word_piece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    word_piece.decoder = decoders.WordPiece()
    bert_special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    word_piece.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=420, special_tokens=bert_special, show_progress=False))
    word_piece.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    word_piece.enable_truncation(8)

    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.train_from_iterator(
        corpus()[-24:], trainers.UnigramTrainer(vocab_size=120, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    )
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])

    for name, tokenizer in {"byte_level": byte_level, "spm": spm, "word_piece": word_piece, "unigram": unigram}.items():
        (out / name).mkdir(exist_ok=True)
        (out / name / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
        tokenizer.no_truncation()
        cases = []
        for text in all_texts():
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            full = tokenizer.encode(text, add_special_tokens=True).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.encode_special_tokens = False
            case = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}
            if plain != ids:
                case["plain"] = plain
            if full != ids:
                case["full"] = full
            cases.append(case)
        (out / name / "cases.json").write_text(json.dumps(cases, ensure_ascii=True, separators=(",", ":")))


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Gets the \"weather\" <now> & later, it's 5°C",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1.0}}, "required": ["city"]},
    },
}
CONVERSATIONS = {
    "user": [{"role": "user", "content": "What is 2+2?"}],
    "system": [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi"}],
    "turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello! 'quoted' <b>\"x\"</b>"},
        {"role": "user", "content": "Bye\n"},
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "See "}, {"type": "image"}, {"type": "text", "text": "this"}]}],
    "tools": [
        {"role": "user", "content": "Weather in Köln?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 2}}}]},
        {"role": "tool", "tool_call_id": "c1", "name": "get_weather", "content": "{\"sky\": \"grey\"}"},
    ],
}
# Written for this test: each exercises what published templates use.
TEMPLATES = {
    "chatml_tools": """{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}
    {{- messages[0].content + '\\n\\n' }}
{%- endif %}
{%- for tool in tools %}
{{- tool | tojson }}
{{- "\\n" }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, seen=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.seen and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.seen = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content.strip() }}
    {%- if message.tool_calls %}
        {%- for call in message.tool_calls %}
            {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '<tool_call>{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}{{- call.arguments | tojson }}{{- '}</tool_call>' }}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""",
    "alternate": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% set first = '' %}{% endif %}{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if loop.index0 == 0 %}{% set content = first + message['content'] | string %}{% else %}{% set content = message['content'] %}{% endif %}{{ '[' + message['role'] | upper + '] ' + content | trim }}{{ eos_token if message['role'] == 'assistant' }}{% endfor %}""",
    "parts": """{%- macro part(p) -%}
{%- if p is mapping and p.type == 'image' -%}<image>{%- elif p is mapping -%}{{ p.text | trim }}{%- else -%}{{ p }}{%- endif -%}
{%- endmacro -%}
{% for m in messages %}
  {% if m.content is iterable and m.content is not string %}
{{ m.role }}: {% for p in m.content %}{{ part(p) }}{% if not loop.last %} | {% endif %}{% endfor %}

  {% else %}
{{ m.role }}= {{ m.content }}
  {% endif %}
{% endfor %}
{{ messages | map(attribute='role') | join(',') }};{{ messages | selectattr('role', 'equalto', 'user') | list | length }};{{ messages | length > 1 }};{{ none }};{{ [1, 'a', 2.5, true] }};{{ {'k': none} }}
""",
    "controls": """{%- for message in messages %}
{%- if message.role == 'tool' %}{% continue %}{% endif %}
{%- generation %}{{ message.role }}{{ loop.index }}{%- endgeneration %}
{%- if loop.index > 1 %}{% break %}{% endif %}
{%- endfor %}
{%- if strftime_now is defined %} {{ strftime_now('%d %b %Y') }}{% endif %}
{%- set d = {'a': 1, 'b': [1, 2]} %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{{ d.get('zz', 'dflt') }} {{ 'x' in d }} {{ d | tojson(indent=2) }} {{ 'a,b'.split(',')[-1] }} {{ 'Ab'.lower() }}{{ 'ab'.replace('a', 'c') }} {{ '%s-%d' % ('q', 7) if false else 'n' }} {{ "abc"[1:] }} {{ 7 // 2 }} {{ 2 ** 3 }} {{ 7 % 4 }} {{ 1 / 2 }} {{ 'a' ~ 1 ~ true }}
{{ (tools or []) | tojson(indent=4) }} {{ undefined_thing }}|{{ undefined_thing is defined }}|{{ messages[-1]['missing'] is none }}|{{ [1, none] | trim }}{{ 1 | upper }}{{ 'a b' | title }}|{{ messages[0].content | default('d') | first if messages[0].content is string }}
""",
}


def record_templates():
    from unittest import mock

    import transformers.utils.chat_template_utils as ctu

    class FixedDate:
        @staticmethod
        def now():
            import datetime

            return datetime.datetime(2024, 7, 26, 13, 5, 9)

    cases = []
    with mock.patch.object(ctu, "datetime", FixedDate):
        for name, source in TEMPLATES.items():
            compiled = ctu._compile_jinja_template(source)
            for conversation, messages in CONVERSATIONS.items():
                for tools in (None, [WEATHER]):
                    for extra in ({}, {"enable_thinking": False}):
                        case = {"template": name, "messages": messages, "tools": tools, "extra": extra}
                        try:
                            case["prompt"] = compiled.render(
                                messages=messages, tools=tools, documents=None, add_generation_prompt=True, bos_token="<s>", eos_token="</s>", **extra
                            )
                        except Exception as e:  # noqa: BLE001 - the message is the record
                            case["error"] = str(e)
                        cases.append(case)
    return {"templates": TEMPLATES, "cases": cases}


def record_gguf(path):
    """ids by llama.cpp's own tokenizer, through its server on a local port."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 256
    params.warmup = False
    params.port = 18931
    params.verbosity = 0
    server = xllamacpp.Server(params)

    def post(route, body):
        request = urllib.request.Request(server.listening_address + route, json.dumps(body).encode(), {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))

    cases = []
    for text in all_texts():
        ask = lambda add, parse: post("/tokenize", {"content": text, "add_special": add, "parse_special": parse})["tokens"]  # noqa: E731
        case = {"text": text, "ids": ask(False, True)}
        plain, full = ask(False, False), ask(True, True)
        if plain != case["ids"]:
            case["plain"] = plain
        if full != case["ids"]:
            case["full"] = full
        cases.append(case)
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smollm2", type=Path)
    parser.add_argument("--gemma3", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    def write(name, value):
        (args.out / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")))

    write("splits.json", record_splits())
    record_tiny(args.out / "tiny")
    write("templates.json", record_templates())
    if args.smollm2:
        write("smollm2.json", record_gguf(args.smollm2))
    if args.gemma3:
        write("gemma3.json", record_gguf(args.gemma3))


if __name__ == "__main__":
    main()
