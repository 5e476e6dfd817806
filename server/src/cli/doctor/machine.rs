//! Processor, memory and device.

use ragweave_engine::Isa;

use super::finding::Finding;
use crate::config::Config;
use crate::device::Device;

/// Vector instructions the CPU kernels use, with the limit that the configuration sets.
pub(super) fn processor(limit: Option<Isa>) -> Finding {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let by_setting = limit.map_or(String::new(), |isa| format!(" (isa = {isa})"));
    let warn = |text| Finding::warn("cpu", format!("{n_threads} threads, {text}{by_setting}"));
    match Isa::best_within(limit) {
        Isa::Avx512 => Finding::ok("cpu", format!("{n_threads} threads, AVX-512")),
        Isa::Avx2 => warn("AVX2 without AVX-512: about half the prefill speed"),
        Isa::Plain => warn("neither AVX2 nor AVX-512: prefill will be slow"),
    }
}

/// Available memory, if the system reports it.
pub(super) fn memory() -> Option<Finding> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let gib = available_kib(&text)? as f64 / f64::from(1 << 20);
    let said = format!("{gib:.1} GiB available");
    Some(if gib < 1.0 {
        Finding::warn(
            "memory",
            format!("{said}; a model needs about its weights plus 1 GiB"),
        )
    } else {
        Finding::ok("memory", said)
    })
}

/// Whether the memory tier may grow beyond the available memory.
pub(super) fn memory_tier(config: &Config) -> Option<Finding> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let available = available_kib(&text)?.saturating_mul(1024);
    let budget = config.store.memory_bytes;
    (budget > available).then(|| {
        let text = format!(
            "store.memory_bytes is {budget}, and {available} bytes are available: lower it, or the machine may swap"
        );
        Finding::warn("memory", text)
    })
}

fn available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Whether this build can use the configured device.
pub(super) fn device(config: &Config) -> Finding {
    let device = config.device;
    let feature = match device {
        Device::Cpu => return Finding::ok("device", "cpu"),
        Device::Cuda(_) if cfg!(feature = "cuda") => {
            return Finding::ok("device", device.to_string());
        }
        Device::Vulkan(_) if cfg!(feature = "vulkan") => {
            return Finding::ok("device", device.to_string());
        }
        Device::Cuda(_) => "cuda",
        Device::Vulkan(_) => "vulkan",
    };
    Finding::fail(
        "device",
        format!("{device} needs a build with --features {feature}; or use --device cpu"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_meminfo() {
        let text = "MemTotal:       24599052 kB\nMemAvailable:   20971520 kB\nSwapFree: 0 kB\n";
        assert_eq!(available_kib(text), Some(20_971_520));
        assert_eq!(available_kib("MemTotal: 1 kB"), None);
    }
}
