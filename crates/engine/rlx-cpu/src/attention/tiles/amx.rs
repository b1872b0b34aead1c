//! Products of bf16 tiles on the AMX unit.

use std::arch::asm;

use super::Scales;

/// As [`Square`](super::Square).
///
/// # Safety
/// As there, and tiles are configured on this thread.
pub(super) unsafe fn square(
    left: [*const u32; 2],
    right: [*const u32; 2],
    steps: usize,
    out: [*mut f32; 4],
    stride: usize,
    accumulate: bool,
    _: [Scales; 2],
) {
    macro_rules! square {
        ($($first:literal),*) => {
            asm!(
                $($first,)*
                "2:",
                "tileloadd tmm4, [{a0} + {stride}*1]",
                "tileloadd tmm6, [{b0} + {stride}*1]",
                "tileloadd tmm7, [{b1} + {stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{a1} + {stride}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{o0} + {out_stride}*1], tmm0",
                "tilestored [{o1} + {out_stride}*1], tmm1",
                "tilestored [{o2} + {out_stride}*1], tmm2",
                "tilestored [{o3} + {out_stride}*1], tmm3",
                a0 = inout(reg) left[0] => _,
                a1 = inout(reg) left[1] => _,
                b0 = inout(reg) right[0] => _,
                b1 = inout(reg) right[1] => _,
                steps = inout(reg) steps => _,
                stride = in(reg) 64usize,
                o0 = in(reg) out[0],
                o1 = in(reg) out[1],
                o2 = in(reg) out[2],
                o3 = in(reg) out[3],
                out_stride = in(reg) stride * size_of::<f32>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    // SAFETY: the caller's promises; the tile registers are named as clobbered.
    unsafe {
        if accumulate {
            square!(
                "tileloadd tmm0, [{o0} + {out_stride}*1]",
                "tileloadd tmm1, [{o1} + {out_stride}*1]",
                "tileloadd tmm2, [{o2} + {out_stride}*1]",
                "tileloadd tmm3, [{o3} + {out_stride}*1]"
            );
        } else {
            square!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3");
        }
    }
}
