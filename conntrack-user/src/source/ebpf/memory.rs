//! What the maps weigh, as the kernel accounts it: all of them have their size from the start.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::{Ebpf, maps::Map};

use super::maps::map_data;
use crate::file;

/// Bytes of memory that the maps of `object` take (`bpf_map_show_fdinfo`, kernel/bpf/syscall.c). None where that cannot
/// be read.
pub(super) fn of_maps(object: &Ebpf, procfs: &Path) -> Option<u64> {
    object.maps().map(|(_, map)| of_map(map, procfs)).sum()
}

fn of_map(map: &Map, procfs: &Path) -> Option<u64> {
    let descriptor = map_data(map).ok()?.fd().as_fd().as_raw_fd();
    let text =
        file::read_text(&procfs.join(format!("self/fdinfo/{descriptor}")), file::KERNEL).ok()?;
    charged(&text, matches!(map, Map::RingBuf(_)))
}

/// Kernels from 5.11 to 6.3 estimate it from keys and values, which a ring buffer has none of: that is as large as it was
/// asked to be.
pub(super) fn charged(fdinfo: &str, is_ring: bool) -> Option<u64> {
    let number = |name: &str| {
        let rest = fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        rest?.trim().parse::<u64>().ok()
    };
    let charged = number("memlock")?;
    if is_ring && charged == 0 { number("max_entries") } else { Some(charged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_without_a_charge_is_as_large_as_asked_for() {
        let fdinfo = |memlock: u64| {
            format!(
                "pos:\t0\nmap_type:\t27\nmax_entries:\t65536\nmemlock:\t{memlock}\nfrozen:\t0\n"
            )
        };
        assert_eq!(charged(&fdinfo(78_216), true), Some(78_216));
        assert_eq!(charged(&fdinfo(0), true), Some(65_536));
        assert_eq!(charged(&fdinfo(0), false), Some(0));
        assert_eq!(charged("pos:\t0\n", true), None);
    }
}
