//! Chat templates against the prompts that `transformers` renders, and against what hostile ones may do.

mod common;

use common::json;
use rlx_text::{BUILTIN_TEMPLATES, ChatInput, ChatTemplate, Message, TextError};
use serde_json::Value;

fn messages(v: &Value) -> Vec<Message> {
    serde_json::from_value(v.clone()).unwrap()
}

#[test]
fn recorded_prompts() {
    let file = json("templates.json");
    let mut wrong = Vec::new();
    let cases = file["cases"].as_array().unwrap();
    for c in cases {
        let name = c["template"].as_str().unwrap();
        let template = ChatTemplate::new(file["templates"][name].as_str().unwrap()).unwrap();
        let messages = messages(&c["messages"]);
        let input = ChatInput {
            messages: &messages,
            tools: Some(c["tools"].clone()).filter(|t| !t.is_null()),
            add_generation_prompt: true,
            bos_token: "<s>".into(),
            eos_token: "</s>".into(),
            extra: c["extra"].as_object().unwrap().clone(),
            now: Some(1_721_999_109),
        };
        match (template.render(&input), c["prompt"].as_str()) {
            (Ok(got), Some(want)) if got == want => {}
            (Err(TextError::TemplateRaised(got)), None) if got == c["error"].as_str().unwrap() => {}
            (got, want) => wrong.push(format!("{name}: {}\n   got {got:?}\n  want {want:?}", c["messages"])),
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn chat() -> Vec<Message> {
    vec![
        Message::new("system", "S"),
        Message::new("user", "U"),
        Message::new("assistant", "A"),
        Message::new("user", "V"),
    ]
}

fn input(messages: &[Message]) -> ChatInput<'_> {
    ChatInput {
        messages,
        add_generation_prompt: true,
        bos_token: "<s>".into(),
        eos_token: "</s>".into(),
        ..ChatInput::default()
    }
}

#[test]
fn builtin_templates() {
    let chat = chat();
    let want = [
        (
            "chatml",
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n\
             <|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("llama2", "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]"),
        (
            "llama3",
            "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
             U<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        (
            "gemma",
            "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n\
             <start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("mistral", "<s>[INST] S\n\nU [/INST] A</s>[INST] V [/INST]"),
        ("zephyr", "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n"),
    ];
    assert_eq!(want.len(), BUILTIN_TEMPLATES.len());
    for (name, want) in want {
        let got = ChatTemplate::from_arg(name).unwrap().render(&input(&chat)).unwrap();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn template_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jinja");
    std::fs::write(&path, "file {{ messages[0].role }}\n").unwrap();
    let chat = chat();
    let render = |arg: &str| ChatTemplate::from_arg(arg).unwrap().render(&input(&chat)).unwrap();
    assert_eq!(render(path.to_str().unwrap()), "file system");
    assert_eq!(render("text {{ messages | length }}"), "text 4");
    let e = ChatTemplate::from_arg("chatmll").unwrap_err().to_string();
    assert!(e.contains("chatml,"), "{e}");
    let e = ChatTemplate::new("a\n{% if %}").unwrap_err().to_string();
    assert!(e.contains("line 2"), "{e}");
}

#[test]
fn without_a_clock_there_is_no_date() {
    let t = ChatTemplate::new("{{ strftime_now('%Y') if strftime_now is defined else 'fixed' }}").unwrap();
    assert_eq!(t.render(&input(&[])).unwrap(), "fixed");
    let now = ChatInput { now: Some(0), ..input(&[]) };
    assert_eq!(t.render(&now).unwrap(), "1970");
}

fn hostile(source: &str) -> TextError {
    let chat = chat();
    match ChatTemplate::new(source).and_then(|t| t.render(&input(&chat))) {
        Err(e) => e,
        Ok(text) => panic!("{source}: rendered {} bytes", text.len()),
    }
}

#[test]
fn hostile_templates_end_in_errors() {
    // Work.
    let nested = "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a %}{% endfor %}{% endfor %}";
    assert!(matches!(hostile(nested), TextError::TemplateLimit(_)));
    // Recursion.
    hostile("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    hostile(&format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)));
    // Output.
    let long = "x".repeat(10_000);
    hostile(&format!("{{% for a in range(99999) %}}{long}{{% endfor %}}"));
    // Nothing outside.
    hostile("{% include '/etc/passwd' %}");
    hostile("{% extends 'other' %}");
    hostile("{{ messages.__class__.__mro__ }}");
    // Types.
    hostile("{{ 1 + 'a' }}");
    hostile("{{ no_such_function() }}");
    hostile("{{ undefined_thing.attribute }}");
    hostile("{{ messages | no_such_filter }}");
}
#[test]
fn hostile_templates_cannot_grow_memory() {
    let double = "{% set ns = namespace(s='abcdefgh') %}{% for i in range(64) %}{% set ns.s = STEP %}{% endfor %}";
    for step in ["ns.s ~ ns.s", "ns.s + ns.s", "[ns.s, ns.s] | join", "ns.s.replace('a', ns.s)", "ns.s * 3"] {
        assert!(matches!(hostile(&double.replace("STEP", step)), TextError::TemplateLimit(_)), "{step}");
    }
    let capture = "{% set ns = namespace(s='abcdefgh') %}{% for i in range(64) %}\
                   {% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}";
    assert!(matches!(hostile(capture), TextError::TemplateLimit(_)));
    let nest = "{% set ns = namespace(s=1) %}{% for i in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}";
    hostile(nest);
    let cycle = "{% set a = namespace() %}{% set a.b = a %}{{ a }}";
    hostile(cycle);
    hostile("{% set a = namespace() %}{% set a.b = a %}{{ a == a.b }}");
    let chain = "{% set a = namespace() %}{% for i in range(99999) %}{% set a.x = namespace(p=a.x) %}{% endfor %}";
    assert!(matches!(hostile(chain), TextError::TemplateLimit(_)));
}

#[test]
fn hostile_templates_cannot_burn_time() {
    // A list that holds itself twice, 64 times over: 2^64 items to visit.
    let tree = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(64) %}{% set ns.a = [ns.a, ns.a] %}\
                {% set ns.b = [ns.b, ns.b] %}{% endfor %}";
    for end in
        ["{{ ns.a == ns.b }}", "{{ ns.a }}", "{{ ns.a | tojson }}", "{{ ns.a ~ '' }}", "{{ [ns.a, ns.b] | sort }}"]
    {
        assert!(matches!(hostile(&format!("{tree}{end}")), TextError::TemplateLimit(_)), "{end}");
    }
    let long = "{% set s = 'abcdefgh' * 1000000 %}{% for i in range(99999) %}STEP{% endfor %}";
    for step in
        ["{{ s[-1] }}", "{{ s[::2] | length }}", "{{ 'x' in s }}", "{{ s.find('zz') }}", "{{ s | upper | length }}"]
    {
        assert!(matches!(hostile(&long.replace("STEP", step)), TextError::TemplateLimit(_)), "{step}");
    }
}

#[test]
fn hostile_templates_cannot_overflow_the_compiler() {
    let many = 40_000;
    hostile(&format!("{{{{ 1{} }}}}", "+1".repeat(many)));
    hostile(&format!("{{{{ messages{} }}}}", ".a".repeat(many)));
    hostile(&format!("{{{{ messages{} }}}}", "|list".repeat(many)));
    hostile(&format!("{{{{ {}1 }}}}", "not ".repeat(many)));
    hostile(&format!("{{{{ {}1 }}}}", "-".repeat(many)));
    hostile(&format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(many)));
    hostile(&"{% if 1 %}".repeat(many));
    hostile(&format!("{{{{ {}{} }}}}", "[".repeat(many), "]".repeat(many)));
    hostile(&format!("{{{{ [{}] }}}}", "'a' * 100000000, ".repeat(100)));
    hostile(&"x".repeat(2 << 20));
}

#[test]
fn templates_that_load_others_are_refused() {
    for tag in [
        "import 'x' as y",
        "import 'x' as f(x=1)",
        "from 'x' import y",
        "include 'x'",
        "extends 'x'",
        "- import 'x' as 1",
    ] {
        let error = hostile(&format!("{{%{tag} %}}")).to_string();
        assert!(error.contains("cannot load other templates"), "{tag}: {error}");
    }
    // These words are names like any other elsewhere.
    let named = ChatTemplate::new("{% set from = 'a' %}{{ from }}{% set include = 'b' %}{{ include }}").unwrap();
    assert_eq!(named.render(&input(&chat())).unwrap(), "ab");
}

mod random {
    use super::{chat, input};
    use proptest::prelude::*;
    use rlx_text::ChatTemplate;

    const PARTS: &[&str] = &[
        "{{ ",
        " }}",
        "{% ",
        " %}",
        "{%- ",
        " -%}",
        "{# ",
        " #}",
        "for m in messages",
        "endfor",
        "if m",
        "elif x",
        "else",
        "endif",
        "set x = ",
        "set ns.x = ",
        "macro f(a, b=1)",
        "endmacro",
        "f(",
        ")",
        "m.content",
        "m['role']",
        "messages[",
        "]",
        "[::-1]",
        "[1:",
        "{",
        "}",
        "'a'",
        "\"b",
        "1",
        "-2.5",
        "none",
        "true",
        " ~ ",
        " + ",
        " * ",
        " ** ",
        " // ",
        " % ",
        " | ",
        "tojson",
        "join(",
        "trim",
        "map(attribute='role')",
        "selectattr('role', 'eq', 'user')",
        " in ",
        " is ",
        "defined",
        "not ",
        " and ",
        ".strip()",
        ".split('a')",
        "loop.index",
        "namespace(x=1)",
        "range(3)",
        "raise_exception('r')",
        "generation",
        "endgeneration",
        "break",
        "continue",
        "call f()",
        "endcall",
        "filter upper",
        "endfilter",
        "text\n",
        "  ",
        ", ",
        "é",
        "block b",
        "endblock",
        "super()",
        "self.b()",
        "with x = 1",
        "endwith",
        "do ",
        "raw",
        "endraw",
        "import 'x' as y",
        "from 'x' import y",
        "include 'x'",
        "extends 'x'",
        "autoescape true",
        "endautoescape",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn templates_never_panic(parts in prop::collection::vec(prop::sample::select(PARTS), 0..40)) {
            let chat = chat();
            if let Ok(t) = ChatTemplate::new(&parts.concat()) {
                let _ = t.render(&input(&chat));
            }
        }

        #[test]
        fn statements_never_panic(parts in prop::collection::vec(prop::sample::select(PARTS), 0..12), at in 0usize..4) {
            let chat = chat();
            let inner = parts.concat();
            let source = match at {
                0 => format!("{{{{ {inner} }}}}"),
                1 => format!("{{% for m in messages %}}{{{{ {inner} }}}}{{% endfor %}}"),
                2 => format!("{{% set ns = namespace(x=1) %}}{{% set ns.x = {inner} %}}{{{{ ns.x }}}}"),
                _ => format!("{{% if {inner} %}}1{{% endif %}}"),
            };
            if let Ok(t) = ChatTemplate::new(&source) {
                let _ = t.render(&input(&chat));
            }
        }
    }
}
