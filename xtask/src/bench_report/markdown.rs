//! The tables, as Markdown.

use std::fmt::Write;

use super::measure::{Measured, Run, median};

/// The whole generated part of the document.
pub(super) fn report(
    machine: &str,
    measured: &[Measured],
    by_isa: &[(String, &str, Run)],
    profiles: &[(String, String, String)],
    peer: Option<&str>,
) -> String {
    let mut out = format!("Measured on: {machine}.");
    if let Some(isa) = measured.iter().find_map(|m| m.rounds.first()?.0.isa.as_deref()) {
        let _ = write!(out, " Kernels: {isa}.");
    }
    if let Some(version) = peer {
        let _ = write!(out, " llama.cpp: commit {version}, flash attention on.");
    }
    out.push_str("\n\n### Limits of this machine\n\nMedians over all runs below.\n\n");
    out.push_str(&limits(measured));
    out.push_str("\n![Roofline: decode and prefill against the limits](roofline.svg)\n");
    out.push_str("\n### Decode, 64 tokens\n\n");
    out.push_str(&decode(measured));
    out.push_str("\n### Prefill\n\n");
    out.push_str(&prefill(measured));
    out.push_str("\n### Memory and loading\n\n");
    out.push_str(&memory(measured));
    if !by_isa.is_empty() {
        out.push_str("\n### Instruction sets\n\n");
        out.push_str(&isas(by_isa));
    }
    for (heading, command, text) in profiles {
        let _ = write!(out, "\n### Profile: {heading}\n\n`{command}`\n\n```text\n{}\n```\n", text.trim_end());
    }
    out
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let rule: Vec<String> = (0..header.len()).map(|i| if i == 0 { "---" } else { "---:" }.to_owned()).collect();
    let mut out = line(&header) + &line(&rule);
    rows.into_iter().for_each(|row| out.push_str(&line(&row)));
    out
}

/// Three significant digits; `-` for what was not measured.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(v) if v >= 1000.0 => {
            let rounded = (v / 10.0).round() as u64 * 10;
            format!("{},{:03}", rounded / 1000, rounded % 1000)
        }
        Some(v) if v >= 100.0 => format!("{v:.0}"),
        Some(v) if v >= 10.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.2}"),
    }
}

fn times(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}x"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{:.0} %", v * 100.0))
}

fn megabytes(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{:.0}", v / 1e6))
}

fn limits(measured: &[Measured]) -> String {
    let dram = median(measured.iter().filter_map(Measured::dram).collect());
    let mut rows = vec![vec!["DRAM read".to_owned(), format!("{} GB/s", number(dram))]];
    rows.extend(peaks(measured).into_iter().map(|(name, value)| vec![name.to_owned(), gops(value)]));
    table(&["limit", "measured"], rows)
}

/// The peaks of arithmetic that were measured: medians in Gop/s.
pub(super) fn peaks(measured: &[Measured]) -> Vec<(&'static str, f64)> {
    let runs = || measured.iter().flat_map(|m| m.rounds.iter().filter_map(|(ours, _)| ours.limits.as_ref()));
    let Some(first) = runs().next() else { return Vec::new() };
    let of = |name: &str| {
        let values = runs().filter_map(|l| l.peaks.iter().find(|(known, _)| *known == name).map(|(_, value)| *value));
        median(values.collect())
    };
    first.peaks.iter().filter_map(|(name, _)| Some((*name, of(name)?))).collect()
}

/// A rate of arithmetic with its unit.
pub(super) fn gops(value: f64) -> String {
    if value >= 1000.0 { format!("{:.1} Top/s", value / 1000.0) } else { format!("{value:.0} Gop/s") }
}

fn decode(measured: &[Measured]) -> String {
    let header = ["model", "MB a token", "tok/s", "GB/s", "DRAM GB/s", "share of DRAM", "llama.cpp tok/s", "ratio"];
    let row = |m: &Measured| {
        let speed = m.ours(|run| Some(run.tokens_per_second[2]));
        let bytes = m.ours(|run| run.bytes_per_token);
        let rate = speed.zip(bytes).map(|(speed, bytes)| speed * bytes / 1e9);
        let share = percent(m.ours(|run| run.share_of_bandwidth));
        let theirs = m.theirs(|run| Some(run.tokens_per_second[2]));
        let ratio = times(m.ratio(2));
        let cells = [megabytes(bytes), number(speed), number(rate), number(m.dram()), share, number(theirs), ratio];
        std::iter::once(m.model.clone()).chain(cells).collect()
    };
    table(&header, measured.iter().map(row))
}

fn prefill(measured: &[Measured]) -> String {
    let header =
        ["model", "pp128 tok/s", "llama.cpp", "ratio", "pp512 tok/s", "llama.cpp", "ratio", "Gop/s", "share of peak"];
    let row = |m: &Measured| {
        let mut row = vec![m.model.clone()];
        for i in 0..2 {
            row.push(number(m.ours(|run| Some(run.tokens_per_second[i]))));
            row.push(number(m.theirs(|run| Some(run.tokens_per_second[i]))));
            row.push(times(m.ratio(i)));
        }
        let rate = prefill_rate(m);
        let best = m.ours(|run| run.limits.as_ref()?.peaks.iter().map(|(_, value)| *value).reduce(f64::max));
        row.push(number(rate));
        row.push(percent(rate.zip(best).map(|(rate, best)| rate / best)));
        row
    };
    table(&header, measured.iter().map(row))
}

/// Gop/s in the prefill of 512 tokens.
pub(super) fn prefill_rate(m: &Measured) -> Option<f64> {
    let (operations, _) = m.prefill_cost(512.0)?;
    m.ours(|run| Some(run.tokens_per_second[1])).map(|speed| operations / 512.0 * speed / 1e9)
}

fn memory(measured: &[Measured]) -> String {
    let header =
        ["model", "file MB", "KV cache MB", "peak RSS MB", "above file and KV MB", "llama.cpp peak RSS MB", "load ms"];
    let row = |m: &Measured| {
        let peak = m.ours(|run| run.peak_rss_bytes);
        let theirs = m.theirs(|run| run.peak_rss_bytes);
        let kv = m.ours(|run| run.kv_bytes);
        let above = peak.map(|peak| peak - m.facts.file_bytes - kv.unwrap_or(0.0));
        let load = m.ours(|run| run.load_ms).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
        let file = megabytes(Some(m.facts.file_bytes));
        vec![m.model.clone(), file, megabytes(kv), megabytes(peak), megabytes(above), megabytes(theirs), load]
    };
    table(&header, measured.iter().map(row))
}

fn isas(by_isa: &[(String, &str, Run)]) -> String {
    let row = |(model, isa, run): &(String, &str, Run)| {
        let mut row = vec![model.clone(), format!("`--isa {isa}`")];
        row.extend(run.tokens_per_second.iter().map(|speed| number(Some(*speed))));
        row
    };
    table(&["model", "instruction set", "pp128 tok/s", "pp512 tok/s", "tg64 tok/s"], by_isa.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::super::measure::tests::example;
    use super::*;

    #[test]
    fn figures_stand_in_the_tables() {
        let measured = [example("a", true), example("b", false)];
        let by_isa = [("a".to_owned(), "avx2", measured[0].rounds[0].0.clone())];
        let profiles = [("Decode, a".to_owned(), "rlx-run bench".to_owned(), "linear 1 ms\n".to_owned())];
        let text = report("cpu", &measured, &by_isa, &profiles, Some("abc"));
        for line in [
            "Measured on: cpu. Kernels: amx. llama.cpp: commit abc, flash attention on.",
            "| DRAM read | 30.0 GB/s |",
            "| AMX bf16 | 5.9 Top/s |",
            "| a | 400 | 60.0 | 24.0 | 30.0 | 80 % | 30.0 | 2.00x |",
            "| b | 400 | 60.0 | 24.0 | 30.0 | 80 % | - | - |",
            "| a | 1,500 | 399 | 3.76x | 1,900 | 380 | 5.00x | 1,680 | 28 % |",
            "| a | 404 | 60 | 520 | 56 | - | 210 |",
            "| a | `--isa avx2` | 1,500 | 1,900 | 60.0 |",
            "linear 1 ms\n```",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
