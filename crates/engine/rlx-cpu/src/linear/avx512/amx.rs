//! bf16 tiles on the AMX unit.
//!
//! A tile of activations is 16 tokens x 32 columns, `[16][32]` bf16; a tile of weights is the same 32 columns of 16 rows
//! in pairs, `[16 pairs][16 rows][2]`. Both are 1 KB, and consecutive columns are consecutive tiles.

use std::arch::asm;

use crate::linear::plan::{TILE_COLS, TILE_ROWS, UNIT};

/// bf16 values of a tile.
pub(crate) const TILE: usize = TILE_ROWS * TILE_COLS;

/// The tile configuration of this thread; released when dropped.
pub(crate) struct Tiles(());

#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles {
    /// Sets all eight tiles up as 16 rows of 64 bytes.
    ///
    /// # Safety
    /// The machine has AMX and the process may use it ([`Isa::Amx`](crate::Isa::Amx) is available).
    pub(crate) unsafe fn configure() -> Tiles {
        let mut config = Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.row_bytes[..8].fill(64);
        config.rows[..8].fill(16);
        // SAFETY: the configuration is valid for palette 1. The assembly may read memory, so the stores above happen first.
        unsafe { asm!("ldtilecfg [{config}]", config = in(reg) &config, options(nostack, readonly)) };
        Tiles(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the value exists only where tiles were configured.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Up to 32 tokens times 32 rows: `out[t * UNIT + row]`, all 32 tokens if `blocks` is 2, else 16. Starts from what `out` holds
/// if `accumulate`, else from zero.
///
/// # Safety
/// [`Tiles`] are configured on this thread. `x[..blocks]` and `weights` are runs of `count` > 0 tiles (weights may be the same
/// twice); `out` has room for 32 rows of a unit.
pub(crate) unsafe fn tile(
    weights: [*const u8; 2],
    count: usize,
    x: [*const u16; 2],
    blocks: usize,
    out: *mut f32,
    accumulate: bool,
) {
    // SAFETY: the caller's promises; the tile registers are named as clobbered.
    unsafe {
        if blocks == 2 {
            asm!(
                "test {accumulate}, {accumulate}",
                "jz 3f",
                "tileloadd tmm0, [{out} + {out_stride}*1]",
                "tileloadd tmm1, [{out} + {out_stride}*1 + 64]",
                "tileloadd tmm2, [{out2} + {out_stride}*1]",
                "tileloadd tmm3, [{out2} + {out_stride}*1 + 64]",
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{x0} + {stride}*1]",
                "tileloadd tmm6, [{w0} + {stride}*1]",
                "tileloadd tmm7, [{w1} + {stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{x1} + {stride}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {x0}, 1024",
                "add {x1}, 1024",
                "add {w0}, 1024",
                "add {w1}, 1024",
                "dec {count}",
                "jnz 2b",
                "tilestored [{out} + {out_stride}*1], tmm0",
                "tilestored [{out} + {out_stride}*1 + 64], tmm1",
                "tilestored [{out2} + {out_stride}*1], tmm2",
                "tilestored [{out2} + {out_stride}*1 + 64], tmm3",
                x0 = inout(reg) x[0] => _,
                x1 = inout(reg) x[1] => _,
                w0 = inout(reg) weights[0] => _,
                w1 = inout(reg) weights[1] => _,
                count = inout(reg) count => _,
                accumulate = in(reg) accumulate as usize,
                stride = in(reg) 64usize,
                out = in(reg) out,
                out2 = in(reg) out.add(16 * UNIT),
                out_stride = in(reg) 4 * UNIT,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        } else {
            asm!(
                "test {accumulate}, {accumulate}",
                "jz 3f",
                "tileloadd tmm0, [{out} + {out_stride}*1]",
                "tileloadd tmm1, [{out} + {out_stride}*1 + 64]",
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{x0} + {stride}*1]",
                "tileloadd tmm6, [{w0} + {stride}*1]",
                "tileloadd tmm7, [{w1} + {stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {x0}, 1024",
                "add {w0}, 1024",
                "add {w1}, 1024",
                "dec {count}",
                "jnz 2b",
                "tilestored [{out} + {out_stride}*1], tmm0",
                "tilestored [{out} + {out_stride}*1 + 64], tmm1",
                x0 = inout(reg) x[0] => _,
                w0 = inout(reg) weights[0] => _,
                w1 = inout(reg) weights[1] => _,
                count = inout(reg) count => _,
                accumulate = in(reg) accumulate as usize,
                stride = in(reg) 64usize,
                out = in(reg) out,
                out_stride = in(reg) 4 * UNIT,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}
