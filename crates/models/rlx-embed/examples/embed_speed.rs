//! Texts per second of a model: texts of 128 tokens by one and by 32, and mixed lengths of 5 to 256 tokens.
//!
//! `cargo run --release -p rlx-embed --example embed_speed -- DIR [THREADS] [--profile | --turns]`
//!
//! With `--turns` each number of a case, a line of standard input, is answered by the seconds of one run:
//! `scripts/bench/embed_in_turn.py` compares with others in this way.

use std::io::BufRead;
use std::time::Instant;

use rlx_cli::run::report::profile_table;
use rlx_embed::{Prompt, RlxEmbed};

/// Runs of a case: at least so many, and for at least so many seconds, as single ones differ by a tenth.
const ROUNDS: usize = 7;
const SECONDS: f64 = 1.5;

/// A text of `tokens` tokens with `[CLS]` and `[SEP]`, of words that are tokens of every English vocabulary.
fn text(tokens: usize, seed: usize) -> String {
    const WORDS: [&str; 8] = ["the", "river", "house", "was", "old", "and", "water", "people"];
    (0..tokens - 2).map(|i| WORDS[(i * 5 + seed) % WORDS.len()]).collect::<Vec<_>>().join(" ")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let dir = args.first().ok_or("give the model's directory")?;
    let threads = args.get(1).and_then(|n| n.parse().ok()).unwrap_or(2);
    let model = RlxEmbed::builder().path(dir).threads(threads).build()?;
    let profile = args.iter().any(|arg| arg == "--profile");
    println!("{}", model.describe());
    let cases = [
        ("128 tokens, batch 1", vec![text(128, 0)]),
        ("128 tokens, batch 32", (0..32).map(|i| text(128, i)).collect()),
        // Every length from 5 to 256 about equally often, in no order.
        ("5..256 tokens, batch 32", (0..32).map(|i| text(5 + (i * 97) % 252, i)).collect()),
    ];
    if args.iter().any(|arg| arg == "--turns") {
        for line in std::io::stdin().lock().lines() {
            let (_, texts) = cases.get(line?.trim().parse::<usize>()?).ok_or("there is no such case")?;
            let start = Instant::now();
            model.embed_into(texts, Prompt::None, &mut Vec::new())?;
            println!("{}", start.elapsed().as_secs_f64());
        }
        return Ok(());
    }
    for (name, texts) in cases {
        let mut out = Vec::new();
        let mut run = || -> Result<(f64, usize), rlx_embed::EmbedError> {
            out.clear();
            let start = Instant::now();
            let stats = model.embed_into(&texts, Prompt::None, &mut out)?;
            Ok((start.elapsed().as_secs_f64(), stats.tokens))
        };
        run()?;
        model.set_profiling(profile);
        let mut times = Vec::new();
        let mut tokens = 0;
        while times.len() < ROUNDS || times.iter().sum::<f64>() < SECONDS {
            let (seconds, count) = run()?;
            times.push(seconds);
            tokens = count;
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!("{name}: {:.1} texts/s, {:.0} tokens/s", texts.len() as f64 / median, tokens as f64 / median);
        if profile {
            print!("{}", profile_table(name, &model.profile()));
        }
        model.set_profiling(false);
    }
    Ok(())
}
