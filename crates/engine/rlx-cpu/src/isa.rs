//! Which instruction sets the kernels use: detected once, or forced for tests.

use std::fmt;
use std::str::FromStr;

/// An instruction-set level that kernels are written for. Each level includes the ones below it on its architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust, on every machine: the reference for all others.
    Scalar,
    /// AArch64 Advanced SIMD with the dot-product instructions.
    Neon,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI (Ice Lake, Zen 4 and later; earlier AVX-512 machines run the AVX2 kernels).
    Avx512,
    /// AVX-512 plus the AMX tile unit for bf16 and int8 (Sapphire Rapids and later).
    Amx,
}

/// A level that this machine, or this build, cannot run.
#[derive(Debug, thiserror::Error)]
pub enum IsaError {
    /// The processor or the operating system lacks it.
    #[error("this machine cannot run `{wanted}` kernels; it can run: {available}")]
    Unavailable {
        /// The level asked for.
        wanted: Isa,
        /// What could be asked for instead.
        available: String,
    },
    /// No level has this name.
    #[error("unknown instruction set `{0}` (known: scalar, neon, avx2, avx512, amx, auto)")]
    Unknown(String),
}

impl Isa {
    const ALL: [Isa; 5] = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The best level this machine can run; an emulated one (feature `emulate-amx`) must be asked for.
    pub fn detect() -> Isa {
        Isa::available().into_iter().rfind(|isa| !isa.is_emulated()).expect("scalar is always available")
    }

    /// Whether this level's instructions are done in software.
    fn is_emulated(self) -> bool {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        return self == Isa::Amx && !amx::is_real();
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        return false;
    }

    /// All levels this machine can run, lowest first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this machine can run kernels of this level.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("dotprod"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                    && is_x86_feature_detected!("bmi2")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => Isa::Avx512.is_available() && amx::permitted(),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// This level if the machine has it, an error naming the alternatives if not.
    pub fn require(self) -> Result<Isa, IsaError> {
        if self.is_available() {
            return Ok(self);
        }
        let available = Isa::available().iter().map(Isa::to_string).collect::<Vec<_>>().join(", ");
        Err(IsaError::Unavailable { wanted: self, available })
    }

    /// Parses `auto` (the best level) or a level's name, and checks that the machine has it.
    pub fn from_option(name: &str) -> Result<Isa, IsaError> {
        if name == "auto" { Ok(Isa::detect()) } else { name.parse::<Isa>()?.require() }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        })
    }
}

impl FromStr for Isa {
    type Err = IsaError;
    fn from_str(name: &str) -> Result<Isa, IsaError> {
        Isa::ALL.into_iter().find(|isa| isa.to_string() == name).ok_or_else(|| IsaError::Unknown(name.to_string()))
    }
}

/// Whether the processor is one of AMD's: its caches want other distances of prefetching.
pub(crate) fn is_amd() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        static AMD: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
            let leaf = std::arch::x86_64::__cpuid(0);
            [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
        });
        *AMD
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::x86_64::__cpuid_count;
    use std::sync::OnceLock;

    /// Whether the processor has AMX tiles, bf16 and int8, and the kernel lets this process use them.
    pub(super) fn permitted() -> bool {
        static PERMITTED: OnceLock<bool> = OnceLock::new();
        *PERMITTED.get_or_init(|| if is_real() { request_tile_data() } else { emulated() })
    }

    #[cfg(feature = "emulate-amx")]
    fn emulated() -> bool {
        crate::amx_emulator::install()
    }

    #[cfg(not(feature = "emulate-amx"))]
    fn emulated() -> bool {
        false
    }

    /// Whether the processor itself has it.
    pub(super) fn is_real() -> bool {
        // CPUID leaf 7, EDX: bit 22 amx-bf16, bit 24 amx-tile, bit 25 amx-int8.
        let edx = __cpuid_count(7, 0).edx;
        [22, 24, 25].iter().all(|bit| edx & (1 << bit) != 0)
    }

    fn request_tile_data() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        // SAFETY: arch_prctl with this code takes plain integers and only changes this process's permission mask.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse::<Isa>().unwrap(), isa);
        }
        assert!("sse9".parse::<Isa>().is_err());
        assert!(Isa::detect().require().is_ok());
    }
}
