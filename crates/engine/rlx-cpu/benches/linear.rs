//! Speed of the linear kernels: `cargo bench -p rlx-cpu --bench linear -- [decode] [prefill] [pack] [TYPE...] [--threads N] [--isa I]
//! [--precision f32|bf16] [--tokens 64,512] [--shape 3072x1024] [--working-set MB] [--cpu-time]`; the last counts processor time, for
//! busy machines.
//!
//! - decode: one token against rotating matrices of together the working set (more than the caches hold, unless told), in GB/s of
//!   packed weights, next to the rate of plain reads;
//! - prefill: tokens times a matrix, in GF/s, next to the peak of f32 in vector registers;
//! - pack: GB/s of file bytes.

use rlx_cpu::{
    Epilogue, Isa, Layout, Limits, LinearArgs, LinearPart, LinearShape, PackedMatrix, Precision, Prologue, RowsIn,
    RowsOut, SharedSlice, ThreadPool, WorkCounter, linear, scratch_bytes,
};
use rlx_ir::DType;
use rlx_mem::AlignedBuf;

/// Megabytes beyond any cache of the machines this is run on.
const WORKING_SET: usize = 640;

/// Seconds of measuring at least.
const SETTLING: f64 = 0.5;

struct Setup {
    pool: ThreadPool,
    isa: Isa,
    precision: Precision,
    cpu_time: bool,
    /// Bytes that a decode goes through.
    working_set: usize,
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

    /// Seconds of the fastest run over all of `weights`, each times `tokens` rows, in one job per run: of `repeats` and of as many more as
    /// fit into half a second, in which clocks and memory settle.
    fn time(&self, weights: &[PackedMatrix], tokens: usize, repeats: usize) -> f64 {
        let (rows, cols) = (weights[0].rows(), weights[0].cols());
        let x: Vec<f32> = (0..tokens * cols).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let mut out = AlignedBuf::<f32>::zeroed(tokens * rows);
        let shape = LinearShape { dtype: weights[0].dtype(), rows, cols };
        let bytes = scratch_bytes(tokens, &[shape], false, self.precision, self.isa, self.pool.threads());
        let mut scratch = AlignedBuf::<u8>::zeroed(bytes);
        let scratch = SharedSlice::new(&mut scratch);
        let out = RowsOut { data: SharedSlice::new(&mut out), stride: rows };
        let mut best = f64::INFINITY;
        let begin = self.now();
        let mut runs = 0;
        while runs < repeats || self.now() - begin < SETTLING {
            runs += 1;
            let work: Vec<WorkCounter> = weights.iter().map(|_| WorkCounter::new(self.pool.threads())).collect();
            let start = self.now();
            self.pool.run(&|ctx| {
                for (weight, work) in weights.iter().zip(&work) {
                    let args = LinearArgs {
                        rows: tokens,
                        batch: tokens,
                        x: RowsIn { data: &x, stride: cols },
                        x_layout: Layout::Rows,
                        prologue: Prologue::RmsNorm { weight: None, eps: 1e-5 },
                        parts: &[LinearPart { weight, bias: None, out }],
                        epilogue: Epilogue::None,
                        out_layout: Layout::Rows,
                        precision: self.precision,
                    };
                    linear(ctx, self.isa, std::slice::from_ref(work), scratch, &args);
                    ctx.barrier();
                }
            });
            best = best.min(self.now() - start);
        }
        best
    }

    fn pack(&self, dtype: DType, rows: usize, cols: usize, src: &[u8]) -> PackedMatrix {
        PackedMatrix::pack(dtype, rows, cols, src, self.isa, &self.pool).expect("the sizes fit")
    }

    /// GB/s of plain reads of a buffer beyond the caches.
    fn read_limit(&self) -> f64 {
        let data = AlignedBuf::<u64>::from_slice(&vec![1; self.working_set / 8]);
        let mut best = f64::INFINITY;
        for _ in 0..4 {
            let start = self.now();
            self.pool.run(&|ctx| {
                let mut sums = [0u64; 8];
                for chunk in data[ctx.share(data.len(), 4096)].as_chunks::<8>().0 {
                    for (sum, v) in sums.iter_mut().zip(chunk) {
                        *sum = sum.wrapping_add(*v);
                    }
                }
                std::hint::black_box(sums);
            });
            best = best.min(self.now() - start);
        }
        self.working_set as f64 / best / 1e9
    }
}

/// Bytes of a matrix with small finite scales.
fn source(dtype: DType, rows: usize, cols: usize) -> Vec<u8> {
    let row: Vec<f32> = (0..cols).map(|i| ((i * 7919) % 1013) as f32 / 1013.0 - 0.5).collect();
    let bytes = dtype.bytes_for(cols).expect("whole blocks");
    let row: Vec<u8> = match dtype {
        _ if rlx_quant::can_quantize(dtype) => {
            let mut out = vec![0; bytes];
            rlx_quant::quantize(dtype, &row, &mut out).expect("sizes fit");
            out
        }
        _ => vec![0x11; bytes],
    };
    row.repeat(rows)
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let mut option = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        let value = args.get(at + 1).cloned();
        args.drain(at..(at + 2).min(args.len()));
        value
    };
    let threads = option("--threads").map_or(2, |n| n.parse().expect("a number of threads"));
    let isa = option("--isa").map_or(Isa::detect(), |name| Isa::from_option(&name).expect("an instruction set"));
    let precision = match option("--precision").as_deref() {
        Some("f32") => Precision::F32,
        Some("bf16") => Precision::Bf16,
        _ => Precision::Auto,
    };
    let tokens: Vec<usize> = option("--tokens")
        .map_or(vec![512], |list| list.split(',').map(|n| n.parse().expect("a number of tokens")).collect());
    let shape = option("--shape").unwrap_or("3072x1024".into());
    let (rows, cols) = shape.split_once('x').expect("ROWSxCOLUMNS");
    let shape = (rows.parse().expect("a number of rows"), cols.parse().expect("a number of columns"));
    let working_set = option("--working-set").map_or(WORKING_SET, |n| n.parse().expect("megabytes"));
    let cpu_time = args.iter().any(|arg| arg == "--cpu-time");
    let setup =
        Setup { pool: ThreadPool::new(threads), isa, precision, cpu_time, working_set: working_set.max(1) << 20 };
    let named: Vec<DType> = args.iter().filter_map(|arg| DType::from_name(arg)).collect();
    let types = if named.is_empty() {
        use DType::*;
        vec![Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, F16, BF16, F32]
    } else {
        named
    };
    let phases = ["decode", "prefill", "pack"];
    let wanted = |name: &str| args.iter().all(|arg| !phases.contains(&arg.as_str())) || args.iter().any(|a| a == name);
    println!("{isa}, {threads} threads, {precision:?}");
    if wanted("decode") {
        println!("plain reads {:.1} GB/s", setup.read_limit());
    }
    if wanted("prefill") {
        println!("peak of f32 {:.0} GF/s", Limits::measure(threads).f32_gflops);
    }
    for dtype in types {
        let mut line = format!("{dtype:8}");
        if wanted("decode") || wanted("pack") {
            let (rows, cols) = (2048, 4096);
            let src = source(dtype, rows, cols);
            let start = setup.now();
            let count = setup.working_set.div_ceil(src.len());
            let weights: Vec<PackedMatrix> = (0..count).map(|_| setup.pack(dtype, rows, cols, &src)).collect();
            line += &format!("  pack {:5.2} GB/s", (count * src.len()) as f64 / (setup.now() - start) / 1e9);
            if wanted("decode") {
                let seconds = setup.time(&weights, 1, 3 * WORKING_SET / working_set.clamp(4, WORKING_SET));
                let bytes: usize = weights.iter().map(PackedMatrix::bytes).sum();
                line += &format!("  decode {:5.1} GB/s", bytes as f64 / seconds / 1e9);
            }
        }
        if wanted("prefill") {
            let (rows, cols) = shape;
            let weights = [setup.pack(dtype, rows, cols, &source(dtype, rows, cols))];
            for &tokens in &tokens {
                let seconds = setup.time(&weights, tokens, (4096 / tokens).clamp(8, 50));
                line += &format!("  {tokens}: {:6.0} GF/s", 2.0 * (tokens * rows * cols) as f64 / seconds / 1e9);
            }
        }
        println!("{line}");
    }
}
