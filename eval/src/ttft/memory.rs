//! The most memory this process has held, as Linux counts it; elsewhere it is not known.

/// Restarts the count. Without effect if the kernel does not count, or refuses to restart.
pub(super) fn forget_peak() {
    // What Linux does at a 5 is "reset the peak resident set size" (proc_pid_clear_refs(5)).
    let _ = fs_err::write("/proc/self/clear_refs", "5");
}

/// The largest resident set since [`forget_peak`], in bytes.
pub(super) fn peak() -> Option<u64> {
    parse_peak(&fs_err::read_to_string("/proc/self/status").ok()?)
}

fn parse_peak(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let size = lines.find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = size.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes() {
        let status = "Name:\tragweave-eval\nVmHWM:\t  118236 kB\nVmRSS:\t   90000 kB\n";
        assert_eq!(parse_peak(status), Some(118_236 * 1024));
        assert_eq!(parse_peak("VmRSS:\t90000 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_held_and_let_go_counts_until_it_is_forgotten() {
        const HELD: u64 = 64 << 20;
        forget_peak();
        let before = peak().expect("Linux counts");
        drop(std::hint::black_box(vec![1_u8; HELD as usize]));
        let with = peak().expect("Linux counts");
        assert!(with >= before + HELD / 2, "{before} {with}");
        forget_peak();
        let after = peak().expect("Linux counts");
        assert!(after <= with - HELD / 2, "{with} {after}");
    }
}
