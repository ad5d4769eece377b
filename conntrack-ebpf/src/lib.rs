//! What the kernel programs and user space agree on: the layout of every map value, of the
//! read-only configuration and of the records in the ring buffer.
//!
//! All fields are plain integers in the byte order of the machine unless a field says otherwise.
//! User space turns them into enums with `TryFrom`; nothing here is trusted to be in range.

#![no_std]

use core::mem::size_of;

#[cfg(feature = "bench")]
#[path = "fake.rs"]
pub mod bench;
mod flow;

pub use flow::*;

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Network namespaces counted apart at the same time. Slot 0 is not one of them: see
/// [`OVERFLOW_SLOT`].
pub const MAX_NETNS: u32 = 4096;

/// The slot in which namespaces beyond [`MAX_NETNS`] are counted together.
pub const OVERFLOW_SLOT: u32 = 0;

/// Slots: the namespaces and the overflow slot.
pub const SLOTS: u32 = MAX_NETNS + 1;

/// Slots whose activity is told together: see [`Activity`].
pub const GROUP: u32 = 64;

/// Groups of slots.
pub const GROUPS: usize = SLOTS.div_ceil(GROUP) as usize;

/// Blocks of [`Counters`] on a machine with `cpus` possible CPUs. A namespace takes one for each CPU
/// that ever ran its packets, and gives them back when it ends. The first `cpus` blocks belong to the
/// overflow slot.
#[must_use]
pub const fn blocks(cpus: u32) -> u32 {
    let every_one = SLOTS * cpus;
    let enough = if cpus > 64 { 256 * cpus } else { 16_384 };
    if every_one < enough { every_one } else { enough }
}

/// Ring buffers for events that the programs know; as many as `Config::rings` are used.
pub const RINGS: usize = 8;

/// Windows kept of each namespace and CPU: what user space has not read when as many more have begun is
/// gone.
pub const WINDOWS: usize = 64;

/// Namespaces whose inserts and deletes are also counted by windows, on a machine with `cpus` possible
/// CPUs: 4 MiB of them at the most, up to 256 CPUs.
#[must_use]
pub const fn window_slots(cpus: u32) -> u32 {
    let slots = 4096 / cpus;
    if slots > 64 {
        64
    } else if slots < 16 {
        16
    } else {
        slots
    }
}

/// Bytes in which user space keeps what it knows of the programs: see the map `FACTS`.
pub const FACTS_BYTES: usize = 16_384;

/// Live entries that are read again each second, at the most.
pub const REREADS: u32 = 256;

/// Live entries that one call reads again. Before a program is loaded the kernel follows each turn of its loop
/// (`do_check`, kernel/bpf/verifier.c): with 256 that was two thirds of the time in which ctmon starts.
pub const REREADS_A_CALL: u32 = 32;

/// Network namespaces that one call of the program which lists them tells: as few for the same reason.
pub const LISTED_NETNS: u32 = 32;

/// An offset in [`Config`] whose member the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Copies of each program that runs where it can be interrupted or pre-empted, at the most: see
/// [`Config::copies`]. What is missed is missed by all of them at once.
pub const COPIES: usize = 3;

/// Kinds of protocols that are counted apart.
pub const PROTOCOLS: usize = 4;
/// TCP
pub const TCP: usize = 0;
/// UDP
pub const UDP: usize = 1;
/// ICMP and `ICMPv6`
pub const ICMP: usize = 2;
/// All other protocols
pub const OTHER: usize = 3;

/// Kinds of status, of which an entry has one when it is deleted.
pub const STATUSES: usize = 4;
/// No answer was seen.
pub const UNREPLIED: usize = 0;
/// Packets were seen in both directions.
pub const REPLIED: usize = 1;
/// Worth keeping: never evicted early.
pub const ASSURED: usize = 2;
/// Handled by a flow table: its packets pass by connection tracking.
pub const OFFLOADED: usize = 3;

/// What one CPU has counted in one namespace since the programs were attached.
///
/// Where no other writer is named, each number has one: a program, or a copy of it, which never runs
/// inside itself on the same CPU (`__bpf_prog_enter_recur`, kernel/bpf/trampoline.c), so a plain
/// increment loses nothing. Numbers of rare things are written by several and added to atomically.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, Immutable, IntoBytes))]
pub struct Counters {
    /// Entries allocated: `__nf_conntrack_alloc` returned one. By copy. With a kprobe, which cannot
    /// tell: its calls.
    pub allocs: [u64; COPIES],
    /// Entries freed, hashed before or not: `nf_conntrack_free`. By copy.
    pub frees: [u64; COPIES],
    /// Entries freed that had never been hashed; part of `frees`. By copy.
    pub frees_unhashed: [u64; COPIES],
    /// Entries hashed by a packet, by protocol: `__nf_conntrack_insert_prepare`.
    pub inserts_packet: [u64; PROTOCOLS],
    /// Entries taken out of the hash, by status and protocol: `__nf_ct_delete_from_lists`.
    pub deletes: [[u64; PROTOCOLS]; STATUSES],
    /// Those that a user asked for; part of `deletes`, as the next two.
    pub deletes_user: u64,
    /// Those because the namespace ended.
    pub deletes_netns_exit: u64,
    /// Those inside `early_drop`, which made room for a new entry.
    pub early_drops: u64,
    /// Entries hashed through ctnetlink or a BPF kfunc, by protocol:
    /// `nf_conntrack_hash_check_insert`. Atomic.
    pub inserts_ctnetlink: [u64; PROTOCOLS],
    /// Allocations refused: table full and nothing to evict, or no memory. Atomic.
    pub allocs_failed: u64,
    /// `early_drop` found nothing to evict: the packet is dropped because the table is full. With a
    /// kprobe, which cannot tell: its calls. Atomic.
    pub table_full_drops: u64,
    /// Calls of `early_drop` in which something was evicted; with a kprobe only.
    pub full_evicted: u64,
    /// Entries that found another with their tuple in the hash: `nf_ct_resolve_clash`.
    pub clashes: u64,
    /// Those that were merged into the other one, or hashed beside it.
    pub clashes_resolved: u64,
    /// New entries whose packet `__nf_conntrack_confirm` dropped, unresolved clashes among them.
    pub confirm_dropped: u64,
    /// Those that were dying already.
    pub confirm_dying: u64,
    /// Events that found the ring full. Atomic.
    pub events_lost: u64,
    /// Events of entries that are not in the sample: of inserts by a packet, of inserts through ctnetlink
    /// (atomic), of destroys.
    pub events_sampled_out: [u64; 3],
    /// Frees left out on purpose: see [`Config::fault_skip_frees`].
    #[cfg(feature = "fault-injection")]
    pub fault_frees_skipped: u64,
    /// Zero.
    pub reserved: [u64; if cfg!(feature = "fault-injection") { 0 } else { 1 }],
}

const _: () = assert!(size_of::<Counters>() == 384, "Counters is six cache lines");

/// Which namespace a slot belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct Netns {
    /// `net->net_cookie`: unique while the machine is up. Where that is made on demand only (5.10),
    /// the address of `struct net`: unique while the namespace is there. 0: the slot is free.
    pub cookie: u64,
    /// `net->ns.inum`: what `/proc/PID/ns/net` shows. Reused as soon as the namespace is gone.
    pub inode: u32,
    /// 1: the namespace has ended, and nothing will be counted in it any more.
    pub ended: u8,
    /// 1: the blocks ran out, and some of it was counted in the overflow slot.
    pub spilled: u8,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<Netns>() == 16);

/// Where one CPU has counted lately.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct Activity {
    /// The number of the tick, set by user space on every CPU.
    pub tick: u32,
    /// The tick in which a block was last taken.
    pub blocks: u32,
    /// The tick in which something was last counted in a slot of each group.
    pub groups: [u32; GROUPS],
    /// Zero.
    pub reserved: [u32; 13],
}

const _: () = assert!(size_of::<Activity>() == 320);

/// How often something was counted in one window: the number of the window in the upper 32 bits, the count
/// in the lower ones, so that both change by one store. A window is [`Config::window_jiffies`] long, and its
/// number is `jiffies_64` divided by that, in its lower 32 bits.
pub type Bucket = u64;

/// What one CPU has counted lately in one namespace by one program, by windows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct Windows {
    /// When the window that was written last began, in jiffies.
    pub start: u64,
    /// Its number.
    pub number: u32,
    /// Zero.
    pub reserved: u32,
    /// The window with the number `n` at `n % WINDOWS`.
    pub buckets: [Bucket; WINDOWS],
}

const _: () = assert!(size_of::<Windows>() == 528);

/// The windows of one namespace on one CPU; one program writes each.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct NetnsWindows {
    /// Inserts by a packet.
    pub inserts: Windows,
    /// Deletes.
    pub deletes: Windows,
    /// Zero.
    pub reserved: [u64; 4],
}

const _: () = assert!(size_of::<NetnsWindows>() == 1088);

/// What the kernel's clocks showed at one moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct Clock {
    /// `jiffies_64`
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub monotonic_ns: u64,
}

/// A live entry that is read again. User space fills in the first three members, the program the others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct Reread {
    /// [`FlowEvent::entry`]; 0: the list ends here.
    pub entry: u64,
    /// [`FlowEvent::netns_cookie`]
    pub netns_cookie: u64,
    /// [`FlowEvent::sample_hash`]
    pub hash: u32,
    /// Outcome, one of [`reread`]. All fields below are zero unless the entry was found.
    pub found: u8,
    /// `enum tcp_conntrack` (include/uapi/linux/netfilter/nf_conntrack_tcp.h), of a TCP entry.
    pub tcp_state: u8,
    /// Zero.
    pub reserved: u16,
    /// `nf_conn.status`
    pub status: u32,
    /// Jiffies until it expires; not positive: it has.
    pub expires: i32,
}

const _: () = assert!(size_of::<Reread>() == 32);

/// Values of [`Reread::found`].
pub mod reread {
    /// The entry is there no more.
    pub const GONE: u8 = 0;
    /// The entry is there.
    pub const FOUND: u8 = 1;
    /// Nothing is said: its namespace has no slot, it is not confirmed yet, or too many places were none of an entry lately.
    pub const REFUSED: u8 = 2;
}

/// Places that may be no entry's in one second: twice as many as are read again. Whoever guesses addresses and hashes gets
/// no further.
pub const MISSES_PER_SECOND: u32 = 2 * REREADS;

/// Misses of [`Reread`]. User space has no descriptor of its map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misses {
    /// The second of `CLOCK_MONOTONIC` in which they are counted.
    pub second: u64,
    /// Places in it that were no entry's.
    pub misses: u32,
    /// Zero.
    pub reserved: u32,
    /// Places of which nothing was said because there were too many misses, since the start.
    pub refused: u64,
}

impl Misses {
    /// Counts one place in `second`, which is no entry's where `is_miss`. Whether something may be said of it.
    #[must_use]
    #[inline(always)]
    pub const fn admit(&mut self, second: u64, is_miss: bool) -> bool {
        if self.second != second {
            self.second = second;
            self.misses = 0;
        }
        if self.misses >= MISSES_PER_SECOND {
            self.refused += 1;
            return false;
        }
        self.misses += is_miss as u32;
        true
    }
}

/// A network namespace on the kernel's own list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct ListedNetns {
    /// `net->net_cookie`, or the address of `struct net` where cookies are made on demand.
    pub cookie: u64,
    /// `net->ns.inum`
    pub inode: u32,
    /// Kind of the element: see [`listed`].
    pub state: u32,
    /// Entries in its table; negative: not known.
    pub entries: i32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<ListedNetns>() == 24);

/// Values of [`ListedNetns::state`].
pub mod listed {
    /// In the first element before a call: the list is to be read from its beginning.
    pub const BEGIN: u32 = 0;
    /// In the first element before a call: the list is to be read on.
    pub const CONTINUE: u32 = 1;
    /// A namespace.
    pub const NETNS: u32 = 2;
    /// The head of the list, which is to be passed over.
    pub const HEAD: u32 = 3;
    /// The list ends here.
    pub const END: u32 = 4;
    /// The place in the list was lost: it is to be read from its beginning.
    pub const LOST: u32 = 5;
}

/// What the loader tells the programs, frozen before they are loaded: the verifier takes every
/// field for a constant, so an offset costs no look-up and a switch that is off costs nothing.
///
/// Offsets are in bytes from the start of the kernel structure in the field's name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(Immutable, IntoBytes))]
pub struct Config {
    /// Address of the function `early_drop`; with kprobes only, as the next three.
    pub early_drop: u64,
    /// Bytes of it.
    pub early_drop_len: u64,
    /// Address of the function `nf_conntrack_hash_check_insert`.
    pub hash_check_insert: u64,
    /// Bytes of it.
    pub hash_check_insert_len: u64,
    /// What [`FlowHash`] begins with: random.
    pub sample_seed: u64,
    /// Address of the module's variable of that name; 0: not known.
    pub nf_conntrack_net_id: u64,
    /// `nf_conn.tuplehash[IP_CT_DIR_ORIGINAL].tuple`
    pub nf_conn_original: u32,
    /// `nf_conn.tuplehash[IP_CT_DIR_REPLY].tuple`
    pub nf_conn_reply: u32,
    /// `nf_conn.tuplehash[IP_CT_DIR_REPLY].hnnode.pprev`
    pub nf_conn_reply_pprev: u32,
    /// `nf_conn.status`
    pub nf_conn_status: u32,
    /// `nf_conn.timeout`, in the lower 32 bits of jiffies
    pub nf_conn_timeout: u32,
    /// `nf_conn.ct_net.net`
    pub nf_conn_net: u32,
    /// `nf_conn.zone.id`, or [`ABSENT`] without `CONFIG_NF_CONNTRACK_ZONES`.
    pub nf_conn_zone: u32,
    /// `nf_conntrack_zone.id`
    pub zone_id: u32,
    /// `nf_conn.proto.tcp.state`
    pub nf_conn_tcp_state: u32,
    /// `sk_buff._nfct`
    pub skb_nfct: u32,
    /// `net.net_cookie`
    pub net_cookie: u32,
    /// `net.ns.inum`
    pub net_inode: u32,
    /// The count of references that is 0 once the namespace is being torn down: `net.ns.__ns_ref`,
    /// `net.ns.count` or `net.count`.
    pub net_references: u32,
    /// `net.list`, or [`ABSENT`] where the list of namespaces cannot be read.
    pub net_list: u32,
    /// `net.ns.ops`
    pub net_ns_ops: u32,
    /// `net.gen`
    pub net_gen: u32,
    /// `net.ct.count`, or [`ABSENT`] from 5.13 on.
    pub net_ct_count: u32,
    /// `nf_conntrack_net.count`, or [`ABSENT`] before.
    pub nf_conntrack_net_count: u32,
    /// `task_struct.nsproxy`
    pub task_nsproxy: u32,
    /// `nsproxy.net_ns`
    pub nsproxy_net: u32,
    /// 1: cookies are made on demand, so the address of `struct net` takes their place.
    pub cookie_is_address: u32,
    /// Possible CPUs: one more than the highest CPU number.
    pub cpus: u32,
    /// Copies attached of each program that has some, at most [`COPIES`]: as many as can be running at once
    /// on a CPU. See docs/exactness.md.
    pub copies: u32,
    /// 1: inserts or deletes are counted on return of the functions that call the inlined ones, by programs with copies.
    pub is_shared: u32,
    /// Copies of the programs that count by windows.
    pub window_copies: u32,
    /// 1: the tuples of victims are sent.
    pub victims: u32,
    /// 1: each insert and destroy also goes through the ring buffer.
    pub events: u32,
    /// Ring buffers in use: a power of two, at most [`RINGS`].
    pub rings: u32,
    /// Bytes waiting in a ring above which its reader is woken up at once.
    pub ring_wakeup: u32,
    /// Length of a window; 0: nothing is counted by windows.
    pub window_jiffies: u32,
    /// 1: rare paths write to the log of aya-log.
    pub debug_log: u32,
    /// Zero.
    pub padding: u32,
    /// Only for the tests of the drift: of every so many frees the last is left out. 0: none.
    #[cfg(feature = "fault-injection")]
    pub fault_skip_frees: u32,
    /// Only for the tests of entries in flight: of so many inserts by packets one is left out, at random. 0: none.
    #[cfg(feature = "fault-injection")]
    pub fault_skip_inserts: u32,
    /// Only for the tests of entries in flight: of so many deletes one is left out, at random. 0: none.
    #[cfg(feature = "fault-injection")]
    pub fault_skip_deletes: u32,
    /// Zero.
    pub reserved: [u32; if cfg!(feature = "fault-injection") { 1 } else { 0 }],
}

const _: () = assert!(size_of::<Config>().is_multiple_of(8));

/// `IPS_SEEN_REPLY`: packets have been seen in both directions.
pub const IPS_SEEN_REPLY: u32 = 1 << 1;
/// `IPS_CONFIRMED`: it is in the table, or about to be.
pub const IPS_CONFIRMED: u32 = 1 << 3;
/// `IPS_ASSURED`: never evicted early.
pub const IPS_ASSURED: u32 = 1 << 2;
/// `IPS_DYING`: being deleted.
pub const IPS_DYING: u32 = 1 << 9;
/// `IPS_OFFLOAD`: in a flow table.
pub const IPS_OFFLOAD: u32 = 1 << 14;
/// `IPS_HW_OFFLOAD`: in a flow table of the network card.
pub const IPS_HW_OFFLOAD: u32 = 1 << 15;
