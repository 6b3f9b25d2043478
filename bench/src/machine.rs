//! What the kernel knows about processes and the machine, read from `/proc` (Linux).

use std::fs;
use std::time::{Duration, Instant};

/// Ticks per second of `/proc/*/stat`; 100 on every Linux that matters.
const TICKS_PER_SECOND: u64 = 100;
/// The machine is quiet when everything together uses at most this share of it.
const QUIET_SHARE: f64 = 0.04;

/// CPU time of a process, and of its children that ended and were waited for.
#[derive(Debug, Clone, Copy, Default)]
struct Ticks {
    parent: u32,
    own: u64,
    ended_children: u64,
}

fn ticks(pid: u32) -> Option<Ticks> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; fields are counted behind it, the state being the third.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Ticks {
        parent: u32::try_from(field(4)?).ok()?,
        own: field(14)? + field(15)?,
        ended_children: field(16)? + field(17)?,
    })
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// User and system time of one process; zero when it is gone. A process that ended keeps it until it is waited for.
pub fn cpu_of(pid: u32) -> Duration {
    duration(ticks(pid).unwrap_or_default().own)
}

/// CPU time of a process and its children, those that ended included; each has one thread, as Postgres' have.
pub fn cpu_of_family(parent: u32) -> Duration {
    let own = ticks(parent).unwrap_or_default();
    let running: Duration = processes()
        .filter_map(|pid| Some((pid, ticks(pid)?)))
        .filter(|(pid, process)| *pid == parent || process.parent == parent)
        .map(|(pid, process)| on_cpu(pid).unwrap_or_else(|| duration(process.own)))
        .sum();
    running + duration(own.ended_children)
}

/// Time a process of one thread was on a CPU. Ticks of a hundredth of a second are too coarse for twenty rows a second.
fn on_cpu(pid: u32) -> Option<Duration> {
    let accounts = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanoseconds = accounts.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The parent of a process.
pub fn parent_of(pid: u32) -> Option<u32> {
    Some(ticks(pid)?.parent)
}

/// The most memory a process has had resident, in bytes; `None` once it has ended.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// CPU time of everything on the machine since it started, over all cores.
pub fn cpu_of_machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guests are counted in user already.
    let busy = fields
        .iter()
        .take(8)
        .enumerate()
        .filter(|(index, _)| !matches!(index, 3 | 4));
    duration(busy.map(|(_, ticks)| ticks).sum())
}

/// Cores this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism()
        .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

/// Waits until nothing else uses the machine, at most `limit`. Returns the share of the machine in use at the end.
pub async fn wait_for_quiet(limit: Duration) -> f64 {
    let began = Instant::now();
    loop {
        let (before, since) = (cpu_of_machine(), Instant::now());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let busy = (cpu_of_machine() - before).as_secs_f64();
        let share = busy / since.elapsed().as_secs_f64() / f64::from(cores());
        if share <= QUIET_SHARE || began.elapsed() >= limit {
            return share;
        }
    }
}

/// Whether a share of the machine used by others leaves a measurement undisturbed.
pub fn is_quiet(share: f64) -> bool {
    share <= QUIET_SHARE
}
