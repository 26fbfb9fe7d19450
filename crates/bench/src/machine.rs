//! The machine that figures are of.

use serde::Serialize;
use signvote_kernels::Isa;

/// What figures depend on besides the program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    /// The processor's name, as the system has it.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The instruction set in use.
    pub isa: String,
    /// Why that one.
    pub isa_reason: String,
    /// Bytes read and written by a plain copy of memory, in gigabytes a second; `None` until it is measured.
    pub copy_gb_per_s: Option<f64>,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            cpu: cpu(&text).unwrap_or_else(|| format!("a CPU of {}", std::env::consts::ARCH)),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            isa: Isa::active().name().to_owned(),
            isa_reason: Isa::reason().to_owned(),
            copy_gb_per_s: None,
        }
    }
}

/// The processor's name in the text of `/proc/cpuinfo`.
fn cpu(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Memory that could be had without swapping; `None` where the system does not say.
pub fn available_bytes() -> Option<u64> {
    meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// A row of the text of `/proc/meminfo`, such as `MemAvailable:`, in bytes.
pub(crate) fn meminfo(text: &str, row: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(row))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_and_the_memory_are_found_where_linux_names_them() {
        let text = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: A CPU: fast\nstepping: 1\n";
        assert_eq!(cpu(text).as_deref(), Some("A CPU: fast"));
        assert_eq!(cpu("Processor : 0\n"), None);
        assert_eq!(meminfo("MemTotal: 9 kB\nMemAvailable:   24 kB\n", "MemAvailable:"), Some(24 * 1024));
        assert_eq!(meminfo("MemTotal: 9 kB\n", "MemAvailable:"), None);
    }
}
