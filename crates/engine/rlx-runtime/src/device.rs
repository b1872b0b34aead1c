//! Where a model runs.

use std::fmt;
use std::str::FromStr;

/// A device that this build can run models on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
}

/// Why a device name is no device here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A device of the plan that this build has no backend for.
    #[error("device `{0}` is not built into this binary (built in: cpu)")]
    NotBuilt(String),
    /// No device has this name.
    #[error(
        "unknown device `{0}` (known: cpu, metal, mps, mlx, cuda, rocm, hip, gpu, wgpu, vulkan, auto; built in: cpu)"
    )]
    Unknown(String),
}

impl Device {
    /// Every device this build can use.
    pub fn built_in() -> &'static [Device] {
        &[Device::Cpu]
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("cpu")
    }
}

impl FromStr for Device {
    type Err = DeviceError;
    fn from_str(name: &str) -> Result<Device, DeviceError> {
        match name.to_ascii_lowercase().as_str() {
            "cpu" | "auto" => Ok(Device::Cpu),
            "metal" | "mps" | "mlx" | "cuda" | "rocm" | "hip" | "gpu" | "wgpu" | "vulkan" => {
                Err(DeviceError::NotBuilt(name.to_string()))
            }
            _ => Err(DeviceError::Unknown(name.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        assert_eq!("auto".parse(), Ok(Device::Cpu));
        assert!("cuda".parse::<Device>().unwrap_err().to_string().contains("not built"));
        assert!("abacus".parse::<Device>().unwrap_err().to_string().contains("unknown device"));
    }
}
