//! What Linux says about a process: the CPU time it has used and the memory it holds.

use std::time::Duration;

/// Linux counts CPU time in hundredths of a second, on every platform Rust knows.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process so far.
pub fn cpu_time(pid: i32) -> Duration {
    let stat = read(pid, "stat");
    // The name, in parentheses, may hold anything; the fields after it are numbers.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks: u32 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u32>().expect("CPU times are numbers"))
        .sum();
    TICK * ticks
}

/// Megabytes (of 1,000,000 bytes) in memory now.
pub fn memory_now(pid: i32) -> f64 {
    megabytes(pid, "VmRSS:")
}

/// The most megabytes in memory since the start or the last [`forget_peak`].
pub fn memory_peak(pid: i32) -> f64 {
    megabytes(pid, "VmHWM:")
}

/// Starts a new measurement of the peak.
pub fn forget_peak(pid: i32) {
    let path = format!("/proc/{pid}/clear_refs");
    std::fs::write(&path, "5").unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
}

fn megabytes(pid: i32, name: &str) -> f64 {
    let status = read(pid, "status");
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kibibytes.unwrap_or_else(|| panic!("/proc/{pid}/status has no {name}")) * 1_024.0 / 1_000_000.0
}

fn read(pid: i32, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_and_allocates_is_seen_to() {
        let pid = i32::try_from(std::process::id()).unwrap();
        forget_peak(pid);
        let (time_before, peak_before) = (cpu_time(pid), memory_peak(pid));
        let mut block = vec![0_u8; 64_000_000];
        while cpu_time(pid) < time_before + 3 * TICK {
            block.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        }
        assert!(memory_now(pid) > 64.0);
        drop(std::hint::black_box(block));
        assert!(memory_peak(pid) >= peak_before.max(64.0));
    }
}
