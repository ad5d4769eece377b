//! What the kernel programs and user space agree on: the layout of every map value, of the
//! read-only configuration and of the records in the ring buffer.
//!
//! All fields are plain integers in the byte order of the machine unless a field says otherwise.
//! User space turns them into enums with `TryFrom`; nothing here is trusted to be in range.

#![no_std]

use core::mem::{offset_of, size_of};

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Network namespaces counted apart at the same time. Slot 0 is not one of them: see
/// [`OVERFLOW_SLOT`].
pub const MAX_NETNS: u32 = 1024;

/// The slot in which namespaces beyond [`MAX_NETNS`] are counted together.
pub const OVERFLOW_SLOT: u32 = 0;

/// Slots of [`Counters`] per CPU: the namespaces and the overflow slot.
pub const SLOTS: u32 = MAX_NETNS + 1;

/// An offset in [`Config`] whose member the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Copies of each program that runs where it can be interrupted or pre-empted: see
/// docs/exactness.md. What is missed is missed by all of them at once.
pub const COPIES: usize = 3;

/// What one CPU has counted in one namespace since the programs were attached.
///
/// Each number has one writer, one program or one copy of it, which never runs inside itself on the
/// same CPU (`__bpf_prog_enter_recur`, kernel/bpf/trampoline.c): a plain increment loses nothing.
/// The first cache line is what every flow touches.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct Counters {
    /// Entries allocated: `__nf_conntrack_alloc` returned one. By copy.
    pub allocs: [u64; COPIES],
    /// Entries freed, hashed before or not: `nf_conntrack_free`. By copy.
    pub frees: [u64; COPIES],
    /// Entries hashed by a packet: `__nf_conntrack_insert_prepare`.
    pub inserts_packet: u64,
    /// Entries taken out of the hash: `__nf_ct_delete_from_lists`.
    pub deletes: u64,
    /// Allocations refused: table full and nothing to evict, or no memory. By copy.
    pub allocs_failed: [u64; COPIES],
    /// `early_drop` found nothing to evict: the packet is dropped because the table is full. By copy.
    pub table_full: [u64; COPIES],
    /// Entries hashed through ctnetlink or a BPF kfunc: `nf_conntrack_hash_check_insert`. By copy.
    pub inserts_ctnetlink: [u64; COPIES],
    /// Events of `inserts_ctnetlink` that found the ring full. By copy.
    pub lost_inserts_ctnetlink: [u64; COPIES],
    /// Deletes inside `early_drop` that made room for a new entry; part of `deletes`.
    pub evictions: u64,
    /// Events of `inserts_packet` that found the ring full.
    pub lost_inserts_packet: u64,
    /// Events of `deletes` that found the ring full.
    pub lost_deletes: u64,
    /// Frees left out on purpose: see [`Config::fault_skip_frees`].
    pub frees_skipped: u64,
}

const _: () = assert!(size_of::<Counters>() == 192, "Counters is three cache lines");

/// Which namespace a slot of [`Counters`] belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes))]
pub struct Netns {
    /// `net->net_cookie`: unique while the machine is up. 0: the slot is free.
    pub cookie: u64,
    /// `net->ns.inum`: what `/proc/PID/ns/net` shows. Reused as soon as the namespace is gone.
    pub inode: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Netns>() == 16);

/// What the loader tells the programs, frozen before they are loaded: the verifier takes every
/// field for a constant, so an offset costs no look-up and a switch that is off costs nothing.
///
/// Offsets are in bytes from the start of the kernel structure in the field's name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(Immutable, IntoBytes))]
pub struct Config {
    /// `nf_conn.tuplehash[IP_CT_DIR_ORIGINAL].tuple`
    pub nf_conn_original: u32,
    /// `nf_conn.tuplehash[IP_CT_DIR_REPLY].tuple`
    pub nf_conn_reply: u32,
    /// `nf_conn.status`
    pub nf_conn_status: u32,
    /// `nf_conn.timeout`, in the lower 32 bits of jiffies
    pub nf_conn_timeout: u32,
    /// `nf_conn.ct_net.net`
    pub nf_conn_net: u32,
    /// `nf_conn.zone.id`, or [`ABSENT`] without `CONFIG_NF_CONNTRACK_ZONES`.
    pub nf_conn_zone: u32,
    /// `net.net_cookie`
    pub net_cookie: u32,
    /// `net.ns.inum`
    pub net_inode: u32,
    /// Possible CPUs: one more than the highest CPU number.
    pub cpus: u32,
    /// 1: each insert and destroy also goes through the ring buffer.
    pub events: u32,
    /// Bytes waiting in the ring above which its reader is woken up at once.
    pub ring_wakeup: u32,
    /// 1: rare paths write to the log of aya-log.
    pub debug_log: u32,
    /// Only for the tests of the drift: of every so many frees the last is left out. 0: none.
    pub fault_skip_frees: u32,
}

const _: () = assert!(size_of::<Config>() == 52);

/// `struct nf_conntrack_tuple` (include/net/netfilter/nf_conntrack_tuple.h), the same on all kernels
/// from 5.10 to 7.3; the loader refuses a kernel on which it is not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, Immutable, KnownLayout))]
pub struct Tuple {
    /// Source address; IPv4 in the first four bytes. Network byte order.
    pub source: [u8; 16],
    /// Source port, ICMP id or GRE key. Network byte order.
    pub source_port: [u8; 2],
    /// `AF_INET` or `AF_INET6`.
    pub family: u16,
    /// Destination address, as `source`.
    pub destination: [u8; 16],
    /// Destination port, GRE key, or ICMP type and code. Network byte order.
    pub destination_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// `IP_CT_DIR_ORIGINAL` (0) or `IP_CT_DIR_REPLY` (1).
    pub direction: u8,
}

const _: () = assert!(size_of::<Tuple>() == 40);

/// [`FlowEvent::kind`]: the entry was hashed by a packet.
pub const EVENT_INSERT_PACKET: u8 = 1;
/// [`FlowEvent::kind`]: the entry was hashed through ctnetlink or a BPF kfunc.
pub const EVENT_INSERT_CTNETLINK: u8 = 2;
/// [`FlowEvent::kind`]: the entry was taken out of the hash.
pub const EVENT_DESTROY: u8 = 3;

/// One record of the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, Immutable, KnownLayout))]
pub struct FlowEvent {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// `net->net_cookie` of the entry's namespace.
    pub netns_cookie: u64,
    /// The tuple of the first packet.
    pub original: Tuple,
    /// The tuple of the answers, final once the entry is hashed (after NAT).
    pub reply: Tuple,
    /// `nf_conn.status`: `IPS_*` bits (include/uapi/linux/netfilter/nf_conntrack_common.h).
    pub status: u32,
    /// Flows whose hash is below this are in the sample; `u32::MAX`: all are.
    pub sample_threshold: u32,
    /// Zone id; 0 is the default zone.
    pub zone: u16,
    /// `EVENT_*`
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

const _: () = assert!(size_of::<FlowEvent>() == 112);
const _: () = assert!(offset_of!(FlowEvent, original) == 16);
const _: () = assert!(offset_of!(FlowEvent, reply) == 56);

/// `IPS_SEEN_REPLY`: packets have been seen in both directions.
pub const IPS_SEEN_REPLY: u32 = 1 << 1;
/// `IPS_ASSURED`: never evicted early.
pub const IPS_ASSURED: u32 = 1 << 2;
