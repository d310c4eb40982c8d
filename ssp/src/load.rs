//! `Load`: how much processor time and memory this process uses, from `/proc`.

use std::fs;
use std::time::Instant;

/// Measures the process between two calls of [`Load::measure`].
#[derive(Debug)]
pub(crate) struct Load {
    at: Instant,
    ticks: Option<u64>,
}

/// Shares of this machine, in percent; `None` where `/proc` does not say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// Processor time since the last measurement, of all processors.
    pub(crate) cpu: Option<f64>,
    /// Resident memory, of all memory.
    pub(crate) memory: Option<f64>,
}

impl Load {
    /// Begins to measure.
    pub(crate) fn new() -> Self {
        Self { at: Instant::now(), ticks: process_ticks() }
    }

    /// The usage since the last call.
    pub(crate) fn measure(&mut self) -> Usage {
        let now = Self::new();
        let before = std::mem::replace(self, now);
        let seconds = (self.at - before.at).as_secs_f64();
        let cpu = self.ticks.zip(before.ticks).filter(|_| seconds > 0.0).map(|(now, then)| {
            let used =
                now.saturating_sub(then) as f64 / rustix::param::clock_ticks_per_second() as f64;
            100.0 * used / seconds / processors()
        });
        let memory = resident_bytes().zip(memory_bytes());
        Usage { cpu, memory: memory.map(|(used, all)| 100.0 * used as f64 / all as f64) }
    }
}

/// Resident memory of this process.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Processor time of this process so far, in clock ticks.
fn process_ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may itself contain any character.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Memory of the machine, or what a container may use of it.
fn memory_bytes() -> Option<u64> {
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok());
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total: u64 = total.split_ascii_whitespace().next()?.parse().ok()?;
    Some(limit.map_or(total * 1024, |limit| limit.min(total * 1024)))
}

fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_seen_and_uses_some_memory() {
        let mut load = Load::new();
        let begun = Instant::now();
        let mut sum = 0u64;
        while begun.elapsed().as_millis() < 100 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let usage = load.measure();
        assert!(usage.cpu.is_some_and(|cpu| cpu > 0.0 && cpu <= 110.0), "{usage:?}");
        assert!(usage.memory.is_some_and(|memory| memory > 0.0 && memory < 100.0), "{usage:?}");
    }
}
