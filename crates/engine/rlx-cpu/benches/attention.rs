//! Speed of attention: `cargo bench -p rlx-cpu --bench attention -- [read] [decode] [prefill] [encode] [f32] [f16] [q8] [--threads N] [--isa I]
//! [--tokens 8192] [--layers N] [--cpu-time]`; the last counts processor time, for busy machines.
//!
//! - read: plain reads of memory, in GB/s;
//! - decode: one token at a long context, layer after layer of caches that together exceed what the processor's caches hold, in
//!   GB/s of keys and values;
//! - prefill: a prompt of 512 tokens into an empty cache, causal, in GF/s of the visible half of the products;
//! - encode: texts of 128 tokens without a cache, in f32, in GF/s.

use rlx_cpu::attention::{
    AttentionArgs, KvDType, KvLayerView, KvLayout, ScoreBias, SeqSpan, attention, attention_scratch_bytes,
};
use rlx_cpu::{Isa, Layout, Precision, RowsIn, RowsOut, SharedSlice, ThreadPool, WorkCounter};
use rlx_mem::AlignedBuf;

/// More than the caches of the machines this is run on.
const WORKING_SET: usize = 640 << 20;
const BLOCK_LEN: usize = 64;

/// Heads, key/value heads, head width.
const SHAPES: [(&str, usize, usize, usize); 4] =
    [("Qwen3-0.6B", 16, 8, 128), ("Llama-3.2-1B", 32, 8, 64), ("SmolLM2-135M", 9, 3, 64), ("Gemma3-270M", 4, 1, 256)];

/// As [`SHAPES`], of encoders.
const ENCODERS: [(&str, usize, usize, usize); 2] = [("MiniLM-L6", 12, 12, 32), ("BERT base", 12, 12, 64)];
const TEXT_TOKENS: usize = 128;

/// The call for a text whose tokens all see each other, in f32 and without a cache.
fn text<'a>(
    (_, heads, kv_heads, head_dim): (&str, usize, usize, usize),
    q: RowsIn<'a>,
    kv: [RowsIn<'a>; 2],
    out: &'a mut [f32],
    spans: &'a [SeqSpan<'a>],
) -> AttentionArgs<'a> {
    AttentionArgs {
        q,
        kv: Some(kv),
        out: RowsOut { data: SharedSlice::new(out), stride: heads * head_dim },
        out_layout: Layout::Rows,
        heads,
        kv_heads,
        head_dim,
        v_dim: head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        causal: false,
        window: None,
        softcap: None,
        q_norm: None,
        k_norm: None,
        rope: None,
        bias: ScoreBias::default(),
        spans,
        cache: None,
        precision: Precision::F32,
    }
}

struct Setup {
    layers: Option<usize>,
    pool: ThreadPool,
    isa: Isa,
    cpu_time: bool,
}

impl Setup {
    /// Seconds since some moment: of the clock, or of processor time per thread.
    fn now(&self) -> f64 {
        let clock = if self.cpu_time { libc::CLOCK_PROCESS_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both clocks exist on every Linux; the result goes to a local.
        unsafe { libc::clock_gettime(clock, &mut time) };
        let seconds = time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
        if self.cpu_time { seconds / self.pool.threads() as f64 } else { seconds }
    }

    /// GB/s of plain reads of fresh memory.
    fn read_rate(&self) -> f64 {
        let mut memory = AlignedBuf::<u64>::zeroed(WORKING_SET / 8);
        memory.fill(1);
        let memory = &memory[..];
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let start = self.now();
            self.pool.run(&|ctx| {
                let part = &memory[ctx.share(memory.len(), 512)];
                let lanes = part.chunks_exact(32).fold([0u64; 32], |sum, x| std::array::from_fn(|i| sum[i] ^ x[i]));
                std::hint::black_box(lanes);
            });
            best = best.min(self.now() - start);
        }
        WORKING_SET as f64 / best * 1e-9
    }

    /// Seconds per layer of the fastest of `repeats` runs: `len` new tokens after `past`, on `layers` caches in turn.
    fn time(&self, shape: (&str, usize, usize, usize), dtype: KvDType, len: usize, past: usize, repeats: usize) -> f64 {
        let (_, heads, kv_heads, head_dim) = shape;
        let layout = KvLayout { dtype, kv_heads, k_dim: head_dim, v_dim: head_dim, block_len: BLOCK_LEN };
        let count = (past + len).div_ceil(BLOCK_LEN);
        let bytes = layout.bytes_per_block();
        let layers = if past > 0 { (WORKING_SET / (count * bytes)).clamp(1, 64) } else { 4 };
        let layers = self.layers.unwrap_or(layers);
        let mut memory = AlignedBuf::<u8>::zeroed(layers * count * bytes);
        // As f32 and as f16 a little over 1: numbers, so that no subnormals are timed, and no shared page of zeros.
        memory.fill(0x3c);
        let start = memory.as_mut_ptr();
        let pointers: Vec<*mut u8> = (0..layers * count).map(|i| start.wrapping_add(i * bytes)).collect();
        let views: Vec<KvLayerView<'_>> = (0..layers)
            .map(|layer| {
                // SAFETY: each block has its bytes in `memory`, which the kernel alone uses and which outlives the view.
                unsafe { KvLayerView::new(layout, &pointers[layer * count..][..count], 0) }
            })
            .collect();
        let table: Vec<u32> = (0..count as u32).collect();
        let noise = |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect() };
        let (q, kv) = (noise(len * heads * head_dim), noise(len * kv_heads * head_dim));
        let mut out = vec![0.0f32; len * heads * head_dim];
        let spans = [SeqSpan { start: 0, len, past, blocks: &table }];
        let rows = |data, heads| RowsIn { data, stride: heads * head_dim };
        let kv = [rows(&kv, kv_heads), rows(&kv, kv_heads)];
        let text = text(shape, rows(&q, heads), kv, &mut out, &spans);
        let args = AttentionArgs { causal: true, cache: Some(&views[0]), precision: Precision::Auto, ..text };
        let bytes = attention_scratch_bytes(&args, self.isa, self.pool.threads());
        let mut scratch = AlignedBuf::<u8>::zeroed(bytes);
        let scratch = SharedSlice::new(&mut scratch);
        let mut best = f64::INFINITY;
        for _ in 0..repeats {
            let work: Vec<WorkCounter> = views.iter().map(|_| WorkCounter::default()).collect();
            let start = self.now();
            self.pool.run(&|ctx| {
                for (view, work) in views.iter().zip(&work) {
                    let args = AttentionArgs { cache: Some(view), ..args };
                    attention(ctx, self.isa, std::slice::from_ref(work), scratch, &args);
                    ctx.barrier();
                }
            });
            best = best.min(self.now() - start);
        }
        best / layers as f64
    }

    /// Seconds per layer of the fastest of `repeats` runs: a text of 128 tokens, each of which sees all.
    fn encode(&self, shape: (&str, usize, usize, usize), repeats: usize) -> f64 {
        let layers = self.layers.unwrap_or(6);
        let (_, heads, _, head_dim) = shape;
        let width = heads * head_dim;
        let noise: Vec<f32> = (0..TEXT_TOKENS * 3 * width).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        // One row holds a token's queries, keys and values, as products leave them.
        let part = |i: usize| RowsIn { data: &noise[i * width..], stride: 3 * width };
        let mut out = vec![0.0f32; TEXT_TOKENS * width];
        let spans = [SeqSpan { start: 0, len: TEXT_TOKENS, past: 0, blocks: &[] }];
        let args = text(shape, part(0), [part(1), part(2)], &mut out, &spans);
        let bytes = attention_scratch_bytes(&args, self.isa, self.pool.threads());
        let mut scratch = AlignedBuf::<u8>::zeroed(bytes);
        let scratch = SharedSlice::new(&mut scratch);
        let mut best = f64::INFINITY;
        for _ in 0..repeats {
            let work: Vec<WorkCounter> = (0..layers).map(|_| WorkCounter::default()).collect();
            let start = self.now();
            self.pool.run(&|ctx| {
                for work in &work {
                    attention(ctx, self.isa, std::slice::from_ref(work), scratch, &args);
                    ctx.barrier();
                }
            });
            best = best.min(self.now() - start);
        }
        best / layers as f64
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let has = |name: &str| arguments.iter().any(|a| a == name);
    let threads = value("--threads").and_then(|n| n.parse().ok()).unwrap_or(2);
    let isa =
        Isa::from_option(value("--isa").map_or("auto", String::as_str)).expect("an instruction set of this machine");
    let tokens: usize = value("--tokens").and_then(|n| n.parse().ok()).unwrap_or(8192);
    let layers = value("--layers").and_then(|n| n.parse().ok());
    let setup = Setup { layers, pool: ThreadPool::new(threads), isa, cpu_time: has("--cpu-time") };
    if has("read") {
        println!("{threads} threads, plain reads: {:.1} GB/s", setup.read_rate());
    }
    let both = !has("decode") && !has("prefill") && !has("encode");
    for shape in ENCODERS.into_iter().filter(|_| both || has("encode")) {
        let (model, heads, _, head_dim) = shape;
        let seconds = setup.encode(shape, 400);
        let rate = (4 * heads * head_dim * TEXT_TOKENS * TEXT_TOKENS) as f64 / seconds * 1e-9;
        println!(
            "{isa} {threads} threads, encode {TEXT_TOKENS}, {model:<12} f32: {:7.1} us/layer, {rate:5.0} GF/s",
            seconds * 1e6
        );
    }
    let types = [("f32", KvDType::F32), ("f16", KvDType::F16), ("q8", KvDType::Q8)];
    let every_type = !types.iter().any(|(name, _)| has(name));
    for (name, dtype) in types {
        if !every_type && !has(name) {
            continue;
        }
        for shape in SHAPES {
            let (model, heads, kv_heads, head_dim) = shape;
            if both || has("decode") {
                let seconds = setup.time(shape, dtype, 1, tokens - 1, 5);
                let layout = KvLayout { dtype, kv_heads, k_dim: head_dim, v_dim: head_dim, block_len: BLOCK_LEN };
                let bytes = tokens.div_ceil(BLOCK_LEN) * layout.bytes_per_block();
                let rate = bytes as f64 / seconds * 1e-9;
                println!(
                    "{isa} {threads} threads, decode at {tokens}, {model:<12} {name:>3}: {:7.1} us/layer, {rate:5.1} GB/s",
                    seconds * 1e6
                );
            }
            if both || has("prefill") {
                let seconds = setup.time(shape, dtype, 512, 0, 9);
                let work = 4 * heads * head_dim * 512 * 513 / 2;
                let rate = work as f64 / seconds * 1e-9;
                println!(
                    "{isa} {threads} threads, prefill 512, {model:<12} {name:>3}: {:7.1} us/layer, {rate:5.0} GF/s",
                    seconds * 1e6
                );
            }
        }
    }
}
