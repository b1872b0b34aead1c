//! Speed of convolutions: `cargo bench -p rlx-cpu --bench conv -- [--threads N] [--isa I]`.
//!
//! Dense kernels next to the linear of the same product on rows that lie side by side already, in GF/s; depthwise kernels in GF/s.
//! Each figure is the fastest of some runs, in turns.

use std::time::Instant;

use rlx_cpu::conv::{ConvArgs, ConvKernel, Slides, conv1d, conv1d_scratch_bytes};
use rlx_cpu::{
    Epilogue, Isa, Layout, LinearArgs, LinearPart, LinearShape, PackedMatrix, Precision, Prologue, RowsIn, RowsOut,
    SharedSlice, ThreadPool, WorkCounter, linear, scratch_bytes,
};
use rlx_ir::{DType, Window};
use rlx_mem::PageArena;

const REPEATS: usize = 15;

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Seconds that each of `runs` takes at best.
fn best<const N: usize>(mut runs: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    for _ in 0..REPEATS {
        for (run, best) in runs.iter_mut().zip(&mut best) {
            let start = Instant::now();
            run();
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let threads = option("--threads").and_then(|n| n.parse().ok()).unwrap_or(2);
    let isa = option("--isa").map_or_else(Isa::detect, |name| Isa::from_option(name).expect("a known level"));
    let pool = ThreadPool::new(threads);
    println!("{isa}, {threads} threads");
    let same = Window::new(3).pad(1, 1);
    for (name, channels, out, groups, window, rows) in [
        ("whisper tiny conv1", 80, 384, 1, same, 3000),
        ("whisper tiny conv2", 384, 384, 1, same.stride(2), 3000),
        ("whisper base conv2", 512, 512, 1, same.stride(2), 3000),
        ("w2v-bert adapter", 1024, 2048, 1, same.stride(2), 500),
        ("w2v-bert depthwise", 1024, 1024, 1024, Window::new(31).pad(30, 0), 500),
    ] {
        let (inner, taps) = (channels / groups, window.taps);
        let weight = bytes(&values(out * inner * taps));
        let shape = [out, inner, taps];
        let kernel = ConvKernel::pack(&mut PageArena::new(), DType::F32, shape, groups, &weight, isa, &pool)
            .expect("sizes fit together");
        let made = window.output_len(rows);
        let (x, mut y) = (values(rows * channels), vec![0.0; made * out]);
        let args = ConvArgs {
            rows: made,
            x: RowsIn { data: &x, stride: channels },
            kernel: &kernel,
            bias: None,
            slides: Slides::new(window, [(0..rows, 0..made)]),
            activation: None,
            out: RowsOut { data: SharedSlice::new(&mut y), stride: out },
            precision: Precision::F32,
        };
        let mut scratch = vec![0u8; conv1d_scratch_bytes(&args, isa, threads)];
        let scratch = SharedSlice::new(&mut scratch);
        let mut convolve = || {
            let work = [WorkCounter::new(threads), WorkCounter::new(threads)];
            pool.run(&|ctx| conv1d(ctx, isa, &work, scratch, &args));
        };
        let flops = 2.0 * (made * out * inner * taps) as f64;
        if groups > 1 {
            let [seconds] = best([&mut convolve]);
            println!("{name}: {:.2} ms, {:.1} GF/s", seconds * 1e3, flops / seconds / 1e9);
            continue;
        }
        let cols = channels * taps;
        let matrix = PackedMatrix::pack(DType::F32, out, cols, &weight, isa, &pool).expect("sizes fit together");
        let (wide, mut z) = (values(made * cols), vec![0.0; made * out]);
        let z = RowsOut { data: SharedSlice::new(&mut z), stride: out };
        let shape = LinearShape { dtype: DType::F32, rows: out, cols };
        let mut room = vec![0u8; scratch_bytes(made, &[shape], false, Precision::F32, isa, threads)];
        let room = SharedSlice::new(&mut room);
        let mut multiply = || {
            let work = [WorkCounter::new(threads)];
            let parts = [LinearPart { weight: &matrix, bias: None, out: z }];
            let args = LinearArgs {
                rows: made,
                batch: made,
                x: RowsIn { data: &wide, stride: cols },
                x_layout: Layout::Rows,
                prologue: Prologue::None,
                parts: &parts,
                epilogue: Epilogue::None,
                out_layout: Layout::Rows,
                precision: Precision::F32,
            };
            pool.run(&|ctx| linear(ctx, isa, &work, room, &args));
        };
        let [conv, plain] = best([&mut convolve, &mut multiply]);
        let rate = |seconds: f64| flops / seconds / 1e9;
        println!(
            "{name}: {:.2} ms, {:.1} GF/s; linear {:.2} ms, {:.1} GF/s",
            conv * 1e3,
            rate(conv),
            plain * 1e3,
            rate(plain)
        );
    }
}
