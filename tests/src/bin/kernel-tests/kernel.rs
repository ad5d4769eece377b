//! The kernel's own numbers, read without ctmon, and the limits that it lets root change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;

use crate::netns::{Netns, write};

const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
const BUCKETS: &str = "/sys/module/nf_conntrack/parameters/hashsize";
/// Of the calling thread; `/proc/net` is that of the process.
const STAT: &str = "/proc/thread-self/net/stat/nf_conntrack";

/// `uname -r`
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether network namespaces have no cookie for everybody: 5.14 is the first in which they do.
pub(crate) fn lacks_cookies() -> bool {
    is_before((5, 14))
}

/// Whether the kernel is older than that.
pub(crate) fn is_before(version: (u32, u32)) -> bool {
    let release = release();
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    numbers.next().zip(numbers.next()).is_some_and(|own| own < version)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// The number in a file.
///
/// # Errors
/// When there is none.
pub(crate) fn number(path: &str) -> Result<i64> {
    let text = read(path)?;
    text.trim().parse().with_context(|| format!("{path} holds {text:?}"))
}

/// Entries of the calling thread's network namespace.
pub(crate) fn count() -> Result<i64> {
    number(COUNT)
}

/// `nf_conntrack_max`
pub(crate) fn max() -> Result<i64> {
    number(MAX)
}

/// Buckets of the hash table.
pub(crate) fn buckets() -> Result<i64> {
    number(BUCKETS)
}

/// Counters of the calling thread's network namespace, summed over the CPUs. `entries` is not one:
/// each row repeats it.
pub(crate) fn stat() -> Result<BTreeMap<String, i64>> {
    parse_stat(&read(STAT)?).with_context(|| format!("{STAT} is not understood"))
}

fn parse_stat(text: &str) -> Result<BTreeMap<String, i64>> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut sums = BTreeMap::new();
    for line in lines {
        for (name, digits) in names.iter().zip(line.split_whitespace()) {
            let value =
                i64::from_str_radix(digits, 16).with_context(|| format!("{name} is {digits:?}"))?;
            *sums.entry((*name).to_owned()).or_insert(0) += value;
        }
    }
    Ok(sums)
}

/// Names of the loaded BPF programs that are ctmon's.
pub(crate) fn ctmon_programs() -> Result<BTreeSet<String>> {
    Ok(ctmon_programs_by_id()?.into_values().collect())
}

/// The same by their numbers, which no two programs have.
pub(crate) fn ctmon_programs_by_id() -> Result<BTreeMap<u32, String>> {
    let mut names = BTreeMap::new();
    for program in loaded_programs() {
        let program = match program {
            Ok(program) => program,
            // One that was unloaded between the listing and the look at it.
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error).context("cannot list the loaded BPF programs"),
        };
        let name = program.name_as_str().filter(|name| name.starts_with("ctmon_"));
        names.extend(name.map(|name| (program.id(), name.to_owned())));
    }
    Ok(names)
}

fn is_gone(error: &aya::programs::ProgramError) -> bool {
    let mut error: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = error {
        if inner
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            return true;
        }
        error = inner.source();
    }
    false
}

/// Names of the loaded modules, with the modules that use each.
pub(crate) fn modules() -> Result<BTreeMap<String, Vec<String>>> {
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let users = words.nth(2)?.split(',').filter(|user| !user.is_empty() && *user != "-");
        Some((name, users.map(str::to_owned).collect()))
    };
    Ok(read("/proc/modules")?.lines().filter_map(parse).collect())
}

/// A limit of all namespaces, put back when this is dropped.
#[derive(Debug)]
pub(crate) struct Limit<'a> {
    init: &'a Netns,
    path: &'static str,
    before: i64,
}

impl<'a> Limit<'a> {
    /// `nf_conntrack_max`; writable in the initial namespace only.
    pub(crate) fn max(init: &'a Netns, value: i64) -> Result<Self> {
        Self::set(init, MAX, value)
    }

    /// Buckets of the hash table.
    pub(crate) fn buckets(init: &'a Netns, value: i64) -> Result<Self> {
        Self::set(init, BUCKETS, value)
    }

    fn set(init: &'a Netns, path: &'static str, value: i64) -> Result<Self> {
        let before = number(path)?;
        let limit = Self { init, path, before };
        limit.change(value)?;
        Ok(limit)
    }

    /// Another value, until this is dropped.
    pub(crate) fn change(&self, value: i64) -> Result<()> {
        self.init.run(|| write(self.path, &value.to_string()))
    }
}

impl Drop for Limit<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.change(self.before) {
            eprintln!("kernel-tests: later tests run with a limit that is not theirs: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_summed_over_cpus() {
        let text = "entries  clashres found drop early_drop\n\
                    00000003  00000000 00000000 0000000a 00000001\n\
                    00000003  00000001 00000000 00000010 00000002\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat["drop"], stat["early_drop"], stat["clashres"]), (26, 3, 1));
        assert!(parse_stat("drop\nxyz\n").is_err());
    }

    #[test]
    fn this_kernel_has_a_release() {
        assert!(release().starts_with(|c: char| c.is_ascii_digit()));
    }
}
