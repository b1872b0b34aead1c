//! AMX in software, so that its kernels can be tested on processors without it: there a tile instruction raises SIGILL, and a handler does
//! what the instruction would. Far too slow for anything but tests, and only for what this crate executes.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, and chapter 18 of volume 1.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};

use half::bf16;

const TILES: usize = 8;
const ROWS: usize = 16;
const ROW_BYTES: usize = 64;

/// A tile register: rows of bytes.
type Tile = [[u8; ROW_BYTES]; ROWS];

/// One thread's tile registers. All have full size, as every configuration of this crate.
struct Unit {
    configured: bool,
    tiles: [Tile; TILES],
}

thread_local! {
    // Without a destructor, and so never allocated: a signal handler may look at it.
    static UNIT: UnsafeCell<Unit> =
        const { UnsafeCell::new(Unit { configured: false, tiles: [[[0; ROW_BYTES]; ROWS]; TILES] }) };
}

/// Makes tile instructions work in this process; says whether that could be done.
pub(crate) fn install() -> bool {
    // SAFETY: an all-zero sigaction is valid; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_illegal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGILL, &action, std::ptr::null_mut()) == 0
    }
}

/// Executes the instruction that was refused and goes on behind it; what is no tile instruction ends the process as ever.
extern "C" fn on_illegal(signal: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system passes a valid context, whose instruction pointer is at the refused instruction; nothing else holds a
    // reference to this thread's unit, since the handler does not interrupt itself.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        let code = std::slice::from_raw_parts(registers[libc::REG_RIP as usize] as *const u8, LONGEST);
        let done = UNIT.with(|unit| {
            let instruction = Instruction::decode(code, registers)?;
            (*unit.get()).execute(&instruction)?;
            Some(instruction.len)
        });
        match done {
            Some(len) => registers[libc::REG_RIP as usize] += len as i64,
            None => {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// Bytes of the longest instruction that is decoded: VEX prefix, opcode, ModRM, SIB and a displacement of four bytes.
const LONGEST: usize = 10;

/// A VEX instruction of map 0F38.
struct Instruction {
    opcode: u8,
    /// 0 none, 1 66, 2 F3, 3 F2.
    prefix: u8,
    /// Fields of ModRM, and the third operand.
    reg: usize,
    rm: usize,
    third: usize,
    /// Address and stride of a memory operand.
    memory: Option<(*mut u8, usize)>,
    len: usize,
}

impl Instruction {
    /// None if it is no VEX instruction of this map, or one whose operands tiles do not have.
    fn decode(code: &[u8], registers: &[i64; 23]) -> Option<Instruction> {
        const NUMBERED: [c_int; 16] = [
            libc::REG_RAX,
            libc::REG_RCX,
            libc::REG_RDX,
            libc::REG_RBX,
            libc::REG_RSP,
            libc::REG_RBP,
            libc::REG_RSI,
            libc::REG_RDI,
            libc::REG_R8,
            libc::REG_R9,
            libc::REG_R10,
            libc::REG_R11,
            libc::REG_R12,
            libc::REG_R13,
            libc::REG_R14,
            libc::REG_R15,
        ];
        let register = |number: u8| registers[NUMBERED[usize::from(number)] as usize] as usize;
        let &[0xC4, first, second, opcode, modrm, sib, ..] = code else { return None };
        // The bits of register numbers are inverted.
        let (index_high, base_high) = ((!first >> 6 & 1) << 3, (!first >> 5 & 1) << 3);
        if first & 0x1F != 2 || first & 0x80 == 0 || second & 0x84 != 0 {
            return None;
        }
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let mut instruction = Instruction {
            opcode,
            prefix: second & 3,
            reg: usize::from(modrm >> 3 & 7),
            rm: usize::from(rm),
            third: usize::from(!second >> 3 & 7),
            memory: None,
            len: 5,
        };
        if mode == 3 {
            return Some(instruction);
        }
        let (base, stride) = if rm == 4 {
            instruction.len += 1;
            let index = (sib >> 3 & 7) | index_high;
            ((sib & 7) | base_high, if index == 4 { 0 } else { register(index) << (sib >> 6) })
        } else {
            (rm | base_high, 0)
        };
        let at = instruction.len;
        let displacement = match mode {
            0 if base & 7 == 5 => return None,
            0 => 0,
            1 => isize::from(code[at] as i8),
            _ => i32::from_le_bytes(code[at..at + 4].try_into().ok()?) as isize,
        };
        instruction.len += [0, 1, 4][usize::from(mode)];
        instruction.memory = Some((register(base).wrapping_add_signed(displacement) as *mut u8, stride));
        Some(instruction)
    }
}

impl Unit {
    /// None if it is no instruction of this unit, or one before its configuration.
    ///
    /// # Safety
    /// The memory operand is as the instruction requires.
    unsafe fn execute(&mut self, instruction: &Instruction) -> Option<()> {
        let &Instruction { opcode, prefix, reg, rm, third, memory, .. } = instruction;
        let full = opcode == 0x49 && prefix == 0;
        if !full && !self.configured {
            return None;
        }
        // SAFETY: the caller's promise.
        unsafe {
            match (opcode, prefix, memory) {
                (0x49, 0, Some((config, _))) => self.configure(&*config.cast())?,
                (0x49, 0, None) => self.configured = false,
                (0x49, 3, None) => self.tiles[reg] = [[0; ROW_BYTES]; ROWS],
                (0x4B, 3, Some((start, stride))) => {
                    for (r, row) in self.tiles[reg].iter_mut().enumerate() {
                        *row = start.wrapping_add(r * stride).cast::<[u8; ROW_BYTES]>().read();
                    }
                }
                (0x4B, 2, Some((start, stride))) => {
                    for (r, row) in self.tiles[reg].iter().enumerate() {
                        start.wrapping_add(r * stride).cast::<[u8; ROW_BYTES]>().write(*row);
                    }
                }
                (0x5C, 2, None) => self.multiply(reg, rm, third, dot_bf16),
                (0x5E, 3, None) => self.multiply(reg, rm, third, dot_int8),
                _ => return None,
            }
        }
        Some(())
    }

    /// None unless all tiles have full size.
    fn configure(&mut self, config: &[u8; 64]) -> Option<()> {
        let sizes = config[16..32].as_chunks::<2>().0.iter().map(|size| u16::from_le_bytes(*size));
        let full = config[0] == 1
            && sizes
                .zip(&config[48..56])
                .all(|(bytes, &rows)| (usize::from(bytes), usize::from(rows)) == (ROW_BYTES, ROWS));
        *self = Unit { configured: full, tiles: [[[0; ROW_BYTES]; ROWS]; TILES] };
        full.then_some(())
    }

    /// Adds to each word of tile `sums` the products of a row of `left` with a column of `right`, whose rows are groups of words.
    fn multiply(&mut self, sums: usize, left: usize, right: usize, dot: fn([u8; 4], [u8; 4], [u8; 4]) -> [u8; 4]) {
        let (left, right) = (self.tiles[left], self.tiles[right]);
        for (row, left) in self.tiles[sums].iter_mut().zip(&left) {
            for (group, right) in left.as_chunks::<4>().0.iter().zip(&right) {
                for (sum, right) in row.as_chunks_mut::<4>().0.iter_mut().zip(right.as_chunks::<4>().0) {
                    *sum = dot(*sum, *group, *right);
                }
            }
        }
    }
}

/// `TDPBF16PS`: two products of bf16, added to an f32.
fn dot_bf16(sum: [u8; 4], left: [u8; 4], right: [u8; 4]) -> [u8; 4] {
    let number = |word: [u8; 4], i: usize| bf16::from_le_bytes([word[2 * i], word[2 * i + 1]]).to_f32();
    let product = |i: usize| number(left, i) * number(right, i);
    (f32::from_le_bytes(sum) + product(0) + product(1)).to_le_bytes()
}

/// `TDPBSSD`: four products of signed bytes, added to an integer.
fn dot_int8(sum: [u8; 4], left: [u8; 4], right: [u8; 4]) -> [u8; 4] {
    let products = left.iter().zip(right).map(|(&l, r)| i32::from(l as i8) * i32::from(r as i8));
    i32::from_le_bytes(sum).wrapping_add(products.sum()).to_le_bytes()
}
