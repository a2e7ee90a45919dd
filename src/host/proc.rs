//! Texts of /proc, proc(5).

/// What the kernel counts processor time in: USER_HZ is 100 on every Linux (clock_tick(7)).
const TICK_US: u64 = 10_000;

/// Processor time, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All of it.
    pub total_us: u64,
    /// In which nothing ran, waiting for disks included.
    pub idle_us: u64,
}

/// Memory, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What could be had without swapping.
    pub available: u64,
    /// Swap space.
    pub swap_total: u64,
    /// Swap space that is free.
    pub swap_free: u64,
}

/// What went over a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

pub(super) fn cpu(stat: &str) -> Option<Cpu> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; what guests use is in `user` already.
    let numbers: Vec<u64> =
        line.split_whitespace().take(8).map_while(|number| number.parse().ok()).collect();
    let idle = numbers.get(3)? + numbers.get(4).copied().unwrap_or(0);
    Some(Cpu { total_us: numbers.iter().sum::<u64>() * TICK_US, idle_us: idle * TICK_US })
}

pub(super) fn cpus(stat: &str) -> u32 {
    let is_one = |line: &&str| {
        let rest = line.strip_prefix("cpu").unwrap_or_default();
        rest.starts_with(|c: char| c.is_ascii_digit())
    };
    u32::try_from(stat.lines().filter(is_one).count()).unwrap_or(u32::MAX)
}

pub(super) fn memory(meminfo: &str) -> Memory {
    let field = |name: &str| kibibytes(meminfo, name).unwrap_or(0);
    Memory {
        total: field("MemTotal:"),
        available: field("MemAvailable:"),
        swap_total: field("SwapTotal:"),
        swap_free: field("SwapFree:"),
    }
}

pub(super) fn proportional(rollup: &str) -> Option<u64> {
    kibibytes(rollup, "Pss:")
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

pub(super) fn load(loadavg: &str) -> [f64; 3] {
    let mut numbers = loadavg.split_whitespace().map(|number| number.parse().unwrap_or(0.0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0.0))
}

pub(super) fn first_number(text: &str) -> u64 {
    text.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

pub(super) fn traffic(dev: &str) -> Vec<(String, Traffic)> {
    let link = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
        let traffic = Traffic { received: *numbers.first()?, sent: *numbers.get(8)? };
        Some((name.trim().to_owned(), traffic))
    };
    dev.lines().filter_map(link).collect()
}

pub(super) fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_counts_waiting_for_disks_as_idle() {
        let stat = "cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 1 2\ncpu1 1 2\nintr 5\n";
        let cpu = cpu(stat).unwrap();
        assert_eq!((cpu.total_us, cpu.idle_us), (10_000_000, 8_500_000));
        assert_eq!(cpus(stat), 2);
        assert_eq!(super::cpu("nonsense"), None);
    }

    #[test]
    fn links_are_told_apart() {
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n\
                   st-abc:9999 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n";
        let traffic = traffic(dev);
        assert_eq!(traffic.len(), 2);
        assert_eq!(traffic[1], ("st-abc".into(), Traffic { received: 9999, sent: 5 }));
    }

    #[test]
    fn memory_is_in_bytes() {
        let memory = memory("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 10 kB\n");
        assert_eq!((memory.total, memory.available, memory.swap_total), (1_024_000, 10_240, 0));
        assert_eq!(proportional("Rss: 5 kB\nPss:   3 kB\n"), Some(3072));
    }

    #[test]
    fn names_and_loads_are_read() {
        assert_eq!(load("0.50 1.25 2.00 1/99 7"), [0.5, 1.25, 2.0]);
        assert_eq!(first_number("123.45 67.8"), 123);
        let system = pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n");
        assert_eq!(system.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
    }
}
