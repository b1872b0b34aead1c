//! Damaged files, for tests of readers.

use super::Random;

/// A deterministic mutation of `seed` in the manner of a fuzzer: flips, interesting integers, cuts, moved pieces.
pub fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    const INTERESTING: [u64; 10] =
        [0, 1, 0x7f, 0xffff, 1 << 31, u32::MAX as u64, 1 << 60, i64::MAX as u64, 1 << 63, u64::MAX];
    let mut next = |bound: usize| random.below(bound.max(1));
    let mut out = seed.to_vec();
    for _ in 0..=next(4) {
        // Most of what can go wrong is in the first kilobytes.
        let reach = if next(4) == 0 { out.len() } else { out.len().min(3000) };
        let at = next(reach);
        match next(6) {
            0 if at < out.len() => out[at] ^= 1 << next(8),
            1 if at < out.len() => out[at] = next(256) as u8,
            2 => {
                let width = [2, 4, 8][next(3)];
                let bytes = INTERESTING[next(INTERESTING.len())].to_le_bytes();
                if let Some(target) = out.get_mut(at..at + width) {
                    target.copy_from_slice(&bytes[..width]);
                }
            }
            3 => out.truncate(at),
            4 => {
                let piece = out[at..(at + next(40)).min(out.len())].to_vec();
                let to = next(reach + 1).min(out.len());
                out.splice(to..to, piece);
            }
            _ => drop(out.drain(at..(at + next(16)).min(out.len()))),
        }
    }
    out
}

/// The seeds of a fuzz target, if this is the workspace that has them.
pub fn fuzz_seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz/seeds").join(target);
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| std::fs::read(entry.ok()?.path()).ok()).collect()
}
