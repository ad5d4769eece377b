//! What this process costs, as /proc/self says.

use std::{fs, io, path::Path};

use crate::file;

/// What a process costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// Seconds of CPU time, of all its threads, in the kernel and outside; in steps of 10 ms.
    pub cpu_seconds: f64,
    /// Bytes of memory that are resident.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub descriptors: u64,
}

/// Clock ticks a second in /proc/PID/stat: `USER_HZ`, which is 100 wherever ctmon runs.
const TICKS: f64 = 100.0;

impl Process {
    /// Of the process whose folder in procfs this is.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let malformed = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let stat = file::read_text(&folder.join("stat"), file::KERNEL)?;
        let status = file::read_text(&folder.join("status"), file::KERNEL)?;
        Ok(Self {
            cpu_seconds: cpu_seconds(&stat).ok_or_else(|| malformed("stat"))?,
            resident_bytes: resident_bytes(&status).ok_or_else(|| malformed("status"))?,
            descriptors: fs::read_dir(folder.join("fd"))?.count() as u64,
        })
    }
}

/// `utime` and `stime`, the 14th and the 15th field; the second is a name in parentheses that may hold anything.
pub(crate) fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok().map(|ticks| ticks as f64);
    Some((ticks()? + ticks()?) / TICKS)
}

pub(crate) fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_is_told() {
        let own = Process::read(Path::new("/proc/self")).unwrap();
        assert!(own.resident_bytes > 100_000 && own.descriptors >= 3, "{own:?}");
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
        let largest = format!("7 (a) S 1 2 3 4 5 6 7 8 9 10 {0} {0} 0", u64::MAX);
        assert!(cpu_seconds(&largest).is_some_and(|seconds| seconds > 1e17));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
