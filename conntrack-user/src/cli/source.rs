//! Where the numbers come from: what the commands that look at the running kernel share.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};
use conntrack_user::source::{
    access::Own,
    ebpf::{self, hook::Family},
    live::{self, Choice, Selection},
    netlink,
};

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the numbers come from; auto: kernel programs where the kernel takes them, else procfs. netlink makes every
    /// new connection dearer
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    source: Choice,
    /// How kernel programs are attached; auto: by fentry where the kernel takes it, else by kprobe
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    attach: Attach,
    /// Which network namespaces: all, self, or an inode number
    #[arg(long, value_parser = parse_netns, default_value = "all")]
    netns: Selection,
    /// Room for events that wait, with --source netlink, in bytes a network namespace: 4096 to 1073741824
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(4096..=1 << 30), default_value_t = netlink::DEFAULT_RECEIVE_BYTES)]
    netlink_buffer: u32,
    #[command(flatten)]
    paths: Paths,
    #[cfg(feature = "fault-injection")]
    #[command(flatten)]
    fault: Fault,
}

#[derive(Debug, Args)]
pub(super) struct Paths {
    /// Where procfs is mounted
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    pub(super) procfs: PathBuf,
    /// Where sysfs is mounted
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    pub(super) sysfs: PathBuf,
    /// Types of the running kernel (BTF), where it has none itself [default: /sys/kernel/btf]
    #[arg(long, value_name = "FILE")]
    pub(super) btf: Option<PathBuf>,
    /// Folder whose names tell those of pods
    #[arg(long = "path.pods", value_name = "DIR", default_value = "/var/log/pods")]
    pub(super) pods: PathBuf,
}

/// What goes wrong on purpose in a build for tests.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Args)]
struct Fault {
    /// Test build: leave out the last of every N frees
    #[arg(long, value_name = "N", default_value_t = 0)]
    fault_skip_frees: u32,
    /// Test build: leave out one of N inserts by packets, at random
    #[arg(long, value_name = "N", default_value_t = 0)]
    fault_skip_inserts: u32,
    /// Test build: leave out one of N deletes, at random
    #[arg(long, value_name = "N", default_value_t = 0)]
    fault_skip_deletes: u32,
    /// Test build: claim that this hook is attached, and do not attach it
    #[arg(long, value_name = "HOOK", value_parser = parse_hook)]
    fault_without: Vec<ebpf::hook::Hook>,
    /// Test build: take the function that this hook is best attached to as inlined
    #[arg(long, value_name = "HOOK", value_parser = parse_hook)]
    fault_inlined: Vec<ebpf::hook::Hook>,
    /// Test build: tell only N namespaces apart
    #[arg(long, value_name = "N", default_value_t = 0)]
    fault_max_netns: u32,
    /// Test build: attach also hooks that tell what this kernel tells by itself
    #[arg(long)]
    fault_all_hooks: bool,
}

#[derive(Debug, Args)]
pub(super) struct Ring {
    /// Size of the ring buffers together: a power of two, at least 4096 bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_ring, default_value_t = ebpf::DEFAULT_RING_BYTES)]
    ring_size: u32,
    /// How many ring buffers the CPUs share: 1, 2, 4 or 8 [default: one for 16 CPUs]
    #[arg(long, value_name = "N", value_parser = parse_rings)]
    rings: Option<u32>,
}

/// How kernel programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attach {
    /// By fentry where the kernel takes it, else by kprobe
    Auto,
    /// On functions whose type the kernel knows (BTF)
    Fentry,
    /// On functions found by name; cannot tell why an insert failed
    Kprobe,
}

impl Common {
    pub(super) fn options(&self, ring: &Ring, events: bool, debug_log: bool) -> live::Options {
        #[cfg(feature = "fault-injection")]
        let fault = ebpf::Fault {
            skip_frees: self.fault.fault_skip_frees,
            skip_inserts: self.fault.fault_skip_inserts,
            skip_deletes: self.fault.fault_skip_deletes,
            without: self.fault.fault_without.clone(),
            inlined: self.fault.fault_inlined.clone(),
            max_netns: self.fault.fault_max_netns,
            all_hooks: self.fault.fault_all_hooks,
        };
        #[cfg(not(feature = "fault-injection"))]
        let fault = ebpf::Fault::default();
        live::Options {
            choice: self.source,
            selection: self.netns,
            idle_too: false,
            probe_stats: false,
            procfs: self.paths.procfs.clone(),
            pods: self.paths.pods.clone(),
            netlink: netlink::Options { receive_bytes: self.netlink_buffer, events },
            access: Arc::new(Own::new(self.paths.procfs.clone())),
            ebpf: ebpf::Options {
                procfs: self.paths.procfs.clone(),
                family: match self.attach {
                    Attach::Auto => None,
                    Attach::Fentry => Some(Family::Tracing),
                    Attach::Kprobe => Some(Family::Kprobe),
                },
                sysfs: self.paths.sysfs.clone(),
                btf: self.paths.btf.clone(),
                ring_bytes: ring.ring_size,
                rings: ring.rings,
                events,
                debug_log,
                pins: None,
                fault,
            },
        }
    }

    /// Inode of the network namespace that `--netns` selects, or of the one that ctmon is in where it selects all.
    pub(crate) fn unnamed_netns(&self) -> Option<u64> {
        match self.netns {
            Selection::Inode(inode) => Some(inode),
            Selection::All | Selection::Own => {
                let own = self.paths.procfs.join("self/ns/net");
                std::fs::metadata(own).ok().map(|about| about.ino())
            }
        }
    }

    pub(crate) fn procfs(&self) -> &Path {
        &self.paths.procfs
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self { ring_size: ebpf::DEFAULT_RING_BYTES, rings: None }
    }
}

fn parse_netns(text: &str) -> Result<Selection, String> {
    match text {
        "all" => Ok(Selection::All),
        "self" => Ok(Selection::Own),
        number => number.parse().map(Selection::Inode).map_err(|_| {
            "it must be all, self, or an inode number as in `ls -Li /proc/self/ns/net`".into()
        }),
    }
}

fn parse_ring(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(bytes) if bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("it must be a power of two between 4096 and 1073741824".into()),
    }
}

fn parse_rings(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(rings) if rings.is_power_of_two() && rings as usize <= conntrack_ebpf::RINGS => {
            Ok(rings)
        }
        _ => Err("it must be 1, 2, 4 or 8".into()),
    }
}

#[cfg(feature = "fault-injection")]
fn parse_hook(text: &str) -> Result<ebpf::hook::Hook, String> {
    let all = ebpf::hook::Hook::ALL;
    all.into_iter()
        .find(|hook| hook.name() == text)
        .ok_or_else(|| format!("the hooks are {}", all.map(ebpf::hook::Hook::name).join(", ")))
}
