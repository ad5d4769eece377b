//! What else has to do with connection tracking.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{Roots, file, modules::Module, settings};
use crate::doctor::{
    facts::{Fact, Surroundings},
    setters::SETTERS,
};

/// Programs that keep tables of their own, or listen; besides those that set the size of the table.
const PROGRAMS: [&str; 4] = ["calico-node", "cilium-agent", "conntrack", "conntrackd"];
/// What names of modules that matter begin with.
const MODULES: [&str; 8] =
    ["nf_", "nft_", "xt_", "ip_vs", "iptable_", "ip6table_", "act_ct", "openvswitch"];

/// Netlink's protocol NETFILTER (include/uapi/linux/netlink.h).
const NETLINK_NETFILTER: &str = "12";
/// The groups of new, changed and destroyed entries: `NFNLGRP_CONNTRACK_*`
/// (include/uapi/linux/netfilter/nfnetlink_compat.h).
const CONNTRACK_GROUPS: u32 = 0b111;

pub(super) fn read(roots: &Roots, loaded: Fact<BTreeMap<String, Module>>) -> Surroundings {
    let matters = |name: &String| MODULES.iter().any(|prefix| name.starts_with(prefix));
    let references = |module: Module| module.references.saturating_sub(module.users.len() as u32);
    let links = roots.sysfs.join("class/net");
    Surroundings {
        modules: loaded.map(|modules| {
            let ours = modules.into_iter().filter(|(name, _)| matters(name));
            ours.map(|(name, module)| (name, references(module))).collect()
        }),
        listeners: file::text(&roots.procfs.join("self/net/netlink")).and_then(|t| listeners(&t)),
        settings: settings::read(roots),
        programs: programs(&roots.procfs).map(|running| {
            let setters = SETTERS.iter().map(|setter| setter.name);
            let found = PROGRAMS.into_iter().chain(setters).filter(|name| running.contains(*name));
            found.map(str::to_owned).collect()
        }),
        cilium_signs: cilium_signs(roots),
        kube_ipvs: match std::fs::metadata(&links) {
            Ok(_) => Fact::Known(links.join("kube-ipvs0").exists()),
            Err(error) => Fact::Unavailable(file::why(&links, &error)),
        },
    }
}

/// Names of the programs that run.
fn programs(procfs: &Path) -> Fact<BTreeSet<String>> {
    let own = procfs.join("self/comm");
    if let Err(error) = std::fs::metadata(&own) {
        return Fact::Unavailable(file::why(&own, &error));
    }
    let is_process = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let processes = file::names(procfs).into_iter().filter(is_process);
    let comm = |process| file::text(&procfs.join(process).join("comm")).known().cloned();
    Fact::Known(processes.filter_map(comm).collect())
}

/// Sockets in /proc/net/netlink that receive events of entries: address, protocol, port id, groups.
pub(super) fn listeners(text: &str) -> Fact<u32> {
    let mut lines = text.lines();
    if lines.next().and_then(|line| line.split_whitespace().nth(3)) != Some("Groups") {
        return Fact::Unavailable("/proc/net/netlink is not understood".into());
    }
    let listens = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let groups = words.get(3).and_then(|word| u32::from_str_radix(word, 16).ok());
        // The kernel's own socket has port id 0.
        words.get(1) == Some(&NETLINK_NETFILTER)
            && words.get(2) != Some(&"0")
            && groups.is_some_and(|groups| groups & CONNTRACK_GROUPS != 0)
    };
    Fact::Known(lines.filter(listens).count() as u32)
}

/// Its interfaces, which are in the node's network namespace, and its maps, which root can see.
fn cilium_signs(roots: &Roots) -> Vec<String> {
    let links = ["cilium_host", "cilium_net"];
    let links = links.iter().filter(|link| roots.sysfs.join("class/net").join(link).exists());
    let maps = file::names(&roots.sysfs.join("fs/bpf/tc/globals"));
    let map = maps.iter().find(|name| name.starts_with("cilium_"));
    let maps = map.map(|_| "its maps below /sys/fs/bpf".to_owned());
    links.map(|link| format!("the interface {link}")).chain(maps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_sockets_with_a_group_of_entries() {
        let heading =
            "sk               Eth Pid        Groups   Rmem     Wmem  Dump  Locks  Drops Inode\n";
        let rows = "0 0   0    00000000 0 0 0 2 0 4\n\
                    1 12  0    00000007 0 0 0 2 0 5\n\
                    2 12  977  00000007 0 0 0 2 0 6\n\
                    3 12  978  00000004 0 0 0 2 0 7\n\
                    4 12  979  00000008 0 0 0 2 0 8\n\
                    5 15  980  00000001 0 0 0 2 0 9\n";
        assert_eq!(listeners(&format!("{heading}{rows}")), Fact::Known(2));
        assert_eq!(listeners(heading), Fact::Known(0));
        assert!(listeners("nonsense\n").unavailable().is_some());
    }
}
