//! What the measurement ran on.

use std::fs::read_to_string;

/// Processor, cores, memory, kernel, and how busy all that was before the measurement.
pub fn description() -> String {
    let processors = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&processors, "model name").unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let gibibytes = field(&memory, "MemTotal")
        .and_then(|total| total.trim_end_matches("kB").trim().parse::<f64>().ok())
        .map_or(f64::NAN, |kibibytes| kibibytes / 1_048_576.0);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("unknown");
    format!(
        "{model}, {cores} cores, {gibibytes:.0} GiB, Linux {}; load average before the start: {load}",
        kernel.trim()
    )
}

/// The value of the first `name : value` line.
fn field<'text>(text: &'text str, name: &str) -> Option<&'text str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}
